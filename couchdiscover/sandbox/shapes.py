"""What the objects of a manifest are made of, as far as a rehearsal makes use of it.

By the API reference of Kubernetes 1.36. An API server refuses what has another shape, and drops
nulls; so does this, and never quotes a value.
"""

from typing import Any

Shape = Any
"""A type, a list of one shape, or an object's shapes by key; keys that are not named may be
anything."""


class ShapeError(Exception):
    """Something is of another shape. The text is the path to it, and what it should be."""


_NAMES: Shape = {"*": str}
_ANY_KEY: Shape = {"name": str, "key": str, "optional": bool}
_SOURCE: Shape = {
    "name": str,
    "secretName": str,
    "optional": bool,
    "items": [{"key": str, "path": str, "fieldRef": {"fieldPath": str}}],
}
_CONTAINER: Shape = {
    "name": str,
    "image": str,
    "command": [str],
    "args": [str],
    "env": [
        {
            "name": str,
            "value": str,
            "valueFrom": {
                "secretKeyRef": _ANY_KEY,
                "configMapKeyRef": _ANY_KEY,
                "fieldRef": {"fieldPath": str},
                "*": dict,
            },
        }
    ],
    "envFrom": [{"prefix": str, "secretRef": _ANY_KEY, "configMapRef": _ANY_KEY}],
    "ports": [{"name": str, "containerPort": int, "protocol": str}],
    "volumeMounts": [
        {"name": str, "mountPath": str, "subPath": str, "subPathExpr": str, "readOnly": bool}
    ],
    "readinessProbe": {
        "httpGet": {"path": str, "httpHeaders": [{"name": str, "value": str}]},
        "tcpSocket": dict,
        "exec": {"command": [str]},
    },
    "lifecycle": {"postStart": {"exec": {"command": [str]}}},
    "restartPolicy": str,
}
_POD: Shape = {
    "containers": [_CONTAINER],
    "initContainers": [_CONTAINER],
    "volumes": [
        {
            "name": str,
            "configMap": _SOURCE,
            "secret": _SOURCE,
            "downwardAPI": _SOURCE,
            "projected": {
                "sources": [{"configMap": _SOURCE, "secret": _SOURCE, "downwardAPI": _SOURCE}]
            },
        }
    ],
    "serviceAccountName": str,
    "hostNetwork": bool,
    "enableServiceLinks": bool,
}
_TEMPLATE: Shape = {"metadata": {"labels": _NAMES, "annotations": _NAMES}, "spec": _POD}
_JOB: Shape = {"template": _TEMPLATE}
_METADATA: Shape = {"name": str, "namespace": str, "labels": _NAMES, "annotations": _NAMES}

SHAPES: dict[str, Shape] = {
    "StatefulSet": {
        "replicas": int,
        "serviceName": str,
        "podManagementPolicy": str,
        "ordinals": {"start": int},
        "selector": {"matchLabels": _NAMES},
        "template": _TEMPLATE,
        "volumeClaimTemplates": [{"metadata": {"name": str}}],
        "updateStrategy": {"type": str, "rollingUpdate": {"partition": int}},
    },
    "Service": {
        "type": str,
        "clusterIP": str,
        "clusterIPs": [str],
        "ipFamilies": [str],
        "publishNotReadyAddresses": bool,
        "selector": _NAMES,
        "ports": [{"name": str, "port": int, "targetPort": (int, str), "protocol": str}],
    },
    "Job": _JOB,
    "CronJob": {"jobTemplate": {"spec": _JOB}},
}
"""Of each kind's ``spec``."""


def without_nulls(value: Any) -> Any:
    """A copy without what is null, which is as if it were not there."""
    if isinstance(value, dict):
        return {key: without_nulls(each) for key, each in value.items() if each is not None}
    return [without_nulls(each) for each in value] if isinstance(value, list) else value


def check(obj: dict[str, Any]) -> None:
    """Raises ShapeError where some part of an object is none."""
    _check(obj.get("metadata", {}), _METADATA, "metadata")
    _check(obj.get("spec", {}), SHAPES.get(obj["kind"], dict), "spec")


def _check(value: Any, shape: Shape, path: str) -> None:
    if isinstance(shape, dict):
        if not isinstance(value, dict):
            raise ShapeError(f"{path} is no mapping")
        for key, each in value.items():
            if not isinstance(key, str):
                raise ShapeError(f"a key in {path} is no text; put it in quotes")
            wanted = shape.get(key, shape.get("*"))
            if wanted is not None:
                _check(each, wanted, f"{path}.{key}")
    elif isinstance(shape, list):
        if not isinstance(value, list):
            raise ShapeError(f"{path} is no list")
        for number, each in enumerate(value):
            _check(each, shape[0], f"{path}[{number}]")
    else:
        kinds = shape if isinstance(shape, tuple) else (shape,)
        if not isinstance(value, kinds) or (isinstance(value, bool) and bool not in kinds):
            raise ShapeError(f"{path} is no {_WORDS[kinds[0]]}")


_WORDS = {
    str: "text; put it in quotes",
    int: "number",
    bool: "true or false",
    dict: "mapping",
}
