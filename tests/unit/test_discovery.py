"""Kubernetes → Topology, from the objects as an API server of 1.36 sent them."""

import base64
import json
import re
import socket
import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest

from couchdiscover.errors import UsageProblem
from couchdiscover.kube import discovery
from couchdiscover.kube.client import Forbidden, Missing
from couchdiscover.kube.discovery import Discovery, Target, find_target, own_identity
from couchdiscover.kube.names import PodIdentity
from couchdiscover.state.settings import Settings
from couchdiscover.state.topology import Address, Published, Scope

RECORDED = Path(__file__).parents[1] / "recorded" / "k8s-1.36.2"
PASSWORD = "s3cret-Pa$$ wörd"
OWN = PodIdentity("couchdb-1", "couchdb", 1, "couchdb", "couch", "cluster.local")

Object = dict[str, Any]


def recorded(name: str) -> Any:
    return json.loads((RECORDED / f"{name}.json").read_text())


def service(name: str = "couchdb", **spec: Any) -> Object:
    return {
        "metadata": {"name": name},
        "spec": {"clusterIP": "None", "selector": {"app": "couchdb"}, **spec},
    }


class FakeKube:
    """Objects by resource and name, an error in place of one that is refused, and what was read."""

    namespace: str | None = None
    server_time: datetime | None = None

    def __init__(self, **objects: Any) -> None:
        self.objects: dict[str, Any] = {
            "statefulset": recorded("statefulset-5-all-ready"),
            "slices": recorded("endpointslices-5-all-ready"),
            "endpoints": recorded("endpoints-5-all-ready"),
            "secret": recorded("secret"),
            "config_map": {"metadata": {"name": "couchdb-env"}},  # of envFrom; not recorded
            "service": service(),
            "services": [],
            "deployment": False,
            **objects,
        }
        self.read: list[str] = []

    def _find(self, what: str, name: str) -> Any:
        self.read.append(f"{what}/{name}")
        found = self.objects[what]
        if isinstance(found, Exception):
            raise found
        return found

    def statefulset(self, namespace: str, name: str) -> Object:
        found: Object = self._find("statefulset", name)
        return found

    def secret(self, namespace: str, name: str) -> Object:
        return self._named("secret", name)

    def config_map(self, namespace: str, name: str) -> Object:
        return self._named("config_map", name)

    def _named(self, what: str, name: str) -> Object:
        found: Object = self._find(what, name)
        if found["metadata"]["name"] != name:
            raise Missing(f"{what}/{name} does not exist")
        return found

    def service(self, namespace: str, name: str) -> Object:
        found: Object = self._find("service", name)
        return found

    def services(self, namespace: str) -> list[Object]:
        found: list[Object] = self._find("services", "")
        return found

    def has_deployment(self, namespace: str, name: str) -> bool:
        found: bool = self._find("deployment", name)
        return found

    def endpoints(self, namespace: str, name: str) -> Object:
        found: Object = self._find("endpoints", name)
        return found

    def endpoint_slices(self, namespace: str, service: str) -> list[Object]:
        items: list[Object] = self._find("slices", service)["items"]
        return items


def discover(
    kube: FakeKube, own: PodIdentity | None = None, scope: Scope = Scope.SET, **settings: Any
) -> Discovery:
    target = Target("couch", "couchdb", scope, own, "cluster.local")
    return Discovery(kube, Settings(**settings), target)  # type: ignore[arg-type]


def statefulset(
    containers: list[Object] | None = None,
    env: list[Object] | None = None,
    sidecars: list[Object] | None = None,
    **spec: Any,
) -> Object:
    """The recorded one with other containers, environment or spec."""
    obj: Object = recorded("statefulset-5-all-ready")
    obj["spec"] |= spec
    pod = obj["spec"]["template"]["spec"]
    if env is not None:
        pod["containers"][0] |= {"env": env, "envFrom": []}
    if containers is not None:
        pod["containers"] = containers
    if sidecars is not None:
        pod["initContainers"] = sidecars
    return obj


def slices(*parts: tuple[list[Object], list[Object]], kind: str = "IPv4") -> Object:
    return {
        "items": [
            {"addressType": kind, "endpoints": endpoints, "ports": ports}
            for endpoints, ports in parts
        ]
    }


def endpoint(pod: str, *addresses: str, **conditions: bool) -> Object:
    return {
        "addresses": list(addresses),
        "conditions": {"ready": True, "terminating": False, **conditions},
        "targetRef": {"kind": "Pod", "name": pod},
    }


def port(name: str, number: int) -> Object:
    return {"name": name, "port": number, "protocol": "TCP"}


HTTP_PORT = [port("couchdb", 5984)]


def literals(**values: str) -> list[Object]:
    return [{"name": name, "value": value} for name, value in values.items()]


# --- which StatefulSet ------------------------------------------------------------------------


@pytest.fixture
def host(monkeypatch: pytest.MonkeyPatch) -> Callable[[str], None]:
    """Makes this machine have another fully qualified name."""

    def rename(full: str) -> None:
        monkeypatch.setattr(socket, "gethostname", lambda: full.split(".", maxsplit=1)[0])
        monkeypatch.setattr(socket, "getfqdn", lambda: full)

    rename("laptop.example.com")
    return rename


POD_HOST = "my-couch-2.couch.db.svc.corp.example"
BY_HOST = PodIdentity("my-couch-2", "my-couch", 2, "couch", "db", "corp.example")


@pytest.mark.parametrize(
    ("name", "environment", "identity"),
    [
        (POD_HOST, {}, BY_HOST),
        ("laptop-1.example.com", {}, None),
        ("couchdb-0", {}, None),
        (POD_HOST, {"POD_NAME": "", "POD_NAMESPACE": ""}, BY_HOST),
        (POD_HOST, {"POD_NAME": "my-couch-2"}, BY_HOST),
        ("x-1", {"POD_NAME": "c-0"}, PodIdentity("c-0", "c", 0)),
        (
            "x-1",
            {"POD_NAME": "c-0", "POD_NAMESPACE": "db"},
            PodIdentity("c-0", "c", 0, namespace="db"),
        ),
        (POD_HOST, {"POD_NAME": "c-0"}, PodIdentity("c-0", "c", 0)),
        (POD_HOST, {"POD_NAME": "setup-x2kz9"}, None),
    ],
)
def test_the_own_identity(
    host: Callable[[str], None],
    name: str,
    environment: Mapping[str, str],
    identity: PodIdentity | None,
) -> None:
    host(name)
    assert own_identity(environment) == identity


def test_dns_is_not_asked_for_the_name_of_a_laptop(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(socket, "gethostname", lambda: "laptop")
    monkeypatch.setattr(socket, "getfqdn", lambda: pytest.fail("may take seconds"))
    assert own_identity({}) is None


IN_POD = {"POD_NAME": "couchdb-1", "POD_NAMESPACE": "couch"}


@pytest.mark.parametrize(
    ("settings", "environment", "expected"),
    [
        # statefulset, namespace, scope, own pod
        ({}, IN_POD, ("couchdb", "couch", Scope.POD, "couchdb-1")),
        ({"scope": Scope.SET}, IN_POD, ("couchdb", "couch", Scope.SET, "couchdb-1")),
        ({"statefulset": "couchdb"}, IN_POD, ("couchdb", "couch", Scope.POD, "couchdb-1")),
        ({"statefulset": "other"}, IN_POD, ("other", "couch", Scope.SET, None)),
        ({"namespace": "else"}, IN_POD, ("couchdb", "else", Scope.SET, None)),
        ({"statefulset": "couchdb"}, {}, ("couchdb", "of-account", Scope.SET, None)),
        (
            {"statefulset": "couchdb"},
            {"POD_NAME": "setup-x2kz9", "POD_NAMESPACE": "jobs"},
            ("couchdb", "jobs", Scope.SET, None),
        ),
        ({"statefulset": "couchdb"}, {"POD_NAMESPACE": "jobs"}, ("couchdb", "jobs", "set", None)),
        ({}, {"POD_NAME": "couchdb-1"}, ("couchdb", "of-account", Scope.POD, "couchdb-1")),
    ],
)
def test_the_target(
    host: Callable[[str], None],
    settings: dict[str, Any],
    environment: dict[str, str],
    expected: tuple[object, ...],
) -> None:
    kube = FakeKube()
    kube.namespace = "of-account"
    target = find_target(Settings(**settings, environment=environment), kube)  # type: ignore[arg-type]
    own = target.own.pod if target.own else None
    assert (target.statefulset, target.namespace, target.scope, own) == expected


def test_a_namespace_there_always_is(host: Callable[[str], None]) -> None:
    assert find_target(Settings(statefulset="c"), FakeKube()).namespace == "default"  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("settings", "environment", "told"),
    [
        ({}, {}, "laptop is no pod of a StatefulSet.*--statefulset"),
        ({}, {"POD_NAME": "setup-x2kz9"}, "--statefulset"),
        ({"statefulset": "c", "scope": Scope.POD}, {}, "--scope pod, but laptop .*POD_NAME"),
        ({"statefulset": "c", "scope": Scope.POD}, IN_POD, "no pod of StatefulSet c"),
        ({}, {**IN_POD, "POD_NAMESPACE": "../x"}, "'../x' is no name of a namespace"),
    ],
)
def test_no_target(
    host: Callable[[str], None], settings: dict[str, Any], environment: dict[str, str], told: str
) -> None:
    with pytest.raises(UsageProblem, match=told):
        find_target(Settings(**settings, environment=environment), FakeKube())  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("resolv_conf", "domain"),
    [
        ("search db.svc.corp.example svc.corp.example corp.example\n", "corp.example"),
        ("nameserver 10.0.0.1\nsearch svc.cluster.test.\noptions ndots:5\n", "cluster.test"),
        ("search example.com\n", "cluster.local"),
        ("# svc.x\n\nsearch\n", "cluster.local"),
        (None, "cluster.local"),
    ],
)
def test_the_cluster_domain_by_the_search_list(
    host: Callable[[str], None],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    resolv_conf: str | None,
    domain: str,
) -> None:
    path = tmp_path / "resolv.conf"
    monkeypatch.setattr(discovery, "RESOLV_CONF", path)
    if resolv_conf is not None:
        path.write_text(resolv_conf)
    assert find_target(Settings(statefulset="c"), FakeKube()).cluster_domain == domain  # type: ignore[arg-type]


