"""Who asks the Kubernetes API: headers and certificates for a request, made when it is sent."""

import base64
import os
import ssl
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import urlsplit

import requests
from requests.utils import DEFAULT_CA_BUNDLE_PATH

from couchdiscover.errors import Denied, UsageProblem
from couchdiscover.kube import plugin
from couchdiscover.kube.kubeconfig import Access
from couchdiscover.net.deadline import Deadline
from couchdiscover.net.http import BoundedAdapter, Headers, lenient_context

PLUGIN_SECONDS = 60.0
"""Seconds, at most, that a credential plugin may take; a person may have to log in meanwhile."""


class Login:
    """What an Access gives a request. Several threads may use it.

    A token file is read for each request, since the kubelet rotates it; a credential plugin is run
    when what it issued has expired, or once after a refusal.
    """

    def __init__(self, access: Access, deadline: Deadline) -> None:
        self.access = access
        self._deadline = deadline
        self._token = _sendable(access.token.strip()) if access.token else None
        self._issued: plugin.Issued | None = None
        self._renewed = False
        self._lock = threading.Lock()
        self.tls = tls_context(access, access.certificate)

    def authorise(self, headers: Headers) -> ssl.SSLContext | None:
        """Adds what the API server is to know the user by; returns how TLS is to be made.

        Raises UsageProblem, Denied or NotYet where the credentials cannot be had.
        """
        with self._lock:
            authorization = self._authorization()
            tls = self.tls
        if authorization and "Authorization" not in headers:
            headers["Authorization"] = authorization
        for name, value in self.access.impersonation:
            headers.add(name, value)
        return tls

    def renew(self, other: "Login") -> None:
        """Goes on as another user of the same server, in every session that there is."""
        with self._lock:
            self.access, self.tls = other.access, other.tls
            self._token, self._issued = other._token, None

    def refused(self) -> None:
        """After a 401: what a plugin issued is dropped, once until something is accepted."""
        with self._lock:
            if self._issued is not None and not self._renewed:
                self._issued, self._renewed = None, True

    def accepted(self) -> None:
        """After any other answer: the server knows who asks."""
        self._renewed = False

    def _authorization(self) -> str | None:
        access = self.access
        if access.token_file is not None:
            self._token = _read_token(access.token_file, self._token)
        if self._token:
            return f"Bearer {self._token}"
        if access.plugin is not None:
            issued = self._ask_plugin(access.plugin)
            return f"Bearer {_sendable(issued.token)}" if issued.token else None
        if access.password is not None:
            pair = ":".join(access.password).encode()
            return f"Basic {base64.b64encode(pair).decode()}"
        return None

    def _ask_plugin(self, command: plugin.Plugin) -> plugin.Issued:
        if self._issued is None or self._issued.expired:
            self._issued = plugin.run(command, self._deadline.cap(PLUGIN_SECONDS))
            if self._issued.certificate is not None:
                try:
                    self.tls = tls_context(self.access, self._issued.certificate)
                except (ssl.SSLError, ValueError):
                    raise Denied(
                        f"the kubeconfig's command {command.command!r} gave a certificate or key "
                        "that is none"
                    ) from None
        return self._issued


class LoginAdapter(BoundedAdapter):
    """The bounded transport, with a login. For one session and one request at a time."""

    def __init__(self, login: Login) -> None:
        self._login = login
        super().__init__(tls=login.tls, tls_name=login.access.tls_name)

    def send(  # type: ignore[override]
        self, request: requests.PreparedRequest, **options: object
    ) -> requests.Response:
        """Sends a request as the login's user. Raises requests' exceptions, and Login's."""
        # Not requests' own kind of headers: several of one name must stay several.
        headers = Headers(request.headers)
        tls = self._login.authorise(headers)
        request.headers = headers  # type: ignore[assignment]
        if tls is not None and tls is not self._tls:
            self.change_tls(tls)
        return super().send(request, **options)  # type: ignore[arg-type]


def tls_context(access: Access, certificate: tuple[bytes, bytes] | None) -> ssl.SSLContext | None:
    """How TLS is made with the server; None where it speaks none.

    Raises ssl.SSLError or ValueError where the certificates are none.
    """
    if urlsplit(access.server).scheme != "https":
        return None
    context = lenient_context(ssl.CERT_REQUIRED if access.verify else ssl.CERT_NONE)
    if access.authority is not None:
        context.load_verify_locations(cadata=access.authority.decode("ascii"))
    elif access.verify:
        _trust_the_usual(context)
    if certificate is not None:
        with _as_file(b"\n".join(certificate)) as path:
            context.load_cert_chain(path, password="")  # and nobody is asked for one
    return context


def _trust_the_usual(context: ssl.SSLContext) -> None:
    """This machine's certificates, or those that the environment names instead."""
    bundle = os.environ.get("REQUESTS_CA_BUNDLE")
    if bundle and Path(bundle).is_file():
        context.load_verify_locations(cafile=bundle)
        return
    context.load_default_certs()  # heeds SSL_CERT_FILE and SSL_CERT_DIR
    if not {"SSL_CERT_FILE", "SSL_CERT_DIR"} & os.environ.keys():
        context.load_verify_locations(cafile=DEFAULT_CA_BUNDLE_PATH)


@contextmanager
def _as_file(content: bytes) -> Iterator[str]:
    """A name for something that OpenSSL takes from files only: on no disk, where that can be."""
    if hasattr(os, "memfd_create"):
        try:
            descriptor = os.memfd_create("couchdiscover", os.MFD_CLOEXEC)
        except OSError:
            pass  # a sandbox that forbids it
        else:
            with open(descriptor, "wb", closefd=True) as file:  # noqa: PTH123 - it has no path yet
                file.write(content)
                file.flush()
                yield f"/proc/self/fd/{descriptor}"
            return
    with tempfile.TemporaryDirectory(prefix="couchdiscover-") as folder:  # 0700
        path = Path(folder) / "pem"
        descriptor = os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600)
        with open(descriptor, "wb", closefd=True) as file:  # noqa: PTH123
            file.write(content)
        yield str(path)


def _read_token(path: Path, known: str | None) -> str | None:
    """The token in a file; the one that is known where the file is being written just now.

    Raises UsageProblem where there is none to go by.
    """
    try:
        token = path.read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError) as error:
        if known is not None:
            return known
        problem = getattr(error, "strerror", None) or type(error).__name__
        raise UsageProblem(
            f"the token for the Kubernetes API in {path} cannot be read ({problem})"
        ) from None
    if token:
        return _sendable(token)
    if known is None:
        raise UsageProblem(f"the token for the Kubernetes API in {path} is empty")
    return known


def _sendable(token: str) -> str:
    """A token that a header can hold: of any other, http.client's error would show it."""
    if not (token.isascii() and token.isprintable()):
        raise UsageProblem(
            "the token for the Kubernetes API has characters that HTTP cannot transport"
        )
    return token
