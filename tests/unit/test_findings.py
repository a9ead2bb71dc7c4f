"""What is found beyond membership, over tables of situations."""

from dataclasses import replace

import pytest

from couchdiscover.decide.findings import Finding, Inspection, Severity, findings
from couchdiscover.decide.membership import Membership
from couchdiscover.state.nodes import (
    ClusterView,
    Hash,
    Identity,
    NodeDetails,
    NodeView,
    SetupState,
    Unreachable,
)
from couchdiscover.state.reasons import Silent
from couchdiscover.state.topology import Address, Pod, Topology
from couchdiscover.state.volumes import ShardMap

DOMAIN = "couchdb.db.svc.cluster.local"
LOW, HIGH = "00000000-7fffffff", "80000000-ffffffff"
SAME = Identity(Hash("admin"), "uuid", "secret")


def name(ordinal: int) -> str:
    return f"couchdb@couchdb-{ordinal}.{DOMAIN}"


def topology(size: int) -> Topology:
    pods = tuple(Pod(f"couchdb-{n}", n, f"couchdb-{n}.{DOMAIN}") for n in range(size))
    return Topology("db", "couchdb", "couchdb", pods)


def node(ordinal: int, members: int, *others: str, **changes: object) -> NodeView:
    names = frozenset({name(n) for n in range(members)} | set(others))
    view = NodeView(
        f"couchdb-{ordinal}",
        Address(f"10.0.0.{ordinal}", 5984),
        name(ordinal),
        SetupState.FINISHED,
        names,
        names,
        version="3.5.2",
        identity=SAME,
    )
    return replace(view, **changes)  # type: ignore[arg-type]


def whole(size: int, *others: str) -> ClusterView:
    """A whole cluster, which lists some names that are nobody, too."""
    alive = frozenset(name(n) for n in range(size))
    return ClusterView(tuple(node(n, size, *others, all_nodes=alive) for n in range(size)))


def of(topology: Topology, view: ClusterView, inspection: Inspection) -> tuple[Finding, ...]:
    return findings(Membership.of(topology, view), inspection)


def details(size: int, copies: int = 3) -> tuple[NodeDetails, ...]:
    return tuple(NodeDetails(f"couchdb-{n}", None, copies) for n in range(size))


def placed(database: str, low: list[int], high: list[int] | None = None) -> ShardMap:
    return ShardMap(
        database,
        {
            LOW: tuple(name(n) for n in low),
            HIGH: tuple(name(n) for n in (low if high is None else high)),
        },
    )


def found(
    view: ClusterView,
    *maps: ShardMap,
    copies: int = 3,
    on: tuple[NodeDetails, ...] | None = None,
    size: int | None = None,
) -> list[tuple[str, str, tuple[str, ...]]]:
    """Kind, severity and subjects of all that is found, and each says what it is about."""
    size = len(view.sights) if size is None else size
    inspection = Inspection(details(size, copies) if on is None else on, maps)
    everything = of(topology(size), view, inspection)
    for each in everything:
        assert each.message
        assert str(each) == f"{each.severity}: {each.message}"
    return [(each.kind, str(each.severity), each.subjects) for each in everything]


def test_nothing_is_found_in_a_whole_cluster() -> None:
    assert found(whole(3), placed("_users", [0, 1, 2]), placed("orders", [0, 1, 2])) == []
    assert found(whole(1), placed("_users", [0])) == []


# --- nodes ---


def test_members_that_are_no_pod() -> None:
    assert found(whole(3, name(3), name(4))) == [
        ("left_behind", "fault", (name(3), name(4))),
    ]


