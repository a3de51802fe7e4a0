"""Marks of trials, derived from what the ledger says and from nothing else."""

import json
from dataclasses import replace

import pytest

from cluster.ledger.codec import decode_event, decode_state, encode_draft, encode_state
from cluster.ledger.ledger import load
from cluster.state.events import Draft, TrialFinished
from eval.conditions import Mark
from eval.judge import Evidence, GreedyJudge, Judgement
from tests.cluster.world import BASE, METRIC, World, scored
from trainer.telemetry import GpuTelemetry, Telemetry
from trainer.trial import ExperimentId, TrialId, TrialOutcome

E1 = ExperimentId("e1")


def measured(
    value: float,
    rate: float | None = None,
    *,
    counter: str = "step",
    kind: str = "cpu",
    **gpu: float,
) -> TrialOutcome:
    """A trial with this many steps a second, on such a device."""
    telemetry = Telemetry(
        wall_s=100.0,
        steps_per_s=rate,
        step_counter=counter,
        gpu=GpuTelemetry(samples=50, **gpu) if gpu else None,
    )
    return replace(scored(value), telemetry=telemetry, device_class=kind)


@pytest.fixture
def world() -> World:
    """A study whose incumbent made ten steps a second."""
    world = World()
    world.settle()
    world.run(ExperimentId("e0"), measured(1.0, 10.0))
    return world


def marks(world: World, outcome: TrialOutcome) -> tuple[Mark, ...]:
    world.propose()
    world.run(E1, outcome)
    world.verify()
    trial = world.state.experiments[E1].trials[0]  # what ran elsewhere is run again
    return trial.marks


@pytest.mark.parametrize(
    ("outcome", "expected"),
    [
        (measured(2.0, 9.0), ()),
        (measured(2.0, 5.0), (Mark.SLOW,)),
        (measured(2.0, 5.0, counter="epoch"), ()),
        (measured(2.0, 5.0, kind="NVIDIA H200"), ()),
        (measured(2.0, None), ()),
        (measured(2.0, throttled_s=60.0), (Mark.THROTTLED,)),
        (measured(2.0, 1.0, throttled_s=60.0, stranger_mb=4000.0), tuple(Mark)),
        (TrialOutcome(ending="cancelled", telemetry=Telemetry(steps_per_s=1.0)), ()),
    ],
)
def test_a_trial_is_marked_by_what_was_measured(
    world: World, outcome: TrialOutcome, expected: tuple[Mark, ...]
) -> None:
    assert marks(world, outcome) == expected


def test_marks_are_those_of_the_moment_at_which_the_trial_ended(world: World) -> None:
    """A later, slower incumbent does not take them back, nor does a faster one add any."""
    assert marks(world, measured(2.0, 5.0)) == (Mark.SLOW,)
    world.propose()
    world.run(ExperimentId("e2"), measured(0.5, 4.0))
    assert world.state.lineage[-1] == "e2"
    replayed = load(world.ledger)
    assert replayed.experiments[E1].trials[0].marks == (Mark.SLOW,)


def test_a_judge_sees_them_beside_the_values_and_the_verdict_is_the_same(world: World) -> None:
    shown: list[Evidence] = []

    class Watching(GreedyJudge):
        def judge(self, candidate: Evidence, reference: Evidence, around) -> Judgement:
            shown.append(candidate)
            return super().judge(candidate, reference, around)

    world.plan = replace(world.plan, judge=Watching(metric=METRIC))
    assert marks(world, measured(0.5, 5.0, stranger_mb=9000.0)) == (Mark.STRANGER, Mark.SLOW)
    assert shown[0].score.marks == ((Mark.STRANGER, Mark.SLOW),)
    assert world.state.lineage == ("e0", "e1")


def test_marks_and_telemetry_survive_the_store(world: World) -> None:
    outcome = measured(2.0, 5.0, throttled_s=60.0, energy_j=1e6)
    world.propose()
    world.run(E1, outcome)
    kept = decode_state(encode_state(world.state)).experiments[E1].trials[0]
    assert (kept.outcome, kept.marks) == (outcome, (Mark.THROTTLED, Mark.SLOW))


def test_a_ledger_that_knows_of_no_telemetry_is_read(world: World) -> None:
    event = TrialFinished(trial=TrialId("e0.1"), experiment=E1, attempt=1, outcome=scored(1.0))
    envelope = json.loads(encode_draft(Draft(id="x", at=world.now, event=event)))
    del envelope["body"]["outcome"]["telemetry"]
    assert decode_event(1, json.dumps(envelope).encode()).event == event

    snapshot = json.loads(encode_state(world.state))
    for experiment in snapshot["state"]["experiments"].values():
        for trial in experiment["trials"]:
            del trial["marks"], trial["outcome"]["telemetry"]
    state = decode_state(json.dumps(snapshot).encode())
    assert state.experiments[ExperimentId("e0")].trials[0].marks == ()
    assert state.base_commit == BASE
