"""What other landscapes would say of the default judge: each parameter halved, doubled, alone.

Each is played with the same seeds under `bayes` and under `greedy`, and told as what bayes gains
beyond greedy, and what it claims beyond what is true. Nothing here is timed.
"""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress

from pydantic import ValidationError

from cluster.simulation.course import Course
from cluster.simulation.landscape import SECTIONS, Landscape, load_landscape
from cluster.simulation.setup import Setup
from cluster.simulation.study import METRIC
from eval.judge import GreedyJudge, Judge
from infra.simulations.simulations import play_all
from tests.benchmarks.figures import Figure
from tests.benchmarks.sensitivity import (
    AS_IS,
    HOURS,
    LANDSCAPE,
    NOISE,
    SLOTS,
    mean_figure,
    progress,
)
from tests.benchmarks.sizes import Sizes

NAME = "landscapes"
USUAL = load_landscape(LANDSCAPE).changed(runs__noise=NOISE)
JUDGES: tuple[Judge, ...] = (AS_IS, GreedyJudge(metric=METRIC))

ELSEWHERE = ("runs.seed_share", "runs.astray", "surroundings.away_s")
"""Without a difference here: what seeds share and what rungs do is measured by itself in
docs/judging.md, and a slot that is never lost does not stay away."""


def measure(sizes: Sizes) -> Iterator[Figure]:
    """Yield what comes of each landscape under the default judge."""
    found = {"as it is": USUAL, **variations()}
    seeds = range(sizes.seeds_of_variations)
    setups = [
        Setup(landscape=landscape, judge=judge, slots=SLOTS, hours=HOURS, seed=seed)
        for landscape in found.values()
        for judge in JUDGES
        for seed in seeds
    ]
    played: list[Course] = []
    for course in play_all(setups):
        played.append(course)
        progress(len(played), len(setups))
    n = len(seeds)
    for number, name in enumerate(found):
        start = len(JUDGES) * n * number
        yield from figures(name, played[start : start + n], played[start + n : start + 2 * n])


def variations() -> Mapping[str, Landscape]:
    """Return the landscape with each of its parameters halved and doubled.

    One that is 0 is as in `harsh` instead; what cannot be, as shares beyond 1, is left out.
    """
    harsh, found = load_landscape("harsh"), {}
    for section in SECTIONS:
        part = section.__name__.lower()
        for name in section.model_fields:
            if f"{part}.{name}" in ELSEWHERE:
                continue
            usual, other = (getattr(getattr(one, part), name) for one in (USUAL, harsh))
            for value in (0.5 * usual, 2 * usual) if usual else (other,):
                with suppress(ValidationError):
                    changed = USUAL.changed(**{f"{part}__{name}": value})
                    found[f"{part}.{name} {value:g}, not {usual:g}"] = changed
    return found


def figures(name: str, bayes: Sequence[Course], greedy: Sequence[Course]) -> Iterator[Figure]:
    """Yield what bayes gains beyond greedy, seed by seed, and claims beyond what is true."""
    gained = [1000 * (a.true - b.true) for a, b in zip(bayes, greedy, strict=True)]
    yield mean_figure(NAME, f"{name}: bayes beyond greedy", "e-3", gained)
    gaps = [1000 * (course.claimed - course.true) for course in bayes]
    yield mean_figure(NAME, f"{name}: claimed less true", "e-3", gaps)
