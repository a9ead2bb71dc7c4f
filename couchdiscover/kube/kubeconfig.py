"""Where the Kubernetes API is and who asks it: the service account's folder, or kubeconfigs.

Read and merged as kubectl does it (client-go, tools/clientcmd: loader.go, client_config.go,
overrides.go; the Kubernetes documentation, "Organizing Cluster Access Using kubeconfig Files").
Nothing is written anywhere: what is embedded stays in memory.
"""

import base64
import ipaddress
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import quote, urlsplit

import yaml

from couchdiscover.errors import UsageProblem
from couchdiscover.kube import plugin
from couchdiscover.kube.plugin import Plugin

SERVICE_ACCOUNT = Path("/var/run/secrets/kubernetes.io/serviceaccount")

DEFAULT_FILE = "~/.kube/config"

Entry = Mapping[str, Any]
Result = TypeVar("Result")


@dataclass(frozen=True, slots=True)
class Access:
    """One server, and one user of it. What is secret shows in no repr.

    ``authority`` are the certificates that the server's is checked by, as PEM; None is the usual
    ones. ``token_file`` goes before ``token``. ``certificate`` is the client's, and its key, as
    PEM. ``impersonation`` are headers.
    """

    source: str
    server: str
    namespace: str | None = None
    authority: bytes | None = field(default=None, repr=False)
    verify: bool = True
    tls_name: str | None = None
    proxy: str | None = field(default=None, repr=False)
    token: str | None = field(default=None, repr=False)
    token_file: Path | None = None
    password: tuple[str, str] | None = field(default=None, repr=False)
    certificate: tuple[bytes, bytes] | None = field(default=None, repr=False)
    plugin: Plugin | None = None
    impersonation: tuple[tuple[str, str], ...] = ()


class _UnusableError(Exception):
    """What is wrong, in words that hold no secret."""


def find_access(
    kubeconfig: str | None, context: str | None, environment: Mapping[str, str]
) -> Access:
    """The service account, unless a kubeconfig or a context is named; else the kubeconfig.

    ``kubeconfig`` may be several files, as KUBECONFIG may. Raises UsageProblem where none of them
    can be used.
    """
    in_cluster = "KUBERNETES_SERVICE_HOST" in environment
    if kubeconfig is None and context is None and in_cluster:
        if (SERVICE_ACCOUNT / "token").exists():
            return _usable(str(SERVICE_ACCOUNT), lambda: _by_account(environment))
        if not Path(DEFAULT_FILE).expanduser().is_file():
            raise UsageProblem(
                f"this pod has no service account's token (there is none in {SERVICE_ACCOUNT}): "
                "set automountServiceAccountToken: true in its template, or in its ServiceAccount"
            )
    named = kubeconfig or DEFAULT_FILE
    files = [Path(part).expanduser() for part in named.split(os.pathsep) if part]
    files = [path for path in files if path.is_file()]
    if not files:
        raise UsageProblem(
            f"not in a cluster (no service account in {SERVICE_ACCOUNT}), and there is no "
            f"kubeconfig at {named}; name one with --kubeconfig or KUBECONFIG"
        )
    merged = _Merged()
    for path in files:
        _usable(str(path), partial(merged.add, path))
    return _usable(named, lambda: merged.access(named, context))


def _usable(where: str, read: Callable[[], Result]) -> Result:
    try:
        return read()
    except UsageProblem:
        raise
    except _UnusableError as error:
        detail = str(error)
    except Exception as error:  # noqa: BLE001 - a kubeconfig can be wrong in any way
        detail = type(error).__name__
    raise UsageProblem(f"the Kubernetes configuration at {where} cannot be used ({detail})")


# --- the service account ---


def _by_account(environment: Mapping[str, str]) -> Access:
    host = environment["KUBERNETES_SERVICE_HOST"]
    port = environment.get("KUBERNETES_SERVICE_PORT")
    if not port:
        raise _UnusableError("KUBERNETES_SERVICE_PORT is not set")
    return Access(
        source=str(SERVICE_ACCOUNT),
        server=f"https://[{host}]:{port}" if ":" in host else f"https://{host}:{port}",
        namespace=_read(SERVICE_ACCOUNT / "namespace").decode().strip() or None,
        authority=_read(SERVICE_ACCOUNT / "ca.crt"),
        token_file=SERVICE_ACCOUNT / "token",
    )


