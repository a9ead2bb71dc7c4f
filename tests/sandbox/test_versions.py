"""What differs between releases of CouchDB, and where the simulator was kinder than CouchDB.

Each was seen on real nodes, or is read in CouchDB's source, as the simulator's modules say.
"""

import asyncio
import base64
import json
from collections.abc import Mapping
from typing import Any

import pytest

from couchdiscover.sandbox.couchdb import Network, Node
from couchdiscover.sandbox.couchdb.config import ini_value
from couchdiscover.sandbox.http import Request, Response
from tests.support.releases import SIMULATED

DOMAIN = "couchdb.db.svc.cluster.local"
HASH = f"-pbkdf2:sha256-{'ab' * 32},{'cd' * 16},600000"
OLD_HASH = f"-pbkdf2-{'ab' * 20},{'cd' * 16},10"
NO_BASIC = {"chttpd": {"authentication_handlers": "{chttpd_auth, cookie_authentication_handler}"}}
NOT_ADMIN = "You are not a server admin."


class Clock(Network):
    """A network whose clock moves only when it is told to."""

    def __init__(self) -> None:
        super().__init__()
        self.clock = 1000.0

    def now(self) -> float:
        return self.clock

    async def pause(self, seconds: float, least: float = 0.0) -> None:
        self.clock += max(seconds, least)
        await asyncio.sleep(0)

    def wait(self, seconds: float) -> None:
        self.clock += seconds
        self.settle()


def name_of(index: int) -> str:
    return f"couchdb@couchdb-{index}.{DOMAIN}"


def make(network: Network, index: int = 0, **options: Any) -> Node:
    given = {"name": name_of(index), "address": f"127.0.0.{10 + index}"}
    return Node(network, **{**given, **options})


def ask(
    node: Node,
    method: str,
    path: str,
    body: Any = None,
    *,
    login: tuple[str, str] | None = ("admin", "secret"),
    headers: Mapping[str, str] | None = None,
) -> Response:
    sent = {"host": "127.0.0.1:5984", "content-type": "application/json", **(headers or {})}
    if login is not None:
        sent["authorization"] = "Basic " + base64.b64encode(":".join(login).encode()).decode()
    data = b"" if body is None else json.dumps(body).encode()
    target, _, query = path.partition("?")
    pairs = dict(pair.split("=") for pair in query.split("&")) if query else {}
    answer = asyncio.run(node.handle(Request(method, path, target, pairs, sent, data)))
    assert isinstance(answer, Response)
    return answer


def value(answer: Response) -> Any:
    return json.loads(answer.encode().partition(b"\r\n\r\n")[2])


def error(answer: Response) -> tuple[int, str]:
    return answer.status, value(answer)["reason"]


def config(node: Node, path: str, new: Any = None, **options: Any) -> Response:
    return ask(
        node, "GET" if new is None else "PUT", f"/_node/_local/_config/{path}", new, **options
    )


def cluster(network: Network, count: int = 3, **options: Any) -> list[Node]:
    """Nodes joined and finished."""
    nodes = [make(network, i, **options) for i in range(count)]
    for node in nodes[1:]:
        assert ask(node, "PUT", f"/_node/_local/_nodes/{nodes[0].name}", {}).status == 201
    network.settle()
    if isinstance(network, Clock):
        network.wait(1)
    assert ask(nodes[0], "POST", "/_cluster_setup", {"action": "finish_cluster"}).status == 201
    return nodes


# --- releases ---


@pytest.mark.parametrize("version", ["1.7.2", "2.3.1", *SIMULATED])
def test_every_answer_names_its_release(version: str) -> None:
    node = make(Network(pace=0), version=version, lockout=False)
    paths = ["/", "/_up", "/_node/_local", "/_membership", "/_cluster_setup", "/nothing"]
    for path in paths:
        for login in (("admin", "secret"), ("admin", "wrong"), None):
            header = ask(node, "GET", path, login=login).headers["server"]
            assert header.startswith(f"CouchDB/{version} (Erlang OTP/")
    assert value(ask(node, "GET", "/"))["version"] == version


def test_what_is_no_version_is_refused() -> None:
    with pytest.raises(ValueError, match="no version"):
        make(Network(pace=0), version="latest")


