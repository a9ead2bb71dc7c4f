"""The configuration of a simulated node: sections of strings, as `_config` shows them.

What the process holds and what its ini file says are two things: a value may be set for the
process alone, and a file may refuse to be written.
"""

import copy
import hashlib
import hmac
import re
import secrets
from collections.abc import Callable, Mapping

from couchdiscover.sandbox.couchdb.versions import Traits

SYSTEM_DBS = ("_users", "_replicator")
LOOPBACK = ("127.0.0.1", "::1", "localhost")
AUTHENTICATION_HANDLERS = ("cookie", "default")

Sections = dict[str, dict[str, str]]

_NEWEST = Traits("3.5.2")
_HANDLER = re.compile(r"\{\s*\w+\s*,\s*(\w+?)_authentication_handler\s*\}")


def ini_value(text: str) -> str:
    """What is left of a value that was printed into an ini file; '' is no value.

    A line break ends it, blanks around it go, and a semicolon after a blank begins a comment
    (CouchDB's source, src/config/src/config.erl, ``parse_ini``).
    """
    line = re.split("\r\n|\n|\r|\032", text)[0].strip()
    return "" if line.startswith(";") else re.split("[ \t];", line)[0].strip()


def ini_sections(*parts: Mapping[str, Mapping[str, str]]) -> Sections:
    """What CouchDB reads of sections that were printed into ini files, the later ones winning."""
    found: Sections = {}
    for part in parts:
        for section, values in part.items():
            read = {key: value for key, text in values.items() if (value := ini_value(text))}
            found.setdefault(section, {}).update(read)
    return found


def derive(password: str, salt: str, traits: Traits = _NEWEST) -> str:
    """The digest of a password. One round where CouchDB takes 600,000: nothing is guarded here."""
    name = "sha256" if traits.strong_hashes else "sha1"
    return hashlib.pbkdf2_hmac(name, password.encode(), salt.encode(), 1).hex()


def is_hashed(stored: str, traits: Traits = _NEWEST) -> bool:
    """Whether CouchDB takes an administrator's value for a hash, and not for a plain password."""
    known = ("-hashed-", "-pbkdf2-", *(("-pbkdf2:",) if traits.strong_hashes else ()))
    return stored.startswith(known)


def hash_password(password: str, traits: Traits = _NEWEST) -> str:
    """A password as CouchDB stores it for an admin; what is hashed already stays as it is."""
    if is_hashed(password, traits):
        return password
    salt = secrets.token_hex(16)
    scheme, rounds = ("-pbkdf2:sha256-", 600_000) if traits.strong_hashes else ("-pbkdf2-", 10)
    return f"{scheme}{derive(password, salt, traits)},{salt},{rounds}"


def hash_user(password: str, traits: Traits = _NEWEST) -> dict[str, str | int]:
    """What a document of ``_users`` holds in place of its password."""
    salt = secrets.token_hex(16)
    strong = traits.strong_hashes
    return {
        "password_scheme": "pbkdf2",
        **({"pbkdf2_prf": "sha256"} if strong else {}),
        "salt": salt,
        "iterations": 600_000 if strong else 10,
        "derived_key": derive(password, salt, traits),
    }


def salt_of(stored: str) -> str:
    """The salt of a stored hash; it is part of what signs a session."""
    return stored.split(",")[1] if stored.count(",") == 2 else ""


def verify(stored: str, password: str) -> bool:
    """Whether a password is the one that was hashed, by whatever release."""
    scheme = re.match(r"-pbkdf2(:sha256)?-", stored)
    if scheme is None:
        return False
    made_by = _NEWEST if scheme[1] else Traits("3.3.3")
    digest = stored[scheme.end() :].split(",", maxsplit=1)[0]
    return hmac.compare_digest(digest, derive(password, salt_of(stored), made_by))


def _nobody(_section: str, _key: str) -> None:
    """Whom the configuration of a node that is not there yet tells of its changes."""


