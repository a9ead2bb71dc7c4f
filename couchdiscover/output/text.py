"""The result for people.

The tables are made by hand: rich, which could do it, takes 50 ms to import, a fifth of a run that
finds everything done.
"""

from collections import Counter
from collections.abc import Callable, Sequence

import typer

from couchdiscover.decide.findings import Severity
from couchdiscover.output import docs
from couchdiscover.output.events import LINES
from couchdiscover.output.report import Report, problem
from couchdiscover.state.nodes import NodeView, Sight
from couchdiscover.state.steps import Step

Clean = Callable[[str], str]
Row = tuple[str, ...]

_NODE_TITLES = ("NODE", "ADDRESS", "STATE", "MEMBERS", "VERSION", "NAME")
_CONDITION_TITLES = ("CONDITION", "STATUS", "MESSAGE")
_COLOURS = {
    "True": typer.colors.GREEN,
    "False": typer.colors.RED,
    "Unknown": typer.colors.YELLOW,
    str(Severity.FAULT): typer.colors.RED,
    str(Severity.WARNING): typer.colors.YELLOW,
}


def as_text(report: Report, clean: Clean, *, colour: bool = False) -> str:
    """A line for each node, what was done or found, and the verdict.

    ``clean`` takes secrets out; ``colour`` is for terminals.
    """
    if report.record.command == "check":
        lines = _verdict(report, clean, _painted if colour else _plain)
    else:
        lines = _story(report, clean)
    if report.exit_code != 0:
        lines.append(f"see {docs.of_exit_code(report.exit_code)}")
    return "\n".join(lines)


def _story(report: Report, clean: Clean) -> list[str]:
    """What run, plan and the like say: the nodes, the steps, the warnings."""
    record = report.record
    lines = table([(*row[:4], row[5]) for row in _node_rows(record.sights, clean)])
    if record.steps:
        lines.append("steps to take:" if record.planned else "steps taken:")
        lines += [f"  {clean(line)}" for line in _step_lines(record.steps)]
    lines += [f"{Severity.WARNING}: {clean(warning)}" for warning in record.warnings]
    return [*lines, clean(report.message)]


def _step_lines(steps: Sequence[Step]) -> list[str]:
    """A line for each step; many of one kind are counted in one."""
    counts = Counter(step.kind for step in steps)
    lines = {}
    for step in steps:
        many = counts[step.kind] > LINES
        line = f"{counts[step.kind]} times {step.kind}: {step.why}" if many else str(step)
        lines[step.kind if many else line] = line
    return list(lines.values())


def _verdict(report: Report, clean: Clean, paint: Callable[[str, str], str]) -> list[str]:
    """What check says: node by node, condition by condition, finding by finding."""
    record = report.record
    lines = []
    if record.sights:
        judged = report.conditions
        told = [(each.type, each.status, clean(each.message)) for each in judged]
        titles, *rows = table([_CONDITION_TITLES, *told])
        painted = [paint(each.status, row) for each, row in zip(judged, rows, strict=True)]
        nodes = table([_NODE_TITLES, *_node_rows(record.sights, clean)])
        lines += [*nodes, "", titles, *painted, ""]
    findings = [(found.severity, found.message) for found in record.findings]
    pages = {found.message: docs.of_finding(found.kind) for found in record.findings}
    remarks = [
        *(each for each in findings if each[0] is Severity.FAULT),
        *((Severity.WARNING, warning) for warning in record.warnings),
        *(each for each in findings if each[0] is Severity.INFO),
    ]
    for severity, text in remarks:
        lines.append(paint(severity, f"{severity}: {clean(text)}"))
        lines += [f"  see {pages[text]}"] if text in pages else []
    lines += [""] if remarks else []
    return [*lines, paint(str(report.exit_code == 0), clean(report.message))]


def _node_rows(sights: Sequence[Sight], clean: Clean) -> list[Row]:
    return [_node_row(sight, clean) for sight in sights]


def _node_row(sight: Sight, clean: Clean) -> Row:
    address = str(sight.address) if sight.address else "-"
    told = problem(sight)
    if not isinstance(sight, NodeView):
        told = (told or "").replace(f" at {address}", "", 1)  # it has a column of its own
        return (sight.pod, address, "-", "-", "-", clean(told))
    connected = f"{len(sight.all_nodes & sight.cluster_nodes)}/{len(sight.cluster_nodes)} connected"
    name = clean(sight.name) + (f" ({clean(told)})" if told else "")
    return (sight.pod, address, str(sight.state), connected, clean(sight.version or "-"), name)


def table(rows: Sequence[Row]) -> list[str]:
    """Columns of equal width, but for the last one."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)][:-1]
    return [
        "  ".join([*(cell.ljust(w) for cell, w in zip(row, widths, strict=False)), row[-1]])
        for row in rows
    ]


def _painted(kind: str, text: str) -> str:
    """A text in the colour of what it tells."""
    return typer.style(text, fg=_COLOURS[kind]) if kind in _COLOURS else text


def _plain(_kind: str, text: str) -> str:
    return text
