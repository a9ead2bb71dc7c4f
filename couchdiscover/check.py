"""The story of ``check``: look, once or until it is good; inspect; judge. It changes nothing."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

from couchdiscover.couch.inspection import diagnose, inspect
from couchdiscover.couch.write_test import write_and_read
from couchdiscover.decide.conditions import Condition, conditions
from couchdiscover.decide.decision import Policy, decide
from couchdiscover.decide.findings import Finding, Severity, findings
from couchdiscover.decide.membership import match, silent
from couchdiscover.decide.simulation import forecast
from couchdiscover.errors import Denied, NotSo, NotYet, TimedOut, Unsafe
from couchdiscover.kube.client import DeniedForNow
from couchdiscover.look import Outlook
from couchdiscover.net.deadline import Deadline, look_pause, retry_pauses
from couchdiscover.output.events import Narrator, listed, told, told_steps
from couchdiscover.output.report import Record
from couchdiscover.state.nodes import ClusterView, NodeView
from couchdiscover.state.settings import Settings
from couchdiscover.state.steps import Blocked, Decision, Do, Rejected, Wait
from couchdiscover.state.topology import Scope, Topology


def assess(
    settings: Settings,
    deadline: Deadline,
    record: Record,
    *,
    on_secret: Callable[[str, str], None] = lambda _user, _password: None,
    on_look: Callable[[Record], None] = lambda _: None,
) -> str:
    """Judges the cluster, and returns one sentence where it is good.

    Without ``settings.wait`` there is one look. The arguments are those of ``assemble``. Raises the
    errors of ``errors``: NotSo where the cluster is not whole, TimedOut where it did not get so.
    """
    narrator = Narrator(record)
    check = _Check(
        settings, deadline, record, Outlook(settings, deadline, record, narrator, on_secret)
    )
    retries = retry_pauses()
    while True:
        try:
            topology, view = check.outlook.look()
        except DeniedForNow as refusal:
            check.wait({"": str(refusal)}, look_pause(), refusal.denial)
            continue
        except NotYet as missing:
            if not settings.wait:
                raise NotSo(str(missing)) from None
            check.wait({"": str(missing)}, look_pause())
            continue
        on_look(record)
        check.refuse(topology, view)
        reasons = check.lacking(topology, view)
        if not settings.wait:
            return check.judge(topology, view, reasons)
        pause = look_pause()
        if not reasons:
            reasons, pause = check.accept(topology, view), next(retries)
        if not reasons:
            return check.praise(view)
        check.wait(reasons, pause)


@dataclass(slots=True)
class _Check:
    settings: Settings
    deadline: Deadline
    record: Record
    outlook: Outlook
    _unhurried: tuple[Mapping[str, str], ClusterView | None] | None = None

    def wait(
        self, reasons: Mapping[str, str], pause: float, last_word: Denied | None = None
    ) -> None:
        """Says what is waited for, where that is new, and pauses for some seconds.

        Raises TimedOut at the end of the time, or ``last_word``.
        """
        if not self.deadline.passed:
            self._unhurried = (reasons, self.record.view)
            self.outlook.narrator.waiting(reasons)
            self.deadline.sleep(pause)
        elif self._unhurried is not None:
            # The last look was cut short by the deadline, and knows less than the one before.
            reasons, self.record.view = self._unhurried
        if self.deadline.passed:
            waited = f"timed out after {self.deadline.seconds:g} s"
            if self.deadline.seconds == 0:
                waited = "one look, and it is not so"
            raise last_word or TimedOut(f"{waited}: {told(reasons)}")

    def refuse(self, topology: Topology, view: ClusterView) -> None:
        """Raises what ``run`` would refuse for."""
        match forecast(view, lambda then: _decide(topology, then)).end:
            case Blocked(hazard):
                raise Unsafe(hazard)
            case Rejected(reason):
                raise Denied(reason)

    def lacking(self, topology: Topology, view: ClusterView) -> Mapping[str, str]:
        """What can be waited for: everything but drift and members left by a scale-down."""
        unmet = _unmet(topology, _without_strangers(topology, view))
        unmet = [condition for condition in unmet if condition.type != "Consistent"]
        if not unmet and not any(node.unreadable for node in view.nodes):
            return {}
        match _decide(topology, view):
            case Wait(reasons):
                return reasons
            case Do(steps):
                return {"": f"`couchdiscover run` has still to do: {told_steps(steps)}"}
            case _:
                return {"": "; ".join(condition.message for condition in unmet)}

    # --- the verdicts ---

    def judge(self, topology: Topology, view: ClusterView, lacking: Mapping[str, str]) -> str:
        """The verdict of one look. Raises NotSo where the cluster is not whole."""
        view = self._inspect(topology, view)
        if self.settings.write and lacking:
            self._warn(["nothing was written, since the cluster is not whole"])
        elif self.settings.write:
            self._try_writing(topology, view)
        faults = [f for f in self.record.findings if f.severity is Severity.FAULT]
        unmet = _unmet(topology, view)
        if unmet or faults:
            raise NotSo(f"the cluster is not whole: {self._told(view, unmet, faults)}")
        return self.praise(view)

    def accept(self, topology: Topology, view: ClusterView) -> Mapping[str, str]:
        """With ``--wait``, when all is there: what is found now is told, and holds up nobody.

        Returns what is still to be waited for: a document that cannot be read everywhere yet.
        """
        view = self._inspect(topology, view)
        self.record.findings = [
            replace(found, severity=Severity.WARNING) if found.severity is Severity.FAULT else found
            for found in self.record.findings
        ]
        self._warn([f.message for f in self.record.findings if f.severity is Severity.WARNING])
        return self._try_writing(topology, view) if self.settings.write else {}

    def praise(self, view: ClusterView) -> str:
        """One sentence on what is good."""
        nodes = len(view.nodes)
        text = (
            f"{nodes} nodes are one cluster, asked one by one" if nodes > 1 else "1 node is set up"
        )
        if not self.settings.write:
            return text
        if nodes == 1:
            return f"{text}; a document was written and removed"
        return f"{text}; a document written through one was read through every other and removed"

    def _inspect(self, topology: Topology, view: ClusterView) -> ClusterView:
        fleet = self.outlook.observer.fleet
        view = self.record.view = diagnose(view, fleet)
        if view.nodes:
            found = findings(topology, view, inspect(topology, view, fleet))
            self.record.findings = list(found)
            if not self.settings.wait:
                self._warn([f.message for f in found if f.severity is Severity.WARNING])
        return view

    def _try_writing(self, topology: Topology, view: ClusterView) -> Mapping[str, str]:
        scratch = write_and_read(topology, view.nodes, self.outlook.observer.fleet)
        self._warn(scratch.warnings)
        problems = dict(scratch.problems)
        if problems and not self.settings.wait:
            text = "; ".join(f"{pod} fails {problem}" for pod, problem in problems.items())
            found = Finding("write_failed", Severity.FAULT, tuple(problems), text)
            self.record.findings.append(found)
        return problems

    def _warn(self, warnings: Sequence[str]) -> None:
        self.outlook.narrator.warn(warnings)

    def _told(
        self, view: ClusterView, unmet: Sequence[Condition], faults: Sequence[Finding]
    ) -> str:
        parts = [f"{pod} fails {reason}" for pod, reason in silent(view).items()]
        parts += [
            condition.message
            for condition in unmet
            if condition.status == "False" and condition.type not in ("Reachable", "Consistent")
        ]
        parts += [finding.message for finding in faults]
        hint = ""
        outside = "KUBERNETES_SERVICE_HOST" not in self.settings.environment
        if not view.nodes and outside and self.settings.via == "direct":
            hint = (
                " (pods' addresses are reached from inside the cluster only: from elsewhere use "
                "--via api-proxy, or a Job)"
            )
        return (listed(parts) or "; ".join(condition.message for condition in unmet)) + hint


def _decide(topology: Topology, view: ClusterView) -> Decision:
    return decide(topology, view, Scope.SET, Policy(repair=False))


def _unmet(topology: Topology, view: ClusterView) -> list[Condition]:
    """The conditions that are not True."""
    return [condition for condition in conditions(topology, view) if condition.status != "True"]


def _without_strangers(topology: Topology, view: ClusterView) -> ClusterView:
    """The view as it would be without members that are no pod of the StatefulSet."""
    members = frozenset().union(*(node.cluster_nodes for node in view.nodes))
    strangers = frozenset(match(topology, view, members).strangers)
    return replace(
        view,
        sights=tuple(
            replace(
                sight,
                cluster_nodes=sight.cluster_nodes - strangers,
                all_nodes=sight.all_nodes - strangers,
            )
            if isinstance(sight, NodeView)
            else sight
            for sight in view.sights
        ),
    )
