"""When a copy is complete: by table, by property, and against what real nodes answered."""

import json
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from couchdiscover.couch.client import Access, CouchNode
from couchdiscover.couch.copies import Nodes, look_at, read_files
from couchdiscover.decide.copies import (
    PAIR_REQUESTS,
    PURGES_KEPT,
    Loss,
    Pair,
    Proof,
    Reading,
    checkpoint_name,
    equal,
    lacking_purges,
    lost_ranges,
    purge_checkpoint_names,
    pushed,
    refilled,
    sample,
)
from couchdiscover.net.deadline import Deadline
from couchdiscover.sandbox.http import Loop, Request, Response
from couchdiscover.state.topology import Address, Credentials
from couchdiscover.state.volumes import Checkpoint, FileInfo, ShardFile, ShardMap
from tests.support.decisions import loss

RECORDED = Path(__file__).parents[1] / "recorded"
RANGE = "00000000-ffffffff"
FILE = ShardFile("db", RANGE, ".1")
A, B, C = "couchdb@a.x", "couchdb@b.x", "couchdb@c.x"
PAIR = Pair(FILE, A, B)


def info(number: int, seq: int, purges: int = 0, documents: int = 5) -> FileInfo:
    return FileInfo(f"{number:032x}", documents, 0, seq, purges)


def a_map(*names: str, database: str = "db") -> ShardMap:
    return ShardMap(database, {RANGE: names}, suffix=".1")


def reading(
    seq: int = 10,
    at_source: int | None = None,
    at_target: int | None = None,
    follows: bool | None = None,
    purges: tuple[int, int | None] = (0, None),
) -> Reading:
    """What one look says: the source's update_seq, the two checkpoints, what follows them."""
    return Reading(
        PAIR,
        info(1, seq, purges[0]),
        info(2, 3, purges[1] or 0),
        None if at_source is None else Checkpoint(at_source),
        None if at_target is None else Checkpoint(at_target),
        follows,
        None if purges[1] is None else Checkpoint(purges[1]),
    )


def test_checkpoint_names_are_those_of_real_nodes() -> None:
    seen = 0
    for exchange in json.loads((RECORDED / "files-3.5.2.json").read_text()):
        if "_local_docs" not in exchange["request"]["path"]:
            continue
        for row in exchange["response"]["body"]["rows"]:
            for entries in row["doc"].get("history", {}).values():
                for entry in entries:
                    seen += 1
                    assert row["id"] == checkpoint_name(entry["source_uuid"], entry["target_uuid"])
    assert seen == 54


# --- the proof of one pair --------------------------------------------------------------------


@pytest.mark.parametrize(
    ("look", "proven"),
    [
        (reading(), False),
        (reading(at_source=10), False),
        (reading(at_target=10), False),
        (reading(at_source=10, at_target=9, follows=True), False),
        (reading(at_source=9, at_target=10, follows=True), False),
        (reading(at_source=10, at_target=10), True),
        (reading(at_source=9, at_target=9), False),  # whether more follows was not answered
        (reading(at_source=9, at_target=9, follows=False), True),  # purges, _security
        (reading(seq=0), True),
        (Reading(PAIR, info(1, 10), None), False),
        (Reading(PAIR, None, info(2, 10)), False),
        (Reading(PAIR, info(1, 10), info(1, 10)), True),  # copied files that are alike
        (Reading(PAIR, info(1, 10), info(1, 11)), False),
    ],
)
def test_the_lower_of_both_checkpoints_has_to_reach_the_source(look: Reading, proven: bool) -> None:
    assert Proof((PAIR,)).noted([look]).complete is proven


def test_what_is_written_after_the_first_look_is_not_waited_for() -> None:
    proof = Proof((PAIR,)).noted([reading(10, 5, 5, True)])
    assert not proof.complete
    assert proof.noted([reading(500, 10, 12, True)]).complete


