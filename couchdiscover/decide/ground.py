"""What an adoption stands on: one look at all volumes, members and maps. Pure."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from functools import cached_property
from typing import Any

from couchdiscover.decide.copies import Proof
from couchdiscover.decide.shard_maps import new_ranges
from couchdiscover.decide.volumes import Former, Survey, is_replicator
from couchdiscover.state.nodes import ClusterView, NodeView
from couchdiscover.state.topology import Topology
from couchdiscover.state.volumes import ShardFile, ShardMap


@dataclass(frozen=True, slots=True)
class Wishes:
    """What the user asks of an adoption.

    ``told`` are former names and the pods that have their volumes. ``databases`` is a pattern of
    names. ``replications`` is what becomes of replications that would start: run, or hold.
    """

    told: Mapping[str, str] = field(default_factory=dict)
    databases: str | None = None
    replications: str | None = None

    def wants(self, database: str) -> bool:
        """Whether a database is to be adopted."""
        return self.databases is None or fnmatchcase(database, self.databases)


@dataclass(frozen=True, slots=True)
class Replications:
    """Documents that would start replications, of one database; None where it is not known."""

    count: int | None
    targets: tuple[str, ...] = ()


@dataclass(frozen=True)
class Ground:
    """One look at everything that an adoption depends on.

    ``documents`` are those of ``_nodes``, by pod and member; ``uptimes`` and ``seeds`` (the Erlang
    names of [cluster] seedlist) are by pod; all of them None where they could not be read.
    ``replications`` are by database. ``shifts`` are databases, by range, whose maps must name
    other nodes of today, since volumes changed places, or came back after the others were adopted;
    None where that could not be told.
    ``proof`` is about the copies of what has been adopted, None as long as nobody looked.
    ``came_back`` are documents that were purged and that all copies have again, by database; None
    where CouchDB does not tell, and for all while some question was not answered. ``securities``
    are databases whose ``_security`` differs between the nodes that have copies, once all else is
    done. ``rewritten`` are databases whose maps this run has changed, ``synced`` those that it has
    had pushed since.
    """

    topology: Topology
    view: ClusterView
    survey: Survey
    documents: Mapping[str, Mapping[str, Mapping[str, Any]] | None] = field(default_factory=dict)
    uptimes: Mapping[str, float | None] = field(default_factory=dict)
    seeds: Mapping[str, frozenset[str] | None] = field(default_factory=dict)
    replications: Mapping[str, Replications] = field(default_factory=dict)
    proof: Proof | None = None
    shifts: Mapping[str, Mapping[str, tuple[str, ...]]] | None = field(default_factory=dict)
    came_back: Mapping[str, tuple[str, ...] | None] | None = field(default_factory=dict)
    securities: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    rewritten: frozenset[str] = frozenset()
    synced: frozenset[str] = frozenset()
    wishes: Wishes = Wishes()

    # --- whom it is about ---

    @property
    def lead(self) -> NodeView:
        """The live member with the lowest Erlang name.

        CouchDB's own resharder edits maps through it (src/mem3/src/mem3_db_doc_updater.erl): two
        editors of one map through two nodes would leave a conflict.
        """
        return min(self.view.nodes, key=lambda node: node.name)

    @cached_property
    def formers(self) -> Mapping[str, Former]:
        """Former names whose volume is here."""
        return self.survey.former

    @cached_property
    def dropped(self) -> frozenset[str]:
        """Names of the same former set whose volumes are not here: what they held has no file.

        One of another set's, by the rest of its host name, may only be down, and is left alone. A
        name by address is nobody's once it is not connected: its node has another after a restart.
        """
        kin = {_kin(name) for name in self.formers}
        members = frozenset().union(*{node.cluster_nodes for node in self.view.nodes})
        alive = self.survey.connected | self.survey.expected_names | self.formers.keys()
        nobody = self.survey.gone | (members - alive)
        return frozenset(name for name in nobody if _kin(name) in kin)

    @property
    def passed(self) -> frozenset[str]:
        """All names that are no member's any more."""
        return frozenset(self.formers) | self.dropped

    @cached_property
    def translation(self) -> Mapping[str, str]:
        """Names in maps → the Erlang names of the nodes that have their volumes now."""
        return self.survey.translation()

    @cached_property
    def unsettled(self) -> frozenset[str]:
        """Pods whose volumes have former names, a mark that is another node's, or a new map."""
        moved = {former.pod for former in self.formers.values()} | self.survey.permuted.keys()
        marks = {node.pod: self.survey.mark(node.pod) for node in self.view.nodes}
        names = {node.pod: node.name for node in self.view.nodes}
        foreign = {pod for pod, mark in marks.items() if mark and mark.node != names[pod]}
        named = {n for name in self.rewritten if name in self.maps for n in self.maps[name].names}
        touched = {pod for pod, name in names.items() if name in named}
        return frozenset(moved | foreign | self.survey.unfinished.keys() | touched)

    # --- databases ---

    @cached_property
    def maps(self) -> Mapping[str, ShardMap]:
        """All maps, ``_users`` first, so that logins work, and replications last."""
        maps = self.survey.all_maps or {}
        return {name: maps[name] for name in sorted(maps, key=adoption_order)}

    @cached_property
    def apart(self) -> Mapping[ShardFile, tuple[str, ...]]:
        """Copies on volumes that are being adopted, and that the maps name, but not there.

        As of a volume that was brought back after the others were adopted without it.
        """
        places = {**self.translation, **self.survey.moved()}
        found: dict[ShardFile, list[str]] = {}
        for node in self.view.nodes if self.unsettled else ():
            for file in sorted(self.survey.volumes[node.pod].files or ()):
                shard_map = self.maps.get(file.database)
                if shard_map is None or shard_map.suffix != file.suffix:
                    continue
                holders = shard_map.by_range.get(file.range)
                if holders and node.name not in {places.get(name, name) for name in holders}:
                    found.setdefault(file, []).append(node.name)
        return {file: tuple(names) for file, names in found.items()}

    @cached_property
    def stale(self) -> tuple[str, ...]:
        """Databases whose maps have names that are another node's now, or nobody's."""
        names = self.translation.keys() | self.dropped
        return tuple(
            name
            for name, each in self.maps.items()
            if each.names & names or name in (self.shifts or {})
        )

    @cached_property
    def refused(self) -> Mapping[str, str]:
        """Stale databases that must stay as they are: a range of theirs has no file anywhere."""
        found = {}
        for name in self.stale:
            if name in (self.shifts or {}):
                continue
            lacking = [r for r, names in self._planned(self.maps[name]).items() if not names]
            if lacking:
                found[name] = lacking[0]
        return found

    @cached_property
    def held(self) -> tuple[str, ...]:
        """Stale databases of replications that are to stay as they are for now."""
        if self.wishes.replications != "hold":
            return ()
        return tuple(name for name in self.stale if self._would_start(name))

    def _would_start(self, database: str) -> bool:
        found = self.replications.get(database)
        return is_replicator(database) and (found is None or found.count != 0)

    @cached_property
    def adoptable(self) -> tuple[str, ...]:
        """Stale databases whose maps are rewritten now."""
        left = {*self.refused, *self.held}
        return tuple(n for n in self.stale if n not in left and self.wishes.wants(n))

    @cached_property
    def left_out(self) -> tuple[str, ...]:
        """Stale databases that nobody asked for."""
        return tuple(name for name in self.stale if not self.wishes.wants(name))

    def _planned(self, shard_map: ShardMap) -> Mapping[str, tuple[str, ...]]:
        here = {
            node.name: self.survey.volumes[node.pod].files or frozenset()
            for node in self.view.nodes
        }
        return new_ranges(shard_map, self.translation, here, self.dropped)

    @cached_property
    def thinner(self) -> tuple[str, ...]:
        """Databases that get fewer copies of a range than their maps name now."""
        return tuple(
            name
            for name in self.adoptable
            if name not in (self.shifts or {})
            and any(
                len(names) < len(set(self.maps[name].by_range[r]))
                for r, names in self._planned(self.maps[name]).items()
            )
        )

    @cached_property
    def settling(self) -> tuple[ShardMap, ...]:
        """The maps of databases whose copies are to be proven equal: those of unsettled volumes."""
        names = {node.name for node in self.view.nodes if node.pod in self.unsettled}
        return tuple(
            each
            for name, each in self.maps.items()
            if each.names & names and name not in self.stale
        )


def adoption_order(database: str) -> tuple[int, str]:
    """By what databases are adopted: ``_users`` first, so that logins work, replications last."""
    if is_replicator(database):
        return 2, database
    return (0 if database == "_users" else 1), database


def _kin(name: str) -> str:
    """What the names of one set have in common: the host name without the pod's number.

    Two StatefulSets of one Service differ in the rest of the first label. Names by address have
    nothing in common but that.
    """
    host = name.partition("@")[2]
    if host.replace(".", "").isdigit() or ":" in host:
        return "address"
    label, _, rest = host.partition(".")
    return f"{re.sub('-?[0-9]+$', '', label)}.{rest}"
