"""Kubernetes → Topology: who is to be a member, where each node is, who administers them."""

import ipaddress
import re
import socket
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from couchdiscover.errors import UsageProblem
from couchdiscover.kube.client import DeniedForNow, Forbidden, Kube, Missing
from couchdiscover.kube.environment import ContainerEnvironment, Value, decode_data
from couchdiscover.kube.names import (
    PodIdentity,
    is_label,
    is_subdomain,
    parse_host_name,
    parse_pod_name,
)
from couchdiscover.output.log import LOGGER
from couchdiscover.state.settings import MAX_SIZE, Settings, parse_size
from couchdiscover.state.topology import EPMD_PORT, Address, Credentials, Pod, Scope, Topology

CREDENTIAL_PAIRS = (
    ("COUCHDB_ADMIN_USER", "COUCHDB_ADMIN_PASS"),  # couchdiscover's own, since 0.2
    ("COUCHDB_USER", "COUCHDB_PASSWORD"),  # the official image's
)
COOKIE_VARIABLES = ("ERLANG_COOKIE", "COUCHDB_ERLANG_COOKIE")
SECRET_VARIABLE = "COUCHDB_SECRET"  # noqa: S105 - the name of a variable
SIZE_VARIABLE = "COUCHDB_CLUSTER_SIZE"

DEFAULT_PORTS = {"http": 5984, "https": 6984}
DEFAULT_DOMAIN = "cluster.local"
RESOLV_CONF = Path("/etc/resolv.conf")


@dataclass(frozen=True, slots=True)
class Target:
    """What this run is about: one StatefulSet, and the own pod where it is one of its pods."""

    namespace: str
    statefulset: str
    scope: Scope
    own: PodIdentity | None
    cluster_domain: str


def own_identity(environment: Mapping[str, str]) -> PodIdentity | None:
    """The StatefulSet pod this process runs in, by POD_NAME and POD_NAMESPACE or the host name.

    A host name counts only where it has the shape of such a pod's fully qualified name.
    """
    short = socket.gethostname()
    # The full name is asked for only where it can matter: on a laptop it may take DNS seconds.
    by_host = parse_host_name(socket.getfqdn()) if parse_pod_name(short.split(".")[0]) else None
    name = environment.get("POD_NAME")
    if not name:
        return by_host
    identity = parse_pod_name(name)
    if identity is None:
        return None
    if by_host is not None and by_host.pod == name:
        identity = by_host
    return replace(identity, namespace=environment.get("POD_NAMESPACE") or identity.namespace)


def find_target(settings: Settings, kube: Kube) -> Target:
    """Which StatefulSet, in which namespace and scope. Raises UsageProblem where it cannot tell."""
    own = own_identity(settings.environment)
    statefulset = settings.statefulset or (own.statefulset if own else None)
    if statefulset is None:
        raise UsageProblem(
            f"{socket.gethostname()} is no pod of a StatefulSet, so it is not known which one is "
            "meant: name it with --statefulset (COUCHDISCOVER_STATEFULSET)"
        )
    namespace = (
        settings.namespace
        or (own.namespace if own else None)
        or settings.environment.get("POD_NAMESPACE")  # of a Job's pod, say
        or kube.namespace
        or "default"
    )
    if not is_label(namespace):
        raise UsageProblem(f"{namespace!r} is no name of a namespace; give it with --namespace")
    if own and (own.statefulset, own.namespace or namespace) != (statefulset, namespace):
        own = None
    scope = settings.scope or (Scope.POD if own else Scope.SET)
    if scope is Scope.POD and own is None:
        raise UsageProblem(
            f"--scope pod, but {socket.gethostname()} is no pod of StatefulSet {statefulset}: use "
            "--scope set, or set POD_NAME and POD_NAMESPACE (downward API)"
        )
    domain = settings.cluster_domain or (own.cluster_domain if own else None) or _searched_domain()
    return Target(namespace, statefulset, scope, own, domain or DEFAULT_DOMAIN)


def _searched_domain() -> str | None:
    """The cluster's domain by the search list that the kubelet gives to pods."""
    try:
        text = RESOLV_CONF.read_text(errors="replace")
    except OSError:
        return None
    for line in text.splitlines():
        words = line.split()
        for word in words[1:] if words[:1] == ["search"] else ():
            if (found := re.fullmatch(r"svc\.(.+?)\.?", word)) and is_subdomain(found[1]):
                return found[1]
    return None


