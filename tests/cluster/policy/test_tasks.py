"""Which failures go back to their author, and who is asked to do what."""

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest

from cluster.policy import commands as cmd
from cluster.policy import tasks
from cluster.policy.study_plan import Asked, Circumstances, Seat
from cluster.state import events as ev
from cluster.state.experiment import Status
from cluster.state.proposing_events import ProposerFailed, TaskClosed
from proposer.proposal import TaskKind
from tests.cluster.world import World, scored
from trainer.trial import CrashKind, Ending, ExperimentId, TrialOutcome

BOTH = frozenset(TaskKind)
MODEL = Seat(name="model", batch=4, tasks=BOTH)
JOINER = Seat(name="joiner", batch=1, tasks=frozenset({TaskKind.COMPOSE}))
TUNER = Seat(name="tuner")


def crash(reason: str, kind: CrashKind = CrashKind.EXCEPTION) -> TrialOutcome:
    return TrialOutcome(ending=Ending.CRASHED, crash=kind, reason=reason)


class Unasked(World):
    """Nobody is asked while things happen, but when a test looks at what is decided."""

    def settle(self) -> None:
        plan = self.plan
        self.plan = replace(plan, proposers=())
        super().settle()
        self.plan = plan


def world_of(*seats: Seat) -> World:
    world = Unasked(proposers=seats)
    world.baseline(1.0)
    return world


def crashed(world: World, outcome: TrialOutcome, proposer: str = "model") -> ExperimentId:
    experiment = world.propose(proposer=proposer)
    world.run(experiment, outcome)
    return experiment


def asked(world: World) -> list[tuple[str, str]]:
    return [(c.proposer, c.task) for c in world.decide() if isinstance(c, cmd.AskTask)]


def numpy_reason(act: Callable[[], object]) -> str:
    with pytest.raises(Exception) as caught:  # noqa: PT011 - numpy's own kinds, of several sorts
        act()
    return f"{caught.type.__name__}: {caught.value}"


THREE, FOUR = np.ones(3), np.ones(4)
BY_NUMPY: dict[str, Callable[[], object]] = {
    "broadcast": lambda: THREE + FOUR,
    "matmul": lambda: THREE @ FOUR,
    "dot": lambda: np.dot(THREE, FOUR),
    "reshape": lambda: np.ones(5).reshape(2, 3),
    "concatenate": lambda: np.concatenate([np.ones((2, 3)), np.ones((2, 4))], axis=0),
    "assignment": lambda: np.ones(3).__setitem__(slice(None), FOUR),
    "attribute": lambda: np.no_such_name,
    "argument": lambda: np.ones(3).sum(axes=0),
}


@pytest.mark.parametrize("name", sorted(BY_NUMPY))
def test_what_numpy_says_of_a_slip_is_trivial(name: str) -> None:
    world = world_of(MODEL)
    crashed(world, crash(numpy_reason(BY_NUMPY[name])))
    assert asked(world) == [("model", "fix/e1")]


# As torch 2 words them.
BY_TORCH = (
    (
        "RuntimeError: The size of tensor a (3) must match the size of tensor b (4) at"
        " non-singleton dimension 0"
    ),
    "RuntimeError: mat1 and mat2 shapes cannot be multiplied (2x3 and 4x5)",
    "RuntimeError: mat1 and mat2 must have the same dtype, but got Float and Half",
    "RuntimeError: shape '[2, 3]' is invalid for input of size 5",
    (
        "RuntimeError: Sizes of tensors must match except in dimension 0. Expected size"
        " 3 but got size 4 for tensor number 1 in the list."
    ),
    (
        "RuntimeError: Given groups=1, weight of size [8, 3, 3, 3], expected input[1,"
        " 4, 32, 32] to have 3 channels, but got 4 channels instead"
    ),
    (
        "RuntimeError: Expected all tensors to be on the same device, but found at"
        " least two devices, cuda:0 and cpu!"
    ),
    "RuntimeError: expected scalar type Float but found Half",
    "ValueError: Expected input batch_size (4) to match target batch_size (3).",
    (
        "RuntimeError: The expanded size of the tensor (4) must match the existing size"
        " (3) at non-singleton dimension 0"
    ),
    (
        "RuntimeError: stack expects each tensor to be equal size, but got [3] at entry"
        " 0 and [4] at entry 1"
    ),
    "NameError: name 'modle' is not defined",
    "ModuleNotFoundError: No module named 'flash_attn'",
    "AttributeError: 'GPT' object has no attribute 'wpe'",
    "TypeError: Block.__init__() got an unexpected keyword argument 'depth'",
    "TypeError: forward() missing 1 required positional argument: 'idx'",
    "torch.OutOfMemoryError: CUDA out of memory. Tried to allocate 20.00 GiB.",
)


