"""Trials that leave models: the slot is theirs until those were asked, then they are scored."""

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from tests.trainer.test_worker_score import FakeScorer
from tests.trainer.worker_bench import TTL_S, Bench, first_in_line
from trainer.ports import Heartbeat
from trainer.predictor import Predicted
from trainer.score_report import ScoreReport
from trainer.trial import CrashKind, Ending, Rung, Smoke, TrialSpec

LEAVE = "echo 0.5 > $INCUMBENT_OUT/model"


@dataclass
class FakePredictor:
    """Makes its predictions of a model by reading it, once it is allowed to tell."""

    folder: Path
    may_tell: Callable[[], bool] = lambda: True
    error: Exception | None = None
    begun: list[tuple[str, Rung]] = field(default_factory=list)
    is_cancelled: bool = False
    _told: Predicted | None = None

    def begin(self, run: TrialSpec, model: Path) -> Predicted | None:
        self.begun.append((run.trial, run.rung))
        if self.error:
            raise self.error
        self._told = self._made(run, model)
        return None

    def _made(self, run: TrialSpec, model: Path) -> Predicted:
        folder = self.folder / run.trial
        if not (model / "model").exists():
            report = ScoreReport(reason="python predict.py: no model", tail="Traceback: no model")
            return Predicted(folder=folder, report=report)
        if run.rung is Rung.FULL:
            folder.mkdir(parents=True)
            (folder / "predictions").write_bytes((model / "model").read_bytes())
        return Predicted(folder=folder, report=ScoreReport(value=0.0))

    def poll(self, timeout_s: float) -> Predicted | None:
        return self._told if self.may_tell() or self.is_cancelled else None

    def cancel(self) -> None:
        self.is_cancelled = True

    def close(self) -> None:
        self.begun.append(("closed", Rung.FULL))


@pytest.fixture
def predictor(bench: Bench, tmp_path: Path) -> FakePredictor:
    made = FakePredictor(tmp_path / "predictions")
    bench.predictor, bench.scorer = made, FakeScorer()  # type: ignore[assignment]
    return made


def test_what_is_predicted_by_the_model_is_scored_and_what_the_run_left_beside_is_not(
    bench: Bench, predictor: FakePredictor
) -> None:
    leases = bench.serve(bench.lease(f"{LEAVE}; echo 0.001 > $INCUMBENT_OUT/predictions"))
    outcome = leases.outcomes["e1.1"]
    assert (outcome.ending, outcome.value) == (Ending.SCORED, 0.5)
    assert outcome.stages_s["predict"] >= 0
    assert predictor.begun[-1][0] == "closed"


def test_a_model_that_could_not_be_asked_is_a_crash_whose_log_is_told(
    bench: Bench, predictor: FakePredictor
) -> None:
    outcome = bench.serve(bench.lease("echo 'loss: 0.1'")).outcomes["e1.1"]
    assert (outcome.ending, outcome.crash) == (Ending.CRASHED, CrashKind.PREDICTIONS)
    assert (outcome.reason, outcome.tail) == ("python predict.py: no model", "Traceback: no model")
    assert outcome.metrics["claimed"] == 0.1


def test_a_run_that_failed_is_not_asked(bench: Bench, predictor: FakePredictor) -> None:
    outcome = bench.serve(bench.lease(f"{LEAVE}; exit 3")).outcomes["e1.1"]
    assert outcome.crash is CrashKind.EXCEPTION
    assert [trial for trial, _ in predictor.begun] == ["closed"]


def test_trouble_of_ours_loses_the_trial(bench: Bench, predictor: FakePredictor) -> None:
    predictor.error = LookupError("no such commit")
    outcome = bench.serve(bench.lease(LEAVE)).outcomes["e1.1"]
    assert (outcome.ending, outcome.reason) == (Ending.LOST, "LookupError: no such commit")


