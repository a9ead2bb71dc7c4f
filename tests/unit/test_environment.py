"""A container's environment as the kubelet makes it (pkg/kubelet/kubelet_pods.go)."""

import base64
import re
from collections.abc import Mapping
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from couchdiscover.errors import UsageProblem
from couchdiscover.kube.client import Missing
from couchdiscover.kube.environment import ContainerEnvironment, decode_data

Entry = dict[str, Any]


class Objects:
    """Secrets and ConfigMaps by kind and name, and a record of what was read."""

    def __init__(self, **found: dict[str, str]) -> None:
        self.found = found
        self.read: list[str] = []

    def data(self, kind: str, name: str, *, optional: bool) -> Mapping[str, str] | None:
        self.read.append(f"{kind}/{name}")
        if name in self.found:
            return self.found[name]
        if optional:
            return None
        raise Missing(f"{kind}/{name} does not exist")


def literal(name: str, value: str) -> Entry:
    return {"name": name, "value": value}


def from_secret(name: str, secret: str, key: str, **more: Any) -> Entry:
    return {
        "name": name,
        "valueFrom": {"secretKeyRef": {"name": secret, "key": key, **more}},
    }


def from_map(name: str, config_map: str, key: str, **more: Any) -> Entry:
    return {
        "name": name,
        "valueFrom": {"configMapKeyRef": {"name": config_map, "key": key, **more}},
    }


def from_field(name: str, path: str) -> Entry:
    return {"name": name, "valueFrom": {"fieldRef": {"apiVersion": "v1", "fieldPath": path}}}


def all_of(kind: str, name: str, prefix: str = "", **more: Any) -> Entry:
    entry: Entry = {"secretRef" if kind == "Secret" else "configMapRef": {"name": name, **more}}
    return {**entry, "prefix": prefix} if prefix else entry


def environment(
    env: list[Entry] | None = None,
    env_from: list[Entry] | None = None,
    objects: Objects | None = None,
    fields: Mapping[str, str] | None = None,
) -> ContainerEnvironment:
    container = {"name": "couchdb", "env": env, "envFrom": env_from}
    return ContainerEnvironment(container, objects or Objects(), fields or {})


def text_of(found: ContainerEnvironment, name: str) -> str | None:
    value = found.get(name)
    return None if value is None else value.text


@pytest.mark.parametrize(
    ("value", "expanded"),
    [
        ("plain", "plain"),
        ("$(A)", "one"),
        ("x$(A)y$(A)", "xoneyone"),
        ("$(B)", "one two"),
        ("$$(A)", "$(A)"),
        ("$$$(A)", "$one"),
        ("$$$$", "$$"),
        ("pa$$word", "pa$word"),  # escaped or not, the kubelet halves it
        ("pa$word", "pa$word"),
        ("$A ${A}", "$A ${A}"),
        ("$(MISSING)", "$(MISSING)"),
        ("$(LATER)", "$(LATER)"),
        ("$()", "$()"),
        ("$(A", "$(A"),
        ("$(A$(A)", "$(A$(A)"),  # the name goes up to the first bracket, whatever is in it
        ("$($$)", "$($$)"),
        ("$(dotted.name-1)", "three"),
        ("$", "$"),
        ("a$", "a$"),
    ],
)
def test_references_in_a_value(value: str, expanded: str) -> None:
    found = environment(
        [
            literal("A", "one"),
            literal("B", "$(A) two"),
            literal("dotted.name-1", "three"),
            literal("X", value),
            literal("LATER", "too late"),
        ]
    )
    assert text_of(found, "X") == expanded


@given(
    value=st.text(alphabet="$()AB x", max_size=12),
    known=st.dictionaries(st.sampled_from(["A", "B", "AB", ""]), st.just("<v>"), max_size=4),
)
def test_references_as_a_plain_scan_would_have_them(value: str, known: dict[str, str]) -> None:
    known.pop("", None)  # Kubernetes allows no variable without a name
    entries = [literal(name, text) for name, text in known.items()]
    value += "."  # an empty value would be none
    assert text_of(environment([*entries, literal("X", value)]), "X") == scan(value, known)


