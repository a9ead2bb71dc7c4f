"""The configuration of a simulated node: sections of strings, as `_config` shows them."""

import hashlib
import hmac
import secrets

SYSTEM_DBS = ("_users", "_replicator")
LOOPBACK = ("127.0.0.1", "::1", "localhost")

_SCHEME = "-pbkdf2:sha256-"
_ROUNDS = 600_000


def derive(password: str, salt: str) -> str:
    """The digest of a password. One round where CouchDB takes 600,000: nothing is guarded here."""
    return hashlib.pbkdf2_hmac("sha256", password.encode(), salt.encode(), 1).hex()


def hash_password(password: str) -> str:
    """A password as CouchDB stores it for an admin; what is hashed already stays as it is."""
    if password.startswith("-"):
        return password
    salt = secrets.token_hex(16)
    return f"{_SCHEME}{derive(password, salt)},{salt},{_ROUNDS}"


def salt_of(stored: str) -> str:
    """The salt of a stored hash; it is part of what signs a session."""
    return stored.split(",")[1] if stored.count(",") == 2 else ""


def verify(stored: str, password: str) -> bool:
    """Whether a password is the one that was hashed."""
    if not stored.startswith(_SCHEME):
        return False
    digest = stored.removeprefix(_SCHEME).split(",")[0]
    return hmac.compare_digest(digest, derive(password, salt_of(stored)))


class Config:
    """Sections of keys and values. What is here is kept over restarts of the process."""

    def __init__(self, sections: dict[str, dict[str, str]]) -> None:
        self.sections = sections

    def get(self, section: str, key: str, default: str | None = None) -> str | None:
        """One value, or the default."""
        return self.sections.get(section, {}).get(key, default)

    def set(self, section: str, key: str, value: str) -> str:
        """Writes a value (an admin's password hashed); returns the former one, or ''."""
        if section == "admins":
            value = hash_password(value)
        old = self.sections.setdefault(section, {}).get(key, "")
        self.sections[section][key] = value
        return old

    def delete(self, section: str, key: str) -> str | None:
        """Removes a value and returns it; None where there is none."""
        return self.sections.get(section, {}).pop(key, None)

    def is_true(self, section: str, key: str) -> bool:
        """Whether a value says true."""
        return self.get(section, key) == "true"

    @property
    def admins(self) -> dict[str, str]:
        """The admins and their hashes."""
        return self.sections.get("admins", {})

    @property
    def secret(self) -> str | None:
        """What signs the sessions."""
        return self.get("chttpd_auth", "secret")

    @property
    def enabled(self) -> bool:
        """Whether the node listens to others and has an admin."""
        return bool(self.admins) and self.get("chttpd", "bind_address") not in (None, *LOOPBACK)

    @property
    def single(self) -> bool:
        """Whether the node is configured to stay alone."""
        return self.get("cluster", "n") == "1" or self.is_true("couchdb", "single_node")
