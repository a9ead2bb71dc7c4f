"""The decision: from what was discovered and seen to what is done next. Pure and total.

``decide`` is asked anew after every look and knows nothing but that look: a run that was killed
anywhere is continued by the next one's first look.
"""

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from functools import cache

from couchdiscover.decide.identity import Drift, drift
from couchdiscover.decide.membership import Cluster, Matching, clusters, groups, match, silent
from couchdiscover.state.nodes import (
    SYSTEM_DATABASES,
    ClusterView,
    Holdings,
    LoginRefused,
    NodeView,
    SetupState,
)
from couchdiscover.state.steps import (
    Blocked,
    Decision,
    Do,
    Done,
    Left,
    Rejected,
    Step,
    StepKind,
    Wait,
)
from couchdiscover.state.topology import Scope, Topology

LOOPBACK = frozenset({"127.0.0.1", "localhost", "::1"})

SPLIT_REMEDY = (
    "joining them would hide documents of databases that both have, for good; keep one, "
    "and start the nodes of the other with empty volumes (copy what they hold first)"
)


@dataclass(frozen=True, slots=True)
class Policy:
    """What the user wants beyond membership."""

    repair: bool = True
    repair_from: str | None = None


def decide(
    topology: Topology, view: ClusterView, scope: Scope, policy: Policy = Policy()
) -> Decision:
    """What to do now.

    Scope ``set`` brings every expected node in; ``pod`` only ``topology.own``, for which it waits
    for no peer but the coordinator.
    """
    if scope is Scope.POD:
        return _decide_pod(topology, view, policy)
    return _decide_set(topology, view, policy)


# --- scope set --------------------------------------------------------------------------------


def _decide_set(topology: Topology, view: ClusterView, policy: Policy) -> Decision:
    if refused := [sight for sight in view if isinstance(sight, LoginRefused)]:
        return Rejected(_refusals(refused))
    if hazard := _name_hazard(topology, view.nodes) or _single_hazard(topology, view.nodes):
        return Blocked(hazard)
    found = clusters(view)
    if len(found) > 1:
        return Blocked(_split(found))

    waits = {sight.pod: sight.reason for sight in view if not isinstance(sight, NodeView)}
    enabling = [_enable(topology, node) for node in view.nodes if _disabled(node)]
    if not found and waits:
        # Who holds a cluster is known only when all have been seen: till then none is formed.
        return Do(tuple(enabling)) if enabling else Wait(waits)

    cluster = found[0] if found else None
    coordinator = cluster.coordinator if cluster else view.nodes[0]
    matching = match(topology, view, cluster.names if cluster else {coordinator.name})
    if cluster and matching.strangers and not cluster.finished:
        return Blocked(_ghosts(topology, matching))

    joining = []
    for node in view.nodes:
        if node.pod == coordinator.pod or not node.alone:
            continue
        linked = cluster is not None and node.name in cluster.names
        if not linked and (hazard := _merge_hazard(node, coordinator)):
            return Blocked(hazard)
        joining.append(_join(node, coordinator))
    if enabling or joining:
        return Do((*enabling, *joining))
    if introductions := _introductions(view, view.nodes):
        return Do(introductions)

    waits |= _partings(topology, view, matching)
    if waits:
        return Wait(waits)
    if finish := _finish(view.nodes, coordinator):
        return finish
    if late := {
        node.pod: f"to report a finished cluster; it is {node.state}"
        for node in view.nodes
        if not node.finished
    }:
        return Wait(late)
    if missing := _missing_databases(view.nodes, coordinator):
        return missing

    drifted = drift(view.nodes, view.veterans, policy.repair_from)
    warnings = (*_identity_warnings(drifted, policy), *_shard_notes(view))
    if policy.repair and (steps := _repairs(drifted, coordinator)):
        return Do(steps, warnings)
    if matching.strangers:
        return Left(_left_behind(topology, matching), warnings)
    return Done(warnings)


# --- scope pod --------------------------------------------------------------------------------


