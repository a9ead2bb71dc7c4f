"""Steps as requests: each does what it says, failures are explained, nothing stale is begun."""

import threading
from dataclasses import replace
from typing import Any

import pytest

from couchdiscover.couch.executor import execute
from couchdiscover.couch.observer import Observer
from couchdiscover.sandbox.http import Response
from couchdiscover.state.nodes import ClusterView
from couchdiscover.state.steps import (
    AddCopies,
    AddNode,
    AnnounceSecret,
    EnableNode,
    EnableSingleNode,
    EnsureDatabase,
    FinishCluster,
    SetSecret,
    Step,
    SyncIdentity,
    SyncShards,
)
from couchdiscover.state.topology import Scope, Topology
from tests.support.couchdb import call, finish, join, value
from tests.support.fleet import NearFleet, near

DATABASES = ("_users", "_replicator")


def whole(count: int = 2, **options: Any) -> tuple[Topology, NearFleet, ClusterView]:
    place, fleet = near(count, **options)
    nodes = list(fleet.nodes.values())
    join(nodes)
    assert finish(nodes[0]) == 201
    nodes[0].network.wait(6)  # type: ignore[attr-defined]
    return place, fleet, Observer(fleet, fleet.deadline, Scope.SET).look(place)


def take(
    place: Topology, fleet: NearFleet, view: ClusterView, *steps: Step
) -> list[tuple[bool, str | None]]:
    outcomes = execute(steps, place, view, fleet, DATABASES)
    assert [outcome.step for outcome in outcomes] == list(steps), "as a plan tells them"
    return [(outcome.taken, outcome.problem) for outcome in outcomes]


DONE = (True, None)


def test_nodes_are_enabled_joined_and_finished() -> None:
    place, fleet = near(2, bind_address="127.0.0.1")
    view = Observer(fleet, fleet.deadline, Scope.SET).look(place)
    first = fleet.nodes["couchdb-0"].name
    enabled = take(place, fleet, view, EnableNode("couchdb-0"), EnableNode("couchdb-1"))
    assert enabled == [DONE, DONE]
    assert value(fleet.nodes["couchdb-1"], "chttpd", "bind_address") == "0.0.0.0"
    assert take(place, fleet, view, AddNode("couchdb-1", "couchdb-0", first)) == [DONE]
    fleet.nodes["couchdb-0"].network.wait(1)  # type: ignore[attr-defined]
    assert take(place, fleet, view, FinishCluster("couchdb-0", 2)) == [DONE]
    assert fleet.nodes["couchdb-1"].state == "cluster_finished"


def test_nodes_of_ipv6_only_pods_are_bound_to_every_such_address_also_where_they_have_names() -> (
    None
):
    place, fleet = near(1, bind_address="127.0.0.1")
    view = Observer(fleet, fleet.deadline, Scope.SET).look(place)
    asked = []
    fleet.meddle = lambda _pod, r: asked.append(r.json()) if r.method == "POST" else None
    take(replace(place, ipv6_only=True), fleet, view, EnableNode("couchdb-0"))
    assert [body["bind_address"] for body in asked] == ["::"]


def test_what_was_so_already_is_no_problem_and_not_taken() -> None:
    place, fleet, view = whole()
    first = fleet.nodes["couchdb-0"].name
    for step in (
        AddNode("couchdb-1", "couchdb-0", first),
        EnsureDatabase("couchdb-0", "_users"),
        FinishCluster("couchdb-0", 2),
    ):
        assert take(place, fleet, view, step) == [(False, None)], step


def test_a_single_node() -> None:
    place, fleet = near(1, n=1, bind_address="127.0.0.1")
    view = Observer(fleet, fleet.deadline, Scope.SET).look(place)
    assert take(place, fleet, view, EnableSingleNode("couchdb-0")) == [DONE]
    assert fleet.nodes["couchdb-0"].state == "single_node_enabled"


@pytest.mark.parametrize("old", ["", "of-the-old-section"])
def test_a_secret_is_made_or_taken_from_the_old_section(old: str) -> None:
    ini = {"couch_httpd_auth": {"secret": old}} if old else {}
    place, fleet = near(1, secret=None, ini=ini)
    view = Observer(fleet, fleet.deadline, Scope.SET).look(place)
    assert take(place, fleet, view, SetSecret("couchdb-0")) == [DONE]
    secret = value(fleet.nodes["couchdb-0"], "chttpd_auth", "secret")
    assert secret == old if old else len(secret) == 32


