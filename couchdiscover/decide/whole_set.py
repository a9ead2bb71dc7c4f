"""The decision in scope ``set``: every expected node is brought in. Pure."""

from collections.abc import Iterable, Mapping

from couchdiscover.decide import refusals
from couchdiscover.decide.common import (
    Policy,
    databases_to_ensure,
    enable,
    finish,
    identity_steps,
    identity_warnings,
    introductions,
    is_disabled,
    may_be_born_twice,
    notes_on_enabling,
    notes_on_names,
    notes_on_shards,
    unread_identity,
)
from couchdiscover.decide.identity import drift
from couchdiscover.decide.membership import Cluster, Membership, holds_data
from couchdiscover.decide.merging import merge_question
from couchdiscover.decide.verification import closed_note, marks_due, verify, volume_refusal
from couchdiscover.errors import NotSo, Unsafe
from couchdiscover.state.nodes import LoginRefused, NodeView
from couchdiscover.state.reasons import (
    AnotherPodsAddress,
    CannotOpen,
    ConnectedToNoMember,
    NotConnectedTo,
    NotFinished,
    NotListing,
    Plain,
    Reason,
    Unread,
)
from couchdiscover.state.steps import AddNode, Decision, Do, Done, Refuse, Step, Wait


def decide_set(membership: Membership, policy: Policy) -> Decision:
    """What to do now for the whole set."""
    topology, view = membership.topology, membership.view
    if not topology.expected:
        return Done()
    if refusal := _refusal(membership, policy):
        return refusal
    waits: dict[str, Reason] = dict(membership.silent)
    enabling: list[Step] = [
        enable(topology, node) for node in view.nodes if is_disabled(topology, node)
    ]
    several = len(topology.expected) > 1
    if several:
        waits |= {
            node.pod: Unread("what it holds", "GET /_node/_local/_all_dbs")
            for node in membership.undetermined
        }
    if policy.existing_only and (forming := _would_form(membership, waits)):
        return forming
    cluster = membership.cluster
    if cluster is None and waits:
        # Who holds a cluster is known only when all have been seen: till then none is formed.
        return Do(tuple(enabling)) if enabling else Wait(waits, at_the_end=_misplaced(waits))
    coordinator = cluster.coordinator if cluster else view.nodes[0]
    members = cluster.names if cluster else frozenset({coordinator.name})
    linked = membership.group_of(coordinator).nodes

    joining: list[Step] = []
    for node in view.nodes:
        # Who lists nobody who is there is as alone as who lists nobody.
        if node.pod == coordinator.pod or (node in linked and not node.alone):
            continue
        match merge_question(node, coordinator):
            case Refuse() as refusal:
                return refusal
            case Reason() as reason:
                waits[node.pod] = reason
            case _:
                joining.append(AddNode(node.pod, coordinator.pod, coordinator.name))
    if enabling or joining:
        notes = notes_on_names(membership) if joining else notes_on_enabling(membership, enabling)
        return Do((*enabling, *joining), notes)
    telling, held_back = introductions(membership, view.nodes)
    if telling:
        return Do(telling)
    waits = _partings(membership, members) | held_back | waits
    if waits:
        return Wait(waits, at_the_end=_unsafe_maps(held_back) or _misplaced(waits))
    return _complete(membership, coordinator, policy)


def _complete(membership: Membership, coordinator: NodeView, policy: Policy) -> Decision:
    """Every node is a member and connected: what is left is to finish, and to verify."""
    topology, view = membership.topology, membership.view
    if finishing := finish(membership, view.nodes, coordinator):
        return finishing
    if late := {node.pod: _unfinished(node) for node in view.nodes if not node.finished}:
        closed = closed_note(membership.survey)
        return Refuse(NotSo, closed) if closed else Wait(late)
    if missing := databases_to_ensure(view.nodes, coordinator, view.nodes):
        return missing
    if topology.rollout:
        rolling = Plain(f"the rollout of StatefulSet {topology.statefulset} to end")
        return Wait({"": rolling})

    if unread := unread_identity(topology, view.nodes):
        return Wait(unread)
    drifted = drift(
        view.nodes, view.prior, policy.repair_from, secret_intended=topology.secret_intended
    )
    warnings = (
        *identity_warnings(membership, drifted, policy),
        *notes_on_shards(view),
        *notes_on_names(membership),
    )
    if policy.repair and (steps := identity_steps(drifted, coordinator)):
        return Do(steps, warnings)
    verdict = verify(membership, view.nodes, coordinator, policy)
    if verdict is not None:
        return verdict.with_warnings(warnings)
    if drifted.intended:
        return Refuse(
            NotSo,
            f"sessions made on {', '.join(drifted.intended)} fail on other nodes: the secret that "
            "its environment sets (COUCHDB_SECRET) is not the others'; `kubectl rollout restart "
            f"statefulset/{topology.statefulset}` gives it to all",
            warnings,
        )
    if left := refusals.left_behind(membership):
        return Refuse(left.error, left.reason, warnings)
    return Done(warnings, marks_due(membership, view.nodes, policy))


