"""What the recordings cannot show of the simulated CouchDB: simultaneity, time, drift, scale."""

import asyncio
import threading
from collections.abc import Iterator

import pytest
import requests

from couchdiscover.sandbox.couchdb import Network, Node
from couchdiscover.sandbox.http import Loop, Request, Response, Wire
from tests.support.couchdb import (
    Clock,
    ask,
    assembled,
    call,
    finish,
    join,
    make,
    request,
    value,
    whole,
)

# -- joining


@pytest.mark.parametrize("count", [3, 5])
def test_all_join_at_once_from_their_own_side(count: int) -> None:
    nodes = make(Network(pace=0), count)

    async def rush() -> list[Response]:
        path = f"/_node/_local/_nodes/{nodes[0].name}"
        return await asyncio.gather(*(ask(node, "PUT", path, {}) for node in nodes[1:]))

    assert {answer.status for answer in asyncio.run(rush())} == {201}
    assert whole(nodes)


def test_several_at_once_from_the_coordinators_side_lose_some() -> None:
    nodes = make(Network(pace=0), 4)

    async def rush() -> list[Response]:
        paths = [f"/_node/_local/_nodes/{node.name}" for node in nodes[1:]]
        return await asyncio.gather(*(ask(nodes[0], "PUT", path, {}) for path in paths))

    statuses = [answer.status for answer in asyncio.run(rush())]
    assert sorted(statuses) == [201, 500, 500]
    assert len(nodes[0].members) == 2


def test_add_nodes_at_once_are_fine() -> None:
    nodes = make(Network(pace=0), 5)

    async def rush() -> list[Response]:
        action = {"action": "add_node", "port": 5984, "username": "admin", "password": "secret"}
        bodies = [action | {"host": node.host} for node in nodes[1:]]
        return await asyncio.gather(*(ask(nodes[0], "POST", "/_cluster_setup", b) for b in bodies))

    assert {answer.status for answer in asyncio.run(rush())} == {201}
    assert whole(nodes)


def test_joining_takes_its_time() -> None:
    network = Clock()
    nodes = make(network, 3)
    join(nodes)
    assert not whole(nodes)
    network.wait(0.2)
    assert whole(nodes)


def test_a_cut_keeps_nodes_apart_until_it_heals() -> None:
    network = Network(pace=0)
    nodes = make(network, 2)
    network.cut(nodes[0].name, nodes[1].name)
    join(nodes)
    assert nodes[1].members == {nodes[0].name, nodes[1].name}
    assert nodes[0].members == nodes[0].connected == {nodes[0].name}
    network.heal(nodes[0].name, nodes[1].name)
    assert whole(nodes)


# -- over time


def test_a_killed_member_is_gone_at_once_and_back_with_its_first_answer() -> None:
    nodes = assembled(Clock(), 3)
    nodes[2].stop(kill=True)
    assert nodes[0].connected == {nodes[0].name, nodes[1].name}
    assert len(nodes[0].members) == 3
    down = call(nodes[0], "GET", f"/_node/{nodes[2].name}/_config/couchdb/uuid")
    assert (down.status, down.body["error"]) == (412, "nodedown")
    assert asyncio.run(nodes[2].handle(request("GET", "/_up"))) == Wire(reset=True)
    nodes[2].start()
    assert whole(nodes)


def test_a_frozen_member_is_dropped_after_a_minute() -> None:
    network = Clock()
    nodes = assembled(network, 2)
    nodes[1].freeze()
    network.wait(60)
    assert len(nodes[0].connected) == 2
    network.wait(9)
    assert len(nodes[0].connected) == 1
    nodes[1].thaw()
    network.wait(0.2)
    assert whole(nodes)


def test_uptime_begins_anew_with_the_process() -> None:
    network = Clock()
    (node,) = make(network, 1)
    network.wait(42)
    assert call(node, "GET", "/_node/_local/_system").body["uptime"] == 42
    node.stop()
    node.start()
    assert call(node, "GET", "/_node/_local/_system").body["uptime"] == 0


