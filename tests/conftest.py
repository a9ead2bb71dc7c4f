"""The fixtures that the tests share: the real command, and sandboxes for it to run against."""

import functools
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from couchdiscover.sandbox import Sandbox
from tests.support.command import PASSWORD, REAL_PASSWORD, Command
from tests.support.network import INSIDE, run_there
from tests.support.processes import Nursery
from tests.support.releases import SIMULATED, real_homes, release_of


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    """What `pytest` leaves out anyway is not read either: two processes would read it all."""
    left_out = config.getoption("markexpr") == "not proof and not e2e"
    folders = [Path(__file__).with_name(name) for name in ("proof", "e2e")]
    return True if left_out and collection_path in folders else None


@pytest.hookimpl(tryfirst=True)
def pytest_pyfunc_call(pyfuncitem: pytest.Function) -> bool | None:
    """Has what is marked ``own_network`` run there."""
    marker = pyfuncitem.get_closest_marker("own_network")
    if marker is None or INSIDE in os.environ:
        return None
    run_there(pyfuncitem, *marker.args)
    return True


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


NO_RELEASE: list[Path | None] = [None]
"""Skipped: COUCHDB_HOME names no release of CouchDB."""


def _id(release: str | Path | None) -> str:
    if release is None:
        return "real"
    # A release lies in a folder of any name, most often "couchdb"; its version is below.
    return f"simulated-{release}" if isinstance(release, str) else f"real-{release_of(release)}"


@pytest.fixture(params=[*SIMULATED, *(real_homes() or NO_RELEASE)], ids=_id)
def any_sandbox(
    request: pytest.FixtureRequest, sandbox: Callable[..., Sandbox]
) -> Callable[..., Sandbox]:
    """Sandboxes of simulated nodes of every version, and of real ones of every release there is."""
    return _of_release(sandbox, request.param)


@pytest.fixture(params=real_homes() or NO_RELEASE, ids=_id)
def real_sandbox(
    request: pytest.FixtureRequest, sandbox: Callable[..., Sandbox]
) -> Callable[..., Sandbox]:
    """Those of real nodes alone, for what no simulated one can show."""
    return _of_release(sandbox, request.param)


@pytest.fixture(params=[SIMULATED[0], *(real_homes() or NO_RELEASE)], ids=_id)
def newest_or_real(
    request: pytest.FixtureRequest, sandbox: Callable[..., Sandbox]
) -> Callable[..., Sandbox]:
    """The same where the versions do alike: of simulated nodes the newest ones only."""
    return _of_release(sandbox, request.param)


def _of_release(
    sandbox: Callable[..., Sandbox], release: str | Path | None
) -> Callable[..., Sandbox]:
    if isinstance(release, str):
        return functools.partial(sandbox, version=release)
    if release is None:
        pytest.skip("no real nodes: COUCHDB_HOME names no installed CouchDB release")
    return functools.partial(sandbox, real=release, password=REAL_PASSWORD)
