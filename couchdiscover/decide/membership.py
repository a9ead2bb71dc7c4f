"""Who belongs to whom, worked out once from one look: clusters, members by pod, the rest. Pure."""

import ipaddress
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Self

from couchdiscover.decide.volumes import Survey
from couchdiscover.state.nodes import SYSTEM_DATABASES, ClusterView, NodeView, Unreachable
from couchdiscover.state.reasons import Plain, Reason
from couchdiscover.state.topology import Pod, Published, Topology

MOST_OTHERS = 20
"""Members of other StatefulSets that are looked at."""


@dataclass(frozen=True, slots=True)
class Cluster:
    """Nodes that are linked through what they list as members (one side suffices).

    ``names`` are Erlang names of its members: of ``nodes``, which answer, by ordinal, of expected
    pods that are silent, and of connected members of another StatefulSet. What else they list,
    which is nobody, links nothing.
    """

    names: frozenset[str]
    nodes: tuple[NodeView, ...]

    @property
    def exists(self) -> bool | None:
        """Whether this is a cluster already, and not just a fresh node; None where unknown.

        A lone node is one where it holds databases; blank system databases are none.
        """
        return True if len(self.names) > 1 else holds_data(self.nodes[0])

    @property
    def was_finished(self) -> bool:
        """Whether any of its nodes is, or was, finished."""
        return any(node.was_finished for node in self.nodes)

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
        return frozenset(
            name for node in self.nodes for name in node.cluster_nodes if name != node.name
        )

    def _wiped(self, node: NodeView) -> bool:
        return (
            node.alone
            and not node.finished
            and any(other.finished and node.name in other.cluster_nodes for other in self.nodes)
        )


@dataclass(frozen=True)
class Membership:
    """One look at the set, understood.

    ``pods`` are the expected pods by the Erlang name of the member that each is; ``beyond`` names
    of pods of the StatefulSet on top of the wanted size. ``groups`` are all nodes that answer, by
    their links: a fresh node is a group of its own.
    """

    topology: Topology
    view: ClusterView
    groups: tuple[Cluster, ...]
    pods: Mapping[str, str]
    beyond: frozenset[str]

    @classmethod
    def of(cls, topology: Topology, view: ClusterView) -> Self:
        """Works it out."""
        pods, beyond = _match(topology, view)
        return cls(topology, view, _groups(view, pods), pods, beyond)

    # --- clusters ---

    @cached_property
    def clusters(self) -> tuple[Cluster, ...]:
        """Those that exist already."""
        return tuple(group for group in self.groups if group.exists)

    @cached_property
    def undetermined(self) -> tuple[NodeView, ...]:
        """Lone nodes of which it is not known whether they hold data."""
        return tuple(group.nodes[0] for group in self.groups if group.exists is None)

    @property
    def cluster(self) -> Cluster | None:
        """The cluster, where there is exactly one."""
        return self.clusters[0] if len(self.clusters) == 1 else None

    @property
    def coordinator(self) -> str | None:
        """The pod through which the others join: of the cluster, else the one that forms it."""
        if self.clusters:
            return self.cluster.coordinator.pod if self.cluster else None
        return self.topology.expected[0].name if self.topology.expected else None

    def group_of(self, node: NodeView) -> Cluster:
        """The group that a node is in."""
        return next((group for group in self.groups if node in group.nodes), _alone(node))

    def has_majority(self, cluster: Cluster) -> bool:
        """Whether more than half of the expected pods are its members."""
        inside = {pod for name, pod in self.pods.items() if name in cluster.names}
        return 2 * len(inside) > len(self.topology.expected)

    # --- members ---

    def pods_in(self, members: Collection[str]) -> Mapping[str, str]:
        """The expected pods among members, with their Erlang names, by ordinal."""
        named = {self.pods[name]: name for name in members if name in self.pods}
        return {p.name: named[p.name] for p in self.topology.expected if p.name in named}

    def unexpected_in(self, members: Collection[str]) -> tuple[str, ...]:
        """Members that are no pod of the StatefulSet, whoever answers in its pods' places."""
        hosts = {pod.host_name for pod in self.topology.expected}
        others = set(members) - self.pods.keys() - self.beyond
        return tuple(sorted(name for name in others if host_of(name) not in hosts))

    @cached_property
    def listed(self) -> frozenset[str]:
        """Whatever any node lists as a member."""
        return frozenset(name for node in self.view.nodes for name in node.cluster_nodes)

    @cached_property
    def connected(self) -> frozenset[str]:
        """Whatever any node is connected to: these Erlang nodes are alive."""
        return frozenset(name for node in self.view.nodes for name in node.all_nodes)

    @cached_property
    def left_behind(self) -> tuple[str, ...]:
        """Members that are no pod of the StatefulSet, and connected to nobody."""
        return tuple(n for n in self.unexpected_in(self.listed) if n not in self.connected)

    @cached_property
    def elsewhere(self) -> tuple[str, ...]:
        """Members that are no pod of the StatefulSet, and alive: of another one, or of none."""
        return tuple(n for n in self.unexpected_in(self.listed) if n in self.connected)

    @cached_property
    def beside(self) -> tuple[str, ...]:
        """Connected members that are no expected pods: of other sets, or beyond the wanted size.

        They know who lost a volume, and have copies, as the others do.
        """
        beyond = self.beyond & self.listed & self.connected
        return tuple(sorted(beyond.union(self.elsewhere)))

    def unlisted(self, node: NodeView) -> tuple[str, ...]:
        """Names of nodes that answer and that this one should list, and does not."""
        inside = {n.name for n in self.view.nodes}
        return tuple(sorted(inside - node.cluster_nodes))

    # --- what is not known ---

    @cached_property
    def silent(self) -> Mapping[str, Reason]:
        """Why each expected pod that was not seen was not: no answer, or a refused login."""
        return {
            sight.pod: sight.reason
            if isinstance(sight, Unreachable)
            else Plain("to accept the credentials")
            for sight in self.view
            if not isinstance(sight, NodeView)
        }

    @cached_property
    def absent(self) -> frozenset[str]:
        """Expected pods that have no published address, where Kubernetes would publish one.

        Where the Service itself is missing or selects nothing, that says nothing.
        """
        return frozenset(
            pod.name
            for pod in self.topology.expected
            if pod.name in self.silent and pod.published is Published.NONE
        )

    @cached_property
    def hidden(self) -> Mapping[str, Reason]:
        """Expected pods that may run, and hold a cluster, and were not seen."""
        return {pod: why for pod, why in self.silent.items() if pod not in self.absent}

    @cached_property
    def survey(self) -> Survey:
        """What lies on the volumes, as far as they were read."""
        return Survey(self.view.nodes, self.topology.expected, self.view.others)

    def name_of(self, name: str) -> str:
        """A member for a reader: its pod, where it is one."""
        return self.pods.get(name, name)


