"""One place makes an exit code of an outcome, and tells the reason in three places."""

import json
import logging
import signal
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from couchdiscover.cli import conduct as conducting
from couchdiscover.cli.conduct import conduct, give_up
from couchdiscover.cli.exit import end, failed
from couchdiscover.cli.options import Options
from couchdiscover.cli.signals import catch_signals
from couchdiscover.errors import (
    CouchdiscoverError,
    Denied,
    Interrupted,
    NotSo,
    NotYet,
    TimedOut,
    Unsafe,
    UsageProblem,
)
from couchdiscover.output.log import LOGGER
from couchdiscover.output.redaction import MASK, Redactor
from couchdiscover.output.report import Record, Report

Capture = pytest.CaptureFixture[str]


@pytest.fixture(autouse=True)
def quiet_logger(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """No log yet, and afterwards the one that was there; no variable of ours."""
    before = LOGGER.handlers, LOGGER.level, LOGGER.propagate
    LOGGER.handlers = []
    for name in ("COUCHDISCOVER_OUTPUT", "LOG_FORMAT", "LOG_LEVEL"):
        monkeypatch.delenv(name, raising=False)
    yield
    LOGGER.handlers, LOGGER.level, LOGGER.propagate = before


def story(monkeypatch: pytest.MonkeyPatch, error: BaseException | None = None) -> None:
    """Has a command do nothing, or fail."""

    def work(settings: Any, deadline: Any, record: Record, **_: Any) -> str:
        record.warn(["a warning"])
        if error is not None:
            raise error
        return f"all is well in {record.command}"

    monkeypatch.setattr(conducting, "_story", lambda _: work)


@pytest.mark.parametrize(
    ("error", "code", "result"),
    [
        (None, 0, "done"),
        (UsageProblem("the reason"), 2, "usage"),
        (NotSo("the reason"), 3, "not_so"),
        (TimedOut("the reason"), 4, "timed_out"),
        (NotYet("the reason"), 4, "timed_out"),
        (Denied("the reason"), 5, "denied"),
        (Unsafe("the reason"), 6, "unsafe"),
        (Interrupted(15, "SIGTERM"), 143, "interrupted"),
        (Interrupted(2, "SIGINT"), 130, "interrupted"),
        (ZeroDivisionError("a bug"), 1, "error"),
    ],
)
def test_every_outcome_has_its_exit_code_and_is_told_three_times(
    monkeypatch: pytest.MonkeyPatch,
    capsys: Capture,
    tmp_path: Path,
    error: BaseException | None,
    code: int,
    result: str,
) -> None:
    story(monkeypatch, error)
    message = tmp_path / "message"
    assert conduct("run", Options(output="json", termination_log=str(message))) == code
    shown = capsys.readouterr()
    found = json.loads(shown.out)
    assert (found["command"], found["result"], found["exit_code"]) == ("run", result, code)
    assert found["warnings"] == ["a warning"]
    assert message.read_text() == found["message"]
    assert shown.err.splitlines()[-1].split(maxsplit=2)[1:] == [
        "INFO" if code == 0 else "ERROR",
        found["message"],
    ]
    assert ("Traceback" in shown.err) == (code == 1)


def test_bad_settings_are_told_in_the_format_that_was_asked_for(
    monkeypatch: pytest.MonkeyPatch, capsys: Capture
) -> None:
    options = Options(output="json", log_format="json", timeout="soon", port="x")
    assert conduct("check", options) == 2
    shown = capsys.readouterr()
    assert json.loads(shown.out)["result"] == "usage"
    assert "--timeout: 'soon'" in json.loads(shown.err)["message"]
    assert "--port: 'x'" in json.loads(shown.err)["message"]


@pytest.mark.parametrize(
    "options", [Options(log_format="xml"), Options(log_level="loud"), Options(output="yaml")]
)
def test_bad_ways_of_telling_are_told_as_by_default(capsys: Capture, options: Options) -> None:
    assert conduct("run", options) == 2
    shown = capsys.readouterr()
    assert "is none of" in shown.out
    assert shown.err.splitlines()[-1].endswith(shown.out.splitlines()[0])


def test_what_ended_before_it_began(capsys: Capture, tmp_path: Path) -> None:
    message = tmp_path / "message"
    options = Options(output="json", log_format="json", termination_log=str(message))
    assert give_up("", options, UsageProblem("No such command 'chekc'")) == 2
    shown = capsys.readouterr()
    assert json.loads(shown.out)["command"] is None
    assert json.loads(shown.err)["message"] == message.read_text() == "No such command 'chekc'"


def test_a_secret_is_in_none_of_the_three(
    monkeypatch: pytest.MonkeyPatch, capsys: Capture, tmp_path: Path
) -> None:
    monkeypatch.setenv("COUCHDB_PASSWORD", "hunter2")
    story(monkeypatch, Denied("CouchDB answered: admin:hunter2 is wrong"))
    message = tmp_path / "message"
    for output in ("json", "text"):
        assert conduct("run", Options(output=output, termination_log=str(message))) == 5
        shown = capsys.readouterr()
        assert "hunter2" not in shown.out + shown.err + message.read_text()
        assert message.read_text() == f"CouchDB answered: admin:{MASK} is wrong"


def test_a_termination_message_that_cannot_be_written(capsys: Capture, tmp_path: Path) -> None:
    options = Options(termination_log=str(tmp_path / "no" / "such" / "folder"))
    report = Report(Record("run"), "done", 0, "all is well", 0.1)
    assert give_up("run", options, TimedOut("time is over")) == 4
    assert "cannot be written: No such file" in capsys.readouterr().err
    assert end(report, options, Redactor()) == 0


def test_a_signal_while_the_result_is_told_ends_that(
    monkeypatch: pytest.MonkeyPatch, capsys: Capture
) -> None:
    class Stuck:
        def isatty(self) -> bool:
            return False

        def write(self, _: str) -> int:
            raise Interrupted(15, "SIGTERM")

        def flush(self) -> None: ...

    monkeypatch.setattr(sys, "stdout", Stuck())
    report = Report(Record("run"), "done", 0, "all is well", 0.1)
    assert end(report, Options(), Redactor()) == 143


@pytest.mark.parametrize(
    ("variables", "terminal", "coloured"),
    [
        ({"TERM": "xterm"}, True, True),
        ({"TERM": "xterm"}, False, False),
        ({"TERM": "dumb"}, True, False),
        ({"TERM": "xterm", "NO_COLOR": "1"}, True, False),
        ({"TERM": "xterm", "NO_COLOR": ""}, True, True),
    ],
)
def test_colours_are_for_terminals(
    monkeypatch: pytest.MonkeyPatch,
    capsys: Capture,
    variables: dict[str, str],
    terminal: bool,
    coloured: bool,
) -> None:
    monkeypatch.delenv("NO_COLOR", raising=False)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(sys.stdout, "isatty", lambda: terminal)
    end(Report(Record("check"), "done", 0, "all is well", 0.1), Options(), Redactor())
    assert ("\x1b[32m" in capsys.readouterr().out) == coloured


def test_every_error_of_ours_is_one_with_a_code_of_its_own() -> None:
    def below(kind: type[CouchdiscoverError]) -> Iterator[type[CouchdiscoverError]]:
        for each in kind.__subclasses__():
            yield each
            yield from below(each)

    for kind in (UsageProblem, NotSo, TimedOut, Denied, Unsafe):
        assert kind in set(below(CouchdiscoverError))
        report = failed(Record("run"), kind("why"), 1.5)
        assert (report.exit_code, report.result) == (kind.exit_code, kind.result)
        assert (report.message, report.elapsed_seconds) == ("why", 1.5)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_signals_interrupt_once(number: signal.Signals) -> None:
    before = {each: signal.getsignal(each) for each in (signal.SIGTERM, signal.SIGINT)}
    try:
        catch_signals()
        with pytest.raises(Interrupted) as caught:
            signal.raise_signal(number)
        assert caught.value.exit_code == 128 + number
        signal.raise_signal(number)  # the end is under way, and is not cut short
        signal.raise_signal(signal.SIGTERM)
    finally:
        for each, handler in before.items():
            signal.signal(each, handler)


def test_debug_lines_need_the_level(monkeypatch: pytest.MonkeyPatch, capsys: Capture) -> None:
    story(monkeypatch)
    assert conduct("run", Options(log_level="error")) == 0
    assert LOGGER.level == logging.ERROR
    assert capsys.readouterr().err == ""
