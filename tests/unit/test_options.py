"""The table of options, and the command line that typer makes of it."""

from dataclasses import fields
from typing import Any

import pytest
import typer
import typer.main

from couchdiscover.cli.app import app
from couchdiscover.cli.options import EVERY, Options, read_leniently, takes_options

PROGRAM: Any = typer.main.get_command(app)


def parsed(monkeypatch: pytest.MonkeyPatch, *arguments: str, **variables: str) -> Options:
    """What a command of the table is given."""
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    seen: list[Options] = []

    def run(options: Options) -> int:
        seen.append(options)
        return 0

    small = typer.Typer()
    small.command()(takes_options(run))
    assert small(args=list(arguments), standalone_mode=False) == 0
    return seen[0]


def test_nothing_said_is_the_table_as_it_stands(monkeypatch: pytest.MonkeyPatch) -> None:
    assert parsed(monkeypatch) == Options()
    assert (Options().repair, Options().dry_run, Options().timeout) == (True, False, None)


def test_options_win_over_variables(monkeypatch: pytest.MonkeyPatch) -> None:
    found = parsed(
        monkeypatch,
        *("--timeout", "5s", "-s", "couch", "--no-repair", "--ensure-db", "a", "--ensure-db", "b"),
        COUCHDISCOVER_TIMEOUT="1h",
        COUCHDISCOVER_NAMESPACE="db",
        COUCHDB_CLUSTER_SIZE="3",
        COUCHDISCOVER_REPAIR="true",
    )
    assert found == Options(
        timeout="5s",
        statefulset="couch",
        repair=False,
        ensure_db=["a", "b"],
        namespace="db",
        size="3",
    )


def test_several_databases_in_a_variable(monkeypatch: pytest.MonkeyPatch) -> None:
    found = parsed(monkeypatch, COUCHDISCOVER_ENSURE_DBS="orders,invoices")
    assert found.ensure_db == ["orders,invoices"]


def test_each_command_has_the_options_that_name_it() -> None:
    for command in EVERY:
        made = {parameter.name for parameter in PROGRAM.commands[command].params}
        named = {each.name for each in fields(Options) if command in each.metadata["of"]}
        assert made == named


@pytest.mark.parametrize(
    ("command", "has", "has_not"),
    [
        ("run", {"scope", "timeout", "dry_run", "repair"}, {"wait", "write", "via"}),
        ("plan", {"scope", "repair", "via"}, {"timeout", "dry_run", "wait"}),
        ("check", {"wait", "write", "via", "timeout"}, {"scope", "repair", "dry_run"}),
    ],
)
def test_commands_and_their_options(command: str, has: set[str], has_not: set[str]) -> None:
    made = {parameter.name for parameter in PROGRAM.commands[command].params}
    assert has <= made
    assert not has_not & made


def test_every_option_is_explained_and_named_as_its_field() -> None:
    for each in fields(Options):
        parameter = each.metadata["parameter"]
        assert parameter.help
        names = [parameter.default, *(parameter.param_decls or ())]
        assert any(
            str(name).split("/")[0] == "--" + each.name.rstrip("_").replace("_", "-")
            for name in names
        ), each.name
        assert set(each.metadata["of"]) <= set(EVERY)


@pytest.mark.parametrize(
    ("arguments", "as_json"),
    [
        (["run", "--no-such", "-o", "json"], True),
        (["run", "-o", "json", "--no-such"], True),
        (["run", "-ojson", "--no-such=x"], True),
        (["run", "--output=json", "--timeout"], True),
        (["--output", "JSON", "extra", "-q"], True),
        (["chekc", "-o", "json"], True),
        (["demo", "--nodes", "many"], False),
        (["run", "-o", "yaml", "--no-such"], False),
        (["run", "--statefulset", "-o", "json"], False),  # -o is what the StatefulSet is called
        ([], False),
    ],
)
def test_what_can_be_read_of_a_bad_command_line(arguments: list[str], as_json: bool) -> None:
    assert read_leniently(PROGRAM, arguments).wants_json == as_json


def test_variables_are_read_leniently_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COUCHDISCOVER_OUTPUT", "json")
    monkeypatch.setenv("COUCHDISCOVER_REPAIR", "perhaps")
    monkeypatch.setenv("COUCHDISCOVER_TERMINATION_LOG", "/tmp/message")
    found = read_leniently(PROGRAM, ["run", "--no-such"])
    assert found == Options(output="json", termination_log="/tmp/message")
    assert not read_leniently(PROGRAM, ["run", "--no-such", "-o", "text"]).wants_json
