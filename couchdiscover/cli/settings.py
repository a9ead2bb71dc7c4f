"""Options and environment → one frozen value, validated whole."""

import math
import re
import ssl
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeVar

from couchdiscover.errors import UsageProblem
from couchdiscover.kube.names import is_label, is_subdomain, parse_pod_name
from couchdiscover.state.nodes import DEFAULT_DATABASES
from couchdiscover.state.settings import ClusterState, Settings, parse_size
from couchdiscover.state.topology import Scope

LOG_LEVELS = ("DEBUG", "INFO", "WARNING", "ERROR")
MAX_SECONDS = 7 * 24 * 3600.0

_DURATION = re.compile(r"([0-9]+(?:\.[0-9]+)?)(ms|s|m|h)?")
_UNITS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0}
_DATABASE = re.compile(r"_global_changes|[a-z][a-z0-9_$()+/-]{0,237}")
_SERVICE_LINK = re.compile(r"(tcp|udp|sctp)://")

CERTIFICATE_VARIABLES = ("REQUESTS_CA_BUNDLE", "SSL_CERT_FILE")
"""Where requests and OpenSSL are told of other certificates than the usual ones."""

Parsed = TypeVar("Parsed")


def parse_duration(text: str) -> float:
    """``90``, ``90s``, ``5m``, ``1h`` → seconds. Raises ValueError."""
    found = _DURATION.fullmatch(text.strip())
    if found is None:
        raise ValueError(f"{text!r} is no duration (90, 90s, 5m and 1h are)")
    seconds = float(found[1]) * _UNITS[found[2] or "s"]
    if not math.isfinite(seconds) or seconds > MAX_SECONDS:
        raise ValueError(f"{text!r} is longer than a week")
    return seconds


def build_settings(raw: Mapping[str, Any], environment: Mapping[str, str]) -> Settings:
    """Validates everything at once. Raises UsageProblem that names every problem there is.

    ``raw`` holds, by the names of Settings, what options and their variables said as text; None and
    the empty string count as not said.
    """
    reader = _Reader(raw)
    settings = Settings(
        statefulset=reader.text("statefulset", "--statefulset", is_subdomain),
        namespace=reader.text("namespace", "--namespace", is_label),
        container=reader.text("container", "--container", is_label),
        scope=reader.parse("scope", "--scope", _scope, None),
        size=reader.parse("size", "--size", parse_size, None),
        timeout=reader.parse("timeout", "--timeout", parse_duration, 300.0),
        request_timeout=reader.parse("request_timeout", "--request-timeout", _positive, 5.0),
        ensure_dbs=reader.databases(),
        repair=raw.get("repair") is not False,
        repair_from=reader.text(
            "repair_from", "--repair-from", lambda name: parse_pod_name(name) is not None
        ),
        cluster_state=reader.parse(
            "cluster_state", "--cluster-state", _cluster_state, ClusterState.AUTO
        ),
        mark=raw.get("mark") is not False,
        wait_for_copies=raw.get("wait_for_copies") is not False,
        allow_one_copy=bool(raw.get("allow_one_copy")),
        scheme=reader.parse("scheme", "--scheme", _scheme, "http"),
        port=reader.parse("port", "--port", _port, None),
        ca_file=reader.parse("ca_file", "--ca-file", _certificates, None)
        or reader.usual_certificates(environment),
        insecure_skip_tls_verify=bool(raw.get("insecure_skip_tls_verify")),
        cluster_domain=reader.text("cluster_domain", "--cluster-domain", is_subdomain),
        kubeconfig=raw.get("kubeconfig") or None,
        context=raw.get("context") or None,
        dry_run=bool(raw.get("dry_run")),
        wait=bool(raw.get("wait")),
        write=bool(raw.get("write")),
        via=reader.parse("via", "--via", _via, "direct"),
        environment=dict(environment),
    )
    if settings.cluster_state is ClusterState.EXISTING and settings.scope is Scope.POD:
        reader.problems.append("--cluster-state existing is for --scope set")
    if reader.problems:
        raise UsageProblem("; ".join(reader.problems))
    return settings


class _Reader:
    """Reads values one by one and gathers what is wrong with them."""

    def __init__(self, raw: Mapping[str, Any]) -> None:
        # Kubernetes sets COUCHDISCOVER_PORT in every pod beside a Service called couchdiscover.
        linked = _SERVICE_LINK.match(str(raw.get("port")))
        self._raw = {**raw, "port": None} if linked else raw
        self.problems: list[str] = []

    def text(self, key: str, option: str, valid: Callable[[str], bool]) -> str | None:
        value = self._raw.get(key)
        if value in (None, ""):
            return None
        text = str(value).removesuffix(".") if key == "cluster_domain" else str(value)
        if not valid(text):
            self.problems.append(f"{option} {text!r} is no such name in Kubernetes")
        return text

    def parse(
        self, key: str, option: str, parser: Callable[[str], Parsed], default: Parsed
    ) -> Parsed:
        value = self._raw.get(key)
        if value in (None, ""):
            return default
        try:
            return parser(str(value))
        except ValueError as error:
            self.problems.append(f"{option}: {error}")
            return default

    def usual_certificates(self, environment: Mapping[str, str]) -> str | None:
        """What the environment gives instead of the usual certificates, where any are looked at."""
        if self._raw.get("scheme") != "https" or self._raw.get("insecure_skip_tls_verify"):
            return None
        for variable in CERTIFICATE_VARIABLES:
            if path := environment.get(variable):
                if Path(path).is_dir():  # as c_rehash makes them
                    return path
                try:
                    return _certificates(path)
                except ValueError as error:
                    self.problems.append(f"{variable}: {error}; --ca-file goes before it")
                    return None
        return None

    def databases(self) -> tuple[str, ...]:
        names = [
            name.strip()
            for entry in self._raw.get("ensure_dbs") or ()
            for name in str(entry).split(",")
        ]
        wanted = tuple(dict.fromkeys(n for n in names if n and n not in DEFAULT_DATABASES))
        self.problems += [
            f"--ensure-db {name!r} is no name for a database (lower case, beginning with a letter)"
            for name in wanted
            if not _DATABASE.fullmatch(name)
        ]
        return wanted


def _scope(text: str) -> Scope | None:
    if text == "auto":
        return None
    try:
        return Scope(text)
    except ValueError:
        raise ValueError(f"{text!r} is none of auto, pod, set") from None


def _cluster_state(text: str) -> ClusterState:
    try:
        return ClusterState(text)
    except ValueError:
        raise ValueError(f"{text!r} is none of auto, existing") from None


def _via(text: str) -> str:
    if text not in ("direct", "api-proxy"):
        raise ValueError(f"{text!r} is none of direct, api-proxy")
    return text


def _scheme(text: str) -> str:
    if text not in ("http", "https"):
        raise ValueError(f"{text!r} is none of http, https")
    return text


def _port(text: str) -> int:
    if not re.fullmatch(r"[0-9]{1,5}", text) or not 1 <= int(text) <= 65535:
        raise ValueError(f"{text!r} is no port (1 to 65535)")
    return int(text)


def _positive(text: str) -> float:
    seconds = parse_duration(text)
    if seconds == 0:
        raise ValueError("0 would let no request be answered")
    return seconds


def _certificates(path: str) -> str:
    if not Path(path).is_file():
        raise ValueError(f"there is no file {path!r}")
    try:
        ssl.create_default_context(cafile=path)
    except OSError:
        raise ValueError(f"{path!r} holds no certificates (PEM)") from None
    return path
