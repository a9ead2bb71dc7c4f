"""What a run tells: JSON as promised, conditions, text, the termination message."""

import json
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from couchdiscover.output.report import TERMINATION_BYTES, Record, Report, conditions
from couchdiscover.state.nodes import (
    ClusterView,
    Identity,
    NodeView,
    SetupState,
    Sight,
    Unreachable,
)
from couchdiscover.state.steps import Step, StepKind
from couchdiscover.state.topology import Address, Pod, Topology

CONDITIONS = [
    "Reachable",
    "Enabled",
    "Joined",
    "Connected",
    "Finished",
    "Consistent",
    "Succeeded",
]
SAME = Identity("a", "b", "c")


def erlang_name(ordinal: int) -> str:
    return f"couchdb@couchdb-{ordinal}.couchdb.db.svc.cluster.local"


ALL = frozenset(map(erlang_name, range(3)))


def topology(size: int = 3) -> Topology:
    pods = tuple(Pod(f"couchdb-{i}", i, f"couchdb-{i}.couchdb") for i in range(size))
    return Topology("db", "couchdb", "couchdb", pods)


def node(ordinal: int, **changes: Any) -> NodeView:
    """A node of a cluster that is whole, unless told otherwise."""
    whole = NodeView(
        pod=f"couchdb-{ordinal}",
        address=Address(f"10.0.0.{4 + ordinal}", 5984),
        name=erlang_name(ordinal),
        state=SetupState.FINISHED,
        all_nodes=ALL,
        cluster_nodes=ALL,
        version="3.5.1",
        identity=SAME,
    )
    return replace(whole, **changes)


def fresh(ordinal: int, **changes: Any) -> NodeView:
    own = frozenset({erlang_name(ordinal)})
    return node(ordinal, state=SetupState.DISABLED, all_nodes=own, cluster_nodes=own, **changes)


def silent(ordinal: int) -> Unreachable:
    return Unreachable(f"couchdb-{ordinal}", "to be given an address by Kubernetes")


def record(*sights: Sight, **changes: Any) -> Record:
    return Record("run", "db", "couchdb", topology(), ClusterView(sights), **changes)


def report(of: Record, code: int = 0, message: str = "3 nodes are one cluster") -> Report:
    result = {0: "done", 4: "timed_out"}[code]
    return Report(of, result, code, message, 0.41234)


def statuses(of: Record) -> dict[str, str]:
    return {c.type: c.status for c in conditions(of, succeeded=True)}


# --- JSON -------------------------------------------------------------------------------------

KEYS = [
    "command",
    "result",
    "exit_code",
    "message",
    "namespace",
    "statefulset",
    "expected",
    "coordinator",
    "nodes",
    "steps",
    "conditions",
    "warnings",
    "elapsed_seconds",
]


def test_json_of_a_whole_cluster() -> None:
    step = Step(StepKind.ADD_NODE, "couchdb-1", "it is no member", "couchdb-0", erlang_name(0))
    of = record(node(0), node(1), node(2), steps=[step])
    of.warn(["a warning €"])
    text = report(of).as_json()
    assert "\n" not in text
    found = json.loads(text)
    assert list(found) == KEYS
    assert found["conditions"][0] == {
        "type": "Reachable",
        "status": "True",
        "reason": "AllNodesAnswer",
        "message": "3 of 3 nodes answer",
    }
    assert [c["type"] for c in found.pop("conditions")] == CONDITIONS
    nodes = found.pop("nodes")
    assert nodes[0] == {
        "pod": "couchdb-0",
        "address": "10.0.0.4:5984",
        "name": erlang_name(0),
        "version": "3.5.1",
        "state": "cluster_finished",
        "members": 3,
        "connected": 3,
        "problem": None,
    }
    assert [entry["pod"] for entry in nodes] == ["couchdb-0", "couchdb-1", "couchdb-2"]
    (described,) = found.pop("steps")
    expected = {"step": "add_node", "node": "couchdb-1", "to": "couchdb-0"}
    assert expected.items() <= described.items()
    assert found == {
        "command": "run",
        "result": "done",
        "exit_code": 0,
        "message": "3 nodes are one cluster",
        "namespace": "db",
        "statefulset": "couchdb",
        "expected": ["couchdb-0", "couchdb-1", "couchdb-2"],
        "coordinator": "couchdb-0",
        "warnings": ["a warning €"],
        "elapsed_seconds": 0.412,
    }


