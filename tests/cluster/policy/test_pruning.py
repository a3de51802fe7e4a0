"""Which trials are given up for their curves, and what becomes of them."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import timedelta

import pytest

from cluster.controller.curve_book import LOOK, CurveBook
from cluster.controller.proposer_desk import ProposerDesk
from cluster.ledger.progress import Point
from cluster.state import events as ev
from cluster.state.experiment import Status, TrialPhase
from eval.curve import Curve
from eval.judge import Judge
from eval.pruner import MOST_COMPARED, Finished, PruningRule
from eval.sequential import SequentialJudge
from tests.cluster.world import CRASHED, GREEDY, METRIC, PRUNED, World, scored
from trainer.trial import ExperimentId, TrialId

BUDGET_S = 100.0


def running(judge: Judge = GREEDY) -> tuple[World, ExperimentId]:
    """A measured baseline, and a candidate whose first trial runs."""
    world = World(judge=judge)
    while not world.state.lineage:
        world.baseline(1.0)
    experiment = world.propose()
    world.settle()
    world.start(experiment)
    return world, experiment


def test_a_hopeless_trial_is_given_up_and_ends_as_pruned_with_the_reason() -> None:
    world, experiment = running()
    world.despair(experiment)
    world.settle()
    found = world.state.experiments[experiment]
    assert (found.status, found.reason) == (Status.PRUNED, "hopeless: loss 9")
    assert [name for _, name in found.story[-2:]] == ["TrialGivenUp", "TrialFinished"]
    assert found.score is None
    assert not found.status.is_failure
    assert world.state.judged == 1
    world.verify()


def test_it_is_no_winner_and_no_merge_is_made_of_it() -> None:
    world, experiment = running()
    world.despair(experiment)
    world.settle()
    assert world.state.lineage == ("e0",)
    assert not dict(world.state.open)


def test_a_curve_that_is_looked_at_no_more_does_not_save_what_was_given_up() -> None:
    """The controller dies between its decision and the order to the worker."""
    world, experiment = running()
    world.despair(experiment)
    world.perform(world.decide()[0])
    world.hopeless.clear()
    world.restart()
    world.settle()
    assert world.status(experiment) is Status.PRUNED


def test_a_trial_that_ends_by_itself_meanwhile_counts_as_what_it_is() -> None:
    world, experiment = running()
    world.despair(experiment)
    world.perform(world.decide()[0])
    world.end(experiment, scored(0.5))
    world.settle()
    assert world.status(experiment) is Status.KEPT
    world.verify()


def test_what_has_ended_is_not_given_up() -> None:
    world, experiment = running()
    world.despair(experiment)
    order = world.decide()[0]
    world.end(experiment, CRASHED)
    world.perform(order)
    assert world.status(experiment) is Status.CRASHED
    world.verify()


def test_the_next_attempt_at_a_lost_trial_is_judged_by_its_own_curve() -> None:
    world, experiment = running()
    world.despair(experiment)
    world.perform(world.decide()[0])
    world.lose(experiment)
    world.settle()
    world.start(experiment)
    world.settle()
    assert world.status(experiment) is Status.RUNNING
    world.despair(experiment)
    world.settle()
    assert world.status(experiment) is Status.PRUNED


def test_a_baseline_is_never_given_up() -> None:
    world = World()
    world.settle()
    world.start(ExperimentId("e0"))
    world.despair(ExperimentId("e0"))
    assert world.decide() == ()


def test_a_merge_is_never_given_up() -> None:
    world, first = running()
    second = world.propose()
    world.settle()
    world.start(second, "cpu-1")
    for experiment, value in ((first, 0.5), (second, 0.6)):
        world.end(experiment, scored(value))
        world.settle()
    (merge,) = world.in_status(Status.QUEUED)
    world.start(merge)
    world.despair(merge)
    assert world.decide() == ()


def test_a_replicate_is_never_given_up() -> None:
    world, experiment = running(SequentialJudge(metric=METRIC))
    world.end(experiment, scored(0.5))
    world.settle()
    world.start(experiment)
    world.despair(experiment)
    assert world.decide() == ()


def test_a_control_is_never_given_up() -> None:
    """Neither is the run by which its experiment was promoted, whatever curves say of the two."""
    world = World()
    world.open_slot("cpu-0")
    world.baseline(1.0)
    winner = world.propose()
    world.run(winner, scored(0.5))
    world.plan = replace(world.plan, control_every=1)
    world.propose()
    world.settle()
    ((experiment, trial),) = world.controls(TrialPhase.QUEUED)
    assert experiment == winner
    world.start(winner, "cpu-0", trial)
    world.despair(winner)
    world.hopeless[trial, 1] = "hopeless: loss 9"
    assert world.decide() == ()


def test_who_has_it_run_again_is_heard() -> None:
    world, experiment = running()
    world.despair(experiment)
    world.settle()
    world.happen("again", ev.RetryRequested(experiment=experiment))
    world.settle()
    world.start(experiment)
    world.despair(experiment)
    world.settle()
    assert world.status(experiment) is Status.RUNNING
    world.end(experiment, scored(0.5))
    world.settle()
    assert world.status(experiment) is Status.KEPT


def test_what_somebody_cancelled_is_cancelled() -> None:
    world, experiment = running()
    world.despair(experiment)
    world.perform(world.decide()[0])
    world.happen("no", ev.CancelRequested(experiment=experiment))
    world.settle()
    assert world.status(experiment) is Status.CANCELLED


def test_proposers_are_told_without_a_number() -> None:
    world, experiment = running()
    world.despair(experiment)
    world.settle()
    desk = ProposerDesk([], lambda: None)
    desk.note(world.state.experiments[experiment])
    (result,) = desk._results
    assert (result.status, result.value, result.reason) == ("pruned", None, "hopeless: loss 9")


# --- which curves are looked at ------------------------------------------------------------------


class Curves:
    """Curves as a test writes them, and how often each was read."""

    def __init__(self, of: Mapping[str, Sequence[float]]) -> None:
        self.of = dict(of)
        self.reads: list[str] = []

    def curve(self, trial: TrialId, attempt: int) -> Sequence[Point]:
        self.reads.append(trial)
        values = self.of.get(f"{trial}/{attempt}", ())
        return [Point(elapsed_s=5.0 * n, points={"loss": v}) for n, v in enumerate(values)]


class WorseThanAll:
    """A pruner by the latest value alone."""

    def is_hopeless(self, curve: Curve, finished: Sequence[Finished]) -> bool:
        return all(curve.last > other.curve.until(curve.percent).last for other in finished)


def book(curves: Curves, least: int = 1) -> CurveBook:
    rule = PruningRule(pruner=WorseThanAll(), number="loss", warmup=0.2, least=least)
    return CurveBook(curves, rule, BUDGET_S)


def followed(found: CurveBook, world: World) -> CurveBook:
    """Show a book all that has happened, one event after the other."""
    for recorded in world.ledger.read(0):
        found.observe(recorded, world.state)
    return found


def open_slots(world: World, *classes: str) -> None:
    for number, device_class in enumerate(classes):
        event = ev.SlotOpened(
            slot=f"cpu-{number}",
            incarnation="i",
            node="n",
            device="d",
            device_class=device_class,
        )
        world.happen(f"slot/{number}", event)


def looked_at(**curves: Sequence[float]) -> tuple[World, Curves]:
    world = World()
    open_slots(world, "cpu", "other")
    world.baseline(1.0)
    experiment = world.propose()
    world.settle()
    world.start(experiment)
    return world, Curves({f"{name}.1/1": values for name, values in curves.items()})


@pytest.mark.parametrize("is_new", [True, False])
def test_a_running_curve_is_held_against_those_of_finished_trials(is_new: bool) -> None:
    world, curves = looked_at(e0=[2.0] * 21, e1=[3.0] * 7)
    found = book(curves)
    if is_new:
        found.resume(world.state)
    else:
        followed(found, world)
    (((trial, attempt), reason),) = found.hopeless(world.state, world.now).items()
    assert (trial, attempt) == ("e1.1", 1)
    assert reason.startswith("hopeless: loss 3 at 30 % of the budget, where 1 finished")


def test_curves_are_read_every_other_second_and_finished_ones_once() -> None:
    world, curves = looked_at(e0=[2.0] * 21, e1=[1.0] * 7)
    found = followed(book(curves), world)
    for tick in range(9):
        now = world.now + tick * LOOK / 4
        assert not found.hopeless(world.state, now)
        curves.of["e1.1/1"] = [1.0] * (8 + tick)
    assert sorted(curves.reads) == ["e0.1", "e1.1", "e1.1", "e1.1"]


def test_curves_are_read_though_the_clock_is_put_back() -> None:
    world, curves = looked_at(e0=[2.0] * 21, e1=[1.0] * 7)
    found = followed(book(curves), world)
    assert not found.hopeless(world.state, world.now)
    curves.of["e1.1/1"] = [3.0] * 8
    assert found.hopeless(world.state, world.now - timedelta(hours=1))


def test_a_trial_that_was_hopeless_stays_so_until_it_has_ended() -> None:
    world, curves = looked_at(e0=[2.0] * 21, e1=[3.0] * 7)
    found = followed(book(curves), world)
    assert found.hopeless(world.state, world.now)
    curves.of["e1.1/1"] = [3.0] * 7 + [0.0] * 5
    assert found.hopeless(world.state, world.now + LOOK)
    world.end(ExperimentId("e1"), PRUNED)
    assert not found.hopeless(world.state, world.now + 2 * LOOK)


def test_curves_of_another_device_class_do_not_count() -> None:
    world, curves = looked_at(e0=[2.0] * 21, e1=[1.0] * 7, e2=[3.0] * 7)
    other = world.propose()
    world.settle()
    world.start(other, "cpu-1")
    assert not followed(book(curves), world).hopeless(world.state, world.now)


def test_only_the_latest_trials_are_held_against() -> None:
    world, curves = looked_at(e1=[3.0] * 7)
    world.end(ExperimentId("e1"), scored(9.0))
    world.settle()
    for _ in range(MOST_COMPARED):
        world.run(world.propose(), scored(2.0))
    last = world.propose()
    world.settle()
    world.start(last)
    curves.of |= {f"{last}.1/1": [3.0] * 7}
    followed(book(curves), world).hopeless(world.state, world.now + timedelta(days=1))
    assert "e1.1" not in curves.reads
    assert len(curves.reads) == MOST_COMPARED + 1
