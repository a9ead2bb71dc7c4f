"""Who a volume was, and what it holds: by table and by property."""

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from couchdiscover.decide.volumes import Clone, Evidence, Former, Survey
from couchdiscover.state.nodes import NodeView, SetupState
from couchdiscover.state.topology import Address, Pod
from couchdiscover.state.volumes import FileInfo, Mark, ShardFile, ShardMap, Trace, Volume

RANGES = ("00000000-7fffffff", "80000000-ffffffff")
EARLY, LATE = "2026-01-01T00:00:00.000000Z", "2026-02-01T00:00:00.000000Z"


def old(number: int) -> str:
    return f"couchdb@couchdb-{number}.couchdb.prod.svc.cluster.local"


def new(number: int) -> str:
    return f"couchdb@couchdb-{number}.couchdb.restored.svc.cluster.local"


def pod(number: int) -> Pod:
    return Pod(f"couchdb-{number}", number, new(number).partition("@")[2])


def uuid(number: int) -> str:
    return f"{number:032x}"


def a_map(database: str, *holders: Sequence[str], revision: str = "1-a") -> ShardMap:
    """A map of two ranges; with one list of holders both are there."""
    lists = holders if len(holders) == 2 else (holders[0], holders[0])
    by_range = {r: tuple(names) for r, names in zip(RANGES, lists, strict=True)}
    return ShardMap(database, by_range, suffix=".1", revision=revision)


def trace(name: str, number: int, at: str = EARLY) -> Trace:
    return Trace(name, uuid(number), at)


@dataclass
class World:
    """Volumes of former nodes 0, 1, … at pods: ``at`` gives each pod's volume."""

    maps: Iterable[ShardMap]
    at: Mapping[int, int | None]
    name: Mapping[int, str] = field(default_factory=dict)
    history: bool = True
    marks: bool = False
    linked: bool = False

    def survey(self, told: Mapping[str, str] | None = None, expected: int | None = None) -> Survey:
        nodes = [self.node(number) for number in self.at]
        count = expected if expected is not None else len(nodes)
        return Survey(nodes, [pod(n) for n in range(count)], told=told or {})

    def node(self, number: int) -> NodeView:
        name = self.name.get(number, new(number))
        others = {self.name.get(n, new(n)) for n in self.at} if self.linked else set()
        return NodeView(
            f"couchdb-{number}",
            Address("10.0.0.1", 5984),
            name,
            SetupState.ENABLED,
            frozenset({name}),
            frozenset({name, *others}),
            volume=self.volume(number),
        )

    def volume(self, number: int) -> Volume:
        was = self.at[number]
        if was is None:
            return Volume(frozenset(), (), uuid(100 + number), None, (), frozenset())
        maps = tuple(self.maps)
        files = frozenset().union(*(each.files(old(was)) for each in maps))
        alone = {name for each in maps for name in each.names} == {old(was)}
        traces = tuple(trace(old(n), n) for n in range(9)) if self.history and not alone else ()
        mark = Mark(old(was), uuid(was), {old(n): (uuid(n),) for n in range(9)})
        filled = frozenset({"_users"})
        return Volume(files, maps, uuid(was), mark if self.marks else None, traces, filled)


ALL = [old(0), old(1), old(2)]
SPREAD = [a_map("db", [old(0)], [old(1)]), a_map("other", [old(1)], [old(2)]), a_map("_users", ALL)]


def formers(survey: Survey) -> dict[str, str]:
    return {name: former.pod for name, former in survey.former.items()}


# --- who it was -------------------------------------------------------------------------------


def test_history_tells_shuffled_volumes_apart_with_a_copy_of_everything_on_each() -> None:
    survey = World([a_map("db", ALL)], {0: 2, 1: 0, 2: 1}).survey()
    assert formers(survey) == {old(2): "couchdb-0", old(0): "couchdb-1", old(1): "couchdb-2"}
    assert {former.by for former in survey.former.values()} == {Evidence.HISTORY}
    assert not survey.untold
    assert not survey.disagreements
    assert survey.has_former_names
    assert not survey.lost


