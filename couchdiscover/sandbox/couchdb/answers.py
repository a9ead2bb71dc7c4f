"""CouchDB's answers in common use."""

import zlib
from collections.abc import Mapping
from typing import Any

from couchdiscover.sandbox.http import Response

OK = {"ok": True}


class RefusalError(Exception):
    """Ends the handling of a request with an error answer."""

    def __init__(self, response: Response) -> None:
        super().__init__(response.status)
        self.response = response


class LoginError(RefusalError):
    """Ends the handling of a request whose name and password were not accepted."""


def fault(
    status: int, error: str, reason: str, headers: Mapping[str, str] | None = None
) -> RefusalError:
    """An error answer, to be raised."""
    return RefusalError(Response(status, {"error": error, "reason": reason}, headers or {}))


def crash(error: str, reason: str) -> RefusalError:
    """A 500 of the kind that carries the number of a stack trace."""
    ref = zlib.crc32(f"{error} {reason}".encode())
    body: dict[str, Any] = {"error": error, "reason": reason, "ref": ref}
    return RefusalError(Response(500, body, {"x-couch-stack-hash": str(ref)}))


def conflict() -> RefusalError:
    """The document has been changed meanwhile, or is there already."""
    return fault(409, "conflict", "Document update conflict.")


def missing(reason: str = "missing") -> RefusalError:
    """There is no such thing."""
    return fault(404, "not_found", reason)


def bad_request(reason: str) -> RefusalError:
    """The request makes no sense."""
    return fault(400, "bad_request", reason)


def not_allowed(*methods: str) -> RefusalError:
    """The path does not know the method."""
    allowed = ",".join(methods)
    return fault(
        405,
        "method_not_allowed",
        f"Only {allowed} allowed",
        {"allow": allowed, "connection": "close"},
    )
