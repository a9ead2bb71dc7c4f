"""What CouchDB says: one look at every node."""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from enum import StrEnum
from typing import Self

from couchdiscover.state.reasons import Plain, Reason
from couchdiscover.state.topology import Address
from couchdiscover.state.volumes import ShardFile, Volume

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

    @property
    def finished(self) -> bool:
        """Whether the set-up is done, alone or as a member."""
        return self in (SetupState.FINISHED, SetupState.SINGLE_ENABLED)


@dataclass(frozen=True, slots=True)
class Hash:
    """An administrator's password as a node keeps it: a fingerprint, and how it was hashed.

    ``scheme`` is the algorithm with its iterations. A node of another version may take a hash of a
    scheme that it does not know for a plain password, and so lock the administrator out.
    """

    value: str
    scheme: str = ""


@dataclass(frozen=True, slots=True)
class Identity:
    """What all nodes of a cluster must share, as fingerprints; None where a node has no value.

    ``admins`` are the administrators' hashes by user; ``admin`` is that of the one we log in as.
    Sessions of one node hold on another only where hash and ``secret`` are the same. ``old_secret``
    is true where the secret stands in the section of CouchDB 3.1 and before, where CouchDB reads it
    and finish_cluster does not.
    """

    admin: Hash | None = None
    uuid: str | None = None
    secret: str | None = None
    admins: Mapping[str, Hash] = field(default_factory=dict)
    old_secret: bool = False


@dataclass(frozen=True, slots=True)
class NodeDetails:
    """What else of a node's configuration matters.

    ``maintenance`` is what maintenance_mode is set to, None where it is off. ``copies`` is
    [cluster] n, the number of copies that new databases get; ``placement`` overrides it, by zones.
    ``zones`` has the zone of each member that is in one, by Erlang name, read where there is a
    placement.
    ``seeds`` are the Erlang names of [cluster] seedlist. ``single_node`` is [couchdb] single_node,
    with which CouchDB makes system databases of its own at each start.
    """

    pod: str
    maintenance: str | None = None
    copies: int = 3
    placement: str | None = None
    zones: Mapping[str, str] | None = None
    seeds: frozenset[str] = frozenset()
    single_node: bool = False

    @property
    def placement_zones(self) -> frozenset[str]:
        """The zones that ``placement`` names: ``a:2,b:1``."""
        rules = (self.placement or "").split(",")
        return frozenset(zone for rule in rules if (zone := rule.partition(":")[0].strip()))

    def places_on(self, name: str) -> bool | None:
        """Whether new databases get copies on this member; None where that is not known."""
        if self.placement is None:
            return True
        return None if self.zones is None else self.zones.get(name) in self.placement_zones


@dataclass(frozen=True, slots=True)
class NodeView:
    """A node that answered. ``name`` is its Erlang name, as it says itself.

    ``all_nodes`` are the nodes it is connected to, itself included; ``cluster_nodes`` the members
    it knows of. ``databases`` are those that its shard maps name, where that was asked.
    ``unreadable`` are databases that were asked for and cannot be opened from it. ``up`` is the
    status of ``GET /_up``. ``unconnected_because`` says, of a member that is not connected, the
    likeliest cause. ``overdue`` are the Erlang names of fellow members that it should have learned
    of by replication long ago. ``sessions`` are the pods that accept a session of this node,
    where that was tried. What was not read, or could not be, is None.
    """

    pod: str
    address: Address
    name: str
    state: SetupState
    all_nodes: frozenset[str]
    cluster_nodes: frozenset[str]
    version: str | None = None
    unreadable: tuple[str, ...] = ()
    databases: frozenset[str] | None = None
    volume: Volume | None = None
    identity: Identity | None = None
    details: NodeDetails | None = None
    uptime: float | None = None
    up: str | None = None
    unconnected_because: str | None = None
    overdue: frozenset[str] = frozenset()
    sessions: frozenset[str] | None = None

    @property
    def finished(self) -> bool:
        """Whether it reports its set-up as finished; says nothing about membership."""
        return self.state.finished

    @property
    def was_finished(self) -> bool:
        """Whether it is finished, or was: its shard maps name the databases that finishing makes.

        Not finished then means that their copies are away just now, on nodes that are down.
        """
        return self.finished or (
            self.databases is not None and self.databases.issuperset(DEFAULT_DATABASES)
        )

    @property
    def single(self) -> bool:
        """Whether it is configured as a single node ([cluster] n = 1, or single_node = true)."""
        return self.state in (SetupState.SINGLE_DISABLED, SetupState.SINGLE_ENABLED)

    @property
    def alone(self) -> bool:
        """Whether it knows of no other member."""
        return self.cluster_nodes <= {self.name}

    @property
    def release(self) -> tuple[int, ...]:
        """The version in numbers, (3, 5, 2); empty where it is not known."""
        found = re.match(r"[0-9]+(\.[0-9]+)*", self.version or "")
        return tuple(int(part) for part in found[0].split(".")) if found else ()


