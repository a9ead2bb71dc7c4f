"""Why a member does not get connected, told by a port mapper on loopback."""

import socket
import threading
from collections.abc import Callable, Iterator

import pytest

from couchdiscover.couch import connectivity as severance
from couchdiscover.couch.connectivity import likeliest_cause
from couchdiscover.state.topology import Address

HERE = Address("127.0.0.1", 5984)
NAME = "couchdb@localhost"


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


def test_a_name_that_does_not_resolve() -> None:
    cause = likeliest_cause("couchdb@no-such-host.invalid", HERE, 1)
    assert "no-such-host.invalid does not resolve" in cause
    assert "publishNotReadyAddresses" in cause


def test_no_port_mapper(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(severance, "EPMD_PORT", 1)
    assert "port 1 of 127.0.0.1 is closed to couchdiscover" in likeliest_cause(NAME, HERE, 1)


@pytest.mark.parametrize("answer", [None, b"", b"\x00"])
def test_a_port_mapper_that_does_not_answer(
    mapper: Callable[[bytes | None], None], answer: bytes | None
) -> None:
    mapper(answer)
    assert "cannot be told from here" in likeliest_cause(NAME, HERE, 0.2)


@pytest.mark.parametrize(
    "answer",
    [listing(), listing(("other", 1)), b"HTTP/1.1 400 Bad Request\r\n\r\n", b"\xff" * 5000],
)
def test_a_port_mapper_that_does_not_know_the_node(
    mapper: Callable[[bytes | None], None], answer: bytes
) -> None:
    mapper(answer)
    cause = likeliest_cause(NAME, HERE, 2)
    assert cause == "the port mapper at 127.0.0.1 knows no node couchdb"


@pytest.mark.parametrize("port", [1, 99999])
def test_a_distribution_port_that_is_closed(
    mapper: Callable[[bytes | None], None], port: int
) -> None:
    mapper(listing(("rabbit", 25672), ("couchdb", port)))
    assert f"port {port} of 127.0.0.1 is closed" in likeliest_cause(NAME, HERE, 2)


def test_with_all_ports_open_it_is_the_cookie(
    mapper: Callable[[bytes | None], None], open_port: int
) -> None:
    mapper(listing(("couchdb", open_port)))
    assert "the Erlang cookies differ" in likeliest_cause(NAME, HERE, 2)
