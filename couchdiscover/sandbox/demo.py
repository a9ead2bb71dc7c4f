"""``couchdiscover demo``: situations on loopback, and the real command let loose on them."""

import base64
import json
import os
import subprocess
import threading
import time
import urllib.request
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from couchdiscover.sandbox import command
from couchdiscover.sandbox.box import Sandbox

USER = "admin"
PASSWORD = "of the sandbox"  # noqa: S105 - and of nothing else


Say = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class Scenario:
    """A situation and what is to come of it.

    ``prepare`` gets the sandbox ready; ``exit_code`` is what the command must then exit with;
    ``again`` has it run a second time, when there must be nothing left to do.
    """

    summary: str
    prepare: Callable[["Stage"], None]
    exit_code: int = 0
    again: bool = False
    running: bool = True
    environment: Mapping[str, str] = field(default_factory=dict)


@dataclass(slots=True)
class Stage:
    """A sandbox on which a scenario is played."""

    box: Sandbox
    say: Say
    environment: Mapping[str, str] = field(default_factory=dict)

    def assemble(self) -> None:
        """Has a cluster formed, without a word."""
        if self.command(quiet=True) != 0:
            raise RuntimeError("the sandbox's nodes could not be assembled")

    def command(self, *, quiet: bool = False) -> int:
        """Runs couchdiscover in a process of its own, and returns its exit code."""
        own = {key: value for key, value in os.environ.items() if not key.startswith("COUCHD")}
        environment = {**own, **self.box.environment(), **({} if quiet else self.environment)}
        sink = subprocess.DEVNULL if quiet else None
        words = ["run", "--timeout", "60s"]
        return command.run(words, environment, stdout=sink, stderr=sink)

    def post(self, pod: str, path: str, body: object) -> None:
        """A request made by hand, as a script would."""
        host, port = self.box.address(pod)
        login = base64.b64encode(f"{USER}:{PASSWORD}".encode()).decode()
        request = urllib.request.Request(
            f"http://{host}:{port}{path}",
            data=json.dumps(body).encode(),
            headers={"Authorization": f"Basic {login}", "Content-Type": "application/json"},
            method="POST",
        )
        with urllib.request.urlopen(request, timeout=30):  # noqa: S310
            pass


def _fresh(stage: Stage) -> None:
    stage.say("The nodes are fresh: none knows of another.")


def _slow_boot(stage: Stage) -> None:
    stage.say("No node is up yet; they come up one after the other, a second apart.")

    def boot() -> None:
        for pod in reversed(stage.box.pods):
            time.sleep(1)
            stage.box.start(pod)

    threading.Thread(target=boot, daemon=True).start()


def _assembled(stage: Stage) -> None:
    stage.assemble()
    stage.say("The nodes are one cluster already.")


def _scale_up(stage: Stage) -> None:
    stage.assemble()
    before = len(stage.box.pods)
    stage.box.scale(before + 2)
    stage.say(f"A cluster of {before} was just scaled up to {before + 2}.")


def _replaced(stage: Stage) -> None:
    stage.assemble()
    pod = stage.box.pods[0]
    stage.box.wipe(pod)
    stage.say(f"The nodes were one cluster; then {pod} lost its volume and came back empty.")


def _drift(stage: Stage) -> None:
    stage.assemble()
    pod = stage.box.pods[-1]
    stage.box.restart(pod)
    stage.say(f"The nodes are one cluster; then the container of {pod} was restarted,")
    stage.say("and its password hash and uuid are not the others' any more.")


def _wrong_password(stage: Stage) -> None:
    stage.say("couchdiscover is given a password that is not the nodes'.")


def _split(stage: Stage) -> None:
    for pod in stage.box.pods[:2]:
        stage.post(pod, "/_cluster_setup", {"action": "finish_cluster"})
    first, second = stage.box.pods[:2]
    stage.say(f"{first} and {second} were each finished alone: two clusters in one set.")


SCENARIOS = {
    "fresh": Scenario("fresh nodes become one cluster; run again, nothing is left", _fresh,
                      again=True),
    "slow-boot": Scenario("the nodes come up one by one", _slow_boot, running=False),
    "assembled": Scenario("a whole cluster is left alone", _assembled),
    "scale-up": Scenario("two nodes are added to a cluster", _scale_up),
    "replaced": Scenario("a node that lost its volume rejoins", _replaced),
    "drift": Scenario("a restarted node gets the cluster's identity again", _drift),
    "wrong-password": Scenario("denied, without locking the account", _wrong_password, 5,
                               environment={"COUCHDB_USER": USER, "COUCHDB_PASSWORD": "wrong"}),
    "split": Scenario("two clusters are not joined", _split, 6),
}  # fmt: skip


def play(name: str, nodes: int, say: Say, *, pace: float = 1.0) -> int:
    """Plays a scenario; 0 where the command did what it must, else 1.

    ``pace`` multiplies CouchDB's simulated delays. With COUCHDB_HOME in the environment the nodes
    are real ones of that CouchDB release.
    """
    scenario = SCENARIOS[name]
    home = os.environ.get("COUCHDB_HOME", "").split(os.pathsep)[0]
    kind = f"real CouchDB nodes ({home})" if home else "simulated CouchDB nodes"
    say(f"Setting up a Kubernetes API and {nodes} {kind} on loopback ...")
    with _stage(scenario, nodes, Path(home) if home else None, say, pace) as stage:
        for pod in stage.box.pods:
            host, port = stage.box.address(pod)
            say(f"  {pod}  http://{host}:{port}")
        scenario.prepare(stage)
        say("")
        good = _perform(stage, scenario.exit_code, "run")
        if good and scenario.again:
            good = _perform(stage, 0, "run once more: there must be nothing to do")
        return 0 if good else 1


def _perform(stage: Stage, wanted: int, what: str) -> bool:
    shown = " ".join(f"{key}={value}" for key, value in stage.box.environment().items())
    stage.say(f"$ {shown} couchdiscover run    # {what}")
    started = time.monotonic()
    code = stage.command()
    seconds = time.monotonic() - started
    verdict = "as it should" if code == wanted else f"instead of {wanted}"
    stage.say(f"exit code {code}, {verdict}, after {seconds:.1f} s")
    stage.say("")
    return code == wanted


@contextmanager
def _stage(
    scenario: Scenario, nodes: int, real: Path | None, say: Say, pace: float
) -> Iterator[Stage]:
    with Sandbox(
        nodes, user=USER, password=PASSWORD, running=scenario.running, real=real, pace=pace
    ) as box:
        yield Stage(box, say, scenario.environment)
