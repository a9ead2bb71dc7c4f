"""CouchDB's client over real HTTP: what is sent, and what becomes of odd answers."""

import base64
import contextlib
import json
import ssl
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import pytest
import trustme

from couchdiscover.couch.client import (
    SAMPLE,
    Access,
    CouchFailure,
    CouchNode,
    ErrorAnswer,
    Fleet,
    NoAnswer,
)
from couchdiscover.net.deadline import Deadline
from couchdiscover.sandbox.http import Loop, Request, Response, Server, Wire
from couchdiscover.state.nodes import SetupState
from couchdiscover.state.topology import Address, Credentials, Pod

HOST = "couchdb-0.couchdb.db.svc.cluster.local"
PASSWORD = "pässwörd€ and:colon"
VERSION = {"server": "CouchDB/3.5.1 (Erlang OTP/26)"}

Ask = Callable[[CouchNode], Any]


class Couch:
    """A server that gives the same answer to everything, and the client to it."""

    def __init__(self, loop: Loop, tls: ssl.SSLContext | None = None) -> None:
        self.answer: Response | Wire = Response(200, {}, VERSION)
        self.requests: list[Request] = []
        self.server: Server = loop.serve(self._answer, "127.0.0.1", tls=tls)

    async def _answer(self, request: Request) -> Response | Wire:
        self.requests.append(request)
        return self.answer

    def client(
        self,
        host_name: str = HOST,
        seconds: float = 60,
        request_timeout: float = 5,
        password: str = PASSWORD,
        **access: Any,
    ) -> CouchNode:
        credentials = Credentials("ädmin", password)
        return CouchNode(
            Address("127.0.0.1", self.server.port),
            host_name,
            Access(credentials, request_timeout=request_timeout, **access),
            Deadline(seconds),
        )

    def __call__(self, ask: Ask, body: Any = None, status: int = 200) -> tuple[Any, Request]:
        """What a question gives when it is answered so, and what was sent for it."""
        self.answer = Response(status, body if body is not None else {"ok": True}, VERSION)
        given = ask(self.client())
        return given, self.requests[-1]


@pytest.fixture(scope="module")
def loop() -> Iterator[Loop]:
    running = Loop()
    yield running
    running.close()


@pytest.fixture
def couch(loop: Loop) -> Iterator[Couch]:
    made = Couch(loop)
    yield made
    loop.stop(made.server)


# --- what is sent -----------------------------------------------------------------------------


def test_every_request_says_who_asks_whom(couch: Couch) -> None:
    _, request = couch(lambda c: c.databases(), [])
    scheme, _, encoded = request.headers["authorization"].partition(" ")
    assert scheme == "Basic"
    assert base64.b64decode(encoded).decode() == f"ädmin:{PASSWORD}"  # UTF-8, not latin-1
    assert request.headers["host"] == f"{HOST}:{couch.server.port}"
    assert request.headers["accept"] == "application/json"
    assert request.headers["user-agent"].startswith("couchdiscover/")
    assert PASSWORD not in unquote(request.target)


def test_without_a_host_name_the_address_is_the_host(couch: Couch) -> None:
    couch.answer = Response(200, [])
    couch.client(host_name="").databases()
    assert couch.requests[0].headers["host"] == f"127.0.0.1:{couch.server.port}"


@pytest.mark.parametrize(
    ("ask", "body", "given", "sent"),
    [
        (
            lambda c: c.local_name(),
            {"name": "couchdb@a"},
            "couchdb@a",
            "/_node/_local",
        ),
        (
            lambda c: c.setup_state(),
            {"state": "cluster_enabled"},
            SetupState.ENABLED,
            "/_cluster_setup",
        ),
        (
            lambda c: c.setup_state(("_users", "_replicator", "a/b")),
            {"state": "cluster_finished"},
            SetupState.FINISHED,
            '/_cluster_setup?ensure_dbs_exist=["_replicator", "_users", "a/b"]',
        ),
        (
            lambda c: c.membership(),
            {"all_nodes": ["a@x"], "cluster_nodes": ["a@x", "b@x"]},
            (frozenset({"a@x"}), frozenset({"a@x", "b@x"})),
            "/_membership",
        ),
        (lambda c: c.databases(), ["_users", "a/b"], frozenset({"_users", "a/b"}), "/_all_dbs"),
        (
            lambda c: c.config(),
            {"admins": {"ädmin": "-pbkdf2-x", "odd": 7}, "odd": 7},
            {"admins": {"ädmin": "-pbkdf2-x"}},
            "/_node/_local/_config",
        ),
        (lambda c: c.uptime(), {"uptime": 17, "memory": {}}, 17.0, "/_node/_local/_system"),
    ],
)
def test_reading(couch: Couch, ask: Ask, body: Any, given: Any, sent: str) -> None:
    result, request = couch(ask, body)
    assert result == given
    assert request.method == "GET"
    assert unquote(request.target.replace("+", " ")) == sent
    assert request.body == b""