def scan(value: str, known: Mapping[str, str]) -> str:
    """The kubelet's algorithm, character by character."""
    out, at = "", 0
    while at < len(value):
        if value.startswith("$$", at):
            out, at = out + "$", at + 2
        elif value.startswith("$(", at) and (end := value.find(")", at)) != -1:
            name = value[at + 2 : end]
            out, at = out + known.get(name, f"$({name})"), end + 1
        else:
            out, at = out + value[at], at + 1
    return out


def test_a_variable_refers_to_its_own_earlier_value() -> None:
    found = environment([literal("A", "one"), literal("A", "$(A)+two"), literal("A", "$(A)+three")])
    assert text_of(found, "A") == "one+two+three"


def test_references_reach_what_env_from_brings() -> None:
    objects = Objects(creds={"PASSWORD": "pw"})
    found = environment(
        [literal("URL", "http://$(DB_PASSWORD)@x")], [all_of("Secret", "creds", "DB_")], objects
    )
    assert text_of(found, "URL") == "http://pw@x"


def test_what_comes_out_of_an_object_is_not_expanded() -> None:
    objects = Objects(creds={"pw": "a$(A)$$b"})
    found = environment([literal("A", "one"), from_secret("P", "creds", "pw")], objects=objects)
    assert text_of(found, "P") == "a$(A)$$b"


@pytest.mark.parametrize(
    ("env", "expected"),
    [
        ([literal("X", "1"), literal("X", "2")], "2"),
        ([literal("X", "1"), literal("X", "")], ""),
        ([literal("X", "1"), {"name": "X"}], ""),
        ([literal("X", "1"), from_secret("X", "creds", "pw")], "secret"),
        ([from_secret("X", "creds", "pw"), literal("X", "1")], "1"),
        ([literal("X", "1"), from_map("X", "settings", "size")], "3"),
        # Optional and not there: what stood before stays.
        ([literal("X", "1"), from_secret("X", "creds", "no", optional=True)], "1"),
        ([literal("X", "1"), from_secret("X", "no", "pw", optional=True)], "1"),
        ([literal("X", "1"), from_map("X", "no", "pw", optional=True)], "1"),
        ([from_secret("X", "no", "pw", optional=True)], "all"),
        ([from_secret("X", "creds", "pw", optional=True)], "secret"),
        ([], "all"),
    ],
)
def test_the_later_entry_wins(env: list[Entry], expected: str) -> None:
    objects = Objects(creds={"pw": "secret"}, settings={"size": "3"}, every={"X": "all"})
    assert text_of(environment(env, [all_of("ConfigMap", "every")], objects), "X") == expected


@pytest.mark.parametrize(
    ("env_from", "expected"),
    [
        ([all_of("Secret", "one"), all_of("ConfigMap", "two")], "2"),
        ([all_of("ConfigMap", "two"), all_of("Secret", "one")], "1"),
        ([all_of("Secret", "one"), all_of("ConfigMap", "without")], "1"),
        ([all_of("Secret", "one"), all_of("ConfigMap", "no", optional=True)], "1"),
        ([all_of("Secret", "one", "OTHER_")], None),
        ([all_of("Secret", "cut", "DB_"), all_of("Secret", "one", "X_")], "3"),
        ([], None),
    ],
)
def test_of_several_objects_the_later_one_wins(env_from: list[Entry], expected: str | None) -> None:
    objects = Objects(one={"DB_X": "1"}, two={"DB_X": "2"}, cut={"X": "3"}, without={"Y": "4"})
    assert text_of(environment([], env_from, objects), "DB_X") == expected


def test_only_objects_that_can_hold_the_variable_are_read() -> None:
    objects = Objects(creds={"pw": "secret"}, late={"A": "1"}, early={"P": "0"})
    found = environment(
        [
            from_secret("OTHER", "unrelated", "key"),
            from_secret("P", "overwritten", "pw"),
            from_secret("P", "creds", "pw"),
        ],
        [all_of("ConfigMap", "early"), all_of("Secret", "unrelated", "OTHER_")],
        objects,
    )
    assert text_of(found, "P") == "secret"
    assert objects.read == ["Secret/creds"]
    assert text_of(found, "UNKNOWN") is None
    assert objects.read == ["Secret/creds", "ConfigMap/early"]


