"""The command line: options and environment → Settings, signals, and the one place that exits.

Commands import what they need inside the function, so that their ``--help`` stays fast.
"""

import gc
import io
import logging
import os
import signal
import sys
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Annotated, Any

import typer
from typer.core import TyperGroup

from couchdiscover import __version__
from couchdiscover.errors import CouchdiscoverError, Interrupted, UsageProblem
from couchdiscover.frontpage import PAGE

if TYPE_CHECKING:
    from couchdiscover.output.log import Output, Redactor
    from couchdiscover.output.report import Report

DEFAULT_COMMAND = "run"
OUTPUTS = ("text", "json")
LOG_FORMATS = ("text", "json")
LOG_LEVELS = ("DEBUG", "INFO", "WARNING", "ERROR")
DEFAULT_TERMINATION_LOG = Path("/dev/termination-log")

EPILOG = (
    "Exit codes: 0 done or already so, 2 usage, 3 a person must act, 4 timed out, 5 denied, "
    "6 unsafe, 130/143 interrupted."
)


class _Commands(TyperGroup):
    """The commands; their common page is written by hand."""

    def get_help(self, ctx: Any) -> str:  # noqa: ARG002
        return PAGE.rstrip()


app = typer.Typer(
    name="couchdiscover",
    cls=_Commands,
    no_args_is_help=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def main() -> None:
    """Runs the command line; without a command it is ``run``."""
    _catch_signals()
    arguments = sys.argv[1:]
    general = {"-h", "--help", "--version", "--install-completion", "--show-completion"}
    if not arguments or (arguments[0].startswith("-") and arguments[0] not in general):
        arguments = [DEFAULT_COMMAND, *arguments]
    try:
        app(args=arguments, prog_name="couchdiscover")
    except Interrupted as error:  # before or after the run itself
        sys.stderr.write(f"{error}\n")
        raise SystemExit(error.exit_code) from None


def _show_version(value: bool) -> None:
    if value:
        typer.echo(f"couchdiscover {__version__}")
        raise typer.Exit


@app.callback()
def _general(
    version: Annotated[
        bool,
        typer.Option("--version", callback=_show_version, is_eager=True, help="Show the version."),
    ] = False,
) -> None:
    """Assembles the CouchDB nodes of a Kubernetes StatefulSet into one verified cluster."""


def _option(help_text: str, *names: str, env: str | None = None, metavar: str | None = None) -> Any:
    return typer.Option(*names, envvar=env, help=help_text, metavar=metavar, show_default=False)


# --- the options, each once -------------------------------------------------------------------

StatefulSetName = Annotated[
    str | None,
    _option(
        "StatefulSet that runs CouchDB [default: the own pod's]",
        "--statefulset",
        "-s",
        env="COUCHDISCOVER_STATEFULSET",
        metavar="NAME",
    ),
]
Namespace = Annotated[
    str | None,
    _option(
        "Its namespace [default: the own pod's, then the kubeconfig context's]",
        "--namespace",
        "-n",
        env="COUCHDISCOVER_NAMESPACE",
        metavar="NAME",
    ),
]
Container = Annotated[
    str | None,
    _option(
        "Container that runs CouchDB [default: couchdb, or the only one]",
        "--container",
        env="COUCHDISCOVER_CONTAINER",
        metavar="NAME",
    ),
]
ScopeChoice = Annotated[
    str | None,
    _option(
        "Bring in the own pod, or all [default: pod in a pod of the StatefulSet, else set]",
        "--scope",
        env="COUCHDISCOVER_SCOPE",
        metavar="auto|pod|set",
    ),
]
Size = Annotated[
    str | None,
    _option(
        "Number of nodes [default: spec.replicas]",
        "--size",
        env="COUCHDB_CLUSTER_SIZE",
        metavar="N",
    ),
]
Timeout = Annotated[
    str | None,
    _option(
        "How long to try; 0 is one look and no change [default: 5m]",
        "--timeout",
        env="COUCHDISCOVER_TIMEOUT",
        metavar="DURATION",
    ),
]
RequestTimeout = Annotated[
    str | None,
    _option(
        "How long one request may take [default: 5s]",
        "--request-timeout",
        env="COUCHDISCOVER_REQUEST_TIMEOUT",
        metavar="DURATION",
    ),
]
EnsureDb = Annotated[
    list[str] | None,
    _option(
        "Database that must exist on top of _users and _replicator; repeatable",
        "--ensure-db",
        env="COUCHDISCOVER_ENSURE_DBS",
        metavar="NAME",
    ),
]
Repair = Annotated[
    bool,
    typer.Option(
        "--repair/--no-repair",
        envvar="COUCHDISCOVER_REPAIR",
        help="Make admin hash, uuid and secret the same again where they differ",
    ),
]
RepairFrom = Annotated[
    str | None,
    _option(
        "Pod whose values are taken for that, instead of the majority's",
        "--repair-from",
        env="COUCHDISCOVER_REPAIR_FROM",
        metavar="POD",
    ),
]
ClusterStateChoice = Annotated[
    str | None,
    _option(
        "existing forms no new cluster; for scope set [default: auto]",
        "--cluster-state",
        env="COUCHDISCOVER_CLUSTER_STATE",
        metavar="auto|existing",
    ),
]
Mark = Annotated[
    bool,
    typer.Option(
        "--mark/--no-mark",
        envvar="COUCHDISCOVER_MARK",
        help="Leave a mark on each verified node's volume, by which its loss is seen",
    ),
]
WaitForCopies = Annotated[
    bool,
    typer.Option(
        "--wait-for-copies/--no-wait-for-copies",
        envvar="COUCHDISCOVER_WAIT_FOR_COPIES",
        help="Wait until a node that lost its volume has its copies again",
    ),
]
AllowOneCopy = Annotated[
    bool,
    typer.Option(
        "--allow-one-copy",
        envvar="COUCHDISCOVER_ALLOW_ONE_COPY",
        help="Take several nodes with [cluster] n = 1 for meant",
        show_default=False,
    ),
]
Scheme = Annotated[
    str | None,
    _option(
        "How CouchDB is reached [default: http]",
        "--scheme",
        env="COUCHDISCOVER_SCHEME",
        metavar="http|https",
    ),
]
Port = Annotated[
    str | None,
    _option(
        "CouchDB's port [default: the endpoints' port named http(s) or couchdb, then 5984 (6984)]",
        "--port",
        env="COUCHDISCOVER_PORT",
        metavar="PORT",
    ),
]
CaFile = Annotated[
    str | None,
    _option(
        "Certificates that CouchDB's is checked against [default: the usual ones]",
        "--ca-file",
        env="COUCHDISCOVER_CA_FILE",
        metavar="FILE",
    ),
]
InsecureSkipTlsVerify = Annotated[
    bool,
    typer.Option(
        "--insecure-skip-tls-verify",
        envvar="COUCHDISCOVER_INSECURE_SKIP_TLS_VERIFY",
        help="Take any certificate",
        show_default=False,
    ),
]
ClusterDomain = Annotated[
    str | None,
    _option(
        "DNS domain of the cluster [default: the own pod's, then cluster.local]",
        "--cluster-domain",
        env="COUCHDISCOVER_CLUSTER_DOMAIN",
        metavar="DOMAIN",
    ),
]
Kubeconfig = Annotated[
    str | None,
    _option(
        "Kubeconfig [default: the service account, then ~/.kube/config]",
        "--kubeconfig",
        env="KUBECONFIG",
        metavar="FILE",
    ),
]
Context = Annotated[
    str | None,
    _option(
        "Context in it",
        "--context",
        env="COUCHDISCOVER_CONTEXT",
        metavar="NAME",
    ),
]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Print the steps and change nothing")]
Wait = Annotated[
    bool, typer.Option("--wait", help="Wait until the cluster is good, or the timeout")
]
Write = Annotated[
    bool,
    typer.Option(
        "--write", help="Store a document through one node, read it through every other, remove it"
    ),
]
Via = Annotated[
    str | None,
    _option(
        "How nodes are reached; api-proxy works outside the cluster [default: direct]",
        "--via",
        env="COUCHDISCOVER_VIA",
        metavar="direct|api-proxy",
    ),
]
OutputFormat = Annotated[
    str | None,
    _option(
        "Format of the result on stdout [default: text]",
        "--output",
        "-o",
        env="COUCHDISCOVER_OUTPUT",
        metavar="text|json",
    ),
]
LogFormat = Annotated[
    str | None,
    _option(
        "Format of the log on stderr [default: text]",
        "--log-format",
        env="COUCHDISCOVER_LOG_FORMAT",
        metavar="text|json",
    ),
]
LogLevel = Annotated[
    str | None,
    _option(
        "DEBUG, INFO, WARNING or ERROR [default: INFO]",
        "--log-level",
        env="COUCHDISCOVER_LOG_LEVEL",
        metavar="LEVEL",
    ),
]
TerminationLog = Annotated[
    str | None,
    _option(
        "File for the reason of the end [default: /dev/termination-log, if there]",
        "--termination-log",
        env="COUCHDISCOVER_TERMINATION_LOG",
        metavar="FILE",
    ),
]


# --- the commands -----------------------------------------------------------------------------


@app.command(epilog=EPILOG)
def run(
    statefulset: StatefulSetName = None,
    namespace: Namespace = None,
    container: Container = None,
    scope: ScopeChoice = None,
    size: Size = None,
    timeout: Timeout = None,
    request_timeout: RequestTimeout = None,
    ensure_db: EnsureDb = None,
    repair: Repair = True,
    repair_from: RepairFrom = None,
    cluster_state: ClusterStateChoice = None,
    mark: Mark = True,
    wait_for_copies: WaitForCopies = True,
    allow_one_copy: AllowOneCopy = False,
    scheme: Scheme = None,
    port: Port = None,
    ca_file: CaFile = None,
    insecure_skip_tls_verify: InsecureSkipTlsVerify = False,
    cluster_domain: ClusterDomain = None,
    kubeconfig: Kubeconfig = None,
    context: Context = None,
    dry_run: DryRun = False,
    output: OutputFormat = None,
    log_format: LogFormat = None,
    log_level: LogLevel = None,
    termination_log: TerminationLog = None,
) -> None:
    """Bring the cluster about: wait, enable, add, finish, verify, exit.

    Without a command this is what couchdiscover does, configured by the environment alone. A
    cluster that is whole already is not touched.
    """
    _conduct("run", dict(locals()))


@app.command(epilog=EPILOG)
def plan(
    statefulset: StatefulSetName = None,
    namespace: Namespace = None,
    container: Container = None,
    scope: ScopeChoice = None,
    size: Size = None,
    request_timeout: RequestTimeout = None,
    ensure_db: EnsureDb = None,
    repair: Repair = True,
    repair_from: RepairFrom = None,
    cluster_state: ClusterStateChoice = None,
    allow_one_copy: AllowOneCopy = False,
    via: Via = None,
    scheme: Scheme = None,
    port: Port = None,
    ca_file: CaFile = None,
    insecure_skip_tls_verify: InsecureSkipTlsVerify = False,
    cluster_domain: ClusterDomain = None,
    kubeconfig: Kubeconfig = None,
    context: Context = None,
    output: OutputFormat = None,
    log_format: LogFormat = None,
    log_level: LogLevel = None,
    termination_log: TerminationLog = None,
) -> None:
    """Print the steps that run would take now, each with its reason, and change nothing.

    Exits with 3 where there are any, with 0 where there are none.
    """
    _conduct("plan", dict(locals()) | {"dry_run": True})


@app.command(epilog=EPILOG)
def check(
    statefulset: StatefulSetName = None,
    namespace: Namespace = None,
    container: Container = None,
    size: Size = None,
    wait: Wait = False,
    write: Write = False,
    timeout: Timeout = None,
    request_timeout: RequestTimeout = None,
    ensure_db: EnsureDb = None,
    allow_one_copy: AllowOneCopy = False,
    via: Via = None,
    scheme: Scheme = None,
    port: Port = None,
    ca_file: CaFile = None,
    insecure_skip_tls_verify: InsecureSkipTlsVerify = False,
    cluster_domain: ClusterDomain = None,
    kubeconfig: Kubeconfig = None,
    context: Context = None,
    output: OutputFormat = None,
    log_format: LogFormat = None,
    log_level: LogLevel = None,
    termination_log: TerminationLog = None,
) -> None:
    """Tell whether the cluster is whole, node by node, and what is wrong with it.

    Looks once, at the whole set, and changes nothing: 0 where it is whole, 3 where it is not. With
    --wait it waits for a good one, and what only a person can mend is a warning.
    """
    _conduct("check", dict(locals()) | {"scope": "set"})


@app.command()
def demo(
    context: typer.Context,
    scenario: Annotated[
        str,
        typer.Option(
            "--scenario",
            metavar="NAME",
            help="fresh, slow-boot, assembled, scale-up, replaced, drift, wrong-password, split",
        ),
    ] = "fresh",
    nodes: Annotated[
        int, typer.Option("--nodes", min=1, max=200, metavar="N", help="Nodes to begin with")
    ] = 3,
    manifest: Annotated[
        list[str] | None,
        typer.Option(
            "--manifest",
            metavar="FILE...",
            help="Rehearse run and check on these manifests instead: YAML as from helm template or "
            "kubectl get -o yaml, folders, - for standard input",
            show_default=False,
        ),
    ] = None,
    more: Annotated[list[str] | None, typer.Argument(metavar="[FILE]...", hidden=True)] = None,
    statefulset: Annotated[
        str | None,
        _option(
            "With --manifest: the StatefulSet, where there are several",
            "--statefulset",
            "-s",
            metavar="NAME",
        ),
    ] = None,
    namespace: Annotated[
        str | None,
        _option(
            "With --manifest: the namespace of objects that name none [default: default]",
            "--namespace",
            "-n",
            metavar="NAME",
        ),
    ] = None,
    timeout: Annotated[
        str | None,
        _option(
            "With --manifest: how long run may try [default: 60s]", "--timeout", metavar="DURATION"
        ),
    ] = None,
    fresh: Annotated[
        bool,
        typer.Option(
            "--fresh",
            help="With --manifest: nodes of several StatefulSets under one Service begin apart, "
            "and not as one cluster that was joined by hand",
            show_default=False,
        ),
    ] = False,
) -> None:
    """The whole job on an embedded sandbox: a Kubernetes API and CouchDB nodes on loopback.

    Needs nothing installed and no root. With COUCHDB_HOME=/opt/couchdb in the environment the nodes
    are real ones of that CouchDB release. Exits with 0 where the command did what it must.

    With --manifest it is a rehearsal on your own StatefulSet, Services, Secrets and ConfigMaps,
    before anything touches a cluster: simulated nodes are started as the official image would start
    them, and run, then check, are let loose on them. It says what it cannot know, shows no Secret's
    value, and exits as run and check do.
    """
    if manifest:
        raise typer.Exit(
            _rehearse(context, [*manifest, *(more or ())], statefulset, namespace, timeout, fresh)
        )
    if more or statefulset or namespace or timeout or fresh:
        raise typer.BadParameter("files, --statefulset, --namespace, --timeout and --fresh go with "
                                 "--manifest")  # fmt: skip
    from couchdiscover.sandbox.demo import SCENARIOS, play

    if scenario not in SCENARIOS:
        raise typer.BadParameter(f"{scenario!r} is none of {', '.join(SCENARIOS)}")
    if scenario == "split" and nodes < 2:
        raise typer.BadParameter("two clusters need two nodes")
    raise typer.Exit(play(scenario, nodes, typer.echo))


def _rehearse(
    context: typer.Context,
    files: list[str],
    statefulset: str | None,
    namespace: str | None,
    timeout: str | None,
    fresh: bool,
) -> int:
    """``demo --manifest``: what cannot be played is told in a sentence, with exit code 2."""
    from couchdiscover.cli.settings import parse_duration
    from couchdiscover.kube.names import is_label
    from couchdiscover.sandbox.reading import ManifestError
    from couchdiscover.sandbox.rehearsal import DEFAULT_TIMEOUT, ChoiceError, rehearse

    for name in ("scenario", "nodes"):
        source = context.get_parameter_source(name)
        if source is not None and source.name != "DEFAULT":
            raise typer.BadParameter(f"--{name} and --manifest do not go together")
    if namespace is not None and not is_label(namespace):
        raise typer.BadParameter(f"{namespace!r} is no name of a namespace")
    try:
        seconds = parse_duration(timeout) if timeout else DEFAULT_TIMEOUT
    except ValueError as error:
        raise typer.BadParameter(f"--timeout: {error}") from None
    try:
        return rehearse(
            files,
            typer.echo,
            statefulset=statefulset,
            namespace=namespace,
            timeout=seconds,
            fresh=fresh,
        )
    except (ManifestError, ChoiceError) as error:
        typer.echo(f"couchdiscover demo: {error}", err=True)
        return 2


# --- from the values to the exit code ---------------------------------------------------------


def _conduct(command: str, values: dict[str, Any]) -> None:
    """Runs a command and exits with what came of it: the one place that does."""
    values["ensure_dbs"] = values.pop("ensure_db")
    from couchdiscover.cli.settings import build_settings
    from couchdiscover.net.deadline import Deadline
    from couchdiscover.output.log import LOGGER, Redactor
    from couchdiscover.output.progress import Progress
    from couchdiscover.output.report import Record, Report

    redactor = Redactor()
    _hide_environment(redactor)
    record = Record(command)
    started = Deadline(0)
    as_json = False
    try:
        try:
            as_json = _choice(values, "output", OUTPUTS, "text") == "json"
            output = _start_log(values, redactor)
            settings = build_settings(values, os.environ)
            judges = command == "check"
            if judges:
                from couchdiscover.check import assess as work
            else:
                from couchdiscover.run import assemble as work
            gc.freeze()  # see __main__; from here on there may be much to wait for, and garbage
            gc.enable()
            once = settings.dry_run or (judges and not settings.wait)
            started = Deadline(0 if once else settings.timeout)
            live = values.get("log_format") != "json" and not as_json
            with Progress(output, started, enabled=live) as progress:
                message = work(
                    settings,
                    started,
                    record,
                    on_secret=lambda user, password: _hide_login(redactor, user, password),
                    on_look=progress.show,
                )
            end = Report(record, "done", 0, message, started.elapsed)
        except (CouchdiscoverError, Interrupted) as error:
            end = Report(record, error.result, error.exit_code, str(error), started.elapsed)
    except Exception:  # noqa: BLE001 - what is left is a bug, and it gets its exit code too
        text = "this is a bug in couchdiscover; the log has the traceback"
        LOGGER.exception(text)
        end = Report(record, "error", 1, text, started.elapsed)
    _conclude(end, as_json, redactor, values.get("termination_log"))
    raise typer.Exit(end.exit_code)


def _conclude(end: "Report", as_json: bool, redactor: "Redactor", path: str | None) -> None:
    """The result to stdout, its sentence to the log and to the termination message."""
    from couchdiscover.output.log import LOGGER, conclude, set_up

    if not LOGGER.handlers:  # it was the log's own options that were wrong
        set_up("text", "INFO", redactor)
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")  # names may not fit into its encoding
    text = end.as_json() if as_json else end.as_text(colour=_wants_colour())
    with suppress(OSError):  # whoever read our output may be gone
        print(redactor.clean(text), flush=True)  # noqa: T201
    target = Path(path) if path else DEFAULT_TERMINATION_LOG
    if path or (target.exists() and os.access(target, os.W_OK)):
        try:
            target.write_text(end.termination_message(redactor.clean), encoding="utf-8")
        except OSError as error:
            LOGGER.warning(f"the termination message cannot be written: {error.strerror}")
    conclude(logging.INFO if end.exit_code == 0 else logging.ERROR, end.message)


def _wants_colour() -> bool:
    """Whether stdout is a terminal that shows colours, and nobody minds (https://no-color.org)."""
    environment = os.environ
    return (
        sys.stdout.isatty()
        and not environment.get("NO_COLOR")
        and environment.get("TERM") != "dumb"
    )


def _start_log(values: dict[str, Any], redactor: "Redactor") -> "Output":
    """The options' log settings, else LOG_FORMAT and LOG_LEVEL, which others may have meant."""
    from couchdiscover.output.log import LOGGER, set_up

    complaints = []
    chosen = {}
    for key, variable, allowed in (
        ("log_format", "LOG_FORMAT", LOG_FORMATS),
        ("log_level", "LOG_LEVEL", LOG_LEVELS),
    ):
        default = "text" if key == "log_format" else "INFO"
        if not values.get(key) and (common := os.environ.get(variable)):
            fitting = [choice for choice in allowed if choice.lower() == common.lower()]
            if not fitting:
                complaints.append(f"{variable}={common!r} is none of {', '.join(allowed)}")
            values[key] = fitting[0] if fitting else None
        chosen[key] = _choice(values, key, allowed, default)
        values[key] = chosen[key]
    output = set_up(chosen["log_format"], chosen["log_level"], redactor)
    for complaint in complaints:
        LOGGER.warning(complaint)
    return output


def _choice(values: dict[str, Any], key: str, allowed: tuple[str, ...], default: str) -> str:
    value = str(values.get(key) or default)
    for choice in allowed:
        if choice.lower() == value.lower():
            return choice
    raise UsageProblem(f"--{key.replace('_', '-')} {value!r} is none of {', '.join(allowed)}")


def _hide_environment(redactor: "Redactor") -> None:
    for key, value in os.environ.items():
        if key.endswith(("PASS", "PASSWORD", "TOKEN", "COOKIE", "SECRET")):
            redactor.hide(value)


def _hide_login(redactor: "Redactor", user: str, password: str) -> None:
    redactor.hide(password, f"{user}:{password}")


def _catch_signals() -> None:
    """SIGTERM and SIGINT end the run at once; as PID 1 a process has no default for them."""

    def interrupt(number: int, _frame: FrameType | None) -> None:
        for each in (signal.SIGTERM, signal.SIGINT):
            signal.signal(each, signal.SIG_IGN)  # the end is near enough
        raise Interrupted(number, signal.Signals(number).name)

    handler: Callable[[int, FrameType | None], None] = interrupt
    for each in (signal.SIGTERM, signal.SIGINT):
        signal.signal(each, handler)
