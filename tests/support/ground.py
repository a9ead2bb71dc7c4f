"""What an adoption stands on: a restored set, as one look shows it."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from couchdiscover.decide.ground import (
    Ground,
    Wishes,
)
from couchdiscover.decide.volumes import Survey
from couchdiscover.state.nodes import ClusterView, NodeView, SetupState
from couchdiscover.state.steps import Do
from couchdiscover.state.topology import Address, Pod, Topology
from couchdiscover.state.volumes import Mark, ShardMap, Trace, Volume

RANGES = ("00000000-7fffffff", "80000000-ffffffff")


def old(number: int) -> str:
    return f"couchdb@couchdb-{number}.couchdb.prod.svc.cluster.local"


def new(number: int) -> str:
    return f"couchdb@couchdb-{number}.couchdb.restored.svc.cluster.local"


def uuid(number: int) -> str:
    return f"{number:032x}"


def a_map(database: str, *names: str, revision: str = "1-a") -> ShardMap:
    return ShardMap(database, dict.fromkeys(RANGES, names), suffix=".1", revision=revision)


def document(shard_map: ShardMap, **more: Any) -> dict[str, Any]:
    by_node: dict[str, list[str]] = {}
    for range_, names in shard_map.by_range.items():
        for name in names:
            by_node.setdefault(name, []).append(range_)
    by_range = {range_: list(names) for range_, names in shard_map.by_range.items()}
    return {
        "_id": shard_map.database,
        "_rev": "1-a",
        "shard_suffix": [46, 49],
        "by_node": by_node,
        "by_range": by_range,
        **more,
    }


OLD = [old(n) for n in range(3)]
MAPS = (a_map("_users", *OLD), a_map("a", *OLD), a_map("_replicator", *OLD))


def ground(
    maps: Iterable[ShardMap] = MAPS,
    at: Sequence[int | None] = (2, 0, 1),
    *,
    joined: bool = False,
    listed: Iterable[str] = OLD,
    uptime: float | None = 100.0,
    documents: Mapping[str, Mapping[str, Any]] | None = None,
    wishes: Wishes = Wishes(),  # noqa: B008 - frozen
    files: bool = True,
    **changes: Any,
) -> Ground:
    """Former volumes, by their number, at pods of another namespace."""
    maps = tuple(maps)
    names = [new(n) for n in range(len(at))]
    traces = tuple(Trace(old(n), uuid(n), "2026-01-01") for n in range(5))
    views: list[NodeView] = []
    for number, was in enumerate(at):
        held = frozenset().union(*(m.files(old(was)) for m in maps)) if was is not None else ()
        volume = Volume(
            frozenset(held) if files else frozenset(),
            maps if was is not None or joined else (),
            uuid(was if was is not None else 50 + number),
            None,
            traces if was is not None else (),
        )
        own = names if joined else [names[number]]
        views.append(
            NodeView(
                f"couchdb-{number}",
                Address("10.0.0.1", 5984),
                names[number],
                SetupState.ENABLED,
                frozenset(own),
                frozenset([*own, *listed]),
                volume=volume,
            )
        )
    pods = tuple(Pod(f"couchdb-{n}", n, name.partition("@")[2]) for n, name in enumerate(names))
    topology = Topology("restored", "couchdb", "couchdb", pods)
    shown = documents if documents is not None else {name: {} for name in [*names, *listed]}
    return Ground(
        topology,
        ClusterView(tuple(views)),
        Survey(views, pods, told=wishes.told),
        documents={view.pod: shown for view in views},
        uptimes={view.pod: uptime for view in views},
        seeds={view.pod: frozenset() for view in views},
        wishes=wishes,
        **changes,
    )


def with_nodes(made: Ground, change: Any) -> Ground:
    """The same, with every node changed."""
    views = [change(node) for node in made.view.nodes]
    survey = Survey(views, made.topology.expected, made.survey.others, made.survey.told)
    return replace(made, view=ClusterView(tuple(views)), survey=survey)


def steps(decision: object) -> list[Any]:
    assert isinstance(decision, Do), decision
    return list(decision.steps)


def settled(*, marks: bool = True, was: Sequence[str] = ()) -> Ground:
    """Maps that name present names; marks still name the former ones."""
    names = [new(n) for n in range(3)]
    made = ground((a_map("a", *names),), at=(0, 1, 2), joined=True, listed=())

    def volume(node: NodeView) -> NodeView:
        assert node.volume is not None
        number = int(node.pod[-1])
        mark = Mark(old(number), uuid(number), {}, was=tuple(was)) if marks else None
        files = a_map("a", *names).files(node.name)
        return replace(node, volume=replace(node.volume, files=files, mark=mark))

    return with_nodes(made, volume)