def _decide_pod(topology: Topology, view: ClusterView, policy: Policy) -> Decision:
    pod = topology.own or ""
    own = view.sight(pod)
    if isinstance(own, LoginRefused):
        return Rejected(own.reason)
    if not isinstance(own, NodeView):
        return Wait({pod: own.reason})
    if hazard := _name_hazard(topology, view.nodes, own) or _single_hazard(topology, [own]):
        return Blocked(hazard)
    if _disabled(own):
        return Do((_enable(topology, own),))
    if own.finished:
        return _settle_own(topology, view, own, policy)

    group = next(group for group in groups(view) if own in group.nodes)
    others = [cluster for cluster in clusters(view) if own not in cluster.nodes]
    if group.exists and len(group.names) > 1:
        return _complete(topology, view, group, own)
    if len(others) > (0 if group.exists else 1):
        return Blocked(_split([group, *others] if group.exists else others))
    if others:
        coordinator = others[0].coordinator
    elif group.exists or topology.expected[0].name == pod:
        return _complete(topology, view, group, own)
    else:
        lead = view.sight(topology.expected[0].name)
        if isinstance(lead, LoginRefused):
            return Rejected(lead.reason)
        if not isinstance(lead, NodeView):
            return Wait({lead.pod: lead.reason})
        coordinator = lead
    if hazard := _single_hazard(topology, [coordinator]) or _merge_hazard(own, coordinator):
        return Blocked(hazard)
    return Do((_join(own, coordinator),))


def _complete(topology: Topology, view: ClusterView, group: Cluster, own: NodeView) -> Decision:
    """The own node belongs to a cluster that is not finished: whoever comes last finishes it.

    The coordinator's list orders the joins. A node is in when it stands there connected, so the
    last one to stand there sees all the others. A node that this run has added waits to be listed
    by some member, even while the coordinator is silent: gone too early, nobody would finish.
    """
    coordinator = group.coordinator
    if own.alone and coordinator.pod != own.pod:
        return Do((_join(own, coordinator),))
    listing = [node for node in group.nodes if own.name in node.cluster_nodes & node.all_nodes]
    lessons = _introductions(view, [own])
    if coordinator is not own and own.name in coordinator.overdue:
        lessons += (_introduce(coordinator, own),)
    if lessons:
        return Do(lessons)
    if coordinator not in listing or (own.pod in view.joined and listing == [own]):
        missing = coordinator.pod if coordinator is not own else "another member"
        return Wait({own.pod: _unlisted_by(missing) + _cause(view, own.pod)})
    unknown = [
        node.pod
        for node in group.nodes
        if node.name in coordinator.cluster_nodes - own.cluster_nodes
    ]
    if unknown:  # the coordinator hands on what comes later, but maybe not what came together
        return Wait({own.pod: f"to list {unknown[0]} as a member"})
    matching = match(topology, view, coordinator.cluster_nodes)
    absent = [pod.name for pod in topology.expected if pod.name not in matching.names]
    if absent:
        return Done(_notes(topology, view, own))
    if coordinator.finished:
        return Wait({own.pod: f"to report what {coordinator.pod} does: a finished cluster"})
    if matching.strangers:
        return Blocked(_ghosts(topology, matching))
    if apart := {
        pod: f"to be connected to {coordinator.pod}{_cause(view, pod)}"
        for pod, name in matching.names.items()
        if name not in coordinator.all_nodes
    }:
        return Wait(apart)
    before = [pod.name for pod in topology.expected]
    before = before[: before.index(coordinator.pod)]
    if hidden := {pod: reason for pod, reason in silent(view).items() if pod in before}:
        return Wait(
            hidden
        )  # others reach it, and finish through it: two would make the nodes differ
    return _finish(group.nodes, coordinator) or Wait(
        {own.pod: "to report a finished cluster, as other members do"}
    )


