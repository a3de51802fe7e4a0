"""Whether what fails is the node's fault or the candidate's, and what follows."""

from collections.abc import Iterator
from dataclasses import replace
from datetime import timedelta

import pytest

from cluster.state import events as ev
from cluster.state.experiment import Status, TrialPhase
from cluster.state.node_state import MOST_RUNS, NodeStatus
from eval.bayes import BayesJudge
from tests.cluster.world import CRASHED, METRIC, World, crashed, scored
from trainer.trial import CrashKind, ExperimentId, SlotId, TrialOutcome

E0 = ExperimentId("e0")
ALPHA = "alpha/cpu-0"
KILLED = crashed(CrashKind.SIGNAL, "killed by signal 9")
TRACED = replace(CRASHED, tail="Traceback (most recent call last):\nValueError: no")
WORSE = scored(2.0)


def join(world: World, node: str, slots: int = 1) -> None:
    event = ev.NodeJoined(
        node=node,
        address="10.0.0.7",
        incumbent="1",
        python="3",
        ray="2",
        cpus=slots,
        memory_gb=8.0,
    )
    world.happen(f"{node}/joined/{world.now}", event)
    for number in range(slots):
        world.open_slot(f"{node}/cpu-{number}")


@pytest.fixture
def world() -> Iterator[World]:
    """A head with one slot, on which the incumbent was measured, and a node `alpha` with two."""
    made = World(slots=3)
    made.open_slot("cpu-0")
    made.baseline()
    join(made, "alpha", slots=2)
    yield made
    made.verify()


def run(world: World, slot: str, outcome: TrialOutcome | None) -> ExperimentId:
    """Run a new candidate on a slot; None loses it."""
    candidate = world.propose()
    world.settle()
    again(world, candidate, slot, outcome)
    return candidate


def again(world: World, candidate: ExperimentId, slot: str, outcome: TrialOutcome | None) -> None:
    world.start(candidate, slot)
    if outcome is None:
        world.lose(candidate)
    else:
        world.end(candidate, outcome)
    world.settle()


def do_well(world: World, slot: str = "cpu-0") -> None:
    for _ in range(3):
        run(world, slot, WORSE)


def later(world: World, seconds: float = 100.0) -> None:
    world.now += timedelta(seconds=seconds)


def status(world: World, node: str = "alpha") -> NodeStatus:
    return world.state.nodes[node].status


def awaited(world: World) -> list[str]:
    """Return the slots for which the incumbent waits."""
    waiting = world.controls(TrialPhase.QUEUED)
    return [world.state.controls[trial].place.slot for _, trial in waiting]


def try_the_incumbent(world: World, outcome: TrialOutcome | None) -> None:
    """Run it where it waits."""
    ((experiment, trial),) = world.controls(TrialPhase.QUEUED)
    world.start(experiment, world.state.controls[trial].place.slot, trial)
    if outcome is None:
        world.lose(experiment, trial_id=trial)
    else:
        world.end(experiment, outcome, trial)
    world.settle()


def test_a_node_that_fails_the_incumbent_too_is_quarantined_and_what_it_broke_runs_again(
    world: World,
) -> None:
    do_well(world)
    broken = [run(world, ALPHA, TRACED) for _ in range(3)]
    waiting = world.propose()
    world.settle()
    # Nothing of theirs is run again to find out: the incumbent is, on the slot of the last one.
    assert [len(world.state.experiments[name].trials) for name in broken] == [1, 1, 1]
    assert awaited(world) == [ALPHA]
    assert status(world) is NodeStatus.JOINED
    try_the_incumbent(world, TRACED)
    assert status(world) is NodeStatus.QUARANTINED
    names = ", ".join(f"{name}.1" for name in broken)
    assert world.state.nodes["alpha"].reason == (
        f"{names} failed here one after another, then the incumbent's own e0.2: Boom"
    )
    assert [world.status(name) for name in (*broken, waiting)] == [Status.QUEUED] * 4
    assert world.state.open_slots == 1
    assert not any(f"fix/{name}" in world.state.tasks for name in broken)
    again(world, broken[0], "cpu-0", scored(0.5))
    assert world.status(broken[0]) is Status.KEPT


