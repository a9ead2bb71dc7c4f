"""Volumes of the sandbox's nodes: snapshots, and pods that start on them under other names."""

import shutil
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import requests
from requests.auth import HTTPBasicAuth

from couchdiscover.sandbox import Sandbox
from couchdiscover.sandbox.couchdb import Node
from couchdiscover.sandbox.couchdb.volume import Volume
from couchdiscover.sandbox.real import RealNode

Snapshot = Volume | Path
"""A simulated node's volume, or a folder with a real one's data."""

DESIGN = {"_id": "_design/d", "views": {"v": {"map": "function(d) { emit(d._id, null); }"}}}


class Caller:
    """Asks the nodes of a sandbox, as an application and as its administrator would."""

    def __init__(self, box: Sandbox, password: str) -> None:
        self.box = box
        self.session = requests.Session()
        self.session.trust_env = False
        self.session.auth = HTTPBasicAuth(box.deployment.user.encode(), password.encode())

    def __call__(self, pod: str, method: str, path: str, body: Any = None) -> tuple[int, Any]:
        """Status and body of an answer."""
        host, port = self.box.address(pod)
        answer = self.session.request(method, f"http://{host}:{port}{path}", json=body, timeout=20)
        return answer.status_code, answer.json() if answer.content else None

    def get(self, pod: str, path: str) -> Any:
        """The body of an answer that is 200."""
        status, body = self(pod, "GET", path)
        assert status == 200, (pod, path, status, body)
        return body

    def put(self, pod: str, path: str, body: Any = None) -> Any:
        """Makes something that is not there yet."""
        status, answer = self(pod, "PUT", path, body)
        assert status in (200, 201, 202), (pod, path, status, answer)
        return answer

    def name(self, pod: str) -> str:
        """A node's Erlang name."""
        return str(self.get(pod, "/_node/_local")["name"])

    def count(self, pod: str, database: str) -> int:
        """How many documents a database has through a node."""
        return int(self.get(pod, f"/{database}")["doc_count"])

    def maps(self, pod: str) -> dict[str, Any]:
        """The shard maps, as a node has them."""
        path = "/_node/_local/_dbs/_all_docs?include_docs=true&conflicts=true"
        return {row["id"]: row["doc"] for row in self.get(pod, path)["rows"]}


def eventually(holds: Callable[[], bool], seconds: float = 60.0) -> None:
    """Waits until something holds."""
    end = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < end, "it does not come about"
        time.sleep(0.05)


def snapshots(box: Sandbox, folder: Path) -> list[Snapshot]:
    """A copy of each pod's volume, as it is at this moment."""
    found: list[Snapshot] = []
    for number, pod in enumerate(box.pods):
        node = _node(box, pod)
        if isinstance(node, RealNode):
            target = folder / f"snapshot-{number}-{time.monotonic_ns()}"
            shutil.copytree(node.data, target)
            found.append(target)
        else:
            assert isinstance(node, Node)
            found.append(node.volume.copy())
    return found


def mount(box: Sandbox, volumes: Sequence[Snapshot | None]) -> None:
    """Gives the pods of a sandbox whose nodes are not running these volumes; None is empty."""
    for pod, volume in zip(box.pods, volumes, strict=False):
        node = _node(box, pod)
        if isinstance(volume, Path):
            assert isinstance(node, RealNode)
            shutil.rmtree(node.data)
            shutil.copytree(volume, node.data)
        elif volume is not None:
            assert isinstance(node, Node)
            node.volume = volume.copy()


def create(box: Sandbox, pod: str, volume: Snapshot) -> None:
    """Creates a pod that is not there, on a volume, and starts it."""
    with box._lock:  # `start` would create it with an empty one
        box._create(pod)
        box._give(_node(box, pod), volume)
    box.start(pod)


def _node(box: Sandbox, pod: str) -> Node | RealNode:
    return box._pods[pod].node  # `node` gives simulated ones only


def breathe(call: "Caller", seconds: float = 2.0) -> None:
    """Lets internal replication push what was written, and note how far: with what was purged.

    A simulated network goes on with each request.
    """
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        for pod in call.box.pods:
            call(pod, "GET", "/_up")
        time.sleep(0.05)


def pushed(call: "Caller", database: str) -> bool:
    """Whether each copy notes to have pushed all that it holds to each other one.

    As it is some seconds after a database was filled.
    """
    for pod, path, info, rows in _copies(call, database):
        reached = [
            row["doc"]["seq"]
            for row in rows
            if "/shard-sync-" in row["id"] and row["doc"]["target_uuid"] != info["uuid"]
        ]
        ahead = [call.get(pod, f"{path}/_changes?since={seq}")["results"] for seq in reached]
        if info["update_seq"] and (len(reached) < len(call.box.pods) - 1 or any(ahead)):
            return False
    return True


def purges_handed_on(call: "Caller", database: str) -> bool:
    """Whether each copy notes to have handed all its purges to each other one."""
    for _, _, info, rows in _copies(call, database):
        own = f"/purge-mem3-{info['uuid']}-"  # before 3.5 there are those of being asked, too
        noted = [row["doc"]["purge_seq"] for row in rows if own in row["id"]]
        if info["purge_seq"] and noted != [info["purge_seq"]] * (len(call.box.pods) - 1):
            return False
    return True


def _copies(call: "Caller", database: str) -> Iterator[tuple[str, str, Any, Any]]:
    """Of each copy the pod, its path there, what it holds, and its local documents."""
    for pod in call.box.pods:
        for file in call.get(pod, "/_node/_local/_all_dbs"):
            if f"/{database}." in file:
                path = "/_node/_local/" + file.replace("/", "%2F")
                local = call.get(pod, f"{path}/_local_docs?include_docs=true")
                yield pod, path, call.get(pod, path), local["rows"]


def up_for(box: Sandbox, seconds: float = 120.0, pods: Sequence[str] | None = None) -> None:
    """Has the simulated nodes say that they have been up for that long; real ones are waited for.

    A node that lists former names must have been up for a while before anything is written.
    """
    for pod in pods or box.pods:
        node = _node(box, pod)
        if isinstance(node, Node):
            node.started_at -= seconds


def start(box: Sandbox, pods: Sequence[str] | None = None) -> None:
    """Starts the nodes, with an uptime that is long enough."""
    for pod in pods or box.pods:
        box.start(pod)
    up_for(box)


def fill(call: Caller, pod: str, databases: Mapping[str, int], documents: int = 20) -> None:
    """Makes databases (with so many copies), documents, a user, a view; waits till all spread."""
    for database, copies in databases.items():
        call.put(pod, f"/{database}?n={copies}&q=2")
        for number in range(documents):
            call.put(pod, f"/{database}/d{number}", {"number": number})
        call.put(pod, f"/{database}/_design/d", DESIGN)
    user = {"name": "bob", "password": "plain", "roles": [], "type": "user"}
    call.put(pod, "/_users/org.couchdb.user:bob", user)
    for other in call.box.pods:
        for database in databases:
            eventually(lambda o=other, d=database: call.count(o, d) == documents + 1)  # type: ignore[misc]
