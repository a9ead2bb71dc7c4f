"""The real command against the sandbox: every scenario twice, and the second run writes nothing."""

import signal
import ssl
import threading
import time
from collections.abc import Callable
from typing import Any

import pytest
import requests
import trustme
from requests.auth import HTTPBasicAuth

from couchdiscover.sandbox import Sandbox
from couchdiscover.sandbox.http import Request, Response
from tests.support.boxes import Make, again, changes, counted, finish_by_hand, finishes, put, whole
from tests.support.command import PASSWORD, Command, finish, until_asked, until_said

# --- the main job ---


@pytest.mark.parametrize("style", ["official", "helm", "predecessor"])
@pytest.mark.parametrize("nodes", [1, 3])
def test_a_fresh_set(sandbox: Make, couchdiscover: Command, nodes: int, style: str) -> None:
    box = sandbox(nodes, style=style, statefulset="my-couch")
    ended = couchdiscover("-o", "json", environment=box.environment())
    assert ended.code == 0, ended.err
    result = ended.json
    assert result["result"] == "done"
    assert result["coordinator"] == "my-couch-0"
    assert [entry["pod"] for entry in result["nodes"]] == list(box.pods)
    steps = [step["step"] for step in result["steps"]]
    assert steps == ["add_node"] * (nodes - 1) + ["finish_cluster"]
    assert {c["type"]: c["status"] for c in result["conditions"]} == dict.fromkeys(
        ["Reachable", "Enabled", "Joined", "Connected", "Finished", "Consistent", "Succeeded"],
        "True",
    )
    whole(box)
    again(couchdiscover, box)


@pytest.mark.parametrize("nodes", [3, 5])
def test_the_number_of_requests_is_bounded(
    sandbox: Make, couchdiscover: Command, nodes: int
) -> None:
    """Samples of shard copies are counted apart. News are spread at once: nothing is waited for."""
    box = sandbox(nodes, pace=0.0)
    assert couchdiscover(environment=box.environment()).code == 0
    fresh = len(box.requests())
    again(couchdiscover, box)
    assert len(counted(box.requests()[:fresh])) <= 14 * nodes + 12
    assert len(counted(box.requests()[fresh:])) <= 7 * nodes + 8


def test_the_image_without_a_secret(sandbox: Make, couchdiscover: Command) -> None:
    box = sandbox(3, secret=False)
    ended = couchdiscover("-o", "json", environment=box.environment())
    assert ended.code == 0, ended.err
    assert "set_secret" in [step["step"] for step in ended.json["steps"]]
    whole(box)
    again(couchdiscover, box)


DISABLED = {"bind_address": "127.0.0.1"}


def test_disabled_nodes_are_enabled_first(sandbox: Make, couchdiscover: Command) -> None:
    box = sandbox(3, node_options=DISABLED)
    hashes = {pod: box.node(pod).config.get("admins", "admin") for pod in box.pods}
    ended = couchdiscover("-o", "json", environment=box.environment())
    assert ended.code == 0, ended.err
    steps = [step["step"] for step in ended.json["steps"]]
    assert sorted(steps) == ["add_node"] * 2 + ["enable_node"] * 3 + ["finish_cluster"]
    assert box.node("couchdb-0").config.get("admins", "admin") == hashes["couchdb-0"]
    whole(box)
    again(couchdiscover, box)


def test_a_single_node_that_was_enabled_here_can_be_scaled_up(
    sandbox: Make, couchdiscover: Command
) -> None:
    box = sandbox(1, node_options=DISABLED)
    assert couchdiscover(environment=box.environment()).code == 0
    assert box.node("couchdb-0").state == "cluster_finished"
    box.scale(3)
    ended = couchdiscover(environment=box.environment())
    assert ended.code == 0, ended.err
    whole(box)


def test_a_node_configured_as_a_single_one(sandbox: Make, couchdiscover: Command) -> None:
    box = sandbox(1, node_options={"n": 1})
    ended = couchdiscover("-o", "json", environment=box.environment())
    assert ended.code == 0, ended.err
    assert [step["step"] for step in ended.json["steps"]] == ["enable_single_node"]
    again(couchdiscover, box)
    box.scale(2)
    refused = couchdiscover("-o", "json", environment=box.environment())
    assert refused.code == 6, refused.err
    assert "[cluster] n = 1" in refused.json["message"]


