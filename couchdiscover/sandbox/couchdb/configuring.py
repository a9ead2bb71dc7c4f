"""``/_node/{name}/_config``, and what a change of the configuration sets off in the process."""

import json
from typing import Any

from couchdiscover.sandbox.couchdb.answers import bad_request, crash, missing, not_allowed
from couchdiscover.sandbox.couchdb.member import Member
from couchdiscover.sandbox.couchdb.network import Network
from couchdiscover.sandbox.http import Request, Response

HASHED_LATE = 0.6
"""Seconds for which a new administrator's password shows in clear, since 3.4."""


class Configuring:
    """The configuration of one node, as requests and the process itself change it."""

    def __init__(self, node: Member, network: Network) -> None:
        self._node = node
        self._network = network

    def answer(self, request: Request, where: list[str]) -> Response:
        """Answers ``_config`` and what is below; raises RefusalError."""
        config = self._node.config
        persist = request.headers.get("x-couch-persist") != "false"
        match request.method, where:
            case "GET" | "HEAD", []:
                filled = {name: dict(keys) for name, keys in config.sections.items() if keys}
                return Response(200, filled)
            case "GET" | "HEAD", [section]:
                return Response(200, dict(config.sections.get(section, {})))
            case "GET" | "HEAD", [section, key]:
                value = config.get(section, key)
            case "DELETE", [section, key]:
                value = config.get(section, key)
                if value is not None and (error := config.delete(section, key, persist=persist)):
                    raise bad_request(error)
            case "PUT", [section, key]:
                new = self._value(request)
                value = config.get(section, key, "")
                if error := config.put(section, key, new, persist=persist):
                    raise bad_request(error)
            case _:
                raise not_allowed("GET") if len(where) < 2 else not_allowed("GET", "PUT", "DELETE")
        if value is None:
            raise missing("unknown_config_value")
        # A str as a Response's body would be sent without the quotes.
        return Response(200, json.dumps(value).encode() + b"\n")

    def _value(self, request: Request) -> str:
        try:
            new: Any = request.json()
        except ValueError:
            raise bad_request("invalid UTF-8 JSON") from None
        if not isinstance(new, str):
            if not self._node.traits.checks_config_type:
                raise crash("unknown_error", "function_clause")
            raise bad_request("a JSON string expected")
        value = new.strip()
        if "\n" in value or "\r" in value:
            raise bad_request("Invalid configuration value")
        return value

    def changed(self, section: str, key: str) -> None:
        """What a change sets off in the process."""
        node, network = self._node, self._network
        match section, key:
            case "chttpd_auth" | "couch_httpd_auth", "secret":
                node.secrets.changed()
            case "admins", user if user in node.config.unhashed:
                network.later(HASHED_LATE if node.traits.strong_hashes else 0.0, self._hash)
                network.settle()

    def _hash(self) -> None:
        config = self._node.config
        for user in config.unhashed:
            config.set("admins", user, config.admins[user])
