"""The sections of `incumbent.toml` that eval owns: metric, guards, judge and pruner."""

import re
from typing import Annotated, Literal

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    field_validator,
    model_validator,
)

from eval.bayes import BayesJudge
from eval.guard import Guard
from eval.judge import GreedyJudge, Judge
from eval.ladder import Step
from eval.metric import MOST, Goal, Metric
from eval.sequential import SequentialJudge


def one_group(pattern: str) -> str:
    """Return a pattern that has one group; raises ValueError, in words that follow its key."""
    if not pattern:
        return pattern  # the default, which depends on the name
    try:
        groups = re.compile(pattern).groups
    except re.error as error:
        raise ValueError(f"is not a regular expression: {error}") from error
    if groups != 1:
        raise ValueError(f"must have exactly one group, the number; it has {groups}")
    return pattern


class MetricConfig(BaseModel):
    """`[metric]`: the number to improve and where it is printed."""

    model_config = ConfigDict(
        extra="forbid", frozen=True, strict=True, use_attribute_docstrings=True
    )

    name: Annotated[str, Field(pattern=r"^[A-Za-z_][\w.@-]*$", max_length=64)]
    """Name of the metric, as the log and `results.tsv` call it."""
    goal: Literal["minimize", "maximize"]
    """The direction in which it improves."""
    pattern: Annotated[str, AfterValidator(one_group)] = ""
    """Regular expression with one group, searched in each line; default `^name:\\s+(\\S+)`."""
    plausible: tuple[float, ...] = ()
    """`[lo, hi]`: a better value outside is not kept before somebody has looked; default any."""
    source: Literal["printed", "predictions"] = "printed"
    """`printed`: read from the trial's output; `predictions`: computed by `[score]` from labels."""

    @field_validator("plausible")
    @classmethod
    def _is_a_range(cls, bounds: tuple[float, ...]) -> tuple[float, ...]:
        if not bounds:
            return bounds
        if len(bounds) != 2 or not -MOST <= bounds[0] < bounds[1] <= MOST:
            raise ValueError("must be two numbers, the least and the greatest, e.g. [0.5, 3.0]")
        return bounds

    def metric(self) -> Metric:
        """Return the record the rest of the program uses."""
        pattern = self.pattern or rf"^{re.escape(self.name)}:\s+(\S+)"
        plausible = (self.plausible[0], self.plausible[1]) if self.plausible else None
        return Metric(name=self.name, goal=Goal(self.goal), pattern=pattern, plausible=plausible)


class GuardConfig(BaseModel):
    """`[[guard]]`: a bound on another number that runs print; a breach is a discard."""

    model_config = ConfigDict(
        extra="forbid", frozen=True, strict=True, use_attribute_docstrings=True
    )

    name: Annotated[str, Field(pattern=r"^[A-Za-z_][\w.]*$", max_length=64)]
    """Name of the number, as a `name: value` line of the log has it."""
    min: float | None = None
    """Smallest value that is allowed."""
    max: float | None = None
    """Largest value that is allowed."""

    @model_validator(mode="after")
    def _is_a_bound(self) -> "GuardConfig":
        if self.min is None and self.max is None:
            raise ValueError("needs a min, a max or both")
        if self.min is not None and self.max is not None and self.min > self.max:
            raise ValueError(f"min ({self.min:g}) must not be above max ({self.max:g})")
        return self

    def guard(self) -> Guard:
        """Return the record the rest of the program uses."""
        return Guard(name=self.name, low=self.min, high=self.max)


