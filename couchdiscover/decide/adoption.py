"""Adopting volumes whose nodes have other names now: what is to be done, from one look. Pure.

Each look is judged afresh. Whatever a run that was killed has left behind, the next one's first
look shows enough to go on: members that are there are not added again, maps that are right are
skipped, and the marks, which come last, tell the volumes that are not proven yet.
"""

import re
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from fnmatch import fnmatchcase
from functools import cached_property
from typing import Any

from couchdiscover.decide import refusals
from couchdiscover.decide.common import RECONNECT_SECONDS
from couchdiscover.decide.copies import Proof, security_note
from couchdiscover.decide.identity import Drift
from couchdiscover.decide.verification import (
    changed_places,
    clone_refusal,
    cloned_note,
    stranded_note,
)
from couchdiscover.decide.volumes import Evidence, Former, Survey, is_replicator
from couchdiscover.errors import CouchdiscoverError, NotSo, Unsafe, UsageProblem
from couchdiscover.state.nodes import ClusterView, LoginRefused, NodeView, Unreachable
from couchdiscover.state.reasons import (
    CopiesDiffer,
    NotConnectedTo,
    NotListing,
    OtherMaps,
    Plain,
    Reason,
    Unread,
)
from couchdiscover.state.steps import (
    AddNode,
    Decision,
    DeleteMember,
    Do,
    Done,
    KeepPlacement,
    Refuse,
    RewriteMap,
    Step,
    SyncAdopted,
    Wait,
)
from couchdiscover.state.topology import Topology
from couchdiscover.state.volumes import FileInfo, Mark, ShardFile, ShardMap

NAMED = 5
"""How many names a sentence has; the rest are counted."""

OWN_KEYS = frozenset({"_id", "_rev"})


@dataclass(frozen=True, slots=True)
class Wishes:
    """What the user asks of an adoption.

    ``told`` are former names and the pods that have their volumes. ``databases`` is a pattern of
    names. ``replications`` is what becomes of replications that would start: run, or hold.
    """

    told: Mapping[str, str] = field(default_factory=dict)
    databases: str | None = None
    replications: str | None = None

    def wants(self, database: str) -> bool:
        """Whether a database is to be adopted."""
        return self.databases is None or fnmatchcase(database, self.databases)


@dataclass(frozen=True, slots=True)
class Replications:
    """Documents that would start replications, of one database; None where it is not known."""

    count: int | None
    targets: tuple[str, ...] = ()


