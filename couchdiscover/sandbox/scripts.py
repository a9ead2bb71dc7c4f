"""What can be told of a shell script in somebody's manifest: it is read, and never run."""

import re
from collections.abc import Mapping, Sequence

SYSTEM_DBS = ("_users", "_replicator", "_global_changes")

_PART = r"(?:\$\([^)]*\)|\$\{[^}]*\}|`[^`]*`|[^\s;&|\"'`])+"
_SET = re.compile(rf"\bNODENAME=[\"']?({_PART})")
_FLAG = re.compile(rf"(?<![\w-])(-s?name|-setcookie)[ =]+[\"']?({_PART})")


def settings(
    script: str, variables: Mapping[str, str], hosts: tuple[str, str]
) -> tuple[dict[str, str], list[str]]:
    """NODENAME and the flags that a script sets, where it can be told what to."""
    found = dict(variables)
    for text in _SET.findall(script):
        value = _evaluated(text, found, hosts)
        if value is not None:
            found["NODENAME"] = value
    flags = []
    for flag, text in _FLAG.findall(script):
        value = _evaluated(text, found, hosts)
        if value is not None:
            flags += [flag, value]
    return found, flags


def _evaluated(text: str, variables: Mapping[str, str], hosts: tuple[str, str]) -> str | None:
    """A word as a shell has it; None where that cannot be told."""
    full, short = hosts
    text = re.sub(r"\$\(hostname (-f|--fqdn|--long)\)|`hostname (-f|--fqdn|--long)`", full, text)
    text = re.sub(r"\$\(hostname( -s)?\)|`hostname( -s)?`", short, text)
    known = {"HOSTNAME": short, **variables}
    text = re.sub(r"\$(?:\{(\w+)\}|(\w+))", lambda m: known.get(m[1] or m[2], m[0]), text)
    return None if re.search(r"[$`]", text) else text


_LOCAL = re.compile(r"localhost|127\.0\.0\.1|\[::1\]|\$\{?(HOSTNAME|POD_IP|POD_NAME)|\$\(hostname")
_FOR_SOME = re.compile(
    r"_cluster_setup|(\bif\b|\[|\bcase\b)[^;\n]*(HOSTNAME|POD_NAME|hostname|rdinal)"
)


def databases_made(words: Sequence[str]) -> tuple[str, ...]:
    """System databases that a script makes on its own node, whichever it is, by curl's ``PUT``.

    Nothing is told of one that asks other nodes, goes by its pod's name, or joins nodes itself.
    """
    text = " ".join(words)
    if not re.search(r"\bcurl\b", text) or not re.search(
        r"(-\w*X|--request)[ =]?[\"']?PUT\b", text
    ):
        return ()
    if not _LOCAL.search(text) or _FOR_SOME.search(text):
        return ()
    named = re.findall(rf"(?<![\w])({'|'.join(SYSTEM_DBS)})(?![\w/])", text)
    return tuple(dict.fromkeys(named))
