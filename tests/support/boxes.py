"""Sandboxes: what people do to their nodes by hand, and what must hold of them at the end."""

import re
from collections.abc import Callable
from typing import Any

import requests

from couchdiscover.sandbox import Sandbox
from couchdiscover.sandbox.box import CouchRequest
from tests.support.command import Command
from tests.support.processes import Ended

Make = Callable[..., Sandbox]
"""What the fixture ``sandbox`` is."""

MARK = "/_local/couchdiscover"


def ask(box: Sandbox, pod: str, path: str, method: str = "GET", body: object = None) -> Any:
    """A request to a node, with its administrator's login; what it answers, which must be good."""
    answer = asked(box, pod, path, method, body)
    assert answer.ok, answer.text
    return answer.json()


def asked(
    box: Sandbox, pod: str, path: str, method: str = "GET", body: object = None
) -> requests.Response:
    """The same, whatever the answer."""
    host, port = box.address(pod)
    login: Any = (box.deployment.user.encode(), box.deployment.password.encode())
    url = f"http://{host}:{port}{path}"
    return requests.request(method, url, json=body, auth=login, timeout=30)


def put(box: Sandbox, pod: str, path: str, body: object = None) -> None:
    """A write by hand."""
    ask(box, pod, path, "PUT", body)


def finish_by_hand(box: Sandbox, pod: str) -> None:
    """What a curl job does to a single node."""
    ask(box, pod, "/_cluster_setup", "POST", {"action": "finish_cluster"})


def forget_member(box: Sandbox, pod: str, name: str) -> None:
    """Deletes a member's document, as CouchDB's manual has it for a node that is gone."""
    path = f"/_node/_local/_nodes/{name}"
    revision = ask(box, pod, path)["_rev"]
    ask(box, pod, f"{path}?rev={revision}", "DELETE")


def aged(box: Sandbox) -> None:
    """The StatefulSet is years old."""
    found = box.api.get("StatefulSet", "default", "couchdb")
    found["metadata"]["creationTimestamp"] = "2020-01-01T00:00:00Z"
    box.api.put(found)


def held_by(box: Sandbox, names: set[str]) -> str:
    """A database whose copies are on just these nodes: CouchDB puts new ones at random."""
    for number in range(60):
        put(box, "couchdb-0", f"/orders-{number}?q=1&n={len(names)}")
        shard_map = ask(box, "couchdb-0", f"/_node/_local/_dbs/orders-{number}")
        if set(shard_map["by_node"]) == names:
            return f"orders-{number}"
        ask(box, "couchdb-0", f"/orders-{number}", "DELETE")
    raise AssertionError(f"no database came to {names}")


def is_mark(request: CouchRequest) -> bool:
    """Whether a request writes a mark: the last write of a run, and no step."""
    return request.method == "PUT" and request.path.endswith(MARK)


def changes(box: Sandbox, before: int = 0) -> list[CouchRequest]:
    """The writes since, without the marks."""
    return [request for request in box.writes()[before:] if not is_mark(request)]


def counted(requests_: list[CouchRequest]) -> list[CouchRequest]:
    """Without samples and proofs, which are counted apart."""
    return [r for r in requests_ if not re.match(r"/_node/[^/]+/shards(%2F|/)", r.path)]


def finishes(box: Sandbox) -> set[str]:
    """The pods through which the cluster was finished."""
    return {
        pod
        for pod in box.nodes
        for request in box.node(pod).requests
        if request.method == "POST" and request.path == "/_cluster_setup"
    }


def whole(box: Sandbox) -> None:
    """Every node is a finished member of one cluster, asked one by one, and nothing drifts."""
    expected = {box.node(pod).name for pod in box.pods}
    for pod in box.pods:
        node = box.node(pod)
        assert set(node.members) == set(node.connected) == expected, pod
        assert node.state in ("cluster_finished", "single_node_enabled"), pod
    for section, key in (("couchdb", "uuid"), ("chttpd_auth", "secret"), ("admins", "admin")):
        values = {box.node(pod).config.get(section, key) for pod in box.pods}
        assert len(values) == 1, f"{section}/{key} differs"


def whole_by_http(box: Sandbox) -> None:
    """The same as anybody could see it, also of real nodes."""
    expected = sorted(box.nodes[pod].name for pod in box.pods)
    identities = set()
    for pod in box.pods:
        membership = ask(box, pod, "/_membership")
        assert sorted(membership["all_nodes"]) == expected, pod
        assert sorted(membership["cluster_nodes"]) == expected, pod
        assert ask(box, pod, "/_cluster_setup")["state"] == "cluster_finished"
        config = ask(box, pod, "/_node/_local/_config")
        identities.add(
            (
                config["couchdb"]["uuid"],
                config.get("chttpd_auth", {}).get("secret"),
                config["admins"][box.deployment.user],
            )
        )
    assert len(identities) == 1, identities


def assembled(couchdiscover: Command, box: Sandbox) -> Sandbox:
    """The sandbox, after a run for the whole set."""
    ended = couchdiscover(environment=box.environment())
    assert ended.code == 0, ended.err
    return box


def again(couchdiscover: Command, box: Sandbox, pod: str | None = None) -> Ended:
    """A second run: it must find everything done and write nothing."""
    before = len(box.writes())
    ended = couchdiscover("-o", "json", environment=box.environment(pod))
    assert (ended.code, ended.json["steps"]) == (0, []), ended.err
    assert box.writes()[before:] == []
    return ended
