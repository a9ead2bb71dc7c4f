"""``check``: the real command against the sandbox. It changes nothing, and says what is wrong."""

import re
import signal
import threading
import time
from collections.abc import Callable
from typing import Any

import pytest
import requests
from requests.auth import HTTPBasicAuth

from couchdiscover.sandbox import Sandbox
from couchdiscover.sandbox.http import Request, Response
from tests.support.boxes import Make, ask, assembled, counted, finish_by_hand, put
from tests.support.command import Command, finish, until_asked
from tests.support.processes import Ended
from tests.support.terminal import on_a_terminal

SCRATCH = re.compile(r"/couchdiscover-check-[0-9]+-[0-9a-f]{8}(/written-by-couchdiscover)?")


def check(couchdiscover: Command, box: Sandbox, *arguments: str, **variables: str) -> Ended:
    """Runs it, and sees to it that nothing was changed but by --write, and that leaves nothing."""
    before = len(box.requests())
    ended = couchdiscover(
        "check", "-o", "json", *arguments, environment=environment(box, variables)
    )
    for request in box.requests()[before:]:
        if request.is_write:
            session = "api-proxy" in arguments and request.path == "/_session"
            assert session or ("--write" in arguments and SCRATCH.fullmatch(request.path)), request
    assert scratches(box) == []
    if ended.out:
        assert ended.last_line == ended.json["message"]
        assert ended.json["steps"] == []
    return ended


def environment(box: Sandbox, variables: dict[str, str]) -> dict[str, str]:
    return box.environment() | variables


def scratches(box: Sandbox) -> list[str]:
    """The scratch databases that any node knows of."""
    return sorted({n for pod in box.pods for n in box.node(pod).dbs.live if "check" in n})


def statuses(ended: Ended) -> dict[str, str]:
    return {c["type"]: c["status"] for c in ended.json["conditions"]}


def kinds(ended: Ended) -> dict[str, str]:
    return {each["finding"]: each["severity"] for each in ended.json["findings"]}


def shards(box: Sandbox, database: str, change: Callable[[dict[str, Any]], None]) -> None:
    """Changes the shard map of a database by hand, ``by_range``; ``by_node`` must say the same."""
    host, port = box.address("couchdb-0")
    url = f"http://{host}:{port}/_node/_local/_dbs/{database}"
    auth = HTTPBasicAuth(b"admin", box.deployment.password.encode())
    document = requests.get(url, auth=auth, timeout=10).json()
    change(document)
    by_node: dict[str, list[str]] = {}
    for hash_range, holders in document["by_range"].items():
        for holder in holders:
            by_node.setdefault(holder, []).append(hash_range)
    document["by_node"] = by_node
    answer = requests.put(url, json=document, auth=auth, timeout=10)
    assert answer.status_code == 201, answer.text


# --- one look ---


@pytest.mark.parametrize("nodes", [1, 3])
def test_a_whole_cluster(sandbox: Make, couchdiscover: Command, nodes: int) -> None:
    box = assembled(couchdiscover, sandbox(nodes))
    ended = check(couchdiscover, box)
    assert ended.code == 0, ended.err
    assert (ended.json["command"], ended.json["result"]) == ("check", "done")
    assert set(statuses(ended).values()) == {"True"}
    assert (ended.json["findings"], ended.json["warnings"]) == ([], [])


def test_a_set_that_nobody_has_assembled(sandbox: Make, couchdiscover: Command) -> None:
    ended = check(couchdiscover, sandbox(3))
    assert (ended.code, ended.json["result"]) == (3, "not_so")
    found = statuses(ended)
    assert (found["Reachable"], found["Joined"], found["Finished"]) == ("True", "False", "False")
    assert found["Succeeded"] == "False"


def test_a_node_that_is_down(sandbox: Make, couchdiscover: Command) -> None:
    box = assembled(couchdiscover, sandbox(3))
    box.stop("couchdb-1")
    ended = check(couchdiscover, box)
    assert ended.code == 3
    assert "couchdb-1 fails to answer" in ended.json["message"]
    assert "refuses connections" in ended.json["message"]
    found = statuses(ended)
    assert (found["Reachable"], found["Consistent"]) == ("False", "Unknown")


