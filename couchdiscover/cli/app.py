"""The app and its commands. Commands import what they need inside the function: start-up time."""

import sys
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any

import typer
import typer.main

from couchdiscover import __version__
from couchdiscover.cli.options import Options, read_leniently, takes_options
from couchdiscover.cli.signals import catch_signals
from couchdiscover.errors import Interrupted, UsageProblem
from couchdiscover.output.streams import protect

DEFAULT_COMMAND = "run"
_GENERAL = {"-h", "--help", "--version", "--install-completion", "--show-completion"}

_BadCommandLine: Any = typer.BadParameter.__mro__[1]
"""What all errors of the command line are: click's UsageError, in typer's own copy of click or in
click itself, by typer's version."""

EPILOG = (
    "Exit codes: 0 done or already so, 2 usage, 3 a person must act, 4 timed out, 5 denied, "
    "6 unsafe, 130/143 interrupted."
)

app = typer.Typer(
    name="couchdiscover",
    no_args_is_help=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    epilog=EPILOG,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def main() -> None:
    """Runs the command line and exits; without a command it is ``run``."""
    protect()
    catch_signals()
    arguments = sys.argv[1:]
    if not arguments or (arguments[0].startswith("-") and arguments[0] not in _GENERAL):
        arguments = [DEFAULT_COMMAND, *arguments]
    raise SystemExit(_exit_code(arguments))


def _exit_code(arguments: list[str]) -> int:
    """Has typer run a command; what ends it before it began is reported here."""
    plugin = Path(sys.argv[0]).name.startswith("kubectl-")
    called = "kubectl couchdiscover" if plugin else "couchdiscover"
    try:
        return app(args=arguments, prog_name=called, standalone_mode=False) or 0
    except _BadCommandLine as error:
        path = error.ctx.command_path if error.ctx else called
        failure: BaseException = UsageProblem(
            f"{error.format_message().rstrip('.')}; see `{path} --help`"
        )
    except (Interrupted, Exception) as error:  # noqa: BLE001 - a bug gets its exit code, too
        failure = error
    from couchdiscover.cli.conduct import give_up

    program: Any = typer.main.get_command(app)
    command = arguments[0] if arguments[0] in program.commands else ""
    return give_up(command, read_leniently(program, arguments), failure)


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
    """Assembles the CouchDB nodes of a Kubernetes StatefulSet into one verified cluster, and exits.

    Without a command it is run, configured by the environment alone: in a pod of the StatefulSet it
    needs no options, in a Job the variable COUCHDISCOVER_STATEFULSET.
    """


def _conduct(command: str, options: Options) -> int:
    from couchdiscover.cli.conduct import conduct

    return conduct(command, options)


@app.command(epilog=EPILOG)
@takes_options
def run(options: Options) -> int:
    """Bring the cluster about: wait, enable, add, finish, verify, exit.

    Without a command this is what couchdiscover does, configured by the environment alone. A
    cluster that is whole already is not touched.
    """
    return _conduct("run", options)


@app.command(epilog=EPILOG)
@takes_options
def plan(options: Options) -> int:
    """Print the steps that run would take now.

    Each with its reason; nothing is changed. Exits with 3 where there are any, with 0 where there
    are none.
    """
    return _conduct("plan", replace(options, dry_run=True))


@app.command(epilog=EPILOG)
@takes_options
def check(options: Options) -> int:
    """Tell whether the cluster is whole, and what is wrong with it.

    Looks once, at the whole set, and changes nothing: 0 where it is whole, 3 where it is not. With
    --wait it waits for a good one, and what only a person can mend is a warning.
    """
    return _conduct("check", replace(options, scope="set"))


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
        typer.Option(
            "--statefulset",
            "-s",
            help="With --manifest: the StatefulSet, where there are several",
            metavar="NAME",
            show_default=False,
        ),
    ] = None,
    namespace: Annotated[
        str | None,
        typer.Option(
            "--namespace",
            "-n",
            help="With --manifest: the namespace of objects that name none [default: default]",
            metavar="NAME",
            show_default=False,
        ),
    ] = None,
    timeout: Annotated[
        str | None,
        typer.Option(
            "--timeout",
            help="With --manifest: how long run may try [default: 60s]",
            metavar="DURATION",
            show_default=False,
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
) -> int:
    """Play the whole job on an embedded sandbox.

    That is a Kubernetes API and CouchDB nodes on loopback: it needs nothing installed and no root.
    With COUCHDB_HOME=/opt/couchdb in the environment the nodes are real ones of that CouchDB
    release. Exits with 0 where the command did what it must.

    With --manifest it is a rehearsal on your own StatefulSet, Services, Secrets and ConfigMaps,
    before anything touches a cluster: simulated nodes are started as the official image would start
    them, and run, then check, are let loose on them. It says what it cannot know, shows no Secret's
    value, and exits as run and check do.
    """
    if manifest:
        return _rehearse(
            context, [*manifest, *(more or ())], statefulset, namespace, timeout, fresh
        )
    if more or statefulset or namespace or timeout or fresh:
        raise typer.BadParameter("files, --statefulset, --namespace, --timeout and --fresh go with "
                                 "--manifest")  # fmt: skip
    from couchdiscover.sandbox.demo import SCENARIOS, play

    if scenario not in SCENARIOS:
        raise typer.BadParameter(f"{scenario!r} is none of {', '.join(SCENARIOS)}")
    if scenario == "split" and nodes < 2:
        raise typer.BadParameter("two clusters need two nodes")
    return play(scenario, nodes, typer.echo)


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
