"""What the kubelet gives to a container: its environment, and the files mounted into it.

Facts from the Kubernetes documentation ("Define Environment Variables for a Container", "Define
Dependent Environment Variables", "Accessing the Service", "Volumes") and the kubelet's sources
(pkg/kubelet/kubelet_pods.go): ``envFrom`` first, then ``env`` in order, of two entries of one name
the later one wins; ``$(NAME)`` is replaced where NAME stands earlier, ``$$(NAME)`` is not; what is
optional and missing leaves what stood before; variables of Services never replace one that is set.
"""

import base64
import fnmatch
import posixpath
import re
import shlex
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from couchdiscover.sandbox.controllers import is_headless
from couchdiscover.sandbox.reading import Manifests, mapping, mappings

Object = dict[str, Any]

_REFERENCE = re.compile(r"\$\$|\$\(([^)]*)\)")
_KEYED = re.compile(r"metadata\.(labels|annotations)\['([^']+)'\]")
_HARMLESS = frozenset({"cp", "ls", "mkdir", "chmod", "chown", "true", "sleep", "echo", "cat"})
_SHELL = re.compile(r"[$`|<>(){}*?\[\]]|\b(if|for|while|case|function)\b")


class NotStartedError(Exception):
    """The kubelet cannot start a container. The text says why, and names what is missing."""


@dataclass(slots=True)
class Volume:
    """A volume's files by path. ``unknown`` says why they are not all known, in words."""

    files: dict[str, str] = field(default_factory=dict, repr=False)
    read_only: bool = False
    unknown: str = ""


@dataclass(frozen=True, slots=True)
class Mount:
    """What is mounted at a path: a file, or a folder's files by their paths below it."""

    path: str
    files: Mapping[str, str] = field(repr=False)
    is_file: bool
    read_only: bool
    unknown: str


def environment(
    container: Mapping[str, Any], pod: Mapping[str, Any], manifests: Manifests
) -> dict[str, str]:
    """A container's variables. Raises NotStartedError where a reference leads nowhere."""
    namespace = pod["metadata"]["namespace"]
    services = _service_variables(pod, manifests)
    found: dict[str, str] = {}
    for entry in mappings(container.get("envFrom")):
        prefix = str(entry.get("prefix") or "")
        for kind, member in (("ConfigMap", "configMapRef"), ("Secret", "secretRef")):
            reference = mapping(entry.get(member))
            if reference:
                data = _data(kind, namespace, reference, manifests) or {}
                found |= {f"{prefix}{key}": value for key, value in data.items()}
    for entry in mappings(container.get("env")):
        value = _value(entry, pod, manifests, {**services, **found})
        if value is not None:
            found[str(entry["name"])] = value
    return {**services, **found}


def expand(text: str, variables: Mapping[str, str]) -> str:
    """Replaces ``$(NAME)``, as in values, commands and arguments."""

    def replace(match: re.Match[str]) -> str:
        name = match.group(1)
        return "$" if name is None else variables.get(name, match.group(0))

    return _REFERENCE.sub(replace, text)


def _value(
    entry: Mapping[str, Any],
    pod: Mapping[str, Any],
    manifests: Manifests,
    before: Mapping[str, str],
) -> str | None:
    if entry.get("value"):
        return expand(str(entry["value"]), before)
    source = mapping(entry.get("valueFrom"))
    namespace = pod["metadata"]["namespace"]
    for kind, member in (("Secret", "secretKeyRef"), ("ConfigMap", "configMapKeyRef")):
        reference = mapping(source.get(member))
        if reference:
            data = _data(kind, namespace, reference, manifests)
            key = str(reference.get("key"))
            if data is not None and key in data:
                return data[key]
            if reference.get("optional") is True:
                return None
            raise NotStartedError(f"{kind} {reference.get('name')} has no key {key!r}")
    if "fieldRef" in source:
        path = str(mapping(source["fieldRef"]).get("fieldPath"))
        value = pod_field(pod, path)
        if value is None:
            raise NotStartedError(f"{entry['name']} is taken from {path}, which no pod has")
        return value
    if source:
        return "1"  # a resource's limit, say: of no matter to CouchDB
    return ""


def _data(
    kind: str, namespace: str, reference: Mapping[str, Any], manifests: Manifests
) -> dict[str, str] | None:
    """An object's data; None where it is optional and not there."""
    name = str(reference.get("name"))
    found = manifests.get(kind, namespace, name)
    if found is not None:
        return texts(found)
    if reference.get("optional") is True:
        return None
    raise NotStartedError(f"{kind} {name} is not there in namespace {namespace}")


