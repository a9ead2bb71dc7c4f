"""Requests that end, whatever the other side does."""

import contextlib
import gzip
import socket
import ssl
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
import requests
import trustme
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import NameOID

from couchdiscover.net import http as transport
from couchdiscover.net.deadline import Deadline
from couchdiscover.net.http import AnswerTooLarge, BoundedAdapter, explain, refused
from couchdiscover.sandbox.http import Loop, Request, Response, Server, Wire

Serve = Callable[..., Server]
OK = b"HTTP/1.1 200 OK\r\n"


@pytest.fixture(scope="module")
def loop() -> Iterator[Loop]:
    running = Loop()
    yield running
    running.close()


@pytest.fixture
def serve(loop: Loop) -> Iterator[Serve]:
    """Starts servers that give one answer to everything; they list who asked."""
    servers: list[Server] = []

    def start(answer: Response | Wire, tls: ssl.SSLContext | None = None) -> Server:
        async def handle(request: Request) -> Response | Wire:
            return answer

        servers.append(loop.serve(handle, "127.0.0.1", tls=tls))
        return servers[-1]

    yield start
    for server in servers:
        loop.stop(server)


def session(tls_name: str | None = None) -> requests.Session:
    made = requests.Session()
    made.trust_env = False
    for scheme in ("http://", "https://"):
        made.mount(scheme, BoundedAdapter(tls_name=tls_name))
    return made


def problem(server: Server, seconds: float = 0.25) -> str:
    """Why a request failed; it must have ended well in time."""
    began = Deadline(60)
    with pytest.raises((requests.RequestException, OSError)) as caught:
        session().get(f"http://127.0.0.1:{server.port}/", timeout=seconds)
    assert began.elapsed < seconds + 5
    return explain(caught.value)


def dripping(head: bytes, drip: bytes) -> Wire:
    return Wire((head, *(0.1, drip) * 100))


@pytest.mark.parametrize(
    ("answer", "told"),
    [
        (Wire((30.0,)), "did not answer in time"),
        (dripping(b"", b"H"), "does not speak HTTP properly|did not answer in time"),
        (dripping(OK, b"x: y\r\n"), "did not answer in time"),
        (dripping(OK, b"x"), "did not answer in time"),
        (dripping(OK + b"content-length: 9999\r\n\r\n", b"x"), "did not answer in time"),
        (dripping(OK + b"\r\n", b"x"), "did not answer in time"),
        (
            dripping(OK + b"transfer-encoding: chunked\r\n\r\n", b"1\r\nx\r\n"),
            "did not answer in time",
        ),
        (dripping(OK + b"transfer-encoding: chunked\r\n\r\n", b"1"), "did not answer in time"),
        (Wire((OK + b"content-length: 9\r\n\r\n", 30.0)), "did not answer in time"),
        (Wire(), "closed the connection without an answer"),
        (Wire(reset=True), "closed the connection without an answer"),
        (Wire((OK + b"content-length: 99\r\n\r\nabc",)), "does not speak HTTP properly"),
        (
            Wire((OK + b"transfer-encoding: chunked\r\n\r\n5\r\nab",)),
            "does not speak HTTP properly",
        ),
        (
            Wire((OK + b"transfer-encoding: chunked\r\n\r\nzz\r\n",)),
            "does not speak HTTP properly",
        ),
        (Wire((b"SSH-2.0-OpenSSH_9.9\r\n",)), "does not speak HTTP properly"),
        (Wire((b"\x15\x03\x03\x00\x02\x02\x46",)), "does not speak HTTP properly"),
        (Wire((OK + b"a: b\r\n" * 200 + b"\r\n",)), "does not speak HTTP properly"),
        (Wire((OK + b"a: " + b"b" * 70_000 + b"\r\n\r\n",)), "does not speak HTTP properly"),
    ],
)
def test_misbehaviour_is_an_error_in_time(serve: Serve, answer: Wire, told: str) -> None:
    # Where no time-out is told there is time enough, on a machine that does much else, too.
    seconds = 0.25 if "in time" in told else 10.0
    assert problem(serve(answer), seconds) in told.split("|")


