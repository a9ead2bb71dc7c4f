"""Deciding on an adoption: by table and by property."""

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from couchdiscover.decide.adoption import (
    decide_adoption,
    ending,
    foresee,
    misused_names,
)
from couchdiscover.decide.adoption_marks import (
    early_marks,
    former_names,
    marks_due,
)
from couchdiscover.decide.copies import Proof, equal
from couchdiscover.decide.ground import (
    Ground,
    Replications,
    Wishes,
)
from couchdiscover.decide.shard_maps import (
    new_ranges,
    rewritten,
    shifted_ranges,
    whole_copies,
)
from couchdiscover.errors import NotSo, Unsafe, UsageProblem
from couchdiscover.state.nodes import ClusterView, NodeView, Unreachable
from couchdiscover.state.reasons import Plain
from couchdiscover.state.steps import (
    AddNode,
    DeleteMember,
    Done,
    KeepPlacement,
    Refuse,
    RewriteMap,
    SyncAdopted,
    Wait,
)
from couchdiscover.state.volumes import FileInfo, Mark, ShardFile, ShardMap, Trace
from tests.support.ground import (
    MAPS,
    OLD,
    RANGES,
    a_map,
    document,
    ground,
    new,
    old,
    settled,
    steps,
    uuid,
    with_nodes,
)

# --- from stage to stage ----------------------------------------------------------------------


def test_present_names_are_added_first_through_the_lowest_name() -> None:
    taken = steps(decide_adoption(ground()))
    assert {type(step) for step in taken} == {AddNode}
    pairs = {(step.pod, step.member) for step in taken}
    assert pairs == {
        ("couchdb-0", new(1)),
        ("couchdb-0", new(2)),
        ("couchdb-1", new(0)),
        ("couchdb-2", new(0)),
    }


def test_then_former_names_are_deleted_through_the_lowest_name() -> None:
    taken = steps(decide_adoption(ground(joined=True)))
    assert taken == [DeleteMember("couchdb-0", name) for name in OLD]


def test_then_the_maps_users_first_and_replications_last() -> None:
    taken = steps(decide_adoption(ground(joined=True, listed=())))
    assert taken == [RewriteMap("couchdb-0", name) for name in ("_users", "a", "_replicator")]


def test_the_plan_has_all_of_it_in_order() -> None:
    kinds = [type(step) for step in foresee(ground())]
    assert list(dict.fromkeys(kinds)) == [AddNode, DeleteMember, RewriteMap, SyncAdopted]


def test_zone_and_unknown_keys_go_over_and_own_values_stay() -> None:
    documents: dict[str, dict[str, Any]] = {
        new(0): {"_id": new(0), "_rev": "1-x", "zone": "own"},
        new(1): {},
        new(2): {},
        old(0): {"_id": old(0), "_rev": "1-y", "zone": "z0", "odd": 1},
        old(1): {},
        old(2): {"zone": "z2"},
    }
    taken = steps(decide_adoption(ground(joined=True, documents=documents)))
    assert taken == [KeepPlacement("couchdb-0", new(1), old(0), ("odd", "zone"))]


def test_what_is_said_of_a_drained_member_goes_over_though_no_map_names_it() -> None:
    documents: dict[str, dict[str, Any]] = {new(n): {} for n in range(3)}
    documents |= {old(0): {}, old(1): {}, old(2): {"decom": True}}
    made = ground((a_map("a", old(0), old(1)),), joined=True, documents=documents)
    assert old(2) not in made.formers
    taken = steps(decide_adoption(made))
    assert taken == [KeepPlacement("couchdb-0", new(0), old(2), ("decom",))]


def test_of_several_former_names_the_latest_says_where_a_node_is() -> None:
    """Names by alphabet tell nothing."""
    earlier = "couchdb@a.earlier.svc.cluster.local"
    documents: dict[str, dict[str, Any]] = {new(n): {} for n in range(3)}
    documents |= {earlier: {"zone": "then"}, old(0): {"zone": "now"}, old(1): {}, old(2): {}}
    made = ground((a_map("a", *OLD, earlier),), joined=True, documents=documents)

    def had_both(node: NodeView) -> NodeView:
        assert node.volume is not None
        if node.pod != "couchdb-1":  # it has the volume that was old(0)'s
            return node
        traces = (*(node.volume.traces or ()), Trace(earlier, uuid(0), "2025-01-01"))
        return replace(node, volume=replace(node.volume, traces=traces))

    taken = steps(decide_adoption(with_nodes(made, had_both)))
    assert taken == [KeepPlacement("couchdb-0", new(1), old(0), ("zone",))]


