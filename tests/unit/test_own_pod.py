"""The decision in scope ``pod``."""

from dataclasses import replace

import pytest

from couchdiscover.decide.decision import Policy, decide
from couchdiscover.errors import Denied, Unsafe, UsageProblem
from couchdiscover.state.nodes import (
    Hash,
    Identity,
    LoginRefused,
    SetupState,
    Sight,
    TooOld,
)
from couchdiscover.state.steps import (
    AddNode,
    Do,
    Done,
    Wait,
)
from couchdiscover.state.topology import Scope
from couchdiscover.state.volumes import Volume
from tests.support.decisions import (
    SAME,
    down,
    erlang_name,
    finished,
    holding,
    kinds,
    laden,
    names,
    node,
    refused,
    topology,
    unmade,
    view,
    waits,
)


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
    seen = view(node(0, everybody, identity=SAME), down(1), node(2, everybody, identity=SAME))
    decision = decide(topology(own=2), seen, Scope.POD)
    assert kinds(decision) == ["finish_cluster couchdb-0"]


def test_finishing_waits_for_a_node_that_tells_neither_version_nor_configuration() -> None:
    """A hash that it cannot read would lock its administrator out."""
    everybody = names(0, 1)
    lead, hidden = node(0, everybody, identity=SAME), node(1, everybody)
    for own in range(2):
        decision = decide(topology(2, own=own), view(lead, hidden), Scope.POD)
        assert "its configuration" in waits(decision)["couchdb-1"]
    for told in ({"version": "3.5.2"}, {"identity": SAME}):
        decision = decide(topology(2, own=1), view(lead, replace(hidden, **told)), Scope.POD)
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
    assert "when the others are back" in decision.warnings[0]
    apart = [finished(n, *({0, 1, 2} - {n}), connected=names(n)) for n in range(3)]
    decision = decide(topology(own=1), view(*apart), Scope.POD)
    assert isinstance(decision, Done)
    assert "though couchdb-0, couchdb-2 answer: " in decision.warnings[0]
    assert "are back" not in decision.warnings[0]


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
    own = node(2, names(0, 2), connected=everybody, identity=SAME)
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
    assert "couchdb-0 has [cluster] n = 1, or" in reason
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
        nodes = [
            replace(each, volume=replace(each.volume or Volume(), uuid=each.name)) for each in nodes
        ]
        unread = decide(topology(2), view(*nodes), Scope.SET)
        decision = decide(
            topology(2), view(*nodes, others={other: Volume(uuid="theirs", traces=())}), Scope.SET
        )
        if state is SetupState.FINISHED:
            assert isinstance(unread, Wait), "it may be a clone"
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


def test_an_old_couchdb_in_the_own_pod_is_refused_in_another_one_it_is_not() -> None:
    old = TooOld("couchdb-1", "2.3.1")
    reason = refused(decide(topology(2, own=1), view(node(0), old), Scope.POD), UsageProblem)
    assert reason.startswith("couchdb-1 runs CouchDB 2.3.1")


def test_what_lies_on_the_own_volume_is_waited_for_before_it_joins_anybody() -> None:
    for found in (None, Volume(), Volume(files=holding("_users").files)):
        seen = view(finished(0, 7), node(1, volume=found))
        told = waits(decide(topology(2, own=1), seen, Scope.POD))
        assert "what it holds" in told["couchdb-1"]


def test_a_fresh_pod_waits_for_the_lowest_ordinal_which_has_no_address_yet() -> None:
    """It leads where there is no cluster: nobody else begins one beside it."""
    place = topology(2, own=1)
    first = replace(place.expected[0], addresses=())
    place = replace(place, expected=(first, *place.expected[1:]))
    assert list(waits(decide(place, view(down(0), node(1)), Scope.POD))) == ["couchdb-0"]


def test_the_coordinator_is_finished_and_the_own_node_not_yet() -> None:
    """The databases are on their way: what it would be is told by its coordinator."""
    seen = view(finished(0, 1), node(1, names(0, 1)))
    told = waits(decide(topology(2, own=1), seen, Scope.POD))
    assert told == {"couchdb-1": "to report what couchdb-0 does: a finished cluster"}


def test_databases_that_were_asked_for_are_made_through_the_own_node() -> None:
    own = finished(1, 0, unreadable=("orders",), databases=frozenset({"_users"}))
    other = finished(0, 1, unreadable=("orders",), databases=frozenset({"_users"}))
    decision = decide(topology(2, own=1), view(other, own), Scope.POD)
    assert kinds(decision) == ["ensure_db couchdb-1"]