def _settle_own(topology: Topology, view: ClusterView, own: NodeView, policy: Policy) -> Decision:
    """The own node is in: what is left is its share of databases and identity."""
    if unheard := [
        node
        for node in view.nodes
        if node.name in own.cluster_nodes and not node.alone and own.name not in node.cluster_nodes
    ]:
        # As after a scale-down that was cleared up, where the volume is kept and comes back.
        steps = tuple(_introduce(node, own) for node in unheard if own.name in node.overdue)
        return Do(steps) if steps else Wait({own.pod: _unlisted_by(unheard[0].pod)})
    if missing := _missing_databases([own], own):
        return missing
    notes = (*_notes(topology, view, own), *_shard_notes(view))
    drifted = drift(
        [node for node in view.nodes if node.name in own.cluster_nodes],
        view.veterans,
        policy.repair_from,
    )
    mine = Drift(
        tuple(step for step in drifted.steps if step.pod == own.pod),
        drifted.undecided,
        drifted.secretless,
    )
    if mine.steps or mine.secretless:
        notes = (*_identity_warnings(mine, policy), *notes)
    if policy.repair and (steps := _repairs(mine, own)):
        return Do(steps, notes)
    return Done(notes)


def _notes(topology: Topology, view: ClusterView, own: NodeView) -> tuple[str, ...]:
    """What is not as it should be, and no reason for a pod not to start."""
    notes = []
    others = own.cluster_nodes - {own.name}
    if others and not others & own.all_nodes:
        notes.append(
            f"{own.pod} is a member but connected to no other one; it serves what it holds, "
            "and connects when the others are back"
        )
    foreign = [c for c in clusters(view) if own not in c.nodes]
    if own.finished and foreign:
        notes.append(_split([Cluster(own.cluster_nodes, (own,)), *foreign]))
    matching = match(topology, view, own.cluster_nodes)
    if matching.strangers:
        notes.append(_left_behind(topology, matching))
    notes.extend(
        f"{sight.pod} refused the credentials that {own.pod} accepts: {sight.reason}"
        for sight in view
        if isinstance(sight, LoginRefused)
    )
    return tuple(notes)


# --- steps ------------------------------------------------------------------------------------


def _disabled(node: NodeView) -> bool:
    return node.state in (SetupState.DISABLED, SetupState.SINGLE_DISABLED)


def _enable(topology: Topology, node: NodeView) -> Step:
    if node.state is SetupState.SINGLE_DISABLED and len(topology.expected) == 1:
        return Step(StepKind.ENABLE_SINGLE_NODE, node.pod, "it is configured as a single node")
    return Step(StepKind.ENABLE_NODE, node.pod, "it is bound to loopback or has no administrator")


def _join(node: NodeView, coordinator: NodeView) -> Step:
    return Step(
        StepKind.ADD_NODE,
        node.pod,
        f"it is no member of {coordinator.pod}'s cluster yet",
        to=coordinator.pod,
        name=coordinator.name,
    )


def _introduce(node: NodeView, member: NodeView) -> Step:
    return Step(
        StepKind.ADD_NODE,
        node.pod,
        f"it has not learned of {member.pod} by replication",
        to=member.pod,
        name=member.name,
    )


def _introductions(view: ClusterView, nodes: Iterable[NodeView]) -> tuple[Step, ...]:
    """Tells nodes of fellow members that replication keeps from them.

    The document is the very one that replication would bring: CouchDB gives a first revision its
    number by what it holds, so that the two are one and never in conflict.
    """
    late = [node for node in nodes if node.overdue]
    members = {node.name: node for node in view.nodes} if late else {}
    return tuple(
        _introduce(node, members[name])
        for node in late
        for name in sorted(node.overdue & members.keys())
    )


def _finish(nodes: Sequence[NodeView], coordinator: NodeView) -> Decision | None:
    """Finishes through the coordinator, unless some member says that this was done already.

    Finishing pushes the coordinator's identity over everybody: where another member is finished, it
    would be the wrong one (the node's databases are still on their way to it).
    """
    if any(node.finished for node in nodes):
        return None
    steps = []
    lacks_secret = coordinator.identity is not None and coordinator.identity.secret is None
    if lacks_secret and len(coordinator.cluster_nodes) > 1:
        why = "without a chttpd_auth secret finish_cluster fails for ever"
        steps.append(Step(StepKind.SET_SECRET, coordinator.pod, why))
    why = f"all {len(coordinator.cluster_nodes)} members are connected, and it is not finished"
    steps.append(Step(StepKind.FINISH_CLUSTER, coordinator.pod, why))
    return Do(tuple(steps))


