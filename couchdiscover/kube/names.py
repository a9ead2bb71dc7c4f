"""Names as Kubernetes has them: validation, and the identity in a pod's host name."""

import re
from dataclasses import dataclass

_LABEL = re.compile(r"[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?")
_SUBDOMAIN = re.compile(rf"{_LABEL.pattern}(\.{_LABEL.pattern})*")
_POD = re.compile(rf"(?P<set>{_SUBDOMAIN.pattern})-(?P<ordinal>0|[1-9][0-9]{{0,9}})")


@dataclass(frozen=True, slots=True)
class PodIdentity:
    """What a StatefulSet pod's name, or its fully qualified host name, tells."""

    pod: str
    statefulset: str
    ordinal: int
    service: str | None = None
    namespace: str | None = None
    cluster_domain: str | None = None


def is_label(name: str) -> bool:
    """Whether it can name a namespace, a container or a Service (RFC 1123 label)."""
    return _LABEL.fullmatch(name) is not None


def is_subdomain(name: str) -> bool:
    """Whether it can name a StatefulSet or a Secret (RFC 1123 subdomain)."""
    return len(name) <= 253 and _SUBDOMAIN.fullmatch(name) is not None


def parse_pod_name(name: str) -> PodIdentity | None:
    """``my-couch-0`` → StatefulSet ``my-couch``, ordinal 0; None where it is no such name."""
    found = _POD.fullmatch(name)
    if found is None:
        return None
    return PodIdentity(name, found["set"], int(found["ordinal"]))


def parse_host_name(host: str) -> PodIdentity | None:
    """``my-couch-0.couch.db.svc.cluster.local`` → pod, Service, namespace, domain.

    None where it has not the shape of a StatefulSet pod's fully qualified name (Kubernetes
    documentation, "StatefulSets", "Stable Network ID").
    """
    labels = host.rstrip(".").lower().split(".")
    if len(labels) < 5 or labels[3] != "svc":
        return None
    pod, service, namespace = labels[:3]
    domain = ".".join(labels[4:])
    identity = parse_pod_name(pod)
    if identity is None or not (is_label(service) and is_label(namespace) and is_subdomain(domain)):
        return None
    return PodIdentity(pod, identity.statefulset, identity.ordinal, service, namespace, domain)
