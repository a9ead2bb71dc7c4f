"""The README's tables and paths, held against the program."""

import re
from pathlib import Path

import pytest
import typer.main
from typer.core import TyperGroup

from couchdiscover import errors
from couchdiscover.cli.app import app

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text()


def rows(after: str) -> list[list[str]]:
    """The cells of the first table behind a text."""
    found = re.search(r"\n((?:\|.*\n)+)", README[README.index(after) :])
    assert found
    lines = found[1].splitlines()[2:]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]


def code(text: str) -> list[str]:
    text = re.sub(r"^```.*?^```", "", text, flags=re.DOTALL | re.MULTILINE)
    return re.findall(r"`([^`]+)`", text)


def test_the_options_table_is_the_programs() -> None:
    program = typer.main.get_command(app)
    assert isinstance(program, TyperGroup)
    known = {}
    for parameter in program.commands["run"].params:
        names = frozenset([*parameter.opts, *parameter.secondary_opts])
        known[names] = parameter.envvar
    told = {}
    for option, variable, _ in rows("<!-- options: compared"):
        names = frozenset(name for name in code(option) if name.startswith("-"))
        told[names] = code(variable)[0] if code(variable) else None
    assert told == known


def test_the_defaults_in_the_table_are_the_programs() -> None:
    """What --help says in [default: …] is a value; where the table has one too, it is the same."""
    program = typer.main.get_command(app)
    assert isinstance(program, TyperGroup)
    helps = {
        parameter.opts[0]: getattr(parameter, "help", "") or ""
        for parameter in program.commands["run"].params
    }
    compared = 0
    for option, _, default in rows("<!-- options: compared"):
        shown = re.search(r"\[default: ([\w./]+)\]", helps[code(option)[0]])
        if shown and code(default):
            assert code(default)[0] == shown[1], option
            compared += 1
    assert compared >= 5


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
        for numbers, result, *_ in rows("## Exit codes")
        for number in numbers.split(",")
    }
    assert told == known


@pytest.mark.parametrize(
    "path", [ROOT / "README.md", ROOT / "examples" / "README.md"], ids=lambda p: p.parent.name
)
def test_whatever_is_named_is_there(path: Path) -> None:
    text = path.read_text()
    links = [link for link in re.findall(r"\]\(([^)#]+)", text) if "://" not in link]
    for link in links:
        assert (path.parent / link).exists(), link
    spans = {word for span in code(text) for word in span.split()}
    named = {w for w in spans if re.fullmatch(r"(?:examples|couchdiscover|tests|\.ci)/[\w./-]+", w)}
    for name in named:
        assert (ROOT / name).exists(), name
    for module in {w for w in spans if re.fullmatch(r"\w+\.py", w)}:
        assert list((ROOT / "couchdiscover").rglob(module)), module
    if path.parent == ROOT:
        assert named
