"""A Kubernetes API server for reading: the objects, refusals and Status bodies of a real one."""

import asyncio
import copy
import http.client
import json
import re
import ssl
import threading
import time
import uuid
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import format_datetime
from typing import Any
from urllib.parse import quote

from couchdiscover.sandbox.http import Handler, Loop, Request, Response, Server, Wire

Object = dict[str, Any]

SETUP_USER = "system:serviceaccount:default:couchdiscover"
"""Whom requests count as while no tokens are configured. May do everything until told otherwise."""

ANONYMOUS = "system:anonymous"
ENDPOINTS_WARNING = (
    '299 - "v1 Endpoints is deprecated in v1.33+; use discovery.k8s.io/v1 EndpointSlice"'
)
VERSION = {
    "major": "1",
    "minor": "36",
    "gitVersion": "v1.36.2",
    "gitTreeState": "clean",
    "compiler": "gc",
    "platform": "linux/amd64",
}

_NOT_FOUND = "the server could not find the requested resource"
_VERBS = {
    "GET": "get",
    "HEAD": "get",
    "POST": "create",
    "PUT": "update",
    "PATCH": "patch",
    "DELETE": "delete",
}


@dataclass(frozen=True, slots=True)
class Resource:
    """A kind of object, and the path it is served at."""

    group: str
    version: str
    plural: str
    kind: str

    @property
    def api_version(self) -> str:
        """As it stands in ``apiVersion``."""
        return f"{self.group}/{self.version}" if self.group else self.version


RESOURCES = (
    Resource("apps", "v1", "deployments", "Deployment"),
    Resource("apps", "v1", "statefulsets", "StatefulSet"),
    Resource("discovery.k8s.io", "v1", "endpointslices", "EndpointSlice"),
    Resource("", "v1", "configmaps", "ConfigMap"),
    Resource("", "v1", "endpoints", "Endpoints"),
    Resource("", "v1", "pods", "Pod"),
    Resource("", "v1", "secrets", "Secret"),
    Resource("", "v1", "services", "Service"),
)
_BY_KIND = {resource.kind: resource for resource in RESOURCES}


@dataclass(frozen=True, slots=True)
class ApiRequest:
    """One request the API server answered."""

    time: float
    """When it was answered, on ``time.monotonic()``'s clock, in seconds."""
    method: str
    path: str
    query: Mapping[str, str]
    status: int
    user: str | None
    """None where the token was refused."""


@dataclass(frozen=True, slots=True)
class _Rule:
    allowed: bool
    verb: str
    resource: str
    name: str | None
    namespace: str | None

    def covers(self, target: "_Target") -> bool:
        return (
            self.verb in ("*", target.verb)
            and self.resource in ("*", target.plural)
            and self.name in (None, target.name)
            and self.namespace in (None, target.namespace)
        )


@dataclass(frozen=True, slots=True)
class _Target:
    """What a request is about, as its path tells, whether it is served or not."""

    verb: str
    group: str
    version: str
    namespace: str
    plural: str
    name: str | None

    @property
    def full_name(self) -> str:
        """As it stands in messages: ``statefulsets.apps``, ``secrets``."""
        return f"{self.plural}.{self.group}" if self.group else self.plural

    @property
    def resource(self) -> Resource | None:
        wanted = (self.group, self.version, self.plural)
        return next((r for r in RESOURCES if (r.group, r.version, r.plural) == wanted), None)

    def details(self) -> Object:
        """The ``details`` of a Status, in the order and with the omissions of a real one."""
        found = {"name": self.name, "group": self.group, "kind": self.plural.partition("/")[0]}
        return {key: value for key, value in found.items() if value}


class _StatusError(Exception):
    """Ends a request with a Status."""

    def __init__(self, code: int, reason: str, message: str, details: Object | None) -> None:
        super().__init__(message)
        body: Object = {
            "kind": "Status",
            "apiVersion": "v1",
            "metadata": {},
            "status": "Failure",
            "message": message,
            "reason": reason,
        }
        if details is not None:
            body["details"] = details
        self.response = Response(code, {**body, "code": code})