def test_the_cluster_domain_by_option_and_by_host_name(host: Callable[[str], None]) -> None:
    host(POD_HOST)
    kube = FakeKube()
    assert find_target(Settings(), kube).cluster_domain == "corp.example"  # type: ignore[arg-type]
    settings = Settings(cluster_domain="other.example")
    assert find_target(settings, kube).cluster_domain == "other.example"  # type: ignore[arg-type]


# --- who is to be a member --------------------------------------------------------------------


def test_the_recorded_set() -> None:
    topology = discover(FakeKube()).topology()
    assert (topology.namespace, topology.statefulset, topology.service) == (
        "couch",
        "couchdb",
        "couchdb",
    )
    assert [(p.name, p.ordinal, p.addresses) for p in topology.expected] == [
        ("couchdb-0", 0, (Address("10.244.0.12", 5984),)),
        ("couchdb-1", 1, (Address("10.244.0.11", 5984),)),
        ("couchdb-2", 2, (Address("10.244.0.13", 5984),)),
    ]
    assert topology.expected[1].host_name == "couchdb-1.couchdb.couch.svc.cluster.local"
    assert (topology.beyond, topology.own, topology.unpublished) == ((), None, False)
    assert topology.warnings == ()


def test_reading_again_reads_objects_anew_and_secrets_once() -> None:
    kube = FakeKube(statefulset=statefulset(env=[]), config_map=recorded("configmap"))
    kube.objects["statefulset"]["spec"]["template"]["spec"]["containers"][0]["envFrom"] = [
        {"configMapRef": {"name": "couchdb"}}
    ]
    found = discover(kube)
    assert len(found.topology().expected) == 3
    kube.objects["statefulset"]["spec"]["replicas"] = 5
    assert len(found.topology().expected) == 5
    assert kube.read.count("statefulset/couchdb") == kube.read.count("slices/couchdb") == 2
    assert kube.read.count("config_map/couchdb") == 1


@pytest.mark.parametrize(
    ("spec", "settings", "names", "beyond"),
    [
        ({"replicas": 1}, {}, ["couchdb-0"], ()),
        ({"replicas": None}, {}, ["couchdb-0"], ()),  # defaulted to 1
        ({"ordinals": {"start": 5}, "replicas": 2}, {}, ["couchdb-5", "couchdb-6"], ()),
        ({"ordinals": None, "replicas": 1}, {}, ["couchdb-0"], ()),
        ({}, {"size": 2}, ["couchdb-0", "couchdb-1"], ("couchdb-2",)),
        ({"ordinals": {"start": 1}}, {"size": 1}, ["couchdb-1"], ("couchdb-2", "couchdb-3")),
        ({"replicas": 1}, {"size": 2}, ["couchdb-0", "couchdb-1"], ()),
    ],
)
def test_ordinals_and_sizes(
    spec: Object, settings: dict[str, Any], names: list[str], beyond: tuple[str, ...]
) -> None:
    topology = discover(FakeKube(statefulset=statefulset(**spec)), **settings).topology()
    assert [pod.name for pod in topology.expected] == names
    assert topology.beyond == beyond


def test_ordinals_go_by_number() -> None:
    topology = discover(FakeKube(statefulset=statefulset(replicas=12))).topology()
    assert [pod.ordinal for pod in topology.expected] == list(range(12))


def test_the_set_while_it_scales_down() -> None:
    kube = FakeKube(statefulset=recorded("statefulset-9-scaling-down"))
    spec = kube.objects["statefulset"]["spec"]
    assert len(discover(kube).topology().expected) == spec["replicas"]


def test_a_pod_that_runs_beyond_the_size_is_to_be_a_member() -> None:
    own = PodIdentity("couchdb-2", "couchdb", 2)
    topology = discover(FakeKube(), own, Scope.POD, size=1).topology()
    assert [pod.name for pod in topology.expected] == ["couchdb-0", "couchdb-2"]
    assert topology.beyond == ("couchdb-1",)
    assert topology.own == "couchdb-2"


@pytest.mark.parametrize(
    ("value", "size"), [("2", 2), (" 2\n", 2), ("", 3), ("  ", 3), ("$(N)", 1)]
)
def test_the_size_in_the_containers_environment(value: str, size: int) -> None:
    env = literals(N="1", COUCHDB_CLUSTER_SIZE=value)
    topology = discover(FakeKube(statefulset=statefulset(env=env))).topology()
    assert len(topology.expected) == size
    overruled = discover(FakeKube(statefulset=statefulset(env=env)), size=3).topology()
    assert len(overruled.expected) == 3


@pytest.mark.parametrize("value", ["0", "-1", "three", "2.0"])
def test_a_bad_size_in_the_containers_environment(value: str) -> None:
    kube = FakeKube(statefulset=statefulset(env=literals(COUCHDB_CLUSTER_SIZE=value)))
    with pytest.raises(UsageProblem, match=f"COUCHDB_CLUSTER_SIZE .*couchdb.*'{value}'"):
        discover(kube).topology()


def test_more_wanted_than_there_are_is_a_warning() -> None:
    (warning,) = discover(FakeKube(), size=5).topology().warnings
    assert "a cluster of 5 is wanted" in warning
    assert "3 replicas" in warning


def test_a_size_that_may_hide_in_a_forbidden_secret_stops_nobody() -> None:
    obj = statefulset(env=literals(COUCHDB_ERLANG_COOKIE="x"))
    obj["spec"]["template"]["spec"]["containers"][0]["envFrom"] = [
        {"secretRef": {"name": "couchdb"}}
    ]
    kube = FakeKube(statefulset=obj, secret=Forbidden("may not get secrets/couchdb"))
    found = discover(kube, environment={"COUCHDB_USER": "admin", "COUCHDB_PASSWORD": "pw"})
    for _ in range(2):
        topology = found.topology()
        assert len(topology.expected) == 3
        (warning,) = topology.warnings
        assert "may not get secrets/couchdb" in warning
    assert kube.read.count("secret/couchdb") == 2  # for each variable that it may hold, once
    assert found.credentials().user == "admin"


@pytest.mark.parametrize("size", [None, 3])  # a constant of the container's environment, say
def test_a_set_that_is_scaled_to_zero_expects_nobody(size: int | None) -> None:
    kube = FakeKube(statefulset=recorded("variant-statefulset-zero"))
    topology = discover(kube, size=size, repair_from="couchdb-0").topology()
    assert (topology.expected, topology.beyond, topology.warnings) == ((), (), ())


@pytest.mark.parametrize("replicas", [-1, 10_001, 2**31 - 1])
def test_a_number_of_replicas_that_no_cluster_has(replicas: int) -> None:
    obj = recorded("statefulset-5-all-ready")
    obj["spec"]["replicas"] = replicas
    with pytest.raises(UsageProblem, match=f"has {replicas} replicas: .* 1 to 10000 nodes"):
        discover(FakeKube(statefulset=obj)).topology()


def test_a_set_of_defaults_alone() -> None:
    kube = FakeKube(
        statefulset=recorded("variant-statefulset-defaulted"),
        slices=slices(([endpoint("couchdb-5", "10.0.0.5")], [])),
    )
    topology = discover(kube).topology()
    (pod,) = topology.expected
    assert pod.host_name == "couchdb-5.couchdb.couch.svc.cluster.local"  # named like the set
    assert pod.addresses == (Address("10.0.0.5", 5984),)


def test_without_a_service_name_the_host_name_tells_it() -> None:
    own = PodIdentity("couchdb-1", "couchdb", 1, "headless", "couch", "cluster.local")
    kube = FakeKube(statefulset=statefulset(serviceName=""))
    assert discover(kube, own).topology().service == "headless"
    assert "slices/headless" in kube.read


