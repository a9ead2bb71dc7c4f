"""The stories of ``run`` and ``check``, from the first look to the end, without a socket."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from couchdiscover.check import assess
from couchdiscover.errors import Denied, NotSo, TimedOut, Unsafe
from couchdiscover.run import assemble
from couchdiscover.sandbox.http import Request, Response
from couchdiscover.state.settings import ClusterState
from tests.support.couchdb import call
from tests.support.stories import Place

Make = Callable[..., Place]


@pytest.fixture
def place(monkeypatch: pytest.MonkeyPatch) -> Make:
    return lambda count=3, **options: Place(monkeypatch, count, **options)


def test_a_fresh_set_and_then_nothing_to_do(place: Make) -> None:
    box = place()
    assert box.play(assemble) == "3 nodes are one cluster, verified on each"
    assert box.steps == ["add_node couchdb-1", "add_node couchdb-2", "finish_cluster couchdb-0"]
    before = len(box.fleet.writes())
    assert box.play(assemble) == "3 nodes are one cluster, verified on each, as they were"
    assert (box.steps, box.fleet.writes()[before:]) == ([], [])
    assert box.play(assess) == "3 nodes are one cluster, asked one by one"
    assert box.record.findings == []


def test_each_pod_for_itself(place: Make) -> None:
    box = place()
    for pod in box.fleet.nodes:
        box.in_pod(pod)
        assert box.play(assemble).startswith(f"{pod} is")
    assert box.play(assemble) == "couchdb-2 is in a cluster of 3"


def test_a_plan_tells_the_steps_and_takes_none(place: Make) -> None:
    box = place()
    with pytest.raises(NotSo, match="there is to do: add_node couchdb-1; add_node couchdb-2"):
        box.play(assemble, dry_run=True)
    assert box.fleet.writes() == []
    box.play(assemble)
    assert box.play(assemble, dry_run=True) == "there is nothing to do"


def test_a_plan_of_a_set_that_is_not_all_there(place: Make) -> None:
    box = place()
    box.fleet.nodes["couchdb-1"].stop()
    with pytest.raises(NotSo, match="run would be waiting for couchdb-1 to answer"):
        box.play(assemble, dry_run=True)


def test_one_look_writes_nothing(place: Make) -> None:
    box = place()
    with pytest.raises(TimedOut, match="one look, and it is not so"):
        box.play(assemble, 0.0)
    assert box.fleet.writes() == []


def test_a_node_that_comes_late_is_waited_for(place: Make) -> None:
    box = place()
    node = box.fleet.nodes["couchdb-1"]
    node.stop()
    box.at.append((3.0, node.start))
    assert box.play(assemble) == "3 nodes are one cluster, verified on each"


def test_a_node_that_never_comes_is_named(place: Make) -> None:
    box = place()
    box.fleet.nodes["couchdb-1"].stop()
    with pytest.raises(TimedOut, match="waiting for couchdb-1 to answer"):
        box.play(assemble, 3.0)


def test_two_clusters_are_refused(place: Make) -> None:
    box = place(2)
    for name, node in box.fleet.nodes.items():
        assert call(node, "PUT", f"/orders-of-{name}").status == 201
    before = len(box.fleet.writes())
    for story in (assemble, assess):
        with pytest.raises(Unsafe, match="2 clusters"):
            box.play(story)
    assert box.fleet.writes()[before:] == []


def test_refused_credentials_end_it(place: Make) -> None:
    box = place(1, user="somebody")
    with pytest.raises(Denied, match="refused the user 'admin' with the password from "):
        box.play(assemble, 3600.0, request_timeout=1.0)


def test_an_existing_cluster_is_asked_for_and_there_is_none(place: Make) -> None:
    box = place()
    with pytest.raises(Unsafe, match="were the volumes lost"):
        box.play(assemble, cluster_state=ClusterState.EXISTING)
    assert box.fleet.writes() == []


def test_a_set_that_was_scaled_to_nothing(place: Make) -> None:
    box = place(1)
    box.topology = replace(box.topology, expected=())
    for story in (assemble, assess):
        assert "scaled to 0" in box.play(story)


def test_a_set_that_grows_right_before_it_is_finished(place: Make) -> None:
    box = place(3)
    all_of_it = box.topology
    box.topology = replace(all_of_it, expected=all_of_it.expected[:2])

    def grow(_pod: str, request: Request) -> None:
        if request.method == "PUT":
            box.topology = all_of_it

    box.fleet.meddle = grow
    assert box.play(assemble) == "3 nodes are one cluster, verified on each"
    assert box.steps[-1] == "finish_cluster couchdb-0"
    assert len(box.fleet.nodes["couchdb-0"].members) == 3


def drifted(box: Place) -> None:
    box.play(assemble)
    box.fleet.nodes["couchdb-1"].config.set("couchdb", "uuid", "b" * 32)


def test_drift_is_a_fault_until_it_is_repaired(place: Make) -> None:
    box = place()
    drifted(box)
    with pytest.raises(NotSo, match="couchdb-1 differs from the cluster in uuid"):
        box.play(assess)
    assert box.play(assess, wait=True) == "3 nodes are one cluster, asked one by one"
    box.play(assemble, repair=False)
    assert any("couchdb-1" in warning for warning in box.record.warnings)
    box.play(assemble)
    assert box.steps == ["sync_identity couchdb-1"]


def deaf(pod: str, request: Request) -> Response | None:
    """Answers every change of a setting as done, and changes nothing."""
    if request.method == "PUT" and "/_config/" in request.path:
        return Response(200, '""')
    return None


def test_a_step_that_changed_nothing_is_not_taken_again(place: Make) -> None:
    box = place()
    drifted(box)
    box.fleet.meddle = deaf
    before = len(box.fleet.writes())
    with pytest.raises(NotSo, match="answered as done, and nothing has changed"):
        box.play(assemble)
    changes = [path for _, path in box.fleet.writes()[before:] if "/_config/" in path]
    assert changes == ["/_node/_local/_config/couchdb/uuid"]


def test_in_a_pod_a_repair_that_changes_nothing_is_a_warning(place: Make) -> None:
    box = place()
    drifted(box)
    box.fleet.meddle = deaf
    box.in_pod("couchdb-1")
    box.play(assemble)
    assert any("couchdb-1 keeps its own identity" in w for w in box.record.warnings)


def test_a_step_that_fails_is_tried_again_and_told_at_the_end(place: Make) -> None:
    box = place(2)
    box.fleet.meddle = lambda _pod, request: (
        Response(500, {"error": "error", "reason": "odd"}) if request.method == "PUT" else None
    )
    with pytest.raises(TimedOut, match=r"add_node couchdb-1 failed: .* odd"):
        box.play(assemble, 20.0)
    assert 2 <= len(box.fleet.writes()) < 30


def test_check_waits_for_what_can_come(place: Make) -> None:
    box = place(2)
    with pytest.raises(TimedOut, match="`couchdiscover run` has still to do: add_node couchdb-1"):
        box.play(assess, 3.0, wait=True)
    with pytest.raises(NotSo, match="the cluster is not whole"):
        box.play(assess)


def test_check_writes_and_reads_and_removes(place: Make) -> None:
    box = place(2)
    box.play(assemble)
    told = box.play(assess, write=True)
    assert told.endswith("a document written through one was read through every other and removed")
    assert not [name for node in box.fleet.nodes.values() for name in node.dbs.live if "ch" in name]


def test_check_writes_nothing_where_the_cluster_is_not_whole(place: Make) -> None:
    box = place(2)
    with pytest.raises(NotSo):
        box.play(assess, write=True)
    assert box.fleet.writes() == []
    assert "nothing was written, since the cluster is not whole" in box.record.warnings


def test_check_names_what_could_not_be_written(place: Make) -> None:
    box = place(2)
    box.play(assemble)
    box.fleet.meddle = lambda _pod, request: (
        Response(500, {"error": "error", "reason": "odd"})
        if request.method == "PUT" and "couchdiscover-check" in request.path
        else None
    )
    with pytest.raises(NotSo, match="couchdb-0 fails to"):
        box.play(assess, write=True)
    assert "write_failed" in [finding.kind for finding in box.record.findings]


def test_check_tells_what_it_could_not_look_at(place: Make) -> None:
    box = place(2)
    box.play(assemble)
    refuse: dict[str, Any] = {"error": "badarg", "reason": "odd"}
    box.fleet.meddle = lambda _pod, request: (
        Response(500, refuse) if request.path.endswith("/_dbs/_all_docs") else None
    )
    with pytest.raises(NotSo, match="shard maps could not be looked at"):
        box.play(assess)


def test_members_left_by_a_scale_down(place: Make) -> None:
    box = place(3)
    box.play(assemble)
    box.fleet.nodes["couchdb-2"].stop()
    box.topology = replace(box.topology, expected=box.topology.expected[:2])
    for story in (assemble, assess):
        with pytest.raises(NotSo, match="left behind by a scale-down"):
            box.play(story)
    assert box.play(assess, wait=True)
    box.in_pod("couchdb-0")
    box.play(assemble)
    assert any("left behind" in warning for warning in box.record.warnings)


def test_a_database_that_was_asked_for(place: Make) -> None:
    box = place(2)
    box.play(assemble)
    with pytest.raises(NotSo, match="orders was asked for"):
        box.play(assess, ensure_dbs=("orders",))
    box.play(assemble, ensure_dbs=("orders",))
    assert box.steps == ["ensure_db couchdb-0"]
    assert box.play(assess, ensure_dbs=("orders",))
