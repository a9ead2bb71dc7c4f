"""What Kubernetes' controllers make of Services and pods: EndpointSlices, Endpoints, DNS names.

Facts recorded from Kubernetes 1.36, and from its sources: ``k8s.io/endpointslice`` and
``pkg/controller/endpoint`` (which pods, their conditions, ports by name, ``hostname``), and the
documentation ("DNS for Services and Pods").
"""

import zlib
from collections.abc import Iterable, Mapping, Sequence
from ipaddress import ip_address
from itertools import groupby
from typing import Any

Object = dict[str, Any]

Moved = Mapping[str, Mapping[int, int]]
"""By pod: the port at which it really listens in place of one of its template's."""

_Ports = tuple[tuple[str, str, int], ...]
"""Name, protocol and number."""


def is_headless(service: Mapping[str, Any]) -> bool:
    """Whether the pods are published under names of their own, and not behind one address."""
    return bool(service.get("spec", {}).get("clusterIP") == "None")


def is_ipv6_only(service: Mapping[str, Any]) -> bool:
    """Whether the pods are published by IPv6 addresses alone."""
    return bool(service.get("spec", {}).get("ipFamilies") == ["IPv6"])


def selects(service: Mapping[str, Any], pod: Mapping[str, Any]) -> bool:
    """Whether a Service is meant for a pod: one without a selector is for none."""
    selector = service.get("spec", {}).get("selector") or {}
    labels = pod["metadata"].get("labels") or {}
    same_place = service["metadata"]["namespace"] == pod["metadata"]["namespace"]
    return bool(selector) and same_place and selector.items() <= labels.items()


def publishes_unready(service: Mapping[str, Any]) -> bool:
    """Whether pods that are not Ready count, too."""
    return service.get("spec", {}).get("publishNotReadyAddresses") is True


def is_ready(pod: Mapping[str, Any]) -> bool:
    """Whether a pod is Ready."""
    conditions = pod.get("status", {}).get("conditions") or ()
    return any(c.get("type") == "Ready" and c.get("status") == "True" for c in conditions)


def is_terminating(pod: Mapping[str, Any]) -> bool:
    """Whether a pod was deleted and is still there."""
    return "deletionTimestamp" in pod["metadata"]


def dns_hosts(service: Mapping[str, Any], pods: Iterable[Mapping[str, Any]]) -> set[str]:
    """Which pods have a DNS name of their own through a headless Service: their host names."""
    if not is_headless(service):
        return set()
    return {
        pod["spec"]["hostname"]
        for pod in pods
        if selects(service, pod)
        and pod.get("status", {}).get("podIP")
        and (publishes_unready(service) or (is_ready(pod) and not is_terminating(pod)))
        and _has_host_name(service, pod)
    }


def endpoint_slices(
    service: Mapping[str, Any], pods: Iterable[Mapping[str, Any]], moved: Moved | None = None
) -> list[Object]:
    """A Service's EndpointSlices: one for each set of ports, an empty one where no pod is.

    None where the Service has no selector: then no controller makes any.
    """
    if not service.get("spec", {}).get("selector"):
        return []
    metadata = service["metadata"]
    labels = {
        **(metadata.get("labels") or {}),
        "endpointslice.kubernetes.io/managed-by": "endpointslice-controller.k8s.io",
        "kubernetes.io/service-name": metadata["name"],
        **({"service.kubernetes.io/headless": ""} if is_headless(service) else {}),
    }
    owner = {
        "apiVersion": "v1",
        "kind": "Service",
        "name": metadata["name"],
        "uid": metadata.get("uid", ""),
        "controller": True,
        "blockOwnerDeletion": True,
    }
    slices = []
    for ports, members in _by_ports(service, pods, moved or {}) or [((), [])]:
        own = {
            "name": f"{metadata['name']}-{_short_hash(metadata['name'], str(ports))}",
            "generateName": f"{metadata['name']}-",
            "namespace": metadata["namespace"],
            "labels": dict(labels),
            "ownerReferences": [dict(owner)],
        }
        published = [
            {"name": name, "protocol": protocol, "port": port} for name, protocol, port in ports
        ]
        slices.append(
            {
                "kind": "EndpointSlice",
                "metadata": own,
                "addressType": "IPv6" if _family(members) == 6 else "IPv4",
                "endpoints": [_endpoint(service, pod) for pod in members] or None,
                "ports": published if members else None,
            }
        )
    return slices


