"""However it ends, the result is told as it was asked for, and the exit code is the result's."""

import json
import os
import re
import ssl
import subprocess
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
import trustme
import typer.main

from couchdiscover import __version__
from couchdiscover.cli.app import app
from couchdiscover.sandbox import Sandbox
from tests.support.command import Command, finish

Make = Callable[..., Sandbox]
PROGRAM: Any = typer.main.get_command(app)

FULL = Path("/dev/full")


# --- usage ---


@pytest.mark.parametrize(
    ("arguments", "variables", "told"),
    [
        (["--no-such"], {}, "--no-such"),
        (["run", "--no-such", "-o", "json"], {}, "`couchdiscover run --help`"),
        (["plan", "--timeout", "5m"], {}, "--timeout"),
        (["check", "-o", "json", "--scope=pod"], {}, "`couchdiscover check --help`"),
        (["chekc"], {}, "'chekc'"),
        (["run", "extra"], {}, "extra"),
        (["run", "--size"], {}, "--size"),
        ([], {"COUCHDISCOVER_REPAIR": "perhaps"}, "COUCHDISCOVER_REPAIR"),
        ([], {"COUCHDISCOVER_TIMEOUT": "soon"}, "'soon' is no duration"),
        ([], {"COUCHDISCOVER_LOG_LEVEL": "loud"}, "'loud' is none of"),
        (["demo", "--nodes", "many"], {}, "--nodes"),
        (["demo", "--scenario", "no such"], {}, "'no such' is none of"),
        ([], {}, "--kubeconfig"),
    ],
)
def test_a_usage_error_is_a_result(
    couchdiscover: Command, arguments: list[str], variables: Mapping[str, str], told: str
) -> None:
    message = couchdiscover.folder / "message"
    environment = {
        "COUCHDISCOVER_TERMINATION_LOG": str(message),
        "COUCHDISCOVER_LOG_FORMAT": "json",
        **variables,
    }
    as_json = {"COUCHDISCOVER_OUTPUT": "json"}
    ended = couchdiscover(*arguments, environment=environment | as_json)
    assert ended.code == 2
    found = ended.json
    assert (found["result"], found["exit_code"]) == ("usage", 2)
    assert found["docs_url"].endswith("/docs/exit-codes.md#2")
    assert told in found["message"]
    assert message.read_text() == found["message"]
    (last,) = ended.err.splitlines()[-1:]
    if "COUCHDISCOVER_LOG_LEVEL" in variables:  # the log's own options were wrong
        assert last.endswith(found["message"])
    else:
        assert json.loads(last)["message"] == found["message"]
    if "json" not in arguments:
        in_text = couchdiscover(*arguments, environment=environment)
        assert in_text.code == 2
        assert in_text.out.splitlines()[0] == found["message"]


def test_an_unknown_command_is_none(couchdiscover: Command) -> None:
    ended = couchdiscover("chekc", "-o", "json", environment={})
    assert ended.json["command"] is None
    ended = couchdiscover("check", "-o", "json", "--no-such", environment={})
    assert ended.json["command"] == "check"


# --- stdout and stderr as they may be ---


