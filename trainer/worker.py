"""The loop of one slot: lease a trial, run it, report it, repeat.

Knows leases and when to give one up. Does not know Ray, Redis or git: it is plain Python over the
ports, so that a test runs it in a thread. Whatever goes wrong with a trial, on our side too, is an
outcome of that trial; the loop ends only when it is told to stop.

A slot has two bays. While a trial runs in one, the trial that the queue names for the slot is made
ready in the other; when the first ends, the slot asks for work, and what it gets starts before
anybody looks at the outcome of the first. So a card waits for a round trip to the queue, not for
git, Python or us. What is made ready is not leased: see LeaseSource.reserve.

A worker that cannot reach the queue for as long as its lease lasts ends its own trial, since by
then the queue may have leased it to somebody else (self-fencing).
"""

import errno
import time
from collections.abc import Callable
from dataclasses import dataclass, replace

from trainer.bay import Bay
from trainer.endings import classify
from trainer.frozen import FrozenCheck
from trainer.gpu_watch import GpuWatch
from trainer.materialise import Materialiser
from trainer.outbox import Outbox
from trainer.ports import Heartbeat, Lease, LeaseSource, NoWork, Progress, Slot
from trainer.process_tree import sweep
from trainer.run_records import EndedBy, RunProgress, RunReport
from trainer.supervisor_client import Supervisor
from trainer.telemetry import GpuTelemetry
from trainer.trial import CrashKind, Ending, TrialOutcome

_LEASE_WAIT_S = 5.0
_MOST_HEARTBEAT_S = 2.0
"""People watch the progress that heartbeats carry."""
_FIRST_LOOK_S = 0.1
"""How soon to ask again what to prepare; then ever later, as the trial goes on."""
_RETRY_S = 0.5
_LONGEST_PAUSE_S = 30.0
_MOST_REASON = 200


@dataclass(frozen=True, slots=True, kw_only=True)
class _Running:
    """A trial that was started."""

    lease: Lease
    bay: Bay
    leased_at: float
    started_at: float


