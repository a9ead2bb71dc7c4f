"""``plan``: what ``run`` would do; the refusals, as each command tells them; the repair's rules."""

import time
from collections.abc import Callable
from typing import Any

import pytest

from couchdiscover.sandbox import Sandbox
from tests.support.boxes import Make, assembled, finish_by_hand, forget_member, put, whole
from tests.support.command import Command
from tests.support.processes import Ended

PLACES = {
    "admin": ("admins", "admin"),
    "uuid": ("couchdb", "uuid"),
    "secret": ("chttpd_auth", "secret"),
}


def look(couchdiscover: Command, box: Sandbox, *arguments: str, pod: str | None = None) -> Ended:
    """Runs a command that must not write."""
    before = len(box.writes())
    ended = couchdiscover(*arguments, "-o", "json", environment=box.environment(pod))
    assert box.writes()[before:] == []
    return ended


def taken(ended: Ended) -> list[tuple[str, str, str | None]]:
    return [(s["step"], s.get("database") or s["node"], s.get("to")) for s in ended.json["steps"]]


# --- what is told is what is done ---


def fresh(couchdiscover: Command, make: Make) -> Sandbox:
    return make(3)


def without_secret(couchdiscover: Command, make: Make) -> Sandbox:
    return make(3, secret=False)


def single(couchdiscover: Command, make: Make) -> Sandbox:
    return make(1)


def scaled_up(couchdiscover: Command, make: Make) -> Sandbox:
    box = assembled(couchdiscover, make(3))
    box.scale(5)
    return box


def finished_too_early(couchdiscover: Command, make: Make) -> Sandbox:
    box = make(3)
    finish_by_hand(box, "couchdb-1")
    return box


def drifted(couchdiscover: Command, make: Make) -> Sandbox:
    box = assembled(couchdiscover, make(3))
    box.node("couchdb-0").restart_as_official_image()
    return box


def rolling_restart(couchdiscover: Command, make: Make) -> Sandbox:
    box = assembled(couchdiscover, make(3, secret=False))
    for pod in box.pods:
        box.node(pod).restart_as_official_image()
    return box


@pytest.mark.parametrize(
    "situation",
    [fresh, without_secret, single, scaled_up, finished_too_early, drifted, rolling_restart],
)
def test_plan_tells_what_run_then_does_in_that_order(
    sandbox: Make, couchdiscover: Command, situation: Callable[[Command, Make], Sandbox]
) -> None:
    box = situation(couchdiscover, sandbox)
    plan = look(couchdiscover, box, "plan")
    assert (plan.code, plan.json["command"], plan.json["result"]) == (3, "plan", "not_so"), plan.err
    assert plan.json["steps"]
    assert all(step["reason"] for step in plan.json["steps"])
    dry = look(couchdiscover, box, "run", "--dry-run")
    assert (dry.code, dry.json["steps"]) == (3, plan.json["steps"])
    run = couchdiscover("run", "-o", "json", environment=box.environment())
    assert run.code == 0, run.err
    assert taken(plan) == taken(run)
    after = look(couchdiscover, box, "plan")
    assert (after.code, after.json["steps"], after.json["result"]) == (0, [], "done")
    assert after.json["message"] == "there is nothing to do"


def test_databases_that_are_asked_for(sandbox: Make, couchdiscover: Command) -> None:
    box = assembled(couchdiscover, sandbox(2))
    plan = look(couchdiscover, box, "plan", "--ensure-db", "b", "--ensure-db", "a")
    run = couchdiscover(
        "--ensure-db", "b", "--ensure-db", "a", "-o", "json", environment=box.environment()
    )
    assert taken(plan) == taken(run) == [("ensure_db", "a", None), ("ensure_db", "b", None)]


def test_the_lines_are_those_that_run_logs(sandbox: Make, couchdiscover: Command) -> None:
    box = sandbox(3, secret=False)
    plan = couchdiscover("plan", environment=box.environment())
    assert plan.code == 3
    assert "steps to take:" in plan.out
    lines = [line.strip() for line in plan.out.splitlines() if line.startswith("  ")]
    assert len(lines) == 4
    run = couchdiscover("run", environment=box.environment())
    for line in lines:
        assert f"INFO    {line}\n" in run.err
        assert f"  {line}\n" in run.out
    nothing = couchdiscover("plan", environment=box.environment())
    assert (nothing.code, nothing.out.splitlines()[-1]) == (0, "there is nothing to do")