# --- kubeconfigs ---


@dataclass(slots=True)
class _Merged:
    """Several kubeconfigs: of what two of them define, the first one's counts, whole."""

    current: str = ""
    entries: dict[tuple[str, str], tuple[Entry, Path]] = field(default_factory=dict)

    def add(self, path: Path) -> None:
        doc = yaml.safe_load(path.read_text(encoding="utf-8")) or {}
        if not isinstance(doc, dict):
            raise _UnusableError("it is no kubeconfig")
        self.current = self.current or str(doc.get("current-context") or "")
        for kind in ("cluster", "user", "context"):
            for item in doc.get(f"{kind}s") or ():
                entry = item[kind]
                if not isinstance(entry, dict):
                    raise _UnusableError(f"{kind} {item['name']!r} is empty")
                self.entries.setdefault((kind, str(item["name"])), (entry, path.parent))

    def access(self, source: str, context: str | None) -> Access:
        if context is not None and ("context", context) not in self.entries:
            raise UsageProblem(
                f"the kubeconfig has no context {context!r}; "
                "`kubectl config get-contexts` lists them"
            )
        chosen = context or self.current
        if not chosen:
            raise _UnusableError("it has no current-context")
        frame, _ = self._find("context", chosen)
        cluster, folder = self._find("cluster", frame.get("cluster"))
        user: Entry = {}
        user_folder = folder
        if frame.get("user"):
            user, user_folder = self._find("user", frame["user"])
        server = cluster.get("server")
        if not isinstance(server, str) or not server:
            raise _UnusableError("its cluster names no server")
        authority = _content(cluster, "certificate-authority", folder)
        return Access(
            source=source,
            server=server,
            namespace=str(frame.get("namespace") or "").strip() or None,
            authority=authority,
            verify=cluster.get("insecure-skip-tls-verify") is not True,
            tls_name=_text(cluster, "tls-server-name"),
            proxy=_text(cluster, "proxy-url"),
            token=_text(user, "token") or _provided_token(user),
            token_file=_path(user, "tokenFile", user_folder),
            password=_password(user),
            certificate=_certificate(user, user_folder),
            plugin=_plugin(user, user_folder, _told(cluster, authority)),
            impersonation=tuple(_impersonation(user)),
        )

    def _find(self, kind: str, name: object) -> tuple[Entry, Path]:
        found = self.entries.get((kind, str(name)))
        if found is None:
            raise _UnusableError(f"it has no {kind} {str(name or '')!r}")
        return found


def _text(entry: Entry, key: str) -> str | None:
    value = entry.get(key)
    if value is not None and not isinstance(value, str):
        raise _UnusableError(f"its {key} is no text")
    return value or None


def _path(entry: Entry, key: str, folder: Path) -> Path | None:
    """A file that is named; a relative one is relative to the kubeconfig that names it."""
    name = _text(entry, key)
    return None if name is None else folder / name


def _content(entry: Entry, key: str, folder: Path) -> bytes | None:
    """What is embedded, else what the file holds that is named instead."""
    embedded = _text(entry, f"{key}-data")
    if embedded is not None:
        try:
            return base64.b64decode(embedded, validate=True)
        except ValueError:
            raise _UnusableError(f"its {key}-data is no base64") from None
    path = _path(entry, key, folder)
    return None if path is None else _read(path)


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise _UnusableError(f"{path}: {error.strerror}") from None


def _password(user: Entry) -> tuple[str, str] | None:
    name, word = _text(user, "username"), _text(user, "password")
    return (name, word) if name and word else None


def _certificate(user: Entry, folder: Path) -> tuple[bytes, bytes] | None:
    certificate = _content(user, "client-certificate", folder)
    key = _content(user, "client-key", folder)
    if (certificate is None) != (key is None):
        raise _UnusableError("of client-certificate and client-key one is missing")
    return None if certificate is None or key is None else (certificate, key)


def _plugin(user: Entry, folder: Path, cluster: Entry) -> Plugin | None:
    entry = user.get("exec")
    if entry is None:
        return None
    if not isinstance(entry, dict):
        raise _UnusableError("its exec is no object")
    return plugin.read(entry, cluster, folder)


