"""The decision in scope ``pod``: the own pod's node is brought in, and nobody else's. Pure.

A pod must be able to start: what is wrong elsewhere is a warning.
"""

from collections.abc import Mapping

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
from couchdiscover.decide.merging import introduction_question, merge_question, some
from couchdiscover.decide.verification import (
    cloned_note,
    closed_note,
    marks_due,
    unseen_note,
    verify,
    volume_answer,
)
from couchdiscover.errors import Denied, Unsafe
from couchdiscover.state.nodes import LoginRefused, NodeView, TooOld
from couchdiscover.state.reasons import (
    CannotOpen,
    NoAddress,
    NotConnectedTo,
    NotFinished,
    NotListedBy,
    NotListing,
    Plain,
    Reason,
    Unread,
)
from couchdiscover.state.steps import AddNode, Decision, Do, Done, Refuse, Step, Wait
from couchdiscover.state.topology import Published


def decide_pod(membership: Membership, policy: Policy) -> Decision:
    """What to do now for the own pod."""
    topology, view = membership.topology, membership.view
    pod = topology.own or ""
    own = view.sight(pod)
    if isinstance(own, LoginRefused):
        return Refuse(Denied, own.reason)
    if isinstance(own, TooOld):
        return refusals.too_old(view) or Wait({pod: Plain("to run a newer CouchDB")})
    if not isinstance(own, NodeView):
        return Wait({pod: own.reason})
    refusal = refusals.names(topology, view.nodes, [own]) or refusals.single(
        topology, [own], allowed=policy.allow_one_copy
    )
    if refusal:
        return refusal
    if answer := volume_answer(membership, own):
        return answer
    if is_disabled(topology, own):
        steps = (enable(topology, own),)
        return Do(steps, notes_on_enabling(membership, steps))

    group = membership.group_of(own)
    others = [cluster for cluster in membership.clusters if own not in cluster.nodes]
    if _is_in(membership, own):
        if others and own.was_finished and not membership.has_majority(group):
            return Refuse(Unsafe, refusals.split([group, *others]))
        return _settle(membership, own, policy)
    if len(group.names) > 1:
        return _complete(membership, group, own, policy)
    holds = holds_data(own)
    if holds is None and len(topology.expected) > 1:
        return Wait({pod: Unread("what it holds", "GET /_node/_local/_all_dbs")})
    if len(others) > (0 if holds else 1):
        return Refuse(Unsafe, refusals.split([group, *others] if holds else others))
    if others:
        return _join(membership, own, others[0].coordinator, policy)
    if holds:
        return _complete(membership, group, own, policy)
    return _lead_or_follow(membership, group, own, policy)


def _is_in(membership: Membership, own: NodeView) -> bool:
    """Whether the own node was a member of a finished cluster before.

    A lone node that reports one and holds nothing is as fresh as any: CouchDB before 3.5.2 pushes
    the shard maps to nodes that are no members any more.
    """
    if own.pod in membership.view.added and not own.finished:
        return False
    if not own.was_finished:
        return False
    lone_set = len(membership.topology.expected) == 1
    return lone_set or not own.alone or holds_data(own) is not False or _led(membership, own)


def _led(membership: Membership, own: NodeView) -> bool:
    """Whether a blank, finished node leads, since nobody else is there to be joined."""
    first = membership.topology.expected[0].name if membership.topology.expected else own.pod
    return own.pod == first and not membership.hidden and not membership.clusters


