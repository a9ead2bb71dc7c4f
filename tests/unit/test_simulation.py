"""What the steps would lead to: the plan ahead, and whether a look shows what a step was for."""

from collections.abc import Iterator
from dataclasses import replace

import pytest

from couchdiscover.decide.common import Policy
from couchdiscover.decide.decision import decide
from couchdiscover.decide.simulation import ROUNDS, after, shows, simulate
from couchdiscover.state.nodes import Copies, Hash, Identity, SetupState
from couchdiscover.state.steps import (
    AddCopies,
    AddNode,
    AnnounceSecret,
    Decision,
    DeleteMember,
    Do,
    Done,
    EnableNode,
    EnableSingleNode,
    EnsureDatabase,
    FinishCluster,
    SetSecret,
    Step,
    SyncIdentity,
    SyncShards,
)
from couchdiscover.state.topology import Scope
from couchdiscover.state.volumes import Volume
from tests.support.decisions import (
    SAME,
    down,
    erlang_name,
    finished,
    holding,
    names,
    node,
    topology,
    view,
)


def test_a_decision_that_never_ends_is_given_up() -> None:
    """A plan is finite, whatever the decision is."""
    step = EnableNode("couchdb-0")
    plan = simulate(topology(1), view(node(0)), lambda _: Do((step,)))
    assert plan.steps == (step,) * ROUNDS
    assert plan.end == Do((step,))


def test_the_warnings_of_every_round_are_kept_once() -> None:
    rounds: Iterator[Decision] = iter(
        [Do((EnableNode("couchdb-0"),), ("a", "b")), Done(("b", "c"))]
    )
    plan = simulate(topology(1), view(node(0)), lambda _: next(rounds))
    assert plan.warnings == ("a", "b", "c")
    assert plan.end == Done(("b", "c"))


def test_a_step_at_a_pod_that_is_silent_changes_nothing() -> None:
    before = view(node(0), down(1))
    assert after(topology(2), before, [EnableNode("couchdb-1")]) == before


@pytest.mark.parametrize(
    "step",
    [
        # What only `adopt` takes is looked at on the nodes, and never simulated.
        DeleteMember("couchdb-0", erlang_name(7)),
        SyncIdentity("couchdb-0", "couchdb-1", ("uuid",)),
    ],
)
def test_a_step_whose_outcome_is_not_known_changes_nothing(step: Step) -> None:
    before = view(finished(0, 1), down(1))
    assert after(topology(2), before, [step]) == before


@pytest.mark.parametrize(
    ("state", "step", "becomes"),
    [
        (SetupState.DISABLED, EnableNode("couchdb-0"), SetupState.ENABLED),
        (
            SetupState.SINGLE_DISABLED,
            EnableSingleNode("couchdb-0"),
            SetupState.SINGLE_ENABLED,
        ),
        (SetupState.ENABLED, FinishCluster("couchdb-0", 1), SetupState.FINISHED),
        (SetupState.SINGLE_DISABLED, FinishCluster("couchdb-0", 1), SetupState.SINGLE_ENABLED),
    ],
)
def test_what_setting_up_makes_of_a_node(
    state: SetupState, step: Step, becomes: SetupState
) -> None:
    before = view(node(0, state=state))
    assert not shows(before, step)
    then = after(topology(1), before, [step])
    assert [each.state for each in then.nodes] == [becomes]
    assert shows(then, step)


def test_a_secret_is_there_after_it_was_set() -> None:
    """Also where the node had one in the section of 3.1, which finishing does not read."""
    old = replace(SAME, old_secret=True)
    for identity in (None, Identity(), old):
        then = after(topology(1), view(node(0, identity=identity)), [SetSecret("couchdb-0")])
        (changed,) = then.nodes
        assert changed.identity is not None
        assert changed.identity.secret
        assert not changed.identity.old_secret


def test_whether_a_member_is_there_is_seen_in_its_own_list() -> None:
    step = AddNode("couchdb-1", "couchdb-0", erlang_name(0))
    assert not shows(view(node(0), node(1)), step)
    assert shows(view(node(0), node(1, names(0, 1))), step)
    assert not shows(view(node(0, names(0, 1)), down(1)), step)  # nobody knows


def test_whether_a_database_was_made_is_seen_where_the_node_is_finished() -> None:
    step = EnsureDatabase("couchdb-0", "orders")
    assert shows(view(finished(0)), step)
    assert not shows(view(finished(0, unreadable=("orders",))), step)
    assert not shows(view(node(0)), step)  # it says nothing about databases


def test_steps_that_leave_no_trace_in_a_look_are_never_called_done_by_it() -> None:
    for step in (AnnounceSecret("couchdb-0"), SyncShards("couchdb-0", ("orders",))):
        assert not shows(view(finished(0)), step)


def test_a_database_that_is_made_can_be_opened_on_every_node() -> None:
    before = view(
        finished(0, 1, unreadable=("orders", "bills")), finished(1, 0, unreadable=("orders",))
    )
    then = after(topology(2), before, [EnsureDatabase("couchdb-0", "orders")])
    assert [each.unreadable for each in then.nodes] == [("bills",), ()]


