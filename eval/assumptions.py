"""What the Bayesian judge assumes before a study has told it better. Plain data.

Starting values are those of an independent simulation of 40 settings; what a study would lose or
gain by others is in docs/judging.md.
"""

from dataclasses import dataclass

BASELINE_RUNS = 3
"""Of the unmodified baseline: everything rests on its score, and the first noise is theirs."""
MERGED_SHARE, MERGED_SPREAD = 0.9, 0.35
"""What a patch keeps of its effect on another tree, and how much that varies, relatively."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Assumptions:
    """Numbers of eval.bayes and eval.patch_prior."""

    weights: tuple[float, float, float, float] = (0.15, 0.25, 0.42, 0.18)
    """Shares of gains, of what changes nothing, of small and of large harms, at the start."""
    sizes: tuple[float, float, float] = (2.6, 1.6, 8.0)
    """Of gains, small and large harms, in standard deviations of a single run, at the start."""
    weights_count: float = 12.0
    """How many verdicts the starting weights are worth."""
    sizes_count: tuple[float, float, float] = (1.5, 5.0, 5.0)
    """How many gains, small and large harms the starting sizes are worth."""
    memory: float = 0.985
    """What one verdict leaves of the weight of those before: a study's gains become smaller."""
    run_cost: float = 0.3
    """What a run must bring, in expected gains of an average candidate: what the slot would do
    else."""
    known_dof: int = 8
    """Degrees of freedom from which on the noise counts as known: within a quarter."""
    baseline_runs: int = BASELINE_RUNS


AS_SIMULATED = Assumptions()
