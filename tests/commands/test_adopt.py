"""``adopt`` on volumes whose nodes have other names now: snapshots, clones, renamed sets."""

import asyncio
import fnmatch
import signal
import threading
import time
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from couchdiscover.couch import ground as reading
from couchdiscover.couch.adoption import Adopter
from couchdiscover.errors import UsageProblem
from couchdiscover.sandbox import Sandbox
from couchdiscover.sandbox.box import Proceed
from couchdiscover.sandbox.http import Request, Response, Wire
from tests.support.adopting import (
    DOCUMENTS,
    Make,
    Original,
    caller,
    filled,
    forget_marks,
    in_process,
    kinds,
    nothing_left,
    original,
    readable,
    run,
    truthful,
)
from tests.support.bad_days import comes, not_running
from tests.support.command import Command
from tests.support.volumes import (
    Caller,
    breathe,
    eventually,
    fill,
    mount,
    purges_handed_on,
    pushed,
    snapshots,
    start,
    up_for,
)

# --- what is adopted --------------------------------------------------------------------------


def test_volumes_in_another_namespace_and_in_another_order(
    any_sandbox: Make, couchdiscover: Command, tmp_path: Path
) -> None:
    box = original(any_sandbox, couchdiscover, tmp_path).restored(any_sandbox, [2, 0, 1])
    call = caller(box)
    assert {call(pod, "GET", "/db")[0] for pod in box.pods} == {500}
    planned = run(couchdiscover, box, "--dry-run")
    assert planned.code == 3
    ended = run(couchdiscover, box)
    assert (ended.code, ended.json["result"]) == (0, "done"), ended.err
    order = ["add_node", "delete_member", "rewrite_map", "sync_shards", "sync_identity"]
    assert list(dict.fromkeys(kinds(ended))) == order
    assert set(kinds(planned)) == set(order)
    rewritten = [s["database"] for s in ended.json["steps"] if s["step"] == "rewrite_map"]
    assert (rewritten[0], rewritten[-1]) == ("_users", "_replicator")
    readable(box)
    assert call.put("couchdb-1", "/db/new", {})["ok"]
    nothing_left(couchdiscover, box)
    assert couchdiscover("run", environment=box.environment()).code == 0


@pytest.mark.parametrize(
    "options",
    [
        {"namespace": "prod", "statefulset": "renamed"},
        {"namespace": "prod", "service": "another"},
        {"namespace": "prod", "domain": "corp.example"},
    ],
    ids=lambda options: "-".join(map(str, options.values())),
)
def test_another_set_service_or_domain(
    newest_or_real: Make, couchdiscover: Command, tmp_path: Path, options: dict[str, Any]
) -> None:
    box = original(newest_or_real, couchdiscover, tmp_path).restored(
        newest_or_real, [1, 2, 0], **options
    )
    assert run(couchdiscover, box).code == 0
    readable(box)
    nothing_left(couchdiscover, box)


@pytest.mark.parametrize("copies", [1, 2, 3])
def test_shuffled_whatever_the_number_of_copies(
    newest_or_real: Make, couchdiscover: Command, tmp_path: Path, copies: int
) -> None:
    databases = {"a": copies, "b": copies}
    made = original(newest_or_real, couchdiscover, tmp_path, databases=databases)
    box = made.restored(newest_or_real, [1, 2, 0])
    assert run(couchdiscover, box).code == 0
    readable(box, databases)
    nothing_left(couchdiscover, box)


def test_one_lone_node_becomes_one_of_three(
    any_sandbox: Make, couchdiscover: Command, tmp_path: Path
) -> None:
    """It was always alone, and has no history: the only former name, and the only files of it."""
    made = original(
        any_sandbox, couchdiscover, tmp_path, 1, {"db": 1}, statefulset="docker", namespace="old"
    )
    box = made.restored(any_sandbox, [0, None, None])
    assert run(couchdiscover, box).code == 0
    readable(box, {"db": 1})
    nothing_left(couchdiscover, box)


def test_three_volumes_into_five_pods(
    newest_or_real: Make, couchdiscover: Command, tmp_path: Path
) -> None:
    box = original(newest_or_real, couchdiscover, tmp_path).restored(
        newest_or_real, [None, 2, 0, None, 1]
    )
    assert run(couchdiscover, box).code == 0
    readable(box)
    nothing_left(couchdiscover, box)


def test_two_of_three_volumes_get_fewer_copies_and_lose_what_nobody_has(
    any_sandbox: Make, couchdiscover: Command, tmp_path: Path
) -> None:
    made = original(any_sandbox, couchdiscover, tmp_path, databases={"db": 3, "also": 3})
    box = made.restored(any_sandbox, [0, 1, None])
    ended = run(couchdiscover, box)
    assert ended.code == 0
    assert any("fewer copies" in warning for warning in ended.json["warnings"])
    readable(box, made.databases)
    assert {len(h) for h in caller(box).maps("couchdb-0")["db"]["by_range"].values()} == {2}
    nothing_left(couchdiscover, box)