@dataclass(frozen=True, slots=True, kw_only=True)
class _Ended:
    """A trial whose run is over, and what is known of it at once."""

    running: _Running
    report: RunReport
    order: Heartbeat
    ended_at: float
    gpu: GpuTelemetry | None

    @property
    def stages_s(self) -> dict[str, float]:
        """Seconds by stage, as TrialOutcome has them."""
        return {
            "materialise": self.running.started_at - self.running.leased_at,
            "train": self.ended_at - self.running.started_at,
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class _Failed:
    """A trial that could not be started, for reasons of ours."""

    lease: Lease
    outcome: TrialOutcome


class Worker:
    """One slot's loop; `run` is called once, from the thread that lives as long as the worker."""

    def __init__(
        self,
        *,
        slot: Slot,
        leases: LeaseSource,
        materialiser: Materialiser,
        supervisors: tuple[Supervisor, Supervisor],
        gpus: GpuWatch,
        wait_for_cards: Callable[[], None] = lambda: None,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        """`wait_for_cards` is called before a trial starts, when the one before is dead."""
        self._slot = slot
        self._leases = leases
        self._mark_prefix = materialiser.mark_prefix
        self._busy, self._spare = (Bay(materialiser, each) for each in supervisors)
        self._outbox = Outbox(slot=slot, leases=leases, clock=clock, sleep=sleep)
        self._gpus = gpus
        self._wait_for_cards = wait_for_cards
        self._clock = clock
        self._sleep = sleep
        self._is_known = False
        self._failures = 0

    def run(self) -> None:
        """Serve the slot until the queue says stop; nothing of a trial is left afterwards."""
        sweep(self._mark_prefix)
        try:
            while (answer := self._next()) is not NoWork.STOP:
                if isinstance(answer, Lease):
                    self._serve(answer)
        finally:
            self._busy.close()
            self._spare.close()

    def _next(self) -> Lease | NoWork:
        try:
            if not self._is_known:
                self._leases.hello(self._slot)
                self._is_known = True
            return self._leases.lease(self._slot, _LEASE_WAIT_S)
        except ConnectionError:
            self._is_known = False  # the queue may come back without a memory of this slot
            self._sleep(_RETRY_S)
            return NoWork.WAIT

    def _serve(self, lease: Lease) -> None:
        """Run a trial, and after it those that are ready when the one before has ended."""
        turn: _Running | _Failed | None = self._begin(lease)
        while isinstance(turn, _Running):
            ended = self._watch(turn)
            # A slot without a sandbox would fail one trial after the other, and fast.
            has_failed = ended.report.ended_by is EndedBy.NO_SANDBOX
            turn = None if has_failed else self._begin_next()
            self._finish(ended)
        if turn is not None:
            self._outbox.put(turn.lease, turn.outcome)
            self._pause()
        self._outbox.empty()

    def _begin(self, lease: Lease) -> _Running | _Failed:
        """Start a trial in the spare bay, which is then the busy one."""
        leased_at = self._clock()
        bay = self._spare
        try:
            bay.load(lease.spec)
            self._wait_for_cards()
            started_at = self._clock()
            bay.start()
            self._gpus.begin()
        except (OSError, LookupError, RuntimeError, ValueError) as error:
            bay.clear()
            stages_s = {"materialise": self._clock() - leased_at}
            return _Failed(lease=lease, outcome=self._own_failure(error, stages_s))
        self._busy, self._spare = bay, self._busy
        return _Running(lease=lease, bay=bay, leased_at=leased_at, started_at=started_at)

    def _begin_next(self) -> _Running | _Failed | None:
        """Start the next trial if one is ready, or a more urgent one if that is what there is."""
        if not self._spare.is_prepared:
            return None
        try:
            answer = self._leases.lease(self._slot, 0.0)
        except ConnectionError:
            return None
        return self._begin(answer) if isinstance(answer, Lease) else None

    def _watch(self, running: _Running) -> _Ended:
        """Keep the lease alive until the run has ended."""
        hold = _Hold(self._leases, self._slot, running, self._clock)
        prepare_at = running.started_at
        while True:
            due = min(hold.next_at, prepare_at)
            news = running.bay.poll(max(0.0, due - self._clock()))
            if isinstance(news, RunReport):
                return _Ended(
                    running=running,
                    report=news,
                    order=hold.order,
                    ended_at=self._clock(),
                    gpu=self._gpus.end(),
                )
            if news is not None:
                hold.progress = _progress(news)
            if self._clock() >= prepare_at:
                if hold.order is Heartbeat.GO_ON:
                    self._prepare_next()
                elapsed_s = self._clock() - running.started_at
                prepare_at = self._clock() + min(_MOST_HEARTBEAT_S, max(_FIRST_LOOK_S, elapsed_s))
            if self._clock() >= hold.next_at:
                self._gpus.look()
                if hold.beat():
                    running.bay.cancel()
                self._outbox.offer()

    def _prepare_next(self) -> None:
        """Make ready what the queue names for this slot, if it is not."""
        try:
            spec = self._leases.reserve(self._slot)
        except ConnectionError:
            return
        try:
            if spec is None:
                self._spare.clear()
            else:
                self._spare.prepare(spec)
        except (OSError, LookupError, RuntimeError, ValueError):
            self._spare.clear()  # should it come to run, that will fail for all to see

    def _finish(self, ended: _Ended) -> None:
        """Report a trial, while the next one runs already."""
        bay, report = ended.running.bay, ended.report
        outcome = self._outcome(ended)
        if outcome.ending is Ending.SCORED:
            outcome = _inspected(bay, outcome)
            bay.keep_caches()  # before the outcome is known, and brings more trials
        bay.tidy()
        if ended.order is not Heartbeat.GONE:
            self._outbox.put(ended.running.lease, outcome)
        if report.ended_by is EndedBy.NO_SANDBOX:
            self._pause()
        else:
            self._failures = 0

    def _outcome(self, ended: _Ended) -> TrialOutcome:
        report, order = ended.report, ended.order
        if order is Heartbeat.CANCEL:
            # It may have ended by itself in the same moment; what was cancelled stays cancelled.
            report = replace(report, ended_by=EndedBy.CANCEL)
        device_class = self._slot.device_class
        outcome = classify(
            report, device_class=device_class, stages_s=ended.stages_s, gpu=ended.gpu
        )
        if order is Heartbeat.GIVE_BACK and outcome.ending is Ending.CANCELLED:
            reason = "given back: the study stopped"
            return replace(outcome, ending=Ending.LOST, reason=reason, is_given_back=True)
        return outcome

    def _own_failure(self, error: Exception, stages_s: dict[str, float]) -> TrialOutcome:
        is_full = isinstance(error, OSError) and error.errno in {errno.ENOSPC, errno.EDQUOT}
        return TrialOutcome(
            ending=Ending.CRASHED if is_full else Ending.LOST,
            crash=CrashKind.DISK_FULL if is_full else None,
            reason=f"{type(error).__name__}: {error}"[:_MOST_REASON],
            stages_s=stages_s,
            device_class=self._slot.device_class,
        )

    def _pause(self) -> None:
        """Wait, the longer the more trials failed in a row for reasons of this slot.

        Else a broken slot, quicker than any that works, would take all the queue's trials and fail
        them.
        """
        self._failures += 1
        self._sleep(min(_LONGEST_PAUSE_S, 2.0 ** (self._failures - 1)))


class _Hold:
    """A worker's hold on the lease of the trial that it runs: heartbeats, and what they bring."""

    def __init__(
        self,
        leases: LeaseSource,
        slot: Slot,
        running: _Running,
        clock: Callable[[], float],
    ) -> None:
        self._leases = leases
        self._slot = slot
        self._lease = running.lease
        self._clock = clock
        self._interval_s = min(_MOST_HEARTBEAT_S, running.lease.ttl_s / 3)
        self._kept_at = running.leased_at
        self.next_at = running.leased_at + self._interval_s
        """When the next heartbeat is due."""
        self.progress = Progress(elapsed_s=0.0)
        self.order = Heartbeat.GO_ON
        """What came back last, besides GO_ON."""

    def beat(self) -> bool:
        """Send a heartbeat; say whether the run must be ended, which is said once."""
        now = self._clock()
        self.next_at = now + self._interval_s
        if self.order is Heartbeat.GONE:
            return False
        try:
            answer = self._leases.heartbeat(self._slot, self._lease, self.progress)
            self._kept_at = now
        except ConnectionError:
            is_over = self._clock() - self._kept_at >= self._lease.ttl_s
            answer = Heartbeat.GONE if is_over else Heartbeat.GO_ON
        if answer is Heartbeat.GO_ON:
            return False
        is_first = self.order is Heartbeat.GO_ON
        self.order = answer
        return is_first


def _inspected(bay: Bay, outcome: TrialOutcome) -> TrialOutcome:
    """Add what became of the frozen files while the trial ran."""
    try:
        check = bay.inspect()
    except (OSError, LookupError, RuntimeError) as error:
        # Somebody should look: a trial that can prevent the check must not gain by it.
        check = FrozenCheck(changed=(f"frozen files could not be checked ({error})",))
    conduct = replace(outcome.conduct, frozen=check.changed, frozen_unchecked=check.unchecked)
    return replace(outcome, conduct=conduct)


def _progress(news: RunProgress) -> Progress:
    return Progress(elapsed_s=news.elapsed_s, last_line=news.last_line, points=news.points)
