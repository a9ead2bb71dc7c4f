"""The real command, in a process of its own."""

import subprocess
import sys
from collections.abc import Mapping, Sequence


def start(
    words: Sequence[str],
    environment: Mapping[str, str],
    *,
    stdout: int | None = None,
    stderr: int | None = None,
) -> "subprocess.Popen[str]":
    """Starts couchdiscover with these words and just this environment.

    Its output is ours where nothing else is said, in the way of ``subprocess``.
    """
    return subprocess.Popen(  # noqa: S603 - our own program
        [sys.executable, "-m", "couchdiscover", *words],
        env=environment,
        stdin=subprocess.DEVNULL,
        stdout=stdout,
        stderr=stderr,
        text=True,
        errors="replace",
    )


def run(
    words: Sequence[str],
    environment: Mapping[str, str],
    *,
    stdout: int | None = None,
    stderr: int | None = None,
) -> int:
    """The same to its end; its exit code, negative for a signal. If we are ended, so is it."""
    process = start(words, environment, stdout=stdout, stderr=stderr)
    try:
        return process.wait()
    except BaseException:
        process.kill()
        process.wait()
        raise
