"""Bad days on simulated nodes and, with COUCHDB_HOME set, on real ones: all seen over HTTP.

What only the simulator can be brought to is in ``test_bad_days.py``.
"""

import time

import pytest

from couchdiscover.sandbox import Sandbox
from tests.support.adopting import forget_marks
from tests.support.boxes import Make, aged, ask, asked, assembled, forget_member, held_by, put
from tests.support.boxes import whole_by_http as whole
from tests.support.command import Command
from tests.support.processes import Ended
from tests.support.volumes import eventually

DEAD = "couchdb@couchdb-9.couchdb.default.svc.cluster.local"
DOCUMENTS, MANY = 12, 3000


def run(couchdiscover: Command, box: Sandbox, *arguments: str, pod: str | None = None) -> Ended:
    return couchdiscover("run", "-o", "json", *arguments, environment=box.environment(pod))


def steps(ended: Ended) -> list[str]:
    return [step["step"] for step in ended.json["steps"]]


def findings(couchdiscover: Command, box: Sandbox) -> dict[str, str]:
    found = couchdiscover("check", "-o", "json", environment=box.environment())
    return {each["finding"]: each["severity"] for each in found.json["findings"]}


def fill(box: Sandbox, pod: str, database: str) -> None:
    """Documents, in a database of usual copies; for real nodes enough to be busy for a moment."""
    put(box, pod, f"/{database}")
    if not box.is_real:
        for number in range(DOCUMENTS):
            put(box, pod, f"/{database}/d{number}", {})
        return
    for first in range(0, MANY, 500):
        docs = [{"_id": f"d{number}"} for number in range(first, first + 500)]
        ask(box, pod, f"/{database}/_bulk_docs", "POST", {"docs": docs})


def copies(box: Sandbox, database: str) -> dict[str, dict[str, int]]:
    """By range, what the copy on each pod holds, asked of each by itself; None where none is."""
    document = ask(box, box.pods[0], f"/_node/_local/_dbs/{database}")
    suffix = "".join(map(chr, document["shard_suffix"]))
    found: dict[str, dict[str, int]] = {}
    for range_ in document["by_range"]:
        for pod in box.pods:
            path = f"shards%2F{range_}%2F{database}{suffix}"
            answer = asked(box, pod, f"/_node/_local/{path}")
            if answer.status_code == 200:
                found.setdefault(range_, {})[pod] = answer.json()["doc_count"]
    return found


def equal(box: Sandbox, database: str) -> bool:
    """Whether every node has a copy of every range, and each holds as much."""
    return all(
        len(there) == len(box.pods) and len(set(there.values())) == 1
        for there in copies(box, database).values()
    )


@pytest.mark.parametrize(
    ("pod", "marked"), [(None, True), ("couchdb-1", True), ("couchdb-1", False)]
)
def test_0_verified_after_a_lost_volume_means_that_its_copies_are_there(
    any_sandbox: Make, couchdiscover: Command, pod: str | None, marked: bool
) -> None:
    """Without marks, as of a cluster that is older than them, CouchDB's own history tells."""
    box = assembled(couchdiscover, any_sandbox(3))
    fill(box, "couchdb-0", "orders")
    eventually(lambda: equal(box, "orders"))
    if not marked:
        forget_marks(box)
    box.lose_volume("couchdb-1")
    found = couchdiscover("check", "-o", "json", environment=box.environment())
    assert found.code == 3, found.err
    ended = run(couchdiscover, box, pod=pod)
    assert ended.code == 0, ended.err
    assert equal(box, "orders"), "it said so before its copies were there"
    whole(box)
    assert run(couchdiscover, box).json["steps"] == []
    assert "volume_lost" not in findings(couchdiscover, box)


