"""Bad days: what can be lost, hidden or wrongly called done, each with its smallest situation."""

import asyncio
import functools
import threading
import time
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from couchdiscover.sandbox import Sandbox
from couchdiscover.sandbox.box import API, Proceed
from couchdiscover.sandbox.http import Request, Response, Wire
from tests.support.bad_days import (
    ANN,
    DEAD,
    QUICK,
    USER,
    apart,
    check,
    comes,
    kinds,
    meddle,
    not_running,
    readable,
    rolling,
    run,
    steps,
)
from tests.support.boxes import (
    Make,
    again,
    aged,
    ask,
    asked,
    assembled,
    changes,
    finish_by_hand,
    finishes,
    forget_member,
    held_by,
    put,
    whole,
)
from tests.support.command import Command, finish, until_said
from tests.support.releases import SIMULATED
from tests.support.volumes import up_for


@pytest.fixture(
    params=[
        SIMULATED[0],
        *(pytest.param(older, marks=pytest.mark.proof) for older in SIMULATED[1:]),
    ]
)
def sandbox(request: pytest.FixtureRequest, sandbox: Make) -> Make:
    """Of every version that is supported; the older ones are among the proofs."""
    return functools.partial(sandbox, version=request.param)


# --- volumes that were lost (0) ---------------------------------------------------------------


def test_a_lost_volume_is_not_verified_before_its_copies_are(
    sandbox: Make, couchdiscover: Command
) -> None:
    box = assembled(couchdiscover, sandbox(3))
    put(box, "couchdb-0", "/orders")
    for number in range(6):
        put(box, "couchdb-0", f"/orders/order-{number}", {"number": number})
    box.hold_filling("couchdb-1", 1)
    box.lose_volume("couchdb-1")
    ended = run(couchdiscover, box, "--timeout", "12s")
    assert ended.code == 4, ended.err
    assert "its volume was lost" in ended.json["message"]
    assert "couchdb-1" in ended.json["message"]
    found = check(couchdiscover, box)
    assert (found.code, kinds(found)["volume_lost"]) == (3, "fault"), found.err
    process = couchdiscover.start("-o", "json", environment=box.environment())
    until_said(process, "waiting for couchdb-1 to have its copies again")
    box.release_filling("couchdb-1")
    ended = finish(process)
    assert ended.code == 0, ended.err
    whole(box)
    again(couchdiscover, box)
    assert check(couchdiscover, box).code == 0


# --- pods that cannot start, clusters that split (1 to 10) ------------------------------------


def test_1_all_pods_were_gone_and_come_back_one_by_one(
    sandbox: Make, couchdiscover: Command
) -> None:
    """The first of them cannot open the databases, whose copies are on the others."""
    box = assembled(couchdiscover, sandbox(4, node_options={"n": 2}))
    before = len(changes(box))
    not_running(box, *box.pods)
    comes(box, "couchdb-0")
    assert box.node("couchdb-0").state == "cluster_enabled"
    first = run(couchdiscover, box, "--timeout", "20s", pod="couchdb-0")
    assert first.code == 0, first.err
    assert any("cannot open" in warning for warning in first.json["warnings"])
    for pod in box.pods[1:]:
        comes(box, pod)
        ended = run(couchdiscover, box, "--timeout", "20s", pod=pod)
        assert ended.code == 0, ended.err
    assert changes(box)[before:] == []
    whole(box)


def test_2_a_fresh_first_pod_waits_for_peers_that_may_hold_a_cluster(
    sandbox: Make, couchdiscover: Command
) -> None:
    box = assembled(couchdiscover, sandbox(3))
    apart(box, "couchdb-0")
    box.lose_volume("couchdb-0")
    back = threading.Event()
    meddle(
        box,
        lambda pod, request: (
            Wire(reset=True) if pod not in (API, "couchdb-0") and not back.is_set() else None
        ),
    )
    finished = finishes(box)
    process = couchdiscover.start("-o", "json", environment=box.environment("couchdb-0"))
    until_said(process, "waiting for couchdb-1 to answer")
    for pod in box.pods[1:]:
        box.network.heal(box.node("couchdb-0").name, box.node(pod).name)
    back.set()
    ended = finish(process)
    assert ended.code == 0, ended.err
    assert finishes(box) == finished
    assert set(box.node("couchdb-0").members) == {box.node(pod).name for pod in box.pods}


def test_2_at_the_deadline_it_goes_on_and_says_what_it_could_not_see(
    sandbox: Make, couchdiscover: Command
) -> None:
    box = assembled(couchdiscover, sandbox(3))
    apart(box, "couchdb-0")
    box.lose_volume("couchdb-0")
    meddle(box, lambda pod, request: Wire(reset=True) if pod not in (API, "couchdb-0") else None)
    before = len(box.writes())
    ended = run(couchdiscover, box, *QUICK, pod="couchdb-0")
    assert ended.code == 0, ended.err
    (warning,) = [w for w in ended.json["warnings"] if "could not see" in w]
    assert "couchdb-1" in warning
    assert "couchdb-2" in warning
    assert box.writes()[before:] == []
    other = run(couchdiscover, box, *QUICK, pod="couchdb-1")
    assert other.code == 4, "only the lowest ordinal may go on"


def test_2_a_refused_login_is_no_missing_cluster(sandbox: Make, couchdiscover: Command) -> None:
    box = sandbox(2, pod_options={"couchdb-1": {"password": "another"}})
    ended = run(couchdiscover, box, "--timeout", "10s", pod="couchdb-0")
    assert ended.code == 5, ended.err
    assert "couchdb-1" in ended.json["message"]
    assert box.writes() == []


