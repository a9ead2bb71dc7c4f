"""The simulated CouchDB against recordings of a real one: same requests, same answers.

Every recorded exchange is played against nodes that were brought into the state it was recorded
in. A scenario is a script below; ``await stage.play(5)`` replays its next five exchanges, in the
recorded order, and what stands between is what was done to the servers between the recordings.
Time is simulated: a wait of 30 seconds takes none.
"""

import asyncio
import base64
import functools
import json
import math
import re
import sys
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, unquote

import pytest

from couchdiscover.sandbox.couchdb import Network, Node
from couchdiscover.sandbox.http import Request, Response

RECORDED: list[dict[str, Any]] = json.loads(
    (Path(__file__).parents[1] / "recorded" / "couchdb-3.5.2.json").read_text()
)
DOMAIN = "rec.default.svc.cluster.local"

NOT_REPLAYED: dict[int, str] = {}
"""Position in the recording of each exchange that is not replayed, and why."""

CREDENTIALS = {"good": "admin:secret", "bad": "admin:wrong", "unknown": "nobody:wrong"}
SLOW = 0.9
"""Recorded answers that took longer than this many seconds must be slow here too."""


class Stage(Network):
    """A network whose clock moves only when somebody waits, and a cursor into the recording."""

    def __init__(self, scenario: str) -> None:
        super().__init__(pace=1.0)
        self.clock = 1000.0
        self.seconds = 1_795_404_000
        self.todo = [n for n, item in enumerate(RECORDED) if item["scenario"] == scenario]
        self.replayed: list[int] = []
        self.problems: list[str] = []
        self.uuids: dict[str, str] = {}

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

    def set_up(self, count: int, **options: Any) -> list[Node]:
        """Fresh nodes in place of those there were. A callable option gets the node's number."""
        self.clear()
        self.uuids.clear()
        options = {"secret": lambda i: f"secret-{i}"} | options
        nodes = []
        for i in range(count):
            given = {key: value(i) if callable(value) else value for key, value in options.items()}
            name = f"couchdb@rec-{i}.{DOMAIN}"
            node = Node(self, name=name, address=f"127.0.0.{10 + i}", **given)
            # Recorded in less than the five seconds after which CouchDB fills ``_users`` by itself.
            node.databases.auth_design_after = math.inf
            nodes.append(node)
        return nodes

    async def play(self, count: int, pause: float = 0.5) -> None:
        """Replays the scenario's next exchanges, so many seconds apart."""
        for _ in range(count):
            number = self.todo.pop(0)
            if number in NOT_REPLAYED:
                continue
            await self._replay(number, RECORDED[number])
            self.wait(pause)

    async def _replay(self, number: int, item: dict[str, Any]) -> None:
        index = int(item["node"].rpartition(" ")[2])
        started = self.clock
        answer = await list(self.nodes.values())[index].handle(request_of(item["request"], index))
        took = self.clock - started
        assert isinstance(answer, Response)
        self.replayed.append(number)
        expected = item["response"]
        wanted = (expected["status"], *self._shape(expected["body"]))
        body = json.loads(answer.encode().partition(b"\r\n\r\n")[2] or '""')
        if item["request"]["method"] == "HEAD":
            body = ""
        got = (answer.status, *self._shape(body))
        where = f"{number} [{item['scenario']}] {item['case']} ({item['state']})"
        if got[:2] != wanted[:2]:
            self.problems.append(f"{where}:\n  recorded {wanted[:2]}\n  got      {got[:2]}")
        elif self.uuids.setdefault(wanted[2], got[2]) != got[2]:
            self.problems.append(f"{where}: another uuid than before")
        headers = compare_headers(expected["headers"], answer.headers)
        if headers:
            self.problems.append(f"{where}: headers {headers}")
        slow = item["elapsed_s"] if item["elapsed_s"] > SLOW else 0.0
        if abs(took - slow) > max(0.25 * slow, 0.5):
            self.problems.append(f"{where}: took {took:.2f} s, recorded {item['elapsed_s']} s")

    def _shape(self, body: Any) -> tuple[Any, str]:
        """A body without what is random, and the uuid that stood in it."""
        uuid = body.get("uuid", "") if isinstance(body, dict) else ""
        return plain(body), uuid

    async def ask(
        self, node: int, method: str, path: str, body: Any = None, auth: str = "good"
    ) -> Response:
        """A request of the script's own."""
        item = {"method": method, "path": path, "body": body, "auth": auth}
        answer = await list(self.nodes.values())[node].handle(request_of(item, node))
        assert isinstance(answer, Response)
        return answer

    async def assemble(self, count: int, **options: Any) -> None:
        """Fresh nodes, joined by hand."""
        nodes = self.set_up(count, **options)
        for node in nodes[1:]:
            await self.ask(0, "PUT", f"/_node/_local/_nodes/{node.name}", {})
        self.wait(1.0)


