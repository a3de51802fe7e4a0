"""The reducer: which winner goes onto the branch, and how. Pure.

A merge queue in the manner of Zuul and bors, for measurements instead of tests:

- a fresh winner (made on the incumbent) is promoted;
- a stale winner that beats the incumbent alone supersedes it, and the patches that it lacks rejoin;
- any other stale winner is three-way merged onto the incumbent and measured again;
- a winner that was merged `MOST_MERGES` times and went stale each time is dropped.

A promotion rests on a score measured on exactly the promoted tree.
"""

from collections.abc import Iterator

from cluster.commands import Command, DropWinner, Merge, Promote
from cluster.experiment import Experiment, Status
from cluster.state import StudyState
from eval.judge import Judge
from eval.metric import Metric
from trainer.trial import ExperimentId

MOST_MERGES = 3
"""Generations of merges that one proposal may go through before it is dropped."""


def plan(state: StudyState, judge: Judge, metric: Metric) -> list[Command]:
    """Return what to do with the winners: one promotion, or the merges and drops that are due.

    A promotion moves the incumbent, so nothing else is planned beside it.
    """
    incumbent = state.incumbent
    if incumbent is None:
        return []
    winners = _winners(state, metric)
    for winner in winners:
        if winner.base == incumbent.id:
            return [Promote(winner=winner, replaces=incumbent)]
    for winner in winners:
        if judge.is_ahead(winner.evidence, incumbent.evidence):
            return [Promote(winner=winner, replaces=incumbent)]
    return [*_merges(winners, incumbent), *_rejoin(state, incumbent), *_spent(state)]


def _winners(state: StudyState, metric: Metric) -> list[Experiment]:
    """All open winners, best first; ties go to the older one."""
    if not state.counts.get(Status.WINNER):
        return []  # mostly so, and it spares a walk over all that is open
    found = [state.experiments[e] for e, status in state.open.items() if status is Status.WINNER]
    sign = metric.improvement(1.0, 0.0)

    def rank(winner: Experiment) -> tuple[float, int]:
        return (-sign * winner.worth, int(winner.id[1:]))

    return sorted(found, key=rank)


def lacks(state: StudyState, winner: Experiment) -> tuple[ExperimentId, ...]:
    """Return the promoted experiments whose patches the winner's tree does not hold, oldest first.

    A tree holds its own patch, those of its base, and for a merge those of the winner it carries.
    """
    held: set[ExperimentId] = set()
    unseen = [winner.id]
    while unseen:
        experiment = state.experiments.get(unseen.pop())
        if experiment is not None and experiment.id not in held:
            held.add(experiment.id)
            unseen += [experiment.base, experiment.merge_of]
    return tuple(experiment for experiment in state.lineage if experiment not in held)


def _merges(winners: list[Experiment], incumbent: Experiment) -> Iterator[Command]:
    for winner in winners:
        if winner.generation >= MOST_MERGES:
            yield DropWinner(winner=winner.id, reason=f"still stale after {MOST_MERGES} merges")
        else:
            yield Merge(winner=winner, incumbent=incumbent)


def _rejoin(state: StudyState, incumbent: Experiment) -> Iterator[Command]:
    for left_behind in state.rejoining:
        yield Merge(winner=state.experiments[left_behind], incumbent=incumbent)


def _spent(state: StudyState) -> Iterator[Command]:
    """Drop winners whose merge ended without reaching the branch."""
    merging = state.open.items() if state.counts.get(Status.MERGING) else ()
    for experiment, status in merging:
        if status is not Status.MERGING:
            continue
        merge = state.experiments[state.experiments[experiment].merged_as]
        if merge.status.is_terminal and merge.status not in {Status.KEPT, Status.MERGED}:
            reason = f"merged as {merge.id}, which was {merge.status.value.replace('_', ' ')}"
            yield DropWinner(winner=experiment, reason=reason)
