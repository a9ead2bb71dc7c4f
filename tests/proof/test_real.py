"""The same against real CouchDB nodes, where COUCHDB_HOME names a release: fewer draws."""

from collections.abc import Callable

import pytest

from couchdiscover.sandbox import Sandbox
from tests.proof import test_answers, test_crashes, test_machine, test_races, test_secrets
from tests.proof.faults import FAULTS
from tests.proof.harness import DRAWS, Nursery, all_of
from tests.proof.test_crashes import SCENARIOS, Scenario

Make = Callable[..., Sandbox]

POSSIBLE = [each for each in SCENARIOS if "node_options" not in each.options]
"""All but those whose nodes listen where nobody can ask them."""


@pytest.mark.parametrize("scenario", POSSIBLE, ids=str)
def test_killed_at_every_write(make_real: Make, nursery: Nursery, scenario: Scenario) -> None:
    """Before and after each; with more draws at every other request, too."""
    points = test_crashes.crash_points(make_real, nursery, scenario, writes=DRAWS == 1)
    all_of(points, lambda point: test_crashes.crash(make_real, nursery, scenario, point))


@pytest.mark.parametrize("scenario", POSSIBLE, ids=str)
def test_killed_again_and_again(make_real: Make, nursery: Nursery, scenario: Scenario) -> None:
    all_of(range(DRAWS), lambda draw: test_crashes.crash_often(make_real, nursery, scenario, draw))


@pytest.mark.parametrize("name", FAULTS)
def test_answers_gone_wrong(make_real: Make, nursery: Nursery, name: str) -> None:
    def case(draw: int) -> None: ...

    all_of(range(DRAWS), case)
