"""What it costs to start, and to find everything done."""

import json
import os
import shlex
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

from couchdiscover.sandbox import Sandbox
from tests.benchmarks.measure import COUCHDISCOVER, Cost, Row, cost, in_turns, row

IMPORTS = "import requests, pykube, typer"
BY_HAND = (sys.executable, str(Path(__file__).with_name("by_hand.py")))


def start_up(runs: int) -> list[Row]:
    """--help and --version against the interpreter alone, and against what is imported anyway."""
    python = sys.executable
    results = in_turns(
        {
            "python -c pass": lambda: cost([python, "-c", "pass"]),
            "import typer": lambda: cost([python, "-c", "import typer"]),
            IMPORTS: lambda: cost([python, "-c", IMPORTS]),
            "--version": lambda: cost([*COUCHDISCOVER, "--version"]),
            "--help": lambda: cost([*COUCHDISCOVER, "--help"]),
        },
        runs,
    )
    bare = [each.wall for each in results["python -c pass"]]
    typer = [each.wall for each in results["import typer"]]
    rows = []
    for name, costs in results.items():
        values = [each.wall for each in costs]
        goal = 4.0 if name == "--help" else None
        rows.append(
            row("start-up", name, _ms(values), "ms", against="bare python", others=_ms(bare),
                at_most=goal)
        )  # fmt: skip
    help_times = [each.wall for each in results["--help"]]
    rows.append(
        row("start-up", "--help", _ms(help_times), "ms", against="import typer", others=_ms(typer))
    )
    return rows


def no_op(runs: int, nodes: int = 3) -> list[Row]:
    """A run that finds everything done, against its imports and its requests, and against curl."""
    with Sandbox(nodes, pace=0.0) as box:
        environment = box.environment()
        cost(COUCHDISCOVER, environment)
        seen, seen_api = len(box.requests()), len(box.api.requests)
        cost(COUCHDISCOVER, environment)
        addresses = {pod: box.address(pod) for pod in box.pods}
        urls = [
            "{}{}".format(
                box.api.url + each.path,
                "?labelSelector=" + each.query["labelSelector"] if each.query else "",
            )
            for each in box.api.requests[seen_api:]
        ]
        urls += [
            "http://{}:{}{}".format(*addresses[each.pod], each.request.target)
            for each in box.requests()[seen:]
        ]
        login = {"user": box.deployment.user, "password": box.deployment.password}
        order = json.dumps({"replay": [["GET", url, None] for url in urls], **login})
        user = shlex.quote(f"{login['user']}:{login['password']}")
        curl = "; ".join(f"curl -s -o /dev/null -u {user} {shlex.quote(url)}" for url in urls)
        results = in_turns(
            {
                "a run that finds all done": lambda: cost(COUCHDISCOVER, environment),
                "imports and the same requests": lambda: _fed(order),
                IMPORTS: lambda: cost([sys.executable, "-c", IMPORTS]),
                "the same requests by curl": lambda: cost(["sh", "-c", curl]),
            },
            runs,
        )
    ours = results.pop("a run that finds all done")
    group = f"nothing to do, {nodes} nodes"
    rows = []
    for name, costs in results.items():
        goal = 1.25 if name == "imports and the same requests" else None
        for kind, pick in _KINDS.items():
            mine, others = [pick(c) for c in ours], [pick(c) for c in costs]
            what = f"a run that finds all done, {kind}"
            rows.append(
                row(group, what, _ms(mine), "ms", against=name, others=_ms(others), at_most=goal)
            )
    return rows


_KINDS: dict[str, Callable[[Cost], float]] = {
    "by the clock": lambda each: each.wall,
    "processor time": lambda each: each.cpu,
}


def _ms(seconds: list[float]) -> list[float]:
    return [value * 1000 for value in seconds]


def _fed(order: str) -> Cost:
    """The requests by hand, imports included."""
    started = time.monotonic()
    process = subprocess.Popen(
        BY_HAND, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, env=dict(os.environ)
    )
    assert process.stdin is not None
    process.stdin.write(order.encode() + b"\n")
    process.stdin.close()
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise RuntimeError(f"{BY_HAND} exited with {process.returncode}")
    return Cost(time.monotonic() - started, usage.ru_utime + usage.ru_stime)
