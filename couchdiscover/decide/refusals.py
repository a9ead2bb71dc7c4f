"""What is refused, each with its sentence: what was found, and what a person can do. Pure."""

from collections.abc import Collection, Iterable, Sequence

from couchdiscover.decide.membership import Cluster, Membership, host_of, is_address
from couchdiscover.decide.merging import some
from couchdiscover.errors import Denied, NotSo, Unsafe, UsageProblem
from couchdiscover.state.nodes import ClusterView, LoginRefused, NodeView, TooOld
from couchdiscover.state.steps import Refuse
from couchdiscover.state.topology import Topology

LOOPBACK = frozenset({"127.0.0.1", "localhost", "::1"})

MINIMUM = "3.3"
"""The oldest CouchDB that is supported."""

NODENAME = (
    "the pod's own fully qualified host name (NODENAME in the official image, COUCHDB_NODENAME in "
    "Bitnami's)"
)


def denied(refused: Sequence[LoginRefused]) -> Refuse | None:
    """CouchDB refuses the credentials."""
    if not refused:
        return None
    first, *rest = refused
    more = f"; so did {', '.join(sight.pod for sight in rest)}" if rest else ""
    return Refuse(Denied, first.reason + more)


def too_old(view: ClusterView) -> Refuse | None:
    """CouchDB 1.x and 2.x are set up otherwise, and are waited for in vain."""
    old = [sight for sight in view if isinstance(sight, TooOld)]
    if not old:
        return None
    runs = some([f"{sight.pod} runs CouchDB {sight.version}" for sight in old])
    return Refuse(UsageProblem, f"{runs}; {MINIMUM} or newer is needed")


def names(
    topology: Topology, nodes: Sequence[NodeView], concerned: Iterable[NodeView]
) -> Refuse | None:
    """Erlang names that cannot work, or that two nodes have."""
    several = len(topology.expected) > 1
    for node in concerned:
        host = host_of(node.name)
        if several and (node.name == "nonode@nohost" or host in LOOPBACK):
            return Refuse(
                Unsafe,
                f"{node.pod}'s Erlang name is {node.name}, by which no other node can reach it, "
                f"and its databases would be hidden by a change of name; start it with {NODENAME}",
            )
        if several and "." not in host and ":" not in host and not _connects(node):
            return Refuse(
                Unsafe,
                f"{node.pod}'s Erlang name is {node.name}: Erlang connects no long names (-name) "
                "whose host has no dot, ever, and Kubernetes gives pods no such short ones "
                f"(-sname); start it with {NODENAME} before anything is stored",
            )
    for node in concerned:
        twins = [other.pod for other in nodes if other.name == node.name]
        if len(twins) > 1:
            return Refuse(
                Unsafe,
                f"{' and '.join(twins)} have the same Erlang name, {node.name}: a cluster would "
                f"take them for one node; give each pod {NODENAME}",
            )
    return None


def single(topology: Topology, nodes: Sequence[NodeView], *, allowed: bool) -> Refuse | None:
    """Nodes that are configured for themselves, among several."""
    singles = [node for node in nodes if node.single]
    if not singles or len(topology.expected) == 1 or allowed:
        return None
    alone = [node for node in singles if node.details is not None and node.details.single_node]
    few = [node for node in singles if node.details is not None and node not in alone]
    among = f"among {len(topology.expected)} that are to be one cluster"
    if alone:
        return Refuse(
            Unsafe,
            f"{_have(alone)} [couchdb] single_node = true {among}: each start makes system "
            "databases on that node alone; remove that setting and start again",
        )
    setting = "[cluster] n = 1" if few else "[cluster] n = 1, or [couchdb] single_node = true,"
    return Refuse(
        Unsafe,
        f"{_have(singles)} {setting} {among}: every database would have one copy only; remove that "
        "setting and start again, or insist on one copy with --allow-one-copy",
    )


def _have(nodes: Sequence[NodeView]) -> str:
    return f"{some([node.pod for node in nodes])} {'has' if len(nodes) == 1 else 'have'}"


def split(found: Sequence[Cluster]) -> str:
    """Two clusters among the pods."""
    sides = " and ".join(
        "{" + ", ".join(sorted(short(name) for name in cluster.names)) + "}" + _held(cluster)
        for cluster in found
    )
    return (
        f"there are {len(found)} clusters among the pods, {sides}: joining them would hide "
        "documents of databases that both have, for good; decide which one stays, replicate into "
        "it what the others hold, and only then start their nodes with new volumes (keep the old)"
    )


