"""What is to be done: the steps, and the decisions that they are part of."""

from dataclasses import dataclass, field
from enum import StrEnum
from typing import ClassVar

from couchdiscover.errors import CouchdiscoverError
from couchdiscover.state.reasons import Reasons


class StepKind(StrEnum):
    """The steps, in the words of the report."""

    ENABLE_NODE = "enable_node"
    ENABLE_SINGLE_NODE = "enable_single_node"
    SET_SECRET = "set_secret"  # noqa: S105 - a step's name
    ADD_NODE = "add_node"
    FINISH_CLUSTER = "finish_cluster"
    ENSURE_DB = "ensure_db"
    SYNC_IDENTITY = "sync_identity"
    DELETE_MEMBER = "delete_member"
    REWRITE_MAP = "rewrite_map"
    SYNC_SHARDS = "sync_shards"


@dataclass(frozen=True)
class Step:
    """One change. ``pod`` is the node that the request goes to."""

    kind: ClassVar[StepKind]
    pod: str

    @property
    def why(self) -> str:
        """The reason, in a sentence without its end."""
        return ""

    @property
    def title(self) -> str:
        """What is done to what."""
        return f"{self.kind} {self.pod}"

    def details(self) -> dict[str, str | list[str]]:
        """What the report tells beyond the kind and the pod."""
        return {}

    def __str__(self) -> str:
        return f"{self.title}: {self.why}"


@dataclass(frozen=True)
class EnableNode(Step):
    """Binds a node to an address that its peers reach."""

    kind = StepKind.ENABLE_NODE

    @property
    def why(self) -> str:
        return "it is bound to loopback or has no administrator"


@dataclass(frozen=True)
class EnableSingleNode(Step):
    """Sets a node up as a cluster of one, as its own configuration says already."""

    kind = StepKind.ENABLE_SINGLE_NODE

    @property
    def why(self) -> str:
        return "it is configured as a single node"


@dataclass(frozen=True)
class SetSecret(Step):
    """Gives a node a chttpd_auth secret."""

    kind = StepKind.SET_SECRET
    to_finish: bool = False

    @property
    def why(self) -> str:
        if self.to_finish:
            return "without a chttpd_auth secret finish_cluster fails for ever"
        return "no node has a chttpd_auth secret, so no session of one holds on another"


@dataclass(frozen=True)
class AddNode(Step):
    """Writes the document of ``to``, whose Erlang name is ``member``, on ``pod``.

    A joining node so becomes a member of the coordinator's cluster. ``introduces`` is true where
    ``pod`` is in already, and replication keeps the document from it.
    """

    kind = StepKind.ADD_NODE
    to: str
    member: str
    introduces: bool = False

    @property
    def why(self) -> str:
        if self.introduces:
            return f"it has not learned of {self.to} by replication"
        return f"it is no member of {self.to}'s cluster yet"

    @property
    def title(self) -> str:
        return f"{self.kind} {self.pod} to {self.to}"

    def details(self) -> dict[str, str | list[str]]:
        return {"to": self.to}


@dataclass(frozen=True)
class FinishCluster(Step):
    """Makes the system databases and pushes the node's identity to every member."""

    kind = StepKind.FINISH_CLUSTER
    members: int

    @property
    def why(self) -> str:
        return f"all {self.members} members are connected, and it is not finished"


@dataclass(frozen=True)
class EnsureDatabase(Step):
    """Makes a database that was asked for."""

    kind = StepKind.ENSURE_DB
    database: str

    @property
    def why(self) -> str:
        return "it was asked for with --ensure-db and does not exist"

    @property
    def title(self) -> str:
        return f"{self.kind} {self.database} through {self.pod}"

    def details(self) -> dict[str, str | list[str]]:
        return {"database": self.database}


@dataclass(frozen=True)
class AddCopies(Step):
    """Has a system database's map name more nodes, while it holds no document yet."""

    kind = StepKind.ENSURE_DB
    database: str
    nodes: tuple[str, ...]

    @property
    def why(self) -> str:
        return "it has no document yet, and fewer copies than it would get if it were made now"

    @property
    def title(self) -> str:
        return f"{self.kind} {self.database} on {', '.join(self.nodes)} through {self.pod}"

    def details(self) -> dict[str, str | list[str]]:
        return {"database": self.database}