def texts(obj: Mapping[str, Any]) -> dict[str, str]:
    """What a Secret or ConfigMap holds, as text; binary values are left out."""
    found = {}
    for key, value in mapping(obj.get("data")).items():
        try:
            text = value or ""
            found[key] = base64.b64decode(text).decode() if obj["kind"] == "Secret" else text
        except UnicodeDecodeError:
            continue
    return found


def pod_field(pod: Mapping[str, Any], path: str) -> str | None:
    """A field of a pod by the paths that ``fieldRef`` takes; None for any other."""
    metadata, spec, status = pod["metadata"], pod["spec"], pod.get("status", {})
    if (keyed := _KEYED.fullmatch(path)) is not None:
        return str(mapping(metadata.get(keyed[1])).get(keyed[2], ""))
    fields = {
        "metadata.name": metadata["name"],
        "metadata.namespace": metadata["namespace"],
        "metadata.uid": metadata["uid"],
        "spec.nodeName": spec.get("nodeName", ""),
        "spec.serviceAccountName": spec.get("serviceAccountName", "default"),
        "status.hostIP": status.get("hostIP", ""),
        "status.hostIPs": status.get("hostIP", ""),
        "status.podIP": status.get("podIP", ""),
        "status.podIPs": status.get("podIP", ""),
    }
    found = fields.get(path)
    return None if found is None else str(found)


def _service_variables(pod: Mapping[str, Any], manifests: Manifests) -> dict[str, str]:
    if pod["spec"].get("enableServiceLinks") is False:
        return {}
    found: dict[str, str] = {}
    for service in manifests.find("Service", pod["metadata"]["namespace"]):
        spec = mapping(service.get("spec"))
        ports = mappings(spec.get("ports"))
        address = spec.get("clusterIP")
        if is_headless(service) or not address or not ports:
            continue
        name = service["metadata"]["name"].upper().replace("-", "_")
        number = ports[0].get("port")
        protocol = str(ports[0].get("protocol") or "TCP").lower()
        found |= {
            f"{name}_SERVICE_HOST": str(address),
            f"{name}_SERVICE_PORT": str(number),
            f"{name}_PORT": f"{protocol}://{address}:{number}",
        }
    return found


# --- files ---


def volumes(pod: Mapping[str, Any], manifests: Manifests) -> dict[str, Volume]:
    """A pod's volumes by name. Raises NotStartedError where an object is missing."""
    spec = pod["spec"]
    found = {
        str(entry.get("name")): _volume(entry, pod, manifests)
        for entry in mappings(spec.get("volumes"))
    }
    for claim in mappings(spec.get("volumeClaims")):
        found[str(claim.get("name"))] = Volume()
    return found


def _volume(entry: Mapping[str, Any], pod: Mapping[str, Any], manifests: Manifests) -> Volume:
    if "emptyDir" in entry:
        return Volume()
    if "projected" in entry:
        whole = Volume(read_only=True)
        for source in mappings(mapping(entry["projected"]).get("sources")):
            whole.files |= _projection(source, pod, manifests)
        return whole
    for member in ("configMap", "secret", "downwardAPI"):
        if member in entry:
            return Volume(_projection(entry, pod, manifests), read_only=True)
    if "persistentVolumeClaim" in entry:
        return Volume(unknown="a volume of its own")
    kind = next((key for key in entry if key != "name"), "nothing")
    return Volume(unknown=f"a volume of kind {kind}")


def _projection(
    source: Mapping[str, Any], pod: Mapping[str, Any], manifests: Manifests
) -> dict[str, str]:
    namespace = pod["metadata"]["namespace"]
    for kind, member in (("ConfigMap", "configMap"), ("Secret", "secret")):
        if member not in source:
            continue
        reference = dict(mapping(source[member]))
        reference["name"] = reference.get("secretName") or reference.get("name")
        if reference["name"] == "kube-root-ca.crt":  # made by Kubernetes in each namespace
            return {}
        data = _data(kind, namespace, reference, manifests)
        if data is None:
            return {}
        items = mappings(reference.get("items"))
        if not items:
            return data
        found = {}
        for item in items:
            key = str(item.get("key"))
            if key in data:
                found[posixpath.normpath(str(item.get("path")))] = data[key]
            elif reference.get("optional") is not True:
                raise NotStartedError(f"{kind} {reference['name']} has no key {key!r}")
        return found
    found = {}
    for item in mappings(mapping(source.get("downwardAPI")).get("items")):
        path = str(mapping(item.get("fieldRef")).get("fieldPath"))
        found[str(item.get("path"))] = pod_field(pod, path) or ""
    return found


