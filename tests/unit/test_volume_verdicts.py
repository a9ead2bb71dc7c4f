"""What is refused because of what lies on volumes, and what keeps a run from saying "verified"."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest

from couchdiscover.decide.common import Policy
from couchdiscover.decide.decision import decide
from couchdiscover.decide.membership import Membership
from couchdiscover.decide.verification import (
    Verdict,
    closed_note,
    few_copies,
    marks_due,
    sampled,
    stranded_note,
    verify,
    volume_answer,
    volume_refusal,
)
from couchdiscover.errors import NotSo, Unsafe
from couchdiscover.state.nodes import Copies, NodeDetails, NodeView
from couchdiscover.state.steps import AddCopies, Do, Done, Refuse, Wait
from couchdiscover.state.topology import Scope
from couchdiscover.state.volumes import FileInfo, Mark, ShardFile, ShardMap, Trace, Volume
from tests.support.decisions import (
    down,
    erlang_name,
    finished,
    groups,
    holding,
    names,
    node,
    read,
    refused,
    topology,
    view,
    waits,
)

ELSEWHERE = "couchdb@couchdb-0.couchdb.prod.svc.cluster.local"
RANGE = "00000000-ffffffff"


def old(ordinal: int) -> str:
    return f"couchdb@couchdb-{ordinal}.couchdb.prod.svc.cluster.local"


def volume(database: str = "orders", *, on: Sequence[str], **more: Any) -> Volume:
    """A volume with the one file, and the map, of a database."""
    shard_map = ShardMap(database, {RANGE: tuple(on)}, suffix=".1", revision="1-a")
    found = Volume(frozenset({shard_map.file(RANGE)}), (shard_map,), traces=(), filled=frozenset())
    return replace(found, **more)


def restored(ordinal: int, was: int | None = None, **more: Any) -> NodeView:
    """A node on a volume that had another name, as its history tells."""
    former = old(ordinal if was is None else was)
    uuid = f"{former}'s"
    history = (Trace(former, uuid, "2026-01-01"),)
    everywhere = [old(n) for n in range(3)]
    found = volume(on=everywhere, uuid=uuid, traces=history)
    return node(ordinal, volume=found, **more)


def member(ordinal: int, found: Volume, **more: Any) -> NodeView:
    return finished(ordinal, *(n for n in range(3) if n != ordinal), volume=found, **more)


def verdict(nodes: Sequence[NodeView], policy: Policy | None = None, **more: Any) -> Verdict | None:
    membership = groups(view(*nodes, **more), len(nodes))
    return verify(membership, nodes, nodes[0], policy or Policy())


# --- volumes that are not what their nodes are called -----------------------------------------


def test_former_names_are_refused_with_the_command_that_helps() -> None:
    reason = refused(
        decide(topology(3), view(*map(restored, range(3))), Scope.SET, Policy()), Unsafe
    )
    assert f"couchdb-1 was {old(1)}" in reason
    assert "`couchdiscover adopt`" in reason
    assert "nothing is to be deleted or emptied" in reason


def test_where_nothing_tells_whose_volume_it_was_the_candidates_are_named() -> None:
    bare = [
        replace(each, volume=replace(each.volume or Volume(), traces=(), uuid=None))
        for each in map(restored, range(2))
    ]
    found = volume_refusal(groups(view(*bare), 2))
    assert found is not None
    assert f"{old(0)} may be the volume of couchdb-0 or couchdb-1" in found.reason


def test_in_scope_pod_a_restored_pod_is_let_through_untouched_while_nothing_is_adopted() -> None:
    """The others must be able to start: without them nothing can be adopted."""
    place = topology(3, own=0)
    decision = decide(place, view(restored(0), down(1), down(2)), Scope.POD, Policy())
    assert isinstance(decision, Done)
    assert f"couchdb-0 was {old(0)}" in decision.warnings[0]
    assert "left as it is" in decision.conclusion
    assert decision.marks == ()


def test_a_rolling_rename_is_caught_at_its_first_pod() -> None:
    """No map names the present name of the own pod, and others still answer under theirs."""
    where = [old(0), erlang_name(1), erlang_name(2)]
    uuid = "first"
    renamed = node(
        0, volume=volume(on=where, uuid=uuid, traces=(Trace(old(0), uuid, "2026-01-01"),))
    )
    others = [member(n, volume(on=where)) for n in (1, 2)]
    decision = decide(topology(3, own=0), view(renamed, *others), Scope.POD, Policy())
    assert f"couchdb-0 was {old(0)}" in refused(decision, Unsafe)


def test_volumes_that_changed_places_are_refused_and_keep_no_pod_from_starting() -> None:
    """As former names: `adopt` needs all pods, and OrderedReady brings them one by one."""
    one = ShardMap("a", {RANGE: (erlang_name(0),)}, suffix=".1", revision="1-a")
    other = ShardMap("b", {RANGE: (erlang_name(1),)}, suffix=".1", revision="1-a")

    def moved(ordinal: int, was: int, own: ShardMap) -> NodeView:
        uuid = f"couchdb-{was}'s"
        found = Volume(
            frozenset({own.file(RANGE)}),
            (one, other),
            uuid=uuid,
            mark=Mark(erlang_name(was), uuid, {}, "2026-01-01"),
            traces=(),
            filled=frozenset(),
        )
        return finished(ordinal, 1 - ordinal, volume=found)

    sights = view(moved(0, 1, other), moved(1, 0, one))
    reason = refused(decide(topology(2), sights, Scope.SET, Policy()), Unsafe)
    assert f"couchdb-0 has the one of {erlang_name(1)}" in reason
    assert "`couchdiscover adopt`" in reason
    own = decide(topology(2, own=0), sights, Scope.POD, Policy())
    assert isinstance(own, Done)
    assert own.warnings == (reason,)
    assert own.marks == ()


def test_one_snapshot_at_two_pods_is_refused_and_nothing_is_to_be_emptied() -> None:
    twins = [member(n, volume(on=list(names(0, 1, 2)), uuid="same")) for n in (0, 1)]
    sights = view(*twins, member(2, volume(on=list(names(0, 1, 2)), uuid="other")))
    for own, scope in ((None, Scope.SET), (2, Scope.POD)):
        reason = refused(decide(topology(3, own=own), sights, scope, Policy()), Unsafe)
        assert "the volumes of couchdb-0, couchdb-1 are copies of one volume" in reason
        assert "keep what is there" in reason


def clone_of(mark: str | None) -> Membership:
    """A node whose volume's ``_dbs`` is that of a connected node which is no pod of ours."""
    both = frozenset({erlang_name(0), ELSEWHERE})
    left = Mark(mark, "same", {}, "2026-01-01") if mark else None
    own = finished(
        0,
        volume=volume(on=[erlang_name(0)], uuid="same", mark=left),
        all_nodes=both,
        cluster_nodes=both,
    )
    return groups(view(own, others={ELSEWHERE: Volume(uuid="same")}), 1)


