"""The story of ``run``: discover, observe, decide, execute, and look again, until it holds."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from couchdiscover.decide.common import Policy
from couchdiscover.decide.decision import decide
from couchdiscover.errors import NotSo, NotYet
from couchdiscover.look import Looker, OnSecret
from couchdiscover.net.deadline import Deadline
from couchdiscover.output.events import Narrator, conclusion, told, told_steps
from couchdiscover.output.report import Record
from couchdiscover.pace import Pace
from couchdiscover.state.nodes import ClusterView, NodeView
from couchdiscover.state.reasons import Plain, Reason, StillTheSame
from couchdiscover.state.settings import ClusterState, Settings
from couchdiscover.state.steps import (
    AddNode,
    AnnounceSecret,
    Decision,
    Do,
    Done,
    FinishCluster,
    Refuse,
    SetSecret,
    Step,
    SyncIdentity,
    Wait,
)
from couchdiscover.state.topology import Scope, Topology

MOST_TIMES = 3
"""How often one step is taken at most, whatever happens in between."""


def assemble(
    settings: Settings,
    deadline: Deadline,
    record: Record,
    *,
    on_secret: OnSecret = lambda _user, _password: None,
    on_look: Callable[[Record], None] = lambda _: None,
) -> str:
    """Brings the cluster about, and returns one sentence on what came of it.

    ``record`` is filled on the way. ``on_secret`` is told the credentials before anything is sent,
    ``on_look`` is called after every look. Raises the errors of ``errors``.
    """
    narrator = Narrator(record)
    only_looks = settings.dry_run or deadline.seconds == 0
    looker = Looker(settings, deadline, narrator, on_secret, only_looks=only_looks)
    pace = Pace(deadline, narrator)
    steps = _Steps(looker, pace)
    while True:
        try:
            topology, view = looker.look(quick=steps.just_joined)
            on_look(record)
            decision = decide(topology, view, looker.scope, steps.policy(settings))
            if (
                _finishes(decision)
                and not only_looks
                and looker.read().expected != topology.expected
            ):
                continue  # finishing puts the databases on the members there are, once and for all
        except NotYet as missing:
            steps.forget()
            pace.wait_for(missing)
            continue
        if settings.dry_run:
            return _simulated(topology, view, looker, steps.policy(settings), narrator)
        narrator.warn(decision.warnings)
        steps.settle(view)
        outcome: Decision | None = decision
        if isinstance(outcome, Do):
            outcome = steps.take(outcome.steps, topology, view)
        else:
            steps.forget()
        if isinstance(outcome, Wait):
            outcome = pace.wait(outcome)
        match outcome:
            case Done(warnings=warnings, marks=marks, conclusion=sentence):
                narrator.warn(warnings)
                _mark(marks, topology, view, looker)
                return sentence or conclusion(topology, view, changed=bool(record.steps))
            case Refuse(error=error, reason=reason, marks=marks):
                _mark(marks, topology, view, looker)
                raise error(reason)


def _finishes(decision: Decision) -> bool:
    return isinstance(decision, Do) and any(isinstance(s, FinishCluster) for s in decision.steps)


def _simulated(
    topology: Topology, view: ClusterView, looker: Looker, policy: Policy, narrator: Narrator
) -> str:
    """For ``--dry-run``: all steps that would follow. Raises NotSo where there are any."""
    from couchdiscover.decide.simulation import simulate

    ahead = simulate(topology, view, lambda then: decide(topology, then, looker.scope, policy))
    narrator.planned(ahead.steps)
    narrator.warn(ahead.warnings)
    match ahead.end:
        case Refuse(error=error, reason=reason):
            raise error(reason)
        case Wait(reasons=reasons):
            raise NotSo(f"run would be {told(reasons)}")
        case _ if ahead.steps:
            raise NotSo(f"there is to do: {told_steps(ahead.steps)}")
        case _:
            return "there is nothing to do"


def _mark(marks: Sequence[str], topology: Topology, view: ClusterView, looker: Looker) -> None:
    """Leaves marks on verified volumes: the last write, and no step. Failing is a warning."""
    if not marks or looker.only_looks:
        return
    from couchdiscover.couch.marks import write_marks

    looker.narrator.warn(write_marks(marks, topology, view, looker.observer.fleet))


@dataclass(slots=True)
class _Steps:
    """Takes steps, and knows which of them have been taken already.

    A step that was answered as done and changed nothing is not taken again: that it does not work
    is what there is to say. One that failed is tried again, after growing pauses.
    """

    looker: Looker
    pace: Pace
    just_joined: bool = False
    _done: dict[Step, list[object]] = field(default_factory=dict)
    _failed: tuple[Step, ...] = ()
    _unanswered: list[Step] = field(default_factory=list)
    _rested: bool = False
    _repair: bool = True

    def policy(self, settings: Settings) -> Policy:
        """What the user wants, less what has turned out not to work."""
        return Policy(
            repair=settings.repair and self._repair,
            repair_from=settings.repair_from,
            allow_one_copy=settings.allow_one_copy,
            existing_only=settings.cluster_state is ClusterState.EXISTING,
            mark=settings.mark,
            wait_for_copies=settings.wait_for_copies,
        )

    def forget(self) -> None:
        """After a wait, what failed before it is tried again at once."""
        self._failed, self.just_joined = (), False

    def settle(self, view: ClusterView) -> None:
        """Counts steps whose request was not answered, and which have done their work after all."""
        from couchdiscover.decide.simulation import shows

        done = [step for step in self._unanswered if shows(view, step)]
        for step in done:
            self._unanswered.remove(step)
            self.looker.memory.note(step)
            self.looker.narrator.failed(step, None)
            self.looker.narrator.taken(step)

    def take(self, steps: Sequence[Step], topology: Topology, view: ClusterView) -> Wait | None:
        """Takes the steps that have not been; where there are none, returns what to wait for."""
        if self.pace.deadline.passed:
            raise self.pace.timed_out({"": Plain(f"there was still to do: {told_steps(steps)}")})
        self.just_joined = False
        idle = [step for step in steps if self._changed_nothing(step, view)]
        ready = tuple(step for step in steps if step not in idle)
        if not ready:
            return self._idle(idle)
        if ready == self._failed and not self._rested:
            self.pace.deadline.sleep(next(self.pace.retries))
            self._rested = True
            return None
        self._rested = False
        self._execute(ready, topology, view)
        self.pace.acted(told_steps(ready))
        self.just_joined = all(isinstance(step, AddNode) for step in steps) and not any(
            node.was_finished for node in view.nodes
        )
        return None

    def _execute(self, steps: Sequence[Step], topology: Topology, view: ClusterView) -> None:
        from couchdiscover.couch.executor import execute  # where all is done already, there is none

        looker, narrator = self.looker, self.looker.narrator
        fleet = looker.observer.fleet
        failed = []
        for outcome in execute(steps, topology, view, fleet, looker.settings.databases):
            step = outcome.step
            narrator.failed(step, outcome.problem)
            if outcome.problem is None:
                looker.memory.note(step)
                self._done.setdefault(step, []).append(_state_of(step, view))
            else:
                failed.append(step)
                if step not in self._unanswered:
                    self._unanswered.append(step)
                if outcome.explained:
                    narrator.warn([f"{step.kind} {step.pod}: {outcome.problem}"])
                if looker.scope is Scope.POD and isinstance(step, SyncIdentity | AnnounceSecret):
                    self._give_up(step, outcome.problem)
            if outcome.taken:
                narrator.taken(step)
                self._unanswered = [each for each in self._unanswered if each != step]
        self._failed = tuple(failed)
        looker.narrator.record.finished_here = looker.memory.finished_here

    def _changed_nothing(self, step: Step, view: ClusterView) -> bool:
        before = self._done.get(step, [])
        return _state_of(step, view) in before or len(before) >= MOST_TIMES

    def _idle(self, idle: Sequence[Step]) -> Wait:
        """Steps that were taken, answered as done, and changed nothing, so far."""
        repairs = [s for s in idle if isinstance(s, SyncIdentity | AnnounceSecret | SetSecret)]
        if len(repairs) == len(idle) and not self.pace.settles:
            if self.looker.scope is Scope.POD:
                self._give_up(idle[0], "it was answered as done, and changed nothing")
            else:
                raise NotSo(
                    f"{'; '.join(step.title for step in idle)}: answered as done, and nothing has "
                    "changed; look at the node's configuration and its log"
                )
        reasons: dict[str, Reason] = {step.pod: StillTheSame(str(step.kind)) for step in idle}
        return Wait(reasons)

    def _give_up(self, step: Step, problem: str) -> None:
        self._repair = False  # a pod must be able to start
        self.looker.narrator.warn([f"{step.pod} keeps its own identity: {problem}"])


def _state_of(step: Step, view: ClusterView) -> object:
    """What a step is to change, as it was seen."""
    node = view.sight(step.pod)
    if not isinstance(node, NodeView):
        return None
    return (node.address, node.name, node.state, node.cluster_nodes, node.identity, node.unreadable)
