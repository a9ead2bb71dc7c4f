"""The options of all commands, each once; typer makes the command line of them.

``Options`` is the table. A command is a function that takes one ``Options``; ``takes_options``
gives it the parameters that typer wants to see: the options that name the command.
"""

import inspect
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, fields
from functools import wraps
from typing import Annotated, Any

import typer

EVERY = ("run", "plan", "check", "adopt")
ASSEMBLING = ("run", "plan", "check")
ACTING = ("run", "plan")


def _option(
    *names: str,
    value: str | None = None,
    variable: str | None = None,
    help: str,  # noqa: A002 - as typer calls it
    default: object = None,
    of: Sequence[str] = EVERY,
) -> Any:
    """A field that is an option.

    ``value`` is what stands for its value in the help, ``variable`` the environment variable that
    may give it, ``of`` are the commands that have it.
    """
    parameter = typer.Option(
        *names, envvar=variable, metavar=value, help=help, show_default=default is True
    )
    return field(default=default, metadata={"parameter": parameter, "of": of})


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """What was said on the command line or by variables; None where nothing was.

    Values are texts as they were given: ``cli.settings`` reads them, and names all that is wrong.
    """

    statefulset: str | None = _option(
        "--statefulset",
        "-s",
        value="NAME",
        variable="COUCHDISCOVER_STATEFULSET",
        help="StatefulSet that runs CouchDB [default: the own pod's]",
    )
    namespace: str | None = _option(
        "--namespace",
        "-n",
        value="NAME",
        variable="COUCHDISCOVER_NAMESPACE",
        help="Its namespace [default: the own pod's, then the kubeconfig context's]",
    )
    container: str | None = _option(
        "--container",
        value="NAME",
        variable="COUCHDISCOVER_CONTAINER",
        help="Container that runs CouchDB [default: couchdb, or the only one]",
    )
    scope: str | None = _option(
        "--scope",
        value="auto|pod|set",
        variable="COUCHDISCOVER_SCOPE",
        help="Bring in the own pod, or all [default: pod in a pod of the StatefulSet, else set]",
        of=ACTING,
    )
    size: str | None = _option(
        "--size",
        value="N",
        variable="COUCHDB_CLUSTER_SIZE",
        help="Number of nodes [default: spec.replicas]",
    )
    wait: bool = _option(
        "--wait",
        help="Wait until the cluster is good, or the timeout",
        default=False,
        of=("check",),
    )
    write: bool = _option(
        "--write",
        help="Store a document through one node, read it through every other, remove it",
        default=False,
        of=("check",),
    )
    timeout: str | None = _option(
        "--timeout",
        value="DURATION",
        variable="COUCHDISCOVER_TIMEOUT",
        help="How long to try; 0 is one look and no change [default: 5m]",
        of=("run", "check", "adopt"),
    )
    request_timeout: str | None = _option(
        "--request-timeout",
        value="DURATION",
        variable="COUCHDISCOVER_REQUEST_TIMEOUT",
        help="How long one request may take [default: 5s]",
    )
    ensure_db: list[str] | None = _option(  # noqa: RUF009 - it makes a field
        "--ensure-db",
        value="NAME",
        variable="COUCHDISCOVER_ENSURE_DBS",
        help="Database that must exist on top of _users and _replicator; repeatable",
        of=ASSEMBLING,
    )
    repair: bool = _option(
        "--repair/--no-repair",
        variable="COUCHDISCOVER_REPAIR",
        help="Make admin hash, uuid and secret the same again where they differ",
        default=True,
        of=(*ACTING, "adopt"),
    )
    repair_from: str | None = _option(
        "--repair-from",
        value="POD",
        variable="COUCHDISCOVER_REPAIR_FROM",
        help="Pod whose values are taken for that, instead of the majority's",
        of=(*ACTING, "adopt"),
    )
    cluster_state: str | None = _option(
        "--cluster-state",
        value="auto|existing",
        variable="COUCHDISCOVER_CLUSTER_STATE",
        help="existing forms no new cluster; for scope set [default: auto]",
        of=ACTING,
    )
    mark: bool = _option(
        "--mark/--no-mark",
        variable="COUCHDISCOVER_MARK",
        help="Leave a mark on each verified node's volume, by which its loss is seen",
        default=True,
        of=("run", "adopt"),
    )
    wait_for_copies: bool = _option(
        "--wait-for-copies/--no-wait-for-copies",
        variable="COUCHDISCOVER_WAIT_FOR_COPIES",
        help="Wait until a node that lost its volume has its copies again",
        default=True,
        of=("run",),
    )
    allow_one_copy: bool = _option(
        "--allow-one-copy",
        variable="COUCHDISCOVER_ALLOW_ONE_COPY",
        help="Take several nodes with [cluster] n = 1 for meant",
        default=False,
        of=ASSEMBLING,
    )
    via: str | None = _option(
        "--via",
        value="direct|api-proxy",
        variable="COUCHDISCOVER_VIA",
        help="How nodes are reached; api-proxy works outside the cluster [default: direct]",
        of=("plan", "check"),
    )
    scheme: str | None = _option(
        "--scheme",
        value="http|https",
        variable="COUCHDISCOVER_SCHEME",
        help="How CouchDB is reached [default: http]",
    )
    port: str | None = _option(
        "--port",
        value="PORT",
        variable="COUCHDISCOVER_PORT",
        help="CouchDB's port "
        "[default: the endpoints' port named http(s) or couchdb, then 5984 (6984)]",
    )
    ca_file: str | None = _option(
        "--ca-file",
        value="FILE",
        variable="COUCHDISCOVER_CA_FILE",
        help="Certificates that CouchDB's is checked against [default: the usual ones]",
    )
    insecure_skip_tls_verify: bool = _option(
        "--insecure-skip-tls-verify",
        variable="COUCHDISCOVER_INSECURE_SKIP_TLS_VERIFY",
        help="Take any certificate",
        default=False,
    )
    cluster_domain: str | None = _option(
        "--cluster-domain",
        value="DOMAIN",
        variable="COUCHDISCOVER_CLUSTER_DOMAIN",
        help="DNS domain of the cluster [default: the own pod's, then cluster.local]",
    )
    kubeconfig: str | None = _option(
        "--kubeconfig",
        value="FILE",
        variable="KUBECONFIG",
        help="Kubeconfig [default: the service account, then ~/.kube/config]",
    )
    context: str | None = _option(
        "--context",
        value="NAME",
        variable="COUCHDISCOVER_CONTEXT",
        help="Context in it",
    )
    from_: list[str] | None = _option(  # noqa: RUF009 - it makes a field
        "--from",
        value="OLD=POD",
        variable="COUCHDISCOVER_FROM",
        help="Former Erlang name, and the pod that has its volume; repeatable [default: the mark "
        "and CouchDB's own history tell]",
        of=("adopt",),
    )
    database: str | None = _option(
        "--database",
        value="GLOB",
        variable="COUCHDISCOVER_DATABASE",
        help="Adopt these databases only [default: all]",
        of=("adopt",),
    )
    replications: str | None = _option(
        "--replications",
        value="run|hold",
        variable="COUCHDISCOVER_REPLICATIONS",
        help="Let the replications start that would, or hold their database back",
        of=("adopt",),
    )
    dry_run: bool = _option(
        "--dry-run",
        help="Print the steps and change nothing",
        default=False,
        of=("run", "adopt"),
    )
    output: str | None = _option(
        "--output",
        "-o",
        value="text|json",
        variable="COUCHDISCOVER_OUTPUT",
        help="Format of the result on stdout [default: text]",
    )
    log_format: str | None = _option(
        "--log-format",
        value="text|json",
        variable="COUCHDISCOVER_LOG_FORMAT",
        help="Format of the log on stderr [default: text]",
    )
    log_level: str | None = _option(
        "--log-level",
        value="LEVEL",
        variable="COUCHDISCOVER_LOG_LEVEL",
        help="DEBUG, INFO, WARNING or ERROR [default: INFO]",
    )
    termination_log: str | None = _option(
        "--termination-log",
        value="FILE",
        variable="COUCHDISCOVER_TERMINATION_LOG",
        help="File for the reason of the end [default: /dev/termination-log, if there]",
    )

    @property
    def wants_json(self) -> bool:
        """Whether the result is to be JSON."""
        return (self.output or "").lower() == "json"


def takes_options(command: Callable[[Options], int]) -> Callable[..., int]:
    """Makes a command of typer's: one parameter for each option that names it."""

    @wraps(command)
    def called(**values: Any) -> int:
        return command(Options(**values))

    called.__signature__ = inspect.Signature(  # type: ignore[attr-defined]
        [
            inspect.Parameter(
                each.name,
                inspect.Parameter.KEYWORD_ONLY,
                default=each.default,
                annotation=Annotated[each.type, each.metadata["parameter"]],
            )
            for each in fields(Options)
            if command.__name__ in each.metadata["of"]
        ]
    )
    return called


def read_leniently(program: Any, arguments: Sequence[str]) -> Options:
    """How the result and the log are to be told, where the arguments as a whole make no sense.

    ``program`` is the command group that typer has made. What cannot be read counts as not said.
    """
    context = program.commands["run"].make_context(
        "run",
        list(arguments),
        resilient_parsing=True,
        ignore_unknown_options=True,
        allow_extra_args=True,
    )
    said = context.params
    return Options(
        **{key: said.get(key) for key in ("output", "log_format", "log_level", "termination_log")}
    )