def test_3_a_removed_member_to_which_maps_are_pushed_is_no_cluster_of_its_own(
    sandbox: Make, couchdiscover: Command
) -> None:
    """CouchDB 3.4 and 3.3 do so: it reports a finished cluster, and holds nothing."""
    box = assembled(couchdiscover, sandbox(3, node_options={"version": "3.4.3"}))
    box.stop("couchdb-2")
    forget_member(box, "couchdb-0", box.node("couchdb-2").name)
    while len(ask(box, "couchdb-1", "/_membership")["cluster_nodes"]) > 2:
        time.sleep(0.05)
    for number in range(3):
        put(box, "couchdb-0", f"/orders-{number}")
    box.lose_volume("couchdb-2")
    box.start("couchdb-2")
    box.node("couchdb-2").dbs.absorb(box.node("couchdb-0").dbs)
    assert box.node("couchdb-2").state == "cluster_finished"
    ended = run(couchdiscover, box)
    assert ended.code == 0, ended.err
    assert "add_node" in steps(ended)
    whole(box)


def test_4_a_coordinator_whose_databases_are_hidden_is_not_taken_for_empty(
    sandbox: Make, couchdiscover: Command
) -> None:
    box = sandbox(2)
    finish_by_hand(box, "couchdb-0")
    put(box, "couchdb-0", ANN, USER)
    put(box, "couchdb-1", "/_users")
    box.node("couchdb-0").config.set("couchdb", "maintenance_mode", "true")
    for pod in (None, "couchdb-1"):
        ended = run(couchdiscover, box, *QUICK, pod=pod)
        assert ended.code == 6, ended.err
        assert set(box.node("couchdb-1").members) == {box.node("couchdb-1").name}
    box.node("couchdb-0").config.set("couchdb", "maintenance_mode", "false")
    assert readable(box, "couchdb-0", ANN)


def test_4_what_cannot_be_read_is_waited_for_and_named(
    sandbox: Make, couchdiscover: Command
) -> None:
    box = sandbox(2)
    finish_by_hand(box, "couchdb-0")
    put(box, "couchdb-0", ANN, USER)
    put(box, "couchdb-1", "/_users")
    before = len(box.writes())
    meddle(
        box,
        lambda pod, request: (
            Response(500, {"error": "badarg", "reason": "odd"})
            if pod == "couchdb-0" and "/_dbs/_all_docs" in request.path
            else None
        ),
    )
    ended = run(couchdiscover, box, *QUICK)
    assert ended.code == 4, ended.err
    message = ended.json["message"]
    assert "to tell what couchdb-0 holds" in message or "couchdb-0 to tell what it" in message
    assert box.writes()[before:] == []


def test_5_a_secret_in_the_old_section_is_taken_over(sandbox: Make, couchdiscover: Command) -> None:
    old = {"couch_httpd_auth": {"secret": "of-the-old-section"}}
    box = sandbox(3, secret=False, node_options={"ini": old})
    ended = run(couchdiscover, box)
    assert ended.code == 0, ended.err
    assert steps(ended).count("set_secret") == 1
    whole(box)
    secret = box.node("couchdb-2").config.get("chttpd_auth", "secret")
    assert secret == "of-the-old-section"
    again(couchdiscover, box)


def test_5_a_finished_cluster_with_a_secret_in_the_old_section_alone(
    sandbox: Make, couchdiscover: Command
) -> None:
    """Grown from 3.1 and before: CouchDB goes by it, and a session makes no other one."""
    box = assembled(couchdiscover, sandbox(3))
    for pod in box.pods:
        config = box.node(pod).config
        config.delete("chttpd_auth", "secret")
        config.set("couch_httpd_auth", "secret", "of-the-old-section")
    ended = run(couchdiscover, box)
    assert ended.code == 0, ended.err
    again(couchdiscover, box)
    assert check(couchdiscover, box).code == 0


def stale(box: Sandbox, ordinal: int, other: int, fresh: Callable[[], bool]) -> None:
    """One pod's address is published as another's, as long as the slices are behind."""

    async def intercept(pod: str, request: Request, proceed: Proceed) -> Response | Wire:
        answer = await proceed()
        if pod != API or "/endpointslices" not in request.path or fresh():
            return answer
        assert isinstance(answer, Response)
        mine, theirs = (box.address(f"couchdb-{n}")[0] for n in (ordinal, other))
        text = answer.encode().decode()
        body = text.partition("\r\n\r\n")[2].replace(f'"{mine}"', f'"{theirs}"')
        return Response(200, body.encode(), {"content-type": "application/json"})

    box.intercept = intercept


def test_6_an_address_that_is_another_pods_by_now_is_waited_out(
    sandbox: Make, couchdiscover: Command
) -> None:
    box = sandbox(3)
    fresh = threading.Event()
    stale(box, 1, 2, fresh.is_set)
    process = couchdiscover.start("-o", "json", environment=box.environment())
    until_said(process, "waiting for couchdb-1 to be published at an address of its own")
    assert box.writes() == []
    fresh.set()
    ended = finish(process)
    assert ended.code == 0, ended.err
    whole(box)


def test_6_the_own_pod_is_asked_at_its_own_address(sandbox: Make, couchdiscover: Command) -> None:
    box = sandbox(2)
    assert run(couchdiscover, box, "--size", "1").code == 0
    stale(box, 1, 0, lambda: False)
    ended = run(couchdiscover, box, "--timeout", "10s", pod="couchdb-1")
    assert ended.code == 0, ended.err
    assert box.node("couchdb-0").name in box.node("couchdb-1").members


