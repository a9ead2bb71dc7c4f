"""One look at all nodes: what is asked, of whom, and what becomes of what cannot be read."""

from dataclasses import replace
from typing import Any, cast

import pytest

from couchdiscover.couch.client import CouchNode, NoAnswer
from couchdiscover.couch.configuration import details_of
from couchdiscover.couch.executor import execute
from couchdiscover.couch.identities import read_details
from couchdiscover.couch.observer import Observer
from couchdiscover.decide.decision import decide
from couchdiscover.sandbox.http import Request, Response
from couchdiscover.state.nodes import (
    ClusterView,
    LoginRefused,
    NodeView,
    SetupState,
    TooOld,
    Unreachable,
)
from couchdiscover.state.reasons import AnotherPodsAddress, NoAddress, Silent
from couchdiscover.state.steps import Do, FinishCluster
from couchdiscover.state.topology import Address, Scope, Topology
from tests.support.couchdb import finish, join
from tests.support.fleet import NearFleet, near

DATABASES = ("_users", "_replicator")


def observer(fleet: NearFleet, scope: Scope = Scope.SET, **more: Any) -> Observer:
    return Observer(fleet, fleet.deadline, scope, **more)


def assemble(place: Topology, fleet: NearFleet, eyes: Observer) -> ClusterView:
    """Decides and executes until nothing is left to do."""
    view = eyes.look(place)
    for _ in range(12):
        decision = decide(place, view, eyes.scope)
        if isinstance(decision, Do):
            for outcome in execute(decision.steps, place, view, fleet, DATABASES):
                assert outcome.problem is None, outcome
                eyes.memory.note(outcome.step)
        next(iter(fleet.nodes.values())).network.wait(6)  # type: ignore[attr-defined]
        view = eyes.look(place)
    return view


def paths(fleet: NearFleet, pod: str) -> list[str]:
    return [request.path for asked, request in fleet.asked if asked == pod]


def test_fresh_nodes_are_asked_for_state_members_and_files() -> None:
    place, fleet = near(3)
    view = observer(fleet).look(place)
    assert [node.state for node in view.nodes] == [SetupState.ENABLED] * 3
    assert all(node.volume is not None and node.volume.files == frozenset() for node in view.nodes)
    assert sorted(paths(fleet, "couchdb-1")) == [
        "/_cluster_setup",
        "/_membership",
        "/_node/_local/_all_dbs",
    ]  # and not for its name: it is connected to itself alone
    assert [node.name for node in view.nodes] == [fleet.nodes[n.pod].name for n in view.nodes]
    assert fleet.writes() == []


def test_in_scope_pod_nobody_else_is_asked_while_the_own_node_is_silent() -> None:
    place, fleet = near(3)
    fleet.nodes["couchdb-1"].stop()
    place = replace(place, own="couchdb-1")
    view = observer(fleet, Scope.POD).look(place)
    (own,) = view.sights
    assert isinstance(own, Unreachable)
    assert isinstance(own.reason, Silent)
    assert {pod for pod, _ in fleet.asked} == {"couchdb-1"}


def test_without_an_address_a_pod_is_not_asked() -> None:
    place, fleet = near(2)
    first, second = place.expected
    place = replace(place, expected=(first, replace(second, addresses=())))
    view = observer(fleet).look(place)
    sight = view.sight("couchdb-1")
    assert isinstance(sight, Unreachable)
    assert isinstance(sight.reason, NoAddress)


def test_the_second_address_is_tried_where_the_first_is_silent() -> None:
    place, fleet = near(2)
    first, second = place.expected
    stale = Address("10.0.0.1", 5984)  # couchdb-0's by now
    pods = (first, replace(second, addresses=(stale, *second.addresses)))
    view = observer(fleet).look(replace(place, expected=pods))
    assert {node.pod: node.address.host for node in view.nodes} == {
        "couchdb-0": "10.0.0.1",
        "couchdb-1": "10.0.0.2",
    }


def test_an_address_that_is_another_pods_is_no_node() -> None:
    place, fleet = near(2)
    first, second = place.expected
    pods = (first, replace(second, addresses=first.addresses))
    view = observer(fleet).look(replace(place, expected=pods))
    sight = view.sight("couchdb-1")
    assert isinstance(sight, Unreachable)
    assert isinstance(sight.reason, AnotherPodsAddress)
    assert [node.pod for node in view.nodes] == ["couchdb-0"]


def test_a_whole_cluster_is_read_for_identity_volumes_and_readiness() -> None:
    place, fleet = near(3)
    view = assemble(place, fleet, observer(fleet))
    assert all(node.finished for node in view.nodes)
    fleet.asked.clear()
    view = observer(fleet).look(place)
    assert {node.up for node in view.nodes} == {"ok"}
    for node in view.nodes:
        assert node.identity is not None
        assert node.volume is not None
        assert node.volume.traces is not None
        assert node.volume.files
    assert view.prior == {node.name for node in view.nodes}
    counted = [path for _, path in ((p, r.path) for p, r in fleet.asked) if "/shards" not in path]
    assert len(counted) <= 7 * 3 + 8
    assert fleet.writes() == []


def test_who_was_added_has_no_vote_and_whoever_finishes_is_known_for_it() -> None:
    place, fleet = near(2)
    eyes = observer(fleet)
    view = assemble(place, fleet, eyes)
    assert view.finished_here
    assert view.added == {"couchdb-1"}
    assert view.prior == {node.name for node in view.nodes}


def test_a_quick_look_asks_for_membership_alone() -> None:
    place, fleet = near(2)
    eyes = observer(fleet)
    eyes.look(place)
    fleet.asked.clear()
    view = eyes.look(place, quick=True)
    assert [request.path for _, request in fleet.asked] == ["/_membership"] * 2
    assert all(node.volume is not None for node in view.nodes)