def test_what_ran_on_a_node_when_it_was_quarantined_and_fails_later_runs_again(
    world: World,
) -> None:
    do_well(world)
    late, good = world.propose(), world.propose()
    world.settle()
    for name in (late, good):
        world.start(name, "alpha/cpu-1")
    for _ in range(3):
        run(world, ALPHA, KILLED)
    try_the_incumbent(world, KILLED)
    assert status(world) is NodeStatus.QUARANTINED
    since = world.state.nodes["alpha"].since
    for name, outcome in ((late, TRACED), (good, WORSE)):
        world.end(name, outcome)
        world.settle()
    assert world.status(late) is Status.QUEUED
    assert world.status(good) is Status.DISCARDED
    assert world.state.nodes["alpha"].since == since
    again(world, late, "cpu-0", TRACED)  # on a node that is well, that is its own affair
    assert world.status(late) is Status.CRASHED


def test_what_is_found_out_elsewhere_is_told_beside_what_the_same_last_run_had_told_before(
    world: World,
) -> None:
    do_well(world)
    doubtful, late = world.propose(), world.propose()
    world.settle()
    again(world, doubtful, "cpu-0", None)  # which makes what follows its own fault
    for name in (doubtful, late):
        world.start(name, "alpha/cpu-1")
    for _ in range(3):
        later(world)
        run(world, ALPHA, KILLED)
    try_the_incumbent(world, KILLED)
    for name in (doubtful, late):
        later(world)
        world.end(name, TRACED)
        world.settle()
    assert [world.status(name) for name in (doubtful, late)] == [Status.CRASHED, Status.QUEUED]
    again(world, late, "cpu-0", WORSE)
    for _ in range(MOST_RUNS):  # until the loss on the head is past
        run(world, "cpu-0", WORSE)
    assert world.status(doubtful) is Status.QUEUED
    again(world, doubtful, "cpu-0", scored(0.5))
    assert world.status(doubtful) is Status.KEPT


def test_a_node_that_passes_the_test_is_not_at_fault(world: World) -> None:
    do_well(world)
    bad = [run(world, ALPHA, CRASHED) for _ in range(3)]
    world.propose()
    world.settle()
    try_the_incumbent(world, scored(1.0))
    assert status(world) is NodeStatus.JOINED
    assert awaited(world) == []
    assert [world.status(name) for name in bad] == [Status.CRASHED] * 3
    # What failed before the test is held against it no more.
    for _ in range(2):
        run(world, ALPHA, CRASHED)
    world.propose()
    world.settle()
    assert awaited(world) == []


def test_where_trials_fail_everywhere_no_node_is_tested(world: World) -> None:
    for _ in range(3):
        run(world, "cpu-0", CRASHED)
        run(world, ALPHA, CRASHED)
    world.propose()
    world.settle()
    assert awaited(world) == []


def test_a_node_is_at_fault_for_what_it_lost_and_passed_elsewhere(world: World) -> None:
    lost = []
    for _ in range(3):
        lost.append(run(world, ALPHA, None))
        again(world, lost[-1], "cpu-0", WORSE)
        run(world, ALPHA, WORSE)  # it is no row: the node does some of its work
        later(world)
    assert status(world) is NodeStatus.QUARANTINED
    names = ", ".join(f"{name}.1" for name in lost)
    assert world.state.nodes["alpha"].reason == (
        f"{names} failed here and passed elsewhere; the last: gone"
    )
    assert [world.status(name) for name in lost] == [Status.DISCARDED] * 3


@pytest.mark.parametrize("outcome", [TRACED, crashed(CrashKind.NAN, "loss is nan")])
def test_a_crash_by_the_candidates_own_code_is_nothing_against_the_node(
    world: World, outcome: TrialOutcome
) -> None:
    """A candidate may well crash now and then: it passed elsewhere, and fails here by its own."""
    for _ in range(3):
        flaky = run(world, "cpu-0", WORSE)
        world.happen(f"retry/{flaky}", ev.RetryRequested(experiment=flaky))
        world.settle()
        again(world, flaky, ALPHA, outcome)
        run(world, ALPHA, WORSE)
    assert status(world) is NodeStatus.JOINED


