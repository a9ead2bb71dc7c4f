"""What was learned and done, and how it ended: what every output is made of."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

from couchdiscover.decide.conditions import Condition, conditions, not_looked_at, summary
from couchdiscover.decide.findings import Finding
from couchdiscover.decide.membership import Membership
from couchdiscover.state.nodes import (
    ClusterView,
    LoginRefused,
    NodeView,
    Sight,
    TooOld,
    Unreachable,
)
from couchdiscover.state.steps import Step
from couchdiscover.state.topology import Topology

TERMINATION_BYTES = 4096
"""What Kubernetes keeps of a termination message (documentation, "Determine the Reason for Pod
Failure")."""


@dataclass(slots=True)
class Record:
    """What a run has learned and done so far; filled as it goes, so that any end can report it.

    ``command`` is empty where none was understood.
    """

    command: str
    namespace: str | None = None
    statefulset: str | None = None
    topology: Topology | None = None
    view: ClusterView | None = None
    finished_here: bool = False
    planned: bool = False
    steps: list[Step] = field(default_factory=list)
    findings: list[Finding] = field(default_factory=list)
    _warnings: dict[str, None] = field(default_factory=dict)

    def warn(self, warnings: Iterable[str]) -> list[str]:
        """Keeps warnings; returns those that are new."""
        new = [warning for warning in warnings if warning not in self._warnings]
        self._warnings |= dict.fromkeys(new)
        return new

    @property
    def warnings(self) -> list[str]:
        """All warnings, each once, in the order they came up."""
        return list(self._warnings)

    @property
    def sights(self) -> list[Sight]:
        """What was seen of each expected pod, by ordinal; nothing where no node was looked at."""
        if self.topology is None or self.view is None:
            return []
        return [self.view.sight(pod.name) for pod in self.topology.expected]

    @property
    def coordinator(self) -> str | None:
        """The member through which the others join: of the cluster, else the one that forms it."""
        if self.view is None or self.topology is None:
            return None
        return Membership.of(self.topology, self.view).coordinator

    def names(self) -> Iterator[str]:
        """Names that Kubernetes gave or bears out; they are shown, whatever the password is.

        An Erlang name is one where its host is that of the pod: what a server says beyond that may
        be anything.
        """
        yield from (name for name in (self.namespace, self.statefulset) if name)
        if self.topology is None:
            return
        yield from (self.topology.service, *self.topology.beyond)
        for pod in self.topology.expected:
            domain = pod.host_name.partition(".")[2]
            yield from (pod.name, pod.host_name, domain, *map(str, pod.addresses))
            yield from (address.host for address in pod.addresses)
            sight = self.view.sight(pod.name) if self.view else None
            if isinstance(sight, NodeView):
                known = {pod.name, pod.host_name, *(address.host for address in pod.addresses)}
                host = sight.name.partition("@")[2]
                if host in known:
                    yield sight.name
                elif host.startswith(pod.host_name.partition(".svc.")[0] + ".svc."):
                    yield from (sight.name, host.partition(".")[2])  # in another cluster domain


@dataclass(frozen=True, slots=True)
class Report:
    """The end of a run. ``message`` is its whole reason, in one sentence."""

    record: Record
    result: str
    exit_code: int
    message: str
    elapsed_seconds: float

    @property
    def conditions(self) -> list[Condition]:
        """The state of the set, condition by condition, and the summary at the end."""
        record = self.record
        if record.topology is None or record.view is None:
            found = not_looked_at()
        else:
            found = conditions(record.topology, record.view, finished_here=record.finished_here)
        return [*found, summary(self.exit_code == 0)]


def problem(sight: Sight) -> str | None:
    """What is wrong with a node, if anything; reads behind its name."""
    match sight:
        case NodeView(unreadable=databases, unconnected_because=cause):
            return cause or (f"cannot open {', '.join(databases)}" if databases else None)
        case Unreachable(reason=reason):
            return f"fails {reason}"
        case TooOld(version=version):
            return f"runs CouchDB {version}, which is too old"
        case LoginRefused(reason=reason):
            return reason


def termination_message(message: str) -> str:
    """The reason, cut to what Kubernetes keeps, at a character's end."""
    data = message.encode(errors="backslashreplace")
    return data[:TERMINATION_BYTES].decode(errors="ignore")
