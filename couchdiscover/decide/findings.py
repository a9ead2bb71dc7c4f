"""What ``check`` finds beyond membership: from what was inspected to what is wrong with it. Pure.

A fault is something by which the cluster is not what it seems to be, and which a person must mend;
a warning is worth a look, and may be meant; information is how things are.
"""

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from enum import StrEnum

from couchdiscover.decide import refusals
from couchdiscover.decide.copies import (
    MOVE_SHARDS,
    fewest_copies,
    lost_by_number,
    lost_copies_note,
    security_note,
    told_copies,
)
from couchdiscover.decide.identity import drift
from couchdiscover.decide.membership import Membership
from couchdiscover.decide.verification import (
    cloned_note,
    closed_note,
    gone_note,
    lacking_note,
    maintenance_note,
    seeding_note,
    unfinished_note,
)
from couchdiscover.state.nodes import (
    DEFAULT_DATABASES,
    ClusterView,
    Copies,
    NodeDetails,
    NodeView,
)
from couchdiscover.state.topology import Topology
from couchdiscover.state.volumes import ShardMap

SHOWN = 5
"""How many names a sentence has; the rest are counted. ``subjects`` has them all."""


class Severity(StrEnum):
    """How bad a finding is."""

    FAULT = "fault"
    WARNING = "warning"
    INFO = "info"


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing found. ``subjects`` are the pods, members or databases that it is about."""

    kind: str
    severity: Severity
    subjects: tuple[str, ...]
    message: str

    def __str__(self) -> str:
        return f"{self.severity}: {self.message}"


@dataclass(frozen=True, slots=True)
class Inspection:
    """What was read besides membership. ``unread`` says, by its name, why a thing was not.

    ``rolled_back`` are databases with a copy that is an older state of itself than its peers have
    seen, ``in_doubt`` those with one that may be; ``securities`` are databases, with the nodes that
    have copies, whose ``_security`` differs; ``not_compared`` is how many pairs of copies were
    left out of that look, and ``because`` says why.
    """

    details: tuple[NodeDetails, ...] = ()
    shard_maps: tuple[ShardMap, ...] = ()
    unread: tuple[tuple[str, str], ...] = ()
    rolled_back: tuple[str, ...] = ()
    in_doubt: tuple[str, ...] = ()
    securities: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    not_compared: int = 0
    because: str = ""


def findings(membership: Membership, inspection: Inspection) -> tuple[Finding, ...]:
    """Everything that there is to say, the worst first."""
    topology, view = membership.topology, membership.view
    members = membership.listed - frozenset(membership.left_behind)
    held = membership.survey.held
    open_maps = tuple(each for each in inspection.shard_maps if each.database not in held)
    found = [
        *_unread(inspection),
        *_left_behind(membership),
        *_elsewhere(membership),
        *_cut_off(view),
        *_drifted(topology, view),
        *_unreadable(view.nodes),
        *_not_up(view.nodes),
        *_maintenance(inspection.details),
        *_shards(replace(inspection, shard_maps=open_maps), members, membership.pods),
        *_copies_setting(inspection.details, len(members)),
        *_versions(view.nodes),
        *_unlasting(membership),
        *_volumes(membership),
        *_rolled_back(inspection),
    ]
    order = list(Severity)
    return tuple(sorted(found, key=lambda finding: order.index(finding.severity)))


def named(names: Collection[str]) -> str:
    """The first few of many names."""
    shown = sorted(names)[:SHOWN]
    more = len(names) - len(shown)
    return ", ".join(shown) + (f" and {more} more" if more else "")


def _verb(names: Collection[str], one: str, several: str) -> str:
    return one if len(names) == 1 else several


# --- nodes ------------------------------------------------------------------------------------


def _unread(inspection: Inspection) -> Iterable[Finding]:
    for what, reason in inspection.unread:
        yield Finding(
            "not_inspected", Severity.FAULT, (what,), f"{what} could not be looked at: {reason}"
        )


def _left_behind(membership: Membership) -> Iterable[Finding]:
    if nobody := membership.left_behind:
        message = refusals.left_behind_note(membership)
        yield Finding("left_behind", Severity.FAULT, nobody, message)


def _elsewhere(membership: Membership) -> Iterable[Finding]:
    alive = membership.elsewhere
    if alive and not membership.survey.clones:
        message = refusals.elsewhere_note(membership)
        yield Finding("elsewhere", Severity.INFO, alive, message)


def _cut_off(view: ClusterView) -> Iterable[Finding]:
    for node in view.nodes:
        missed_by = [
            other.pod
            for other in view.nodes
            if other is not node and node.name in other.cluster_nodes - other.all_nodes
        ]
        if missed_by:
            cause = f" ({node.unconnected_because})" if node.unconnected_because else ""
            yield Finding(
                "cut_off",
                Severity.FAULT,
                (node.pod,),
                f"{node.pod} answers and is a member, but not connected to {named(missed_by)}"
                f"{cause}",
            )


def _drifted(topology: Topology, view: ClusterView) -> Iterable[Finding]:
    nodes = [node for node in view.nodes if node.finished and node.identity is not None]
    if len(nodes) < 2:
        return
    found = drift(
        nodes,
        view.prior or [node.name for node in nodes],
        secret_intended=topology.secret_intended,
    )
    pods = tuple(sorted({step.pod for step in found.steps}))
    if pods:
        keys = sorted({key for step in found.steps for key in step.details().get("keys", [])})
        yield Finding(
            "identity_drift",
            Severity.FAULT,
            pods,
            f"{named(pods)} {_verb(pods, 'differs', 'differ')} from the cluster in "
            f"{', '.join(keys)}: {_consequence(nodes)}; `couchdiscover run` mends it",
        )
    if found.kept:
        yield Finding(
            "other_scheme",
            Severity.WARNING,
            found.kept,
            f"the password hashes of {named(found.kept)} are of another scheme than the others' "
            "(mixed versions): they are not made equal, since a node may not read the others'",
        )
    if found.intended:
        yield Finding(
            "secrets_differ",
            Severity.WARNING if topology.rollout else Severity.FAULT,
            found.intended,
            f"sessions made on {named(found.intended)} fail on other nodes: COUCHDB_SECRET was "
            f"changed; `kubectl rollout restart statefulset/{topology.statefulset}` gives it to "
            "all",
        )
    if found.secretless:
        yield Finding(
            "no_secret",
            Severity.FAULT,
            tuple(node.pod for node in nodes),
            "no node has a chttpd_auth secret, so no session of one holds on another; "
            "`couchdiscover run` mends it",
        )


def _rolled_back(inspection: Inspection) -> Iterable[Finding]:
    """Copies of an older snapshot under their own name."""
    if names := inspection.rolled_back:
        yield Finding(
            "rolled_back",
            Severity.FAULT,
            names,
            f"{named(names)}: some copy is an older state of itself than the others have seen, as "
            "after a snapshot of one volume was restored: changes heal by themselves, and purged "
            "documents come back through all nodes; `couchdiscover adopt` puts it right, or says "
            "which documents must be purged once more",
        )
    if names := inspection.in_doubt:
        yield Finding(
            "purges_in_doubt",
            Severity.WARNING,
            names,
            f"{named(names)}: some copy knows of fewer purges than it was handed, as one of an "
            "older snapshot does, or one that was split, or filled when CouchDB had dropped the "
            "first; `couchdiscover adopt` has purges handed on once more, which harms none",
        )
    if inspection.securities:
        yield Finding(
            "security_differs",
            Severity.FAULT,
            tuple(sorted(inspection.securities)),
            security_note(inspection.securities),
        )
    if inspection.not_compared:
        yield Finding(
            "copies_not_compared",
            Severity.INFO,
            (),
            f"{inspection.not_compared} pairs of shard copies were not compared: "
            f"{inspection.because}",
        )


def _volumes(membership: Membership) -> Iterable[Finding]:
    """Volumes that were lost or are damaged, and copies that are not what the maps say."""
    survey, copies = membership.survey, membership.view.copies
    if cloned := cloned_note(survey):
        others = tuple(sorted(clone.other for clone in survey.clones))
        yield Finding("cloned", Severity.FAULT, others, cloned)
    names = {node.pod: node.name for node in membership.view.nodes}
    gone = gone_note(membership, names)
    for pod, witness in sorted(survey.lost.items()):
        if gone:
            yield Finding(
                "volume_lost",
                Severity.FAULT,
                (pod,),
                f"{gone} ({witness} knows {pod} with another volume); `couchdiscover run` says so "
                "once more, and marks the volume",
            )
            continue
        complete, state = _state_of_copies(copies, names[pod])
        missed = "" if complete else "Until they are, reads through any node may miss documents; "
        yield Finding(
            "volume_lost",
            Severity.WARNING if complete else Severity.FAULT,
            (pod,),
            f"{pod} has lost its volume ({witness} knows it with another one): {state}. "
            f"{missed}`couchdiscover run` has CouchDB fill them, and marks the volume",
        )
    for pod, files in sorted(survey.damaged.items()):
        yield Finding(
            "volume_damaged",
            Severity.FAULT,
            (pod,),
            f"{pod} lacks {len(files)} of its files, or has them empty "
            f"({named([file.path for file in files])}): `couchdiscover run` has CouchDB fill them",
        )
    yield from _being_filled(membership)
    if told := lacking_note(survey, names):
        yield Finding("copies_missing", Severity.FAULT, tuple(sorted(survey.unproven)), told)
    if survey.held and (told := closed_note(survey)):
        yield Finding("held", Severity.FAULT, tuple(sorted(survey.held)), told)
    if told := unfinished_note(survey, names):
        yield Finding("adoption_unfinished", Severity.FAULT, tuple(sorted(survey.unfinished)), told)
    for pod, name in sorted(survey.mismarked.items()):
        if pod in survey.unfinished:
            continue
        yield Finding(
            "marked_otherwise",
            Severity.WARNING,
            (pod,),
            f"the mark on {pod}'s volume says that it was {name}, and all its files are in place; "
            "`couchdiscover run` renews it",
        )


def _being_filled(membership: Membership) -> Iterable[Finding]:
    """Copies that hold less than others, and nothing proves that they were only late."""
    survey, copies = membership.survey, membership.view.copies
    known = survey.lost.keys() | survey.damaged.keys() | survey.lacking.keys()
    for node in membership.view.nodes:
        if copies is None or node.pod in known or not copies.left.get(node.name):
            continue
        _, state = _state_of_copies(copies, node.name)
        yield Finding(
            "copies_missing",
            Severity.FAULT,
            (node.pod,),
            f"{node.pod} holds less than others in some copy: {state}; `couchdiscover run` has "
            "CouchDB fill them",
        )


def _state_of_copies(copies: Copies | None, name: str) -> tuple[bool, str]:
    """Whether a lost volume's copies are proven complete, and what there is to say."""
    if copies is None or name not in copies.lost:
        return False, "how far its copies are filled again could not be read"
    open_ = len(copies.left.get(name, ())) + len(copies.unsourced.get(name, ()))
    if open_:
        total = copies.total.get(name, open_)
        return False, f"{open_} of {total} shard copies are not proven complete"
    return True, "its copies are complete again"


