"""Whether a score can have been earned, as far as plain signs tell. Pure.

A candidate prints its own metric (`[metric] source = "printed"`), so it can print whatever it
likes: no rule that reads its output can hold against one that means to deceive. These rules find
the plain cases, which are most of what machines that write patches come up with: a number printed
before there was anything to measure, a second number behind the real one, a run that took no time,
a value that cannot be, an evaluation file rewritten on the way.

A suspicion is no verdict. It costs a person a look, so the rules would rather miss than cry wolf:
what the unmodified baseline does, or the experiment that a candidate was made on, which was found
or accepted to be honest, is a habit and no reason. A script that prints its metric each epoch, or
rewrites a tracked results file each time, is thus left in peace.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from eval.metric import Metric

MEASURABLE_S = 1.0
"""Of shorter runs the clock says nothing: a busy machine's hiccups are of that order."""
EARLY = 0.1
"""A value that was printed last within the first tenth of its run, where the precedents' came at
least `EARLIER` times later in theirs. Honest scripts evaluate at the end, karpathy's at 0.99 of
the run; start, imports and compiling alone take a tenth of most runs below ten minutes."""
EARLIER = 3.0
QUICK_BUDGET = 0.5
"""Where scripts train by the clock, nothing but giving up shortens a run; half allows for caches
that a first run had to fill."""
QUICK = 0.1
"""Where they do not, a smaller model or fewer steps make a run honestly shorter, several times."""
BY_THE_CLOCK = 0.8
"""A precedent that took this share of the budget, or more, trains by the clock."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Conduct:
    """How a scored run behaved: facts of its log, its clock and its files, without opinion."""

    wall_s: float = 0.0
    """From its start to its end; 0 if unknown."""
    value_at_s: float | None = None
    """When the value that counts, the last one, was printed, from the start on; None if unknown."""
    first_step_s: float | None = None
    """When a line first counted steps, from the start on; None unless steps were counted twice."""
    final_values: int = 1
    """Different values printed after the last line that counts steps, as far as there are such
    lines, and at least those within the second before the last value, that included."""
    frozen: tuple[str, ...] = ()
    """What became of frozen files meanwhile, in words: "prepare.py was changed"."""
    frozen_unchecked: int = 0
    """Frozen files of which the size alone was compared, or nothing: there was too much."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """A scored run with what it took place on."""

    value: float
    device_class: str
    conduct: Conduct


def suspicions(
    run: Run, precedents: Sequence[Run], *, metric: Metric, budget_s: float
) -> tuple[str, ...]:
    """Return why a run's value may not have been earned, in words; empty if nothing speaks for it.

    To be asked of a run that would be judged better.

    Args:
        run: the run in question.
        precedents: runs that are taken for honest: of the baseline, and of what it was made on.
        metric: what is measured, and what values it can have.
        budget_s: what scripts are told to aim at, in seconds.
    """
    return (
        *implausible(run.value, metric),
        *_melted(run.conduct, precedents),
        *_early(run.conduct, precedents),
        *_untrained(run, precedents),
        *_several(run.conduct, precedents),
        *_quick(run, precedents, budget_s),
    )


def implausible(value: float, metric: Metric) -> tuple[str, ...]:
    """Return in words that a value lies outside the range that the user gave, if it does."""
    if metric.plausible is None or metric.plausible[0] <= value <= metric.plausible[1]:
        return ()
    low, high = metric.plausible
    return (f"{value:.6g} lies outside [metric] plausible = [{low:g}, {high:g}]",)


def _melted(conduct: Conduct, precedents: Sequence[Run]) -> Iterator[str]:
    usual = {text for precedent in precedents for text in precedent.conduct.frozen}
    for text in conduct.frozen:
        if text not in usual:
            yield f"{text} while the trial ran"


def _early(conduct: Conduct, precedents: Sequence[Run]) -> Iterator[str]:
    share = _share(conduct)
    usual = [s for p in precedents if (s := _share(p.conduct)) is not None]
    if share is None or not usual:
        return
    if share < EARLY and EARLIER * share < min(usual):
        yield (
            f"its value was printed {conduct.value_at_s:.1f} s into a run of {conduct.wall_s:.1f} "
            f"s, before anything can have been trained"
        )


def _untrained(run: Run, precedents: Sequence[Run]) -> Iterator[str]:
    """Where most of a run is its start, a value may be neither early nor quick, and yet untrained.

    That is one before which no steps were counted, and which came sooner after the time at which
    training begins than a usual one by `EARLIER` times.
    """
    counted = [p.conduct for p in precedents if p.device_class == run.device_class]
    usual = [(c.first_step_s, s) for c in counted if (s := _training_s(c)) is not None]
    value_at_s = run.conduct.value_at_s
    if not usual or len(usual) < len(counted) or value_at_s is None:
        return
    begins_s, training_s = min(begin for begin, _ in usual if begin), min(s for _, s in usual)
    is_trained = _training_s(run.conduct) is not None
    if is_trained or training_s < MEASURABLE_S or next(_early(run.conduct, precedents), ""):
        return
    if EARLIER * (value_at_s - begins_s) < training_s:
        yield f"its value was printed {value_at_s:.1f} s into the run, with no step counted before"


def _training_s(conduct: Conduct) -> float | None:
    """Return the seconds from the first step to the value; None if none was counted before it."""
    if conduct.first_step_s is None or conduct.value_at_s is None:
        return None
    training_s = conduct.value_at_s - conduct.first_step_s
    return training_s if training_s > 0 and conduct.first_step_s > 0 else None


def _share(conduct: Conduct) -> float | None:
    """Return how far into its run the value was printed; None where the clock says nothing."""
    if conduct.value_at_s is None or conduct.wall_s < MEASURABLE_S:
        return None
    return conduct.value_at_s / conduct.wall_s


def _several(conduct: Conduct, precedents: Sequence[Run]) -> Iterator[str]:
    usual = [precedent.conduct.final_values for precedent in precedents]
    if conduct.final_values > 1 and usual and max(usual) == 1:
        yield f"it printed {conduct.final_values} different values at its end"


def _quick(run: Run, precedents: Sequence[Run], budget_s: float) -> Iterator[str]:
    usual = [p.conduct.wall_s for p in precedents if p.device_class == run.device_class]
    wall_s = run.conduct.wall_s
    if not wall_s or not usual or min(usual) < MEASURABLE_S:
        return
    least = QUICK * min(usual)
    if min(usual) >= BY_THE_CLOCK * budget_s:
        # Of a precedent far beyond the budget, a busy machine or its start took the rest.
        least = max(least, QUICK_BUDGET * min(*usual, budget_s))
    if wall_s < least:
        yield f"it took {wall_s:.1f} s, where {min(usual):.1f} s is usual"