def test_a_service_name_that_is_a_path() -> None:
    with pytest.raises(UsageProblem, match=r"spec\.serviceName"):
        discover(FakeKube(statefulset=statefulset(serviceName="../secrets/x"))).topology()


@pytest.mark.parametrize("obj", [{}, {"spec": None}, {"spec": []}, {"spec": {"template": None}}])
def test_odd_statefulsets_have_no_container(obj: Object) -> None:
    with pytest.raises(UsageProblem, match="only none; name CouchDB's with --container"):
        discover(FakeKube(statefulset=obj)).topology()


# --- what else the StatefulSet says -----------------------------------------------------------


def with_status(generation: int = 2, **status: Any) -> Object:
    obj = statefulset()
    obj["metadata"]["generation"] = generation
    obj["status"] = status
    return obj


DONE = {
    "observedGeneration": 2,
    "replicas": 3,
    "updatedReplicas": 3,
    "currentRevision": "a",
    "updateRevision": "a",
}


@pytest.mark.parametrize(
    ("status", "created", "rollout", "outdated"),
    [
        ({}, None, False, False),
        ({"replicas": 0}, None, False, False),  # as it is created: nobody has looked yet
        (DONE, 3, False, False),
        ({**DONE, "observedGeneration": 1}, 3, True, True),
        ({**DONE, "updateRevision": "b", "updatedReplicas": 1}, 3, True, True),
        ({**DONE, "updateRevision": "b"}, 3, True, False),  # the last pod is not ready yet
        ({**DONE, "replicas": 2, "updatedReplicas": 2}, 2, False, False),  # pods to be created
        ({"observedGeneration": 2}, 0, False, False),
        ({"observedGeneration": 2, "replicas": 3}, 3, False, False),  # revisions are not told
    ],
)
def test_the_status(status: Object, created: int | None, rollout: bool, outdated: bool) -> None:
    topology = discover(FakeKube(statefulset=with_status(**status))).topology()
    assert (topology.created_pods, topology.rollout, topology.outdated) == (
        created,
        rollout,
        outdated,
    )


@pytest.mark.parametrize(
    "strategy",
    [{"type": "OnDelete"}, {"type": "RollingUpdate", "rollingUpdate": {"partition": 1}}],
)
def test_revisions_that_differ_for_ever_are_no_rollout(strategy: Object) -> None:
    status: dict[str, Any] = {**DONE, "updateRevision": "b", "updatedReplicas": 1}
    obj = with_status(**status)
    obj["spec"]["updateStrategy"] = strategy
    topology = discover(FakeKube(statefulset=obj)).topology()
    assert (topology.rollout, topology.outdated) == (False, True)


@pytest.mark.parametrize(
    ("created", "clock", "age"),
    [
        ("2026-11-23T03:04:23Z", "2026-11-23T04:04:23Z", 3600.0),
        ("2026-11-23T03:04:23Z", "2026-11-23T03:04:22Z", 0.0),
        ("2026-11-23T03:04:23Z", None, None),
        (None, "2026-11-23T04:04:23Z", None),
        ("yesterday", "2026-11-23T04:04:23Z", None),
        ("2026-11-23T03:04:23", "2026-11-23T04:04:23Z", None),
    ],
)
def test_the_age_by_the_api_servers_clock(
    created: str | None, clock: str | None, age: float | None
) -> None:
    obj = statefulset()
    obj["metadata"]["creationTimestamp"] = created
    kube = FakeKube(statefulset=obj)
    kube.server_time = datetime.fromisoformat(clock) if clock else None
    assert discover(kube).topology().age == age


def claims(*names: str) -> list[Object]:
    return [{"metadata": {"name": name}} for name in names]


def mounts(*pairs: tuple[str, str]) -> list[Object]:
    return [{"name": name, "mountPath": path} for name, path in pairs]


@pytest.mark.parametrize(
    ("mounted", "claimed", "volumes", "persistent"),
    [
        (mounts(("data", "/opt/couchdb/data")), claims("data"), [], True),
        (mounts(("data", "/opt/couchdb/data/")), claims("data"), [], True),
        (mounts(("data", "/opt/couchdb")), claims("data"), [], True),
        (mounts(("data", "/opt/couchdb/data")), [], [{"name": "data", "emptyDir": {}}], False),
        (
            mounts(("data", "/opt/couchdb/data")),
            [],
            [{"name": "data", "persistentVolumeClaim": {"claimName": "x"}}],
            True,
        ),
        (mounts(("data", "/opt/couchdb/data")), [], [{"name": "data", "hostPath": {}}], None),
        (
            mounts(("data", "/opt/couchdb"), ("fast", "/opt/couchdb/data")),
            claims("data"),
            [{"name": "fast", "ephemeral": {}}],
            False,
        ),
        ([], claims("data"), [], False),  # of the template, and not mounted there
        (mounts(("conf", "/opt/couchdb/etc")), [], [{"name": "conf", "configMap": {}}], False),
        (mounts(("data", "/bitnami/couchdb")), claims("data"), [], None),
    ],
)
def test_whether_the_data_outlives_its_pod(
    mounted: list[Object], claimed: list[Object], volumes: list[Object], persistent: bool | None
) -> None:
    obj = statefulset([{"name": "couchdb", "volumeMounts": mounted}], volumeClaimTemplates=claimed)
    obj["spec"]["template"]["spec"]["volumes"] = volumes
    assert discover(FakeKube(statefulset=obj)).topology().volumes_persistent is persistent


def from_secret(name: str, **more: Any) -> Object:
    ref = {"name": "couchdb", "key": "cookieAuthSecret", **more}
    return {"name": name, "valueFrom": {"secretKeyRef": ref}}


@pytest.mark.parametrize(
    ("env", "secret", "intended", "reads"),
    [
        ([], None, False, 0),
        (literals(COUCHDB_SECRET="x"), None, True, 0),
        (literals(COUCHDB_SECRET=""), None, False, 0),
        ([from_secret("COUCHDB_SECRET")], Forbidden("no"), True, 0),  # there, or no pod starts
        ([from_secret("COUCHDB_SECRET", optional=True)], None, True, 1),
        ([from_secret("COUCHDB_SECRET", optional=True, key="nope")], None, False, 1),
        ([from_secret("COUCHDB_SECRET", optional=True)], Forbidden("no"), True, 1),  # unknown
    ],
)
def test_whether_the_session_secret_is_intended(
    env: list[Object], secret: object, intended: bool, reads: int
) -> None:
    kube = FakeKube(statefulset=statefulset(env=env), **({"secret": secret} if secret else {}))
    found = discover(kube)
    assert [found.topology().secret_intended for _ in range(2)] == [intended, intended]
    assert kube.read.count("secret/couchdb") == reads


@pytest.mark.parametrize("wanted", ["couchdb-3", "couch-0"])
def test_to_repair_from_a_pod_that_is_none_of_the_set(wanted: str) -> None:
    told = f"--repair-from {wanted}: that is none of the 3 nodes .*couchdb-0 to couchdb-2"
    with pytest.raises(UsageProblem, match=told):
        discover(FakeKube(), repair_from=wanted).topology()
    discover(FakeKube(), repair_from="couchdb-2").topology()


def test_a_deployment_in_its_place_is_told() -> None:
    missing = Missing("statefulsets/couchdb in couch does not exist")
    with pytest.raises(Missing, match=r"does not exist: couchdiscover is for the pods of a Sta"):
        discover(FakeKube(statefulset=missing)).topology()
    with pytest.raises(Missing, match=r"a Deployment of that name does: .* for the pods of a"):
        discover(FakeKube(statefulset=missing, deployment=True)).topology()


# --- a plain initContainer --------------------------------------------------------------------

OURS_BY_IMAGE = {"name": "setup", "image": "ghcr.io/someone/couchdiscover:1"}


def plain(**more: Any) -> Object:
    return {"name": "setup", "image": "python:3", **more}


@pytest.mark.parametrize(
    "setup",
    [
        OURS_BY_IMAGE,
        {**OURS_BY_IMAGE, "args": ["run"]},
        {**OURS_BY_IMAGE, "args": ["--timeout", "5m"]},
        plain(command=["couchdiscover"]),
        plain(command=["/opt/venv/bin/couchdiscover", "run", "-o", "json"]),
        plain(command=["python3", "-m", "couchdiscover"], args=["run"]),
        plain(command=["sh", "-c", "pip install couchdiscover && exec couchdiscover run"]),
        plain(command=["/bin/sh", "-ec"], args=["FOO=1 couchdiscover\n"]),
        plain(command=["sh", "-c", "until couchdiscover; do sleep 1; done"]),
        {"name": "setup", "image": "x", "env": literals(COUCHDISCOVER_TIMEOUT="5m")},
    ],
)
def test_an_init_container_that_runs_before_its_own_couchdb(setup: Object) -> None:
    kube = FakeKube(statefulset=statefulset(sidecars=[setup]))
    told = (
        "initContainer setup of StatefulSet couchdb .* before CouchDB's container couchdb .*"
        "restartPolicy: Always.*postStart.*a Job"
    )
    with pytest.raises(UsageProblem, match=told):
        discover(kube, OWN, Scope.POD).topology()
    assert discover(kube).topology().expected  # a Job


