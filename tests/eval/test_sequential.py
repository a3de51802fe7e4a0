"""The sequential judge holds its promise of few false promotions."""

from dataclasses import replace
from random import Random

from eval.beliefs import Belief, Memory
from eval.judge import Verdict
from eval.sequential import SequentialJudge
from tests.eval.judging import LOSS, around, tree

JUDGE = SequentialJudge(metric=LOSS, confidence=0.9)
BASE = tree(0.0, belief=Belief(mean=0.0, variance=0.0))


def judged(random: Random, gain: float, memory: Memory) -> tuple[Verdict, Memory, int]:
    """Run a candidate of this true gain until its verdict."""
    values, level = [], 0.0
    while True:
        values.append(random.gauss(-gain, 1.0))
        said = JUDGE.judge(tree(*values, level=level), BASE, around(memory=memory))
        if said.learnt:
            memory, level = said.learnt.memory, said.learnt.level
        if said.verdict is not Verdict.REPLICATE:
            return said.verdict, memory, len(values)


def test_a_first_run_that_looks_worse_is_enough_and_one_that_looks_better_is_not() -> None:
    assert JUDGE.judge(tree(0.1), BASE, around()).verdict is Verdict.DISCARD
    assert JUDGE.judge(tree(-100.0), BASE, around()).verdict is Verdict.REPLICATE


def test_the_first_run_does_not_count() -> None:
    said = JUDGE.judge(tree(-100.0, 0.1, level=0.1), BASE, around())
    assert said.verdict is Verdict.DISCARD


def test_of_what_passes_few_are_false() -> None:
    random, false, passed = Random(3), 0, 0
    for _ in range(40):  # studies
        memory = Memory()
        for n in range(60):
            gain = 4.0 if n % 6 == 0 else 0.0
            verdict, memory, runs = judged(random, gain, memory)
            assert runs <= 6
            passed += verdict is Verdict.KEEP
            false += verdict is Verdict.KEEP and gain == 0
    assert passed > 200
    assert false / passed <= 0.1


def test_levels_fall_with_every_test_and_rise_with_what_passes() -> None:
    def level(memory: Memory) -> float:
        return JUDGE.judge(tree(-1.0), BASE, around(memory=memory)).learnt.level

    assert level(Memory()) > level(Memory(tested=1)) > level(Memory(tested=9))
    assert level(Memory(tested=9, passed=3)) == 4 * level(Memory(tested=9))


def test_runs_that_repeat_exactly_pass_if_they_are_better() -> None:
    exact = around(0.0, dof=2)
    base = replace(BASE, belief=Belief(mean=0.0, variance=0.0))
    assert JUDGE.judge(tree(-1.0, -1.0, level=0.01), base, exact).verdict is Verdict.KEEP


def test_what_looked_worse_and_was_run_again_by_hand_is_tested_too() -> None:
    memory = Memory(tested=1)
    retried = JUDGE.judge(tree(0.1, -2.0), BASE, around(memory=memory))
    assert retried.verdict is Verdict.REPLICATE
    assert retried.learnt.memory.tested == 2
    assert retried.learnt.level == JUDGE.judge(tree(-1.0), BASE, around(memory=memory)).learnt.level
    proven = JUDGE.judge(
        tree(0.1, -9.0, -9.0, level=retried.learnt.level), BASE, around(memory=memory)
    )
    assert proven.verdict is Verdict.KEEP