def test_a_clone_that_has_met_its_original_is_refused() -> None:
    found = volume_refusal(clone_of(ELSEWHERE))
    assert found is not None
    assert found.error is Unsafe
    assert f"couchdb-0 has a copy of the volume of {ELSEWHERE}" in found.reason
    assert "Scale this StatefulSet to 0" in found.reason


@pytest.mark.parametrize("mark", [erlang_name(0), None])
def test_the_original_of_a_clone_names_it_and_is_not_refused_as_one(mark: str | None) -> None:
    """By its mark; without one the maps name its own files, and none at the clone's name."""
    membership = clone_of(mark)
    found = volume_refusal(membership)
    assert found is not None
    assert found.error is NotSo
    assert f"{ELSEWHERE} runs on copies of volumes of this cluster, in couchdb.prod" in found.reason
    assert volume_answer(membership, membership.view.nodes[0]) is None  # a warning, in scope pod


# --- databases under former names that an adoption has left so --------------------------------


def test_a_database_without_a_range_is_named_with_it_and_the_others_are_counted() -> None:
    told = stranded_note({"b": "80000000-ffffffff", "a": RANGE})
    assert told.startswith("the shard maps of a, b name nodes that are gone")
    assert f"range {RANGE} of a" in told


@pytest.mark.parametrize("held", [True, False])
def test_what_adopt_left_under_former_names_is_no_refusal(held: bool) -> None:
    """Noted in the mark, with every other map adopted: replications that are held, or a database
    of which no volume has a range. Nothing is finished meanwhile."""
    name = "_replicator" if held else "orders"
    left = ShardMap(name, {RANGE: (old(0),)}, suffix=".1", revision="1-a")
    files = frozenset({left.file(RANGE)}) if held else frozenset[ShardFile]()
    mark = Mark(erlang_name(0), "own", {}, "2026-01-01", was=(old(0),))
    found = Volume(files, (left,), "own", mark, (Trace(old(0), "own", "2026"),), frozenset())
    membership = groups(view(finished(0, volume=found)), 1)
    if held:
        assert volume_refusal(membership) is None
        assert volume_answer(membership, membership.view.nodes[0]) is None
    note = closed_note(membership.survey)
    assert note is not None
    (own,) = membership.view.nodes
    told = verify(membership, [own], own, Policy())
    assert told is not None
    assert refused(told.decision, NotSo) == note
    assert name in note
    assert ("--replications run" if held else "no volume here has a file") in note