def test_two_sets_of_one_cluster_are_joined_and_then_adopted_one_after_the_other(
    sandbox: Make, couchdiscover: Command
) -> None:
    """As docs/restore.md has it: maps that were rewritten apart would be in conflict."""
    box = sandbox(2, namespace="prod")
    other = sandbox(1, statefulset="zone-b", namespace="prod", beside=box)
    assert couchdiscover("run", environment=box.environment()).code == 0
    call, theirs = caller(box), caller(other)
    name = other.node("zone-b-0").name
    call.put("couchdb-0", f"/_node/_local/_nodes/{name}", {})
    eventually(lambda: len(theirs.get("zone-b-0", "/_membership")["all_nodes"]) == 3)
    fill(call, "couchdb-0", {"db": 3}, DOCUMENTS)
    old = [box.node(pod).volume.copy() for pod in box.pods]
    old_other = other.node("zone-b-0").volume.copy()
    for each in (box, other):
        for pod in each.pods:
            each.stop(pod)
    then = sandbox(2, namespace="restored", running=False)
    beside = sandbox(1, statefulset="zone-b", namespace="restored", running=False, beside=then)
    mount(then, old)
    mount(beside, [old_other])
    start(then)
    start(beside)
    alone = run(couchdiscover, then, "--dry-run")
    assert any("make both one cluster before either" in w for w in alone.json["warnings"])
    name = beside.node("zone-b-0").name
    for member in (name, then.node("couchdb-1").name):
        caller(then).put("couchdb-0", f"/_node/_local/_nodes/{member}", {})
    eventually(lambda: len(caller(beside).get("zone-b-0", "/_membership")["all_nodes"]) == 3)
    for restored in (then, beside):
        ended = run(couchdiscover, restored)
        assert ended.code == 0, ended.err
    maps = [caller(then).maps(pod) for pod in then.pods] + [caller(beside).maps("zone-b-0")]
    assert maps[0] == maps[1] == maps[2]
    for restored, pod in ((then, "couchdb-0"), (then, "couchdb-1"), (beside, "zone-b-0")):
        assert caller(restored).count(pod, "db") == DOCUMENTS + 1
    for restored in (then, beside):
        nothing_left(couchdiscover, restored)
        assert couchdiscover("check", environment=restored.environment()).code == 0


@pytest.mark.parametrize("younger", [True, False])
def test_the_third_volume_comes_back_after_the_others_were_adopted(
    newest_or_real: Make, couchdiscover: Command, tmp_path: Path, younger: bool
) -> None:
    """Its copies are named again where they hold what they have pushed to no other one."""
    box, call = filled(newest_or_real, couchdiscover, {"db": 3, "also": 3})
    eventually(lambda: pushed(call, "db") and pushed(call, "also"))
    volumes = snapshots(box, tmp_path)
    if younger:
        for number in range(8):
            call.put("couchdb-0", f"/db/late{number}", {})
        eventually(lambda: all(call.count(pod, "db") == DOCUMENTS + 9 for pod in box.pods))
        breathe(call)
        volumes[2] = snapshots(box, tmp_path)[2]
    for pod in box.pods:
        box.stop(pod)
    forgotten = Original(volumes, {"db": 3, "also": 3}).restored(newest_or_real, [0, 1, None])
    assert run(couchdiscover, forgotten).code == 0
    forgotten.stop("couchdb-2")
    mount(forgotten, [None, None, volumes[2]])
    forgotten.start("couchdb-2")
    ended = run(couchdiscover, forgotten)
    assert ended.code == 0, ended.err
    then = caller(forgotten)
    maps = then.maps("couchdb-0")
    copies = {name: {len(h) for h in maps[name]["by_range"].values()} for name in ("db", "also")}
    assert copies == {"db": {3 if younger else 2}, "also": {2}}
    for pod in forgotten.pods:
        assert then.count(pod, "db") == DOCUMENTS + (9 if younger else 1)
        assert then.count(pod, "also") == DOCUMENTS + 1
    truthful(forgotten)
    nothing_left(couchdiscover, forgotten)


def test_a_range_without_any_file_refuses_its_database_and_the_others_go_on(
    sandbox: Make, couchdiscover: Command, tmp_path: Path
) -> None:
    databases = {"db": 3, **{f"single{n}": 1 for n in range(4)}}
    made = original(sandbox, couchdiscover, tmp_path, databases=databases)
    box = made.restored(sandbox, [0, None, 2])
    before = caller(box).maps("couchdb-0")
    ended = run(couchdiscover, box)
    assert ended.code == 3
    after = caller(box).maps("couchdb-0")
    refused = [name for name in after if after[name] == before[name]]
    assert refused
    assert all(name in ended.json["message"] for name in refused)
    assert "db" not in refused
    assert caller(box).count("couchdb-1", "db") == DOCUMENTS + 1
    writes = len(box.writes())
    again = run(couchdiscover, box)
    assert (again.code, again.json["steps"], len(box.writes())) == (3, [], writes)


def test_names_by_address_after_several_restarts(
    newest_or_real: Make, couchdiscover: Command, tmp_path: Path
) -> None:
    """Databases made between two restarts are under other names than the older ones."""
    made = original(newest_or_real, couchdiscover, tmp_path, databases={"db": 3})
    second = made.restored(newest_or_real, [0, 1, 2], namespace="second")
    assert run(couchdiscover, second).code == 0
    forget_marks(second)
    call = caller(second)
    call.put("couchdb-0", "/later?n=3&q=2")
    for number in range(DOCUMENTS):
        call.put("couchdb-0", f"/later/d{number}", {"number": number})
    call.put("couchdb-0", "/later/_design/d", {})
    eventually(lambda: all(call.count(pod, "later") == DOCUMENTS + 1 for pod in second.pods))
    third = Original(snapshots(second, tmp_path)).restored(
        newest_or_real, [2, 1, 0], namespace="third"
    )
    assert run(couchdiscover, third).code == 0
    readable(third, {"db": 3, "later": 3})
    nothing_left(couchdiscover, third)


def test_volumes_that_changed_places_under_present_names(
    newest_or_real: Make, couchdiscover: Command, tmp_path: Path
) -> None:
    made = original(newest_or_real, couchdiscover, tmp_path)
    box = made.restored(newest_or_real, [1, 0, 2], namespace="prod")
    ended = run(couchdiscover, box)
    assert ended.code == 0, ended.err
    assert " 0 documents" not in ended.json["message"]
    assert kinds(ended).count("delete_member") == 0
    readable(box)
    nothing_left(couchdiscover, box)


MANY = {f"one{number}": 1 for number in range(4)} | {f"two{number}": 2 for number in range(4)}
"""So many databases of few copies that each kind of placement is among them."""


def test_many_databases_of_volumes_that_changed_places(
    sandbox: Make, couchdiscover: Command, tmp_path: Path
) -> None:
    """A map that was rewritten names what its node did not have then: no reason for doubts."""
    made = original(sandbox, couchdiscover, tmp_path, databases=MANY)
    box = made.restored(sandbox, [1, 0, 2], namespace="prod")
    ended = run(couchdiscover, box)
    assert ended.code == 0, ended.err
    readable(box, MANY)
    nothing_left(couchdiscover, box)


