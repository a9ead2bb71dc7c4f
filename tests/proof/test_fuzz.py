"""Feed it anything: names, Kubernetes' objects and CouchDB's answers, of any shape."""

import copy
import json
import random
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import hypothesis.strategies as st
import pytest
from hypothesis import HealthCheck, assume, event, given, settings

from couchdiscover.cli.options import Options
from couchdiscover.cli.settings import build_settings
from couchdiscover.errors import CouchdiscoverError
from couchdiscover.kube.discovery import Discovery, Target
from couchdiscover.kube.environment import ContainerEnvironment, decode_data
from couchdiscover.kube.names import (
    PodIdentity,
    is_label,
    is_subdomain,
    parse_host_name,
    parse_pod_name,
)
from couchdiscover.sandbox import Sandbox
from couchdiscover.sandbox.box import API, Proceed
from couchdiscover.sandbox.http import Request, Response
from couchdiscover.state.settings import Settings
from couchdiscover.state.topology import Scope, Topology
from tests.proof.harness import DRAWS, TOKEN, Guard, all_of, dice, secrets_of, silent
from tests.proof.schemas import objects
from tests.support.processes import Nursery

Make = Callable[..., Sandbox]

RECORDED = Path(__file__).parents[1] / "recorded" / "k8s-1.36.2"
OWN = PodIdentity("couchdb-1", "couchdb", 1, "couchdb", "couch", "cluster.local")

bounded = settings(
    max_examples=300 * DRAWS,
    deadline=None,
    derandomize=DRAWS == 1,
    database=None,
    print_blob=True,
    suppress_health_check=list(HealthCheck),
)

label = st.from_regex(r"[a-z0-9]([-a-z0-9]{0,20}[a-z0-9])?", fullmatch=True)
odd_text = st.text(max_size=20) | st.sampled_from(
    ["", "0", "-1", "couchdb-0", "$(X)", "$$(A)", "../..", "a\nb", "\x00", "99999999999999999999"]
)
scalar = st.none() | st.booleans() | st.integers() | st.floats() | odd_text
OPTIONS = (
    *("statefulset", "namespace", "container", "scope", "size", "timeout", "request_timeout"),
    *("repair_from", "scheme", "port", "ca_file", "cluster_domain"),
)
anything = st.recursive(
    scalar,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(odd_text, inner, max_size=3),
    max_leaves=6,
)


def recorded(name: str) -> Any:
    return json.loads((RECORDED / f"{name}.json").read_text())


def places(value: Any) -> list[tuple[Any, Any]]:
    """Every container with every key in it, of a JSON value."""
    found: list[tuple[Any, Any]] = []
    inner: Any = ()
    if isinstance(value, dict):
        inner = value.items()
    elif isinstance(value, list):
        inner = enumerate(value)
    for key, member in inner:
        found.append((value, key))
        found += places(member)
    return found


@st.composite
def mutants(draw: st.DrawFn, *names: str) -> Any:
    """A recorded object in which some places, anywhere, hold anything else, or nothing."""
    value = recorded(draw(st.sampled_from(names)))
    for _ in range(draw(st.integers(1, 4))):
        found = places(value)
        if not found:
            break
        container, key = found[draw(st.integers(0, len(found) - 1))]
        if draw(st.booleans()):
            container[key] = draw(anything)
        else:
            del container[key]
    return value


def error_of(work: Callable[[], Any], *codes: int) -> Any:
    """What came of it: a result, or one of our errors, with a sentence and one of these codes."""
    try:
        return work()
    except CouchdiscoverError as error:
        end = error
    assert str(end)
    assert end.exit_code in codes, end
    return end