def test_7_a_seedlist_of_pods_that_do_not_exist_yet(sandbox: Make, couchdiscover: Command) -> None:
    names = tuple(f"couchdb@couchdb-{n}.couchdb.default.svc.cluster.local" for n in range(3))
    box = sandbox(3, running=False, node_options={"seedlist": names})
    for pod in box.pods:
        box.delete(pod)
    for pod in box.pods:
        box.start(pod)
        ended = run(couchdiscover, box, "--timeout", "20s", pod=pod)
        assert ended.code == 0, ended.err
    whole(box)
    assert finishes(box) == {"couchdb-0"}


def test_8_of_two_clusters_the_majoritys_pods_go_on(sandbox: Make, couchdiscover: Command) -> None:
    box = assembled(couchdiscover, sandbox(2))
    box.scale(3)
    finish_by_hand(box, "couchdb-2")
    put(box, "couchdb-2", "/orders")
    before = len(changes(box))
    ended = run(couchdiscover, box, pod="couchdb-0")
    assert ended.code == 0, ended.err
    assert any("2 clusters" in warning for warning in ended.json["warnings"])
    for pod in ("couchdb-2", None):
        ended = run(couchdiscover, box, pod=pod)
        assert ended.code == 6, ended.err
        assert "2 clusters" in ended.json["message"]
    assert changes(box)[before:] == []


def test_9_a_lower_ordinal_that_refuses_the_login_is_not_finished_over(
    sandbox: Make, couchdiscover: Command
) -> None:
    box = sandbox(3, pod_options={"couchdb-0": {"password": "another"}})
    for pod, other in (("couchdb-1", 0), ("couchdb-2", 0), ("couchdb-2", 1)):
        asked(box, pod, f"/_node/_local/_nodes/{box.node(f'couchdb-{other}').name}", "PUT", {})
    time.sleep(0.3)
    assert {len(box.node(pod).members) for pod in box.pods} == {3}
    before = len(changes(box))
    for whose in ("couchdb-1", "couchdb-2", None):
        ended = run(couchdiscover, box, *QUICK, pod=whose)
        assert ended.code in (4, 5), ended.err
    assert changes(box)[before:] == []


@pytest.mark.parametrize("finished", [True, False])
def test_10_members_of_another_statefulset_are_left_alone(
    sandbox: Make, couchdiscover: Command, finished: bool
) -> None:
    box = sandbox(2)
    other = sandbox(1, statefulset="zone-b", beside=box)
    name = other.node("zone-b-0").name
    if finished:
        assembled(couchdiscover, box)
    put(box, "couchdb-0", f"/_node/_local/_nodes/{name}", {})
    time.sleep(0.3)
    ended = run(couchdiscover, box)
    assert ended.code == 0, ended.err
    assert any(name in warning for warning in ended.json["warnings"])
    assert "delete" not in ended.out
    assert name in box.node("couchdb-1").members
    found = check(couchdiscover, box)
    assert found.code == 0, found.err
    assert kinds(found)["elsewhere"] == "info"


@pytest.mark.parametrize("pod", [None, "couchdb-1"])
def test_all_in_maintenance_mode_are_not_taken_for_unfinished(
    sandbox: Make, couchdiscover: Command, pod: str | None
) -> None:
    """No copy of _users and _replicator is read then, and ``_all_dbs`` is 412."""
    box = assembled(couchdiscover, sandbox(3))
    before = len(changes(box))
    for each in box.pods:
        box.node(each).config.set("couchdb", "maintenance_mode", "true")
    ended = run(couchdiscover, box, *QUICK, pod=pod)
    assert ended.code == (4 if pod is None else 0), ended.err
    told = [ended.json["message"], *ended.json["warnings"]]
    assert any("open _users" in text for text in told)
    assert changes(box)[before:] == []
    for each in box.pods:
        box.node(each).config.set("couchdb", "maintenance_mode", "false")
    again(couchdiscover, box)


@pytest.mark.parametrize("pod", [None, "couchdb-0", "couchdb-1"])
def test_a_configuration_that_cannot_be_read_keeps_no_pod_from_starting(
    sandbox: Make, couchdiscover: Command, pod: str | None
) -> None:
    box = assembled(couchdiscover, sandbox(3))
    before = len(changes(box))
    meddle(
        box,
        lambda pod, request: (
            Response(500, {"error": "badarg", "reason": "odd"})
            if pod == "couchdb-1" and "_config" in request.path
            else None
        ),
    )
    ended = run(couchdiscover, box, *QUICK, pod=pod)
    assert ended.code == (4 if pod is None else 0), ended.err
    told = [ended.json["message"], *ended.json["warnings"]]
    known = any("couchdb-1" in text and "its configuration" in text for text in told)
    assert known is (pod != "couchdb-0")
    assert changes(box)[before:] == []


@pytest.mark.parametrize("command", ["run", "plan", "check"])
def test_a_couchdb_that_is_too_old_is_told_at_once(
    sandbox: Make, couchdiscover: Command, command: str
) -> None:
    box = sandbox(2, node_options={"version": "2.3.1"})
    ended = couchdiscover(command, "-o", "json", environment=box.environment())
    assert ended.code == 2, ended.err
    assert "couchdb-0 runs CouchDB 2.3.1" in ended.json["message"]
    assert "3.3 or newer is needed" in ended.json["message"]
    assert box.writes() == []


