"""What lies on the volumes, and what ``check`` would call a fault: before and after. Pure."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace

from couchdiscover.decide.common import Policy
from couchdiscover.decide.copies import (
    MARKED_COPIES,
    SAMPLE_COPIES,
    lost_by_number,
    lost_copies_note,
    sample,
)
from couchdiscover.decide.membership import MOST_OTHERS, Membership
from couchdiscover.decide.merging import some
from couchdiscover.decide.volumes import Survey
from couchdiscover.errors import NotSo, Unsafe
from couchdiscover.state.nodes import SYSTEM_DATABASES, NodeView
from couchdiscover.state.reasons import CopiesFilling, NotRead, NotUp, Reason, Reasons
from couchdiscover.state.steps import AddCopies, Decision, Do, Done, Refuse, SyncShards, Wait
from couchdiscover.state.volumes import Mark, ShardFile, Volume


@dataclass(frozen=True, slots=True)
class Verdict:
    """What is still not so where every node is a member, connected and finished."""

    decision: Decision

    def with_warnings(self, warnings: tuple[str, ...]) -> Decision:
        """For scope ``set``, where it counts."""
        return replace(self.decision, warnings=(*warnings, *self.decision.warnings))

    def as_warning(self, warnings: tuple[str, ...]) -> Decision:
        """For scope ``pod``: a pod must be able to start."""
        match self.decision:
            case (
                Refuse(error=error, reason=reason, warnings=more, marks=marks)
                | Wait(at_the_end=Refuse(error=error, reason=reason, warnings=more, marks=marks))
            ) if error is NotSo:
                return Done((*warnings, *more, reason), marks)
            case _:
                return self.with_warnings(warnings)


# --- before anything is written ---------------------------------------------------------------


def volume_refusal(membership: Membership) -> Refuse | None:
    """Volumes that are not what their nodes are called, or that are another set's."""
    survey = membership.survey
    if clone := clone_refusal(survey):
        return clone
    if cloned := cloned_note(survey):
        return Refuse(NotSo, cloned)
    displaced = _displaced(survey)
    return Refuse(Unsafe, displaced) if displaced else None


def volume_answer(membership: Membership, own: NodeView) -> Decision | None:
    """The same for scope ``pod``: a refusal, or the end without any write.

    A half-done adoption must not keep ``OrderedReady`` from bringing up the other pods, and a
    rolling rename is to be caught at its first pod.
    """
    survey = membership.survey
    if clone := clone_refusal(survey):
        return clone
    displaced = _displaced(survey)
    if displaced is None:
        return None
    named = survey.named_in_maps
    others_named = any(node.name in named for node in membership.view.nodes if node.pod != own.pod)
    if own.name not in named and others_named:
        return Refuse(Unsafe, displaced)
    return Done(
        (displaced,),
        conclusion=f"{own.pod} was left as it is, so that the other pods can start",
    )


def _displaced(survey: Survey) -> str | None:
    """Volumes whose maps name other nodes than those that have them now."""
    if survey.held:
        return None
    if survey.has_former_names:
        return _former_names(survey)
    return changed_places(survey) if survey.permuted else None


def changed_places(survey: Survey) -> str:
    """What there is to say of volumes that are at other pods of today, and to do about it."""
    moved = ", ".join(f"{pod} has the one of {n}" for pod, n in sorted(survey.permuted.items()))
    if survey.displacing:
        return (
            f"volumes have changed places ({moved}), and {some(survey.displacing)} gave its own "
            "away and has none of those: an older volume, a new one, or one of a former name. Maps "
            "that name it could hide documents: put each volume at the pod whose name it had, or "
            "volumes of one moment, and try again"
        )
    return (
        f"volumes have changed places ({moved}): the shard maps name copies that are on other "
        "nodes now; `couchdiscover adopt` puts the maps right"
    )


def _former_names(survey: Survey) -> str:
    former = sorted(survey.former.values(), key=lambda each: each.pod)
    told = [f"{each.pod} was {each.name} (by {each.by})" for each in former[:3]]
    told += [
        f"{name} may be the volume of {' or '.join(pods)}"
        for name, pods in sorted(survey.untold.items())[:3]
    ]
    return (
        f"the shard maps name nodes that are gone, and their files are here under other names: "
        f"{'; '.join(told)}. Volumes that were restored or renamed are made readable again by "
        "`couchdiscover adopt`; nothing is to be deleted or emptied"
    )


