"""Run two at once, or ten: any scope, any start, some killed, while the set changes under them."""

from tests.proof.harness import DRAWS, all_of
from tests.proof.races import (
    Make,
    growing,
    lossy,
    many_at_once,
    repairs,
    replaced_meanwhile,
    replaced_while_formed,
    sharing_a_dead_name,
)
from tests.support.processes import Nursery


def test_many_at_once(make: Make, nursery: Nursery) -> None:
    """A fresh set: 2 to 10 processes in set and pod scope, random starts and kills."""
    all_of(range(12 * DRAWS), lambda draw: many_at_once(make, nursery, draw), workers=4)


def test_the_set_grows_while_they_run(make: Make, nursery: Nursery) -> None:
    all_of(range(8 * DRAWS), lambda draw: growing(make, nursery, draw), workers=4)


def test_pods_are_replaced_while_they_run(make: Make, nursery: Nursery) -> None:
    """Of a finished cluster, with and without their volumes; and the data is still there."""
    all_of(range(8 * DRAWS), lambda draw: replaced_meanwhile(make, nursery, draw), workers=4)


def test_a_fresh_pod_is_replaced_while_the_cluster_is_formed(make: Make, nursery: Nursery) -> None:
    all_of(range(8 * DRAWS), lambda draw: replaced_while_formed(make, nursery, draw), workers=4)


def test_repairs_at_once_agree(make: Make, nursery: Nursery) -> None:
    """A rolling restart: each pod repairs its own identity, and a Job all of them."""
    all_of(range(8 * DRAWS), lambda draw: repairs(make, nursery, draw), workers=4)


def test_news_of_members_are_lost(make: Make, nursery: Nursery) -> None:
    """Of several that join at once, some never hear of others, as it happens to real nodes."""
    all_of(range(16 * DRAWS), lambda draw: lossy(make, nursery, draw), workers=8)


def test_a_dead_name_in_common_joins_nobody(make: Make, nursery: Nursery) -> None:
    """Two clusters or more, each with documents, that list the same member, which is gone."""
    all_of(range(8 * DRAWS), lambda draw: sharing_a_dead_name(make, nursery, draw), workers=4)
