"""Trials whose predictions are scored: the lease is held until then, and the next trial runs."""

import errno
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from tests.trainer.worker_bench import PATIENCE_S, TTL_S, Bench, first_in_line
from trainer.ports import Heartbeat, Lease, Progress
from trainer.score_report import ScoreReport
from trainer.trial import CommitId, CrashKind, Ending, Rung, Smoke, TrialSpec

LEAVE = "echo 0.5 > $INCUMBENT_OUT/predictions"


@dataclass
class FakeScorer:
    """Believes what stands in `predictions`, once it is allowed to tell."""

    may_tell: Callable[[], bool] = lambda: True
    error: OSError | None = None
    begun: list[str] = field(default_factory=list)
    told: list[str] = field(default_factory=list)
    _report: ScoreReport = field(default_factory=ScoreReport)

    def begin(self, spec: TrialSpec, out: Path) -> ScoreReport | None:
        assert len(self.begun) == len(self.told), "one at a time"
        self.begun.append(spec.trial)
        if self.error:
            self.told.append(spec.trial)
            raise self.error
        self._report = self.glance(out)
        return None

    def glance(self, out: Path) -> ScoreReport:
        path = out / "predictions"
        if not path.exists():
            return ScoreReport(reason="it left no predictions")
        return ScoreReport(value=float(path.read_text()), wall_s=0.1)

    def poll(self, timeout_s: float) -> ScoreReport | None:
        if not self.may_tell():
            return None
        self.told.append(self.begun[-1])
        return self._report

    def close(self) -> None:
        self.begun.clear()


def test_the_score_counts_and_what_was_printed_is_a_claim(bench: Bench) -> None:
    bench.scorer = FakeScorer()
    leases = bench.serve(bench.lease(f"{LEAVE}; echo 'loss: 0.0001'"))
    outcome = leases.outcomes["e1.1"]
    assert (outcome.ending, outcome.value) == (Ending.SCORED, 0.5)
    assert outcome.metrics == {"claimed": 0.0001}
    assert outcome.stages_s["score"] == 0.1
    assert (bench.paths.study / "out/e1.1-1/predictions").read_text() == "0.5\n"


def test_a_claim_without_predictions_is_worth_nothing(bench: Bench) -> None:
    bench.scorer = FakeScorer()
    leases = bench.serve(bench.lease("echo 'loss: 0.0001'"))
    outcome = leases.outcomes["e1.1"]
    assert (outcome.ending, outcome.crash) == (Ending.CRASHED, CrashKind.PREDICTIONS)
    assert outcome.reason == "it left no predictions"


def test_what_did_not_end_well_is_not_scored(bench: Bench) -> None:
    bench.scorer = scorer = FakeScorer()
    leases = bench.serve(bench.lease(f"{LEAVE}; exit 3"))
    assert leases.outcomes["e1.1"].crash is CrashKind.EXCEPTION
    assert not scorer.told


def test_frozen_files_are_looked_at_all_the_same(bench: Bench) -> None:
    bench.scorer = FakeScorer()
    leases = bench.serve(bench.lease(f"{LEAVE}; echo more >> train.sh"))
    assert leases.outcomes["e1.1"].conduct.frozen == ("train.sh was changed",)


def test_the_next_trial_runs_while_the_last_is_scored(
    bench: Bench, until_ready: str, tmp_path: Path
) -> None:
    go = tmp_path / "go"

    def may_tell() -> bool:
        if bench.is_running("e2.1"):
            go.touch()
        return go.exists()

    bench.scorer = FakeScorer(may_tell=may_tell)
    leases = bench.serve(
        bench.lease(f"{until_ready}; {LEAVE}"),
        bench.lease(f"while [ ! -e {go} ]; do sleep 0.01; done; {LEAVE}", trial="e2.1"),
        on_reserve=first_in_line,
    )
    assert [leases.outcomes[trial].value for trial in ("e1.1", "e2.1")] == [0.5, 0.5]


