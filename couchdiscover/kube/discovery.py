"""Kubernetes → Topology: who is to be a member, where each node is, who administers them."""

import re
import socket
import time
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TypeVar

from couchdiscover.errors import UsageProblem
from couchdiscover.kube.client import DeniedForNow, Forbidden, Kube, Missing
from couchdiscover.kube.credentials import container_credentials, own_credentials
from couchdiscover.kube.endpoints import Endpoints, own_addresses
from couchdiscover.kube.environment import ContainerEnvironment, Value, decode_data
from couchdiscover.kube.names import (
    PodIdentity,
    is_label,
    is_subdomain,
    parse_host_name,
    parse_pod_name,
)
from couchdiscover.kube.objects import (
    Object,
    StatefulSetObject,
    as_dicts,
    is_headless,
    only_ipv6,
    selects,
    told_labels,
    told_selector,
)
from couchdiscover.output.log import LOGGER
from couchdiscover.state.settings import MAX_SIZE, ClusterState, Settings, parse_size
from couchdiscover.state.topology import Address, Credentials, Pod, Scope, Topology

COOKIE_VARIABLES = ("ERLANG_COOKIE", "COUCHDB_ERLANG_COOKIE")
NO_COOKIE = (
    "no Erlang cookie is set (COUCHDB_ERLANG_COOKIE): the official image then makes a random one "
    "in each container, and such nodes never connect, or not after a restart; the default one of "
    "other images lets anyone in who reaches their ports"
)
SECRET_VARIABLE = "COUCHDB_SECRET"  # noqa: S105 - the name of a variable
SIZE_VARIABLE = "COUCHDB_CLUSTER_SIZE"
FLAG_VARIABLES = ("ERL_FLAGS", "ERL_AFLAGS", "ERL_ZFLAGS")

DEFAULT_DOMAIN = "cluster.local"
RESOLV_CONF = Path("/etc/resolv.conf")

STALE_SECONDS = 5.0
"""While an object is missing, the StatefulSet that names it is read again this often only."""

LACKING_SECONDS = 2.0
"""An object counts as missing for so long after it was last asked for."""

Kept = TypeVar("Kept")

FORBIDDEN_SECONDS = 10.0
"""A Service that may not be read is asked for again this often only."""

THREE_WAYS = (
    "make CouchDB a native sidecar (an initContainer before it with restartPolicy: Always), run "
    "couchdiscover in a postStart hook of CouchDB's container, or in a Job"
)


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


ONE_STATEFULSET = (
    "couchdiscover is for the pods of a StatefulSet, one StatefulSet for a cluster, and not for "
    "Deployments"
)


