"""One look at all nodes: CouchDB → ClusterView. What does not answer is a value, not an error."""

import re
import time
from dataclasses import dataclass, replace

from couchdiscover.couch.asking import Asker
from couchdiscover.couch.client import CouchNode, ErrorAnswer, NoAnswer
from couchdiscover.couch.connectivity import likeliest_cause, template_cause
from couchdiscover.couch.evidence import with_volumes
from couchdiscover.couch.identities import with_config, with_identities, with_leaders
from couchdiscover.couch.memory import Watch
from couchdiscover.couch.volumes import read_holdings
from couchdiscover.decide.membership import Membership, host_of
from couchdiscover.net.workers import for_each
from couchdiscover.state.nodes import (
    DEFAULT_DATABASES,
    ClusterView,
    LoginRefused,
    NodeView,
    Sight,
    TooOld,
    Unreachable,
)
from couchdiscover.state.reasons import AnotherPodsAddress, NoAddress, NotLoggedIn, Silent
from couchdiscover.state.topology import Pod, Scope, Topology

LOGIN_TRIES = 3
"""Wrong logins at one node in one run; CouchDB locks the account at the fifth (since 3.4)."""

LOGIN_PAUSE = 1.0
"""Seconds between them: a node on its first boot refuses the right password for a moment."""

SERVICE_NAME = re.compile(r"([^.]+)\.[^.]+\.([^.]+)\.svc(?:\..+)?")
"""The name that a headless Service gives a pod: pod, Service, namespace, and the cluster's domain
(Kubernetes documentation, "DNS for Services and Pods")."""

LOCKOUT_SECONDS = 300.0
"""Seconds within which CouchDB counts wrong logins ([chttpd_auth_lockout], since 3.4)."""

OLDEST = (3, 3)
"""The oldest CouchDB that is supported."""

APART_SECONDS = 2.0
"""Seconds after which a member that is not connected is looked into."""

LEARNING_SECONDS = 2.0
"""Seconds within which members learn of each other by replication: as a rule it takes 0.1 to 0.2.

It may also never happen. A node hands news on to the members that it knows of at that moment, and
of several that join at once it may not know one yet (src/mem3/src/mem3_sync_event_listener.erl,
mem3_nodes.erl). And where a member's document was deleted, after a scale-down, a pod that comes
back under this name is unknown to those that remember the deletion."""


