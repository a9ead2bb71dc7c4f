"""``couchdiscover demo``: situations on loopback, and the real command let loose on them."""

import base64
import json
import os
import subprocess
import threading
import time
import urllib.request
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from couchdiscover.sandbox import command
from couchdiscover.sandbox.box import Sandbox

USER = "admin"
PASSWORD = "of the sandbox"  # noqa: S105 - and of nothing else


TIMEOUT = "90s"
"""For each command: adopt waits until real nodes have been up for 50 s."""

Say = Callable[[str], None]


DATABASE, DOCUMENTS = "orders", 12


@dataclass(frozen=True, slots=True)
class Act:
    """One command that is let loose: what it must exit with, and what it is for."""

    command: str = "run"
    what: str = "run"
    exit_code: int = 0


NOTHING_LEFT = Act(what="run once more: there must be nothing to do")


@dataclass(frozen=True, slots=True)
class Scenario:
    """A situation and what is to come of it.

    ``prepare`` gets the sandbox ready for the ``acts``, ``proves`` looks afterwards whether all is
    as it must be, and says so.
    """

    summary: str
    prepare: Callable[["Stage"], None]
    acts: Sequence[Act] = (Act(),)
    proves: Callable[["Stage"], bool] | None = None
    running: bool = True
    environment: Mapping[str, str] = field(default_factory=dict)


@dataclass(slots=True)
class Stage:
    """A sandbox on which a scenario is played."""

    box: Sandbox
    say: Say
    environment: Mapping[str, str] = field(default_factory=dict)
    original: Sandbox | None = None
    """The set whose volumes were copied, where it lives."""

    def assemble(self) -> None:
        """Has a cluster formed, without a word."""
        if self.command("run", quiet=True) != 0:
            raise RuntimeError("the sandbox's nodes could not be assembled")

    def fill(self) -> None:
        """Stores documents in a database of their own."""
        pod = self.box.pods[0]
        self.ask(self.box, pod, "PUT", f"/{DATABASE}")
        for number in range(DOCUMENTS):
            self.ask(self.box, pod, "PUT", f"/{DATABASE}/{number}", {"number": number})

    def command(self, name: str, *, quiet: bool = False) -> int:
        """Runs couchdiscover in a process of its own, and returns its exit code."""
        own = {key: value for key, value in os.environ.items() if not key.startswith("COUCHD")}
        environment = {**own, **self.box.environment(), **({} if quiet else self.environment)}
        sink = subprocess.DEVNULL if quiet else None
        return command.run([name, "--timeout", TIMEOUT], environment, stdout=sink, stderr=sink)

    def ask(self, box: Sandbox, pod: str, method: str, path: str, body: object = None) -> Any:
        """A request made by hand, as a script would."""
        host, port = box.address(pod)
        login = base64.b64encode(f"{USER}:{PASSWORD}".encode()).decode()
        request = urllib.request.Request(
            f"http://{host}:{port}{path}",
            data=None if body is None else json.dumps(body).encode(),
            headers={"Authorization": f"Basic {login}", "Content-Type": "application/json"},
            method=method,
        )
        with urllib.request.urlopen(request, timeout=30) as answer:  # noqa: S310
            return json.load(answer)

    def readable(self, box: Sandbox, whose: str) -> bool:
        """Whether every node of a set serves all documents; says what it serves."""
        counts = {pod: self.ask(box, pod, "GET", f"/{DATABASE}")["doc_count"] for pod in box.pods}
        told = ", ".join(f"{count} through {pod}" for pod, count in counts.items())
        self.say(f"{DOCUMENTS} documents were stored in {DATABASE}; {whose} has {told}.")
        return set(counts.values()) == {DOCUMENTS}


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
        stage.ask(stage.box, pod, "POST", "/_cluster_setup", {"action": "finish_cluster"})
    first, second = stage.box.pods[:2]
    stage.say(f"{first} and {second} were each finished alone: two clusters in one set.")


