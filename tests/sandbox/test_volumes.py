"""What lies on the volumes of simulated nodes: files, maps, marks, checkpoints, and who they were.

Measured on real nodes each of them; where an answer's exact text counts, it is CouchDB 3.5.2's.
"""

import json
from collections.abc import Iterable
from typing import Any
from urllib.parse import quote

import pytest

from couchdiscover.sandbox.couchdb import Network, Node, Volume
from couchdiscover.sandbox.couchdb.volume import File, checkpoint_id
from tests.support.couchdb import Clock, assembled, call, join

IDS = [f"d{i}" for i in range(20)]


def named(
    network: Network, namespace: str, volumes: Iterable[Volume], **options: Any
) -> list[Node]:
    """Nodes of a StatefulSet in a namespace, on these volumes."""
    return [
        Node(network, name=f"couchdb@c-{i}.c.{namespace}.svc", volume=volume, **options)
        for i, volume in enumerate(volumes)
    ]


def filled(network: Network, count: int = 3, query: str = "", **options: Any) -> list[Node]:
    """A finished cluster with a database of 20 documents, everything replicated."""
    nodes = assembled(network, count, **options)
    assert call(nodes[0], "PUT", f"/db{query}").status == 201
    write(nodes[0], IDS)
    wait(network, 10)
    return nodes


def wait(network: Network, seconds: float) -> None:
    if isinstance(network, Clock):
        network.wait(seconds)
    else:
        network.settle()


def write(node: Node, ids: Iterable[str], database: str = "db") -> None:
    for doc_id in ids:
        assert call(node, "PUT", f"/{database}/{doc_id}", {}).status in (201, 202)


def local(path: str, below: str = "") -> str:
    return f"/_node/_local/{quote(path, safe='')}{below}"


def paths(node: Node, database: str = "db") -> list[str]:
    found = call(node, "GET", "/_node/_local/_all_dbs").body
    return [path for path in found if f"/{database}." in path]


def count(node: Node, database: str = "db") -> int:
    return int(call(node, "GET", f"/{database}").body["doc_count"])


def copies(nodes: Iterable[Node], path: str) -> list[int]:
    """How many documents each node's copy has."""
    return [call(node, "GET", local(path)).body["doc_count"] for node in nodes]


def checkpoint(source: Node, target: Node, path: str) -> tuple[int, int]:
    """How far a copy came, by both of its checkpoints; 0 where there is none."""
    infos = [call(node, "GET", local(path)).body["uuid"] for node in (source, target)]
    below = f"/_local/{checkpoint_id(infos[0], infos[1])}"
    bodies = [call(node, "GET", local(path, below)).body for node in (source, target)]
    return bodies[0].get("seq", 0), bodies[1].get("seq", 0)


def rewrite(nodes: list[Node], names: dict[str, str], database: str = "db") -> int:
    """Puts other names into a shard map; the status."""
    text = json.dumps(call(nodes[0], "GET", f"/_node/_local/_dbs/{database}").body)
    for old, new in names.items():
        text = text.replace(old, new)
    return call(nodes[0], "PUT", f"/_node/_local/_dbs/{database}", json.loads(text)).status


# -- a lost volume


def test_a_lost_volume_is_served_empty_until_its_peers_have_filled_it() -> None:
    network = Clock()
    nodes = filled(network)
    before = nodes[1].volume.dbs.uuid
    network.replication.hold(nodes[1].name, 3)
    nodes[1].wipe()
    network.wait(10)
    # Members, maps and named files are back; the state is finished; the documents are not there.
    assert nodes[1].state == "cluster_finished"
    assert nodes[1].volume.dbs.uuid != before
    assert paths(nodes[1]) == paths(nodes[0])
    assert [copies([nodes[1]], path) for path in paths(nodes[1])] == [[3], [3]]
    assert (count(nodes[1]), count(nodes[0])) == (6, 20)
    for path in paths(nodes[0]):
        want = call(nodes[0], "GET", local(path)).body["update_seq"]
        assert checkpoint(nodes[0], nodes[1], path) == (3, 3), "as far as it came"
        assert want > 3
    assert call(nodes[1], "GET", "/db/d0").status == 200, "a document is asked of all copies"
    network.replication.release(nodes[1].name)
    network.wait(1)
    assert count(nodes[1]) == 20
    for path in paths(nodes[0]):
        want = call(nodes[0], "GET", local(path)).body["update_seq"]
        assert checkpoint(nodes[0], nodes[1], path) == (want, want)


