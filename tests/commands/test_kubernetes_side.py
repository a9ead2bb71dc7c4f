"""The real command where Kubernetes' side is not as it should be."""

import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from couchdiscover.sandbox import Sandbox
from tests.support.command import PASSWORD, Command, finish, until_asked

Make = Callable[..., Sandbox]


def edit(box: Sandbox, kind: str, name: str, change: Callable[[dict[str, Any]], object]) -> None:
    found = box.api.get(kind, "default", name)
    change(found)
    box.api.put(found)


def template(found: dict[str, Any]) -> dict[str, Any]:
    spec: dict[str, Any] = found["spec"]["template"]["spec"]
    return spec


def with_plugin(box: Sandbox, folder: Path, *lines: str) -> dict[str, str]:
    """The environment of a command whose kubeconfig names a credential plugin."""
    script = folder / "plugin"
    script.write_text("\n".join(["#!/bin/sh", f"echo x >> {folder}/runs", *lines]))
    script.chmod(0o700)
    found = json.loads(box.kubeconfig.read_text())
    found["users"][0]["user"] = {
        "exec": {"apiVersion": "client.authentication.k8s.io/v1", "command": str(script)}
    }
    path = folder / "with-plugin"
    path.write_text(json.dumps(found))
    return box.environment() | {"KUBECONFIG": str(path)}


def issues(token: str) -> str:
    answer = {
        "apiVersion": "client.authentication.k8s.io/v1",
        "kind": "ExecCredential",
        "status": {"token": token},
    }
    return f"cat <<'END'\n{json.dumps(answer)}\nEND"


# --- credential plugins -----------------------------------------------------------------------


def test_a_plugin_is_run_once_for_all_that_is_asked(
    sandbox: Make, couchdiscover: Command, tmp_path: Path
) -> None:
    token = "a token of the test"
    box = sandbox(3, token=token)
    environment = with_plugin(box, tmp_path, issues(token))
    assert couchdiscover(environment=environment).code == 0
    ended = couchdiscover("check", "--via", "api-proxy", environment=environment)
    assert ended.code == 0, ended.err
    assert (tmp_path / "runs").read_text().split() == ["x"] * 2  # once a command
    assert token not in ended.out + ended.err


def test_a_plugin_that_fails_is_5_at_once(
    sandbox: Make, couchdiscover: Command, tmp_path: Path
) -> None:
    box = sandbox(1, token="x")
    environment = with_plugin(box, tmp_path, "echo 'your session has expired' >&2", "exit 1")
    for command in ("run", "check"):
        ended = couchdiscover(command, environment=environment)
        assert ended.code == 5
        assert "failed (1): your session has expired" in ended.last_line


def test_a_plugin_that_hangs_ends_with_the_deadline(
    sandbox: Make, couchdiscover: Command, tmp_path: Path
) -> None:
    box = sandbox(1, token="x")
    environment = with_plugin(box, tmp_path, "exec sleep 300")
    ended = couchdiscover("--timeout", "2s", "-o", "json", environment=environment)
    assert ended.code == 4
    assert "for authentication did not end within" in ended.json["message"]
    assert ended.json["elapsed_seconds"] < 30


# --- what is missing --------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["Secret", "StatefulSet"])
def test_what_is_missing_is_asked_for_once_a_second(
    sandbox: Make, couchdiscover: Command, kind: str
) -> None:
    box = sandbox(1)
    name = "couchdb-admin" if kind == "Secret" else "couchdb"
    box.api.remove(kind, "default", name)
    ended = couchdiscover("--timeout", "4s", "-o", "json", environment=box.environment())
    assert ended.code == 4
    assert f"{kind.lower()}s/{name} in default does not exist" in ended.json["message"]
    seconds = ended.json["elapsed_seconds"]
    paths = [request.path for request in box.api.requests]
    assert 3 <= sum(path.endswith(f"/{name}") for path in paths) <= seconds + 1
    assert len(paths) <= seconds + 5  # what else is read once: a Deployment in its place, say


def test_a_secret_that_comes_later_is_waited_for(sandbox: Make, couchdiscover: Command) -> None:
    box = sandbox(2)
    spare = box.api.get("Secret", "default", "couchdb-admin")
    box.api.remove("Secret", "default", "couchdb-admin")
    process = couchdiscover.start(environment=box.environment())
    until_asked(box, "/secrets/couchdb-admin")
    box.api.put(spare)
    ended = finish(process)
    assert ended.code == 0, ended.err


def test_a_deployment_in_the_place_of_the_statefulset(
    sandbox: Make, couchdiscover: Command
) -> None:
    box = sandbox(1)
    box.api.remove("StatefulSet", "default", "couchdb")
    box.api.put({"kind": "Deployment", "metadata": {"name": "couchdb"}, "spec": {}})
    ended = couchdiscover("--timeout", "1s", environment=box.environment())
    assert ended.code == 4
    assert "a Deployment of that name does: couchdiscover is for the pods of a StatefulSet" in (
        ended.last_line
    )
    box.api.forbid("get", "deployments")
    ended = couchdiscover("--timeout", "1s", environment=box.environment())
    assert ended.code == 4
    assert "a Deployment of that name" not in ended.last_line


def test_denials_with_an_outage_between_them_do_not_add_up(
    sandbox: Make, couchdiscover: Command
) -> None:
    box = sandbox(1)
    box.api.forbid("get", "statefulsets")
    process = couchdiscover.start("--timeout", "60s", "-o", "json", environment=box.environment())
    until_asked(box, "/statefulsets/couchdb")
    box.stop_api()
    time.sleep(10.5)
    box.start_api()
    seen = len(box.api.requests)
    while len(box.api.requests) < seen + 2:  # denied again, and not for good
        assert process.poll() is None
        time.sleep(0.05)
    box.api.allow("get", "statefulsets")
    ended = finish(process)
    assert ended.code == 0, ended.err


