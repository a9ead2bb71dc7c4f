"""The demo: every scenario ends as it must, and its help names them all."""

from pathlib import Path

import pytest

from couchdiscover.sandbox.demo import PASSWORD, SCENARIOS
from tests.support.command import Command
from tests.support.processes import Ended


def demo(couchdiscover: Command, *arguments: str) -> Ended:
    """Runs the demo from an empty folder, on simulated nodes."""
    return couchdiscover("demo", *arguments, environment={"COLUMNS": "200"})


@pytest.mark.parametrize("scenario", SCENARIOS)
def test_a_scenario_ends_as_it_must(scenario: str, couchdiscover: Command, tmp_path: Path) -> None:
    ended = demo(couchdiscover, "--scenario", scenario)
    assert ended.code == 0, ended.out + ended.err
    assert f"exit code {SCENARIOS[scenario].exit_code}, as it should" in ended.out
    assert PASSWORD not in ended.out + ended.err
    assert list(tmp_path.iterdir()) == []


def test_a_scenario_that_does_not_exist_is_told_with_those_that_do(couchdiscover: Command) -> None:
    ended = demo(couchdiscover, "--scenario", "nothing")
    assert ended.code == 2
    for scenario in SCENARIOS:
        assert scenario in ended.err


def test_the_help_names_every_scenario(couchdiscover: Command) -> None:
    shown = demo(couchdiscover, "--help").out
    for scenario in SCENARIOS:
        assert scenario in shown
