"""``[cluster] placement``: how many copies of a new database each zone gets.

By CouchDB's source, src/mem3/src/mem3.erl (``choose_shards``); the answers are recorded of 3.5.2.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from couchdiscover.sandbox.couchdb.answers import crash


def groups(
    placement: str | None, members: Mapping[str, Mapping[str, Any]], copies: int
) -> list[tuple[Sequence[str], int]]:
    """The nodes to choose from, and how many copies they take, zone by zone; raises a 500.

    ``members`` are the bodies of the ``_nodes`` documents. Without a placement all nodes are one
    group of ``copies``. Nodes with ``decom`` are left out.
    """
    allowed = [name for name, body in members.items() if body.get("decom") not in (True, "true")]
    if placement is None:
        return [_group(allowed, copies)]
    found = []
    for rule in filter(None, placement.split(",")):
        zone, _, number = rule.partition(":")
        if not number:
            raise crash("badmatch", rule)
        if not number.isdigit():
            raise crash("unknown_error", "badarg")
        found.append(_group([n for n in allowed if members[n].get("zone") == zone], int(number)))
    return found


def _group(names: Sequence[str], copies: int) -> tuple[Sequence[str], int]:
    if not names:
        raise crash("unknown_error", "no_nodes_in_zone")
    return names, min(copies, len(names))
