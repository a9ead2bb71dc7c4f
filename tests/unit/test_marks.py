"""The mark: what it says, and that it is looked for after it was written."""

from typing import Any

from couchdiscover.couch.marks import KEPT, write_marks
from couchdiscover.couch.observer import Observer
from couchdiscover.decide.common import Policy
from couchdiscover.decide.decision import decide
from couchdiscover.sandbox.http import Response
from couchdiscover.state.nodes import ClusterView
from couchdiscover.state.steps import Done
from couchdiscover.state.topology import Scope, Topology
from tests.support.couchdb import finish, join
from tests.support.fleet import NearFleet, near

PLACE = "/_node/_local/_dbs/_local/couchdiscover"


def whole(count: int = 3) -> tuple[Topology, NearFleet]:
    place, fleet = near(count)
    nodes = list(fleet.nodes.values())
    join(nodes)
    assert finish(nodes[0]) == 201
    nodes[0].network.wait(6)  # type: ignore[attr-defined]
    return place, fleet


def look(place: Topology, fleet: NearFleet) -> ClusterView:
    return Observer(fleet, fleet.deadline, Scope.SET).look(place)


def due(place: Topology, view: ClusterView, **policy: Any) -> tuple[str, ...]:
    decision = decide(place, view, Scope.SET, Policy(**policy))
    assert isinstance(decision, Done), decision
    return decision.marks


def test_every_verified_volume_is_marked_once() -> None:
    place, fleet = whole()
    view = look(place, fleet)
    assert due(place, view) == tuple(fleet.nodes)
    assert write_marks(due(place, view), place, view, fleet) == ()
    uuids = {node.name: node.volume.dbs.uuid for node in fleet.nodes.values()}
    for node in fleet.nodes.values():
        mark = node.volume.dbs.local["couchdiscover"]
        assert (mark["format"], mark["node"]) == (1, node.name)
        assert mark["uuid"] == node.volume.dbs.uuid
        assert mark["seen"] == {name: [uuid] for name, uuid in uuids.items()}
    assert due(place, look(place, fleet)) == ()


def test_none_is_due_where_none_is_wanted() -> None:
    place, fleet = whole()
    assert due(place, look(place, fleet), mark=False) == ()


def test_a_member_with_another_volume_is_noted_by_the_others_and_the_old_one_kept() -> None:
    place, fleet = whole()
    view = look(place, fleet)
    write_marks(due(place, view), place, view, fleet)
    other = fleet.nodes["couchdb-2"]
    old = other.volume.dbs.uuid
    other.volume.dbs.uuid = "f" * 32
    other.volume.dbs.local.clear()
    view = look(place, fleet)
    write_marks(tuple(fleet.nodes), place, view, fleet)
    for pod in ("couchdb-0", "couchdb-1"):
        seen = fleet.nodes[pod].volume.dbs.local["couchdiscover"]["seen"]
        assert seen[other.name] == ["f" * 32, old]
    assert len(seen[other.name]) <= KEPT


def test_what_could_not_be_written_is_a_warning_that_names_the_pod() -> None:
    place, fleet = whole()
    view = look(place, fleet)
    fleet.meddle = lambda pod, request: (
        Response(500, {"error": "error", "reason": "enospc"})
        if request.method == "PUT" and pod == "couchdb-1"
        else None
    )
    (warning,) = write_marks(tuple(fleet.nodes), place, view, fleet)
    assert warning.startswith("couchdb-1: the mark on its volume could not be written")
    assert "enospc" in warning


def test_a_mark_that_is_answered_as_written_and_is_not_there_is_told() -> None:
    place, fleet = whole()
    view = look(place, fleet)
    fleet.meddle = lambda pod, request: (
        Response(201, {"ok": True})
        if request.method == "PUT" and request.path == PLACE and pod == "couchdb-0"
        else None
    )
    (warning,) = write_marks(tuple(fleet.nodes), place, view, fleet)
    assert "couchdb-0" in warning
    assert "not there after it was written" in warning
