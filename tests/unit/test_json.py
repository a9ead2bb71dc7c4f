"""The result as JSON: as promised, and with no secret in it, whatever the secret is."""

import json
from dataclasses import replace
from typing import Any

import pytest

from couchdiscover.decide.findings import Finding, Severity
from couchdiscover.output.docs import DOCS
from couchdiscover.output.json import as_json
from couchdiscover.output.redaction import MASK, Redactor
from couchdiscover.output.report import Record, Report
from couchdiscover.state.steps import (
    AddNode,
    EnableNode,
    EnsureDatabase,
    FinishCluster,
    Step,
    SyncIdentity,
)
from couchdiscover.state.topology import Address
from tests.support.views import erlang_name, node, record, report, silent

CONDITIONS = [
    *("Reachable", "Enabled", "Joined", "Connected", "Finished", "Consistent", "Succeeded"),
]
KEYS = [
    *("command", "result", "exit_code", "message", "docs_url", "namespace", "statefulset"),
    *("expected", "coordinator", "nodes", "steps", "conditions", "warnings", "elapsed_seconds"),
]


def found_in(of: Report) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(as_json(of, str))
    return found


def test_a_whole_cluster() -> None:
    step = AddNode("couchdb-1", "couchdb-0", erlang_name(0))
    of = record(node(0), node(1), node(2), steps=[step])
    of.warn(["a warning €"])
    assert "\n" not in as_json(report(of), str)
    found = found_in(report(of))
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
        "docs_url": f"{DOCS}/exit-codes.md#0",
        "namespace": "db",
        "statefulset": "couchdb",
        "expected": ["couchdb-0", "couchdb-1", "couchdb-2"],
        "coordinator": "couchdb-0",
        "warnings": ["a warning €"],
        "elapsed_seconds": 0.412,
    }


@pytest.mark.parametrize("command", ["run", ""])
def test_a_run_that_saw_nothing(command: str) -> None:
    found = found_in(report(Record(command), 4, "timed out"))
    assert list(found) == KEYS
    assert found["command"] == (command or None)
    assert {c["status"] for c in found["conditions"][:-1]} == {"Unknown"}
    assert [c["type"] for c in found["conditions"]] == CONDITIONS
    assert found["conditions"][-1]["status"] == "False"
    for key in ("namespace", "statefulset", "coordinator"):
        assert found[key] is None
    for key in ("expected", "nodes", "steps", "warnings"):
        assert found[key] == []


def test_nodes_that_do_not_answer() -> None:
    refusing = replace(silent(2), address=Address("fd00::6", 5984))
    found = found_in(report(record(node(0), silent(1), refusing), 4))
    unknown = dict.fromkeys(("address", "name", "version", "state", "members", "connected"))
    problem = "fails to be given an address by Kubernetes"
    assert found["nodes"][1] == {"pod": "couchdb-1", **unknown, "problem": problem}
    assert found["nodes"][2]["address"] == "[fd00::6]:5984"
    assert list(found["nodes"][1]) == list(found["nodes"][0])
    assert found["coordinator"] == "couchdb-0"


@pytest.mark.parametrize(
    ("step", "described"),
    [
        (EnableNode("couchdb-1"), {}),
        (FinishCluster("couchdb-0", 3), {}),
        (EnsureDatabase("couchdb-0", "orders"), {"database": "orders"}),
        (
            SyncIdentity("couchdb-1", "couchdb-0", ("uuid",)),
            {"to": "couchdb-0", "keys": ["uuid"]},
        ),
    ],
)
def test_steps(step: Step, described: dict[str, Any]) -> None:
    (found,) = found_in(report(record(steps=[step])))["steps"]
    assert found == {"step": str(step.kind), "node": step.pod, **described, "reason": step.why}


def test_findings_are_those_of_check_and_lead_to_their_documentation() -> None:
    finding = Finding("cut_off", Severity.FAULT, ("couchdb-1",), "couchdb-1 is cut off")
    of = record(node(0), node(1), node(2), command="check", findings=[finding])
    assert found_in(report(of, 3))["findings"] == [
        {
            "finding": "cut_off",
            "severity": "fault",
            "subjects": ["couchdb-1"],
            "message": "couchdb-1 is cut off",
            "docs_url": f"{DOCS}/findings.md#cut_off",
        }
    ]
    assert "findings" not in found_in(report(replace(of, command="run"), 3))


# --- secrets ---


@pytest.mark.parametrize(
    "secret",
    [
        *("null", "0.0", "couchdb", "couchdb-1", "true", "True", "run", "done", "message"),
        *("10.0.0.4", "cluster_finished", "3.5.1", '"}]', "nodes\\", "0.412", "svc"),
    ],
)
def test_no_password_breaks_the_json_or_masks_a_pod(secret: str) -> None:
    """Only the texts change, and those have it no more."""
    step = AddNode("couchdb-1", f"couchdb-{secret}", erlang_name(0))
    finding = Finding("cut_off", Severity.FAULT, ("couchdb-1",), f"found <{secret}>")
    of = record(
        node(0),
        node(1, unconnected_because=f"cause: {secret}"),
        silent(2),
        command="check",
        steps=[step],
        findings=[finding],
    )
    of.warn([f"warned of {secret}!"])
    ended = report(of, 3, f"the end of {secret}!")
    redactor = Redactor(of.names)
    before = json.loads(as_json(ended, redactor.clean))
    redactor.hide(secret)
    after = json.loads(as_json(ended, redactor.clean))
    texts = [
        (after["message"], before["message"]),
        (after["warnings"][0], before["warnings"][0]),
        (after["steps"][0]["reason"], before["steps"][0]["reason"]),
        (after["findings"][0]["message"], before["findings"][0]["message"]),
        (after["nodes"][1]["problem"], before["nodes"][1]["problem"]),
    ]
    for shown, was in texts:
        assert secret in was
        assert secret not in shown
    for found in (before, after):  # from here on all that is no text
        found["message"] = found["warnings"] = found["steps"][0]["reason"] = None
        found["findings"][0]["message"] = found["conditions"] = None
        for entry in found["nodes"]:
            entry["problem"] = None
            if secret == "3.5.1":
                entry["version"] = None  # it comes from the server, and may be anything
    assert after == before


def test_a_server_that_calls_itself_by_the_password_is_not_believed() -> None:
    of = record(node(0, name="hunter2@anywhere", version="hunter2"), silent(1), silent(2))
    redactor = Redactor(of.names)
    redactor.hide("hunter2")
    text = as_json(report(of, 4), redactor.clean)
    assert "hunter2" not in text
    assert json.loads(text)["nodes"][0]["name"] == f"{MASK}@anywhere"
