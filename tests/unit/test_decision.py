"""The decision, over tables of situations and over any view that hypothesis thinks of."""

from dataclasses import replace

import pytest
from hypothesis import given, note, settings
from hypothesis import strategies as st

from couchdiscover.decide.decision import Policy, decide
from couchdiscover.decide.identity import drift, needs_uptime
from couchdiscover.decide.membership import Membership
from couchdiscover.decide.simulation import after, simulate
from couchdiscover.errors import CouchdiscoverError, Denied, NotSo, Unsafe
from couchdiscover.state.nodes import (
    SYSTEM_DATABASES,
    ClusterView,
    Hash,
    Identity,
    LoginRefused,
    NodeView,
    SetupState,
    Unreachable,
)
from couchdiscover.state.reasons import Silent
from couchdiscover.state.steps import (
    AddNode,
    Decision,
    Do,
    Done,
    EnsureDatabase,
    FinishCluster,
    Refuse,
    SetSecret,
    Step,
    SyncIdentity,
    Wait,
)
from couchdiscover.state.topology import Address, Pod, Scope, Topology
from couchdiscover.state.volumes import Mark, ShardFile, ShardMap, Volume

DOMAIN = "couchdb.db.svc.cluster.local"
SAME = Identity(Hash("admin"), "uuid", "secret")


def erlang_name(ordinal: int) -> str:
    return f"couchdb@couchdb-{ordinal}.{DOMAIN}"


ADDRESS = Address("10.0.0.9", 5984)


def names(*ordinals: int) -> frozenset[str]:
    return frozenset(erlang_name(ordinal) for ordinal in ordinals)


def topology(size: int = 3, own: int | None = None, beyond: tuple[str, ...] = ()) -> Topology:
    pods = tuple(
        Pod(f"couchdb-{n}", n, f"couchdb-{n}.{DOMAIN}", (Address(f"10.0.0.{n + 1}", 5984),))
        for n in range(size)
    )
    name = None if own is None else f"couchdb-{own}"
    return Topology("db", "couchdb", "couchdb", pods, beyond=beyond, own=name)


def node(
    ordinal: int,
    members: frozenset[str] | None = None,
    *,
    state: SetupState = SetupState.ENABLED,
    connected: frozenset[str] | None = None,
    **more: object,
) -> NodeView:
    name = str(more.pop("name", erlang_name(ordinal)))
    members = frozenset({name}) if members is None else members
    view = NodeView(
        f"couchdb-{ordinal}",
        Address(f"10.0.0.{ordinal + 1}", 5984),
        name,
        state,
        members if connected is None else connected,
        members,
    )
    view = replace(view, volume=Volume(files=frozenset(), maps=()))
    if view.finished:
        view = replace(view, identity=SAME)
    view = replace(view, up="ok", databases=frozenset())
    return read(replace(view, **more))  # type: ignore[arg-type]


def read(node: NodeView) -> NodeView:
    """The node with all that a look at its volume brings, as far as it has one."""
    if node.volume is None or node.volume.traces is not None:
        return node
    uuid = f"{node.pod}'s"
    mark = Mark(node.name, uuid, {erlang_name(n): (f"couchdb-{n}'s",) for n in range(6)})
    return replace(node, volume=replace(node.volume, uuid=uuid, traces=(), mark=mark))


def finished(ordinal: int, *others: int, **more: object) -> NodeView:
    return node(ordinal, names(ordinal, *others), state=SetupState.FINISHED, **more)


def laden(ordinal: int, **more: object) -> NodeView:
    """A lone finished node with a database of its own."""
    volume = holding("orders", suffix=f".{ordinal}", on=names(ordinal))
    return finished(ordinal, volume=volume, **more)


def down(ordinal: int) -> Unreachable:
    return Unreachable(f"couchdb-{ordinal}", Silent(ADDRESS, "refuses connections"))


def view(*sights: NodeView | Unreachable | LoginRefused, **more: object) -> ClusterView:
    return ClusterView(tuple(sights), **more)  # type: ignore[arg-type]


def holding(
    *databases: str, filled: bool = True, suffix: str = ".1", on: frozenset[str] = frozenset()
) -> Volume:
    """A volume with a file, and a map, of each database."""
    where = tuple(sorted(on or names(0, 1, 2)))
    return Volume(
        files=frozenset(ShardFile(name, "00000000-ffffffff", suffix) for name in databases),
        maps=tuple(
            ShardMap(name, {"00000000-ffffffff": where}, suffix=suffix) for name in databases
        ),
        filled=frozenset(databases) & SYSTEM_DATABASES if filled else frozenset(),
    )


def refused(decision: Decision, error: type[CouchdiscoverError]) -> str:
    assert isinstance(decision, Refuse), decision
    assert decision.error is error, decision
    return decision.reason


def groups(sights: ClusterView, size: int = 3) -> Membership:
    return Membership.of(topology(size), sights)


def kinds(decision: Decision) -> list[str]:
    assert isinstance(decision, Do), decision
    return [f"{step.kind} {step.pod}" for step in decision.steps]


# --- scope set ---


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
        ahead = simulate(
            place, view(node(0, state=state)), lambda v, s=scope, p=place: decide(p, v, s)
        )
        assert [f"{step.kind} {step.pod}" for step in ahead.steps] == steps
        assert isinstance(ahead.end, Done)


def test_a_whole_cluster_is_left_alone() -> None:
    whole = view(finished(0, 1, 2), finished(1, 0, 2), finished(2, 0, 1), prior=names(0, 1, 2))
    assert decide(topology(), whole, Scope.SET) == Done()


def test_a_wanted_database_is_made_through_the_coordinator() -> None:
    nodes = [finished(n, 1 - n, unreadable=("orders",)) for n in range(2)]
    decision = decide(topology(2), view(*nodes), Scope.SET)
    assert kinds(decision) == ["ensure_db couchdb-0"]