def unexpected_members(
    membership: Membership, listed: Collection[str], *, late: bool = False
) -> Refuse | None:
    """Members that are nobody, in a cluster that is to be finished.

    ``late`` is where nothing is there though, by the StatefulSet's age, a cluster should be: then
    they may be the rest of it, with all that it holds, and deleting them would make a second one.
    """
    nobody = [n for n in membership.unexpected_in(listed) if n in membership.left_behind]
    if not nobody:
        return None
    verb = "is listed as a member" if len(nobody) == 1 else "are listed as members"
    seeds = {
        seed
        for node in membership.view.nodes
        if node.details is not None
        for seed in node.details.seeds
    }
    reason = (
        f"{some(nobody)} {verb} of the cluster that is to be finished, and no pod of StatefulSet "
        f"{membership.topology.statefulset} has that name: finishing would fail or place "
        "databases there; "
    )
    if late:
        return Refuse(
            Unsafe,
            f"{reason}this StatefulSet is old, and nothing is on its volumes: were they lost? Then "
            f"{some(nobody)} may be what is left of the cluster, with its data: start those first, "
            "and take their names away only where they are gone for good",
        )
    if seeded := seeds & set(nobody):
        return Refuse(Unsafe, reason + _seed_remedy(membership, seeded))
    return Refuse(Unsafe, reason + "delete their documents in /_node/_local/_nodes")


def left_behind(membership: Membership) -> Refuse | None:
    """Members of a finished cluster that are nobody: a person's work."""
    nobody = membership.left_behind
    if not nobody:
        return None
    return Refuse(NotSo, left_behind_note(membership))


def left_behind_note(membership: Membership) -> str:
    """The same as a sentence."""
    nobody = membership.left_behind
    verb = "is still listed as a member" if len(nobody) == 1 else "are still listed as members"
    return (
        f"{some(nobody)} {verb}, but no pod of StatefulSet {membership.topology.statefulset} "
        "(left behind by a scale-down?): new databases get copies there; move their shards, then "
        "delete their documents in /_node/_local/_nodes"
    )


def elsewhere_note(membership: Membership) -> str:
    """Members that are alive and no pods of this StatefulSet: told, and left alone."""
    alive = membership.elsewhere
    verb = "is a member and connected" if len(alive) == 1 else "are members and connected"
    return (
        f"{some(alive)} {verb}, but no pod of StatefulSet {membership.topology.statefulset}: of "
        "another StatefulSet of the same cluster, it seems; left as it is"
    )


def is_named_by_address(node: NodeView) -> bool:
    """Whether a node's Erlang name has an address that is not its own host's loopback."""
    host = host_of(node.name)
    return is_address(host) and host not in LOOPBACK


def lasting_names_note(nodes: Sequence[NodeView]) -> str | None:
    """Nodes that are called by an address, which a restarted pod has not any more."""
    by_address = [node.pod for node in nodes if is_named_by_address(node)]
    if not by_address:
        return None
    return (
        f"{some(by_address)} {'is' if len(by_address) == 1 else 'are'} named by the pod's "
        "IP address: a restarted pod has another one, and its databases are not found under the "
        f"new name; start the nodes with {NODENAME} before anything is stored"
    )


def cannot_grow_note(topology: Topology, nodes: Sequence[NodeView]) -> str | None:
    """A single node whose name no other node could ever reach."""
    if len(topology.expected) != 1:
        return None
    for node in nodes:
        host = host_of(node.name)
        if node.name == "nonode@nohost" or host in LOOPBACK or not {".", ":"} & set(host):
            return (
                f"{node.pod}'s Erlang name is {node.name}: that does for one node, and the set "
                f"cannot grow as it is; {NODENAME} would do for several"
            )
    return None


def short(name: str) -> str:
    """An Erlang name, cut to what tells it apart for a reader."""
    host = host_of(name)
    return host if is_address(host) else host.split(".")[0]


def _connects(node: NodeView) -> bool:
    """Whether it is connected to another node: then its names are short ones (-sname)."""
    return len(node.all_nodes) > 1


def _held(cluster: Cluster) -> str:
    """What makes a node that is alone a cluster of its own, where that is databases."""
    volume = cluster.nodes[0].volume
    if len(cluster.names) > 1 or volume is None or not volume.files:
        return ""
    return f" (which holds {some({file.database for file in volume.files})})"


def _seed_remedy(membership: Membership, seeded: Collection[str]) -> str:
    """CouchDB makes the documents of its seeds anew at each boot: deleting them does not help."""
    theirs = host_of(min(seeded)).partition(".")[2]
    own = next((host_of(node.name).partition(".")[2] for node in membership.view.nodes), "")
    they = "it comes" if len(seeded) == 1 else "they come"
    them = "it" if len(seeded) == 1 else "them"
    told = f"{they} from [cluster] seedlist, which brings {them} back at each boot"
    if own == theirs:
        return f"{told}: take {them} out of that setting, which is to name the {_pods(membership)}"
    where = f"the seeds are in {theirs}" if theirs else "the seeds are short names"
    return (
        f"{told} ({where}, the nodes in {own or 'none'}): correct that setting or NODENAME, so "
        "that the seeds are called as the nodes are"
    )


def _pods(membership: Membership) -> str:
    expected = membership.topology.expected
    return f"nodes of {expected[0].name} to {expected[-1].name} only" if expected else "nodes only"