def test_a_half_done_adoption_that_is_restored_once_more_has_both_names() -> None:
    """Its mark has the first name and no time, history the one it was being adopted under."""
    between = [f"couchdb@between-{n}.svc.cluster.local" for n in range(3)]
    maps = (a_map("_users", *between), a_map("a", *OLD))
    made = ground(maps, at=(0, 1, 2))

    def half_done(node: NodeView) -> NodeView:
        assert node.volume is not None
        number = int(node.pod[-1])
        traces = tuple(Trace(name, uuid(n), "2026-02-01") for n, name in enumerate(between))
        volume = replace(
            node.volume,
            traces=(*(node.volume.traces or ()), *traces),
            mark=Mark(old(number), uuid(number), {}),
            files=frozenset(
                f for m in maps for f in m.files(old(number)) | m.files(between[number])
            ),
        )
        return replace(node, volume=volume)

    found = with_nodes(made, half_done)
    assert not found.survey.disagreements
    assert found.translation == {
        **{old(n): new(n) for n in range(3)},
        **{between[n]: new(n) for n in range(3)},
    }


def test_nothing_is_deleted_before_all_are_connected_and_have_the_same_maps() -> None:
    made = ground(joined=True)
    apart = with_nodes(made, lambda n: replace(n, all_nodes=frozenset({n.name})))
    decision = decide_adoption(apart)
    assert isinstance(decision, Wait)
    assert isinstance(decision.at_the_end, Refuse)
    assert "cookie" in decision.at_the_end.reason

    def other_maps(node: NodeView) -> NodeView:
        assert node.volume is not None
        if node.pod != "couchdb-1":
            return node
        maps = (replace(MAPS[0], revision="2-b"), *MAPS[1:])
        return replace(node, volume=replace(node.volume, maps=maps))

    decision = decide_adoption(with_nodes(made, other_maps))
    assert isinstance(decision, Wait)
    assert decision.reasons.keys() == {"couchdb-1"}


# --- what is waited for, and refused ----------------------------------------------------------


@pytest.mark.parametrize("uptime", [None, 0.0, 49.9])
def test_a_node_that_lists_former_names_must_have_been_up(uptime: float | None) -> None:
    decision = decide_adoption(ground(uptime=uptime))
    assert isinstance(decision, Wait)
    assert isinstance(decision.at_the_end, Refuse)
    assert decision.at_the_end.error is Unsafe
    steps(decide_adoption(ground(joined=True, listed=(), uptime=uptime)))  # it lists none now


def test_a_former_name_that_is_connected_is_waited_away() -> None:
    made = with_nodes(ground(), lambda n: replace(n, all_nodes=n.all_nodes | {old(1)}))
    decision = decide_adoption(made)
    assert isinstance(decision, Wait)
    assert isinstance(decision.at_the_end, Refuse)
    assert old(1) in decision.at_the_end.reason


def test_a_silent_pod_is_waited_for_and_then_refused() -> None:
    made = ground()
    sights = (*made.view.sights[:2], Unreachable("couchdb-2", Plain("to answer")))
    decision = decide_adoption(replace(made, view=ClusterView(sights)))
    assert isinstance(decision, Wait)
    assert isinstance(decision.at_the_end, Refuse)
    assert decision.at_the_end.error is Unsafe


@pytest.mark.parametrize("part", ["files", "maps", "traces", "uuid"])
def test_what_was_not_read_is_waited_for(part: str) -> None:
    def unread(node: NodeView) -> NodeView:
        assert node.volume is not None
        nothing: dict[str, Any] = {part: None}
        return replace(node, volume=replace(node.volume, **nothing))

    assert isinstance(decide_adoption(with_nodes(ground(), unread)), Wait)


@pytest.mark.parametrize("part", ["documents", "seeds"])
def test_members_and_seeds_that_were_not_read_are_waited_for(part: str) -> None:
    nothing: dict[str, Any] = {part: {}}
    assert isinstance(decide_adoption(replace(ground(), **nothing)), Wait)


