"""Candidates that had not begun when the incumbent moved, on paper."""

from collections.abc import Iterator
from dataclasses import replace

import pytest

from cluster.policy import commands as cmd
from cluster.policy.decisions import decide
from cluster.policy.staleness import MOST_AT_ONCE
from cluster.policy.study_plan import Circumstances
from cluster.state import events as ev
from cluster.state.experiment import Experiment, Kind, Status, TrialPhase
from tests.cluster.world import World, scored
from trainer.trial import ExperimentId


@pytest.fixture
def world() -> Iterator[World]:
    """A study whose incumbent is e1, and whose state is verified after the test."""
    made = World(max_staleness=2)
    made.baseline()
    yield made
    made.verify()


def found(world: World, name: str) -> Experiment:
    return world.state.experiments[ExperimentId(name)]


def promote(world: World, value: float) -> ExperimentId:
    """Let a candidate overtake all others and become the incumbent."""
    name = world.propose()
    world.run(name, scored(value))
    assert world.status(name) is Status.KEPT
    return name


def test_what_waits_moves_onto_the_new_incumbent_with_its_number_and_a_new_attempt(
    world: World,
) -> None:
    waiting = world.propose()
    world.settle()
    head = promote(world, 0.9)
    moved = found(world, waiting)
    assert (moved.base, moved.rebased_from, moved.status) == (head, ("e0",), Status.QUEUED)
    assert (moved.tree, moved.commit) == ("t2+t1", "r-t2+t1")
    assert [(t.id, t.attempt, t.phase) for t in moved.trials] == [
        ("e1.1", 1, TrialPhase.WITHDRAWN),
        ("e1.1", 2, TrialPhase.QUEUED),
    ]
    assert (moved.losses, world.state.count(Status.CANCELLED, Status.LOST)) == (0, 0)
    # The tree that it was has never been measured, and may be proposed again.
    assert world.state.trees.get("t1") is None
    assert world.state.trees["t2+t1"] == waiting
    # As a fresh winner it is promoted without a merge.
    assert world.run(waiting, scored(0.8)) is Status.KEPT
    assert {e.kind for e in world.state.experiments.values()} == {Kind.BASELINE, Kind.PROPOSAL}


def test_what_has_begun_stays_what_it_is_also_after_it_was_lost(world: World) -> None:
    running, lost = world.propose(), world.propose()
    world.settle()
    world.start(running)
    world.start(lost, "cpu-1")
    world.lose(lost)
    promote(world, 0.9)
    for name in (running, lost):
        assert (found(world, name).base, found(world, name).rebased_from) == ("e0", ())


def test_no_trial_is_queued_of_what_is_about_to_be_rebased(world: World) -> None:
    late = world.propose()
    promote(world, 0.9)
    assert found(world, late).rebased_from == ("e0",)
    late = world.found(Kind.PROPOSAL, "late", found(world, "e0").commit, ExperimentId("e0"))
    commands = world.decide()
    assert [type(command) for command in commands] == [cmd.Rebase]
    world.settle()
    assert [t.attempt for t in found(world, late).trials] == [1]


def test_one_that_saw_too_many_promotions_goes_back_and_says_so(world: World) -> None:
    old = world.propose()
    world.settle()
    for value in (0.9, 0.8):
        promote(world, value)
    assert found(world, old).rebased_from == ("e0", "e2")
    promote(world, 0.7)
    returned = found(world, old)
    assert (returned.status, returned.verdict) == (Status.CANCELLED, None)
    assert returned.reason == "stale: 3 promotions since it was proposed, and it had not begun"
    assert returned.trials[-1].phase is TrialPhase.WITHDRAWN
    assert world.state.judged == 3  # it counts as no experiment


def test_one_that_conflicts_goes_back_and_a_persons_runs_on_its_own_base(world: World) -> None:
    machines, persons = world.propose(), world.propose(proposer="user")
    world.settle()
    world.rebase_outcome = "conflict"
    head = promote(world, 0.9)
    assert world.status(machines) is Status.CANCELLED
    stays = found(world, persons)
    assert (stays.status, stays.base, stays.stays_beside) == (Status.QUEUED, "e0", head)
    # Each new incumbent is tried again, however old it is.
    world.rebase_outcome = "clean"
    for value in (0.8, 0.7, 0.6):
        head = promote(world, value)
    assert found(world, persons).base == head


