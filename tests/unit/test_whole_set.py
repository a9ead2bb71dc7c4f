"""The decision in scope ``set``, over tables of situations."""

from dataclasses import replace
from functools import partial

import pytest

from couchdiscover.decide.decision import Policy, decide
from couchdiscover.decide.membership import Membership
from couchdiscover.decide.simulation import after, simulate
from couchdiscover.errors import NotSo, Unsafe, UsageProblem
from couchdiscover.state.nodes import (
    Hash,
    Identity,
    NodeView,
    SetupState,
    TooOld,
    Unreachable,
)
from couchdiscover.state.reasons import AnotherPodsAddress
from couchdiscover.state.steps import (
    AddNode,
    Do,
    Done,
    EnsureDatabase,
    Refuse,
    Wait,
)
from couchdiscover.state.topology import Scope
from couchdiscover.state.volumes import ShardFile, Volume
from tests.support.decisions import (
    ADDRESS,
    SAME,
    cluster_of,
    down,
    erlang_name,
    finished,
    groups,
    holding,
    kinds,
    laden,
    names,
    node,
    refused,
    topology,
    view,
    waits,
    whys,
)


def test_a_fresh_set_is_joined_to_the_lowest_ordinal_and_then_finished() -> None:
    decision = decide(topology(), view(node(0), node(1), node(2)), Scope.SET)
    assert kinds(decision) == ["add_node couchdb-1", "add_node couchdb-2"]
    assert isinstance(decision, Do)
    assert {(step.to, step.member) for step in decision.steps if isinstance(step, AddNode)} == {
        ("couchdb-0", erlang_name(0))
    }


def test_finishing_waits_for_every_node_and_goes_through_the_coordinator() -> None:
    everybody = names(0, 1, 2)
    joined = [node(n, everybody, identity=SAME) for n in range(3)]
    assert kinds(decide(topology(), view(*joined), Scope.SET)) == ["finish_cluster couchdb-0"]

    cut_off = [*joined[:2], replace(joined[2], all_nodes=names(2))]
    assert isinstance(decide(topology(), view(*cut_off), Scope.SET), Wait)
    one_sided = [*joined[:2], replace(joined[2], cluster_nodes=names(1, 2))]
    assert isinstance(decide(topology(), view(*one_sided), Scope.SET), Wait)


OLD, NEW = Hash("old", "pbkdf2,10"), Hash("new", "pbkdf2:sha256,600000")


@pytest.mark.parametrize(
    ("versions", "hashes", "through"),
    [
        (("3.5.2", "3.3.3", "3.3.3"), (NEW, OLD, OLD), 1),
        (("3.5.2", "3.5.2", "3.3.3"), (NEW, NEW, OLD), 2),
        (("3.3.3", "3.5.2", "3.5.2"), (OLD, NEW, NEW), 0),
        (("3.5.2", "3.4.3", "3.4.3"), (NEW, NEW, NEW), 0),
        (("3.5.2", "3.4.3", None), (NEW, NEW, NEW), 0),
        ((None, None, None), (NEW, NEW, OLD), 2),
        (("3.5.2", "3.5.2", "3.5.2"), (NEW, NEW, OLD), 0),  # an old hash that a new node reads
    ],
)
def test_mixed_versions_are_finished_through_a_node_whose_hash_all_can_read(
    versions: tuple[str | None, ...], hashes: tuple[Hash, ...], through: int
) -> None:
    everybody = names(0, 1, 2)
    joined = [
        node(n, everybody, version=versions[n], identity=Identity(hashes[n], "b", "c"))
        for n in range(3)
    ]
    expected = [f"finish_cluster couchdb-{through}"]
    assert kinds(decide(topology(), view(*joined), Scope.SET)) == expected
    assert kinds(decide(topology(own=1), view(*joined), Scope.POD)) == expected


def test_a_coordinator_without_a_secret_gets_one_before_finishing() -> None:
    everybody = names(0, 1)
    bare = Identity(Hash("admin"), "uuid", None)
    nodes = [node(n, everybody, identity=bare) for n in range(2)]
    decision = decide(topology(2), view(*nodes), Scope.SET)
    assert kinds(decision) == ["set_secret couchdb-0", "finish_cluster couchdb-0"]


def test_nothing_is_formed_until_every_node_was_seen() -> None:
    decision = decide(topology(), view(node(0), node(1), down(2)), Scope.SET)
    assert isinstance(decision, Wait)
    assert list(decision.reasons) == ["couchdb-2"]


