"""What of its configuration a study is shown against, read without what checks configurations."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from eval.ladder import Step
from infra.local.home import StudyHome

if TYPE_CHECKING:  # which takes long to import, for a command that reads
    from cluster.config import StudyConfig


@dataclass(frozen=True, slots=True, kw_only=True)
class Bounds:
    """A study's limits and rungs."""

    limits: Mapping[str, float] = field(default_factory=dict)
    """Those that are set, by their keys under `[limits]`."""
    rungs: Sequence[Step] = ()
    """The lowest budget first."""


def bounds_of(config: "StudyConfig") -> Bounds:
    """Return those of a configuration."""
    limits = {name: value for name, value in config.limits.model_dump().items() if value}
    return Bounds(limits=limits, rungs=config.rungs())


def bounds_if_any(home: StudyHome) -> Bounds:
    """Return those that the study was last started with; none of one that never ran.

    Nor of one that another version started and whose settings are told otherwise: its next
    `incumbent run` says what is the matter.
    """
    try:
        settings = json.loads(home.settings.read_text("utf-8"))
        limits = {name: value for name, value in settings["limits"].items() if value}
        rungs = tuple(
            Step(budget_s=rung["budget_s"], keep=rung["keep"]) for rung in settings["rung"]
        )
    except (OSError, ValueError, LookupError, TypeError, AttributeError):
        return Bounds()
    return Bounds(limits=limits, rungs=rungs)
