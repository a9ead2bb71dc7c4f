"""Where the API is and who asks: kubeconfigs as kubectl reads them, over real HTTP and TLS."""

import base64
import hashlib
import json
import os
import socket
import ssl
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import trustme
import yaml

from couchdiscover.errors import NotYet, UsageProblem
from couchdiscover.kube import client, kubeconfig
from couchdiscover.kube.client import DeniedForNow, Kube, Missing
from couchdiscover.kube.kubeconfig import Access, find_access, proxy_for
from couchdiscover.net.deadline import Deadline
from couchdiscover.sandbox.http import Loop, Response, Wire
from tests.support.api import TOKEN, Api
from tests.support.api import kubeconfig as config

SECRET = Response(200, {"kind": "Secret", "metadata": {"name": "s"}})
MISSING = Response(404, {"kind": "Status", "code": 404})
FORBIDDEN = Response(403, {"kind": "Status", "code": 403})


@pytest.fixture(scope="module")
def loop() -> Iterator[Loop]:
    running = Loop()
    yield running
    running.close()


@pytest.fixture
def api(loop: Loop) -> Iterator[Api]:
    made = Api(loop)
    made.answers = [SECRET]
    yield made
    loop.stop(made.server)


@pytest.fixture(autouse=True)
def nothing_is_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Whatever is done here leaves nothing in the folder for temporary files."""
    folder = tmp_path / "temporary"
    folder.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(folder))
    monkeypatch.setenv("HOME", str(tmp_path))
    yield folder
    assert [p for p in folder.iterdir() if not p.name.startswith("planted")] == []


@pytest.fixture
def connect(tmp_path: Path) -> Callable[..., Kube]:
    """A client by a kubeconfig."""

    def make(doc: dict[str, Any], *, seconds: float = 60, **options: Any) -> Kube:
        path = tmp_path / "kubeconfig"
        path.write_text(yaml.safe_dump(doc), encoding="utf-8")
        return Kube(Deadline(seconds), kubeconfig=str(path), request_timeout=5, **options)

    return make


def read(kube: Kube, name: str = "s") -> object:
    return kube.secret("db", name)


def write(path: Path, doc: object) -> Path:
    path.parent.mkdir(exist_ok=True)
    path.write_text(yaml.safe_dump(doc), encoding="utf-8")
    return path


# --- several files ----------------------------------------------------------------------------


def test_of_several_files_the_first_to_name_a_thing_is_heard(tmp_path: Path) -> None:
    first = write(
        tmp_path / "first",
        {
            "users": [{"name": "u", "user": {"token": "first"}}],
            "contexts": [{"name": "a", "context": {"cluster": "c", "user": "u"}}],
        },
    )
    second = write(
        tmp_path / "second",
        {
            "clusters": [{"name": "c", "cluster": {"server": "https://two:6443"}}],
            "users": [{"name": "u", "user": {"token": "second", "as": "somebody"}}],
            "contexts": [{"name": "b", "context": {"cluster": "c", "namespace": "db"}}],
            "current-context": "a",
        },
    )
    third = write(tmp_path / "third", {"current-context": "b"})
    files = f"{first}:{tmp_path / 'nope'}::{second}:{third}"
    found = find_access(files, None, {})
    assert (found.server, found.token, found.impersonation) == ("https://two:6443", "first", ())
    assert find_access(files, "b", {}).namespace == "db"
    with pytest.raises(UsageProblem, match="no context 'c'"):
        find_access(files, "c", {})


def test_files_are_named_relative_to_the_kubeconfig_that_names_them(tmp_path: Path) -> None:
    for folder in ("one", "two"):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "file").write_text(folder)
    cluster = {"server": "http://x", "certificate-authority": "file"}
    one = write(tmp_path / "one" / "config", {"clusters": [{"name": "c", "cluster": cluster}]})
    two = write(
        tmp_path / "two" / "config",
        {**config("http://y"), "users": [{"name": "u", "user": {"tokenFile": "file"}}]},
    )
    found = find_access(f"{one}:{two}", None, {})
    assert found.authority == b"one"
    assert found.token_file == tmp_path / "two" / "file"


def test_a_broken_file_is_told_by_its_name(tmp_path: Path) -> None:
    good = write(tmp_path / "good", config("http://x"))
    bad = tmp_path / "bad"
    bad.write_text(f"token: [{TOKEN}")
    with pytest.raises(UsageProblem, match=f"configuration at {bad} cannot be used") as caught:
        find_access(f"{good}:{bad}", None, {})
    assert TOKEN not in str(caught.value)


def test_what_is_embedded_goes_before_what_is_named(tmp_path: Path) -> None:
    doc = config("http://x")
    data = base64.b64encode(b"embedded").decode()
    doc["clusters"][0]["cluster"] |= {
        "certificate-authority-data": data,
        "certificate-authority": "/no/such/file",
    }
    assert find_access(str(write(tmp_path / "c", doc)), None, {}).authority == b"embedded"


def test_nothing_secret_is_shown(tmp_path: Path) -> None:
    doc = config("http://x", username="admin", password="hunter2")
    doc["clusters"][0]["cluster"]["proxy-url"] = "http://user:hunter2@proxy"
    found = find_access(str(write(tmp_path / "c", doc)), None, {})
    assert "hunter2" not in repr(found)
    assert TOKEN not in repr(found)


# --- the service account, or a kubeconfig -----------------------------------------------------


@pytest.fixture
def account(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "account"
    folder.mkdir()
    for name, content in (("token", TOKEN), ("namespace", "of-account"), ("ca.crt", "")):
        (folder / name).write_text(content)
    monkeypatch.setattr(kubeconfig, "SERVICE_ACCOUNT", folder)
    return folder


IN_CLUSTER = {"KUBERNETES_SERVICE_HOST": "fd00::1", "KUBERNETES_SERVICE_PORT": "443"}


def test_what_is_named_goes_before_the_service_account(tmp_path: Path, account: Path) -> None:
    by_account = find_access(None, None, IN_CLUSTER)
    assert (by_account.server, by_account.namespace) == ("https://[fd00::1]:443", "of-account")
    named = write(tmp_path / "named", config("http://x"))
    assert find_access(str(named), None, IN_CLUSTER).namespace == "db"
    assert find_access(str(named), "two", IN_CLUSTER).namespace is None
    write(tmp_path / ".kube" / "config", config("http://y"))
    assert find_access(None, None, IN_CLUSTER) == by_account
    assert find_access(None, "one", IN_CLUSTER).server == "http://y"


def test_a_pod_without_a_token(account: Path, tmp_path: Path) -> None:
    (account / "token").unlink()
    with pytest.raises(UsageProblem, match="automountServiceAccountToken: true"):
        find_access(None, None, IN_CLUSTER)
    write(tmp_path / ".kube" / "config", config("http://y"))
    assert find_access(None, None, IN_CLUSTER).server == "http://y"


# --- who asks ---------------------------------------------------------------------------------


def test_a_tokens_file_is_read_as_it_is_now(
    api: Api, connect: Callable[..., Kube], tmp_path: Path
) -> None:
    file = tmp_path / "token"
    file.write_text("one\n")
    kube = connect(config(api.url, token="never", tokenFile=str(file)))
    for content in ("two", "", None):  # as it is being rotated
        read(kube)
        file.write_text(content) if content is not None else file.unlink()
    read(kube)
    sent = [request.headers["authorization"] for request in api.requests]
    assert sent == ["Bearer one", "Bearer two", "Bearer two", "Bearer two"]


def test_a_tokens_file_that_is_not_there(api: Api, connect: Callable[..., Kube]) -> None:
    kube = connect(config(api.url, token=None, tokenFile="/no/such/file"))
    with pytest.raises(UsageProblem, match=r"token .* in /no/such/file cannot be read \(No such"):
        read(kube)


def test_a_user_and_a_password(api: Api, connect: Callable[..., Kube]) -> None:
    read(connect(config(api.url, token=None, username="me", password="pä")))
    expected = base64.b64encode("me:pä".encode()).decode()
    assert api.requests[0].headers["authorization"] == f"Basic {expected}"


def test_a_token_that_an_oidc_provider_left_behind(api: Api, connect: Callable[..., Kube]) -> None:
    provider = {"auth-provider": {"name": "oidc", "config": {"id-token": "from-oidc"}}}
    read(connect(config(api.url, token=None, **provider)))
    assert api.requests[0].headers["authorization"] == "Bearer from-oidc"


class Listener:
    """Takes one connection, keeps what came, and gives an answer."""

    def __init__(self, answer: bytes) -> None:
        self.heard = b""
        self._answer = answer
        self._socket = socket.create_server(("127.0.0.1", 0))
        self.port = self._socket.getsockname()[1]
        self._thread = threading.Thread(target=self._listen, daemon=True)
        self._thread.start()

    def _listen(self) -> None:
        connection, _ = self._socket.accept()
        with connection:
            while b"\r\n\r\n" not in self.heard:
                self.heard += connection.recv(65536)
            connection.sendall(self._answer)

    def end(self) -> list[str]:
        self._thread.join(10)
        self._socket.close()
        return self.heard.decode().split("\r\n")


def test_impersonation_as_kubectl_sends_it(connect: Callable[..., Kube]) -> None:
    listener = Listener(b"HTTP/1.1 404 x\r\ncontent-length: 2\r\nconnection: close\r\n\r\n{}")
    user = {
        "as": "jane",
        "as-uid": "7",
        "as-groups": ["devs", "ops, eu"],
        "as-user-extra": {"Scopes/x": ["view"]},
    }
    with pytest.raises(Missing):
        read(connect(config(f"http://127.0.0.1:{listener.port}", **user)))
    lines = listener.end()
    assert [line for line in lines if line.startswith("Impersonate-")] == [
        "Impersonate-User: jane",
        "Impersonate-Uid: 7",
        "Impersonate-Group: devs",
        "Impersonate-Group: ops, eu",
        "Impersonate-Extra-scopes%2Fx: view",
    ]
    assert f"Authorization: Bearer {TOKEN}" in lines


@pytest.mark.parametrize("user", [{"as-groups": ["x"]}, {"as": "a\nb"}, {"as": 7}])
def test_impersonation_that_cannot_be(connect: Callable[..., Kube], user: dict[str, Any]) -> None:
    with pytest.raises(UsageProblem, match=r"cannot be used \(i"):
        connect(config("http://x", **user))


# --- TLS --------------------------------------------------------------------------------------


def server_tls(authority: trustme.CA, name: str = "127.0.0.1") -> ssl.SSLContext:
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert(name).configure_cert(tls)
    return tls


@pytest.fixture
def secure(loop: Loop) -> Iterator[Callable[[ssl.SSLContext], Api]]:
    made = []

    def make(tls: ssl.SSLContext) -> Api:
        made.append(Api(loop, tls=tls))
        made[-1].answers = [SECRET]
        return made[-1]

    yield make
    for each in made:
        loop.stop(each.server)


def over_tls(api: Api, authority: trustme.CA | None, **user: Any) -> dict[str, Any]:
    doc = config(f"https://127.0.0.1:{api.server.port}", **user)
    if authority is not None:
        data = base64.b64encode(authority.cert_pem.bytes()).decode()
        doc["clusters"][0]["cluster"]["certificate-authority-data"] = data
    return doc


def test_an_embedded_authority_is_the_only_one_that_counts(
    secure: Callable[..., Api], connect: Callable[..., Kube], nothing_is_written: Path
) -> None:
    ours, theirs = trustme.CA(), trustme.CA()
    good, bad = secure(server_tls(ours)), secure(server_tls(theirs))
    # As somebody else would put it there, for pykube to find.
    name = f"pykube-ng.{hashlib.md5(ours.cert_pem.bytes()).hexdigest()}.crt"
    theirs.cert_pem.write_to_path(nothing_is_written / name)
    read(connect(over_tls(good, ours)))
    assert good.requests[0].headers["authorization"] == f"Bearer {TOKEN}"
    with pytest.raises(NotYet, match="certificate that is not accepted"):
        read(connect(over_tls(bad, ours)))
    assert bad.requests == []
    (nothing_is_written / name).unlink()


@pytest.mark.filterwarnings("ignore:Unverified HTTPS")
def test_the_usual_authorities_where_none_is_named(
    secure: Callable[..., Api],
    connect: Callable[..., Kube],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    for variable in ("SSL_CERT_FILE", "SSL_CERT_DIR", "REQUESTS_CA_BUNDLE"):
        monkeypatch.delenv(variable, raising=False)
    authority = trustme.CA()
    api = secure(server_tls(authority))
    with pytest.raises(NotYet, match="certificate that is not accepted"):
        read(connect(over_tls(api, None)))
    authority.cert_pem.write_to_path(tmp_path / "ca.pem")
    for variable in ("SSL_CERT_FILE", "REQUESTS_CA_BUNDLE"):
        with monkeypatch.context() as patch:
            patch.setenv(variable, str(tmp_path / "ca.pem"))
            read(connect(over_tls(api, None)))
    skipping = over_tls(api, None)
    skipping["clusters"][0]["cluster"]["insecure-skip-tls-verify"] = True
    read(connect(skipping))
    assert len(api.requests) == 3


def test_the_servers_name_may_be_another(
    secure: Callable[..., Api], connect: Callable[..., Kube]
) -> None:
    authority = trustme.CA()
    api = secure(server_tls(authority, "api.example"))
    doc = over_tls(api, authority)
    with pytest.raises(NotYet, match="certificate that is not accepted"):
        read(connect(doc))
    doc["clusters"][0]["cluster"]["tls-server-name"] = "api.example"
    read(connect(doc))


@pytest.mark.parametrize("in_memory", [True, False])
def test_a_clients_certificate_is_left_nowhere(
    secure: Callable[..., Api],
    connect: Callable[..., Kube],
    monkeypatch: pytest.MonkeyPatch,
    in_memory: bool,
) -> None:
    modes = []
    loading = ssl.SSLContext.load_cert_chain

    def load(context: ssl.SSLContext, path: str, **more: Any) -> None:
        if not in_memory:
            modes.append(
                (Path(path).stat().st_mode & 0o777, Path(path).parent.stat().st_mode & 0o777)
            )
        loading(context, path, **more)

    authority = trustme.CA()
    tls = server_tls(authority)
    tls.verify_mode = ssl.CERT_REQUIRED
    authority.configure_trust(tls)
    api = secure(tls)
    mine = authority.issue_cert("me@example.com")
    user = {
        "client-certificate-data": base64.b64encode(mine.cert_chain_pems[0].bytes()).decode(),
        "client-key-data": base64.b64encode(mine.private_key_pem.bytes()).decode(),
    }
    with pytest.raises(NotYet):
        read(connect(over_tls(api, authority, token=None)))
    monkeypatch.setattr(ssl.SSLContext, "load_cert_chain", load)
    if not in_memory:
        monkeypatch.delattr(os, "memfd_create", raising=False)
    read(connect(over_tls(api, authority, token=None, **user)))
    assert modes == ([] if in_memory else [(0o600, 0o700)])


@pytest.mark.parametrize(
    "user",
    [
        {"client-certificate-data": "eA=="},
        {"client-certificate-data": "eA==", "client-key-data": "eA=="},
    ],
)
def test_certificates_that_are_none(
    secure: Callable[..., Api], connect: Callable[..., Kube], user: dict[str, Any]
) -> None:
    authority = trustme.CA()
    with pytest.raises(UsageProblem, match="kubeconfig cannot be used"):
        connect(over_tls(secure(server_tls(authority)), authority, **user))
    doc = over_tls(secure(server_tls(authority)), None)
    for data in ("eA==", ""):
        doc["clusters"][0]["cluster"]["certificate-authority-data"] = data or "IA=="
        with pytest.raises(UsageProblem, match="a certificate or key in it is none"):
            connect(doc)


# --- proxies ----------------------------------------------------------------------------------


class Tunnel:
    """An HTTP proxy that does CONNECT, once, and keeps what it was asked."""

    def __init__(self) -> None:
        self.heard = b""
        self._socket = socket.create_server(("127.0.0.1", 0))
        self.port = self._socket.getsockname()[1]
        threading.Thread(target=self._serve, daemon=True).start()

    def _serve(self) -> None:
        near, _ = self._socket.accept()
        while b"\r\n\r\n" not in self.heard:
            self.heard += near.recv(65536)
        host, _, port = self.heard.split()[1].decode().rpartition(":")
        far = socket.create_connection((host, int(port)))
        near.sendall(b"HTTP/1.1 200 Connection established\r\n\r\n")
        threading.Thread(target=self._pump, args=(far, near), daemon=True).start()
        self._pump(near, far)

    @staticmethod
    def _pump(one: socket.socket, other: socket.socket) -> None:
        try:
            while data := one.recv(65536):
                other.sendall(data)
        except OSError:
            pass
        other.close()


def test_a_proxy_of_the_kubeconfig(
    secure: Callable[..., Api], connect: Callable[..., Kube], monkeypatch: pytest.MonkeyPatch
) -> None:
    authority = trustme.CA()
    api = secure(server_tls(authority))
    tunnel = Tunnel()
    doc = over_tls(api, authority)
    doc["clusters"][0]["cluster"]["proxy-url"] = f"http://me:hunter2@127.0.0.1:{tunnel.port}"
    monkeypatch.setenv("NO_PROXY", "*")  # of the environment, and not of this one
    read(connect(doc))
    assert tunnel.heard.startswith(f"CONNECT 127.0.0.1:{api.server.port} ".encode())
    assert b"Proxy-Authorization: Basic " in tunnel.heard
    assert TOKEN.encode() not in tunnel.heard
    assert api.requests[0].headers["authorization"] == f"Bearer {TOKEN}"
    assert "proxy-authorization" not in api.requests[0].headers


def test_a_proxy_that_refuses_is_named_without_its_password(
    secure: Callable[..., Api], connect: Callable[..., Kube]
) -> None:
    authority = trustme.CA()
    refusing = Listener(b"HTTP/1.1 403 no\r\ncontent-length: 0\r\nconnection: close\r\n\r\n")
    doc = over_tls(secure(server_tls(authority)), authority)
    proxy = f"127.0.0.1:{refusing.port}"
    doc["clusters"][0]["cluster"]["proxy-url"] = f"http://me:hunter2@{proxy}"
    with pytest.raises(NotYet, match=f"through the proxy http://{proxy} ") as caught:
        read(connect(doc))
    assert "hunter2" not in str(caught.value)
    refusing.end()


@pytest.mark.parametrize(
    ("server", "environment", "expected"),
    [
        ("https://k8s.example:6443", {"HTTPS_PROXY": "http://p:1"}, "http://p:1"),
        ("https://k8s.example:6443", {"https_proxy": "p:1"}, "http://p:1"),
        ("http://k8s.example", {"HTTPS_PROXY": "http://p:1"}, None),
        ("http://k8s.example", {"HTTP_PROXY": "http://p:1"}, "http://p:1"),
        ("https://k8s.example", {"HTTPS_PROXY": ""}, None),
        ("https://k8s.example", {"ALL_PROXY": "http://p:1"}, None),
        ("https://k8s.example", {"HTTPS_PROXY": "http://p:1", **IN_CLUSTER}, None),
        ("https://127.0.0.1:6443", {"HTTPS_PROXY": "http://p:1"}, None),
        ("https://[::1]:6443", {"HTTPS_PROXY": "http://p:1"}, None),
        ("https://localhost:6443", {"HTTPS_PROXY": "http://p:1"}, None),
    ],
)
def test_a_proxy_of_the_environment(
    server: str, environment: dict[str, str], expected: str | None
) -> None:
    assert proxy_for(Access("x", server), environment) == expected


@pytest.mark.parametrize(
    ("server", "exempt", "goes_direct"),
    [
        ("https://k8s.example", "*", True),
        ("https://k8s.example", "k8s.example", True),
        ("https://k8s.example", "K8S.Example", True),
        ("https://k8s.example", "example", True),
        ("https://k8s.example", ".example", True),
        ("https://example", ".example", False),
        ("https://example", "*.example", False),
        ("https://k8s.example", "*.example", True),
        ("https://xample", "example", False),
        ("https://k8s.example", "other, k8s.example:443", True),
        ("https://k8s.example:6443", "k8s.example:443", False),
        ("https://10.1.2.3", "10.0.0.0/8", True),
        ("https://11.1.2.3", "10.0.0.0/8", False),
        ("https://10.1.2.3", "10.1.2.3", True),
        ("https://10.1.2.3:6443", "10.1.2.3:6443", True),
        ("https://10.1.2.3", "10.1.2", False),
        ("https://[fd00::5]:6443", "fd00::/8", True),
        ("https://[fd00::5]:6443", "[fd00::5]:6443", True),
        ("https://k8s.example", "", False),
        ("https://k8s.example", "999.1.1.1/99", False),
    ],
)
def test_what_no_proxy_exempts(server: str, exempt: str, goes_direct: bool) -> None:
    environment = {"HTTPS_PROXY": "http://p:1", "NO_PROXY": exempt}
    assert (proxy_for(Access("x", server), environment) is None) is goes_direct


# --- how often --------------------------------------------------------------------------------


@pytest.mark.parametrize("status", [429, 503])
def test_a_server_that_asks_for_a_pause_gets_it(
    api: Api, connect: Callable[..., Kube], monkeypatch: pytest.MonkeyPatch, status: int
) -> None:
    kube = connect(config(api.url))
    now = [1000.0]
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    api.answers = [Response(status, {}, {"retry-after": "5"}), SECRET]
    for seconds, asked in ((0.0, 1), (4.9, 1), (0.2, 2)):
        now[0] += seconds
        if asked == 1:
            with pytest.raises(NotYet, match=f"answered {status}"):
                read(kube)
        else:
            read(kube, "other")
        assert len(api.requests) == asked


@pytest.mark.parametrize("pause", ["", "soon", "-1", "Mon, 01 Jan 2001 00:00:00 GMT"])
def test_a_pause_that_is_none(api: Api, connect: Callable[..., Kube], pause: str) -> None:
    kube = connect(config(api.url))
    api.answers = [Response(503, {}, {"retry-after": pause}), SECRET]
    with pytest.raises(NotYet):
        read(kube)
    read(kube)


def test_a_pause_until_a_time_by_the_servers_clock(api: Api, connect: Callable[..., Kube]) -> None:
    kube = connect(config(api.url))
    dates = {
        "date": "Mon, 01 Jan 2001 00:00:00 GMT",
        "retry-after": "Mon, 01 Jan 2001 00:00:50 GMT",
    }
    api.answers = [Response(503, {}, dates)]
    for _ in range(3):
        with pytest.raises(NotYet, match="answered 503"):
            read(kube)
    assert len(api.requests) == 1


def test_what_is_missing_is_asked_for_once_a_second(
    api: Api, connect: Callable[..., Kube], monkeypatch: pytest.MonkeyPatch
) -> None:
    kube = connect(config(api.url))
    now = [1000.0]
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    api.answers = [MISSING]
    for _ in range(8):
        with pytest.raises(Missing, match="secrets/s in db does not exist"):
            read(kube)
        now[0] += 0.26
    assert len(api.requests) == 2
    with pytest.raises(Missing):  # another one is another matter
        read(kube, "other")
    now[0] += 1
    api.answers = [SECRET]
    read(kube)
    read(kube)


@pytest.mark.parametrize("outage", [Wire(), Response(500, {})])
def test_only_denials_that_follow_one_another_add_up(
    api: Api, connect: Callable[..., Kube], monkeypatch: pytest.MonkeyPatch, outage: Any
) -> None:
    kube = connect(config(api.url))
    now = [1000.0]
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    for answer, name, kind in (
        (FORBIDDEN, "s", DeniedForNow),
        (outage, "another", NotYet),  # whatever was asked for meanwhile
        (FORBIDDEN, "s", DeniedForNow),
    ):
        api.answers = [answer]
        with pytest.raises(kind):
            read(kube, name)
        now[0] += 11
    with pytest.raises(client.Forbidden):
        read(kube)


def test_the_clock_of_the_server(api: Api, connect: Callable[..., Kube]) -> None:
    kube = connect(config(api.url))
    assert kube.server_time is None
    api.answers = [Response(200, SECRET.body, {"date": "Mon, 01 Jan 2001 00:00:00 GMT"})]
    read(kube)
    assert kube.server_time is not None
    assert kube.server_time.isoformat() == "2001-01-01T00:00:00+00:00"
    api.answers = [Response(200, SECRET.body, {"date": "yesterday"})]
    read(kube)
    assert kube.server_time.year == 2001


def test_services_and_deployments_are_asked_for_where_they_may_be(
    api: Api, connect: Callable[..., Kube]
) -> None:
    kube = connect(config(api.url))
    api.answers = [Response(200, {"kind": "ServiceList", "items": [{"kind": "Service"}, 1]})]
    assert kube.services("db") == [{"kind": "Service"}]
    for answer in (FORBIDDEN, Response(500, {})):
        api.answers = [answer]
        assert kube.services("db") == []
    api.answers = [Response(200, {"kind": "Deployment"})]
    assert kube.has_deployment("db", "couchdb")
    api.answers = [FORBIDDEN]
    assert kube.has_deployment("db", "couchdb")  # asked once
    assert not kube.has_deployment("db", "other")
    assert json.dumps([r.path for r in api.requests[-2:]]) == json.dumps(
        [f"/apis/apps/v1/namespaces/db/deployments/{name}" for name in ("couchdb", "other")]
    )