@pytest.mark.parametrize(
    "setup",
    [
        plain(command=["true"]),
        {**OURS_BY_IMAGE, "command": ["true"]},
        {**OURS_BY_IMAGE, "command": ["cp", "/usr/local/bin/couchdiscover", "/shared"]},
        {**OURS_BY_IMAGE, "command": ["sh", "-c", "cp -r /opt/couchdiscover /shared/"]},
        {**OURS_BY_IMAGE, "args": ["check", "--wait", "-s", "other"]},
        {**OURS_BY_IMAGE, "args": ["--version"]},
        {**OURS_BY_IMAGE, "restartPolicy": "Always"},
        plain(command=["sh", "-c", "echo 'couchdiscover run' > /etc/motd"]),
        plain(command=["sh", "-c", "couchdiscover check # couchdiscover run"]),
        plain(command=["sh", "-c", "it's not closed"]),
        plain(command=[]),
        {"name": "setup"},
    ],
)
def test_an_init_container_that_does_not(setup: Object) -> None:
    kube = FakeKube(statefulset=statefulset(sidecars=[setup]))
    assert discover(kube, OWN, Scope.POD, container="couchdb").topology().own == "couchdb-1"


def test_an_init_container_after_a_native_sidecar_is_as_it_should_be() -> None:
    couchdb = {"name": "couchdb", "restartPolicy": "Always"}
    obj = statefulset([{"name": "metrics"}], sidecars=[couchdb, OURS_BY_IMAGE])
    assert discover(FakeKube(statefulset=obj), OWN, Scope.POD).topology().own == "couchdb-1"


# --- the Service ------------------------------------------------------------------------------

NOBODY = slices(([], []))
PUBLISHED = {"couchdb-0": "yes", "couchdb-1": "none", "couchdb-2": "none"}
OBSCURE = {"couchdb-0": "yes", "couchdb-1": "unknown", "couchdb-2": "unknown"}


@pytest.mark.parametrize(
    ("obj", "told", "expected"),
    [
        (service(), None, PUBLISHED),
        (
            Missing("no"),
            r"^Service couchdb \(spec.serviceName\) is not there; make one with clusterIP: None "
            r"that selects app=couchdb$",
            OBSCURE,
        ),
        (
            service(selector={"app": "couch"}),
            r"^Service couchdb publishes none of the pods: does its selector \(app=couch\) match "
            r"the template's labels \(app=couchdb\)\?$",
            OBSCURE,
        ),
        (service(selector=None), r"selector \(none\)", OBSCURE),
        (
            service(selector={"app": "couchdb", "statefulset.kubernetes.io/pod-name": "couchdb-0"}),
            "does its selector",
            OBSCURE,
        ),
        (service(clusterIP="10.96.0.1"), "is not headless.*clusterIP: None", PUBLISHED),
        (Forbidden("no"), None, PUBLISHED),  # its slices are there, so it is
    ],
)
def test_the_service(obj: Any, told: str | None, expected: dict[str, str]) -> None:
    one = slices(([endpoint("couchdb-0", "10.0.0.1")], HTTP_PORT))
    topology = discover(FakeKube(service=obj, slices=one)).topology()
    assert {pod.name: pod.published for pod in topology.expected} == expected
    if told is None:
        assert topology.service_problem is None
    else:
        assert re.search(told, topology.service_problem or "")


def test_a_pod_that_is_not_created_yet_waits_for_the_one_before() -> None:
    obj = {**statefulset(), "status": {"observedGeneration": 1, "replicas": 2}}
    topology = discover(FakeKube(statefulset=obj)).topology()
    told = [topology.absent_because(pod.name) for pod in topology.expected]
    assert told[:2] == ["", ""]
    assert told[2].startswith("not created yet (with OrderedReady")
    blind = replace(topology, service_problem="Service couchdb is not there")
    assert blind.absent_because("couchdb-2") == "Service couchdb is not there"


def test_services_that_would_fit_are_named_where_they_can_be_listed() -> None:
    others = [service("couchdb-hl"), service("x", clusterIP="10.0.0.1"), service("y", selector={})]
    kube = FakeKube(service=Missing("no"), services=others)
    told = discover(kube).topology().service_problem or ""
    assert told.endswith(
        "is not there; headless and selecting these pods: couchdb-hl, which spec.serviceName and "
        "NODENAME could name"
    )


def test_a_set_that_names_no_service_has_pods_without_names() -> None:
    obj = statefulset()
    del obj["spec"]["serviceName"]
    topology = discover(FakeKube(statefulset=obj)).topology()
    assert {pod.published for pod in topology.expected} == {Published.YES}
    assert (topology.service_problem or "").startswith(
        "StatefulSet couchdb names no Service (spec.serviceName), so the pods have no names of "
        "their own: it must name couchdb, and be made anew for that"
    )


def test_a_service_that_may_not_be_read_and_has_no_endpoints_is_unknown() -> None:
    kube = FakeKube(service=Forbidden("no"), slices={"items": []}, endpoints=Missing("no"))
    found = discover(kube)
    for _ in range(2):
        topology = found.topology()
        assert {pod.published for pod in topology.expected} == {Published.UNKNOWN}
        assert "has no endpoints at all: is it there?" in (topology.service_problem or "")
    assert kube.read.count("service/couchdb") == 1  # and not at each look


@pytest.mark.parametrize("refusal", [Forbidden("no"), Missing("no such resource")])
def test_without_any_endpoints_to_read_nothing_is_known(refusal: Exception) -> None:
    topology = discover(FakeKube(slices=refusal, endpoints=Forbidden("no"))).topology()
    assert {pod.published for pod in topology.expected} == {Published.UNKNOWN}


def test_the_own_pod_is_there_whatever_the_service(named: Callable[[str | None], None]) -> None:
    kube = FakeKube(service=Missing("no"), slices={"items": []}, endpoints=Missing("no"))
    topology = discover(kube, OWN, Scope.POD).topology()
    found = {pod.name: pod.published for pod in topology.expected}
    assert found == {"couchdb-0": "unknown", "couchdb-1": "yes", "couchdb-2": "unknown"}


def test_a_service_is_read_again_only_while_somebody_lacks_an_address() -> None:
    kube = FakeKube()
    found = discover(kube)
    found.topology()
    found.topology()
    assert kube.read.count("service/couchdb") == 1
    kube.objects["slices"] = NOBODY
    kube.objects["service"] = Missing("deleted")
    assert {pod.published for pod in found.topology().expected} == {Published.UNKNOWN}
    kube.objects["service"] = service()
    assert {pod.published for pod in found.topology().expected} == {Published.NONE}


@pytest.mark.parametrize(
    ("objects", "environment", "expected"),
    [
        ({"slices": slices(([endpoint("couchdb-0", "fd00::1")], []), kind="IPv6")}, {}, True),
        ({}, {"POD_IP": "fd00::9"}, False),  # what is published counts
        ({"slices": NOBODY}, {"POD_IP": "fd00::9"}, True),
        ({"slices": NOBODY}, {"POD_IP": "10.0.0.1"}, False),
        ({"slices": NOBODY}, {}, False),
        ({"slices": NOBODY, "service": service(ipFamilies=["IPv6"])}, {}, True),
        ({"slices": NOBODY, "service": service(ipFamilies=["IPv4", "IPv6"])}, {}, False),
        (
            {"slices": Forbidden("no"), "endpoints": Forbidden("no"), "service": Forbidden("no")},
            {"KUBERNETES_SERVICE_HOST": "fd00::1"},
            True,
        ),
    ],
)
def test_pods_without_ipv4(
    objects: dict[str, Any], environment: dict[str, str], expected: bool
) -> None:
    topology = discover(FakeKube(**objects), environment=environment).topology()
    assert topology.ipv6_only is expected


# --- which container --------------------------------------------------------------------------


def container(name: str, number: int) -> Object:
    return {"name": name, "ports": [{"containerPort": number}]}


def init(name: str, number: int) -> Object:
    return {**container(name, number), "restartPolicy": "Always"}


@pytest.mark.parametrize(
    ("containers", "sidecars", "wanted", "found"),
    [
        ([container("metrics", 1), container("couchdb", 2)], [], None, 2),
        ([container("web", 1)], [], None, 1),
        ([container("proxy", 1)], [init("couchdb", 2)], None, 2),
        ([container("couchdb", 1), container("other", 2)], [], "other", 2),
        ([container("x", 1)], [init("db", 2)], "db", 2),
        ([container("x", 1)], [container("couchdb", 2)], None, 1),  # a plain initContainer
    ],
)
def test_the_container(
    containers: list[Object], sidecars: list[Object], wanted: str | None, found: int
) -> None:
    obj = statefulset(containers, sidecars=sidecars)
    kube = FakeKube(statefulset=obj, slices=slices(([endpoint("couchdb-0", "10.0.0.1")], [])))
    topology = discover(kube, container=wanted).topology()
    assert topology.expected[0].addresses == (Address("10.0.0.1", found),)


