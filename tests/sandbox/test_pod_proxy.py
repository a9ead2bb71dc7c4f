"""The simulated API server's way to a pod's port: what was measured of a real one's."""

from typing import Any

import pytest
import requests

from couchdiscover.sandbox import Sandbox
from couchdiscover.sandbox.kubernetes import SETUP_USER

TOKEN = "a token of the test"
PASSWORD = "a password of the test"
Boxes = Any


@pytest.fixture
def box(sandbox: Boxes) -> Sandbox:
    made: Sandbox = sandbox(2, token=TOKEN, password=PASSWORD)
    return made


class Proxy:
    """A client with a token for the API server, and a cookie jar."""

    def __init__(self, box: Sandbox, pod: str = "couchdb-0") -> None:
        port = box.address("couchdb-0")[1]
        self.url = f"{box.api.url}/api/v1/namespaces/default/pods/{pod}:{port}/proxy"
        self.session = requests.Session()
        self.session.headers["Authorization"] = f"Bearer {TOKEN}"

    def __call__(self, method: str, path: str, **options: Any) -> requests.Response:
        return self.session.request(method, self.url + path, timeout=10, **options)

    def log_in(self) -> requests.Response:
        return self("POST", "/_session", json={"name": "admin", "password": PASSWORD})


def test_the_authorization_header_stays_behind(box: Sandbox) -> None:
    proxy = Proxy(box)
    assert proxy("GET", "/").json()["couchdb"] == "Welcome"
    assert proxy("GET", "/_membership").status_code == 401
    basic = requests.get(
        proxy.url + "/_membership", auth=("admin", PASSWORD), headers={}, timeout=10
    )
    assert basic.status_code in (401, 403)
    assert all("authorization" not in r.request.headers for r in box.requests())


def test_a_session_opens_everything(box: Sandbox) -> None:
    proxy = Proxy(box)
    answer = proxy.log_in()
    assert answer.status_code == 200
    assert answer.headers["Server"].startswith("CouchDB/3.5.2")
    assert proxy("GET", "/_membership").status_code == 200
    assert proxy("PUT", "/orders").status_code == 201
    assert proxy("PUT", "/orders/first", json={"amount": 1}).status_code == 201
    assert proxy("GET", "/orders/first").json()["amount"] == 1
    assert proxy("DELETE", "/orders").status_code == 200


def test_a_query_goes_on_as_it_is(box: Sandbox) -> None:
    proxy = Proxy(box)
    proxy.log_in()
    proxy("PUT", "/orders")
    answer = proxy("GET", "/_node/_local/_dbs/_all_docs?limit=1&startkey=%22p%2F%22")
    assert [row["id"] for row in answer.json()["rows"]] == []
    assert proxy("GET", "/_node/_local/_dbs/_all_docs?limit=1").json()["total_rows"] == 1
    assert box.requests()[-1].request.target.endswith("?limit=1")


def test_an_encoded_slash_does_not_survive(box: Sandbox) -> None:
    proxy = Proxy(box)
    proxy.log_in()
    proxy("PUT", "/a%2Fb")
    assert box.requests()[-1].request.target == "/a/b"


def test_a_closed_port_and_a_missing_pod(box: Sandbox) -> None:
    box.stop("couchdb-0")
    answer = Proxy(box)("GET", "/")
    assert (answer.status_code, answer.json()["kind"]) == (503, "Status")
    assert "connection refused" in answer.json()["message"].lower()
    answer = Proxy(box, "couchdb-9")("GET", "/")
    assert (answer.status_code, answer.json()["reason"]) == (404, "NotFound")
    assert answer.json()["message"] == 'pods "couchdb-9" not found'


def test_a_pod_without_an_address(box: Sandbox) -> None:
    box.set_phase("couchdb-0", "pending")
    assert Proxy(box)("GET", "/").status_code == 400


def test_it_is_a_right_of_its_own(box: Sandbox) -> None:
    box.api.forbid("*", "*", user=SETUP_USER)
    box.api.allow("get", "pods", user=SETUP_USER)
    answer = Proxy(box)("GET", "/")
    assert answer.status_code == 403
    assert 'cannot get resource "pods/proxy"' in answer.json()["message"]
    box.api.allow("get", "pods/proxy", user=SETUP_USER)
    assert Proxy(box)("GET", "/").status_code == 200
    assert Proxy(box).log_in().status_code == 403
    box.api.allow("create", "pods/proxy", user=SETUP_USER)
    assert Proxy(box).log_in().status_code == 200
    assert not [r for r in box.requests() if r.status == 403]


def test_requests_are_noted_at_both(box: Sandbox) -> None:
    Proxy(box)("GET", "/_up")
    assert box.api.requests[-1].path.endswith("/proxy/_up")
    assert (box.requests()[-1].pod, box.requests()[-1].path) == ("couchdb-0", "/_up")