@dataclass(frozen=True)
class Ground:
    """One look at everything that an adoption depends on.

    ``documents`` are those of ``_nodes``, by pod and member; ``uptimes`` and ``seeds`` (the Erlang
    names of [cluster] seedlist) are by pod; all of them None where they could not be read.
    ``replications`` are by database. ``shifts`` are databases, by range, whose maps must name
    other nodes of today, since volumes changed places, or came back after the others were adopted;
    None where that could not be told.
    ``proof`` is about the copies of what has been adopted, None as long as nobody looked.
    ``came_back`` are documents that were purged and that all copies have again, by database; None
    where that cannot be told. ``securities`` are databases whose ``_security`` differs between the
    nodes that have copies, once all else is done. ``rewritten`` are databases whose maps this
    run has changed, ``synced`` those that it has had pushed since.
    """

    topology: Topology
    view: ClusterView
    survey: Survey
    documents: Mapping[str, Mapping[str, Mapping[str, Any]] | None] = field(default_factory=dict)
    uptimes: Mapping[str, float | None] = field(default_factory=dict)
    seeds: Mapping[str, frozenset[str] | None] = field(default_factory=dict)
    replications: Mapping[str, Replications] = field(default_factory=dict)
    proof: Proof | None = None
    shifts: Mapping[str, Mapping[str, tuple[str, ...]]] | None = field(default_factory=dict)
    came_back: Mapping[str, tuple[str, ...] | None] = field(default_factory=dict)
    securities: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    rewritten: frozenset[str] = frozenset()
    synced: frozenset[str] = frozenset()
    wishes: Wishes = Wishes()

    # --- whom it is about ---

    @property
    def lead(self) -> NodeView:
        """The live member with the lowest Erlang name.

        CouchDB's own resharder edits maps through it (src/mem3/src/mem3_db_doc_updater.erl): two
        editors of one map through two nodes would leave a conflict.
        """
        return min(self.view.nodes, key=lambda node: node.name)

    @cached_property
    def formers(self) -> Mapping[str, Former]:
        """Former names whose volume is here."""
        return self.survey.former

    @cached_property
    def dropped(self) -> frozenset[str]:
        """Names of the same former set whose volumes are not here: what they held has no file.

        One of another set's, by the rest of its host name, may only be down, and is left alone. A
        name by address is nobody's once it is not connected: its node has another after a restart.
        """
        kin = {_kin(name) for name in self.formers}
        members = frozenset().union(*{node.cluster_nodes for node in self.view.nodes})
        alive = self.survey.connected | self.survey.expected_names | self.formers.keys()
        nobody = self.survey.gone | (members - alive)
        return frozenset(name for name in nobody if _kin(name) in kin)

    @property
    def passed(self) -> frozenset[str]:
        """All names that are no member's any more."""
        return frozenset(self.formers) | self.dropped

    @cached_property
    def translation(self) -> Mapping[str, str]:
        """Names in maps → the Erlang names of the nodes that have their volumes now."""
        return self.survey.translation()

    @cached_property
    def unsettled(self) -> frozenset[str]:
        """Pods whose volumes have former names, a mark that is another node's, or a new map."""
        moved = {former.pod for former in self.formers.values()} | self.survey.permuted.keys()
        marks = {node.pod: self.survey.mark(node.pod) for node in self.view.nodes}
        names = {node.pod: node.name for node in self.view.nodes}
        foreign = {pod for pod, mark in marks.items() if mark and mark.node != names[pod]}
        named = {n for name in self.rewritten if name in self.maps for n in self.maps[name].names}
        touched = {pod for pod, name in names.items() if name in named}
        return frozenset(moved | foreign | touched)

    # --- databases ---

    @cached_property
    def maps(self) -> Mapping[str, ShardMap]:
        """All maps, ``_users`` first, so that logins work, and replications last."""
        maps = self.survey.all_maps or {}
        return {name: maps[name] for name in sorted(maps, key=_order)}

    @cached_property
    def apart(self) -> Mapping[ShardFile, tuple[str, ...]]:
        """Copies on volumes that are being adopted, and that the maps name, but not there.

        As of a volume that was brought back after the others were adopted without it.
        """
        places = {**self.translation, **self.survey.moved()}
        found: dict[ShardFile, list[str]] = {}
        for node in self.view.nodes if self.unsettled else ():
            for file in sorted(self.survey.volumes[node.pod].files or ()):
                shard_map = self.maps.get(file.database)
                if shard_map is None or shard_map.suffix != file.suffix:
                    continue
                holders = shard_map.by_range.get(file.range)
                if holders and node.name not in {places.get(name, name) for name in holders}:
                    found.setdefault(file, []).append(node.name)
        return {file: tuple(names) for file, names in found.items()}

    @cached_property
    def stale(self) -> tuple[str, ...]:
        """Databases whose maps have names that are another node's now, or nobody's."""
        names = self.translation.keys() | self.dropped
        return tuple(
            name
            for name, each in self.maps.items()
            if each.names & names or name in (self.shifts or {})
        )

    @cached_property
    def refused(self) -> Mapping[str, str]:
        """Stale databases that must stay as they are: a range of theirs has no file anywhere."""
        found = {}
        for name in self.stale:
            if name in (self.shifts or {}):
                continue
            lacking = [r for r, names in self._planned(self.maps[name]).items() if not names]
            if lacking:
                found[name] = lacking[0]
        return found

    @cached_property
    def held(self) -> tuple[str, ...]:
        """Stale databases of replications that are to stay as they are for now."""
        if self.wishes.replications != "hold":
            return ()
        return tuple(name for name in self.stale if self._would_start(name))

    def _would_start(self, database: str) -> bool:
        found = self.replications.get(database)
        return is_replicator(database) and (found is None or found.count != 0)

    @cached_property
    def adoptable(self) -> tuple[str, ...]:
        """Stale databases whose maps are rewritten now."""
        left = {*self.refused, *self.held}
        return tuple(n for n in self.stale if n not in left and self.wishes.wants(n))

    @cached_property
    def left_out(self) -> tuple[str, ...]:
        """Stale databases that nobody asked for."""
        return tuple(name for name in self.stale if not self.wishes.wants(name))

    def _planned(self, shard_map: ShardMap) -> Mapping[str, tuple[str, ...]]:
        here = {
            node.name: self.survey.volumes[node.pod].files or frozenset()
            for node in self.view.nodes
        }
        return new_ranges(shard_map, self.translation, here, self.dropped)

    @cached_property
    def thinner(self) -> tuple[str, ...]:
        """Databases that get fewer copies of a range than their maps name now."""
        return tuple(
            name
            for name in self.adoptable
            if name not in (self.shifts or {})
            and any(
                len(names) < len(set(self.maps[name].by_range[r]))
                for r, names in self._planned(self.maps[name]).items()
            )
        )

    @cached_property
    def settling(self) -> tuple[ShardMap, ...]:
        """The maps of databases whose copies are to be proven equal: those of unsettled volumes."""
        names = {node.name for node in self.view.nodes if node.pod in self.unsettled}
        return tuple(
            each
            for name, each in self.maps.items()
            if each.names & names and name not in self.stale
        )