@dataclass(frozen=True, slots=True)
class Unreachable:
    """A node that did not answer as CouchDB does, and why."""

    pod: str
    reason: Reason
    address: Address | None = None


@dataclass(frozen=True, slots=True)
class LoginRefused:
    """A node that refused the credentials, for good. ``reason`` is a whole sentence."""

    pod: str
    reason: str
    address: Address | None = None


@dataclass(frozen=True, slots=True)
class TooOld:
    """A node of a CouchDB that has no such clusters, or other ones."""

    pod: str
    version: str
    address: Address | None = None


Sight = NodeView | Unreachable | LoginRefused | TooOld


@dataclass(frozen=True, slots=True)
class Copies:
    """The copies on volumes that were lost or damaged, all names being Erlang names.

    ``left`` are those that are not proven complete, of ``total`` by node; ``progress`` grows while
    they are being filled. ``unsourced`` are those that no copy which answers could prove: the
    others are on nodes that are silent. ``databases`` are concerned, ``gone`` are those with a
    range whose only copies were lost. ``synced`` is true once CouchDB has been asked to fill them.
    """

    lost: frozenset[str]
    databases: tuple[str, ...] = ()
    left: Mapping[str, tuple[ShardFile, ...]] = field(default_factory=dict)
    unsourced: Mapping[str, tuple[ShardFile, ...]] = field(default_factory=dict)
    total: Mapping[str, int] = field(default_factory=dict)
    progress: tuple[int, int] = (0, 0)
    gone: frozenset[str] = frozenset()
    synced: bool = False


@dataclass(frozen=True, slots=True)
class ClusterView:
    """One look at every expected node, in the order of the ordinals.

    ``prior`` are Erlang names of nodes that were members of a finished cluster before this run:
    only they have a vote on the cluster's identity. ``added`` are pods that this run has added,
    ``without_shards`` those among them that no finished cluster knew before. ``finished_here`` is
    true once it has finished the cluster. ``others`` are connected members that are no expected
    pods, by Erlang name, as far as their volumes were read. ``copies`` is None where no volume was
    lost, or that is not known.
    """

    sights: tuple[Sight, ...]
    prior: frozenset[str] = frozenset()
    added: frozenset[str] = frozenset()
    without_shards: frozenset[str] = frozenset()
    finished_here: bool = False
    others: Mapping[str, Volume] = field(default_factory=dict)
    copies: Copies | None = None

    @property
    def nodes(self) -> tuple[NodeView, ...]:
        """Those that answered."""
        return tuple(sight for sight in self.sights if isinstance(sight, NodeView))

    def sight(self, pod: str) -> Sight:
        """What was seen of a pod; one that was not looked at is unreachable."""
        for sight in self.sights:
            if sight.pod == pod:
                return sight
        return Unreachable(pod, Plain("to be looked at"))

    def seen_anew(self, nodes: Mapping[str, NodeView]) -> Self:
        """The view with some nodes, by pod, as they were seen since."""
        if not nodes:
            return self
        sights = tuple(nodes.get(sight.pod, sight) for sight in self.sights)
        return replace(self, sights=sights)

    def __iter__(self) -> Iterator[Sight]:
        return iter(self.sights)
