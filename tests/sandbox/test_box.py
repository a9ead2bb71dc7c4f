"""The sandbox as a whole: what Kubernetes shows of the nodes, and what can happen to them."""

import asyncio
import base64
import ipaddress
import json
import os
import re
import signal
import socket
import ssl
import subprocess
import sys
import textwrap
import time
from pathlib import Path
from typing import Any

import pykube
import pytest
import requests
import trustme

from couchdiscover.sandbox import Proceed, Sandbox, loopback
from couchdiscover.sandbox import box as box_module
from couchdiscover.sandbox.http import Loop, Request, Response, Wire
from couchdiscover.sandbox.real import RealNetwork, RealNode
from tests.support.releases import real_homes

RECORDED = Path(__file__).parents[1] / "recorded" / "k8s-1.36.2"
LOGIN = ("admin", "pass wörd".encode())


def make(nodes: int = 3, **options: Any) -> Sandbox:
    return Sandbox(nodes, **{"pace": 0.0, "password": "pass wörd", **options})


def recorded(name: str) -> Any:
    return json.loads((RECORDED / f"{name}.json").read_text())


def ask(box: Sandbox, pod: str, path: str, method: str = "GET", **more: Any) -> Any:
    host, port = box.address(pod)
    url = f"http://{host}:{port}{path}"
    return requests.request(method, url, **{"auth": LOGIN, "timeout": 10, **more})


def members(box: Sandbox, pod: str) -> set[str]:
    return set(ask(box, pod, "/_membership").json()["all_nodes"])


def join(box: Sandbox, pod: str, other: str) -> None:
    name = box.nodes[other].name
    assert ask(box, pod, f"/_node/_local/_nodes/{name}", "PUT", json={}).status_code == 201


def client(box: Sandbox) -> pykube.HTTPClient:
    http = pykube.HTTPClient(pykube.KubeConfig.from_file(str(box.kubeconfig)))
    http.session.trust_env = False
    return http


def slices(box: Sandbox) -> list[Any]:
    return list(box.api.find("EndpointSlice", box.deployment.namespace))


def endpoints(box: Sandbox) -> Any:
    return box.api.get("Endpoints", box.deployment.namespace, box.deployment.service)


def conditions(box: Sandbox) -> dict[str, tuple[bool, bool, bool]]:
    """Ready, serving and terminating, by pod."""
    return {
        endpoint["targetRef"]["name"]: tuple(endpoint["conditions"].values())
        for part in slices(box)
        for endpoint in part["endpoints"] or ()
    }


def addresses(box: Sandbox) -> tuple[set[str], set[str]]:
    """The pods in the v1 Endpoints: ready ones, and others."""
    lists: tuple[set[str], set[str]] = (set(), set())
    for subset in endpoints(box).get("subsets", ()):
        for names, key in zip(lists, ("addresses", "notReadyAddresses"), strict=True):
            names.update(entry["targetRef"]["name"] for entry in subset.get(key, ()))
    return lists


# --- the objects ---


def shape(found: Any) -> Any:
    """Keys and types; lists by the shape of their first entry."""
    if isinstance(found, dict):
        return {key: shape(value) for key, value in found.items()}
    if isinstance(found, list):
        return [shape(entry) for entry in found[:1]]
    return type(found).__name__


def without(found: Any, *keys: str) -> Any:
    """Leaves out what tells how an object came to be, and not what it is."""
    for key in ("managedFields", "annotations", *keys):
        found["metadata"].pop(key, None)
    return found


def own(found: Any) -> Any:
    """Our label set differs from the recorded deployment's; its type does not."""
    found["metadata"]["labels"].pop("app")
    return without(found)


@pytest.mark.parametrize(("running", "name"), [(False, "2-init-running"), (True, "5-all-ready")])
def test_endpoints_and_slices_look_as_recorded(running: bool, name: str) -> None:
    with make(running=running) as box:
        theirs = recorded(f"endpointslices-{name}")["items"][0]
        ours = slices(box)
        assert len(ours) == 1
        for endpoint, real in zip(ours[0]["endpoints"], theirs["endpoints"], strict=True):
            assert shape(endpoint) == shape(real)
            assert endpoint["conditions"] == real["conditions"]
            assert endpoint["targetRef"]["name"] == endpoint["hostname"]
        assert {p["name"] for p in ours[0]["ports"]} == {p["name"] for p in theirs["ports"]}
        theirs["metadata"].pop("generation")
        theirs = {"kind": "", "apiVersion": "", **theirs}  # only lists leave these out
        assert shape(own(ours[0])) == shape(own(theirs))
        assert shape(own(endpoints(box))) == shape(own(recorded(f"endpoints-{name}")))


