"""One look at all nodes: CouchDB → ClusterView. What does not answer is a value, not an error."""

import contextlib
import hashlib
import re
import secrets
import time
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass, field, replace

from couchdiscover.couch.client import CouchFailure, CouchNode, ErrorAnswer, Fleet, NoAnswer
from couchdiscover.couch.connectivity import likeliest_cause
from couchdiscover.couch.copies import Nodes, look_at
from couchdiscover.couch.memory import Memory, Watch
from couchdiscover.couch.volumes import Part, read_histories, read_infos, read_volume
from couchdiscover.decide.copies import lost_ranges, refilled, sample, unsourced
from couchdiscover.decide.identity import needs_sessions, needs_uptime
from couchdiscover.decide.membership import Membership, host_of
from couchdiscover.decide.merging import unclear
from couchdiscover.decide.verification import few_copies
from couchdiscover.net.deadline import Deadline
from couchdiscover.net.workers import for_each
from couchdiscover.state.nodes import (
    DEFAULT_DATABASES,
    ClusterView,
    Copies,
    Hash,
    Identity,
    LoginRefused,
    NodeDetails,
    NodeView,
    Sight,
    TooOld,
    Unreachable,
)
from couchdiscover.state.reasons import AnotherPodsAddress, NoAddress, NotLoggedIn, Silent
from couchdiscover.state.topology import Pod, Scope, Topology
from couchdiscover.state.volumes import ShardFile, Volume

_SALT = secrets.token_bytes(16)

LOGIN_TRIES = 3
"""Wrong logins at one node in one run; CouchDB locks the account at the fifth (since 3.4)."""

LOGIN_PAUSE = 1.0
"""Seconds between them: a node on its first boot refuses the right password for a moment."""

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

SPREADING = (0.2, 0.5, 1.0, 2.0)
"""Seconds after which a copy that is empty, while another is not, is looked at again: what has just
been written, the design document of a new ``_users`` say, is on the other copies within these."""

MOST_OTHERS = 20
"""Members of other StatefulSets that are looked at."""

MOST_GIVERS = 8
"""Nodes whose sessions are tried on all others: one for each different pair of hash and secret."""

Question = Callable[[CouchNode, NodeView], NodeView]


