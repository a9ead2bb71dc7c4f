"""The same against real CouchDB nodes, where COUCHDB_HOME names a release: fewer draws."""

import os
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from couchdiscover.sandbox import Sandbox
from tests.proof.harness import DRAWS, Nursery, ask, dice

HOME = os.environ.get("COUCHDB_HOME")
PASSWORD = "marked-password-of-the-proof"

pytestmark = pytest.mark.skipif(not HOME, reason="COUCHDB_HOME names no CouchDB release")


@pytest.fixture
def real() -> Iterator[Callable[[int], Sandbox]]:
    """Makes sandboxes of real nodes, and takes them down at the end."""
    made: list[Sandbox] = []

    def make(nodes: int) -> Sandbox:
        box = Sandbox(nodes, real=Path(HOME or ""), password=PASSWORD)
        made.append(box.__enter__())
        return box

    yield make
    for box in made:
        box.__exit__(None, None, None)


def whole(box: Sandbox) -> None:
    """One finished cluster with one identity, asked node by node."""
    expected = sorted(box.nodes[pod].name for pod in box.pods)
    identities = set()
    for pod in box.pods:
        membership = ask(box, pod, "/_membership").json()
        assert sorted(membership["all_nodes"]) == expected, (pod, membership)
        assert sorted(membership["cluster_nodes"]) == expected, (pod, membership)
        assert ask(box, pod, "/_cluster_setup").json()["state"] == "cluster_finished"
        config = ask(box, pod, "/_node/_local/_config").json()
        identities.add(
            (
                config["admins"][box.deployment.user],
                config["couchdb"]["uuid"],
                config["chttpd_auth"]["secret"],
            )
        )
    assert len(identities) == 1, identities


def run(nursery: Nursery, box: Sandbox, pod: str | None = None) -> list[str]:
    """A run to its end, which must be a good one; the steps it took."""
    ended = nursery(environment=box.environment(pod))
    assert ended.code == 0, ended.err
    assert PASSWORD not in ended.out + ended.err
    return ended.steps


def kill_some(nursery: Nursery, box: Sandbox, *of: object, times: int) -> None:
    """Runs that are killed at some moment within the first second or so."""
    draws = dice(*of)
    for _ in range(times):
        pod = draws.choice([None, None, *box.pods])
        running = nursery.start(environment=box.environment(pod))
        running.over.wait(draws.uniform(0.05, 1.2))
        running.kill()
        assert running.wait().code in (0, -9)


@pytest.mark.parametrize("draw", range(2 * DRAWS))
def test_killed_again_and_again(
    real: Callable[[int], Sandbox], nursery: Nursery, draw: int
) -> None:
    box = real(3)
    kill_some(nursery, box, "fresh", draw, times=4)
    run(nursery, box)
    whole(box)
    assert run(nursery, box) == []
    assert ask(box, "couchdb-0", "/orders", "PUT").status_code in (201, 202)
    assert ask(box, "couchdb-0", "/orders/1", "PUT", {"amount": 1}).status_code in (201, 202)

    pod = dice("lost", draw).choice(box.pods)
    box.wipe(pod)
    kill_some(nursery, box, "lost volume", draw, times=3)
    run(nursery, box)
    whole(box)
    for each in box.pods:
        assert ask(box, each, "/orders/1").json()["amount"] == 1


@pytest.mark.parametrize("draw", range(2 * DRAWS))
def test_many_at_once(real: Callable[[int], Sandbox], nursery: Nursery, draw: int) -> None:
    draws = dice("real races", draw)
    box = real(3)
    failures: list[str] = []

    def live(pod: str | None, delay: float, killed_after: float | None) -> None:
        time.sleep(delay)
        if killed_after is not None:
            running = nursery.start(environment=box.environment(pod))
            running.over.wait(killed_after)
            running.kill()
            running.wait()
        ended = nursery(environment=box.environment(pod))
        if ended.code != 0:
            failures.append(f"{pod}: {ended.err}")

    threads = [
        threading.Thread(
            target=live,
            args=(pod, draws.uniform(0, 1), draws.choice([None, None, draws.uniform(0, 1)])),
        )
        for pod in [None, None, *box.pods]
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []
    whole(box)
    assert run(nursery, box) == []