@pytest.mark.parametrize("reason", BY_TORCH, ids=range(len(BY_TORCH)))
def test_what_torch_says_of_a_slip_is_trivial(reason: str) -> None:
    world = world_of(MODEL)
    crashed(world, crash(reason))
    assert asked(world) == [("model", "fix/e1")]


@pytest.mark.parametrize(
    "outcome",
    [
        crash("AssertionError: loss diverged"),
        crash("ZeroDivisionError: division by zero"),
        crash("FileNotFoundError: [Errno 2] No such file or directory: 'data'"),
        crash("RuntimeError: CUDA error: an illegal memory access was encountered"),
        crash("the metric is not finite", CrashKind.NAN),
        crash("killed by signal 11", CrashKind.SIGNAL),
        TrialOutcome(ending=Ending.TIMED_OUT, reason="timed out"),
    ],
    ids=["assertion", "division", "file", "cuda", "nan", "signal", "timeout"],
)
def test_a_failure_that_may_be_the_ideas_own_is_left_alone(outcome: TrialOutcome) -> None:
    world = world_of(MODEL)
    crashed(world, outcome)
    assert asked(world) == []


def test_out_of_memory_goes_back_whatever_its_words() -> None:
    world = world_of(MODEL)
    crashed(world, crash("killed: used more than 24 GB", CrashKind.OUT_OF_MEMORY))
    assert asked(world) == [("model", "fix/e1")]


SLIP = crash("NameError: name 'x' is not defined")


def test_a_crash_goes_to_its_author_alone_and_only_if_that_mends() -> None:
    world = world_of(TUNER, MODEL)
    crashed(world, SLIP, "tuner")
    crashed(world, SLIP, "user")
    assert asked(world) == []
    crashed(world, SLIP, "model")
    assert asked(world) == [("model", "fix/e3")]


def fix(world: World, crashed_one: ExperimentId) -> ExperimentId:
    """Answer a task with a candidate that crashes in its turn."""
    experiment = world.state.next_experiment
    proposed = ev.ExperimentProposed(
        experiment=experiment,
        kind=world.state.experiments[crashed_one].kind,
        commit=world.state.base_commit,
        tree=f"fix of {crashed_one}",
        base=world.state.lineage[-1],
        base_commit=world.state.base_commit,
        lines=100,
        proposer="model",
        hypothesis="mended",
        task=f"fix/{crashed_one}",
    )
    world.happen(f"{experiment}/proposed", proposed)
    world.run(experiment, SLIP)
    return experiment


def test_a_crash_is_sent_back_as_often_as_allowed_and_each_fix_names_what_it_mends() -> None:
    world = world_of(MODEL)
    first = crashed(world, SLIP)
    second = fix(world, first)
    assert world.state.tasks == (f"fix/{second}",)
    assert asked(world) == [("model", f"fix/{second}")]
    third = fix(world, second)
    assert [world.state.experiments[e].fixes for e in (first, second, third)] == [0, 1, 2]
    assert asked(world) == []
    world.verify()


