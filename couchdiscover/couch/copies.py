"""Reading what proves a copy: infos of files and checkpoints, bounded, each node by one thread."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeVar

from couchdiscover.couch.client import CouchFailure, CouchNode, ErrorAnswer
from couchdiscover.decide.copies import (
    LOOK_REQUESTS,
    Pair,
    Proof,
    Reading,
    checkpoint_name,
    purge_checkpoint_name,
)
from couchdiscover.net.workers import for_each
from couchdiscover.state.volumes import Checkpoint, FileInfo, ShardFile

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
    """Reads both files and their checkpoints of each pair; raises nothing."""
    infos = read_files(nodes, ((n, p.file) for p in pairs for n in (p.source, p.target)))
    names: dict[Pair, str] = {}
    for pair in pairs:
        source, target = infos.get((pair.source, pair.file)), infos.get((pair.target, pair.file))
        if source is not None and target is not None and source.update_seq > 0:
            names[pair] = checkpoint_name(source.uuid, target.uuid)
    wanted = [(n, (p.file, name)) for p, name in names.items() for n in (p.source, p.target)]
    checkpoints = nodes.ask(wanted, lambda client, key: client.checkpoint(*key))
    readings = []
    for pair in pairs:
        name = names.get(pair, "")
        readings.append(
            Reading(
                pair,
                infos.get((pair.source, pair.file)),
                infos.get((pair.target, pair.file)),
                checkpoints.get((pair.source, (pair.file, name))),
                checkpoints.get((pair.target, (pair.file, name))),
            )
        )
    return _deepened(readings, nodes, purges=purges)


def _deepened(readings: Sequence[Reading], nodes: Nodes, *, purges: bool) -> list[Reading]:
    """What follows the lower checkpoint, where it is behind, and how far purges were pushed."""
    behind = [
        reading
        for reading in readings
        if reading.source is not None and reading.reached < reading.source.update_seq
    ]
    follows = nodes.ask(
        ((r.pair.source, (r.pair.file, r.reached)) for r in behind),
        lambda client, key: client.file_changes_after(*key),
    )
    purged: dict[tuple[str, tuple[ShardFile, str]], Checkpoint | None] = {}
    purge_names = {
        reading.pair: purge_checkpoint_name(reading.source.uuid, reading.target.uuid)
        for reading in readings
        if purges
        and reading.source is not None
        and reading.target is not None
        and reading.source.purge_seq > 0
    }
    if purge_names:
        purged = nodes.ask(
            ((pair.source, (pair.file, name)) for pair, name in purge_names.items()),
            lambda client, key: client.checkpoint(*key),
        )
    return [
        Reading(
            reading.pair,
            reading.source,
            reading.target,
            reading.at_source,
            reading.at_target,
            follows.get((reading.pair.source, (reading.pair.file, reading.reached))),
            purged.get(
                (reading.pair.source, (reading.pair.file, purge_names.get(reading.pair, "")))
            ),
        )
        for reading in readings
    ]


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
