"""The secrets that sign sessions, and which of them a node accepts.

Since 3.5.2 a node accepts what any secret signed that it knows of another node; the secrets are
sent when the setting changes, not at boot (CouchDB's source, src/couch/src/couch_secrets.erl).
Before, only its own counts.
"""

from collections.abc import Mapping
from typing import Protocol

from couchdiscover.sandbox.couchdb.config import Config
from couchdiscover.sandbox.couchdb.versions import Traits

SESSION_SECONDS = 600


class Holder(Protocol):
    """A node that has secrets."""

    name: str
    running: bool
    frozen: bool
    config: Config
    traits: Traits
    secrets: "Secrets"


class Surroundings(Protocol):
    """The nodes that can tell one another."""

    links: dict[str, set[str]]

    @property
    def nodes(self) -> Mapping[str, Holder]:
        """All of them, by name."""

    def now(self) -> float:
        """Seconds on a clock that only goes forward."""


class Secrets:
    """The secrets that one node knows."""

    def __init__(self, node: Holder, network: Surroundings) -> None:
        self._node = node
        self._network = network
        self.learn_at_boot = False
        """Whether a starting node is connected early enough to ask the others for theirs. Real
        ones are now and then."""
        self._current: dict[str, str | None] = {}
        """By the name of the node whose secret it is."""
        self.replaced: dict[tuple[str, str], float] = {}
        """Node and secret: until when it is accepted, by the network's clock."""

    @property
    def current(self) -> str | None:
        """What this node signs with."""
        if self._node.traits.shares_secrets:
            own = self._current.get(self._node.name)
            if own is not None:
                return own
        return self._node.config.session_secret

    @property
    def accepted(self) -> set[str]:
        """All that this node takes a signature of."""
        found = {self.current}
        if self._node.traits.shares_secrets:
            now = self._network.now()
            found |= set(self._current.values())
            found |= {secret for (_, secret), end in self.replaced.items() if end > now}
        return {secret for secret in found if secret is not None}

    def boot(self) -> None:
        """What the process knows when it has started."""
        self._current = {self._node.name: self._node.config.session_secret}
        self.replaced.clear()
        if self.learn_at_boot:
            for peer in self._peers():
                theirs = peer.secrets
                self._current[peer.name] = theirs._current.get(peer.name)
                self.replaced |= {
                    key: end for key, end in theirs.replaced.items() if key[0] == peer.name
                }

    def changed(self) -> None:
        """The setting was written, with another value or with the same: all others are told."""
        secret = self._node.config.session_secret
        for node in (*self._peers(), self._node):
            node.secrets.insert(self._node.name, secret)

    def insert(self, name: str, secret: str | None) -> None:
        """Notes the secret of a node; the one before is accepted for a session's length."""
        if not self._node.traits.shares_secrets:
            return
        old = self._current.get(name)
        if old is not None and old != secret:
            self.replaced[name, old] = self._network.now() + SESSION_SECONDS
        self._current[name] = secret

    def _peers(self) -> list[Holder]:
        if not self._node.traits.shares_secrets:
            return []
        network = self._network
        linked = network.links.get(self._node.name, set())
        peers = [network.nodes[name] for name in sorted(linked) if name in network.nodes]
        return [peer for peer in peers if peer.running and not peer.frozen]
