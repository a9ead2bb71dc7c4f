"""Feed it anything: answers that go wrong, one, several or all of them, from both servers."""

import pytest

from couchdiscover.sandbox.box import API
from tests.proof.answers import Make, one_wrong, requests_of, some_wrong, stays_wrong
from tests.proof.faults import FAULTS
from tests.proof.harness import DRAWS, all_of, dice
from tests.support.processes import Nursery


@pytest.mark.parametrize("name", FAULTS)
def test_one_answer_gone_wrong(make: Make, nursery: Nursery, name: str) -> None:
    count = requests_of(make, nursery, 3)
    points = list(range(1, count + 1))
    if DRAWS == 1:
        points = sorted({1, 3, *dice(name).sample(points, 3), count - 6, count - 2})

    all_of(points, lambda at: one_wrong(make, nursery, name, at), workers=4)


@pytest.mark.parametrize("where", ["couchdb-0", "couchdb-2", API, "writes", "all"])
def test_an_answer_that_stays_wrong(make: Make, nursery: Nursery, where: str) -> None:
    """From some request on one server, or all writes, or everything: the right code, in time."""

    cases = [(name, draw) for name in FAULTS for draw in range(DRAWS)]
    all_of(cases, lambda drawn: stays_wrong(make, nursery, where, *drawn), workers=8)


def test_answers_go_wrong_at_random(make: Make, nursery: Nursery) -> None:
    """Every request of some runs may go wrong, in any way, fresh or assembled, in any scope."""
    all_of(range(40 * DRAWS), lambda draw: some_wrong(make, nursery, draw), workers=6)