def test_a_plan_compares_identities_before_the_nodes_have_joined() -> None:
    place, fleet = near(2)
    view = observer(fleet, foresees=True).look(place)
    assert all(node.identity is not None for node in view.nodes)
    assert all(node.details is not None for node in view.nodes)


def test_a_refused_login_is_asked_three_times_a_second_apart(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    place, fleet = near(1, user="somebody-else")
    now = [1000.0]
    monkeypatch.setattr("couchdiscover.couch.observer.time.monotonic", lambda: now[0])
    eyes = observer(fleet)
    for _ in range(10):
        view = eyes.look(place)
        now[0] += 0.5
    (sight,) = view.sights
    assert isinstance(sight, LoginRefused)
    assert len(paths(fleet, "couchdb-0")) == 3
    assert "secret" not in sight.reason


def test_while_a_rollout_is_under_way_a_refused_login_is_waited_with(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    place, fleet = near(1, user="somebody-else")
    now = [1000.0]
    monkeypatch.setattr("couchdiscover.couch.observer.time.monotonic", lambda: now[0])
    eyes = observer(fleet)
    for _ in range(100):
        view = eyes.look(replace(place, rollout=True))
        now[0] += 1.0
    assert isinstance(view.sights[0], Unreachable)
    assert len(paths(fleet, "couchdb-0")) == 3, "the fourth comes after the lockout's 300 s"
    assert eyes.memory.logins_refused == 3


def test_a_couchdb_that_is_too_old_is_told_by_its_header() -> None:
    place, fleet = near(1, version="3.2.2")
    (sight,) = observer(fleet).look(place).sights
    assert sight == TooOld("couchdb-0", "3.2.2", place.expected[0].addresses[0])


def test_what_cannot_be_read_is_none_and_not_empty() -> None:
    place, fleet = near(2)
    fleet.meddle = lambda _pod, request: (
        Response(500, {"error": "badarg", "reason": "odd"})
        if request.path.endswith("/_all_dbs")
        else None
    )
    view = observer(fleet).look(place)
    for node in view.nodes:
        assert node.volume is not None
        assert node.volume.files is None


def test_a_state_that_is_older_than_the_maps_is_asked_for_once_more() -> None:
    """A member that has just joined learns of both databases between two questions of one look."""
    place, fleet = near(3)
    assemble(place, fleet, observer(fleet))
    place = replace(place, own="couchdb-1")
    states = iter(["cluster_enabled"])

    def before_the_maps_came(pod: str, request: Request) -> Response | None:
        if pod == "couchdb-1" and request.path == "/_cluster_setup" and (old := next(states, None)):
            return Response(200, {"state": old})
        return None

    fleet.meddle = before_the_maps_came
    own = observer(fleet, Scope.POD).look(place).sight("couchdb-1")
    assert isinstance(own, NodeView)
    assert own.finished


def test_a_lone_node_that_lists_a_dead_name_is_asked_for_what_it_holds() -> None:
    place, fleet = near(2)
    node = fleet.nodes["couchdb-0"]
    node.databases.create("orders", props=True)
    node.network.settle()
    fleet.nodes["couchdb-0"].membership.put(
        next(iter(node.membership.docs.values())).__class__.of("couchdb@gone.host", "1-a", {})
    )
    view = observer(fleet).look(place)
    seen = view.sight("couchdb-0")
    assert isinstance(seen, NodeView)
    assert not seen.alone
    assert seen.volume is not None
    assert {file.database for file in seen.volume.files or ()} == {"orders"}


def test_members_that_do_not_learn_of_another_are_told_of_it_after_a_while(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    place, fleet = near(3)
    nodes = list(fleet.nodes.values())
    nodes[0].network.loss = 1.0
    join(nodes)
    now = [1000.0]
    monkeypatch.setattr("couchdiscover.couch.observer.time.monotonic", lambda: now[0])
    eyes = observer(fleet)
    first = eyes.look(place)
    assert not any(node.overdue for node in first.nodes)
    now[0] += 3
    later = eyes.look(place)
    assert any(node.overdue for node in later.nodes)


def test_the_configuration_says_copies_zones_and_seeds() -> None:
    found = details_of(
        "couchdb-0",
        {
            "cluster": {"n": "2", "placement": "a:1,b:1", "seedlist": "a@b, c@d,"},
            "couchdb": {"maintenance_mode": "nolb", "single_node": "true"},
        },
    )
    assert (found.copies, found.placement, found.maintenance) == (2, "a:1,b:1", "nolb")
    assert found.seeds == {"a@b", "c@d"}
    assert found.single_node
    assert details_of("couchdb-0", {"cluster": {"n": "many"}}).copies == 3


def test_finished_by_hand_is_seen_as_prior() -> None:
    place, fleet = near(2)
    nodes = list(fleet.nodes.values())
    join(nodes)
    assert finish(nodes[0]) == 201
    view = observer(fleet).look(place)
    assert view.prior == {node.name for node in nodes}
    assert FinishCluster not in [
        type(s) for s in getattr(decide(place, view, Scope.SET), "steps", ())
    ]


def test_zones_that_cannot_be_read_are_unknown_and_cost_nothing_else() -> None:
    """They are asked for only where [cluster] placement goes by them."""

    class Node:
        def node_documents(self) -> dict[str, dict[str, str]]:
            raise NoAnswer("timed out")

    config = {"cluster": {"placement": "a:1"}}
    found = read_details(cast("CouchNode", Node()), "couchdb-0", config)
    assert (found.placement, found.zones) == ("a:1", None)
    assert read_details(cast("CouchNode", Node()), "couchdb-0", {}).zones is None
