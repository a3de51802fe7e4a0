"""Promotions are scored by the holdout, each once, in order, and only the Ladder's word leaves."""

from collections.abc import Callable
from pathlib import Path
from queue import SimpleQueue

import pytest

from cluster.ledger.ledger import InMemoryLedger
from cluster.state.experiment import Kind, Status, Trial
from eval.judge import Verdict
from infra.processes.holdout_watch import HoldoutWatch
from tests.infra.study_factory import Study, chained, hold_out, metric
from trainer.paths import WorkerPaths
from trainer.score_report import ScoreReport
from trainer.trial import TrialSpec


class Labels:
    """A scorer that knows what each trial is worth."""

    def __init__(self, **worth: float | str) -> None:
        self._worth = worth
        self.seen: list[str] = []

    def begin(self, spec: TrialSpec, out: Path) -> ScoreReport | None:
        assert out.name == f"{spec.trial}-{spec.attempt}"
        self.seen.append(spec.trial)
        worth = self._worth[spec.experiment]
        if isinstance(worth, str):
            return ScoreReport(reason=worth, is_ours=worth == "disk full")
        return ScoreReport(value=worth)

    def glance(self, out: Path) -> ScoreReport:
        raise NotImplementedError

    def poll(self, timeout_s: float) -> ScoreReport | None:
        raise NotImplementedError

    def close(self) -> None:
        self.seen.append("closed")


class Holdout:
    """A watch over a study, with a ledger of its own for what it records."""

    def __init__(
        self,
        tmp_path: Path,
        labels: Labels,
        step: float | None = 0.1,
        is_awaited: Callable[[Trial], bool] = lambda _: False,
    ) -> None:
        self.ledger = InMemoryLedger()
        self.watch = HoldoutWatch(
            scorer=labels,
            ledger=self.ledger,
            epoch=self.ledger.begin_epoch(),
            left=WorkerPaths(study=tmp_path, environments=tmp_path).out,
            metric=metric(),
            step=step,
            is_awaited=is_awaited,
        )

    def told(self) -> list[tuple[str, float | None]]:
        events = [recorded.event for recorded in self.ledger.read(0)]
        return [(event.experiment, event.reported) for event in events]


def test_the_baseline_and_each_promotion_are_scored_and_nothing_else(tmp_path: Path) -> None:
    labels = Labels(e0=0.52, e2=0.49, e3=0.29)
    holdout, study = Holdout(tmp_path, labels), Study()
    study.watch(holdout.watch)
    study.baseline(0.5)
    study.discard("worse", 0.6)
    study.keep("luck", 0.4)
    study.keep("better", 0.3)
    holdout.watch.close()
    assert holdout.told() == [("e0", 0.5), ("e2", 0.5), ("e3", 0.1 * 3)]
    assert labels.seen == ["e0.1", "e2.1", "e3.1", "closed"]


class OnTheirWay:
    """Trials of which nothing has come back from their node yet."""

    def __init__(self, *trials: str) -> None:
        self._trials = {*trials}
        self.looks: SimpleQueue[str] = SimpleQueue()

    def __call__(self, trial: Trial) -> bool:
        self.looks.put(trial.id)
        return trial.id in self._trials

    def come(self, trial: str) -> None:
        self._trials.remove(trial)


def test_what_is_on_its_way_from_a_node_is_scored_when_it_comes_and_holds_up_no_other(
    tmp_path: Path,
) -> None:
    coming = OnTheirWay("e0.1")
    labels = Labels(e0=0.52, e1=0.4)
    holdout, study = Holdout(tmp_path, labels, is_awaited=coming), Study()
    study.watch(holdout.watch)
    study.baseline(0.5)
    study.keep("measured here", 0.4)
    while coming.looks.get(timeout=30) != "e1.1":
        pass
    for _ in range(3):  # it is looked for again, after what was asked later
        assert coming.looks.get(timeout=30) == "e0.1"
    assert labels.seen == ["e1.1"]
    coming.come("e0.1")
    holdout.watch.finish()
    assert labels.seen == ["e1.1", "e0.1"]
    assert [name for name, _ in holdout.told()] == ["e1", "e0"]


def test_what_has_not_come_at_the_end_is_left_to_the_next_controller(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    labels = Labels(e1=0.4)
    holdout, study = Holdout(tmp_path, labels, is_awaited=OnTheirWay("e0.1", "e2.1")), Study()
    study.watch(holdout.watch)
    study.baseline(0.5)
    study.keep("measured here", 0.4)
    study.keep("on a node", 0.3)
    holdout.watch.close()
    assert labels.seen == ["e1.1", "closed"]
    assert [record.getMessage() for record in caplog.records] == [
        "holdout of e0: what it left on box has not come back",
        "holdout of e2: what it left on box has not come back",
    ]


def test_what_was_promoted_while_nobody_watched_is_scored_at_the_next_start(
    tmp_path: Path,
) -> None:
    study = Study()
    study.baseline(0.5)
    study.keep("first", 0.4)
    study.tell(hold_out("e0", 0.5))
    holdout = Holdout(tmp_path, Labels(e1=0.49))
    study.watch(holdout.watch)
    holdout.watch.close()
    assert holdout.told() == [("e1", 0.5)], "and it remembers what was told before"


def test_of_a_chain_that_was_promoted_its_head_is_scored_also_at_the_next_start(
    tmp_path: Path,
) -> None:
    study = chained()
    kept = [e.id for e in study.state.experiments.values() if e.status is Status.KEPT]
    assert sorted(kept) == ["e0", "e1", "e7", "e8"]
    holdout = Holdout(tmp_path, Labels(e0=0.6, e1=0.5, e8=0.3))
    study.watch(holdout.watch)
    holdout.watch.close()
    assert [name for name, _ in holdout.told()] == ["e0", "e1", "e8"]


def test_what_cannot_be_scored_is_recorded_with_the_reason_unless_the_fault_is_ours(
    tmp_path: Path,
) -> None:
    holdout, study = Holdout(tmp_path, Labels(e0="it left no holdout.npy", e1="disk full")), Study()
    study.watch(holdout.watch)
    study.baseline(0.5)
    study.keep("first", 0.4)
    holdout.watch.close()
    [recorded] = holdout.ledger.read(0)
    assert recorded.event.problem == "it left no holdout.npy"


def test_without_a_step_the_noise_of_a_run_is_one(tmp_path: Path) -> None:
    holdout, study = Holdout(tmp_path, Labels(e0=0.5, e1=0.48, e2=0.3), step=None), Study()
    study.watch(holdout.watch)
    baseline = study.propose("baseline", kind=Kind.BASELINE, proposer="baseline")
    for value in (0.4, 0.44, 0.36):
        study.measure(baseline, value)
        study.judge(baseline, Verdict.KEEP if value == 0.36 else Verdict.REPLICATE)
    study.keep("within the noise", 0.4)
    study.keep("beyond it", 0.3)
    holdout.watch.close()
    events = [recorded.event for recorded in holdout.ledger.read(0)]
    assert [round(event.step, 6) for event in events] == [0.04] * 3
    first, second, third = (event.reported for event in events)
    assert first == second
    assert third < first
