"""Which candidates are run on rungs before their run in full, and what becomes of them."""

import json
from collections.abc import Iterator
from dataclasses import replace

import pytest

from cluster.controller.proposer_desk import ProposerDesk
from cluster.ledger.codec import decode_event, encode_draft
from cluster.policy import commands as cmd
from cluster.state import events as ev
from cluster.state.experiment import Status
from cluster.state.slot_time import Purpose
from eval.guard import Guard
from eval.judge import Judge
from eval.ladder import MOST_COMPARED, Step
from eval.sequential import SequentialJudge
from tests.cluster.world import CRASHED, GREEDY, METRIC, TIMED_OUT, World, gamed, scored
from trainer.trial import Ending, ExperimentId, Probe, Smoke

LOW = Step(budget_s=10.0, keep=0.5, fewest=2)
HIGH = Step(budget_s=60.0, keep=0.5, fewest=2)
OBEYS = Probe(budget_s=10.0, ending=Ending.SCORED, wall_s=12.0, obeys=True)


def laddered(*rungs: Step, probe: Probe | None = OBEYS, judge: Judge = GREEDY) -> World:
    """A study with rungs whose baseline is measured."""
    world = World(slots=1, judge=judge)
    world.plan = replace(world.plan, rungs=rungs)
    world.probe = probe
    while not world.state.lineage:
        world.baseline(1.0)
    return world


@pytest.fixture
def world() -> Iterator[World]:
    """A study with one rung; its state is verified after the test."""
    made = laddered(LOW)
    yield made
    made.verify()


def next_rung(world: World, experiment: str) -> float | None:
    """Return the rung of the trial that is queued next."""
    queued = [c for c in world.decide() if isinstance(c, cmd.QueueTrial)]
    (found,) = [command.rung_s for command in queued if command.experiment.id == experiment]
    return found


def on_rung(world: World, value: float) -> ExperimentId:
    """Propose a candidate, and run it on its first rung."""
    experiment = world.propose()
    world.run(experiment, scored(value))
    return experiment


def rungs_of(world: World, experiment: ExperimentId) -> list[float | None]:
    return [trial.rung_s for trial in world.state.experiments[experiment].trials]


def events_of(world: World, experiment: ExperimentId) -> list[str]:
    return [name for _, name in world.state.experiments[experiment].story]


# --- whether there are rungs ---------------------------------------------------------------------


def test_rungs_alone_have_the_baseline_asked_on_the_lowest() -> None:
    world = World()
    world.plan = replace(world.plan, rungs=(LOW, HIGH))
    world.perform(cmd.CreateBaseline())
    (queued,) = [c for c in world.decide() if isinstance(c, cmd.QueueTrial)]
    assert (queued.smoke, queued.rung_s) == (Smoke(budget_s=10.0, is_probe=True), None)
    world.plan = replace(world.plan, smoke_s=2.0)
    (queued,) = [c for c in world.decide() if isinstance(c, cmd.QueueTrial)]
    assert queued.smoke == Smoke(budget_s=2.0, is_probe=True)


@pytest.mark.parametrize("probe", [None, replace(OBEYS, obeys=False)])
def test_without_a_script_that_obeys_there_are_no_rungs(probe: Probe | None) -> None:
    world = laddered(LOW, probe=probe)
    assert next_rung(world, world.propose()) is None


def test_a_candidate_climbs_rung_by_rung_to_its_run_in_full() -> None:
    world = laddered(LOW, HIGH)
    experiment = world.propose()
    for value in (3.0, 2.0, 0.5):
        world.run(experiment, scored(value))
    assert rungs_of(world, experiment) == [10.0, 60.0, None]
    found = world.state.experiments[experiment]
    assert (found.status, found.values) == (Status.KEPT, (0.5,))
    assert [trial.seed for trial in found.trials] == [1, 1, 1]
    world.verify()


def test_a_smoke_run_goes_before_the_first_rung_alone(world: World) -> None:
    world.plan = replace(world.plan, smoke_s=2.0)
    experiment = world.propose()
    smokes = []
    for _ in range(2):
        (queued,) = [c for c in world.decide() if isinstance(c, cmd.QueueTrial)]
        smokes.append(queued.smoke)
        world.settle()
        world.start(experiment)
        world.end(experiment, scored(2.0))
        while any(isinstance(command, cmd.RecordRung) for command in world.decide()):
            world.perform(world.decide()[0])
    assert smokes == [Smoke(budget_s=2.0), None]


def test_a_lost_attempt_is_repeated_on_its_rung(world: World) -> None:
    experiment = world.propose()
    world.settle()
    world.start(experiment)
    world.lose(experiment)
    assert next_rung(world, experiment) == 10.0
    world.run(experiment, scored(2.0))
    world.start(experiment)
    world.lose(experiment)
    assert next_rung(world, experiment) is None


