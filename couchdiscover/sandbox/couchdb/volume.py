"""What lies on a node's volume: database files, each with its documents, counters and identity."""

import base64
import hashlib
import re
import secrets
import zlib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from couchdiscover.sandbox.couchdb.documents import Document, Json, merge

SECURITY: Json = {"members": {"roles": ["_admin"]}, "admins": {"roles": ["_admin"]}}
REVS_LIMIT = 1000
SHARD_PATH = re.compile(r"shards/([0-9a-f]{8}-[0-9a-f]{8})/(.+)(\.[0-9]+)")

AUTH_DESIGN = Document.of(
    "_design/_auth",
    "1-625dc565328e800ce8dfe08fff750098",
    {"language": "javascript", "validate_doc_update": "function(newDoc, oldDoc, userCtx) {}"},
)
"""What CouchDB puts into every ``_users`` by itself. The revision is 3.5.2's, the body is not."""


class NoShardsError(Exception):
    """No range of a shard map holds a document."""


@dataclass(frozen=True, slots=True)
class ShardMap:
    """Where the shards of a database are, by its document in ``_dbs``."""

    name: str
    suffix: str
    by_range: Mapping[str, tuple[str, ...]]
    props: Mapping[str, Any]

    @classmethod
    def of(cls, document: Document) -> "ShardMap":
        """Reads the winning revision; a document somebody wrote by hand may lack anything."""
        body = document.winner.body
        suffix = "".join(chr(code) for code in body.get("shard_suffix", ()))
        ranges = body.get("by_range", {})
        by_range = {key: tuple(ranges[key]) for key in sorted(ranges)}
        return cls(document.id, suffix, by_range, body.get("props", {}))

    def range_of(self, doc_id: str) -> str:
        """The range that a document falls into; raises NoShardsError.

        In a partitioned database the partition decides, which is what stands before the colon.
        """
        hashed = doc_id
        if self.props.get("partitioned") and not doc_id.startswith("_design/"):
            hashed = doc_id.partition(":")[0]
        point = zlib.crc32(hashed.encode())
        for hash_range in self.by_range:
            low, high = bounds(hash_range)
            if low <= point <= high:
                return hash_range
        raise NoShardsError

    def path(self, hash_range: str) -> str:
        """The name of the file of a range."""
        return f"shards/{hash_range}/{self.name}{self.suffix}"


def bounds(hash_range: str) -> tuple[int, int]:
    """The first and the last point of a range."""
    low, high = hash_range.split("-")
    return int(low, 16), int(high, 16)


@dataclass(frozen=True, slots=True)
class Purge:
    """One purge, as a file remembers it for its fellows."""

    seq: int
    uuid: str
    doc_id: str
    revisions: tuple[str, ...]