class KubernetesApi:
    """The API server, without a socket: ``handle`` answers requests; ``serve`` gives it one.

    ``tokens`` maps bearer tokens to users. While it is empty nobody is asked for one, as behind
    ``kubectl proxy``, and every request counts as SETUP_USER's. A user may do what ``allow`` says,
    the later rule winning; only SETUP_USER may do everything without one. ``unserved`` holds API
    groups that this server has not. All methods may be called from any thread.
    """

    def __init__(self) -> None:
        self.tokens: dict[str, str] = {}
        self.unserved: set[str] = set()
        self.requests: list[ApiRequest] = []
        self.intercept: Callable[[Request, Handler], Awaitable[Response | Wire]] | None = None
        """Is given what comes in through the socket, and ``handle`` to go on with, or not."""
        self._rules: dict[str, list[_Rule]] = {SETUP_USER: [_Rule(True, "*", "*", None, None)]}
        self._objects: dict[tuple[str, str, str], Object] = {}
        self._revision = 1
        self._lock = threading.Lock()
        self._loop: Loop | None = None
        self._server: Server | None = None
        self._tls: ssl.SSLContext | None = None
        self._address = ("127.0.0.1", 0)

    # --- objects ---

    def put(self, obj: Mapping[str, Any]) -> None:
        """Creates or replaces an object; what an API server fills in is filled in.

        Raises KeyError for a kind that is not served, or without ``metadata.name``.
        """
        new = copy.deepcopy(dict(obj))
        metadata = new["metadata"]
        resource = _BY_KIND[new["kind"]]
        metadata.setdefault("namespace", "default")
        key = (resource.plural, metadata["namespace"], metadata["name"])
        with self._lock:
            old = self._objects.get(key, {"metadata": {}})["metadata"]
            self._revision += 1
            metadata.setdefault("uid", old.get("uid") or str(uuid.uuid4()))
            now = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
            metadata.setdefault("creationTimestamp", old.get("creationTimestamp") or now)
            metadata["resourceVersion"] = str(self._revision)
            self._objects[key] = {"kind": resource.kind, "apiVersion": resource.api_version, **new}

    def get(self, kind: str, namespace: str, name: str) -> Object:
        """A copy of an object; raises KeyError where there is none."""
        with self._lock:
            return copy.deepcopy(self._objects[_BY_KIND[kind].plural, namespace, name])

    def remove(self, kind: str, namespace: str, name: str) -> None:
        """Removes an object; raises KeyError where there is none."""
        with self._lock:
            del self._objects[_BY_KIND[kind].plural, namespace, name]
            self._revision += 1

    def find(self, kind: str, namespace: str) -> list[Object]:
        """Copies of all objects of a kind in a namespace, by name."""
        plural = _BY_KIND[kind].plural
        with self._lock:
            keys = sorted(key for key in self._objects if key[:2] == (plural, namespace))
            return [copy.deepcopy(self._objects[key]) for key in keys]

    # --- access ---

    def allow(
        self,
        verb: str,
        resource: str,
        name: str | None = None,
        *,
        namespace: str | None = None,
        user: str = SETUP_USER,
    ) -> None:
        """Lets a user do something; ``*`` is any verb or resource, None any name or namespace."""
        self._add_rule(user, _Rule(True, verb, resource, name, namespace))

    def forbid(
        self,
        verb: str,
        resource: str,
        name: str | None = None,
        *,
        namespace: str | None = None,
        user: str = SETUP_USER,
    ) -> None:
        """Takes it away again."""
        self._add_rule(user, _Rule(False, verb, resource, name, namespace))

    def _add_rule(self, user: str, rule: _Rule) -> None:
        self._rules[user] = [*self._rules.get(user, ()), rule]

    # --- the socket ---

    def serve(
        self, loop: Loop, host: str = "127.0.0.1", port: int = 0, tls: ssl.SSLContext | None = None
    ) -> str:
        """Starts listening; returns the URL. Raises OSError where it cannot."""
        self._loop, self._address, self._tls = loop, (host, port), tls
        self.start()
        return self.url

    @property
    def url(self) -> str:
        """Where it is served, also while it is stopped."""
        host, port = self._address
        shown = f"[{host}]" if ":" in host else host
        return f"{'https' if self._tls else 'http'}://{shown}:{port}"

    def start(self) -> None:
        """Listens again at the same address. Raises RuntimeError before ``serve``."""
        if self._loop is None:
            raise RuntimeError("serve() has not been called")
        if self._server is None:
            self._server = self._loop.serve(self._answer, *self._address, tls=self._tls)
            self._address = (self._server.host, self._server.port)

    def stop(self) -> None:
        """Refuses connections, and drops those that are open."""
        if self._loop is not None and self._server is not None:
            self._loop.stop(self._server)
            self._server = None

    async def _answer(self, request: Request) -> Response | Wire:
        if self.intercept is None:
            return await self.handle(request)
        return await self.intercept(request, self.handle)

    # --- requests ---

    async def handle(self, request: Request) -> Response | Wire:
        """Answers one request as an API server does."""
        user: str | None = None
        try:
            user = self._user(request)
            if (proxied := _PROXIED.fullmatch(request.path)) is not None:
                response = await self._proxy(request, user, proxied)
            else:
                response = self._route(request, user)
        except _StatusError as error:
            response = error.response
        headers = {
            "cache-control": "no-cache, private",
            "date": format_datetime(datetime.now(UTC), usegmt=True),
            **response.headers,
        }
        self.requests.append(
            ApiRequest(
                time=time.monotonic(),
                method=request.method,
                path=request.path,
                query=request.query,
                status=response.status,
                user=user,
            )
        )
        return Response(response.status, response.body, headers)

    def _user(self, request: Request) -> str:
        if not self.tokens:
            return SETUP_USER
        scheme, _, token = request.headers.get("authorization", "").partition(" ")
        if scheme.lower() != "bearer":
            return ANONYMOUS
        user = self.tokens.get(token.strip())
        if user is None:
            raise _StatusError(401, "Unauthorized", "Unauthorized", None)
        return user

    def _route(self, request: Request, user: str) -> Response:
        target = _target(request)
        if target is None:
            return self._discover(request, user)
        if not self._may(user, target):
            raise _forbidden(user, target)
        resource = target.resource
        if resource is None or target.group in self.unserved:
            raise _StatusError(404, "NotFound", _NOT_FOUND, {})
        if request.method not in ("GET", "HEAD"):
            message = "the server does not allow this method on the requested resource"
            raise _StatusError(405, "MethodNotAllowed", message, {})
        try:
            body = self._read(resource, target, request)
        except _StatusError as error:
            response = error.response
        else:
            response = Response(200, body)
        warning = {"warning": ENDPOINTS_WARNING} if resource.kind == "Endpoints" else {}
        return Response(response.status, response.body, warning)

    # --- the pod proxy ---

    async def _proxy(self, request: Request, user: str, asked: "re.Match[str]") -> Response:
        """Passes a request on to a pod's port, as ``pods/proxy`` does."""
        namespace, tls, name, port, path = asked.groups()
        verb = _VERBS.get(request.method, request.method.lower())
        target = _Target(verb, "", "v1", namespace, "pods/proxy", f"{name}:{port}")
        if not self._may(user, target):
            raise _forbidden(user, target)
        try:
            pod = self.get("Pod", namespace, name)
        except KeyError:
            details = {"name": name, "kind": "pods"}
            raise _StatusError(404, "NotFound", f'pods "{name}" not found', details) from None
        host = pod.get("status", {}).get("podIP")
        if not host:
            raise _StatusError(400, "BadRequest", f'pod "{name}" has no address', None)
        query = request.target.partition("?")[2]
        # Decoded on the way, and encoded anew: an encoded slash does not survive that.
        target_path = quote(path, safe="/:@!$&'()*+,;=~") + (f"?{query}" if query else "")
        try:
            return await asyncio.to_thread(
                _pass_on, host, int(port), bool(tls), target_path, request
            )
        except OSError as error:
            message = f"error trying to reach service: dial tcp {host}:{port}: {error.strerror}"
            raise _StatusError(503, "ServiceUnavailable", message, None) from None

    def _may(self, user: str, target: _Target) -> bool:
        rules = [rule for rule in self._rules.get(user, ()) if rule.covers(target)]
        return bool(rules) and rules[-1].allowed

    def _read(self, resource: Resource, target: _Target, request: Request) -> Object:
        if target.name is None:
            return self._list(resource, target.namespace, request.query.get("labelSelector", ""))
        try:
            return self.get(resource.kind, target.namespace, target.name)
        except KeyError:
            message = f'{target.full_name} "{target.name}" not found'
            raise _StatusError(404, "NotFound", message, target.details()) from None

    def _list(self, resource: Resource, namespace: str, selector: str) -> Object:
        wanted = _parse_selector(selector)
        items = [
            {key: value for key, value in found.items() if key not in ("kind", "apiVersion")}
            for found in self.find(resource.kind, namespace)
            if wanted.items() <= found["metadata"].get("labels", {}).items()
        ]
        return {
            "kind": f"{resource.kind}List",
            "apiVersion": resource.api_version,
            "metadata": {"resourceVersion": str(self._revision)},
            "items": items,
        }

    def _discover(self, request: Request, user: str) -> Response:
        if request.path == "/version":
            return Response(200, VERSION)
        if user == ANONYMOUS:
            message = f'forbidden: User "{user}" cannot get path "{request.path}"'
            raise _StatusError(403, "Forbidden", message, {})
        match request.path.rstrip("/"):
            case "/api":
                return Response(200, {"kind": "APIVersions", "versions": ["v1"]})
            case "/apis":
                return Response(200, self._groups())
        raise _StatusError(404, "NotFound", _NOT_FOUND, {})

    def _groups(self) -> Object:
        groups = []
        for name in sorted({r.group for r in RESOURCES if r.group} - self.unserved):
            version = {"groupVersion": f"{name}/v1", "version": "v1"}
            groups.append({"name": name, "versions": [version], "preferredVersion": version})
        return {"kind": "APIGroupList", "apiVersion": "v1", "groups": groups}


