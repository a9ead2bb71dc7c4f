"""Bad days on which somebody is not seen: silent, refusing, at a stale address, of another set."""

import threading
import time

import pytest

from couchdiscover.sandbox import Sandbox
from couchdiscover.sandbox.box import Proceed
from couchdiscover.sandbox.http import Request, Response, Wire
from tests.support.bad_days import (
    QUICK,
    apart,
    check,
    comes,
    fails,
    kinds,
    meddle,
    not_running,
    published_at,
    readable,
    run,
    steps,
)
from tests.support.boxes import Make, aged, ask, asked, assembled, held_by, put
from tests.support.command import Command, finish
from tests.support.volumes import eventually, up_for

DOCUMENTS = 6


def orders(box: Sandbox, pod: str = "couchdb-0", database: str = "orders") -> None:
    """A database with documents, copied to all."""
    if database == "orders":
        put(box, pod, "/orders?n=3")
    for number in range(DOCUMENTS):
        put(box, pod, f"/{database}/o{number}", {"n": number})
    time.sleep(0.5)


def marked(box: Sandbox, pod: str) -> bool:
    return asked(box, pod, "/_node/_local/_dbs/_local/couchdiscover").status_code == 200


def joined_by(box: Sandbox, other: Sandbox) -> None:
    """The nodes of another set become members, as people join two zones by hand."""
    for pod in other.pods:
        put(box, "couchdb-0", f"/_node/_local/_nodes/{other.node(pod).name}", {})
    time.sleep(1)


def two_sets(
    sandbox: Make, couchdiscover: Command, nodes: int, others: int
) -> tuple[Sandbox, Sandbox]:
    """Two StatefulSets that are one cluster."""
    box = sandbox(nodes)
    other = sandbox(others, beside=box, statefulset="zoneb")
    joined_by(box, other)
    for each in (box, other):
        assembled(couchdiscover, each)
    return box, other


def emptied(box: Sandbox, pod: str, database: str) -> None:
    """A node's copies of a database are empty, and stay so."""
    box.hold_filling(pod, 0)
    for file in ask(box, pod, "/_node/_local/_all_dbs"):
        if f"/{database}." in file:
            path = "/_node/_local/" + file.replace("/", "%2F")
            ask(box, pod, path, "DELETE")
            ask(box, pod, path, "PUT")


# --- addresses that are another set's by now --------------------------------------------------


def test_an_address_that_is_another_namespaces_by_now_joins_nobody(
    sandbox: Make, couchdiscover: Command
) -> None:
    box = sandbox(3)
    other = sandbox(3, beside=box, namespace="staging")
    box.stop("couchdb-1")
    published_at(box, "couchdb-1", other.address("couchdb-1")[0])
    ended = run(couchdiscover, box, *QUICK)
    assert ended.code == 4, ended.err
    assert "staging.svc.cluster.local, which is another pod" in ended.json["message"]
    assert other.writes() == []


def test_nobody_joins_a_cluster_of_another_namespace(sandbox: Make, couchdiscover: Command) -> None:
    box = sandbox(3)
    other = assembled(couchdiscover, sandbox(3, beside=box, namespace="staging"))
    orders(other)
    box.stop("couchdb-0")
    published_at(box, "couchdb-0", other.address("couchdb-0")[0])
    ended = run(couchdiscover, box, *QUICK, pod="couchdb-1")
    assert ended.code != 0, ended.err
    assert len(other.node("couchdb-0").members) == 3


def test_a_pod_at_whose_address_another_answers_is_not_to_be_deleted(
    sandbox: Make, couchdiscover: Command
) -> None:
    box = assembled(couchdiscover, sandbox(3))
    other = sandbox(1, beside=box, statefulset="cache")
    box.stop("couchdb-1")
    published_at(box, "couchdb-1", other.address("cache-0")[0])
    checked = check(couchdiscover, box)
    assert checked.code == 3
    assert "delete" not in checked.json["message"]
    ended = run(couchdiscover, box, *QUICK)
    assert (ended.code, steps(ended), other.writes()) == (4, [], [])


# --- databases that others know of ------------------------------------------------------------