def test_when_no_node_answers_the_other_way_is_named(sandbox: Make, couchdiscover: Command) -> None:
    ended = check(couchdiscover, sandbox(2, running=False))
    assert ended.code == 3
    assert "--via api-proxy" in ended.json["message"]
    inside = check(couchdiscover, sandbox(1, running=False), KUBERNETES_SERVICE_HOST="10.0.0.1")
    assert "--via" not in inside.json["message"]


def test_identity_drift_is_not_whole_but_holds_up_no_application(
    sandbox: Make, couchdiscover: Command
) -> None:
    box = assembled(couchdiscover, sandbox(3))
    box.node("couchdb-1").restart_as_official_image()
    ended = check(couchdiscover, box)
    assert ended.code == 3
    assert statuses(ended)["Consistent"] == "False"
    assert kinds(ended) == {"identity_drift": "fault"}
    assert "couchdb-1" in ended.json["message"]
    waited = check(couchdiscover, box, "--wait")
    assert waited.code == 0, waited.err
    assert kinds(waited) == {"identity_drift": "warning"}
    assert any("couchdb-1 differs" in warning for warning in waited.json["warnings"])


def test_members_left_by_a_scale_down(sandbox: Make, couchdiscover: Command) -> None:
    box = assembled(couchdiscover, sandbox(3))
    gone = box.node("couchdb-2").name
    box.scale(2)
    ended = check(couchdiscover, box)
    assert ended.code == 3
    assert kinds(ended)["left_behind"] == "fault"
    assert gone in ended.json["message"]
    waited = check(couchdiscover, box, "--wait", "--write")
    assert waited.code == 0, waited.err
    assert any(gone in warning for warning in waited.json["warnings"])


def test_a_member_that_is_cut_off_is_told_with_the_likeliest_cause(
    sandbox: Make, couchdiscover: Command
) -> None:
    box = assembled(couchdiscover, sandbox(3))
    names = [box.node(pod).name for pod in box.pods]
    box.network.cut(names[2], names[0])
    box.network.cut(names[2], names[1])
    ended = check(couchdiscover, box)
    assert ended.code == 3
    found = [f for f in ended.json["findings"] if f["finding"] == "cut_off"]
    (last,) = [f for f in found if f["subjects"] == ["couchdb-2"]]
    assert "not connected to couchdb-0, couchdb-1" in last["message"]
    assert "does not resolve" in last["message"]  # these names resolve nowhere here
    assert ended.json["nodes"][2]["problem"] in last["message"]


@pytest.mark.parametrize(("mode", "code"), [("true", 3), ("nolb", 0), ("false", 0)])
def test_maintenance_mode(sandbox: Make, couchdiscover: Command, mode: str, code: int) -> None:
    box = assembled(couchdiscover, sandbox(3))
    box.node("couchdb-1").config.set("couchdb", "maintenance_mode", mode)
    ended = check(couchdiscover, box)
    assert ended.code == code, ended.err
    assert ("maintenance_mode" in kinds(ended)) == (mode != "false")
    ran = couchdiscover("run", environment=box.environment())
    assert ran.code == code, ran.err  # one verdict of both
    assert ("maintenance_mode is on" in ran.err) == (mode == "true")
    own = couchdiscover("run", environment=box.environment(pod="couchdb-1"))
    assert own.code == 0, own.err


def test_numbers_of_copies_and_versions_are_warnings(sandbox: Make, couchdiscover: Command) -> None:
    box = sandbox(3, pod_options={"couchdb-1": {"version": "3.4.2"}})
    assembled(couchdiscover, box)
    for pod in box.pods:
        box.node(pod).config.set("cluster", "n", "2")
    ended = check(couchdiscover, box)
    assert ended.code == 0, ended.err
    assert kinds(ended) == {"copies_setting": "warning", "mixed_versions": "warning"}
    assert any("3.4.2 at couchdb-1" in warning for warning in ended.json["warnings"])
    assert any("[cluster] n is 2" in warning for warning in ended.json["warnings"])


def test_an_erlang_cookie_that_is_not_set(sandbox: Make, couchdiscover: Command) -> None:
    box = assembled(couchdiscover, sandbox(2, cookie=None))
    ended = check(couchdiscover, box)
    assert ended.code == 0
    assert any("COUCHDB_ERLANG_COOKIE" in warning for warning in ended.json["warnings"])


# --- databases ---


