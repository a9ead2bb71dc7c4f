"""Kill it anywhere and run it again: SIGKILL right before and after every request of a run."""

from functools import partial

import pytest

from tests.proof.crashes import SCENARIOS, Make, Scenario, crash, crash_often, crash_points
from tests.proof.harness import (
    DRAWS,
    all_of,
)
from tests.support.processes import Nursery


@pytest.mark.parametrize("scenario", SCENARIOS, ids=str)
def test_every_crash_point(make: Make, nursery: Nursery, scenario: Scenario) -> None:
    for pace in [0.0] if DRAWS == 1 else [0.0, 0.1, 1.0]:
        points = crash_points(make, nursery, scenario, pace)
        all_of(points, partial(crash, make, nursery, scenario, pace=pace))


@pytest.mark.parametrize("scenario", SCENARIOS, ids=str)
def test_killed_again_and_again(make: Make, nursery: Nursery, scenario: Scenario) -> None:
    """Runs that are killed at random requests, one after the other, get there in the end too."""
    all_of(range(2 * DRAWS), lambda draw: crash_often(make, nursery, scenario, draw))
