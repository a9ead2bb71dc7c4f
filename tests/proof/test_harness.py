"""The proofs would prove nothing if the guard saw nothing: it must see what must not be."""

from collections.abc import Callable

import pytest
import requests
from requests.auth import HTTPBasicAuth

from couchdiscover.sandbox import Sandbox
from tests.proof.harness import Guard, secrets_of, whole
from tests.support.boxes import ask, finish_by_hand, put
from tests.support.processes import Nursery

Make = Callable[..., Sandbox]


def send(box: Sandbox, pod: str, method: str, path: str, body: object) -> int:
    """A write as couchdiscover sends it."""
    host, port = box.address(pod)
    answer = requests.request(
        method,
        f"http://{host}:{port}{path}",
        json=body,
        auth=HTTPBasicAuth(box.deployment.user.encode(), box.deployment.password.encode()),
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


def test_the_guard_sees_documents_hidden_in_system_databases(make: Make) -> None:
    with make(2) as box:
        for pod in box.pods:
            finish_by_hand(box, pod)
        user = {"name": "ann", "password": "x", "roles": [], "type": "user"}
        put(box, "couchdb-0", "/_users/org.couchdb.user:ann", user)
        guard = Guard(box)
        name = box.node("couchdb-0").name
        send(box, "couchdb-1", "PUT", f"/_node/_local/_nodes/{name}", {})
        assert [harm.rpartition(": ")[2] for harm in guard.harms] == [
            "it would hide what is in ['_users']"
        ]


def test_the_guard_sees_false_marks_and_maps(make: Make, nursery: Nursery) -> None:
    with make(3) as box:
        guard = Guard(box)
        assert nursery(environment=box.environment()).code == 0
        assert (guard.harms, guard.idle) == ([], [])
        put(box, "couchdb-0", "/orders")
        put(box, "couchdb-0", "/orders/first", {"amount": 1})
        node = box.node("couchdb-1")
        place = "/_node/_local/_dbs/_local/couchdiscover"
        mark = ask(box, "couchdb-1", place)
        send(box, "couchdb-1", "PUT", place, mark)
        assert [idle.rpartition(": ")[2] for idle in guard.idle] == ["it has this mark"]
        send(box, "couchdb-1", "PUT", place, mark | {"node": "couchdb@another.host"})
        send(box, "couchdb-1", "PUT", place, mark | {"uuid": "0" * 32})
        path = next(path for path, file in node.volume.shards.items() if "first" in file.live)
        del node.volume.shards[path]
        send(box, "couchdb-1", "PUT", place, mark)
        orders = ask(box, "couchdb-0", "/_node/_local/_dbs/orders")
        send(box, "couchdb-0", "PUT", "/_node/_local/_dbs/orders", orders)
        users = ask(box, "couchdb-0", "/_node/_local/_dbs/_users")
        gone = {key: ["couchdb@gone.host", *names] for key, names in users["by_range"].items()}
        send(box, "couchdb-0", "PUT", "/_node/_local/_dbs/_users", users | {"by_range": gone})
        told = [harm.rpartition(": ")[2] for harm in guard.harms]
        assert told == [
            "marks the volume as that of couchdb@another.host",
            "marks another volume",
            f"marks a volume on which {path} is gone",
            "a shard map that is none of ours",
            "names {'couchdb@gone.host'}, no members",
        ]


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
        send(box, "couchdb-1", "POST", "/_cluster_setup", {"action": "finish_cluster"})
        send(box, "couchdb-1", "PUT", "/_users", None)
        assert [idle.rpartition(": ")[2].split(" by")[0] for idle in guard.idle] == [
            "it is listed",
            "it has this value",
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
