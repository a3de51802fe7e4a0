"""Curves of trials, past ones too, come back cheaply from a real server."""

from collections.abc import Iterator

import pytest

from cluster.ledger.progress import MOST_POINTS, ProgressStore
from cluster.ledger.redis_store import RedisStore, connect
from trainer.ports import Progress
from trainer.trial import CommitId, ExperimentId, TrialId, TrialSpec

E1 = TrialId("e1.1")


@pytest.fixture
def progress(server_url: str, study_id: str) -> Iterator[ProgressStore]:
    client = connect(server_url)
    yield ProgressStore(RedisStore(client, study_id))
    client.close()


def spec(attempt: int = 1, budget_s: float = 100.0) -> TrialSpec:
    return TrialSpec(
        trial=E1,
        experiment=ExperimentId("e1"),
        attempt=attempt,
        commit=CommitId("c" * 40),
        seed=1,
        budget_s=budget_s,
        timeout_s=2 * budget_s,
    )


def told(at_s: float, **points: float) -> Progress:
    return Progress(elapsed_s=at_s, points=points)


def test_points_come_back_in_order_and_stay_when_the_trial_has_ended(
    progress: ProgressStore,
) -> None:
    for at_s in (12.0, 2.0, 7.0):
        progress.record(spec(), told(at_s, loss=at_s))
    progress.forget(E1)
    assert not progress.latest()
    found = [(point.elapsed_s, point.points["loss"]) for point in progress.curve(E1, 1)]
    assert found == [(2.0, 2.0), (7.0, 7.0), (12.0, 12.0)]


def test_a_trial_of_hours_keeps_a_point_for_each_percent_from_its_beginning_on(
    progress: ProgressStore,
) -> None:
    day_s = 86400.0
    for n in range(1000):
        progress.record(spec(budget_s=day_s), told(day_s * n / 1000, loss=float(n)))
    found = progress.curve(E1, 1)
    assert len(found) == 100
    assert found[0].elapsed_s < 0.01 * day_s


def test_a_trial_that_never_ends_has_a_curve_that_does(progress: ProgressStore) -> None:
    for n in range(500):
        progress.record(spec(budget_s=1.0), told(float(n), loss=1.0))
    assert len(progress.curve(E1, 1)) <= MOST_POINTS


def test_each_attempt_has_a_curve_of_its_own(progress: ProgressStore) -> None:
    progress.record(spec(1), told(50.0, loss=1.0))
    progress.record(spec(2), told(5.0, loss=9.0))
    assert [point.points["loss"] for point in progress.curve(E1, 2)] == [9.0]
    assert progress.curve(E1, 3) == []


def test_a_heartbeat_without_numbers_is_no_point(progress: ProgressStore) -> None:
    progress.record(spec(), Progress(elapsed_s=1.0, last_line="compiling"))
    assert progress.curve(E1, 1) == []
    assert progress.latest()[E1].last_line == "compiling"
