"""The distribution that connects simulated nodes, the replication between them, and the clock."""

import asyncio
import heapq
import itertools
import random
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from couchdiscover.sandbox.couchdb.node import Node

# Seconds, as measured on real servers.
CONNECT = 0.02
REPLICATE = 0.07
RECONNECT_BUSY = 1.0  # a node whose databases are in use speaks to every member all the time
RECONNECT_IDLE = 34.0
DROP_FROZEN = 68.0
FILL_SHARDS = 1.0  # a copy named by a shard map
SYNC_SHARDS = 5.0  # copies that meet again


class Network:
    """One Erlang distribution: nodes that can, or cannot, reach one another.

    ``pace`` multiplies every simulated delay: 1.0 is as measured, 0 is none. What is to happen
    later (a connection, a replication) happens when the next request comes in after its time, or at
    ``settle()``. ``lock`` guards the state of all nodes; a request holds it while it reads or
    changes something, never while it waits, so nodes may be started, stopped and wiped from any
    thread.
    """

    def __init__(self, *, pace: float = 1.0) -> None:
        self.pace = pace
        self.nodes: dict[str, Node] = {}
        self.unnamed: list[Node] = []
        """Nodes without a name of their own, which all are called alike."""
        self.links: dict[str, set[str]] = {}
        self.lock = threading.RLock()
        self.random = random.Random()
        self.loss = 0.0
        """The chance that news of a member are not handed on, which nobody tries again: it happens
        to real nodes that join at once, where one does not know the other yet."""
        self._cuts: set[frozenset[str]] = set()
        self._events: list[tuple[float, int, Callable[[], None]]] = []
        self._order = itertools.count()
        self._at: float | None = None
        self._syncs: set[float] = set()

    def now(self) -> float:
        """Seconds on a clock that only goes forward."""
        return time.monotonic()

    def wall(self) -> float:
        """Seconds since 1970: names the files of new databases."""
        return time.time()

    async def pause(self, seconds: float, least: float = 0.0) -> None:
        """Waits for a simulated delay, however fast the pace not under ``least`` seconds."""
        await asyncio.sleep(max(seconds * self.pace, least))

    def later(self, seconds: float, action: Callable[[], None], least: float = 0.0) -> None:
        """Has something happen after a simulated delay, not under ``least`` seconds."""
        start = self.now() if self._at is None else self._at
        due = start + max(seconds * self.pace, least)
        heapq.heappush(self._events, (due, next(self._order), action))

    def settle(self) -> None:
        """Lets everything happen whose time has come."""
        with self.lock:
            while self._events and self._events[0][0] <= self.now():
                # What follows from an event is timed from when it was due, not from when a request
                # came in and let it happen.
                self._at, _, action = heapq.heappop(self._events)
                try:
                    action()
                finally:
                    self._at = None

    # -- names and addresses

    def find(self, host: str, port: int) -> "Node | str":
        """Who listens there, or why nobody can be reached: ``nxdomain`` or ``econnrefused``."""
        named = [n for n in {*self.nodes.values(), *self.unnamed} if n.is_called(host)]
        if not named:
            literal = host.replace(".", "").isdigit() or ":" in host
            return "econnrefused" if literal else "nxdomain"
        return next((n for n in named if n.port == port and n.running), "econnrefused")

    # -- connections

    def cut(self, a: str, b: str) -> None:
        """Takes the way between two nodes away."""
        with self.lock:
            self.settle()
            self._cuts.add(frozenset((a, b)))
            self.disconnect(a, b)

    def heal(self, a: str, b: str) -> None:
        """Gives the way between two nodes back."""
        with self.lock:
            self._cuts.discard(frozenset((a, b)))
            self.expect(self.nodes[a], self.nodes[b])

    def linked(self, a: str, b: str) -> bool:
        """Whether two nodes are connected now."""
        return b in self.links.get(a, ())

    def connect(self, a: "Node", b: "Node") -> bool:
        """Tries to connect two nodes; whether they are connected then."""
        if self.linked(a.name, b.name):
            return True
        if (
            a is b
            or not (a.running and b.running)
            or a.frozen
            or b.frozen
            or a.cookie != b.cookie
            or not (a.speaks_to(b) and b.speaks_to(a))
            or frozenset((a.name, b.name)) in self._cuts
        ):
            return False
        self.links.setdefault(a.name, set()).add(b.name)
        self.links.setdefault(b.name, set()).add(a.name)
        if a.dbs.live or b.dbs.live:
            self.sync_shards(SYNC_SHARDS)
        return True

    def disconnect(self, a: str, b: str) -> None:
        """Ends the connection of two nodes."""
        self.links.get(a, set()).discard(b)
        self.links.get(b, set()).discard(a)

    def join(self, a: "Node", b: "Node") -> None:
        """Has ``a`` connect to ``b`` and the two replicate, as measured after a new member."""

        def link() -> None:
            if self.connect(a, b):
                self.later(REPLICATE, lambda: self.exchange([(a, b)]))

        self.later(CONNECT, link)

    def expect(self, a: "Node", b: "Node") -> None:
        """Has two nodes that one of them knows come together again in their own time."""
        if b.name not in a.members and a.name not in b.members:
            return
        delay = RECONNECT_BUSY if a.dbs.live or b.dbs.live else RECONNECT_IDLE
        self.later(delay, lambda: self.exchange([(a, b)]))

    def started(self, node: "Node") -> None:
        """A node has come up: it calls the members it knows, and those that know it call it."""
        self.links[node.name] = set()
        known = [self.nodes[name] for name in node.members & self.nodes.keys()]
        self.exchange([(node, peer) for peer in known if peer is not node])
        for peer in tuple(self.nodes.values()):
            if peer.running and node.name in peer.members and peer.name not in node.members:
                self.expect(peer, node)

    def stopped(self, node: "Node") -> None:
        """A node has gone: everybody sees it at once."""
        for name in tuple(self.links.get(node.name, ())):
            self.disconnect(node.name, name)

    # -- replication of members and shard maps

    def exchange(self, pairs: Iterable[tuple["Node", "Node"]]) -> None:
        """Connects pairs of nodes and replicates between them, and on to whoever is reached."""
        queue = deque(pairs)
        while queue:
            a, b = queue.popleft()
            if not self.connect(a, b) or a.agrees(b):
                continue
            for source, target in ((a, b), (b, a), (a, b)):
                if target.name not in source.members:
                    continue
                members = set() if self._lost() else target.membership.absorb(source.membership)
                dbs = target.dbs.absorb(source.dbs)
                if members or dbs:
                    queue.extend(self._spread(target, members, dbs))

    def spread(self, node: "Node", *, members: Iterable[str] = (), dbs: Iterable[str] = ()) -> None:
        """Carries changed documents of one node to all members that can be reached."""
        self.exchange(self._spread(node, set(members), set(dbs)))

    def _spread(
        self, start: "Node", members: set[str], dbs: set[str]
    ) -> list[tuple["Node", "Node"]]:
        # Each node is offered the change once: with a thousand members all connected to each other
        # this is a thousand steps, not a million.
        reached = [start]
        rest = {name for name, peers in self.links.items() if peers and name != start.name}
        for node in reached:
            if not rest:
                break
            for name in rest & self.links.get(node.name, set()) & node.members:
                rest.discard(name)
                peer = self.nodes[name]
                fresh = set() if self._lost() else peer.membership.absorb(node.membership, members)
                fresh |= peer.dbs.absorb(node.dbs, dbs)
                if fresh:
                    reached.append(peer)
        if dbs:
            self.sync_shards(FILL_SHARDS)
        return [
            (node, self.nodes[name])
            for node in reached
            for name in members & node.members & self.nodes.keys()
            if name != node.name
        ]

    def _lost(self) -> bool:
        return self.loss > 0 and self.random.random() < self.loss

    # -- replication of documents between the copies of a shard

    def sync_shards(self, delay: float = FILL_SHARDS) -> None:
        """Has all copies of all shards agree after a delay."""
        if delay in self._syncs:
            return
        self._syncs.add(delay)

        def sync() -> None:
            self._syncs.discard(delay)
            for node in self.nodes.values():
                if node.running:
                    self._push_shards(node)

        self.later(delay, sync)

    @property
    def syncing(self) -> bool:
        """Whether copies of shards are being filled."""
        return FILL_SHARDS in self._syncs

    def _push_shards(self, node: "Node") -> None:
        for (hash_range, name, suffix), store in tuple(node.shards.items()):
            shards = node.databases.find(name)
            if shards is None or shards.suffix != suffix:
                continue
            for holder in shards.by_range.get(hash_range, ()):
                if self.linked(node.name, holder):
                    self.nodes[holder].file(hash_range, name, suffix).absorb(store)
