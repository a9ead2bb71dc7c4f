"""The demo: every scenario ends as it must, and its help names them all."""

import subprocess
import sys
from pathlib import Path

import pytest

from couchdiscover.sandbox.demo import PASSWORD, SCENARIOS
from tests.support.command import Command
from tests.support.processes import Ended


def demo(couchdiscover: Command, *arguments: str, home: Path | None = None) -> Ended:
    """Runs the demo from an empty folder, on simulated nodes where ``home`` names no release."""
    real = {"COUCHDB_HOME": str(home)} if home else {}
    return couchdiscover("demo", *arguments, environment={"COLUMNS": "200", **real})


@pytest.mark.parametrize("scenario", SCENARIOS)
def test_a_scenario_ends_as_it_must(scenario: str, couchdiscover: Command, tmp_path: Path) -> None:
    ended = demo(couchdiscover, "--scenario", scenario)
    assert ended.code == 0, ended.out + ended.err
    codes = [line.split(" after")[0] for line in ended.out.splitlines() if "exit code" in line]
    assert codes == [f"exit code {a.exit_code}, as it should," for a in SCENARIOS[scenario].acts]
    assert PASSWORD not in ended.out + ended.err
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("scenario", ["restore", "clone"])
def test_what_was_stored_is_served_again(scenario: str, couchdiscover: Command) -> None:
    told = demo(couchdiscover, "--scenario", scenario).out
    assert "has 12 through couchdb-0, 12 through couchdb-1, 12 through couchdb-2." in told
    assert told.count("12 documents were stored") == (2 if scenario == "clone" else 1)
    assert ("The original lists 3 members, as before." in told) == (scenario == "clone")


def test_a_scenario_that_does_not_exist_is_told_with_those_that_do(couchdiscover: Command) -> None:
    ended = demo(couchdiscover, "--scenario", "nothing")
    assert ended.code == 2
    for scenario in SCENARIOS:
        assert scenario in ended.err


def test_the_help_names_every_scenario(couchdiscover: Command) -> None:
    shown = demo(couchdiscover, "--help").out
    for scenario in SCENARIOS:
        assert scenario in shown


def test_a_folder_without_a_release_is_told_as_one(couchdiscover: Command, tmp_path: Path) -> None:
    ended = demo(couchdiscover, home=tmp_path / "none")
    assert ended.code == 2
    assert f"no CouchDB in {tmp_path / 'none'}" in ended.err
    assert "COUCHDB_HOME" in ended.err
    assert "Traceback" not in ended.err


@pytest.mark.parametrize("arguments", [True, False])
def test_a_release_that_does_not_start_is_told_in_a_sentence(
    couchdiscover: Command, tmp_path: Path, arguments: bool
) -> None:
    home = tmp_path / "release"
    (home / "bin").mkdir(parents=True)
    (home / "etc").mkdir()
    program = home / "bin" / "couchdb"
    program.write_text("#!/bin/sh\necho no Erlang here\nexit 1\n")
    program.chmod(0o755)
    if arguments:
        (home / "etc" / "vm.args").write_text("-noshell\n")
    ended = demo(couchdiscover, "--nodes", "1", home=home)
    assert ended.code == 2, ended.err
    assert ("no Erlang here" if arguments else "it has no etc/vm.args") in ended.err
    assert str(home) in ended.err
    for word in ("Traceback", "bug in couchdiscover"):
        assert word not in ended.err


def test_it_starts_the_command_by_itself(tmp_path: Path) -> None:
    """The others have it forked; this is ``python -m couchdiscover demo`` as anyone runs it."""
    ended = subprocess.run(
        [sys.executable, "-m", "couchdiscover", "demo"],
        env={"PATH": "/usr/bin:/bin", "HOME": str(tmp_path)},
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert ended.returncode == 0, ended.stdout + ended.stderr
    assert ended.stdout.count("exit code 0, as it should") == 2
    assert "verified on each" in ended.stderr
