"""Tells studies event by event, through the real transitions, with a clock of its own."""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any, TypeVar

from cluster.controller.ports import Observer
from cluster.state import events as ev
from cluster.state import hidden_label_events as hidden
from cluster.state.experiment import Kind, TrialPhase
from cluster.state.state import StudyState
from cluster.state.transitions import MOST_LOSSES, apply
from eval.beliefs import Belief, Learnt
from eval.judge import Verdict
from eval.metric import Goal, Metric
from eval.seeds import SeedHabit
from proposer.purse import CallId, CallPlan, Usage
from trainer.telemetry import GpuTelemetry, Telemetry
from trainer.trial import (
    CommitId,
    CrashKind,
    Ending,
    ExperimentId,
    Place,
    SlotId,
    TrialId,
    TrialOutcome,
    trial_number,
)

BEGIN = datetime(2026, 8, 1, 12, tzinfo=UTC)
O = TypeVar("O", bound=Observer)  # noqa: E741 - an observer


def metric(goal: Goal = Goal.MINIMIZE, name: str = "val_loss") -> Metric:
    return Metric(name=name, goal=goal, pattern=rf"^{name}: (\S+)")


def commit(word: str) -> CommitId:
    return CommitId(hashlib.sha1(word.encode(), usedforsecurity=False).hexdigest())