def find_target(settings: Settings, kube: Kube) -> Target:
    """Which StatefulSet, in which namespace and scope. Raises UsageProblem where it cannot tell."""
    own = own_identity(settings.environment)
    statefulset = settings.statefulset or (own.statefulset if own else None)
    if statefulset is None:
        raise UsageProblem(
            f"{socket.gethostname()} is no pod of a StatefulSet, so it is not known which one is "
            f"meant: name it with --statefulset (COUCHDISCOVER_STATEFULSET); {ONE_STATEFULSET}"
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
    if scope is Scope.POD and settings.cluster_state is ClusterState.EXISTING:
        raise UsageProblem(
            "--cluster-state existing is for --scope set: in scope pod the first pod of a new "
            "StatefulSet could never be in"
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
    _secret_hidden: bool = False
    _kept: tuple[float, StatefulSetObject] | None = None
    _last: tuple[float, Topology] | None = None
    _lacking_until: float = 0.0
    _service: "_Service | None" = None
    _ask_service_at: float = 0.0

    def topology(self) -> Topology:
        """The StatefulSet as it stands. Raises UsageProblem, NotYet or Denied.

        While a Secret or a ConfigMap is missing nothing can be done with it, and what was read last
        will do for some seconds.
        """
        lacking = time.monotonic() < self._lacking_until
        if lacking and (kept := _recent(self._last)):
            return kept
        found = self._statefulset(anew=not lacking)
        topology = self._topology(found)
        self._last = (time.monotonic(), topology)
        return topology

    def _topology(self, found: StatefulSetObject) -> Topology:
        target = self.target
        container = found.container(self.settings.container)
        self._refuse_plain_init(found, container)
        environment = self._environment(container)
        ordinals, beyond = self._ordinals(found, environment)
        service_name = str(
            found.spec.get("serviceName")
            or (target.own and target.own.service)
            or target.statefulset
        )
        if not is_label(service_name):
            raise UsageProblem(
                f"StatefulSet {target.statefulset} names {service_name!r} as its Service: that is "
                "no name of one (spec.serviceName)"
            )
        endpoints = self._endpoints(service_name, container)
        pods = tuple(self._pod(ordinal, service_name, endpoints) for ordinal in ordinals)
        service = self._look_at_service(service_name, found, endpoints, pods)
        if service.blind:
            own = target.own.pod if target.own else None
            pods = tuple(
                replace(pod, obscure=pod.name != own and not endpoints.addresses(pod.name))
                for pod in pods
            )
        self._check_repair_from(pods)
        cookie_set = self._sets_cookie(container)
        if cookie_set is False and len(pods) > 1:
            self._warn(NO_COOKIE)
        intended = self.sets_secret(container) is not False
        return Topology(
            namespace=target.namespace,
            statefulset=target.statefulset,
            service=service_name,
            expected=pods,
            beyond=beyond,
            own=target.own.pod if target.own and target.scope is Scope.POD else None,
            unpublished=endpoints.unready,
            warnings=tuple(self._warnings),
            service_problem=service.problem,
            created_pods=found.created_pods,
            rollout=found.rollout,
            outdated=found.outdated,
            age=found.age(self.kube.server_time),
            secret_intended=intended,
            volumes_persistent=found.volumes_persistent(container),
            ipv6_only=self._is_ipv6_only(endpoints, service),
            cookie_set=cookie_set,
        )

    # --- the StatefulSet ---

    def _statefulset(self, *, anew: bool = False) -> StatefulSetObject:
        """The StatefulSet. Raises Missing, which names a Deployment that stands in its place."""
        if not anew and (kept := _recent(self._kept)):
            return kept
        target = self.target
        try:
            found = self.kube.statefulset(target.namespace, target.statefulset)
        except Missing as missing:
            deployed = self.kube.has_deployment(target.namespace, target.statefulset)
            but = ", but a Deployment of that name does" if deployed else ""
            raise Missing(f"{missing}{but}: {ONE_STATEFULSET}") from None
        self._kept = (time.monotonic(), StatefulSetObject(target.statefulset, found))
        return self._kept[1]

    def _refuse_plain_init(self, found: StatefulSetObject, container: Object) -> None:
        if self.target.scope is not Scope.POD:
            return
        if (name := found.runs_before(container)) is not None:
            raise UsageProblem(
                f"initContainer {name} of StatefulSet {found.name} runs couchdiscover before "
                f"CouchDB's container {container.get('name')} can start, so it would wait for ever:"
                f" {THREE_WAYS}"
            )

    def _ordinals(
        self, found: StatefulSetObject, environment: ContainerEnvironment
    ) -> tuple[list[int], tuple[str, ...]]:
        """The ordinals of the members to be, and the pods on top of them."""
        target, replicas, start = self.target, found.replicas, found.first_ordinal
        if not 0 <= replicas <= MAX_SIZE:
            raise UsageProblem(
                f"StatefulSet {target.statefulset} in {target.namespace} has {replicas} replicas: "
                f"a cluster is made of 1 to {MAX_SIZE} nodes"
            )
        size = self._size(environment, replicas) if replicas else 0
        ordinals = list(range(start, start + size))
        if target.own and target.own.ordinal not in ordinals:
            ordinals.append(target.own.ordinal)  # a pod that runs here is to be a member
        everyone = range(start, start + replicas)
        beyond = tuple(f"{target.statefulset}-{at}" for at in everyone if at not in ordinals)
        return sorted(ordinals), beyond

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

    def _check_repair_from(self, pods: tuple[Pod, ...]) -> None:
        """A typing error would let the majority overwrite the very values that were meant."""
        wanted = self.settings.repair_from
        if wanted is None or not pods or wanted in {pod.name for pod in pods}:
            return
        raise UsageProblem(
            f"--repair-from {wanted}: that is none of the {len(pods)} nodes of StatefulSet "
            f"{self.target.statefulset} ({pods[0].name} to {pods[-1].name})"
        )

    def _sets_cookie(self, container: Object) -> bool | None:
        """Whether the template gives the nodes an Erlang cookie; None where it cannot be told."""
        environment = self._environment(container)
        if environment.mentions(*_cookie_variables(container)):
            return True
        if _has_flags_file(container):
            return None
        flags = [environment.literal(name) for name in FLAG_VARIABLES]
        words = [word for key in ("command", "args") for word in _texts(container.get(key))]
        texts = [text or "" for text in (*flags, *words)]
        if any("-setcookie" in text for text in texts):
            return True
        if None in flags or any("-args_file" in text for text in texts):
            return None  # by reference, or in a file
        return False

    def _warn(self, text: str) -> None:
        self._warnings[text] = None

    # --- the endpoints ---

    def _endpoints(self, service: str, container: Object) -> Endpoints:
        """Addresses by pod: EndpointSlices, else Endpoints.

        Where both may not be read it is DNS; a Service that is not there yet publishes nothing.
        """
        found = Endpoints(self.settings.scheme, self.settings.port, container)
        namespace = self.target.namespace
        try:
            slices = self.kube.endpoint_slices(namespace, service)
            found.readable = True
        except (Forbidden, Missing):
            slices = []
        for part in slices:
            found.add_slice(part)
        if slices:
            return found
        try:
            found.add_endpoints(self.kube.endpoints(namespace, service))
            found.readable = True
        except (Forbidden, Missing):
            LOGGER.debug(f"Service {service} in {namespace} has no Endpoints that can be read")
        if not found.readable:
            self._warn(
                f"neither EndpointSlices nor Endpoints of Service {service} in {namespace} can be "
                "read: nodes are looked for by their DNS names"
            )
        return found

    def _pod(self, ordinal: int, service: str, endpoints: Endpoints) -> Pod:
        target = self.target
        name = f"{target.statefulset}-{ordinal}"
        host_name = f"{name}.{service}.{target.namespace}.svc.{target.cluster_domain}"
        addresses, obscure = endpoints.addresses(name), not endpoints.readable
        if target.scope is Scope.POD and target.own and target.own.pod == name:
            environment = self.settings.environment
            addresses, obscure = own_addresses(name, addresses, environment, endpoints.port), False
        elif not addresses and not endpoints.readable:
            addresses = [Address(host_name, endpoints.port)]
        return Pod(name, ordinal, host_name, tuple(addresses), obscure)

    # --- the Service ---

    def _look_at_service(
        self, name: str, found: StatefulSetObject, endpoints: Endpoints, pods: tuple[Pod, ...]
    ) -> "_Service":
        """What keeps the Service from giving each pod an address and a name.

        It is read again only while some pod has no address.
        """
        if self._service is not None and self._service.name == name:
            lacking = [pod for pod in pods if not endpoints.addresses(pod.name)]
            if not lacking and self._service.problem is None:
                return self._service
        unseen = endpoints.readable and not endpoints.present
        if time.monotonic() < self._ask_service_at:
            return _unseen_service(name, unseen)
        try:
            obj = self.kube.service(self.target.namespace, name)
        except Missing:
            self._service = _Service(name, self._no_service(name, found), blind=True)
        except Forbidden:
            self._ask_service_at = time.monotonic() + FORBIDDEN_SECONDS
            self._service = None
            return _unseen_service(name, unseen)
        else:
            self._service = self._judge(name, obj, found)
        return self._service

    def _no_service(self, name: str, found: StatefulSetObject) -> str:
        said = found.spec.get("serviceName")
        where = (
            "spec.serviceName" if said else "spec.serviceName is empty, so the StatefulSet's name"
        )
        fitting = self._fitting(found)
        wanted = f"make one with clusterIP: None that selects {told_labels(found.labels)}"
        return f"Service {name} ({where}) is not there; {fitting or wanted}"

    def _judge(self, name: str, obj: Object, found: StatefulSetObject) -> "_Service":
        problem = None
        blind = not selects(obj, found.labels)
        if blind:
            problem = (
                f"Service {name} publishes none of the pods: does its selector "
                f"({told_selector(obj) or 'none'}) match the template's labels "
                f"({told_labels(found.labels)})?"
            )
        elif not is_headless(obj):
            fitting = self._fitting(found)
            problem = (
                f"Service {name} (spec.serviceName) is not headless, so the pods have no names of "
                "their own: it must have clusterIP: None, and be made anew for that"
            ) + (fitting and f"; {fitting}")
        elif not found.spec.get("serviceName"):
            problem = (
                f"StatefulSet {found.name} names no Service (spec.serviceName), so the pods have "
                f"no names of their own: it must name {name}, and be made anew for that "
                "(kubectl delete --cascade=orphan keeps the pods and their volumes)"
            )
        return _Service(name, problem, blind, only_ipv6(obj))

    def _fitting(self, found: StatefulSetObject) -> str:
        """The Services that spec.serviceName could name, in words, or nothing."""
        names = [
            str(obj.get("metadata", {}).get("name"))
            for obj in self.kube.services(self.target.namespace)
            if is_headless(obj) and selects(obj, found.labels)
        ]
        if not names:
            return ""
        return (
            f"headless and selecting these pods: {', '.join(sorted(names)[:3])}, which "
            "spec.serviceName and NODENAME could name"
        )

    def _is_ipv6_only(self, endpoints: Endpoints, service: "_Service") -> bool:
        """By the addresses that are published, else the Service's, else those of the own pod."""
        environment = self.settings.environment
        if endpoints.hosts:
            return all(":" in host for host in endpoints.hosts)
        own = environment.get("POD_IP") or environment.get("KUBERNETES_SERVICE_HOST") or ""
        return service.only_ipv6 or ":" in own

    # --- the credentials ---

    def credentials(self, *, anew: bool = False) -> Credentials:
        """CouchDB's administrator: from the own environment, else the CouchDB container's.

        With ``anew`` the objects are read again, which are read once otherwise: a password may have
        been changed. Raises UsageProblem where there is none, NotYet or Denied where it cannot be
        read.
        """
        if anew:
            self._data.clear()
            self._kept = None
        found, halves = own_credentials(self.settings.environment)
        if found is None:
            statefulset = self._statefulset()
            container = statefulset.container(self.settings.container)
            found = container_credentials(
                self._environment(container), container, statefulset.others(container), halves
            )
        for note in found.notes:
            self._warn(note)
        return found.credentials

    def sets_secret(self, container: Object | None = None) -> bool | None:
        """Whether the container's environment gives every node a chttpd_auth secret.

        A Secret is read only where it may lack the key. None where it cannot be told.
        """
        if container is None:
            container = self._statefulset().container(self.settings.container)
        environment = self._environment(container)
        certain = environment.certainly_sets(SECRET_VARIABLE)
        if certain is not None or self._secret_hidden:
            return certain
        try:
            value = environment.get(SECRET_VARIABLE)
        except (Forbidden, DeniedForNow):  # not waited for, nor asked for again
            self._secret_hidden = True
            return None
        return value is not None and bool(value.text)

    def has_older_pods(self) -> bool:
        """Whether pods may still run another template than the one that is read here."""
        return self._statefulset().outdated

    def _environment(self, container: Object) -> ContainerEnvironment:
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
                    self._lacking_until = time.monotonic() + LACKING_SECONDS
                    raise
                return None
            self._lacking_until = 0.0
            self._data[kind, name] = decode_data(kind, name, found)
        return self._data[kind, name]


def _recent(kept: tuple[float, Kept] | None) -> Kept | None:
    """What was read lately."""
    if kept is None or time.monotonic() - kept[0] >= STALE_SECONDS:
        return None
    return kept[1]


@dataclass(frozen=True, slots=True)
class _Service:
    """What was found out of the Service. ``blind``: what it does not publish may well run."""

    name: str
    problem: str | None = None
    blind: bool = False
    only_ipv6: bool = False


def _unseen_service(name: str, unseen: bool) -> _Service:
    """What can be said of a Service that may not be read: what its endpoints tell."""
    problem = f"Service {name} (spec.serviceName) has no endpoints at all: is it there?"
    return _Service(name, problem if unseen else None, blind=unseen)


def _has_flags_file(container: Object) -> bool:
    """Whether a file is mounted that may hold the cookie."""
    paths = [str(mount.get("mountPath") or "") for mount in as_dicts(container.get("volumeMounts"))]
    return any(
        path.endswith((".erlang.cookie", "vm.args")) or path.rstrip("/") == "/opt/couchdb/etc"
        for path in paths
    )


def _cookie_variables(container: Object) -> tuple[str, ...]:
    """What gives a cookie. Bitnami's image takes the sessions' secret (its libcouchdb.sh)."""
    if "bitnami" in str(container.get("image")):
        return (*COOKIE_VARIABLES, SECRET_VARIABLE)
    return COOKIE_VARIABLES


def _texts(value: object) -> list[str]:
    return [str(word) for word in value] if isinstance(value, list) else []