def test_a_restart_of_the_official_image_is_drift() -> None:
    nodes = make(Network(pace=0), 3, secret=None)
    join(nodes)
    assert finish(nodes[0]) == 500
    assert (
        call(nodes[0], "POST", "/_session", {"name": "admin", "password": "secret"}).status == 200
    )
    assert finish(nodes[0]) == 201
    before = [value(nodes[1], *key) for key in (("admins", "admin"), ("couchdb", "uuid"))]
    nodes[1].restart_as_official_image()
    assert whole(nodes)
    assert {node.state for node in nodes} == {"cluster_finished"}
    for section, key in (("couchdb", "uuid"), ("chttpd_auth", "secret")):
        missing = call(nodes[1], "GET", f"/_node/_local/_config/{section}/{key}")
        assert (missing.status, missing.body["reason"]) == (404, "unknown_config_value")
    assert value(nodes[1], "admins", "admin") != before[0]
    uuid = call(nodes[1], "GET", "/", login=None).body["uuid"]
    assert uuid not in (None, before[1])
    # A finish through it answers 500, after it has overwritten what the others had.
    assert finish(nodes[1]) == 500
    assert {value(node, "couchdb", "uuid") for node in nodes} == {uuid}
    assert len({value(node, "admins", "admin") for node in nodes}) == 1


def test_a_wiped_member_gets_everything_back_but_its_identity() -> None:
    network = Clock()
    nodes = assembled(network, 3)
    call(nodes[0], "PUT", "/db")
    call(nodes[0], "PUT", "/db/doc", {"a": 1})
    nodes[2].wipe()
    assert nodes[2].state == "cluster_enabled"
    assert nodes[2].members == {nodes[2].name}
    network.wait(1.1)
    assert whole(nodes)
    assert nodes[2].state == "cluster_finished"
    assert call(nodes[2], "GET", "/db/doc").body["a"] == 1
    assert value(nodes[2], "admins", "admin") != value(nodes[0], "admins", "admin")


def test_a_ghost_makes_every_finish_fail_and_sync_nothing() -> None:
    network = Clock()
    nodes = assembled(network, 2)
    call(nodes[0], "PUT", "/_node/_local/_nodes/couchdb@ghost", {})
    network.wait(1)
    call(nodes[1], "PUT", "/_node/_local/_config/couchdb/uuid", "drifted")
    started = network.now()
    assert finish(nodes[0]) == 500
    assert network.now() - started == pytest.approx(5, abs=0.3)
    assert value(nodes[1], "couchdb", "uuid") == "drifted"
    call(nodes[0], "PUT", "/db")
    placed = call(nodes[0], "GET", "/db/_shards").body["shards"]
    assert all("couchdb@ghost" in holders for holders in placed.values())


def test_two_finishes_at_once_swap_the_hashes() -> None:
    nodes = make(Network(pace=0), 3)
    join(nodes)

    async def both() -> list[Response]:
        action = {"action": "finish_cluster"}
        two = (ask(node, "POST", "/_cluster_setup", action) for node in nodes[:2])
        return await asyncio.gather(*two)

    statuses = sorted(answer.status for answer in asyncio.run(both()))
    assert statuses in ([201, 201], [201, 400])
    assert len({value(node, "admins", "admin") for node in nodes}) == 2


# -- accounts


def test_a_session_of_one_node_is_nobodys_on_a_drifted_one() -> None:
    nodes = assembled(Network(pace=0), 2)
    answer = call(
        nodes[0], "POST", "/_session", {"name": "admin", "password": "secret"}, login=None
    )
    cookie = {"cookie": answer.headers["set-cookie"].partition(";")[0]}
    for node in nodes:
        body = call(node, "GET", "/_session", login=None, headers=cookie).body
        assert body["info"]["authenticated"] == "cookie"
    nodes[1].restart_as_official_image()
    assert call(nodes[0], "GET", "/_membership", login=None, headers=cookie).status == 200
    assert call(nodes[1], "GET", "/_membership", login=None, headers=cookie).status == 401
    # The hash is what the session hangs on; the same hash there makes it good again.
    stored = value(nodes[0], "admins", "admin")
    assert stored.startswith("-pbkdf2:sha256-")
    assert stored.endswith(",600000")
    call(nodes[0], "PUT", f"/_node/{nodes[1].name}/_config/admins/admin", stored)
    assert value(nodes[1], "admins", "admin") == stored
    assert call(nodes[1], "GET", "/_membership", login=None, headers=cookie).status == 200
    forged = {"cookie": "AuthSession=bm9uc2Vuc2U"}
    assert call(nodes[0], "GET", "/_membership", login=None, headers=forged).status == 401