def test_presence_and_literals_read_nothing() -> None:
    objects = Objects()
    found = environment(
        [from_secret("COOKIE", "creds", "cookie"), literal("FLAGS", "-setcookie x")],
        objects=objects,
    )
    assert found.mentions("COOKIE", "OTHER")
    assert not found.mentions("OTHER")
    assert found.literal("FLAGS") == "-setcookie x"
    assert found.literal("COOKIE") is None  # by reference: it may be anything
    assert found.literal("OTHER") == ""
    assert environment([], [all_of("Secret", "creds")], objects).mentions("COOKIE")
    assert objects.read == []


def test_fields_of_the_pod() -> None:
    fields = {"metadata.namespace": "db"}
    env = [from_field("NS", "metadata.namespace"), from_field("IP", "status.podIP")]
    found = environment([*env, literal("HOST", "x.$(NS)")], fields=fields)
    assert text_of(found, "NS") == "db"
    assert text_of(found, "HOST") == "x.db"
    with pytest.raises(UsageProblem, match=r"IP of container couchdb .*status\.podIP"):
        found.get("IP")


@pytest.mark.parametrize(
    ("entry", "told"),
    [
        (from_secret("X", "creds", "no"), "Secret creds has no key 'no', from which X of"),
        (from_map("X", "creds", "no"), "ConfigMap creds has no key 'no'"),
        ({"name": "X", "valueFrom": {"resourceFieldRef": {"resource": "limits.cpu"}}}, "resource"),
        ({"name": "X", "valueFrom": {"fileKeyRef": {"key": "x"}}}, "fileKeyRef"),
        ({"name": "X", "valueFrom": {}}, "nothing"),
    ],
)
def test_what_can_never_be_resolved(entry: Entry, told: str) -> None:
    found = environment([entry], objects=Objects(creds={"pw": "hunter2"}))
    with pytest.raises(UsageProblem, match=re.escape(told)) as caught:
        found.get("X")
    assert "hunter2" not in str(caught.value)


@pytest.mark.parametrize(
    "found",
    [
        environment([from_secret("X", "no", "key")]),
        environment([from_map("X", "no", "key")]),
        environment([], [all_of("Secret", "no")]),
        environment([literal("X", "$(Y)")], [all_of("ConfigMap", "no")]),
    ],
)
def test_an_object_that_is_not_there_may_still_come(found: ContainerEnvironment) -> None:
    with pytest.raises(Missing, match="no does not exist"):
        found.get("X")


def test_a_value_says_where_it_is_from_and_is_not_shown() -> None:
    objects = Objects(creds={"pw": "hunter2"})
    value = environment([from_secret("P", "creds", "pw")], objects=objects).get("P")
    assert value is not None
    assert value.source == "P of container couchdb, Secret creds"
    assert "hunter2" not in repr(value)


@pytest.mark.parametrize(
    "container",
    [{}, {"env": None, "envFrom": None}, {"env": "x", "envFrom": {}}, {"env": [None, 1, "x", {}]}],
)
def test_odd_containers_have_no_environment(container: dict[str, Any]) -> None:
    assert ContainerEnvironment(container, Objects(), {}).get("X") is None


@given(st.dictionaries(st.text(min_size=1, max_size=8), st.text(max_size=20), max_size=5))
def test_a_secret_comes_out_as_it_went_in(data: dict[str, str]) -> None:
    encoded = {key: base64.b64encode(text.encode()).decode() for key, text in data.items()}
    assert decode_data("Secret", "x", {"data": encoded}) == data
    assert decode_data("ConfigMap", "x", {"data": data}) == data


@pytest.mark.parametrize("obj", [{}, {"data": None}, {"data": {}}])
@pytest.mark.parametrize("kind", ["Secret", "ConfigMap"])
def test_an_object_without_data(kind: str, obj: dict[str, Any]) -> None:
    assert decode_data(kind, "x", obj) == {}


def test_unreadable_keys_of_a_secret_are_left_out() -> None:
    data = {"good": "cHc=", "binary": "/////w==", "broken": "!!", "newline": "cHcK"}
    assert decode_data("Secret", "x", {"data": data}) == {"good": "pw", "newline": "pw\n"}


def test_data_that_is_no_object() -> None:
    with pytest.raises(UsageProblem, match="Secret x has no usable data"):
        decode_data("Secret", "x", {"data": ["a"]})
