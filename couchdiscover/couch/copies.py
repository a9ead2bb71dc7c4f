"""Reading what proves a copy: infos of files and checkpoints, bounded, each node by one thread."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TypeVar

from couchdiscover.couch.client import CouchFailure, CouchNode, ErrorAnswer
from couchdiscover.decide.copies import (
    LOOK_REQUESTS,
    Pair,
    Proof,
    Reading,
    checkpoint_name,
    purge_checkpoint_names,
)
from couchdiscover.net.workers import for_each
from couchdiscover.state.volumes import Checkpoint, FileInfo, ShardFile, ShardMap

Key = TypeVar("Key")
Answer = TypeVar("Answer")

SECONDS_A_REQUEST = 0.5
"""Seconds that a request may take on average, before a node's questions are given up: CouchDB
spends 90 ms on hashing the password for each of these."""


@dataclass(frozen=True, slots=True)
class Nodes:
    """Whom to ask, by Erlang name. ``patience`` is the least time, in seconds, for one round."""

    clients: Mapping[str, CouchNode]
    patience: float

    def ask(
        self, keys: Iterable[tuple[str, Key]], question: Callable[[CouchNode, Key], Answer]
    ) -> dict[tuple[str, Key], Answer]:
        """Answers by node and key; one that failed is left out, and so is what follows a silence.

        The nodes are asked at once, each its own questions one after the other.
        """
        queues: dict[str, list[Key]] = {}
        for name, key in dict.fromkeys(keys):
            if name in self.clients:
                queues.setdefault(name, []).append(key)
        names = list(queues)

        def work(name: str) -> list[tuple[Key, Answer]]:
            answers = []
            for key in queues[name]:
                try:
                    answers.append((key, question(self.clients[name], key)))
                except ErrorAnswer:
                    continue
                except CouchFailure:
                    break  # each further question would wait for its time, too
            return answers

        longest = max((len(queue) for queue in queues.values()), default=0)
        results = for_each(names, work, max(self.patience, SECONDS_A_REQUEST * longest))
        return {
            (name, key): answer
            for name, answers in zip(names, results, strict=True)
            for key, answer in answers or ()
        }


def look_at(proof: Proof, nodes: Nodes, requests: int = LOOK_REQUESTS) -> Proof:
    """One look at what is not proven yet, bounded by a number of requests."""
    return proof.noted(read_pairs(proof.batch(requests), nodes, purges=proof.purges))


def read_pairs(pairs: Sequence[Pair], nodes: Nodes, *, purges: bool = False) -> list[Reading]:
    """Reads both files of each pair and what they know of each other; raises nothing.

    Two requests for each copy, and one for each pair whose source has gone on since.
    """
    copies = {(name, pair.file) for pair in pairs for name in (pair.source, pair.target)}
    infos = read_files(nodes, sorted(copies))
    there = [copy for copy, info in infos.items() if info is not None and info.update_seq > 0]
    known = nodes.ask(there, lambda client, file: client.checkpoints(file))
    readings = [_reading(pair, infos, known, purges=purges) for pair in pairs]
    behind = [r for r in readings if r.source is not None and r.reached < r.source.update_seq]
    follows = nodes.ask(
        ((r.pair.source, (r.pair.file, r.reached)) for r in behind),
        lambda client, key: client.file_changes_after(*key),
    )
    return [
        replace(r, follows=follows.get((r.pair.source, (r.pair.file, r.reached)))) for r in readings
    ]


def _reading(
    pair: Pair,
    infos: Mapping[tuple[str, ShardFile], FileInfo | None],
    known: Mapping[tuple[str, ShardFile], Mapping[str, Checkpoint]],
    *,
    purges: bool,
) -> Reading:
    source, target = infos.get((pair.source, pair.file)), infos.get((pair.target, pair.file))
    if source is None or target is None:
        return Reading(pair, source, target)
    name = checkpoint_name(source.uuid, target.uuid)
    at_source = known.get((pair.source, pair.file), {})
    at_target = known.get((pair.target, pair.file), {})
    return Reading(
        pair,
        source,
        target,
        at_source.get(name),
        at_target.get(name),
        purges=_purges(at_source, source, target) if purges else None,
    )


def _purges(
    at_source: Mapping[str, Checkpoint], source: FileInfo, target: FileInfo
) -> Checkpoint | None:
    """How far the source's purges are known to be at the target."""
    found = (at_source.get(name) for name in purge_checkpoint_names(source.uuid, target.uuid))
    return max((each for each in found if each), key=lambda each: each.seq, default=None)


def differing_security(maps: Iterable[ShardMap], nodes: Nodes) -> dict[str, tuple[str, ...]]:
    """Databases whose ``_security`` is not the same on all nodes, by those that have a copy.

    One file a node tells: it is set on all of a node's files at once. What could not be read is
    left out.
    """
    wanted: dict[tuple[str, ShardFile], None] = {}
    for shard_map in maps:
        for name in sorted(shard_map.names & nodes.clients.keys()):
            wanted[name, min(shard_map.files(name))] = None
    read = nodes.ask(wanted, lambda client, file: client.file_security(file))
    found: dict[str, dict[str, str]] = {}
    for (name, file), security in read.items():
        found.setdefault(file.database, {})[name] = security
    return {
        database: tuple(sorted(each))
        for database, each in found.items()
        if len(set(each.values())) > 1
    }


def read_files(
    nodes: Nodes, files: Iterable[tuple[str, ShardFile]]
) -> dict[tuple[str, ShardFile], FileInfo | None]:
    """What files hold, by node's Erlang name; None where one is not there.

    A file that could not be asked for is left out.
    """
    return nodes.ask(files, _info_or_none)


def _info_or_none(client: CouchNode, file: ShardFile) -> FileInfo | None:
    try:
        return client.file_info(file)
    except ErrorAnswer as failure:
        if failure.status == 404 and failure.reason == "no_db_file":
            return None
        raise
