"""Options and environment → one frozen value, validated whole."""

import math
import re
import ssl
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from couchdiscover.cli.options import Options
from couchdiscover.errors import UsageProblem
from couchdiscover.kube.names import is_label, is_subdomain, parse_pod_name
from couchdiscover.state.nodes import DEFAULT_DATABASES
from couchdiscover.state.settings import ClusterState, Settings, parse_size
from couchdiscover.state.topology import Scope

FORMATS = ("text", "json")
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


@dataclass(frozen=True, slots=True)
class LogSettings:
    """How the log is written. ``remarks`` are about variables that were not heeded."""

    format: str = "text"
    level: str = "INFO"
    remarks: tuple[str, ...] = ()


def build_log_settings(options: Options, environment: Mapping[str, str]) -> LogSettings:
    """The options' log settings, else LOG_FORMAT's and LOG_LEVEL's, which others may have meant.

    Raises UsageProblem; a value of LOG_FORMAT or LOG_LEVEL that is none is a remark only.
    """
    remarks = []

    def chosen(option: str, value: str | None, variable: str, allowed: Sequence[str]) -> str | None:
        if not value and (common := environment.get(variable)):
            found = _choice(common, allowed)
            if found is None:
                remarks.append(f"{variable}={common!r} is none of {', '.join(allowed)}")
            return found
        found = _choice(value, allowed) if value else None
        if value and found is None:
            raise UsageProblem(f"{option} {value!r} is none of {', '.join(allowed)}")
        return found

    log_format = chosen("--log-format", options.log_format, "LOG_FORMAT", FORMATS)
    level = chosen("--log-level", options.log_level, "LOG_LEVEL", LOG_LEVELS)
    default = LogSettings()
    return LogSettings(log_format or default.format, level or default.level, tuple(remarks))


def build_settings(options: Options, environment: Mapping[str, str]) -> Settings:
    """Validates everything at once. Raises UsageProblem that names every problem there is.

    An empty text counts as not said.
    """
    problems: list[str] = []

    def name(option: str, text: str | None, valid: Callable[[str], object]) -> str | None:
        if text and not valid(text):
            problems.append(
                f"{option} {text!r} is no such name in Kubernetes (lower case letters, digits, "
                "hyphens)"
            )
        return text or None

    def read(
        option: str, text: str | None, parse: Callable[[str], Parsed], default: Parsed
    ) -> Parsed:
        try:
            return parse(text) if text else default
        except ValueError as error:
            problems.append(f"{option}: {error}")
            return default

    domain = (options.cluster_domain or "").removesuffix(".")
    read("--output", (options.output or "").lower(), _one_of(*FORMATS), "text")
    port, linked = options.port, environment.get("COUCHDISCOVER_PORT", "")
    if port == linked and _SERVICE_LINK.match(linked):
        port = None  # Kubernetes' own, in each pod, where a Service is called couchdiscover
    ca_file = read("--ca-file", options.ca_file, _certificates, None)
    if not ca_file and options.scheme == "https" and not options.insecure_skip_tls_verify:
        ca_file = _usual_certificates(environment, problems)
    settings = Settings(
        statefulset=name("--statefulset", options.statefulset, is_subdomain),
        namespace=name("--namespace", options.namespace, is_label),
        container=name("--container", options.container, is_label),
        scope=read("--scope", options.scope, _scope, None),
        size=read("--size", options.size, parse_size, None),
        timeout=read("--timeout", options.timeout, parse_duration, 300.0),
        request_timeout=read("--request-timeout", options.request_timeout, _positive, 5.0),
        ensure_dbs=_databases(options.ensure_db or (), problems),
        repair=options.repair,
        repair_from=name("--repair-from", options.repair_from, parse_pod_name),
        cluster_state=read(
            "--cluster-state", options.cluster_state, _cluster_state, ClusterState.AUTO
        ),
        mark=options.mark,
        wait_for_copies=options.wait_for_copies,
        allow_one_copy=options.allow_one_copy,
        scheme=read("--scheme", options.scheme, _one_of("http", "https"), "http"),
        port=read("--port", port, _port, None),
        ca_file=ca_file,
        insecure_skip_tls_verify=options.insecure_skip_tls_verify,
        cluster_domain=name("--cluster-domain", domain, is_subdomain),
        kubeconfig=options.kubeconfig or None,
        context=options.context or None,
        dry_run=options.dry_run,
        wait=options.wait,
        write=options.write,
        former_names=_former_names(options.from_ or (), problems),
        only_databases=options.database or None,
        replications=read("--replications", options.replications, _one_of("run", "hold"), None),
        via=read("--via", options.via, _one_of("direct", "api-proxy"), "direct"),
        environment=dict(environment),
    )
    if settings.cluster_state is ClusterState.EXISTING and settings.scope is Scope.POD:
        problems.append("--cluster-state existing is for --scope set")
    if problems:
        raise UsageProblem("; ".join(problems))
    return settings


def _former_names(entries: Iterable[str], problems: list[str]) -> dict[str, str]:
    """``OLD=POD``, each Erlang name and each pod once."""
    found: dict[str, str] = {}
    for entry in [part.strip() for each in entries for part in each.split(",") if part.strip()]:
        name, _, pod = entry.rpartition("=")
        if not re.fullmatch(r"[^@\s]+@[^@\s]+", name) or parse_pod_name(pod) is None:
            problems.append(f"--from {entry!r} is not OLD=POD, an Erlang name and a pod's")
        elif name in found or pod in found.values():
            problems.append(f"--from names {name if name in found else pod} twice")
        else:
            found[name] = pod
    return found


def _usual_certificates(environment: Mapping[str, str], problems: list[str]) -> str | None:
    """What the environment gives instead of the usual certificates."""
    for variable in CERTIFICATE_VARIABLES:
        if path := environment.get(variable):
            if Path(path).is_dir():  # as c_rehash makes them
                return path
            try:
                return _certificates(path)
            except ValueError as error:
                problems.append(f"{variable}: {error}; --ca-file goes before it")
                return None
    return None


def _databases(entries: Iterable[str], problems: list[str]) -> tuple[str, ...]:
    """The names in comma-separated entries, but for those that are made anyway."""
    names = [name.strip() for entry in entries for name in entry.split(",")]
    wanted = tuple(dict.fromkeys(n for n in names if n and n not in DEFAULT_DATABASES))
    problems += [
        f"--ensure-db {name!r} is no name for a database (lower case, beginning with a letter)"
        for name in wanted
        if not _DATABASE.fullmatch(name)
    ]
    return wanted


def _choice(text: str, allowed: Iterable[str]) -> str | None:
    """The one that is meant, however it is capitalised."""
    return next((choice for choice in allowed if choice.lower() == text.lower()), None)


def _one_of(*allowed: str) -> Callable[[str], str]:
    def parse(text: str) -> str:
        if text not in allowed:
            raise ValueError(f"{text!r} is none of {', '.join(allowed)}")
        return text

    return parse


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