def test_nodes_that_come_up_late(sandbox: Make, couchdiscover: Command) -> None:
    box = sandbox(3, running=False)
    process = couchdiscover.start("-o", "json", environment=box.environment())
    until_asked(box, "/endpointslices")
    for pod in reversed(box.pods):
        time.sleep(0.4)
        box.start(pod)
    ended = finish(process)
    assert ended.code == 0, ended.err
    assert "waiting for couchdb-0" in ended.err
    assert ended.err.count("waiting for couchdb-0") <= 2, "said at each look"
    whole(box)
    again(couchdiscover, box)


def test_a_scale_up_adds_the_new_nodes_and_leaves_the_old_ones(
    sandbox: Make, couchdiscover: Command
) -> None:
    box = sandbox(3)
    assert couchdiscover(environment=box.environment()).code == 0
    before = {pod: len([r for r in changes(box) if r.pod == pod]) for pod in box.pods}
    identity = box.node("couchdb-0").config.get("admins", "admin")
    box.scale(5)
    ended = couchdiscover("-o", "json", environment=box.environment())
    assert ended.code == 0, ended.err
    assert any("no shards on couchdb-3, couchdb-4" in w for w in ended.json["warnings"])
    for pod, count in before.items():
        assert not [r for r in changes(box) if r.pod == pod][count:], pod
    assert box.node("couchdb-0").config.get("admins", "admin") == identity
    whole(box)
    again(couchdiscover, box)


def test_a_scale_up_right_before_finishing_is_seen(sandbox: Make, couchdiscover: Command) -> None:
    """Else the system databases had no copies on the new members, for ever."""
    box = sandbox(2)
    grown = threading.Event()

    async def grow(pod: str, request: Request, proceed: Callable[[], Any]) -> Any:
        import asyncio

        if request.method == "PUT" and not grown.is_set():  # the last member joins
            grown.set()
            await asyncio.to_thread(box.scale, 3)
        return await proceed()

    box.intercept = grow
    ended = couchdiscover("-o", "json", environment=box.environment())
    assert ended.code == 0, ended.err
    steps = [step["step"] for step in ended.json["steps"]]
    assert (steps.count("finish_cluster"), steps[-1]) == (1, "finish_cluster")
    whole(box)
    shards = box.node("couchdb-0").databases.find("_users")
    assert shards is not None
    assert {len(holders) for holders in shards.by_range.values()} == {3}


def test_a_member_of_a_scale_up_is_not_taken_for_one_left_behind(
    sandbox: Make, couchdiscover: Command
) -> None:
    """Added by another run, after the StatefulSet was read and before the nodes are asked."""
    box = sandbox(2)
    assert couchdiscover(environment=box.environment()).code == 0
    grown = threading.Event()

    def add() -> None:
        box.scale(3)
        host, port = box.address("couchdb-2")
        url = f"http://{host}:{port}/_node/_local/_nodes/{box.node('couchdb-0').name}"
        login = HTTPBasicAuth(box.deployment.user.encode(), box.deployment.password.encode())
        assert requests.put(url, json={}, auth=login, timeout=10).ok
        while len(box.node("couchdb-0").members) < 3:
            time.sleep(0.01)
            box.network.settle()

    async def grow(pod: str, request: Request, proceed: Callable[[], Any]) -> Any:
        import asyncio

        if request.path == "/_membership" and not grown.is_set():
            grown.set()
            await asyncio.to_thread(add)
        return await proceed()

    box.intercept = grow
    ended = couchdiscover("-o", "json", environment=box.environment())
    assert ended.code == 0, ended.err
    assert "left behind" not in ended.err
    whole(box)
    steps = [(step["step"], step["node"]) for step in ended.json["steps"]]
    assert steps == [("sync_identity", "couchdb-2")]


def test_a_scale_up_from_one(sandbox: Make, couchdiscover: Command) -> None:
    box = sandbox(1)
    assert couchdiscover(environment=box.environment()).code == 0
    box.scale(3)
    assert couchdiscover(environment=box.environment()).code == 0
    whole(box)
    again(couchdiscover, box)


