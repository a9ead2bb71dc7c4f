"""What a pod is waited for to do, as values. Each one's text reads behind the pod's name."""

from collections.abc import Mapping
from dataclasses import dataclass

from couchdiscover.state.topology import Address


@dataclass(frozen=True, slots=True)
class Reason:
    """Base of all reasons. ``str`` is the condition that the pod has still to meet."""


@dataclass(frozen=True, slots=True)
class Plain(Reason):
    """A condition that stands for no single pod, in its own words."""

    text: str

    def __str__(self) -> str:
        return self.text


@dataclass(frozen=True, slots=True)
class NoAddress(Reason):
    """Kubernetes has published none; ``why`` tells, where it is known, what keeps it from that."""

    why: str = ""

    def __str__(self) -> str:
        return "to be given an address by Kubernetes" + (f": {self.why}" if self.why else "")


@dataclass(frozen=True, slots=True)
class Silent(Reason):
    """Nothing came that CouchDB could have sent, or nothing that it should have."""

    address: Address | None
    problem: str

    def __str__(self) -> str:
        where = f" at {self.address}" if self.address else ""
        return f"to answer{where}: {self.problem}"


@dataclass(frozen=True, slots=True)
class NotLoggedIn(Reason):
    """The credentials are refused, and may be accepted in a moment."""

    problem: str

    def __str__(self) -> str:
        return f"to accept the credentials; {self.problem}"


@dataclass(frozen=True, slots=True)
class AnotherPodsAddress(Reason):
    """At the pod's published address answers a node that is another pod, of this set or not."""

    address: Address
    name: str
    expected: bool = True

    def __str__(self) -> str:
        return (
            f"to be published at an address of its own: at {self.address} answers {self.name}, "
            "which is another pod"
        )


@dataclass(frozen=True, slots=True)
class NotListing(Reason):
    """It does not list a member that it should."""

    member: str

    def __str__(self) -> str:
        return f"to list {self.member} as a member"


@dataclass(frozen=True, slots=True)
class NotListedBy(Reason):
    """It is not listed as a connected member."""

    peer: str
    cause: str = ""

    def __str__(self) -> str:
        return f"to be listed as a connected member by {self.peer}" + _cause(self.cause)


@dataclass(frozen=True, slots=True)
class NotConnectedTo(Reason):
    """Both are members, and the Erlang nodes are not connected."""

    peer: str
    cause: str = ""

    def __str__(self) -> str:
        return f"to be connected to {self.peer}" + _cause(self.cause)


@dataclass(frozen=True, slots=True)
class ConnectedToNoMember(Reason):
    """It is connected to a node that nobody lists: a removed member, or one that lists it."""

    name: str

    def __str__(self) -> str:
        return f"to list {self.name}, which is connected to it, or to lose that connection"


@dataclass(frozen=True, slots=True)
class NotFinished(Reason):
    """It does not report a finished cluster, though others do or it was finished once."""

    state: str
    peer: str = ""

    def __str__(self) -> str:
        if self.peer:
            return f"to report what {self.peer} does: a finished cluster"
        return f"to report a finished cluster; it is {self.state}"


@dataclass(frozen=True, slots=True)
class CannotOpen(Reason):
    """Databases exist and cannot be opened from it: their copies are elsewhere, or gone."""

    databases: tuple[str, ...]

    def __str__(self) -> str:
        return f"to open {', '.join(self.databases)}"


@dataclass(frozen=True, slots=True)
class Unread(Reason):
    """Something must be known before anything is written, and could not be read."""

    what: str
    why: str

    def __str__(self) -> str:
        return f"to tell {self.what}: nothing is decided before it is known ({self.why})"


@dataclass(frozen=True, slots=True)
class NotRead(Reason):
    """What must be seen before it is called verified could not be read."""

    what: str
    where: str

    def __str__(self) -> str:
        return f"to show {self.what}, without which nothing is verified ({self.where})"


@dataclass(frozen=True, slots=True)
class OtherMaps(Reason):
    """Two members have different shard maps of one database: they are not joined any further."""

    databases: tuple[str, ...]
    peer: str

    def __str__(self) -> str:
        return f"to have the same shard maps as {self.peer} of {', '.join(self.databases)}"


@dataclass(frozen=True, slots=True)
class NotUp(Reason):
    """``GET /_up`` says that it is not ready to serve."""

    status: str

    def __str__(self) -> str:
        return f"to be ready; /_up says {self.status}"


@dataclass(frozen=True, slots=True)
class StillTheSame(Reason):
    """A step was taken, answered as done, and changed nothing."""

    step: str

    def __str__(self) -> str:
        return f"to show what {self.step} should have changed (it was answered as done)"


@dataclass(frozen=True, slots=True)
class CopiesFilling(Reason):
    """CouchDB is still filling the copies that the maps name there: the volume was ``lost``, or
    it only lacks some."""

    left: int
    total: int
    example: str
    lost: bool = False

    def __str__(self) -> str:
        why = "again: its volume was lost, and" if self.lost else "filled:"
        return (
            f"to have its copies {why} {self.left} of {self.total} shard copies are not proven "
            f"complete ({self.example})"
        )


@dataclass(frozen=True, slots=True)
class CopiesDiffer(CopiesFilling):
    """Copies were adopted, or are older than the others know them, and are not proven equal."""

    def __str__(self) -> str:
        return (
            f"to have its copies proven equal to the others': {self.left} of {self.total} still "
            f"differ, or may ({self.example})"
        )


Reasons = Mapping[str, Reason]
"""By pod; the empty name stands for what concerns no single one."""


def _cause(text: str) -> str:
    return f" ({text})" if text else ""