@dataclass(slots=True)
class Discovery:
    """Reads the cluster anew at each call of ``topology``; Secrets and ConfigMaps once."""

    kube: Kube
    settings: Settings
    target: Target
    _data: dict[tuple[str, str], Mapping[str, str] | None] = field(default_factory=dict, repr=False)
    _warnings: dict[str, None] = field(default_factory=dict)
    _size_hidden: bool = False

    def topology(self) -> Topology:
        """The StatefulSet as it stands. Raises UsageProblem, NotYet or Denied."""
        target = self.target
        spec = self._spec()
        container = self._container(spec)
        environment = self._environment(container)
        replicas, start = _count(spec.get("replicas"), 1), _count(_ordinals(spec).get("start"), 0)
        if not 0 < replicas <= MAX_SIZE:
            raise UsageProblem(
                f"StatefulSet {target.statefulset} in {target.namespace} has {replicas} replicas: "
                f"a cluster is made of 1 to {MAX_SIZE} nodes"
            )
        size = self._size(environment, replicas)
        ordinals = list(range(start, start + size))
        if target.own and target.own.ordinal not in ordinals:
            ordinals.append(target.own.ordinal)  # a pod that runs here is to be a member
        service = str(
            spec.get("serviceName") or (target.own and target.own.service) or target.statefulset
        )
        if not is_label(service):
            raise UsageProblem(
                f"StatefulSet {target.statefulset} names {service!r} as its Service: that is no "
                "name of one (spec.serviceName)"
            )
        published = self._published(service, container)
        pods = tuple(self._pod(ordinal, service, published) for ordinal in sorted(ordinals))
        names = {pod.name for pod in pods}
        beyond = [f"{target.statefulset}-{ordinal}" for ordinal in range(start, start + replicas)]
        self._check_cookie(environment, len(pods))
        return Topology(
            namespace=target.namespace,
            statefulset=target.statefulset,
            service=service,
            expected=pods,
            beyond=tuple(name for name in beyond if name not in names),
            own=target.own.pod if target.own and target.scope is Scope.POD else None,
            unpublished=published.unready,
            warnings=tuple(self._warnings),
        )

    # --- the StatefulSet ---

    def _spec(self) -> Mapping[str, Any]:
        found = self.kube.statefulset(self.target.namespace, self.target.statefulset)
        spec = found.get("spec")
        return spec if isinstance(spec, dict) else {}

    def _container(self, spec: Mapping[str, Any]) -> Mapping[str, Any]:
        """The container that runs CouchDB; native sidecars are initContainers that stay."""
        template = _dict(_dict(spec.get("template")).get("spec"))
        candidates = _dicts(template.get("containers")) + [
            container
            for container in _dicts(template.get("initContainers"))
            if container.get("restartPolicy") == "Always"
        ]
        by_name = {str(container.get("name")): container for container in candidates}
        wanted = self.settings.container
        if wanted is None:
            for name in ("couchdb", self.target.statefulset):
                if name in by_name:
                    return by_name[name]
            if len(candidates) == 1:
                return candidates[0]
        elif wanted in by_name:
            return by_name[wanted]
        which = f"no container {wanted}" if wanted else "no container named couchdb"
        raise UsageProblem(
            f"StatefulSet {self.target.statefulset} has {which}, only "
            f"{', '.join(sorted(by_name)) or 'none'}; name CouchDB's with --container"
        )

    def _size(self, environment: ContainerEnvironment, replicas: int) -> int:
        size = self.settings.size
        value = self._size_variable(environment) if size is None else None
        if value is not None and value.text.strip():
            try:
                size = parse_size(value.text)
            except ValueError as error:
                raise UsageProblem(f"{SIZE_VARIABLE} ({value.source}): {error}") from None
        if size is not None and size > replicas:
            self._warn(
                f"a cluster of {size} is wanted, and StatefulSet {self.target.statefulset} has "
                f"{replicas} replicas: the others are waited for"
            )
        return replicas if size is None else size

    def _size_variable(self, environment: ContainerEnvironment) -> Value | None:
        """The wanted size; an object of ``envFrom`` that may not be read most likely lacks it."""
        if self._size_hidden:
            return None
        try:
            return environment.get(SIZE_VARIABLE)
        except (Forbidden, DeniedForNow) as error:  # not waited for: the Role holds, by now
            self._size_hidden = True
            self._warn(f"{SIZE_VARIABLE} is not looked for, and spec.replicas counts: {error}")
            return None

    def _check_cookie(self, environment: ContainerEnvironment, nodes: int) -> None:
        if nodes == 1 or environment.mentions(*COOKIE_VARIABLES):
            return
        if "-setcookie" in environment.literal("ERL_FLAGS"):
            return
        self._warn(
            "no Erlang cookie is set (COUCHDB_ERLANG_COOKIE): nodes with the default cookie let "
            "anyone in who reaches their ports, and those with a random one do not connect after "
            "a restart"
        )

    def _warn(self, text: str) -> None:
        self._warnings[text] = None

    # --- the endpoints ---

    def _published(self, service: str, container: Mapping[str, Any]) -> "_Published":
        """Addresses by pod: EndpointSlices, else Endpoints.

        Where both may not be read it is DNS; a Service that is not there yet publishes nothing.
        """
        port = self.settings.port
        fallback = port or _choose_port(_container_ports(container), self.settings.scheme)
        fallback = fallback or DEFAULT_PORTS[self.settings.scheme]
        published = _Published(self.settings.scheme, port, fallback)
        namespace = self.target.namespace
        try:
            slices = self.kube.endpoint_slices(namespace, service)
            published.readable = True
        except (Forbidden, Missing):
            slices = []
        for part in slices:
            published.add_slice(part)
        if slices:
            return published
        try:
            published.add_endpoints(self.kube.endpoints(namespace, service))
            published.readable = True
        except (Forbidden, Missing):
            LOGGER.debug(f"Service {service} in {namespace} has no Endpoints that can be read")
        if not published.readable:
            self._warn(
                f"neither EndpointSlices nor Endpoints of Service {service} in {namespace} can be "
                "read: nodes are looked for by their DNS names"
            )
        return published

    def _pod(self, ordinal: int, service: str, published: "_Published") -> Pod:
        target = self.target
        name = f"{target.statefulset}-{ordinal}"
        host_name = f"{name}.{service}.{target.namespace}.svc.{target.cluster_domain}"
        addresses = published.addresses(name)
        if target.scope is Scope.POD and target.own and target.own.pod == name:
            addresses = _own_addresses(addresses, self.settings.environment, published.port)
        elif not addresses and not published.readable:
            addresses = [Address(host_name, published.port)]
        return Pod(name, ordinal, host_name, tuple(addresses))

    # --- the credentials ---

    def credentials(self) -> Credentials:
        """CouchDB's administrator: from the own environment, else the CouchDB container's.

        Raises UsageProblem where there is none, NotYet or Denied where it cannot be read.
        """
        tried: list[str] = []
        environment = self.settings.environment
        for user_key, password_key in CREDENTIAL_PAIRS:
            user, password = (
                _own_value(environment, user_key),
                _own_value(environment, password_key),
            )
            if user is not None and password is not None:
                return self._checked(user, password, f"couchdiscover's own {user_key}")
            if user is not None or password is not None:
                tried.append(f"{password_key if password is None else user_key} is not set here")
        container = self._container(self._spec())
        resolved = self._environment(container)
        for user_key, password_key in CREDENTIAL_PAIRS:
            name = resolved.get(user_key)
            word = resolved.get(password_key) if name else None
            if name and word:
                return self._checked(name.text, word.text, word.source)
        keys = " or ".join(" and ".join(pair) for pair in CREDENTIAL_PAIRS)
        raise UsageProblem(
            f"no credentials: {keys} are neither in couchdiscover's own environment nor in that of "
            f"container {container.get('name')} of StatefulSet {self.target.statefulset}"
            + (f" ({'; '.join(tried)})" if tried else "")
        )

    def sets_secret(self) -> bool:
        """Whether the container's environment gives every node a chttpd_auth secret."""
        try:
            value = self._environment(self._container(self._spec())).get(SECRET_VARIABLE)
        except Forbidden:
            return False
        return value is not None and bool(value.text)

    def _checked(self, user: str, password: str, source: str) -> Credentials:
        for what, value in (("user name", user), ("password", password)):
            if not value:
                raise UsageProblem(f"the {what} ({source}) is empty")
            if value.endswith(("\n", "\r")):
                self._warn(
                    f"the {what} ({source}) ends with a line break, and is used as it is; "
                    "`echo -n`, or `kubectl create secret --from-literal`, makes it without"
                )
        try:
            f"{user}{password}".encode()
        except UnicodeEncodeError:
            raise UsageProblem(f"the user name or password ({source}) is no UTF-8") from None
        if ":" in user:
            raise UsageProblem(f"the user name ({source}) has a colon, which HTTP cannot transport")
        return Credentials(user, password, source)

    def _environment(self, container: Mapping[str, Any]) -> ContainerEnvironment:
        fields = {"metadata.namespace": self.target.namespace}
        if self.target.own:
            fields["metadata.name"] = self.target.own.pod
        return ContainerEnvironment(container, self, fields)

    def data(self, kind: str, name: str, *, optional: bool) -> Mapping[str, str] | None:
        """A Secret's or ConfigMap's data, read once (see ``environment.Source``)."""
        if (kind, name) not in self._data:
            if not is_subdomain(name):
                raise UsageProblem(f"{name!r} is no name of a {kind}")
            read = self.kube.secret if kind == "Secret" else self.kube.config_map
            try:
                found = read(self.target.namespace, name)
            except Missing:
                if not optional:
                    raise
                return None
            self._data[kind, name] = decode_data(kind, name, found)
        return self._data[kind, name]