def test_a_replica_count_that_changes_while_waiting_is_followed(
    sandbox: Make, couchdiscover: Command
) -> None:
    box = sandbox(3)
    box.stop("couchdb-2")
    process = couchdiscover.start(environment=box.environment())
    until_asked(box, "/_membership")
    box.scale(2)
    assert finish(process).code == 0
    whole(box)


def test_members_left_by_a_scale_down_are_named_at_once(
    sandbox: Make, couchdiscover: Command
) -> None:
    box = sandbox(3)
    assert couchdiscover(environment=box.environment()).code == 0
    box.scale(2)
    ended = couchdiscover("-o", "json", environment=box.environment())
    assert ended.code == 3, ended.err
    assert ended.json["result"] == "not_so"
    assert "couchdb-2" in ended.json["message"]
    assert ended.json["elapsed_seconds"] < 30
    for pod in box.pods:  # a pod must be able to start all the same
        own = couchdiscover("-o", "json", environment=box.environment(pod))
        assert own.code == 0, own.err
        assert any("couchdb-2" in warning for warning in own.json["warnings"])


def test_a_pod_that_lost_its_volume_is_added_to_the_others_cluster(
    sandbox: Make, couchdiscover: Command
) -> None:
    box = sandbox(3)
    assert couchdiscover(environment=box.environment()).code == 0
    uuid = box.node("couchdb-1").config.get("couchdb", "uuid")
    before = finishes(box)
    box.wipe("couchdb-0")
    ended = couchdiscover(environment=box.environment())
    assert ended.code == 0, ended.err
    assert finishes(box) == before
    assert box.node("couchdb-0").config.get("couchdb", "uuid") == uuid
    whole(box)
    again(couchdiscover, box)


def test_identity_drift_is_repaired_with_the_majoritys_values(
    sandbox: Make, couchdiscover: Command
) -> None:
    box = sandbox(3)
    assert couchdiscover(environment=box.environment()).code == 0
    hashed = box.node("couchdb-0").config.get("admins", "admin")
    box.node("couchdb-1").restart_as_official_image()
    kept = couchdiscover("--no-repair", "-o", "json", environment=box.environment())
    assert kept.code == 0
    assert any("couchdb-1" in warning for warning in kept.json["warnings"])
    ended = couchdiscover("-o", "json", environment=box.environment())
    assert [step["step"] for step in ended.json["steps"]] == ["sync_identity"]
    assert box.node("couchdb-1").config.get("admins", "admin") == hashed
    whole(box)
    again(couchdiscover, box)


def test_after_a_rolling_restart_no_two_nodes_agree_and_one_gives_its_values(
    sandbox: Make, couchdiscover: Command
) -> None:
    box = sandbox(3, secret=False)
    assert couchdiscover(environment=box.environment()).code == 0
    for pod in box.pods:
        box.node(pod).restart_as_official_image()
    ended = couchdiscover("-o", "json", environment=box.environment())
    assert ended.code == 0, ended.err
    assert any("no majority" in warning for warning in ended.json["warnings"])
    whole(box)
    again(couchdiscover, box)


def test_a_wanted_database_is_made_and_read_everywhere(
    sandbox: Make, couchdiscover: Command
) -> None:
    box = sandbox(3)
    assert couchdiscover("--ensure-db", "first", environment=box.environment()).code == 0
    environment = box.environment() | {"COUCHDISCOVER_ENSURE_DBS": "first,second"}
    ended = couchdiscover("-o", "json", environment=environment)
    assert ended.code == 0, ended.err
    assert [step.get("database") for step in ended.json["steps"]] == ["second"]
    assert couchdiscover("-o", "json", environment=environment).json["steps"] == []


def test_custom_names_ordinals_and_domain(sandbox: Make, couchdiscover: Command) -> None:
    box = sandbox(
        3,
        statefulset="my-couch-db",
        namespace="data",
        service="nodes",
        domain="k8s.example.org",
        ordinals_start=9,
    )
    environment = box.environment() | {"COUCHDISCOVER_CLUSTER_DOMAIN": "k8s.example.org"}
    ended = couchdiscover("-o", "json", environment=environment)
    assert ended.code == 0, ended.err
    assert ended.json["expected"] == ["my-couch-db-9", "my-couch-db-10", "my-couch-db-11"]
    whole(box)