def test_where_the_service_is_not_there_no_first_pod_goes_on_alone(
    sandbox: Make, couchdiscover: Command
) -> None:
    """Nothing is published then: that says nothing about who else runs."""
    box = sandbox(3)
    box.api.remove("Service", "default", "couchdb")
    for kind in ("EndpointSlice", "Endpoints"):
        for found in list(box.api.find(kind, "default")):
            box.api.remove(kind, "default", found["metadata"]["name"])
    ended = run(couchdiscover, box, *QUICK, pod="couchdb-0")
    assert ended.code == 4, ended.err
    assert "Service couchdb (spec.serviceName) is not there" in ended.json["message"]
    assert box.writes() == []


# --- identity and credentials (12 to 19) ------------------------------------------------------


def rotated(couchdiscover: Command, box: Sandbox, pod: str) -> Sandbox:
    """COUCHDB_SECRET was changed, and one pod has been restarted since."""
    assembled(couchdiscover, box)
    box.node(pod).config.set("chttpd_auth", "secret", "the-new-secret")
    return box


def test_12_a_rotated_secret_is_not_undone(sandbox: Make, couchdiscover: Command) -> None:
    box = rotated(couchdiscover, sandbox(3, node_options={"version": "3.4.3"}), "couchdb-2")
    before = len(box.writes())
    own = run(couchdiscover, box, pod="couchdb-2")
    assert own.code == 0, own.err
    assert any("secret that its environment sets" in w for w in own.json["warnings"])
    ended = run(couchdiscover, box)
    assert ended.code == 3, ended.err
    assert "kubectl rollout restart statefulset/couchdb" in ended.json["message"]
    written = [r for r in changes(box, before) if r.path != "/_session"]
    assert written == []
    assert box.node("couchdb-2").config.secret == "the-new-secret"
    assert kinds(check(couchdiscover, box))["secrets_differ"] == "fault"


def test_13_a_hash_of_another_scheme_is_left_alone(sandbox: Make, couchdiscover: Command) -> None:
    box = assembled(couchdiscover, sandbox(3))
    node = box.node("couchdb-1")
    newer = "pbkdf2:sha256" in node.config.sections["admins"]["admin"]
    scheme = "pbkdf2" if newer else "pbkdf2:sha256"
    other = f"-{scheme}-5eb63bbbe01eeed093cb22bb8f5acdc3,0123456789abcdef,10"
    meddle(
        box,
        lambda pod, request: (
            Response(200, {**node.config.sections, "admins": {"admin": other}}, dict(SERVER))
            if pod == "couchdb-1" and request.path == "/_node/_local/_config"
            else None
        ),
    )
    before = len(changes(box))
    ended = run(couchdiscover, box)
    assert ended.code == 0, ended.err
    (warning,) = [w for w in ended.json["warnings"] if "password hashes" in w]
    assert "couchdb-1" in warning
    assert "of another scheme" in warning
    assert [r for r in changes(box)[before:] if r.path != "/_session"] == []


def test_13_a_fresh_set_of_mixed_versions_locks_nobody_out(
    sandbox: Make, couchdiscover: Command
) -> None:
    box = sandbox(3, pod_options={"couchdb-1": {"version": "3.3.3"}})
    ended = run(couchdiscover, box, "--timeout", "10s")
    assert ended.code == 0, ended.err
    for pod in box.pods:
        assert readable(box, pod, "/_node/_local"), f"the right password is refused at {pod}"


SERVER = {"server": "CouchDB/3.3.3 (Erlang OTP/25)"}


def test_14_repair_from_a_pod_that_is_none_or_silent(sandbox: Make, couchdiscover: Command) -> None:
    box = assembled(couchdiscover, sandbox(3))
    box.node("couchdb-1").config.set("couchdb", "uuid", "b" * 32)
    before = len(changes(box))
    mistaken = run(couchdiscover, box, "--repair-from", "couchdb-11")
    assert mistaken.code == 2, mistaken.err
    assert "couchdb-11" in mistaken.json["message"]
    box.stop("couchdb-2")
    silent = run(couchdiscover, box, *QUICK, "--repair-from", "couchdb-2")
    assert silent.code == 4, silent.err
    own = run(couchdiscover, box, *QUICK, "--repair-from", "couchdb-2", pod="couchdb-1")
    assert own.code == 0, own.err
    assert changes(box)[before:] == []
    assert any("couchdb-2" in warning for warning in own.json["warnings"])


@pytest.mark.parametrize("pod", [None, "couchdb-1"])
def test_15_other_administrators_come_back_to_a_restarted_node(
    sandbox: Make, couchdiscover: Command, pod: str | None
) -> None:
    box = assembled(couchdiscover, sandbox(3))
    first = str(box.node("couchdb-0").config.get("admins", "admin"))  # a hash is as good as another
    for each in box.pods:
        box.node(each).config.set("admins", "second", first)
    box.node("couchdb-1").restart_as_official_image()
    assert box.node("couchdb-1").config.get("admins", "second") is None
    found = check(couchdiscover, box)
    (drift,) = [f for f in found.json["findings"] if f["finding"] == "identity_drift"]
    assert (found.code, "admins/second" in drift["message"]) == (3, True)
    ended = run(couchdiscover, box, pod=pod)
    assert ended.code == 0, ended.err
    assert box.node("couchdb-1").config.get("admins", "second") == first
    assert check(couchdiscover, box).code == 0


