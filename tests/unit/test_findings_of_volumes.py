"""What ``check`` finds on volumes, in identities of mixed versions, and beside the StatefulSet."""

from collections.abc import Sequence
from dataclasses import replace

import pytest

from couchdiscover.decide.findings import Finding, Inspection, Severity, findings
from couchdiscover.state.nodes import Copies, Hash, Identity, NodeView
from couchdiscover.state.topology import Topology
from couchdiscover.state.volumes import FileInfo, Mark, ShardFile, ShardMap, Trace, Volume
from tests.support.decisions import (
    SAME,
    cluster_of,
    erlang_name,
    finished,
    groups,
    holding,
    names,
    topology,
    view,
)

ELSEWHERE = "couchdb@couchdb-0.couchdb.other.svc.cluster.local"
RANGE = "00000000-ffffffff"
ORDERS = ShardFile("orders", RANGE, ".1")


def found(
    nodes: Sequence[NodeView], inspection: Inspection | None = None, **more: object
) -> dict[str, Finding]:
    """What is found of these nodes, by its kind; each kind once."""
    membership = groups(view(*nodes, **more), len(nodes))
    told = findings(membership, inspection or Inspection())
    assert len({each.kind for each in told}) == len(told), told
    return {each.kind: each for each in told}


def whole(count: int = 3) -> list[NodeView]:
    return [
        finished(
            n,
            *(m for m in range(count) if m != n),
            volume=holding("orders", on=names(*range(count))),
        )
        for n in range(count)
    ]


def with_volume(node: NodeView, **changes: object) -> NodeView:
    return replace(node, volume=replace(node.volume or Volume(), **changes))  # type: ignore[arg-type]


def test_nothing_is_found_in_a_whole_set() -> None:
    assert found(whole()) == {}


def test_members_of_another_statefulset_are_told_and_no_fault() -> None:
    both = frozenset({erlang_name(0), ELSEWHERE})
    told = found([finished(0, all_nodes=both, cluster_nodes=both)])
    assert told["elsewhere"].severity is Severity.INFO
    assert told["elsewhere"].subjects == (ELSEWHERE,)
    assert set(told) == {"elsewhere"}


def test_a_clone_is_a_fault_and_no_other_statefulset() -> None:
    both = frozenset({erlang_name(0), ELSEWHERE})
    own = finished(0, all_nodes=both, cluster_nodes=both, volume=holding("orders", on=names(0)))
    told = found([own], others={ELSEWHERE: Volume(uuid="couchdb-0's")})
    assert told["cloned"].severity is Severity.FAULT
    assert told["cloned"].subjects == (ELSEWHERE,)
    assert "elsewhere" not in told


# --- identities -------------------------------------------------------------------------------


def test_hashes_of_other_schemes_are_a_warning() -> None:
    new = replace(SAME, admin=Hash("new", "pbkdf2:sha256-600000"))
    old = replace(SAME, admin=Hash("old", "pbkdf2-10"))
    told = found(cluster_of(new, new, old), prior=names(0, 1, 2))
    assert told["other_scheme"].severity is Severity.WARNING
    assert told["other_scheme"].subjects == ("couchdb-2",)


@pytest.mark.parametrize("rollout", [False, True])
def test_a_secret_of_the_environment_that_others_do_not_take_is_a_fault_but_in_a_rollout(
    rollout: bool,
) -> None:
    nodes = cluster_of(SAME, SAME, replace(SAME, secret="rotated"))
    nodes = [
        replace(each, version="3.4.3", sessions=frozenset({each.pod, "couchdb-0"}))
        for each in nodes
    ]
    place: Topology = replace(topology(3), secret_intended=True, rollout=rollout)
    membership = groups(view(*nodes, prior=names(0, 1, 2)))
    told = findings(replace(membership, topology=place), Inspection())
    (secrets,) = [each for each in told if each.kind == "secrets_differ"]
    assert secrets.severity is (Severity.WARNING if rollout else Severity.FAULT)
    assert "`kubectl rollout restart statefulset/couchdb`" in secrets.message


