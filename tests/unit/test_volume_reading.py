"""Reading a volume, against what real nodes answered (``files-3.5.2.json``)."""

import json
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from couchdiscover.couch.client import Access, CouchFailure, CouchNode, ErrorAnswer, NoAnswer
from couchdiscover.couch.ground import without_login
from couchdiscover.couch.volumes import (
    SYSTEM_FILES,
    Part,
    read_histories,
    read_infos,
    read_volume,
)
from couchdiscover.net.deadline import Deadline
from couchdiscover.sandbox.http import Loop, Request, Response, Server
from couchdiscover.state.topology import Address, Credentials
from couchdiscover.state.volumes import Mark, ShardFile, ShardMap, Volume

RECORDED = Path(__file__).parents[1] / "recorded"
EXCHANGES: list[dict[str, Any]] = json.loads((RECORDED / "files-3.5.2.json").read_text())
SHARDS: list[dict[str, Any]] = json.loads((RECORDED / "shards-3.5.2.json").read_text())
VERSION = {"server": "CouchDB/3.5.2 (Erlang OTP/27)"}
PROD = "couchdb.prod.svc.cluster.local"
FILE = ShardFile("db", "00000000-7fffffff", ".1795491222")


class Node:
    """A server that gives, for each path, what was put there; 404 for all else."""

    def __init__(self, loop: Loop) -> None:
        self.answers: dict[str, tuple[int, Any]] = {}
        self.requests: list[Request] = []
        self.server: Server = loop.serve(self._answer, "127.0.0.1")

    async def _answer(self, request: Request) -> Response:
        self.requests.append(request)
        status, body = self.answers.get(
            request.target, (404, {"error": "not_found", "reason": "missing"})
        )
        return Response(status, body, VERSION)

    def play(self, case: str, node: str, exchanges: list[dict[str, Any]] = EXCHANGES) -> None:
        """Answers as that node did in this case."""
        for each in exchanges:
            if each["case"] == case and each["node"] == node:
                answer = each["response"]
                self.answers[each["request"]["path"]] = (answer["status"], answer["body"])

    @property
    def client(self) -> CouchNode:
        access = Access(Credentials("admin", "secret"))
        return CouchNode(Address("127.0.0.1", self.server.port), "", access, Deadline(60))


@pytest.fixture(scope="module")
def loop() -> Iterator[Loop]:
    running = Loop()
    yield running
    running.close()


@pytest.fixture
def node(loop: Loop) -> Iterator[Node]:
    made = Node(loop)
    yield made
    loop.stop(made.server)


def test_files_of_a_real_node(node: Node) -> None:
    node.play("a whole cluster", "couchdb-0")
    files = node.client.files()
    assert ShardFile("one", "00000000-7fffffff", ".1795652704") in files
    assert {file.database for file in files} == {"_replicator", "_users", "db", "one", "part"}
    assert len(files) == 9  # _dbs, _nodes and _users are each node's own
    assert all(file == ShardFile.of(file.path) for file in files)


@pytest.mark.parametrize(
    ("path", "file"),
    [
        ("shards/00000000-ffffffff/a/b-c/d.1795652703", ("a/b-c/d", "00000000-ffffffff")),
        ("shards/80000000-ffffffff/_users.1795652703", ("_users", "80000000-ffffffff")),
        ("shards/80000000-ffffffff/old", ("old", "80000000-ffffffff")),
        ("by-hand", ("by-hand", "")),
        ("shards/odd", ("shards/odd", "")),
    ],
)
def test_a_files_name_is_taken_apart_and_put_together(path: str, file: tuple[str, str]) -> None:
    made = ShardFile.of(path)
    assert (made.database, made.range) == file
    assert made.path == path


def test_maps_of_a_real_node_name_its_files(node: Node) -> None:
    node.play("a whole cluster", "couchdb-0")
    for path in list(node.answers):
        if "_dbs/_all_docs" in path:
            node.answers[f"{path}&limit=250"] = node.answers.pop(path)
    volume = read_volume(node.client, Part.FILES | Part.MAPS)
    assert volume.maps is not None
    named = frozenset().union(*(each.files(f"couchdb@couchdb-0.{PROD}") for each in volume.maps))
    assert named == volume.files
    assert {each.rank[0] for each in volume.maps} == {1}


