"""The same with many at once, with an end."""

import threading
import time
from collections.abc import Callable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from couchdiscover.net.deadline import Deadline
from couchdiscover.net.workers import LIMIT, for_each


@settings(max_examples=25, deadline=None)
@given(st.lists(st.integers(), max_size=3 * LIMIT))
def test_results_come_in_the_order_of_the_items(items: list[int]) -> None:
    assert for_each(items, lambda item: item * 2, 60) == [item * 2 for item in items]


def test_all_are_at_work_at_once() -> None:
    together = threading.Barrier(LIMIT, timeout=30)
    assert for_each(range(LIMIT), lambda item: together.wait() >= 0, 60) == [True] * LIMIT


def test_no_more_threads_than_the_limit() -> None:
    lock, working, most = threading.Lock(), 0, 0

    def work(_: int) -> None:
        nonlocal working, most
        with lock:
            working += 1
            most = max(most, working)
        time.sleep(0.002)
        with lock:
            working -= 1

    for_each(range(4 * LIMIT), work, 60)
    assert 1 < most <= LIMIT


@pytest.fixture
def hang() -> "Callable[[int], int]":
    """Work that does not end for odd items, until the test is over."""
    over = threading.Event()

    def work(item: int) -> int:
        if item % 2:
            over.wait(30)
        return item

    return work


@pytest.mark.parametrize(
    ("items", "expected"),
    [([1], [None]), ([0], [0]), ([0, 1, 2, 3], [0, None, 2, None])],
)
def test_what_is_not_done_in_time_is_left_behind(
    hang: Callable[[int], int], items: list[int], expected: list[int | None]
) -> None:
    began = Deadline(60)
    assert for_each(items, hang, 0.2) == expected
    assert began.elapsed < 5
    assert all(thread.daemon for thread in threading.enumerate() if "labour" in thread.name)


def test_what_has_not_begun_in_time_does_not_begin_any_more() -> None:
    begun: list[int] = []
    over = threading.Event()

    def work(item: int) -> None:
        begun.append(item)
        over.wait(30)

    assert for_each(range(2 * LIMIT), work, 0.2) == [None] * (2 * LIMIT)
    over.set()
    time.sleep(0.1)
    assert len(begun) == LIMIT


@pytest.mark.parametrize("items", [[1], [1, 2, 3]])
@pytest.mark.parametrize("error", [ValueError("no"), KeyboardInterrupt("no")])
def test_what_work_raises_is_raised_here(items: list[int], error: BaseException) -> None:
    def work(item: int) -> None:
        if item == 1:
            raise error

    with pytest.raises(type(error), match="no") as caught:
        for_each(items, work, 60)
    assert caught.value is error
