"""Clusters made: how long it takes, how soon a node is seen, how many requests, at what size."""

import contextlib
import http.client
import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import requests

from couchdiscover.sandbox import Proceed, Sandbox
from couchdiscover.sandbox.http import Request, Response, Wire
from tests.benchmarks.measure import COUCHDISCOVER, Row, cost, in_turns, row, watch
from tests.benchmarks.startup import BY_HAND
from tests.support.boxes import counted

SETTLED = 1.0
"""Seconds after which a process that was started is sure to wait for the last node."""


# --- time to a finished cluster ---------------------------------------------------------------


def time_to_finish(runs: int, nodes: int, home: Path | None) -> list[Row]:
    """From the last node's first answer to exit 0, against the requests sent by hand.

    Both processes are there already when the node comes up. Ours has to find out; the other is
    told at that moment, and does not look at Kubernetes at all.
    """
    kind = "real" if home else "simulated"
    reactions: list[float] = []

    def ours() -> float:
        with _all_but_last(nodes, home) as box:
            command = [*COUCHDISCOVER, "--log-level", "ERROR"]
            process = subprocess.Popen(
                command, env={**os.environ, **box.environment()}, stdout=subprocess.DEVNULL
            )
            time.sleep(SETTLED)
            first = _start_last(box)
            if process.wait(60):
                raise RuntimeError(f"couchdiscover exited with {process.returncode}")
            ended = time.monotonic()
            if home is None:
                last = box.pods[-1]
                seen = [r.time for r in box.requests() if r.pod == last and r.time >= first]
                reactions.append(seen[0] - first)
            return ended - first

    def by_hand() -> float:
        with _all_but_last(nodes, home) as box:
            process = subprocess.Popen(BY_HAND, stdin=subprocess.PIPE)
            urls = ["http://{}:{}".format(*box.address(pod)) for pod in box.pods]
            assert process.stdin is not None
            process.stdin.write(_order({"know": urls[:-1]}, box))
            process.stdin.flush()
            time.sleep(SETTLED)
            first = _start_last(box)
            _tell(process, {"assemble": urls}, box)
            return time.monotonic() - first

    results = in_turns({"ours": ours, "by hand": by_hand}, runs)
    group = f"from the last node's first answer to exit 0, {nodes} {kind} nodes"
    rows = [
        row(
            group,
            "couchdiscover",
            results["ours"],
            "s",
            against="the shortest sequence by hand",
            others=results["by hand"],
            at_most=1.2 if home else None,
        ),
        row(group, "the shortest sequence by hand", results["by hand"], "s"),
    ]
    if reactions:
        what = "from a node's first answer to our first request that it answers"
        rows.append(row("reaction", f"{what}, {nodes} nodes", reactions, "s", at_most=0.3))
    return rows


@contextlib.contextmanager
def _all_but_last(nodes: int, home: Path | None) -> Iterator[Sandbox]:
    with Sandbox(nodes, real=home, running=False, password="benchmark") as box:
        for pod in box.pods[:-1]:
            box.start(pod)
        yield box


def _start_last(box: Sandbox) -> float:
    """Starts the last node; returns when it first answered, on the monotonic clock."""
    pod = box.pods[-1]
    if not box.is_real:
        box.start(pod)
        return time.monotonic()
    starting = threading.Thread(target=box.start, args=[pod])
    starting.start()
    host, port = box.address(pod)
    while True:
        connection = http.client.HTTPConnection(host, port, timeout=5)
        with contextlib.suppress(OSError, http.client.HTTPException):
            connection.request("GET", "/_up")
            connection.getresponse().read()
            first = time.monotonic()
            break
        connection.close()
        time.sleep(0.01)
    connection.close()
    starting.join()
    return first


def _order(order: dict[str, object], box: Sandbox) -> bytes:
    login = {"user": box.deployment.user, "password": box.deployment.password}
    return json.dumps({**order, **login}).encode() + b"\n"


def _tell(process: "subprocess.Popen[bytes]", order: dict[str, object], box: Sandbox) -> None:
    process.communicate(_order(order, box), timeout=60)
    if process.returncode:
        raise RuntimeError(f"{BY_HAND} exited with {process.returncode}")


# --- peers ------------------------------------------------------------------------------------