def test_1_all_pods_were_gone_and_come_back_one_by_one(
    any_sandbox: Make, couchdiscover: Command
) -> None:
    """The first of four cannot open what the others have copies of; nothing is made anew."""
    box = assembled(couchdiscover, any_sandbox(4, node_options={"n": 2}))
    fill(box, "couchdb-0", "orders")
    maps = ask(box, "couchdb-0", "/_node/_local/_dbs/_all_docs")["rows"]
    for pod in box.pods:
        box.stop(pod)
        box.set_phase(pod, "pending")
    for number, pod in enumerate(box.pods):
        box.set_phase(pod, "running")
        box.start(pod)
        ended = run(couchdiscover, box, "--timeout", "60s", pod=pod)
        assert ended.code == 0, ended.err
        assert ended.json["steps"] == [], number
    eventually(lambda: len(ask(box, "couchdb-0", "/_membership")["all_nodes"]) == 4)
    assert ask(box, "couchdb-3", "/_node/_local/_dbs/_all_docs")["rows"] == maps
    for pod in box.pods:
        eventually(lambda pod=pod: asked(box, pod, "/orders/d7").status_code == 200)  # type: ignore[misc]
    ended = run(couchdiscover, box)
    assert ended.code == 0, ended.err


def test_2_a_fresh_first_pod_forms_nothing_while_the_others_do_not_answer(
    any_sandbox: Make, couchdiscover: Command
) -> None:
    """Nor when its time is over; and it is joined to the others when they do."""
    box = assembled(couchdiscover, any_sandbox(3, front=True))
    fill(box, "couchdb-1", "orders")
    others = set(box.pods[1:])
    for pod in others:
        box.stop(pod)
    box.lose_volume("couchdb-0")
    ended = run(couchdiscover, box, "--timeout", "4s", "--request-timeout", "1s", pod="couchdb-0")
    assert (ended.code, ended.json["steps"]) == (0, []), ended.err
    assert any("could not see whether others hold a cluster" in w for w in ended.json["warnings"])
    assert asked(box, "couchdb-0", "/_users").status_code == 404
    for pod in others:
        box.start(pod)
    ended = run(couchdiscover, box, pod="couchdb-0")
    assert ended.code == 0, ended.err
    assert "finish_cluster" not in steps(ended)
    assert equal(box, "orders")
    ended = run(couchdiscover, box)
    assert ended.code == 0, ended.err
    whole(box)


def test_2_a_401_of_every_peer_is_no_sign_that_there_is_no_cluster(
    any_sandbox: Make, couchdiscover: Command
) -> None:
    """Seen on a chart that renews the password: the first pod formed a cluster of its own."""
    box = assembled(couchdiscover, any_sandbox(3, node_options={"lockout": False}))
    name = box.nodes["couchdb-0"].name
    box.stop("couchdb-0")
    forget_member(box, "couchdb-1", name)
    eventually(lambda: name not in ask(box, "couchdb-2", "/_membership")["cluster_nodes"])
    for pod in box.pods[1:]:
        put(box, pod, "/_node/_local/_config/admins/admin", "another-password-of-the-test")
    box.wipe("couchdb-0")
    box.start("couchdb-0")
    ended = run(couchdiscover, box, "--timeout", "20s", pod="couchdb-0")
    assert (ended.code, ended.json["steps"]) == (5, []), ended.err
    assert "couchdb-1" in ended.json["message"]
    assert asked(box, "couchdb-0", "/_users").status_code == 404
    assert ask(box, "couchdb-0", "/_membership")["cluster_nodes"] == [name]


def test_2_a_lost_volume_is_not_marked_while_nobody_can_tell_it(
    any_sandbox: Make, couchdiscover: Command
) -> None:
    """Its peers refuse the credentials, and take it in by themselves: their list has its name."""
    box = assembled(couchdiscover, any_sandbox(3, node_options={"lockout": False}))
    fill(box, "couchdb-1", "orders")
    eventually(lambda: equal(box, "orders"))
    box.rotate(password="the-new-password-of-the-test")
    box.stop("couchdb-0")
    box.wipe("couchdb-0")
    box.start("couchdb-0")
    alone = ["couchdb@couchdb-0.couchdb.default.svc.cluster.local"]
    eventually(lambda: ask(box, "couchdb-0", "/_membership")["cluster_nodes"] != alone)
    ended = run(couchdiscover, box, pod="couchdb-0")
    assert (ended.code, ended.json["steps"]) == (0, []), ended.err
    assert any("whether it was lost could not be seen" in w for w in ended.json["warnings"])
    for pod in box.pods[1:]:
        box.restart(pod)
    eventually(lambda: len(ask(box, "couchdb-0", "/_membership")["all_nodes"]) == 3)
    assert "volume_lost" in findings(couchdiscover, box)
    ended = run(couchdiscover, box)
    assert ended.code == 0, ended.err
    assert equal(box, "orders")
    whole(box)