def test_17_that_couchdb_logs_a_secret_that_is_repaired_is_said_once(
    sandbox: Make, couchdiscover: Command
) -> None:
    old = {"version": "3.4.3"}  # since 3.5.2 nodes take each other's sessions
    box = assembled(couchdiscover, sandbox(3, secret=False, node_options=old))
    for pod, secret in zip(box.pods, ("same", "same", "another-one"), strict=True):
        box.node(pod).config.set("chttpd_auth", "secret", secret)
    ended = run(couchdiscover, box)
    assert ended.code == 0, ended.err
    told = [w for w in ended.json["warnings"] if "to its own log, in clear" in w]
    assert len(told) == 1, ended.json["warnings"]
    again(couchdiscover, box)


@pytest.mark.parametrize(
    ("status", "words"), [(403, "no administrator"), (401, "authentication_handlers")]
)
def test_16_you_are_not_a_server_admin(
    sandbox: Make, couchdiscover: Command, status: int, words: str
) -> None:
    box = sandbox(1)
    answer = {"error": "unauthorized", "reason": "You are not a server admin."}
    meddle(box, lambda pod, request: Response(status, answer) if pod != API else None)
    ended = run(couchdiscover, box)
    assert ended.code == 5, ended.err
    assert words in ended.json["message"]
    assert "locked" not in ended.json["message"]


def test_19_a_check_that_waits_for_a_new_password_locks_nobody_out(
    sandbox: Make, couchdiscover: Command
) -> None:
    box = assembled(couchdiscover, sandbox(2))
    rolling(box)
    wrong = {"COUCHDB_USER": "admin", "COUCHDB_PASSWORD": "of yesterday"}
    ended = couchdiscover(
        "check", "--wait", "--timeout", "8s", environment=box.environment() | wrong
    )
    assert ended.code == 4, ended.err
    for pod in box.pods:
        assert 1 <= len([r for r in box.node(pod).requests if r.user_ok is False]) <= 3
    assert check(couchdiscover, box).code == 0, "the account is not locked"


# --- seen on real pods (26), and what is said (35) --------------------------------------------


def test_26_a_job_repairs_nothing_while_a_rollout_is_under_way(
    sandbox: Make, couchdiscover: Command
) -> None:
    box = assembled(couchdiscover, sandbox(3))
    box.node("couchdb-1").config.set("couchdb", "uuid", "b" * 32)
    before = len(changes(box))
    rolling(box)
    process = couchdiscover.start("-o", "json", environment=box.environment())
    until_said(process, "rollout of StatefulSet couchdb to end")
    assert changes(box)[before:] == []
    rolling(box, under_way=False)
    ended = finish(process)
    assert ended.code == 0, ended.err
    whole(box)


def test_35_one_look_makes_no_uuid(sandbox: Make, couchdiscover: Command) -> None:
    box = assembled(couchdiscover, sandbox(3))
    for pod in box.pods:
        box.node(pod).config.delete("couchdb", "uuid")
    before = len(box.requests())
    for command in (["run", "--timeout", "0"], ["plan"], ["check"]):
        couchdiscover(*command, environment=box.environment())
    assert "/" not in [request.path for request in box.requests()[before:]]
    assert run(couchdiscover, box).code == 0
    whole(box)


def test_35_a_plan_warns_of_all_that_the_run_warns_of(
    sandbox: Make, couchdiscover: Command
) -> None:
    box = assembled(couchdiscover, sandbox(3, secret=False, cookie=None))
    box.scale(4)
    for pod, uuid in zip(box.pods, "abcd", strict=True):
        box.node(pod).config.set("couchdb", "uuid", uuid * 32)
    plan = couchdiscover("plan", "-o", "json", environment=box.environment())
    ended = run(couchdiscover, box)
    assert ended.code == 0, ended.err
    assert any("no shards on couchdb-3" in warning for warning in ended.json["warnings"])
    assert any("no majority" in warning for warning in ended.json["warnings"])
    assert set(plan.json["warnings"]) == set(ended.json["warnings"])


# --- found by the proofs ----------------------------------------------------------------------


def test_a_lone_pod_starts_again_while_the_set_is_being_scaled_up(
    sandbox: Make, couchdiscover: Command
) -> None:
    """Nobody is there yet that its identity could differ from."""
    box = assembled(couchdiscover, sandbox(1))
    box.scale(2)
    ended = run(couchdiscover, box, *QUICK, pod="couchdb-0")
    assert ended.code == 0, ended.err
    ended = run(couchdiscover, box, pod="couchdb-1")
    assert ended.code == 0, ended.err
    whole(box)


# --- from the field ---------------------------------------------------------------------------


@pytest.mark.parametrize("pod", [None, "couchdb-0", "couchdb-1"])
def test_two_nodes_that_share_a_dead_name_are_two_clusters(
    sandbox: Make, couchdiscover: Command, pod: str | None
) -> None:
    box = sandbox(2)
    for each in box.pods:
        for database in ("_users", "_replicator", "orders"):
            put(box, each, f"/{database}")
        put(box, each, ANN, USER)
        put(box, each, f"/orders/of-{each}", {"pod": each})
        put(box, each, f"/_node/_local/_nodes/{DEAD}", {})
        time.sleep(1.1)  # a database's files are named by the second
    before = len(box.writes())
    ended = run(couchdiscover, box, *QUICK, pod=pod)
    assert ended.code == 6, ended.err
    assert "2 clusters" in ended.json["message"]
    assert box.writes()[before:] == []
    for each in box.pods:
        assert readable(box, each, f"/orders/of-{each}")
        assert set(box.node(each).members) == {box.node(each).name, DEAD}


