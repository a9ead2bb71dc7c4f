"""One simulated CouchDB node: its life, and what it answers to whom."""

import asyncio
import copy
import json
import math
import re
import secrets
from collections.abc import Awaitable, Callable, Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any
from urllib.parse import quote, unquote

from couchdiscover.sandbox.couchdb.accounts import Accounts, User, basic
from couchdiscover.sandbox.couchdb.answers import (
    OK,
    LoginError,
    RefusalError,
    bad_request,
    conflict,
    crash,
    fault,
    missing,
    not_allowed,
)
from couchdiscover.sandbox.couchdb.config import SYSTEM_DBS, Config, Sections, ini_sections
from couchdiscover.sandbox.couchdb.databases import Databases, body_object, listing
from couchdiscover.sandbox.couchdb.documents import ConflictError, Json, Store, edit
from couchdiscover.sandbox.couchdb.image import NO_NAME
from couchdiscover.sandbox.couchdb.network import DROP_FROZEN, Network
from couchdiscover.sandbox.couchdb.old import refuse
from couchdiscover.sandbox.couchdb.sessions import Secrets
from couchdiscover.sandbox.couchdb.setup import ClusterSetup
from couchdiscover.sandbox.couchdb.versions import Traits
from couchdiscover.sandbox.http import Request, Response, Wire

HASHING = 0.09
"""Seconds that 600,000 rounds of PBKDF2 take."""
HASHED_LATE = 0.6
"""Seconds for which a new administrator's password shows in clear, since 3.4."""

_RESHARD = {"state": "running", "state_reason": None} | dict.fromkeys(
    ("completed", "failed", "running", "stopped", "total"), 0
)
_SHARD_PATH = re.compile(r"shards/([0-9a-f]{8}-[0-9a-f]{8})/(.+)(\.[0-9]+)")


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


