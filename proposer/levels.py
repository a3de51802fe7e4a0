"""How good the code of a result's base was, so that results on several bases can be compared.

Pure. A change of constants moves within one landscape, and its scores compare as they are. Another
kind of win, a model's patch say, moves to another landscape: what is measured there is better by
about what the patch won, whatever its constants are. That is taken off again, or an optimiser would
take "measured late" for "good constants" (docs/decisions/026-tuner.md).
"""

from collections.abc import Mapping, Sequence

from eval.metric import Goal
from proposer.proposal import Past
from trainer.trial import ExperimentId

_KEPT = "kept"
"""Status of what others were made on: an incumbent, of now or of before."""


class Levels:
    """The level of each experiment's code over the first one's, in the metric's unit.

    A lineage is an incumbent whose patch changed more than constants, and all that was built on it
    by changes of constants alone. The first has level 0, as has what no history tells of.
    """

    def __init__(self, history: Sequence[Past] = (), goal: Goal = Goal.MINIMIZE) -> None:
        self._past: Mapping[ExperimentId, Past] = {past.experiment: past for past in history}
        self._sign = -1.0 if goal is Goal.MINIMIZE else 1.0
        self._known: dict[ExperimentId, float] = {}

    @property
    def wins(self) -> tuple[Past, ...]:
        """All that levels are made of: what was built on."""
        return tuple(past for past in self._past.values() if past.status == _KEPT)

    def of(self, experiment: ExperimentId) -> float:
        """Return the level of the code that an experiment ran, at any constants."""
        chain: list[Past] = []
        at, seen = experiment, set[ExperimentId]()
        while at not in self._known and at in self._past and at not in seen:
            seen.add(at)
            chain.append(self._past[at])
            at = self._past[at].base
        level = self._known.get(at, 0.0)
        for past in reversed(chain):
            level += 0.0 if past.parameters else self._won(past)
            self._known[past.experiment] = level
        return level

    def _won(self, past: Past) -> float:
        """Return by how much the metric moved with a change of code."""
        base = self._past.get(past.base)
        if base is None or past.experiment == past.base:
            return 0.0
        if past.effect is not None:
            return self._sign * past.effect
        if past.value is None or base.value is None:
            return 0.0
        return past.value - base.value
