"""HTTP whose requests end: one clock over each, from connecting to the last byte, and one size.

requests' timeouts count per read, so that a server which sends a byte a second could hold a request
for ever; and it reads whatever is sent. Here a request has a time and its answer a size.
"""

import errno
import http.client
import io
import socket
import ssl
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import lru_cache, partial
from pathlib import Path
from typing import Any

import requests
import requests.adapters
import urllib3
import urllib3.connection
import urllib3.connectionpool
from urllib3.util.ssl_ import create_urllib3_context, resolve_cert_reqs

MAX_ANSWER = 16 * 1024 * 1024
"""Bytes of a decoded answer: ``_membership`` of a thousand nodes has 0.2 MB, a Secret at most 1."""

REFUSED = "refuses connections"
CLOSED = "closed the connection without an answer"
NOT_ACCEPTED = "has a TLS certificate that is not accepted"
NO_TLS = "fails at TLS"
"""What ``explain`` begins with, where the next thing to look at is known."""

CONNECT_SECONDS = 3.0
"""Seconds for a connection to come about: pods are near, and one that is gone swallows packets."""

CHUNK = 64 * 1024

# Whoever skips the verification has said so; the warning would stand in the midst of the log.
urllib3.disable_warnings(urllib3.exceptions.InsecureRequestWarning)


Headers = urllib3.HTTPHeaderDict
"""Headers of which several may have one name, unlike requests' own."""


@dataclass(frozen=True, slots=True)
class Gateway:
    """The way to one server through another: what stands before each path, and who goes there.

    ``session`` authenticates to the server on the way, which keeps the Authorization header.
    """

    url: str
    session: requests.Session


Door = Callable[[str, int], Gateway]
"""The gateway to a pod's port."""


class AnswerTooLarge(requests.RequestException):
    """The answer had more bytes than anything asked for here can have."""


class _Clock:
    """When the request under way must be over, on the monotonic clock."""

    def __init__(self) -> None:
        self._until = 0.0

    def start(self, seconds: float) -> None:
        self._until = time.monotonic() + seconds

    def left(self) -> float:
        left = self._until - time.monotonic()
        if left <= 0:
            raise TimeoutError("the answer was not complete in time")
        return left


class _TimedReader(io.RawIOBase):
    """A socket's reader that gives each read only what is left of the request's time."""

    def __init__(self, raw: io.RawIOBase, sock: socket.socket, clock: _Clock) -> None:
        self._raw = raw
        self._sock = sock
        self._clock = clock

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int | None:
        self._sock.settimeout(self._clock.left())
        return self._raw.readinto(buffer)

    def close(self) -> None:
        self._raw.close()
        super().close()


class _TimedAnswer(http.client.HTTPResponse):
    """An answer that is read by the clock, its head included."""

    def __init__(self, sock: socket.socket, *args: Any, clock: _Clock, **kwargs: Any) -> None:
        super().__init__(sock, *args, **kwargs)
        self.fp = io.BufferedReader(_TimedReader(self.fp.detach(), sock, clock))


# What urllib3 makes hands its further arguments down: from the pool to its connections.