def test_a_seedlist_with_a_former_name_is_refused() -> None:
    seeds = {f"couchdb-{n}": frozenset({old(0)}) for n in range(3)}
    decision = decide_adoption(replace(ground(), seeds=seeds))
    assert isinstance(decision, Refuse)
    assert decision.error is Unsafe
    present = {f"couchdb-{n}": frozenset({new(0)}) for n in range(3)}
    steps(decide_adoption(replace(ground(), seeds=present)))


def test_evidence_that_contradicts_itself_is_for_a_person() -> None:
    made = ground(at=(0, 0, 1))

    def apart(node: NodeView) -> NodeView:
        assert node.volume is not None
        if node.pod != "couchdb-1":
            return node
        return replace(
            node, volume=replace(node.volume, uuid=uuid(77), mark=Mark(old(0), uuid(77), {}))
        )

    decision = decide_adoption(with_nodes(made, apart))
    assert isinstance(decision, Refuse)
    assert decision.error is UsageProblem
    assert "--from" in decision.reason


def test_replications_are_asked_about_only_where_some_would_start() -> None:
    found = {"_replicator": Replications(2, ("https://elsewhere/db",))}
    decision = decide_adoption(ground(replications=found))
    assert isinstance(decision, Refuse)
    assert decision.error is UsageProblem
    assert "https://elsewhere/db" in decision.reason
    steps(decide_adoption(ground(replications={"_replicator": Replications(0)})))
    assert isinstance(
        decide_adoption(ground(replications={"_replicator": Replications(None)})), Wait
    )
    held = ground(replications=found, wishes=Wishes(replications="hold"), joined=True, listed=())
    assert [s.database for s in steps(decide_adoption(held))] == ["_users", "a"]
    run = ground(replications=found, wishes=Wishes(replications="run"), joined=True, listed=())
    assert len(steps(decide_adoption(run))) == 3


def test_only_what_was_asked_for() -> None:
    made = ground(wishes=Wishes(databases="_*"), joined=True, listed=())
    assert [s.database for s in steps(decide_adoption(made))] == ["_users", "_replicator"]
    assert made.left_out == ("a",)
    assert misused_names(made) is None
    problem = misused_names(ground(wishes=Wishes(databases="x*")))
    assert problem is not None
    assert "matches no database" in problem


@pytest.mark.parametrize(
    ("told", "said"),
    [
        ({old(0): "couchdb-9"}, "no pod"),
        ({"couchdb@x.y": "couchdb-0"}, "no former name"),
        ({new(0): "couchdb-0"}, "no former name"),
        ({old(0): "couchdb-1", old(1): "couchdb-1"}, "twice"),
    ],
)
def test_from_that_fits_nothing(told: dict[str, str], said: str) -> None:
    problem = misused_names(ground(wishes=Wishes(told)))
    assert problem is not None
    assert said in problem


def test_from_is_satisfied_once_the_mark_has_it() -> None:
    made = ground(
        maps=(a_map("a", new(0), new(1)),), at=(0, 1), wishes=Wishes({old(0): "couchdb-0"})
    )
    assert misused_names(made) is not None

    def marked(node: NodeView) -> NodeView:
        assert node.volume is not None
        own = node.volume.uuid or ""
        return replace(
            node, volume=replace(node.volume, mark=Mark(node.name, own, {}, was=(old(0),)))
        )

    assert misused_names(with_nodes(made, marked)) is None
    assert misused_names(ground(wishes=Wishes({old(2): "couchdb-0"}))) is None


# --- parts of a set ---------------------------------------------------------------------------


def test_a_lost_volumes_name_is_dropped_and_deleted_with_the_others() -> None:
    made = ground(at=(0, 1, None), joined=True)
    assert made.dropped == {old(2)}
    assert DeleteMember("couchdb-0", old(2)) in steps(decide_adoption(made))
    assert made.thinner == ("_users", "a", "_replicator")
    assert not made.refused


