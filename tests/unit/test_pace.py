"""Waiting: the pauses, the deadline, and what is said when it passes."""

from dataclasses import replace

import pytest

from couchdiscover.errors import Denied, NotYet, TimedOut
from couchdiscover.kube.client import DeniedForNow, Forbidden
from couchdiscover.net.deadline import SETTLING, Deadline
from couchdiscover.output.events import Narrator, questions, together, told
from couchdiscover.output.report import Record
from couchdiscover.pace import Pace
from couchdiscover.state.nodes import ClusterView
from couchdiscover.state.reasons import CopiesFilling, NoAddress, Plain, Reason, Silent
from couchdiscover.state.steps import Done, Wait
from couchdiscover.state.topology import Address
from tests.support.views import node, silent, topology


class Timeless(Deadline):
    """A deadline that passes by being slept through, and in no other way."""

    def __init__(self, seconds: float) -> None:
        super().__init__(seconds)
        self.spent = 0.0
        self.slept: list[float] = []

    @property
    def left(self) -> float:
        return self.seconds - self.spent

    def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        self.spent += max(seconds, 0.01)

    def restart(self) -> None:
        self.spent = 0.0


def pace(seconds: float = 1.0, *sights: object) -> tuple[Pace, Timeless, Record]:
    record = Record("run", "db", "couchdb", topology())
    record.view = ClusterView(sights or (node(0), node(1), node(2)))  # type: ignore[arg-type]
    deadline = Timeless(seconds)
    return Pace(deadline, Narrator(record)), deadline, record


WAITS: dict[str, Reason] = {"couchdb-1": Plain("to wake up")}


def until_over(paced: Pace, wait: Wait) -> object:
    for _ in range(1000):
        if (given := paced.wait(wait)) is not None:
            return given
    raise AssertionError("no end")


def test_at_the_deadline_everything_that_was_waited_for_is_told() -> None:
    paced, _, _ = pace()
    with pytest.raises(TimedOut, match="timed out after 1 s: waiting for couchdb-1 to wake up"):
        until_over(paced, Wait(WAITS))


def test_what_several_wait_for_is_told_once(caplog: pytest.LogCaptureFixture) -> None:
    paced, _, record = pace()
    problem = "Service couchdb is not there"
    record.topology = replace(topology(), service_problem=problem)
    waits: dict[str, Reason] = {pod.name: NoAddress(problem) for pod in topology().expected}
    with caplog.at_level("INFO"), pytest.raises(TimedOut) as caught:
        until_over(paced, Wait(waits))
    told = (
        "waiting for couchdb-0, couchdb-1, couchdb-2 to be given an address by Kubernetes: Service "
        "couchdb is not there"
    )
    assert str(caught.value) == f"timed out after 1 s: {told}"
    assert [entry.getMessage() for entry in caplog.records] == [told]


def test_of_many_pods_five_are_named() -> None:
    many: dict[str, Reason] = {f"couchdb-{n}": Plain("to wake up") for n in range(7)}
    assert told(many) == (
        "waiting for couchdb-0, couchdb-1, couchdb-2, couchdb-3, couchdb-4 and 2 more to wake up"
    )
    assert together(many, "fails")[0].endswith("and 2 more fail to wake up")
    assert together(WAITS, "fails") == ["couchdb-1 fails to wake up"]


def test_who_refuses_connections_is_asked_about_once() -> None:
    refusals: dict[str, Reason] = {
        f"couchdb-{n}": Silent(Address(f"10.0.0.{n}", 5984), "refuses connections")
        for n in range(2)
    }
    paced, _, _ = pace()
    with pytest.raises(TimedOut) as caught:
        until_over(paced, Wait(refusals))
    assert str(caught.value).count("bound to the pod's address and not to 127.0.0.1") == 1


@pytest.mark.parametrize(
    ("problem", "told"),
    [
        ("refuses connections", "(--port)"),
        ("closed the connection without an answer", "--scheme https"),
        ("has a TLS certificate that is not accepted: self-signed certificate", "--ca-file"),
        ("fails at TLS: WRONG_VERSION_NUMBER", "--scheme http)"),
        ("did not answer in time", ""),
    ],
)
def test_the_next_thing_to_look_at(problem: str, told: str) -> None:
    asked = questions([Plain("to wake up"), Silent(None, problem)])
    assert [told in question for question in asked] == ([True] if told else [])


def test_what_holds_at_the_end_is_the_end() -> None:
    paced, _, _ = pace()
    end = Done(("it goes on alone",))
    assert until_over(paced, Wait(WAITS, at_the_end=end)) is end


def test_one_look_has_no_end_to_wait_for() -> None:
    paced, _, _ = pace(0.0)
    with pytest.raises(TimedOut, match="one look, and it is not so"):
        paced.wait(Wait(WAITS, at_the_end=Done()))


def test_a_look_that_was_cut_short_is_not_the_reason() -> None:
    paced, deadline, record = pace(1.0)
    whole = record.view
    paced.wait(Wait(WAITS), 0.5)
    deadline.spent = 2.0
    record.view = ClusterView((silent(0),))
    with pytest.raises(TimedOut, match="couchdb-1 to wake up"):
        paced.wait(Wait({"couchdb-0": Plain("to answer in the time that was not left")}))
    assert record.view == whole


def test_a_step_that_the_deadline_left_unseen_is_the_reason() -> None:
    paced, deadline, _ = pace(1.0)
    paced.wait(Wait(WAITS), 0.5)
    paced.acted("finish_cluster couchdb-0")
    deadline.spent = 2.0
    cut = Wait({"couchdb-0": Plain("to answer in the time that was not left")})
    with pytest.raises(TimedOut, match="what came of finish_cluster couchdb-0 was not seen in"):
        paced.wait(cut)
    end = Done(("it goes on alone",))
    fresh, deadline, _ = pace(1.0)
    fresh.acted("add_node couchdb-1")
    deadline.spent = 2.0
    assert fresh.wait(replace(cut, at_the_end=end)) is end


def test_after_a_step_the_next_looks_come_soon() -> None:
    paced, deadline, _ = pace(60.0)
    paced.acted()
    assert paced.settles
    for _ in SETTLING:
        paced.wait(Wait(WAITS))
    assert deadline.slept == list(SETTLING)
    assert not paced.settles


def test_while_copies_advance_the_deadline_does_not_count() -> None:
    paced, deadline, _ = pace(1.0)
    filling: dict[str, Reason] = {"couchdb-1": CopiesFilling(2, 4, "shards/x")}
    for done in range(20):
        paced.wait(Wait(filling, advancing=(done, 0)), 0.9)
    assert sum(deadline.slept) > 10
    with pytest.raises(TimedOut):
        until_over(paced, Wait(filling, advancing=(19, 0)))


def test_what_is_missing_is_waited_for_as_long_as_it_asks() -> None:
    paced, deadline, _ = pace(10.0)
    missing = NotYet("Secret x does not exist")
    missing.retry_after = 3.0
    paced.wait_for(missing)
    assert deadline.slept == [3.0]


def test_a_denial_that_stays_is_the_last_word() -> None:
    paced, _, _ = pace(0.05)
    denied = DeniedForNow("for a moment", Forbidden("get secrets is not allowed"))

    def wait() -> None:
        for _ in range(100):
            paced.wait_for(denied)

    with pytest.raises(Denied, match="not allowed"):
        wait()
