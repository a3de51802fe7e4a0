"""What people ask for: to cancel, to retry, to pause, to stop."""

from cluster.policy import commands as cmd
from cluster.state import events as ev
from cluster.state.experiment import Status
from tests.cluster.policy.waves import world
from tests.cluster.world import CRASHED, World, scored
from trainer.trial import ExperimentId

__all__ = ["world"]  # the fixture


def test_a_waiting_candidate_is_cancelled_at_once_and_a_running_one_on_its_end(
    world: World,
) -> None:
    world.baseline(1.0)
    running, waiting = world.propose(), world.propose()
    world.settle()
    world.start(running)
    world.happen("c1", ev.CancelRequested(experiment=running))
    world.happen("c2", ev.CancelRequested(experiment=waiting))
    assert {c.trial for c in world.decide() if isinstance(c, cmd.CancelTrial)} == {
        f"{running}.1",
        f"{waiting}.1",
    }
    world.settle()
    assert world.status(running) is world.status(waiting) is Status.CANCELLED


def test_a_trial_queued_in_the_moment_of_its_cancelling_is_cancelled_all_the_same(
    world: World,
) -> None:
    world.baseline(1.0)
    experiment = world.propose()
    (queue_it,) = world.decide()
    world.happen("c", ev.CancelRequested(experiment=experiment))
    assert world.status(experiment) is Status.CANCELLED
    world.perform(queue_it)  # decided before the request, performed after it
    world.settle()
    assert world.status(experiment) is Status.CANCELLED
    assert world.decide() == ()


def test_a_request_that_comes_too_late_changes_nothing(world: World) -> None:
    world.baseline(1.0)
    world.happen("c1", ev.CancelRequested(experiment=ExperimentId("e0")))
    world.happen("c2", ev.CancelRequested(experiment=ExperimentId("e99")))
    world.happen("c3", ev.RetryRequested(experiment=ExperimentId("e0")))
    assert world.status("e0") is Status.KEPT


def test_a_retry_measures_again_and_counts_once(world: World) -> None:
    world.baseline(1.0)
    experiment = world.propose()
    world.run(experiment, CRASHED)
    assert world.state.judged == 1
    world.happen("r", ev.RetryRequested(experiment=experiment))
    assert world.state.judged == 0
    assert world.run(experiment, scored(0.5)) is Status.KEPT
    assert world.state.judged == 1
    assert [t.id for t in world.state.experiments[experiment].trials] == [
        f"{experiment}.1",
        f"{experiment}.2",
    ]


def test_a_paused_study_starts_nothing_and_ends_nothing(world: World) -> None:
    world.baseline(1.0)
    world.happen("p", ev.PauseRequested())
    experiment = world.propose()
    world.settle()
    assert world.status(experiment) is Status.PROPOSED
    world.happen("q", ev.ResumeRequested())
    world.settle()
    assert world.status(experiment) is Status.QUEUED


def test_a_stop_queues_nothing_more_and_a_second_gives_running_trials_back(world: World) -> None:
    world.baseline(1.0)
    experiment = world.propose()
    world.settle()
    world.start(experiment)
    late = world.propose()
    world.happen("s1", ev.StopRequested())
    assert world.decide() == ()
    world.happen("s2", ev.StopRequested(now=True))
    assert world.decide() == (cmd.GiveBackTrials(),)
    world.settle()
    assert world.status(experiment) is world.status(late) is Status.PROPOSED
    world.restart()
    world.settle()
    assert world.status(experiment) is world.status(late) is Status.QUEUED


def test_what_ends_after_a_stop_is_judged_and_promoted_but_nothing_is_begun(world: World) -> None:
    world.baseline(1.0)
    better, worse, stale = world.propose(), world.propose(), world.propose()
    world.settle()
    for experiment in (better, worse, stale):
        world.start(experiment)
    world.happen("s1", ev.StopRequested())
    world.end(better, scored(0.5))
    world.end(worse, scored(2.0))
    world.settle()
    assert world.status(better) is Status.KEPT
    assert world.status(worse) is Status.DISCARDED
    world.end(stale, scored(0.7))
    world.settle()
    assert world.status(stale) is Status.WINNER  # to be merged and measured when it carries on
    world.restart()
    world.settle()
    assert world.status(stale) is Status.MERGING