def clone_refusal(survey: Survey) -> Refuse | None:
    """A clone that has met its original, or one volume at two pods of this set."""
    if twins := [clone for clone in survey.clones if clone.other in survey.present]:
        pods = sorted({clone.pod for clone in twins} | {survey.present[c.other] for c in twins})
        return Refuse(
            Unsafe,
            f"the volumes of {', '.join(pods)} are copies of one volume (the snapshot of one "
            "pod restored for several?): each pod needs the volume of its own node, or a new one; "
            "keep what is there until that is so",
        )
    for clone in survey.clones:
        if survey.is_original(clone):
            continue
        return Refuse(
            Unsafe,
            f"{clone.pod} has a copy of the volume of {clone.other}, which is alive and connected: "
            "a clone has met its original, and both write into one cluster. Scale this StatefulSet "
            "to 0 now; before it starts again give it another Erlang cookie, or close 4369 and the "
            "distribution's port between the two; then, on the original, delete the clone's "
            "documents in /_node/_local/_nodes, and look at new databases for copies there",
        )
    return None


def cloned_note(survey: Survey) -> str | None:
    """The same on the original, which is not what is wrong."""
    copies = sorted(clone.other for clone in survey.clones if survey.is_original(clone))
    if not copies:
        return None
    where = sorted({name.partition("@")[2].partition(".")[2] or name for name in copies})
    return (
        f"{some(copies)} {'runs' if len(copies) == 1 else 'run'} on copies of volumes of this "
        f"cluster, in {some(where)}, and {'is' if len(copies) == 1 else 'are'} connected: what is "
        "written there is written here. Scale that StatefulSet to 0; then delete its documents in "
        "/_node/_local/_nodes, and look at new databases for copies there"
    )


# --- after everything is done -----------------------------------------------------------------


def verify(
    membership: Membership, nodes: Sequence[NodeView], coordinator: NodeView, policy: Policy
) -> Verdict | None:
    """What ``check`` would call a fault, as far as the same looks show it; None where nothing.

    What should have been looked at and could not be read is waited for.
    """
    if fault := _faults(membership, nodes):
        return Verdict(Refuse(NotSo, fault))
    if seeding := [node.pod for node in nodes if node.up == "seeding"]:
        # It asks its seeds every second, and is not ready until one has answered.
        note = seeding_note(some(seeding))
        waits = {pod: NotUp("seeding") for pod in seeding}
        return Verdict(Wait(waits, at_the_end=Refuse(NotSo, note)))
    if unread := unread_volumes(membership, nodes):
        told = "; ".join(f"{pod} fails {reason}" for pod, reason in unread.items())
        end = Done((f"not everything could be verified: {told}",))
        own = membership.topology.own
        return Verdict(Wait(unread, at_the_end=end if own is not None else None))
    if adding := _blank_copies(membership, coordinator):
        return Verdict(adding)
    pods = {node.pod for node in nodes}
    if copies := _copies(membership, pods, coordinator, policy):
        return Verdict(copies)
    if lacking := lacking_note(membership.survey, pods):
        return Verdict(Refuse(NotSo, lacking))
    if unfinished := unfinished_note(membership.survey, pods):
        return Verdict(Refuse(NotSo, unfinished))
    if gone := gone_note(membership, pods):
        return Verdict(Refuse(NotSo, gone, marks=marks_due(membership, nodes, policy)))
    return None


