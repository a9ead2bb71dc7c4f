"""Situations for the decision: topologies, nodes and volumes, and what is read of a decision."""

from dataclasses import replace
from typing import Any

from couchdiscover.decide.copies import Loss
from couchdiscover.decide.membership import Membership
from couchdiscover.errors import CouchdiscoverError
from couchdiscover.state.nodes import (
    SYSTEM_DATABASES,
    ClusterView,
    Hash,
    Identity,
    NodeView,
    SetupState,
    Sight,
    Unreachable,
)
from couchdiscover.state.reasons import Silent
from couchdiscover.state.steps import (
    Decision,
    Do,
    Refuse,
    Step,
    SyncIdentity,
    Wait,
)
from couchdiscover.state.topology import Address, Pod, Topology
from couchdiscover.state.volumes import Mark, ShardFile, ShardMap, Volume

DOMAIN = "couchdb.db.svc.cluster.local"


SAME = Identity(Hash("admin"), "uuid", "secret")


def erlang_name(ordinal: int) -> str:
    return f"couchdb@couchdb-{ordinal}.{DOMAIN}"


ADDRESS = Address("10.0.0.9", 5984)


def names(*ordinals: int) -> frozenset[str]:
    return frozenset(erlang_name(ordinal) for ordinal in ordinals)


def topology(size: int = 3, own: int | None = None, beyond: tuple[str, ...] = ()) -> Topology:
    pods = tuple(
        Pod(f"couchdb-{n}", n, f"couchdb-{n}.{DOMAIN}", (Address(f"10.0.0.{n + 1}", 5984),))
        for n in range(size)
    )
    name = None if own is None else f"couchdb-{own}"
    return Topology("db", "couchdb", "couchdb", pods, beyond=beyond, own=name)


def node(
    ordinal: int,
    members: frozenset[str] | None = None,
    *,
    state: SetupState = SetupState.ENABLED,
    connected: frozenset[str] | None = None,
    **more: Any,
) -> NodeView:
    name = str(more.pop("name", erlang_name(ordinal)))
    members = frozenset({name}) if members is None else members
    view = NodeView(
        f"couchdb-{ordinal}",
        Address(f"10.0.0.{ordinal + 1}", 5984),
        name,
        state,
        members if connected is None else connected,
        members,
    )
    view = replace(view, volume=Volume(files=frozenset(), maps=()))
    if view.finished:
        view = replace(view, identity=SAME)
    view = replace(view, up="ok", databases=frozenset())
    return read(replace(view, **more))


def read(node: NodeView) -> NodeView:
    """The node with all that a look at its volume brings, as far as it has one."""
    if node.volume is None or node.volume.traces is not None:
        return node
    uuid = f"{node.pod}'s"
    mark = Mark(node.name, uuid, {erlang_name(n): (f"couchdb-{n}'s",) for n in range(6)}, "2026")
    return replace(node, volume=replace(node.volume, uuid=uuid, traces=(), mark=mark))


def finished(ordinal: int, *others: int, **more: Any) -> NodeView:
    return node(ordinal, names(ordinal, *others), state=SetupState.FINISHED, **more)


def laden(ordinal: int, **more: Any) -> NodeView:
    """A lone finished node with a database of its own."""
    volume = holding("orders", suffix=f".{ordinal}", on=names(ordinal))
    return finished(ordinal, volume=volume, **more)


def down(ordinal: int) -> Unreachable:
    return Unreachable(f"couchdb-{ordinal}", Silent(ADDRESS, "refuses connections"))


def view(*sights: Sight, **more: Any) -> ClusterView:
    return ClusterView(tuple(sights), **more)


def holding(
    *databases: str, filled: bool = True, suffix: str = ".1", on: frozenset[str] = frozenset()
) -> Volume:
    """A volume with a file, and a map, of each database."""
    where = tuple(sorted(on or names(0, 1, 2)))
    return Volume(
        files=frozenset(ShardFile(name, "00000000-ffffffff", suffix) for name in databases),
        maps=tuple(
            ShardMap(name, {"00000000-ffffffff": where}, suffix=suffix) for name in databases
        ),
        filled=frozenset(databases) & SYSTEM_DATABASES if filled else frozenset(),
    )


def loss(*volumes: str, **copies: frozenset[ShardFile]) -> Loss:
    """What was lost, all by Erlang name."""
    return Loss(frozenset(volumes), copies)


def refused(decision: Decision, error: type[CouchdiscoverError]) -> str:
    assert isinstance(decision, Refuse), decision
    assert decision.error is error, decision
    return decision.reason


def groups(sights: ClusterView, size: int = 3) -> Membership:
    return Membership.of(topology(size), sights)


def kinds(decision: Decision) -> list[str]:
    assert isinstance(decision, Do), decision
    return [f"{step.kind} {step.pod}" for step in decision.steps]


def unmade(place: Topology, created: int) -> Topology:
    """The same while the controller has made only the first pods, as OrderedReady does."""
    pods = tuple(
        pod if at < created else replace(pod, addresses=()) for at, pod in enumerate(place.expected)
    )
    return replace(place, expected=pods, created_pods=created)


def cluster_of(*identities: Identity | None, uptimes: tuple[float, ...] = ()) -> list[NodeView]:
    everybody = range(len(identities))
    return [
        finished(n, *everybody, identity=identity, uptime=uptimes[n] if uptimes else None)
        for n, identity in enumerate(identities)
    ]


def sources(steps: tuple[Step, ...]) -> set[str]:
    return {step.source for step in steps if isinstance(step, SyncIdentity)}


def waits(decision: Decision) -> dict[str, str]:
    assert isinstance(decision, Wait), decision
    return {pod: str(reason) for pod, reason in decision.reasons.items()}


def whys(decision: Decision) -> dict[str, str]:
    assert isinstance(decision, Do), decision
    return {f"{step.kind} {step.pod}": step.why for step in decision.steps}
