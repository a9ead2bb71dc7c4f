"""The story of ``adopt``: look, judge whose the volumes were, take a stage's steps, look again."""

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace

from couchdiscover.couch.adoption import Adopter, Tally
from couchdiscover.couch.copies import Nodes, look_at
from couchdiscover.couch.executor import Outcome, execute
from couchdiscover.couch.ground import Histories, Reader
from couchdiscover.couch.marks import write_marks
from couchdiscover.decide.adoption import (
    decide_adoption,
    ending,
    foresee,
    misused_names,
    remarks,
    uuid_remarks,
)
from couchdiscover.decide.adoption_marks import (
    early_marks,
    former_names,
    marks_due,
)
from couchdiscover.decide.common import Policy, identity_steps, identity_warnings
from couchdiscover.decide.copies import Pair, Proof, equal
from couchdiscover.decide.ground import (
    Ground,
    Replications,
    Wishes,
)
from couchdiscover.decide.identity import Drift, drift
from couchdiscover.decide.membership import Membership
from couchdiscover.decide.volumes import Survey, is_replicator
from couchdiscover.errors import NotSo, NotYet, UsageProblem
from couchdiscover.look import Looker, OnSecret
from couchdiscover.net.deadline import Deadline
from couchdiscover.output.events import Narrator, told, told_steps
from couchdiscover.output.report import Record
from couchdiscover.pace import Pace
from couchdiscover.state.nodes import ClusterView
from couchdiscover.state.reasons import Plain
from couchdiscover.state.settings import Settings
from couchdiscover.state.steps import Do, Done, Refuse, RewriteMap, Step, SyncAdopted, Wait
from couchdiscover.state.topology import Scope, Topology

MOST_TIMES = 3
"""How often one step is taken at most, whatever happens in between."""

MAJORITY_PAUSES = (1.0, 2.0, 4.0)
"""Seconds between looks at ``_security`` that differs: CouchDB makes it equal with each push."""

SECOND_LOOK = 0.5
"""Seconds between two looks at copies that differ though nothing is left to push."""


def adopt(
    settings: Settings,
    deadline: Deadline,
    record: Record,
    *,
    on_secret: OnSecret = lambda _user, _password: None,
    on_look: Callable[[Record], None] = lambda _: None,
) -> str:
    """Makes volumes whose nodes have other names now readable again; returns a sentence on it.

    Killed anywhere, the next one's first look shows enough to go on. The arguments are those of
    ``assemble``. Raises the errors of ``errors``.
    """
    narrator = Narrator(record)
    whole_set = replace(settings, scope=Scope.SET)
    looker = Looker(whole_set, deadline, narrator, on_secret, only_looks=True)
    pace = Pace(deadline, narrator)
    adoption = _Adoption(settings, looker, pace)
    while True:
        try:
            ground = adoption.look(*looker.look())
            on_look(record)
        except NotYet as missing:
            pace.wait_for(missing)
            continue
        decision = decide_adoption(ground)
        adoption.check_names(ground, decision)
        if settings.dry_run:
            return adoption.simulated(ground, decision)
        if isinstance(decision, Do):
            adoption.take(decision.steps, ground)
            continue
        narrator.warn(decision.warnings)
        match pace.wait(decision) if isinstance(decision, Wait) else decision:
            case Done(marks=marks):
                if not adoption.repair_identity(ground):
                    return adoption.conclude(ground, marks)
            case Refuse(error=error, reason=reason):
                raise error(reason)