class Node:
    """A CouchDB node without a socket: ``handle`` answers requests, whoever serves it.

    The keyword arguments are what the environment of an official image's container says; a
    restart of the container goes back to them. ``secret=None`` is an image without
    ``COUCHDB_SECRET``, ``admins={}`` a CouchDB 2 without any admin, ``n=1`` and ``single_node``
    make it stay alone, and ``bind_address="127.0.0.1"`` makes it ``cluster_disabled``. ``ini`` are
    further sections of its ini files, ``zone`` is ``COUCHDB_ZONE``. ``version`` is a release (see
    ``Traits``). ``short_names`` is Erlang's ``-sname``.
    ``first_boot_401`` is in seconds, whatever the pace. ``address`` and ``port`` are where other
    nodes find it, besides its host name. Raises ValueError for what is no version.
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
    ) -> None:
        self.network = network
        self.name = name
        self.host = name.partition("@")[2]
        self.address = address or self.host
        self.port = port
        self.version = version
        self.traits = Traits(version)
        self.server = f"CouchDB/{version} (Erlang OTP/{otp or self.traits.otp})"
        self.seedlist = seedlist
        self.zone = zone
        self.short_names = short_names
        self.full_volume = False
        """Whether the volume with the databases takes nothing more: ``enospc``. Why the ini file
        takes nothing is ``config.unwritable``."""
        self.first_boot_401 = first_boot_401
        self.running = False
        self.frozen = False
        self.started_at = 0.0
        """When the process started, by the network's clock; set it back to fake an uptime."""
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

        self.membership = Store()
        self.dbs = Store()
        self.shards: dict[tuple[str, str, str], Store] = {}
        self.secrets = Secrets(self)
        self.accounts = Accounts(self)
        self.databases = Databases(self)
        self.setup = ClusterSetup(self)
        self.config = Config(self._environment, self.traits)
        self._booted = False
        self._hashed_at = 0.0
        self._joining = 0
        self._saved: Store | None = None
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
                self._hashed_at = self.started_at + self.first_boot_401
                self._booted = True
            self.config.reload()
            self.accounts.boot()
            self._make_members()
            network.started(self)
            self.secrets.boot()
            if self.config.is_true("couchdb", "single_node"):
                network.later(self.traits.single_late, self._make_system_dbs)
                network.settle()
            self._seeds = {}
            self._seed()

    def _make_members(self) -> None:
        # Also those that somebody has deleted (CouchDB's source, src/mem3/src/mem3_nodes.erl).
        for name in (self.name, *self.seedlist):
            old = self.membership.get(name)
            if old is None or old.winner.deleted:
                self.membership.put(edit(old, name, {}, None))
        own = self.membership.get(self.name)
        if self.zone is not None and own is not None and own.winner.body.get("zone") != self.zone:
            body = {**own.winner.body, "zone": self.zone}
            self.membership.put(edit(own, self.name, body, own.winner.name))

    def _make_system_dbs(self) -> None:
        for name in SYSTEM_DBS if self.running else ():
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
                    self.membership = self._saved
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

    def wipe(self, *, data: bool = True, config: bool = True) -> None:
        """Loses what was stored; a node that was running is running again afterwards."""
        with self.network.lock:
            was_running = self.running
            self.stop()
            if data:
                self.membership, self.dbs, self.shards = Store(), Store(), {}
            if config:
                self._reset_config()
            self._booted = not (data and config)
            if was_running:
                self.start()

    # -- state

    @property
    def members(self) -> set[str]:
        """The names in ``_nodes``."""
        return self.membership.live

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

    @property
    def hashing_admins(self) -> bool:
        """Whether this is the moment of the first boot at which no password is right."""
        return self.network.now() < self._hashed_at

    @property
    def maintenance(self) -> str | None:
        """The maintenance mode: ``true``, ``nolb``, or something that means none."""
        return self.config.get("couchdb", "maintenance_mode")

    def uuid(self) -> str:
        """The uuid; made where there is none yet."""
        found = self.config.get("couchdb", "uuid")
        if found is None:
            found = secrets.token_hex(16)
            self.config.put("couchdb", "uuid", found)
        return found

    def file(self, hash_range: str, name: str, suffix: str) -> Store:
        """This node's copy of a shard."""
        return self.shards.setdefault((hash_range, name, suffix), Store())

    def is_called(self, host: str) -> bool:
        """Whether a host name, short or full, or an address is this node's."""
        return host in (self.address, self.host) or self.host.startswith(f"{host}.")

    def speaks_to(self, other: "Node") -> bool:
        """Whether Erlang takes the other's name for one that it could connect to at all.

        Long names need a dot (else ``Hostname couchdb-0 is illegal``) or to be an IPv6 address;
        short ones must have none; ``nonode@nohost`` is connected to nobody.
        """
        if NO_NAME in (self.name, other.name):
            return False
        dotted = "." in other.host or ":" in other.host
        return dotted != self.short_names

    def agrees(self, other: "Node") -> bool:
        """Whether two nodes have the same members and shard maps."""
        same = self.membership.mark == other.membership.mark
        return same and self.dbs.mark == other.dbs.mark

    def member_changed(self, name: str) -> None:
        """Has the distribution notice a change of a document of ``_nodes`` here."""
        peer = self.network.nodes.get(name)
        if peer is not None and name in self.members and peer is not self:
            peer.remember_members()
            self.remember_members()
            if not self.network.linked(self.name, name):
                self.network.join(self, peer)
        self.network.later(0.03, lambda: self.network.spread(self, members=[name]))

    def remember_members(self) -> None:
        """Notes what is on disk now, before members are learned that a kill would forget."""
        if not self.network.pace:
            return
        if self._saved is None or self.network.now() - self._saved_at >= self.network.pace:
            self._saved = Store()
            self._saved.absorb(self.membership)
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
            await self.while_hung({*path[1:2]})
        match path:
            case ["_cluster_setup"] if request.method == "POST":
                return await self.setup.post(request)
            case ["_node", name, "_nodes", doc_id] if request.method == "PUT":
                return await self._put_member(request, user, name, doc_id)
        with network.lock:
            self._stand_in()
            response = self._route(request, path, user)
            network.settle()
            return response

    async def while_hung(self, names: Iterable[str]) -> bool:
        """Waits while one of these nodes is connected and frozen: whoever calls it has no answer.

        Whether there was anything to wait for. Seen on 3.5.2 for 70 s: as long as it takes until
        the connection is given up.
        """
        waited = False
        while True:
            with self.network.lock:
                self.network.settle()
                nodes = [self.network.nodes.get(name) for name in names]
                linked = [n for n in nodes if n and self.network.linked(self.name, n.name)]
                if not any(node.frozen for node in linked):
                    return waited
            waited = True
            await asyncio.sleep(0.05)

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
        """The node a path names; raises a 404 for a stranger, a 412 for one that is down."""
        if name in ("_local", self.name):
            return self
        if self.network.linked(self.name, name):
            return self.network.nodes[name]
        if name in self.members:
            raise fault(412, "nodedown", f"{name} is down")
        raise missing(f"no such node: {name}")

    def _about(self, request: Request, rest: list[str]) -> Response:
        match rest:
            case []:
                return Response(200, {"name": self.name})
            case ["_system"]:
                uptime = math.floor(self.network.now() - self.started_at)
                jobs = int(self.network.syncing)
                return Response(200, {"uptime": uptime, "internal_replication_jobs": jobs})
            case ["_restart"] if request.method == "POST":
                self.network.later(0.0, self._restart)
                return Response(200, OK)
            case ["_config", *where]:
                return self._about_config(request, where)
            case ["_nodes" | "_dbs", *_] if self.full_volume and request.method != "GET":
                raise crash("badmatch", "{{badmatch,{error,enospc}},[]}")
            case ["_nodes", *below]:
                return self._local(request, "_nodes", self.membership, below)
            case ["_dbs", *below]:
                return self._local(request, "_dbs", self.dbs, below)
            case [shard, *below] if (found := _SHARD_PATH.fullmatch(shard)) is not None:
                store = self.shards.get((found[1], found[2], found[3]))
                if store is None:
                    raise missing("no_db_file")
                return self._local(request, shard, store, below)
        raise missing()

    def _about_config(self, request: Request, where: list[str]) -> Response:
        config = self.config
        persist = request.headers.get("x-couch-persist") != "false"
        match request.method, where:
            case "GET" | "HEAD", []:
                filled = {name: dict(keys) for name, keys in config.sections.items() if keys}
                return Response(200, filled)
            case "GET" | "HEAD", [section]:
                return Response(200, dict(config.sections.get(section, {})))
            case "GET" | "HEAD", [section, key]:
                value = config.get(section, key)
            case "DELETE", [section, key]:
                value = config.get(section, key)
                if value is not None and (error := self._unset(section, key, persist=persist)):
                    raise bad_request(error)
            case "PUT", [section, key]:
                new = self._config_value(request)
                value = config.get(section, key, "")
                if error := self.configure(section, key, new, persist=persist):
                    raise bad_request(error)
            case _:
                raise not_allowed("GET") if len(where) < 2 else not_allowed("GET", "PUT", "DELETE")
        if value is None:
            raise missing("unknown_config_value")
        return Response(200, _json_string(value))

    def _config_value(self, request: Request) -> str:
        """What a request sets a value of the configuration to; raises RefusalError."""
        try:
            new: Any = request.json()
        except ValueError:
            raise bad_request("invalid UTF-8 JSON") from None
        if not isinstance(new, str):
            if not self.traits.checks_config_type:
                raise crash("unknown_error", "function_clause")
            raise bad_request("a JSON string expected")
        value = new.strip()
        if "\n" in value or "\r" in value:
            raise bad_request("Invalid configuration value")
        return value

    def configure(self, section: str, key: str, value: str, *, persist: bool = True) -> str | None:
        """Sets a value as CouchDB does: why its file could not be written, or None.

        Then the process has the value, and nobody in it is told: no password is hashed, no other
        node hears of a secret (recorded of 3.5.2 and 3.3.3).
        """
        error = self.config.put(section, key, value, persist=persist)
        if error is None:
            self._told(section, key)
        return error

    def _unset(self, section: str, key: str, *, persist: bool) -> str | None:
        error = self.config.delete(section, key, persist=persist)
        if error is None:
            self._told(section, key)
        return error

    def _told(self, section: str, key: str) -> None:
        match section, key:
            case "chttpd_auth" | "couch_httpd_auth", "secret":
                self.secrets.changed()
            case "admins", user if user in self.config.unhashed:
                self.network.later(HASHED_LATE if self.traits.strong_hashes else 0.0, self._hash)
                self.network.settle()

    def _hash(self) -> None:
        for user in self.config.unhashed:
            self.config.set("admins", user, self.config.admins[user])

    def _local(self, request: Request, db: str, store: Store, below: list[str]) -> Response:
        match request.method, below:
            case "GET" | "HEAD", []:
                count = len(store.live)
                info = {"db_name": db, "doc_count": count, "update_seq": store.edits}
                return Response(200, info)
            case "GET" | "HEAD", ["_all_docs"]:
                return Response(200, listing([store], request.query))
            case "GET" | "HEAD", [doc_id]:
                document = store.get(doc_id)
                if document is None:
                    raise missing()
                if document.winner.deleted:
                    raise missing("deleted")
                conflicts = request.query.get("conflicts") == "true"
                return Response(200, document.json(conflicts=conflicts))
            case "PUT" | "DELETE", [doc_id]:
                return self._edit(request, db, store, doc_id)
        raise not_allowed("DELETE", "GET", "HEAD", "PUT")

    def _edit(self, request: Request, db: str, store: Store, doc_id: str) -> Response:
        deleted = request.method == "DELETE"
        body = {} if deleted else body_object(request)
        revision = body.pop("_rev", request.query.get("rev"))
        body.pop("_id", None)
        if deleted and store.get(doc_id) is None:
            raise missing()
        try:
            document = edit(store.get(doc_id), doc_id, body, revision, deleted=deleted)
        except ConflictError:
            raise conflict() from None
        store.put(document)
        if db == "_nodes":
            self.member_changed(doc_id)
        elif db == "_dbs":
            self.network.spread(self, dbs=[doc_id])
        answer = {"ok": True, "id": doc_id, "rev": document.winner.name}
        if deleted:
            return Response(200, answer)
        host = request.headers.get("host", self.host)
        return Response(201, answer, {"location": f"http://{host}/{db}/{quote(doc_id, safe='')}"})

    async def _put_member(self, request: Request, user: User, name: str, doc_id: str) -> Response:
        with self.network.lock:
            self.accounts.admin(user)
            target = self._node(name)
            known = target.membership.get(doc_id) is not None
            if not known and target._joining and doc_id != target.name:
                # Seen whenever one node was given several new members at once. The body was not
                # recorded.
                raise crash("unknown_error", "undef")
        if known:
            with self.network.lock:
                return target._edit(request, "_nodes", target.membership, doc_id)
        target._joining += 1
        try:
            with self.network.lock:
                response = target._edit(request, "_nodes", target.membership, doc_id)
            await self.network.pause(0.01, least=0.005)
        finally:
            target._joining -= 1
        return response


def _json_string(value: str) -> bytes:
    # A str as a Response's body would be sent without the quotes.
    return json.dumps(value).encode() + b"\n"