@pytest.mark.parametrize("own", [None, "couchdb-2"])
def test_3_who_is_no_member_any_more_and_is_told_of_databases_is_joined(
    any_sandbox: Make, couchdiscover: Command, own: str | None
) -> None:
    """CouchDB 3.4 and 3.3 push the maps to it: it calls itself finished, and holds nothing."""
    box = assembled(couchdiscover, any_sandbox(3))
    gone = ask(box, "couchdb-2", "/_node/_local")["name"]
    box.stop("couchdb-2")
    forget_member(box, "couchdb-0", gone)
    eventually(lambda: gone not in ask(box, "couchdb-1", "/_membership")["cluster_nodes"])
    for number in range(3):
        fill(box, "couchdb-0", f"orders-{number}")
    box.wipe("couchdb-2")
    box.start("couchdb-2")
    time.sleep(6 if box.is_real else 0.5)  # they try every five seconds
    ended = run(couchdiscover, box, pod=own)
    assert ended.code == 0, ended.err
    assert "add_node" in steps(ended)
    ended = run(couchdiscover, box)
    assert ended.code == 0, ended.err
    whole(box)
    for pod in box.pods:
        assert ask(box, pod, "/orders-1")["doc_count"] in (DOCUMENTS, MANY)


@pytest.mark.parametrize("pod", [None, "couchdb-0", "couchdb-1"])
def test_11_two_nodes_that_share_a_dead_name_stay_two_clusters(
    any_sandbox: Make, couchdiscover: Command, pod: str | None
) -> None:
    box = any_sandbox(2)
    for each in box.pods:
        eventually(lambda: asked(box, each, "/_all_dbs").ok)  # noqa: B023 - it boots; called at once
        for database in ("_users", "orders"):
            put(box, each, f"/{database}")
        put(box, each, f"/orders/of-{each}", {"pod": each})
        put(box, each, f"/_node/_local/_nodes/{DEAD}", {})
        time.sleep(1.1)  # a database's files are named by the second
    ended = run(couchdiscover, box, "--timeout", "5s", pod=pod)
    assert ended.code == 6, ended.err
    assert "2 clusters" in ended.json["message"]
    for each in box.pods:
        assert ask(box, each, f"/orders/of-{each}")["pod"] == each
        names = ask(box, each, "/_membership")["cluster_nodes"]
        assert sorted(names) == sorted([ask(box, each, "/_node/_local")["name"], DEAD])


def test_12_a_rotated_secret_is_not_undone(any_sandbox: Make, couchdiscover: Command) -> None:
    """Each restarted pod has the new one; in the midst of it nothing is overwritten."""
    box = assembled(couchdiscover, any_sandbox(3))
    path = "/_node/_local/_config/chttpd_auth/secret"
    put(box, "couchdb-2", path, "the-new-secret-of-the-test")
    own = run(couchdiscover, box, pod="couchdb-2")
    assert own.code == 0, own.err
    ended = run(couchdiscover, box)
    exchange = ask(box, "couchdb-2", "/")["version"] >= "3.5.2"
    assert ended.code == (0 if exchange else 3), ended.err
    if not exchange:
        assert "kubectl rollout restart" in ended.json["message"]
    assert ask(box, "couchdb-2", path) == "the-new-secret-of-the-test"
    assert ask(box, "couchdb-0", path) != "the-new-secret-of-the-test"
    for pod in box.pods[:2]:
        put(box, pod, path, "the-new-secret-of-the-test")
    ended = run(couchdiscover, box)
    assert ended.code == 0, ended.err
    whole(box)