def test_what_somebody_retries_is_run_exactly_as_it_is(world: World) -> None:
    returned = world.propose()
    world.settle()
    world.rebase_outcome = "redundant"
    promote(world, 0.9)
    assert world.status(returned) is Status.CANCELLED
    world.happen("retry", ev.RetryRequested(experiment=returned))
    world.settle()
    again = found(world, returned)
    assert (again.status, again.base, again.trials[-1].attempt) == (Status.QUEUED, "e0", 2)
    promote(world, 0.8)
    assert found(world, returned).base == "e0"


def test_nothing_is_rebased_where_that_is_not_wanted_or_while_the_study_is_paused(
    world: World,
) -> None:
    waiting = world.propose()
    world.settle()
    world.happen("pause", ev.PauseRequested())
    world.start(waiting)
    world.end(waiting, scored(0.9))
    late = world.found(Kind.PROPOSAL, "late", found(world, "e0").commit, ExperimentId("e0"))
    world.settle()
    assert found(world, late).rebased_from == ()
    world.happen("resume", ev.ResumeRequested())
    world.plan = replace(world.plan, max_staleness=0)
    world.settle()
    assert (found(world, late).status, found(world, late).base) == (Status.QUEUED, "e0")


def test_a_few_are_rebased_at_a_time_the_most_urgent_first(world: World) -> None:
    for _ in range(MOST_AT_ONCE + 2):
        world.propose()
    world.settle()
    urgent = ExperimentId(f"e{MOST_AT_ONCE + 2}")
    raised = replace(found(world, urgent), priority=5)
    state = replace(world.state, experiments=world.state.experiments.set(urgent, raised))
    head = replace(found(world, "e0"), id=ExperimentId("e99"))
    state = replace(state, lineage=(head.id,), experiments=state.experiments.set(head.id, head))
    commands = decide(state, world.plan, Circumstances(now=world.now))
    moved = [c.candidate.id for c in commands if isinstance(c, cmd.Rebase)]
    assert len(moved) == MOST_AT_ONCE
    assert moved[:2] == [urgent, "e1"]


def test_a_request_to_cancel_in_between_wins(world: World) -> None:
    proposed, moved, returned = (world.propose() for _ in range(3))
    head = world.propose()
    for queued in (moved, returned, head):
        (order,) = [c for c in world.decide() if getattr(c, "trial", "") == f"{queued}.1"]
        world.perform(order)
    world.start(head)
    world.end(head, scored(0.9))
    while not (rebases := [c for c in world.decide() if isinstance(c, cmd.Rebase)]):
        world.perform(world.decide()[0])
    assert [rebase.candidate.id for rebase in rebases] == [proposed, moved, returned]
    for rebase, outcome in zip(rebases, ("clean", "clean", "conflict"), strict=True):
        name = rebase.candidate.id
        world.rebase_outcome = outcome
        world.happen(f"cancel/{name}", ev.CancelRequested(experiment=name))
        world.perform(rebase)
        assert world.status(name) is Status.CANCELLED
    world.settle()
    assert not world.state.open


def test_a_rebase_keeps_what_was_proposed_beside_what_is_run(world: World) -> None:
    same, other = world.propose(), world.propose(parameters={"LR": 0.5})
    world.settle()
    promote(world, 0.9)
    assert found(world, other).parameters == {"LR": 1.0}
    assert found(world, other).proposed_parameters == {"LR": 0.5}
    assert found(world, same).proposed_parameters == {}
    promote(world, 0.8)
    assert found(world, other).parameters == {"LR": 2.0}
    assert found(world, other).proposed_parameters == {"LR": 0.5}


def test_a_tree_that_somebody_else_has_too_is_still_known_by_them(world: World) -> None:
    waiting = world.propose()
    world.settle()
    twin = world.found(Kind.PROPOSAL, "t1", found(world, "e0").commit, ExperimentId("e0"))
    world.settle()
    world.start(twin)
    promote(world, 0.9)
    assert found(world, waiting).tree != "t1"
    assert world.state.trees["t1"] == twin
