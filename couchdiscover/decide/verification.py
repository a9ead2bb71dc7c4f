"""The end state, verified: what lies on the volumes, and what ``check`` would call a fault. Pure."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

from couchdiscover.decide.common import Policy
from couchdiscover.decide.membership import Membership
from couchdiscover.decide.merging import some
from couchdiscover.errors import NotSo
from couchdiscover.state.nodes import NodeView
from couchdiscover.state.steps import Decision, Done, Refuse


@dataclass(frozen=True, slots=True)
class Verdict:
    """What is still not so where every node is a member, connected and finished."""

    decision: Decision

    def with_warnings(self, warnings: tuple[str, ...]) -> Decision:
        """For scope ``set``, where it counts."""
        return replace(self.decision, warnings=(*warnings, *self.decision.warnings))

    def as_warning(self, warnings: tuple[str, ...]) -> Decision:
        """For scope ``pod``: a pod must be able to start."""
        match self.decision:
            case Refuse(reason=reason):
                return Done((*warnings, reason))
            case _:
                return self.with_warnings(warnings)


def volume_refusal(membership: Membership) -> Refuse | None:
    """What the volumes show that must be put right before anything is written."""
    return None


def volume_answer(membership: Membership, own: NodeView) -> Decision | None:
    """The same for scope ``pod``: a refusal, or the end without a write."""
    return None


def verify(
    membership: Membership, nodes: Sequence[NodeView], coordinator: NodeView, policy: Policy
) -> Verdict | None:
    """What ``check`` would call a fault, as far as the same looks show it; None where nothing."""
    if seeding := [node.pod for node in nodes if node.up == "seeding"]:
        return Verdict(
            Refuse(
                NotSo,
                f"{', '.join(seeding)} not ready: /_up says seeding, since no node of [cluster] "
                "seedlist has answered; correct that setting, so that its names are the nodes'",
            )
        )
    maps = coordinator.volume.maps if coordinator.volume else None
    conflicting = [each.database for each in maps or () if each.conflicting]
    if conflicting:
        return Verdict(
            Refuse(
                NotSo,
                f"the shard maps of {some(conflicting)} have conflicts, as after two clusters were "
                "joined: what is in the copies of the losing revision is not read; the documents "
                "are in /_node/_local/_dbs, with ?conflicts=true",
            )
        )
    return None


def marks_due(membership: Membership, nodes: Sequence[NodeView], policy: Policy) -> tuple[str, ...]:
    """Pods whose volumes are verified, and not marked so yet."""
    return ()
