"""Finds the logs of trials."""

import os
from pathlib import Path

from cluster.experiment import Experiment, TrialPhase
from cluster.state import StudyState
from infra.home import StudyHome
from trainer.trial import ExperimentId


def find_log(home: StudyHome, state: StudyState, name: str) -> Path | None:
    """Return the log of a trial (`e42.1`), or the latest of an experiment (`e42`)."""
    experiment = state.experiments.get(ExperimentId(name.partition(".")[0]))
    if experiment is None:
        return None
    wanted = [trial for trial in experiment.trials if name in {experiment.id, trial.id}]
    for trial in reversed(wanted):
        attempt = f"-a{trial.attempt}" if trial.attempt > 1 else ""
        path = home.logs / f"{trial.id}{attempt}.log"
        if os.path.lexists(path):
            return path
    return None


def is_running(state: StudyState, log: str) -> bool:
    """Say whether the trial that writes the log of this name still runs."""
    trial_id = log.partition("-a")[0]
    experiment: Experiment | None = state.experiments.get(ExperimentId(trial_id.partition(".")[0]))
    if experiment is None:
        return False
    return any(t.id == trial_id and t.phase is TrialPhase.RUNNING for t in experiment.trials)
