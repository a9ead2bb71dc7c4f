"""Starts the command in processes of its own, many a second: a script, for ``processes.Nursery``.

It has imported the program already and forks for each start: a real process that a real SIGKILL
ends, without the third of a second that an interpreter and its imports take.

Reads one JSON object a line: ``{"id", "arguments", "environment", "outputs", "folder"}``. Writes
``{"id", "pid"}`` for each start, and ``{"id", "status"}`` for each end, negative for a signal.
The process runs in ``folder``; its stdout and stderr are the files ``out`` and ``err`` in
``outputs``. It reads the file that ``stdin`` names, if there is one in the order.
"""

import importlib
import json
import os
import pkgutil
import random
import select
import signal
import socket
import subprocess
import sys
from collections.abc import Mapping, Sequence
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any, NoReturn

import couchdiscover
from couchdiscover.__main__ import main as command
from couchdiscover.cli.app import program

NAP = 0.01
"""Seconds between two looks for processes that have ended."""

PACE = 0.1
"""Of CouchDB's delays, as in the tests' own sandboxes."""


def import_all() -> None:
    """Imports the program, but for the sandbox, and makes the command line, once for all."""
    for module in pkgutil.walk_packages(couchdiscover.__path__, "couchdiscover."):
        if not module.name.startswith("couchdiscover.sandbox"):
            importlib.import_module(module.name)
    program()


def tell(**facts: Any) -> None:
    """Answers."""
    os.write(1, (json.dumps(facts) + "\n").encode())


def live(order: dict[str, Any]) -> NoReturn:
    """The forked process: becomes the command, with the outputs that were asked for."""
    for number, name in ((1, "out"), (2, "err")):
        path = Path(order["outputs"], name)
        os.dup2(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), number)
    os.dup2(os.open(order.get("stdin", os.devnull), os.O_RDONLY), 0)
    os.environ.clear()
    os.environ.update(order["environment"])
    os.chdir(order["folder"])
    if order["arguments"][:1] == ["demo"]:
        hurry_the_demo()
    become(order["arguments"])


def become(arguments: Sequence[str]) -> NoReturn:
    """Runs the command in this process, and ends it."""
    random.seed()
    sys.argv = ["couchdiscover", *arguments]
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


# --- what the demo starts ---


class Forked:
    """A process that was forked for the demo; as far as that goes it is used as a Popen is."""

    def __init__(self, status: int, heard: int | None) -> None:
        self._status = os.fdopen(status)
        self._heard = heard
        self._pid = int(self._status.readline())
        self.returncode: int | None = None

    def poll(self) -> int | None:
        """The exit code, or None as long as it runs."""
        if self.returncode is None and not select.select([self._status], [], [], 0)[0]:
            return None
        return self.wait()

    def wait(self) -> int:
        """The exit code, when it is over."""
        if self.returncode is None:
            self.returncode = int(self._status.readline())
        return self.returncode

    def kill(self) -> None:
        """Ends it, if it is not over."""
        with suppress(ProcessLookupError):
            os.kill(self._pid, signal.SIGKILL)

    def communicate(self) -> tuple[str, str]:
        """What it has written to its stderr, when it is over."""
        if self._heard is None:
            return "", ""
        with os.fdopen(self._heard, errors="replace") as heard:
            text = heard.read()
        self.wait()
        return "", text


def hurry_the_demo() -> None:
    """Has the demo fork the command, too, and simulate a tenth of CouchDB's delays.

    What forks is a process that is forked itself before the demo has any thread.
    """
    from couchdiscover.sandbox import command as starting
    from couchdiscover.sandbox import demo, rehearsal

    demo.play = partial(demo.play, pace=PACE)
    rehearsal.rehearse = partial(rehearsal.rehearse, pace=PACE)

    orders, ours = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    if os.fork() == 0:
        ours.close()
        serve(orders)
    orders.close()

    def start(
        words: Sequence[str],
        environment: Mapping[str, str],
        *,
        stdout: int | None = None,
        stderr: int | None = None,
    ) -> Forked:
        heard = None
        outputs = []
        for asked, own in ((stdout, 1), (stderr, 2)):
            if asked == subprocess.PIPE:
                heard, written = os.pipe()
                outputs.append(written)
            elif asked == subprocess.DEVNULL:
                outputs.append(os.open(os.devnull, os.O_WRONLY))
            else:
                outputs.append(os.dup(own))
        told, status = os.pipe()
        order = json.dumps([list(words), dict(environment)]).encode()
        socket.send_fds(ours, [order], [*outputs, status])
        for number in (*outputs, status):
            os.close(number)
        return Forked(told, heard)

    starting.start = start  # type: ignore[assignment]


def serve(orders: socket.socket) -> NoReturn:
    """Forks the command as often as it is told, until nobody is left who could tell."""
    while True:
        order, passed, _, _ = socket.recv_fds(orders, 1 << 17, 3)
        if not order:
            os._exit(0)
        if os.fork() == 0:
            orders.close()
            keep(order, *passed)
        for number in passed:
            os.close(number)
        with suppress(ChildProcessError):
            while os.waitpid(-1, os.WNOHANG)[0]:
                pass


def keep(order: bytes, out: int, err: int, status: int) -> NoReturn:
    """Forks the command once, and tells its process id and its exit code, a line each."""
    words, environment = json.loads(order)
    pid = os.fork()
    if pid == 0:
        os.dup2(out, 1)
        os.dup2(err, 2)
        os.closerange(3, status + 1)
        os.environ.clear()
        os.environ.update(environment)
        become(words)
    os.write(status, f"{pid}\n".encode())
    code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    os.write(status, f"{code}\n".encode())
    os._exit(0)


# --- orders ---


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
                if order["arguments"][:1] == ["demo"]:
                    importlib.import_module("couchdiscover.sandbox.rehearsal")
                    importlib.import_module("couchdiscover.sandbox.demo")
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