def _consequence(nodes: Sequence[NodeView]) -> str:
    """What was seen to come of it, where that was tried."""
    everybody = {node.pod for node in nodes}
    tried = [n for n in nodes if n.sessions is not None and everybody - n.sessions]
    if tried:
        return "sessions made on one node fail on another"
    return "sessions or replications of one node may fail on another"


def _not_up(nodes: Sequence[NodeView]) -> Iterable[Finding]:
    seeding = tuple(node.pod for node in nodes if node.up == "seeding")
    if seeding:
        yield Finding(
            "seeding",
            Severity.FAULT,
            seeding,
            seeding_note(named(seeding)),
        )


def _unlasting(membership: Membership) -> Iterable[Finding]:
    if note := refusals.lasting_names_note(membership.view.nodes):
        pods = tuple(n.pod for n in membership.view.nodes if refusals.is_named_by_address(n))
        yield Finding("named_by_address", Severity.WARNING, pods, note)
    if membership.topology.volumes_persistent is False:
        yield Finding(
            "no_persistent_volume",
            Severity.WARNING,
            (membership.topology.statefulset,),
            "the container's data is on no PersistentVolumeClaim: a pod that is replaced comes "
            "back empty",
        )


def _unreadable(nodes: Sequence[NodeView]) -> Iterable[Finding]:
    for database in sorted({name for node in nodes for name in node.unreadable}):
        pods = tuple(node.pod for node in nodes if database in node.unreadable)
        yield Finding(
            "database_missing",
            Severity.FAULT,
            (database,),
            f"{database} was asked for and cannot be opened from {named(pods)}; "
            f"`couchdiscover run --ensure-db {database}` makes it where it does not exist",
        )


