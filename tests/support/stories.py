"""The stories of ``run`` and ``check`` in this process: nodes without sockets, a made-up topology.

Time passes by being slept through, and with it the nodes' own.
"""

from collections.abc import Callable
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import pytest

from couchdiscover import look
from couchdiscover.couch import write_test
from couchdiscover.net.deadline import Deadline
from couchdiscover.output.report import Record
from couchdiscover.state.settings import Settings
from couchdiscover.state.topology import Credentials, Scope
from tests.support.fleet import PASSWORD, NearFleet, near

Story = Callable[..., str]


class Slept(Deadline):
    """A deadline that passes by being slept through; ``meanwhile`` is called at each pause."""

    def __init__(self, seconds: float, meanwhile: Callable[[float], None]) -> None:
        super().__init__(seconds)
        self.spent = 0.0
        self.meanwhile = meanwhile

    @property
    def left(self) -> float:
        """Seconds that have not been slept through."""
        return self.seconds - self.spent

    def sleep(self, seconds: float) -> None:
        """Passes the time."""
        self.spent += max(seconds, 0.05)
        self.meanwhile(max(seconds, 0.05))

    def rest(self, seconds: float) -> None:
        """The same, within a look."""
        self.sleep(seconds)

    def restart(self) -> None:
        """Begins anew."""
        self.spent = 0.0


class Place:
    """A StatefulSet of simulated nodes: its topology may be changed, and anything done to a node.

    ``at`` is what is done when the time comes: seconds slept, and what happens then.
    """

    def __init__(self, monkeypatch: pytest.MonkeyPatch, count: int = 3, **options: Any) -> None:
        self.topology, self.fleet = near(count, **options)
        self.scope = Scope.SET
        self.at: list[tuple[float, Callable[[], object]]] = []
        self.record = Record("run")
        self.slept = 0.0
        monkeypatch.setattr(look, "Kube", lambda *_, **__: None)
        monkeypatch.setattr(look, "find_target", lambda *_: self._target())
        monkeypatch.setattr(look, "Discovery", lambda *_: self._discovery())
        for module in (look, write_test):
            monkeypatch.setattr(module, "Fleet", self._connected)

    def _discovery(self) -> Any:
        return SimpleNamespace(
            target=self._target(),
            topology=lambda: self.topology,
            credentials=lambda *, anew=False: Credentials("admin", PASSWORD, "the test"),
            sets_secret=lambda: True,
            has_older_pods=lambda: False,
            kube=None,
        )

    def _target(self) -> Any:
        own = SimpleNamespace(pod=self.topology.own) if self.topology.own else None
        return SimpleNamespace(namespace="db", statefulset="couchdb", scope=self.scope, own=own)

    def _connected(self, _access: object, deadline: Deadline) -> NearFleet:
        self.fleet.deadline = deadline
        return self.fleet

    # --- what happens ---

    def in_pod(self, pod: str) -> None:
        """The command runs in this pod from now on."""
        self.scope = Scope.POD
        self.topology = replace(self.topology, own=pod)

    def play(self, story: Story, seconds: float = 30.0, **settings: Any) -> str:
        """Plays a story to its end; raises what it raises. ``record`` has what it told."""
        self.record = Record("run")
        deadline = Slept(seconds, self._pass)
        return story(Settings(timeout=seconds, **settings), deadline, self.record)

    def _pass(self, seconds: float) -> None:
        self.slept += seconds
        for moment, happen in list(self.at):
            if self.slept >= moment:
                self.at.remove((moment, happen))
                happen()
        network: Any = next(iter(self.fleet.nodes.values())).network
        network.wait(seconds)

    @property
    def steps(self) -> list[str]:
        """The steps that were told, in short."""
        return [f"{step.kind} {step.pod}" for step in self.record.steps]