@pytest.mark.parametrize("begun", [False, True])
def test_pods_of_volumes_that_changed_places_start_one_after_the_other(
    sandbox: Make, couchdiscover: Command, tmp_path: Path, begun: bool
) -> None:
    """As OrderedReady has it; also where an adoption was killed before.

    The third one has its own volume, and asks nobody else for whose theirs were.
    """
    made = original(sandbox, couchdiscover, tmp_path, databases=MANY)
    box = made.restored(sandbox, [1, 0, 2], namespace="prod")
    if begun:
        killed_at(couchdiscover, box, lambda request: "_dbs/two" in request.path)
    not_running(box, *box.pods)
    before = len(box.writes())
    for pod in box.pods[:2]:
        comes(box, pod)
        ended = couchdiscover(
            "run", "-o", "json", "--timeout", "10s", environment=box.environment(pod)
        )
        assert ended.code == 0, ended.err
        assert "was left as it is" in ended.json["message"]
        (warning,) = [w for w in ended.json["warnings"] if "changed places" in w]
        assert "couchdiscover adopt" in warning
    assert box.writes()[before:] == []
    comes(box, box.pods[2])
    third = couchdiscover("run", environment=box.environment(box.pods[2]))
    assert third.code == 0, third.err
    whole_set = couchdiscover("run", "-o", "json", environment=box.environment())
    assert whole_set.code == 6, whole_set.err
    assert run(couchdiscover, box).code == 0
    readable(box, MANY)


def test_volumes_that_are_put_back_in_the_midst_of_an_adoption(
    sandbox: Make, couchdiscover: Command, tmp_path: Path
) -> None:
    """Some maps name the places that the volumes had meanwhile: nothing is whole yet."""
    made = original(sandbox, couchdiscover, tmp_path, databases=MANY)
    box = made.restored(sandbox, [1, 0, 2], namespace="prod")
    killed_at(couchdiscover, box, lambda request: "_dbs/two" in request.path)
    found = snapshots(box, tmp_path)
    for pod in box.pods:
        box.stop(pod)
    mount(box, [found[1], found[0], found[2]])
    start(box)
    assert couchdiscover("check", environment=box.environment()).code in (3, 6)
    assert couchdiscover("run", environment=box.environment()).code in (3, 6)
    ended = run(couchdiscover, box)
    assert ended.code == 0, ended.err
    readable(box, MANY)
    nothing_left(couchdiscover, box)


def killed_at(
    couchdiscover: Command, box: Sandbox, point: Callable[[Request], bool], *, method: str = "PUT"
) -> None:
    """Kills an adoption at its first request of a kind, which is not taken."""

    async def kill(pod: str, request: Request, proceed: Proceed) -> Response | Wire:
        if request.method == method and point(request):
            process.kill()
            await asyncio.sleep(0.3)
            return Wire(reset=True)
        return await proceed()

    box.intercept = kill
    process = couchdiscover.start("adopt", "-o", "json", environment=box.environment())
    process.communicate(timeout=60)
    box.intercept = None
    assert process.returncode == -signal.SIGKILL


def failing(
    box: Sandbox, point: Callable[[str, Request], bool], answer: Response | Wire, times: range
) -> list[int]:
    """Has some requests of a kind, counted from 0, answered so; returns what counts them."""
    counted: list[int] = []

    async def fail(pod: str, request: Request, proceed: Proceed) -> Response | Wire:
        if point(pod, request):
            counted.append(len(counted))
            if counted[-1] in times:
                return answer
        return await proceed()

    box.intercept = fail
    return counted


def different_moments(
    sandbox: Make, couchdiscover: Command, tmp_path: Path, **options: Any
) -> Sandbox:
    """One volume of the three is older: without a deletion, a purge and a document since.

    Of its databases one was deleted since, and one made anew.
    """
    box, call = filled(sandbox, couchdiscover, {"db": 3}, **options)
    for name in ("gone", "anew"):
        call.put("couchdb-0", f"/{name}?n=3&q=2")
        call.put("couchdb-0", f"/{name}/then", {})
    breathe(call)
    old = snapshots(box, tmp_path)
    for name in ("gone", "anew"):
        assert call("couchdb-0", "DELETE", f"/{name}")[0] in (200, 202)
    doomed = call.get("couchdb-0", "/db/d1")["_rev"]
    call("couchdb-0", "DELETE", f"/db/d1?rev={doomed}")
    gone = call.get("couchdb-0", "/db/d2")["_rev"]
    call("couchdb-0", "POST", "/db/_purge", {"d2": [gone]})
    call.put("couchdb-0", "/db/added", {})
    call.put("couchdb-0", "/young?n=3&q=2")
    time.sleep(1.1)  # a database's files are named by the second that it is made in
    call.put("couchdb-0", "/anew?n=3&q=2")
    call.put("couchdb-0", "/anew/now", {})
    eventually(lambda: all(call.count(pod, "db") == DOCUMENTS for pod in box.pods))
    breathe(call)
    young = snapshots(box, tmp_path)
    return Original([young[0], old[1], young[2]]).restored(sandbox, [0, 1, 2], **options)


def test_volumes_that_changed_places_and_lack_nothing_are_no_reason_to_refuse(
    newest_or_real: Make, couchdiscover: Command, tmp_path: Path
) -> None:
    """What is not named any more is empty, and so is what CouchDB has made in its place."""
    box, call = filled(newest_or_real, couchdiscover, {"db": 3})
    call.put("couchdb-0", "/blank?n=1&q=1")
    found = snapshots(box, tmp_path)
    for pod in box.pods:
        box.stop(pod)
    mount(box, [found[1], found[2], found[0]])
    start(box)
    eventually(lambda: all(call(pod, "GET", "/blank")[0] == 200 for pod in box.pods))
    for whose in (None, "couchdb-1"):
        ended = couchdiscover("run", environment=box.environment(whose))
        assert ended.code == 0, ended.err