def test_names_and_volumes_that_do_not_last() -> None:
    inspection = Inspection(details(2), ())
    numbered = ClusterView(
        tuple(node(n, 0, "c@10.0.0.1", "c@10.0.0.2", name=f"c@10.0.0.{n + 1}") for n in range(2))
    )
    fleeting = replace(topology(2), volumes_persistent=False)
    told = [each for each in of(fleeting, numbered, inspection) if each.severity == "warning"]
    assert [(each.kind, each.subjects) for each in told] == [
        ("named_by_address", ("couchdb-0", "couchdb-1")),
        ("no_persistent_volume", ("couchdb",)),
    ]
    for lasting in (True, None):  # where the template does not show it, nothing is claimed
        shown = replace(topology(2), volumes_persistent=lasting)
        assert of(shown, whole(2), Inspection(details(2, 2), ())) == ()


def test_a_member_that_is_cut_off_is_named_with_its_cause() -> None:
    view = ClusterView(
        (
            node(0, 2, all_nodes=frozenset({name(0)})),
            node(
                1,
                2,
                all_nodes=frozenset({name(1)}),
                unconnected_because="port 4369 cannot be reached",
            ),
        )
    )
    messages = [f.message for f in of(topology(2), view, Inspection(details(2, 2)))]
    assert messages == [
        "couchdb-0 answers and is a member, but not connected to couchdb-1",
        "couchdb-1 answers and is a member, but not connected to couchdb-0 "
        "(port 4369 cannot be reached)",
    ]


def test_a_node_that_does_not_answer_is_no_finding_of_its_own() -> None:
    alive = frozenset({name(0), name(1)})
    view = ClusterView(
        (
            node(0, 3, all_nodes=alive),
            node(1, 3, all_nodes=alive),
            Unreachable("couchdb-2", Silent(None, "did not")),
        )
    )
    assert found(view) == []


@pytest.mark.parametrize(
    ("identities", "pods"),
    [
        ([SAME, SAME, replace(SAME, uuid="x")], ("couchdb-2",)),
        (
            [SAME, replace(SAME, admin=Hash("x")), replace(SAME, secret=None)],
            ("couchdb-1", "couchdb-2"),
        ),
        ([SAME, None, SAME], ()),
    ],
)
def test_identity_drift(identities: list[Identity | None], pods: tuple[str, ...]) -> None:
    view = ClusterView(tuple(node(n, 3, identity=each) for n, each in enumerate(identities)))
    expected = [("identity_drift", "fault", pods)] if pods else []
    assert found(view) == expected


def test_a_cluster_without_any_secret() -> None:
    bare = replace(SAME, secret=None)
    view = ClusterView(tuple(node(n, 2, identity=bare) for n in range(2)))
    assert found(view, copies=2) == [("no_secret", "fault", ("couchdb-0", "couchdb-1"))]


def test_identity_is_compared_in_finished_clusters_only() -> None:
    other = replace(SAME, uuid="x")
    view = ClusterView(
        (
            node(0, 2, state=SetupState.ENABLED),
            node(1, 2, state=SetupState.ENABLED, identity=other),
        )
    )
    assert found(view, copies=2) == []


def test_databases_that_were_asked_for() -> None:
    view = ClusterView((node(0, 2, unreadable=("orders",)), node(1, 2)))
    assert found(view, copies=2) == [("database_missing", "fault", ("orders",))]


@pytest.mark.parametrize(("mode", "severity"), [("true", "fault"), ("nolb", "warning")])
def test_maintenance_mode(mode: str, severity: str) -> None:
    on = (NodeDetails("couchdb-0", None, 2), NodeDetails("couchdb-1", mode, 2))
    assert found(whole(2), on=on) == [("maintenance_mode", severity, ("couchdb-1",))]


@pytest.mark.parametrize(
    ("size", "copies", "severity"),
    [
        (1, 3, None),
        (2, 3, "info"),
        (2, 2, None),
        (2, 1, "warning"),
        (3, 3, None),
        (3, 2, "warning"),
        (5, 3, None),
        (5, 4, None),
    ],
)
def test_the_number_of_copies_against_the_number_of_nodes(
    size: int, copies: int, severity: str | None
) -> None:
    expected = [("copies_setting", severity, tuple(f"couchdb-{n}" for n in range(size)))]
    assert found(whole(size), copies=copies) == (expected if severity else [])