def test_values_are_taken_from_the_node_that_gives_them() -> None:
    giver = Identity(Hash("g"), "g", "g", {"bob": Hash("gb"), "eve": Hash("ge")})
    taker = Identity(Hash("t"), "t", "t", {"bob": Hash("tb")})
    before = view(finished(0, 1, identity=giver), finished(1, 0, identity=taker))
    step = SyncIdentity("couchdb-1", "couchdb-0", ("uuid", "admins/bob"))
    then = after(topology(2), before, [step])
    assert then.nodes[1].identity == Identity(Hash("t"), "g", "t", {"bob": Hash("gb")})


def test_a_secret_that_is_put_again_is_accepted_by_all() -> None:
    before = view(
        finished(0, 1, sessions=frozenset({"couchdb-0"})),
        finished(1, 0, sessions=frozenset({"couchdb-1"})),
        finished(2, 0),
    )
    then = after(topology(3), before, [AnnounceSecret("couchdb-0")])
    everybody = frozenset({"couchdb-0", "couchdb-1", "couchdb-2"})
    assert [each.sessions for each in then.nodes] == [everybody, everybody, None]


def test_copies_are_asked_to_be_filled_once() -> None:
    lost = Copies(names(1), ("orders",))
    before = view(finished(0, 1), finished(1, 0), copies=lost)
    step = SyncShards("couchdb-0", ("orders",))
    then = after(topology(2), before, [step])
    assert then.copies == replace(lost, synced=True)
    assert after(topology(2), replace(before, copies=None), [step]).copies is None


def test_a_map_that_gets_more_copies_has_them_on_every_node() -> None:
    alone = names(0)
    before = view(
        finished(0, 1, volume=holding("_users", "_replicator", filled=False, on=alone)),
        finished(1, 0, volume=None),
        finished(2, 0, volume=Volume(files=frozenset())),
    )
    both = (erlang_name(0), erlang_name(1))
    then = after(topology(3), before, [AddCopies("couchdb-0", "_users", both)])
    (users, replicator) = then.nodes[0].volume.maps  # type: ignore[misc, union-attr]
    assert users.by_range == {"00000000-ffffffff": both}
    assert replicator.by_range == {"00000000-ffffffff": (erlang_name(0),)}
    assert [each.volume for each in then.nodes[1:]] == [None, before.nodes[2].volume]


def test_an_introduction_adds_nobody() -> None:
    """Both are members already: neither has come by this run, and both keep their vote."""
    before = view(finished(0, 1), finished(1), prior=names(0, 1))
    step = AddNode("couchdb-1", "couchdb-0", erlang_name(0), introduces=True)
    then = after(topology(2), before, [step])
    assert then.nodes[1].cluster_nodes == names(0, 1)
    assert then.added == frozenset()
    assert then.prior == names(0, 1)


def test_a_node_that_is_added_to_a_finished_cluster_has_no_vote_and_no_shards_yet() -> None:
    maps = holding("_users", "orders", on=names(0))
    before = view(finished(0, 7, volume=maps), node(1), prior=names(0))
    step = AddNode("couchdb-1", "couchdb-0", erlang_name(0))
    then = after(topology(2), before, [step])
    joined = then.nodes[1]
    assert joined.finished
    assert joined.volume is not None
    assert [each.database for each in joined.volume.maps or ()] == ["_users", "orders"]
    assert then.added == then.without_shards == frozenset({"couchdb-1"})
    assert then.prior == names(0)


@pytest.mark.parametrize("revisions", [("1-f", "2-a"), ("2-a", "1-f"), ("2-a", "2-0")])
def test_of_two_maps_of_one_name_the_longer_history_wins_as_in_couchdb(
    revisions: tuple[str, str],
) -> None:
    def with_map(ordinal: int, revision: str) -> Volume:
        volume = holding("orders", on=names(ordinal), suffix=f".{ordinal}")
        (own,) = volume.maps or ()
        return replace(volume, maps=(replace(own, revision=revision),))

    before = view(*(node(n, volume=with_map(n, each)) for n, each in enumerate(revisions)))
    then = after(topology(2), before, [AddNode("couchdb-1", "couchdb-0", erlang_name(0))])
    maps = [each.volume.maps for each in then.nodes if each.volume is not None]
    assert [[m.revision for m in found or ()] for found in maps] == [["2-a"], ["2-a"]]


def test_the_plan_for_a_fresh_set_is_what_run_does() -> None:
    place = topology(3)
    fresh = view(*(node(n, identity=Identity()) for n in range(3)))
    plan = simulate(place, fresh, lambda then: decide(place, then, Scope.SET, Policy()))
    assert [str(step.kind) for step in plan.steps] == [
        "add_node",
        "add_node",
        "set_secret",
        "finish_cluster",
    ]
    assert isinstance(plan.end, Done)
