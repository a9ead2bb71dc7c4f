"""The Kubernetes objects of a CouchDB StatefulSet, as an API server shows them."""

import base64
import zlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from couchdiscover.sandbox import controllers

Object = dict[str, Any]
Style = Literal["official", "helm", "predecessor"]

HOST_NAME = "sandbox"
"""The Kubernetes node that everything runs on."""

DATA = "database-storage"
"""The volume that CouchDB's data is on, and the PersistentVolumeClaims' template."""

DATA_FOLDER = "/opt/couchdb/data"
"""Where the official image has it."""


@dataclass(frozen=True, slots=True)
class Pod:
    """What Kubernetes knows of a pod. Without an address it is Pending."""

    name: str
    uid: str
    address: str | None
    port: int
    ready: bool
    terminating: bool = False


@dataclass(frozen=True, slots=True)
class Deployment:
    """How CouchDB is deployed: what a person's manifests, or a chart's values, would say.

    ``service_name`` is ``spec.serviceName``, which may be empty; ``service`` is the headless
    Service there is. None as ``cookie`` or ``secret`` leaves the variable out.
    """

    statefulset: str
    namespace: str
    service: str
    service_name: str
    domain: str
    port: int
    ordinals_start: int
    user: str
    password: str
    secret: str | None
    cookie: str | None
    style: Style
    publish_not_ready: bool
    family: Literal["IPv4", "IPv6"] = "IPv4"

    # --- what the styles differ in ---

    @property
    def container(self) -> str:
        """The name of the container that runs CouchDB."""
        return self.statefulset if self.style == "predecessor" else "couchdb"

    @property
    def secret_name(self) -> str:
        """The Secret that holds the credentials."""
        return self.statefulset if self.style == "helm" else f"{self.statefulset}-admin"

    @property
    def keys(self) -> tuple[str, str, str, str]:
        """The Secret's keys for user, password, session secret and Erlang cookie."""
        if self.style == "helm":
            return "adminUsername", "adminPassword", "cookieAuthSecret", "erlangCookie"
        return "user", "password", "secret", "cookie"

    @property
    def labels(self) -> dict[str, str]:
        """What selects the pods."""
        if self.style == "helm":
            release = self.statefulset.removesuffix("-couchdb")
            return {"app": "couchdb", "release": release}
        return {"app": self.statefulset}

    def service_ports(self, port: int) -> list[tuple[str, int]]:
        """Names and numbers, with CouchDB's at ``port``, in the order they are published in."""
        match self.style:
            case "helm":
                return [("metrics", 17986), ("couchdb", port)]
            case "official":
                return [("couchdb", port), ("epmd", 4369)]
            case "predecessor":
                return [("", port)]

    # --- objects ---

    def secret_object(self) -> Object:
        """The Secret."""
        values = zip(self.keys, (self.user, self.password, self.secret, self.cookie), strict=True)
        data = {
            key: base64.b64encode(value.encode()).decode()
            for key, value in values
            if value is not None
        }
        return {
            "kind": "Secret",
            "metadata": self._metadata(self.secret_name),
            "data": data,
            "type": "Opaque",
        }

    def config_map_object(self) -> Object:
        """The ConfigMap, which holds CouchDB's configuration file."""
        ini = f"[chttpd]\nbind_address = any\nport = {self.port}\n"
        return {
            "kind": "ConfigMap",
            "metadata": self._metadata(self.statefulset),
            "data": {"inifile": ini},
        }

    def service_object(self) -> Object:
        """The headless Service."""
        ports = [
            {**({"name": name} if name else {}), "protocol": "TCP", "port": port}
            for name, port in self.service_ports(self.port)
        ]
        for port in ports:
            # By its name, where it has one: so pods may listen on ports of their own.
            port["targetPort"] = port.get("name", port["port"])
        spec: Object = {
            "ports": ports,
            "selector": self.labels,
            "clusterIP": "None",
            "clusterIPs": ["None"],
            "type": "ClusterIP",
            "sessionAffinity": "None",
            "ipFamilies": [self.family],
            "ipFamilyPolicy": "SingleStack",
            "internalTrafficPolicy": "Cluster",
        }
        if self.publish_not_ready:
            spec["publishNotReadyAddresses"] = True
        return {
            "kind": "Service",
            "metadata": self._metadata(self.service),
            "spec": spec,
            "status": {"loadBalancer": {}},
        }

    def statefulset_object(self, replicas: int, pods: Sequence[Pod], generation: int) -> Object:
        """The StatefulSet; ``generation`` counts the changes of its spec."""
        spec: Object = {
            "replicas": replicas,
            "selector": {"matchLabels": self.labels},
            "template": {
                "metadata": {"labels": self.labels},
                "spec": self._pod_spec(self.port, replicas),
            },
            "serviceName": self.service_name,
            "podManagementPolicy": "Parallel",
            "updateStrategy": {"type": "RollingUpdate", "rollingUpdate": {"partition": 0}},
            "revisionHistoryLimit": 10,
            "persistentVolumeClaimRetentionPolicy": {
                "whenDeleted": "Retain",
                "whenScaled": "Retain",
            },
            "volumeClaimTemplates": [_claim_template()],
        }
        if self.ordinals_start:
            spec["ordinals"] = {"start": self.ordinals_start}
        ready = sum(pod.ready for pod in pods)
        status = statefulset_status(self.statefulset, len(pods), ready, generation)
        metadata = {**self._metadata(self.statefulset), "generation": generation}
        return {"kind": "StatefulSet", "metadata": metadata, "spec": spec, "status": status}

    def pod_object(self, pod: Pod, replicas: int) -> Object:
        """A pod."""
        metadata: Object = {
            **self._metadata(pod.name),
            "uid": pod.uid,
            "generateName": f"{self.statefulset}-",
            "labels": {
                **self.labels,
                "apps.kubernetes.io/pod-index": pod.name.rpartition("-")[2],
                "controller-revision-hash": revision(self.statefulset),
                "statefulset.kubernetes.io/pod-name": pod.name,
            },
        }
        if pod.terminating:
            metadata["deletionTimestamp"] = "2026-01-01T00:00:00Z"
        spec = {**self._pod_spec(pod.port, replicas), "hostname": pod.name}
        claim = {"claimName": f"{DATA}-{pod.name}"}
        spec["volumes"] = [{"name": DATA, "persistentVolumeClaim": claim}, *spec["volumes"]]
        if self.service_name:
            spec["subdomain"] = self.service_name
        status: Object = {"phase": "Pending" if pod.address is None else "Running"}
        status["conditions"] = [{"type": "Ready", "status": "True" if pod.ready else "False"}]
        if pod.address is not None:
            spec["nodeName"] = HOST_NAME
            status.update(podIP=pod.address, podIPs=[{"ip": pod.address}], hostIP="127.0.0.1")
        return {"kind": "Pod", "metadata": metadata, "spec": spec, "status": status}

    # --- endpoints ---

    def endpoint_slices(self, pods: Iterable[Pod], service_uid: str) -> list[Object]:
        """The EndpointSlices: one for each set of ports, and an empty one where no pod is."""
        service, shown, moved = self._seen_by_controllers(pods)
        service["metadata"]["uid"] = service_uid
        return controllers.endpoint_slices(service, shown, moved)

    def endpoints_object(self, pods: Iterable[Pod]) -> Object:
        """The v1 Endpoints; without ``subsets`` where no pod is."""
        found = controllers.endpoints_object(*self._seen_by_controllers(pods))
        return found or {"kind": "Endpoints", "metadata": self._metadata(self.service)}

    def _seen_by_controllers(
        self, pods: Iterable[Pod]
    ) -> tuple[Object, list[Object], dict[str, dict[int, int]]]:
        found = list(pods)
        shown = [self.pod_object(pod, len(found)) for pod in found]
        # By a number, too, each pod is found at its own port.
        moved = {pod.name: {self.port: pod.port} for pod in found if pod.port != self.port}
        return self.service_object(), shown, moved

    # --- the pod's template ---

    def _pod_spec(self, port: int, replicas: int) -> Object:
        match self.style:
            case "helm":
                containers = self._helm_containers(port)
            case "official":
                containers = [self._official_container(port)]
            case "predecessor":
                containers = self._predecessor_containers(port, replicas)
        volumes: list[Object] = [
            {"name": "config", "configMap": {"name": self.statefulset, "defaultMode": 420}},
        ]
        spec: Object = {"volumes": volumes, "containers": containers}
        if self.style == "helm":
            copy = {"command": ["sh", "-c", "cp /config/* /default.d"]}
            spec["initContainers"] = [_container("init-copy", "busybox:latest", **copy)]
        return {
            **spec,
            "restartPolicy": "Always",
            "terminationGracePeriodSeconds": 30,
            "dnsPolicy": "ClusterFirst",
            "securityContext": {},
            "schedulerName": "default-scheduler",
        }

    def _official_container(self, port: int) -> Object:
        user, password, _, _ = self.keys
        env = [
            self._from_secret("COUCHDB_USER", user),
            self._from_secret("COUCHDB_PASSWORD", password),
            *self._shared_secrets(),
            {
                "name": "POD_NAME",
                "valueFrom": {"fieldRef": {"apiVersion": "v1", "fieldPath": "metadata.name"}},
            },
            {
                "name": "NODENAME",
                "value": f"$(POD_NAME).{self.service}.{self.namespace}.svc.{self.domain}",
            },
            {"name": "ERL_FLAGS", "value": "-kernel inet_dist_listen_min 9100"},
        ]
        ports = [_port("couchdb", port), _port("epmd", 4369)]
        return _couchdb("couchdb", "couchdb:3.5.2", ports=ports, env=env)

    def _helm_containers(self, port: int) -> list[Object]:
        user, password, _, _ = self.keys
        env = [
            self._from_secret("COUCHDB_USER", user),
            self._from_secret("COUCHDB_PASSWORD", password),
            *self._shared_secrets(),
            {"name": "ERL_FLAGS", "value": " -name couchdb "},
        ]
        ports = [
            _port("metrics", 17986),
            _port("couchdb", port),
            _port("epmd", 4369),
            {"containerPort": 9100, "protocol": "TCP"},
        ]
        probe = {"httpGet": {"path": "/_up", "port": port, "scheme": "HTTP"}}
        return [
            _container("exporter", "exporter:1", ports=[{"containerPort": 9984}]),
            _couchdb(
                "couchdb",
                "couchdb:3.5.0",
                ports=ports,
                env=env,
                livenessProbe=probe,
                readinessProbe=probe,
            ),
        ]

    def _predecessor_containers(self, port: int, replicas: int) -> list[Object]:
        user, password, _, _ = self.keys
        env = [
            self._from_secret("COUCHDB_ADMIN_USER", user),
            self._from_secret("COUCHDB_ADMIN_PASS", password),
        ]
        if self.secret is not None:
            env.append(self._from_secret("COUCHDB_SECRET", self.keys[2]))
        if self.cookie is not None:
            env.append({"name": "ERLANG_COOKIE", "value": self.cookie})
        env.append({"name": "COUCHDB_CLUSTER_SIZE", "value": str(replicas)})
        ports = [{"containerPort": port, "protocol": "TCP"}]
        log_level = [{"name": "LOG_LEVEL", "value": "INFO"}]
        return [
            _couchdb(self.container, "couchdb:2", ports=ports, env=env),
            _container("couchdiscover", "couchdiscover:0", env=log_level),
        ]

    def _shared_secrets(self) -> list[Object]:
        _, _, secret, cookie = self.keys
        env = []
        if self.secret is not None:
            env.append(self._from_secret("COUCHDB_SECRET", secret))
        if self.cookie is not None:
            env.append(self._from_secret("COUCHDB_ERLANG_COOKIE", cookie))
        return env

    def _from_secret(self, name: str, key: str) -> Object:
        reference = {"name": self.secret_name, "key": key}
        return {"name": name, "valueFrom": {"secretKeyRef": reference}}

    def _metadata(self, name: str) -> Object:
        return {"name": name, "namespace": self.namespace, "labels": dict(self.labels)}