@pytest.mark.parametrize(
    ("rows", "holds"),
    [
        ([], False),
        ([{"id": "_design/_auth"}], False),
        ([{"id": "_design/_auth"}, {"id": "org.couchdb.user:x"}], True),
        ([{"id": f"_design/{i}"} for i in range(SAMPLE)], True),  # there may be more behind
        ([None], True),
        ([{}], True),
    ],
)
def test_whether_a_database_holds_documents(couch: Couch, rows: list[Any], holds: bool) -> None:
    found, request = couch(lambda c: c.holds_documents("a/b+c"), {"rows": rows})
    assert found is holds
    assert request.target == f"/a%2Fb%2Bc/_all_docs?limit={SAMPLE}"


@pytest.mark.parametrize(
    ("ask", "method", "target", "body"),
    [
        (
            lambda c: c.enable_cluster(3, "0.0.0.0"),
            "POST",
            "/_cluster_setup",
            {"action": "enable_cluster", "bind_address": "0.0.0.0", "node_count": 3},
        ),
        (
            lambda c: c.enable_single_node("::"),
            "POST",
            "/_cluster_setup",
            {"action": "enable_single_node", "bind_address": "::"},
        ),
        (
            lambda c: c.finish_cluster(["_users", "_replicator"]),
            "POST",
            "/_cluster_setup",
            {"action": "finish_cluster"},
        ),
        (
            lambda c: c.finish_cluster(["_users", "_replicator", "x"]),
            "POST",
            "/_cluster_setup",
            {"action": "finish_cluster", "ensure_dbs_exist": ["_users", "_replicator", "x"]},
        ),
        (
            lambda c: c.add_member("couchdb@a/b.c"),
            "PUT",
            "/_node/_local/_nodes/couchdb@a%2Fb.c",
            {},
        ),
        (lambda c: c.create_database("a/b+c"), "PUT", "/a%2Fb%2Bc", None),
        (lambda c: c.log_in(), "POST", "/_session", {"name": "ädmin", "password": PASSWORD}),
        (
            lambda c: c.set_config("admins", "ädmin/x", "-pbkdf2-x"),
            "PUT",
            "/_node/_local/_config/admins/%C3%A4dmin%2Fx",
            "-pbkdf2-x",
        ),
        (
            lambda c: c.set_config("chttpd_auth", "secret", ""),
            "PUT",
            "/_node/_local/_config/chttpd_auth/secret",
            "",
        ),
    ],
)
def test_writing(couch: Couch, ask: Ask, method: str, target: str, body: Any) -> None:
    status, request = couch(ask, {"ok": True}, 201)
    assert status == 201
    assert (request.method, request.target) == (method, target)
    assert (request.json() if request.body else None) == body
    if request.body:
        assert request.headers["content-type"] == "application/json"


@pytest.mark.parametrize(
    ("server", "version"),
    [
        ("CouchDB/3.5.1 (Erlang OTP/26)", "3.5.1"),
        ("CouchDB/3.2.2-5ce5f8b", "3.2.2-5ce5f8b"),
        ("CouchDB/", None),
        ("nginx", None),
        ("CouchDB/" + "9" * 99, "9" * 32),
        ("CouchDB/\x1b[31m3", "?[31m3"),
    ],
)
def test_the_version(couch: Couch, server: str, version: str | None) -> None:
    couch.answer = Response(200, [], {"server": server})
    client = couch.client()
    client.databases()
    assert client.version == version


# --- what comes back --------------------------------------------------------------------------

QUESTIONS: dict[str, Ask] = {
    "name": lambda c: c.local_name(),
    "state": lambda c: c.setup_state(),
    "membership": lambda c: c.membership(),
    "databases": lambda c: c.databases(),
    "documents": lambda c: c.holds_documents("_users"),
    "config": lambda c: c.config(),
    "uptime": lambda c: c.uptime(),
    "write": lambda c: c.add_member("b@x"),
}

HTML = {"content-type": "text/html"}


