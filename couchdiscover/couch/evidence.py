"""Observation: what lies on the volumes, as far as the decision may turn on it."""

import contextlib
from collections.abc import Collection, Iterable, Mapping
from collections.abc import Set as AbstractSet
from dataclasses import replace

from couchdiscover.couch.asking import Asker, node_of
from couchdiscover.couch.client import CouchFailure, CouchNode
from couchdiscover.couch.copies import Nodes, look_at, read_files
from couchdiscover.couch.volumes import Part, read_histories, read_holdings, read_infos, read_volume
from couchdiscover.decide.copies import Loss, Proof, lost_ranges, refilled, unsourced
from couchdiscover.decide.membership import MOST_OTHERS, Membership
from couchdiscover.decide.merging import unclear
from couchdiscover.decide.verification import few_copies, sampled
from couchdiscover.decide.volumes import Files, Survey
from couchdiscover.state.nodes import ClusterView, Copies, NodeView
from couchdiscover.state.topology import Scope, Topology
from couchdiscover.state.volumes import FileInfo, ShardFile, ShardMap, Volume

SPREADING = (0.2, 0.5, 1.0, 2.0, 4.0)
"""Seconds after which a copy that holds less than another one is looked at again: what has just
been written, the design document of a new ``_users`` say, is on the other copies within these, or
is known to have been pushed there ([mem3] sync_delay is 5 s)."""

MOST_WAYS = 3
"""Through how many nodes of ours a member of another set is asked for at most."""

Questioned = Mapping[str, frozenset[ShardFile]]
"""Copies that may lack something, by the Erlang names of their nodes."""


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
    if membership.beside:
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
    """The volumes of connected members that are no pods of ours, through nodes of ours.

    Each through one that is connected to it; where that fails, through others.
    """
    others: dict[str, Volume] = {}
    names = membership.beside[:MOST_OTHERS]
    ways = {name: [node for node in view.nodes if name in node.all_nodes] for name in names}
    for attempt in range(MOST_WAYS):
        asked_of: dict[str, list[str]] = {}
        for name in names:
            if name not in others and attempt < len(ways[name]):
                asked_of.setdefault(ways[name][attempt].pod, []).append(name)

        def asked(
            client: CouchNode, node: NodeView, asked_of: Mapping[str, list[str]] = asked_of
        ) -> NodeView:
            for name in asked_of[node.pod]:
                with contextlib.suppress(CouchFailure):
                    others[name] = Volume(uuid=client.dbs_info(name).uuid)
            return node

        asker.each(topology, view, [n for n in view.nodes if n.pod in asked_of], asked)
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
        peers = [n.pod for n in view.nodes if n.pod not in verified and not n.alone]
        wanted |= dict.fromkeys(peers, Part.FILES | Part.HISTORY)
        view = _read(asker, topology, view, wanted)
        view = _with_witnesses_beyond(asker, topology, view)
    view = _confirmed(asker, topology, view, verified)
    view, questioned = _sampled(asker, topology, view, verified)
    return _with_copies(asker, topology, view, verified, questioned)


def _confirmed(
    asker: Asker, topology: Topology, view: ClusterView, verified: Collection[str]
) -> ClusterView:
    """Files and maps once more where a named file is missing.

    A database that is made, or deleted, between the two questions looks so for a moment.
    """
    before = {pod: files.missing for pod in verified if (files := _files(topology, view, pod))}
    doubtful = {pod for pod, missing in before.items() if missing}
    wanted = {node.pod: Part.MAPS for node in view.nodes if node.volume and node.volume.maps}
    wanted |= {pod: wanted.get(pod, Part(0)) | Part.FILES for pod in doubtful}
    if not doubtful:
        return view
    view = _read(asker, topology, view, wanted)

    def settled(node: NodeView) -> NodeView:
        files, volume = _files(topology, view, node.pod), node.volume
        if files is None or volume is None or volume.files is None:
            return node
        new = files.missing - before[node.pod]
        return replace(node, volume=replace(volume, files=volume.files | new))

    return view.seen_anew({node.pod: settled(node) for node in view.nodes if node.pod in doubtful})


def _files(topology: Topology, view: ClusterView, pod: str) -> Files | None:
    return Membership.of(topology, view).survey.files(pod)


