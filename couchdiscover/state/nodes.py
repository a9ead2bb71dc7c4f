"""What CouchDB says: one look at every node."""

from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum

from couchdiscover.state.topology import Address
from couchdiscover.state.volumes import Volume

SYSTEM_DATABASES = frozenset({"_users", "_replicator", "_global_changes"})
"""Databases that CouchDB makes for itself (manual, "System databases")."""

DEFAULT_DATABASES = ("_users", "_replicator")
"""What ``finish_cluster`` makes where nothing else is asked for."""


class SetupState(StrEnum):
    """Answers of ``GET /_cluster_setup`` (CouchDB's source, src/setup/src/setup.erl)."""

    DISABLED = "cluster_disabled"
    ENABLED = "cluster_enabled"
    FINISHED = "cluster_finished"
    SINGLE_DISABLED = "single_node_disabled"
    SINGLE_ENABLED = "single_node_enabled"


@dataclass(frozen=True, slots=True)
class Identity:
    """What all nodes of a cluster must share, as fingerprints; None where a node has no value.

    ``admin`` is the hash of the administrator's password: sessions of one node hold on another only
    where it and ``secret`` are the same.
    """

    admin: str | None = None
    uuid: str | None = None
    secret: str | None = None


@dataclass(frozen=True, slots=True)
class Holdings:
    """The databases on a node; ``filled`` are those with a document that is no design document.

    Of the others, only system databases were looked into: any other database counts as filled.
    """

    databases: frozenset[str] = frozenset()
    filled: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class NodeView:
    """A node that answered. ``name`` is its Erlang name, as it says itself.

    ``all_nodes`` are the nodes it is connected to, itself included; ``cluster_nodes`` the members
    it knows of. ``unreadable`` are databases that were asked for and cannot be opened from it.
    ``severed`` says, of a member that is not connected, the likeliest cause. ``overdue`` are the
    Erlang names of fellow members that it should have learned of by replication long ago.
    """

    pod: str
    address: Address
    name: str
    state: SetupState
    all_nodes: frozenset[str]
    cluster_nodes: frozenset[str]
    version: str | None = None
    unreadable: tuple[str, ...] = ()
    holdings: Holdings | None = None
    identity: Identity | None = None
    uptime: float | None = None
    severed: str | None = None
    overdue: frozenset[str] = frozenset()
    volume: Volume | None = None

    @property
    def finished(self) -> bool:
        """Whether it reports its set-up as finished; says nothing about membership."""
        return self.state in (SetupState.FINISHED, SetupState.SINGLE_ENABLED)

    @property
    def single(self) -> bool:
        """Whether it is configured as a single node ([cluster] n = 1, or single_node = true)."""
        return self.state in (SetupState.SINGLE_DISABLED, SetupState.SINGLE_ENABLED)

    @property
    def alone(self) -> bool:
        """Whether it knows of no other member."""
        return self.cluster_nodes <= {self.name}

    @property
    def owns_data(self) -> bool:
        """Whether it holds a database with content of its own."""
        return self.holdings is not None and bool(self.holdings.filled)


@dataclass(frozen=True, slots=True)
class Unreachable:
    """A node that did not answer as CouchDB does, and why."""

    pod: str
    reason: str
    address: Address | None = None


@dataclass(frozen=True, slots=True)
class LoginRefused:
    """A node that refused the credentials, for good."""

    pod: str
    reason: str
    address: Address | None = None


Sight = NodeView | Unreachable | LoginRefused


@dataclass(frozen=True, slots=True)
class ClusterView:
    """One look at every expected node, in the order of the ordinals.

    ``veterans`` are Erlang names of nodes that were members of a finished cluster before this run:
    only they have a vote on the cluster's identity. ``joined`` are pods that this run has added,
    ``newcomers`` those among them that no finished cluster knew before.
    """

    sights: tuple[Sight, ...]
    veterans: frozenset[str] = frozenset()
    joined: frozenset[str] = frozenset()
    newcomers: frozenset[str] = frozenset()

    @property
    def nodes(self) -> tuple[NodeView, ...]:
        """Those that answered."""
        return tuple(sight for sight in self.sights if isinstance(sight, NodeView))

    def sight(self, pod: str) -> Sight:
        """What was seen of a pod; one that was not looked at is unreachable."""
        for sight in self.sights:
            if sight.pod == pod:
                return sight
        return Unreachable(pod, "was not looked at")

    def __iter__(self) -> Iterator[Sight]:
        return iter(self.sights)


@dataclass(frozen=True, slots=True)
class NodeDetails:
    """Of a node's configuration, what ``check`` judges.

    ``maintenance`` is what maintenance_mode is set to, None where it is off. ``copies`` is
    [cluster] n, the number of copies that new databases get.
    """

    pod: str
    maintenance: str | None = None
    copies: int = 3