def two_that_share_a_dead_name(box: Sandbox) -> None:
    """Each a finished cluster of its own, with documents, that lists somebody who is gone."""
    for each in box.pods[:2]:
        finish_by_hand(box, each)
        put(box, each, "/orders")
        put(box, each, f"/orders/of-{each}", {"pod": each})
        put(box, each, f"/_node/_local/_nodes/{DEAD}", {})
        time.sleep(1.1)  # a database's files are named by the second


def nothing_hidden(box: Sandbox) -> None:
    for each in box.pods[:2]:
        assert readable(box, each, f"/orders/of-{each}"), each


@pytest.mark.parametrize("pod", [None, "couchdb-0", "couchdb-1", "couchdb-2"])
def test_a_dead_name_in_common_has_no_third_pod_join_either_side(
    sandbox: Make, couchdiscover: Command, pod: str | None
) -> None:
    box = sandbox(3)
    two_that_share_a_dead_name(box)
    before = len(changes(box))
    ended = run(couchdiscover, box, *QUICK, pod=pod)
    assert ended.code == 6, ended.err
    assert changes(box)[before:] == []
    nothing_hidden(box)


@pytest.mark.parametrize("pod", [None, "couchdb-1", "couchdb-2"])
def test_while_one_side_is_silent_nobody_is_joined_to_it_by_a_dead_name(
    sandbox: Make, couchdiscover: Command, pod: str | None
) -> None:
    """A fresh node may join the side that answers, which is a cluster for it."""
    box = sandbox(3)
    two_that_share_a_dead_name(box)
    box.stop("couchdb-0")
    ended = run(couchdiscover, box, *QUICK, pod=pod)
    assert ended.code == (4 if pod is None else 0), ended.err
    box.start("couchdb-0")
    for other in ("couchdb-1", "couchdb-2"):
        assert box.node("couchdb-0").name not in box.node(other).members
    assert run(couchdiscover, box, *QUICK).code == 6
    nothing_hidden(box)


@pytest.mark.parametrize("pod", [None, "couchdb-0", "couchdb-1"])
@pytest.mark.parametrize("lister", [0, 1])
def test_two_clusters_are_not_introduced_to_each_other(
    sandbox: Make, couchdiscover: Command, pod: str | None, lister: int
) -> None:
    """One lists the other, which was told of nobody: no write makes that both-sided."""
    box = sandbox(2)
    apart(box, "couchdb-0")
    two_that_share_a_dead_name(box)
    one, other = f"couchdb-{lister}", f"couchdb-{1 - lister}"
    put(box, one, f"/_node/_local/_nodes/{box.node(other).name}", {})
    before = len(changes(box))
    ended = run(couchdiscover, box, "--timeout", "5s", pod=pod)
    assert ended.code in ((6,) if pod is None else (0, 4, 6)), ended.err
    assert changes(box)[before:] == []
    assert set(box.node(other).members) == {box.node(other).name, DEAD}
    nothing_hidden(box)


@pytest.mark.parametrize("pod", [None, "couchdb-1"])
def test_a_fresh_node_that_lists_a_dead_name_is_joined_all_the_same(
    sandbox: Make, couchdiscover: Command, pod: str | None
) -> None:
    box = assembled(couchdiscover, sandbox(1))
    box.scale(2)
    put(box, "couchdb-1", f"/_node/_local/_nodes/{DEAD}", {})
    ended = run(couchdiscover, box, pod=pod)
    assert ended.code == (3 if pod is None else 0), ended.err
    assert "add_node" in steps(ended)
    told = [ended.json["message"], *ended.json["warnings"]]
    assert any(DEAD in text and "left behind" in text for text in told)
    assert box.node("couchdb-1").state == "cluster_finished"


@pytest.mark.parametrize("pod", [None, "couchdb-2"])
def test_another_job_that_finishes_in_the_same_moment_leaves_no_drift(
    sandbox: Make, couchdiscover: Command, pod: str | None
) -> None:
    """Through two nodes at once: each pushes its own hash over the others."""
    box = sandbox(3)
    for joining in ("couchdb-1", "couchdb-2"):
        put(box, joining, f"/_node/_local/_nodes/{box.node('couchdb-0').name}", {})
    other, late = threading.Event(), pod or "couchdb-1"

    async def meanwhile(pod: str, request: Request, proceed: Proceed) -> Response | Wire:
        ours = pod == "couchdb-0" and request.method == "POST" and "setup" in request.path
        theirs = box.node("couchdb-1").config.get("admins", "admin")
        answer = await proceed()
        if ours and not other.is_set():  # what couchdb-1 took before, and writes a little later
            other.set()
            box.node(late).config.set("admins", "admin", str(theirs))
        return answer

    box.intercept = meanwhile
    ended = run(couchdiscover, box, pod=pod)
    assert ended.code == 0, ended.err
    assert "sync_identity" in steps(ended)
    whole(box)
    assert check(couchdiscover, box).code == 0


def test_a_blank_database_on_one_pod_is_joined_and_gets_its_copies(
    sandbox: Make, couchdiscover: Command
) -> None:
    box = sandbox(3)
    put(box, "couchdb-1", "/_users")
    ended = run(couchdiscover, box)
    assert ended.code == 0, ended.err
    whole(box)
    found = check(couchdiscover, box)
    assert (found.code, found.json["findings"]) == (0, []), found.err
    again(couchdiscover, box)


