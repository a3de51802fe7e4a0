"""A slot that is cut off from the queue: what runs on it has ended before its lease has.

Each call to the queue hangs for as long as it may, and time passes by nothing else.
"""

from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from tests.trainer.trials import cpu_slot, spec
from trainer.chores import Chores
from trainer.hold import Hold
from trainer.outbox import Outbox
from trainer.ports import Heartbeat, Lease, NoWork, Progress, Slot
from trainer.results_here import ResultsHere
from trainer.score_report import ScoreReport
from trainer.scoring import Scoring
from trainer.trial import Ending, TrialOutcome, TrialSpec

SLOT = cpu_slot()
SCORED = TrialOutcome(ending=Ending.SCORED, value=1.5)


@dataclass
class Queue:
    """A queue behind a cable: what is called while that is cut hangs, else it takes `slow_s`."""

    cut_at: float = float("inf")
    mended_at: float = float("inf")
    slow_s: float = 0.0
    refuses: bool = False
    """The cut is told at once, as by a port that is closed."""
    now: float = 0.0
    calls: list[tuple[float, str]] = field(default_factory=list)

    def clock(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.now += seconds

    def _call(self, name: str, patience_s: float) -> None:
        assert patience_s > 0
        self.calls.append((self.now, name))
        is_cut = self.cut_at <= self.now < self.mended_at
        if not self.refuses:
            self.now += patience_s if is_cut else min(patience_s, self.slow_s)
        if is_cut or self.slow_s > patience_s:
            raise ConnectionError

    def hello(self, slot: Slot) -> None:
        raise NotImplementedError

    def lease(self, slot: Slot, wait_s: float) -> Lease | NoWork:
        raise NotImplementedError

    def reserve(self, slot: Slot, patience_s: float) -> TrialSpec | None:
        self._call("reserve", patience_s)
        return None

    def heartbeat(
        self, slot: Slot, lease: Lease, progress: Progress, patience_s: float
    ) -> Heartbeat:
        self._call(f"heartbeat {lease.spec.trial}", patience_s)
        return Heartbeat.GO_ON

    def complete(self, slot: Slot, lease: Lease, outcome: TrialOutcome, patience_s: float) -> bool:
        self._call("complete", patience_s)
        return True


class SlowScorer:
    """Never tells."""

    def begin(self, *_: object) -> ScoreReport | None:
        return None

    def glance(self, *_: object) -> ScoreReport:
        raise NotImplementedError

    def poll(self, timeout_s: float) -> ScoreReport | None:
        return None

    def close(self) -> None:
        """Nothing to end."""


class Site:
    """A slot whose trial runs, with another that is being scored and an outcome that waits."""

    def __init__(self, queue: Queue, ttl_s: float, out: Path) -> None:
        self.queue = queue
        leases = [Lease(spec=spec(n), token=n, ttl_s=ttl_s) for n in range(3)]
        self.hold = Hold(queue, SLOT, leases[0], queue.clock)
        self.scoring = Scoring(SlowScorer(), queue.clock)
        scored = Hold(queue, SLOT, leases[1], queue.clock)
        self.scoring.begin(leases[1].spec, out, scored, lambda _: None)
        results = ResultsHere()
        self.outbox = Outbox(SLOT, queue, results, clock=queue.clock, sleep=queue.sleep)
        self.outbox.put(leases[2], SCORED)
        self.chores = Chores(self.scoring, self.outbox, queue.clock)

    def run(self, until: float) -> float | None:
        """Do as a worker does; return when it was told to end what runs, if it was."""
        queue, prepare_at = self.queue, 0.0
        while queue.now < until:
            queue.now = max(queue.now, self.chores.next_at(self.hold, prepare_at))
            if self.chores.see_to(self.hold):
                return queue.now
            if queue.now >= prepare_at and (spare_s := self.hold.spare_s):
                with suppress(ConnectionError):
                    queue.reserve(SLOT, min(2.0, spare_s))
                prepare_at = queue.now + 2.0
        return None


MakeSite = Callable[..., Site]


@pytest.fixture
def make_site(tmp_path: Path) -> MakeSite:
    return lambda queue, ttl_s: Site(queue, ttl_s, tmp_path)


@pytest.mark.parametrize("refuses", [False, True])
@pytest.mark.parametrize("ttl_s", [5.0, 30.0])
def test_what_runs_is_ended_before_its_lease(
    ttl_s: float, refuses: bool, make_site: MakeSite
) -> None:
    """Whenever the cable is cut, and whatever was about to be called."""
    for step in range(80):
        queue = Queue(cut_at=step * ttl_s / 40, refuses=refuses)
        ended_at = make_site(queue, ttl_s).run(until=10 * ttl_s)
        kept = [at for at, call in queue.calls if call == "heartbeat e0.1" and at < queue.cut_at]
        assert ended_at is not None
        assert ended_at <= max(kept, default=0.0) + 0.85 * ttl_s  # what was told to end takes time


@pytest.mark.parametrize("ttl_s", [5.0, 30.0])
def test_nothing_else_is_called_while_a_heartbeat_is_overdue(
    ttl_s: float, make_site: MakeSite
) -> None:
    queue = Queue(cut_at=ttl_s)
    make_site(queue, ttl_s).run(until=10 * ttl_s)
    calls = [call for at, call in queue.calls if at >= ttl_s]
    first = calls.index("heartbeat e0.1")
    assert set(calls[first:]) == {"heartbeat e0.1"}
    assert len(calls[first:]) > 1


@pytest.mark.parametrize("ttl_s", [5.0, 30.0])
def test_a_cut_of_half_a_lease_costs_nothing(ttl_s: float, make_site: MakeSite) -> None:
    for step in range(40):
        cut_at = ttl_s + step * ttl_s / 40
        queue = Queue(cut_at=cut_at, mended_at=cut_at + ttl_s / 2, refuses=True)
        assert make_site(queue, ttl_s).run(until=5 * ttl_s) is None


@pytest.mark.parametrize("ttl_s", [5.0, 30.0])
def test_a_queue_that_takes_its_time_costs_nothing(ttl_s: float, make_site: MakeSite) -> None:
    queue = Queue(slow_s=ttl_s / 4)
    assert make_site(queue, ttl_s).run(until=20 * ttl_s) is None


def test_whoever_is_late_asks_before_the_lease_counts_as_lost(make_site: MakeSite) -> None:
    """A worktree took longer to make than a lease lasts; the queue allows for that."""
    queue = Queue(now=0.0)
    site = make_site(queue, 30.0)
    queue.now = 60.0
    assert not site.hold.beat()
    assert site.hold.order is Heartbeat.GO_ON
    assert site.hold.spare_s > 0