def _told(cluster: Entry, authority: bytes | None) -> Entry:
    """What a plugin is told of the cluster: ExecCredential's ``spec.cluster``."""
    told = {
        key: cluster[key]
        for key in ("server", "tls-server-name", "insecure-skip-tls-verify", "proxy-url")
        if cluster.get(key)
    }
    if authority is not None:
        told["certificate-authority-data"] = base64.b64encode(authority).decode()
    for extension in cluster.get("extensions") or ():
        if extension.get("name") == f"{plugin.GROUP}/exec":
            told["config"] = extension.get("extension")
    return told


def _provided_token(user: Entry) -> str | None:
    """The token that an ``auth-provider`` keeps here; the ways to renew it are kubectl's own."""
    provider = user.get("auth-provider")
    if not isinstance(provider, dict) or any(
        user.get(key) for key in ("token", "tokenFile", "exec", "username", "client-certificate")
    ):
        return None
    token = (provider.get("config") or {}).get("id-token")
    if provider.get("name") != "oidc" or not isinstance(token, str):
        raise UsageProblem(
            f"the kubeconfig's auth-provider {provider.get('name')!r} is not supported (nor is it "
            "by kubectl any more): use a credential plugin (exec), a token or a client certificate"
        )
    return token


def _impersonation(user: Entry) -> Iterator[tuple[str, str]]:
    """Headers, as client-go sets them (transport/round_trippers.go)."""
    if not (name := _text(user, "as")):
        if any(user.get(key) for key in ("as-uid", "as-groups", "as-user-extra")):
            raise _UnusableError("it has as-groups, as-uid or as-user-extra without as")
        return
    yield "Impersonate-User", _sendable("as", name)
    if uid := _text(user, "as-uid"):
        yield "Impersonate-Uid", _sendable("as-uid", uid)
    for group in _texts(user.get("as-groups")):
        yield "Impersonate-Group", _sendable("as-groups", group)
    extra = user.get("as-user-extra") or {}
    for key, values in extra.items():
        for value in _texts(values):
            header = f"Impersonate-Extra-{quote(str(key).lower(), safe='')}"
            yield header, _sendable("as-user-extra", value)


def _sendable(key: str, value: str) -> str:
    if not (value.isascii() and value.isprintable()):
        raise _UnusableError(f"its {key} has characters that HTTP cannot transport")
    return value


def _texts(values: object) -> Sequence[str]:
    return [str(value) for value in values] if isinstance(values, list) else []


# --- proxies ---


def proxy_for(access: Access, environment: Mapping[str, str]) -> str | None:
    """The proxy on the way to the server: the kubeconfig's, else the environment's, if any.

    The environment's counts outside of a cluster only. By golang.org/x/net/http/httpproxy, as
    kubectl has it: never for this machine itself, and not for what NO_PROXY names.
    """
    if access.proxy is not None:
        return access.proxy
    if "KUBERNETES_SERVICE_HOST" in environment:
        return None
    server = urlsplit(access.server)
    name = "HTTPS_PROXY" if server.scheme == "https" else "HTTP_PROXY"
    proxy = environment.get(name) or environment.get(name.lower())
    if not proxy:
        return None
    exempt = environment.get("NO_PROXY") or environment.get("no_proxy") or ""
    if _is_exempt(server.hostname or "", _port(server), exempt):
        return None
    return proxy if "://" in proxy else f"http://{proxy}"


def _port(server: Any) -> int:
    try:
        return int(server.port or 0) or (443 if server.scheme == "https" else 80)
    except ValueError:
        return 0


def _is_exempt(host: str, port: int, exempt: str) -> bool:
    address = _address(host)
    if host == "localhost" or (address is not None and address.is_loopback):
        return True
    for entry in exempt.lower().replace(",", " ").split():
        if entry == "*":
            return True
        try:
            if address is not None and address in ipaddress.ip_network(entry, strict=False):
                return True
        except ValueError:
            pass
        name, _, only = entry.rpartition(":")
        if not name or not only.isdigit() or _address(entry) is not None:
            name, only = entry, ""
        if only and int(only) != port:
            continue
        name = name.strip("[]").removeprefix("*")
        if address is not None:
            if _address(name) == address:
                return True
        elif name.startswith("."):
            if host.endswith(name):
                return True
        elif host == name or host.endswith(f".{name}"):
            return True
    return False


def _address(text: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    try:
        return ipaddress.ip_address(text)
    except ValueError:
        return None
