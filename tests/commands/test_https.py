"""https: nodes with certificates of their own, and TLS that a proxy in front of them ends.

The names in the certificates are the pods' host names; who asks connects to their addresses.
"""

import socket
import ssl
from pathlib import Path
from typing import Any

import pytest
import requests
import trustme

from couchdiscover.sandbox import Sandbox
from couchdiscover.sandbox.real import RealNode
from tests.support.boxes import Make
from tests.support.command import Command
from tests.support.processes import Ended

DOMAIN = "couchdb.default.svc.cluster.local"


class Authority:
    """A CA of the test's own, and what it has issued."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.file = folder / "ca.pem"
        self._ca = trustme.CA()
        self._ca.cert_pem.write_to_path(self.file)

    def pem(self, *names: str) -> Path:
        """A file with a key and its certificate for these names."""
        path = self.folder / f"{names[0]}.pem"
        self._ca.issue_cert(*names).private_key_and_cert_chain_pem.write_to_path(path)
        return path

    def context(self, *names: str) -> ssl.SSLContext:
        """The same for a server of this process."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(self.pem(*names))
        return context


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    """A CA."""
    return Authority(tmp_path)


def is_real(make: Make) -> bool:
    return getattr(make, "keywords", {}).get("real") is not None


def ending_tls(make: Make, authority: Authority) -> Sandbox:
    """Two nodes behind a proxy that ends TLS; a simulated node's own listener is one."""
    everybody = [f"couchdb-{n}.{DOMAIN}" for n in range(4)]
    options: dict[str, Any] = {"front": True} if is_real(make) else {}
    return make(2, tls=authority.context(*everybody), **options)


def run(couchdiscover: Command, box: Sandbox, ca: Path, pod: str | None = None) -> list[str]:
    """A run that trusts this CA alone, and a second one that finds nothing; the first's steps."""
    arguments = ("--ca-file", str(ca), "-o", "json")
    first = couchdiscover(*arguments, environment=box.environment(pod))
    assert first.code == 0, first.err
    second = couchdiscover(*arguments, environment=box.environment(pod))
    assert (second.code, second.json["steps"]) == (0, []), second.err
    return [f"{step['step']} {step['node']}" for step in first.json["steps"]]


def whole(couchdiscover: Command, box: Sandbox, ca: Path) -> None:
    """Every node is a finished member, and a document is read through each of them."""
    arguments = ("check", "--write", "--ca-file", str(ca), "-o", "json")
    ended: Ended = couchdiscover(*arguments, environment=box.environment())
    assert ended.code == 0, ended.err
    assert {node["members"] for node in ended.json["nodes"]} == {len(box.pods)}
    for pod in box.pods:
        host, port = box.address(pod)
        with pytest.raises(requests.ConnectionError):
            requests.get(f"http://{host}:{port}/_up", timeout=10)


def test_nodes_behind_a_proxy_that_ends_tls(
    any_sandbox: Make, authority: Authority, couchdiscover: Command
) -> None:
    lives(couchdiscover, ending_tls(any_sandbox, authority), authority)


def test_nodes_with_certificates_of_their_own(
    real_sandbox: Make, authority: Authority, couchdiscover: Command
) -> None:
    lives(couchdiscover, real_sandbox(2, certificates=authority.pem), authority)


def lives(couchdiscover: Command, box: Sandbox, authority: Authority) -> None:
    """A fresh set, a scale-up, and a rolling restart."""
    assert run(couchdiscover, box, authority.file)[-1] == "finish_cluster couchdb-0"
    whole(couchdiscover, box, authority.file)
    box.scale(3)
    steps = run(couchdiscover, box, authority.file, "couchdb-2")
    assert steps[:2] == ["add_node couchdb-2", "sync_identity couchdb-2"]
    whole(couchdiscover, box, authority.file)
    for pod in reversed(box.pods):
        box.restart(pod)
        run(couchdiscover, box, authority.file, pod)
    run(couchdiscover, box, authority.file)
    whole(couchdiscover, box, authority.file)


def test_a_node_with_another_pods_certificate_gets_no_password(
    any_sandbox: Make, authority: Authority, couchdiscover: Command
) -> None:
    if not is_real(any_sandbox):
        box = any_sandbox(2, tls=authority.context(f"couchdb-1.{DOMAIN}"))
    else:
        box = any_sandbox(2, certificates=lambda host: authority.pem(f"couchdb-1.{DOMAIN}"))
    arguments = ("--ca-file", str(authority.file), "--timeout", "8s", "-o", "json")
    ended = couchdiscover(*arguments, environment=box.environment())
    assert ended.code == 4, ended.err
    assert "couchdb-0" in ended.json["message"]
    assert "certificate" in ended.json["message"]
    assert ended.json["steps"] == []


def test_a_ca_that_is_not_told_is_not_trusted(
    any_sandbox: Make, authority: Authority, couchdiscover: Command
) -> None:
    if not is_real(any_sandbox):
        box = any_sandbox(1, tls=authority.context(f"couchdb-0.{DOMAIN}"))
    else:
        box = any_sandbox(1, certificates=authority.pem)
    ended = couchdiscover("--timeout", "8s", "-o", "json", environment=box.environment())
    assert ended.code == 4, ended.err
    assert "certificate" in ended.json["message"]
    skipped = couchdiscover("--insecure-skip-tls-verify", environment=box.environment())
    assert skipped.code == 0, skipped.err


def test_nodes_that_talk_to_each_other_over_tls(
    real_sandbox: Make, authority: Authority, couchdiscover: Command, tmp_path: Path
) -> None:
    """Erlang's distribution over TLS, with certificates that both sides ask for."""
    pem = authority.pem(*(f"couchdb-{n}.{DOMAIN}" for n in range(3)))
    both = (
        f'{{certfile, "{pem}"}}, {{cacertfile, "{authority.file}"}}, {{verify, verify_peer}}, '
        "{secure_renegotiate, true}"
    )
    options = tmp_path / "distribution.conf"
    options.write_text(
        f"[{{server, [{both}, {{fail_if_no_peer_cert, true}}]}}, {{client, [{both}]}}].\n"
    )
    arguments = ("-proto_dist inet_tls", f"-ssl_dist_optfile {options}")
    box = real_sandbox(2, node_options={"arguments": arguments})
    for last in ("finish_cluster", "sync_identity"):
        ended = couchdiscover("-o", "json", environment=box.environment())
        assert ended.code == 0, ended.err
        steps = [step["step"] for step in ended.json["steps"]]
        assert (steps[0], steps[-1]) == ("add_node", last)
        checked = couchdiscover("check", "--write", "-o", "json", environment=box.environment())
        assert checked.code == 0, checked.err
        if len(box.pods) < 3:
            box.scale(3)
    trusting = ssl.create_default_context(cafile=str(authority.file))
    trusting.load_cert_chain(pem)
    node = box._pods["couchdb-0"].node
    assert isinstance(node, RealNode)
    with (
        socket.create_connection((node.address, node.network.port), timeout=10) as plain,
        trusting.wrap_socket(plain, server_hostname=node.host) as encrypted,
    ):
        assert encrypted.version() in ("TLSv1.2", "TLSv1.3")
