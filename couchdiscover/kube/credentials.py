"""CouchDB's administrator: from the own environment, else from the CouchDB container's."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from couchdiscover.errors import UsageProblem
from couchdiscover.kube.environment import (
    ContainerEnvironment,
    Value,
    told_names,
    told_origin,
    told_sources,
)
from couchdiscover.kube.objects import Object, as_dicts
from couchdiscover.state.topology import Credentials

PAIRS = (
    ("COUCHDB_ADMIN_USER", "COUCHDB_ADMIN_PASS"),  # couchdiscover's own, since 0.2
    ("COUCHDB_USER", "COUCHDB_PASSWORD"),  # the official image's
)

_HASH = re.compile(r"-(hashed|pbkdf2)[-:]")
"""How CouchDB tells a hash from a password (src/couch/src/couch_passwords.erl)."""

USER, PASSWORD = "user name", "password"

_NOT_IN_INI = re.compile(r"^\s|\s$|[\n\r]|[ \t];")
"""What CouchDB's reader of ini files takes out of a value (src/config/src/config.erl)."""

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
    for pair in PAIRS:
        user, password = found = [environment.get(key) for key in pair]
        if user and password and user.text and password.text:
            return _checked(user, password, pair[1], by_image=True)
        if any(value or environment.entry(key) for key, value in zip(pair, found, strict=True)):
            problems += [
                _lacking(environment, container, key, value)
                for key, value in zip(pair, found, strict=True)
                if value is None or not value.text
            ]
        elif files := [f"{key}_FILE" for key in pair if environment.entry(f"{key}_FILE")]:
            raise UsageProblem(f"no credentials: {_in_a_file(container, files)}")
    told = [_nowhere(container, halves, problems)]
    next_door = _next_door(others)
    raise UsageProblem("; ".join([*told, *(next_door or ([] if problems else [_remedy("")]))]))


def _in_a_file(container: Object, names: Sequence[str]) -> str:
    return (
        f"the file of {' and '.join(names)} in container {container.get('name')} cannot be read "
        "from here: mount its Secret into couchdiscover's container, and set the same there"
    )


def _lacking(
    environment: ContainerEnvironment, container: Object, key: str, value: Value | None
) -> str:
    """Why half of an administrator is not there, and where it was to come from."""
    if value is not None:
        return f"{key} ({value.source}) is empty"
    of = f"of container {container.get('name')}"
    if environment.entry(f"{key}_FILE"):
        return f"{key} {of} is not set, and {_in_a_file(container, [f'{key}_FILE'])}"
    entry = environment.entry(key)
    if entry is not None and (origin := told_origin(entry)) != key:
        return f"{key} {of} is not set ({origin.removeprefix(key).strip()}, optional, not there)"
    return f"{key} {of} is not set"


def _nowhere(container: Object, halves: list[str], problems: list[str]) -> str:
    if problems:
        told = ", and ".join(problems)
        return f"no credentials: {told}; {_remedy(' there, or')}" + (
            f" ({halves[0]})" if halves else ""
        )
    keys = " or ".join(" and ".join(pair) for pair in PAIRS)
    return (
        f"no credentials: {keys} are neither in couchdiscover's own environment nor in that of "
        f"container {container.get('name')}" + (f" ({'; '.join(halves)})" if halves else "")
    )


def _remedy(where: str) -> str:
    return f"set both{where} in couchdiscover's own environment"


_LIKELY = re.compile(r"(COUCH|ADMIN|DB).*(USER|PASS|PWD)|(USER|PASS|PWD).*(COUCH|ADMIN|DB)")
"""Names under which people hand an administrator to what sets CouchDB up: of the variable, or of
the object and key that it is taken from."""


def _next_door(others: Sequence[Object]) -> list[str]:
    """Which other containers of the pod have an administrator: the next thing to look at."""
    told = []
    for other in others:
        origins = [
            told_origin(entry)
            for entry in as_dicts(other.get("env"))
            if any(_LIKELY.search(each.upper()) for each in told_names(entry))
        ]
        origins += [f"all of {source}" for source in told_sources(other)]
        if origins:
            told.append(
                f"container {other.get('name')} has {', '.join(origins)}: give couchdiscover the "
                "administrator from there, in its own environment"
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
    """The user name or the password on its way.

    ``by_image`` is true where the official image has the same value, and writes it into a line of
    an ini file.
    """

    what: str
    value: Value
    by_image: bool
    notes: list[str] = field(default_factory=list)

    def read(self) -> str:
        """The text as CouchDB has it. Raises UsageProblem where it can be no such thing."""
        source = self.value.source
        text = self._without_line_break()
        if not text:
            raise UsageProblem(f"the {self.what} ({source}) is empty: set it")
        try:
            text.encode()
        except UnicodeEncodeError:
            raise UsageProblem(f"the {self.what} ({source}) is no UTF-8") from None
        if self.by_image and _NOT_IN_INI.search(text):
            self.notes.append(
                f"the {self.what} ({source}) has what an ini file drops (a blank at an end, a line "
                "break, or ` ;`), into which the official image writes it: CouchDB's is another "
                "one; choose one without"
            )
        return text

    def _without_line_break(self) -> str:
        """CouchDB's own is without: the official image writes it into a line of an ini file."""
        text, source = self.value.text, self.value.source
        at_end = list(_LINE_BREAK.finditer(text))
        if not at_end or at_end[-1].end() != len(text):
            return text
        text = text[: at_end[-1].start()]
        told = f"the {self.what} ({source}) ends with a line break, which is left out"
        makes = "`echo -n`, or `kubectl create secret --from-literal`, makes it without"
        if self.what == USER and self.by_image:
            self.notes.append(
                f"{told} here; but in CouchDB's ini file it parts the name from the password, and "
                f"CouchDB does not start without an administrator: {makes}"
            )
        else:
            self.notes.append(f"{told}, as in CouchDB's ini file; {makes}")
        return text


def _checked(user: Value, password: Value, password_key: str, *, by_image: bool = False) -> Found:
    halves = [_Half(USER, user, by_image), _Half(PASSWORD, password, by_image)]
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
