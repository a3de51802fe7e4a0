"""Who is asked, for what, and when: several proposers, one queue, and no slot that waits."""

from dataclasses import replace
from datetime import timedelta

import pytest

from cluster import commands as cmd
from cluster import events as ev
from cluster import tasks
from cluster.decisions import decide
from cluster.experiment import Status
from cluster.study_plan import Asked, Circumstances, Seat
from proposer.proposal import TaskKind
from tests.cluster.world import World, crashed, scored
from trainer.trial import CrashKind, ExperimentId

BOTH = frozenset({TaskKind.FIX, TaskKind.COMPOSE})
MODEL = Seat(name="model", batch=4, tasks=BOTH)
TUNER = Seat(name="tuner")


def asked(world: World, *known: Asked) -> dict[str, int]:
    """Return who is asked for how many, if these are what proposers are at."""
    now = Circumstances(now=world.now, asked=known)
    found = decide(world.state, world.plan, now)
    return {c.proposer: c.count for c in found if isinstance(c, cmd.Propose)}


def measured(world: World, name: str, latency_s: float, count: int = 0) -> Asked:
    since = world.now if count else None
    return Asked(proposer=name, latency_s=latency_s, count=count, since=since)


@pytest.fixture
def world() -> World:
    made = World(slots=4, proposers=(MODEL, TUNER))
    made.baseline(1.0)
    return made


def test_a_model_is_asked_for_a_batch_and_the_tuner_for_all_that_is_missing_meanwhile(
    world: World,
) -> None:
    assert asked(world) == {"model": 4, "tuner": 4}
    busy = measured(world, "model", 60.0, count=4)
    assert asked(world, busy) == {"tuner": 4}, "what comes in a minute fills no slot now"


def test_an_answer_that_comes_before_the_queue_is_empty_counts(world: World) -> None:
    for _ in range(3):
        world.propose()
    late = measured(world, "model", 3000.0, count=4)
    soon = measured(world, "model", 10.0, count=4)
    assert asked(world, late) == {"tuner": 1}
    assert asked(world, soon) == {}


def test_whoever_has_brought_less_for_its_weight_is_asked_first() -> None:
    heavy = Seat(name="heavy", batch=1, weight=3.0)
    light = Seat(name="light", batch=1)
    world = World(slots=1, proposers=(light, heavy))
    world.baseline(1.0)
    order = []
    for _ in range(8):
        name = next(iter(asked(world, measured(world, "light", 1), measured(world, "heavy", 1))))
        order.append(name)
        world.run(world.propose(proposer=name), scored(2.0))
    assert order.count("heavy") == 6


def test_a_proposer_in_trouble_is_left_alone_until_its_time_has_come(world: World) -> None:
    until = world.now + timedelta(minutes=5)
    failed = ev.ProposerFailed(proposer="model", reason="overloaded", retry_at=until)
    world.happen("f", failed)
    assert asked(world) == {"tuner": 4}
    world.now += timedelta(minutes=6)
    assert asked(world)["model"] == 4
    world.propose(proposer="model")
    assert not world.state.troubled, "whoever answers is well again"


def test_a_study_whose_every_proposer_is_in_trouble_waits() -> None:
    world = World(slots=1, proposers=(MODEL,))
    world.baseline(1.0)
    until = world.now + timedelta(minutes=5)
    world.happen("f", ev.ProposerFailed(proposer="model", reason="overloaded", retry_at=until))
    world.settle()
    assert not world.state.finished
    world.happen("x", ev.ProposerExhausted(proposer="model", reason="the key is wrong"))
    world.asked = 0
    world.settle()
    assert world.state.finished == "nothing more to try (model: the key is wrong)"


def test_a_call_that_a_limit_did_not_allow_ends_the_study_until_the_limit_is_raised() -> None:
    world = World(slots=1, proposers=(MODEL, TUNER))
    world.baseline(1.0)
    world.plan = replace(world.plan, most_usd=5.0)
    world.happen("r", ev.CallRefused(proposer="model", usd=5.5, tokens=10))
    world.asked = 0
    world.settle()
    assert world.state.finished == ("$0.00 of $5.00 were spent, and the next call may cost $5.50")
    world.plan = replace(world.plan, most_usd=9.0)
    world.restart()
    assert asked(world) == {"model": 4, "tuner": 1}


def test_candidates_wait_for_approval_count_as_ready_and_do_not_keep_a_study_alive() -> None:
    world = World(slots=2, proposers=(TUNER,), experiments=3)
    world.baseline(1.0)
    held = [world.propose(is_held=True) for _ in range(2)]
    world.settle()
    assert world.status(held[0]) is Status.HELD
    assert asked(world) == {}, "proposers do not flood who approves"
    world.happen("ok", ev.ApproveRequested(experiment=held[0]))
    world.happen("no", ev.RejectRequested(experiment=held[1], reason="too wild"))
    assert world.status(held[1]) is Status.REJECTED
    assert world.state.experiments[held[1]].reason == "rejected by hand: too wild"
    world.run(held[0], scored(2.0))
    for _ in range(2):
        world.run(world.propose(), scored(2.0))
    world.propose(is_held=True)
    world.settle()
    assert world.state.finished == "3 experiments were judged"