# --- the map ----------------------------------------------------------------------------------


def new_ranges(
    shard_map: ShardMap,
    translation: Mapping[str, str],
    here: Mapping[str, Collection[ShardFile]],
    dropped: Collection[str],
) -> dict[str, tuple[str, ...]]:
    """Which nodes each range is to name.

    ``here`` are the nodes of ours with the files that may be named there. A name that is neither
    one of ours nor known to be nobody's stays: it is not for us to judge.
    """
    found = {}
    for range_, names in shard_map.by_range.items():
        present = dict.fromkeys(translation.get(name, name) for name in names)
        file = shard_map.file(range_)
        found[range_] = tuple(
            name
            for name in present
            if name not in dropped and (name not in here or file in here[name])
        )
    return found


def shifted_ranges(
    shard_map: ShardMap,
    moved: Mapping[str, str],
    apart: Mapping[ShardFile, Collection[str]],
    infos: Mapping[tuple[str, ShardFile], FileInfo | None],
    handed_on: Collection[tuple[ShardFile, str, str]],
) -> dict[str, tuple[str, ...]]:
    """Which nodes each range is to name after volumes changed places among nodes of today.

    ``moved`` says where a name's volume is now, ``apart`` which nodes have copies besides;
    ``infos`` are the files of all, by node's name; ``handed_on`` are copies, with a source and a
    target, that have nothing left to push. A swap looks alike both ways, since CouchDB makes
    missing named files and fills them from others. So nothing is merely exchanged: a copy that
    holds something stays named, one that is missing, or empty while another is not, gives way to
    the one that moved, and one that moved, or is there besides, and holds what it has handed on to
    nobody is named on top. Applied again it changes nothing.
    """
    found = {}
    for range_, names in shard_map.by_range.items():
        file = shard_map.file(range_)
        besides = apart.get(file, ())
        places = [name for each in names for name in (each, moved.get(each, each))]
        copies = {name: infos.get((name, file)) for name in (*places, *besides)}
        filled = {name for name, info in copies.items() if info is not None and not info.empty}
        whole = filled or {name for name, info in copies.items() if info is not None}
        chosen = dict.fromkeys(
            name
            for each in names
            for name in (each, moved.get(each, each))[: 1 if each in whole else 2]
            if name in whole
        )
        for other in (*(moved.get(each, each) for each in names), *besides):
            known = any((file, other, name) in handed_on for name in chosen)
            if other in filled and other not in chosen and not known:
                chosen[other] = None
        found[range_] = tuple(chosen) or tuple(names)
    return found


def whole_copies(
    shard_map: ShardMap,
    translation: Mapping[str, str],
    empty: Mapping[tuple[str, ShardFile], bool | None],
    ours: Collection[str],
) -> dict[str, frozenset[ShardFile]]:
    """The files of a database that its map may name, by node of ours.

    ``empty`` says of each file on each node whether it is empty; None where it is not there. One
    that is empty while another copy of the range is not is no copy: CouchDB makes a missing file by
    itself, empty, and does not refill it after a map was rewritten.
    """
    found: dict[str, set[ShardFile]] = {name: set() for name in ours}
    for range_, names in shard_map.by_range.items():
        file = shard_map.file(range_)
        present = {translation.get(name, name) for name in names} & set(ours)
        there = {name for name in present if empty.get((name, file)) is not None}
        filled = {name for name in there if empty[name, file] is False}
        for name in filled or there:
            found[name].add(file)
    return {name: frozenset(files) for name, files in found.items()}


def rewritten(
    document: Mapping[str, Any], ranges: Mapping[str, Sequence[str]]
) -> dict[str, Any] | None:
    """A map's document with other nodes; None where it names just these already.

    ``changelog``, which nobody reads, and keys of other versions are kept.
    """
    if {r: list(names) for r, names in ranges.items()} == document.get("by_range"):
        return None
    by_node: dict[str, list[str]] = {}
    for range_ in sorted(ranges):
        for name in ranges[range_]:
            by_node.setdefault(name, []).append(range_)
    kept = {
        key: value
        for key, value in document.items()
        if key not in ("_revisions", "_conflicts", "by_node", "by_range")
    }
    by_range = {range_: list(names) for range_, names in ranges.items()}
    return {**kept, "by_node": by_node, "by_range": by_range}


