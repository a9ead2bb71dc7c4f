"""As a container's first process: PID 1 of its own namespace, where signals have no default."""

import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from couchdiscover.sandbox import Sandbox
from tests.support.command import Command, finish, until_asked

UNSHARE = shutil.which("unshare")


def can_unshare() -> bool:
    """Whether a process may have a namespace of its own here."""
    if UNSHARE is None:
        return False
    command = [UNSHARE, "--fork", "--pid", "--mount-proc", "true"]
    return subprocess.run(command, capture_output=True, check=False).returncode == 0


needs_unshare = pytest.mark.skipif(
    not can_unshare(), reason="needs unshare and the right to use it (root): no PID namespace here"
)


def as_pid_1(environment: dict[str, str], folder: Path) -> subprocess.Popen[str]:
    """Starts the command as PID 1."""
    assert UNSHARE
    return subprocess.Popen(
        [UNSHARE, "--fork", "--pid", "--mount-proc", sys.executable, "-m", "couchdiscover"],
        env={"PATH": os.environ["PATH"], "HOME": str(folder), **environment},
        cwd=folder,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def child_of(pid: int) -> int:
    """The process that unshare started, by its number out here."""
    for _ in range(200):
        children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
        if children:
            return int(children[0])
        time.sleep(0.01)
    raise AssertionError("unshare started nothing")


@needs_unshare
def test_pid_1_ends_at_once_on_sigterm_and_leaves_its_message(
    sandbox: Callable[..., Sandbox], tmp_path: Path
) -> None:
    box = sandbox(2)
    box.stop("couchdb-1")
    message = tmp_path / "termination-log"
    environment = box.environment() | {"COUCHDISCOVER_TERMINATION_LOG": str(message)}
    process = as_pid_1(environment, tmp_path)
    assert process.stderr is not None
    while "waiting for couchdb-1" not in process.stderr.readline():
        pass
    os.kill(child_of(process.pid), signal.SIGTERM)
    ended = finish(process, seconds=10)
    assert ended.code == 143, ended.err
    assert ended.last_line.startswith("interrupted by SIGTERM")
    assert message.read_text() == ended.last_line


@needs_unshare
def test_pid_1_heeds_a_sigterm_that_comes_while_it_starts(
    sandbox: Callable[..., Sandbox], tmp_path: Path
) -> None:
    box = sandbox(2, running=False)
    process = as_pid_1(box.environment(), tmp_path)
    child = child_of(process.pid)
    end = time.monotonic() + 20
    while process.poll() is None and time.monotonic() < end:
        try:
            os.kill(child, signal.SIGTERM)  # before its handler is there, the kernel drops it
        except ProcessLookupError:
            break
        time.sleep(0.02)
    assert finish(process, seconds=10).code == 143


@needs_unshare
def test_pid_1_does_its_job(sandbox: Callable[..., Sandbox], tmp_path: Path) -> None:
    ended = finish(as_pid_1(sandbox(2).environment(), tmp_path))
    assert ended.code == 0, ended.err
    assert ended.last_line == "2 nodes are one cluster, verified on each"


def test_a_secret_that_comes_later_is_waited_for(
    sandbox: Callable[..., Sandbox], couchdiscover: Command
) -> None:
    box = sandbox(2)
    secret = next(iter(box.api.find("Secret", "default")))
    name = secret["metadata"]["name"]
    box.api.remove("Secret", "default", name)
    process = couchdiscover.start(environment=box.environment())
    until_asked(box, f"/secrets/{name}")
    box.api.put(secret)
    ended = finish(process)
    assert ended.code == 0, ended.err
    assert f"secrets/{name} in default does not exist" in ended.err


def test_pods_that_are_replaced_while_they_join_end_in_one_cluster(
    sandbox: Callable[..., Sandbox], couchdiscover: Command
) -> None:
    box = sandbox(3)
    first = [couchdiscover.start(environment=box.environment(pod)) for pod in box.pods]
    time.sleep(0.4)
    box.replace("couchdb-1", data=True)
    second = couchdiscover.start(environment=box.environment("couchdb-1"))
    assert finish(second).code == 0
    for process in (first[0], first[2]):
        ended = finish(process)
        assert ended.code == 0, ended.err
    first[1].kill()  # with the pod that it ran in
    first[1].communicate()
    ended = couchdiscover("-o", "json", environment=box.environment())
    assert ended.code == 0, ended.err
    names = {box.node(pod).name for pod in box.pods}
    for pod in box.pods:
        assert set(box.node(pod).members) == names