def test_snapshots_of_different_moments_are_made_equal(
    newest_or_real: Make, couchdiscover: Command, tmp_path: Path
) -> None:
    restored = different_moments(newest_or_real, couchdiscover, tmp_path)
    ended = run(couchdiscover, restored)
    assert ended.code == 0, ended.err
    all_equal(restored)
    nothing_left(couchdiscover, restored)


def all_equal(restored: Sandbox) -> None:
    """The copies of ``different_moments`` are as the younger ones were."""
    then = caller(restored)
    for pod in restored.pods:
        assert then(pod, "GET", "/db/d1")[0] == 404
        assert then(pod, "GET", "/db/d2")[0] == 404
        assert then(pod, "GET", "/db/added")[0] == 200
        assert then(pod, "GET", "/gone")[0] == 404
        assert then(pod, "GET", "/anew/then")[0] == 404
        assert then(pod, "GET", "/anew/now")[0] == 200
    files = [then.get(pod, "/_node/_local/_all_dbs") for pod in restored.pods]
    for path in files[0]:
        if path.startswith("shards/") and "/db." in path:
            counts = {
                then.get(pod, f"/_node/_local/{path.replace('/', '%2F')}")["doc_count"]
                for pod in restored.pods
            }
            assert len(counts) == 1


@pytest.mark.parametrize("nodes", [2, 3])
def test_security_of_different_moments_is_told_where_no_majority_settles_it(
    newest_or_real: Make, couchdiscover: Command, tmp_path: Path, nodes: int
) -> None:
    box, call = filled(newest_or_real, couchdiscover, {"db": nodes}, nodes)
    old = snapshots(box, tmp_path)
    everybody: Any = {"admins": {"roles": []}, "members": {"roles": []}}
    assert call("couchdb-0", "PUT", "/db/_security", everybody)[0] == 200
    breathe(call)
    volumes = [old[0], *snapshots(box, tmp_path)[1:]]
    for pod in box.pods:
        box.stop(pod)
    then = Original(volumes, {"db": nodes}).restored(newest_or_real, range(nodes))
    ended = run(couchdiscover, then)
    checked = couchdiscover("check", environment=then.environment())
    if nodes == 3:
        assert (ended.code, checked.code) == (0, 0), ended.err
        return
    assert (ended.code, checked.code) == (3, 3), ended.err
    assert "db: _security is not the same on couchdb@couchdb-0." in ended.json["message"]
    assert "db: _security is not the same on" in checked.out
    assert caller(then)("couchdb-0", "PUT", "/db/_security", everybody)[0] == 200
    assert couchdiscover("check", environment=then.environment()).code == 0
    nothing_left(couchdiscover, then)


def rolled_back(
    make: Make, couchdiscover: Command, folder: Path, *, settled: bool = True
) -> tuple[Sandbox, Caller]:
    """Three nodes, of which one is started on a snapshot from before a purge.

    Unless it was ``settled``, its documents pushed to its fellows, it does so at its start: what
    was purged is back on all of them.
    """
    box, call = filled(make, couchdiscover, {"db": 3})
    if settled:
        eventually(lambda: pushed(call, "db"))
    old = snapshots(box, folder)
    for number in (1, 2, 3):
        revision = call.get("couchdb-0", f"/db/d{number}")["_rev"]
        call("couchdb-0", "POST", "/db/_purge", {f"d{number}": [revision]})
    for number in range(4):
        call.put("couchdb-0", f"/db/more{number}", {})
    eventually(lambda: all(call.count(pod, "db") == DOCUMENTS + 2 for pod in box.pods))
    eventually(lambda: purges_handed_on(call, "db"))
    young = snapshots(box, folder)
    for pod in box.pods:
        box.stop(pod)
    mount(box, [young[0], old[1], young[2]])
    start(box)
    return box, call


def test_an_older_snapshot_under_its_own_name_loses_what_was_purged(
    newest_or_real: Make, couchdiscover: Command, tmp_path: Path
) -> None:
    box, call = rolled_back(newest_or_real, couchdiscover, tmp_path)
    for only_looks, code in (("--dry-run", 3), ("--timeout=0", 4)):
        looked = run(couchdiscover, box, only_looks)
        assert looked.code == code, looked.err
        assert "sync_shards" in looked.json["message"]
    ended = run(couchdiscover, box)
    assert ended.code == 0, ended.err
    assert all(call.count(pod, "db") == DOCUMENTS + 2 for pod in box.pods)
    for pod in box.pods:
        assert call(pod, "GET", "/db/d1")[0] == 404
    nothing_left(couchdiscover, box)


QUESTIONS: dict[str, tuple[Callable[[str, Request], bool], range]] = {
    "what it lacks": (lambda pod, r: r.path.endswith("/_revs_diff"), range(1)),
    "what was purged": (lambda pod, r: r.path == "/db/_purged_infos", range(1)),
    "its files": (lambda pod, r: pod == "couchdb-1" and "/shards" in r.path, range(1, 4)),
    "the push": (lambda pod, r: r.path == "/db/_sync_shards", range(1)),
}
"""What is asked of nodes where one is an older snapshot, and which of these fails."""


@pytest.mark.parametrize("question", QUESTIONS)
@pytest.mark.parametrize("answer", [Wire(reset=True), Response(500, {"error": "it_failed"})])
def test_a_question_that_fails_is_no_sign_that_an_older_snapshot_is_none(
    sandbox: Make, couchdiscover: Command, tmp_path: Path, question: str, answer: Response | Wire
) -> None:
    box, call = rolled_back(sandbox, couchdiscover, tmp_path)
    point, times = QUESTIONS[question]
    asked = failing(box, point, answer, times)
    ended = run(couchdiscover, box)
    assert asked
    assert ended.code == 0, ended.err
    assert not any("nobody can tell" in warning for warning in ended.json["warnings"])
    box.intercept = None
    assert all(call.count(pod, "db") == DOCUMENTS + 2 for pod in box.pods)
    nothing_left(couchdiscover, box)


