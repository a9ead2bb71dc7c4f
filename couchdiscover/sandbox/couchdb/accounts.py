"""Who may do what on a simulated node: passwords, sessions, and the lockout after five failures."""

import base64
import binascii
import hashlib
import hmac
import secrets
import time
from email.utils import formatdate
from http.cookies import CookieError, SimpleCookie
from typing import Any
from urllib.parse import parse_qsl

from couchdiscover.sandbox.couchdb.answers import OK, LoginError, RefusalError, fault
from couchdiscover.sandbox.couchdb.config import derive, salt_of, verify
from couchdiscover.sandbox.couchdb.databases import Databases
from couchdiscover.sandbox.couchdb.member import Member
from couchdiscover.sandbox.couchdb.network import Network
from couchdiscover.sandbox.couchdb.user import User
from couchdiscover.sandbox.http import Request, Response

LOCKOUT_FAILURES = 5
SESSION_SECONDS = 600
HANDLERS = ["cookie", "default"]


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
        self._failures: dict[tuple[str, str], tuple[int, float]] = {}
        self._known: set[tuple[str, str, str]] = set()

    def forget(self) -> None:
        """What a restart of the process forgets."""
        self._failures.clear()
        self._known.clear()

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
        user = self._from_cookie(request)
        given = basic(request)
        if user is None and given is not None:
            user = self.login(given[0], given[1], request.client)
        if user is not None:
            return user
        if not node.config.admins:
            return User(None, ("_admin",), "default")
        if self._needs_user(request):
            raise self._denied("Authentication required.")
        return User()

    def login(self, name: str, password: str, client: str) -> User:
        """Checks a password, as the lockout allows; raises RefusalError."""
        locks = self._node.config.get("chttpd_auth_lockout", "mode", "enforce") == "enforce"
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
                info: dict[str, Any] = {"authentication_handlers": HANDLERS}
                if user.by is not None:
                    info["authenticated"] = user.by
                context = {"name": user.name, "roles": list(user.roles)}
                return Response(200, {"ok": True, "userCtx": context, "info": info})
            case "DELETE":
                clear = "AuthSession=; Version=1; Path=/; HttpOnly"
                return Response(200, OK, {"set-cookie": clear})
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
        user = self.login(name, password, request.client)
        config = self._node.config
        if config.secret is None:
            config.set("chttpd_auth", "secret", secrets.token_hex(16))
        expires = formatdate(self._network.wall() + SESSION_SECONDS, usegmt=True)
        cookie = f"AuthSession={self._sign(name, int(time.time()))}; Version=1; Expires={expires}"
        cookie += f"; Max-Age={SESSION_SECONDS}; Path=/; HttpOnly"
        body = {"ok": True, "name": name, "roles": list(user.roles)}
        return Response(200, body, {"set-cookie": cookie})

    def _sign(self, name: str, issued: int) -> str:
        text = f"{name}:{issued:X}:".encode()
        key = (self._node.config.secret or "") + salt_of(self._stored(name))
        mac = hmac.new(key.encode(), text, hashlib.sha256).digest()
        return base64.urlsafe_b64encode(text + mac).decode().rstrip("=")

    def _from_cookie(self, request: Request) -> User | None:
        # A session that was signed elsewhere, with another secret or salt, is nobody's: no error.
        try:
            morsel = SimpleCookie(request.headers.get("cookie", "")).get("AuthSession")
        except CookieError:
            return None
        if morsel is None or not morsel.value or self._node.config.secret is None:
            return None
        value = morsel.value
        try:
            raw = base64.urlsafe_b64decode(value + "=" * (-len(value) % 4))
            name, issued = (part.decode() for part in raw.split(b":", 2)[:2])
            age = time.time() - int(issued, 16)
            signed = self._sign(name, int(issued, 16))
        except (ValueError, binascii.Error):
            return None
        roles = self._roles(name)
        if roles is None or age > SESSION_SECONDS or not hmac.compare_digest(signed, value):
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
        digest = derive(password, str(document.get("salt", "")))
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
