"""What is told of trials, as JSON can hold it. Pure."""

import math
from collections.abc import Iterable
from datetime import datetime

from cluster.ledger.codec import to_plain
from cluster.state.experiment import Experiment, Status, Trial
from eval.conditions import Mark
from infra.facts.fact_records import TrialFacts


def crash_of(experiment: Experiment) -> str:
    """Return what kind of crash an experiment ended in; empty if it did not crash."""
    outcome = experiment.trials[-1].outcome if experiment.trials else None
    has_crashed = experiment.status is Status.CRASHED
    return outcome.crash.value if has_crashed and outcome and outcome.crash else ""


def marks_of(trials: Iterable[Trial]) -> list[str]:
    """Return what was odd about the conditions of any of these trials."""
    found = {mark for trial in trials for mark in trial.marks}
    return [mark.value for mark in Mark if mark in found]


def trial_facts(trial: Trial) -> TrialFacts:
    """Return one attempt at one execution."""
    return {
        "trial": trial.id,
        "attempt": trial.attempt,
        "phase": trial.phase.value,
        "seed": trial.seed,
        "slot": trial.slot,
        "node": trial.node,
        "queued_at": trial.queued_at.isoformat(),
        "started_at": iso(trial.started_at),
        "finished_at": iso(trial.finished_at),
        "seconds": trial.seconds,
        "rung_s": trial.rung_s,
        "marks": marks_of([trial]),
        "set_aside": trial.is_set_aside,
        "outcome": _outcome(trial),
    }


def _outcome(trial: Trial) -> dict[str, object] | None:
    if trial.outcome is None:
        return None
    plain: dict[str, object] = to_plain(trial.outcome)
    # A script may print 1e999, which is infinite, and JSON holds no such number.
    plain["metrics"] = {k: finite(v) for k, v in trial.outcome.metrics.items()}
    return plain


def finite(value: float | None) -> float | None:
    """Return a number that JSON can hold, or None."""
    return value if value is not None and math.isfinite(value) else None


def iso(at: datetime | None) -> str | None:
    """Return a time as JSON can hold it, or None."""
    return at.isoformat() if at else None
