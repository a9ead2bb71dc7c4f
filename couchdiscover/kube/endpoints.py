"""The endpoints of the headless Service → addresses and ports of the pods."""

import ipaddress
import re
import socket
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from couchdiscover.kube.objects import Object, as_dict, as_dicts
from couchdiscover.state.topology import EPMD_PORT, Address

DEFAULT_PORTS = {"http": 5984, "https": 6984}

DISTRIBUTION_PORT = 9100
"""Where CouchDB's own vm.args and the official chart have Erlang's distribution listen."""

_FLAG = re.compile(r"inet_dist_listen_(min|max)\s+([0-9]{1,5})")


@dataclass(slots=True)
class Endpoints:
    """What the endpoints of the headless Service say. ``fixed_port`` is the user's own word."""

    scheme: str
    fixed_port: int | None
    container: Object
    readable: bool = False
    present: bool = False
    """Whether any EndpointSlice or Endpoints of the Service's name is there."""
    unready: bool = False
    _found: dict[str, list[tuple[bool, bool, Address]]] = field(default_factory=dict)

    @property
    def port(self) -> int:
        """Where the endpoints tell no port."""
        return self._port(None)

    @property
    def hosts(self) -> list[str]:
        """Every address that is published, of whatever pod."""
        return [address.host for found in self._found.values() for *_, address in found]

    def addresses(self, pod: str) -> list[Address]:
        """A pod's addresses, the likeliest first; those of a pod that is leaving only if alone."""
        found = sorted(self._found.get(pod, ()), key=lambda entry: entry[:2])
        staying = [entry for entry in found if not entry[0]]
        return list(dict.fromkeys(address for *_, address in staying or found))

    def add_slice(self, part: Object) -> None:
        """An EndpointSlice: "endpoints" and "ports" are null as long as no pod has an address."""
        self.present = True
        if part.get("addressType") == "FQDN":
            return
        port = self._port(part.get("ports"))
        for endpoint in as_dicts(part.get("endpoints")):
            conditions = as_dict(endpoint.get("conditions"))
            leaving = conditions.get("terminating") is True
            if conditions.get("ready") is False and not leaving:
                self.unready = True
            hosts = endpoint.get("addresses")
            for host in hosts[:1] if isinstance(hosts, list) else ():  # the others are the same pod
                self._add(endpoint, host, port, leaving)

    def add_endpoints(self, endpoints: Object) -> None:
        """v1 Endpoints: no "subsets" as long as no pod has an address."""
        self.present = True
        for subset in as_dicts(endpoints.get("subsets")):
            port = self._port(subset.get("ports"))
            unready = as_dicts(subset.get("notReadyAddresses"))
            self.unready = self.unready or bool(unready)
            for address in [*as_dicts(subset.get("addresses")), *unready]:
                self._add(address, address.get("ip"), port, False)

    def _port(self, ports: object) -> int:
        """CouchDB's: by the endpoints' names and numbers, then the container's; else the only one.

        An only one that is Erlang's own is none: CouchDB speaks no HTTP there.
        """
        published = [(str(p.get("name") or ""), p.get("port")) for p in as_dicts(ports)]
        own = _container_ports(self.container)
        return (
            self.fixed_port
            or _recognised(published, self.scheme)
            or _recognised(own, self.scheme)
            or self._only(published)
            or self._only(own)
            or DEFAULT_PORTS[self.scheme]
        )

    def _only(self, ports: Iterable[tuple[str, object]]) -> int | None:
        numbers = {number for _, number in ports if isinstance(number, int)}
        numbers = {number for number in numbers if not is_erlangs(number, self.container)}
        return numbers.pop() if len(numbers) == 1 else None

    def _add(self, endpoint: Object, host: object, port: int, leaving: bool) -> None:
        pod = as_dict(endpoint.get("targetRef")).get("name") or endpoint.get("hostname")
        try:
            version = ipaddress.ip_address(str(host)).version
        except ValueError:
            return
        entry = (leaving, version == 6, Address(str(host), port))
        self._found.setdefault(str(pod), []).append(entry)


def _recognised(ports: Iterable[tuple[str, object]], scheme: str) -> int | None:
    """CouchDB's port among several, by its name or its number."""
    numbers = [(name, port) for name, port in ports if isinstance(port, int)]
    by_name = dict(reversed(numbers))
    for name in (scheme, "couchdb"):
        if name in by_name:
            return by_name[name]
    usual = DEFAULT_PORTS[scheme]
    return usual if any(port == usual for _, port in numbers) else None


def _container_ports(container: Object) -> list[tuple[str, object]]:
    return [
        (str(port.get("name") or ""), port.get("containerPort"))
        for port in as_dicts(container.get("ports"))
    ]


def is_erlangs(port: int, container: Object) -> bool:
    """Whether Erlang listens there: its port mapper, or the distribution by ERL_FLAGS."""
    if port in (EPMD_PORT, DISTRIBUTION_PORT):
        return True
    flags = [
        str(entry.get("value") or "")
        for entry in as_dicts(container.get("env"))
        if entry.get("name") == "ERL_FLAGS"
    ]
    bounds = {which: int(number) for which, number in _FLAG.findall(flags[-1])} if flags else {}
    low = bounds.get("min", bounds.get("max"))
    return low is not None and low <= port <= bounds.get("max", low)


def own_addresses(
    pod: str, published: Sequence[Address], environment: Mapping[str, str], port: int
) -> list[Address]:
    """Where the own node may listen: the pod's own address, its published ones, then loopback.

    What is published may be another pod's by now. A host name that is not the pod's, as on a node's
    own network, is asked only where nothing is published. A node that is bound to 127.0.0.1 is
    reached from its own pod only, and there it can be enabled.
    """
    port = published[0].port if published else port
    own = _is_address(environment.get("POD_IP"))
    host = socket.gethostname()
    if own is None and (not published or host.partition(".")[0] == pod):
        own = _by_own_name(host, port)
    addresses = [*([Address(own, port)] if own else ()), *published]
    families = dict.fromkeys("::1" if ":" in a.host else "127.0.0.1" for a in addresses)
    loopback = [Address(host, port) for host in families or ("127.0.0.1",)]
    return list(dict.fromkeys([*addresses, *loopback]))


def _is_address(text: str | None) -> str | None:
    try:
        return str(ipaddress.ip_address(text or ""))
    except ValueError:
        return None


def _by_own_name(host: str, port: int) -> str | None:
    """What the own host name resolves to: in a pod its address, by the kubelet's /etc/hosts."""
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except OSError:
        return None
    return str(found[0][4][0])