class Study:
    """A study; those who watch it see each event as it happens."""

    def __init__(self, *, goal: str = "minimize", slots: int = 2) -> None:
        self.state = StudyState()
        self.events: list[ev.Recorded] = []
        self.now = BEGIN
        self._watchers: list[Observer] = []
        self.tell(
            ev.StudyStarted(study="mar5", base_commit=commit("base"), metric="val_loss", goal=goal),
            ev.ControllerStarted(epoch=1, pid=4711, node="box"),
        )
        for index in range(slots):
            self.open_slot(f"cpu-{index}")

    def watch(self, observer: O) -> O:
        observer.resume(self.state)
        self._watchers.append(observer)
        return observer

    def tell(self, *events: ev.Event, after: float = 1.0) -> None:
        """Record events, each `after` seconds after the one before."""
        for event in events:
            self.now += timedelta(seconds=after)
            seq = len(self.events) + 1
            recorded = ev.Recorded(seq=seq, id=f"event-{seq}", at=self.now, event=event)
            self.state = apply(self.state, recorded)
            self.events.append(recorded)
            for watcher in self._watchers:
                watcher.observe(recorded, self.state)

    def open_slot(self, slot: str, *, note: str = "") -> None:
        self.tell(
            ev.SlotOpened(
                slot=SlotId(slot),
                incarnation=f"{slot}/1",
                node="box",
                device="cpu",
                device_class="cpu",
                note=note,
            )
        )

    # --- experiments -----------------------------------------------------------------------------

    def propose(
        self,
        hypothesis: str,
        *,
        kind: Kind = Kind.PROPOSAL,
        base: str = "",
        merge_of: str = "",
        proposer: str = "tuner",
        chain: str = "",
        seeds: SeedHabit | None = None,
    ) -> ExperimentId:
        experiment = self.state.next_experiment
        incumbent = self.state.incumbent
        self.tell(
            ev.ExperimentProposed(
                experiment=experiment,
                kind=kind,
                commit=commit(experiment),
                tree=f"tree of {experiment}",
                base=ExperimentId(base) or (incumbent.id if incumbent else experiment),
                base_commit=self.state.incumbent_commit or self.state.base_commit,
                lines=100,
                proposer=proposer,
                hypothesis=hypothesis,
                parameters={"LR": 0.1},
                merge_of=ExperimentId(merge_of),
                chain=ExperimentId(chain),
                seeds=seeds,
            )
        )
        return experiment

    def start(
        self, experiment: str, *, slot: str = "cpu-0", rung_s: float | None = None
    ) -> TrialId:
        """Queue and lease the next trial, or the next attempt of one that was lost."""
        name = ExperimentId(experiment)
        number, attempt = 1, 1
        for last in self.state.experiments[name].trials[-1:]:
            number = trial_number(last.id)
            if last.phase is TrialPhase.LOST:
                attempt = last.attempt + 1
            else:
                number += 1
        trial = TrialId(f"{name}.{number}")
        self.tell(
            ev.TrialQueued(
                trial=trial, experiment=name, attempt=attempt, seed=number, rung_s=rung_s
            ),
            ev.TrialStarted(
                trial=trial, experiment=name, attempt=attempt, slot=SlotId(slot), node="box"
            ),
        )
        return trial

    def finish(self, experiment: str, outcome: TrialOutcome, *, seconds: float = 10.0) -> None:
        name = ExperimentId(experiment)
        last = self.state.experiments[name].trials[-1]
        event = ev.TrialFinished(
            trial=last.id, experiment=name, attempt=last.attempt, outcome=outcome
        )
        self.tell(event, after=seconds)

    def lose(self, experiment: str, *, is_given_back: bool = False) -> None:
        name = ExperimentId(experiment)
        last = self.state.experiments[name].trials[-1]
        self.tell(
            ev.TrialLost(
                trial=last.id,
                experiment=name,
                attempt=last.attempt,
                reason="the lease ran out",
                is_given_back=is_given_back,
            )
        )

    def measure(self, experiment: str, value: float, *, slot: str = "cpu-0") -> None:
        self.start(experiment, slot=slot)
        self.finish(experiment, scored(value))

    def climb(self, experiment: str, value: float, *, goes_on: bool, rung_s: float = 30.0) -> None:
        """Run an experiment on a rung, and say whether it goes on."""
        self.start(experiment, rung_s=rung_s)
        self.finish(experiment, short(value))
        self.rung(experiment, goes_on=goes_on, rung_s=rung_s)

    def rung(self, experiment: str, *, goes_on: bool, rung_s: float = 30.0) -> None:
        """Say whether an experiment goes on from a rung."""
        rank = 1 if goes_on else 5
        self.tell(
            ev.RungJudged(
                experiment=ExperimentId(experiment),
                rung_s=rung_s,
                rank=rank,
                of=5,
                goes_on=goes_on,
                reason=f"rung of {rung_s:g} s: place {rank} of 5, of which the best 2 go on",
            )
        )

    def judge(
        self,
        experiment: str,
        verdict: Verdict,
        delta: float = 0.1,
        learnt: Learnt | None = None,
    ) -> None:
        is_kept = verdict is Verdict.KEEP
        self.tell(
            ev.ExperimentJudged(
                experiment=ExperimentId(experiment),
                verdict=verdict,
                delta=delta if is_kept else -delta,
                reason="better" if is_kept else "worse",
                reference=self.state.lineage[-1] if self.state.lineage else ExperimentId("e0"),
                learnt=learnt,
            )
        )

    def promote(
        self, experiment: str, *, lacks: tuple[str, ...] = (), above: tuple[str, ...] = ()
    ) -> None:
        self.tell(
            ev.Promoted(
                experiment=ExperimentId(experiment),
                commit=commit(f"promotion of {experiment}"),
                replaces=self.state.lineage[-1],
                lacks=tuple(map(ExperimentId, lacks)),
                carried=tuple(
                    ev.Carried(experiment=ExperimentId(e), commit=commit(f"promotion of {e}"))
                    for e in above
                ),
            )
        )

    # --- whole lives -----------------------------------------------------------------------------

    def baseline(self, value: float) -> ExperimentId:
        experiment = self.propose("baseline", kind=Kind.BASELINE, proposer="baseline")
        self.measure(experiment, value)
        self.judge(experiment, Verdict.KEEP, 0.0)
        return experiment

    def keep(self, hypothesis: str, value: float) -> ExperimentId:
        experiment = self.win(hypothesis, value)
        self.promote(experiment)
        return experiment

    def win(self, hypothesis: str, value: float, *, base: str = "") -> ExperimentId:
        experiment = self.propose(hypothesis, base=base)
        self.measure(experiment, value)
        self.judge(experiment, Verdict.KEEP)
        return experiment

    def discard(self, hypothesis: str, value: float) -> ExperimentId:
        experiment = self.propose(hypothesis)
        self.measure(experiment, value, slot="cpu-1")
        self.judge(experiment, Verdict.DISCARD)
        return experiment

    def run(self, value: float, **facts: Any) -> ExperimentId:
        """Discard an experiment of whose trial these facts are known."""
        experiment = self.propose("LR 1 -> 2")
        self.start(experiment)
        self.finish(experiment, replace(scored(value), **facts))
        self.judge(experiment, Verdict.DISCARD)
        return experiment

    def suspect(self, hypothesis: str, value: float) -> ExperimentId:
        experiment = self.propose(hypothesis)
        self.measure(experiment, value)
        self.doubt(experiment)
        return experiment

    def doubt(self, experiment: str) -> None:
        self.tell(
            ev.ExperimentSuspected(
                experiment=ExperimentId(experiment),
                delta=0.3,
                reasons=("prepare.py was changed while the trial ran", "it took 0.1 s"),
                reference=self.state.lineage[-1],
            )
        )

    def accept(self, experiment: str) -> None:
        self.tell(ev.AcceptRequested(experiment=ExperimentId(experiment)))

    def crash(self, hypothesis: str) -> ExperimentId:
        experiment = self.propose(hypothesis)
        self.start(experiment)
        self.finish(experiment, crashed())
        return experiment

    def reject(self, hypothesis: str, reason: str) -> ExperimentId:
        experiment = self.propose(hypothesis)
        self.tell(ev.ExperimentRejected(experiment=experiment, reason=reason))
        return experiment

    def merge(self, winner: str) -> ExperimentId:
        hypothesis = self.state.experiments[ExperimentId(winner)].hypothesis
        return self.propose(hypothesis, kind=Kind.MERGE, merge_of=winner, proposer="reducer")

    def link(self, winner: str) -> ExperimentId:
        """Merge a winner onto the chain that is being made, or begin one."""
        hypothesis = self.state.experiments[ExperimentId(winner)].hypothesis
        chain = self.state.chain
        return self.propose(
            hypothesis,
            kind=Kind.MERGE,
            base=chain[-1] if chain else "",
            merge_of=winner,
            chain=chain[0] if chain else self.state.next_experiment,
        )


