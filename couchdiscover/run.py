"""The story: discover, observe, decide, execute, and look again, until the end state holds."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field

from couchdiscover.decide.decision import Policy, decide
from couchdiscover.errors import Denied, NotSo, NotYet, TimedOut, Unsafe
from couchdiscover.kube.client import DeniedForNow
from couchdiscover.look import Outlook
from couchdiscover.net.deadline import SETTLING, Deadline, look_pause, retry_pauses
from couchdiscover.output.events import Narrator, conclusion, hidden_pods, told, told_steps
from couchdiscover.output.report import Record
from couchdiscover.state.nodes import ClusterView
from couchdiscover.state.settings import Settings
from couchdiscover.state.steps import (
    Blocked,
    Decision,
    Do,
    Done,
    Left,
    Rejected,
    Step,
    StepKind,
    Wait,
)
from couchdiscover.state.topology import Scope, Topology


def assemble(
    settings: Settings,
    deadline: Deadline,
    record: Record,
    *,
    on_secret: Callable[[str, str], None] = lambda _user, _password: None,
    on_look: Callable[[Record], None] = lambda _: None,
) -> str:
    """Brings the cluster about, and returns one sentence on what came of it.

    ``record`` is filled on the way. ``on_secret`` is told the credentials before anything is sent,
    ``on_look`` is called after every look. Raises the errors of ``errors``.
    """
    narrator = Narrator(record)
    outlook = Outlook(settings, deadline, record, narrator, on_secret)
    run = _Run(settings, deadline, record, narrator, outlook)
    while True:
        try:
            topology, view = run.look()
            on_look(record)
            decision = run.decide(topology, view)
            if run.is_outdated(decision, topology):
                continue
        except DeniedForNow as refusal:
            run.wait({"": str(refusal)}, last_word=refusal.denial)
            continue
        except NotYet as missing:
            run.wait({"": str(missing)})
            continue
        run.narrator.warn(getattr(decision, "warnings", ()))
        if settings.dry_run:
            return run.foretell(topology, view)
        match decision:
            case Done():
                return conclusion(topology, view, changed=bool(record.steps))
            case Left(reason):
                raise NotSo(reason)
            case Blocked(hazard):
                raise Unsafe(hazard)
            case Rejected(reason):
                raise Denied(reason)
            case Do(steps):
                run.take(steps, topology, view)
            case Wait(reasons):
                run.wait(reasons)


@dataclass(slots=True)
class _Run:
    """The parts of a run, and what it needs to remember between two looks: nothing it relies on."""

    settings: Settings
    deadline: Deadline
    record: Record
    narrator: Narrator
    outlook: Outlook
    _just_joined: bool = False
    _attempted: tuple[Step, ...] = ()
    _rested: bool = False
    _settling: tuple[float, ...] = ()
    _retries: Iterator[float] = field(default_factory=retry_pauses)
    _repair: bool = True
    _unhurried: tuple[Mapping[str, str], ClusterView | None] | None = None

    def look(self) -> tuple[Topology, ClusterView]:
        """Reads the StatefulSet, now and then, and asks every node. Raises NotYet."""
        return self.outlook.look(quick=self._just_joined)

    def decide(self, topology: Topology, view: ClusterView) -> Decision:
        """What to do now."""
        return decide(topology, view, self.outlook.scope, self._policy)

    def is_outdated(self, decision: Decision, topology: Topology) -> bool:
        """Whether a cluster would be finished for another size than the StatefulSet has by now.

        Finishing puts the system databases onto the members there are, once and for all; so the
        size is read right before, whenever it was read last. Raises NotYet.
        """
        finishes = isinstance(decision, Do) and any(
            step.kind is StepKind.FINISH_CLUSTER for step in decision.steps
        )
        if not finishes or self.settings.dry_run or self.deadline.passed:
            return False
        return self.outlook.read().expected != topology.expected

    @property
    def _policy(self) -> Policy:
        return Policy(self.settings.repair and self._repair, self.settings.repair_from)

    # --- acting ---

    def take(self, steps: tuple[Step, ...], topology: Topology, view: ClusterView) -> None:
        """Takes steps; those that were just taken are first looked at once more, after a pause."""
        if self.deadline.passed:
            raise self._timed_out({"": f"there was still to do: {told_steps(steps)}"})
        self._just_joined = False
        if steps == self._attempted and not self._rested:
            self.deadline.sleep(next(self._retries))
            self._rested = True
            return
        self._attempted, self._rested, self._settling = steps, False, SETTLING
        observer = self.outlook.observer
        from couchdiscover.couch.executor import execute  # where all is done already, there is none

        for outcome in execute(steps, topology, view, observer.fleet, self.settings.databases):
            step = outcome.step
            self.narrator.failed(step, outcome.problem)
            if outcome.problem is None:
                observer.note(step)
            elif self.outlook.scope is Scope.POD and step.kind is StepKind.SYNC_IDENTITY:
                self._repair = False  # a pod must be able to start
                self.narrator.warn([f"{step.pod} keeps its own identity: {outcome.problem}"])
            if outcome.taken:
                self.narrator.taken(step)
                if step.kind is StepKind.FINISH_CLUSTER:
                    self.record.finished_here = True
        self._just_joined = {step.kind for step in steps} == {StepKind.ADD_NODE} and not any(
            node.finished for node in view.nodes
        )

    def foretell(self, topology: Topology, view: ClusterView) -> str:
        """For ``--dry-run``: all steps that would follow. Raises NotSo where there are any."""
        from couchdiscover.decide.simulation import forecast

        ahead = forecast(view, lambda then: self.decide(topology, then))
        self.record.steps, self.record.planned = list(ahead.steps), True
        match ahead.end:
            case Blocked(hazard):
                raise Unsafe(hazard)
            case Rejected(reason):
                raise Denied(reason)
            case Left(reason):
                raise NotSo(reason)
            case Wait(reasons):
                raise NotSo(f"waiting would be needed for {told(reasons)}")
            case _ if ahead.steps:
                raise NotSo(f"there is to do: {told_steps(ahead.steps)}")
            case _:
                return "there is nothing to do"

    # --- waiting ---

    def wait(self, reasons: Mapping[str, str], *, last_word: Denied | None = None) -> None:
        """Says what is waited for, where that is new, and pauses.

        At the end of the time raises TimedOut, or ``last_word`` where there is one.
        """
        self._attempted = ()
        if self._settling and not self._anybody_silent() and not self.deadline.passed:
            pause, *rest = self._settling
            self._settling = tuple(rest)
            self.deadline.sleep(pause)
            return
        self._just_joined = False
        if self.deadline.passed and last_word is not None:
            raise last_word
        if self.deadline.passed:
            # The last look was cut short by the deadline, and knows less than the one before.
            if self._unhurried is not None:
                reasons, self.record.view = self._unhurried
            raise self._timed_out(reasons)
        self._unhurried = (reasons, self.record.view)
        self.narrator.waiting(reasons)
        self.deadline.sleep(look_pause())
        if self.deadline.passed:
            raise last_word or self._timed_out(reasons)

    def _anybody_silent(self) -> bool:
        view = self.record.view
        return view is None or len(view.nodes) < len(view.sights)

    def _timed_out(self, reasons: Mapping[str, str]) -> TimedOut:
        notes = [told(reasons)]
        topology = self.record.topology
        if topology is not None and topology.unpublished:
            notes.append(hidden_pods(topology))
        notes += self.narrator.problems()
        waited = f"timed out after {self.deadline.seconds:g} s"
        if self.deadline.seconds == 0:
            waited = "one look, and it is not so"
        return TimedOut(f"{waited}: {'; '.join(notes)}")