class File:
    """One database file.

    ``docs`` is in the order of the last changes. ``epochs`` says since which update sequence
    which node has written here: that tells copies of one file apart.
    """

    def __init__(self, props: Mapping[str, Any] | None = None) -> None:
        self.uuid = secrets.token_hex(16)
        self.props = dict(props or {})
        self.opened = 0.0
        """When it was opened since the start of its node's process, in seconds since 1970."""
        self.docs: dict[str, Document] = {}
        self.live: set[str] = set()
        """The ids of the documents that are not deleted."""
        self.mark = 0
        self.update_seq = 0
        self.purges: list[Purge] = []
        self.local: dict[str, Json] = {}
        """The local documents' bodies, ``_rev`` included, by the id without ``_local/``."""
        self.security = SECURITY
        self.revs_limit = REVS_LIMIT
        self.epochs: list[tuple[str, int]] = []
        self._seqs: dict[str, int] = {}

    def copy(self) -> "File":
        """Another file with the same content and the same identity."""
        twin = File.__new__(File)
        twin.__dict__.update(
            (key, value.copy() if isinstance(value, dict | set | list) else value)
            for key, value in self.__dict__.items()
        )
        return twin

    @property
    def purge_seq(self) -> int:
        """How many purges there were."""
        return self.purges[-1].seq if self.purges else 0

    def put(self, document: Document) -> None:
        """Stores a document in place of what was there."""
        old = self.docs.pop(document.id, None)
        self._seqs.pop(document.id, None)
        self.update_seq += 1
        self.mark ^= document.mark ^ (old.mark if old is not None else 0)
        self.docs[document.id] = document
        self._seqs[document.id] = self.update_seq
        if document.winner.deleted:
            self.live.discard(document.id)
        else:
            self.live.add(document.id)

    def get(self, doc_id: str) -> Document | None:
        """The document, or None; it may be a deleted one."""
        return self.docs.get(doc_id)

    def changes(self, since: int = 0) -> Iterator[tuple[int, Document]]:
        """The documents changed after a sequence, in the order of their changes."""
        late = []
        for doc_id in reversed(self._seqs):
            if self._seqs[doc_id] <= since:
                break
            late.append(doc_id)
        for doc_id in reversed(late):
            yield self._seqs[doc_id], self.docs[doc_id]

    def absorb(self, other: "File", ids: Iterable[str] | None = None) -> set[str]:
        """Replicates documents (all, or those named) from another file; returns what was new."""
        if self.mark == other.mark:
            return set()
        names = tuple(other.docs if ids is None else ids)
        return {name for name in names if (doc := other.docs.get(name)) and self.merge(doc)}

    def merge(self, theirs: Document) -> bool:
        """Replicates one document; whether anything of it was new."""
        mine = self.docs.get(theirs.id)
        if mine is theirs:
            return False
        merged = merge(mine, theirs)
        if mine is not None and merged.mark == mine.mark:
            return False
        self.put(merged)
        return True

    def purge(self, doc_id: str, revisions: Iterable[str], uuid: str | None = None) -> list[str]:
        """Forgets leaves of a document as if they had never been; returns those there were.

        One that came from a fellow has its ``uuid``, and is done once only.
        """
        if uuid is not None and any(purge.uuid == uuid for purge in self.purges):
            return []
        old = self.docs.get(doc_id)
        there = [leaf.name for leaf in old.leaves] if old is not None else []
        gone = [name for name in revisions if name in there]
        self.update_seq += 1
        purge = Purge(
            self.purge_seq + 1, uuid or secrets.token_hex(16), doc_id, tuple(gone or revisions)
        )
        self.purges.append(purge)
        if old is None or not gone:
            return gone
        left = old.without(gone)
        self.mark ^= old.mark ^ (left.mark if left is not None else 0)
        self.live.discard(doc_id)
        if left is None:
            del self.docs[doc_id], self._seqs[doc_id]
            return gone
        self.docs[doc_id] = left
        if not left.winner.deleted:
            self.live.add(doc_id)
        return gone

    def set_security(self, security: Json) -> None:
        """Says who may use the database."""
        self.security = security
        self.update_seq += 1

    def set_revs_limit(self, limit: int) -> None:
        """Says how many revisions of a document are remembered."""
        self.revs_limit = limit
        self.update_seq += 1

    def put_local(self, name: str, body: Mapping[str, Any]) -> str:
        """Stores a local document, whatever revision it names; returns the new one."""
        counter = str(body.get("_rev", "0-0")).partition("-")[2]
        revision = f"0-{int(counter) + 1 if counter.isdigit() else 1}"
        content = {key: value for key, value in body.items() if key not in ("_id", "_rev")}
        self.local[name] = {"_id": f"_local/{name}", "_rev": revision, **content}
        return revision

    def opened_by(self, node: str, at: float) -> None:
        """Notes which node writes from now on."""
        self.opened = at
        if not self.epochs or self.epochs[0][0] != node:
            self.epochs.insert(0, (node, self.update_seq + 1 if self.epochs else 0))

    def common_seq(self, target: "File") -> int:
        """Up to which of its sequences a copy of this same file surely has everything."""
        if target.uuid != self.uuid:
            return 0
        mine, theirs = self.epochs[::-1], target.epochs[::-1]
        shared = 0
        while shared < min(len(mine), len(theirs)) and mine[shared] == theirs[shared]:
            shared += 1
        split = [its[shared][1] - 1 for its in (mine, theirs) if shared < len(its)]
        return min([self.update_seq, *split])


class Volume:
    """All files of one node. It can be copied, moved to another node, and lost."""

    def __init__(self) -> None:
        self.nodes = File()
        """``_nodes``: the members."""
        self.dbs = File()
        """``_dbs``: the shard maps."""
        self.users = File()
        """The node's own ``_users``, which every node has beside the clustered one."""
        self.users.put(AUTH_DESIGN)
        self.shards: dict[str, File] = {}
        """The copies of shards, by ``shards/{range}/{database}{suffix}``."""

    @property
    def paths(self) -> list[str]:
        """The names of all files."""
        return sorted(["_dbs", "_nodes", "_users", *self.shards])

    def file(self, path: str) -> File | None:
        """A file by its name."""
        own = {"_dbs": self.dbs, "_nodes": self.nodes, "_users": self.users}
        return own.get(path) or self.shards.get(path)

    def make(self, path: str, props: Mapping[str, Any], node: str, at: float) -> File:
        """A new file, empty."""
        file = self.shards[path] = File(props)
        file.opened_by(node, at)
        return file

    def copy(self) -> "Volume":
        """A snapshot, which goes its own way from now on."""
        twin = Volume()
        twin.nodes, twin.dbs, twin.users = self.nodes.copy(), self.dbs.copy(), self.users.copy()
        twin.shards = {path: file.copy() for path, file in self.shards.items()}
        return twin

    def opened_by(self, node: str, at: float) -> None:
        """Notes which node writes to its files from now on."""
        for file in (self.nodes, self.dbs, self.users, *self.shards.values()):
            file.opened_by(node, at)

    def maps(self) -> Iterator[ShardMap]:
        """The shard maps of the databases that are not deleted."""
        for name in self.dbs.live:
            yield ShardMap.of(self.dbs.docs[name])


def checkpoint_id(source: str, target: str) -> str:
    """The local document in which internal replication notes how far it came, without `_local/`.

    Both are uuids of files. The hash is that of the uuid as an Erlang term (CouchDB's source,
    src/mem3/src/mem3_rep.erl).
    """
    return f"shard-sync-{_hashed(source)}-{_hashed(target)}"


def _hashed(uuid: str) -> str:
    term = b"\x83m" + len(uuid).to_bytes(4, "big") + uuid.encode()
    digest = hashlib.md5(term, usedforsecurity=False).digest()
    return base64.urlsafe_b64encode(digest).decode().rstrip("=")
