"""What the tests share: the real command as a subprocess, and sandboxes for it to run against."""

import functools
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from couchdiscover.sandbox import Sandbox
from tests.support.releases import SIMULATED, real_homes, release_of

PASSWORD = "pass/word+with ünusual=signs"
"""Marked, so that it can be looked for in every output; it is neither ASCII nor URL-safe."""

REAL_PASSWORD = "password-of-the-test"
"""For real nodes, whose ini files take no leading or odd characters as they are."""


@dataclass(frozen=True)
class Ended:
    """A run of the command that is over."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> dict[str, Any]:
        """The result, where -o json was asked for."""
        result: dict[str, Any] = json.loads(self.out)
        return result

    @property
    def last_line(self) -> str:
        """The last line of the log, without time and level."""
        return self.err.rstrip().splitlines()[-1].split(maxsplit=2)[2]


class Command:
    """``couchdiscover`` in a process of its own, with nothing of our environment."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def start(self, *arguments: str, environment: Mapping[str, str]) -> subprocess.Popen[str]:
        """Starts it, and does not wait."""
        keep = {key: value for key, value in os.environ.items() if key.startswith("COVERAGE")}
        return subprocess.Popen(
            [sys.executable, "-m", "couchdiscover", *arguments],
            env={
                "PATH": os.environ["PATH"],
                "HOME": str(self.folder),
                "COUCHDISCOVER_LOG_LEVEL": "DEBUG",  # so that every test looks for secrets there
                **keep,
                **environment,
            },
            cwd=self.folder,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def __call__(self, *arguments: str, environment: Mapping[str, str]) -> Ended:
        """Runs it to its end, and looks for a traceback while at it."""
        return finish(self.start(*arguments, environment=environment))


def finish(process: subprocess.Popen[str], seconds: float = 120) -> Ended:
    """Waits for the end of a started command."""
    try:
        out, err = process.communicate(timeout=seconds)
    except subprocess.TimeoutExpired:
        process.send_signal(signal.SIGKILL)
        out, err = process.communicate()
        raise AssertionError(f"did not end\n{out}\n{err}") from None
    assert "Traceback" not in err, err
    for text in (out, err):
        assert PASSWORD not in text
        assert REAL_PASSWORD not in text
    return Ended(process.returncode, out, err)


def until_asked(box: Sandbox, path: str) -> None:
    """Waits until some server of a sandbox was asked for a path that holds this.

    A process takes its time to start where others are busy: what is to happen while it runs must
    not be timed from here.
    """
    end = time.monotonic() + 30
    while time.monotonic() < end:
        if any(path in request.path for request in [*box.api.requests, *box.requests()]):
            return
        time.sleep(0.02)
    raise AssertionError(f"nobody asked for {path}")


@pytest.fixture
def couchdiscover(tmp_path: Path) -> Command:
    """The command."""
    return Command(tmp_path)


@pytest.fixture
def sandbox() -> Iterator[Callable[..., Sandbox]]:
    """Makes sandboxes, and takes them down at the end. Delays are a tenth of CouchDB's."""
    made: list[Sandbox] = []

    def make(nodes: int = 3, **options: Any) -> Sandbox:
        options = {"pace": 0.1, "password": PASSWORD, **options}
        box = Sandbox(nodes, **options)
        made.append(box.__enter__())
        return box

    yield make
    for box in reversed(made):
        box.__exit__(None, None, None)


def _id(release: str | Path | None) -> str:
    if release is None:
        return "real"
    # A release lies in a folder of any name, most often "couchdb"; its version is below.
    return f"simulated-{release}" if isinstance(release, str) else f"real-{release_of(release)}"


@pytest.fixture(params=[*SIMULATED, *(real_homes() or [None])], ids=_id)
def any_sandbox(
    request: pytest.FixtureRequest, sandbox: Callable[..., Sandbox]
) -> Callable[..., Sandbox]:
    """Sandboxes of simulated nodes of every version, and of real ones of every release there is."""
    release = request.param
    if isinstance(release, str):
        return functools.partial(sandbox, version=release)
    if release is None:
        pytest.skip("COUCHDB_HOME names no CouchDB release: not tried against real nodes")
    return functools.partial(sandbox, real=release, password=REAL_PASSWORD)
