"""What the steps would lead to, without taking any: the whole plan ahead. Pure."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace

from couchdiscover.decide.membership import groups
from couchdiscover.state.nodes import ClusterView, Identity, NodeView, SetupState
from couchdiscover.state.steps import Decision, Do, Step, StepKind

ROUNDS = 8
"""More rounds of steps than any plan has: enable and join, finish, databases, identity."""


@dataclass(frozen=True, slots=True)
class Forecast:
    """All steps in order, and the decision that follows the last of them."""

    steps: tuple[Step, ...]
    end: Decision


def forecast(view: ClusterView, decide: Callable[[ClusterView], Decision]) -> Forecast:
    """Follows ``decide`` from a view, each step doing what it is meant to do."""
    steps: tuple[Step, ...] = ()
    decision = decide(view)
    for _ in range(ROUNDS):
        if not isinstance(decision, Do):
            break
        steps += decision.steps
        view = imagine(view, decision.steps)
        decision = decide(view)
    return Forecast(steps, decision)


def imagine(view: ClusterView, steps: Iterable[Step]) -> ClusterView:
    """The view after some steps, all of them successful and all news spread."""
    for step in steps:
        nodes = {node.pod: node for node in view.nodes}
        node = nodes.get(step.pod)
        if node is None:
            continue
        match step.kind:
            case StepKind.ENABLE_NODE:
                nodes[step.pod] = replace(node, state=SetupState.ENABLED)
            case StepKind.ENABLE_SINGLE_NODE:
                nodes[step.pod] = replace(node, state=SetupState.SINGLE_ENABLED)
            case StepKind.SET_SECRET:
                nodes[step.pod] = replace(node, identity=_changed(node, secret="new"))  # noqa: S106
            case StepKind.ADD_NODE:
                nodes = _joined(view, node, step.name)
                if step.name not in node.overdue:
                    new = {step.pod} if view.veterans and node.name not in view.veterans else set()
                    view = replace(
                        view, joined=view.joined | {step.pod}, newcomers=view.newcomers | new
                    )
            case StepKind.FINISH_CLUSTER:
                nodes = _finished(view, node)
            case StepKind.ENSURE_DB:
                nodes = {
                    pod: replace(n, unreadable=tuple(d for d in n.unreadable if d != step.name))
                    for pod, n in nodes.items()
                }
            case StepKind.SYNC_IDENTITY:
                source = nodes.get(step.to or "", node)
                taken = {key: getattr(source.identity, key, None) for key in step.keys}
                nodes[step.pod] = replace(node, identity=_changed(node, **taken))
        view = replace(view, sights=tuple(nodes.get(s.pod, s) for s in view.sights))
    return view


def _joined(view: ClusterView, node: NodeView, name: str) -> dict[str, NodeView]:
    """Everybody linked to either side lists everybody, and those that answer are connected."""
    linked = [g for g in groups(view) if name in g.names or node.name in g.names]
    names = frozenset().union(*(group.names for group in linked))
    members = [member for group in linked for member in group.nodes]
    alive = frozenset(member.name for member in members)
    known = frozenset().union(*(member.all_nodes for member in members if member is not node))
    finished = any(member.finished for member in members if member is not node)
    state = SetupState.FINISHED if finished else node.state
    return {
        member.pod: replace(
            member,
            cluster_nodes=names,
            all_nodes=alive | (known & names),
            state=state if member is node else member.state,
            holdings=None,
            overdue=frozenset(),
            identity=member.identity or (Identity() if finished else None),
        )
        for member in members
    } | {other.pod: other for other in view.nodes if other not in members}


def _finished(view: ClusterView, node: NodeView) -> dict[str, NodeView]:
    done = {
        SetupState.ENABLED: SetupState.FINISHED,
        SetupState.SINGLE_DISABLED: SetupState.SINGLE_ENABLED,
    }
    return {
        other.pod: replace(
            other, state=done.get(other.state, other.state), identity=node.identity, unreadable=()
        )
        if node.name in other.cluster_nodes
        else other
        for other in view.nodes
    }


def _changed(node: NodeView, **values: str | None) -> Identity:
    return replace(node.identity or Identity(), **values)