def test_system_databases_of_a_cluster_that_was_finished_too_early(
    sandbox: Make, couchdiscover: Command
) -> None:
    """What holds no document gets the copies that it lacks; what does is told of."""
    box = sandbox(3)
    finish_by_hand(box, "couchdb-0")
    user = {"name": "ann", "password": "x", "roles": [], "type": "user"}
    put(box, "couchdb-0", "/_users/org.couchdb.user:ann", user)
    assembled(couchdiscover, box)
    ended = check(couchdiscover, box)
    assert ended.code == 0, ended.err
    (few,) = ended.json["findings"]
    assert (few["finding"], few["severity"]) == ("fewer_copies", "warning")
    assert few["subjects"] == ["_users"]
    assert any("_users: 1 copy" in warning for warning in ended.json["warnings"])


def test_copies_on_names_that_are_no_members_any_more(
    sandbox: Make, couchdiscover: Command
) -> None:
    box = assembled(couchdiscover, sandbox(3))
    put(box, "couchdb-0", "/orders")

    def add(document: dict[str, Any]) -> None:
        for holders in document["by_range"].values():
            holders.append("couchdb@gone")

    shards(box, "orders", add)
    ended = check(couchdiscover, box)
    assert ended.code == 0, ended.err
    assert kinds(ended) == {"copies_on_no_members": "warning"}

    def move(document: dict[str, Any]) -> None:
        document["by_range"] = {key: ["couchdb@gone"] for key in document["by_range"]}

    shards(box, "orders", move)
    ended = check(couchdiscover, box)
    assert ended.code == 3
    assert "orders: no copy on members" in ended.json["message"]


def test_conflicts_of_shard_maps(sandbox: Make, couchdiscover: Command) -> None:
    box = sandbox(2)
    for pod in box.pods:
        finish_by_hand(box, pod)
        put(box, pod, "/same?n=1")
        time.sleep(1.1)  # a database's files are named by the second
    put(box, "couchdb-1", f"/_node/_local/_nodes/{box.node('couchdb-0').name}", {})
    time.sleep(0.5)
    ended = check(couchdiscover, box)
    assert ended.code == 3
    assert kinds(ended)["conflicting_shard_maps"] == "fault"
    (found,) = [f for f in ended.json["findings"] if f["finding"] == "conflicting_shard_maps"]
    assert "same" in found["subjects"]


def test_databases_without_a_shard_on_a_new_node_are_information(
    sandbox: Make, couchdiscover: Command
) -> None:
    box = assembled(couchdiscover, sandbox(3))
    box.scale(4)
    assembled(couchdiscover, box)
    ended = check(couchdiscover, box)
    assert ended.code == 0, ended.err
    assert kinds(ended) == {"no_shards": "info"}
    assert ended.json["findings"][0]["subjects"] == ["couchdb-3"]


def test_a_database_that_was_asked_for(sandbox: Make, couchdiscover: Command) -> None:
    box = assembled(couchdiscover, sandbox(2))
    ended = check(couchdiscover, box, "--ensure-db", "orders")
    assert ended.code == 3
    assert kinds(ended)["database_missing"] == "fault"
    waited = check(couchdiscover, box, "--ensure-db", "orders", "--wait", "--timeout", "4s")
    assert waited.code == 4
    assert "orders" in waited.json["message"] or "ensure_db" in waited.json["message"]
    put(box, "couchdb-0", "/orders")
    assert check(couchdiscover, box, "--ensure-db", "orders", "--wait").code == 0


def test_what_cannot_be_read_is_no_good_news(sandbox: Make, couchdiscover: Command) -> None:
    box = assembled(couchdiscover, sandbox(2))

    async def refuse(pod: str, request: Request, proceed: Callable[[], Any]) -> Any:
        if "_dbs" in request.path:
            return Response(500, {"error": "badarg", "reason": "odd"})
        return await proceed()

    box.intercept = refuse
    ended = check(couchdiscover, box)
    assert ended.code == 3
    assert "shard maps could not be looked at" in ended.json["message"]


def test_reading_stays_cheap_with_a_thousand_databases(
    sandbox: Make, couchdiscover: Command
) -> None:
    box = assembled(couchdiscover, sandbox(3))
    node = box.node("couchdb-0")
    for number in range(1000):
        node.databases.create(f"db-{number}", props=True)
    box.network.settle()
    before = len(box.requests())
    ended = check(couchdiscover, box)
    assert ended.code == 0, ended.err
    asked = box.requests()[before:]
    assert len([r for r in asked if r.path.endswith("/_dbs/_all_docs")]) <= 6
    assert len(counted(asked)) <= 7 * 3 + 8


