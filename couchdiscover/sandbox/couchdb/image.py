"""What the official image makes of a container's environment when it starts CouchDB.

By apache/couchdb-docker's entry point: it prints what it is given into an ini file and appends
``-name couchdb@$NODENAME`` to the arguments of the Erlang machine.
"""

import shlex
from collections.abc import Mapping
from typing import Any

NO_NAME = "nonode@nohost"
"""What a node is called that was given no name; it connects to nobody."""


def boot_options(environment: Mapping[str, str]) -> dict[str, Any]:
    """Arguments of ``Node`` for a container of the official image with this environment.

    Values come as the kubelet would set them; what the ini file loses of them is lost by ``Node``.
    ``{"admins": {}}`` means that no administrator is given: the image then refuses to start.
    """
    flags = shlex.split(environment.get("ERL_FLAGS", ""))
    options: dict[str, Any] = {"name": NO_NAME, "secret": environment.get("COUCHDB_SECRET") or None}
    if name := environment.get("NODENAME"):
        options["name"] = f"couchdb@{name}"
    elif name := _value(flags, "-name"):
        options["name"] = name
    elif name := _value(flags, "-sname"):
        options |= {"name": name, "short_names": True}
    user, password = environment.get("COUCHDB_USER"), environment.get("COUCHDB_PASSWORD")
    options["admins"] = {user: password} if user and password else {}
    cookie = _value(flags, "-setcookie") or environment.get("COUCHDB_ERLANG_COOKIE")
    if cookie:
        options["cookie"] = cookie
    if zone := environment.get("COUCHDB_ZONE"):
        options["zone"] = zone
    return options


def _value(flags: list[str], name: str) -> str | None:
    """What follows a flag, None where it is not given."""
    if name not in flags[:-1]:
        return None
    return flags[flags.index(name) + 1]