def test_of_nodes_that_only_list_each_other_no_cluster_is_made_where_one_is_to_exist() -> None:
    """As a run that was killed between joining and finishing leaves them."""
    existing = Policy(existing_only=True)
    for others in ((node(2),), (node(2, names(0, 1, 2)),)):
        joined = [node(n, names(0, 1, 2)) for n in range(2)]
        half = view(*joined, *others)
        assert "--cluster-state existing" in refused(
            decide(topology(), half, Scope.SET, existing), Unsafe
        )
        silent = view(*joined, down(2))
        assert list(waits(decide(topology(), silent, Scope.SET, existing))) == ["couchdb-2"]
        unread = view(replace(joined[0], databases=None), *half.nodes[1:])
        assert (
            "finished once" in waits(decide(topology(), unread, Scope.SET, existing))["couchdb-0"]
        )
        for databases in (frozenset({"_users", "_replicator"}), frozenset({"orders"})):
            there = view(replace(joined[0], databases=databases), *half.nodes[1:])
            assert not isinstance(decide(topology(), there, Scope.SET, existing), Refuse)


def test_but_nodes_join_an_existing_cluster_while_others_are_down() -> None:
    seen = view(finished(0, 1), finished(1, 0), node(2), down(3))
    assert kinds(decide(topology(4), seen, Scope.SET)) == ["add_node couchdb-2"]


def test_a_node_that_lost_its_volume_joins_the_others_and_finishes_nothing() -> None:
    alone_but_known = [node(0), finished(1, 0, 2), finished(2, 0, 1)]
    decision = decide(topology(), view(*alone_but_known), Scope.SET)
    assert kinds(decision) == ["add_node couchdb-0"]
    assert isinstance(decision, Do)
    assert decision.steps[0].details()["to"] == "couchdb-1"


def test_while_a_fresh_join_is_under_way_the_coordinator_stays() -> None:
    joining = view(node(0), node(1, names(0, 1)), node(2))
    decision = decide(topology(), joining, Scope.SET)
    assert isinstance(decision, Do)
    assert {step.details()["to"] for step in decision.steps} == {"couchdb-0"}
    assert kinds(decision) == ["add_node couchdb-2"]


def test_disabled_nodes_are_enabled_and_joined_in_one_go() -> None:
    disabled = SetupState.DISABLED
    decision = decide(
        topology(2), view(node(0, state=disabled), node(1, state=disabled)), Scope.SET
    )
    assert kinds(decision) == [
        "enable_node couchdb-0",
        "enable_node couchdb-1",
        "add_node couchdb-1",
    ]


@pytest.mark.parametrize(
    ("state", "steps"),
    [
        (SetupState.DISABLED, ["enable_node couchdb-0", "finish_cluster couchdb-0"]),
        (SetupState.ENABLED, ["finish_cluster couchdb-0"]),
        (SetupState.SINGLE_DISABLED, ["enable_single_node couchdb-0"]),
        (SetupState.SINGLE_ENABLED, []),
        (SetupState.FINISHED, []),
    ],
)
def test_a_single_node(state: SetupState, steps: list[str]) -> None:
    only = topology(1)
    for scope, place in ((Scope.SET, only), (Scope.POD, replace(only, own="couchdb-0"))):
        ahead = simulate(place, view(node(0, state=state)), partial(decide, place, scope=scope))
        assert [f"{step.kind} {step.pod}" for step in ahead.steps] == steps
        assert isinstance(ahead.end, Done)


def test_a_whole_cluster_is_left_alone() -> None:
    whole = view(finished(0, 1, 2), finished(1, 0, 2), finished(2, 0, 1), prior=names(0, 1, 2))
    assert decide(topology(), whole, Scope.SET) == Done()


def test_a_wanted_database_is_made_through_the_coordinator() -> None:
    nodes = [finished(n, 1 - n, unreadable=("orders",)) for n in range(2)]
    decision = decide(topology(2), view(*nodes), Scope.SET)
    assert kinds(decision) == ["ensure_db couchdb-0"]


def test_a_wanted_database_that_is_there_and_cannot_be_opened_is_not_made_anew() -> None:
    """Its copies are away just now; a map that is made anew would hide them."""
    there = frozenset({"_users", "_replicator", "orders"})
    for knowing in (0, 1):
        nodes = [finished(n, 1 - n, unreadable=("orders",)) for n in range(2)]
        nodes[knowing] = replace(nodes[knowing], databases=there)
        for scope, own in ((Scope.SET, None), (Scope.POD, 0)):
            told = waits(decide(topology(2, own), view(*nodes), scope))
            assert told["couchdb-0"] == "to open orders"


