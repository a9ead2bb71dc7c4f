"""IPv6, both families at once, and a machine that has 127.0.0.1 only."""

import copy
from typing import Any

import pytest

from couchdiscover.sandbox import Sandbox
from couchdiscover.sandbox.loopback import Addresses
from tests.support.boxes import Make
from tests.support.command import PASSWORD, Command
from tests.support.network import IPV6, ONE_ADDRESS, SIX

OFTEN = {"COUCHDISCOVER_REQUEST_TIMEOUT": "1s"}


def run(couchdiscover: Command, box: Sandbox, pod: str | None = None) -> list[str]:
    """A run, and a second one that finds nothing; the first one's steps."""
    environment = {**box.environment(pod), **OFTEN}
    first = couchdiscover("-o", "json", environment=environment)
    assert first.code == 0, first.err
    second = couchdiscover("-o", "json", environment=environment)
    assert (second.code, second.json["steps"]) == (0, []), second.err
    return [f"{step['step']} {step['node']}" for step in first.json["steps"]]


def whole(couchdiscover: Command, box: Sandbox, host: str) -> None:
    """Every node is a finished member, reached at such an address, and hands on a document."""
    ended = couchdiscover("check", "--write", "-o", "json", environment=box.environment() | OFTEN)
    assert ended.code == 0, ended.err
    assert {node["members"] for node in ended.json["nodes"]} == {len(box.pods)}
    assert all(node["address"].startswith(host) for node in ended.json["nodes"]), ended.json


def also_at(box: Sandbox, hosts: dict[str, str]) -> None:
    """Publishes pods in a second EndpointSlice, that of the other family, at these addresses."""
    (mine,) = box.api.find("EndpointSlice", box.deployment.namespace)
    other: Any = copy.deepcopy(mine)
    other["metadata"]["name"] += "-of-the-other-family"
    other["metadata"]["generateName"] = "by-hand-"  # the sandbox leaves it as it is
    other["addressType"] = "IPv4" if mine["addressType"] == "IPv6" else "IPv6"
    for endpoint in other["endpoints"]:
        endpoint["addresses"] = [hosts[endpoint["targetRef"]["name"]]]
    box.api.put(other)
    service = box.api.get("Service", box.deployment.namespace, box.deployment.service)
    spec = {**service["spec"], "ipFamilies": ["IPv4", "IPv6"], "ipFamilyPolicy": "PreferDualStack"}
    box.api.put({**service, "spec": spec})


@pytest.mark.own_network(IPV6)
def test_ipv6_alone(any_sandbox: Make, couchdiscover: Command) -> None:
    box = any_sandbox(2, addresses=Addresses(f"{SIX}1"))
    assert run(couchdiscover, box)[-1] == "finish_cluster couchdb-0"
    whole(couchdiscover, box, f"[{SIX}")
    box.scale(3)
    steps = run(couchdiscover, box, "couchdb-2")
    assert steps[:2] == ["add_node couchdb-2", "sync_identity couchdb-2"]
    for pod in reversed(box.pods):
        box.restart(pod)
        run(couchdiscover, box, pod)
    run(couchdiscover, box)
    whole(couchdiscover, box, f"[{SIX}")


@pytest.mark.own_network(IPV6)
@pytest.mark.parametrize("silent", ["127.9.9.", "10.99.0."], ids=["refuses", "swallows"])
def test_both_families_and_ipv4_does_not_answer(
    any_sandbox: Make, couchdiscover: Command, silent: str
) -> None:
    """CouchDB with ``bind_address = ::`` on a system that keeps the families apart."""
    box = any_sandbox(3, addresses=Addresses(f"{SIX}1"))
    also_at(box, {pod: f"{silent}{number}" for number, pod in enumerate(box.pods, 2)})
    assert run(couchdiscover, box)[-1] == "finish_cluster couchdb-0"
    whole(couchdiscover, box, f"[{SIX}")


@pytest.mark.own_network(IPV6)
def test_both_families_and_ipv6_does_not_answer(any_sandbox: Make, couchdiscover: Command) -> None:
    """The image's own ``bind_address = 0.0.0.0`` in a cluster of both families."""
    box = any_sandbox(3)
    also_at(box, {pod: f"{SIX}{number}" for number, pod in enumerate(box.pods, 2)})
    assert run(couchdiscover, box)[-1] == "finish_cluster couchdb-0"
    whole(couchdiscover, box, "127.")


@pytest.mark.own_network(ONE_ADDRESS)
def test_a_machine_that_has_127_0_0_1_only(sandbox: Make, couchdiscover: Command) -> None:
    """As macOS: each simulated node has a port of its own, and the whole job is done."""
    assert not Addresses().has_hosts
    box = sandbox(2)
    assert run(couchdiscover, box)[-1] == "finish_cluster couchdb-0"
    box.scale(3)
    run(couchdiscover, box, "couchdb-2")
    for pod in box.pods:
        box.restart(pod)
        box.replace(pod)
    run(couchdiscover, box)
    whole(couchdiscover, box, "127.0.0.1:")
    with pytest.raises(OSError, match=r"only 127\.0\.0\.1"):
        sandbox(1, real=couchdiscover.folder, password=PASSWORD)


@pytest.mark.own_network(ONE_ADDRESS)
def test_the_demo_on_a_machine_that_has_127_0_0_1_only(couchdiscover: Command) -> None:
    ended = couchdiscover("demo", "--nodes", "3", environment={})
    assert ended.code == 0, ended.err
