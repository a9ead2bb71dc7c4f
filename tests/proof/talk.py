"""Runs whose servers repeat whatever they are sent."""

from collections.abc import Callable
from typing import Any

from couchdiscover.sandbox import Sandbox
from couchdiscover.sandbox.box import Proceed
from couchdiscover.sandbox.http import Request
from tests.proof.faults import FAULTS
from tests.proof.harness import TOKEN, Guard, age, secrets_of, silent
from tests.support.processes import Nursery

Make = Callable[..., Sandbox]


def talk(
    make: Make, nursery: Nursery, situation: str, how: str, where: str, log_format: str
) -> None:
    """A run whose answers repeat it, in one of some situations: nothing secret comes out."""
    with make(3, token=TOKEN, secret=situation != "no secret") as box:
        if situation == "drift":
            assert nursery(environment=box.environment()).code == 0
            age(box, box.pods)
            box.nodes["couchdb-1"].restart_as_official_image()

        async def echo(number: int, pod: str, request: Request, proceed: Proceed) -> Any:
            write = where == "writes" and request.method != "GET"
            if write or where in (pod, "all"):
                return await FAULTS[how](pod, request, proceed)
            return await proceed()

        Guard(box, echo)
        environment = box.environment() | {"COUCHDISCOVER_LOG_FORMAT": log_format}
        wrong = "another-marked/password+ü"
        if situation == "wrong password":
            environment |= {"COUCHDB_USER": "admin", "COUCHDB_PASSWORD": wrong}
        ended = nursery("--timeout", "1.5s", environment=environment)
        assert ended.code in (4, 5), ended.err
        silent(ended, secrets_of(box, wrong))
