"""What a person at a terminal sees, and nobody else."""

import os
import threading
import time
from collections.abc import Callable
from pathlib import Path

from couchdiscover.sandbox import Sandbox
from tests.support.command import Command, until_asked
from tests.support.terminal import on_a_terminal


def test_a_wait_shows_live_progress_on_a_terminal(
    sandbox: Callable[..., Sandbox], tmp_path: Path
) -> None:
    box = sandbox(2, running=False)

    def boot() -> None:
        until_asked(box, "/endpointslices")
        for pod in box.pods:
            time.sleep(1)
            box.start(pod)

    threading.Thread(target=boot, daemon=True).start()
    base = {"PATH": os.environ["PATH"], "HOME": str(tmp_path), "TERM": "xterm", "COLUMNS": "100"}
    code, shown = on_a_terminal({**base, **box.environment()})
    assert code == 0, shown
    assert "couchdb-0 down · couchdb-1 down" in shown
    assert "couchdb-0 enabled · couchdb-1 down" in shown
    assert "2 nodes are one cluster" in shown


def test_there_is_none_in_a_container(
    sandbox: Callable[..., Sandbox], couchdiscover: Command
) -> None:
    ended = couchdiscover(environment=sandbox(2).environment())
    assert ended.code == 0
    assert "\x1b" not in ended.out + ended.err
    assert "\r" not in ended.out + ended.err
