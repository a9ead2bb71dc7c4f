"""What is in examples/, read once: documents, pods, containers."""

import copy
import functools
import json
import re
import shlex
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).parents[2]
EXAMPLES = ROOT / "examples"
FOLDERS = sorted(path.name for path in EXAMPLES.iterdir() if path.is_dir())
STATEFULSETS = ["job", "initcontainer", "poststart", "restore"]
"""The folders that bring a CouchDB StatefulSet."""

NO_MANIFESTS = {"kustomization.yaml", "values.yaml", "workflow.yaml"}

Object = Mapping[str, Any]


@dataclass(frozen=True)
class Document:
    """One Kubernetes object of an example."""

    path: Path
    content: Object = field(repr=False)

    def __str__(self) -> str:
        name = self.content["metadata"]["name"]
        return f"{self.path.relative_to(EXAMPLES)}:{self.content['kind']}/{name}"

    @property
    def pod(self) -> Object | None:
        """The pod's template, where the object makes pods."""
        spec = self.content.get("spec", {})
        spec = spec.get("jobTemplate", {}).get("spec", spec)
        template: Object | None = spec.get("template")
        return template


def documents(folder: str = "") -> list[Document]:
    """All objects of one folder, or of all."""
    return [
        Document(path, content)
        for path in sorted((EXAMPLES / folder).rglob("*.yaml"))
        if path.name not in NO_MANIFESTS
        for content in copy.deepcopy(_parsed(path))
    ]


@functools.cache
def _parsed(path: Path) -> list[Object]:
    return list(yaml.safe_load_all(path.read_text()))


def find(folder: str, kind: str, name: str = "") -> Object:
    """The object of a kind in a folder."""
    (found,) = (
        document.content
        for document in documents(folder)
        if document.content["kind"] == kind and name in ("", document.content["metadata"]["name"])
    )
    return found


def containers(pod: Object) -> list[Object]:
    """The containers of a pod's template, initContainers included."""
    spec = pod["spec"]
    return [*spec.get("initContainers", []), *spec["containers"]]


def container(pod: Object, name: str) -> Object:
    """One of them."""
    (found,) = (each for each in containers(pod) if each["name"] == name)
    return found


def hook(of: Object) -> list[str]:
    """The command of a container's postStart hook, or nothing."""
    command: list[str] = (
        of.get("lifecycle", {}).get("postStart", {}).get("exec", {}).get("command", [])
    )
    return command


def command_lines() -> Iterator[tuple[str, list[str]]]:
    """Where couchdiscover is called in an example, and with which arguments."""
    for document in documents():
        for each in containers(document.pod) if document.pod else ():
            where = f"{document}/{each['name']}"
            if "/couchdiscover:" in each["image"]:
                yield where, each.get("args", [])
            for script in hook(each)[2:]:
                words = shlex.split(script.replace(">", " >"))
                if "couchdiscover" not in words:
                    continue
                start = words.index("couchdiscover") + 1
                end = next(i for i, word in enumerate(words) if word.startswith(">"))
                yield where, words[start:end]


def words(pattern: str, paths: list[Path]) -> set[str]:
    """All matches of a pattern in files."""
    return {found for path in paths for found in re.findall(pattern, path.read_text())}


def texts() -> list[Path]:
    """Every text that may speak of couchdiscover's options and variables."""
    return [
        ROOT / "README.md",
        ROOT / "Containerfile",
        *sorted((ROOT / "docs").glob("*.md")),
        *sorted(EXAMPLES.rglob("*.md")),
        *sorted(EXAMPLES.rglob("*.yaml")),
        *sorted((ROOT / ".github").rglob("*.yml")),
    ]


def canonical(value: object) -> str:
    """For comparing what stands in several folders, with a readable difference."""
    return json.dumps(value, indent=1, sort_keys=True)
