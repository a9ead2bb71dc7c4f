"""The proofs would prove nothing if the guard saw nothing: it must see what must not be."""

from collections.abc import Callable

import pytest
import requests

from couchdiscover.sandbox import Sandbox
from tests.proof.harness import Guard, Nursery, secrets_of, whole

Make = Callable[..., Sandbox]


def send(box: Sandbox, pod: str, method: str, path: str, body: object) -> int:
    """A write as couchdiscover sends it."""
    host, port = box.address(pod)
    answer = requests.request(
        method,
        f"http://{host}:{port}{path}",
        json=body,
        auth=(box.deployment.user.encode(), box.deployment.password.encode()),
        headers={"User-Agent": "couchdiscover/0"},
        timeout=30,
    )
    return answer.status_code


def test_the_guard_sees_harm(make: Make) -> None:
    with make(3) as box:
        guard = Guard(box)
        send(box, "couchdb-0", "PUT", "/_node/_local/_nodes/couchdb@couchdb-7.couchdb", {})
        send(box, "couchdb-1", "POST", "/_cluster_setup", {"action": "finish_cluster"})
        send(box, "couchdb-1", "PUT", "/_node/_local/_config/log/level", "debug")
        send(box, "couchdb-1", "PUT", "/orders", None)
        name = box.node("couchdb-0").name
        send(box, "couchdb-1", "PUT", f"/_node/_local/_nodes/{name}", {})
        send(box, "couchdb-1", "DELETE", "/orders", None)
        told = [harm.rpartition(": ")[2] for harm in guard.harms]
        assert told[0] == "a ghost"
        assert told[1].startswith("finishes too early")
        assert told[2] == "a setting that is none of ours"
        assert told[3] == "it holds {'orders'}"
        assert told[4] == "no write of ours"


def test_the_guard_sees_idle_writes(make: Make, nursery: Nursery) -> None:
    with make(2) as box:
        guard = Guard(box)
        assert nursery(environment=box.environment()).code == 0
        whole(box)
        assert (guard.harms, guard.idle) == ([], [])
        node = box.node("couchdb-0")
        secret = node.config.secret
        send(box, "couchdb-1", "PUT", f"/_node/_local/_nodes/{node.name}", {})
        send(box, "couchdb-1", "PUT", "/_node/_local/_config/chttpd_auth/secret", secret)
        send(box, "couchdb-1", "POST", "/_session", {})
        send(box, "couchdb-1", "POST", "/_cluster_setup", {"action": "finish_cluster"})
        send(box, "couchdb-1", "PUT", "/_users", None)
        assert [idle.rpartition(": ")[2].split(" by")[0] for idle in guard.idle] == [
            "it is listed",
            "it has this value",
            "it has a secret",
            "it is finished",
            "it is there",
        ]


@pytest.mark.parametrize("part", ["password", "cookie", "hash", "secret"])
def test_what_is_secret_is_known(make: Make, part: str) -> None:
    with make(1) as box:
        node = box.node("couchdb-0")
        value = {
            "password": box.deployment.password,
            "cookie": node.cookie,
            "hash": node.config.admins["admin"],
            "secret": node.config.secret,
        }[part]
        assert value in secrets_of(box)
