"""Which nodes a shard map is to name after an adoption: pure functions of maps and files."""

from collections.abc import Collection, Mapping, Sequence
from typing import Any

from couchdiscover.state.volumes import FileInfo, ShardFile, ShardMap


def new_ranges(
    shard_map: ShardMap,
    translation: Mapping[str, str],
    here: Mapping[str, Collection[ShardFile]],
    dropped: Collection[str],
) -> dict[str, tuple[str, ...]]:
    """Which nodes each range is to name.

    ``here`` are the nodes of ours with the files that may be named there. A name that is neither
    one of ours nor known to be nobody's stays: it is not for us to judge.
    """
    found = {}
    for range_, names in shard_map.by_range.items():
        present = dict.fromkeys(translation.get(name, name) for name in names)
        file = shard_map.file(range_)
        found[range_] = tuple(
            name
            for name in present
            if name not in dropped and (name not in here or file in here[name])
        )
    return found


def shifted_ranges(
    shard_map: ShardMap,
    moved: Mapping[str, str],
    apart: Mapping[ShardFile, Collection[str]],
    infos: Mapping[tuple[str, ShardFile], FileInfo | None],
    handed_on: Collection[tuple[ShardFile, str, str]],
) -> dict[str, tuple[str, ...]]:
    """Which nodes each range is to name after volumes changed places among nodes of today.

    ``moved`` says where a name's volume is now, ``apart`` which nodes have copies besides;
    ``infos`` are the files of all, by node's name; ``handed_on`` are copies, with a source and a
    target, that have nothing left to push. A swap looks alike both ways, since CouchDB makes
    missing named files and fills them from others. So nothing is merely exchanged: a copy that
    holds something stays named, one that is missing, or empty while another is not, gives way to
    the one that moved, and one that moved, or is there besides, and holds what it has handed on to
    nobody is named on top. Applied again it changes nothing.
    """
    found = {}
    for range_, names in shard_map.by_range.items():
        file = shard_map.file(range_)
        besides = apart.get(file, ())
        places = [name for each in names for name in (each, moved.get(each, each))]
        copies = {name: infos.get((name, file)) for name in (*places, *besides)}
        filled = {name for name, info in copies.items() if info is not None and not info.empty}
        whole = filled or {name for name, info in copies.items() if info is not None}
        chosen = dict.fromkeys(
            name
            for each in names
            for name in (each, moved.get(each, each))[: 1 if each in whole else 2]
            if name in whole
        )
        for other in (*(moved.get(each, each) for each in names), *besides):
            known = any((file, other, name) in handed_on for name in chosen)
            if other in filled and other not in chosen and not known:
                chosen[other] = None
        found[range_] = tuple(chosen) or tuple(names)
    return found


def whole_copies(
    shard_map: ShardMap,
    translation: Mapping[str, str],
    empty: Mapping[tuple[str, ShardFile], bool | None],
    ours: Collection[str],
) -> dict[str, frozenset[ShardFile]]:
    """The files of a database that its map may name, by node of ours.

    ``empty`` says of each file on each node whether it is empty; None where it is not there. One
    that is empty while another copy of the range is not is no copy: CouchDB makes a missing file by
    itself, empty, and does not refill it after a map was rewritten.
    """
    found: dict[str, set[ShardFile]] = {name: set() for name in ours}
    for range_, names in shard_map.by_range.items():
        file = shard_map.file(range_)
        present = {translation.get(name, name) for name in names} & set(ours)
        there = {name for name in present if empty.get((name, file)) is not None}
        filled = {name for name in there if empty[name, file] is False}
        for name in filled or there:
            found[name].add(file)
    return {name: frozenset(files) for name, files in found.items()}


def rewritten(
    document: Mapping[str, Any], ranges: Mapping[str, Sequence[str]]
) -> dict[str, Any] | None:
    """A map's document with other nodes; None where it names just these already.

    ``changelog``, which nobody reads, and keys of other versions are kept.
    """
    if {r: list(names) for r, names in ranges.items()} == document.get("by_range"):
        return None
    by_node: dict[str, list[str]] = {}
    for range_ in sorted(ranges):
        for name in ranges[range_]:
            by_node.setdefault(name, []).append(range_)
    kept = {
        key: value
        for key, value in document.items()
        if key not in ("_revisions", "_conflicts", "by_node", "by_range")
    }
    by_range = {range_: list(names) for range_, names in ranges.items()}
    return {**kept, "by_node": by_node, "by_range": by_range}
