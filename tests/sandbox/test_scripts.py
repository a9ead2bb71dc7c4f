"""What is told of scripts, and of Bitnami's image, without running them."""

from typing import Any

import pytest

from couchdiscover.sandbox.image import Boot, boot
from couchdiscover.sandbox.kubelet import Mount
from couchdiscover.sandbox.scripts import databases_made

HOSTS = ("c-0.c.db.svc.cluster.local", "c-0")
LOGIN = {"COUCHDB_USER": "admin", "COUCHDB_PASSWORD": "word"}


def start(
    image: str = "couchdb:3.5.2",
    variables: dict[str, str] | None = None,
    mounted: tuple[Mount, ...] = (),
    **container: Any,
) -> Boot:
    arguments = tuple(container.get("args", ()))
    given = LOGIN if variables is None else variables
    return boot({"name": "couchdb", "image": image, **container}, given, arguments, mounted, HOSTS)


@pytest.mark.parametrize(
    ("script", "name"),
    [
        ("export NODENAME=$(hostname -f); exec tini -- /docker-entrypoint.sh couchdb", HOSTS[0]),
        ("NODENAME=`hostname --fqdn` /docker-entrypoint.sh couchdb", HOSTS[0]),
        ('export NODENAME="${HOSTNAME}.c.db.svc.cluster.local"', HOSTS[0]),
        ("export NODENAME=$HOSTNAME", HOSTS[1]),
        ("export NODENAME=$USER_GIVEN && couchdb", "given.example"),
        ('echo "-name couchdb@$(hostname -f)" >> /opt/couchdb/etc/vm.args', HOSTS[0]),
        ("exec couchdb -name couchdb@$(hostname).c", "c-0.c"),
        ("export NODENAME=$(cat /etc/name)", ""),  # it cannot be told
        ("export MY_NODENAME=a.b", ""),
        ("sleep infinity", ""),
    ],
)
def test_a_script_that_names_the_node(script: str, name: str) -> None:
    variables = {**LOGIN, "USER_GIVEN": "given.example"}
    parts: list[dict[str, Any]] = [
        {"command": ["sh", "-c", script]},
        {"command": ["sh"], "args": ["-c", script]},
    ]
    for part in parts:
        found = start(variables=variables, **part)
        assert found.name == (f"couchdb@{name}" if name else "nonode@nohost")
        assert "a command of its own" in found.notes[-1]


def test_a_cookie_that_a_script_sets() -> None:
    assert start(command=["sh", "-c", "couchdb -setcookie crumb"]).cookie == "crumb"


@pytest.mark.parametrize(
    ("script", "made"),
    [
        ("curl -X PUT http://a:b@127.0.0.1:5984/_users", ("_users",)),
        ("curl --request PUT localhost:5984/_replicator -s", ("_replicator",)),
        (
            'for db in _users _replicator; do curl -sX "PUT" http://$HOSTNAME:5984/$db; done',
            ("_users", "_replicator"),
        ),
        ("curl -XPUT http://$(hostname):5984/_global_changes;", ("_global_changes",)),
        ("curl -X PUT http://couchdb:5984/_users", ()),  # of whichever pod that is
        ("if [ $HOSTNAME = c-0 ]; then curl -X PUT localhost:5984/_users; fi", ()),
        ("curl localhost:5984/_cluster_setup -d x; curl -X PUT localhost:5984/_users", ()),
        ("curl -X PUT localhost:5984/_users/org.couchdb.user:x -d {}", ()),
        ("curl localhost:5984/_users", ()),
        ("wget localhost:5984/_users", ()),
    ],
)
def test_databases_that_a_script_makes(script: str, made: tuple[str, ...]) -> None:
    assert databases_made(["sh", "-c", script]) == made


BITNAMI = {
    **LOGIN,
    "COUCHDB_NODENAME": f"couchdb@{HOSTS[0]}",
    "COUCHDB_SECRET": "crumb",
}


def test_bitnamis_image_goes_by_its_own_variables() -> None:
    found = start("docker.io/bitnamilegacy/couchdb:3.4.2-debian-12-r1", BITNAMI)
    assert (found.version, found.name, found.crash) == ("3.4.2", f"couchdb@{HOSTS[0]}", "")
    assert found.cookie == "crumb"
    assert found.settings["admins"] == {"admin": "word"}
    assert found.settings["chttpd"]["require_valid_user"] == "true"
    assert found.makes == ("_users", "_replicator", "_global_changes")
    assert "it is Bitnami's" in found.notes[0]


def test_bitnamis_defaults_files_and_ends() -> None:
    image = "bitnami/couchdb:3"
    files = Mount("/run/secrets", {"pw": "from a file\n"}, False, True, "")
    bare = {"COUCHDB_PASSWORD_FILE": "/run/secrets/pw", "COUCHDB_CREATE_DATABASES": "no"}
    found = start(image, {**bare, "COUCHDB_PORT_NUMBER": "15984", "NODENAME": "a.b"}, (files,))
    assert (found.name, found.makes) == ("couchdb@127.0.0.1", ())
    assert found.settings["admins"] == {"admin": "from a file"}
    assert found.settings["chttpd"]["port"] == "15984"
    assert "COUCHDB_PASSWORD" in start(image, {"COUCHDB_USER": "admin"}).crash


@pytest.mark.parametrize(
    ("flags", "hosts", "crash"),
    [
        ("-name couchdb", ("c-0", "c-0"), "c-0 is no full host name"),
        ("-sname couchdb@c-0.c", HOSTS, "a short name has no dot"),
        ("-name couchdb@c-0", HOSTS, ""),  # it starts, and never connects
    ],
)
def test_names_that_erlang_does_not_start_with(
    flags: str, hosts: tuple[str, str], crash: str
) -> None:
    container = {"name": "couchdb", "image": "couchdb:3.5.2"}
    found = boot(container, {**LOGIN, "ERL_FLAGS": flags}, (), (), hosts)
    assert crash in found.crash
    assert bool(crash) == bool(found.crash)


def test_a_user_with_a_line_break_is_no_administrator() -> None:
    found = start(variables={"COUCHDB_USER": "admin\n", "COUCHDB_PASSWORD": "word\n"})
    assert "its ini files make no administrator" in found.crash
    assert start("couchdb:2.3.1", {"COUCHDB_USER": "admin\n", "COUCHDB_PASSWORD": "x"}).crash == ""


@pytest.mark.parametrize(("version", "zone"), [("3.5.1", "a"), ("3.5.0", None)])
def test_a_zone_by_variable(version: str, zone: str | None) -> None:
    assert start(f"couchdb:{version}", {**LOGIN, "COUCHDB_ZONE": "a"}).zone == zone
