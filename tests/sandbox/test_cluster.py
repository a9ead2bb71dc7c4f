"""What the sandbox makes of somebody's manifests: environments, nodes, endpoints, names."""

import base64
import http.client
import json
import ssl
import threading
import time
from collections.abc import Callable
from copy import deepcopy
from pathlib import Path
from typing import Any

import pytest
import trustme

from couchdiscover.sandbox import companions, controllers, kubelet, loopback
from couchdiscover.sandbox.cluster import Cluster, couchdb_container
from couchdiscover.sandbox.image import NEWEST, boot, parse_image, parse_ini
from couchdiscover.sandbox.kubelet import Mount, NotStartedError, Volume
from couchdiscover.sandbox.reading import ManifestError, Manifests, read
from couchdiscover.sandbox.rehearsal import ChoiceError, choose

Object = dict[str, Any]


def given(tmp_path: Path, *objects: Object, namespace: str = "default") -> Manifests:
    """The manifests that hold these objects."""
    path = tmp_path / "manifests.yaml"
    path.write_text("\n---\n".join(json.dumps(found) for found in objects))
    return read([str(path)], namespace)


def secret(name: str = "admin", **data: str) -> Object:
    return {
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": {"name": name},
        "stringData": data or {"COUCHDB_USER": "admin", "COUCHDB_PASSWORD": "word"},
    }


def config_map(name: str, **data: str) -> Object:
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name}, "data": data}


def service(name: str = "couch", **spec: Any) -> Object:
    whole = {
        "clusterIP": "None",
        "selector": {"app": "couch"},
        "ports": [{"name": "couchdb", "port": 5984}],
        **spec,
    }
    return {"apiVersion": "v1", "kind": "Service", "metadata": {"name": name}, "spec": whole}


def statefulset(name: str = "couch", **changes: Any) -> Object:
    """A set of two named nodes; ``container`` and ``pod`` change parts of its template."""
    container = {
        "name": "couchdb",
        "image": "couchdb:3.5.2",
        "envFrom": [{"secretRef": {"name": "admin"}}],
        "env": [
            {"name": "POD", "valueFrom": {"fieldRef": {"fieldPath": "metadata.name"}}},
            {"name": "NODENAME", "value": "$(POD).couch.default.svc.cluster.local"},
        ],
        **changes.pop("container", {}),
    }
    pod = {"containers": [container], **changes.pop("pod", {})}
    return {
        "apiVersion": "apps/v1",
        "kind": "StatefulSet",
        "metadata": {"name": name},
        "spec": {
            "replicas": 2,
            "serviceName": "couch",
            "selector": {"matchLabels": {"app": "couch"}},
            "template": {"metadata": {"labels": {"app": "couch"}}, "spec": pod},
            **changes,
        },
    }


def cluster(manifests: Manifests, name: str = "couch", **options: Any) -> Cluster:
    return Cluster(manifests, ("default", name), **{"pace": 0.0, **options})


POD: Object = {
    "metadata": {
        "name": "couch-1",
        "namespace": "default",
        "uid": "u",
        "labels": {"app": "couch"},
    },
    "spec": {"nodeName": "machine"},
    "status": {"podIP": "127.9.9.9"},
}


# --- reading ---


@pytest.mark.parametrize(
    ("text", "texts"),
    [
        ("just words", ["document 1", "no Kubernetes object"]),
        ("- a\n- b\n", ["no Kubernetes object"]),
        ("clusterSize: 3\n", ["no kind", "helm template"]),
        ("a: b: Marked\n", ["no YAML", "line 1"]),
        ("a: *Marked\n", ["no YAML"]),
        ("a: !Marked b\n", ["no YAML"]),
        ("{'Marked': ", ["no YAML"]),
        ("\x00Marked", ["no YAML"]),
        ("[" * 5000, ["no YAML"]),
        ("{kind: Statefulset, apiVersion: apps/v1, metadata: {name: a}}", ["StatefulSet meant?"]),
        ("{kind: Thing, apiVersion: v1, metadata: {name: a}}", ["Thing", "no kind"]),
        ("{kind: StatefulSet, apiVersion: apps/v1beta1, metadata: {name: a}}", ["apps/v1"]),
        ("{kind: StatefulSet, apiVersion: apps/v1}", ["without metadata.name"]),
        ("{kind: StatefulSet, apiVersion: apps/v1, metadata: {name: a}}", ["no containers"]),
        ("{kind: Secret, apiVersion: v1, metadata: {name: a}, data: {p: Marked!}}", ["base64"]),
        ("{kind: Secret, apiVersion: v1, metadata: {name: a}, stringData: {p: 12}}", ["quotes"]),
        ("{kind: ConfigMap, apiVersion: v1, metadata: {name: a}, data: {p: 12}}", ["quotes"]),
        ("{kind: List, apiVersion: v1, items: [Marked]}", ["item 1"]),
    ],
)
def test_what_is_no_manifest_is_told_and_never_quoted(
    tmp_path: Path, text: str, texts: list[str]
) -> None:
    path = tmp_path / "some.yaml"
    path.write_text(text)
    with pytest.raises(ManifestError) as raised:
        read([str(path)])
    for wanted in ("some.yaml", *texts):
        assert wanted in str(raised.value)
    assert "Marked" not in str(raised.value)


