"""What is to be done: the steps, and the decisions that they are part of."""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum


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