def test_over_https_each_node_is_known_by_its_own_name(
    sandbox: Make, couchdiscover: Command
) -> None:
    authority = trustme.CA()
    names = [f"couchdb-{n}.couchdb.default.svc.cluster.local" for n in range(3)]
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert(*names).configure_cert(context)
    box = sandbox(3, tls=context)
    unknown = couchdiscover("--timeout", "5s", environment=box.environment())
    assert unknown.code == 4
    assert "has a TLS certificate that is not accepted" in unknown.last_line
    ca_file = couchdiscover.folder / "ca.pem"
    authority.cert_pem.write_to_path(str(ca_file))
    ended = couchdiscover("--ca-file", str(ca_file), environment=box.environment())
    assert ended.code == 0, ended.err
    whole(box)
    assert couchdiscover("--insecure-skip-tls-verify", environment=box.environment()).code == 0


# --- looking only ---


def test_a_dry_run_tells_every_step_and_takes_none(sandbox: Make, couchdiscover: Command) -> None:
    box = sandbox(3)
    ended = couchdiscover("--dry-run", "-o", "json", environment=box.environment())
    assert ended.code == 3, ended.err
    steps = [(step["step"], step["node"]) for step in ended.json["steps"]]
    assert steps == [
        ("add_node", "couchdb-1"),
        ("add_node", "couchdb-2"),
        ("finish_cluster", "couchdb-0"),
    ]
    assert box.writes() == []
    assert couchdiscover(environment=box.environment()).code == 0
    assert couchdiscover("--dry-run", environment=box.environment()).code == 0


def test_timeout_0_is_one_look(sandbox: Make, couchdiscover: Command) -> None:
    box = sandbox(3)
    ended = couchdiscover("--timeout", "0", environment=box.environment())
    assert ended.code == 4, ended.err
    assert box.writes() == []
    assert couchdiscover(environment=box.environment()).code == 0
    assert couchdiscover("--timeout=0", environment=box.environment()).code == 0


# --- what goes wrong ---


def test_a_node_that_stays_down_is_named_with_its_reason(
    sandbox: Make, couchdiscover: Command
) -> None:
    box = sandbox(3)
    box.stop("couchdb-1")
    ended = couchdiscover("--timeout", "2s", "-o", "json", environment=box.environment())
    assert ended.code == 4, ended.err
    assert "couchdb-1" in ended.json["message"]
    assert "refuses connections" in ended.json["message"]
    assert "couchdb-2" not in ended.json["message"]
    assert ended.last_line == ended.json["message"]
    assert box.writes() == []


def test_a_wrong_password_is_denied_after_three_tries_at_each_node(
    sandbox: Make, couchdiscover: Command
) -> None:
    box = sandbox(3)
    wrong = {"COUCHDB_USER": "admin", "COUCHDB_PASSWORD": "not it"}
    ended = couchdiscover(environment=box.environment() | wrong)
    assert ended.code == 5, ended.err
    assert "couchdiscover's own COUCHDB_PASSWORD" in ended.err, (
        "the message must say where they came from"
    )
    assert "not it" not in ended.err
    for pod in box.pods:
        assert 1 <= len([r for r in box.node(pod).requests if r.user_ok is False]) <= 3
    assert couchdiscover(environment=box.environment()).code == 0, "the account is not locked"


def test_a_locked_account_is_not_asked_again(sandbox: Make, couchdiscover: Command) -> None:
    box = sandbox(1)
    wrong = {"COUCHDB_USER": "admin", "COUCHDB_PASSWORD": "not it"}
    for _ in range(2):
        couchdiscover(environment=box.environment() | wrong)
    asked = len(box.requests())
    ended = couchdiscover(environment=box.environment())
    assert ended.code == 5
    assert "locked" in ended.err
    assert len(box.requests()) == asked + 1


def test_a_node_on_its_first_boot_may_refuse_the_right_password(
    sandbox: Make, couchdiscover: Command
) -> None:
    box = sandbox(2)
    for pod in box.pods:
        box.node(pod).first_boot_401 = 0.5
        box.wipe(pod)
    ended = couchdiscover(environment=box.environment())
    assert ended.code == 0, ended.err
    whole(box)


