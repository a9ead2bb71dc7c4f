"""The lives that a StatefulSet may have: a machine of states for hypothesis."""

from collections.abc import Callable
from typing import Any, ClassVar

import hypothesis.strategies as st
from hypothesis import HealthCheck, settings
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from couchdiscover.sandbox import Sandbox
from couchdiscover.sandbox.box import Proceed
from couchdiscover.sandbox.http import Request
from couchdiscover.sandbox.real import RealNode
from tests.proof.harness import DRAWS, Guard, age, ask, facts, secrets_of, silent, whole
from tests.support.processes import Ended, Nursery

Make = Callable[..., Sandbox]

LARGEST = 4


class Life(RuleBasedStateMachine):
    """A StatefulSet of up to four pods, its user, and couchdiscover.

    At most one volume is lost between two successful runs for the whole set: CouchDB itself keeps
    no more promises.
    """

    make: ClassVar[Make]
    nursery: ClassVar[Nursery]
    options: ClassVar[dict[str, Any]] = {}
    patience = 40.0
    """Seconds within which all is well once everything is up again."""

    @initialize(nodes=st.integers(1, 3), secret=st.booleans(), running=st.booleans())
    def begin(self, nodes: int, secret: bool, running: bool) -> None:
        box = self.make(nodes, secret=secret, running=running, **self.options)
        self.box = box.__enter__()
        self.guard = Guard(self.box)
        self.documents: dict[str, str] = {}
        """What must be readable, and the database that it is in."""
        self.lone: dict[str, str] = {}
        """Databases made while there was one member, which alone has copies of them."""
        self.members: set[str] = set()
        """The pods that are known to be in the cluster."""
        self.formed = False
        self.hurt = False
        self.apart: set[tuple[str, ...]] = set()
        """What keeps nodes from one another, and can be taken away."""

    def teardown(self) -> None:
        if not hasattr(self, "box"):
            return
        try:
            self.recover()
        finally:
            self.box.__exit__(None, None, None)

    # --- what happens to the set ---

    def up(self) -> list[str]:
        return [pod for pod in self.box.pods if self.box.nodes[pod].running]

    @rule(at=st.integers(0, LARGEST - 1))
    def start_pod(self, at: int) -> None:
        self.box.start(self.box.pods[at % len(self.box.pods)])

    @rule(at=st.integers(0, LARGEST - 1), kill=st.booleans())
    def stop_pod(self, at: int, kill: bool) -> None:
        self.box.stop(self.box.pods[at % len(self.box.pods)], kill=kill)

    @rule(at=st.integers(0, LARGEST - 1))
    def lose_configuration(self, at: int) -> None:
        self.box.restart(self.box.pods[at % len(self.box.pods)])

    @precondition(lambda self: not self.formed or (not self.hurt and len(self.box.pods) > 1))
    @rule(at=st.integers(0, LARGEST - 1), moved=st.booleans())
    def lose_volume(self, at: int, moved: bool) -> None:
        pod = self.box.pods[at % len(self.box.pods)]
        self.hurt = True
        lost = {name for name, holder in self.lone.items() if holder == pod}
        self.documents = {path: name for path, name in self.documents.items() if name not in lost}
        self.members.discard(pod)
        if not self.members:  # it may have been all there was: another cluster may be formed
            self.formed = False
            self.documents.clear()
            self.guard.finished.clear()
        self.box.replace(pod, data=False) if moved else self.box.wipe(pod)

    @precondition(lambda self: len(self.box.pods) < LARGEST)
    @rule()
    def scale_up(self) -> None:
        self.guard.grow(len(self.box.pods) + 1)

    @precondition(lambda self: len(self.box.pods) > 2 and not self.hurt)
    @rule()
    def scale_down(self) -> None:
        self.hurt = True
        self.box.scale(len(self.box.pods) - 1)
        self.members &= set(self.box.pods)

    @precondition(lambda self: self.formed)
    @rule(number=st.integers(0, 5))
    def write(self, number: int) -> None:
        """A user's document, where the cluster takes it."""
        if self.hurt or self.apart or len(self.up()) < len(self.box.pods):
            return  # a database that is made now may be placed on nodes that are gone
        pod = next((p for p in self.box.pods if ask(self.box, p, "/_users").ok), None)
        if pod is None:
            return
        if number % 3 == 2:
            self._write_user(pod, f"user-{number}")
            return
        name, document = f"orders{number % 2}", f"order-{number}"
        if ask(self.box, pod, f"/{name}", "PUT").ok and len(facts(self.box, pod).members) == 1:
            self.lone[name] = pod
        answer = ask(self.box, pod, f"/{name}/{document}", "PUT", {"number": number})
        if answer.status_code == 201:
            self.documents[f"/{name}/{document}"] = name

    def _write_user(self, pod: str, name: str) -> None:
        """A document in a system database: as much a loss as any other."""
        body = {"name": name, "type": "user", "roles": [], "password": "x"}
        path = f"/_users/org.couchdb.user:{name}"
        shards = ask(self.box, pod, "/_users/_shards").json()["shards"]
        names = {member: name for name, member in self._erlang_names().items()}
        for holders in shards.values():
            if len(holders) == 1 and holders[0] in names:
                self.lone["_users"] = names[holders[0]]
        if ask(self.box, pod, path, "PUT", body).status_code == 201:
            self.documents[path] = "_users"

    def _erlang_names(self) -> dict[str, str]:
        return {pod: node.name for pod, node in self.box.nodes.items()}

    # --- couchdiscover ---

    @rule(own=st.none() | st.integers(0, LARGEST - 1))
    def run(self, own: int | None) -> None:
        self._run(own)

    def _run(self, own: int | None, seconds: float = 1.0) -> Ended:
        pod = None if own is None else self.box.pods[own % len(self.box.pods)]
        limits = ("--timeout", f"{seconds}s", "--request-timeout", "1s")
        ended = self.nursery(*limits, environment=self.box.environment(pod))
        silent(ended, secrets_of(self.box))
        assert ended.code in (0, 3, 4), ended.err
        if pod is None and ended.code == 0:
            whole(self.box)
            self.formed, self.hurt = True, False
            self.members = set(self.box.pods)
            age(self.box, self.box.pods)
            self._read()
        if ended.code == 0 and self.guard.finished:
            self.formed = True
            self.members |= set() if pod is None else {pod}
        return ended

    @rule(own=st.none() | st.integers(0, LARGEST - 1), at=st.integers(1, 30), after=st.booleans())
    def run_killed(self, own: int | None, at: int, after: bool) -> None:
        pod = None if own is None else self.box.pods[own % len(self.box.pods)]

        async def kill(number: int, _: str, request: Request, proceed: Proceed) -> Any:
            if number == at and not after:
                running.kill()
            answer = await proceed()
            if number == at and after:
                running.kill()
            return answer

        self.guard.count, self.guard.hook = 0, kill
        running = self.nursery.start("--timeout", "1s", environment=self.box.environment(pod))
        ended = running.wait()
        self.guard.hook = None
        silent(ended, secrets_of(self.box))
        assert ended.code in (0, 3, 4, -9), ended.err
        self.formed |= bool(self.guard.finished)

    @rule(own=st.none() | st.integers(0, LARGEST - 1))
    def run_with_a_wrong_password(self, own: int | None) -> None:
        pod = None if own is None else self.box.pods[own % len(self.box.pods)]
        before = len(self.box.requests())
        wrong = {"COUCHDB_USER": self.box.deployment.user, "COUCHDB_PASSWORD": "mistaken-word"}
        ended = self.nursery("--timeout", "3.5s", environment=self.box.environment(pod) | wrong)
        silent(ended, secrets_of(self.box, "mistaken-word"))
        assert ended.code in (4, 5), ended.err
        assert ended.code == 5 or len(self.up()) < len(self.box.pods), ended.err
        for name in self.box.pods:
            asked = [r for r in self.box.requests()[before:] if r.pod == name]
            assert len([r for r in asked if r.status == 401]) <= 3, name
        self.forgive()

    # --- what always holds ---

    @invariant()
    def nothing_was_harmed(self) -> None:
        if hasattr(self, "guard"):
            assert self.guard.harms == []
            assert len(self.guard.finished) <= 1, self.guard.finished

    def bring_together(self) -> None:
        """Takes away what keeps nodes apart."""
        raise NotImplementedError

    def forgive(self) -> None:
        """What five minutes do to wrong logins."""
        raise NotImplementedError

    def _read(self) -> None:
        for path in self.documents:
            for pod in self.box.pods:
                answer = ask(self.box, pod, path)
                assert answer.status_code == 200, (path, pod, answer.text)

    def recover(self) -> None:
        """In the end all pods are up and see each other; one run, and all is well."""
        self.bring_together()
        for pod in self.box.pods:
            self.box.start(pod)
        names = {node.name for node in self.box.nodes.values()}
        while any(facts(self.box, p).members - names for p in self.box.pods):
            self.box.scale(len(self.box.pods) + 1)  # those left by a scale-down come back
            names = {node.name for node in self.box.nodes.values()}
        ended = self._run(None, self.patience)
        assert ended.code == 0, ended.err
        assert self.guard.harms == []


