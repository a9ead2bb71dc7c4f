"""One look at all nodes: CouchDB → ClusterView. What does not answer is a value, not an error."""

import hashlib
import secrets
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace

from couchdiscover.couch.client import CouchFailure, CouchNode, ErrorAnswer, Fleet, NoAnswer
from couchdiscover.couch.connectivity import likeliest_cause
from couchdiscover.decide.identity import needs_uptime
from couchdiscover.decide.membership import groups
from couchdiscover.net.deadline import Deadline
from couchdiscover.net.workers import for_each
from couchdiscover.state.nodes import (
    DEFAULT_DATABASES,
    SYSTEM_DATABASES,
    ClusterView,
    Holdings,
    Identity,
    LoginRefused,
    NodeView,
    Sight,
    Unreachable,
)
from couchdiscover.state.steps import Step, StepKind
from couchdiscover.state.topology import Credentials, Pod, Scope, Topology

_SALT = secrets.token_bytes(16)

LOGIN_TRIES = 3
"""Wrong logins at one node in one run; CouchDB locks the account at the fifth (since 3.4)."""

LOGIN_PAUSE = 1.0
"""Seconds between them: a node on its first boot refuses the right password for a moment."""

SEVERED_SECONDS = 2.0
"""Seconds after which a member that is not connected is looked into."""

LEARNING_SECONDS = 2.0
"""Seconds within which members learn of each other by replication: as a rule it takes 0.1 to 0.2.

It may also never happen. A node hands news on to the members that it knows of at that moment, and
of several that join at once it may not know one yet (src/mem3/src/mem3_sync_event_listener.erl,
mem3_nodes.erl). And where a member's document was deleted, after a scale-down, a pod that comes
back under this name is unknown to those that remember the deletion."""


@dataclass(slots=True)
class _Watch:
    """What is remembered of one pod between two looks."""

    wrong_logins: int = 0
    ask_again_at: float = 0.0
    refused: LoginRefused | None = None
    apart_since: float | None = None
    severed: str | None = None
    unlisted: Mapping[str, float] = field(default_factory=dict)
    """Fellow members that it does not list, and since when."""


