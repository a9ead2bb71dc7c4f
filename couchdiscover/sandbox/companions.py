"""couchdiscover's own containers in somebody's manifests, and how each runs it."""

import posixpath
import re
import shlex
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from couchdiscover.sandbox.reading import Manifests, mapping, mappings

Object = dict[str, Any]

Way = Literal["initContainer", "postStart", "container", "Job"]

_IMAGE = re.compile(r"(.*/)?couchdiscover(:.*|@.*)?")
_CALL = re.compile(r"(?:^|[\s;&|(/])couchdiscover(?=\s|$)([^;&|>\n]*)")
_COMMANDS = ("plan", "check", "adopt", "demo")


@dataclass(frozen=True, slots=True)
class Companion:
    """A container that runs couchdiscover. ``words`` are its arguments as they are written."""

    way: Way
    where: str
    container: Object = field(repr=False)
    words: tuple[str, ...]

    @property
    def in_pods(self) -> bool:
        """Whether each pod of the StatefulSet has one."""
        return self.way != "Job"


def is_own(container: Mapping[str, Any]) -> bool:
    """Whether a container runs couchdiscover, or is there to bring it along."""
    is_image = _IMAGE.fullmatch(str(container.get("image") or "")) is not None
    return is_image or _words(container) is not None


def in_template(statefulset: Mapping[str, Any]) -> list[Companion]:
    """The companions in a StatefulSet's template that bring its nodes in."""
    spec = mapping(mapping(mapping(statefulset.get("spec")).get("template")).get("spec"))
    found = []
    for container in mappings(spec.get("initContainers")):
        words = _words(container)
        if words is not None and _brings_in(words) and container.get("restartPolicy") != "Always":
            where = f"initContainer {container['name']}"
            found.append(Companion("initContainer", where, container, tuple(words)))
    for container in [*mappings(spec.get("containers")), *mappings(spec.get("initContainers"))]:
        hook = mapping(mapping(container.get("lifecycle")).get("postStart"))
        words = _called(mapping(hook.get("exec")).get("command") or [])
        if words is not None and _brings_in(words):
            where = f"postStart of container {container['name']}"
            found.append(Companion("postStart", where, container, tuple(words)))
    for container in mappings(spec.get("containers")):
        words = _words(container)
        if words is not None and _brings_in(words):
            where = f"container {container['name']}"
            found.append(Companion("container", where, container, tuple(words)))
    return found


def in_jobs(manifests: Manifests, namespace: str, statefulset: str) -> list[Companion]:
    """The Jobs, and CronJobs, of that namespace that run it for that StatefulSet."""
    return [
        companion
        for companion in _jobs(manifests, namespace)
        if _target(companion) in (None, statefulset)
    ]


def _jobs(manifests: Manifests, namespace: str) -> Iterator[Companion]:
    for kind in ("Job", "CronJob"):
        for job in manifests.find(kind, namespace):
            spec = mapping(job.get("spec"))
            if kind == "CronJob":
                spec = mapping(mapping(spec.get("jobTemplate")).get("spec"))
            pod = mapping(mapping(spec.get("template")).get("spec"))
            for container in mappings(pod.get("containers")):
                words = _words(container)
                if words is not None and _brings_in(words):
                    where = f"{kind} {job['metadata']['name']}"
                    yield Companion("Job", where, container, tuple(words))


def _target(companion: Companion) -> str | None:
    """The StatefulSet that is named, as far as it is written down."""
    words = companion.words
    for at, word in enumerate(words):
        option, _, value = word.partition("=")
        if option in ("--statefulset", "-s"):
            return value or next(iter(words[at + 1 : at + 2]), None)
    for entry in mappings(companion.container.get("env")):
        if entry.get("name") == "COUCHDISCOVER_STATEFULSET":
            return str(entry.get("value") or "") or None
    return None


def _words(container: Mapping[str, Any]) -> list[str] | None:
    """The arguments with which a container calls couchdiscover; None where it does not."""
    command = [str(word) for word in container.get("command") or ()]
    arguments = [str(word) for word in container.get("args") or ()]
    if command:
        return _called([*command, *arguments])
    is_image = _IMAGE.fullmatch(str(container.get("image") or "")) is not None
    return arguments if is_image else None


def _called(words: Sequence[object]) -> list[str] | None:
    texts = [str(word) for word in words]
    for at, word in enumerate(texts):
        if posixpath.basename(word) == "couchdiscover":
            return texts[at + 1 :]
        if word == "-m" and texts[at + 1 : at + 2] == ["couchdiscover"]:
            return texts[at + 2 :]
    for text in texts:
        found = _CALL.search(text)
        if found is not None:
            try:
                return shlex.split(found[1])
            except ValueError:
                return found[1].split()
    return None


def _brings_in(words: Sequence[str]) -> bool:
    """Whether it is ``run``, or no command, which is the same."""
    return not words or words[0] == "run" or (words[0].startswith("-") and words[0] not in (
        "--version", "--help", "-h"
    ))  # fmt: skip
