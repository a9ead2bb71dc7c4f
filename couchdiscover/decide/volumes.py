"""Who each volume was, and what it holds: the ground under every command. Pure.

A volume keeps what it held when its node gets another Erlang name, or when it is another node's by
now; the shard maps then name nodes that are not there. What tells whose a volume was, in this order
(CouchDB's behaviour as measured on 3.5.2):

* the mark that a run has left on it (``Mark``), and the names that ``adopt`` has noted there;
* CouchDB's own history: internal replication notes, for each ``_dbs`` by its uuid, the node that
  it was (src/mem3/src/mem3_rpc.erl, ``save_checkpoint_rpc``);
* one former name and one volume that holds files of it;
* files: a name whose files lie, all of them, on one volume only.

Ordinals, labels and the order of pods tell nothing: where no evidence does, a person must.
"""

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from functools import cached_property

from couchdiscover.state.nodes import SYSTEM_DATABASES, NodeView
from couchdiscover.state.topology import Pod
from couchdiscover.state.volumes import Mark, ShardFile, ShardMap, Volume

GOOD_SHARE = 0.9
"""What a copy holds of another one's documents, at least, for the two to be taken for alike."""


def is_replicator(database: str) -> bool:
    """Whether CouchDB runs the replications that a database's documents describe."""
    return database == "_replicator" or database.endswith("/_replicator")


class Evidence(StrEnum):
    """What tells whose a volume was."""

    TOLD = "--from"
    MARK = "its mark"
    HISTORY = "CouchDB's own history"
    ONLY = "the only former name and the only volume with files of it"
    FILES = "its files"


@dataclass(frozen=True, slots=True)
class Former:
    """A name that the maps have, that no node has now, and the pod that has the volume."""

    name: str
    pod: str
    by: Evidence


@dataclass(frozen=True, slots=True)
class Clone:
    """Two live nodes with the same ``_dbs``: ``pod`` is ours, ``other`` an Erlang name."""

    pod: str
    other: str
    uuid: str


@dataclass(frozen=True, slots=True)
class Files:
    """A node's files against the maps.

    ``named`` are those the maps name here, ``missing`` those among them that are not there, and
    ``unnamed`` those that are there and that no map names here.
    """

    there: frozenset[ShardFile]
    named: frozenset[ShardFile]

    @property
    def missing(self) -> frozenset[ShardFile]:
        """Named here, and not there. CouchDB makes such a file, empty, when it is asked for it."""
        return self.named - self.there

    @property
    def unnamed(self) -> frozenset[ShardFile]:
        """There, and not named here."""
        return self.there - self.named