@pytest.mark.parametrize("who", ["absent", "refusing"])
def test_a_database_is_not_made_anew_while_members_are_unseen(
    sandbox: Make, couchdiscover: Command, who: str
) -> None:
    """It was made while this pod was away; two maps of it would be in conflict."""
    box = assembled(couchdiscover, sandbox(3))
    box.stop("couchdb-0")
    time.sleep(1.1)
    orders(box, "couchdb-1")
    if who == "absent":
        not_running(box, "couchdb-2", "couchdb-1")
    else:
        apart(box, "couchdb-0")
        meddle(box, fails("couchdb-1", "couchdb-2", path="/", status=401))
    comes(box, "couchdb-0")
    ended = run(couchdiscover, box, "--ensure-db", "orders", *QUICK, pod="couchdb-0")
    assert (ended.code, steps(ended)) == (0, []), ended.err
    told = [w for w in ended.json["warnings"] if "whether that exists is not known" in w]
    assert len(told) == 1


# --- what check says ---------------------------------------------------------------------------


@pytest.mark.parametrize("copies", [1, 2])
def test_check_tells_of_ranges_whose_only_copies_were_lost(
    sandbox: Make, couchdiscover: Command, copies: int
) -> None:
    box = assembled(couchdiscover, sandbox(3))
    lost = ["couchdb-1", "couchdb-2"][:copies]
    database = held_by(box, {box.node(pod).name for pod in lost})
    orders(box, database=database)
    for pod in lost:
        box.wipe(pod, config=False)
    time.sleep(2)
    found = check(couchdiscover, box)
    assert found.code == 3, found.err
    assert kinds(found)["volume_lost"] == "fault"
    assert f"the only copies of some range of {database}" in found.json["message"]


@pytest.mark.parametrize("wait", [(), ("--wait", *QUICK)])
def test_check_calls_no_volume_whole_whose_history_it_could_not_read(
    sandbox: Make, couchdiscover: Command, wait: tuple[str, ...]
) -> None:
    box = assembled(couchdiscover, sandbox(3))
    orders(box)
    box.hold_filling("couchdb-1", 0)
    box.wipe("couchdb-1", config=False)
    time.sleep(1)
    meddle(box, fails("couchdb-1", path="/_node/_local/_dbs/_local_docs"))
    ended = check(couchdiscover, box, *wait)
    assert ended.code == (4 if wait else 3), ended.err
    assert "whose volume it has" in ended.json["message"]


def test_check_waits_for_a_database_that_nobody_can_read(
    sandbox: Make, couchdiscover: Command
) -> None:
    box = assembled(couchdiscover, sandbox(4))
    database = held_by(box, {box.node("couchdb-3").name})
    orders(box, database=database)
    box.scale(3)
    time.sleep(0.5)
    assert not readable(box, "couchdb-0", f"/{database}/o1")
    ended = check(couchdiscover, box, "--wait", *QUICK)
    assert ended.code == 4, ended.err
    assert database in ended.json["message"]


def test_check_through_the_api_server_says_what_it_cannot_see(
    sandbox: Make, couchdiscover: Command
) -> None:
    box = sandbox(3)
    assert couchdiscover("--no-mark", environment=box.environment()).code == 0
    orders(box)
    emptied(box, "couchdb-1", "orders")
    assert check(couchdiscover, box).code == 3
    assert check(couchdiscover, box, "--via", "api-proxy").code == 3


# --- witnesses of lost volumes -----------------------------------------------------------------


def test_a_lost_volume_is_not_marked_while_the_other_set_is_away(
    sandbox: Make, couchdiscover: Command
) -> None:
    box, other = two_sets(sandbox, couchdiscover, 1, 2)
    orders(box)
    box.hold_filling("couchdb-0", 0)
    box.wipe("couchdb-0", config=False)
    time.sleep(2)
    for pod in other.pods:
        other.stop(pod)
    time.sleep(0.5)
    ended = run(couchdiscover, box, *QUICK, pod="couchdb-0")
    assert ended.code == 0, ended.err
    assert any("whether it was lost could not be seen" in w for w in ended.json["warnings"])
    assert not marked(box, "couchdb-0")