def test_without_any_address_there_are_no_endpoints() -> None:
    with make(2) as box:
        for pod in box.pods:
            box.set_phase(pod, "pending")
            assert "POD_IP" not in box.environment(pod)
        assert [(part["endpoints"], part["ports"]) for part in slices(box)] == [(None, None)]
        assert "subsets" not in endpoints(box)
        assert "podIP" not in box.api.get("Pod", "default", "couchdb-0")["status"]
        box.set_phase("couchdb-0", "running")
        assert conditions(box).keys() == {"couchdb-0"}


def test_unready_pods_stay_published_where_the_service_says_so() -> None:
    with make(3) as box:
        box.stop("couchdb-1")
        box.set_phase("couchdb-2", "terminating")
        assert conditions(box) == {
            "couchdb-0": (True, True, False),
            "couchdb-1": (True, False, False),
            "couchdb-2": (True, True, True),
        }
        assert addresses(box) == ({"couchdb-0", "couchdb-1", "couchdb-2"}, set())


def test_unready_pods_are_told_apart_where_it_does_not() -> None:
    with make(3, publish_not_ready=False) as box:
        box.stop("couchdb-1")
        box.set_phase("couchdb-2", "terminating")
        assert conditions(box) == {
            "couchdb-0": (True, True, False),
            "couchdb-1": (False, False, False),
            "couchdb-2": (False, True, True),
        }
        assert addresses(box) == ({"couchdb-0"}, {"couchdb-1"})
        service = box.api.get("Service", "default", "couchdb")
        assert "publishNotReadyAddresses" not in service["spec"]
        box.start("couchdb-1")
        assert addresses(box) == ({"couchdb-0", "couchdb-1"}, set())


def test_the_statefulset_looks_as_recorded() -> None:
    with make(3) as box:
        theirs = without(recorded("statefulset-5-all-ready"))
        ours = box.api.get("StatefulSet", "default", "couchdb")
        assert shape(ours["metadata"]) == shape(theirs["metadata"])
        assert shape(ours["status"]) == shape(theirs["status"])
        assert ours["status"]["readyReplicas"] == 3
        template = theirs["spec"].pop("template")["spec"]
        assert shape(ours["spec"].pop("template")["metadata"]) == {"labels": {"app": "str"}}
        (claim,) = ours["spec"].pop("volumeClaimTemplates")  # the recorded one had an emptyDir
        assert claim["metadata"] == {"name": "database-storage"}
        assert shape(ours["spec"]) == shape(theirs["spec"])
        assert {"volumes", "containers", "restartPolicy", "dnsPolicy"} <= template.keys()
        for pod in box.pods:
            box.stop(pod)
        status = box.api.get("StatefulSet", "default", "couchdb")["status"]
        pending = recorded("statefulset-1-pending")["status"]
        assert shape(status) == shape(pending)
        box.scale(0)
        status = box.api.get("StatefulSet", "default", "couchdb")["status"]
        assert shape(status) == shape(recorded("variant-statefulset-zero")["status"])


def test_a_service_that_the_set_does_not_name_gives_no_host_names() -> None:
    with make(1, service="") as box:
        assert box.api.get("StatefulSet", "default", "couchdb")["spec"]["serviceName"] == ""
        assert [part["endpoints"][0].get("hostname") for part in slices(box)] == [None]
        assert "hostname" not in endpoints(box)["subsets"][0]["addresses"][0]
        assert box.node("couchdb-0").name == "couchdb@couchdb-0.couchdb.default.svc.cluster.local"


def environment_of(box: Sandbox, container: str) -> dict[str, str]:
    """A container's environment, as far as it is values and Secrets."""
    deployment = box.deployment
    found = box.api.get("StatefulSet", deployment.namespace, deployment.statefulset)
    entries = next(
        entry["env"]
        for entry in found["spec"]["template"]["spec"]["containers"]
        if entry["name"] == container
    )
    values = {}
    for entry in entries:
        reference = entry.get("valueFrom", {}).get("secretKeyRef")
        if reference is not None:
            data = box.api.get("Secret", deployment.namespace, reference["name"])["data"]
            values[entry["name"]] = base64.b64decode(data[reference["key"]]).decode()
        elif "value" in entry:
            values[entry["name"]] = entry["value"]
    return values


def test_the_official_image() -> None:
    with make(2) as box:
        values = environment_of(box, "couchdb")
        assert values["COUCHDB_USER"] == "admin"
        assert values["COUCHDB_PASSWORD"] == "pass wörd"
        assert values["COUCHDB_SECRET"] == box.node("couchdb-0").config.secret
        assert values["COUCHDB_ERLANG_COOKIE"] == box.node("couchdb-1").cookie
        assert values["NODENAME"] == "$(POD_NAME).couchdb.default.svc.cluster.local"
    with make(1, secret=False, cookie=None) as box:
        values = environment_of(box, "couchdb")
        assert not {"COUCHDB_SECRET", "COUCHDB_ERLANG_COOKIE"} & values.keys()
        assert box.node("couchdb-0").config.secret is None