def _maintenance(details: Sequence[NodeDetails]) -> Iterable[Finding]:
    on = tuple(node.pod for node in details if node.maintenance == "true")
    if on:
        yield Finding(
            "maintenance_mode",
            Severity.FAULT,
            on,
            maintenance_note(named(on)),
        )
    unbalanced = tuple(node.pod for node in details if node.maintenance == "nolb")
    if unbalanced:
        yield Finding(
            "maintenance_mode",
            Severity.WARNING,
            unbalanced,
            f"maintenance_mode is nolb at {named(unbalanced)}: it works, and is not ready for "
            "load balancers and Services",
        )


def _copies_setting(details: Sequence[NodeDetails], members: int) -> Iterable[Finding]:
    if members < 2 or not details:
        return
    settings = sorted({node.copies for node in details})
    pods = tuple(node.pod for node in details)
    if len(settings) > 1:
        told = "; ".join(
            f"{number} at {named([n.pod for n in details if n.copies == number])}"
            for number in settings
        )
        yield Finding(
            "copies_setting",
            Severity.WARNING,
            pods,
            f"[cluster] n differs: {told}; how many copies a new database gets depends on the node "
            "that it is made through",
        )
    elif settings[0] < min(3, members):
        yield Finding(
            "copies_setting",
            Severity.WARNING,
            pods,
            f"[cluster] n is {settings[0]} with {members} members: new databases get {settings[0]} "
            f"{'copies' if settings[0] > 1 else 'copy'} only",
        )
    elif settings[0] > members:
        yield Finding(
            "copies_setting",
            Severity.INFO,
            pods,
            f"[cluster] n is {settings[0]} with {members} members: new databases get {members} "
            "copies, and no more after a scale-up",
        )