# --- refusals and denials ---


def test_a_refusals_hazard(sandbox: Make, couchdiscover: Command) -> None:
    box = sandbox(2)
    for pod in box.pods:
        put(box, pod, f"/orders-of-{pod}")
    for arguments in ([], ["--wait"], ["--write"]):
        ended = check(couchdiscover, box, *arguments)
        assert ended.code == 6, ended.err
        assert "2 clusters" in ended.json["message"]
        assert not [r for r in box.writes() if SCRATCH.fullmatch(r.path)]


def test_wrong_credentials_are_sent_once(sandbox: Make, couchdiscover: Command) -> None:
    box = assembled(couchdiscover, sandbox(2))
    before = len(box.requests())
    wrong = {"COUCHDB_USER": "admin", "COUCHDB_PASSWORD": "not it"}
    ended = check(couchdiscover, box, **wrong)
    assert (ended.code, ended.json["result"]) == (5, "denied")
    assert len(box.requests()) == before + 2


def test_kubernetes_denies(sandbox: Make, couchdiscover: Command) -> None:
    box = sandbox(1)
    box.api.forbid("get", "statefulsets")
    started = time.monotonic()
    ended = check(couchdiscover, box)
    assert ended.code == 5
    assert "get statefulsets/couchdb" in ended.json["message"]
    assert time.monotonic() - started < 8, "one look does not wait"


def test_a_statefulset_that_is_not_there(sandbox: Make, couchdiscover: Command) -> None:
    box = sandbox(1)
    ended = check(couchdiscover, box, "-s", "nobody")
    assert ended.code == 3
    assert "statefulsets/nobody in default does not exist" in ended.json["message"]
    assert set(statuses(ended).values()) == {"Unknown", "False"}
    waited = check(couchdiscover, box, "-s", "nobody", "--wait", "--timeout", "1s")
    assert waited.code == 4


@pytest.mark.parametrize(
    "arguments",
    [["--scope", "pod"], ["--no-repair"], ["--dry-run"], ["--via", "tunnel"], ["--timeout", "x"]],
)
def test_usage(sandbox: Make, couchdiscover: Command, arguments: list[str]) -> None:
    ended = couchdiscover("check", *arguments, environment=sandbox(1).environment())
    assert ended.code == 2


# --- waiting ---


def test_an_application_waits_for_the_cluster(sandbox: Make, couchdiscover: Command) -> None:
    box = sandbox(3)
    process = couchdiscover.start("check", "--wait", "--write", environment=box.environment())
    until_asked(box, "/_membership")
    assert process.poll() is None
    assert couchdiscover(environment=box.environment()).code == 0
    ended = finish(process)
    assert ended.code == 0, ended.err
    assert "run` has still to do: add_node couchdb-1; add_node couchdb-2" in ended.err
    assert scratches(box) == []


def test_at_the_deadline_it_names_who_was_waited_for(sandbox: Make, couchdiscover: Command) -> None:
    box = assembled(couchdiscover, sandbox(3))
    box.stop("couchdb-1")
    ended = check(couchdiscover, box, "--wait", "--timeout", "1s")
    assert (ended.code, ended.json["result"]) == (4, "timed_out")
    assert "timed out after 1 s: waiting for couchdb-1 to answer" in ended.json["message"]
    assert "couchdb-2" not in ended.json["message"]
    assert ended.err.count("waiting for couchdb-1") <= 2


# --- writing ---


def test_a_document_is_written_through_one_and_read_through_every_other(
    sandbox: Make, couchdiscover: Command
) -> None:
    box = assembled(couchdiscover, sandbox(3))
    before = len(box.requests())
    ended = check(couchdiscover, box, "--write")
    assert ended.code == 0, ended.err
    assert "read through every other" in ended.json["message"]
    asked = [r for r in box.requests()[before:] if SCRATCH.fullmatch(r.path)]
    assert [(r.pod, r.method) for r in asked if r.is_write] == [
        ("couchdb-0", "PUT"),
        ("couchdb-0", "PUT"),
        ("couchdb-0", "DELETE"),
    ]
    readers = {r.pod for r in asked if r.method == "GET" and r.status == 200}
    assert readers == {"couchdb-1", "couchdb-2"}
    made = re.findall(r"check-([0-9]+)-", asked[0].path)
    assert abs(time.time() - int(made[0])) < 60


