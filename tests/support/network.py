"""Tests in a network of their own: a network namespace of Linux, with nothing in it but loopback.

Where a system allows it (``unshare --user --net``) no privilege is needed, and nothing of the
machine's own network is touched. Elsewhere the test is skipped, and says so.
"""

import os
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from xml.etree import ElementTree

import pytest

INSIDE = "COUCHDISCOVER_TEST_NETWORK"
"""Set in the environment of a test that is in a network of its own already."""

SIX = "fd00:c0::"
"""The prefix of the IPv6 addresses of ``IPV6``."""

IPV6 = f"""
ip link set lo up
for number in $(seq 1 96); do
  echo "addr add {SIX}$(printf %x "$number")/128 dev lo nodad"
done | ip -6 -batch -
ip route add 10.99.0.0/24 dev lo
"""
"""Ninety-six IPv6 addresses on loopback; 10.99.0.0/24 is a network that swallows every packet."""

ONE_ADDRESS = """
ip link set lo up
ip addr del 127.0.0.1/8 dev lo
ip addr add 127.0.0.1/32 dev lo
"""
"""127.0.0.1 and nothing else, as on macOS."""


@dataclass(frozen=True)
class _Outcome:
    """What came of a test in a network of its own; both texts are empty where it passed."""

    failure: str = ""
    skipped: str = ""


_outcomes: dict[str, _Outcome] = {}


def run_there(test: pytest.Item, setup: str) -> None:
    """Runs a test in a network that a script of ``ip`` commands has set up.

    With it go those after it that want the same network: they share a process, and their outcomes
    are kept. Skips where there can be none, or where the test skips itself there; fails where it
    fails.
    """
    if test.nodeid not in _outcomes:
        rest = test.session.items[test.session.items.index(test) :]
        same = [each.nodeid for each in rest if _setup(each) == setup]
        _outcomes.update(_run(same, test.config.rootpath, setup))
    outcome = _outcomes[test.nodeid]
    if outcome.failure:
        pytest.fail(f"in its own network:\n{outcome.failure}", pytrace=False)
    if outcome.skipped:
        pytest.skip(f"skipped in its own network: {outcome.skipped}")


def _setup(test: pytest.Item) -> object:
    marker = test.get_closest_marker("own_network")
    return marker and marker.args[0]


def _run(tests: Sequence[str], root: Path, setup: str) -> dict[str, _Outcome]:
    """Runs tests, by their node ids, in one process and one network."""
    shell = ["unshare", "--user", "--map-root-user", "--net", "sh", "-ec"]
    try:
        ready = subprocess.run([*shell, setup], capture_output=True, text=True, check=False)
    except FileNotFoundError:
        pytest.skip("a network of the test's own needs Linux's unshare and ip: not tried")
    if ready.returncode:
        pytest.skip(f"this system gives a test no network of its own: {ready.stderr.strip()}")
    with tempfile.TemporaryDirectory() as folder:
        pytest_ = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-n", "0"]
        results = Path(folder, "results.xml")
        where = [f"--basetemp={folder}/pytest", f"--junitxml={results}"]
        ended = subprocess.run(
            [*shell, f'{setup}\nexec "$@"', "sh", *pytest_, *where, *tests],
            cwd=root,
            env={**os.environ, INSIDE: "yes"},
            capture_output=True,
            text=True,
            check=False,
        )
        everything = _Outcome(f"{ended.stdout}\n{ended.stderr}")
        found = _read(results) if results.exists() else {}
    return {test: found.get(_case(test), everything) for test in tests}


def _case(test: str) -> tuple[str, str]:
    """A node id as JUnit's XML has it: the module and the test."""
    path, _, name = test.partition("::")
    return path.removesuffix(".py").replace("/", "."), name


def _read(results: Path) -> dict[tuple[str, str], _Outcome]:
    found = {}
    for case in ElementTree.parse(results).iter("testcase"):
        outcome = _Outcome()
        for part in case:
            if part.tag in ("failure", "error"):
                outcome = _Outcome(failure=part.text or part.tag)
            elif part.tag == "skipped":
                outcome = _Outcome(skipped=part.get("message") or part.tag)
        found[case.get("classname", ""), case.get("name", "")] = outcome
    return found