def test_members_left_behind_by_a_scale_down_are_a_persons_work() -> None:
    nodes = [finished(n, 0, 1, 2, connected=names(0, 1)) for n in range(2)]
    decision = decide(topology(2), view(*nodes), Scope.SET)
    assert "couchdb-2" in refused(decision, NotSo)
    assert isinstance(decide(topology(2, own=0), view(*nodes), Scope.POD), Done)
    kept = topology(2, beyond=("couchdb-2",))
    assert isinstance(decide(kept, view(*nodes), Scope.SET), Done)


# --- refusals ---


@pytest.mark.parametrize(
    ("sights", "words"),
    [
        ([laden(0), laden(1), node(2)], "2 clusters"),
        ([finished(0, 1), finished(1, 0), laden(2)], "2 clusters"),
        (
            [node(0), node(1, volume=holding("a")), node(2, volume=holding("b"))],
            "2 clusters",
        ),
        ([node(0, name="nonode@nohost"), node(1), node(2)], "nonode@nohost"),
        ([node(0), node(1, name="couchdb@127.0.0.1"), node(2)], "127.0.0.1"),
        ([node(0), node(1, name=erlang_name(0)), node(2)], "same Erlang name"),
        ([node(0), node(1, state=SetupState.SINGLE_ENABLED), node(2)], "single node"),
        (
            [node(0, names(0, 1) | {"couchdb@couchdb-1"}, connected=names(0, 1)),
             node(1, names(0, 1)), node(2)],
            "no pod of StatefulSet",
        ),
    ],
)  # fmt: skip
def test_refusals(sights: list[NodeView], words: str) -> None:
    assert words in refused(decide(topology(), view(*sights), Scope.SET), Unsafe)


def test_a_node_with_databases_of_its_own_is_not_joined_to_a_cluster() -> None:
    other = node(2, volume=holding("_users"))
    for scope, own in ((Scope.SET, None), (Scope.POD, 2)):
        seen = view(finished(0, 1), finished(1, 0), other)
        assert "2 clusters" in refused(decide(topology(own=own), seen, scope), Unsafe)


def test_blank_system_databases_are_no_hazard_where_the_other_side_has_none() -> None:
    blank = node(1, volume=holding("_users", filled=False))
    cluster = finished(0, volume=holding("_replicator", suffix=".2"))
    assert kinds(decide(topology(2), view(cluster, blank), Scope.SET)) == ["add_node couchdb-1"]
    for filled in (True, False):
        both = replace(cluster, volume=holding("_users", suffix=".2", filled=filled))
        reason = refused(decide(topology(2), view(both, blank), Scope.SET), Unsafe)
        assert "_users each, made apart" in reason
        assert "leave that to couchdiscover" in reason


def test_a_copy_of_the_very_same_database_is_in_nobodys_way() -> None:
    members = [finished(n, 1 - n, volume=holding("orders", suffix=".7")) for n in range(2)]
    back = node(2, names(2, 0), volume=holding("orders", suffix=".7"), overdue=names(1))
    assert kinds(decide(topology(), view(*members, back), Scope.SET)) == ["add_node couchdb-2"]
    other = replace(back, volume=holding("orders", suffix=".8"))
    decision = decide(topology(), view(*members, other), Scope.SET)
    assert waits(decision)["couchdb-2"] == "to have the same shard maps as couchdb-1 of orders"
    assert isinstance(decision, Wait)
    assert isinstance(decision.at_the_end, Refuse), "at the deadline it is unsafe"


def test_nothing_is_joined_on_what_could_not_be_read() -> None:
    cluster = [finished(n, 1 - n) for n in range(2)]
    unread = node(2, volume=None)
    for scope, own in ((Scope.SET, None), (Scope.POD, 2)):
        decision = decide(topology(own=own), view(*cluster, unread), scope)
        assert waits(decision)["couchdb-2"].startswith("to tell what it holds")
    holds = node(2, volume=replace(holding("_users"), filled=None))
    decision = decide(topology(), view(*cluster, holds), Scope.SET)
    assert waits(decision)["couchdb-2"].startswith("to tell what")
    blank = node(2, volume=holding("_users", filled=False))
    silent = [replace(each, volume=None) for each in cluster]
    decision = decide(topology(), view(*silent, blank), Scope.SET)
    assert waits(decision)["couchdb-2"].startswith("to tell what couchdb-0 holds")


def test_a_dead_name_in_common_links_nobody() -> None:
    dead = "couchdb@couchdb-9.elsewhere"
    pair = [
        finished(n, volume=holding("_users", "orders", suffix=f".{n}", on=names(n)))
        for n in range(2)
    ]
    both = [
        replace(each, cluster_nodes=each.cluster_nodes | {dead}, overdue=names(1 - n))
        for n, each in enumerate(pair)
    ]
    for scope, own in ((Scope.SET, None), (Scope.POD, 0), (Scope.POD, 1)):
        assert "2 clusters" in refused(decide(topology(2, own), view(*both), scope), Unsafe)


def test_maps_that_name_only_others_are_no_holding() -> None:
    members = [finished(n, 1 - n) for n in range(2)]
    pushed = Volume(files=frozenset(), maps=holding("orders", on=names(0, 1)).maps)
    back = finished(2, volume=pushed, databases=frozenset({"orders", "_users", "_replicator"}))
    for scope, own in ((Scope.SET, None), (Scope.POD, 2)):
        decision = decide(topology(own=own), view(*members, back), scope)
        assert kinds(decision) == ["add_node couchdb-2"]