def test_members_left_behind_by_a_scale_down_are_a_persons_work() -> None:
    nodes = [finished(n, 0, 1, 2, connected=names(0, 1)) for n in range(2)]
    decision = decide(topology(2), view(*nodes), Scope.SET)
    assert "couchdb-2" in refused(decision, NotSo)
    assert isinstance(decide(topology(2, own=0), view(*nodes), Scope.POD), Done)
    kept = topology(2, beyond=("couchdb-2",))
    assert isinstance(decide(kept, view(*nodes), Scope.SET), Done)


def test_a_member_that_never_hears_of_another_is_told_of_it() -> None:
    everybody = names(0, 1, 2)
    deaf = node(2, names(0, 2), connected=everybody, identity=SAME)
    full = [node(n, everybody, identity=SAME) for n in range(2)]
    early = decide(topology(), view(*full, deaf), Scope.SET)
    assert waits(early) == {"couchdb-2": "to list couchdb-1 as a member"}
    seen = view(*full, replace(deaf, overdue=names(1)))
    decision = decide(topology(), seen, Scope.SET)
    assert isinstance(decision, Do)
    (step,) = decision.steps
    assert step == AddNode("couchdb-2", "couchdb-1", erlang_name(1), introduces=True)
    assert step.why == "it has not learned of couchdb-1 by replication"
    then = after(topology(), seen, decision.steps)
    assert then.added == frozenset(), "it was in before"
    assert kinds(decide(topology(), then, Scope.SET)) == ["finish_cluster couchdb-0"]


def test_a_newcomer_is_told_of_while_others_are_silent() -> None:
    old = finished(0, 1, overdue=names(2))
    new = node(2, names(0, 2))
    decision = decide(topology(), view(old, down(1), new), Scope.SET)
    assert kinds(decision) == ["add_node couchdb-0"]


def test_a_silent_member_is_not_told_of() -> None:
    seen = view(finished(0, overdue=names(1)), down(1))
    assert isinstance(decide(topology(2), seen, Scope.SET), Wait)


def test_each_step_says_why() -> None:
    both = names(0, 1)
    fresh = whys(decide(topology(2), view(node(0), node(1)), Scope.SET))
    assert fresh == {"add_node couchdb-1": "it is no member of couchdb-0's cluster yet"}
    joined = [node(n, both, identity=Identity(Hash("a"), "u", None)) for n in range(2)]
    assert whys(decide(topology(2), view(*joined), Scope.SET)) == {
        "set_secret couchdb-0": "without a chttpd_auth secret finish_cluster fails for ever",
        "finish_cluster couchdb-0": "all 2 members are connected, and it is not finished",
    }
    disabled = node(0, state=SetupState.DISABLED)
    assert whys(decide(topology(1), view(disabled), Scope.SET)) == {
        "enable_node couchdb-0": "it is bound to loopback or has no administrator"
    }
    single = node(0, state=SetupState.SINGLE_DISABLED)
    assert whys(decide(topology(1), view(single), Scope.SET)) == {
        "enable_single_node couchdb-0": "it is configured as a single node"
    }
    lacking = [finished(n, 1 - n, identity=Identity(Hash("a"), "u", None)) for n in range(2)]
    assert whys(decide(topology(2), view(*lacking, prior=both), Scope.SET)) == {
        "set_secret couchdb-0": "no node has a chttpd_auth secret, so no session of one holds on "
        "another"
    }


def test_a_lone_coordinator_needs_no_secret_to_be_finished() -> None:
    alone = node(0, identity=Identity(Hash("a"), "u", None))
    assert kinds(decide(topology(1), view(alone), Scope.SET)) == ["finish_cluster couchdb-0"]


def test_a_disabled_node_is_enabled_while_others_are_not_seen_yet() -> None:
    seen = view(node(0, state=SetupState.DISABLED), down(1))
    assert kinds(decide(topology(2), seen, Scope.SET)) == ["enable_node couchdb-0"]


