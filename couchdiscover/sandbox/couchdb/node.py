"""One simulated CouchDB node: its life, and what it answers to whom."""

import asyncio
import copy
import json
import math
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any
from urllib.parse import quote, unquote

from couchdiscover.sandbox.couchdb import files
from couchdiscover.sandbox.couchdb.accounts import Accounts, basic
from couchdiscover.sandbox.couchdb.answers import (
    LoginError,
    RefusalError,
    bad_request,
    crash,
    fault,
    missing,
    not_allowed,
)
from couchdiscover.sandbox.couchdb.config import SYSTEM_DBS, Config
from couchdiscover.sandbox.couchdb.databases import Databases
from couchdiscover.sandbox.couchdb.documents import Json, edit
from couchdiscover.sandbox.couchdb.member import Member
from couchdiscover.sandbox.couchdb.network import DROP_FROZEN, Network
from couchdiscover.sandbox.couchdb.setup import ClusterSetup
from couchdiscover.sandbox.couchdb.user import User
from couchdiscover.sandbox.couchdb.volume import File, Volume
from couchdiscover.sandbox.http import Request, Response, Wire

HASHING = 0.09
"""Seconds that 600,000 rounds of PBKDF2 take."""

_FEATURES = ["quickjs", "access-ready", "partitioned", "pluggable-storage-engines", "reshard"]


@dataclass(frozen=True, slots=True)
class Exchange:
    """One request a node served."""

    time: float
    """When it was answered, by the network's clock, in seconds."""
    method: str
    path: str
    """The path as it stood in the request line, without the query."""
    query: Mapping[str, str]
    status: int
    """The status answered; 0 where the connection was torn down instead."""
    user: str | None
    """The name in the Authorization header."""
    user_ok: bool | None
    """Whether the credentials were accepted; None where there were none."""
    client: str

    @property
    def is_write(self) -> bool:
        """Whether the request could change anything."""
        return self.method not in ("GET", "HEAD")


