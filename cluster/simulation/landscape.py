"""What an imaginary research repository is like: how patches turn out, how noisy runs are.

The landscapes that come with Incumbent are TOML files beside this module. They were written down
before any judge was tried on them, from published runs where there are such, and are not to be
changed so that a policy looks better.
"""

import json
import tomllib
from pathlib import Path
from typing import Annotated, Any, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

Share = Annotated[float, Field(ge=0, le=1)]
Positive = Annotated[float, Field(gt=0, le=1e9)]
NotNegative = Annotated[float, Field(ge=0, le=1e9)]

_STRICT = ConfigDict(extra="forbid", frozen=True, strict=True, use_attribute_docstrings=True)


class LandscapeProblem(ValueError):
    """A landscape that there is none of, or that cannot be read; the message says what to do."""


class Runs(BaseModel):
    """`[runs]`: what happens on a slot."""

    model_config = _STRICT

    seconds: Positive
    """How long a run takes, from lease to report."""
    spread: Annotated[float, Field(ge=0, le=0.5)]
    """Standard deviation of that, relative."""
    noise: NotNegative
    """Standard deviation between two runs of the same code, in the metric's unit."""
    seed_share: Share = 0.0
    """Of that variance, what all runs of one seed have in common, whatever their code."""
    crashed: Share
    """Of all candidates, those that crash, on each of their runs."""
    crash_at: Share
    """How far into its run a crash comes."""
    astray: NotNegative = 0.001
    """How far half a run is off the score that it leads to: a standard deviation, in its unit."""


class Gains(BaseModel):
    """`[gains]`: patches that help."""

    model_config = _STRICT

    share: Share
    """Of all candidates."""
    mean: Positive
    """Mean improvement on an unmodified baseline, in the metric's unit."""
    shape: Annotated[float, Field(ge=0.2, le=5)]
    """Shape of the Weibull distribution of improvements: 1 is exponential, less a longer tail."""
    ceiling: Positive
    """What all patches together could gain at most: gains shrink as this comes nearer."""


class Harms(BaseModel):
    """`[harms]`: patches that do damage. What is neither gain nor harm changes nothing."""

    model_config = _STRICT

    small_share: Share
    """Of all candidates."""
    small_mean: Positive
    """Mean damage, exponential, in the metric's unit."""
    large_share: Share
    """Of all candidates."""
    large_mean: Positive
    """Mean damage, exponential, in the metric's unit."""


class Together(BaseModel):
    """`[together]`: two patches of which neither was made with the other in view."""

    model_config = _STRICT

    conflicting: Share
    """Of all such pairs, those that git cannot merge."""
    clashing: Share
    """Of all such pairs, those that merge but get in each other's way."""
    cost: NotNegative
    """What a clash takes, in gains of the lesser patch: 1 is two patches with one idea."""


class Surroundings(BaseModel):
    """`[surroundings]`: what slots wait for."""

    model_config = _STRICT

    latency_s: NotNegative
    """How long the proposer takes for an answer, however many candidates it holds."""
    losses_per_hour: NotNegative
    """How often an hour a slot is lost with what it runs."""
    away_s: NotNegative
    """How long a lost slot stays away."""


class Landscape(BaseModel):
    """All that a simulation knows of a repository; lower scores are better."""

    model_config = _STRICT

    about: str
    """One line for people."""
    baseline: float
    """True score of the unmodified repository."""
    runs: Runs
    gains: Gains
    harms: Harms
    together: Together
    surroundings: Surroundings

    @model_validator(mode="after")
    def _are_shares(self) -> Self:
        if self.gains.share + self.harms.small_share + self.harms.large_share > 1:
            raise ValueError("the shares of gains and harms must add up to at most 1")
        return self

    def changed(self, **changes: Any) -> Self:  # noqa: ANN401 - model_copy takes any field
        """Return this landscape with other values for some fields, e.g. `runs__noise`."""
        new = self.model_dump()
        for path, value in changes.items():
            section, _, name = path.partition("__")
            new[section][name] = value
        return type(self).model_validate(new)


SECTIONS: tuple[type[BaseModel], ...] = (Runs, Gains, Harms, Together, Surroundings)


def landscapes() -> tuple[str, ...]:
    """Return the names of the landscapes that come with Incumbent."""
    return tuple(sorted(path.stem for path in _FOLDER.glob("*.toml")))


def load_landscape(name: str) -> Landscape:
    """Return a landscape by its name, or by the path of a file that ends in .toml.

    Raises:
        LandscapeProblem: there is no such landscape, or it says what cannot be.
    """
    path = Path(name) if name.endswith(".toml") else _FOLDER / f"{name}.toml"
    if not name.endswith(".toml") and name not in landscapes():
        known = ", ".join(landscapes())
        raise LandscapeProblem(f"there is no landscape {name!r}: use one of {known}, or FILE.toml")
    try:
        # Strict models take an int for a float from JSON alone.
        return Landscape.model_validate_json(json.dumps(tomllib.loads(path.read_text("utf-8"))))
    except ValidationError as error:
        found = error.errors(include_url=False)[0]
        where = ".".join(str(part) for part in found["loc"])
        raise LandscapeProblem(f"{name}: {where or 'landscape'}: {found['msg']}") from None
    except (OSError, ValueError, TypeError) as error:  # no file, not UTF-8, not TOML, a date
        why = error.strerror if isinstance(error, OSError) else error
        raise LandscapeProblem(f"{name}: cannot be read: {why}") from None


_FOLDER = Path(__file__).parent / "landscapes"