def test_json_of_a_run_that_saw_nothing() -> None:
    found = json.loads(report(Record("run"), 4, "timed out").as_json())
    assert list(found) == KEYS
    assert {c["status"] for c in found["conditions"][:-1]} == {"Unknown"}
    assert [c["type"] for c in found["conditions"]] == CONDITIONS
    assert found["conditions"][-1]["status"] == "False"
    for key in ("namespace", "statefulset", "coordinator"):
        assert found[key] is None
    for key in ("expected", "nodes", "steps", "warnings"):
        assert found[key] == []


def test_json_of_nodes_that_do_not_answer() -> None:
    refusing = replace(silent(2), address=Address("fd00::6", 5984))
    found = json.loads(report(record(node(0), silent(1), refusing), 4).as_json())
    unknown = dict.fromkeys(("address", "name", "version", "state", "members", "connected"))
    problem = "to be given an address by Kubernetes"
    assert found["nodes"][1] == {"pod": "couchdb-1", **unknown, "problem": problem}
    assert found["nodes"][2]["address"] == "[fd00::6]:5984"
    assert list(found["nodes"][1]) == list(found["nodes"][0])
    assert found["coordinator"] == "couchdb-0"


def test_json_of_a_pods_own_look() -> None:
    """In scope pod, a peer may not have been looked at."""
    found = json.loads(report(record(node(1))).as_json())
    assert [entry["problem"] is None for entry in found["nodes"]] == [False, True, False]


@pytest.mark.parametrize(
    ("step", "described"),
    [
        (Step(StepKind.ENABLE_NODE, "couchdb-1", "why"), {}),
        (Step(StepKind.FINISH_CLUSTER, "couchdb-0", "why"), {}),
        (Step(StepKind.ENSURE_DB, "couchdb-0", "why", name="orders"), {"database": "orders"}),
        (
            Step(StepKind.SYNC_IDENTITY, "couchdb-1", "why", "couchdb-0", "n@x", ("uuid",)),
            {"to": "couchdb-0", "keys": ["uuid"]},
        ),
    ],
)
def test_json_of_steps(step: Step, described: dict[str, Any]) -> None:
    (found,) = json.loads(report(record(steps=[step])).as_json())["steps"]
    assert found == {"step": str(step.kind), "node": step.pod, **described, "reason": "why"}


@pytest.mark.parametrize(
    ("sights", "coordinator"),
    [
        ((fresh(0), fresh(1), fresh(2)), "couchdb-0"),
        ((silent(0), node(1), node(2)), "couchdb-1"),
        ((fresh(0), node(1), node(2)), "couchdb-1"),
        ((silent(0), silent(1), silent(2)), "couchdb-0"),
    ],
)
def test_the_coordinator(sights: tuple[Sight, ...], coordinator: str) -> None:
    assert json.loads(report(record(*sights)).as_json())["coordinator"] == coordinator


# --- conditions -------------------------------------------------------------------------------

MEMBERS = frozenset({erlang_name(0), erlang_name(1)})


