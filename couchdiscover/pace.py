"""How the commands wait: pauses, the deadline, and what is said when it passes."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace

from couchdiscover.errors import Denied, NotYet, TimedOut
from couchdiscover.kube.client import DeniedForNow
from couchdiscover.net.deadline import SETTLING, Deadline, look_pause, retry_pauses
from couchdiscover.output.events import Narrator, hidden_pods, questions, told
from couchdiscover.state.nodes import ClusterView
from couchdiscover.state.reasons import Plain, Reason
from couchdiscover.state.steps import Done, Refuse, Wait


@dataclass(slots=True)
class Pace:
    """Waits between two looks, and ends at the deadline.

    A look that the deadline cuts short knows less than the one before: what is told at the end is
    the last whole one's.
    """

    deadline: Deadline
    narrator: Narrator
    _whole: tuple[Wait, ClusterView | None] | None = None
    _unseen: str = ""
    _settling: tuple[float, ...] = ()
    _advanced_to: tuple[int, int] | None = None
    retries: Iterator[float] = field(default_factory=retry_pauses)

    def acted(self, what: str = "") -> None:
        """After a step of our own the next looks come soon: news spreads within 0.2 s.

        ``what`` was done is what there is to tell where the time ends before it is seen.
        """
        self._settling = SETTLING
        self._unseen = what

    @property
    def settles(self) -> bool:
        """Whether what was done may still be on its way."""
        return bool(self._settling)

    def wait(self, wait: Wait, pause: float | None = None) -> Done | Refuse | None:
        """Says what is waited for, where that is new, and pauses.

        At the end of the time returns what the decision has for that, or raises TimedOut.
        """
        self._follow(wait)
        if self._settling and not self._anybody_silent() and not self.deadline.passed:
            seconds, *rest = self._settling
            self._settling = tuple(rest)
            self.deadline.sleep(seconds)
            return None
        if not self.deadline.passed:
            self._whole, self._unseen = (wait, self.narrator.record.view), ""
            self.narrator.waiting(wait.reasons)
            self.deadline.sleep(look_pause() if pause is None else pause)
            if not self.deadline.passed:
                return None
        else:
            wait = self._last_whole(wait)
        if wait.at_the_end is not None and self.deadline.seconds:
            return wait.at_the_end
        raise self.timed_out(wait.reasons)

    def _last_whole(self, cut_short: Wait) -> Wait:
        """What the last whole look has told; where something was done since then, that."""
        wait = cut_short
        if self._whole is not None:
            wait, view = self._whole
            if view is not None:
                self.narrator.seen(view)
        if not self._unseen:
            return wait
        unseen = Plain(f"what came of {self._unseen} was not seen in time")
        return replace(wait, reasons={"": unseen})

    def wait_for(self, missing: NotYet) -> None:
        """The same for what the Kubernetes API does not have, or not allow, yet.

        Raises Denied at the end where access was denied.
        """
        last_word: Denied | None = missing.denial if isinstance(missing, DeniedForNow) else None
        if self.deadline.passed and last_word is not None:
            raise last_word
        reasons: dict[str, Reason] = {"": Plain(str(missing))}
        try:
            self.wait(Wait(reasons), missing.retry_after)
        except TimedOut:
            if last_word is not None:
                raise last_word from None
            raise

    def timed_out(self, reasons: Mapping[str, Reason]) -> TimedOut:
        """The error for the end of the time, with everything that was waited for."""
        notes = [told(reasons), *questions(reasons.values())]
        topology = self.narrator.record.topology
        problem = topology.service_problem if topology is not None else None
        if problem and problem not in notes[0]:
            notes.append(problem)
        elif topology is not None and not problem and topology.unpublished:
            notes.append(hidden_pods(topology))
        notes += self.narrator.problems()
        waited = f"timed out after {self.deadline.seconds:g} s"
        if self.deadline.seconds == 0:
            waited = "one look, and it is not so"
        return TimedOut(f"{waited}: {'; '.join(notes)}")

    def _follow(self, wait: Wait) -> None:
        """While what is waited for advances by itself, the deadline does not count."""
        if wait.advancing is None:
            return
        if self._advanced_to is None or wait.advancing > self._advanced_to:
            self._advanced_to = wait.advancing
            self.deadline.restart()

    def _anybody_silent(self) -> bool:
        view = self.narrator.record.view
        return view is None or len(view.nodes) < len(view.sights)
