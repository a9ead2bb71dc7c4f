"""Steps → requests. What an answer says is noted, and the next look decides what is true."""

import contextlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import groupby

from couchdiscover.couch.client import CouchFailure, CouchNode, ErrorAnswer, Fleet
from couchdiscover.net.workers import for_each
from couchdiscover.state.nodes import ClusterView, NodeView
from couchdiscover.state.steps import Step, StepKind
from couchdiscover.state.topology import Topology

REPLICAS = 3
"""What ``enable_cluster`` is given as ``node_count`` at least: CouchDB's default of [cluster] n.
CouchDB keeps a smaller one as n for ever (src/setup/src/setup.erl); with 1 the node would count as
configured for itself alone, and our own work would stand in the way of a scale-up."""

IDENTITY_PLACES = {"uuid": ("couchdb", "uuid"), "secret": ("chttpd_auth", "secret")}


@dataclass(frozen=True, slots=True)
class Outcome:
    """What came of a step: ``taken`` where it changed something, ``problem`` where it failed."""

    step: Step
    taken: bool
    problem: str | None = None


class NotExecutable(CouchFailure):
    """A step's node, or the one it takes values from, is not there any more."""


def execute(
    steps: Sequence[Step],
    topology: Topology,
    view: ClusterView,
    fleet: Fleet,
    databases: Sequence[str],
) -> list[Outcome]:
    """Takes steps: different nodes at once, each node's in order until one fails."""
    ordered = sorted(steps, key=lambda step: step.pod)  # stable: a node's steps keep their order
    queues = [list(queue) for _, queue in groupby(ordered, key=lambda step: step.pod)]
    executor = _Executor(topology, view, fleet, databases)
    executor.read_sources(steps)
    results = for_each(queues, executor.take_all, fleet.patience)
    outcomes = []
    for queue, result in zip(queues, results, strict=True):
        if result is None:
            fleet.forget(queue[0].pod)
            result = [Outcome(queue[0], False, "it did not end in time")]  # noqa: PLW2901
        outcomes += result
    order = {step: at for at, step in enumerate(steps)}
    return sorted(outcomes, key=lambda outcome: order[outcome.step])  # as a plan tells them


@dataclass(frozen=True, slots=True)
class _Executor:
    topology: Topology
    view: ClusterView
    fleet: Fleet
    databases: Sequence[str]
    sources: dict[str, Mapping[str, Mapping[str, str]]] = field(default_factory=dict)

    def read_sources(self, steps: Sequence[Step]) -> None:
        """Reads the configurations that values are taken from, before any thread needs them."""
        for pod in {step.to for step in steps if step.kind is StepKind.SYNC_IDENTITY and step.to}:
            with contextlib.suppress(CouchFailure):  # the step then says that they are not there
                self.sources[pod] = self._node(pod).config()

    def take_all(self, steps: Sequence[Step]) -> list[Outcome]:
        outcomes = []
        for step in steps:
            outcomes.append(self._take(step))
            if outcomes[-1].problem:
                break
        return outcomes

    def _take(self, step: Step) -> Outcome:
        try:
            self._request(step, self._node(step.pod))
        except ErrorAnswer as failure:
            if _was_so_already(step, failure):
                return Outcome(step, taken=False)
            return Outcome(step, taken=False, problem=str(failure))
        except CouchFailure as failure:
            return Outcome(step, taken=False, problem=str(failure))
        return Outcome(step, taken=True)

    def _request(self, step: Step, node: CouchNode) -> None:
        match step.kind:
            case StepKind.ENABLE_NODE:
                count = max(REPLICAS, len(self.topology.expected))
                node.enable_cluster(count, _any_address(node))
            case StepKind.ENABLE_SINGLE_NODE:
                node.enable_single_node(_any_address(node))
            case StepKind.SET_SECRET:
                node.log_in()
            case StepKind.ADD_NODE:
                node.add_member(step.name)
            case StepKind.FINISH_CLUSTER:
                node.finish_cluster(self.databases)
            case StepKind.ENSURE_DB:
                node.create_database(step.name)
            case StepKind.SYNC_IDENTITY:
                self._sync(step, node)

    def _sync(self, step: Step, node: CouchNode) -> None:
        """Copies values from one node's configuration into another's."""
        source = self.sources.get(step.to or "", {})
        user = self.fleet.access.credentials.user
        for key in step.keys:
            section, name = IDENTITY_PLACES.get(key, ("admins", user))
            value = source.get(section, {}).get(name)
            if not value:
                raise NotExecutable(f"{step.to} has no {key} any more")
            node.set_config(section, name, value)

    def _node(self, pod_name: str) -> CouchNode:
        pod, sight = self.topology.pod(pod_name), self.view.sight(pod_name)
        if pod is None or not isinstance(sight, NodeView):
            raise NotExecutable(f"{pod_name} is not there any more")
        return self.fleet.node(pod, sight.address)


def _was_so_already(step: Step, failure: ErrorAnswer) -> bool:
    """Answers that refuse a change because it is made already."""
    match step.kind:
        case StepKind.ADD_NODE:
            return failure.status == 409
        case StepKind.ENSURE_DB:
            return failure.status == 412
        case StepKind.ENABLE_NODE | StepKind.FINISH_CLUSTER:
            return failure.status == 400 and "already" in failure.reason
        case _:
            return False


def _any_address(node: CouchNode) -> str:
    return "::" if ":" in node.address.host else "0.0.0.0"  # noqa: S104 - that is the point of it
