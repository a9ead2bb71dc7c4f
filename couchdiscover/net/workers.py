"""Doing the same with many nodes at once, with an end."""

import queue
import threading
import time
from collections.abc import Callable, Sequence
from typing import TypeVar

Item = TypeVar("Item")
Result = TypeVar("Result")

LIMIT = 32
"""Threads at most, however many nodes there are."""


def for_each(
    items: Sequence[Item], work: Callable[[Item], Result], seconds: float
) -> list[Result | None]:
    """``work`` of each item, in the items' order; None where it was not done within ``seconds``.

    The threads are daemons: one that hangs (in a name look-up, say) is left behind, and neither
    delays the run nor, as the pools of the standard library would, the end of the process. What
    ``work`` raises is raised here.
    """
    waiting: queue.SimpleQueue[int] = queue.SimpleQueue()
    for at in range(len(items)):
        waiting.put(at)
    done: queue.SimpleQueue[tuple[int, Result | None, BaseException | None]] = queue.SimpleQueue()

    def worker() -> None:
        while True:
            try:
                at = waiting.get_nowait()
            except queue.Empty:
                return
            try:
                done.put((at, work(items[at]), None))
            except BaseException as error:  # noqa: BLE001 - handed to the caller's thread
                done.put((at, None, error))

    for _ in range(min(LIMIT, len(items))):
        threading.Thread(target=worker, daemon=True).start()
    until = time.monotonic() + seconds
    results: list[Result | None] = [None] * len(items)
    try:
        for _ in items:
            try:
                at, result, error = done.get(timeout=max(0.0, until - time.monotonic()))
            except queue.Empty:
                break
            if error is not None:
                raise error
            results[at] = result
    finally:
        _empty(waiting)  # what has not begun by now is not wanted any more
    return results


def _empty(waiting: "queue.SimpleQueue[int]") -> None:
    while True:
        try:
            waiting.get_nowait()
        except queue.Empty:
            return
