"""When a shard copy is complete, and which copies are worth a look. Pure.

CouchDB fills a copy by itself and nothing reports the end of it: ``internal_replication_jobs`` is 0
in the midst of a fill (measured on 3.5.2). What tells is, for each pair of copies, how far the
source was pushed to the target: both keep a checkpoint of it under one name (CouchDB's source,
src/mem3/src/mem3_rep.erl, ``calculate_start_seq``: it resumes from the lower of the two).
"""

import base64
import hashlib
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace

from couchdiscover.state.nodes import SYSTEM_DATABASES
from couchdiscover.state.volumes import Checkpoint, FileInfo, ShardFile, ShardMap

SAMPLE_COPIES = 100
"""Copies of a node without a mark that are looked at, on top of those of the system databases."""

MARKED_COPIES = 10
"""The same of a node whose mark says that it is itself: CouchDB may have made a file anew since.
Few, since it spends 90 ms on each question (it hashes the password for these paths)."""

LOOK_REQUESTS = 1_000
"""Requests of one look at copies; what is left is for the next."""

MOVE_SHARDS = 'CouchDB\'s manual, "Shard Management", tells how to move shards'

PURGES_KEPT = 1_000
"""How many purges CouchDB keeps of a copy, to hand them on, unless it is told otherwise
(``_purged_infos_limit``)."""

LISTS_PURGES = (3, 4)
"""The first release that lists what was purged (``GET /{db}/_purged_infos``)."""

PAIR_REQUESTS = 5
"""Requests that a pair takes at most: two for each copy, and one for what follows."""


@dataclass(frozen=True, slots=True, order=True)
class Pair:
    """Two copies of one range, by the Erlang names of their nodes."""

    file: ShardFile
    source: str
    target: str


@dataclass(frozen=True, slots=True)
class Reading:
    """What was read of a pair in one look; what could not be read, or was not asked, is None.

    ``at_source`` and ``at_target`` are the two checkpoints, None also where there is none yet: then
    nothing is known to have been pushed. ``follows`` is whether the source has a change after the
    lower one. ``purges`` is how far the source's purges were pushed.
    """

    pair: Pair
    source: FileInfo | None = None
    target: FileInfo | None = None
    at_source: Checkpoint | None = None
    at_target: Checkpoint | None = None
    follows: bool | None = None
    purges: Checkpoint | None = None

    @property
    def reached(self) -> int:
        """The source's sequence that was pushed for certain."""
        if self.at_source is None or self.at_target is None:
            return 0
        return min(self.at_source.seq, self.at_target.seq)

    @property
    def rolled_back(self) -> bool:
        """Whether the target is an older state of itself.

        The source's history says which ``update_seq`` this very file, by its uuid, had; counters of
        two nodes are never compared. Changes heal by themselves; purges do not, since the source
        remembers to have pushed them.
        """
        if self.target is None or self.at_source is None:
            return False
        return self.at_source.reached > self.target.update_seq

    @property
    def lacks_purges(self) -> bool:
        """Whether the target knows of fewer purges than it was handed.

        Each counts once (src/couch/src/couch_db_updater.erl, ``purge_docs``). So it is an older
        state of itself; or the range was split since, or the source had had more purges than
        CouchDB keeps by the time that the copy was filled.
        """
        if self.target is None or self.purges is None:
            return False
        return self.purges.seq > self.target.purge_seq