def test_refused_credentials_are_told() -> None:
    refusing = LoginRefused("couchdb-1", "couchdb-1 refused the user 'admin'")
    decision = decide(topology(), view(node(0), refusing, node(2)), Scope.SET)
    assert refused(decision, Denied) == "couchdb-1 refused the user 'admin'"


# --- ghosts and silent pods ---


@pytest.mark.parametrize(
    ("member", "unexpected"),
    [
        (erlang_name(2), False),  # silent, and by its host the expected pod
        ("couchdb@couchdb-2.other", False),
        ("couchdb@10.0.0.3", False),  # may be the silent one
        (erlang_name(7), True),
        ("couchdb@couchdb-1.short", True),  # that pod answers, by another name
    ],
)
def test_who_is_unexpected(member: str, unexpected: bool) -> None:
    members = names(0, 1) | {member}
    both = names(0, 1)
    seen = view(node(0, members, connected=both), node(1, members, connected=both), down(2))
    assert (groups(seen).unexpected_in(members) == (member,)) is unexpected
    decision = decide(topology(), seen, Scope.SET)
    assert isinstance(decision, Refuse if unexpected else Wait)


# --- scope pod ---


def unmade(place: Topology, created: int) -> Topology:
    """The same while the controller has made only the first pods, as OrderedReady does."""
    pods = tuple(
        pod if at < created else replace(pod, addresses=()) for at, pod in enumerate(place.expected)
    )
    return replace(place, expected=pods, created_pods=created)


def test_the_lowest_ordinal_is_in_by_itself_where_the_others_do_not_run_yet() -> None:
    seen = view(node(0), down(1), down(2))
    assert isinstance(decide(unmade(topology(own=0), 1), seen, Scope.POD), Done)
    bare = topology(own=0)
    bare = replace(bare, expected=tuple(replace(pod, addresses=()) for pod in bare.expected))
    assert isinstance(decide(bare, seen, Scope.POD), Done), "no address is published for them"
    lost = replace(bare, service_problem="Service couchdb is not there")
    lost = replace(lost, expected=tuple(replace(p, obscure=True) for p in lost.expected))
    waiting = decide(lost, seen, Scope.POD)
    assert isinstance(waiting, Wait)
    assert waiting.at_the_end is None, "nothing is known of the others"


def test_a_fresh_lowest_ordinal_waits_for_pods_that_may_hold_a_cluster() -> None:
    waiting = decide(topology(own=0), view(node(0), down(1), node(2)), Scope.POD)
    assert list(waits(waiting)) == ["couchdb-1"]
    assert isinstance(waiting, Wait)
    assert isinstance(waiting.at_the_end, Done)
    assert "could not see whether others hold a cluster" in waiting.at_the_end.warnings[0]
    refusing = LoginRefused("couchdb-1", "couchdb-1 refused the user")
    decision = decide(topology(own=0), view(node(0), refusing, node(2)), Scope.POD)
    assert refused(decision, Denied) == "couchdb-1 refused the user"


def test_a_later_pod_waits_for_the_coordinator_only() -> None:
    place = unmade(topology(own=1), 2)
    waiting = decide(place, view(down(0), node(1), down(2)), Scope.POD)
    assert isinstance(waiting, Wait)
    assert list(waiting.reasons) == ["couchdb-0"]
    decision = decide(place, view(node(0), node(1), down(2)), Scope.POD)
    assert kinds(decision) == ["add_node couchdb-1"]
    hidden = decide(topology(own=1), view(node(0), node(1), down(2)), Scope.POD)
    assert list(waits(hidden)) == ["couchdb-2"], "it runs, and may be in a cluster"
    found = decide(topology(own=1), view(finished(0, 2), node(1), down(2)), Scope.POD)
    assert kinds(found) == ["add_node couchdb-1"], "which is found"


def test_a_joining_pod_is_in_when_the_coordinator_lists_it_connected() -> None:
    one_sided = view(node(0), node(1, names(0, 1)), down(2), added=frozenset({"couchdb-1"}))
    assert isinstance(decide(topology(own=1), one_sided, Scope.POD), Wait)
    listed = view(node(0, names(0, 1)), node(1, names(0, 1)), down(2))
    assert isinstance(decide(topology(own=1), listed, Scope.POD), Done)
    silent = view(down(0), node(1, names(0, 1)), down(2), added=frozenset({"couchdb-1"}))
    assert isinstance(decide(topology(own=1), silent, Scope.POD), Wait)
    restarted = view(down(0), node(1, names(0, 1)), down(2))
    assert isinstance(decide(topology(own=1), restarted, Scope.POD), Done)


def test_the_last_pod_to_join_finishes_through_the_coordinator() -> None:
    everybody = names(0, 1, 2)
    seen = view(node(0, everybody, identity=SAME), down(1), node(2, everybody))
    decision = decide(topology(own=2), seen, Scope.POD)
    assert kinds(decision) == ["finish_cluster couchdb-0"]


def test_finishing_waits_for_a_member_that_is_not_connected() -> None:
    everybody = names(0, 1, 2)
    coordinator = node(0, everybody, connected=names(0, 2), identity=SAME)
    decision = decide(topology(own=2), view(coordinator, down(1), node(2, everybody)), Scope.POD)
    assert isinstance(decision, Wait)
    assert list(decision.reasons) == ["couchdb-1"]


def test_finishing_is_left_to_one_node_even_where_it_does_not_answer_here() -> None:
    everybody = names(0, 1, 2)
    seen = view(down(0), node(1, everybody, identity=SAME), node(2, everybody, identity=SAME))
    for own in (1, 2):
        decision = decide(topology(own=own), seen, Scope.POD)
        assert isinstance(decision, Wait)
        assert list(decision.reasons) == ["couchdb-0"]


