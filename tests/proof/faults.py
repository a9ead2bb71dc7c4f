"""Answers gone wrong: everything that a network, a proxy or a broken server may do to a request."""

import asyncio
from collections.abc import Awaitable, Callable

from couchdiscover.net.http import MAX_ANSWER
from couchdiscover.sandbox.box import API, Proceed
from couchdiscover.sandbox.http import Request, Response, Wire

Fault = Callable[[str, Request, Proceed], Awaitable[Response | Wire]]

SILENCE = 30.0
"""Seconds; far more than any request timeout of the proofs."""

PLAIN = {"content-type": "text/html"}


def answer(status: int, body: object = b"", **headers: str) -> Fault:
    """Always the same answer; the request has no effect."""
    named = {name.replace("_", "-"): value for name, value in headers.items()}

    async def fault(pod: str, request: Request, proceed: Proceed) -> Response:
        return Response(status, body, named)

    return fault


def wire(*parts: bytes | float, reset: bool = False) -> Fault:
    """Raw bytes and pauses; the request has no effect."""

    async def fault(pod: str, request: Request, proceed: Proceed) -> Wire:
        return Wire(parts, reset=reset)

    return fault


def after(fault: Fault) -> Fault:
    """The same once the request has had its effect."""

    async def late(pod: str, request: Request, proceed: Proceed) -> Response | Wire:
        await proceed()
        return await fault(pod, request, proceed)

    return late


def refused(status: int, name: str, reason: str) -> Fault:
    """An error in the words of CouchDB, or of Kubernetes."""

    async def fault(pod: str, request: Request, proceed: Proceed) -> Response:
        if pod != API:
            return Response(status, {"error": name, "reason": reason})
        return Response(
            status,
            {
                "kind": "Status",
                "apiVersion": "v1",
                "status": "Failure",
                "reason": name,
                "message": reason,
                "code": status,
            },
        )

    return fault


async def truncated(pod: str, request: Request, proceed: Proceed) -> Wire:
    """The true answer, and the connection ends in its midst."""
    found = await proceed()
    data = found.encode() if isinstance(found, Response) else b""
    return Wire((data[: -max(1, len(data) // 8)],))


async def dripping(pod: str, request: Request, proceed: Proceed) -> Wire:
    """The true answer, a byte at a time: each in time, all of them never."""
    found = await proceed()
    data = found.encode() if isinstance(found, Response) else b""
    return Wire(tuple(part for byte in data for part in (bytes([byte]), 0.1)))


async def mistyped(pod: str, request: Request, proceed: Proceed) -> Response | Wire:
    """The true answer under a wrong content type, which says nothing about the body."""
    found = await proceed()
    if isinstance(found, Response):
        return Response(found.status, found.body, {**found.headers, **PLAIN})
    return found


async def echoing(pod: str, request: Request, proceed: Proceed) -> Response:
    """An error that repeats all that was sent, as chatty proxies and crash reports do."""
    sent = " ".join(f"{name}: {value}" for name, value in request.headers.items())
    text = f"{sent} {request.target} {request.body.decode(errors='replace')}"
    return await refused(500, text, text)(pod, request, proceed)  # type: ignore[return-value]


async def parroting(pod: str, request: Request, proceed: Proceed) -> Response:
    """An error that repeats the body, as a crash report shows the arguments."""
    text = request.body.decode(errors="replace")
    return await refused(500, text, text)(pod, request, proceed)  # type: ignore[return-value]


async def silent(pod: str, request: Request, proceed: Proceed) -> Response:
    """Nothing for longer than anybody waits."""
    await asyncio.sleep(SILENCE)
    return Response(500)


HTML = "<html><body>Bad Gateway</body></html>"
HEAD = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\n"


async def refusing(pod: str, request: Request, proceed: Proceed) -> Wire:
    """The server is gone, with all its connections, and comes back."""
    return Wire(reset=True, refusing=0.4)


FAULTS: dict[str, Fault] = {
    "refused before": refusing,
    "refused after": after(refusing),
    "reset before": wire(reset=True),
    "reset after": after(wire(reset=True)),
    "closed before": wire(),
    "closed after": after(wire()),
    "silent before": silent,
    "silent after": after(silent),
    "dripping": dripping,
    "truncated": truncated,
    "500": refused(500, "internal_server_error", "something"),
    "500 after": after(refused(500, "internal_server_error", "something")),
    "502": answer(502, HTML, **PLAIN),
    "503": answer(503, {"error": "busy", "reason": "later"}, retry_after="1"),
    "429": answer(429, {"error": "too_many_requests", "reason": "later"}, retry_after="1"),
    "401": refused(401, "unauthorized", "Name or password is incorrect."),
    "403": refused(403, "forbidden", "Account is temporarily locked"),
    "404": refused(404, "not_found", "missing"),
    "409": refused(409, "conflict", "Document update conflict."),
    "redirect": answer(302, b"", location="http://127.0.0.1:1/elsewhere"),
    "endless redirect": answer(307, b"", location="/"),
    "mistyped": mistyped,
    "null": answer(200, b"null"),
    "list": answer(200, b"[]"),
    "object": answer(200, b"{}"),
    "number": answer(200, b"1e999"),
    "nested": answer(200, b"[" * 100_000),
    "no UTF-8": answer(200, b'{"name": "\xff\xfe\x00"}'),
    "too large": answer(200, b" " * (MAX_ANSWER + 1)),
    "empty": answer(200),
    "no HTTP": wire(b"220 smtp.example.org ESMTP\r\n"),
    "bad length": wire(HEAD + b"content-length: -1\r\n\r\n{}"),
    "bad chunks": wire(HEAD + b"transfer-encoding: chunked\r\n\r\nzz\r\n{}\r\n"),
    "bad encoding": wire(HEAD + b"content-encoding: gzip\r\ncontent-length: 2\r\n\r\n{}"),
    "endless head": wire(b"HTTP/1.1 200 OK\r\n" + b"x: y\r\n" * 200),
    "echoing": echoing,
    "parroting": parroting,
}
