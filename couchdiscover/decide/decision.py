"""The decision: from what was discovered and seen to what is done next. Pure and total.

``decide`` is asked anew after every look and knows nothing but that look: a run that was killed
anywhere is continued by the next one's first look.
"""

from couchdiscover.decide.common import Policy
from couchdiscover.decide.membership import Membership
from couchdiscover.decide.own_pod import decide_pod
from couchdiscover.decide.whole_set import decide_set
from couchdiscover.state.nodes import ClusterView
from couchdiscover.state.steps import Decision
from couchdiscover.state.topology import Scope, Topology

__all__ = ["Policy", "decide"]

DEFAULT = Policy()


def decide(
    topology: Topology, view: ClusterView, scope: Scope, policy: Policy = DEFAULT
) -> Decision:
    """What to do now.

    Scope ``set`` brings every expected node in; ``pod`` only ``topology.own``, for which it waits
    for no peer but the coordinator.
    """
    membership = Membership.of(topology, view)
    if scope is Scope.POD:
        return decide_pod(membership, policy)
    return decide_set(membership, policy)