class _HttpConnection(urllib3.connection.HTTPConnection):
    def __init__(self, *args: Any, clock: _Clock, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.response_class = partial(_TimedAnswer, clock=clock)  # type: ignore[assignment]


class _HttpsConnection(urllib3.connection.HTTPSConnection):
    def __init__(self, *args: Any, clock: _Clock, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.response_class = partial(_TimedAnswer, clock=clock)  # type: ignore[assignment]
        self._is_told = self.ssl_context is not None

    def connect(self) -> None:
        if not self._is_told:
            authorities = [str(each) for each in (self.ca_certs, self.ca_cert_dir) if each]
            self.ssl_context = _common_context(
                resolve_cert_reqs(self.cert_reqs), *((path, _changed(path)) for path in authorities)
            )
            self.ca_certs = self.ca_cert_dir = None  # they are loaded
        super().connect()


def _changed(path: str) -> float:
    """When a file was last changed; 0 where it is not there, which is then told on loading it."""
    try:
        return Path(path).stat().st_mtime
    except OSError:
        return 0.0


@lru_cache(maxsize=8)
def _common_context(cert_reqs: ssl.VerifyMode, *authorities: tuple[str, float]) -> ssl.SSLContext:
    """One for all connections that check alike: loading the authorities takes 30 ms each time."""
    context = lenient_context(cert_reqs)
    for path, _ in authorities:
        if Path(path).is_dir():
            context.load_verify_locations(capath=path)
        else:
            context.load_verify_locations(cafile=path)
    return context


def lenient_context(cert_reqs: ssl.VerifyMode) -> ssl.SSLContext:
    """urllib3's settings, less the formal demands on a CA that Python makes from 3.13 on.

    Chain, time and name are checked as ever, and as kubectl and curl check them. But the CAs that
    EKS, MicroK8s and many a person made lack a key identifier or a key usage, which
    VERIFY_X509_STRICT insists on (https://github.com/kubernetes-client/python/issues/2394).
    """
    context = create_urllib3_context(cert_reqs=cert_reqs)
    context.verify_flags &= ~ssl.VERIFY_X509_STRICT
    return context


class _HttpPool(urllib3.connectionpool.HTTPConnectionPool):
    ConnectionCls = _HttpConnection


class _HttpsPool(urllib3.connectionpool.HTTPSConnectionPool):
    ConnectionCls = _HttpsConnection


class BoundedAdapter(requests.adapters.HTTPAdapter):
    """requests' adapter with a clock and a size. For one session and one request at a time.

    ``timeout`` of a request, in seconds, is the whole of it. ``tls_name`` is the name that the
    server's certificate must bear where the URL has an address. ``tls`` says how certificates are
    checked, and takes the place of what requests would make of ``verify`` and ``cert``.
    """

    def __init__(
        self,
        *args: Any,
        tls_name: str | None = None,
        tls: ssl.SSLContext | None = None,
        **kwargs: Any,
    ) -> None:
        self._clock = _Clock()
        self._tls_name = tls_name
        self._tls = tls
        super().__init__(*args, **kwargs)

    def init_poolmanager(self, *args: Any, **kwargs: Any) -> None:
        """Has connections made that read by the clock."""
        super().init_poolmanager(*args, **kwargs)
        self._prepare(self.poolmanager)

    def proxy_manager_for(self, proxy: str, **options: Any) -> Any:
        """Likewise through a proxy."""
        known = proxy in self.proxy_manager
        manager = super().proxy_manager_for(proxy, **options)
        if not known:
            self._prepare(manager)
        return manager

    def _prepare(self, manager: urllib3.PoolManager) -> None:
        if self._tls_name:
            # Not "assert_hostname" too: urllib3's own check would take the place of OpenSSL's.
            manager.connection_pool_kw["server_hostname"] = self._tls_name
        pools: dict[str, Any] = {
            "http": partial(_HttpPool, clock=self._clock),
            "https": partial(_HttpsPool, clock=self._clock),
        }
        manager.pool_classes_by_scheme = pools

    def build_connection_pool_key_attributes(self, *args: Any, **kwargs: Any) -> Any:
        """What tells one pool of connections from another (requests >= 2.32)."""
        options: Any
        host, options = super().build_connection_pool_key_attributes(*args, **kwargs)
        if self._tls is not None:
            options = {"cert_reqs": self._tls.verify_mode.name, "ssl_context": self._tls}
        return host, options

    def cert_verify(self, conn: Any, url: str, verify: Any, cert: Any) -> None:
        """How certificates are checked, by requests' own terms where there is no ``tls``."""
        if self._tls is None:
            super().cert_verify(conn, url, verify, cert)  # type: ignore[no-untyped-call]

    def change_tls(self, tls: ssl.SSLContext) -> None:
        """Goes on with another ``tls``, over new connections."""
        self._tls = tls
        for manager in (self.poolmanager, *self.proxy_manager.values()):
            manager.clear()

    def send(  # type: ignore[override]
        self, request: requests.PreparedRequest, timeout: float = 10.0, **options: Any
    ) -> requests.Response:
        """Sends a request and reads its whole answer. Raises requests' exceptions."""
        self._clock.start(timeout)
        options |= {"stream": True, "timeout": (min(timeout, CONNECT_SECONDS), timeout)}
        response = super().send(request, **options)
        try:
            response._content = _bounded(response)
        except BaseException:
            response.close()
            raise
        return response


def _bounded(response: requests.Response) -> bytes:
    body, size = [], 0
    for chunk in response.iter_content(CHUNK):
        size += len(chunk)
        if size > MAX_ANSWER:
            raise AnswerTooLarge(f"more than {MAX_ANSWER} bytes", response=response)
        body.append(chunk)
    return b"".join(body)


def _causes(error: BaseException) -> Iterator[BaseException]:
    """An error and what it was raised for, outermost first."""
    queue, seen = [error], set()
    while queue:
        current = queue.pop(0)
        if id(current) in seen:
            continue
        seen.add(id(current))
        yield current
        inner = (*current.args, getattr(current, "reason", None))
        queue += [e for e in inner if isinstance(e, BaseException)]
        queue += [e for e in (current.__cause__, current.__context__) if e is not None]


def explain(error: BaseException) -> str:
    """Why a request got no answer, in a few words; never with anything that was sent."""
    causes = list(_causes(error))
    for cause in causes:
        match cause:
            case ConnectionRefusedError():
                return REFUSED
            case socket.gaierror():
                return "has a name that does not resolve"
            case ssl.SSLCertVerificationError():
                return f"{NOT_ACCEPTED}: {cause.verify_message}"
            case ssl.SSLError():
                return f"{NO_TLS}: {cause.reason or 'none is spoken there'}"
            case http.client.RemoteDisconnected() | ConnectionResetError() | BrokenPipeError():
                return CLOSED
            case http.client.IncompleteRead() | http.client.HTTPException():
                return "does not speak HTTP properly"
            case AnswerTooLarge():
                return f"sent an answer of more than {MAX_ANSWER >> 20} MiB"
            case TimeoutError() | requests.Timeout():
                return "did not answer in time"
            case OSError() if cause.errno in (errno.EHOSTUNREACH, errno.ENETUNREACH):
                return "cannot be reached: there is no route to it"
    for cause in causes:
        if isinstance(cause, urllib3.exceptions.TimeoutError):
            return "did not answer in time"
    return f"could not be asked ({type(causes[-1]).__name__})"


def refused(error: BaseException) -> bool:
    """Whether nobody listens there."""
    return any(isinstance(cause, ConnectionRefusedError) for cause in _causes(error))
