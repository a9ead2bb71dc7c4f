"""What a run remembers between two looks; nothing that it relies on, since the next has none."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from couchdiscover.decide.copies import Loss, Proof
from couchdiscover.state.nodes import ClusterView, LoginRefused, NodeView
from couchdiscover.state.steps import AddNode, FinishCluster, Step, SyncShards
from couchdiscover.state.volumes import ShardFile


@dataclass(slots=True)
class Watch:
    """What is remembered of one pod. Times are of the monotonic clock, in seconds."""

    wrong_logins: list[float] = field(default_factory=list)
    ask_again_at: float = 0.0
    refusal: str = "it answered 401"
    """How the login was refused last."""
    refused: LoginRefused | None = None
    apart_since: float | None = None
    unconnected_because: str | None = None
    unlisted: Mapping[str, float] = field(default_factory=dict)
    """Fellow members that it does not list, and since when."""


@dataclass(slots=True)
class Memory:
    """What this run has seen and done.

    ``prior`` are Erlang names of nodes that were members of a finished cluster before the run did
    anything; ``added`` the pods that it has added, with their Erlang names, and ``without_shards``
    those among them that no finished cluster knew before. ``finished_here`` is true once it has
    finished the cluster itself. ``logins_refused`` counts the logins that were refused: the
    credentials may have been renewed since they were read. ``proof`` is that of the copies on
    nodes that are ``incomplete``, by Erlang name with the copies in question (all, where that is
    None), and ``loss`` is what was lost; ``synced`` is true once CouchDB was asked to fill them.
    """

    last: ClusterView | None = None
    prior: frozenset[str] = frozenset()
    added: dict[str, str] = field(default_factory=dict)
    without_shards: set[str] = field(default_factory=set)
    finished_here: bool = False
    logins_refused: int = 0
    proof: Proof | None = None
    incomplete: Mapping[str, frozenset[ShardFile] | None] = field(default_factory=dict)
    loss: Loss = field(default_factory=Loss)
    synced: bool = False
    watches: dict[str, Watch] = field(default_factory=dict)

    def watch(self, pod: str) -> Watch:
        """What is remembered of a pod."""
        return self.watches.setdefault(pod, Watch())

    def known(self, pod: str) -> NodeView | None:
        """The node as it was last seen, where it answered then."""
        sight = self.last.sight(pod) if self.last else None
        return sight if isinstance(sight, NodeView) else None

    def note(self, step: Step) -> None:
        """Remembers a step of our own: who is added now has no vote on the cluster's identity."""
        match step:
            case FinishCluster():
                self.finished_here = True
            case SyncShards():
                self.synced = True
            case AddNode(pod=pod, introduces=False):
                known = self.known(pod)
                if known is not None:
                    self.added[pod] = known.name
                    if self.prior and known.name not in self.prior:
                        self.without_shards.add(pod)
