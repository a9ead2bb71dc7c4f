"""``demo --manifest``: other people's manifests, and what must come of each."""

import json
import re
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from copy import deepcopy
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.support.command import Command, finish
from tests.support.processes import Nursery

FIELD = Path(__file__).parents[1] / "field"
MARK = "Marked/ünusual word+1"
"""A password that no output may hold, in whatever shape."""

SECONDS = 20
"""For a rehearsal that comes to its end by itself, on a busy machine too."""

SHORT = 3
"""For one that waits in vain."""


@dataclass(frozen=True)
class Ended:
    """A rehearsal that is over."""

    code: int
    out: str
    err: str

    @property
    def reason(self) -> str:
        """The last line of the log: why it ended."""
        lines = self.err.rstrip().splitlines() or [""]
        return lines[-1]

    @property
    def all(self) -> str:
        """Everything that was said."""
        return f"{self.out}\n{self.err}"

    @property
    def written(self) -> str:
        """What was written to CouchDB."""
        found = re.search(r"^Written to CouchDB: (.*)\.$", self.out, re.MULTILINE)
        assert found is not None, self.all
        return found[1]


def demo(
    couchdiscover: Command,
    *arguments: str,
    stdin: str | bytes = b"",
    environment: Mapping[str, str] | None = None,
) -> Ended:
    """Runs ``demo`` with these arguments, with nothing of our environment, and looks for leaks."""
    started = couchdiscover.start(
        "demo",
        *arguments,
        stdin=stdin.encode() if isinstance(stdin, str) else stdin,
        environment={"COLUMNS": "200", **(environment or {})},
    )
    ended = finish(started)
    found = Ended(ended.code, ended.out, ended.err)
    for text in (MARK, json.dumps(MARK)[1:-1], "Marked"):
        assert text not in found.all
    return found


# --- the shapes of the field: the first line of each says what must come of it ---

Judge = Callable[[Ended], None]


def named(*texts: str) -> Judge:
    """The reason names all of these."""

    def judge(ended: Ended) -> None:
        for text in texts:
            assert re.search(text, ended.reason), f"{text!r} is not in {ended.reason!r}"

    return judge


def once(text: str) -> Judge:
    """The reason says this once, and not once for each pod."""

    def judge(ended: Ended) -> None:
        assert ended.reason.count(text) == 1, ended.reason

    return judge


def told(*texts: str) -> Judge:
    """Somewhere all of these are said."""

    def judge(ended: Ended) -> None:
        for text in texts:
            assert re.search(text, ended.all), f"{text!r} is not in {ended.all}"

    return judge


def never(*texts: str) -> Judge:
    """couchdiscover itself says none of these."""

    def judge(ended: Ended) -> None:
        for text in texts:
            assert not re.search(text, ended.err), f"{text!r} is in {ended.err}"

    return judge


def no_member(ended: Ended) -> None:
    """No member was written."""
    assert "member" not in ended.written


def nothing(ended: Ended) -> None:
    """Nothing was written."""
    assert ended.written == "nothing"


def no_login(ended: Ended) -> None:
    """The administrator's password was tried nowhere."""
    assert "refused the user" not in ended.err


