"""What an API server would refuse of an object's shape, and the nulls that it drops."""

from typing import Any

import pytest

from couchdiscover.sandbox.shapes import ShapeError, check, without_nulls

CONTAINER = {
    "name": "couchdb",
    "image": "couchdb:3.5.2",
    "command": ["sh"],
    "env": [
        {"name": "A", "value": "b"},
        {"name": "C", "valueFrom": {"resourceFieldRef": {"resource": "limits.cpu"}}},
    ],
    "ports": [{"containerPort": 5984}],
    "resources": {"limits": {"cpu": 1}},
}


def statefulset(**container: Any) -> dict[str, Any]:
    pod = {"containers": [{**CONTAINER, **container}]}
    return {"kind": "StatefulSet", "metadata": {"name": "c"}, "spec": {"template": {"spec": pod}}}


@pytest.mark.parametrize(
    ("changed", "told"),
    [
        ({"command": "sh -c x"}, "containers[0].command is no list"),
        ({"args": [3]}, "containers[0].args[0] is no text; put it in quotes"),
        ({"env": [None]}, "containers[0].env[0] is no mapping"),
        ({"env": {"A": "b"}}, "containers[0].env is no list"),
        ({"ports": [{"containerPort": "5984"}]}, "ports[0].containerPort is no number"),
        ({"ports": [{"containerPort": True}]}, "ports[0].containerPort is no number"),
        ({"volumeMounts": [{"readOnly": "yes"}]}, "volumeMounts[0].readOnly is no true or false"),
        ({"readinessProbe": {"httpGet": "/_up"}}, "readinessProbe.httpGet is no mapping"),
        ({"lifecycle": {"postStart": {"exec": {3: "x"}}}}, "a key in"),
    ],
)
def test_what_has_another_shape_is_told_by_its_path(changed: dict[str, Any], told: str) -> None:
    check(statefulset())
    with pytest.raises(ShapeError) as caught:
        check(statefulset(**changed))
    assert told in str(caught.value)


def test_services_and_what_is_not_looked_at() -> None:
    service = {"kind": "Service", "metadata": {}, "spec": {"selector": {"app": "c"}}}
    check(service)
    check({**service, "spec": {"ports": [{"port": 1, "targetPort": name} for name in (1, "a")]}})
    with pytest.raises(ShapeError, match=r"spec.selector.app is no text"):
        check({**service, "spec": {"selector": {"app": 3}}})
    with pytest.raises(ShapeError, match="spec is no mapping"):
        check({"kind": "ConfigMap", "metadata": {}, "spec": []})
    check({"kind": "ConfigMap", "metadata": {"finalizers": 3}})


def test_nulls_are_as_if_they_were_not_there() -> None:
    given = {"a": None, "b": [{"c": None, "d": 1}], "e": {"f": None}}
    assert without_nulls(given) == {"b": [{"d": 1}], "e": {}}