def request_of(recorded: dict[str, Any], index: int) -> Request:
    """A recorded request as it comes in."""
    target, body = recorded["path"], recorded["body"]
    path, _, query = target.partition("?")
    headers = {"host": f"127.0.0.{10 + index}:5984", "accept": "application/json"}
    raw = isinstance(body, str) and "/_config/" not in path
    data = b"" if body is None else (body.encode() if raw else json.dumps(body).encode())
    kind = recorded.get("content_type", "application/json" if body is not None else None)
    if kind is not None:
        headers["content-type"] = kind
    if recorded["auth"] != "none":
        pair = CREDENTIALS.get(recorded["auth"], recorded["auth"])
        headers["authorization"] = "Basic " + base64.b64encode(pair.encode()).decode()
    method = recorded["method"]
    return Request(method, target, unquote(path), dict(parse_qsl(query)), headers, data)


def plain(value: Any, key: str = "") -> Any:
    """A body with everything that is random or measured replaced by its form."""
    match key:
        case "uuid":
            return "uuid" if re.fullmatch("[0-9a-f]{32}", value) else value
        case "ref":
            return type(value).__name__
        case "timestamp":
            return "timestamp" if re.fullmatch(r"[\d-]+T[\d:.]+Z", value) else value
        case "instance_start_time":
            return "seconds" if re.fullmatch(r"\d{10}", value) else value
        case "purge_seq" | "update_seq":
            return value.partition("-")[0]
        case "sizes":
            return sorted(value)
        case "shards":
            # With more nodes than copies the first node is chosen at random.
            named = {name for names in value.values() for name in names}
            full = all(len(names) == len(named) for names in value.values())
            return value if full else {r: len(names) for r, names in value.items()}
    if isinstance(value, dict):
        return {name: plain(item, name) for name, item in value.items()}
    if isinstance(value, list):
        return [plain(item) for item in value]
    return value


def compare_headers(recorded: dict[str, str], got: Any) -> str:
    """What differs in the headers that say something; '' where nothing does."""
    got = {"content-type": "application/json"} | dict(got)
    same = ("server", "content-type", "location", "allow", "www-authenticate")
    wrong = [name for name in same if recorded.get(name) != got.get(name)]
    there = ("set-cookie", "x-couch-stack-hash")
    wrong += [name for name in there if (name in recorded) != (name in got)]
    return ", ".join(f"{n}: {recorded.get(n)!r} != {got.get(n)!r}" for n in wrong)


Script = Callable[[Stage], Coroutine[Any, Any, None]]
SCRIPTS: dict[str, Script] = {}


def scenario(script: Script) -> Script:
    SCRIPTS[script.__name__] = script
    return script


@scenario
async def states(stage: Stage) -> None:
    # The wrong password is asked for again and again here: recorded without a lockout.
    stage.set_up(1, bind_address="127.0.0.1", lockout=False)
    await stage.play(31)
    stage.set_up(1, bind_address="127.0.0.1", admins={}, lockout=False)
    await stage.play(20)
    stage.set_up(2, lockout=False)
    await stage.play(62, pause=0.05)  # _users has no design document yet
    stage.set_up(1, n=1, lockout=False)
    await stage.play(8)
    await stage.play(6)
    stage.set_up(1, single_node=True, lockout=False)
    await stage.play(4)
    stage.set_up(1, require_valid_user=True, lockout=False)
    await stage.play(30)
    both = {"require_valid_user": True, "require_valid_user_except_for_up": True}
    stage.set_up(1, lockout=False, **both)
    await stage.play(30)
    stage.set_up(1, require_valid_user_except_for_up=True, lockout=False)
    await stage.play(9)


@scenario
async def lockout(stage: Stage) -> None:
    stage.set_up(1)
    await stage.play(11)
    stage.set_up(2)
    await stage.play(8)
    assert stage.nodes[f"couchdb@rec-0.{DOMAIN}"].members == {f"couchdb@rec-0.{DOMAIN}"}


@scenario
async def enable(stage: Stage) -> None:
    nodes = stage.set_up(7, bind_address="127.0.0.1")
    await stage.play(14)
    assert nodes[4].state == "cluster_enabled"
    assert nodes[4].config.admins == nodes[0].config.admins
    await stage.play(5)
    assert [n.state for n in nodes[5:]] == ["cluster_disabled", "cluster_enabled"]
    await stage.play(2)
    assert nodes[1].state == "single_node_disabled"
    assert set(nodes[2].config.admins) == {"admin", "second"}
    node = stage.set_up(1, bind_address="127.0.0.1", admins={})[0]
    await stage.play(2)
    assert node.state == "cluster_enabled"