@pytest.mark.parametrize("question", QUESTIONS)
@pytest.mark.parametrize(
    "answer",
    [
        Response(200, "<html>Welcome to nginx!</html>", HTML),
        Response(200, ""),
        Response(200, "null"),
        Response(200, b'{"name": "couchdb@\xff", "state": "cluster_finished"}'),
        Response(200, "[" * 100_000),
        Response(301, "", {"location": "http://127.0.0.1:1/"}),
        Response(302, "<html>", {"location": "/_utils", **HTML}),
        Response(404, "404 page not found", {"content-type": "text/plain"}),
        Response(502, "<html>Bad Gateway</html>", HTML),
        Response(503, "[]"),
        Response(401, "null"),
        Wire(),
        Wire(reset=True),
        Wire((b"HTTP/1.1 200 OK\r\ncontent-length: 99\r\n\r\n{}",)),
        Wire((b"220 smtp.example.com ESMTP\r\n",)),
    ],
)
def test_what_couchdb_never_sends(couch: Couch, answer: Response | Wire, question: str) -> None:
    couch.answer = answer
    with pytest.raises(NoAnswer) as caught:
        QUESTIONS[question](couch.client())
    assert not caught.value.nobody
    assert len(couch.requests) == 1
    assert PASSWORD not in repr(caught.value)
    assert "\n" not in str(caught.value)


ODD: list[Any] = [17, "text", True, [], {}, [1, 2], [None], {"ok": True}]


@pytest.mark.parametrize("question", QUESTIONS)
def test_json_of_another_kind(couch: Couch, question: str) -> None:
    """Some of it is in order for some question; nothing ends in any other error."""
    client = couch.client()
    keys = ("name", "state", "all_nodes", "cluster_nodes", "rows", "uptime")
    for body in [*ODD, *(dict.fromkeys(keys, odd) for odd in [None, *ODD])]:
        couch.answer = Response(200, body)
        with contextlib.suppress(NoAnswer):
            QUESTIONS[question](client)
    assert len(couch.requests) == 2 * len(ODD) + 1


@pytest.mark.parametrize(
    ("ask", "body", "told"),
    [
        (QUESTIONS["name"], {"name": "couchdb"}, "GET /_node/_local gave no Erlang name"),
        (QUESTIONS["name"], {"name": "a@b\nINFO done"}, "gave no Erlang name"),
        (QUESTIONS["state"], {"state": "cluster_odd"}, "a state that is not known here"),
        (QUESTIONS["databases"], {"a": 1}, "gave no list of names"),
        (QUESTIONS["databases"], ["a", "\x1b[2J"], "gave no list of names"),
        (QUESTIONS["membership"], {"all_nodes": ["a@x"]}, "gave no 'cluster_nodes'"),
        (
            QUESTIONS["membership"],
            {"all_nodes": ["a@\ud800"], "cluster_nodes": []},
            "gave no list of names",
        ),
    ],
)
def test_answers_that_are_almost_right(couch: Couch, ask: Ask, body: Any, told: str) -> None:
    with pytest.raises(NoAnswer) as caught:
        couch(ask, body)
    assert told in str(caught.value)


@pytest.mark.parametrize(
    ("status", "body", "told"),
    [
        (401, {"error": "unauthorized", "reason": "Name or password is incorrect."}, None),
        (409, {"error": "conflict", "reason": "Document update conflict."}, None),
        (500, {"error": "nodedown", "reason": "progress not possible"}, None),
        (404, {}, "404 : "),
        (400, {"error": None, "reason": ["x"]}, "400 None: ['x']"),
        (
            500,
            {"error": "a\r\nb", "reason": "x\x1b[31my\u2028z" + "!" * 999},
            "500 a b: x?[31my z!",
        ),
    ],
)
def test_errors_of_couchdb(
    couch: Couch, status: int, body: dict[str, Any], told: str | None
) -> None:
    with pytest.raises(ErrorAnswer) as caught:
        couch(lambda c: c.databases(), body, status)
    text = str(caught.value)
    assert caught.value.status == status
    assert text.startswith("GET /_all_dbs was answered ")
    assert (told or f"{status} {body.get('error')}: {body.get('reason')}") in text
    assert text.isprintable()
    assert len(text) < 400


def test_text_is_utf_8_whatever_the_content_type_says(couch: Couch) -> None:
    body = json.dumps({"name": "couchdb@ü"}, ensure_ascii=False).encode()
    for kind in ("text/plain", "text/html; charset=latin-1", "application/json"):
        couch.answer = Response(200, body, {"content-type": kind})
        assert couch.client().local_name() == "couchdb@ü"


def test_an_answer_over_the_limit(couch: Couch) -> None:
    couch.answer = Response(200, b'["' + b"x" * (17 << 20) + b'"]')
    with pytest.raises(NoAnswer, match="sent an answer of more than 16 MiB"):
        couch.client(request_timeout=30).databases()


def test_nobody_listens(couch: Couch, loop: Loop) -> None:
    loop.stop(couch.server)
    with pytest.raises(NoAnswer, match="refuses connections") as caught:
        couch.client().databases()
    assert caught.value.nobody


