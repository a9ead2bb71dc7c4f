"""A container's environment, resolved as the kubelet resolves it, one variable at a time.

Facts from the Kubernetes documentation ("Define Environment Variables for a Container", "Define
Dependent Environment Variables") and the kubelet's source (pkg/kubelet/kubelet_pods.go): first
``envFrom``, then ``env`` on top; of two entries of the same name the later one wins; a reference
that is optional and not there leaves what stood before; ``$(NAME)`` is replaced where NAME stands
earlier, and ``$$(NAME)`` is not.
"""

import base64
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

from couchdiscover.errors import UsageProblem
from couchdiscover.kube.objects import as_dict, as_dicts

_REFERENCE = re.compile(r"\$\$|\$\(([^)]*)\)")


class Source(Protocol):
    """Where referenced objects come from. Raises NotYet or Denied as ``kube.Kube`` does."""

    def data(self, kind: str, name: str, *, optional: bool) -> Mapping[str, str] | None:
        """The data of a Secret or ConfigMap by its kind; None where it is optional and missing."""


def told_origin(entry: Mapping[str, Any]) -> str:
    """Where an entry of a container's ``env`` has its value from, in words; nothing is read."""
    name, reference = entry.get("name"), entry.get("valueFrom")
    for kind, member in (("Secret", "secretKeyRef"), ("ConfigMap", "configMapKeyRef")):
        if isinstance(reference, dict) and isinstance(ref := reference.get(member), dict):
            return f"{name} from {kind} {ref.get('name')}"
    return str(name)


def told_names(entry: Mapping[str, Any]) -> list[str]:
    """What an entry of a container's ``env`` is called: its name, and the object's with its key."""
    reference = entry.get("valueFrom")
    keys = as_dict(reference)
    origins = [as_dict(keys.get(each)) for each in ("secretKeyRef", "configMapKeyRef")]
    taken = [f"{origin.get('name')} {origin.get('key')}" for origin in origins if origin]
    return [str(entry.get("name")), *taken]


def told_sources(container: Mapping[str, Any]) -> list[str]:
    """The Secrets that a container takes all its keys from (``envFrom``), in words."""
    references = [entry.get("secretRef") for entry in as_dicts(container.get("envFrom"))]
    return [f"Secret {ref.get('name')}" for ref in references if isinstance(ref, dict)]


@dataclass(frozen=True, slots=True)
class Value:
    """A variable's value and the object that it came from, in words."""

    text: str = field(repr=False)
    source: str


