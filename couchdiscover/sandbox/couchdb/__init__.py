"""A simulated CouchDB: nodes that answer as real ones were recorded to, their traps included."""

from couchdiscover.sandbox.couchdb.network import Network
from couchdiscover.sandbox.couchdb.node import Exchange, Node
from couchdiscover.sandbox.couchdb.volume import Volume

__all__ = ["Exchange", "Network", "Node", "Volume"]