def test_couchdb_2_does_not_say_who_it_is_and_hides_its_files() -> None:
    node = make(Network(pace=0), version="2.3.1")
    wanted = (400, "Incomplete path to _node request")
    assert error(ask(node, "GET", "/_node/_local")) == wanted
    assert error(ask(node, "GET", "/_node/_local", login=None)) == (401, NOT_ADMIN)
    for path in ("_nodes/_all_docs", "_dbs/_all_docs", "_all_dbs"):
        assert ask(node, "GET", f"/_node/_local/{path}").status == 404
    assert ask(node, "GET", "/_node/_local/_config").status == 200
    assert ask(node, "GET", "/_membership").status == 200
    assert ask(node, "GET", "/_all_dbs", login=None).status == 200


def test_couchdb_1_knows_no_clusters() -> None:
    node = make(Network(pace=0), version="1.7.2")
    for path in ("/_node/_local", "/_membership", "/_cluster_setup", "/_up"):
        answer = ask(node, "GET", path)
        assert (answer.status, value(answer)["error"]) == (400, "illegal_database_name")
    assert ask(node, "GET", "/_session").status == 200


@pytest.mark.parametrize("version", ["1.7.2", "2.3.1"])
def test_the_old_ones_may_run_without_any_admin(version: str) -> None:
    node = make(Network(pace=0), version=version, admins={})
    assert ask(node, "GET", "/", login=None).status == 200
    assert ask(node, "GET", "/_all_dbs", login=None).status == 200
    assert ask(node, "GET", "/").status == 401


@pytest.mark.parametrize(
    ("version", "start", "end"),
    [("2.3.1", "-pbkdf2-", ",10"), ("3.3.3", "-pbkdf2-", ",10"),
     ("3.4.3", "-pbkdf2:sha256-", ",600000"), ("3.5.2", "-pbkdf2:sha256-", ",600000")],
)  # fmt: skip
def test_how_passwords_are_hashed(version: str, start: str, end: str) -> None:
    node = make(Network(pace=0), version=version)
    stored = node.config.admins["admin"]
    assert stored.startswith(start)
    assert stored.endswith(end)
    assert ask(node, "GET", "/_membership").status == 200
    assert ask(node, "GET", "/_membership", login=("admin", "wrong")).status == 401


def test_3_3_takes_a_newer_hash_for_a_password() -> None:
    old, new = (make(Network(pace=0), version=version) for version in ("3.3.3", "3.4.3"))
    for node in (old, new):
        assert config(node, "admins/second", HASH).status == 200
        assert config(node, "admins/third", OLD_HASH).status == 200
        assert node.config.admins["third"] == OLD_HASH
    assert new.config.admins["second"] == HASH
    assert old.config.admins["second"].startswith("-pbkdf2-")
    # The right password is dead, and the hash is one.
    assert ask(old, "GET", "/_membership", login=("second", HASH)).status == 200


@pytest.mark.parametrize("version", SIMULATED)
def test_a_new_password_shows_in_clear_for_a_moment(version: str) -> None:
    network = Clock()
    node = make(network, version=version)
    assert config(node, "admins/admin", "secret").status == 200
    shown = node.config.admins["admin"]
    at_once = ask(node, "GET", "/_membership").status
    network.wait(1)
    assert node.config.admins["admin"].startswith("-pbkdf2")
    assert ask(node, "GET", "/_membership").status == 200
    if version == "3.3.3":
        assert shown.startswith("-pbkdf2-")
        assert at_once == 200
    else:
        assert (shown, at_once) == ("secret", 401)


@pytest.mark.parametrize("version", SIMULATED)
def test_the_lockout_is_from_3_4_on(version: str) -> None:
    node = make(Network(pace=0), version=version)
    for _ in range(6):
        last = ask(node, "GET", "/_membership", login=("admin", "wrong")).status
    right = ask(node, "GET", "/_membership").status
    assert (last, right) == ((401, 200) if version == "3.3.3" else (403, 403))


@pytest.mark.parametrize("version", SIMULATED)
def test_values_that_are_no_string(version: str) -> None:
    node = make(Network(pace=0), version=version)
    wanted = (500, "function_clause") if version == "3.3.3" else (400, "a JSON string expected")
    for bad in (5, ["a"], {"a": 1}):
        assert error(config(node, "x/y", bad)) == wanted
    assert error(config(node, "x/y", "a\nb")) == (400, "Invalid configuration value")
    assert config(node, "x/y", "  a\n").status == 200
    assert node.config.get("x", "y") == "a"


