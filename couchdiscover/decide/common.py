"""What both scopes share: the policy, and the steps that do not depend on whose job it is. Pure."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from couchdiscover.decide import refusals
from couchdiscover.decide.identity import (
    Drift,
    finishes_for_all,
    reads_old_hashes_only,
    weak_hash_note,
)
from couchdiscover.decide.membership import Membership, holds_data
from couchdiscover.decide.merging import introduction_question, some
from couchdiscover.state.nodes import ClusterView, NodeDetails, NodeView, SetupState
from couchdiscover.state.reasons import CannotOpen, ConnectedToNoMember, Plain, Reason, Unread
from couchdiscover.state.steps import (
    AddNode,
    Do,
    Done,
    EnableNode,
    EnableSingleNode,
    EnsureDatabase,
    FinishCluster,
    SetSecret,
    Step,
    Wait,
)
from couchdiscover.state.topology import Topology

BORN_TWICE_SECONDS = 3600.0
"""Age of a StatefulSet at which a new, empty cluster is a surprise."""

RECONNECT_SECONDS = 50.0
"""Seconds after which a node is connected to every node that lists it and can reach it: CouchDB
tries again after 37 s, and some (measured: 37 to 46), [cluster] reconnect_interval_sec."""


LOGGED_IN_CLEAR = (
    "CouchDB writes a chttpd_auth secret that is set to its own log, in clear: keep the log of the "
    "nodes as closely as the secret, or give every pod the same COUCHDB_SECRET beforehand"
)
"""It conceals administrators and the replicator's passwords alone (rel/apps/config.config)."""


@dataclass(frozen=True, slots=True)
class Policy:
    """What the user wants beyond membership.

    ``existing_only`` forms no new cluster. ``mark`` leaves marks on verified volumes;
    ``wait_for_copies`` waits for the copies of a lost volume.
    """

    repair: bool = True
    repair_from: str | None = None
    allow_one_copy: bool = False
    existing_only: bool = False
    mark: bool = True
    wait_for_copies: bool = True


def is_disabled(topology: Topology, node: NodeView) -> bool:
    """Whether a node must be enabled first: it is bound to loopback or has no administrator.

    One that is configured for itself alone says so until it is finished, enabled or not: among
    several, where one copy is meant, it is bound well enough, or it would not answer.
    """
    if node.state is SetupState.SINGLE_DISABLED:
        return len(topology.expected) == 1
    return node.state is SetupState.DISABLED


def enable(topology: Topology, node: NodeView) -> Step:
    """The step that makes a node reachable for its peers."""
    if node.state is SetupState.SINGLE_DISABLED and len(topology.expected) == 1:
        return EnableSingleNode(node.pod)
    return EnableNode(node.pod)


def notes_on_enabling(membership: Membership, steps: Iterable[Step]) -> tuple[str, ...]:
    """A single node is finished by being enabled."""
    if any(isinstance(step, EnableSingleNode) for step in steps):
        return (*notes_on_names(membership), *born_twice_notes(membership))
    return ()


def introductions(
    membership: Membership, nodes: Iterable[NodeView]
) -> tuple[tuple[Step, ...], dict[str, Reason]]:
    """Tells nodes of fellow members that replication keeps from them.

    The document is the very one that replication would bring: CouchDB gives a first revision its
    number by what it holds, so that the two are one and never in conflict. Where the shard maps of
    the two are not known to agree, it is a reason to wait instead.
    """
    late = [node for node in nodes if node.overdue]
    steps: list[Step] = []
    held_back: dict[str, Reason] = {}
    for node in late:
        members = {other.name: other for other in membership.group_of(node).nodes}
        for name in sorted(node.overdue & members.keys()):
            if reason := introduction_question(node, members[name]):
                held_back.setdefault(node.pod, reason)
            else:
                steps.append(AddNode(node.pod, members[name].pod, name, introduces=True))
    return tuple(steps), held_back