def _versions(nodes: Sequence[NodeView]) -> Iterable[Finding]:
    versions = sorted({node.version for node in nodes if node.version})
    if len(versions) > 1:
        told = "; ".join(
            f"{version} at {named([n.pod for n in nodes if n.version == version])}"
            for version in versions
        )
        yield Finding(
            "mixed_versions",
            Severity.WARNING,
            tuple(node.pod for node in nodes if node.version),
            f"the nodes run different CouchDBs: {told}",
        )


# --- databases --------------------------------------------------------------------------------


def _shards(
    inspection: Inspection, members: frozenset[str], pods: Mapping[str, str]
) -> Iterable[Finding]:
    maps = inspection.shard_maps
    copies = min((node.copies for node in inspection.details), default=3)
    wanted = min(copies, len(members))
    placed = any(node.placement for node in inspection.details)
    yield from _conflicting(maps)
    yield from _too_few(maps, members, wanted, placed)
    yield from _on_others(maps, members)
    yield from _without_shards(inspection, members, pods)
    yield from _empty_zones(inspection.details, members)


def _conflicting(maps: Sequence[ShardMap]) -> Iterable[Finding]:
    names = tuple(each.database for each in maps if each.conflicting)
    if names:
        yield Finding(
            "conflicting_shard_maps",
            Severity.FAULT,
            names,
            f"{named(names)}: the shard maps have conflicts, as after joining two clusters: what "
            "is in the copies of the losing revision is not read; the documents are in "
            "/_node/_local/_dbs, with ?conflicts=true",
        )


