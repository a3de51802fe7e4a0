"""Finds what trials left: their logs, and their output folders."""

import os
import re
from collections.abc import Iterator
from pathlib import Path, PurePath

from cluster.state.experiment import Experiment, Status, Trial, TrialPhase
from cluster.state.state import StudyState
from cluster.transport.manifest import shown
from cluster.transport.shelf import read_manifest
from infra.facts.plain_text import one_line
from infra.local.artifacts import is_awaited, is_on_node, paths_at
from infra.local.home import StudyHome
from trainer.paths import PREDICT, log_name, out_name
from trainer.retention import is_pruned
from trainer.trial import CrashKind, ExperimentId, Rung, TrialId, experiment_id

_STEP = re.compile(r"[a-z0-9-]*")


def find_log(home: StudyHome, state: StudyState, name: str) -> Path | None:
    """Return the log of a trial (`e42.1`), or the latest of an experiment (`e42`).

    Of a trial with a smoke run that is the full run's, once there is one; of one whose predictions
    were of no use, that of what made them of its model. `e42.1-predict` names a step of a trial.
    """
    name, _, step = name.partition("-")
    experiment = state.experiments.get(experiment_id(name))
    if experiment is None or not _STEP.fullmatch(step):
        return None
    controls = (trial for trial in experiment.controls if trial.id == name)
    wanted = [*controls, *(t for t in experiment.trials if name in {experiment.id, t.id})]
    paths = (home.logs / each for trial in reversed(wanted) for each in _log_names(trial, step))
    return next((path for path in paths if os.path.lexists(path)), None)


def _log_names(trial: Trial, step: str) -> Iterator[str]:
    """Yield what the log may be called that is to be shown of a trial, the first choice first."""
    is_of_predictions = trial.outcome is not None and trial.outcome.crash is CrashKind.PREDICTIONS
    for rung in (Rung.FULL, Rung.SMOKE):
        log = PurePath(log_name(trial.id, trial.attempt, rung))
        for each in (step,) if step else (*([PREDICT] if is_of_predictions else []), ""):
            yield log.with_stem(f"{log.stem}-{each}").name if each else log.name


def why_no_log(home: StudyHome, state: StudyState, name: str) -> str:
    """Say why there is no log of a trial, a step of one, or an experiment."""
    trial, _, step = name.partition("-")
    number = experiment_id(trial)
    experiment = state.experiments.get(number)
    if experiment is None:
        return f"there is no experiment {number} (see `incumbent log`)"
    if gone := _pruned(home, experiment, trial):
        return f"the log of {gone.id} was removed to make room: see [keep] disk_gb"
    if step:
        return f"{trial} has no log of a step {step} (`incumbent logs {trial}` shows its latest)"
    return _why_none_yet(experiment, name)


def _why_none_yet(experiment: Experiment, name: str) -> str:
    if experiment.status is Status.REJECTED:
        reason = one_line(experiment.reason)
        return f"{experiment.id} was rejected before it could run: {reason}"
    if there := _running_elsewhere(experiment, name):
        return f"the log of {there.id} has not come from {there.node} yet: try again"
    trials = [each.id for each in experiment.all_trials]
    if name not in {experiment.id, *trials}:
        known = f"its trials are {', '.join(trials)}" if trials else "no trial of it has started"
        return f"there is no trial {name} of {experiment.id}: {known}"
    return f"no trial of {name} has started (see `incumbent log`)"


def _pruned(home: StudyHome, experiment: Experiment, name: str) -> Trial | None:
    wanted = (
        t for t in (*experiment.controls, *experiment.trials) if name in {experiment.id, t.id}
    )
    paths = paths_at(home)
    gone = [t for t in wanted if is_pruned(paths, out_name(t.id, t.attempt))]
    return gone[-1] if gone else None


def is_to_come(state: StudyState, name: str) -> bool:
    """Say whether what is named, an experiment or a trial, is still to print something."""
    experiment = experiment_of(state, name)
    if experiment is None:
        return False
    trials = [t for t in experiment.all_trials if name in {experiment.id, t.id}]
    if not trials:
        return not experiment.status.is_terminal
    return trials[-1].phase in {TrialPhase.QUEUED, TrialPhase.RUNNING}


def experiment_of(state: StudyState, name: str) -> Experiment | None:
    """Return an experiment (`e42`), or that of a trial (`e42.1`); None if there is none such."""
    experiment = state.experiments.get(experiment_id(name))
    if experiment is None:
        return None
    names = {experiment.id, *(trial.id for trial in experiment.all_trials)}
    return experiment if name in names else None


def _running_elsewhere(experiment: Experiment, name: str) -> Trial | None:
    found = (t for t in experiment.all_trials if name in {experiment.id, t.id})
    running = (t for t in found if t.phase is TrialPhase.RUNNING and is_on_node(t.slot))
    return next(running, None)


def paths_of(home: StudyHome, state: StudyState, name: ExperimentId) -> dict[str, str]:
    """Return where the latest log and the latest output of an experiment are, if there are any."""
    experiment = state.experiments[name]
    found = {"log": find_log(home, state, name), "output": _find_out(home, experiment)}
    here = {kind: str(path) for kind, path in found.items() if path}
    return here | _stayed(home, experiment)


def _stayed(home: StudyHome, experiment: Experiment) -> dict[str, str]:
    """Return where on a node further output of the latest trial is, if not all has come back."""
    if not experiment.trials:
        return {}
    latest = experiment.trials[-1]
    found = read_manifest(paths_at(home).returned(out_name(latest.id, latest.attempt)))
    if found is None or not (found.unlisted or any(each.stayed for each in found.files)):
        return {}
    return {"further output": shown(f"{found.node}:{found.folder}")}


def _find_out(home: StudyHome, experiment: Experiment) -> Path | None:
    folders = (home.out / out_name(t.id, t.attempt) for t in reversed(experiment.trials))
    return next((folder for folder in folders if os.path.lexists(folder)), None)


def trial_of(log: Path) -> TrialId:
    """Return the trial that a log is of."""
    return TrialId(log.stem.partition("-")[0])


def is_complete(home: StudyHome, state: StudyState, trial_id: TrialId) -> bool:
    """Say whether all that a trial will ever print is here: it has ended, and it has come back."""
    if is_running(state, trial_id):
        return False
    experiment = state.experiments.get(experiment_id(trial_id))
    trials = experiment.all_trials if experiment else ()
    last = [trial for trial in trials if trial.id == trial_id][-1:]
    return not any(trial.phase is TrialPhase.FINISHED and is_awaited(home, trial) for trial in last)


def is_running(state: StudyState, trial_id: TrialId) -> bool:
    """Say whether a trial still runs."""
    experiment = state.experiments.get(experiment_id(trial_id))
    if experiment is None:
        return False
    running = (t for t in experiment.all_trials if t.phase is TrialPhase.RUNNING)
    return any(trial.id == trial_id for trial in running)
