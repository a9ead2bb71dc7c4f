"""Credential plugins: the commands that a kubeconfig names under ``exec``.

As client-go runs them (plugin/pkg/client/auth/exec/exec.go; Kubernetes documentation,
"Authenticating", "client-go credential plugins"), with an end: a plugin that hangs outlives neither
its time nor this process. What it issues goes from its output into memory, and nowhere else.
"""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from couchdiscover.errors import Denied, NotYet, UsageProblem

GROUP = "client.authentication.k8s.io"
VERSIONS = (f"{GROUP}/v1", f"{GROUP}/v1beta1")
INFO = "KUBERNETES_EXEC_INFO"

TOLD = 300
"""Characters of a failed plugin's own words that are repeated."""


@dataclass(frozen=True, slots=True)
class Plugin:
    """A command, its surroundings, and what it is told of the cluster where it wants to know."""

    command: str
    arguments: tuple[str, ...] = field(default=(), repr=False)
    environment: tuple[tuple[str, str], ...] = field(default=(), repr=False)
    version: str = VERSIONS[0]
    mode: str = "IfAvailable"
    hint: str = ""
    cluster: str | None = None
    """As JSON; None where ``provideClusterInfo`` is not asked for."""


@dataclass(frozen=True, slots=True)
class Issued:
    """What a plugin gave; shows in no repr. ``expires`` is None where it is good until refused."""

    token: str | None = field(default=None, repr=False)
    certificate: tuple[bytes, bytes] | None = field(default=None, repr=False)
    expires: datetime | None = None

    @property
    def expired(self) -> bool:
        """Whether its time is over, by this machine's clock."""
        return self.expires is not None and datetime.now(UTC) >= self.expires


def run(plugin: Plugin, seconds: float) -> Issued:
    """Runs it, for so long at most.

    Raises UsageProblem where it cannot be run as it is configured, Denied where it fails, NotYet
    where it does not end in time.
    """
    interactive = plugin.mode != "Never" and sys.stdin is not None and sys.stdin.isatty()
    if plugin.mode == "Always" and not interactive:
        raise UsageProblem(
            f"the kubeconfig's command {plugin.command!r} wants to ask at a terminal "
            "(interactiveMode: Always), and there is none: log in before, or use a token"
        )
    code, out, err = _execute(plugin, interactive, seconds)
    if code != 0:
        said = _words(err) or ("said nothing" if not interactive else "see above")
        raise Denied(f"the kubeconfig's command {plugin.command!r} failed ({code}): {said}")
    try:
        return _issued(json.loads(out), plugin.version)
    except (ValueError, TypeError, KeyError, AttributeError):  # whose texts may show the output
        problem = f"gave no ExecCredential of {plugin.version} with a token or a certificate"
        raise Denied(f"the kubeconfig's command {plugin.command!r} {problem}") from None


def _execute(plugin: Plugin, interactive: bool, seconds: float) -> tuple[int, bytes, bytes]:
    environment = {**os.environ, **dict(plugin.environment), INFO: _info(plugin, interactive)}
    try:
        process = subprocess.Popen(  # noqa: S603 - what the user's own kubeconfig names
            [plugin.command, *plugin.arguments],
            env=environment,
            stdin=None if interactive else subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=None if interactive else subprocess.PIPE,  # a prompt must be seen
            start_new_session=not interactive,  # so that what it starts ends with it
        )
    except OSError as error:
        hint = f"; {plugin.hint}" if plugin.hint else ""
        raise UsageProblem(
            f"the kubeconfig's command {plugin.command!r} for authentication cannot be run "
            f"({error.strerror}){hint}"
        ) from None
    try:
        out, err = process.communicate(timeout=seconds)
    except subprocess.TimeoutExpired:
        _kill(process, group=not interactive)
        raise NotYet(
            f"the kubeconfig's command {plugin.command!r} for authentication did not end within "
            f"{seconds:.3g} s"
        ) from None
    except BaseException:  # a signal, say
        _kill(process, group=not interactive)
        raise
    return process.returncode, out or b"", err or b""


def _kill(process: "subprocess.Popen[bytes]", *, group: bool) -> None:
    with suppress(OSError):
        if group:
            os.killpg(process.pid, signal.SIGKILL)
        process.kill()
    with suppress(subprocess.TimeoutExpired):
        process.communicate(timeout=1.0)  # a grandchild elsewhere may hold the pipes
    for pipe in (process.stdout, process.stderr):
        if pipe is not None:
            pipe.close()


def _info(plugin: Plugin, interactive: bool) -> str:
    spec: dict[str, Any] = {"interactive": interactive}
    if plugin.cluster is not None:
        spec["cluster"] = json.loads(plugin.cluster)
    return json.dumps({"apiVersion": plugin.version, "kind": "ExecCredential", "spec": spec})


def _issued(answer: Mapping[str, Any], version: str) -> Issued:
    """Raises ValueError or its like where the answer is no ExecCredential."""
    if (answer["apiVersion"], answer["kind"]) != (version, "ExecCredential"):
        raise ValueError("another object")
    status = answer["status"]
    token = status.get("token") or None
    pair = (status.get("clientCertificateData"), status.get("clientKeyData"))
    if bool(pair[0]) != bool(pair[1]) or not (token or pair[0]):
        raise ValueError("neither a token nor a certificate")
    certificate = (pair[0].encode(), pair[1].encode()) if pair[0] and pair[1] else None
    expiry = status.get("expirationTimestamp")
    expires = datetime.fromisoformat(expiry) if expiry else None
    if expires is not None and expires.tzinfo is None:
        raise ValueError("no time")
    return Issued(token.strip() if token else None, certificate, expires)


def _words(err: bytes) -> str:
    """The last of what a plugin said, as one line."""
    lines = [line.strip() for line in err.decode(errors="replace").splitlines()]
    text = "; ".join([line for line in lines if line][-3:])
    text = "".join(c if c.isprintable() else " " for c in text)
    return text if len(text) <= TOLD else "…" + text[-TOLD:]


def read(entry: Mapping[str, Any], cluster: Mapping[str, Any], folder: Path) -> Plugin:
    """A kubeconfig's ``exec``. A relative path of a command is relative to the kubeconfig.

    ``cluster`` is what the plugin is told where it asks for that. Raises UsageProblem, or
    ValueError and its like where the entry is garbled.
    """
    version = entry.get("apiVersion")
    if version not in VERSIONS:
        raise UsageProblem(
            f"the kubeconfig's command {entry.get('command')!r} speaks {version!r}, and only "
            f"{' and '.join(VERSIONS)} are known here: renew it, or use a token"
        )
    command = entry["command"]
    if not isinstance(command, str) or not command:
        raise ValueError("no command")
    if os.sep in command and not Path(command).is_absolute():
        command = str(folder / command)
    return Plugin(
        command=command,
        arguments=tuple(str(argument) for argument in entry.get("args") or ()),
        environment=tuple((str(e["name"]), str(e["value"])) for e in entry.get("env") or ()),
        version=version,
        mode=str(entry.get("interactiveMode") or "IfAvailable"),
        hint=" ".join(str(entry.get("installHint") or "").split())[:TOLD],
        cluster=json.dumps(cluster) if entry.get("provideClusterInfo") else None,
    )
