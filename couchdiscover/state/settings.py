"""What the user asked for."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum

from couchdiscover.state.nodes import DEFAULT_DATABASES
from couchdiscover.state.topology import Scope

MAX_SIZE = 10_000


class ClusterState(StrEnum):
    """Whether a new cluster may be formed."""

    AUTO = "auto"
    EXISTING = "existing"


@dataclass(frozen=True, slots=True)
class Settings:
    """What the user asked for; None where nothing was said. Durations are in seconds."""

    statefulset: str | None = None
    namespace: str | None = None
    container: str | None = None
    scope: Scope | None = None
    size: int | None = None
    timeout: float = 300.0
    request_timeout: float = 5.0
    ensure_dbs: tuple[str, ...] = ()
    repair: bool = True
    repair_from: str | None = None
    cluster_state: ClusterState = ClusterState.AUTO
    mark: bool = True
    wait_for_copies: bool = True
    allow_one_copy: bool = False
    scheme: str = "http"
    port: int | None = None
    ca_file: str | None = None
    insecure_skip_tls_verify: bool = False
    cluster_domain: str | None = None
    kubeconfig: str | None = None
    context: str | None = None
    dry_run: bool = False
    wait: bool = False
    write: bool = False
    via: str = "direct"
    former_names: Mapping[str, str] = field(default_factory=dict)
    only_databases: str | None = None
    replications: str | None = None
    environment: Mapping[str, str] = field(default_factory=dict, repr=False)

    @property
    def databases(self) -> tuple[str, ...]:
        """Every database that must be readable from every node."""
        return (*DEFAULT_DATABASES, *self.ensure_dbs)

    @property
    def verify(self) -> bool | str:
        """How certificates are checked, in requests' terms."""
        return False if self.insecure_skip_tls_verify else self.ca_file or True


def parse_size(text: str) -> int:
    """A number of nodes. Raises ValueError."""
    text = text.strip()
    if not re.fullmatch(r"[0-9]{1,9}", text) or not 1 <= int(text) <= MAX_SIZE:
        raise ValueError(f"{text!r} is no number of nodes (1 to {MAX_SIZE})")
    return int(text)
