"""What is secret is in no byte of any output: not even where the servers repeat all they are sent.

Every other proof looks into its runs' output, too; these have the servers talk.
"""

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from couchdiscover.sandbox import Sandbox
from couchdiscover.sandbox.box import API, Proceed
from couchdiscover.sandbox.http import Request, Response
from tests.proof.faults import refused
from tests.proof.harness import TOKEN, Guard, all_of, secrets_of, silent
from tests.proof.talk import talk
from tests.support.processes import Nursery

Make = Callable[..., Sandbox]


@pytest.mark.parametrize("situation", ["fresh", "no secret", "drift", "wrong password"])
def test_servers_that_repeat_what_they_are_sent(
    make: Make, nursery: Nursery, situation: str
) -> None:
    cases = [
        (how, where, log_format)
        for how in ("echoing", "parroting")
        for where in ("all", "writes", API, "couchdb-0")
        for log_format in ("text", "json")
    ]
    all_of(cases, lambda case: talk(make, nursery, situation, *case), workers=6)


def test_wrong_logins_at_servers_that_repeat_them(make: Make, nursery: Nursery) -> None:
    with make(2, token=TOKEN) as box:

        async def refuse(number: int, pod: str, request: Request, proceed: Proceed) -> Any:
            if pod == API:
                return await proceed()
            sent = request.headers.get("authorization", "")
            return Response(401, {"error": sent, "reason": sent}, {"www-authenticate": sent})

        Guard(box, refuse)
        ended = nursery("--timeout", "10s", environment=box.environment())
        assert ended.code == 5
        silent(ended, secrets_of(box))


@pytest.mark.parametrize("filler", [60, 70, 190, 195, 199])
def test_a_secret_is_not_cut_in_two(make: Make, nursery: Nursery, filler: int) -> None:
    """Long reasons are cut short: what is left must not be the secret's first half."""
    with make(1, token=TOKEN) as box:
        password = box.deployment.password

        async def refuse(number: int, pod: str, request: Request, proceed: Proceed) -> Any:
            text = "x" * filler + password
            return await refused(500, text, text)(pod, request, proceed)

        Guard(box, refuse)
        environment = box.environment() | {"COUCHDB_USER": "admin", "COUCHDB_PASSWORD": password}
        ended = nursery("--timeout", "1s", environment=environment)
        assert ended.code == 4
        for text in (ended.out, ended.err, ended.termination):
            assert password[:5] not in text


def test_no_argument_of_the_process_is_secret(make: Make, tmp_path: Path) -> None:
    """A process of the command from outside: its arguments, as anybody on the machine sees."""
    if not Path("/proc/self/cmdline").exists():
        pytest.skip("no /proc here")
    with make(2, token=TOKEN) as box:
        seen: set[bytes] = set()

        async def look(number: int, pod: str, request: Request, proceed: Proceed) -> Any:
            for path in Path("/proc").glob("[0-9]*/cmdline"):
                try:
                    seen.add(path.read_bytes())
                except OSError:
                    continue  # it has ended
            return await proceed()

        Guard(box, look)
        process = subprocess.run(
            [sys.executable, "-m", "couchdiscover"],
            env={"PATH": os.environ["PATH"], "HOME": str(tmp_path), **box.environment()},
            cwd=tmp_path,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        assert process.returncode == 0, process.stderr
        assert any(b"couchdiscover" in arguments for arguments in seen)
        for secret in secrets_of(box):
            assert not [arguments for arguments in seen if secret.encode() in arguments]
            assert secret not in process.stdout + process.stderr
