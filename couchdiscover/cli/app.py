"""The app and its commands. Commands import what they need inside the function: start-up time."""

import functools
import sys
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any

import typer
import typer.main

from couchdiscover import __version__
from couchdiscover.cli.demo import demo
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
        return program()(args=arguments, prog_name=called, standalone_mode=False) or 0
    except _BadCommandLine as error:
        path = error.ctx.command_path if error.ctx else called
        failure: BaseException = UsageProblem(
            f"{error.format_message().rstrip('.')}; see `{path} --help`"
        )
    except (Interrupted, Exception) as error:  # noqa: BLE001 - a bug gets its exit code, too
        failure = error
    from couchdiscover.cli.conduct import give_up

    command = arguments[0] if arguments[0] in program().commands else ""
    return give_up(command, read_leniently(program(), arguments), failure)


@functools.cache
def program() -> Any:
    """The command line as typer makes it of the functions below."""
    return typer.main.get_command(app)


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


@app.command(epilog=EPILOG)
@takes_options
def adopt(options: Options) -> int:
    """Make restored, cloned or renamed volumes readable again.

    For volumes whose nodes have other Erlang names now: their shard maps are made to name the nodes
    that have the files. Where there is nothing to adopt nothing is changed.
    """
    return _conduct("adopt", replace(options, scope="set"))


app.command()(demo)