@dataclass(slots=True)
class Observer(Asker):
    """Looks at the nodes, again and again."""

    def look(self, topology: Topology, *, quick: bool = False) -> ClusterView:
        """Looks at every expected node at once.

        In scope ``pod`` the own node first: while it does not answer, nobody else is asked.
        ``quick`` asks the nodes that answered last time for their membership alone: between the
        joins and finishing nothing else changes.
        """
        pods = list(topology.expected)
        sights: dict[str, Sight] = {}
        if self.scope is Scope.POD and topology.own is not None:
            own = [pod for pod in pods if pod.name == topology.own]
            sights |= self._ask(topology, own, quick=quick, tries=LOGIN_TRIES)
            seen = sights[topology.own]
            if not isinstance(seen, NodeView):
                view = ClusterView((seen,))
                self.memory.last = view
                return view
            is_in = seen.finished or not seen.alone
            others = [pod for pod in pods if pod.name != topology.own]
            sights |= self._ask(topology, others, quick=quick, tries=1 if is_in else LOGIN_TRIES)
        else:
            sights |= self._ask(topology, pods, quick=quick, tries=LOGIN_TRIES)
        view = ClusterView(tuple(sights[pod.name] for pod in topology.expected))
        view = self._deepen(topology, _recognised(topology, view), quick=quick)
        self.memory.last = view
        return view

    # --- the first questions, to every node ---

    def _ask(
        self, topology: Topology, pods: list[Pod], *, quick: bool, tries: int
    ) -> dict[str, Sight]:
        if self.deadline.seconds == 0:
            tries = 1
        sights = for_each(
            pods,
            lambda pod: self._sight(topology, pod, quick=quick, tries=tries),
            self.fleet.patience,
        )
        asked: dict[str, Sight] = {}
        for pod, sight in zip(pods, sights, strict=True):
            if sight is None:
                self.fleet.forget(pod.name)  # a thread is still busy with them
            asked[pod.name] = sight or Unreachable(pod.name, Silent(None, "it did not in time"))
        return asked

    def _sight(self, topology: Topology, pod: Pod, *, quick: bool, tries: int) -> Sight:
        watch = self.memory.watch(pod.name)
        if watch.refused is not None:
            if watch.refused.address in pod.addresses:
                return watch.refused
            watch.refused, watch.wrong_logins = None, []  # it was another's, at a stale address
        if time.monotonic() < watch.ask_again_at:
            return Unreachable(pod.name, NotLoggedIn(watch.refusal))
        known = self.memory.known(pod.name)
        seen: Sight = Unreachable(pod.name, NoAddress(topology.absent_because(pod.name)))
        for address in pod.addresses:
            node = self.fleet.node(pod, address)
            try:
                view = self._interview(
                    node, pod, known if known and known.address == address else None, quick=quick
                )
            except NoAnswer as failure:
                seen = Unreachable(pod.name, Silent(address, str(failure)), address)
            except ErrorAnswer as failure:
                if _is_too_old(node):
                    return TooOld(pod.name, node.version or "", address)
                if failure.status in (401, 403):
                    return self._login_failed(topology, pod, watch, node, failure, tries)
                return Unreachable(pod.name, Silent(address, str(failure)), address)
            else:
                if _is_too_old(node):
                    return TooOld(pod.name, node.version or "", address)
                if not _is_another(topology, pod, view):
                    return view
                seen = view
        return seen

    def _interview(
        self, node: CouchNode, pod: Pod, known: NodeView | None, *, quick: bool
    ) -> NodeView:
        if known and quick:
            connected, members = node.membership()
            if known.name not in connected:  # here is another node by now, or it was renamed
                return self._interview(node, pod, None, quick=False)
            return replace(
                known,
                all_nodes=connected,
                cluster_nodes=members,
                unconnected_because=None,
                overdue=frozenset(),
            )
        state = node.setup_state(self.databases)
        unreadable: tuple[str, ...] = ()
        databases: frozenset[str] | None = None
        extra = set(self.databases) - set(DEFAULT_DATABASES)
        if extra and not state.finished:
            state = node.setup_state()
            if state.finished:
                databases = node.databases()
                unreadable = tuple(sorted(extra - databases)) or tuple(sorted(extra))
        connected, members = node.membership()
        name = known.name if known else _own_name(node, connected)
        if name not in connected:
            if known is None:
                raise NoAnswer(f"it is {name} no more: it has just been started anew")
            return self._interview(node, pod, None, quick=False)
        view = NodeView(
            pod.name,
            node.address,
            name,
            state,
            connected,
            members,
            version=node.version,
            databases=databases,
            unreadable=unreadable,
        )
        if view.alone:  # each time: a database may be made on it at any moment
            view = replace(view, volume=read_holdings(node))
        if self._compares(view):
            view = self._with_config(node, view)
        return view

    def _with_config(self, node: CouchNode, view: NodeView) -> NodeView:
        """The node with its configuration, if it tells: without it its identity is not known."""
        try:
            return with_config(self, node, view)
        except ErrorAnswer as failure:
            if failure.status in (401, 403):
                raise
            return view

    def _compares(self, view: NodeView) -> bool:
        """Whether its identity matters: where this run has finished the cluster, all are equal."""
        if self.foresees or view.alone:
            return self.foresees  # what a plan tells depends on it, before the node has joined
        return view.finished

    # --- logins ---

    def _login_failed(
        self,
        topology: Topology,
        pod: Pod,
        watch: Watch,
        node: CouchNode,
        failure: ErrorAnswer,
        tries: int,
    ) -> Sight:
        now = time.monotonic()
        locked = failure.status == 403
        watch.wrong_logins = [at for at in watch.wrong_logins if now - at < LOCKOUT_SECONDS]
        watch.wrong_logins.append(now)
        watch.ask_again_at = now + LOGIN_PAUSE
        self.memory.logins_refused += 1
        watch.refusal = str(failure).rstrip(".")
        waiting = Unreachable(pod.name, NotLoggedIn(watch.refusal), node.address)
        if topology.rollout and not locked and self.deadline.seconds:
            # A password is being renewed, pod by pod; and five failures would lock the account.
            if len(watch.wrong_logins) >= LOGIN_TRIES:
                watch.ask_again_at = watch.wrong_logins[0] + LOCKOUT_SECONDS
            return waiting
        if len(watch.wrong_logins) < tries and not locked:
            return waiting
        credentials = self.fleet.access.credentials
        watch.refused = LoginRefused(
            pod.name,
            f"{pod.name} at {node.address} refused the user {credentials.user!r} "
            f"with the password from {credentials.source}: {watch.refusal}; "
            f"{_remedy(failure)}",
            node.address,
        )
        return watch.refused

    # --- further questions, where the first answers ask for them ---

    def _deepen(self, topology: Topology, view: ClusterView, *, quick: bool) -> ClusterView:
        memory = self.memory
        membership = Membership.of(topology, view)
        if not memory.finished_here:
            finished = (
                frozenset(node.name for node in group.nodes) | group.names
                for group in membership.groups
                if any(node.finished for node in group.nodes)
            )
            memory.prior = memory.prior.union(*finished) - set(memory.added.values())
        view = replace(
            view,
            prior=memory.prior,
            added=frozenset(memory.added),
            without_shards=frozenset(memory.without_shards),
            finished_here=memory.finished_here,
        )
        if memory.finished_here and not memory.prior:  # all of them are as old as the cluster
            everybody = frozenset(node.name for node in view.nodes if node.finished)
            view = replace(view, prior=everybody)
        view = self._reminded(topology, view)
        view = with_leaders(self, topology, view)  # what was finished once is looked into
        if not quick:
            view = with_volumes(self, topology, view)
            view = with_identities(self, topology, view)
        return self._diagnosed(topology, view)

    # --- between two looks ---

    def _reminded(self, topology: Topology, view: ClusterView) -> ClusterView:
        """Tells, of members that do not learn of another one, of which."""
        now = time.monotonic()
        late: dict[str, NodeView] = {}
        for group in Membership.of(topology, view).groups:
            answering = frozenset(node.name for node in group.nodes)
            for node in group.nodes:
                watch = self.memory.watch(node.pod)
                before = watch.unlisted
                # Where its own document was deleted, the others tell it.
                watch.unlisted = {
                    name: before.get(name, now)
                    for name in answering - node.cluster_nodes
                    if name != node.name
                }
                overdue = frozenset(
                    name
                    for name, since in watch.unlisted.items()
                    if now - since >= LEARNING_SECONDS
                )
                if overdue:
                    late[node.pod] = replace(node, overdue=overdue)
        return view.seen_anew(late)

    def _diagnosed(self, topology: Topology, view: ClusterView) -> ClusterView:
        """Tells, of members that stay unconnected, why."""
        answering = {node.name: node for node in view.nodes}
        apart = {
            name
            for node in view.nodes
            for name in (node.cluster_nodes - node.all_nodes) & answering.keys()
        }
        for name, node in answering.items():
            watch = self.memory.watch(node.pod)
            if name not in apart:
                watch.apart_since = watch.unconnected_because = None
            elif watch.apart_since is None:
                watch.apart_since = time.monotonic()
        self._look_into(topology, [answering[name] for name in sorted(apart)])
        return view.seen_anew(
            {
                answering[name].pod: replace(
                    answering[name],
                    unconnected_because=self.memory.watch(answering[name].pod).unconnected_because,
                )
                for name in apart
            }
        )

    def _look_into(self, topology: Topology, apart: list[NodeView]) -> None:
        """Finds the cause for those that have been unconnected for a while, once."""
        now = time.monotonic()
        unexplained = []
        for node in apart:
            watch = self.memory.watch(node.pod)
            since = watch.apart_since or now
            if watch.unconnected_because is None and now - since >= APART_SECONDS:
                unexplained.append(node)
        if self.fleet.access.door is not None:
            # Behind the API server's proxy neither names nor ports can be tried.
            for node in unexplained:
                lacks = "; ".join(template_cause(topology)) or None
                self.memory.watch(node.pod).unconnected_because = lacks
            return
        seconds = self.deadline.cap(2.0)
        causes = for_each(
            unexplained,
            lambda node: likeliest_cause(topology, node, seconds),
            self.fleet.patience,
        )
        for node, cause in zip(unexplained, causes, strict=True):
            watch = self.memory.watch(node.pod)
            watch.unconnected_because = cause or "its name is not resolved in time"


