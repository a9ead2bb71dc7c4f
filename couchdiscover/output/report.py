"""What came of it: conditions, text, JSON, the termination message."""

import json
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

from couchdiscover.decide.findings import Finding, Severity
from couchdiscover.decide.identity import drift
from couchdiscover.decide.membership import clusters, match
from couchdiscover.state.nodes import ClusterView, NodeView, Sight
from couchdiscover.state.steps import Step
from couchdiscover.state.topology import Topology

TERMINATION_BYTES = 4096
"""What Kubernetes keeps of a termination message (documentation, "Determine the Reason for Pod
Failure")."""


@dataclass(frozen=True, slots=True)
class Condition:
    """In the shape of Kubernetes' conditions; ``status`` is True, False or Unknown."""

    type: str
    status: str
    reason: str
    message: str


@dataclass(slots=True)
class Record:
    """What a run has learned and done so far; filled as it goes, so that any end can report it."""

    command: str
    namespace: str | None = None
    statefulset: str | None = None
    topology: Topology | None = None
    view: ClusterView | None = None
    finished_here: bool = False
    planned: bool = False
    steps: list[Step] = field(default_factory=list)
    findings: list[Finding] = field(default_factory=list)
    _warnings: dict[str, None] = field(default_factory=dict)

    def warn(self, warnings: Iterable[str]) -> list[str]:
        """Keeps warnings; returns those that are new."""
        new = [warning for warning in warnings if warning not in self._warnings]
        self._warnings |= dict.fromkeys(new)
        return new

    @property
    def warnings(self) -> list[str]:
        """All warnings, each once, in the order they came up."""
        return list(self._warnings)


@dataclass(frozen=True, slots=True)
class Report:
    """The end of a run. ``message`` is its whole reason, in one sentence."""

    record: Record
    result: str
    exit_code: int
    message: str
    elapsed_seconds: float

    def as_text(self, *, colour: bool = False) -> str:
        """For people: a line for each node, the steps, the warnings, the verdict.

        ``colour`` is for terminals.
        """
        record = self.record
        if record.command == "check":
            return self._verdict(_paint if colour else _plain)
        lines = []
        if record.topology and record.view:
            lines += _table([_row(entry) for entry in self._nodes()])
        if record.steps:
            title = "steps to take:" if record.planned else "steps taken:"
            lines += [title, *(f"  {step}" for step in record.steps)]
        lines += [f"warning: {warning}" for warning in record.warnings]
        lines.append(self.message)
        return "\n".join(lines)

    def _verdict(self, paint: Callable[[str, str], str]) -> str:
        """Node by node, condition by condition, finding by finding."""
        record = self.record
        good = self.exit_code == 0
        lines = []
        if record.topology and record.view:
            rows = [_NODE_TITLES, *(_verdict_row(entry) for entry in self._nodes())]
            judged = conditions(record, succeeded=good)
            told = [_CONDITION_TITLES, *((c.type, c.status, c.message) for c in judged)]
            titles, *table = _table(told)
            painted = [paint(c.status, row) for c, row in zip(judged, table, strict=True)]
            lines += [*_table(rows), "", titles, *painted, ""]
        remarks = [
            *(str(found) for found in record.findings if found.severity is Severity.FAULT),
            *(f"{Severity.WARNING}: {warning}" for warning in record.warnings),
            *(str(found) for found in record.findings if found.severity is Severity.INFO),
        ]
        lines += [paint(text.partition(":")[0], text) for text in remarks]
        lines += [""] if remarks else []
        return "\n".join([*lines, paint(_status(good), self.message)])

    def as_json(self) -> str:
        """For machines, on one line."""
        record = self.record
        topology = record.topology
        found = {"findings": [_finding(each) for each in record.findings]}
        return json.dumps(
            {
                "command": record.command,
                "result": self.result,
                "exit_code": self.exit_code,
                "message": self.message,
                "namespace": record.namespace,
                "statefulset": record.statefulset,
                "expected": [pod.name for pod in topology.expected] if topology else [],
                "coordinator": _coordinator(record),
                "nodes": self._nodes(),
                "steps": [_step(step) for step in record.steps],
                "conditions": [
                    {"type": c.type, "status": c.status, "reason": c.reason, "message": c.message}
                    for c in conditions(record, succeeded=self.exit_code == 0)
                ],
                "warnings": record.warnings,
                **(found if record.command == "check" else {}),
                "elapsed_seconds": round(self.elapsed_seconds, 3),
            },
            ensure_ascii=False,
        )

    def termination_message(self, clean: Callable[[str], str] = str) -> str:
        """The reason, cleaned, then cut to what Kubernetes keeps, at a character's end."""
        data = clean(self.message).encode(errors="backslashreplace")
        return data[:TERMINATION_BYTES].decode(errors="ignore")

    def _nodes(self) -> list[dict[str, Any]]:
        if self.record.topology is None or self.record.view is None:
            return []
        view = self.record.view
        return [_node(view.sight(pod.name)) for pod in self.record.topology.expected]


