"""What a node's configuration says: its identity, as fingerprints, and what else matters."""

import hashlib
import re
import secrets
from collections.abc import Mapping

from couchdiscover.state.nodes import Hash, Identity, NodeDetails

_SALT = secrets.token_bytes(16)


def identity_of(config: Mapping[str, Mapping[str, str]], user: str) -> Identity:
    hashes = config.get("admins", {})
    secret = config.get("chttpd_auth", {}).get("secret")
    old = config.get("couch_httpd_auth", {}).get("secret")
    return Identity(
        admin=_hash(hashes.get(user)),
        uuid=_fingerprint(config.get("couchdb", {}).get("uuid")),
        secret=_fingerprint(secret or old),
        admins={
            name: found for name, text in hashes.items() if name != user and (found := _hash(text))
        },
        old_secret=not secret and bool(old),
    )


def _hash(text: str | None) -> Hash | None:
    """A hash's fingerprint and scheme: ``-pbkdf2:sha256-KEY,SALT,ITERATIONS``."""
    value = _fingerprint(text)
    if value is None or text is None:
        return None
    found = re.match(r"-([a-z0-9]+(?::[a-z0-9]+)?)-", text)
    iterations = text.rpartition(",")[2] if found else ""
    return Hash(value, f"{found[1]},{iterations}" if found else "")


def details_of(pod: str, config: Mapping[str, Mapping[str, str]]) -> NodeDetails:
    """What a node's configuration says beside its identity."""
    cluster = config.get("cluster", {})
    mode = config.get("couchdb", {}).get("maintenance_mode")
    copies = cluster.get("n", "")
    seeds = (seed.strip() for seed in cluster.get("seedlist", "").split(","))
    return NodeDetails(
        pod,
        maintenance=mode if mode in ("true", "nolb") else None,
        copies=int(copies) if re.fullmatch(r"[1-9][0-9]{0,3}", copies) else NodeDetails("").copies,
        placement=cluster.get("placement") or None,
        seeds=frozenset(seed for seed in seeds if seed),
        single_node=config.get("couchdb", {}).get("single_node") == "true",
    )


def _fingerprint(value: str | None) -> str | None:
    """Tells two values apart, in this process only: it is salted, and nothing can be guessed."""
    if not value:
        return None
    return hashlib.blake2s(str(value).encode(), key=_SALT, digest_size=8).hexdigest()
