"""The simulated Kubernetes API against recordings of a real one, asked as pykube-ng asks."""

import json
import ssl
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pykube
import pytest
import requests
import trustme
from pykube.objects import NamespacedAPIObject

from couchdiscover.sandbox.http import Handler, Loop, Request, Response, Wire
from couchdiscover.sandbox.kubernetes import ANONYMOUS, SETUP_USER, KubernetesApi

RECORDED = Path(__file__).parents[1] / "recorded" / "k8s-1.36.2"
SETUP = "system:serviceaccount:couch:setup"


class EndpointSlice(NamespacedAPIObject):  # type: ignore[misc]  # pykube has no types
    version = "discovery.k8s.io/v1"
    endpoint = "endpointslices"
    kind = "EndpointSlice"


def recorded(name: str) -> Any:
    return json.loads((RECORDED / f"{name}.json").read_text())


@pytest.fixture
def loop() -> Iterator[Loop]:
    loop = Loop()
    yield loop
    loop.close()


@pytest.fixture
def api(loop: Loop) -> Iterator[KubernetesApi]:
    """An API server that holds the recorded objects, with three users."""
    api = KubernetesApi()
    for name in ("statefulset-5-all-ready", "secret", "configmap", "endpoints-5-all-ready"):
        api.put(recorded(name))
    for found in recorded("endpointslices-5-all-ready")["items"]:
        api.put({"kind": "EndpointSlice", **found})
    api.tokens = {"setup's": SETUP, "admin's": "admin"}
    api.allow("*", "*", user="admin")
    api.serve(loop)
    yield api
    api.stop()


def ask(api: KubernetesApi, path: str, token: str | None = "admin's", **more: Any) -> Any:
    headers = {} if token is None else {"Authorization": f"Bearer {token}"}
    return requests.get(api.url + path, headers=headers, timeout=5, **more)


def client(api: KubernetesApi, token: str = "admin's") -> pykube.HTTPClient:
    return pykube.HTTPClient(
        pykube.KubeConfig(
            {
                "current-context": "it",
                "clusters": [{"name": "it", "cluster": {"server": api.url}}],
                "contexts": [{"name": "it", "context": {"cluster": "it", "user": "it"}}],
                "users": [{"name": "it", "user": {"token": token}}],
            }
        )
    )


# --- refusals, word for word ---

STATEFULSETS = "/apis/apps/v1/namespaces/couch/statefulsets"
SLICES = "/apis/discovery.k8s.io/v1/namespaces/couch/endpointslices"
CORE = "/api/v1/namespaces/couch"


@pytest.mark.parametrize(
    ("path", "token", "name"),
    [
        (f"{STATEFULSETS}/nope", "admin's", "status-404-statefulset"),
        (f"{CORE}/secrets/nope", "admin's", "status-404-secret"),
        (f"{CORE}/endpoints/noselector", "admin's", "variant-endpoints-noselector-404"),
        ("/apis/nope.example.org/v1/namespaces/couch/things", "admin's", "status-404-group"),
        (f"{CORE}/secrets/couchdb", None, "status-403-anonymous"),
        (f"{CORE}/endpoints", "setup's", "status-403-list"),
        ("/api/v1/namespaces/default/secrets/x", "setup's", "status-403-otherns"),
        (SLICES, "setup's", "status-403-slices"),
        (f"{CORE}/secrets/couchdb", "stale", "status-401-badtoken"),
    ],
)
def test_refusals_are_worded_as_recorded(
    api: KubernetesApi, path: str, token: str | None, name: str
) -> None:
    answer = ask(api, path, token)
    assert (answer.status_code, answer.json()) == (recorded(name)["code"], recorded(name))


def test_an_unserved_group_is_a_404_without_details(api: KubernetesApi) -> None:
    assert ask(api, SLICES).status_code == 200
    api.unserved.add("discovery.k8s.io")
    answer = ask(api, SLICES)
    assert (answer.status_code, answer.json()) == (404, recorded("status-404-group"))
    assert "discovery.k8s.io" not in ask(api, "/apis").text


@pytest.mark.parametrize("path", ["/apis/apps/v1", "/nope", f"{STATEFULSETS}/couchdb/scale"])
def test_what_is_not_served_is_not_found(api: KubernetesApi, path: str) -> None:
    assert ask(api, path).json() == recorded("status-404-group")


