"""What lies on volumes, against recordings of real CouchDB 3.5.2: same requests, same answers.

Files, marks, checkpoints, former names, a clone that meets its original, and copies that are filled
by redirected replication. As elsewhere a script brings the nodes into the state that was recorded,
and what stands between two calls of ``play`` is what was done to the servers between the
recordings; time is simulated.
"""

import asyncio
import base64
import functools
import json
import random
import re
import sys
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, unquote
from zlib import crc32

import pytest

from couchdiscover.sandbox.couchdb import Network, Node, Volume
from couchdiscover.sandbox.couchdb.documents import Document
from couchdiscover.sandbox.couchdb.volume import checkpoint_id
from couchdiscover.sandbox.http import Request, Response

FOLDER = Path(__file__).parents[1] / "recorded"
RECORDED: list[dict[str, Any]] = [
    *json.loads((FOLDER / "files-3.5.2.json").read_text()),
    *json.loads((FOLDER / "shards-3.5.2.json").read_text()),
]

NOT_REPLAYED = re.compile(r"/db/d0/a|/db/_design/d/_view/v")
"""Attachments and views: the simulator has none, and nothing here asks for them."""


PASSWORD = b"pw"

IGNORED = re.compile("_local/purge-mrview-")
"""Checkpoints of view indexes."""


class Placement(random.Random):
    """Chooses the first node of a new database as it was chosen when this was recorded."""

    start = 0

    def randrange(self, *_: Any, **__: Any) -> int:
        return self.start


