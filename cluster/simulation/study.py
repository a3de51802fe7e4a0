"""A study on paper: the real `apply` and `decide`, and a make-believe of what surrounds them.

Time jumps from one happening to the next. Every fact is an event that goes through `apply`, every
step is a command of `decide`, as in a real study; only slots, nodes, proposers and git are played.
Events are not kept, and nothing is encoded: a study of a thousand experiments takes seconds.
"""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from functools import singledispatchmethod
from heapq import heapify, heappop, heappush
from random import Random

from cluster.policy import commands as cmd
from cluster.policy.decisions import decide
from cluster.policy.study_plan import Asked, Circumstances, StudyPlan, seats
from cluster.simulation.paper_queue import PaperQueue
from cluster.simulation.paper_runs import PaperRuns
from cluster.simulation.setup import Setup, Step
from cluster.simulation.terrain import Terrain, Tree
from cluster.state import events as ev
from cluster.state.experiment import Experiment, Kind, Status
from cluster.state.state import StudyState
from cluster.state.transitions import apply
from cluster.state.winners import carrier, lacks, root
from eval.metric import Goal, Metric
from trainer.trial import CommitId, Ending, ExperimentId, SlotId, TrialOutcome

METRIC = Metric(name="score", goal=Goal.MINIMIZE, pattern=r"^score:\s+(\S+)")
START = datetime(2026, 1, 1, tzinfo=UTC)
PROPOSER = "imaginary"
_CANCELLED = TrialOutcome(ending=Ending.CANCELLED, reason="cancelled")

_AWAITED = (cmd.Propose, cmd.CancelTrial)