def test_nothing_is_written_to_a_cluster_that_is_not_whole(
    sandbox: Make, couchdiscover: Command
) -> None:
    box = sandbox(2)
    ended = check(couchdiscover, box, "--write")
    assert ended.code == 3
    assert box.writes() == []
    assert any("nothing was written" in warning for warning in ended.json["warnings"])


def test_nothing_is_written_where_a_finding_is_a_fault(
    sandbox: Make, couchdiscover: Command
) -> None:
    """Though all its members are there, connected and finished."""
    box = assembled(couchdiscover, sandbox(3))
    box.node("couchdb-1").config.set("couchdb", "maintenance_mode", "true")
    before = len(box.writes())
    ended = check(couchdiscover, box, "--write")
    assert ended.code == 3
    assert kinds(ended)["maintenance_mode"] == "fault"
    assert box.writes()[before:] == []
    assert any("nothing was written" in warning for warning in ended.json["warnings"])


@pytest.mark.parametrize("step", ["database", "document", "read"])
def test_it_is_removed_also_when_something_fails(
    sandbox: Make, couchdiscover: Command, step: str
) -> None:
    box = assembled(couchdiscover, sandbox(3))

    async def refuse(pod: str, request: Request, proceed: Callable[[], Any]) -> Any:
        document = request.path.endswith("/written-by-couchdiscover")
        scratch = request.path.startswith("/couchdiscover-check-")
        fails = {
            "database": scratch and not document and request.method == "PUT",
            "document": document and request.method == "PUT",
            "read": document and request.method == "GET" and pod == "couchdb-2",
        }[step]
        answer = await proceed() if step == "database" or not fails else None
        return Response(500, {"error": "no", "reason": "odd"}) if fails else answer

    box.intercept = refuse
    ended = check(couchdiscover, box, "--write", "--request-timeout", "1s")
    assert ended.code == 3, ended.err
    assert kinds(ended) == {"write_failed": "fault"}
    culprit = "couchdb-2" if step == "read" else "couchdb-0"
    assert f"{culprit} fails to" in ended.json["message"]
    waited = check(
        couchdiscover, box, "--write", "--wait", "--timeout", "3s", "--request-timeout", "1s"
    )
    assert waited.code == 4
    assert culprit in waited.json["message"]


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
@pytest.mark.parametrize("moment", ["making", "reading"])
def test_it_is_removed_also_on_a_signal(
    sandbox: Make, couchdiscover: Command, number: signal.Signals, code: int, moment: str
) -> None:
    box = assembled(couchdiscover, sandbox(2))
    reached = threading.Event()

    async def stall(pod: str, request: Request, proceed: Callable[[], Any]) -> Any:
        import asyncio

        if request.path.startswith("/couchdiscover-check-"):
            document = request.path.count("/") == 2
            making = request.method == "PUT" and not document
            if (making and moment == "making") or (request.method == "GET" and moment == "reading"):
                answer = await proceed()
                reached.set()
                await asyncio.sleep(3)
                return answer
        return await proceed()

    box.intercept = stall
    process = couchdiscover.start("check", "--write", environment=box.environment())
    assert reached.wait(20)
    assert scratches(box)
    process.send_signal(number)
    ended = finish(process, seconds=10)
    assert ended.code == code, ended.err
    assert scratches(box) == []


def test_what_a_killed_check_has_left_behind_is_removed_by_the_next(
    sandbox: Make, couchdiscover: Command
) -> None:
    box = assembled(couchdiscover, sandbox(2))
    now = int(time.time())
    old, young = (f"couchdiscover-check-{now - age}-0123abcd" for age in (3700, 60))
    others = ["couchdiscover-check-1-mine", "couchdiscover-check-list", "orders"]
    for name in (old, young, *others):
        put(box, "couchdb-0", f"/{name}")
    ended = couchdiscover("check", environment=box.environment())
    assert ended.code == 0
    assert old in box.node("couchdb-0").dbs.live, "without --write nothing is removed"
    ended = couchdiscover("check", "--write", environment=box.environment())
    assert ended.code == 0, ended.err
    assert old in ended.err
    left = box.node("couchdb-1").dbs.live
    assert old not in left
    assert {young, *others} <= left