# --- verified ---------------------------------------------------------------------------------


def whole(count: int = 3, **more: Any) -> list[NodeView]:
    on = list(names(*range(count)))
    return [
        finished(
            n,
            *(m for m in range(count) if m != n),
            volume=volume(on=on, traces=None),
            **more,
        )
        for n in range(count)
    ]


def test_nothing_is_amiss_with_a_whole_set() -> None:
    assert verdict(whole()) is None


def test_nodes_whose_seeds_have_not_answered_are_not_verified() -> None:
    nodes = [replace(each, up="seeding") for each in whole()]
    told = verdict(nodes)
    assert told is not None
    decision = told.decision
    assert {str(reason) for reason in waits(decision).values()} == {
        "to be ready; /_up says seeding"
    }
    assert isinstance(decision, Wait)
    assert isinstance(decision.at_the_end, Refuse)
    reason = refused(decision.at_the_end, NotSo)
    assert reason.startswith("/_up says seeding at couchdb-0, couchdb-1, couchdb-2: no node of")
    assert "correct the setting" in reason
    at_once = told.as_warning(("first",))  # a pod must be able to start, also without its seeds
    assert isinstance(at_once, Done)
    assert at_once.warnings == ("first", reason)


def test_a_node_in_maintenance_mode_is_not_verified() -> None:
    nodes = whole()
    told = verdict([*nodes[:2], replace(nodes[2], up="maintenance_mode")])
    assert told is not None
    assert "maintenance_mode is on at couchdb-2: its" in refused(told.decision, NotSo)
    assert verdict([*nodes[:2], replace(nodes[2], up="nolb")]) is None


def test_copies_that_went_with_a_member_are_no_verified_state() -> None:
    """As after a scale-down whose leftover was taken out of _nodes before its shards were moved."""
    on = list(names(0, 1, 9))
    told = verdict([replace(each, volume=volume(on=on, traces=None)) for each in whole()])
    assert told is not None
    reason = refused(told.decision, NotSo)
    assert reason.startswith("orders: 2 copies on members, of some range at least, fewer than")
    few = [replace(each, volume=volume(on=list(names(0)), traces=None)) for each in whole()]
    made_so = verdict(few)  # with one copy: a warning of check's
    assert made_so is not None
    assert waits(made_so.decision)


def test_a_sample_that_was_to_be_read_and_was_not_is_waited_for() -> None:
    """Also of marked volumes: CouchDB makes missing named files anew, empty."""
    nodes = [
        replace(each, volume=replace(each.volume or Volume(), sampled=True)) for each in whole()
    ]
    told = verdict(nodes)
    assert told is not None
    assert "what its copies hold" in waits(told.decision)["couchdb-0"]
    assert verdict([with_infos(each, FULL) for each in nodes]) is None
    unread = replace(nodes[0], volume=replace(nodes[0].volume or Volume(), files=None))
    assert sampled(groups(view(unread, *nodes[1:])).survey, "couchdb-0") == ()


def test_maps_in_conflict_are_a_fault() -> None:
    nodes = whole()
    found = nodes[1].volume or Volume()
    maps = tuple(replace(each, conflicting=True) for each in found.maps or ())
    nodes[1] = replace(nodes[1], volume=replace(found, maps=maps))
    told = verdict(nodes)
    assert told is not None
    assert "the shard maps of orders have conflicts" in refused(told.decision, NotSo)