class SimulatedStudy:
    """One study, from its start to the end of its hours."""

    def __init__(self, setup: Setup) -> None:
        self.setup = setup
        self.terrain = Terrain(setup.landscape, setup.seed)
        self.state = StudyState()
        self.trees: dict[ExperimentId, Tree] = {}
        self.steps: list[Step] = []
        self.now_s = 0.0
        self._plan = StudyPlan(
            metric=METRIC,
            judge=setup.judge,
            reducer=setup.reducer,
            max_staleness=setup.max_staleness,
            proposers=seats(PROPOSER),
            budget_s=setup.landscape.runs.seconds,
            slots=setup.slots,
            rungs=setup.rungs,
            most_experiments=setup.most_experiments,
        )
        self._now = START
        self._runs = PaperRuns(setup.landscape, self.terrain, setup.seed)
        self._losses = Random(f"losses/{setup.seed}")  # noqa: S311 - chance, not a secret
        self._agenda: list[tuple[float, int, Callable[[], None]]] = []
        self._waiting = PaperQueue()
        self._idle: list[int] = []
        self._order = 0
        self._asking = 0

    def run(self) -> StudyState:
        """Play the study to its end and return its last state."""
        self._begin()
        self._settle()
        end_s = self.setup.hours * 3600
        while self._agenda and self._agenda[0][0] <= end_s and not self.state.finished:
            self.now_s = self._agenda[0][0]
            self._now = START + timedelta(seconds=self.now_s)
            while self._agenda and self._agenda[0][0] <= self.now_s:
                heappop(self._agenda)[2]()
            self._settle()
        self.now_s = end_s if not self.state.finished else self.now_s
        self._note_best()
        return self.state

    # --- the clock -------------------------------------------------------------------------------

    def _begin(self) -> None:
        base = CommitId("base")
        self._happen(
            ev.StudyStarted(study="s", base_commit=base, metric=METRIC.name, goal=METRIC.goal)
        )
        self._happen(ev.ControllerStarted(epoch=1, pid=1, node="paper"))
        for slot in range(self.setup.slots):
            self._open_slot(slot)

    def _happen(self, event: ev.Event) -> None:
        recorded = ev.Recorded(seq=self.state.seq + 1, id="", at=self._now, event=event)
        self.state = apply(self.state, recorded)

    def _later(self, delay_s: float, action: Callable[[], None]) -> None:
        self._order += 1
        heappush(self._agenda, (self.now_s + delay_s, self._order, action))

    def _settle(self) -> None:
        """Do all that is decided, and start what can start, until nothing is left to do now."""
        while True:
            while commands := self._decide():
                for command in commands:
                    self._perform(command)
                if all(isinstance(command, _AWAITED) for command in commands):
                    break
            if not self._start_trials():
                return

    def _decide(self) -> tuple[cmd.Command, ...]:
        circumstances = Circumstances(
            now=self._now,
            asked=[
                Asked(
                    proposer=PROPOSER,
                    count=self._asking,
                    latency_s=self.setup.landscape.surroundings.latency_s,
                )
            ],
        )
        return decide(self.state, self._plan, circumstances)

    # --- slots -----------------------------------------------------------------------------------

    def _open_slot(self, slot: int) -> None:
        name = SlotId(f"gpu-{slot}")
        self._happen(
            ev.SlotOpened(
                slot=name,
                incarnation=f"{name}/{self.now_s}",
                node="paper",
                device="imaginary",
                device_class="gpu",
            )
        )
        heappush(self._idle, slot)

    def _start_trials(self) -> bool:
        """Lease what waits to the slots that are idle; say whether any was."""
        started = False
        for slot in [slot for slot in self._idle if slot in self._waiting.meant]:
            self._idle.remove(slot)
            heapify(self._idle)
            self._start(self._waiting.meant.pop(slot), slot)
            started = True
        while self._waiting and self._idle:
            self._start(self._waiting.take(), heappop(self._idle))
            started = True
        return started

    def _start(self, order: cmd.QueueTrial, slot: int) -> None:
        experiment = order.experiment.id
        self._happen(
            ev.TrialStarted(
                trial=order.trial,
                experiment=experiment,
                attempt=order.attempt,
                slot=SlotId(f"gpu-{slot}"),
                node="paper",
            )
        )
        seconds = self._runs.seconds(order, self.trees[experiment])
        per_hour = self.setup.landscape.surroundings.losses_per_hour
        lost_s = self._losses.expovariate(per_hour / 3600) if per_hour else seconds
        if lost_s < seconds:
            self._later(lost_s, lambda: self._lose(order, slot))
        else:
            self._later(seconds, lambda: self._end(order, slot))

    def _end(self, order: cmd.QueueTrial, slot: int) -> None:
        heappush(self._idle, slot)
        self._happen(
            ev.TrialFinished(
                trial=order.trial,
                experiment=order.experiment.id,
                attempt=order.attempt,
                outcome=self._runs.outcome(order, self.trees[order.experiment.id]),
            )
        )

    def _lose(self, order: cmd.QueueTrial, slot: int) -> None:
        self._happen(
            ev.TrialLost(
                trial=order.trial,
                experiment=order.experiment.id,
                attempt=order.attempt,
                reason="the node went away",
            )
        )
        self._happen(ev.SlotClosed(slot=SlotId(f"gpu-{slot}"), reason="the node went away"))
        self._later(self.setup.landscape.surroundings.away_s, lambda: self._open_slot(slot))

    # --- commands --------------------------------------------------------------------------------

    @singledispatchmethod
    def _perform(self, command: cmd.Command) -> None:
        raise TypeError(f"nobody plays {type(command).__name__}")

    @_perform.register
    def _create_baseline(self, _: cmd.CreateBaseline) -> None:
        self._admit(Kind.BASELINE, Tree(patches={}), ExperimentId("e0"))

    @_perform.register
    def _queue_trial(self, command: cmd.QueueTrial) -> None:
        self._happen(
            ev.TrialQueued(
                trial=command.trial,
                experiment=command.experiment.id,
                attempt=command.attempt,
                seed=command.seed,
                place=command.place,
                rung_s=command.rung_s,
                is_control=command.is_control,
            )
        )
        self._waiting.put(command)

    @_perform.register
    def _cancel(self, command: cmd.CancelTrial) -> None:
        order = self._waiting.take_back(command.trial)
        if order is None:
            return  # it runs: there is no hurry
        self._happen(
            ev.TrialFinished(
                trial=order.trial,
                experiment=order.experiment.id,
                attempt=order.attempt,
                outcome=_CANCELLED,
            )
        )

    @_perform.register
    def _judge_control(self, command: cmd.RecordControl) -> None:
        self._happen(command.event)

    @_perform.register
    def _judge(self, command: cmd.RecordJudgement) -> None:
        self._happen(command.event)
        if command.experiment == "e0" and self.state.lineage:
            self._note_best()

    @_perform.register
    def _judge_rung(self, command: cmd.RecordRung) -> None:
        self._happen(command.judged)

    @_perform.register
    def _promote(self, command: cmd.Promote) -> None:
        winner, replaced = command.winner.id, command.replaces.id
        self._happen(
            ev.Promoted(
                experiment=winner,
                commit=CommitId(f"p-{winner}"),
                replaces=replaced,
                lacks=lacks(self.state, command.winner),
                carried=tuple(
                    ev.Carried(experiment=link.id, commit=CommitId(f"p-{link.id}"))
                    for link in command.below
                ),
            )
        )
        gained = self._true(winner) - self._true(replaced)
        self._note_best(is_false=gained <= 0)

    @_perform.register
    def _merge(self, command: cmd.Merge) -> None:
        winner, chain = command.winner, self.state.chain if command.in_chain else ()
        onto = chain[-1] if chain else command.incumbent.id
        source = carrier(self.state, winner)
        base = self.trees[root(self.state, source)]
        merged = self.terrain.carry(self.trees[source.id], base, self.trees[onto])
        if merged is not None and merged.patches.keys() != self.trees[onto].patches.keys():
            self._admit(Kind.MERGE, merged, onto, winner.id, in_chain=command.in_chain)
        elif chain:
            pass  # it waits for what comes of those before it
        elif merged is None:
            event: ev.Event = ev.MergeConflicted(
                experiment=winner.id, against=onto, paths=("train.py",)
            )
            self._happen(event)
        else:
            self._happen(ev.MergeRedundant(experiment=winner.id, against=onto))

    @_perform.register
    def _rebase(self, command: cmd.Rebase) -> None:
        candidate, onto = command.candidate, command.incumbent.id
        own, base = self.trees[candidate.id], self.trees[candidate.base]
        merged = self.terrain.carry(own, base, self.trees[onto])
        if merged is None:
            event: ev.Event = ev.ExperimentReturned(experiment=candidate.id, reason="conflicts")
        else:
            self.trees[candidate.id] = merged
            event = ev.ExperimentRebased(
                experiment=candidate.id,
                commit=CommitId(f"c-{candidate.id}-{onto}"),
                tree=merged.name,
                lines=candidate.lines,
                base=onto,
                base_commit=self.state.incumbent_commit,
                from_base=candidate.base,
                from_commit=candidate.commit,
            )
        self._withdraw(candidate, event)

    @_perform.register
    def _return(self, command: cmd.ReturnCandidate) -> None:
        name = command.candidate.id
        event = ev.ExperimentReturned(experiment=name, reason=command.reason)
        self._withdraw(command.candidate, event)

    def _withdraw(self, candidate: Experiment, event: ev.Event) -> None:
        if candidate.status is Status.QUEUED:
            self._waiting.take_back(candidate.trials[-1].id)
        self._happen(event)

    @_perform.register
    def _settle_chain(self, command: cmd.SettleChain) -> None:
        for event in command.events:
            self._happen(event)

    @_perform.register
    def _drop(self, command: cmd.DropWinner) -> None:
        self._happen(ev.WinnerDropped(experiment=command.winner, reason=command.reason))

    @_perform.register
    def _propose(self, command: cmd.Propose) -> None:
        base = self.state.incumbent or self.state.baseline
        if self._asking or base is None:
            return  # a proposer takes one question at a time
        self._asking = command.count
        latency_s = self.setup.landscape.surroundings.latency_s
        self._later(latency_s, lambda: self._answer(command.count, base.id))

    @_perform.register
    def _finish(self, command: cmd.FinishStudy) -> None:
        self._happen(ev.StudyFinished(reason=command.reason, failed=command.failed))

    def _answer(self, count: int, base: ExperimentId) -> None:
        self._asking = 0
        for _ in range(count):
            self._admit(Kind.PROPOSAL, self.terrain.propose(self.trees[base]), base)

    def _admit(
        self,
        kind: Kind,
        tree: Tree,
        base: ExperimentId,
        merge_of: ExperimentId = ExperimentId(""),
        *,
        in_chain: bool = False,
    ) -> None:
        experiment = self.state.next_experiment
        first = next(iter(self.state.chain), experiment)
        self.trees[experiment] = tree
        self._happen(
            ev.ExperimentProposed(
                experiment=experiment,
                kind=kind,
                commit=CommitId(f"c-{experiment}"),
                tree=tree.name,
                base=base,
                base_commit=self.state.incumbent_commit or self.state.base_commit,
                lines=100,
                proposer=PROPOSER,
                hypothesis="",
                merge_of=merge_of,
                chain=first if in_chain else ExperimentId(""),
            )
        )

    # --- what is looked at -----------------------------------------------------------------------

    def _true(self, experiment: ExperimentId) -> float:
        return self.terrain.improvement(self.trees[experiment])

    def _note_best(self, *, is_false: bool = False) -> None:
        incumbent = self.state.incumbent
        if incumbent is None:
            return
        step = Step(
            at_s=self.now_s,
            slot_seconds=self.state.slot_seconds,
            true=self._true(incumbent.id),
            claimed=self.setup.landscape.baseline - incumbent.worth,
            is_false=is_false,
        )
        self.steps.append(step)
