"""Parts of what is told of an experiment, for all that tell it. Pure."""

import math
from collections.abc import Iterator

from cluster.policy.reverts import reverted_by
from cluster.state.experiment import Experiment
from cluster.state.state import StudyState
from eval.beliefs import Belief
from infra.facts.fact_records import BeliefFacts, MergeFacts, RevertFacts, ShowFacts
from trainer.trial import ExperimentId, number_of


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
    for other in sorted(state.experiments.values(), key=lambda merge: number_of(merge.id)):
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


def reverts_of(state: StudyState, experiment: Experiment) -> list[RevertFacts]:
    """Return every experiment that takes a patch out of the branch again, oldest first."""
    found = reverted_by(state, experiment)
    return [{"experiment": one.id, "status": one.status.value} for one in found]


def person_commit_of(state: StudyState, experiment: ExperimentId) -> str:
    """Return the commit on the user's branch that an experiment was made of; empty if none."""
    taken = state.person_commits.items()
    return next((tip for tip, became in taken if became.experiment == experiment), "")


def relations(facts: ShowFacts) -> Iterator[tuple[str, str]]:
    """Yield how an experiment is tied to others, each with its name; empty where it is not."""
    yield "your commit", facts["person_commit"]
    yield "merge of", facts["merge_of"]
    yield "merged as", facts["merged_as"]
    yield "reverts", facts["reverts"]
    taken_out = (f"{one['experiment']} ({one['status']})" for one in facts["reverted_by"])
    yield "reverted by", ", ".join(taken_out)
