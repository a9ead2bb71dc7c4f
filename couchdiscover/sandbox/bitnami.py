"""Bitnami's image: what its variables say, in the official image's words.

Facts from its ``libcouchdb.sh`` and ``couchdb-env.sh`` (github.com/bitnami/containers, debian-12).
"""

import re
from collections.abc import Mapping, Sequence

from couchdiscover.sandbox.kubelet import Mount, mounted_file

IMAGE = re.compile(r"(.*/)?bitnami[a-z]*/couchdb")
ETC = "/opt/bitnami/couchdb/etc"


def with_files(variables: Mapping[str, str], mounted: Sequence[Mount]) -> dict[str, str]:
    """The variables with those whose ``_FILE`` names a mounted file."""
    found = dict(variables)
    for name, path in variables.items():
        if name.startswith("COUCHDB_") and name.endswith("_FILE"):
            text = mounted_file(mounted, path)
            if text is not None:
                found[name.removesuffix("_FILE")] = text.rstrip("\n")
    return found


def as_official(variables: Mapping[str, str]) -> dict[str, str]:
    """The same, under the names that the official image has for it.

    The cookie is the sessions' secret; without a node's name it is CouchDB's own.
    """
    node = variables.get("COUCHDB_NODENAME") or "couchdb@127.0.0.1"
    found = {"COUCHDB_USER": "admin", **{k: v for k, v in variables.items() if k != "NODENAME"}}
    flags = [f"-name {node}", found.get("ERL_FLAGS", "")]
    if found.get("COUCHDB_SECRET"):
        flags.append(f"-setcookie {found['COUCHDB_SECRET']}")
    return {**found, "ERL_FLAGS": " ".join(flags)}


def ini(variables: Mapping[str, str]) -> str:
    """Its ``10-bitnami.ini``."""
    values = {
        "port": variables.get("COUCHDB_PORT_NUMBER") or "5984",
        "bind_address": variables.get("COUCHDB_BIND_ADDRESS") or "0.0.0.0",
        "require_valid_user": "true",
    }
    return "[chttpd]\n" + "".join(f"{key} = {value}\n" for key, value in values.items())
