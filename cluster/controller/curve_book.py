"""The curves of a study, and which running trials they show to be hopeless.

Knows which trials were finished, reads each of their curves once, and asks the rule once for each
step of a running trial. Keeps no truth: it is told the state at each start, and curves are stored
elsewhere. Whether a hopeless trial is given up is decided by cluster.policy.pruning, from the
state.
"""

from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

from cluster.controller.ports import CurveSource
from cluster.policy.pruning import may_be_given_up
from cluster.state.events import Recorded, TrialFinished
from cluster.state.experiment import Trial
from cluster.state.state import StudyState
from eval.curve import Curve, curve_of
from eval.pruner import MOST_COMPARED, Finished, PruningRule
from trainer.trial import TrialId, experiment_id

LOOK = timedelta(seconds=2)
"""How often running trials are looked at: as often as their workers tell of them."""
Attempt = tuple[TrialId, int]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Asked:
    """What the rule said of a running trial, and when."""

    percent: int = 0
    reason: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Known:
    """A finished trial; its curve is read when it is needed."""

    attempt: Attempt
    device_class: str
    value: float
    curve: Curve | None = None


class CurveBook:
    """Looks at curves for the controller. Implements cluster.controller.ports.Observer."""

    def __init__(self, source: CurveSource, rule: PruningRule, budget_s: float) -> None:
        self._source = source
        self._rule = rule
        self._budget_s = budget_s
        self._finished: deque[_Known] = deque(maxlen=MOST_COMPARED)
        self._asked: dict[Attempt, _Asked] = {}
        self._looked_at: datetime | None = None

    def resume(self, state: StudyState) -> None:
        """See Observer."""
        trials = [t for e in state.experiments.values() for t, _, _ in e.scored]
        for trial in sorted(trials, key=lambda trial: trial.finished_at or trial.queued_at):
            self._add(trial)

    def observe(self, recorded: Recorded, state: StudyState) -> None:
        """See Observer."""
        if isinstance(event := recorded.event, TrialFinished):
            self._asked.pop((event.trial, event.attempt), None)
            self._add(state.experiments[event.experiment].trial(event.trial, event.attempt))

    def close(self) -> None:
        """See Observer; there is nothing to write."""

    def _add(self, trial: Trial) -> None:
        found = trial.outcome
        if found is not None and found.value is not None:
            known = _Known(
                attempt=(trial.id, trial.attempt),
                device_class=found.device_class,
                value=found.value,
            )
            self._finished.append(known)

    def hopeless(self, state: StudyState, now: datetime) -> Mapping[Attempt, str]:
        """Return why running trials that may be given up are hopeless; raises LedgerAway."""
        # At a time before the last look the clock was put back.
        if self._looked_at is None or not self._looked_at <= now < self._looked_at + LOOK:
            self._looked_at = now
            self._asked = dict(self._look(state))
        return {attempt: asked.reason for attempt, asked in self._asked.items() if asked.reason}

    def _look(self, state: StudyState) -> Iterator[tuple[Attempt, _Asked]]:
        for slot in state.slots.values():
            experiment = state.experiments.get(experiment_id(slot.trial))
            if experiment is not None and may_be_given_up(experiment):
                trial = experiment.trials[-1]
                attempt = (trial.id, trial.attempt)
                yield attempt, self._ask(attempt, slot.device_class)

    def _ask(self, attempt: Attempt, device_class: str) -> _Asked:
        known = self._asked.get(attempt, _Asked())
        curve = self._curve(attempt)
        if known.reason or curve.percent <= known.percent:
            return known
        reason = self._rule.reason(curve, self._compared(device_class))
        return _Asked(percent=curve.percent, reason=reason)

    def _compared(self, device_class: str) -> Sequence[Finished]:
        for index, known in enumerate(self._finished):
            if known.curve is None:
                self._finished[index] = replace(known, curve=self._curve(known.attempt))
        return [
            Finished(curve=known.curve, value=known.value)
            for known in self._finished
            if known.curve is not None and known.device_class == device_class
        ]

    def _curve(self, attempt: Attempt) -> Curve:
        return read_curve(self._source, attempt, self._rule.number, self._budget_s)


def read_curve(source: CurveSource, attempt: Attempt, number: str, budget_s: float) -> Curve:
    """Return the curve of a number in one attempt at a trial; raises LedgerAway."""
    told = source.curve(*attempt)
    found = ((p.elapsed_s, p.points[number]) for p in told if number in p.points)
    return curve_of(found, budget_s)