def test_the_lockout_ends_after_five_minutes_and_is_of_one_address() -> None:
    network = Clock()
    (node,) = make(network, 1)
    for _ in range(5):
        assert call(node, "GET", "/_up", login="admin:wrong").status == 401
    assert call(node, "GET", "/_up").status == 403
    other = request("GET", "/_up")
    elsewhere = Request(other.method, other.target, other.path, {}, other.headers, b"", "10.0.0.9")
    answer = asyncio.run(node.handle(elsewhere))
    assert isinstance(answer, Response)
    assert answer.status == 200
    network.wait(301)
    assert call(node, "GET", "/_up").status == 200
    assert [e.user_ok for e in node.requests] == [False] * 6 + [True] * 2


def test_the_first_boot_refuses_the_right_password_for_a_moment() -> None:
    network = Clock()
    (node,) = make(network, 1, first_boot_401=0.5)
    assert call(node, "GET", "/_membership").status == 401
    network.wait(0.5)
    assert call(node, "GET", "/_membership").status == 200
    node.restart_as_official_image()
    assert call(node, "GET", "/_membership").status == 200


def test_a_browser_is_sent_to_a_login_page() -> None:
    (node,) = make(Network(pace=0), 1)
    answer = call(node, "GET", "/_membership", login=None, headers={"accept": "text/html"})
    assert answer.status == 302
    assert "session.html" in answer.headers["location"]


# -- configuration


def test_configuration_is_read_written_and_deleted_over_the_network() -> None:
    nodes = assembled(Network(pace=0), 2)
    path = f"/_node/{nodes[1].name}/_config"
    assert call(nodes[0], "PUT", f"{path}/couchdb/maintenance_mode", "true").body == b'""\n'
    assert call(nodes[1], "GET", "/_up").body == {"status": "maintenance_mode"}
    whole_config = call(nodes[0], "GET", path).body
    assert whole_config["couchdb"]["maintenance_mode"] == "true"
    assert whole_config["chttpd"]["bind_address"] == "0.0.0.0"
    assert call(nodes[0], "DELETE", f"{path}/couchdb/maintenance_mode").body == b'"true"\n'
    assert call(nodes[0], "DELETE", f"{path}/couchdb/maintenance_mode").status == 404
    assert call(nodes[1], "GET", "/_up").status == 200
    assert call(nodes[0], "GET", "/_node/couchdb@nobody/_config").body == {
        "error": "not_found",
        "reason": "no such node: couchdb@nobody",
    }


# -- databases


def test_documents_are_written_and_read_through_every_node() -> None:
    nodes = assembled(Network(pace=0), 3)
    assert call(nodes[0], "PUT", "/db").status == 201
    assert call(nodes[0], "PUT", "/db").status == 412
    first = call(nodes[0], "PUT", "/db/doc", {"a": 1})
    assert (first.status, first.body["rev"][:2]) == (201, "1-")
    assert call(nodes[1], "PUT", "/db/doc", {"a": 2}).status == 409
    second = call(nodes[1], "PUT", "/db/doc", {"a": 2, "_rev": first.body["rev"]})
    for node in nodes:
        assert call(node, "GET", "/db/doc").body["a"] == 2
        assert call(node, "GET", "/db/_all_docs").body["total_rows"] == 1
        assert call(node, "GET", "/db").body["doc_count"] == 1
    gone = call(nodes[2], "DELETE", f"/db/doc?rev={second.body['rev']}")
    assert gone.status == 200
    assert call(nodes[0], "GET", "/db/doc").body["reason"] == "deleted"
    assert call(nodes[0], "DELETE", "/db").status == 200
    assert call(nodes[1], "GET", "/db").status == 404
    assert call(nodes[0], "GET", "/_all_dbs").body == ["_replicator", "_users"]
    assert call(nodes[0], "PUT", "/Capital").body["error"] == "illegal_database_name"


def test_writes_need_more_than_half_of_the_copies() -> None:
    nodes = assembled(Network(pace=0), 3)
    call(nodes[0], "PUT", "/db")
    nodes[1].stop()
    assert call(nodes[0], "PUT", "/db/one", {}).status == 201
    nodes[2].stop()
    assert call(nodes[0], "PUT", "/db/two", {}).status == 202
    nodes[1].start()
    nodes[0].network.settle()
    nodes[0].stop()
    assert call(nodes[1], "GET", "/db/_all_docs").body["total_rows"] == 2


