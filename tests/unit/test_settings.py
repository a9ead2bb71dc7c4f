"""Options as text → Settings; everything that is wrong is told at once."""

from pathlib import Path
from typing import Any

import pytest
import trustme
from hypothesis import given
from hypothesis import strategies as st

from couchdiscover.cli.options import Options
from couchdiscover.cli.settings import (
    MAX_SECONDS,
    LogSettings,
    build_log_settings,
    build_settings,
    parse_duration,
)
from couchdiscover.errors import UsageProblem
from couchdiscover.state.settings import MAX_SIZE, ClusterState, Settings, parse_size
from couchdiscover.state.topology import Scope


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("90", 90),
        ("90s", 90),
        ("5m", 300),
        ("1h", 3600),
        ("0", 0),
        ("0.5s", 0.5),
        ("250ms", 0.25),
        (" 5m ", 300),
        ("1.5h", 5400),
    ],
)
def test_durations(text: str, seconds: float) -> None:
    assert parse_duration(text) == pytest.approx(seconds)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "m",
        "-1",
        "-5m",
        "5 m",
        "5d",
        "1h30m",
        "1e3",
        "inf",
        "nan",
        ".5",
        "5.",
        "\u0665",
        "1m\n2m",
    ],
)
def test_what_is_no_duration(text: str) -> None:
    with pytest.raises(ValueError, match="is no duration"):
        parse_duration(text)


@pytest.mark.parametrize("text", ["169h", "604801", "9" * 400 + "h"])
def test_nobody_waits_for_longer_than_a_week(text: str) -> None:
    with pytest.raises(ValueError, match="is longer than a week"):
        parse_duration(text)


@given(st.integers(0, int(MAX_SECONDS)))
def test_seconds_stay_what_they_are(seconds: int) -> None:
    assert parse_duration(str(seconds)) == parse_duration(f"{seconds}s") == seconds


@given(st.text(max_size=30))
def test_any_text_is_a_finite_duration_or_a_value_error(text: str) -> None:
    try:
        seconds = parse_duration(text)
    except ValueError:
        return
    assert 0 <= seconds <= MAX_SECONDS


@pytest.mark.parametrize(("text", "size"), [("1", 1), (" 3\n", 3), (str(MAX_SIZE), MAX_SIZE)])
def test_sizes(text: str, size: int) -> None:
    assert parse_size(text) == size


@pytest.mark.parametrize(
    "text", ["0", "-3", "+3", "three", "3.0", "1e1", "", "٣", str(MAX_SIZE + 1), "9" * 5000]
)
def test_what_is_no_size(text: str) -> None:
    with pytest.raises(ValueError, match="is no number of nodes"):
        parse_size(text)


def test_without_a_word_everything_has_its_default() -> None:
    settings = build_settings(Options(), {})
    assert settings == Settings()
    assert (settings.timeout, settings.request_timeout, settings.repair) == (300.0, 5.0, True)
    assert settings.databases == ("_users", "_replicator")
    assert settings.verify is True


def test_empty_texts_count_as_not_said() -> None:
    empty: dict[str, Any] = dict.fromkeys(
        ("statefulset", "namespace", "scope", "size", "timeout", "port", "scheme", "ca_file"), ""
    )
    assert (
        build_settings(Options(**empty, ensure_db=[""], kubeconfig="", context=""), {})
        == Settings()
    )