def test_a_finished_pod_waits_for_nobody_and_says_that_it_is_alone() -> None:
    seen = view(down(0), finished(1, 0, 2, connected=names(1)), down(2))
    decision = decide(topology(own=1), seen, Scope.POD)
    assert isinstance(decision, Done)
    assert "connected to no other one" in decision.warnings[0]


def test_a_replaced_pod_joins_the_cluster_that_is_in_sight() -> None:
    decision = decide(topology(own=0), view(node(0), finished(1, 2), down(2)), Scope.POD)
    assert isinstance(decision, Do)
    assert decision.steps[0].details()["to"] == "couchdb-1"


def test_a_peers_refusal_does_not_stop_a_pod_that_is_in() -> None:
    refusing = LoginRefused("couchdb-0", "couchdb-0 refused")
    decision = decide(topology(2, own=1), view(refusing, finished(1, 0)), Scope.POD)
    assert isinstance(decision, Done)
    assert any("couchdb-0 refused" in warning for warning in decision.warnings)
    fresh = decide(topology(2, own=1), view(refusing, node(1)), Scope.POD)
    assert refused(fresh, Denied) == "couchdb-0 refused"


# --- identity ---


def cluster_of(*identities: Identity | None, uptimes: tuple[float, ...] = ()) -> list[NodeView]:
    everybody = range(len(identities))
    return [
        finished(n, *everybody, identity=identity, uptime=uptimes[n] if uptimes else None)
        for n, identity in enumerate(identities)
    ]


def sources(steps: tuple[Step, ...]) -> set[str]:
    return {step.source for step in steps if isinstance(step, SyncIdentity)}


def test_the_majority_gives_its_values_one_by_one() -> None:
    nodes = cluster_of(
        Identity(Hash("a"), "u1", "s"),
        Identity(Hash("a"), "u", "s2"),
        Identity(Hash("a2"), "u", "s2"),
    )
    found = drift(nodes, names(0, 1, 2))
    assert set(found.steps) == {
        SyncIdentity("couchdb-0", "couchdb-1", ("uuid", "secret")),
        SyncIdentity("couchdb-2", "couchdb-0", ("admin",)),
    }
    assert not found.undecided


def test_without_a_majority_the_longest_uptime_wins_and_near_ones_are_a_tie() -> None:
    identities = [Identity(Hash("a"), "u", x) for x in "xyz"]
    for uptimes, source in (((5.0, 100.0, 50.0), "couchdb-1"), ((95.0, 100.0, 1.0), "couchdb-0")):
        nodes = cluster_of(*identities, uptimes=uptimes)
        assert needs_uptime(nodes, names(0, 1, 2))
        found = drift(nodes, names(0, 1, 2))
        assert sources(found.steps) == {source}
        assert found.undecided == ("secret",)


def test_newcomers_have_no_vote_and_a_named_source_outvotes_all() -> None:
    nodes = cluster_of(
        Identity(Hash("a"), "u", "old"),
        Identity(Hash("b"), "v", "new"),
        Identity(Hash("b"), "v", "new"),
    )
    assert sources(drift(nodes, names(0)).steps) == {"couchdb-0"}
    assert sources(drift(nodes, names(0), "couchdb-2").steps) == {"couchdb-2"}


def test_a_missing_value_wins_nothing_and_a_secret_that_nobody_has_is_made() -> None:
    nodes = cluster_of(
        Identity(Hash("a"), None, None),
        Identity(Hash("a"), None, None),
        Identity(Hash("a"), "u", None),
    )
    found = drift(nodes, names(0, 1, 2))
    assert set(found.steps) == {
        SyncIdentity("couchdb-0", "couchdb-2", ("uuid",)),
        SyncIdentity("couchdb-1", "couchdb-2", ("uuid",)),
    }
    assert found.secretless
    ahead = simulate(
        topology(), view(*nodes, prior=names(0, 1, 2)), lambda v: decide(topology(), v, Scope.SET)
    )
    assert [type(step) for step in ahead.steps].count(SetSecret) == 1
    assert isinstance(ahead.end, Done)


def test_in_scope_pod_only_the_own_node_is_repaired() -> None:
    nodes = cluster_of(SAME, replace(SAME, admin=Hash("x")), replace(SAME, secret="y"), SAME, SAME)
    decision = decide(topology(5, own=1), view(*nodes, prior=names(*range(5))), Scope.POD)
    assert isinstance(decision, Do)
    assert decision.steps == (SyncIdentity("couchdb-1", "couchdb-0", ("admin",)),)


def test_without_repair_drift_is_a_warning() -> None:
    nodes = cluster_of(SAME, SAME, replace(SAME, admin=Hash("x")))
    seen = view(*nodes, prior=names(0, 1, 2))
    decision = decide(topology(), seen, Scope.SET, Policy(repair=False))
    assert isinstance(decision, Done)
    assert "couchdb-2" in decision.warnings[0]


# --- members that do not learn of one another ---


def test_a_member_that_never_hears_of_another_is_told_of_it() -> None:
    everybody = names(0, 1, 2)
    deaf = node(2, names(0, 2), connected=everybody)
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


def test_in_scope_pod_the_coordinator_is_told_of_the_own_node() -> None:
    both = names(0, 1)
    own = node(1, both)
    deaf = finished(0, overdue=names(1))
    early = decide(topology(2, own=1), view(replace(deaf, overdue=frozenset()), own), Scope.POD)
    assert waits(early) == {"couchdb-1": "to be listed as a connected member by couchdb-0"}
    decision = decide(topology(2, own=1), view(deaf, own), Scope.POD)
    assert kinds(decision) == ["add_node couchdb-0"]
    assert isinstance(decision, Do)
    assert decision.steps == (AddNode("couchdb-0", "couchdb-1", own.name, introduces=True),)
    others = [finished(0, 1, overdue=names(2)), finished(1, 0, overdue=names(2))]
    newcomer = node(2, names(0, 2), overdue=names(1))
    decision = decide(topology(own=2), view(*others, newcomer), Scope.POD)
    assert kinds(decision) == ["add_node couchdb-2", "add_node couchdb-0"], "both at once"


