"""Observation: the configurations, and who accepts whose sessions."""

from collections.abc import Mapping
from dataclasses import replace
from functools import partial

from couchdiscover.couch.asking import Asker, node_of
from couchdiscover.couch.client import CouchFailure, CouchNode, ErrorAnswer
from couchdiscover.couch.configuration import details_of, identity_of
from couchdiscover.couch.volumes import read_maps
from couchdiscover.decide.common import may_be_born_twice
from couchdiscover.decide.identity import finishes_for_all, needs_sessions, needs_uptime
from couchdiscover.decide.membership import Membership
from couchdiscover.state.nodes import ClusterView, NodeDetails, NodeView
from couchdiscover.state.topology import Topology

MOST_GIVERS = 8
"""Nodes whose sessions are tried on all others: one for each different pair of hash and secret."""


def with_config(asker: Asker, node: CouchNode, view: NodeView) -> NodeView:
    config = node.config()
    user = asker.fleet.access.credentials.user
    details = read_details(node, view.pod, config)
    return replace(view, identity=identity_of(config, user), details=details)


def read_details(
    node: CouchNode, pod: str, config: Mapping[str, Mapping[str, str]] | None = None
) -> NodeDetails:
    """What a node's configuration says, and the members' zones where it asks for them.

    Raises CouchFailure where the configuration cannot be read; zones that cannot are unknown.
    """
    found = details_of(pod, node.config() if config is None else config)
    if found.placement is None:
        return found
    try:
        zones = {name: body.get("zone") for name, body in node.node_documents().items()}
    except CouchFailure:
        return found
    return replace(found, zones={n: zone for n, zone in zones.items() if isinstance(zone, str)})


def with_leaders(asker: Asker, topology: Topology, view: ClusterView) -> ClusterView:
    """The configuration, and the databases, of those through which a cluster is finished."""
    forming = [
        group
        for group in Membership.of(topology, view).groups
        if not group.coordinator.alone and not any(node.finished for node in group.nodes)
    ]
    # A node that hides its version tells by its password hash what it can read.
    hiding = [node for group in forming for node in group.nodes if not node.release]
    view = asker.each(
        topology,
        view,
        [node for node in hiding if node.identity is None],
        partial(with_config, asker),
    )
    leaders = []
    for group in forming:
        nodes = [node for each in group.nodes if (node := node_of(view, each.pod)) is not None]
        coordinator = node_of(view, group.coordinator.pod) or group.coordinator
        giver = finishes_for_all(nodes, coordinator)
        leaders += [coordinator] if giver.pod == coordinator.pod else [coordinator, giver]
    view = asker.each(
        topology,
        view,
        [node for node in leaders if node.identity is None],
        partial(with_config, asker),
    )
    membership = Membership.of(topology, view)
    if membership.left_behind and not any(node.was_finished for node in view.nodes):
        # Whether nobody's names come from the seed list, which brings them back at each boot.
        first = [node for node in view.nodes[:1] if node.details is None]
        view = asker.each(topology, view, first, partial(with_config, asker))
    if len(topology.expected) > 1:  # which of two settings makes them stay alone
        singles = [node for node in view.nodes if node.single and node.details is None]
        view = asker.each(topology, view, singles, partial(with_config, asker))
    if may_be_born_twice(Membership.of(topology, view)):
        young = [node for node in view.nodes if node.uptime is None]
        view = asker.each(
            topology, view, young, lambda client, node: replace(node, uptime=client.uptime())
        )
    own = [n for n in view.nodes if n.pod == topology.own and not n.finished and not n.alone]
    asked = {node.pod: node for node in [*leaders, *own] if node.databases is None}
    return asker.each(
        topology,
        view,
        [view_node for n in asked if (view_node := node_of(view, n)) is not None],
        partial(_with_databases, asker),
    )


def _with_databases(asker: Asker, client: CouchNode, node: NodeView) -> NodeView:
    """What a node's shard maps name, and its state once more where they say that it was finished.

    The state that was asked for before may be older than a map that has come by replication since:
    a member that has just joined would be taken for one whose copies are away.
    """
    found = replace(node, databases=_databases(client))
    if found.was_finished and not found.finished:
        found = replace(found, state=client.setup_state(asker.databases))
    return found


def _databases(client: CouchNode) -> frozenset[str]:
    """What a node's shard maps name; in maintenance mode ``_all_dbs`` is 412, and they are read."""
    try:
        return client.databases()
    except ErrorAnswer:
        return frozenset(each.database for each in read_maps(client))


def with_identities(asker: Asker, topology: Topology, view: ClusterView) -> ClusterView:
    view = _given_uuid(asker, topology, view)
    intended = topology.secret_intended
    if view.prior and needs_uptime(view.nodes, view.prior, secret_intended=intended):
        voters = [node for node in view.nodes if node.name in view.prior]
        view = asker.each(
            topology,
            view,
            voters,
            lambda client, node: replace(node, uptime=client.uptime()),
        )
    members = [node for node in view.nodes if node.finished and not node.alone]
    if needs_sessions(members):
        view = _with_sessions(asker, topology, view, members)
    return view


def _with_sessions(
    asker: Asker, topology: Topology, view: ClusterView, members: list[NodeView]
) -> ClusterView:
    """Tries who accepts whose sessions: that is what equal hashes and secrets are for."""
    if asker.fleet.access.door is not None:
        return view  # behind the API server's proxy cookies are needed for our own way
    different = {(n.identity.admin, n.identity.secret): n for n in reversed(members) if n.identity}
    cookies: dict[str, str] = {}

    def opened(client: CouchNode, node: NodeView) -> NodeView:
        cookies[node.pod] = client.session_cookie()
        return node

    accepted: dict[str, frozenset[str]] = {}

    def tried(client: CouchNode, node: NodeView) -> NodeView:
        accepted[node.pod] = frozenset(
            pod for pod, cookie in cookies.items() if client.accepts_session(cookie)
        )
        return node

    asker.each(topology, view, list(different.values())[:MOST_GIVERS], opened)
    asker.each(topology, view, members, tried)
    return view.seen_anew(
        {
            node.pod: replace(
                node,
                sessions=frozenset(pod for pod, by in accepted.items() if node.pod in by),
            )
            for node in view.nodes
            if node.pod in cookies and len(accepted) == len(members)
        }
    )


def _given_uuid(asker: Asker, topology: Topology, view: ClusterView) -> ClusterView:
    """Has one node make a uuid where all have lost theirs, as after a rolling restart.

    A node of the official image makes one at its first ``GET /``: asked one after the other by
    anybody, each would make another.
    """
    compared = [node for node in view.nodes if node.identity and node.name in view.prior]
    if asker.only_looks or any(node.identity and node.identity.uuid for node in compared):
        return view

    def welcome(client: CouchNode, node: NodeView) -> NodeView:
        client.welcome()
        return with_config(asker, client, node)

    return asker.each(topology, view, compared[:1], welcome)