def test_recorded_histories_of_shuffled_volumes() -> None:
    recorded = Path(__file__).parents[1] / "recorded" / "files-3.5.2.json"
    exchanges = json.loads(recorded.read_text())
    cases = [e for e in exchanges if e["case"] == "volumes in another order"]
    nodes = []
    maps = (a_map("db", ALL),)
    for number in range(3):
        info, documents = cases[2 * number : 2 * number + 2]
        traces = tuple(
            Trace(entry[f"{side}_node"], entry[f"{side}_uuid"], entry["timestamp"])
            for row in documents["response"]["body"]["rows"]
            for entries in row["doc"]["history"].values()
            for entry in entries
            for side in ("source", "target")
        )
        view = World(maps, {number: 0}).node(number)
        own = info["response"]["body"]["uuid"]
        assert view.volume is not None
        nodes.append(replace(view, volume=replace(view.volume, uuid=own, traces=traces)))
    survey = Survey(nodes, [pod(n) for n in range(3)])
    assert formers(survey) == {old(2): "couchdb-0", old(0): "couchdb-1", old(1): "couchdb-2"}
    assert not survey.lost  # couchdb-1's had been, once: that uuid is nobody's any more


def test_the_mark_goes_before_the_history() -> None:
    survey = World([a_map("db", ALL)], {0: 0, 1: 1, 2: 2}, history=False, marks=True).survey()
    assert {f.by for f in survey.former.values()} == {Evidence.MARK}
    assert formers(survey) == {old(n): f"couchdb-{n}" for n in range(3)}


def test_without_history_files_tell_where_they_differ() -> None:
    survey = World(SPREAD, {0: 2, 1: 0, 2: 1}, history=False).survey()
    assert formers(survey) == {old(2): "couchdb-0", old(0): "couchdb-1", old(1): "couchdb-2"}
    assert {f.by for f in survey.former.values()} == {Evidence.FILES}


def test_where_nothing_tells_a_person_must() -> None:
    world = World([a_map("db", ALL)], {0: 2, 1: 0, 2: 1}, history=False)
    survey = world.survey()
    assert not survey.former
    pods = ("couchdb-0", "couchdb-1", "couchdb-2")
    assert survey.untold == dict.fromkeys(ALL, pods)
    assert survey.has_former_names
    told = world.survey({old(0): "couchdb-1", old(1): "couchdb-2", old(2): "couchdb-0"})
    assert {f.by for f in told.former.values()} == {Evidence.TOLD}
    assert not told.untold


def test_one_docker_node_among_fresh_pods() -> None:
    docker = "couchdb@127.0.0.1"
    maps = [a_map("db", [docker])]
    world = World(maps, {0: None, 1: None, 2: None})
    survey = world.survey()
    assert not survey.has_former_names
    nodes = [world.node(n) for n in range(3)]
    files = maps[0].files(docker)
    volume = Volume(files, tuple(maps), uuid(0), None, (), frozenset())
    nodes[0] = replace(nodes[0], volume=volume)
    survey = Survey(nodes, [pod(n) for n in range(3)])
    assert survey.former == {docker: Former(docker, "couchdb-0", Evidence.ONLY)}
    assert survey.fresh == {"couchdb-1", "couchdb-2"}


def test_two_of_three_volumes() -> None:
    survey = World([a_map("db", ALL)], {0: 0, 1: 1, 2: None}).survey()
    assert formers(survey) == {old(0): "couchdb-0", old(1): "couchdb-1"}
    assert survey.gone == {old(2)}
    assert not survey.untold


def test_names_by_address_over_several_restarts() -> None:
    """A database made between two restarts is under other names than an older one."""
    first = [f"couchdb@10.0.0.{n}" for n in range(3)]
    second = [f"couchdb@10.0.1.{n}" for n in range(3)]
    maps = (a_map("db", first), a_map("later", second))
    nodes = []
    traces = tuple(
        Trace(name, uuid(n), at)
        for names, at in ((first, EARLY), (second, LATE))
        for n, name in enumerate(names)
    )
    for number in range(3):
        view = World([], {number: None}).node(number)
        files = maps[0].files(first[number]) | maps[1].files(second[number])
        nodes.append(replace(view, volume=Volume(files, maps, uuid(number), None, traces)))
    survey = Survey(nodes, [pod(n) for n in range(3)])
    assert formers(survey) == {
        **{name: f"couchdb-{n}" for n, name in enumerate(first)},
        **{name: f"couchdb-{n}" for n, name in enumerate(second)},
    }
    assert not survey.disagreements