# --- the decision -----------------------------------------------------------------------------


def decide_adoption(ground: Ground) -> Decision:
    """What to do now. ``Done`` names the pods whose volumes are to be marked."""
    if refusal := _refusal(ground):
        return refusal
    if wait := _unknown(ground):
        return wait
    if living := _living(ground):
        return living
    if not ground.unsettled and not ground.stale and not ground.survey.untold:
        return _rolled_back(ground) or _in_doubt(ground) or Done(remarks(ground))
    if ground.stale or ground.survey.untold:
        if hindrance := _misuse(ground) or _hindrance(ground):
            return hindrance
        for stage in (_joins, _placements, _deletions, _rewrites):
            if decision := stage(ground):
                return decision
    if decision := _connection(ground):
        return decision
    return _copies(ground) or Done(remarks(ground), tuple(sorted(ground.unsettled)))


def foresee(ground: Ground) -> tuple[Step, ...]:
    """All steps that an adoption would take from here on, in their order."""
    steps: list[Step] = []
    if ground.stale:
        for do in (_joins(ground), _placements(ground)):
            steps += do.steps if do is not None else ()
        steps += [*_deleted(ground), *(RewriteMap(ground.lead.pod, n) for n in ground.adoptable)]
        if ground.adoptable:
            steps.append(SyncAdopted(ground.lead.pod, ground.adoptable))
    else:
        decision = decide_adoption(ground)
        steps += decision.steps if isinstance(decision, Do) else ()
    return tuple(steps)


def _refusal(ground: Ground) -> Refuse | None:
    """What no waiting mends."""
    view, survey = ground.view, ground.survey
    refused = [sight for sight in view if isinstance(sight, LoginRefused)]
    if refusal := (
        refusals.denied(refused)
        or refusals.too_old(view)
        or refusals.names(ground.topology, view.nodes, view.nodes)
    ):
        return refusal
    if clone := clone_refusal(survey):
        return clone
    if cloned := cloned_note(survey):
        return Refuse(NotSo, cloned)
    if survey.displacing:
        return Refuse(Unsafe, changed_places(survey))
    if survey.merged:
        return Refuse(
            Unsafe,
            f"the shard maps of {some(survey.merged)} are in conflict, as after joining two "
            "clusters: what lies in the copies of the losing revision would stay hidden; look at "
            "/_node/_local/_dbs with ?conflicts=true and settle each first",
        )
    if survey.unrelated:
        remedy = "put volumes of one cluster into this set"
        if made := survey.made_since:
            remedy = (
                f"{some(made)} {'was' if len(made) == 1 else 'were'} made on several nodes since "
                "they have these names: copy what is there, delete it through each of the nodes, "
                "and have it made again when all is adopted"
                + (f"; else {remedy}" if set(survey.unrelated) - set(made) else "")
            )
        return Refuse(
            Unsafe,
            f"these volumes are of two clusters: {some(survey.unrelated)} have shard maps that do "
            f"not come from one another, and joining would hide one side's documents; {remedy}",
        )
    return None


def _unknown(ground: Ground) -> Wait | None:
    """What must be known before anything is concluded from it."""
    silent: dict[str, Reason] = {
        sight.pod: sight.reason for sight in ground.view if isinstance(sight, Unreachable)
    }
    if silent:
        told = "; ".join(f"{pod} fails {reason}" for pod, reason in silent.items())
        return Wait(
            silent,
            at_the_end=Refuse(
                Unsafe, f"not every pod answers, and its volume may be one of those sought: {told}"
            ),
        )
    reasons: dict[str, Reason] = {
        pod: Unread(" and ".join(parts), "its node-local interface")
        for pod, parts in ground.survey.unread.items()
    }
    for node in ground.view.nodes:
        if ground.survey.volumes[node.pod].uuid is None:
            reasons.setdefault(node.pod, Unread("which volume it has", "GET /_node/_local/_dbs"))
        if ground.documents.get(node.pod) is None:
            reasons.setdefault(node.pod, Unread("its members", "GET /_node/_local/_nodes"))
        if ground.seeds.get(node.pod) is None:
            reasons.setdefault(node.pod, Unread("its seedlist", "GET /_node/_local/_config"))
    if ground.wishes.replications is None:
        unread = [name for name, each in ground.replications.items() if each.count is None]
        if unread:
            reasons.setdefault(
                "", Plain(f"to tell whether {some(unread)} would start replications")
            )
    if ground.shifts is None:
        reasons.setdefault("", Plain("to look at all copies of volumes that changed places"))
    if not reasons and ground.survey.unrelated is None:
        reasons[""] = Plain("to tell whether shard maps that differ are of one cluster")
    return Wait(reasons) if reasons else None


