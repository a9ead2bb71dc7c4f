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
from couchdiscover.state.volumes import Mark, ShardMap, Volume

SIMULATED_AT = "by then"
"""When a mark is written that no run has written yet."""

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
            added = view.added | {node.pod}
            return replace(
                joined,
                added=added,
                without_shards=view.without_shards | new,
                prior=_prior(joined, added),
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
    # The maps of the system databases reach everybody, and with them "finished" does.
    finished = any(member.finished for member in members)
    volume = _merged(members)
    joined = {
        member.pod: replace(
            member,
            cluster_nodes=names,
            all_nodes=alive | (known & names),
            state=SetupState.FINISHED if finished else member.state,
            volume=volume if member.volume is None else _with_maps(member.volume, volume),
            overdue=frozenset(),
            identity=member.identity or (Identity() if finished else None),
            # A run asks for them between joining and finishing.
            databases=member.databases
            if member.databases is not None or not member.alone
            else frozenset(each.database for each in (volume.maps or () if volume else ())),
        )
        for member in members
    }
    if not finished:
        return joined
    return {
        pod: replace(member, up=member.up or "ok", volume=_verified(member))
        for pod, member in joined.items()
    }


def _prior(view: ClusterView, added: frozenset[str]) -> frozenset[str]:
    """Members of a finished cluster, without those that this run has added."""
    new = {node.name for node in view.nodes if node.pod in added}
    finished = {node.name for node in view.nodes if node.finished and not node.alone}
    return view.prior.union(finished) - new


def _merged(members: Iterable[NodeView]) -> Volume | None:
    """The maps that all members have in the end, and which of their databases hold documents."""
    volumes = [member.volume for member in members if member.volume is not None]
    best: dict[str, ShardMap] = {}
    for each in (each for volume in volumes for each in volume.maps or ()):
        if each.database not in best or each.rank > best[each.database].rank:
            best[each.database] = each
    filled = [volume.filled for volume in volumes if volume.filled is not None]
    if not best:
        return None
    return Volume(
        maps=tuple(best[name] for name in sorted(best)),
        filled=frozenset().union(*filled) if filled else None,
    )


def _with_maps(volume: Volume, merged: Volume | None) -> Volume:
    if merged is None or merged.maps is None:
        return volume
    return replace(volume, maps=merged.maps, filled=merged.filled)


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
            up=other.up or "ok",
            volume=_verified(other),
        )
        for other in view.nodes
        if node.name in other.cluster_nodes
    }


def _verified(node: NodeView) -> Volume:
    """A volume as it is seen when all is well: what will lie there is not known beforehand."""
    known = node.volume or Volume()
    uuid = known.uuid or f"of {node.name}"
    return replace(
        known,
        files=known.files or frozenset(),
        maps=known.maps or (),
        uuid=uuid,
        traces=known.traces or (),
        mark=known.mark or Mark(node.name, uuid, {}, at=SIMULATED_AT),
    )


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