def test_the_helm_chart() -> None:
    with make(2, style="helm", statefulset="db-couchdb") as box:
        values = environment_of(box, "couchdb")
        assert (values["COUCHDB_USER"], values["COUCHDB_PASSWORD"]) == ("admin", "pass wörd")
        secret = box.api.get("Secret", "default", "db-couchdb")
        assert {"adminUsername", "adminPassword", "cookieAuthSecret", "erlangCookie"} == set(
            secret["data"]
        )
        assert [port["name"] for port in slices(box)[0]["ports"]] == ["metrics", "couchdb"]
        assert slices(box)[0]["ports"][1]["port"] == box.address("db-couchdb-0")[1]
        spec = box.api.get("StatefulSet", "default", "db-couchdb")["spec"]
        assert spec["serviceName"] == "db-couchdb"
        assert spec["selector"]["matchLabels"] == {"app": "couchdb", "release": "db"}
        template = spec["template"]["spec"]
        assert len(template["containers"]) == 2
        assert template["containers"][1]["name"] == "couchdb"
        assert template["initContainers"]


def test_the_predecessors() -> None:
    with make(3, style="predecessor", statefulset="my-couch") as box:
        values = environment_of(box, "my-couch")
        assert values["COUCHDB_ADMIN_USER"] == "admin"
        assert values["COUCHDB_ADMIN_PASS"] == "pass wörd"
        assert values["ERLANG_COOKIE"] == "sandbox-cookie"
        assert values["COUCHDB_CLUSTER_SIZE"] == "3"
        assert [port["name"] for port in slices(box)[0]["ports"]] == [""]
        assert "name" not in endpoints(box)["subsets"][0]["ports"][0]
        box.scale(4)
        assert environment_of(box, "my-couch")["COUCHDB_CLUSTER_SIZE"] == "4"


def test_what_a_test_changed_stays_so() -> None:
    with make(1) as box:
        found = box.api.get("StatefulSet", "default", "couchdb")
        found["spec"]["replicas"] = 7
        box.api.put(found)
        box.stop("couchdb-0")
        found = box.api.get("StatefulSet", "default", "couchdb")
        assert found["spec"]["replicas"] == 7
        assert "readyReplicas" not in found["status"]
        box.api.remove("StatefulSet", "default", "couchdb")
        box.start("couchdb-0")
        with pytest.raises(KeyError):
            box.api.get("StatefulSet", "default", "couchdb")


def test_names_ordinals_and_domain() -> None:
    with make(
        2, statefulset="a-b", namespace="db", service="n", domain="k.example", ordinals_start=9
    ) as box:
        assert box.pods == ["a-b-9", "a-b-10"]
        assert box.node("a-b-10").name == "couchdb@a-b-10.n.db.svc.k.example"
        spec = box.api.get("StatefulSet", "db", "a-b")["spec"]
        assert (spec["ordinals"], spec["serviceName"]) == ({"start": 9}, "n")
        environment = box.environment("a-b-9")
        assert environment["COUCHDISCOVER_STATEFULSET"] == "a-b"
        assert (environment["POD_NAME"], environment["POD_NAMESPACE"]) == ("a-b-9", "db")
        assert environment["POD_IP"] == box.address("a-b-9")[0]
        assert environment["COUCHDISCOVER_CLUSTER_DOMAIN"] == "k.example"
        assert "HOSTNAME" not in environment


def test_never_credentials_in_the_environment() -> None:
    with make(1, style="helm", token="the-token") as box:
        text = json.dumps(box.environment("couchdb-0"))
        for secret in ("pass w", "the-token", "sandbox-cookie", box.deployment.secret or "?"):
            assert secret not in text


# --- addresses ---


def test_each_node_has_an_address_of_its_own() -> None:
    with make(3) as one, make(3) as other:
        found = [box.address(pod) for box in (one, other) for pod in box.pods]
        if not one._addresses.has_hosts:
            pytest.skip("this system has only 127.0.0.1")
        assert len({host for host, _ in found}) == 6
        assert len({port for _, port in found[:3]}) == 1
        assert all(ipaddress.ip_address(host).is_loopback for host, _ in found)
        assert "127.0.0.1" not in [host for host, _ in found]
        host, port = one.address("couchdb-1")
        assert slices(one)[0]["endpoints"][1]["addresses"] == [host]
        assert {"name": "couchdb", "protocol": "TCP", "port": port} in slices(one)[0]["ports"]
        with pytest.raises(ConnectionRefusedError):
            socket.create_connection(("127.0.0.1", port), timeout=1)


