"""Tests in a network of their own: a network namespace of Linux, with nothing in it but loopback.

Where a system allows it (``unshare --user --net``) no privilege is needed, and nothing of the
machine's own network is touched. Elsewhere the test is skipped, and says so.
"""

import os
import subprocess
import sys
import tempfile
from pathlib import Path

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


def run_there(test: str, root: Path, setup: str) -> None:
    """Runs a test, by its node id, in a network that a script of ``ip`` commands has set up.

    Skips where there can be none, or where the test skips itself there; fails where it fails.
    """
    shell = ["unshare", "--user", "--map-root-user", "--net", "sh", "-ec"]
    try:
        ready = subprocess.run([*shell, setup], capture_output=True, text=True, check=False)
    except FileNotFoundError:
        pytest.skip("a network of the test's own needs Linux's unshare and ip: not tried")
    if ready.returncode:
        pytest.skip(f"this system gives a test no network of its own: {ready.stderr.strip()}")
    with tempfile.TemporaryDirectory() as folder:
        pytest_ = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider"]
        ended = subprocess.run(
            [*shell, f'{setup}\nexec "$@"', "sh", *pytest_, f"--basetemp={folder}/pytest", test],
            cwd=root,
            env={**os.environ, INSIDE: "yes"},
            capture_output=True,
            text=True,
            check=False,
        )
    if ended.returncode:
        pytest.fail(f"in its own network:\n{ended.stdout}\n{ended.stderr}", pytrace=False)
    if "1 passed" not in ended.stdout:
        pytest.skip(f"skipped in its own network: {ended.stdout.strip().splitlines()[-2:]}")
