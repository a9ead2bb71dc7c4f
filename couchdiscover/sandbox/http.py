"""A small HTTP/1.1 server: any number of listeners on one background thread.

Everything of the sandbox is served from here. A thousand CouchDB nodes are a thousand listeners of
one asyncio loop, so that they cost sockets and no threads.
"""

import asyncio
import contextlib
import io
import json
import ssl
import threading
from collections.abc import Awaitable, Callable, Coroutine, Mapping
from dataclasses import dataclass, field
from http import HTTPStatus
from http.client import HTTPException, HTTPResponse
from typing import Any, TypeVar
from urllib.parse import parse_qsl, unquote

MAX_HEAD = 64 * 1024
MAX_BODY = 16 * 1024 * 1024

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Request:
    """One request. ``path`` is decoded, ``target`` is what stood in the request line."""

    method: str
    target: str
    path: str
    query: Mapping[str, str]
    headers: Mapping[str, str]
    body: bytes
    client: str = "127.0.0.1"
    node: str = ""

    def json(self) -> Any:
        """The body as JSON; raises ValueError where it is none."""
        return json.loads(self.body)


@dataclass(frozen=True, slots=True)
class Response:
    """An ordinary answer. A str or bytes body is sent as it is, anything else as JSON."""

    status: int
    body: Any = b""
    headers: Mapping[str, str] = field(default_factory=dict)

    def encode(self) -> bytes:
        """The answer as bytes on the wire."""
        if isinstance(self.body, bytes):
            body = self.body
        elif isinstance(self.body, str):
            body = self.body.encode()
        else:
            body = json.dumps(self.body, separators=(",", ":")).encode() + b"\n"
        headers = {"content-type": "application/json", **self.headers}
        headers["content-length"] = str(len(body))
        head = f"HTTP/1.1 {self.status} {_phrase(self.status)}\r\n"
        head += "".join(f"{name}: {value}\r\n" for name, value in headers.items())
        return head.encode("latin-1") + b"\r\n" + body


@dataclass(frozen=True, slots=True)
class Wire:
    """An answer that misbehaves: raw bytes and pauses (floats, in seconds), then the end.

    The connection is closed afterwards; with ``reset`` it is torn down without a goodbye. For
    ``refusing`` seconds from then on the server takes no connection, and has ended all others.
    """

    parts: tuple[bytes | float, ...] = ()
    reset: bool = False
    refusing: float = 0.0


Handler = Callable[[Request], Awaitable[Response | Wire]]


def _phrase(status: int) -> str:
    try:
        return HTTPStatus(status).phrase
    except ValueError:
        return "Unknown"


class _Received:
    """What ``HTTPResponse`` takes for a socket: an answer that has come in as a whole."""

    def __init__(self, data: bytes) -> None:
        self._data = data

    def makefile(self, _mode: str) -> io.BytesIO:
        """The answer as a file."""
        return io.BytesIO(self._data)


async def forward(request: Request, host: str, port: int) -> Response | Wire:
    """Has another server answer a request; a connection that fails there is one reset here."""
    headers = {**request.headers, "connection": "close"}
    head = f"{request.method} {request.target} HTTP/1.1\r\n"
    head += "".join(f"{name}: {value}\r\n" for name, value in headers.items())
    try:
        reader, writer = await asyncio.open_connection(host, port)
        with contextlib.closing(writer):
            writer.write(head.encode("latin-1") + b"\r\n" + request.body)
            data = await reader.read()
        found = HTTPResponse(_Received(data), method=request.method)  # type: ignore[arg-type]
        found.begin()
        body = found.read()
    except (OSError, HTTPException):
        return Wire(reset=True)
    of_the_connection = ("connection", "content-length", "transfer-encoding")
    kept = {n.lower(): v for n, v in found.getheaders() if n.lower() not in of_the_connection}
    return Response(found.status, body, kept)