def test_two_clusters_are_refused_and_nothing_is_written(
    sandbox: Make, couchdiscover: Command
) -> None:
    box = sandbox(2)
    for pod in box.pods:
        finish_by_hand(box, pod)
        put(box, pod, f"/orders-of-{pod}")
    before = len(box.writes())
    ended = couchdiscover("-o", "json", environment=box.environment())
    assert ended.code == 6, ended.err
    assert "2 clusters" in ended.json["message"]
    assert len(box.writes()) == before
    assert couchdiscover("--dry-run", environment=box.environment()).code == 6


def test_a_node_with_databases_of_its_own_is_not_joined(
    sandbox: Make, couchdiscover: Command
) -> None:
    box = sandbox(2)
    assert couchdiscover(environment=box.environment()).code == 0
    box.scale(3)
    put(box, "couchdb-2", "/orders")
    ended = couchdiscover("-o", "json", environment=box.environment())
    assert ended.code == 6, ended.err
    assert "orders" in ended.json["message"] or "2 clusters" in ended.json["message"]
    assert set(box.node("couchdb-2").members) == {box.node("couchdb-2").name}


def test_a_ghost_in_an_unfinished_cluster_is_refused(sandbox: Make, couchdiscover: Command) -> None:
    box = sandbox(3)
    put(box, "couchdb-0", "/_node/_local/_nodes/couchdb@couchdb-1.couchdb", {})
    before = len(box.writes())
    ended = couchdiscover("-o", "json", environment=box.environment())
    assert ended.code == 6, ended.err
    assert "couchdb@couchdb-1.couchdb" in ended.json["message"]
    assert len(box.writes()) == before


def test_another_cookie_never_connects_and_is_told(sandbox: Make, couchdiscover: Command) -> None:
    box = sandbox(2)
    box.node("couchdb-1").cookie = "another"
    ended = couchdiscover("--timeout", "5s", "-o", "json", environment=box.environment())
    assert ended.code == 4, ended.err
    assert "finish_cluster" not in [step["step"] for step in ended.json["steps"]]
    assert "couchdb-1" in ended.json["message"]
    assert finishes(box) == set()


def test_a_cluster_that_was_finished_too_early_is_completed(
    sandbox: Make, couchdiscover: Command
) -> None:
    box = sandbox(3)
    finish_by_hand(box, "couchdb-0")
    ended = couchdiscover(environment=box.environment())
    assert ended.code == 0, ended.err
    whole(box)
    again(couchdiscover, box)


def test_a_node_that_is_cut_off_from_a_finished_cluster_is_no_success(
    sandbox: Make, couchdiscover: Command
) -> None:
    box = sandbox(3)
    assert couchdiscover(environment=box.environment()).code == 0
    names = [box.node(pod).name for pod in box.pods]
    box.network.cut(names[2], names[0])
    box.network.cut(names[2], names[1])
    assert box.node("couchdb-2").state == "cluster_finished", "it says so all the same"
    ended = couchdiscover("--timeout", "4s", "-o", "json", environment=box.environment())
    assert ended.code == 4, ended.err
    assert "couchdb-2" in ended.json["message"]
    states = {c["type"]: c["status"] for c in ended.json["conditions"]}
    assert (states["Finished"], states["Connected"]) == ("True", "False")


def test_a_line_break_after_the_password_is_left_out_as_in_couchdbs_ini_file(
    sandbox: Make, couchdiscover: Command
) -> None:
    box = sandbox(1, password=PASSWORD + "\n", node_options={"password": PASSWORD})
    ended = couchdiscover("-o", "json", environment=box.environment())
    assert ended.code == 0, ended.err
    assert any("line break" in warning for warning in ended.json["warnings"])


# --- Kubernetes ---


def test_a_statefulset_that_comes_later_is_waited_for(
    sandbox: Make, couchdiscover: Command
) -> None:
    box = sandbox(2)
    spare = box.api.get("StatefulSet", "default", "couchdb")
    box.api.remove("StatefulSet", "default", "couchdb")
    process = couchdiscover.start(environment=box.environment())
    until_asked(box, "/statefulsets/couchdb")
    box.api.put(spare)
    ended = finish(process)
    assert ended.code == 0, ended.err
    assert "statefulsets/couchdb in default does not exist" in ended.err


