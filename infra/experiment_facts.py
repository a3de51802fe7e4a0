"""Parts of what is told of an experiment, for all that tell it. Pure."""

import math

from cluster.experiment import Experiment
from cluster.state import StudyState
from eval.beliefs import Belief
from infra.fact_records import BeliefFacts, MergeFacts


def score_of(experiment: Experiment | None) -> float | None:
    """Return the mean over an experiment's trials; None without a finite one."""
    score = experiment.score if experiment else None
    return score.mean if score and math.isfinite(score.mean) else None


def belief_facts(belief: Belief | None) -> BeliefFacts | None:
    """Return a belief for programs."""
    return {"mean": belief.mean, "sd": math.sqrt(belief.variance)} if belief else None


def merges_of(state: StudyState, experiment: Experiment) -> list[MergeFacts]:
    """Return every merge of an experiment's patch, those of its merges included, oldest first."""
    carriers = {experiment.id}
    found: list[Experiment] = []
    for other in sorted(state.experiments.values(), key=lambda merge: int(merge.id[1:])):
        if other.merge_of in carriers:
            carriers.add(other.id)
            found.append(other)
    return [
        {
            "experiment": merge.id,
            "status": merge.status.value,
            "onto": merge.base,
            "chain": merge.chain,
            "score": score_of(merge),
            "delta": merge.delta,
            "reason": merge.reason,
        }
        for merge in found
    ]
