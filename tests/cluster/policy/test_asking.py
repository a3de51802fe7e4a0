"""Several proposers on one queue: who is asked for how many, and who is left alone."""

from dataclasses import replace
from datetime import timedelta

import pytest

from cluster.policy import commands as cmd
from cluster.policy.decisions import decide
from cluster.policy.proposal_planning import MOST_WAIT_S, can_propose, retry_at
from cluster.policy.study_plan import Asked, Circumstances, Seat
from cluster.state import events as ev
from cluster.state.experiment import Kind, Status
from cluster.state.proposing_events import ApproveRequested, ProposerFailed, RejectRequested
from tests.cluster.policy.test_tasks import Unasked
from tests.cluster.world import World, scored

TUNER = Seat(name="tuner")
MODEL = Seat(name="model", batch=4)


def world_of(*seats: Seat, slots: int = 8) -> World:
    world = Unasked(proposers=seats, slots=slots)
    world.plan = replace(world.plan, budget_s=8.0)
    world.baseline(1.0)
    return world


def asked(world: World, *under_way: Asked, experiments: int = 0) -> dict[str, int]:
    circumstances = Circumstances(now=world.now, asked=under_way)
    plan = replace(world.plan, most_experiments=experiments)
    commands = decide(world.state, plan, circumstances)
    return {c.proposer: c.count for c in commands if isinstance(c, cmd.Propose)}


def wait_in_line(world: World, count: int, proposer: str = "tuner") -> None:
    for _ in range(count):
        world.propose(proposer=proposer)
    world.settle()


def test_the_tuner_fills_the_queue_at_once_and_a_models_batch_comes_on_top() -> None:
    assert asked(world_of(MODEL, TUNER)) == {"model": 4, "tuner": 8}


def test_while_a_model_thinks_the_tuner_is_asked_for_all_that_is_missing() -> None:
    world = world_of(MODEL, TUNER)
    wait_in_line(world, 5)
    thinking = Asked(proposer="model", count=4, since=world.now, latency_s=60.0)
    assert asked(world, thinking) == {"tuner": 3}


def test_an_answer_that_comes_before_the_queue_is_empty_counts_as_there() -> None:
    world = world_of(MODEL, TUNER)
    wait_in_line(world, 5)  # of 8 s each, on 8 slots: they last for 5 s
    soon = Asked(proposer="model", count=4, since=world.now - timedelta(seconds=58), latency_s=60.0)
    assert asked(world, soon) == {}


def test_an_answer_that_is_late_counts_as_never_to_come() -> None:
    world = world_of(MODEL, TUNER)
    wait_in_line(world, 5)
    late = Asked(proposer="model", count=4, since=world.now - timedelta(seconds=90), latency_s=60.0)
    assert asked(world, late) == {"tuner": 3}


def test_two_quick_proposers_share_what_is_missing() -> None:
    world = world_of(Seat(name="a"), Seat(name="b"), slots=5)
    assert asked(world) == {"a": 3, "b": 2}


def test_who_has_brought_least_for_its_weight_is_asked_first() -> None:
    heavy, light = Seat(name="heavy", batch=4, weight=3.0), Seat(name="light", batch=4)
    world = world_of(heavy, light, slots=4)
    for _ in range(5):
        world.run(world.propose(proposer="heavy"), scored(2.0))
    for _ in range(2):
        world.run(world.propose(proposer="light"), scored(2.0))
    assert list(asked(world)) == ["heavy", "light"]
    for _ in range(2):
        world.run(world.propose(proposer="heavy"), scored(2.0))
    assert list(asked(world)) == ["light", "heavy"]


def test_shares_are_as_the_weights() -> None:
    world = world_of(Seat(name="light", batch=1), Seat(name="heavy", batch=1, weight=3.0), slots=1)
    order = []
    for _ in range(8):
        order.append(next(iter(asked(world))))
        world.run(world.propose(proposer=order[-1]), scored(2.0))
    assert order.count("heavy") == 6


def test_a_model_that_is_ahead_of_its_share_waits_for_the_tuner_to_catch_up() -> None:
    world = world_of(TUNER, MODEL)
    world.run(world.propose(proposer="model"), scored(2.0))
    assert asked(world) == {"tuner": 8}


def test_a_model_alone_is_asked_for_whole_batches_but_never_beyond_the_limit() -> None:
    world = world_of(MODEL, slots=1)
    assert asked(world) == {"model": 4}
    assert asked(world, experiments=2) == {"model": 2}
    wait_in_line(world, 2, "model")
    assert asked(world, experiments=2) == {}


def troubled(world: World, proposer: str, seconds: float) -> None:
    until = world.now + timedelta(seconds=seconds)
    event = ProposerFailed(proposer=proposer, reason="529: overloaded", retry_at=until)
    world.happen(f"failed/{world.now}", event)


