"""Adopting volumes whose nodes have other names now: what is to be done, from one look. Pure.

Each look is judged afresh. Whatever a run that was killed has left behind, the next one's first
look shows enough to go on: members that are there are not added again, maps that are right are
skipped, and the marks, which come last, tell the volumes that are not proven yet.
"""

from collections.abc import Collection, Iterable, Mapping
from dataclasses import replace

from couchdiscover.decide import refusals
from couchdiscover.decide.adoption_marks import latest_first
from couchdiscover.decide.common import RECONNECT_SECONDS
from couchdiscover.decide.copies import security_note
from couchdiscover.decide.ground import Ground, adoption_order
from couchdiscover.decide.identity import Drift
from couchdiscover.decide.merging import NAMED, some
from couchdiscover.decide.verification import (
    changed_places,
    clone_refusal,
    cloned_note,
    stranded_note,
)
from couchdiscover.decide.volumes import Evidence, Survey
from couchdiscover.errors import CouchdiscoverError, NotSo, Unsafe, UsageProblem
from couchdiscover.state.nodes import LoginRefused, NodeView, Unreachable
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

OWN_KEYS = frozenset({"_id", "_rev"})


def decide_adoption(ground: Ground) -> Decision:
    """What to do now. ``Done`` names the pods whose volumes are to be marked."""
    if refusal := _refusal(ground):
        return refusal
    if wait := _unknown(ground):
        return wait
    if living := _living(ground):
        return living
    if not ground.unsettled and not ground.stale and not ground.survey.untold:
        return _rolled_back(ground) or _in_doubt(ground) or _unseen(ground) or Done(remarks(ground))
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
    if ground.came_back is None:
        reasons.setdefault("", Plain("to tell which documents that were purged are there again"))
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
    return latest_first(ground, node.pod, passed)


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
    kept = {name for name, ids in (ground.came_back or {}).items() if ids != ()} - ground.synced
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


def _unseen(ground: Ground) -> Wait | None:
    """Copies that nobody could compare: what was not looked at is not "nothing to adopt"."""
    proof = ground.proof
    if proof is None:
        return None
    # One that was deleted since, or made anew under other files, has no copies to compare.
    there = {(each.database, each.suffix) for each in ground.maps.values()}
    left = frozenset(proof.pairs) - proof.seen
    unseen = [pair for pair in left if (pair.file.database, pair.file.suffix) in there]
    if not unseen:
        return None
    names = {pair.file.database for pair in unseen}
    pods = {node.name: node.pod for node in ground.view.nodes}
    of = sorted({pods.get(name, name) for pair in unseen for name in (pair.source, pair.target)})
    told = f"{len(unseen)} of {len(proof.pairs)} pairs are left, of {some(names)} on {some(of)}"
    return Wait({"": Plain(f"to compare all shard copies: {told}")}, advancing=(len(proof.seen), 0))


def _sync(ground: Ground, databases: Collection[str]) -> Do:
    return Do((SyncAdopted(ground.lead.pod, tuple(sorted(databases, key=adoption_order))),))


def _do(steps: Iterable[Step]) -> Do | None:
    taken = tuple(steps)
    return Do(taken) if taken else None


# --- what is said -----------------------------------------------------------------------------


def ending(ground: Ground) -> Refuse | None:
    """What is left for a person, once everything else is done and marked."""
    left = {**ground.survey.stranded, **ground.refused}
    back = {name: ids for name, ids in (ground.came_back or {}).items() if ids}
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
    if untold := [name for name, ids in (ground.came_back or {}).items() if ids is None]:
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