def test_where_there_is_only_one_each_node_has_a_port_and_a_slice(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    several = loopback.is_free
    monkeypatch.setattr(
        loopback, "is_free", lambda host, port: host == "127.0.0.1" and several(host, port)
    )
    with make(3) as box:
        found = [box.address(pod) for pod in box.pods]
        assert {host for host, _ in found} == {"127.0.0.1"}
        assert len({port for _, port in found}) == 3
        assert len(slices(box)) == len(endpoints(box)["subsets"]) == 3
        published = {
            part["endpoints"][0]["targetRef"]["name"]: part["ports"][0]["port"]
            for part in slices(box)
        }
        assert published == {pod: box.address(pod)[1] for pod in box.pods}
        join(box, "couchdb-1", "couchdb-0")
        assert len(members(box, "couchdb-0")) == 2
        box.replace("couchdb-1")
        box.scale(2)
        assert len(slices(box)) == 2
        with pytest.raises(OSError, match="loopback address each"):
            make(real=Path("/nowhere"))


def test_addresses_that_are_taken_are_passed_over() -> None:
    addresses = loopback.Addresses()
    host, port = addresses.take()
    following = str(ipaddress.ip_address(host) + 1)
    with socket.socket() as taken:
        taken.bind((following, port))
        taken.listen()
        assert addresses.take()[0] not in (host, following)
    addresses.port = -1
    with pytest.raises((OSError, OverflowError)):
        addresses.take()


# --- what can happen ---


def test_a_stopped_node_refuses_and_is_gone_from_the_cluster() -> None:
    with make(2) as box:
        join(box, "couchdb-1", "couchdb-0")
        assert len(members(box, "couchdb-0")) == 2
        session = requests.Session()
        host, port = box.address("couchdb-1")
        assert session.get(f"http://{host}:{port}/", timeout=5).status_code == 200
        box.stop("couchdb-1")
        with pytest.raises(requests.ConnectionError):
            session.get(f"http://{host}:{port}/", timeout=5)
        assert members(box, "couchdb-0") == {box.nodes["couchdb-0"].name}
        box.start("couchdb-1")
        assert box.address("couchdb-1") == (host, port)
        assert len(members(box, "couchdb-1")) == 2
        box.stop("couchdb-1")
        box.stop("couchdb-1")
        box.start("couchdb-1")
        box.start("couchdb-1")
        assert session.get(f"http://{host}:{port}/", timeout=5).status_code == 200


def test_a_restarted_container_keeps_its_data_and_changes_its_identity() -> None:
    with make(2) as box:
        join(box, "couchdb-1", "couchdb-0")
        hashed = box.node("couchdb-1").config.admins["admin"]
        box.restart("couchdb-1")
        assert box.node("couchdb-1").config.admins["admin"] != hashed
        assert len(members(box, "couchdb-1")) == 2


@pytest.mark.parametrize("data", [True, False])
def test_a_replaced_pod_is_another_one(data: bool) -> None:
    with make(2) as box:
        join(box, "couchdb-1", "couchdb-0")
        old, uid = box.address("couchdb-1"), box.api.get("Pod", "default", "couchdb-1")["metadata"]
        box.replace("couchdb-1", data=data)
        assert (box.address("couchdb-1") == old) is not box._addresses.has_hosts
        assert box.api.get("Pod", "default", "couchdb-1")["metadata"]["uid"] != uid["uid"]
        known = ask(box, "couchdb-1", "/_node/_local/_nodes/_all_docs").json()["rows"]
        assert len(known) == 2  # with its data it knew; without, the other one told it
        assert box.address("couchdb-1")[0] in json.dumps(slices(box))
        assert old[0] not in json.dumps(slices(box)) or not box._addresses.has_hosts


def test_a_wiped_node_has_nothing() -> None:
    with make(2) as box:
        join(box, "couchdb-1", "couchdb-0")
        box.stop("couchdb-0")
        box.wipe("couchdb-1")
        assert members(box, "couchdb-1") == {box.nodes["couchdb-1"].name}
        box.wipe("couchdb-0")
        assert not box.nodes["couchdb-0"].running, "it was down, and is"


def test_scaling_up_and_down() -> None:
    with make(2) as box:
        join(box, "couchdb-1", "couchdb-0")
        box.scale(3)
        assert box.pods == list(box.nodes) == ["couchdb-0", "couchdb-1", "couchdb-2"]
        assert members(box, "couchdb-2") == {box.nodes["couchdb-2"].name}
        found = box.api.get("StatefulSet", "default", "couchdb")
        assert (found["spec"]["replicas"], found["metadata"]["generation"]) == (3, 2)
        box.scale(1)
        assert list(box.nodes) == ["couchdb-0"]
        assert conditions(box).keys() == {"couchdb-0"}
        assert [pod["metadata"]["name"] for pod in box.api.find("Pod", "default")] == ["couchdb-0"]
        with pytest.raises(KeyError):
            box.address("couchdb-1")
        known = ask(box, "couchdb-0", "/_membership").json()["cluster_nodes"]
        assert len(known) == 2, "a member that is gone stays a member"
        box.scale(2, running=False)
        assert not box.nodes["couchdb-1"].running


def test_pods_that_do_not_exist_yet() -> None:
    with make(1, replicas=3) as box:
        assert box.pods == ["couchdb-0", "couchdb-1", "couchdb-2"]
        assert list(box.nodes) == ["couchdb-0"]
        found = box.api.get("StatefulSet", "default", "couchdb")
        assert (found["spec"]["replicas"], found["status"]["replicas"]) == (3, 1)
        box.start("couchdb-1")
        assert conditions(box).keys() == {"couchdb-0", "couchdb-1"}
        box.delete("couchdb-0")
        assert conditions(box).keys() == {"couchdb-1"}


def test_options_of_nodes() -> None:
    options = {"couchdb-1": {"bind_address": "127.0.0.1"}}
    with make(2, node_options={"version": "3.3.3"}, pod_options=options) as box:
        assert ask(box, "couchdb-0", "/").json()["version"] == "3.3.3"
        states = [ask(box, pod, "/_cluster_setup").json()["state"] for pod in box.pods]
        assert states == ["cluster_enabled", "cluster_disabled"]


# --- requests ---


def test_requests_come_in_the_order_of_time() -> None:
    with make(2) as box:
        ask(box, "couchdb-1", "/_up")
        ask(box, "couchdb-0", "/_node/_local/_nodes/couchdb%40x?new=1", "PUT", json={})
        ask(box, "couchdb-1", "/_up", "HEAD")
        found = [(r.pod, r.method, r.path, r.status) for r in box.requests()]
        assert found == [
            ("couchdb-1", "GET", "/_up", 200),
            ("couchdb-0", "PUT", "/_node/_local/_nodes/couchdb%40x", 201),
            ("couchdb-1", "HEAD", "/_up", 200),
        ]
        times = [r.time for r in box.requests()]
        assert times == sorted(times)
        assert [r.request.json() for r in box.writes()] == [{}]
        assert box.requests()[1].request.node == "couchdb-0"
        assert "authorization" not in repr(box.requests()), "no password where a test prints it"


def test_faults_can_be_put_in_between() -> None:
    seen: list[str] = []

    async def meddle(pod: str, request: Request, proceed: Proceed) -> Response | Wire:
        seen.append(pod)
        if request.path == "/_up":
            return Response(503, {"error": "unwell"})
        if request.path == "/_membership":
            return Wire(reset=True)
        return await proceed()

    with make(1) as box:
        box.intercept = meddle
        assert ask(box, "couchdb-0", "/_up").status_code == 503
        with pytest.raises(requests.ConnectionError):
            ask(box, "couchdb-0", "/_membership")
        assert ask(box, "couchdb-0", "/").status_code == 200
        pykube.StatefulSet.objects(client(box), namespace="default").get_by_name("couchdb")
        assert seen == ["couchdb-0"] * 3 + [box_module.API]
        assert [r.status for r in box.requests()] == [503, 0, 200]


def test_a_node_can_be_killed_by_a_request_that_comes_in() -> None:
    with make(2) as box:

        async def kill(pod: str, request: Request, proceed: Proceed) -> Response | Wire:
            answer = await proceed(request)
            if request.method == "PUT":
                await asyncio.to_thread(box.stop, pod, kill=True)
            return answer

        box.intercept = kill
        with pytest.raises(requests.ConnectionError):
            join(box, "couchdb-1", "couchdb-0")
        end = time.monotonic() + 10  # the client hears of it before the thread is through
        while conditions(box)["couchdb-1"] != (True, False, False) and time.monotonic() < end:
            time.sleep(0.01)
        assert conditions(box)["couchdb-1"] == (True, False, False)
        assert not box.nodes["couchdb-1"].running


def test_a_handler_that_would_wait_for_itself_is_told() -> None:
    loop = Loop()

    async def handler(request: Request) -> Response | Wire:
        with pytest.raises(RuntimeError, match="to_thread"):
            loop.stop(server)
        return Response(200, {})

    server = loop.serve(handler, "127.0.0.1")
    assert requests.get(f"http://127.0.0.1:{server.port}/", timeout=5).status_code == 200
    loop.close()


# --- the API and the kubeconfig ---


def test_the_kubeconfig_leads_pykube_to_the_objects() -> None:
    with make(2, namespace="db") as box:
        http = client(box)
        assert http.config.namespace == "db"
        found = pykube.StatefulSet.objects(http, namespace="db").get_by_name("couchdb")
        assert found.replicas == 2
        pods = pykube.Pod.objects(http, namespace="db").filter(selector={"app": "couchdb"})
        assert sorted(pod.name for pod in pods) == box.pods
        assert all(pod.obj["status"]["podIP"] == box.address(pod.name)[0] for pod in pods)
        box.stop_api()
        with pytest.raises(requests.ConnectionError):
            found.reload()
        box.start_api()
        found.reload()
        assert [request.status for request in box.api.requests] == [200] * 3


def test_a_token_that_is_rotated() -> None:
    with make(1, token="one") as box:
        old = client(box)
        pykube.StatefulSet.objects(old, namespace="default").get_by_name("couchdb")
        box.api.tokens.clear()
        box.write_kubeconfig(token="two")
        with pytest.raises(pykube.exceptions.HTTPError):
            pykube.StatefulSet.objects(old, namespace="default").get_by_name("couchdb")
        pykube.StatefulSet.objects(client(box), namespace="default").get_by_name("couchdb")
        assert box.kubeconfig.stat().st_mode & 0o077 == 0


def test_without_slices_the_api_knows_no_such_group() -> None:
    with make(1, slices=False) as box:
        url = f"{box.api.url}/apis/discovery.k8s.io/v1/namespaces/default/endpointslices"
        assert requests.get(url, timeout=5).status_code == 404
        assert addresses(box) == ({"couchdb-0"}, set())


def test_tls_on_both_sides(tmp_path: Path) -> None:
    authority = trustme.CA()
    ca_file = tmp_path / "ca.pem"
    authority.cert_pem.write_to_path(str(ca_file))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("couchdb-0.couchdb.default.svc.cluster.local").configure_cert(context)
    with make(1, tls=context, api_tls=context) as box:
        host, port = box.address("couchdb-0")
        trusting = ssl.create_default_context(cafile=str(ca_file))
        name = "couchdb-0.couchdb.default.svc.cluster.local"
        with (
            socket.create_connection((host, port), timeout=5) as plain,
            trusting.wrap_socket(plain, server_hostname=name) as secure,
        ):
            secure.sendall(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
            assert secure.recv(12) == b"HTTP/1.1 200"
        assert box.environment()["COUCHDISCOVER_SCHEME"] == "https"
        with pytest.warns(match="Unverified"):
            pykube.StatefulSet.objects(client(box), namespace="default").get_by_name("couchdb")
        box.write_kubeconfig(ca_file=ca_file)
        with pytest.raises(requests.exceptions.SSLError):  # the certificate is for another host
            pykube.StatefulSet.objects(client(box), namespace="default").get_by_name("couchdb")


# --- the end ---


def test_nothing_is_left_behind() -> None:
    box = make(2)
    with pytest.raises(RuntimeError, match="not open"):
        box.environment()
    with box:
        folder = box.kubeconfig.parent
        host, port = box.address("couchdb-0")
        assert folder.is_dir()
    assert not folder.exists()
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection((host, port), timeout=1)
    box.close()


def test_a_sandbox_that_cannot_open_leaves_nothing_either(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    with pytest.raises(FileNotFoundError, match="no CouchDB in"), make(real=tmp_path / "none"):
        pass
    assert list(tmp_path.iterdir()) == []


def test_a_server_that_is_gone_for_a_moment() -> None:
    with make(1) as box:

        async def vanish(pod: str, request: Request, proceed: Proceed) -> Wire:
            box.intercept = None
            return Wire(reset=True, refusing=0.3)

        box.intercept = vanish
        with pytest.raises(requests.ConnectionError):
            ask(box, "couchdb-0", "/_up")
        with pytest.raises(requests.ConnectionError, match="refused"):
            ask(box, "couchdb-0", "/_up")
        time.sleep(1.0)
        assert ask(box, "couchdb-0", "/_up").status_code == 200
        box.intercept = vanish
        with pytest.raises(requests.ConnectionError):
            ask(box, "couchdb-0", "/_up")
        box.stop("couchdb-0")
        time.sleep(0.5)
        assert loopback.is_free(*box.address("couchdb-0")), "it was stopped, and stays so"


def test_a_hundred_nodes_are_nothing_special() -> None:
    started = time.monotonic()
    with make(100) as box:
        assert len(slices(box)[0]["endpoints"]) == 100
        assert ask(box, "couchdb-99", "/_up").status_code == 200
    assert time.monotonic() - started < 10


def release(box: Sandbox, pod: str) -> str:
    return str(ask(box, pod, "/").headers["server"]).split()[0].partition("/")[2]


def test_nodes_of_different_releases_and_their_upgrade() -> None:
    with make(2, version="3.3.3", pod_options={"couchdb-1": {"version": "3.5.2"}}) as box:
        join(box, "couchdb-1", "couchdb-0")
        assert [release(box, pod) for pod in box.pods] == ["3.3.3", "3.5.2"]
        assert len(members(box, "couchdb-0")) == 2
        box.upgrade("couchdb-0", "3.4.3")
        assert release(box, "couchdb-0") == "3.4.3"
        assert len(members(box, "couchdb-0")) == 2
        box.stop("couchdb-1")
        box.upgrade("couchdb-1", "3.3.3")
        assert not box.nodes["couchdb-1"].running
        box.start("couchdb-1")
        assert release(box, "couchdb-1") == "3.3.3"
        box.scale(3)
        assert release(box, "couchdb-2") == "3.3.3"
        with pytest.raises(TypeError, match="no release"):
            box.upgrade("couchdb-0", Path("/"))


# --- real nodes ---


@pytest.mark.parametrize("home", real_homes() or [None], ids=str)
def test_real_nodes_form_a_cluster(home: Path | None) -> None:
    if home is None:
        pytest.skip("COUCHDB_HOME names no installed CouchDB release")
    with make(2, real=home) as box:
        join(box, "couchdb-1", "couchdb-0")
        for pod in box.pods:
            until(lambda pod=pod: len(members(box, pod)) == 2)
        assert box.nodes["couchdb-0"].requests is None
        with pytest.raises(RuntimeError, match="not recorded"):
            box.requests()
        with pytest.raises(TypeError, match="real"):
            box.node("couchdb-0")
        box.stop("couchdb-1")
        until(lambda: len(members(box, "couchdb-0")) == 1)
        box.start("couchdb-1")
        until(lambda: len(members(box, "couchdb-0")) == 2)
        box.stop("couchdb-0")
        box.wipe("couchdb-1")
        box.scale(3)
        for pod in ("couchdb-1", "couchdb-2"):
            # On its first boot a node refuses the right password until it has hashed it.
            until(lambda pod=pod: ask(box, pod, "/_membership").ok)
            assert len(members(box, pod)) == 1


@pytest.mark.skipif(len(real_homes()) < 2, reason="COUCHDB_HOME names no two CouchDB releases")
def test_real_nodes_of_two_releases_are_one_cluster_before_and_after_an_upgrade() -> None:
    new, *_, old = real_homes()
    with make(2, real=new, pod_options={"couchdb-1": {"home": old}}) as box:
        join(box, "couchdb-1", "couchdb-0")
        for pod in box.pods:
            until(lambda pod=pod: len(members(box, pod)) == 2)
        assert release(box, "couchdb-0") != release(box, "couchdb-1")
        box.upgrade("couchdb-1", new)
        assert release(box, "couchdb-0") == release(box, "couchdb-1")
        until(lambda: len(members(box, "couchdb-1")) == 2)


def until(condition: Any, seconds: float = 45) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.1)


FAKE = """\
#!{python}
import http.server, json, os, re, signal, sys, time
ini = open(os.environ["COUCHDB_INI_FILES"].split()[1]).read()
address = re.search(r"bind_address = (.*)", ini)[1]
port = int(re.search(r"^port = (.*)", ini, re.M)[1])
if os.path.exists(os.path.join(os.environ["HOME"], "fail")):
    sys.exit("cannot start")
if os.fork() == 0:
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    time.sleep(600)
class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    def do_GET(self):
        length = int(self.headers.get("content-length", 0))
        told = json.dumps([self.command, self.path, len(self.rfile.read(length))]).encode()
        self.send_response(200)
        self.send_header("X-Fake", "yes")
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(b"%x\\r\\n%s\\r\\n0\\r\\n\\r\\n" % (len(told), told))
    do_HEAD = do_POST = do_GET
http.server.HTTPServer((address, port), Handler).serve_forever()
"""
"""A program that is started and ended as CouchDB is, with a child that will not end by itself."""


@pytest.fixture
def home(tmp_path: Path) -> Path:
    if not loopback.Addresses().has_hosts:
        pytest.skip("this system has only 127.0.0.1")
    program = tmp_path / "home" / "bin" / "couchdb"
    program.parent.mkdir(parents=True)
    program.write_text(FAKE.format(python=sys.executable))
    program.chmod(0o755)
    arguments = "# about\n-name couchdb@127.0.0.1\n\n-kernel error_logger silent\n"
    (tmp_path / "home" / "etc").mkdir()
    (tmp_path / "home" / "etc" / "vm.args").write_text(arguments)
    return tmp_path / "home"


def in_group(number: int) -> bool:
    """Whether a process group has a member that is no zombie."""
    listing = subprocess.run(
        ["ps", "-eo", "pgid=,stat="], capture_output=True, text=True, check=True
    ).stdout
    pattern = re.compile(rf"\s*{number}\s+[^Z]")
    return any(pattern.match(line) for line in listing.splitlines())


def test_processes_of_nodes_are_started_and_ended(home: Path) -> None:
    with make(2, real=home) as box:
        node = box.nodes["couchdb-1"]
        assert isinstance(node, RealNode)
        assert node._process is not None
        group = node._process.pid
        assert in_group(group)
        box.stop("couchdb-1")
        assert not in_group(group), "the child that ignores SIGTERM is gone too"
        assert not node.running
        box.start("couchdb-1")
        box.restart("couchdb-1")
        box.wipe("couchdb-1")
        box.replace("couchdb-1", data=False)
        assert node.running
        (node.folder / "fail").touch()
        box.stop("couchdb-1", kill=True)
        with pytest.raises(RuntimeError, match="cannot start"):
            box.start("couchdb-1")
        box.scale(1)
        box.scale(2)
        node = box.nodes["couchdb-1"]
        assert isinstance(node, RealNode)
        assert node.running, "a new one in the place of the one that was there"
        assert node._process is not None
        group = node._process.pid
    until(lambda: not in_group(group), 5)


def test_a_front_sees_what_real_nodes_are_asked(home: Path) -> None:
    with make(2, real=home, front=True) as box:
        answer = ask(box, "couchdb-1", "/some%2Fdb?rev=1", "POST", json={"amount": 1})
        assert (answer.status_code, answer.json()) == (200, ["POST", "/some%2Fdb?rev=1", 13])
        assert answer.headers["x-fake"] == "yes"
        assert ask(box, "couchdb-1", "/", "HEAD").text == ""
        assert [(r.pod, r.method, r.path, r.status) for r in box.writes()] == [
            ("couchdb-1", "POST", "/some%2Fdb", 200)
        ]

        async def spoil(pod: str, request: Request, proceed: Proceed) -> Response | Wire:
            await proceed()
            return Response(418)

        box.intercept = spoil
        assert ask(box, "couchdb-0", "/").status_code == 418
        box.intercept = None
        node = box.nodes["couchdb-0"]
        node.stop()
        with pytest.raises(requests.ConnectionError):
            ask(box, "couchdb-0", "/")
        box.stop("couchdb-0")
        with pytest.raises(requests.ConnectionError, match="refused"):
            ask(box, "couchdb-0", "/")
        box.start("couchdb-0")
        assert ask(box, "couchdb-0", "/").status_code == 200


def test_processes_end_even_when_we_are_killed(home: Path) -> None:
    script = f"""
        import os, time
        from pathlib import Path
        from couchdiscover.sandbox import Sandbox
        with Sandbox(1, real=Path({str(home)!r})) as box:
            print(box.nodes["couchdb-0"]._process.pid, box.kubeconfig.parent, flush=True)
            time.sleep(600)
    """
    process = subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(script)],
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "TMPDIR": str(home.parent)},
    )
    assert process.stdout is not None
    group = int(process.stdout.readline().split()[0])
    assert in_group(group)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    until(lambda: not in_group(group), 5)


