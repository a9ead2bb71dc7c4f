"""What is verified before a run says so: volumes that were lost, moved or are not ready."""

from collections.abc import Callable
from typing import Any

import pytest

from couchdiscover.check import assess
from couchdiscover.errors import NotSo, TimedOut
from couchdiscover.run import assemble
from couchdiscover.sandbox.couchdb import Volume
from couchdiscover.sandbox.http import Request, Response
from tests.support.couchdb import call
from tests.support.stories import Place

Make = Callable[..., Place]


@pytest.fixture
def place(monkeypatch: pytest.MonkeyPatch) -> Make:
    """An assembled cluster with a database of some documents."""

    def make(count: int = 3) -> Place:
        box = Place(monkeypatch, count)
        box.play(assemble)
        node = box.fleet.nodes["couchdb-0"]
        assert call(node, "PUT", "/orders").status == 201
        for number in range(8):
            assert call(node, "PUT", f"/orders/order-{number}", {"n": number}).status == 201
        return box

    return make


def network(box: Place) -> Any:
    return box.fleet.nodes["couchdb-0"].network


def lose(box: Place, pod: str, *, held: bool) -> None:
    """Its volume is gone; the peers fill it again, or are kept from it."""
    node = box.fleet.nodes[pod]
    node.stop()
    if held:
        network(box).replication.hold(node.name, 0)
    node.volume = Volume()
    node.start()
    network(box).wait(1)


def test_a_lost_volume_is_waited_for_until_its_copies_are_proven(place: Make) -> None:
    box = place()
    lose(box, "couchdb-1", held=True)
    with pytest.raises(TimedOut, match="its volume was lost"):
        box.play(assemble, 5.0)
    assert "sync_shards couchdb-0" in box.steps
    with pytest.raises(NotSo, match="couchdb-1 has lost its volume"):
        box.play(assess)
    node = box.fleet.nodes["couchdb-1"]
    box.at.append((3.0, lambda: network(box).replication.release(node.name)))
    assert box.play(assemble).startswith("3 nodes are one cluster, verified on each")
    before = len(box.fleet.writes())
    box.play(assemble)
    assert box.fleet.writes()[before:] == []


def test_who_does_not_wait_for_copies_is_told(place: Make) -> None:
    box = place()
    lose(box, "couchdb-1", held=True)
    box.play(assemble, wait_for_copies=False)
    assert any("is served while it is being filled" in w for w in box.record.warnings)
    assert "couchdiscover" not in box.fleet.nodes["couchdb-1"].volume.dbs.local


def test_volumes_that_changed_places_and_hold_the_same_are_marked_anew(place: Make) -> None:
    """Each has a copy of everything, so that no map names what is not there."""
    box = place()
    one, other = (box.fleet.nodes[pod] for pod in ("couchdb-0", "couchdb-1"))
    one.stop()
    other.stop()
    one.volume, other.volume = other.volume, one.volume
    one.start()
    other.start()
    network(box).wait(6)
    box.play(assemble)
    for node in (one, other):
        assert node.volume.dbs.local["couchdiscover"]["node"] == node.name
    assert box.play(assess)


@pytest.mark.parametrize("pod", [None, "couchdb-1"])
def test_a_node_that_never_gets_ready_is_told(place: Make, pod: str | None) -> None:
    box = place()
    box.fleet.meddle = lambda _pod, request: (
        Response(404, {"status": "seeding", "seeds": {}}) if request.path == "/_up" else None
    )
    if pod:
        box.in_pod(pod)
        box.play(assemble)
        assert any("/_up says seeding" in warning for warning in box.record.warnings)
        return
    for story in (assemble, assess):
        with pytest.raises(NotSo, match="/_up says seeding"):
            box.play(story)


