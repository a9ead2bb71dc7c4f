"""Reading a node's volume: its files, maps, mark and history. What cannot be read is None."""

from collections.abc import Callable, Collection
from dataclasses import replace
from enum import Flag, auto
from functools import partial
from typing import TypeVar

from couchdiscover.couch.client import CouchFailure, CouchNode, ErrorAnswer, NoAnswer
from couchdiscover.state.nodes import SYSTEM_DATABASES
from couchdiscover.state.volumes import FileInfo, ShardFile, ShardMap, Volume

PAGE = 250
"""Shard maps in one answer: some 10 MB where each database has 64 ranges of three copies, and 90 ms
of CouchDB's CPU for every answer, since these paths hash the password anew."""

SYSTEM_FILES = 48
"""Files of system databases that are looked into at most: three databases of 16 ranges."""

Answer = TypeVar("Answer")


class Part(Flag):
    """What is to be read of a volume."""

    FILES = auto()
    HISTORY = auto()
    """The mark and CouchDB's own history: one request."""
    UUID = auto()
    MAPS = auto()
    FILLED = auto()
    """Which system databases have documents in a file of this node; needs the files."""

    ALL = FILES | HISTORY | UUID | MAPS | FILLED


def read_volume(client: CouchNode, parts: Part = Part.ALL, known: Volume | None = None) -> Volume:
    """Reads what is asked for of a node's own volume; the rest stays as it is ``known``.

    One request for each part; for the maps one for each ``PAGE`` of them, and for ``FILLED`` one
    for each file of a system database, ``SYSTEM_FILES`` at most. Raises nothing: what could not be
    read, or is too much for one answer, is None.
    """
    volume = known or Volume()
    if Part.FILES in parts:
        volume = replace(volume, files=_or_none(client.files))
    if Part.HISTORY in parts:
        answer = _or_none(client.mark_and_traces)
        mark, traces = answer if answer is not None else (None, None)
        volume = replace(volume, mark=mark, traces=traces)
    if Part.UUID in parts:
        info = _or_none(client.dbs_info)
        volume = replace(volume, uuid=info.uuid if info else None)
    if Part.MAPS in parts:
        maps = _or_none(lambda: read_maps(client))
        volume = replace(volume, maps=None if maps is None else tuple(maps))
    if Part.FILLED in parts:
        volume = replace(volume, filled=_filled(client, volume.files))
    return volume


def read_holdings(client: CouchNode) -> Volume:
    """A node's files, and which of the system databases among them hold documents."""
    volume = read_volume(client, Part.FILES)
    return read_volume(client, Part.FILLED, volume) if volume.files else volume


def read_maps(client: CouchNode) -> list[ShardMap]:
    """All shard maps that a node knows of, fewer at once where they are large.

    Raises CouchFailure.
    """
    maps: list[ShardMap] = []
    page = PAGE
    while True:
        try:
            found = client.shard_maps(page, after=maps[-1].database if maps else None)
        except NoAnswer as failure:
            if not failure.too_large or page == 1:
                raise
            page = max(1, page // 4)
            continue
        maps += found
        if len(found) < page:
            return [each for each in maps if not each.database.startswith("_design/")]


def read_histories(client: CouchNode, volume: Volume, databases: Collection[str]) -> Volume:
    """The volume with the revisions of some of its maps' documents: one request for each.

    A map that could not be read stays without a history, which is known for unknown.
    """
    if volume.maps is None:
        return volume
    maps = []
    for shard_map in volume.maps:
        read = shard_map
        if shard_map.database in databases and not shard_map.history:
            read = _or_none(partial(client.map_with_history, shard_map.database)) or shard_map
        maps.append(read)
    return replace(volume, maps=tuple(maps))


def read_infos(client: CouchNode, files: Collection[ShardFile]) -> dict[ShardFile, FileInfo | None]:
    """What single files of a node hold; None where one is not there.

    One request each. A file that could not be asked for is left out.
    """
    found: dict[ShardFile, FileInfo | None] = {}
    for file in sorted(files):
        try:
            found[file] = client.file_info(file)
        except ErrorAnswer as failure:
            if failure.status == 404 and failure.reason == "no_db_file":
                found[file] = None
        except CouchFailure:
            break  # the node is gone, and each further question would wait for its time
    return found


def _filled(client: CouchNode, files: frozenset[ShardFile] | None) -> frozenset[str] | None:
    if files is None:
        return None
    system = sorted(file for file in files if file.database in SYSTEM_DATABASES and file.range)
    if len(system) > SYSTEM_FILES:
        return None
    filled: set[str] = set()
    for file in system:
        if file.database in filled:
            continue
        answer = _or_none(partial(client.file_is_filled, file))
        if answer is None:
            return None
        if answer:
            filled.add(file.database)
    return frozenset(filled)


def _or_none(question: Callable[[], Answer]) -> Answer | None:
    try:
        return question()
    except CouchFailure:
        return None
