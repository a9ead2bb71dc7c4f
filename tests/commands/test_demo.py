"""The demo: every scenario ends as it must, and its help names them all."""

import subprocess
import sys
from pathlib import Path

import pytest

from couchdiscover.sandbox.demo import PASSWORD, SCENARIOS


def demo(
    folder: Path, *arguments: str, home: Path | None = None
) -> subprocess.CompletedProcess[str]:
    """Runs the demo from an empty folder, on simulated nodes where ``home`` names no release."""
    real = {"COUCHDB_HOME": str(home)} if home else {}
    return subprocess.run(
        [sys.executable, "-m", "couchdiscover", "demo", *arguments],
        env={"PATH": "/usr/bin:/bin", "HOME": str(folder), "COLUMNS": "200", **real},
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=180,
        check=False,
    )


@pytest.mark.parametrize("scenario", SCENARIOS)
def test_a_scenario_ends_as_it_must(scenario: str, tmp_path: Path) -> None:
    ended = demo(tmp_path, "--scenario", scenario)
    assert ended.returncode == 0, ended.stdout + ended.stderr
    assert f"exit code {SCENARIOS[scenario].exit_code}, as it should" in ended.stdout
    assert PASSWORD not in ended.stdout + ended.stderr
    assert list(tmp_path.iterdir()) == []


def test_a_scenario_that_does_not_exist_is_told_with_those_that_do(tmp_path: Path) -> None:
    ended = demo(tmp_path, "--scenario", "nothing")
    assert ended.returncode == 2
    for scenario in SCENARIOS:
        assert scenario in ended.stderr


def test_the_help_names_every_scenario(tmp_path: Path) -> None:
    shown = demo(tmp_path, "--help").stdout
    for scenario in SCENARIOS:
        assert scenario in shown


def test_a_folder_without_a_release_is_told_as_one(tmp_path: Path) -> None:
    ended = demo(tmp_path, home=tmp_path / "none")
    assert ended.returncode == 2
    assert f"no CouchDB in {tmp_path / 'none'}" in ended.stderr
    assert "COUCHDB_HOME" in ended.stderr
    assert "Traceback" not in ended.stderr