@pytest.mark.parametrize("question", ["what it lacks", "what was purged", "its files"])
def test_a_question_that_is_never_answered_is_told(
    sandbox: Make, couchdiscover: Command, tmp_path: Path, question: str
) -> None:
    box, _ = rolled_back(sandbox, couchdiscover, tmp_path)
    point, _ = QUESTIONS[question]
    failing(box, point, Response(500, {"error": "it_failed"}), range(10_000))
    failed = run(couchdiscover, box, "--timeout", "5s")
    assert (failed.code, failed.json["steps"]) == (4, []), failed.err


def test_killed_before_the_push_to_an_older_snapshot(
    sandbox: Make, couchdiscover: Command, tmp_path: Path
) -> None:
    """Its fellows have forgotten by then whom they handed their purges to."""
    box, call = rolled_back(sandbox, couchdiscover, tmp_path)
    killed_at(couchdiscover, box, lambda r: r.path == "/db/_sync_shards", method="POST")
    ended = run(couchdiscover, box)
    assert ended.code == 0, ended.err
    assert all(call.count(pod, "db") == DOCUMENTS + 2 for pod in box.pods)
    nothing_left(couchdiscover, box)


def test_what_had_come_back_from_an_older_snapshot_before_is_told(
    any_sandbox: Make, couchdiscover: Command, tmp_path: Path
) -> None:
    """All copies are alike then, and none takes a purge twice: only a person can tell."""
    box, call = rolled_back(any_sandbox, couchdiscover, tmp_path, settled=False)
    eventually(lambda: all(call.count(pod, "db") == DOCUMENTS + 5 for pod in box.pods))
    checked = couchdiscover("check", environment=box.environment())
    ended = run(couchdiscover, box)
    assert ended.json["steps"] == []
    if ended.json["nodes"][0]["version"].startswith("3.3"):
        assert (checked.code, ended.code) == (0, 0), ended.err
        assert "db: some copy knows of fewer purges" in checked.out
        assert "nobody can tell" in "".join(ended.json["warnings"])
        return
    assert (checked.code, ended.code) == (3, 3), ended.err
    assert "db: some copy is an older state of itself" in checked.out
    assert "purged are there again, of db d1, d2, d3: they came back" in ended.json["message"]
    for number in (1, 2, 3):
        revision = call.get("couchdb-0", f"/db/d{number}")["_rev"]
        call("couchdb-0", "POST", "/db/_purge", {f"d{number}": [revision]})
    eventually(lambda: all(call.count(pod, "db") == DOCUMENTS + 2 for pod in box.pods))
    eventually(lambda: purges_handed_on(call, "db"))
    again = run(couchdiscover, box)
    assert again.code == 0, again.err
    assert kinds(again) == ["sync_shards"]
    assert all(call.count(pod, "db") == DOCUMENTS + 2 for pod in box.pods)
    nothing_left(couchdiscover, box)
    assert couchdiscover("check", environment=box.environment()).code == 0


def test_an_older_snapshot_that_is_written_to_from_the_first_moment(
    newest_or_real: Make, couchdiscover: Command, tmp_path: Path
) -> None:
    """There is always something left to push, and no two looks see the same numbers."""
    box, call = rolled_back(newest_or_real, couchdiscover, tmp_path)
    stop = threading.Event()

    def write() -> int:
        own, number = caller(box), 0
        while not stop.is_set():
            own.put(box.pods[number % 3], f"/db/w{number}", {})
            number += 1
        return number

    with ThreadPoolExecutor(1) as writers:
        writing = writers.submit(write)
        try:
            breathe(call)  # by now nothing in the peers' histories tells of the older state
            ended = run(couchdiscover, box)
        finally:
            stop.set()
    assert writing.result() > 10
    assert ended.code == 0, ended.err
    assert kinds(ended) == ["sync_shards"]
    for pod in box.pods:
        for number in (1, 2, 3):
            assert call(pod, "GET", f"/db/d{number}")[0] == 404
    eventually(lambda: len({call.count(pod, "db") for pod in box.pods}) == 1)


def test_a_database_made_on_a_restored_node_before_the_adoption(
    newest_or_real: Make, couchdiscover: Command, tmp_path: Path
) -> None:
    """Its map mixes former and present names; only the file that is there is named."""
    box = original(newest_or_real, couchdiscover, tmp_path).restored(newest_or_real, [0, 1, 2])
    call = caller(box)
    assert call("couchdb-1", "PUT", "/newdb?q=2&n=4")[0] in (201, 202)
    assert run(couchdiscover, box).code == 0
    readable(box)
    assert call("couchdb-2", "GET", "/newdb")[0] == 200
    nothing_left(couchdiscover, box)


def test_a_database_that_no_volume_has_a_range_of_is_told_by_adopt_and_by_run(
    sandbox: Make, couchdiscover: Command, tmp_path: Path
) -> None:
    """Made on a restored node, with copies on former names only: nobody has them."""
    box = original(sandbox, couchdiscover, tmp_path, databases={"db": 3}).restored(
        sandbox, [0, 1, 2]
    )
    call = caller(box)
    assert call("couchdb-1", "PUT", "/newdb?q=4&n=1")[0] == 202
    for _ in range(2):
        ended = run(couchdiscover, box)
        assert ended.code == 3
        assert "newdb" in ended.json["message"]
    readable(box, {"db": 3}, but=["newdb"])
    for command in ("run", "check"):
        ended = couchdiscover(command, "-o", "json", environment=box.environment())
        assert ended.code == 3
        assert "newdb" in ended.json["message"]
    assert couchdiscover("run", environment=box.environment("couchdb-0")).code == 0