def test_history_tells_the_node_of_each_uuid(node: Node) -> None:
    node.play("volumes in another order", "couchdb-0")
    volume = read_volume(node.client, Part.HISTORY | Part.UUID)
    assert volume.mark is None
    assert volume.traces is not None
    known = {(t.node.partition(".")[0], t.uuid[:6]) for t in volume.traces}
    assert known == {
        ("couchdb@couchdb-0", "d987dd"),
        ("couchdb@couchdb-1", "58be29"),
        ("couchdb@couchdb-1", "995dc8"),
        ("couchdb@couchdb-2", "78c6ab"),
    }
    assert volume.uuid == "78c6ab0147592a7445258b128ebbd728"
    assert [t.at for t in volume.traces] == sorted((t.at for t in volume.traces), reverse=True)


def _local_docs(*documents: Mapping[str, Any]) -> tuple[int, Any]:
    rows = [{"id": d["_id"], "doc": d} for d in documents]
    return 200, {"total_rows": None, "offset": None, "rows": rows}


LOCAL_DOCS = "/_node/_local/_dbs/_local_docs?include_docs=true"


def test_the_mark_comes_with_the_history(node: Node) -> None:
    mark = {
        "_id": "_local/couchdiscover",
        "_rev": "0-1",
        "format": 1,
        "node": "couchdb@a.b",
        "uuid": "u" * 32,
        "seen": {"couchdb@c.d": ["v" * 32, "w" * 32]},
        "at": "2026-01-01T00:00:00Z",
        "was": ["couchdb@old.b"],
    }
    node.answers[LOCAL_DOCS] = _local_docs(mark)
    volume = read_volume(node.client, Part.HISTORY)
    assert volume.traces == ()
    assert volume.mark == Mark(
        "couchdb@a.b",
        "u" * 32,
        {"couchdb@c.d": ("v" * 32, "w" * 32)},
        "2026-01-01T00:00:00Z",
        ("couchdb@old.b",),
    )


@pytest.mark.parametrize(
    "mark",
    [
        {"format": 2, "node": "couchdb@a.b", "uuid": "u", "seen": {}},
        {"format": 1, "node": "x"},
        {"format": 1, "node": 7, "uuid": "u", "seen": {}},
        {"format": 1, "node": "line\nbreak", "uuid": "u", "seen": {}},
        {"format": 1, "node": "couchdb@a.b", "uuid": "u", "seen": []},
    ],
)
def test_a_mark_of_another_kind_is_no_evidence(node: Node, mark: dict[str, Any]) -> None:
    node.answers[LOCAL_DOCS] = _local_docs({"_id": "_local/couchdiscover", **mark})
    assert node.client.mark_and_traces() == (None, ())


def test_odd_histories_give_no_traces(node: Node) -> None:
    entries = [7, {"source_node": 1}, {"source_node": "a@b", "source_uuid": "x\ny"}]
    node.answers[LOCAL_DOCS] = _local_docs(
        {"_id": "_local/shard-sync-a-b", "history": {"a@b": entries, "c": "d"}},
        {"_id": "_local/shard-sync-c-d", "history": ["a"]},
        {"_id": "_local/other", "history": {"a@b": [{"source_node": "a@b", "source_uuid": "u"}]}},
    )
    assert node.client.mark_and_traces() == (None, ())


def test_what_cannot_be_read_is_none_and_not_empty(node: Node) -> None:
    assert read_volume(node.client) == Volume()
    node.answers["/_node/_local/_all_dbs"] = (200, {"no": "list"})
    assert read_volume(node.client, Part.FILES).files is None


def test_only_what_is_asked_for_is_asked(node: Node) -> None:
    known = Volume(uuid="x", filled=frozenset({"_users"}))
    node.answers["/_node/_local/_all_dbs"] = (200, ["_dbs", "_nodes"])
    volume = read_volume(node.client, Part.FILES, known)
    assert volume == Volume(files=frozenset(), uuid="x", filled=frozenset({"_users"}))
    assert len(node.requests) == 1


def _system_files(count: int) -> list[ShardFile]:
    return [ShardFile("_users", f"{n:08x}-{n:08x}", ".1795652703") for n in range(count)]


def _documents(file: ShardFile) -> str:
    return f"/_node/_local/{file.path.replace('/', '%2F')}/_all_docs?limit=25"


def test_blank_system_databases_are_told_from_filled_ones_by_their_own_files(node: Node) -> None:
    users = _system_files(2)
    other = ShardFile("_replicator", "00000000-ffffffff", ".1")
    paths = [file.path for file in (*users, other)]
    node.answers["/_node/_local/_all_dbs"] = (200, [*paths, "shards/0-f/x", "_users"])
    node.answers[_documents(users[0])] = (200, {"rows": [{"id": "_design/_auth"}]})
    node.answers[_documents(users[1])] = (200, {"rows": [{"id": "org.couchdb.user:bob"}]})
    node.answers[_documents(other)] = (200, {"rows": []})
    assert read_volume(node.client, Part.FILES | Part.FILLED).filled == {"_users"}