def test_a_count_through_another_node_may_come_from_the_empty_copy() -> None:
    network = Clock()
    nodes = filled(network)
    network.replication.hold(nodes[1].name)
    nodes[1].wipe()
    network.wait(10)
    assert count(nodes[0]) == 20
    nodes[0].databases.stray_reads = 1.0
    assert min(count(nodes[0]) for _ in range(50)) < 20


def test_filling_goes_by_batches_and_takes_its_time() -> None:
    network = Clock()
    nodes = filled(network, query="?q=1")
    network.replication.batch, network.replication.fill_rate = 5, 1.0
    nodes[2].wipe()
    seen = set()
    for _ in range(30):
        network.wait(1)
        (path,) = paths(nodes[2]) or [""]
        seen.add(copies([nodes[2]], path)[0] if path else -1)
        assert call(nodes[0], "GET", "/_node/_local/_system").status == 200
    assert {5, 10, 15, 20} <= seen
    history = call(nodes[0], "GET", local(paths(nodes[0])[0], "/_local_docs?include_docs=true"))
    entries = [
        entry
        for row in history.body["rows"]
        for entry in row["doc"]["history"].get(nodes[0].name, ())
        if entry["target_uuid"] == nodes[2].volume.shards[paths(nodes[2])[0]].uuid
    ]
    assert entries[0]["source_seq"] == 20
    assert len(entries) > 1, "each batch leaves an entry"


@pytest.mark.parametrize(("version", "batch"), [("3.3.3", 100), ("3.4.3", 500), ("3.5.2", 500)])
def test_a_batch_is_as_large_as_the_version_makes_it(version: str, batch: int) -> None:
    network = Clock()
    nodes = filled(network, query="?q=1", version=version)
    write(nodes[0], (f"x{i}" for i in range(520)))
    network.wait(10)
    network.replication.fill_rate = 1.0
    nodes[1].wipe()
    network.wait(5)
    assert copies([nodes[1]], paths(nodes[1])[0]) == [batch]


def test_two_lost_volumes_prove_nothing_to_each_other() -> None:
    network = Clock()
    nodes = filled(network)
    nodes[0].stop()
    for node in nodes[1:]:
        node.wipe()
    network.wait(10)
    path = next(iter(nodes[0].volume.shards))
    assert all(path not in node.volume.shards for node in nodes[1:]), "nobody tells them the map"
    nodes[0].start()
    network.wait(10)
    assert [count(node) for node in nodes] == [20, 20, 20]


# -- maps and files


def test_a_named_file_that_is_missing_is_made_empty() -> None:
    """Two volumes changed places under the same names: what each has is not what its maps say."""
    network = Clock()
    nodes = filled(network, 2, "?n=1")
    for node in nodes:
        node.stop()
    nodes[0].volume, nodes[1].volume = nodes[1].volume, nodes[0].volume
    for node in nodes:
        node.start()
    network.wait(2)
    assert [len(paths(node)) for node in nodes] == [1, 1]
    assert count(nodes[0]) == 0
    assert [len(paths(node)) for node in nodes] == [2, 2]


def test_a_deleted_file_comes_back_empty_with_the_next_read() -> None:
    nodes = filled(Clock())
    path = paths(nodes[1])[0]
    assert call(nodes[1], "DELETE", local(path)).status == 200
    gone = call(nodes[1], "GET", local(path))
    assert (gone.status, gone.body["reason"]) == (404, "no_db_file")
    assert call(nodes[1], "DELETE", local(path)).body["reason"] == "missing"
    call(nodes[1], "GET", "/db")
    assert copies([nodes[1]], path) == [0]


def test_a_map_that_is_rewritten_starts_no_replication() -> None:
    """Snapshots of different moments: they stay unlike until somebody asks for a sync."""
    network = Clock()
    nodes = filled(network)
    old = [node.volume.copy() for node in nodes]
    write(nodes[0], (f"later{i}" for i in range(10)))
    network.wait(10)
    volumes = [old[0], *(node.volume.copy() for node in nodes[1:])]
    for node in nodes:
        node.stop()
        network.leave(node)
    new = named(network, "restored", volumes)
    assert {node.state for node in new} == {"cluster_enabled"}
    assert call(new[0], "GET", "/db").body["reason"] == "No DB shards could be opened."
    assert call(new[0], "GET", "/_all_dbs").body == ["_replicator", "_users", "db"]
    join(new)
    network.wait(1)
    names = {old_node.name: node.name for old_node, node in zip(nodes, new, strict=True)}
    for database in ("_users", "db", "_replicator"):
        assert rewrite(new, names, database) == 201
    network.wait(50)
    assert {node.state for node in new} == {"cluster_finished"}
    assert [count(node) for node in new] == [20, 30, 30]
    assert call(new[0], "POST", "/db/_sync_shards").status == 202
    network.wait(1)
    assert [count(node) for node in new] == [30, 30, 30]