def _misuse(ground: Ground) -> Refuse | None:
    """What only the person who asked can settle."""
    survey, wishes = ground.survey, ground.wishes
    if survey.disagreements:
        return Refuse(
            UsageProblem,
            f"{'; '.join(survey.disagreements)}: say which is right with --from OLD=POD",
        )
    if survey.untold:
        name, pods = next(iter(survey.untold.items()))
        more = f" (and {len(survey.untold) - 1} more)" if len(survey.untold) > 1 else ""
        return Refuse(
            UsageProblem,
            f"nothing tells which volume was {name}'s{more}: it may be that of "
            f"{', '.join(pods)}; say --from {name}=POD",
        )
    if wishes.replications is None:
        starting = [name for name in ground.stale if self_starting(ground, name)]
        if starting:
            return Refuse(UsageProblem, _asks_for_replications(ground, starting))
    return None


def self_starting(ground: Ground, database: str) -> bool:
    """Whether adopting a database would start replications."""
    found = ground.replications.get(database)
    return ground.wishes.wants(database) and found is not None and bool(found.count)


def _asks_for_replications(ground: Ground, databases: Iterable[str]) -> str:
    found = {name: ground.replications[name] for name in databases}
    count = sum(each.count or 0 for each in found.values())
    targets = sorted({target for each in found.values() for target in each.targets})
    has = "has" if len(found) == 1 else "have"
    what = "replication" if count == 1 else "replications"
    return (
        f"{', '.join(found)} {has} {count} {what} that would start, to {some(targets)}: say "
        "--replications run, or --replications hold to leave them for later. A replication goes by "
        "the server's [couchdb] uuid: with the uuid that the original has they go on from the "
        "original's checkpoints, with another all begin anew"
    )


def misused_names(ground: Ground) -> str | None:
    """What is wrong with ``--from``; None where nothing is. To be asked of the first whole look."""
    pods = {pod.name for pod in ground.topology.expected}
    seen: set[str] = set()
    for name, pod in ground.wishes.told.items():
        if pod not in pods:
            return f"--from {name}={pod}: {pod} is no pod of the StatefulSet"
        if pod in seen:
            return f"--from names {pod} twice: a volume was one node's"
        seen.add(pod)
        mark = ground.survey.mark(pod)
        known = (mark.node, *mark.was) if mark is not None else ()
        if name not in ground.survey.strange and name not in known:
            return f"--from {name}={pod}: {name} is no former name: no shard map has it as one"
        former = ground.survey.former.get(name)
        if former is not None and not ground.survey.named_files(name) & (
            ground.survey.volumes[former.pod].files or frozenset()
        ):
            return f"--from {name}={pod}: no file of {name}'s is on {pod}'s volume"
        if mark is not None and mark.at and ground.survey.is_itself(pod) and name not in known:
            return f"--from {name}={pod}: by its mark the volume of {pod} is {pod}'s own"
        if contradicted := _contradicted(ground.survey, name, pod):
            return f"--from {name}={pod}: {contradicted}"
    if ground.wishes.databases is not None and not any(map(ground.wishes.wants, ground.maps)):
        return f"--database {ground.wishes.databases!r} matches no database"
    return None


def _contradicted(survey: Survey, name: str, pod: str) -> str | None:
    """What speaks against a volume that a person names: by all evidence another one was it.

    The maps would not name what that one has. Where files are all that tells, they must differ.
    """
    by_itself = Survey(survey.nodes, survey.expected, survey.others)
    known = by_itself.former.get(name)
    if known is None or known.pod == pod or by_itself.disagreements:
        return None
    there, elsewhere = (survey.volumes[each].files or frozenset() for each in (pod, known.pod))
    certain = known.by in (Evidence.MARK, Evidence.HISTORY)
    if not certain and not survey.named_files(name) & elsewhere - there:
        return None
    return f"by {known.by} that was the volume of {known.pod}, whose copies would not be named then"


def _hindrance(ground: Ground) -> Wait | Refuse | None:
    """What keeps anything from being written, for a while or for good."""
    coming = {
        pod: names & ground.passed for pod, names in ground.seeds.items() if names is not None
    }
    for pod, names in coming.items():
        if names:
            return Refuse(
                Unsafe,
                f"[cluster] seedlist of {pod} has {some(names)}, a former name: CouchDB would make "
                "it a member again at each start; take it out, and restart the pods",
            )
    listed = {node.pod: node.cluster_nodes & ground.passed for node in ground.view.nodes}
    young = {
        pod: Plain(
            f"to have been up for {RECONNECT_SECONDS:g} s: by then it would be connected to a "
            "former name that it can reach"
        )
        for pod, names in listed.items()
        if names and (ground.uptimes.get(pod) or 0.0) < RECONNECT_SECONDS
    }
    if young:
        told = "; ".join(f"{pod} has {reason}" for pod, reason in young.items())
        return _waits(
            young, Unsafe, f"a former name might still connect: {told}; try with a longer --timeout"
        )
    return None