def unread_volumes(membership: Membership, nodes: Sequence[NodeView]) -> Reasons:
    """What is not known of nodes that are to be called verified: unknown is never empty."""
    survey, copies = membership.survey, membership.view.copies
    waits: dict[str, Reason] = {}
    for node in nodes:
        volume = node.volume
        if node.up is None:
            waits[node.pod] = NotRead("whether it is ready", "GET /_up")
        elif volume is None or volume.files is None:
            waits[node.pod] = NotRead("its files", "GET /_node/_local/_all_dbs")
        elif volume.traces is None:
            waits[node.pod] = NotRead("whose volume it has", "GET /_node/_local/_dbs/_local_docs")
        elif survey.maps(node.pod) is None:
            waits[node.pod] = NotRead("the shard maps", "/_node/_local/_dbs")
        elif node.pod in survey.lost.keys() | survey.damaged.keys():
            if copies is None or node.name not in copies.lost:
                waits[node.pod] = NotRead("what its copies lack", "shard maps and shard files")
        elif node.pod in survey.unproven:
            waits |= _unread_evidence(membership, node) or _unread_copies(membership, node)
        elif volume.sampled:
            waits |= _unread_copies(membership, node)
        if node.pod not in waits and (lack := _unread_beside(membership, node)):
            waits[node.pod] = lack
    return waits


def _unread_beside(membership: Membership, node: NodeView) -> Reason | None:
    """What is not known of connected members that are no pods of ours: one may be a clone."""
    names = [name for name in membership.beside[:MOST_OTHERS] if name in node.all_nodes]
    if not names:
        return None
    if membership.survey.volumes[node.pod].uuid is None:
        return NotRead("which volume it has", "GET /_node/_local/_dbs")
    for name in names:
        if membership.view.others.get(name, Volume()).uuid is None:
            return NotRead(f"whether {name} is a clone of it", f"GET /_node/{name}/_dbs")
    return None


def sampled(survey: Survey, pod: str) -> tuple[ShardFile, ...]:
    """The copies of a node that are looked into; those that are missing are told by that."""
    files = survey.files(pod)
    if files is None:
        return ()
    limit = SAMPLE_COPIES if pod in survey.unproven else MARKED_COPIES
    return sample(files.named - files.missing, limit).files


def _unread_evidence(membership: Membership, node: NodeView) -> Reasons:
    """What is not known of a volume without a mark: whether it was lost, or what lies there."""
    survey = membership.survey
    if survey.volumes[node.pod].uuid is None:
        return {node.pod: NotRead("which volume it has", "GET /_node/_local/_dbs")}
    for other in membership.view.nodes:
        if not other.alone and survey.volumes[other.pod].traces is None:
            where = "GET /_node/_local/_dbs/_local_docs"
            return {other.pod: NotRead(f"whether it knows {node.pod} with another volume", where)}
    for name in membership.beside[:MOST_OTHERS]:
        if membership.view.others.get(name, Volume()).traces is None:
            where = f"GET /_node/{name}/_dbs/_local_docs"
            what = f"whether {name} knows it with another volume"
            return {node.pod: NotRead(what, where)}
    return {}


def _unread_copies(membership: Membership, node: NodeView) -> Reasons:
    """Copies of the sample that could not be looked into, or those to compare them with."""
    survey = membership.survey
    for file in sampled(survey, node.pod):
        info = survey.volumes[node.pod].infos.get(file)
        if info is None:
            return {node.pod: NotRead("what its copies hold", f"GET /_node/_local/{file.path}")}
        for other in membership.view.nodes if info.empty else ():
            theirs = survey.volumes[other.pod]
            named = other.pod != node.pod and file in survey.named_files(other.name)
            there = theirs.files is None or file in theirs.files
            if named and there and file not in theirs.infos:
                where = f"GET /_node/_local/{file.path}"
                return {other.pod: NotRead("what its copies hold", where)}
        for name in membership.beside[:MOST_OTHERS] if info.empty else ():
            theirs = membership.view.others.get(name, Volume())
            there = theirs.files is None or file in theirs.files
            if file in survey.named_files(name) and there and file not in theirs.infos:
                where = f"GET /_node/{name}/{file.path}"
                return {node.pod: NotRead(f"what the copies of {name} hold", where)}
    return {}


def _faults(membership: Membership, nodes: Sequence[NodeView]) -> str | None:
    if resting := [node.pod for node in nodes if node.up == "maintenance_mode"]:
        return maintenance_note(some(resting))
    if closed := closed_note(membership.survey):
        return closed
    if merged := membership.survey.merged:
        return (
            f"the shard maps of {some(merged)} have conflicts, as after two clusters were joined: "
            "what is in the copies of the losing revision is not read; the documents are in "
            "/_node/_local/_dbs, with ?conflicts=true"
        )
    return _few_left(membership)


