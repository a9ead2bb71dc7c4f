"""Starts the command in processes of its own, many a second: a script, for ``processes.Nursery``.

It has imported the program already and forks for each start: a real process that a real SIGKILL
ends, without the third of a second that an interpreter and its imports take.

Reads one JSON object a line: ``{"id", "arguments", "environment", "outputs", "folder"}``. Writes
``{"id", "pid"}`` for each start, and ``{"id", "status"}`` for each end, negative for a signal.
The process runs in ``folder``; its stdout and stderr are the files ``out`` and ``err`` in
``outputs``.
"""

import importlib
import json
import os
import pkgutil
import random
import select
import sys
from pathlib import Path
from typing import Any

import couchdiscover
from couchdiscover.__main__ import main as command

NAP = 0.01
"""Seconds between two looks for processes that have ended."""


def import_all() -> None:
    """Imports the program, but for the sandbox, which only the demo needs."""
    for module in pkgutil.walk_packages(couchdiscover.__path__, "couchdiscover."):
        if not module.name.startswith("couchdiscover.sandbox"):
            importlib.import_module(module.name)


def tell(**facts: Any) -> None:
    """Answers."""
    os.write(1, (json.dumps(facts) + "\n").encode())


def live(order: dict[str, Any]) -> None:
    """The forked process: becomes the command."""
    for number, name in ((1, "out"), (2, "err")):
        path = Path(order["outputs"], name)
        os.dup2(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), number)
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    os.environ.clear()
    os.environ.update(order["environment"])
    os.chdir(order["folder"])
    random.seed()
    sys.argv = ["couchdiscover", *order["arguments"]]
    status = 70  # as a process that ends without saying how
    try:
        command()
    except SystemExit as end:
        status = 0 if end.code is None else end.code if isinstance(end.code, int) else 70
    except BaseException as error:  # noqa: BLE001 - shown where a traceback is looked for
        sys.excepthook(type(error), error, error.__traceback__)
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(status)


def main() -> None:
    """Takes orders until its stdin is closed."""
    import_all()
    alive: dict[int, int] = {}
    rest = b""
    while True:
        if select.select([0], [], [], NAP if alive else None)[0]:
            data = os.read(0, 1 << 16)
            if not data:
                return
            *lines, rest = (rest + data).split(b"\n")
            for line in lines:
                order = json.loads(line)
                pid = os.fork()
                if pid == 0:
                    live(order)
                alive[pid] = order["id"]
                tell(id=order["id"], pid=pid)
        while alive:
            pid, status = os.waitpid(-1, os.WNOHANG)
            if pid == 0:
                break
            tell(id=alive.pop(pid), status=os.waitstatus_to_exitcode(status))


if __name__ == "__main__":
    main()
