"""Identity drift: whose admin hash, uuid and secret hold where the nodes of a cluster differ. Pure.

Every restart of a pod of the official image is drift (a new hash; uuid and secret gone or back to
what the environment gives), so it is never a reason to refuse. What the environment gives is
intent, though: where it sets the secret, no majority overwrites one.
"""

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from couchdiscover.state.nodes import Hash, Identity, NodeView
from couchdiscover.state.steps import AnnounceSecret, Step, SyncIdentity

KEYS = ("admin", "uuid", "secret")

TIE_SECONDS = 10.0
"""Uptimes closer than this say nothing about which node is the older one."""

EXCHANGES_SECRETS = (3, 5, 2)
"""From this release on nodes accept each other's sessions (src/couch/src/couch_secrets.erl)."""


HASHES_WITH_SHA256 = (3, 4)
"""From this release on passwords are hashed so; what is older takes such a hash for a password."""


@dataclass(frozen=True, slots=True)
class Drift:
    """What differs, and what is to come of it.

    ``steps`` make it equal. ``undecided`` are keys for which no majority spoke, ``tied`` those of
    them for which uptimes did not, either, and ``sole`` those that one node alone has.
    ``secretless`` is true where no node has a secret. ``kept`` are pods whose hashes stay as they
    are, since they are of another scheme than the others'. ``intended`` are pods whose secret,
    which the environment gives, differs from the others', and whose sessions fail there.
    """

    steps: tuple[Step, ...] = ()
    undecided: tuple[str, ...] = ()
    tied: tuple[str, ...] = ()
    sole: tuple[str, ...] = ()
    secretless: bool = False
    kept: tuple[str, ...] = ()
    intended: tuple[str, ...] = ()

    @property
    def differs(self) -> bool:
        """Whether anything is not as it should be."""
        return bool(self.steps or self.secretless or self.kept or self.intended)

    def of(self, pod: str) -> "Drift":
        """What concerns one pod."""
        return Drift(
            tuple(step for step in self.steps if step.pod == pod),
            self.undecided,
            self.tied,
            self.sole,
            self.secretless,
            tuple(kept for kept in self.kept if kept == pod),
            tuple(other for other in self.intended if other == pod),
        )


def needs_uptime(
    nodes: Sequence[NodeView], voters: Iterable[str], *, secret_intended: bool = False
) -> bool:
    """Whether the uptimes are needed to decide: some value differs, and none has a majority."""
    voting = _voting(nodes, voters)
    return any(
        _differs(nodes, key) and _majority(voting, key) is None
        for key in _keys(nodes)
        if not (secret_intended and key == "secret")
    )


def needs_sessions(nodes: Sequence[NodeView]) -> bool:
    """Whether it must be tried who accepts whose sessions: secrets differ, and only they.

    The user's salt is part of a session's signature, so that with other hashes it fails anyway. And
    each node must have a secret: opening a session on one without would make it set one.
    """
    known = [node for node in nodes if node.identity is not None]
    return (
        len(known) > 1
        and all(_value(node, "secret") for node in known)
        and _differs(known, "secret")
        and not _differs(known, "admin")
    )


def drift(
    nodes: Sequence[NodeView],
    voters: Iterable[str],
    source: str | None = None,
    *,
    secret_intended: bool = False,
) -> Drift:
    """Compares the identity of ``nodes``, value by value.

    Only ``voters`` (Erlang names) have a vote: more than half of those that answer give their value
    to the others; else the one that is up the longest does (under 10 s apart is a tie, won by the
    lowest ordinal). ``source`` is a pod whose values are to be taken instead of any vote; while it
    does not answer, nothing is made equal. Hashes go only to nodes whose own is of the same scheme,
    since another version may not read them.
    """
    voting = _voting(nodes, voters)
    named = next((node for node in nodes if node.pod == source), None)
    if source is not None and (named is None or named.identity is None):
        return Drift()  # whose values are meant cannot be told while it is silent
    pairs: dict[tuple[str, str], list[str]] = {}
    undecided, tied, sole, kept = [], [], [], set()
    given = set()
    for key in _keys(nodes):
        if not _differs(nodes, key) or (key == "secret" and (secret_intended or _accepted(nodes))):
            continue
        giver = named if named is not None and _value(named, key) else _majority(voting, key)
        if giver is None:
            having = [node for node in voting if _value(node, key)]
            giver = _oldest(having)
            if giver is None:
                continue  # no voter has a value to give
            undecided.append(key)
            if len(having) == 1:
                sole.append(key)
            elif not _clearly_older(giver, having):
                tied.append(key)
        for node in nodes:
            if node.identity is None or _value(node, key) == _value(giver, key):
                continue
            if _may_take(node, giver, key):
                pairs.setdefault((node.pod, giver.pod), []).append(key)
                given.add(key)
            else:
                kept.add(node.pod)
    steps: list[Step] = [
        SyncIdentity(pod, giver_pod, tuple(keys))
        for (pod, giver_pod), keys in sorted(pairs.items())
    ]
    apart = _unaccepted(nodes) if secret_intended else ()
    if secret_intended and apart and not steps and _all_exchange(nodes):
        steps += [AnnounceSecret(node.pod) for node in _alike(nodes, apart)]
        apart = ()
    secretless = bool(voting) and all(
        node.identity is not None and node.identity.secret is None for node in nodes
    )
    return Drift(
        tuple(steps),
        tuple(key for key in undecided if key in given),
        tuple(key for key in tied if key in given),
        tuple(key for key in sole if key in given),
        secretless,
        tuple(sorted(kept)),
        apart,
    )


