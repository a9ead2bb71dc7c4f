"""The Erlang distribution: which simulated nodes can, and do, talk to one another."""

from couchdiscover.sandbox.couchdb.clock import Clock
from couchdiscover.sandbox.couchdb.member import Member


class Distribution(Clock):
    """Nodes by their Erlang names, and the connections between them."""

    def __init__(self, pace: float) -> None:
        super().__init__(pace)
        self.nodes: dict[str, Member] = {}
        self.unnamed: list[Member] = []
        """Nodes without a name of their own, which all are called alike."""
        self.links: dict[str, set[str]] = {}
        self._cuts: set[frozenset[str]] = set()
        self._walls: set[tuple[str, str]] = set()

    # -- names and addresses

    def find(self, host: str, port: int) -> Member | str:
        """Who listens there, or why nobody can be reached: ``nxdomain`` or ``econnrefused``."""
        named = [n for n in {*self.nodes.values(), *self.unnamed} if n.is_called(host)]
        if not named:
            literal = host.replace(".", "").isdigit() or ":" in host
            return "econnrefused" if literal else "nxdomain"
        return next((n for n in named if n.port == port and n.running), "econnrefused")

    # -- connections

    def linked(self, a: str, b: str) -> bool:
        """Whether two nodes are connected now."""
        return b in self.links.get(a, ())

    def parted(self, a: str, b: str) -> bool:
        """Whether a cut or a wall keeps two nodes apart."""
        if frozenset((a, b)) in self._cuts:
            return True
        return any(
            (a.endswith(one) and b.endswith(other)) or (b.endswith(one) and a.endswith(other))
            for one, other in self._walls
        )

    def reachable(self, a: Member, b: Member) -> bool:
        """Whether two nodes could connect: both run, with one cookie, and nothing is between."""
        if a is b or not (a.running and b.running) or a.frozen or b.frozen:
            return False
        if a.cookie != b.cookie or not (a.speaks_to(b) and b.speaks_to(a)):
            return False
        return not self.parted(a.name, b.name)

    def link(self, a: Member, b: Member) -> None:
        """Notes that two nodes are connected."""
        self.links.setdefault(a.name, set()).add(b.name)
        self.links.setdefault(b.name, set()).add(a.name)

    def disconnect(self, a: str, b: str) -> None:
        """Ends the connection of two nodes."""
        self.links.get(a, set()).discard(b)
        self.links.get(b, set()).discard(a)

    def stopped(self, node: Member) -> None:
        """A node has gone: everybody sees it at once."""
        for name in tuple(self.links.get(node.name, ())):
            self.disconnect(node.name, name)

    def leave(self, node: Member) -> None:
        """A name is gone for good: nobody answers to it any more."""
        self.stopped(node)
        if self.nodes.get(node.name) is node:
            del self.nodes[node.name]
        if node in self.unnamed:
            self.unnamed.remove(node)
