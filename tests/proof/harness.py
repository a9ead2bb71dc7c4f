"""What the proofs share: fast processes, a guard over every write, what must hold at the end."""

import base64
import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any, Self, TypeVar
from urllib.parse import quote, quote_plus, unquote

import requests

from couchdiscover.sandbox import Sandbox
from couchdiscover.sandbox.box import API, Proceed
from couchdiscover.sandbox.couchdb import Node
from couchdiscover.sandbox.http import Request, Response, Wire

PASSWORD = "märked/pass+word=%&Ωmega"
TOKEN = "marked.api-token_of/the+proof"
COOKIE = "marked-erlang-cookie"
SYSTEM = {"_users", "_replicator"}

DRAWS = max(1, int(os.environ.get("COUCHDISCOVER_DRAWS", "1")))
"""How many times the draws of the default run; 0 and 1 are the same."""

SEED = int(os.environ.get("COUCHDISCOVER_SEED", "5"))

WORKERS = 2

GROWTH_SECONDS = 1.0
"""How long after a scale-up a run may still go by the former size: it has just read the StatefulSet
and is about to finish, and ten of them share a processor or two."""

OWN_AGENT = "proof"

Item = TypeVar("Item")
Answer = Response | Wire
Hook = Callable[[int, str, Request, Proceed], Awaitable[Answer]]


def dice(*of: object) -> random.Random:
    """Random numbers for one case: the same for the same seed. Told where the case fails."""
    return random.Random(f"{SEED} {of}")


def all_of(cases: Sequence[Item], work: Callable[[Item], None], workers: int = WORKERS) -> None:
    """Every case, a few at once. Raises AssertionError that names the failures and the seed."""
    failures = []

    def one(case: Item) -> str | None:
        try:
            work(case)
        except BaseException as error:  # noqa: BLE001 - gathered, and raised below
            return f"{case}: {type(error).__name__}: {error}"
        return None

    with ThreadPoolExecutor(workers) as pool:
        failures = [text for text in pool.map(one, cases) if text]
    assert not failures, (
        f"{len(failures)} of {len(cases)} (COUCHDISCOVER_SEED={SEED} COUCHDISCOVER_DRAWS={DRAWS}):"
        "\n" + "\n".join(failures[:10])
    )


# --- processes --------------------------------------------------------------------------------


@dataclass(frozen=True)
class Ended:
    """A run that is over: its exit code (negative for a signal) and what it wrote."""

    code: int
    out: str
    err: str
    termination: str

    @property
    def json(self) -> dict[str, Any]:
        result: dict[str, Any] = json.loads(self.out)
        return result

    @property
    def steps(self) -> list[str]:
        return [f"{step['step']} {step['node']}" for step in self.json["steps"]]


@dataclass
class Running:
    """A process under way."""

    folder: Path
    pid: int = 0
    status: int | None = None
    started: threading.Event = field(default_factory=threading.Event)
    over: threading.Event = field(default_factory=threading.Event)

    def kill(self, number: signal.Signals = signal.SIGKILL) -> None:
        """Sends a signal, if it is not over; from any thread."""
        assert self.started.wait(30)
        if not self.over.is_set():
            try:
                os.kill(self.pid, number)
            except ProcessLookupError:
                return

    def wait(self, seconds: float = 90) -> Ended:
        """Its end. A traceback, or output that is not UTF-8, is a failure."""
        if not self.over.wait(seconds):
            self.kill()
            self.over.wait(10)
            raise AssertionError(f"did not end in {seconds} s\n{self._read('err')[-3000:]}")
        assert self.status is not None
        ended = Ended(self.status, self._read("out"), self._read("err"), self._read("termination"))
        assert "Traceback" not in ended.err, ended.err[-3000:]
        assert ended.code not in (1, 70), ended.err[-3000:]
        return ended

    def _read(self, name: str) -> str:
        path = self.folder / name
        return path.read_text(encoding="utf-8") if path.exists() else ""


