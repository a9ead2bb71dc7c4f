"""The network of simulated nodes: how they find together, and what they then tell each other."""

import asyncio
import random
from collections import deque
from collections.abc import Iterable

from couchdiscover.sandbox.couchdb.distribution import Distribution
from couchdiscover.sandbox.couchdb.member import Member
from couchdiscover.sandbox.couchdb.replication import Replication

# Seconds, as measured on real servers.
CONNECT = 0.02
REPLICATE = 0.07
RECONNECT_BUSY = 1.0  # a node whose databases are in use speaks to every member all the time
RECONNECT_IDLE = 34.0
DROP_FROZEN = 68.0
PUSH_AGAIN = 5.0


class Network(Distribution):
    """Nodes that can, or cannot, reach one another, and the replication between them."""

    def __init__(self, *, pace: float = 1.0) -> None:
        super().__init__(pace)
        self.random = random.Random()
        self.loss = 0.0
        """The chance that news of a member are not handed on, which nobody tries again: it happens
        to real nodes that join at once, where one does not know the other yet."""
        self.replication = Replication(self)
        self._owed: dict[str, dict[str, int]] = {}

    def clear(self) -> None:
        """Forgets all nodes, and all that was to happen to them."""
        self.nodes.clear()
        self.unnamed.clear()
        self.links.clear()
        self.forget_events()
        self.replication = Replication(self)

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

    def raise_wall(self, one: str, other: str) -> None:
        """Parts all nodes whose names end with one from all whose names end with the other.

        So does a NetworkPolicy between two namespaces: ``.a.svc.cluster.local`` and the like.
        """
        with self.lock:
            self.settle()
            self._walls.add((one, other))
            for a, b in [(a, b) for a, peers in self.links.items() for b in peers]:
                if self.parted(a, b):
                    self.disconnect(a, b)

    def open_wall(self, one: str, other: str) -> None:
        """Takes a wall down: nodes that know each other come together in their own time."""
        with self.lock:
            self.settle()
            self._walls -= {(one, other), (other, one)}
            apart = [
                (a, b)
                for a in self.nodes.values()
                for b in self.nodes.values()
                if a.name.endswith(one) and b.name.endswith(other) and a is not b
            ]
            for a, b in apart:
                self.expect(a, b)

    def connect(self, a: Member, b: Member) -> bool:
        """Tries to connect two nodes; whether they are connected then."""
        if self.linked(a.name, b.name):
            return True
        if not self.reachable(a, b):
            return False
        self.link(a, b)
        if a.dbs.live or b.dbs.live:
            self.replication.node_up(a, b)
            self.replication.ring((a, b))
        return True

    async def while_hung(self, node: Member, names: Iterable[str]) -> bool:
        """Waits while one of these is connected to a node and frozen: who calls it has no answer.

        Whether there was anything to wait for. Seen on 3.5.2 for 70 s: as long as it takes until
        the connection is given up.
        """
        waited = False
        while True:
            with self.lock:
                self.settle()
                peers = [self.nodes.get(name) for name in names if self.linked(node.name, name)]
                if not any(peer is not None and peer.frozen for peer in peers):
                    return waited
            waited = True
            await asyncio.sleep(0.05)

    def join(self, a: Member, b: Member) -> None:
        """Has ``a`` connect to ``b`` and the two replicate, as measured after a new member."""

        def link() -> None:
            if self.connect(a, b):
                self.later(REPLICATE, lambda: self.exchange([(a, b)]))

        self.later(CONNECT, link)

    def expect(self, a: Member, b: Member) -> None:
        """Has two nodes that one of them knows come together again in their own time."""
        if b.name not in a.members and a.name not in b.members:
            return
        delay = RECONNECT_BUSY if a.dbs.live or b.dbs.live else RECONNECT_IDLE
        self.later(delay, lambda: self.exchange([(a, b)]))

    def started(self, node: Member) -> None:
        """A node has come up: it calls the members it knows, and those that know it call it."""
        self.links[node.name] = set()
        known = [self.nodes[name] for name in node.members & self.nodes.keys()]
        self.exchange([(node, peer) for peer in known if peer is not node])
        for peer in tuple(self.nodes.values()):
            if peer.running and node.name in peer.members and peer.name not in node.members:
                self.expect(peer, node)
        for name, seq in self._owed.pop(node.name, {}).items():
            self._push_to_former_member(name, node, seq)

    def stopped(self, node: Member) -> None:
        """A node has gone: everybody sees it at once."""
        peers = [self.nodes[name] for name in self.links.get(node.name, ()) if name in self.nodes]
        old = {peer.name: peer.dbs.update_seq for peer in peers if peer.release < (3, 5)}
        if old:
            self._owed[node.name] = old
        super().stopped(node)

    def _push_to_former_member(self, name: str, node: Member, seq: int) -> None:
        """What 3.3 and 3.4 do to a node that is no member any more, and 3.5 not: measured.

        They push ``_dbs`` to it every five seconds as long as they have something new.
        """
        peer = self.nodes.get(name)
        if peer is None or node.name in peer.members or peer.dbs.update_seq <= seq:
            return

        def push() -> None:
            if node.name not in peer.members and self.reachable(peer, node):
                node.make_named_files(node.dbs.absorb(peer.dbs), self.wall())

        self.later(PUSH_AGAIN, push)

    def member_changed(self, node: Member, name: str) -> None:
        """Has the distribution notice a change of a document of ``_nodes`` at a node."""
        peer = self.nodes.get(name)
        if peer is not None and name in node.members and peer is not node:
            peer.remember_members()
            node.remember_members()
            if not self.linked(node.name, name):
                self.join(node, peer)
        self.later(0.03, lambda: self.spread(node, members=[name]))

    # -- replication of members and shard maps

    def exchange(self, pairs: Iterable[tuple[Member, Member]]) -> None:
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

    def spread(self, node: Member, *, members: Iterable[str] = (), dbs: Iterable[str] = ()) -> None:
        """Carries changed documents of one node to all members that can be reached."""
        self.exchange(self._spread(node, set(members), set(dbs)))

    def _spread(
        self, start: Member, members: set[str], dbs: set[str]
    ) -> list[tuple[Member, Member]]:
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
            for node in reached:
                node.make_named_files(dbs, self.wall())
        if dbs or members:
            self.replication.ring(reached)
        return [
            (node, self.nodes[name])
            for node in reached
            for name in members & node.members & self.nodes.keys()
            if name != node.name
        ]

    def _lost(self) -> bool:
        return self.loss > 0 and self.random.random() < self.loss
