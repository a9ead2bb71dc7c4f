"""CouchDB's internal replication: ``_dbs`` in a ring, the copies of a shard among each other.

What it does, and the checkpoints that it leaves, as read in CouchDB's source (src/mem3:
mem3_sync, mem3_rep, mem3_rpc) and seen on real nodes.
"""

from bisect import bisect
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from itertools import islice
from typing import Any, NamedTuple

from couchdiscover.sandbox.couchdb.distribution import Distribution
from couchdiscover.sandbox.couchdb.documents import Json
from couchdiscover.sandbox.couchdb.member import Member
from couchdiscover.sandbox.couchdb.volume import SHARD_PATH, File, ShardMap, bounds, checkpoint_id

# Seconds, as measured on real servers.
AFTER_NODE_UP = 1.0
AFTER_WRITE = 5.0
SYNC_SHARDS = 0.1

BATCH = 500
BATCH_BEFORE_3_4 = 100
FILL_RATE = 2300.0


class Job(NamedTuple):
    """One copy pushes what the other lacks. ``holder`` is the name in the map, see `_target`."""

    source: str
    path: str
    holder: str


class Replication:
    """What the nodes of a network replicate among each other by themselves.

    ``fill_rate`` is in documents a second, ``batch`` how many go at once (None: as the source's
    version does); filling a copy takes the time that follows, at the network's pace.
    """

    def __init__(self, network: Distribution) -> None:
        self._network = network
        self.fill_rate = FILL_RATE
        self.batch: int | None = None
        self._held: dict[str, int] = {}
        self._taken: dict[tuple[str, str], int] = {}
        self._parked: list[Job] = []
        self._queued: set[Job] = set()
        self._running: set[Job] = set()
        self._written: set[tuple[str, str]] = set()

    @property
    def backlog(self) -> int:
        """What ``internal_replication_jobs`` counts: jobs that have more to push than one batch.

        So it is 0 in the midst of a first batch, as measured.
        """
        return len(self._running)

    # -- holding

    def hold(self, target: str, documents: int = 0) -> None:
        """Has the copies on a node take only so many more documents each, until released."""
        self._held[target] = documents
        self._taken = {key: n for key, n in self._taken.items() if key[0] != target}

    def release(self, target: str) -> None:
        """Lets the copies on a node be filled, at once with what was held."""
        self._held.pop(target, None)
        parked, self._parked = self._parked, []
        for job in parked:
            self._queue(job, 0.0)

    # -- shard maps

    def ring(self, nodes: Iterable[Member]) -> None:
        """Has each of these nodes push its ``_dbs`` to the next live member after it."""
        order: dict[int, list[str]] = {}
        for node in nodes:
            if not node.dbs.update_seq:
                continue
            names = order.get(node.membership.mark)
            if names is None:
                names = order[node.membership.mark] = sorted(node.members)
            at = bisect(names, node.name)
            linked = self._network.links.get(node.name, set())
            name = next((n for n in (*names[at:], *names[:at]) if n in linked), None)
            if name is not None:
                target = self._network.nodes[name]
                new = [n for n, found in node.dbs.docs.items() if target.dbs.docs.get(n) != found]
                self._replicate(node, node.dbs, target, target.dbs, len(node.dbs.docs))
                target.make_named_files(new, self._network.wall())

    # -- copies of shards

    def node_up(self, a: Member, b: Member) -> None:
        """Two nodes see each other: each pushes what its maps, as they are now, have on the other.

        A map that is written later starts nothing.
        """
        for source, target in ((a, b), (b, a)):
            for shards in source.volume.maps():
                for hash_range, holders in shards.by_range.items():
                    if target.name in holders and source.name in holders:
                        job = Job(source.name, shards.path(hash_range), target.name)
                        self._queue(job, AFTER_NODE_UP)

    def written(self, node: str, path: str) -> None:
        """A file was written to: some seconds later its node pushes to where the map has copies."""
        if (node, path) in self._written:
            return
        self._written.add((node, path))

        def push() -> None:
            self._written.discard((node, path))
            source = self._network.nodes.get(node)
            for holder in self._holders(source, path) if source is not None else ():
                if self._network.linked(node, holder):
                    self._queue(Job(node, path, holder), 0.0)

        self._network.later(AFTER_WRITE, push)

    def sync_shards(self, shards: ShardMap) -> None:
        """``POST /{db}/_sync_shards``: every copy pushes to every other one."""
        for hash_range, holders in shards.by_range.items():
            path = shards.path(hash_range)
            for name in holders:
                for holder in holders:
                    if holder != name:
                        self._queue(Job(name, path, holder), SYNC_SHARDS)

    @staticmethod
    def _holders(node: Member, path: str) -> tuple[str, ...]:
        """Where this node's map has the copies of a file; nowhere if it names no such file."""
        found = SHARD_PATH.fullmatch(path)
        shards = node.map_of(found[2]) if found is not None else None
        if found is None or shards is None or shards.suffix != found[3]:
            return ()
        return shards.by_range.get(found[1], ())

    def _queue(self, job: Job, delay: float, *, running: bool = False) -> None:
        if job in self._queued or job in self._parked:
            return
        self._queued.add(job)
        if running:
            self._running.add(job)
        self._network.later(delay, lambda: self._run(job))

    def _run(self, job: Job) -> None:
        self._queued.discard(job)
        running = job in self._running
        self._running.discard(job)
        source = self._network.nodes.get(job.source)
        # A job that runs goes on though its name has gone from the map meanwhile.
        if source is None or not (running or job.holder in self._holders(source, job.path)):
            return
        target = self._target(source, job.holder)
        file = source.volume.shards.get(job.path)
        if target is None or file is None:
            return
        copy = target.volume.shards.get(job.path)
        if copy is None:
            now = self._network.wall()
            copy = target.volume.make(job.path, file.props, target.name, now)
        limit = self.batch or (BATCH if source.release >= (3, 4) else BATCH_BEFORE_3_4)
        if target.name in self._held:
            key = (target.name, job.path)
            limit = min(limit, self._held[target.name] - self._taken.get(key, 0))
            if limit <= 0:
                self._parked.append(job)
                return
        self._sync_security(source, job.path)
        before = file.update_seq, copy.update_seq
        self._purge(source, file, target, copy, job.path)
        moved, more = self._replicate(source, file, target, copy, limit)
        # Whoever was pushed to pushes on in its turn, as after any write.
        for node, one, then in ((source, file, before[0]), (target, copy, before[1])):
            if one.update_seq != then:
                self.written(node.name, job.path)
        if target.name in self._held:
            key = (target.name, job.path)
            self._taken[key] = self._taken.get(key, 0) + moved
        if more:
            self._queue(job, moved / self.fill_rate, running=True)

    def _sync_security(self, node: Member, path: str) -> None:
        """Sets ``_security`` to that of the majority, if there are two (mem3_sync_security)."""
        found = SHARD_PATH.fullmatch(path)
        shards = node.map_of(found[2]) if found is not None else None
        if shards is None:
            return
        files = [
            file
            for hash_range, holders in shards.by_range.items()
            for holder in holders
            if self._network.linked(node.name, holder) or holder == node.name
            if (file := self._network.nodes[holder].volume.shards.get(shards.path(hash_range)))
        ]
        kinds = [
            kind
            for at, kind in enumerate(each.security for each in files)
            if kind not in [other.security for other in files[:at]]
        ]
        whole = sum(len(holders) for holders in shards.by_range.values())
        counts = [sum(each.security == kind for each in files) for kind in kinds]
        if len(kinds) == 2 and max(counts) > whole // 2:
            right = kinds[counts.index(max(counts))]
            for each in files:
                if each.security != right:
                    each.set_security(right)

    def _target(self, source: Member, holder: str) -> Member | None:
        """The node that is pushed to: the one named, or where ``[mem3.redirects]`` sends it."""
        name = source.config.get("mem3.redirects", holder) or holder
        return self._network.nodes[name] if self._network.linked(source.name, name) else None

    # -- one push

    def _replicate(
        self, source: Member, file: File, target: Member, copy: File, limit: int
    ) -> tuple[int, bool]:
        """Moves up to ``limit`` documents and leaves the checkpoints: how many, and if more are."""
        name = checkpoint_id(file.uuid, copy.uuid)
        mine, theirs = file.local.get(name), copy.local.get(name)
        if mine is None:
            seq, history = file.common_seq(copy), {}
        else:
            lower = min(mine, theirs or {}, key=lambda found: int(found.get("seq", 0)))
            seq, history = lower.get("seq", 0), lower.get("history", {})
        if seq >= file.update_seq:
            return 0, False
        changes = list(islice(file.changes(seq), limit + 1))
        for seq, document in changes[:limit]:  # noqa: B007
            copy.merge(document)
        entry = {
            "target_node": target.name,
            "target_uuid": copy.uuid,
            "target_seq": copy.update_seq,
            "source_node": source.name,
            "source_uuid": file.uuid,
            "source_seq": seq,
            "timestamp": _stamp(self._network.wall()),
        }
        body = {"seq": seq, "target_uuid": copy.uuid, "history": _with(history, entry)}
        for side in (copy, file):
            side.put_local(name, body)
        return len(changes[:limit]), len(changes) > limit

    def _purge(self, source: Member, file: File, target: Member, copy: File, path: str) -> None:
        """Has both copies do the other's purges, as far as the giver's checkpoint tells them."""
        hash_range = path.split("/")[1]
        for giver, taker in ((copy, file), (file, copy)):
            name = f"purge-mem3-{giver.uuid}-{taker.uuid}"
            done = int(giver.local.get(name, {}).get("purge_seq", 0))
            fresh = [purge for purge in giver.purges if purge.seq > done]
            if not fresh:
                continue
            for purge in fresh:
                taker.purge(purge.doc_id, purge.revisions, purge.uuid)
            body = {
                "type": "internal_replication",
                "updated_on": int(self._network.wall()),
                "purge_seq": fresh[-1].seq,
                "source": source.name,
                "target": target.name,
                "range": list(bounds(hash_range)),
            }
            giver.put_local(name, body)


def _stamp(seconds: float) -> str:
    stamp = datetime.fromtimestamp(seconds, UTC).isoformat(timespec="microseconds")
    return stamp.replace("+00:00", "Z")


def _with(history: Mapping[str, list[Json]], entry: Json) -> dict[str, list[Json]]:
    """A history with one more entry, the newest first, and the older ones ever more sparsely."""
    source = entry["source_node"]
    older = [
        past
        for past in history.get(source, ())
        if past["source_seq"] < entry["source_seq"] and past["target_seq"] < entry["target_seq"]
    ]
    kept: list[Json] = []
    ages = [(entry["source_seq"] - past["source_seq"] + 1).bit_length() for past in older]
    for i, past in enumerate(older):
        # Of those of about one age, within a factor of two, the newest and the oldest stay.
        if ages[i - 1 : i] != [ages[i]] or ages[i + 1 : i + 2] != [ages[i]]:
            kept.append(past)
    others: dict[str, Any] = {name: past for name, past in history.items() if name != source}
    return {source: [entry, *kept], **others}
