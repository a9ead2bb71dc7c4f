"""The clustered databases, as one node sees them: shard maps, and copies on nodes it can reach."""

import json
import re
import secrets
from collections.abc import Mapping
from typing import Any

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
    Atom,
    ConflictError,
    Document,
    Json,
    edit,
    merge,
)
from couchdiscover.sandbox.couchdb.member import Member
from couchdiscover.sandbox.couchdb.network import Network
from couchdiscover.sandbox.couchdb.placement import groups
from couchdiscover.sandbox.couchdb.user import User
from couchdiscover.sandbox.couchdb.volume import (
    AUTH_DESIGN,
    File,
    NoShardsError,
    ShardMap,
)
from couchdiscover.sandbox.http import Request, Response

DEFAULT_Q = 2
DEFAULT_N = 3
AUTH_DESIGN_AFTER = 5.0
"""Seconds until CouchDB looks again for a ``_users`` that was not there, and puts its design
document in (CouchDB's source, src/chttpd/src/chttpd_auth_cache.erl)."""

_ILLEGAL = (
    "Only lowercase characters (a-z), digits (0-9), and any of the characters _, $, (, ), +, -, "
    "and / are allowed. Must begin with a letter."
)
_NAME = re.compile(r"[a-z][a-z0-9_$()+/-]*|_[a-z][a-z0-9_]*")
_PARTITIONED: Json = {
    Atom("partitioned"): True,
    Atom("hash"): [Atom("couch_partition"), Atom("hash"), []],
}


def no_shards() -> RefusalError:
    """None of the nodes that a shard map names can be reached."""
    return crash("internal_server_error", "No DB shards could be opened.")


def no_room() -> RefusalError:
    """The volume is full; CouchDB says no more than this (seen on 3.5.2 and 3.3.3)."""
    return fault(500, "error", "internal_server_error")


