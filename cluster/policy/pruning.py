"""Which running trials are given up, and which may be at all. Pure.

A trial that decides something else than whether its candidate is worth measuring is run to its end:
the baseline, a merge, a replicate; and so are a run on a rung, which ends soon, and what somebody
had run again.
"""

from collections.abc import Iterator

from cluster.policy.commands import Command, GiveUpTrial, PruneTrial
from cluster.policy.study_plan import Circumstances
from cluster.state.experiment import Experiment, Kind, Status
from cluster.state.state import StudyState
from trainer.trial import experiment_id


def may_be_given_up(experiment: Experiment) -> bool:
    """Say whether an experiment's running trial may be stopped for its curve."""
    if experiment.status is not Status.RUNNING or experiment.kind is not Kind.PROPOSAL:
        return False
    is_first_in_full = experiment.trials[-1].rung_s is None and not experiment.has_ended_in_full
    is_insisted_on = experiment.skips_rungs and experiment.finished > 0
    return is_first_in_full and not is_insisted_on and not experiment.is_cancelled


def due(state: StudyState, circumstances: Circumstances) -> Iterator[Command]:
    """Give up the running trials whose curves are hopeless."""
    for (trial, attempt), reason in circumstances.hopeless.items():
        experiment = state.experiments.get(experiment_id(trial))
        if experiment is None or experiment.given_up or not may_be_given_up(experiment):
            continue
        latest = experiment.trials[-1]
        if (latest.id, latest.attempt) == (trial, attempt):
            yield GiveUpTrial(experiment=experiment.id, trial=trial, attempt=attempt, reason=reason)


def orders(state: StudyState) -> Iterator[Command]:
    """Have the workers end what was given up, until they have."""
    for experiment in state.opened(Status.RUNNING):
        if experiment.given_up and not experiment.is_cancelled:
            yield PruneTrial(trial=experiment.trials[-1].id)
