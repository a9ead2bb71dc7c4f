"""Nodes of an installed CouchDB release, each a process on a loopback address of its own.

They find each other without EPMD, a daemon that would outlive us: each listens for Erlang's
distribution at the same port of its own address (``-erl_epmd_port``, Erlang/OTP 23.1 and later),
and a hosts file of Erlang's own knows their names.
"""

import contextlib
import os
import shutil
import signal
import ssl
import subprocess
import time
from collections.abc import Mapping, Sequence
from http.client import HTTPConnection, HTTPException, HTTPSConnection
from ipaddress import IPv6Address
from pathlib import Path

from couchdiscover.sandbox.http import Request, Response, Wire, forward
from couchdiscover.sandbox.loopback import Addresses, is_free

START_SECONDS = 60.0
STOP_SECONDS = 10.0
LOG_LINES = 20  # of a node that did not come up

_GUARD = 'read -r _ || kill -KILL "-$1"'
"""Waits for the end of its standard input, which comes when we end, in whatever way."""


class NodeStartError(RuntimeError):
    """A real node did not come up. The text ends with the last lines of its log."""


class NoReleaseError(FileNotFoundError):
    """Where a CouchDB release was said to be, there is none."""


def program(home: Path) -> Path:
    """What starts CouchDB in a release; raises NoReleaseError where it holds none."""
    found = home / "bin" / "couchdb"
    if not found.is_file():
        raise NoReleaseError(
            f"no CouchDB in {home}: {found} is missing; COUCHDB_HOME names the folder of a "
            "release, the one with bin/couchdb and etc/ in it"
        )
    return found


class RealNetwork:
    """What real nodes share: the release, a folder, the hosts file, the port of the distribution.

    ``hosts`` maps host names to loopback addresses; it must know every node there will be. Raises
    NoReleaseError where ``home`` (the folder that is called COUCHDB_HOME) holds no CouchDB.
    """

    def __init__(
        self, home: Path, folder: Path, hosts: Mapping[str, str], addresses: Addresses
    ) -> None:
        self.home = home
        program(home)
        self.folder = folder
        self.hosts = dict(hosts)
        self.port = addresses.free_port(next(iter(self.hosts.values())))
        """Where every node listens for the others, at its own address."""
        self.inetrc = folder / "erl_inetrc"
        self.add_hosts({})

    def add_hosts(self, hosts: Mapping[str, str]) -> None:
        """Has nodes that start from now on know further host names."""
        self.hosts |= hosts
        lines = ["{lookup, [file]}."]
        for host, address in self.hosts.items():
            lines.append(f'{{host, {_tuple(address)}, ["{host}"]}}.')
        self.inetrc.write_text("\n".join(lines) + "\n")


