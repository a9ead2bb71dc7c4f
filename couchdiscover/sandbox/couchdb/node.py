"""One simulated CouchDB node: its life, and what it answers to whom."""

import asyncio
import copy
import math
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from urllib.parse import quote, unquote

from couchdiscover.sandbox.couchdb import files
from couchdiscover.sandbox.couchdb.accounts import Accounts, basic
from couchdiscover.sandbox.couchdb.answers import (
    OK,
    LoginError,
    RefusalError,
    crash,
    fault,
    missing,
    not_allowed,
)
from couchdiscover.sandbox.couchdb.config import SYSTEM_DBS, Config, Sections, ini_sections
from couchdiscover.sandbox.couchdb.configuring import Configuring
from couchdiscover.sandbox.couchdb.databases import Databases
from couchdiscover.sandbox.couchdb.documents import Json, edit
from couchdiscover.sandbox.couchdb.member import NO_NAME, Member
from couchdiscover.sandbox.couchdb.network import DROP_FROZEN, Network
from couchdiscover.sandbox.couchdb.old import refuse
from couchdiscover.sandbox.couchdb.sessions import Secrets
from couchdiscover.sandbox.couchdb.setup import ClusterSetup
from couchdiscover.sandbox.couchdb.user import User
from couchdiscover.sandbox.couchdb.versions import Traits
from couchdiscover.sandbox.couchdb.volume import File, Volume
from couchdiscover.sandbox.http import Request, Response, Wire

HASHING = 0.09
"""Seconds that 600,000 rounds of PBKDF2 take."""

