"""Steps → requests. What an answer says is noted, and the next look decides what is true."""

import contextlib
import secrets
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import groupby
from typing import Any

from couchdiscover.couch.client import CouchFailure, CouchNode, ErrorAnswer, Fleet
from couchdiscover.net.workers import for_each
from couchdiscover.state.nodes import ClusterView, NodeView
from couchdiscover.state.steps import (
    AddCopies,
    AddNode,
    AnnounceSecret,
    EnableNode,
    EnableSingleNode,
    EnsureDatabase,
    FinishCluster,
    SetSecret,
    Step,
    SyncIdentity,
    SyncShards,
)
from couchdiscover.state.topology import Topology

REPLICAS = 3
"""What ``enable_cluster`` is given as ``node_count`` at least: CouchDB's default of [cluster] n.
CouchDB keeps a smaller one as n for ever (src/setup/src/setup.erl); with 1 the node would count as
configured for itself alone, and our own work would stand in the way of a scale-up."""

SECRET_BYTES = 16
"""Of a new chttpd_auth secret, as many as CouchDB's own have (couch_httpd_auth.erl)."""

Config = Mapping[str, Mapping[str, str]]


@dataclass(frozen=True, slots=True)
class Outcome:
    """What came of a step: ``taken`` where it changed something, ``problem`` where it failed.

    ``explained`` is true where a setting or a full volume is the cause, which another try does not
    mend. A node that could not write its configuration may have changed what it has in memory all
    the same, until its next restart.
    """

    step: Step
    taken: bool
    problem: str | None = None
    explained: bool = False


class NotExecutable(CouchFailure):
    """A step's node, or the one it takes values from, is not there any more."""


def execute(
    steps: Sequence[Step],
    topology: Topology,
    view: ClusterView,
    fleet: Fleet,
    databases: Sequence[str],
) -> list[Outcome]:
    """Takes steps: different nodes at once, each node's in order until one fails.

    A node that is not done in time is given up: what stands behind in its queue is not begun.
    """
    ordered = sorted(steps, key=lambda step: step.pod)  # stable: a node's steps keep their order
    queues = [list(queue) for _, queue in groupby(ordered, key=lambda step: step.pod)]
    executor = _Executor(topology, view, fleet, databases)
    executor.read_sources(steps)
    results = for_each(queues, executor.take_all, fleet.patience)
    executor.over.set()
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
    sources: dict[str, Config] = field(default_factory=dict)
    over: threading.Event = field(default_factory=threading.Event)
    """Set when the results are gathered: a thread that was given up takes no further step."""

    def read_sources(self, steps: Sequence[Step]) -> None:
        """Reads the configurations that values are taken from, before any thread needs them."""
        for pod in {step.source for step in steps if isinstance(step, SyncIdentity)}:
            with contextlib.suppress(CouchFailure):  # the step then says that they are not there
                self.sources[pod] = self._node(pod).config()

    def take_all(self, steps: Sequence[Step]) -> list[Outcome]:
        outcomes: list[Outcome] = []
        for step in steps:
            if self.over.is_set():
                break
            outcomes.append(self._take(step))
            if outcomes[-1].problem:
                break
        return outcomes

    def _take(self, step: Step) -> Outcome:
        try:
            taken = self._request(step, self._node(step.pod))
        except ErrorAnswer as failure:
            if _was_so_already(step, failure):
                return Outcome(step, taken=False)
            problem = _explained(failure)
            return Outcome(step, taken=False, problem=problem, explained=problem != str(failure))
        except CouchFailure as failure:
            return Outcome(step, taken=False, problem=str(failure))
        return Outcome(step, taken=taken)

    def _request(self, step: Step, node: CouchNode) -> bool:
        """Sends a step's request; whether it changed anything."""
        match step:
            case EnableNode():
                count = max(REPLICAS, len(self.topology.expected))
                node.enable_cluster(count, self._any_address(node))
            case EnableSingleNode():
                node.enable_single_node(self._any_address(node))
            case SetSecret():
                node.set_config("chttpd_auth", "secret", _secret(node.config()))
            case AddNode(member=member):
                node.add_member(member)
            case FinishCluster():
                node.finish_cluster(self.databases)
            case EnsureDatabase(database=database):
                node.create_database(database)
            case SyncIdentity():
                self._sync(step, node)
            case AnnounceSecret():
                secret = node.config().get("chttpd_auth", {}).get("secret")
                if not secret:
                    raise NotExecutable(f"{step.pod} has no secret any more")
                node.set_config("chttpd_auth", "secret", secret, persist=False)
            case SyncShards(databases=databases):
                for database in databases:
                    _sync_shards(node, database)
            case AddCopies():
                return _add_copies(node, step)
            case _:
                raise NotExecutable(f"{step.kind} is no step of this command")
        return True

    def _sync(self, step: SyncIdentity, node: CouchNode) -> None:
        """Copies values from one node's configuration into another's."""
        source = self.sources.get(step.source, {})
        user = self.fleet.access.credentials.user
        for key in step.keys:
            section, name = _place(key, user)
            value = source.get(section, {}).get(name)
            if not value and key == "secret":
                value = source.get("couch_httpd_auth", {}).get("secret")
            if not value:
                raise NotExecutable(f"{step.source} has no {key} any more")
            node.set_config(section, name, value)

    def _node(self, pod_name: str) -> CouchNode:
        pod, sight = self.topology.pod(pod_name), self.view.sight(pod_name)
        if pod is None or not isinstance(sight, NodeView):
            raise NotExecutable(f"{pod_name} is not there any more")
        return self.fleet.node(pod, sight.address)

    def _any_address(self, node: CouchNode) -> str:
        """What a node is bound to: every address of the family that its peers reach it by."""
        if self.topology.ipv6_only or ":" in node.address.host:
            return "::"
        return "0.0.0.0"  # noqa: S104 - that is the point of it


