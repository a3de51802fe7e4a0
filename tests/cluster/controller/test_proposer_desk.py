"""Proposers in threads of their own; each does what its test wants."""

import time
from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime
from queue import SimpleQueue

import pytest

from cluster.controller.proposer_desk import Answer, ProposerDesk
from cluster.state import events as ev
from cluster.state.experiment import Status
from cluster.state.state import StudyState
from eval.metric import Goal, Metric
from proposer.proposal import (
    Context,
    Proposal,
    ProposerDone,
    ProposerTroubled,
    TaskGivenUp,
    TaskKind,
)
from proposer.purse import OverLimit
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
NOW = datetime(2026, 3, 1, tzinfo=UTC)


class Scripted:
    """Answers with as many proposals as asked for, after doing what the test says."""

    tasks: frozenset[TaskKind] = frozenset()
    advice = ""

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

    @property
    def asking(self) -> int:
        return sum(asked.count for asked in self.desk.asked)

    def ask(self, count: int, *names: str) -> list[Answer]:
        for name in names or [asked.proposer for asked in self.desk.asked]:
            self.desk.ask(name, CONTEXT, count, now=NOW)
        answers: list[Answer] = []
        while self.asking:
            self._wakes.get(timeout=DEADLINE_S)
            answers += self.desk.answers()
        return answers


@pytest.fixture
def desks() -> Iterator[list[Desk]]:
    made: list[Desk] = []
    yield made
    for each in made:
        each.desk.stop()


def test_each_proposer_answers_for_itself_and_a_stranger_is_not_asked(desks: list[Desk]) -> None:
    desks.append(Desk(Scripted("a"), Scripted("b")))
    answers = desks[0].ask(2, "a", "b", "nobody")
    assert {answer.proposer: len(answer.proposals) for answer in answers} == {"a": 2, "b": 2}


def test_a_proposer_that_is_busy_is_not_asked_again(desks: list[Desk]) -> None:
    gate: SimpleQueue[None] = SimpleQueue()
    slow = Scripted("slow", lambda: gate.get(timeout=DEADLINE_S))
    desks.append(Desk(slow))
    desk = desks[0].desk
    desk.ask("slow", CONTEXT, 3, now=NOW)
    desk.ask("slow", CONTEXT, 2, now=NOW)
    (asked,) = desk.asked
    assert (asked.count, asked.since) == (3, NOW)
    gate.put(None)
    assert [len(answer.proposals) for answer in desks[0].ask(0)] == [3]
    assert desk.asked[0].latency_s > 0


def test_trouble_a_limit_and_an_end_are_told_apart(desks: list[Desk]) -> None:
    def trouble() -> None:
        raise ProposerTroubled("overloaded", retry_after_s=7.0)

    def limit() -> None:
        raise OverLimit("a call may cost $1.00")

    def end() -> None:
        raise ProposerDone("the key is wrong")

    desks.append(Desk(Scripted("a", trouble), Scripted("b", limit), Scripted("c", end)))
    answers = {answer.proposer: answer for answer in desks[0].ask(1)}
    assert (answers["a"].is_passing, answers["a"].retry_after_s) == (True, 7.0)
    assert (answers["b"].is_over_limit, answers["b"].is_passing) == (True, False)
    assert (answers["c"].problem, answers["c"].is_passing) == ("the key is wrong", False)
    assert [answers[name].is_done for name in "abc"] == [False, False, True]


def test_what_ends_a_thread_or_a_task_is_an_answer_too(desks: list[Desk]) -> None:
    def leave() -> None:
        raise SystemExit(3)

    def give_up() -> None:
        raise TaskGivenUp("it changed nothing")

    desks.append(Desk(Scripted("a", leave), Scripted("b", give_up)))
    answers = {answer.proposer: answer for answer in desks[0].ask(1)}
    assert answers["a"].problem == "SystemExit: 3"
    assert answers["b"].problem == "it changed nothing"
    assert not any(answer.is_done or answer.is_passing for answer in answers.values())
    assert desks[0].ask(1, "a"), "its thread lives on"


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


def test_latency_is_the_average_of_its_answers(desks: list[Desk]) -> None:
    desks.append(Desk(Scripted("slow", lambda: time.sleep(0.05))))
    assert desks[0].desk.asked[0].latency_s == 0.0
    (first,) = desks[0].ask(1)
    assert first.seconds >= 0.05
    assert desks[0].desk.asked[0].latency_s == pytest.approx(first.seconds)
    (second,) = desks[0].ask(1)
    mean = 0.7 * first.seconds + 0.3 * second.seconds
    assert desks[0].desk.asked[0].latency_s == pytest.approx(mean)