@pytest.mark.parametrize("version", SIMULATED)
def test_a_single_node_says_so_before_its_databases_are_there(version: str) -> None:
    network = Clock()
    node = make(network, version=version, single_node=True)
    at_once = value(ask(node, "GET", "/_all_dbs"))
    assert node.state == "single_node_enabled"
    network.wait(1)
    assert value(ask(node, "GET", "/_all_dbs")) == ["_replicator", "_users"]
    assert at_once == ([] if version == "3.3.3" else ["_replicator", "_users"])


def test_releases_mix_and_a_hash_of_the_newer_kills_the_password_of_the_older() -> None:
    network = Network(pace=0)
    versions = ("3.5.2", "3.3.3")
    new, old = (make(network, i, version=version) for i, version in enumerate(versions))
    assert ask(old, "PUT", f"/_node/_local/_nodes/{new.name}", {}).status == 201
    assert ask(new, "POST", "/_cluster_setup", {"action": "finish_cluster"}).status == 201
    assert old.state == "cluster_finished"
    assert ask(old, "GET", "/_membership").status == 401
    back = make(Network(pace=0), version="3.5.2")
    back.config.put(
        "admins", "admin", make(Network(pace=0), version="3.3.3").config.admins["admin"]
    )
    assert ask(back, "GET", "/_membership").status == 200


def test_an_upgrade_keeps_the_volume_and_changes_the_release() -> None:
    network = Network(pace=0)
    first, second = cluster(network, 2, version="3.3.3")
    with pytest.raises(RuntimeError, match="running"):
        first.upgrade("3.5.2")
    first.stop()
    first.upgrade("3.5.2")
    first.start()
    network.settle()
    assert ask(first, "GET", "/").headers["server"] == "CouchDB/3.5.2 (Erlang OTP/27)"
    assert first.config.admins["admin"].startswith("-pbkdf2:sha256-")
    assert first.state == second.state == "cluster_finished"
    assert len(first.connected) == 2


# --- who may do what ---


@pytest.mark.parametrize("version", SIMULATED)
def test_a_user_who_is_no_admin(version: str) -> None:
    node = cluster(Network(pace=0), 1, version=version)[0]
    user = {"name": "ann", "password": "x", "roles": [], "type": "user"}
    assert ask(node, "PUT", "/_users/org.couchdb.user:ann", user).status == 201
    ann = ("ann", "x")
    for path in ("/_membership", "/_node/_local", "/_cluster_setup", "/_all_dbs", "/_nothing"):
        assert error(ask(node, "GET", path, login=ann)) == (401, NOT_ADMIN)
    assert ask(node, "GET", "/_users", login=ann).status == 403
    assert ask(node, "GET", "/nothing", login=ann).status == 404
    assert value(ask(node, "GET", "/_session", login=ann))["userCtx"]["name"] == "ann"


def test_several_admins_are_all_hashed_and_all_handed_on() -> None:
    admins = {"admin": "secret", "other": "otherpw"}
    first, second = cluster(Network(pace=0), 2, admins=admins)
    assert first.config.admins.keys() == admins.keys()
    assert first.config.admins == second.config.admins
    assert ask(second, "GET", "/_membership", login=("other", "otherpw")).status == 200


def test_without_the_handler_of_basic_logins_every_password_is_as_none() -> None:
    node = make(Network(pace=0), ini=NO_BASIC)
    for password in ("secret", "wrong"):
        login = ("admin", password)
        assert error(ask(node, "GET", "/_node/_local", login=login)) == (401, NOT_ADMIN)
        assert ask(node, "GET", "/", login=login).status == 200
    body = {"name": "admin", "password": "secret"}
    opened = ask(node, "POST", "/_session", body, login=None)
    cookie = {"cookie": opened.headers["set-cookie"].partition(";")[0]}
    assert ask(node, "GET", "/_node/_local", login=None, headers=cookie).status == 200
    shown = value(ask(node, "GET", "/_session", login=None, headers=cookie))["info"]
    assert shown == {"authentication_handlers": ["cookie"], "authenticated": "cookie"}


def test_the_handlers_are_read_when_the_process_starts() -> None:
    node = make(Network(pace=0))
    ways = NO_BASIC["chttpd"]["authentication_handlers"]
    assert config(node, "chttpd/authentication_handlers", ways).status == 200
    assert ask(node, "GET", "/_membership").status == 200
    node.stop()
    node.start()
    assert error(ask(node, "GET", "/_membership")) == (401, NOT_ADMIN)


# --- what the ini file makes of the environment, and what it refuses ---


