"""The loop of one slot: lease a trial, run it, report it, repeat.

Knows leases and when to give one up. Does not know Ray, Redis or git: it is plain Python over the
ports, so that a test runs it in a thread. Whatever goes wrong with a trial, on our side too, is an
outcome of that trial; the loop ends only when it is told to stop.

A slot has two bays. While a trial runs in one, the trial that the queue names for the slot is made
ready in the other; when the first ends, the slot asks for work, and what it gets starts before
anybody looks at the outcome of the first, or scores what it left. So a card waits for a round trip
to the queue, not for git, Python or us. What is made ready is not leased: see LeaseSource.reserve.
Of a trial with a smoke run, its own full run is made ready while the smoke run is under way.

A worker that cannot reach the queue ends its own trial shortly before its lease runs out, since
then the queue may lease it to somebody else (self-fencing).
"""

import time
from collections.abc import Callable
from dataclasses import dataclass, replace

from eval.seeds import Reseed
from trainer.bay import Bay
from trainer.chores import Chores
from trainer.endings import checked, classify, given_back, has_ended_well, lost, pruned
from trainer.frozen import FrozenCheck
from trainer.gpu_watch import GpuWatch
from trainer.hold import Hold, look_again_s
from trainer.materialise import Materialiser
from trainer.outbox import Outbox
from trainer.ports import Heartbeat, Lease, LeaseSource, NoWork, ResultSink, Slot
from trainer.predicting import Predicting
from trainer.predictor import Predicted, Predictor
from trainer.process_tree import sweep
from trainer.results_here import ResultsHere
from trainer.run_records import EndedBy, RunProgress, RunReport
from trainer.rungs import after_smoke, ended_with_smoke, goes_on, reported, runs
from trainer.score_report import ScoreReport
from trainer.scorer import Scorer
from trainer.scoring import Scoring
from trainer.supervisor_client import Supervisor
from trainer.telemetry import GpuTelemetry
from trainer.trial import CrashKind, Ending, Rung, TrialOutcome, TrialSpec

_LEASE_WAIT_S = 5.0
_RETRY_S = 0.5
_LONGEST_PAUSE_S = 30.0
_NOT_SCORED = ScoreReport(reason="its predictions were not scored", is_ours=True)
"""Where predictions count, what was printed never does."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Due:
    """A run of a leased trial, whose turn has come."""

    hold: Hold
    run: TrialSpec
    further: TrialSpec | None
    """The run of the same trial that follows if this one ends well."""
    since: float
    """When there was nothing left to wait for."""
    smoke: TrialOutcome | None = None
    """How the trial's smoke run ended, if that was before."""

    @property
    def spec(self) -> TrialSpec:
        """The trial as it was leased."""
        return self.hold.lease.spec


