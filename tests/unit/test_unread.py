"""When a cluster is called verified: what was not read, or not proven, is not."""

from dataclasses import replace

import pytest

from couchdiscover.couch.client import Access, Fleet, NoAnswer
from couchdiscover.couch.observer import Observer
from couchdiscover.decide.copies import lost_ranges, refilled, unsourced
from couchdiscover.decide.decision import decide
from couchdiscover.decide.findings import Inspection, Severity, findings
from couchdiscover.decide.identity import drift
from couchdiscover.decide.membership import Membership
from couchdiscover.errors import NotSo, Unsafe
from couchdiscover.net.deadline import Deadline
from couchdiscover.state.nodes import (
    ClusterView,
    Copies,
    Hash,
    Identity,
    NodeDetails,
    NodeView,
    SetupState,
)
from couchdiscover.state.steps import (
    Decision,
    Do,
    Done,
    EnsureDatabase,
    FinishCluster,
    Refuse,
    SyncShards,
    Wait,
)
from couchdiscover.state.topology import Address, Credentials, Scope, Topology
from couchdiscover.state.volumes import FileInfo, Mark, ShardFile, ShardMap, Volume
from tests.support.decisions import loss
from tests.support.views import erlang_name, node, refusing, silent, topology

RANGE = "00000000-ffffffff"
USERS = ShardMap("_users", {RANGE: tuple(map(erlang_name, range(3)))}, suffix=".1")
FILE = USERS.file(RANGE)
FULL = FileInfo("f" * 32, 3, 0, 3)
EMPTY = FileInfo("e" * 32, 0, 0, 0)


def uuid(ordinal: int) -> str:
    return f"{ordinal}" * 32


def volume(ordinal: int, **changes: object) -> Volume:
    """A volume that was read whole, and marked."""
    seen = {erlang_name(n): (uuid(n),) for n in range(3)}
    mark = Mark(erlang_name(ordinal), uuid(ordinal), seen, "2026")
    whole = Volume(frozenset({FILE}), (USERS,), uuid(ordinal), mark, (), frozenset())
    return replace(whole, **changes)  # type: ignore[arg-type]


def member(ordinal: int, **changes: object) -> NodeView:
    return replace(
        node(ordinal, up="ok", volume=volume(ordinal)),
        **changes,  # type: ignore[arg-type]
    )


def bare(ordinal: int, **changes: object) -> NodeView:
    """A member whose volume has no mark."""
    return member(ordinal, volume=volume(ordinal, mark=None, **changes))


def seen(*nodes: object, **more: object) -> ClusterView:
    prior = frozenset(erlang_name(n) for n in range(3))
    return ClusterView(tuple(nodes), prior=prior, **more)  # type: ignore[arg-type]


def judged(view: ClusterView, scope: Scope = Scope.SET, **place: object) -> Decision:
    own = "couchdb-1" if scope is Scope.POD else None
    where: Topology = replace(topology(), own=own, **place)  # type: ignore[arg-type]
    return decide(where, view, scope)


def waits(decision: Decision) -> dict[str, str]:
    assert isinstance(decision, Wait), decision
    return {pod: str(reason) for pod, reason in decision.reasons.items()}


def test_what_was_read_whole_is_verified() -> None:
    assert judged(seen(*map(member, range(3)))) == Done()


@pytest.mark.parametrize(
    ("unread", "told"),
    [
        (member(1, up=None), "GET /_up"),
        (member(1, volume=None), "_all_dbs"),
        (member(1, volume=volume(1, files=None)), "_all_dbs"),
        (member(1, volume=volume(1, traces=None)), "_local_docs"),
        (bare(1, uuid=None), "GET /_node/_local/_dbs"),
        (bare(1), FILE.path),
    ],
)
def test_what_could_not_be_read_is_waited_for_and_not_verified(unread: NodeView, told: str) -> None:
    view = seen(member(0), unread, member(2))
    reasons = waits(judged(view))
    assert list(reasons) == ["couchdb-1"]
    assert told in reasons["couchdb-1"]
    own = judged(view, Scope.POD)
    assert told in waits(own)["couchdb-1"]
    assert isinstance(own, Wait)
    assert isinstance(own.at_the_end, Done)
    assert own.at_the_end.marks == (), "it was not verified"
    assert own.at_the_end.warnings