def test_nobody_listens(serve: Serve, loop: Loop) -> None:
    server = serve(Response(200))
    loop.stop(server)
    with pytest.raises(requests.ConnectionError) as caught:
        session().get(f"http://127.0.0.1:{server.port}/", timeout=5)
    assert refused(caught.value)
    assert explain(caught.value) == "refuses connections"


def test_a_name_that_does_not_resolve() -> None:
    with pytest.raises(requests.ConnectionError) as caught:
        session().get("http://no-such-host.invalid/", timeout=5)
    assert not refused(caught.value)
    assert explain(caught.value) == "has a name that does not resolve"


def test_a_connection_that_does_not_come_about() -> None:
    """A listener whose queue is full lets further connections hang, as a firewall does."""
    with socket.create_server(("127.0.0.1", 0), backlog=0) as listener:
        port = listener.getsockname()[1]
        fillers = [socket.socket() for _ in range(3)]
        for filler in fillers:
            filler.setblocking(False)
            filler.connect_ex(("127.0.0.1", port))
        began = Deadline(60)
        with pytest.raises(requests.RequestException) as caught:
            session().get(f"http://127.0.0.1:{port}/", timeout=0.3)
        assert explain(caught.value) == "did not answer in time"
        assert began.elapsed < 5
        for filler in fillers:
            filler.close()


# --- size -------------------------------------------------------------------------------------


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """Answers are limited to 1 MiB."""
    monkeypatch.setattr(transport, "MAX_ANSWER", 1 << 20)


ZEROS = b"\0" * (3 << 20)


@pytest.mark.parametrize(
    "answer",
    [
        Response(200, ZEROS),
        Wire((OK + b"\r\n" + ZEROS,)),
        Wire((OK + b"transfer-encoding: chunked\r\n\r\n300000\r\n" + ZEROS + b"\r\n0\r\n\r\n",)),
        Response(200, gzip.compress(ZEROS), {"content-encoding": "gzip"}),
    ],
)
def test_an_answer_over_the_limit(serve: Serve, small: None, answer: Response | Wire) -> None:
    server = serve(answer)
    with pytest.raises(AnswerTooLarge) as caught:
        session().get(f"http://127.0.0.1:{server.port}/", timeout=20)
    assert explain(caught.value) == "sent an answer of more than 1 MiB"


def test_an_answer_at_the_limit(serve: Serve, small: None) -> None:
    server = serve(Response(200, ZEROS[: 1 << 20]))
    answer = session().get(f"http://127.0.0.1:{server.port}/", timeout=20)
    assert len(answer.content) == 1 << 20


@pytest.mark.parametrize(
    "answer",
    [
        Response(200, b"hello"),
        Wire((OK + b"\r\nhello",)),
        Wire((OK + b"transfer-encoding: chunked\r\n\r\n2\r\nhe\r\n3\r\nllo\r\n0\r\n\r\n",)),
        Wire((OK[:9], 0.02, OK[9:], b"content-length: 5\r\n", 0.02, b"\r\nhe", 0.02, b"llo")),
    ],
)
def test_good_answers_in_every_framing(serve: Serve, answer: Response | Wire) -> None:
    server = serve(answer)
    response = session().get(f"http://127.0.0.1:{server.port}/", timeout=5)
    assert (response.status_code, response.content) == (200, b"hello")


# --- keep-alive -------------------------------------------------------------------------------


def test_one_connection_serves_many_requests() -> None:
    """Counted on the server's side; every request has its time anew."""
    accepted = []
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def answer() -> None:
            while True:
                try:
                    connection, _ = listener.accept()
                except OSError:
                    return
                accepted.append(connection)
                threading.Thread(target=converse, args=(connection,), daemon=True).start()

        def converse(connection: socket.socket) -> None:
            with contextlib.suppress(OSError):
                while connection.recv(65536):
                    connection.sendall(OK + b"content-length: 2\r\n\r\n{}")

        threading.Thread(target=answer, daemon=True).start()
        client = session()
        for _ in range(5):
            url = f"http://127.0.0.1:{listener.getsockname()[1]}/"
            assert client.get(url, timeout=5).content == b"{}"
        assert len(accepted) == 1
        accepted.pop().shutdown(socket.SHUT_RDWR)  # idle connections get closed by CouchDB
        assert client.get(url, timeout=5).content == b"{}"
        client.close()
        for connection in accepted:
            connection.close()