SHAPES: dict[str, tuple[int, list[Judge]]] = {
    "01-envfrom-other-names": (0, []),
    "02-no-such-service": (
        4,
        [
            named("couchdb-0, couchdb-1, couchdb-2 to be .* Service couchdb-headless .* not there"),
            once("couchdb-headless"),
            no_member,
        ],
    ),
    "03-selector-misses": (
        4,
        [named("Service couchdb", "selector", r"\?"), once("selector"), no_member],
    ),
    "04-not-headless": (
        4,
        [
            named("Service couchdb .* not headless"),
            told(r"WARNING no Erlang cookie is set \(COUCHDB_ERLANG_COOKIE\)"),
            never("publishNotReadyAddresses: true, and the pod"),
        ],
    ),
    "05-admin-next-door": (2, [named("set-up", "couchdb-admin"), nothing]),
    "06-couchdb-2": (2, [named(r"2\.3\.1"), nothing]),
    "07-one-unnamed": (0, [told(r"WARNING .*grow")]),
    "08-unnamed-three": (6, [named("NODENAME"), nothing]),
    "09-short-names": (6, [named("couchdb@couchdb-[012]", "NODENAME|dot"), nothing]),
    "10-named-by-address": (0, [told(r"WARNING .*NODENAME")]),
    "11-hash-for-a-password": (2, [named("hash"), nothing, no_login]),
    "12-empty-user": (2, [named(r"^[^_]*COUCHDB_USER"), nothing]),
    "13-autoscaled": (0, []),
    "14-cookie-by-reference": (0, [never("WARNING .*cookie")]),
    "15-distribution-ports-only": (0, []),
    "16-set-a-node": (0, [told("couchdb-b", "couchdb-c"), never("delete")]),
    "17-seeds-of-another-domain": (
        6,
        [named("seedlist", r"cluster\.local", r"example\.internal"), no_member],
    ),
    "18-line-break": (0, [told("line break")]),
    "19-bitnami": (
        6,
        [named("_global_changes, _replicator, _users", "leave that to couchdiscover"), nothing],
    ),
    "20-named-by-a-script": (0, [told("has a command of its own")]),
    "21-line-break-in-the-user": (4, [told("CouchDB does not start"), nothing]),
    "22-no-service-name": (4, [named(r"names no Service \(spec.serviceName\)", "name couchdb")]),
    "23-seeds-one-pod-after-the-other": (
        6,
        [
            told(r"ERROR .*\[cluster\] seedlist", "in couchdb.prod.svc.*in couchdb.default"),
            no_member,
        ],
    ),
    "24-zones-of-nobody": (4, [named(r"\[cluster\] placement", "COUCHDB_ZONE")]),
}

OPTIONS = {"16-set-a-node": ["--statefulset", "couchdb-a"]}

MISSING: dict[str, str] = {}
"""What the program cannot do yet, by the shape that shows it."""


def marked(shape: str) -> Any:
    """The shape, expected to fail where something is missing."""
    reason = MISSING.get(shape)
    marks = [pytest.mark.xfail(strict=True, reason=reason)] if reason else []
    return pytest.param(shape, marks=marks)


@pytest.fixture(scope="module")
def played(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory, _nursery: Nursery
) -> Iterator[Mapping[str, "Future[Ended]"]]:
    """The rehearsals of all shapes that are asked for, begun at once: most of them wait."""
    names = [
        str(item.callspec.params["shape"])
        for item in request.session.items
        if item.fspath == request.path and "shape" in getattr(item, "fixturenames", ())
        if isinstance(item, pytest.Function)
    ]
    couchdiscover = Command(tmp_path_factory.mktemp("shapes"), _nursery)
    with ThreadPoolExecutor(6) as pool:
        yield {
            name: pool.submit(
                demo,
                couchdiscover,
                *("--manifest", str(FIELD / f"{name}.yaml")),
                *("--timeout", f"{SHORT if SHAPES[name][0] == 4 else SECONDS}s"),
                *OPTIONS.get(name, ()),
            )
            for name in names
        }


@pytest.mark.parametrize("shape", [marked(shape) for shape in SHAPES])
def test_a_shape_of_the_field(shape: str, played: Mapping[str, "Future[Ended]"]) -> None:
    ended = played[shape].result()
    code, judges = SHAPES[shape]
    assert ended.code == code, ended.all
    for judge in judges:
        judge(ended)


def test_every_shape_has_its_test_and_says_what_must_come_of_it() -> None:
    there = {path.stem: path.read_text() for path in FIELD.glob("*.yaml")}
    assert there.keys() == SHAPES.keys()
    for name, text in there.items():
        first = text.splitlines()[0]
        assert first.startswith("# ")
        assert re.search(rf"\b{SHAPES[name][0]}\b", first), f"{name}: {first}"


# --- variants ---

Object = dict[str, Any]