def test_values_are_copied_as_they_are() -> None:
    place, fleet, view = whole()
    source, target = fleet.nodes.values()
    source.config.set("admins", "other", "password-of-another")
    source.config.set("couchdb", "uuid", "c" * 32)
    step = SyncIdentity("couchdb-1", "couchdb-0", ("uuid", "secret", "admins/other"))
    assert take(place, fleet, view, step) == [DONE]
    for section, key in (("couchdb", "uuid"), ("chttpd_auth", "secret"), ("admins", "other")):
        assert target.config.get(section, key) == source.config.get(section, key)


def test_a_value_that_is_gone_is_a_problem_that_names_it() -> None:
    place, fleet, view = whole()
    step = SyncIdentity("couchdb-1", "couchdb-0", ("admins/nobody",))
    ((taken, problem),) = take(place, fleet, view, step)
    assert (taken, problem) == (False, "couchdb-0 has no admins/nobody any more")


def test_a_secret_is_put_again_in_memory_only() -> None:
    place, fleet, view = whole()
    assert take(place, fleet, view, AnnounceSecret("couchdb-1")) == [DONE]
    pod, request = [(pod, r) for pod, r in fleet.asked if r.method == "PUT"][-1]
    assert (pod, request.headers["x-couch-persist"]) == ("couchdb-1", "false")
    fleet.nodes["couchdb-1"].config.delete("chttpd_auth", "secret")
    ((taken, problem),) = take(place, fleet, view, AnnounceSecret("couchdb-1"))
    assert (taken, problem) == (False, "couchdb-1 has no secret any more")


def test_a_map_gets_more_names_and_loses_none() -> None:
    place, fleet, view = whole(3)
    node = fleet.nodes["couchdb-0"]
    assert call(node, "PUT", "/_global_changes?n=1").status == 201
    before = node.databases.shards("_global_changes").by_range
    names = tuple(sorted(each.name for each in fleet.nodes.values()))
    step = AddCopies("couchdb-0", "_global_changes", names)
    assert take(place, fleet, view, step) == [DONE]
    after = node.databases.shards("_global_changes").by_range
    assert before.keys() == after.keys()
    assert all(set(names) == set(holders) for holders in after.values())
    assert take(place, fleet, view, step) == [(False, None)]


def test_copies_are_synced_database_by_database() -> None:
    place, fleet, view = whole()
    assert take(place, fleet, view, SyncShards("couchdb-0", DATABASES)) == [DONE]
    assert [path for _, path in fleet.writes()][-2:] == [
        "/_users/_sync_shards",
        "/_replicator/_sync_shards",
    ]


@pytest.mark.parametrize(
    ("reason", "words"),
    [
        ("{badmatch,{error,eacces}}", "ini files are read-only"),
        ("enospc", "volume is full"),
        ("no_nodes_in_zone", "[cluster] placement names a zone that no node is in"),
    ],
)
def test_an_answer_that_only_hints_at_its_cause_is_explained(reason: str, words: str) -> None:
    place, fleet, view = whole()
    fleet.meddle = lambda _pod, request: (
        Response(500, {"error": "error", "reason": reason}) if request.method == "PUT" else None
    )
    ((taken, problem),) = take(
        place, fleet, view, SyncIdentity("couchdb-1", "couchdb-0", ("uuid",))
    )
    assert not taken
    assert problem is not None
    assert words in problem


def test_after_a_failure_the_same_nodes_further_steps_are_not_taken() -> None:
    place, fleet, view = whole()
    fleet.meddle = lambda _pod, request: (
        Response(500, {"error": "error", "reason": "odd"}) if request.path == "/first" else None
    )
    steps = [EnsureDatabase("couchdb-0", "first"), EnsureDatabase("couchdb-0", "second")]
    (outcome,) = execute(steps, place, view, fleet, DATABASES)
    assert outcome.problem is not None
    assert "/second" not in [path for _, path in fleet.writes()]


def test_a_step_of_a_node_that_is_gone() -> None:
    place, fleet, view = whole()
    ((taken, problem),) = take(place, fleet, view, EnsureDatabase("couchdb-7", "db"))
    assert (taken, problem) == (False, "couchdb-7 is not there any more")


def test_a_thread_that_was_given_up_takes_no_further_step() -> None:
    place, fleet, view = whole()
    begun, over = threading.Event(), threading.Event()

    def hang(_pod: str, request: Any) -> None:
        if request.path == "/first":
            begun.set()
            over.wait(30)

    fleet.meddle = hang
    fleet.patience_seconds = 0.3
    steps = [EnsureDatabase("couchdb-0", "first"), EnsureDatabase("couchdb-0", "second")]
    (outcome,) = execute(steps, place, view, fleet, DATABASES)
    assert (outcome.taken, outcome.problem) == (False, "it did not end in time")
    assert begun.is_set()
    before = set(threading.enumerate())
    over.set()
    for thread in before - {threading.current_thread()}:
        thread.join(2)
    assert "/second" not in [path for _, path in fleet.writes()]
