"""The nouns: what was discovered, what was seen, what is to be done. All of it frozen."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from enum import StrEnum

SYSTEM_DATABASES = frozenset({"_users", "_replicator", "_global_changes"})
"""Databases that CouchDB makes for itself (manual, "System databases")."""

DEFAULT_DATABASES = ("_users", "_replicator")
"""What ``finish_cluster`` makes where nothing else is asked for."""


class Scope(StrEnum):
    """Whose cluster membership is the job: every pod's, or the own pod's."""

    POD = "pod"
    SET = "set"


# --- what Kubernetes says ---------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Address:
    """Where a node's HTTP interface listens."""

    host: str
    port: int

    def __str__(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{host}:{self.port}"


@dataclass(frozen=True, slots=True)
class Pod:
    """A pod of the StatefulSet that is to be a member.

    ``addresses`` are tried in their order; there are none as long as Kubernetes has published none.
    ``host_name`` is the fully qualified name that the headless Service gives the pod.
    """

    name: str
    ordinal: int
    host_name: str
    addresses: tuple[Address, ...] = ()


@dataclass(frozen=True, slots=True)
class Topology:
    """The StatefulSet as it stands.

    ``expected`` are the members to be, by ordinal. ``beyond`` are pods on top of the wanted
    size. ``own`` is the pod this process runs in, where it is one of them. ``unpublished`` is true
    where the headless Service hides pods that are not ready.
    """

    namespace: str
    statefulset: str
    service: str
    expected: tuple[Pod, ...]
    beyond: tuple[str, ...] = ()
    own: str | None = None
    unpublished: bool = False
    warnings: tuple[str, ...] = ()

    def pod(self, name: str) -> Pod | None:
        """The expected pod of that name."""
        return next((pod for pod in self.expected if pod.name == name), None)


@dataclass(frozen=True, slots=True)
class Credentials:
    """CouchDB's administrator. The password shows in no repr."""

    user: str
    password: str = field(repr=False)
    source: str = ""


# --- what CouchDB says ------------------------------------------------------------------------


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


@dataclass(frozen=True, slots=True)
class ShardMap:
    """Where the copies of a database are: for each range, the Erlang names of those that hold one.

    ``conflicting`` where its document has other revisions that lost: the copies those name are not
    used.
    """

    database: str
    by_range: Mapping[str, tuple[str, ...]]
    conflicting: bool = False


# --- what is to be done -----------------------------------------------------------------------


class StepKind(StrEnum):
    """The steps, in the words of the report."""

    ENABLE_NODE = "enable_node"
    ENABLE_SINGLE_NODE = "enable_single_node"
    SET_SECRET = "set_secret"  # noqa: S105 - a step's name
    ADD_NODE = "add_node"
    FINISH_CLUSTER = "finish_cluster"
    ENSURE_DB = "ensure_db"
    SYNC_IDENTITY = "sync_identity"


@dataclass(frozen=True, slots=True)
class Step:
    """One change. ``pod`` is the node that the request goes to.

    ``to`` is the other pod of it: the coordinator that is joined, a member that the node has not
    learned of, or the source of the identity.
    ``name`` is ``to``'s Erlang name, or the database; ``keys`` the values that are taken over.
    """

    kind: StepKind
    pod: str
    why: str
    to: str | None = None
    name: str = ""
    keys: tuple[str, ...] = ()

    def __str__(self) -> str:
        match self.kind:
            case StepKind.ADD_NODE:
                return f"{self.kind} {self.pod} to {self.to}: {self.why}"
            case StepKind.ENSURE_DB:
                return f"{self.kind} {self.name} through {self.pod}: {self.why}"
            case StepKind.SYNC_IDENTITY:
                keys = ", ".join(self.keys)
                return f"{self.kind} of {self.pod} with {self.to} ({keys}): {self.why}"
            case _:
                return f"{self.kind} {self.pod}: {self.why}"


@dataclass(frozen=True, slots=True)
class Do:
    """Steps to take now. Those of one node are in order; nodes do not depend on one another."""

    steps: tuple[Step, ...]
    warnings: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Wait:
    """Nothing to do but to look again: the condition that each pod is waited for to meet."""

    reasons: Mapping[str, str]
    warnings: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Blocked:
    """Going on could lose or hide data."""

    hazard: str


@dataclass(frozen=True, slots=True)
class Rejected:
    """CouchDB refuses the credentials."""

    reason: str


@dataclass(frozen=True, slots=True)
class Left:
    """Everything is done but what a person must do."""

    reason: str
    warnings: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Done:
    """The end state holds."""

    warnings: tuple[str, ...] = ()


Decision = Do | Wait | Blocked | Rejected | Left | Done
