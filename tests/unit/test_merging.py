"""Whether a node may be joined to another: what it holds, and what is not known."""

from dataclasses import replace

from couchdiscover.decide.decision import decide
from couchdiscover.errors import Unsafe
from couchdiscover.state.steps import (
    Refuse,
    Wait,
)
from couchdiscover.state.topology import Scope
from couchdiscover.state.volumes import Volume
from tests.support.decisions import (
    finished,
    holding,
    kinds,
    names,
    node,
    refused,
    topology,
    view,
    waits,
)


def test_a_node_with_databases_of_its_own_is_not_joined_to_a_cluster() -> None:
    other = node(2, volume=holding("_users"))
    for scope, own in ((Scope.SET, None), (Scope.POD, 2)):
        seen = view(finished(0, 1), finished(1, 0), other)
        assert "2 clusters" in refused(decide(topology(own=own), seen, scope), Unsafe)


def test_blank_system_databases_are_no_hazard_where_the_other_side_has_none() -> None:
    blank = node(1, volume=holding("_users", filled=False))
    cluster = finished(0, volume=holding("_replicator", suffix=".2"))
    assert kinds(decide(topology(2), view(cluster, blank), Scope.SET)) == ["add_node couchdb-1"]
    for filled in (True, False):
        both = replace(cluster, volume=holding("_users", suffix=".2", filled=filled))
        reason = refused(decide(topology(2), view(both, blank), Scope.SET), Unsafe)
        assert "_users each, made apart" in reason
        assert "leave that to couchdiscover" in reason


def test_a_copy_of_the_very_same_database_is_in_nobodys_way() -> None:
    members = [finished(n, 1 - n, volume=holding("orders", suffix=".7")) for n in range(2)]
    back = node(2, names(2, 0), volume=holding("orders", suffix=".7"), overdue=names(1))
    assert kinds(decide(topology(), view(*members, back), Scope.SET)) == ["add_node couchdb-2"]
    other = replace(back, volume=holding("orders", suffix=".8"))
    decision = decide(topology(), view(*members, other), Scope.SET)
    assert waits(decision)["couchdb-2"] == "to have the same shard maps as couchdb-1 of orders"
    assert isinstance(decision, Wait)
    assert isinstance(decision.at_the_end, Refuse), "at the deadline it is unsafe"


def test_nothing_is_joined_on_what_could_not_be_read() -> None:
    cluster = [finished(n, 1 - n) for n in range(2)]
    unread = node(2, volume=None)
    for scope, own in ((Scope.SET, None), (Scope.POD, 2)):
        decision = decide(topology(own=own), view(*cluster, unread), scope)
        assert waits(decision)["couchdb-2"].startswith("to tell what it holds")
    holds = node(2, volume=replace(holding("_users"), filled=None))
    decision = decide(topology(), view(*cluster, holds), Scope.SET)
    assert waits(decision)["couchdb-2"].startswith("to tell what")
    blank = node(2, volume=holding("_users", filled=False))
    silent = [replace(each, volume=None) for each in cluster]
    decision = decide(topology(), view(*silent, blank), Scope.SET)
    assert waits(decision)["couchdb-2"].startswith("to tell what couchdb-0 holds")


def test_maps_that_name_only_others_are_no_holding() -> None:
    members = [finished(n, 1 - n) for n in range(2)]
    pushed = Volume(files=frozenset(), maps=holding("orders", on=names(0, 1)).maps)
    back = finished(2, volume=pushed, databases=frozenset({"orders", "_users", "_replicator"}))
    for scope, own in ((Scope.SET, None), (Scope.POD, 2)):
        decision = decide(topology(own=own), view(*members, back), scope)
        assert kinds(decision) == ["add_node couchdb-2"]
