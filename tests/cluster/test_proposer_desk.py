"""Proposers in threads of their own; each does what its test wants."""

import time
from collections.abc import Callable, Iterator, Sequence
from queue import SimpleQueue

import pytest

from cluster import events as ev
from cluster.experiment import Status
from cluster.proposer_desk import Answer, ProposerDesk
from cluster.state import StudyState
from eval.metric import Goal, Metric
from proposer.proposal import Context, Proposal
from tests.cluster.world import World, gamed, scored
from trainer.trial import CommitId, ExperimentId

CONTEXT = Context(
    metric=Metric(name="loss", goal=Goal.MINIMIZE, pattern=r"^loss: (\S+)"),
    incumbent=ExperimentId("e0"),
    incumbent_value=1.0,
    commit=CommitId("base"),
    files={},
)
DEADLINE_S = 20.0


class Scripted:
    """Answers with as many proposals as asked for, after doing what the test says."""

    def __init__(self, name: str, first: Callable[[], object] = lambda: None) -> None:
        self.name = name
        self.seen: list[Context] = []
        self._first = first

    def propose(self, context: Context, count: int) -> Sequence[Proposal]:
        self.seen.append(context)
        self._first()
        return [Proposal(edits={}, hypothesis=f"{self.name} {n}") for n in range(count)]


class Desk:
    """A desk, and a way to wait for its answers."""

    def __init__(self, *proposers: Scripted, state: StudyState | None = None) -> None:
        self._wakes: SimpleQueue[None] = SimpleQueue()
        self.desk = ProposerDesk(proposers, lambda: self._wakes.put(None))
        self.desk.start(state or StudyState())

    def ask(self, count: int, **exhausted: str) -> list[Answer]:
        self.desk.ask(CONTEXT, count, exhausted=exhausted)
        answers: list[Answer] = []
        while self.desk.asking:
            self._wakes.get(timeout=DEADLINE_S)
            answers += self.desk.answers()
        return answers


@pytest.fixture
def desks() -> Iterator[list[Desk]]:
    made: list[Desk] = []
    yield made
    for each in made:
        each.desk.stop()


def test_a_need_is_shared_among_the_proposers_that_are_not_exhausted(desks: list[Desk]) -> None:
    desks.append(Desk(Scripted("a"), Scripted("b"), Scripted("c")))
    answers = desks[0].ask(5, c="has nothing more")
    assert {answer.proposer: len(answer.proposals) for answer in answers} == {"a": 3, "b": 2}


def test_a_proposer_that_is_busy_is_not_asked_again(desks: list[Desk]) -> None:
    gate: SimpleQueue[None] = SimpleQueue()
    slow = Scripted("slow", lambda: gate.get(timeout=DEADLINE_S))
    desks.append(Desk(slow))
    desk = desks[0].desk
    desk.ask(CONTEXT, 3, exhausted={})
    desk.ask(CONTEXT, 2, exhausted={})
    assert desk.asking == 3
    gate.put(None)
    assert [len(answer.proposals) for answer in desks[0].ask(0)] == [3]


def test_a_failure_is_an_answer_that_says_why(desks: list[Desk]) -> None:
    def fail() -> None:
        raise RuntimeError("no credit left")

    desks.append(Desk(Scripted("broken", fail)))
    (answer,) = desks[0].ask(1)
    assert answer.proposals == ()
    assert answer.problem == "RuntimeError: no credit left"


def test_each_result_is_shown_once_and_earlier_ones_first_after_a_restart(
    desks: list[Desk],
) -> None:
    world = World(proposers=("a",))
    world.baseline(1.0)
    world.run(world.propose(), scored(2.0))
    proposer = Scripted("a")
    desks.append(Desk(proposer, state=world.state))
    desks[0].ask(1)
    desks[0].ask(1)
    shown = [[result.experiment for result in context.results] for context in proposer.seen]
    assert shown == [["e0", "e1"], []]


def test_a_suspect_is_shown_without_its_value_and_again_once_it_was_judged(
    desks: list[Desk],
) -> None:
    world = World(proposers=("a",))
    world.baseline(1.0)
    suspect = world.propose()
    world.run(suspect, gamed(0.1))
    proposer = Scripted("a")
    desks.append(Desk(proposer, state=world.state))
    desks[0].ask(1)
    world.happen("accept", ev.AcceptRequested(experiment=suspect))
    world.settle()
    desks[0].desk.note(world.state.experiments[suspect])
    desks[0].ask(1)
    shown = [(r.status, r.value) for context in proposer.seen for r in context.results]
    assert shown == [("kept", 1.0), ("suspect", None), ("kept", 0.1)]


def test_what_went_back_unmeasured_is_shown_with_the_reason_and_what_moved_with_both_its_points(
    desks: list[Desk],
) -> None:
    world = World(proposers=("a",), max_staleness=2)
    world.baseline(1.0)
    moved, returned, head = (world.propose(parameters={"LR": rate}) for rate in (0.1, 0.2, 0.3))
    world.run(head, scored(0.9))
    world.rebase_outcome = "conflict"
    world.start(moved)
    world.end(moved, scored(0.8))
    world.settle()
    assert world.status(returned) is Status.CANCELLED
    proposer = Scripted("a")
    desks.append(Desk(proposer, state=world.state))
    desks[0].ask(1)
    shown = {result.experiment: result for result in proposer.seen[0].results}
    assert (shown[returned].value, shown[returned].reason) == (None, "stale: conflict")
    assert (shown[returned].parameters, shown[returned].never_ran) == ({}, {"LR": 0.2})
    assert (shown[moved].parameters, shown[moved].never_ran) == ({"LR": 0.2}, {"LR": 0.1})
    assert shown[head].never_ran == {}


def test_the_latency_counts_the_answer_that_a_need_may_have_to_wait_for(desks: list[Desk]) -> None:
    """A proposer answers one question at a time; slots go on eating while it does."""
    desks.append(Desk(Scripted("slow", lambda: time.sleep(0.05))))
    assert desks[0].desk.latency_s == 0.0
    (answer,) = desks[0].ask(1)
    assert answer.seconds >= 0.05
    assert desks[0].desk.latency_s == pytest.approx(2 * answer.seconds)
