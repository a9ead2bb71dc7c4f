"""Simulated time: what is to happen later, and waiting for it."""

import asyncio
import heapq
import itertools
import threading
import time
from collections.abc import Callable


class Clock:
    """A clock, and the events that it lets happen.

    ``pace`` multiplies every simulated delay: 1.0 is as measured, 0 is none. What is to happen
    later (a connection, a replication) happens when the next request comes in after its time, or at
    ``settle()``. ``lock`` guards the state of all nodes; a request holds it while it reads or
    changes something, never while it waits, so nodes may be started, stopped and wiped from any
    thread.
    """

    def __init__(self, pace: float) -> None:
        self.pace = pace
        self.lock = threading.RLock()
        self._events: list[tuple[float, int, Callable[[], None]]] = []
        self._order = itertools.count()
        self._at: float | None = None

    def now(self) -> float:
        """Seconds on a clock that only goes forward."""
        return time.monotonic()

    def wall(self) -> float:
        """Seconds since 1970: names the files of new databases."""
        return time.time()

    async def pause(self, seconds: float, least: float = 0.0) -> None:
        """Waits for a simulated delay, however fast the pace not under ``least`` seconds."""
        await asyncio.sleep(max(seconds * self.pace, least))

    def later(self, seconds: float, action: Callable[[], None], least: float = 0.0) -> None:
        """Has something happen after a simulated delay, not under ``least`` seconds."""
        start = self.now() if self._at is None else self._at
        due = start + max(seconds * self.pace, least)
        heapq.heappush(self._events, (due, next(self._order), action))

    def settle(self) -> None:
        """Lets everything happen whose time has come."""
        with self.lock:
            while self._events and self._events[0][0] <= self.now():
                # What follows from an event is timed from when it was due, not from when a request
                # came in and let it happen.
                self._at, _, action = heapq.heappop(self._events)
                try:
                    action()
                finally:
                    self._at = None

    def forget_events(self) -> None:
        """Lets nothing happen of what was to happen."""
        self._events.clear()