def _node(sight: Sight) -> dict[str, Any]:
    entry: dict[str, Any] = {
        "pod": sight.pod,
        "address": str(sight.address) if sight.address else None,
    }
    if not isinstance(sight, NodeView):
        silent = dict.fromkeys(("name", "version", "state", "members", "connected"))
        return {**entry, **silent, "problem": sight.reason}
    return {
        **entry,
        "name": sight.name,
        "version": sight.version,
        "state": str(sight.state),
        "members": len(sight.cluster_nodes),
        "connected": len(sight.all_nodes & sight.cluster_nodes),
        "problem": sight.severed or _unreadable(sight),
    }


def _finding(found: Finding) -> dict[str, Any]:
    return {
        "finding": found.kind,
        "severity": str(found.severity),
        "subjects": list(found.subjects),
        "message": found.message,
    }


def _unreadable(node: NodeView) -> str | None:
    if not node.unreadable:
        return None
    return f"cannot open {', '.join(node.unreadable)}"


def _coordinator(record: Record) -> str | None:
    """The member through which the others join: of the cluster, else the one that forms it."""
    if record.view is None or record.topology is None:
        return None
    found = clusters(record.view)
    if found:
        return found[0].coordinator.pod if len(found) == 1 else None
    return record.topology.expected[0].name


def _step(step: Step) -> dict[str, Any]:
    described: dict[str, Any] = {"step": str(step.kind), "node": step.pod}
    if step.to:
        described["to"] = step.to
    if step.keys:
        described["keys"] = list(step.keys)
    if step.name and not step.to:
        described["database"] = step.name
    described["reason"] = step.why
    return described


# --- conditions -------------------------------------------------------------------------------


def conditions(record: Record, *, succeeded: bool) -> list[Condition]:
    """The state of the set, condition by condition, and the summary at the end."""
    summary = Condition(
        "Succeeded",
        _status(succeeded),
        "ConditionsMet" if succeeded else "ConditionsNotMet",
        "what was asked for holds" if succeeded else "what was asked for does not hold",
    )
    if record.topology is None or record.view is None:
        kinds = ("Reachable", "Enabled", "Joined", "Connected", "Finished", "Consistent")
        unknown = [Condition(k, "Unknown", "NotLookedAt", "no node was looked at") for k in kinds]
        return [*unknown, summary]
    nodes, total = record.view.nodes, len(record.topology.expected)
    expected = frozenset(node.name for node in nodes)
    members = frozenset().union(*(node.cluster_nodes for node in nodes))
    strangers = frozenset(match(record.topology, record.view, members).strangers)
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
                and strangers.isdisjoint(n.cluster_nodes)
                for n in nodes
            ],
            total,
        ),
        _counted(
            "Connected",
            "are connected to all members",
            [expected <= n.all_nodes and n.cluster_nodes <= n.all_nodes for n in nodes],
            total,
        ),
        _counted("Finished", "report a finished cluster", [n.finished for n in nodes], total),
        _consistent(record, nodes, total),
        summary,
    ]


