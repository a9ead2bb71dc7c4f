"""The state of the set in conditions: True, False or Unknown, and who it is about."""

import pytest

from couchdiscover.decide.conditions import TYPES, conditions, not_looked_at, summary
from couchdiscover.state.nodes import ClusterView, Hash, Identity, SetupState, Sight
from tests.support.views import ALL, erlang_name, fresh, node, silent, topology

MEMBERS = frozenset({erlang_name(0), erlang_name(1)})
STRANGER = "couchdb@couchdb-7.couchdb.db.svc.cluster.local"


def judged(*sights: Sight, size: int = 3, finished_here: bool = False) -> dict[str, str]:
    found = conditions(topology(size), ClusterView(sights), finished_here=finished_here)
    assert tuple(each.type for each in found) == TYPES
    return {each.type: each.status for each in found}


def messages(*sights: Sight) -> dict[str, str]:
    return {each.type: each.message for each in conditions(topology(), ClusterView(sights))}


@pytest.mark.parametrize(
    ("sights", "expected"),
    [
        # Reachable, Enabled, Joined, Connected, Finished, Consistent
        ([node(0), node(1), node(2)], "True True True True True True"),
        ([node(0), node(1), silent(2)], "False Unknown Unknown Unknown Unknown Unknown"),
        ([silent(0), silent(1), silent(2)], "False Unknown Unknown Unknown Unknown Unknown"),
        ([fresh(0), fresh(1), fresh(2)], "True False False False False Unknown"),
        ([fresh(0), silent(1), silent(2)], "False False False Unknown False Unknown"),
        (
            [node(i, state=SetupState.ENABLED) for i in range(3)],
            "True True True True False Unknown",
        ),
        (
            [node(0, all_nodes=MEMBERS), node(1, all_nodes=MEMBERS), node(2)],
            "True True True False True True",
        ),
        ([node(0, cluster_nodes=MEMBERS), node(1), node(2)], "True True False True True True"),
        (
            [node(i, cluster_nodes=ALL | {STRANGER}, all_nodes=ALL) for i in range(3)],
            "True True False False True True",
        ),
        (
            [node(0), node(1), node(2, identity=Identity(Hash("a"), "b", "other"))],
            "True True True True True False",
        ),
        (
            [node(i, identity=Identity(Hash("a"), "b", None)) for i in range(3)],
            "True True True True True False",
        ),
        ([node(0), node(1), node(2, identity=None)], "True True True True True Unknown"),
    ],
)
def test_conditions(sights: list[Sight], expected: str) -> None:
    assert " ".join(judged(*sights).values()) == expected


def test_whoever_finished_the_cluster_made_it_consistent() -> None:
    nodes = [node(i, identity=None) for i in range(3)]
    assert judged(*nodes)["Consistent"] == "Unknown"
    assert judged(*nodes, finished_here=True)["Consistent"] == "True"


def test_a_single_node_is_consistent_with_itself() -> None:
    own = frozenset({erlang_name(0)})
    alone = node(0, cluster_nodes=own, all_nodes=own, identity=None)
    assert set(judged(alone, size=1).values()) == {"True"}


def test_messages_count() -> None:
    told = messages(node(0), fresh(1), silent(2))
    assert told["Reachable"] == "2 of 3 nodes answer"
    assert told["Enabled"] == "1 of 3 nodes enabled"
    assert told["Joined"] == "1 of 3 nodes list exactly the expected members"


def test_who_is_not_connected_to_whom_is_told() -> None:
    lost = ALL - {erlang_name(2)}
    told = messages(node(0, all_nodes=lost), node(1), node(2, all_nodes={erlang_name(2)}))
    assert told["Connected"] == (
        "1 of 3 nodes are connected to all members "
        "(couchdb-0 not to couchdb-2; couchdb-2 not to couchdb-0, couchdb-1)"
    )


def test_a_member_that_is_no_pod_is_told_by_its_name() -> None:
    told = messages(node(0, cluster_nodes=ALL | {STRANGER}), node(1), node(2))
    assert f"couchdb-0 not to {STRANGER}" in told["Connected"]


def test_of_many_the_first_are_told() -> None:
    sights = [node(i, name=erlang_name(i), all_nodes=frozenset({erlang_name(i)})) for i in range(9)]
    found = conditions(topology(9), ClusterView(tuple(sights)))
    connected = next(each for each in found if each.type == "Connected")
    assert connected.message.startswith("0 of 9 nodes")
    assert connected.message.count(" not to ") == 5
    assert "and 3 more" in connected.message


def test_what_the_nodes_share_is_told() -> None:
    told = messages(node(0), node(1), node(2))
    assert told["Consistent"] == "3 nodes share one admin hash, uuid and secret"


def test_nothing_is_known_where_nothing_was_looked_at() -> None:
    found = not_looked_at()
    assert tuple(each.type for each in found) == TYPES
    assert {each.status for each in found} == {"Unknown"}


@pytest.mark.parametrize("succeeded", [True, False])
def test_the_summary(succeeded: bool) -> None:
    assert (summary(succeeded).type, summary(succeeded).status) == ("Succeeded", str(succeeded))


def test_reasons_are_camel_case() -> None:
    """As Kubernetes has it (API conventions, "Typical status properties")."""
    views: list[list[Sight]] = [
        [node(0), node(1), node(2)],
        [node(0), fresh(1), silent(2)],
        [node(0), node(1), node(2, identity=None)],
    ]
    for sights in views:
        for each in [*conditions(topology(), ClusterView(tuple(sights))), summary(True)]:
            assert each.reason.isidentifier()
            assert each.reason[0].isupper()
            assert each.message
