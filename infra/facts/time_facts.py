"""What the time of slots and of trials went into, as JSON can hold it. Pure."""

from collections import Counter
from statistics import median

from cluster.state.experiment import Experiment
from cluster.state.slot_time import SlotTime
from infra.facts.fact_records import SpentFacts, StartFacts, TimeFacts
from trainer.run_start import Start
from trainer.trial import Ending


def spent_facts(spent: SlotTime) -> SpentFacts:
    """Return how the hours of slots divide."""
    return {
        "search": spent.search / 3600,
        "replicates": spent.replicates / 3600,
        "merges": spent.merges / 3600,
        "controls": spent.controls / 3600,
    }


def stage_facts(experiments: list[Experiment]) -> TimeFacts:
    """Return how the scored trials of these spent their time."""
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


def start_facts(experiments: list[Experiment]) -> StartFacts:
    """Return what had been done for the trials of these when their turn came."""
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
