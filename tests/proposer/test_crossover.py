"""Pairs of patches are merged by git, and what git cannot merge goes to whoever can."""

from collections.abc import Mapping, Sequence

import pytest

from proposer.crossover import Crossover, merged
from proposer.proposal import Context, Proposal, ProposerTroubled, Task, TaskKind
from tests.proposer.study import context, past
from trainer.trial import CommitId, ExperimentId

BASE = "A = 1\nx = 0\ny = 0\nz = 0\nw = 0\nv = 0\nB = 1\n"
INCUMBENT = BASE.replace("z = 0", "z = 5")


class FakeTrees:
    """Implements proposer.crossover.Trees: every patch is on BASE."""

    def __init__(self, **trees: str) -> None:
        self._trees = trees

    def files(self, experiment: ExperimentId) -> Mapping[str, str]:
        return {"train.py": self._trees[experiment]}

    def base_files(self, experiment: ExperimentId) -> Mapping[str, str]:
        return {"train.py": BASE}


class Resolver:
    """A proposer that answers every task with the same text."""

    name, advice, tasks = "resolver", "", frozenset({TaskKind.COMPOSE})

    def __init__(self) -> None:
        self.asked: list[Context] = []

    def propose(self, context: Context, count: int) -> Sequence[Proposal]:
        self.asked.append(context)
        return [Proposal(edits={"train.py": "A = 3\n"}, hypothesis="both")]


def near(number: int, effect: float):
    return past(number, effect=effect, effect_sd=0.1, hypothesis=f"idea {number}")


def at(*history, **changes) -> Context:
    return context(files={"train.py": INCUMBENT}, history=history, **changes)


TREES = FakeTrees(
    e1=BASE.replace("A = 1", "A = 2"),
    e2=BASE.replace("B = 1", "B = 2"),
    e3=BASE.replace("A = 1", "A = 7"),
)


def test_near_misses_are_merged_onto_the_incumbent_the_most_promising_pair_first() -> None:
    crossover = Crossover(name="crossover", trees=TREES)
    (proposal,) = crossover.propose(at(near(1, -0.01), near(2, 0.01), near(3, -0.5)), 1)
    assert proposal.edits == {
        "train.py": INCUMBENT.replace("A = 1", "A = 2").replace("B = 1", "B = 2")
    }
    assert proposal.hypothesis == "cross e2 with e1: idea 2; idea 1"
    assert proposal.category == "crossover"


def test_a_pair_is_crossed_once_and_one_that_conflicts_is_passed_over() -> None:
    crossover = Crossover(name="crossover", trees=TREES)
    history = [near(1, -0.01), near(2, 0.01), near(3, -0.5)]
    done = past(4, hypothesis="cross e2 with e1: idea 2; idea 1", category="crossover")
    (proposal,) = crossover.propose(at(*history, done), 4)
    assert proposal.hypothesis.startswith("cross e2 with e3:")
    done_too = past(5, hypothesis=proposal.hypothesis, category="crossover")
    with pytest.raises(ProposerTroubled, match="no two patches are left"):
        crossover.propose(at(*history, done, done_too), 4)


def test_a_pair_that_conflicts_is_merged_once_on_each_incumbent() -> None:
    reads: list[str] = []

    class CountingTrees(FakeTrees):
        def files(self, experiment: ExperimentId) -> Mapping[str, str]:
            reads.append(experiment)
            return super().files(experiment)

    trees = CountingTrees(e1=TREES.files("e1")["train.py"], e3=TREES.files("e3")["train.py"])
    crossover = Crossover(name="crossover", trees=trees)
    for history in ([near(1, 0.01), near(3, 0.0)], [near(1, 0.0), near(3, 0.01)]):
        with pytest.raises(ProposerTroubled) as told:
            crossover.propose(at(*history), 4)
        assert told.value.is_idle
    assert reads == ["e1", "e3"]
    with pytest.raises(ProposerTroubled):
        crossover.propose(at(near(1, 0.01), near(3, 0.0), commit=CommitId("d" * 40)), 4)
    assert reads == ["e1", "e3"] * 2


def test_a_pair_is_the_same_whichever_of_the_two_is_the_better_by_now() -> None:
    done = past(4, hypothesis="cross e2 with e1: idea 2; idea 1", category="crossover")
    with pytest.raises(ProposerTroubled):
        Crossover(name="c", trees=TREES).propose(at(near(1, 0.02), near(2, 0.01), done), 4)


def task(text: str) -> Task:
    return Task(
        kind=TaskKind.COMPOSE,
        experiment=ExperimentId("e9"),
        hypothesis="winner",
        problem="train.py",
        files={"train.py": text},
        base_files={"train.py": BASE},
    )


def test_constants_in_neighbouring_lines_are_crossed_and_one_turned_twice_is_not() -> None:
    base = {"train.py": "A = 1\nB = 1\n"}
    ours = {"train.py": "A = 2\nB = 1\n"}
    assert merged(base, ours, {"train.py": "A = 1\nB = 3\n"}) == {"train.py": "A = 2\nB = 3\n"}
    assert merged(base, ours, {"train.py": "A = 3\nB = 1\n"}) is None


def test_what_git_can_put_together_after_all_costs_no_resolver() -> None:
    resolver = Resolver()
    crossover = Crossover(name="crossover", trees=TREES, resolver=resolver)
    clean = task(BASE.replace("A = 1", "A = 2"))
    (proposal,) = crossover.propose(at(task=clean), 1)
    assert proposal.edits == {"train.py": INCUMBENT.replace("A = 1", "A = 2")}
    assert not resolver.asked


def test_a_conflict_goes_to_the_resolver() -> None:
    hard = task(BASE.replace("z = 0", "z = 9"))
    resolver = Resolver()
    (proposal,) = Crossover(name="c", trees=TREES, resolver=resolver).propose(at(task=hard), 1)
    assert (proposal.hypothesis, proposal.category) == ("both", "crossover")
    assert resolver.asked[0].task == hard


def test_without_a_resolver_conflicts_are_left_to_those_who_can_do_more_than_git() -> None:
    assert Crossover(name="c", trees=TREES).tasks == frozenset()
    assert Crossover(name="c", trees=TREES, resolver=Resolver()).tasks == {TaskKind.COMPOSE}


def test_texts_that_are_no_utf_8_survive_a_merge() -> None:
    base, ours = "a\nb\nc\nd\n", "a\udcff\nb\nc\nd\n"
    assert merged({"f": base}, {"f": ours}, {"f": "a\nb\nc\nD\n"}) == {"f": "a\udcff\nb\nc\nD\n"}
