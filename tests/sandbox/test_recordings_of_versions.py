"""The simulated CouchDB 3.3.3 and 3.4.3 against recordings of the real ones.

Both were asked the same 600 things in the same order. As for 3.5.2, what stands between two calls
of ``play`` is what was done to the servers between the recordings; time is simulated.
"""

import asyncio
import base64
import functools
import json
import re
import sys
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, unquote

import pytest

from couchdiscover.sandbox.couchdb import Network, Node
from couchdiscover.sandbox.http import Request, Response

VERSIONS = ("3.3.3", "3.4.3")
DOMAIN = "couchdb.default.svc.cluster.local"
PASSWORD = "sandbox password"

LOST = range(120, 204)
"""The server lost its address here (it was told to listen to all of them, where others had the
port): connection refused until the recording began anew, at 396."""

DIFFERENT = {
    322: "_nodes on the third node had been written six times, and here seven: they were handed on"
    " in another order",
}

UNKNOWN = ("/_utils/", "/_node/_local/_versions", "/_node/_local/_stats/couchdb/open_databases")
"""Paths of which the simulator knows nothing: nothing here asks for them."""

PARTIAL = re.compile(
    r"/|/_node/[^/]+/_(config(/[^/]+)?|system|dbs|nodes)|/\w+|/_session|/_node/_local/_config/\w+"
)
"""Paths whose answers are compared by what the simulated node says: it may say less."""


class Stage(Network):
    """A network whose clock moves only when somebody waits, and a cursor into a recording."""

    def __init__(self, version: str, scenario: str, start: int = 0) -> None:
        super().__init__(pace=1.0)
        self.version = version
        self.clock = 1000.0
        self.password = PASSWORD
        self.todo = [
            number
            for number, item in enumerate(recorded(version))
            if item["scenario"] == scenario and number >= start and number not in LOST
        ]
        self.replayed: list[int] = []
        self.skipped: list[int] = []
        self.problems: list[str] = []

    def now(self) -> float:
        return self.clock

    def wall(self) -> float:
        return 1_795_486_780

    async def pause(self, seconds: float, least: float = 0.0) -> None:
        self.clock += max(seconds * self.pace, least)
        await asyncio.sleep(0)

    def wait(self, seconds: float) -> None:
        self.clock += seconds
        self.settle()

    def set_up(self, count: int, **options: Any) -> list[Node]:
        """Fresh nodes in place of those there were."""
        self.clear()
        given: dict[str, Any] = {
            "secret": "5ec7e7" * 5 + "00",
            "password": self.password,
            "lockout": False,
        }
        options = given | options
        return [
            Node(
                self,
                name=f"couchdb@couchdb-{i}.{DOMAIN}",
                address=f"127.0.0.{10 + i}",
                version=self.version,
                **options,
            )
            for i in range(count)
        ]

    async def play(self, count: int, pause: float = 0.02) -> None:
        """Replays the scenario's next exchanges, so many seconds apart."""
        for _ in range(count):
            number = self.todo.pop(0)
            item = recorded(self.version)[number]
            if item["request"]["path"] in UNKNOWN or number in DIFFERENT:
                self.skipped.append(number)
                continue
            await self._replay(number, item)
            self.wait(pause)

    async def _replay(self, number: int, item: dict[str, Any]) -> None:
        index = int(item["node"].rpartition("-")[2])
        expected = item["response"]
        request = self._request(item["request"], index, expected["status"])
        answering = list(self.nodes.values())[index].handle(request)
        where = f"{number} {request.method} {request.target}"
        if not isinstance(expected["status"], int):
            try:
                unwanted = await asyncio.wait_for(answering, 0.2)
                self.problems.append(f"{where}:\n  recorded no answer\n  got      {unwanted}")
            except TimeoutError:
                self.replayed.append(number)
            return
        answer = await answering
        assert isinstance(answer, Response)
        self.replayed.append(number)
        body = json.loads(answer.encode().partition(b"\r\n\r\n")[2] or '""')
        body = "" if request.method == "HEAD" else body
        recorded_body = expected["body"]
        if PARTIAL.fullmatch(request.path):
            recorded_body = part(recorded_body, body)
        wanted, got = ((s, plain(b)) for s, b in ((expected["status"], recorded_body),
                                                  (answer.status, body)))  # fmt: skip
        if wanted != got:
            self.problems.append(f"{where}:\n  recorded {wanted}\n  got      {got}")
        for header in ("server", "set-cookie"):
            there: object = expected["headers"].get(header)
            here: object = answer.headers.get(header)
            if header == "set-cookie":
                there, here = there is not None, here is not None
            if there != here:
                self.problems.append(f"{where}: {header} {there!r} != {here!r}")

    def _request(self, item: dict[str, Any], index: int, status: Any) -> Request:
        """A recorded request as it came in; the recording says nothing of its headers.

        Those of another content type, and those that accept HTML, are told by their answers.
        """
        target, body, method = item["path"], item["body"], item["method"]
        path, _, query = target.partition("?")
        headers = {"host": f"127.0.0.{10 + index}:5984", "accept": "application/json"}
        if status == 302:
            headers["accept"] = "text/html"
        # What was sent as it is, and what was made JSON of before, can be told by the path alone.
        raw = isinstance(body, str) and ("couchdiscover/key" in path or "/_config/" not in path)
        data = b"" if body is None else (body.encode() if raw else json.dumps(body).encode())
        if body is not None and status != 415:
            headers["content-type"] = "application/json"
        if item["auth"] != "none":
            pair = {"good": f"admin:{self.password}", "bad": "admin:wrong"}.get(
                item["auth"], item["auth"]
            )
            headers["authorization"] = "Basic " + base64.b64encode(pair.encode()).decode()
        return Request(method, target, unquote(path), dict(parse_qsl(query)), headers, data)


