"""Runs at once, in any scope, some of them killed, while the set changes."""

import random
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field

from couchdiscover.sandbox import Sandbox
from tests.proof.harness import DRAWS, Guard, ask, dice, facts, secrets_of, silent, spread, whole
from tests.support.processes import Ended, Nursery

Make = Callable[..., Sandbox]


@dataclass
class Racers:
    """Processes that run at once; one that is killed is started again, as Kubernetes does."""

    box: Sandbox
    nursery: Nursery
    draws: random.Random
    arguments: tuple[str, ...] = ("--timeout", "60s")
    _threads: list[threading.Thread] = field(default_factory=list)
    ended: list[tuple[str, Ended]] = field(default_factory=list)
    failures: list[BaseException] = field(default_factory=list)

    def add(self, pod: str | None, *, delay: float, kills: int = 0) -> None:
        """One more of them, in a pod or for the whole set."""
        patience = [self.draws.uniform(0.0, 0.5) for _ in range(kills)]

        def live() -> None:
            time.sleep(delay)
            for at in patience:
                running = self.nursery.start(*self.arguments, environment=self.box.environment(pod))
                running.over.wait(at)
                running.kill()
                running.wait()
            running = self.nursery.start(*self.arguments, environment=self.box.environment(pod))
            self.ended.append((pod or "set", running.wait(120)))

        def guarded() -> None:
            try:
                live()
            except BaseException as error:  # noqa: BLE001 - raised by the one who waits
                self.failures.append(error)

        thread = threading.Thread(target=guarded)
        self._threads.append(thread)
        thread.start()

    def succeed(self) -> None:
        """Waits for them; each must have succeeded, and kept its secrets."""
        self.end(lambda _who: {0})

    def end(self, codes: Callable[[str], set[int]]) -> None:
        """Waits for them; each must have ended with one of its codes, and kept its secrets."""
        for thread in self._threads:
            thread.join()
        for failure in self.failures:
            raise failure
        secrets = secrets_of(self.box)
        for who, ended in self.ended:
            assert ended.code in codes(who), (who, ended.code, ended.err[-3000:])
            silent(ended, secrets)


def settle(box: Sandbox, guard: Guard, nursery: Nursery) -> None:
    """One cluster, finished once and through one node, with nothing left to do."""
    assert guard.harms == []
    assert len(set(guard.finished)) == 1, guard.finished
    whole(box)
    ended = nursery(environment=box.environment())
    assert (ended.code, ended.steps) == (0, []), ended.err


def many_at_once(make: Make, nursery: Nursery, draw: int) -> None:
    draws = dice("many", draw)
    nodes = draws.randint(2, 4)
    pace = draws.choice([0.0, 0.1, 1.0])
    secret = draws.random() < 0.5
    late = draws.random() < 0.5
    with make(nodes, pace=pace, secret=secret, running=not late) as box:
        guard = Guard(box)
        racers = Racers(box, nursery, draws)
        whom: list[str | None] = draws.choice([[], list(box.pods), [None]])
        whom = whom or [None, *box.pods]
        while len(whom) < 2 or (len(whom) < 10 and draws.random() < 0.6):
            whom.append(draws.choice([None, *box.pods]))
        for pod in whom:
            racers.add(pod, delay=draws.uniform(0, 0.6), kills=draws.choice([0, 0, 0, 1, 2]))
        if late:
            for pod in draws.sample(box.pods, nodes):
                time.sleep(draws.uniform(0, 0.3))
                box.start(pod)
        racers.succeed()
        settle(box, guard, nursery)
        spread(box)


def growing(make: Make, nursery: Nursery, draw: int) -> None:
    draws = dice("grows", draw)
    nodes = draws.randint(1, 3)
    with make(nodes, pace=draws.choice([0.0, 0.1, 1.0])) as box:
        guard = Guard(box)
        racers = Racers(box, nursery, draws)
        for _ in range(draws.randint(1, 3)):
            racers.add(None, delay=draws.uniform(0, 0.6), kills=draws.choice([0, 1]))
        for pod in box.pods:
            racers.add(pod, delay=draws.uniform(0, 0.6), kills=draws.choice([0, 1]))
        time.sleep(draws.uniform(0, 1))
        guard.grow(nodes + draws.randint(1, 2))
        for pod in box.pods[nodes:]:
            racers.add(pod, delay=draws.uniform(0, 0.6), kills=draws.choice([0, 1]))
        racers.succeed()
        ended = nursery(environment=box.environment())
        assert ended.code == 0, ended.err
        settle(box, guard, nursery)