def test_a_statefulset_that_never_comes_is_named_at_the_deadline(
    sandbox: Make, couchdiscover: Command
) -> None:
    box = sandbox(1)
    environment = box.environment() | {"COUCHDISCOVER_STATEFULSET": "nobody"}
    ended = couchdiscover("--timeout", "1s", "-o", "json", environment=environment)
    assert ended.code == 4
    assert "statefulsets/nobody in default does not exist" in ended.json["message"]


def test_without_the_right_it_is_denied_after_a_while(
    sandbox: Make, couchdiscover: Command
) -> None:
    box = sandbox(1)
    box.api.forbid("get", "statefulsets")
    ended = couchdiscover("-o", "json", environment=box.environment())
    assert ended.code == 5, ended.err
    assert "get statefulsets/couchdb" in ended.json["message"]
    assert "grant" in ended.json["message"]
    assert 8 < ended.json["elapsed_seconds"] < 60


def test_without_slices_and_without_any_endpoints(sandbox: Make, couchdiscover: Command) -> None:
    box = sandbox(3)
    box.api.forbid("list", "endpointslices")
    assert couchdiscover(environment=box.environment()).code == 0
    box.api.forbid("get", "endpoints")
    ended = couchdiscover("--timeout", "1s", "-o", "json", environment=box.environment())
    assert ended.code == 4  # these names resolve nowhere here
    assert any("DNS names" in warning for warning in ended.json["warnings"])
    assert "does not resolve" in ended.json["message"]


def test_the_api_server_may_restart_in_between(sandbox: Make, couchdiscover: Command) -> None:
    box = sandbox(2)
    box.stop("couchdb-1")
    process = couchdiscover.start(environment=box.environment())
    until_asked(box, "/_membership")
    box.stop_api()
    time.sleep(1.5)
    box.start_api()
    box.start("couchdb-1")
    ended = finish(process)
    assert ended.code == 0, ended.err
    whole(box)


def test_a_rotated_token_is_picked_up(sandbox: Make, couchdiscover: Command) -> None:
    box = sandbox(2, token="the first token")
    box.stop("couchdb-1")
    process = couchdiscover.start(environment=box.environment())
    until_asked(box, "/_membership")
    box.api.tokens = {"the second token": next(iter(box.api.tokens.values()))}
    box.write_kubeconfig(token="the second token")
    time.sleep(1.5)
    box.start("couchdb-1")
    ended = finish(process)
    assert ended.code == 0, ended.err
    assert "token" not in ended.out
    for secret in ("the first token", "the second token"):
        assert secret not in ended.err


# --- scope pod ---


@pytest.mark.parametrize("order", [(0, 1, 2), (2, 1, 0), (1, 2, 0)])
def test_one_process_for_each_pod_all_at_once(
    sandbox: Make, couchdiscover: Command, order: tuple[int, ...]
) -> None:
    box = sandbox(3, running=False)
    processes = []
    for ordinal in order:
        pod = f"couchdb-{ordinal}"
        box.start(pod)
        processes.append(couchdiscover.start(environment=box.environment(pod)))
    for process in processes:
        ended = finish(process)
        assert ended.code == 0, ended.err
    whole(box)
    assert finishes(box) == {"couchdb-0"}
    for pod in box.pods:
        again(couchdiscover, box, pod)


def test_ordered_ready_pods_wait_for_no_pod_that_does_not_exist_yet(
    sandbox: Make, couchdiscover: Command
) -> None:
    box = sandbox(3, running=False)
    for pod in box.pods:
        box.delete(pod)  # the controller creates each when the one before is Ready
    for pod in box.pods:
        box.start(pod)
        ended = couchdiscover("--timeout", "20s", environment=box.environment(pod))
        assert ended.code == 0, ended.err
    whole(box)
    assert finishes(box) == {"couchdb-0"}


def test_a_replaced_pod_rejoins_and_takes_the_clusters_identity(
    sandbox: Make, couchdiscover: Command
) -> None:
    box = sandbox(3)
    assert couchdiscover(environment=box.environment()).code == 0
    for pod in box.pods:
        box.wipe(pod)
        ended = couchdiscover(environment=box.environment(pod))
        assert ended.code == 0, ended.err
        whole(box)
    for pod in box.pods:
        box.node(pod).restart_as_official_image()
        ended = couchdiscover(environment=box.environment(pod))
        assert ended.code == 0, ended.err
        whole(box)


