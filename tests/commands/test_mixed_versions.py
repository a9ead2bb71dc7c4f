"""Nodes of two versions in one StatefulSet: an upgrade pod by pod, its rollback, and a fresh set.

CouchDB 3.3 takes a password hash of a newer one for a plain password: where it is given one, nobody
can log in there any more. So after each run the administrator logs in at every node. With two
releases in COUCHDB_HOME all of this is tried on real nodes, too.
"""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from couchdiscover.sandbox import Sandbox
from tests.support.boxes import Make, ask, asked, whole_by_http
from tests.support.command import REAL_PASSWORD, Command
from tests.support.processes import Ended
from tests.support.releases import real_homes, release_of

OLD, NEW = "3.3.3", "3.5.2"

Mixed = Callable[..., Sandbox]
"""Makes a set: of the old release, but for those pods that are said to be of the new one."""


def homes() -> tuple[Path, Path] | None:
    """A release below 3.4, and a newer one; None where COUCHDB_HOME does not name both."""
    found = {release_of(home): home for home in real_homes()}
    old = [home for version, home in found.items() if version.startswith("3.3.")]
    new = [home for version, home in found.items() if not version.startswith("3.3.")]
    return (old[0], new[0]) if old and new else None


@pytest.fixture(params=["simulated", "real"])
def releases(request: pytest.FixtureRequest) -> tuple[Any, Any]:
    """The old and the new release: versions, or folders."""
    if request.param == "simulated":
        return OLD, NEW
    found = homes()
    if found is None:
        pytest.skip(
            "no real nodes of two versions: COUCHDB_HOME names no two installed CouchDB releases, "
            "a 3.3 and a newer one"
        )
    return found


@pytest.fixture
def mixed(sandbox: Make, releases: tuple[Any, Any]) -> Mixed:
    """Makes sandboxes of two releases."""
    old, new = releases

    def make(nodes: int = 3, newer: tuple[str, ...] = (), **options: Any) -> Sandbox:
        if isinstance(old, Path):
            own: dict[str, Any] = {"real": old, "password": REAL_PASSWORD}
            each: dict[str, Any] = {"home": new}
        else:
            own, each = {"version": old}, {"version": new}
        return sandbox(nodes, pod_options=dict.fromkeys(newer, each), **own, **options)

    return make


def logins(box: Sandbox) -> dict[str, str]:
    """The administrator logs in at every node: by pod, the scheme of the password hash there."""
    found = {}
    for pod in box.pods:
        answer = asked(box, pod, f"/_node/_local/_config/admins/{box.deployment.user}")
        assert answer.status_code == 200, f"{pod}: {answer.text}"
        found[pod] = answer.json().split("-")[1]
    return found


def run(couchdiscover: Command, box: Sandbox, pod: str | None = None) -> Ended:
    """A run that does all there is to do, and a second one that finds nothing."""
    ended = couchdiscover("-o", "json", environment=box.environment(pod))
    assert ended.code == 0, ended.err
    logins(box)
    second = couchdiscover("-o", "json", environment=box.environment(pod))
    assert (second.code, second.json["steps"]) == (0, []), second.err
    logins(box)
    return ended


def says_mixed(ended: Ended) -> bool:
    """Whether a result's warnings name two versions."""
    return any("run different CouchDBs" in warning for warning in ended.json["warnings"])


def test_an_upgrade_pod_by_pod_and_its_rollback(
    mixed: Mixed, releases: tuple[Any, Any], couchdiscover: Command
) -> None:
    old, new = releases
    box = mixed()
    assert not says_mixed(run(couchdiscover, box))
    ask(box, "couchdb-0", "/orders", "PUT")
    ask(box, "couchdb-0", "/orders/first", "PUT", {"amount": 1})
    for release in (new, old):
        for pod in reversed(box.pods):
            box.upgrade(pod, release)
            run(couchdiscover, box, pod)
            ended = run(couchdiscover, box)
            last = pod == "couchdb-0"
            assert says_mixed(ended) is not last
            schemes = set(logins(box).values())
            assert (schemes == {"pbkdf2", "pbkdf2:sha256"}) is not last, schemes
            checked = couchdiscover("check", "-o", "json", environment=box.environment())
            found = {finding["finding"] for finding in checked.json["findings"]}
            assert (found >= {"mixed_versions", "other_scheme"}) is not last
            assert checked.code == (0 if last else 3), "sessions do not hold on all of them"
            for each in box.pods:
                assert ask(box, each, "/orders/first")["amount"] == 1
        whole_by_http(box)


@pytest.mark.parametrize(
    ("newer", "through"),
    [
        (("couchdb-0",), "couchdb-1"),
        (("couchdb-0", "couchdb-1"), "couchdb-2"),
        (("couchdb-1", "couchdb-2"), "couchdb-0"),
    ],
    ids=["the lowest is newer", "two are newer", "the lowest is older"],
)
def test_a_fresh_set_is_finished_through_a_node_whose_hash_all_can_read(
    mixed: Mixed, couchdiscover: Command, newer: tuple[str, ...], through: str
) -> None:
    box = mixed(newer=newer)
    planned = couchdiscover("plan", "-o", "json", environment=box.environment())
    assert planned.code == 3, planned.err
    ended = run(couchdiscover, box)
    steps = [(step["step"], step["node"]) for step in ended.json["steps"]]
    assert steps[-1] == ("finish_cluster", through)
    assert [(step["step"], step["node"]) for step in planned.json["steps"]] == steps
    assert says_mixed(ended)
    assert set(logins(box).values()) == {"pbkdf2"}
    assert any("password hash of" in warning for warning in ended.json["warnings"])
    whole_by_http(box)


def test_each_pod_of_a_fresh_set_by_itself(mixed: Mixed, couchdiscover: Command) -> None:
    """As initContainers and sidecars do it: all at once, whoever comes last finishes."""
    box = mixed(newer=("couchdb-0",))
    started = [
        couchdiscover.start("-o", "json", environment=box.environment(pod)) for pod in box.pods
    ]
    for process in started:
        out, err = process.communicate(timeout=120)
        assert process.returncode == 0, err + out
    logins(box)
    whole_by_http(box)


def test_a_newer_pod_joins_a_cluster_of_older_ones(mixed: Mixed, couchdiscover: Command) -> None:
    box = mixed(2, newer=("couchdb-2",))
    run(couchdiscover, box)
    box.scale(3)
    ended = run(couchdiscover, box, "couchdb-2")
    assert says_mixed(ended)
    run(couchdiscover, box)
    assert logins(box) == {
        "couchdb-0": "pbkdf2",
        "couchdb-1": "pbkdf2",
        "couchdb-2": "pbkdf2:sha256",
    }


def test_a_node_that_hides_its_version_keeps_its_login(
    sandbox: Make, couchdiscover: Command
) -> None:
    """A proxy that strips the Server header: what a node can read shows in its own hash."""
    box = sandbox(3, version=OLD, pod_options={"couchdb-0": {"version": NEW}})

    async def strip(pod: str, request: Any, proceed: Any) -> Any:
        answer = await proceed()
        shown = {name: value for name, value in answer.headers.items() if name.lower() != "server"}
        return replace(answer, headers=shown) if pod in box.pods else answer

    box.intercept = strip
    ended = run(couchdiscover, box)
    assert {node["version"] for node in ended.json["nodes"]} == {None}
    assert [step["node"] for step in ended.json["steps"]][-1] == "couchdb-1"
    whole_by_http(box)