class Objects:
    """A Kubernetes that has these objects, as ``couchdiscover.kube.client.Kube`` hands them on."""

    namespace: str | None = None
    server_time: float | None = None

    def __init__(self, statefulset: Any, slices: Any, endpoints: Any, secret: Any) -> None:
        self._statefulset, self._slices = statefulset, slices
        self._endpoints, self._secret = endpoints, secret

    def statefulset(self, namespace: str, name: str) -> Any:
        return self._statefulset

    def endpoint_slices(self, namespace: str, service: str) -> Any:
        items = self._slices.get("items") or []
        return [item for item in items if isinstance(item, dict)] if items != {} else []

    def endpoints(self, namespace: str, name: str) -> Any:
        return self._endpoints

    def secret(self, namespace: str, name: str) -> Any:
        return self._secret

    def service(self, namespace: str, name: str) -> Any:
        spec = self._statefulset if isinstance(self._statefulset, dict) else {}
        return {"metadata": {"name": name}, "spec": spec.get("spec")}  # of any shape

    def services(self, namespace: str) -> list[Any]:
        return [self.service(namespace, "another")]

    def has_deployment(self, namespace: str, name: str) -> bool:
        return False

    def config_map(self, namespace: str, name: str) -> Any:
        return {"metadata": {"name": name}, "data": {"COUCHDB_CLUSTER_SIZE": "3"}}


# --- names ---


@bounded
@given(st.text(max_size=300) | st.text("abc019-._", max_size=300))
def test_any_text_is_a_name_or_none(text: str) -> None:
    for identity in (parse_host_name(text), parse_pod_name(text)):
        if identity is not None:
            assert identity.ordinal >= 0
            assert identity.pod == f"{identity.statefulset}-{identity.ordinal}"
            assert is_subdomain(identity.statefulset)


@bounded
@given(label, st.integers(0, 10**9), label, label, st.lists(label, min_size=1, max_size=4))
def test_a_pods_host_name_is_taken_apart_as_it_was_put_together(
    name: str, ordinal: int, service: str, namespace: str, domain: list[str]
) -> None:
    pod = f"{name}-{ordinal}"
    assume(is_label(pod) and is_label(service) and is_label(namespace))
    host = f"{pod}.{service}.{namespace}.svc.{'.'.join(domain)}"
    for written in (host, host + ".", host.upper()):
        assert parse_host_name(written) == PodIdentity(
            pod, name, ordinal, service, namespace, ".".join(domain)
        )


@bounded
@given(
    st.fixed_dictionaries(
        {},
        optional={key: st.none() | odd_text for key in OPTIONS},
    ),
    st.none() | st.lists(odd_text, max_size=3),
)
def test_any_options_are_settings_or_a_usage_problem(
    raw: dict[str, Any], databases: list[str] | None
) -> None:
    found = error_of(lambda: build_settings(Options(**raw, ensure_db=databases), {}), 2)
    assert isinstance(found, CouchdiscoverError) or found.request_timeout > 0


# --- Kubernetes' objects ---


@bounded
@given(
    mutants("statefulset-5-all-ready", "statefulset-9-scaling-down")
    | objects("apps.v1.StatefulSet"),
    mutants("endpointslices-5-all-ready", "variant-slices-two-ports")
    | objects("discovery.v1.EndpointSliceList"),
    mutants("endpoints-5-all-ready", "variant-endpoints-two-subsets")
    | objects("core.v1.Endpoints"),
    mutants("secret") | objects("core.v1.Secret"),
    st.sampled_from(Scope),
)
def test_any_objects_are_a_topology_or_one_of_our_errors(
    statefulset: Any, slices: Any, endpoints: Any, secret: Any, scope: Scope
) -> None:
    assume(all(isinstance(found, dict) for found in (statefulset, slices, endpoints, secret)))
    assume(isinstance(slices.get("items", []), list | None))
    own = OWN if scope is Scope.POD else None
    target = Target("couch", "couchdb", scope, own, "cluster.local")
    kube = Objects(statefulset, slices, endpoints, secret)
    discovery = Discovery(kube, Settings(), target)  # type: ignore[arg-type]
    found = error_of(discovery.topology, 2, 4, 5)
    error_of(discovery.credentials, 2, 4, 5)
    if isinstance(found, Topology):
        event(f"a topology of {'drawn' if 'status' not in statefulset else 'mutated'}")
        assert found.expected
    else:
        event(str(found)[:90])


