"""stdout and stderr as they may be: closed, full, or read by nobody. None of it fails a run."""

import io
import os
import sys
from typing import TYPE_CHECKING, TextIO

if TYPE_CHECKING:
    from _typeshed import ReadableBuffer


def protect() -> None:
    """Has what cannot be written dropped, so that the exit code stays that of the result.

    A pipe whose reader is gone and a full disk raise OSError at a print, and at Python's exit once
    more, which makes 120 of any exit code. A closed stream is None in Python, and its number would
    be taken by the next socket: it becomes /dev/null.
    """
    _open_closed()
    sys.stdout = _protected(sys.stdout)
    sys.stderr = _protected(sys.stderr)


def _open_closed() -> None:
    while (descriptor := os.open(os.devnull, os.O_RDWR)) <= 2:
        os.set_inheritable(descriptor, True)
    os.close(descriptor)
    for name, mode, descriptor in (("stdin", "r", 0), ("stdout", "w", 1), ("stderr", "w", 2)):
        if getattr(sys, name) is None:
            setattr(sys, name, os.fdopen(descriptor, mode, closefd=False))


def _protected(stream: TextIO) -> TextIO:
    if not isinstance(stream, io.TextIOWrapper):
        return stream  # a test's
    stream.flush()
    return io.TextIOWrapper(
        io.BufferedWriter(_Dropping(stream.fileno(), "w", closefd=False)),
        encoding=stream.encoding,
        errors="backslashreplace",  # a name may not fit into the terminal's encoding
        line_buffering=stream.line_buffering,
        write_through=stream.write_through,
    )


class _Dropping(io.FileIO):
    """Writes, and drops what cannot be written."""

    def write(self, data: "ReadableBuffer") -> int:
        """Writes what can be; the rest counts as written."""
        try:
            return super().write(data) or 0
        except OSError:
            return memoryview(data).nbytes