def scored(
    value: float,
    metrics: Mapping[str, float] | None = None,
    telemetry: Telemetry | None = None,
) -> TrialOutcome:
    return TrialOutcome(
        ending=Ending.SCORED,
        value=value,
        metrics=metrics if metrics is not None else {"peak_vram_mb": 45060.2},
        exit_code=0,
        stages_s={"materialise": 0.02, "train": 9.5, "report": 0.005},
        telemetry=telemetry or measured(),
    )


def short(value: float) -> TrialOutcome:
    """What was scored on a rung, as its worker reports it."""
    return replace(scored(value), ending=Ending.SHORT, value=None, short_value=value)


def measured(steps_per_s: float = 10.0, **gpu: Any) -> Telemetry:
    """Telemetry of a trial on a card that was cool and well used, unless told otherwise."""
    well = {"samples": 5, "vram_peak_mb": 45060.0, "utilisation_percent": 97.0, "power_w": 600.0}
    more = {"temperature_max_c": 61.0, "throttled_s": 0.0, "stranger_mb": 0.0, "energy_j": 5700.0}
    return Telemetry(
        wall_s=9.5,
        cpu_s=9.0,
        memory_peak_mb=2100.0,
        steps_per_s=steps_per_s,
        step_counter="step",
        gpu=GpuTelemetry(**{**well, **more, **gpu}),
    )


