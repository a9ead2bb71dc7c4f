"""Volumes of a whole sandbox: lost, restored, shuffled; a set renamed, and cloned beside itself."""

import json
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import requests
from requests.auth import HTTPBasicAuth

from couchdiscover.sandbox import Sandbox
from couchdiscover.sandbox.couchdb import Volume

KINDS = ("StatefulSet", "Service", "Secret", "ConfigMap", "Endpoints", "EndpointSlice", "Pod")


def ask(box: Sandbox, pod: str, method: str, path: str, body: Any = None) -> Any:
    host, port = box.address(pod)
    login = HTTPBasicAuth(box.deployment.user.encode(), box.deployment.password.encode())
    url = f"http://{host}:{port}{path}"
    return requests.request(method, url, json=body, auth=login, timeout=10)


def assemble(box: Sandbox, count: int = 12) -> Sandbox:
    """One finished cluster with a database of some documents."""
    first = box.pods[0]
    for pod in box.pods[1:]:
        path = f"/_node/_local/_nodes/{box.nodes[first].name}"
        assert ask(box, pod, "PUT", path, {}).status_code == 201
    finish = ask(box, first, "POST", "/_cluster_setup", {"action": "finish_cluster"})
    assert finish.status_code == 201
    assert ask(box, first, "PUT", "/db").status_code == 201
    for i in range(count):
        assert ask(box, first, "PUT", f"/db/d{i}", {}).status_code == 201
    return box


def members(box: Sandbox, pod: str) -> set[str]:
    return set(ask(box, pod, "GET", "/_membership").json()["all_nodes"])


def count(box: Sandbox, pod: str) -> Any:
    return ask(box, pod, "GET", "/db").json().get("doc_count")


def dbs_uuid(box: Sandbox, pod: str) -> Any:
    return ask(box, pod, "GET", "/_node/_local/_dbs").json()["uuid"]


@pytest.fixture
def box() -> Iterator[Sandbox]:
    with Sandbox(3, pace=0.0, namespace="prod", password="a password") as found:
        yield assemble(found)


def test_a_lost_volume_is_filled_when_it_is_let(box: Sandbox) -> None:
    before = dbs_uuid(box, "couchdb-1")
    box.hold_filling("couchdb-1", 2)
    box.lose_volume("couchdb-1")
    assert dbs_uuid(box, "couchdb-1") != before
    assert members(box, "couchdb-1") == {node.name for node in box.nodes.values()}
    assert count(box, "couchdb-1") == 4
    assert count(box, "couchdb-0") == 12
    box.release_filling("couchdb-1")
    assert count(box, "couchdb-1") == 12


def test_a_snapshot_is_restored_under_the_same_name(box: Sandbox) -> None:
    snapshot = box.volume("couchdb-2")
    uuid = dbs_uuid(box, "couchdb-2")
    ask(box, "couchdb-0", "PUT", "/db/later", {})
    box.lose_volume("couchdb-2")
    assert dbs_uuid(box, "couchdb-2") != uuid
    box.restore("couchdb-2", snapshot)
    assert dbs_uuid(box, "couchdb-2") == uuid
    assert count(box, "couchdb-2") == 13, "what came since is pushed"
    assert isinstance(snapshot, Volume)
    assert "later" not in {i for file in snapshot.shards.values() for i in file.docs}


def test_a_stopped_pod_stays_so_on_another_volume(box: Sandbox) -> None:
    box.stop("couchdb-2")
    box.restore("couchdb-2", Volume())
    assert not box.nodes["couchdb-2"].running


def test_volumes_change_places(box: Sandbox) -> None:
    uuids = [dbs_uuid(box, pod) for pod in box.pods]
    box.shuffle_volumes()
    assert [dbs_uuid(box, pod) for pod in box.pods] == [uuids[1], uuids[2], uuids[0]]
    box.shuffle_volumes({"couchdb-0": "couchdb-2", "couchdb-2": "couchdb-0"})
    assert [dbs_uuid(box, pod) for pod in box.pods] == [uuids[0], uuids[2], uuids[1]]


