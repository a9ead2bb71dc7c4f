"""SIGTERM and SIGINT."""

import signal
from types import FrameType

from couchdiscover.errors import Interrupted

_ENDING = (signal.SIGTERM, signal.SIGINT)


def catch_signals() -> None:
    """Has them raise Interrupted, once; as PID 1 a process has no default for them."""
    for number in _ENDING:
        signal.signal(number, _interrupt)


def _interrupt(number: int, _frame: FrameType | None) -> None:
    for each in _ENDING:
        signal.signal(each, signal.SIG_IGN)  # the end is near enough
    raise Interrupted(number, signal.Signals(number).name)
