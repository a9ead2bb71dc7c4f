"""Who may do what on a simulated node: passwords, sessions, and the lockout after five failures."""

import base64
import binascii
import hashlib
import hmac
import secrets
import time
from dataclasses import replace
from email.utils import formatdate
from http.cookies import CookieError, SimpleCookie
from typing import Any
from urllib.parse import parse_qsl

from couchdiscover.sandbox.couchdb.answers import OK, LoginError, RefusalError, fault
from couchdiscover.sandbox.couchdb.config import derive, salt_of, verify
from couchdiscover.sandbox.couchdb.databases import Databases
from couchdiscover.sandbox.couchdb.member import Member
from couchdiscover.sandbox.couchdb.network import Network
from couchdiscover.sandbox.couchdb.sessions import SESSION_SECONDS
from couchdiscover.sandbox.couchdb.user import User
from couchdiscover.sandbox.couchdb.versions import Traits
from couchdiscover.sandbox.http import Request, Response

LOCKOUT_FAILURES = 5
_NO_COOKIE = "AuthSession=; Version=1; Path=/; HttpOnly"
_SHA1, _SHA256 = Traits("3.3.3"), Traits("3.5.2")


def basic(request: Request) -> tuple[str, str] | None:
    """Name and password of the Authorization header."""
    scheme, _, value = request.headers.get("authorization", "").partition(" ")
    if scheme.lower() != "basic":
        return None
    try:
        name, _, password = base64.b64decode(value, validate=True).decode().partition(":")
    except (binascii.Error, ValueError):
        return None
    return name, password