def redirected(
    couchdiscover: Command, redirection: str, *arguments: str, environment: Mapping[str, str]
) -> tuple[int, str]:
    """The exit code of a run with its streams redirected by a shell, and what was left of them."""
    command = [sys.executable, "-m", "couchdiscover", *arguments]
    ended = subprocess.run(
        ["/bin/sh", "-c", f'exec "$@" {redirection}', "sh", *command],
        env={"PATH": os.environ["PATH"], "HOME": str(couchdiscover.folder), **environment},
        cwd=couchdiscover.folder,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    return ended.returncode, ended.stdout + ended.stderr


REDIRECTIONS = [
    *(">&-", "2>&-", "<&- >&- 2>&-"),
    *((">/dev/full", "2>/dev/full") if FULL.exists() else ()),
]


@pytest.mark.parametrize("redirection", REDIRECTIONS)
def test_the_exit_code_is_the_results_whatever_the_streams_are(
    sandbox: Make, couchdiscover: Command, redirection: str
) -> None:
    box = sandbox(1)
    message = couchdiscover.folder / "message"
    environment = box.environment() | {"COUCHDISCOVER_TERMINATION_LOG": str(message)}
    cases = [
        (["run", "-o", "json"], 0, "1 node is set up"),
        (["check"], 0, "1 node is set up"),
        (["run", "--scope", "x"], 2, "--scope"),
        (["run", "--no-such"], 2, "--no-such"),
    ]
    for arguments, code, told in cases:
        ended, shown = redirected(couchdiscover, redirection, *arguments, environment=environment)
        assert ended == code, (arguments, shown)
        assert "Error" not in shown
        assert told in message.read_text(), arguments


@pytest.mark.parametrize("arguments", [["--help"], ["run", "--help"], ["--version"]])
def test_help_into_nothing(couchdiscover: Command, arguments: list[str]) -> None:
    for redirection in REDIRECTIONS:
        code, shown = redirected(couchdiscover, redirection, *arguments, environment={})
        assert (code, "Error" in shown) == (0, False), redirection


@pytest.mark.parametrize(
    ("arguments", "code"),
    [(["--help"], 0), (["run"], 0), (["check", "-o", "json"], 0), (["run", "--no-such"], 2)],
)
def test_a_reader_that_has_gone_away(
    sandbox: Make, couchdiscover: Command, arguments: list[str], code: int
) -> None:
    box = sandbox(1)
    assert couchdiscover(environment=box.environment()).code == 0
    reading, writing = os.pipe()
    os.close(reading)
    process = subprocess.Popen(
        [sys.executable, "-m", "couchdiscover", *arguments],
        env={"PATH": os.environ["PATH"], **box.environment()},
        cwd=couchdiscover.folder,
        stdout=writing,
        stderr=subprocess.PIPE,
        text=True,
    )
    os.close(writing)
    _, err = process.communicate(timeout=120)
    assert process.returncode == code, err
    assert "Broken" not in err


# --- secrets that sound like something else ---


@pytest.mark.parametrize("password", ["null", "0.0", "couchdb", "true", "couchdb-0", "cluster"])
def test_a_password_that_sounds_like_something_else(
    sandbox: Make, couchdiscover: Command, password: str
) -> None:
    box = sandbox(2, password=password)
    ended = couchdiscover("-o", "json", environment=box.environment())
    assert ended.code == 0, ended.err
    found = ended.json
    assert found["result"] == "done"
    assert [entry["pod"] for entry in found["nodes"]] == found["expected"] == box.pods
    assert [entry["name"] for entry in found["nodes"]] == [box.node(p).name for p in box.pods]
    shown = couchdiscover("check", environment=box.environment())
    assert shown.code == 0, shown.out
    assert [line.split()[0] for line in shown.out.splitlines()[1:3]] == box.pods
    wrong = {"COUCHDB_USER": "admin", "COUCHDB_PASSWORD": f"{password}-not"}
    refused = couchdiscover("-o", "json", environment=box.environment() | wrong)
    assert (refused.code, refused.json["result"]) == (5, "denied")
    assert f"{password}-not" not in refused.out + refused.err


# --- help ---


def test_help_lists_every_command(couchdiscover: Command) -> None:
    ended = couchdiscover("--help", environment={})
    assert (ended.code, ended.err) == (0, "")
    listed = re.findall(r"^  (\w+)  +[A-Z]", ended.out.partition("Commands:")[2], re.MULTILINE)
    assert listed == list(PROGRAM.commands)
    assert "Exit codes: 0 done" in ended.out
    assert "..." not in ended.out.partition("Commands:")[2], "a summary is cut short"
    assert max(map(len, ended.out.splitlines())) <= 80


@pytest.mark.parametrize("arguments", [["-h"], ["--help", "run"], ["--help"]])
def test_help_in_all_ways(couchdiscover: Command, arguments: list[str]) -> None:
    ended = couchdiscover(*arguments, environment={})
    assert ended.code == 0
    assert ended.out.startswith("Usage: couchdiscover [OPTIONS] COMMAND")


def test_version(couchdiscover: Command) -> None:
    ended = couchdiscover("--version", environment={})
    assert (ended.code, ended.out) == (0, f"couchdiscover {__version__}\n")


def test_as_a_plugin_of_kubectl_it_is_called_so(couchdiscover: Command) -> None:
    """kubectl runs the file ``kubectl-couchdiscover`` (documentation, "Extend kubectl")."""
    plugin = couchdiscover.folder / "kubectl-couchdiscover"
    plugin.write_text(
        f"#!{sys.executable}\nfrom couchdiscover.__main__ import main\nmain()\n", encoding="utf-8"
    )
    plugin.chmod(0o755)
    ended = subprocess.run(
        [plugin, "check", "--help"], capture_output=True, text=True, timeout=60, check=True
    )
    assert ended.stdout.startswith("Usage: kubectl couchdiscover check")
    ended = subprocess.run(
        [plugin, "check", "--no-such"], capture_output=True, text=True, timeout=60, check=False
    )
    assert ended.returncode == 2
    assert "see `kubectl couchdiscover check --help`" in ended.stdout


def test_threads_that_were_given_up_do_not_crash_its_end(
    sandbox: Callable[..., Sandbox], couchdiscover: Command
) -> None:
    """Where the deadline cuts handshakes short, OpenSSL was taken down under them: SIGSEGV."""
    authority = trustme.CA()
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("somebody.else").configure_cert(tls)
    box = sandbox(8, tls=tls)
    for round_ in range(4):
        started = [
            couchdiscover.start("--timeout", f"{1 + round_ / 8}s", environment=box.environment())
            for _ in range(4)
        ]
        assert {finish(process).code for process in started} == {4}