def test_in_scope_pod_the_own_node_hears_of_all_that_the_coordinator_lists() -> None:
    everybody = names(0, 1, 2)
    lead, other = (node(n, everybody, identity=SAME) for n in range(2))
    own = node(2, names(0, 2), connected=everybody)
    early = decide(topology(own=2), view(lead, other, own), Scope.POD)
    assert waits(early) == {"couchdb-2": "to list couchdb-1 as a member"}
    seen = view(lead, other, replace(own, overdue=names(1)))
    assert kinds(decide(topology(own=2), seen, Scope.POD)) == ["add_node couchdb-2"]
    late = view(lead, replace(other, cluster_nodes=names(0, 1), overdue=names(2)), own)
    assert isinstance(decide(topology(own=2), late, Scope.POD), Wait), "that is the other's to do"
    assert kinds(decide(topology(own=0), late, Scope.POD)) == ["finish_cluster couchdb-0"]


def test_in_scope_pod_a_member_that_nobody_lists_any_more_is_no_success() -> None:
    others = [finished(n, 1 - n, connected=names(0, 1, 2)) for n in range(2)]
    own = finished(2, 0, 1)
    early = decide(topology(own=2), view(*others, own), Scope.POD)
    assert waits(early) == {"couchdb-2": "to be listed as a connected member by couchdb-0"}
    overdue = [replace(each, overdue=names(2)) for each in others]
    decision = decide(topology(own=2), view(*overdue, own), Scope.POD)
    assert kinds(decision) == ["add_node couchdb-0", "add_node couchdb-1"]
    wiped = [node(0), finished(1, 0, 2)]
    assert isinstance(decide(topology(own=2), view(*wiped, own), Scope.POD), Done)


# --- any view ---

STATES = st.sampled_from(list(SetupState))
DATABASES = st.sets(st.sampled_from(["_users", "_replicator", "_global_changes", "orders"]))


@st.composite
def identities(draw: st.DrawFn) -> Identity:
    value = st.sampled_from(["a", "b", None])
    admin = draw(value)
    return Identity(Hash(admin) if admin else None, draw(value), draw(value))


@st.composite
def situations(draw: st.DrawFn) -> tuple[Topology, ClusterView, Scope]:
    size = draw(st.integers(1, 5))
    scope = draw(st.sampled_from(Scope))
    own = draw(st.integers(0, size - 1)) if scope is Scope.POD else None
    everybody = [*(erlang_name(n) for n in range(size)), erlang_name(9)]
    normal = draw(st.booleans())  # mostly sane sets, or else the refusals hide everything
    sights: list[NodeView | Unreachable | LoginRefused] = []
    for n in range(size):
        fate = draw(st.sampled_from(["up", "up", "up", "up", "down", "refused"]))
        if fate == "down":
            sights.append(down(n))
            continue
        if fate == "refused":
            sights.append(LoginRefused(f"couchdb-{n}", "refused"))
            continue
        pool = everybody[:size] if normal else everybody
        members = frozenset(draw(st.sets(st.sampled_from(pool)))) | names(n)
        if normal and draw(st.booleans()):
            members = frozenset(everybody[:size]) if draw(st.booleans()) else names(n)
        connected = frozenset(draw(st.sets(st.sampled_from(pool)))) | names(n)
        if draw(st.booleans()):
            connected = members
        state = draw(
            st.sampled_from([SetupState.ENABLED, SetupState.FINISHED]) if normal else STATES
        )
        seen = node(n, members, state=state, connected=connected, identity=draw(identities()))
        if draw(st.booleans()):
            late = frozenset(draw(st.sets(st.sampled_from(everybody)))) - members
            seen = replace(seen, overdue=late)
        if seen.alone:
            databases = frozenset() if normal else frozenset(draw(DATABASES))
            filled = databases & frozenset(draw(DATABASES))
            laid = holding(*databases, suffix=f".{n}")
            volume = replace(laid, filled=filled & SYSTEM_DATABASES)
            seen = read(replace(seen, volume=volume))
        if not normal and draw(st.booleans()):
            unread = draw(st.sampled_from(["files", "maps", "filled", "traces", "uuid", "mark"]))
            seen = replace(seen, volume=replace(seen.volume or Volume(), **{unread: None}))
        sights.append(seen)
    voters = frozenset(name for name in everybody[:size] if draw(st.booleans()))
    place = topology(size, own)
    if draw(st.booleans()):
        place = unmade(place, draw(st.integers(0, size)))
    return place, view(*sights, prior=voters), scope


def own_data(node: NodeView) -> frozenset[tuple[str, str]]:
    """The databases in a node's files, by name and suffix, that something could be lost of."""
    volume = node.volume or Volume()
    filled = volume.filled or frozenset()
    return frozenset(
        (file.database, file.suffix)
        for file in volume.files or ()
        if file.database not in SYSTEM_DATABASES or file.database in filled
    )


def made_apart(one: NodeView, other: NodeView) -> set[str]:
    """Databases that both have by their maps, and that are not one and the same."""
    maps = [
        {each.database: each.suffix for each in (node.volume and node.volume.maps) or ()}
        for node in (one, other)
    ]
    return {name for name in maps[0].keys() & maps[1].keys() if maps[0][name] != maps[1][name]}