def test_what_was_given_up_is_not_asked_again_and_a_retry_takes_the_task_back() -> None:
    world = world_of(MODEL)
    first, second = crashed(world, SLIP), crashed(world, SLIP)
    world.happen("closed", TaskClosed(task=f"fix/{first}", proposer="model", reason="no idea"))
    assert asked(world) == [("model", f"fix/{second}")]
    world.happen("retry", ev.RetryRequested(experiment=second))
    assert asked(world) == []


def test_one_question_at_a_time_and_none_of_a_proposer_in_trouble() -> None:
    world = world_of(MODEL)
    crashed(world, SLIP)
    crashed(world, SLIP)
    assert asked(world) == [("model", "fix/e1")]
    busy = Asked(proposer="model", count=1, task="fix/e1")
    circumstances = Circumstances(now=world.now, asked=[busy])
    assert list(tasks.due(world.state, world.plan, circumstances)) == []
    later = world.now.replace(year=world.now.year + 1)
    failed = ProposerFailed(proposer="model", reason="529 overloaded", retry_at=later)
    world.happen("failed", failed)
    assert asked(world) == []


def conflicted(world: World) -> ExperimentId:
    first, second = world.propose(proposer="model"), world.propose(proposer="model")
    world.settle()
    world.start(first)
    world.start(second, "cpu-1")
    world.end(first, scored(0.5))
    world.settle()
    world.end(second, scored(0.6))
    world.merge_outcome = "conflict"
    world.settle()
    assert world.status(second) is Status.CONFLICTED
    return second


def test_a_conflict_goes_to_who_only_composes_and_else_to_a_model() -> None:
    world = world_of(TUNER, MODEL, JOINER)
    winner = conflicted(world)
    assert asked(world) == [("joiner", f"compose/{winner}")]
    world.plan = replace(world.plan, proposers=(TUNER, MODEL))
    assert asked(world) == [("model", f"compose/{winner}")]
    world.plan = replace(world.plan, proposers=(TUNER,))
    assert asked(world) == []


def test_who_composes_for_nothing_is_waited_for_while_it_is_busy_and_asked_when_out_of_ideas() -> (
    None
):
    world = world_of(TUNER, MODEL, JOINER)
    winner = conflicted(world)

    def commands(*busy: str) -> list[tuple[str, str]]:
        known = [Asked(proposer=name, count=1) for name in busy]
        now = Circumstances(now=world.now, asked=known)
        return [(c.proposer, c.task) for c in tasks.due(world.state, world.plan, now)]

    assert commands("joiner") == []
    later = world.now.replace(year=world.now.year + 1)
    idle = ProposerFailed(
        proposer="joiner", reason="no two patches are left", retry_at=later, is_idle=True
    )
    world.happen("idle", idle)
    assert commands() == [("joiner", f"compose/{winner}")]
    failed = ProposerFailed(proposer="joiner", reason="529 overloaded", retry_at=later)
    world.happen("failed", failed)
    assert commands() == [("model", f"compose/{winner}")]
    second = replace(MODEL, name="other")
    world.plan = replace(world.plan, proposers=(MODEL, second))
    assert commands("model") == [("other", f"compose/{winner}")]


def test_a_task_is_not_asked_for_where_the_limit_has_no_room_for_what_it_brings() -> None:
    world = world_of(MODEL)
    world.propose(proposer="model")
    first = crashed(world, SLIP)
    world.plan = replace(world.plan, most_experiments=2)
    assert asked(world) == []
    world.plan = replace(world.plan, most_experiments=3)
    assert asked(world) == [("model", f"fix/{first}")]


def test_who_is_asked_for_a_task_is_not_asked_for_ideas_at_once() -> None:
    world = world_of(MODEL, TUNER)
    first = crashed(world, SLIP)
    ideas = [c.proposer for c in world.decide() if isinstance(c, cmd.Propose)]
    assert asked(world) == [("model", f"fix/{first}")]
    assert ideas == ["tuner"]
