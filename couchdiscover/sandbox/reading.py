"""Manifests: YAML as ``helm template`` and ``kubectl get -o yaml`` write it, and what it holds.

What an API server would refuse is refused here, in a sentence that names the file and the object
and never quotes it: a line of a manifest may be a password.
"""

import base64
import binascii
import difflib
import json
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from couchdiscover.sandbox.shapes import ShapeError, without_nulls
from couchdiscover.sandbox.shapes import check as check_shape

Object = dict[str, Any]

STANDARD_INPUT = "-"

PLAYED = {
    "StatefulSet": "apps/v1",
    "Service": "v1",
    "Secret": "v1",
    "ConfigMap": "v1",
}
"""The kinds that a rehearsal makes use of, and the version that serves each."""

WORKLOADS = {"Job": "batch/v1", "CronJob": "batch/v1"}
"""Of these only couchdiscover's own containers are of use."""

_KINDS = """
    APIService Binding CertificateSigningRequest ClusterRole ClusterRoleBinding ClusterTrustBundle
    ComponentStatus ConfigMap ControllerRevision CronJob CSIDriver CSINode CSIStorageCapacity
    CustomResourceDefinition DaemonSet Deployment DeviceClass Endpoints EndpointSlice Event
    FlowSchema HorizontalPodAutoscaler Ingress IngressClass IPAddress Job Lease LimitRange
    MutatingAdmissionPolicy MutatingAdmissionPolicyBinding MutatingWebhookConfiguration Namespace
    NetworkPolicy Node PersistentVolume PersistentVolumeClaim Pod PodDisruptionBudget
    PodSecurityPolicy PodTemplate PriorityClass PriorityLevelConfiguration ReplicaSet
    ReplicationController ResourceClaim ResourceClaimTemplate ResourceQuota ResourceSlice Role
    RoleBinding RuntimeClass Secret Service ServiceAccount ServiceCIDR StatefulSet StorageClass
    ValidatingAdmissionPolicy ValidatingAdmissionPolicyBinding ValidatingWebhookConfiguration
    VolumeAttachment VolumeAttributesClass
"""
"""Kinds of Kubernetes' own API groups (Kubernetes API reference, 1.36)."""
_BUILT_IN = frozenset(_KINDS.split())

_OF_A_CLUSTER = ("creationTimestamp", "generation", "managedFields", "resourceVersion", "uid")
"""What ``kubectl get`` brings along from the cluster where the object is."""


class ManifestError(Exception):
    """A manifest that cannot be used. The text is one whole sentence."""


@dataclass(slots=True)
class Manifests:
    """The objects by kind, namespace and name, and those that were set aside, in words."""

    objects: dict[tuple[str, str, str], Object] = field(default_factory=dict, repr=False)
    aside: list[str] = field(default_factory=list)

    def find(self, kind: str, namespace: str | None = None) -> list[Object]:
        """All objects of a kind, in the order they were given in; of all namespaces with None."""
        return [
            found
            for (of_kind, where, _), found in self.objects.items()
            if of_kind == kind and namespace in (None, where)
        ]

    def get(self, kind: str, namespace: str, name: str) -> Object | None:
        """One object, or None."""
        return self.objects.get((kind, namespace, name))


def read(files: Sequence[str], namespace: str = "default") -> Manifests:
    """Reads files, folders (their ``*.yaml``, ``*.yml`` and ``*.json``) and ``-``, standard input.

    ``namespace`` is that of objects which name none. Raises ManifestError.
    """
    found = Manifests()
    if files.count(STANDARD_INPUT) > 1:
        raise ManifestError("standard input (-) can be read once only")
    for name in _expand(files):
        shown = "standard input" if name == STANDARD_INPUT else name
        for number, document in enumerate(_documents(name, shown), 1):
            if document is not None:
                _add(found, document, f"{shown}, document {number}", namespace)
    return found


def _expand(files: Sequence[str]) -> Iterator[str]:
    for name in files:
        path = Path(name)
        if name == STANDARD_INPUT or not path.is_dir():
            yield name
            continue
        inside = [
            str(entry)
            for entry in sorted(path.iterdir())
            if entry.suffix in (".yaml", ".yml", ".json") and entry.is_file()
        ]
        if not inside:
            raise ManifestError(f"{name} is a folder without any .yaml, .yml or .json file")
        yield from inside


