"""plan and check only look, whatever they are told; a check that writes leaves nothing behind."""

import time
from collections.abc import Callable
from typing import Any

import pytest

from couchdiscover.couch.write_test import NAME
from couchdiscover.sandbox import Sandbox
from couchdiscover.sandbox.box import Proceed
from couchdiscover.sandbox.http import Request, Response, Wire
from tests.proof.faults import FAULTS
from tests.proof.harness import (
    DRAWS,
    SYSTEM,
    TOKEN,
    Guard,
    all_of,
    ask,
    dice,
    secrets_of,
    silent,
    whole,
)
from tests.support.processes import Nursery

Make = Callable[..., Sandbox]

QUICK = ("--request-timeout", "0.5s")


def looked_only(box: Sandbox, before: int) -> None:
    """No write since, but for the sessions that the way through the API server needs."""
    writes = [each for each in box.writes()[before:] if each.path != "/_session"]
    assert writes == []


@pytest.mark.parametrize("via", ["direct", "api-proxy"])
@pytest.mark.parametrize("command", ["plan", "check"])
def test_looking_changes_nothing_whatever_is_answered(
    make: Make, nursery: Nursery, command: str, via: str
) -> None:
    """One answer goes wrong, or all from one on; the set is whole, fresh or has lost a volume."""
    arguments = (command, "--via", via, *QUICK)

    def case(drawn: tuple[str, int]) -> None:
        name, draw = drawn
        draws = dice("looking", command, via, name, draw)
        begin, stays = draws.randint(1, 18), draws.random() < 0.5
        with make(3, token=TOKEN) as box:
            state = draws.choice(["whole", "fresh", "lost"])
            if state != "fresh":
                assert nursery(environment=box.environment()).code == 0
            if state == "lost":
                box.replace("couchdb-1", data=False)
            before = len(box.writes())
            spoiled = 0

            async def spoil(number: int, pod: str, request: Request, proceed: Proceed) -> Any:
                nonlocal spoiled
                if number < begin or (spoiled and not stays):
                    return await proceed()
                spoiled += 1
                return await FAULTS[name](pod, request, proceed)

            guard = Guard(box, spoil)
            ended = nursery(*arguments, environment=box.environment())
            allowed = {0, 3, 4}
            if name in ("401", "403"):
                # 2: without the Secret it is not known whether a session would change the node.
                allowed |= {5} if via == "direct" else {2, 5}
            assert ended.code in allowed, (state, begin, stays, ended.err[-2000:])
            assert ended.json["exit_code"] == ended.code
            if state != "whole":
                assert ended.code != 0, (state, begin, stays, ended.out)
            silent(ended, secrets_of(box))
            looked_only(box, before)
            guard.hook = None
            if name.startswith("refused"):
                time.sleep(0.5)  # until it is back: one look waits for nobody
            patient = (command, "--via", via)  # nothing is wrong now but a busy machine
            ended = nursery(*patient, environment=box.environment())
            assert (ended.code == 0) == (state == "whole"), ended.err
            looked_only(box, before)

    all_of([(name, draw) for name in FAULTS for draw in range(DRAWS)], case, workers=8)


def databases(box: Sandbox) -> set[str]:
    return set(ask(box, "couchdb-0", "/_all_dbs").json()) - SYSTEM


def test_a_check_that_writes_killed_anywhere(make: Make, nursery: Nursery) -> None:
    """It leaves at most one database, whose name the next one knows; never a thing of others."""

    def prepared(box: Sandbox) -> None:
        assert nursery(environment=box.environment()).code == 0
        assert ask(box, "couchdb-0", "/kept", "PUT").ok
        assert ask(box, "couchdb-0", "/kept/doc", "PUT", {"a": 1}).ok

    with make(3) as box:
        prepared(box)
        guard = Guard(box)
        assert nursery("check", "--write", environment=box.environment()).code == 0
        count = guard.count
        assert databases(box) == {"kept"}

    def case(point: tuple[int, bool]) -> None:
        at, after = point
        with make(3) as box:
            prepared(box)

            async def kill(number: int, pod: str, request: Request, proceed: Proceed) -> Any:
                if number != at:
                    return await proceed()
                answer: Response | Wire = await proceed() if after else Wire(reset=True)
                running.kill()
                return answer

            guard = Guard(box, kill)
            running = nursery.start("check", "--write", environment=box.environment())
            assert running.wait().code in (-9, 0)  # 0: this one had fewer requests
            guard.hook = None
            left = databases(box) - {"kept"}
            assert len(left) <= 1
            assert all(NAME.fullmatch(name) for name in left)
            ended = nursery("check", "--write", environment=box.environment())
            assert ended.code == 0, ended.err
            assert databases(box) == {"kept"} | left
            assert ask(box, "couchdb-1", "/kept/doc").json()["a"] == 1
            whole(box)

    all_of([(at, after) for at in range(1, count + 1) for after in (False, True)], case)
