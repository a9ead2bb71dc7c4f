"""An adoption's steps as requests. Each write looks right before."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import islice
from typing import Any

from couchdiscover.couch.client import (
    CouchFailure,
    CouchNode,
    ErrorAnswer,
    Fleet,
    shard_map_of,
)
from couchdiscover.couch.copies import Nodes, read_files
from couchdiscover.couch.executor import Outcome
from couchdiscover.couch.ground import StaleError, shifted
from couchdiscover.decide.adoption import OWN_KEYS
from couchdiscover.decide.copies import purge_checkpoint_names
from couchdiscover.decide.ground import Ground
from couchdiscover.decide.shard_maps import (
    new_ranges,
    rewritten,
    whole_copies,
)
from couchdiscover.net.workers import for_each
from couchdiscover.state.nodes import NodeView
from couchdiscover.state.steps import (
    AddNode,
    DeleteMember,
    KeepPlacement,
    RewriteMap,
    Step,
    SyncAdopted,
)
from couchdiscover.state.volumes import FileInfo, Mark, ShardFile, ShardMap

BATCH = 16
"""Maps whose files are looked at together, right before the first of them is written."""

Say = Callable[[Outcome], None]


@dataclass(slots=True)
class Tally:
    """What has been adopted so far."""

    databases: set[str] = field(default_factory=set)
    ranges: int = 0
    documents: int = 0


@dataclass(slots=True)
class Adopter:
    """Takes an adoption's steps. ``say`` is told of each as it has been taken, or has failed."""

    ground: Ground
    fleet: Fleet
    tally: Tally
    say: Say

    def take(self, steps: Sequence[Step]) -> list[Outcome]:
        """Takes steps in their order, until one fails; joins go to all nodes at once."""
        outcomes: list[Outcome] = []
        joins = [step for step in steps if isinstance(step, AddNode)]
        maps = [step for step in steps if isinstance(step, RewriteMap)]
        if joins:
            outcomes += self._join(joins)
        if maps and all(outcome.problem is None for outcome in outcomes):
            outcomes += self._rewrite_all(maps)
        for step in steps:
            if any(outcome.problem for outcome in outcomes):
                break
            if step not in joins and step not in maps:
                outcomes.append(self._said(self._take(step)))
        return outcomes

    def mark(self, marks: Mapping[str, Mark]) -> list[str]:
        """Leaves marks; returns what failed, in sentences."""
        problems = []
        for pod, mark in sorted(marks.items()):
            try:
                self._client(pod).put_mark(mark)
            except CouchFailure as failure:
                problems.append(f"the volume of {pod} could not be marked: {failure}")
        return problems

    def _said(self, outcome: Outcome) -> Outcome:
        self.say(outcome)
        return outcome

    def _take(self, step: Step) -> Outcome:
        try:
            match step:
                case AddNode(pod=pod, member=member):
                    self._client(pod).add_member(member)
                case KeepPlacement():
                    return Outcome(step, self._keep_placement(step))
                case DeleteMember():
                    return Outcome(step, self._delete(step))
                case SyncAdopted():
                    self._sync(step)
                case _:
                    return Outcome(step, taken=False, problem="it is no step of an adoption")
        except ErrorAnswer as failure:
            if isinstance(step, AddNode) and failure.status == 409:
                return Outcome(step, taken=False)
            return Outcome(step, taken=False, problem=str(failure))
        except CouchFailure as failure:
            return Outcome(step, taken=False, problem=str(failure))
        return Outcome(step, taken=True)

    def _join(self, steps: Sequence[AddNode]) -> list[Outcome]:
        """Different nodes at once, each node's steps in order."""
        queues: dict[str, list[AddNode]] = {}
        for step in steps:
            queues.setdefault(step.pod, []).append(step)
        pods = list(queues)
        results = for_each(
            pods, lambda pod: [self._take(step) for step in queues[pod]], self.fleet.patience
        )
        outcomes = []
        for pod, result in zip(pods, results, strict=True):
            if result is None:
                self.fleet.forget(pod)
                result = [Outcome(queues[pod][0], False, "it did not end in time")]  # noqa: PLW2901
            outcomes += [self._said(outcome) for outcome in result]
        return outcomes

    def _keep_placement(self, step: KeepPlacement) -> bool:
        client = self._client(step.pod)
        documents = client.node_documents()
        former, present = documents.get(step.former, {}), documents.get(step.member)
        if present is None:
            raise StaleError(f"{step.member} is no member there any more")
        new = {k: v for k, v in former.items() if k not in OWN_KEYS and k not in present}
        if not new:
            return False
        client.add_member(step.member, {**present, **new})
        return True

    def _delete(self, step: DeleteMember) -> bool:
        """Deletes a former name's document; 404 and 409 are a deletion that came first."""
        if step.member in self.ground.survey.expected_names:
            raise StaleError(f"{step.member} is a present name")
        self._look_for_formers(self.ground.view.nodes)
        client = self._client(step.pod)
        document = client.node_documents().get(step.member)
        if document is None:
            return False
        try:
            client.delete_member(step.member, str(document.get("_rev", "")))
        except ErrorAnswer as failure:
            if failure.status in (404, 409):
                return False
            raise
        return True

    def _look_for_formers(self, nodes: Iterable[NodeView]) -> None:
        """Raises StaleError where a former name is connected by now."""
        for node in nodes:
            connected, _ = self._client(node.pod).membership()
            if found := connected & self.ground.passed:
                raise StaleError(f"{min(found)}, a former name, is connected to {node.pod} by now")

    # --- maps ---

    def _rewrite_all(self, steps: Sequence[RewriteMap]) -> list[Outcome]:
        outcomes: list[Outcome] = []
        waiting = iter(steps)
        while batch := list(islice(waiting, BATCH)):
            try:
                self._look_for_formers(self.ground.view.nodes)
                documents = {step: self._map_of(step) for step in batch}
                maps = [shard_map_of(str(d.get("_id", "")), d) for d in documents.values() if d]
                infos = self._infos(maps)
                # A write may push an older copy's documents as soon as a map has its name.
                self._forget_purges(maps, infos)
            except CouchFailure as failure:
                outcomes.append(self._said(Outcome(batch[0], False, str(failure))))
                return outcomes
            for step, document in documents.items():
                outcomes.append(self._said(self._rewrite(step, document, infos)))
                if outcomes[-1].problem:
                    return outcomes
        return outcomes

    def _map_of(self, step: RewriteMap) -> dict[str, Any] | None:
        """A map's document as it is now; None where the database is gone."""
        try:
            return self._client(step.pod).map_document(step.database)
        except ErrorAnswer as failure:
            if failure.status == 404:
                return None
            raise

    def _infos(self, maps: Iterable[ShardMap]) -> dict[tuple[str, ShardFile], FileInfo | None]:
        """What the files hold that the maps may name, on each node of ours.

        Raises StaleError where one could not be looked at: a purge that is not handed on anew comes
        back through that copy, for good, and what is empty there must not be named.
        """
        wanted = [
            (name, file)
            for shard_map in maps
            for file, names in self._places(shard_map).items()
            for name in names
        ]
        infos = read_files(self._nodes(), wanted)
        if missing := [name for name, file in wanted if (name, file) not in infos]:
            raise StaleError(f"the files of {missing[0]} could not be looked at")
        return infos

    def _rewrite(
        self,
        step: RewriteMap,
        document: dict[str, Any] | None,
        infos: Mapping[tuple[str, ShardFile], FileInfo | None],
    ) -> Outcome:
        if document is None:
            return Outcome(step, taken=False)
        if document.get("_conflicts"):
            return Outcome(step, taken=False, problem="its shard map is in conflict by now")
        ground = self.ground
        shard_map = shard_map_of(str(document.get("_id", "")), document)
        ours = [node.name for node in ground.view.nodes]
        ranges: dict[str, tuple[str, ...]] | None
        if step.database in (ground.shifts or {}):
            try:
                moved = ground.survey.moved()
                ranges = shifted(shard_map, moved, ground.apart, self._nodes())
            except CouchFailure as failure:
                return Outcome(step, taken=False, problem=str(failure))
            if ranges is None:
                return Outcome(step, taken=False)
        else:
            empty = {key: info.empty if info else None for key, info in infos.items()}
            whole = whole_copies(shard_map, ground.translation, empty, ours)
            ranges = new_ranges(shard_map, ground.translation, whole, ground.dropped)
        if lacking := [range_ for range_, names in ranges.items() if not names]:
            return Outcome(step, False, f"no node has a file of its range {lacking[0]} by now")
        try:
            # One node is asked before each map, and all of them before each batch.
            self._look_for_formers([ground.lead])
            new = rewritten(document, ranges)
            if new is not None:
                self._client(step.pod).put_map(step.database, new)
        except CouchFailure as failure:
            return Outcome(step, taken=False, problem=str(failure))
        self._count(shard_map, ranges, infos)
        return Outcome(step, taken=new is not None)

    def _count(
        self,
        shard_map: ShardMap,
        ranges: Mapping[str, Sequence[str]],
        infos: Mapping[tuple[str, ShardFile], FileInfo | None],
    ) -> None:
        self.tally.databases.add(shard_map.database)
        self.tally.ranges += len(ranges)
        for range_, names in ranges.items():
            held = [infos.get((name, shard_map.file(range_))) for name in names]
            self.tally.documents += max((info.documents for info in held if info), default=0)

    # --- copies ---

    def _sync(self, step: SyncAdopted) -> None:
        """Has purges handed on anew, then has each database's copies pushed to each other.

        Of a copy that is an older state of itself its peers remember that it had their purges
        already: what was purged would come back through it, for good.
        """
        client = self._client(step.pod)
        waiting = iter(step.databases)
        while batch := list(islice(waiting, BATCH)):
            maps = [self.ground.maps[name] for name in batch if name in self.ground.maps]
            self._forget_purges(maps, self._infos(maps))
            for database in batch:
                try:
                    client.sync_shards(database)
                except ErrorAnswer as failure:
                    if failure.status != 404:
                        raise

    def _forget_purges(
        self,
        maps: Iterable[ShardMap],
        infos: Mapping[tuple[str, ShardFile], FileInfo | None],
    ) -> None:
        """Has each copy forget to have handed its purges to the others on nodes of ours."""
        clients = self._nodes().clients
        for shard_map in maps:
            for file, names in self._places(shard_map).items():
                for source in names:
                    info = infos.get((source, file))
                    if info is None or info.purge_seq == 0:
                        continue
                    others = [infos.get((name, file)) for name in names if name != source]
                    notes = {
                        note
                        for other in others
                        if other is not None
                        for note in purge_checkpoint_names(info.uuid, other.uuid)
                    }
                    checkpoints = clients[source].checkpoints(file)
                    for note in sorted(notes & checkpoints.keys()):
                        clients[source].delete_local(file, note, checkpoints[note].revision)

    def _places(self, shard_map: ShardMap) -> dict[ShardFile, list[str]]:
        """By file of a map, the nodes of ours that have it, or may: as they are called now."""
        places = {**self.ground.translation, **self.ground.survey.moved()}
        ours = {node.name for node in self.ground.view.nodes}
        return {
            file: sorted(
                {now for name in names for now in (name, places.get(name, name))} & ours
                | set(self.ground.apart.get(file, ()))
            )
            for range_, names in shard_map.by_range.items()
            if (file := shard_map.file(range_))
        }

    def _nodes(self) -> Nodes:
        clients = {node.name: self._client(node.pod) for node in self.ground.view.nodes}
        return Nodes(clients, self.fleet.patience)

    def _client(self, pod_name: str) -> CouchNode:
        pod, sight = self.ground.topology.pod(pod_name), self.ground.view.sight(pod_name)
        if pod is None or not isinstance(sight, NodeView):
            raise StaleError(f"{pod_name} is not there any more")
        return self.fleet.node(pod, sight.address)
