"""What seeds mean for a verdict: runs that share one, and candidates that choose their own. Pure.

A candidate that changes the seed may have found a lucky one, which is no finding. Its first run, on
the seed that it chose, can discard it; to be kept it has to be better on others, and where nobody
can set another, a person has to look.
"""

from collections.abc import Sequence
from dataclasses import replace

from cluster.policy.study_plan import StudyPlan
from cluster.state.experiment import Experiment
from cluster.state.state import StudyState
from eval.judge import Judgement, Verdict
from eval.seed_effects import SeedEffects, seed_effects
from eval.seeds import SeedHabit

_ONE_SEED = "its runs share one seed and tell of repeatability alone"
_SETS_ITS_OWN = frozenset({SeedHabit.FIXED, SeedHabit.WRITTEN})


def told(found: Judgement, experiment: Experiment, plan: StudyPlan) -> Judgement:
    """Return a judgement with what seeds add to it: a word, or one more run."""
    is_lucky = experiment.seeds is not None and not experiment.is_on_other_seeds
    if is_lucky and found.verdict is Verdict.KEEP and not objections(experiment):
        words = f"changes the seed, to be run on another: {found.reason}"
        return replace(found, verdict=Verdict.REPLICATE, reason=words, learnt=None)
    habit = experiment.seeds or plan.seeds
    as_is = sum(not outcome.reseeds for _, outcome, _ in experiment.scored)
    if habit in _SETS_ITS_OWN and as_is > 1:
        return replace(found, reason=f"{found.reason}; {_ONE_SEED}")
    return found


def objections(experiment: Experiment) -> tuple[str, ...]:
    """Return why a candidate that changes the seed cannot be kept; to be asked if it would be."""
    repeats = (run for run in experiment.scored if run[0].id != experiment.chosen_run)
    is_fixed = experiment.seeds is SeedHabit.FIXED
    is_fixed |= experiment.seeds is SeedHabit.WRITTEN and any(not o.reseeds for _, o, _ in repeats)
    return ("it changes the seed, and nothing can set another one for it",) if is_fixed else ()


def effects(
    state: StudyState, plan: StudyPlan, kind: str, measured: Sequence[Experiment]
) -> SeedEffects | None:
    """Return what other experiments tell of the seeds that some were run with on a device class.

    None where it is not certain that each trial ran with the seed that it was told: the repository
    does not read it, or a patch of theirs or of the branch changed how it is set.
    """
    branch = (state.experiments[promoted] for promoted in state.lineage)
    if plan.seeds is not SeedHabit.TAKEN or any(one.seeds for one in (*measured, *branch)):
        return None
    own = {one.id for one in measured}
    others = (state.experiments[name] for name in state.replicated if name not in own)
    runs = [one.scored_on(kind) for one in others if not one.seeds]
    return seed_effects(
        [[(trial.seed, value) for trial, _, value in scored] for scored in runs if len(scored) > 1],
        first=1,
    )