SECRET: Object = {
    "apiVersion": "v1",
    "kind": "Secret",
    "metadata": {"name": "admin"},
    "stringData": {"COUCHDB_USER": "admin", "COUCHDB_PASSWORD": MARK, "COUCHDB_SECRET": "Marked"},
}
SERVICE: Object = {
    "apiVersion": "v1",
    "kind": "Service",
    "metadata": {"name": "couch"},
    "spec": {
        "clusterIP": "None",
        "publishNotReadyAddresses": True,
        "selector": {"app": "couch"},
        "ports": [{"name": "couchdb", "port": 5984}],
    },
}
STATEFULSET: Object = {
    "apiVersion": "apps/v1",
    "kind": "StatefulSet",
    "metadata": {"name": "couch"},
    "spec": {
        "replicas": 2,
        "serviceName": "couch",
        "selector": {"matchLabels": {"app": "couch"}},
        "template": {
            "metadata": {"labels": {"app": "couch"}},
            "spec": {
                "containers": [
                    {
                        "name": "couchdb",
                        "image": "couchdb:3.5.2",
                        "ports": [{"containerPort": 5984}],
                        "envFrom": [{"secretRef": {"name": "admin"}}],
                        "env": [
                            {"name": "COUCHDB_ERLANG_COOKIE", "value": "Marked-cookie"},
                            {
                                "name": "POD",
                                "valueFrom": {"fieldRef": {"fieldPath": "metadata.name"}},
                            },
                            {
                                "name": "NS",
                                "valueFrom": {"fieldRef": {"fieldPath": "metadata.namespace"}},
                            },
                            {"name": "NODENAME", "value": "$(POD).couch.$(NS).svc.cluster.local"},
                        ],
                    }
                ]
            },
        },
    },
}


def parts() -> tuple[Object, Object, Object]:
    """A Secret, a Service and a StatefulSet of two that become a cluster, to be changed."""
    return deepcopy(SECRET), deepcopy(SERVICE), deepcopy(STATEFULSET)


def pod(statefulset: Object) -> Object:
    """The spec of a StatefulSet's pods."""
    spec: Object = statefulset["spec"]["template"]["spec"]
    return spec


def rehearse(couchdiscover: Command, *objects: Object, options: list[str] | None = None) -> Ended:
    """A rehearsal on these objects, a document each, from standard input."""
    text = "\n---\n".join(json.dumps(found) for found in objects)
    options = options or []
    return demo(couchdiscover, "--manifest", "-", "--timeout", f"{SECONDS}s", *options, stdin=text)


def test_standard_input_and_the_whole_story(couchdiscover: Command, tmp_path: Path) -> None:
    ended = rehearse(couchdiscover, *parts())
    assert ended.code == 0, ended.all
    for text in (
        "StatefulSet couch in namespace default",
        "couch-0  couchdb@couch-0.couch.default.svc.cluster.local",
        "Service couch (headless) publishes couch-0, couch-1",
        "NetworkPolicies, RBAC",
        "$ couchdiscover run --statefulset couch --namespace default",
        "Written to CouchDB: finish_cluster (1), mark (2), member (1).",
        "$ couchdiscover check --statefulset couch --namespace default",
        "The rehearsal ends with exit code 0.",
    ):
        assert text in ended.out
    assert list(tmp_path.iterdir()) == []


def test_files_a_folder_a_list_and_namespaces(couchdiscover: Command, tmp_path: Path) -> None:
    secret, service, statefulset = parts()
    for found in (service, statefulset):
        found["metadata"]["namespace"] = "db"
    secret["metadata"]["namespace"] = "db"
    folder = tmp_path / "manifests"
    folder.mkdir()
    listed = {"apiVersion": "v1", "kind": "List", "items": [secret, service]}
    (folder / "list.json").write_text(json.dumps(listed))
    (folder / "notes.txt").write_text("{ no manifest")
    (tmp_path / "set.yaml").write_text("# Source: chart\n---\n---\n" + json.dumps(statefulset))
    ended = demo(couchdiscover, "--timeout", "4s", "--manifest", "manifests", "set.yaml")
    assert ended.code == 0, ended.all
    assert "couchdb@couch-1.couch.db.svc.cluster.local" in ended.out


