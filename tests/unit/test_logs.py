"""Log lines in both formats, and no secret in them."""

import json
import logging
import re
import sys
import threading
import time
from collections.abc import Iterator
from typing import Any

import pytest

from couchdiscover.output.log import LOGGER, conclude, set_up
from couchdiscover.output.redaction import Redactor


@pytest.fixture(autouse=True)
def logger() -> Iterator[None]:
    """Leaves the logger as it was."""
    before = LOGGER.handlers, LOGGER.level, LOGGER.propagate
    yield
    LOGGER.handlers, LOGGER.level, LOGGER.propagate = before


# --- formats ----------------------------------------------------------------------------------


def lines(
    capsys: pytest.CaptureFixture[str], log_format: str, level: str, *secrets: str
) -> list[str]:
    redactor = Redactor()
    redactor.hide(*secrets)
    set_up(log_format, level, redactor)
    LOGGER.debug("detail")
    LOGGER.info("waiting for couchdb-1 with hunter2 100% €")
    LOGGER.warning("two\nlines")
    try:
        int("hunter2")
    except ValueError:
        LOGGER.exception("a bug")
    captured = capsys.readouterr()
    assert captured.out == ""
    return captured.err.splitlines()


def test_text(capsys: pytest.CaptureFixture[str]) -> None:
    first, *rest = lines(capsys, "text", "INFO", "hunter2")
    assert re.fullmatch(
        r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ INFO    waiting for couchdb-1 with \*\*\* 100% €", first
    )
    assert rest[-1].startswith("ValueError: invalid literal")
    assert not [line for line in rest if "hunter2" in line]


def test_json(capsys: pytest.CaptureFixture[str]) -> None:
    entries: list[dict[str, Any]] = [
        json.loads(line) for line in lines(capsys, "json", "DEBUG", "hunter2")
    ]
    assert [list(entry) for entry in entries] == [["time", "level", "message"]] * 4
    assert [entry["level"] for entry in entries] == ["debug", "info", "warning", "error"]
    assert entries[1]["message"] == "waiting for couchdb-1 with *** 100% €"
    assert entries[2]["message"] == "two\nlines"
    assert entries[3]["message"].endswith(": '***'")


@pytest.mark.parametrize(("level", "count"), [("DEBUG", 4), ("INFO", 3), ("ERROR", 1)])
def test_levels(capsys: pytest.CaptureFixture[str], level: str, count: int) -> None:
    assert len(lines(capsys, "json", level)) == count


def test_setting_up_again_does_not_double_lines(capsys: pytest.CaptureFixture[str]) -> None:
    lines(capsys, "json", "INFO")
    assert len(lines(capsys, "json", "INFO")) == 3


def test_other_loggers_are_left_alone(capsys: pytest.CaptureFixture[str]) -> None:
    root = logging.getLogger()
    before = list(root.handlers), root.level
    set_up("text", "DEBUG", Redactor())
    assert (list(root.handlers), root.level) == before


def test_nothing_comes_after_the_last_line(capsys: pytest.CaptureFixture[str]) -> None:
    output = set_up("text", "DEBUG", Redactor())
    thread = threading.Thread(target=LOGGER.debug, args=("begun before, and late",))
    output.acquire()  # as if another line were being written
    thread.start()
    time.sleep(0.1)
    conclude(logging.ERROR, "the reason")
    output.release()
    thread.join()
    LOGGER.error("later still")
    (line,) = capsys.readouterr().err.splitlines()
    assert line.endswith("the reason")


def test_a_closed_stderr_stops_nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    class Closed:
        def write(self, _: str) -> None:
            raise BrokenPipeError

    monkeypatch.setattr(sys, "stderr", Closed())
    set_up("text", "INFO", Redactor())
    LOGGER.info("into the void")
    LOGGER.info("and again")