def test_a_pod_whose_configuration_cannot_be_read_may_start_at_the_end() -> None:
    seen = view(finished(0, 1), finished(1, 0, identity=None))
    decision = decide(topology(2, own=1), seen, Scope.POD)
    assert "its configuration" in waits(decision)["couchdb-1"]
    assert isinstance(decision, Wait)
    assert isinstance(decision.at_the_end, Done)


def test_where_the_pod_that_repairs_are_from_is_silent_the_own_identity_is_kept() -> None:
    """A name that is expected and does not answer is no reason to take the majority's."""
    own = finished(1, 0, 2, identity=replace(SAME, uuid="own"))
    seen = view(down(0), own, finished(2, 0, 1), prior=names(0, 1, 2))
    decision = decide(topology(own=1), seen, Scope.POD, Policy(repair_from="couchdb-0"))
    assert isinstance(decision, Done), decision
    assert any("--repair-from names, does not answer" in told for told in decision.warnings)


def test_a_rotated_secret_of_the_environment_is_left_with_a_note() -> None:
    own, other = (
        finished(n, 1 - n, version="3.4.3", sessions=frozenset({f"couchdb-{n}"})) for n in range(2)
    )
    own = replace(own, identity=replace(SAME, secret="rotated"))
    place = replace(topology(2, own=0), secret_intended=True)
    decision = decide(place, view(own, other, prior=names(0, 1)), Scope.POD)
    assert isinstance(decision, Done)
    assert any("the secret that its environment sets" in told for told in decision.warnings)


def test_the_finish_is_not_begun_twice() -> None:
    """A member was finished once: its databases are on their way to the others."""
    both = names(0, 1)
    seen = view(
        node(0, both, identity=SAME),
        node(1, both, databases=frozenset({"_users", "_replicator"})),
    )
    decision = decide(topology(2, own=0), seen, Scope.POD)
    assert "to report a finished cluster" in waits(decision)["couchdb-0"]


def test_who_is_before_the_coordinator_and_silent_is_waited_for_before_finishing() -> None:
    """Others may reach it, and finish through it: two finishes would make the nodes differ."""
    everybody = names(0, 1, 2)
    joined = [node(n, everybody, identity=SAME) for n in (1, 2)]
    decision = decide(topology(own=1), view(down(0), *joined), Scope.POD)
    assert list(waits(decision)) == ["couchdb-0"]


def test_a_pod_on_a_volume_that_has_a_conflict_is_in_with_a_warning() -> None:
    found = holding("orders", on=names(0, 1))
    maps = tuple(replace(each, conflicting=True) for each in found.maps or ())
    own, other = (finished(n, 1 - n, volume=replace(found, maps=maps)) for n in range(2))
    decision = decide(topology(2, own=0), view(own, other), Scope.POD)
    assert isinstance(decision, Done)
    assert any("have conflicts" in told for told in decision.warnings)


def test_a_peer_that_refuses_the_login_is_told_and_not_waited_for() -> None:
    refusing = LoginRefused("couchdb-1", "its password is another one")
    decision = decide(topology(2, own=0), view(finished(0, 1), refusing), Scope.POD)
    assert isinstance(decision, Done)
    assert any(
        "couchdb-1 refused the credentials that couchdb-0 accepts" in told
        for told in decision.warnings
    )


@pytest.mark.parametrize("silent", [down(1), LoginRefused("couchdb-1", "another password")])
def test_a_volume_without_a_mark_is_none_the_more_proven_while_a_member_is_unseen(
    silent: Sight,
) -> None:
    """A member that does not answer may know it as a lost one: marked now, nobody would tell."""
    bare = Volume(frozenset(), (), uuid="couchdb-0's", traces=(), filled=frozenset())
    own = finished(0, 1, 2, volume=bare, connected=names(0, 1, 2))
    decision = decide(topology(3, own=0), view(own, silent, finished(2, 0, 1)), Scope.POD)
    assert isinstance(decision, Done)
    assert decision.marks == ()
    (told,) = [w for w in decision.warnings if "has no mark" in w]
    assert "could not be seen while couchdb-1 does not answer" in told
    seen = view(own, finished(1, 0, 2), finished(2, 0, 1))
    decision = decide(topology(3, own=0), seen, Scope.POD)
    assert isinstance(decision, Done)
    assert decision.marks == ("couchdb-0",)
    # As a scale-down has left it; or they are another set's, which is away.
    left = view(replace(own, all_nodes=frozenset({own.name})))
    decision = decide(topology(1, own=0), left, Scope.POD)
    assert isinstance(decision, Done)
    assert decision.marks == ()
    (told,) = [w for w in decision.warnings if "has no mark" in w]
    assert erlang_name(1) in told