def test_the_container_named_like_the_set() -> None:
    kube = FakeKube(
        statefulset=statefulset([container("a", 1), container("db", 2)]),
        slices=slices(([endpoint("db-0", "10.0.0.1")], [])),
    )
    target = Target("couch", "db", Scope.SET, None, "cluster.local")
    topology = Discovery(kube, Settings(), target).topology()  # type: ignore[arg-type]
    assert topology.expected[0].addresses == (Address("10.0.0.1", 2),)


@pytest.mark.parametrize(
    ("wanted", "told"), [(None, "no container named couchdb"), ("nope", "no container nope")]
)
def test_no_such_container(wanted: str | None, told: str) -> None:
    kube = FakeKube(statefulset=statefulset([container("b", 1), container("a", 2)]))
    with pytest.raises(UsageProblem, match=f"{told}, only a, b; .*--container"):
        discover(kube, container=wanted).topology()


# --- which port -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("ports", "settings", "expected"),
    [
        ([port("metrics", 9100), port("couchdb", 15984)], {}, 15984),
        ([port("http", 80), port("couchdb", 15984)], {}, 80),
        ([port("couchdb", 5984), port("https", 6443)], {"scheme": "https"}, 6443),
        ([port("metrics", 9100), port("http", 8080)], {}, 8080),
        ([port("metrics", 9100), port("https", 8443)], {"scheme": "https"}, 8443),
        ([port("http", 5984), port("https", 8443)], {"scheme": "https"}, 8443),
        ([port("a", 9100), port("b", 5984)], {}, 5984),
        ([port("a", 5984), port("b", 6984)], {"scheme": "https"}, 6984),
        # Nothing to choose by: the container's port named couchdb.
        ([port("web", 8080)], {}, 5984),
        ([port("", 8080)], {}, 5984),
        ([{"port": 8080}], {}, 5984),
        ([port("epmd", 4369), port("dist", 9100)], {}, 5984),
        ([port("a", 1), port("b", 2)], {}, 5984),
        ([port("epmd", 4369)], {}, 5984),  # Erlang's port mapper speaks no HTTP
        ([], {}, 5984),
        ([port("couchdb", 15984)], {"port": 7000}, 7000),
    ],
)
def test_the_port(ports: list[Object], settings: dict[str, Any], expected: int) -> None:
    kube = FakeKube(slices=slices(([endpoint("couchdb-0", "10.0.0.1")], ports)))
    topology = discover(kube, **settings).topology()
    assert topology.expected[0].addresses == (Address("10.0.0.1", expected),)


@pytest.mark.parametrize(
    ("ports", "flags", "expected"),
    [
        ([port("web", 8080)], "", 8080),
        ([port("", 8080)], "", 8080),
        ([{"port": 8080}], "", 8080),
        ([port("web", 8080), port("epmd", 4369), port("dist", 9100)], "", 8080),
        ([port("web", 8080), port("dist", 9200)], "-kernel inet_dist_listen_min 9200", 8080),
        (
            [port("dist", 9201)],
            "-kernel inet_dist_listen_min 9200 -kernel inet_dist_listen_max 9210",
            5984,
        ),
        ([port("epmd", 4369)], "", 5984),
        ([port("dist", 9100)], "", 5984),
        ([port("web", 8080), port("more", 8081)], "", 5984),
    ],
)
def test_the_only_port_of_the_endpoints(ports: list[Object], flags: str, expected: int) -> None:
    plain = {"name": "couchdb", "env": literals(ERL_FLAGS=flags)}
    kube = FakeKube(
        statefulset=statefulset([plain]),
        slices=slices(([endpoint("couchdb-0", "10.0.0.1")], ports)),
    )
    topology = discover(kube).topology()
    assert topology.expected[0].addresses == (Address("10.0.0.1", expected),)


@pytest.mark.parametrize(
    ("ports", "scheme", "expected"),
    [
        ([{"containerPort": 8080}], "http", 8080),
        ([{"containerPort": 8080}, {"containerPort": 9100}], "http", 8080),
        ([{"containerPort": 7000, "name": "https"}, {"containerPort": 5984}], "https", 7000),
        ([{"containerPort": 1}, {"containerPort": 5984}], "http", 5984),
        ([{"containerPort": 1}, {"containerPort": 2}], "http", 5984),
        ([{"containerPort": 1}, {"containerPort": 2}], "https", 6984),
        (None, "http", 5984),
        (None, "https", 6984),
    ],
)
def test_the_containers_port(ports: list[Object] | None, scheme: str, expected: int) -> None:
    kube = FakeKube(
        statefulset=statefulset([{"name": "couchdb", "ports": ports}]),
        slices=slices(([endpoint("couchdb-0", "10.0.0.1")], [])),
    )
    topology = discover(kube, scheme=scheme).topology()
    assert topology.expected[0].addresses == (Address("10.0.0.1", expected),)


# --- which address ----------------------------------------------------------------------------


def addresses(found: Discovery) -> dict[str, list[str]]:
    return {pod.name: [str(a) for a in pod.addresses] for pod in found.topology().expected}


@pytest.mark.parametrize("phase", ["1-pending", "2-init-running", "4-one-ready", "5-all-ready"])
@pytest.mark.parametrize("publish", ["", "nopublish-"])
def test_slices_and_endpoints_say_the_same(phase: str, publish: str) -> None:
    if (publish, phase) == ("nopublish-", "1-pending"):
        publish = ""  # without a pod there is nothing to tell them apart by
    by_slices = discover(FakeKube(slices=recorded(f"endpointslices-{publish}{phase}")))
    by_endpoints = discover(
        FakeKube(
            slices=Forbidden("endpointslices"), endpoints=recorded(f"endpoints-{publish}{phase}")
        )
    )
    assert addresses(by_slices) == addresses(by_endpoints)
    assert by_slices.topology().unpublished == by_endpoints.topology().unpublished
    counted = sum(map(len, addresses(by_slices).values()))
    assert counted == (0 if phase == "1-pending" else 3)


@pytest.mark.parametrize(
    ("recording", "hidden"),
    [
        ("2-init-running", False),
        ("5-all-ready", False),
        ("8-one-terminating", False),
        ("nopublish-2-init-running", True),
        ("nopublish-4-one-ready", True),
        ("nopublish-5-all-ready", False),
        ("nopublish-8-one-terminating", False),
    ],
)
def test_a_service_that_hides_unready_pods(recording: str, hidden: bool) -> None:
    kube = FakeKube(slices=recorded(f"endpointslices-{recording}"))
    assert discover(kube).topology().unpublished is hidden


@pytest.mark.parametrize("refusal", [Forbidden("no"), Missing("no such resource")])
def test_without_slices_endpoints_are_read(refusal: Exception) -> None:
    kube = FakeKube(slices=refusal)
    assert addresses(discover(kube)) == addresses(discover(FakeKube()))
    assert discover(kube).topology().warnings == ()


def test_with_slices_endpoints_are_not_read() -> None:
    kube = FakeKube(slices=recorded("endpointslices-1-pending"))
    assert addresses(discover(kube)) == {"couchdb-0": [], "couchdb-1": [], "couchdb-2": []}
    assert "endpoints/couchdb" not in kube.read


@pytest.mark.parametrize("refusal", [Forbidden("no"), Missing("no such resource")])
def test_without_both_it_is_the_dns_name(refusal: Exception) -> None:
    found = discover(FakeKube(slices=refusal, endpoints=refusal))
    assert addresses(found)["couchdb-2"] == ["couchdb-2.couchdb.couch.svc.cluster.local:5984"]
    (warning,) = found.topology().warnings
    assert "neither EndpointSlices nor Endpoints of Service couchdb in couch" in warning


def test_several_slices_and_subsets() -> None:
    def rename(text: str) -> Any:
        return json.loads(text.replace('"p1"', '"couchdb-0"').replace('"p2"', '"couchdb-1"'))

    by_slices = FakeKube(slices=rename(json.dumps(recorded("variant-slices-two-ports"))))
    by_subsets = FakeKube(
        slices=Missing("no"),
        endpoints=rename(json.dumps(recorded("variant-endpoints-two-subsets"))),
    )
    expected = {
        "couchdb-0": ["10.244.0.31:8001"],
        "couchdb-1": ["10.244.0.32:8002"],
        "couchdb-2": [],
    }
    assert addresses(discover(by_slices)) == addresses(discover(by_subsets)) == expected
    without_ports = FakeKube(
        slices=Missing("no"), endpoints=rename(json.dumps(recorded("variant-endpoints-noports")))
    )
    assert addresses(discover(without_ports))["couchdb-0"] == ["10.244.0.31:5984"]


