"""Who belongs to whom."""

from dataclasses import replace
from functools import partial

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
    kinds,
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


ZONE_B = "couchdb@zone-b-0.zone-b.db.svc.cluster.local"


@pytest.mark.parametrize("own", [None, 0, 1])
@pytest.mark.parametrize("done", [True, False])
def test_a_live_member_of_another_statefulset_links_whom_it_is_connected_to(
    own: int | None, done: bool
) -> None:
    """For a moment, until CouchDB has told each of the other through it."""
    through = [names(n) | {ZONE_B} for n in range(2)]
    make = partial(finished if done else node, volume=holding("orders"))
    pair = [replace(make(n), cluster_nodes=through[n], all_nodes=through[n]) for n in range(2)]
    (cluster,) = groups(view(*pair), 2).clusters
    assert cluster.names == names(0, 1) | {ZONE_B}
    late = [replace(each, overdue=names(1 - n)) for n, each in enumerate(pair)]
    if own is None:
        assert isinstance(decide(topology(2), view(*pair), Scope.SET), Wait)
        told = ["add_node couchdb-0", "add_node couchdb-1"]
        assert kinds(decide(topology(2), view(*late), Scope.SET)) == told
    else:
        for seen in (pair, late):
            assert not isinstance(decide(topology(2, own), view(*seen), Scope.POD), Refuse)
    apart = [replace(each, all_nodes=names(n)) for n, each in enumerate(late)]
    assert len(groups(view(*apart), 2).clusters) == 2, "who is connected to nobody is not told"
