"""The examples' own objects, rights and commands against the sandbox."""

import os
import shlex
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from couchdiscover.sandbox import Sandbox
from tests.examples.conftest import (
    EXAMPLES,
    STATEFULSETS,
    Object,
    container,
    containers,
    find,
    hook,
)
from tests.support.command import PASSWORD, Command

Make = Callable[..., Sandbox]

LOGIN = {"COUCHDB_USER": "admin", "COUCHDB_PASSWORD": PASSWORD}
"""What the kubelet makes of the examples' secretKeyRefs."""


def deploy(make: Make, folder: str, statefulset: Object, **options: Any) -> Sandbox:
    """A sandbox with that StatefulSet, in which the API allows what the folder's Role allows."""
    name = statefulset["metadata"]["name"]
    box = make(3, namespace="db", statefulset=name, **options)
    box.api.put({**statefulset, "metadata": {"name": name, "namespace": "db"}})
    box.api.forbid("*", "*")
    for rule in find(folder, "Role")["rules"]:
        for verb in rule["verbs"]:
            for resource in rule["resources"]:
                for allowed in rule.get("resourceNames", [None]):
                    box.api.allow(verb, resource, allowed, namespace="db")
    return box


def is_whole(box: Sandbox) -> bool:
    names = {box.node(pod).name for pod in box.pods}
    return all(
        set(box.node(pod).members) == set(box.node(pod).connected) == names
        and box.node(pod).state == "cluster_finished"
        for pod in box.pods
    )


def environment(box: Sandbox, pod: str | None = None) -> dict[str, str]:
    """Without the name of the StatefulSet: the example must give it, or not need it."""
    found = box.environment(pod) | LOGIN
    del found["COUCHDISCOVER_STATEFULSET"]
    return found


@pytest.mark.parametrize("slices", [True, False])
@pytest.mark.parametrize("folder", ["job", "cronjob", "helm"])
def test_the_job(sandbox: Make, couchdiscover: Command, folder: str, slices: bool) -> None:
    spec = find(folder, "CronJob" if folder == "cronjob" else "Job")["spec"]
    (ours,) = containers(spec.get("jobTemplate", {}).get("spec", spec)["template"])
    statefulset = dict(find("job", "StatefulSet"))
    if folder == "helm":
        statefulset["metadata"] = {"name": "couchdb-couchdb"}
        statefulset["spec"] = {**statefulset["spec"], "serviceName": "couchdb-couchdb"}
    box = deploy(sandbox, folder, statefulset, slices=slices)
    (first,) = containers(find("job", "Job")["spec"]["template"])
    for arguments in (first["args"] if folder == "cronjob" else ours["args"], ours["args"]):
        ended = couchdiscover(*arguments, environment=environment(box))
        assert ended.code == 0, ended.err
        assert "WARNING" not in ended.err
    assert is_whole(box)
    refused = [request for request in box.api.requests if request.status in (401, 403)]
    assert refused == []


def test_the_cron_job_makes_no_cluster(sandbox: Make, couchdiscover: Command) -> None:
    """All volumes lost: an empty cluster in their place would look as if all were well."""
    (ours,) = containers(find("cronjob", "CronJob")["spec"]["jobTemplate"]["spec"]["template"])
    arguments = ours["args"]
    box = deploy(sandbox, "cronjob", find("job", "StatefulSet"))
    ended = couchdiscover(*arguments, environment=environment(box))
    assert ended.code == 6, ended.err
    assert {box.node(pod).state for pod in box.pods} == {"cluster_enabled"}


@pytest.mark.parametrize("folder", ["app", "ci", "restore"])
def test_what_finds_nothing_to_do(sandbox: Make, couchdiscover: Command, folder: str) -> None:
    """With the rights that it brings, when the Job has done its part."""
    pod = find(folder, "Deployment" if folder == "app" else "Job")["spec"]["template"]
    (ours,) = (each for each in containers(pod) if "/couchdiscover:" in each["image"])
    (first,) = containers(find("job", "Job")["spec"]["template"])
    box = deploy(sandbox, folder, find("job", "StatefulSet"))
    assert couchdiscover(*first["args"], environment=environment(box)).code == 0
    ended = couchdiscover(*ours["args"], environment=environment(box))
    assert ended.code == 0, ended.err
    assert [r for r in box.api.requests if r.status in (401, 403)] == []