# --- what cannot be right ---------------------------------------------------------------------


def test_a_plain_init_container_is_told_at_once(sandbox: Make, couchdiscover: Command) -> None:
    box = sandbox(2)
    init = {"name": "couchdiscover", "image": "couchdiscover:1", "args": ["run"]}
    edit(box, "StatefulSet", "couchdb", lambda s: template(s).update(initContainers=[init]))
    ended = couchdiscover(environment=box.environment("couchdb-0"))
    assert ended.code == 2
    for way in ("restartPolicy: Always", "postStart", "a Job"):
        assert way in ended.last_line
    assert box.requests() == []
    assert couchdiscover(environment=box.environment()).code == 0  # from elsewhere it works


def test_to_repair_from_a_pod_that_is_none(sandbox: Make, couchdiscover: Command) -> None:
    box = sandbox(2)
    ended = couchdiscover("--repair-from", "couchdb-7", environment=box.environment())
    assert ended.code == 2
    assert "--repair-from couchdb-7: that is none of the 2 nodes" in ended.last_line
    assert box.writes() == []


def test_no_new_cluster_is_for_scope_set(sandbox: Make, couchdiscover: Command) -> None:
    box = sandbox(1)
    environment = box.environment("couchdb-0") | {"COUCHDISCOVER_CLUSTER_STATE": "existing"}
    ended = couchdiscover(environment=environment)
    assert ended.code == 2
    assert "--cluster-state existing is for --scope set" in ended.last_line
    assert box.requests() == []


def test_a_hash_in_place_of_a_password_is_never_tried(
    sandbox: Make, couchdiscover: Command
) -> None:
    hashed = "-pbkdf2:sha256-" + "0123456789abcdef" * 4 + ",89abcdef01234567,600000"
    box = sandbox(1, password=hashed)
    ended = couchdiscover(environment=box.environment())
    assert ended.code == 2
    assert "is a hash (-pbkdf2:…)" in ended.last_line
    assert "COUCHDB_PASSWORD" in ended.last_line
    assert "0123456789abcdef" not in ended.out + ended.err
    assert box.requests() == []
    own = {"COUCHDB_USER": "admin", "COUCHDB_PASSWORD": hashed}
    assert couchdiscover(environment=box.environment() | own).code == 2


def test_the_administrator_next_door_is_named(sandbox: Make, couchdiscover: Command) -> None:
    box = sandbox(1)

    def move(found: dict[str, Any]) -> None:
        spec = template(found)
        (couchdb,) = spec["containers"]
        names = ("COUCHDB_USER", "COUCHDB_PASSWORD")
        moved = [entry for entry in couchdb["env"] if entry["name"] in names]
        couchdb["env"] = [entry for entry in couchdb["env"] if entry not in moved]
        spec["containers"].append({"name": "set-up", "image": "curl", "env": moved})

    edit(box, "StatefulSet", "couchdb", move)
    ended = couchdiscover(environment=box.environment())
    assert ended.code == 2
    assert (
        "container set-up has COUCHDB_USER from Secret couchdb-admin, COUCHDB_PASSWORD from Secret "
        "couchdb-admin"
    ) in ended.last_line


# --- ports --------------------------------------------------------------------------------------


def test_a_distribution_port_is_not_asked_for_http(sandbox: Make, couchdiscover: Command) -> None:
    box = sandbox(1)
    address, port = box.address("couchdb-0")
    (part,) = box.api.find("EndpointSlice", "default")
    part["ports"] = [{"name": "epmd", "port": 4369}, {"name": "dist", "port": 9100}]
    box.api.put(part)
    ended = couchdiscover(environment=box.environment())
    assert ended.code == 0, ended.err
    assert f"{address}:{port}" in ended.err  # the container's own


def test_a_service_called_couchdiscover_gives_no_port(
    sandbox: Make, couchdiscover: Command
) -> None:
    box = sandbox(1)
    link = {"COUCHDISCOVER_PORT": "tcp://10.96.0.7:80"}
    assert couchdiscover(environment=box.environment() | link).code == 0


# --- rights -----------------------------------------------------------------------------------


def test_from_outside_the_secret_of_sessions_need_not_be_read(
    sandbox: Make, couchdiscover: Command
) -> None:
    box = sandbox(2)
    assert couchdiscover(environment=box.environment()).code == 0
    box.api.forbid("get", "secrets")
    own = {"COUCHDB_USER": "admin", "COUCHDB_PASSWORD": PASSWORD}
    ended = couchdiscover("check", "--via", "api-proxy", environment=box.environment() | own)
    assert ended.code == 0, ended.err
    assert not any("/secrets/" in request.path for request in box.api.requests[-20:])


def test_pods_of_an_older_revision_are_not_logged_in_to_from_outside(
    sandbox: Make, couchdiscover: Command
) -> None:
    box = sandbox(2)
    assert couchdiscover(environment=box.environment()).code == 0
    before = len(box.requests())
    edit(box, "StatefulSet", "couchdb", lambda s: s["status"].update(updatedReplicas=1))
    ended = couchdiscover("check", "--via", "api-proxy", environment=box.environment())
    assert ended.code == 3
    assert "may still run an older revision" in ended.last_line
    assert len(box.requests()) == before


def test_the_examples_rights_are_enough_and_services_are_not_needed(
    sandbox: Make, couchdiscover: Command
) -> None:
    box = sandbox(2)
    for resource in ("services", "deployments"):
        box.api.forbid("*", resource)
    assert couchdiscover(environment=box.environment()).code == 0