def _missing_databases(nodes: Sequence[NodeView], coordinator: NodeView) -> Decision | None:
    if coordinator.unreadable:
        why = "it was asked for with --ensure-db and does not exist"
        return Do(
            tuple(
                Step(StepKind.ENSURE_DB, coordinator.pod, why, name=name)
                for name in coordinator.unreadable
            )
        )
    if late := {
        node.pod: f"to open {', '.join(node.unreadable)}" for node in nodes if node.unreadable
    }:
        return Wait(late)
    return None


def _repairs(drifted: Drift, coordinator: NodeView) -> tuple[Step, ...]:
    if drifted.secretless:
        why = "no node has a chttpd_auth secret, so no session of one holds on another"
        return (*drifted.steps, Step(StepKind.SET_SECRET, coordinator.pod, why))
    return drifted.steps


# --- conditions -------------------------------------------------------------------------------


def _partings(topology: Topology, view: ClusterView, matching: Matching) -> dict[str, str]:
    """What keeps each node from seeing exactly the expected members, connected.

    Told of the node that is missed, where one can be made out: three nodes that miss the fourth are
    one thing to say, not three.
    """
    pods = {name: pod for pod, name in matching.names.items()}
    expected = frozenset(node.name for node in view.nodes)
    strangers = frozenset(matching.strangers)
    beyond = matching.names.keys() - {pod.name for pod in topology.expected}
    tolerated = frozenset(matching.names[pod] for pod in beyond) | strangers
    waits: dict[str, str] = {}

    @cache  # most nodes see the same
    def differences(
        members: frozenset[str], connected: frozenset[str]
    ) -> tuple[list[str], list[str], list[str]]:
        return (
            sorted(expected - members)[:1],
            sorted((expected & members) - connected),
            sorted(connected - members - expected - tolerated)[:1],
        )

    for node in view.nodes:
        unlisted, apart, foreign = differences(node.cluster_nodes, node.all_nodes)
        for name in unlisted:
            waits.setdefault(node.pod, f"to list {pods.get(name, name)} as a member")
        for name in apart:
            pod = pods.get(name, name)
            waits.setdefault(pod, f"to be connected to {node.pod}{_cause(view, pod)}")
        for name in foreign:
            waits.setdefault(node.pod, f"to lose its connection to {name}, which is no member")
    return waits


def _unlisted_by(pod: str) -> str:
    return f"to be listed as a connected member by {pod}"


def _cause(view: ClusterView, pod: str) -> str:
    sight = view.sight(pod)
    if isinstance(sight, NodeView) and sight.severed:
        return f" ({sight.severed})"
    return ""


def _refusals(refused: Iterable[LoginRefused]) -> str:
    first, *rest = refused
    more = f"; so did {', '.join(sight.pod for sight in rest)}" if rest else ""
    return first.reason + more


def _identity_warnings(drifted: Drift, policy: Policy) -> tuple[str, ...]:
    warnings = []
    differing = sorted({step.pod for step in drifted.steps})
    if differing and not policy.repair:
        keys = sorted({key for step in drifted.steps for key in step.keys})
        warnings.append(
            f"{', '.join(differing)} differ from the cluster in {', '.join(keys)}: sessions made "
            "on one node fail on another (left as it is)"
        )
    if drifted.undecided and differing:
        givers = sorted({step.to or "" for step in drifted.steps})
        warnings.append(
            f"no majority of the nodes agrees on {', '.join(drifted.undecided)}: taken from "
            f"{', '.join(givers)}, which has been up the longest (--repair-from names another)"
        )
    return tuple(warnings)


