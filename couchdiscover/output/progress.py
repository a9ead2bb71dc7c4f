"""Live progress on a terminal: which nodes are up, enabled, joined. Nothing anywhere else."""

import sys
from types import TracebackType
from typing import Any, Self

from couchdiscover.net.deadline import Deadline
from couchdiscover.output.log import Output
from couchdiscover.output.report import Record
from couchdiscover.state.nodes import NodeView, Sight
from couchdiscover.state.topology import Topology

SHOWN = 8


class Progress:
    """A status line under the log, where stderr is a terminal and the log is text.

    A context manager; log lines are printed above the status line while it lives.
    """

    def __init__(self, output: Output, deadline: Deadline, *, enabled: bool) -> None:
        self._output = output
        self._deadline = deadline
        self._enabled = enabled and sys.stderr.isatty()
        self._status: Any = None

    def __enter__(self) -> Self:
        if self._enabled:
            from rich.console import Console

            console = Console(stderr=True)
            self._status = console.status("reading the StatefulSet")
            self._status.start()
            self._output.write = lambda line: console.print(
                line, markup=False, highlight=False, soft_wrap=True
            )
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._status is not None:
            self._status.stop()
            self._output.write = Output().write

    def show(self, record: Record) -> None:
        """Draws what the last look saw."""
        if self._status is None or record.topology is None or record.view is None:
            return
        from rich.markup import escape

        parts = [
            f"{pod.name} {word(record.view.sight(pod.name), record.topology)}"
            for pod in record.topology.expected[:SHOWN]
        ]
        more = len(record.topology.expected) - len(parts)
        parts += [f"and {more} more"] if more > 0 else []
        clock = f"{self._deadline.elapsed:.0f} s of {self._deadline.seconds:.0f} s"
        self._status.update(escape(f"{' · '.join(parts)}  ({clock})"))


def word(sight: Sight, topology: Topology) -> str:
    """A node's state in a word."""
    if not isinstance(sight, NodeView):
        return "down"
    if len(sight.cluster_nodes) < min(2, len(topology.expected)):
        return "up" if sight.state.endswith("disabled") else "enabled"
    if sight.finished:
        return "finished"
    return "joined" if len(sight.cluster_nodes) > 1 else "enabled"