def test_a_drained_node_beside_a_name_that_is_gone_is_itself() -> None:
    """Its files lie there, no map names it, and the name in their maps is nobody's now."""
    view = World([a_map("db", [old(1)])], {0: 1}, history=False).node(0)
    assert view.volume is not None
    own = replace(view.volume, traces=(Trace(view.name, uuid(1), LATE),))
    survey = Survey([replace(view, volume=own)], [pod(0)])
    assert not survey.former
    assert not survey.untold
    assert survey.gone == {old(1)}
    marked = replace(view.volume, mark=Mark(view.name, uuid(1), {}), traces=())
    assert not Survey([replace(view, volume=marked)], [pod(0)]).has_former_names


def test_a_former_name_is_never_one_of_a_silent_pod_or_of_a_living_stranger() -> None:
    view = World([a_map("db", [new(1)])], {0: 0}, history=False).node(0)
    assert view.volume is not None
    files = a_map("db", [new(1)]).files(new(1))
    view = replace(view, volume=replace(view.volume, files=files))
    assert not Survey([view], [pod(0), pod(1)]).strange  # couchdb-1 is silent
    assert Survey([view], [pod(0)]).strange == {new(1)}
    connected = replace(view, all_nodes=frozenset({view.name, new(1)}))
    assert not Survey([connected], [pod(0)]).strange


def test_two_volumes_of_one_name_are_a_disagreement() -> None:
    survey = World([a_map("db", ALL)], {0: 0, 1: 0, 2: 2}).survey()
    assert old(0) not in survey.former
    assert len(survey.disagreements) == 1
    assert old(0) in survey.disagreements[0]
    assert [(c.pod, c.other) for c in survey.clones] == [("couchdb-0", new(1))]


def test_mark_and_history_that_differ_are_a_disagreement_until_a_person_tells() -> None:
    world = World([a_map("db", ALL)], {0: 0, 1: 1, 2: 2})
    nodes = [world.node(n) for n in range(3)]
    volume = nodes[0].volume
    assert volume is not None
    nodes[0] = replace(
        nodes[0], volume=replace(volume, mark=Mark(old(1), uuid(0), {}, "2026-01-01"))
    )
    pods = [pod(n) for n in range(3)]
    assert any("by its mark" in each for each in Survey(nodes, pods).disagreements)
    told = {old(0): "couchdb-0", old(1): "couchdb-1"}
    assert not Survey(nodes, pods, told=told).disagreements


def test_of_several_names_the_latest_that_maps_still_have_counts() -> None:
    view = World([a_map("db", ALL)], {0: 0}).node(0)
    assert view.volume is not None
    traces = (
        Trace("couchdb@ancient.example", uuid(0), EARLY),
        Trace(old(1), uuid(0), "2026-01-15T00:00:00Z"),
        Trace(view.name, uuid(0), LATE),
    )
    survey = Survey([replace(view, volume=replace(view.volume, traces=traces))], [pod(0)])
    assert formers(survey) == {old(1): "couchdb-0"}


def test_an_adopted_volume_has_no_former_name_though_history_holds_it() -> None:
    maps = [a_map("db", [new(0), new(1), new(2)])]
    nodes = []
    for number in range(3):
        view = World(maps, {number: None}).node(number)
        traces = (trace(old(number), number), trace(new(number), number, LATE))
        files = maps[0].files(new(number))
        nodes.append(replace(view, volume=Volume(files, tuple(maps), uuid(number), None, traces)))
    survey = Survey(nodes, [pod(n) for n in range(3)])
    assert not survey.has_former_names
    assert not survey.permuted
    assert not survey.lost


# --- changed places ---------------------------------------------------------------------------


def test_volumes_that_changed_places_under_present_names() -> None:
    names = {0: old(0), 1: old(1), 2: old(2)}
    survey = World(SPREAD, {0: 1, 1: 0, 2: 2}, name=names, linked=True).survey()
    assert survey.permuted == {"couchdb-0": old(1), "couchdb-1": old(0)}
    assert survey.moved() == {old(1): old(0), old(0): old(1)}
    assert survey.suspects.keys() == {"couchdb-0", "couchdb-1"}
    assert not survey.former
    assert not survey.lost
    blank = FileInfo("f", 0, 0, 0)
    read = [
        replace(
            node,
            volume=replace(
                survey.volumes[node.pod],
                infos=dict.fromkeys(survey.suspects.get(node.pod, ()), blank),
            ),
        )
        for node in survey.nodes
    ]
    assert not Survey(read, survey.expected).permuted  # CouchDB has made what is not named, empty