def _living(ground: Ground) -> Wait | None:
    """A former name that is connected: its node would take part in everything that is done."""
    if not ground.survey.living:
        return None
    name, pod = next(iter(ground.survey.living.items()))
    return _waits(
        {pod: Plain(f"to lose its connection to {name}, which its volume was")},
        Unsafe,
        f"{name}, whose volume {pod} has, is alive and connected: keep the two apart (another "
        "Erlang cookie, or ports 4369 and 9100 closed between them), then try again",
    )


def _waits(reasons: Mapping[str, Reason], error: type[CouchdiscoverError], text: str) -> Wait:
    return Wait(reasons, at_the_end=Refuse(error, text))


# --- the stages -------------------------------------------------------------------------------


def _joins(ground: Ground) -> Do | None:
    """Present names into each other's ``_nodes``: through the lead first, the rest spreads."""
    nodes, lead = ground.view.nodes, ground.lead
    missing = [
        (node, other)
        for node in nodes
        for other in nodes
        if node is not other and other.name not in node.cluster_nodes
    ]
    first = [(node, other) for node, other in missing if lead in (node, other)]
    return _do(AddNode(node.pod, other.pod, other.name) for node, other in first or missing)


def _placements(ground: Ground) -> Do | None:
    """``zone``, ``decom`` and unknown keys of the former documents; a node's own values stay.

    Of the latest name that a volume had and that is still listed: also of a member that no map
    names, since it was drained.
    """
    documents = ground.documents.get(ground.lead.pod) or {}
    steps = []
    for node in sorted(ground.view.nodes, key=lambda node: node.name):
        names = _names_before(ground, node)
        former = next((name for name in names if name in documents), None)
        if former is None or node.name not in documents:
            continue
        if keys := documents[former].keys() - OWN_KEYS - documents[node.name].keys():
            steps.append(KeepPlacement(ground.lead.pod, node.name, former, tuple(sorted(keys))))
    return _do(steps)


def _names_before(ground: Ground, node: NodeView) -> list[str]:
    """The names that a node's volume had before and that nobody has now, the latest first."""
    mark = ground.survey.mark(node.pod)
    names = [former.name for former in ground.formers.values() if former.pod == node.pod]
    names += ground.survey.seen_as(node.pod)
    names += (mark.node, *mark.was) if mark is not None else ()
    passed = [name for name in dict.fromkeys(names) if name in ground.passed]
    return _latest_first(ground, node.pod, passed)


def _deletions(ground: Ground) -> Decision | None:
    """Former names out of ``_nodes``, once all are connected and have the same maps."""
    return _connection(ground) or _do(_deleted(ground))


def _deleted(ground: Ground) -> Iterable[Step]:
    lead = ground.lead
    steps = []
    for name in sorted(ground.passed - ground.survey.expected_names):
        listing = [node for node in ground.view.nodes if name in node.cluster_nodes]
        through = [node for node in listing if node is lead] or listing
        steps += [DeleteMember(node.pod, name) for node in through]
    return steps


def _connection(ground: Ground) -> Wait | None:
    """Whether all are connected to each other, and have the same maps."""
    nodes = ground.view.nodes
    unlisted: dict[str, Reason] = {
        node.pod: NotListing(other.pod)
        for node in nodes
        for other in nodes
        if other.name not in node.cluster_nodes
    }
    if unlisted:
        return Wait(unlisted)
    apart: dict[str, Reason] = {
        other.pod: NotConnectedTo(node.pod, other.unconnected_because or "")
        for node in nodes
        for other in nodes
        if other.name not in node.all_nodes
    }
    if apart:
        told = "; ".join(f"{pod} has {reason}" for pod, reason in apart.items())
        return _waits(
            apart,
            Unsafe,
            f"the pods are members and do not connect: {told}; do they have the same Erlang "
            "cookie, and are the ports of the Erlang distribution open between them?",
        )
    lead = ground.lead
    theirs = _revisions(ground, lead)
    differing: dict[str, Reason] = {}
    for node in nodes:
        mine = _revisions(ground, node)
        names = [
            name for name in sorted(mine.keys() | theirs) if mine.get(name) != theirs.get(name)
        ]
        if names:
            differing[node.pod] = OtherMaps(tuple(names[:NAMED]), lead.pod)
    return Wait(differing) if differing else None


