"""The sections of `incumbent.toml` that proposer owns: `[[proposer]]` and `[tuner]`."""

from collections.abc import Mapping
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

Scalar = bool | int | float | str


class ProposerConfig(BaseModel):
    """`[[proposer]]`: one source of candidates."""

    model_config = ConfigDict(
        extra="forbid", frozen=True, strict=True, use_attribute_docstrings=True
    )

    kind: Literal["tuner"]
    """`tuner`: an optimiser over the constants in the editable files."""


class SpaceConfig(BaseModel):
    """`[tuner.space.NAME]`: the range of one constant, where the default range will not do."""

    model_config = ConfigDict(
        extra="forbid", frozen=True, strict=True, use_attribute_docstrings=True
    )

    low: float | int | None = None
    """Smallest value."""
    high: float | int | None = None
    """Largest value."""
    log: bool = False
    """Sample on a logarithmic scale."""
    step: float | int | None = None
    """Distance between values."""
    choices: tuple[Scalar, ...] = ()
    """The only values to try; excludes low and high."""

    @model_validator(mode="after")
    def _is_consistent(self) -> "SpaceConfig":
        if bool(self.choices) == (self.low is not None or self.high is not None):
            raise ValueError("needs either choices, or low and high")
        if not self.choices:
            if self.low is None or self.high is None:
                raise ValueError("needs both low and high")
            if self.low >= self.high:
                raise ValueError(f"low ({self.low:g}) must be below high ({self.high:g})")
            if self.log and self.low <= 0:
                raise ValueError("a log range must start above 0")
            if self.log and self.step is not None:
                raise ValueError("a log range takes no step")
        return self


class TunerConfig(BaseModel):
    """`[tuner]`: how the optimiser searches."""

    model_config = ConfigDict(
        extra="forbid", frozen=True, strict=True, use_attribute_docstrings=True
    )

    sampler: Literal["tpe", "random", "grid", "cmaes", "gp"] = "tpe"
    """Optuna's sampler; `grid` walks the grid points near the incumbent instead."""
    exclude: tuple[str, ...] = ()
    """Constants that the tuner leaves alone."""
    most_changes: Annotated[int, Field(ge=1)] = 4
    """At most this many constants differ from the incumbent in one candidate."""
    space: Mapping[str, SpaceConfig] = Field(default_factory=dict)
    """Ranges by constant name."""