def test_a_database_made_before_its_maps_are_right_mixes_the_names() -> None:
    network = Clock()
    nodes = filled(network)
    volume = nodes[0].volume
    for node in nodes:
        node.stop()
        network.leave(node)
    (node,) = named(network, "restored", [volume])
    made = call(node, "PUT", "/new?n=4")
    assert made.status == 202
    listed = call(node, "GET", "/_node/_local/_dbs/new").body["by_node"]
    assert set(listed) == {node.name, *(old.name for old in nodes)}


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lambda m, name: m["by_node"].pop(name), "by_node for {name} missing"),
        (lambda m, name: m.pop("by_node"), "by_node is mandatory"),
        (lambda m, name: m.pop("by_range"), "by_range is mandatory"),
        (lambda m, name: m.update(by_range=[]), "by_range not an object"),
        (
            lambda m, name: m["by_range"]["00000000-7fffffff"].remove(name),
            "by_range for 00000000-7fffffff missing {name}",
        ),
    ],
)
def test_a_map_says_the_same_by_node_and_by_range(change: Any, reason: str) -> None:
    nodes = filled(Network(pace=0), 2)
    document = call(nodes[0], "GET", "/_node/_local/_dbs/db").body
    change(document, nodes[0].name)
    answer = call(nodes[0], "PUT", "/_node/_local/_dbs/db", document)
    assert (answer.status, answer.body["error"]) == (403, "forbidden")
    assert answer.body["reason"] == reason.format(name=nodes[0].name)


def test_a_map_may_lose_a_whole_range() -> None:
    nodes = filled(Network(pace=0), 2)
    document = call(nodes[0], "GET", "/_node/_local/_dbs/db").body
    for ranges in document["by_node"].values():
        ranges.remove("80000000-ffffffff")
    del document["by_range"]["80000000-ffffffff"]
    assert call(nodes[0], "PUT", "/_node/_local/_dbs/db", document).status == 201
    assert call(nodes[1], "PUT", "/_node/_local/_dbs/db", document).status == 409


def test_revisions_tell_where_a_map_comes_from() -> None:
    nodes = filled(Network(pace=0), 2)
    first = call(nodes[0], "GET", "/_node/_local/_dbs/db?revs=true").body
    assert first["_revisions"] == {"start": 1, "ids": [first["_rev"].partition("-")[2]]}
    body = {key: value for key, value in first.items() if key != "_revisions"}
    call(nodes[0], "PUT", "/_node/_local/_dbs/db", body | {"kept": "as it is"})
    second = call(nodes[1], "GET", "/_node/_local/_dbs/db?revs=true&revs_info=true").body
    assert second["kept"] == "as it is"
    assert second["_revisions"]["start"] == 2
    assert second["_revisions"]["ids"][1:] == first["_revisions"]["ids"]
    assert [info["rev"] for info in second["_revs_info"]] == [second["_rev"], first["_rev"]]


def test_local_documents_are_the_files_own() -> None:
    nodes = filled(Network(pace=0), 2)
    mark = "/_node/_local/_dbs/_local/mark"
    assert call(nodes[0], "GET", mark).body["reason"] == "missing"
    assert call(nodes[0], "PUT", mark, {"a": 1}).body["rev"] == "0-1"
    assert call(nodes[0], "PUT", mark, {"a": 2, "_rev": "0-1"}).body["rev"] == "0-2"
    assert call(nodes[0], "PUT", mark, {"a": 3}).body["rev"] == "0-1"
    assert call(nodes[0], "GET", mark).body == {"_id": "_local/mark", "_rev": "0-1", "a": 3}
    assert call(nodes[1], "GET", mark).status == 404
    assert call(nodes[1], "GET", f"/_node/{nodes[0].name}/_dbs/_local/mark").body["a"] == 3
    nodes[0].stop()
    nodes[0].start()
    assert call(nodes[0], "GET", mark).body["a"] == 3
    assert call(nodes[0], "DELETE", mark).body["rev"] == "0-0"
    assert call(nodes[0], "DELETE", mark).status == 404