def empty(box: Place, pod: str, database: str, documents: int = 0) -> None:
    """The copies of a database on a node are as CouchDB makes missing ones: there, and empty.

    Or filled again with so many documents, and no more.
    """
    node = box.fleet.nodes[pod]
    network(box).replication.hold(node.name, documents)
    for path in call(node, "GET", "/_node/_local/_all_dbs").body:
        if f"/{database}." in path:
            where = f"/_node/_local/{path.replace('/', '%2F')}"
            assert call(node, "DELETE", where).status == 200
            assert call(node, "PUT", where).status == 201
    if documents:
        call(box.fleet.nodes["couchdb-0"], "POST", f"/{database}/_sync_shards")
        network(box).wait(6)


@pytest.mark.parametrize("seconds", [1.0, 10.0])
def test_empty_copies_are_looked_at_again_within_the_time_there_is(
    place: Make, seconds: float
) -> None:
    box = place()
    for node in box.fleet.nodes.values():
        del node.volume.dbs.local["couchdiscover"]
    empty(box, "couchdb-1", "orders")
    before = len(box.fleet.asked)
    told = "there was still to do: sync_shards|couchdb-1 to have its copies filled"
    with pytest.raises(TimedOut, match=told):
        box.play(assemble, seconds)
    assert box.slept <= 2 * seconds, "the time begins anew once, when copies are waited for"
    looks = [request for _, request in box.fleet.asked[before:] if request.path == "/_up"]
    rounds = len(looks) / len(box.fleet.nodes)
    assert rounds >= seconds, "what was found empty once is not waited for in each look"


@pytest.mark.parametrize("pod", [None, "couchdb-1"])
def test_files_that_couchdb_has_made_anew_on_a_marked_volume_are_found(
    place: Make, pod: str | None
) -> None:
    """Their names are all there, and what they held is not."""
    box = place()
    empty(box, "couchdb-1", "orders")
    with pytest.raises(NotSo, match=r"couchdb-1 lacks .* of its files, or has them empty"):
        box.play(assess)
    if pod:
        box.in_pod(pod)
    with pytest.raises(TimedOut, match="couchdb-1 to have its copies filled"):
        box.play(assemble, 10.0)
    node = box.fleet.nodes["couchdb-1"]
    box.at.append((box.slept + 12.0, lambda: network(box).replication.release(node.name)))
    assert box.play(assemble)
    assert any(step.startswith("sync_shards") for step in box.steps)
    before = len(box.fleet.writes())
    box.play(assemble)
    assert (box.steps, box.fleet.writes()[before:]) == ([], [])
    counts = {
        call(node, "GET", f"/_node/_local/{path.replace('/', '%2F')}").body["doc_count"]
        for node in box.fleet.nodes.values()
        for path in call(node, "GET", "/_node/_local/_all_dbs").body
        if "/00000000-7fffffff/orders." in path
    }
    assert len(counts) == 1


@pytest.mark.parametrize("pod", [None, "couchdb-1"])
def test_a_marked_volume_with_half_full_copies_is_not_as_it_was(
    place: Make, pod: str | None
) -> None:
    """As after a run that was killed while they were being filled."""
    box = place()
    empty(box, "couchdb-1", "orders", documents=1)
    with pytest.raises(NotSo, match="couchdb-1 holds less than others in some copy"):
        box.play(assess)
    if pod:
        box.in_pod(pod)
    with pytest.raises(TimedOut, match="couchdb-1 to have its copies filled"):
        box.play(assemble, 10.0)
    network(box).replication.release(box.fleet.nodes["couchdb-1"].name)
    assert box.play(assemble)


def test_a_database_that_is_made_meanwhile_lacks_nothing(place: Make) -> None:
    """Files and maps are two questions, and what is named in the later one only is no loss."""
    box = place()
    node = box.fleet.nodes["couchdb-0"]
    asked: list[str] = []

    def meanwhile(_pod: str, request: Request) -> None:
        if request.path == "/_node/_local/_dbs/_all_docs" and not asked:
            asked.append(request.path)
            assert call(node, "PUT", "/new").status == 201

    box.fleet.meddle = meanwhile
    assert box.play(assemble).startswith("3 nodes are one cluster, verified on each")
    assert asked
    assert box.steps == []
