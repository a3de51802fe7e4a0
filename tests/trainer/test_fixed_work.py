"""Work without a queue: each trial is handed out once, and nothing that was scored is lost."""

import pytest

from tests.trainer.trials import cpu_slot
from trainer.fixed_work import FixedWork
from trainer.ports import Heartbeat, Lease, NoWork, Progress
from trainer.trial import (
    CommitId,
    Ending,
    ExperimentId,
    TrialId,
    TrialOutcome,
    TrialSpec,
)

SLOT = cpu_slot("final-cpu-0", node="box")
SCORED = TrialOutcome(ending=Ending.SCORED, value=0.5)


class Told:
    """A list of trials, and what became of them."""

    def __init__(self, count: int = 2) -> None:
        self.finished: list[tuple[int, Ending]] = []
        self.heard: list[TrialId] = []
        self.work = FixedWork(
            [spec(seed) for seed in range(1, count + 1)],
            finished=lambda spec, outcome: self.finished.append((spec.seed, outcome.ending)),
            heard=lambda spec, _: self.heard.append(spec.trial),
        )

    def lease(self) -> Lease:
        found = self.work.lease(SLOT, 0.0)
        assert isinstance(found, Lease)
        return found


def spec(seed: int) -> TrialSpec:
    return TrialSpec(
        trial=TrialId(f"final-1.{seed}"),
        experiment=ExperimentId("e1"),
        attempt=1,
        commit=CommitId("c" * 40),
        seed=seed,
        budget_s=1,
        timeout_s=2,
    )


def test_each_trial_is_handed_out_once_and_then_there_is_no_more() -> None:
    told = Told()
    assert told.work.reserve(SLOT, 1.0) == spec(1)
    first, second = told.lease(), told.lease()
    assert (first.spec, second.spec) == (spec(1), spec(2))
    assert first.token != second.token
    assert told.work.reserve(SLOT, 1.0) is None
    assert told.work.lease(SLOT, 0.0) is NoWork.STOP


def test_outcomes_and_progress_are_passed_on() -> None:
    told = Told()
    lease = told.lease()
    answer = told.work.heartbeat(SLOT, lease, Progress(elapsed_s=1.0), 1.0)
    assert answer is Heartbeat.GO_ON
    told.work.complete(SLOT, lease, SCORED, 1.0)
    assert (told.heard, told.finished) == ([lease.spec.trial], [(1, Ending.SCORED)])


def test_who_cannot_be_told_where_a_trial_stands_ends_none() -> None:
    def away(*_: object) -> None:
        raise ConnectionError

    work = FixedWork([spec(1)], finished=away, heard=away)
    lease = work.lease(SLOT, 0.0)
    assert isinstance(lease, Lease)
    assert work.heartbeat(SLOT, lease, Progress(elapsed_s=1.0), 1.0) is Heartbeat.GO_ON
    with pytest.raises(ConnectionError):  # the worker offers it again
        work.complete(SLOT, lease, SCORED, 1.0)


def test_once_it_is_to_end_what_runs_is_given_back_and_nothing_else_begins() -> None:
    told = Told()
    lease = told.lease()
    told.work.end()
    assert told.work.heartbeat(SLOT, lease, Progress(elapsed_s=1.0), 1.0) is Heartbeat.GIVE_BACK
    given_back = TrialOutcome(ending=Ending.LOST, reason="stopped", is_given_back=True)
    told.work.complete(SLOT, lease, given_back, 1.0)
    assert told.work.lease(SLOT, 0.0) is NoWork.STOP
    assert (told.finished, told.work.problem) == ([], "")


def test_a_trial_that_is_lost_for_a_reason_of_ours_ends_all_with_that_reason() -> None:
    told = Told()
    told.work.complete(
        SLOT, told.lease(), TrialOutcome(ending=Ending.LOST, reason="disk full"), 1.0
    )
    assert told.work.lease(SLOT, 0.0) is NoWork.STOP
    assert (told.finished, told.work.problem) == ([], "disk full")