def _refusal(membership: Membership, policy: Policy) -> Refuse | None:
    """What is refused before anything is written."""
    topology, view = membership.topology, membership.view
    nodes = view.nodes
    refusal = (
        refusals.denied([sight for sight in view if isinstance(sight, LoginRefused)])
        or refusals.too_old(view)
        or refusals.names(topology, nodes, nodes)
        or refusals.single(topology, nodes, allowed=policy.allow_one_copy)
        or volume_refusal(membership)
    )
    if refusal:
        return refusal
    if len(membership.clusters) > 1:
        return Refuse(Unsafe, refusals.split(membership.clusters))
    if not any(node.was_finished for node in nodes) and _leaders_known(membership):
        late = may_be_born_twice(membership)
        return refusals.unexpected_members(membership, membership.listed, late=late)
    return None


def _leaders_known(membership: Membership) -> bool:
    """Whether it is known of those through which a cluster is finished that it never was."""
    leaders = (group.coordinator for group in membership.groups)
    return all(node.alone or node.databases is not None for node in leaders)


def _would_form(membership: Membership, waits: Mapping[str, Reason]) -> Decision | None:
    """For ``--cluster-state existing``: what there is instead of forming a cluster.

    Nodes that only list each other, as a killed run leaves them, are none yet: finishing them is
    forming one. While somebody is silent, or it is not known what is there, it is waited for.
    """
    formed = {group.coordinator.pod: _was_formed(group) for group in membership.groups}
    if any(formed.values()):
        return None
    unknown = {
        pod: Unread("whether it was finished once", "GET /_all_dbs")
        for pod, known in formed.items()
        if known is None
    }
    if missing := {**unknown, **waits}:
        return Wait(missing, at_the_end=_misplaced(waits))
    return Refuse(
        Unsafe,
        f"every pod of StatefulSet {membership.topology.statefulset} answers and none is in a "
        "cluster that was finished once or holds data, and --cluster-state existing forms no new "
        "one: were the volumes lost? Restore them, or run it once with --cluster-state auto",
    )


def _was_formed(group: Cluster) -> bool | None:
    """Whether nodes that are linked are more than that; None where it is not known."""
    if group.was_finished or any(holds_data(node) for node in group.nodes if node.alone):
        return True
    leader = group.coordinator
    if leader.alone:
        return holds_data(leader)
    return None if leader.databases is None else bool(leader.databases)


def _unfinished(node: NodeView) -> Reason:
    if node.was_finished:  # finished once: the databases' copies are away
        return CannotOpen(("_users", "_replicator"))
    return NotFinished(node.state)


def _misplaced(waits: Mapping[str, Reason]) -> Refuse | None:
    """Pods at whose addresses other pods' nodes answer: where that stays, two have one name.

    Pods of other sets only have an address that was this pod's, and have names of their own.
    """
    told = [
        f"{pod} has the Erlang name {reason.name}, which is another pod's (at {reason.address})"
        for pod, reason in waits.items()
        if isinstance(reason, AnotherPodsAddress) and reason.expected
    ]
    if not told:
        return None
    return Refuse(
        Unsafe,
        f"{'; '.join(told)}: a cluster would take them for one node; give each pod "
        f"{refusals.NODENAME}",
    )


def _unsafe_maps(held_back: Mapping[str, Reason]) -> Refuse | None:
    """Members whose shard maps differ to the end are of two clusters."""
    if not held_back:
        return None
    told = "; ".join(f"{pod} fails {reason}" for pod, reason in held_back.items())
    return Refuse(
        Unsafe,
        f"{told}: they list each other, and are of two clusters; joined any further, documents "
        "would be hidden for good",
    )


def _partings(membership: Membership, members: Iterable[str]) -> dict[str, Reason]:
    """What keeps each node from seeing exactly the expected members, connected.

    Told of the node that is missed, where one can be made out: three nodes that miss the fourth are
    one thing to say, not three.
    """
    view = membership.view
    expected = frozenset(node.name for node in view.nodes)
    unexpected = membership.unexpected_in({*members, *membership.listed})
    tolerated = membership.beyond | frozenset(unexpected)
    waits: dict[str, Reason] = {}
    for node in view.nodes:
        for name in membership.unlisted(node)[:1]:
            waits.setdefault(node.pod, NotListing(membership.name_of(name)))
        for name in sorted((expected & node.cluster_nodes) - node.all_nodes):
            pod = membership.name_of(name)
            waits.setdefault(pod, NotConnectedTo(node.pod, _cause(membership, pod)))
        foreign = node.all_nodes - node.cluster_nodes - expected - tolerated
        for name in sorted(foreign)[:1]:
            waits.setdefault(node.pod, ConnectedToNoMember(name))
    return waits


def _cause(membership: Membership, pod: str) -> str:
    sight = membership.view.sight(pod)
    return (sight.unconnected_because or "") if isinstance(sight, NodeView) else ""