class Stage(Network):
    """A network whose clock moves only when somebody waits, and a cursor into the recording."""

    def __init__(self, name: str) -> None:
        super().__init__(pace=1.0)
        self.random = Placement()
        self.clock = 1000.0
        self.seconds = 1_795_652_700
        self.todo = [n for n, item in enumerate(RECORDED) if item["scenario"] in name.split("+")]
        self.replayed: list[int] = []
        self.skipped: list[int] = []
        self.problems: list[str] = []
        self.session: str | None = None
        self.same: dict[str, str] = {}
        """Our uuids by the recorded ones: one for one."""

    def now(self) -> float:
        return self.clock

    def wall(self) -> float:
        return self.seconds

    async def pause(self, seconds: float, least: float = 0.0) -> None:
        self.clock += max(seconds * self.pace, least)
        await asyncio.sleep(0)

    def wait(self, seconds: float) -> None:
        self.clock += seconds
        self.settle()

    def at(self, pod: str, namespace: str) -> Node:
        node = self.nodes[f"couchdb@{pod}.couchdb.{namespace}.svc.cluster.local"]
        assert isinstance(node, Node)
        return node

    def start_on(self, namespace: str, volumes: list[Volume], first: int = 0) -> list[Node]:
        """Nodes in a namespace, on these volumes."""
        return [
            Node(
                self,
                name=f"couchdb@couchdb-{first + i}.couchdb.{namespace}.svc.cluster.local",
                address=f"127.0.{len(namespace)}.{10 + first + i}",
                volume=volume,
                password=PASSWORD.decode(),
            )
            for i, volume in enumerate(volumes)
        ]

    async def ask(self, node: Node, method: str, path: str, body: Any = None) -> Response:
        answer = await node.handle(request_of({"method": method, "path": path, "body": body}))
        assert isinstance(answer, Response)
        assert answer.status < 300, (method, path, answer)
        return answer

    async def cluster(self, nodes: list[Node]) -> None:
        """Joins nodes to the first one and finishes."""
        for node in nodes[1:]:
            await self.ask(node, "PUT", f"/_node/_local/_nodes/{nodes[0].name}", {})
        self.wait(1)
        await self.ask(nodes[0], "POST", "/_cluster_setup", {"action": "finish_cluster"})

    async def assemble(self, start: int, at: tuple[int, int, int]) -> list[Node]:
        """The cluster of the recordings, its databases made in these seconds."""
        nodes = self.start_on("prod", [Volume(), Volume(), Volume()])
        self.seconds = at[0]
        await self.cluster(nodes)
        self.wait(6)
        self.random.start = start  # type: ignore[attr-defined]
        self.seconds = at[1]
        await self.ask(nodes[0], "PUT", "/db")
        self.seconds = at[2] if at[0] != at[1] else at[1]
        await self.ask(nodes[0], "PUT", "/one?n=1")
        self.seconds = at[2]
        await self.ask(nodes[0], "PUT", "/part?partitioned=true")
        for i in range(1, 10):
            await self.ask(nodes[0], "PUT", f"/db/d{i}", {"v": i})
        found = {
            row["id"]: row["value"]["rev"] for row in RECORDED[225]["response"]["body"]["rows"]
        }
        for name in ("d0", "_design/d"):
            self.plant("db", Document.of(name, found[name], {}))
        await self.ask(nodes[0], "PUT", "/one/x", {})
        await self.ask(nodes[0], "PUT", "/part/p:a", {})
        bob = dict(RECORDED[227]["response"]["body"])
        self.plant("_users", Document.of(bob.pop("_id"), bob.pop("_rev"), bob))
        self.wait(10)
        return nodes

    def plant(self, database: str, document: Document) -> None:
        """A document of a recorded revision that we could not make: it had an attachment, say."""
        for node in self.nodes.values():
            shards = node.map_of(database)
            assert shards is not None
            if node.name in shards.by_range[shards.range_of(document.id)]:
                node.volume.shards[shards.path(shards.range_of(document.id))].put(document)

    async def play(self, count: int, namespace: str = "prod", pause: float = 0.01) -> None:
        """Replays the next exchanges, with the nodes of a namespace."""
        cookies = {node.name: await self.login(node) for node in self._simulated(namespace)}
        for _ in range(count):
            number = self.todo.pop(0)
            item = RECORDED[number]
            if NOT_REPLAYED.fullmatch(item["request"]["path"]):
                self.skipped.append(number)
                continue
            node = self.at(item["node"], namespace)
            self._learn(item)
            asked = item["request"] | {"path": self._ours(item["request"]["path"])}
            answer = await node.handle(request_of(asked, cookies[node.name]))
            assert isinstance(answer, Response)
            self.replayed.append(number)
            expected = item["response"]
            body = json.loads(answer.encode().partition(b"\r\n\r\n")[2])
            wanted = (expected["status"], self._plain(expected["body"], recorded=True))
            got = (answer.status, self._plain(body, recorded=False))
            self._compare_uuids(number, expected["body"], body)
            if wanted != got:
                where = f"{number} [{item['scenario']}] {item['case']}: {item['request']['path']}"
                self.problems.append(f"{where}: {difference(wanted, got)}")
            self.wait(pause)

    async def play_sessions(self, count: int) -> None:
        """Replays the next exchanges, with the session that was opened last."""
        for _ in range(count):
            number = self.todo.pop(0)
            item = RECORDED[number]
            cookie = self.session if item["request"]["auth"] == "session" else None
            node = self.at(item["node"], "prod")
            answer = await node.handle(request_of(item["request"], cookie))
            assert isinstance(answer, Response)
            self.replayed.append(number)
            if "set-cookie" in answer.headers:
                self.session = answer.headers["set-cookie"].partition(";")[0]
            got = (answer.status, json.loads(answer.encode().partition(b"\r\n\r\n")[2]))
            wanted = (item["response"]["status"], item["response"]["body"])
            if wanted != got:
                where = f"{number} {item['case']}: {item['request']['path']}"
                self.problems.append(f"{where}: {difference(wanted, got)}")

    def _simulated(self, namespace: str) -> list[Node]:
        pods = {name.partition("@")[2].split(".")[0] for name in self.nodes if namespace in name}
        return [self.at(pod, namespace) for pod in pods]

    async def login(self, node: Node) -> str:
        """A session, as in the recordings: with one no request costs the hashing of a password."""
        body = {"name": "admin", "password": PASSWORD.decode()}
        item = {"method": "POST", "path": "/_session", "body": body}
        answer = await node.handle(request_of(item))
        assert isinstance(answer, Response)
        return answer.headers["set-cookie"].partition(";")[0]

    def _compare_uuids(self, number: int, recorded: Any, got: Any) -> None:
        uuid = recorded.get("uuid") if isinstance(recorded, dict) else None
        if uuid is None or "uuid" not in got:
            return
        if self.same.setdefault(uuid, got["uuid"]) != got["uuid"]:
            self.problems.append(f"{number}: another uuid than before")

    def _plain(self, body: Any, *, recorded: bool) -> Any:
        """A body with everything random or measured replaced by its form or by what it stands for.

        Our uuids are the recorded ones' from when both are known, by ``know``.
        """
        text = json.dumps(body)
        if not recorded:
            for mine, theirs in self._names():
                text = text.replace(theirs, mine)
        return plain(json.loads(text))

    def _names(self) -> list[tuple[str, str]]:
        """What stands in recorded paths and answers, and what stands in ours for it."""
        pairs = list(self.same.items())
        ids = [
            (checkpoint_id(a, b), checkpoint_id(mine, other))
            for a, mine in pairs
            for b, other in pairs
        ]
        return pairs + ids

    def _ours(self, path: str) -> str:
        for theirs, mine in self._names():
            path = path.replace(theirs, mine)
        return path

    def _learn(self, item: dict[str, Any]) -> None:
        """Which uuids are whose, by a recorded history of copies of a shard."""
        path = (
            unquote(item["request"]["path"].split("/")[3:4][0]) if "shards%2F" in str(item) else ""
        )
        if not path.startswith("shards/") or "rows" not in str(item["response"]["body"])[:60]:
            return
        for row in item["response"]["body"]["rows"]:
            for entries in row["doc"].get("history", {}).values():
                for entry in entries:
                    for side in ("source", "target"):
                        file = self.nodes[entry[f"{side}_node"]].volume.shards.get(path)
                        if file is not None:
                            self.same.setdefault(entry[f"{side}_uuid"], file.uuid)

    def know(self, first: int, nodes: list[Node]) -> None:
        """The uuids of `_dbs` in three recorded answers, two apart, are these nodes'."""
        for i, node in enumerate(nodes):
            uuid = RECORDED[first + 2 * i]["response"]["body"]["uuid"]
            self.same.setdefault(uuid, node.volume.dbs.uuid)


