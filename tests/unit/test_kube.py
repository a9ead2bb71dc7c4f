"""The real client over real HTTP, against an API server that answers oddly."""

import json
import logging
import ssl
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import trustme
import yaml

from couchdiscover.errors import CouchdiscoverError, NotYet, UsageProblem
from couchdiscover.kube import client as kube_module
from couchdiscover.kube import kubeconfig
from couchdiscover.kube.client import DeniedForNow, Forbidden, Kube, Missing
from couchdiscover.net.deadline import Deadline
from couchdiscover.sandbox.http import Loop, Request, Response, Wire
from tests.support.api import TOKEN, Answer, Api
from tests.support.api import kubeconfig as config

RECORDED = Path(__file__).parents[1] / "recorded" / "k8s-1.36.2"
Read = Callable[[Kube], object]

READS: dict[str, Read] = {
    "statefulset": lambda kube: kube.statefulset("couch", "couchdb"),
    "secret": lambda kube: kube.secret("couch", "couchdb"),
    "config_map": lambda kube: kube.config_map("couch", "couchdb"),
    "endpoints": lambda kube: kube.endpoints("couch", "couchdb"),
    "slices": lambda kube: kube.endpoint_slices("couch", "couchdb"),
}


def recorded(name: str) -> Any:
    return json.loads((RECORDED / f"{name}.json").read_text())


def status(name: str) -> Response:
    body = recorded(f"status-{name}")
    return Response(body["code"], body)


@pytest.fixture(scope="module")
def loop() -> Iterator[Loop]:
    running = Loop()
    yield running
    running.close()


@pytest.fixture
def api(loop: Loop) -> Iterator[Api]:
    made = Api(loop)
    yield made
    loop.stop(made.server)


@pytest.fixture
def connect(tmp_path: Path, api: Api) -> Callable[..., Kube]:
    """A client by a kubeconfig: of the API server here, unless told otherwise."""

    def make(
        doc: object = None, *, seconds: float = 60, request_timeout: float = 2, **options: Any
    ) -> Kube:
        path = tmp_path / "kubeconfig"
        text = doc if isinstance(doc, str) else yaml.safe_dump(doc or config(api.url))
        path.write_text(text, encoding="utf-8")
        deadline = Deadline(seconds)
        return Kube(deadline, kubeconfig=str(path), request_timeout=request_timeout, **options)

    return make


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """A denial counts at once."""
    monkeypatch.setattr(kube_module, "DENIAL_SECONDS", 0.0)


def failure(read: Read, client: Kube) -> CouchdiscoverError:
    with pytest.raises(CouchdiscoverError) as caught:
        read(client)
    shown = "".join(str(e) + repr(e) for e in (caught.value, caught.value.__cause__))
    assert TOKEN not in shown
    error = caught.value  # of which no traceback may show what was sent
    assert error.__suppress_context__ or error.__context__ is None
    return error


# --- what is asked, and good answers ----------------------------------------------------------


@pytest.mark.parametrize(
    ("what", "recording", "path"),
    [
        (
            "statefulset",
            "statefulset-5-all-ready",
            "/apis/apps/v1/namespaces/couch/statefulsets/couchdb",
        ),
        ("secret", "secret", "/api/v1/namespaces/couch/secrets/couchdb"),
        ("config_map", "configmap", "/api/v1/namespaces/couch/configmaps/couchdb"),
        ("endpoints", "endpoints-1-pending", "/api/v1/namespaces/couch/endpoints/couchdb"),
    ],
)
def test_one_object(
    api: Api, connect: Callable[..., Kube], what: str, recording: str, path: str
) -> None:
    api.answers = [Response(200, recorded(recording))]
    assert READS[what](connect()) == recorded(recording)
    (request,) = api.requests
    assert (request.method, request.path) == ("GET", path)
    assert request.headers["authorization"] == f"Bearer {TOKEN}"


@pytest.mark.parametrize("recording", ["5-all-ready", "1-pending"])
def test_slices_by_the_services_name(
    api: Api, connect: Callable[..., Kube], recording: str
) -> None:
    listed = recorded(f"endpointslices-{recording}")
    api.answers = [Response(200, listed)]
    assert READS["slices"](connect()) == listed["items"]
    (request,) = api.requests
    assert request.path == "/apis/discovery.k8s.io/v1/namespaces/couch/endpointslices"
    assert request.query["labelSelector"] == "kubernetes.io/service-name=couchdb"


@pytest.mark.parametrize("items", [None, [], [None, 1, "x"]])
def test_a_list_of_nothing(api: Api, connect: Callable[..., Kube], items: object) -> None:
    api.answers = [Response(200, {"kind": "EndpointSliceList", "items": items})]
    assert READS["slices"](connect()) == []


