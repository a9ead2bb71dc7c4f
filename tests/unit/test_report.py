"""What a run has learned, kept until its end; the termination message."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from couchdiscover.decide.conditions import TYPES
from couchdiscover.output.report import TERMINATION_BYTES, Record, problem, termination_message
from couchdiscover.state.nodes import ClusterView, LoginRefused, Sight
from couchdiscover.state.volumes import ShardFile, Volume
from tests.support.views import erlang_name, fresh, node, record, refusing, report, silent, topology


def test_a_warning_is_kept_once() -> None:
    of = Record("run")
    assert of.warn(["a", "b"]) == ["a", "b"]
    assert of.warn(["b", "c"]) == ["c"]
    assert of.warnings == ["a", "b", "c"]


def test_each_expected_pod_has_its_sight() -> None:
    """In scope pod, a peer may not have been looked at."""
    assert Record("run").sights == []
    assert [each.pod for each in record(node(1)).sights] == ["couchdb-0", "couchdb-1", "couchdb-2"]


@pytest.mark.parametrize(
    ("sights", "coordinator"),
    [
        ((fresh(0), fresh(1), fresh(2)), "couchdb-0"),
        ((silent(0), node(1), node(2)), "couchdb-1"),
        ((fresh(0), node(1), node(2)), "couchdb-1"),
        ((silent(0), silent(1), silent(2)), "couchdb-0"),
    ],
)
def test_the_coordinator(sights: tuple[Sight, ...], coordinator: str) -> None:
    assert record(*sights).coordinator == coordinator
    assert Record("run").coordinator is None


def test_two_clusters_have_no_coordinator() -> None:
    lone = frozenset({erlang_name(2)})
    pair = frozenset({erlang_name(0), erlang_name(1)})
    apart = [node(i, cluster_nodes=pair, all_nodes=pair) for i in range(2)]
    file = ShardFile("orders", "00000000-ffffffff", ".1")
    other = node(2, cluster_nodes=lone, all_nodes=lone, volume=Volume(files=frozenset({file})))
    assert record(*apart, other).coordinator is None


def test_the_conditions_end_with_a_summary() -> None:
    whole = record(node(0), node(1), node(2))
    assert [each.type for each in report(whole).conditions] == [*TYPES, "Succeeded"]
    assert {each.status for each in report(whole).conditions} == {"True"}
    assert report(whole, 3).conditions[-1].status == "False"
    unseen = report(Record("run"), 4).conditions
    assert [each.type for each in unseen] == [*TYPES, "Succeeded"]
    assert [each.status for each in unseen] == [*["Unknown"] * 6, "False"]


def test_the_identity_counts_as_one_where_this_run_has_finished() -> None:
    nodes = [node(i, identity=None) for i in range(3)]
    consistent = report(record(*nodes, finished_here=True)).conditions[5]
    assert (consistent.type, consistent.status) == ("Consistent", "True")


# --- what is known to be a name ---


def test_names_are_those_that_kubernetes_gave_or_bears_out() -> None:
    names = set(record(node(0), node(1, name="secret@elsewhere"), silent(2)).names())
    assert {"db", "couchdb", "couchdb-2", "10.0.0.4", "10.0.0.4:5984", erlang_name(0)} <= names
    assert "couchdb-0.couchdb.db.svc.cluster.local" in names
    assert not [name for name in names if "secret" in name], "a server may say anything"


def test_names_before_anything_was_seen() -> None:
    assert list(Record("run").names()) == []
    assert list(Record("run", "db", "couchdb").names()) == ["db", "couchdb"]
    known = set(replace(record(), view=None).names())
    assert {"couchdb-0", "couchdb-1", "couchdb-2"} <= known


def test_an_erlang_name_by_the_pods_address_is_one() -> None:
    by_address = node(0, name="couchdb@10.0.0.4")
    assert "couchdb@10.0.0.4" in set(record(by_address).names())
    assert "couchdb@10.0.0.5" not in set(record(node(0, name="couchdb@10.0.0.5")).names())


# --- problems ---


@pytest.mark.parametrize(
    ("sight", "told"),
    [
        (node(0), None),
        (node(0, unconnected_because="port 4369 cannot be reached"), "port 4369 cannot be reached"),
        (node(0, unreadable=("_users", "orders")), "cannot open _users, orders"),
        (silent(1), "fails to be given an address by Kubernetes"),
        (refusing(1), "fails to answer at 10.0.0.5:5984: refuses connections"),
        (LoginRefused("couchdb-1", "refused the user 'admin'"), "refused the user 'admin'"),
    ],
)
def test_problems(sight: Sight, told: str | None) -> None:
    assert problem(sight) == told


def test_a_view_without_a_topology_shows_nothing() -> None:
    assert Record("run", view=ClusterView((node(0),))).sights == []
    assert Record("run", topology=topology()).sights == []


# --- the termination message ------------------------------------------------------------------


@given(st.text(max_size=50), st.integers(0, 3), st.sampled_from(["a", "ü", "€", "🛋"]))
def test_the_termination_message_is_cut_at_a_character(
    start: str, padding: int, filler: str
) -> None:
    message = start + "x" * padding + filler * 4200
    cut = termination_message(message)
    assert message.startswith(cut)
    assert TERMINATION_BYTES - 3 <= len(cut.encode()) <= TERMINATION_BYTES


@given(st.text(max_size=200))
def test_a_short_termination_message_is_whole(message: str) -> None:
    assert termination_message(message) == message


def test_a_path_that_is_no_utf_8_can_be_told() -> None:
    assert termination_message("no kubeconfig at /etc/\udcff") == "no kubeconfig at /etc/\\udcff"