@pytest.mark.parametrize("careful", [True, False])
def test_moving_a_shard_is_safe_in_maintenance_mode_only(careful: bool) -> None:
    network = Clock()
    nodes = assembled(network, 3)
    call(nodes[0], "PUT", "/db")
    for i in range(20):
        call(nodes[0], "PUT", f"/db/doc-{i}", {})
    extra = Node(network, name="couchdb@c-3.c.db.svc")
    join([nodes[0], extra])
    network.wait(1)
    mode = f"/_node/{extra.name}/_config/couchdb/maintenance_mode"
    if careful:
        call(nodes[0], "PUT", mode, "true")
    path = "/_node/_local/_dbs/db"
    document = call(nodes[0], "GET", path).body
    ranges = list(document["by_range"])
    document["by_node"][extra.name] = ranges
    for hash_range in ranges:
        document["by_range"][hash_range].append(extra.name)
        document["changelog"].append(["add", hash_range, extra.name])
    assert call(nodes[0], "PUT", path, document).status == 201
    assert call(nodes[0], "POST", "/db/_sync_shards").status == 202
    count = call(extra, "GET", "/db/_all_docs").body["total_rows"]
    assert count == (20 if careful else 0)
    if careful:
        listed = call(nodes[0], "GET", "/db/_shards").body["shards"]
        assert all(extra.name not in holders for holders in listed.values())
    network.wait(1.5)
    assert call(nodes[0], "GET", "/_node/_local/_system").body["internal_replication_jobs"] == 0
    suffix = "".join(chr(code) for code in document["shard_suffix"])
    counts = []
    for hash_range in ranges:
        shard = f"/_node/{extra.name}/shards%2F{hash_range}%2Fdb{suffix}"
        counts.append(call(nodes[0], "GET", shard).body["doc_count"])
    assert sum(counts) == 20
    call(nodes[0], "PUT", mode, "false")
    assert call(extra, "GET", "/db/_all_docs").body["total_rows"] == 20


def test_a_node_to_be_decommissioned_gets_no_new_database() -> None:
    nodes = assembled(Network(pace=0), 3)
    path = f"/_node/_local/_nodes/{nodes[2].name}"
    revision = call(nodes[0], "GET", path).body["_rev"]
    call(nodes[0], "PUT", path, {"_rev": revision, "decom": True})
    call(nodes[0], "PUT", "/db")
    for holders in call(nodes[0], "GET", "/db/_shards").body["shards"].values():
        assert holders == [nodes[0].name, nodes[1].name]
    assert whole(nodes)


# -- served


@pytest.fixture
def loop() -> Iterator[Loop]:
    loop = Loop()
    yield loop
    loop.close()


def test_served_over_http_while_another_thread_stops_and_starts(loop: Loop) -> None:
    network = Network(pace=0)
    nodes = assembled(network, 3)
    server = loop.serve(nodes[0].handle, "127.0.0.1")
    url = f"http://127.0.0.1:{server.port}"
    session = requests.Session()
    session.trust_env = False
    session.auth = ("admin", "secret")
    ended = threading.Event()

    def restless() -> None:
        while not ended.is_set():
            nodes[1].restart_as_official_image()
            nodes[2].wipe()

    thread = threading.Thread(target=restless)
    thread.start()
    try:
        for _ in range(50):
            answer = session.get(f"{url}/_membership", timeout=5)
            assert answer.headers["Server"] == "CouchDB/3.5.2 (Erlang OTP/27)"
            assert len(answer.json()["cluster_nodes"]) == 3
    finally:
        ended.set()
        thread.join()
    assert session.head(f"{url}/_up", timeout=5).content == b""
    assert session.get(f"{url}/_cluster_setup", timeout=5).json() == {"state": "cluster_finished"}
    served = [e for e in nodes[0].requests if e.path == "/_membership"]
    assert len(served) == 50
    assert not any(e.is_write for e in served)
    nodes[0].stop()
    with pytest.raises(requests.ConnectionError):
        session.get(f"{url}/_up", timeout=5)


def test_an_interception_answers_in_place_of_the_node() -> None:
    (node,) = make(Network(pace=0), 1)

    async def only_up(request: Request) -> Response | None:
        return Response(503, {"error": "busy"}) if request.path == "/_up" else None

    node.intercept = only_up
    assert call(node, "GET", "/_up").status == 503
    assert call(node, "GET", "/_membership").status == 200
    assert [e.status for e in node.requests] == [503, 200]


def test_hundreds_of_nodes_are_assembled_in_seconds() -> None:
    nodes = make(Network(pace=0), 300)

    async def rush() -> None:
        path = f"/_node/_local/_nodes/{nodes[0].name}"
        await asyncio.gather(*(ask(node, "PUT", path, {}) for node in nodes[1:]))

    asyncio.run(rush())
    assert finish(nodes[0]) == 201
    assert whole(nodes)
    assert {node.state for node in nodes} == {"cluster_finished"}