@pytest.mark.parametrize(
    ("sights", "expected"),
    [
        # Reachable, Enabled, Joined, Connected, Finished, Consistent
        ([node(0), node(1), node(2)], "True True True True True True"),
        ([node(0), node(1), silent(2)], "False Unknown Unknown Unknown Unknown Unknown"),
        ([silent(0), silent(1), silent(2)], "False Unknown Unknown Unknown Unknown Unknown"),
        ([fresh(0), fresh(1), fresh(2)], "True False False False False Unknown"),
        ([fresh(0), silent(1), silent(2)], "False False False Unknown False Unknown"),
        (
            [node(i, state=SetupState.ENABLED) for i in range(3)],
            "True True True True False Unknown",
        ),
        (
            [node(0, all_nodes=MEMBERS), node(1, all_nodes=MEMBERS), node(2)],
            "True True True False True True",
        ),
        ([node(0, cluster_nodes=MEMBERS), node(1), node(2)], "True True False True True True"),
        (
            [node(0), node(1), node(2, identity=Identity("a", "b", "other"))],
            "True True True True True False",
        ),
        ([node(0), node(1), node(2, identity=None)], "True True True True True Unknown"),
    ],
)
def test_conditions(sights: list[Sight], expected: str) -> None:
    found = statuses(record(*sights))
    assert list(found) == CONDITIONS
    assert " ".join(list(found.values())[:-1]) == expected
    assert found["Succeeded"] == "True"


def test_whoever_finished_the_cluster_made_it_consistent() -> None:
    nodes = [node(i, identity=None) for i in range(3)]
    assert statuses(record(*nodes))["Consistent"] == "Unknown"
    assert statuses(record(*nodes, finished_here=True))["Consistent"] == "True"


def test_conditions_count() -> None:
    found = {c.type: c for c in conditions(record(node(0), fresh(1), silent(2)), succeeded=False)}
    assert found["Reachable"].message == "2 of 3 nodes answer"
    assert found["Enabled"].message == "1 of 3 nodes enabled"
    assert found["Succeeded"].status == "False"
    for condition in found.values():
        assert condition.reason.isidentifier()  # CamelCase, as Kubernetes has it
        assert condition.message


# --- text -------------------------------------------------------------------------------------


def test_text() -> None:
    step = Step(StepKind.ENABLE_NODE, "couchdb-1", "it is disabled")
    of = record(node(0), node(1, severed="port 4369 cannot be reached"), silent(2), steps=[step])
    of.warn(["first", "second", "first"])
    lines = report(of, 4, "timed out after 5 s").as_text().splitlines()
    assert lines == [
        f"couchdb-0  10.0.0.4:5984  cluster_finished  3/3 connected  {erlang_name(0)}",
        "couchdb-1  10.0.0.5:5984  cluster_finished  3/3 connected  port 4369 cannot be reached",
        "couchdb-2  -              -                 -              "
        "to be given an address by Kubernetes",
        "steps taken:",
        "  enable_node couchdb-1: it is disabled",
        "warning: first",
        "warning: second",
        "timed out after 5 s",
    ]


def test_text_of_a_plan() -> None:
    step = Step(StepKind.ENABLE_NODE, "couchdb-1", "it is disabled")
    of = Record("plan", planned=True, steps=[step])
    assert Report(of, "not_so", 3, "there is to do", 0.1).as_text().splitlines() == [
        "steps to take:",
        "  enable_node couchdb-1: it is disabled",
        "there is to do",
    ]


def test_a_warning_is_kept_once() -> None:
    of = Record("run")
    assert of.warn(["a", "b"]) == ["a", "b"]
    assert of.warn(["b", "c"]) == ["c"]
    assert of.warnings == ["a", "b", "c"]


# --- the termination message ------------------------------------------------------------------


@given(st.text(max_size=50), st.integers(0, 3), st.sampled_from(["a", "ü", "€", "🛋"]))
def test_the_termination_message_is_cut_at_a_character(
    start: str, padding: int, filler: str
) -> None:
    message = start + "x" * padding + filler * 4200
    cut = report(Record("run"), message=message).termination_message()
    assert message.startswith(cut)
    assert TERMINATION_BYTES - 3 <= len(cut.encode()) <= TERMINATION_BYTES


@given(st.text(max_size=200))
def test_a_short_termination_message_is_whole(message: str) -> None:
    assert report(Record("run"), message=message).termination_message() == message


def test_a_path_that_is_no_utf_8_can_be_told() -> None:
    cut = report(Record("run"), message="no kubeconfig at /etc/\udcff").termination_message()
    assert cut == "no kubeconfig at /etc/\\udcff"