def _too_few(
    maps: Sequence[ShardMap], members: frozenset[str], wanted: int, placed: bool
) -> Iterable[Finding]:
    """Ranges with fewer copies on members than their maps name, or than a new database gets.

    The first is a loss; the second may be meant (``?n=``, [cluster] placement), or come of a
    scale-up.
    """
    lost = lost_by_number(maps, members, placed=placed)
    told = {name for names in lost.values() for name in names}
    fewer: dict[int, list[str]] = {}
    for each in maps if not placed else ():
        fewest = fewest_copies(each, members)
        if each.database not in told and fewest < wanted:
            fewer.setdefault(fewest, []).append(each.database)
    for count, names in sorted(lost.items()):
        message = lost_copies_note(named(names), count)
        yield Finding("too_few_copies", Severity.FAULT, tuple(sorted(names)), message)
    for count, names in sorted(fewer.items()):
        system = "" if set(names).isdisjoint(DEFAULT_DATABASES) else _SYSTEM_HINT
        yield Finding(
            "fewer_copies",
            Severity.WARNING,
            tuple(sorted(names)),
            f"{named(names)}: {told_copies(count)}, where a database made now gets {wanted}"
            f"{system}; {MOVE_SHARDS}",
        )


_SYSTEM_HINT = " (without a copy that answers, logins and replications stop)"


def _on_others(maps: Sequence[ShardMap], members: frozenset[str]) -> Iterable[Finding]:
    names: set[str] = set()
    others_named: set[str] = set()
    for each in maps:
        others = {name for holders in each.by_range.values() for name in holders} - members
        if others:
            names.add(each.database)
            others_named |= others
    if names:
        yield Finding(
            "copies_on_no_members",
            Severity.WARNING,
            tuple(sorted(names)),
            f"{named(names)}: the shard maps name {named(others_named)}, no member of this set: "
            f"each write waits for copies that are not there; {MOVE_SHARDS}",
        )


def _without_shards(
    inspection: Inspection, members: frozenset[str], pods: Mapping[str, str]
) -> Iterable[Finding]:
    """Members that hold nothing of databases which would have reached them, were they new."""
    maps = inspection.shard_maps
    placing = next((each for each in inspection.details if each.placement), None)
    absent_from: dict[str, list[str]] = {}
    for each in maps:
        placed = sum(len(holders) for holders in each.by_range.values())
        if placed < len(members):
            continue
        holding = {name for holders in each.by_range.values() for name in holders}
        for name in (members & pods.keys()) - holding:
            absent_from.setdefault(name, []).append(each.database)
    for name, databases in sorted(absent_from.items()):
        pod = pods.get(name, name)
        yield Finding(
            "no_shards",
            Severity.INFO,
            (pod,),
            f"{pod} holds no shard of {len(databases)} of {len(maps)} databases "
            f"({named(databases)}): {_why_none(placing, name)}",
        )


def _why_none(placing: NodeDetails | None, name: str) -> str:
    if placing is None:
        return "they were made before it joined"
    setting = f"[cluster] placement ({placing.placement})"
    if placing.places_on(name) is False:
        return f"{setting} names no zone that it is in"
    return f"they were made before it joined, or by {setting}"


def _empty_zones(details: Sequence[NodeDetails], members: frozenset[str]) -> Iterable[Finding]:
    """Zones that [cluster] placement names, and in which no member is: CouchDB answers 500."""
    for each in details:
        if each.placement is None or each.zones is None:
            continue
        there = {zone for name, zone in each.zones.items() if name in members}
        if empty := sorted(each.placement_zones - there):
            yield Finding(
                "empty_zone",
                Severity.FAULT,
                (each.pod,),
                f"[cluster] placement at {each.pod} ({each.placement}) names {named(empty)}, and "
                "no member is there: no database can be made through it (500 no_nodes_in_zone); "
                "give members the zone, by COUCHDB_ZONE since 3.5.1 or `zone` in their documents "
                "in /_node/_local/_nodes, or correct that setting",
            )
