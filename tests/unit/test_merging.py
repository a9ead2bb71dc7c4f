"""Whether a node may be joined to another: what it holds, and what is not known."""

from dataclasses import replace

import pytest

from couchdiscover.decide.decision import decide
from couchdiscover.decide.merging import introduction_question, merge_question, some, unclear
from couchdiscover.errors import Unsafe
from couchdiscover.state.nodes import NodeView
from couchdiscover.state.reasons import OtherMaps
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


# --- maps of one name: one database, or two ----------------------------------------------------


def with_revision(volume: Volume, revision: str, *history: str) -> Volume:
    """The same with one revision of each map, and its history where that was asked for."""
    maps = tuple(
        replace(each, revision=revision, history=(revision, *history) if history else ())
        for each in volume.maps or ()
    )
    return replace(volume, maps=maps)


@pytest.mark.parametrize(
    ("mine", "theirs", "question"),
    [
        # One revision, or one an ancestor of the other: the same database, made once.
        (("1-a",), ("1-a",), None),
        (("1-a", "0-x"), ("2-b", "1-a"), None),
        (("2-b", "1-a"), ("1-a", "0-x"), None),
        # Histories that were not asked for yet tell nothing.
        (("1-a",), ("2-b",), "where its databases come from"),
        # Equal suffixes occur: the second in which a database was made.
        (("2-c", "1-z"), ("2-b", "1-a"), "holds databases of its own (orders)"),
    ],
)
def test_a_node_that_comes_back_is_told_from_one_of_another_cluster_by_its_maps_histories(
    mine: tuple[str, ...], theirs: tuple[str, ...], question: str | None
) -> None:
    own = node(1, volume=with_revision(holding("orders", on=names(0, 1)), *mine))
    leader = finished(0, 1, volume=with_revision(holding("orders", on=names(0, 1)), *theirs))
    asked = merge_question(own, leader)
    if question is None:
        assert asked is None
    else:
        assert question in str(asked.reason if isinstance(asked, Refuse) else asked)


def test_a_member_is_told_of_another_only_where_their_maps_are_known_to_agree() -> None:
    one = finished(0, 1, volume=with_revision(holding("orders"), "1-a"))
    assert introduction_question(one, replace(one, pod="couchdb-1")) is None
    for mine, theirs, missing in (
        (replace(one, volume=None), one, "its shard maps"),
        (one, replace(one, pod="couchdb-1", volume=Volume()), "the shard maps of couchdb-1"),
    ):
        assert missing in str(introduction_question(mine, theirs))
    later = replace(one, pod="couchdb-1", volume=with_revision(holding("orders"), "2-b"))
    assert "where its databases come from" in str(introduction_question(one, later))
    other = replace(
        one, pod="couchdb-1", volume=with_revision(holding("orders", suffix=".9"), "1-a")
    )
    assert introduction_question(one, other) == OtherMaps(("orders",), "couchdb-1")


def test_histories_are_asked_for_where_they_alone_tell() -> None:
    def at(ordinal: int, revision: str) -> NodeView:
        return node(ordinal, volume=with_revision(holding("orders", "users"), revision))

    assert unclear([at(0, "1-a"), at(1, "1-a")]) == frozenset()
    assert unclear([at(0, "1-a"), at(1, "2-b")]) == {"orders", "users"}
    assert unclear([at(0, "1-a"), node(1, volume=None)]) == frozenset()


def test_many_names_are_counted() -> None:
    assert some(["c", "a", "b"]) == "a, b, c"
    assert some([f"db{n}" for n in range(7)]) == "db0, db1, db2, db3, db4 and 2 more"
