"""The clustered databases, as one node sees them: shard maps, and copies on nodes it can reach."""

import contextlib
import json
import re
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from couchdiscover.sandbox.couchdb.answers import (
    OK,
    RefusalError,
    bad_request,
    conflict,
    crash,
    fault,
    missing,
    not_allowed,
)
from couchdiscover.sandbox.couchdb.config import SYSTEM_DBS, hash_user
from couchdiscover.sandbox.couchdb.documents import (
    ConflictError,
    Document,
    Json,
    Store,
    edit,
    merge,
)
from couchdiscover.sandbox.couchdb.placement import groups
from couchdiscover.sandbox.http import Request, Response

if TYPE_CHECKING:
    from couchdiscover.sandbox.couchdb.accounts import User
    from couchdiscover.sandbox.couchdb.node import Node

AUTH_DESIGN = 5.0
"""Seconds after which ``_users`` has its design document: up to as many, on real servers."""
DEFAULT_Q = 2
DEFAULT_N = 3
SECURITY = {"members": {"roles": ["_admin"]}, "admins": {"roles": ["_admin"]}}

_ILLEGAL = (
    "Only lowercase characters (a-z), digits (0-9), and any of the characters _, $, (, ), +, -, "
    "and / are allowed. Must begin with a letter."
)
_NAME = re.compile(r"[a-z][a-z0-9_$()+/-]*|_[a-z][a-z0-9_]*")


@dataclass(frozen=True, slots=True)
class ShardMap:
    """Where the shards of a database are, by its document in ``_dbs``."""

    name: str
    suffix: str
    by_range: Mapping[str, tuple[str, ...]]

    @classmethod
    def of(cls, document: Document) -> "ShardMap":
        """Reads the winning revision; a document somebody wrote by hand may lack anything."""
        body = document.winner.body
        suffix = "".join(chr(code) for code in body.get("shard_suffix", ()))
        ranges = body.get("by_range", {})
        return cls(document.id, suffix, {key: tuple(ranges[key]) for key in sorted(ranges)})

    def range_of(self, doc_id: str) -> str:
        """The range that a document falls into."""
        point = zlib.crc32(doc_id.encode())
        for hash_range in self.by_range:
            low, high = (int(bound, 16) for bound in hash_range.split("-"))
            if low <= point <= high:
                return hash_range
        raise crash("internal_server_error", "No DB shards could be opened.")


