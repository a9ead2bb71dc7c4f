"""CouchDB 1.x and 2.x, as far as they do not know what is asked of them.

Read in CouchDB's source: src/chttpd/src/chttpd_misc.erl of 2.3 (``handle_node_req``) and
src/couchdb/couch_httpd.erl of 1.x, to which every path of its own is the name of a database.
"""

from couchdiscover.sandbox.couchdb.answers import bad_request, fault, missing
from couchdiscover.sandbox.couchdb.versions import Traits

_NODE_PATHS = ("_config", "_stats", "_system", "_restart")
_SINGLE_PATHS = ("_session", "_all_dbs", "_users", "_replicator", "_active_tasks", "_utils")


def refuse(traits: Traits, path: list[str]) -> None:
    """Raises RefusalError for a path that a release does not know."""
    if not traits.clustered:
        _refuse_single(path)
    elif not traits.names_itself:
        match path:
            case ["_node", _]:
                raise bad_request("Incomplete path to _node request")
            case ["_node", _, below, *_] if below not in _NODE_PATHS:
                raise missing()


def _refuse_single(path: list[str]) -> None:
    name = path[0] if path else ""
    if name.startswith("_") and name not in _SINGLE_PATHS:
        raise fault(
            400,
            "illegal_database_name",
            f"Name: '{name}'. Only lowercase characters (a-z), digits (0-9), and any of the "
            "characters _, $, (, ), +, -, and / are allowed. Must begin with a letter.",
        )
