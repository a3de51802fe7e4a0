"""The sections of `incumbent.toml` that eval owns: `[metric]` and `[judge]`."""

import re
from typing import Annotated, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field

from eval.judge import GreedyJudge, Judge
from eval.metric import Goal, Metric


def _one_group(pattern: str) -> str:
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
    pattern: Annotated[str, AfterValidator(_one_group)] = ""
    """Regular expression with one group, searched in each line; default `^name:\\s+(\\S+)`."""
    source: Literal["printed"] = "printed"
    """`printed`: read from the trial's output."""

    def metric(self) -> Metric:
        """Return the record the rest of the program uses."""
        pattern = self.pattern or rf"^{re.escape(self.name)}:\s+(\S+)"
        return Metric(name=self.name, goal=Goal(self.goal), pattern=pattern)


class JudgeConfig(BaseModel):
    """`[judge]`: how a measured candidate is judged."""

    model_config = ConfigDict(
        extra="forbid", frozen=True, strict=True, use_attribute_docstrings=True
    )

    policy: Literal["greedy"] = "greedy"
    """`greedy`: any improvement is kept, as in plain autoresearch."""
    simplicity: bool = True
    """Keep a candidate that is equal and shorter."""

    def judge(self, metric: Metric) -> Judge:
        """Build the judge of this policy."""
        return GreedyJudge(metric=metric, simplicity=self.simplicity)
