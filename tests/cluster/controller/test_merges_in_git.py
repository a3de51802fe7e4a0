"""What of a chain of merges lands on the branch, and what is told of conflicts, over real git."""

from collections.abc import Iterator

import pytest

from cluster.state import events as ev
from cluster.state.experiment import Status
from tests.cluster.controller.test_reducer_machine import ReducerMachine
from tests.cluster.world import CRASHED, scored
from trainer.trial import ExperimentId

CHAIN = """\
A1
Experiment: e5
Metric: loss 0.66 (was 0.8)
Trials: e5.1

A2
Experiment: e6
Metric: loss unknown (was 0.66)
Trials: e6.1 (crashed)
Chain: 1 of 2, promoted as e7

A3
Experiment: e7
Metric: loss 0.45 (was unknown)
Trials: e7.1
Chain: 2 of 2, promoted as e7"""


class DenseMachine(ReducerMachine):
    """Its places are neighbouring lines: git sees a conflict between any two changes."""

    apart = 1


def by_hand(kind: type[ReducerMachine]) -> Iterator[ReducerMachine]:
    """A study by hand, with a baseline near 1 whose runs differ by 0.01."""
    made = kind()
    made.measure_the_baseline(values=(1.0, 1.01, 0.99))
    yield made
    made.scratch.cleanup()


@pytest.fixture
def study() -> Iterator[ReducerMachine]:
    yield from by_hand(ReducerMachine)


@pytest.fixture
def dense() -> Iterator[ReducerMachine]:
    yield from by_hand(DenseMachine)


@pytest.mark.parametrize("kind", ["study", "dense"])
def test_a_chain_lands_with_a_commit_for_each_winner_that_says_what_it_rests_on(
    kind: str, request: pytest.FixtureRequest
) -> None:
    study = request.getfixturevalue(kind)
    study.propose([0, 1, 2, 3])
    study.begin()
    for name, value in (("e1", 0.8), ("e2", 0.85), ("e3", 0.87), ("e4", 0.9)):
        study.end_trial(ExperimentId(name), scored(value))
    head = study.state.incumbent_commit
    assert study.state.chain == ("e5",)  # of e2; the others came while it was measured
    study.end_trial(ExperimentId("e5"), scored(0.66))
    study.end_trial(ExperimentId("e6"), CRASHED)
    study.end_trial(ExperimentId("e7"), scored(0.45))
    style = "--format=%s%n%(trailers:key=Experiment)%(trailers:key=Metric)%(trailers:key=Trials)"
    told = study.git("log", "--reverse", style + "%(trailers:key=Chain)", f"{head}..")
    assert told == CHAIN
    statuses = {name: study.state.experiments[ExperimentId(name)].status for name in ("e3", "e4")}
    assert set(statuses.values()) == {Status.MERGED}
    study.ledger_and_branch_agree()


def test_a_conflict_names_the_promoted_experiment_that_is_in_the_way(study) -> None:
    study.propose([0, 1, 0])
    study.begin()
    study.end_trial(ExperimentId("e1"), scored(0.8))
    study.end_trial(ExperimentId("e2"), scored(0.85))
    study.end_trial(ExperimentId("e4"), scored(0.66))  # e2 onto e1
    study.end_trial(ExperimentId("e3"), scored(0.9))
    told = [r.event for r in study.ledger.read(0) if isinstance(r.event, ev.MergeConflicted)]
    (conflict,) = told
    assert (conflict.experiment, conflict.against) == ("e3", "e1")  # not e4, the latest
    assert (conflict.paths, conflict.onto) == (("train.py",), study.state.incumbent_commit)
    assert study.state.experiments[ExperimentId("e3")].status is Status.CONFLICTED


def test_constants_in_neighbouring_lines_are_merged_by_value(dense) -> None:
    dense.propose([0, 1])
    dense.begin()
    dense.end_trial(ExperimentId("e1"), scored(0.8))
    dense.end_trial(ExperimentId("e2"), scored(0.85))
    merge = dense.state.experiments[dense.state.chain[0]]
    assert (merge.merge_of, merge.lines) == ("e2", 6)
    assert dense.lines(merge.commit) == {0: 1, 1: 2}
    assert dense.git("log", "-1", "--format=%P|%s|%T", merge.commit) == (
        f"{merge.base_commit} {dense.state.experiments['e2'].commit}|Merge e2 onto e1: A1"
        f"|{merge.tree}"
    )
    dense.end_trial(merge.id, scored(0.66))
    assert dense.state.lineage == ("e0", "e1", merge.id)
    dense.ledger_and_branch_agree()


def test_what_stands_in_a_neighbouring_line_is_not_taken_for_what_is_in_the_way(dense) -> None:
    dense.propose([0, 1, 1])
    dense.begin()
    dense.end_trial(ExperimentId("e1"), scored(0.8))
    dense.end_trial(ExperimentId("e2"), scored(0.85))
    dense.end_trial(ExperimentId("e4"), scored(0.66))  # e2 onto e1
    dense.end_trial(ExperimentId("e3"), scored(0.9))
    told = [r.event for r in dense.ledger.read(0) if isinstance(r.event, ev.MergeConflicted)]
    (conflict,) = told
    assert (conflict.experiment, conflict.against) == ("e3", "e4")  # not e1, its neighbour
    assert (conflict.paths, conflict.onto) == (("train.py",), dense.state.incumbent_commit)


def test_a_conflict_within_a_chain_waits_for_what_becomes_of_it(study) -> None:
    study.propose([0, 1, 1, 2])
    study.begin()
    for name, value in (("e1", 0.8), ("e4", 0.85), ("e2", 0.87), ("e3", 0.9)):
        study.end_trial(ExperimentId(name), scored(value))
    assert study.state.chain == ("e5",)
    study.end_trial(ExperimentId("e5"), scored(0.66))
    (link,) = study.state.chain
    assert study.state.experiments[link].merge_of == "e2"
    assert study.state.experiments[ExperimentId("e3")].status is Status.WINNER
    study.end_trial(link, CRASHED)
    assert study.state.experiments[ExperimentId("e2")].status is Status.DROPPED
    (link,) = study.state.chain
    assert study.state.experiments[link].merge_of == "e3"  # nothing is in its way any more