def _few_left(membership: Membership) -> str | None:
    """Databases that have lost copies with a member that is gone, the worst first.

    What members hold that are still listed and gone is told with them (``left_behind``).
    """
    details = [node.details for node in membership.view.nodes if node.details is not None]
    placed = any(each.placement for each in details)
    maps = (membership.survey.all_maps or {}).values()
    left = lost_by_number(
        (each for each in maps if each.database not in membership.survey.held),
        membership.listed,
        placed=placed,
    )
    if not left:
        return None
    fewest = min(left)
    return lost_copies_note(some(left[fewest]), fewest)


def seeding_note(pods: str) -> str:
    """What there is to say of pods whose ``/_up`` says seeding."""
    return (
        f"/_up says seeding at {pods}: no node of [cluster] seedlist has answered there, and "
        "probes and load balancers take it for not ready; where that stays so, correct the "
        "setting, so that its names are the nodes'"
    )


def maintenance_note(pods: str) -> str:
    """What there is to say of pods that are in maintenance mode."""
    return (
        f"maintenance_mode is on at {pods}: its copies are not read, and it is not ready; when the "
        "work is done, set [couchdb] maintenance_mode to false"
    )


def few_copies(membership: Membership, node: NodeView, *, ahead: bool = False) -> tuple[str, ...]:
    """System databases, by a node's maps, of which one node alone has a copy of some range.

    Made before that node was joined, as a rule: logins and replications hang on it. Looking
    ``ahead``, every expected pod counts as a member.
    """
    volume, details = node.volume, node.details
    if volume is None or volume.maps is None or details is None or details.placement:
        return ()
    members = _members(membership, node)
    wanted = min(details.copies, len(membership.topology.expected) if ahead else len(members))
    return tuple(
        each.database
        for each in volume.maps
        if each.database in SYSTEM_DATABASES
        and each.by_range
        and not each.conflicting
        and each.names <= members
        and min(len(names) for names in each.by_range.values()) < min(wanted, 2)
    )


def _members(membership: Membership, node: NodeView) -> frozenset[str]:
    """The expected pods' nodes that are connected, by Erlang name."""
    return frozenset(name for name in membership.pods if name in node.all_nodes)


def _blank_copies(membership: Membership, coordinator: NodeView) -> Do | None:
    """Has the maps of such databases name more nodes, where they hold no document.

    As after a node had made them before it was joined: nothing is lost by that.
    """
    volume, details = coordinator.volume, coordinator.details
    if volume is None or volume.maps is None or volume.filled is None or details is None:
        return None
    members = sorted(_members(membership, coordinator))
    wanted = min(details.copies, len(members))
    few = few_copies(membership, coordinator)
    steps = []
    for each in volume.maps:
        if each.database in few and each.database not in volume.filled:
            more = [name for name in members if name not in each.names]
            chosen = tuple([*sorted(each.names), *more][:wanted])
            steps.append(AddCopies(coordinator.pod, each.database, chosen))
    return Do(tuple(steps)) if steps else None


def _copies(
    membership: Membership, pods: Collection[str], coordinator: NodeView, policy: Policy
) -> Decision | None:
    """Copies on volumes that were lost, which CouchDB fills again and serves meanwhile."""
    copies = membership.view.copies
    if copies is None:
        return None
    names, lost = _lost_pods(membership, pods)
    if not lost:
        return None
    if copies.left and not copies.synced:
        return Do((SyncShards(_knowing(membership, coordinator).pod, copies.databases),))
    reasons: dict[str, Reason] = {
        names[name]: _filling(membership, names[name], files, copies.total.get(name, len(files)))
        for name, files in copies.left.items()
        if name in names and files
    }
    if reasons and not policy.wait_for_copies:
        told = "; ".join(f"{pod} has still {reason}" for pod, reason in reasons.items())
        return Done((f"{_lost(membership, lost)}, and is served while it is being filled: {told}",))
    if reasons:
        return Wait(reasons, advancing=copies.progress)
    return _unsourced(membership, names, lost, policy)


