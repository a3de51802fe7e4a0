"""Which trials are told to do a smoke run first, and how that is remembered."""

import json
from collections.abc import Iterator
from dataclasses import replace

import pytest

from cluster.ledger.codec import decode_event, encode_draft, from_json, to_json
from cluster.policy import commands as cmd
from cluster.policy.decisions import decide
from cluster.policy.study_plan import Circumstances
from cluster.state import events as ev
from cluster.state.experiment import Status
from tests.cluster.world import CRASHED, World, scored
from trainer.trial import (
    CommitId,
    Ending,
    ExperimentId,
    Probe,
    Rung,
    Smoke,
    TrialId,
    TrialOutcome,
    TrialSpec,
)

SMOKE = Smoke(budget_s=10.0)


def measured(*, obeys: bool) -> TrialOutcome:
    """How a baseline ends that was probed."""
    wall_s = 12.0 if obeys else 290.0
    probe = Probe(budget_s=10.0, ending=Ending.SCORED, wall_s=wall_s, obeys=obeys)
    return replace(scored(1.0), probe=probe)


@pytest.fixture
def world() -> Iterator[World]:
    """A study that wants smoke runs; its state is verified after the test."""
    made = World()
    made.plan = replace(made.plan, smoke_s=10.0)
    yield made
    made.verify()


def smoke_of(world: World, experiment: str) -> Smoke | None:
    """Return the smoke run of the trial that is queued next."""
    queued = [c for c in world.decide() if isinstance(c, cmd.QueueTrial)]
    (found,) = [command.smoke for command in queued if command.experiment.id == experiment]
    return found


def begin(world: World) -> None:
    """Make the baseline, and let its trial be decided."""
    world.perform(cmd.CreateBaseline())


def test_the_baseline_is_probed(world: World) -> None:
    begin(world)
    assert smoke_of(world, "e0") == Smoke(budget_s=10.0, is_probe=True)


@pytest.mark.parametrize(
    ("baseline", "smoke"),
    [
        (measured(obeys=True), SMOKE),
        (measured(obeys=False), None),
        (scored(1.0), None),  # smoke_s was set when the baseline had been measured
    ],
)
def test_a_candidate_has_a_smoke_run_if_the_script_obeys(
    baseline: TrialOutcome, smoke: Smoke | None, world: World
) -> None:
    begin(world)
    world.run(ExperimentId("e0"), baseline)
    assert smoke_of(world, world.propose()) == smoke


def test_without_smoke_s_there_is_none(world: World) -> None:
    begin(world)
    world.run(ExperimentId("e0"), measured(obeys=True))
    world.plan = replace(world.plan, smoke_s=None)
    assert smoke_of(world, world.propose()) is None


def test_the_latest_answer_of_the_baseline_counts(world: World) -> None:
    begin(world)
    world.run(ExperimentId("e0"), measured(obeys=True))
    candidate = world.propose()
    baseline = world.state.experiments[ExperimentId("e0")]
    outcomes = (measured(obeys=True), measured(obeys=False), CRASHED)
    trials = tuple(replace(baseline.trials[0], outcome=outcome) for outcome in outcomes)
    changed = world.state.experiments.set(baseline.id, replace(baseline, trials=trials))
    found = decide(
        replace(world.state, experiments=changed), world.plan, Circumstances(now=world.now)
    )
    assert [c.smoke for c in found if isinstance(c, cmd.QueueTrial)] == [None]
    assert smoke_of(world, candidate) == SMOKE


def test_a_lost_attempt_is_repeated_with_its_smoke_run(world: World) -> None:
    begin(world)
    world.run(ExperimentId("e0"), measured(obeys=True))
    candidate = world.propose()
    world.settle()
    world.start(candidate)
    world.lose(candidate)
    assert smoke_of(world, candidate) == SMOKE


def test_whoever_has_a_candidate_run_again_insists_on_the_full_run(world: World) -> None:
    begin(world)
    world.run(ExperimentId("e0"), measured(obeys=True))
    candidate = world.propose()
    failed = replace(CRASHED, rung=Rung.SMOKE, reason="smoke run: Boom")
    assert world.run(candidate, failed) is Status.CRASHED
    assert world.state.experiments[candidate].reason == "smoke run: Boom"
    world.happen("again", ev.RetryRequested(experiment=candidate))
    assert smoke_of(world, candidate) is None


# --- in the store --------------------------------------------------------------------------------


def test_an_outcome_that_was_written_before_there_were_smoke_runs_is_read(world: World) -> None:
    event = ev.TrialFinished(
        trial=TrialId("e0.1"),
        experiment=ExperimentId("e0"),
        attempt=1,
        outcome=measured(obeys=True),
    )
    payload = encode_draft(ev.Draft(id="x", at=world.now, event=event))
    assert decode_event(1, payload).event == event
    older = json.loads(payload)
    del older["body"]["outcome"]["probe"], older["body"]["outcome"]["rung"]
    found = decode_event(1, json.dumps(older).encode()).event
    assert isinstance(found, ev.TrialFinished)
    assert found.outcome == scored(1.0)


def test_a_trial_that_was_queued_before_there_were_smoke_runs_is_read() -> None:
    spec = TrialSpec(
        trial=TrialId("e1.1"),
        experiment=ExperimentId("e1"),
        attempt=1,
        commit=CommitId("a" * 40),
        seed=1,
        budget_s=300.0,
        timeout_s=600.0,
    )
    smoked = replace(spec, smoke=SMOKE)
    assert from_json(TrialSpec, to_json(smoked)) == smoked
    older = json.loads(to_json(smoked))
    del older["smoke"], older["rung"]
    assert from_json(TrialSpec, json.dumps(older).encode()) == spec
