"""The real command, as a test starts it and reads what came of it."""

import os
import signal
import subprocess
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol

from couchdiscover.sandbox import Sandbox
from tests.support.processes import Ended, Nursery, Running

PASSWORD = "pass/word+with ünusual=signs"
"""Marked, so that it can be looked for in every output; it is neither ASCII nor URL-safe."""

REAL_PASSWORD = "password-of-the-test"
"""For real nodes, whose ini files take no leading or odd characters as they are."""


class Process(Protocol):
    """What has been started: a ``Running``, or a Popen of the test's own."""

    @property
    def returncode(self) -> Any:
        """The exit code; None as long as it runs."""

    def send_signal(self, number: int, /) -> None:
        """Sends it a signal."""

    def communicate(self, *, timeout: float) -> tuple[str, str]:
        """What it wrote, when it is over."""


class Command:
    """``couchdiscover`` in a process of its own, with nothing of our environment."""

    def __init__(self, folder: Path, nursery: Nursery) -> None:
        self.folder = folder
        self.nursery = nursery

    def start(self, *arguments: str, environment: Mapping[str, str], stdin: bytes = b"") -> Running:
        """Starts it, and does not wait."""
        usual = {
            "PATH": os.environ["PATH"],
            "HOME": str(self.folder),
            "COUCHDISCOVER_LOG_LEVEL": "DEBUG",  # so that every test looks for secrets there
        }
        return self.nursery.fork(arguments, {**usual, **environment}, self.folder, stdin)

    def __call__(self, *arguments: str, environment: Mapping[str, str]) -> Ended:
        """Runs it to its end, and looks for a traceback while at it."""
        return finish(self.start(*arguments, environment=environment))


def finish(process: Process, seconds: float = 120) -> Ended:
    """Waits for the end of a started command."""
    try:
        out, err = process.communicate(timeout=seconds)
    except subprocess.TimeoutExpired:
        process.send_signal(signal.SIGKILL)
        out, err = process.communicate(timeout=10)
        raise AssertionError(f"did not end\n{out}\n{err}") from None
    assert "Traceback" not in err, err
    for text in (out, err):
        assert PASSWORD not in text
        assert REAL_PASSWORD not in text
    return Ended(process.returncode, out, err)


def until_said(process: Running, text: str, seconds: float = 60) -> None:
    """Waits until the log of a started command has this."""
    end = time.monotonic() + seconds
    while text not in process.read("err"):
        over = process.poll() is not None
        assert not over or text in process.read("err"), process.read("err")
        assert time.monotonic() < end, process.read("err")
        time.sleep(0.01)


def until_asked(box: Sandbox, path: str, seconds: float = 60) -> None:
    """Waits until some server of a sandbox was asked for a path that holds this.

    A process takes its time to start where others are busy: what is to happen while it runs must
    not be timed from here.
    """
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        asked = [each.path for each in box.api.requests] + [each.path for each in box.requests()]
        if any(path in each for each in asked):
            return
        time.sleep(0.01)
    raise AssertionError(f"nobody asked for {path}")