def endpoints_object(
    service: Mapping[str, Any], pods: Iterable[Mapping[str, Any]], moved: Moved | None = None
) -> Object | None:
    """A Service's v1 Endpoints; without ``subsets`` where no pod is. None without a selector."""
    if not service.get("spec", {}).get("selector"):
        return None
    subsets = []
    for ports, members in _by_ports(service, pods, moved or {}):
        unready = publishes_unready(service)
        staying = [pod for pod in members if unready or not is_terminating(pod)]
        lists = {
            "addresses": [_address(service, p) for p in staying if unready or is_ready(p)],
            "notReadyAddresses": [
                _address(service, p) for p in staying if not (unready or is_ready(p))
            ],
        }
        filled: Object = {key: found for key, found in lists.items() if found}
        if filled:
            numbers = [
                {**({"name": name} if name else {}), "port": port, "protocol": protocol}
                for name, protocol, port in ports
            ]
            subsets.append({**filled, **({"ports": numbers} if numbers else {})})
    metadata = service["metadata"]
    labels = {
        **(metadata.get("labels") or {}),
        "endpoints.kubernetes.io/managed-by": "endpoint-controller",
        **({"service.kubernetes.io/headless": ""} if is_headless(service) else {}),
    }
    own = {"name": metadata["name"], "namespace": metadata["namespace"], "labels": labels}
    found: Object = {"kind": "Endpoints", "metadata": own}
    return {**found, "subsets": subsets} if subsets else found


def _by_ports(
    service: Mapping[str, Any], pods: Iterable[Mapping[str, Any]], moved: Moved
) -> list[tuple[_Ports, list[Mapping[str, Any]]]]:
    """The selected pods with an address, by their ports and by address, as the API orders them."""
    placed = [
        (_ports(service, pod, moved), int(ip_address(pod["status"]["podIP"])), pod)
        for pod in pods
        if selects(service, pod) and pod.get("status", {}).get("podIP")
    ]
    placed.sort(key=lambda entry: entry[:2])
    return [
        (ports, [pod for *_, pod in group])
        for ports, group in groupby(placed, key=lambda entry: entry[0])
    ]


def _family(pods: Sequence[Mapping[str, Any]]) -> int | None:
    """4 or 6; all pods of a single-stack cluster are of one."""
    return ip_address(pods[0]["status"]["podIP"]).version if pods else None


def _ports(service: Mapping[str, Any], pod: Mapping[str, Any], moved: Moved) -> _Ports:
    """The Service's ports as this pod has them: one whose name it does not know is left out."""
    found = []
    for port in service["spec"].get("ports") or ():
        protocol = port.get("protocol") or "TCP"
        target = port.get("targetPort") or port.get("port")
        number = target if isinstance(target, int) else _named_port(pod, str(target), protocol)
        if number is not None:
            number = moved.get(pod["metadata"]["name"], {}).get(number, number)
            found.append((str(port.get("name") or ""), str(protocol), number))
    return tuple(found)


def _named_port(pod: Mapping[str, Any], name: str, protocol: str) -> int | None:
    for container in containers_of(pod["spec"]):
        for port in container.get("ports") or ():
            if port.get("name") == name and (port.get("protocol") or "TCP") == protocol:
                number = port.get("containerPort")
                return number if isinstance(number, int) else None
    return int(name) if name.isdigit() else None


def _endpoint(service: Mapping[str, Any], pod: Mapping[str, Any]) -> Object:
    ready, terminating = is_ready(pod), is_terminating(pod)
    return {
        "addresses": [pod["status"]["podIP"]],
        "conditions": {
            "ready": publishes_unready(service) or (ready and not terminating),
            "serving": ready,
            "terminating": terminating,
        },
        **_host_name(service, pod),
        "targetRef": _reference(pod),
        "nodeName": pod["spec"].get("nodeName"),
    }


def _address(service: Mapping[str, Any], pod: Mapping[str, Any]) -> Object:
    return {
        "ip": pod["status"]["podIP"],
        **_host_name(service, pod),
        "nodeName": pod["spec"].get("nodeName"),
        "targetRef": _reference(pod),
    }


def _has_host_name(service: Mapping[str, Any], pod: Mapping[str, Any]) -> bool:
    # Only the Service that spec.serviceName names gives pods a host name.
    spec = pod["spec"]
    return bool(spec.get("hostname")) and spec.get("subdomain") == service["metadata"]["name"]


def _host_name(service: Mapping[str, Any], pod: Mapping[str, Any]) -> Object:
    return {"hostname": pod["spec"]["hostname"]} if _has_host_name(service, pod) else {}


def _reference(pod: Mapping[str, Any]) -> Object:
    metadata = pod["metadata"]
    return {
        "kind": "Pod",
        "namespace": metadata["namespace"],
        "name": metadata["name"],
        "uid": metadata["uid"],
    }


def _short_hash(*parts: str) -> str:
    return f"{zlib.crc32('/'.join(parts).encode()):08x}"[:5]


def containers_of(spec: Mapping[str, Any]) -> Sequence[Object]:
    """A pod's containers that stay: the ordinary ones and the native sidecars."""
    sidecars = [
        container
        for container in spec.get("initContainers") or ()
        if container.get("restartPolicy") == "Always"
    ]
    return [*(spec.get("containers") or ()), *sidecars]