def request_of(recorded: dict[str, Any], cookie: str | None = None) -> Request:
    target, body = recorded["path"], recorded["body"]
    path, _, query = target.partition("?")
    headers = {"host": "127.0.0.1:5984", "accept": "application/json"}
    if cookie is not None:
        headers["cookie"] = cookie
    else:
        headers["authorization"] = "Basic " + base64.b64encode(b"admin:" + PASSWORD).decode()
    data = b"" if body is None else json.dumps(body).encode()
    if body is not None:
        headers["content-type"] = "application/json"
    method = recorded["method"]
    return Request(method, target, unquote(path), dict(parse_qsl(query)), headers, data)


def plain(value: Any, key: str = "") -> Any:
    match key:
        case "uuid":
            return bool(re.fullmatch("[0-9a-f]{32}", value))
        case "ref":
            return type(value).__name__
        case "timestamp":
            return bool(re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z", value))
        case "instance_start_time":
            return len(value) if value.isdigit() else value
        case "purge_seq" | "update_seq":
            return value.partition("-")[0] if isinstance(value, str) else value
        case "sizes":
            return sorted(value)
        case "rows":
            value = [row for row in value if not IGNORED.match(row["id"])]
            value = sorted(value, key=lambda row: str(row["id"]))
        case "results":
            return [(row["seq"], sorted(row), len(row["changes"])) for row in value]
        case "updated_on":
            return len(str(value))
    if isinstance(value, dict):
        if str(value.get("_id", "")).startswith(("_local/shard-sync-", "_local/purge-")):
            value = checkpoint(value)
        return {name: plain(item, name) for name, item in value.items()}
    if isinstance(value, list):
        return [plain(item) for item in value]
    return value


def checkpoint(document: dict[str, Any]) -> dict[str, Any]:
    """A checkpoint; of those between older copies it is not known what else was written to them."""
    told = json.dumps(document)
    if "couchdb.default" not in told or "couchdb-3" in told:
        return document
    known = {key: document[key] for key in ("_id", "_rev", "target_uuid") if key in document}
    return known | {key: sorted(document[key]) for key in ("history",) if key in document}


def partitioned(i: int) -> str:
    """The id of one of 36 documents in the lower and 24 in the upper range."""
    upper = i >= 36
    partition = next(f"p{n}" for n in range(99) if bool(crc32(f"p{n}".encode()) >> 31) is upper)
    return f"{partition}:{i}"


def difference(recorded: Any, got: Any, where: str = "") -> str:
    """The first thing in which two values differ."""
    if isinstance(recorded, dict) and isinstance(got, dict) and recorded.keys() == got.keys():
        pairs = [(str(key), recorded[key], got[key]) for key in recorded]
    elif isinstance(recorded, list | tuple) and isinstance(got, list | tuple):
        if len(recorded) != len(got):
            return f"{where}: {len(recorded)} items recorded, got {len(got)}"
        pairs = [(str(i), a, b) for i, (a, b) in enumerate(zip(recorded, got, strict=True))]
    else:
        return f"{where}: recorded {recorded!r}, got {got!r}"
    return next(difference(a, b, f"{where}/{key}") for key, a, b in pairs if a != b)


Script = Callable[[Stage], Coroutine[Any, Any, None]]
SCRIPTS: dict[str, Script] = {}


def scenario(name: str) -> Callable[[Script], Script]:
    def add(script: Script) -> Script:
        SCRIPTS[name] = script
        return script

    return add


@scenario("files+mark+former names")
async def former_names(stage: Stage) -> None:
    nodes = await stage.assemble(2, (1_795_652_702, 1_795_652_703, 1_795_652_704))
    await stage.play(46)
    nodes[1].wipe()
    await stage.play(14)
    stage.wait(2.5)
    await stage.play(26)
    nodes[0].restart_as_official_image()
    await stage.play(1)
    for node in nodes:
        node.stop()
        stage.leave(node)
    stage.start_on("restored", [node.volume for node in nodes])
    await stage.play(43, "restored")
    for _ in range(6):  # all six while the nodes were still finding together
        at = stage.clock
        await stage.play(1, "restored")
        stage.clock = at + 0.002
    stage.wait(1)
    await stage.play(3, "restored")
    stage.wait(1)
    await stage.play(39, "restored")
    await stage.play(5, "restored")
    stage.wait(1)
    await stage.play(57, "restored")


@scenario("clone")
async def clone(stage: Stage) -> None:
    nodes = await stage.assemble(1, (1_795_652_741, 1_795_652_741, 1_795_652_742))
    stage.start_on("stage", [node.volume.copy() for node in nodes])
    stage.wait(5)
    await stage.play(39, "prod")
    await stage.play(39, "stage")
    await stage.play(1, "prod")
    await stage.play(1, "stage")
    await stage.play(1, "stage")
    await stage.play(1, "prod")


@scenario("history")
async def history(stage: Stage) -> None:
    nodes = stage.start_on("prod", [Volume(), Volume(), Volume()])
    await stage.cluster(nodes)
    await stage.ask(nodes[0], "PUT", "/db")
    stage.wait(10)
    stage.know(349, nodes)
    await stage.play(6)
    nodes[1].wipe()
    stage.know(355, nodes)
    stage.wait(6)
    await stage.play(6)
    for node in nodes:
        node.stop()
        stage.leave(node)
    stage.start_on("restored", [nodes[i].volume for i in (2, 0, 1)])
    await stage.play(6, "restored")


@scenario("secrets")
async def secrets(stage: Stage) -> None:
    nodes = stage.start_on("prod", [Volume(), Volume(), Volume()])
    for node in nodes:
        node.config.set("chttpd_auth", "secret", "964e2a35de45e8a69089c72a8f286a33")
        node.secrets.changed()
    await stage.cluster(nodes)
    await stage.play_sessions(9)
    nodes[1].stop()
    nodes[1].config.set("chttpd_auth", "secret", "rotated")
    # Connected early enough to learn the others' at boot, as it happened when this was recorded.
    nodes[1].secrets.learn_at_boot = True
    nodes[1].start()
    stage.wait(5)
    await stage.play_sessions(18)


async def settings(stage: Stage, node: Node) -> None:
    security = {"members": {"names": ["bob"], "roles": []}}
    security["admins"] = {"names": [], "roles": ["_admin"]}
    await stage.ask(node, "PUT", "/db/_security", security)
    await stage.ask(node, "PUT", "/db/_revs_limit", 77)


@scenario("shards")
async def shards(stage: Stage) -> None:
    nodes = stage.start_on("default", [Volume(), Volume(), Volume()])
    await stage.cluster(nodes)
    stage.seconds = 1_795_491_222
    await stage.ask(nodes[0], "PUT", "/db")
    await stage.ask(nodes[0], "PUT", "/part?partitioned=true")
    await settings(stage, nodes[0])
    for name in ("_design/d", *(f"d{i:04}" for i in range(3000))):
        stage.plant("db", Document.of(name, "1-967a00dff5e02add41819138abb3284d", {}))
    for i in range(60):
        # Which partitions there were is not known; where they fell is.
        stage.plant("part", Document.of(partitioned(i), "1-967a00dff5e02add41819138abb3284d", {}))
    gone, deleted = [f"d{i:04}" for i in range(3000) if crc32(f"d{i:04}".encode()) >> 31][:2]
    revision = {gone: ["1-967a00dff5e02add41819138abb3284d"]}
    await stage.ask(nodes[0], "POST", "/db/_purge", revision)
    await settings(stage, nodes[0])
    await stage.ask(nodes[0], "DELETE", f"/db/{deleted}?rev={revision[gone][0]}")
    nodes[0].volume.shards["shards/80000000-ffffffff/db.1795491222"].put_local("mine", {"ck": 1})
    stage.wait(10)
    stage.seconds = 1_795_491_226
    stage.start_on("default", [Volume()], first=3)
    await stage.ask(
        nodes[0], "PUT", f"/_node/_local/_nodes/{stage.at('couchdb-3', 'default').name}", {}
    )
    stage.wait(1)
    for until_synced in (6, 19, 20, 17):
        await stage.play(until_synced, "default")
        stage.wait(0.1)
        await stage.play(3, "default")  # its first documents are there, and its name goes
        stage.wait(1)
    await stage.play(14, "default")


@functools.cache
def played(name: str) -> Stage:
    """A scenario after its script."""
    stage = Stage(name)
    asyncio.run(SCRIPTS[name](stage))
    return stage


@pytest.mark.parametrize("name", SCRIPTS)
def test_scenario(name: str) -> None:
    stage = played(name)
    assert not stage.problems, "\n".join(stage.problems)
    assert not stage.todo, f"recorded, but in no script: {stage.todo}"


def test_share(capsys: pytest.CaptureFixture[str]) -> None:
    stages = [played(name) for name in SCRIPTS]
    done = sum(len(stage.replayed) for stage in stages)
    with capsys.disabled():
        share = 100 * done / len(RECORDED)
        line = f"{done} of {len(RECORDED)} recorded exchanges replayed ({share:.1f} %)"
        sys.stdout.write(f"\n{line}\n")
    assert done + sum(len(stage.skipped) for stage in stages) == len(RECORDED)