class Accounts:
    """The door of one node."""

    def __init__(self, node: Member, network: Network, databases: Databases) -> None:
        self._node = node
        self._network = network
        self._databases = databases
        self.hashed_at = 0.0
        """When an admin's password can be right, by the network's clock: after the first boot."""
        self.lockout_seconds = 300.0
        """How long an account stays locked; not a delay, so the network's pace leaves it alone."""
        self.handlers: tuple[str, ...] = ()
        """The ways to log in. They are read when the process starts; a later change of the setting
        changes nothing."""
        self._failures: dict[tuple[str, str], tuple[int, float]] = {}
        self._known: set[tuple[str, str, str]] = set()

    def boot(self) -> None:
        """What a start of the process forgets and reads anew."""
        self._failures.clear()
        self._known.clear()
        self.handlers = self._node.config.authentication_handlers

    @property
    def hashing_admins(self) -> bool:
        """Whether this is the moment of the first boot at which no password is right."""
        return self._network.now() < self.hashed_at

    def is_new(self, name: str, password: str) -> bool:
        """Whether this password costs the node a full hashing, as its first use does."""
        key = (name, password, self._stored(name))
        if key in self._known:
            return False
        self._known.add(key)
        return True

    def user(self, request: Request) -> User:
        """Whom the request comes from; raises RefusalError."""
        node = self._node
        user = self._from_cookie(request) if "cookie" in self.handlers else None
        given = basic(request) if "default" in self.handlers else None
        if user is None and given is not None:
            user = self.login(given[0], given[1], request.client)
        if user is not None:
            return user
        if not node.config.admins:
            return User(None, ("_admin",), "default")
        if self._needs_user(request):
            raise self._denied("Authentication required.")
        return User()

    def authorize(self, user: User, method: str, path: list[str]) -> None:
        """Raises RefusalError where a path is for admins only, whether it is known or not.

        By CouchDB's source, src/chttpd/src/chttpd_auth_request.erl.
        """
        traits = self._node.traits
        if not traits.clustered:
            return
        match path:
            case ["_node", _, "_system" | "_stats" | "_prometheus", *_]:
                user.must_be_admin("You are not a server admin or read-only metrics user")
            case ["_up" | "_uuids" | "_session" | "_replicate" | "_utils", *_]:
                pass
            case ["_all_dbs" | "_dbs_info" | "_active_tasks"] if not traits.names_itself:
                pass
            case ["_users" | "_replicator"] if method not in ("PUT", "DELETE"):
                pass
            case ["_users" | "_replicator", below, *_] if below not in ("_all_docs", "_changes"):
                pass
            case [first, *_] if first.startswith("_"):
                user.must_be_admin()

    def login(self, name: str, password: str, client: str) -> User:
        """Checks a password, as the lockout allows; raises RefusalError."""
        locks = self._node.traits.locks_out
        locks &= self._node.config.get("chttpd_auth_lockout", "mode", "enforce") == "enforce"
        now = self._network.now()
        failures, last = self._failures.get((client, name), (0, now))
        if now - last >= self.lockout_seconds:
            failures = 0
        if locks and failures >= LOCKOUT_FAILURES:
            reason = "Account is temporarily locked due to multiple authentication failures"
            raise LoginError(fault(403, "forbidden", reason).response)
        user = self._check(name, password)
        if user is None:
            self._failures[client, name] = (failures + 1, now)
            raise LoginError(self._denied("Name or password is incorrect.").response)
        return user

    def session(self, request: Request, user: User) -> Response:
        """Answers ``/_session``."""
        match request.method:
            case "GET" | "HEAD":
                info: dict[str, Any] = {"authentication_handlers": list(self.handlers)}
                if user.by is not None:
                    info["authenticated"] = user.by
                context = {"name": user.name, "roles": list(user.roles)}
                return Response(200, {"ok": True, "userCtx": context, "info": info})
            case "DELETE":
                return Response(200, OK, {"set-cookie": _NO_COOKIE})
            case _:
                return self._open_session(request)

    def _open_session(self, request: Request) -> Response:
        form: Any = {}
        if request.headers.get("content-type", "").startswith("application/json"):
            try:
                form = request.json()
            except ValueError:
                raise fault(400, "bad_request", "invalid UTF-8 JSON") from None
        else:
            form = dict(parse_qsl(request.body.decode("utf-8", "replace")))
        name, password = (
            str(form.get(key, "")) if isinstance(form, dict) else "" for key in ("name", "password")
        )
        try:
            user = self.login(name, password, request.client)
        except LoginError as error:
            response = error.response
            if response.status == 401:
                response = replace(response, headers={**response.headers, "set-cookie": _NO_COOKIE})
            raise LoginError(response) from None
        known = self._node.secrets
        if known.current is None:
            self._node.configure("chttpd_auth", "secret", secrets.token_hex(16))
        expires = formatdate(self._network.wall() + SESSION_SECONDS, usegmt=True)
        value = self._sign(known.current or "", name, int(time.time()))
        cookie = f"AuthSession={value}; Version=1; Expires={expires}"
        cookie += f"; Max-Age={SESSION_SECONDS}; Path=/; HttpOnly"
        body = {"ok": True, "name": name, "roles": list(user.roles)}
        return Response(200, body, {"set-cookie": cookie})

    def _sign(self, secret: str, name: str, issued: int) -> str:
        text = f"{name}:{issued:X}:".encode()
        key = secret + salt_of(self._stored(name))
        mac = hmac.new(key.encode(), text, hashlib.sha256).digest()
        return base64.urlsafe_b64encode(text + mac).decode().rstrip("=")

    def _from_cookie(self, request: Request) -> User | None:
        # A session that was signed elsewhere, with another secret or salt, is nobody's: no error.
        try:
            morsel = SimpleCookie(request.headers.get("cookie", "")).get("AuthSession")
        except CookieError:
            return None
        known = self._node.secrets
        if morsel is None or not morsel.value or known.current is None:
            return None
        value = morsel.value
        try:
            raw = base64.urlsafe_b64decode(value + "=" * (-len(value) % 4))
            name, issued = (part.decode() for part in raw.split(b":", 2)[:2])
            age = time.time() - int(issued, 16)
            signed = [self._sign(secret, name, int(issued, 16)) for secret in known.accepted]
        except (ValueError, binascii.Error):
            return None
        roles = self._roles(name)
        if roles is None or age > SESSION_SECONDS:
            return None
        if not any(hmac.compare_digest(one, value) for one in signed):
            return None
        return User(name, roles, "cookie")

    def _roles(self, name: str) -> tuple[str, ...] | None:
        if name in self._node.config.admins:
            return ("_admin",)
        document = self._user_document(name)
        return tuple(document.get("roles", ())) if document is not None else None

    def _stored(self, name: str) -> str:
        stored = self._node.config.admins.get(name)
        if stored is not None:
            return stored
        document = self._user_document(name) or {}
        return f"{document.get('derived_key', '')},{document.get('salt', '')},"

    def _check(self, name: str, password: str) -> User | None:
        stored = self._node.config.admins.get(name)
        if stored is not None:
            if self.hashing_admins or not verify(stored, password):
                return None
            return User(name, ("_admin",), "default")
        document = self._user_document(name)
        if document is None:
            return None
        made_by = _SHA256 if document.get("pbkdf2_prf") == "sha256" else _SHA1
        digest = derive(password, str(document.get("salt", "")), made_by)
        if not hmac.compare_digest(digest, str(document.get("derived_key", ""))):
            return None
        return User(name, tuple(document.get("roles", ())), "default")

    def _user_document(self, name: str) -> dict[str, Any] | None:
        try:
            return self._databases.read("_users", f"org.couchdb.user:{name}").json()
        except RefusalError:
            return None

    def _needs_user(self, request: Request) -> bool:
        config = self._node.config
        except_up = config.is_true("chttpd", "require_valid_user_except_for_up")
        if not except_up and not config.is_true("chttpd", "require_valid_user"):
            return False
        if except_up and request.path == "/_up":
            return False
        return (request.method, request.path) != ("POST", "/_session")

    def _denied(self, reason: str) -> RefusalError:
        asks = self._node.config.is_true("chttpd", "require_valid_user")
        headers = {"www-authenticate": 'Basic realm="server"'} if asks else {}
        return fault(401, "unauthorized", reason, headers)