def test_zones_and_unknown_keys_of_members_are_kept(
    sandbox: Make, couchdiscover: Command, tmp_path: Path
) -> None:
    box = sandbox(3, namespace="prod")
    assert couchdiscover("run", environment=box.environment()).code == 0
    call = caller(box)
    for pod in box.pods:
        path = f"/_node/_local/_nodes/{call.name(pod)}"
        call.put("couchdb-0", path, {**call.get("couchdb-0", path), "zone": f"z{pod[-1]}"})
    path = f"/_node/_local/_nodes/{call.name('couchdb-2')}"
    eventually(lambda: all("zone" in call.get(pod, path) for pod in box.pods))
    fill(call, "couchdb-0", {"db": 3}, DOCUMENTS)
    restored = Original(snapshots(box, tmp_path)).restored(sandbox, [2, 0, 1])
    assert run(couchdiscover, restored).code == 0
    then = caller(restored)
    zones = [
        then.get("couchdb-0", f"/_node/_local/_nodes/{then.name(p)}")["zone"] for p in box.pods
    ]
    assert zones == ["z2", "z0", "z1"]
    nothing_left(couchdiscover, restored)


def test_some_databases_only(sandbox: Make, couchdiscover: Command, tmp_path: Path) -> None:
    box = original(sandbox, couchdiscover, tmp_path).restored(sandbox, [0, 1, 2])
    assert run(couchdiscover, box, "--database", "t*").code == 0
    call = caller(box)
    assert call.count("couchdb-2", "two") == DOCUMENTS + 1
    assert call("couchdb-2", "GET", "/db")[0] == 500
    assert run(couchdiscover, box).code == 0
    readable(box)
    nothing_left(couchdiscover, box)


# --- replications -----------------------------------------------------------------------------


@pytest.fixture
def with_replications(sandbox: Make, couchdiscover: Command, tmp_path: Path) -> Sandbox:
    box, call = filled(sandbox, couchdiscover, {"db": 3})
    target = "https://someone:s3cr3t-of-theirs@elsewhere.example/db?token=s3cr3t-of-theirs"
    call.put("couchdb-0", "/_replicator/going", {"source": "db", "target": target})
    over = {"source": "db", "target": "gone", "_replication_state": "completed"}
    call.put("couchdb-0", "/_replicator/over", over)
    eventually(lambda: all(call.count(pod, "_replicator") >= 2 for pod in box.pods))
    return Original(snapshots(box, tmp_path)).restored(sandbox, [1, 2, 0])


def test_replications_that_would_start_must_be_decided_on(
    with_replications: Sandbox, couchdiscover: Command
) -> None:
    box = with_replications
    asked = run(couchdiscover, box)
    assert (asked.code, box.writes()) == (2, [])
    assert "1 replication" in asked.json["message"]
    assert "elsewhere.example/db" in asked.json["message"]
    assert "s3cr3t" not in asked.out + asked.err
    held = run(couchdiscover, box, "--replications", "hold")
    assert held.code == 0, held.err
    call = caller(box)
    assert call.count("couchdb-0", "db") == DOCUMENTS + 1
    assert call("couchdb-0", "GET", "/_replicator")[0] == 500
    called_held(couchdiscover, box)
    let_run = run(couchdiscover, box, "--replications", "run")
    assert let_run.code == 0, let_run.err
    assert call.count("couchdb-0", "_replicator") >= 2
    nothing_left(couchdiscover, box)


def called_held(couchdiscover: Command, box: Sandbox) -> None:
    """What was held is told at once, by every command, and is neither finished nor made anew."""
    before = len(box.writes())
    told = "_replicator is held under former names"
    whole = couchdiscover("run", "-o", "json", environment=box.environment())
    assert (whole.code, told in whole.json["message"]) == (3, True), whole.err
    plan = couchdiscover("plan", "-o", "json", environment=box.environment())
    assert (plan.code, told in plan.json["message"]) == (3, True), plan.err
    for pod in box.pods:
        own = couchdiscover("run", "-o", "json", environment=box.environment(pod))
        assert own.code == 0, own.err
        assert any(told in warning for warning in own.json["warnings"])
    found = couchdiscover("check", "-o", "json", environment=box.environment())
    assert found.code == 3, found.err
    assert [f["finding"] for f in found.json["findings"]] == ["held"]
    assert box.writes()[before:] == []