def test_a_member_pod_starts_while_all_others_are_down(
    sandbox: Make, couchdiscover: Command
) -> None:
    box = sandbox(3)
    assert couchdiscover(environment=box.environment()).code == 0
    for pod in box.pods[1:]:
        box.stop(pod)
    ended = couchdiscover(
        "-o", "json", "--timeout", "20s", environment=box.environment("couchdb-0")
    )
    assert ended.code == 0, ended.err
    assert any("connected to no other one" in warning for warning in ended.json["warnings"])


def test_a_repair_that_fails_in_a_pod_is_a_warning(sandbox: Make, couchdiscover: Command) -> None:
    box = sandbox(3)
    assert couchdiscover(environment=box.environment()).code == 0
    box.node("couchdb-1").restart_as_official_image()

    async def refuse(pod: str, request: Request, proceed: Callable[[], Any]) -> Any:
        if request.method == "PUT" and "_config" in request.path:
            return Response(500, {"error": "error", "reason": "read-only"})
        return await proceed()

    box.intercept = refuse
    own = couchdiscover("-o", "json", environment=box.environment("couchdb-1"))
    assert own.code == 0, own.err
    assert any("couchdb-1 keeps its own identity" in w for w in own.json["warnings"])
    whole_set = couchdiscover("--timeout", "6s", environment=box.environment())
    assert whole_set.code == 4, whole_set.err
    assert "sync_identity couchdb-1 failed" in whole_set.last_line


def test_a_service_that_hides_pods_is_told(sandbox: Make, couchdiscover: Command) -> None:
    box = sandbox(2, publish_not_ready=False)
    box.stop("couchdb-0")
    environment = box.environment("couchdb-1")
    ended = couchdiscover("--timeout", "1s", "-o", "json", environment=environment)
    assert ended.code == 4, ended.err
    assert "publishNotReadyAddresses" in ended.json["message"]
    assert any("publishNotReadyAddresses" in warning for warning in ended.json["warnings"])


# --- the process ---


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_a_signal_ends_it_at_once(
    sandbox: Make, couchdiscover: Command, number: signal.Signals, code: int
) -> None:
    box = sandbox(2)
    box.stop("couchdb-1")
    process = couchdiscover.start("-o", "json", environment=box.environment())
    until_said(process, "waiting for couchdb-1")
    process.send_signal(number)
    ended = finish(process, seconds=10)
    assert ended.code == code
    assert ended.json["result"] == "interrupted"


def test_a_signal_ends_it_while_a_node_does_not_answer(
    sandbox: Make, couchdiscover: Command
) -> None:
    box = sandbox(1)
    asked = threading.Event()

    async def silence(pod: str, request: Request, proceed: Callable[[], object]) -> Response:
        import asyncio

        asked.set()
        await asyncio.sleep(30)
        return Response(500)

    box.intercept = silence
    process = couchdiscover.start(
        "--kubeconfig", str(box.kubeconfig), environment=box.environment()
    )
    assert asked.wait(20)
    process.send_signal(signal.SIGTERM)
    assert finish(process, seconds=4).code == 143


def test_the_termination_message_is_the_last_line(sandbox: Make, couchdiscover: Command) -> None:
    box = sandbox(2)
    box.stop("couchdb-1")
    path = couchdiscover.folder / "termination"
    ended = couchdiscover(
        "--timeout=1s", "--termination-log", str(path), environment=box.environment()
    )
    assert ended.code == 4
    assert path.read_text() == ended.last_line


def test_no_secret_is_in_any_output_at_debug(sandbox: Make, couchdiscover: Command) -> None:
    box = sandbox(3, secret=False)
    environment = box.environment() | {"COUCHDISCOVER_LOG_LEVEL": "DEBUG"}
    for extra in ({}, {"COUCHDB_USER": "admin", "COUCHDB_PASSWORD": PASSWORD + "x"}):
        for log_format in ("text", "json"):
            ended = couchdiscover("--log-format", log_format, environment=environment | extra)
            for secret in secrets_of(box):
                assert secret not in ended.out + ended.err


