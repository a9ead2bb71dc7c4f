"""What a StatefulSet and its Service say, read off the objects as the API sent them. Pure.

Sources: the API reference of Kubernetes 1.36 (apps/v1 StatefulSet, core/v1 Service, Container), and
pkg/controller/statefulset/stateful_set_control.go for what the status' counts mean.
"""

import re
import shlex
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import PurePosixPath
from typing import Any

from couchdiscover.errors import UsageProblem

Object = Mapping[str, Any]

DATA_FOLDER = PurePosixPath("/opt/couchdb/data")
"""Where the official image keeps CouchDB's data."""


def as_dict(value: object) -> Object:
    """The value where it is an object, else an empty one: what comes in may be anything."""
    return value if isinstance(value, dict) else {}


def as_dicts(value: object) -> list[Object]:
    """The objects of a list; of anything else none."""
    return [item for item in value if isinstance(item, dict)] if isinstance(value, list) else []


def count(value: object, default: int) -> int:
    """A number of something."""
    return value if isinstance(value, int) and not isinstance(value, bool) else default


@dataclass(frozen=True, slots=True)
class StatefulSetObject:
    """A StatefulSet, with the API's defaults where it says nothing."""

    name: str
    obj: Object

    @property
    def spec(self) -> Object:
        """What it is to be."""
        return as_dict(self.obj.get("spec"))

    @property
    def status(self) -> Object:
        """What the controller says that it is."""
        return as_dict(self.obj.get("status"))

    @property
    def replicas(self) -> int:
        """How many pods it is to have."""
        return count(self.spec.get("replicas"), 1)

    @property
    def first_ordinal(self) -> int:
        """The lowest ordinal."""
        return count(as_dict(self.spec.get("ordinals")).get("start"), 0)

    @property
    def labels(self) -> Mapping[str, str]:
        """The labels that its template gives the pods."""
        template = as_dict(self.spec.get("template"))
        labels = as_dict(as_dict(template.get("metadata")).get("labels"))
        return {str(key): str(value) for key, value in labels.items()}

    @property
    def pod_spec(self) -> Object:
        """The template's pod."""
        return as_dict(as_dict(self.spec.get("template")).get("spec"))

    # --- the status ---

    @property
    def created_pods(self) -> int | None:
        """How many pods there are by the controller; None where it has never looked."""
        if "observedGeneration" not in self.status:
            return None
        return count(self.status.get("replicas"), 0)

    @property
    def unobserved(self) -> bool:
        """Whether the controller has not seen the newest spec yet."""
        generation = count(as_dict(self.obj.get("metadata")).get("generation"), 0)
        return count(self.status.get("observedGeneration"), 0) < generation

    @property
    def outdated(self) -> bool:
        """Whether a pod may run an older template than this one."""
        if self.created_pods is None:
            return False  # no pod was ever made by another one
        if self.unobserved:
            return True
        if not self.status.get("updateRevision"):
            return False
        return count(self.status.get("updatedReplicas"), 0) < (self.created_pods or 0)

    @property
    def rollout(self) -> bool:
        """Whether pods are being replaced by ones of a newer template.

        Not with ``OnDelete`` or a partition, where that ends when a person says so, if ever.
        """
        strategy = as_dict(self.spec.get("updateStrategy"))
        if strategy.get("type", "RollingUpdate") != "RollingUpdate":
            return False
        if count(as_dict(strategy.get("rollingUpdate")).get("partition"), 0) > 0:
            return False
        if self.created_pods is None:
            return False  # no pod was ever made
        current, update = (self.status.get(key) for key in ("currentRevision", "updateRevision"))
        return self.outdated or (bool(update) and current != update)

    def age(self, now: datetime | None) -> float | None:
        """Seconds since it was created."""
        created = as_dict(self.obj.get("metadata")).get("creationTimestamp")
        try:
            then = datetime.fromisoformat(str(created))
        except ValueError:
            return None
        if now is None or then.tzinfo is None:
            return None
        return max(0.0, (now - then).total_seconds())

    # --- the template ---

    def container(self, wanted: str | None) -> Object:
        """The container that runs CouchDB; native sidecars are initContainers that stay.

        Raises UsageProblem where there is none, or it cannot be told which.
        """
        candidates = as_dicts(self.pod_spec.get("containers")) + [
            container
            for container in as_dicts(self.pod_spec.get("initContainers"))
            if container.get("restartPolicy") == "Always"
        ]
        by_name = {str(container.get("name")): container for container in candidates}
        if wanted is None:
            for name in ("couchdb", self.name):
                if name in by_name:
                    return by_name[name]
            if len(candidates) == 1:
                return candidates[0]
        elif wanted in by_name:
            return by_name[wanted]
        which = f"no container {wanted}" if wanted else "no container named couchdb"
        raise UsageProblem(
            f"StatefulSet {self.name} has {which}, only {', '.join(sorted(by_name)) or 'none'}; "
            "name CouchDB's with --container (COUCHDISCOVER_CONTAINER)"
        )

    def others(self, container: Object) -> list[Object]:
        """All containers but that one, initContainers too."""
        everything = [
            *as_dicts(self.pod_spec.get("containers")),
            *as_dicts(self.pod_spec.get("initContainers")),
        ]
        return [other for other in everything if other is not container]

    def runs_before(self, container: Object) -> str | None:
        """The plain initContainer that runs couchdiscover before CouchDB can have started.

        Its name; None where there is none, or CouchDB is a native sidecar.
        """
        if not any(container is other for other in as_dicts(self.pod_spec.get("containers"))):
            return None
        for init in as_dicts(self.pod_spec.get("initContainers")):
            if init.get("restartPolicy") != "Always" and _assembles(init):
                return str(init.get("name"))
        return None

    def volumes_persistent(self, container: Object) -> bool | None:
        """Whether CouchDB's data outlives its pod; None where the template does not show it."""
        claims = {
            str(as_dict(claim.get("metadata")).get("name"))
            for claim in as_dicts(self.spec.get("volumeClaimTemplates"))
        }
        volumes = {str(v.get("name")): v for v in as_dicts(self.pod_spec.get("volumes"))}
        mounts = as_dicts(container.get("volumeMounts"))

        def lasts(mount: Object) -> bool | None:
            name = str(mount.get("name"))
            if name in claims:
                return True
            volume = volumes.get(name, {})
            if "persistentVolumeClaim" in volume:
                return True
            fleeting = ("emptyDir", "ephemeral", "configMap", "secret", "projected", "downwardAPI")
            return False if any(kind in volume for kind in fleeting) else None

        holding = [mount for mount in mounts if _holds(mount, DATA_FOLDER)]
        if holding:  # of several the innermost
            return lasts(max(holding, key=lambda mount: len(str(mount.get("mountPath")))))
        # Another image, or another [couchdb] database_dir: then it may be on any of them.
        return False if all(lasts(mount) is False for mount in mounts) else None


