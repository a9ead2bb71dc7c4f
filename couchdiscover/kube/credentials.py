"""CouchDB's administrator: from the own environment, else from the CouchDB container's."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from couchdiscover.errors import UsageProblem
from couchdiscover.kube.environment import ContainerEnvironment, Value, told_origin
from couchdiscover.kube.objects import Object, as_dicts
from couchdiscover.state.topology import Credentials

PAIRS = (
    ("COUCHDB_ADMIN_USER", "COUCHDB_ADMIN_PASS"),  # couchdiscover's own, since 0.2
    ("COUCHDB_USER", "COUCHDB_PASSWORD"),  # the official image's
)

_HASH = re.compile(r"-(hashed|pbkdf2)[-:]")
"""How CouchDB tells a hash from a password (src/couch/src/couch_passwords.erl)."""

_LINE_BREAK = re.compile(r"\r\n|\n|\r")


@dataclass(frozen=True, slots=True)
class Found:
    """The administrator, and what is to be said of where the values came from."""

    credentials: Credentials
    notes: tuple[str, ...] = ()


def own_credentials(environment: Mapping[str, str]) -> tuple[Found | None, list[str]]:
    """By the own environment; and, where there are none, which half was missing.

    Raises UsageProblem where what is there cannot be used.
    """
    halves: list[str] = []
    for user_key, password_key in PAIRS:
        user, password = _own_value(environment, user_key), _own_value(environment, password_key)
        if user and password:
            return _checked(user, password, password_key), halves
        if user or password:
            halves.append(f"{password_key if user else user_key} is not set here")
    return None, halves


def container_credentials(
    environment: ContainerEnvironment,
    container: Object,
    others: Sequence[Object],
    halves: list[str],
) -> Found:
    """By the environment of CouchDB's container.

    ``others`` are the pod's other containers, ``halves`` what was found before. Raises UsageProblem
    where there is no administrator, NotYet or Denied where the objects cannot be read.
    """
    problems = []
    for user_key, password_key in PAIRS:
        user, password = environment.get(user_key), environment.get(password_key)
        if user is None and password is None:
            continue
        if user and password and user.text and password.text:
            return _checked(user, password, password_key)
        for key, value in ((user_key, user), (password_key, password)):
            if value is None:
                problems.append(f"{key} of container {container.get('name')} is not set")
            elif not value.text:
                problems.append(f"{key} ({value.source}) is empty")
    raise UsageProblem("; ".join([_nowhere(container, halves, problems), *_next_door(others)]))


def _nowhere(container: Object, halves: list[str], problems: list[str]) -> str:
    if problems:
        told = ", and ".join(problems)
        return f"no credentials: {told}; {_remedy()}" + (f" ({halves[0]})" if halves else "")
    keys = " or ".join(" and ".join(pair) for pair in PAIRS)
    return (
        f"no credentials: {keys} are neither in couchdiscover's own environment nor in that of "
        f"container {container.get('name')}" + (f" ({'; '.join(halves)})" if halves else "")
    )


def _remedy() -> str:
    return "set both there, or in couchdiscover's own environment"


def _next_door(others: Sequence[Object]) -> list[str]:
    """Which other containers of the pod have an administrator: the next thing to look at."""
    told = []
    for other in others:
        entries = [
            entry
            for entry in as_dicts(other.get("env"))
            if any(entry.get("name") in pair for pair in PAIRS)
        ]
        if entries:
            found = ", ".join(told_origin(entry) for entry in entries)
            told.append(
                f"container {other.get('name')} has {found}: give couchdiscover the same in its "
                "own environment"
            )
    return told


def _own_value(environment: Mapping[str, str], key: str) -> Value | None:
    """A variable of the own environment, or the file that its _FILE variant names."""
    if key in environment:
        return Value(environment[key], f"couchdiscover's own {key}")
    path = environment.get(f"{key}_FILE")
    if not path:
        return None
    try:
        text = Path(path).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise UsageProblem(
            f"{key}_FILE names {path}, which cannot be read ({type(error).__name__})"
        ) from None
    return Value(text, f"{path}, by couchdiscover's own {key}_FILE")


@dataclass(slots=True)
class _Half:
    """The user name or the password on its way."""

    what: str
    value: Value
    notes: list[str] = field(default_factory=list)

    def read(self) -> str:
        """The text as CouchDB has it. Raises UsageProblem where it can be no such thing."""
        source = self.value.source
        text = self._without_line_break()
        if not text:
            raise UsageProblem(f"the {self.what} ({source}) is empty")
        try:
            text.encode()
        except UnicodeEncodeError:
            raise UsageProblem(f"the {self.what} ({source}) is no UTF-8") from None
        return text

    def _without_line_break(self) -> str:
        """CouchDB's own is without: the official image writes it into a line of an ini file."""
        text, source = self.value.text, self.value.source
        at_end = list(_LINE_BREAK.finditer(text))
        if not at_end or at_end[-1].end() != len(text):
            return text
        text = text[: at_end[-1].start()]
        told = (
            f"the {self.what} ({source}) ends with a line break, which is left out, as in CouchDB"
        )
        self.notes.append(
            f"{told}'s ini file; `echo -n`, or `kubectl create secret --from-literal`, makes it "
            "without"
        )
        return text


def _checked(user: Value, password: Value, password_key: str) -> Found:
    halves = [_Half("user name", user), _Half("password", password)]
    name, word = (half.read() for half in halves)
    if ":" in name:
        raise UsageProblem(
            f"the user name ({user.source}) has a colon, which HTTP cannot transport"
        )
    if scheme := _HASH.match(word):
        raise UsageProblem(
            f"the password ({password.source}) is a hash ({scheme[0]}…), with which nobody can log "
            f"in: give couchdiscover the password itself in its own environment ({password_key})"
        )
    notes = tuple(note for half in halves for note in half.notes)
    return Found(Credentials(name, word, password.source), notes)
