"""Every command line, option and variable in the examples and texts, held against the program."""

import re
from pathlib import Path

import pytest
import typer.main
from typer.core import TyperGroup

from couchdiscover.cli.app import app
from couchdiscover.cli.options import Options
from couchdiscover.cli.settings import build_log_settings, build_settings
from couchdiscover.errors import UsageProblem
from tests.examples.conftest import (
    FOLDERS,
    ROOT,
    command_lines,
    containers,
    documents,
    texts,
    words,
)

PROGRAM = typer.main.get_command(app)
assert isinstance(PROGRAM, TyperGroup)
COMMANDS = PROGRAM.commands


def parse(arguments: list[str]) -> None:
    """Raises what the program would raise at these arguments."""
    named = bool(arguments) and not arguments[0].startswith("-")
    name, *rest = arguments if named else ["run", *arguments]
    build_settings(Options(**COMMANDS[name].make_context(name, rest).params), {})


@pytest.mark.parametrize(("where", "arguments"), list(command_lines()), ids=str)
def test_the_examples_command_lines(where: str, arguments: list[str]) -> None:
    parse(arguments)


def test_command_lines_are_found_everywhere() -> None:
    folders = {where.split("/")[0] for where, _ in command_lines()}
    assert folders == set(FOLDERS)


@pytest.mark.parametrize(
    ("arguments", "error"),
    [(["run", "--statefulsets=x"], Exception), (["run", "--timeout=5x"], UsageProblem)],
)
def test_a_wrong_one_would_be_noticed(arguments: list[str], error: type[Exception]) -> None:
    with pytest.raises(error):
        parse(arguments)


def known_variables() -> set[str]:
    shown = {
        str(parameter.envvar)
        for command in COMMANDS.values()
        for parameter in command.params
        if parameter.envvar
    }
    heeded = build_log_settings(Options(), {"LOG_FORMAT": "json", "LOG_LEVEL": "DEBUG"})
    assert (heeded.format, heeded.level) == ("json", "DEBUG")
    return shown | {"LOG_FORMAT", "LOG_LEVEL"}


def test_every_variable_is_the_programs() -> None:
    told = words(r"\bCOUCHDISCOVER_[A-Z_]+\b", texts())
    assert told
    assert told <= known_variables()


def test_couchdiscovers_containers_are_given_what_it_reads() -> None:
    known = known_variables() | {"COUCHDB_USER", "COUCHDB_PASSWORD", "POD_NAME", "POD_NAMESPACE"}
    for document in documents():
        for each in containers(document.pod) if document.pod else ():
            if "/couchdiscover:" in each["image"]:
                names = {entry["name"] for entry in each.get("env", [])}
                assert {"COUCHDB_USER", "COUCHDB_PASSWORD"} <= names <= known, str(document)


@pytest.mark.parametrize("path", texts(), ids=lambda path: str(path.relative_to(ROOT)))
def test_every_option_that_is_told_of(path: Path) -> None:
    """In code spans of the Markdown, and in YAML comments that speak of no other tool."""
    commands = (PROGRAM, *COMMANDS.values())
    options = {opt for c in commands for p in c.params for opt in (*p.opts, *p.secondary_opts)}
    others = re.compile(
        r"kubectl|helm |podman|docker|--from-literal|--values|--repo|timeout --|\bsed "
    )
    text = path.read_text()
    if path.suffix == ".md":
        spans = re.findall(r"`((?:couchdiscover |--)[^`]*)`", text)
        told = {o for span in spans for o in re.findall(r"(?<!\S)--?[a-z][a-z-]*", span)}
    elif path.suffix == ".yaml":
        comments = [line.partition("# ")[2] for line in text.splitlines()]
        told = {
            option
            for comment in comments
            if not others.search(comment)
            for option in re.findall(r"(?<![\w-])--[a-z][a-z-]*", comment)
        }
    else:
        told = set()
    assert told <= options | {"--help", "--set", "--target"}, path