def test_in_a_pod_it_is_that_pods_plan(sandbox: Make, couchdiscover: Command) -> None:
    box = sandbox(3)
    plan = look(couchdiscover, box, "plan", pod="couchdb-1")
    assert taken(plan) == [("add_node", "couchdb-1", "couchdb-0")]
    every = look(couchdiscover, box, "plan", "--scope", "set", pod="couchdb-1")
    assert len(taken(every)) == 3


def test_what_would_have_to_be_waited_for(sandbox: Make, couchdiscover: Command) -> None:
    box = sandbox(3)
    box.stop("couchdb-1")
    started = time.monotonic()
    plan = look(couchdiscover, box, "plan")
    assert plan.code == 3
    assert "run would be waiting for couchdb-1 to answer" in plan.json["message"]
    assert time.monotonic() - started < 8, "it looks once"


def test_what_is_left_for_a_person(sandbox: Make, couchdiscover: Command) -> None:
    box = assembled(couchdiscover, sandbox(3))
    box.scale(2)
    plan = look(couchdiscover, box, "plan")
    assert (plan.code, plan.json["steps"]) == (3, [])
    assert "couchdb-2" in plan.json["message"]


def test_denied(sandbox: Make, couchdiscover: Command) -> None:
    box = sandbox(2)
    wrong = {"COUCHDB_USER": "admin", "COUCHDB_PASSWORD": "not it"}
    ended = couchdiscover("plan", environment=box.environment() | wrong)
    assert ended.code == 5
    assert box.writes() == []


@pytest.mark.parametrize("option", [["--timeout", "5m"], ["--wait"], ["--write"]])
def test_a_plan_has_nothing_to_wait_for(couchdiscover: Command, option: list[str]) -> None:
    assert couchdiscover("plan", *option, environment={}).code == 2


# --- refusals ---


def two_clusters(couchdiscover: Command, make: Make) -> Sandbox:
    """0 and 1 are one cluster, 2 another, with a user of its own."""
    box = make(2)
    assembled(couchdiscover, box)
    box.scale(3)
    finish_by_hand(box, "couchdb-2")
    put(box, "couchdb-2", "/_users/org.couchdb.user:ann", USER)
    return box


def made_apart(couchdiscover: Command, make: Make) -> Sandbox:
    """Something has made the system databases on each: nothing is in them."""
    box = make(2)
    for pod in box.pods:
        put(box, pod, "/_users")
    return box


def empty_against_full(couchdiscover: Command, make: Make) -> Sandbox:
    """What is empty on the one would hide what is in it on the other."""
    box = make(2)
    finish_by_hand(box, "couchdb-0")
    put(box, "couchdb-0", "/_users/org.couchdb.user:ann", USER)
    put(box, "couchdb-1", "/_users")
    return box


USER = {"name": "ann", "password": "x", "roles": [], "type": "user"}


def orders_on_a_node(couchdiscover: Command, make: Make) -> Sandbox:
    box = assembled(couchdiscover, make(2))
    box.scale(3)
    put(box, "couchdb-2", "/orders")
    put(box, "couchdb-2", "/invoices")
    return box


def nohost(couchdiscover: Command, make: Make) -> Sandbox:
    return make(2, pod_options={"couchdb-1": {"name": "nonode@nohost"}})


def loopback(couchdiscover: Command, make: Make) -> Sandbox:
    return make(2, pod_options={"couchdb-1": {"name": "couchdb@127.0.0.1"}})


def twins(couchdiscover: Command, make: Make) -> Sandbox:
    box = make(2)
    box.node("couchdb-1").name = box.node("couchdb-0").name
    return box


def ghost(couchdiscover: Command, make: Make) -> Sandbox:
    box = make(3)
    put(box, "couchdb-0", "/_node/_local/_nodes/couchdb@couchdb-1.couchdb", {})
    return box


def single_node(couchdiscover: Command, make: Make) -> Sandbox:
    return make(2, pod_options={"couchdb-1": {"n": 1}})


def single_node_set(couchdiscover: Command, make: Make) -> Sandbox:
    return make(2, pod_options={"couchdb-1": {"single_node": True}})