def test_who_is_in_trouble_is_left_alone_and_tried_again_afterwards() -> None:
    world = world_of(MODEL, TUNER)
    troubled(world, "model", 60.0)
    assert asked(world) == {"tuner": 8}
    world.now += timedelta(seconds=60)
    assert asked(world) == {"model": 4, "tuner": 8}


def test_who_is_in_trouble_does_not_wait_for_as_long_as_the_clock_is_put_back() -> None:
    world = world_of(MODEL)
    troubled(world, "model", 60.0)
    world.now += timedelta(seconds=50)
    world.now -= timedelta(seconds=20)
    assert asked(world) == {}
    world.now -= timedelta(hours=1)
    assert asked(world) == {"model": 4}


def test_a_study_whose_proposers_are_all_in_trouble_waits_and_knows_why() -> None:
    world = world_of(MODEL)
    troubled(world, "model", 60.0)
    assert world.decide() == ()
    assert can_propose(world.state, world.plan)
    assert world.state.troubled["model"].reason == "529: overloaded"
    world.verify()


def test_a_study_ends_once_its_last_proposer_has_and_says_why() -> None:
    world = world_of(MODEL)
    end = ev.ProposerExhausted(proposer="model", reason="the key is wrong")
    world.happen("x", end)
    (finish,) = world.decide()
    assert isinstance(finish, cmd.FinishStudy)
    assert finish.reason == "nothing more to try (model: the key is wrong)"


def test_a_call_that_a_limit_did_not_allow_ends_the_study_until_the_limit_is_raised() -> None:
    world = world_of(MODEL, TUNER, slots=1)
    world.plan = replace(world.plan, most_usd=5.0)
    world.happen("r", ev.CallRefused(proposer="model", usd=5.5, tokens=10))
    world.settle()
    assert world.state.finished == "$0.00 of $5.00 were spent, and the next call may cost $5.50"
    world.plan = replace(world.plan, most_usd=9.0)
    world.restart()
    assert asked(world) == {"model": 4, "tuner": 1}


def test_trouble_in_a_row_doubles_the_wait_until_an_answer_comes() -> None:
    world = world_of(MODEL)
    waits = []
    for _ in range(9):
        until = retry_at(world.state, "model", world.now, 0.0)
        waits.append((until - world.now).total_seconds())
        troubled(world, "model", waits[-1])
    assert waits == [15, 30, 60, 120, 240, 480, MOST_WAIT_S, MOST_WAIT_S, MOST_WAIT_S]
    world.propose(proposer="model")
    assert not world.state.troubled
    until = retry_at(world.state, "model", world.now, 40.0)
    assert (until - world.now).total_seconds() == 40.0


# --- approval ------------------------------------------------------------------------------------


@pytest.fixture
def held() -> World:
    """A study with two candidates that wait for somebody."""
    world = world_of(TUNER, slots=2)
    for _ in range(2):
        name = world.state.next_experiment
        base = world.state.experiments[world.state.lineage[-1]]
        world.happen(f"{name}/proposed", _held(world, name, base.id))
    world.settle()
    return world


def _held(world: World, name: str, base: str) -> ev.ExperimentProposed:

    return ev.ExperimentProposed(
        experiment=name,
        kind=Kind.PROPOSAL,
        commit=f"c-{name}",
        tree=f"t-{name}",
        base=base,
        base_commit=world.state.base_commit,
        lines=100,
        proposer="tuner",
        hypothesis="h",
        is_held=True,
    )


def test_what_is_held_does_not_run_and_keeps_proposers_from_flooding(held: World) -> None:
    assert held.in_status(Status.HELD) == ["e1", "e2"]
    assert asked(held) == {}
    assert held.decide() == ()  # nor does the study end: somebody may approve
    held.verify()


def test_what_is_approved_runs_and_what_is_rejected_does_not(held: World) -> None:
    held.happen("approve", ApproveRequested(experiment="e1"))
    held.happen("reject", RejectRequested(experiment="e2", reason="too long"))
    held.settle()
    assert held.status("e1") is Status.QUEUED
    assert held.status("e2") is Status.REJECTED
    assert held.state.experiments["e2"].reason == "rejected by hand: too long"
    held.verify()


def test_a_limit_ends_the_study_though_something_is_held(held: World) -> None:
    held.run(held.propose(proposer="tuner"), scored(2.0))
    plan = replace(held.plan, most_experiments=1)
    (end,) = decide(held.state, plan, Circumstances(now=held.now))
    assert isinstance(end, cmd.FinishStudy)
    assert end.reason == "1 experiments were judged"