@dataclass(slots=True)
class Observer:
    """Looks at the nodes, again and again."""

    fleet: Fleet
    deadline: Deadline
    scope: Scope
    databases: tuple[str, ...] = DEFAULT_DATABASES
    foresees: bool = False
    only_looks: bool = False
    _watches: dict[str, _Watch] = field(default_factory=dict)
    _last: ClusterView | None = None
    _veterans: frozenset[str] = frozenset()
    _joined: dict[str, str] = field(default_factory=dict)
    _newcomers: set[str] = field(default_factory=set)
    _finished_here: bool = False

    def note(self, step: Step) -> None:
        """Remembers what this run did itself: newcomers have no vote on the cluster's identity."""
        if step.kind is StepKind.FINISH_CLUSTER:
            self._finished_here = True
        known = self._last.sight(step.pod) if self._last else None
        if (
            step.kind is StepKind.ADD_NODE
            and isinstance(known, NodeView)
            and step.name not in known.overdue  # it is in, and only told of another member
        ):
            self._joined[step.pod] = known.name
            if self._veterans and known.name not in self._veterans:
                self._newcomers.add(step.pod)

    def look(self, topology: Topology, *, quick: bool = False) -> ClusterView:
        """Looks at every expected node at once.

        In scope ``pod`` the own node first: while it does not answer, nobody else is asked.
        ``quick`` asks the nodes that answered last time for their membership alone: between the
        joins and finishing nothing else changes.
        """
        pods = list(topology.expected)
        sights: dict[str, Sight] = {}
        if self.scope is Scope.POD:
            own = next(pod for pod in pods if pod.name == topology.own)
            pods.remove(own)
            sights |= self._ask([own], quick=quick, tries=LOGIN_TRIES)
            seen = sights[own.name]
            if not isinstance(seen, NodeView):
                view = ClusterView((seen,))
                self._last = view
                return view
            is_in = seen.finished or not seen.alone
            sights |= self._ask(pods, quick=quick, tries=1 if is_in else LOGIN_TRIES)
        else:
            sights |= self._ask(pods, quick=quick, tries=LOGIN_TRIES)
        view = ClusterView(tuple(sights[pod.name] for pod in topology.expected))
        view = self._deepen(topology, view)
        self._last = view
        return view

    # --- the first questions, to every node ---

    def _ask(self, pods: list[Pod], *, quick: bool, tries: int) -> dict[str, Sight]:
        if self.deadline.seconds == 0:
            tries = 1
        known = self._known()
        sights = for_each(
            pods,
            lambda pod: self._sight(pod, known.get(pod.name), quick=quick, tries=tries),
            self.fleet.patience,
        )
        asked: dict[str, Sight] = {}
        for pod, sight in zip(pods, sights, strict=True):
            if sight is None:
                self.fleet.forget(pod.name)  # a thread is still busy with them
            asked[pod.name] = sight or Unreachable(pod.name, "to answer; it did not in time")
        return asked

    def _known(self) -> Mapping[str, NodeView]:
        return {node.pod: node for node in self._last.nodes} if self._last else {}

    def _sight(self, pod: Pod, known: NodeView | None, *, quick: bool, tries: int) -> Sight:
        watch = self._watches.setdefault(pod.name, _Watch())
        if watch.refused is not None:
            return watch.refused
        if time.monotonic() < watch.ask_again_at:
            return Unreachable(pod.name, "to accept the credentials; it answered 401")
        reason = "to be given an address by Kubernetes"
        for address in pod.addresses:
            node = self.fleet.node(pod, address)
            try:
                return self._interview(
                    node, pod, known if known and known.address == address else None, quick=quick
                )
            except NoAnswer as failure:
                reason = f"to answer at {address}: {failure}"
                if not failure.nobody:
                    return Unreachable(pod.name, reason, address)
            except ErrorAnswer as failure:
                if failure.status in (401, 403):
                    return self._login_failed(pod, watch, node, failure, tries)
                return Unreachable(pod.name, f"to answer at {address}: {failure}", address)
        return Unreachable(pod.name, reason, pod.addresses[0] if pod.addresses else None)

    def _interview(
        self, node: CouchNode, pod: Pod, known: NodeView | None, *, quick: bool
    ) -> NodeView:
        name = known.name if known else node.local_name()
        if known and quick:
            connected, members = node.membership()
            return replace(
                known,
                all_nodes=connected,
                cluster_nodes=members,
                severed=None,
                overdue=frozenset(),
            )
        state = node.setup_state(self.databases)
        unreadable: tuple[str, ...] = ()
        extra = set(self.databases) - set(DEFAULT_DATABASES)
        view = NodeView(pod.name, node.address, name, state, frozenset(), frozenset())
        if extra and not view.finished:
            view = replace(view, state=node.setup_state())
            if view.finished:
                existing = node.databases()
                unreadable = tuple(sorted(extra - existing)) or tuple(sorted(extra))
        connected, members = node.membership()
        view = replace(
            view,
            all_nodes=connected,
            cluster_nodes=members,
            version=node.version,
            unreadable=unreadable,
        )
        if view.alone:
            view = replace(view, holdings=_holdings(node))
        if self._compares(view):
            view = replace(view, identity=_identity(node, self.fleet.access.credentials))
        return view

    def _compares(self, view: NodeView) -> bool:
        """Whether its identity matters: where this run has finished the cluster, all are equal."""
        if self.foresees or view.alone:
            return self.foresees  # what a plan tells depends on it, before the node has joined
        return view.finished and (bool(self._veterans) or not self._finished_here)

    def _login_failed(
        self, pod: Pod, watch: _Watch, node: CouchNode, failure: ErrorAnswer, tries: int
    ) -> Sight:
        credentials = self.fleet.access.credentials
        locked = failure.status == 403
        watch.wrong_logins += 1
        watch.ask_again_at = time.monotonic() + LOGIN_PAUSE
        if watch.wrong_logins < tries and not locked:
            return Unreachable(pod.name, f"to accept the credentials; {failure}", node.address)
        remedy = "correct user or password" + (", and wait 300 s first" if locked else "")
        watch.refused = LoginRefused(
            pod.name,
            f"{pod.name} at {node.address} refused the user {credentials.user!r} "
            f"(from {credentials.source}): {str(failure).rstrip('.')}; {remedy}",
            node.address,
        )
        return watch.refused

    # --- further questions, where the first answers ask for them ---

    def _deepen(self, topology: Topology, view: ClusterView) -> ClusterView:
        if not self._finished_here:
            finished = (group.names for group in groups(view) if group.finished)
            self._veterans = self._veterans.union(*finished) - set(self._joined.values())
        view = replace(
            view,
            veterans=self._veterans,
            joined=frozenset(self._joined),
            newcomers=frozenset(self._newcomers),
        )
        more: dict[str, NodeView] = {}
        if any(node.alone and node.holdings and node.holdings.databases for node in view.nodes):
            more |= self._each(
                topology,
                [node for node in view.nodes if node.holdings is None],
                lambda client, node: replace(node, holdings=_holdings(client)),
            )
        view = _with(view, more)
        leaders = [
            group.coordinator
            for group in groups(view)
            if len(group.names) > 1 and not group.finished
        ]
        credentials = self.fleet.access.credentials
        view = _with(
            view,
            self._each(
                topology,
                [node for node in leaders if node.identity is None],
                lambda client, node: replace(node, identity=_identity(client, credentials)),
            ),
        )
        view = _with(view, self._given_uuid(topology, view))
        if view.veterans and needs_uptime(view.nodes, view.veterans):
            voters = [node for node in view.nodes if node.name in view.veterans]
            view = _with(
                view,
                self._each(
                    topology,
                    voters,
                    lambda client, node: replace(node, uptime=client.uptime()),
                ),
            )
        return self._diagnosed(self._reminded(view))

    def _given_uuid(self, topology: Topology, view: ClusterView) -> dict[str, NodeView]:
        """Has one node make a uuid where all have lost theirs, as after a rolling restart.

        A node of the official image makes one at its first ``GET /``: asked one after the other by
        anybody, each would make another.
        """
        credentials = self.fleet.access.credentials
        compared = [node for node in view.nodes if node.identity and node.name in view.veterans]
        if self.only_looks or any(node.identity and node.identity.uuid for node in compared):
            return {}

        def welcome(client: CouchNode, node: NodeView) -> NodeView:
            client.welcome()
            return replace(node, identity=_identity(client, credentials))

        return self._each(topology, compared[:1], welcome)

    def _each(
        self,
        topology: Topology,
        nodes: list[NodeView],
        question: Callable[[CouchNode, NodeView], NodeView],
    ) -> dict[str, NodeView]:
        """Asks some nodes one more thing; one that does not answer stays as it was seen."""

        def ask(node: NodeView) -> NodeView:
            pod = topology.pod(node.pod)
            if pod is None:
                return node
            try:
                return question(self.fleet.node(pod, node.address), node)
            except CouchFailure:
                return node

        answers = for_each(nodes, ask, self.fleet.patience) if nodes else []
        return {node.pod: node for node in answers if node is not None}

    def _reminded(self, view: ClusterView) -> ClusterView:
        """Tells, of members that do not learn of another one, of which."""
        now = time.monotonic()
        late: dict[str, NodeView] = {}
        for group in groups(view):
            answering = frozenset(node.name for node in group.nodes)
            lists = {node.cluster_nodes for node in group.nodes}  # few, where the nodes agree
            missing = {names: answering - names for names in lists}
            for node in group.nodes:
                watch = self._watches.setdefault(node.pod, _Watch())
                before = watch.unlisted
                watch.unlisted = {
                    name: before.get(name, now)
                    for name in missing[node.cluster_nodes]
                    if name != node.name  # where its own document was deleted: the others tell it
                }
                overdue = frozenset(
                    name
                    for name, since in watch.unlisted.items()
                    if now - since >= LEARNING_SECONDS
                )
                if overdue:
                    late[node.pod] = replace(node, overdue=overdue)
        return _with(view, late)

    def _diagnosed(self, view: ClusterView) -> ClusterView:
        """Tells, of members that stay unconnected, why."""
        answering = {node.name: node for node in view.nodes}
        apart = {
            name
            for members, connected in {(n.cluster_nodes, n.all_nodes) for n in view.nodes}
            for name in (members - connected) & answering.keys()
        }
        for name, node in answering.items():
            watch = self._watches.setdefault(node.pod, _Watch())
            if name not in apart:
                watch.apart_since = watch.severed = None
            elif watch.apart_since is None:
                watch.apart_since = time.monotonic()
        self._look_into([answering[name] for name in apart])
        return _with(
            view,
            {
                answering[name].pod: replace(
                    answering[name], severed=self._watches[answering[name].pod].severed
                )
                for name in apart
            },
        )

    def _look_into(self, apart: list[NodeView]) -> None:
        """Finds the cause for those that have been unconnected for a while, once."""
        if self.fleet.access.door is not None:
            return  # behind the API server's proxy neither names nor ports can be tried
        now = time.monotonic()
        unexplained = []
        for node in apart:
            watch = self._watches[node.pod]
            since = watch.apart_since or now
            if watch.severed is None and now - since >= SEVERED_SECONDS:
                unexplained.append(node)
        seconds = self.deadline.cap(2.0)
        causes = for_each(
            unexplained,
            lambda node: likeliest_cause(node.name, node.address, seconds),
            self.fleet.patience,
        )
        for node, cause in zip(unexplained, causes, strict=True):
            self._watches[node.pod].severed = cause or "its name is not resolved in time"