def rolled(couchdiscover: Command, box: Sandbox) -> list[Ended]:
    """Each pod started anew as a rollout does it, and joined; then the set's run, and a look."""
    ended = []
    for pod in reversed(box.pods):
        box.restart(pod)
        ended.append(run(couchdiscover, box, pod=pod))
        assert ended[-1].code == 0, ended[-1].err
    last = run(couchdiscover, box)
    assert last.code == 0, last.err
    whole(box)
    assert run(couchdiscover, box).json["steps"] == []
    assert findings(couchdiscover, box).keys() <= {"copies_setting"}
    return [*ended, last]


def test_12_the_administrators_password_is_rotated_by_a_rollout(
    any_sandbox: Make, couchdiscover: Command
) -> None:
    """Of a pod that still has the old one nothing can be known, and none is kept from starting."""
    # The pods' runs share an address here, as real ones don't: five refusals would lock it out.
    box = assembled(couchdiscover, any_sandbox(3, node_options={"lockout": False}))
    box.rotate(password="the-new-password-of-the-test")
    first, *_, last = rolled(couchdiscover, box)
    assert any("couchdb-0 refused the credentials" in each for each in first.json["warnings"])
    assert "the-new-password-of-the-test" not in first.out + first.err + last.out + last.err


def test_12_the_secret_is_rotated_by_a_rollout(any_sandbox: Make, couchdiscover: Command) -> None:
    """Nodes that exchange their secrets lose no session in the midst of it; others say so."""
    box = assembled(couchdiscover, any_sandbox(3, secret="the-old-secret-of-the-test"))
    exchange = ask(box, "couchdb-2", "/")["version"] >= "3.5.2"
    box.rotate(secret="the-new-secret-of-the-test")
    first, *_, last = rolled(couchdiscover, box)
    if exchange:
        assert "sync_identity" in steps(first)
    else:
        assert any("its sessions fail there" in each for each in first.json["warnings"])
    for pod in box.pods:
        path = "/_node/_local/_config/chttpd_auth/secret"
        assert ask(box, pod, path) == "the-new-secret-of-the-test"
    assert "secret-of-the-test" not in first.out + first.err + last.out + last.err


def test_12_the_cookie_is_rotated_while_all_pods_are_down(
    any_sandbox: Make, couchdiscover: Command
) -> None:
    """As docs/rotation.md has it, of a set that is OrderedReady: one comes up after the other."""
    box = assembled(couchdiscover, any_sandbox(3))
    fill(box, "couchdb-0", "orders")
    eventually(lambda: equal(box, "orders"))
    box.rotate(cookie="the-new-cookie-of-the-test")
    for pod in box.pods:
        box.stop(pod)
        box.set_phase(pod, "pending")
    for pod in box.pods:
        box.set_phase(pod, "running")
        box.restart(pod)
        ended = run(couchdiscover, box, "--timeout", "60s", pod=pod)
        assert ended.code == 0, ended.err
        assert "finish_cluster" not in steps(ended)
    ended = run(couchdiscover, box)
    assert ended.code == 0, ended.err
    whole(box)
    assert equal(box, "orders")


@pytest.mark.parametrize("pod", [None, "couchdb-1"])
def test_a_file_that_couchdb_has_made_anew_is_found_and_filled(
    any_sandbox: Make, couchdiscover: Command, pod: str | None
) -> None:
    """The mark is there and every name; the copy that was lost is served empty."""
    box = assembled(couchdiscover, any_sandbox(3))
    fill(box, "couchdb-0", "orders")
    eventually(lambda: equal(box, "orders"))
    assert run(couchdiscover, box).json["steps"] == []
    for path in ask(box, "couchdb-1", "/_node/_local/_all_dbs"):
        if "/orders." in path:
            where = f"/_node/_local/{path.replace('/', '%2F')}"
            ask(box, "couchdb-1", where, "DELETE")
            asked(box, "couchdb-1", where, "PUT")
    told = findings(couchdiscover, box).keys() & {"volume_damaged", "copies_missing"}
    assert told or equal(box, "orders")
    ended = run(couchdiscover, box, pod=pod)
    assert ended.code == 0, ended.err
    assert equal(box, "orders")
    assert run(couchdiscover, box).json["steps"] == []


