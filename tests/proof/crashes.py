"""The crash points of a run, and what must hold after each."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from couchdiscover.sandbox import Sandbox
from couchdiscover.sandbox.box import Proceed
from couchdiscover.sandbox.http import Request, Response, Wire
from tests.proof.harness import (
    Guard,
    age,
    all_answered,
    dice,
    facts,
    secrets_of,
    silent,
    spread,
    whole,
)
from tests.support.processes import Nursery

Make = Callable[..., Sandbox]


@dataclass(frozen=True)
class Scenario:
    """A situation in which the command has something to do."""

    name: str
    nodes: int
    happens: Callable[[Sandbox], None] | None = None
    """After an assembled cluster; without it the nodes are fresh."""
    options: dict[str, Any] = field(default_factory=dict)
    pod: str | None = None
    """The pod it runs in; without one it is the whole set's."""

    def __str__(self) -> str:
        return self.name


def lose_volume(pod: str) -> Callable[[Sandbox], None]:
    return lambda box: box.replace(pod, data=False)


def restart(*pods: str) -> Callable[[Sandbox], None]:
    def happen(box: Sandbox) -> None:
        for pod in pods:
            box.nodes[pod].restart_as_official_image()

    return happen


LOOPBACK = {"node_options": {"bind_address": "127.0.0.1"}}

SCENARIOS = [
    Scenario("fresh 1", 1),
    Scenario("fresh 1, disabled", 1, options=LOOPBACK),
    Scenario("fresh 3", 3),
    Scenario("fresh 3, disabled", 3, options=LOOPBACK),
    Scenario("fresh 3, no secret", 3, options={"secret": False}),
    Scenario("fresh 5", 5),
    Scenario("1 to 3", 1, lambda box: box.scale(3)),
    Scenario("3 to 5", 3, lambda box: box.scale(5)),
    Scenario("3 to 5, no secret", 3, lambda box: box.scale(5), options={"secret": False}),
    Scenario("lost volume of the first", 3, lose_volume("couchdb-0")),
    Scenario("lost volume of the last", 3, lose_volume("couchdb-2")),
    Scenario("lost volume of one of two", 2, lose_volume("couchdb-0")),
    Scenario("drift of one", 3, restart("couchdb-1")),
    Scenario("drift of all", 3, restart("couchdb-0", "couchdb-1", "couchdb-2"), {"secret": False}),
    Scenario("fresh pod", 3, pod="couchdb-1"),
    Scenario("lost volume, its pod", 3, lose_volume("couchdb-1"), pod="couchdb-1"),
    Scenario("drift, its pod", 3, restart("couchdb-1"), pod="couchdb-1"),
]


def prepare(scenario: Scenario, box: Sandbox, nursery: Nursery) -> tuple[str | None, ...] | None:
    """Brings the situation about; returns the identity that must be kept, where one must."""
    if scenario.happens is None:
        return None
    ended = nursery(environment=box.environment())
    assert ended.code == 0, ended.err
    age(box, box.pods)
    kept = facts(box, box.pods[0]).identity
    scenario.happens(box)
    undecided = scenario.name == "drift of all" or (box.is_real and scenario.nodes == 2)
    return None if undecided else kept  # real nodes of the same age: either's is the cluster's own


def finish_all(scenario: Scenario, box: Sandbox, nursery: Nursery) -> list[str]:
    """Runs the command again, to the end that the scenario asks for; the steps it took."""
    pods: list[str | None] = [scenario.pod]
    if scenario.pod and scenario.happens is None:
        pods = list(box.pods)  # a fresh set in scope pod is whole when each pod has run
    steps = []
    for pod in pods:
        ended = nursery(environment=box.environment(pod))
        assert ended.code == 0, ended.err
        silent(ended, secrets_of(box))
        steps += ended.steps
    return steps


def check_end(box: Sandbox, kept: tuple[str | None, ...] | None, guard: Guard) -> None:
    whole(box)
    if kept is None:
        spread(box)
    else:
        assert {facts(box, pod).identity for pod in box.pods} == {kept}, (
            "the cluster's own was lost"
        )
    assert guard.harms == []


def needless(guard: Guard, pace: float) -> list[str]:
    """Writes that no state asked for; where news take time, they may come right before a write."""
    return [told for told in guard.idle if not (pace and told.endswith(": it is listed"))]


@dataclass(frozen=True)
class Point:
    """Where a run is killed: before or after its n-th request, or n-th write."""

    number: int
    after: bool
    writes: bool = False

    def counts(self, request: Request) -> bool:
        return not self.writes or request.method not in ("GET", "HEAD")


def crash_points(
    make: Make, nursery: Nursery, scenario: Scenario, pace: float = 0.0, *, writes: bool = False
) -> list[Point]:
    """Those of an undisturbed run, which must end as the others must."""
    with make(scenario.nodes, pace=pace, **scenario.options) as box:
        kept = prepare(scenario, box, nursery)
        count = 0

        async def look(number: int, pod: str, request: Request, proceed: Proceed) -> Any:
            nonlocal count
            count += Point(0, after=False, writes=writes).counts(request)
            return await proceed()

        guard = Guard(box, look)
        ended = nursery(environment=box.environment(scenario.pod))
        assert ended.code == 0, ended.err
        guard.hook = None
        finish_all(scenario, box, nursery)
        check_end(box, kept, guard)
        assert needless(guard, pace) == []
    return [Point(at, after, writes) for at in range(1, count + 1) for after in (False, True)]


def crash(
    make: Make, nursery: Nursery, scenario: Scenario, point: Point, pace: float = 0.0
) -> None:
    """One run that is killed at one request, then another that ends it."""
    with make(scenario.nodes, pace=pace, **scenario.options) as box:
        kept = prepare(scenario, box, nursery)
        count = 0

        async def kill(number: int, pod: str, request: Request, proceed: Proceed) -> Any:
            nonlocal count
            count += point.counts(request)
            if count != point.number or not point.counts(request):
                return await proceed()
            answer: Response | Wire = await proceed() if point.after else Wire(reset=True)
            running.kill()
            return answer

        guard = Guard(box, kill)
        running = nursery.start(environment=box.environment(scenario.pod))
        killed = running.wait()
        assert killed.code in (-9, 0), killed.err  # 0: this run had fewer requests
        silent(killed, secrets_of(box))
        all_answered(box)
        guard.hook = None
        guard.idle.clear()
        finish_all(scenario, box, nursery)
        check_end(box, kept, guard)
        assert needless(guard, pace) == [], "the second run wrote what the state did not need"


def crash_often(make: Make, nursery: Nursery, scenario: Scenario, draw: int) -> None:
    """Five runs that are killed, and one that is not."""
    draws = dice("again", scenario.name, draw)
    with make(scenario.nodes, **scenario.options) as box:
        kept = prepare(scenario, box, nursery)
        for _ in range(5):
            at = draws.randint(1, 30)

            async def kill(
                number: int, pod: str, request: Request, proceed: Proceed, at: int = at
            ) -> Any:
                answer = await proceed()
                if number == at:
                    running.kill()  # noqa: B023 - it is over before the next one is made
                return answer

            guard = Guard(box, kill)
            running = nursery.start(environment=box.environment(scenario.pod))
            assert running.wait().code in (-9, 0)
            assert guard.harms == []
        guard = Guard(box)
        finish_all(scenario, box, nursery)
        check_end(box, kept, guard)
        assert guard.idle == []