@pytest.mark.parametrize("status", [401, 403, 500])
def test_a_test_database_that_cannot_be_removed_is_named(
    sandbox: Make, couchdiscover: Command, status: int
) -> None:
    """By a proxy that lets no DELETE pass, or by a role that is only half an administrator's."""
    box = assembled(couchdiscover, sandbox(2))

    async def keep(pod: str, request: Request, proceed: Callable[[], Any]) -> Any:
        if request.method == "DELETE":
            return Response(status, {"error": "no", "reason": "odd"})
        return await proceed()

    box.intercept = keep
    ended = couchdiscover("check", "--write", environment=box.environment())
    assert ended.code == 0, ended.err
    assert f"{scratches(box)[0]} is left behind" in ended.err
    assert str(status) in ended.err


# --- through the API server ---


def test_from_outside_the_cluster(sandbox: Make, couchdiscover: Command) -> None:
    box = assembled(couchdiscover, sandbox(3, token="a token of the test"))
    before = len(box.requests())
    ended = check(couchdiscover, box, "--via", "api-proxy", "--write")
    assert ended.code == 0, ended.err
    asked = list(box.requests()[before:])
    assert all("authorization" not in r.request.headers for r in asked)
    assert {r.pod for r in asked if r.path == "/_session"} == set(box.pods)
    for secret in ("a token of the test", "AuthSession"):
        assert secret not in ended.err + ended.out


def test_plan_from_outside_the_cluster(sandbox: Make, couchdiscover: Command) -> None:
    box = sandbox(3)
    ended = couchdiscover("plan", "--via=api-proxy", "-o", "json", environment=box.environment())
    assert ended.code == 3, ended.err
    assert [s["step"] for s in ended.json["steps"]] == ["add_node", "add_node", "finish_cluster"]
    assert {r.path for r in box.writes()} == {"/_session"}


def test_a_whole_set_has_no_plan_from_outside_the_cluster(
    sandbox: Make, couchdiscover: Command
) -> None:
    """No file's name gets through the proxy: volumes that are marked are taken at that."""
    box = assembled(couchdiscover, sandbox(3, token="a token of the test"))
    before = len(box.requests())
    ended = couchdiscover("plan", "--via=api-proxy", "-o", "json", environment=box.environment())
    assert (ended.code, ended.json["steps"]) == (0, []), ended.err
    assert not [r.path for r in box.requests()[before:] if "shards" in r.path]
    box.replace("couchdb-1", data=False)
    ended = couchdiscover("plan", "--via=api-proxy", "-o", "json", environment=box.environment())
    assert ended.code == 3, ended.out


def test_a_node_without_a_secret_is_not_logged_in_to(sandbox: Make, couchdiscover: Command) -> None:
    box = sandbox(2, secret=False)
    for command in ("check", "plan"):
        ended = couchdiscover(command, "--via", "api-proxy", environment=box.environment())
        assert ended.code == 2
        for word in ("kubectl port-forward", "Job", "COUCHDB_SECRET"):
            assert word in ended.last_line
    assert box.requests() == []


def test_the_proxys_own_refusals(sandbox: Make, couchdiscover: Command) -> None:
    box = assembled(couchdiscover, sandbox(2))
    box.stop("couchdb-1")
    ended = check(couchdiscover, box, "--via", "api-proxy")
    assert ended.code == 3
    assert "couchdb-1 fails to answer" in ended.json["message"]
    assert "503" in ended.json["message"]
    box.api.remove("Pod", "default", "couchdb-1")
    ended = check(couchdiscover, box, "--via", "api-proxy")
    assert "its pod does not exist" in ended.json["message"]
    box.api.forbid("*", "pods/proxy")
    ended = check(couchdiscover, box, "--via", "api-proxy")
    assert ended.code == 5
    assert "pods/proxy" in ended.json["message"]
    assert "grant" in ended.json["message"]


def test_a_wrong_password_through_the_proxy(sandbox: Make, couchdiscover: Command) -> None:
    box = assembled(couchdiscover, sandbox(2))
    wrong = {"COUCHDB_USER": "admin", "COUCHDB_PASSWORD": "not it"}
    ended = check(couchdiscover, box, "--via", "api-proxy", **wrong)
    assert ended.code == 5
    assert "couchdiscover's own COUCHDB_PASSWORD" in ended.json["message"]
    assert "not it" not in ended.out + ended.err