def _lead_or_follow(
    membership: Membership, group: Cluster, own: NodeView, policy: Policy
) -> Decision:
    """A fresh node, and no cluster in sight: the lowest ordinal leads, the others follow it.

    Only when each other expected pod has answered, or does not run yet: one that is silent for a
    moment may hold the cluster, and a second one would split the set for good.
    """
    topology, view = membership.topology, membership.view
    lead = topology.expected[0]
    refusing = [sight for sight in view if isinstance(sight, LoginRefused)]
    if refusal := refusals.denied(refusing):
        return refusal
    hidden = dict(membership.hidden)
    hidden |= {
        node.pod: Unread("what it holds", "GET /_node/_local/_all_dbs")
        for node in membership.undetermined
        if node.pod != own.pod
    }
    if hidden:
        alone = Done((_unseen(own, hidden),)) if own.pod == lead.name else None
        if any(pod.published is Published.UNKNOWN for pod in topology.expected):
            alone = None  # whoever has no address may be there, and hold a cluster
        return Wait(hidden, at_the_end=alone)
    if own.pod == lead.name:
        return _complete(membership, group, own, policy)
    leader = view.sight(lead.name)
    if not isinstance(leader, NodeView):
        why = membership.silent.get(lead.name) or NoAddress(topology.absent_because(lead.name))
        return Wait({lead.name: why})
    return _join(membership, own, leader, policy)


def _join(membership: Membership, own: NodeView, coordinator: NodeView, policy: Policy) -> Decision:
    """Adds the own node, unless that could hide what either side holds."""
    if refusal := refusals.single(
        membership.topology, [coordinator], allowed=policy.allow_one_copy
    ):
        return refusal
    match merge_question(own, coordinator):
        case Refuse() as refusal:
            return refusal
        case Reason() as reason:
            return Wait({own.pod: reason})
        case _:
            return Do(
                (AddNode(own.pod, coordinator.pod, coordinator.name),), notes_on_names(membership)
            )


def _complete(membership: Membership, group: Cluster, own: NodeView, policy: Policy) -> Decision:
    """The own node belongs to a cluster that is not finished: whoever comes last finishes it.

    The coordinator's list orders the joins. A node is in when it stands there connected, so the
    last one to stand there sees all the others. A node that this run has added waits to be listed
    by some member, even while the coordinator is silent: gone too early, nobody would finish.
    """
    topology, view = membership.topology, membership.view
    coordinator = group.coordinator
    listed = own.cluster_nodes | coordinator.cluster_nodes
    if (
        coordinator.databases is not None
        and not coordinator.was_finished
        and (
            refusal := refusals.unexpected_members(
                membership, listed, late=may_be_born_twice(membership)
            )
        )
    ):
        return refusal  # before any member is written: each boot would bring them back
    if own.alone and coordinator.pod != own.pod:
        return _join(membership, own, coordinator, policy)
    listing = [node for node in group.nodes if own.name in node.cluster_nodes & node.all_nodes]
    if telling := _introductions(membership, coordinator, own):
        return telling
    if coordinator not in listing or (own.pod in view.added and listing == [own]):
        missing = coordinator.pod if coordinator is not own else "another member"
        return Wait({own.pod: NotListedBy(missing, own.unconnected_because or "")})
    unknown = [
        node.pod
        for node in group.nodes
        if node.name in coordinator.cluster_nodes - own.cluster_nodes
    ]
    if unknown:  # the coordinator hands on what comes later, but maybe not what came together
        return Wait({own.pod: NotListing(unknown[0])})
    inside = membership.pods_in(coordinator.cluster_nodes)
    missing_pods = [pod.name for pod in topology.expected if pod.name not in inside]
    if coordinator.finished:  # so is the own node in a moment, and then its copies are looked at
        return Wait({own.pod: NotFinished(own.state, coordinator.pod)})
    if missing_pods or any(_not_created(membership, pod) for pod in inside):
        return Done(_notes(membership, own))
    if coordinator.was_finished:
        return Done((_away(coordinator), *_notes(membership, own)))
    if apart := {
        pod: NotConnectedTo(coordinator.pod, _cause(membership, pod))
        for pod, name in inside.items()
        if name not in coordinator.all_nodes
    }:
        return Wait(apart)
    before = _before(membership, coordinator.pod)
    if hidden := {pod: why for pod, why in membership.silent.items() if pod in before}:
        # Others reach it, and finish through it: two would make the nodes differ.
        return Wait(hidden)
    return finish(membership, group.nodes, coordinator) or Wait(
        {own.pod: Plain("to report a finished cluster, as other members do")}
    )