def test_a_fault_of_the_set_is_a_warning_for_a_pod() -> None:
    told = Verdict(Refuse(NotSo, "the maps have conflicts", ("a",), ("couchdb-0",)))
    assert told.as_warning(("b",)) == Done(("b", "a", "the maps have conflicts"), ("couchdb-0",))
    assert told.with_warnings(("b",)) == replace(told.decision, warnings=("b", "a"))
    waiting = Verdict(Wait({}, ("a",)))
    assert waiting.as_warning(("b",)) == Wait({}, ("b", "a"))


def unmarked(nodes: list[NodeView], at: int, **more: Any) -> list[NodeView]:
    """The same where one volume has no mark."""
    found = replace(nodes[at].volume or Volume(), mark=None, **more)
    return [replace(each, volume=found) if n == at else each for n, each in enumerate(nodes)]


def test_an_unmarked_volume_is_not_called_verified_before_its_evidence_was_read() -> None:
    nodes = whole()
    told = verdict(unmarked(nodes, 1, uuid=None))
    assert told is not None
    assert "which volume it has" in waits(told.decision)["couchdb-1"]
    told = verdict(unmarked(nodes, 1))
    assert told is not None
    assert "what its copies hold" in waits(told.decision)["couchdb-1"]
    deaf = replace(nodes[2], volume=replace(nodes[2].volume or Volume(), traces=None, mark=None))
    before = unmarked([*nodes[:2], deaf], 1)
    membership = groups(view(*before))
    told = verify(membership, before[:2], before[0], Policy())
    assert told is not None
    assert "whether it knows couchdb-1 with another volume" in waits(told.decision)["couchdb-2"]


FULL, EMPTY = FileInfo("f", 3, 0, 3), FileInfo("e", 0, 0, 0)
ORDERS = ShardFile("orders", RANGE, ".1")


def with_infos(each: NodeView, info: FileInfo | None) -> NodeView:
    infos = {} if info is None else {ORDERS: info}
    return replace(each, volume=replace(each.volume or Volume(), infos=infos))


def test_an_empty_copy_is_compared_with_every_other_one_that_is_there() -> None:
    nodes = unmarked(whole(), 1)
    nodes[1] = with_infos(nodes[1], EMPTY)
    told = verdict(nodes)  # what the others' copies hold was not read
    assert told is not None
    assert "what its copies hold" in waits(told.decision)["couchdb-0"]
    both = [with_infos(each, EMPTY) for each in nodes]
    assert verdict(both) is None  # all of them are: nothing was ever stored
    full = [with_infos(each, EMPTY if n == 1 else FULL) for n, each in enumerate(nodes)]
    told = verdict(full)
    assert told is not None
    assert "couchdb-1" in refused(told.decision, NotSo)
    # A file that is not there is no copy to compare with: it is missing, at that node.
    gone = [
        each
        if n == 1
        else replace(each, volume=replace(each.volume or Volume(), files=frozenset()))
        for n, each in enumerate(nodes)
    ]
    membership = groups(view(*gone))
    assert verify(membership, gone[1:2], gone[1], Policy()) is None


def test_an_empty_copy_is_compared_with_those_of_another_statefulset_too() -> None:
    """One cluster over two StatefulSets: the other copy is with a member that is no pod of ours."""
    on = [erlang_name(0), ELSEWHERE]
    both = frozenset(on)
    own = finished(0, volume=volume(on=on, traces=None), all_nodes=both, cluster_nodes=both)
    (own,) = unmarked([own], 0)
    own = with_infos(own, EMPTY)
    told = verdict([own], others={ELSEWHERE: Volume(uuid="u")})
    assert told is not None
    assert f"whether {ELSEWHERE} knows it with another" in waits(told.decision)["couchdb-0"]
    told = verdict([own], others={ELSEWHERE: Volume(uuid="u", traces=())})
    assert told is not None
    assert f"what the copies of {ELSEWHERE} hold" in waits(told.decision)["couchdb-0"]
    theirs = Volume(frozenset({ORDERS}), uuid="u", traces=(), infos={ORDERS: EMPTY})
    assert verdict([own], others={ELSEWHERE: theirs}) is None
    without = Volume(frozenset(), uuid="u", traces=())
    assert verdict([own], others={ELSEWHERE: without}) is None
    knowing = Volume(frozenset(), uuid="u", traces=(Trace(own.name, "former", "2026-01-01"),))
    membership = groups(view(own, others={ELSEWHERE: knowing}), 1)
    assert membership.survey.lost == {"couchdb-0": ELSEWHERE}