def _status(value: bool) -> str:
    return "True" if value else "False"


def _counted(kind: str, what: str, holds: Sequence[bool], total: int) -> Condition:
    """True where it holds on every expected node; Unknown where only silent ones may lack it."""
    met = sum(holds)
    if met < len(holds):
        status, reason = "False", f"Not{kind}"
    elif len(holds) < total:
        status, reason = "Unknown", "NodesSilent"
    else:
        status, reason = "True", f"All{kind}"
    return Condition(kind, status, reason, f"{met} of {total} nodes {what}")


def _consistent(record: Record, nodes: Sequence[NodeView], total: int) -> Condition:
    view = record.view
    if not nodes or view is None or not all(node.finished for node in nodes):
        return Condition("Consistent", "Unknown", "NotFinished", "compared in finished clusters")
    if total == 1:
        return Condition("Consistent", "True", "SingleNode", "there is one node only")
    if record.finished_here and not view.veterans:
        return Condition("Consistent", "True", "FinishedNow", "finishing made all nodes the same")
    compared = [node for node in nodes if node.identity is not None]
    if len(compared) < len(nodes):
        return Condition("Consistent", "Unknown", "NotCompared", "some node could not be compared")
    found = drift(nodes, view.veterans or [node.name for node in nodes])
    if found.steps or found.secretless:
        pods = sorted({step.pod for step in found.steps}) or [nodes[0].pod]
        return Condition(
            "Consistent", "False", "IdentityDrift", f"not as the others: {', '.join(pods)}"
        )
    if len(nodes) < total:
        return Condition("Consistent", "Unknown", "NodesSilent", "some node could not be compared")
    return Condition("Consistent", "True", "IdentityShared", f"{len(nodes)} nodes share one")


# --- text -------------------------------------------------------------------------------------


def _row(entry: dict[str, Any]) -> tuple[str, ...]:
    if entry["state"] is None:
        return (entry["pod"], entry["address"] or "-", "-", "-", str(entry["problem"]))
    return (
        entry["pod"],
        entry["address"],
        entry["state"],
        f"{entry['connected']}/{entry['members']} connected",
        entry["problem"] or entry["name"],
    )


_NODE_TITLES = ("NODE", "ADDRESS", "STATE", "MEMBERS", "VERSION", "NAME")
_CONDITION_TITLES = ("CONDITION", "STATUS", "MESSAGE")
_COLOURS = {"True": 32, "False": 31, "Unknown": 33, "fault": 31, "warning": 33}


def _verdict_row(entry: dict[str, Any]) -> tuple[str, ...]:
    if entry["state"] is None:
        return (entry["pod"], entry["address"] or "-", "-", "-", "-", f"fails {entry['problem']}")
    connected = f"{entry['connected']}/{entry['members']} connected"
    name = entry["name"] + (f" ({entry['problem']})" if entry["problem"] else "")
    version = entry["version"] or "-"
    return (entry["pod"], entry["address"], entry["state"], connected, version, name)


def _paint(kind: str, text: str) -> str:
    """A text in the colour of what it tells: green, yellow, red (ECMA-48)."""
    return f"\x1b[{_COLOURS[kind]}m{text}\x1b[0m" if kind in _COLOURS else text


def _plain(_kind: str, text: str) -> str:
    return text


def _table(rows: Sequence[tuple[str, ...]]) -> list[str]:
    """Columns of equal width, but for the last one."""
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]) - 1)]
    return [
        "  ".join([*(cell.ljust(w) for cell, w in zip(row, widths, strict=False)), row[-1]])
        for row in rows
    ]