@pytest.mark.parametrize(
    ("names", "host"),
    [
        ({"namespace": "restored"}, "couchdb-0.couchdb.restored.svc.cluster.local"),
        ({"service": "db"}, "couchdb-0.db.prod.svc.cluster.local"),
        ({"statefulset": "new-couchdb"}, "new-couchdb-0.couchdb.prod.svc.cluster.local"),
        ({"domain": "example.net"}, "couchdb-0.couchdb.prod.svc.example.net"),
    ],
)
def test_a_renamed_set_is_on_its_volumes_and_has_forgotten_nothing(
    box: Sandbox, names: dict[str, str], host: str
) -> None:
    former = {node.name for node in box.nodes.values()}
    uuids = [dbs_uuid(box, pod) for pod in box.pods]
    box.rename(**names)
    first = box.pods[0]
    assert box.nodes[first].name == f"couchdb@{host}"
    assert [dbs_uuid(box, pod) for pod in box.pods] == uuids
    listed = ask(box, first, "GET", "/_membership").json()
    assert set(listed["cluster_nodes"]) == {*former, f"couchdb@{host}"}
    assert listed["all_nodes"] == [f"couchdb@{host}"]
    lost = ask(box, first, "GET", "/db")
    assert (lost.status_code, lost.json()["reason"]) == (500, "No DB shards could be opened.")
    assert ask(box, first, "GET", "/_cluster_setup").json() == {"state": "cluster_enabled"}
    # Kubernetes has the new names, and nothing of the old ones.
    for kind in KINDS:
        found = box.api.find(kind, box.deployment.namespace)
        assert found, kind
        if "namespace" in names:
            assert box.api.find(kind, "prod") == [], kind
    pods = [pod["metadata"]["name"] for pod in box.api.find("Pod", box.deployment.namespace)]
    assert pods == box.pods
    config = json.loads(box.kubeconfig.read_text())
    assert config["contexts"][0]["context"]["namespace"] == box.deployment.namespace


def test_a_clone_meets_its_original(box: Sandbox) -> None:
    clone = box.clone_into("stage")
    everybody = {node.name for set_ in (box, clone) for node in set_.nodes.values()}
    assert len(everybody) == 6
    assert members(clone, "couchdb-0") == members(box, "couchdb-2") == everybody
    assert ask(clone, "couchdb-1", "PUT", "/db/from-stage", {}).status_code == 201
    assert ask(box, "couchdb-0", "GET", "/db/from-stage").status_code == 200
    assert dbs_uuid(clone, "couchdb-0") == dbs_uuid(box, "couchdb-0")
    assert [pod["metadata"]["name"] for pod in box.api.find("Pod", "prod")] == box.pods
    assert [pod["metadata"]["name"] for pod in box.api.find("Pod", "stage")] == clone.pods
    assert clone.environment()["COUCHDISCOVER_NAMESPACE"] == "stage"
    box.stop("couchdb-1")
    assert [pod["metadata"]["name"] for pod in box.api.find("Pod", "stage")] == clone.pods
    clone.close()
    assert members(box, "couchdb-0") == {box.nodes[pod].name for pod in ("couchdb-0", "couchdb-2")}


def test_a_clone_behind_a_wall_is_a_restored_set_beside_living_production(box: Sandbox) -> None:
    clone = box.clone_into("restored", wall=True)
    assert members(clone, "couchdb-0") == {clone.nodes["couchdb-0"].name}
    assert ask(clone, "couchdb-0", "GET", "/db").status_code == 500
    assert count(box, "couchdb-0") == 12
    ask(box, "couchdb-0", "PUT", "/db/later", {})
    box.open_wall(clone)
    assert len(members(clone, "couchdb-0")) == 6


def test_a_set_starts_on_volumes_that_were_taken_elsewhere(box: Sandbox) -> None:
    volumes = {f"db-{i}": box.volume(f"couchdb-{i}") for i in range(2)}
    with Sandbox(5, pace=0.0, statefulset="db", volumes=volumes, password="other") as other:
        assert dbs_uuid(other, "db-1") == dbs_uuid(box, "couchdb-1")
        files = [ask(other, pod, "GET", "/_node/_local/_all_dbs").json() for pod in other.pods]
        assert [len(found) for found in files] == [9, 9, 3, 3, 3]
        ask(other, "db-0", "PUT", "/_node/_local/_dbs/_local/mark", {})
    assert ask(box, "couchdb-0", "GET", "/_node/_local/_dbs/_local/mark").status_code == 404


