"""Documents with revision trees.

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


class Atom(str):
    """A word that CouchDB itself has put into a document: not the same term as a string."""

    __slots__ = ()


def _term(value: Any) -> bytes:
    """A JSON value in Erlang's external term format; an object is a tuple of a list of pairs."""
    match value:
        case bool() | None:
            return _term(Atom("null" if value is None else str(value).lower()))
        case Atom():
            return b"d" + struct.pack(">H", len(value)) + value.encode()
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

    @classmethod
    def of(cls, doc_id: str, revision: str, body: Mapping[str, Any]) -> "Document":
        """A document of one given revision."""
        position, _, digest = revision.partition("-")
        return cls(doc_id, (Revision(int(position), digest, (), body),))

    @property
    def winner(self) -> Revision:
        """The revision that is served."""
        return self.leaves[0]

    @cached_property
    def mark(self) -> int:
        """Equal for equal documents; files combine it to see at once whether they agree."""
        return hash((self.id, self.leaves[0].name, frozenset(leaf.name for leaf in self.leaves)))

    def json(
        self, *, conflicts: bool = False, revisions: bool = False, revs_info: bool = False
    ) -> Json:
        """The document as CouchDB prints it."""
        winner = self.winner
        value: Json = {"_id": self.id, "_rev": winner.name}
        if winner.deleted:
            value["_deleted"] = True
        value |= winner.body
        digests = [winner.digest, *winner.ancestors]
        if revisions:
            value["_revisions"] = {"start": winner.position, "ids": digests}
        if revs_info:
            names = [f"{winner.position - age}-{digest}" for age, digest in enumerate(digests)]
            value["_revs_info"] = [{"rev": name, "status": "available"} for name in names]
        losers = [leaf.name for leaf in self.leaves[1:] if not leaf.deleted]
        if conflicts and losers:
            value["_conflicts"] = losers
        return value

    def without(self, revisions: Iterable[str]) -> "Document | None":
        """The document after a purge of leaves; None where no leaf is left."""
        gone = set(revisions)
        leaves = tuple(leaf for leaf in self.leaves if leaf.name not in gone)
        return Document(self.id, leaves) if leaves else None


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