def _introductions(membership: Membership, coordinator: NodeView, own: NodeView) -> Decision | None:
    """What the own node has not learned, and the coordinator not of the own node."""
    steps, held_back = introductions(membership, [own])
    told: list[Step] = list(steps)
    if coordinator is not own and own.name in coordinator.overdue:
        if reason := introduction_question(coordinator, own):
            held_back.setdefault(coordinator.pod, reason)
        else:
            told.append(AddNode(coordinator.pod, own.pod, own.name, introduces=True))
    if told:
        return Do(tuple(told))
    return Wait(held_back) if held_back else None


def _settle(membership: Membership, own: NodeView, policy: Policy) -> Decision:
    """The own node is in: what is left is its share of databases, copies and identity."""
    topology, view = membership.topology, membership.view
    group = membership.group_of(own)
    if unheard := [
        node
        for node in view.nodes
        if node.name in own.cluster_nodes and not node.alone and own.name not in node.cluster_nodes
    ]:
        # As after a scale-down that was cleared up, where the volume is kept and comes back.
        late = [node for node in unheard if own.name in node.overdue]
        asked = {node.pod: introduction_question(node, own) for node in late}
        telling = tuple(
            AddNode(node.pod, own.pod, own.name, introduces=True)
            for node in late
            if asked[node.pod] is None
        )
        if telling:
            return Do(telling)
        held = {name: reason for name, reason in asked.items() if reason is not None}
        return Wait(held or {own.pod: NotListedBy(unheard[0].pod)})
    if unknown := _unlearned(group, own):
        steps, held_back = introductions(membership, [own])
        waits = held_back or {own.pod: NotListing(unknown[0].pod)}
        return Do(steps) if steps else Wait(waits)
    notes = (*_notes(membership, own), *notes_on_shards(view), *notes_on_names(membership))
    if not own.finished:
        return Done((closed_note(membership.survey) or _away(own), *notes))
    if missing := databases_to_ensure([own], own, group.nodes):
        unseen = _unseen_members(membership, own)
        if not unseen:
            return missing
        # Made anew beside one that they know of, its map would hide the other's documents.
        told = (
            f"{own.pod} cannot open {', '.join(own.unreadable)}, and whether that exists is not "
            f"known while {some(list(unseen))} {'is' if len(unseen) == 1 else 'are'} not there: it "
            "is not made"
        )
        if any(unseen.values()):
            return Wait({own.pod: CannotOpen(own.unreadable)}, at_the_end=Done((told, *notes)))
        notes = (told, *notes)
    # A lone node, as before a scale-up has brought others in, has nobody to differ from.
    if not own.alone and (unread := unread_identity(topology, [own])):
        told = (
            f"whether {own.pod} has the cluster's identity is not known: it fails {unread[own.pod]}"
        )
        return Wait(unread, at_the_end=Done((told, *notes)))
    drifted = drift(
        [node for node in view.nodes if node.name in own.cluster_nodes],
        view.prior,
        policy.repair_from,
        secret_intended=topology.secret_intended,
    )
    mine = drifted.of(own.pod)
    if policy.repair and policy.repair_from in membership.silent:
        notes = (
            f"{policy.repair_from}, which --repair-from names, does not answer: {own.pod} keeps "
            "its own identity",
            *notes,
        )
    if mine.differs:
        notes = (*identity_warnings(membership, mine, policy), *notes)
    if mine.intended:
        notes = (
            f"{own.pod} has the secret that its environment sets, and other nodes have another: "
            "its sessions fail there until they are restarted, too",
            *notes,
        )
    if policy.repair and (steps := identity_steps(mine, own)):
        return Do(steps, notes)
    if note := unseen_note(membership, own):
        notes = (note, *notes)
    # Whoever finishes verifies, and marks, everybody.
    verified = [n for n in view.nodes if n.finished] if view.finished_here else [own]
    verdict = verify(membership, verified, group.coordinator, policy)
    if verdict is not None:
        return verdict.as_warning(notes)
    return Done(notes, marks_due(membership, verified, policy))