def test_maps_that_nobody_could_give_are_waited_for() -> None:
    nodes = [member(n, volume=volume(n, maps=None)) for n in range(3)]
    assert set(waits(judged(seen(*nodes)))) == {"couchdb-0", "couchdb-1", "couchdb-2"}


def test_who_may_know_that_a_volume_was_lost_must_have_been_asked() -> None:
    witness = member(0, volume=volume(0, traces=None, mark=None))
    own = bare(1, infos={FILE: FULL})
    assert list(waits(judged(seen(witness, own, member(2)), Scope.POD))) == ["couchdb-0"]


def test_an_empty_copy_is_good_only_where_the_others_were_looked_into() -> None:
    others = [member(0, volume=volume(0, infos={FILE: EMPTY})), member(2)]
    own = bare(1, infos={FILE: EMPTY})
    assert list(waits(judged(seen(others[0], own, others[1]), Scope.POD))) == ["couchdb-2"]
    there = member(2, volume=volume(2, infos={FILE: EMPTY}))
    assert judged(seen(others[0], own, there), Scope.POD) == Done(marks=("couchdb-1",))
    full = member(2, volume=volume(2, infos={FILE: FULL}))
    zero = member(0, volume=volume(0, infos={FILE: FULL}))
    decision = judged(seen(zero, own, full), Scope.SET)
    assert isinstance(decision, Refuse)
    assert (decision.error, decision.marks) == (NotSo, ())


def test_a_mark_of_another_name_is_renewed_only_over_files_that_are_all_there() -> None:
    other = Mark("couchdb@was.another", uuid(1), {}, "2026-01-01T00:00:00Z")
    missing = member(1, volume=volume(1, mark=other, files=frozenset()))
    decision = judged(seen(member(0), missing, member(2)))
    assert isinstance(decision, Refuse)
    assert FILE.path in decision.reason
    assert decision.marks == ()
    there = member(1, volume=volume(1, mark=other, infos={FILE: FULL}))
    renewed = judged(seen(member(0), there, member(2)))
    assert renewed == Done(marks=("couchdb-1",))


def test_an_adoption_that_was_not_completed_is_neither_verified_nor_marked() -> None:
    """Its mark has no time yet: the copies are not proven equal."""
    begun = Mark("couchdb@was.another", uuid(1), {})
    there = member(1, volume=volume(1, mark=begun, infos={FILE: FULL}))
    decision = judged(seen(member(0), there, member(2)))
    assert isinstance(decision, Refuse)
    assert (decision.error, decision.marks) == (NotSo, ())
    assert "`couchdiscover adopt` goes on" in decision.reason


# --- lost volumes ---


def lost(**changes: object) -> NodeView:
    """couchdb-1 on another volume than the others' marks know."""
    return member(1, volume=volume(1, uuid="a" * 32, mark=None, **changes))


def copies(**changes: object) -> Copies:
    found = Copies(frozenset({erlang_name(1)}), ("_users",), synced=True)
    return replace(found, **changes)  # type: ignore[arg-type]


def test_a_lost_volume_of_which_nothing_more_is_known_is_neither_verified_nor_marked() -> None:
    view = seen(member(0), lost(), member(2))
    assert list(waits(judged(view))) == ["couchdb-1"]
    assert list(waits(judged(view, Scope.POD))) == ["couchdb-1"]
    told = findings(Membership.of(topology(), view), Inspection())
    assert [(f.kind, f.severity) for f in told] == [("volume_lost", Severity.FAULT)]
    assert "complete again" not in told[0].message