def test_nothing_is_written(api: KubernetesApi) -> None:
    url, headers = f"{api.url}{CORE}/secrets/couchdb", {"Authorization": "Bearer admin's"}
    before = api.get("Secret", "couch", "couchdb")
    answer = requests.delete(url, headers=headers, timeout=5)
    assert (answer.status_code, answer.json()["reason"]) == (405, "MethodNotAllowed")
    assert api.get("Secret", "couch", "couchdb") == before


# --- objects ---


def test_objects_come_as_they_were_recorded(api: KubernetesApi) -> None:
    for path, name in (
        (f"{STATEFULSETS}/couchdb", "statefulset-5-all-ready"),
        (f"{CORE}/secrets/couchdb", "secret"),
        (f"{CORE}/configmaps/couchdb", "configmap"),
        (f"{CORE}/endpoints/couchdb", "endpoints-5-all-ready"),
        (SLICES, "endpointslices-5-all-ready"),
    ):
        assert forget_revisions(ask(api, path).json()) == forget_revisions(recorded(name)), path


def forget_revisions(found: Any) -> Any:
    """What an API server counts up by itself."""
    for entry in (found, *found.get("items", ())):
        entry["metadata"].pop("resourceVersion")
    return found


def test_pykube_reads_objects_and_lists(api: KubernetesApi) -> None:
    http = client(api)
    found = pykube.StatefulSet.objects(http, namespace="couch").get_by_name("couchdb")
    assert found.replicas == 3
    slices = EndpointSlice.objects(http, namespace="couch")
    ours = slices.filter(selector={"kubernetes.io/service-name": "couchdb"})
    assert [len(part.obj["endpoints"]) for part in ours] == [3]
    assert list(slices.filter(selector={"kubernetes.io/service-name": "others"})) == []
    assert list(slices.filter(namespace="elsewhere")) == []


def test_pykube_raises_what_it_raises_on_a_real_one(api: KubernetesApi) -> None:
    with pytest.raises(pykube.exceptions.ObjectDoesNotExist):
        pykube.Secret.objects(client(api), namespace="couch").get_by_name("nope")
    with pytest.raises(pykube.exceptions.HTTPError) as denied:
        pykube.Secret.objects(client(api, "setup's"), namespace="couch").get_by_name("couchdb")
    assert denied.value.code == 403
    with pytest.raises(requests.HTTPError) as refused:
        list(EndpointSlice.objects(client(api, "stale"), namespace="couch"))
    assert refused.value.response.status_code == 401


def test_selectors_are_equalities_all_of_which_must_hold(api: KubernetesApi) -> None:
    def names(selector: str) -> list[str]:
        answer = ask(api, f"{CORE}/secrets", params={"labelSelector": selector})
        return [item["metadata"]["name"] for item in answer.json()["items"]]

    api.put({"kind": "Secret", "metadata": {"name": "bare", "namespace": "couch"}})
    assert names("") == ["bare", "couchdb"]
    assert names("app=couchdb") == names("app==couchdb") == ["couchdb"]
    assert names("app=couchdb,tier=x") == []
    answer = ask(api, f"{CORE}/secrets", params={"labelSelector": "app!=couchdb"})
    assert answer.status_code == 400


def test_an_object_keeps_its_identity_and_gets_a_new_revision(api: KubernetesApi) -> None:
    fresh = {"kind": "Pod", "metadata": {"name": "p"}}
    api.put(fresh)
    first = api.get("Pod", "default", "p")
    assert first["apiVersion"] == "v1"
    api.put({**fresh, "status": {"phase": "Running"}})
    second = api.get("Pod", "default", "p")
    assert second["status"] == {"phase": "Running"}
    assert first["metadata"]["uid"] == second["metadata"]["uid"]
    assert int(second["metadata"]["resourceVersion"]) > int(first["metadata"]["resourceVersion"])
    api.remove("Pod", "default", "p")
    with pytest.raises(KeyError):
        api.get("Pod", "default", "p")
    assert "apiVersion" not in fresh, "what was put is not touched"
    second["status"]["phase"] = "Failed"
    api.put(second)
    second["status"]["phase"] = "changed afterwards"
    assert api.get("Pod", "default", "p")["status"] == {"phase": "Failed"}


def test_reading_v1_endpoints_is_warned_of(api: KubernetesApi) -> None:
    warning = '299 - "v1 Endpoints is deprecated in v1.33+; use discovery.k8s.io/v1 EndpointSlice"'
    for path in ("endpoints", "endpoints/couchdb", "endpoints/nope"):
        assert ask(api, f"{CORE}/{path}").headers["Warning"] == warning
    assert "Warning" not in ask(api, SLICES).headers