def test_all_documents_are_looked_at_for_replications(
    sandbox: Make, couchdiscover: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One that would start may come after any number of those that are over."""
    monkeypatch.setattr(reading, "PAGE_DOCUMENTS", 2)
    box = sandbox(1, namespace="prod", pace=0.02)
    assert couchdiscover("run", environment=box.environment()).code == 0
    call = caller(box)
    over = {"source": "db", "target": "gone", "_replication_state": "completed"}
    for number in range(12):
        call.put("couchdb-0", f"/_replicator/a{number:02}", over)
    going = {"source": "db", "target": "http://elsewhere.example/db"}
    call.put("couchdb-0", "/_replicator/z", going)
    restored = Original(snapshots(box, tmp_path)).restored(sandbox, [0], pace=0.02)
    with pytest.raises(UsageProblem, match=r"1 replication .*elsewhere\.example"):
        in_process(restored)
    planned = run(couchdiscover, restored, "--replications", "run", "--dry-run")
    assert (planned.code, restored.writes()) == (3, [])
    assert any("[couchdb] uuid" in warning for warning in planned.json["warnings"])


# --- what is refused, with nothing written -----------------------------------------------------


def test_nothing_to_adopt(any_sandbox: Make, couchdiscover: Command) -> None:
    box = any_sandbox(2)
    assert couchdiscover("run", environment=box.environment()).code == 0
    nothing_left(couchdiscover, box)


def test_a_node_that_has_just_started_is_waited_for(
    sandbox: Make, couchdiscover: Command, tmp_path: Path
) -> None:
    box = original(sandbox, couchdiscover, tmp_path).restored(sandbox, [0, 1, 2])
    up_for(box, -200)
    ended = run(couchdiscover, box, "--timeout", "10")
    assert (ended.code, box.writes()) == (6, [])
    assert "50 s" in ended.json["message"]


def test_a_silent_pod_is_waited_for(sandbox: Make, couchdiscover: Command, tmp_path: Path) -> None:
    box = original(sandbox, couchdiscover, tmp_path).restored(sandbox, [0, 1, 2])
    box.stop("couchdb-1")
    ended = run(couchdiscover, box, "--timeout", "10")
    assert (ended.code, box.writes()) == (6, [])
    assert "couchdb-1" in ended.json["message"]


def test_two_clusters(sandbox: Make, couchdiscover: Command, tmp_path: Path) -> None:
    one = original(sandbox, couchdiscover, tmp_path, 1, {"db": 1}, statefulset="a")
    other = original(sandbox, couchdiscover, tmp_path, 1, {"db": 1}, statefulset="b")
    both = Original([*one.volumes, *other.volumes])
    box = both.restored(sandbox, [0, 1])
    ended = run(couchdiscover, box)
    assert (ended.code, box.writes()) == (6, [])
    assert "two clusters" in ended.json["message"]


def test_a_database_made_on_each_of_two_restored_nodes(
    newest_or_real: Make, couchdiscover: Command, tmp_path: Path
) -> None:
    """By an application behind a Service: two maps of one name, which no join could keep."""
    box = original(newest_or_real, couchdiscover, tmp_path).restored(newest_or_real, [1, 2, 0])
    call = caller(box)
    for pod in box.pods[:2]:
        assert call(pod, "PUT", "/newdb")[0] in (201, 202)
        time.sleep(1.1)  # a database's files are named by the second
    ended = run(couchdiscover, box)
    assert (ended.code, ended.json["steps"]) == (6, []), ended.err
    assert "newdb was made on several nodes" in ended.json["message"]
    assert "put volumes of one cluster" not in ended.json["message"]
    for pod in box.pods[:2]:
        assert call(pod, "DELETE", "/newdb")[0] in (200, 202)
    ended = run(couchdiscover, box, "--timeout", "5m")
    assert ended.code == 0, ended.err
    readable(box)
    assert call("couchdb-2", "PUT", "/newdb")[0] == 201


def test_volumes_that_changed_places_of_which_one_is_older_are_refused(
    sandbox: Make, couchdiscover: Command, tmp_path: Path
) -> None:
    """Nothing tells whose the older one was: half a swap would hide what the other holds."""
    box, call = filled(sandbox, couchdiscover, {f"db{number}": 1 for number in range(6)}, nodes=2)
    (tmp_path / "old").mkdir()
    old = snapshots(box, tmp_path / "old")
    call.put("couchdb-0", "/late?q=4&n=1")
    eventually(lambda: all(call(pod, "GET", "/late")[0] == 200 for pod in box.pods))
    young = snapshots(box, tmp_path)
    restored = Original([old[1], young[0]]).restored(sandbox, [0, 1], namespace="prod")
    ended = run(couchdiscover, restored)
    assert (ended.code, ended.json["steps"]) == (6, []), ended.err
    assert "couchdb-0 gave its own away and has none of those" in ended.json["message"]
    assembling = couchdiscover("run", "-o", "json", environment=restored.environment())
    assert assembling.code == 6, assembling.err
    assert assembling.json["message"] == ended.json["message"]  # no advice that does not help


def test_a_wall_that_falls_after_the_adoption(sandbox: Make, couchdiscover: Command) -> None:
    """A backup beside living production: once adopted, the two stay what they are."""
    box = sandbox(3, namespace="prod")
    assert couchdiscover("run", environment=box.environment()).code == 0
    fill(caller(box), "couchdb-0", {"db": 3}, DOCUMENTS)
    before = len(box.writes())
    clone = box.clone_into("stage", wall=True)
    up_for(clone)
    ended = run(couchdiscover, clone)
    assert ended.code == 0, ended.err
    readable(clone, {"db": 3})
    box.open_wall(clone)
    for each in (box, clone):
        for pod in each.pods:
            each.restart(pod)
        up_for(each)
    caller(clone).put("couchdb-1", "/db/of-the-copy", {})
    for each in (box, clone):
        call = caller(each)
        for pod in each.pods:
            names = call.get(pod, "/_membership")
            own = {node.name for node in each.nodes.values()}
            assert set(names["all_nodes"]) == set(names["cluster_nodes"]) == own
        nothing_left(couchdiscover, each)
        assert couchdiscover("run", environment=each.environment()).code == 0
    assert caller(box).count("couchdb-2", "db") == DOCUMENTS + 1
    written = {each.path.split("/")[3] for each in box.writes()[before:]}
    assert written <= {"_config", "_dbs"}, written
    assert couchdiscover("check", environment=box.environment()).code == 0


@pytest.mark.parametrize("many", [1, 2, 3])
def test_readers_from_the_first_moment(
    any_sandbox: Make, couchdiscover: Command, tmp_path: Path, many: int
) -> None:
    """Until a database is adopted each read is a 500; whatever is answered is the truth."""
    copies = {"db": many, "one": 1}
    made = original(any_sandbox, couchdiscover, tmp_path, databases=copies)
    box = made.restored(any_sandbox, [1, 2, 0])
    counts: Counter[tuple[int, int | None]] = Counter()
    stop = threading.Event()

    def read(pod: str) -> None:
        call = caller(box)
        while not stop.is_set():
            for database in copies:
                status, body = call(pod, "GET", f"/{database}/_all_docs?limit=0")
                counts[status, body["total_rows"] if status == 200 else None] += 1

    with ThreadPoolExecutor(len(box.pods)) as readers:
        reading = [readers.submit(read, pod) for pod in box.pods]
        try:
            ended = run(couchdiscover, box)
        finally:
            stop.set()
    assert [each.result() for each in reading] == [None] * 3
    assert ended.code == 0, ended.err
    assert counts.keys() <= {(500, None), (200, DOCUMENTS + 1)}, counts
    assert len(counts) == 2
    readable(box, copies)


def test_one_volume_twice(sandbox: Make, couchdiscover: Command, tmp_path: Path) -> None:
    box = original(sandbox, couchdiscover, tmp_path).restored(sandbox, [0, 1, 1])
    ended = run(couchdiscover, box)
    assert (ended.code, box.writes()) == (6, [])
    assert "one volume" in ended.json["message"]
    assert "another Erlang cookie" not in ended.json["message"]


def test_the_original_of_a_clone_is_not_told_to_stop(sandbox: Make, couchdiscover: Command) -> None:
    box = sandbox(3, namespace="prod")
    assert couchdiscover("run", environment=box.environment()).code == 0
    clone = box.clone_into("stage")
    call = caller(box)
    eventually(lambda: len(call.get("couchdb-0", "/_membership")["all_nodes"]) == 6)
    writes = len(box.writes()), len(clone.writes())
    ours, theirs = run(couchdiscover, box), run(couchdiscover, clone)
    assert (ours.code, theirs.code) == (3, 6)
    assert "Scale that StatefulSet to 0" in ours.json["message"]
    assert "stage.svc" in ours.json["message"]
    assert "Scale this StatefulSet to 0" in theirs.json["message"]
    assert (len(box.writes()), len(clone.writes())) == writes


def test_a_seedlist_of_former_names(sandbox: Make, couchdiscover: Command, tmp_path: Path) -> None:
    seeds = tuple(f"couchdb@couchdb-{n}.couchdb.prod.svc.cluster.local" for n in range(3))
    made = original(sandbox, couchdiscover, tmp_path)
    box = made.restored(sandbox, [0, 1, 2], node_options={"seedlist": seeds})
    ended = run(couchdiscover, box)
    assert (ended.code, box.writes()) == (6, [])
    assert "seedlist" in ended.json["message"]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--from", "couchdb@nobody.example=couchdb-0"], "no former name"),
        (["--from", "couchdb@couchdb-0.couchdb.prod.svc.cluster.local=couchdb-9"], "no pod"),
        (["--from", "couchdb@a.b=couchdb-0", "--from", "couchdb@a.b=couchdb-1"], "twice"),
        (["--from", "nonsense"], "OLD=POD"),
        (["--database", "nothing*"], "matches no database"),
        (["--replications", "maybe"], "run, hold"),
    ],
)
def test_bad_input(
    sandbox: Make, couchdiscover: Command, tmp_path: Path, arguments: list[str], said: str
) -> None:
    box = original(sandbox, couchdiscover, tmp_path, databases={"db": 3}).restored(
        sandbox, [0, 1, 2]
    )
    ended = run(couchdiscover, box, *arguments)
    assert (ended.code, box.writes()) == (2, [])
    assert said in ended.json["message"]


def test_a_volume_that_was_another_by_all_evidence(
    sandbox: Make, couchdiscover: Command, tmp_path: Path
) -> None:
    """Its files would not be named any more, where each node has only some."""
    box = original(sandbox, couchdiscover, tmp_path).restored(sandbox, [1, 2, 0])
    former = "couchdb@couchdb-0.couchdb.prod.svc.cluster.local"
    ended = run(couchdiscover, box, "--from", f"{former}=couchdb-0")
    assert (ended.code, box.writes()) == (2, [])
    assert "that was the volume of couchdb-2" in ended.json["message"]
    assert run(couchdiscover, box, "--from", f"{former}=couchdb-2").code == 0
    readable(box)


def test_no_database_of_that_name_where_nothing_is_to_be_adopted(
    sandbox: Make, couchdiscover: Command
) -> None:
    box = sandbox(1)
    assert couchdiscover("run", environment=box.environment()).code == 0
    assert run(couchdiscover, box, "--database", "nothing*").code == 2
    assert run(couchdiscover, box, "--database", "_us*").code == 0


def test_one_look_writes_nothing(sandbox: Make, couchdiscover: Command, tmp_path: Path) -> None:
    box = original(sandbox, couchdiscover, tmp_path).restored(sandbox, [0, 1, 2])
    ended = run(couchdiscover, box, "--timeout", "0")
    assert (ended.code, box.writes()) == (4, [])


# --- not completed ------------------------------------------------------------------------------


def test_run_says_that_an_adoption_was_not_completed(
    sandbox: Make,
    couchdiscover: Command,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """All maps are right, the copies are not equal yet: that must neither pass nor be forgotten."""
    box = different_moments(sandbox, couchdiscover, tmp_path)

    def killed(*_: Any) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(Adopter, "_sync", killed)
        with pytest.raises(KeyboardInterrupt):
            in_process(box)
    truthful(box)
    for arguments, pod, code in (
        (["run"], None, 3),
        (["check"], None, 3),
        (["run"], "couchdb-1", 0),
        (["run"], None, 3),
    ):
        ended = couchdiscover(*arguments, "-o", "json", environment=box.environment(pod))
        told = [ended.json["message"], *ended.json["warnings"]]
        assert (ended.code, any("couchdiscover adopt" in each for each in told)) == (code, True)
    assert run(couchdiscover, box).code == 0
    all_equal(box)
    assert couchdiscover("run", environment=box.environment()).code == 0


# --- many --------------------------------------------------------------------------------------


def test_many_databases_are_counted_and_not_listed(
    sandbox: Make, couchdiscover: Command, tmp_path: Path
) -> None:
    box = sandbox(2, namespace="prod", pace=0.02)
    assert couchdiscover("run", environment=box.environment()).code == 0
    call = caller(box)
    names = [f"db{number}" for number in range(40)]
    for name in names:
        call.put("couchdb-0", f"/{name}?q=1&n=2")
    eventually(lambda: len(call.maps("couchdb-1")) == 42)
    restored = Original(snapshots(box, tmp_path)).restored(sandbox, [1, 0], pace=0.02)
    ended = couchdiscover("adopt", environment=restored.environment())
    assert ended.code == 0
    assert "42 times rewrite_map" in ended.out
    assert "rewrite_map: 42 of 42" in ended.err
    assert not fnmatch.filter(ended.err.splitlines(), "*rewrite_map db7 *")
    truthful(restored)
    nothing_left(couchdiscover, restored)