@pytest.mark.parametrize(
    ("printed", "read"),
    [("example\n", "example"), ("example\r\nmore", "example"), ("  a b  ", "a b"),
     ("\nexample", ""),
     ("a ;b", "a"), ("a;b", "a;b"), (";a", ""), ("", ""), ("a = b", "a = b")],
)  # fmt: skip
def test_what_an_ini_file_loses(printed: str, read: str) -> None:
    assert ini_value(printed) == read


def test_the_line_break_at_the_end_of_a_password_is_not_part_of_it() -> None:
    node = make(Network(pace=0), password="secret\n", secret="s\n")
    assert ask(node, "GET", "/_membership").status == 200
    assert ask(node, "GET", "/_membership", login=("admin", "secret\n")).status == 401
    assert node.config.secret == "s"


def test_a_hash_given_as_the_password_is_kept_and_no_password_is_right() -> None:
    node = make(Network(pace=0), password=HASH)
    assert node.config.admins["admin"] == HASH
    assert ask(node, "GET", "/_membership", login=("admin", HASH)).status == 401


def test_what_is_not_persisted_is_gone_with_the_process() -> None:
    node = make(Network(pace=0))
    unsaved = {"x-couch-persist": "false"}
    assert config(node, "couchdb/maintenance_mode", "true", headers=unsaved).status == 200
    assert ask(node, "GET", "/_up").status == 404
    node.stop()
    node.start()
    assert ask(node, "GET", "/_up").status == 200


@pytest.mark.parametrize("why", ["eperm", "erofs", "enospc"])
def test_an_ini_file_that_cannot_be_written(why: str) -> None:
    network = Network(pace=0)
    first, second = (make(network, i, secret=f"secret-{i}") for i in (0, 1))
    ask(second, "PUT", f"/_node/_local/_nodes/{first.name}", {})
    network.settle()
    hashed = second.config.admins["admin"]
    second.config.unwritable = why
    assert error(config(second, "chttpd_auth/secret", "new")) == (400, why)
    assert error(config(second, "admins/bob", "plain")) == (400, why)
    # The process has the values all the same, and nobody in it was told.
    assert second.config.secret == "new"
    assert second.config.admins["bob"] == "plain"
    assert ask(second, "GET", "/_membership", login=("bob", "plain")).status == 401
    assert second.secrets.current == "secret-1"
    finish = ask(first, "POST", "/_cluster_setup", {"action": "finish_cluster"})
    assert error(finish) == (500, "Cluster setup unable to sync admin passwords")
    assert second.config.admins["admin"] == first.config.admins["admin"] != hashed
    second.stop()
    second.start()
    assert second.config.secret == "secret-1"
    assert "bob" not in second.config.admins
    assert ask(second, "GET", "/_membership").status == 200
    unset = ask(second, "DELETE", "/_node/_local/_config/chttpd_auth/secret")
    assert error(unset) == (400, why)
    assert second.config.secret == "secret-1"


def test_a_full_volume() -> None:
    network = Network(pace=0)
    first, second, third = cluster(network)
    assert ask(first, "PUT", "/orders").status == 201
    first.full_volume = True
    assert error(ask(first, "PUT", "/more")) == (500, "internal_server_error")
    assert error(ask(first, "DELETE", "/orders")) == (500, "internal_server_error")
    member = ask(first, "PUT", "/_node/_local/_nodes/couchdb@x.y", {})
    assert member.status == 500
    assert "enospc" in value(member)["reason"]
    assert ask(first, "GET", "/_up").status == ask(first, "GET", "/_membership").status == 200
    # Two of three copies have room.
    assert ask(first, "PUT", "/orders/a", {}).status == 201
    second.full_volume = third.full_volume = True
    assert error(ask(second, "PUT", "/orders/b", {})) == (500, "internal_server_error")


# --- names ---


@pytest.mark.parametrize(
    ("names", "short", "meet"),
    [(("couchdb@couchdb-0", "couchdb@couchdb-1"), False, False),
     (("couchdb@couchdb-0", "couchdb@couchdb-1"), True, True),
     ((name_of(0), name_of(1)), True, False),
     (("couchdb@fd00::1", "couchdb@fd00::2"), False, True),
     (("couchdb@127.0.0.10", "couchdb@127.0.0.11"), False, True)],
)  # fmt: skip
def test_which_names_connect(names: tuple[str, str], short: bool, meet: bool) -> None:
    network = Network(pace=0)
    first, second = (make(network, i, name=name, short_names=short) for i, name in enumerate(names))
    assert ask(first, "PUT", f"/_node/_local/_nodes/{second.name}", {}).status == 201
    network.settle()
    assert (second.name in first.connected) is meet
    assert first.members == {first.name, second.name}
    assert (first.name in second.members) is meet


