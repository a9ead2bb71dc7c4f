"""The fixtures that the tests share: the real command, and sandboxes for it to run against."""

import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from couchdiscover.sandbox import Sandbox
from tests.support.command import PASSWORD, REAL_PASSWORD, Command
from tests.support.processes import Nursery


@pytest.fixture(scope="session")
def _nursery() -> Iterator[Nursery]:
    with Nursery() as opened:
        yield opened


@pytest.fixture
def couchdiscover(tmp_path: Path, _nursery: Nursery) -> Command:
    """The command."""
    return Command(tmp_path, _nursery)


@pytest.fixture
def sandbox() -> Iterator[Callable[..., Sandbox]]:
    """Makes sandboxes, and takes them down at the end. Delays are a tenth of CouchDB's."""
    made: list[Sandbox] = []

    def make(nodes: int = 3, **options: Any) -> Sandbox:
        options = {"pace": 0.1, "password": PASSWORD, **options}
        box = Sandbox(nodes, **options)
        made.append(box.__enter__())
        return box

    yield make
    for box in reversed(made):
        box.__exit__(None, None, None)


@pytest.fixture(params=["simulated", "real"])
def any_sandbox(
    request: pytest.FixtureRequest, sandbox: Callable[..., Sandbox]
) -> Callable[..., Sandbox]:
    """Sandboxes of simulated nodes, and of real ones where COUCHDB_HOME names a release."""
    if request.param == "simulated":
        return sandbox
    home = os.environ.get("COUCHDB_HOME")
    if not home:
        pytest.skip("COUCHDB_HOME names no CouchDB release: not tried against real nodes")

    def make(nodes: int = 3, **options: Any) -> Sandbox:
        return sandbox(nodes, real=Path(home), password=REAL_PASSWORD, **options)

    return make
