"""What ``check`` reads besides membership: configuration, shard maps, why a member is cut off."""

from dataclasses import replace

from couchdiscover.couch.client import CouchFailure, CouchNode, Fleet
from couchdiscover.couch.connectivity import likeliest_cause
from couchdiscover.couch.volumes import read_maps
from couchdiscover.decide.findings import Inspection
from couchdiscover.net.workers import for_each
from couchdiscover.state.nodes import ClusterView, NodeDetails, NodeView
from couchdiscover.state.topology import Topology
from couchdiscover.state.volumes import ShardMap

DEFAULT_COPIES = 3
"""[cluster] n where nothing is set (CouchDB's default.ini)."""

PROBE_SECONDS = 2.0
"""Seconds for each probe of a port that may be closed."""


def inspect(topology: Topology, view: ClusterView, fleet: Fleet) -> Inspection:
    """Reads one configuration of each node, and the shard maps from one of them."""
    unread: list[tuple[str, str]] = []
    details: list[NodeDetails] = []

    def ask(node: NodeView) -> NodeDetails | str:
        try:
            return _details(node.pod, _client(topology, fleet, node))
        except CouchFailure as failure:
            return str(failure)

    for node, answer in zip(view.nodes, for_each(view.nodes, ask, fleet.patience), strict=True):
        if isinstance(answer, NodeDetails):
            details.append(answer)
        else:
            unread.append((f"the configuration of {node.pod}", answer or "no answer in time"))
    maps: list[ShardMap] = []
    problem = "no node answers"
    # A node that has not joined knows of its own databases only.
    for node in sorted(view.nodes, key=lambda node: (not node.finished, node.alone)):
        try:
            maps = read_maps(_client(topology, fleet, node))
        except CouchFailure as failure:
            problem = str(failure)
        else:
            break
    else:
        unread.append(("the databases' shard maps", problem))
    return Inspection(tuple(details), tuple(maps), tuple(unread))


def diagnose(view: ClusterView, fleet: Fleet) -> ClusterView:
    """Tells, of members that answer and are not connected, the likeliest cause.

    Not through the API server's proxy, behind which neither names nor ports can be tried.
    """
    if fleet.access.door is not None:
        return view
    cut_off = [
        node
        for node in view.nodes
        if node.severed is None
        and any(node.name in other.cluster_nodes - other.all_nodes for other in view.nodes)
    ]
    causes = for_each(
        cut_off,
        lambda node: likeliest_cause(node.name, node.address, PROBE_SECONDS),
        fleet.patience,
    )
    told = {
        node.pod: replace(node, severed=cause or "its name is not resolved in time")
        for node, cause in zip(cut_off, causes, strict=True)
    }
    return replace(view, sights=tuple(told.get(sight.pod, sight) for sight in view.sights))


def _client(topology: Topology, fleet: Fleet, node: NodeView) -> CouchNode:
    pod = topology.pod(node.pod)
    if pod is None:
        raise CouchFailure(f"{node.pod} is no pod of the StatefulSet any more")
    return fleet.node(pod, node.address)


def _details(pod: str, client: CouchNode) -> NodeDetails:
    config = client.config()
    mode = config.get("couchdb", {}).get("maintenance_mode")
    copies = config.get("cluster", {}).get("n", "")
    return NodeDetails(
        pod,
        mode if mode in ("true", "nolb") else None,
        int(copies) if copies.isascii() and copies.isdigit() and copies != "0" else DEFAULT_COPIES,
    )