def _sampled(
    asker: Asker, topology: Topology, view: ClusterView, verified: Collection[str]
) -> tuple[ClusterView, Questioned]:
    """A sample of the copies on each volume, and the other copies of their ranges.

    Returns those that hold less than another one, and that nothing proves. System databases that a
    first run has just made are all there is; in a cluster that is older than its marks there may be
    many. CouchDB makes a missing named file by itself, empty, and a mark says nothing of that.
    """
    membership = Membership.of(topology, view)
    survey = membership.survey
    # The API server's proxy does not let encoded slashes through, and with that no file's name.
    near = asker.fleet.access.door is None
    looked_at = [
        node
        for node in view.nodes
        if node.pod in verified
        and node.pod not in survey.lost
        and survey.volumes[node.pod].traces is not None
        and (near or node.pod in survey.unproven)
    ]
    files = frozenset(file for node in looked_at for file in sampled(survey, node.pod))
    if not files:
        return view, {}
    view = view.seen_anew(
        {n.pod: replace(n, volume=replace(survey.volumes[n.pod], sampled=True)) for n in looked_at}
    )
    view = _with_infos(asker, topology, view, _holding(membership, files))
    proof: Proof | None = None
    for pause in (*SPREADING, 0.0):
        behind = _behind(Membership.of(topology, view).survey, looked_at)
        proof = _proof_of(asker, topology, view, behind, proof) if behind else proof
        left = proof.left() if proof is not None else {}
        behind = {name: files.intersection(left.get(name, ())) for name, files in behind.items()}
        behind = {name: files for name, files in behind.items() if files}
        over = asker.deadline.seconds and asker.deadline.passed
        if over or not pause or behind.keys() <= asker.memory.incomplete.keys():
            break  # what was found once is not waited for again in each look
        asker.deadline.rest(pause)
        questioned = frozenset().union(*behind.values())
        view = _with_infos(asker, topology, view, _holding(membership, questioned))
    return view, behind


def _behind(survey: Survey, nodes: Iterable[NodeView]) -> Questioned:
    """Copies that hold less than another of the same range, by the Erlang names of their nodes."""
    found = {node.name: survey.behind(node.pod) for node in nodes}
    return {name: files for name, files in found.items() if files}


def _proof_of(
    asker: Asker,
    topology: Topology,
    view: ClusterView,
    questioned: Questioned,
    before: Proof | None,
) -> Proof:
    """One look at whether CouchDB has pushed to these copies all that the others had at first.

    Under writers two good copies differ at any look, so that counts alone prove nothing.
    """
    membership = Membership.of(topology, view)
    maps = (membership.survey.all_maps or {}).values()
    clients = _everybody(asker, topology, view, membership.beside)
    proof = refilled(maps, Loss(), clients.clients.keys(), questioned)
    return look_at(before.over(proof) if before is not None else proof, clients)


def _everybody(
    asker: Asker, topology: Topology, view: ClusterView, beyond: Collection[str]
) -> Nodes:
    """The way to all nodes of ours that answer, and to these members beyond them."""
    clients = dict(_beyond(asker, topology, view, beyond).clients)
    for node in view.nodes:
        if (pod := topology.pod(node.pod)) is not None:
            clients[node.name] = asker.fleet.node(pod, node.address)
    return Nodes(clients, asker.fleet.patience)


def _holding(
    membership: Membership, files: Collection[ShardFile]
) -> Mapping[str, AbstractSet[ShardFile]]:
    """Which of these files the maps name at whom, of all that answer."""
    survey = membership.survey
    names = (*survey.present, *membership.beside)
    return {name: survey.named_files(name).intersection(files) for name in names}


