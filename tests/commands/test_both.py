"""The same scenarios against simulated nodes and, with COUCHDB_HOME set, against real ones.

What is true of the simulator alone would prove nothing: each of these looks at the nodes over HTTP,
as anybody could.
"""

import time

import pytest

from couchdiscover.sandbox import Sandbox
from tests.support.boxes import Make, ask
from tests.support.boxes import whole_by_http as whole
from tests.support.command import Command, finish


def assemble(couchdiscover: Command, box: Sandbox, pod: str | None = None) -> list[str]:
    """Runs it twice; the second time there is nothing to do. Returns the first run's steps."""
    first = couchdiscover("-o", "json", environment=box.environment(pod))
    assert first.code == 0, first.err
    second = couchdiscover("-o", "json", environment=box.environment(pod))
    assert (second.code, second.json["steps"]) == (0, []), f"{first.err}\n{second.err}"
    return [f"{step['step']} {step['node']}" for step in first.json["steps"]]


@pytest.mark.parametrize("nodes", [1, 3])
def test_a_fresh_set(any_sandbox: Make, couchdiscover: Command, nodes: int) -> None:
    box = any_sandbox(nodes)
    steps = assemble(couchdiscover, box)
    assert steps[-1] == "finish_cluster couchdb-0"
    whole(box)
    ask(box, "couchdb-0", "/orders", "PUT")
    ask(box, "couchdb-0", "/orders/first", "PUT", {"amount": 1})
    for pod in box.pods:
        assert ask(box, pod, "/orders/first")["amount"] == 1


def test_the_image_without_a_secret(any_sandbox: Make, couchdiscover: Command) -> None:
    box = any_sandbox(3, secret=False)
    assert "set_secret couchdb-0" in assemble(couchdiscover, box)
    whole(box)


def test_scale_up_then_a_lost_volume_then_a_rolling_restart(
    any_sandbox: Make, couchdiscover: Command
) -> None:
    box = any_sandbox(2)
    assemble(couchdiscover, box)
    ask(box, "couchdb-1", "/orders", "PUT")
    ask(box, "couchdb-1", "/orders/first", "PUT", {"amount": 1})
    box.scale(3)
    steps = assemble(couchdiscover, box)
    assert steps == ["add_node couchdb-2", "sync_identity couchdb-2"]
    whole(box)
    box.wipe("couchdb-0")
    steps = assemble(couchdiscover, box)
    assert not [step for step in steps if step.startswith("finish_cluster")]
    whole(box)
    for pod in box.pods:
        box.restart(pod)
    assemble(couchdiscover, box)
    whole(box)
    for pod in box.pods:
        assert ask(box, pod, "/orders/first")["amount"] == 1


@pytest.mark.parametrize(
    ("volume", "own"),
    [("kept", "couchdb-2"), ("lost", None), ("lost", "couchdb-2"), ("in use", None)],
)
def test_a_member_that_was_removed_comes_back(
    any_sandbox: Make, couchdiscover: Command, volume: str, own: str | None
) -> None:
    """A scale-down, cleared up as the manual says, and a scale-up; or a removal that is undone.

    The others remember that the document of this member was deleted.
    """
    box = any_sandbox(3)
    assemble(couchdiscover, box)
    ask(box, "couchdb-0", "/orders", "PUT")
    ask(box, "couchdb-0", "/orders/first", "PUT", {"amount": 1})
    if volume != "in use":
        box.stop("couchdb-2")
    document = f"/_node/_local/_nodes/{box.nodes['couchdb-2'].name}"
    revision = ask(box, "couchdb-0", document)["_rev"]
    ask(box, "couchdb-0", f"{document}?rev={revision}", "DELETE")
    while len(ask(box, "couchdb-1", "/_membership")["cluster_nodes"]) > 2:
        time.sleep(0.05)
    if volume == "lost":
        box.wipe("couchdb-2")
    box.start("couchdb-2")
    steps = assemble(couchdiscover, box, own)
    told = {"add_node couchdb-0", "add_node couchdb-1"} & set(steps)
    assert told, "a node that remembers the deletion is told"
    whole(box)
    for pod in box.pods:
        assert ask(box, pod, "/orders/first")["amount"] == 1
    assert assemble(couchdiscover, box) == []


def test_every_pod_brings_itself_in_all_at_once(any_sandbox: Make, couchdiscover: Command) -> None:
    box = any_sandbox(3)
    processes = [couchdiscover.start(environment=box.environment(pod)) for pod in box.pods]
    for process in processes:
        ended = finish(process)
        assert ended.code == 0, ended.err
    whole(box)
    box.wipe("couchdb-1")
    assemble(couchdiscover, box, "couchdb-1")
    whole(box)


def test_two_clusters_are_not_joined(any_sandbox: Make, couchdiscover: Command) -> None:
    box = any_sandbox(2)
    for pod in box.pods:
        ask(box, pod, f"/orders-of-{pod}", "PUT")
    ended = couchdiscover("-o", "json", environment=box.environment())
    assert ended.code == 6, ended.err
    assert "2 clusters" in ended.json["message"]
    for pod in box.pods:
        assert len(ask(box, pod, "/_membership")["cluster_nodes"]) == 1


def test_a_node_that_holds_databases_is_not_joined(
    any_sandbox: Make, couchdiscover: Command
) -> None:
    box = any_sandbox(2)
    ask(box, "couchdb-0", "/_cluster_setup", "POST", {"action": "finish_cluster"})
    ask(box, "couchdb-1", "/_users", "PUT")
    name = "org.couchdb.user:ann"
    user = {"name": "ann", "password": "x", "roles": [], "type": "user"}
    ask(box, "couchdb-1", f"/_users/{name}", "PUT", user)
    ended = couchdiscover("-o", "json", environment=box.environment())
    assert ended.code == 6, ended.err
    assert len(ask(box, "couchdb-1", "/_membership")["cluster_nodes"]) == 1


def test_another_cookie_never_connects_and_is_never_finished(
    any_sandbox: Make, couchdiscover: Command
) -> None:
    box = any_sandbox(2, pod_options={"couchdb-1": {"cookie": "another"}})
    ended = couchdiscover("--timeout", "6s", "-o", "json", environment=box.environment())
    assert ended.code == 4, ended.err
    assert "couchdb-1" in ended.json["message"]
    assert ask(box, "couchdb-0", "/_cluster_setup")["state"] == "cluster_enabled"


def test_a_wrong_password_is_denied_and_locks_nobody_out(
    any_sandbox: Make, couchdiscover: Command
) -> None:
    box = any_sandbox(1)
    wrong = {"COUCHDB_USER": box.deployment.user, "COUCHDB_PASSWORD": "not it"}
    assert couchdiscover(environment=box.environment() | wrong).code == 5
    assemble(couchdiscover, box)
