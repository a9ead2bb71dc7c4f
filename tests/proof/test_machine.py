"""Whatever happens to a set, in any order, and however often it is run and killed in between."""

from tests.proof.harness import DRAWS
from tests.proof.lives import Make, SimulatedLife, live
from tests.support.processes import Nursery


def test_a_life(make: Make, nursery: Nursery) -> None:
    live(SimulatedLife, make, nursery, 10 * DRAWS)