@dataclass(frozen=True, slots=True, kw_only=True)
class _Running:
    """A run that was started."""

    due: _Due
    bay: Bay
    started_at: float
    reseeds: tuple[Reseed, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class _Ended:
    """A run that is over, and what is known of it at once."""

    running: _Running
    report: RunReport
    ended_at: float
    over_at: float
    """When the slot was free to go on: as it ended, or when its model had been asked."""
    gpu: GpuTelemetry | None
    predicted: Predicted | None = None
    """What came of asking its model, where that was done."""

    @property
    def due(self) -> _Due:
        """The run."""
        return self.running.due

    @property
    def stages_s(self) -> dict[str, float]:
        """Seconds by stage, as TrialOutcome has them."""
        started_at = self.running.started_at
        seconds = {"materialise": started_at - self.due.since}
        if self.due.run.rung is Rung.SMOKE:
            return {**seconds, "smoke": self.over_at - started_at}
        predict = {"predict": self.over_at - self.ended_at} if self.predicted else {}
        return {**seconds, "train": self.ended_at - started_at, **predict}


@dataclass(frozen=True, slots=True, kw_only=True)
class _Failed:
    """A trial of which a run could not be started, for reasons of ours."""

    lease: Lease
    outcome: TrialOutcome


class Worker:
    """One slot's loop; `run` is called once, from the thread that lives as long as the worker."""

    def __init__(  # noqa: PLR0913 - all that a slot's loop depends on, by name
        self,
        *,
        slot: Slot,
        leases: LeaseSource,
        materialiser: Materialiser,
        supervisors: tuple[Supervisor, Supervisor],
        gpus: GpuWatch,
        scorer: Scorer | None = None,
        predictor: Predictor | None = None,
        wait_for_cards: Callable[[], None] = lambda: None,
        obstacle: Callable[[], str] = str,
        results: ResultSink | None = None,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        """`wait_for_cards` is called before anything starts, when what was before is dead.

        `obstacle` says why the slot can take no trial for the time being; empty if it can.
        Without `scorer`, a trial's metric is what it printed; with `predictor`, models that runs
        leave are asked for what is scored. Without `results`, what trials leave stays here.
        """
        self._slot = slot
        self._leases = leases
        self._materialiser = materialiser
        self._busy, self._spare = (Bay(materialiser, each) for each in supervisors)
        self._results = results or ResultsHere()
        self._outbox = Outbox(slot, leases, self._results, clock=clock, sleep=sleep)
        self._scoring = Scoring(scorer, clock)
        self._chores = Chores(self._scoring, self._outbox, clock)
        self._predicting = Predicting(predictor, self._chores, wait_for_cards, clock)
        self._gpus = gpus
        self._wait_for_cards = wait_for_cards
        self._obstacle = obstacle
        self._clock = clock
        self._sleep = sleep
        self._is_known = False
        self._failures = 0

    def run(self) -> None:
        """Serve the slot until the queue says stop; nothing of a trial is left afterwards."""
        sweep(self._materialiser.mark_prefix)
        try:
            while (answer := self._next()) is not NoWork.STOP:
                if isinstance(answer, Lease):
                    self._serve(answer)
        finally:
            self._busy.close()
            self._spare.close()
            self._predicting.close()
            self._scoring.close()
            self._materialiser.close()
            self._results.close()

    def _next(self) -> Lease | NoWork:
        note = self._obstacle()
        try:
            if not self._is_known or note != self._slot.note:
                self._slot = replace(self._slot, note=note)
                self._leases.hello(self._slot)
                self._is_known = True
            return self._leases.lease(self._slot, _LEASE_WAIT_S)  # none, to a slot with a note
        except ConnectionError:
            self._is_known = False  # the queue may come back without a memory of this slot
            self._sleep(_RETRY_S)
            return NoWork.WAIT

    def _serve(self, lease: Lease) -> None:
        """Run a trial, and after it those that are ready when the one before has ended."""
        turn: _Running | _Failed | None = self._begin(self._first_run(lease))
        while isinstance(turn, _Running):
            ended = self._predict(self._watch(turn))
            turn = self._begin_further(ended) or self._change(ended)
        self._scoring.settle()
        if turn is not None:
            self._outbox.put(turn.lease, turn.outcome)
            self._pause()
        self._outbox.empty()

    def _first_run(self, lease: Lease) -> _Due:
        run, *further = runs(lease.spec)
        hold = Hold(self._leases, self._slot, lease, self._clock)
        return _Due(
            hold=hold, run=run, further=further[0] if further else None, since=self._clock()
        )

    def _begin(self, due: _Due) -> _Running | _Failed:
        """Start a run in the spare bay, which is then the busy one."""
        bay = self._spare
        try:
            bay.load(due.run)
            self._wait_for_cards()
            started_at = self._clock()
            bay.start()
            self._gpus.begin()
        except (OSError, LookupError, RuntimeError, ValueError) as error:
            bay.clear()
            stages_s = {"materialise": self._clock() - due.since}
            failed = lost(error, self._slot.device_class, stages_s)
            outcome = after_smoke(due.spec, due.smoke, failed)
            return _Failed(lease=due.hold.lease, outcome=outcome)
        due.hold.note(RunProgress(elapsed_s=0.0), due.run.rung)
        self._busy, self._spare = bay, self._busy
        self._results.follow(due.run)
        return _Running(due=due, bay=bay, started_at=started_at, reseeds=bay.reseeds)

    def _begin_further(self, ended: _Ended) -> _Running | _Failed | None:
        """Start the same trial's full run, if what has ended was a smoke run that allows it."""
        due = ended.due
        if due.further is None:
            return None
        smoke = self._classified(ended)
        if not (goes_on(due.spec, smoke) and due.hold.is_wanted()):
            self._spare.clear()
            return None
        turn = self._begin(
            replace(due, run=due.further, further=None, since=ended.over_at, smoke=smoke)
        )
        ended.running.bay.clear()  # but for its log
        return turn

    def _change(self, ended: _Ended) -> _Running | _Failed | None:
        """Start the next trial if one is ready, then finish with the one that has ended."""
        self._scoring.settle(ended.due.hold)  # done long ago, unless scoring outlasts a trial
        # A slot without a sandbox would fail one trial after the other, and fast.
        has_failed = ended.report.ended_by is EndedBy.NO_SANDBOX
        due = None if has_failed else self._next_due()
        if due is not None and self._spare.holds(due.run):
            turn = self._begin(due)
            self._finish(ended)
            return turn
        self._finish(ended)
        if due is None:
            return None
        self._outbox.offer(due.hold.spare_s)  # nobody keeps its lease while this is made ready
        return self._begin(due)

    def _next_due(self) -> _Due | None:
        """Lease the next trial if one is ready, or a more urgent one if that is what there is."""
        if not self._spare.is_prepared or self._obstacle():
            return None
        try:
            answer = self._leases.lease(self._slot, 0.0)
        except ConnectionError:
            self._is_known = False  # what it was leased perhaps is to be given back
            return None
        return self._first_run(answer) if isinstance(answer, Lease) else None

    def _watch(self, running: _Running) -> _Ended:
        """Keep the lease alive until the run has ended."""
        hold = running.due.hold
        prepare_at = running.started_at
        while True:
            until = self._chores.next_at(hold, prepare_at)
            news = running.bay.poll(max(0.0, until - self._clock()))
            if isinstance(news, RunReport):
                at, gpu = self._clock(), self._gpus.end()
                return _Ended(running=running, report=news, ended_at=at, over_at=at, gpu=gpu)
            if news is not None:
                hold.note(news, running.due.run.rung)
            if self._clock() >= hold.next_at:
                self._gpus.look()
            if self._chores.see_to(hold):
                running.bay.cancel()
            if hold.spare_s and self._clock() >= prepare_at:
                if hold.order is Heartbeat.GO_ON:
                    self._prepare(running, hold.spare_s)
                elapsed_s = self._clock() - running.started_at
                prepare_at = self._clock() + look_again_s(
                    elapsed_s, hold.lease.ttl_s, is_prepared=self._spare.is_prepared
                )

    def _predict(self, ended: _Ended) -> _Ended:
        """Have the model asked that a run left, if that is wanted, before the slot goes on."""
        if not (self._predicting.is_wanted and has_ended_well(ended.report)):
            return ended
        out, due = ended.running.bay.out, ended.due
        told = self._predicting.ask(due.run, out, due.hold)
        if told is None:
            return replace(ended, report=replace(ended.report, ended_by=EndedBy.CANCEL))
        return replace(ended, predicted=told, over_at=self._clock())

    def _prepare(self, running: _Running, patience_s: float) -> None:
        """Make ready what runs next, if it is not: of the same trial, or what the queue names."""
        run = running.due.further
        if run is None:
            try:
                reserved = self._leases.reserve(self._slot, patience_s)
            except ConnectionError:
                return
            run = runs(reserved)[0] if reserved else None
        try:
            if run is None:
                self._spare.clear()
            elif not self._spare.holds(run):
                with running.due.hold.kept(running.bay.cancel), self._scoring.kept():
                    self._spare.prepare(run)
        except (OSError, LookupError, RuntimeError, ValueError):
            self._spare.clear()  # should it come to run, that will fail for all to see

    def _finish(self, ended: _Ended) -> None:
        """Report a trial, while the next one runs already; or have it scored first."""
        bay, hold = ended.running.bay, ended.due.hold
        if self._is_to_be_scored(ended):
            self._score(ended)
        else:
            outcome = None if hold.order is Heartbeat.GONE else self._outcome(ended)
            check = FrozenCheck()
            if outcome is not None and outcome.ending is Ending.SCORED:
                check = bay.inspect()
                bay.keep_caches()  # before the outcome is known, and brings more trials
            is_too_much = outcome is not None and outcome.crash is CrashKind.DISK_LIMIT
            if is_too_much or ended.due.run.rung is Rung.SMOKE:
                bay.clear(is_over=True)  # nothing of it is kept but its log
            else:
                bay.tidy()
            if outcome is not None:
                self._outbox.put(hold.lease, reported(ended.due.spec, checked(outcome, check)))
        if ended.report.ended_by is EndedBy.NO_SANDBOX:
            self._pause()
        else:
            self._failures = 0

    def _is_to_be_scored(self, ended: _Ended) -> bool:
        is_full = ended.due.run.rung is Rung.FULL
        is_kept = ended.due.hold.order not in {Heartbeat.GONE, Heartbeat.CANCEL}
        has_left = ended.predicted is None or ended.predicted.is_well
        is_due = self._scoring.is_wanted and is_full and is_kept
        return is_due and has_left and has_ended_well(ended.report)

    def _score(self, ended: _Ended) -> None:
        """Begin to score a trial's predictions; it is reported when that is done."""
        bay, hold = ended.running.bay, ended.due.hold
        check = bay.inspect()
        bay.keep_caches()

        def report(score: ScoreReport) -> None:
            if hold.order is not Heartbeat.GONE:
                outcome = checked(self._outcome(ended, score), check)
                self._outbox.put(hold.lease, reported(ended.due.spec, outcome))

        out = ended.predicted.folder if ended.predicted else bay.out
        self._scoring.begin(ended.due.run, out, hold, report)
        bay.tidy()

    def _outcome(self, ended: _Ended, score: ScoreReport | None = None) -> TrialOutcome:
        """Return the outcome of a trial that ends with this run."""
        due, outcome = ended.due, self._classified(ended, score)
        is_smoke = due.run.rung is Rung.SMOKE
        is_broken_off = outcome.ending is Ending.CANCELLED or (
            is_smoke and goes_on(due.spec, outcome)
        )
        if due.hold.order is Heartbeat.GIVE_BACK and is_broken_off:
            return given_back(outcome)
        if is_smoke:
            return ended_with_smoke(outcome)
        return after_smoke(due.spec, due.smoke, outcome)

    def _classified(self, ended: _Ended, score: ScoreReport | None = None) -> TrialOutcome:
        report = ended.report
        if ended.due.hold.order is Heartbeat.CANCEL:
            # It may have ended by itself in the same moment; what was cancelled stays cancelled.
            report = replace(report, ended_by=EndedBy.CANCEL)
        device_class = self._slot.device_class
        if score is None and self._scoring.is_wanted and has_ended_well(report):
            score = self._unscored(ended)
        outcome = classify(
            report, device_class=device_class, stages_s=ended.stages_s, gpu=ended.gpu, score=score
        )
        outcome = replace(outcome, reseeds=ended.running.reseeds)
        return pruned(outcome) if ended.due.hold.order is Heartbeat.PRUNE else outcome

    def _unscored(self, ended: _Ended) -> ScoreReport | None:
        """Return what is to be said of predictions that are not scored."""
        is_smoke, told = ended.due.run.rung is Rung.SMOKE, ended.predicted
        if told is not None and (is_smoke or not told.is_well):
            return told.report
        return self._scoring.glance(ended.running.bay.out) if is_smoke else _NOT_SCORED

    def _pause(self) -> None:
        """Wait, the longer the more trials failed in a row for reasons of this slot.

        Else a broken slot, quicker than any that works, would take all the queue's trials and fail
        them.
        """
        self._outbox.offer()
        self._failures += 1
        self._sleep(min(_LONGEST_PAUSE_S, 2.0 ** (self._failures - 1)))