def test_nodes_without_a_name_are_all_called_alike_and_meet_nobody() -> None:
    network = Network(pace=0)
    named = make(network, 2)
    one, two = (make(network, i, name="nonode@nohost") for i in (0, 1))
    for node in (one, two):
        assert value(ask(node, "GET", "/_node/_local")) == {"name": "nonode@nohost"}
    assert ask(one, "POST", "/_cluster_setup", {"action": "finish_cluster"}).status == 201
    assert (one.state, two.state) == ("cluster_finished", "cluster_enabled")
    assert value(ask(two, "GET", "/_all_dbs")) == []
    login = {"username": "admin", "password": "secret"}
    add = {"action": "add_node", "host": "127.0.0.11", "port": 5984, **login}
    assert ask(named, "POST", "/_cluster_setup", add).status == 201
    network.settle()
    assert named.members == {named.name, "couchdb@127.0.0.11"}, "a ghost"
    assert named.connected == {named.name}
    assert two.members == {"nonode@nohost"}


# --- seeds, zones, maintenance ---


def test_seeds_that_never_answer() -> None:
    seeds = (name_of(0), "couchdb@couchdb-1.couchdb.db.svc.another.domain")
    network = Network(pace=0)
    node = make(network, seedlist=seeds)
    answer = ask(node, "GET", "/_up")
    assert (answer.status, value(answer)["status"]) == (404, "seeding")
    assert node.members == set(seeds)
    path = f"/_node/_local/_nodes/{seeds[1]}"
    revision = value(ask(node, "GET", path))["_rev"]
    assert ask(node, "DELETE", f"{path}?rev={revision}").status == 200
    assert node.members == {node.name}
    node.stop()
    node.start()
    assert node.members == set(seeds), "they come back with each boot"


def test_a_placement_that_no_node_fulfils() -> None:
    network = Network(pace=0)
    ini = {"cluster": {"placement": "a:2,b:1"}}
    first, second, third = (make(network, i, ini=ini, zone=z) for i, z in enumerate("aab"))
    for node in (second, third):
        ask(node, "PUT", f"/_node/_local/_nodes/{first.name}", {})
    network.settle()
    assert ask(first, "PUT", "/orders?q=1&n=1").status == 201
    (holders,) = value(ask(first, "GET", "/_node/_local/_dbs/orders"))["by_range"].values()
    assert holders == sorted(node.name for node in (first, second, third))
    path = f"/_node/_local/_nodes/{third.name}"
    own = value(ask(first, "GET", path))
    assert own["zone"] == "b"
    leaving = {"_rev": own["_rev"], "zone": "b", "decom": True}
    assert ask(first, "PUT", path, leaving).status == 201
    network.settle()
    for made in (
        ask(first, "PUT", "/more"),
        ask(first, "POST", "/_cluster_setup", {"action": "finish_cluster"}),
    ):
        assert error(made) == (500, "no_nodes_in_zone")
    config(first, "cluster/placement", "b")
    assert error(ask(first, "PUT", "/more")) == (500, "b")
    config(first, "cluster/placement", "a:1")
    assert ask(first, "PUT", "/more").status == 201


def test_maintenance_takes_the_databases_away_and_leaves_the_set_up() -> None:
    node = cluster(Network(pace=0), 1)[0]
    assert ask(node, "PUT", "/orders").status == 201
    config(node, "couchdb/maintenance_mode", "true")
    gone = (500, "No DB shards could be opened.")
    for path in ("/orders", "/orders/_all_docs", "/orders/a", "/orders/_shards", "/_users"):
        assert error(ask(node, "GET", path)) == gone
    for path in ("/_all_dbs", "/_users/_all_docs", "/_replicator/_all_docs"):
        assert error(ask(node, "GET", path)) == (412, node.name)
    assert error(ask(node, "PUT", "/orders/a", {})) == gone
    assert ask(node, "GET", "/_up").status == 404
    for path in ("/_membership", "/_cluster_setup", "/_node/_local/_dbs/_all_docs"):
        assert ask(node, "GET", path).status == 200
    config(node, "couchdb/maintenance_mode", "false")
    assert ask(node, "GET", "/orders").status == 200
