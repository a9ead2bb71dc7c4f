"""The error tree. Each class carries the exit code and the ``result`` that it ends a run with."""

from typing import ClassVar


class CouchdiscoverError(Exception):
    """Base of everything this program raises on purpose. The text is one whole sentence."""

    exit_code: ClassVar[int] = 1
    result: ClassVar[str] = "error"


class UsageProblem(CouchdiscoverError):
    """An option, a variable or an object that was named is unusable; trying again does not help."""

    exit_code = 2
    result = "usage"


class NotSo(CouchdiscoverError):
    """All was done that may be done, and a person must do the rest."""

    exit_code = 3
    result = "not_so"


class TimedOut(CouchdiscoverError):
    """The deadline passed; the text names who was waited for, and why."""

    exit_code = 4
    result = "timed_out"


class Denied(CouchdiscoverError):
    """CouchDB refused the credentials, or Kubernetes the access."""

    exit_code = 5
    result = "denied"


class Unsafe(CouchdiscoverError):
    """Going on could lose or hide data."""

    exit_code = 6
    result = "unsafe"


class Interrupted(BaseException):
    """A signal ended the run. The exit code is 128 + the signal's number.

    No ``Exception``: raised in the midst of anything, it must not be taken for a failure of that.
    """

    result: ClassVar[str] = "interrupted"

    def __init__(self, number: int, name: str) -> None:
        super().__init__(f"interrupted by {name}; run it again, it goes on from what it finds")
        self.exit_code = 128 + number


class NotYet(CouchdiscoverError):
    """Something is missing that may still come; waited for until the deadline, then it is 4.

    ``retry_after`` are the seconds before which it is not asked for again, where that is known.
    """

    exit_code = 4
    result = "timed_out"
    retry_after: float | None = None