def finish(
    membership: Membership, nodes: Sequence[NodeView], coordinator: NodeView
) -> Do | Wait | None:
    """Finishes through the coordinator, unless some member says that this was done already.

    Finishing pushes the coordinator's identity over everybody: where another member is finished, it
    would be the wrong one (the node's databases are still on their way to it). Where the versions
    are mixed, it goes through a node whose password hash all of them can read.
    """
    if any(node.was_finished for node in nodes):
        return None
    if claimed := _claimed(membership, nodes):
        return claimed
    steps: list[Step] = []
    giver = finishes_for_all(nodes, coordinator)
    if not coordinator.cluster_nodes <= giver.cluster_nodes & giver.all_nodes:
        return Wait({giver.pod: Plain("to list, and be connected to, every member")})
    if len(giver.cluster_nodes) > 1:
        if giver.identity is None:  # without a secret it fails, after it has overwritten others'
            return Wait({giver.pod: Unread("its configuration", "/_node/_local/_config")})
        # A hash that a node cannot read locks its administrator out; one that hides its version
        # tells by its own which it can read.
        hidden = [node for node in nodes if not node.release and node.identity is None]
        if hidden and not reads_old_hashes_only(giver):
            where = "/_node/_local/_config"
            return Wait({node.pod: Unread("its configuration", where) for node in hidden})
        if (
            coordinator.databases is None
        ):  # it may have been finished once, and no member is unexpected
            return Wait({coordinator.pod: Unread("whether it was finished once", "GET /_all_dbs")})
        if giver.identity.secret is None or giver.identity.old_secret:
            steps.append(SetSecret(giver.pod, to_finish=True))
    steps.append(FinishCluster(giver.pod, len(giver.cluster_nodes)))
    notes = (*notes_on_names(membership), *born_twice_notes(membership))
    if weak := weak_hash_note(nodes, giver):
        notes = (weak, *notes)
    if any(isinstance(step, SetSecret) for step in steps):
        notes = (LOGGED_IN_CLEAR, *notes)
    return Do(tuple(steps), notes)


def _claimed(membership: Membership, nodes: Sequence[NodeView]) -> Wait | None:
    """Nodes that a cluster may know, and that do not know of it: as with new, empty volumes.

    One of another StatefulSet, which no pod of this one has to be. It lists them, connects to them
    again after ``RECONNECT_SECONDS`` at most, and tells them then. A cluster that they had formed
    meanwhile would be merged with it, and hide documents.
    """
    known = membership.listed | membership.pods.keys() | membership.beyond
    if claiming := {
        node.pod: ConnectedToNoMember(min(others))
        for node in nodes
        if (others := node.all_nodes - known)
    }:
        told = "; ".join(f"{pod} fails {reason}" for pod, reason in claiming.items())
        own = membership.topology.own
        left = Done((f"no cluster is formed: {told}",), conclusion=f"{own} was left as it is")
        return Wait(claiming, at_the_end=left if own is not None else None)
    if not may_be_born_twice(membership):
        return None
    young = {
        node.pod: Plain(
            f"to have been up for {RECONNECT_SECONDS:g} s: StatefulSet "
            f"{membership.topology.statefulset} is {_age(membership.topology.age or 0.0)} old, and "
            "by then it would be connected to a cluster that lists it"
        )
        for node in nodes
        if (node.uptime or 0.0) < RECONNECT_SECONDS
    }
    return Wait(young) if young else None


def may_be_born_twice(membership: Membership) -> bool:
    """Whether nothing is there where, by the StatefulSet's age, a cluster should be."""
    age = membership.topology.age
    if age is None or age <= BORN_TWICE_SECONDS:
        return False
    nodes = membership.view.nodes
    return not any(node.was_finished or holds_data(node) for node in nodes)


def born_twice_notes(membership: Membership) -> tuple[str, ...]:
    """That a cluster is formed where one should be already."""
    if not may_be_born_twice(membership):
        return ()
    return (
        f"made a new, empty cluster though StatefulSet {membership.topology.statefulset} is "
        f"{_age(membership.topology.age or 0.0)} old: were the volumes lost? (--cluster-state "
        "existing forms none)",
    )


def databases_to_ensure(
    nodes: Sequence[NodeView], coordinator: NodeView, members: Sequence[NodeView]
) -> Do | Wait | None:
    """Databases that were asked for: made where they do not exist, waited for where they do.

    One exists as soon as any of the ``members`` knows it. A node that has just lost its volume does
    not, for a moment; made anew there, its map would hide the other's documents.
    """
    knowing = [node for node in members if node.finished]
    if missing := [
        name for name in coordinator.unreadable if all(_lacks(node, name) for node in knowing)
    ]:
        return Do(tuple(EnsureDatabase(coordinator.pod, name) for name in missing))
    late: dict[str, Reason] = {
        node.pod: CannotOpen(node.unreadable) for node in nodes if node.unreadable
    }
    return Wait(late) if late else None


def _lacks(node: NodeView, database: str) -> bool:
    """Whether a node was seen not to know of a database."""
    if node.databases is None:
        return False
    return database in node.unreadable and database not in node.databases