def test_ranges_whose_only_copies_were_lost_are_told_once_and_marked() -> None:
    nodes = unmarked(whole(), 1, uuid="anew")
    copies = Copies(names(1), ("orders",), gone=frozenset({"orders"}), synced=True)
    told = verdict(nodes, copies=copies)
    assert told is not None
    reason = refused(told.decision, NotSo)
    assert "couchdb-1 has lost its volume" in reason
    assert "the only copies of some range of orders" in reason
    assert isinstance(told.decision, Refuse)
    assert "couchdb-1" in told.decision.marks


def test_copies_lost_elsewhere_are_nothing_to_wait_for_here() -> None:
    """In scope pod the own node is verified, and another's copies are that one's own matter."""
    nodes = whole()
    copies = Copies(names(2), ("orders",), left={erlang_name(2): (ORDERS,)}, synced=True)
    membership = groups(view(*nodes, copies=copies))
    assert verify(membership, nodes[:1], nodes[0], Policy()) is None


def test_an_adoption_without_its_proof_is_not_called_verified() -> None:
    """Its mark has no time yet: `adopt` leaves it before its first step."""
    nodes = whole()
    mark = Mark(old(1), "couchdb-1's", {})
    nodes[1] = replace(nodes[1], volume=replace(nodes[1].volume or Volume(), mark=mark))
    nodes = [with_infos(each, FULL) for each in nodes]
    told = verdict(nodes)
    assert told is not None
    reason = refused(told.decision, NotSo)
    assert f"the volume of couchdb-1 (formerly {old(1)})" in reason
    assert "`couchdiscover adopt` goes on with it" in reason


@pytest.mark.parametrize(
    ("changes", "missing"),
    [
        ({"up": None}, "whether it is ready"),
        ({"volume": None}, "its files"),
        ({"volume": Volume(files=frozenset())}, "whose volume it has"),
    ],
)
def test_what_was_not_read_is_waited_for_and_never_taken_for_empty(
    changes: dict[str, Any], missing: str
) -> None:
    nodes = whole()
    nodes[1] = replace(nodes[1], **changes)
    told = verdict(nodes)
    assert told is not None
    assert missing in waits(told.decision)["couchdb-1"]


def test_unread_shard_maps_are_waited_for() -> None:
    found = [replace(each.volume or Volume(), maps=None) for each in whole()]
    told = verdict([replace(each, volume=v) for each, v in zip(whole(), found, strict=True)])
    assert told is not None
    assert set(waits(told.decision)) == {"couchdb-0", "couchdb-1", "couchdb-2"}
    assert "the shard maps" in waits(told.decision)["couchdb-1"]


@pytest.mark.parametrize("addresses", [True, False])
@pytest.mark.parametrize("waiting", [True, False])
def test_copies_whose_other_holder_is_silent(addresses: bool, waiting: bool) -> None:
    """Waited for where it has an address; else told, since OrderedReady must go on."""
    on = [erlang_name(1), erlang_name(2)]
    place = topology(3, own=1)
    if not addresses:
        last = replace(place.expected[2], addresses=())
        place = replace(place, expected=(*place.expected[:2], last))
    nodes = [
        finished(n, *(m for m in range(3) if m != n), volume=volume(on=on, traces=None))
        for n in range(2)
    ]
    nodes = unmarked(nodes, 1, uuid="anew")
    copies = Copies(names(1), ("orders",), unsourced={erlang_name(1): (ORDERS,)}, synced=True)
    membership = Membership.of(place, view(*nodes, down(2), copies=copies))
    policy = Policy(wait_for_copies=waiting)
    told = verify(membership, nodes[1:], nodes[0], policy)
    assert told is not None
    if addresses and waiting:
        assert "copies" in waits(told.decision)["couchdb-1"]
        return
    reason = refused(told.decision, NotSo)
    assert "couchdb-1 has lost its volume" in reason
    assert "1 shard copy" in reason
    assert "couchdb-2" in reason