@pytest.mark.parametrize(
    ("purges", "wanted", "proven"),
    [
        ((0, None), True, True),
        ((3, None), True, False),
        ((3, 2), True, False),
        ((3, 3), True, True),
        ((3, None), False, True),
    ],
)
def test_purges_are_proven_where_they_matter(
    purges: tuple[int, int | None], wanted: bool, proven: bool
) -> None:
    look = reading(10, 10, 10, purges=purges)
    assert Proof((PAIR,), purges=wanted).noted([look]).complete is proven


def test_a_copy_that_is_an_older_state_of_itself_is_told_by_its_peers_history() -> None:
    older = Reading(PAIR, info(1, 10), info(2, 30), Checkpoint(10, 42), Checkpoint(10, 30))
    assert older.rolled_back
    assert Proof((PAIR,)).noted([older]).rolled_back == {PAIR}
    newer = Reading(PAIR, info(1, 10), info(2, 50), Checkpoint(10, 42), Checkpoint(10, 42))
    assert not newer.rolled_back
    assert not Reading(PAIR, info(1, 10), info(2, 0)).rolled_back


def handed(known: int, seq: int = 40) -> Reading:
    """A look at two copies that are alike, of which one was handed eight purges."""
    one, other = info(1, seq, 8, documents=10), info(2, seq + 3, known, documents=10)
    return Reading(PAIR, one, other, Checkpoint(seq), Checkpoint(seq), purges=Checkpoint(8))


def test_a_copy_that_lacks_purges_is_told_though_all_are_alike() -> None:
    """What was purged has gone from it to all the others by then."""
    begun = Proof((PAIR,), purges=True)
    proof = begun.noted([handed(5)])
    assert proof.lagging == {PAIR}
    assert proof.in_doubt
    assert not proof.complete
    assert not Proof((PAIR,)).noted([handed(5)]).lagging, "nobody asked for purges"
    assert begun.noted([handed(8)]).complete, "it has all that it was handed"
    assert not proof.noted([handed(8)]).lagging, "it was a purge on its way"
    assert Proof((PAIR,), purges=True, handed_on=proof.lagging).noted([handed(5)]).complete


def test_a_copy_lacks_purges_for_certain_unless_there_is_another_reason() -> None:
    def certain(
        shard_map: ShardMap, purges: int = 8, *, listed: bool = True, more: bool = False
    ) -> frozenset[str]:
        lagging, surplus = frozenset({PAIR}), frozenset({PAIR} if more else ())
        proof = Proof((PAIR,), baseline={PAIR: (40, purges)}, lagging=lagging, surplus=surplus)
        return lacking_purges(proof, [shard_map], listed=listed)

    assert certain(a_map(A, B)) == {"db"}
    assert not certain(replace(a_map(A, B), split=True))
    assert not certain(a_map(A, B), PURGES_KEPT + 1)
    assert not certain(a_map(A, B), listed=False), "nothing would lead out of it"
    assert certain(a_map(A, B), listed=False, more=True) == {"db"}


def test_databases_that_are_made_meanwhile_are_no_progress() -> None:
    """An empty one is proven at once: counted, a fill that stands still would never end."""
    stuck = Proof((PAIR,)).noted([reading(10, 5, 5, True)])
    more = Pair(ShardFile("new", RANGE, ".2"), A, B)
    later = stuck.over(Proof((PAIR, more)))
    empty = Reading(more, info(3, 0), info(4, 0))
    assert later.noted([reading(10, 5, 5, True), empty]).progress() == stuck.progress()
    assert later.noted([reading(10, 7, 7, True), empty]).progress() > stuck.progress()


# --- what is to be proven ---------------------------------------------------------------------


def test_a_lost_copy_is_proven_from_every_copy_that_was_spared() -> None:
    proof = refilled([a_map(A, B, C)], loss(B), {A, B, C}, {B: None})
    assert proof.pairs == (Pair(FILE, A, B), Pair(FILE, C, B))
    assert not proof.without_source
    assert proof.total(B) == 1
    half = proof.noted([reading(10, 10, 10)])
    assert half.left() == {B: (FILE,)}


