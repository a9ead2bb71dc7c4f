"""Addresses on loopback that nobody else uses."""

import secrets
import socket
from collections.abc import Collection
from ipaddress import IPv4Address, IPv6Address, ip_address

_FIRST, _LAST = IPv4Address("127.1.0.0"), IPv4Address("127.254.0.0")
_PORTS = range(10240, 32768)  # below those that systems give to outgoing connections
_ATTEMPTS = 256


def is_free(host: str, port: int) -> bool:
    """Whether a server could listen there now. False also where there is no such address."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as probe:
        # As asyncio does: a connection in TIME_WAIT is in nobody's way.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError:
            return False
    return True


class Addresses:
    """Hands out addresses: each a host of its own with the same port, none of them 127.0.0.1.

    Where the system has only 127.0.0.1, as macOS, each is a port of its own instead. The range
    starts anywhere in 127.0.0.0/8, so that sandboxes that run at once do not meet; or at ``first``,
    the first of some addresses, IPv6 ones too, that the system was given for it.
    """

    def __init__(self, first: str | None = None) -> None:
        self._next: IPv4Address | IPv6Address
        if first is None:
            self._next = _FIRST + secrets.randbelow(int(_LAST) - int(_FIRST))
        else:
            self._next = ip_address(first)
        self.has_hosts = is_free(str(self._next), 0)
        """Whether each gets a host of its own."""
        self.port = self.free_port(str(self._next)) if self.has_hosts else 5984
        """The port that all have, where each has a host of its own."""

    @property
    def is_ipv6(self) -> bool:
        """Whether they are IPv6 addresses."""
        return self._next.version == 6

    def take(self) -> tuple[str, int]:
        """The next address; raises OSError where none is free."""
        if not self.has_hosts:
            return "127.0.0.1", self.free_port("127.0.0.1")
        for _ in range(_ATTEMPTS):
            host = str(self._next)
            self._next += 1
            if is_free(host, self.port):
                return host, self.port
        raise OSError(f"port {self.port} is taken on loopback")

    def take_host(self, ports: Collection[int]) -> str | None:
        """The next host on which these very ports are free; None where none is.

        So it is where there is only 127.0.0.1, where another program listens at such a port of all
        addresses, and for ports that need a privilege.
        """
        if not self.has_hosts:
            return None
        for _ in range(8):
            host = str(self._next)
            self._next += 1
            if all(is_free(host, port) for port in ports):
                return host
        return None

    def free_port(self, host: str) -> int:
        """Any free port of a host; raises OSError where none is found."""
        for _ in range(_ATTEMPTS):
            port = secrets.choice(_PORTS)
            if is_free(host, port):
                return port
        raise OSError(f"no free port on {host}")