def test_what_a_real_node_is_configured_with(home: Path, tmp_path: Path) -> None:
    network = RealNetwork(home, tmp_path, {"a-0.a.db.svc": "127.9.8.7"}, loopback.Addresses())
    node = RealNode(
        network,
        name="couchdb@a-0.a.db.svc",
        address="127.9.8.7",
        port=15984,
        uuid="u" * 32,
        password="x=y",
        secret=None,
        cookie="c",
        n=1,
        single_node=True,
        lockout=False,
        require_valid_user=True,
    )
    local = (node.folder / "local.ini").read_text()
    for line in ("[admins]\nadmin = x=y", "single_node = true", "n = 1", "mode = off", "uuid = u"):
        assert line in local
    assert "require_valid_user = true" in local
    assert "secret" not in local
    fixed = (node.folder / "node.ini").read_text()
    assert "bind_address = 127.9.8.7\nport = 15984" in fixed
    arguments = (node.folder / "vm.args").read_text().splitlines()
    assert [line for line in arguments if "-name" in line] == ["-name couchdb@a-0.a.db.svc"]
    assert "-kernel error_logger silent" in arguments, "the release's own are kept"
    assert "-setcookie c" in arguments
    assert "-kernel inet_dist_use_interface {127,9,8,7}" in arguments
    assert '{host, {127,9,8,7}, ["a-0.a.db.svc"]}.' in network.inetrc.read_text()
    node.freeze()  # a node that is not there cannot be frozen, and need not be
    node.thaw()
    with socket.socket() as taken:
        taken.bind(("127.9.8.7", 15984))
        taken.listen()
        with pytest.raises(OSError, match="taken"):
            node.start()


def test_https_of_real_nodes_is_their_own_or_a_fronts(home: Path) -> None:
    with pytest.raises(ValueError, match="or by a front"):
        make(real=home, tls=ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER))
    wrong: list[dict[str, Any]] = [{"real": home, "front": True}, {}]
    for options in wrong:
        with pytest.raises(ValueError, match="without a front have certificates"):
            make(certificates=lambda host: home / host, **options)