@pytest.mark.parametrize("order", [(0, 1, 2), (2, 0, 1)])
def test_the_init_containers(sandbox: Make, couchdiscover: Command, order: tuple[int, ...]) -> None:
    box = deploy(sandbox, "initcontainer", find("initcontainer", "StatefulSet"))
    ours = container(find("initcontainer", "StatefulSet")["spec"]["template"], "couchdiscover")
    pods = [box.pods[index] for index in order]
    started = [
        couchdiscover.start(*ours.get("args", []), environment=environment(box, pod))
        for pod in pods
    ]
    for process in started:
        _, err = process.communicate(timeout=60)
        assert process.returncode == 0, err
        assert "WARNING" not in err
    assert is_whole(box)
    assert [r for r in box.api.requests if r.status in (401, 403)] == []


@pytest.mark.parametrize("folder", [each for each in STATEFULSETS if each != "restore"])
def test_the_examples_in_a_rehearsal(folder: str, couchdiscover: Command, tmp_path: Path) -> None:
    """Their very files, and the Secret and the ConfigMap that a person makes."""
    login = {"COUCHDB_USER": "admin", "COUCHDB_PASSWORD": PASSWORD}
    own = {"COUCHDB_SECRET": "a secret of the test", "COUCHDB_ERLANG_COOKIE": "a-cookie"}
    uuid = {"uuid.ini": f"[couchdb]\nuuid = {'0123456789abcdef' * 2}\n"}
    made = [
        {"kind": "Secret", "metadata": {"name": "couchdb-admin"}, "stringData": login | own},
        {"kind": "ConfigMap", "metadata": {"name": "couchdb-uuid"}, "data": uuid},
    ]
    file = tmp_path / "made.yaml"
    file.write_text(yaml.safe_dump_all([{"apiVersion": "v1", **each} for each in made]))
    files = sorted(map(str, (EXAMPLES / folder).glob("*.yaml")))
    files = [name for name in files if not name.endswith("kustomization.yaml")]
    ended = couchdiscover("demo", "--manifest", str(file), *files, environment={})
    assert ended.code == 0, ended.out + ended.err
    assert "The rehearsal ends with exit code 0." in ended.out
    assert "Succeeded   True" in ended.out


def can_unshare() -> bool:
    command = ["unshare", "--pid", "--fork", "--mount-proc", "true"]
    return (
        shutil.which("unshare") is not None
        and shutil.which("timeout") is not None
        and subprocess.run(command, capture_output=True, check=False).returncode == 0
    )


@pytest.mark.skipif(not can_unshare(), reason="needs Linux and the right to make a pid namespace")
@pytest.mark.parametrize("password", [PASSWORD, "wrong"])
def test_the_hook_says_nothing_to_the_kubelet(sandbox: Make, tmp_path: Path, password: str) -> None:
    """Its very command line, beside a PID 1 that stands for CouchDB: the log is PID 1's output."""
    box = deploy(sandbox, "poststart", find("poststart", "StatefulSet"))
    command = hook(container(find("poststart", "StatefulSet")["spec"]["template"], "couchdb"))
    program = tmp_path / "bin" / "couchdiscover"
    program.parent.mkdir()
    program.write_text(f'#!/bin/sh\nexec {sys.executable} -m couchdiscover "$@"\n')
    program.chmod(0o755)
    log, said = tmp_path / "log", tmp_path / "said"
    inner = f"{shlex.join(command)} >{shlex.quote(str(said))} 2>&1"
    ended = subprocess.run(
        ["unshare", "--pid", "--fork", "--mount-proc", "sh", "-c", f"({inner}); exit $?"],
        env={
            **environment(box, box.pods[0]),
            "COUCHDB_PASSWORD": password,
            "PATH": f"{program.parent}:{os.environ['PATH']}",
        },
        stdout=log.open("w"),
        stderr=subprocess.DEVNULL,
        timeout=60,
        check=False,
    )
    assert ended.returncode == (0 if password == PASSWORD else 5)
    assert said.read_text() == ""
    assert "couchdb-0" in log.read_text()
    assert password not in log.read_text()
