"""Facts of the past about labels that nothing is chosen by: the holdout's, and the test's.

They are no part of any experiment's story. See cluster.state.events for all others.
"""

from dataclasses import dataclass

from cluster.state.event import Event
from trainer.trial import CommitId, ExperimentId, TrialId, TrialOutcome


@dataclass(frozen=True, slots=True, kw_only=True)
class HoldoutScored(Event):
    """What a promoted trial left was held against the holdout's labels."""

    experiment: ExperimentId
    trial: TrialId
    validation: float
    """The metric by which this very trial was judged."""
    reported: float | None = None
    """What the Ladder tells (eval.holdout): not the trial's own score, but where that is better by
    more than `step` than all before. Null if it could not be scored."""
    step: float = 0.0
    problem: str = ""
    """Why it could not be scored."""


@dataclass(frozen=True, slots=True, kw_only=True)
class FinalBegun(Event):
    """A full training of one candidate began: `incumbent final`."""

    final: int
    """1 for the study's first; each next has a greater one."""
    experiment: ExperimentId
    commit: CommitId
    seeds: tuple[int, ...]
    settings: str
    """What of the configuration it depends on, as JSON."""


@dataclass(frozen=True, slots=True, kw_only=True)
class FinalRunEnded(Event):
    """One of its trainings came to an end; what was given back or lost leaves no event."""

    final: int
    seed: int
    outcome: TrialOutcome


@dataclass(frozen=True, slots=True, kw_only=True)
class FinalReported(Event):
    """All of its trainings were scored, and it is told what they are worth."""

    final: int
    holdout: tuple[float, ...] = ()
    """By the holdout's labels, one value a training, by order of seeds; empty without."""
    test: tuple[float, ...] = ()
    """By the test labels."""
    labels: str = ""
    """Digest of the test labels (SHA-256, abridged); empty without, and where the report is known
    from its tag alone."""
    looks: int = 0
    """How often these labels were looked at, this time included; 1 if a tag alone says so."""
    problem: str = ""
    """Why there is no value where there should be one."""
