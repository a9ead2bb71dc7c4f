"""What lies on a node's volume: its files, its shard maps, its mark, and who it was."""

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class ShardMap:
    """Where the copies of a database are: for each range, the Erlang names of those that hold one.

    ``suffix`` ends the files' names. ``revision`` is its document's; ``conflicting`` where that has
    other revisions that lost: the copies those name are not used.
    """

    database: str
    by_range: Mapping[str, tuple[str, ...]]
    conflicting: bool = False
    suffix: str = ""
    revision: str = ""

    @property
    def names(self) -> frozenset[str]:
        """The Erlang names of all that are to hold a copy of any range."""
        return frozenset(name for names in self.by_range.values() for name in names)


@dataclass(frozen=True, slots=True, order=True)
class ShardFile:
    """One copy of one range of a database, as a file: ``shards/{range}/{database}{suffix}``."""

    database: str
    range: str
    suffix: str

    @property
    def path(self) -> str:
        """Its name in ``GET /_node/{name}/_all_dbs``, and unquoted in the node-local interface."""
        return f"shards/{self.range}/{self.database}{self.suffix}"


@dataclass(frozen=True, slots=True)
class Mark:
    """What a run has left in the node's own ``_dbs``: which node this volume was verified as.

    ``uuid`` is that of this ``_dbs``; ``seen`` are the uuids of each member's ``_dbs``, the newest
    first, by Erlang name.
    """

    node: str
    uuid: str
    seen: Mapping[str, tuple[str, ...]]
    at: str = ""


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
    """

    files: frozenset[ShardFile] | None = None
    maps: tuple[ShardMap, ...] | None = None
    uuid: str | None = None
    mark: Mark | None = None
    traces: tuple[Trace, ...] | None = None
    filled: frozenset[str] | None = None