# --- what is made of answers ---


def _own_name(node: CouchNode, connected: frozenset[str]) -> str:
    """A node's Erlang name: it always lists itself as connected (src/mem3/src/mem3_httpd.erl), so
    one that is connected to nobody need not be asked for it."""
    if len(connected) == 1:
        return next(iter(connected))
    return node.local_name()


def _is_too_old(node: CouchNode) -> bool:
    found = re.match(r"(\d+)\.(\d+)", node.version or "")
    return found is not None and (int(found[1]), int(found[2])) < OLDEST


def _is_another(topology: Topology, pod: Pod, node: NodeView) -> bool:
    """Whether a node's own name says that it is another pod, of this set or of any other.

    An address that is not the pod's any more may be anybody's by now. A name of another form, as an
    address or one of the user's own, says nothing; nor does any of a single pod's.
    """
    host = host_of(node.name)
    label = host.split(".")[0]
    if label != pod.name and topology.pod(label) is not None:
        return True
    if host == pod.host_name or len(topology.expected) < 2:
        return False
    named = SERVICE_NAME.fullmatch(host)
    return named is not None and (named[1], named[2]) != (pod.name, topology.namespace)


def _recognised(topology: Topology, view: ClusterView) -> ClusterView:
    """The view without nodes that answer at an address which is another pod's by now.

    Where two addresses give the same name, two nodes have it, and that is another matter.
    """
    misplaced: dict[str, Sight] = {}
    for node in view.nodes:
        pod = topology.pod(node.pod)
        if pod is None or not _is_another(topology, pod, node):
            continue
        twins = [n for n in view.nodes if n.name == node.name and n.address != node.address]
        if not twins:
            label = host_of(node.name).split(".")[0]
            expected = label != node.pod and topology.pod(label) is not None
            reason = AnotherPodsAddress(node.address, node.name, expected)
            misplaced[node.pod] = Unreachable(node.pod, reason, node.address)
    return replace(view, sights=tuple(misplaced.get(s.pod, s) for s in view.sights))


def _remedy(failure: ErrorAnswer) -> str:
    """What a person can do about a refused login."""
    if "server admin" in failure.reason:
        if failure.status == 401:
            return (
                "a right password answered so means that basic authentication is off: "
                "[chttpd] authentication_handlers must have {chttpd_auth, "
                "default_authentication_handler}"
            )
        return "the user is no administrator: name one of [admins]"
    if failure.status == 403:
        return "correct user or password, and wait 300 s first"
    return "correct user or password"