@pytest.mark.parametrize("tried", [True, False])
def test_what_comes_of_drift_is_said_where_it_was_seen(tried: bool) -> None:
    nodes = cluster_of(SAME, SAME, Identity(Hash("other"), "uuid", "secret"))
    if tried:
        nodes = [replace(each, sessions=frozenset({each.pod})) for each in nodes]
    told = found(nodes, prior=names(0, 1, 2))["identity_drift"].message
    assert ("one node fail on another" in told) is tried
    assert ("may fail on another" in told) is not tried


# --- volumes ----------------------------------------------------------------------------------


def lost(nodes: list[NodeView], at: int) -> list[NodeView]:
    """The same after one lost its volume: the others' marks know it with another ``_dbs``."""
    anew = with_volume(nodes[at], mark=None, uuid="anew", traces=())
    return [anew if n == at else each for n, each in enumerate(nodes)]


@pytest.mark.parametrize(
    ("copies", "severity", "state"),
    [
        (None, Severity.FAULT, "how far its copies are filled again could not be read"),
        (Copies(names(2)), Severity.FAULT, "could not be read"),
        (
            Copies(names(1), left={erlang_name(1): (ORDERS,)}, total={erlang_name(1): 4}),
            Severity.FAULT,
            "1 of 4 shard copies are not proven complete",
        ),
        (
            Copies(names(1), unsourced={erlang_name(1): (ORDERS,)}),
            Severity.FAULT,
            "1 of 1 shard copies are not proven complete",
        ),
        (Copies(names(1)), Severity.WARNING, "its copies are complete again"),
    ],
)
def test_a_lost_volume_is_a_fault_until_its_copies_are_proven(
    copies: Copies | None, severity: Severity, state: str
) -> None:
    told = found(lost(whole(), 1), copies=copies)["volume_lost"]
    assert (told.severity, told.subjects) == (severity, ("couchdb-1",))
    assert state in told.message
    assert ("reads through any node may miss documents" in told.message) is (
        severity is Severity.FAULT
    )


def test_ranges_whose_only_copies_were_lost_are_a_fault_though_all_others_are_proven() -> None:
    copies = Copies(names(1), ("orders",), gone=frozenset({"orders"}), synced=True)
    told = found(lost(whole(), 1), copies=copies)["volume_lost"]
    assert (told.severity, told.subjects) == (Severity.FAULT, ("couchdb-1",))
    assert "the only copies of some range of orders: what they held is gone" in told.message


def test_files_that_a_marked_volume_lacks_are_damage() -> None:
    nodes = whole()
    nodes[1] = with_volume(nodes[1], files=frozenset())
    told = found(nodes)["volume_damaged"]
    assert (told.severity, told.subjects) == (Severity.FAULT, ("couchdb-1",))
    assert ORDERS.path in told.message


def test_files_that_an_unmarked_volume_lacks_are_no_loss_and_missing_all_the_same() -> None:
    bare = [with_volume(each, mark=None) for each in whole()]
    nodes = [bare[0], with_volume(bare[1], files=frozenset()), bare[2]]
    told = found(nodes)
    assert told["copies_missing"].severity is Severity.FAULT
    assert f"couchdb-1 ({ORDERS.path})" in told["copies_missing"].message
    assert "volume_lost" not in told


def test_copies_that_hold_less_than_others_are_told_of_the_node() -> None:
    copies = Copies(names(1), left={erlang_name(1): (ORDERS,)}, total={erlang_name(1): 3})
    told = found(whole(), copies=copies)["copies_missing"]
    assert told.subjects == ("couchdb-1",)
    assert "1 of 3 shard copies are not proven complete" in told.message