class ContainerEnvironment:
    """The environment of one container of a pod template.

    Only objects that can hold a variable which is asked for are read. ``fields`` are the values of
    ``fieldRef`` paths that are known.
    """

    def __init__(
        self, container: Mapping[str, Any], source: Source, fields: Mapping[str, str]
    ) -> None:
        self._name = str(container.get("name"))
        self._env = as_dicts(container.get("env"))
        self._env_from = as_dicts(container.get("envFrom"))
        self._source = source
        self._fields = fields

    def mentions(self, *names: str) -> bool:
        """Whether an entry of such a name is there, or ``envFrom`` may bring one; reads nothing."""
        return bool(self._env_from) or any(entry.get("name") in names for entry in self._env)

    def entry(self, name: str) -> Mapping[str, Any] | None:
        """The entry of ``env`` that counts, where there is one; reads nothing."""
        return next((e for e in reversed(self._env) if e.get("name") == name), None)

    def literal(self, name: str) -> str | None:
        """The value as it is written down, None where it is by reference; reads nothing."""
        entry = self.entry(name)
        if entry is None:
            return ""
        value = entry.get("value")
        if value is None and "valueFrom" in entry:
            return None
        return None if _REFERENCE.search(str(value or "")) else str(value or "")

    def certainly_sets(self, name: str) -> bool | None:
        """Whether a pod cannot start without the variable; reads nothing.

        None where that depends on a Secret or a ConfigMap that is optional, or on ``envFrom``.
        """
        for entry in reversed(self._env):
            if entry.get("name") != name:
                continue
            reference = entry.get("valueFrom")
            if entry.get("value") or not isinstance(reference, dict):
                return bool(entry.get("value"))
            kinds = ("secretKeyRef", "configMapKeyRef")
            optional = (
                bool(ref.get("optional"))
                for k in kinds
                if isinstance(ref := reference.get(k), dict)
            )
            return None if any(optional) else True
        return None if self._env_from else False

    def get(self, name: str) -> Value | None:
        """The variable's value, or None where it is not set.

        Raises UsageProblem where it refers to something that can never be resolved.
        """
        return self._lookup(name, len(self._env))

    def _lookup(self, name: str, before: int) -> Value | None:
        for at in reversed(range(before)):
            entry = self._env[at]
            if entry.get("name") == name:
                found = self._entry(entry, at)
                if found is not None:
                    return found
        return self._from_objects(name)

    def _entry(self, entry: Mapping[str, Any], at: int) -> Value | None:
        where = f"{entry.get('name')} of container {self._name}"
        if entry.get("value"):
            return Value(self._expand(str(entry["value"]), at), where)
        reference = entry.get("valueFrom")
        if not isinstance(reference, dict):
            return Value("", where)
        if isinstance(ref := reference.get("secretKeyRef"), dict):
            return self._key("Secret", ref, where)
        if isinstance(ref := reference.get("configMapKeyRef"), dict):
            return self._key("ConfigMap", ref, where)
        if isinstance(ref := reference.get("fieldRef"), dict):
            path = str(ref.get("fieldPath"))
            if path in self._fields:
                return Value(self._fields[path], f"{where} ({path})")
            raise UsageProblem(
                f"{where} is the pod's field {path}, which differs from pod to pod and cannot be "
                "read here; give couchdiscover the value in its own environment"
            )
        kind = next(iter(reference), "nothing")
        raise UsageProblem(
            f"{where} comes from {kind}, which couchdiscover cannot read; give it the value in its "
            "own environment"
        )

    def _key(self, kind: str, ref: Mapping[str, Any], where: str) -> Value | None:
        name, key = str(ref.get("name")), str(ref.get("key"))
        optional = bool(ref.get("optional"))
        data = self._source.data(kind, name, optional=optional)
        if data is not None and key in data:
            return Value(data[key], f"{where}, {kind} {name}")
        if optional:
            return None
        raise UsageProblem(
            f"{kind} {name} has no key {key!r}, from which {where} is taken: add it, or name the "
            "key that it has"
        )

    def _from_objects(self, variable: str) -> Value | None:
        for entry in reversed(self._env_from):
            prefix = str(entry.get("prefix") or "")
            if not variable.startswith(prefix):
                continue
            key = variable[len(prefix) :]
            for kind, member in (("Secret", "secretRef"), ("ConfigMap", "configMapRef")):
                ref = entry.get(member)
                if not isinstance(ref, dict):
                    continue
                name = str(ref.get("name"))
                data = self._source.data(kind, name, optional=bool(ref.get("optional")))
                if data is not None and key in data:
                    return Value(data[key], f"envFrom of container {self._name}, {kind} {name}")
        return None

    def _expand(self, text: str, at: int) -> str:
        def replace(match: re.Match[str]) -> str:
            name = match.group(1)
            if name is None:
                return "$"
            found = self._lookup(name, at)
            return match.group(0) if found is None else found.text

        return _REFERENCE.sub(replace, text)


def decode_data(kind: str, name: str, obj: Mapping[str, Any]) -> dict[str, str]:
    """A Secret's (base64) or ConfigMap's data as text. Raises UsageProblem where it is none."""
    data = obj.get("data") or {}
    if not isinstance(data, dict):
        raise UsageProblem(f"{kind} {name} has no usable data")
    if kind != "Secret":
        return {str(key): str(value) for key, value in data.items()}
    decoded = {}
    for key, value in data.items():
        try:
            decoded[str(key)] = base64.b64decode(str(value), validate=True).decode()
        except ValueError:  # no base64, no ASCII even, or no UTF-8
            continue  # some other, binary key; one that is needed is then told as missing
    return decoded