@dataclass(slots=True)
class _Adoption:
    """What an adoption remembers between two looks: nothing that the next one needs."""

    settings: Settings
    looker: Looker
    pace: Pace
    _tally: Tally = field(default_factory=Tally)
    _proof: Proof | None = None
    _rewritten: frozenset[str] = frozenset()
    _synced: frozenset[str] = frozenset()
    _replications: dict[str, Replications] = field(default_factory=dict)
    _histories: Histories = field(default_factory=dict)
    _names_checked: bool = False
    _repaired: tuple[Step, ...] = ()
    _failed: tuple[Step, ...] = ()
    _taken: Counter[Step] = field(default_factory=Counter)

    @property
    def narrator(self) -> Narrator:
        """Who says what is done."""
        return self.looker.narrator

    # --- looking ---

    def look(self, topology: Topology, view: ClusterView) -> Ground:
        """Reads what an adoption depends on, beyond what every command looks at."""
        reader = Reader(topology, self.looker.observer.fleet)
        view = reader.volumes(view)
        told = self.settings.former_names
        survey = Survey(view.nodes, topology.expected, told=told)
        if unexpected := survey.connected - survey.expected_names:
            others = reader.unexpected(view, unexpected)
            survey = Survey(view.nodes, topology.expected, others, told)
        if survey.suspects:
            view = reader.suspects(view, survey.suspects)
            survey = Survey(view.nodes, topology.expected, survey.others, told)
        if survey.unrelated is None:
            view = reader.histories(view, survey.differing(), self._histories)
            survey = Survey(view.nodes, topology.expected, survey.others, told)
        facts = reader.facts(view)
        ground = Ground(
            topology,
            view,
            survey,
            documents={pod: each.documents for pod, each in facts.items()},
            uptimes={pod: each.uptime for pod, each in facts.items()},
            seeds={pod: each.seeds for pod, each in facts.items()},
            rewritten=self._rewritten,
            synced=self._synced,
            wishes=Wishes(told, self.settings.only_databases, self.settings.replications),
        )
        ground = replace(ground, replications=self._read_replications(reader, ground))
        if ground.unsettled and not self.settings.dry_run and self.pace.deadline.seconds:
            # From here on nodes that have no uuid may be given one, as run does.
            self.looker.observer.only_looks = False
        ground = replace(ground, shifts=reader.shifts(ground))
        ground = replace(ground, proof=self._prove(ground))
        return replace(ground, came_back=reader.came_back(ground))

    def _read_replications(self, reader: Reader, ground: Ground) -> dict[str, Replications]:
        for name in ground.stale:
            known = self._replications.get(name)
            if is_replicator(name) and (known is None or known.count is None):
                self._replications[name] = reader.replications(ground.view, ground.maps[name])
        return self._replications

    def _prove(self, ground: Ground) -> Proof | None:
        """One look at the copies that are to be equal; at all, where there is nothing to adopt."""
        nodes = ground.view.nodes
        if ground.adoptable or not nodes or len(nodes) < len(ground.topology.expected):
            return None
        fleet = self.looker.observer.fleet
        clients = {
            node.name: fleet.node(pod, node.address)
            for node in nodes
            if (pod := ground.topology.pod(node.pod)) is not None
        }
        to_ask = Nodes(clients, fleet.patience)
        if self._proof is None:
            maps = ground.settling if ground.unsettled else tuple(ground.maps.values())
            proof = equal(maps, clients.keys())
            self._proof = replace(proof, handed_on=self._handed_on(proof.pairs))
        elif ground.unsettled:
            # Databases come and go meanwhile, and maps name other nodes.
            fresh = equal(ground.settling, clients.keys())
            if fresh.pairs != self._proof.pairs:
                kept = self._proof.over(fresh)
                self._proof = replace(kept, handed_on=self._handed_on(kept.pairs))
        self._proof = look_at(self._proof, to_ask)
        while ground.unsettled and not self._proof.surveyed and not self.pace.deadline.passed:
            before = self._proof
            self._proof = look_at(before, to_ask)
            if self._proof.progress() == before.progress():
                break  # they are being filled: time to look at everything else, too
        return self._proof if ground.unsettled else self._surveyed(to_ask)

    def _surveyed(self, to_ask: Nodes) -> Proof:
        """Looks on until all copies were seen, and once more at those that differ, also where
        there is one look only: what nobody looked at is not "nothing to adopt"."""
        deadline, proof = self.pace.deadline, self._proof or Proof(())
        doubts = 0
        while not (deadline.seconds and deadline.passed) and doubts < MOST_TIMES:
            if proof.surveyed and not proof.in_doubt:
                break
            if proof.surveyed:
                doubts += 1
                deadline.rest(SECOND_LOOK)
            before, proof = proof, look_at(proof, to_ask)
            if proof.seen == before.seen and not before.in_doubt:
                break
        self._proof = proof
        return proof

    # --- acting ---

    def check_names(self, ground: Ground, decision: object) -> None:
        """Refuses ``--from`` that fits nothing, once all volumes were seen. Raises UsageProblem."""
        if self._names_checked or len(ground.view.nodes) < len(ground.topology.expected):
            return
        if isinstance(decision, Wait) and ground.survey.unread:
            return
        if problem := misused_names(ground):
            raise UsageProblem(problem)
        self._names_checked = True

    def take(self, steps: Sequence[Step], ground: Ground) -> None:
        """Takes the steps of one stage; those that failed are tried again after a pause."""
        if self.pace.deadline.passed:
            raise self.pace.timed_out({"": Plain(f"there was still to do: {told_steps(steps)}")})
        if idle := [step for step in steps if self._taken[step] >= MOST_TIMES]:
            raise NotSo(
                f"{idle[0].title}: taken {MOST_TIMES} times, and still to be done; "
                "is something else changing the cluster at the same time?"
            )
        if self._failed and self._failed[0] in steps:
            self.pace.deadline.sleep(next(self.pace.retries))
        if any(isinstance(step, RewriteMap) for step in steps):
            self.narrator.warn(remarks(ground))
        adopter = self._adopter(ground, len(steps))
        if self.settings.mark and (problems := adopter.mark(early_marks(ground))):
            self.narrator.warn(problems)
        outcomes = adopter.take(steps)
        self._failed = tuple(each.step for each in outcomes if each.problem)
        for each in outcomes:
            match each.step:
                case RewriteMap(database=database) if each.taken or each.problem:
                    # Also one whose answer did not come: it may have done its work.
                    self._rewritten |= {database}
                case SyncAdopted(databases=databases) if each.taken:
                    self._synced |= frozenset(databases)
                    self._begin_proof_anew(whole=bool(ground.unsettled))
        self.pace.acted()

    def _adopter(self, ground: Ground, count: int) -> Adopter:
        say = self.narrator.counting(count)

        def said(outcome: Outcome) -> None:
            self.narrator.failed(outcome.step, outcome.problem)
            if outcome.taken:
                say(outcome.step)
                self._taken[outcome.step] += 1
                self.pace.deadline.restart()  # while it advances it may take as long as it takes

        return Adopter(ground, self.looker.observer.fleet, self._tally, said)

    def _begin_proof_anew(self, *, whole: bool) -> None:
        """What is there after a push was asked for is what is to be proven.

        Of volumes that are not settled ``whole``, since any copy may lag behind; else those alone
        that were found to be older than the others know them.
        """
        proof = self._proof
        if proof is not None:
            amiss = proof.rolled_back | proof.uneven
            older = tuple(pair for pair in proof.pairs if pair in amiss | proof.lagging)
            pairs = proof.pairs if whole else older or proof.pairs
            handed_on = self._handed_on(pairs)
            self._proof = Proof(pairs, proof.purges, rolled_back=amiss, handed_on=handed_on)

    def _handed_on(self, pairs: Iterable[Pair]) -> frozenset[Pair]:
        return frozenset(pair for pair in pairs if pair.file.database in self._synced)

    def repair_identity(self, ground: Ground) -> bool:
        """Makes the nodes' identity the same, as ``run`` does; whether that took steps."""
        if not ground.unsettled:
            return False
        topology = ground.topology
        found = self._drift(ground)
        steps = identity_steps(found, ground.lead)
        policy = Policy(repair=self.settings.repair and steps != self._repaired)
        self.narrator.warn(identity_warnings(Membership.of(topology, ground.view), found, policy))
        if not policy.repair or not steps:
            return False
        self._repaired = steps
        fleet = self.looker.observer.fleet
        for outcome in execute(steps, topology, ground.view, fleet, self.settings.databases):
            self.narrator.failed(outcome.step, outcome.problem)
            if outcome.taken:
                self.narrator.taken(outcome.step)
        self.pace.acted()
        return True

    def _securities(self, ground: Ground) -> dict[str, tuple[str, ...]]:
        """Databases that were adopted, and whose ``_security`` is not the same on all nodes.

        Copies of different moments; CouchDB takes that of the majority, some seconds later.
        """
        reader = Reader(ground.topology, self.looker.observer.fleet)
        maps = ground.settling
        for pause in (*MAJORITY_PAUSES, 0.0):
            found = reader.securities(ground.view, maps)
            if not found or not pause or self.pace.deadline.passed:
                return found
            maps = tuple(each for each in maps if each.database in found)
            self.pace.deadline.rest(pause)
        return {}

    def _drift(self, ground: Ground) -> Drift:
        nodes = [
            replace(node, uptime=ground.uptimes.get(node.pod)) if node.uptime is None else node
            for node in ground.view.nodes
        ]
        return drift(
            nodes,
            [node.name for node in nodes],
            self.settings.repair_from,
            secret_intended=ground.topology.secret_intended,
        )

    # --- the end ---

    def simulated(self, ground: Ground, decision: object) -> str:
        """For ``--dry-run``: all steps that would follow. Raises NotSo where there are any."""
        match decision:
            case Refuse(error=error, reason=reason):
                raise error(reason)
            case Wait(reasons=reasons, at_the_end=end) if not ground.stale:
                if isinstance(end, Refuse):
                    raise end.error(end.reason)
                raise NotSo(f"adopt would be {told(reasons)}")
            case Wait(reasons=reasons):
                self.narrator.warn([f"adopt would begin by {told(reasons)}"])
        steps = foresee(ground)
        found = self._drift(ground)
        if self.settings.repair and (steps or ground.unsettled):
            steps += identity_steps(found, ground.lead)
        self.narrator.planned(steps)
        self.narrator.warn(remarks(ground))
        self.narrator.warn(uuid_remarks(ground, found, repair=self.settings.repair))
        if steps:
            raise NotSo(f"there is to do: {told_steps(steps)}")
        if end := ending(ground):
            raise end.error(end.reason)
        return "there is nothing to adopt"

    def conclude(self, ground: Ground, marks: Sequence[str]) -> str:
        """Marks what is proven and says what was done. Raises NotSo where a person must go on."""
        due = marks_due(ground, marks)
        if due and self.settings.mark and self.pace.deadline.seconds:
            fleet = self.looker.observer.fleet
            was = former_names(ground)
            self.narrator.warn(write_marks(due, ground.topology, ground.view, fleet, was))
        ground = replace(ground, securities=self._securities(ground))
        if end := ending(ground):
            raise end.error(end.reason)
        tally, nodes = self._tally, len(ground.view.nodes)
        if not self.narrator.record.steps:
            return "there is nothing to adopt" if not marks else "all was adopted already"
        what = "copies that were older than the others know them are as the others again"
        if ground.proof is not None and not ground.proof.rolled_back:
            what = (
                "purges were handed on once more to copies that knew of fewer than they had been "
                "handed, as those of an older snapshot do"
            )
        if tally.databases:
            what = (
                f"{_counted(len(tally.databases), 'database')} with "
                f"{_counted(tally.ranges, 'range')} and {_counted(tally.documents, 'document')} "
                f"adopted in {self.pace.deadline.elapsed:.1f} s"
            )
        elif ground.unsettled:
            what = "what was adopted before is proven now"
        return (
            f"{what}; {_counted(nodes, 'node')}, each copy as its fellows; search indexes are "
            "built anew at the first query; `couchdiscover check` looks at all of it"
        )


def _counted(number: int, what: str) -> str:
    return f"{number:,} {what}{'' if number == 1 else 's'}"
