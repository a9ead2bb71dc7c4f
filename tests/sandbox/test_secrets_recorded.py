"""Which sessions a node accepts, held against what was recorded of three real 3.5.2 nodes."""

import asyncio
import base64
import json
from pathlib import Path
from typing import Any

import pytest

from couchdiscover.sandbox.couchdb import Network, Node
from couchdiscover.sandbox.http import Request, Response

RECORDED: list[dict[str, Any]] = [
    item
    for item in json.loads(
        (Path(__file__).parents[1] / "recorded" / "files-3.5.2.json").read_text()
    )
    if item["scenario"] == "secrets"
]
FIRST = RECORDED[0]["response"]["body"]
"""The secret that all had at the beginning."""


class Stage:
    """Three nodes of one cluster, with one hash and one secret, and a cursor into the recording."""

    def __init__(self, version: str = "3.5.2", **options: Any) -> None:
        self.network = Network(pace=0)
        given = {"user": "admin", "password": "pw", "secret": FIRST, "version": version} | options
        self.nodes = [
            Node(self.network, name=f"couchdb@couchdb-{i}.c.db.svc.cluster.local", **given)
            for i in range(3)
        ]
        for node in self.nodes[1:]:
            self.ask(node, "PUT", f"/_node/_local/_nodes/{self.nodes[0].name}", {})
        self.ask(self.nodes[0], "POST", "/_cluster_setup", {"action": "finish_cluster"})
        self.cookie = ""
        self.todo = list(RECORDED)

    def ask(
        self,
        node: Node,
        method: str,
        path: str,
        body: Any = None,
        *,
        auth: str = "good",
        **more: str,
    ) -> Any:
        """The body of an answer; a session that is opened is kept for ``auth="session"``."""
        headers = {"content-type": "application/json", **{k.lower(): v for k, v in more.items()}}
        if auth == "good":
            headers["authorization"] = "Basic " + base64.b64encode(b"admin:pw").decode()
        else:
            headers["cookie"] = self.cookie
        data = b"" if body is None else json.dumps(body).encode()
        answer = asyncio.run(node.handle(Request(method, path, path, {}, headers, data)))
        assert isinstance(answer, Response)
        assert answer.status < 400, answer.body
        if "set-cookie" in answer.headers:
            self.cookie = answer.headers["set-cookie"].partition(";")[0]
        return json.loads(answer.encode().partition(b"\r\n\r\n")[2])

    def play(self, count: int) -> None:
        """Replays the next exchanges, whose bodies must be the recorded ones."""
        for _ in range(count):
            item = self.todo.pop(0)
            request = item["request"]
            node = self.nodes[int(item["node"].rpartition("-")[2])]
            got = self.ask(
                node,
                request["method"],
                request["path"],
                request["body"],
                auth=request["auth"],
                **request["headers"],
            )
            assert got == item["response"]["body"], item["case"]

    def accepts(self, at: int, of: int) -> bool:
        """Whether a node takes another one's session for what it is."""
        self.ask(self.nodes[of], "POST", "/_session", {"name": "admin", "password": "pw"})
        shown = self.ask(self.nodes[at], "GET", "/_session", auth="session")
        return bool(shown["userCtx"]["name"] == "admin")

    def restart(self, index: int, secret: str, *, learn: bool = False) -> None:
        """Another secret in the node's file, and a process that was started anew with it."""
        node = self.nodes[index]
        node.stop()
        node.config.stored["chttpd_auth"]["secret"] = secret
        node.secrets.learn_at_boot = learn
        node.start()
        self.network.settle()


def test_the_recorded_sessions() -> None:
    stage = Stage()
    stage.play(9)
    # This time it was connected early enough to learn of the others' secrets.
    stage.restart(1, "rotated", learn=True)
    stage.play(18)
    assert not stage.todo


def test_a_starting_node_is_not_told_of_secrets_and_tells_nobody() -> None:
    stage = Stage()
    stage.restart(1, "rotated")
    assert not stage.accepts(at=0, of=1)
    assert not stage.accepts(at=1, of=0)
    assert stage.accepts(at=1, of=1)
    path = "/_node/_local/_config/chttpd_auth/secret"
    unsaved = {"X-Couch-Persist": "false"}
    stage.ask(stage.nodes[1], "PUT", path, "rotated", **unsaved)
    assert stage.accepts(at=0, of=1)
    assert not stage.accepts(at=1, of=0), "the other way takes a word of the others"
    stage.ask(stage.nodes[0], "PUT", path, FIRST, **unsaved)
    assert stage.accepts(at=1, of=0)
    assert stage.accepts(at=1, of=2), "it signs with the same"


@pytest.mark.parametrize("version", ["3.5.1", "3.4.3", "3.3.3"])
def test_before_3_5_2_only_the_own_secret_counts(version: str) -> None:
    stage = Stage(version)
    assert stage.accepts(at=0, of=1)
    stage.ask(stage.nodes[1], "PUT", "/_node/_local/_config/chttpd_auth/secret", "another")
    assert not stage.accepts(at=0, of=1)
    assert not stage.accepts(at=1, of=0)
    assert stage.accepts(at=1, of=1)


def test_areplaced_secret_is_accepted_as_long_as_a_session_lasts() -> None:
    stage = Stage()
    first, second, _ = stage.nodes
    stage.ask(first, "POST", "/_session", {"name": "admin", "password": "pw"})
    for node in stage.nodes:
        stage.ask(node, "PUT", "/_node/_local/_config/chttpd_auth/secret", "another")

    def known() -> bool:
        shown = stage.ask(second, "GET", "/_session", auth="session")
        return bool(shown["userCtx"]["name"] == "admin")

    assert known()
    ends = second.secrets.replaced
    assert ends
    for key in ends:
        ends[key] = stage.network.now()
    assert not known()


def test_the_salt_is_part_of_the_signature() -> None:
    stage = Stage()
    assert stage.accepts(at=1, of=0)
    stage.nodes[1].restart_as_official_image()
    assert not stage.accepts(at=1, of=0)
    assert not stage.accepts(at=0, of=1)
    assert stage.accepts(at=2, of=0)


def test_the_secret_of_couchdb_2s_section_is_read_and_no_other_is_made() -> None:
    ini = {"couch_httpd_auth": {"secret": "old"}}
    network = Network(pace=0)
    node = Node(network, name="couchdb@c.db.svc.cluster.local", password="pw", secret=None, ini=ini)
    stage = Stage()
    stage.ask(node, "POST", "/_session", {"name": "admin", "password": "pw"})
    assert node.config.secret is None
    assert node.secrets.current == "old"
    shown = stage.ask(node, "GET", "/_session", auth="session")
    assert shown["info"]["authenticated"] == "cookie"