@dataclass(slots=True)
class Observer:
    """Looks at the nodes, again and again.

    ``databases`` must be readable from every node. ``foresees`` is true where a plan is wanted:
    then identities are read before the nodes have joined. ``only_looks`` asks nothing upon which
    CouchDB changes anything.
    """

    fleet: Fleet
    deadline: Deadline
    scope: Scope
    memory: Memory = field(default_factory=Memory)
    databases: tuple[str, ...] = DEFAULT_DATABASES
    foresees: bool = False
    only_looks: bool = False

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
            return watch.refused
        if time.monotonic() < watch.ask_again_at:
            return Unreachable(pod.name, NotLoggedIn("it answered 401"))
        known = self.memory.known(pod.name)
        seen: Sight = Unreachable(pod.name, NoAddress(topology.service_problem or ""))
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
        name = known.name if known else node.local_name()
        if known and quick:
            connected, members = node.membership()
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
        view = NodeView(pod.name, node.address, name, state, frozenset(), frozenset())
        if extra and not view.finished:
            view = replace(view, state=node.setup_state())
            if view.finished:
                databases = node.databases()
                unreadable = tuple(sorted(extra - databases)) or tuple(sorted(extra))
        connected, members = node.membership()
        view = replace(
            view,
            all_nodes=connected,
            cluster_nodes=members,
            version=node.version,
            databases=databases,
            unreadable=unreadable,
        )
        if view.alone and (known is None or known.volume is None or not view.finished):
            volume = read_volume(node, Part.FILES)
            if volume.files:
                volume = read_volume(node, Part.FILLED, volume)
            view = replace(view, volume=volume)
        if self._compares(view):
            view = self._with_config(node, view)
        return view

    def _compares(self, view: NodeView) -> bool:
        """Whether its identity matters: where this run has finished the cluster, all are equal."""
        if self.foresees or view.alone:
            return self.foresees  # what a plan tells depends on it, before the node has joined
        return view.finished

    def _with_config(self, node: CouchNode, view: NodeView) -> NodeView:
        config = node.config()
        user = self.fleet.access.credentials.user
        return replace(view, identity=_identity(config, user), details=details_of(view.pod, config))

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
        waiting = Unreachable(pod.name, NotLoggedIn(str(failure)), node.address)
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
            f"(from {credentials.source}): {str(failure).rstrip('.')}; {_remedy(failure)}",
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
        if not quick:
            view = self._with_volumes(topology, view)
        view = self._with_leaders(topology, view)
        if not quick:
            view = self._with_identities(topology, view)
        return self._diagnosed(view)

    def _with_leaders(self, topology: Topology, view: ClusterView) -> ClusterView:
        """The configuration, and the databases, of those through which a cluster is finished."""
        leaders = [
            group.coordinator
            for group in Membership.of(topology, view).groups
            if not group.coordinator.alone and not any(node.finished for node in group.nodes)
        ]
        view = self._each(
            topology,
            view,
            [node for node in leaders if node.identity is None],
            self._with_config,
        )
        membership = Membership.of(topology, view)
        if membership.left_behind and not any(node.was_finished for node in view.nodes):
            # Whether nobody's names come from the seed list, which brings them back at each boot.
            first = [node for node in view.nodes[:1] if node.details is None]
            view = self._each(topology, view, first, self._with_config)
        own = [n for n in view.nodes if n.pod == topology.own and not n.finished and not n.alone]
        asked = {node.pod: node for node in [*leaders, *own] if node.databases is None}
        return self._each(
            topology,
            view,
            [view_node for n in asked if (view_node := _node(view, n)) is not None],
            lambda client, node: replace(node, databases=client.databases()),
        )

    def _with_identities(self, topology: Topology, view: ClusterView) -> ClusterView:
        view = self._given_uuid(topology, view)
        intended = topology.secret_intended
        if view.prior and needs_uptime(view.nodes, view.prior, secret_intended=intended):
            voters = [node for node in view.nodes if node.name in view.prior]
            view = self._each(
                topology,
                view,
                voters,
                lambda client, node: replace(node, uptime=client.uptime()),
            )
        members = [node for node in view.nodes if node.finished and not node.alone]
        if needs_sessions(members):
            view = self._with_sessions(topology, view, members)
        return view

    def _with_sessions(
        self, topology: Topology, view: ClusterView, members: list[NodeView]
    ) -> ClusterView:
        """Tries who accepts whose sessions: that is what equal hashes and secrets are for."""
        if self.fleet.access.door is not None:
            return view  # behind the API server's proxy cookies are needed for our own way
        different = {
            (n.identity.admin, n.identity.secret): n for n in reversed(members) if n.identity
        }
        cookies: dict[str, str] = {}

        def opened(client: CouchNode, node: NodeView) -> NodeView:
            cookies[node.pod] = client.session_cookie()
            return node

        accepted: dict[str, frozenset[str]] = {}

        def tried(client: CouchNode, node: NodeView) -> NodeView:
            accepted[node.pod] = frozenset(
                pod for pod, cookie in cookies.items() if client.accepts_session(cookie)
            )
            return node

        self._each(topology, view, list(different.values())[:MOST_GIVERS], opened)
        self._each(topology, view, members, tried)
        return view.seen_anew(
            {
                node.pod: replace(
                    node,
                    sessions=frozenset(pod for pod, by in accepted.items() if node.pod in by),
                )
                for node in view.nodes
                if node.pod in cookies and len(accepted) == len(members)
            }
        )

    def _given_uuid(self, topology: Topology, view: ClusterView) -> ClusterView:
        """Has one node make a uuid where all have lost theirs, as after a rolling restart.

        A node of the official image makes one at its first ``GET /``: asked one after the other by
        anybody, each would make another.
        """
        compared = [node for node in view.nodes if node.identity and node.name in view.prior]
        if self.only_looks or any(node.identity and node.identity.uuid for node in compared):
            return view

        def welcome(client: CouchNode, node: NodeView) -> NodeView:
            client.welcome()
            return self._with_config(client, node)

        return self._each(topology, view, compared[:1], welcome)

    # --- volumes ---

    def _with_volumes(self, topology: Topology, view: ClusterView) -> ClusterView:
        """What lies on the volumes, as far as the decision may turn on it."""
        membership = Membership.of(topology, view)
        wanted: dict[str, Part] = {}

        def want(nodes: Iterable[NodeView], parts: Part) -> None:
            for node in nodes:
                wanted[node.pod] = wanted.get(node.pod, Part(0)) | parts

        laden = [n for n in view.nodes if n.alone and n.volume is not None and n.volume.files]
        if laden:
            want(laden, Part.MAPS | Part.HISTORY | Part.UUID)
            leaders = [group.coordinator for group in membership.groups if group.exists]
            want(leaders or view.nodes[:1], Part.MAPS)
        if self.foresees:
            clusters = [group for group in membership.groups if group.was_finished]
            want([group.coordinator for group in clusters], Part.MAPS)
        late = [node for node in view.nodes if node.overdue]
        fellows = frozenset().union(*(node.overdue for node in late))
        want([*late, *(node for node in view.nodes if node.name in fellows)], Part.MAPS)
        away = [node for node in view.nodes if node.was_finished and not node.finished]
        if membership.left_behind or away:
            want(view.nodes, Part.FILES | Part.MAPS | Part.HISTORY | Part.UUID)
        verified = self._to_verify(topology, view)
        if verified:
            want(verified, Part.FILES | Part.HISTORY)
            leader = next(
                (g.coordinator for g in membership.groups if verified[0] in g.nodes), None
            )
            want([leader or verified[0]], Part.MAPS)
            view = self._each(
                topology, view, verified, lambda client, node: replace(node, up=client.up())
            )
        if membership.elsewhere:
            view = self._with_others(topology, view, membership)
            view = self._read(topology, view, {node.pod: Part.UUID for node in view.nodes})
            if Membership.of(topology, view).survey.clones:
                want(view.nodes, Part.FILES | Part.MAPS | Part.HISTORY)
        view = self._read(topology, view, wanted)
        view = self._with_blank(topology, view)
        if names := unclear(view.nodes):
            read = [node for node in view.nodes if node.volume is not None and node.volume.maps]
            view = self._each(
                topology,
                view,
                read,
                lambda client, node: replace(
                    node, volume=read_histories(client, node.volume or Volume(), names)
                ),
            )
        if verified:
            view = self._with_evidence(topology, view)
        return self._with_suspects(topology, view)

    def _with_suspects(self, topology: Topology, view: ClusterView) -> ClusterView:
        """Whether files that tell of volumes which changed places hold anything.

        Empty ones, which CouchDB has made for what a map named once, are no sign. The first that
        holds something is enough.
        """

        def asked(client: CouchNode, node: NodeView) -> NodeView:
            volume = node.volume or Volume()
            found = dict(volume.infos)
            for file in sorted(suspects[node.pod]):
                if file not in found:
                    found |= {f: i for f, i in read_infos(client, [file]).items() if i is not None}
                if file not in found or not found[file].empty:
                    break
            return replace(node, volume=replace(volume, infos=found))

        suspects = Membership.of(topology, view).survey.suspects
        return self._each(topology, view, [n for n in view.nodes if n.pod in suspects], asked)

    def _read(
        self, topology: Topology, view: ClusterView, wanted: Mapping[str, Part]
    ) -> ClusterView:
        return self._each(
            topology,
            view,
            [node for node in view.nodes if wanted.get(node.pod)],
            lambda client, node: replace(
                node, volume=read_volume(client, wanted[node.pod], node.volume)
            ),
        )

    def _with_blank(self, topology: Topology, view: ClusterView) -> ClusterView:
        """Which system databases with few copies hold documents: blank ones can be given more.

        Through the cluster, since the copies may be on other nodes; what cannot be read may hold
        anything.
        """

        def asked(client: CouchNode, node: NodeView) -> NodeView:
            few = few_copies(membership, node, ahead=self.foresees)
            filled = set()
            for name in few:
                try:
                    if client.holds_documents(name):
                        filled.add(name)
                except CouchFailure:
                    filled.add(name)
            volume = replace(node.volume or Volume(), filled=frozenset(filled))
            return replace(node, volume=volume)

        membership = Membership.of(topology, view)
        nodes = [
            node
            for node in view.nodes
            if node.finished
            and not node.alone
            and few_copies(membership, node, ahead=self.foresees)
        ]
        return self._each(topology, view, nodes[:1], asked)

    def _with_others(
        self, topology: Topology, view: ClusterView, membership: Membership
    ) -> ClusterView:
        """The volumes of connected members that are no pods of ours, through one of our nodes."""
        others: dict[str, Volume] = {}

        def asked(client: CouchNode, node: NodeView) -> NodeView:
            for name in membership.elsewhere[:MOST_OTHERS]:
                with contextlib.suppress(CouchFailure):
                    others[name] = Volume(uuid=client.dbs_info(name).uuid)
            return node

        connected = [n for n in view.nodes if not n.all_nodes.isdisjoint(membership.elsewhere)]
        self._each(topology, view, connected[:1], asked)
        return replace(view, others=others)

    def _with_evidence(self, topology: Topology, view: ClusterView) -> ClusterView:
        """Where a mark is missing: whether that volume was lost, or only never marked."""
        verified = {node.pod for node in self._to_verify(topology, view)}
        bare = [
            node
            for node in view.nodes
            if node.pod in verified
            and node.volume is not None
            and node.volume.traces is not None
            and (node.volume.mark is None or node.volume.mark.node != node.name)
        ]
        if bare:
            wanted = {node.pod: Part.UUID for node in bare}
            peers = [n for n in view.nodes if n.pod not in verified and n.finished]
            wanted |= {node.pod: Part.FILES | Part.HISTORY for node in peers}
            view = self._read(topology, view, wanted)
        membership = Membership.of(topology, view)
        bare = [node for node in bare if node.pod in membership.survey.unproven]
        view = self._sampled(topology, view, membership, bare)
        return self._with_copies(topology, view, verified)

    def _sampled(
        self,
        topology: Topology,
        view: ClusterView,
        membership: Membership,
        unmarked: list[NodeView],
    ) -> ClusterView:
        """A sample of the copies on volumes without a mark, and the other copies of their ranges.

        System databases that a first run has just made are all there is; in a cluster that is older
        than its marks there may be many.
        """
        survey = membership.survey
        files: dict[str, set[ShardFile]] = {}
        for node in unmarked:
            found = survey.files(node.pod)
            if found is None:
                continue
            for file in sample(found.named).files:
                for other in view.nodes:
                    if file in survey.named_files(other.name):
                        files.setdefault(other.pod, set()).add(file)

        def asked(client: CouchNode, node: NodeView) -> NodeView:
            infos = read_infos(client, files[node.pod])
            there = {file: info for file, info in infos.items() if info is not None}
            return replace(node, volume=replace(node.volume or Volume(), infos=there))

        for pause in (*SPREADING, 0.0):
            view = self._each(topology, view, [n for n in view.nodes if n.pod in files], asked)
            survey = Membership.of(topology, view).survey
            if not any(survey.hollow(node.pod) for node in unmarked):
                break
            time.sleep(pause)
        return view

    def _with_copies(
        self, topology: Topology, view: ClusterView, verified: Collection[str]
    ) -> ClusterView:
        """How far copies on volumes that were lost, or are damaged, are filled again."""
        memory, survey = self.memory, Membership.of(topology, view).survey
        pods = (survey.lost.keys() | survey.damaged.keys()) & set(verified)
        lost = frozenset(node.name for node in view.nodes if node.pod in pods) | memory.lost
        if not lost:
            return view
        view = self._with_spared_maps(topology, view)
        survey = Membership.of(topology, view).survey
        maps = survey.all_maps
        spared = [n for n in view.nodes if n.pod not in survey.lost]
        if maps is None or not any(survey.volumes[node.pod].maps is not None for node in spared):
            return view  # one that has just lost its volume may not know of all databases yet
        names = {node.name: node for node in view.nodes}
        nowhere = lost | frozenset(n.name for n in view.nodes if n.pod in survey.lost)
        proof = refilled(maps.values(), nowhere, names.keys(), targets=lost)
        memory.proof = memory.proof.over(proof) if memory.proof else proof
        memory.lost = lost
        clients = {
            name: self.fleet.node(pod, node.address)
            for name, node in names.items()
            if (pod := topology.pod(node.pod)) is not None
        }
        if not memory.proof.complete:
            memory.proof = look_at(memory.proof, Nodes(clients, self.fleet.patience))
        proof = memory.proof
        touched = {pair.file.database for pair in proof.pairs}
        return replace(
            view,
            copies=Copies(
                lost=lost,
                databases=tuple(sorted(touched)),
                left=proof.left(),
                unsourced=unsourced(proof, maps.values(), nowhere),
                total={name: proof.total(name) for name in lost},
                progress=proof.progress(),
                gone=lost_ranges(proof, maps.values(), nowhere),
                synced=memory.synced,
            ),
        )

    def _with_spared_maps(self, topology: Topology, view: ClusterView) -> ClusterView:
        """The shard maps of one member that has not lost its volume: it knows of all databases."""
        lost = Membership.of(topology, view).survey.lost
        spared = [node for node in view.nodes if node.finished and node.pod not in lost]
        if any(node.volume is not None and node.volume.maps is not None for node in spared):
            return view
        return self._read(topology, view, {node.pod: Part.MAPS for node in spared[:1]})

    def _to_verify(self, topology: Topology, view: ClusterView) -> list[NodeView]:
        """The nodes whose membership and set-up are as they should be: their volumes are next.

        In scope ``pod`` that is the own node, and all of them where this run has finished the
        cluster: whoever finishes verifies, and marks, everybody.
        """
        if self.scope is Scope.POD and not self.memory.finished_here:
            own = _node(view, topology.own or "")
            lone_set = len(topology.expected) == 1
            return [own] if own is not None and own.finished and (lone_set or not own.alone) else []
        expected = frozenset(node.name for node in view.nodes)
        whole = len(view.nodes) == len(topology.expected) and all(
            node.finished
            and expected <= node.cluster_nodes | {node.name}
            and expected <= node.all_nodes | {node.name}
            for node in view.nodes
        )
        return list(view.nodes) if whole else []

    # --- asking again ---

    def _each(
        self, topology: Topology, view: ClusterView, nodes: Iterable[NodeView], question: Question
    ) -> ClusterView:
        """Asks some nodes one more thing; one that does not answer stays as it was seen."""

        def ask(node: NodeView) -> NodeView:
            pod = topology.pod(node.pod)
            if pod is None:
                return node
            try:
                return question(self.fleet.node(pod, node.address), node)
            except CouchFailure:
                return node

        asked = list(nodes)
        answers = for_each(asked, ask, self.fleet.patience) if asked else []
        return view.seen_anew({node.pod: node for node in answers if node is not None})

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

    def _diagnosed(self, view: ClusterView) -> ClusterView:
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
        self._look_into([answering[name] for name in sorted(apart)])
        return view.seen_anew(
            {
                answering[name].pod: replace(
                    answering[name],
                    unconnected_because=self.memory.watch(answering[name].pod).unconnected_because,
                )
                for name in apart
            }
        )

    def _look_into(self, apart: list[NodeView]) -> None:
        """Finds the cause for those that have been unconnected for a while, once."""
        if self.fleet.access.door is not None:
            return  # behind the API server's proxy neither names nor ports can be tried
        now = time.monotonic()
        unexplained = []
        for node in apart:
            watch = self.memory.watch(node.pod)
            since = watch.apart_since or now
            if watch.unconnected_because is None and now - since >= APART_SECONDS:
                unexplained.append(node)
        seconds = self.deadline.cap(2.0)
        causes = for_each(
            unexplained,
            lambda node: likeliest_cause(node.name, node.address, seconds),
            self.fleet.patience,
        )
        for node, cause in zip(unexplained, causes, strict=True):
            watch = self.memory.watch(node.pod)
            watch.unconnected_because = cause or "its name is not resolved in time"


