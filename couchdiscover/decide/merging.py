"""Whether a node may be joined to another: what it holds must not be hidden, nor hide. Pure.

CouchDB merges the shard maps of nodes that become members of one cluster by the databases' names:
of two maps of one name one wins on both sides, and what the loser's copies hold is found no more.
"""

from collections.abc import Collection

from couchdiscover.errors import Unsafe
from couchdiscover.state.nodes import SYSTEM_DATABASES, NodeView
from couchdiscover.state.reasons import OtherMaps, Reason, Unread
from couchdiscover.state.steps import Refuse
from couchdiscover.state.volumes import ShardMap

NAMED = 5
"""How many names a sentence has; the rest are counted."""


def merge_question(node: NodeView, coordinator: NodeView) -> Refuse | Reason | None:
    """Whether joining ``node`` to ``coordinator``'s cluster could hide documents.

    None where it cannot; a reason to wait where that is not known yet.
    """
    volume, theirs = node.volume, coordinator.volume
    if volume is None or volume.files is None:
        return Unread("what it holds", "GET /_node/_local/_all_dbs")
    mine = {file.database for file in volume.files if file.range}
    if not mine and _is_blank(coordinator):
        return None
    if theirs is None or theirs.maps is None:
        return Unread(f"what {coordinator.pod} holds", "its shard maps in /_node/_local/_dbs")
    if volume.maps is None:
        return Unread("what it holds", "its shard maps in /_node/_local/_dbs")
    # A copy of the very same database, as of a member that was away, is in nobody's way.
    ours = {each.database: each for each in volume.maps}
    known = {each.database: each for each in theirs.maps}
    same = {name: _same(ours.get(name), known.get(name)) for name in mine}
    # A map without a file holds nothing, and would still take the place of the cluster's own.
    same |= {name: _same(ours[name], known[name]) for name in ours.keys() & known.keys()}
    if open_ := sorted(name for name, known_same in same.items() if known_same is None):
        return Unread("where its databases come from", f"the revisions of {some(open_)} in _dbs")
    foreign = {name for name, known_same in same.items() if not known_same}
    if fileless := foreign - mine:
        return Refuse(
            Unsafe,
            f"{node.pod} is no member, and has shard maps of {some(fileless)} that are other ones "
            f"than {coordinator.pod}'s, and no files of them: joined, they could take the place of "
            "the cluster's, whose documents would be hidden on all nodes; keep its volume, which "
            "is another cluster's, and start it with a new one",
        )
    system = foreign & SYSTEM_DATABASES
    if system and volume.filled is None:
        return Unread("what its system databases hold", ", ".join(sorted(system)))
    own = (foreign - system) | (system & (volume.filled or frozenset()))
    if own:
        return Refuse(
            Unsafe,
            f"{node.pod} is no member and holds databases of its own ({some(own)}): joined to "
            f"{coordinator.pod}'s cluster, shard maps of the same name would be merged and "
            "documents become unreachable; keep its volume, and start it with another one, or "
            "replicate what it holds into the cluster first",
        )
    both = system & known.keys()
    if both:
        return Refuse(
            Unsafe,
            f"{node.pod} and {coordinator.pod} have {some(both)} each, made apart: joined, one map "
            "would hide the other's copies. Something that starts these nodes makes "
            f"{some(both)} on each; leave that to couchdiscover, and let these start without it",
        )
    return None


def _is_blank(coordinator: NodeView) -> bool:
    """Whether nothing is there that a map could hide: a lone node without any file."""
    volume = coordinator.volume
    return coordinator.alone and volume is not None and volume.files == frozenset()


def introduction_question(node: NodeView, member: NodeView) -> Reason | None:
    """Whether a member may be told of another: None where their shard maps agree.

    Both are members already, of one cluster by what they list. Where maps of one database differ
    by more than their age, they are of two.
    """
    mine, theirs = _maps(node), _maps(member)
    if mine is None:
        return Unread("its shard maps", "/_node/_local/_dbs")
    if theirs is None:
        return Unread(f"the shard maps of {member.pod}", "/_node/_local/_dbs")
    same = {name: _same(mine[name], theirs[name]) for name in mine.keys() & theirs.keys()}
    if open_ := sorted(name for name, known_same in same.items() if known_same is None):
        return Unread("where its databases come from", f"the revisions of {some(open_)} in _dbs")
    other = tuple(sorted(name for name, known_same in same.items() if not known_same))
    return OtherMaps(other, member.pod) if other else None


def unclear(nodes: Collection[NodeView]) -> frozenset[str]:
    """Databases whose maps' histories are needed to tell whether they are the same on all nodes."""
    maps: dict[str, list[ShardMap]] = {}
    for node in nodes:
        for each in (_maps(node) or {}).values():
            maps.setdefault(each.database, []).append(each)
    return frozenset(
        name
        for name, found in maps.items()
        if any(_same(one, other) is None for one in found for other in found)
    )


def _same(mine: ShardMap | None, theirs: ShardMap | None) -> bool | None:
    """Whether two maps are of one database, made once; None where only their histories tell.

    The suffix is the second in which a database was made: two that were made apart may have the
    same. Of one database one revision is the other's ancestor.
    """
    if mine is None or theirs is None or mine.suffix != theirs.suffix:
        return False
    if mine.revision == theirs.revision:
        return True
    if not mine.history or not theirs.history:
        return None
    return mine.revision in theirs.history or theirs.revision in mine.history


def some(names: Collection[str]) -> str:
    """The first few of many names."""
    more = len(names) - NAMED
    return ", ".join(sorted(names)[:NAMED]) + (f" and {more} more" if more > 0 else "")


def _maps(node: NodeView) -> dict[str, ShardMap] | None:
    if node.volume is None or node.volume.maps is None:
        return None
    return {each.database: each for each in node.volume.maps}
