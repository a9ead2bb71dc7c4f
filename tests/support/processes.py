"""The command in processes of its own, started fast; see ``nursery.py``, which forks them."""

import json
import os
import signal
import subprocess
import sys
import tempfile
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any, Self


@dataclass(frozen=True)
class Ended:
    """A run that is over: its exit code (negative for a signal) and what it wrote."""

    code: int
    out: str
    err: str
    termination: str = ""
    """The termination message, where one was asked for."""

    @property
    def json(self) -> dict[str, Any]:
        """The result, where -o json was asked for."""
        result: dict[str, Any] = json.loads(self.out)
        return result

    @property
    def steps(self) -> list[str]:
        """The steps in the result, each with its node."""
        return [f"{step['step']} {step['node']}" for step in self.json["steps"]]

    @property
    def last_line(self) -> str:
        """The last line of the log, without time and level."""
        return self.err.rstrip().splitlines()[-1].split(maxsplit=2)[2]


@dataclass
class Running:
    """A process under way; as far as the tests go it is used as a Popen is."""

    outputs: Path
    pid: int = 0
    returncode: int | None = None
    started: threading.Event = field(default_factory=threading.Event)
    over: threading.Event = field(default_factory=threading.Event)

    def poll(self) -> int | None:
        """The exit code, or None as long as it runs."""
        return self.returncode if self.over.is_set() else None

    def send_signal(self, number: int) -> None:
        """Sends a signal, if it is not over; from any thread."""
        assert self.started.wait(60)
        if not self.over.is_set():
            try:
                os.kill(self.pid, number)
            except ProcessLookupError:
                return

    def kill(self) -> None:
        """Ends it as nothing can be ended more abruptly."""
        self.send_signal(signal.SIGKILL)

    def communicate(self, timeout: float = 120) -> tuple[str, str]:
        """What it has written, when it is over. Raises subprocess.TimeoutExpired."""
        if not self.over.wait(timeout):
            raise subprocess.TimeoutExpired("couchdiscover", timeout)
        return self.read("out"), self.read("err")

    def wait(self, seconds: float = 90) -> Ended:
        """Its end. A traceback, or output that is not UTF-8, is a failure."""
        if not self.over.wait(seconds):
            self.kill()
            self.over.wait(10)
            raise AssertionError(f"did not end in {seconds} s\n{self.read('err')[-3000:]}")
        assert self.returncode is not None
        ended = Ended(self.returncode, self.read("out"), self.read("err"), self.read("termination"))
        assert "Traceback" not in ended.err, ended.err[-3000:]
        assert ended.code not in (1, 70), ended.err[-3000:]
        return ended

    def read(self, name: str) -> str:
        """What one of its outputs (``out``, ``err``, ``termination``) has so far."""
        path = self.outputs / name
        return path.read_text(encoding="utf-8") if path.exists() else ""


class Nursery:
    """Starts the command, fast. A context manager; its methods may be called from any thread.

    With ``measured`` a coverage measurement under way goes on in the processes, at half the speed.
    """

    def __init__(self, *, measured: bool = True) -> None:
        self._measured = measured

    def __enter__(self) -> Self:
        self._folder = tempfile.TemporaryDirectory(prefix="couchdiscover-test-")
        environment = {
            key: value
            for key, value in os.environ.items()
            if self._measured or not key.startswith("COVERAGE_")
        }
        self._process = subprocess.Popen(
            [sys.executable, str(Path(__file__).with_name("nursery.py"))],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            cwd=Path(__file__).parents[2],
            env=environment,
        )
        self._lock = threading.Lock()
        self._all: dict[int, Running] = {}
        self._reader = threading.Thread(target=self._listen, daemon=True)
        self._reader.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        for running in self._all.values():
            if running.started.is_set():
                running.kill()
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._process.wait(10)
        self._reader.join(10)
        self._folder.cleanup()

    def fork(
        self,
        arguments: Sequence[str],
        environment: Mapping[str, str],
        folder: Path | None = None,
        stdin: bytes = b"",
    ) -> Running:
        """Starts it with just this environment, and does not wait."""
        with self._lock:
            number = len(self._all)
            outputs = Path(self._folder.name, str(number))
            outputs.mkdir()
            running = self._all[number] = Running(outputs)
        order = {
            "id": number,
            "arguments": arguments,
            "environment": dict(environment),
            "outputs": str(outputs),
            "folder": str(folder or outputs),
        }
        if stdin:
            order["stdin"] = str(outputs / "in")
            (outputs / "in").write_bytes(stdin)
        assert self._process.stdin is not None
        with self._lock:
            self._process.stdin.write((json.dumps(order) + "\n").encode())
            self._process.stdin.flush()
        return running

    def start(
        self, *arguments: str, environment: Mapping[str, str], telling: bool = True
    ) -> Running:
        """Starts it in a folder of its own; with ``telling`` at DEBUG and with a JSON result."""
        usual = {
            "PATH": os.environ["PATH"],
            "HOME": self._folder.name,
            "COUCHDISCOVER_TERMINATION_LOG": "termination",  # in that folder
        }
        if telling:
            usual |= {"COUCHDISCOVER_LOG_LEVEL": "DEBUG", "COUCHDISCOVER_OUTPUT": "json"}
        return self.fork(arguments, {**usual, **environment})

    def __call__(
        self, *arguments: str, environment: Mapping[str, str], seconds: float = 90
    ) -> Ended:
        """Runs it to its end."""
        return self.start(*arguments, environment=environment).wait(seconds)

    def _listen(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            facts = json.loads(line)
            running = self._all[facts["id"]]
            if "pid" in facts:
                running.pid = facts["pid"]
                running.started.set()
            else:
                running.returncode = facts["status"]
                running.over.set()