class Databases:
    """What one node does with the databases of its cluster."""

    def __init__(self, node: Member, network: Network) -> None:
        self._node = node
        self._network = network
        self.stray_reads = 0.0
        """The chance that a count or a list comes from another node's copy though there is an own
        one: the first copy to answer is taken, which is the own one nearly always."""
        self.auth_design_after = AUTH_DESIGN_AFTER

    def find(self, name: str) -> ShardMap | None:
        """The shard map of a database, None where this node knows of no such database."""
        return self._node.map_of(name)

    def shards(self, name: str) -> ShardMap:
        """The shard map of a database; raises a 404."""
        found = self.find(name)
        if found is None:
            raise missing("Database does not exist.")
        return found

    def openable(self, name: str) -> bool:
        """Whether every range has a copy that this node can reach."""
        shards = self.find(name)
        if shards is None or not all(self._holders(shards, r) for r in shards.by_range):
            return False
        for hash_range in shards.by_range:
            self._files(shards, hash_range)
        return True

    def create(
        self,
        name: str,
        q: int = DEFAULT_Q,
        n: int | None = None,
        *,
        placement: str | None = None,
        props: bool,
        partitioned: bool = False,
    ) -> int:
        """Places a new database on the members; the status is 202 where too few of them answer.

        Only what is created by a request has ``props``. Raises RefusalError where there is no node
        to place it on, or no room.
        """
        node = self._node
        if node.full_volume:
            raise no_room()
        documents = {m: node.membership.docs[m].winner.body for m in node.members}
        wanted = n or int(node.config.get("cluster", "n") or DEFAULT_N)
        placement = placement or node.config.get("cluster", "placement")
        step = 2**32 // q
        highs = [2**32 - 1 if i == q - 1 else (i + 1) * step - 1 for i in range(q)]
        by_range: dict[str, list[str]]
        by_range = {f"{i * step:08x}-{high:08x}": [] for i, high in enumerate(highs)}
        for names, copies in groups(placement, documents, wanted):
            order = sorted(names, reverse=True)
            start = self._network.random.randrange(len(order))
            order = order[start:] + order[:start]
            for i, chosen in enumerate(by_range.values()):
                chosen += [order[(i * copies + j) % len(order)] for j in range(copies)]
        by_range = {r: sorted(chosen) for r, chosen in by_range.items()}
        placed = sorted({m for holders in by_range.values() for m in holders})
        body: Json = {
            "shard_suffix": [ord(char) for char in f".{int(self._network.wall())}"],
            "changelog": [["add", r, m] for r, holders in by_range.items() for m in holders],
            "by_node": {m: [r for r in by_range if m in by_range[r]] for m in placed},
            "by_range": by_range,
        }
        if props or partitioned:
            body["props"] = dict(_PARTITIONED) if partitioned else {}
        node.dbs.put(edit(node.dbs.get(name), name, body, None))
        self._network.spread(node, dbs=[name])
        if name == "_users":
            self._network.later(self.auth_design_after, self._put_auth_design)
        return 201 if 2 * sum(map(self._reaches, placed)) > len(placed) else 202

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
        return self._put(shards, document), document.winner.name

    def _put(self, shards: ShardMap, document: Document) -> int:
        hash_range = self._range(shards, document.id)
        files = self._files(shards, hash_range, write=True)
        for file in files:
            file.put(document)
        self._written(shards, hash_range)
        return 201 if len(files) > len(shards.by_range[hash_range]) // 2 else 202

    def _written(self, shards: ShardMap, hash_range: str) -> None:
        for holder in self._holders(shards, hash_range):
            self._network.replication.written(holder.name, shards.path(hash_range))

    def _put_auth_design(self) -> None:
        shards = self.find("_users") if self._node.running else None
        if shards is None or not self._holders(shards, self._range(shards, AUTH_DESIGN.id)):
            return
        if self._read(shards, AUTH_DESIGN.id) is None:
            self._put(shards, AUTH_DESIGN)

    # -- over HTTP

    def all_dbs(self) -> Response:
        """Answers ``/_all_dbs``."""
        if self._node.maintenance == "true":
            raise fault(412, "nodedown", self._node.name)
        return Response(200, sorted(self._node.dbs.live))

    def handle(self, request: Request, path: list[str], user: User) -> Response:
        """Answers ``/{db}`` and what is below."""
        name, *rest = path
        if not rest and request.method in ("PUT", "DELETE"):
            user.must_be_admin()
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
                raise no_shards()
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
            case _, ["_security" | "_revs_limit" as setting]:
                return self._setting(request, name, setting)
            case "POST", ["_purge"]:
                return self._purge(request, name)
            case "GET", ["_purged_infos"] if self._node.release >= (3, 4):
                return self._purged_infos(name)
            case "POST", ["_sync_shards"]:
                self._network.replication.sync_shards(self.shards(name))
                return Response(202, OK)
            case _, ["_sync_shards" | "_purge"]:
                raise not_allowed("POST")
            case _, []:
                raise not_allowed("DELETE", "GET", "HEAD", "POST")
            case _, ["_local", part]:
                shards = self.shards(name)
                return local_document(
                    request, self._files(shards, self._range(shards, f"_local/{part}")), part
                )
            case _, [doc_id]:
                return self._document(request, name, doc_id)
            case _, ["_design", part]:
                return self._document(request, name, f"_design/{part}")
        raise missing()

    def _setting(self, request: Request, name: str, setting: str) -> Response:
        shards = self.shards(name)
        if request.method in ("GET", "HEAD"):
            file = self._one(shards, next(iter(shards.by_range)))
            return Response(200, setting_of(file, setting))
        if request.method != "PUT":
            raise not_allowed("GET", "HEAD", "PUT")
        for hash_range in shards.by_range:
            for file in self._files(shards, hash_range):
                change_setting(request, file, setting)
        return Response(200, OK)

    def _purge(self, request: Request, name: str) -> Response:
        shards = self.shards(name)
        purged = {}
        for doc_id, revisions in body_object(request).items():
            hash_range = self._range(shards, doc_id)
            uuid = secrets.token_hex(16)
            gone = [f.purge(doc_id, revisions, uuid) for f in self._files(shards, hash_range)]
            purged[doc_id] = max(gone, key=len)
            self._written(shards, hash_range)
        return Response(201, {"purge_seq": None, "purged": purged})

    def _purged_infos(self, name: str) -> Response:
        """What the copies remember of purges, as ``fabric:get_purged_infos`` collects it."""
        shards = self.shards(name)
        found = {
            purge.uuid: {"id": purge.doc_id, "revs": list(purge.revisions)}
            for hash_range in shards.by_range
            for file in self._files(shards, hash_range)
            for purge in file.purges
        }
        return Response(200, {"purged_infos": list(found.values())})

    def _document(self, request: Request, name: str, doc_id: str) -> Response:
        match request.method:
            case "GET" | "HEAD":
                document = self.read(name, doc_id)
                return Response(200, shown(document, request.query))
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
        partitioned = request.query.get("partitioned") == "true"
        placement = request.query.get("placement")
        status = self.create(name, q, n, placement=placement, props=True, partitioned=partitioned)
        host = request.headers.get("host", self._node.host)
        return Response(status, OK, {"location": f"http://{host}/{name}"})

    def _delete(self, name: str) -> Response:
        node = self._node
        shards = self.shards(name)
        if node.full_volume:
            raise no_room()
        for hash_range in shards.by_range:
            for holder in self._holders(shards, hash_range):
                holder.volume.shards.pop(shards.path(hash_range), None)
        old = node.dbs.docs[name]
        node.dbs.put(edit(old, name, {}, old.winner.name, deleted=True))
        self._network.spread(node, dbs=[name])
        named = {m for holders in shards.by_range.values() for m in holders}
        return Response(200 if 2 * sum(map(self._reaches, named)) > len(named) else 202, OK)

    def _info(self, name: str) -> Response:
        shards = self.shards(name)
        files = [self._one(shards, r) for r in shards.by_range]
        count = sum(len(file.live) for file in files)
        edits = sum(file.update_seq for file in files)
        copies = max((len(holders) for holders in shards.by_range.values()), default=1)
        quorum = copies // 2 + 1
        info = {
            "instance_start_time": shards.suffix.removeprefix("."),
            "db_name": name,
            "purge_seq": f"{sum(file.purge_seq for file in files)}-g1AAAA",
            "update_seq": f"{edits}-g1AAAA",
            "sizes": {"file": 8574 + 4096 * edits, "external": 100 * count, "active": 100 * count},
            "props": {"partitioned": True} if shards.props.get("partitioned") else {},
            "doc_del_count": sum(len(file.docs) for file in files) - count,
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
        files = [self._one(shards, r) for r in shards.by_range]
        return Response(200, listing(files, query))

    def _listed(self, shards: ShardMap, hash_range: str) -> list[str]:
        nodes = self._network.nodes
        names = shards.by_range[hash_range]
        return sorted(n for n in names if n not in nodes or nodes[n].maintenance != "true")

    # -- copies

    def _range(self, shards: ShardMap, doc_id: str) -> str:
        try:
            return shards.range_of(doc_id)
        except NoShardsError:
            raise no_shards() from None

    def _reaches(self, name: str) -> bool:
        return name == self._node.name or self._network.linked(self._node.name, name)

    def _holders(self, shards: ShardMap, hash_range: str) -> list[Member]:
        nodes = self._network.nodes
        near = [nodes[m] for m in shards.by_range[hash_range] if self._reaches(m) and m in nodes]
        return [node for node in near if node.maintenance != "true"]

    def _files(self, shards: ShardMap, hash_range: str, *, write: bool = False) -> list[File]:
        """The copies that can be reached; one that is missing is made, and empty.

        For a write those that have room for it.
        """
        holders = self._holders(shards, hash_range)
        if not holders:
            raise no_shards()
        if write and not (holders := [holder for holder in holders if not holder.full_volume]):
            raise no_room()
        now = self._network.wall()
        return [holder.copy_of(shards, hash_range, now) for holder in holders]

    def _one(self, shards: ShardMap, hash_range: str) -> File:
        # What counts and lists asks one copy only: the node's own, where it has one.
        files = self._files(shards, hash_range)
        own = self._node.volume.shards.get(shards.path(hash_range))
        others = [file for file in files if file is not own]
        if self.stray_reads and others and self._network.random.random() < self.stray_reads:
            return self._network.random.choice(others)
        return own if own in files else files[0]

    def _read(self, shards: ShardMap, doc_id: str) -> Document | None:
        document: Document | None = None
        for file in self._files(shards, self._range(shards, doc_id)):
            copy = file.get(doc_id)
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


def shown(document: Document, query: Mapping[str, str]) -> Json:
    """A document as the query of a request asks for it."""
    conflicts, revs, info = (query.get(key) == "true" for key in ("conflicts", "revs", "revs_info"))
    return document.json(conflicts=conflicts, revisions=revs, revs_info=info)


def setting_of(file: File, setting: str) -> Any:
    """What ``_security`` or ``_revs_limit`` answers."""
    return file.security if setting == "_security" else file.revs_limit


def change_setting(request: Request, file: File, setting: str) -> None:
    """Sets ``_security`` or ``_revs_limit`` of one copy; raises a 400."""
    if setting == "_security":
        file.set_security(body_object(request))
        return
    try:
        file.set_revs_limit(int(request.body))
    except ValueError:
        raise bad_request("Rev limit has to be an integer") from None


def local_document(request: Request, files: list[File], name: str) -> Response:
    """Answers ``_local/{id}`` of a database or of one file; raises a 404 or a 405."""
    doc_id = f"_local/{name}"
    match request.method:
        case "GET" | "HEAD":
            found = next((file.local[name] for file in files if name in file.local), None)
            if found is None:
                raise missing()
            return Response(200, found)
        case "PUT":
            body = body_object(request)
            revision = max(file.put_local(name, body) for file in files)
            return Response(201, {"ok": True, "id": doc_id, "rev": revision})
        case "DELETE":
            if all(name not in file.local for file in files):
                raise missing()
            for file in files:
                file.local.pop(name, None)
            return Response(200, {"ok": True, "id": doc_id, "rev": "0-0"})
    raise not_allowed("DELETE", "GET", "HEAD", "PUT")


def listing(files: list[File], query: Mapping[str, str]) -> Json:
    """What ``_all_docs`` answers for these files taken together; raises a 400."""
    documents = sorted(
        (file.docs[doc_id] for file in files for doc_id in file.live), key=lambda d: d.id
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