def test_what_keeps_members_apart_is_said_of_the_one_that_is_missed() -> None:
    everybody = names(0, 1, 2)
    cut = finished(2, 0, 1, connected=names(2), unconnected_because="its ports answer")
    others = [finished(n, *({0, 1, 2} - {n}), connected=names(0, 1)) for n in range(2)]
    assert waits(decide(topology(), view(*others, cut), Scope.SET)) == {
        "couchdb-2": "to be connected to couchdb-0 (its ports answer)",
        "couchdb-0": "to be connected to couchdb-2",
        "couchdb-1": "to be connected to couchdb-2",
    }
    half = node(2, names(1, 2), connected=everybody)
    full = [node(n, everybody, identity=SAME) for n in range(2)]
    assert waits(decide(topology(), view(*full, half), Scope.SET)) == {
        "couchdb-2": "to list couchdb-0 as a member"
    }
    linked = [
        finished(0, 1, connected=names(0, 1) | {"couchdb@stranger"}),
        finished(1, 0),
    ]
    assert waits(decide(topology(2), view(*linked), Scope.SET)) == {
        "couchdb-0": "to list couchdb@stranger, which is connected to it, or to lose that "
        "connection"
    }


def test_a_connection_to_a_pod_beyond_the_wanted_size_is_no_reason_to_wait() -> None:
    extra = names(0, 1, 2)
    own = [
        replace(each, volume=replace(each.volume or Volume(), uuid=each.name))
        for each in (finished(0, 1, 2), finished(1, 0, 2))
    ]
    seen = view(*own, others={erlang_name(2): Volume(uuid="its own", traces=())})
    assert all(n.all_nodes == extra for n in seen.nodes)
    place = topology(2, beyond=("couchdb-2",))
    assert isinstance(decide(place, seen, Scope.SET), Done)


def test_a_member_that_is_behind_is_waited_for_by_name() -> None:
    both = names(0, 1)
    late = node(1, both, identity=SAME)
    assert waits(decide(topology(2), view(finished(0, 1), late), Scope.SET)) == {
        "couchdb-1": "to report a finished cluster; it is cluster_enabled"
    }
    unread = [finished(0, 1), finished(1, 0, unreadable=("one", "two"))]
    assert waits(decide(topology(2), view(*unread), Scope.SET)) == {"couchdb-1": "to open one, two"}


def test_a_database_is_made_by_its_name_and_for_a_reason() -> None:
    lacking = [finished(0, 1, unreadable=("one",)), finished(1, 0, unreadable=("one",))]
    decision = decide(topology(2), view(*lacking), Scope.SET)
    assert isinstance(decision, Do)
    (step,) = decision.steps
    assert step == EnsureDatabase("couchdb-0", "one")
    assert step.why == "it was asked for with --ensure-db and does not exist"
    there = [replace(each, databases=frozenset({"one"})) for each in lacking]
    assert waits(decide(topology(2), view(*there), Scope.SET)) == {
        "couchdb-0": "to open one",
        "couchdb-1": "to open one",
    }


def test_addresses_stand_for_silent_pods_only_one_each() -> None:
    members = frozenset({erlang_name(0), "couchdb@10.0.0.8", "couchdb@10.0.0.9"})
    seen = view(node(0, members), down(1))
    membership = groups(seen, 2)
    assert membership.pods_in(members) == {
        "couchdb-0": erlang_name(0),
        "couchdb-1": "couchdb@10.0.0.8",
    }
    assert membership.unexpected_in(members) == ("couchdb@10.0.0.9",)


def test_a_listed_node_that_lost_its_members_is_added_again_with_what_it_holds_of_theirs() -> None:
    kept = holding("orders", suffix=".5")
    members = [finished(n, *({0, 1, 2} - {n}), connected=names(0, 1), volume=kept) for n in (0, 1)]
    seen = view(*members, node(2, volume=kept))
    assert kinds(decide(topology(), seen, Scope.SET)) == ["add_node couchdb-2"]
    other = view(*members, node(2, volume=holding("orders", suffix=".6")))
    reason = refused(decide(topology(), other, Scope.SET), Unsafe)
    assert "couchdb-2 is no member and holds databases of its own (orders)" in reason


def test_a_set_that_is_scaled_to_nothing_is_done() -> None:
    place = replace(topology(3), expected=())
    assert decide(place, view(), Scope.SET, Policy()) == Done()
    assert Membership.of(place, view()).coordinator is None


def test_the_coordinator_is_the_cluster_s_and_nobody_s_where_there_are_two() -> None:
    assert groups(view(node(0), finished(1, 2), finished(2, 1))).coordinator == "couchdb-1"
    assert groups(view(node(0), node(1), node(2))).coordinator == "couchdb-0"
    assert groups(view(laden(0), laden(1)), 2).coordinator is None


