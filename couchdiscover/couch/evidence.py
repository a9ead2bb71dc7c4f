"""Observation: what lies on the volumes, as far as the decision may turn on it."""

import contextlib
from collections.abc import Collection, Iterable, Mapping
from dataclasses import replace

from couchdiscover.couch.asking import Asker, node_of
from couchdiscover.couch.client import CouchFailure, CouchNode
from couchdiscover.couch.copies import Nodes, look_at, read_files
from couchdiscover.couch.volumes import Part, read_histories, read_holdings, read_infos, read_volume
from couchdiscover.decide.copies import lost_ranges, refilled, sample, unsourced
from couchdiscover.decide.membership import MOST_OTHERS, Membership
from couchdiscover.decide.merging import unclear
from couchdiscover.decide.verification import few_copies
from couchdiscover.state.nodes import ClusterView, Copies, NodeView
from couchdiscover.state.topology import Scope, Topology
from couchdiscover.state.volumes import FileInfo, ShardFile, Volume

SPREADING = (0.2, 0.5, 1.0, 2.0)
"""Seconds after which a copy that is empty, while another is not, is looked at again: what has just
been written, the design document of a new ``_users`` say, is on the other copies within these."""


def with_volumes(asker: Asker, topology: Topology, view: ClusterView) -> ClusterView:
    """What lies on the volumes, as far as the decision may turn on it."""
    view = _with_lone(asker, topology, view)
    membership = Membership.of(topology, view)
    wanted: dict[str, Part] = {}

    def want(nodes: Iterable[NodeView], parts: Part) -> None:
        for node in nodes:
            wanted[node.pod] = wanted.get(node.pod, Part(0)) | parts

    lone = [group.nodes[0] for group in membership.groups if len(group.names) == 1]
    laden = [node for node in lone if node.volume is not None and node.volume.files]
    if laden:
        want(laden, Part.MAPS | Part.HISTORY | Part.UUID)
        leaders = [group.coordinator for group in membership.groups if group.exists]
        want(leaders or view.nodes[:1], Part.MAPS)
    if membership.clusters or laden:  # whoever joins may have maps that would hide what is there
        joining = [node for node in lone if not membership.group_of(node).exists]
        want(joining, Part.MAPS)
        want([group.coordinator for group in membership.clusters] if joining else (), Part.MAPS)
    if asker.foresees:
        clusters = [group for group in membership.groups if group.was_finished]
        want([group.coordinator for group in clusters], Part.MAPS)
    late = [node for node in view.nodes if node.overdue]
    fellows = frozenset().union(*(node.overdue for node in late))
    want([*late, *(node for node in view.nodes if node.name in fellows)], Part.MAPS)
    away = [node for node in view.nodes if node.was_finished and not node.finished]
    if membership.left_behind or away:
        want(view.nodes, Part.FILES | Part.MAPS | Part.HISTORY | Part.UUID)
    verified = _to_verify(asker, topology, view)
    if verified:
        want(verified, Part.FILES | Part.HISTORY)
        leader = next((g.coordinator for g in membership.groups if verified[0] in g.nodes), None)
        want([leader or verified[0]], Part.MAPS)
        view = asker.each(
            topology, view, verified, lambda client, node: replace(node, up=client.up())
        )
    if membership.elsewhere:
        view = _with_others(asker, topology, view, membership)
        view = _read(asker, topology, view, {node.pod: Part.UUID for node in view.nodes})
        if Membership.of(topology, view).survey.clones:
            want(view.nodes, Part.FILES | Part.MAPS | Part.HISTORY)
    view = _read(asker, topology, view, wanted)
    view = _with_blank(asker, topology, view)
    if names := unclear(view.nodes):
        read = [node for node in view.nodes if node.volume is not None and node.volume.maps]
        view = asker.each(
            topology,
            view,
            read,
            lambda client, node: replace(
                node, volume=read_histories(client, node.volume or Volume(), names)
            ),
        )
    if verified:
        view = _with_evidence(asker, topology, view)
    return _with_suspects(asker, topology, view)


def _with_suspects(asker: Asker, topology: Topology, view: ClusterView) -> ClusterView:
    """Whether files that tell of volumes which changed places hold anything.

    Empty ones, which CouchDB has made for what a map named once, are no sign. The first that holds
    something is enough.
    """

    def asked(client: CouchNode, node: NodeView) -> NodeView:
        volume = node.volume or Volume()
        found = dict(volume.infos)
        for file in sorted(suspects[node.pod]):
            if file not in found:
                found |= {f: i for f, i in read_infos(client, [file]).items() if i is not None}
            if file not in found or not found[file].empty:
                break
        return replace(node, volume=replace(volume, infos=found))

    suspects = Membership.of(topology, view).survey.suspects
    return asker.each(topology, view, [n for n in view.nodes if n.pod in suspects], asked)