def test_a_node_that_is_restarted_while_waiting_is_logged_in_to_again(
    sandbox: Make, couchdiscover: Command
) -> None:
    box = sandbox(2)
    process = couchdiscover.start(
        "check", "--wait", "--via", "api-proxy", environment=box.environment()
    )
    until_asked(box, "/_membership")
    for pod in box.pods:
        box.node(pod).restart_as_official_image()
    time.sleep(1)
    assert couchdiscover(environment=box.environment()).code == 0
    ended = finish(process)
    assert ended.code == 0, ended.err


# --- for people ---


def test_the_table(sandbox: Make, couchdiscover: Command) -> None:
    box = assembled(couchdiscover, sandbox(3))
    box.stop("couchdb-2")
    box.node("couchdb-1").restart_as_official_image()
    ended = couchdiscover("check", environment=box.environment())
    lines = ended.out.splitlines()
    assert lines[0].split() == ["NODE", "ADDRESS", "STATE", "MEMBERS", "VERSION", "NAME"]
    assert [line.split()[0] for line in lines[1:4]] == box.pods
    assert lines[3].endswith("refuses connections")
    assert lines[5].split() == ["CONDITION", "STATUS", "MESSAGE"]
    assert [line.split()[:2] for line in lines[6:8]] == [
        ["Reachable", "False"],
        ["Enabled", "Unknown"],
    ]
    assert any(line.startswith("fault: ") for line in lines)
    assert lines[-2].startswith("the cluster is not whole: ")
    assert re.fullmatch(r"see https://\S+/docs/exit-codes\.md#3", lines[-1])
    assert "\x1b" not in ended.out


@pytest.mark.parametrize(
    ("variables", "coloured"), [({}, True), ({"NO_COLOR": "1"}, False), ({"TERM": "dumb"}, False)]
)
def test_colours_are_for_terminals(
    sandbox: Make, couchdiscover: Command, variables: dict[str, str], coloured: bool
) -> None:
    box = assembled(couchdiscover, sandbox(1))
    base = {"PATH": "/usr/bin:/bin", "HOME": str(couchdiscover.folder), "TERM": "xterm"}
    code, shown = on_a_terminal({**base, **box.environment(), **variables}, "check")
    assert code == 0, shown
    assert ("\x1b[32mReachable" in shown) == coloured


def test_help_tells_the_options(couchdiscover: Command) -> None:
    ended = couchdiscover("check", "--help", environment={})
    for option in ("--wait", "--write", "--via"):
        assert option in ended.out
    for option in ("--scope", "--repair", "--dry-run"):
        assert option not in ended.out


# --- real nodes too ---


def test_on_any_nodes(any_sandbox: Make, couchdiscover: Command) -> None:
    box = any_sandbox(3)
    assert couchdiscover(environment=box.environment()).code == 0
    for arguments in (
        ["check"],
        ["check", "--wait", "--write"],
        ["check", "--write", "--via", "api-proxy"],
    ):
        ended = couchdiscover(*arguments, "-o", "json", environment=box.environment())
        assert ended.code == 0, ended.err
        proxied = {"copies_not_compared": "info"} if "api-proxy" in arguments else {}
        assert kinds(ended) == proxied
    box.restart("couchdb-1")
    ended = couchdiscover("check", "-o", "json", environment=box.environment())
    assert (ended.code, kinds(ended)) == (3, {"identity_drift": "fault"}), ended.err


def test_joined_clusters_on_any_nodes(any_sandbox: Make, couchdiscover: Command) -> None:
    box = any_sandbox(2)
    for pod in box.pods:
        ask(box, pod, "/_cluster_setup", "POST", {"action": "finish_cluster"})
        time.sleep(1.1)
    name = box.nodes["couchdb-0"].name
    ask(box, "couchdb-1", f"/_node/_local/_nodes/{name}", "PUT", {})
    time.sleep(1.5)
    ended = couchdiscover("check", "-o", "json", environment=box.environment())
    assert ended.code == 3, ended.err
    found = {f["finding"]: f["subjects"] for f in ended.json["findings"]}
    assert found["conflicting_shard_maps"] == ["_replicator", "_users"]
    assert found["fewer_copies"] == ["_replicator", "_users"]