class Databases:
    """What one node does with the databases of its cluster."""

    def __init__(self, node: "Node") -> None:
        self._node = node

    def find(self, name: str) -> ShardMap | None:
        """The shard map of a database, None where this node knows of no such database."""
        document = self._node.dbs.get(name)
        if document is None or document.winner.deleted:
            return None
        return ShardMap.of(document)

    def shards(self, name: str) -> ShardMap:
        """The shard map of a database; raises a 404."""
        found = self.find(name)
        if found is None:
            raise missing("Database does not exist.")
        return found

    def openable(self, name: str) -> bool:
        """Whether every range has a copy that this node can reach."""
        shards = self.find(name)
        return shards is not None and all(self._holders(shards, r) for r in shards.by_range)

    def create(
        self,
        name: str,
        q: int = DEFAULT_Q,
        n: int | None = None,
        *,
        placement: str | None = None,
        props: bool,
    ) -> int:
        """Places a new database on the members; the status is 202 where too few of them answer.

        Raises RefusalError where there is no node to place it on, or no room.
        """
        node = self._node
        if node.full_volume:
            raise fault(500, "error", "internal_server_error")
        documents = {m: node.membership.docs[m].winner.body for m in node.members}
        wanted = n or int(node.config.get("cluster", "n") or DEFAULT_N)
        placement = placement or node.config.get("cluster", "placement")
        step = 2**32 // q
        highs = [2**32 - 1 if i == q - 1 else (i + 1) * step - 1 for i in range(q)]
        by_range: dict[str, list[str]] = {
            f"{i * step:08x}-{h:08x}": [] for i, h in enumerate(highs)
        }
        for names, copies in groups(placement, documents, wanted):
            order = sorted(names, reverse=True)
            start = node.network.random.randrange(len(order))
            order = order[start:] + order[:start]
            for i, chosen in enumerate(by_range.values()):
                chosen += [order[(i * copies + j) % len(order)] for j in range(copies)]
        by_range = {r: sorted(chosen) for r, chosen in by_range.items()}
        placed = sorted({m for holders in by_range.values() for m in holders})
        body: Json = {
            "shard_suffix": [ord(char) for char in f".{int(node.network.wall())}"],
            "changelog": [["add", r, m] for r, holders in by_range.items() for m in holders],
            "by_node": {m: [r for r in by_range if m in by_range[r]] for m in placed},
            "by_range": by_range,
        }
        if props:
            body["props"] = {}
        node.dbs.put(edit(node.dbs.get(name), name, body, None))
        node.network.spread(node, dbs=[name])
        if name == "_users":
            node.network.later(AUTH_DESIGN, self._make_auth_design)
        return 201 if 2 * sum(map(self._reaches, placed)) > len(placed) else 202

    def _make_auth_design(self) -> None:
        # Each node looks for it every few seconds (src/chttpd/src/chttpd_auth_cache.erl).
        with contextlib.suppress(RefusalError):
            self.write("_users", "_design/_auth", {"language": "javascript"}, None)

    def read(self, name: str, doc_id: str) -> Document:
        """One document; raises a 404 or the 500 of a database that cannot be opened."""
        shards = self.shards(name)
        document = self._read(shards, doc_id)
        if document is None:
            raise missing()
        if document.winner.deleted:
            raise missing("deleted")
        return document

    def write(
        self, name: str, doc_id: str, body: Json, revision: str | None, *, deleted: bool = False
    ) -> tuple[int, str]:
        """Stores a document on all copies that can be reached: the status and the revision."""
        shards = self.shards(name)
        if name == "_users" and "password" in body:
            plain = {key: value for key, value in body.items() if key != "password"}
            body = plain | hash_user(str(body["password"]), self._node.traits)
        try:
            document = edit(self._read(shards, doc_id), doc_id, body, revision, deleted=deleted)
        except ConflictError:
            raise conflict() from None
        hash_range = shards.range_of(doc_id)
        stores = self._stores(shards, hash_range, write=True)
        for store in stores:
            store.put(document)
        enough = len(stores) > len(shards.by_range[hash_range]) // 2
        return (201 if enough else 202), document.winner.name

    # -- over HTTP

    def all_dbs(self) -> Response:
        """Answers ``/_all_dbs``."""
        if self._node.maintenance == "true":
            raise fault(412, "nodedown", self._node.name)
        return Response(200, sorted(self._node.dbs.live))

    def handle(self, request: Request, path: list[str], user: "User") -> Response:
        """Answers ``/{db}`` and what is below."""
        name, *rest = path
        if not rest and request.method in ("PUT", "DELETE"):
            self._node.accounts.admin(user)
            return self._create(request, name) if request.method == "PUT" else self._delete(name)
        self.shards(name)
        if not user.is_admin:
            if user.name is None:
                raise fault(401, "unauthorized", "You are not authorized to access this db.")
            raise fault(403, "forbidden", "You are not allowed to access this db.")
        if rest != ["_sync_shards"] and not (name in SYSTEM_DBS and rest == ["_all_docs"]):
            # Who may read it is asked of a copy.
            shards = self.shards(name)
            if not any(self._holders(shards, r) for r in shards.by_range):
                raise crash("internal_server_error", "No DB shards could be opened.")
        return self._inside(request, name, rest)

    def _inside(self, request: Request, name: str, rest: list[str]) -> Response:
        match request.method, rest:
            case "GET" | "HEAD", []:
                return self._info(name)
            case "GET" | "HEAD", ["_all_docs"]:
                return self._all_docs(name, request.query)
            case "GET" | "HEAD", ["_shards"]:
                shards = self.shards(name)
                up = {r: self._listed(shards, r) for r in shards.by_range}
                return Response(200, {"shards": up})
            case "GET" | "HEAD", ["_security"]:
                return Response(200, SECURITY)
            case "POST", ["_sync_shards"]:
                self._node.network.sync_shards()
                return Response(202, OK)
            case _, []:
                raise not_allowed("DELETE", "GET", "HEAD", "POST")
            case _, [doc_id]:
                return self._document(request, name, doc_id)
            case _, [kind, part] if kind in ("_design", "_local"):
                return self._document(request, name, f"{kind}/{part}")
        raise missing()

    def _document(self, request: Request, name: str, doc_id: str) -> Response:
        match request.method:
            case "GET" | "HEAD":
                document = self.read(name, doc_id)
                conflicts = request.query.get("conflicts") == "true"
                return Response(200, document.json(conflicts=conflicts))
            case "PUT":
                body = body_object(request)
                revision = body.pop("_rev", request.query.get("rev"))
                body.pop("_id", None)
                status, revision = self.write(name, doc_id, body, revision)
            case "DELETE":
                document = self.read(name, doc_id)
                revision = request.query.get("rev", "")
                status, revision = self.write(name, document.id, {}, revision, deleted=True)
                status = 200 if status == 201 else status
            case _:
                raise not_allowed("DELETE", "GET", "HEAD", "POST", "PUT")
        return Response(status, {"ok": True, "id": doc_id, "rev": revision})

    def _create(self, request: Request, name: str) -> Response:
        if not _NAME.fullmatch(name):
            raise fault(400, "illegal_database_name", f"Name: '{name}'. {_ILLEGAL}")
        if self.find(name) is not None:
            raise fault(
                412,
                "file_exists",
                "The database could not be created, the file already exists.",
            )
        try:
            q, n = int(request.query.get("q", DEFAULT_Q)), int(request.query.get("n", 0)) or None
        except ValueError:
            raise bad_request("The `q` and `n` parameters must be integers.") from None
        placement = request.query.get("placement")
        status = self.create(name, q, n, placement=placement, props=True)
        host = request.headers.get("host", self._node.host)
        return Response(status, OK, {"location": f"http://{host}/{name}"})

    def _delete(self, name: str) -> Response:
        node = self._node
        self.shards(name)
        if node.full_volume:
            raise fault(500, "error", "internal_server_error")
        old = node.dbs.docs[name]
        node.dbs.put(edit(old, name, {}, old.winner.name, deleted=True))
        node.network.spread(node, dbs=[name])
        named = {m for holders in ShardMap.of(old).by_range.values() for m in holders}
        return Response(200 if 2 * sum(map(self._reaches, named)) > len(named) else 202, OK)

    def _info(self, name: str) -> Response:
        shards = self.shards(name)
        stores = [self._one(shards, r) for r in shards.by_range]
        count = sum(len(store.live) for store in stores)
        edits = sum(store.edits for store in stores)
        copies = max((len(holders) for holders in shards.by_range.values()), default=1)
        quorum = copies // 2 + 1
        info = {
            "instance_start_time": shards.suffix.removeprefix("."),
            "db_name": name,
            "purge_seq": "0-g1AAAA",
            "update_seq": f"{edits}-g1AAAA",
            "sizes": {"file": 8574 + 4096 * edits, "external": 100 * count, "active": 100 * count},
            "props": {},
            "doc_del_count": sum(len(store.docs) for store in stores) - count,
            "doc_count": count,
            "disk_format_version": 8,
            "compact_running": False,
            "cluster": {"q": len(shards.by_range), "n": copies, "w": quorum, "r": quorum},
        }
        return Response(200, info)

    def _all_docs(self, name: str, query: Mapping[str, str]) -> Response:
        shards = self.shards(name)
        reached = all(self._holders(shards, r) for r in shards.by_range)
        if name in SYSTEM_DBS and not reached and self._node.maintenance == "true":
            raise fault(412, "nodedown", self._node.name)
        stores = [self._one(shards, r) for r in shards.by_range]
        return Response(200, listing(stores, query))

    def _listed(self, shards: ShardMap, hash_range: str) -> list[str]:
        nodes = self._node.network.nodes
        names = shards.by_range[hash_range]
        return sorted(n for n in names if n not in nodes or nodes[n].maintenance != "true")

    # -- copies

    def _reaches(self, name: str) -> bool:
        return name == self._node.name or self._node.network.linked(self._node.name, name)

    def _holders(self, shards: ShardMap, hash_range: str) -> list["Node"]:
        nodes = self._node.network.nodes
        near = [nodes[m] for m in shards.by_range[hash_range] if self._reaches(m) and m in nodes]
        return [node for node in near if node.maintenance != "true"]

    def _stores(self, shards: ShardMap, hash_range: str, *, write: bool = False) -> list[Store]:
        holders = self._holders(shards, hash_range)
        if not holders:
            raise crash("internal_server_error", "No DB shards could be opened.")
        if write and not (holders := [holder for holder in holders if not holder.full_volume]):
            raise fault(500, "error", "internal_server_error")
        return [holder.file(hash_range, shards.name, shards.suffix) for holder in holders]

    def _one(self, shards: ShardMap, hash_range: str) -> Store:
        # What counts and lists asks one copy only: the node's own, where it has one.
        self._stores(shards, hash_range)
        holders = self._holders(shards, hash_range)
        chosen = self._node if self._node in holders else holders[0]
        return chosen.file(hash_range, shards.name, shards.suffix)

    def _read(self, shards: ShardMap, doc_id: str) -> Document | None:
        document: Document | None = None
        for store in self._stores(shards, shards.range_of(doc_id)):
            copy = store.get(doc_id)
            document = document if copy is None else merge(document, copy)
        return document


def body_object(request: Request) -> Json:
    """The body as a JSON object; raises a 400."""
    try:
        body: Any = request.json()
    except ValueError:
        raise bad_request("invalid_json") from None
    if not isinstance(body, dict):
        raise bad_request("Document must be a JSON object")
    return body


def listing(stores: list[Store], query: Mapping[str, str]) -> Json:
    """What ``_all_docs`` answers for these stores taken together; raises a 400."""
    documents = sorted(
        (store.docs[doc_id] for store in stores for doc_id in store.live), key=lambda d: d.id
    )
    try:
        start = str(json.loads(query.get("startkey", '""')))
        skip, limit = int(query.get("skip", 0)), int(query.get("limit", len(documents)))
    except ValueError:
        raise bad_request("invalid_json") from None
    include, conflicts = (query.get(key) == "true" for key in ("include_docs", "conflicts"))
    first = sum(document.id < start for document in documents) + skip
    rows = []
    for document in documents[first : first + limit]:
        row: Json = {"id": document.id, "key": document.id, "value": {"rev": document.winner.name}}
        if include:
            row["doc"] = document.json(conflicts=conflicts)
        rows.append(row)
    return {"total_rows": len(documents), "offset": min(first, len(documents)), "rows": rows}
