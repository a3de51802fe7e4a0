"""Many simulated studies: which are asked for, played on all cores, and what they come to.

Does not know how a study is simulated (cluster.simulation), nor how results are shown.
"""

import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from multiprocessing import get_context
from typing import Literal, TypedDict, get_args

from cluster.config import ReducerConfig
from cluster.policy.study_plan import Policy as ReducerPolicy
from cluster.simulation.course import Course, play
from cluster.simulation.landscape import Landscape
from cluster.simulation.setup import Setup
from cluster.simulation.study import METRIC
from cluster.simulation.summary import Estimate, Speedup, Summary, summarise
from eval.config import JudgeConfig
from eval.ladder import Step

Policy = Literal["greedy", "bayes", "sequential"]
POLICIES: tuple[Policy, ...] = get_args(Policy)
DEFAULT_REDUCER: ReducerPolicy = ReducerConfig().policy
DEFAULT_STALENESS: int = ReducerConfig().max_staleness
REDUCERS: tuple[ReducerPolicy, ...] = get_args(ReducerPolicy)


@dataclass(frozen=True, slots=True, kw_only=True)
class Question:
    """What is to be simulated: every judge with every reducer on so many slots, with every seed."""

    name: str
    """Of the landscape."""
    landscape: Landscape
    slots: tuple[int, ...]
    judges: tuple[Policy, ...]
    reducers: tuple[ReducerPolicy, ...] = (DEFAULT_REDUCER,)
    max_staleness: int = DEFAULT_STALENESS
    ladders: tuple[tuple[Step, ...], ...] = ((),)
    """Rungs to try with each; the empty ladder is none."""
    hours: float
    seeds: tuple[int, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Cell:
    """One policy on so many slots."""

    slots: int
    judge: Policy
    reducer: ReducerPolicy = DEFAULT_REDUCER
    rungs: tuple[Step, ...] = ()

    @property
    def ladder(self) -> str:
        """Its rungs as `--rungs` takes them; empty for none."""
        return ",".join(f"{step.budget_s:g}:{step.keep:g}" for step in self.rungs)

    def setup(self, question: Question, seed: int) -> Setup:
        """Return what its study with this seed is made of."""
        return Setup(
            landscape=question.landscape,
            judge=JudgeConfig(policy=self.judge).judge(METRIC),
            reducer=self.reducer,
            max_staleness=question.max_staleness,
            rungs=self.rungs,
            slots=self.slots,
            hours=question.hours,
            seed=seed,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """What came of one cell."""

    cell: Cell
    courses: tuple[Course, ...]
    """One for each seed."""
    summary: Summary


def cells(question: Question) -> list[Cell]:
    """Return what is asked for, in the order in which to show it."""
    return [
        Cell(slots=n, judge=judge, reducer=reducer, rungs=rungs)
        for n in question.slots
        for judge in question.judges
        for reducer in question.reducers
        for rungs in question.ladders
    ]


def simulate(question: Question, progress: Callable[[int, int], None]) -> list[Answer]:
    """Play all studies; `progress` is told how many of how many are done.

    Speed-ups are against one greedy slot, which is played too if it was not asked for.
    """
    asked = cells(question)
    reference = Cell(slots=1, judge="greedy")
    wanted = list(dict.fromkeys([*asked, reference]))
    # The largest first, so that no core is left with one of them at the end.
    played = sorted(wanted, key=lambda cell: -cell.slots)
    setups = [cell.setup(question, seed) for cell in played for seed in question.seeds]
    found: list[Course] = []
    for course in play_all(setups):
        found.append(course)
        progress(len(found), len(setups))
    n = len(question.seeds)
    courses = {cell: tuple(found[i * n : (i + 1) * n]) for i, cell in enumerate(played)}
    return [
        Answer(
            cell=cell,
            courses=courses[cell],
            summary=summarise(courses[cell], courses[reference], question.hours),
        )
        for cell in asked
    ]


def play_all(setups: Sequence[Setup]) -> Iterator[Course]:
    """Yield the courses in order, played on all cores."""
    cores = min(
        len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else 1, len(setups)
    )
    if cores < 2:
        yield from map(play, setups)
        return
    with ProcessPoolExecutor(cores, mp_context=get_context("spawn")) as pool:
        yield from pool.map(play, setups)


# --- for programs --------------------------------------------------------------------------------


class EstimateFacts(TypedDict):
    """A mean over seeds with its confidence interval of 95 %."""

    mean: float | None
    low: float | None
    high: float | None


class CellFacts(TypedDict):
    """One policy on so many slots; improvements in the landscape's unit, positive is better."""

    slots: int
    judge: str
    reducer: str
    rungs: str
    """Seconds and share to keep of each, as `--rungs` takes them; empty for none."""
    true: EstimateFacts
    """Of the last incumbent over the baseline."""
    claimed: EstimateFacts
    gap: EstimateFacts
    """What is claimed beyond what is true."""
    experiments: EstimateFacts
    promotions: EstimateFacts
    false_percent: float
    """Of promotions, those to something no better."""
    missed_percent: float
    """Of candidates better than their base by more than the noise, those not kept."""
    stopped_percent: float
    """Of the same, those that were stopped on a rung."""
    replicates_percent: float
    """Of the time on slots."""
    merges_percent: float
    speedup: EstimateFacts
    """Against one greedy slot; null where its result was not reached."""
    efficiency: float | None
    """Speed-up by slots."""


class SimulationFacts(TypedDict):
    """What `simulate --json` prints."""

    landscape: str
    noise: float
    seed_share: float
    """Of its variance, what runs of one seed share."""
    latency_s: float
    max_staleness: int
    hours: float
    seeds: list[int]
    cells: list[CellFacts]


def simulation_facts(question: Question, answers: Sequence[Answer]) -> SimulationFacts:
    """Return the answers as JSON can hold them."""
    return {
        "landscape": question.name,
        "noise": question.landscape.runs.noise,
        "seed_share": question.landscape.runs.seed_share,
        "latency_s": question.landscape.surroundings.latency_s,
        "max_staleness": question.max_staleness,
        "hours": question.hours,
        "seeds": list(question.seeds),
        "cells": [_cell(answer) for answer in answers],
    }


def _cell(answer: Answer) -> CellFacts:
    summary, slots = answer.summary, answer.cell.slots
    speedup = summary.speedup.mean
    return {
        "slots": slots,
        "judge": answer.cell.judge,
        "reducer": answer.cell.reducer,
        "rungs": answer.cell.ladder,
        "true": _estimate(summary.true),
        "claimed": _estimate(summary.claimed),
        "gap": _estimate(summary.gap),
        "experiments": _estimate(summary.experiments),
        "promotions": _estimate(summary.promotions),
        "false_percent": summary.false_percent,
        "missed_percent": summary.missed_percent,
        "stopped_percent": summary.stopped_percent,
        "replicates_percent": summary.replicates_percent,
        "merges_percent": summary.merges_percent,
        "speedup": _estimate(summary.speedup),
        "efficiency": None if speedup is None else speedup / slots,
    }


def _estimate(estimate: Estimate | Speedup) -> EstimateFacts:
    return {"mean": estimate.mean, "low": estimate.low, "high": estimate.high}