@pytest.mark.parametrize("service", ["other", "couchdb"])
def test_a_name_of_another_set_is_left_alone(service: str) -> None:
    """Also of one of the same Service: its pods may only be down."""
    other = f"couchdb@other-0.{service}.prod.svc.cluster.local"
    maps = (a_map("a", *OLD, other),)
    made = ground(maps, joined=True, listed=(*OLD, other))
    assert not made.dropped
    assert DeleteMember("couchdb-0", other) not in steps(decide_adoption(made))
    here = {new(n): maps[0].files(old(n)) for n in range(3)}
    ranges = new_ranges(maps[0], made.translation, here, made.dropped)
    assert all(other in names for names in ranges.values())


def test_a_range_without_a_file_refuses_its_database() -> None:
    maps = (*MAPS, a_map("single", old(2)))
    made = ground(maps, at=(0, 1, None), joined=True, listed=())
    assert made.refused.keys() == {"single"}
    assert "single" not in [s.database for s in steps(decide_adoption(made))]
    end = ending(made)
    assert end is not None
    assert end.error is NotSo
    assert "single" in end.reason


# --- after the maps ---------------------------------------------------------------------------


def test_what_was_rewritten_is_synced_whatever_its_copies_say() -> None:
    made = replace(settled(), rewritten=frozenset({"a"}))
    assert steps(decide_adoption(made)) == [SyncAdopted("couchdb-0", ("a",))]
    synced = replace(made, synced=frozenset({"a"}))
    decision = decide_adoption(synced)
    assert isinstance(decision, Done)
    assert decision.marks == ("couchdb-0", "couchdb-1", "couchdb-2")


def test_a_run_that_was_killed_before_the_proof_is_gone_on_with() -> None:
    made = settled()
    proof = equal(made.settling, [new(n) for n in range(3)])
    assert len(proof.pairs) == 12
    unproven = replace(made, proof=proof)
    assert steps(decide_adoption(unproven)) == [SyncAdopted("couchdb-0", ("a",))]
    waiting = decide_adoption(replace(unproven, synced=frozenset({"a"})))
    assert isinstance(waiting, Wait)
    assert waiting.advancing == proof.progress()
    proven = replace(made, proof=replace(proof, proven=frozenset(proof.pairs)))
    assert isinstance(decide_adoption(proven), Done)


def test_without_anything_to_adopt_nothing_is_done() -> None:
    decision = decide_adoption(settled(marks=False))
    assert decision == Done()


def all_seen(made: Ground) -> Proof:
    """All copies were read, and nothing is amiss."""
    proof = equal(made.maps.values(), [new(n) for n in range(3)])
    return replace(proof, seen=frozenset(proof.pairs))


def test_copies_that_were_rolled_back_are_synced_and_proven() -> None:
    made = settled(marks=False)
    proof = all_seen(made)
    pair = proof.pairs[0]
    found = replace(made, proof=replace(proof, rolled_back=frozenset({pair})))
    assert steps(decide_adoption(found)) == [SyncAdopted("couchdb-0", ("a",))]
    assert isinstance(decide_adoption(replace(found, synced=frozenset({"a"}))), Wait)
    healed = replace(
        made,
        synced=frozenset({"a"}),
        proof=replace(proof, rolled_back=frozenset({pair}), proven=frozenset({pair})),
    )
    assert isinstance(decide_adoption(healed), Done)


def test_whether_purged_documents_are_there_again_is_waited_for_where_it_was_not_answered() -> None:
    made = settled(marks=False)
    waiting = decide_adoption(replace(made, proof=all_seen(made), came_back=None))
    assert isinstance(waiting, Wait)
    assert "documents that were purged are there again" in str(waiting.reasons[""])
    assert ending(replace(made, came_back=None)) is None


def test_who_knows_of_fewer_purges_than_a_fellow_is_the_older_one() -> None:
    """Also where nobody remembers any more to have handed them on."""
    proof = all_seen(settled(marks=False))
    counts = {new(0): 3, new(1): 0, new(2): 3}
    known = replace(proof, baseline={pair: (9, counts[pair.source]) for pair in proof.pairs})
    found = known.knowing_less(proof.pairs)
    assert found == {(new(1), pair.file) for pair in proof.pairs}
    assert proof.knowing_less(proof.pairs) == frozenset()


