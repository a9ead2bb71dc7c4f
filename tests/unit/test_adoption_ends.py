"""Where an adoption is refused, waited with, or done with something to remark."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import pytest

from couchdiscover.decide.adoption import (
    decide_adoption,
    ending,
    foresee,
    misused_names,
    remarks,
    uuid_remarks,
)
from couchdiscover.decide.adoption_marks import early_marks
from couchdiscover.decide.ground import (
    Ground,
    Replications,
    Wishes,
)
from couchdiscover.decide.identity import Drift
from couchdiscover.decide.volumes import Survey
from couchdiscover.errors import CouchdiscoverError, NotSo, Unsafe, UsageProblem
from couchdiscover.state.nodes import Identity, LoginRefused, NodeView
from couchdiscover.state.steps import Done, RewriteMap, SyncAdopted, SyncIdentity, Wait
from couchdiscover.state.volumes import FileInfo, Mark, ShardFile, ShardMap, Trace, Volume
from tests.support.decisions import refused
from tests.support.ground import (
    MAPS,
    OLD,
    RANGES,
    a_map,
    ground,
    new,
    old,
    settled,
    uuid,
    with_nodes,
)

FULL = FileInfo("f" * 32, 3, 0, 3)
STAGE = "couchdb@couchdb-0.couchdb.stage.svc.cluster.local"


def volume(node: NodeView) -> Volume:
    assert node.volume is not None
    return node.volume


def with_volumes(made: Ground, **by_pod: Mapping[str, Any]) -> Ground:
    """The same, with other volumes at some pods: ``couchdb_0`` and so on."""

    def changed(node: NodeView) -> NodeView:
        change = by_pod.get(node.pod.replace("-", "_"), {})
        return replace(node, volume=replace(volume(node), **change))

    return with_nodes(made, changed)


def refusal(made: Ground, error: type[CouchdiscoverError]) -> str:
    return refused(decide_adoption(made), error)


# --- what is refused --------------------------------------------------------------------------


def test_a_node_that_refuses_the_login_ends_it() -> None:
    made = ground()
    sights = (LoginRefused("couchdb-0", "couchdb-0 refuses the password"), *made.view.sights[1:])
    decision = decide_adoption(replace(made, view=replace(made.view, sights=sights)))
    assert "couchdb-0 refuses the password" in getattr(decision, "reason", "")


def test_one_volume_at_two_pods_is_refused() -> None:
    assert "copies of one volume" in refusal(ground(at=(0, 0, 1)), Unsafe)


def test_the_original_of_a_clone_is_told_of_it() -> None:
    made = settled()
    nodes = [
        replace(
            node,
            all_nodes=node.all_nodes | {STAGE},
            cluster_nodes=node.cluster_nodes | {STAGE},
            volume=replace(volume(node), mark=Mark(node.name, volume(node).uuid or "", {}, "2026")),
        )
        for node in made.view.nodes
    ]
    survey = Survey(nodes, made.topology.expected, {STAGE: Volume(uuid=uuid(0))})
    told = refusal(
        replace(made, view=replace(made.view, sights=tuple(nodes)), survey=survey), NotSo
    )
    assert f"{STAGE} runs on copies of volumes of this cluster" in told


def test_volumes_that_moved_onto_one_of_which_nothing_tells_are_refused() -> None:
    """Half a swap would name an older or a new volume for a full one, and call it done."""
    made = settled()
    swapped = {new(1): "couchdb-0"}

    def moved(node: NodeView) -> NodeView:
        found = volume(node)
        if node.pod != swapped[new(1)]:
            return replace(node, volume=replace(found, mark=None, traces=()))
        mark = Mark(new(1), found.uuid or "", {}, "2026-01-01")
        here = frozenset(file for file in found.files or ())
        infos = dict.fromkeys(here, FULL)
        return replace(node, volume=replace(found, mark=mark, infos=infos, maps=only(1)))

    def only(number: int) -> tuple[ShardMap, ...]:
        return (a_map("a", new(number)),)

    away = with_nodes(made, moved)
    away = with_nodes(away, lambda n: replace(n, volume=replace(volume(n), maps=only(1))))
    assert away.survey.permuted == {"couchdb-0": new(1)}
    told = refusal(away, Unsafe)
    assert "couchdb-1 gave its own away and has none of those" in told


def test_a_volume_that_is_its_pods_own_is_nobody_elses() -> None:
    made = ground((a_map("a", *OLD),))
    marked = with_nodes(
        made,
        lambda n: replace(
            n, volume=replace(volume(n), mark=Mark(n.name, volume(n).uuid or "", {}, "2026-01-01"))
        ),
    )
    told = replace(marked, wishes=Wishes({old(0): "couchdb-1"}))
    told = replace(told, survey=replace(told.survey, told=told.wishes.told))
    assert "is couchdb-1's own" in str(misused_names(told))


def test_maps_in_conflict_are_refused() -> None:
    maps = (*MAPS, replace(a_map("merged", *OLD), conflicting=True))
    assert "the shard maps of merged are in conflict" in refusal(ground(maps), Unsafe)


def test_maps_of_two_clusters_are_refused_and_waited_with_until_their_histories_are_read() -> None:
    def sides(*histories: Sequence[str], names: Callable[[int], str] = old) -> Ground:
        first, second = (
            (replace(a_map("a", names(n)), revision=r, history=tuple(h)),)
            for n, r, h in ((0, "1-a", histories[0]), (1, "2-b", histories[1]))
        )
        made = ground((a_map("a", *OLD[:2]),), at=(0, 1), listed=())
        return with_volumes(made, couchdb_0={"maps": first}, couchdb_1={"maps": second})

    told = refusal(sides(["1-a"], ["2-b", "1-b"]), Unsafe)
    assert "of two clusters: a" in told
    assert "put volumes of one cluster into this set" in told
    assert "on several nodes" not in told
    told = refusal(sides(["1-a"], ["2-b", "1-b"], names=new), Unsafe)
    assert "a was made on several nodes since they have these names" in told
    assert "put volumes of one cluster into this set" not in told
    decision = decide_adoption(sides([], []))
    assert isinstance(decision, Wait)
    assert "of one cluster" in str(*decision.reasons.values())


def test_nothing_tells_whose_volumes_these_were() -> None:
    made = with_nodes(
        ground((a_map("a", *OLD[:2]),), at=(0, 1)),
        lambda node: replace(node, volume=replace(volume(node), traces=(), uuid=node.pod)),
    )
    told = refusal(made, UsageProblem)
    assert f"nothing tells which volume was {old(0)}'s (and 1 more)" in told
    assert f"--from {old(0)}=POD" in told


def test_copies_of_volumes_that_changed_places_are_looked_at_first() -> None:
    decision = decide_adoption(ground(joined=True, shifts=None))
    assert isinstance(decision, Wait)
    assert "volumes that changed places" in str(*decision.reasons.values())


def test_copies_of_a_volume_that_came_back_are_named_nowhere() -> None:
    """The others were adopted without it; files of what is gone, or was made anew, are none."""
    named = a_map("a", new(0), new(1))
    gone, anew = ShardFile("gone", RANGES[0], ".1"), ShardFile("a", RANGES[0], ".2")
    split = ShardFile("a", "00000000-3fffffff", ".1")
    files = {*named.files(new(0)), gone, anew, split}
    made = with_volumes(
        with_nodes(settled(), lambda n: replace(n, volume=replace(volume(n), maps=(named,)))),
        couchdb_2={"files": frozenset(files)},
    )
    assert made.apart == {named.file(range_): (new(2),) for range_ in RANGES}
    whole = with_volumes(made, couchdb_2={"mark": Mark(new(2), uuid(2), {}, "2026-01-02")})
    others = with_volumes(
        whole,
        couchdb_0={"mark": Mark(new(0), uuid(0), {}, "2026-01-02")},
        couchdb_1={"mark": Mark(new(1), uuid(1), {}, "2026-01-02")},
    )
    assert not others.apart, "nothing is being adopted"


def test_security_that_differs_is_left_for_a_person() -> None:
    end = ending(replace(settled(), securities={"a": (new(0), new(1))}))
    assert end is not None
    assert end.error is NotSo
    assert f"a: _security is not the same on {new(0)}, {new(1)}" in end.reason


def test_members_that_do_not_list_each_other_are_waited_for_before_the_proof() -> None:
    made = with_nodes(settled(), lambda node: replace(node, cluster_nodes=frozenset({node.name})))
    decision = decide_adoption(made)
    assert isinstance(decision, Wait)
    assert "list" in str(decision.reasons["couchdb-0"])


# --- the plan ---------------------------------------------------------------------------------


def test_databases_that_changed_places_are_rewritten_and_none_has_fewer_copies() -> None:
    maps = (a_map("a", new(0), new(1)), a_map("b", new(1)))
    made = ground(maps, at=(0, 1), joined=True, listed=(), files=False)
    made = replace(made, shifts={"a": {RANGES[0]: (new(1),)}}, proof=None)
    assert (made.stale, made.refused, made.thinner) == (("a",), {}, ())
    assert foresee(made) == (RewriteMap("couchdb-0", "a"), SyncAdopted("couchdb-0", ("a",)))


def test_the_plan_of_what_is_refused_has_no_sync() -> None:
    made = ground((a_map("single", old(2)), a_map("a", *OLD)), at=(0, None, None), listed=())
    assert SyncAdopted not in {
        type(step) for step in foresee(replace(made, wishes=Wishes({}, "s*")))
    }


def test_the_plan_of_an_adoption_without_its_proof_is_to_go_on() -> None:
    assert foresee(replace(settled(), rewritten=frozenset({"a"}))) == (
        SyncAdopted("couchdb-0", ("a",)),
    )
    assert foresee(settled(marks=False)) == ()


def test_what_was_left_out_keeps_nothing_else_from_being_done() -> None:
    made = ground(joined=True, listed=(), wishes=Wishes(databases="none*"))
    decision = decide_adoption(made)
    assert isinstance(decision, Done)
    assert "_replicator, _users, a were not asked for" in decision.warnings[0]


def test_an_early_mark_is_left_once() -> None:
    made = ground()
    marks = early_marks(made)
    assert len(marks) == 3
    there = with_volumes(
        made, **{pod.replace("-", "_"): {"mark": mark} for pod, mark in marks.items()}
    )
    assert early_marks(there) == {}


def test_a_volume_of_a_pod_that_is_silent_gets_no_placement() -> None:
    made = ground(joined=True, documents={n: {"zone": "z"} for n in OLD} | {new(0): {}})
    kept = [step for step in foresee(made) if type(step).__name__ == "KeepPlacement"]
    assert [step.pod for step in kept] == ["couchdb-0"]
    away = replace(made, view=replace(made.view, sights=made.view.sights[1:]))
    assert not [step for step in foresee(away) if type(step).__name__ == "KeepPlacement"]


# --- what a person says -----------------------------------------------------------------------


def test_from_of_a_volume_that_has_no_file_of_that_name() -> None:
    made = ground((a_map("a", old(0)), a_map("b", old(1))), at=(0, 1))
    told = Survey(made.view.nodes, made.topology.expected, told={old(0): "couchdb-1"})
    problem = misused_names(replace(made, survey=told, wishes=Wishes({old(0): "couchdb-1"})))
    assert problem is not None
    assert f"no file of {old(0)}'s is on couchdb-1's volume" in problem


@pytest.mark.parametrize("certain", [True, False])
def test_from_against_all_evidence(certain: bool) -> None:
    """By history another volume was it; by files alone only where the other has more."""
    maps = (a_map("a", old(0), old(1)),)
    made = ground(maps, at=(0, 1))
    if not certain:
        made = with_volumes(
            made, couchdb_0={"traces": ()}, couchdb_1={"traces": (), "uuid": "another"}
        )
    told = {old(0): "couchdb-1"}
    survey = Survey(made.view.nodes, made.topology.expected, told=told)
    problem = misused_names(replace(made, survey=survey, wishes=Wishes(told)))
    if certain:
        assert problem is not None
        assert "was the volume of couchdb-0" in problem
    else:
        assert problem is None


def test_from_of_a_volume_with_the_same_files_is_for_a_person_to_say() -> None:
    """Where files are all that tells, those that hold the same ones may both be it."""
    made = with_volumes(ground((a_map("a", old(0), old(1)),), at=(0, 1)), couchdb_0={"traces": ()})
    told = {old(0): "couchdb-1"}
    survey = Survey(made.view.nodes, made.topology.expected, told=told)
    assert misused_names(replace(made, survey=survey, wishes=Wishes(told))) is None


# --- what is remarked -------------------------------------------------------------------------


def test_what_is_left_as_it_is_is_remarked() -> None:
    other = "couchdb@other-0.other.prod.svc.cluster.local"
    maps = (
        a_map("_replicator", *OLD),
        a_map("_users", *OLD),
        a_map("a", *OLD),
        a_map("b", *OLD, other),
    )
    found = {"_replicator": Replications(1, ("https://elsewhere/db",))}
    made = ground(
        maps,
        at=(0, 1, None),
        joined=True,
        replications=found,
        wishes=Wishes(databases="[_b]*", replications="hold"),
    )
    told = "\n".join(remarks(made))
    assert "_users, b have fewer copies than before" in told
    assert "_replicator are held" in told
    assert "a were not asked for" in told
    assert f"{other} are in shard maps, and neither alive" in told
    assert remarks(settled()) == ()


@pytest.mark.parametrize(
    ("uuids", "repaired", "said"),
    [
        (("u0", "u1"), True, "that of couchdb-0, which all nodes are given"),
        ((None, None), False, "a new one, since no node has any"),
        (("u0", "u0"), False, "the one that all nodes have"),
        (("u0", "u1"), False, "each node's own, since they differ"),
        ((), False, ""),
    ],
)
def test_by_which_uuid_replications_go(
    uuids: Iterable[str | None], repaired: bool, said: str
) -> None:
    found = {"_replicator": Replications(1, ("https://elsewhere/db",))}
    made = ground(replications=found, at=(0, 1), wishes=Wishes(replications="run"))
    identities = dict(zip(("couchdb-0", "couchdb-1"), uuids, strict=False))

    def identified(node: NodeView) -> NodeView:
        if node.pod not in identities:
            return node
        return replace(node, identity=Identity(uuid=identities[node.pod]))

    steps = (SyncIdentity("couchdb-1", "couchdb-0", ("uuid",)),) if repaired else ()
    told = uuid_remarks(with_nodes(made, identified), Drift(steps), repair=repaired)
    assert said in "".join(told)
    assert bool(told) is bool(said)


def test_former_names_by_address_are_of_one_set() -> None:
    by_address = [f"couchdb@10.0.0.{n}" for n in range(3)]
    shard_map = ShardMap("a", dict.fromkeys(RANGES, tuple(by_address)), suffix=".1", revision="1-a")
    made = ground((shard_map,), at=(0, 1), joined=True, listed=by_address)

    def held(node: NodeView) -> NodeView:
        number = int(node.pod[-1])
        trace = Trace(by_address[number], uuid(number), "2026-01-01")
        files = shard_map.files(by_address[number])
        return replace(node, volume=replace(volume(node), files=files, traces=(trace,)))

    assert with_nodes(made, held).dropped == {by_address[2]}
