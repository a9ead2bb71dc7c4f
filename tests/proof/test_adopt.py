"""``adopt`` killed at any write: the next run completes it."""

import threading
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from couchdiscover.couch.client import CouchFailure, CouchNode
from tests.support.adopting import Make, caller, in_process, original, readable
from tests.support.command import Command
from tests.support.volumes import create, up_for


class Killed(BaseException):
    """The process is gone, at this very request."""


@pytest.fixture
def crash(monkeypatch: pytest.MonkeyPatch) -> Iterator[dict[str, Any]]:
    """Counts writes, and ends the run right before or after one of them."""
    state: dict[str, Any] = {"at": None, "after": False, "seen": 0, "dead": False}
    original_request = CouchNode._request
    counting = threading.Lock()

    def request(self: CouchNode, method: str, path: str, body: Any, **options: Any) -> Any:
        if state["dead"]:
            raise Killed
        if method == "GET":
            return original_request(self, method, path, body, **options)
        with counting:  # nodes are asked by a thread each
            state["seen"] += 1
            number = state["seen"]
        if state["at"] != number:
            return original_request(self, method, path, body, **options)
        if state["after"]:
            with suppress(CouchFailure):  # a 409 is an answer, too
                original_request(self, method, path, body, **options)
        state["dead"] = True
        raise Killed

    monkeypatch.setattr(CouchNode, "_request", request)
    yield state
    state.update(at=None, dead=False)


@pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
def test_killed_at_any_write(
    sandbox: Make,
    couchdiscover: Command,
    tmp_path: Path,
    crash: dict[str, Any],
    after: bool,
) -> None:
    """The next run completes it; a lone volume, whose evidence is the weakest, among others."""
    made = original(sandbox, couchdiscover, tmp_path, databases={"db": 2, "one": 1}, pace=0.02)
    point = 0
    while True:
        point += 1
        box = made.restored(sandbox, [1, 2, 0], pace=0.02)
        crash.update(at=point, after=after, seen=0, dead=False)
        try:
            in_process(box)
        except Killed:
            pass
        else:
            break
        crash.update(at=None, dead=False)
        if point % 3 == 0:  # and all nodes are started anew meanwhile
            for pod in box.pods:
                box.restart(pod)
            up_for(box)
        in_process(box)
        readable(box, made.databases)
        assert in_process(box) == "there is nothing to adopt"
        box.close()
    assert point > 15


@pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
def test_a_lone_volume_killed_at_any_write(
    sandbox: Make,
    couchdiscover: Command,
    tmp_path: Path,
    crash: dict[str, Any],
    after: bool,
) -> None:
    """What tells whose it was is gone with the join: it was written down before."""
    made = original(sandbox, couchdiscover, tmp_path, 1, {"db": 1}, statefulset="old", pace=0.02)
    point = 0
    while True:
        point += 1
        box = made.restored(sandbox, [None, 0], pace=0.02)
        crash.update(at=point, after=after, seen=0, dead=False)
        try:
            in_process(box)
        except Killed:
            pass
        else:
            break
        crash.update(at=None, dead=False)
        in_process(box)
        readable(box, made.databases)
        assert in_process(box) == "there is nothing to adopt"
        box.close()
    assert point > 8


def test_all_pods_gone_half_way_and_brought_in_order(
    sandbox: Make,
    couchdiscover: Command,
    tmp_path: Path,
    crash: dict[str, Any],
) -> None:
    """Under OrderedReady each pod starts, without a write, so that the next one does.

    The adoption was killed, and then all pods were gone. Until all are there again nobody can
    complete it, and a pod that does not become Ready would keep the others away for ever.
    """
    made = original(sandbox, couchdiscover, tmp_path, databases={"db": 2, "one": 1}, pace=0.02)
    point, half_way = 0, 0
    while True:
        point += 2
        box = made.restored(sandbox, [1, 2, 0], pace=0.02)
        crash.update(at=point, after=True, seen=0, dead=False)
        try:
            in_process(box)
        except Killed:
            pass
        else:
            break
        crash.update(at=None, dead=False)
        pods = box.pods
        volumes = {pod: box.volume(pod) for pod in pods}
        for pod in reversed(pods):
            box.delete(pod)
        writes = len(box.writes())
        for pod in pods:
            create(box, pod, volumes[pod])
            up_for(box, pods=[pod])
            ended = couchdiscover("run", "--timeout=20s", environment=box.environment(pod))
            assert ended.code == 0, (point, pod, ended.err)
        wrote = [(each.pod, each.method, each.path) for each in box.writes()[writes:]]
        maps = [each for pod in pods for each in caller(box).maps(pod).values()]
        if any(".prod." in name for each in maps for name in each["by_node"]):
            assert wrote == [], point
            half_way += 1
        in_process(box)
        readable(box, made.databases)
        assert in_process(box) == "there is nothing to adopt"
        box.close()
    assert half_way > 3