def test_the_official_chart(couchdiscover: Command) -> None:
    """Written after the templates of apache/couchdb-helm 4.6: an init container copies the ini."""
    name, labels = "db-couchdb", {"app": "couchdb", "release": "db"}
    host = f"{name}-%d.{name}.default.svc.cluster.local"
    seeds = ",".join(f"couchdb@{host % at}" for at in range(2))
    secret = {
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": {"name": name},
        "stringData": {
            "adminUsername": "admin",
            "adminPassword": MARK,
            "cookieAuthSecret": "Marked",
            "erlangCookie": "Marked",
        },
    }
    config = {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {"name": name},
        "data": {
            "inifile": "[chttpd]\nbind_address = any\n\n[couchdb]\nuuid = 0123456789abcdef\n",
            "seedlistinifile": f"[cluster]\nseedlist = {seeds}\n",
        },
    }
    ports = [{"name": "couchdb", "port": 5984}]
    headless = {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": name},
        "spec": {
            "clusterIP": "None",
            "publishNotReadyAddresses": True,
            "ports": ports,
            "selector": labels,
        },
    }
    front = {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": "db-svc-couchdb"},
        "spec": {
            "type": "ClusterIP",
            "ports": [{**ports[0], "targetPort": 5984}],
            "selector": labels,
        },
    }

    def of_secret(variable: str, key: str) -> Object:
        reference = {"name": name, "key": key}
        return {"name": variable, "valueFrom": {"secretKeyRef": reference}}

    probe = {"httpGet": {"path": "/_up", "port": 5984}}
    copy = "cp /tmp/chart.ini /default.d; cp /tmp/seedlist.ini /default.d; ls -lrt /default.d;"
    statefulset = {
        "apiVersion": "apps/v1",
        "kind": "StatefulSet",
        "metadata": {"name": name},
        "spec": {
            "replicas": 2,
            "serviceName": name,
            "podManagementPolicy": "Parallel",
            "selector": {"matchLabels": labels},
            "template": {
                "metadata": {"labels": labels},
                "spec": {
                    "initContainers": [
                        {
                            "name": "init-copy",
                            "image": "busybox:latest",
                            "command": ["sh", "-c", copy],
                            "volumeMounts": [
                                {"name": "config", "mountPath": "/tmp/"},
                                {"name": "config-storage", "mountPath": "/default.d"},
                            ],
                        }
                    ],
                    "containers": [
                        {
                            "name": "couchdb",
                            "image": "couchdb:3.5.0",
                            "ports": [
                                {"name": "couchdb", "containerPort": 5984},
                                {"name": "epmd", "containerPort": 4369},
                                {"containerPort": 9100},
                            ],
                            "env": [
                                of_secret("COUCHDB_USER", "adminUsername"),
                                of_secret("COUCHDB_PASSWORD", "adminPassword"),
                                of_secret("COUCHDB_SECRET", "cookieAuthSecret"),
                                of_secret("COUCHDB_ERLANG_COOKIE", "erlangCookie"),
                                {"name": "ERL_FLAGS", "value": " -name couchdb "},
                            ],
                            "livenessProbe": probe,
                            "readinessProbe": probe,
                            "volumeMounts": [
                                {
                                    "name": "config-storage",
                                    "mountPath": "/opt/couchdb/etc/default.d",
                                },
                                {"name": "database-storage", "mountPath": "/opt/couchdb/data"},
                            ],
                        }
                    ],
                    "volumes": [
                        {"name": "config-storage", "emptyDir": {}},
                        {
                            "name": "config",
                            "configMap": {
                                "name": name,
                                "items": [
                                    {"key": "inifile", "path": "chart.ini"},
                                    {"key": "seedlistinifile", "path": "seedlist.ini"},
                                ],
                            },
                        },
                        {"name": "database-storage", "emptyDir": {}},
                    ],
                },
            },
        },
    }
    budget = {
        "apiVersion": "policy/v1",
        "kind": "PodDisruptionBudget",
        "metadata": {"name": name},
        "spec": {},
    }
    ended = rehearse(couchdiscover, secret, config, headless, front, statefulset, budget)
    assert ended.code == 0, ended.all
    assert f"{name}-1  couchdb@{host % 1}" in ended.out
    assert "CouchDB 3.5.0" in ended.out
    assert f"PodDisruptionBudget {name}" in ended.out
    assert (
        "Written to CouchDB: finish_cluster (1), mark (2)." in ended.out
    )  # the seeds made the members


# --- couchdiscover in the manifests themselves ---


