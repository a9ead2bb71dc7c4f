"""What a command says on its way, each change once; and the only one that fills the record."""

import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from couchdiscover.decide.findings import Finding
from couchdiscover.net.http import CLOSED, NO_TLS, NOT_ACCEPTED, REFUSED
from couchdiscover.output.log import LOGGER
from couchdiscover.output.report import Record
from couchdiscover.state.nodes import ClusterView, NodeView
from couchdiscover.state.reasons import CopiesFilling, Reason, Reasons, Silent
from couchdiscover.state.steps import Step
from couchdiscover.state.topology import Scope, Topology

TOLD = 5
"""How many pods a message names."""

LINES = 10
"""Steps of one kind that have a line each; of more there is a count."""

COUNT_SECONDS = 5.0
"""Seconds between two counts of many steps."""

PROGRESS_SECONDS = 60.0
"""Seconds between two lines on something that advances for long."""


@dataclass(slots=True)
class Narrator:
    """Keeps what was said, so that the log has a line for each change and none for each look."""

    record: Record
    _nodes: dict[str, str] = field(default_factory=dict)
    _waiting: dict[str, str] = field(default_factory=dict)
    _problems: dict[Step, str] = field(default_factory=dict)
    _told_progress_at: float = 0.0

    # --- what was seen ---

    def target(self, namespace: str, statefulset: str, scope: Scope, pod: str | None) -> None:
        """Says what the command is about."""
        self.record.namespace, self.record.statefulset = namespace, statefulset
        own = f" ({pod})" if pod else ""
        LOGGER.info(f"StatefulSet {statefulset} in {namespace}, scope {scope}{own}")

    def discovered(self, topology: Topology) -> None:
        """Keeps the StatefulSet as it stands, and says what is remarkable about it."""
        self.record.topology = topology
        self.warn(topology.warnings)
        if topology.unpublished and topology.own:
            self.warn([hidden_pods(topology)])

    def seen(self, view: ClusterView) -> None:
        """Keeps a look, and says what changed at the nodes since the last one."""
        self.record.view = view
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

    def waiting(self, reasons: Reasons) -> None:
        """Says what is waited for, where that is new. A reason without a pod stands for itself."""
        self._waiting = {p: r for p, r in self._waiting.items() if p in reasons}
        new = {
            pod: reason
            for pod, reason in reasons.items()
            if self._waiting.get(pod) != str(reason) and not self._advances(pod, reason)
        }
        for line in together({pod: reason for pod, reason in new.items() if pod})[:TOLD]:
            LOGGER.info(f"waiting for {line}")
        if "" in new:
            LOGGER.info(f"waiting: {new['']}")
        self._waiting |= {pod: str(reason) for pod, reason in new.items()}
        self._waiting |= {
            pod: str(reason)
            for pod, reason in reasons.items()
            if not isinstance(reason, CopiesFilling)
        }

    def _advances(self, pod: str, reason: Reason) -> bool:
        """Whether a line on it was written not long ago: it will be another one soon."""
        if not isinstance(reason, CopiesFilling) or pod not in self._waiting:
            self._told_progress_at = time.monotonic()
            return False
        if time.monotonic() - self._told_progress_at < PROGRESS_SECONDS:
            return True
        self._told_progress_at = time.monotonic()
        return False

    # --- what was done ---

    def warn(self, warnings: Iterable[str]) -> None:
        """Says warnings, and keeps them for the report."""
        for warning in self.record.warn(warnings):
            LOGGER.warning(warning)

    def note(self, text: str) -> None:
        """Says what is worth a line, and no more."""
        LOGGER.info(text)

    def taken(self, step: Step) -> None:
        """Says a step that changed something, and keeps it for the report."""
        self.record.steps.append(step)
        LOGGER.info(str(step))

    def counting(self, count: int) -> Callable[[Step], None]:
        """As ``taken``, for so many steps; of more than ``LINES`` the log has counts, not lines."""
        if count <= LINES:
            return self.taken
        done: dict[str, int] = {}
        told_at = time.monotonic()

        def taken(step: Step) -> None:
            nonlocal told_at
            self.record.steps.append(step)
            done[step.kind] = done.get(step.kind, 0) + 1
            if time.monotonic() - told_at >= COUNT_SECONDS or sum(done.values()) == count:
                told_at = time.monotonic()
                LOGGER.info(", ".join(f"{kind}: {n} of {count}" for kind, n in done.items()))

        return taken

    def planned(self, steps: Iterable[Step]) -> None:
        """Keeps the steps that would be taken."""
        self.record.steps, self.record.planned = list(steps), True

    def found(self, findings: Iterable[Finding]) -> None:
        """Keeps what was found beyond membership."""
        self.record.findings = list(findings)

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


def told(reasons: Mapping[str, Reason]) -> str:
    """What is waited for, in one sentence."""
    waited = together({pod: reason for pod, reason in reasons.items() if pod})
    plain = [str(reason) for pod, reason in reasons.items() if not pod]
    return "; ".join(plain) or f"waiting for {listed(waited)}"


def together(reasons: Reasons, verb: str = "") -> list[str]:
    """Reasons by pod, behind their pods' names: one that several pods have is said once, of all.

    ``verb`` stands between them, in the singular.
    """
    pods: dict[str, list[str]] = {}
    for pod, reason in reasons.items():
        pods.setdefault(str(reason), []).append(pod)
    lines = []
    for text, names in pods.items():
        words = verb if len(names) == 1 else verb.removesuffix("s")
        lines.append(" ".join(filter(None, (_named(names), words, text))))
    return lines


def _named(names: Sequence[str]) -> str:
    more = f" and {len(names) - TOLD} more" if len(names) > TOLD else ""
    return ", ".join(names[:TOLD]) + more


_QUESTIONS = {
    REFUSED: (
        "is CouchDB up there, at this port (--port), and bound to the pod's address and not to "
        "127.0.0.1 ([chttpd] bind_address)?"
    ),
    CLOSED: "is https spoken there (--scheme https), or is it another port (--port)?",
    NOT_ACCEPTED: "does --ca-file name the certificates that CouchDB's is signed by?",
    NO_TLS: "is http spoken there (--scheme http), or is it another port (--port)?",
}


def questions(reasons: Iterable[Reason]) -> list[str]:
    """What to look at where nodes are silent, once for all of them."""
    problems = [reason.problem for reason in reasons if isinstance(reason, Silent)]
    return [
        question
        for start, question in _QUESTIONS.items()
        if any(problem.startswith(start) for problem in problems)
    ]


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
    if nodes == 0:
        return f"StatefulSet {topology.statefulset} is scaled to 0: nothing is expected"
    if nodes == 1:
        return "1 node is set up" + ("" if changed else ", as it was")
    return f"{nodes} nodes are one cluster, verified on each" + (
        "" if changed else ", as they were"
    )
