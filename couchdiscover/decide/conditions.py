"""The state of the set in the shape of Kubernetes' conditions. Pure."""

from collections.abc import Sequence
from dataclasses import dataclass

from couchdiscover.decide.findings import SHOWN, named
from couchdiscover.decide.identity import drift
from couchdiscover.decide.membership import Membership
from couchdiscover.state.nodes import ClusterView, NodeView
from couchdiscover.state.topology import Topology

TYPES = ("Reachable", "Enabled", "Joined", "Connected", "Finished", "Consistent")
"""What is judged, in the order of the report."""


@dataclass(frozen=True, slots=True)
class Condition:
    """In the shape of Kubernetes' conditions; ``status`` is True, False or Unknown."""

    type: str
    status: str
    reason: str
    message: str


def conditions(
    topology: Topology, view: ClusterView, *, finished_here: bool = False
) -> list[Condition]:
    """One for each of TYPES. ``finished_here`` says that this run has finished the cluster."""
    nodes, total = view.nodes, len(topology.expected)
    expected = frozenset(node.name for node in nodes)
    left_behind = frozenset(Membership.of(topology, view).left_behind)
    return [
        Condition(
            "Reachable",
            _status(len(nodes) == total),
            "AllNodesAnswer" if len(nodes) == total else "NodesSilent",
            f"{len(nodes)} of {total} nodes answer",
        ),
        _counted("Enabled", "enabled", [not n.state.endswith("disabled") for n in nodes], total),
        _counted(
            "Joined",
            "list exactly the expected members",
            [
                expected <= n.cluster_nodes
                and len(n.cluster_nodes) >= total
                and left_behind.isdisjoint(n.cluster_nodes)
                for n in nodes
            ],
            total,
        ),
        _connected(nodes, total),
        _counted("Finished", "report a finished cluster", [n.finished for n in nodes], total),
        _consistent(topology, view, finished_here),
    ]


def not_looked_at() -> list[Condition]:
    """The conditions where no node was looked at."""
    return [Condition(kind, "Unknown", "NotLookedAt", "no node was looked at") for kind in TYPES]


def summary(succeeded: bool) -> Condition:
    """The last condition: whether the command reached what was asked for."""
    if succeeded:
        return Condition("Succeeded", "True", "ConditionsMet", "what was asked for holds")
    return Condition("Succeeded", "False", "ConditionsNotMet", "what was asked for does not hold")


def _status(value: bool) -> str:
    return "True" if value else "False"


def _counted(
    kind: str, what: str, holds: Sequence[bool], total: int, detail: str = ""
) -> Condition:
    """True where it holds on every expected node; Unknown where only silent ones may lack it."""
    met = sum(holds)
    if met < len(holds):
        status, reason = "False", f"Not{kind}"
    elif len(holds) < total:
        status, reason = "Unknown", "NodesSilent"
    else:
        status, reason = "True", f"All{kind}"
    return Condition(kind, status, reason, f"{met} of {total} nodes {what}{detail}")


def _connected(nodes: Sequence[NodeView], total: int) -> Condition:
    """Each node to all that answer and to all that it lists; the message names who is not."""
    pods = {node.name: node.pod for node in nodes}
    apart = []
    for node in nodes:
        missing = (pods.keys() | node.cluster_nodes) - node.all_nodes
        if missing:
            apart.append(f"{node.pod} not to {named([pods.get(name, name) for name in missing])}")
    told = "; ".join(apart[:SHOWN]) + ("; …" if len(apart) > SHOWN else "")
    holds = [True] * (len(nodes) - len(apart)) + [False] * len(apart)
    detail = f" ({told})" if told else ""
    return _counted("Connected", "are connected to all members", holds, total, detail)


def _consistent(topology: Topology, view: ClusterView, finished_here: bool) -> Condition:
    def condition(status: str, reason: str, message: str) -> Condition:
        return Condition("Consistent", status, reason, message)

    nodes, total = view.nodes, len(topology.expected)
    if not nodes or not all(node.finished for node in nodes):
        return condition("Unknown", "NotFinished", "compared in finished clusters")
    if total == 1:
        return condition("True", "SingleNode", "there is one node only")
    if finished_here and not view.prior:
        return condition("True", "FinishedNow", "finishing made all nodes the same")
    silent = condition("Unknown", "NodesSilent", "some node could not be compared")
    if any(node.identity is None for node in nodes):
        return condition("Unknown", "NotCompared", silent.message)
    found = drift(
        nodes,
        view.prior or [node.name for node in nodes],
        secret_intended=topology.secret_intended,
    )
    if found.differs:
        differing = {step.pod for step in found.steps} | {*found.kept, *found.intended}
        pods = sorted(differing) or [nodes[0].pod]
        return condition("False", "IdentityDrift", f"not as the others: {', '.join(pods)}")
    if len(nodes) < total:
        return silent
    return condition(
        "True", "IdentityShared", f"{len(nodes)} nodes share one admin hash, uuid and secret"
    )