def test_without_a_stateful_set_there_is_nothing_to_choose(tmp_path: Path) -> None:
    custom = {"apiVersion": "example.com/v1", "kind": "Couch", "metadata": {"name": "a"}}
    deployment = {"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "couch"}}
    with pytest.raises(ChoiceError, match=r"no StatefulSet$"):
        choose(given(tmp_path, custom), None, None)
    with pytest.raises(ChoiceError, match=r"Deployment couch.*one a cluster"):
        choose(given(tmp_path, deployment), None, None)
    with pytest.raises(ChoiceError, match="in namespace db"):
        choose(given(tmp_path, statefulset()), None, "db")
    found = given(tmp_path, statefulset(), statefulset("other"))
    with pytest.raises(ChoiceError, match=r"couch in default, other in default"):
        choose(found, None, None)
    assert choose(found, "other", None)[0]["metadata"]["name"] == "other"


def test_what_kubectl_brings_along_from_a_cluster_is_left_there(tmp_path: Path) -> None:
    found = statefulset()
    found["metadata"] |= {
        "creationTimestamp": "2020-01-01T00:00:00Z",
        "resourceVersion": "7",
        "uid": "of-the-cluster",
    }
    found["status"] = {"replicas": 9}
    kept = given(tmp_path, found).get("StatefulSet", "default", "couch")
    assert kept is not None
    assert kept["metadata"] == {"name": "couch", "namespace": "default"}
    assert "status" not in kept


def test_a_secret_is_kept_as_the_api_keeps_it(tmp_path: Path) -> None:
    found = secret(user="a", both="of stringData")
    found["data"] = {"both": "eA==", "line": "bGlu\nZQ=="}
    kept = given(tmp_path, found).get("Secret", "default", "admin")
    assert kept is not None
    assert "stringData" not in kept
    assert kubelet.texts(kept) == {"user": "a", "both": "of stringData", "line": "line"}


def test_dates_and_the_like_stay_text(tmp_path: Path) -> None:
    path = tmp_path / "some.yaml"
    path.write_text(
        "kind: ConfigMap\napiVersion: v1\nmetadata: {name: a}\ndata: {since: 2024-01-31}\n"
    )
    found = read([str(path)]).get("ConfigMap", "default", "a")
    assert found is not None
    assert found["data"] == {"since": "2024-01-31"}


# --- the kubelet ---


def test_an_environment_is_what_the_kubelet_makes_of_it(tmp_path: Path) -> None:
    manifests = given(
        tmp_path,
        secret("s", USER="from the secret", PASSWORD="p"),
        config_map("c", USER="from the map", ERL="-setcookie x"),
        service("web", clusterIP="10.0.0.9"),
        service("hidden"),
    )
    container = {
        "name": "c",
        "envFrom": [
            {"prefix": "COUCHDB_", "configMapRef": {"name": "c"}},
            {"prefix": "COUCHDB_", "secretRef": {"name": "s"}},
            {"secretRef": {"name": "none", "optional": True}},
        ],
        "env": [
            {"name": "POD", "valueFrom": {"fieldRef": {"fieldPath": "metadata.name"}}},
            {"name": "IP", "valueFrom": {"fieldRef": {"fieldPath": "status.podIP"}}},
            {"name": "APP", "valueFrom": {"fieldRef": {"fieldPath": "metadata.labels['app']"}}},
            {"name": "HOST", "value": "$(POD).$(COUCHDB_USER).$$(POD).$(LATER)"},
            {"name": "LATER", "value": "late"},
            {"name": "ERL", "valueFrom": {"configMapKeyRef": {"name": "c", "key": "ERL"}}},
            {"name": "POD", "value": "$(POD)-again"},
            {
                "name": "LATER",
                "valueFrom": {"secretKeyRef": {"name": "s", "key": "none", "optional": True}},
            },
            {"name": "EMPTY", "value": ""},
            {"name": "WEB", "value": "$(WEB_SERVICE_HOST)"},
        ],
    }
    found = kubelet.environment(container, POD, manifests)
    assert found.pop("WEB_PORT") == "tcp://10.0.0.9:5984"
    assert "HIDDEN_PORT" not in found
    assert found == {
        "COUCHDB_USER": "from the secret",
        "COUCHDB_PASSWORD": "p",
        "COUCHDB_ERL": "-setcookie x",
        "POD": "couch-1-again",
        "IP": "127.9.9.9",
        "APP": "couch",
        "HOST": "couch-1.from the secret.$(POD).$(LATER)",
        "LATER": "late",
        "ERL": "-setcookie x",
        "EMPTY": "",
        "WEB": "10.0.0.9",
        "WEB_SERVICE_HOST": "10.0.0.9",
        "WEB_SERVICE_PORT": "5984",
    }


@pytest.mark.parametrize(
    ("entry", "text"),
    [
        ({"secretKeyRef": {"name": "none", "key": "k"}}, "Secret none is not there"),
        ({"secretKeyRef": {"name": "admin", "key": "k"}}, "Secret admin has no key 'k'"),
        ({"configMapKeyRef": {"name": "none", "key": "k"}}, "ConfigMap none is not there"),
        ({"fieldRef": {"fieldPath": "metadata.magic"}}, "metadata.magic"),
    ],
)
def test_a_reference_that_leads_nowhere_starts_nothing(
    tmp_path: Path, entry: Object, text: str
) -> None:
    container = {"name": "c", "env": [{"name": "V", "valueFrom": entry}]}
    with pytest.raises(NotStartedError, match=text):
        kubelet.environment(container, POD, given(tmp_path, secret()))


def test_files_come_from_maps_secrets_and_projections(tmp_path: Path) -> None:
    manifests = given(tmp_path, config_map("c", a="A", b="B"), secret("s", k="K"))
    pod = deepcopy(POD)
    pod["spec"]["volumes"] = [
        {"name": "map", "configMap": {"name": "c"}},
        {"name": "one", "secret": {"secretName": "s", "items": [{"key": "k", "path": "x/y.ini"}]}},
        {
            "name": "all",
            "projected": {
                "sources": [
                    {"configMap": {"name": "c"}},
                    {"secret": {"name": "s"}},
                    {"serviceAccountToken": {"path": "token"}},
                ]
            },
        },
        {"name": "claim", "persistentVolumeClaim": {"claimName": "d"}},
        {"name": "none", "configMap": {"name": "none", "optional": True}},
    ]
    filled = kubelet.volumes(pod, manifests)
    assert filled["all"].files == {"a": "A", "b": "B", "k": "K"}
    container = {
        "volumeMounts": [
            {"name": "one", "mountPath": "/opt/couchdb/etc/local.d/z.ini", "subPath": "x/y.ini"},
            {"name": "map", "mountPath": "/opt/couchdb/etc/default.d/"},
            {"name": "claim", "mountPath": "/opt/couchdb/data"},
        ]
    }
    found = kubelet.mounts(container, filled, {})
    shown = {mount.path: (dict(mount.files), mount.is_file) for mount in found}
    assert shown["/opt/couchdb/etc/local.d/z.ini"] == ({"": "K"}, True)
    assert shown["/opt/couchdb/etc/default.d"] == ({"a": "A", "b": "B"}, False)
    assert next(m for m in found if m.path == "/opt/couchdb/data").unknown


@pytest.mark.parametrize(
    ("script", "copied"),
    [
        ("cp /from/a.ini /to; cp /from/b.ini /to/c.ini; ls -l /to", {"a.ini": "A", "c.ini": "B"}),
        ("cp /from/* /to/", {"a.ini": "A", "b.ini": "B"}),
        ("cp -r /from/. /to && chmod 644 /to/a.ini", {"a.ini": "A", "b.ini": "B"}),
        ("curl http://example.com > /to/a.ini", None),
        ("cp /from/a.ini /to; sed -i s/A/B/ /to/a.ini", None),
        ("if true; then cp /from/a.ini /to; fi", None),
        ("echo $HOME", None),
    ],
)
def test_an_init_container_that_only_copies_is_played(
    script: str, copied: dict[str, str] | None
) -> None:
    filled = {
        "source": Volume({"a.ini": "A", "b.ini": "B"}, read_only=True),
        "target": Volume(),
    }
    container = {
        "name": "init",
        "command": ["sh", "-c", script],
        "volumeMounts": [
            {"name": "source", "mountPath": "/from"},
            {"name": "target", "mountPath": "/to/"},
        ],
    }
    assert kubelet.run_copies(container, filled, {}) is (copied is not None)
    assert filled["target"].files == (copied or {})


# --- the image ---


@pytest.mark.parametrize(
    ("reference", "version", "official", "noted"),
    [
        ("couchdb:2.3.1", "2.3.1", True, False),
        ("docker.io/library/couchdb:3.5.2.1", "3.5.2", True, False),
        ("apache/couchdb:3.4.2@sha256:0123", "3.4.2", True, False),
        ("couchdb:3.5", "3.5.2", True, False),
        ("couchdb:3.3-ubi", "3.3.3", True, False),
        ("couchdb:2", "2.3.1", True, False),
        ("couchdb:1.7.2", "1.7.2", True, False),
        ("couchdb", NEWEST, True, True),
        ("couchdb:latest", NEWEST, True, True),
        ("couchdb@sha256:0123456789", NEWEST, True, True),
        ("registry.example.com:5000/mirror/couchdb:3.4.3", "3.4.3", False, True),
        ("bitnami/couchdb:3.3.3-debian-12", "3.3.3", False, True),
        ("example.com/couchdb:1.0.0-couchdb3.5.2.1", "3.5.2", False, True),
        ("example.com/couchdb:1.4.0", NEWEST, False, True),
    ],
)
def test_what_an_image_is_called_tells_the_version(
    reference: str, version: str, official: bool, noted: bool
) -> None:
    found = parse_image(reference)
    assert (found.version, found.is_official, bool(found.note)) == (version, official, noted)
    assert found.is_couchdb


@pytest.mark.parametrize(
    "reference",
    ["", "postgres:17", "gesellix/couchdb-prometheus-exporter:30", "couchdiscover:1", "busybox"],
)
def test_other_images_are_no_couchdb(reference: str) -> None:
    assert not parse_image(reference).is_couchdb


def test_an_ini_file_is_read_as_couchdb_reads_it() -> None:
    text = (
        "stray = 1\n[a]\nx = 1 ; no comment\r\ny=2;3\n;z = 4\n  w  =  \n[]\nv = a = b\n[b] c\nu=1"
    )
    assert parse_ini(text) == {"a": {"x": "1", "y": "2;3", "v": "a = b", "u": "1"}}


LOGIN = {"COUCHDB_USER": "admin", "COUCHDB_PASSWORD": "word"}
HOSTS = ("c-0.c.db.svc.cluster.local", "c-0")


def start(
    variables: dict[str, str] | None = None,
    arguments: tuple[str, ...] = (),
    mounted: tuple[Mount, ...] = (),
    image: str = "couchdb:3.5.2",
    **container: Any,
) -> Any:
    whole = {"name": "couchdb", "image": image, **container}
    return boot(whole, {**LOGIN, **(variables or {})}, arguments, mounted, HOSTS)


def ini(path: str, text: str) -> Mount:
    return Mount(f"/opt/couchdb/etc/{path}", {"": text}, True, True, "")


@pytest.mark.parametrize(
    ("variables", "arguments", "name"),
    [
        ({}, (), "nonode@nohost"),
        ({"NODENAME": "a.b"}, (), "couchdb@a.b"),
        ({"ERL_FLAGS": "-name couchdb"}, (), f"couchdb@{HOSTS[0]}"),
        ({"ERL_FLAGS": " -setcookie x  -name c@a.b -kernel y 1"}, (), "c@a.b"),
        ({"ERL_FLAGS": "-name c@late", "NODENAME": "first"}, (), "couchdb@first"),
        ({"ERL_AFLAGS": "-name c@first", "NODENAME": "late"}, (), "c@first"),
        ({}, ("-name", "c@argument"), "c@argument"),
        ({"ERL_FLAGS": "-sname couchdb"}, (), "couchdb@c-0"),
        ({"NODENAME": ""}, (), "nonode@nohost"),
    ],
)
def test_the_name_is_erlangs(
    variables: dict[str, str], arguments: tuple[str, ...], name: str
) -> None:
    found = start(variables, arguments)
    assert (found.name, found.crash) == (name, "")


def test_a_name_in_a_mounted_vm_args_comes_before_nodename() -> None:
    found = start({"NODENAME": "a.b"}, mounted=(ini("vm.args", "# -name x\n-name couchdb@m.n\n"),))
    assert found.name == "couchdb@m.n"
    assert "name@host" in start({"NODENAME": "couchdb@a.b"}).crash


def test_the_cookie_is_the_flags_or_the_variable_and_never_shown() -> None:
    assert start().cookie is None
    assert start({"COUCHDB_ERLANG_COOKIE": "v"}).cookie == "v"
    flagged = start({"COUCHDB_ERLANG_COOKIE": "v", "ERL_FLAGS": "-setcookie f"})
    assert flagged.cookie == "f"
    assert start({"COUCHDB_ERLANG_COOKIE": "v"}, image="couchdb:3.1.2").cookie is None
    assert "word" not in repr(flagged)
    assert "'f'" not in repr(flagged)


def test_a_line_break_does_not_reach_couchdb() -> None:
    found = start({"COUCHDB_PASSWORD": "word\n", "COUCHDB_SECRET": "s\n"})
    assert found.settings["admins"] == {"admin": "word"}
    assert found.settings["chttpd_auth"] == {"secret": "s"}


def test_without_an_administrator_the_image_ends_at_once() -> None:
    nobody = {"COUCHDB_USER": "", "COUCHDB_PASSWORD": ""}
    assert "COUCHDB_USER" in start(nobody).crash
    assert "COUCHDB_USER" in start({"COUCHDB_USER": ""}).crash
    assert start(nobody, image="couchdb:2.3.1").crash == ""
    admins = ini("local.d/admins.ini", "[admins]\nroot = pw\n")
    assert start(nobody, mounted=(admins,)).settings["admins"] == {"root": "pw"}


def test_a_read_only_local_d_ends_the_image_at_once() -> None:
    files = Mount("/opt/couchdb/etc/local.d", {"a.ini": "[couchdb]\n"}, False, True, "")
    assert "subPath" in start(mounted=(files,)).crash
    assert start(mounted=(files,), command=["/bin/sh"]).crash == ""
    assert "not played" in start(command=["/bin/sh"]).notes[0]


def test_files_are_read_in_couchdbs_order() -> None:
    found = start(
        mounted=(
            ini("local.d/b.ini", "[cluster]\nn = 2\n"),
            ini("local.ini", "[cluster]\nn = 5\nq = 4\n"),
            ini("default.d/z.ini", "[chttpd]\nbind_address = 127.0.0.1\n[cluster]\nn = 7\n"),
        )
    )
    assert found.settings["cluster"] == {"n": "2", "q": "4"}
    assert found.settings["chttpd"]["bind_address"] == "127.0.0.1"
    whole = Mount("/opt/couchdb/etc/default.d", {"a.ini": "[cluster]\nq = 1\n"}, False, True, "")
    assert "chttpd" not in start(mounted=(whole,)).settings  # the image's own file is hidden


# --- the controllers ---


def running(name: str, address: str, *, ready: bool = True, **spec: Any) -> Object:
    found: Object = deepcopy(POD)
    found["metadata"]["name"] = name
    found["spec"] = {"hostname": name, "subdomain": "couch", "containers": [], **spec}
    state = "True" if ready else "False"
    found["status"] = {"podIP": address, "conditions": [{"type": "Ready", "status": state}]}
    return found


def placed(**spec: Any) -> Object:
    found = service(**spec)
    found["metadata"]["namespace"] = "default"
    return found


def test_ports_by_name_are_each_pods_own() -> None:
    def at(port: int) -> Object:
        return {"containers": [{"name": "c", "ports": [{"name": "db", "containerPort": port}]}]}

    wanted = placed(
        ports=[
            {"port": 80, "targetPort": "db"},
            {"name": "gone", "port": 1, "targetPort": "nobody"},
            {"name": "epmd", "port": 4369},
        ]
    )
    pods = [
        running("couch-0", "127.0.0.9", **at(5984)),
        running("couch-1", "127.0.0.8", **at(15984)),
    ]
    slices = controllers.endpoint_slices(wanted, pods)
    found = {
        part["endpoints"][0]["targetRef"]["name"]: {p["name"]: p["port"] for p in part["ports"]}
        for part in slices
    }
    assert found == {
        "couch-0": {"": 5984, "epmd": 4369},
        "couch-1": {"": 15984, "epmd": 4369},
    }
    endpoints = controllers.endpoints_object(wanted, pods)
    assert endpoints is not None
    assert endpoints["subsets"][0]["ports"][0] == {"port": 5984, "protocol": "TCP"}


def test_a_service_publishes_whom_it_selects() -> None:
    pods = [running("couch-0", "127.0.0.9"), running("couch-1", "127.0.0.8", ready=False)]
    (part,) = controllers.endpoint_slices(placed(), pods)
    ready = {e["hostname"]: e["conditions"]["ready"] for e in part["endpoints"]}
    assert ready == {"couch-0": True, "couch-1": False}
    (part,) = controllers.endpoint_slices(placed(selector={"app": "other"}), pods)
    assert (part["endpoints"], part["ports"]) == (None, None)
    assert controllers.endpoint_slices(placed(selector=None), pods) == []
    assert controllers.endpoints_object(placed(selector=None), pods) is None


def test_names_come_from_the_headless_service_that_the_pods_are_under() -> None:
    pods = [running("couch-0", "127.0.0.9"), running("couch-1", "127.0.0.8", ready=False)]
    assert controllers.dns_hosts(placed(), pods) == {"couch-0"}
    whole = {"couch-0", "couch-1"}
    assert controllers.dns_hosts(placed(publishNotReadyAddresses=True), pods) == whole
    assert controllers.dns_hosts(placed(clusterIP="10.0.0.1"), pods) == set()
    assert controllers.dns_hosts(placed(name="other"), pods) == set()
    assert controllers.dns_hosts(placed(selector={"app": "x"}), pods) == set()


# --- the cluster ---


def test_nodes_listen_where_the_manifests_say(tmp_path: Path) -> None:
    manifests = given(
        tmp_path,
        secret(),
        config_map("ini", port="[chttpd]\nport = 15984\n"),
        service(ports=[{"name": "db", "port": 80, "targetPort": "db"}]),
        statefulset(
            container={
                "ports": [{"name": "db", "containerPort": 15984}],
                "volumeMounts": [
                    {
                        "name": "ini",
                        "mountPath": "/opt/couchdb/etc/local.d/port.ini",
                        "subPath": "port",
                    }
                ],
            },
            pod={"volumes": [{"name": "ini", "configMap": {"name": "ini"}}]},
            ordinals={"start": 3},
            podManagementPolicy="Parallel",
        ),
    )
    with cluster(manifests) as found:
        assert [pod.name for pod in found.pods] == ["couch-3", "couch-4"]
        for pod in found.pods:
            assert (pod.port, pod.place) == (15984, 15984)
            connection = http.client.HTTPConnection(pod.address, 15984, timeout=5)
            connection.request("GET", "/")
            assert json.loads(connection.getresponse().read())["version"] == "3.5.2"
            connection.close()
        (part,) = found.api.find("EndpointSlice", "default")
        assert part["ports"] == [{"name": "db", "protocol": "TCP", "port": 15984}]
        assert len(part["endpoints"]) == 2


def test_a_declared_port_alone_makes_nobody_listen_there(tmp_path: Path) -> None:
    changed: dict[str, Any] = {"ports": [{"containerPort": 15984}]}
    manifests = given(tmp_path, secret(), service(), statefulset(container=changed, replicas=1))
    with cluster(manifests) as found:
        assert found.pods[0].port == 5984
        assert any("declares port 15984" in note for note in found.notes)
    changed["image"] = "example.com/couchdb:3"
    manifests = given(tmp_path, secret(), service(), statefulset(container=changed, replicas=1))
    with cluster(manifests) as found:  # what that one listens at is not known
        assert found.pods[0].port == 15984


def test_a_port_that_cannot_be_had_is_another_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    several = loopback.is_free
    monkeypatch.setattr(
        loopback, "is_free", lambda host, port: host == "127.0.0.1" and several(host, port)
    )
    manifests = given(tmp_path, secret(), service(), statefulset())
    with cluster(manifests) as found:
        places = {pod.place for pod in found.pods}
        assert len(places) == 2
        assert 5984 not in places
        published = {
            part["endpoints"][0]["targetRef"]["name"]: part["ports"][0]["port"]
            for part in found.api.find("EndpointSlice", "default")
        }
        assert published == {pod.name: pod.place for pod in found.pods}
        assert any("cannot be had on this machine" in note for note in found.notes)


def waits(condition: Callable[[], bool]) -> bool:
    end = time.monotonic() + 20
    while time.monotonic() < end:
        if condition():
            return True
        time.sleep(0.02)
    return False


def put_member(found: Cluster, pod: int, name: str) -> None:
    from couchdiscover.sandbox.http import Request

    login = base64.b64encode(b"admin:word").decode()
    headers = {"authorization": f"Basic {login}", "content-type": "application/json"}
    path = f"/_node/_local/_nodes/{name}"
    answer = found.ask(found.pods[pod], Request("PUT", path, path, {}, headers, b"{}"))
    assert getattr(answer, "status", 0) == 201


@pytest.mark.parametrize(
    ("changed", "connected"),
    [
        ({}, True),
        ({"clusterIP": "10.0.0.1"}, False),
        ({"selector": {"app": "other"}}, False),
        ({"name": "other"}, False),
    ],
)
def test_nodes_find_each_other_by_names_that_resolve(
    tmp_path: Path, changed: Object, connected: bool
) -> None:
    manifests = given(tmp_path, secret(), service(**changed), statefulset())
    with cluster(manifests) as found:
        first, second = (pod.node for pod in found.pods)
        assert first is not None
        assert second is not None
        put_member(found, 1, first.name)

        def settled() -> bool:
            found.network.settle()
            return second.name in first.connected

        if connected:
            assert waits(settled)
        assert settled() is connected
        assert (first.name in second.connected) is connected


def test_what_a_hook_or_a_sidecar_makes_is_there_on_each_node(tmp_path: Path) -> None:
    def script(text: str) -> Object:
        return {"command": ["sh", "-c", text]}

    hook = {"postStart": {"exec": script("curl -X PUT http://127.0.0.1:5984/_users")}}
    whole = statefulset(container={"lifecycle": hook})
    beside = {"name": "set-up", "image": "curl", **script("curl -X PUT localhost:5984/_replicator")}
    whole["spec"]["template"]["spec"]["containers"].append(beside)
    with cluster(given(tmp_path, secret(), service(), whole)) as found:
        for pod in found.pods:
            assert pod.node is not None
            assert pod.node.databases.find("_users") is not None
            assert pod.node.databases.find("_replicator") is not None
        told = [note for note in found.notes if "not played, but for" in note]
        assert sorted(note.split(" is ")[0] for note in told) == [
            "container set-up",
            "postStart of container couchdb",
        ]
    hook["postStart"]["exec"] = script("echo hello")
    with cluster(
        given(tmp_path, secret(), service(), statefulset(container={"lifecycle": hook}))
    ) as f:
        assert "postStart of container couchdb is not played" in f.notes


def test_why_a_pod_is_not_ready_is_known(tmp_path: Path) -> None:
    probe = {"httpGet": {"path": "/_up?x=1", "port": 5984}}
    rules = config_map("rules", rules="[chttpd]\nrequire_valid_user = true\n")
    place = "/opt/couchdb/etc/local.d/rules.ini"
    changed = {
        "readinessProbe": probe,
        "volumeMounts": [{"name": "rules", "mountPath": place, "subPath": "rules"}],
    }
    volume = {"volumes": [{"name": "rules", "configMap": {"name": "rules"}}]}
    whole = statefulset(container=changed, pod=volume)
    with cluster(given(tmp_path, secret(), service(), rules, whole)) as found:
        (pod,) = found.pods
        assert not pod.ready
        assert pod.unready_because == "its readinessProbe, GET /_up?x=1, is answered 401"


def test_all_pods_are_on_one_machine(tmp_path: Path) -> None:
    env = [{"name": "NODENAME", "valueFrom": {"fieldRef": {"fieldPath": "status.hostIP"}}}]
    manifests = given(tmp_path, secret(), service(), statefulset(container={"env": env}))
    with cluster(manifests) as found:
        assert any("on one machine" in note for note in found.notes)
        assert any("is given to several nodes" in note for note in found.notes)


def test_nodes_without_a_name_meet_nobody(tmp_path: Path) -> None:
    manifests = given(tmp_path, secret(), service(), statefulset(container={"env": []}))
    with cluster(manifests) as found:
        names = [pod.node.name for pod in found.pods if pod.node is not None]
        assert names == ["nonode@nohost"] * 2
        assert found.network.nodes == {}


def test_an_ordered_set_stops_at_a_pod_that_is_not_ready(tmp_path: Path) -> None:
    seeds = "[cluster]\nseedlist = couchdb@couch-1.couch.default.svc.cluster.local\n"
    changed: Object = {
        "container": {
            "readinessProbe": {"httpGet": {"path": "/_up", "port": 5984}},
            "volumeMounts": [
                {
                    "name": "ini",
                    "mountPath": "/opt/couchdb/etc/default.d/seeds.ini",
                    "subPath": "seeds",
                }
            ],
        },
        "pod": {"volumes": [{"name": "ini", "configMap": {"name": "ini"}}]},
    }
    manifests = given(
        tmp_path, secret(), config_map("ini", seeds=seeds), service(), statefulset(**changed)
    )
    with cluster(manifests) as found:
        assert [pod.name for pod in found.pods] == ["couch-0"]
        assert not found.pods[0].ready
        status = found.api.get("StatefulSet", "default", "couch")["status"]
        assert status["replicas"] == 1
        (part,) = found.api.find("EndpointSlice", "default")
        assert part["endpoints"][0]["conditions"]["ready"] is False
    changed["podManagementPolicy"] = "Parallel"
    manifests = given(
        tmp_path,
        secret(),
        config_map("ini", seeds=seeds),
        service(publishNotReadyAddresses=True),
        statefulset(**changed),
    )
    with cluster(manifests) as found:  # both are there, and found by their names
        assert waits(lambda: [pod.ready for pod in found.pods] == [True, True])


def test_what_is_missing_is_told_and_starts_nothing(tmp_path: Path) -> None:
    manifests = given(tmp_path, service(), statefulset())
    with cluster(manifests) as found:
        (pod,) = found.pods
        assert pod.node is None
        assert "Secret admin is not there" in pod.trouble
        (part,) = found.api.find("EndpointSlice", "default")
        assert part["endpoints"][0]["conditions"]["ready"] is False
    volumes = {"volumes": [{"name": "v", "configMap": {"name": "none"}}]}
    manifests = given(tmp_path, secret(), service(), statefulset(pod=volumes))
    with cluster(manifests) as found:  # without its volumes it has no address either
        assert "ConfigMap none is not there" in found.pods[0].trouble
        assert found.api.find("EndpointSlice", "default")[0]["endpoints"] is None


def test_a_node_that_is_bound_to_loopback_is_reached_by_nobody(tmp_path: Path) -> None:
    changed = {"volumeMounts": [{"name": "ini", "mountPath": "/opt/couchdb/etc/default.d"}]}
    manifests = given(
        tmp_path,
        secret(),
        config_map("ini", **{"a.ini": "[cluster]\nq = 2\n"}),
        service(),
        statefulset(
            container=changed,
            pod={"volumes": [{"name": "ini", "configMap": {"name": "ini"}}]},
        ),
    )
    with cluster(manifests) as found:
        assert found.pods[0].servers == []
        assert any("bind_address" in note for note in found.notes)


def test_https_is_served_where_the_certificate_is_there(tmp_path: Path) -> None:
    authority = trustme.CA()
    issued = authority.issue_cert("couch-0.couch.default.svc.cluster.local")
    tls = secret(
        "tls",
        **{
            "tls.crt": issued.cert_chain_pems[0].bytes().decode(),
            "tls.key": issued.private_key_pem.bytes().decode(),
        },
    )
    settings = "[ssl]\nenable = true\ncert_file = /tls/tls.crt\nkey_file = /tls/tls.key\n"
    changed = {
        "volumeMounts": [
            {"name": "tls", "mountPath": "/tls"},
            {"name": "ini", "mountPath": "/opt/couchdb/etc/local.d/s.ini", "subPath": "s"},
        ]
    }
    volumes = [
        {"name": "tls", "secret": {"secretName": "tls"}},
        {"name": "ini", "configMap": {"name": "ini"}},
    ]
    whole = statefulset(container=changed, pod={"volumes": volumes}, replicas=1)
    manifests = given(tmp_path, secret(), tls, config_map("ini", s=settings), service(), whole)
    with cluster(manifests) as found:
        context = ssl.create_default_context()
        authority.configure_trust(context)
        context.check_hostname = False
        address = found.pods[0].address
        connection = http.client.HTTPSConnection(address, 6984, timeout=5, context=context)
        connection.request("GET", "/")
        assert connection.getresponse().status == 200
        connection.close()
        assert list(found.kubeconfig.parent.iterdir()) == [found.kubeconfig]
    manifests = given(tmp_path, secret(), secret("tls", other="x"), config_map("ini", s=settings),
                      service(), whole)  # fmt: skip
    with cluster(manifests) as found:
        assert len(found.pods[0].servers) == 1
        assert any("https is not played" in note for note in found.notes)


def test_nothing_is_left_behind(tmp_path: Path) -> None:
    before = threading.active_count()
    with cluster(given(tmp_path, secret(), service(), statefulset())) as found:
        folder = found.kubeconfig.parent
        assert folder.exists()
    found.close()
    assert not folder.exists()
    assert threading.active_count() == before


# --- whose container is whose ---


@pytest.mark.parametrize(
    ("containers", "name"),
    [
        ([("db", "couchdb:3"), ("exporter", "couchdb-exporter:1")], "db"),
        ([("couchdb", "example.com/own:1"), ("side", "busybox")], "couchdb"),
        ([("couch", "example.com/own:1"), ("side", "busybox")], "couch"),
        ([("only", "example.com/own:1")], "only"),
        ([("a", "couchdb:3"), ("couchdb", "couchdb:3")], "couchdb"),
        ([("a", "own:1"), ("b", "own:1")], None),
    ],
)
def test_the_container_that_runs_couchdb(
    containers: list[tuple[str, str]], name: str | None
) -> None:
    pod = {"containers": [{"name": n, "image": image} for n, image in containers]}
    found = couchdb_container(statefulset(pod=pod))
    assert (found and found["name"]) == name


@pytest.mark.parametrize(
    ("container", "words"),
    [
        ({"image": "ghcr.io/x/couchdiscover:1"}, ()),
        ({"image": "couchdiscover", "args": ["run", "--timeout=5m"]}, ("run", "--timeout=5m")),
        ({"image": "python", "command": ["python", "-m", "couchdiscover", "run"]}, ("run",)),
        ({"image": "own", "command": ["/bin/couchdiscover"], "args": ["-s", "a"]}, ("-s", "a")),
        (
            {"image": "own", "command": ["sh", "-c", "set -e; couchdiscover run -s 'a' || exit 1"]},
            ("run", "-s", "a"),
        ),
        ({"image": "couchdiscover", "args": ["check", "--wait"]}, None),
        ({"image": "busybox", "command": ["sh", "-c", "echo couchdiscovery"]}, None),
        ({"image": "busybox"}, None),
    ],
)
def test_how_a_container_calls_couchdiscover(
    container: Object, words: tuple[str, ...] | None
) -> None:
    pod = {"initContainers": [{"name": "ours", **container}]}
    found = companions.in_template(statefulset(pod=pod))
    assert [companion.words for companion in found] == ([] if words is None else [words])


def test_a_job_counts_for_the_set_that_it_names(tmp_path: Path) -> None:
    def job(name: str, *arguments: str) -> Object:
        container = {"name": "c", "image": "couchdiscover", "args": ["run", *arguments]}
        template = {"spec": {"containers": [container]}}
        return {
            "apiVersion": "batch/v1",
            "kind": "Job",
            "metadata": {"name": name},
            "spec": {"template": template},
        }

    manifests = given(
        tmp_path, job("other", "--statefulset=other"), job("ours", "-s", "couch"), statefulset()
    )
    found = companions.in_jobs(manifests, "default", "couch")
    assert [companion.where for companion in found] == ["Job ours"]
    assert companions.in_jobs(manifests, "elsewhere", "couch") == []