def _place(key: str, user: str) -> tuple[str, str]:
    """Section and key of CouchDB's configuration."""
    kind, _, name = key.partition("/")
    match kind:
        case "uuid":
            return "couchdb", "uuid"
        case "secret":
            return "chttpd_auth", "secret"
        case _:
            return "admins", name or user


def _secret(config: Config) -> str:
    """The secret that CouchDB goes by already, from the section of 3.1 and before, else a new one.

    ``POST /_session`` sets none where the old section has one (couch_httpd_auth.erl).
    """
    for section in ("chttpd_auth", "couch_httpd_auth"):
        if value := config.get(section, {}).get("secret"):
            return value
    return secrets.token_hex(SECRET_BYTES)


def _sync_shards(node: CouchNode, database: str) -> None:
    """Has a database's copies filled; one that was deleted meanwhile has none."""
    try:
        node.sync_shards(database)
    except ErrorAnswer as failure:
        if failure.status != 404:
            raise


def _add_copies(node: CouchNode, step: AddCopies) -> bool:
    """Adds nodes to a map, by its revision, and has the copies filled with what there is."""
    document: dict[str, Any] = node.map_document(step.database)
    by_range = {str(r): list(names) for r, names in document.get("by_range", {}).items()}
    by_node = {str(n): list(ranges) for n, ranges in document.get("by_node", {}).items()}
    added = []
    for name in step.nodes:
        for each in sorted(by_range):
            if name not in by_range[each]:
                by_range[each].append(name)
                by_node.setdefault(name, []).append(each)
                added.append(["add", each, name])
    if not added or document.get("_conflicts"):
        return False
    kept = {k: v for k, v in document.items() if not k.startswith("_rev") or k == "_rev"}
    changelog = [*document.get("changelog", []), *added]
    node.put_map(
        step.database, {**kept, "by_range": by_range, "by_node": by_node, "changelog": changelog}
    )
    with contextlib.suppress(CouchFailure):  # a copy that stays behind is found by the next look
        node.sync_shards(step.database)
    return True


def _explained(failure: ErrorAnswer) -> str:
    """A failed step's answer, with the cause that CouchDB only hints at."""
    text = str(failure)
    if "eacces" in text or "eperm" in text or "erofs" in text:
        return (
            f"{text} (CouchDB may not write its configuration: its ini files are read-only, as "
            "mounted from a ConfigMap; give it a writable etc/local.d)"
        )
    if "no_nodes_in_zone" in text:
        return (
            f"{text} ([cluster] placement names a zone that no node is in: give the nodes one, by "
            "COUCHDB_ZONE since 3.5.1 or `zone` in their documents in /_node/_local/_nodes, or "
            "correct that setting)"
        )
    if "enospc" in text:
        return f"{text} (the node's volume is full: no space is left on it)"
    return text


def _was_so_already(step: Step, failure: ErrorAnswer) -> bool:
    """Answers that refuse a change because it is made already."""
    match step:
        case AddNode():
            return failure.status == 409
        case EnsureDatabase():
            return failure.status == 412
        case EnableNode() | FinishCluster():
            return failure.status == 400 and "already" in failure.reason
        case _:
            return False