@pytest.mark.parametrize("databases", [["_users"], ["_users", "_replicator"]])
def test_blank_databases_made_on_each_are_refused_with_their_cause(
    sandbox: Make, couchdiscover: Command, databases: list[str]
) -> None:
    box = sandbox(3)
    for pod in box.pods:
        for name in databases:
            put(box, pod, f"/{name}")
    for whose in (None, "couchdb-2"):
        ended = run(couchdiscover, box, *QUICK, pod=whose)
        assert ended.code == 6, ended.err
        assert f"have {', '.join(sorted(databases))} each, made apart" in ended.json["message"]
        assert "empty volume" not in ended.json["message"]


def test_an_old_volume_that_comes_back_is_not_called_verified(
    sandbox: Make, couchdiscover: Command
) -> None:
    """The map of a database was made anew meanwhile: CouchDB merges the two at boot."""
    box = assembled(couchdiscover, sandbox(3))
    put(box, "couchdb-0", "/orders")
    old = box.volume("couchdb-2")
    box.stop("couchdb-2")
    document = ask(box, "couchdb-0", "/_node/_local/_dbs/orders")
    ask(box, "couchdb-0", f"/_node/_local/_dbs/orders?rev={document['_rev']}", "DELETE")
    time.sleep(1.1)
    put(box, "couchdb-0", "/orders")
    box.restore("couchdb-2", conflicting(old))
    box.start("couchdb-2")
    time.sleep(0.5)
    assert "_conflicts" in ask(box, "couchdb-0", "/_node/_local/_dbs/orders?conflicts=true")
    ended = run(couchdiscover, box, *QUICK)
    found = check(couchdiscover, box)
    assert (ended.code, found.code) == (3, 3), ended.err
    assert "orders" in ended.json["message"]
    assert kinds(found)["conflicting_shard_maps"] == "fault"
    own = run(couchdiscover, box, *QUICK, pod="couchdb-2")
    assert own.code == 0, "a pod must be able to start"
    assert any("orders" in warning for warning in own.json["warnings"])


def conflicting(volume: Any) -> Any:
    """The volume with an edit of its own of the map of ``orders``."""
    from couchdiscover.sandbox.couchdb.documents import edit

    old = volume.dbs.get("orders")
    volume.dbs.put(edit(old, "orders", {**old.winner.body, "edited": True}, old.winner.name))
    return volume


def test_a_scale_up_from_one_is_called_whole_by_both(sandbox: Make, couchdiscover: Command) -> None:
    box = assembled(couchdiscover, sandbox(1))
    put(box, "couchdb-0", ANN, USER)
    box.scale(3)
    ended = run(couchdiscover, box)
    found = check(couchdiscover, box)
    assert (ended.code, found.code) == (0, 0), found.err
    assert kinds(found) == {"fewer_copies": "warning"}
    for pod in box.pods:
        assert readable(box, pod, ANN)


def test_a_scale_up_from_two_leaves_the_maps_as_they_are(
    sandbox: Make, couchdiscover: Command
) -> None:
    """Two copies are no lone one: the old ones are not touched."""
    box = assembled(couchdiscover, sandbox(2))
    maps = ask(box, "couchdb-0", "/_node/_local/_dbs/_all_docs")["rows"]
    box.scale(3)
    ended = run(couchdiscover, box)
    assert ended.code == 0, ended.err
    assert steps(ended) == ["add_node", "sync_identity"]
    assert any("no shards on couchdb-2" in warning for warning in ended.json["warnings"])
    assert ask(box, "couchdb-2", "/_node/_local/_dbs/_all_docs")["rows"] == maps
    again(couchdiscover, box)


def test_a_seedlist_of_another_domain_is_told(sandbox: Make, couchdiscover: Command) -> None:
    """/_up answers 404 for ever: no probe and no load balancer takes such a node for ready."""
    box = assembled(couchdiscover, sandbox(2))
    meddle(
        box,
        lambda pod, request: (
            Response(404, {"status": "seeding", "seeds": {}}) if request.path == "/_up" else None
        ),
    )
    ended, found = run(couchdiscover, box, *QUICK), check(couchdiscover, box)
    assert (ended.code, found.code) == (3, 3), ended.err
    assert "seedlist" in ended.json["message"]
    assert kinds(found)["seeding"] == "fault"
    assert run(couchdiscover, box, "--timeout=0").code == 4
    own = run(couchdiscover, box, pod="couchdb-0")
    assert own.code == 0, own.err
    assert any("seedlist" in warning for warning in own.json["warnings"])


def test_seeds_that_answer_a_moment_later_are_waited_for(
    sandbox: Make, couchdiscover: Command
) -> None:
    """CouchDB asks its seeds again each second (src/mem3/src/mem3_seeds.erl)."""
    box = assembled(couchdiscover, sandbox(2))
    until = time.monotonic() + 3
    meddle(
        box,
        lambda pod, request: (
            Response(404, {"status": "seeding", "seeds": {}})
            if request.path == "/_up" and time.monotonic() < until
            else None
        ),
    )
    ended = run(couchdiscover, box)
    assert ended.code == 0, ended.err
    assert "/_up says seeding" in ended.err


