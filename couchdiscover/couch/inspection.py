"""What ``check`` reads besides membership: configuration, shard maps, why a member is cut off."""

from collections.abc import Sequence
from dataclasses import replace

from couchdiscover.couch.client import CouchFailure, CouchNode, Fleet
from couchdiscover.couch.connectivity import likeliest_cause, template_cause
from couchdiscover.couch.copies import Nodes, differing_security, look_at
from couchdiscover.couch.identities import read_details
from couchdiscover.couch.volumes import read_maps
from couchdiscover.decide.copies import LISTS_PURGES, Proof, equal, lacking_purges
from couchdiscover.decide.findings import Inspection
from couchdiscover.decide.membership import Membership
from couchdiscover.decide.verification import unread_volumes
from couchdiscover.net.deadline import Deadline
from couchdiscover.net.workers import for_each
from couchdiscover.state.nodes import ClusterView, NodeDetails, NodeView
from couchdiscover.state.topology import Topology
from couchdiscover.state.volumes import ShardMap

COMPARED_REQUESTS = 300
"""Requests for one look at whether copies were rolled back: a few seconds of CouchDB's CPU."""

MORE_LOOKS = 2
LOOK_SECONDS = 1.0
"""Looks at pairs of copies that differ, and the seconds before each."""

PROBE_SECONDS = 2.0
"""Seconds for each probe of a port that may be closed."""


def inspect(topology: Topology, view: ClusterView, fleet: Fleet, deadline: Deadline) -> Inspection:
    """Reads the configuration of each node that has not told it yet, and one node's shard maps."""
    unread: list[tuple[str, str]] = []
    details = {node.pod: node.details for node in view.nodes if node.details is not None}

    def ask(node: NodeView) -> NodeDetails | str:
        try:
            return read_details(_client(topology, fleet, node), node.pod)
        except CouchFailure as failure:
            return str(failure)

    rest = [node for node in view.nodes if node.pod not in details]
    for node, answer in zip(rest, for_each(rest, ask, fleet.patience), strict=True):
        if isinstance(answer, NodeDetails):
            details[node.pod] = answer
        else:
            unread.append((f"the configuration of {node.pod}", answer or "no answer in time"))
    if _is_whole(topology, view):
        # What `run` would not call verified so is no good news here either.
        lacks = unread_volumes(Membership.of(topology, view), view.nodes)
        unread += [(f"the volume of {pod}", f"it fails {lack}") for pod, lack in lacks.items()]
    maps, problem = _maps(topology, view, fleet)
    if maps is None:
        unread.append(("the databases' shard maps", problem))
    known = (details[node.pod] for node in view.nodes if node.pod in details)
    proof, because = _compared(topology, view, fleet, deadline, maps or ())
    securities = _securities(topology, view, fleet, deadline, proof, maps or ())
    amiss = {pair.file.database for pair in proof.rolled_back | proof.uneven}
    listed = all(node.release >= LISTS_PURGES for node in view.nodes)
    amiss |= lacking_purges(proof, maps or (), listed=listed)
    return Inspection(
        tuple(known),
        tuple(maps or ()),
        tuple(unread),
        rolled_back=tuple(sorted(amiss)),
        in_doubt=tuple(sorted({pair.file.database for pair in proof.lagging} - amiss)),
        securities=securities,
        not_compared=len(proof.pairs) - len(proof.seen),
        because=because,
    )


def _is_whole(topology: Topology, view: ClusterView) -> bool:
    """Whether all are members and connected: elsewhere copies differ for other reasons."""
    names = {node.name for node in view.nodes}
    return len(names) == len(topology.expected) and all(
        node.finished and names <= node.all_nodes and names <= node.cluster_nodes | {node.name}
        for node in view.nodes
    )