def _documents(name: str, shown: str) -> list[Any]:
    try:
        content = sys.stdin.buffer.read() if name == STANDARD_INPUT else Path(name).read_bytes()
    except OSError as error:
        raise ManifestError(f"{shown} cannot be read: {error.strerror or 'no such file'}") from None
    except ValueError:  # a name with a null byte
        raise ManifestError(f"{shown!r} is no name of a file") from None
    if content.lstrip()[:1] in (b"{", b"["):  # JSON may hold tabs, which YAML does not take
        try:
            return [json.loads(content)]
        except (ValueError, RecursionError):
            pass
    import yaml

    class Loader(yaml.SafeLoader):
        """Timestamps stay text, as they do on their way through kubectl."""

    Loader.yaml_implicit_resolvers = {
        first: [entry for entry in resolvers if entry[0] != "tag:yaml.org,2002:timestamp"]
        for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
    }
    try:
        return list(yaml.load_all(content, Loader))
    except yaml.YAMLError as error:
        # Not the error's own text: it quotes the file.
        mark = getattr(error, "problem_mark", None)
        where = f" (line {mark.line + 1}, column {mark.column + 1})" if mark is not None else ""
        raise ManifestError(f"{shown} is no YAML{where}") from None
    except (ValueError, TypeError, RecursionError):
        raise ManifestError(f"{shown} is no YAML") from None


def _add(found: Manifests, document: Any, where: str, namespace: str) -> None:
    if not isinstance(document, dict):
        raise ManifestError(f"{where} is no Kubernetes object")
    kind, version = document.get("kind"), document.get("apiVersion")
    if not isinstance(kind, str) or not isinstance(version, str):
        raise ManifestError(
            f"{where} is no Kubernetes object: it has no kind, or no apiVersion (is it a chart's "
            "values.yaml? give the output of `helm template`)"
        )
    items = document.get("items")
    if kind.endswith("List") and (items is None or isinstance(items, list)):
        for number, item in enumerate(items or (), 1):
            one = kind.removesuffix("List")
            if isinstance(item, dict) and one:
                item = {"kind": one, "apiVersion": version, **item}  # noqa: PLW2901
            _add(found, item, f"{where}, item {number}", namespace)
        return
    if version.startswith("kustomize.config.k8s.io/"):
        found.aside.append(f"a {kind} (what it changes is in the output of `kubectl kustomize`)")
        return
    metadata = document.get("metadata")
    name = metadata.get("name") if isinstance(metadata, dict) else None
    if not isinstance(metadata, dict) or not isinstance(name, str) or not name:
        if kind in _BUILT_IN and isinstance(metadata, dict) and "generateName" in metadata:
            found.aside.append(f"{kind} {metadata['generateName']}…")
            return
        raise ManifestError(f"{where} is a {kind} without metadata.name")
    wanted = (PLAYED | WORKLOADS).get(kind)
    group = version.rpartition("/")[0]
    if wanted is None or group not in ("", "apps", "batch", "extensions"):
        _check_kind(kind, group, where)
        found.aside.append(f"{kind} {name}")
        return
    if version != wanted:
        raise ManifestError(
            f"{where}: {kind} {name} is of {version}, which Kubernetes does not serve; {kind}s are "
            f"of {wanted}"
        )
    place = metadata.get("namespace") or namespace
    if not isinstance(place, str):
        raise ManifestError(f"{where}: the namespace of {kind} {name} is no text")
    kept = {key: value for key, value in metadata.items() if key not in _OF_A_CLUSTER}
    kept.pop("annotations", None) if kind == "Secret" else None  # they may repeat its data
    obj = {**document, "metadata": {**kept, "namespace": place}}
    obj.pop("status", None)
    check = {"StatefulSet": _check_set, "Secret": _decode, "ConfigMap": _check_texts}.get(kind)
    if check is not None:
        check(obj, f"{where}: {kind} {name}")
    found.objects[kind, place, name] = _of_its_shape(obj, f"{where}: {kind} {name}")


