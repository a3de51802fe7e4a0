"""Judges and reducers in the simulator: what each comes to, over many seeds.

But for the simulator's own speed nothing here is timed: the same seeds give the same figures on
every machine. What all are compared with is one greedy slot, which is what plain autoresearch does.
"""

import math
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace

from cluster.simulation.course import play
from cluster.simulation.landscape import load_landscape
from cluster.simulation.setup import Setup
from cluster.simulation.study import METRIC
from eval.bayes import BayesJudge
from infra.simulations.simulations import REDUCERS, Answer, Question, simulate
from tests.benchmarks.figures import Aim, Figure, at_least, at_most
from tests.benchmarks.sizes import Sizes

NAME = "simulation"
LANDSCAPES = ("published", "long_tail")
NOISE = 0.0005
HOURS = 8.0
SPEEDUPS = {8: at_least(6.5), 64: at_least(18)}
EFFICIENCIES = {8: at_least(0.8)}
GAPS = {8: at_most(0.1)}
"""In thousandths, with 8 slots."""


def measure(sizes: Sizes) -> Iterator[Figure]:
    """Yield the simulator's speed, and the figures of every judge and every reducer."""
    yield speed(8, range(sizes.repeats), HOURS)
    for name in LANDSCAPES:
        for question in _questions(name, sizes):
            for answer in simulate(question, _progress):
                yield from figures(name, answer)


def _questions(name: str, sizes: Sizes) -> Iterator[Question]:
    landscape = load_landscape(name).changed(runs__noise=NOISE)
    few, many = tuple(range(sizes.seeds)), tuple(range(sizes.seeds_of_many_slots))

    eight = Question(
        name=name,
        landscape=landscape,
        slots=(8,),
        judges=("greedy", "sequential"),
        hours=HOURS,
        seeds=few,
    )
    yield eight
    yield replace(eight, judges=("bayes",), reducers=REDUCERS)
    if many:
        yield replace(eight, slots=(64,), judges=("greedy", "bayes"), seeds=many)


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
    slots, courses, speedup = answer.cell.slots, answer.courses, answer.summary.speedup
    what = f"{landscape}, {slots} slots, {answer.cell.judge}, {answer.cell.reducer}"
    has_aims = answer.cell.judge == "bayes" and answer.cell.reducer == "chain"

    def over_seeds(
        name: str, unit: str, values: Sequence[float], aims: Mapping[int, Aim]
    ) -> Figure:
        return Figure(
            bench=NAME,
            name=f"{what}: {name}",
            unit=unit,
            values=values,
            interval=median_interval(values),
            aim=aims.get(slots) if has_aims else None,
        )

    yield over_seeds("true gain", "e-3", [1000 * course.true for course in courses], {})
    gaps = [1000 * (course.claimed - course.true) for course in courses]
    yield over_seeds("claimed less true", "e-3", gaps, GAPS)
    moved = [course for course in courses if course.promotions]
    shares = [100 * course.false_promotions / course.promotions for course in moved]
    if shares:
        yield over_seeds("false promotions", "%", shares, {})
    if speedup.mean is None:
        return
    interval = (speedup.low or 0.0, speedup.high or math.inf)
    for name, per, aims in (("speed-up", 1, SPEEDUPS), ("per slot", slots, EFFICIENCIES)):
        yield Figure(
            bench=NAME,
            name=f"{what}: {name}",
            unit="x",
            values=[speedup.mean / per],
            interval=(interval[0] / per, interval[1] / per),
            count=len(courses),
            aim=aims.get(slots) if has_aims else None,
        )


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