@dataclass(frozen=True)
class Survey:
    """One look at all volumes, judged once.

    ``nodes`` are the nodes that answer, with their volumes; ``expected`` the pods that are to be
    members. ``others`` are connected nodes that are no pods of ours, as far as they were read.
    ``told`` is what a person says: former names, and the pod that has the volume.
    """

    nodes: Sequence[NodeView]
    expected: Sequence[Pod]
    others: Mapping[str, Volume] = field(default_factory=dict)
    told: Mapping[str, str] = field(default_factory=dict)

    # --- what was read ---

    @cached_property
    def volumes(self) -> Mapping[str, Volume]:
        """By pod; a node whose volume was not looked at has one of which nothing is known."""
        return {node.pod: node.volume or Volume() for node in self.nodes}

    @cached_property
    def _node(self) -> Mapping[str, NodeView]:
        return {node.pod: node for node in self.nodes}

    @cached_property
    def present(self) -> Mapping[str, str]:
        """The Erlang names of the nodes that answer, and their pods."""
        return {node.name: node.pod for node in self.nodes}

    @cached_property
    def expected_names(self) -> frozenset[str]:
        """Present names, and those that silent pods have if they are named by their host names.

        A former name is never one of these.
        """
        silent = {pod.host_name for pod in self.expected if pod.name not in self._node}
        mentioned = self.named_in_maps.union(*{n.cluster_nodes for n in self.nodes})
        hosts = {name for name in mentioned if name.partition("@")[2] in silent}
        return frozenset(self.present) | hosts

    @cached_property
    def connected(self) -> frozenset[str]:
        """All names that some node is connected to now: they are alive, whoever they are."""
        return frozenset().union(*{node.all_nodes for node in self.nodes})

    @cached_property
    def _links(self) -> Mapping[str, frozenset[str]]:
        """The pods that share their maps, by pod: linked through present names they list."""
        own = frozenset(self.present)
        linked: dict[str, frozenset[str]] = {}
        for names in {(node.cluster_nodes & own) | {node.name} for node in self.nodes}:
            merged = names.union(*{linked[name] for name in names & linked.keys()})
            linked |= dict.fromkeys(merged, merged)
        pods = {names: frozenset(self.present[n] for n in names) for names in linked.values()}
        # Two pods of one name are told by the name hazard; here each is in its own group then.
        return {node.pod: pods[linked[node.name]] | {node.pod} for node in self.nodes}

    def maps(self, pod: str) -> Mapping[str, ShardMap] | None:
        """The maps that hold for a node: its own, and those of the nodes that it is linked to.

        Of one database the revision that CouchDB would choose. A node that has just lost its volume
        has none of its own yet. None where no node of the group could be read.
        """
        return self._maps_of(self._links.get(pod, frozenset()))

    @cached_property
    def all_maps(self) -> Mapping[str, ShardMap] | None:
        """Of each database the map that would win if all nodes were one cluster."""
        return self._maps_of(frozenset(self.volumes))

    def _maps_of(self, pods: Collection[str]) -> Mapping[str, ShardMap] | None:
        if pods in self._cached_maps:
            return self._cached_maps[pods]
        read = [maps for pod in sorted(pods) if (maps := self.volumes[pod].maps) is not None]
        best: dict[str, ShardMap] = {}
        for shard_map in (each for maps in read for each in maps):
            known = best.get(shard_map.database)
            if known is None or shard_map.rank > known.rank:
                best[shard_map.database] = shard_map
        result = best if read else None
        self._cached_maps[frozenset(pods)] = result
        return result

    @cached_property
    def _cached_maps(self) -> dict[Collection[str], Mapping[str, ShardMap] | None]:
        return {}

    @cached_property
    def named_in_maps(self) -> frozenset[str]:
        """Every Erlang name that any node's map has."""
        return frozenset(
            name
            for volume in self.volumes.values()
            for shard_map in volume.maps or ()
            for name in shard_map.names
        )

    # --- files against maps ---

    @cached_property
    def _named_here(self) -> Mapping[frozenset[str], Mapping[str, frozenset[ShardFile]]]:
        """By group of linked pods, and by Erlang name, what the group's maps name there."""
        groups = {}
        for pods in set(self._links.values()):
            found: dict[str, set[ShardFile]] = {}
            for shard_map in (self._maps_of(pods) or {}).values():
                for range_, names in shard_map.by_range.items():
                    for name in names:
                        found.setdefault(name, set()).add(shard_map.file(range_))
            groups[pods] = {name: frozenset(files) for name, files in found.items()}
        return groups

    @cached_property
    def _named_files(self) -> dict[str, frozenset[ShardFile]]:
        return {}

    def named_files(self, name: str) -> frozenset[ShardFile]:
        """What any group's maps name at a node of this Erlang name."""
        if name not in self._named_files:
            self._named_files[name] = frozenset().union(
                *(group.get(name, frozenset()) for group in self._named_here.values())
            )
        return self._named_files[name]

    def files(self, pod: str) -> Files | None:
        """A node's files against the maps; None where either could not be read."""
        there = self.volumes[pod].files
        if there is None or self.maps(pod) is None:
            return None
        named = self._named_here[self._links[pod]].get(self._node[pod].name, frozenset())
        return Files(there, named)

    @cached_property
    def unread(self) -> Mapping[str, tuple[str, ...]]:
        """What could not be read, by pod: nothing may be concluded from its absence."""
        parts = {"files": "its files", "maps": "its shard maps", "traces": "its history"}
        found = {
            pod: tuple(told for part, told in parts.items() if getattr(volume, part) is None)
            for pod, volume in self.volumes.items()
        }
        return {pod: told for pod, told in found.items() if told}

    def own_data(self, pod: str) -> frozenset[str] | None:
        """The databases that a node holds itself, judged by its files and by nothing else.

        A node is no cluster's because of what its maps say: maps that name other nodes only come
        with membership, and go on when that ends. System databases without a document, other than
        design documents, do not count: each node makes them. None where it is not known.
        """
        volume = self.volumes[pod]
        if volume.files is None:
            return None
        databases = {file.database for file in volume.files}
        system = databases & SYSTEM_DATABASES
        if volume.filled is not None:
            return frozenset((databases - system) | (system & volume.filled))
        if system and not databases - system:
            return None
        return frozenset(databases - system)

    # --- who it was ---

    @cached_property
    def strange(self) -> frozenset[str]:
        """Names in maps that no node has now: of members that are gone, or former names."""
        return self.named_in_maps - self.expected_names - self.connected

    def seen_as(self, pod: str) -> tuple[str, ...]:
        """The names that CouchDB's history gives to this very volume, the latest first."""
        volume = self.volumes[pod]
        if volume.uuid is None or not volume.traces:
            return ()
        traces = [trace for trace in volume.traces if trace.uuid == volume.uuid]
        latest: dict[str, str] = {}
        for trace in traces:
            latest[trace.node] = max(latest.get(trace.node, ""), trace.at)
        return tuple(sorted(latest, key=lambda name: (latest[name], name), reverse=True))

    def mark(self, pod: str) -> Mark | None:
        """A node's mark, where it is of the very ``_dbs`` that it lies in."""
        return _own_mark(self.volumes[pod])

    def is_itself(self, pod: str) -> bool:
        """Whether mark or history say that a volume is the node's that it is at now."""
        name = self._node[pod].name
        mark = self.mark(pod)
        return (mark is not None and mark.node == name) or name in self.seen_as(pod)[:1]

    def _claims(self, pod: str) -> dict[str, Evidence]:
        """The names that a volume's mark and history say it had, and that maps still have.

        History may tell of several: of the names that are not the present one the latest counts,
        and an earlier one only where no other volume ever had it (``_pairs``).
        """
        name = self._node[pod].name
        mark = self.mark(pod)
        claims: dict[str, Evidence] = {}
        by_history = [each for each in self.seen_as(pod) if each != name]
        for each in by_history[:1]:
            claims[each] = Evidence.HISTORY
        if mark is not None and mark.node != name:
            claims[mark.node] = Evidence.MARK
        for each in mark.was if mark is not None else ():
            claims[each] = Evidence.MARK
        return {each: by for each, by in claims.items() if each in self.named_in_maps}

    @cached_property
    def disagreements(self) -> tuple[str, ...]:
        """Where the evidence contradicts itself, in sentences.

        A mark and a history that name different nodes, both still in the maps, or one name that
        two volumes claim. Names that a person has told are settled; a mark without a time and a
        history are one after the other: an adoption that was not completed, under the later name.
        """
        found = []
        claimants: dict[str, list[str]] = {}
        for pod in sorted(self.volumes):
            if pod in self.told.values():
                continue
            claims = {n: by for n, by in self._claims(pod).items() if n in self.strange}
            own = self.mark(pod)
            by_mark = own.node if own and own.at and own.node in claims else None
            by_history = [n for n, by in claims.items() if by is Evidence.HISTORY]
            if by_mark and by_history:
                found.append(
                    f"the volume of {pod} was {by_mark} by its mark, and {by_history[0]} by "
                    "CouchDB's own history"
                )
            for name in claims:
                if name not in self.told:
                    claimants.setdefault(name, []).append(pod)
        found += [
            f"the volumes of {' and '.join(pods)} both say that they were {name}"
            for name, pods in sorted(claimants.items())
            if len(pods) > 1
        ]
        return tuple(found)

    @cached_property
    def former(self) -> Mapping[str, Former]:
        """Former names, by name, each with the one pod whose volume it was."""
        found: dict[str, Former] = {
            name: Former(name, pod, Evidence.TOLD)
            for name, pod in self.told.items()
            if name in self.strange and pod in self.volumes
        }
        claims: dict[str, list[tuple[str, Evidence]]] = {}
        for pod in self.volumes:
            for name, by in self._claims(pod).items():
                claims.setdefault(name, []).append((pod, by))
        for name in sorted(self.strange - found.keys()):
            by_claim = claims.get(name, [])
            if not by_claim:  # an earlier name, of one volume only
                earlier = [pod for pod in self.volumes if name in self.seen_as(pod)]
                by_claim = [(pod, Evidence.HISTORY) for pod in earlier]
            if len(by_claim) == 1 and self._holds_some(name, by_claim[0][0]):
                found[name] = Former(name, *by_claim[0])
        for name, pod, by in self._by_files(found):
            found[name] = Former(name, pod, by)
        return found

    def _holds_some(self, name: str, pod: str) -> bool:
        """Whether a volume has any file of those that the maps name at this name."""
        there = self.volumes[pod].files
        return there is None or bool(there & self.named_files(name))

    def _anonymous(self, found: Mapping[str, Former]) -> list[str]:
        """Pods of whose volumes nothing says yet whose they were, and that hold unnamed files.

        One that mark or history say is itself is none: a drained node beside a name that is gone
        looks alike.
        """
        known = {former.pod for former in found.values()}
        return [
            pod
            for pod in self.volumes
            if pod not in known
            and not self.is_itself(pod)
            and (files := self.files(pod)) is not None
            and files.unnamed
        ]

    def _by_files(self, found: Mapping[str, Former]) -> Iterable[tuple[str, str, Evidence]]:
        """What elimination and files tell of the names that are left."""
        pods = self._anonymous(found)
        names = sorted(self.strange - found.keys())
        files = {pod: self.volumes[pod].files or frozenset() for pod in pods}
        holding = {
            name: [pod for pod in pods if files[pod] & self.named_files(name)] for name in names
        }
        left = [name for name in names if holding[name]]
        if len(left) == 1 and not found and len(holding[left[0]]) == 1:
            yield left[0], holding[left[0]][0], Evidence.ONLY
            return
        fits = {
            name: [pod for pod in holding[name] if self.named_files(name) <= files[pod]]
            for name in left
        }
        for name in left:
            if len(fits[name]) == 1:
                pod = fits[name][0]
                if [other for other in left if pod in fits[other]] == [name]:
                    yield name, pod, Evidence.FILES

    @cached_property
    def living(self) -> Mapping[str, str]:
        """Former names that are connected all the same, and the pods whose volumes they had.

        Mark or history say that a volume was this node's, and the node is alive elsewhere.
        """
        alive = self.connected - self.expected_names
        return {
            name: pod
            for pod in self.volumes
            for name in self._claims(pod)
            if name in alive
            and (files := self.files(pod)) is not None
            and files.unnamed & self.named_files(name)
        }

    @cached_property
    def untold(self) -> Mapping[str, tuple[str, ...]]:
        """Former names that nothing tells the volume of, and the pods whose volume it may be.

        A person must say (``--from``). A name of which no volume holds a file is none of these.
        """
        pods = self._anonymous(self.former)
        found = {}
        for name in sorted(self.strange - self.former.keys()):
            candidates = tuple(pod for pod in pods if self._holds_some(name, pod))
            if candidates:
                found[name] = candidates
        return found

    @cached_property
    def gone(self) -> frozenset[str]:
        """Names in maps that are no node's now and whose volume is not here."""
        return self.strange - self.former.keys() - self.untold.keys()

    @cached_property
    def has_former_names(self) -> bool:
        """Whether maps name nodes that are not there, whose files lie on pods of ours."""
        return bool(self.former or self.untold)

    @cached_property
    def held(self) -> frozenset[str]:
        """Databases that alone are still under former names, since an adoption has left them so.

        Of replications, as ``adopt --replications hold`` leaves them, or ``stranded``: with every
        other map adopted and the former names noted in the marks. Empty where others are left, too.
        """
        names = self.former.keys() | self.untold.keys()
        maps = self.all_maps or {}
        left = frozenset(each.database for each in maps.values() if each.names & names)
        noted = any(mark.was for pod in self.volumes if (mark := self.mark(pod)) is not None)
        done = all(is_replicator(each) or each in self.stranded for each in left)
        return left if noted and done else frozenset()

    @cached_property
    def stranded(self) -> Mapping[str, str]:
        """Databases, each with a range, that no volume here has a file of, under any name.

        Nobody who is alive is named for it, so that the database cannot be read. Empty while not
        every volume was read.
        """
        volumes = self.volumes.values()
        if any(pod.name not in self._node for pod in self.expected):
            return {}
        if any(volume.files is None for volume in volumes):
            return {}
        there = frozenset[ShardFile]().union(*(volume.files or () for volume in volumes))
        found = {}
        for name, shard_map in (self.all_maps or {}).items():
            if not shard_map.names & self.strange:
                continue
            for range_, names in sorted(shard_map.by_range.items()):
                if set(names) <= self.strange and shard_map.file(range_) not in there:
                    found[name] = range_
                    break
        return found

    @cached_property
    def unfinished(self) -> Mapping[str, str]:
        """Pods whose volumes are being adopted, and the names that they had: nothing is proven yet.

        An adoption leaves a mark without a time before its first step, and the real one at the end.
        Also of a volume that was put back meanwhile at the pod whose it was: the maps have changed.
        """
        return {
            node.pod: mark.node
            for node in self.nodes
            if (mark := self.mark(node.pod)) is not None and not mark.at
        }

    @cached_property
    def suspects(self) -> Mapping[str, frozenset[ShardFile]]:
        """By pod, files that tell whether its volume was another pod's of today, if any is full.

        Mark or history say that it was, the files that the maps name at that name are all there,
        and these among them are not named at the present one. What they hold decides (``infos``):
        CouchDB makes a missing named file, empty, so that names alone would look alike both ways.
        """
        found = {}
        for pod, name in self._elsewhere.items():
            here = self.files(pod)
            if here is not None and (files := self.named_files(name) & here.unnamed):
                found[pod] = files
        return found

    @cached_property
    def _elsewhere(self) -> Mapping[str, str]:
        """Pods whose volume was, by mark or history, another node's that is expected today."""
        found = {}
        for pod, volume in self.volumes.items():
            mark = self.mark(pod)
            own = self._node[pod].name
            if volume.files is None or pod in self.told.values():
                continue
            if mark is not None and mark.node == own:
                continue
            # What an adoption has found out before its first step is not judged anew by maps that
            # it has rewritten since.
            begun = self.unfinished.get(pod)
            for name in self._claims(pod):
                if name in self.expected_names and (
                    name == begun or self.named_files(name) <= volume.files
                ):
                    found[pod] = name
                    break
        return found if len(set(found.values())) == len(found) else {}

    @cached_property
    def permuted(self) -> Mapping[str, str]:
        """Pods whose volumes changed places among pods of today, and the names they had then.

        Only where some file of theirs that is not named now holds something, or was not looked
        into: where every node holds a copy of everything, volumes that changed places are as good
        as they were. Then all that moved are told, since the maps change for all of them at once.
        """
        for pod, files in self.suspects.items():
            infos = self.volumes[pod].infos
            if any(file not in infos or not infos[file].empty for file in files):
                return self._elsewhere
        return {}

    @cached_property
    def displacing(self) -> tuple[str, ...]:
        """Pods whose own volume is at another pod, and that have one of which nothing tells whose.

        An older one of another pod, or a new one, in which CouchDB has made what the maps name
        there, empty: maps that name it would hide what the others hold.
        """
        pods = {self.present[name] for name in self.permuted.values() if name in self.present}
        return tuple(sorted(pods - self.permuted.keys()))

    def translation(self) -> Mapping[str, str]:
        """Names in maps → the Erlang names of the nodes that have their volumes now."""
        return {f.name: self._node[f.pod].name for f in self.former.values()}

    def moved(self) -> Mapping[str, str]:
        """Present names whose volume is at another node of today → the name of that node."""
        return {name: self._node[pod].name for pod, name in self.permuted.items()}

    # --- the table of the mark ---

    @cached_property
    def lost(self) -> Mapping[str, str]:
        """Pods whose volume was lost, and who knows of the former one: a pod, or an Erlang name.

        No mark of its own, while another member's mark or history knows this very name with another
        ``_dbs``, be it of this StatefulSet or of another one. A volume that was another node's is
        not lost.
        """
        elsewhere = {former.pod for former in self.former.values()} | self.permuted.keys()
        found = {}
        for node in self.nodes:
            own = self.volumes[node.pod]
            if own.uuid is None or own.traces is None or self.mark(node.pod) is not None:
                continue
            if node.pod in elsewhere or self._is_known_elsewhere(own.uuid, node.name):
                continue
            witnesses = {**self.volumes, **self.others}
            for witness, volume in witnesses.items():
                if witness != node.pod and _knew_another(volume, node.name, own.uuid):
                    found[node.pod] = witness
                    break
        return found

    @cached_property
    def lost_elsewhere(self) -> frozenset[str]:
        """Connected members that are no pods of ours, and have lost their volumes: as above.

        One whose present ``_dbs`` is the latest that every mark of ours has seen has not, since.
        """
        found = set()
        for name, volume in self.others.items():
            mark = volume.mark
            if volume.uuid is None or volume.traces is None:
                continue
            marks = [each for pod in self.volumes if (each := self.mark(pod)) is not None]
            if mark is not None and mark.uuid == volume.uuid:
                continue
            latest = {each.seen[name][0] for each in marks if each.seen.get(name)}
            if latest == {volume.uuid}:
                continue
            if any(_knew_another(each, name, volume.uuid) for each in self.volumes.values()):
                found.add(name)
        return frozenset(found)

    def _is_known_elsewhere(self, uuid: str, name: str) -> bool:
        """Whether somebody knows this ``_dbs`` as another node's: then it has moved."""
        return any(owner != name for owner, uuids in self._known_uuids.items() if uuid in uuids)

    @cached_property
    def _known_uuids(self) -> Mapping[str, frozenset[str]]:
        """By Erlang name, the ``_dbs`` uuids that marks and histories know it with."""
        known: dict[str, set[str]] = {}
        for pod, volume in self.volumes.items():
            for trace in volume.traces or ():
                known.setdefault(trace.node, set()).add(trace.uuid)
            mark = self.mark(pod)
            for name, uuids in mark.seen.items() if mark is not None else ():
                known.setdefault(name, set()).update(uuids)
            if mark is not None:
                known.setdefault(mark.node, set()).add(mark.uuid)
        return {name: frozenset(uuids) for name, uuids in known.items()}

    @cached_property
    def damaged(self) -> Mapping[str, frozenset[ShardFile]]:
        """Pods whose mark says that they are themselves, and the named files that are not whole.

        Missing, or empty while another copy of the range, as far as it was looked into, is not.
        """
        found = {}
        for node in self.nodes:
            mark, files = self.mark(node.pod), self.files(node.pod)
            if mark is None or mark.node != node.name or files is None:
                continue
            broken = files.missing | (self.empty_copies(node.pod) & files.named)
            if broken:
                found[node.pod] = broken
        return found

    def empty_copies(self, pod: str) -> frozenset[ShardFile]:
        """Files of a node that are empty while another node's copy of them is not.

        Of those only that were looked into (``Volume.infos``).
        """
        return frozenset(
            file
            for file, info in self.volumes[pod].infos.items()
            if info.empty
            and any(
                other.infos[file].empty is False
                for name, other in (*self.volumes.items(), *self.others.items())
                if name != pod and file in other.infos
            )
        )

    def behind(self, pod: str) -> frozenset[ShardFile]:
        """Files of a node that hold much less than another copy of them, as they were looked into.

        Documents and deletions are counted: under writers two good copies differ by a few.
        """
        everybody = (*self.volumes.values(), *self.others.values())
        return frozenset(
            file
            for file, info in self.volumes[pod].infos.items()
            if any(
                info.held < GOOD_SHARE * other.infos[file].held
                for other in everybody
                if file in other.infos
            )
        )

    @cached_property
    def unmarked(self) -> frozenset[str]:
        """Pods without a mark, though it could be read, and without a sign of a lost volume."""
        return frozenset(
            pod
            for pod, volume in self.volumes.items()
            if volume.traces is not None and self.mark(pod) is None and pod not in self.lost
        )

    @cached_property
    def unproven(self) -> frozenset[str]:
        """Pods whose mark does not say that they are themselves, and that are not lost: what lies
        there is looked into before they are called verified."""
        otherwise = {
            node.pod
            for node in self.nodes
            if (mark := self.mark(node.pod)) is not None and mark.node != node.name
        }
        return self.unmarked | otherwise

    @cached_property
    def lacking(self) -> Mapping[str, frozenset[ShardFile]]:
        """Unproven pods, and their named files that are missing, or empty while others are not.

        As after a run that was killed between a map that names more copies and their filling.
        """
        found = {}
        for pod in self.unproven:
            files = self.files(pod)
            if files is not None and (
                broken := files.missing | (self.empty_copies(pod) & files.named)
            ):
                found[pod] = broken
        return found

    @cached_property
    def mismarked(self) -> Mapping[str, str]:
        """Pods whose mark names another node, though files and maps are all right."""
        found = {}
        moved = {former.pod for former in self.former.values()} | self.permuted.keys()
        for node in self.nodes:
            mark, files = self.mark(node.pod), self.files(node.pod)
            if mark is None or mark.node == node.name or node.pod in moved:
                continue
            if files is not None and not files.missing:
                found[node.pod] = mark.node
        return found

    @cached_property
    def fresh(self) -> frozenset[str]:
        """Pods without a mark, a sign of a lost volume, or anything of their own."""
        return frozenset(pod for pod in self.unmarked if self.own_data(pod) == frozenset())

    # --- several of one ---

    @cached_property
    def clones(self) -> tuple[Clone, ...]:
        """Live nodes with the same ``_dbs`` uuid: an original and a copy of its volume.

        Equal uuids of single files are no sign: copying files is how CouchDB's manual moves shards.
        """
        holders: dict[str, list[tuple[str, str | None]]] = {}
        for node in self.nodes:
            uuid = self.volumes[node.pod].uuid
            if uuid is not None:
                holders.setdefault(uuid, []).append((node.name, node.pod))
        for name, volume in sorted(self.others.items()):
            if volume.uuid is not None and name not in self.present:
                holders.setdefault(volume.uuid, []).append((name, None))
        return tuple(
            Clone(pod, other, uuid)
            for uuid, names in holders.items()
            for at, (_, pod) in enumerate(names)
            if pod is not None
            for other, _ in names[at + 1 :]
        )

    def is_original(self, clone: Clone) -> bool:
        """Whether, of a volume that there is twice, ours is the one that was there first.

        Its mark says so, or says otherwise; else the maps name more of its files at its own name
        than at the other's. History does not tell: once the two have met it has both names.
        """
        mark, there = self.mark(clone.pod), self.volumes[clone.pod].files or frozenset()
        name = self._node[clone.pod].name
        if mark is not None:
            return mark.node == name
        return len(self.named_files(name) & there) > len(self.named_files(clone.other) & there)

    @cached_property
    def merged(self) -> tuple[str, ...]:
        """Databases whose maps are in conflict, as after joining two clusters: of the copies that
        the losing revision names nothing is read."""
        return tuple(
            sorted(
                {
                    each.database
                    for volume in self.volumes.values()
                    for each in volume.maps or ()
                    if each.conflicting
                }
            )
        )

    def differing(self) -> tuple[str, ...]:
        """Databases of which nodes that are not linked have maps of different revisions.

        Whether one is only older than the other, their histories tell (``unrelated``).
        """
        known: dict[str, set[str]] = {}
        for pods in set(self._links.values()):
            for name, shard_map in (self._maps_of(pods) or {}).items():
                known.setdefault(name, set()).add(shard_map.revision)
        return tuple(sorted(name for name, revisions in known.items() if len(revisions) > 1))

    @cached_property
    def unrelated(self) -> tuple[str, ...] | None:
        """Databases of which nodes that are not linked have maps that CouchDB could not put into
        one line: two clusters. Joined, one side's documents would be hidden.

        A map that is an earlier state of the other's is none: the later wins, without a conflict.
        None where histories are missing that would tell.
        """
        found = []
        for name in self.differing():
            sides = self._sides(name)
            if any(not side.history for side in sides):
                return None
            newest = max(sides, key=lambda side: side.rank)
            if any(side.revision not in newest.history for side in sides):
                found.append(name)
        return tuple(found)

    def _sides(self, database: str) -> list[ShardMap]:
        """The maps that nodes which are not linked have of a database."""
        groups = [self._maps_of(pods) or {} for pods in set(self._links.values())]
        return [maps[database] for maps in groups if database in maps]

    @cached_property
    def made_since(self) -> tuple[str, ...]:
        """Those of them that nodes made under their present names: who writes to a restored set."""
        present = frozenset(self.present)
        return tuple(
            name
            for name in self.unrelated or ()
            if sum(not side.names & present for side in self._sides(name)) <= 1
        )


def _own_mark(volume: Volume) -> Mark | None:
    mark = volume.mark
    if mark is None or (volume.uuid is not None and mark.uuid != volume.uuid):
        return None
    return mark


def _knew_another(witness: Volume, name: str, uuid: str) -> bool:
    """Whether a volume's mark or history knows a node with another ``_dbs`` than this."""
    mark = _own_mark(witness)
    seen = mark.seen.get(name, ()) if mark is not None else ()
    known = {trace.uuid for trace in witness.traces or () if trace.node == name}
    return bool((known | set(seen)) - {uuid})
