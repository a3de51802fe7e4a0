"""Finds what trials left: their logs, and their output folders."""

import os
from pathlib import Path

from cluster.experiment import Experiment, Status, TrialPhase
from cluster.state import StudyState
from infra.home import StudyHome
from infra.plain_text import one_line
from trainer.paths import log_name, out_name
from trainer.trial import ExperimentId, Rung, TrialId


def find_log(home: StudyHome, state: StudyState, name: str) -> Path | None:
    """Return the log of a trial (`e42.1`), or the latest of an experiment (`e42`).

    Of a trial with a smoke run that is the full run's, once there is one.
    """
    experiment = state.experiments.get(ExperimentId(name.partition(".")[0]))
    if experiment is None:
        return None
    controls = (trial for trial in experiment.controls if trial.id == name)
    wanted = [*controls, *(t for t in experiment.trials if name in {experiment.id, t.id})]
    for trial in reversed(wanted):
        for rung in (Rung.FULL, Rung.SMOKE):
            path = home.logs / log_name(trial.id, trial.attempt, rung)
            if os.path.lexists(path):
                return path
    return None


def why_no_log(state: StudyState, name: str) -> str:
    """Say why there is no log of a trial or an experiment."""
    experiment = state.experiments.get(ExperimentId(name.partition(".")[0]))
    if experiment is not None and experiment.status is Status.REJECTED:
        reason = one_line(experiment.reason)
        return f"{experiment.id} was rejected before it could run: {reason}"
    trials = [trial.id for trial in experiment.trials] if experiment else []
    if experiment is not None and name not in {experiment.id, *trials}:
        known = f"its trials are {', '.join(trials)}" if trials else "no trial of it has started"
        return f"there is no trial {name} of {experiment.id}: {known}"
    return f"no trial of {name} has started (see `incumbent log`)"


def paths_of(home: StudyHome, state: StudyState, name: ExperimentId) -> dict[str, str]:
    """Return where the latest log and the latest output of an experiment are, if there are any."""
    found = {"log": find_log(home, state, name), "output": _find_out(home, state.experiments[name])}
    return {kind: str(path) for kind, path in found.items() if path}


def _find_out(home: StudyHome, experiment: Experiment) -> Path | None:
    folders = (home.out / out_name(t.id, t.attempt) for t in reversed(experiment.trials))
    return next((folder for folder in folders if os.path.lexists(folder)), None)


def trial_of(log: Path) -> TrialId:
    """Return the trial that a log is of."""
    return TrialId(log.stem.partition("-")[0])


def is_running(state: StudyState, trial_id: TrialId) -> bool:
    """Say whether a trial still runs."""
    experiment: Experiment | None = state.experiments.get(ExperimentId(trial_id.partition(".")[0]))
    if experiment is None:
        return False
    trials = (*experiment.trials, *experiment.controls)
    return any(trial.id == trial_id and trial.phase is TrialPhase.RUNNING for trial in trials)