def test_what_a_client_looks_up_first(api: KubernetesApi) -> None:
    version = ask(api, "/version", token=None).json()
    assert version.items() <= recorded("version").items()
    assert ask(api, "/api").json()["versions"] == ["v1"]
    groups = {group["name"]: group for group in recorded("api-groups")["groups"]}
    found = ask(api, "/apis").json()
    assert found["kind"] == "APIGroupList"
    assert [group["name"] for group in found["groups"]] == ["apps", "discovery.k8s.io"]
    assert all(groups[group["name"]] == group for group in found["groups"])
    assert ask(api, "/apis", token=None).status_code == 403


# --- access ---


def test_the_later_rule_wins(api: KubernetesApi) -> None:
    def status(path: str) -> int:
        code: int = ask(api, path, "setup's").status_code
        return code

    couchdb, other = f"{CORE}/secrets/couchdb", f"{CORE}/secrets/other"
    assert (status(couchdb), status(other)) == (403, 403)
    api.allow("get", "secrets", "couchdb", user=SETUP)
    assert (status(couchdb), status(other)) == (200, 403)
    api.allow("*", "*", namespace="couch", user=SETUP)
    assert (status(couchdb), status(other)) == (200, 404)
    assert status("/api/v1/namespaces/default/secrets/x") == 403
    api.forbid("list", "endpointslices", user=SETUP)
    assert (status(SLICES), status(f"{SLICES}/nope")) == (403, 404)


def test_without_tokens_everybody_is_the_set_up_service_account(api: KubernetesApi) -> None:
    api.tokens.clear()
    path = f"{CORE}/secrets/couchdb"
    assert ask(api, path, token=None).status_code == 200
    assert ask(api, path, token="any").status_code == 200
    api.forbid("get", "secrets")
    answer = ask(api, path, token=None)
    assert (answer.status_code, SETUP_USER in answer.json()["message"]) == (403, True)
    api.allow("get", "secrets")
    assert ask(api, path, token=None).status_code == 200


# --- the socket ---


def test_every_request_is_noted(api: KubernetesApi) -> None:
    ask(api, f"{CORE}/secrets/couchdb", "setup's")
    ask(api, SLICES, params={"labelSelector": "a=b"})
    ask(api, "/version", token=None)
    ask(api, "/version", token="stale")
    noted = [(r.method, r.path, r.status, r.user) for r in api.requests]
    assert noted == [
        ("GET", f"{CORE}/secrets/couchdb", 403, SETUP),
        ("GET", SLICES, 200, "admin"),
        ("GET", "/version", 200, ANONYMOUS),
        ("GET", "/version", 401, None),
    ]
    assert api.requests[1].query == {"labelSelector": "a=b"}
    assert [r.time for r in api.requests] == sorted(r.time for r in api.requests)


def test_a_stopped_server_refuses_and_comes_back_at_the_same_place(api: KubernetesApi) -> None:
    url = api.url
    session = requests.Session()
    assert session.get(f"{url}/version", timeout=5).status_code == 200
    api.stop()
    with pytest.raises(requests.ConnectionError):
        session.get(f"{url}/version", timeout=5)
    api.start()
    assert api.url == url
    assert session.get(f"{url}/version", timeout=5).status_code == 200


def test_a_server_without_a_socket_cannot_start() -> None:
    with pytest.raises(RuntimeError, match="serve"):
        KubernetesApi().start()


def test_over_tls(loop: Loop, tmp_path: Path) -> None:
    authority = trustme.CA()
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("127.0.0.1").configure_cert(context)
    authority.cert_pem.write_to_path(str(tmp_path / "ca.pem"))
    api = KubernetesApi()
    api.put(recorded("statefulset-1-pending"))
    assert api.serve(loop, tls=context).startswith("https://127.0.0.1:")
    with pytest.raises(requests.exceptions.SSLError):
        requests.get(f"{api.url}/version", timeout=5)
    answer = requests.get(f"{api.url}/version", timeout=5, verify=str(tmp_path / "ca.pem"))
    assert answer.json()["gitVersion"] == "v1.36.2"
    api.stop()


def test_what_comes_in_can_be_intercepted(api: KubernetesApi) -> None:
    async def unwell(request: Request, handler: Handler) -> Response | Wire:
        if request.path == "/version":
            return Response(503, "starting")
        return await handler(request)

    api.intercept = unwell
    assert ask(api, "/version").status_code == 503
    assert ask(api, "/api").status_code == 200
