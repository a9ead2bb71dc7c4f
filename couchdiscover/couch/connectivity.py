"""Why a member does not get connected: no cookie, no name, no port 4369, another cookie.

Erlang nodes find each other through the port mapper daemon (EPMD, port 4369), which tells the port
of the distribution protocol by the node's short name (Erlang/OTP, "Distribution Protocol").
"""

import contextlib
import re
import socket

from couchdiscover.decide.membership import host_of, is_address
from couchdiscover.state.nodes import NodeView
from couchdiscover.state.topology import EPMD_PORT, Address, Topology

_NAMES_REQUEST = b"\x00\x01n"
_MAX_NAMES = 64 * 1024


def likeliest_cause(topology: Topology, node: NodeView, seconds: float) -> str:
    """What keeps others from connecting to a node, as far as it shows from here.

    What the template lacks is named first; then the node's name and ports are tried, each for
    ``seconds`` at most.
    """
    return "; ".join([*template_cause(topology), _probed(topology, node, seconds)])


def template_cause(topology: Topology) -> list[str]:
    """What the template of the pods lacks, without which nodes do not connect."""
    if topology.cookie_set is not False:
        return []
    return ["no Erlang cookie is set (COUCHDB_ERLANG_COOKIE)"]


def _probed(topology: Topology, node: NodeView, seconds: float) -> str:
    """What the node's name and ports tell.

    A port that is closed to us may be open between the nodes, as a NetworkPolicy should have it:
    then it is said that nothing can be told from here.
    """
    short, host, address = node.name.partition("@")[0], host_of(node.name), node.address
    if not _resolves(host):
        return f"the name {host} does not resolve from here{_wanted_name(topology, node, host)}"
    listing = _ask_epmd(address.host, seconds)
    if listing is None:
        return _untold(EPMD_PORT, address)
    ports = dict(re.findall(r"^name (\S+) at port (\d{1,5})$", listing, re.MULTILINE))
    if short not in ports:
        return f"the port mapper at {address.host} knows no node {short}"
    port = int(ports[short])
    if not _listens(address.host, port, seconds):
        return _untold(port, address)
    return (
        "its ports answer: CouchDB tries again within a minute; if it stays so, the Erlang cookies "
        "differ (COUCHDB_ERLANG_COOKIE), or the nodes know it by another name"
    )


def _wanted_name(topology: Topology, node: NodeView, host: str) -> str:
    """What makes a name resolve: of the Service, or of the node's own configuration."""
    pod = topology.pod(node.pod)
    wanted = pod.host_name if pod is not None else ""
    # In another domain than the one that is assumed here it is right all the same.
    if wanted and not is_address(host) and _stem(host) != _stem(wanted):
        return f": Kubernetes calls the pod {wanted} (spec.serviceName), and so must NODENAME"
    if topology.service_problem or not topology.unpublished:
        return ""  # the problem is told once, of all; without one the resolver here tells nothing
    return ": the headless Service wants publishNotReadyAddresses: true"


def _stem(host: str) -> str:
    """A pod's name without the cluster's domain."""
    return host.partition(".svc.")[0]


def _untold(port: int, address: Address) -> str:
    return (
        f"port {port} of {address.host} is closed to couchdiscover, so that the cause cannot be "
        f"told from here; between the nodes it must be open: is a NetworkPolicy or a service mesh "
        "in between?"
    )


def _resolves(host: str) -> bool:
    try:
        socket.getaddrinfo(host, None)
    except OSError:
        return False
    return True


def _ask_epmd(host: str, seconds: float) -> str | None:
    """The names that EPMD knows, one to a line; None where it does not answer."""
    listing = b""
    with (
        contextlib.suppress(OSError),
        socket.create_connection((host, EPMD_PORT), timeout=seconds) as connection,
    ):
        connection.sendall(_NAMES_REQUEST)
        while len(listing) < _MAX_NAMES and (chunk := connection.recv(4096)):
            listing += chunk
    if len(listing) < 4:
        return None
    return listing[4:].decode("utf-8", "replace")  # the first four bytes are EPMD's own port


def _listens(host: str, port: int, seconds: float) -> bool:
    try:
        socket.create_connection((host, port), timeout=seconds).close()
    except (OSError, OverflowError):  # the latter for a port that is none
        return False
    return True
