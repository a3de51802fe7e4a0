"""What a pruning rule would have done to trials that were run without it. Pure.

Time is played again: a trial is held against those that had finished by the moment at which its
curve was seen, and a trial that the rule stops is not there to hold others against. What was run
because of a stopped winner, such as its merges, is not taken back: what would have been run in
their place, nobody knows.
"""

from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from eval.curve import Curve
from eval.pruner import MOST_COMPARED, Finished, PruningRule


@dataclass(frozen=True, slots=True, kw_only=True)
class PastTrial:
    """A trial that was run to its end. Times are in seconds, by one clock."""

    trial: str
    experiment: str
    device_class: str
    started_s: float
    ended_s: float
    curve: Curve
    value: float | None
    """The metric; None if it was not scored."""
    may_be_stopped: bool
    further_s: float = 0.0
    """What further trials of the experiment took, which would not have been run."""
    is_winner: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Stop:
    """A trial that would have been stopped."""

    past: PastTrial
    percent: int
    """How far its curve had got."""
    saved_s: float
    """Seconds of slots, those of the experiment's further trials included."""
    reason: str


def replay(trials: Sequence[PastTrial], rule: PruningRule, budget_s: float) -> list[Stop]:
    """Return what the rule would have stopped, in order of time."""
    looks = sorted(
        (past.started_s + past.curve.at_s(percent, budget_s), index, percent)
        for index, past in enumerate(trials)
        if past.may_be_stopped
        for percent, _ in past.curve.values
    )
    ended = deque(sorted(trials, key=lambda past: past.ended_s))
    finished: dict[str, deque[Finished]] = {}
    stops: dict[str, Stop] = {}
    for at_s, index, percent in looks:
        while ended and ended[0].ended_s <= at_s:
            _finish(ended.popleft(), finished, stops)
        past = trials[index]
        if past.experiment in stops or at_s >= past.ended_s:
            continue
        others = tuple(finished.get(past.device_class, ()))
        if reason := rule.reason(past.curve.until(percent), others):
            saved_s = past.ended_s - at_s + past.further_s
            stops[past.experiment] = Stop(
                past=past, percent=percent, saved_s=saved_s, reason=reason
            )
    return list(stops.values())


def _finish(
    past: PastTrial, finished: dict[str, deque[Finished]], stops: Mapping[str, Stop]
) -> None:
    if past.value is not None and past.experiment not in stops:
        known = finished.setdefault(past.device_class, deque(maxlen=MOST_COMPARED))
        known.append(Finished(curve=past.curve, value=past.value))