def _unsourced(
    membership: Membership, names: Mapping[str, str], lost: Sequence[str], policy: Policy
) -> Decision | None:
    """Copies whose other copies are on nodes that do not answer: nothing proves, or fills, them."""
    copies = membership.view.copies
    unsourced = {
        names[name]: files
        for name, files in (copies.unsourced.items() if copies is not None else ())
        if name in names and files
    }
    if not unsourced or copies is None:
        return None
    count = sum(map(len, unsourced.values()))
    holders = {
        holder
        for files in unsourced.values()
        for file in files
        for each in (membership.survey.all_maps or {}).values()
        if each.database == file.database
        for holder in each.by_range.get(file.range, ())
    } - copies.lost
    pods = {name: membership.pods.get(name, "") for name in holders}
    # A pod without an address may be one that OrderedReady makes only after this one; who else is
    # connected was not read in time, and is there all the same.
    awaited = any(
        _has_address(membership, pods[name])
        if pods[name] in membership.silent
        else name in membership.connected
        for name in holders
    )
    if policy.wait_for_copies and awaited:
        return Wait({pod: _filling(membership, pod, f, len(f)) for pod, f in unsourced.items()})
    where = some([membership.name_of(name) for name in holders])
    return Refuse(
        NotSo,
        f"{_lost(membership, lost)}, and the nodes that could fill {count} shard "
        f"{'copy' if count == 1 else 'copies'} of it do not answer ({where}): they are empty "
        "until those do",
    )


def gone_note(membership: Membership, pods: Collection[str]) -> str | None:
    """Ranges whose only copies were lost."""
    copies = membership.view.copies
    _, lost = _lost_pods(membership, pods)
    if copies is None or not lost or not copies.gone:
        return None
    return (
        f"{_lost(membership, lost)}, and with that the only copies of some range of "
        f"{some(copies.gone)}: what they held is gone, unless a snapshot of the volume is kept"
    )


def _lost_pods(
    membership: Membership, pods: Collection[str]
) -> tuple[Mapping[str, str], Sequence[str]]:
    """The pods by their Erlang names, and those of them whose volumes were lost."""
    copies = membership.view.copies
    names = {node.name: node.pod for node in membership.view.nodes if node.pod in pods}
    lost = copies.lost if copies is not None else frozenset()
    return names, sorted(names[name] for name in lost if name in names)


def _knowing(membership: Membership, coordinator: NodeView) -> NodeView:
    """A member that knows all databases, as one that has just lost its volume does not yet."""
    group = membership.group_of(coordinator).nodes
    whole = [n for n in group if n.finished and n.pod not in membership.survey.lost]
    return coordinator if coordinator in whole or not whole else whole[0]


def _has_address(membership: Membership, name: str) -> bool:
    pod = membership.topology.pod(name)
    return pod is not None and bool(pod.addresses)


def _filling(
    membership: Membership, pod: str, files: Sequence[ShardFile], total: int
) -> CopiesFilling:
    lost = pod in membership.survey.lost
    return CopiesFilling(len(files), total, files[0].path, lost=lost)


def _lost(membership: Membership, pods: Sequence[str]) -> str:
    several = len(pods) > 1
    if not membership.survey.lost.keys() & set(pods):
        return f"{', '.join(pods)} {'lack' if several else 'lacks'} shard copies"
    return f"{', '.join(pods)} {'have lost their volumes' if several else 'has lost its volume'}"


def stranded_note(ranges: Mapping[str, str]) -> str:
    """Databases that cannot be read, each with a range that no volume here has."""
    name, range_ = next(iter(sorted(ranges.items())))
    verb = "names" if len(ranges) == 1 else "name"
    return (
        f"the shard maps of {some(ranges)} {verb} nodes that are gone: no volume here has a file "
        f"of range {range_} of {name}, and a map without it would lose it for good. Put the volume "
        "that has it into the set, then `couchdiscover adopt`; where the database was made only "
        "after the volumes were restored no volume has it, and who made it must make it anew"
    )