def _with_lone(asker: Asker, topology: Topology, view: ClusterView) -> ClusterView:
    """What nodes hold that list others, of which none is there: they are alone all the same."""
    unknown = [n for n in Membership.of(topology, view).undetermined if n.volume is None]
    return asker.each(
        topology,
        view,
        unknown,
        lambda client, node: replace(node, volume=read_holdings(client)),
    )


def _read(
    asker: Asker, topology: Topology, view: ClusterView, wanted: Mapping[str, Part]
) -> ClusterView:
    return asker.each(
        topology,
        view,
        [node for node in view.nodes if wanted.get(node.pod)],
        lambda client, node: replace(
            node, volume=read_volume(client, wanted[node.pod], node.volume)
        ),
    )


def _with_blank(asker: Asker, topology: Topology, view: ClusterView) -> ClusterView:
    """Which system databases with few copies hold documents: blank ones can be given more.

    Through the cluster, since the copies may be on other nodes; what cannot be read may hold
    anything.
    """

    def asked(client: CouchNode, node: NodeView) -> NodeView:
        few = few_copies(membership, node, ahead=asker.foresees)
        filled = set()
        for name in few:
            try:
                if client.holds_documents(name):
                    filled.add(name)
            except CouchFailure:
                filled.add(name)
        volume = replace(node.volume or Volume(), filled=frozenset(filled))
        return replace(node, volume=volume)

    membership = Membership.of(topology, view)
    nodes = [
        node
        for node in view.nodes
        if node.finished and not node.alone and few_copies(membership, node, ahead=asker.foresees)
    ]
    return asker.each(topology, view, nodes[:1], asked)


def _with_others(
    asker: Asker, topology: Topology, view: ClusterView, membership: Membership
) -> ClusterView:
    """The volumes of connected members that are no pods of ours, through one of our nodes."""
    others: dict[str, Volume] = {}

    def asked(client: CouchNode, node: NodeView) -> NodeView:
        for name in membership.elsewhere[:MOST_OTHERS]:
            with contextlib.suppress(CouchFailure):
                others[name] = Volume(uuid=client.dbs_info(name).uuid)
        return node

    connected = [n for n in view.nodes if not n.all_nodes.isdisjoint(membership.elsewhere)]
    asker.each(topology, view, connected[:1], asked)
    return replace(view, others=others)


def _beyond(asker: Asker, topology: Topology, view: ClusterView, names: Collection[str]) -> Nodes:
    """The way to connected members that are no pods of ours: through a node of ours each."""
    clients = {}
    for name in sorted(names)[:MOST_OTHERS]:
        through = next((node for node in view.nodes if name in node.all_nodes), None)
        pod = topology.pod(through.pod) if through is not None else None
        if through is not None and pod is not None:
            clients[name] = asker.fleet.node(pod, through.address, name)
    return Nodes(clients, asker.fleet.patience)


def _with_volumes_beyond(view: ClusterView, nodes: Nodes, parts: Part) -> ClusterView:
    """What lies on the volumes of members that are no pods of ours."""
    read = nodes.ask(
        ((name, name) for name in nodes.clients),
        lambda client, name: read_volume(client, parts, view.others.get(name)),
    )
    return replace(
        view, others={**view.others, **{name: found for (name, _), found in read.items()}}
    )


def _with_evidence(asker: Asker, topology: Topology, view: ClusterView) -> ClusterView:
    """Where a mark is missing: whether that volume was lost, or only never marked."""
    verified = {node.pod for node in _to_verify(asker, topology, view)}
    bare = [
        node
        for node in view.nodes
        if node.pod in verified
        and node.volume is not None
        and node.volume.traces is not None
        and (node.volume.mark is None or node.volume.mark.node != node.name)
    ]
    if bare:
        wanted = {node.pod: Part.UUID for node in bare}
        peers = [n for n in view.nodes if n.pod not in verified and n.finished]
        wanted |= {node.pod: Part.FILES | Part.HISTORY for node in peers}
        view = _read(asker, topology, view, wanted)
    membership = Membership.of(topology, view)
    bare = [node for node in bare if node.pod in membership.survey.unproven]
    view = _sampled(asker, topology, view, membership, bare)
    return _with_copies(asker, topology, view, verified)


def _sampled(
    asker: Asker,
    topology: Topology,
    view: ClusterView,
    membership: Membership,
    unmarked: list[NodeView],
) -> ClusterView:
    """A sample of the copies on volumes without a mark, and the other copies of their ranges.

    System databases that a first run has just made are all there is; in a cluster that is older
    than its marks there may be many.
    """
    survey = membership.survey
    files: dict[str, set[ShardFile]] = {}
    for node in unmarked:
        found = survey.files(node.pod)
        if found is None:
            continue
        for file in sample(found.named).files:
            for name in (*survey.present, *membership.elsewhere):
                if file in survey.named_files(name):
                    files.setdefault(survey.present.get(name, name), set()).add(file)
    beyond = _beyond(asker, topology, view, files.keys() & set(membership.elsewhere))
    view = _with_volumes_beyond(view, beyond, Part.FILES)

    def asked(client: CouchNode, node: NodeView) -> NodeView:
        infos = read_infos(client, files[node.pod])
        there = {file: info for file, info in infos.items() if info is not None}
        return replace(node, volume=replace(node.volume or Volume(), infos=there))

    for pause in (0.0, *SPREADING):
        asker.deadline.rest(pause)
        view = asker.each(topology, view, [n for n in view.nodes if n.pod in files], asked)
        there = read_files(beyond, ((name, f) for name in beyond.clients for f in files[name]))
        view = _with_infos_beyond(view, there)
        survey = Membership.of(topology, view).survey
        empty = {node.name for node in unmarked if survey.empty_copies(node.pod)}
        if empty <= asker.memory.lost or (asker.deadline.seconds and asker.deadline.passed):
            break  # what was found empty once is not waited for again in each look
    return view