def test_other_nodes_files() -> None:
    network = Clock()
    nodes = filled(network)
    there = f"/_node/{nodes[1].name}/_all_dbs"
    assert call(nodes[0], "GET", there).body == call(nodes[1], "GET", "/_node/_local/_all_dbs").body
    nodes[1].stop()
    down = call(nodes[0], "GET", there)
    assert (down.status, down.body) == (
        412,
        {"error": "nodedown", "reason": f"{nodes[1].name} is down"},
    )
    stranger = call(nodes[0], "GET", "/_node/couchdb@x.y/_dbs/_local_docs?include_docs=true")
    assert stranger.status == 404
    assert stranger.body["reason"] == "no such node: couchdb@x.y"


# -- who a volume was


def whose(node: Node) -> set[str]:
    """The names that the history of a node's own `_dbs` has for its own uuid."""
    rows = call(node, "GET", "/_node/_local/_dbs/_local_docs?include_docs=true").body["rows"]
    uuid = call(node, "GET", "/_node/_local/_dbs").body["uuid"]
    return {
        entry[f"{side}_node"]
        for row in rows
        for entries in row["doc"].get("history", {}).values()
        for entry in entries
        for side in ("source", "target")
        if entry[f"{side}_uuid"] == uuid
    }


def test_histories_name_the_node_that_a_volume_was() -> None:
    network = Clock()
    nodes = filled(network)
    for node in nodes:
        node.stop()
        network.leave(node)
    shuffled = named(network, "restored", [nodes[i].volume for i in (2, 0, 1)])
    assert [whose(node) for node in shuffled] == [{nodes[i].name} for i in (2, 0, 1)]


def test_a_volume_that_was_always_alone_has_no_history() -> None:
    nodes = filled(Clock(), 1)
    assert whose(nodes[0]) == set()


def test_the_neighbours_know_a_lost_volume_by_its_former_uuid() -> None:
    network = Clock()
    nodes = filled(network)
    lost = nodes[1].volume.dbs.uuid
    nodes[1].wipe()
    network.wait(10)
    rows = call(nodes[0], "GET", "/_node/_local/_dbs/_local_docs?include_docs=true").body["rows"]
    text = json.dumps(rows)
    assert lost in text
    assert nodes[1].volume.dbs.uuid in text
    assert nodes[1].volume.dbs.uuid != lost


def test_a_history_gets_sparser_with_age() -> None:
    network = Clock()
    nodes = filled(network, query="?q=1")
    for i in range(60):
        write(nodes[0], [f"more{i}"])
        network.wait(6)
    path = paths(nodes[0])[0]
    uuids = [node.volume.shards[path].uuid for node in nodes]
    body = call(nodes[0], "GET", local(path, f"/_local/{checkpoint_id(*uuids[:2])}")).body
    seqs = [entry["source_seq"] for entry in body["history"][nodes[0].name]]
    assert seqs[0] == body["seq"] == 80
    assert seqs == sorted(seqs, reverse=True)
    assert len(seqs) < 16, "not one for each of 60 checkpoints"
    assert seqs[-1] <= 21, "the oldest stays"


# -- clones


def test_a_clone_that_meets_its_original_is_one_cluster_with_it() -> None:
    network = Clock()
    nodes = filled(network)
    twins = named(network, "stage", [node.volume.copy() for node in nodes])
    network.wait(5)
    everybody = {node.name for node in (*nodes, *twins)}
    assert all(node.members == node.connected == everybody for node in (*nodes, *twins))
    write(twins[0], ["from-stage"])
    assert call(nodes[0], "GET", "/db/from-stage").status == 200
    uuids = [call(node, "GET", "/_node/_local/_dbs").body["uuid"] for node in (nodes[0], twins[0])]
    assert uuids[0] == uuids[1]
    # The clone's own files are named by no map.
    assert twins[0].name not in json.dumps(call(twins[0], "GET", "/_node/_local/_dbs/db").body)
    assert len(paths(twins[0])) == 2


@pytest.mark.parametrize("apart", ["wall", "cookie"])
def test_a_wall_or_another_cookie_keeps_a_clone_away(apart: str) -> None:
    network = Clock()
    nodes = filled(network)
    network.raise_wall(".c.db.svc", ".c.stage.svc") if apart == "wall" else None
    cookie = "another" if apart == "cookie" else nodes[0].cookie
    twins = named(network, "stage", [node.volume.copy() for node in nodes], cookie=cookie)
    network.wait(60)
    assert not {node.name for node in nodes} & {n for twin in twins for n in twin.connected}
    assert {node.state for node in nodes} == {"cluster_finished"}
    assert {twin.state for twin in twins} == {"cluster_enabled"}