def test_a_proven_one_is_marked_and_so_is_who_knew_the_former_one() -> None:
    view = seen(member(0), lost(), member(2), copies=copies())
    assert judged(view) == Done(marks=("couchdb-0", "couchdb-1", "couchdb-2"))
    assert judged(view, Scope.POD) == Done(marks=("couchdb-1",))


def test_copies_that_answering_nodes_fill_are_waited_for_whoever_else_is_away() -> None:
    filling = copies(left={erlang_name(1): (FILE,)}, total={erlang_name(1): 1})
    view = seen(member(0), lost(), silent(2), copies=filling)
    gone = replace(topology().expected[2], addresses=())
    place = (*topology().expected[:2], gone)
    assert list(waits(judged(view, Scope.POD, expected=place))) == ["couchdb-1"]


def test_copies_that_only_absent_nodes_have_are_not_waited_for_and_not_marked() -> None:
    unsure = copies(unsourced={erlang_name(1): (FILE,)})
    two = (replace(USERS, by_range={RANGE: (erlang_name(1), erlang_name(2))}),)
    first = member(0, volume=volume(0, files=frozenset(), maps=two))
    view = seen(first, lost(maps=two), silent(2), copies=unsure)
    gone = replace(topology().expected[2], addresses=())
    decision = judged(view, Scope.POD, expected=(*topology().expected[:2], gone))
    assert isinstance(decision, Done)
    assert decision.marks == ()
    assert "couchdb-2" in decision.warnings[-1]
    # One that is merely silent may be back in a moment.
    there = seen(member(0), lost(), refusing(2), copies=unsure)
    assert list(waits(judged(there, Scope.POD))) == ["couchdb-1"]


def test_a_lost_member_is_not_the_one_that_has_copies_filled() -> None:
    first = member(0, volume=volume(0, uuid="a" * 32, mark=None))
    left = {erlang_name(0): (ShardFile("_users", "0-f", ".1"),)}
    unsynced = copies(lost=frozenset({erlang_name(0)}), left=left, synced=False)
    decision = judged(seen(first, member(1), member(2), copies=unsynced))
    assert decision == Do((SyncShards("couchdb-1", ("_users",)),))


def test_a_range_whose_other_copies_are_silent_is_neither_proven_nor_gone() -> None:
    zero, one, two = map(erlang_name, range(3))
    maps = [
        ShardMap("orders", {"0-7": (one, two), "8-f": (zero, one)}, suffix=".1"),
        ShardMap("alone", {"0-f": (one,)}, suffix=".1"),
    ]
    proof = refilled(maps, loss(one), {zero, one}, {one: None})
    assert unsourced(proof, maps, loss(one)) == {one: (ShardFile("orders", "0-7", ".1"),)}
    assert lost_ranges(proof, maps, loss(one)) == {"alone"}
    assert lost_ranges(proof, maps, loss(one, two)) == {"alone", "orders"}, "both were lost"
    assert proof.total(one) == 3
    assert refilled(maps, loss(one, two), {zero, one, two}, {one: None}).left() == {
        one: (ShardFile("orders", "8-f", ".1"),)
    }


def test_a_source_that_comes_later_is_to_be_proven_too_and_one_that_goes_is_not() -> None:
    zero, one, two = map(erlang_name, range(3))
    maps = [ShardMap("orders", {"0-f": (zero, one, two)}, suffix=".1")]
    first = refilled(maps, loss(one), {zero, one}, {one: None})
    proven = replace(first, proven=frozenset(first.pairs))
    both = proven.over(refilled(maps, loss(one), {zero, one, two}, {one: None}))
    assert [pair.source for pair in both.open] == [two]
    assert proven.over(refilled([], loss(one), {zero, one}, {one: None})).complete


# --- before it is finished ---