@dataclass(slots=True)
class _Published:
    """What the endpoints of the headless Service say."""

    scheme: str
    fixed_port: int | None
    port: int
    readable: bool = False
    unready: bool = False
    _found: dict[str, list[tuple[bool, bool, Address]]] = field(default_factory=dict)

    def addresses(self, pod: str) -> list[Address]:
        """A pod's addresses, the likeliest first; those of a pod that is leaving only if alone."""
        found = sorted(self._found.get(pod, ()), key=lambda entry: entry[:2])
        staying = [entry for entry in found if not entry[0]]
        return list(dict.fromkeys(address for *_, address in staying or found))

    def add_slice(self, part: Mapping[str, Any]) -> None:
        """An EndpointSlice: "endpoints" and "ports" are null as long as no pod has an address."""
        if part.get("addressType") == "FQDN":
            return
        port = self._port(part.get("ports"))
        for endpoint in _dicts(part.get("endpoints")):
            conditions = _dict(endpoint.get("conditions"))
            leaving = conditions.get("terminating") is True
            if conditions.get("ready") is False and not leaving:
                self.unready = True
            hosts = endpoint.get("addresses")
            for host in hosts[:1] if isinstance(hosts, list) else ():
                self._add(endpoint, host, port, leaving)

    def add_endpoints(self, endpoints: Mapping[str, Any]) -> None:
        """v1 Endpoints: no "subsets" as long as no pod has an address."""
        for subset in _dicts(endpoints.get("subsets")):
            port = self._port(subset.get("ports"))
            unready = _dicts(subset.get("notReadyAddresses"))
            self.unready = self.unready or bool(unready)
            for address in [*_dicts(subset.get("addresses")), *unready]:
                self._add(address, address.get("ip"), port, False)

    def _port(self, ports: object) -> int:
        pairs = [(str(p.get("name") or ""), p.get("port")) for p in _dicts(ports)]
        return self.fixed_port or _choose_port(pairs, self.scheme) or self.port

    def _add(self, endpoint: Mapping[str, Any], host: object, port: int, leaving: bool) -> None:
        pod = _dict(endpoint.get("targetRef")).get("name") or endpoint.get("hostname")
        try:
            version = ipaddress.ip_address(str(host)).version
        except ValueError:
            return
        entry = (leaving, version == 6, Address(str(host), port))
        self._found.setdefault(str(pod), []).append(entry)