def _shard_notes(view: ClusterView) -> tuple[str, ...]:
    if not view.newcomers:
        return ()
    return (
        f"databases that existed before have no shards on {', '.join(sorted(view.newcomers))} yet; "
        'new ones will (CouchDB\'s manual, "Shard Management", tells how to move them)',
    )


# --- refusals ---------------------------------------------------------------------------------


def _name_hazard(
    topology: Topology, nodes: Sequence[NodeView], own: NodeView | None = None
) -> str | None:
    """Erlang names that cannot work. With ``own``, only what concerns that node."""
    concerned = nodes if own is None else [own]
    several = len(topology.expected) > 1
    for node in concerned:
        host = node.name.partition("@")[2]
        if node.name == "nonode@nohost" or (several and host in LOOPBACK):
            return (
                f"{node.pod}'s Erlang name is {node.name}, by which no other node can reach it, "
                "and its databases would be hidden by a change of name; start it with a fully "
                "qualified one (NODENAME in the official image, -name in vm.args)"
            )
    for node in concerned:
        twins = [other.pod for other in nodes if other.name == node.name]
        if len(twins) > 1:
            return (
                f"{' and '.join(twins)} have the same Erlang name, {node.name}: a cluster would "
                "take them for one node; give each pod's NODENAME the pod's own host name"
            )
    return None


def _single_hazard(topology: Topology, nodes: Sequence[NodeView]) -> str | None:
    singles = [node.pod for node in nodes if node.single]
    if not singles or len(topology.expected) == 1:
        return None
    return (
        f"{', '.join(singles)} configured as a single node ([cluster] n = 1 or [couchdb] "
        f"single_node = true) among {len(topology.expected)} that are to be one cluster: every "
        "database would have one copy only; remove that setting and start it again"
    )


def _merge_hazard(node: NodeView, coordinator: NodeView) -> str | None:
    """Why joining the node would put data at risk: what it holds would be merged by name."""
    mine = node.holdings or Holdings()
    theirs = coordinator.holdings or Holdings()
    blank = mine.databases & SYSTEM_DATABASES - mine.filled
    at_risk = (mine.databases - blank) | (blank & theirs.filled)
    if not at_risk:
        return None
    return (
        f"{node.pod} is no member and holds databases of its own ({_some(at_risk)}): joined to "
        f"{coordinator.pod}'s cluster, shard maps of the same name would be merged and documents "
        "become unreachable; copy what is needed and start it with an empty volume"
    )


def _split(found: Sequence[Cluster]) -> str:
    sides = " and ".join(
        "{" + ", ".join(sorted(_short(name) for name in cluster.names)) + "}" + _held(cluster)
        for cluster in found
    )
    return f"there are {len(found)} clusters among the pods, {sides}: {SPLIT_REMEDY}"


def _held(cluster: Cluster) -> str:
    """What makes a node that is alone a cluster of its own, where that is databases."""
    node = cluster.nodes[0]
    if len(cluster.names) > 1 or node.holdings is None or not node.holdings.filled:
        return ""
    return f" (which holds {_some(node.holdings.filled)})"


def _some(names: Collection[str]) -> str:
    return ", ".join(sorted(names)[:5]) + (", …" if len(names) > 5 else "")


def _short(name: str) -> str:
    """An Erlang name, cut to what tells it apart for a reader."""
    host = name.partition("@")[2]
    return host if host.replace(".", "").isdigit() else host.split(".")[0]


def _ghosts(topology: Topology, matching: Matching) -> str:
    return (
        f"{', '.join(matching.strangers)} listed as members of the cluster that is to be finished, "
        f"and no pod of StatefulSet {topology.statefulset} has that name: finishing would fail or "
        "place databases there; delete their documents in /_node/_local/_nodes"
    )


def _left_behind(topology: Topology, matching: Matching) -> str:
    return (
        f"{', '.join(matching.strangers)} still listed as members, but no pod of StatefulSet "
        f"{topology.statefulset} (left behind by a scale-down?): new databases get copies there; "
        "move their shards, then delete their documents in /_node/_local/_nodes"
    )