def test_lost_ones_do_not_prove_each_other_and_silent_ones_prove_nothing() -> None:
    proof = refilled([a_map(A, B)], loss(A, B), {A, B}, {A: None, B: None})
    assert not proof.pairs
    assert proof.without_source == ((A, FILE), (B, FILE))
    assert lost_ranges(proof, [a_map(A, B)], loss(A, B)) == {"db"}
    silent = refilled([a_map(A, B)], loss(B), {B}, {B: None})
    assert silent.without_source == ((B, FILE),)
    assert not lost_ranges(silent, [a_map(A, B)], loss(B))  # A was spared, and does not answer


def test_of_volumes_that_only_lack_copies_the_others_prove() -> None:
    other = ShardFile("db", "80000000-ffffffff", FILE.suffix)
    maps = [replace(a_map(A, B), by_range={FILE.range: (A, B), other.range: (A, B)})]
    each_one = Loss(copies={A: frozenset({FILE}), B: frozenset({other})})
    proof = refilled(maps, each_one, {A, B}, each_one.copies)
    assert set(proof.pairs) == {Pair(FILE, B, A), Pair(other, A, B)}
    assert not lost_ranges(proof, maps, each_one)
    both = Loss(copies={A: frozenset({FILE}), B: frozenset({FILE})})
    gone = refilled(maps, both, {A, B}, {A: None, B: None})
    assert gone.without_source == ((A, FILE), (B, FILE))
    assert lost_ranges(gone, maps, both) == {"db"}


def test_a_volume_that_only_lacks_copies_proves_nothing_gone() -> None:
    proof = refilled([a_map(A, B, C)], loss(), {A, B, C}, {B: None})
    assert {(pair.source, pair.target) for pair in proof.pairs} == {(A, B), (C, B)}
    alone = refilled([a_map(B)], loss(), {A, B, C}, {B: None})
    assert not alone.pairs
    assert not alone.without_source


def test_equal_copies_are_proven_both_ways() -> None:
    proof = equal([a_map(A, B), a_map(C, database="one")], {A, B, C})
    assert proof.pairs == (Pair(FILE, A, B), Pair(FILE, B, A))
    assert proof.purges
    assert equal([a_map(A, B)], {A}).complete


def test_samples_take_system_databases_and_a_number_of_others() -> None:
    many = {ShardFile(f"db{n:03}", RANGE, ".1") for n in range(300)}
    users = ShardFile("_users", RANGE, ".1")
    taken = sample({*many, users}, 100)
    assert taken.files[0] == users
    assert len(set(taken.files)) == 101
    assert taken.left_out == 200
    assert sample(many, 100) == sample(many, 100)
    assert sample({users}) == sample({users}, 0)
    assert sample(many, 300).left_out == 0


# --- from look to look ------------------------------------------------------------------------


def test_a_look_is_bounded_and_the_next_goes_on_where_it_ended() -> None:
    maps = [a_map(A, B, database=f"db{n}") for n in range(5)]
    proof = refilled(maps, loss(B), {A, B}, {B: None})
    seen = set()
    for _ in range(5):
        batch = proof.batch(PAIR_REQUESTS)
        assert len(batch) == 1
        seen |= set(batch)
        proof = proof.noted([Reading(each) for each in batch])
    assert seen == set(proof.pairs)
    assert not proof.surveyed  # nothing could be read
    assert proof.batch(PAIR_REQUESTS)  # and then all over again
    assert len(proof.batch()) == 5


@given(
    st.lists(
        st.tuples(st.integers(0, 9), st.integers(0, 9), st.booleans() | st.none()), max_size=9
    ),
    st.integers(1, 9),
)
def test_never_proven_before_what_was_there_has_been_pushed(
    looks: list[tuple[int, int, bool | None]], seq: int
) -> None:
    proof = Proof((PAIR,))
    before = proof.progress()
    for at_source, at_target, follows in looks:
        proof = proof.noted([reading(seq, at_source, at_target, follows)])
        assert proof.progress() >= before
        before = proof.progress()
    told = [min(s, t) >= seq or f is False for s, t, f in looks]
    assert proof.complete is any(told)


