"""What an adoption reads of the nodes, and its steps as requests. Each write looks right before."""

import re
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import chain, islice
from typing import Any, TypeVar

from couchdiscover.couch.client import (
    CouchFailure,
    CouchNode,
    ErrorAnswer,
    Fleet,
    plain,
    shard_map_of,
)
from couchdiscover.couch.copies import Nodes, differing_security, read_files, read_pairs
from couchdiscover.couch.executor import Outcome
from couchdiscover.couch.volumes import Part, read_histories, read_infos, read_volume
from couchdiscover.decide.adoption import (
    OWN_KEYS,
)
from couchdiscover.decide.copies import (
    LOOK_REQUESTS,
    Pair,
    Proof,
    purge_checkpoint_name,
    pushed,
)
from couchdiscover.decide.ground import (
    Ground,
    Replications,
)
from couchdiscover.decide.shard_maps import (
    new_ranges,
    rewritten,
    shifted_ranges,
    whole_copies,
)
from couchdiscover.net.workers import for_each
from couchdiscover.state.nodes import ClusterView, NodeView
from couchdiscover.state.steps import (
    AddNode,
    DeleteMember,
    KeepPlacement,
    RewriteMap,
    Step,
    SyncAdopted,
)
from couchdiscover.state.topology import Topology
from couchdiscover.state.volumes import FileInfo, Mark, ShardFile, ShardMap, Volume

PAGE_DOCUMENTS = 200
"""Documents of a file in one answer, where all are looked at: which replications would start."""

BATCH = 16
"""Maps whose files are looked at together, right before the first of them is written."""

READ_SECONDS = 60.0
"""Seconds for reading one node's files and maps, at least: a thousand databases are 4 pages."""

ELSEWHERE = FileInfo("", 1, 0, 1)
"""What stands for a copy on a node that is no pod of ours: it is not for us to judge."""

PARTS = Part.FILES | Part.HISTORY | Part.UUID | Part.MAPS

Histories = dict[tuple[str, str], tuple[str, ...]]
"""The revisions before one of a database's map: the same on every node that has it."""

Answer = TypeVar("Answer")
Say = Callable[[Outcome], None]


@dataclass(frozen=True, slots=True)
class Facts:
    """What is read of a node beside its volume; None where it could not be."""

    documents: Mapping[str, Mapping[str, Any]] | None = None
    uptime: float | None = None
    seeds: frozenset[str] | None = None


class StaleError(CouchFailure):
    """What was seen right before a write is not what the step was decided on."""