@dataclass(frozen=True)
class SyncIdentity(Step):
    """Gives a node another one's values: ``admin``, ``uuid``, ``secret``, ``admins/NAME``."""

    kind = StepKind.SYNC_IDENTITY
    source: str
    keys: tuple[str, ...]

    @property
    def why(self) -> str:
        return "sessions and replications need the same values on every node"

    @property
    def title(self) -> str:
        return f"{self.kind} of {self.pod} with {self.source} ({', '.join(self.keys)})"

    def details(self) -> dict[str, str | list[str]]:
        return {"to": self.source, "keys": list(self.keys)}


@dataclass(frozen=True)
class AnnounceSecret(Step):
    """Puts a node's own secret again, in memory, upon which the others take its sessions.

    CouchDB 3.5.2 and later send a secret to the others when the setting changes, and not at boot
    (CouchDB's source, src/couch/src/couch_secrets.erl).
    """

    kind = StepKind.SYNC_IDENTITY

    @property
    def why(self) -> str:
        return "its own secret is put again, unchanged, so that the others accept its sessions"

    @property
    def title(self) -> str:
        return f"{self.kind} of {self.pod} (secret)"

    def details(self) -> dict[str, str | list[str]]:
        return {"keys": ["secret"]}


@dataclass(frozen=True)
class KeepPlacement(Step):
    """Gives a node's document what the document of its former name has: ``zone`` and the like."""

    kind = StepKind.ADD_NODE
    member: str
    former: str
    keys: tuple[str, ...]

    @property
    def why(self) -> str:
        return f"its former document, of {self.former}, has them"

    @property
    def title(self) -> str:
        return f"{self.kind} {self.member} with {', '.join(self.keys)} through {self.pod}"

    def details(self) -> dict[str, str | list[str]]:
        return {"member": self.member, "keys": list(self.keys)}


@dataclass(frozen=True)
class DeleteMember(Step):
    """Takes a name that is no node's any more out of the list of members."""

    kind = StepKind.DELETE_MEMBER
    member: str

    @property
    def why(self) -> str:
        return "no node has this name any more"

    @property
    def title(self) -> str:
        return f"{self.kind} {self.member} through {self.pod}"

    def details(self) -> dict[str, str | list[str]]:
        return {"member": self.member}


@dataclass(frozen=True)
class RewriteMap(Step):
    """Has a shard map name the nodes that have the files now."""

    kind = StepKind.REWRITE_MAP
    database: str

    @property
    def why(self) -> str:
        return "its shard map is under former names"

    @property
    def title(self) -> str:
        return f"{self.kind} {self.database} through {self.pod}"

    def details(self) -> dict[str, str | list[str]]:
        return {"database": self.database}


@dataclass(frozen=True)
class SyncShards(Step):
    """Has CouchDB push each copy of some databases to every other one."""

    kind = StepKind.SYNC_SHARDS
    databases: tuple[str, ...]

    @property
    def why(self) -> str:
        return "copies are missing or empty, and CouchDB fills them when it is asked to"

    @property
    def title(self) -> str:
        count = len(self.databases)
        return f"{self.kind} of {count} database{'s' if count > 1 else ''} through {self.pod}"

    def details(self) -> dict[str, str | list[str]]:
        return {"databases": list(self.databases)}


@dataclass(frozen=True)
class SyncAdopted(SyncShards):
    """The same, for copies of volumes that were adopted, or are older than the others know them.

    Purges are handed on anew, too, which CouchDB by itself would take for done.
    """

    @property
    def why(self) -> str:
        return "rewriting a map starts no replication, and copies may be of different moments"


@dataclass(frozen=True, slots=True)
class Do:
    """Steps to take now. Those of one node are in order; nodes do not depend on one another."""

    steps: tuple[Step, ...]
    warnings: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Done:
    """The end state holds. ``marks`` are the pods whose volumes may be marked as verified.

    ``conclusion`` is what came of it, where that is something else than a cluster.
    """

    warnings: tuple[str, ...] = ()
    marks: tuple[str, ...] = ()
    conclusion: str = ""


@dataclass(frozen=True, slots=True)
class Refuse:
    """Going on would not help, or could do harm: the error that ends the run, and its reason.

    ``marks`` are as in ``Done``: of what is lost for good is told once.
    """

    error: type[CouchdiscoverError]
    reason: str
    warnings: tuple[str, ...] = ()
    marks: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Wait:
    """Nothing to do but to look again: the condition that each pod is waited for to meet.

    ``at_the_end`` is what holds where the time is over and nothing has changed; a time-out else.
    ``advancing`` grows where the waiting has an end of its own: the deadline does not cut it then.
    """

    reasons: Reasons
    warnings: tuple[str, ...] = ()
    at_the_end: Done | Refuse | None = None
    advancing: tuple[int, int] | None = field(default=None, compare=False)


Decision = Do | Wait | Refuse | Done