@pytest.mark.parametrize("outcome", [KILLED, crashed(CrashKind.EXCEPTION, "exit code 3: bye")])
def test_a_crash_without_a_traceback_of_what_passed_elsewhere_is(
    world: World, outcome: TrialOutcome
) -> None:
    for _ in range(3):
        good = run(world, "cpu-0", WORSE)
        world.happen(f"retry/{good}", ev.RetryRequested(experiment=good))
        world.settle()
        again(world, good, ALPHA, outcome)
    assert status(world) is NodeStatus.QUARANTINED


def test_trials_that_are_lost_at_one_moment_are_one_incident(world: World) -> None:
    """A worker's host restarts: all that ran there is lost, passes elsewhere, and is forgotten."""
    do_well(world)
    lost = [world.propose() for _ in range(4)]
    world.settle()
    for name in lost:
        world.start(name, ALPHA)
    for name in lost:
        world.lose(name)
    world.settle()
    assert awaited(world) == []
    for name in lost:
        again(world, name, "cpu-0", WORSE)
    assert status(world) is NodeStatus.JOINED


def test_losses_between_which_the_clock_was_put_back_are_no_one_incident(world: World) -> None:
    do_well(world)
    for _ in range(3):
        run(world, ALPHA, None)
        later(world, -3600.0)
    assert awaited(world) == [ALPHA]


def test_what_the_study_gave_back_or_somebody_cancelled_tells_nothing(world: World) -> None:
    do_well(world)
    for _ in range(4):
        candidate = world.propose()
        world.settle()
        world.start(candidate, ALPHA)
        world.lose(candidate, is_given_back=True)
        world.happen(f"cancel/{candidate}", ev.CancelRequested(experiment=candidate))
        world.settle()
        later(world)
    assert "alpha" not in world.state.node_runs
    assert awaited(world) == []


def test_a_candidate_that_kills_workers_is_to_blame_and_no_node_is(world: World) -> None:
    do_well(world)
    for _ in range(4):
        killer = world.propose()
        for slot in (ALPHA, "cpu-0", ALPHA):
            world.settle()
            later(world)
            again(world, killer, slot, None)
        assert world.status(killer) is Status.LOST
        reason = world.state.experiments[killer].reason
        assert reason == "its workers went away on alpha and n alike: gone"
    world.propose()
    world.settle()
    assert status(world) is NodeStatus.JOINED
    assert awaited(world) == []


def test_what_was_given_up_as_lost_on_a_bad_node_alone_runs_again(world: World) -> None:
    do_well(world)
    victim = world.propose()
    for _ in range(3):
        world.settle()
        later(world)
        again(world, victim, ALPHA, None)
    assert world.status(victim) is Status.LOST
    assert world.state.experiments[victim].reason == "gone"
    world.propose()
    world.settle()
    try_the_incumbent(world, None)
    assert status(world) is NodeStatus.QUARANTINED
    assert world.status(victim) is Status.QUEUED
    assert world.state.experiments[victim].losses == 0


def test_the_only_node_is_never_tested_and_never_quarantined() -> None:
    world = World(slots=1)
    world.open_slot("cpu-0")
    world.baseline()
    for _ in range(6):
        run(world, "cpu-0", KILLED)
    world.propose()
    world.settle()
    assert awaited(world) == []
    assert not world.state.nodes
    world.verify()


def test_the_last_node_that_works_is_not_quarantined(world: World) -> None:
    def lose_and_pass(*slots: str) -> ExperimentId:
        lost = run(world, slots[0], None)
        later(world)
        for slot in slots[1:]:
            again(world, lost, slot, WORSE)
        return lost

    for _ in range(2):
        lose_and_pass("cpu-0", ALPHA)
        lose_and_pass(ALPHA, "cpu-0")
    last = lose_and_pass("cpu-0")
    world.start(last, ALPHA)
    lose_and_pass("alpha/cpu-1", "cpu-0")
    assert status(world) is NodeStatus.QUARANTINED
    world.end(last, WORSE)  # what ran there runs to its end: a third proof against the head
    world.settle()
    assert "n" not in world.state.nodes
    assert world.state.open_slots == 1
    world.happen("well", ev.NodeReleased(node="alpha"))
    run(world, ALPHA, WORSE)  # and there is another one that works
    assert status(world, "n") is NodeStatus.QUARANTINED


