"""What a simulated node is to the others: its name, its process, its configuration, its volume."""

import secrets
from abc import ABC, abstractmethod
from collections.abc import Iterable

from couchdiscover.sandbox.couchdb.config import Config
from couchdiscover.sandbox.couchdb.sessions import Secrets
from couchdiscover.sandbox.couchdb.versions import Traits
from couchdiscover.sandbox.couchdb.volume import File, ShardMap, Volume
from couchdiscover.sandbox.http import Request, Response, Wire

NO_NAME = "nonode@nohost"
"""What Erlang calls a node that was given no name; it connects to nobody."""


class Member(ABC):
    """A node as the distribution, the replication and the databases see it."""

    secrets: Secrets
    """The secrets that sign sessions."""

    def __init__(self, name: str, address: str, port: int, version: str) -> None:
        self.name = name
        self.host = name.partition("@")[2]
        self.address = address or self.host
        self.port = port
        self.version = version
        self.traits = Traits(version)
        self.running = False
        self.frozen = False
        self.cookie = ""
        self.config = Config({})
        self.volume = Volume()
        self.full_volume = False
        """Whether the volume with the databases takes nothing more: ``enospc``. Why the ini file
        takes nothing is ``config.unwritable``."""
        self.short_names = False
        """Erlang's ``-sname``."""
        self.started_at = 0.0
        """When the process started, by the network's clock; set it back to fake an uptime."""

    @abstractmethod
    async def handle(self, request: Request) -> Response | Wire:
        """Answers one request as CouchDB does."""

    @abstractmethod
    def remember_members(self) -> None:
        """Notes what is on disk now, before members are learned that a kill would forget."""

    @abstractmethod
    def configure(self, section: str, key: str, value: str) -> str | None:
        """Sets a value as CouchDB does: why its file could not be written, or None."""

    @property
    def release(self) -> tuple[int, int]:
        """The version, as far as rules depend on it: its first two numbers."""
        major, minor, *_ = [*self.version.split("."), "0"]
        return int(major), int(minor)

    @property
    def dbs(self) -> File:
        """``_dbs``: the shard maps."""
        return self.volume.dbs

    @property
    def membership(self) -> File:
        """``_nodes``: a document a member."""
        return self.volume.nodes

    @property
    def members(self) -> set[str]:
        """The names in ``_nodes``."""
        return self.membership.live

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

    def is_called(self, host: str) -> bool:
        """Whether a host name, short or full, or an address is this node's."""
        return host in (self.address, self.host) or self.host.startswith(f"{host}.")

    def speaks_to(self, other: "Member") -> bool:
        """Whether Erlang takes the other's name for one that it could connect to at all.

        Long names need a dot (else ``Hostname couchdb-0 is illegal``) or to be an IPv6 address;
        short ones must have none; ``nonode@nohost`` is connected to nobody.
        """
        if NO_NAME in (self.name, other.name):
            return False
        dotted = "." in other.host or ":" in other.host
        return dotted != self.short_names

    def agrees(self, other: "Member") -> bool:
        """Whether two nodes have the same members and shard maps."""
        same = self.membership.mark == other.membership.mark
        return same and self.dbs.mark == other.dbs.mark

    def map_of(self, name: str) -> ShardMap | None:
        """The shard map of a database, None where this node knows of no such database."""
        document = self.dbs.get(name)
        if document is None or document.winner.deleted:
            return None
        return ShardMap.of(document)

    def copy_of(self, shards: ShardMap, hash_range: str, now: float) -> File:
        """This node's copy of a range. CouchDB makes one that is missing, and empty, when asked."""
        path = shards.path(hash_range)
        found = self.volume.shards.get(path)
        if found is None:
            found = self.volume.make(path, shards.props, self.name, now)
        return found

    def make_named_files(self, names: Iterable[str], now: float) -> None:
        """Makes the files, empty, that the maps of these databases name here and that are missing.

        A node does so when a map arrives (CouchDB's source, src/mem3/src/mem3_shards.erl).
        """
        for name in names:
            shards = self.map_of(name)
            if shards is None:
                continue
            for hash_range, holders in shards.by_range.items():
                if self.name in holders:
                    self.copy_of(shards, hash_range, now)
