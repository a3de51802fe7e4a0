"""Experiments that do nothing: how many a second, and what each costs the controller."""

from collections.abc import Iterator
from itertools import pairwise

from tests.benchmarks.figures import Figure, at_least, at_most
from tests.benchmarks.peers import optuna_threads, ray_gpu_tasks, sequential_loop
from tests.benchmarks.sizes import Sizes
from tests.benchmarks.study_process import Order, Report, Sample
from tests.benchmarks.workshop import place, run_study

NAME = "throughput"


def measure(sizes: Sizes) -> Iterator[Figure]:
    """Yield Incumbent's figures, then those of others in the same minutes."""
    yield from study_figures(sizes)
    yield from _peers(sizes)


def study_figures(sizes: Sizes, workers: str = "ray") -> Iterator[Figure]:
    """Yield Incumbent's figures."""
    order = Order(experiments=sizes.experiments, slots=sizes.slots, workers=workers)
    rates = [rate(run_study(order)) for _ in range(sizes.repeats)]
    what = f"no-op experiments, {sizes.slots} slots"
    yield Figure(bench=NAME, name=what, unit="/s", values=rates, aim=at_least(40))
    last = sizes.samples_at[-1]
    report = run_study(
        Order(experiments=last, slots=sizes.slots, workers=workers, samples_at=sizes.samples_at)
    )
    what = f"the same, {last:,} experiments long"
    yield Figure(bench=NAME, name=what, unit="/s", values=[rate(report)], aim=at_least(40))
    yield from controller_figures(report.samples)


def rate(report: Report) -> float:
    """Return the proposals judged per second, from when all slots are open to the last verdict.

    Of a study that the first slots have finished before the last one opened: from its first.
    """
    first, last = report.judged_s[0], report.judged_s[-1]
    since = report.open_s if report.open_s < last else first
    return len([at for at in report.judged_s if at > since]) / (last - since)


def controller_figures(
    samples: tuple[Sample, ...], bench: str = NAME, what: str = "controller"
) -> Iterator[Figure]:
    costs = []
    for before, after in pairwise(samples):
        count = after.judged - before.judged
        own = 1000 * (after.own_cpu_s - before.own_cpu_s) / count
        total = own + 1000 * (after.children_cpu_s - before.children_cpu_s) / count
        costs.append(total)
        name = f"{what}'s CPU per experiment, {before.judged:,} to {after.judged:,}"
        yield Figure(bench=bench, name=f"{name} (with git)", unit="ms", values=[total])
        yield Figure(bench=bench, name=f"{name} (its own)", unit="ms", values=[own])
    if len(costs) > 2:  # the first holds what is paid once
        growth = costs[-1] / costs[1]
        name = "growth of that cost, last to second span"
        yield Figure(bench=bench, name=name, unit="x", values=[growth], aim=at_most(1.25))
    name = f"{what}'s memory after {samples[-1].judged:,}"
    yield Figure(bench=bench, name=name, unit="MiB", values=[samples[-1].memory_mb])


def _peers(sizes: Sizes) -> Iterator[Figure]:
    repeats, slots = range(sizes.repeats), sizes.slots
    with place() as where:
        folders = [where.folder / f"loop-{repeat}" for repeat in repeats]
        rates = [sequential_loop(folder, rounds=sizes.rounds) for folder in folders]
        name = "peer: sequential loop (edit, commit, run, grep, reset)"
        yield Figure(bench=NAME, name=name, unit="/s", values=rates)
        rates = [ray_gpu_tasks(where, tasks=sizes.ray_tasks, gpus=slots) for _ in repeats]
        name = f"peer: Ray tasks with num_gpus=1, {slots} imaginary GPUs (nothing is run)"
        yield Figure(bench=NAME, name=name, unit="/s", values=rates)
        rates = [optuna_threads(trials=sizes.optuna_trials, jobs=slots) for _ in repeats]
        name = f"peer: Optuna n_jobs={slots}, in memory (nothing is run)"
        yield Figure(bench=NAME, name=name, unit="/s", values=rates)
        journals = [where.folder / f"journal-{repeat}" for repeat in repeats]
        rates = [
            optuna_threads(trials=sizes.optuna_trials, jobs=slots, journal=journal)
            for journal in journals
        ]
        name = f"peer: Optuna n_jobs={slots}, journal file (nothing is run)"
        yield Figure(bench=NAME, name=name, unit="/s", values=rates)