def test_merges_and_replicates_have_no_rungs() -> None:
    world = laddered(replace(LOW, fewest=9), judge=SequentialJudge(metric=METRIC, confidence=0.5))
    first, second = world.propose(), world.propose()
    for experiment in (first, second):
        world.run(experiment, scored(0.5))
    for _ in range(40):
        queued = world.in_status(Status.QUEUED)
        if not queued:
            break
        world.run(queued[0], scored(0.5))
    assert {len(world.state.experiments[e].values) > 1 for e in (first, second)} == {True}
    assert rungs_of(world, first)[1:] == [None] * len(rungs_of(world, first)[1:])
    merges = [e for e in world.state.experiments.values() if e.merge_of]
    assert merges
    assert all(trial.rung_s is None for merge in merges for trial in merge.trials)
    world.verify()


# --- who goes on ---------------------------------------------------------------------------------


def test_who_is_behind_is_stopped_without_a_score_and_counts_as_judged(world: World) -> None:
    first, second = on_rung(world, 2.0), on_rung(world, 3.0)
    assert next(iter(world.in_status(Status.QUEUED))) == first
    found = world.state.experiments[second]
    assert (found.status, found.score) == (Status.PRUNED, None)
    assert found.reason == "rung of 10 s: place 2 of 2, of which the best 1 go on"
    assert events_of(world, second)[-2:] == ["TrialFinished", "RungJudged"]
    assert world.state.judged == 1


def test_who_was_stopped_rises_when_a_slot_has_room_and_enough_worse_ones_came(
    world: World,
) -> None:
    first, second = on_rung(world, 2.0), on_rung(world, 3.0)
    third = on_rung(world, 4.0)
    # Of three two may go on, but the run in full of the first still waits for the only slot.
    assert [world.status(e) for e in (second, third)] == [Status.PRUNED] * 2
    world.run(first, scored(1.5))
    assert world.status(second) is Status.QUEUED
    assert world.state.judged == 2
    assert world.run(second, scored(0.5)) is Status.KEPT
    assert rungs_of(world, second) == [10.0, None]
    assert world.status(third) is Status.PRUNED


def test_who_rises_goes_before_what_is_new() -> None:
    world = World(slots=1, proposers=("tuner",))
    world.plan = replace(world.plan, rungs=(LOW,))
    world.probe = OBEYS
    world.baseline(1.0)
    first, second, _ = (on_rung(world, value) for value in (2.0, 3.0, 4.0))
    asked = world.asked
    world.run(first, scored(1.5))
    assert world.status(second) is Status.QUEUED
    assert world.asked == asked


def test_nobody_rises_once_the_limit_is_reached() -> None:
    world = World(slots=1, experiments=3)
    world.plan = replace(world.plan, rungs=(LOW,))
    world.probe = OBEYS
    world.baseline(1.0)
    first, second = on_rung(world, 2.0), on_rung(world, 3.0)
    world.run(first, scored(1.5))
    on_rung(world, 4.0)
    assert world.status(second) is Status.PRUNED
    assert world.state.finished == "3 experiments were judged"


def test_a_candidate_is_held_against_its_own_device_class_alone(world: World) -> None:
    on_rung(world, 2.0)
    other = world.propose()
    world.run(other, replace(scored(3.0), device_class="gpu"))
    assert world.status(other) is Status.QUEUED


def test_only_the_latest_are_compared_and_the_older_do_not_rise(world: World) -> None:
    stopped = [on_rung(world, 1.0 + n) for n in range(MOST_COMPARED + 3)]
    assert len(world.state.short_runs) == MOST_COMPARED
    assert stopped[1] not in {run.experiment for run in world.state.short_runs}
    world.run(stopped[0], scored(9.0))
    assert events_of(world, stopped[1]).count("RungJudged") == 1


def test_a_rung_that_is_no_more_stops_nobody_and_lets_nobody_rise(world: World) -> None:
    on_rung(world, 2.0)
    stopped = on_rung(world, 3.0)
    waiting = world.propose()
    world.settle()
    world.start(waiting)
    world.plan = replace(world.plan, rungs=())
    world.end(waiting, scored(4.0))
    world.settle()
    assert world.status(waiting) is Status.QUEUED
    assert world.status(stopped) is Status.PRUNED


# --- what a rung's number is not -----------------------------------------------------------------


