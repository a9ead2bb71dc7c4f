"""Log lines in both formats, and what must never be in them."""

import base64
import json
import logging
import re
import sys
import threading
import time
from collections.abc import Iterator
from typing import Any
from urllib.parse import quote, quote_plus

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from couchdiscover.output.log import LOGGER, MASK, Redactor, conclude, set_up

SECRET = "pa$s/wörd \"and\" 'more'\\+€\n%"

FORMS = {
    "as it is": str,
    "stripped": str.strip,
    "in a URL": lambda s: quote(s, safe=""),
    "in a form": quote_plus,
    "in JSON": json.dumps,
    "in JSON as UTF-8": lambda s: json.dumps(s, ensure_ascii=False),
    "in a repr": repr,
    "in a repr of bytes": lambda s: repr(s.encode()),
    "in base64": lambda s: base64.b64encode(s.encode()).decode(),
    "in base64 without padding": lambda s: base64.b64encode(s.encode()).decode().rstrip("="),
    "in URL-safe base64": lambda s: base64.urlsafe_b64encode(s.encode()).decode(),
}


@pytest.fixture(autouse=True)
def logger() -> Iterator[None]:
    """Leaves the logger as it was."""
    before = LOGGER.handlers, LOGGER.level, LOGGER.propagate
    yield
    LOGGER.handlers, LOGGER.level, LOGGER.propagate = before


# --- redaction --------------------------------------------------------------------------------


@pytest.mark.parametrize("form", FORMS)
def test_a_secret_is_masked_in_every_form(form: str) -> None:
    redactor = Redactor()
    redactor.hide(SECRET)
    travelling = FORMS[form](SECRET)
    cleaned = redactor.clean(f"sent <{travelling}>, got 401")
    assert cleaned.startswith("sent <")
    assert cleaned.endswith(">, got 401")
    assert travelling.strip("\"'b") not in cleaned
    assert MASK in cleaned


printable = st.characters(codec="utf-8", exclude_characters="*")  # which is what masks are made of


@given(
    secret=st.text(printable, min_size=3, max_size=20),
    form=st.sampled_from(sorted(FORMS)),
    before=st.text(max_size=20),
    after=st.text(max_size=20),
)
def test_no_secret_passes_in_any_form(secret: str, form: str, before: str, after: str) -> None:
    assume(len(secret.strip()) > 2)
    travelling = FORMS[form](secret)
    redactor = Redactor()
    redactor.hide(secret)
    cleaned = redactor.clean(before + travelling + after)
    assert secret not in cleaned
    assert travelling not in cleaned


@given(st.lists(st.text(printable, max_size=8), max_size=5), st.text(max_size=60))
def test_whatever_is_hidden_is_gone_and_nothing_breaks(secrets: list[str], text: str) -> None:
    redactor = Redactor()
    redactor.hide(*secrets)
    once = redactor.clean(text)
    assert not [secret for secret in secrets if len(secret) > 2 and secret in once]


def test_of_two_secrets_the_longer_goes_first() -> None:
    redactor = Redactor()
    redactor.hide("hunter")
    redactor.hide("hunter2000")
    assert redactor.clean("hunter2000 hunter") == f"{MASK} {MASK}"


@pytest.mark.parametrize("secret", ["", "a", "ab", " a ", "\n\n"])
def test_what_is_too_short_masks_nothing(secret: str) -> None:
    redactor = Redactor()
    redactor.hide(secret)
    assert redactor.clean("a line about ab and nothing else") == "a line about ab and nothing else"


def test_a_variable_that_is_no_utf_8() -> None:
    """As os.environ has it: the bytes that do not decode are surrogates."""
    redactor = Redactor()
    redactor.hide("hunter\udcff")
    assert redactor.clean("hunter\udcff hunter%FF") == f"{MASK} {MASK}"


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