def test_copies_that_may_lack_purges_are_handed_them_once_more() -> None:
    made = settled(marks=False)
    proof = all_seen(made)
    pair = proof.pairs[0]
    doubted = replace(made, proof=replace(proof, lagging=frozenset({pair})))
    assert steps(decide_adoption(doubted)) == [SyncAdopted("couchdb-0", ("a",))]
    assert ending(doubted) is None
    handed = replace(proof, handed_on=frozenset({pair}))
    waiting = replace(made, synced=frozenset({"a"}), proof=handed)
    assert isinstance(decide_adoption(waiting), Wait)
    there = replace(waiting, proof=replace(handed, proven=frozenset({pair})))
    assert isinstance(decide_adoption(there), Done)


@pytest.mark.parametrize("came_back", [("d1", "d2"), None])
def test_purges_are_not_handed_on_where_what_was_purged_is_everywhere_again(
    came_back: tuple[str, ...] | None,
) -> None:
    """Only the older copy would take them, and differ from all others then."""
    made = settled(marks=False)
    proof = all_seen(made)
    lagging = replace(proof, lagging=frozenset({proof.pairs[0]}))
    found = replace(made, proof=lagging, came_back={"a": came_back})
    decision = decide_adoption(found)
    assert isinstance(decision, Done)
    end = ending(found)
    if came_back is None:
        assert end is None
        told = "whether purged documents have come back from it nobody can tell"
        assert any(told in warning for warning in decision.warnings)
    else:
        assert end is not None
        assert end.error is NotSo
        assert "purged are there again, of a d1, d2: they came" in end.reason


def test_copies_that_were_not_compared_are_no_nothing_to_adopt() -> None:
    """Of two that differ a second look tells; those that nobody could look at are waited for."""
    made = settled(marks=False)
    proof = equal(made.maps.values(), [new(n) for n in range(3)])
    unseen = decide_adoption(replace(made, proof=proof))
    assert isinstance(unseen, Wait)
    told = f"compare all shard copies: {len(proof.pairs)} of {len(proof.pairs)} pairs are left"
    assert told in str(unseen.reasons[""])
    deleted = [replace(pair, file=replace(pair.file, suffix=".0")) for pair in proof.pairs]
    assert decide_adoption(replace(made, proof=replace(proof, pairs=tuple(deleted)))) == Done(())
    one, other = FileInfo("f" * 32, 3, 0, 3), FileInfo("e" * 32, 4, 0, 4)
    seen = replace(proof, seen=frozenset(proof.pairs), suspected={proof.pairs[0]: (one, other)})
    doubted = decide_adoption(replace(made, proof=seen))
    assert isinstance(doubted, Wait)
    assert "copies of a are older" in str(doubted.reasons[""])
    assert decide_adoption(replace(made, proof=replace(seen, suspected={}))) == Done(())


# --- marks ------------------------------------------------------------------------------------


def test_whose_the_volumes_were_is_noted_before_the_first_step() -> None:
    marks = early_marks(ground())
    assert {pod: mark.node for pod, mark in marks.items()} == {
        "couchdb-0": old(2),
        "couchdb-1": old(0),
        "couchdb-2": old(1),
    }
    assert not early_marks(settled())


def test_copies_of_new_maps_are_proven_where_no_mark_tells_of_them() -> None:
    """As with --no-mark: this run knows itself what it has rewritten."""
    made = replace(settled(marks=False), rewritten=frozenset({"a"}))
    assert steps(decide_adoption(made)) == [SyncAdopted("couchdb-0", ("a",))]
    names = [node.name for node in made.view.nodes]
    unproven = replace(made, synced=frozenset({"a"}), proof=equal(made.settling, names))
    assert isinstance(decide_adoption(unproven), Wait)


def test_an_early_mark_has_no_time() -> None:
    """It is told from the mark of a node that was verified under its former name."""

    def verified(node: NodeView) -> NodeView:
        assert node.volume is not None
        was = old((2, 0, 1)[int(node.pod[-1])])
        mark = Mark(was, node.volume.uuid or "", {}, "2026-01-01T00:00:00Z")
        return replace(node, volume=replace(node.volume, mark=mark))

    marks = early_marks(with_nodes(ground(), verified))
    assert {mark.at for mark in marks.values()} == {""}
    assert marks.keys() == {"couchdb-0", "couchdb-1", "couchdb-2"}


