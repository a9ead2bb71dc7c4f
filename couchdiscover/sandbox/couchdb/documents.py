"""Documents with revision trees, and the stores that hold them.

Revision names are computed as CouchDB computes them, so that they equal those of real servers and
the winner of a conflict between two shard maps is the one that would win there.
"""

import hashlib
import struct
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

Json = dict[str, Any]


class ConflictError(Exception):
    """The revision a write names is not a leaf of the document."""


def _term(value: Any) -> bytes:
    """A JSON value in Erlang's external term format; an object is a tuple of a list of pairs."""
    match value:
        case bool() | None:
            name = str(value).lower().encode() if value is not None else b"null"
            return b"d" + struct.pack(">H", len(name)) + name
        case int() if 0 <= value < 256:
            return b"a" + bytes([value])
        case int() if -(2**31) <= value < 2**31:
            return b"b" + struct.pack(">i", value)
        case int():
            digits = abs(value).to_bytes((value.bit_length() + 7) // 8, "little")
            return b"n" + bytes([len(digits), value < 0]) + digits
        case float():
            return b"F" + struct.pack(">d", value)
        case str():
            return _term(value.encode())
        case bytes():
            return b"m" + struct.pack(">I", len(value)) + value
        case Mapping():
            pairs = [b"h\x02" + _term(key) + _term(item) for key, item in value.items()]
            return b"h\x01" + _list(pairs)
        case _ if value and len(value) < 65536 and all(_is_byte(item) for item in value):
            return b"k" + struct.pack(">H", len(value)) + bytes(value)
        case _:
            return _list([_term(item) for item in value])


def _is_byte(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value < 256


def _list(terms: list[bytes]) -> bytes:
    if not terms:
        return b"j"
    return b"l" + struct.pack(">I", len(terms)) + b"".join(terms) + b"j"


@dataclass(frozen=True, slots=True)
class Revision:
    """A leaf of a document's revision tree. ``ancestors`` are digests, the newest first."""

    position: int
    digest: str
    ancestors: tuple[str, ...]
    body: Mapping[str, Any]
    deleted: bool = False

    @property
    def name(self) -> str:
        """The revision as it stands in ``_rev``."""
        return f"{self.position}-{self.digest}"

    @classmethod
    def after(cls, parent: "Revision | None", body: Mapping[str, Any], deleted: bool) -> "Revision":
        """The revision that an edit of ``parent`` makes."""
        position = parent.position if parent is not None else 0
        previous = bytes.fromhex(parent.digest) if parent is not None else 0
        parts = [_term(part) for part in (deleted, position, previous, body)]
        digest = hashlib.md5(
            b"\x83" + _list([*parts, _list([])]), usedforsecurity=False
        ).hexdigest()
        ancestors = (parent.digest, *parent.ancestors) if parent is not None else ()
        return cls(position + 1, digest, ancestors, body, deleted)


@dataclass(frozen=True)
class Document:
    """A document: its leaves, the winner first. Immutable, hence shared between nodes."""

    id: str
    leaves: tuple[Revision, ...]

    @property
    def winner(self) -> Revision:
        """The revision that is served."""
        return self.leaves[0]

    @cached_property
    def mark(self) -> int:
        """Equal for equal documents; stores combine it to see at once whether they agree."""
        return hash((self.id, self.leaves[0].name, frozenset(leaf.name for leaf in self.leaves)))

    def json(self, *, conflicts: bool = False) -> Json:
        """The document as CouchDB prints it."""
        value: Json = {"_id": self.id, "_rev": self.winner.name, **self.winner.body}
        losers = [leaf.name for leaf in self.leaves[1:] if not leaf.deleted]
        if conflicts and losers:
            value["_conflicts"] = losers
        return value


def _document(doc_id: str, leaves: Iterable[Revision]) -> Document:
    order = sorted(leaves, key=lambda r: (not r.deleted, r.position, r.digest), reverse=True)
    return Document(doc_id, tuple(order))


def edit(
    old: Document | None,
    doc_id: str,
    body: Mapping[str, Any],
    revision: str | None,
    *,
    deleted: bool = False,
) -> Document:
    """One more revision of a document; raises ConflictError."""
    parent: Revision | None = None
    if revision is not None:
        named = [leaf for leaf in (old.leaves if old else ()) if leaf.name == revision]
        if not named:
            raise ConflictError
        parent = named[0]
    elif old is not None:
        if not old.winner.deleted or deleted:
            raise ConflictError
        parent = old.winner
    others = [leaf for leaf in (old.leaves if old else ()) if leaf is not parent]
    return _document(doc_id, [Revision.after(parent, body, deleted), *others])


def merge(mine: Document | None, theirs: Document) -> Document:
    """What replication makes of two copies of one document."""
    if mine is None or mine is theirs or mine.leaves == theirs.leaves:
        return theirs if mine is None else mine
    leaves = {leaf.digest: leaf for leaf in (*theirs.leaves, *mine.leaves)}
    old = {digest for leaf in leaves.values() for digest in leaf.ancestors}
    return _document(mine.id, [leaf for digest, leaf in leaves.items() if digest not in old])


class Store:
    """The documents of one database file on one node."""

    def __init__(self) -> None:
        self.docs: dict[str, Document] = {}
        self.live: set[str] = set()
        """The ids of the documents that are not deleted."""
        self.mark = 0
        self.edits = 0

    def put(self, document: Document) -> None:
        """Stores a document in place of what was there."""
        old = self.docs.get(document.id)
        self.mark ^= document.mark ^ (old.mark if old is not None else 0)
        self.docs[document.id] = document
        self.edits += 1
        if document.winner.deleted:
            self.live.discard(document.id)
        else:
            self.live.add(document.id)

    def get(self, doc_id: str) -> Document | None:
        """The document, or None; it may be a deleted one."""
        return self.docs.get(doc_id)

    def absorb(self, other: "Store", ids: Iterable[str] | None = None) -> set[str]:
        """Replicates documents (all, or those named) from another store; returns what was new."""
        if self.mark == other.mark:
            return set()
        fresh = set()
        for doc_id in tuple(other.docs if ids is None else ids):
            theirs = other.docs.get(doc_id)
            mine = self.docs.get(doc_id)
            if theirs is None or theirs is mine:
                continue
            merged = merge(mine, theirs)
            if mine is None or merged.mark != mine.mark:
                self.put(merged)
                fresh.add(doc_id)
        return fresh
