"""A fleet of simulated nodes without sockets: the real client, and time that nobody waits for."""

import asyncio
from collections.abc import Callable
from typing import Any
from urllib.parse import parse_qsl, unquote

import requests
from requests.adapters import BaseAdapter

from couchdiscover.couch.client import Access, CouchNode, Fleet
from couchdiscover.net.deadline import Deadline
from couchdiscover.sandbox.couchdb import Node
from couchdiscover.sandbox.http import Request, Response
from couchdiscover.state.topology import Address, Credentials, Pod, Topology
from tests.support.couchdb import Clock

PASSWORD = "secret"

Meddle = Callable[[str, Request], Response | None]


class Wires(BaseAdapter):
    """Hands requests to a simulated node; ``meddle`` may answer in its place, or raise."""

    def __init__(self, pod: str, node: Node, fleet: "NearFleet") -> None:
        super().__init__()
        self.pod, self.node, self.fleet = pod, node, fleet

    def send(self, request: requests.PreparedRequest, *rest: Any, **more: Any) -> requests.Response:
        """One request and its answer."""
        target = str(request.path_url)
        where, _, query = target.partition("?")
        headers = {key.lower(): str(value) for key, value in request.headers.items()}
        body = request.body or b""
        data = body.encode() if isinstance(body, str) else bytes(body)
        asked = Request(
            str(request.method), target, unquote(where), dict(parse_qsl(query)), headers, data
        )
        self.fleet.asked.append((self.pod, asked))
        if not self.node.running:
            raise requests.ConnectionError(ConnectionRefusedError(111, "refused"))
        answer = self.fleet.meddle(self.pod, asked) or asyncio.run(self.node.handle(asked))
        assert isinstance(answer, Response)
        told = requests.Response()
        told.status_code = answer.status
        head, _, content = answer.encode().partition(b"\r\n\r\n")
        told._content = content
        for line in head.decode("latin-1").split("\r\n")[1:]:
            name, _, value = line.partition(": ")
            told.headers[name] = value
        told.request, told.url = request, str(request.url)
        return told

    def close(self) -> None:
        """Nothing is open."""


class NearFleet(Fleet):
    """Clients of simulated nodes, by pod; ``asked`` are all requests."""

    def __init__(self, nodes: dict[str, Node], seconds: float = 60) -> None:
        access = Access(Credentials("admin", PASSWORD, "the test"))
        self.deadline = Deadline(seconds)
        super().__init__(access, self.deadline)
        self.nodes = nodes
        self.asked: list[tuple[str, Request]] = []
        self.meddle: Meddle = lambda _pod, _request: None
        self.patience_seconds = 60.0

    @property
    def patience(self) -> float:
        """Seconds within which a thread must be done."""
        return self.patience_seconds

    def node(self, pod: Pod, address: Address, member: str = "_local") -> CouchNode:
        """The client of whichever node listens at this address."""
        client = super().node(pod, address, member)
        name = next(name for name, node in self.nodes.items() if node.address == address.host)
        client._session.mount("http://", Wires(name, self.nodes[name], self))
        return client

    def writes(self) -> list[tuple[str, str]]:
        """The pods and paths of all requests that could change something."""
        return [(pod, r.path) for pod, r in self.asked if r.method not in ("GET", "HEAD")]


def near(count: int = 3, **options: Any) -> tuple[Topology, NearFleet]:
    """So many fresh nodes of a StatefulSet, and the way to them."""
    network = Clock(pace=0.0)
    nodes, pods = {}, []
    for n in range(count):
        host = f"couchdb-{n}.couchdb.db.svc.cluster.local"
        address = f"10.0.0.{n + 1}"
        nodes[f"couchdb-{n}"] = Node(
            network, name=f"couchdb@{host}", address=address, password=PASSWORD, **options
        )
        pods.append(Pod(f"couchdb-{n}", n, host, (Address(address, 5984),)))
    return Topology("db", "couchdb", "couchdb", tuple(pods)), NearFleet(nodes)
