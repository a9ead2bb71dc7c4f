"""Streams that are closed, full or read by nobody fail no run."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

PRINTS = """
import sys
from couchdiscover.output.streams import protect
protect()
print("to stdout", flush=True)
print("to stderr", file=sys.stderr)
print("left in the buffer \u00e4")
sys.exit(3)
"""

FULL = Path("/dev/full")
needs_full = pytest.mark.skipif(not FULL.exists(), reason="there is no /dev/full here")


def run(redirected: str = "", **variables: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        ["/bin/sh", "-c", f'exec "$0" -c "$1" {redirected}', sys.executable, PRINTS],
        capture_output=True,
        text=True,
        env={**os.environ, **variables},
        timeout=60,
        check=False,
    )


def test_what_can_be_written_is() -> None:
    ended = run(PYTHONIOENCODING="utf-8")
    assert (ended.returncode, ended.stderr) == (3, "to stderr\n")
    assert ended.stdout == "to stdout\nleft in the buffer ä\n"


def test_what_does_not_fit_the_encoding_is_escaped() -> None:
    assert "left in the buffer \\xe4" in run(PYTHONIOENCODING="ascii").stdout


@pytest.mark.parametrize("closed", [">&-", "2>&-", ">&- 2>&-", "<&- >&- 2>&-", "<&-"])
def test_closed_streams(closed: str) -> None:
    ended = run(closed)
    assert ended.returncode == 3
    assert "Traceback" not in ended.stderr


@needs_full
@pytest.mark.parametrize("full", [">/dev/full", "2>/dev/full", ">/dev/full 2>/dev/full"])
def test_full_disks(full: str) -> None:
    ended = run(full)
    assert ended.returncode == 3
    assert "Error" not in ended.stderr


def test_a_reader_that_is_gone() -> None:
    reading, writing = os.pipe()
    os.close(reading)
    process = subprocess.Popen(
        [sys.executable, "-c", PRINTS], stdout=writing, stderr=subprocess.PIPE, text=True
    )
    os.close(writing)
    _, err = process.communicate(timeout=60)
    assert (process.returncode, err) == (3, "to stderr\n")


def test_a_closed_stdout_is_nobody_elses() -> None:
    """What is opened later must not get the number 1, and with it what is printed."""
    code = PRINTS.replace("sys.exit(3)", "import os; sys.exit(os.open(os.devnull, 0))")
    ended = subprocess.run(
        ["/bin/sh", "-c", 'exec "$0" -c "$1" >&-', sys.executable, code], timeout=60, check=False
    )
    assert ended.returncode > 2