def test_the_next_trial_is_made_ready_meanwhile_and_not_begun_before_the_model_was_asked(
    bench: Bench, predictor: FakePredictor, until_ready: str
) -> None:
    queue: list[deque[Any]] = []
    waiting: list[tuple[int, bool]] = []

    def reserve(leases: deque[Any]) -> TrialSpec | None:
        queue.append(leases)
        return first_in_line(leases)

    def may_tell() -> bool:
        waiting.append((len(queue[0]), bench.is_running("e2.1")))
        return waiting[-1] == (1, True) or predictor.begun[-1][0] == "e2.1"

    predictor.may_tell = may_tell
    leases = bench.serve(
        bench.lease(f"{until_ready}; {LEAVE}"),
        bench.lease(LEAVE, trial="e2.1"),
        on_reserve=reserve,
    )
    assert {count for count, _ in waiting[:-1]} == {1}
    assert [leases.outcomes[trial].value for trial in ("e1.1", "e2.1")] == [0.5, 0.5]


@pytest.mark.parametrize(
    ("order", "ending", "is_cancelled"),
    [
        (Heartbeat.GO_ON, Ending.SCORED, False),
        (Heartbeat.PRUNE, Ending.SCORED, False),
        (Heartbeat.GIVE_BACK, Ending.LOST, True),
        (Heartbeat.CANCEL, Ending.CANCELLED, True),
        (Heartbeat.GONE, None, True),
    ],
)
def test_what_the_queue_says_while_a_model_is_asked(
    order: Heartbeat,
    ending: Ending | None,
    is_cancelled: bool,
    bench: Bench,
    predictor: FakePredictor,
) -> None:
    asked: list[Heartbeat] = []

    def beat(*_: object) -> Heartbeat:
        if not predictor.begun:
            return Heartbeat.GO_ON
        asked.append(order)
        return order

    predictor.may_tell = lambda: bool(asked) and not is_cancelled
    leases = bench.serve(bench.lease(LEAVE, ttl_s=TTL_S), on_heartbeat=beat)
    outcome = leases.outcomes.get("e1.1")
    assert (outcome.ending if outcome else None) is ending
    assert predictor.is_cancelled is is_cancelled


def test_the_model_of_a_smoke_run_is_asked_too(bench: Bench, predictor: FakePredictor) -> None:
    smoke = Smoke(budget_s=0.25)
    leases = bench.serve(
        bench.lease(LEAVE, smoke=smoke),
        bench.lease(f'[ "$INCUMBENT_BUDGET_S" = 0.25 ] || {LEAVE}', trial="e2.1", smoke=smoke),
    )
    assert leases.outcomes["e1.1"].value == 0.5
    outcome = leases.outcomes["e2.1"]
    assert (outcome.crash, outcome.rung) == (CrashKind.PREDICTIONS, Rung.SMOKE)
    assert outcome.reason == "smoke run: python predict.py: no model"
    assert predictor.begun[:-1] == [("e1.1", Rung.SMOKE), ("e1.1", Rung.FULL), ("e2.1", Rung.SMOKE)]


def test_leases_of_both_are_held_while_one_is_scored_and_the_other_is_asked(
    bench: Bench, predictor: FakePredictor, until_ready: str
) -> None:
    beats: deque[str] = deque(maxlen=4)

    def beat(lease: Any, _: object) -> Heartbeat:
        beats.append(lease.spec.trial)
        return Heartbeat.GO_ON

    def are_both_held() -> bool:
        return predictor.begun[-1][0] == "e1.1" or {*beats} == {"e1.1", "e2.1"}

    bench.scorer = scorer = FakeScorer()
    scorer.may_tell = lambda: scorer.begun[-1] != "e1.1" or (are_both_held() and len(beats) == 4)
    predictor.may_tell = are_both_held
    leases = bench.serve(
        bench.lease(f"{until_ready}; {LEAVE}", ttl_s=TTL_S),
        bench.lease(LEAVE, trial="e2.1", ttl_s=TTL_S),
        on_reserve=first_in_line,
        on_heartbeat=beat,
    )
    assert all(each.ending is Ending.SCORED for each in leases.outcomes.values())