def test_copies_that_are_lost_by_our_own_advice_are_told_by_run(
    sandbox: Make, couchdiscover: Command
) -> None:
    """The leftover of a scale-down is taken out before its shards were moved."""
    box = assembled(couchdiscover, sandbox(4))
    put(box, "couchdb-0", "/orders?q=8")
    gone = box.node("couchdb-3").name
    box.scale(3)
    scaled = run(couchdiscover, box)
    assert scaled.code == 3, scaled.err
    assert f"{gone} is still listed as a member" in scaled.json["message"]
    forget_member(box, "couchdb-0", gone)
    time.sleep(0.5)
    ended, found = run(couchdiscover, box), check(couchdiscover, box)
    assert (ended.code, found.code) == (3, 3), ended.err
    assert "fewer than the shard map names" in ended.json["message"]
    assert kinds(found)["too_few_copies"] == "fault"
    own = run(couchdiscover, box, pod="couchdb-0")
    assert own.code == 0, own.err
    assert any("fewer than the shard map names" in each for each in own.json["warnings"])


READ_ONLY = {"error": "error", "reason": "{badmatch,{error,eacces}}"}
FULL = {"error": "error", "reason": "{badmatch,{error,enospc}}"}


@pytest.mark.parametrize(
    ("reason", "words"), [(READ_ONLY, "ini files are read-only"), (FULL, "no space is left")]
)
def test_a_configuration_that_cannot_be_written_is_named(
    sandbox: Make, couchdiscover: Command, reason: dict[str, str], words: str
) -> None:
    box = assembled(couchdiscover, sandbox(2))
    box.node("couchdb-1").config.set("couchdb", "uuid", "b" * 32)
    meddle(
        box,
        lambda pod, request: (
            Response(500, reason)
            if request.method == "PUT" and "/_config/" in request.path
            else None
        ),
    )
    ended = run(couchdiscover, box, *QUICK)
    assert ended.code == 4, ended.err
    assert words in ended.json["message"]


def test_a_write_that_timed_out_and_did_its_work_is_among_the_steps(
    sandbox: Make, couchdiscover: Command
) -> None:
    box = sandbox(2)
    slow = threading.Event()

    async def late(pod: str, request: Request, proceed: Callable[[], Awaitable[Any]]) -> Any:
        answer = await proceed()
        if request.method == "PUT" and "/_nodes/" in request.path and not slow.is_set():
            slow.set()
            await asyncio.sleep(2)
        return answer

    box.intercept = late
    ended = run(couchdiscover, box, "--request-timeout", "1s")
    assert ended.code == 0, ended.err
    assert slow.is_set()
    assert steps(ended) == ["add_node", "finish_cluster"]


def test_a_set_that_is_born_twice(sandbox: Make, couchdiscover: Command) -> None:
    """All volumes are gone: an empty cluster in their place must not pass unseen."""
    box = sandbox(2)
    aged(box)
    up_for(box)
    refused = run(couchdiscover, box, "--cluster-state", "existing")
    assert refused.code == 6, refused.err
    assert "were the volumes lost" in refused.json["message"]
    assert box.writes() == []
    ended = run(couchdiscover, box)
    assert ended.code == 0, ended.err
    assert any("years old" in w or "days old" in w for w in ended.json["warnings"])
    again_ = run(couchdiscover, box, "--cluster-state", "existing")
    assert (again_.code, again_.json["steps"]) == (0, []), again_.err


def test_what_a_killed_run_left_half_joined_is_no_existing_cluster(
    sandbox: Make, couchdiscover: Command
) -> None:
    box = sandbox(3)
    aged(box)
    up_for(box)
    put(box, "couchdb-1", f"/_node/_local/_nodes/{box.node('couchdb-0').name}", {})
    before = len(box.writes())
    refused = run(couchdiscover, box, "--cluster-state", "existing")
    assert refused.code == 6, refused.err
    assert "were the volumes lost" in refused.json["message"]
    assert box.writes()[before:] == []
    ended = run(couchdiscover, box)
    assert ended.code == 0, ended.err
    assert any("days old" in warning for warning in ended.json["warnings"])
    assert run(couchdiscover, box, "--cluster-state", "existing").code == 0
    whole(box)


def beside(couchdiscover: Command, sandbox: Make, nodes: int = 2) -> tuple[Sandbox, str]:
    """A finished cluster over two StatefulSets, and the Erlang name of the other one's pod."""
    box = sandbox(nodes)
    other = sandbox(1, statefulset="zone-b", beside=box)
    name = other.node("zone-b-0").name
    assembled(couchdiscover, box)
    put(box, "couchdb-0", f"/_node/_local/_nodes/{name}", {})
    time.sleep(0.3)
    return box, name


def test_copies_whose_other_holder_is_another_statefulsets_are_proven_by_it(
    sandbox: Make, couchdiscover: Command
) -> None:
    box, name = beside(couchdiscover, sandbox)
    database = held_by(box, {box.node("couchdb-0").name, name})
    for each in range(6):
        put(box, "couchdb-0", f"/{database}/order-{each}", {"number": each})
    time.sleep(0.5)
    box.hold_filling("couchdb-0", 1)
    box.lose_volume("couchdb-0")
    for pod in ("couchdb-0", None):
        ended = run(couchdiscover, box, *QUICK, pod=pod)
        assert ended.code == 4, ended.err
        assert "its volume was lost" in ended.json["message"]
    assert kinds(check(couchdiscover, box))["volume_lost"] == "fault"
    box.release_filling("couchdb-0")
    ended = run(couchdiscover, box)
    assert ended.code == 0, ended.err
    assert ask(box, "couchdb-0", f"/{database}/_all_docs")["total_rows"] == 6
    assert check(couchdiscover, box).code == 0