def test_volumes_that_changed_places_and_are_alike_are_as_good() -> None:
    names = {0: old(0), 1: old(1), 2: old(2)}
    survey = World([a_map("db", ALL)], {0: 1, 1: 0, 2: 2}, name=names, linked=True).survey()
    assert not survey.permuted
    assert not survey.lost
    marked = World([a_map("db", ALL)], {0: 1, 1: 0, 2: 2}, name=names, linked=True, marks=True)
    assert marked.survey().mismarked == {"couchdb-0": old(1), "couchdb-1": old(0)}


# --- files against maps -----------------------------------------------------------------------


def test_files_named_missing_and_unnamed() -> None:
    shard_map = a_map("db", [new(0)], [new(1)])
    view = World([shard_map], {0: None}).node(0)
    left = ShardFile("gone", RANGES[0], ".7")
    volume = Volume(frozenset({left}), (shard_map,), uuid(0), None, (), frozenset())
    files = Survey([replace(view, volume=volume)], [pod(0)]).files("couchdb-0")
    assert files is not None
    assert files.missing == {shard_map.file(RANGES[0])}
    assert files.unnamed == {left}


def test_what_was_not_read_is_unknown() -> None:
    view = replace(World([], {0: None}).node(0), volume=Volume())
    survey = Survey([view], [pod(0)])
    assert survey.files("couchdb-0") is None
    assert survey.own_data("couchdb-0") is None
    assert survey.unread == {"couchdb-0": ("its files", "its shard maps", "its history")}
    assert not survey.fresh
    assert not survey.unmarked


def test_own_data_is_judged_by_files_alone() -> None:
    view = World([], {0: None}).node(0)
    maps = (a_map("db", ALL), a_map("_users", ALL))

    def own(files: Iterable[str], filled: frozenset[str] | None) -> frozenset[str] | None:
        volume = Volume(
            frozenset(ShardFile(name, RANGES[0], ".1") for name in files), maps, filled=filled
        )
        return Survey([replace(view, volume=volume)], [pod(0)]).own_data("couchdb-0")

    assert own([], frozenset()) == frozenset()  # maps that name others are no holding
    assert own(["_users"], frozenset()) == frozenset()
    assert own(["_users"], frozenset({"_users"})) == {"_users"}
    assert own(["_users"], None) is None
    assert own(["_users", "db"], None) == {"db"}


def test_a_node_without_maps_of_its_own_is_judged_by_those_of_its_cluster() -> None:
    shard_map = a_map("db", [new(0), new(1)])
    world = World([], {0: None, 1: None}, linked=True)
    nodes = [world.node(0), world.node(1)]
    files = shard_map.files(new(0))
    volume = Volume(files, (shard_map,), uuid(0), None, (), frozenset())
    nodes[0] = replace(nodes[0], volume=volume)
    lost = Survey(nodes, [pod(0), pod(1)]).files("couchdb-1")
    assert lost is not None
    assert lost.missing == files
    strangers = [replace(node, cluster_nodes=frozenset({node.name})) for node in nodes]
    alone = Survey(strangers, [pod(0), pod(1)]).files("couchdb-1")
    assert alone is not None
    assert not alone.named


# --- the table of the mark --------------------------------------------------------------------


def whole(count: int = 3) -> list[NodeView]:
    """A whole cluster with histories and no marks."""
    names = [new(n) for n in range(count)]
    maps = (a_map("db", names),)
    traces = tuple(trace(name, n) for n, name in enumerate(names))
    world = World([], dict.fromkeys(range(count)), linked=True)
    return [
        replace(
            world.node(n),
            volume=Volume(maps[0].files(names[n]), maps, uuid(n), None, traces, frozenset()),
        )
        for n in range(count)
    ]


def with_volume(view: NodeView, **changes: object) -> NodeView:
    assert view.volume is not None
    return replace(view, volume=replace(view.volume, **changes))  # type: ignore[arg-type]


PODS = [pod(n) for n in range(3)]


def test_a_lost_volume_is_known_by_the_others_history_and_by_their_marks() -> None:
    nodes = whole()
    assert not Survey(nodes, PODS).lost
    lost = [nodes[0], with_volume(nodes[1], uuid=uuid(77), traces=()), nodes[2]]
    assert Survey(lost, PODS).lost == {"couchdb-1": "couchdb-0"}
    assert "couchdb-1" not in Survey(lost, PODS).unmarked
    mark = Mark(new(0), uuid(0), {new(1): (uuid(1),)})
    by_mark = [
        with_volume(nodes[0], traces=(), mark=mark),
        with_volume(nodes[1], uuid=uuid(77), traces=()),
        with_volume(nodes[2], traces=()),
    ]
    assert Survey(by_mark, PODS).lost == {"couchdb-1": "couchdb-0"}
    assert Survey([*by_mark[:1], nodes[1], *by_mark[2:]], PODS).lost == {}
    marked = with_volume(lost[1], mark=Mark(new(1), uuid(77), {}))
    assert not Survey([lost[0], marked, lost[2]], PODS).lost  # proven and marked since