def _unseen_members(membership: Membership, own: NodeView) -> dict[str, bool]:
    """Members that do not answer or are not connected, and whether they are waited for.

    A pod without an address may be one that OrderedReady makes only after this one.
    """
    answering = {node.name for node in membership.view.nodes} & own.all_nodes
    unseen = sorted(own.cluster_nodes - answering - set(membership.beside) - {own.name})
    names = {name: membership.pods.get(name, name) for name in unseen}
    return {pod: pod not in membership.absent for pod in names.values()}


def _unlearned(group: Cluster, own: NodeView) -> list[NodeView]:
    """Members that answer, that others list, and that the own node does not.

    As of one that has just lost its volume: what it compares itself with is not the cluster yet.
    One that only lists others is still joining, and nobody waits for that.
    """
    others = [node for node in group.nodes if node is not own]
    return [
        node
        for node in others
        if node.name not in own.cluster_nodes
        and any(node.name in other.cluster_nodes for other in others if other is not node)
    ]


# --- notes ------------------------------------------------------------------------------------


def _notes(membership: Membership, own: NodeView) -> tuple[str, ...]:
    """What is not as it should be, and no reason for a pod not to start."""
    notes = []
    if note := _cut_off(membership, own):
        notes.append(note)
    group = membership.group_of(own)
    foreign = [c for c in membership.clusters if own not in c.nodes]
    if own.was_finished and foreign:
        notes.append(refusals.split([group, *foreign]))
    if cloned := cloned_note(membership.survey):
        notes.append(cloned)
    if membership.left_behind and not set(membership.left_behind).isdisjoint(own.cluster_nodes):
        notes.append(refusals.left_behind_note(membership))
    notes.extend(
        f"{sight.pod} refused the credentials that {own.pod} accepts: {sight.reason}"
        for sight in membership.view
        if isinstance(sight, LoginRefused)
    )
    return tuple(notes)


def _cut_off(membership: Membership, own: NodeView) -> str | None:
    """That the own node is connected to no other member: nobody is waited for on that account."""
    others = own.cluster_nodes - {own.name}
    if not others or others & own.all_nodes:
        return None
    told = f"{own.pod} is a member but connected to no other one; it serves what it holds"
    answering = [node.pod for node in membership.view.nodes if node.name in others]
    if not answering:
        return (
            f"{told}, and connects when the others are back (CouchDB tries again within a minute)"
        )
    verb = "answers" if len(answering) == 1 else "answer"
    cause = f" ({own.unconnected_because})" if own.unconnected_because else ""
    return (
        f"{told}, though {some(answering)} {verb}{cause}: "
        "until CouchDB tries again, within a minute, reads through it may miss documents; "
        "`couchdiscover check` says whether it is over"
    )


def _away(node: NodeView) -> str:
    return (
        f"{node.pod} was in a finished cluster and cannot open _users and _replicator now: their "
        "copies are on members that are not there, or in maintenance mode; it is in, and nothing "
        "is finished or made anew"
    )


def _unseen(own: NodeView, hidden: Mapping[str, Reason]) -> str:
    told = "; ".join(f"{pod} fails {reason}" for pod, reason in list(hidden.items())[:5])
    return (
        f"{own.pod} goes on alone, and could not see whether others hold a cluster: {told}. If "
        "they do, there are two now; run `couchdiscover check` when they answer"
    )


def _not_created(membership: Membership, pod: str) -> bool:
    """Whether the controller has not made the pod yet (OrderedReady): nobody waits for it."""
    if any(name in membership.connected for name, of in membership.pods.items() if of == pod):
        return False  # whatever the status says, which may be late
    created = membership.topology.created_pods
    beyond = membership.topology.expected[created:] if created is not None else ()
    return pod in membership.absent and any(each.name == pod for each in beyond)


def _before(membership: Membership, pod: str) -> frozenset[str]:
    """Expected pods of lower ordinals."""
    names = [each.name for each in membership.topology.expected]
    return frozenset(names[: names.index(pod)] if pod in names else names)


def _cause(membership: Membership, pod: str) -> str:
    sight = membership.view.sight(pod)
    return (sight.unconnected_because or "") if isinstance(sight, NodeView) else ""