def test_a_failed_request_leaves_nothing_for_the_next(loop: Loop) -> None:
    answers: list[Response | Wire] = [
        Wire((OK + b"content-length: 9\r\n\r\nhalf", 30.0)),
        Response(200, b"whole"),
    ]

    async def handle(request: Request) -> Response | Wire:
        return answers.pop(0)

    server = loop.serve(handle, "127.0.0.1")
    client, url = session(), f"http://127.0.0.1:{server.port}/"
    with pytest.raises(requests.RequestException):
        client.get(url, timeout=0.3)
    assert client.get(url, timeout=5).content == b"whole"
    loop.stop(server)


# --- TLS --------------------------------------------------------------------------------------

NAME = "couchdb-0.couchdb.db.svc.cluster.local"


def tls_for(authority: trustme.CA, *names: str) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert(*names).configure_cert(context)
    return context


@pytest.fixture(scope="module")
def authority() -> trustme.CA:
    return trustme.CA()


@pytest.fixture(scope="module")
def ca_file(authority: trustme.CA, tmp_path_factory: pytest.TempPathFactory) -> str:
    path: Path = tmp_path_factory.mktemp("tls") / "ca.pem"
    authority.cert_pem.write_to_path(path)
    return str(path)


@pytest.mark.parametrize(
    ("tls_name", "names"),
    [
        (NAME, (NAME,)),
        (NAME, ("*.couchdb.db.svc.cluster.local",)),
        (None, ("127.0.0.1",)),
    ],
)
def test_a_certificate_is_checked_by_name_at_an_address(
    serve: Serve, authority: trustme.CA, ca_file: str, tls_name: str | None, names: tuple[str, ...]
) -> None:
    server = serve(Response(200, b"hello"), tls_for(authority, *names))
    url = f"https://127.0.0.1:{server.port}/"
    assert session(tls_name).get(url, timeout=5, verify=ca_file).content == b"hello"


@pytest.mark.parametrize(
    ("tls_name", "names"),
    [
        (NAME, ("127.0.0.1",)),  # by name, and not by the address that is dialled
        (NAME, ("couchdb-1.couchdb.db.svc.cluster.local",)),
        (None, (NAME,)),
    ],
)
def test_a_certificate_of_another_name(
    serve: Serve, authority: trustme.CA, ca_file: str, tls_name: str | None, names: tuple[str, ...]
) -> None:
    server = serve(Response(200), tls_for(authority, *names))
    url = f"https://127.0.0.1:{server.port}/"
    with pytest.raises(requests.exceptions.SSLError) as caught:
        session(tls_name).get(url, timeout=5, verify=ca_file)
    assert explain(caught.value).startswith("has a TLS certificate that is not accepted")


def test_a_certificate_of_an_unknown_authority(serve: Serve, ca_file: str) -> None:
    server = serve(Response(200), tls_for(trustme.CA(), NAME))
    with pytest.raises(requests.exceptions.SSLError) as caught:
        session(NAME).get(f"https://127.0.0.1:{server.port}/", timeout=5, verify=ca_file)
    assert explain(caught.value).startswith("has a TLS certificate that is not accepted")


def plain_authority(folder: Path) -> tuple[str, ssl.SSLContext]:
    """A CA and a server's certificate without what Python 3.13 asks of them by itself.

    Neither key usages nor key identifiers, as EKS and MicroK8s made theirs.
    """
    keys = [ec.generate_private_key(ec.SECP256R1()) for _ in range(2)]
    now = datetime.now(UTC)

    def certificate(common_name: str, key: ec.EllipticCurvePrivateKey) -> x509.CertificateBuilder:
        return x509.CertificateBuilder(
            issuer_name=x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "plain")]),
            subject_name=x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common_name)]),
            public_key=key.public_key(),
            serial_number=x509.random_serial_number(),
            not_valid_before=now - timedelta(hours=1),
            not_valid_after=now + timedelta(hours=1),
        )

    constraints = x509.BasicConstraints(ca=True, path_length=None)
    ca = certificate("plain", keys[0]).add_extension(constraints, critical=True)
    names = x509.SubjectAlternativeName([x509.DNSName(NAME)])
    own = certificate(NAME, keys[1]).add_extension(names, critical=False)
    ca_file, chain = folder / "plain.pem", folder / "server.pem"
    ca_file.write_bytes(ca.sign(keys[0], hashes.SHA256()).public_bytes(Encoding.PEM))
    key = keys[1].private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    chain.write_bytes(key + own.sign(keys[0], hashes.SHA256()).public_bytes(Encoding.PEM))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(chain)
    return str(ca_file), context


