"""Kubernetes' own schemas, cut down to what the program reads: hypothesis draws objects from them.

Whole, a StatefulSet's schema has some thousand properties, of which the program reads thirty; a
drawn object would hold anything but those. The shape and the types are Kubernetes', the names that
matter are ours, or no draw would ever meet them.
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import hypothesis.strategies as st
import kubernetes_validate

VERSION = "1.36.0"

Cut = Mapping[str, Any] | st.SearchStrategy[str]

NAMES = st.sampled_from(["couchdb", "couchdb-0", "couchdb-1", "couchdb-admin", "other", ""])
KEYS = st.sampled_from(["user", "password", "COUCHDB_USER", "COUCHDB_PASSWORD", "x"])
VARIABLES = st.sampled_from(
    ["COUCHDB_USER", "COUCHDB_PASSWORD", "COUCHDB_CLUSTER_SIZE", "COUCHDB_SECRET", "X"]
)
VALUES = st.sampled_from(["admin", "3", "$(X)", "$(COUCHDB_USER)", ""])
ENCODED = st.sampled_from(["YWRtaW4=", "/w==", "no base64", ""])
HOSTS = st.sampled_from(["10.0.0.1", "10.0.0.2", "::1", "couchdb-0", ""])
PATHS = st.sampled_from(["metadata.name", "metadata.namespace", "status.podIP", "spec.nodeName"])

ANY: Cut = {}
"""A property as it stands in the schema."""

REFERENCE = {"name": NAMES, "key": KEYS, "optional": ANY}
CONTAINER = {
    "name": st.sampled_from(["couchdb", "couchdb", "sidecar", ""]),
    "restartPolicy": ANY,
    "ports": {"name": NAMES, "containerPort": ANY},
    "env": {
        "name": VARIABLES,
        "value": VALUES,
        "valueFrom": {
            "secretKeyRef": REFERENCE,
            "configMapKeyRef": REFERENCE,
            "fieldRef": {"fieldPath": PATHS},
        },
    },
    "envFrom": {
        "prefix": VALUES,
        "secretRef": {"name": NAMES, "optional": ANY},
        "configMapRef": {"name": NAMES, "optional": ANY},
    },
}
ADDRESS = {"ip": HOSTS, "hostname": NAMES, "targetRef": {"kind": ANY, "name": NAMES}}

READ: Mapping[str, Cut] = {
    "apps.v1.StatefulSet": {
        "metadata": {"name": NAMES},
        "spec": {
            "replicas": ANY,
            "serviceName": NAMES,
            "ordinals": {"start": ANY},
            "template": {"spec": {"containers": CONTAINER, "initContainers": CONTAINER}},
        },
    },
    "discovery.v1.EndpointSliceList": {
        "items": {
            "addressType": ANY,
            "ports": {"name": NAMES, "port": ANY},
            "endpoints": {
                "addresses": HOSTS,
                "hostname": NAMES,
                "targetRef": {"kind": ANY, "name": NAMES},
                "conditions": {"ready": ANY, "serving": ANY, "terminating": ANY},
            },
        }
    },
    "core.v1.Endpoints": {
        "subsets": {
            "addresses": ADDRESS,
            "notReadyAddresses": ADDRESS,
            "ports": {"name": NAMES, "port": ANY},
        }
    },
    "core.v1.Secret": {"metadata": {"name": NAMES}, "data": ENCODED},
}


def objects(name: str) -> st.SearchStrategy[Any]:
    """Objects of a kind, as ``apps.v1.StatefulSet``.

    Raises KeyError for a property that Kubernetes does not have: it would be misspelt above.
    """
    return _of_type("object", DEFINITIONS[f"io.k8s.api.{name}"], READ[name])


def _definitions() -> dict[str, Any]:
    folder = Path(kubernetes_validate.__file__).parent / "kubernetes-json-schema"
    text = (folder / f"v{VERSION}-local" / "_definitions.json").read_text()
    found: dict[str, Any] = json.loads(text)["$defs"]
    return found


DEFINITIONS = _definitions()


def _drawn(part: Mapping[str, Any], cut: Cut) -> st.SearchStrategy[Any]:
    if "$ref" in part:
        part = DEFINITIONS[part["$ref"].removeprefix("#/$defs/")]
    types = [part["type"]] if isinstance(part["type"], str) else part["type"]
    drawn = st.one_of([_of_type(each, part, cut) for each in types if each != "null"])
    if "null" not in types:
        return drawn
    return st.integers(0, 9).flatmap(lambda die: drawn if die else st.none())


def _of_type(kind: str, part: Mapping[str, Any], cut: Cut) -> st.SearchStrategy[Any]:
    match kind:
        case "boolean":
            return st.booleans()
        case "integer":
            return st.integers(0, 5) | st.integers(-(2**31), 2**31 - 1)
        case "array":
            items = _drawn(part["items"], cut)
            return st.lists(items, min_size=1, max_size=3) | st.lists(items, max_size=1)
        case "object" if "additionalProperties" in part:
            return st.dictionaries(KEYS, _drawn(part["additionalProperties"], cut), max_size=3)
        case "object":
            assert isinstance(cut, Mapping)
            properties, required = part["properties"], part.get("required") or ()
            kept = {key: _drawn(properties[key], inner) for key, inner in cut.items()}
            deep = {key for key, inner in cut.items() if isinstance(inner, Mapping) and inner}
            return st.fixed_dictionaries(
                {key: drawn for key, drawn in kept.items() if key in deep or key in required},
                optional={k: drawn for k, drawn in kept.items() if k not in {*deep, *required}},
            )
        case "string":
            return cut if isinstance(cut, st.SearchStrategy) else st.text(max_size=10)
    raise ValueError(f"a schema of type {kind}")