@pytest.mark.parametrize(
    ("situation", "found", "remedy"),
    [
        (two_clusters, ["2 clusters", "{couchdb-0, couchdb-1}", "{couchdb-2}"], "keep the old"),
        (made_apart, ["couchdb-1 and couchdb-0 have _users each"], "leave that to couchdiscover"),
        (empty_against_full, ["couchdb-1 and couchdb-0 have _users each"], "start without it"),
        (orders_on_a_node, ["{couchdb-2} (which holds invoices, orders)"], "keep the old"),
        (nohost, ["couchdb-1", "nonode@nohost"], "NODENAME"),
        (loopback, ["couchdb-1", "couchdb@127.0.0.1"], "NODENAME"),
        (twins, ["couchdb-0 and couchdb-1", "the same Erlang name"], "NODENAME"),
        (ghost, ["couchdb@couchdb-1.couchdb"], "/_node/_local/_nodes"),
        (single_node, ["couchdb-1", "[cluster] n = 1"], "--allow-one-copy"),
        (single_node_set, ["couchdb-1", "single"], "single_node"),
    ],
)
def test_refusals_are_told_by_every_command_and_nothing_is_written(
    sandbox: Make,
    couchdiscover: Command,
    situation: Callable[[Command, Make], Sandbox],
    found: list[str],
    remedy: str,
) -> None:
    box = situation(couchdiscover, sandbox)
    messages = set()
    for command in (["run"], ["run", "--dry-run"], ["plan"], ["check"], ["check", "--wait"]):
        ended = look(couchdiscover, box, *command)
        assert (ended.code, ended.json["result"]) == (6, "unsafe"), (command, ended.err)
        message = ended.json["message"]
        assert ended.last_line == message
        for part in [*found, remedy]:
            assert part in message, command
        messages.add(message)
    assert len(messages) == 1, "every command says the same"


def test_system_databases_with_nothing_but_design_documents_are_no_hazard(
    sandbox: Make, couchdiscover: Command
) -> None:
    box = sandbox(2)
    put(box, "couchdb-1", "/_users")
    put(box, "couchdb-1", "/_users/_design/_auth", {"language": "javascript"})
    assembled(couchdiscover, box)
    whole(box)


def test_shard_maps_that_name_strangers_are_no_refusal(
    sandbox: Make, couchdiscover: Command
) -> None:
    box = assembled(couchdiscover, sandbox(3))
    name = box.node("couchdb-2").name
    box.scale(2)
    for pod in box.pods:  # as the message told
        if pod == box.pods[0]:
            forget_member(box, pod, name)
        while name in box.node(pod).members:
            time.sleep(0.05)
            box.network.settle()
    assert look(couchdiscover, box, "plan").code == 0
    found = look(couchdiscover, box, "check")
    assert found.code == 0, found.err
    assert found.json["findings"][0]["finding"] == "copies_on_no_members"


# --- the repair of identity drift, value by value ---


def value(box: Sandbox, pod: str, key: str) -> str | None:
    return box.node(pod).config.get(*PLACES[key])


def change(box: Sandbox, pod: str, key: str, new: str) -> None:
    box.node(pod).config.set(*PLACES[key], new)


def age(box: Sandbox, **seconds: float) -> None:
    """Makes nodes older than they are; the key is the ordinal behind an n."""
    for ordinal, extra in seconds.items():
        box.node(f"couchdb-{ordinal[1:]}").started_at -= extra


def syncs(ended: Ended) -> dict[tuple[str, str], list[str]]:
    return {
        (s["node"], s["to"]): s["keys"] for s in ended.json["steps"] if s["step"] == "sync_identity"
    }


def repair(couchdiscover: Command, box: Sandbox, *arguments: str) -> Ended:
    ended = couchdiscover(*arguments, "-o", "json", environment=box.environment())
    assert ended.code == 0, ended.err
    return ended


def test_each_value_is_taken_from_its_own_majority(sandbox: Make, couchdiscover: Command) -> None:
    """Where no environment sets the secret: what one sets is intent, and no majority's matter."""
    options = {"version": "3.4.3"}  # which does not hand its secret on
    box = assembled(couchdiscover, sandbox(3, secret=False, node_options=options))
    change(box, "couchdb-0", "uuid", "0" * 32)
    change(box, "couchdb-1", "secret", "another")
    good = (value(box, "couchdb-1", "uuid"), value(box, "couchdb-0", "secret"))
    ended = repair(couchdiscover, box)
    assert syncs(ended) == {
        ("couchdb-0", "couchdb-1"): ["uuid"],
        ("couchdb-1", "couchdb-0"): ["secret"],
    }
    assert (value(box, "couchdb-0", "uuid"), value(box, "couchdb-1", "secret")) == good
    whole(box)


