"""What the proofs share: fast processes, a guard over every write, what must hold at the end."""

import base64
import json
import os
import random
import time
from collections.abc import Awaitable, Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, TypeVar
from urllib.parse import quote, quote_plus, unquote

import requests
from requests.auth import HTTPBasicAuth

from couchdiscover.sandbox import Sandbox
from couchdiscover.sandbox.box import API, Proceed
from couchdiscover.sandbox.couchdb import Node
from couchdiscover.sandbox.couchdb.volume import SHARD_PATH, File
from couchdiscover.sandbox.http import Request, Response, Wire
from tests.support.processes import Ended

PASSWORD = "märked/pass+word=%&Ωmega"
TOKEN = "marked.api-token_of/the+proof"
COOKIE = "marked-erlang-cookie"
SYSTEM = {"_users", "_replicator"}
IDENTITY = (("couchdb", "uuid"), ("chttpd_auth", "secret"))

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
                return self._judge_setting(node, request, section, key)
            case ["_node", "_local", "_dbs", "_local", "couchdiscover"]:
                return self._judge_mark(node, request.json())
            case ["_node", "_local", "_dbs", database] if request.method == "PUT":
                return self._judge_map(node, database, request.json())
            case [database, "_sync_shards"]:
                found = node.databases.find(database)
                return ("", "") if found is not None else ("", "there is no such database")
            case ["_session"]:
                return ("", "") if node.config.secret else ("a session that makes it set one", "")
            case ["_cluster_setup"]:
                return self._judge_setup(node, request.json()["action"])
            case [database] if request.method == "PUT":
                found = node.databases.find(database)
                return "", "it is there" if found is not None else ""
        return "no write of ours", ""

    def _judge_setting(
        self, node: Node, request: Request, section: str, key: str
    ) -> tuple[str, str]:
        administrators = {
            name
            for other in self.box.nodes.values()
            if isinstance(other, Node)
            for name in other.config.admins
        }
        if (section, key) not in IDENTITY and (section != "admins" or key not in administrators):
            return "a setting that is none of ours", ""
        if request.headers.get("x-couch-persist") == "false" and key == "secret":
            same = node.config.secret == request.json()  # put again for the others to take it
            return ("", "") if same else ("another secret, which a restart undoes", "")
        same = node.config.get(section, key) == request.json()
        return "", "it has this value" if same else ""

    def _judge_mark(self, node: Node, mark: dict[str, Any]) -> tuple[str, str]:
        """A mark says that the volume is this node's, whole: nothing may be missing on it."""
        if mark.get("node") != node.name:
            return f"marks the volume as that of {mark.get('node')}", ""
        if mark.get("uuid") != node.volume.dbs.uuid:
            return "marks another volume", ""
        if node.state not in ("cluster_finished", "single_node_enabled"):
            return f"marks a node that is {node.state}", ""
        for path, file in self._named(node).items():
            others = [
                other.volume.shards[path]
                for other in self._simulated()
                if other.name in node.members and path in other.volume.shards
            ]
            if (file is None or not file.docs) and any(other.docs for other in others):
                how = "gone" if file is None else "empty"
                return f"marks a volume on which {path} is {how}", ""
        before = node.volume.dbs.local.get("couchdiscover", {})
        facts = ("node", "uuid", "seen")
        same = bool(before) and all(before.get(key) == mark.get(key) for key in facts)
        return "", "it has this mark" if same else ""

    def _judge_map(self, node: Node, database: str, document: dict[str, Any]) -> tuple[str, str]:
        """Only blank system databases get more copies, on members; nothing is taken away."""
        found = node.databases.find(database)
        if found is None or database not in SYSTEM:
            return "a shard map that is none of ours", ""
        filled = [other.name for other in self._simulated() if database in filled_on(other)]
        if filled:
            return f"edits the map of a database that holds documents, on {filled}", ""
        new = {key: set(names) for key, names in document.get("by_range", {}).items()}
        old = {key: set(names) for key, names in found.by_range.items()}
        if new.keys() != old.keys() or not all(old[key] <= new[key] for key in old):
            return "takes copies away", ""
        strangers = set().union(*new.values()) - set(node.members)
        if strangers:
            return f"names {strangers}, no members", ""
        return "", "it names them already" if new == old else ""

    def _judge_member(self, node: Node, name: str) -> tuple[str, str]:
        if name not in self.names:
            return "a ghost", ""
        if name in node.members:
            return "", "it is listed"
        added = next((other for other in self._simulated() if other.name == name), None)
        if added is not None:
            if hidden := hidden_by_joining(node, added):
                return f"it would hide what is in {sorted(hidden)}", ""
            if node.name in added.members:
                return "", ""
        held = filled_on(node) | (files_on(node) - SYSTEM)
        own = {each for each in held if added is None or not same_map(node, added, each)}
        return (f"it holds {own}", "") if own else ("", "")

    def _simulated(self) -> list[Node]:
        return [node for node in self.box.nodes.values() if isinstance(node, Node)]

    @staticmethod
    def _named(node: Node) -> dict[str, File | None]:
        """The files that the node's own maps name on it, as they are."""
        return {
            shards.path(hash_range): node.volume.shards.get(shards.path(hash_range))
            for shards in node.volume.maps()
            for hash_range, holders in shards.by_range.items()
            if node.name in holders
        }

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