# --- tasks ---------------------------------------------------------------------------------------


def task_commands(world: World, *known: Asked) -> list[tuple[str, str]]:
    now = Circumstances(now=world.now, asked=known)
    found = decide(world.state, world.plan, now)
    return [(c.proposer, c.task) for c in found if isinstance(c, cmd.AskTask)]


def test_a_trivial_crash_goes_back_to_its_author_and_so_does_its_fix_twice_at_most(
    world: World,
) -> None:
    slip = crashed(CrashKind.EXCEPTION, "NameError: name 'modle' is not defined")
    first = world.propose(proposer="model")
    world.run(first, slip)
    assert task_commands(world) == [("model", f"fix/{first}")]
    busy = Asked(proposer="model", count=1, task=f"fix/{first}")
    assert task_commands(world, busy) == []
    second = world.propose(proposer="model", task=f"fix/{first}")
    assert world.state.tasks == ()
    assert world.state.experiments[second].fixes == 1
    world.run(second, slip)
    third = world.propose(proposer="model", task=f"fix/{second}")
    world.run(third, slip)
    assert world.state.experiments[third].fixes == 2
    assert task_commands(world) == []


def test_what_is_no_slip_or_nobody_s_to_mend_is_left_alone(world: World) -> None:
    slip = crashed(CrashKind.EXCEPTION, "NameError: name 'modle' is not defined")
    world.run(world.propose(proposer="tuner"), slip)
    world.run(world.propose(proposer="model"), crashed(CrashKind.NAN, "loss is nan"))
    assert task_commands(world) == []


def test_a_task_is_not_asked_for_where_the_limit_has_no_room_for_what_it_brings(
    world: World,
) -> None:
    world.plan = replace(world.plan, most_experiments=2)
    world.propose(proposer="model")
    first = world.propose(proposer="model")
    world.run(first, crashed(CrashKind.EXCEPTION, "NameError: x"))
    assert task_commands(world) == []
    world.plan = replace(world.plan, most_experiments=3)
    assert task_commands(world) == [("model", f"fix/{first}")]


def test_a_task_that_nothing_came_of_is_closed(world: World) -> None:
    first = world.propose(proposer="model")
    world.run(first, crashed(CrashKind.OUT_OF_MEMORY, "CUDA out of memory"))
    assert task_commands(world) == [("model", f"fix/{first}")]
    world.happen("c", ev.TaskClosed(task=f"fix/{first}", proposer="model", reason="gave up"))
    assert task_commands(world) == []


@pytest.mark.parametrize(
    ("reason", "is_trivial"),
    [
        ("NameError: name 'x' is not defined", True),
        ("AttributeError: module 'torch' has no attribute 'foo'", True),
        ("ModuleNotFoundError: No module named 'einops'", True),
        ("TypeError: forward() missing 1 required positional argument: 'y'", True),
        ("TypeError: __init__() got an unexpected keyword argument 'bias'", True),
        ("RuntimeError: mat1 and mat2 shapes cannot be multiplied (8x64 and 32x10)", True),
        ("RuntimeError: The size of tensor a (3) must match the size of tensor b (4)", True),
        ("RuntimeError: expected scalar type Float but found Half", True),
        ("ValueError: operands could not be broadcast together with shapes (3,) (4,)", True),
        ("AssertionError: loss exploded", False),
        ("FileNotFoundError: [Errno 2] No such file or directory: 'data'", False),
        ("ZeroDivisionError: division by zero", False),
    ],
)
def test_slips_are_known_by_what_python_torch_and_numpy_say(reason: str, is_trivial: bool) -> None:
    world = World(slots=1, proposers=(MODEL,))
    world.baseline(1.0)
    first = world.propose(proposer="model")
    world.run(first, crashed(CrashKind.EXCEPTION, reason))
    assert tasks.is_trivial(world.state.experiments[first]) is is_trivial


def test_a_conflict_goes_to_whoever_does_nothing_but_compose() -> None:
    crossover = Seat(name="crossover", batch=1, tasks=frozenset({TaskKind.COMPOSE}))
    world = World(slots=2, proposers=(MODEL, crossover))
    world.baseline(1.0)
    one, other = world.propose(), world.propose()
    world.settle()
    world.merge_outcome = "conflict"
    world.start(one)
    world.start(other)
    world.end(one, scored(0.5))
    world.end(other, scored(0.6))
    world.settle()
    assert world.status(other) is Status.CONFLICTED
    assert task_commands(world) == [("crossover", f"compose/{other}")]
    assert ExperimentId(other) in world.state.experiments


def test_who_is_asked_for_a_task_is_not_asked_for_ideas_at_once(world: World) -> None:
    world.propose(proposer="model")
    first = world.propose(proposer="model")
    world.plan = replace(world.plan, proposers=(TUNER,))
    world.run(first, crashed(CrashKind.EXCEPTION, "NameError: x"))
    world.plan = replace(world.plan, proposers=(MODEL, TUNER))
    world.asked = 0
    assert task_commands(world) == [("model", f"fix/{first}")]
    assert "model" not in asked(world)