def _with(view: ClusterView, nodes: Mapping[str, NodeView]) -> ClusterView:
    """The view with some nodes seen anew."""
    if not nodes:
        return view
    return replace(view, sights=tuple(nodes.get(sight.pod, sight) for sight in view.sights))


def _holdings(node: CouchNode) -> Holdings:
    databases = node.databases()
    filled = {name for name in databases & SYSTEM_DATABASES if _filled(node, name)}
    return Holdings(databases, (databases - SYSTEM_DATABASES) | filled)


def _filled(node: CouchNode, database: str) -> bool:
    try:
        return node.holds_documents(database)
    except ErrorAnswer as failure:
        return failure.status != 404  # what cannot be read may hold anything


def _identity(node: CouchNode, credentials: Credentials) -> Identity:
    config = node.config()
    return Identity(
        admin=_fingerprint(config.get("admins", {}).get(credentials.user)),
        uuid=_fingerprint(config.get("couchdb", {}).get("uuid")),
        secret=_fingerprint(config.get("chttpd_auth", {}).get("secret")),
    )


def _fingerprint(value: str | None) -> str | None:
    """Tells two values apart, in this process only: it is salted, and nothing can be guessed."""
    if not value:
        return None
    return hashlib.blake2s(str(value).encode(), key=_SALT, digest_size=8).hexdigest()