def test_of_two_addresses_that_which_is_not_terminating() -> None:
    leaving = endpoint("couchdb-0", "10.0.0.1", terminating=True)
    only_leaving = endpoint("couchdb-1", "10.0.0.2", ready=False, terminating=True)
    staying = endpoint("couchdb-0", "10.0.0.3")
    kube = FakeKube(slices=slices(([leaving, only_leaving], HTTP_PORT), ([staying], HTTP_PORT)))
    found = addresses(discover(kube))
    assert found["couchdb-0"] == ["10.0.0.3:5984"]
    assert found["couchdb-1"] == ["10.0.0.2:5984"]


def test_dual_stack() -> None:
    six = slices(([endpoint("couchdb-0", "fd00::1")], HTTP_PORT), kind="IPv6")
    four = slices(([endpoint("couchdb-0", "10.0.0.1")], HTTP_PORT))
    kube = FakeKube(slices={"items": six["items"] + four["items"]})
    assert addresses(discover(kube))["couchdb-0"] == ["10.0.0.1:5984", "[fd00::1]:5984"]


@pytest.mark.parametrize(
    "part",
    [
        {"addressType": "FQDN", "endpoints": [endpoint("couchdb-0", "example.com")]},
        {"endpoints": [endpoint("couchdb-0")]},
        {"endpoints": [endpoint("couchdb-0", "not an address")]},
        {"endpoints": [{"addresses": None, "conditions": None}]},
        {"endpoints": [None, "x", {}]},
        {"endpoints": {"a": 1}, "ports": "x"},
        {"endpoints": [endpoint("other-0", "10.0.0.1")], "ports": None},
        {"endpoints": [{"addresses": ["10.0.0.1"]}]},  # of nobody
    ],
)
def test_slices_that_tell_nothing(part: Object) -> None:
    assert addresses(discover(FakeKube(slices={"items": [part]})))["couchdb-0"] == []


def test_a_host_name_does_where_there_is_no_target() -> None:
    one = {"addresses": ["10.0.0.1"], "hostname": "couchdb-0"}
    kube = FakeKube(slices=slices(([one], HTTP_PORT)))
    assert addresses(discover(kube))["couchdb-0"] == ["10.0.0.1:5984"]


# --- the own node's addresses -----------------------------------------------------------------


@pytest.fixture
def named(monkeypatch: pytest.MonkeyPatch) -> Callable[[str | None], None]:
    """Gives the own host name an address, or none."""

    def resolve(address: str | None) -> None:
        def look_up(*_: object, **__: object) -> list[Any]:
            if address is None:
                raise socket.gaierror("no such name")
            return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (address, 5984))]

        monkeypatch.setattr(socket, "getaddrinfo", look_up)

    monkeypatch.setattr(socket, "gethostname", lambda: "couchdb-1")
    resolve(None)
    return resolve


@pytest.mark.parametrize(
    ("published", "pod_ip", "by_name", "expected"),
    [
        ("10.0.0.1", "10.9.9.9", "10.8.8.8", ["10.9.9.9:5984", "10.0.0.1:5984", "127.0.0.1:5984"]),
        ("10.0.0.1", None, "10.8.8.8", ["10.8.8.8:5984", "10.0.0.1:5984", "127.0.0.1:5984"]),
        ("10.0.0.1", "no address", None, ["10.0.0.1:5984", "127.0.0.1:5984"]),
        ("10.0.0.1", "10.0.0.1", None, ["10.0.0.1:5984", "127.0.0.1:5984"]),
        (
            "10.0.0.1",
            "fd00::9",
            None,
            ["[fd00::9]:5984", "10.0.0.1:5984", "[::1]:5984", "127.0.0.1:5984"],
        ),
        ("fd00::1", None, None, ["[fd00::1]:5984", "[::1]:5984"]),
        (None, "10.9.9.9", "10.8.8.8", ["10.9.9.9:5984", "127.0.0.1:5984"]),
        (None, "fd00::9", None, ["[fd00::9]:5984", "[::1]:5984"]),
        (None, None, "10.8.8.8", ["10.8.8.8:5984", "127.0.0.1:5984"]),
        (None, None, "127.0.0.1", ["127.0.0.1:5984"]),
        (None, None, None, ["127.0.0.1:5984"]),
    ],
)
def test_the_own_node(
    named: Callable[[str | None], None],
    published: str | None,
    pod_ip: str | None,
    by_name: str | None,
    expected: list[str],
) -> None:
    named(by_name)
    kube = FakeKube(
        slices=slices(([endpoint("couchdb-1", published)] if published else [], HTTP_PORT))
    )
    environment = {"POD_IP": pod_ip} if pod_ip else {}
    found = addresses(discover(kube, OWN, Scope.POD, environment=environment))
    assert (found["couchdb-0"], found["couchdb-1"]) == ([], expected)


