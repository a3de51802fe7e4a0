"""A study without machines: decisions are performed on paper, outcomes come from the test.

Every event goes through the in-memory ledger and the codec. The trees are words; a merge joins two.
"""

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

from cluster.ledger.codec import decode_state, encode_state
from cluster.ledger.ledger import InMemoryLedger, catch_up, load
from cluster.policy import commands as cmd
from cluster.policy.decisions import decide
from cluster.policy.staleness import PERSON
from cluster.policy.study_plan import Asked, Circumstances, Seat, StudyPlan
from cluster.state import events as ev
from cluster.state.experiment import Kind, Status, Trial, TrialPhase
from cluster.state.invariants import check
from cluster.state.state import StudyState
from cluster.state.winners import lacks
from eval.judge import GreedyJudge, Judge
from eval.metric import Goal, Metric
from eval.seeds import SeedHabit
from eval.suspicion import Conduct
from trainer.trial import (
    CommitId,
    CrashKind,
    Ending,
    ExperimentId,
    Probe,
    SlotId,
    TrialId,
    TrialOutcome,
)

METRIC = Metric(name="loss", goal=Goal.MINIMIZE, pattern=r"^loss: (\S+)")
GREEDY = GreedyJudge(metric=METRIC)
BASE = CommitId("base")


def scored(value: float, **conduct: Any) -> TrialOutcome:
    return TrialOutcome(ending=Ending.SCORED, value=value, conduct=Conduct(**conduct))


def short(outcome: TrialOutcome) -> TrialOutcome:
    """How a worker reports what was scored on a rung."""
    return replace(outcome, ending=Ending.SHORT, value=None, short_value=outcome.value)


def gamed(value: float) -> TrialOutcome:
    """A score with a plain sign that it was not earned."""
    return scored(value, frozen=("prepare.py was changed",))


def crashed(kind: CrashKind, reason: str) -> TrialOutcome:
    return TrialOutcome(ending=Ending.CRASHED, crash=kind, reason=reason)


CRASHED = TrialOutcome(ending=Ending.CRASHED, crash=CrashKind.EXCEPTION, reason="Boom")
PRUNED = TrialOutcome(ending=Ending.PRUNED, reason="stopped as hopeless after 9 s")
TIMED_OUT = TrialOutcome(ending=Ending.TIMED_OUT, reason="timed out")


def node_of(slot: str) -> str:
    """Return the node of a slot, "n" being the head."""
    node, is_joined, _ = slot.rpartition("/")
    return node if is_joined else "n"