class SimulatedLife(Life):
    """The same, and the way between any two nodes may be cut."""

    @precondition(lambda self: len(self.box.pods) > 1)
    @rule(a=st.integers(0, LARGEST - 1), b=st.integers(0, LARGEST - 1))
    def cut(self, a: int, b: int) -> None:
        one, other = (self.box.node(self.box.pods[n % len(self.box.pods)]).name for n in (a, b))
        if one != other:
            self.box.network.cut(one, other)
            self.apart.add((one, other))

    @rule(lossy=st.booleans())
    def lose_news(self, lossy: bool) -> None:
        self.box.network.loss = 0.5 if lossy else 0.0

    @precondition(lambda self: self.apart)
    @rule()
    def bring_together(self) -> None:
        for one, other in self.apart:
            if {one, other} <= self.box.network.nodes.keys():
                self.box.network.heal(one, other)
        self.apart.clear()

    def forgive(self) -> None:
        for name in self.box.pods:
            self.box.node(name).accounts.boot()


class RealLife(Life):
    """The same of real nodes: instead of a way that is cut, a process that stands still."""

    options: ClassVar[dict[str, Any]] = {"node_options": {"lockout": False}}
    patience = 80.0

    def process(self, pod: str) -> RealNode:
        node = self.box.nodes[pod]
        assert isinstance(node, RealNode)
        return node

    @rule(at=st.integers(0, LARGEST - 1))
    def freeze(self, at: int) -> None:
        pod = self.box.pods[at % len(self.box.pods)]
        self.process(pod).freeze()
        self.apart.add((pod,))

    @precondition(lambda self: self.apart)
    @rule()
    def bring_together(self) -> None:
        for (pod,) in self.apart:
            if pod in self.box.nodes:
                self.process(pod).thaw()
        self.apart.clear()

    def forgive(self) -> None:
        """Their lockout is off: nobody waits for five minutes here."""


def live(kind: type[Life], make: Make, nursery: Nursery, lives: int) -> None:
    """So many of them, whatever hypothesis thinks of."""

    class Born(kind):  # type: ignore[misc, valid-type]
        pass

    Born.make, Born.nursery = staticmethod(make), nursery
    run_state_machine_as_test(
        Born,
        settings=settings(
            max_examples=lives,
            stateful_step_count=14,
            deadline=None,
            derandomize=DRAWS == 1,
            database=None,
            print_blob=True,
            suppress_health_check=list(HealthCheck),
        ),
    )