def crashed() -> TrialOutcome:
    return TrialOutcome(
        ending=Ending.CRASHED,
        crash=CrashKind.EXCEPTION,
        reason="ZeroDivisionError: division by zero",
        tail='  File "train.py", line 3\nZeroDivisionError: division by zero',
        exit_code=1,
        stages_s={"materialise": 0.02, "train": 0.4},
    )


def failed(ending: Ending) -> TrialOutcome:
    return TrialOutcome(ending=ending, reason=f"it was {ending}")


def eventful() -> list[ev.Event]:
    """Return the events of a study in which everything happens that can."""
    study = Study()
    study.baseline(0.41)
    study.keep("LR 0.1 -> 0.2", 0.38)  # e1
    study.discard("DEPTH 2 -> 1", 0.44)  # e2
    study.crash("DEPTH 2 -> 0")  # e3
    slow = study.propose("DEPTH 2 -> 99")  # e4
    study.start(slow)
    study.finish(slow, failed(Ending.TIMED_OUT))
    unwanted = study.propose("no")  # e5
    study.tell(ev.CancelRequested(experiment=unwanted))
    lost = study.propose("WIDTH 8 -> 16")  # e6
    for _ in range(MOST_LOSSES):
        study.start(lost)
        study.lose(lost)
    _merges(study)
    study.tell(ev.RetryRequested(experiment=ExperimentId("e3")))
    study.measure("e3", 0.2)
    study.judge("e3", Verdict.KEEP)
    study.promote("e3")
    study.tell(ev.RetryRequested(experiment=ExperimentId("e2")))
    study.start("e2")
    study.finish("e2", crashed())
    for experiment in (unwanted, lost):
        study.tell(ev.RetryRequested(experiment=experiment))
        study.measure(experiment, 0.5)
        study.judge(experiment, Verdict.DISCARD)
    _controls(study, unwanted)
    _suspects(study)
    _requests(study)
    _given_up(study)
    _rungs(study)
    _nodes(study)
    return [recorded.event for recorded in study.events]


def _given_up(study: Study) -> None:
    """One is stopped for its curve; of another nothing comes, as it has just ended."""
    hopeless, quick = study.propose("LR 0.2 -> 9"), study.propose("LR 0.2 -> 0.21")
    for experiment in (hopeless, quick):
        study.start(experiment)
    study.finish(quick, crashed())
    for experiment in (hopeless, quick):
        trial = study.state.experiments[experiment].trials[-1]
        study.tell(
            ev.TrialGivenUp(
                trial=trial.id,
                experiment=experiment,
                attempt=trial.attempt,
                reason="hopeless: loss 9 at 35 % of the budget",
            )
        )
    study.finish(hopeless, failed(Ending.PRUNED))


def _rungs(study: Study) -> None:
    """One goes on, one is stopped and rises, one stays stopped, one is cancelled and retried."""
    good, late, bad, unwanted = (study.propose(f"LR 0.2 -> 0.{n}") for n in range(4, 8))
    for experiment, value in ((good, 0.3), (late, 0.5), (bad, 0.9)):
        study.climb(experiment, value, goes_on=experiment == good)
    study.start(unwanted, rung_s=30.0)
    study.tell(ev.CancelRequested(experiment=unwanted))
    study.finish(unwanted, short(0.4))
    study.rung(late, goes_on=True)
    study.tell(ev.RetryRequested(experiment=unwanted))
    for experiment in (good, late, unwanted):
        study.measure(experiment, 0.6)
        study.judge(experiment, Verdict.DISCARD)


