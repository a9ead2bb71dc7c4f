"""Asking nodes one more thing, all at once: the ground of observation."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

from couchdiscover.couch.client import CouchFailure, CouchNode, Fleet
from couchdiscover.couch.memory import Memory
from couchdiscover.net.deadline import Deadline
from couchdiscover.net.workers import for_each
from couchdiscover.state.nodes import DEFAULT_DATABASES, ClusterView, NodeView
from couchdiscover.state.topology import Scope, Topology

Question = Callable[[CouchNode, NodeView], NodeView]


@dataclass(slots=True)
class Asker:
    """Whom to ask, and what for.

    ``databases`` must be readable from every node. ``foresees`` is true where a plan is wanted:
    then identities are read before the nodes have joined. ``only_looks`` asks nothing upon which
    CouchDB changes anything.
    """

    fleet: Fleet
    deadline: Deadline
    scope: Scope
    memory: Memory = field(default_factory=Memory)
    databases: tuple[str, ...] = DEFAULT_DATABASES
    foresees: bool = False
    only_looks: bool = False

    def each(
        self, topology: Topology, view: ClusterView, nodes: Iterable[NodeView], question: Question
    ) -> ClusterView:
        """Asks some nodes one more thing; one that does not answer stays as it was seen."""

        def ask(node: NodeView) -> NodeView:
            pod = topology.pod(node.pod)
            if pod is None:
                return node
            try:
                return question(self.fleet.node(pod, node.address), node)
            except CouchFailure:
                return node

        asked = list(nodes)
        answers = for_each(asked, ask, self.fleet.patience) if asked else []
        for node, answer in zip(asked, answers, strict=True):
            if answer is None:
                self.fleet.forget(node.pod)  # a thread is still busy with its connection
        return view.seen_anew({node.pod: node for node in answers if node is not None})


def node_of(view: ClusterView, pod: str) -> NodeView | None:
    """The node of a pod, where it answered."""
    sight = view.sight(pod)
    return sight if isinstance(sight, NodeView) else None
