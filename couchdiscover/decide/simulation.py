"""What the steps would lead to, without taking any: the whole plan ahead. Pure."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace

from couchdiscover.decide.membership import Membership
from couchdiscover.state.nodes import (
    DEFAULT_DATABASES,
    ClusterView,
    Identity,
    NodeView,
    SetupState,
)
from couchdiscover.state.steps import (
    AddCopies,
    AddNode,
    AnnounceSecret,
    Decision,
    Do,
    EnableNode,
    EnableSingleNode,
    EnsureDatabase,
    FinishCluster,
    SetSecret,
    Step,
    SyncIdentity,
    SyncShards,
)
from couchdiscover.state.topology import Topology

ROUNDS = 8
"""More rounds of steps than any plan has: enable and join, finish, databases, identity."""


@dataclass(frozen=True, slots=True)
class Plan:
    """All steps in order, the decision that follows the last of them, and all warnings."""

    steps: tuple[Step, ...]
    end: Decision
    warnings: tuple[str, ...]


def simulate(
    topology: Topology, view: ClusterView, decide: Callable[[ClusterView], Decision]
) -> Plan:
    """Follows ``decide`` from a view, each step doing what it is meant to do."""
    steps: tuple[Step, ...] = ()
    decision = decide(view)
    warnings = dict.fromkeys(getattr(decision, "warnings", ()))
    for _ in range(ROUNDS):
        if not isinstance(decision, Do):
            break
        steps += decision.steps
        view = after(topology, view, decision.steps)
        decision = decide(view)
        warnings |= dict.fromkeys(getattr(decision, "warnings", ()))
    return Plan(steps, decision, tuple(warnings))


def after(topology: Topology, view: ClusterView, steps: Iterable[Step]) -> ClusterView:
    """The view after some steps, all of them successful and all news spread."""
    for step in steps:
        node = view.sight(step.pod)
        if isinstance(node, NodeView):
            view = _after(topology, view, node, step)
    return view


def shows(view: ClusterView, step: Step) -> bool:
    """Whether a view shows what a step was to bring about."""
    node = view.sight(step.pod)
    if not isinstance(node, NodeView):
        return False
    match step:
        case EnableNode() | EnableSingleNode():
            return node.state not in (SetupState.DISABLED, SetupState.SINGLE_DISABLED)
        case AddNode(member=member):
            return member in node.cluster_nodes
        case FinishCluster():
            return node.finished
        case EnsureDatabase(database=database):
            return node.finished and database not in node.unreadable
        case _:
            return False


def _after(topology: Topology, view: ClusterView, node: NodeView, step: Step) -> ClusterView:
    match step:
        case EnableNode():
            return _with(view, replace(node, state=SetupState.ENABLED))
        case EnableSingleNode():
            return _with(view, replace(node, state=SetupState.SINGLE_ENABLED))
        case SetSecret():
            identity = replace(node.identity or Identity(), secret="new", old_secret=False)  # noqa: S106
            return _with(view, replace(node, identity=identity))
        case AddNode(member=member, introduces=introduces):
            joined = view.seen_anew(_joined(topology, view, node, member))
            if introduces:
                return joined
            new = {node.pod} if view.prior and node.name not in view.prior else set()
            return replace(
                joined,
                added=view.added | {node.pod},
                without_shards=view.without_shards | new,
            )
        case FinishCluster():
            return view.seen_anew(_finished(view, node))
        case EnsureDatabase(database=database):
            return view.seen_anew(
                {
                    n.pod: replace(n, unreadable=tuple(d for d in n.unreadable if d != database))
                    for n in view.nodes
                }
            )
        case SyncIdentity(source=source, keys=keys):
            giver = view.sight(source)
            if not isinstance(giver, NodeView):
                return view
            return _with(view, replace(node, identity=_synced(node, giver, keys)))
        case AnnounceSecret():
            everybody = frozenset(n.pod for n in view.nodes)
            return view.seen_anew(
                {n.pod: replace(n, sessions=everybody) for n in view.nodes if n.sessions}
            )
        case SyncShards():
            return replace(view, copies=view.copies and replace(view.copies, synced=True))
        case AddCopies():
            return view.seen_anew({n.pod: _with_copies(n, step) for n in view.nodes})
        case _:
            return view


def _joined(
    topology: Topology, view: ClusterView, node: NodeView, name: str
) -> dict[str, NodeView]:
    """Everybody linked to either side lists everybody, and those that answer are connected."""
    groups = Membership.of(topology, view).groups
    linked = [g for g in groups if name in g.names or node.name in g.names]
    members = [member for group in linked for member in group.nodes]
    names = frozenset().union(*(m.cluster_nodes | {m.name} for m in members))
    alive = frozenset(member.name for member in members)
    known = frozenset().union(*(member.all_nodes for member in members if member is not node))
    finished = any(member.finished for member in members if member is not node)
    volume = next((m.volume for m in members if m is not node and m.volume is not None), None)
    return {
        member.pod: replace(
            member,
            cluster_nodes=names,
            all_nodes=alive | (known & names),
            state=SetupState.FINISHED if finished and member is node else member.state,
            volume=member.volume or volume,
            overdue=frozenset(),
            identity=member.identity or (Identity() if finished else None),
        )
        for member in members
    }


def _finished(view: ClusterView, node: NodeView) -> dict[str, NodeView]:
    done = {
        SetupState.ENABLED: SetupState.FINISHED,
        SetupState.SINGLE_DISABLED: SetupState.SINGLE_ENABLED,
    }
    return {
        other.pod: replace(
            other,
            state=done.get(other.state, other.state),
            identity=node.identity,
            databases=(other.databases or frozenset()).union(DEFAULT_DATABASES),
            unreadable=(),
        )
        for other in view.nodes
        if node.name in other.cluster_nodes
    }


def _synced(node: NodeView, giver: NodeView, keys: Iterable[str]) -> Identity:
    mine, theirs = node.identity or Identity(), giver.identity or Identity()
    for key in keys:
        kind, _, user = key.partition("/")
        if user:
            mine = replace(mine, admins={**mine.admins, user: theirs.admins[user]})
        else:
            mine = replace(mine, **{kind: getattr(theirs, kind)})
    return mine


def _with_copies(node: NodeView, step: AddCopies) -> NodeView:
    volume = node.volume
    if volume is None or volume.maps is None:
        return node
    maps = tuple(
        replace(
            each,
            by_range={
                name: tuple(dict.fromkeys([*holders, *step.nodes]))
                for name, holders in each.by_range.items()
            },
        )
        if each.database == step.database
        else each
        for each in volume.maps
    )
    return replace(node, volume=replace(volume, maps=maps))


def _with(view: ClusterView, node: NodeView) -> ClusterView:
    return view.seen_anew({node.pod: node})