def _with_infos(
    asker: Asker,
    topology: Topology,
    view: ClusterView,
    files: Mapping[str, Collection[ShardFile]],
) -> ClusterView:
    """What these files hold now, by the Erlang names of their nodes."""

    def asked(client: CouchNode, node: NodeView) -> NodeView:
        volume = node.volume or Volume()
        infos = {f: i for f, i in volume.infos.items() if f not in files[node.name]}
        found = read_infos(client, files[node.name])
        infos |= {file: info for file, info in found.items() if info is not None}
        return replace(node, volume=replace(volume, infos=infos))

    view = asker.each(topology, view, [n for n in view.nodes if files.get(n.name)], asked)
    present = {node.name for node in view.nodes}
    strangers = {name for name, wanted in files.items() if wanted} - present
    beyond = _beyond(asker, topology, view, strangers)
    view = _with_volumes_beyond(view, beyond, Part.FILES)
    return _with_infos_beyond(
        view, read_files(beyond, ((name, f) for name in beyond.clients for f in files[name]))
    )


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
    asker: Asker,
    topology: Topology,
    view: ClusterView,
    verified: Collection[str],
    questioned: Questioned,
) -> ClusterView:
    """How far copies are filled again on volumes that were lost, are damaged, or lack some."""
    memory, survey = asker.memory, Membership.of(topology, view).survey
    broken = {**survey.damaged, **survey.lacking}
    wholly = survey.lost.keys() | broken.keys()  # whoever lacks a copy may lack others, too
    names: dict[str, frozenset[ShardFile] | None] = dict(memory.incomplete)
    for name, files in questioned.items():
        known = names.get(name, frozenset())
        names[name] = None if known is None else known | files
    incomplete = [n for n in view.nodes if n.pod in verified and n.pod in wholly]
    names |= dict.fromkeys(node.name for node in incomplete)
    if not names:
        return view
    view = _with_witnesses(asker, topology, view)
    view = _with_spared_maps(asker, topology, view)
    view = _with_witnesses_beyond(asker, topology, view)
    membership = Membership.of(topology, view)
    if membership.beside and not _spared_maps(membership.survey):
        others = _beyond(asker, topology, view, membership.beside)
        view = _with_volumes_beyond(view, others, Part.MAPS)
        membership = Membership.of(topology, view)
    survey = membership.survey
    maps = _spared_maps(survey)
    if not maps:
        return view  # one that has just lost its volume may not know of all databases yet
    # Of a volume that only lacks some copies, the others count, and it is filled up.
    copies = dict(memory.loss.copies)
    for node in incomplete:
        if lacking := broken.get(node.pod):
            copies[node.name] = copies.get(node.name, frozenset()) | lacking
    lost = frozenset(node.name for node in view.nodes if node.pod in survey.lost)
    loss = Loss(memory.loss.volumes | lost | survey.lost_elsewhere, copies)
    # By one that does not tell whether it was lost, nothing is proven.
    telling = [n for n in membership.beside if _tells(view.others.get(n, Volume()))]
    nodes = _everybody(asker, topology, view, telling)
    answering = {node.name for node in view.nodes if _tells(survey.volumes[node.pod])}
    proof = refilled(maps.values(), loss, answering.union(telling), names)
    memory.proof = memory.proof.over(proof) if memory.proof else proof
    memory.incomplete, memory.loss = names, loss
    if not memory.proof.complete:
        memory.proof = look_at(memory.proof, nodes)
    proof = memory.proof
    touched = {pair.file.database for pair in proof.pairs}
    return replace(
        view,
        copies=Copies(
            lost=frozenset(names),
            databases=tuple(sorted(touched)),
            left=proof.left(),
            unsourced=unsourced(proof, maps.values(), loss),
            total={name: proof.total(name) for name in names},
            progress=proof.progress(),
            gone=lost_ranges(proof, maps.values(), loss),
            synced=memory.synced,
        ),
    )


def _with_witnesses(asker: Asker, topology: Topology, view: ClusterView) -> ClusterView:
    """Of every member whether it was lost, too: two that were do not prove each other."""
    members = [node for node in view.nodes if node.finished]
    silent = [n for n in members if n.volume is None or n.volume.traces is None]
    view = _read(asker, topology, view, {node.pod: Part.HISTORY for node in silent})
    untold = [n for n in view.nodes if n.finished and not _tells(n.volume or Volume())]
    return _read(asker, topology, view, {node.pod: Part.UUID for node in untold})


def _with_witnesses_beyond(asker: Asker, topology: Topology, view: ClusterView) -> ClusterView:
    """The same of connected members that are no pods of ours, of those that did not tell yet."""
    beside = Membership.of(topology, view).beside
    untold = [name for name in beside if not _tells(view.others.get(name, Volume()))]
    beyond = _beyond(asker, topology, view, untold)
    return _with_volumes_beyond(view, beyond, Part.HISTORY | Part.UUID)


def _spared_maps(survey: Survey) -> Mapping[str, ShardMap]:
    """All maps, where a member that has not lost its volume has told its own; else none."""
    spared = [survey.volumes[pod].maps for pod in survey.volumes if pod not in survey.lost]
    if any(maps is not None for maps in spared):
        return survey.all_maps or {}
    kept = [each for name, each in survey.others.items() if name not in survey.lost_elsewhere]
    told = [shard_map for each in kept for shard_map in each.maps or ()]
    return {each.database: each for each in sorted(told, key=lambda each: each.rank)}


def _tells(volume: Volume) -> bool:
    """Whether it was read of a volume whether it was lost."""
    return volume.traces is not None and (volume.mark is not None or volume.uuid is not None)


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