def test_without_a_majority_the_oldest_gives(sandbox: Make, couchdiscover: Command) -> None:
    box = assembled(couchdiscover, sandbox(3))
    for pod, uuid in zip(box.pods, "abc", strict=True):
        change(box, pod, "uuid", uuid * 32)
    age(box, n0=100, n1=200, n2=150)
    ended = repair(couchdiscover, box)
    assert set(syncs(ended)) == {("couchdb-0", "couchdb-1"), ("couchdb-2", "couchdb-1")}
    assert {value(box, pod, "uuid") for pod in box.pods} == {"b" * 32}
    (warning,) = [w for w in ended.json["warnings"] if "no majority" in w]
    assert "couchdb-1" in warning
    assert "--repair-from" in warning


def test_a_tie_goes_to_the_lowest_ordinal(sandbox: Make, couchdiscover: Command) -> None:
    box = assembled(couchdiscover, sandbox(2))
    change(box, "couchdb-1", "uuid", "b" * 32)
    age(box, n0=100, n1=108)  # under ten seconds apart
    assert set(syncs(repair(couchdiscover, box))) == {("couchdb-1", "couchdb-0")}
    change(box, "couchdb-1", "uuid", "b" * 32)
    age(box, n1=20)
    assert set(syncs(repair(couchdiscover, box))) == {("couchdb-0", "couchdb-1")}


def test_repair_from_names_another_source(sandbox: Make, couchdiscover: Command) -> None:
    box = assembled(couchdiscover, sandbox(3))
    change(box, "couchdb-2", "uuid", "c" * 32)
    plan = look(couchdiscover, box, "plan", "--repair-from", "couchdb-2")
    ended = repair(couchdiscover, box, "--repair-from", "couchdb-2")
    assert set(syncs(plan)) == set(syncs(ended))
    assert {to for _, to in syncs(ended)} == {"couchdb-2"}
    assert {value(box, pod, "uuid") for pod in box.pods} == {"c" * 32}


def test_a_node_added_now_has_no_vote(sandbox: Make, couchdiscover: Command) -> None:
    box = assembled(couchdiscover, sandbox(1))
    uuid = value(box, "couchdb-0", "uuid")
    box.scale(4)
    for pod in box.pods[1:]:
        change(box, pod, "uuid", "f" * 32)  # three agree, against one
    repair(couchdiscover, box)
    assert {value(box, pod, "uuid") for pod in box.pods} == {uuid}


def test_a_secret_that_nobody_has_is_made(sandbox: Make, couchdiscover: Command) -> None:
    box = assembled(couchdiscover, sandbox(3, secret=False))
    for pod in box.pods:
        box.node(pod).config.delete("chttpd_auth", "secret")
    ended = repair(couchdiscover, box)
    assert "set_secret" in [step["step"] for step in ended.json["steps"]]
    whole(box)


def test_no_repair_leaves_it_and_says_so(sandbox: Make, couchdiscover: Command) -> None:
    box = assembled(couchdiscover, sandbox(3))
    change(box, "couchdb-1", "uuid", "b" * 32)
    for arguments in (["--no-repair"], ["plan", "--no-repair"]):
        ended = look(couchdiscover, box, *arguments)
        assert ended.code == 0, ended.err
        assert any("couchdb-1" in warning for warning in ended.json["warnings"])
    off = box.environment() | {"COUCHDISCOVER_REPAIR": "false"}
    assert couchdiscover(environment=off).code == 0
    assert value(box, "couchdb-1", "uuid") == "b" * 32


def test_a_pod_writes_only_its_own_node(sandbox: Make, couchdiscover: Command) -> None:
    box = assembled(couchdiscover, sandbox(3))
    for pod in ("couchdb-1", "couchdb-2"):
        box.node(pod).restart_as_official_image()
    change(box, "couchdb-2", "uuid", str(value(box, "couchdb-0", "uuid")))
    before = len(box.writes())
    ended = couchdiscover("-o", "json", environment=box.environment("couchdb-1"))
    assert ended.code == 0, ended.err
    assert {node for node, _ in syncs(ended)} == {"couchdb-1"}
    assert {request.pod for request in box.writes()[before:]} == {"couchdb-1"}
    assert value(box, "couchdb-2", "admin") != value(box, "couchdb-0", "admin")


def test_fingerprints_are_all_that_is_ever_shown(sandbox: Make, couchdiscover: Command) -> None:
    box = assembled(couchdiscover, sandbox(3))
    box.node("couchdb-1").restart_as_official_image()
    shown = ""
    for command in (["plan"], ["check"], ["run", "--no-repair"], ["run"]):
        ended = couchdiscover(*command, environment=box.environment())
        shown += ended.out + ended.err
    secrets: set[Any] = {value(box, pod, key) for pod in box.pods for key in ("admin", "secret")}
    assert not [secret for secret in secrets if secret and secret in shown]