def _nodes(study: Study) -> None:
    """A node does not fit, then it does; it is found to be sick, is released, drained, and goes.

    What it has broken is run again.
    """
    broken = study.crash("LR 0.2 -> 0.22")
    study.tell(
        ev.NodeRefused(node="beta", address="10.0.0.2", reason="Ray 2.9.0, the study has 2.51.1"),
        ev.NodeJoined(
            node="beta",
            address="10.0.0.2",
            incumbent="1.0",
            python="3.12.3",
            ray="2.51.1",
            cpus=64,
            memory_gb=256.0,
            gpus=("NVIDIA H200", "NVIDIA H200"),
            prepared_s=12.0,
        ),
        ev.NodeQuarantined(
            node="beta", reason="e3.1, e5.1, e6.1 failed there alone", reopened=(broken,)
        ),
        ev.NodeReleased(node="beta"),
        ev.DrainRequested(node="beta"),
        ev.NodeLeft(node="beta", reason="drained"),
    )
    study.measure(broken, 0.5)
    study.judge(broken, Verdict.DISCARD)


def control(study: Study, slot: str, shift: float, reopened: Sequence[ExperimentId] = ()) -> None:
    """Run the incumbent again on a slot, which reads better by so much; beyond 0.1 it has shifted.

    The verdicts on `reopened` are taken back.
    """
    incumbent = study.state.experiments[study.state.lineage[-1]]
    trial = TrialId(f"{incumbent.id}.{incumbent.next_trial}")
    about = {"trial": trial, "experiment": incumbent.id}
    where = Place(slot=SlotId(slot), device_class="cpu")
    study.tell(
        ev.TrialQueued(**about, attempt=1, seed=1, place=where, is_control=True),
        ev.TrialStarted(**about, attempt=1, slot=SlotId(slot), node="box"),
        ev.TrialFinished(**about, attempt=1, outcome=scored(0.2)),
        ev.ControlJudged(
            **about,
            slot=SlotId(slot),
            shift=shift,
            surprise=20 * shift,
            is_shifted=abs(shift) > 0.1,
            reopened=tuple(reopened),
        ),
    )


def _controls(study: Study, discarded: ExperimentId) -> None:
    """Check a slot twice; the second time it has shifted, and a verdict is given again."""
    control(study, "cpu-0", 0.01)
    control(study, "cpu-0", -0.2, (discarded,))
    study.measure(discarded, 0.5)
    study.judge(discarded, Verdict.DISCARD)


def _merges(study: Study) -> None:
    """Let winners go stale: e7 lands by way of its second merge; of others nothing comes."""
    stale = [study.win(f"patch {index}", 0.36, base="e1") for index in range(4)]  # e7 .. e10
    study.keep("WIDTH 8 -> 12", 0.34)  # e11
    first = study.merge(stale[0])  # e12
    study.measure(first, 0.33)
    study.judge(first, Verdict.KEEP)
    study.keep("BATCH 8 -> 16", 0.32)  # e13: the first merge is stale, too
    second = study.merge(first)  # e14
    study.measure(second, 0.31)
    study.judge(second, Verdict.KEEP)
    study.promote(second)
    study.tell(
        ev.MergeConflicted(experiment=stale[1], against=second, paths=("train.py",)),
        ev.MergeRedundant(experiment=stale[2], against=second),
    )
    useless = study.merge(stale[3])  # e15
    study.start(useless)
    study.finish(useless, crashed())
    study.tell(ev.WinnerDropped(experiment=stale[3], reason=f"merged as {useless}, which crashed"))
    alone = study.win("a better start", 0.25, base="e1")  # e16
    study.promote(alone, lacks=("e11", "e13", "e14"))
    again = study.merge("e11")  # e17: what was left behind rejoins
    study.measure(again, 0.26)
    study.judge(again, Verdict.DISCARD)
    study.tell(
        ev.MergeConflicted(experiment=ExperimentId("e13"), against=alone, paths=("train.py",)),
        ev.MergeRedundant(experiment=ExperimentId("e14"), against=alone),
    )


