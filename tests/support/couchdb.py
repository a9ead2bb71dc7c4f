"""Simulated CouchDB nodes without sockets, whose time passes only when somebody waits."""

import asyncio
import base64
import json
from typing import Any
from urllib.parse import parse_qsl, unquote

from couchdiscover.sandbox.couchdb import Network, Node
from couchdiscover.sandbox.http import Request, Response


class Clock(Network):
    """A network whose time passes only when somebody waits."""

    time = 1000.0

    def now(self) -> float:
        return self.time

    async def pause(self, seconds: float, least: float = 0.0) -> None:
        self.time += max(seconds * self.pace, least)
        await asyncio.sleep(0)

    def wait(self, seconds: float) -> None:
        self.time += seconds
        self.settle()


def make(network: Network, count: int, **options: Any) -> list[Node]:
    return [Node(network, name=f"couchdb@c-{i}.c.db.svc", **options) for i in range(count)]


def request(
    method: str,
    target: str,
    body: Any = None,
    *,
    login: str | None = "admin:secret",
    headers: dict[str, str] | None = None,
) -> Request:
    path, _, query = target.partition("?")
    sent = {"accept": "application/json", **(headers or {})}
    if body is not None:
        sent["content-type"] = "application/json"
    if login is not None:
        sent["authorization"] = "Basic " + base64.b64encode(login.encode()).decode()
    data = b"" if body is None else json.dumps(body).encode()
    return Request(method, target, unquote(path), dict(parse_qsl(query)), sent, data)


async def ask(node: Node, method: str, target: str, body: Any = None, **options: Any) -> Response:
    answer = await node.handle(request(method, target, body, **options))
    assert isinstance(answer, Response)
    return answer


def call(node: Node, method: str, target: str, body: Any = None, **options: Any) -> Response:
    return asyncio.run(ask(node, method, target, body, **options))


def value(node: Node, section: str, key: str) -> Any:
    return json.loads(call(node, "GET", f"/_node/_local/_config/{section}/{key}").body)


def join(nodes: list[Node]) -> None:
    for node in nodes[1:]:
        assert call(node, "PUT", f"/_node/_local/_nodes/{nodes[0].name}", {}).status == 201
    nodes[0].network.settle()


def finish(node: Node) -> int:
    return call(node, "POST", "/_cluster_setup", {"action": "finish_cluster"}).status


def assembled(network: Network, count: int, **options: Any) -> list[Node]:
    nodes = make(network, count, **options)
    join(nodes)
    if isinstance(network, Clock):
        network.wait(1)
    assert finish(nodes[0]) == 201
    if isinstance(network, Clock):
        network.wait(6)
    return nodes


def whole(nodes: list[Node]) -> bool:
    nodes[0].network.settle()
    names = {node.name for node in nodes}
    return all(node.members == node.connected == names for node in nodes)
