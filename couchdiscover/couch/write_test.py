"""The writing part of ``check``: a document through one node, read through every other, removed."""

import re
import secrets
import time
from collections.abc import Sequence
from dataclasses import dataclass

from couchdiscover.couch.client import CouchFailure, CouchNode, ErrorAnswer, Fleet
from couchdiscover.errors import Denied
from couchdiscover.net.deadline import Deadline
from couchdiscover.net.workers import for_each
from couchdiscover.output.log import LOGGER
from couchdiscover.state.nodes import NodeView
from couchdiscover.state.topology import Address, Pod, Topology

NAME = re.compile(r"couchdiscover-check-([0-9]{1,12})-[0-9a-f]{8}")
"""The test database's name has the time it was made, in Unix seconds, and is nobody else's."""

LEFTOVER_SECONDS = 3600
"""Age at which a test database is nobody's any more: its process was killed."""

DOCUMENT = "written-by-couchdiscover"

REMOVALS = 3
PAUSE = 0.2
"""Seconds between two tries to read or remove what may not have arrived yet."""


@dataclass(frozen=True, slots=True)
class Written:
    """What came of it: ``problems`` by the pod, and ``warnings``."""

    problems: tuple[tuple[str, str], ...] = ()
    warnings: Sequence[str] = ()


def write_and_read(topology: Topology, nodes: Sequence[NodeView], fleet: Fleet) -> Written:
    """Tries the cluster with a document of our own.

    Whatever ends it, a signal too, the database is removed; what could not be is by a later check.
    """
    doors = [(pod, node.address) for node in nodes if (pod := topology.pod(node.pod))]
    (first, address), *others = doors
    writer = fleet.node(first, address)
    _remove_leftovers(writer)
    name = f"couchdiscover-check-{int(time.time())}-{secrets.token_hex(4)}"
    warnings: list[str] = []
    created = False
    try:
        try:
            writer.create_database(name)
            created = True
            status = writer.store(name, DOCUMENT, {"through": first.name})
        except CouchFailure as failure:
            return Written(((first.name, f"to store a document: {failure}"),))
        if status == 202:
            warnings.append(
                f"a document written through {first.name} was taken by fewer than half of its "
                "copies (202)"
            )
        problems = for_each(
            others,
            lambda door: _read(fleet.node(*door), name, first.name, fleet.access.request_timeout),
            fleet.patience,
        )
        return Written(
            tuple(
                (pod.name, "to answer in time" if problem is None else problem)
                for (pod, _), problem in zip(others, problems, strict=True)
                if problem != ""
            ),
            warnings,
        )
    finally:
        # On connections and a clock of its own: a signal may have come in the midst of a request,
        # or the deadline passed.
        spare = Fleet(fleet.access, Deadline(0))
        left = _remove(name, doors, spare, expected=created)
        if left:
            LOGGER.warning(left)
            warnings.append(left)


def _read(client: CouchNode, database: str, through: str, seconds: float) -> str:
    """The empty string where the document is read; else what is waited for in vain."""
    until = time.monotonic() + seconds
    while True:
        try:
            found = client.document(database, DOCUMENT).get("through")
        except ErrorAnswer as failure:  # the news of a new database takes a moment
            if time.monotonic() >= until:
                return f"to read what was written through {through}: {failure}"
        except CouchFailure as failure:
            return f"to read what was written through {through}: {failure}"
        else:
            return "" if found == through else f"to read what was written through {through}"
        time.sleep(PAUSE)


def _remove(
    name: str, doors: Sequence[tuple[Pod, Address]], fleet: Fleet, *, expected: bool
) -> str:
    """Removes the database; one whose making was not answered may come into being a moment late.

    Returns what is left behind, and why, as a sentence; nothing where it is gone.
    """
    problem = ""
    for turn in range(REMOVALS):
        if turn:
            time.sleep(PAUSE)
        pod, address = doors[turn % len(doors)]
        try:
            fleet.node(pod, address).delete_database(name)
        except ErrorAnswer as failure:
            if failure.status == 404 and (expected or turn == REMOVALS - 1):
                return ""
            problem = str(failure)
        except (CouchFailure, Denied) as failure:
            problem = str(failure)
        else:
            return ""
    return (
        f"the test database {name} is left behind ({problem}); `couchdiscover check --write` "
        "removes it when it is an hour old"
    )


def _remove_leftovers(client: CouchNode) -> None:
    now = time.time()
    try:
        for name in sorted(client.databases()):
            found = NAME.fullmatch(name)
            if found and now - int(found[1]) > LEFTOVER_SECONDS:
                client.delete_database(name)
                LOGGER.info(f"removed {name}, which an earlier check has left behind")
    except (CouchFailure, Denied) as failure:
        LOGGER.debug(f"leftovers of earlier checks are not removed: {failure}")