def test_volumes_and_nodes_are_of_one_kind(box: Sandbox, tmp_path: Path) -> None:
    wrong = Sandbox(1, volumes={"couchdb-0": tmp_path})
    with pytest.raises(TypeError, match="a real node's volume is a folder"):
        wrong.__enter__()
    with pytest.raises(ValueError, match="beside each other"):
        Sandbox(1, real=tmp_path, beside=box)


# --- simulated and real nodes alike ---


def until(true: Callable[[], bool], seconds: float = 60) -> None:
    end = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < end, "did not come about"
        time.sleep(0.05)


def whose(box: Sandbox, pod: str) -> set[str]:
    """The names that the history of a node's own `_dbs` has for its own uuid."""
    found = ask(box, pod, "GET", "/_node/_local/_dbs/_local_docs?include_docs=true").json()
    uuid = dbs_uuid(box, pod)
    return {
        entry[f"{side}_node"]
        for row in found["rows"]
        for entries in row["doc"].get("history", {}).values()
        for entry in entries
        for side in ("source", "target")
        if entry[f"{side}_uuid"] == uuid
    }


def test_a_life_of_volumes(any_sandbox: Callable[..., Sandbox]) -> None:
    box = any_sandbox(3, namespace="prod")
    former = [box.nodes[pod].name for pod in box.pods]
    first = box.pods[0]
    for pod in box.pods[1:]:
        assert ask(box, pod, "PUT", f"/_node/_local/_nodes/{former[0]}", {}).ok
    until(lambda: all(members(box, pod) == set(former) for pod in box.pods))
    assert ask(box, first, "POST", "/_cluster_setup", {"action": "finish_cluster"}).ok
    assert ask(box, first, "PUT", "/db").ok
    for i in range(12):
        assert ask(box, first, "PUT", f"/db/d{i}", {}).ok
    until(lambda: all(whose(box, pod) == {box.nodes[pod].name} for pod in box.pods))

    # A lost volume: another identity, and filled by its peers.
    uuid = dbs_uuid(box, "couchdb-1")
    box.lose_volume("couchdb-1")
    until(lambda: count(box, "couchdb-1") == 12)
    assert dbs_uuid(box, "couchdb-1") != uuid

    # Another namespace: nothing can be read, nothing is lost, and each volume knows who it was.
    uuids = [dbs_uuid(box, pod) for pod in box.pods]
    until(lambda: all(former[i] in whose(box, pod) for i, pod in enumerate(box.pods)))
    box.rename(namespace="restored")
    assert [dbs_uuid(box, pod) for pod in box.pods] == uuids
    assert [former[i] in whose(box, pod) for i, pod in enumerate(box.pods)] == [True] * 3
    assert [ask(box, pod, "GET", "/db").status_code for pod in box.pods] == [500] * 3
    present = [box.nodes[pod].name for pod in box.pods]
    for pod, name in zip(box.pods, present, strict=True):
        assert members(box, pod) == {name}
        assert len(ask(box, pod, "GET", "/_node/_local/_all_dbs").json()) == 9

    # Mended by hand: members, then maps.
    for pod in box.pods[1:]:
        assert ask(box, pod, "PUT", f"/_node/_local/_nodes/{present[0]}", {}).ok
    until(lambda: all(members(box, pod) == set(present) for pod in box.pods))
    for name in former:
        where = f"/_node/_local/_nodes/{name}"
        revision = ask(box, first, "GET", where).json()["_rev"]
        assert ask(box, first, "DELETE", f"{where}?rev={revision}").ok
    for database in ("_users", "_replicator", "db"):
        where = f"/_node/_local/_dbs/{database}"
        text = ask(box, first, "GET", where).text.replace(".prod.", ".restored.")
        assert ask(box, first, "PUT", where, json.loads(text)).ok
    until(lambda: all(count(box, pod) == 12 for pod in box.pods))
    state = {"state": "cluster_finished"}
    until(lambda: ask(box, first, "GET", "/_cluster_setup").json() == state)

    # A clone of the living set, with the same cookie: one cluster of six.
    clone = box.clone_into("stage")
    until(lambda: len(members(box, first)) == len(members(clone, first)) == 6)
    assert ask(clone, first, "PUT", "/db/from-stage", {}).ok
    until(lambda: ask(box, "couchdb-2", "GET", "/db/from-stage").status_code == 200)