class World:
    """A ledger, its state, and somebody who does what is decided."""

    ledger_type: type[InMemoryLedger] = InMemoryLedger

    def __init__(
        self,
        *,
        slots: int = 2,
        experiments: int = 0,
        proposers: tuple[str, ...] | tuple[Seat, ...] = (),
        judge: Judge = GREEDY,
        max_staleness: int = 0,
    ):
        self.ledger = self.ledger_type()
        self.state = StudyState()
        self.now = datetime(2026, 3, 1, tzinfo=UTC)
        self.plan = StudyPlan(
            metric=METRIC,
            judge=judge,
            proposers=tuple(p if isinstance(p, Seat) else Seat(name=p) for p in proposers),
            max_staleness=max_staleness,
            slots=slots,
            most_experiments=experiments,
        )
        self.slots = slots
        self.asking: dict[str, int] = {}
        """How many proposals each proposer works on."""
        self.asked_tasks: dict[str, str] = {}
        self.merge_outcome = "clean"
        self.rebase_outcome = "clean"
        self.hopeless: dict[tuple[TrialId, int], str] = {}
        """What curves say, by trial and attempt."""
        self.probe: Probe | None = None
        """What the baseline tells of its script."""
        self.repeats: dict[TrialId, bool] = {}
        self.priorities: dict[TrialId, int] = {}
        """Whether each trial was to repeat a measured tree."""
        self.claims: list[tuple[ExperimentId, float, float]] = []
        self.happen(
            "start",
            ev.StudyStarted(study="s", base_commit=BASE, metric="loss", goal="minimize"),
        )
        self.restart()

    # --- events ----------------------------------------------------------------------------------

    def happen(self, event_id: str, event: ev.Event) -> None:
        self.now += timedelta(seconds=1)
        self.ledger.append([ev.Draft(id=event_id, at=self.now, event=event)])
        self.state = catch_up(self.ledger, self.state)

    def restart(self) -> None:
        epoch = self.ledger.begin_epoch()
        self.state = load(self.ledger)
        self.happen(f"controller/{epoch}", ev.ControllerStarted(epoch=epoch, pid=1, node="n"))

    def verify(self) -> None:
        check(self.state)
        assert load(self.ledger) == self.state
        assert decode_state(encode_state(self.state)) == self.state

    @property
    def asked(self) -> int:
        """Proposals that proposers work on, all together."""
        return sum(self.asking.values())

    @asked.setter
    def asked(self, count: int) -> None:
        names = [seat.name for seat in self.plan.proposers][:1]
        self.asking = dict.fromkeys(names, count) if count else {}
        self.asked_tasks = {}

    def _answered(self, proposer: str) -> None:
        """Count one answer off what somebody works on: the proposer, else whoever does."""
        name = proposer if self.asking.get(proposer) else next(iter(self.asking), "")
        if left := self.asking.pop(name, 0) - 1:
            self.asking |= {name: left} if left > 0 else {}
        self.asked_tasks.pop(name, None)

    # --- decisions -------------------------------------------------------------------------------

    def decide(self) -> tuple[cmd.Command, ...]:
        asked = [
            Asked(proposer=name, count=count, task=self.asked_tasks.get(name, ""))
            for name, count in self.asking.items()
        ]
        circumstances = Circumstances(now=self.now, asked=asked, hopeless=self.hopeless)
        return decide(self.state, self.plan, circumstances)

    def settle(self) -> None:
        """Perform what is decided until nothing more is."""
        for _ in range(100):
            commands = self.decide()
            if not commands:
                return
            for command in commands:
                self.perform(command)
        raise AssertionError(f"never settles: {commands}")

    def perform(self, command: cmd.Command) -> None:
        method = f"_{type(command).__name__.lower()}"
        getattr(self, method)(command)

    def _createbaseline(self, _: cmd.CreateBaseline) -> None:
        self.found(Kind.BASELINE, "base", BASE, base=ExperimentId("e0"))

    def _queuetrial(self, command: cmd.QueueTrial) -> None:
        event = ev.TrialQueued(
            trial=command.trial,
            experiment=command.experiment.id,
            attempt=command.attempt,
            seed=command.seed,
            place=command.place,
            is_control=command.is_control,
            rung_s=command.rung_s,
        )
        self.repeats[command.trial] = command.is_repeat
        self.priorities[command.trial] = command.priority
        self.happen(f"{command.trial}/{command.attempt}/queued", event)

    def _recordrung(self, command: cmd.RecordRung) -> None:
        judged = command.judged
        name = f"{judged.experiment}/rung/{judged.rung_s}/{judged.goes_on}"
        self.happen(name, judged)

    def _canceltrial(self, command: cmd.CancelTrial) -> None:
        experiment = ExperimentId(command.trial.partition(".")[0])
        outcome = TrialOutcome(ending=Ending.CANCELLED, reason="cancelled")
        self.end(experiment, outcome, command.trial)

    def _giveuptrial(self, command: cmd.GiveUpTrial) -> None:
        event = ev.TrialGivenUp(
            trial=command.trial,
            experiment=command.experiment,
            attempt=command.attempt,
            reason=command.reason,
        )
        self.happen(f"{command.trial}/{command.attempt}/given-up", event)

    def _prunetrial(self, command: cmd.PruneTrial) -> None:
        self.end(ExperimentId(command.trial.partition(".")[0]), PRUNED)

    def _givebacktrials(self, _: cmd.GiveBackTrials) -> None:
        for experiment in self.in_status(Status.RUNNING):
            self.lose(experiment, is_given_back=True)

    def _recordjudgement(self, command: cmd.RecordJudgement) -> None:
        n = self.state.experiments[command.experiment].finished
        self.happen(f"{command.experiment}/judged/{n}", command.event)

    def _recordcontrol(self, command: cmd.RecordControl) -> None:
        self.happen(f"{command.trial}/control", command.event)

    def _recordsuspicion(self, command: cmd.RecordSuspicion) -> None:
        name = command.suspected.experiment
        n = self.state.experiments[name].finished
        self.happen(f"{name}/suspected/{n}", command.suspected)

    def _promote(self, command: cmd.Promote) -> None:
        winner, replaced = command.winner, command.replaces
        assert replaced.id == self.state.lineage[-1]
        self.claims.append((winner.id, winner.worth, replaced.worth))
        event = ev.Promoted(
            experiment=winner.id,
            commit=CommitId(f"p-{winner.id}"),
            replaces=replaced.id,
            lacks=lacks(self.state, winner),
            carried=tuple(
                ev.Carried(experiment=link.id, commit=CommitId(f"p-{link.id}"))
                for link in command.below
            ),
        )
        self.happen(f"{winner.id}/promoted", event)

    def _merge(self, command: cmd.Merge) -> None:
        winner, chain = command.winner, self.state.chain if command.in_chain else ()
        incumbent = self.state.experiments[chain[-1]] if chain else command.incumbent
        name = f"{winner.id}/merge/{incumbent.id}"
        if chain and self.merge_outcome != "clean":
            return
        if self.merge_outcome == "conflict":
            self.happen(
                name,
                ev.MergeConflicted(experiment=winner.id, against=incumbent.id, paths=("train.py",)),
            )
        elif self.merge_outcome == "redundant":
            self.happen(name, ev.MergeRedundant(experiment=winner.id, against=incumbent.id))
        else:
            tree = f"{incumbent.tree}+{winner.tree}"
            self.found(
                Kind.MERGE,
                tree,
                CommitId(f"m-{tree}"),
                incumbent.id,
                winner.id,
                in_chain=command.in_chain,
            )

    def _rebase(self, command: cmd.Rebase) -> None:
        candidate, incumbent = command.candidate, command.incumbent
        onto = self.state.incumbent_commit
        if self.rebase_outcome == "conflict" and candidate.proposer == PERSON:
            event: ev.Event = ev.RebaseConflicted(
                experiment=candidate.id, onto=incumbent.id, paths=("train.py",)
            )
            self.happen(f"{candidate.id}/beside/{incumbent.id}", event)
        elif self.rebase_outcome != "clean":
            self._returncandidate(
                cmd.ReturnCandidate(candidate=candidate, reason=f"stale: {self.rebase_outcome}")
            )
        else:
            tree = f"{incumbent.tree}+{candidate.tree}"
            event = ev.ExperimentRebased(
                experiment=candidate.id,
                commit=CommitId(f"r-{tree}"),
                tree=tree,
                lines=candidate.lines,
                base=incumbent.id,
                base_commit=onto,
                from_base=candidate.base,
                from_commit=candidate.commit,
                parameters={name: 2 * float(v) for name, v in candidate.parameters.items()},
            )
            self.happen(f"{candidate.id}/rebased/{onto}", event)

    def _returncandidate(self, command: cmd.ReturnCandidate) -> None:
        name = command.candidate.id
        event = ev.ExperimentReturned(experiment=name, reason=command.reason)
        self.happen(f"{name}/returned", event)

    def _settlechain(self, command: cmd.SettleChain) -> None:
        first = command.measured.chain
        for event in command.events:
            about = getattr(event, "experiment", "")
            self.happen(f"{first}/chain/{type(event).__name__}/{about}", event)

    def _dropwinner(self, command: cmd.DropWinner) -> None:
        event = ev.WinnerDropped(experiment=command.winner, reason=command.reason)
        self.happen(f"{command.winner}/dropped/{self.state.promotions}", event)

    def _quarantinenode(self, command: cmd.QuarantineNode) -> None:
        event = command.quarantined
        self.happen(f"node/{event.node}/quarantined/{command.cause}", event)

    def _finishstudy(self, command: cmd.FinishStudy) -> None:
        event = ev.StudyFinished(reason=command.reason, failed=command.failed)
        self.happen(f"finished/{self.state.epoch}", event)

    def _propose(self, command: cmd.Propose) -> None:
        self.asking[command.proposer] = command.count

    def _asktask(self, command: cmd.AskTask) -> None:
        self.asking[command.proposer] = 1
        self.asked_tasks[command.proposer] = command.task

    # --- what the test makes happen --------------------------------------------------------------

    def found(
        self,
        kind: Kind,
        tree: str,
        commit: CommitId,
        base: ExperimentId,
        merge_of: ExperimentId = ExperimentId(""),
        *,
        in_chain: bool = False,
        submission: str = "",
        proposer: str = "test",
        parameters: dict[str, float] | None = None,
        seeds: SeedHabit | None = None,
        **more: Any,
    ) -> ExperimentId:
        experiment = self.state.next_experiment
        first = next(iter(self.state.chain), experiment)
        event = ev.ExperimentProposed(
            experiment=experiment,
            kind=kind,
            commit=commit,
            tree=tree,
            base=base,
            base_commit=self.state.incumbent_commit or BASE,
            lines=100,
            proposer=proposer,
            hypothesis=f"try {tree}",
            submission=submission,
            parameters=parameters or {},
            merge_of=merge_of,
            chain=first if in_chain else ExperimentId(""),
            seeds=seeds,
            **more,
        )
        self.happen(f"{experiment}/proposed", event)
        return experiment

    def propose(
        self,
        *,
        lines: int = 100,
        submission: str = "",
        proposer: str = "test",
        parameters: dict[str, float] | None = None,
        seeds: SeedHabit | None = None,
        **more: Any,
    ) -> ExperimentId:
        """Have a proposal; `more` are further fields of its event."""
        self._answered(proposer)
        base = self.state.lineage[-1] if self.state.lineage else ExperimentId("e0")
        tree = f"t{len(self.state.experiments)}"
        event_base = self.found(
            Kind.PROPOSAL,
            tree,
            CommitId(f"c-{tree}"),
            base,
            submission=submission,
            proposer=proposer,
            parameters=parameters,
            seeds=seeds,
            **more,
        )
        if lines != 100:
            experiment = replace(self.state.experiments[event_base], lines=lines)
            self.state = replace(
                self.state, experiments=self.state.experiments.set(event_base, experiment)
            )
        return event_base

    def reject(self) -> ExperimentId:
        """Propose what preflight refuses; both is recorded at once."""
        self._answered("")
        experiment = self.state.next_experiment
        proposed = ev.ExperimentProposed(
            experiment=experiment,
            kind=Kind.PROPOSAL,
            commit=CommitId(f"c-{experiment}"),
            tree=f"t-{experiment}",
            base=self.state.lineage[-1] if self.state.lineage else ExperimentId("e0"),
            base_commit=self.state.incumbent_commit or BASE,
            lines=100,
            proposer="test",
            hypothesis=f"a typo in {experiment}",
        )
        rejected = ev.ExperimentRejected(experiment=experiment, reason="train.py:1: a typo")
        self.ledger.append(
            [
                ev.Draft(id=f"{experiment}/proposed", at=self.now, event=proposed),
                ev.Draft(id=f"{experiment}/rejected", at=self.now, event=rejected),
            ]
        )
        self.state = catch_up(self.ledger, self.state)
        return experiment

    def in_status(self, *statuses: Status) -> list[ExperimentId]:
        return sorted(e for e, status in self.state.open.items() if status in statuses)

    def open_slot(self, slot: str, device_class: str = "cpu") -> None:
        event = ev.SlotOpened(
            slot=SlotId(slot),
            incarnation="1",
            node=node_of(slot),
            device="d",
            device_class=device_class,
        )
        self.happen(f"{slot}/{self.state.seq}", event)

    def controls(self, phase: TrialPhase) -> list[tuple[ExperimentId, TrialId]]:
        """Return the controls that are in a phase."""
        return sorted(
            (control.experiment, name)
            for name, control in self.state.controls.items()
            if self.state.experiments[control.experiment].trial(name, 1).phase is phase
        )

    def _trial(self, experiment: ExperimentId, trial: str) -> Trial:
        found = self.state.experiments[experiment]
        return found.trial(TrialId(trial), 1) if trial in self.state.controls else found.trials[-1]

    def start(self, experiment: ExperimentId, slot: str = "cpu-0", trial_id: str = "") -> None:
        trial = self._trial(experiment, trial_id)
        event = ev.TrialStarted(
            trial=trial.id,
            experiment=experiment,
            attempt=trial.attempt,
            slot=SlotId(slot),
            node=node_of(slot),
        )
        self.happen(f"{trial.id}/{trial.attempt}/started", event)

    def end(self, experiment: ExperimentId, outcome: TrialOutcome, trial_id: str = "") -> None:
        trial = self._trial(experiment, trial_id)
        if trial.rung_s is not None and outcome.ending is Ending.SCORED:
            outcome = short(outcome)
        event = ev.TrialFinished(
            trial=trial.id, experiment=experiment, attempt=trial.attempt, outcome=outcome
        )
        self.happen(f"{trial.id}/{trial.attempt}/ended", event)

    def lose(
        self, experiment: ExperimentId, *, is_given_back: bool = False, trial_id: str = ""
    ) -> None:
        trial = self._trial(experiment, trial_id)
        event = ev.TrialLost(
            trial=trial.id,
            experiment=experiment,
            attempt=trial.attempt,
            reason="gone",
            is_given_back=is_given_back,
        )
        self.happen(f"{trial.id}/{trial.attempt}/ended", event)

    def despair(self, experiment: ExperimentId) -> None:
        """Let the curve of the experiment's running trial be hopeless."""
        trial = self.state.experiments[experiment].trials[-1]
        self.hopeless[trial.id, trial.attempt] = "hopeless: loss 9"

    def run(self, experiment: ExperimentId, outcome: TrialOutcome) -> Status:
        """Settle, run the experiment's queued trial to this end, and settle again."""
        self.settle()
        self.start(experiment)
        self.end(experiment, outcome)
        self.settle()
        return self.status(experiment)

    def status(self, experiment: str) -> Status:
        return self.state.experiments[ExperimentId(experiment)].status

    def baseline(self, value: float = 1.0) -> None:
        self.settle()
        self.run(ExperimentId("e0"), replace(scored(value), probe=self.probe))
