"""Timing side by side: what is compared takes turns, so that a busy machine is busy for all."""

import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

Result = TypeVar("Result")

UNCOUNTED = 1
"""Turns before those that count: files are read into memory, for one."""

COUCHDISCOVER = (sys.executable, "-m", "couchdiscover")


@dataclass(frozen=True)
class Row:
    """One line of the results. ``runs`` are single values, of which ``value`` is the median."""

    group: str
    what: str
    value: float
    unit: str
    ratio: float | None = None
    """The median of the ratios taken turn by turn."""
    against: str = ""
    goal: str = ""
    met: bool | None = None
    runs: tuple[float, ...] = ()
    note: str = ""


@dataclass(frozen=True)
class Cost:
    """What a process took: seconds on the clock, and of processor time."""

    wall: float
    cpu: float


def cost(command: Sequence[str], environment: Mapping[str, str] | None = None) -> Cost:
    """Runs a command to its end. Raises RuntimeError where it fails."""
    started = time.monotonic()
    process = subprocess.Popen(
        command,
        env={**os.environ, **(environment or {})},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    _, status, usage = os.wait4(process.pid, 0)
    wall = time.monotonic() - started
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise RuntimeError(f"{command} exited with {process.returncode}")
    return Cost(wall, usage.ru_utime + usage.ru_stime)


def in_turns(cases: Mapping[str, Callable[[], Result]], runs: int) -> dict[str, list[Result]]:
    """Runs every case once, then all again, ``runs`` times; ``UNCOUNTED`` turns come first."""
    results: dict[str, list[Result]] = {name: [] for name in cases}
    for turn in range(UNCOUNTED + runs):
        for name, case in cases.items():
            result = case()
            if turn >= UNCOUNTED:
                results[name].append(result)
    return results


def ratio(values: Sequence[float], others: Sequence[float]) -> float:
    """The median of the ratios, turn by turn."""
    return statistics.median(a / b for a, b in zip(values, others, strict=True))


def row(
    group: str,
    what: str,
    values: Sequence[float],
    unit: str,
    *,
    against: str = "",
    others: Sequence[float] = (),
    at_most: float | None = None,
    note: str = "",
) -> Row:
    """A row; ``at_most`` is the goal of the ratio where there is one, else of the median."""
    value = statistics.median(values)
    compared = ratio(values, others) if others else None
    judged = value if compared is None else compared
    return Row(
        group,
        what,
        value,
        unit,
        compared,
        against,
        "" if at_most is None else f"≤ {at_most:g}" + ("" if compared else f" {unit}"),
        None if at_most is None else judged <= at_most,
        tuple(values),
        note,
    )


@dataclass(frozen=True)
class Watched:
    """A command that was watched while it ran. Memory in MiB."""

    cost: Cost
    memory: float
    threads: int


def watch(command: Sequence[str], environment: Mapping[str, str]) -> Watched:
    """Runs a command and looks at its memory's high-water mark and its threads (Linux only)."""
    started = time.monotonic()
    process = subprocess.Popen(
        command,
        env={**os.environ, **environment},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    # Not rusage's maxrss: a child inherits there what its parent had, and that is the sandbox.
    memory, threads = 0.0, 0
    status = Path(f"/proc/{process.pid}/status")
    while True:
        pid, code, usage = os.wait4(process.pid, os.WNOHANG)
        if pid:
            break
        try:
            facts = dict(line.split(":", 1) for line in status.read_text().splitlines())
        except (OSError, ValueError):
            facts = {}
        if "VmHWM" in facts:
            memory = max(memory, int(facts["VmHWM"].split()[0]) / 1024)
            threads = max(threads, int(facts["Threads"]))
        time.sleep(0.02)
    wall = time.monotonic() - started
    process.returncode = os.waitstatus_to_exitcode(code)
    if process.returncode:
        raise RuntimeError(f"{command} exited with {process.returncode}")
    return Watched(Cost(wall, usage.ru_utime + usage.ru_stime), memory, threads)
