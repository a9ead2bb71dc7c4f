"""What couchdiscover is compared with: requests in order, over keep-alive connections.

A program of its own. After its imports it reads JSON objects from standard input, one on a line:

* ``{"replay": [[method, url, body], …]}`` sends just these requests;
* ``{"know": [url, …]}`` asks nodes for their names, as far ahead as can be done;
* ``{"assemble": [url, …]}`` makes one cluster of fresh nodes and looks that it is whole, with the
  fewest requests that can do so. The first node is the one through which it is formed.

Each has ``user`` and ``password``, too.
"""

import json
import sys
import time
from collections.abc import Callable
from urllib.parse import urlsplit

import pykube  # noqa: F401 - the same imports as couchdiscover's
import requests
import typer  # noqa: F401

Send = Callable[..., requests.Response]


def main() -> None:
    """Does what standard input says."""
    sessions: dict[str, requests.Session] = {}
    names: dict[str, str] = {}
    login = ("", "")

    def send(method: str, url: str, body: object = None) -> requests.Response:
        host = urlsplit(url).netloc
        if host not in sessions:
            sessions[host] = requests.Session()
            sessions[host].trust_env = False
            sessions[host].auth = login
        return sessions[host].request(method, url, json=body, timeout=30)

    def know(nodes: list[str]) -> None:
        for node in nodes:
            if node not in names:
                names[node] = send("GET", f"{node}/_node/_local").json()["name"]

    for line in sys.stdin:
        order = json.loads(line)
        login = (order["user"], order["password"])
        for method, url, body in order.get("replay", ()):
            send(method, url, body)
        know(order.get("know", []))
        if "assemble" in order:
            know(order["assemble"])
            _assemble(order["assemble"], names, send)


def _assemble(nodes: list[str], known: dict[str, str], send: Send) -> None:
    first, *others = nodes
    names = [known[node] for node in nodes]
    for node in others:
        send("PUT", f"{node}/_node/_local/_nodes/{names[0]}", {}).raise_for_status()

    def whole(node: str) -> bool:
        found = send("GET", f"{node}/_membership").json()
        return sorted(found["all_nodes"]) == sorted(found["cluster_nodes"]) == sorted(names)

    for node in nodes:
        while not whole(node):
            time.sleep(0.01)
    send("POST", f"{first}/_cluster_setup", {"action": "finish_cluster"}).raise_for_status()
    for node in nodes:
        while send("GET", f"{node}/_cluster_setup").json()["state"] != "cluster_finished":
            time.sleep(0.01)
        while not whole(node):
            time.sleep(0.01)


if __name__ == "__main__":
    main()
