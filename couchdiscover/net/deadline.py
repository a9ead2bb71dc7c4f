"""One monotonic deadline over everything, and the pauses between two looks."""

import random
import time
from collections.abc import Iterator

LOOK_PAUSE = (0.25, 0.45)
"""Seconds between two looks: under 0.3 s in the median until a node that comes up is seen, and at
most three requests a second to one that is down."""

SETTLING = (0.05, 0.1, 0.15)
"""Seconds before the looks that follow a step of our own: news spreads among CouchDB's nodes within
0.1 s to 0.2 s. Only where all nodes answer; one that is down is not asked more often for that."""

RETRY_CEILING = 5.0
"""Seconds, at most, between two tries of the same step."""


class Deadline:
    """The end of a run, in seconds from its making.

    With 0 there is one look: ``passed`` is true from the start, and requests are capped by their
    own timeout alone.
    """

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds
        self.started = self.started_anew = time.monotonic()

    @property
    def elapsed(self) -> float:
        """Seconds since the run began."""
        return time.monotonic() - self.started

    def restart(self) -> None:
        """Begins the time anew; without effect where there is one look only."""
        self.started_anew = time.monotonic()

    @property
    def left(self) -> float:
        """Seconds until the end; 0 or less where it has passed."""
        return self.seconds - (time.monotonic() - self.started_anew)

    @property
    def passed(self) -> bool:
        """Whether the time is over."""
        return self.left <= 0

    def cap(self, seconds: float) -> float:
        """A timeout in seconds, cut to what is left; never 0, which sockets take for none."""
        if self.seconds == 0:
            return seconds
        return max(0.01, min(seconds, self.left))

    def sleep(self, seconds: float) -> None:
        """Pauses, but not beyond the end."""
        if self.left > 0:
            time.sleep(min(seconds, max(0.0, self.left)))

    def rest(self, seconds: float) -> None:
        """Pauses within a look, which takes its time also where there is one only."""
        if self.seconds == 0:
            time.sleep(seconds)
        else:
            self.sleep(seconds)


def look_pause() -> float:
    """A pause before the next look, in seconds; jittered, so that many pods do not ask in step."""
    return random.uniform(*LOOK_PAUSE)  # noqa: S311 - jitter is no secret


def retry_pauses() -> Iterator[float]:
    """Growing pauses, in seconds, before the same step is tried again."""
    ceiling = LOOK_PAUSE[1]
    while True:
        yield random.uniform(ceiling / 2, ceiling)  # noqa: S311 - jitter is no secret
        ceiling = min(ceiling * 2, RETRY_CEILING)