def kubeconfig(cluster: Mapping[str, Any], namespace: str, token: str | None = None) -> str:
    """The text of a kubeconfig file with one context; ``cluster`` says where its server is."""
    config = {
        "apiVersion": "v1",
        "kind": "Config",
        "current-context": "sandbox",
        "clusters": [{"name": "sandbox", "cluster": cluster}],
        "contexts": [
            {
                "name": "sandbox",
                "context": {"cluster": "sandbox", "user": "sandbox", "namespace": namespace},
            }
        ],
        "users": [{"name": "sandbox", "user": {} if token is None else {"token": token}}],
    }
    # JSON is YAML, and the standard library can write it.
    return json.dumps(config, indent=2) + "\n"


_PROXIED = re.compile(
    r"/api/v1/namespaces/([^/]+)/pods/(https:)?([^/:]+):([0-9]+)/proxy(/.*)", re.DOTALL
)
_KEPT = ("authorization", "connection", "content-length", "host")
"""Request headers that do not go on to the pod: whoever asks has authenticated to this server."""


def _pass_on(host: str, port: int, tls: bool, target: str, request: Request) -> Response:
    connection: http.client.HTTPConnection
    if tls:
        context = ssl._create_unverified_context()  # noqa: S323 - nor does a real one look at it
        connection = http.client.HTTPSConnection(host, port, timeout=30, context=context)
    else:
        connection = http.client.HTTPConnection(host, port, timeout=30)
    headers = {name: value for name, value in request.headers.items() if name not in _KEPT}
    try:
        connection.request(request.method, target, request.body or None, headers)
        answer = connection.getresponse()
        body = answer.read()
    except http.client.HTTPException as error:
        raise ConnectionError(0, str(error)) from None
    finally:
        connection.close()
    own = ("connection", "content-length", "transfer-encoding", "date")
    kept = {name.lower(): value for name, value in answer.getheaders() if name.lower() not in own}
    return Response(answer.status, body, kept)