# --- reading it -------------------------------------------------------------------------------


class World:
    """Nodes with files and local documents, served over HTTP."""

    def __init__(self, loop: Loop) -> None:
        self.loop = loop
        self.files: dict[tuple[str, ShardFile], FileInfo] = {}
        self.local: dict[tuple[str, ShardFile, str], dict[str, Any]] = {}
        self.asked: list[tuple[str, str]] = []
        self.changes: dict[tuple[str, ShardFile], int] = {}
        self.silent: set[str] = set()

    def nodes(self, *names: str) -> Nodes:
        access = Access(Credentials("admin", "secret"))
        clients = {}
        for name in names:
            server = self.loop.serve(self._answer(name), "127.0.0.1")
            address = Address("127.0.0.1", server.port)
            clients[name] = CouchNode(address, "", access, Deadline(60))
        return Nodes(clients, patience=10)

    def _answer(self, name: str) -> Callable[[Request], Any]:
        async def answer(request: Request) -> Response:
            self.asked.append((name, request.target))
            if name in self.silent:
                return Response(200, "no JSON")
            path = request.path.removeprefix("/_node/_local/")
            for (node, file), found in self.files.items():
                if node != name or not path.startswith(file.path):
                    continue
                rest = path.removeprefix(file.path).lstrip("/")
                if not rest:
                    return Response(200, _told(found))
                if rest == "_changes":
                    last = self.changes.get((node, file), found.update_seq)
                    more = int(request.query["since"]) < last
                    return Response(200, {"results": [{}] if more else []})
                if rest == "_local_docs":
                    found_here = [
                        {"id": name, "doc": document}
                        for (at, of, name), document in self.local.items()
                        if (at, of) == (node, file)
                    ]
                    return Response(200, {"rows": found_here})
            return Response(404, {"error": "not_found", "reason": "no_db_file"})

        return answer


def _told(found: FileInfo) -> dict[str, Any]:
    return {
        "uuid": found.uuid,
        "doc_count": found.documents,
        "doc_del_count": found.deleted,
        "update_seq": found.update_seq,
        "purge_seq": found.purge_seq,
    }


@pytest.fixture(scope="module")
def loop() -> Iterator[Loop]:
    running = Loop()
    yield running
    running.close()


def test_a_fill_is_followed_to_its_end(loop: Loop) -> None:
    world = World(loop)
    nodes = world.nodes(A, B)
    world.files = {(A, FILE): info(1, 10, purges=2)}
    proof = look_at(equal([a_map(A, B)], {A, B}), nodes)
    assert proof.left() == {A: (FILE,), B: (FILE,)}
    assert read_files(nodes, [(A, FILE), (B, FILE)])[B, FILE] is None

    world.files[B, FILE] = info(2, 4)
    there, back = (
        checkpoint_name(f"{1:032x}", f"{2:032x}"),
        checkpoint_name(f"{2:032x}", f"{1:032x}"),
    )
    for node in (A, B):
        world.local[node, FILE, there] = {"seq": 8, "history": {}}
        world.local[node, FILE, back] = {"seq": 4, "history": {}}
    proof = look_at(proof, nodes)
    assert proof.proven == {Pair(FILE, B, A)}
    assert proof.surveyed

    world.local[A, FILE, there] = {"seq": 10, "history": {}}
    assert not look_at(proof, nodes).complete  # B's says 8, and 9 and 10 follow
    world.changes[A, FILE] = 8
    assert not look_at(proof, nodes).complete  # purges are not pushed yet
    purges, fetched = purge_checkpoint_names(f"{1:032x}", f"{2:032x}")
    world.local[A, FILE, purges] = {"purge_seq": 2}
    assert not look_at(proof, nodes).complete  # B has not that many
    world.files[B, FILE] = info(2, 6, purges=2)
    assert look_at(proof, nodes).complete

    # Before 3.5.2 those that B has fetched by itself are noted under another name.
    world.local[A, FILE, purges] = {"purge_seq": 1}
    assert not look_at(proof, nodes).complete
    world.local[A, FILE, fetched] = {"purge_seq": 2}
    assert look_at(proof, nodes).complete