class Node(Member):
    """A CouchDB node without a socket: ``handle`` answers requests, whoever serves it.

    The keyword arguments are what the environment of an official image's container says; a
    restart of the container goes back to them. ``secret=None`` is an image without
    ``COUCHDB_SECRET``, ``admins={}`` a CouchDB 2 without any admin, ``n=1`` and ``single_node``
    make it stay alone, and ``bind_address="127.0.0.1"`` makes it ``cluster_disabled``.
    ``ini`` are further sections of its ini files.
    ``first_boot_401`` is in seconds, whatever the pace. ``address`` and ``port`` are where other
    nodes find it, besides its host name. ``volume`` is what it starts on: another node's, or a copy
    of one, under whatever name that had.
    """

    def __init__(
        self,
        network: Network,
        *,
        name: str,
        user: str = "admin",
        password: str = "secret",  # noqa: S107
        admins: Mapping[str, str] | None = None,
        uuid: str | None = None,
        secret: str | None = "sandbox",  # noqa: S107
        cookie: str = "monster-free",
        bind_address: str = "0.0.0.0",
        n: int | None = None,
        single_node: bool = False,
        seedlist: tuple[str, ...] = (),
        ini: Mapping[str, Mapping[str, str]] | None = None,
        version: str = "3.5.2",
        otp: str = "27",
        lockout: bool = True,
        require_valid_user: bool = False,
        require_valid_user_except_for_up: bool = False,
        first_boot_401: float = 0.0,
        address: str = "",
        port: int = 5984,
        running: bool = True,
        volume: Volume | None = None,
    ) -> None:
        super().__init__(name, address, port, version)
        self.network = network
        self.server = f"CouchDB/{version} (Erlang OTP/{otp})"
        self.seedlist = seedlist
        self.first_boot_401 = first_boot_401
        self.requests: list[Exchange] = []
        self.intercept: Callable[[Request], Awaitable[Response | Wire | None]] | None = None
        """Asked first about every request; what it returns is the answer, None goes on."""

        plain = {user: password} if admins is None else dict(admins)
        sections: dict[str, dict[str, str]] = {
            "couchdb": {"single_node": "true"} if single_node else {},
            "chttpd": {"bind_address": bind_address, "port": str(port)},
            "chttpd_auth": {} if secret is None else {"secret": secret},
            "chttpd_auth_lockout": {} if lockout else {"mode": "off"},
            "cluster": {} if n is None else {"n": str(n)},
            "admins": plain,
        }
        if uuid is not None:
            sections["couchdb"]["uuid"] = uuid
        if require_valid_user:
            sections["chttpd"]["require_valid_user"] = "true"
        if require_valid_user_except_for_up:
            sections["chttpd"]["require_valid_user_except_for_up"] = "true"
        if seedlist:
            sections["cluster"]["seedlist"] = ",".join(seedlist)
        for section, values in (ini or {}).items():
            sections.setdefault(section, {}).update(values)
        self._environment = sections
        self._environment_cookie = cookie

        if volume is not None:
            self.volume = volume
        self.databases = Databases(self, network)
        self.accounts = Accounts(self, network, self.databases)
        self.setup = ClusterSetup(self, network, self.databases)
        self._booted = False
        self._joining = 0
        self._saved: File | None = None
        self._saved_at = 0.0
        self._seeds: dict[str, Json] = {}
        with network.lock:
            network.nodes[name] = self
            self._reset_config()
            if running:
                self.start()

    # -- life

    def _reset_config(self) -> None:
        self.config = Config(copy.deepcopy(self._environment))
        self.cookie = self._environment_cookie
        for user, password in self._environment["admins"].items():
            self.config.set("admins", user, password)

    def start(self) -> None:
        """Starts the process; its members are connected again, its uptime begins anew."""
        network = self.network
        with network.lock:
            network.settle()
            if self.running:
                return
            self.running = True
            self.frozen = False
            self.cookie = self._environment_cookie
            self.started_at = network.now()
            if not self._booted:
                self.accounts.hashed_at = self.started_at + self.first_boot_401
                self._booted = True
            self.volume.opened_by(self.name, network.wall())
            # Also those whose documents were deleted: they come back with each boot.
            for name in (self.name, *self.seedlist):
                if name not in self.members:
                    self.membership.put(edit(self.membership.get(name), name, {}, None))
            network.started(self)
            if self.config.is_true("couchdb", "single_node"):
                for name in SYSTEM_DBS:
                    if self.databases.find(name) is None:
                        self.databases.create(name, props=False)
            self._seeds = {}
            self._seed()

    def stop(self, *, kill: bool = False) -> None:
        """Ends the process. A killed one forgets the members it learned in its last second."""
        with self.network.lock:
            self.network.settle()
            if not self.running:
                return
            self.running = False
            if kill and self._saved is not None:
                if self.network.now() - self._saved_at < self.network.pace:
                    self.volume.nodes = self._saved
                self._saved = None
            self.accounts.forget()
            self.network.stopped(self)

    def freeze(self) -> None:
        """Stops the process as SIGSTOP does: it takes requests and never answers."""
        with self.network.lock:
            self.network.settle()
            self.frozen = True

            def drop() -> None:
                if self.frozen:
                    self.network.stopped(self)

            self.network.later(DROP_FROZEN, drop)

    def thaw(self) -> None:
        """Lets a frozen process go on."""
        with self.network.lock:
            self.network.settle()
            self.frozen = False
            for name in self.members & self.network.nodes.keys():
                self.network.join(self, self.network.nodes[name])

    def restart_as_official_image(self) -> None:
        """Restarts as a container of the official image: data kept, configuration made anew.

        The admin gets a new hash, the uuid is gone until the first ``GET /``, and the secret is
        what the environment gives, or none.
        """
        with self.network.lock:
            self.stop()
            self._reset_config()
            self.start()

    def wipe(self, *, data: bool = True, config: bool = True) -> None:
        """Loses what was stored; a node that was running is running again afterwards."""
        with self.network.lock:
            was_running = self.running
            self.stop()
            if data:
                self.volume = Volume()
            if config:
                self._reset_config()
            self._booted = not (data and config)
            if was_running:
                self.start()

    # -- state

    @property
    def connected(self) -> set[str]:
        """The names of the nodes connected now, its own among them."""
        return {self.name} | self.network.links.get(self.name, set())

    @property
    def state(self) -> str:
        """What ``GET /_cluster_setup`` says."""
        with self.network.lock:
            self.network.settle()
            return self.setup.state()

    def remember_members(self) -> None:
        """Notes what is on disk now, before members are learned that a kill would forget."""
        if not self.network.pace:
            return
        if self._saved is None or self.network.now() - self._saved_at >= self.network.pace:
            self._saved = self.membership.copy()
        self._saved_at = self.network.now()

    # -- seeds

    def _seed(self) -> None:
        """Asks the seeds one after the other, a second apart, until one answers."""
        others = sorted(set(self.seedlist) - {self.name})
        order = [s for s in others if s > self.name] + [s for s in others if s < self.name]
        self._seeds = {seed: {} for seed in reversed(others)}
        started = self.started_at

        def ask(turn: int) -> None:
            done = any(s.get("last_replication_status") == "ok" for s in self._seeds.values())
            if done or not self.running or self.started_at != started:
                return
            seed = order[turn % len(order)]
            peer = self.network.nodes.get(seed)
            answered = peer is not None and self.network.connect(self, peer)
            if peer is not None and answered:
                self.network.exchange([(self, peer)])
                self._seeds[seed] = {"pending_updates": {"_nodes": 0, "_dbs": 0}}
            self._seeds[seed]["last_replication_status"] = "ok" if answered else "error"
            stamp = datetime.fromtimestamp(self.network.wall(), UTC)
            self._seeds[seed]["timestamp"] = stamp.isoformat().replace("+00:00", "Z")
            if not answered:
                # At pace 0 a retry at once, for ever, would never let go of the lock.
                self.network.later(1.0, lambda: ask(turn + 1), least=0.01)

        if order:
            ask(0)

    # -- requests

    async def handle(self, request: Request) -> Response | Wire:
        """Answers one request as CouchDB does."""
        answer: Response | Wire
        user_ok: bool | None = None if basic(request) is None else True
        try:
            if not self.running:
                answer = Wire(reset=True)
            elif self.intercept is not None and (met := await self.intercept(request)) is not None:
                answer = met
            else:
                while self.frozen and self.running:
                    await asyncio.sleep(0.05)
                answer = await self._answer(request)
        except RefusalError as refusal:
            answer = refusal.response
            if isinstance(refusal, LoginError):
                user_ok = False
        if not self.running:
            answer = Wire(reset=True)
        return self._finish(request, answer, user_ok)

    def _finish(
        self, request: Request, answer: Response | Wire, user_ok: bool | None
    ) -> Response | Wire:
        given = basic(request)
        with self.network.lock:
            exchange = Exchange(
                time=self.network.now(),
                method=request.method,
                path=request.target.partition("?")[0],
                query=request.query,
                status=answer.status if isinstance(answer, Response) else 0,
                user=given[0] if given is not None else None,
                user_ok=user_ok,
                client=request.client,
            )
            self.requests.append(exchange)
        if isinstance(answer, Wire):
            return answer
        headers = {"cache-control": "must-revalidate", "server": self.server, **answer.headers}
        if answer.status == 401 and "text/html" in request.headers.get("accept", ""):
            reason = quote(answer.body["reason"])
            place = f"/_utils/session.html?return={quote(request.target, safe='')}&reason={reason}"
            return Response(302, b"", {**headers, "location": place})
        return Response(answer.status, answer.body, headers)

    async def _answer(self, request: Request) -> Response:
        network = self.network
        path = [unquote(part) for part in request.target.partition("?")[0].split("/")[1:]]
        while path and not path[-1]:
            path.pop()
        with network.lock:
            network.settle()
            delay = self._hashing_delay(request, path)
        if delay:
            await network.pause(delay)
        with network.lock:
            network.settle()
            user = self.accounts.user(request)
            if path[:1] == ["_cluster_setup"]:
                user.must_be_admin()
        match path:
            case ["_cluster_setup"] if request.method == "POST":
                return await self.setup.post(request)
            case ["_node", name, "_nodes", doc_id] if request.method == "PUT":
                return await self._put_member(request, user, name, doc_id)
        with network.lock:
            response = self._route(request, path, user)
            network.settle()
            return response

    def _hashing_delay(self, request: Request, path: list[str]) -> float:
        given = basic(request)
        if given is None:
            return 0.0
        times = int(self.accounts.is_new(*given))
        match path:
            case ["_node", _, below, *_] if below in ("_nodes", "_dbs") or "shards/" in below:
                times += 1
        return times * HASHING

    def _route(self, request: Request, path: list[str], user: User) -> Response:
        match path:
            case []:
                return self._welcome()
            case ["_up"]:
                return self._up()
            case ["_session"]:
                return self.accounts.session(request, user)
            case ["_all_dbs"]:
                user.must_be_admin()
                return self.databases.all_dbs()
            case ["_membership"]:
                user.must_be_admin()
                names = {"all_nodes": sorted(self.connected), "cluster_nodes": sorted(self.members)}
                return Response(200, names)
            case ["_cluster_setup"]:
                if request.method not in ("GET", "HEAD"):
                    raise not_allowed("GET", "POST")
                return self.setup.get(request)
            case ["_node", name, *rest]:
                user.must_be_admin()
                return self._node(name)._about(request, rest)
        return self.databases.handle(request, path, user)

    def _welcome(self) -> Response:
        body = {
            "couchdb": "Welcome",
            "version": self.version,
            "git_sha": "5b4d92103",
            "uuid": self.uuid(),
            "features": [*_FEATURES, "scheduler"],
            "vendor": {"name": "The Apache Software Foundation"},
        }
        return Response(200, body)

    def _up(self) -> Response:
        if self.maintenance in ("true", "nolb"):
            mode = "maintenance_mode" if self.maintenance == "true" else "nolb"
            return Response(404, {"status": mode})
        seeded = [s.get("last_replication_status") == "ok" for s in self._seeds.values()]
        if self._seeds and not any(seeded):
            return Response(404, {"seeds": copy.deepcopy(self._seeds), "status": "seeding"})
        return Response(200, {"seeds": copy.deepcopy(self._seeds), "status": "ok"})

    # -- /_node/{name}

    def _node(self, name: str) -> "Node":
        """The node a path names; raises a 404 for a stranger, a 412 for one that is down."""
        if name in ("_local", self.name):
            return self
        if self.network.linked(self.name, name):
            peer = self.network.nodes[name]
            if isinstance(peer, Node):
                return peer
        if self._has_heard_of(name):
            raise fault(412, "nodedown", f"{name} is down")
        raise missing(f"no such node: {name}")

    def _has_heard_of(self, name: str) -> bool:
        """Whether a name is, or was, a member's, or stands in a shard map."""
        if self.membership.get(name) is not None:
            return True
        return any(name in holders for m in self.volume.maps() for holders in m.by_range.values())

    def _about(self, request: Request, rest: list[str]) -> Response:
        match rest:
            case []:
                return Response(200, {"name": self.name})
            case ["_system"]:
                uptime = math.floor(self.network.now() - self.started_at)
                jobs = self.network.replication.backlog
                return Response(200, {"uptime": uptime, "internal_replication_jobs": jobs})
            case ["_config", *where]:
                return self._about_config(request, where)
            case ["_all_dbs"]:
                return files.all_files(request, self)
            case [path, *below] if not path.startswith("_") or path in ("_dbs", "_nodes", "_users"):
                return files.answer(request, self.network, self, path, below)
        raise missing()

    def _about_config(self, request: Request, where: list[str]) -> Response:
        config = self.config
        match request.method, where:
            case "GET" | "HEAD", []:
                filled = {name: dict(keys) for name, keys in config.sections.items() if keys}
                return Response(200, filled)
            case "GET" | "HEAD", [section]:
                return Response(200, dict(config.sections.get(section, {})))
            case "GET" | "HEAD", [section, key]:
                value = config.get(section, key)
            case "DELETE", [section, key]:
                value = config.delete(section, key)
            case "PUT", [section, key]:
                try:
                    new: Any = request.json()
                except ValueError:
                    raise bad_request("invalid UTF-8 JSON") from None
                if not isinstance(new, str):
                    raise bad_request("Config value must be a string")
                value = config.set(section, key, new)
            case _:
                raise not_allowed("GET") if len(where) < 2 else not_allowed("GET", "PUT", "DELETE")
        if value is None:
            raise missing("unknown_config_value")
        return Response(200, _json_string(value))

    async def _put_member(self, request: Request, user: User, name: str, doc_id: str) -> Response:
        with self.network.lock:
            user.must_be_admin()
            target = self._node(name)
            known = target.membership.get(doc_id) is not None
            if not known and target._joining and doc_id != target.name:
                # Seen whenever one node was given several new members at once. The body was not
                # recorded.
                raise crash("unknown_error", "undef")
        if known:
            with self.network.lock:
                return files.edit_document(request, self.network, target, "_nodes", doc_id)
        target._joining += 1
        try:
            with self.network.lock:
                response = files.edit_document(request, self.network, target, "_nodes", doc_id)
            await self.network.pause(0.01, least=0.005)
        finally:
            target._joining -= 1
        return response


def _json_string(value: str) -> bytes:
    # A str as a Response's body would be sent without the quotes.
    return json.dumps(value).encode() + b"\n"
