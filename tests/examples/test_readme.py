"""The README and the page of options, held against the program."""

import re
import tomllib
from pathlib import Path

import pytest
import typer.main
from typer.core import TyperGroup

from couchdiscover import errors
from couchdiscover.cli.app import app
from tests.support.markdown import code, rows

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text()
OPTIONS = rows((ROOT / "docs" / "options.md").read_text(), "| option |")
PROGRAM = typer.main.get_command(app)
assert isinstance(PROGRAM, TyperGroup)
COMMANDS = {name: each for name, each in PROGRAM.commands.items() if name != "demo"}


def test_it_is_short() -> None:
    assert len(README.splitlines()) <= 120


def names(cell: str) -> frozenset[str]:
    return frozenset(name for name in code(cell) if name.startswith("-"))


def test_the_options_are_the_programs() -> None:
    """Their names, their variables, and the commands that have them."""
    known: dict[frozenset[str], tuple[str | None, set[str]]] = {}
    for command, each in COMMANDS.items():
        for parameter in each.params:
            options = frozenset([*parameter.opts, *parameter.secondary_opts])
            variable = parameter.envvar
            assert variable is None or isinstance(variable, str)
            known.setdefault(options, (variable, set()))[1].add(command)
    told = {
        names(option): (next(iter(code(variable)), None), set(commands.split()))
        for option, variable, commands, _ in OPTIONS
    }
    assert told == known


def test_the_defaults_in_the_table_are_the_programs() -> None:
    """What --help says in [default: …] is a value; where the table has one too, it is the same."""
    helps = {
        parameter.opts[0]: getattr(parameter, "help", "") or ""
        for command in COMMANDS.values()
        for parameter in command.params
    }
    compared = 0
    for option, _, _, default in OPTIONS:
        shown = re.search(r"\[default: ([\w./]+)\]", helps.get(code(option)[0], ""))
        if shown and code(default):
            assert code(default)[0] == shown[1], option
            compared += 1
    assert compared >= 5


def test_the_commands_are_the_programs() -> None:
    assert isinstance(PROGRAM, TyperGroup)
    told = {code(cell)[0] for cell, _ in rows(README, "| command |")}
    assert told == set(PROGRAM.commands)


def test_the_exit_codes_table_is_the_programs() -> None:
    classes = [each for each in vars(errors).values() if isinstance(each, type)]
    known = {
        (each.exit_code, each.result)
        for each in classes
        if issubclass(each, errors.CouchdiscoverError)
    }
    known |= {(0, "done")}
    known |= {
        (errors.Interrupted(number, name).exit_code, errors.Interrupted.result)
        for number, name in ((2, "SIGINT"), (15, "SIGTERM"))
    }
    told = {
        (int(number), code(result)[0])
        for numbers, result, *_ in rows(README, "| code |")
        for number in numbers.split(",")
    }
    assert told == known


def test_what_is_installed_is_what_is_called() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert set(project["scripts"]) == {"couchdiscover", "kubectl-couchdiscover"}
    assert "`kubectl couchdiscover`" in README
    (oldest,) = re.findall(r"Python (\d\.\d+) and newer", README)
    assert project["requires-python"] == f">={oldest}"


@pytest.mark.parametrize(
    "path",
    [
        *(ROOT / name for name in ("README.md", "CONTRIBUTING.md", "examples/README.md")),
        *sorted((ROOT / "docs").glob("*.md")),
    ],
    ids=lambda path: str(path.relative_to(ROOT)),
)
def test_whatever_is_named_is_there(path: Path) -> None:
    spans = {word for span in code(path.read_text()) for word in span.split()}
    folders = r"(?:examples|couchdiscover|tests|docs|\.ci|\.github)"
    for name in {word for word in spans if re.fullmatch(rf"{folders}/[\w./-]+", word)}:
        assert (ROOT / name).exists(), name
