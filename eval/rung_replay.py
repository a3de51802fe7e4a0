"""What rungs would have done to trials that were run without them. Pure.

An approximation: what a run on a rung would have reached is taken to be what the curve of the full
run showed after that time. A script that plans its learning rate by its budget cools down on the
rung as well, and reaches something else.
"""

import heapq
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from eval.ladder import MOST_COMPARED, Standing, Step
from eval.metric import Goal
from eval.pruning_replay import PastTrial, Stop


@dataclass(frozen=True, slots=True, kw_only=True)
class RungReplay:
    """What came of it."""

    stops: Sequence[Stop]
    """Trials that would never have been run in full, in order of time."""
    rungs_s: float
    """Seconds of slots that all the runs on rungs would have taken."""


@dataclass(slots=True)
class _Rung:
    """A rung, for one device class."""

    step: Step
    reached: dict[int, float] = field(default_factory=dict)
    """By trial, in order: what it reached."""
    stopped: dict[int, Stop] = field(default_factory=dict)

    def standing(self, trial: int, goal: Goal) -> Standing | None:
        """Return where a trial stands; None if others are held against it no more."""
        known = list(self.reached)[-MOST_COMPARED:]
        if trial not in known:
            return None
        others = [self.reached[other] for other in known if other != trial]
        return self.step.standing(self.reached[trial], others, goal)


def replay_rungs(
    trials: Sequence[PastTrial], steps: Sequence[Step], goal: Goal, budget_s: float
) -> RungReplay:
    """Play a study again with rungs, each trial beginning on the first when it was started.

    Args:
        trials: with the curves of the full runs; those that may not be stopped have no rungs.
        steps: the rungs, the lowest budget first.
        goal: the direction in which the curves improve.
        budget_s: of the full runs, in seconds.
    """
    rungs: dict[tuple[int, str], _Rung] = {}
    agenda = [
        (past.started_s + _wall_s(past, steps[0], budget_s), index, 0)
        for index, past in enumerate(trials)
        if past.may_be_stopped
    ]
    heapq.heapify(agenda)
    rungs_s = 0.0
    while agenda:
        at_s, index, level = heapq.heappop(agenda)
        past, step = trials[index], steps[level]
        value = _value(past, step, budget_s)
        if value is None:  # it failed by then, as it would have on the rung
            continue
        rungs_s += _wall_s(past, step, budget_s)
        rung = rungs.setdefault((level, past.device_class), _Rung(step=step))
        rung.reached[index] = value
        rung.stopped[index] = _stop(past, step, budget_s)
        for risen in list(_going_on(rung, goal)):
            del rung.stopped[risen]
            if level + 1 < len(steps):
                higher_s = at_s + _wall_s(trials[risen], steps[level + 1], budget_s)
                heapq.heappush(agenda, (higher_s, risen, level + 1))
    found = [
        _with_reason(stop, rung.standing(index, goal))
        for rung in rungs.values()
        for index, stop in rung.stopped.items()
    ]
    return RungReplay(stops=sorted(found, key=lambda stop: stop.past.started_s), rungs_s=rungs_s)


def _going_on(rung: _Rung, goal: Goal) -> Iterator[int]:
    """Yield who goes on now: the one that came last, or those that rise because of it."""
    for index in rung.stopped:
        standing = rung.standing(index, goal)
        if standing is not None and standing.goes_on:
            yield index


def _wall_s(past: PastTrial, step: Step, budget_s: float) -> float:
    """Return what a run on a rung takes: what goes beyond the budget in full does so there too."""
    return step.budget_s + max(0.0, past.ended_s - past.started_s - budget_s)


def _value(past: PastTrial, step: Step, budget_s: float) -> float | None:
    """Return what the curve showed after a rung's time; None if it did not get so far."""
    percent = int(100 * step.budget_s / budget_s)
    known = past.curve.until(percent)
    is_there = bool(known.values) and past.ended_s - past.started_s >= step.budget_s
    return known.last if is_there else None


def _stop(past: PastTrial, step: Step, budget_s: float) -> Stop:
    return Stop(
        past=past,
        percent=int(100 * step.budget_s / budget_s),
        saved_s=past.ended_s - past.started_s + past.further_s,
        reason="",
    )


def _with_reason(stop: Stop, standing: Standing | None) -> Stop:
    reason = standing.reason if standing else "others came after it"
    return Stop(past=stop.past, percent=stop.percent, saved_s=stop.saved_s, reason=reason)
