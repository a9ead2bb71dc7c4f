"""Why a member does not get connected, told by a port mapper on loopback."""

import re
import socket
import threading
from collections.abc import Callable, Iterator
from dataclasses import replace

import pytest

from couchdiscover.couch import connectivity as severance
from couchdiscover.couch.connectivity import likeliest_cause
from couchdiscover.state.nodes import NodeView
from couchdiscover.state.topology import Address, Topology
from tests.support.views import node as member
from tests.support.views import topology

HERE = Address("127.0.0.1", 5984)
SET = topology(1)


def node(host: str) -> NodeView:
    """The node of the first pod, reached on loopback, under any host name."""
    return member(0, name=f"couchdb@{host}", address=HERE)


NODE = node("localhost")


@pytest.fixture
def mapper(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[bytes | None], None]]:
    """Starts a port mapper that gives one listing; with None it never answers."""
    listener = socket.create_server(("127.0.0.1", 0))
    connections: list[socket.socket] = []
    monkeypatch.setattr(severance, "EPMD_PORT", listener.getsockname()[1])

    def start(listing: bytes | None) -> None:
        def answer() -> None:
            connection, _ = listener.accept()
            connections.append(connection)
            assert connection.recv(16) == b"\x00\x01n"
            if listing is not None:
                connection.sendall(listing)
                connection.close()

        threading.Thread(target=answer, daemon=True).start()

    yield start
    for each in (listener, *connections):
        each.close()


@pytest.fixture
def open_port() -> Iterator[int]:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        yield listener.getsockname()[1]


def listing(*entries: tuple[str, int]) -> bytes:
    lines = "".join(f"name {name} at port {port}\n" for name, port in entries)
    return b"\x00\x00\x11\x11" + lines.encode()


@pytest.mark.parametrize(
    ("host", "found", "told"),
    [
        (
            "couchdb-0.couchdb.db.svc.no-such.invalid",
            replace(SET, unpublished=True),
            "publishNotReadyAddresses: true",
        ),
        ("couchdb-0.couchdb.db.svc.no-such.invalid", SET, "does not resolve from here$"),
        (
            "couchdb-0.couch.db.svc.no-such.invalid",
            SET,
            r"Kubernetes calls the pod couchdb-0\.couchdb\.db\.svc\.cluster\.local .*NODENAME",
        ),
        ("no-such.invalid", SET, r"calls the pod couchdb-0\.couchdb\.db\."),
        (
            "couchdb-0.couchdb.db.svc.no-such.invalid",
            replace(SET, service_problem="Service couchdb is not headless"),  # told once, of all
            "does not resolve from here$",
        ),
    ],
)
def test_a_name_that_does_not_resolve(host: str, found: Topology, told: str) -> None:
    cause = likeliest_cause(found, node(host), 1)
    assert cause.startswith(f"the name {host} does not resolve")
    assert re.search(told, cause)


@pytest.mark.parametrize("known", [True, None])
def test_a_cookie_that_is_set_nowhere_is_named_first(known: bool | None) -> None:
    without, with_one = replace(SET, cookie_set=False), replace(SET, cookie_set=known)
    probed = likeliest_cause(with_one, node("no-such.invalid"), 1)
    assert likeliest_cause(without, node("no-such.invalid"), 1) == (
        f"no Erlang cookie is set (COUCHDB_ERLANG_COOKIE); {probed}"
    )
    assert "cookie" not in probed


def test_no_port_mapper(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(severance, "EPMD_PORT", 1)
    assert "port 1 of 127.0.0.1 is closed to couchdiscover" in likeliest_cause(SET, NODE, 1)


@pytest.mark.parametrize("answer", [None, b"", b"\x00"])
def test_a_port_mapper_that_does_not_answer(
    mapper: Callable[[bytes | None], None], answer: bytes | None
) -> None:
    mapper(answer)
    assert "cannot be told from here" in likeliest_cause(SET, NODE, 0.2)


@pytest.mark.parametrize(
    "answer",
    [listing(), listing(("other", 1)), b"HTTP/1.1 400 Bad Request\r\n\r\n", b"\xff" * 5000],
)
def test_a_port_mapper_that_does_not_know_the_node(
    mapper: Callable[[bytes | None], None], answer: bytes
) -> None:
    mapper(answer)
    cause = likeliest_cause(SET, NODE, 2)
    assert cause == "the port mapper at 127.0.0.1 knows no node couchdb"


@pytest.mark.parametrize("port", [1, 99999])
def test_a_distribution_port_that_is_closed(
    mapper: Callable[[bytes | None], None], port: int
) -> None:
    mapper(listing(("rabbit", 25672), ("couchdb", port)))
    assert f"port {port} of 127.0.0.1 is closed" in likeliest_cause(SET, NODE, 2)


def test_with_all_ports_open_it_is_the_cookie(
    mapper: Callable[[bytes | None], None], open_port: int
) -> None:
    mapper(listing(("couchdb", open_port)))
    assert "the Erlang cookies differ" in likeliest_cause(SET, NODE, 2)