def revision(statefulset: str) -> str:
    """The one revision that a StatefulSet of the sandbox ever has."""
    return f"{statefulset}-{zlib.crc32(statefulset.encode()):08x}"


def statefulset_status(statefulset: str, pods: int, ready: int, generation: int) -> Object:
    """The status of a StatefulSet that is not being rolled out."""
    counts = {
        "replicas": pods,
        "readyReplicas": ready,
        "currentReplicas": pods,
        "updatedReplicas": pods,
    }
    return {
        "observedGeneration": generation,
        # Of these a real one leaves out what is 0, but for the first.
        **{key: count for key, count in counts.items() if count or key == "replicas"},
        "currentRevision": revision(statefulset),
        "updateRevision": revision(statefulset),
        "collisionCount": 0,
        "availableReplicas": ready,
    }


def _container(name: str, image: str, **more: Any) -> Object:
    return {
        "name": name,
        "image": image,
        **more,
        "resources": {},
        "terminationMessagePath": "/dev/termination-log",
        "terminationMessagePolicy": "File",
        "imagePullPolicy": "IfNotPresent",
    }


def _couchdb(name: str, image: str, **more: Any) -> Object:
    """The container that runs CouchDB, with its data on the claimed volume."""
    mounts = [{"name": DATA, "mountPath": DATA_FOLDER}]
    return _container(name, image, **more, volumeMounts=mounts)


def _claim_template() -> Object:
    return {
        "kind": "PersistentVolumeClaim",
        "apiVersion": "v1",
        "metadata": {"name": DATA},
        "spec": {
            "accessModes": ["ReadWriteOnce"],
            "resources": {"requests": {"storage": "10Gi"}},
            "volumeMode": "Filesystem",
        },
        "status": {"phase": "Pending"},
    }


def _port(name: str, number: int) -> Object:
    return {"name": name, "containerPort": number, "protocol": "TCP"}
