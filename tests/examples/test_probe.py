"""The readinessProbe of examples/job, its very script: on simulated nodes and on real ones."""

import base64
import json
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

from couchdiscover.sandbox import Sandbox
from tests.examples.conftest import container, find
from tests.support.command import Command
from tests.support.volumes import Caller, fill, mount, snapshots, start

Make = Callable[..., Sandbox]


def script(folder: str = "job") -> str:
    couchdb = container(find(folder, "StatefulSet")["spec"]["template"], "couchdb")
    shell, flag, text = couchdb["readinessProbe"]["exec"]["command"]
    assert (shell, flag) == ("bash", "-c")
    return str(text)


@dataclass
class Pod:
    """A node as the kubelet sees it: the probe runs in its container, where a file may be left."""

    box: Sandbox
    name: str
    folder: Path
    ending: str = ""
    """What stands at the end of the Secret's values, and is not of the password."""

    @property
    def environment(self) -> dict[str, str]:
        login = self.box.deployment
        return {
            "COUCHDB_USER": login.user + self.ending,
            "COUCHDB_PASSWORD": login.password + self.ending,
            "PATH": "/usr/bin:/bin",
        }

    def probe(self, **environment: str) -> tuple[bool, str]:
        """Whether the pod is Ready, and what the probe said, which stands in an event."""
        host, port = self.box.address(self.name)
        text = script().replace("localhost/5984", f"{host}/{port}")
        text = text.replace("/tmp/joined", str(self.folder / self.name))
        ended = subprocess.run(
            ["bash", "-c", text],
            env=self.environment | environment,
            capture_output=True,
            text=True,
            timeout=30,
            check=False,
        )
        assert self.box.deployment.password not in ended.stdout + ended.stderr
        assert ended.stderr == ""
        return ended.returncode == 0, ended.stdout.strip()

    def booted(self) -> tuple[bool, str]:
        """The probe when the node takes its administrator's password, a moment after its start."""
        for _ in range(100):
            told = self.probe()
            if not told[1].endswith(": 401"):
                return told
            time.sleep(0.1)
        raise AssertionError(f"{self.name} refuses its administrator")

    def configure(self, section: str, key: str, value: str) -> None:
        host, port = self.box.address(self.name)
        login = f"{self.box.deployment.user}:{self.box.deployment.password}".encode()
        request = urllib.request.Request(
            f"http://{host}:{port}/_node/_local/_config/{section}/{key}",
            data=json.dumps(value).encode(),
            headers={
                "Authorization": f"Basic {base64.b64encode(login).decode()}",
                "Content-Type": "application/json",
            },
            method="PUT",
        )
        for _ in range(100):
            try:
                urllib.request.urlopen(request, timeout=30).close()
            except urllib.error.HTTPError as error:
                if error.code != 401:
                    raise
                time.sleep(0.1)  # on its first boot, before the administrator is hashed
            else:
                return
        raise AssertionError(f"{self.name} takes no configuration")


def test_ready_when_joined_and_not_before(
    any_sandbox: Make, couchdiscover: Command, tmp_path: Path
) -> None:
    box = any_sandbox(3)
    pods = [Pod(box, name, tmp_path) for name in box.pods]
    for pod in pods:
        assert pod.booted() == (False, "not in the cluster yet: /_users: 404")
    assert couchdiscover("run", environment=box.environment()).code == 0
    for pod in pods:
        assert pod.probe() == (True, "")
    first = pods[0]
    first.configure("couchdb", "maintenance_mode", "true")
    assert first.probe() == (False, "/_up: 404")
    first.configure("couchdb", "maintenance_mode", "false")
    assert first.probe(COUCHDB_PASSWORD="rotated") == (True, "")
    box.stop(first.name)
    assert first.probe() == (False, "/_up: no answer")
    # With one node away, and its container begun anew, another one is still Ready.
    (tmp_path / pods[1].name).unlink()
    assert pods[1].probe() == (True, "")


def test_a_scaled_up_pod_is_ready_when_it_is_added(
    any_sandbox: Make, couchdiscover: Command, tmp_path: Path
) -> None:
    box = any_sandbox(1)
    assert couchdiscover("run", environment=box.environment()).code == 0
    box.scale(2)
    fresh = Pod(box, box.pods[1], tmp_path)
    assert Pod(box, box.pods[0], tmp_path).probe() == (True, "")
    assert fresh.booted() == (False, "not in the cluster yet: /_users: 404")
    assert couchdiscover("run", environment=box.environment()).code == 0
    assert fresh.probe() == (True, "")


def test_a_restored_pod_is_ready_when_its_volume_is_adopted(
    any_sandbox: Make, couchdiscover: Command, tmp_path: Path
) -> None:
    """The Job of examples/restore, on copies of a living set's volumes under other names."""
    production = any_sandbox(3, namespace="production")
    assert couchdiscover("run", environment=production.environment()).code == 0
    login = production.deployment
    call = Caller(production, login.password)
    fill(call, production.pods[0], {"orders": 3})
    copies = snapshots(production, tmp_path)
    for name in production.pods:
        production.stop(name)
    box = any_sandbox(3, namespace="copy", running=False)
    mount(box, copies[1:] + copies[:1])
    start(box)
    pods = [Pod(box, name, tmp_path) for name in box.pods]
    for pod in pods:
        assert pod.booted() == (False, "not in the cluster yet: /_users: 500")
    job = find("restore", "Job")["spec"]["template"]
    arguments = container(job, "couchdiscover")["args"]
    ended = couchdiscover(*arguments, environment=box.environment())
    assert ended.code == 0, ended.err
    for pod in pods:
        assert pod.probe() == (True, "")
        assert Caller(box, login.password).count(pod.name, "orders") == 21


def test_with_require_valid_user_and_a_line_break_in_the_secret(
    any_sandbox: Make, couchdiscover: Command, tmp_path: Path
) -> None:
    box = any_sandbox(1)
    pod = Pod(box, box.pods[0], tmp_path)
    pod.configure("chttpd", "require_valid_user", "true")
    assert pod.probe() == (False, "not in the cluster yet: /_users: 404")
    assert couchdiscover("run", environment=box.environment()).code == 0
    assert Pod(box, box.pods[0], tmp_path, ending="\n").probe()[0]


def test_a_wrong_password_is_told(sandbox: Make, tmp_path: Path) -> None:
    box = sandbox(1)
    said = Pod(box, box.pods[0], tmp_path).probe(COUCHDB_PASSWORD="wrong")
    assert said == (False, "not in the cluster yet: /_users: 401")


def test_the_restored_set_has_the_same_probe() -> None:
    assert script("restore") == script("job")


@pytest.mark.parametrize("folder", ["job", "restore"])
def test_the_probe_has_the_time_it_takes(folder: str) -> None:
    """Two requests of four seconds each at most."""
    couchdb = container(find(folder, "StatefulSet")["spec"]["template"], "couchdb")
    probe = couchdb["readinessProbe"]
    assert probe["timeoutSeconds"] > 2 * 4
    assert probe["exec"]["command"][2].count("-t 4") == 1
    assert find(folder, "StatefulSet")["spec"]["podManagementPolicy"] == "Parallel"