def peers(runs: int, nodes: int, home: Path | None) -> list[Row]:
    """What else is in use, from all nodes up to its end, its own start included.

    The Helm chart's job (apache/couchdb-helm, templates/job.yaml) sends finish_cluster to any one
    node, and makes ``_global_changes``. It joins no nodes: that is a seedlist's work, which is done
    here before the clock starts. It looks at no answer's status and verifies nothing.
    """

    def ours() -> float:
        with Sandbox(nodes, real=home, password="benchmark") as box:
            return cost(COUCHDISCOVER, box.environment()).wall

    def chart() -> float:
        with Sandbox(nodes, real=home, password="benchmark") as box:
            urls = ["http://{}:{}".format(*box.address(pod)) for pod in box.pods]
            name = box.nodes[box.pods[0]].name
            order = [["PUT", f"{url}/_node/_local/_nodes/{name}", {}] for url in urls[1:]]
            process = subprocess.Popen(BY_HAND, stdin=subprocess.PIPE)
            _tell(process, {"replay": order}, box)
            time.sleep(0.5)
            curl = ["curl", "-s", "-u", f"{box.deployment.user}:{box.deployment.password}"]
            started = time.monotonic()
            finish = [
                *["-X", "POST", "-H", "Content-Type: application/json"],
                *["-d", '{"action": "finish_cluster"}', f"{urls[0]}/_cluster_setup"],
            ]
            cost([*curl, *finish])
            cost([*curl, "-X", "PUT", f"{urls[0]}/_global_changes"])
            return time.monotonic() - started

    results = in_turns({"ours": ours, "chart": chart}, runs)
    kind = "real" if home else "simulated"
    group = f"from the command's start to its end, {nodes} fresh {kind} nodes"
    return [
        row(group, "couchdiscover: joins, finishes, verifies", results["ours"], "s",
            against="the Helm chart's two curls", others=results["chart"]),
        row(group, "the Helm chart's two curls, on nodes that are joined already",
            results["chart"], "s"),
    ]  # fmt: skip


def computed() -> list[Row]:
    """The predecessor (couchdiscover 0.2), which sleeps 5 s after each look that finds no node.

    A node that comes up at any moment of those 5 s is seen after 2.5 s in the mean, 5 s at the
    worst. One process in each pod waits so for its own node, and then for the first one.
    """
    sleep, waits = 5.0, 2
    group = "the predecessor's fixed sleeps (computed, not measured)"
    return [
        Row(group, "until a node that came up is seen, in the mean", sleep / 2, "s"),
        Row(group, "own node and first node, one after the other, at the worst",
            sleep * waits, "s"),
    ]  # fmt: skip


# --- reaction ---------------------------------------------------------------------------------


def pressure(seconds: float = 5.0) -> list[Row]:
    """How often a node that is down is asked."""

    async def dead(pod: str, request: Request, proceed: Proceed) -> Response | Wire:
        return Wire(reset=True) if pod == box.pods[-1] else await proceed()

    with Sandbox(3, pace=0.0) as box:
        box.intercept = dead
        command = [*COUCHDISCOVER, "--timeout", f"{seconds:g}s"]
        subprocess.run(
            command, env={**os.environ, **box.environment()}, capture_output=True, check=False
        )
        times = [r.time for r in box.requests() if r.pod == box.pods[-1]]
    rate = (len(times) - 1) / (times[-1] - times[0])
    return [row("reaction", "requests a second to a node that is down", [rate], "/s", at_most=3.0)]


# --- number of requests -----------------------------------------------------------------------


def count(nodes: int) -> tuple[int, int]:
    """Requests to CouchDB for a fresh set, and for one that is whole; nothing is waited for.

    Without samples of shard copies, which have a bound of their own.
    """
    with Sandbox(nodes, pace=0.0) as box:
        cost(COUCHDISCOVER, box.environment())
        fresh = len(box.requests())
        cost(COUCHDISCOVER, box.environment())
        asked = box.requests()
        return len(counted(asked[:fresh])), len(counted(asked[fresh:]))