class Loop:
    """The background thread on which every server of a sandbox runs."""

    def __init__(self) -> None:
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="sandbox", daemon=True)
        self._thread.start()

    def run(self, work: Coroutine[Any, Any, T]) -> T:
        """Runs a coroutine on the thread and waits for what it returns.

        Raises RuntimeError on the thread itself, which would wait for ever: a handler that wants
        to start or stop servers does so in ``asyncio.to_thread``.
        """
        if threading.current_thread() is self._thread:
            work.close()
            raise RuntimeError("called from a handler: use asyncio.to_thread")
        return asyncio.run_coroutine_threadsafe(work, self._loop).result()

    def serve(
        self, handler: Handler, host: str, port: int = 0, tls: ssl.SSLContext | None = None
    ) -> "Server":
        """Listens on an address; port 0 takes a free one. Raises OSError where it cannot."""
        server = Server(handler)
        self.run(server.open(host, port, tls))
        return server

    def stop(self, server: "Server") -> None:
        """Ends a server as a killed process does: listener and open connections at once."""
        self.run(server.close())

    def close(self) -> None:
        """Ends the thread and everything on it."""

        async def cancel() -> None:
            tasks = [t for t in asyncio.all_tasks() if t is not asyncio.current_task()]
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

        if self._loop.is_closed():
            return
        self.run(cancel())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()


class Server:
    """One listener. Made by ``Loop.serve``."""

    def __init__(self, handler: Handler) -> None:
        self._handler = handler
        self._listener: asyncio.Server | None = None
        self._tls: ssl.SSLContext | None = None
        self._open = False
        self._connections: set[asyncio.StreamWriter] = set()
        self.host = ""
        self.port = 0

    async def open(self, host: str, port: int, tls: ssl.SSLContext | None) -> None:
        """Starts listening. Raises OSError where the address cannot be had."""
        self._tls = tls
        self._listener = await asyncio.start_server(
            self._converse, host, port, ssl=tls, limit=MAX_HEAD
        )
        self.host, self.port = self._listener.sockets[0].getsockname()[:2]
        self._open = True

    async def close(self) -> None:
        """Stops listening and drops every open connection."""
        self._open = False
        self._drop()

    def _drop(self) -> None:
        if self._listener is not None:
            self._listener.close()
            self._listener = None
        for writer in tuple(self._connections):
            writer.transport.abort()

    async def _refuse(self, seconds: float) -> None:
        self._drop()
        await asyncio.sleep(seconds)
        if self._open and self._listener is None:
            await self.open(self.host, self.port, self._tls)

    async def _converse(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._connections.add(writer)
        try:
            while (request := await _read_request(reader, writer)) is not None:
                answer = await self._handler(request)
                if isinstance(answer, Wire):
                    await _misbehave(writer, answer)
                    if answer.refusing:
                        await self._refuse(answer.refusing)
                    return
                data = answer.encode()
                if request.method == "HEAD":
                    data = data[: data.index(b"\r\n\r\n") + 4]
                writer.write(data)
                await writer.drain()
                if request.headers.get("connection", "").lower() == "close":
                    return
        except asyncio.CancelledError:
            pass  # the sandbox is being closed; what raises here is printed with a traceback
        except (OSError, asyncio.IncompleteReadError, asyncio.LimitOverrunError, ValueError):
            return  # the other side went away, or does not speak HTTP
        finally:
            self._connections.discard(writer)
            writer.close()
            with contextlib.suppress(OSError, asyncio.CancelledError):
                await writer.wait_closed()


async def _misbehave(writer: asyncio.StreamWriter, wire: Wire) -> None:
    for part in wire.parts:
        if isinstance(part, float):
            await asyncio.sleep(part)
        else:
            writer.write(part)
            await writer.drain()
    if wire.reset:
        writer.transport.abort()


async def _read_request(
    reader: asyncio.StreamReader, writer: asyncio.StreamWriter
) -> Request | None:
    try:
        head = await reader.readuntil(b"\r\n\r\n")
    except asyncio.IncompleteReadError as error:
        if error.partial.strip():
            raise
        return None
    first, *lines = head.decode("latin-1").rstrip("\r\n").split("\r\n")
    method, target, _version = first.split(" ", 2)
    headers = {}
    for line in lines:
        name, _, value = line.partition(":")
        headers[name.strip().lower()] = value.strip()
    length = int(headers.get("content-length", "0"))
    if not 0 <= length <= MAX_BODY:
        raise ValueError("body too large for the sandbox")
    body = await reader.readexactly(length)
    path, _, query = target.partition("?")
    peer = writer.get_extra_info("peername")
    return Request(
        method=method,
        target=target,
        path=unquote(path),
        query=dict(parse_qsl(query, keep_blank_values=True)),
        headers=headers,
        body=body,
        client=peer[0] if isinstance(peer, tuple) else "",
    )