def test_numbers_of_copies_that_differ() -> None:
    on = (NodeDetails("couchdb-0", None, 3), NodeDetails("couchdb-1", None, 2))
    assert found(whole(2), on=on) == [("copies_setting", "warning", ("couchdb-0", "couchdb-1"))]


def test_mixed_versions() -> None:
    view = ClusterView((node(0, 2, version="3.4.0"), node(1, 2)))
    assert found(view, copies=2) == [("mixed_versions", "warning", ("couchdb-0", "couchdb-1"))]
    unknown = ClusterView((node(0, 2, version=None), node(1, 2)))
    assert found(unknown, copies=2) == []


def test_what_could_not_be_read_is_no_good_news() -> None:
    unread = (("the databases' shard maps", "did not answer in time"),)
    (only,) = of(topology(2), whole(2), Inspection(details(2, 2), (), unread))
    assert (only.kind, only.severity) == ("not_inspected", Severity.FAULT)
    assert only.message.endswith("could not be looked at: did not answer in time")


# --- databases ---


def test_system_databases_with_fewer_copies_than_they_would_get_now() -> None:
    maps = [placed("_users", [0]), placed("_replicator", [0]), placed("orders", [0, 1, 2])]
    few = of(topology(3), whole(3), Inspection(details(3), tuple(maps)))
    assert [(f.kind, f.severity) for f in few if "_users" in f.subjects] == [
        ("fewer_copies", Severity.WARNING)
    ]
    assert "logins and replications stop" in few[0].message


@pytest.mark.parametrize(
    ("shards", "size", "copies", "fault"),
    [
        (placed("a", [0, 1, 2]), 3, 3, False),
        (placed("a", [0, 1]), 2, 3, False),  # two copies are all that two members can have
        (placed("a", [0, 1]), 3, 3, False),  # made with two, by ?n=, placement or a scale-up
        (placed("a", [0, 1]), 3, 2, False),
        (placed("a", [0, 1, 2], [0, 1, 7]), 3, 3, True),  # of one range only
        (placed("a", [0, 1, 7]), 3, 3, True),  # what is not on a member does not count
        (placed("a", [0, 1, 7]), 3, 2, True),  # it was made with more than a new one gets
        (placed("a", [0, 7]), 3, 1, True),
        (placed("a", [0, 1, 2, 7]), 3, 3, False),
        (placed("a", [7, 8, 9]), 3, 3, True),
        (ShardMap("a", {}), 3, 3, True),
    ],
)
def test_too_few_copies(shards: ShardMap, size: int, copies: int, fault: bool) -> None:
    kinds = {kind: subjects for kind, _, subjects in found(whole(size), shards, copies=copies)}
    assert kinds.get("too_few_copies") == (("a",) if fault else None)


def test_databases_that_lack_the_same_number_are_one_finding_each() -> None:
    maps = [placed("a", [0]), placed("b", [0, 7]), placed("c", [1]), placed("d", [7])]
    kinds = [each for each in found(whole(3), *maps) if each[0].endswith("_copies")]
    assert kinds == [
        ("too_few_copies", "fault", ("d",)),
        ("too_few_copies", "fault", ("b",)),
        ("fewer_copies", "warning", ("a", "c")),
    ]


def test_placement_decides_how_many_copies_there_are() -> None:
    on = tuple(replace(each, placement="z1:1") for each in details(3))
    assert not [f for f in found(whole(3), placed("a", [0]), on=on) if f[0].endswith("_copies")]
    lost = found(whole(3), placed("a", [0, 7]), on=on)
    assert ("too_few_copies", "fault", ("a",)) in lost


def test_copies_on_names_that_are_no_members() -> None:
    kinds = found(whole(3), placed("a", [0, 1, 2, 7]), placed("b", [0, 1, 2]))
    assert kinds == [("copies_on_no_members", "warning", ("a",))]