def test_a_wall_that_falls_lets_them_meet_as_long_as_they_know_each_other() -> None:
    network = Clock()
    nodes = filled(network)
    network.raise_wall(".c.db.svc", ".c.stage.svc")
    twins = named(network, "stage", [node.volume.copy() for node in nodes])
    network.wait(5)
    network.open_wall(".c.stage.svc", ".c.db.svc")
    network.wait(5)
    assert len(nodes[0].connected) == len(twins[0].connected) == 6


def test_a_wall_parts_nodes_that_were_connected() -> None:
    network = Clock()
    nodes = filled(network)
    twins = named(network, "stage", [node.volume.copy() for node in nodes])
    network.wait(5)
    network.raise_wall(".c.db.svc", ".c.stage.svc")
    assert len(nodes[0].connected) == 3
    assert nodes[0].name not in twins[0].connected


def test_copies_of_one_file_need_nothing_from_each_other_but_what_came_since() -> None:
    file = File()
    file.opened_by("a", 0)
    for i in range(3):
        file.put_local(f"l{i}", {})
    file.update_seq = 7
    twin = file.copy()
    twin.opened_by("b", 0)
    assert (file.common_seq(twin), twin.common_seq(file)) == (7, 7)
    twin.update_seq = 9
    assert twin.common_seq(file) == 7
    assert file.common_seq(File()) == 0


# -- seeds, strangers, names


def test_seeds_documents_come_back_with_each_boot() -> None:
    network = Clock()
    seed = "couchdb@c-9.c.db.svc"
    (node,) = named(network, "db", [Volume()], seedlist=(seed,))
    assert seed in node.members
    where = f"/_node/_local/_nodes/{seed}"
    revision = call(node, "GET", where).body["_rev"]
    assert call(node, "DELETE", f"{where}?rev={revision}").status == 200
    assert seed not in node.members
    node.stop()
    node.start()
    assert seed in node.members
    assert call(node, "GET", where).body["_rev"].startswith("3-")


@pytest.mark.parametrize(
    ("version", "pushed"), [("3.3.3", True), ("3.4.3", True), ("3.5.2", False)]
)
def test_a_removed_member_gets_all_maps_from_old_versions(version: str, pushed: bool) -> None:
    network = Clock()
    nodes = assembled(network, 3, version=version)
    gone = nodes[2]
    gone.stop()
    revision = call(nodes[0], "GET", f"/_node/_local/_nodes/{gone.name}").body["_rev"]
    call(nodes[0], "DELETE", f"/_node/_local/_nodes/{gone.name}?rev={revision}")
    network.wait(1)
    call(nodes[0], "PUT", "/db")
    gone.wipe()
    gone.start()
    network.wait(10)
    assert gone.members == {gone.name}
    assert ("db" in call(gone, "GET", "/_all_dbs").body) is pushed
    assert paths(gone) == []


def test_a_name_without_a_dot_connects_to_nobody() -> None:
    network = Clock()
    nodes = [Node(network, name=f"couchdb@c-{i}") for i in range(2)]
    join(nodes)
    network.wait(60)
    assert nodes[1].connected == {nodes[1].name}


def test_two_clusters_that_meet_leave_conflicts_and_one_winner() -> None:
    network = Clock()
    one, other = (Node(network, name=f"couchdb@c-{i}.c.db.svc") for i in range(2))
    for node in (one, other):
        call(node, "POST", "/_cluster_setup", {"action": "finish_cluster"})
        call(node, "PUT", "/db?q=1")
        write(node, [f"of-{node.name[8:11]}"])
    write_longer = call(other, "GET", "/_node/_local/_dbs/db").body
    call(other, "PUT", "/_node/_local/_dbs/db", write_longer | {"longer": True})
    loser = call(one, "GET", "/_node/_local/_dbs/db").body["_rev"]
    join([one, other])
    network.wait(1)
    for node in (one, other):
        found = call(node, "GET", "/_node/_local/_dbs/db?conflicts=true").body
        assert found["longer"] is True
        assert found["_conflicts"] == [loser]


# -- purges, and snapshots that are older than their peers


