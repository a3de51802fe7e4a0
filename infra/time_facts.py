"""How trials spend their time, and how they start, as JSON can hold it. Pure."""

from collections import Counter
from statistics import median

from cluster.experiment import Experiment
from infra.fact_records import StartFacts, TimeFacts
from trainer.run_start import Start
from trainer.trial import Ending


def time_spent(experiments: list[Experiment]) -> TimeFacts:
    """Return how the trials of these experiments spent their time."""
    outcomes = [trial.outcome for e in experiments for trial in e.trials if trial.outcome]
    scored = [outcome.stages_s for outcome in outcomes if outcome.ending is Ending.SCORED]
    by_stage: dict[str, list[float]] = {}
    for stages_s in scored:
        for stage, seconds in stages_s.items():
            by_stage.setdefault(stage, []).append(seconds)
    shares = [s["steps"] / s["train"] for s in scored if "steps" in s and s.get("train")]
    return {
        "trials": len(shares) or len(scored),
        "stages_s": {stage: median(seconds) for stage, seconds in by_stage.items()},
        "training_share": median(shares) if shares else None,
    }


def starts(experiments: list[Experiment]) -> StartFacts:
    """Return what had been done for their trials when their turn came."""
    outcomes = [trial.outcome for e in experiments for trial in e.trials if trial.outcome]
    starts = Counter(outcome.start for outcome in outcomes)
    reasons = Counter(outcome.cold_reason for outcome in outcomes if outcome.cold_reason)
    [(reason, count)] = reasons.most_common(1) or [("", 0)]
    return {
        "warm": starts[Start.WARM],
        "gate": starts[Start.GATE],
        "cold": starts[Start.COLD],
        "reason": reason,
        "reason_trials": count,
    }