def counts(sizes: Sequence[int]) -> tuple[list[Row], dict[int, tuple[int, int]]]:
    """The numbers of requests, held against 14·N + 12 and 7·N + 8."""
    found = {size: count(size) for size in sizes}
    rows = []
    for size, (fresh, again) in found.items():
        for what, number, bound in (
            ("fresh", fresh, 14 * size + 12),
            ("done", again, 7 * size + 8),
        ):
            rows.append(
                row("requests to CouchDB", f"{size} nodes, {what}", [number], "", at_most=bound)
            )
    return rows, found


# --- scale ------------------------------------------------------------------------------------


def scale(nodes: int) -> list[Row]:
    """One run on many fresh nodes, and one that finds them done, with CouchDB's delays."""
    rows = []
    with Sandbox(nodes) as box:
        for what in ("fresh", "done"):
            seen = watch(COUCHDISCOVER, box.environment())
            group = f"scale: {nodes} nodes, {what}"
            rows += [
                row(group, "time", [seen.cost.wall], "s"),
                row(group, "processor time", [seen.cost.cpu], "s"),
                row(group, "peak memory", [seen.memory], "MiB", at_most=100),
                row(group, "threads", [seen.threads], "", at_most=40),
            ]
    return rows


# --- volumes under former names ---------------------------------------------------------------


def adoption(databases: int) -> list[Row]:
    """``adopt`` on three volumes in another namespace, each database of two ranges; no delays.

    What each further database costs is told by a tenth of them beside the whole.
    """
    sizes = (max(1, databases // 10), databases)
    found = {size: _adopted(size) for size in sizes}
    few, many = (found[size][1] for size in sizes)
    group = f"adopt: 3 nodes, {databases} databases"
    each = (many - few) / (sizes[1] - sizes[0])
    return [
        row(group, "time", [found[databases][0]], "s"),
        row(group, "requests", [many], ""),
        row(group, "requests for each further database", [each], "", at_most=60),
        row(group, "requests that find nothing left", [found[databases][2]], ""),
    ]


def _adopted(databases: int) -> tuple[float, int, int]:
    """Seconds, requests, and the requests of another run after it."""
    with Sandbox(3, pace=0.0) as box:
        cost(COUCHDISCOVER, box.environment())
        for number in range(databases):
            _make(box, f"/db{number}?q=2&n=3")
        while any(len(box.node(pod).volume.paths) < 2 * databases for pod in box.pods):
            time.sleep(0.05)
        box.rename(namespace="restored")
        for pod in box.pods:
            box.node(pod).started_at -= 120  # a node that lists former names must have been up
        counts = [len(box.requests())]
        spent = []
        for _ in range(2):
            spent.append(cost([*COUCHDISCOVER, "adopt", "--timeout", "10m"], box.environment()))
            counts.append(len(box.requests()))
        return spent[0].wall, counts[1] - counts[0], counts[2] - counts[1]


def _make(box: Sandbox, path: str) -> None:
    host, port = box.address(box.pods[0])
    login = (box.deployment.user, box.deployment.password)
    answer = requests.put(f"http://{host}:{port}{path}", auth=login, timeout=60)
    answer.raise_for_status()


# --- size -------------------------------------------------------------------------------------


def installed(folder: Path) -> list[Row]:
    """What ``pip install`` puts into an empty virtual environment, byte code included."""
    project = Path(__file__).parents[2]
    subprocess.run([sys.executable, "-m", "venv", folder], check=True)
    pip = [str(folder / "bin" / "pip"), "--quiet", "--disable-pip-version-check"]
    subprocess.run([*pip, "install", str(project)], check=True)
    subprocess.run([*pip, "uninstall", "--yes", "setuptools", "pip"], check=True)
    listing = (
        "import importlib.metadata as m, json; print(json.dumps({d.name: sum("
        "f.locate().stat().st_size for f in d.files or () if f.locate().is_file()"
        ") for d in m.distributions()}))"
    )
    text = subprocess.run(
        [folder / "bin" / "python", "-c", listing], check=True, capture_output=True, text=True
    ).stdout
    packages: dict[str, int] = json.loads(text)
    total = sum(path.lstat().st_size for path in folder.rglob("*") if path.is_file())
    group = "installed size, without the interpreter"
    rows = [row(group, "all", [total / 2**20], "MiB", at_most=30)]
    for name, size in sorted(packages.items(), key=lambda item: -item[1]):
        rows.append(Row(group, name, size / 2**20, "MiB"))
    return rows