def unread_identity(topology: Topology, nodes: Iterable[NodeView]) -> dict[str, Reason]:
    """Nodes whose configuration could not be read: they may differ in anything."""
    if len(topology.expected) == 1:
        return {}
    return {
        node.pod: Unread("its configuration", "/_node/_local/_config")
        for node in nodes
        if node.identity is None
    }


def identity_steps(drifted: Drift, coordinator: NodeView) -> tuple[Step, ...]:
    """What makes the identities equal."""
    if drifted.secretless:
        return (*drifted.steps, SetSecret(coordinator.pod))
    return drifted.steps


def identity_warnings(membership: Membership, drifted: Drift, policy: Policy) -> tuple[str, ...]:
    """What a person should know of identities that differ."""
    warnings = []
    syncs = [step for step in drifted.steps if "keys" in step.details()]
    keys = sorted({key for step in syncs for key in step.details()["keys"]})
    differing = sorted({step.pod for step in syncs})
    if differing and not policy.repair:
        warnings.append(
            f"{', '.join(differing)} differ from the cluster in {', '.join(keys)}: sessions made "
            "on one node may fail on another (left as it is)"
        )
    if drifted.undecided and differing:
        givers = sorted({str(step.details().get("to", "")) for step in syncs} - {""})
        by = "which has been up the longest"
        if set(drifted.sole) >= set(drifted.undecided):
            by = "the only one that has it"
        elif set(drifted.tied) >= set(drifted.undecided):
            by = "the lowest ordinal of those that are up about as long"
        warnings.append(
            f"no majority of the nodes agrees on {', '.join(drifted.undecided)}: taken from "
            f"{', '.join(givers)}, {by} (--repair-from names another)"
        )
    if policy.repair and ("secret" in keys or drifted.secretless):
        warnings.append(LOGGED_IN_CLEAR)
    if drifted.kept:
        versions = sorted({n.version for n in membership.view.nodes if n.version})
        warnings.append(
            f"{', '.join(drifted.kept)} keep their own password hashes, which are of another "
            f"scheme than the others' (CouchDB {', '.join(versions)}): a node may take a hash that "
            "it does not know for a plain password"
        )
    return tuple(warnings)


def notes_on_shards(view: ClusterView) -> tuple[str, ...]:
    """What a scale-up leaves undone."""
    if not view.without_shards:
        return ()
    grown = ", ".join(sorted(view.without_shards))
    placed = next((n.details for n in view.nodes if n.details and n.details.placement), None)
    ahead = "new ones will" if placed is None else _placed_ahead(view, placed)
    return (
        f"databases that existed before have no shards on {grown} yet; {ahead} "
        '(CouchDB\'s manual, "Shard Management", tells how to move them)',
    )


def _placed_ahead(view: ClusterView, details: NodeDetails) -> str:
    """What new databases do where [cluster] placement spreads them."""
    setting = f"[cluster] placement ({details.placement})"
    outside = sorted(
        node.pod
        for node in view.nodes
        if node.pod in view.without_shards and details.places_on(node.name) is False
    )
    if not outside:
        return f"new ones go by {setting}"
    verb = "is" if len(outside) == 1 else "are"
    return (
        f"nor will new ones: {', '.join(outside)} {verb} in no zone that {setting} names (a zone "
        "comes by COUCHDB_ZONE since 3.5.1, or by `zone` in the documents in /_node/_local/_nodes)"
    )


def notes_on_names(membership: Membership) -> tuple[str, ...]:
    """Names that do not last or cannot grow, and versions that are mixed."""
    nodes = membership.view.nodes
    topology = membership.topology
    notes = []
    if note := refusals.lasting_names_note(nodes):
        notes.append(note)
    if note := refusals.cannot_grow_note(topology, nodes):
        notes.append(note)
    if membership.elsewhere and not membership.survey.clones:
        notes.append(refusals.elsewhere_note(membership))
    versions = sorted({node.version for node in nodes if node.version})
    if len(versions) > 1:
        told = "; ".join(
            f"{version} at {some([n.pod for n in nodes if n.version == version])}"
            for version in versions
        )
        notes.append(f"the nodes run different CouchDBs: {told}")
    return tuple(notes)


def _age(seconds: float) -> str:
    days, hours = int(seconds // 86400), int(seconds // 3600)
    return f"{days} days" if days > 1 else f"{hours} hours" if hours > 1 else "an hour"