def _suspects(study: Study) -> None:
    """Let scores be too good: one is left alone, one accepted, one retried."""
    suspects = [study.suspect(f"too good {index}", 0.01) for index in range(3)]  # e18 .. e20
    study.accept(suspects[1])
    study.judge(suspects[1], Verdict.DISCARD)
    study.tell(ev.RetryRequested(experiment=suspects[2]))
    study.measure(suspects[2], 0.5)
    study.judge(suspects[2], Verdict.DISCARD)


def calls(study: Study) -> None:
    """Ask a model: twice with an answer, once without; then people and the budget have a say."""
    for number, (usd, problem, is_lost) in enumerate(
        [(0.25, "", False), (0.05, "529 overloaded", False), (0.5, "", True)],
        start=study.state.calls + 1,
    ):
        call = CallId(f"c{number}")
        plan = CallPlan(
            proposer="claude",
            model="claude-opus-5-5",
            purpose="propose",
            commit=study.state.incumbent_commit,
            incumbent=study.state.lineage[-1],
            usd=0.5,
            tokens=9000,
        )
        usage = Usage(input=1000, cache_read=2000, cache_write=500, output=100)
        study.tell(
            ev.CallReserved(call=call, plan=plan),
            ev.CallSettled(
                call=call,
                usd=usd,
                usage=usage,
                proposals=0 if problem or is_lost else 2,
                problem=problem,
                is_lost=is_lost,
            ),
        )
    study.tell(
        ev.AnswerUsed(calls=(CallId("c1"),)),
        ev.ProposerFailed(
            proposer="claude", reason="529 overloaded", retry_at=study.now + timedelta(minutes=1)
        ),
        ev.CallRefused(proposer="claude", usd=0.5, tokens=9000),
        ev.TaskClosed(task="fix/e3", proposer="claude", reason="nothing came of it"),
        ev.NoteGiven(text="leave the seed alone"),
        ev.ApproveRequested(experiment=ExperimentId("e1")),
        ev.RejectRequested(experiment=ExperimentId("e2"), reason="tried in May"),
    )


def _requests(study: Study) -> None:
    study.tell(
        ev.SubmissionReceived(submission="s1", hypothesis="mine", settings={"LR": "1"}),
        ev.ProposalRejected(
            proposer="user", hypothesis="mine", reason="the same tree as e1", submission="s1"
        ),
        ev.ProposalRejected(proposer="tuner", hypothesis="LR 0.2 -> 0.1", reason="known"),
        ev.ProposerExhausted(proposer="tuner", reason="every point of the grid was tried"),
        ev.PauseRequested(),
        ev.ResumeRequested(),
    )
    calls(study)
    given_back = study.propose("LR 0.2 -> 0.3")  # e18
    study.start(given_back)
    study.lose(given_back, is_given_back=True)
    study.reject("a typo", "train.py:4: undefined name 'modle'")  # e19
    forced = study.reject("a clever trick", "train.py:9: undefined name 'made_elsewhere'")  # e20
    study.tell(ev.RetryRequested(experiment=forced))
    study.start(forced)
    study.finish(forced, crashed())
    study.tell(hold_out("e3", 0.31), hold_out("e4", None))
    run = hidden.FinalRunEnded(final=1, seed=1, outcome=scored(0.2))
    study.tell(
        final_begun(study),
        run,
        replace(run, seed=2, outcome=crashed()),
        hidden.FinalReported(final=1, test=(0.3,), labels="0123", looks=1),
        ev.StudyFinished(reason="nothing more to try"),
        ev.SlotClosed(slot=SlotId("cpu-1"), reason="its worker died"),
        ev.StopRequested(now=True),
        ev.ControllerStopped(epoch=1, reason="stopped"),
    )


def hold_out(
    experiment: str, reported: float | None, *, validation: float = 0.3, step: float = 0.0
) -> hidden.HoldoutScored:
    return hidden.HoldoutScored(
        experiment=ExperimentId(experiment),
        trial=TrialId(f"{experiment}.1"),
        validation=validation,
        reported=reported,
        step=step,
        problem="" if reported is not None else "it left no holdout.npy in $INCUMBENT_OUT",
    )


