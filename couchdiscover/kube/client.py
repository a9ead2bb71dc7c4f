"""The Kubernetes API: the only place that knows pykube.

Whatever pykube, requests or the standard library raise comes out as one of our errors, which names
the object, the verb and the remedy.
"""

import math
import os
import ssl
import time
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any, TypeVar
from urllib.parse import urlsplit

import pykube
import requests
from pykube.objects import NamespacedAPIObject

from couchdiscover.errors import CouchdiscoverError, Denied, NotYet, UsageProblem
from couchdiscover.kube.kubeconfig import Access, find_access, proxy_for
from couchdiscover.kube.login import Login, LoginAdapter
from couchdiscover.net.deadline import Deadline
from couchdiscover.net.http import Gateway, explain
from couchdiscover.output.log import LOGGER

DENIAL_SECONDS = 10.0
"""How long a 401 or 403 is asked again: a fresh API server, a rotated token or a RoleBinding that
was just applied answer so for a moment."""

MISSING_PAUSE = 1.0
"""Seconds until an object that was not there is asked for again."""

RETRY_SECONDS = 60.0
"""Seconds, at most, that a Retry-After is heeded for."""

Object = Mapping[str, Any]
Answer = TypeVar("Answer")


class EndpointSlice(NamespacedAPIObject):  # type: ignore[misc]
    """discovery.k8s.io/v1, which pykube has no class for."""

    version = "discovery.k8s.io/v1"
    endpoint = "endpointslices"
    kind = "EndpointSlice"


def _date(text: str | None) -> datetime | None:
    """A header's date; None where it is none."""
    try:
        found = parsedate_to_datetime(text or "")
    except ValueError:
        return None
    return found if found.tzinfo else None


class Missing(NotYet):
    """The object, or its whole kind, is not there."""


class Forbidden(Denied):
    """The API refuses a verb on an object, for good."""


class DeniedForNow(NotYet):
    """The API refuses, for a moment yet; ``denial`` is what it is if that is the last word."""

    def __init__(self, text: str, denial: Forbidden) -> None:
        super().__init__(text)
        self.denial = denial


