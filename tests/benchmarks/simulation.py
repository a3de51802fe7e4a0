"""Judges and reducers in the simulator: what each comes to, over many seeds.

But for the simulator's own speed nothing here is timed: the same seeds give the same figures on
every machine. What all are compared with is one greedy slot, which is what plain autoresearch does.
"""

import math
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from statistics import fmean

from cluster.simulation.course import play
from cluster.simulation.landscape import load_landscape
from cluster.simulation.setup import Setup
from cluster.simulation.study import METRIC
from cluster.simulation.summary import Speedup, speedup
from eval.bayes import BayesJudge
from infra.simulations.simulations import (
    REDUCERS,
    Answer,
    Cell,
    Policy,
    Question,
    cells,
    play_all,
    simulate,
)
from tests.benchmarks.figures import Aim, Figure, at_least, at_most
from tests.benchmarks.sizes import Sizes

NAME = "simulation"
LANDSCAPES = ("published", "long_tail")
NOISE = 0.0005
HOURS = 8.0
BEGINNING_H = 1.5
"""Of a study on 64 slots, which by then has long overtaken what one slot has after eight hours."""
SPEEDUPS = {8: at_least(6.5), 64: at_least(18)}
EFFICIENCIES = {8: at_least(0.8)}
GAPS = {8: at_most(0.1)}
"""In thousandths, with 8 slots."""


def measure(sizes: Sizes) -> Iterator[Figure]:
    """Yield the simulator's speed, and the figures of every judge and every reducer."""
    yield speed(8, range(sizes.repeats), HOURS)
    seeds = tuple(range(sizes.seeds))
    for name in LANDSCAPES:
        eight = _question(name, seeds, slots=8, judges=("greedy", "sequential"))
        for question in (eight, replace(eight, judges=("bayes",), reducers=REDUCERS)):
            for answer in simulate(question, _progress):
                yield from figures(name, answer)
                yield from sooner(name, answer.cell, answer.summary.speedup, len(seeds))
        if sizes.seeds_of_many_slots:
            many = _question(name, seeds, slots=64, judges=("greedy", "bayes"))
            few = replace(many, seeds=seeds[: sizes.seeds_of_many_slots])
            for answer in simulate(few, _progress):
                yield from figures(name, answer)
            yield from begun(many)


def _question(
    name: str, seeds: tuple[int, ...], *, slots: int, judges: tuple[Policy, ...]
) -> Question:
    return Question(
        name=name,
        landscape=load_landscape(name).changed(runs__noise=NOISE),
        slots=(slots,),
        judges=judges,
        hours=HOURS,
        seeds=seeds,
    )


def speed(slots: int, seeds: Sequence[int], hours: float) -> Figure:
    """Return how many experiments one core simulates in a second under the default judge."""
    landscape = load_landscape(LANDSCAPES[0]).changed(runs__noise=NOISE)
    values = []
    for seed in seeds:
        setup = Setup(
            landscape=landscape,
            judge=BayesJudge(metric=METRIC),
            slots=slots,
            hours=hours,
            seed=seed,
        )
        began = time.process_time()
        course = play(setup)
        values.append(course.experiments / (time.process_time() - began))
    what = f"experiments that one core simulates, {slots} slots, bayes"
    return Figure(bench=NAME, name=what, unit="/s", values=values)


def figures(landscape: str, answer: Answer) -> Iterator[Figure]:
    """Yield what one policy came to: medians over seeds, each with its interval of 95 %."""
    what, courses = _what(landscape, answer.cell), answer.courses

    def over_seeds(name: str, unit: str, values: Sequence[float], aim: Aim | None = None) -> Figure:
        return Figure(
            bench=NAME,
            name=f"{what}: {name}",
            unit=unit,
            values=values,
            interval=median_interval(values),
            aim=aim,
        )

    yield over_seeds("true gain", "e-3", [1000 * course.true for course in courses])
    gaps = [1000 * (course.claimed - course.true) for course in courses]
    yield over_seeds("claimed less true", "e-3", gaps, _aim(answer.cell, GAPS))
    moved = [course for course in courses if course.promotions]
    shares = [100 * course.false_promotions / course.promotions for course in moved]
    if shares:
        yield over_seeds("false promotions", "%", shares)


def begun(question: Question, beginning_h: float = BEGINNING_H) -> Iterator[Figure]:
    """Yield speed-ups on many slots from the beginning of each study, which is sooner simulated.

    A whole study on 64 slots takes eight times as long as one on 8.
    """
    reference = Cell(slots=1, judge="greedy")
    ends = play_all([reference.setup(question, seed) for seed in question.seeds])
    target = fmean(course.true for course in ends)
    beginning = replace(question, hours=beginning_h)
    for cell in cells(beginning):
        courses = list(play_all([cell.setup(beginning, seed) for seed in question.seeds]))
        found = speedup(courses, target, question.hours)
        yield from sooner(question.name, cell, found, len(courses))


def sooner(landscape: str, cell: Cell, found: Speedup, seeds: int) -> Iterator[Figure]:
    """Yield how many times sooner a policy has what one greedy slot has at the end."""
    if found.mean is None:
        return
    low, high = found.low or 0.0, found.high or math.inf
    for name, per, aims in (("speed-up", 1, SPEEDUPS), ("per slot", cell.slots, EFFICIENCIES)):
        yield Figure(
            bench=NAME,
            name=f"{_what(landscape, cell)}: {name}",
            unit="x",
            values=[found.mean / per],
            interval=(low / per, high / per),
            count=seeds,
            aim=_aim(cell, aims),
        )


def _what(landscape: str, cell: Cell) -> str:
    return f"{landscape}, {cell.slots} slots, {cell.judge}, {cell.reducer}"


def _aim(cell: Cell, aims: Mapping[int, Aim]) -> Aim | None:
    """Return what the default policy aims at on so many slots; nothing for the others."""
    is_default = cell.judge == "bayes" and cell.reducer == "chain"
    return aims.get(cell.slots) if is_default else None


def median_interval(values: Sequence[float]) -> tuple[float, float]:
    """Return what the median of a distribution lies within with a confidence of 95 %.

    From the order of the values alone: their number below the median is binomial, and with the
    normal distribution in its place the ranks are n/2 -+ 1.96 sqrt(n)/2 (Conover, Practical
    Nonparametric Statistics, 1999, section 3.2).
    """
    n = len(values)
    ordered = sorted(values)
    half = 0.98 * math.sqrt(n)
    low, high = math.floor(n / 2 - half) - 1, math.ceil(n / 2 + half)
    return ordered[max(0, low)], ordered[min(n - 1, high)]


def _progress(done: int, of: int) -> None:
    if sys.stderr.isatty():
        sys.stderr.write(f"\r{done} of {of} simulated studies" + ("\n" if done == of else ""))