@settings(max_examples=600, deadline=None)
@given(situations())
def test_from_any_view_the_decision_is_lawful_and_comes_to_an_end(
    situation: tuple[Topology, ClusterView, Scope],
) -> None:
    place, seen, scope = situation
    finished_through: set[str] = set()
    rounds = 0
    while isinstance(decision := decide(place, seen, scope), Do):
        note(f"{decision}")
        rounds += 1
        assert rounds <= 6, "never comes to an end"
        membership = Membership.of(place, seen)
        answering = {n.pod: n for n in seen.nodes}
        by_name = {n.name: n for n in seen.nodes}
        for step in decision.steps:
            assert step.pod in answering, "a write to a silent node"
            match step:
                case AddNode(pod=pod, to=to, member=member):
                    joining, lead = answering[pod], by_name[member]
                    lone = len(membership.group_of(joining).names) == 1
                    assert lone or joining.alone or lead.name in joining.overdue
                    assert lead.name not in joining.cluster_nodes
                    assert pod != to == lead.pod
                    linked = lead in membership.group_of(joining).nodes
                    assert linked or not (own_data(joining) - own_data(lead))
                    assert not made_apart(joining, lead)
                    assert len(membership.clusters) <= 1 or scope is Scope.POD
                case FinishCluster(pod=pod):
                    finished_through.add(pod)
                    lead = answering[pod]
                    inside = membership.pods_in(lead.cluster_nodes)
                    assert {pod.name for pod in place.expected} <= inside.keys()
                    assert lead.cluster_nodes <= lead.all_nodes | names(9)
                    assert not set(membership.left_behind) & lead.cluster_nodes
                    fellows = [n for n in seen.nodes if n.name in lead.cluster_nodes]
                    assert not any(n.was_finished for n in fellows)
                case SyncIdentity(pod=pod, source=source):
                    assert source in answering
                    assert scope is Scope.SET or pod == place.own
            if scope is Scope.POD and not isinstance(step, FinishCluster):
                of_own = isinstance(step, AddNode) and step.to == place.own
                assert step.pod == place.own or of_own or isinstance(step, SetSecret)
        seen = after(place, seen, decision.steps)
    assert len(finished_through) <= 1, "finished through two nodes"
    if isinstance(decision, Wait):
        assert decision.reasons
        assert all(decision.reasons.values())
    if isinstance(decision, Done) and scope is Scope.SET:
        everybody = {n.name for n in seen.nodes}
        assert len(everybody) == len(place.expected)
        for each in seen.nodes:
            assert each.finished
            assert everybody <= each.cluster_nodes
            assert everybody <= each.all_nodes
    assert decide(place, seen, scope) == decision, "the same view, another decision"


# --- the words: what an operator reads, and where a mistake in the decision would show first ---


def waits(decision: Decision) -> dict[str, str]:
    assert isinstance(decision, Wait), decision
    return {pod: str(reason) for pod, reason in decision.reasons.items()}


def whys(decision: Decision) -> dict[str, str]:
    assert isinstance(decision, Do), decision
    return {f"{step.kind} {step.pod}": step.why for step in decision.steps}


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
        "couchdb-0": "to lose its connection to couchdb@stranger, which is no member"
    }


def test_a_connection_to_a_pod_beyond_the_wanted_size_is_no_reason_to_wait() -> None:
    extra = names(0, 1, 2)
    seen = view(finished(0, 1, 2), finished(1, 0, 2))
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


def test_a_named_source_gives_its_values_in_either_scope() -> None:
    odd = Identity(Hash("other"), "uuid", "secret")
    nodes = [finished(n, *({0, 1, 2} - {n})) for n in range(2)] + [finished(2, 0, 1, identity=odd)]
    seen = view(*nodes, prior=names(0, 1, 2))
    policy = Policy(repair_from="couchdb-2")
    taken = decide(topology(), seen, Scope.SET, policy)
    assert kinds(taken) == ["sync_identity couchdb-0", "sync_identity couchdb-1"]
    assert kinds(decide(topology(own=1), seen, Scope.POD, policy)) == ["sync_identity couchdb-1"]
    assert isinstance(decide(topology(own=2), seen, Scope.POD, policy), Done)


def test_warnings_come_with_repairs_and_with_what_is_left() -> None:
    drifting = [
        finished(0, 1, uptime=100.0),
        finished(1, 0, identity=Identity(Hash("x"), "y", "z")),
    ]
    seen = view(*drifting, prior=names(0, 1))
    for scope, place in ((Scope.SET, topology(2)), (Scope.POD, topology(2, own=1))):
        decision = decide(place, seen, scope)
        assert isinstance(decision, Do), decision
        assert "no majority of the nodes agrees on admin, uuid, secret" in decision.warnings[0]
        assert "CouchDB writes a chttpd_auth secret" in decision.warnings[1]
        assert "taken from couchdb-0, which has been up the longest" in decision.warnings[0]
    grown = [finished(n, 1 - n, 9, connected=names(0, 1)) for n in range(2)]
    left = decide(topology(2), view(*grown, without_shards=frozenset({"couchdb-1"})), Scope.SET)
    assert refused(left, NotSo)
    assert isinstance(left, Refuse)
    assert len(left.warnings) == 1
    assert "have no shards on couchdb-1 yet" in left.warnings[0]


# --- scope pod, in its words ---


def test_a_pod_says_what_it_waits_for() -> None:
    assert waits(decide(topology(2, own=1), view(node(0), down(1)), Scope.POD)) == {
        "couchdb-1": str(down(1).reason)
    }
    both = names(0, 1)
    unlisted = view(
        node(0, names(0)), node(1, both, connected=names(1), unconnected_because="deaf")
    )
    assert waits(decide(topology(2, own=1), unlisted, Scope.POD)) == {
        "couchdb-1": "to be listed as a connected member by couchdb-0 (deaf)"
    }
    alone = view(down(0), node(1, both), added=frozenset({"couchdb-1"}))
    assert waits(decide(topology(2, own=1), alone, Scope.POD)) == {
        "couchdb-1": "to be listed as a connected member by another member"
    }
    behind = view(finished(0, 1), node(1, both))
    assert waits(decide(topology(2, own=1), behind, Scope.POD)) == {
        "couchdb-1": "to report what couchdb-0 does: a finished cluster"
    }
    others_first = view(node(0, names(0, 1, 2)), node(1, names(0, 1, 2)), finished(2, 0, 1))
    assert waits(decide(topology(3, own=1), others_first, Scope.POD)) == {
        "couchdb-1": "to report a finished cluster, as other members do"
    }