def secrets_of(box: Sandbox) -> set[str]:
    """Everything that must not be seen: the password in all its forms, hashes, secrets, cookies."""
    import base64
    import json
    from urllib.parse import quote, quote_plus

    basic = base64.b64encode(f"admin:{PASSWORD}".encode()).decode()
    encoded = base64.b64encode(PASSWORD.encode()).decode()
    found = {PASSWORD, quote(PASSWORD), quote_plus(PASSWORD), basic, encoded}
    found.add(json.dumps(PASSWORD)[1:-1])
    for pod in box.pods:
        node = box.node(pod)
        found |= {str(node.cookie), str(node.config.get("admins", "admin"))}
        found.add(str(node.config.get("chttpd_auth", "secret")))
    return {value for value in found if len(value) > 4}


@pytest.mark.parametrize(
    ("arguments", "variables", "words"),
    [
        (["--container", "nobody"], {}, "no container nobody"),
        (["--size", "0"], {}, "'0' is no number of nodes"),
        ([], {"COUCHDB_CLUSTER_SIZE": "-1"}, "'-1' is no number of nodes"),
        ([], {"COUCHDB_CLUSTER_SIZE": "three"}, "'three' is no number of nodes"),
        (["--timeout", "soon"], {}, "'soon' is no duration"),
        (["--timeout", "x", "--size", "y"], {}, "'y' is no number of nodes; --timeout"),
        (["--statefulset", "../x"], {}, "'../x' is no such name"),
        (["--namespace", "A"], {}, "'A' is no such name"),
        (["--scope", "pod"], {}, "no pod of StatefulSet couchdb"),
        (["--output", "yaml"], {}, "'yaml' is none of"),
        (["--ca-file", "/nowhere"], {}, "there is no file"),
        (["--ensure-db", "UPPER"], {}, "no name for a database"),
        (["--kubeconfig", "/nowhere"], {}, "no kubeconfig at /nowhere"),
        (["--context", "nobody"], {}, "no context 'nobody'"),
        ([], {"COUCHDISCOVER_STATEFULSET": ""}, "name it with --statefulset"),
        ([], {"COUCHDB_USER": "admin", "COUCHDB_PASSWORD": ""}, "is empty"),
        ([], {"COUCHDB_USER": "a", "COUCHDB_PASSWORD_FILE": "/nowhere"}, "cannot be read"),
    ],
)
def test_bad_input_is_exit_2_with_a_sentence(
    sandbox: Make,
    couchdiscover: Command,
    arguments: list[str],
    variables: dict[str, str],
    words: str,
) -> None:
    box = sandbox(1)
    ended = couchdiscover(*arguments, environment=box.environment() | variables)
    assert ended.code == 2, ended.err
    assert words in ended.last_line or all(word in ended.last_line for word in words.split("; "))
    assert box.requests() == []


@pytest.mark.parametrize("content", ["", "{", "[]", "a: b", "null", "clusters: 5", "\x00"])
def test_a_malformed_kubeconfig_is_exit_2(couchdiscover: Command, content: str) -> None:
    path = couchdiscover.folder / "kubeconfig"
    path.write_text(content)
    ended = couchdiscover("-s", "couchdb", "--kubeconfig", str(path), environment={})
    assert ended.code == 2, ended.err
    assert str(path) in ended.last_line


def test_outside_of_a_cluster_and_without_a_kubeconfig(couchdiscover: Command) -> None:
    ended = couchdiscover(environment={})
    assert ended.code == 2
    assert "--kubeconfig" in ended.last_line


def test_bad_objects_are_exit_2_too(sandbox: Make, couchdiscover: Command) -> None:
    box = sandbox(2, style="helm")
    found = box.api.get("StatefulSet", "default", "couchdb")
    secret = next(
        entry["valueFrom"]["secretKeyRef"]["name"]
        for container in found["spec"]["template"]["spec"]["containers"]
        for entry in container.get("env", [])
        if entry["name"] == "COUCHDB_PASSWORD"
    )
    original = box.api.get("Secret", "default", secret)
    box.api.put({key: value for key, value in original.items() if key != "data"})
    ended = couchdiscover(environment=box.environment())
    assert ended.code == 2
    assert f"Secret {secret} has no key" in ended.last_line
    box.api.put(original)
    found["spec"]["replicas"] = -1
    box.api.put(found)
    ended = couchdiscover(environment=box.environment())
    assert ended.code == 2
    assert "-1 replicas" in ended.last_line
