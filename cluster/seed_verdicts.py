"""What seeds mean for a verdict: runs that share one tell less than they seem to. Pure."""

from dataclasses import replace

from cluster.experiment import Experiment
from cluster.study_plan import StudyPlan
from eval.judge import Judgement
from eval.seeds import SeedHabit

_ONE_SEED = "its runs share one seed and tell of repeatability alone"
_SETS_ITS_OWN = frozenset({SeedHabit.FIXED, SeedHabit.WRITTEN})


def told(found: Judgement, experiment: Experiment, plan: StudyPlan) -> Judgement:
    """Return a judgement with a word on runs that share one seed."""
    as_is = sum(not outcome.reseeds for _, outcome, _ in experiment.scored)
    if plan.seeds in _SETS_ITS_OWN and as_is > 1:
        return replace(found, reason=f"{found.reason}; {_ONE_SEED}")
    return found
