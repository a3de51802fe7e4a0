"""Finds the logs of trials."""

import os
from pathlib import Path

from cluster.experiment import Experiment, TrialPhase
from cluster.state import StudyState
from infra.home import StudyHome
from trainer.paths import log_name
from trainer.trial import ExperimentId, Rung, TrialId


def find_log(home: StudyHome, state: StudyState, name: str) -> Path | None:
    """Return the log of a trial (`e42.1`), or the latest of an experiment (`e42`).

    Of a trial with a smoke run that is the full run's, once there is one.
    """
    experiment = state.experiments.get(ExperimentId(name.partition(".")[0]))
    if experiment is None:
        return None
    wanted = [trial for trial in experiment.trials if name in {experiment.id, trial.id}]
    for trial in reversed(wanted):
        for rung in (Rung.FULL, Rung.SMOKE):
            path = home.logs / log_name(trial.id, trial.attempt, rung)
            if os.path.lexists(path):
                return path
    return None


def trial_of(log: Path) -> TrialId:
    """Return the trial that a log is of."""
    return TrialId(log.stem.partition("-")[0])


def is_running(state: StudyState, trial_id: TrialId) -> bool:
    """Say whether a trial still runs."""
    experiment: Experiment | None = state.experiments.get(ExperimentId(trial_id.partition(".")[0]))
    if experiment is None:
        return False
    return any(t.id == trial_id and t.phase is TrialPhase.RUNNING for t in experiment.trials)
