"""What other assumptions of the default judge would come to, one at a time, in the simulator.

Each variation is played with the same seeds as the judge as it is, and told as the mean difference
from it. Nothing here is timed.
"""

import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from statistics import fmean

from cluster.simulation.course import Course
from cluster.simulation.landscape import load_landscape
from cluster.simulation.setup import Setup
from cluster.simulation.study import METRIC
from cluster.simulation.summary import Estimate
from eval.assumptions import Assumptions
from eval.bayes import PRICE_MANY, BayesJudge
from infra.simulations.simulations import play_all
from tests.benchmarks.figures import Figure
from tests.benchmarks.sizes import Sizes

NAME = "sensitivity"
LANDSCAPE = "published"
NOISE = 0.0005
HOURS = 4.0
"""Half of a night: what a judge finds later than others is not made up for yet."""
SLOTS = 8
AS_IS = BayesJudge(metric=METRIC)


def measure(sizes: Sizes) -> Iterator[Figure]:
    """Yield what each variation gains and promotes falsely beyond the judge as it is."""
    judges = {"as it is": AS_IS, **variations()}
    seeds = range(sizes.seeds_of_variations)
    setups = [setup(judge, seed) for judge in judges.values() for seed in seeds]
    played: list[Course] = []
    for course in play_all(setups):
        played.append(course)
        progress(len(played), len(setups))
    n = len(seeds)
    as_is, *others = (played[start : start + n] for start in range(0, len(played), n))
    yield from as_it_is(as_is)
    for name, courses in zip(variations(), others, strict=True):
        yield from differences(name, courses, as_is)


def setup(judge: BayesJudge, seed: int) -> Setup:
    """Return the study of one judge with one seed."""
    landscape = load_landscape(LANDSCAPE).changed(runs__noise=NOISE)
    return Setup(landscape=landscape, judge=judge, slots=SLOTS, hours=HOURS, seed=seed)


def variations() -> Mapping[str, BayesJudge]:
    """Return the judge with each of its numbers halved and doubled, or what is nearest to that.

    Not those of a simpler candidate, as there is none in the simulator.
    """
    found: dict[str, BayesJudge] = {}
    for factor in (0.5, 2.0):
        for name, changed in _assumptions(factor).items():
            found[name] = replace(AS_IS, assumed=changed)
        price = factor * PRICE_MANY
        found[f"price of a promotion for nothing {price:g}"] = replace(AS_IS, price=price)
        runs = int(factor * AS_IS.max_replicates)
        found[f"runs of a candidate at most {runs}"] = replace(AS_IS, max_replicates=runs)
    return dict(sorted(found.items()))


def _assumptions(factor: float) -> dict[str, Assumptions]:
    start = Assumptions()
    gains, *others = start.weights
    share = factor * gains
    nothing, small, large = (weight * (1 - share) / (1 - gains) for weight in others)
    gain, *harms = (factor * size for size in start.sizes)
    forgotten = factor * (1 - start.memory)
    first, second, third = (factor * count for count in start.sizes_count)
    baseline = max(2, int(factor * start.baseline_runs))
    cost, known = factor * start.run_cost, int(factor * start.known_dof)
    return {
        f"share of gains {share:g}": replace(start, weights=(share, nothing, small, large)),
        f"size of gains {gain:g}": replace(start, sizes=(gain, *start.sizes[1:])),
        f"size of harms {harms[0]:g} and {harms[1]:g}": replace(
            start, sizes=(start.sizes[0], harms[0], harms[1])
        ),
        f"verdicts the shares are worth {factor * start.weights_count:g}": replace(
            start, weights_count=factor * start.weights_count
        ),
        f"gains and harms the sizes are worth {first:g}, {second:g}, {third:g}": replace(
            start, sizes_count=(first, second, third)
        ),
        f"forgotten at each verdict {forgotten:g}": replace(start, memory=1 - forgotten),
        f"cost of a run {cost:g}": replace(start, run_cost=cost),
        f"repeats until the noise is known {known}": replace(start, known_dof=known),
        f"runs of the baseline {baseline}": replace(start, baseline_runs=baseline),
    }


def as_it_is(courses: Sequence[Course]) -> Iterator[Figure]:
    """Yield what the judge as it is comes to."""
    yield mean_figure(
        NAME, "as it is: true gain", "e-3", [1000 * course.true for course in courses]
    )
    yield mean_figure(NAME, "as it is: false promotions", "", [c.false_promotions for c in courses])


def differences(name: str, courses: Sequence[Course], as_is: Sequence[Course]) -> Iterator[Figure]:
    """Yield by how much each seed came to more than with the judge as it is."""
    pairs = list(zip(courses, as_is, strict=True))
    yield mean_figure(
        NAME, f"{name}: true gain", "e-3", [1000 * (a.true - b.true) for a, b in pairs]
    )
    more = [a.false_promotions - b.false_promotions for a, b in pairs]
    yield mean_figure(NAME, f"{name}: false promotions", "", more)


def mean_figure(bench: str, name: str, unit: str, values: Sequence[float]) -> Figure:
    """Tell a mean: differences of counts have hardly a median."""
    estimate = Estimate.of(values)
    return Figure(
        bench=bench,
        name=name,
        unit=unit,
        values=[fmean(values)],
        interval=(estimate.low, estimate.high),
        count=len(values),
    )


def progress(done: int, of: int) -> None:
    """Say at a terminal how far it is."""
    if sys.stderr.isatty():
        sys.stderr.write(f"\r{done} of {of} simulated studies" + ("\n" if done == of else ""))