@dataclass(frozen=True)
class Proof:
    """The pairs that are to be proven, and what was found so far. It grows from look to look.

    ``baseline`` is the source's ``update_seq`` at the first look: what is written later is no
    longer the point. ``purges`` asks for purges, too: needed where copies are of different moments,
    and not where a copy began empty.
    """

    pairs: tuple[Pair, ...]
    purges: bool = False
    without_source: tuple[tuple[str, ShardFile], ...] = ()
    """Copies, by Erlang name, that no answering copy of the range can prove: their range is gone
    where none was spared."""
    proven: frozenset[Pair] = frozenset()
    baseline: Mapping[Pair, tuple[int, int]] = field(default_factory=dict)
    reached: Mapping[Pair, int] = field(default_factory=dict)
    rolled_back: frozenset[Pair] = frozenset()
    looked_at: frozenset[Pair] = frozenset()
    seen: frozenset[Pair] = frozenset()
    """Pairs of which both copies were read at least once."""
    suspected: Mapping[Pair, tuple[FileInfo, FileInfo]] = field(default_factory=dict)
    """Pairs that are pushed both ways and hold different numbers of documents, as they were."""
    uneven: frozenset[Pair] = frozenset()
    """Those that were just so twice: what was purged on one is still there on the other."""
    lagging: frozenset[Pair] = frozenset()
    """Those whose target lacks purges that it was handed, as they were at the last look."""
    surplus: frozenset[Pair] = frozenset()
    """Those whose target held more documents than the source at the last look."""
    origin: frozenset[Pair] = frozenset()
    """The pairs that there were at first, where others have come since."""
    handed_on: frozenset[Pair] = frozenset()
    """Those whose purges were handed on anew: what the target lacks of them is no sign now."""

    @property
    def in_doubt(self) -> bool:
        """Whether some pair wants another look: it may have been a write on its way."""
        return bool(self.suspected or self.lagging)

    @property
    def surveyed(self) -> bool:
        """Whether every pair was read at least once."""
        return self.seen >= frozenset(self.pairs)

    @property
    def open(self) -> tuple[Pair, ...]:
        """The pairs that are not proven yet; those that were not looked at for longest first."""
        left = [pair for pair in self.pairs if pair not in self.proven]
        return tuple(sorted(left, key=lambda pair: (pair in self.looked_at, pair)))

    @property
    def complete(self) -> bool:
        """Whether every pair is proven."""
        return not self.open

    def over(self, pairs: "Proof") -> "Proof":
        """What was found so far, of the pairs that are to be proven now.

        Nodes come and go, and databases are made and deleted, while copies are being filled.
        """
        now = frozenset(pairs.pairs)
        return replace(
            pairs,
            proven=self.proven & now,
            baseline={pair: seen for pair, seen in self.baseline.items() if pair in now},
            reached={pair: seq for pair, seq in self.reached.items() if pair in now},
            rolled_back=self.rolled_back & now,
            handed_on=self.handed_on & now,
            origin=self.origin or frozenset(self.pairs),
            looked_at=self.looked_at & now,
        )

    def batch(self, requests: int = LOOK_REQUESTS) -> tuple[Pair, ...]:
        """The pairs of the next look, bounded by the requests that they may take."""
        ordered = self.open
        size = max(1, requests // PAIR_REQUESTS)
        while size < len(ordered) and ordered[size].file == ordered[size - 1].file:
            size -= 1  # all pairs of one range belong together
            if size == 0:
                return ordered[: max(1, requests // PAIR_REQUESTS)]
        return ordered[:size]

    def noted(self, readings: Iterable[Reading]) -> "Proof":
        """The same, richer by what one look has read."""
        readings = list(readings)
        baseline, reached = dict(self.baseline), dict(self.reached)
        proven, rolled_back = set(self.proven), set(self.rolled_back)
        seen, read = set(), set(self.seen)
        for reading in readings:
            pair = reading.pair
            seen.add(pair)
            if reading.source is None or reading.target is None:
                continue  # it does not answer, or the file is not there (yet)
            read.add(pair)
            baseline.setdefault(pair, (reading.source.update_seq, reading.source.purge_seq))
            reached[pair] = max(reading.reached, reached.get(pair, 0))
            if reading.rolled_back:
                rolled_back.add(pair)
            if self._proves(reading, *baseline[pair]):
                proven.add(pair)
        suspected, uneven = self._compare(readings)
        lagging = self._lagging(readings)
        proven -= suspected.keys() | uneven | lagging
        looked_at = self.looked_at | seen
        if all(pair in looked_at for pair in self.pairs if pair not in proven):
            looked_at = frozenset()  # the next round begins
        return replace(
            self,
            proven=frozenset(proven),
            baseline=baseline,
            reached=reached,
            rolled_back=frozenset(rolled_back),
            looked_at=looked_at,
            seen=frozenset(read),
            suspected=suspected,
            uneven=uneven,
            lagging=lagging,
            surplus=self._surplus(readings),
        )

    def _compare(
        self, readings: Iterable[Reading]
    ) -> tuple[dict[Pair, tuple[FileInfo, FileInfo]], frozenset[Pair]]:
        """Pairs that have nothing left to push, either way, and are not alike all the same.

        CouchDB forgets at its next push that a copy was ahead once (``add_checkpoint`` drops what
        is above the present sequences), so that an older state of itself is told by its content
        only. Where both sides stood still between two looks it is no write on its way.
        """
        suspected, uneven = dict(self.suspected), set(self.uneven)
        if not self.purges:
            return {}, frozenset()
        known = {reading.pair: reading for reading in readings}
        for pair, reading in known.items():
            back = known.get(Pair(pair.file, pair.target, pair.source))
            source, target = reading.source, reading.target
            before = suspected.pop(pair, None)
            if back is None or source is None or target is None:
                continue
            alike = (source.documents, source.deleted) == (target.documents, target.deleted)
            if alike or not (pushed(reading) and pushed(back)):
                uneven.discard(pair)
            elif before == (source, target):
                uneven.add(pair)
            else:
                suspected[pair] = (source, target)
        return suspected, frozenset(uneven)

    def _lagging(self, readings: Iterable[Reading]) -> frozenset[Pair]:
        """Pairs whose target lacks purges, as they are now.

        The only sign that lasts: what was purged goes from the older copy to all others, and then
        all are alike, with nothing left to push (measured on 3.5.2).
        """
        found = set(self.lagging)
        for reading in readings if self.purges else ():
            if reading.lacks_purges and reading.pair not in self.handed_on:
                found.add(reading.pair)
            else:
                found.discard(reading.pair)
        return frozenset(found)

    def _surplus(self, readings: Iterable[Reading]) -> frozenset[Pair]:
        found = set(self.surplus)
        for reading in readings:
            source, target = reading.source, reading.target
            found.discard(reading.pair)
            if source is not None and target is not None and target.documents > source.documents:
                found.add(reading.pair)
        return frozenset(found)

    def _proves(self, reading: Reading, update_seq: int, purge_seq: int) -> bool:
        if self.purges and purge_seq and not self._purged(reading, purge_seq):
            return False
        if update_seq == 0 or reading.reached >= update_seq:
            return True
        source, target = reading.source, reading.target
        if source is not None and source == target:
            # Copied files, of one uuid: while they are alike nothing is pushed, and nothing noted.
            return True
        # Purges and _security raise update_seq without a change that could be pushed.
        return reading.follows is False

    @staticmethod
    def _purged(reading: Reading, purge_seq: int) -> bool:
        return reading.purges is not None and reading.purges.seq >= purge_seq

    def knowing_less(self, pairs: Iterable[Pair]) -> frozenset[tuple[str, ShardFile]]:
        """Copies, by their nodes' Erlang names, that know of fewer purges than another of theirs.

        Each copy is handed every purge once. So such a one still takes what it does not know, also
        where its fellows have forgotten whom they handed it to.
        """
        known = {(p.source, p.file): self.baseline[p][1] for p in pairs if p in self.baseline}
        most: dict[ShardFile, int] = {}
        for (_, file), count in known.items():
            most[file] = max(count, most.get(file, 0))
        return frozenset(copy for copy, count in known.items() if count < most[copy[1]])

    def progress(self) -> tuple[int, int]:
        """Grows while copies are being filled; databases that are made meanwhile do not count."""
        origin = self.origin or frozenset(self.pairs)
        reached = sum(seq for pair, seq in self.reached.items() if pair in origin)
        return len(self.proven & origin), reached

    def left(self) -> Mapping[str, tuple[ShardFile, ...]]:
        """The copies that are not proven yet, by the Erlang name of their node."""
        found: dict[str, set[ShardFile]] = {}
        for pair in self.open:
            found.setdefault(pair.target, set()).add(pair.file)
        return {name: tuple(sorted(files)) for name, files in sorted(found.items())}

    def total(self, name: str) -> int:
        """How many copies of a node are to be proven, those without a source included."""
        proving = {pair.file for pair in self.pairs if pair.target == name}
        return len(proving | {file for target, file in self.without_source if target == name})


def pushed(reading: Reading) -> bool:
    """Whether a source has nothing left to push to its target, as they stand now."""
    source = reading.source
    if source is None:
        return False
    return reading.reached >= source.update_seq or reading.follows is False


@dataclass(frozen=True)
class Loss:
    """What was lost: whole ``volumes``, by Erlang name, and single ``copies`` of others."""

    volumes: frozenset[str] = frozenset()
    copies: Mapping[str, frozenset[ShardFile]] = field(default_factory=dict)

    def has(self, name: str, file: ShardFile) -> bool:
        """Whether this node's copy was lost."""
        return name in self.volumes or file in self.copies.get(name, ())


def lacking_purges(proof: Proof, maps: Iterable[ShardMap], *, listed: bool) -> frozenset[str]:
    """Databases with a copy that is an older state of itself for certain, by its purges.

    Not where a range was split, and not where a source had more purges than CouchDB keeps. Where
    all are alike nothing but CouchDB's list of what was purged (``listed``) leads out of it.
    """
    split = {each.database for each in maps if each.split}
    return frozenset(
        pair.file.database
        for pair in proof.lagging
        if pair.file.database not in split
        and proof.baseline[pair][1] <= PURGES_KEPT
        and (listed or pair in proof.surplus)
    )


def refilled(
    maps: Iterable[ShardMap],
    loss: Loss,
    answering: Collection[str],
    targets: Mapping[str, Collection[ShardFile] | None],
) -> Proof:
    """The proof that the copies of nodes which lost some are complete again.

    From every copy of the range that was never lost and answers, and from one at least: two lost
    ones do not prove each other. ``targets`` are the nodes that it is about, each with the copies
    in question, which are all of them where that is None.
    """
    pairs: list[Pair] = []
    without: list[tuple[str, ShardFile]] = []
    for file, names in _ranges(maps):
        sources = [name for name in names if name in answering and not loss.has(name, file)]
        for target in names:
            concerned = targets.get(target, ())
            if concerned is None or file in concerned:
                pairs += [Pair(file, source, target) for source in sources if source != target]
                without += [] if sources or not loss.has(target, file) else [(target, file)]
    return Proof(tuple(pairs), without_source=tuple(without))


def equal(maps: Iterable[ShardMap], names: Collection[str]) -> Proof:
    """The proof that all copies on these nodes hold the same: each is pushed to each other one."""
    pairs = [
        Pair(file, source, target)
        for file, holders in _ranges(maps)
        for source in holders
        for target in holders
        if source != target and {source, target} <= set(names)
    ]
    return Proof(tuple(pairs), purges=True)


def _ranges(maps: Iterable[ShardMap]) -> Iterator[tuple[ShardFile, tuple[str, ...]]]:
    for shard_map in sorted(maps, key=lambda each: each.database):
        for range_, names in sorted(shard_map.by_range.items()):
            yield shard_map.file(range_), tuple(dict.fromkeys(names))


def lost_ranges(proof: Proof, maps: Iterable[ShardMap], loss: Loss) -> frozenset[str]:
    """Databases with a range whose only copies were lost: what it held is gone."""
    names = dict(_ranges(maps))
    return frozenset(
        file.database
        for _, file in proof.without_source
        if all(loss.has(name, file) for name in names.get(file, ()))
    )


def unsourced(
    proof: Proof, maps: Iterable[ShardMap], loss: Loss
) -> Mapping[str, tuple[ShardFile, ...]]:
    """Copies, by Erlang name, whose other copies were not lost, and do not answer now."""
    names = dict(_ranges(maps))
    found: dict[str, list[ShardFile]] = {}
    for target, file in proof.without_source:
        if not all(loss.has(name, file) for name in names.get(file, ())):
            found.setdefault(target, []).append(file)
    return {name: tuple(sorted(files)) for name, files in sorted(found.items())}


# --- copies on members ------------------------------------------------------------------------


def fewest_copies(shard_map: ShardMap, members: Collection[str]) -> int:
    """How many copies of the range that has the fewest are on members."""
    ranges = shard_map.by_range.values()
    return min((len(set(members) & set(holders)) for holders in ranges), default=0)


def copies_lost(shard_map: ShardMap, members: Collection[str], *, placed: bool) -> bool:
    """Whether a range has fewer copies on members than its map names, or none.

    A map that names more copies than there are members has lost none while every member has one;
    where [cluster] placement spreads them (``placed``), each that is named counts.
    """
    named = min((len(set(holders)) for holders in shard_map.by_range.values()), default=0)
    had = named if placed else min(named, len(members))
    fewest = fewest_copies(shard_map, members)
    return fewest == 0 or fewest < had


def lost_by_number(
    maps: Iterable[ShardMap], members: Collection[str], *, placed: bool
) -> Mapping[int, list[str]]:
    """Databases that have lost copies, by how many are left of the range that has the fewest."""
    found: dict[int, list[str]] = {}
    for each in maps:
        if copies_lost(each, members, placed=placed):
            found.setdefault(fewest_copies(each, members), []).append(each.database)
    return found


def told_copies(count: int) -> str:
    """A number of copies, in words."""
    return f"{count} {'copy' if count == 1 else 'copies'}" if count else "no copy"


def lost_copies_note(names: str, count: int) -> str:
    """What there is to say of databases of which a range has only ``count`` copies left."""
    gone = ", and what they held cannot be read" if count == 0 else ""
    return (
        f"{names}: {told_copies(count)} on members, of some range at least, fewer than the shard "
        f"map names{gone}; {MOVE_SHARDS}"
    )


def security_note(databases: Mapping[str, Collection[str]]) -> str:
    """What there is to say of databases whose ``_security`` differs between nodes."""
    nodes = sorted({name for names in databases.values() for name in names})
    return (
        f"{', '.join(sorted(databases)[:5])}{' and more' if len(databases) > 5 else ''}: _security "
        f"is not the same on {', '.join(nodes)}, so that who may read depends on the node; CouchDB "
        "takes that of the majority by itself, and there is none: PUT /{db}/_security with what is "
        "right"
    )


# --- samples ----------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Sample:
    """Copies of a node that are looked at, and how many more there are."""

    files: tuple[ShardFile, ...]
    left_out: int


def sample(named: Collection[ShardFile], limit: int = SAMPLE_COPIES) -> Sample:
    """Which of a node's named copies are looked at: system databases, then ``limit`` others.

    Spread evenly over the rest by name, so that the same are looked at each time.
    """
    system = sorted(file for file in named if file.database in SYSTEM_DATABASES)
    rest = sorted(file for file in named if file.database not in SYSTEM_DATABASES)
    if len(rest) > limit:
        chosen = [rest[number * len(rest) // limit] for number in range(limit)]
    else:
        chosen = rest
    return Sample((*system, *chosen), len(rest) - len(chosen))


# --- checkpoints ------------------------------------------------------------------------------


def checkpoint_name(source: str, target: str) -> str:
    """The local document, on both nodes, that says how far one file was pushed to another.

    The arguments are the files' uuids. CouchDB hashes each as an Erlang binary in external term
    format (src/mem3/src/mem3_rep.erl, ``local_id_hash``).
    """
    return f"_local/shard-sync-{_term_hash(source)}-{_term_hash(target)}"


def purge_checkpoint_names(source: str, target: str) -> tuple[str, str]:
    """The local documents, at the source, that say how far the target has its purges.

    Those that were pushed, and, before CouchDB 3.5.2, those that the target has fetched by itself,
    under what is the name of its own (``load_purge_infos_rpc`` in src/mem3/src/mem3_rpc.erl).
    """
    return f"_local/purge-mem3-{source}-{target}", f"_local/purge-mem3-{target}-{source}"


def _term_hash(uuid: str) -> str:
    term = b"\x83m" + len(uuid).to_bytes(4, "big") + uuid.encode()
    digest = hashlib.md5(term, usedforsecurity=False).digest()
    return base64.urlsafe_b64encode(digest).decode().rstrip("=")
