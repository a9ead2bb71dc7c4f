"""The same against real CouchDB nodes, where COUCHDB_HOME names a release: fewer draws.

Each node is behind a front, so that whatever is asked of it can be counted, killed and spoiled.
"""

from collections.abc import Callable

import pytest

from couchdiscover.sandbox import Sandbox
from tests.proof import crashes, races
from tests.proof.answers import one_wrong, some_wrong, stays_wrong
from tests.proof.crashes import SCENARIOS, Scenario
from tests.proof.faults import FAULTS
from tests.proof.harness import DRAWS, all_of, dice
from tests.proof.lives import RealLife, live
from tests.proof.talk import talk
from tests.support.processes import Nursery

Make = Callable[..., Sandbox]

POSSIBLE = [each for each in SCENARIOS if "node_options" not in each.options]
"""All but those whose nodes listen where nobody can ask them."""


@pytest.mark.parametrize("scenario", POSSIBLE, ids=str)
def test_killed_at_every_write(make_real: Make, nursery: Nursery, scenario: Scenario) -> None:
    """Of a fresh set before and after each; with more draws at every other request, too.

    Where a cluster must be formed first it is a sample, or this alone took half an hour.
    """
    points = crashes.crash_points(make_real, nursery, scenario, writes=DRAWS == 1)
    if DRAWS == 1 and scenario.happens is not None:
        points = dice("real", scenario.name).sample(points, min(4, len(points)))
    all_of(points, lambda point: crashes.crash(make_real, nursery, scenario, point))


@pytest.mark.parametrize("scenario", POSSIBLE, ids=str)
def test_killed_again_and_again(make_real: Make, nursery: Nursery, scenario: Scenario) -> None:
    all_of(range(DRAWS), lambda draw: crashes.crash_often(make_real, nursery, scenario, draw))


@pytest.mark.parametrize("name", FAULTS)
def test_one_answer_gone_wrong(make_real: Make, nursery: Nursery, name: str) -> None:
    def case(draw: int) -> None:
        one_wrong(make_real, nursery, name, dice("real", name, draw).randint(1, 30))

    all_of(range(DRAWS), case)


@pytest.mark.parametrize("where", ["couchdb-0", "writes", "all"])
def test_an_answer_that_stays_wrong(make_real: Make, nursery: Nursery, where: str) -> None:
    names = dice("real", where).sample(sorted(FAULTS), 4) if DRAWS == 1 else sorted(FAULTS)
    all_of(names, lambda name: stays_wrong(make_real, nursery, where, name, 0))


def test_answers_go_wrong_at_random(make_real: Make, nursery: Nursery) -> None:
    all_of(range(4 * DRAWS), lambda draw: some_wrong(make_real, nursery, draw))


@pytest.mark.parametrize(
    "race",
    [
        races.many_at_once,
        races.growing,
        races.replaced_meanwhile,
        races.replaced_while_formed,
        races.repairs,
    ],
)
def test_races(
    make_real: Make, nursery: Nursery, race: Callable[[Make, Nursery, int], None]
) -> None:
    all_of(range(2 * DRAWS), lambda draw: race(make_real, nursery, draw))


def test_servers_that_repeat_what_they_are_sent(make_real: Make, nursery: Nursery) -> None:
    cases = [(how, where) for how in ("echoing", "parroting") for where in ("all", "writes")]
    all_of(cases, lambda case: talk(make_real, nursery, "drift", *case, "text"))


def test_a_life(make_real: Make, nursery: Nursery) -> None:
    live(RealLife, make_real, nursery, 2 * DRAWS)