def _of_its_shape(document: Object, where: str) -> Object:
    """The object without nulls. Raises ManifestError where a part of it is of another shape."""
    found: Object = {key: without_nulls(value) for key, value in document.items()}
    if document["kind"] in ("Secret", "ConfigMap"):  # a key without a value is one all the same
        found |= {key: document[key] for key in ("data", "stringData") if key in document}
    try:
        check_shape(found)
    except ShapeError as error:
        raise ManifestError(f"{where}: {error}") from None
    return {key: value for key, value in found.items() if value is not None}


def _check_kind(kind: str, group: str, where: str) -> None:
    """Raises ManifestError for a kind that no API server knows, or that may be meant otherwise."""
    own = "." not in group or group.endswith(".k8s.io")
    if not own or kind in _BUILT_IN:
        return
    near = difflib.get_close_matches(kind, _BUILT_IN, 1)
    meant = f"; is {near[0]} meant?" if near else ""
    raise ManifestError(f"{where}: {kind} is no kind that Kubernetes knows{meant}")


def _check_set(obj: Object, where: str) -> None:
    spec = mapping(obj.get("spec"))
    replicas = spec.get("replicas", 1)
    if replicas is None:
        replicas = spec["replicas"] = 1
    if not isinstance(replicas, int) or isinstance(replicas, bool) or replicas < 0:
        raise ManifestError(f"{where}: spec.replicas is no number")
    template = mapping(spec.get("template"))
    pod = mapping(template.get("spec"))
    containers = pod.get("containers")
    if not isinstance(containers, list) or not containers:
        raise ManifestError(f"{where} has no containers (spec.template.spec.containers)")
    check_containers(pod, where)
    labels = mapping(mapping(template.get("metadata")).get("labels"))
    selector = mapping(mapping(spec.get("selector")).get("matchLabels"))
    if not mapping(spec.get("selector")) or not selector.items() <= labels.items():
        raise ManifestError(
            f"{where}: spec.selector does not match the labels of spec.template, which Kubernetes "
            "refuses"
        )


def check_containers(pod: Mapping[str, Any], where: str) -> None:
    """Raises ManifestError where a container, or a variable of its environment, is none."""
    for part in ("initContainers", "containers"):
        for container in pod.get(part) or ():
            if not isinstance(container, dict) or not isinstance(container.get("name"), str):
                raise ManifestError(f"{where} has a container without a name")
            for entry in container.get("env") or ():
                name = entry.get("name") if isinstance(entry, dict) else None
                if not isinstance(name, str):
                    raise ManifestError(
                        f"{where}: the environment of container {container['name']} has an entry "
                        "without a name"
                    )
                if not isinstance(entry.get("value"), str | None):
                    raise ManifestError(
                        f"{where}: the value of {name} in container {container['name']} is no "
                        "text; put it in quotes"
                    )


def _check_texts(obj: Object, where: str) -> None:
    for key, value in mapping(obj.get("data")).items():
        if not isinstance(value, str | None):
            raise ManifestError(f"{where}: the value of key {key} is no text; put it in quotes")


def _decode(obj: Object, where: str) -> None:
    """A Secret as the API server keeps it: ``stringData`` in ``data``, all of it base64."""
    data: dict[str, str] = {}
    for key, value in mapping(obj.get("data")).items():
        try:
            packed = (value or "").replace("\n", "").replace("\r", "")
            data[key] = base64.b64encode(base64.b64decode(packed, validate=True)).decode()
        except (binascii.Error, ValueError, AttributeError):
            raise ManifestError(
                f"{where}: the value of key {key} in data is no base64 (stringData takes it as it "
                "is)"
            ) from None
    for key, value in mapping(obj.pop("stringData", None)).items():
        if not isinstance(value, str | None):
            raise ManifestError(f"{where}: the value of key {key} is no text; put it in quotes")
        data[key] = base64.b64encode((value or "").encode(errors="surrogatepass")).decode()
    obj["data"] = data
    obj.setdefault("type", "Opaque")


def mapping(value: object) -> dict[str, Any]:
    """The mapping that stands there, or an empty one."""
    return value if isinstance(value, dict) else {}


def mappings(value: object) -> list[dict[str, Any]]:
    """The mappings in the list that stands there."""
    return [entry for entry in value if isinstance(entry, dict)] if isinstance(value, list) else []