@pytest.mark.parametrize("scope", Scope)
def test_nothing_is_finished_while_it_is_not_known_whether_it_was(scope: Scope) -> None:
    unread = [node(n, state=SetupState.ENABLED, databases=None) for n in range(3)]
    assert list(waits(judged(ClusterView(tuple(unread)), scope))) == ["couchdb-0"]
    blank = [replace(each, databases=frozenset()) for each in unread]
    decision = judged(ClusterView(tuple(blank)), scope)
    assert decision == Do((FinishCluster("couchdb-0", 3),))


def test_nobody_is_a_ghost_while_it_is_not_known_whether_it_was_finished() -> None:
    nobody = frozenset({"couchdb@couchdb-9.nowhere.test"})
    members = frozenset(map(erlang_name, range(3)))
    nodes = [
        node(n, state=SetupState.ENABLED, databases=None, cluster_nodes=members | nobody)
        for n in range(3)
    ]
    assert list(waits(judged(ClusterView(tuple(nodes))))) == ["couchdb-0"]
    known = [replace(each, databases=frozenset()) for each in nodes]
    assert isinstance(judged(ClusterView(tuple(known))), Refuse)


# --- what is written ---


def wanting(ordinal: int, databases: set[str] | None) -> NodeView:
    """A member from which a database that was asked for cannot be opened."""
    known = None if databases is None else frozenset(databases)
    return member(ordinal, unreadable=("orders",), databases=known)


@pytest.mark.parametrize("scope", Scope)
def test_a_database_is_made_only_where_every_member_lacks_it(scope: Scope) -> None:
    blank: set[str] = {"_users", "_replicator"}
    lacking = [wanting(n, blank) for n in range(3)]
    through = "couchdb-1" if scope is Scope.POD else "couchdb-0"
    made = judged(seen(*lacking), scope)
    assert made == Do((EnsureDatabase(through, "orders"),))
    # As after a lost volume, whose node is told of the databases a moment later.
    for other in (member(2), wanting(2, blank | {"orders"}), wanting(2, None)):
        told = waits(judged(seen(*lacking[:2], other), scope))
        assert set(told.values()) == {"to open orders"}


def test_copies_are_added_through_the_coordinator_in_either_scope() -> None:
    few = ShardMap("_users", {RANGE: (erlang_name(0),)}, suffix=".1")
    nodes = [
        member(
            n,
            volume=volume(n, maps=(few,) if n == 0 else None, filled=frozenset()),
            details=NodeDetails(f"couchdb-{n}"),
        )
        for n in range(3)
    ]
    # Two edits of one map through two nodes would leave a conflict.
    for scope in Scope:
        decision = judged(seen(*nodes), scope)
        assert isinstance(decision, Do), decision
        assert [step.pod for step in decision.steps] == ["couchdb-0"]


def test_another_administrators_hash_goes_to_no_node_of_another_scheme() -> None:
    new, old = Hash("n", "pbkdf2:sha256,600000"), Hash("o", "pbkdf2,10")
    theirs = Identity(new, "u", "s", admins={"second": Hash("x", "pbkdf2:sha256,600000")})
    nodes = [
        node(0, identity=theirs, version="3.5.2"),
        node(1, identity=theirs, version="3.5.2"),
        node(2, identity=Identity(old, "u", "s"), version="3.3.3"),
    ]
    found = drift(nodes, [n.name for n in nodes])
    assert found.steps == ()
    assert found.kept == ("couchdb-2",)
    same = replace(nodes[2], identity=Identity(new, "u", "s"))
    assert [s.pod for s in drift([*nodes[:2], same], [n.name for n in nodes]).steps] == [
        "couchdb-2"
    ]


def test_who_joins_a_finished_cluster_is_finished_before_it_is_in() -> None:
    """Also where more pods are to come: its identity and its copies are looked at only then."""
    place = replace(topology(4), own="couchdb-2", created_pods=3)
    last = replace(place.expected[3], addresses=())
    place = replace(place, expected=(*place.expected[:3], last))
    own = node(2, state=SetupState.ENABLED, volume=None)
    view = seen(member(0), member(1), own, silent(3), added=frozenset({"couchdb-2"}))
    decision = decide(place, view, Scope.POD)
    assert waits(decision) == {"couchdb-2": "to report what couchdb-0 does: a finished cluster"}