class JudgeConfig(BaseModel):
    """`[judge]`: how a measured candidate is judged."""

    model_config = ConfigDict(
        extra="forbid", frozen=True, strict=True, use_attribute_docstrings=True
    )

    policy: Literal["greedy", "bayes", "sequential"] = "bayes"
    """`greedy`: any improvement is kept, as in plain autoresearch; `bayes`: what is expected to be
    worth more than its `price`; `sequential`: what fresh runs prove at `confidence`."""
    price: Annotated[float, Field(ge=0, le=100)] | Literal["auto"] = "auto"
    """Under `bayes`, of keeping a patch for nothing, in standard deviations of a run; `auto` is 0.3
    below 8 slots and 1 from there; 3 keeps a clean branch."""
    confidence: Annotated[float, Field(gt=0, lt=1)] = 0.95
    """Under `sequential`, 1 less the share of false promotions among all."""
    max_replicates: Annotated[int, Field(ge=2, le=100)] = 6
    """Runs of one candidate, at most; `greedy` asks for one."""
    reference_class: Annotated[str, Field(max_length=200)] = ""
    """Device class whose scores promote, as `incumbent status --json` names it; the others screen
    for it. Empty takes the one with most slots when the baseline is measured; it stays."""
    control_every: Annotated[int, Field(ge=0)] = 50
    """After so many trials on a slot the incumbent is run there again, to see whether the slot has
    drifted; 0 is never."""
    replicate_share: Annotated[float, Field(ge=0, le=1)] = 0.3
    """Of the time on slots, what further runs of candidates may take; beyond it they wait, until a
    slot would be idle otherwise."""
    simplicity: bool = True
    """Keep a candidate that is shorter: under `greedy` if it is equal, under `bayes` if it is very
    probably no worse, never under `sequential`."""

    def judge(self, metric: Metric) -> Judge:
        """Build the judge of this policy."""
        if self.policy == "bayes":
            return BayesJudge(
                metric=metric,
                price=None if self.price == "auto" else self.price,
                max_replicates=self.max_replicates,
                simplicity=self.simplicity,
            )
        if self.policy == "sequential":
            return SequentialJudge(
                metric=metric, confidence=self.confidence, max_replicates=self.max_replicates
            )
        return GreedyJudge(metric=metric, simplicity=self.simplicity)


class PrunerConfig(BaseModel):
    """`[pruner]`: whether a trial is stopped when its curve is hopeless against finished ones."""

    model_config = ConfigDict(
        extra="forbid", frozen=True, strict=True, use_attribute_docstrings=True
    )

    kind: Literal["none", "median", "percentile", "patient", "wilcoxon", "flat"] = "none"
    """`none`: all trials run to their end; `median`: a trial is stopped if the best of its curve is
    behind the median of finished trials at that moment; `percentile`: behind the best `percentile`
    of 100; `patient`: as `median`, once its curve has stood still for `patience`; `wilcoxon`: if
    its whole curve is behind that of the best trial, by a signed-rank test; `flat`: once its curve
    has stood still for `patience`, however good it is."""
    curve: Annotated[str, Field(pattern=r"^[A-Za-z_][\w./-]*$", max_length=64)] = "loss"
    """Number that is compared, as progress lines name it."""
    goal: Literal["minimize", "maximize"] = "minimize"
    """The direction in which that number improves, whatever `[metric] goal` is."""
    warmup: Annotated[float, Field(ge=0, lt=1)] = 0.3
    """Share of the budget in which no trial is stopped."""
    least: Annotated[int, Field(ge=1, le=100)] = 5
    """Finished trials there must be before any is stopped."""
    percentile: Annotated[float, Field(gt=0, lt=100)] = 75.0
    """Under `percentile`, so many of 100 finished trials a trial must be among, the best first."""
    patience: Annotated[float, Field(gt=0, lt=1)] = 0.2
    """Under `patient` and `flat`, the share of the budget in which a curve may stand still."""
    p_threshold: Annotated[float, Field(gt=0, lt=0.5)] = 0.05
    """Under `wilcoxon`, the probability of error of one look; there are up to 20."""


class RungConfig(BaseModel):
    """`[[rung]]`: a run with a part of the budget, after which the best candidates alone go on."""

    model_config = ConfigDict(
        extra="forbid", frozen=True, strict=True, use_attribute_docstrings=True
    )

    budget_s: Annotated[float, Field(gt=0)]
    """What the script aims at there, in seconds: more than on the rung before, and less than
    `[trial] budget_s`."""
    keep: Annotated[float, Field(gt=0, lt=1)] = 0.33
    """Share of the candidates that completed the rung which go on, the best first."""

    def step(self) -> Step:
        """Return the record the rest of the program uses."""
        return Step(budget_s=self.budget_s, keep=self.keep)