def test_a_released_node_begins_anew(world: World) -> None:
    do_well(world)
    for _ in range(3):
        run(world, ALPHA, KILLED)
    world.propose()
    world.settle()
    try_the_incumbent(world, KILLED)
    world.happen("well", ev.NodeReleased(node="alpha"))
    world.settle()
    assert status(world) is NodeStatus.JOINED
    assert world.state.open_slots == 3
    for _ in range(2):
        run(world, ALPHA, KILLED)
    assert awaited(world) == []
    run(world, ALPHA, KILLED)
    world.propose()
    world.settle()
    assert awaited(world) == [ALPHA]
    try_the_incumbent(world, KILLED)
    assert status(world) is NodeStatus.QUARANTINED
    told = [rec.id for rec in world.ledger.read(0, limit=1000) if "quarantined" in rec.id]
    assert len(set(told)) == 2


def test_a_failing_node_that_leaves_before_its_test_takes_the_test_with_it(world: World) -> None:
    do_well(world)
    for _ in range(3):
        run(world, ALPHA, KILLED)
    world.propose()
    world.settle()
    assert awaited(world) == [ALPHA]
    world.happen("left", ev.NodeLeft(node="alpha", reason="fell silent", is_silent=True))
    world.settle()
    assert awaited(world) == []
    join(world, "alpha")
    world.settle()
    assert awaited(world) == []


def test_only_who_was_away_begins_with_a_clean_slate(world: World) -> None:
    run(world, ALPHA, KILLED)
    held = world.state.node_runs["alpha"]
    join(world, "alpha", slots=2)  # the queue was started anew, and hears of it again
    assert world.state.node_runs["alpha"] == held
    world.happen("left", ev.NodeLeft(node="alpha", reason="fell silent", is_silent=True))
    join(world, "alpha", slots=2)
    assert "alpha" not in world.state.node_runs


@pytest.fixture
def measured(world: World) -> World:
    """The same under a judge that knows the noise, about 0.001; the head was checked."""
    made = World(slots=3, judge=BayesJudge(metric=METRIC, max_replicates=2))
    for slot in ("cpu-0", ALPHA):
        made.open_slot(slot)
    made.settle()
    for value in (1.0, 1.001, 0.999):
        made.start(E0, "cpu-0")
        made.end(E0, scored(value))
        made.settle()
    made.propose()
    made.plan = replace(made.plan, control_every=1)
    made.settle()
    try_the_incumbent(made, scored(1.0))  # on the head, which ran the baseline
    return made


def shift(world: World, value: float) -> None:
    """Have a control due on alpha, and let it score this."""
    slot = world.state.slots[SlotId(ALPHA)]
    world.state = replace(
        world.state, slots=world.state.slots.set(slot.slot, replace(slot, since_control=1))
    )
    world.settle()
    assert awaited(world) == [ALPHA]
    try_the_incumbent(world, scored(value))


def test_a_node_that_reads_worse_twice_in_a_row_is_quarantined(measured: World) -> None:
    shift(measured, 1.2)
    assert "alpha" not in measured.state.nodes
    assert awaited(measured) == [ALPHA]  # at once
    try_the_incumbent(measured, scored(1.2))
    assert status(measured) is NodeStatus.QUARANTINED
    reason = measured.state.nodes["alpha"].reason
    assert reason == f"the incumbent scored worse on {ALPHA} 2 times in a row"


def test_a_node_that_read_worse_once_is_not(measured: World) -> None:
    shift(measured, 1.2)
    try_the_incumbent(measured, scored(1.0))
    assert "alpha" not in measured.state.nodes
    assert awaited(measured) == []