@pytest.mark.parametrize("first", [None, "couchdb-1"])
def test_two_lost_volumes_do_not_prove_each_other(
    any_sandbox: Make, couchdiscover: Command, first: str | None
) -> None:
    """What only they had is gone, and is told once: by the first of them, or by the set's run."""
    box = assembled(couchdiscover, any_sandbox(3))
    pair = {ask(box, pod, "/_node/_local")["name"] for pod in box.pods[1:]}
    database = held_by(box, pair)
    put(box, "couchdb-1", f"/{database}/first", {})
    for pod in box.pods[1:]:
        box.stop(pod)
        box.wipe(pod)
    for pod in box.pods[1:]:
        box.start(pod)
    eventually(lambda: "" not in states(box) and len(set(states(box))) == 1)
    ended = run(couchdiscover, box, pod=first)
    assert ended.code == (0 if first else 3), ended.err
    told = [ended.json["message"], *ended.json["warnings"]]
    assert any("the only copies of some range of" in t and database in t for t in told), told
    rest = run(couchdiscover, box)
    assert rest.code in (0, 3), rest.err
    assert run(couchdiscover, box).code == 0, "it is told once"


def states(box: Sandbox) -> list[str]:
    return [
        asked(box, pod, "/_cluster_setup").json().get("state", "")
        + str(len(ask(box, pod, "/_membership")["all_nodes"]))
        for pod in box.pods
    ]


@pytest.mark.parametrize("pod", ["couchdb-0", None])
def test_a_lone_pod_that_lost_its_volume_is_left_to_the_other_statefulset_that_lists_it(
    any_sandbox: Make, couchdiscover: Command, pod: str | None
) -> None:
    """It knows nobody, and nobody is connected to it yet: finished by itself, maps would merge."""
    box = any_sandbox(1)
    other = any_sandbox(1, statefulset="zone-b", beside=box)
    box.restart("couchdb-0")  # a real node knows those names that there were when it started
    assembled(couchdiscover, box)
    put(box, "couchdb-0", f"/_node/_local/_nodes/{other.nodes['zone-b-0'].name}", {})
    eventually(lambda: len(ask(box, "couchdb-0", "/_membership")["all_nodes"]) == 2)
    eventually(lambda: len(ask(other, "zone-b-0", "/_membership")["cluster_nodes"]) == 2)
    assert run(couchdiscover, box).code == 0
    fill(box, "couchdb-0", "orders")
    held = ask(box, "couchdb-0", "/orders")["doc_count"]
    eventually(lambda: copies_at(other, "zone-b-0", "orders") == held)
    aged(box)
    box.lose_volume("couchdb-0")
    ended = run(couchdiscover, box, pod=pod)
    assert ended.code == (0 if pod else 3), ended.err
    assert "finish_cluster" not in steps(ended)
    told = " ".join([ended.json["message"], *ended.json["warnings"]])
    assert "the only copies of some range of _replicator, _users" in told
    assert copies_at(box, "couchdb-0", "orders") == held
    assert "conflicting_shard_maps" not in findings(couchdiscover, box)


def copies_at(box: Sandbox, pod: str, database: str) -> int:
    """How many documents the copies on one node hold."""
    document = ask(box, pod, f"/_node/_local/_dbs/{database}")
    suffix = "".join(map(chr, document["shard_suffix"]))
    paths = [f"shards%2F{range_}%2F{database}{suffix}" for range_ in document["by_range"]]
    return sum(ask(box, pod, f"/_node/_local/{path}")["doc_count"] for path in paths)