def _holds(mount: Object, folder: PurePosixPath) -> bool:
    return folder.is_relative_to(PurePosixPath(str(mount.get("mountPath") or "/nowhere")))


# --- whether a container runs couchdiscover ---

_COMMANDS = re.compile(r"[;&|\n()]+")
_BEFORE = ("exec", "if", "then", "else", "do", "while", "until", "!", "time", "env", "{")


def _assembles(container: Object) -> bool:
    """Whether a container runs ``couchdiscover run``, or couchdiscover without a command.

    One that only copies the program, or runs another of its commands, does not.
    """
    command, arguments = (_words(container.get(key)) for key in ("command", "args"))
    if command:
        return _runs([*command, *arguments])
    image = str(container.get("image")).rpartition("/")[2]
    told = [str(entry.get("name")) for entry in as_dicts(container.get("env"))]
    if "couchdiscover" in image or any(name.startswith("COUCHDISCOVER_") for name in told):
        return _is_run(arguments)
    return False


def _words(value: object) -> list[str]:
    return [str(word) for word in value] if isinstance(value, list) else []


def _runs(words: list[str]) -> bool:
    if not words:
        return False
    name = PurePosixPath(words[0]).name
    if name == "couchdiscover":
        return _is_run(words[1:])
    if name.startswith("python") and words[1:3] == ["-m", "couchdiscover"]:
        return _is_run(words[3:])
    if name in ("sh", "bash", "ash", "dash"):
        return any(_runs_in_script(word) for word in words[1:] if not word.startswith("-"))
    if name in ("tini", "dumb-init", "timeout", "env", "nice"):
        return any(_runs(words[at:]) for at in range(1, len(words)))
    return False


def _runs_in_script(script: str) -> bool:
    for line in _COMMANDS.split(script):
        try:
            words = shlex.split(line, comments=True)
        except ValueError:
            words = line.split()
        while words and (words[0] in _BEFORE or re.match(r"[A-Za-z_][A-Za-z0-9_]*=", words[0])):
            words = words[1:]
        if words and _runs(words):
            return True
    return False


def _is_run(arguments: list[str]) -> bool:
    """Whether couchdiscover with these arguments brings a cluster about."""
    if not arguments:
        return True
    if {"-h", "--help", "--version", "--dry-run"} & set(arguments):
        return False
    return arguments[0] == "run" or arguments[0].startswith("-")


# --- the Service ---


def is_headless(service: Object) -> bool:
    """Whether its pods get names of their own: no address for all of them together."""
    return as_dict(service.get("spec")).get("clusterIP") == "None"


def selects(service: Object, labels: Mapping[str, str]) -> bool:
    """Whether it selects pods of these labels."""
    selector = as_dict(as_dict(service.get("spec")).get("selector"))
    return bool(selector) and all(labels.get(key) == value for key, value in selector.items())


def told_selector(service: Object) -> str:
    """Its selector, as ``kubectl -l`` takes it."""
    selector = as_dict(as_dict(service.get("spec")).get("selector"))
    return ",".join(f"{key}={value}" for key, value in sorted(selector.items()))


def told_labels(labels: Mapping[str, str]) -> str:
    """Labels, likewise."""
    return ",".join(f"{key}={value}" for key, value in sorted(labels.items())) or "none"


def only_ipv6(service: Object) -> bool:
    """Whether its pods are published by IPv6 addresses alone."""
    return as_dict(service.get("spec")).get("ipFamilies") == ["IPv6"]