def holds_data(node: NodeView) -> bool | None:
    """Whether a node has databases of its own, by its files; None where they are not known.

    System databases without a document but design documents count as none: something that starts
    the node may have made them, and nothing is lost with them.
    """
    volume = node.volume
    if volume is None or volume.files is None:
        return None
    databases = {file.database for file in volume.files if file.range}
    if databases - SYSTEM_DATABASES:
        return True
    if not databases:
        return False
    return None if volume.filled is None else bool(volume.filled)


def is_address(host: str) -> bool:
    """Whether a host is an IP address and no name."""
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True


def host_of(name: str) -> str:
    """The host in an Erlang name."""
    return name.partition("@")[2]


def _alone(node: NodeView) -> Cluster:
    return Cluster(frozenset({node.name}), (node,))


def _match(topology: Topology, view: ClusterView) -> tuple[Mapping[str, str], frozenset[str]]:
    """The pod behind each member's Erlang name, and the names of pods beyond the wanted size.

    A node that answers says its own name. A silent pod is taken to be the member whose host is the
    pod's, or, where nodes are named by addresses, the one at its address, else one that nobody else
    is: a pod that is merely down must not be mistaken for one left behind by a scale-down.
    """
    pods = {node.name: node.pod for node in view.nodes}
    listed = {name for node in view.nodes for name in node.cluster_nodes}
    silent = [sight.pod for sight in view.sights if not isinstance(sight, NodeView)]
    free = dict.fromkeys([*silent, *topology.beyond])
    beyond, by_address = set(), []

    def take(name: str, pod: str) -> None:
        del free[pod]
        if pod in silent:
            pods[name] = pod
        else:
            beyond.add(name)

    rest = sorted(listed - pods.keys(), key=lambda name: (not _exact(topology, name), name))
    for name in rest:
        host = host_of(name)
        if (label := host.split(".")[0]) in free:
            take(name, label)
        elif is_address(host):
            by_address.append(name)
    for name in list(by_address):
        at = next((pod for pod in free if _has_address(topology.pod(pod), host_of(name))), None)
        if at is not None:
            take(name, at)
            by_address.remove(name)
    for name, pod in zip(by_address, list(free), strict=False):
        take(name, pod)
    return pods, frozenset(beyond)


def _exact(topology: Topology, name: str) -> bool:
    """Whether a name's host is just what the headless Service calls a pod."""
    return any(pod.host_name == host_of(name) for pod in topology.expected)


def _has_address(pod: Pod | None, host: str) -> bool:
    return pod is not None and any(address.host == host for address in pod.addresses)


def _groups(view: ClusterView, pods: Mapping[str, str]) -> tuple[Cluster, ...]:
    """All nodes that answer, by the links between them.

    A member of another StatefulSet answers where a node is connected to it. A name that is none of
    these, nor an expected pod that is silent, is nobody, and two nodes that both list it are not
    one cluster for that.
    """
    linked: dict[str, frozenset[str]] = {}
    for node in view.nodes:
        names = node.cluster_nodes.intersection(pods.keys() | node.all_nodes) | {node.name}
        merged = names.union(*(linked[name] for name in names & linked.keys()))
        linked |= dict.fromkeys(merged, merged)
    found: dict[frozenset[str], list[NodeView]] = {}
    for node in view.nodes:
        found.setdefault(linked[node.name], []).append(node)
    return tuple(Cluster(names, tuple(nodes)) for names, nodes in found.items())