def test_a_lone_pod_of_several_is_not_marked(sandbox: Make, couchdiscover: Command) -> None:
    """What starts it has made both databases, so that it calls itself finished."""
    box = assembled(couchdiscover, sandbox(3))
    orders(box)
    box.hold_filling("couchdb-0", 0)
    not_running(box, "couchdb-2", "couchdb-1")
    box.wipe("couchdb-0", config=False)
    for database in ("_users", "_replicator"):
        put(box, "couchdb-0", f"/{database}")
    assert run(couchdiscover, box, *QUICK, pod="couchdb-0").code == 0
    assert not marked(box, "couchdb-0")


def test_two_lost_copies_in_two_sets_do_not_prove_each_other(
    sandbox: Make, couchdiscover: Command
) -> None:
    """A mark that is renewed meanwhile does not make the other set's loss undone."""
    box, other = two_sets(sandbox, couchdiscover, 2, 1)
    ours, theirs = box.node("couchdb-0").name, other.node("zoneb-0").name
    database = held_by(box, {ours, theirs})
    orders(box, database=database)
    replication = box.network.replication
    replication.hold(theirs, 0)
    other.wipe("zoneb-0", config=False)
    time.sleep(1)
    box.scale(3)
    time.sleep(0.5)
    assert run(couchdiscover, box, *QUICK).code == 0
    replication.hold(ours, 0)
    box.wipe("couchdb-0", config=False)
    time.sleep(1)
    for name in (ours, theirs):
        replication.release(name)
    ended = run(couchdiscover, box, *QUICK)
    assert ended.code == 3, ended.err
    assert database in ended.json["message"]


@pytest.mark.parametrize("command", [("check",), ("plan",), ("run", *QUICK)])
def test_a_clone_that_cannot_be_asked_for_is_not_called_another_set(
    sandbox: Make, couchdiscover: Command, command: tuple[str, ...]
) -> None:
    box = assembled(couchdiscover, sandbox(3))
    orders(box)
    box.clone_into("restored")
    time.sleep(2)
    every = ("couchdb-0", "couchdb-1", "couchdb-2")
    for pods, codes in ((every[:1], (3, 6)), (every, (3, 4))):
        meddle(box, fails(*pods, path="/_node/couchdb@"))
        ended = couchdiscover(*command, "-o", "json", environment=box.environment())
        assert ended.code in codes, ended.err


def test_members_of_another_set_are_asked_for_through_whoever_is_connected(
    sandbox: Make, couchdiscover: Command
) -> None:
    box = assembled(couchdiscover, sandbox(3))
    twin = box.clone_into("restored")
    time.sleep(2)
    for pod in twin.pods:
        box.network.cut(box.node("couchdb-0").name, twin.node(pod).name)
    other = sandbox(1, beside=box, statefulset="zoneb")
    joined_by(box, other)
    ended = run(couchdiscover, box, *QUICK)
    assert ended.code == 3, ended.err
    assert "restored.svc.cluster.local" in ended.json["message"]


# --- sizes, pages, time ------------------------------------------------------------------------


def test_pods_beyond_the_size_are_compared_with(sandbox: Make, couchdiscover: Command) -> None:
    box = assembled(couchdiscover, sandbox(5))
    names = {box.node(pod).name for pod in ("couchdb-2", "couchdb-3")}
    database = held_by(box, names)
    orders(box, database=database)
    emptied(box, "couchdb-2", database)
    environment = {**box.environment(), "COUCHDB_CLUSTER_SIZE": "3"}
    assert couchdiscover("check", environment=environment).code == 3
    assert run(couchdiscover, box, "--size", "3", *QUICK).code != 0


def test_pods_beyond_the_size_prove_what_they_have_filled(
    sandbox: Make, couchdiscover: Command
) -> None:
    box = assembled(couchdiscover, sandbox(5))
    names = {box.node(pod).name for pod in ("couchdb-2", "couchdb-3")}
    database = held_by(box, names)
    orders(box, database=database)
    box.wipe("couchdb-2", config=False)
    time.sleep(1)
    ended = run(couchdiscover, box, "--size", "3", "--timeout", "20s", pod="couchdb-2")
    assert ended.code == 0, ended.err