@dataclass(slots=True)
class Reader:
    """Asks all nodes for what an adoption depends on."""

    topology: Topology
    fleet: Fleet

    def volumes(self, view: ClusterView) -> ClusterView:
        """The same look, with each node's volume read anew."""
        return self._each(
            view, lambda c, n: replace(n, volume=read_volume(c, PARTS, Volume())), replace_none=True
        )

    def histories(
        self, view: ClusterView, databases: Sequence[str], known: Histories
    ) -> ClusterView:
        """The same look, with the revisions of some databases' maps, bounded by their number.

        What was read in an earlier look is ``known``, and what is read now joins it.
        """

        def told(node: NodeView) -> NodeView:
            volume = node.volume or Volume()
            maps = volume.maps and tuple(
                replace(each, history=known.get((each.database, each.revision), ()))
                for each in volume.maps
            )
            return replace(node, volume=replace(volume, maps=maps))

        view = view.seen_anew({node.pod: told(node) for node in view.nodes})
        maps = [each for node in view.nodes if node.volume for each in node.volume.maps or ()]
        missing = {each.database for each in maps if not each.history}
        unknown = [name for name in databases if name in missing]
        wanted = frozenset(unknown[: LOOK_REQUESTS // max(1, len(view.nodes))])
        view = self._each(
            view, lambda c, n: replace(n, volume=read_histories(c, n.volume or Volume(), wanted))
        )
        maps = [each for node in view.nodes if node.volume for each in node.volume.maps or ()]
        known |= {(each.database, each.revision): each.history for each in maps if each.history}
        return view

    def suspects(
        self, view: ClusterView, files: Mapping[str, Collection[ShardFile]]
    ) -> ClusterView:
        """The same look, with what some files hold, by pod."""

        def ask(client: CouchNode, node: NodeView) -> NodeView:
            infos = read_infos(client, files.get(node.pod, ()))
            there = {file: info for file, info in infos.items() if info is not None}
            return replace(node, volume=replace(node.volume or Volume(), infos=there))

        return self._each(view, ask)

    def shifts(self, ground: Ground) -> dict[str, dict[str, tuple[str, ...]]] | None:
        """The databases whose maps must name other nodes, since volumes changed places.

        None where some copy could not be looked at.
        """
        moved, apart = ground.survey.moved(), ground.apart
        nodes = self._nodes(ground.view)
        suspects = ground.survey.suspects.values() if moved else ()
        concerned = {file.database for file in (*apart, *chain.from_iterable(suspects))}
        found = {}
        for name, shard_map in ground.maps.items():
            if name in concerned and not shard_map.names & ground.passed:
                try:
                    ranges = _shifted(shard_map, moved, apart, nodes)
                except StaleError:
                    return None
                if ranges is not None:
                    found[name] = ranges
        return found

    def facts(self, view: ClusterView) -> dict[str, Facts]:
        """Members' documents, uptime and seedlist, by pod."""
        answers = self._ask(view.nodes, lambda client, _: _facts(client))
        return {pod: answer or Facts() for pod, answer in answers.items()}

    def unexpected(self, view: ClusterView, names: Iterable[str]) -> dict[str, Volume]:
        """Which volumes connected nodes have that are no pods of ours, as far as they tell."""
        nodes = view.nodes[:1]
        found: dict[str, Volume] = {}

        def ask(client: CouchNode, _: NodeView) -> dict[str, Volume]:
            for name in sorted(names):
                try:
                    found[name] = Volume(uuid=client.dbs_info(name).uuid)
                except CouchFailure:
                    found[name] = Volume()
            return found

        self._ask(nodes, ask)
        return found

    def replications(self, view: ClusterView, shard_map: ShardMap) -> Replications:
        """The documents of a database, in files of all nodes, that would start replications."""
        answers = self._ask(view.nodes, lambda c, n: _starting(c, n, shard_map))
        if any(answer is None for answer in answers.values()):
            return Replications(None)
        merged: dict[str, str] = {}
        for answer in answers.values():
            merged |= answer or {}
        targets = tuple(sorted({target for target in merged.values() if target}))
        return Replications(len(merged), targets)

    def came_back(self, ground: Ground) -> dict[str, tuple[str, ...] | None]:
        """By database with a copy that is an older state of itself, documents that were purged and
        that its fellows have again, by their ids.

        They do not take the same purge twice, so that handing it on would make copies differ. None
        where it cannot be told: CouchDB lists what was purged since 3.4; before, a copy that holds
        more than its fellow tells that it alone has them.
        """
        proof = ground.proof
        if proof is None or ground.unsettled:
            return {}
        pairs: dict[str, list[Pair]] = {}
        for pair in sorted(proof.rolled_back | proof.uneven | proof.lagging):
            pairs.setdefault(pair.file.database, []).append(pair)
        nodes = self._nodes(ground.view)
        lead = nodes.clients.get(ground.lead.name)
        return {name: _came_back(name, each, proof, nodes, lead) for name, each in pairs.items()}

    def securities(self, view: ClusterView, maps: Iterable[ShardMap]) -> dict[str, tuple[str, ...]]:
        """Databases whose ``_security`` is not the same on all nodes."""
        return differing_security(maps, self._nodes(view))

    def _nodes(self, view: ClusterView) -> Nodes:
        clients = {
            node.name: self.fleet.node(pod, node.address)
            for node in view.nodes
            if (pod := self.topology.pod(node.pod)) is not None
        }
        return Nodes(clients, self.fleet.patience)

    def _ask(
        self, nodes: Sequence[NodeView], question: Callable[[CouchNode, NodeView], Answer | None]
    ) -> dict[str, Answer | None]:
        def ask(node: NodeView) -> Answer | None:
            pod = self.topology.pod(node.pod)
            try:
                return question(self.fleet.node(pod, node.address), node) if pod else None
            except CouchFailure:
                return None

        answers = for_each(nodes, ask, max(READ_SECONDS, self.fleet.patience))
        return {node.pod: answer for node, answer in zip(nodes, answers, strict=True)}

    def _each(
        self,
        view: ClusterView,
        question: Callable[[CouchNode, NodeView], NodeView],
        *,
        replace_none: bool = False,
    ) -> ClusterView:
        answers = self._ask(view.nodes, question)
        unknown = {
            node.pod: replace(node, volume=Volume()) if replace_none else node
            for node in view.nodes
        }
        known = {pod: answer or unknown[pod] for pod, answer in answers.items()}
        return replace(view, sights=tuple(known.get(sight.pod, sight) for sight in view.sights))


def _shifted(
    shard_map: ShardMap,
    moved: Mapping[str, str],
    apart: Mapping[ShardFile, Collection[str]],
    nodes: Nodes,
) -> dict[str, tuple[str, ...]] | None:
    """Which nodes a map is to name where copies are elsewhere, too; None where it is right.

    Raises StaleError where a copy could not be looked at.
    """
    ours = nodes.clients.keys()
    places = {
        file: {n for each in names for n in (each, moved.get(each, each), *apart.get(file, ()))}
        & ours
        for range_, names in shard_map.by_range.items()
        if (file := shard_map.file(range_))
    }
    wanted = [(name, file) for file, names in places.items() for name in sorted(names)]
    infos = read_files(nodes, wanted)
    if missing := [name for name, file in wanted if (name, file) not in infos]:
        raise StaleError(f"the files of {missing[0]} could not be looked at")
    pairs = [
        Pair(file, source, target)
        for file, names in places.items()
        for source in names
        for target in names
        if source != target
    ]
    readings = read_pairs(pairs, nodes)
    done = {(r.pair.file, r.pair.source, r.pair.target) for r in readings if pushed(r)}
    elsewhere: dict[tuple[str, ShardFile], FileInfo | None] = {
        (name, shard_map.file(range_)): ELSEWHERE
        for range_, names in shard_map.by_range.items()
        for name in names
        if name not in ours
    }
    ranges = shifted_ranges(shard_map, moved, apart, {**elsewhere, **infos}, done)
    now = shard_map.by_range
    if ranges == dict(now) or (not moved and all(set(ranges[r]) <= set(now[r]) for r in now)):
        return None  # an empty copy is being filled, and no volume that moved is the reason
    return ranges


def _came_back(
    database: str, pairs: Sequence[Pair], proof: Proof, nodes: Nodes, lead: CouchNode | None
) -> tuple[str, ...] | None:
    """Of one database, see ``Reader.came_back``."""
    try:
        purged = lead.purged(database) if lead is not None else None
    except CouchFailure:
        purged = None
    if purged is None:
        return () if proof.surplus & frozenset(pairs) else None
    older = {pair for pair in pairs if pair in proof.lagging | proof.rolled_back}
    theirs = {(pair.target, pair.file) for pair in older}
    copies = {(pair.source, pair.file) for pair in older or pairs} - theirs if purged else set()
    lacking = nodes.ask(sorted(copies), lambda client, file: client.file_lacks(file, purged))
    if lacking.keys() != copies:
        return None
    there = {
        name
        for missing in lacking.values()
        for name, revisions in purged.items()
        if set(revisions) - set(missing.get(name, ()))
    }
    return tuple(sorted(plain(name, 80) for name in there))


def _facts(client: CouchNode) -> Facts:
    documents = uptime = seeds = None
    try:
        documents = client.node_documents()
        uptime = client.uptime()
        seedlist = client.config().get("cluster", {}).get("seedlist", "")
        seeds = frozenset(re.findall(r"[^\s,]+", seedlist))
    except CouchFailure:
        pass  # what is missing is waited for
    return Facts(documents, uptime, seeds)


def _starting(client: CouchNode, node: NodeView, shard_map: ShardMap) -> dict[str, str]:
    """Replications in a node's files of a database: targets by document id."""
    files = (node.volume.files if node.volume else None) or frozenset()
    found = {}
    for range_ in sorted(shard_map.by_range):
        file = shard_map.file(range_)
        if file not in files:
            continue
        for document in client.file_documents(file, PAGE_DOCUMENTS):
            over = document.get("_replication_state") in ("completed", "failed")
            if "source" in document and "target" in document and not over:
                found[str(document.get("_id", ""))] = without_login(document["target"])
    return found


def without_login(target: object) -> str:
    """Where a replication goes to, as far as it can be shown: neither user nor password."""
    if isinstance(target, dict):
        target = target.get("url", "")
    text = plain(target, 2_000)
    # A password may hold what ends a host name elsewhere: whatever is before the last @ goes.
    scheme = next((each for each in ("https://", "http://") if text.startswith(each)), "")
    rest = text.rpartition("@")[2] if "@" in text else text.removeprefix(scheme)
    return (scheme + rest.partition("?")[0].partition("#")[0])[:200]


# --- writing ----------------------------------------------------------------------------------


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
                ranges = _shifted(shard_map, moved, ground.apart, self._nodes())
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
                    checkpoints = clients[source].checkpoints(file)
                    for target in names:
                        other = infos.get((target, file))
                        if other is None or target == source:
                            continue
                        name = purge_checkpoint_name(info.uuid, other.uuid)
                        if name in checkpoints:
                            revision = checkpoints[name].revision
                            clients[source].delete_local(file, name, revision)

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