def test_an_own_mark_says_a_former_name_again_while_more_is_adopted() -> None:
    def own(node: NodeView) -> NodeView:
        assert node.volume is not None
        mark = Mark(node.name, node.volume.uuid or "", {"x@y": ("u",)}, was=())
        return replace(node, volume=replace(node.volume, mark=mark))

    marks = early_marks(with_nodes(ground(), own))
    assert marks["couchdb-0"].node == old(2)
    assert marks["couchdb-0"].seen == {"x@y": ("u",)}


def test_the_last_marks_keep_the_former_names_and_are_written_once() -> None:
    made = settled(was=("couchdb@older.x",))
    assert former_names(made)["couchdb-0"] == (old(0), "couchdb@older.x")
    pods = ("couchdb-0", "couchdb-1", "couchdb-2")
    assert marks_due(made, pods) == pods

    def own(node: NodeView) -> NodeView:
        assert node.volume is not None
        was = former_names(made)[node.pod]
        mark = Mark(node.name, node.volume.uuid or "", {}, was=was, at="2026-11-27T20:00:00Z")
        return replace(node, volume=replace(node.volume, mark=mark))

    assert marks_due(with_nodes(made, own), pods) == ()


# --- the map itself ---------------------------------------------------------------------------


def test_a_rewritten_map_keeps_what_it_does_not_know() -> None:
    before = document(
        a_map("a", old(0), old(1)),
        changelog=[["add", RANGES[0], old(0)]],
        props={"partitioned": True},
        engine="x",
        _revisions={"start": 1, "ids": ["a"]},
    )
    after = rewritten(before, dict.fromkeys(RANGES, (new(0), new(1))))
    assert after is not None
    assert after["by_range"] == {r: [new(0), new(1)] for r in RANGES}
    assert after["by_node"] == {new(0): list(RANGES), new(1): list(RANGES)}
    kept = ("_id", "_rev", "shard_suffix", "changelog", "props", "engine")
    assert {key: after[key] for key in kept} == {key: before[key] for key in kept}
    assert "_revisions" not in after
    assert rewritten(after, dict.fromkeys(RANGES, (new(0), new(1)))) is None


def test_an_empty_copy_is_none_while_another_is_not() -> None:
    shard_map = a_map("a", *OLD)
    translation = {old(n): new(n) for n in range(3)}
    one, two = (shard_map.file(range_) for range_ in RANGES)
    empty: dict[tuple[str, ShardFile], bool | None] = {
        (new(0), one): False,
        (new(1), one): True,
        (new(2), one): None,
        (new(0), two): True,
        (new(1), two): True,
        (new(2), two): None,
    }
    whole = whole_copies(shard_map, translation, empty, [new(n) for n in range(3)])
    assert whole == {new(0): {one, two}, new(1): {two}, new(2): frozenset()}


FULL = FileInfo("f", 5, 0, 5)
BLANK = FileInfo("e", 0, 0, 0)


@pytest.mark.parametrize(
    ("names", "infos", "handed_on", "then"),
    [
        # a single copy, whose file CouchDB has made anew, empty, or not at all
        ([new(0)], {new(0): BLANK, new(1): FULL}, set(), (new(1),)),
        ([new(0)], {new(0): None, new(1): FULL}, set(), (new(1),)),
        # something was written into the new one meanwhile: both hold what the other lacks
        ([new(0)], {new(0): FULL, new(1): FULL}, set(), (new(0), new(1))),
        # filled from a third: nothing is hidden
        ([new(0), new(2)], dict.fromkeys(map(new, range(3)), FULL), {new(2)}, (new(0), new(2))),
        # not filled yet: the one that moved takes its place
        ([new(0), new(2)], {new(0): BLANK, new(1): FULL, new(2): FULL}, {new(2)}, (new(1), new(2))),
        # an empty database
        ([new(0)], {new(0): BLANK, new(1): BLANK}, set(), (new(0),)),
        ([new(0)], {new(0): None, new(1): BLANK}, set(), (new(1),)),
        # nothing anywhere: not for us to make it worse
        ([new(0)], {new(0): None, new(1): None}, set(), (new(0),)),
    ],
)
def test_volumes_that_changed_places_hide_nothing(
    names: list[str],
    infos: dict[str, FileInfo | None],
    handed_on: set[str],
    then: tuple[str, ...],
) -> None:
    shard_map = ShardMap("a", {RANGES[0]: tuple(names)}, suffix=".1")
    file = shard_map.file(RANGES[0])
    moved = {new(0): new(1), new(1): new(0)}
    known = {(name, file): info for name, info in infos.items()}
    done = {(file, source, target) for source in infos for target in handed_on if source != target}
    ranges = shifted_ranges(shard_map, moved, {}, known, done)
    assert ranges == {RANGES[0]: then}
    again = ShardMap("a", ranges, suffix=".1")
    assert shifted_ranges(again, moved, {}, known, done) == ranges