def test_one_unreadable_file_leaves_it_unknown(node: Node) -> None:
    users = _system_files(2)
    node.answers["/_node/_local/_all_dbs"] = (200, [file.path for file in users])
    node.answers[_documents(users[0])] = (200, {"rows": []})
    assert read_volume(node.client, Part.FILES | Part.FILLED).filled is None


def test_too_many_files_of_system_databases_are_not_looked_into(node: Node) -> None:
    paths = [file.path for file in _system_files(SYSTEM_FILES + 1)]
    node.answers["/_node/_local/_all_dbs"] = (200, paths)
    assert read_volume(node.client, Part.FILES | Part.FILLED).filled is None
    assert len(node.requests) == 1


def test_infos_of_files_one_by_one(node: Node) -> None:
    node.play("source file", "couchdb-0", SHARDS)
    there = ShardFile("db", "00000000-7fffffff", ".1795491222")
    gone = ShardFile("db", "80000000-ffffffff", ".1")
    node.answers[f"/_node/_local/{gone.path.replace('/', '%2F')}"] = (
        404,
        {"error": "not_found", "reason": "no_db_file"},
    )
    infos = read_infos(node.client, [there, gone, ShardFile("c", "00000000-ffffffff", ".1")])
    assert infos[gone] is None
    info = infos[there]
    assert info is not None
    assert (info.documents, info.deleted, info.update_seq, info.purge_seq) == (1561, 0, 1565, 0)
    assert not info.empty
    assert len(infos) == 2  # "missing" says nothing of the file


LOCAL = (
    "/_local_docs?include_docs=true&startkey=%22_local%2Fpurge-mem3-%22"
    "&endkey=%22_local%2Fshard-sync-~%22"
)


def test_checkpoints_as_a_real_node_keeps_them(node: Node) -> None:
    documents = [
        each["response"]["body"]
        for each in SHARDS
        if each["case"] in ("checkpoint", "purge checkpoint") and each["response"]["status"] == 200
    ]
    odd = {"_id": "_local/shard-sync-a-b", "seq": "many"}
    other = {"_id": "_local/quite-another", "seq": 1}
    rows = [{"id": d["_id"], "doc": d} for d in (*documents, odd, other)]
    path = f"/_node/_local/{FILE.path.replace('/', '%2F')}{LOCAL}"
    node.answers[path] = (200, {"rows": [*rows, 7, {"id": "_local/shard-sync-x"}]})
    found = node.client.checkpoints(FILE)
    changes = found["_local/shard-sync--slw4Opeq0LiGikm7GZWjA-GxamuD4Zg36NF59uvj4bjA"]
    assert (changes.seq, changes.reached, changes.revision) == (1563, 1561, "0-1")
    purges = found[
        "_local/purge-mem3-0c6ef031747df61b26263542ca5c3063-6e9121361f5233c84b28c8eacc694ece"
    ]
    assert (purges.seq, purges.reached) == (1, 0)
    assert len(found) == len(documents)


def test_checkpoints_of_a_file_that_is_gone_are_an_error(node: Node) -> None:
    path = f"/_node/_local/{FILE.path.replace('/', '%2F')}{LOCAL}"
    node.answers[path] = (404, {"error": "not_found", "reason": "no_db_file"})
    with pytest.raises(ErrorAnswer):
        node.client.checkpoints(FILE)


def test_changes_after_a_sequence(node: Node) -> None:
    node.play("pending", "couchdb-0", SHARDS)
    assert node.client.file_changes_after(FILE, 502)
    assert not node.client.file_changes_after(FILE, 1563)


def test_histories_are_added_to_the_maps_that_are_asked_for(node: Node) -> None:
    maps = (ShardMap("a", {}, revision="2-b"), ShardMap("b", {}, revision="1-x"))
    node.answers["/_node/_local/_dbs/a?revs=true&conflicts=true"] = (
        200,
        {"_id": "a", "_rev": "2-b", "_revisions": {"start": 2, "ids": ["b", "a"]}},
    )
    volume = read_histories(node.client, Volume(maps=maps), {"a", "gone"})
    assert volume.maps is not None
    assert [each.history for each in volume.maps] == [("2-b", "1-a"), ()]
    assert read_histories(node.client, Volume(), {"a"}) == Volume()


def test_members_documents_with_their_zones(node: Node) -> None:
    node.play("as they come up", "couchdb-0")
    documents = node.client.node_documents()
    assert len(documents) == 4
    assert {d["_rev"] for d in documents.values()} == {"1-967a00dff5e02add41819138abb3284d"}