@functools.cache
def recorded(version: str) -> list[dict[str, Any]]:
    path = Path(__file__).parents[1] / "recorded" / f"couchdb-{version}.json"
    exchanges: list[dict[str, Any]] = json.loads(path.read_text())
    return exchanges


def part(recorded_body: Any, body: Any) -> Any:
    """What a recorded object holds under the keys that the simulated one has."""
    if not isinstance(recorded_body, dict) or not isinstance(body, dict):
        return recorded_body
    return {key: part(value, body[key]) for key, value in recorded_body.items() if key in body}


def plain(value: Any, key: str = "") -> Any:
    """A body with everything that is random or measured replaced by its form."""
    match key, value:
        case "ref", int():
            return "int"
        case "uuid" | "secret" | "salt" | "derived_key" | "reason", str():
            return re.sub("[0-9a-f]{32,64}", "hex", value)
        case "instance_start_time", str():
            return "time" if value.isdecimal() else value
        case "purge_seq" | "update_seq", str():
            return value.partition("-")[0]
        case "bind_address" | "port", str():
            return key
        case "sizes", dict():
            return sorted(value)
        case "shard_suffix", list():
            return len(value)
        case "rev" | "_rev", str():
            return value.partition("-")[0]
        case "changelog", list():
            return sorted(value)
        case "uptime", int():
            return "int"
    if isinstance(value, dict):
        return {name: plain(item, name) for name, item in value.items()}
    if isinstance(value, list):
        items = [plain(item) for item in value]
        return sorted(items) if all(isinstance(item, str) for item in items) else items
    if isinstance(value, str):
        return re.sub("[0-9a-f]{40,64},[0-9a-f]{32}", "digest,salt",
                      re.sub("^[0-9a-f]{32}$", "hex", value))  # fmt: skip
    return value


Script = Callable[[Stage], Coroutine[Any, Any, None]]
SCRIPTS: dict[str, Script] = {}


def scenario(script: Script) -> Script:
    SCRIPTS[script.__name__] = script
    return script


@scenario
async def one(stage: Stage) -> None:
    stage.set_up(1)
    await stage.play(120)
    # The same from the beginning, at an address of its own.
    stage.set_up(1)
    await stage.play(138)
    stage.wait(2)
    await stage.play(10)
    stage.wait(1)
    await stage.play(17)
    stage.wait(2)
    await stage.play(39)


@scenario
async def nosecret(stage: Stage) -> None:
    stage.set_up(2, secret=None)
    await stage.play(4)
    stage.wait(1)
    await stage.play(6)


@scenario
async def three(stage: Stage) -> None:
    nodes = stage.set_up(4)
    await stage.play(2)
    stage.wait(1)
    await stage.play(15)
    nodes[2].stop()
    await stage.play(3)
    nodes[2].start()
    stage.wait(2)
    await stage.play(2)
    stage.wait(3)
    await stage.play(34)
    # CouchDB makes the design document of _users by itself, some seconds later.
    stage.wait(5)
    await stage.play(71)
    nodes[2].stop()
    await stage.play(5)
    nodes[1].stop()
    await stage.play(9)
    nodes[1].start()
    nodes[2].start()
    stage.wait(5)
    nodes[2].freeze()
    await stage.play(4)
    nodes[2].thaw()
    stage.wait(5)
    # The recorder had given the fourth node the identity of the others.
    nodes[3].config.set("couchdb", "uuid", nodes[0].uuid())
    await stage.play(1, pause=0.0 if stage.version == "3.3.3" else 1.0)
    await stage.play(1, pause=1.0)
    await stage.play(3)


@scenario
async def lockout(stage: Stage) -> None:
    stage.set_up(1, lockout=True)
    await stage.play(11)


@scenario
async def rvu(stage: Stage) -> None:
    stage.set_up(1, require_valid_user=True)
    await stage.play(13)


@scenario
async def single(stage: Stage) -> None:
    stage.set_up(1, single_node=True)
    await stage.play(6)


@scenario
async def utf8(stage: Stage) -> None:
    stage.password = "Pässwörd: ☃"
    stage.set_up(1)
    await stage.play(2)


@functools.cache
def played(version: str, name: str) -> Stage:
    """A scenario after its script."""
    stage = Stage(version, name)
    asyncio.run(SCRIPTS[name](stage))
    return stage


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("name", SCRIPTS)
def test_scenario(version: str, name: str) -> None:
    stage = played(version, name)
    assert not stage.problems, "\n".join(stage.problems)
    assert not stage.todo, f"recorded, but in no script: {stage.todo}"


@pytest.mark.parametrize("version", VERSIONS)
def test_share(version: str, capsys: pytest.CaptureFixture[str]) -> None:
    done = {number for name in SCRIPTS for number in played(version, name).replayed}
    skipped = {number for name in SCRIPTS for number in played(version, name).skipped}
    count = len(recorded(version))
    with capsys.disabled():
        share = 100 * len(done) / count
        line = f"CouchDB {version}: {len(done)} of {count} recorded exchanges replayed"
        sys.stdout.write(f"\n{line} ({share:.1f} %)\n")
    assert set(range(count)) - done == {*LOST, *skipped}
