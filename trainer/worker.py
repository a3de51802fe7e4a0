"""The loop of one slot: lease a trial, run it, report it, repeat.

Knows leases and when to give one up. Does not know Ray, Redis or git: it is plain Python over the
ports, so that a test runs it in a thread. Whatever goes wrong with a trial, on our side too, is an
outcome of that trial; the loop ends only when it is told to stop.

A worker that cannot reach the queue for as long as its lease lasts ends its own trial, since by
then the queue may have leased it to somebody else (self-fencing).
"""

import errno
import time
from collections.abc import Callable
from dataclasses import replace

from trainer.endings import classify
from trainer.materialise import Materialiser
from trainer.ports import Heartbeat, Lease, LeaseSource, NoWork, Progress, Slot
from trainer.process_tree import sweep
from trainer.run_records import EndedBy, RunProgress, RunReport
from trainer.supervisor_client import Supervisor
from trainer.trial import CrashKind, Ending, TrialOutcome

_LEASE_WAIT_S = 5.0
_MOST_HEARTBEAT_S = 2.0
"""People watch the progress that heartbeats carry."""
_RETRY_S = 0.5
_PATIENCE_TTLS = 10
"""For how many lease times an outcome is offered to a queue that cannot be reached."""
_LONGEST_PAUSE_S = 30.0
_MOST_REASON = 200


class Worker:
    """One slot's loop; `run` is called once, from the thread that lives as long as the worker."""

    def __init__(
        self,
        *,
        slot: Slot,
        leases: LeaseSource,
        materialiser: Materialiser,
        supervisor: Supervisor,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self._slot = slot
        self._leases = leases
        self._materialiser = materialiser
        self._supervisor = supervisor
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
            self._supervisor.close()

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
        leased_at = self._clock()
        try:
            request = self._materialiser.materialise(lease.spec)
            started_at = self._clock()
            self._supervisor.start(request)
        except (OSError, LookupError, RuntimeError, ValueError) as error:
            stages_s = {"materialise": self._clock() - leased_at}
            self._complete(lease, self._own_failure(error, stages_s))
            self._pause()
            return
        report, order = self._watch(lease, leased_at)
        stages_s = {
            "materialise": started_at - leased_at,
            "train": self._clock() - started_at,
        }
        self._materialiser.tidy(lease.spec)
        if order is not Heartbeat.GONE:
            self._complete(lease, self._outcome(report, order, stages_s))
        if report.ended_by is EndedBy.NO_SANDBOX:
            self._pause()
        else:
            self._failures = 0

    def _watch(self, lease: Lease, leased_at: float) -> tuple[RunReport, Heartbeat]:
        """Keep the lease alive until the run has ended; return its report and the last order."""
        interval = min(_MOST_HEARTBEAT_S, lease.ttl_s / 3)
        order = Heartbeat.GO_ON
        progress = Progress(elapsed_s=0.0)
        kept_at, next_at = leased_at, leased_at + interval
        while True:
            news = self._supervisor.poll(max(0.0, next_at - self._clock()))
            if isinstance(news, RunReport):
                return news, order
            if news is not None:
                progress = _progress(news)
            now = self._clock()
            if now < next_at:
                continue
            next_at = now + interval
            if order is Heartbeat.GONE:
                continue
            try:
                answer = self._leases.heartbeat(self._slot, lease, progress)
                kept_at = now
            except ConnectionError:
                is_over = self._clock() - kept_at >= lease.ttl_s
                answer = Heartbeat.GONE if is_over else Heartbeat.GO_ON
            if answer is not Heartbeat.GO_ON:
                if order is Heartbeat.GO_ON:
                    self._supervisor.cancel()
                order = answer

    def _complete(self, lease: Lease, outcome: TrialOutcome) -> None:
        """Hand the outcome in; drop it when the queue stays away long after the lease has ended."""
        give_up_at = self._clock() + _PATIENCE_TTLS * lease.ttl_s
        while True:
            try:
                # False means that the trial is somebody else's by now: then theirs is the outcome.
                self._leases.complete(self._slot, lease, outcome)
            except ConnectionError:
                if self._clock() >= give_up_at:
                    return
                self._sleep(_RETRY_S)
            else:
                return

    def _outcome(
        self, report: RunReport, order: Heartbeat, stages_s: dict[str, float]
    ) -> TrialOutcome:
        if order is Heartbeat.CANCEL:
            # It may have ended by itself in the same moment; what was cancelled stays cancelled.
            report = replace(report, ended_by=EndedBy.CANCEL)
        outcome = classify(report, device_class=self._slot.device_class, stages_s=stages_s)
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


def _progress(news: RunProgress) -> Progress:
    return Progress(elapsed_s=news.elapsed_s, last_line=news.last_line, points=news.points)