_RESHARD = {"state": "running", "state_reason": None} | dict.fromkeys(
    ("completed", "failed", "running", "stopped", "total"), 0
)


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
    make it stay alone, and ``bind_address="127.0.0.1"`` makes it ``cluster_disabled``. ``ini`` are
    further sections of its ini files, ``zone`` is ``COUCHDB_ZONE``. ``version`` is a release (see
    ``Traits``), ``otp`` another Erlang/OTP than its own. ``short_names`` is Erlang's ``-sname``.
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
        version: str = "3.5.2",
        otp: str | None = None,
        ini: Mapping[str, Mapping[str, str]] | None = None,
        zone: str | None = None,
        short_names: bool = False,
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
        self.server: str | None = None
        """What the Server header says in place of the release: there may be a proxy before it."""
        self._otp = otp
        self.seedlist = seedlist
        self.zone = zone
        self.short_names = short_names
        self.first_boot_401 = first_boot_401
        self.requests: list[Exchange] = []
        self.intercept: Callable[[Request], Awaitable[Response | Wire | None]] | None = None
        """Asked first about every request; what it returns is the answer, None goes on."""

        # What is empty is not there at all.
        given: Sections = {
            "couchdb": {"single_node": "true" if single_node else "", "uuid": uuid or ""},
            "chttpd": {
                "bind_address": bind_address,
                "port": str(port),
                "require_valid_user": "true" if require_valid_user else "",
                "require_valid_user_except_for_up": (
                    "true" if require_valid_user_except_for_up else ""
                ),
            },
            "chttpd_auth": {"secret": secret or ""},
            "chttpd_auth_lockout": {"mode": "" if lockout else "off"},
            "cluster": {"n": "" if n is None else str(n), "seedlist": ",".join(seedlist)},
            "admins": {user: password} if admins is None else dict(admins),
        }
        self._environment = ini_sections(given, ini or {})
        self._environment_cookie = cookie

        if volume is not None:
            self.volume = volume
        self.secrets = Secrets(self, network)
        self.configuring = Configuring(self, network)
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
            if name == NO_NAME:
                network.unnamed.append(self)
            self._reset_config()
            if running:
                self.start()

    # -- life

    def _reset_config(self) -> None:
        unwritable = self.config.unwritable
        self.config = Config(self._environment, self.traits)
        self.config.unwritable = unwritable
        self.config.changed = self.configuring.changed
        self.cookie = self._environment_cookie

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
            self._set_zone()
            self.config.reload()
            self.accounts.boot()
            network.started(self)
            self.secrets.boot()
            if self.config.is_true("couchdb", "single_node"):
                network.later(self.traits.single_late, self._make_system_dbs)
                network.settle()
            self._seeds = {}
            self._seed()

    def _set_zone(self) -> None:
        own = self.membership.docs[self.name]
        if self.zone is not None and own.winner.body.get("zone") != self.zone:
            body = {**own.winner.body, "zone": self.zone}
            self.membership.put(edit(own, self.name, body, own.winner.name))

    def _make_system_dbs(self) -> None:
        for name in SYSTEM_DBS if self.running else ():
            self.make_database(name)

    def make_database(self, name: str) -> None:
        """Makes a database where it is not there yet, as an image or a hook does at the start."""
        with self.network.lock:
            if self.databases.find(name) is None:
                self.databases.create(name, props=False)

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

    def _restart(self) -> None:
        self.stop()
        self.start()

    def restart_as_official_image(self) -> None:
        """Restarts as a container of the official image: data kept, configuration made anew.

        The admin gets a new hash, the uuid is gone until the first ``GET /``, and the secret is
        what the environment gives, or none.
        """
        with self.network.lock:
            self.stop()
            self._reset_config()
            self.start()

    def rotate(self, sections: Sections, cookie: str | None = None) -> None:
        """Has another environment from the next start of its container on."""
        for section, values in sections.items():
            self._environment.setdefault(section, {}).update(values)
        self._environment_cookie = cookie or self._environment_cookie

    def upgrade(self, version: str) -> None:
        """Is another release from now on, an older one too; raises RuntimeError while running.

        Of a container of the official image: data kept, configuration made anew.
        """
        with self.network.lock:
            if self.running:
                raise RuntimeError(f"{self.name} is running")
            self.version, self.traits = version, Traits(version)
            self._reset_config()

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
        server = self.server
        if server is None:
            server = f"CouchDB/{self.version} (Erlang OTP/{self._otp or self.traits.otp})"
        headers = {"cache-control": "must-revalidate", "server": server, **answer.headers}
        if answer.status == 401 and "text/html" in request.headers.get("accept", ""):
            reason = quote(answer.body["reason"])
            place = f"/_utils/session.html?return={quote(request.target, safe='')}&reason={reason}"
            return Response(302, answer.body, {**headers, "location": place})
        return Response(answer.status, answer.body, headers)

    async def _answer(self, request: Request) -> Response:
        network = self.network
        path = [unquote(part) for part in request.target.partition("?")[0].split("/")[1:]]
        while path and not path[-1]:
            path.pop()
        with network.lock:
            self._stand_in()
            network.settle()
            delay = self._hashing_delay(request, path)
        if delay:
            await network.pause(delay)
        with network.lock:
            self._stand_in()
            network.settle()
            user = self.accounts.user(request)
            self.accounts.authorize(user, request.method, path)
            refuse(self.traits, path)
        if path[:1] == ["_node"]:
            await network.while_hung(self, path[1:2])
        match path:
            case ["_cluster_setup"] if request.method == "POST":
                return await self.setup.post(request)
            case ["_node", name, "_nodes", doc_id] if request.method == "PUT":
                return await self._put_member(request, name, doc_id)
        with network.lock:
            self._stand_in()
            response = self._route(request, path, user)
            network.settle()
            return response

    def _stand_in(self) -> None:
        # All nodes without a name are called alike, and each means itself by it.
        if self.name == NO_NAME:
            self.network.nodes[NO_NAME] = self

    def _hashing_delay(self, request: Request, path: list[str]) -> float:
        given = basic(request)
        if given is None or not self.traits.strong_hashes:
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
                return self.databases.all_dbs()
            case ["_active_tasks"]:
                return Response(200, [])
            case ["_reshard"]:
                return Response(200, _RESHARD)
            case ["_membership"]:
                names = {"all_nodes": sorted(self.connected), "cluster_nodes": sorted(self.members)}
                return Response(200, names)
            case ["_cluster_setup"]:
                if request.method not in ("GET", "HEAD"):
                    raise not_allowed("GET", "POST")
                return self.setup.get(request)
            case ["_node", name, *rest]:
                return self._node(name)._about(request, rest)
        return self.databases.handle(request, path, user)

    def _welcome(self) -> Response:
        body = {
            "couchdb": "Welcome",
            "version": self.version,
            "git_sha": self.traits.git_sha,
            "uuid": self.uuid(),
            "features": self.traits.features,
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
        """The node a path names; raises a 404 for no member, a 412 for one that is down."""
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
            case ["_restart"] if request.method == "POST":
                self.network.later(0.0, self._restart)
                return Response(200, OK)
            case ["_config", *where]:
                return self.configuring.answer(request, where)
            case ["_all_dbs"]:
                return files.all_files(request, self)
            case [path, *below] if not path.startswith("_") or path in ("_dbs", "_nodes", "_users"):
                return files.answer(request, self.network, self, path, below)
        raise missing()

    def configure(self, section: str, key: str, value: str) -> str | None:
        """Sets a value as CouchDB does: why its file could not be written, or None."""
        return self.config.put(section, key, value)

    async def _put_member(self, request: Request, name: str, doc_id: str) -> Response:
        with self.network.lock:
            target = self._node(name)
            files.need_room(target)
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