@pytest.mark.parametrize("policy", ["Parallel", "OrderedReady"])
def test_an_init_container_behind_a_native_sidecar(couchdiscover: Command, policy: str) -> None:
    secret, service, statefulset = parts()
    statefulset["spec"]["podManagementPolicy"] = policy
    spec = pod(statefulset)
    sidecar = {**spec["containers"][0], "restartPolicy": "Always"}
    ours = {
        "name": "join",
        "image": "ghcr.io/couchdiscover/couchdiscover:1.0.0",
        "env": [{"name": "COUCHDISCOVER_LOG_LEVEL", "value": "DEBUG"}],
    }
    spec["initContainers"] = [sidecar, ours]
    spec["containers"] = [{"name": "pause", "image": "registry.k8s.io/pause:3.10"}]
    ended = rehearse(couchdiscover, secret, service, statefulset)
    assert ended.code == 0, ended.all
    assert "initContainer join, in each pod" in ended.out
    assert "--- couch-0: exit code 0" in ended.out
    assert "--- couch-1: exit code 0" in ended.out
    # Two at once: who sees the other's marks already there writes none.
    assert re.fullmatch(r"finish_cluster \(1\), mark \([2-4]\), member \(1\)", ended.written)


def test_the_hook_of_an_ordered_set(couchdiscover: Command) -> None:
    secret, service, statefulset = parts()
    (container,) = pod(statefulset)["containers"]
    script = "exec timeout 130 couchdiscover run --timeout=2m >/proc/1/fd/1 2>&1"
    container["lifecycle"] = {"postStart": {"exec": {"command": ["/bin/sh", "-c", script]}}}
    ended = rehearse(couchdiscover, secret, service, statefulset)
    assert ended.code == 0, ended.all
    assert "postStart of container couchdb, in each pod" in ended.out
    assert "--- couch-1: exit code 0" in ended.out


def test_a_plain_init_container_can_never_do_it(couchdiscover: Command) -> None:
    secret, service, statefulset = parts()
    pod(statefulset)["initContainers"] = [{"name": "join", "image": "couchdiscover"}]
    ended = rehearse(couchdiscover, secret, service, statefulset)
    assert ended.code == 2, ended.all
    assert ended.written == "nothing"


def test_the_job_that_is_there_is_played_with_what_it_has(couchdiscover: Command) -> None:
    secret, service, statefulset = parts()
    hashed = f"-pbkdf2:sha256-{'0' * 64},{'1' * 32},600000"
    secret["stringData"]["COUCHDB_PASSWORD"] = hashed
    job = {
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": {"name": "assemble"},
        "spec": {
            "template": {
                "spec": {
                    "restartPolicy": "Never",
                    "containers": [
                        {
                            "name": "couchdiscover",
                            "image": "couchdiscover:1",
                            "args": ["run", "--statefulset=couch", "--timeout=5m"],
                            "env": [
                                {"name": "COUCHDB_ADMIN_USER", "value": "admin"},
                                {"name": "COUCHDB_ADMIN_PASS", "value": "no such password"},
                            ],
                        }
                    ],
                }
            }
        },
    }
    ended = rehearse(couchdiscover, secret, service, statefulset, job)
    assert "as Job assemble does" in ended.out
    assert "couchdiscover run --statefulset=couch --timeout=5m" in ended.out
    assert ended.code == 5, ended.all  # its own credentials are those that are tried
    assert "own COUCHDB_ADMIN" in ended.reason


def test_a_set_that_is_scaled_to_nothing(couchdiscover: Command) -> None:
    secret, service, statefulset = parts()
    statefulset["spec"]["replicas"] = 0
    ended = rehearse(couchdiscover, secret, service, statefulset)
    assert ended.code == 0, ended.all


# --- several StatefulSets ---


def test_several_stateful_sets_are_to_be_chosen_from(couchdiscover: Command) -> None:
    secret, service, statefulset = parts()
    other = deepcopy(statefulset)
    other["metadata"]["name"] = "other"
    ended = rehearse(couchdiscover, secret, service, statefulset, other)
    refused(ended, "--statefulset", "couch in default, other in default")


def test_the_only_one_that_runs_couchdb_needs_no_choice(couchdiscover: Command) -> None:
    secret, service, statefulset = parts()
    other = deepcopy(statefulset)
    other["metadata"]["name"] = "postgres"
    other["spec"]["serviceName"] = "postgres"
    pod(other)["containers"] = [{"name": "postgres", "image": "postgres:17"}]
    ended = rehearse(couchdiscover, secret, service, other, statefulset)
    assert ended.code == 0, ended.all
    assert "StatefulSet couch in namespace default (the one that runs CouchDB)" in ended.out
    assert "Service couch (headless) publishes couch-0, couch-1, postgres-0" in ended.out