class Nursery:
    """Starts the command, fast (see ``nursery.py``). A context manager; for any thread."""

    def __enter__(self) -> Self:
        self._folder = tempfile.TemporaryDirectory(prefix="couchdiscover-proof-")
        self._process = subprocess.Popen(
            [sys.executable, str(Path(__file__).with_name("nursery.py"))],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            cwd=Path(__file__).parents[2],
            # Traced by coverage it is half as fast, and what a fork covers is never told.
            env={k: v for k, v in os.environ.items() if not k.startswith("COVERAGE_")},
        )
        self._lock = threading.Lock()
        self._all: dict[int, Running] = {}
        self._reader = threading.Thread(target=self._listen, daemon=True)
        self._reader.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        for running in self._all.values():
            if running.started.is_set():
                running.kill()
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._process.wait(10)
        self._reader.join(10)
        self._folder.cleanup()

    def start(
        self, *arguments: str, environment: Mapping[str, str], telling: bool = True
    ) -> Running:
        """Starts it, and does not wait; with ``telling`` at DEBUG and with a JSON result."""
        with self._lock:
            number = len(self._all)
            folder = Path(self._folder.name, str(number))
            folder.mkdir()
            running = self._all[number] = Running(folder)
        usual = {
            "PATH": os.environ["PATH"],
            "HOME": str(folder),
            "COUCHDISCOVER_TERMINATION_LOG": str(folder / "termination"),
        }
        if telling:
            usual |= {"COUCHDISCOVER_LOG_LEVEL": "DEBUG", "COUCHDISCOVER_OUTPUT": "json"}
        order = {
            "id": number,
            "arguments": arguments,
            "environment": {**usual, **environment},
            "folder": str(folder),
        }
        assert self._process.stdin is not None
        with self._lock:
            self._process.stdin.write((json.dumps(order) + "\n").encode())
            self._process.stdin.flush()
        return running

    def __call__(
        self, *arguments: str, environment: Mapping[str, str], seconds: float = 90
    ) -> Ended:
        """Runs it to its end."""
        return self.start(*arguments, environment=environment).wait(seconds)

    def _listen(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            facts = json.loads(line)
            running = self._all[facts["id"]]
            if "pid" in facts:
                running.pid = facts["pid"]
                running.started.set()
            else:
                running.status = facts["status"]
                running.over.set()


# --- the guard --------------------------------------------------------------------------------


class Guard:
    """Stands before every node: judges each write by the state it meets, and lets a test meddle.

    ``harms`` are writes that no state asks for, ``idle`` those that this state did not ask for.
    ``hook`` gets each request with its number, from 1 on, the Kubernetes API's too. A test's own
    requests, by ``ask``, are not among them.
    """

    def __init__(self, box: Sandbox, hook: Hook | None = None) -> None:
        self.box = box
        self.hook = hook
        self.harms: list[str] = []
        self.idle: list[str] = []
        self.count = 0
        self.finished: list[str] = []
        """The pods through which a cluster was finished, in order, where that took effect."""
        self.names: set[str] = set()
        self._grown: tuple[float, int] = (0.0, 0)
        self.know()
        box.intercept = self

    def know(self) -> None:
        """Notes the names of the pods there are: any other name that is added is a ghost."""
        self.names |= {node.name for node in self.box.nodes.values()}

    def grow(self, replicas: int) -> None:
        """Scales the set up. A run may have read the former size a moment before."""
        self._grown = (time.monotonic() + GROWTH_SECONDS, self.box.replicas)
        self.box.scale(replicas)

    @property
    def _wanted(self) -> list[str]:
        until, replicas = self._grown
        return self.box.pods[:replicas] if time.monotonic() < until else self.box.pods

    async def __call__(self, pod: str, request: Request, proceed: Proceed) -> Answer:
        if request.headers.get("user-agent") == OWN_AGENT:
            return await proceed()
        self.count += 1
        number = self.count

        async def guarded(changed: Request | None = None, /) -> Answer:
            node = self.box.nodes.get(pod)
            ours = request.headers.get("user-agent", "").startswith("couchdiscover")
            write = ours and pod != API and request.method not in ("GET", "HEAD")
            if write and isinstance(node, Node):
                self._judge(pod, node, request)
            answer = await proceed(changed)
            finishing = request.path == "/_cluster_setup" and b'"finish_cluster"' in request.body
            if finishing and isinstance(answer, Response) and answer.status == 201:
                self.finished.append(pod)
            return answer

        if self.hook is None:
            return await guarded()
        return await self.hook(number, pod, request, guarded)

    def _judge(self, pod: str, node: Node, request: Request) -> None:
        self.know()
        with self.box.network.lock:
            self.box.network.settle()
            harm, idle = self._verdict(node, request)
        told = f"{request.method} {request.path} at {pod}"
        if harm:
            self.harms.append(f"{told}: {harm}")
        if idle:
            self.idle.append(f"{told}: {idle}")

    def _verdict(self, node: Node, request: Request) -> tuple[str, str]:
        match [unquote(part) for part in request.target.partition("?")[0].split("/")[1:]]:
            case ["_node", "_local", "_nodes", name]:
                return self._judge_member(node, name)
            case ["_node", "_local", "_config", section, key]:
                if (section, key) not in (
                    ("admins", self.box.deployment.user),
                    ("couchdb", "uuid"),
                    ("chttpd_auth", "secret"),
                ):
                    return "a setting that is none of ours", ""
                same = node.config.get(section, key) == request.json()
                return "", "it has this value" if same else ""
            case ["_session"]:
                return "", "it has a secret" if node.config.secret else ""
            case ["_cluster_setup"]:
                return self._judge_setup(node, request.json()["action"])
            case [database] if request.method == "PUT":
                found = node.databases.find(database)
                return "", "it is there" if found is not None else ""
        return "no write of ours", ""

    def _judge_member(self, node: Node, name: str) -> tuple[str, str]:
        if name not in self.names:
            return "a ghost", ""
        if name in node.members:
            return "", "it is listed"
        own = set(node.dbs.live) - SYSTEM
        added = next((other for other in self.box.nodes.values() if other.name == name), None)
        known = isinstance(added, Node) and node.name in added.members
        if own and not known:
            return f"it holds {own}", ""
        return "", ""

    def _judge_setup(self, node: Node, action: str) -> tuple[str, str]:
        if action != "finish_cluster":
            disabled = node.state in ("cluster_disabled", "single_node_disabled")
            return "", "" if disabled else "it is enabled"
        wanted = self._wanted
        expected = {self.box.nodes[pod].name for pod in wanted if pod in self.box.nodes}
        if node.members - self.names:
            return f"finishes with ghosts {node.members - self.names}", ""
        if len(expected) < len(wanted) or not expected <= node.members:
            return f"finishes too early, with {sorted(node.members)}", ""
        if node.state in ("cluster_finished", "single_node_enabled"):
            return "", "it is finished"
        others = [other for other in self.box.nodes.values() if isinstance(other, Node)]
        if done := [
            o.name for o in others if o.name in node.members and o.databases.find("_users")
        ]:
            return "", f"finished already by {done}"
        return "", ""

    def clear(self) -> None:
        """Forgets what was told so far."""
        self.harms.clear()
        self.idle.clear()
        self.count = 0


# --- what must hold ---------------------------------------------------------------------------


@dataclass(frozen=True)
class Facts:
    """What a node is, as itself has it; real ones are asked."""

    members: frozenset[str]
    connected: frozenset[str]
    state: str
    identity: tuple[str | None, ...]
    """Its admin's hash, uuid and secret."""


IDENTITY = (("couchdb", "uuid"), ("chttpd_auth", "secret"))


def facts(box: Sandbox, pod: str) -> Facts:
    """The facts of a pod's node."""
    node, places = box.nodes[pod], (("admins", box.deployment.user), *IDENTITY)
    if isinstance(node, Node):
        identity = tuple(node.config.get(section, key) for section, key in places)
        return Facts(frozenset(node.members), frozenset(node.connected), node.state, identity)
    found = ask(box, pod, "/_membership").json()
    state = ask(box, pod, "/_cluster_setup").json()["state"]
    config = ask(box, pod, "/_node/_local/_config").json()
    identity = tuple(config.get(section, {}).get(key) for section, key in places)
    members, connected = frozenset(found["cluster_nodes"]), frozenset(found["all_nodes"])
    return Facts(members, connected, state, identity)


def whole(box: Sandbox) -> None:
    """One finished cluster of exactly the expected members, on each node, with one identity."""
    expected = {box.nodes[pod].name for pod in box.pods}
    with box.network.lock:
        box.network.settle()
        found = {pod: facts(box, pod) for pod in box.pods}
    for pod, its in found.items():
        assert its.members == expected, (pod, its)
        assert its.connected == expected, (pod, its)
        assert its.state in ("cluster_finished", "single_node_enabled"), (pod, its)
    assert len({its.identity for its in found.values()}) == 1, found


def spread(box: Sandbox) -> None:
    """The system databases have copies on as many members as they can have."""
    expected = {box.nodes[pod].name for pod in box.pods}
    for name in SYSTEM:
        shards = ask(box, box.pods[0], f"/{name}/_shards").json()["shards"]
        assert shards, name
        for holders in shards.values():
            assert len(set(holders) & expected) == min(3, len(expected)), (name, holders)


def all_answered(box: Sandbox) -> None:
    """Waits until the nodes are done with what a dead run has asked of them: it still takes effect,
    and might do so right after the next run's look."""
    end = time.monotonic() + 30
    while any(request.status is None for request in box.requests()):
        assert time.monotonic() < end, "a request is never answered"
        time.sleep(0.01)


def age(box: Sandbox, pods: Iterable[str], seconds: float = 3600.0) -> None:
    """Has nodes look as if they had been up for long: who has been up longest decides on drift.

    Real ones stay as old as they are.
    """
    for pod in pods:
        node = box.nodes[pod]
        if isinstance(node, Node):
            node.started_at -= seconds


def secrets_of(box: Sandbox, *more: str) -> set[str]:
    """What must be in no output, in every form it travels in; hashes, secrets and sessions too."""
    plain = {box.deployment.password, box.deployment.cookie or COOKIE, TOKEN, *more}
    for pod, node in box.nodes.items():
        if isinstance(node, Node):
            plain |= {node.cookie, *node.config.admins.values(), node.config.secret or COOKIE}
        elif node.running and not node.frozen:
            admin, _, secret = facts(box, pod).identity
            plain |= {admin or COOKIE, secret or COOKIE}
    plain |= {f"{box.deployment.user}:{box.deployment.password}"}
    found = set()
    for secret in plain:
        data = secret.encode()
        found |= {
            secret,
            quote(secret),
            quote(secret, safe=""),
            quote_plus(secret),
            repr(data)[2:-1],
        }
        found |= {json.dumps(secret)[1:-1], json.dumps(secret, ensure_ascii=False)[1:-1]}
        found |= {data.decode("latin-1")}
        for encode in (base64.b64encode, base64.urlsafe_b64encode):
            found.add(encode(data).decode().rstrip("="))
    return {text for text in found if len(text) > 4}


def silent(ended: Ended, secrets: Iterable[str]) -> None:
    """None of the secrets is in any output."""
    for name, text in (("out", ended.out), ("err", ended.err), ("term", ended.termination)):
        shown = [secret for secret in secrets if secret in text]
        assert not shown, f"secrets in {name}: {shown}"


def ask(
    box: Sandbox, pod: str, path: str, method: str = "GET", body: object = None
) -> requests.Response:
    """A request to a node with the administrator's login, whatever the answer."""
    host, port = box.address(pod)
    login = (box.deployment.user.encode(), box.deployment.password.encode())
    url = f"http://{host}:{port}{path}"
    headers = {"User-Agent": OWN_AGENT}
    return requests.request(method, url, json=body, auth=login, headers=headers, timeout=30)
