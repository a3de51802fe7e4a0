"""Which candidates are brought onto the incumbent before they cost a slot, and which go back. Pure.

A candidate is stale once its base is no longer the incumbent. Until a trial of it has begun that
costs nothing to mend: it is merged onto the incumbent and keeps its number. One that has begun
stays what it is, and is the reducer's to merge if it wins.
"""

from collections.abc import Iterator

from cluster.policy.commands import Command, Rebase, ReturnCandidate
from cluster.policy.study_plan import StudyPlan
from cluster.state.experiment import Experiment, Kind, Status
from cluster.state.state import StudyState
from trainer.trial import number_of

PERSON = "user"
"""Who proposes what is submitted by hand."""
MOST_AT_ONCE = 8
"""Each costs a few git processes; between them the state is looked at again, and trials are queued.
"""
_WAITING = (Status.PROPOSED, Status.QUEUED)


def due(state: StudyState, plan: StudyPlan) -> Iterator[Command]:
    """Rebase or return stale candidates, those first that would be run first."""
    incumbent = state.incumbent
    if incumbent is None or not state.count(*_WAITING):
        return
    waiting = [state.experiments[e] for e, status in state.open.items() if status in _WAITING]
    stale = [candidate for candidate in waiting if is_stale(state, plan, candidate)]
    stale.sort(key=lambda candidate: (-candidate.priority, number_of(candidate.id)))
    for candidate in stale[:MOST_AT_ONCE]:
        age = state.promotions - candidate.promotions_before
        if candidate.proposer != PERSON and age > plan.max_staleness:
            yield ReturnCandidate(
                candidate=candidate,
                reason=f"stale: {age} promotions since it was proposed, and it had not begun",
            )
        else:
            yield Rebase(candidate=candidate, incumbent=incumbent)


def is_stale(state: StudyState, plan: StudyPlan, experiment: Experiment) -> bool:
    """Say whether something is to be done about a candidate before a trial of it is queued or run.

    What somebody retries is run exactly as it is.
    """
    incumbent = state.incumbent
    return (
        plan.max_staleness > 0
        and experiment.kind is Kind.PROPOSAL
        and experiment.status in _WAITING
        and incumbent is not None
        and incumbent.id not in {experiment.base, experiment.stays_beside}
        and not experiment.is_cancelled
        and all(trial.started_at is None for trial in experiment.trials)
        and not any(name == "RetryRequested" for _, name in experiment.story)
    )
