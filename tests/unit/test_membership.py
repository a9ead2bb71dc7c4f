"""Who belongs to whom."""

from dataclasses import replace

import pytest

from couchdiscover.decide.decision import decide
from couchdiscover.errors import Unsafe
from couchdiscover.state.steps import (
    Refuse,
    Wait,
)
from couchdiscover.state.topology import Scope
from tests.support.decisions import (
    down,
    erlang_name,
    finished,
    groups,
    holding,
    names,
    node,
    refused,
    topology,
    view,
)


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


def test_the_coordinator_is_one_that_others_list() -> None:
    one_sided = view(node(0, names(0, 1)), node(1, names(1)))
    assert groups(one_sided).clusters[0].coordinator.pod == "couchdb-1"
    pair = view(node(0, names(0, 2)), node(1, names(1, 2)), node(2, names(1, 2)))
    assert groups(pair).clusters[0].coordinator.pod == "couchdb-1"