# --- odd answers ------------------------------------------------------------------------------

HTML = {"content-type": "text/html"}
NO_TYPE = b"HTTP/1.1 %d x\r\ncontent-length: 4\r\nconnection: close\r\n\r\nwhat"
ODD: list[tuple[Answer, type[CouchdiscoverError], str]] = [
    (Response(200, "<html>hello</html>", HTML), NotYet, "something else"),
    (Response(200, "<html>hello</html>"), NotYet, "something else"),
    (Response(200, ""), NotYet, "something else"),
    (Response(200, "null"), NotYet, "something else"),
    (Response(200, "[]"), NotYet, "something else"),
    (Response(200, "17"), NotYet, "something else"),
    (Response(200, '"text"'), NotYet, "something else"),
    (Response(200, "{}"), NotYet, "something else"),
    (Response(200, {"kind": ""}), NotYet, "something else"),
    (Response(200, {"kind": "Set"}), NotYet, "something else"),
    (Response(200, {"kind": "SecretList", "items": 5}), NotYet, "something else"),
    (Response(200, {"kind": "EndpointSliceList", "items": 5}), NotYet, "something else"),
    (Response(200, {"kind": "Status", "status": "Success"}), NotYet, "something else"),
    (Response(200, "[" * 100_000), NotYet, "something else"),
    (Response(200, b"\xff\xfe\x00"), NotYet, "something else"),
    (Wire((NO_TYPE % 200,)), NotYet, "something else"),
    (Response(302, "", {"location": "/elsewhere"}), NotYet, "TooManyRedirects"),
    (status("404-statefulset"), Missing, "does not exist"),
    (status("404-group"), Missing, "does not exist"),
    (Response(404, "404 page not found", {"content-type": "text/plain"}), Missing, "does not"),
    (Wire((NO_TYPE % 404,)), Missing, "does not exist"),
    (status("409-conflict"), NotYet, "answered 409"),
    (Response(500, "boom", HTML), NotYet, "answered 500"),
    (Response(503, "null"), NotYet, "answered 503"),
    (Response(503, ""), NotYet, "answered 503"),
    (Response(429, {}, {"retry-after": "5"}), NotYet, "answered 429"),
    (Wire((NO_TYPE % 502,)), NotYet, "answered 502"),
    (Wire(), NotYet, "closed the connection without an answer"),
    (Wire(reset=True), NotYet, "closed the connection without an answer"),
    (Wire((b"SSH-2.0-OpenSSH_9.9\r\n",)), NotYet, "does not speak HTTP properly"),
    (Wire((b"HTTP/1.1 200 OK\r\ncontent-length: 99\r\n\r\n{",)), NotYet, "does not speak HTTP"),
]


@pytest.mark.parametrize(("answer", "kind", "told"), ODD)
@pytest.mark.parametrize("what", ["secret", "slices"])
def test_odd_answers(
    api: Api,
    connect: Callable[..., Kube],
    what: str,
    answer: Answer,
    kind: type[CouchdiscoverError],
    told: str,
) -> None:
    api.answers = [answer]
    error = failure(READS[what], connect())
    assert type(error) is kind
    assert told in str(error)
    assert ("secrets/couchdb in couch" if what == "secret" else "endpointslices of") in str(error)
    assert "\n" not in str(error)


@pytest.mark.parametrize("code", [301, 302, 303, 307, 308])
def test_the_token_goes_nowhere_else(
    api: Api, connect: Callable[..., Kube], loop: Loop, code: int
) -> None:
    other = Api(loop)
    api.answers = [Response(code, "", {"location": f"{other.url}/steal"})]
    failure(READS["secret"], connect())
    assert len(api.requests) == 1
    assert other.requests == []
    loop.stop(other.server)


def test_nobody_listens(api: Api, connect: Callable[..., Kube], loop: Loop) -> None:
    loop.stop(api.server)
    error = failure(READS["statefulset"], connect())
    assert type(error) is NotYet
    assert "the Kubernetes API refuses connections (to get statefulsets/couchdb in couch)" in (
        str(error)
    )


DRIPPING = Wire((b"HTTP/1.1 200 OK\r\n", *(0.1, b"x: y\r\n") * 99))


@pytest.mark.parametrize("answer", [Wire((30.0,)), DRIPPING])
def test_silence_and_dripping_end(api: Api, connect: Callable[..., Kube], answer: Answer) -> None:
    api.answers = [answer]
    began = Deadline(30)
    error = failure(READS["secret"], connect(request_timeout=0.3))
    assert type(error) is NotYet
    assert "did not answer in time" in str(error)
    assert began.elapsed < 5


