"""The result as text: tables, colours, the verdict, and where to read on."""

import pytest

from couchdiscover.decide.findings import Finding, Severity
from couchdiscover.output.docs import DOCS
from couchdiscover.output.redaction import MASK, Redactor
from couchdiscover.output.report import Record, Report
from couchdiscover.output.text import as_text, table
from couchdiscover.state.steps import AddNode, EnableNode
from tests.support.views import erlang_name, node, record, refusing, report, silent

SEE_4 = f"see {DOCS}/exit-codes.md#4"


def lines(of: Report) -> list[str]:
    return as_text(of, str).splitlines()


def test_run() -> None:
    step = EnableNode("couchdb-1")
    of = record(
        node(0), node(1, unconnected_because="port 4369 cannot be reached"), silent(2), steps=[step]
    )
    of.warn(["first", "second", "first"])
    assert lines(report(of, 4, "timed out after 5 s")) == [
        f"couchdb-0  10.0.0.4:5984  cluster_finished  3/3 connected  {erlang_name(0)}",
        "couchdb-1  10.0.0.5:5984  cluster_finished  3/3 connected  "
        f"{erlang_name(1)} (port 4369 cannot be reached)",
        "couchdb-2  -              -                 -              "
        "fails to be given an address by Kubernetes",
        "steps taken:",
        "  enable_node couchdb-1: it is bound to loopback or has no administrator",
        "warning: first",
        "warning: second",
        "timed out after 5 s",
        SEE_4,
    ]


def test_plan() -> None:
    step = EnableNode("couchdb-1")
    of = Record("plan", planned=True, steps=[step])
    assert lines(Report(of, "not_so", 3, "there is to do", 0.1)) == [
        "steps to take:",
        "  enable_node couchdb-1: it is bound to loopback or has no administrator",
        "there is to do",
        f"see {DOCS}/exit-codes.md#3",
    ]


def test_a_good_end_needs_no_reading() -> None:
    shown = lines(report(record(node(0), node(1), node(2))))
    assert shown[-1] == "3 nodes are one cluster"
    assert not [line for line in shown if DOCS in line]


def test_the_address_of_a_silent_node_stands_in_its_column_alone() -> None:
    shown = lines(report(record(node(0), refusing(1), node(2)), 4))
    assert shown[1].startswith("couchdb-1  10.0.0.5:5984  -")
    assert shown[1].endswith("  fails to answer: refuses connections")
    assert shown[1].count("10.0.0.5") == 1


def test_check() -> None:
    found = [
        Finding("no_shards", Severity.INFO, ("couchdb-1",), "an information"),
        Finding("copies_setting", Severity.WARNING, ("couchdb-1",), "told as a warning"),
        Finding("cut_off", Severity.FAULT, ("couchdb-1",), "a fault"),
    ]
    of = record(node(0), refusing(1), node(2), command="check", findings=found)
    of.warn(["told as a warning"])
    shown = lines(report(of, 3, "the cluster is not whole"))
    assert shown[0].split() == ["NODE", "ADDRESS", "STATE", "MEMBERS", "VERSION", "NAME"]
    assert shown[1].split()[-2:] == ["3.5.1", erlang_name(0)]
    assert shown[4] == ""
    assert shown[5].split() == ["CONDITION", "STATUS", "MESSAGE"]
    assert shown[6].split(maxsplit=2) == ["Reachable", "False", "2 of 3 nodes answer"]
    assert shown[12].startswith("Succeeded")
    assert shown[13:] == [
        "",
        "fault: a fault",
        f"  see {DOCS}/findings.md#cut_off",
        "warning: told as a warning",
        f"  see {DOCS}/findings.md#copies_setting",
        "info: an information",
        f"  see {DOCS}/findings.md#no_shards",
        "",
        "the cluster is not whole",
        f"see {DOCS}/exit-codes.md#3",
    ]


def test_check_that_saw_nothing() -> None:
    assert lines(report(Record("check"), 4, "timed out")) == ["timed out", SEE_4]


def test_colours() -> None:
    of = record(node(0), node(1), silent(2), command="check")
    of.warn(["a warning"])
    plain, coloured = (as_text(report(of, 3), str, colour=colour) for colour in (False, True))
    assert "\x1b" not in plain
    for line in ("\x1b[31mReachable", "\x1b[33mEnabled", "\x1b[33mwarning", "\x1b[31m3 nodes"):
        assert line in coloured
    whole = record(node(0), node(1), node(2), command="check")
    assert "\x1b[32m3 nodes are one cluster\x1b[0m" in as_text(report(whole), str, colour=True)


@pytest.mark.parametrize(
    ("rows", "expected"),
    [
        ([], []),
        ([("a",)], ["a"]),
        ([("a", "b"), ("ccc", "dddd"), ("", "")], ["a    b", "ccc  dddd", "     "]),
    ],
)
def test_tables(rows: list[tuple[str, ...]], expected: list[str]) -> None:
    assert table(rows) == expected


@pytest.mark.parametrize("command", ["run", "check"])
@pytest.mark.parametrize("secret", ["couchdb", "hunter2", "True", "10.0", "connected"])
def test_secrets_are_masked_and_pods_are_not(command: str, secret: str) -> None:
    step = AddNode("couchdb-1", f"couchdb-{secret}", erlang_name(0))
    finding = Finding("cut_off", Severity.FAULT, ("couchdb-1",), f"found <{secret}>")
    cut_off = node(1, unconnected_because=f"cause {secret}")
    of = record(node(0), cut_off, silent(2), command=command, steps=[step], findings=[finding])
    of.warn([f"warned of {secret}!"])
    redactor = Redactor(of.names)
    redactor.hide(secret)
    text = as_text(report(of, 3, f"couchdb-2: the end of {secret}!"), redactor.clean)
    assert f"couchdb-2: the end of {MASK}!" in text
    assert f"cause {MASK}" in text
    for pod in ("couchdb-0", "couchdb-1", "couchdb-2"):
        assert f"\n{pod}  " in f"\n{text}"
    assert erlang_name(0) in text
    assert "10.0.0.4:5984" in text
    if secret == "hunter2":
        assert secret not in text
