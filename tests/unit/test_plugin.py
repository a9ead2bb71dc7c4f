"""Credential plugins, as real processes: small scripts that write down what they are given."""

import base64
import json
import os
import signal
import ssl
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import trustme
import yaml

from couchdiscover.errors import CouchdiscoverError, Denied, Interrupted, NotYet, UsageProblem
from couchdiscover.kube import plugin
from couchdiscover.kube.client import DeniedForNow, Forbidden, Kube
from couchdiscover.net.deadline import Deadline
from couchdiscover.sandbox.http import Loop, Response
from tests.support.api import Api
from tests.support.api import kubeconfig as config

V1 = "client.authentication.k8s.io/v1"
V1BETA1 = "client.authentication.k8s.io/v1beta1"
ISSUED = "t0ken.of-the-plugin"

SECRET = Response(200, {"kind": "Secret", "metadata": {"name": "s"}})
REFUSED = Response(401, {"kind": "Status", "code": 401})
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


class Script:
    """A plugin: ``runs`` counts how often it was run."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.path = folder / "plugin"

    def write(self, *lines: str) -> None:
        self.path.write_text("\n".join(["#!/bin/sh", f"echo x >> {self.folder}/runs", *lines]))
        self.path.chmod(0o700)

    def issue(self, *before: str, version: str = V1, **status: Any) -> None:
        """Has it give an ExecCredential."""
        status = status or {"token": ISSUED}
        answer = {"apiVersion": version, "kind": "ExecCredential", "status": status}
        self.write(*before, f"cat <<'END'\n{json.dumps(answer)}\nEND")

    @property
    def runs(self) -> int:
        path = self.folder / "runs"
        return len(path.read_text().split()) if path.exists() else 0


@pytest.fixture
def script(tmp_path: Path) -> Script:
    return Script(tmp_path)


@pytest.fixture
def connect(tmp_path: Path, api: Api, script: Script) -> Callable[..., Kube]:
    """A client whose kubeconfig names the plugin."""

    def make(
        server: str | None = None,
        *,
        seconds: float = 60,
        cluster: dict[str, Any] | None = None,
        **entry: Any,
    ) -> Kube:
        named = {"apiVersion": V1, "command": str(script.path), "interactiveMode": "Never", **entry}
        doc = config(server or api.url, token=None, exec=named)
        doc["clusters"][0]["cluster"] |= cluster or {}
        path = tmp_path / "kubeconfig"
        path.write_text(yaml.safe_dump(doc), encoding="utf-8")
        return Kube(Deadline(seconds), kubeconfig=str(path), request_timeout=5)

    return make


def read(kube: Kube) -> object:
    return kube.secret("db", "s")


def failure(kube: Kube) -> CouchdiscoverError:
    with pytest.raises(CouchdiscoverError) as caught:
        read(kube)
    assert ISSUED not in str(caught.value)
    assert caught.value.__suppress_context__ or caught.value.__context__ is None
    return caught.value


def sent(api: Api) -> list[str | None]:
    return [request.headers.get("authorization") for request in api.requests]


# --- good ones --------------------------------------------------------------------------------


@pytest.mark.parametrize("version", [V1, V1BETA1])
def test_it_is_run_once(
    api: Api, connect: Callable[..., Kube], script: Script, version: str
) -> None:
    script.issue(version=version)
    kube = connect(apiVersion=version)
    assert script.runs == 0  # nobody has been asked yet
    for _ in range(3):
        read(kube)
    assert sent(api) == [f"Bearer {ISSUED}"] * 3
    assert script.runs == 1


def test_the_sessions_of_all_pods_share_what_it_issued(
    api: Api, connect: Callable[..., Kube], script: Script
) -> None:
    script.issue()
    kube = connect()
    for pod in ("couchdb-0", "couchdb-1"):
        gateway = kube.pod_gateway("db", pod, 5984, "http")
        gateway.session.get(f"{gateway.url}/", timeout=5)
    assert sent(api) == [f"Bearer {ISSUED}"] * 2
    assert script.runs == 1


def test_it_is_run_again_when_its_time_is_over(
    api: Api, connect: Callable[..., Kube], script: Script
) -> None:
    kube = connect()
    for expiry, runs in (("2001-01-01T00:00:00Z", 1), ("2999-01-01T00:00:00.5+01:00", 2)):
        script.issue(token=ISSUED, expirationTimestamp=expiry)
        read(kube)
        assert script.runs == runs
    read(kube)
    assert script.runs == 2


def test_it_is_run_again_once_after_a_refusal(
    api: Api, connect: Callable[..., Kube], script: Script
) -> None:
    script.issue()
    kube = connect()
    read(kube)
    api.answers = [REFUSED]
    for runs in (1, 2, 2, 2):  # before the answer, and not for each
        assert type(failure(kube)) is DeniedForNow
        assert script.runs == runs
    api.answers = [SECRET, REFUSED, SECRET]
    read(kube)
    failure(kube)
    read(kube)
    assert script.runs == 3


def test_what_it_is_told(
    api: Api, connect: Callable[..., Kube], script: Script, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OF_OURS", "1")
    folder = script.folder
    script.issue(
        f'printf %s "$KUBERNETES_EXEC_INFO" > {folder}/info',
        f'echo "$1|$2|$OF_OURS|$OF_THEIRS" > {folder}/told',
        version=V1BETA1,
    )
    cluster = {
        "certificate-authority-data": base64.b64encode(b"pem").decode(),
        "extensions": [{"name": "client.authentication.k8s.io/exec", "extension": {"a": 1}}],
    }
    theirs = [{"name": "OF_THEIRS", "value": "2"}]
    options = {"apiVersion": V1BETA1, "args": ["get", "token for x"], "env": theirs}
    read(connect(cluster=cluster, provideClusterInfo=True, **options))
    assert (folder / "told").read_text() == "get|token for x|1|2\n"
    info = json.loads((folder / "info").read_text())
    assert (info["apiVersion"], info["kind"]) == (V1BETA1, "ExecCredential")
    assert info["spec"] == {
        "interactive": False,
        "cluster": {
            "server": api.url,
            "certificate-authority-data": cluster["certificate-authority-data"],
            "config": {"a": 1},
        },
    }
    read(connect(**options))
    assert "cluster" not in json.loads((folder / "info").read_text())["spec"]


def test_a_relative_command_is_relative_to_the_kubeconfig(
    api: Api, connect: Callable[..., Kube], script: Script
) -> None:
    script.issue()
    read(connect(command="./plugin"))
    assert script.runs == 1


def test_a_certificate_is_good_for_tls(
    loop: Loop, connect: Callable[..., Kube], script: Script
) -> None:
    authority = trustme.CA()
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("127.0.0.1").configure_cert(tls)
    authority.configure_trust(tls)
    tls.verify_mode = ssl.CERT_REQUIRED
    api = Api(loop, tls=tls)
    api.answers = [SECRET]
    mine = authority.issue_cert("me@example.com")
    pair = {
        "clientCertificateData": mine.cert_chain_pems[0].bytes().decode(),
        "clientKeyData": mine.private_key_pem.bytes().decode(),
    }
    script.issue(**pair)
    data = base64.b64encode(authority.cert_pem.bytes()).decode()
    cluster = {"certificate-authority-data": data}
    server = f"https://127.0.0.1:{api.server.port}"
    kube = connect(server, cluster=cluster)
    read(kube)
    read(kube)
    assert script.runs == 1
    assert sent(api) == [None, None]
    script.issue(**{**pair, "clientKeyData": "no key"})
    error = failure(connect(server, cluster=cluster))
    assert type(error) is Denied
    assert "certificate or key that is none" in str(error)
    loop.stop(api.server)


# --- bad ones ---------------------------------------------------------------------------------


def test_a_failure_is_told_in_its_own_words(
    api: Api, connect: Callable[..., Kube], script: Script
) -> None:
    script.write(
        "echo first >&2", "printf 'the session has\\033 expired:\\n\\nlog in\\n' >&2", "exit 7"
    )
    error = failure(connect())
    assert type(error) is Denied
    assert error.exit_code == 5
    assert str(error) == (
        f"the kubeconfig's command {str(script.path)!r} failed (7): first; the session has  "
        "expired:; log in"
    )
    assert api.requests == []


def test_much_that_is_said_is_cut(connect: Callable[..., Kube], script: Script) -> None:
    script.write("head -c 100000 /dev/zero | tr '\\0' x >&2", "exit 1")
    assert len(str(failure(connect()))) < plugin.TOLD + 200


@pytest.mark.parametrize(
    "output",
    [
        "",
        "what",
        "[]",
        "null",
        ISSUED,
        json.dumps({"apiVersion": V1, "kind": "ExecCredential"}),
        json.dumps({"apiVersion": V1, "kind": "ExecCredential", "status": None}),
        json.dumps({"apiVersion": V1, "kind": "ExecCredential", "status": {}}),
        json.dumps({"apiVersion": V1, "kind": "ExecCredential", "status": {"token": 7}}),
        json.dumps({"apiVersion": V1BETA1, "kind": "ExecCredential", "status": {"token": ISSUED}}),
        json.dumps(
            {"apiVersion": V1, "kind": "ExecCredential", "status": {"clientKeyData": ISSUED}}
        ),
        json.dumps(
            {
                "apiVersion": V1,
                "kind": "ExecCredential",
                "status": {"token": ISSUED, "expirationTimestamp": "soon"},
            }
        ),
    ],
)
def test_an_answer_that_is_none(connect: Callable[..., Kube], script: Script, output: str) -> None:
    script.write(f"cat <<'END'\n{output}\nEND")
    error = failure(connect())
    assert type(error) is Denied
    assert f"gave no ExecCredential of {V1} with a token or a certificate" in str(error)


def test_a_token_that_cannot_travel(connect: Callable[..., Kube], script: Script) -> None:
    script.issue(token=f"{ISSUED}\nX: y")
    error = failure(connect())
    assert type(error) is UsageProblem
    assert "characters that HTTP cannot transport" in str(error)


@pytest.mark.parametrize(
    ("entry", "told"),
    [
        (
            {"command": "/no/such/command", "installHint": "get it\nthere"},
            "No such.*; get it there$",
        ),
        ({"command": "no-such-command-anywhere"}, "No such file or directory"),
        ({"command": "/"}, "cannot be run"),
        ({"apiVersion": "client.authentication.k8s.io/v1alpha1"}, "speaks '.*v1alpha1'.*v1beta1"),
        ({"apiVersion": None}, "speaks None"),
        ({"command": ""}, "cannot be used"),
        ({"env": [{"name": "x"}]}, "cannot be used"),
        ({"interactiveMode": "Always"}, "wants to ask at a terminal"),
    ],
)
def test_a_configuration_that_cannot_work(
    connect: Callable[..., Kube], script: Script, entry: dict[str, Any], told: str
) -> None:
    script.issue()
    with pytest.raises(UsageProblem, match=told):
        read(connect(**entry))


# --- its end ----------------------------------------------------------------------------------


def children_of(pid_file: Path) -> Callable[[], bool]:
    """Whether the process that wrote its number there still lives."""

    def alive() -> bool:
        try:
            state = Path(f"/proc/{int(pid_file.read_text())}/stat").read_text().rpartition(")")[2]
        except OSError:
            return False
        return state.split()[0] != "Z"

    return alive


def is_gone(alive: Callable[[], bool]) -> bool:
    end = time.monotonic() + 10
    while alive() and time.monotonic() < end:
        time.sleep(0.02)
    return not alive()


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="processes are looked up in /proc")
def test_one_that_hangs_ends_with_the_deadline_and_so_does_what_it_started(
    connect: Callable[..., Kube], script: Script
) -> None:
    child = script.folder / "child"
    script.write(f"sh -c 'echo $$ > {child}; exec sleep 300' &", "sleep 300")
    began = Deadline(60)
    error = failure(connect(seconds=1.0))
    assert type(error) is NotYet
    assert "for authentication did not end within " in str(error)
    assert began.elapsed < 30
    assert is_gone(children_of(child))


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="processes are looked up in /proc")
def test_a_signal_ends_it_too(
    connect: Callable[..., Kube], script: Script, monkeypatch: pytest.MonkeyPatch
) -> None:
    child = script.folder / "child"
    script.write(f"echo $$ > {child}.new; mv {child}.new {child}; sleep 300")

    def interrupt(*_: object) -> None:
        raise Interrupted(signal.SIGALRM, "SIGALRM")

    real = subprocess.Popen.communicate

    def communicate(process: Any, *arguments: Any, **options: Any) -> Any:
        while not child.exists():
            time.sleep(0.01)
        if not getattr(process, "was_interrupted", False):
            process.was_interrupted = True
            os.kill(os.getpid(), signal.SIGALRM)
        return real(process, *arguments, **options)

    monkeypatch.setattr(subprocess.Popen, "communicate", communicate)
    before = signal.signal(signal.SIGALRM, interrupt)
    try:
        with pytest.raises(Interrupted):
            read(connect())
    finally:
        signal.signal(signal.SIGALRM, before)
    assert is_gone(children_of(child))


def test_one_look_has_time_for_it(api: Api, connect: Callable[..., Kube], script: Script) -> None:
    script.issue()
    read(connect(seconds=0))
    api.answers = [REFUSED]
    assert type(failure(connect(seconds=0))) is Forbidden