def test_sets_under_one_service_may_begin_apart(couchdiscover: Command) -> None:
    shape = str(FIELD / "16-set-a-node.yaml")
    ended = demo(
        couchdiscover, "--manifest", shape, "-s", "couchdb-b", "--fresh", "--timeout", "4s"
    )
    assert ended.code == 0, ended.all
    assert "joined by hand" not in ended.out
    assert "begin apart from it: couchdb-a, couchdb-c." in ended.out
    assert ended.written == "finish_cluster (1), mark (1)"


# --- what cannot be used ---


def refused(ended: Ended, *texts: str) -> None:
    """Exit code 2, and one sentence: as the result, and in the log."""
    assert ended.code == 2, ended.all
    sentence, see = ended.out.splitlines()
    (line,) = ended.err.splitlines()
    assert line.endswith(f"ERROR   {sentence}")
    assert see.endswith("/exit-codes.md#2")
    for text in texts:
        assert text in sentence


@pytest.mark.parametrize(
    ("text", "texts"),
    [
        (b"", ["no StatefulSet"]),
        (b"\xff\xfe\x00Marked", ["standard input is no YAML"]),
        (b"a: b: Marked\n", ["standard input is no YAML", "line 1"]),
        (b"{kind: Thing, apiVersion: v1, metadata: {name: a}}", ["Thing", "no kind"]),
    ],
)
def test_bad_input_is_told_in_a_sentence(
    couchdiscover: Command, text: bytes, texts: list[str]
) -> None:
    refused(demo(couchdiscover, "--manifest", "-", stdin=text), *texts)


def test_files_that_cannot_be_read(couchdiscover: Command, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    missing, empty = str(tmp_path / "missing.yaml"), str(tmp_path / "empty")
    refused(demo(couchdiscover, "--manifest", missing), "missing.yaml cannot be read")
    refused(demo(couchdiscover, "--manifest", empty), "empty is a folder without")
    refused(demo(couchdiscover, "--manifest", "-", "-"), "once only")


def test_what_kubernetes_would_refuse_is_refused(couchdiscover: Command) -> None:
    secret, service, statefulset = parts()
    statefulset["spec"]["selector"] = {"matchLabels": {"app": "other"}}
    refused(rehearse(couchdiscover, secret, service, statefulset), "StatefulSet couch", "selector")
    secret, service, statefulset = parts()
    pod(statefulset)["containers"][0]["env"].append({"name": "N", "value": 3})
    refused(
        rehearse(couchdiscover, secret, service, statefulset), "N in container couchdb", "quotes"
    )
    secret, service, statefulset = parts()
    service["spec"]["selector"] = ["app"]
    refused(rehearse(couchdiscover, secret, service, statefulset), "spec.selector is no mapping")


@pytest.mark.parametrize(
    "arguments",
    [
        ["--statefulset", "a"],
        ["a.yaml"],
        ["--fresh"],
        ["--manifest", "a.yaml", "--nodes", "4"],
        ["--manifest", "a.yaml", "--timeout", "soon"],
        ["--manifest", "a.yaml", "--namespace", "No One"],
    ],
)
def test_options_that_do_not_go_together(couchdiscover: Command, arguments: list[str]) -> None:
    ended = demo(couchdiscover, *arguments)
    assert ended.code == 2
    assert "see `couchdiscover demo --help`" in ended.reason


def test_the_callers_own_surroundings_do_not_lead_astray(couchdiscover: Command) -> None:
    text = "\n---\n".join(json.dumps(found) for found in parts())
    ended = demo(
        couchdiscover,
        *("--manifest", "-", "--timeout", "4s", "--namespace", "elsewhere"),
        stdin=text,
        environment={
            "POD_NAME": "other-3",
            "POD_NAMESPACE": "other",
            "KUBECONFIG": "/nowhere",
            "COUCHDB_USER": "other",
            "COUCHDB_PASSWORD": "other",
            "COUCHDISCOVER_STATEFULSET": "other",
            "COUCHDISCOVER_SCOPE": "pod",
            "HTTP_PROXY": "http://127.0.0.1:9",
        },
    )
    assert ended.code == 0, ended.all
    assert "couchdb@couch-0.couch.elsewhere.svc.cluster.local" in ended.out


def test_the_help_tells_of_it(couchdiscover: Command) -> None:
    shown = demo(couchdiscover, "--help").out
    for text in ("--manifest", "--statefulset", "--namespace", "--timeout", "rehearsal"):
        assert text in shown