@given(
    st.lists(st.integers(0, 3), min_size=1, max_size=4, unique=True),
    st.permutations(range(4)),
    st.lists(st.sampled_from([FULL, BLANK, None]), min_size=4, max_size=4),
    st.sets(st.tuples(st.integers(0, 3), st.integers(0, 3))),
    st.sets(st.integers(0, 3)),
)
def test_a_swap_settles_at_once_and_names_every_copy_that_was_not_handed_on(
    names: list[int],
    places: list[int],
    states: list[FileInfo | None],
    handed: set[tuple[int, int]],
    besides: set[int],
) -> None:
    shard_map = ShardMap("a", {RANGES[0]: tuple(new(n) for n in names)}, suffix=".1")
    file = shard_map.file(RANGES[0])
    moved = {new(n): new(at) for n, at in enumerate(places) if n != at}
    infos = {(new(n), file): info for n, info in enumerate(states)}
    done = {(file, new(a), new(b)) for a, b in handed if a != b}
    apart = {file: tuple(new(n) for n in sorted(besides - set(names)))}
    ranges = shifted_ranges(shard_map, moved, apart, infos, done)
    chosen = ranges[RANGES[0]]
    before = {n for n in shard_map.by_range[RANGES[0]] if infos[n, file] not in (None, BLANK)}
    assert before <= set(chosen)  # what is readable stays readable
    candidates = {n for each in names for n in (new(each), moved.get(new(each), new(each)))}
    candidates.update(apart[file])
    filled = {n for n in candidates if infos[n, file] == FULL}
    for name in filled - set(chosen):
        assert any((file, name, other) in done for other in chosen)
    if filled:
        assert set(chosen) <= filled


@st.composite
def cases(draw: st.DrawFn) -> tuple[ShardMap, dict[str, str], dict[str, set[ShardFile]], set[str]]:
    count = draw(st.integers(1, 4))
    names = [*(old(n) for n in range(count)), *(new(n) for n in range(count)), "x@other.y"]
    holders = st.lists(st.sampled_from(names), min_size=1, max_size=5)
    by_range = {range_: tuple(draw(holders)) for range_ in RANGES}
    shard_map = ShardMap("a", by_range, suffix=".1")
    places = draw(st.permutations(range(count)))
    translation = {old(n): new(at) for n, at in enumerate(places) if draw(st.booleans())}
    files = [shard_map.file(range_) for range_ in RANGES]
    here = {new(n): set(draw(st.lists(st.sampled_from(files)))) for n in range(count)}
    dropped = {old(n) for n in range(count) if old(n) not in translation and draw(st.booleans())}
    return shard_map, translation, here, dropped


@given(cases())
def test_a_map_never_names_a_node_without_the_file_and_loses_no_copy_that_is_there(
    case: tuple[ShardMap, dict[str, str], dict[str, set[ShardFile]], set[str]],
) -> None:
    shard_map, translation, here, dropped = case
    ranges = new_ranges(shard_map, translation, here, dropped)
    assert ranges.keys() == shard_map.by_range.keys()
    for range_, names in ranges.items():
        file = shard_map.file(range_)
        assert len(set(names)) == len(names)
        assert not dropped & set(names)
        for name in names:
            assert name not in here or file in here[name]
        holders = {translation.get(name, name) for name in shard_map.by_range[range_]}
        holding = {name for name in holders & here.keys() if file in here[name]}
        assert holding == set(names) & here.keys()  # never fewer than there are files
        others = {n for n in holders - here.keys() if n not in dropped}
        assert others <= set(names)
    again = ShardMap("a", ranges, suffix=".1")
    moved = {name: to for name, to in translation.items() if name not in here}
    assert new_ranges(again, moved, here, dropped) == ranges