def files_on(node: Node) -> set[str]:
    """The databases of which there is a file on this node."""
    return {match[2] for path in node.volume.shards if (match := SHARD_PATH.fullmatch(path))}


def filled_on(node: Node) -> set[str]:
    """The databases of which a file on this node has a document that is no design document."""
    found = set()
    for path, file in node.volume.shards.items():
        match = SHARD_PATH.fullmatch(path)
        if match and any(not name.startswith("_design/") for name in file.live):
            found.add(match[2])
    return found


def same_map(one: Node, other: Node, database: str) -> bool:
    """Whether both have one database of this name, made once: one revision is the other's root."""
    mine, theirs = one.dbs.get(database), other.dbs.get(database)
    if mine is None or theirs is None:
        return False
    revisions = [{leaf.digest, *leaf.ancestors} for leaf in (mine.winner, theirs.winner)]
    return not revisions[0].isdisjoint(revisions[1])


def hidden_by_joining(one: Node, other: Node) -> set[str]:
    """Databases that both have, made apart, and that hold documents: one map would win on both."""
    shared = one.dbs.live & other.dbs.live
    return {
        name
        for name in shared
        if not same_map(one, other, name) and name in filled_on(one) | filled_on(other)
    }


# --- what must hold ---------------------------------------------------------------------------


@dataclass(frozen=True)
class Facts:
    """What a node is, as itself has it; real ones are asked."""

    members: frozenset[str]
    connected: frozenset[str]
    state: str
    identity: tuple[str | None, ...]
    """Its admin's hash, uuid and secret."""


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


REFUSED_SECONDS = 1.0
"""How long a connection may be refused before it is a fault of the test."""


def ask(
    box: Sandbox, pod: str, path: str, method: str = "GET", body: object = None
) -> requests.Response:
    """A request to a node with the administrator's login, whatever the answer.

    A question is asked again where what is before the node has only just been opened.
    """
    host, port = box.address(pod)
    login = HTTPBasicAuth(box.deployment.user.encode(), box.deployment.password.encode())
    url = f"http://{host}:{port}{path}"
    headers = {"User-Agent": OWN_AGENT}
    until = time.monotonic() + REFUSED_SECONDS
    while True:
        try:
            return requests.request(method, url, json=body, auth=login, headers=headers, timeout=30)
        except requests.ConnectionError:
            if method != "GET" or time.monotonic() >= until:
                raise
            time.sleep(0.05)