def test_a_host_name_that_is_not_the_pods_comes_after_what_is_published(
    named: Callable[[str | None], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(socket, "gethostname", lambda: "node-7")
    named("10.8.8.8")
    kube = FakeKube(slices=slices(([endpoint("couchdb-1", "10.0.0.1")], HTTP_PORT)))
    found = addresses(discover(kube, OWN, Scope.POD))
    assert found["couchdb-1"] == ["10.0.0.1:5984", "127.0.0.1:5984"]


def test_the_own_node_where_no_endpoints_can_be_read(named: Callable[[str | None], None]) -> None:
    kube = FakeKube(slices=Forbidden("no"), endpoints=Forbidden("no"))
    found = addresses(discover(kube, OWN, Scope.POD, environment={"POD_IP": "10.9.9.9"}))
    assert found["couchdb-0"] == ["couchdb-0.couchdb.couch.svc.cluster.local:5984"]
    assert found["couchdb-1"] == ["10.9.9.9:5984", "127.0.0.1:5984"]


def test_loopback_has_the_published_port(named: Callable[[str | None], None]) -> None:
    part = [endpoint("couchdb-1", "10.0.0.1")]
    kube = FakeKube(slices=slices((part, [port("couchdb", 15984)])))
    found = addresses(discover(kube, OWN, Scope.POD))
    assert found["couchdb-1"] == ["10.0.0.1:15984", "127.0.0.1:15984"]


def test_scope_set_talks_to_all_alike() -> None:
    found = discover(FakeKube(), OWN, Scope.SET)
    assert addresses(found) == addresses(discover(FakeKube()))
    assert found.topology().own is None


# --- the Erlang cookie ------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("env", "replicas", "warned"),
    [
        ([], 3, True),
        ([], 1, False),
        (literals(ERLANG_COOKIE="x"), 3, False),
        (literals(COUCHDB_ERLANG_COOKIE=""), 3, False),
        ([{"name": "COUCHDB_ERLANG_COOKIE", "valueFrom": {"secretKeyRef": {}}}], 3, False),
        (literals(ERL_FLAGS="-setcookie x"), 3, False),
        (literals(ERL_FLAGS="-name couchdb"), 3, True),
        # By reference, or in a file: it is not known, so nothing is said.
        ([{"name": "ERL_FLAGS", "valueFrom": {"configMapKeyRef": {}}}], 3, False),
        (literals(FLAGS="-setcookie x", ERL_FLAGS="$(FLAGS)"), 3, False),
        (literals(ERL_FLAGS="-args_file /etc/flags"), 3, False),
        (literals(ERL_AFLAGS="-setcookie x"), 3, False),
    ],
)
def test_a_missing_cookie_is_a_warning(env: list[Object], replicas: int, warned: bool) -> None:
    kube = FakeKube(statefulset=statefulset(env=env, replicas=replicas))
    warnings = discover(kube).topology().warnings
    assert [w for w in warnings if "cookie" in w] == ([*warnings] if warned else [])
    assert bool(warnings) is warned
    assert "secret/couchdb" not in kube.read


@pytest.mark.parametrize(
    ("env", "known"),
    [
        ([], False),
        (literals(COUCHDB_ERLANG_COOKIE="x"), True),
        (literals(ERL_ZFLAGS="-setcookie x"), True),
        (literals(FLAGS="-setcookie x", ERL_FLAGS="$(FLAGS)"), None),
        ([{"name": "ERL_FLAGS", "valueFrom": {"configMapKeyRef": {}}}], None),
    ],
)
def test_whether_a_cookie_is_set_is_known_or_not(env: list[Object], known: bool | None) -> None:
    kube = FakeKube(statefulset=statefulset(env=env))
    assert discover(kube).topology().cookie_set is known


@pytest.mark.parametrize(
    ("more", "warned"),
    [
        ({}, True),
        ({"image": "bitnami/couchdb:3", "env": literals(COUCHDB_SECRET="x")}, False),
        ({"image": "couchdb:3", "env": literals(COUCHDB_SECRET="x")}, True),
        ({"volumeMounts": mounts(("x", "/opt/couchdb/etc/vm.args"))}, False),
        ({"volumeMounts": mounts(("x", "/opt/couchdb/etc/"))}, False),
        ({"volumeMounts": mounts(("x", "/opt/couchdb/.erlang.cookie"))}, False),
        ({"volumeMounts": mounts(("x", "/opt/couchdb/etc/local.d"))}, True),
        ({"args": ["-setcookie", "x"]}, False),
        ({"command": ["sh", "-c", "exec couchdb -args_file /vm.args"]}, False),
    ],
)
def test_a_cookie_may_be_in_a_file(more: Object, warned: bool) -> None:
    kube = FakeKube(statefulset=statefulset([{"name": "couchdb", **more}]))
    assert bool(discover(kube).topology().warnings) is warned


# --- the credentials --------------------------------------------------------------------------

OFFICIAL = {"COUCHDB_USER": "image", "COUCHDB_PASSWORD": "image-pw"}
OURS = {"COUCHDB_ADMIN_USER": "ours", "COUCHDB_ADMIN_PASS": "ours-pw"}


@pytest.mark.parametrize(
    ("own", "env", "expected"),
    [
        (OURS, OFFICIAL, ("ours", "ours-pw")),
        (OFFICIAL, OURS, ("image", "image-pw")),
        ({**OFFICIAL, **OURS}, {}, ("ours", "ours-pw")),
        ({}, {**OFFICIAL, **OURS}, ("ours", "ours-pw")),
        ({}, OFFICIAL, ("image", "image-pw")),
        ({"COUCHDB_USER": "half"}, OFFICIAL, ("image", "image-pw")),
        ({**OFFICIAL, "COUCHDB_ADMIN_USER": "half"}, OURS, ("image", "image-pw")),
        ({}, {**OFFICIAL, "COUCHDB_ADMIN_USER": "half"}, ("image", "image-pw")),
    ],
)
def test_whose_credentials_win(
    own: dict[str, str], env: dict[str, str], expected: tuple[str, str]
) -> None:
    kube = FakeKube(statefulset=statefulset(env=literals(**env)))
    found = discover(kube, environment=own).credentials()
    assert (found.user, found.password) == expected


def test_the_recorded_secret() -> None:
    kube = FakeKube()
    found = discover(kube).credentials()
    assert (found.user, found.password) == ("admin", PASSWORD)
    assert found.source == "COUCHDB_PASSWORD of container couchdb, Secret couchdb"
    assert PASSWORD not in repr(found)
    assert kube.read.count("secret/couchdb") == 1


def test_with_own_credentials_no_object_is_read() -> None:
    kube = FakeKube()
    discover(kube, environment=OURS).credentials()
    assert kube.read == []


def test_the_official_helm_chart() -> None:
    """Its container's environment as the chart (4.6) renders it."""

    def ref(name: str, key: str) -> Object:
        return {"name": name, "valueFrom": {"secretKeyRef": {"name": "couchdb", "key": key}}}

    env = [
        ref("COUCHDB_USER", "adminUsername"),
        ref("COUCHDB_PASSWORD", "adminPassword"),
        ref("COUCHDB_SECRET", "cookieAuthSecret"),
        ref("COUCHDB_ERLANG_COOKIE", "erlangCookie"),
        *literals(ERL_FLAGS=" -name couchdb  -setcookie x "),
    ]
    couchdb = {
        "name": "couchdb",
        "env": env,
        "ports": [
            {"name": "metrics", "containerPort": 17986},
            {"name": "couchdb", "containerPort": 5984},
            {"name": "epmd", "containerPort": 4369},
        ],
    }
    sidecar = {"name": "exporter", "ports": [{"containerPort": 9984}]}
    found = discover(FakeKube(statefulset=statefulset([sidecar, couchdb])))
    topology = found.topology()
    assert len(topology.expected) == 3
    assert topology.warnings == ()
    assert found.credentials().password == PASSWORD


def test_files_of_the_own_environment(tmp_path: Path) -> None:
    (tmp_path / "user").write_text("admin", encoding="utf-8")
    (tmp_path / "pass").write_text("pä ss", encoding="utf-8")
    environment = {
        "COUCHDB_ADMIN_USER_FILE": str(tmp_path / "user"),
        "COUCHDB_ADMIN_PASS_FILE": str(tmp_path / "pass"),
    }
    found = discover(FakeKube(), environment=environment).credentials()
    assert (found.user, found.password) == ("admin", "pä ss")
    environment["COUCHDB_ADMIN_PASS"] = "wins"
    assert discover(FakeKube(), environment=environment).credentials().password == "wins"


@pytest.mark.parametrize(
    ("content", "told"), [(None, "FileNotFoundError"), (b"\xff\xfe", "UnicodeDecodeError")]
)
def test_files_that_cannot_be_read(tmp_path: Path, content: bytes | None, told: str) -> None:
    path = tmp_path / "pass"
    if content is not None:
        path.write_bytes(content)
    environment = {"COUCHDB_USER": "admin", "COUCHDB_PASSWORD_FILE": str(path)}
    with pytest.raises(UsageProblem, match=f"COUCHDB_PASSWORD_FILE names {path}.*{told}"):
        discover(FakeKube(), environment=environment).credentials()


def test_a_line_break_at_the_end_is_left_out_and_told() -> None:
    secret = recorded("variant-secret-trailing-newline")
    ref = {"secretKeyRef": {"name": "withnl", "key": "adminPassword"}}
    env = [*literals(COUCHDB_USER="admin"), {"name": "COUCHDB_PASSWORD", "valueFrom": ref}]
    found = discover(FakeKube(statefulset=statefulset(env=env, replicas=1), secret=secret))
    assert found.credentials().password == "hunter2"
    (warning,) = found.topology().warnings
    assert (
        "password (COUCHDB_PASSWORD of container couchdb, Secret withnl) ends with a line break, "
        "which is left out"
    ) in warning
    assert "hunter2" not in warning


def secret_with(**data: str) -> Object:
    encoded = {key: base64.b64encode(value.encode()).decode() for key, value in data.items()}
    return {"metadata": {"name": "couchdb"}, "data": encoded}


@pytest.mark.parametrize(
    ("objects", "environment", "told"),
    [
        ({"statefulset": statefulset(env=[])}, {}, "no credentials: COUCHDB_ADMIN_USER and"),
        (
            {"statefulset": statefulset(env=[])},
            {"COUCHDB_USER": "x"},
            r"COUCHDB_PASSWORD is not set here",
        ),
        ({"statefulset": statefulset(env=literals(COUCHDB_USER="x"))}, {}, "no credentials"),
        ({}, {"COUCHDB_USER": "x", "COUCHDB_PASSWORD": ""}, "the password .* is empty"),
        ({}, {"COUCHDB_USER": "", "COUCHDB_PASSWORD": "hunter2"}, "the user name .* is empty"),
        ({}, {"COUCHDB_USER": "a:b", "COUCHDB_PASSWORD": "hunter2"}, "has a colon"),
        ({}, {"COUCHDB_USER": "a", "COUCHDB_PASSWORD": "hunter2\udcff"}, "is no UTF-8"),
        (
            {"secret": secret_with(adminUsername="admin", password="hunter2")},
            {},
            "Secret couchdb has no key 'adminPassword', from which COUCHDB_PASSWORD of container",
        ),
        (
            {"secret": {"metadata": {"name": "couchdb"}, "type": "Opaque"}},
            {},
            "Secret couchdb has no key 'adminUsername'",
        ),
        (
            {"secret": secret_with(adminUsername="admin", adminPassword="")},
            {},
            r"COUCHDB_PASSWORD \(.*Secret couchdb\) is empty",
        ),
    ],
)
def test_credentials_that_cannot_be_had(
    objects: dict[str, Any], environment: dict[str, str], told: str
) -> None:
    with pytest.raises(UsageProblem, match=told) as caught:
        discover(FakeKube(**objects), environment=environment).credentials()
    assert "hunter2" not in str(caught.value)


@pytest.mark.parametrize(
    ("user", "word", "password", "notes"),
    [
        ("admin", "pw\n", "pw", 1),
        ("admin", "pw\r\n", "pw", 1),
        ("admin", "pw\r", "pw", 1),
        ("admin\n", "pw\n", "pw", 2),
        ("admin", "pw\n\n", "pw\n", 1),  # one
        ("admin", "p\nw", "p\nw", 0),
        ("admin", "pw ", "pw ", 0),
    ],
)
def test_one_line_break_at_the_end(user: str, word: str, password: str, notes: int) -> None:
    own = {"COUCHDB_USER": user, "COUCHDB_PASSWORD": word}
    found = discover(FakeKube(), environment=own)
    credentials = found.credentials()
    assert (credentials.user, credentials.password) == ("admin", password)
    told = found.topology().warnings
    assert len(told) == notes
    assert all("couchdiscover's own COUCHDB_" in note for note in told)


@pytest.mark.parametrize(
    "word",
    ["-pbkdf2-0123,4567,10", "-pbkdf2:sha256-0123,4567,600000", "-hashed-0123,4567"],
)
def test_a_hash_is_no_password(word: str, tmp_path: Path) -> None:
    kube = FakeKube(statefulset=statefulset(env=literals(COUCHDB_USER="a", COUCHDB_PASSWORD=word)))
    (tmp_path / "pass").write_text(word + "\n")
    own = {"COUCHDB_USER": "a", "COUCHDB_PASSWORD_FILE": str(tmp_path / "pass")}
    told = "COUCHDB_PASSWORD.* is a hash .* give couchdiscover the password itself"
    for environment in ({}, own):
        with pytest.raises(UsageProblem, match=told) as caught:
            discover(kube, environment=environment).credentials()
        assert "0123" not in str(caught.value)
    plain = {"COUCHDB_USER": "a", "COUCHDB_PASSWORD": "-pw"}
    assert discover(kube, environment=plain).credentials().password == "-pw"


@pytest.mark.parametrize(
    ("env", "told"),
    [
        (
            literals(COUCHDB_USER="", COUCHDB_PASSWORD=""),
            r"COUCHDB_USER \(COUCHDB_USER of container couchdb\) is empty, and COUCHDB_PASSWORD",
        ),
        (literals(COUCHDB_USER="x"), "COUCHDB_PASSWORD of container couchdb is not set"),
        (
            [*literals(COUCHDB_USER="x"), from_secret("COUCHDB_PASSWORD", optional=True, key="-")],
            r"COUCHDB_PASSWORD of container couchdb is not set \(from Secret couchdb, optional",
        ),
        (
            [from_secret(name, optional=True, key="-") for name in OFFICIAL],
            "COUCHDB_USER of container couchdb is not set .*, and COUCHDB_PASSWORD of container",
        ),
        (
            literals(COUCHDB_USER="x", COUCHDB_PASSWORD_FILE="/run/hunter2"),
            "COUCHDB_PASSWORD of container couchdb is not set, and the file of "
            "COUCHDB_PASSWORD_FILE in container couchdb cannot be read from here: mount its Secret",
        ),
        (
            literals(COUCHDB_USER_FILE="/run/u", COUCHDB_PASSWORD_FILE="/run/p"),
            "the file of COUCHDB_USER_FILE and COUCHDB_PASSWORD_FILE in container couchdb cannot",
        ),
        ([], "in that of container couchdb; set both in couchdiscover's own environment$"),
        (literals(COUCHDB_ADMIN_PASS="x"), "COUCHDB_ADMIN_USER of container couchdb is not set"),
    ],
)
def test_what_is_empty_or_missing_is_named(env: list[Object], told: str) -> None:
    with pytest.raises(UsageProblem, match=told):
        discover(FakeKube(statefulset=statefulset(env=env))).credentials()


def test_an_empty_pair_does_not_hide_the_other() -> None:
    env = literals(COUCHDB_ADMIN_USER="", COUCHDB_ADMIN_PASS="", **OFFICIAL)
    assert discover(FakeKube(statefulset=statefulset(env=env))).credentials().user == "image"


@pytest.mark.parametrize("where", ["containers", "initContainers"])
def test_an_administrator_next_door_is_named(where: str) -> None:
    obj = statefulset(env=[])
    env = [from_secret("COUCHDB_USER"), *literals(COUCHDB_PASSWORD="hunter2")]
    other = {"name": "set-up", "env": env}
    obj["spec"]["template"]["spec"].setdefault(where, []).append(other)
    told = "container set-up has COUCHDB_USER from Secret couchdb, COUCHDB_PASSWORD: give couchdis"
    kube = FakeKube(statefulset=obj)
    with pytest.raises(UsageProblem, match=told) as caught:
        discover(kube).credentials()
    assert "hunter2" not in str(caught.value)
    assert kube.read == ["statefulset/couchdb"]


@pytest.mark.parametrize(
    ("other", "told"),
    [
        (
            {"envFrom": [{"secretRef": {"name": "couchdb"}}, {"configMapRef": {"name": "x"}}]},
            "container set-up has all of Secret couchdb: give",
        ),
        (  # the official chart's own Job has these names
            {"env": [from_secret("COUCHDB_ADMIN", key="u"), from_secret("COUCHDB_PASS", key="p")]},
            "container set-up has COUCHDB_PASS from Secret couchdb: give",
        ),
        (
            {
                "env": [
                    from_secret("LOGIN", key="adminUsername"),
                    from_secret("WORD", key="adminPassword"),
                ]
            },
            "container set-up has LOGIN from Secret couchdb, WORD from Secret couchdb: give",
        ),
        ({"env": literals(POD_NAME="x", LOG_USER="y")}, "own environment$"),
    ],
)
def test_an_administrator_next_door_by_other_names(other: Object, told: str) -> None:
    obj = statefulset(env=[])
    obj["spec"]["template"]["spec"]["containers"].append({"name": "set-up", **other})
    with pytest.raises(UsageProblem, match=told):
        discover(FakeKube(statefulset=obj)).credentials()


@pytest.mark.parametrize(
    ("user", "word", "notes"),
    [
        ("admin", "pw", []),
        ("admin", "pw\n", ["password .* left out, as in CouchDB's ini file"]),
        ("admin\n", "pw", ["user name .* parts the name .*CouchDB does not start"]),
        ("admin", "pw ", [r"password .* \(a blank at an end"]),
        ("admin", "p ;w", ["password .* what an ini file drops"]),
        ("admin", "p;w", []),
        ("admin", "p\nw", ["password .* what an ini file drops"]),
    ],
)
def test_what_the_image_cannot_write_into_its_ini_file(
    user: str, word: str, notes: list[str]
) -> None:
    env = literals(COUCHDB_USER=user, COUCHDB_PASSWORD=word)
    found = discover(FakeKube(statefulset=statefulset(env=env)))
    found.credentials()
    told = [note for note in found.topology().warnings if "Erlang cookie" not in note]
    assert len(told) == len(notes)
    for note, pattern in zip(told, notes, strict=True):
        assert re.search(pattern, note)


def test_the_source_is_the_passwords(tmp_path: Path) -> None:
    (tmp_path / "pass").write_text("pw")
    own = {"COUCHDB_USER": "a", "COUCHDB_PASSWORD": "pw"}
    source = discover(FakeKube(), environment=own).credentials().source
    assert source == "couchdiscover's own COUCHDB_PASSWORD"
    own = {"COUCHDB_USER": "a", "COUCHDB_PASSWORD_FILE": str(tmp_path / "pass")}
    source = discover(FakeKube(), environment=own).credentials().source
    assert source == f"{tmp_path}/pass, by couchdiscover's own COUCHDB_PASSWORD_FILE"


def test_credentials_are_read_anew_where_that_is_asked_for() -> None:
    kube = FakeKube()
    found = discover(kube)
    assert found.credentials().password == PASSWORD
    kube.objects["secret"] = secret_with(adminUsername="admin", adminPassword="rotated")
    assert found.credentials().password == PASSWORD
    assert found.credentials(anew=True).password == "rotated"


def test_while_a_secret_is_missing_the_set_is_not_read_each_time(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    now = [1000.0]
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    kube = FakeKube(secret=Missing("secrets/couchdb in couch does not exist"))
    found = discover(kube)
    for _ in range(12):
        with pytest.raises(Missing):
            found.credentials()
        now[0] += 0.5
    assert kube.read.count("statefulset/couchdb") == 2


def test_while_a_secret_is_missing_the_topology_is_that_of_a_moment_ago(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    now = [1000.0]
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    missing = Missing("secrets/couchdb in couch does not exist")
    kube = FakeKube(statefulset=statefulset(env=[from_secret("COUCHDB_USER")]), secret=missing)
    found = discover(kube)

    def sizes() -> int:
        topology = found.topology()
        with pytest.raises(Missing):
            found.credentials()
        return len(topology.expected)

    assert sizes() == 3
    kube.objects["statefulset"]["spec"]["replicas"] = 4
    for seconds, size in ((0.5, 3), (1.5, 3), (1.5, 3), (1.4, 3), (0.2, 4)):
        now[0] += seconds
        assert sizes() == size
    kube.objects["statefulset"]["spec"]["replicas"] = 5
    now[0] += 2.1  # nobody looks for it any more
    assert sizes() == 5


def test_a_secret_that_is_not_there_yet_is_waited_for_and_then_read() -> None:
    kube = FakeKube(secret=Missing("secrets/couchdb in couch does not exist"))
    found = discover(kube)
    with pytest.raises(Missing, match="secrets/couchdb in couch does not exist"):
        found.credentials()
    kube.objects["secret"] = recorded("secret")
    assert found.credentials().password == PASSWORD


def test_a_secret_name_that_is_a_path_is_never_asked_for() -> None:
    ref = {"secretKeyRef": {"name": "../configmaps/x", "key": "pw"}}
    env = [{"name": "COUCHDB_USER", "valueFrom": ref}]
    kube = FakeKube(statefulset=statefulset(env=env))
    with pytest.raises(UsageProblem, match="is no name of a Secret"):
        discover(kube).credentials()
    assert not [what for what in kube.read if what.startswith("secret/")]


def test_nothing_secret_is_shown() -> None:
    found = discover(FakeKube(), environment=dict(OURS))
    found.topology()
    by_container = discover(FakeKube())
    by_container.credentials()
    for shown in (repr(found), repr(by_container)):
        assert PASSWORD not in shown
        assert "ours-pw" not in shown