# --- what is made of answers ---


def _node(view: ClusterView, pod: str) -> NodeView | None:
    sight = view.sight(pod)
    return sight if isinstance(sight, NodeView) else None


def _is_too_old(node: CouchNode) -> bool:
    found = re.match(r"(\d+)\.(\d+)", node.version or "")
    return found is not None and (int(found[1]), int(found[2])) < OLDEST


def _is_another(topology: Topology, pod: Pod, node: NodeView) -> bool:
    """Whether a node's own name says that it is another expected pod."""
    label = host_of(node.name).split(".")[0]
    return label != pod.name and topology.pod(label) is not None


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
            reason = AnotherPodsAddress(node.address, node.name)
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


def _identity(config: Mapping[str, Mapping[str, str]], user: str) -> Identity:
    hashes = config.get("admins", {})
    secret = config.get("chttpd_auth", {}).get("secret")
    old = config.get("couch_httpd_auth", {}).get("secret")
    return Identity(
        admin=_hash(hashes.get(user)),
        uuid=_fingerprint(config.get("couchdb", {}).get("uuid")),
        secret=_fingerprint(secret or old),
        admins={
            name: found for name, text in hashes.items() if name != user and (found := _hash(text))
        },
        old_secret=not secret and bool(old),
    )


def _hash(text: str | None) -> Hash | None:
    """A hash's fingerprint and scheme: ``-pbkdf2:sha256-KEY,SALT,ITERATIONS``."""
    value = _fingerprint(text)
    if value is None or text is None:
        return None
    found = re.match(r"-([a-z0-9]+(?::[a-z0-9]+)?)-", text)
    iterations = text.rpartition(",")[2] if found else ""
    return Hash(value, f"{found[1]},{iterations}" if found else "")


def details_of(pod: str, config: Mapping[str, Mapping[str, str]]) -> NodeDetails:
    """What a node's configuration says beside its identity."""
    cluster = config.get("cluster", {})
    mode = config.get("couchdb", {}).get("maintenance_mode")
    copies = cluster.get("n", "")
    seeds = (seed.strip() for seed in cluster.get("seedlist", "").split(","))
    return NodeDetails(
        pod,
        maintenance=mode if mode in ("true", "nolb") else None,
        copies=int(copies) if re.fullmatch(r"[1-9][0-9]{0,3}", copies) else NodeDetails("").copies,
        placement=cluster.get("placement") or None,
        seeds=frozenset(seed for seed in seeds if seed),
    )


def _fingerprint(value: str | None) -> str | None:
    """Tells two values apart, in this process only: it is salted, and nothing can be guessed."""
    if not value:
        return None
    return hashlib.blake2s(str(value).encode(), key=_SALT, digest_size=8).hexdigest()