def _restore(stage: Stage) -> None:
    stage.assemble()
    stage.fill()
    stage.box.rename(namespace="restored")
    _have_been_up(stage.box)
    stage.say("The nodes were one cluster; its volumes were restored into another namespace, where")
    stage.say("their nodes have other names, and CouchDB answers 500 to whatever was stored.")


def _clone(stage: Stage) -> None:
    stage.assemble()
    stage.fill()
    box = stage.original = stage.box
    # Nodes of a release are parted by their cookie, simulated ones as a NetworkPolicy does it.
    stage.box = box.clone_into("clone", cookie="of-the-clone", wall=not box.is_real)
    _have_been_up(stage.box)
    stage.say(
        "The nodes are one cluster, and go on living. Copies of their volumes were started in"
    )
    stage.say("another namespace, with another Erlang cookie, and a NetworkPolicy between the two.")


def _have_been_up(box: Sandbox) -> None:
    """A minute passes for simulated nodes: before that adopt waits, as it does with real ones."""
    for pod in box.pods if not box.is_real else ():
        box.node(pod).started_at -= 60


def _restored(stage: Stage) -> bool:
    return stage.readable(stage.box, "the restored set")


def _cloned(stage: Stage) -> bool:
    original = stage.original
    if original is None or not stage.readable(stage.box, "the clone"):
        return False
    lists = stage.ask(original, original.pods[0], "GET", "/_membership")["cluster_nodes"]
    stage.say(f"The original lists {len(lists)} members, as before.")
    return stage.readable(original, "the original") and len(lists) == len(original.pods)


SCENARIOS = {
    "fresh": Scenario("fresh nodes become one cluster; run again, nothing is left", _fresh,
                      (Act(), NOTHING_LEFT)),
    "slow-boot": Scenario("the nodes come up one by one", _slow_boot, running=False),
    "assembled": Scenario("a whole cluster is left alone", _assembled),
    "scale-up": Scenario("two nodes are added to a cluster", _scale_up),
    "replaced": Scenario("a node that lost its volume rejoins", _replaced),
    "drift": Scenario("a restarted node gets the cluster's identity again", _drift),
    "restore": Scenario("volumes in another namespace become a cluster again", _restore,
                        (Act(what="run touches nothing, and names the command", exit_code=6),
                         Act("adopt", "adopt"), NOTHING_LEFT), _restored),
    "clone": Scenario("copies of a living set become a cluster of their own", _clone,
                      (Act("adopt", "adopt, in the clone"), NOTHING_LEFT), _cloned),
    "wrong-password": Scenario("denied, without locking the account", _wrong_password,
                               (Act(exit_code=5),),
                               environment={"COUCHDB_USER": USER, "COUCHDB_PASSWORD": "wrong"}),
    "split": Scenario("two clusters are not joined", _split, (Act(exit_code=6),)),
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
        good = all(_perform(stage, act) for act in scenario.acts)
        return 0 if good and (scenario.proves is None or scenario.proves(stage)) else 1


def _perform(stage: Stage, act: Act) -> bool:
    shown = " ".join(f"{key}={value}" for key, value in stage.box.environment().items())
    stage.say(f"$ {shown} couchdiscover {act.command}    # {act.what}")
    started = time.monotonic()
    code = stage.command(act.command)
    seconds = time.monotonic() - started
    verdict = "as it should" if code == act.exit_code else f"instead of {act.exit_code}"
    stage.say(f"exit code {code}, {verdict}, after {seconds:.1f} s")
    stage.say("")
    return code == act.exit_code


@contextmanager
def _stage(
    scenario: Scenario, nodes: int, real: Path | None, say: Say, pace: float
) -> Iterator[Stage]:
    with Sandbox(
        nodes, user=USER, password=PASSWORD, running=scenario.running, real=real, pace=pace
    ) as box:
        yield Stage(box, say, scenario.environment)