def replaced_meanwhile(make: Make, nursery: Nursery, draw: int) -> None:
    draws = dice("replaced", draw)
    nodes = draws.randint(2, 4)
    with make(nodes, pace=draws.choice([0.0, 0.1])) as box:
        guard = Guard(box)
        assert nursery(environment=box.environment()).code == 0
        finished = list(guard.finished)
        racers = Racers(box, nursery, draws)
        for _ in range(draws.randint(0, 3)):
            racers.add(None, delay=draws.uniform(0, 1.0), kills=draws.choice([0, 1]))
        for pod in draws.sample(box.pods, draws.randint(1, nodes - 1)):
            time.sleep(draws.uniform(0, 0.3))
            box.replace(pod, data=draws.random() < 0.5)
            racers.add(pod, delay=draws.uniform(0, 0.3), kills=draws.choice([0, 1]))
        racers.succeed()
        ended = nursery(environment=box.environment())
        assert ended.code == 0, ended.err
        assert guard.finished == finished, "finished again"
        settle(box, guard, nursery)


def replaced_while_formed(make: Make, nursery: Nursery, draw: int) -> None:
    draws = dice("unfinished", draw)
    nodes = draws.randint(2, 4)
    # At CouchDB's own pace idle members connect again half a minute later only.
    with make(nodes, pace=draws.choice([0.05, 0.1] if DRAWS == 1 else [0.1, 1.0])) as box:
        guard = Guard(box)
        racers = Racers(box, nursery, draws)
        for pod in box.pods:
            racers.add(pod, delay=draws.uniform(0, 0.4), kills=draws.choice([0, 1]))
        racers.add(None, delay=draws.uniform(0, 0.4))
        time.sleep(draws.uniform(0, 0.8))
        replaced = draws.choice(box.pods)
        box.replace(replaced, data=False)
        racers.add(replaced, delay=draws.uniform(0, 0.3))
        racers.succeed()
        ended = nursery(environment=box.environment())
        assert ended.code == 0, ended.err
        settle(box, guard, nursery)


def repairs(make: Make, nursery: Nursery, draw: int) -> None:
    draws = dice("repairs", draw)
    nodes = draws.randint(2, 4)
    with make(nodes, secret=draws.random() < 0.5, pace=0.1) as box:
        assert nursery(environment=box.environment()).code == 0
        guard = Guard(box)
        before = facts(box, box.pods[0]).identity
        racers = Racers(box, nursery, draws)
        restarted = draws.sample(box.pods, draws.randint(1, nodes))
        for pod in restarted:
            box.nodes[pod].restart_as_official_image()
            racers.add(pod, delay=draws.uniform(0, 0.5), kills=draws.choice([0, 1]))
        for _ in range(draws.randint(0, 2)):
            racers.add(None, delay=draws.uniform(0, 0.5), kills=draws.choice([0, 1]))
        racers.succeed()
        assert guard.harms == []
        ended = nursery(environment=box.environment())
        assert ended.code == 0, ended.err
        whole(box)
        if 2 * len(restarted) < nodes:
            assert facts(box, box.pods[0]).identity == before


def lossy(make: Make, nursery: Nursery, draw: int) -> None:
    draws = dice("lossy", draw)
    nodes = draws.randint(2, 5)
    with make(nodes) as box:
        guard = Guard(box)
        grows = draws.random() < 0.3
        if grows:
            assert nursery(environment=box.environment()).code == 0
            box.scale(nodes + 2)
        box.network.random, box.network.loss = dice("loss", draw), draws.choice([0.3, 0.6, 1.0])
        racers = Racers(box, nursery, draws)
        crowds: list[list[str | None]] = [[None], [*box.pods], [None, *box.pods]]
        for racer in draws.choice(crowds):
            racers.add(racer, delay=draws.uniform(0, 0.3), kills=draws.choice([0, 1]))
        racers.succeed()
        ended = nursery(environment=box.environment())
        assert ended.code == 0, ended.err
        settle(box, guard, nursery)


DEAD = "couchdb@couchdb-9.couchdb.default.svc.cluster.local"
"""A member that somebody has added, and nobody is."""


def sharing_a_dead_name(make: Make, nursery: Nursery, draw: int) -> None:
    """Nodes with documents of their own that list one dead name: nothing may join them."""
    draws = dice("dead", draw)
    nodes = draws.randint(2, 4)
    with make(nodes, pace=draws.choice([0.0, 0.1, 1.0])) as box:
        several = box.pods[: draws.randint(2, nodes)]
        for pod in several:
            path = f"/_node/_local/_nodes/{DEAD}"
            if finished := draws.random() < 0.5:
                ask(box, pod, "/_cluster_setup", "POST", {"action": "finish_cluster"})
            ask(box, pod, "/orders", "PUT")
            assert ask(box, pod, f"/orders/{pod}", "PUT", {"finished": finished}).ok
            assert ask(box, pod, path, "PUT", {}).ok
        before = {pod: facts(box, pod).members for pod in several}
        guard = Guard(box)
        racers = Racers(box, nursery, draws, ("--timeout", "2s"))
        for racer in [None, *draws.sample(box.pods, draws.randint(1, nodes))]:
            racers.add(racer, delay=draws.uniform(0, 0.6), kills=draws.choice([0, 1]))
        racers.end(lambda who: {6} if who == "set" else {0, 4, 6})
        assert guard.harms == []
        assert guard.finished == []
        for pod in several:
            assert ask(box, pod, f"/orders/{pod}").ok, f"what {pod} held is hidden"
            assert facts(box, pod).members == before[pod]
