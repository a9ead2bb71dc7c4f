"""Identity drift: whose admin hash, uuid and secret hold where the nodes of a cluster differ. Pure.

Every restart of a pod of the official image is drift (a new hash; uuid and secret gone or back to
what the environment gives), so it is never a reason to refuse.
"""

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, fields

from couchdiscover.state.nodes import Identity, NodeView
from couchdiscover.state.steps import Step, StepKind

KEYS = tuple(field.name for field in fields(Identity))

TIE_SECONDS = 10.0
"""Uptimes closer than this say nothing about which node is the older one."""


@dataclass(frozen=True, slots=True)
class Drift:
    """What differs. ``steps`` make it equal; ``undecided`` are keys for which no majority spoke."""

    steps: tuple[Step, ...] = ()
    undecided: tuple[str, ...] = ()
    secretless: bool = False


def needs_uptime(nodes: Sequence[NodeView], voters: Iterable[str]) -> bool:
    """Whether the uptimes are needed to decide: some value differs, and none has a majority."""
    voting = _voting(nodes, voters)
    return any(_differs(nodes, key) and _majority(voting, key) is None for key in KEYS)


def drift(nodes: Sequence[NodeView], voters: Iterable[str], source: str | None = None) -> Drift:
    """Compares the identity of ``nodes``, value by value.

    Only ``voters`` (Erlang names) have a vote: more than half of those that answer give their value
    to the others; else the one that is up the longest does (under 10 s apart is a tie, won by the
    lowest ordinal). ``source`` is a pod whose values are to be taken instead of any vote.
    """
    voting = _voting(nodes, voters)
    named = next((node for node in nodes if node.pod == source), None)
    pairs: dict[tuple[str, str], list[str]] = {}
    undecided = []
    for key in KEYS:
        if not _differs(nodes, key):
            continue
        giver = named if named is not None and _value(named, key) else _majority(voting, key)
        if giver is None:
            giver = _oldest([node for node in voting if _value(node, key)])
            if giver is None:
                continue  # no voter has a value to give
            undecided.append(key)
        for node in nodes:
            if node.identity is not None and _value(node, key) != _value(giver, key):
                pairs.setdefault((node.pod, giver.pod), []).append(key)
    names = {node.pod: node.name for node in nodes}
    steps = tuple(
        Step(
            StepKind.SYNC_IDENTITY,
            pod,
            why="sessions and replications need the same values on every node",
            to=giver_pod,
            name=names[giver_pod],
            keys=tuple(keys),
        )
        for (pod, giver_pod), keys in sorted(pairs.items())
    )
    secretless = bool(voting) and all(_value(node, "secret") is None for node in nodes)
    return Drift(steps, tuple(undecided), secretless)


def _voting(nodes: Sequence[NodeView], voters: Iterable[str]) -> list[NodeView]:
    allowed = set(voters)
    return [node for node in nodes if node.name in allowed and node.identity is not None]


def _value(node: NodeView, key: str) -> str | None:
    value: str | None = getattr(node.identity, key, None)
    return value


def _differs(nodes: Sequence[NodeView], key: str) -> bool:
    return len({_value(node, key) for node in nodes if node.identity is not None}) > 1


def _majority(voting: Sequence[NodeView], key: str) -> NodeView | None:
    counts = Counter(value for node in voting if (value := _value(node, key)))
    for value, count in counts.most_common(1):
        if count * 2 > len(voting):
            return next(node for node in voting if _value(node, key) == value)
    return None


def _oldest(nodes: Sequence[NodeView]) -> NodeView | None:
    if not nodes:
        return None
    longest = max(node.uptime or 0.0 for node in nodes)
    return next(node for node in nodes if longest - (node.uptime or 0.0) < TIE_SECONDS)