@bounded
@given(st.lists(anything, max_size=5), st.lists(anything, max_size=3), anything, odd_text)
def test_any_environment_has_values_or_usage_problems(
    env: list[Any], env_from: list[Any], data: Any, name: str
) -> None:
    class Source:
        def data(self, kind: str, name: str, *, optional: bool) -> Any:
            return decode_data(kind, name, {"data": data})

    named = [{"name": "X", "value": v} for v in env[:2]] + env
    container = {"name": "couchdb", "env": named, "envFrom": env_from}
    found = ContainerEnvironment(container, Source(), {})
    for variable in ("X", name):
        error_of(partial(found.get, variable), 2)
        found.mentions(variable)
        found.literal(variable)


# --- answers, at the whole command ---

ODD: list[Any] = [
    None, True, 0, -1, 10**400, 1e308, "", "\n", "couchdb-1", "x" * 5000, [], {}, [[]], [None],
    {"a": 1}, "\ud800", "cluster_finished", "nonode@nohost", "couchdb@127.0.0.1", "$(COUCHDB_USER)",
    "🛋", "\x1b[31m", ["couchdb@x"], "127.0.0.1", 65536, "0", "99999999999",
]  # fmt: skip


def twist(draws: random.Random, body: Any) -> Any:
    """A JSON value with a few places changed, removed or doubled."""
    body = copy.deepcopy(body)
    for _ in range(draws.randint(1, 3)):
        found = places(body)
        if not found or draws.random() < 0.05:
            return draws.choice(ODD)
        container, key = draws.choice(found)
        match draws.randrange(4):
            case 0:
                del container[key]
            case 1 if isinstance(container, list):
                container.append(copy.deepcopy(container[key]))
            case _:
                container[key] = draws.choice(ODD)
    return body


@pytest.mark.parametrize("side", ["couchdb", "kubernetes", "both"])
def test_twisted_answers_end_in_an_exit_code(make: Make, nursery: Nursery, side: str) -> None:
    """True answers with some places changed, from either server: never a bug, never a secret."""

    def case(draw: int) -> None:
        draws = dice("twisted", side, draw)
        often = draws.choice([0.1, 0.3, 1.0])
        style = draws.choice(["official", "helm", "predecessor"])
        with make(draws.randint(1, 3), token=TOKEN, style=style) as box:
            if draws.random() < 0.4:
                assert nursery(environment=box.environment()).code == 0

            async def spoil(number: int, pod: str, request: Request, proceed: Proceed) -> Any:
                found = await proceed()
                ours = side == "both" or (side == "kubernetes") == (pod == API)
                if not ours or draws.random() > often or not isinstance(found, Response):
                    return found
                try:
                    body = json.loads(found.encode().partition(b"\r\n\r\n")[2])
                except ValueError:
                    return found
                text = json.dumps(twist(draws, body)).encode()
                status = (
                    found.status if draws.random() < 0.9 else draws.choice([200, 201, 400, 500])
                )
                return Response(status, text)

            Guard(box, spoil)
            pod = draws.choice([None, *box.pods])
            limits = ("--timeout", "1.2s", "--request-timeout", "1s")
            ended = nursery(*limits, environment=box.environment(pod))
            assert ended.code in (0, 2, 3, 4, 5, 6), ended.err[-2000:]
            assert "\x1b" not in ended.err, "control characters"
            assert ended.json["exit_code"] == ended.code
            assert len(ended.termination.encode()) <= 4096
            silent(ended, secrets_of(box))

    all_of(range(40 * DRAWS), case, workers=6)
