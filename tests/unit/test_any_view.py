"""The decision over any view that hypothesis thinks of: lawful, and with an end."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from hypothesis import given, note, settings
from hypothesis import strategies as st

from couchdiscover.decide.decision import decide
from couchdiscover.decide.membership import Membership
from couchdiscover.decide.simulation import after
from couchdiscover.state.nodes import (
    SYSTEM_DATABASES,
    ClusterView,
    Hash,
    Identity,
    LoginRefused,
    NodeView,
    SetupState,
    Unreachable,
)
from couchdiscover.state.steps import (
    AddNode,
    Do,
    Done,
    FinishCluster,
    SetSecret,
    SyncIdentity,
    Wait,
)
from couchdiscover.state.topology import Scope, Topology
from couchdiscover.state.volumes import Volume
from tests.support.decisions import (
    down,
    erlang_name,
    holding,
    names,
    node,
    read,
    topology,
    unmade,
    view,
)

# Made once: to make them anew for each of some hundred views takes longer than to decide.
YES_OR_NO = st.booleans()
STATES = st.sampled_from(list(SetupState))
JOINING = st.sampled_from([SetupState.ENABLED, SetupState.FINISHED])
PARTS = st.sampled_from(["files", "maps", "filled", "traces", "uuid", "mark"])
FATES = st.sampled_from(["up", "up", "up", "up", "down", "refused"])
SCOPES = st.sampled_from(Scope)
VALUES = st.sampled_from(["a", "b", None])
SIZES = st.integers(1, 5)
UP_TO = [st.integers(0, most) for most in range(2**6)]
NAMES = ["_users", "_replicator", "_global_changes", "orders"]


def some_of(draw: st.DrawFn, pool: Sequence[str]) -> frozenset[str]:
    """Any of these, drawn as one number."""
    bits = draw(UP_TO[2 ** len(pool) - 1])
    return frozenset(each for at, each in enumerate(pool) if bits >> at & 1)


def identity(draw: st.DrawFn) -> Identity:
    """What a node has of three values, equal or not."""
    admin = draw(VALUES)
    return Identity(Hash(admin) if admin else None, draw(VALUES), draw(VALUES))


@st.composite
def situations(draw: st.DrawFn) -> tuple[Topology, ClusterView, Scope]:
    size = draw(SIZES)
    scope = draw(SCOPES)
    own = draw(UP_TO[size - 1]) if scope is Scope.POD else None
    everybody = [*(erlang_name(n) for n in range(size)), erlang_name(9)]
    normal = draw(YES_OR_NO)  # mostly sane sets, or else the refusals hide everything
    sights: list[NodeView | Unreachable | LoginRefused] = []
    for n in range(size):
        fate = draw(FATES)
        if fate == "down":
            sights.append(down(n))
            continue
        if fate == "refused":
            sights.append(LoginRefused(f"couchdb-{n}", "refused"))
            continue
        pool = everybody[:size] if normal else everybody
        members = some_of(draw, pool) | names(n)
        if normal and draw(YES_OR_NO):
            members = frozenset(everybody[:size]) if draw(YES_OR_NO) else names(n)
        connected = some_of(draw, pool) | names(n)
        if draw(YES_OR_NO):
            connected = members
        state = draw(JOINING if normal else STATES)
        seen = node(n, members, state=state, connected=connected, identity=identity(draw))
        if draw(YES_OR_NO):
            seen = replace(seen, overdue=some_of(draw, everybody) - members)
        if seen.alone:
            databases = frozenset() if normal else some_of(draw, NAMES)
            filled = databases & some_of(draw, NAMES)
            laid = holding(*databases, suffix=f".{n}")
            volume = replace(laid, filled=filled & SYSTEM_DATABASES)
            seen = read(replace(seen, volume=volume))
        elif draw(YES_OR_NO):
            seen = read(replace(seen, up="ok", volume=holding("orders", on=frozenset(pool))))
        if seen.volume is not None and draw(YES_OR_NO):
            seen = replace(seen, volume=replace(seen.volume, mark=None))
        if not normal and draw(YES_OR_NO):
            unread: dict[str, Any] = {draw(PARTS): None}
            seen = replace(seen, volume=replace(seen.volume or Volume(), **unread))
        sights.append(seen)
    voters = some_of(draw, everybody[:size])
    place = topology(size, own)
    if draw(YES_OR_NO):
        place = unmade(place, draw(UP_TO[size]))
    return place, view(*sights, prior=voters), scope


def own_data(node: NodeView) -> frozenset[tuple[str, str]]:
    """The databases in a node's files, by name and suffix, that something could be lost of."""
    volume = node.volume or Volume()
    filled = volume.filled or frozenset()
    return frozenset(
        (file.database, file.suffix)
        for file in volume.files or ()
        if file.database not in SYSTEM_DATABASES or file.database in filled
    )