def mounts(
    container: Mapping[str, Any], filled: Mapping[str, Volume], variables: Mapping[str, str]
) -> list[Mount]:
    """What is mounted into a container, the outer paths first."""
    found = []
    for entry in mappings(container.get("volumeMounts")):
        volume = filled.get(str(entry.get("name")), Volume(unknown="a volume that is not there"))
        path = posixpath.normpath(str(entry.get("mountPath")))
        below = str(entry.get("subPath") or expand(str(entry.get("subPathExpr") or ""), variables))
        below = posixpath.normpath(below) if below else ""
        read_only = volume.read_only or entry.get("readOnly") is True
        if below in volume.files:
            files, is_file = {"": volume.files[below]}, True
        else:
            prefix = f"{below}/" if below else ""
            files = {
                name.removeprefix(prefix): text
                for name, text in volume.files.items()
                if name.startswith(prefix)
            }
            is_file = False
        found.append(Mount(path, files, is_file, read_only, volume.unknown))
    return sorted(found, key=lambda mount: mount.path.count("/"))


def mounted_file(mounted: Sequence[Mount], path: str) -> str | None:
    """What a mounted file holds."""
    for mount in mounted:
        if mount.is_file and path == mount.path:
            return mount.files[""]
        inside = path.removeprefix(f"{mount.path}/")
        if inside != path and inside in mount.files:
            return mount.files[inside]
    return None


def run_copies(
    container: Mapping[str, Any], filled: Mapping[str, Volume], variables: Mapping[str, str]
) -> bool:
    """Plays an initContainer that only copies files between volumes, as the official chart's does.

    False where it does anything else: then nothing is played, and what it writes is unknown.
    """
    words = [
        expand(str(word), variables)
        for part in ("command", "args")
        for word in container.get(part) or ()
    ]
    if words[:2] in (["sh", "-c"], ["/bin/sh", "-c"], ["bash", "-c"], ["/bin/bash", "-c"]):
        script = " ".join(words[2:3])
        if _SHELL.search(script.replace("*", "")):
            return False
        lines = [line for line in re.split(r";|&&|\n", script) if line.strip()]
    else:
        lines = [shlex.join(words)] if words else []
    try:
        commands = [shlex.split(line, comments=True) for line in lines]
    except ValueError:
        return False
    commands = [command for command in commands if command]
    if not commands or any(posixpath.basename(c[0]) not in _HARMLESS for c in commands):
        return False
    places = {
        posixpath.normpath(str(entry.get("mountPath"))): filled[str(entry.get("name"))]
        for entry in mappings(container.get("volumeMounts"))
        if str(entry.get("name")) in filled and not entry.get("subPath")
    }
    for command in commands:
        if posixpath.basename(command[0]) == "cp":
            _copy([word for word in command[1:] if not word.startswith("-")], places)
    return True


def _copy(paths: Sequence[str], places: Mapping[str, Volume]) -> None:
    if len(paths) < 2:
        return
    *sources, target = paths
    inside = _locate(target, places)
    if inside is None or inside[0].read_only:
        return
    volume, below = inside
    copied = [file for source in sources for file in _sources(source, places)]
    is_folder = not below or target.endswith("/") or len(copied) > 1 or "." not in below
    for name, text in copied:
        path = posixpath.join(below, name) if is_folder else below
        volume.files[posixpath.normpath(path)] = text


def _sources(pattern: str, places: Mapping[str, Volume]) -> Iterator[tuple[str, str]]:
    inside = _locate(pattern, places)
    if inside is None:
        return
    volume, below = inside
    for path, text in volume.files.items():
        if fnmatch.fnmatchcase(path, below):
            yield posixpath.basename(path), text
        elif not below or path.startswith(f"{below}/"):  # a folder
            yield path.removeprefix(f"{below}/"), text


def _locate(path: str, places: Mapping[str, Volume]) -> tuple[Volume, str] | None:
    path = posixpath.normpath(path)
    for place in sorted(places, key=len, reverse=True):
        if path == place or path.startswith(f"{place}/"):
            return places[place], path.removeprefix(place).lstrip("/")
    return None