@pytest.mark.parametrize(("seconds", "request_timeout"), [(60.0, 0.3), (0.3, 60.0), (0, 0.3)])
@pytest.mark.parametrize(
    "answer", [Wire((30.0,)), Wire((b"HTTP/1.1 200 OK\r\n", *(0.1, b"x: y\r\n") * 99))]
)
def test_neither_a_request_nor_a_run_is_outlived(
    couch: Couch, answer: Wire, seconds: float, request_timeout: float
) -> None:
    couch.answer = answer
    began = Deadline(60)
    with pytest.raises(NoAnswer, match="did not answer in time"):
        couch.client(seconds=seconds, request_timeout=request_timeout).databases()
    assert began.elapsed < 5


def test_setting_up_may_take_longer_than_other_requests(couch: Couch) -> None:
    """finish_cluster answers after five seconds where a member is not connected."""
    body = b'{"ok": true}'
    head = b"HTTP/1.1 201 Created\r\ncontent-length: %d\r\n\r\n" % len(body)
    couch.answer = Wire((0.6, head + body))
    assert couch.client(request_timeout=0.2).finish_cluster(["_users", "_replicator"]) == 201
    with pytest.raises(NoAnswer):
        couch.client(request_timeout=0.2).add_member("b@x")


# --- the environment, connections, TLS --------------------------------------------------------


def test_proxies_and_netrc_are_left_alone(
    couch: Couch, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:1")
    netrc = tmp_path / "netrc"
    netrc.write_text("machine 127.0.0.1 login me password mine\n")
    netrc.chmod(0o600)
    monkeypatch.setenv("NETRC", str(netrc))
    _, request = couch(lambda c: c.databases(), [])
    encoded = request.headers["authorization"].removeprefix("Basic ")
    assert base64.b64decode(encoded).decode().startswith("ädmin:")


def test_cookies_are_not_sent_back(couch: Couch) -> None:
    """A session would be checked instead of the credentials."""
    client = couch.client()
    couch.answer = Response(200, {"ok": True}, {"set-cookie": "AuthSession=abc; Path=/"})
    client.log_in()
    client.create_database("x")
    assert "authorization" in couch.requests[1].headers


@pytest.mark.filterwarnings("ignore::urllib3.exceptions.InsecureRequestWarning")
def test_tls_by_name_at_an_address(loop: Loop, tmp_path: Path) -> None:
    authority, context = trustme.CA(), ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert(HOST).configure_cert(context)
    ca_file = tmp_path / "ca.pem"
    authority.cert_pem.write_to_path(ca_file)
    couch = Couch(loop, context)
    couch.answer = Response(200, ["x"])
    good = couch.client(scheme="https", verify=str(ca_file))
    assert good.databases() == {"x"}
    unchecked = couch.client("other.example", scheme="https", verify=False)
    assert unchecked.databases() == {"x"}
    for bad in (
        couch.client("other.example", scheme="https", verify=str(ca_file)),
        couch.client(scheme="https"),
    ):
        with pytest.raises(NoAnswer, match="has a TLS certificate that is not accepted"):
            bad.databases()
    assert len(couch.requests) == 2  # no password went to a stranger
    loop.stop(couch.server)


def test_a_fleet_keeps_its_connections(couch: Couch) -> None:
    fleet = Fleet(Access(Credentials("a", "b"), request_timeout=2), Deadline(9))
    address = Address("127.0.0.1", couch.server.port)
    pods = [Pod(f"couchdb-{i}", i, HOST, (address,)) for i in range(2)]
    first = fleet.node(pods[0], address)
    assert fleet.node(pods[0], address) is first
    assert fleet.node(pods[1], address) is not first
    fleet.forget("couchdb-0")
    fleet.forget("unknown")
    assert fleet.node(pods[0], address) is not first
    assert 0 < fleet.patience <= 9


def test_failures_are_values_of_one_family() -> None:
    assert issubclass(NoAnswer, CouchFailure)
    assert issubclass(ErrorAnswer, CouchFailure)


@pytest.mark.parametrize("answer", [None, [], {}, 1, {"ok": "yes"}])
def test_a_write_that_is_not_answered_as_done_has_not_been(couch: Couch, answer: Any) -> None:
    couch.answer = Response(200, json.dumps(answer).encode(), VERSION)
    client = couch.client()
    writes: list[Callable[[], int]] = [
        lambda: client.add_member("couchdb@a.b"),
        lambda: client.create_database("db"),
    ]
    for write in writes:
        with pytest.raises(NoAnswer, match=r"not as done|without JSON"):
            write()