def test_a_rollout_is_waited_for_before_anything_is_repaired() -> None:
    """What it restarts a second later would undo it."""
    other = replace(SAME, uuid="other")
    nodes = cluster_of(SAME, SAME, other)
    prior = names(0, 1, 2)
    place = replace(topology(3), rollout=True)
    decision = decide(place, view(*nodes, prior=prior), Scope.SET, Policy())
    assert waits(decision) == {"": "the rollout of StatefulSet couchdb to end"}
    again = decide(topology(3), view(*nodes, prior=prior), Scope.SET, Policy())
    assert kinds(again) == ["sync_identity couchdb-2"]


def test_a_configuration_that_was_not_read_may_differ_in_anything() -> None:
    nodes = cluster_of(SAME, None, SAME)
    nodes[1] = replace(nodes[1], identity=None)
    decision = decide(topology(3), view(*nodes, prior=names(0, 1, 2)), Scope.SET, Policy())
    assert "its configuration" in waits(decision)["couchdb-1"]


def test_a_secret_that_the_environment_sets_is_not_overwritten_and_told() -> None:
    nodes = [
        replace(each, version="3.4.3")
        for each in cluster_of(SAME, SAME, replace(SAME, secret="rotated"))
    ]
    nodes = [
        replace(each, sessions=frozenset({each.pod})) for each in nodes
    ]  # nobody accepts another's
    place = replace(topology(3), secret_intended=True)
    decision = decide(place, view(*nodes, prior=names(0, 1, 2)), Scope.SET, Policy())
    reason = refused(decision, NotSo)
    assert "`kubectl rollout restart statefulset/couchdb`" in reason
    assert "COUCHDB_SECRET" in reason


def test_at_the_end_an_address_that_stays_another_pod_s_is_two_of_one_name() -> None:
    reason = AnotherPodsAddress(ADDRESS, erlang_name(0))
    seen = view(node(0), Unreachable("couchdb-1", reason))
    decision = decide(topology(2), seen, Scope.SET, Policy())
    assert isinstance(decision, Wait)
    assert decision.at_the_end is not None
    told = refused(decision.at_the_end, Unsafe)
    assert f"couchdb-1 has the Erlang name {erlang_name(0)}, which is another pod's" in told


def test_a_couchdb_that_is_too_old_is_refused_with_the_version_it_takes() -> None:
    for own, scope in ((None, Scope.SET), (0, Scope.POD)):
        seen = view(TooOld("couchdb-0", "2.3.1"), node(1))
        reason = refused(decide(topology(2, own=own), seen, scope, Policy()), UsageProblem)
        assert reason.startswith("couchdb-0 runs CouchDB 2.3.1; ")
        assert "3.3 or newer is needed" in reason


@pytest.mark.parametrize(
    ("age", "told"),
    [(60.0, None), (4000.0, "an hour"), (3 * 3600.0, "3 hours"), (40 * 86400.0, "40 days")],
)
def test_a_cluster_that_is_born_twice_is_told(age: float, told: str | None) -> None:
    both = [node(n, names(0, 1), identity=SAME, uptime=60.0) for n in range(2)]
    place = replace(topology(2), age=age)
    decision = decide(place, view(*both), Scope.SET, Policy())
    assert kinds(decision) == ["finish_cluster couchdb-0"]
    assert isinstance(decision, Do)
    warned = [warning for warning in decision.warnings if "new, empty cluster" in warning]
    assert len(warned) == (0 if told is None else 1)
    assert told is None or f"couchdb is {told} old" in warned[0]


@pytest.mark.parametrize("uptime", [None, 49.0])
def test_in_an_old_set_fresh_nodes_are_given_the_time_to_be_found(uptime: float | None) -> None:
    """By members of another StatefulSet, which list one of them and connect again within 46 s."""
    both = [node(n, names(0, 1), identity=SAME, uptime=uptime) for n in range(2)]
    place = replace(topology(2), age=40 * 86400.0)
    found = waits(decide(place, view(*both), Scope.SET, Policy()))
    assert "to have been up for 50 s: StatefulSet couchdb is 40 days old" in found["couchdb-0"]
    laden = [replace(both[0], volume=holding("orders", on=names(0))), both[1]]
    assert isinstance(decide(place, view(*laden), Scope.SET, Policy()), Do)