def final_begun(study: Study, *, seeds: int = 2) -> hidden.FinalBegun:
    """The next final run of the incumbent."""
    return hidden.FinalBegun(
        final=len(study.state.finals) + 1,
        experiment=study.state.lineage[-1],
        commit=study.state.incumbent_commit,
        seeds=tuple(range(1, seeds + 1)),
        settings="{}",
    )


def believed() -> Study:
    """A study whose judge has beliefs, of a baseline that was run three times."""
    study = Study()
    baseline = study.propose("baseline", kind=Kind.BASELINE, proposer="baseline")
    for value in (0.4, 0.44, 0.36):
        study.measure(baseline, value)
        verdict = Verdict.REPLICATE if value != 0.36 else Verdict.KEEP
        belief = Belief(mean=0.4, variance=0.0004)
        study.judge(baseline, verdict, 0.0, Learnt(candidate=belief) if value == 0.36 else None)
    winner = study.propose("LR 0.1 -> 0.2")
    study.measure(winner, 0.3)
    learnt = Learnt(
        candidate=Belief(mean=0.31, variance=0.0001),
        reference=Belief(mean=0.395, variance=0.0004),
        effect=Belief(mean=0.085, variance=0.0009),
        chance=0.98,
    )
    study.judge(winner, Verdict.KEEP, 0.085, learnt)
    study.promote(winner)
    return study


def chained() -> Study:
    """A study whose four stale winners were merged as a chain: two are kept, one crashed with it.

    e1 is fresh; e2 to e5 are stale; e6 to e9 are the links that carry them, of which e6 crashed.
    """
    study = Study()
    study.baseline(0.4)
    fresh = study.win("LR 0.1 -> 0.2", 0.36)
    stale = [study.win(f"patch {index}", 0.37, base="e0") for index in range(4)]
    study.promote(fresh)
    links = [study.link(winner) for winner in stale]
    study.start(links[0])
    study.finish(links[0], crashed())
    for link, value in zip(links[1:], (0.34, 0.33, 0.35), strict=True):
        study.measure(link, value)
    study.judge(links[1], Verdict.KEEP, 0.02)
    study.judge(links[2], Verdict.KEEP, 0.01)
    study.judge(links[3], Verdict.DISCARD, 0.02)
    effect = Belief(mean=0.005, variance=0.0001)
    study.tell(
        ev.WinnerRequeued(experiment=stale[3], link=links[3], reason="not brought", effect=effect),
        ev.ChainMeasured(chain=links[0], links=tuple(links), best=links[2]),
    )
    study.promote(links[2], above=(links[0], links[1]))
    return study


def rebased() -> Study:
    """A study in which e2 was rebased and kept, e3 stays beside it as a person's, e4 went back."""
    study = Study()
    study.baseline(0.4)
    fresh = study.propose("LR 0.1 -> 0.2")
    moved, returned = study.propose("WIDTH 8 -> 16"), ExperimentId("e4")
    stays = study.propose("mine", proposer="user")
    study.propose("LR 0.1 -> 0.3")
    study.measure(fresh, 0.36)
    study.judge(fresh, Verdict.KEEP)
    study.promote(fresh)
    study.tell(
        ev.ExperimentRebased(
            experiment=moved,
            commit=commit("a rebase"),
            tree="a rebased tree",
            lines=100,
            base=fresh,
            base_commit=study.state.incumbent_commit,
            from_base=ExperimentId("e0"),
            from_commit=commit(moved),
            parameters={"LR": 0.2},
        ),
        ev.RebaseConflicted(experiment=stays, onto=fresh, paths=("train.py",)),
        ev.ExperimentReturned(experiment=returned, reason="stale: conflicts with e1 in train.py"),
    )
    study.measure(moved, 0.3)
    study.judge(moved, Verdict.KEEP)
    study.promote(moved)
    return study
