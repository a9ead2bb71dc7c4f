"""What is refused, and with which words."""

from dataclasses import replace

import pytest

from couchdiscover.decide.common import Policy
from couchdiscover.decide.decision import decide
from couchdiscover.errors import Denied, Unsafe
from couchdiscover.state.nodes import (
    LoginRefused,
    NodeDetails,
    NodeView,
    SetupState,
)
from couchdiscover.state.steps import Do
from couchdiscover.state.topology import Scope
from tests.support.decisions import (
    SAME,
    erlang_name,
    finished,
    holding,
    kinds,
    laden,
    names,
    node,
    refused,
    topology,
    view,
)


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
        ([node(0), node(1, state=SetupState.SINGLE_ENABLED), node(2)], "single_node = true"),
        (
            [node(0, names(0, 1) | {"couchdb@couchdb-1"}, connected=names(0, 1)),
             node(1, names(0, 1)), node(2)],
            "no pod of StatefulSet",
        ),
    ],
)  # fmt: skip
def test_refusals(sights: list[NodeView], words: str) -> None:
    assert words in refused(decide(topology(), view(*sights), Scope.SET), Unsafe)


def test_refused_credentials_are_told() -> None:
    refusing = LoginRefused("couchdb-1", "couchdb-1 refused the user 'admin'")
    decision = decide(topology(), view(node(0), refusing, node(2)), Scope.SET)
    assert refused(decision, Denied) == "couchdb-1 refused the user 'admin'"


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
    assert "no long names (-name) whose host has no dot" in reason
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


@pytest.mark.parametrize(
    ("seed", "words"),
    [
        (
            "couchdb@couchdb-0.couchdb.db.svc.example.internal",
            "(the seeds are in couchdb.db.svc.example.internal, the nodes in couchdb.db.svc."
            "cluster.local): correct that setting or NODENAME",
        ),
        ("couchdb@couchdb-0", "(the seeds are short names, the nodes in couchdb.db.svc"),
        (erlang_name(7), "take it out of that setting, which is to name the nodes of couchdb-0 to"),
    ],
)
def test_a_member_that_a_seedlist_brings_back_is_told_with_that_setting(
    seed: str, words: str
) -> None:
    seeded = [
        node(
            n,
            names(0, 1) | {seed},
            connected=names(0, 1),
            details=NodeDetails(f"couchdb-{n}", seeds=frozenset({seed})),
        )
        for n in range(2)
    ]
    reason = refused(decide(topology(2), view(*seeded), Scope.SET), Unsafe)
    assert "it comes from [cluster] seedlist, which brings it back at each boot" in reason
    assert words in reason
    place = replace(topology(2), age=7200.0)
    old = refused(decide(place, view(*seeded), Scope.SET), Unsafe)
    assert "nothing is on its volumes: were they lost?" in old
    assert "start those first" in old
    assert words not in old


@pytest.mark.parametrize(
    ("details", "told", "untold"),
    [
        (
            NodeDetails("couchdb-1", copies=1),
            "couchdb-1 has [cluster] n = 1 among 2 that are to be one cluster: every database "
            "would have one copy only; remove that setting and start again, or insist on one copy "
            "with --allow-one-copy",
            "single_node",
        ),
        (
            NodeDetails("couchdb-1", copies=1, single_node=True),
            "couchdb-1 has [couchdb] single_node = true among 2",
            "--allow-one-copy",
        ),
        (None, "[cluster] n = 1, or [couchdb] single_node = true, among 2", "made on"),
    ],
)
def test_one_copy_is_told_from_a_single_node(
    details: NodeDetails | None, told: str, untold: str
) -> None:
    single = node(1, state=SetupState.SINGLE_DISABLED, details=details)
    reason = refused(decide(topology(2), view(node(0), single), Scope.SET), Unsafe)
    assert told in reason
    assert untold not in reason


@pytest.mark.parametrize(("scope", "own"), [(Scope.SET, None), (Scope.POD, 1)])
def test_one_copy_may_be_insisted_on(scope: Scope, own: int | None) -> None:
    single = [
        node(n, state=SetupState.SINGLE_ENABLED, details=NodeDetails(f"couchdb-{n}", copies=1))
        for n in range(2)
    ]
    seen = view(*single)
    assert "--allow-one-copy" in refused(decide(topology(2, own), seen, scope), Unsafe)
    insisting = decide(topology(2, own), seen, scope, Policy(allow_one_copy=True))
    assert kinds(insisting) == ["add_node couchdb-1"]