def closed_note(survey: Survey) -> str | None:
    """Databases that an adoption has left under former names, and that nobody can read so."""
    if stranded := survey.stranded:
        return stranded_note(stranded)
    if not survey.held:
        return None
    return (
        f"{some(survey.held)} {'is' if len(survey.held) == 1 else 'are'} held under former names, "
        "as `couchdiscover adopt --replications hold` leaves it: it cannot be read, nothing is "
        "finished, and it is not made anew; `couchdiscover adopt --replications run` opens it"
    )


def unfinished_note(survey: Survey, pods: Collection[str]) -> str | None:
    """Volumes whose adoption was not completed: their maps are right, their copies unproven."""
    found = sorted(survey.unfinished.keys() & set(pods))
    if not found:
        return None
    whose = "the volumes of " if len(found) > 1 else "the volume of "
    return (
        f"{whose}{', '.join(found)} (formerly {some([survey.unfinished[pod] for pod in found])}) "
        "have been adopted without the proof that their copies are equal: `couchdiscover adopt` "
        "goes on with it"
    )


def lacking_note(survey: Survey, pods: Collection[str]) -> str | None:
    """Volumes without a mark of which a named copy is missing, or empty while another is not."""
    told = [
        f"{pod} ({some([file.path for file in files])})"
        for pod, files in sorted(survey.lacking.items())
        if pod in pods
    ]
    if not told:
        return None
    return (
        f"copies that the shard maps name are missing or empty, while others of the same range are "
        f"not: {'; '.join(told)}; `couchdiscover run` has CouchDB fill them"
    )


# --- the mark ---------------------------------------------------------------------------------


def marks_due(membership: Membership, nodes: Sequence[NodeView], policy: Policy) -> tuple[str, ...]:
    """Pods whose volumes are verified, and not marked so yet, or for other members."""
    if not policy.mark:
        return ()
    survey = membership.survey
    due = []
    for node in nodes:
        volume = node.volume
        if volume is None or volume.traces is None or volume.files is None or not node.finished:
            continue
        if unseen_witnesses(membership, node):
            continue  # a lost volume that is marked is never told from a whole one again
        mark = survey.mark(node.pod)
        if mark is None or mark.node != node.name or _renewed(membership, node, mark):
            due.append(node.pod)
    return tuple(due)


def unseen_witnesses(membership: Membership, node: NodeView) -> tuple[str, ...]:
    """Members that did not tell, and may know a volume without a mark as a lost one.

    Pods of this set or others; of a node that lists nobody every expected pod that was not seen.
    """
    survey, others = membership.survey, membership.view.others
    if node.pod not in survey.unproven:
        return ()
    answering = {each.name: each.pod for each in membership.view.nodes}
    unseen = []
    for name in sorted(node.cluster_nodes - {node.name}):
        pod = answering.get(name)
        volume = survey.volumes[pod] if pod is not None else others.get(name, Volume())
        if volume.traces is None:
            unseen.append(membership.name_of(name))
    return tuple(unseen) if unseen or not node.alone else tuple(sorted(membership.silent))


def unseen_note(membership: Membership, node: NodeView) -> str | None:
    """What there is to say of that."""
    unseen = unseen_witnesses(membership, node)
    if not unseen:
        return None
    verb = "does" if len(unseen) == 1 else "do"
    return (
        f"{node.pod} has no mark on its volume, and whether it was lost could not be seen while "
        f"{some(unseen)} {verb} not answer, or not to these credentials: its copies may be empty; "
        "`couchdiscover check` tells when they answer"
    )


def _renewed(membership: Membership, node: NodeView, mark: Mark) -> bool:
    """Whether a mark has seen other members than there are, or other volumes of theirs."""
    for other in membership.view.nodes:
        if other.name == node.name or other.name not in node.cluster_nodes:
            continue
        seen = mark.seen.get(other.name, ())
        known = membership.survey.mark(other.pod)
        # Of a volume that is marked in this very run, the uuid was read as evidence.
        uuid = known.uuid if known else membership.survey.volumes[other.pod].uuid
        if not seen or (uuid is not None and uuid != seen[0]):
            return True
    return False
