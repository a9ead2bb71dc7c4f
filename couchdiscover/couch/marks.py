"""The mark on a verified volume: which node it was, and whom it was a member with."""

import contextlib
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime

from couchdiscover.couch.client import CouchFailure, Fleet
from couchdiscover.net.workers import for_each
from couchdiscover.state.nodes import ClusterView, NodeView
from couchdiscover.state.topology import Topology
from couchdiscover.state.volumes import Mark

MOST_MEMBERS = 100
"""Members whose uuids a mark holds at most."""

KEPT = 8
"""Former uuids of a member's ``_dbs`` that a mark keeps."""


def write_marks(
    pods: Sequence[str],
    topology: Topology,
    view: ClusterView,
    fleet: Fleet,
    was: Mapping[str, Sequence[str]] | None = None,
) -> tuple[str, ...]:
    """Leaves the mark on some pods' volumes, and looks whether it is there.

    ``was`` are names that a pod's volume had before; those that its mark has already are kept.
    Returns what went wrong, as warnings: a mark is evidence for later, and nothing depends on it.
    """
    nodes = [node for pod in pods if isinstance(node := view.sight(pod), NodeView)]
    uuids = _uuids(nodes, topology, view, fleet)
    at = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")

    def leave(node: NodeView) -> str:
        pod = topology.pod(node.pod)
        own = uuids.get(node.name)
        if pod is None or own is None:
            return "its _dbs could not be read"
        client = fleet.node(pod, node.address)
        before = node.volume.mark.was if node.volume and node.volume.mark else ()
        names = dict.fromkeys((*(was or {}).get(node.pod, ()), *before))
        mark = Mark(node.name, own, _seen(node, uuids, view), at, tuple(names))
        try:
            client.put_mark(mark)
            found, _ = client.mark_and_traces()
        except CouchFailure as failure:
            return str(failure)
        # Another run at the same moment writes the same, with its own time.
        there = found is not None and (found.node, found.uuid) == (mark.node, mark.uuid)
        return "" if there else "it is not there after it was written"

    problems = for_each(nodes, leave, fleet.patience)
    return tuple(
        f"{node.pod}: the mark on its volume could not be written ({problem or 'no answer'}); a "
        "lost volume would not be told from a new one"
        for node, problem in zip(nodes, problems, strict=True)
        if problem != ""
    )


def _seen(
    node: NodeView, uuids: Mapping[str, str], view: ClusterView
) -> Mapping[str, tuple[str, ...]]:
    """The uuid of each member's ``_dbs``, before those that a former mark has.

    Of a member of another set a second one is noted only where its own mark says so: it may have
    lost its volume, and nobody proves its copies here.
    """
    before = node.volume.mark.seen if node.volume and node.volume.mark else {}
    ours = {each.name for each in view.nodes}
    seen = {}
    for name in sorted(node.cluster_nodes)[:MOST_MEMBERS]:
        earlier = before.get(name, ())
        now = (uuids[name],) if name in uuids else ()
        if name not in ours and earlier and not set(now) <= set(earlier):
            mark = view.others[name].mark if name in view.others else None
            now = now if mark is not None and mark.uuid in now else ()
        known = dict.fromkeys((*now, *earlier))
        if known:
            seen[name] = tuple(known)[:KEPT]
    return seen


def _uuids(
    nodes: Sequence[NodeView], topology: Topology, view: ClusterView, fleet: Fleet
) -> Mapping[str, str]:
    """The uuid of each member's ``_dbs``, by Erlang name, as far as it can be had.

    Of expected pods from themselves, of all others through a node that is connected to them.
    """
    known = {
        node.name: node.volume.uuid
        for node in view.nodes
        if node.volume is not None and node.volume.uuid is not None
    }
    wanted = {name for node in nodes for name in node.cluster_nodes & node.all_nodes}
    asked: dict[str, NodeView] = {node.name: node for node in view.nodes}

    def own(node: NodeView) -> str | None:
        pod = topology.pod(node.pod)
        if pod is None:
            return None
        with contextlib.suppress(CouchFailure):
            return fleet.node(pod, node.address).dbs_info().uuid
        return None

    rest = [asked[name] for name in sorted(wanted - known.keys()) if name in asked]
    found = dict(zip((n.name for n in rest), for_each(rest, own, fleet.patience), strict=True))
    known |= {name: uuid for name, uuid in found.items() if uuid is not None}
    known |= {
        name: volume.uuid
        for name, volume in view.others.items()
        if volume.uuid is not None and name in wanted
    }
    return known