def test_an_unread_history_is_no_sign_either_way() -> None:
    nodes = whole()
    unread = with_volume(nodes[1], uuid=uuid(77), traces=None)
    survey = Survey([nodes[0], unread, nodes[2]], PODS)
    assert not survey.lost
    assert "couchdb-1" not in survey.unmarked


def test_a_mark_of_another_dbs_counts_for_nothing() -> None:
    nodes = whole()
    stray = with_volume(nodes[1], mark=Mark(new(0), uuid(5), {}))
    survey = Survey([nodes[0], stray, nodes[2]], PODS)
    assert survey.mark("couchdb-1") is None
    assert not survey.mismarked


def test_a_foreign_mark_beside_a_missing_file_is_not_merely_to_be_renewed() -> None:
    whole = a_map("db", [new(0), new(1)])

    def marked(files: frozenset[ShardFile]) -> Survey:
        node = World([], {0: 0}).node(0)
        mark = Mark(old(0), uuid(0), {})
        return Survey([replace(node, volume=Volume(files, (whole,), uuid(0), mark, ()))], [pod(0)])

    assert marked(whole.files(new(0))).mismarked == {"couchdb-0": old(0)}
    assert not marked(frozenset()).mismarked


def test_of_a_name_that_a_person_has_told_no_two_volumes_are_asked() -> None:
    world = World(SPREAD, {0: 0, 1: 0, 2: 1})
    assert any(old(0) in told for told in world.survey().disagreements)
    assert not any(old(0) in t for t in world.survey({old(0): "couchdb-2"}).disagreements)


def test_volumes_lost_by_members_that_are_no_pods_of_ours() -> None:
    """By marks, or the history, of ours; one that tells nothing of itself is not called lost."""
    other, anew = new(7), uuid(50)

    def lost(theirs: Volume, seen: Sequence[str] = (), known: Sequence[Trace] = ()) -> bool:
        node = World([], {0: 0}).node(0)
        mark = Mark(new(0), uuid(0), {other: tuple(seen)} if seen else {}, EARLY)
        own = Volume(frozenset(), (), uuid(0), mark, tuple(known))
        survey = Survey([replace(node, volume=own)], [pod(0)], {other: theirs})
        return survey.lost_elsewhere == {other}

    bare = Volume(uuid=anew, traces=())
    assert lost(bare, known=[trace(other, 7)])
    assert lost(bare, seen=[uuid(7)])
    assert not lost(bare)  # nobody knew it with another volume
    assert not lost(bare, seen=[anew, uuid(7)], known=[trace(other, 7)])  # marked so since
    assert not lost(replace(bare, uuid=None), known=[trace(other, 7)])
    assert not lost(replace(bare, traces=None), known=[trace(other, 7)])
    own = replace(bare, mark=Mark(other, anew, {}, EARLY))
    assert not lost(own, known=[trace(other, 7)])  # it says so itself


def test_damage_under_its_own_mark() -> None:
    nodes = [with_volume(view, mark=Mark(view.name, uuid(n), {})) for n, view in enumerate(whole())]
    assert not Survey(nodes, PODS).damaged
    assert nodes[1].volume is not None
    files = sorted(nodes[1].volume.files or ())
    missing = with_volume(nodes[1], files=frozenset(files[1:]))
    assert Survey([nodes[0], missing, nodes[2]], PODS).damaged == {"couchdb-1": {files[0]}}
    full, empty = FileInfo("u", 5, 0, 5), FileInfo("v", 0, 0, 0)
    hollow = [
        with_volume(nodes[0], infos={files[0]: full, files[1]: empty}),
        with_volume(nodes[1], infos={files[0]: empty, files[1]: empty}),
        nodes[2],
    ]
    assert Survey(hollow, PODS).damaged == {"couchdb-1": {files[0]}}
    assert not Survey(hollow, PODS).lacking


