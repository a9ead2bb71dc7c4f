"""The examples on a real cluster: the one that KUBECONFIG names, with the images of E2E_*."""

import json
import os
import secrets
import shutil
import subprocess
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import yaml

EXAMPLES = Path(__file__).parents[2] / "examples"

IMAGES = {
    "ghcr.io/couchdiscover/couchdiscover": "E2E_IMAGE",
    "docker.io/library/couchdb": "E2E_COUCHDB_IMAGE",
    "ghcr.io/couchdiscover/couchdb": "E2E_POSTSTART_IMAGE",
}
"""The images of the examples, and the variables that name those to be tried in their place."""

REQUEST = r"""
exec 3<>/dev/tcp/127.0.0.1/5984
login=$(printf %s "$COUCHDB_USER:$COUCHDB_PASSWORD" | base64 -w0)
printf '%s %s HTTP/1.0\r\nHost: localhost\r\nAccept: application/json\r\n' "$2" "$1" >&3
printf 'Authorization: Basic %s\r\nConnection: close\r\n\r\n' "$login" >&3
cat <&3
"""
"""For bash in CouchDB's container, which has no HTTP client. The password is on no command line."""

Json = dict[str, Any]


def overlay(folder: Path, example: str, patches: list[Json], images: dict[str, str]) -> Path:
    """A kustomization of an example's own files, with images and patches; returns its folder."""
    top = folder / f"{example}-{secrets.token_hex(4)}"
    shutil.copytree(EXAMPLES / example, top / example)
    kustomization = top / example / "kustomization.yaml"
    if not kustomization.exists():  # ci and helm are applied file by file
        files = sorted(path.name for path in (top / example).glob("*.yaml"))
        files = [name for name in files if name not in ("workflow.yaml", "values.yaml")]
        kustomization.write_text(yaml.safe_dump({"resources": files}))
    replaced = [
        {"name": name, "newName": image.rpartition(":")[0], "newTag": image.rpartition(":")[2]}
        for name, image in images.items()
    ]
    content = {
        "resources": [f"./{example}"],
        "images": replaced,
        "patches": [
            {"target": {"kind": patch["kind"]}, "patch": json.dumps(patch["operations"])}
            for patch in patches
        ],
    }
    (top / "kustomization.yaml").write_text(yaml.safe_dump(content))
    return top


def patch(kind: str, *operations: tuple[str, str, object]) -> Json:
    """A JSON patch for the objects of a kind: operation, path and value."""
    return {
        "kind": kind,
        "operations": [{"op": op, "path": path, "value": value} for op, path, value in operations],
    }


@dataclass(frozen=True)
class Run:
    """A Job that has ended."""

    succeeded: bool
    codes: list[int]
    """The exit codes of its pods."""
    message: str
    """The last pod's termination message."""
    result: Json = field(repr=False)
    """What the last pod wrote to stdout, with -o json."""

    @property
    def steps(self) -> list[str]:
        return [f"{step['step']} {step['node']}" for step in self.result["steps"]]


