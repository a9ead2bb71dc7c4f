"""The Kubernetes API: the only place that knows pykube.

Whatever pykube, requests or the standard library raise comes out as one of our errors, which names
the object, the verb and the remedy.
"""

import os
import ssl
import time
from collections.abc import Callable, Mapping
from datetime import datetime
from email.utils import parsedate_to_datetime
from pathlib import Path
from typing import Any, TypeVar

import pykube
import requests
from pykube.http import KubernetesHTTPAdapter
from pykube.objects import NamespacedAPIObject

from couchdiscover.errors import CouchdiscoverError, Denied, NotYet, UsageProblem
from couchdiscover.net.deadline import Deadline
from couchdiscover.net.http import BoundedAdapter, Gateway, explain
from couchdiscover.output.log import LOGGER

SERVICE_ACCOUNT = Path("/var/run/secrets/kubernetes.io/serviceaccount")

DENIAL_SECONDS = 10.0
"""How long a 401 or 403 is asked again: a fresh API server, a rotated token or a RoleBinding that
was just applied answer so for a moment."""

Object = Mapping[str, Any]
Answer = TypeVar("Answer")


class EndpointSlice(NamespacedAPIObject):  # type: ignore[misc]
    """discovery.k8s.io/v1, which pykube has no class for."""

    version = "discovery.k8s.io/v1"
    endpoint = "endpointslices"
    kind = "EndpointSlice"


class _Adapter(BoundedAdapter, KubernetesHTTPAdapter):  # type: ignore[misc]
    """pykube's way to authenticate, over our transport."""


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
        self._deployments: dict[tuple[str, str], bool] = {}
        self.server_time: datetime | None = None
        """What the API server's clock showed at its last answer."""
        self._client = self._connect()

    @property
    def namespace(self) -> str | None:
        """The namespace of the service account, else of the kubeconfig's context."""
        try:
            namespace = (SERVICE_ACCOUNT / "namespace").read_text()
        except OSError:
            namespace = str(self._client.config.namespace or "")
        return namespace.strip() or None

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
        session = requests.Session()
        session.trust_env = False
        session.max_redirects = 0
        adapter = _Adapter(self._client.config)
        session.mount("https://", adapter)
        session.mount("http://", adapter)
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
        self._client.timeout = self._deadline.cap(self._timeout)
        try:
            answer = read()
        except Exception as error:  # noqa: BLE001 - pykube lets a dozen families through
            LOGGER.debug(f"Kubernetes {verb} {what}: {type(error).__name__}")
            raise self._translate(error, verb, what, right, patient) from None
        LOGGER.debug(f"Kubernetes {verb} {what}: read")
        self._denied_since.pop(what, None)
        return answer

    def _translate(
        self, error: Exception, verb: str, what: str, right: str, patient: bool
    ) -> CouchdiscoverError:
        status = _status(error)
        if isinstance(error, pykube.exceptions.ObjectDoesNotExist) or status == 404:
            return Missing(f"{what} does not exist")
        if status in (401, 403):
            return self._denied(status, verb, what, right, patient)
        if status is not None:
            return NotYet(f"the Kubernetes API answered {status} to {verb} {what}")
        if isinstance(error, requests.exceptions.InvalidURL | requests.exceptions.InvalidSchema):
            return UsageProblem("the API server's address in the kubeconfig is no URL")
        # What pykube raises for exec plugins that are too new, and for gcp and oidc.
        if isinstance(error, NotImplementedError | ImportError):
            return UsageProblem(
                "the kubeconfig's way to authenticate is not supported by pykube-ng: use a token, "
                "a client certificate, or `kubectl proxy` and a kubeconfig that names it"
            )
        if isinstance(error, FileNotFoundError | PermissionError):
            return UsageProblem(
                "a file or command that the kubeconfig names for authentication cannot be used "
                f"({error.strerror}: {error.filename})"
            )
        garbled = isinstance(error, requests.exceptions.InvalidJSONError)
        if isinstance(error, requests.RequestException | OSError) and not garbled:
            return NotYet(f"the Kubernetes API {explain(error)} (to {verb} {what})")
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

    # --- connecting ---

    def _reconnect(self) -> None:
        """Reads the token anew: the kubelet rotates it, and pykube reads it once."""
        try:
            self._client = self._connect()
        except UsageProblem:
            return  # half-written at this moment; the old one stays

    def _connect(self) -> Any:
        try:
            config = self._read_config()
            if self._context is not None:
                self._choose_context(config, self._context)
            _check_authority(config)
            token = config.user.get("token")
            if token:
                config.user["token"] = _sendable(token.strip())
            client = pykube.HTTPClient(config, http_adapter=_Adapter(config))
        except UsageProblem:
            raise
        except Exception as error:  # noqa: BLE001 - a kubeconfig can be wrong in any way
            raise UsageProblem(self._config_problem(error)) from None
        client.session.trust_env = False  # neither proxies nor netrc of the environment
        client.session.max_redirects = 0  # the token goes where it was meant to
        client.session.hooks["response"].append(self._note)
        return client

    def _choose_context(self, config: Any, context: str) -> None:
        if context not in config.contexts:
            raise UsageProblem(
                f"the kubeconfig has no context {context!r}; "
                "`kubectl config get-contexts` lists them"
            )
        config.set_current_context(context)

    def _read_config(self) -> Any:
        path = self._kubeconfig
        if path is None:
            if (SERVICE_ACCOUNT / "token").exists() and "KUBERNETES_SERVICE_HOST" in os.environ:
                return pykube.KubeConfig.from_service_account(str(SERVICE_ACCOUNT))
            path = "~/.kube/config"
        candidates = [p for p in path.split(os.pathsep) if p] or [path]
        existing = [p for p in candidates if Path(p).expanduser().is_file()]
        if not existing:
            raise UsageProblem(
                f"not in a cluster (no service account in {SERVICE_ACCOUNT}), and there is no "
                f"kubeconfig at {path}; name one with --kubeconfig or KUBECONFIG"
            )
        return pykube.KubeConfig.from_file(existing[0])

    def _config_problem(self, error: Exception) -> str:
        where = self._kubeconfig or (
            str(SERVICE_ACCOUNT) if SERVICE_ACCOUNT.exists() else "~/.kube/config"
        )
        detail = f"no {error.args[0]!r} in it" if isinstance(error, KeyError) and error.args else ""
        detail = detail or f"{type(error).__name__}"
        return f"the Kubernetes configuration at {where} cannot be used ({detail})"


def _sendable(token: str) -> str:
    """A token that a header can hold: of any other, http.client's error would show it."""
    if not (token.isascii() and token.isprintable()):
        raise UsageProblem(
            "the token for the Kubernetes API has characters that HTTP cannot transport"
        )
    return token


def _check_authority(config: Any) -> None:
    """Raises OSError where the certificates to check the API server's by are none."""
    authority = config.cluster.get("certificate-authority")
    if authority is not None:
        ssl.create_default_context(cafile=authority.filename())


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