def test_what_was_measured_on_a_rung_is_a_score_nowhere(world: World) -> None:
    world.plan = replace(world.plan, guards=(Guard(name="vram", high=1.0),))
    experiment = world.propose()
    world.run(experiment, replace(gamed(0.001), metrics={"vram": 9.0}))
    found = world.state.experiments[experiment]
    assert found.status is Status.QUEUED
    assert (found.score, found.values, found.classes, found.device_class) == (None, (), (), "")
    assert world.state.replicated == ()
    assert world.run(experiment, scored(2.0)) is Status.DISCARDED


@pytest.mark.parametrize(
    ("outcome", "status"), [(CRASHED, Status.CRASHED), (TIMED_OUT, Status.TIMED_OUT)]
)
def test_a_failure_on_a_rung_is_the_end(world: World, outcome, status: Status) -> None:
    experiment = world.propose()
    assert world.run(experiment, outcome) is status


def test_runs_on_rungs_and_the_run_in_full_after_them_are_search(world: World) -> None:
    experiment = on_rung(world, 2.0)
    world.run(experiment, scored(2.0))
    found = world.state.experiments[experiment]
    assert [found.purpose(trial) for trial in found.trials] == [Purpose.SEARCH] * 2
    assert world.state.spent.replicates == 0.0


def test_a_slot_is_checked_after_so_many_runs_in_full(world: World) -> None:
    world.open_slot("cpu-0")
    on_rung(world, 2.0)
    (slot,) = world.state.slots.values()
    assert slot.since_control == 0


def test_a_curve_stops_no_run_on_a_rung_but_the_run_in_full(world: World) -> None:
    experiment = world.propose()
    world.settle()
    world.start(experiment)
    world.despair(experiment)
    assert world.decide() == ()
    world.end(experiment, scored(2.0))
    world.settle()
    world.start(experiment)
    world.despair(experiment)
    world.settle()
    assert world.state.experiments[experiment].reason == "hopeless: loss 9"


def test_proposers_are_told_without_a_number(world: World) -> None:
    on_rung(world, 2.0)
    stopped = on_rung(world, 3.0)
    desk = ProposerDesk([], lambda: None)
    desk.note(world.state.experiments[stopped])
    (result,) = desk._results
    assert (result.status, result.value) == ("pruned", None)
    assert result.reason.startswith("rung of 10 s: place 2 of 2")


# --- what people want ----------------------------------------------------------------------------


def test_who_has_it_run_again_has_it_run_in_full(world: World) -> None:
    on_rung(world, 2.0)
    stopped = on_rung(world, 3.0)
    world.happen("again", ev.RetryRequested(experiment=stopped))
    assert next_rung(world, stopped) is None
    assert world.run(stopped, scored(0.5)) is Status.KEPT


def test_a_submission_can_ask_for_its_run_in_full_at_once(world: World) -> None:
    for name, in_full in (("s-1", False), ("s-2", True)):
        asked = ev.SubmissionReceived(submission=name, hypothesis=name, in_full=in_full)
        world.happen(name, asked)
    made = [world.propose(submission=name) for name in ("s-1", "s-2")]
    assert [next_rung(world, experiment) for experiment in made] == [10.0, None]
    assert not world.state.submissions


def test_a_word_that_comes_too_late_changes_nothing(world: World) -> None:
    """It is decided to stop two candidates; one is cancelled then, the other retried as well."""
    world.plan = replace(world.plan, rungs=(replace(LOW, keep=0.2),))
    on_rung(world, 2.0)
    behind = [world.propose(), world.propose()]
    world.settle()
    for number, experiment in enumerate(behind):
        world.start(experiment, f"cpu-{number}")
        world.end(experiment, scored(3.0))
    orders = [command for command in world.decide() if isinstance(command, cmd.RecordRung)]
    for experiment in behind:
        world.happen(f"no/{experiment}", ev.CancelRequested(experiment=experiment))
    world.happen("again", ev.RetryRequested(experiment=behind[1]))
    for order in orders:
        world.perform(order)
    assert [world.status(e) for e in behind] == [Status.CANCELLED, Status.PROPOSED]
    assert next_rung(world, behind[1]) is None


def test_what_is_cancelled_while_it_completes_its_rung_is_cancelled(world: World) -> None:
    experiment = world.propose()
    world.settle()
    world.start(experiment)
    world.happen("no", ev.CancelRequested(experiment=experiment))
    world.end(experiment, scored(2.0))
    world.settle()
    assert world.status(experiment) is Status.CANCELLED


def test_a_trial_that_was_queued_before_there_were_rungs_is_read(world: World) -> None:
    queued = next(r.event for r in world.ledger.read(0) if isinstance(r.event, ev.TrialQueued))
    payload = encode_draft(ev.Draft(id="x", at=world.now, event=queued))
    older = json.loads(payload)
    del older["body"]["rung_s"]
    assert decode_event(1, json.dumps(older).encode()).event == queued