class RealNode:
    """One real node. The arguments are those of the simulated ``Node``, as far as they apply.

    The configuration is the release's, with what the official image's environment would add on top.
    ``home`` is a release of this node's own. Raises NoReleaseError where that is none. With a
    ``certificate``, a PEM file of its key and its chain, ``port`` is where it serves https; that of
    http is another one then. ``arguments`` are further lines of vm.args.
    """

    requests = None
    """What a simulated node remembers of its requests; a real one tells nobody."""

    def __init__(
        self,
        network: RealNetwork,
        *,
        name: str,
        address: str,
        port: int,
        user: str = "admin",
        password: str = "secret",  # noqa: S107
        uuid: str | None = None,
        secret: str | None = "sandbox",  # noqa: S107
        cookie: str = "sandbox-cookie",
        n: int | None = None,
        single_node: bool = False,
        lockout: bool = True,
        require_valid_user: bool = False,
        ini: Mapping[str, Mapping[str, str]] | None = None,
        home: Path | None = None,
        certificate: Path | None = None,
        arguments: Sequence[str] = (),
    ) -> None:
        self.network = network
        self.home = home or network.home
        program(self.home)
        self.name = name
        self.host = name.partition("@")[2]
        self.address = address
        self.port = port
        self.folder = network.folder / self.host
        self.data = self.folder / "data"
        self.log = self.folder / "couchdb.log"
        self.frozen = False
        self._cookie = cookie
        self._arguments = tuple(arguments)
        self._certificate = certificate
        self._process: subprocess.Popen[bytes] | None = None
        self._guard: subprocess.Popen[bytes] | None = None
        self._sections: dict[str, dict[str, str]] = {
            "admins": {user: password},
            "couchdb": {"single_node": "true"} if single_node else {},
            "chttpd": {"require_valid_user": "true"} if require_valid_user else {},
            "chttpd_auth": {} if secret is None else {"secret": secret},
            "chttpd_auth_lockout": {} if lockout else {"mode": "off"},
            "cluster": {} if n is None else {"n": str(n)},
        }
        if uuid is not None:
            self._sections["couchdb"]["uuid"] = uuid
        for section, values in (ini or {}).items():
            self._sections.setdefault(section, {}).update(values)
        shutil.rmtree(self.folder, ignore_errors=True)  # of a pod of this name that is gone
        self.data.mkdir(parents=True)
        self._write_fixed_files()
        self._reset_config()

    # --- life ---

    @property
    def running(self) -> bool:
        """Whether the process is there."""
        return self._process is not None and self._process.poll() is None

    def start(self, *, wait: bool = True) -> None:
        """Starts the process and, with ``wait``, waits for its first HTTP answer.

        Raises RuntimeError, with the end of its log, where it does not come up.
        """
        if self.running:
            return
        for port in (self.port, self.network.port):
            if not is_free(self.address, port):
                raise OSError(f"{self.address}:{port} is taken")
        environment = {
            "PATH": os.environ.get("PATH", os.defpath),
            "LANG": os.environ.get("LANG", "C.UTF-8"),
            "HOME": str(self.folder),
            "COUCHDB_ARGS_FILE": str(self.folder / "vm.args"),
            "COUCHDB_INI_FILES": " ".join(str(path) for path in self._ini_files()),
            "ERL_INETRC": str(self.network.inetrc),
            # The first thing a node does is to look for an EPMD to register with: not for one that
            # serves somebody else.
            "ERL_EPMD_PORT": str(self.network.port),
            "ERL_CRASH_DUMP_SECONDS": "0",
        }
        with (self.folder / "console.log").open("ab") as console:
            self._process = subprocess.Popen(  # noqa: S603
                [program(self.home)],
                env=environment,
                cwd=self.folder,
                stdin=subprocess.DEVNULL,
                stdout=console,
                stderr=console,
                start_new_session=True,
            )
        self._guard = subprocess.Popen(  # noqa: S603
            ["/bin/sh", "-c", _GUARD, "guard", str(self._process.pid)],
            stdin=subprocess.PIPE,
            start_new_session=True,
        )
        if wait:
            self.wait()

    def wait(self, seconds: float = START_SECONDS) -> None:
        """Waits for an HTTP answer of a started node; raises NodeStartError where none comes."""
        end = time.monotonic() + seconds
        while time.monotonic() < end and self.running:
            connection = self._connection()
            with contextlib.suppress(OSError, HTTPException), contextlib.closing(connection):
                connection.request("GET", "/_up")
                connection.getresponse()
                return
            time.sleep(0.05)
        self.stop(kill=True)
        log = "\n".join(self.read_log().splitlines()[-LOG_LINES:])
        raise NodeStartError(
            f"{self.name} did not come up, from {self.home}"
            + (f"; its log ends with\n{log}" if log else " and wrote nothing")
        )

    def stop(self, *, kill: bool = False) -> None:
        """Ends the process: as a deleted pod's, or, with ``kill``, at once and unprepared."""
        self.frozen = False
        process, guard = self._process, self._guard
        self._process = self._guard = None
        if process is not None:
            self._end(process, signal.SIGKILL if kill else signal.SIGTERM)
        if guard is not None:
            guard.kill()
            guard.wait()
            if guard.stdin is not None:
                guard.stdin.close()

    @staticmethod
    def _end(process: subprocess.Popen[bytes], first: signal.Signals) -> None:
        for number in (first, signal.SIGKILL):
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, number)
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(STOP_SECONDS)
        process.wait()

    def freeze(self) -> None:
        """Stops the process with SIGSTOP: it takes connections and never answers."""
        self._signal(signal.SIGSTOP)
        self.frozen = self.running

    def thaw(self) -> None:
        """Lets a frozen process go on."""
        self._signal(signal.SIGCONT)
        self.frozen = False

    def restart_as_official_image(self) -> None:
        """Restarts as a container of the official image: data kept, configuration made anew."""
        self.stop()
        self._reset_config()
        self.start()

    def rotate(self, sections: Mapping[str, Mapping[str, str]], cookie: str | None = None) -> None:
        """Has another environment from the next start of its container on."""
        for section, values in sections.items():
            self._sections.setdefault(section, {}).update(values)
        if cookie is not None:
            self._cookie = cookie
            self._write_fixed_files()

    def upgrade(self, home: Path) -> None:
        """Is of another release from the next start on: data kept, configuration made anew.

        Raises RuntimeError while it is running, NoReleaseError where there is no release.
        """
        if self.running:
            raise RuntimeError(f"{self.name} is running")
        program(home)
        self.home = home
        self._write_fixed_files()
        self._reset_config()

    def wipe(self, *, data: bool = True, config: bool = True) -> None:
        """Loses what was stored; a node that was running is running again afterwards."""
        was_running = self.running
        self.stop()
        if data:
            shutil.rmtree(self.data)
            self.data.mkdir()
        if config:
            self._reset_config()
        if was_running:
            self.start()

    def take_volume(self, folder: Path) -> None:
        """Moves what it stored to a folder, while it is stopped; its own is empty then."""
        self.data.rename(folder)
        self.data.mkdir()

    def put_volume(self, folder: Path) -> None:
        """Has it start on what another one, or itself, has stored: the folder becomes its own."""
        shutil.rmtree(self.data)
        folder.rename(self.data)

    async def handle(self, request: Request) -> Response | Wire:
        """Has the process answer a request that came in elsewhere."""
        return await forward(request, self.address, self.port)

    def read_log(self) -> str:
        """What the node wrote so far, to its console and to its log."""
        paths = [path for path in (self.folder / "console.log", self.log) if path.exists()]
        return "".join(path.read_text(errors="replace") for path in paths)

    def _connection(self) -> HTTPConnection:
        if self._certificate is None:
            return HTTPConnection(self.address, self.port, timeout=1)
        # Only whether anybody is there: no password is sent.
        unverified = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        unverified.check_hostname, unverified.verify_mode = False, ssl.CERT_NONE
        return HTTPSConnection(self.address, self.port, timeout=1, context=unverified)

    def _signal(self, number: signal.Signals) -> None:
        if self._process is not None and self.running:
            os.killpg(self._process.pid, number)

    # --- files ---

    def _ini_files(self) -> list[Path]:
        # CouchDB writes its changes to the last one.
        etc = self.home / "etc"
        return [etc / "default.ini", self.folder / "node.ini", self.folder / "local.ini"]

    def _write_fixed_files(self) -> None:
        fixed = {
            "couchdb": {
                "database_dir": str(self.data),
                "view_index_dir": str(self.data),
                "uri_file": str(self.folder / "couchdb.uri"),
            },
            "chttpd": {"bind_address": self.address, "port": str(self.port)},
            "log": {"writer": "file", "file": str(self.log), "level": "notice"},
            "smoosh": {"state_dir": str(self.data)},
        }
        if self._certificate is not None:
            fixed["chttpd"]["port"] = "0"  # any free one: nobody looks for it
            fixed["ssl"] = {
                "enable": "true",
                "port": str(self.port),
                "cert_file": str(self._certificate),
                "key_file": str(self._certificate),
            }
        (self.folder / "node.ini").write_text(_ini(fixed))
        arguments = [
            *self._release_arguments(),
            f"-name {self.name}",
            f"-setcookie {self._cookie}",
            "-start_epmd false",
            f"-erl_epmd_port {self.network.port}",
            f"-kernel inet_dist_use_interface {_tuple(self.address)}",
            # Several nodes share a machine: none of them spins while it waits.
            "+S 2:2",
            "+sbwt none",
            "+sbwtdcpu none",
            "+sbwtdio none",
            *(["-proto_dist inet6_tcp"] if ":" in self.address else []),
            *self._arguments,
        ]
        (self.folder / "vm.args").write_text("\n".join(arguments) + "\n")

    def _release_arguments(self) -> list[str]:
        """The release's own arguments, without those that say who a node is."""
        own = ("-name", "-sname", "-setcookie", "-kernel inet_dist_use_interface")
        path = self.home / "etc" / "vm.args"
        if not path.is_file():
            raise NoReleaseError(f"{self.home} holds no release of CouchDB: it has no etc/vm.args")
        lines = path.read_text().splitlines()
        return [line for line in lines if line.strip() and not line.startswith(("#", *own))]

    def _reset_config(self) -> None:
        path = self.folder / "local.ini"
        path.write_text(_ini(self._sections))
        path.chmod(0o600)


def _ini(sections: Mapping[str, Mapping[str, str]]) -> str:
    lines: list[str] = []
    for section, values in sections.items():
        lines.append(f"[{section}]")
        lines += [f"{key} = {value}" for key, value in values.items()]
    return "\n".join(lines) + "\n"


def _tuple(address: str) -> str:
    """An address as Erlang writes it: ``{127,0,0,1}``, or eight numbers for IPv6."""
    if ":" not in address:
        return "{" + address.replace(".", ",") + "}"
    packed = IPv6Address(address).packed
    numbers = [int.from_bytes(packed[i : i + 2], "big") for i in range(0, 16, 2)]
    return "{" + ",".join(str(number) for number in numbers) + "}"
