"""Whose values are taken where identities differ."""

from dataclasses import replace

import pytest

from couchdiscover.decide.decision import Policy, decide
from couchdiscover.decide.identity import Drift, drift, needs_sessions, needs_uptime, weak_hash_note
from couchdiscover.decide.simulation import simulate
from couchdiscover.errors import NotSo
from couchdiscover.state.nodes import (
    Hash,
    Identity,
    NodeDetails,
    NodeView,
)
from couchdiscover.state.steps import (
    AnnounceSecret,
    Do,
    Done,
    Refuse,
    SetSecret,
    SyncIdentity,
)
from couchdiscover.state.topology import Scope
from tests.support.decisions import (
    SAME,
    cluster_of,
    finished,
    kinds,
    names,
    refused,
    sources,
    topology,
    view,
)


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


def test_where_all_get_an_old_hash_it_is_said() -> None:
    old, new = (replace(finished(n, 1 - n), version=v) for n, v in enumerate(("3.3.3", "3.5.2")))
    told = weak_hash_note([old, new], old)
    assert told is not None
    assert "hash of couchdb-0 (CouchDB 3.3.3)" in told
    assert "weaker than couchdb-1 would make it" in told
    unnamed = replace(old, version=None, identity=Identity(Hash("a", "pbkdf2,10"), "u", "s"))
    told = weak_hash_note([unnamed, new], unnamed)
    assert told is not None
    assert "hash of couchdb-0, the only kind" in told
    assert weak_hash_note([old, replace(new, version="3.3.3")], old) is None
    assert weak_hash_note([new], new) is None


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


def test_new_databases_go_by_placement_where_there_is_one() -> None:
    zoned = [
        finished(n, 1 - n, details=NodeDetails(f"couchdb-{n}", placement="a:1,b:1"))
        for n in range(2)
    ]
    seen = view(*zoned, prior=names(0, 1), without_shards=frozenset({"couchdb-1"}))
    decision = decide(topology(2), seen, Scope.SET)
    (told,) = [w for w in getattr(decision, "warnings", ()) if "no shards" in w]
    assert "new ones go by [cluster] placement (a:1,b:1)" in told
    assert "new ones will" not in told


@pytest.mark.parametrize(
    ("zone", "words"),
    [
        ("b", "new ones go by [cluster] placement (a:1,b:1)"),
        (
            "c",
            "nor will new ones: couchdb-1 is in no zone that [cluster] placement (a:1",
        ),
        (
            None,
            "nor will new ones: couchdb-1 is in no zone that [cluster] placement (a:1",
        ),
    ],
)
def test_a_node_in_no_zone_that_placement_names_gets_no_copies(
    zone: str | None, words: str
) -> None:
    first, grown = sorted(names(0, 1))
    zones = {first: "a"} | ({grown: zone} if zone else {})
    details = NodeDetails("", placement="a:1,b:1", zones=zones)
    zoned = [finished(n, 1 - n, details=replace(details, pod=f"couchdb-{n}")) for n in range(2)]
    seen = view(*zoned, prior=names(0, 1), without_shards=frozenset({"couchdb-1"}))
    decision = decide(topology(2), seen, Scope.SET)
    (told,) = [w for w in getattr(decision, "warnings", ()) if "no shards" in w]
    assert words in told


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


# --- secrets ----------------------------------------------------------------------------------


def with_secrets(*secrets: str | None, version: str = "3.5.2") -> list[NodeView]:
    identities = [replace(SAME, secret=secret) for secret in secrets]
    return [replace(each, version=version) for each in cluster_of(*identities)]


def test_sessions_are_tried_only_where_secrets_and_nothing_else_differ() -> None:
    assert needs_sessions(with_secrets("a", "b"))
    assert not needs_sessions(with_secrets("a", "a"))
    # Opening a session on a node without one would make it set one.
    assert not needs_sessions(with_secrets("a", None))
    # With other hashes they fail anyway: the salt is part of the signature.
    salted = with_secrets("a", "b")
    identity = replace(SAME, admin=Hash("other"), secret="b")
    assert not needs_sessions([salted[0], replace(salted[1], identity=identity)])
    unread = replace(salted[1], identity=None)
    assert not needs_sessions([salted[0], unread])


def seen_from(nodes: list[NodeView], accepted: dict[str, set[str]]) -> list[NodeView]:
    """The same after it was tried who accepts whose sessions."""
    return [
        replace(each, sessions=frozenset(accepted[each.pod])) if each.pod in accepted else each
        for each in nodes
    ]


def test_a_rotated_secret_that_the_environment_sets_is_announced_where_nodes_exchange_them() -> (
    None
):
    """3.5.2 and later: every node of that secret says it again, one was tried for all of them."""
    nodes = with_secrets("old", "new", "new")
    pods = {each.pod for each in nodes}
    tried = seen_from(nodes, {"couchdb-0": pods, "couchdb-1": {"couchdb-1", "couchdb-2"}})
    found = drift(tried, names(0, 1, 2), secret_intended=True)
    assert found.steps == (AnnounceSecret("couchdb-1"), AnnounceSecret("couchdb-2"))
    assert not found.intended
    older = [replace(each, version="3.4.3") for each in tried]
    found = drift(older, names(0, 1, 2), secret_intended=True)
    assert (found.steps, found.intended) == ((), ("couchdb-1",))
    accepted = seen_from(nodes, dict.fromkeys(pods, pods))
    assert drift(accepted, names(0, 1, 2), secret_intended=True) == Drift()


def test_secrets_that_differ_and_are_accepted_are_no_drift() -> None:
    nodes = with_secrets("a", "b")
    pods = {each.pod for each in nodes}
    assert drift(seen_from(nodes, dict.fromkeys(pods, pods)), names(0, 1)) == Drift()


def test_an_administrator_without_a_hash_to_compare_goes_by_the_versions() -> None:
    """A node that was never given this user, nor has a hash of its own."""
    bob = replace(SAME, admins={"bob": Hash("b", "pbkdf2:sha256-600000")})
    bare = replace(SAME, admin=None)
    nodes = [
        replace(each, version=version)
        for each, version in zip(cluster_of(bob, bare), ("3.5.2", "3.5.1"), strict=True)
    ]
    found = drift(nodes, names(0), None)
    assert SyncIdentity("couchdb-1", "couchdb-0", ("admin", "admins/bob")) in found.steps
    old = [nodes[0], replace(nodes[1], version="3.3.3")]
    found = drift(old, names(0), None)
    assert found.kept == ("couchdb-1",)
    assert not any("admins/bob" in str(step) for step in found.steps)


def test_what_an_unread_node_has_is_not_compared() -> None:
    nodes = cluster_of(SAME, SAME, None)
    nodes[2] = replace(nodes[2], identity=None)
    assert drift(nodes, names(0, 1, 2)) == Drift()