# --- one look, and a node that is another one in its midst ---


class Answering:
    """A node that gives its answers in turn, in CouchNode's place."""

    def __init__(self, names: list[str], connected: list[str]) -> None:
        self.address, self.version = Address("10.0.0.4", 5984), "3.5.2"
        self.names, self.connected = names, connected

    def local_name(self) -> str:
        return self.names.pop(0)

    def setup_state(self, _databases: object = ()) -> SetupState:
        return SetupState.ENABLED

    def membership(self) -> tuple[frozenset[str], frozenset[str]]:
        connected = frozenset({self.connected.pop(0), "couchdb@other"})
        return connected, connected


@pytest.mark.parametrize("quick", [False, True])
def test_a_node_that_took_over_an_address_is_not_taken_for_the_former_one(quick: bool) -> None:
    credentials = Credentials("admin", "secret")
    observer = Observer(Fleet(Access(credentials), Deadline(5)), Deadline(5), Scope.SET)
    pod, known = topology().expected[0], node(0)
    client = Answering([erlang_name(1)], [erlang_name(1)] * 2)
    found = observer._interview(client, pod, known, quick=quick)  # type: ignore[arg-type]
    assert found.name == erlang_name(1)
    restarted = Answering([erlang_name(1)], [erlang_name(2)])
    with pytest.raises(NoAnswer, match="started anew"):
        observer._interview(restarted, pod, None, quick=False)  # type: ignore[arg-type]


def test_a_member_that_has_not_learned_of_all_others_is_not_compared_with_some() -> None:
    """A wiped couchdb-0 that lists couchdb-1 alone would be one of two, and keep its own values."""
    own = frozenset({erlang_name(0), erlang_name(1)})
    wiped = member(0, cluster_nodes=own, identity=Identity(Hash("new"), "new", "c"))
    view = seen(wiped, member(1), member(2))
    place = replace(topology(), own="couchdb-0")
    assert waits(decide(place, view, Scope.POD)) == {"couchdb-0": "to list couchdb-2 as a member"}
    late = seen(replace(wiped, overdue=frozenset({erlang_name(2)})), member(1), member(2))
    assert [str(s.kind) for s in getattr(decide(place, late, Scope.POD), "steps", ())] == [
        "add_node"
    ]
    # One that is still joining is known to nobody yet, and holds up no pod.
    known = replace(wiped, identity=member(1).identity)
    others = seen(known, member(1, cluster_nodes=own), member(2))
    assert isinstance(decide(place, others, Scope.POD), Done)


def test_a_map_without_a_file_does_not_take_the_place_of_the_clusters() -> None:
    """Seen on CouchDB 3.5.2: the longer map won, and what the cluster held was 500 on all nodes."""
    alone = frozenset({erlang_name(2)})
    theirs = ShardMap("_users", {RANGE: ("couchdb@dead",)}, suffix=".9", revision="2-x")
    lone = node(2, state=SetupState.ENABLED, all_nodes=alone, cluster_nodes=alone)

    def deciding(maps: tuple[ShardMap, ...] | None, scope: Scope) -> Decision:
        joining = replace(lone, volume=Volume(frozenset(), maps))
        pair = frozenset({erlang_name(0), erlang_name(1)})
        others = [member(n, all_nodes=pair, cluster_nodes=pair) for n in range(2)]
        own = "couchdb-2" if scope is Scope.POD else None
        return decide(replace(topology(), own=own), seen(*others, joining), scope)

    for scope in Scope:
        refusal = deciding((theirs,), scope)
        assert isinstance(refusal, Refuse)
        assert refusal.error is Unsafe
        assert "couchdb-2" in waits(deciding(None, scope))
        # The cluster's own map, as of a member that was removed while databases were made.
        for maps in ((), (USERS,)):
            assert isinstance(deciding(maps, scope), Do)
