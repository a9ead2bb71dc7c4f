"""``couchdiscover --help`` and ``--version``: at once, and as the program is."""

import re
import subprocess
import sys

import pytest
import typer.main

from couchdiscover import __version__
from couchdiscover.cli.app import app
from couchdiscover.errors import CouchdiscoverError, Denied, NotSo, TimedOut, Unsafe, UsageProblem
from couchdiscover.frontpage import PAGE
from tests.conftest import Command

COMMANDS = typer.main.get_command(app)


def test_the_page_lists_every_command_and_no_other() -> None:
    listed = re.findall(r"^  (\w+)  +[A-Z]", PAGE.partition("Commands:")[2], re.MULTILINE)
    assert listed == list(COMMANDS.commands)  # type: ignore[attr-defined]


def test_the_page_lists_every_general_option_and_no_other() -> None:
    known = {name for option in COMMANDS.params for name in option.opts} | {"-h", "--help"}
    options = PAGE.partition("Options:")[2].partition("Exit codes:")[0]
    assert set(re.findall(r"(?<!\S)--?[a-z][a-z-]*", options)) == known


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (UsageProblem, "usage"),
        (NotSo, "a person must act"),
        (TimedOut, "timed out"),
        (Denied, "denied"),
        (Unsafe, "unsafe"),
    ],
)
def test_the_page_tells_the_exit_codes(error: type[CouchdiscoverError], words: str) -> None:
    codes = re.findall(r"(?<!\d)(\d)  ([a-z]+(?: [a-z]+)*)", PAGE.partition("Exit codes:")[2])
    assert (str(error.exit_code), words) in codes


def test_the_page_fits_a_terminal() -> None:
    assert max(map(len, PAGE.splitlines())) <= 80


@pytest.mark.parametrize(
    ("arguments", "shown"),
    [
        (["--help"], PAGE),
        (["-h"], PAGE),
        (["--help", "run"], PAGE),  # by way of typer
        (["--version"], f"couchdiscover {__version__}\n"),
        (["--version", "run"], f"couchdiscover {__version__}\n"),
    ],
    ids=["--help", "-h", "--help run", "--version", "--version run"],
)
def test_it_is_the_same_whoever_answers(
    couchdiscover: Command, arguments: list[str], shown: str
) -> None:
    ended = couchdiscover(*arguments, environment={})
    assert (ended.code, ended.out, ended.err) == (0, shown, "")


@pytest.mark.parametrize("option", ["--help", "-h", "--version"])
def test_nothing_is_imported_for_it(option: str) -> None:
    told = (
        "import sys, couchdiscover.__main__ as program\n"
        "before = set(sys.modules)\n"
        "program.main()\n"
        "assert set(sys.modules) == before, set(sys.modules) - before\n"
        "assert 'typer' not in sys.modules\n"
    )
    subprocess.run([sys.executable, "-c", told, option], check=True, capture_output=True)
