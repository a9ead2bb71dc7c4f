"""Who belongs to whom: clusters among the nodes that answer, their coordinator, ghosts. Pure."""

import ipaddress
from collections.abc import Collection, Mapping
from dataclasses import dataclass

from couchdiscover.state.nodes import ClusterView, NodeView, Unreachable
from couchdiscover.state.topology import Topology


@dataclass(frozen=True, slots=True)
class Cluster:
    """Nodes that are linked through what they list as members (one side suffices).

    ``names`` are Erlang names, of silent members too; ``nodes`` those that answer, by ordinal.
    """

    names: frozenset[str]
    nodes: tuple[NodeView, ...]

    @property
    def exists(self) -> bool:
        """Whether this is a cluster already, and not just a fresh node."""
        if len(self.names) > 1:
            return True
        node = self.nodes[0]
        return node.finished or node.owns_data

    @property
    def finished(self) -> bool:
        """Whether any of its nodes reports a finished set-up."""
        return any(node.finished for node in self.nodes)

    @property
    def coordinator(self) -> NodeView:
        """The member through which the others join: the lowest ordinal among those that answer.

        One that other members list goes before one that only lists itself among them. A member that
        has lost its volume (it lists nobody, a finished member lists it) comes last: what it holds
        is what the others would lose.
        """
        listed = self._listed()

        def rank(node: NodeView) -> tuple[bool, bool]:
            return self._wiped(node), node.name not in listed

        return min(self.nodes, key=rank)  # the first of equals: nodes are in the order of ordinals

    def _listed(self) -> frozenset[str]:
        """Names that some other node lists."""
        # By what is listed, and not node by node: in a whole cluster that is the same everywhere.
        listing: dict[frozenset[str], set[str]] = {}
        for node in self.nodes:
            listing.setdefault(node.cluster_nodes, set()).add(node.name)
        return frozenset().union(
            *(names - by if len(by) == 1 else names for names, by in listing.items())
        )

    def _wiped(self, node: NodeView) -> bool:
        return (
            node.alone
            and not node.finished
            and any(other.finished and node.name in other.cluster_nodes for other in self.nodes)
        )


def groups(view: ClusterView) -> tuple[Cluster, ...]:
    """All nodes that answer, by the links between them; each fresh node is a group of its own."""
    linked: dict[str, frozenset[str]] = {}
    for names in {_linked(node) for node in view.nodes}:  # few, where the nodes agree
        merged = names.union(*{linked[name] for name in names & linked.keys()})
        linked |= dict.fromkeys(merged, merged)
    found: dict[frozenset[str], list[NodeView]] = {}
    for node in view.nodes:
        found.setdefault(linked[node.name], []).append(node)
    return tuple(Cluster(names, tuple(nodes)) for names, nodes in found.items())


def _linked(node: NodeView) -> frozenset[str]:
    """Itself and what it lists."""
    listed = node.cluster_nodes
    return listed if node.name in listed else listed | {node.name}


def clusters(view: ClusterView) -> tuple[Cluster, ...]:
    """The clusters that exist already."""
    return tuple(group for group in groups(view) if group.exists)


@dataclass(frozen=True, slots=True)
class Matching:
    """Members by the pod they are; ``strangers`` are no pod of the StatefulSet."""

    names: Mapping[str, str]
    strangers: tuple[str, ...]


def match(topology: Topology, view: ClusterView, members: Collection[str]) -> Matching:
    """Finds the pod behind each member's Erlang name.

    A node that answers says its own name. A silent pod is taken to be the member whose host is the
    pod's, or, where nodes are named by addresses, one that nobody else is: a pod that is merely
    down must not be mistaken for one left behind by a scale-down.
    """
    names = {node.pod: node.name for node in view.nodes if node.name in members}
    rest = sorted(set(members) - {node.name for node in view.nodes})
    silent = [s.pod for s in view.sights if not isinstance(s, NodeView)]
    by_label = dict.fromkeys([*silent, *topology.beyond])
    strangers, by_address = [], []
    for name in rest:
        host = name.partition("@")[2]
        if host.split(".")[0] in by_label:
            pod = host.split(".")[0]
            del by_label[pod]
            if pod in silent:
                names[pod] = name
        elif is_address(host):
            by_address.append(name)
        else:
            strangers.append(name)
    unnamed = list(by_label)
    names.update(
        (pod, name) for pod, name in zip(unnamed, by_address, strict=False) if pod in silent
    )
    strangers.extend(by_address[len(unnamed) :])
    return Matching(names, tuple(sorted(strangers)))


def is_address(host: str) -> bool:
    """Whether a host is an IP address and no name."""
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True


def silent(view: ClusterView) -> dict[str, str]:
    """Why each pod that does not answer does not."""
    return {sight.pod: sight.reason for sight in view.sights if isinstance(sight, Unreachable)}