@dataclass
class Namespace:
    """A namespace of its own, with the Secret and the ConfigMap that the examples need."""

    name: str
    folder: Path
    images: dict[str, str]

    def kubectl(self, *arguments: str, text: str | None = None) -> str:
        """Runs kubectl in the namespace; raises AssertionError with its words where it fails."""
        ended = subprocess.run(
            ["kubectl", "--namespace", self.name, *arguments],
            input=text,
            capture_output=True,
            text=True,
            timeout=900,
            check=False,
        )
        assert ended.returncode == 0, f"kubectl {' '.join(arguments)}: {ended.stderr}"
        return ended.stdout

    def get(self, what: str, *arguments: str) -> Json:
        found: Json = json.loads(self.kubectl("get", what, *arguments, "--output=json"))
        return found

    def apply(self, example: str, *patches: Json) -> None:
        """The example's own files, with the images to be tried."""
        top = overlay(self.folder, example, list(patches), self.images)
        self.kubectl("apply", "--kustomize", str(top))

    def rolled_out(self, what: str = "statefulset/couchdb", seconds: int = 600) -> None:
        self.kubectl("rollout", "status", what, f"--timeout={seconds}s")

    def scale(self, replicas: int) -> None:
        self.kubectl("scale", "statefulset/couchdb", f"--replicas={replicas}")
        self.rolled_out()
        for pod in self.pods()[replicas:]:  # a roll-out does not wait for those that go
            self.kubectl("wait", "--for=delete", f"pod/{pod}", "--timeout=120s")

    def restart(self) -> None:
        """A rolling restart: every pod of the official image loses its configuration."""
        self.kubectl("rollout", "restart", "statefulset/couchdb")
        self.rolled_out()

    def replace(self, pod: str) -> None:
        self.kubectl("delete", "pod", pod)
        self.rolled_out()

    # --- Jobs ---

    def job(self, *patches: Json, example: str = "job", name: str = "couchdiscover") -> Run:
        """Runs the example's Job to its end, anew if it is there."""
        self.kubectl("delete", "job", name, "--ignore-not-found")
        container = "/spec/template/spec/containers/0"
        as_json = {"name": "COUCHDISCOVER_OUTPUT", "value": "json"}
        self.apply(example, patch("Job", ("add", f"{container}/env/-", as_json)), *patches)
        return self.ended(name)

    def ended(self, name: str) -> Run:
        """Waits for a Job's end."""
        deadline = time.monotonic() + 900
        while time.monotonic() < deadline:
            conditions = self.get("job", name).get("status", {}).get("conditions", [])
            kinds = {each["type"] for each in conditions if each["status"] == "True"}
            if kinds & {"Complete", "Failed"}:
                return self._run(name, "Complete" in kinds)
            time.sleep(1)
        raise AssertionError(f"job/{name} did not end\n{self.kubectl('describe', 'pods')}")

    def _run(self, name: str, succeeded: bool) -> Run:
        pods = self.get("pods", f"--selector=batch.kubernetes.io/job-name={name}")["items"]
        pods.sort(key=lambda pod: pod["metadata"]["creationTimestamp"])
        ends = [pod["status"]["containerStatuses"][0]["state"]["terminated"] for pod in pods]
        log = self.kubectl("logs", pods[-1]["metadata"]["name"]).splitlines()
        results = [line for line in log if line.startswith("{")]
        return Run(
            succeeded,
            [end["exitCode"] for end in ends],
            ends[-1].get("message", ""),
            json.loads(results[-1]) if results else {},
        )

    # --- CouchDB ---

    def pods(self) -> list[str]:
        """CouchDB's pods."""
        found = self.get("pods", "--selector=app.kubernetes.io/name=couchdb")["items"]
        return sorted(pod["metadata"]["name"] for pod in found)

    def couch(self, pod: str, path: str, method: str = "GET") -> Any:
        """What a node answers to its administrator."""
        answer = self.kubectl(
            "exec", pod, "--container=couchdb", "--", "bash", "-c", REQUEST, "bash", path, method
        )
        return json.loads(answer.replace("\r\n", "\n").partition("\n\n")[2])

    def forget(self, pod: str) -> None:
        """Clears up after a scale-down: the pod is no member any more."""
        name = f"couchdb@{pod}.couchdb.{self.name}.svc.cluster.local"
        document = f"/_node/_local/_nodes/{name}"
        revision = self.couch("couchdb-0", document)["_rev"]
        assert self.couch("couchdb-0", f"{document}?rev={revision}", "DELETE")["ok"]

    def whole(self, size: int, seconds: float = 60) -> None:
        """Asserts that every node, asked one by one, knows exactly the pods, and is finished."""
        names = {
            f"couchdb@couchdb-{index}.couchdb.{self.name}.svc.cluster.local"
            for index in range(size)
        }
        deadline = time.monotonic() + seconds
        while True:
            seen = {pod: self.couch(pod, "/_membership") for pod in self.pods()}
            states = {pod: self.couch(pod, "/_cluster_setup")["state"] for pod in seen}
            good = len(seen) == size and all(
                set(view["all_nodes"]) == set(view["cluster_nodes"]) == names
                for view in seen.values()
            )
            if good and set(states.values()) == {"cluster_finished"}:
                return
            assert time.monotonic() < deadline, (seen, states)
            time.sleep(1)  # a node that was down is connected again a moment later

    def identities(self) -> set[str]:
        """The different admin hashes and uuids that the nodes have."""
        return {
            json.dumps([self.couch(pod, "/_node/_local/_config/admins/admin"), welcome["uuid"]])
            for pod in self.pods()
            for welcome in [self.couch(pod, "/")]
        }

    def restarts(self) -> dict[str, int]:
        """How often the containers of CouchDB's pods were restarted, where they were."""
        found = {}
        for pod in self.get("pods", "--selector=app.kubernetes.io/name=couchdb")["items"]:
            status = pod["status"]
            every = [*status.get("initContainerStatuses", []), *status["containerStatuses"]]
            for each in every:
                if each["restartCount"]:
                    found[f"{pod['metadata']['name']}/{each['name']}"] = each["restartCount"]
        return found


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Whatever asks for a namespace needs a cluster: `pytest -m e2e` runs it, `pytest` does not."""
    for item in items:
        here = item.path.is_relative_to(Path(__file__).parent)
        if here and "namespace" in getattr(item, "fixturenames", ()):
            item.add_marker(pytest.mark.e2e)


@pytest.fixture(scope="session")
def images() -> dict[str, str]:
    """The images to be tried; skips where there is no cluster, or no images."""
    missing = [name for name in ("KUBECONFIG", *IMAGES.values()) if not os.environ.get(name)]
    if missing:
        pytest.skip(f"no Kubernetes cluster with images to try: {', '.join(missing)} not set")
    return {name: os.environ[variable] for name, variable in IMAGES.items()}


@pytest.fixture
def namespace(images: dict[str, str], tmp_path: Path) -> Iterator[Namespace]:
    """A namespace that enforces the pod security standard "restricted"."""
    made = Namespace(f"e2e-{secrets.token_hex(4)}", tmp_path, images)
    labels = {"pod-security.kubernetes.io/enforce": "restricted"}
    content = {
        "apiVersion": "v1",
        "kind": "Namespace",
        "metadata": {"name": made.name, "labels": labels},
    }
    made.kubectl("apply", "--filename=-", text=json.dumps(content))
    try:
        yield made
    finally:
        made.kubectl("delete", "namespace", made.name, "--wait=false")


@pytest.fixture
def secret(namespace: Namespace) -> Callable[[], None]:
    """Makes what ../README.md of the examples has a person make."""

    def make() -> None:
        values = {
            "COUCHDB_USER": "admin",
            "COUCHDB_PASSWORD": secrets.token_hex(16),
            "COUCHDB_SECRET": secrets.token_hex(32),
            "COUCHDB_ERLANG_COOKIE": secrets.token_hex(32),
        }
        for content in (
            {"kind": "Secret", "metadata": {"name": "couchdb-admin"}, "stringData": values},
            {
                "kind": "ConfigMap",
                "metadata": {"name": "couchdb-uuid"},
                "data": {"uuid.ini": f"[couchdb]\nuuid = {secrets.token_hex(16)}\n"},
            },
        ):
            text = json.dumps({"apiVersion": "v1", **content})
            namespace.kubectl("apply", "--filename=-", text=text)

    return make