class Kube:
    """Reads objects. ``request_timeout`` is in seconds.

    Raises UsageProblem where the configuration is unusable, NotYet where an object or the API is
    missing (for now), Forbidden where access is denied for longer than a moment.
    """

    def __init__(
        self,
        deadline: Deadline,
        *,
        kubeconfig: str | None = None,
        context: str | None = None,
        request_timeout: float = 5.0,
    ) -> None:
        self._deadline = deadline
        self._kubeconfig = kubeconfig
        self._context = context
        self._timeout = request_timeout
        self._denied_since: dict[str, float] = {}
        self._absent: dict[str, tuple[float, Missing]] = {}
        self._not_before: tuple[float, NotYet] | None = None
        self._retry_after = 0.0
        self._proxy: str | None = None
        self._deployments: dict[tuple[str, str], bool] = {}
        self.server_time: datetime | None = None
        """What the API server's clock showed at its last answer."""
        self._login = self._log_in()
        self._client = self._connect()

    @property
    def namespace(self) -> str | None:
        """The namespace of the service account, or of the kubeconfig's context.

        Where a kubeconfig or a context was named, the service account has no say.
        """
        return self._login.access.namespace

    def statefulset(self, namespace: str, name: str) -> Object:
        """The StatefulSet."""
        return self._get(pykube.StatefulSet, "statefulsets", namespace, name)

    def secret(self, namespace: str, name: str) -> Object:
        """A Secret."""
        return self._get(pykube.Secret, "secrets", namespace, name)

    def config_map(self, namespace: str, name: str) -> Object:
        """A ConfigMap."""
        return self._get(pykube.ConfigMap, "configmaps", namespace, name)

    def endpoints(self, namespace: str, name: str) -> Object:
        """The v1 Endpoints of a Service."""
        return self._get(pykube.Endpoint, "endpoints", namespace, name, patient=False)

    def service(self, namespace: str, name: str) -> Object:
        """A Service. Access denied is told at once: what it would tell is not needed."""
        return self._get(pykube.Service, "services", namespace, name, patient=False)

    def services(self, namespace: str) -> list[Object]:
        """All Services of a namespace, or none where they cannot be listed."""

        def read() -> list[Object]:
            answer = pykube.Service.objects(self._client, namespace=namespace).response
            return [item for item in answer.get("items") or [] if isinstance(item, dict)]

        try:
            return self._ask("list", f"services in {namespace}", "list on services", read, False)
        except (NotYet, Denied):
            return []

    def has_deployment(self, namespace: str, name: str) -> bool:
        """Whether there is a Deployment of that name, as far as it can be told; asked once."""
        if (namespace, name) not in self._deployments:
            try:
                self._get(pykube.Deployment, "deployments", namespace, name, patient=False)
                found = True
            except (NotYet, Denied):
                found = False
            self._deployments[namespace, name] = found
        return self._deployments[namespace, name]

    def endpoint_slices(self, namespace: str, service: str) -> list[Object]:
        """The EndpointSlices of a Service. Access denied is told at once: there is a fallback."""

        def read() -> list[Object]:
            found = EndpointSlice.objects(self._client, namespace=namespace).filter(
                selector={"kubernetes.io/service-name": service}
            )
            answer = found.response
            if answer.get("kind") != "EndpointSliceList":
                raise ValueError("no EndpointSliceList")
            return [item for item in answer.get("items") or [] if isinstance(item, dict)]

        what = f"endpointslices of Service {service} in {namespace}"
        return self._ask("list", what, "list on endpointslices", read, patient=False)

    def pod_gateway(self, namespace: str, pod: str, port: int, scheme: str) -> Gateway:
        """The way to a pod's port through the API server's proxy (right: ``pods/proxy``).

        Each has a session, and so cookies and a connection, of its own.
        """
        session = self._prepared(requests.Session())
        where = f"{'https:' if scheme == 'https' else ''}{pod}:{port}"
        server = str(self._client.url).rstrip("/")
        return Gateway(f"{server}/api/v1/namespaces/{namespace}/pods/{where}/proxy", session)

    def _get(
        self, kind: Any, resource: str, namespace: str, name: str, *, patient: bool = True
    ) -> Object:
        def read() -> Object:
            found = kind.objects(self._client, namespace=namespace).get_by_name(name).obj
            # A list, say, or an error in disguise; pykube's own ``kind`` of Endpoints lacks the s.
            if not isinstance(found, dict) or _plural(found.get("kind")) != resource:
                raise ValueError(f"no {kind.kind}")
            return found

        return self._ask(
            "get", f"{resource}/{name} in {namespace}", f"get on {resource}/{name}", read, patient
        )

    # --- the boundary ---

    def _ask(
        self,
        verb: str,
        what: str,
        right: str,
        read: Callable[[], Answer],
        patient: bool = True,
    ) -> Answer:
        self._hold_back(what)
        self._client.timeout = self._deadline.cap(self._timeout)
        try:
            answer = read()
        except Exception as error:  # noqa: BLE001 - pykube lets a dozen families through
            LOGGER.debug(f"Kubernetes {verb} {what}: {type(error).__name__}")
            failure = self._translate(error, verb, what, right, patient)
            self._remember(what, failure, patient)
            raise failure from None
        LOGGER.debug(f"Kubernetes {verb} {what}: read")
        self._denied_since.pop(what, None)
        self._absent.pop(what, None)
        return answer

    def _hold_back(self, what: str) -> None:
        """Raises what was answered last where it is too early to ask again."""
        if self._deadline.seconds == 0:
            return
        now = time.monotonic()
        if self._not_before is not None and now < self._not_before[0]:
            raise self._not_before[1]
        asked_at, missing = self._absent.get(what, (-math.inf, None))
        if missing is not None and now - asked_at < MISSING_PAUSE:
            raise missing

    def _remember(self, what: str, failure: CouchdiscoverError, patient: bool) -> None:
        if isinstance(failure, Missing) and patient:
            self._absent[what] = (time.monotonic(), failure)
        if isinstance(failure, Missing):
            self._denied_since.pop(what, None)
        elif not isinstance(failure, Denied | DeniedForNow):
            # Only denials that follow one another count: of what was in between nothing is known.
            self._denied_since.clear()
        wait, self._retry_after = self._retry_after, 0.0
        if wait and isinstance(failure, NotYet):
            self._not_before = (time.monotonic() + wait, failure)

    def _translate(
        self, error: Exception, verb: str, what: str, right: str, patient: bool
    ) -> CouchdiscoverError:
        if isinstance(error, CouchdiscoverError):  # of the login
            return error
        status = _status(error)
        if isinstance(error, pykube.exceptions.ObjectDoesNotExist) or status == 404:
            return Missing(f"{what} does not exist")
        if status in (401, 403):
            return self._denied(status, verb, what, right, patient)
        if status is not None:
            return NotYet(f"the Kubernetes API answered {status} to {verb} {what}")
        if isinstance(error, requests.exceptions.InvalidProxyURL):
            return UsageProblem("the proxy on the way to the Kubernetes API is named by no URL")
        if isinstance(error, requests.exceptions.InvalidURL | requests.exceptions.InvalidSchema):
            if self._proxy and self._proxy.startswith("socks"):
                return UsageProblem(
                    f"the proxy {_bare(self._proxy)} of the kubeconfig needs Python's package "
                    "PySocks: install it, or use an http proxy"
                )
            return UsageProblem("the API server's address in the kubeconfig is no URL")
        garbled = isinstance(error, requests.exceptions.InvalidJSONError)
        if isinstance(error, requests.RequestException | OSError) and not garbled:
            through = f" through the proxy {_bare(self._proxy)}" if self._proxy else ""
            return NotYet(f"the Kubernetes API {explain(error)}{through} (to {verb} {what})")
        return NotYet(
            f"the Kubernetes API answered with something else than {what} ({type(error).__name__})"
        )

    def _denied(
        self, status: int, verb: str, what: str, right: str, patient: bool
    ) -> CouchdiscoverError:
        if status == 401:
            self._reconnect()
        now = time.monotonic()
        since = self._denied_since.setdefault(what, now)
        if status == 401:
            text = f"the Kubernetes API does not accept the token (401 to {verb} {what})"
            remedy = "mount the service account's token, or renew the kubeconfig's"
        else:
            text = f"the Kubernetes API does not allow to {verb} {what}"
            remedy = f'grant `{right}` to the service account (README, "Access")'
        denial = Forbidden(f"{text}; {remedy}")
        if (patient or status == 401) and now - since < DENIAL_SECONDS and self._deadline.seconds:
            return DeniedForNow(text, denial)
        return denial

    def _note(self, response: requests.Response, **_: object) -> None:
        self.server_time = _date(response.headers.get("date")) or self.server_time
        self._retry_after = 0.0
        if response.status_code in (429, 503):
            self._retry_after = self._seconds(response.headers.get("retry-after"))
        if response.status_code != 401:
            self._login.accepted()

    def _seconds(self, text: str | None) -> float:
        """A Retry-After, in seconds: a number, or a date by the server's clock."""
        if text and text.strip().isdecimal():
            return min(float(text), RETRY_SECONDS)
        then, now = _date(text), self.server_time or datetime.now(UTC)
        return 0.0 if then is None else min(max((then - now).total_seconds(), 0.0), RETRY_SECONDS)

    # --- connecting ---

    def _reconnect(self) -> None:
        """Reads the credentials anew: they may have been renewed, and pods' tokens are rotated."""
        try:
            login = self._log_in()
        except UsageProblem:
            return  # half-written at this moment; the old one stays
        if login.access == self._login.access:
            self._login.refused()
        elif _way(login.access) == _way(self._login.access):
            self._login.renew(login)
        else:
            self._login = login
            self._client = self._connect()

    def _log_in(self) -> Login:
        access = find_access(self._kubeconfig, self._context, os.environ)
        try:
            return Login(access, self._deadline)
        except (ssl.SSLError, ValueError) as error:
            raise UsageProblem(
                f"the Kubernetes configuration at {access.source} cannot be used (a certificate or "
                f"key in it is none: {type(error).__name__})"
            ) from None

    def _connect(self) -> Any:
        """pykube's client. All it takes of a configuration is the server's address."""
        access = self._login.access
        self._proxy = proxy_for(access, os.environ)
        try:
            config = pykube.KubeConfig.from_url(access.server)
            client = pykube.HTTPClient(config, http_adapter=LoginAdapter(self._login))
        except Exception:  # noqa: BLE001 - urllib's, for an address that is none
            raise UsageProblem(
                f"the Kubernetes configuration at {access.source} cannot be used (its server is no "
                "URL)"
            ) from None
        self._prepared(client.session)
        client.session.hooks["response"].append(self._note)
        return client

    def _prepared(self, session: requests.Session) -> requests.Session:
        """A session that goes to the API server as the login's user, and nowhere else."""
        session.trust_env = False  # neither netrc nor proxies but ours
        session.max_redirects = 0  # the token goes where it was meant to
        session.proxies = {"http": self._proxy, "https": self._proxy} if self._proxy else {}
        adapter = LoginAdapter(self._login)
        session.mount("https://", adapter)
        session.mount("http://", adapter)
        return session


def _way(access: Access) -> tuple[str | None, ...]:
    """What a session is made for, and cannot change."""
    return access.server, access.proxy, access.tls_name


def _bare(url: str) -> str:
    """A proxy's URL without the user and password that it may hold."""
    found = urlsplit(url)
    return f"{found.scheme}://{found.netloc.rpartition('@')[2]}"


def _status(error: Exception) -> int | None:
    """The HTTP status behind either family of exceptions.

    pykube stumbles over error answers that are no Status; requests' error is then the context.
    """
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, pykube.exceptions.HTTPError):
            return int(cause.code)
        if isinstance(cause, requests.HTTPError) and cause.response is not None:
            return cause.response.status_code
        cause = cause.__context__
    return None


def _plural(kind: object) -> str:
    """``Secret`` → ``secrets``, as the API's paths have it; ``Endpoints`` stays."""
    return str(kind).lower().removesuffix("s") + "s"
