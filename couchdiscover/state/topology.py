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
    service_problem: str | None = None
    created_pods: int | None = None
    rollout: bool = False
    age: float | None = None
    secret_intended: bool = False
    volumes_persistent: bool | None = None
    ipv6_only: bool = False

    def pod(self, name: str) -> Pod | None:
        """The expected pod of that name."""
        return next((pod for pod in self.expected if pod.name == name), None)


@dataclass(frozen=True, slots=True)
class Credentials:
    """CouchDB's administrator. The password shows in no repr."""

    user: str
    password: str = field(repr=False)
    source: str = ""