def _keys(nodes: Sequence[NodeView]) -> list[str]:
    """What is compared: the values that every node has, and every administrator by name."""
    users = {user for node in nodes if node.identity for user in node.identity.admins}
    return [*KEYS, *(f"admins/{user}" for user in sorted(users))]


def _voting(nodes: Sequence[NodeView], voters: Iterable[str]) -> list[NodeView]:
    allowed = set(voters)
    return [node for node in nodes if node.name in allowed and node.identity is not None]


def _value(node: NodeView, key: str) -> str | Hash | None:
    identity = node.identity or Identity()
    match key.partition("/"):
        case ("admins", "/", user):
            return identity.admins.get(user)
        case ("admin", _, _):
            return identity.admin
        case ("uuid", _, _):
            return identity.uuid
        case _:
            return identity.secret


def _differs(nodes: Sequence[NodeView], key: str) -> bool:
    return len({_value(node, key) for node in nodes if node.identity is not None}) > 1


def _majority(voting: Sequence[NodeView], key: str) -> NodeView | None:
    counts = Counter(value for node in voting if (value := _value(node, key)))
    for value, count in counts.most_common(1):
        if count * 2 > len(voting):
            return next((node for node in voting if _value(node, key) == value), None)
    return None


def _oldest(nodes: Sequence[NodeView]) -> NodeView | None:
    longest = max((node.uptime or 0.0 for node in nodes), default=0.0)
    return next((n for n in nodes if longest - (n.uptime or 0.0) < TIE_SECONDS), None)


def _clearly_older(node: NodeView, nodes: Sequence[NodeView]) -> bool:
    others = [other.uptime or 0.0 for other in nodes if other is not node]
    return all((node.uptime or 0.0) - uptime >= TIE_SECONDS for uptime in others)


def _may_take(node: NodeView, giver: NodeView, key: str) -> bool:
    """Whether a value may be written at a node: hashes only where it has such hashes itself.

    An administrator who is not there yet tells no scheme; the one we log in as does.
    """
    mine, theirs = _value(node, key), _value(giver, key)
    if not isinstance(theirs, Hash):
        return True
    known = mine if isinstance(mine, Hash) else _value(node, "admin")
    if isinstance(known, Hash):
        return known.scheme == theirs.scheme
    return node.release[:2] == giver.release[:2]


def finishes_for_all(nodes: Sequence[NodeView], coordinator: NodeView) -> NodeView:
    """The node to finish a cluster through: its password hash is pushed over everybody's.

    It is the coordinator, unless an older node would take that hash for a plain password, so that
    nobody could log in there any more; newer nodes read older hashes.
    """
    if reads_old_hashes_only(coordinator):
        return coordinator
    return next((node for node in nodes if reads_old_hashes_only(node)), coordinator)


def weak_hash_note(nodes: Sequence[NodeView], giver: NodeView) -> str | None:
    """What there is to say where newer nodes get the password hash of an old one."""
    newer = [node.pod for node in nodes if node.release and not reads_old_hashes_only(node)]
    if not newer or not reads_old_hashes_only(giver):
        return None
    version = f" (CouchDB {giver.version})" if giver.version else ""
    return (
        f"every node gets the administrator's password hash of {giver.pod}{version}, the only kind "
        f"that all can read: it is weaker than {', '.join(newer[:3])} would make it; each node "
        "makes its own anew when it is started as a newer one"
    )


def reads_old_hashes_only(node: NodeView) -> bool:
    """Whether a node is, or where its version is not known could be, older than hashes of today."""
    if node.release:
        return node.release < HASHES_WITH_SHA256
    admin = node.identity.admin if node.identity is not None else None
    return admin is not None and admin.scheme.startswith("pbkdf2,")


def _accepted(nodes: Sequence[NodeView]) -> bool:
    """Whether every node was seen to take the sessions of every other: nothing is amiss then."""
    tried = [node for node in nodes if node.sessions is not None]
    return bool(tried) and not _unaccepted(nodes)


def _unaccepted(nodes: Sequence[NodeView]) -> tuple[str, ...]:
    """Pods whose sessions some other node refuses, as far as that was tried."""
    tried = [node for node in nodes if node.sessions is not None]
    pods = {node.pod for node in nodes if node.identity is not None}
    return tuple(n.pod for n in tried if n.sessions is not None and pods - n.sessions - {n.pod})


def _alike(nodes: Sequence[NodeView], pods: Sequence[str]) -> list[NodeView]:
    """Those nodes, and the others that have the same secret: one was tried for all of them."""
    secrets = {n.identity.secret for n in nodes if n.pod in pods and n.identity is not None}
    return [n for n in nodes if n.identity is not None and n.identity.secret in secrets]


def _all_exchange(nodes: Sequence[NodeView]) -> bool:
    return all(node.release >= EXCHANGES_SECRETS for node in nodes)