def test_a_pod_that_is_down_at_the_coordinator_is_named_with_its_cause() -> None:
    everybody = names(0, 1, 2)
    seen = view(
        node(0, everybody, connected=names(0, 1)),
        node(1, everybody),
        node(2, everybody, unconnected_because="deaf"),
    )
    assert waits(decide(topology(3, own=1), seen, Scope.POD)) == {
        "couchdb-2": "to be connected to couchdb-0 (deaf)"
    }


def test_ghosts_keep_a_pod_from_finishing() -> None:
    listed = names(0, 1) | {"couchdb@elsewhere"}
    both = names(0, 1)
    seen = view(node(0, listed, connected=both), node(1, listed, connected=both))
    decision = decide(topology(2, own=1), seen, Scope.POD)
    reason = refused(decision, Unsafe)
    assert reason.startswith("couchdb@elsewhere is listed as a member")
    assert "no pod of StatefulSet couchdb" in reason


def test_a_pods_own_name_is_its_concern_and_a_peers_is_not() -> None:
    own = node(1, name="nonode@nohost")
    blocked = decide(topology(2, own=1), view(node(0), own), Scope.POD)
    assert refused(blocked, Unsafe).startswith("couchdb-1's Erlang name is nonode@nohost")
    peer = node(0, name="nonode@nohost")
    assert isinstance(decide(topology(2, own=1), view(peer, laden(1)), Scope.POD), Done)


def test_a_single_configured_coordinator_is_not_joined() -> None:
    lead = node(0, state=SetupState.SINGLE_DISABLED)
    decision = decide(topology(2, own=1), view(lead, node(1)), Scope.POD)
    reason = refused(decision, Unsafe)
    assert "couchdb-0 configured as a single node" in reason
    assert "among 2 that are to be one cluster" in reason


def test_a_pod_does_not_choose_between_two_clusters() -> None:
    split = view(laden(0), laden(1), node(2))
    reason = refused(decide(topology(3, own=2), split, Scope.POD), Unsafe)
    assert "{couchdb-0} (which holds orders) and {couchdb-1} (which holds orders)" in reason
    filled = node(2, volume=holding("orders"))
    own = decide(topology(3, own=2), view(finished(0, 1), finished(1, 0), filled), Scope.POD)
    assert "{couchdb-2} (which holds orders) and {couchdb-0, couchdb-1}" in refused(own, Unsafe)


def test_the_side_with_the_majority_goes_on_and_the_other_does_not() -> None:
    seen = view(finished(0, 1), finished(1, 0), laden(2))
    decision = decide(topology(3, own=1), seen, Scope.POD)
    assert isinstance(decision, Done)
    assert "2 clusters" in decision.warnings[0]
    assert "2 clusters" in refused(decide(topology(3, own=2), seen, Scope.POD), Unsafe)


def test_a_pod_that_is_in_tells_of_members_that_are_nobody_and_of_being_alone() -> None:
    both = names(0, 1)
    grown = [finished(n, 1 - n, 9, connected=both) for n in range(2)]
    left = decide(topology(2, own=1), view(*grown), Scope.POD)
    assert isinstance(left, Done)
    assert [warning.split(" is still")[0] for warning in left.warnings] == [erlang_name(9)]
    alone = view(down(0), finished(1, 0, connected=names(1)))
    told = decide(topology(2, own=1), alone, Scope.POD)
    assert isinstance(told, Done)
    assert told.warnings[0].startswith("couchdb-1 is a member but connected to no other one")


def test_members_that_are_alive_elsewhere_are_told_of_and_left_alone() -> None:
    other = "couchdb@couchdb-b-0.couchdb.db.svc.cluster.local"
    for state in (SetupState.FINISHED, SetupState.ENABLED):
        everybody = names(0, 1) | {other}
        nodes = [node(n, everybody, state=state, identity=SAME) for n in range(2)]
        decision = decide(topology(2), view(*nodes), Scope.SET)
        assert isinstance(decision, Done if state is SetupState.FINISHED else Do), decision
        assert any("left as it is" in warning for warning in decision.warnings)
        assert not any("delete" in warning for warning in decision.warnings)


def test_a_refusing_coordinator_is_told_in_its_own_words() -> None:
    lead = LoginRefused("couchdb-0", "couchdb-0 refused the user")
    decision = decide(topology(2, own=1), view(lead, node(1)), Scope.POD)
    assert refused(decision, Denied) == "couchdb-0 refused the user"
    own = LoginRefused("couchdb-1", "couchdb-1 refused the user")
    decision = decide(topology(2, own=1), view(node(0), own), Scope.POD)
    assert refused(decision, Denied) == own.reason


def test_addresses_stand_for_silent_pods_only_one_each() -> None:
    members = frozenset({erlang_name(0), "couchdb@10.0.0.8", "couchdb@10.0.0.9"})
    seen = view(node(0, members), down(1))
    membership = groups(seen, 2)
    assert membership.pods_in(members) == {
        "couchdb-0": erlang_name(0),
        "couchdb-1": "couchdb@10.0.0.8",
    }
    assert membership.unexpected_in(members) == ("couchdb@10.0.0.9",)