def test_copies_whose_other_holder_was_not_read_in_time_are_waited_for() -> None:
    """A member of another StatefulSet, which is connected: a look that is cut short tells less."""
    nodes = [
        replace(
            each,
            all_nodes=each.all_nodes | {ELSEWHERE},
            cluster_nodes=each.cluster_nodes | {ELSEWHERE},
        )
        for each in unmarked(whole(), 1, uuid="anew")
    ]
    on = [erlang_name(1), ELSEWHERE]
    nodes = [
        replace(each, volume=replace(each.volume or Volume(), maps=volume(on=on).maps))
        for each in nodes
    ]
    copies = Copies(names(1), ("orders",), unsourced={erlang_name(1): (ORDERS,)}, synced=True)
    told = verdict(nodes, copies=copies, others={ELSEWHERE: Volume(uuid="theirs", traces=())})
    assert told is not None
    assert "copies" in waits(told.decision)["couchdb-1"]


def test_copies_that_an_unlost_volume_lacks_are_told_so() -> None:
    """No sign of a lost volume: not to be called one."""
    nodes = whole()
    copies = Copies(
        names(1), ("orders",), left={erlang_name(1): (ORDERS,)}, total={erlang_name(1): 1},
        synced=True,
    )  # fmt: skip
    membership = groups(view(*nodes, copies=copies))
    told = verify(membership, nodes, nodes[0], Policy(wait_for_copies=False))
    assert told is not None
    assert isinstance(told.decision, Done)
    assert told.decision.warnings[0].startswith("couchdb-1 lacks shard copies")


# --- the copies of system databases -----------------------------------------------------------


def test_only_blank_databases_with_few_copies_get_more() -> None:
    details = NodeDetails("couchdb-0")
    alone, everywhere = names(0), names(0, 1, 2)
    few = holding("_users", "_replicator", on=alone)
    more = holding("_global_changes")
    known = replace(
        few,
        maps=(*(few.maps or ()), *(more.maps or ())),
        files=(few.files or frozenset()) | (more.files or frozenset()),
        filled=frozenset({"_replicator"}),
    )
    nodes = whole()
    nodes = [read(replace(each, volume=known)) for each in nodes]
    nodes[0] = replace(nodes[0], details=details)
    membership = groups(view(*nodes))
    assert set(few_copies(membership, nodes[0])) == {"_users", "_replicator"}
    told = verify(membership, nodes[:1], nodes[0], Policy())
    assert told is not None
    assert isinstance(told.decision, Do)
    (step,) = told.decision.steps  # what _replicator holds is not moved by a run
    assert isinstance(step, AddCopies)
    assert (step.database, set(step.nodes)) == ("_users", set(everywhere))


def test_where_placement_decides_or_the_configuration_is_unknown_no_copies_are_added() -> None:
    few = holding("_users", filled=False, on=names(0))
    nodes = [read(replace(each, volume=few)) for each in whole()]
    zoned = replace(NodeDetails("couchdb-0"), placement="z1:1")
    for details in (None, zoned):
        own = replace(nodes[0], details=details)
        assert few_copies(groups(view(own, *nodes[1:])), own) == ()


# --- marks ------------------------------------------------------------------------------------


def test_marks_are_due_where_they_are_missing_or_have_seen_others() -> None:
    nodes = whole()
    membership = groups(view(*nodes))
    assert marks_due(membership, nodes, Policy()) == ()
    bare = unmarked(nodes, 1)
    assert marks_due(groups(view(*bare)), bare, Policy()) == ("couchdb-1",)
    assert marks_due(groups(view(*bare)), bare, Policy(mark=False)) == ()
    unread = [*nodes[:2], replace(nodes[2], volume=None)]
    assert marks_due(groups(view(*unread)), unread, Policy()) == ()
    mark = Mark(erlang_name(0), "couchdb-0's", {erlang_name(1): ("couchdb-1's",)}, "2026")
    first = replace(nodes[0], volume=replace(nodes[0].volume or Volume(), mark=mark))
    renewed = [first, *nodes[1:]]
    assert marks_due(groups(view(*renewed)), renewed, Policy()) == ("couchdb-0",)