def test_leases_are_held_while_scoring_outlasts_the_next_trial(
    bench: Bench, until_ready: str
) -> None:
    beats: list[str] = []

    def beat(lease: Lease, _: Progress) -> Heartbeat:
        beats.append(lease.spec.trial)
        return Heartbeat.GO_ON

    def may_tell() -> bool:
        # The first to be scored; the second has ended by then, for it does nothing.
        return scorer.begun[-1] != "e1.1" or {*beats[-4:]} == {"e1.1", "e2.1"}

    bench.scorer = scorer = FakeScorer(may_tell=may_tell)
    leases = bench.serve(
        bench.lease(f"{until_ready}; {LEAVE}", ttl_s=TTL_S),
        bench.lease(LEAVE, trial="e2.1", ttl_s=TTL_S),
        on_reserve=first_in_line,
        on_heartbeat=beat,
    )
    assert scorer.told == ["e1.1", "e2.1"]
    assert all(each.ending is Ending.SCORED for each in leases.outcomes.values())


@pytest.mark.parametrize(
    ("order", "ending"),
    [
        (Heartbeat.GO_ON, Ending.SCORED),
        (Heartbeat.GIVE_BACK, Ending.SCORED),
        (Heartbeat.CANCEL, Ending.CANCELLED),
        (Heartbeat.GONE, None),
    ],
)
def test_what_the_queue_says_while_a_trial_is_scored(
    order: Heartbeat, ending: Ending | None, bench: Bench
) -> None:
    asked: list[Heartbeat] = []

    def beat(*_: object) -> Heartbeat:
        if not scorer.begun:
            return Heartbeat.GO_ON
        asked.append(order)
        return order

    bench.scorer = scorer = FakeScorer(may_tell=lambda: bool(asked))
    leases = bench.serve(bench.lease(LEAVE, ttl_s=TTL_S), on_heartbeat=beat)
    outcome = leases.outcomes.get("e1.1")
    assert (outcome.ending if outcome else None) is ending


def test_trouble_of_ours_loses_the_trial_and_no_more(bench: Bench) -> None:
    bench.scorer = FakeScorer(error=OSError(errno.EIO, "a bad block"))
    leases = bench.serve(bench.lease(LEAVE))
    outcome = leases.outcomes["e1.1"]
    assert (outcome.ending, outcome.reason) == (Ending.LOST, "OSError: [Errno 5] a bad block")


def test_a_smoke_run_has_to_leave_predictions_and_its_score_counts_nowhere(bench: Bench) -> None:
    bench.scorer = scorer = FakeScorer()
    smoke = Smoke(budget_s=0.25)
    leases = bench.serve(
        bench.lease(LEAVE, smoke=smoke),
        bench.lease(f'[ "$INCUMBENT_BUDGET_S" = 0.25 ] || {LEAVE}', trial="e2.1", smoke=smoke),
    )
    assert leases.outcomes["e1.1"].value == 0.5
    assert scorer.told == ["e1.1"]
    outcome = leases.outcomes["e2.1"]
    assert (outcome.crash, outcome.rung) == (CrashKind.PREDICTIONS, Rung.SMOKE)
    assert outcome.reason == "smoke run: it left no predictions"


def test_what_is_scored_keeps_its_lease_while_the_next_takes_long_to_be_made_ready(
    bench: Bench, tmp_path: Path
) -> None:
    beats: list[bool] = []
    is_preparing, is_beaten = threading.Event(), threading.Event()
    third = bench.lease(f"{LEAVE}; echo 'loss: 3'", trial="e3.1", ttl_s=TTL_S)

    def fetched(commit: CommitId, is_ahead: bool) -> None:
        if is_ahead and commit == third.spec.commit:
            is_preparing.set()
            beats.append(is_beaten.wait(PATIENCE_S))
            (tmp_path / "go").touch()

    def beaten(lease: Lease, _: Progress) -> Heartbeat:
        if is_preparing.is_set() and lease.spec.trial == "e1.1":
            is_beaten.set()
        return Heartbeat.GO_ON

    bench.code.on_fetch = fetched
    bench.scorer = FakeScorer(may_tell=(tmp_path / "go").exists)
    until_go = f"until [ -e {tmp_path}/go ]; do sleep 0.01; done"
    leases = bench.serve(
        bench.lease(f"{LEAVE}; echo 'loss: 1'", ttl_s=TTL_S),
        bench.lease(f"{until_go}; {LEAVE}; echo 'loss: 2'", trial="e2.1", ttl_s=TTL_S),
        third,
        on_reserve=first_in_line,
        on_heartbeat=beaten,
    )
    assert beats == [True]
    assert len(leases.outcomes) == 3
