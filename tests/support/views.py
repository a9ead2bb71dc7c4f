"""Topologies, nodes and records to build a test's situation from."""

from dataclasses import replace
from typing import Any

from couchdiscover.output.report import Record, Report
from couchdiscover.state.nodes import (
    ClusterView,
    Hash,
    Identity,
    NodeView,
    SetupState,
    Sight,
    Unreachable,
)
from couchdiscover.state.reasons import NoAddress, Silent
from couchdiscover.state.topology import Address, Pod, Topology

SAME = Identity(Hash("a"), "b", "c")


def erlang_name(ordinal: int) -> str:
    """The Erlang name that the official image's nodes have behind a headless Service."""
    return f"couchdb@couchdb-{ordinal}.couchdb.db.svc.cluster.local"


ALL = frozenset(map(erlang_name, range(3)))


def topology(size: int = 3) -> Topology:
    """A StatefulSet of so many pods."""
    pods = tuple(
        Pod(
            f"couchdb-{i}",
            i,
            f"couchdb-{i}.couchdb.db.svc.cluster.local",
            (Address(f"10.0.0.{4 + i}", 5984),),
        )
        for i in range(size)
    )
    return Topology("db", "couchdb", "couchdb", pods)


def node(ordinal: int, **changes: Any) -> NodeView:
    """A node of a cluster that is whole, unless told otherwise."""
    whole = NodeView(
        pod=f"couchdb-{ordinal}",
        address=Address(f"10.0.0.{4 + ordinal}", 5984),
        name=erlang_name(ordinal),
        state=SetupState.FINISHED,
        all_nodes=ALL,
        cluster_nodes=ALL,
        version="3.5.1",
        identity=SAME,
    )
    return replace(whole, **changes)


def fresh(ordinal: int, **changes: Any) -> NodeView:
    """A node that knows of no other."""
    own = frozenset({erlang_name(ordinal)})
    return node(ordinal, state=SetupState.DISABLED, all_nodes=own, cluster_nodes=own, **changes)


def silent(ordinal: int) -> Unreachable:
    """A pod without an address."""
    return Unreachable(f"couchdb-{ordinal}", NoAddress())


def refusing(ordinal: int) -> Unreachable:
    """A pod whose CouchDB does not listen."""
    address = Address(f"10.0.0.{4 + ordinal}", 5984)
    return Unreachable(f"couchdb-{ordinal}", Silent(address, "refuses connections"), address)


def record(*sights: Sight, command: str = "run", **changes: Any) -> Record:
    """What a run over a set of three has seen."""
    return Record(command, "db", "couchdb", topology(), ClusterView(sights), **changes)


def report(of: Record, code: int = 0, message: str = "3 nodes are one cluster") -> Report:
    """The end of it."""
    result = {0: "done", 3: "not_so", 4: "timed_out"}[code]
    return Report(of, result, code, message, 0.41234)
