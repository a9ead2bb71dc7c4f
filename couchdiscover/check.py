"""The story of ``check``: look, once or until it is good; inspect; judge. It changes nothing."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from couchdiscover.couch.inspection import diagnose, inspect
from couchdiscover.couch.write_test import write_and_read
from couchdiscover.decide.common import Policy
from couchdiscover.decide.conditions import Condition, conditions
from couchdiscover.decide.decision import decide
from couchdiscover.decide.findings import Finding, Severity, findings
from couchdiscover.decide.membership import Membership
from couchdiscover.decide.simulation import simulate
from couchdiscover.errors import NotSo, NotYet
from couchdiscover.kube.client import DeniedForNow
from couchdiscover.look import Looker, OnSecret
from couchdiscover.net.deadline import Deadline
from couchdiscover.output.events import Narrator, listed, questions, together, told_steps
from couchdiscover.output.report import Record
from couchdiscover.pace import Pace
from couchdiscover.state.nodes import ClusterView, NodeView
from couchdiscover.state.reasons import Plain, Reason, Reasons
from couchdiscover.state.settings import Settings
from couchdiscover.state.steps import Decision, Do, Refuse, Wait
from couchdiscover.state.topology import Scope, Topology

NO_REASON_TO_WAIT = frozenset(
    {"left_behind", "identity_drift", "other_scheme", "secrets_differ", "no_secret", "held"}
)
"""Faults that hold up no application: members left by a scale-down, identities that differ, and
replications that somebody wants held. Until any other is gone reads may miss documents."""


def assess(
    settings: Settings,
    deadline: Deadline,
    record: Record,
    *,
    on_secret: OnSecret = lambda _user, _password: None,
    on_look: Callable[[Record], None] = lambda _: None,
) -> str:
    """Judges the cluster, and returns one sentence where it is good.

    Without ``settings.wait`` there is one look. The arguments are those of ``assemble``. Raises the
    errors of ``errors``: NotSo where the cluster is not whole, TimedOut where it did not get so.
    """
    narrator = Narrator(record)
    looker = Looker(settings, deadline, narrator, on_secret, only_looks=True)
    pace = Pace(deadline, narrator)
    check = _Check(settings, narrator, looker)
    while True:
        try:
            topology, view = looker.look()
        except NotYet as missing:
            if not settings.wait and not isinstance(missing, DeniedForNow):
                raise NotSo(str(missing)) from None
            pace.wait_for(missing)
            continue
        on_look(record)
        if not topology.expected:
            return f"StatefulSet {topology.statefulset} is scaled to 0: nothing is expected"
        check.refuse(topology, view)
        unmet = check.unmet(topology, view)
        if not settings.wait:
            return check.judge(topology, view, unmet)
        pause = None
        if not unmet:
            unmet, pause = check.accept(topology, view), next(pace.retries)
        if not unmet:
            return check.verdict(view)
        pace.wait(Wait(unmet), pause)


@dataclass(slots=True)
class _Check:
    settings: Settings
    narrator: Narrator
    looker: Looker

    def refuse(self, topology: Topology, view: ClusterView) -> None:
        """Raises what ``run`` would refuse for, but for what a person has still to do."""
        ahead = simulate(topology, view, lambda then: self.decide(topology, then))
        match ahead.end:
            case Refuse(error=error, reason=reason) if error is not NotSo:
                raise error(reason)

    def decide(self, topology: Topology, view: ClusterView) -> Decision:
        """What ``run`` would do, but for repairs and marks: drift is a condition here."""
        policy = Policy(repair=False, mark=False, allow_one_copy=self.settings.allow_one_copy)
        return decide(topology, view, Scope.SET, policy)

    def unmet(self, topology: Topology, view: ClusterView) -> Reasons:
        """What can be waited for: everything but drift and members left by a scale-down."""
        left = _unmet(topology, _without_left_behind(topology, view))
        left = [condition for condition in left if condition.type != "Consistent"]
        if not left and not any(node.unreadable for node in view.nodes):
            return {}
        match self.decide(topology, view):
            case Wait(reasons=reasons):
                return reasons
            case Do(steps=steps):
                todo = f"`couchdiscover run` has still to do: {told_steps(steps)}"
                return {"": Plain(todo)}
            case Refuse(reason=reason):
                return {"": Plain(reason)}
            case _:
                return {"": Plain("; ".join(condition.message for condition in left))}

    # --- the verdicts ---

    def judge(self, topology: Topology, view: ClusterView, unmet: Reasons) -> str:
        """The verdict of one look. Raises NotSo where the cluster is not whole."""
        found = self._inspect(topology, view)
        view = self.narrator.record.view or view
        left = _unmet(topology, view)
        faults = [each for each in found if each.severity is Severity.FAULT]
        if self.settings.write and (unmet or left or faults):
            self.narrator.warn(["nothing was written, since the cluster is not whole"])
        elif self.settings.write:
            problems = self._try_writing(topology, view)
            if problems:
                told = "; ".join(f"{pod} fails {problem}" for pod, problem in problems.items())
                faults = [Finding("write_failed", Severity.FAULT, tuple(problems), told)]
                found = (*found, *faults)
        self.narrator.found(found)
        self.narrator.warn([f.message for f in found if f.severity is Severity.WARNING])
        if left or faults:
            raise NotSo(f"the cluster is not whole: {self._told(topology, view, left, faults)}")
        return self.verdict(view)

    def accept(self, topology: Topology, view: ClusterView) -> Reasons:
        """With ``--wait``, when all is there: what is still to be waited for.

        Whatever is wrong with what is stored, or could not be read, and a document that cannot be
        read everywhere yet; the rest is told, and holds up nobody.
        """
        found = self._inspect(topology, view)
        faults = [each for each in found if each.severity is Severity.FAULT]
        if unsound := [each for each in faults if each.kind not in NO_REASON_TO_WAIT]:
            return {"": Plain("; ".join(each.message for each in unsound))}
        found = tuple(
            replace(each, severity=Severity.WARNING) if each.severity is Severity.FAULT else each
            for each in found
        )
        self.narrator.found(found)
        self.narrator.warn([f.message for f in found if f.severity is Severity.WARNING])
        return self._try_writing(topology, view) if self.settings.write else {}

    def verdict(self, view: ClusterView) -> str:
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

    def _inspect(self, topology: Topology, view: ClusterView) -> tuple[Finding, ...]:
        fleet = self.looker.observer.fleet
        view = diagnose(topology, view, fleet)
        self.narrator.seen(view)
        if not view.nodes:
            return ()
        inspection = inspect(topology, view, fleet, self.looker.deadline)
        return findings(Membership.of(topology, view), inspection)

    def _try_writing(self, topology: Topology, view: ClusterView) -> Reasons:
        tried = write_and_read(topology, view.nodes, self.looker.observer.fleet)
        self.narrator.warn(tried.warnings)
        problems: dict[str, Reason] = {pod: Plain(text) for pod, text in tried.problems}
        return problems

    def _told(
        self,
        topology: Topology,
        view: ClusterView,
        unmet: Sequence[Condition],
        faults: Sequence[Finding],
    ) -> str:
        silent = Membership.of(topology, view).silent
        parts = [*together(silent, "fails"), *questions(silent.values())]
        parts += [
            condition.message
            for condition in unmet
            if condition.status == "False" and condition.type not in ("Reachable", "Consistent")
        ]
        parts += [finding.message for finding in faults]
        problem = topology.service_problem
        if problem and (silent or "Connected" in [c.type for c in unmet]):
            parts += [problem] if problem not in "".join(parts) else []
        hint = ""
        outside = "KUBERNETES_SERVICE_HOST" not in self.settings.environment
        if not view.nodes and outside and self.settings.via == "direct":
            hint = (
                " (pods' addresses are reached from inside the cluster only: from elsewhere use "
                "--via api-proxy, or a Job)"
            )
        return (listed(parts) or "; ".join(condition.message for condition in unmet)) + hint


def _unmet(topology: Topology, view: ClusterView) -> list[Condition]:
    """The conditions that are not True, but for the summary of them all."""
    return [condition for condition in conditions(topology, view) if condition.status != "True"]


def _without_left_behind(topology: Topology, view: ClusterView) -> ClusterView:
    """The view as it would be without members that are nobody."""
    nobody = frozenset(Membership.of(topology, view).left_behind)
    return view.seen_anew(
        {
            node.pod: replace(node, cluster_nodes=node.cluster_nodes - nobody)
            for node in view.nodes
            if isinstance(node, NodeView)
        }
    )