class Config:
    """Sections of keys and values: those of the process, and those of its ini file."""

    def __init__(self, sections: Sections, traits: Traits = _NEWEST) -> None:
        self.traits = traits
        self.stored = copy.deepcopy(sections)
        """What the ini file says: what the next start of the process begins with."""
        self.unwritable: str | None = None
        """Why the ini file cannot be written: ``eperm``, ``eacces``, ``erofs`` or ``enospc``."""
        self.changed: Callable[[str, str], None] = _nobody
        """Told section and key of each change, but of those whose file could not be written."""
        self.sections: Sections = {}
        self.reload()

    def reload(self) -> None:
        """Reads the file anew, as the process does when it starts, and hashes plain passwords."""
        self.sections = copy.deepcopy(self.stored)
        for user, value in self.admins.items():
            self.admins[user] = hash_password(value, self.traits)
            if self.unwritable is None:
                self.stored["admins"][user] = self.admins[user]

    def get(self, section: str, key: str, default: str | None = None) -> str | None:
        """One value, or the default."""
        return self.sections.get(section, {}).get(key, default)

    def set(self, section: str, key: str, value: str, *, persist: bool = True) -> str:
        """Writes a value (an admin's password hashed); returns the former one, or ''."""
        if section == "admins":
            value = hash_password(value, self.traits)
        old = self.get(section, key, "") or ""
        self.put(section, key, value, persist=persist)
        return old

    def put(self, section: str, key: str, value: str, *, persist: bool = True) -> str | None:
        """Writes a value as it is; why the file could not be written, or None.

        The process has the value either way, as CouchDB's does, but then nobody in it is told: no
        password is hashed, no other node hears of a secret (seen on 3.5.2 and 3.3.3).
        """
        self.sections.setdefault(section, {})[key] = value
        return self._written(section, key, value, persist=persist)

    def delete(self, section: str, key: str, *, persist: bool = True) -> str | None:
        """Removes a value; why the file could not be written, or None.

        What the file still says is back at once.
        """
        self.sections.get(section, {}).pop(key, None)
        error = self._written(section, key, None, persist=persist)
        left = self.stored.get(section, {}).get(key)
        if left is not None:
            self.sections.setdefault(section, {})[key] = left
        return error

    def _written(self, section: str, key: str, value: str | None, *, persist: bool) -> str | None:
        if persist and self.unwritable is not None:
            return self.unwritable
        if persist and value is None:
            self.stored.get(section, {}).pop(key, None)
        elif persist and value is not None:
            self.stored.setdefault(section, {})[key] = value
        self.changed(section, key)
        return None

    def is_true(self, section: str, key: str) -> bool:
        """Whether a value says true."""
        return self.get(section, key) == "true"

    @property
    def admins(self) -> dict[str, str]:
        """The admins and their hashes."""
        return self.sections.get("admins", {})

    @property
    def unhashed(self) -> list[str]:
        """The admins whose password is in clear still."""
        return [name for name, value in self.admins.items() if not is_hashed(value, self.traits)]

    @property
    def secret(self) -> str | None:
        """``[chttpd_auth] secret``: what a finish hands on."""
        return self.get("chttpd_auth", "secret")

    @property
    def session_secret(self) -> str | None:
        """What signs the sessions; the section of CouchDB 2 is read as well."""
        return self.secret or self.get("couch_httpd_auth", "secret")

    @property
    def authentication_handlers(self) -> tuple[str, ...]:
        """The ways to log in, by ``[chttpd] authentication_handlers``."""
        given = self.get("chttpd", "authentication_handlers")
        return AUTHENTICATION_HANDLERS if given is None else tuple(_HANDLER.findall(given))

    @property
    def enabled(self) -> bool:
        """Whether the node listens to others and has an admin."""
        return bool(self.admins) and self.get("chttpd", "bind_address") not in (None, *LOOPBACK)

    @property
    def single(self) -> bool:
        """Whether the node is configured to stay alone."""
        return self.get("cluster", "n") == "1" or self.is_true("couchdb", "single_node")