def test_a_plain_authority_is_as_good_as_for_kubectl(serve: Serve, tmp_path: Path) -> None:
    ca_file, tls = plain_authority(tmp_path)
    url = f"https://127.0.0.1:{serve(Response(200, b'hello'), tls).port}/"
    assert session(NAME).get(url, timeout=5, verify=ca_file).content == b"hello"
    with pytest.raises(requests.exceptions.SSLError):
        session("couchdb-1.couchdb").get(url, timeout=5, verify=ca_file)


def test_python_would_refuse_a_plain_authority(serve: Serve, tmp_path: Path) -> None:
    """What the last test is worth, on a Python that is that strict."""
    ca_file, tls = plain_authority(tmp_path)
    port = serve(Response(200), tls).port
    context = ssl.create_default_context(cafile=ca_file)
    context.verify_flags |= ssl.VERIFY_X509_STRICT  # the default from 3.13 on
    with (
        socket.create_connection(("127.0.0.1", port), timeout=5) as connection,
        pytest.raises(ssl.SSLCertVerificationError, match=r"(?i)key"),
    ):
        context.wrap_socket(connection, server_hostname=NAME)


ASK_ANYONE = """
import requests, sys
from couchdiscover.net.http import BoundedAdapter
session = requests.Session()
session.mount("https://", BoundedAdapter(tls_name="couchdb-0.example"))
print(session.get(sys.argv[1], timeout=5, verify=False).text)
"""


def test_any_certificate_where_that_is_asked_for(serve: Serve) -> None:
    """Without a warning, which would stand in the midst of the log (pytest changes warnings)."""
    server = serve(Response(200, b"hello"), tls_for(trustme.CA(), "other.example"))
    url = f"https://127.0.0.1:{server.port}/"
    ended = subprocess.run(
        [sys.executable, "-c", ASK_ANYONE, url], capture_output=True, text=True, check=True
    )
    assert (ended.stdout, ended.stderr) == ("hello\n", "")


def test_tls_to_a_server_without() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def answer() -> None:
            connection, _ = listener.accept()
            connection.recv(65536)
            connection.sendall(b"HTTP/1.1 400 Bad Request\r\n\r\n")
            connection.close()

        threading.Thread(target=answer, daemon=True).start()
        url = f"https://127.0.0.1:{listener.getsockname()[1]}/"
        with pytest.raises(requests.RequestException) as caught:
            session(NAME).get(url, timeout=5)
        assert explain(caught.value).startswith("fails at TLS")


def test_silence_in_the_midst_of_a_handshake() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        began = Deadline(60)
        url = f"https://127.0.0.1:{listener.getsockname()[1]}/"
        with pytest.raises(requests.RequestException) as caught:
            session(NAME).get(url, timeout=0.3)
        assert explain(caught.value) == "did not answer in time"
        assert began.elapsed < 5


def test_dripping_over_tls(serve: Serve, authority: trustme.CA, ca_file: str) -> None:
    server = serve(dripping(OK, b"x: y\r\n"), tls_for(authority, NAME))
    began = Deadline(60)
    with pytest.raises(requests.RequestException) as caught:
        session(NAME).get(f"https://127.0.0.1:{server.port}/", timeout=0.5, verify=ca_file)
    assert explain(caught.value) == "did not answer in time"
    assert began.elapsed < 5


@pytest.mark.parametrize(
    ("error", "told"),
    [
        (OSError(113, "No route to host"), "cannot be reached: there is no route to it"),
        (OSError(101, "Network is unreachable"), "cannot be reached: there is no route to it"),
        (BrokenPipeError(), "closed the connection without an answer"),
        (ValueError("secret"), "could not be asked (ValueError)"),
    ],
)
def test_other_errors_are_told_by_their_kind(error: Exception, told: str) -> None:
    wrapped = requests.ConnectionError(error)
    assert explain(wrapped) == told