def _with_infos_beyond(
    view: ClusterView, infos: Mapping[tuple[str, ShardFile], FileInfo | None]
) -> ClusterView:
    others = dict(view.others)
    for (name, file), info in infos.items():
        if info is not None:
            volume = others.get(name, Volume())
            others[name] = replace(volume, infos={**volume.infos, file: info})
    return replace(view, others=others)


def _with_copies(
    asker: Asker, topology: Topology, view: ClusterView, verified: Collection[str]
) -> ClusterView:
    """How far copies are filled again on volumes that were lost, are damaged, or lack some."""
    memory, survey = asker.memory, Membership.of(topology, view).survey
    broken = survey.lost.keys() | survey.damaged.keys() | survey.lacking.keys()
    pods = broken & set(verified)
    lost = frozenset(node.name for node in view.nodes if node.pod in pods) | memory.lost
    if not lost:
        return view
    view = _with_spared_maps(asker, topology, view)
    membership = Membership.of(topology, view)
    if membership.elsewhere:
        others = _beyond(asker, topology, view, membership.elsewhere)
        view = _with_volumes_beyond(view, others, Part.HISTORY | Part.UUID)
        membership = Membership.of(topology, view)
    survey = membership.survey
    maps = survey.all_maps
    spared = [n for n in view.nodes if n.pod not in survey.lost]
    if maps is None or not any(survey.volumes[node.pod].maps is not None for node in spared):
        return view  # one that has just lost its volume may not know of all databases yet
    names = {node.name: node for node in view.nodes}
    # An unproven volume is not called lost: what it holds counts, and it is filled up.
    nowhere = lost - frozenset(n.name for n in view.nodes if n.pod in survey.unproven)
    nowhere |= frozenset(n.name for n in view.nodes if n.pod in survey.lost)
    nowhere |= survey.lost_elsewhere
    # Of one that does not tell whether it was lost, nothing is proven.
    known = [n for n in membership.elsewhere if view.others.get(n, Volume()).traces is not None]
    beyond = _beyond(asker, topology, view, known).clients
    proof = refilled(maps.values(), nowhere, names.keys() | beyond.keys(), targets=lost)
    memory.proof = memory.proof.over(proof) if memory.proof else proof
    memory.lost = lost
    clients = {
        name: asker.fleet.node(pod, node.address)
        for name, node in names.items()
        if (pod := topology.pod(node.pod)) is not None
    } | dict(beyond)
    if not memory.proof.complete:
        memory.proof = look_at(memory.proof, Nodes(clients, asker.fleet.patience))
    proof = memory.proof
    touched = {pair.file.database for pair in proof.pairs}
    return replace(
        view,
        copies=Copies(
            lost=lost,
            databases=tuple(sorted(touched)),
            left=proof.left(),
            unsourced=unsourced(proof, maps.values(), nowhere),
            total={name: proof.total(name) for name in lost},
            progress=proof.progress(),
            gone=lost_ranges(proof, maps.values(), nowhere),
            synced=memory.synced,
        ),
    )


def _with_spared_maps(asker: Asker, topology: Topology, view: ClusterView) -> ClusterView:
    """The shard maps of one member that has not lost its volume: it knows of all databases."""
    lost = Membership.of(topology, view).survey.lost
    spared = [node for node in view.nodes if node.finished and node.pod not in lost]
    if any(node.volume is not None and node.volume.maps is not None for node in spared):
        return view
    return _read(asker, topology, view, {node.pod: Part.MAPS for node in spared[:1]})


def _to_verify(asker: Asker, topology: Topology, view: ClusterView) -> list[NodeView]:
    """The nodes whose membership and set-up are as they should be: their volumes are next.

    In scope ``pod`` that is the own node, and all of them where this run has finished the
    cluster: whoever finishes verifies, and marks, everybody.
    """
    if asker.scope is Scope.POD and not asker.memory.finished_here:
        own = node_of(view, topology.own or "")
        return [own] if own is not None and own.finished else []
    expected = frozenset(node.name for node in view.nodes)
    whole = len(view.nodes) == len(topology.expected) and all(
        node.finished
        and expected <= node.cluster_nodes | {node.name}
        and expected <= node.all_nodes | {node.name}
        for node in view.nodes
    )
    return list(view.nodes) if whole else []
