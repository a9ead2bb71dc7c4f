"""What Kubernetes says: the StatefulSet, its pods, their addresses, the administrator."""

from dataclasses import dataclass, field
from enum import StrEnum

EPMD_PORT = 4369
"""Erlang's port mapper daemon."""


class Scope(StrEnum):
    """Whose cluster membership is the job: every pod's, or the own pod's."""

    POD = "pod"
    SET = "set"


@dataclass(frozen=True, slots=True)
class Address:
    """Where a node's HTTP interface listens."""

    host: str
    port: int

    def __str__(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{host}:{self.port}"


class Published(StrEnum):
    """Whether Kubernetes has published an address for a pod."""

    YES = "yes"
    NONE = "none"
    """It has not: the pod does not exist yet, or has no IP yet (a postStart hook still runs)."""
    UNKNOWN = "unknown"
    """It cannot be told: the Service is not there, selects other pods, or cannot be read."""


@dataclass(frozen=True, slots=True)
class Pod:
    """A pod of the StatefulSet that is to be a member.

    ``addresses`` are tried in their order; there are none as long as Kubernetes has published none.
    ``host_name`` is the fully qualified name that the headless Service gives the pod. ``obscure``
    is true where no address could have been published for it that would be seen here, whether the
    pod runs or not.
    """

    name: str
    ordinal: int
    host_name: str
    addresses: tuple[Address, ...] = ()
    obscure: bool = False

    @property
    def published(self) -> Published:
        """Whether an address of it is published; the own pod's is taken to be."""
        if self.obscure:
            return Published.UNKNOWN
        return Published.YES if self.addresses else Published.NONE


@dataclass(frozen=True, slots=True)
class Topology:
    """The StatefulSet as it stands.

    ``expected`` are the members to be, by ordinal; none where the set is scaled to 0. ``beyond``
    are pods on top of the wanted size. ``own`` is the pod this process runs in, where it is one of
    them. ``unpublished`` is true where the headless Service hides pods that are not ready.
    ``service_problem`` says, in words, why the Service gives the pods no address or no name.

    ``created_pods`` is ``status.replicas``: how many pods there are, by the controller's last word;
    None where it has not said so yet. ``rollout`` is true while one is under way by the status;
    with ``OnDelete`` or a partition, where revisions differ for ever, it never is. ``outdated`` is
    true where pods may still run an older template than the one read here. ``age`` is how long ago
    the StatefulSet was created, in seconds by the API server's own clock; None where it did not
    say.

    ``secret_intended`` is true where the CouchDB container's environment sets COUCHDB_SECRET, or
    may set it and that could not be read. ``volumes_persistent`` tells whether CouchDB's data is on
    PersistentVolumeClaims; None where the template does not show it. ``ipv6_only`` is true where
    pods have no IPv4 address, also where they are reached by their names. ``cookie_set`` tells
    whether the template gives the nodes an Erlang cookie; None where that cannot be told.
    """

    namespace: str
    statefulset: str
    service: str
    expected: tuple[Pod, ...]
    beyond: tuple[str, ...] = ()
    own: str | None = None
    unpublished: bool = False
    warnings: tuple[str, ...] = ()
    service_problem: str | None = None
    created_pods: int | None = None
    rollout: bool = False
    outdated: bool = False
    age: float | None = None
    secret_intended: bool = False
    volumes_persistent: bool | None = None
    ipv6_only: bool = False
    cookie_set: bool | None = None

    def absent_because(self, name: str) -> str:
        """What keeps a pod without an address from having one, in words; empty where unknown."""
        if self.service_problem:
            return self.service_problem
        names = [pod.name for pod in self.expected]
        if self.created_pods is not None and name in names[self.created_pods :]:
            return (
                "not created yet (with OrderedReady a pod waits until the one before it is Ready)"
            )
        return ""

    def pod(self, name: str) -> Pod | None:
        """The expected pod of that name."""
        return next((pod for pod in self.expected if pod.name == name), None)


@dataclass(frozen=True, slots=True)
class Credentials:
    """CouchDB's administrator. The password shows in no repr."""

    user: str
    password: str = field(repr=False)
    source: str = ""