def test_everything_that_can_be_said(tmp_path: Path) -> None:
    ca_file = tmp_path / "ca.pem"
    trustme.CA().cert_pem.write_to_path(ca_file)
    settings = build_settings(
        Options(
            statefulset="my.couch",
            namespace="db",
            container="couchdb",
            scope="pod",
            size="3",
            timeout="0",
            request_timeout="2s",
            ensure_db=["orders,_users", "a/b , orders", "_global_changes"],
            repair=False,
            repair_from="my.couch-1",
            cluster_state="auto",
            mark=False,
            wait_for_copies=False,
            allow_one_copy=True,
            scheme="https",
            port="6984",
            ca_file=str(ca_file),
            cluster_domain="corp.example.",
            kubeconfig="/nowhere",
            context="prod",
            dry_run=True,
        ),
        {"HOME": "/root"},
    )
    assert settings == Settings(
        statefulset="my.couch",
        namespace="db",
        container="couchdb",
        scope=Scope.POD,
        size=3,
        timeout=0.0,
        request_timeout=2.0,
        ensure_dbs=("orders", "a/b", "_global_changes"),
        repair=False,
        repair_from="my.couch-1",
        cluster_state=ClusterState.AUTO,
        mark=False,
        wait_for_copies=False,
        allow_one_copy=True,
        scheme="https",
        port=6984,
        ca_file=str(ca_file),
        cluster_domain="corp.example",
        kubeconfig="/nowhere",
        context="prod",
        dry_run=True,
        environment={"HOME": "/root"},
    )
    assert settings.verify == str(ca_file)
    assert settings.databases == ("_users", "_replicator", "orders", "a/b", "_global_changes")


def test_no_new_cluster_is_for_the_whole_set() -> None:
    settings = build_settings(Options(cluster_state="existing"), {})
    assert settings.cluster_state is ClusterState.EXISTING


@pytest.mark.parametrize("variable", ["SSL_CERT_FILE", "REQUESTS_CA_BUNDLE"])
def test_the_usual_variables_name_certificates_too(tmp_path: Path, variable: str) -> None:
    ca_file, named = tmp_path / "ca.pem", tmp_path / "named.pem"
    for path in (ca_file, named):
        trustme.CA().cert_pem.write_to_path(path)
    environment = {variable: str(ca_file)}
    https = Options(scheme="https")
    assert build_settings(https, environment).verify == str(ca_file)
    assert build_settings(https, {variable: str(tmp_path)}).verify == str(tmp_path)
    both = Options(scheme="https", ca_file=str(named))
    assert build_settings(both, environment).verify == str(named)
    skipped = Options(scheme="https", insecure_skip_tls_verify=True)
    assert build_settings(skipped, {variable: "/no/such/file"}).verify is False
    http = Options()
    assert build_settings(http, {variable: "/no/such/file"}).verify is True  # never looked at
    with pytest.raises(UsageProblem, match=f"{variable}: there is no file.*--ca-file"):
        build_settings(https, {variable: "/no/such/file"})


def test_to_skip_the_verification_wins_over_a_ca_file(tmp_path: Path) -> None:
    ca_file = tmp_path / "ca.pem"
    trustme.CA().cert_pem.write_to_path(ca_file)
    options = Options(ca_file=str(ca_file), insecure_skip_tls_verify=True)
    assert build_settings(options, {}).verify is False


@pytest.mark.parametrize(
    ("raw", "told"),
    [
        ({"statefulset": "../secrets/x"}, "--statefulset '../secrets/x'"),
        ({"statefulset": "Couch"}, "--statefulset"),
        ({"namespace": "a.b"}, "--namespace"),
        ({"namespace": "db "}, "--namespace"),
        ({"container": "a b"}, "--container"),
        ({"scope": "cluster"}, "--scope: 'cluster' is none of auto, pod, set"),
        ({"size": "0"}, "--size: '0' is no number of nodes"),
        ({"size": "-1"}, "--size"),
        ({"size": "three"}, "--size"),
        ({"timeout": "soon"}, "--timeout: 'soon' is no duration"),
        ({"timeout": "-1"}, "--timeout"),
        ({"timeout": "8h5"}, "--timeout"),
        ({"request_timeout": "0"}, "--request-timeout: 0 would"),
        ({"ensure_db": ["Orders"]}, "--ensure-db 'Orders'"),
        ({"ensure_db": ["a,_orders"]}, "--ensure-db '_orders'"),  # CouchDB answers 400
        ({"ensure_db": ["a" * 239]}, "--ensure-db"),
        ({"ensure_db": ["1a"]}, "--ensure-db"),
        ({"repair_from": "couchdb"}, "--repair-from 'couchdb'"),
        ({"cluster_state": "new"}, "--cluster-state: 'new' is none of auto, existing"),
        (
            {"cluster_state": "existing", "scope": "pod"},
            "--cluster-state existing is for --scope set",
        ),
        ({"scheme": "ftp"}, "--scheme: 'ftp'"),
        ({"port": "0"}, "--port: '0'"),
        ({"port": "65536"}, "--port"),
        ({"port": "http"}, "--port"),
        ({"ca_file": "/no/such/file"}, "--ca-file: there is no file '/no/such/file'"),
        ({"ca_file": "/"}, "--ca-file"),
        ({"ca_file": __file__}, "holds no certificates"),
        ({"cluster_domain": "cluster local"}, "--cluster-domain"),
        ({"output": "yaml"}, "--output: 'yaml' is none of text, json"),
        ({"via": "tunnel"}, "--via: 'tunnel' is none of direct, api-proxy"),
    ],
)
def test_bad_input(raw: dict[str, Any], told: str) -> None:
    with pytest.raises(UsageProblem) as caught:
        build_settings(Options(**raw), {})
    assert told in str(caught.value)
    assert caught.value.exit_code == 2