def test_the_coordinator_is_one_that_others_list() -> None:
    one_sided = view(node(0, names(0, 1)), node(1, names(1)))
    assert groups(one_sided).clusters[0].coordinator.pod == "couchdb-1"
    pair = view(node(0, names(0, 2)), node(1, names(1, 2)), node(2, names(1, 2)))
    assert groups(pair).clusters[0].coordinator.pod == "couchdb-1"


def test_a_listed_node_that_lost_its_members_is_added_again_with_what_it_holds_of_theirs() -> None:
    kept = holding("orders", suffix=".5")
    members = [finished(n, *({0, 1, 2} - {n}), connected=names(0, 1), volume=kept) for n in (0, 1)]
    seen = view(*members, node(2, volume=kept))
    assert kinds(decide(topology(), seen, Scope.SET)) == ["add_node couchdb-2"]
    other = view(*members, node(2, volume=holding("orders", suffix=".6")))
    reason = refused(decide(topology(), other, Scope.SET), Unsafe)
    assert "couchdb-2 is no member and holds databases of its own (orders)" in reason


def test_a_listed_pod_that_lists_nobody_joins_the_coordinator() -> None:
    listing = [node(n, names(0, 1, 2)) for n in range(2)]
    decision = decide(topology(3, own=2), view(*listing, node(2)), Scope.POD)
    assert isinstance(decision, Do)
    assert decision.steps == (AddNode("couchdb-2", "couchdb-0", erlang_name(0)),)


def test_to_be_listed_without_a_connection_is_not_enough() -> None:
    both = names(0, 1)
    seen = view(node(0, both, connected=names(0)), node(1, both, connected=names(1)))
    assert waits(decide(topology(2, own=1), seen, Scope.POD)) == {
        "couchdb-1": "to be listed as a connected member by couchdb-0"
    }


def test_a_pod_that_is_in_while_others_are_missing_has_nothing_to_warn_of() -> None:
    both = names(0, 1)
    decision = decide(topology(3, own=1), view(node(0, both), node(1, both), down(2)), Scope.POD)
    assert decision == Done(())


def test_a_pod_makes_a_secret_where_nobody_has_one() -> None:
    lacking = [finished(n, 1 - n, identity=Identity(Hash("a"), "u", None)) for n in range(2)]
    seen = view(*lacking, prior=names(0, 1))
    assert kinds(decide(topology(2, own=1), seen, Scope.POD)) == ["set_secret couchdb-1"]


def test_a_loopback_name_is_a_hazard_among_several_only() -> None:
    lone = node(0, name="couchdb@127.0.0.1")
    decision = decide(topology(1), view(lone), Scope.SET)
    assert kinds(decision) == ["finish_cluster couchdb-0"]
    assert any("cannot grow as it is" in warning for warning in getattr(decision, "warnings", ()))
    several = refused(decide(topology(2), view(lone, node(1)), Scope.SET), Unsafe)
    assert "couchdb-0's Erlang name is couchdb@127.0.0.1" in several


def test_names_without_a_dot_are_refused_and_addresses_are_told_of() -> None:
    short = [node(n, name=f"couchdb@couchdb-{n}") for n in range(2)]
    reason = refused(decide(topology(2), view(*short), Scope.SET), Unsafe)
    assert "no long names whose host has no dot" in reason
    everybody = frozenset(each.name for each in short)
    connected = [
        replace(each, all_nodes=everybody, cluster_nodes=everybody, identity=SAME) for each in short
    ]
    assert isinstance(decide(topology(2), view(*connected), Scope.SET), Do), "short names (-sname)"
    numbered = [node(n, name=f"couchdb@10.0.0.{n + 1}") for n in range(2)]
    decision = decide(topology(2), view(*numbered), Scope.SET)
    assert kinds(decision) == ["add_node couchdb-1"]
    assert isinstance(decision, Do)
    assert "named by the pod's IP address" in decision.warnings[0]


def test_all_who_refuse_are_named_and_databases_up_to_five() -> None:
    refusing = [LoginRefused(f"couchdb-{n}", f"couchdb-{n} refused the user") for n in range(3)]
    assert refused(decide(topology(), view(*refusing), Scope.SET), Denied) == (
        "couchdb-0 refused the user; so did couchdb-1, couchdb-2"
    )
    for count, shown in ((5, "(which holds a, b, c, d, e)"), (6, "d, e and 1 more)")):
        own = node(2, volume=holding(*"abcdef"[:count]))
        joined = [finished(0, 1), finished(1, 0)]
        assert shown in refused(decide(topology(), view(*joined, own), Scope.SET), Unsafe)


def test_a_repair_names_where_the_values_come_from() -> None:
    odd = finished(2, 0, 1, identity=Identity(Hash("x"), "uuid", "secret"))
    nodes = [finished(n, *({0, 1, 2} - {n})) for n in range(2)] + [odd]
    steps = drift(nodes, names(0, 1, 2)).steps
    assert steps == (SyncIdentity("couchdb-2", "couchdb-0", ("admin",)),)
    assert steps[0].why == "sessions and replications need the same values on every node"
    agreeing = [finished(0, 1), finished(1, 0, identity=Identity(None, "uuid", "secret"))]
    assert not needs_uptime([finished(0, 1), finished(1, 0)], [])
    assert drift(agreeing, names(1)).steps == ()


def test_a_repair_by_majority_is_nothing_to_warn_of() -> None:
    odd = finished(2, 0, 1, identity=Identity(Hash("x"), "uuid", "secret"))
    nodes = [finished(n, *({0, 1, 2} - {n})) for n in range(2)] + [odd]
    decision = decide(topology(), view(*nodes, prior=names(0, 1, 2)), Scope.SET)
    assert isinstance(decision, Do)
    assert decision.warnings == ()