def test_what_adopt_holds_is_told_as_held() -> None:
    former = "couchdb@couchdb-0.couchdb.prod.svc.cluster.local"
    left = ShardMap("_replicator", {RANGE: (former,)}, suffix=".1", revision="1-a")
    own = finished(
        0,
        volume=Volume(
            files=frozenset({left.file(RANGE)}),
            maps=(left,),
            uuid="own",
            mark=Mark(erlang_name(0), "own", {}, "2026-01-01", was=(former,)),
            traces=(Trace(former, "own", "2026"),),
            filled=frozenset(),
        ),
    )
    told = found([own], Inspection(shard_maps=(left,)))
    assert told["held"].severity is Severity.FAULT
    assert told["held"].subjects == ("_replicator",)
    assert "shards_misplaced" not in told, "that its map names nobody is what it is held by"


@pytest.mark.parametrize("at", ["", "2026-01-01"])
def test_a_mark_of_another_name_is_an_adoption_without_its_end_or_one_to_be_renewed(
    at: str,
) -> None:
    former = "couchdb@couchdb-1.couchdb.prod.svc.cluster.local"
    nodes = whole()
    nodes[1] = with_volume(nodes[1], mark=Mark(former, "couchdb-1's", {}, at))
    full = {ORDERS: FileInfo("f", 3, 0, 3)}
    nodes = [with_volume(each, infos=full) for each in nodes]
    told = found(nodes)
    if at:
        assert told["marked_otherwise"].severity is Severity.WARNING
        assert f"it was {former}" in told["marked_otherwise"].message
    else:
        assert told["adoption_unfinished"].severity is Severity.FAULT
        assert "marked_otherwise" not in told


def test_copies_of_an_older_snapshot_and_those_that_were_not_compared_are_told() -> None:
    told = found(
        whole(),
        Inspection(
            rolled_back=("orders",), in_doubt=("logs",), not_compared=7, because="it has an end"
        ),
    )
    assert told["purges_in_doubt"].severity is Severity.WARNING
    assert told["purges_in_doubt"].message.startswith("logs: some copy knows of fewer purges")
    assert told["rolled_back"].severity is Severity.FAULT
    assert "`couchdiscover adopt` puts it right" in told["rolled_back"].message
    assert told["copies_not_compared"].severity is Severity.INFO
    assert "7 pairs of shard copies were not compared: it has an end" in (
        told["copies_not_compared"].message
    )


def test_who_may_read_depends_on_the_node() -> None:
    told = found(whole(), Inspection(securities={"orders": ("couchdb@a.x", "couchdb@b.x")}))
    assert told["security_differs"].severity is Severity.FAULT
    assert told["security_differs"].subjects == ("orders",)
    assert "orders: _security is not the same on couchdb@a.x, couchdb@b.x" in (
        told["security_differs"].message
    )


# --- names and storage ------------------------------------------------------------------------


def test_seeds_that_have_not_answered_are_a_fault_of_each_node() -> None:
    nodes = [replace(each, up="seeding" if n else "ok") for n, each in enumerate(whole())]
    told = found(nodes)["seeding"]
    assert (told.severity, told.subjects) == (Severity.FAULT, ("couchdb-1", "couchdb-2"))


def test_names_by_address_and_data_on_no_volume_are_told_before_they_cost() -> None:
    by_address = [f"couchdb@10.0.0.{n + 1}" for n in range(2)]
    everybody = frozenset(by_address)
    nodes = [
        finished(n, name=by_address[n], all_nodes=everybody, cluster_nodes=everybody, volume=None)
        for n in range(2)
    ]
    place = replace(topology(2), volumes_persistent=False)
    membership = replace(groups(view(*nodes), 2), topology=place)
    told = {each.kind: each for each in findings(membership, Inspection())}
    assert told["named_by_address"].subjects == ("couchdb-0", "couchdb-1")
    assert told["no_persistent_volume"].severity is Severity.WARNING
    alone = replace(
        groups(view(nodes[0]), 1), topology=replace(topology(1), volumes_persistent=False)
    )
    kinds = {each.kind for each in findings(alone, Inspection())}
    assert kinds >= {"named_by_address", "no_persistent_volume"}
