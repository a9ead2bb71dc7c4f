"""``/_cluster_setup``: the states, and the actions as CouchDB really performs them."""

import base64
import ipaddress
import json
from typing import Any

from couchdiscover.sandbox.couchdb.answers import OK, bad_request, conflict, crash, fault
from couchdiscover.sandbox.couchdb.config import LOOPBACK, SYSTEM_DBS
from couchdiscover.sandbox.couchdb.databases import Databases
from couchdiscover.sandbox.couchdb.documents import ConflictError, Json, edit
from couchdiscover.sandbox.couchdb.member import Member
from couchdiscover.sandbox.couchdb.network import Network
from couchdiscover.sandbox.http import Request, Response

# Seconds, as measured on real servers.
NEW_ADMIN = 1.0
UNHASHED_ADMIN = 300.0
CONFIG_ONLY = 0.1
CONNECT_TIMEOUT = 5.0
CONNECT_TIMEOUT_FROZEN = 7.05
REQUEST_TIMEOUT = 30.1


class ClusterSetup:
    """The set-up of one node."""

    def __init__(self, node: Member, network: Network, databases: Databases) -> None:
        self._node = node
        self._network = network
        self._databases = databases

    def state(self, dbs: list[str] | tuple[str, ...] = SYSTEM_DBS) -> str:
        """What the node believes of itself; it says nothing about other members."""
        node = self._node
        finished = all(self._databases.openable(name) for name in dbs)
        if node.config.is_true("couchdb", "single_node"):
            return "single_node_enabled"  # whatever databases there are
        if node.config.single:
            return "single_node_enabled" if finished else "single_node_disabled"
        if not node.config.enabled:
            return "cluster_disabled"
        return "cluster_finished" if finished else "cluster_enabled"

    def get(self, request: Request) -> Response:
        """Answers a GET."""
        try:
            dbs = json.loads(request.query.get("ensure_dbs_exist", json.dumps(SYSTEM_DBS)))
        except ValueError:
            raise bad_request("invalid_json") from None
        return Response(200, {"state": self.state(dbs)})

    async def post(self, request: Request) -> Response:
        """Answers a POST; raises RefusalError."""
        if not request.headers.get("content-type", "").startswith("application/json"):
            raise fault(
                415,
                "bad_content_type",
                "Content-Type must be application/json",
                {"connection": "close"},
            )
        try:
            options: Any = request.json()
        except ValueError:
            options = None
        if not isinstance(options, dict):
            raise bad_request("Missing JSON body'")
        action = options.get("action", "")
        if not isinstance(action, str):
            raise crash("unknown_error", "badarg")
        match action:
            case "enable_cluster" if "remote_node" in options:
                await self._enable_remote(options)
            case "enable_cluster":
                await self._enable(options)
            case "enable_single_node":
                await self._enable_single(options)
            case "add_node":
                await self._add(options)
            case "finish_cluster":
                await self._finish(options)
            case "receive_cookie":
                self._receive_cookie(options)
            case "remove_node":
                pass  # so it is: it answers 201 and does nothing
            case _:
                raise bad_request("Invalid Action'")
        return Response(201, OK)

    # -- enabling

    async def _enable(self, options: Json) -> None:
        node = self._node
        with self._network.lock:
            if node.config.enabled:
                raise bad_request("Cluster is already enabled")
            bind = options.get("bind_address")
            if bind is None or bind in LOOPBACK:
                raise fault(
                    500,
                    "error",
                    "Cluster setup requires a remote bind_address (not 127.0.0.1 nor ::1)",
                )
            try:
                ipaddress.ip_address(bind)
            except ValueError:
                raise fault(500, "error", "ok") from None
            if options.get("node_count") is None:
                raise fault(500, "error", "Cluster setup requires node_count to be configured")
            node.configure("cluster", "n", str(options["node_count"]))
            delay = self._configure(options)
        await self._settle(delay)

    async def _enable_single(self, options: Json) -> None:
        node = self._node
        with self._network.lock:
            node.configure("cluster", "n", "1")
            delay = self._configure(options)
            self._create_missing(options.get("ensure_dbs_exist", SYSTEM_DBS))
        await self._settle(delay)

    async def _settle(self, delay: float) -> None:
        await self._network.pause(delay)
        with self._network.lock:
            self._network.settle()
            unhashed = bool(self._node.config.unhashed)
        if delay >= NEW_ADMIN and unhashed:
            await self._network.pause(UNHASHED_ADMIN - delay)
            raise fault(500, "setup_error", "Admin passwords could not be hashed")

    def _configure(self, options: Json) -> float:
        # Nobody looks whether the file could be written.
        configure = self._node.configure
        if options.get("bind_address") is not None:
            configure("chttpd", "bind_address", options["bind_address"])
        if options.get("port") is not None:
            configure("chttpd", "port", str(options["port"]))
        stored = options.get("password_hash") or options.get("password")
        if options.get("username") is None or stored is None:
            return CONFIG_ONLY
        configure("admins", str(options["username"]), str(stored))
        # A ready hash needs no hashing and no waiting for it; before 3.4 nobody waits.
        late = self._node.traits.strong_hashes and not options.get("password_hash")
        return NEW_ADMIN if late else CONFIG_ONLY

    async def _enable_remote(self, options: Json) -> None:
        # Whatever the remote says, the answer is 201.
        sent = {k: v for k, v in options.items() if not k.startswith("remote_")}
        own = self._node.config.admins.get(str(options.get("username")))
        if own is not None:
            sent["password_hash"] = own
        await self._ask(
            str(options["remote_node"]),
            options.get("port"),
            sent,
            options.get("remote_current_user"),
            options.get("remote_current_password"),
        )

    async def _ask(
        self, host: str, port: Any, body: Json, user: str | None, password: str | None
    ) -> int | str:
        """A request to another node: its status, or why there is none."""
        node = self._node
        with self._network.lock:
            remote = self._network.find(host, int(port or 5984))
        if isinstance(remote, str):
            return remote
        if remote.frozen:
            await self._network.pause(REQUEST_TIMEOUT)
            return "req_timedout"
        headers = {"content-type": "application/json", "host": f"{host}:{port}"}
        if user is not None:
            pair = base64.b64encode(f"{user}:{password or ''}".encode()).decode()
            headers["authorization"] = f"Basic {pair}"
        answer = await remote.handle(
            Request(
                method="POST",
                target="/_cluster_setup",
                path="/_cluster_setup",
                query={},
                headers=headers,
                body=json.dumps(body).encode(),
                client=node.address,
            )
        )
        return answer.status if isinstance(answer, Response) else "econnrefused"

    # -- adding

    async def _add(self, options: Json) -> None:
        node = self._node
        if not node.config.enabled:
            raise bad_request("Cluster is not enabled.")
        host, user, password = (options.get(key) for key in ("host", "username", "password"))
        if host is None or user is None or password is None:
            raise crash("unknown_error", "badarg")
        body = {"action": "receive_cookie", "cookie": node.cookie}
        status = await self._ask(str(host), options.get("port"), body, str(user), str(password))
        match status:
            case "nxdomain":
                raise crash("invalid_ejson", "{conn_failed,{error,nxdomain}}")
            case "econnrefused":
                raise bad_request("Add node failed. Invalid Host and/or Port.")
            case "req_timedout":
                raise bad_request("req_timedout")
            case 201:
                # Nobody asks whether this is the remote's Erlang name.
                name = f"{options.get('name') or node.name.partition('@')[0]}@{host}"
                self._create_member(name)
            case _:
                pass  # refused there, and 201 here all the same

    def _create_member(self, name: str) -> None:
        node = self._node
        with self._network.lock:
            self._network.settle()
            try:
                node.membership.put(edit(node.membership.get(name), name, {}, None))
            except ConflictError:
                raise conflict() from None
            self._network.member_changed(node, name)

    def _receive_cookie(self, options: Json) -> None:
        node = self._node
        with self._network.lock:
            node.cookie = str(options.get("cookie", node.cookie))
            for peer in self._network.nodes.values():
                if peer.name in node.members or node.name in peer.members:
                    if peer.dbs.live or node.dbs.live:
                        self._network.join(peer, node)
                    else:
                        self._network.expect(peer, node)

    # -- finishing

    async def _finish(self, options: Json) -> None:
        node = self._node
        dbs = [str(name) for name in options.get("ensure_dbs_exist", SYSTEM_DBS)]
        with self._network.lock:
            node.uuid()
            # Taken now and written later: two finishes at once swap their values.
            admins = dict(node.config.admins)
        await self._wait_connected()
        await self._network.pause(0.02)
        with self._network.lock:
            self._network.settle()
            self._sync(admins)
            if all(self._databases.openable(name) for name in dbs):
                raise bad_request("Cluster is already finished")
            self._create_missing(dbs)

    async def _wait_connected(self) -> None:
        network = self._network
        waited = 0.0
        while True:
            # A ping of a frozen node that is still connected comes back when that is given up.
            if await network.while_hung(self._node, self._node.members):
                waited = CONNECT_TIMEOUT_FROZEN
            with network.lock:
                network.settle()
                absent, frozen = self._absent()
            if not absent:
                return
            if waited >= (CONNECT_TIMEOUT_FROZEN if frozen else CONNECT_TIMEOUT):
                raise fault(
                    500,
                    "setup_error",
                    "Cluster setup timed out waiting for nodes to connect",
                )
            await network.pause(0.1)
            waited += 0.1

    def _absent(self) -> tuple[set[str], bool]:
        node = self._node
        frozen = False
        absent = set()
        for name in node.members - {node.name}:
            peer = self._network.nodes.get(name)
            if peer is None:
                absent.add(name)
                continue
            if not self._network.linked(node.name, name):
                self._network.exchange([(node, peer)])
            if peer.frozen or not self._network.linked(node.name, name):
                frozen |= peer.frozen
                absent.add(name)
        return absent, frozen

    def _sync(self, admins: dict[str, str]) -> None:
        node = self._node
        others = [self._network.nodes[name] for name in node.members if name != node.name]
        values = [
            *(("admins", user, stored) for user, stored in admins.items()),
            ("couchdb", "uuid", node.uuid()),
            ("chttpd_auth", "secret", node.config.secret),
        ]
        for section, key, value in values:
            if value is None:
                errors = ["badarg" for _ in others]
            else:
                errors = [e for o in others if (e := o.configure(section, key, value))]
            if errors:
                raise fault(500, "setup_error", "Cluster setup unable to sync admin passwords")

    def _create_missing(self, dbs: list[str] | tuple[str, ...]) -> None:
        for name in dbs:
            if self._databases.find(name) is None:
                self._databases.create(name, props=False)
