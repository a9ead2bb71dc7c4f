"""Runs whose answers go wrong, one, several or all of them."""

from collections.abc import Callable, Collection
from typing import Any

from couchdiscover.sandbox import Sandbox
from couchdiscover.sandbox.box import API, Proceed
from couchdiscover.sandbox.http import Request
from tests.proof.faults import FAULTS
from tests.proof.harness import TOKEN, Guard, dice, secrets_of, silent, whole
from tests.support.processes import Ended, Nursery

Make = Callable[..., Sandbox]

FIRST = ("/_node/_local", "/_cluster_setup", "/_membership")
"""What every node is asked first, in every look."""

SLACK = 3.0
"""Seconds beyond the deadline within which a run must be over on a busy machine."""


def run(nursery: Nursery, box: Sandbox, seconds: float, pod: str | None = None) -> Ended:
    """A run with short requests; it must respect its deadline and keep its secrets."""
    limits = ("--timeout", f"{seconds}s", "--request-timeout", "0.5s")
    ended = nursery(*limits, environment=box.environment(pod))
    silent(ended, secrets_of(box))
    assert ended.json["elapsed_seconds"] < seconds + SLACK
    assert ended.json["exit_code"] == ended.code
    return ended


def recovers(nursery: Nursery, box: Sandbox, guard: Guard, pods: Collection[str | None]) -> None:
    """With the servers well again, another run ends well, and nothing was harmed in between."""
    guard.hook = None
    for pod in pods:
        ended = nursery(environment=box.environment(pod))
        assert ended.code == 0, ended.err
    whole(box)
    assert guard.harms == []


def requests_of(make: Make, nursery: Nursery, nodes: int) -> int:
    with make(nodes, token=TOKEN) as box:
        guard = Guard(box)
        assert run(nursery, box, 20).code == 0
        return guard.count


def one_wrong(make: Make, nursery: Nursery, name: str, at: int) -> None:
    """One request gets a wrong answer: the run puts up with it, and so does the next."""
    with make(3, token=TOKEN, secret=at % 2 == 0) as box:
        hit: list[tuple[str, str, str]] = []

        async def spoil(number: int, pod: str, request: Request, proceed: Proceed) -> Any:
            if number != at:
                return await proceed()
            hit.append((pod, request.method, request.path))
            return await FAULTS[name](pod, request, proceed)

        guard = Guard(box, spoil)
        ended = run(nursery, box, 20)
        denied = name == "403" and bool(hit) and hit[0][0] != API and hit[0][1] == "GET"
        # What is asked beside the first questions may be asked again, or stay unknown.
        aside = denied and hit[0][2] not in FIRST
        codes = {0, 5} if aside else {5} if denied else {0}
        if hit and hit[0][0] != API and hit[0][1] != "GET" and "answered as done" in ended.err:
            codes = {4}  # a write that was answered and not carried out is not taken again
        assert ended.code in codes, (hit, ended.err[-2000:])
        if ended.code == 0:
            whole(box)
        recovers(nursery, box, guard, [None])


def stays_wrong(make: Make, nursery: Nursery, where: str, name: str, draw: int) -> None:
    """The run fails in time with the right code, and once all is well the next one succeeds."""
    draws = dice("stays", where, name, draw)
    begin = draws.choice([1, 3, draws.randint(1, 20)])
    with make(3, token=TOKEN) as box:

        async def spoil(number: int, pod: str, request: Request, proceed: Proceed) -> Any:
            chosen = where in (pod, "all") or (where == "writes" and request.method != "GET")
            if number < begin or not chosen:
                return await proceed()
            return await FAULTS[name](pod, request, proceed)

        guard = Guard(box, spoil)
        pod = draws.choice([None, None, "couchdb-1", "couchdb-2"])
        ended = run(nursery, box, 1.5, pod)
        allowed = {0, 4, 5} if name in ("401", "403") else {0, 4}
        assert ended.code in allowed, (where, begin, pod, ended.err[-2000:])
        if where == "all" and begin == 1 and name != "mistyped":
            assert ended.code != 0
        recovers(nursery, box, guard, box.pods if pod else [None])


def some_wrong(make: Make, nursery: Nursery, draw: int) -> None:
    """A few of the answers, or many, each in another way."""
    draws = dice("random", draw)
    often = draws.choice([0.05, 0.15, 0.4])
    names = [name for name in FAULTS if name != "403"]
    with make(draws.choice([1, 2, 3, 5]), token=TOKEN, secret=draws.random() < 0.5) as box:
        if draws.random() < 0.4:
            assert nursery(environment=box.environment()).code == 0
            if draws.random() < 0.5:
                box.scale(len(box.pods) + 1)
            else:
                box.replace(draws.choice(box.pods), data=draws.random() < 0.5)

        async def spoil(number: int, pod: str, request: Request, proceed: Proceed) -> Any:
            if draws.random() >= often:
                return await proceed()
            return await FAULTS[draws.choice(names)](pod, request, proceed)

        guard = Guard(box, spoil)
        pod = draws.choice([None, *box.pods])
        ended = run(nursery, box, 4, pod)
        assert ended.code in (0, 4, 5), ended.err
        recovers(nursery, box, guard, [*box.pods, None])