def test_maps_of_many_ranges_are_read_in_smaller_pages(
    sandbox: Make, couchdiscover: Command
) -> None:
    """A page of them is more than is taken at once."""
    box = assembled(
        couchdiscover, sandbox(3, statefulset="couchdb-couchdb", namespace="production-databases")
    )
    for number in range(250):
        put(box, box.pods[0], f"/db{number:03}?q=128")
    ended = run(couchdiscover, box, "--timeout", "30s")
    assert ended.code == 0, ended.err


@pytest.mark.parametrize("pod", [None, "couchdb-1"])
def test_databases_that_are_made_meanwhile_hold_up_no_end(
    sandbox: Make, couchdiscover: Command, pod: str | None
) -> None:
    box = assembled(couchdiscover, sandbox(3))
    orders(box)
    box.hold_filling("couchdb-1", 0)
    box.wipe("couchdb-1", config=False)
    time.sleep(1)
    over = threading.Event()

    def application() -> None:
        number = 0
        while not over.is_set():
            put(box, "couchdb-0", f"/app{number}?q=1&n=3")
            number += 1
            over.wait(2)

    making = threading.Thread(target=application)
    making.start()
    started = couchdiscover.start(
        "run", "-o", "json", "--timeout", "5s", environment=box.environment(pod)
    )
    try:
        assert finish(started, 40).code == 4
    finally:
        over.set()
        making.join()


# --- who finishes ------------------------------------------------------------------------------


def test_a_pod_that_is_connected_has_been_created_whatever_the_status_says(
    sandbox: Make, couchdiscover: Command
) -> None:
    """Each would believe that the other is still to come, and leave finishing to it."""
    box = sandbox(3)
    for pod in ("couchdb-1", "couchdb-2"):
        box.set_phase(pod, "pending")
    found = box.api.get("StatefulSet", "default", "couchdb")
    found["status"]["replicas"] = 1
    box.api.put(found)
    assert run(couchdiscover, box, *QUICK, pod="couchdb-0").code == 0
    started = [
        couchdiscover.start(
            "run", *QUICK, environment={**box.environment(pod), "POD_IP": box.address(pod)[0]}
        )
        for pod in ("couchdb-1", "couchdb-2")
    ]
    assert [finish(each).code for each in started] == [0, 0]
    eventually(lambda: box.node("couchdb-0").state == "cluster_finished", 5)


def test_a_node_that_hides_its_version_and_configuration_is_not_locked_out(
    sandbox: Make, couchdiscover: Command
) -> None:
    box = sandbox(3, pod_options={"couchdb-2": {"version": "3.3.3"}})

    async def hiding(pod: str, request: Request, proceed: Proceed) -> Response | Wire:
        if pod == "couchdb-2" and request.path == "/_node/_local/_config":
            return Response(500, {"error": "error", "reason": "of the test"})
        answer = await proceed()
        if pod == "couchdb-2" and isinstance(answer, Response):
            headers = {k: v for k, v in answer.headers.items() if k.lower() != "server"}
            answer = Response(answer.status, answer.body, headers)
        return answer

    box.intercept = hiding
    assert run(couchdiscover, box, *QUICK).code == 4
    box.intercept = None
    assert asked(box, "couchdb-2", "/_membership").status_code == 200


def test_seeds_that_may_hold_the_data_are_to_be_started_first(
    sandbox: Make, couchdiscover: Command
) -> None:
    """All volumes of this zone are new, the other zone is down, and both are in the seedlist."""
    seeds = tuple(
        f"couchdb@{name}-{number}.{name}.default.svc.cluster.local"
        for name in ("couchdb", "zoneb")
        for number in range(2)
    )
    box = sandbox(2, node_options={"seedlist": seeds})
    other = sandbox(2, beside=box, statefulset="zoneb", node_options={"seedlist": seeds})
    time.sleep(2)
    assembled(couchdiscover, box)
    for pod in other.pods:
        other.stop(pod)
    for pod in box.pods:
        box.stop(pod)
    for pod in box.pods:
        box.wipe(pod, config=False)
    for pod in box.pods:
        box.start(pod)
    time.sleep(1)
    aged(box)
    up_for(box, 120)
    ended = run(couchdiscover, box, *QUICK)
    assert ended.code == 6, ended.err
    assert "start those first" in ended.json["message"]
    assert "seedlist" not in ended.json["message"]