@pytest.mark.parametrize(
    ("status", "body", "said"),
    [
        (200, {"status": "ok", "seeds": {}}, "ok"),
        (404, {"status": "maintenance_mode"}, "maintenance_mode"),
        (404, {"status": "seeding", "seeds": {}}, "seeding"),
        (404, {}, "not up"),
    ],
)
def test_up_is_the_nodes_own_word(node: Node, status: int, body: Any, said: str) -> None:
    node.answers["/_up"] = (status, body)
    assert node.client.up() == said


Ask = Callable[[CouchNode], Any]


@pytest.mark.parametrize(
    "ask",
    [
        lambda c: c.files(),
        lambda c: c.dbs_info(),
        lambda c: c.mark_and_traces(),
        lambda c: c.node_documents(),
        lambda c: c.file_info(FILE),
        lambda c: c.file_is_filled(FILE),
        lambda c: c.file_changes_after(FILE, 0),
        lambda c: c.checkpoints(FILE),
        lambda c: list(c.file_documents(FILE, 10)),
        lambda c: c.map_document("db"),
        lambda c: c.up(),
    ],
)
@pytest.mark.parametrize("body", [[1], "text", 7])
def test_nothing_from_outside_is_trusted(loop: Loop, ask: Ask, body: Any) -> None:
    async def answer(_: Request) -> Response:
        return Response(200, body, VERSION)

    server = loop.serve(answer, "127.0.0.1")
    access = Access(Credentials("admin", "secret"))
    client = CouchNode(Address("127.0.0.1", server.port), "", access, Deadline(60))
    with pytest.raises(CouchFailure):
        ask(client)
    loop.stop(server)


@pytest.mark.parametrize(
    ("write", "method", "target", "body"),
    [
        (
            lambda c: c.add_member("couchdb@a.b", {"zone": "x"}),
            "PUT",
            "/_node/_local/_nodes/couchdb@a.b",
            {"zone": "x"},
        ),
        (
            lambda c: c.delete_member("couchdb@a.b", "1-a"),
            "DELETE",
            "/_node/_local/_nodes/couchdb@a.b?rev=1-a",
            None,
        ),
        (
            lambda c: c.put_map("a/b", {"_id": "a/b", "_rev": "1-x"}),
            "PUT",
            "/_node/_local/_dbs/a%2Fb",
            {"_id": "a/b", "_rev": "1-x"},
        ),
        (
            lambda c: c.put_mark(Mark("couchdb@a.b", "u", {"couchdb@c": ("v",)}, "now")),
            "PUT",
            "/_node/_local/_dbs/_local/couchdiscover",
            {
                "format": 1,
                "node": "couchdb@a.b",
                "uuid": "u",
                "seen": {"couchdb@c": ["v"]},
                "at": "now",
            },
        ),
        (lambda c: c.sync_shards("a/b"), "POST", "/a%2Fb/_sync_shards", None),
        (
            lambda c: c.delete_local(FILE, "_local/purge-mem3-a-b", "0-1"),
            "DELETE",
            "/_node/_local/shards%2F00000000-7fffffff%2Fdb.1795491222/_local/purge-mem3-a-b?rev=0-1",
            None,
        ),
    ],
)
def test_writes_as_they_are_sent(
    node: Node, write: Ask, method: str, target: str, body: Any
) -> None:
    node.answers[target] = (200, {"ok": True})
    assert write(node.client) == 200
    request = node.requests[-1]
    assert (request.method, request.target) == (method, target)
    assert request.json() == body if body is not None else not request.body


def test_too_odd_a_uuid_is_refused(node: Node) -> None:
    node.play("whole", "couchdb-0")
    assert node.client.dbs_info().uuid == "d987ddd37d30733cb368874ae8dc468a"
    status, body = node.answers["/_node/_local/_dbs"]
    node.answers["/_node/_local/_dbs"] = (status, {**body, "uuid": "../x"})
    with pytest.raises(NoAnswer):
        node.client.dbs_info()


@pytest.mark.parametrize(
    ("target", "shown"),
    [
        ("https://u:p/ss@host/db?x#y", "https://host/db"),
        ("https://u:p#ss@host/db", "https://host/db"),
        ("https://u:p?ss@host/db", "https://host/db"),
        ("u:pa://ss@host/db", "host/db"),
        ({"url": "http://u:se@cret@host/db"}, "http://host/db"),
        ("https://host/db?key=secret", "https://host/db"),
        ("db", "db"),
    ],
)
def test_where_a_replication_goes_is_shown_without_its_login(target: object, shown: str) -> None:
    """A password may hold what ends the host's part of an address elsewhere."""
    assert without_login(target) == shown