def _revisions(ground: Ground, node: NodeView) -> dict[str, str]:
    maps = ground.survey.volumes[node.pod].maps or ()
    return {each.database: each.revision for each in maps}


def _rewrites(ground: Ground) -> Do | None:
    return _do(RewriteMap(ground.lead.pod, name) for name in ground.adoptable)


def _copies(ground: Ground) -> Decision | None:
    """Has copies pushed to each other, and waits for the proof that they are equal."""
    proof = ground.proof
    if unpushed := ground.rewritten - ground.synced:
        return _sync(ground, unpushed)
    if proof is None or proof.complete:
        return None
    due = {pair.file.database for pair in proof.open} - ground.synced
    if due:
        return _sync(ground, due)
    names = {node.name: node.pod for node in ground.view.nodes}
    reasons: dict[str, Reason] = {}
    for name, files in proof.left().items():
        pod = names.get(name, name)
        reasons[pod] = CopiesDiffer(len(files), proof.total(name), files[0].path)
    return Wait(reasons, advancing=proof.progress())


def _rolled_back(ground: Ground) -> Decision | None:
    """Copies that are an older state of themselves, under their own names, or may be.

    Purges are handed on to them once more, which does no harm where they have them already; but
    not where their fellows, which do not take a purge twice, have the documents again.
    """
    proof = ground.proof
    if proof is None:
        return None
    amiss = proof.rolled_back | proof.uneven | proof.lagging | proof.handed_on
    kept = {name for name, ids in ground.came_back.items() if ids != ()} - ground.synced
    concerned = tuple(p for p in proof.pairs if p in amiss and p.file.database not in kept)
    if not concerned:
        return None
    if due := {pair.file.database for pair in concerned} - ground.synced:
        return _sync(ground, due)
    return _copies(replace(ground, proof=replace(proof, pairs=concerned)))


def _in_doubt(ground: Ground) -> Wait | None:
    """Copies that differ, of which a second look is to tell whether that is a write on its way."""
    proof = ground.proof
    if proof is None or not proof.suspected:
        return None
    names = {pair.file.database for pair in proof.suspected}
    return Wait({"": Plain(f"to tell whether copies of {some(names)} are older than others")})


def _sync(ground: Ground, databases: Collection[str]) -> Do:
    return Do((SyncAdopted(ground.lead.pod, tuple(sorted(databases, key=_order))),))


def _do(steps: Iterable[Step]) -> Do | None:
    taken = tuple(steps)
    return Do(taken) if taken else None


# --- what is said -----------------------------------------------------------------------------


def ending(ground: Ground) -> Refuse | None:
    """What is left for a person, once everything else is done and marked."""
    left = {**ground.survey.stranded, **ground.refused}
    back = {name: ids for name, ids in ground.came_back.items() if ids}
    told = [stranded_note(left)] if left else []
    if back:
        each = "; ".join(f"of {name} {some(ids)}" for name, ids in sorted(back.items()))
        told.append(
            f"documents that were purged are there again, {each}: they came back from a copy that "
            "is an older state of itself, or were written anew; purge once more what is not wanted "
            "(POST /{db}/_purge), then `couchdiscover adopt` has that copy know of all purges"
        )
    if ground.securities:
        told.append(security_note(ground.securities))
    return Refuse(NotSo, "; ".join(told)) if told else None


def remarks(ground: Ground) -> tuple[str, ...]:
    """What is remarkable, and keeps nothing from being done."""
    notes = []
    if ground.thinner:
        notes.append(
            f"{some(ground.thinner)} have fewer copies than before, since files are missing"
        )
    if ground.held:
        notes.append(
            f"{some(ground.held)} are held: they stay under former names, and cannot be read, "
            "until `couchdiscover adopt --replications run`"
        )
    if ground.left_out:
        notes.append(f"{some(ground.left_out)} were not asked for, and stay under former names")
    proof = ground.proof
    if proof is not None and not ground.unsettled and not proof.surveyed:
        unseen, pairs = len(proof.pairs) - len(proof.seen), len(proof.pairs)
        notes.append(f"{unseen} of {pairs} pairs of shard copies could not be compared")
    if untold := [name for name, ids in ground.came_back.items() if ids is None]:
        notes.append(
            f"{some(untold)}: a copy knows of fewer purges than it was handed, and whether purged "
            "documents have come back from it nobody can tell (CouchDB lists them since 3.4)"
        )
    others = ground.survey.gone - ground.dropped
    if others and ground.stale:
        notes.append(
            f"{some(others)} are in shard maps, and neither alive nor of the set that was here; "
            "they are left as they are. If that set is restored, too, make both one cluster before "
            "either is adopted: maps that were adopted apart are in conflict when they meet"
        )
    return tuple(notes)