def _choose_port(ports: Iterable[tuple[str, object]], scheme: str) -> int | None:
    """CouchDB's port among several: by name, by number, else the only one."""
    numbers = {name: port for name, port in ports if isinstance(port, int)}
    for name in ("couchdb", scheme):
        if name in numbers:
            return numbers[name]
    values = [number for number in numbers.values() if number != EPMD_PORT]  # Erlang's, not HTTP
    if DEFAULT_PORTS[scheme] in values:
        return DEFAULT_PORTS[scheme]
    return values[0] if len(values) == 1 else None


def _container_ports(container: Mapping[str, Any]) -> list[tuple[str, object]]:
    return [
        (str(port.get("name") or at), port.get("containerPort"))
        for at, port in enumerate(_dicts(container.get("ports")))
    ]


def _own_addresses(
    published: Sequence[Address], environment: Mapping[str, str], port: int
) -> list[Address]:
    """Where the own node may listen: its published address, else the pod's; then loopback.

    A node that is bound to 127.0.0.1 is reached from its own pod only, and there it can be enabled.
    """
    addresses = list(published)
    if not addresses and (ip := environment.get("POD_IP")):
        addresses = [Address(ip, port)]
    if not addresses:
        try:
            found = socket.getaddrinfo(socket.gethostname(), port, type=socket.SOCK_STREAM)
            addresses = [Address(str(found[0][4][0]), port)]
        except OSError:
            addresses = []
    first = addresses[0] if addresses else Address("127.0.0.1", port)
    loopback = "::1" if ":" in first.host else "127.0.0.1"
    return list(dict.fromkeys([*addresses, Address(loopback, first.port)]))


def _own_value(environment: Mapping[str, str], key: str) -> str | None:
    """A variable of the own environment, or the file that its _FILE variant names."""
    if key in environment:
        return environment[key]
    path = environment.get(f"{key}_FILE")
    if not path:
        return None
    try:
        return Path(path).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise UsageProblem(
            f"{key}_FILE names {path}, which cannot be read ({type(error).__name__})"
        ) from None


def _count(value: object, default: int) -> int:
    return value if isinstance(value, int) and not isinstance(value, bool) else default


def _ordinals(spec: Mapping[str, Any]) -> Mapping[str, Any]:
    return _dict(spec.get("ordinals"))


def _dict(value: object) -> Mapping[str, Any]:
    return value if isinstance(value, dict) else {}


def _dicts(value: object) -> list[Mapping[str, Any]]:
    return [item for item in value if isinstance(item, dict)] if isinstance(value, list) else []