def test_a_silent_node_proves_nothing_and_is_asked_once(loop: Loop) -> None:
    world = World(loop)
    nodes = world.nodes(A, B)
    maps = [a_map(A, B, database=f"db{n}") for n in range(20)]
    world.files = {
        (name, each.file(RANGE)): info(n, 10) for n, name in enumerate((A, B)) for each in maps
    }
    world.silent = {B}
    proof = look_at(refilled(maps, loss(B), {A, B}, {B: None}), nodes)
    assert not proof.proven
    assert len([name for name, _ in world.asked if name == B]) == 1


def test_requests_of_a_look_stay_below_the_bound(loop: Loop) -> None:
    world = World(loop)
    nodes = world.nodes(A, B)
    maps = [a_map(A, B, database=f"db{n}") for n in range(40)]
    for n, name in enumerate((A, B)):
        for each in maps:
            world.files[name, each.file(RANGE)] = info(n, 10, purges=1)
    look_at(equal(maps, {A, B}), nodes, requests=60)
    assert 0 < len(world.asked) <= 60


# --- what one look asks for, and what it may not conclude -------------------------------------


def test_a_look_is_bounded_even_where_one_range_has_more_pairs_than_fit() -> None:
    pairs = tuple(
        Pair(FILE, one, other) for one in (A, B, C) for other in (A, B, C) if one != other
    )
    assert Proof(pairs).batch(2 * PAIR_REQUESTS) == tuple(sorted(pairs))[:2]
    other = tuple(replace(pair, file=replace(FILE, database="z")) for pair in pairs)
    both = Proof((*pairs, *other))
    assert {p.file for p in both.batch(8 * PAIR_REQUESTS)} == {FILE}, "a range is looked at whole"


def test_what_was_not_read_is_not_pushed() -> None:
    assert not pushed(Reading(PAIR))
    assert pushed(Reading(PAIR, info(1, 0)))
    assert pushed(reading(10, 10, 10))
    assert not pushed(reading(10, 10, 9))
    assert pushed(reading(10, 10, 9, follows=False))


def both_ways(documents: tuple[int, int], seqs: tuple[int, int] = (10, 10)) -> list[Reading]:
    """Two copies that have pushed everything to each other, with so many documents."""
    one, other = (info(n + 1, seqs[n], documents=documents[n]) for n in range(2))
    there, back = Checkpoint(seqs[0]), Checkpoint(seqs[1])
    return [
        Reading(PAIR, one, other, there, there),
        Reading(Pair(FILE, B, A), other, one, back, back),
    ]


def test_copies_that_stand_still_and_differ_are_uneven_at_the_second_look() -> None:
    """What was purged on one is still on the other; one look may have met a write on its way."""
    proof = Proof((PAIR, Pair(FILE, B, A)), purges=True)
    first = proof.noted(both_ways((5, 6)))
    assert not first.proven
    assert not first.uneven
    assert set(first.suspected) == set(proof.pairs)
    still = first.noted(both_ways((5, 6)))
    assert still.uneven == frozenset(proof.pairs)
    assert not still.proven
    moving = first.noted(both_ways((5, 6), (10, 11)))
    assert not moving.uneven, "one of them was written to meanwhile"
    alike = still.noted(both_ways((6, 6)))
    assert not alike.uneven
    assert alike.complete


def test_without_the_way_back_nothing_is_suspected() -> None:
    proof = Proof((PAIR,), purges=True).noted(both_ways((5, 6))[:1])
    assert not proof.suspected
    assert not proof.uneven
    assert not Proof((PAIR,)).noted(both_ways((5, 6))).suspected, "began empty: no purges to miss"