def _target(request: Request) -> _Target | None:
    """The object or list that a path names; None for a path that is about neither."""
    match [part for part in request.path.split("/") if part]:
        case ["api", version, "namespaces", namespace, plural, *rest] if len(rest) <= 1:
            group = ""
        case ["apis", group, version, "namespaces", namespace, plural, *rest] if len(rest) <= 1:
            pass
        case _:
            return None
    verb = _VERBS.get(request.method, request.method.lower())
    if verb == "get" and not rest:
        verb = "list"
    return _Target(verb, group, version, namespace, plural, rest[0] if rest else None)


def _forbidden(user: str, target: _Target) -> _StatusError:
    which = f' "{target.name}"' if target.name else ""
    kind = target.full_name.partition("/")[0]
    message = (
        f'{kind}{which} is forbidden: User "{user}" cannot {target.verb} resource '
        f'"{target.plural}" in API group "{target.group}" in the namespace "{target.namespace}"'
    )
    return _StatusError(403, "Forbidden", message, target.details())


def _parse_selector(selector: str) -> dict[str, str]:
    """Equality only: ``a=b,c==d``. Anything else is a 400."""
    wanted = {}
    for part in filter(None, selector.split(",")):
        key, sign, value = part.partition("=")
        if not sign or key.endswith("!"):
            message = f"unable to parse requirement: {part!r} is not an equality"
            raise _StatusError(400, "BadRequest", message, None)
        wanted[key.strip()] = value.removeprefix("=").strip()
    return wanted