def test_no_request_outlives_the_deadline(api: Api, connect: Callable[..., Kube]) -> None:
    api.answers = [Wire((30.0,))]
    began = Deadline(30)
    failure(READS["secret"], connect(seconds=0.3, request_timeout=20))
    assert began.elapsed < 5


# --- denied -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("answer", "told"),
    [
        (status("403-anonymous"), "grant `get on secrets/couchdb` to the service account"),
        (status("403-otherns"), "grant `get on secrets/couchdb`"),
        (Response(403, "<html>no</html>", HTML), "grant `get on secrets/couchdb`"),
        (status("401-badtoken"), "does not accept the token (401 to get secrets/couchdb in couch)"),
        (Response(401, "Unauthorized", {"content-type": "text/plain"}), "renew the kubeconfig's"),
        (Response(401, "<html>no</html>"), "does not accept the token"),
        (Response(401, ""), "does not accept the token"),
        (Response(401, "null"), "does not accept the token"),
        (Response(403, "[]"), "does not allow to get secrets/couchdb in couch"),
        (Wire((NO_TYPE % 403,)), "does not allow to get secrets/couchdb in couch"),
    ],
)
def test_denied(
    api: Api, connect: Callable[..., Kube], impatient: None, answer: Answer, told: str
) -> None:
    api.answers = [answer]
    error = failure(READS["secret"], connect())
    assert type(error) is Forbidden
    assert error.exit_code == 5
    assert told in str(error)