def test_all_problems_are_told_together() -> None:
    with pytest.raises(UsageProblem) as caught:
        build_settings(Options(size="x", port="x", namespace="X", ensure_db=["X", "Y"]), {})
    problems = str(caught.value).split("; ")
    assert len(problems) == 5


def test_the_environment_is_not_shown() -> None:
    settings = build_settings(Options(), {"COUCHDB_PASSWORD": "hunter2"})
    assert settings.environment["COUCHDB_PASSWORD"] == "hunter2"
    assert "hunter2" not in repr(settings)


# --- what a Service called couchdiscover puts into every pod's environment ---


@pytest.mark.parametrize("linked", ["tcp://10.96.0.7:80", "udp://[fd00::1]:80"])
def test_a_services_port_is_no_port(linked: str) -> None:
    """Kubernetes sets NAME_PORT for each Service (documentation, "Service", "Discovering")."""
    assert build_settings(Options(port=linked), {"COUCHDISCOVER_PORT": linked}).port is None
    with pytest.raises(UsageProblem, match="--port"):
        build_settings(Options(port=linked), {})
    with pytest.raises(UsageProblem, match="--port"):
        build_settings(Options(port="none"), {"COUCHDISCOVER_PORT": "none"})


# --- the log ---


@pytest.mark.parametrize(
    ("options", "environment", "expected"),
    [
        (Options(), {}, LogSettings("text", "INFO")),
        (Options(log_format="json", log_level="debug"), {}, LogSettings("json", "DEBUG")),
        (Options(log_format="", log_level=""), {}, LogSettings("text", "INFO")),
        (Options(), {"LOG_FORMAT": "JSON", "LOG_LEVEL": "warning"}, LogSettings("json", "WARNING")),
        (Options(log_format="text"), {"LOG_FORMAT": "json"}, LogSettings("text", "INFO")),
        (Options(log_level="ERROR"), {"LOG_LEVEL": "trace"}, LogSettings("text", "ERROR")),
    ],
)
def test_log_settings(options: Options, environment: dict[str, str], expected: LogSettings) -> None:
    assert build_log_settings(options, environment) == expected


def test_what_others_may_have_meant_is_a_remark() -> None:
    settings = build_log_settings(Options(), {"LOG_FORMAT": "logfmt", "LOG_LEVEL": "trace"})
    assert (settings.format, settings.level) == ("text", "INFO")
    assert settings.remarks == (
        "LOG_FORMAT='logfmt' is none of text, json",
        "LOG_LEVEL='trace' is none of DEBUG, INFO, WARNING, ERROR",
    )


@pytest.mark.parametrize("options", [Options(log_format="xml"), Options(log_level="loud")])
def test_what_was_meant_for_us_is_a_usage_problem(options: Options) -> None:
    with pytest.raises(UsageProblem, match="is none of"):
        build_log_settings(options, {})