def test_a_member_that_no_pod_is_holds_nothing() -> None:
    kinds = [kind for kind, *_ in found(whole(2, name(2)), placed("a", [0, 2]), copies=2)]
    assert kinds == ["left_behind", "too_few_copies", "copies_on_no_members", "no_shards"]


def test_conflicts_of_shard_maps() -> None:
    maps = [replace(placed("same", [0, 1]), conflicting=True), placed("other", [0, 1])]
    assert found(whole(2), *maps, copies=2) == [("conflicting_shard_maps", "fault", ("same",))]


def test_databases_that_were_made_before_a_node_joined_are_information() -> None:
    maps = [placed("old", [0, 1, 2]), placed("new", [0, 1, 3], [1, 2, 3])]
    assert found(whole(4), *maps) == [("no_shards", "info", ("couchdb-3",))]


@pytest.mark.parametrize(
    ("zones", "words"),
    [
        (None, "they were made before it joined, or by [cluster] placement (a:3)"),
        ({3: "a"}, "they were made before it joined, or by [cluster] placement (a:3)"),
        ({3: "b"}, "[cluster] placement (a:3) names no zone that it is in"),
        ({}, "[cluster] placement (a:3) names no zone that it is in"),
    ],
)
def test_where_placement_decides_it_is_told_why_a_member_holds_nothing(
    zones: dict[int, str] | None, words: str
) -> None:
    known = None if zones is None else {name(0): "a", **{name(n): z for n, z in zones.items()}}
    on = tuple(replace(each, placement="a:3", zones=known) for each in details(4))
    maps = (placed("old", [0, 1, 2]), placed("more", [0, 1, 2], [0, 1, 2]))
    (told,) = of(topology(4), whole(4), Inspection(on, maps))
    assert (told.kind, told.subjects) == ("no_shards", ("couchdb-3",))
    assert words in told.message


SET = "copies_setting"


def test_a_zone_that_no_member_is_in() -> None:
    """CouchDB 3.5.2: 500 no_nodes_in_zone to whoever makes a database."""
    zones = {name(0): "a", name(1): "a", name(9): "b"}
    on = tuple(replace(each, placement="a:1,b:1", zones=zones) for each in details(2))
    told = [each for each in of(topology(2), whole(2), Inspection(on, ())) if each.kind != SET]
    assert [(each.kind, each.subjects) for each in told] == [
        ("empty_zone", ("couchdb-0",)),
        ("empty_zone", ("couchdb-1",)),
    ]
    assert "names b, and no member is there" in told[0].message
    there = tuple(replace(each, zones=zones | {name(1): "b"}) for each in on)
    there_now = of(topology(2), whole(2), Inspection(there, ()))
    assert [each.kind for each in there_now] == [SET]


def test_but_small_databases_of_large_clusters_reach_few_nodes_by_nature() -> None:
    assert found(whole(9), placed("small", [0, 1, 2], [3, 4, 5])) == []


def test_a_thousand_databases_are_one_short_sentence() -> None:
    maps = tuple(placed(f"db-{n:04}", [0]) for n in range(1000))
    few = of(topology(3), whole(3), Inspection(details(3), maps))
    assert all(len(each.message) < 500 for each in few)
    (short,) = [each for each in few if each.kind == "fewer_copies"]
    assert len(short.subjects) == 1000
    assert "db-0004 and 995 more" in short.message


def test_the_worst_comes_first() -> None:
    view = ClusterView((node(0, 2, version="1.0.0"), node(1, 2, identity=replace(SAME, uuid="x"))))
    maps = (replace(placed("a", [0, 1]), conflicting=True),)
    severities = [f.severity for f in of(topology(2), view, Inspection(details(2), maps))]
    assert severities == sorted(severities, key=list(Severity).index)
    assert set(severities) == set(Severity)


def test_a_finding_is_plain_data() -> None:
    finding = Finding("kind", Severity.INFO, ("a",), "a is so")
    assert str(finding) == "info: a is so"