@pytest.mark.parametrize("name", ["403-anonymous", "401-badtoken"])
def test_a_denial_may_be_for_a_moment(
    api: Api, connect: Callable[..., Kube], monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    client = connect()
    api.answers = [status(name), Response(200, recorded("secret")), status(name)]
    assert type(failure(READS["secret"], client)) is DeniedForNow
    READS["secret"](client)
    assert type(failure(READS["secret"], client)) is DeniedForNow  # counted from anew
    monkeypatch.setattr(kube_module, "DENIAL_SECONDS", 0.0)
    assert type(failure(READS["secret"], client)) is Forbidden


def test_one_look_takes_a_denial_for_one(api: Api, connect: Callable[..., Kube]) -> None:
    api.answers = [status("403-anonymous")]
    assert type(failure(READS["secret"], connect(seconds=0))) is Forbidden


@pytest.mark.parametrize("what", ["slices", "endpoints"])
def test_where_there_is_a_fallback_nobody_waits(
    api: Api, connect: Callable[..., Kube], what: str
) -> None:
    api.answers = [status("403-slices")]
    error = failure(READS[what], connect())
    assert type(error) is Forbidden
    assert ("list on endpointslices" if what == "slices" else "get on endpoints") in str(error)


def test_after_a_401_the_token_is_read_anew(
    api: Api, connect: Callable[..., Kube], tmp_path: Path
) -> None:
    client = connect(config(api.url, "old"))
    api.answers = [status("401-badtoken"), Response(200, recorded("secret"))]
    (tmp_path / "kubeconfig").write_text(yaml.safe_dump(config(api.url, "new")))
    gateway = client.pod_gateway("db", "couchdb-0", 5984, "http")
    assert type(failure(READS["secret"], client)) is DeniedForNow
    READS["secret"](client)
    gateway.session.get(gateway.url, timeout=5)  # one that was there before, too
    told = [request.headers["authorization"] for request in api.requests]
    assert told == ["Bearer old", "Bearer new", "Bearer new"]


def test_after_a_401_the_server_may_be_another(
    api: Api, connect: Callable[..., Kube], tmp_path: Path, loop: Loop
) -> None:
    client = connect(config(api.url))
    api.answers = [status("401-badtoken")]
    other = Api(loop)
    other.answers = [Response(200, recorded("secret"))]
    (tmp_path / "kubeconfig").write_text(yaml.safe_dump(config(other.url)))
    assert type(failure(READS["secret"], client)) is DeniedForNow
    READS["secret"](client)
    assert len(other.requests) == 1
    loop.stop(other.server)


def test_a_half_written_token_leaves_the_old_one(
    api: Api, connect: Callable[..., Kube], tmp_path: Path
) -> None:
    client = connect()
    api.answers = [status("401-badtoken"), Response(200, recorded("secret"))]
    (tmp_path / "kubeconfig").write_text("{")
    failure(READS["secret"], client)
    READS["secret"](client)
    assert api.requests[1].headers["authorization"] == f"Bearer {TOKEN}"


# --- the environment --------------------------------------------------------------------------


def test_proxies_and_netrc_are_left_alone(
    api: Api, connect: Callable[..., Kube], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:1")
    netrc = tmp_path / "netrc"
    netrc.write_text("machine 127.0.0.1 login me password mine\n")
    netrc.chmod(0o600)
    monkeypatch.setenv("NETRC", str(netrc))
    api.answers = [Response(200, recorded("secret"))]
    READS["secret"](connect())
    assert api.requests[0].headers["authorization"] == f"Bearer {TOKEN}"
    nobody = config(api.url)
    del nobody["contexts"][0]["context"]["user"]
    READS["secret"](connect(nobody))
    assert "authorization" not in api.requests[1].headers


@pytest.mark.parametrize("token", [f"{TOKEN}\n", f" {TOKEN}\r\n"])
def test_a_token_with_a_line_break_at_its_end_is_good(
    api: Api, connect: Callable[..., Kube], token: str
) -> None:
    api.answers = [Response(200, recorded("secret"))]
    READS["secret"](connect(config(api.url, token)))
    assert api.requests[0].headers["authorization"] == f"Bearer {TOKEN}"


@pytest.mark.parametrize("token", [f"{TOKEN}\nx", f"{TOKEN}\r\nX: y", f"{TOKEN}\u20ac", "\u0000"])
def test_a_token_that_cannot_travel(api: Api, connect: Callable[..., Kube], token: str) -> None:
    error = failure(lambda _: connect(config(api.url, token)), None)  # type: ignore[arg-type]
    assert type(error) is UsageProblem
    assert "token for the Kubernetes API has characters" in str(error)


# --- kubeconfigs ------------------------------------------------------------------------------


def without(key: str) -> dict[str, Any]:
    doc = config("http://127.0.0.1:1")
    del doc[key]
    return doc


def with_cluster(**cluster: Any) -> dict[str, Any]:
    doc = config("https://127.0.0.1:1")
    doc["clusters"][0]["cluster"] |= cluster
    return doc


@pytest.mark.parametrize(
    "doc",
    [
        "{",
        "key: [unclosed",
        "\t",
        "just text",
        "[]",
        "17",
        "a: &a [*a]",
        "!!python/object:os.system {}",
        without("clusters"),
        without("contexts"),
        without("current-context"),
        {**config("http://x"), "current-context": "nope"},
        {**config("http://x"), "clusters": []},
        {**config("http://x"), "clusters": [{}]},
        {**config("http://x"), "contexts": [{"name": "one", "context": None}]},
        {**config("http://x"), "users": [{"name": "u", "user": None}]},
        config("http://x", token=17),
        with_cluster(**{"certificate-authority": "/no/such/ca.crt"}),
        with_cluster(**{"certificate-authority-data": "!"}),
        config("http://x", **{"client-certificate": "/no/such", "client-key": "/no/such"}),
    ],
)
def test_malformed_kubeconfigs(connect: Callable[..., Kube], doc: object) -> None:
    with pytest.raises(UsageProblem, match=r"the Kubernetes configuration at .*kubeconfig cannot"):
        connect(doc)


def test_an_empty_kubeconfig(connect: Callable[..., Kube]) -> None:
    for text in ("", "---\n", "{}"):
        with pytest.raises(UsageProblem, match="cannot be used"):
            connect(text or " ")


def test_a_kubeconfig_that_is_not_there(tmp_path: Path) -> None:
    for path in (tmp_path / "nope", tmp_path):
        with pytest.raises(UsageProblem, match=f"no kubeconfig at {path}; .*--kubeconfig"):
            Kube(Deadline(9), kubeconfig=str(path))


def test_the_first_kubeconfig_of_several_that_is_there(
    api: Api, connect: Callable[..., Kube], tmp_path: Path
) -> None:
    connect()
    several = f":{tmp_path / 'nope'}:{tmp_path / 'kubeconfig'}"
    assert Kube(Deadline(9), kubeconfig=several).namespace == "db"


def test_contexts(connect: Callable[..., Kube]) -> None:
    assert connect().namespace == "db"
    assert connect(context="two").namespace is None
    with pytest.raises(UsageProblem, match=r"no context 'three'.*get-contexts"):
        connect(context="three")


@pytest.mark.parametrize("namespace", [None, "", " "])
def test_a_context_without_a_namespace(connect: Callable[..., Kube], namespace: str | None) -> None:
    doc = config("http://127.0.0.1:1")
    doc["contexts"][0]["context"]["namespace"] = namespace
    assert connect(doc).namespace is None


@pytest.mark.parametrize(
    ("server", "kind", "told"),
    [
        ("ftp://127.0.0.1", UsageProblem, "no URL"),
        ("127.0.0.1:1", UsageProblem, "no URL"),
        ("http://", UsageProblem, "no URL"),
        ("http://[::1", UsageProblem, ""),
        ("http://127.0.0.1:99999", UsageProblem, "no URL"),
        ("http://no-such-host.invalid:1", NotYet, "has a name that does not resolve"),
        ("http://127.0.0.1:1", NotYet, "refuses connections"),
        (17, UsageProblem, ""),
    ],
)
def test_servers(
    connect: Callable[..., Kube], server: str, kind: type[CouchdiscoverError], told: str
) -> None:
    error = failure(lambda _: connect(config(server)).secret("couch", "couchdb"), None)  # type: ignore[arg-type]
    assert type(error) is kind
    assert told in str(error)


def test_ways_to_authenticate_that_are_no_more(api: Api, connect: Callable[..., Kube]) -> None:
    provided = {"auth-provider": {"name": "gcp", "config": {"access-token": TOKEN}}}
    with pytest.raises(UsageProblem, match="auth-provider 'gcp' is not supported"):
        connect(config(api.url, token=None, **provided))
    connect(config(api.url, **provided))  # beside a token it is not needed


# --- the service account ----------------------------------------------------------------------


@pytest.fixture
def account(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A service account's folder as the kubelet mounts it, and nothing else to go by."""
    folder = tmp_path / "serviceaccount"
    folder.mkdir()
    (folder / "token").write_text(TOKEN + "\n")
    (folder / "namespace").write_text("of-account\n")
    monkeypatch.setattr(kubeconfig, "SERVICE_ACCOUNT", folder)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("KUBERNETES_SERVICE_HOST", "127.0.0.1")
    return folder


def test_in_a_cluster(loop: Loop, account: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    authority = trustme.CA()
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("127.0.0.1").configure_cert(tls)
    seen = []

    async def answer(request: Request) -> Response:
        seen.append(request)
        return Response(200, recorded("secret"))

    server = loop.serve(answer, "127.0.0.1", tls=tls)
    monkeypatch.setenv("KUBERNETES_SERVICE_PORT", str(server.port))
    authority.cert_pem.write_to_path(account / "ca.crt")
    client = Kube(Deadline(30))
    assert client.namespace == "of-account"
    READS["secret"](client)
    assert seen[0].headers["authorization"] == f"Bearer {TOKEN}"

    trustme.CA().cert_pem.write_to_path(account / "ca.crt")
    error = failure(READS["secret"], Kube(Deadline(30)))
    assert type(error) is NotYet
    assert "has a TLS certificate that is not accepted" in str(error)
    loop.stop(server)


@pytest.mark.parametrize("missing", ["ca.crt", "namespace", "KUBERNETES_SERVICE_PORT"])
def test_an_account_that_is_incomplete(
    account: Path, monkeypatch: pytest.MonkeyPatch, missing: str
) -> None:
    trustme.CA().cert_pem.write_to_path(account / "ca.crt")
    monkeypatch.setenv("KUBERNETES_SERVICE_PORT", "443")
    monkeypatch.delenv(missing, raising=False)
    (account / missing).unlink(missing_ok=True)
    with pytest.raises(UsageProblem, match=f"configuration at {account} cannot be used") as caught:
        Kube(Deadline(30))
    assert TOKEN not in str(caught.value)


@pytest.mark.parametrize("gone", ["token", "KUBERNETES_SERVICE_HOST"])
def test_neither_an_account_nor_a_kubeconfig(
    account: Path, monkeypatch: pytest.MonkeyPatch, gone: str
) -> None:
    monkeypatch.delenv(gone, raising=False)
    (account / gone).unlink(missing_ok=True)
    told = (
        "no service account's token.*automountServiceAccountToken: true"
        if gone == "token"
        else r"not in a cluster .*no kubeconfig at ~/\.kube/config"
    )
    with pytest.raises(UsageProblem, match=told):
        Kube(Deadline(30))


def test_a_named_kubeconfig_wins_over_the_account(
    api: Api, account: Path, connect: Callable[..., Kube]
) -> None:
    api.answers = [Response(200, recorded("secret"))]
    READS["secret"](connect())
    assert len(api.requests) == 1


def test_nothing_of_pykube_is_logged_with_a_token(
    api: Api, connect: Callable[..., Kube], caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    for answer in (Response(200, recorded("secret")), status("401-badtoken")):
        api.answers = [answer]
        client = connect()
        try:
            READS["secret"](client)
        except CouchdiscoverError:
            continue
    assert TOKEN not in caplog.text