def _compared(
    topology: Topology,
    view: ClusterView,
    fleet: Fleet,
    deadline: Deadline,
    maps: Sequence[ShardMap],
) -> tuple[Proof, str]:
    """Whether copies were rolled back, and why some of them, if any, were not compared.

    In a whole cluster only: elsewhere copies differ for other reasons. A pair that differs is
    looked at once more, since under writers two good copies differ for a moment.
    """
    names = {node.name: node for node in view.nodes}
    if len(names) < 2 or not _is_whole(topology, view) or view.copies is not None:
        return Proof(()), ""
    proof = equal(maps, names.keys())
    if fleet.access.door is not None:
        return proof, "behind the API server's proxy the files of a node cannot be asked for"
    clients = Nodes(
        {name: _client(topology, fleet, node) for name, node in names.items()}, fleet.patience
    )
    left_out = len(proof.pairs) - len(proof.batch(COMPARED_REQUESTS))
    proof = look_at(proof, clients, COMPARED_REQUESTS)
    for _ in range(MORE_LOOKS):
        if not proof.in_doubt:
            break
        deadline.rest(LOOK_SECONDS)
        lagging = proof.lagging
        proof = look_at(proof, clients, COMPARED_REQUESTS)
        proof = replace(proof, lagging=proof.lagging & lagging)  # or it was a purge on its way
    return proof, "there are too many for one look" if left_out else "they could not be read"


def _securities(
    topology: Topology,
    view: ClusterView,
    fleet: Fleet,
    deadline: Deadline,
    proof: Proof,
    maps: Sequence[ShardMap],
) -> dict[str, tuple[str, ...]]:
    """Databases whose ``_security`` is not the same on all nodes, of those that were compared.

    Looked at again where it differs: somebody may be setting it.
    """
    compared = {pair.file.database for pair in proof.seen}
    clients = {node.name: _client(topology, fleet, node) for node in view.nodes}
    nodes = Nodes(clients, fleet.patience)
    found = differing_security((each for each in maps if each.database in compared), nodes)
    for _ in range(MORE_LOOKS):
        if not found:
            break
        deadline.rest(LOOK_SECONDS)
        found = differing_security((each for each in maps if each.database in found), nodes)
    return found


def _maps(
    topology: Topology, view: ClusterView, fleet: Fleet
) -> tuple[Sequence[ShardMap] | None, str]:
    """The shard maps, from one node that has joined; as they were read already, where they were."""
    problem = "no node answers"
    # A node that has not joined knows of its own databases only.
    for node in sorted(view.nodes, key=lambda node: (not node.finished, node.alone)):
        if node.volume is not None and node.volume.maps is not None:
            return node.volume.maps, ""
        try:
            return read_maps(_client(topology, fleet, node)), ""
        except CouchFailure as failure:
            problem = str(failure)
    return None, problem


def diagnose(topology: Topology, view: ClusterView, fleet: Fleet) -> ClusterView:
    """Tells, of members that answer and are not connected, the likeliest cause.

    Through the API server's proxy neither names nor ports can be tried: it is what the template
    lacks, then.
    """
    cut_off = [
        node
        for node in view.nodes
        if node.unconnected_because is None
        and any(node.name in other.cluster_nodes - other.all_nodes for other in view.nodes)
    ]
    if fleet.access.door is not None:
        lacks = "; ".join(template_cause(topology)) or None
        return view.seen_anew(
            {node.pod: replace(node, unconnected_because=lacks) for node in cut_off}
        )
    causes = for_each(
        cut_off,
        lambda node: likeliest_cause(topology, node, PROBE_SECONDS),
        fleet.patience,
    )
    told = {
        node.pod: replace(node, unconnected_because=cause or "its name is not resolved in time")
        for node, cause in zip(cut_off, causes, strict=True)
    }
    return view.seen_anew(told)


def _client(topology: Topology, fleet: Fleet, node: NodeView) -> CouchNode:
    pod = topology.pod(node.pod)
    if pod is None:
        raise CouchFailure(f"{node.pod} is no pod of the StatefulSet any more")
    return fleet.node(pod, node.address)