@scenario
async def add(stage: Stage) -> None:
    nodes = stage.set_up(4)
    await stage.play(51)
    assert {node.state for node in nodes} == {"cluster_finished"}
    assert all(len(node.members) == len(node.connected) == 4 for node in nodes)


@scenario
async def nodes(stage: Stage) -> None:
    third = stage.set_up(3)[2]
    await stage.play(17)
    third.stop()
    await stage.play(2)


@scenario
async def hang(stage: Stage) -> None:
    stage.set_up(2)[1].freeze()
    await stage.play(1)


@scenario
async def finish(stage: Stage) -> None:
    third = stage.set_up(3)[2]
    await stage.play(2)
    third.stop(kill=True)
    await stage.play(2)
    third.start()
    stage.wait(40)
    await stage.play(1)
    third = stage.set_up(3)[2]
    await stage.play(2)
    third.freeze()
    stage.wait(70)  # as long as they are connected, there is no answer at all
    await stage.play(1)
    stage.set_up(1)
    await stage.play(1)
    one, two = stage.set_up(2, secret=None)
    await stage.play(4)
    assert one.config.admins == two.config.admins
    await stage.play(2)
    assert one.config.secret == two.config.secret is not None
    stage.set_up(1, secret=None)
    await stage.play(1)
    stage.set_up(2)
    await stage.play(4)
    stage.set_up(3)
    await stage.play(2)


@scenario
async def cookie(stage: Stage) -> None:
    second = stage.set_up(3, cookie=lambda i: f"cookie-{i}")[1]
    await stage.play(5)
    second.stop()
    second.start()
    assert second.connected == {second.name}
    await stage.play(2)
    assert len(second.connected) == 3


@scenario
async def sync(stage: Stage) -> None:
    first, second, third = stage.set_up(3)
    await stage.play(6)
    second.config.set("chttpd_auth", "secret", "drifted")
    third.config.set("couchdb", "uuid", "drifted")
    third.config.set("admins", "admin", "secret")
    await stage.play(1)
    assert first.config.sections == second.config.sections == third.config.sections
    third.restart_as_official_image()
    await stage.play(1)
    third.restart_as_official_image()
    await stage.ask(2, "GET", "/")
    wiped = dict(third.config.admins)
    await stage.play(1)
    assert first.config.admins == wiped
    await stage.ask(0, "PUT", "/db1")
    await stage.play(1)
    third.wipe()
    assert third.state == "cluster_enabled"
    stage.wait(1.2)
    assert third.state == "cluster_finished"
    await stage.play(1)


@scenario
async def restart(stage: Stage) -> None:
    stage.set_up(3)
    await stage.play(3)


@scenario
async def scale(stage: Stage) -> None:
    fourth = stage.set_up(4)[3]
    await stage.play(3)
    await stage.ask(0, "PUT", "/db1")
    await stage.ask(0, "PUT", "/db1/d", {"a": 1})
    await stage.play(3)
    assert fourth.state == "cluster_finished"
    await stage.play(3)
    await stage.ask(0, "PUT", "/db2?q=8")
    await stage.play(2)
    assert len(fourth.members) == 4
    assert len(stage.nodes[f"couchdb@rec-2.{DOMAIN}"].members) == 3


@scenario
async def seed(stage: Stage) -> None:
    seeds = tuple(f"couchdb@rec-{i}.{DOMAIN}" for i in range(3))
    first, second, third = stage.set_up(3, seedlist=seeds, running=False)
    first.start()
    await stage.play(1)
    stage.wait(2.6)
    await stage.play(1)
    second.start()
    stage.wait(0.45)
    at = stage.clock
    await stage.play(1)
    stage.clock = at
    await stage.play(1)
    third.start()
    stage.wait(1.0)
    await stage.play(8)
    stage.set_up(3, seedlist=seeds, cookie=lambda i: f"cookie-{i}")
    stage.wait(3.0)
    await stage.play(1)


async def finish_apart(stage: Stage, *seconds: int) -> None:
    """Two clusters of one node each, made at these times, with databases of their own."""
    stage.set_up(2)
    for i, second in enumerate(seconds):
        stage.seconds = second
        await stage.play(1)
        user = {"name": f"u{i}", "password": "pw", "roles": [], "type": "user"}
        await stage.ask(i, "PUT", f"/_users/org.couchdb.user:u{i}", user)
        for name, doc in ((f"only{i}", "doc"), ("same", f"doc{i}")):
            await stage.ask(i, "PUT", f"/{name}")
            await stage.ask(i, "PUT", f"/{name}/{doc}", {})


