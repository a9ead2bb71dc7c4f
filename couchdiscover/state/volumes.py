"""What lies on a node's volume: its files, its shard maps, its mark, and who it was."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True, order=True)
class ShardFile:
    """One copy of one range of a database, as a file: ``shards/{range}/{database}{suffix}``.

    A file that is no shard (made at the node itself, as CouchDB 1.x and 2.x allowed) has neither
    range nor suffix.
    """

    database: str
    range: str
    suffix: str

    @property
    def path(self) -> str:
        """Its name in ``GET /_node/{name}/_all_dbs``, and unquoted in the node-local interface."""
        if not self.range:
            return self.database
        return f"shards/{self.range}/{self.database}{self.suffix}"

    @classmethod
    def of(cls, path: str) -> "ShardFile":
        """The file of this name. Database names hold no dot, but may hold slashes."""
        match = re.fullmatch(r"shards/([0-9a-f]{8}-[0-9a-f]{8})/([^.]+)((?:\.[0-9]+)?)", path)
        if match is None:
            return cls(path, "", "")
        return cls(match[2], match[1], match[3])


@dataclass(frozen=True, slots=True)
class ShardMap:
    """Where the copies of a database are: for each range, the Erlang names of those that hold one.

    ``suffix`` ends the files' names. ``revision`` is its document's; ``conflicting`` where that has
    other revisions that lost: the copies those name are not used. ``history`` are the document's
    revisions, the newest first, where they were asked for. ``split`` is whether a range was split.
    """

    database: str
    by_range: Mapping[str, tuple[str, ...]]
    conflicting: bool = False
    suffix: str = ""
    revision: str = ""
    history: tuple[str, ...] = ()
    split: bool = False

    @property
    def names(self) -> frozenset[str]:
        """The Erlang names of all that are to hold a copy of any range."""
        return frozenset(name for names in self.by_range.values() for name in names)

    def file(self, range_: str) -> ShardFile:
        """The file that a copy of this range is."""
        return ShardFile(self.database, range_, self.suffix)

    def files(self, name: str) -> frozenset[ShardFile]:
        """The files that the node of this name is to have."""
        return frozenset(self.file(r) for r, names in self.by_range.items() if name in names)

    @property
    def rank(self) -> tuple[int, str]:
        """By what CouchDB chooses among revisions: the longer history, then the greater hash."""
        number, _, rest = self.revision.partition("-")
        return (int(number) if number.isascii() and number.isdigit() else 0, rest)


@dataclass(frozen=True, slots=True)
class FileInfo:
    """What ``GET`` of a node-local database says: counts, sequences, and its own uuid."""

    uuid: str
    documents: int
    deleted: int
    update_seq: int
    purge_seq: int = 0

    @property
    def held(self) -> int:
        """How many documents it holds, those that were deleted among them."""
        return self.documents + self.deleted

    @property
    def empty(self) -> bool:
        """Whether it holds no document, and none that was deleted."""
        return self.held == 0


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """How far internal replication says that one copy was pushed to another.

    ``seq`` is the source's update sequence, or its purge sequence. ``reached`` is the highest
    update sequence that the target is known to have had (``target_seq``), by the target's uuid.
    ``revision`` is the local document's.
    """

    seq: int
    reached: int = 0
    revision: str = ""


@dataclass(frozen=True, slots=True)
class Mark:
    """What a run has left in the node's own ``_dbs``: which node this volume was verified as.

    ``uuid`` is that of this ``_dbs``; ``seen`` are the uuids of each member's ``_dbs``, the newest
    first, by Erlang name. ``was`` are names that this volume had before, as ``adopt`` found out.
    """

    node: str
    uuid: str
    seen: Mapping[str, tuple[str, ...]]
    at: str = ""
    was: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Trace:
    """An entry of CouchDB's own history: the ``_dbs`` with this uuid was ``node``'s at that time.

    From the ``history`` of internal replication's checkpoints, ``_local/shard-sync-…`` (CouchDB's
    source, src/mem3/src/mem3_rpc.erl).
    """

    node: str
    uuid: str
    at: str = ""


@dataclass(frozen=True, slots=True)
class Volume:
    """A node's volume as it was read; what could not be read is None, and never empty.

    ``uuid`` is that of its ``_dbs``. ``mark`` counts only where ``traces`` is not None: both come
    with one request. ``filled`` are the databases that have, in a file of this node, a document
    which is no design document; only system databases are looked into, any other counts as filled.
    ``infos`` are what was read of single files: of a file that is not in it, nothing is known.
    ``sampled`` is true where a sample of its copies was to be looked into.
    """

    files: frozenset[ShardFile] | None = None
    maps: tuple[ShardMap, ...] | None = None
    uuid: str | None = None
    mark: Mark | None = None
    traces: tuple[Trace, ...] | None = None
    filled: frozenset[str] | None = None
    infos: Mapping[ShardFile, FileInfo] = field(default_factory=dict)
    sampled: bool = False