def test_a_purge_reaches_all_copies_and_leaves_its_checkpoints() -> None:
    network = Clock()
    nodes = filled(network, query="?q=1")
    nodes[2].stop()
    revision = call(nodes[0], "GET", "/db/d0").body["_rev"]
    answer = call(nodes[0], "POST", "/db/_purge", {"d0": [revision]})
    assert answer.body == {"purge_seq": None, "purged": {"d0": [revision]}}
    assert call(nodes[1], "GET", "/db/d0").status == 404
    nodes[2].start()
    network.wait(10)
    path = paths(nodes[0])[0]
    assert copies(nodes, path) == [19, 19, 19]
    uuids = [node.volume.shards[path].uuid for node in nodes]
    for i, node in enumerate(nodes):
        info = call(node, "GET", local(path)).body
        assert info["purge_seq"] == 1
        for other in (uuid for uuid in uuids if uuid != uuids[i]):
            below = f"/_local/purge-mem3-{uuids[i]}-{other}"
            body = call(node, "GET", local(path, below)).body
            assert (body["type"], body["purge_seq"]) == ("internal_replication", 1)
    # What a purge raises is no change: the last one's sequence stays, and nothing is pending.
    info = call(nodes[0], "GET", local(path)).body
    assert checkpoint(nodes[0], nodes[1], path) == (20, 20)
    assert info["update_seq"] == 21
    assert call(nodes[0], "GET", local(path, "/_changes?since=20&limit=1")).body["results"] == []


def test_an_older_snapshot_under_its_own_name_brings_purged_documents_back() -> None:
    network = Clock()
    nodes = filled(network, query="?q=1")
    snapshot = nodes[1].volume.copy()
    write(nodes[0], ["later"])
    revision = call(nodes[0], "GET", "/db/d0").body["_rev"]
    call(nodes[0], "POST", "/db/_purge", {"d0": [revision]})
    network.wait(10)
    assert call(nodes[2], "GET", "/db/d0").status == 404
    path = paths(nodes[0])[0]
    uuid = nodes[1].volume.shards[path].uuid
    nodes[1].stop()
    nodes[1].volume = snapshot
    nodes[1].start()
    network.replication.hold(nodes[1].name)
    network.wait(0.5)
    # Seen by a peer's history: it recorded more of this very copy than the copy has now.
    present = call(nodes[1], "GET", local(path)).body
    assert present["uuid"] == uuid
    recorded = [
        entry["target_seq"]
        for row in call(nodes[0], "GET", local(path, "/_local_docs?include_docs=true")).body["rows"]
        for entries in row["doc"].get("history", {}).values()
        for entry in entries
        if entry["target_uuid"] == uuid
    ]
    assert max(recorded) > present["update_seq"]
    network.replication.release(nodes[1].name)
    network.wait(60)
    assert call(nodes[1], "GET", "/db/later").status == 200, "changes heal"
    assert {call(node, "GET", "/db/d0").status for node in nodes} == {200}, "purges do not"
    for peer in (nodes[0], nodes[2]):
        below = f"/_local/purge-mem3-{peer.volume.shards[path].uuid}-{uuid}"
        assert call(peer, "DELETE", local(path, below)).status == 200
    call(nodes[0], "POST", "/db/_sync_shards")
    network.wait(5)
    assert {call(node, "GET", "/db/d0").status for node in nodes} == {404}


def test_settings_of_a_copy() -> None:
    network = Clock()
    nodes = filled(network, query="?q=1")
    path = paths(nodes[0])[0]
    security = {"members": {"names": ["bob"]}}
    assert call(nodes[0], "PUT", "/db/_security", security).body == {"ok": True}
    assert call(nodes[1], "GET", "/db/_security").body == security
    assert call(nodes[0], "PUT", "/db/_revs_limit", 77).status == 200
    assert call(nodes[2], "GET", local(path, "/_revs_limit")).body == 77
    assert call(nodes[2], "GET", local(path)).body["update_seq"] == 22
    nodes[1].wipe()
    network.wait(10)
    assert call(nodes[1], "GET", local(path, "/_revs_limit")).body == 1000, "nobody brings it"


def test_a_snapshot_goes_its_own_way() -> None:
    nodes = filled(Clock())
    snapshot = nodes[0].volume.copy()
    before = {path: file.update_seq for path, file in snapshot.shards.items()}
    write(nodes[0], ["new"])
    call(nodes[0], "PUT", "/_node/_local/_dbs/_local/mark", {})
    assert {path: file.update_seq for path, file in snapshot.shards.items()} == before
    assert "mark" not in snapshot.dbs.local
    assert snapshot.dbs.uuid == nodes[0].volume.dbs.uuid
