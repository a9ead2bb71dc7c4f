"""What a run says on its way: each change once, however often it looks."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from couchdiscover.output.log import LOGGER
from couchdiscover.output.report import Record
from couchdiscover.state.nodes import ClusterView, NodeView
from couchdiscover.state.steps import Step
from couchdiscover.state.topology import Topology

TOLD = 5
"""How many pods a message names."""


@dataclass(slots=True)
class Narrator:
    """Keeps what was said, so that the log has a line for each change and none for each look."""

    record: Record
    _nodes: dict[str, str] = field(default_factory=dict)
    _waiting: dict[str, str] = field(default_factory=dict)
    _problems: dict[Step, str] = field(default_factory=dict)

    def warn(self, warnings: Iterable[str]) -> None:
        """Says warnings, and keeps them for the report."""
        for warning in self.record.warn(warnings):
            LOGGER.warning(warning)

    def seen(self, view: ClusterView) -> None:
        """Says what changed at the nodes since the last look."""
        for node in view.nodes:
            version = f"CouchDB {node.version}" if node.version else "CouchDB"
            connected = len(node.all_nodes & node.cluster_nodes)
            facts = f"{node.state}, {connected} of {len(node.cluster_nodes)} members connected"
            if self._nodes.get(node.pod) != facts:
                known = node.pod in self._nodes
                self._nodes[node.pod] = facts
                LOGGER.info(
                    f"{node.pod}: {facts}"
                    if known
                    else f"{node.pod} answers at {node.address} as {node.name}, {version}: {facts}"
                )

    def waiting(self, reasons: Mapping[str, str]) -> None:
        """Says what is waited for, where that is new. A reason without a pod stands for itself."""
        self._waiting = {p: r for p, r in self._waiting.items() if p in reasons}
        for pod, reason in list(reasons.items())[:TOLD]:
            if self._waiting.get(pod) != reason:
                LOGGER.info(f"waiting for {pod} {reason}" if pod else f"waiting: {reason}")
        self._waiting |= reasons

    def taken(self, step: Step) -> None:
        """Says a step that changed something, and keeps it for the report."""
        self.record.steps.append(step)
        LOGGER.info(str(step))

    def failed(self, step: Step, problem: str | None) -> None:
        """Says why a step did not succeed, where that is new; None where it did after all."""
        if problem is None:
            self._problems.pop(step, None)
        elif self._problems.get(step) != problem:
            self._problems[step] = problem
            LOGGER.warning(f"{step.kind} {step.pod} did not succeed: {problem}")

    def problems(self) -> list[str]:
        """The steps that have failed, and why."""
        return [
            f"{step.kind} {step.pod} failed: {problem}"
            for step, problem in list(self._problems.items())[:TOLD]
        ]


def told(reasons: Mapping[str, str]) -> str:
    """What is waited for, in one sentence."""
    waited = [f"{pod} {reason}" for pod, reason in reasons.items() if pod]
    plain = [reason for pod, reason in reasons.items() if not pod]
    return "; ".join(plain) or f"waiting for {listed(waited)}"


def told_steps(steps: Iterable[Step]) -> str:
    """Steps, in short."""
    return listed([f"{step.kind} {step.pod}" for step in steps])


def listed(texts: Sequence[str]) -> str:
    """The first few of many."""
    more = f", and {len(texts) - TOLD} more" if len(texts) > TOLD else ""
    return "; ".join(texts[:TOLD]) + more


def hidden_pods(topology: Topology) -> str:
    """What a Service that hides pods which are not ready does to them."""
    return (
        f"Service {topology.service} hides pods that are not ready, so they cannot find each other "
        "before they are: set publishNotReadyAddresses: true"
    )


def conclusion(topology: Topology, view: ClusterView, *, changed: bool) -> str:
    """What holds at the end, in a sentence."""
    if topology.own is not None:
        own = view.sight(topology.own)
        members = len(own.cluster_nodes) if isinstance(own, NodeView) else 0
        return f"{topology.own} {'is now' if changed else 'is'} in a cluster of {members}"
    nodes = len(topology.expected)
    if nodes == 1:
        return "1 node is set up" + ("" if changed else ", as it was")
    return f"{nodes} nodes are one cluster, verified on each" + (
        "" if changed else ", as they were"
    )