def test_copies_that_an_unmarked_volume_lacks() -> None:
    nodes = [with_volume(view, mark=None, traces=()) for view in whole()]
    assert not Survey(nodes, PODS).lacking
    assert nodes[1].volume is not None
    files = sorted(nodes[1].volume.files or ())
    full, empty = FileInfo("u", 5, 0, 5), FileInfo("v", 0, 0, 0)
    hollow = [
        with_volume(nodes[0], infos={files[0]: full, files[1]: empty}),
        with_volume(nodes[1], infos={files[0]: empty, files[1]: empty}),
        with_volume(nodes[2], files=frozenset(files[1:])),
    ]
    assert Survey(hollow, PODS).lacking == {"couchdb-1": {files[0]}, "couchdb-2": {files[0]}}


def test_a_clone_shares_the_dbs_and_may_be_a_stranger() -> None:
    nodes = whole()
    others = {old(7): Volume(uuid=uuid(1)), old(8): Volume(uuid=uuid(8)), old(9): Volume()}
    survey = Survey(nodes, PODS, others=others)
    assert survey.clones == (Clone("couchdb-1", old(7), uuid(1)),)


def test_merged_maps() -> None:
    nodes = whole()
    conflict = replace(a_map("db", [new(0)]), conflicting=True)
    assert Survey([with_volume(nodes[0], maps=(conflict,))], PODS).merged == ("db",)


# --- two clusters -----------------------------------------------------------------------------


def apart(*maps: ShardMap) -> Survey:
    world = World([], dict.fromkeys(range(len(maps))))
    nodes = [with_volume(world.node(n), maps=(each,)) for n, each in enumerate(maps)]
    return Survey(nodes, [pod(n) for n in range(len(maps))])


def test_unrelated_maps_of_one_name_are_two_clusters() -> None:
    left, right = a_map("db", [old(0)], revision="1-a"), a_map("db", [old(1)], revision="1-b")
    assert apart(left, right).differing() == ("db",)
    assert apart(left, right).unrelated is None  # as long as nobody read their histories
    left, right = replace(left, history=("1-a",)), replace(right, history=("1-b",))
    assert apart(left, right).unrelated == ("db",)
    assert apart(left, left).unrelated == ()


def test_a_database_made_anew_is_the_same_database() -> None:
    first = replace(a_map("db", [old(0)], revision="1-a"), history=("1-a",))
    again = replace(
        a_map("db", [old(0)], revision="3-c"), suffix=".2", history=("3-c", "2-b", "1-a")
    )
    assert apart(first, again).unrelated == ()
    fork = replace(a_map("db", [old(0)], revision="2-x"), history=("2-x", "1-a"))
    assert apart(fork, again).unrelated == ("db",)


# --- properties -------------------------------------------------------------------------------


@st.composite
def worlds(draw: st.DrawFn) -> World:
    count = draw(st.integers(1, 4))
    holders = st.lists(st.integers(0, count - 1), min_size=1, max_size=count, unique=True)
    lists = draw(st.lists(st.tuples(holders, holders), min_size=1, max_size=4))
    maps = [
        a_map(f"db{n}", *([old(i) for i in each] for each in pair)) for n, pair in enumerate(lists)
    ]
    places = draw(st.permutations(range(count)))
    kept = draw(st.lists(st.booleans(), min_size=count, max_size=count))
    at = {n: place if kept[n] else None for n, place in enumerate(places)}
    return World(maps, at, history=draw(st.booleans()), marks=draw(st.booleans()))


@given(worlds())
def test_never_two_volumes_to_one_name_and_never_a_wrong_one(world: World) -> None:
    survey = world.survey()
    for name, former in survey.former.items():
        place = world.at[int(former.pod[-1])]
        assert place is not None
        assert name == old(place)
    assert len(set(survey.translation().values())) == len(survey.translation())


@given(worlds())
def test_every_strange_name_is_former_untold_or_gone(world: World) -> None:
    survey = world.survey()
    kinds = [survey.former.keys(), survey.untold.keys(), survey.gone]
    assert sorted(name for kind in kinds for name in kind) == sorted(survey.strange)
    volumes = {old(place) for place in world.at.values() if place is not None}
    held = {name for name in survey.strange & volumes if survey.named_files(name)}
    assert not held & survey.gone  # a name whose files lie here is never called gone


@given(worlds())
def test_marks_and_histories_tell_all(world: World) -> None:
    world.marks = True
    survey = world.survey()
    there = {old(place) for place in world.at.values() if place is not None}
    assert survey.former.keys() == survey.strange & there
    assert not survey.untold
    assert not survey.disagreements
