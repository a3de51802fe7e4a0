"""How odd the conditions of a trial were, told from its outcome and the incumbent's. Pure.

Derived when the outcome is recorded, from the state of that moment: replaying the ledger tells the
same, so there is no event for it.
"""

from collections.abc import Iterator
from statistics import median

from cluster.state.experiment import Experiment
from eval.conditions import Conditions, Mark, marks
from trainer.trial import Ending, TrialOutcome


def marks_of(outcome: TrialOutcome, incumbent: Experiment | None) -> tuple[Mark, ...]:
    """Return the marks of a trial that ended like this while `incumbent` was the best."""
    telemetry = outcome.telemetry
    gpu = telemetry.gpu
    conditions = Conditions(
        wall_s=telemetry.wall_s,
        throttled_s=gpu.throttled_s if gpu else None,
        stranger_mb=gpu.stranger_mb if gpu else None,
        steps_per_s=telemetry.steps_per_s,
    )
    return marks(conditions, usual_steps_per_s=_usual(outcome, incumbent))


def _usual(outcome: TrialOutcome, incumbent: Experiment | None) -> float | None:
    """Return the incumbent's steps a second, over its trials that compare with this one."""
    rates = list(_rates_like(outcome, incumbent)) if incumbent else []
    return median(rates) if rates else None


def _rates_like(outcome: TrialOutcome, experiment: Experiment) -> Iterator[float]:
    kind = (outcome.device_class, outcome.telemetry.step_counter)
    for trial in experiment.trials:
        done = trial.outcome
        if done is None or done.ending is not Ending.SCORED:
            continue
        rate = done.telemetry.steps_per_s
        if rate is not None and (done.device_class, done.telemetry.step_counter) == kind:
            yield rate