async def found(stage: Stage) -> dict[str, list[int]]:
    """The status of every document on both nodes."""
    paths = ["/only0/doc", "/only1/doc", "/same/doc0", "/same/doc1"]
    paths += [f"/_users/org.couchdb.user:u{i}" for i in (0, 1)]
    return {path: [(await stage.ask(i, "GET", path)).status for i in (0, 1)] for path in paths}


@scenario
async def split(stage: Stage) -> None:
    # Both made their databases within one second, so that the files had the same names and the
    # copies were merged after some seconds.
    await finish_apart(stage, 1_795_404_157, 1_795_404_157)
    await stage.play(5)
    assert (await found(stage))["/same/doc1"] == [404, 404]
    await stage.play(6)
    stage.wait(6)
    assert {tuple(statuses) for statuses in (await found(stage)).values()} == {(200, 200)}
    await stage.play(5)


@scenario
async def split2(stage: Stage) -> None:
    await finish_apart(stage, 1_795_404_382, 1_795_404_385)
    await stage.play(12)
    for minutes in (0, 1):
        stage.wait(60 * minutes)
        assert await found(stage) == {
            "/only0/doc": [200, 200],
            "/only1/doc": [200, 200],
            "/same/doc0": [404, 404],
            "/same/doc1": [200, 200],
            "/_users/org.couchdb.user:u0": [404, 404],
            "/_users/org.couchdb.user:u1": [200, 200],
        }
    for node in stage.nodes.values():
        assert isinstance(node, Node)
        node.stop()
        node.start()
    stage.wait(10)
    assert (await found(stage))["/same/doc0"] == [404, 404]
    for name, status in (("u0", 401), ("u1", 200)):
        for i in (0, 1):
            assert (await stage.ask(i, "GET", "/_session", auth=f"{name}:pw")).status == status


@scenario
async def boot(stage: Stage) -> None:
    first, second, _ = stage.set_up(3)
    await stage.play(3)
    await stage.ask(0, "PUT", "/db1")
    await stage.ask(0, "PUT", "/_users/org.couchdb.user:u", {"name": "u", "password": "pw"})
    stage.wait(1)
    first.stop()
    second.stop()
    await stage.play(5)


@scenario
async def maint(stage: Stage) -> None:
    stage.set_up(3)
    mode = f"/_node/couchdb@rec-1.{DOMAIN}/_config/couchdb/maintenance_mode"
    await stage.play(3)
    await stage.ask(0, "PUT", "/db1")
    for value in ("true", "nolb", "false"):
        await stage.ask(0, "PUT", mode, value)
        await stage.play(9)
    stage.set_up(3)
    await stage.play(2)
    await stage.ask(0, "PUT", mode, "true")
    await stage.play(1)
    await stage.ask(0, "PUT", mode, "false")
    await stage.play(1)


@scenario
async def extra(stage: Stage) -> None:
    first, second, _ = stage.set_up(3)
    await stage.play(7)
    first.stop()
    assert second.state == "cluster_enabled"
    lost = await stage.ask(1, "GET", "/_users")
    assert (lost.status, lost.body["reason"]) == (500, "No DB shards could be opened.")
    stage.set_up(2)
    await stage.play(6)
    nodes = stage.set_up(2)
    await stage.play(5)
    assert nodes[0].config.sections == nodes[1].config.sections
    stage.set_up(3)
    await stage.play(3)
    first, second = stage.set_up(2, admins=lambda i: {"other": "otherpw"} if i else None)
    await stage.play(2)
    assert set(second.config.admins) == {"admin", "other"}
    assert (await stage.ask(1, "GET", "/_session")).status == 200
    assert (await stage.ask(0, "GET", "/_session", auth="other:otherpw")).status == 401
    stage.set_up(2, require_valid_user=True)
    await stage.play(2)
    nodes = stage.set_up(2, bind_address=lambda i: "127.0.0.1" if i else "0.0.0.0")
    await stage.play(2)
    assert [node.state for node in nodes] == ["cluster_finished", "cluster_disabled"]
    await stage.assemble(5)
    await stage.play(1)
    second = stage.set_up(2)[1]
    await stage.play(1)
    second.stop(kill=True)
    second.start()
    assert len(second.connected) == 1
    stage.wait(38.4)
    assert len(second.connected) == len(second.members) == 2
    nodes = stage.set_up(2, secret=None)
    await stage.play(3)
    assert nodes[1].config.secret == "abc123"
    stage.set_up(2, secret=None)
    await stage.play(4)


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
    done = {number for name in SCRIPTS for number in played(name).replayed}
    with capsys.disabled():
        share = 100 * len(done) / len(RECORDED)
        line = f"{len(done)} of {len(RECORDED)} recorded exchanges replayed ({share:.1f} %)"
        sys.stdout.write(f"\n{line}\n")
    assert set(range(len(RECORDED))) - done == set(NOT_REPLAYED)
