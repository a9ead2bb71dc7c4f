"""Each example over the life of a set: fresh, again, larger, replaced, restarted, smaller."""

import json
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml

from tests.e2e.conftest import IMAGES, Json, Namespace, overlay, patch

SMALL = ("replace", "/spec/volumeClaimTemplates/0/spec/resources/requests/storage", "1Gi")


def policy(value: str, replicas: int = 3) -> Json:
    """A StatefulSet of that order of start, on volumes that a test cluster has."""
    return patch(
        "StatefulSet",
        SMALL,
        ("add", "/spec/podManagementPolicy", value),
        ("replace", "/spec/replicas", replicas),
    )


@pytest.mark.parametrize("order", ["Parallel", "OrderedReady"])
def test_a_job_over_the_life_of_a_set(
    namespace: Namespace, secret: Callable[[], None], order: str
) -> None:
    namespace.apply("job", policy(order))  # before its Secret: everybody waits
    secret()
    first = namespace.ended("couchdiscover")
    assert (first.succeeded, first.codes) == (True, [0])
    namespace.rolled_out()
    namespace.whole(3)

    again = namespace.job(policy(order))
    assert (again.succeeded, again.steps) == (True, [])

    larger = namespace.job(policy(order, 4))
    assert larger.succeeded
    assert all(step.endswith(" couchdb-3") for step in larger.steps)
    namespace.whole(4)

    namespace.replace("couchdb-1")
    assert namespace.job(policy(order, 4)).succeeded
    namespace.whole(4)

    namespace.restart()
    healed = namespace.job(policy(order, 4))
    assert healed.succeeded
    assert {step.split()[0] for step in healed.steps} == {"sync_identity"}
    assert len(namespace.identities()) == 1
    namespace.whole(4)

    namespace.scale(3)
    smaller = namespace.job(policy(order), patch("Job", ("replace", "/spec/backoffLimit", 0)))
    assert (smaller.succeeded, smaller.codes) == (False, [3])
    assert "couchdb-3" in smaller.message

    namespace.forget("couchdb-3")
    assert namespace.job(policy(order)).succeeded
    namespace.whole(3)
    returned = namespace.job(policy(order, 4))  # with its old volume
    assert returned.succeeded
    namespace.whole(4)


def test_a_wrong_password_fails_the_job_at_once(
    namespace: Namespace, secret: Callable[[], None]
) -> None:
    secret()
    wrong = {"name": "COUCHDB_PASSWORD", "value": "wrong"}
    container = "/spec/template/spec/containers/0"
    run = namespace.job(policy("Parallel"), patch("Job", ("replace", f"{container}/env/1", wrong)))
    assert (run.succeeded, run.codes) == (False, [5])
    assert "credentials" in run.message or "password" in run.message


@pytest.mark.parametrize("order", ["Parallel", "OrderedReady"])
@pytest.mark.parametrize("example", ["initcontainer", "poststart"])
def test_pods_that_bring_themselves_in(
    namespace: Namespace, secret: Callable[[], None], example: str, order: str
) -> None:
    secret()
    namespace.apply(example, policy(order))
    namespace.rolled_out()
    namespace.whole(3)
    assert namespace.restarts() == {}

    namespace.scale(4)
    namespace.whole(4)

    for pod in ("couchdb-3", "couchdb-0"):
        namespace.replace(pod)
        namespace.whole(4)

    namespace.restart()
    namespace.whole(4)
    assert len(namespace.identities()) == 1

    namespace.scale(3)
    namespace.forget("couchdb-3")
    namespace.whole(3)
    namespace.scale(4)  # with its old volume
    namespace.whole(4)
    assert namespace.restarts() == {}


def test_the_hooks_output_is_in_the_log(namespace: Namespace, secret: Callable[[], None]) -> None:
    secret()
    namespace.apply("poststart", policy("Parallel", 1))
    namespace.rolled_out()
    assert "couchdb-0" in namespace.kubectl("logs", "couchdb-0")
    status = json.dumps(namespace.get("pod", "couchdb-0")["status"])
    assert "couchdiscover run" not in status


def test_an_application_waits_and_the_smoke_test_passes(
    namespace: Namespace, secret: Callable[[], None]
) -> None:
    secret()
    namespace.apply("app")
    namespace.apply("job", policy("Parallel"))
    namespace.rolled_out("deployment/app")
    namespace.whole(3)
    run = namespace.job(example="ci", name="couchdiscover-check")
    assert (run.succeeded, run.codes) == (True, [0])


def test_from_outside_through_the_api_server(
    namespace: Namespace, secret: Callable[[], None]
) -> None:
    """As a person at a desk, with a kubeconfig and no way to the pods."""
    secret()
    namespace.apply("initcontainer", policy("Parallel"))
    namespace.rolled_out()

    def ask(command: str) -> Json:
        ended = subprocess.run(
            [
                *(sys.executable, "-m", "couchdiscover", command, "--via=api-proxy"),
                *(f"--namespace={namespace.name}", "--statefulset=couchdb", "--output=json"),
            ],
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
        assert ended.returncode == 0, ended.stderr
        result: Json = json.loads(ended.stdout)
        return result

    assert ask("plan")["steps"] == []
    checked = ask("check")
    assert checked["result"] == "done"
    assert len(checked["nodes"]) == 3


def test_the_cron_job_heals(namespace: Namespace, secret: Callable[[], None]) -> None:
    secret()
    namespace.apply("initcontainer", policy("Parallel"))
    namespace.rolled_out()
    namespace.apply("cronjob")
    kill = "(sleep 1; kill 1) >/dev/null 2>&1 &"  # lets the exec end before its container does
    namespace.kubectl("exec", "couchdb-1", "--container=couchdb", "--", "bash", "-c", kill)
    deadline = time.monotonic() + 120
    while namespace.restarts() != {"couchdb-1/couchdb": 1}:
        assert time.monotonic() < deadline
        time.sleep(1)
    namespace.kubectl("wait", "--for=condition=Ready", "pod/couchdb-1", "--timeout=120s")
    namespace.kubectl("create", "job", "now", "--from=cronjob/couchdiscover")
    assert namespace.ended("now").succeeded
    namespace.whole(3)
    assert len(namespace.identities()) == 1


@pytest.mark.skipif(shutil.which("kubectl") is None, reason="needs kubectl")
@pytest.mark.parametrize("example", ["job", "initcontainer", "poststart", "app", "ci", "cronjob"])
def test_what_is_applied_is_the_example_with_other_images(tmp_path: Path, example: str) -> None:
    """Needs no cluster: these tests' own overlay, built."""
    images = {name: f"localhost/{variable.lower()}:1" for name, variable in IMAGES.items()}
    patches = [policy("OrderedReady", 5)] if example in ("job", "initcontainer") else []
    top = overlay(tmp_path, example, patches, images)
    built = subprocess.run(
        ["kubectl", "kustomize", str(top)], capture_output=True, text=True, check=True
    ).stdout
    used = set(re.findall(r"image: (\S+)", built))
    assert used
    assert used <= {*images.values(), "registry.k8s.io/pause:3.10.1"}
    for content in yaml.safe_load_all(built):
        if content["kind"] == "StatefulSet" and patches:
            assert content["spec"]["replicas"] == 5
            assert content["spec"]["podManagementPolicy"] == "OrderedReady"