def test_a_database_is_not_made_while_a_member_that_may_know_it_is_unseen() -> None:
    """Two maps of it would be in conflict, and one side's documents hidden."""
    own = finished(0, 1, 2, unreadable=("orders",), databases=frozenset({"_users"}))
    own = replace(own, all_nodes=frozenset({own.name}))
    awaited = decide(topology(3, own=0), view(own, down(1), down(2)), Scope.POD)
    assert isinstance(awaited, Wait)
    assert isinstance(awaited.at_the_end, Done)
    told = "cannot open orders, and whether that exists is not known while couchdb-1, couchdb-2"
    assert any(told in warning for warning in awaited.at_the_end.warnings)
    place = unmade(topology(3, own=0), 1)  # OrderedReady makes them only after this one
    decision = decide(place, view(own, down(1), down(2)), Scope.POD)
    assert isinstance(decision, Done)
    assert any(told in warning for warning in decision.warnings)


def test_beside_others_that_are_connected_the_own_volume_must_be_known() -> None:
    """Else nobody could tell whether one of them is a clone of it."""
    other = "couchdb@couchdb-b-0.couchdb.db.svc.cluster.local"
    both = frozenset({erlang_name(0), other})
    own = finished(0, all_nodes=both, cluster_nodes=both)
    unread = replace(own, volume=replace(own.volume or Volume(), uuid=None))
    seen = view(unread, others={other: Volume(uuid="theirs", traces=())})
    assert "which volume it has" in waits(decide(topology(1), seen, Scope.SET))["couchdb-0"]


def test_a_lone_finished_node_of_several_pods_is_not_marked() -> None:
    """Something that starts it may have made both databases: it may have lost its volume."""
    bare = Volume(frozenset(), (), uuid="couchdb-0's", traces=(), filled=frozenset())
    own = finished(0, volume=bare)
    place = unmade(topology(3, own=0), 1)
    several = decide(place, view(own, down(1), down(2)), Scope.POD)
    assert isinstance(several, Done)
    assert several.marks == ()
    single = decide(topology(1, own=0), view(own), Scope.POD)
    assert isinstance(single, Done)
    assert single.marks == ("couchdb-0",)


def test_the_original_of_a_clone_is_let_through_with_a_warning() -> None:
    clone = "couchdb@couchdb-0.couchdb.copy.svc.cluster.local"
    both = frozenset({erlang_name(0), clone})
    own = finished(
        0,
        volume=holding("orders", on=names(0)),
        all_nodes=both,
        cluster_nodes=both,
    )
    seen = view(own, others={clone: Volume(uuid="couchdb-0's")})
    decision = decide(topology(1, own=0), seen, Scope.POD)
    assert isinstance(decision, Done)
    assert any("runs on copies of volumes of this cluster" in told for told in decision.warnings)


def test_a_lone_node_with_databases_goes_on_while_the_others_do_not_run_yet() -> None:
    """As one that was run alone before it was scaled up; who comes later joins it."""
    own = node(0, volume=holding("orders", on=names(0)))
    decision = decide(unmade(topology(own=0), 1), view(own, down(1), down(2)), Scope.POD)
    assert isinstance(decision, Done)


WAS_FINISHED = frozenset({"_users", "_replicator"})


def test_a_member_whose_databases_are_away_is_in_and_nothing_is_made_anew() -> None:
    """All pods were gone: their copies are on members that OrderedReady has not brought yet."""
    own = node(0, names(0, 1, 2), connected=names(0), databases=WAS_FINISHED)
    decision = decide(unmade(topology(own=0), 1), view(own, down(1), down(2)), Scope.POD)
    assert isinstance(decision, Done)
    assert any("cannot open _users and _replicator now" in told for told in decision.warnings)
    # The same of a coordinator: whoever joins it does not finish for it.
    leader = node(0, names(0, 1), databases=WAS_FINISHED)
    joined = node(1, names(0, 1))
    decision = decide(topology(2, own=1), view(leader, joined), Scope.POD)
    assert isinstance(decision, Done)
    assert any(told.startswith("couchdb-0 was in a finished") for told in decision.warnings)


def test_a_coordinator_that_does_not_learn_of_the_own_node_is_not_told_where_maps_differ() -> None:
    both = names(0, 1)
    leader = node(
        0,
        names(0),
        connected=both,
        overdue=names(1),
        volume=holding("orders", suffix=".1", on=names(0)),
    )
    own = node(1, both, volume=holding("orders", suffix=".2", on=names(1)))
    told = waits(decide(topology(2, own=1), view(leader, own), Scope.POD))
    assert told == {"couchdb-0": "to have the same shard maps as couchdb-1 of orders"}