def made_apart(one: NodeView, other: NodeView) -> set[str]:
    """Databases that both have by their maps, and that are not one and the same."""
    maps = [
        {each.database: each.suffix for each in (node.volume and node.volume.maps) or ()}
        for node in (one, other)
    ]
    return {name for name in maps[0].keys() & maps[1].keys() if maps[0][name] != maps[1][name]}


@settings(max_examples=800, deadline=None)
@given(situations())
def test_from_any_view_the_decision_is_lawful_and_comes_to_an_end(
    situation: tuple[Topology, ClusterView, Scope],
) -> None:
    place, seen, scope = situation
    finished_through: set[str] = set()
    rounds = 0
    while isinstance(decision := decide(place, seen, scope), Do):
        note(f"{decision}")
        rounds += 1
        assert rounds <= 6, "never comes to an end"
        membership = Membership.of(place, seen)
        answering = {n.pod: n for n in seen.nodes}
        by_name = {n.name: n for n in seen.nodes}
        for step in decision.steps:
            assert step.pod in answering, "a write to a silent node"
            match step:
                case AddNode(pod=pod, to=to, member=member):
                    joining, lead = answering[pod], by_name[member]
                    lone = len(membership.group_of(joining).names) == 1
                    assert lone or joining.alone or lead.name in joining.overdue
                    assert lead.name not in joining.cluster_nodes
                    assert pod != to == lead.pod
                    linked = lead in membership.group_of(joining).nodes
                    assert linked or not (own_data(joining) - own_data(lead))
                    assert not made_apart(joining, lead)
                    assert len(membership.clusters) <= 1 or scope is Scope.POD
                case FinishCluster(pod=pod):
                    finished_through.add(pod)
                    lead = answering[pod]
                    inside = membership.pods_in(lead.cluster_nodes)
                    assert {pod.name for pod in place.expected} <= inside.keys()
                    assert lead.cluster_nodes <= lead.all_nodes | names(9)
                    assert not set(membership.left_behind) & lead.cluster_nodes
                    fellows = [n for n in seen.nodes if n.name in lead.cluster_nodes]
                    assert not any(n.was_finished for n in fellows)
                    known = membership.listed | membership.pods.keys() | membership.beyond
                    assert not any(n.all_nodes - known for n in fellows), "others know of it"
                case SyncIdentity(pod=pod, source=source):
                    assert source in answering
                    assert scope is Scope.SET or pod == place.own
            if scope is Scope.POD and not isinstance(step, FinishCluster):
                of_own = isinstance(step, AddNode) and step.to == place.own
                assert step.pod == place.own or of_own or isinstance(step, SetSecret)
        seen = after(place, seen, decision.steps)
    assert len(finished_through) <= 1, "finished through two nodes"
    if isinstance(decision, Wait):
        assert decision.reasons
        assert all(decision.reasons.values())
    if isinstance(decision, Done):
        membership = Membership.of(place, seen)
        for pod in decision.marks:
            marked = next(n for n in seen.nodes if n.pod == pod)
            fellows_by_pod = membership.pods_in(marked.cluster_nodes).keys()
            unseen = fellows_by_pod & membership.silent.keys()
            assert membership.survey.mark(pod) is not None or not unseen, "it may be a lost one"
    if isinstance(decision, Done) and scope is Scope.SET:
        everybody = {n.name for n in seen.nodes}
        assert len(everybody) == len(place.expected)
        for each in seen.nodes:
            assert each.finished
            assert everybody <= each.cluster_nodes
            assert everybody <= each.all_nodes
    assert decide(place, seen, scope) == decision, "the same view, another decision"