@pytest.mark.parametrize(("scope", "own"), [(Scope.SET, None), (Scope.POD, 0)])
def test_a_node_that_a_stranger_is_connected_to_forms_no_cluster(
    scope: Scope, own: int | None
) -> None:
    """Whoever connects lists it: it belongs to a cluster that it does not know of yet."""
    other = "couchdb@zone-b-0.zone-b.db.svc.cluster.local"
    alone = node(0, names(0), connected=names(0) | {other}, identity=SAME)
    decision = decide(topology(1, own=own), view(alone), scope, Policy())
    assert isinstance(decision, Wait)
    (told,) = map(str, decision.reasons.values())
    assert other in told
    if own is not None:  # a pod must be able to start, and does so unfinished
        assert isinstance(decision.at_the_end, Done)
        assert "no cluster is formed" in decision.at_the_end.warnings[0]


@pytest.mark.parametrize(("scope", "own"), [(Scope.SET, None), (Scope.POD, 0)])
def test_a_single_node_that_is_born_twice_is_told(scope: Scope, own: int | None) -> None:
    place = replace(topology(1, own=own), age=40 * 86400.0)
    alone = node(0, state=SetupState.SINGLE_DISABLED)
    decision = decide(place, view(alone), scope, Policy())
    assert kinds(decision) == ["enable_single_node couchdb-0"]
    assert isinstance(decision, Do)
    assert any("couchdb is 40 days old" in warning for warning in decision.warnings)
    laden = replace(alone, volume=Volume(frozenset({ShardFile("orders", "0-f", ".1")})))
    decision = decide(place, view(laden), scope, Policy())
    assert isinstance(decision, Do)
    assert not any("new, empty cluster" in warning for warning in decision.warnings)


def test_a_single_node_that_is_named_by_an_address() -> None:
    named = node(0, name="couchdb@10.0.0.1", state=SetupState.SINGLE_DISABLED)
    decision = decide(topology(1), view(named), Scope.SET, Policy())
    assert isinstance(decision, Do)
    (told,) = decision.warnings
    assert "named by the pod's IP address" in told
    assert "NODENAME" in told


def test_hashes_of_other_schemes_are_left_and_the_versions_named() -> None:
    """A node of 3.3 takes a hash of 3.5's for a plain password, and locks the administrator out."""
    new = replace(SAME, admin=Hash("new", "pbkdf2:sha256-600000"))
    old = replace(SAME, admin=Hash("old", "pbkdf2-10"))
    nodes = [
        replace(each, version=version)
        for each, version in zip(
            cluster_of(new, new, old), ("3.5.2", "3.5.2", "3.3.3"), strict=True
        )
    ]
    decision = decide(topology(3), view(*nodes, prior=names(0, 1, 2)), Scope.SET, Policy())
    warnings = getattr(decision, "warnings", ())
    (told,) = [warning for warning in warnings if "password hashes" in warning]
    assert told.startswith("couchdb-2 keep their own password hashes")
    assert "CouchDB 3.3.3, 3.5.2" in told


def test_of_values_without_a_majority_it_is_said_why_one_was_taken() -> None:
    one, other = replace(SAME, uuid="one"), replace(SAME, uuid="other")
    told = {}
    for name, uptimes in {"longest": (100.0, 5000.0), "tied": (100.0, 103.0)}.items():
        nodes = cluster_of(one, other, uptimes=uptimes)
        decision = decide(topology(2), view(*nodes, prior=names(0, 1)), Scope.SET, Policy())
        assert isinstance(decision, Do)
        (told[name],) = [w for w in decision.warnings if "no majority" in w]
    assert "taken from couchdb-1, which has been up the longest" in told["longest"]
    assert "from couchdb-0, the lowest ordinal of those that are up about as long" in told["tied"]


@pytest.mark.parametrize(
    ("leader", "missing"),
    [
        (node(0, volume=None), "what it holds"),
        (node(0, names(0, 1), databases=None), "whether it was finished once"),
    ],
)
def test_existing_waits_for_what_is_not_known_and_forms_nothing(
    leader: NodeView, missing: str
) -> None:
    other = node(1) if leader.alone else node(1, names(0, 1), databases=None)
    policy = Policy(existing_only=True)
    told = waits(decide(topology(2), view(leader, other), Scope.SET, policy))
    assert missing in told["couchdb-0"]


def test_existing_refuses_where_every_node_is_known_to_be_in_no_cluster() -> None:
    policy = Policy(existing_only=True)
    for seen in (view(node(0), node(1)), view(*(node(n, names(0, 1)) for n in range(2)))):
        reason = refused(decide(topology(2), seen, Scope.SET, policy), Unsafe)
        assert "forms no new one" in reason
