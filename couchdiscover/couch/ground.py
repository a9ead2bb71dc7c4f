"""What an adoption reads of the nodes beside what every command looks at."""

import re
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import chain
from typing import Any, TypeVar

from couchdiscover.couch.client import (
    CouchFailure,
    CouchNode,
    Fleet,
    plain,
)
from couchdiscover.couch.copies import Nodes, differing_security, read_files, read_pairs
from couchdiscover.couch.volumes import Part, read_histories, read_infos, read_volume
from couchdiscover.decide.copies import (
    LISTS_PURGES,
    LOOK_REQUESTS,
    Pair,
    Proof,
    pushed,
)
from couchdiscover.decide.ground import (
    Ground,
    Replications,
)
from couchdiscover.decide.shard_maps import shifted_ranges
from couchdiscover.net.workers import for_each
from couchdiscover.state.nodes import ClusterView, NodeView
from couchdiscover.state.topology import Topology
from couchdiscover.state.volumes import FileInfo, ShardFile, ShardMap, Volume

PAGE_DOCUMENTS = 200
"""Documents of a file in one answer, where all are looked at: which replications would start."""

READ_SECONDS = 60.0
"""Seconds for reading one node's files and maps, at least: a thousand databases are 4 pages."""

ELSEWHERE = FileInfo("", 1, 0, 1)
"""What stands for a copy on a node that is no pod of ours: it is not for us to judge."""

PARTS = Part.FILES | Part.HISTORY | Part.UUID | Part.MAPS

Histories = dict[tuple[str, str], tuple[str, ...]]
"""The revisions before one of a database's map: the same on every node that has it."""

Answer = TypeVar("Answer")


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
                    ranges = shifted(shard_map, moved, apart, nodes)
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

    def came_back(self, ground: Ground) -> dict[str, tuple[str, ...] | None] | None:
        """By database with a copy that is an older state of itself, documents that were purged and
        that its fellows have again, by their ids.

        They do not take the same purge twice, so that handing it on would make copies differ. None
        for a database where it cannot be told: CouchDB lists what was purged since 3.4; before, a
        copy that holds more than its fellow tells that it alone has them. None for all where a
        question was not answered.
        """
        proof = ground.proof
        if proof is None or ground.unsettled:
            return {}
        pairs: dict[str, list[Pair]] = {}
        for pair in sorted(proof.rolled_back | proof.uneven | proof.lagging):
            if pair.file.database in ground.maps:
                pairs.setdefault(pair.file.database, []).append(pair)
        nodes = self._nodes(ground.view)
        listed = ground.lead.release >= LISTS_PURGES
        lead = nodes.clients[ground.lead.name] if listed else None
        try:
            return {
                name: _came_back(name, each, proof, nodes, lead) for name, each in pairs.items()
            }
        except CouchFailure:
            return None

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


def shifted(
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
    """Of one database, see ``Reader.came_back``; ``lead`` is None where purges are not listed.

    Raises CouchFailure where a question was not answered.
    """
    if lead is None:
        return () if proof.surplus & frozenset(pairs) else None
    purged = lead.purged(database)
    older = {pair for pair in pairs if pair in proof.lagging | proof.rolled_back}
    theirs = {(pair.target, pair.file) for pair in older} | proof.knowing_less(pairs)
    copies = {(pair.source, pair.file) for pair in older or pairs} - theirs if purged else set()
    lacking = nodes.ask(sorted(copies), lambda client, file: client.file_lacks(file, purged))
    if lacking.keys() != copies:
        raise StaleError(f"not every copy of {database} could be asked what it lacks")
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