def uuid_remarks(ground: Ground, found: Drift, *, repair: bool) -> tuple[str, ...]:
    """By which server uuid the replications that would start go, where identities were read."""
    starting = [name for name in ground.adoptable if self_starting(ground, name)]
    nodes = [node for node in ground.view.nodes if node.identity is not None]
    if not starting or not nodes:
        return ()
    givers = {
        str(details["to"])
        for step in found.steps
        if "uuid" in (details := step.details()).get("keys", ())
    }
    uuids = {node.identity.uuid for node in nodes if node.identity is not None}
    if givers and repair:
        whose = f"that of {min(givers)}, which all nodes are given"
    elif uuids == {None}:
        whose = "a new one, since no node has any"
    elif len(uuids) == 1:
        whose = "the one that all nodes have"
    else:
        whose = "each node's own, since they differ and are left so"
    return (
        f"replications of {some(starting)} go by the server's [couchdb] uuid, {whose}: where that "
        "is the original's they go on from its checkpoints, else all begin anew",
    )


def some(names: Collection[str]) -> str:
    """The first few of many names."""
    shown = sorted(names)[:NAMED]
    more = len(names) - len(shown)
    return ", ".join(shown) + (f" and {more} more" if more else "")


# --- marks ------------------------------------------------------------------------------------


def early_marks(ground: Ground) -> Mapping[str, Mark]:
    """By pod, the marks that must be there before the first step: whose the volumes were.

    A join blurs the weaker evidence (a volume that was always alone has no history), and once the
    maps are rewritten nothing would tell an adoption that was killed before its copies were proven.
    They have no time, by which they are told from those of a node that was verified.
    """
    found = {}
    for node in ground.view.nodes:
        names = [former.name for former in ground.formers.values() if former.pod == node.pod]
        displaced = ground.survey.permuted.get(node.pod)
        names = _latest_first(ground, node.pod, names) + ([displaced] if displaced else [])
        uuid = ground.survey.volumes[node.pod].uuid
        if not names or uuid is None:
            continue
        mark = ground.survey.mark(node.pod)
        if mark is None:
            found[node.pod] = Mark(names[0], uuid, {}, was=tuple(names[1:]))
            continue
        # One that says its own name is proven to no longer, until the rest is adopted, too.
        told = names[0] if mark.node == node.name else mark.node
        was = dict.fromkeys(name for name in (*mark.was, *names) if name != told)
        if (told, tuple(was), "") != (mark.node, mark.was, mark.at):
            found[node.pod] = replace(mark, node=told, was=tuple(was), at="")
    return found


def former_names(ground: Ground) -> Mapping[str, tuple[str, ...]]:
    """By pod, the names that its volume had before, for its mark."""
    found = {}
    for node in ground.view.nodes:
        mark = ground.survey.mark(node.pod)
        before = (mark.node, *mark.was) if mark is not None else ()
        names = [former.name for former in ground.formers.values() if former.pod == node.pod]
        found[node.pod] = tuple(dict.fromkeys(n for n in (*before, *names) if n != node.name))
    return found


def marks_due(ground: Ground, pods: Iterable[str]) -> tuple[str, ...]:
    """Of some pods those whose mark does not say yet what is so."""
    was = former_names(ground)
    due = []
    for pod in pods:
        node, mark = ground.view.sight(pod), ground.survey.mark(pod)
        name = node.name if isinstance(node, NodeView) else ""
        if mark is None or mark.node != name or set(was[pod]) - set(mark.was):
            due.append(pod)
    return tuple(due)


def _latest_first(ground: Ground, pod: str, names: Sequence[str]) -> list[str]:
    order = ground.survey.seen_as(pod)
    return sorted(names, key=lambda name: order.index(name) if name in order else len(order))


def _order(database: str) -> tuple[int, str]:
    if is_replicator(database):
        return 2, database
    return (0 if database == "_users" else 1), database


def _kin(name: str) -> str:
    """What the names of one set have in common: the host name without the pod's number.

    Two StatefulSets of one Service differ in the rest of the first label. Names by address have
    nothing in common but that.
    """
    host = name.partition("@")[2]
    if host.replace(".", "").isdigit() or ":" in host:
        return "address"
    label, _, rest = host.partition(".")
    return f"{re.sub('-?[0-9]+$', '', label)}.{rest}"
