"""One nursery for all proofs, and the seed in the header of whatever fails."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from couchdiscover.sandbox import Sandbox
from tests.proof.harness import COOKIE, DRAWS, PASSWORD, SEED
from tests.support.processes import Nursery
from tests.support.releases import real_homes


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """All tests of this folder are proofs: `pytest -m proof` runs them, `pytest` does not."""
    for item in items:
        if item.path.is_relative_to(Path(__file__).parent):
            item.add_marker(pytest.mark.proof)


@pytest.fixture(scope="session")
def nursery() -> Iterator[Nursery]:
    """Starts the command, fast."""
    with Nursery(measured=False) as opened:
        yield opened


@pytest.fixture(autouse=True)
def _seed() -> None:
    print(f"COUCHDISCOVER_SEED={SEED} COUCHDISCOVER_DRAWS={DRAWS}")  # noqa: T201 - shown where a test fails


@pytest.fixture
def make() -> Callable[..., Sandbox]:
    """Makes sandboxes without delays and with marked secrets; to be opened with ``with``."""

    def made(nodes: int = 3, **options: Any) -> Sandbox:
        return Sandbox(nodes, **{"pace": 0.0, "password": PASSWORD, "cookie": COOKIE, **options})

    return made


@pytest.fixture
def make_real(make: Callable[..., Sandbox]) -> Callable[..., Sandbox]:
    """Makes the same of real nodes, each behind a front; they have a pace of their own."""
    homes = real_homes()
    if not homes:
        pytest.skip("no real nodes: COUCHDB_HOME names no installed CouchDB release")

    def made(nodes: int = 3, **options: Any) -> Sandbox:
        # One release is enough here; where there are several it is the first that is named.
        return make(nodes, real=homes[0], front=True, **options)

    return made
