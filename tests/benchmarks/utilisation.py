"""Experiments of one second: how busy the slots are while a proposer takes its time."""

from collections.abc import Iterator

from tests.benchmarks.figures import Figure, at_least
from tests.benchmarks.peers import sequential_loop
from tests.benchmarks.sizes import Sizes
from tests.benchmarks.study_process import Order, Report
from tests.benchmarks.workshop import place, run_study

NAME = "utilisation"
EXPERIMENT_S = 1.0
SETTLING_S = 8.0
"""After the baseline, until the steady span begins: on two cores eight workers take as long to
start, and the proposer learns the rate meanwhile."""
NUMBERS = 200
"""Of a script whose proposals wait for long: were there one number, each promotion would be in the
way of all that wait, and slots be empty until the proposer has answered anew."""


def measure(sizes: Sizes) -> Iterator[Figure]:
    """Yield Incumbent's figures and those of a sequential loop, for two latencies."""
    for latency_s, least in ((0.0, 0.98), (1.0, 0.97)):
        order = Order(
            experiments=sizes.slept,
            slots=sizes.slots,
            experiment_s=EXPERIMENT_S,
            latency_s=latency_s,
            numbers=NUMBERS if latency_s else 1,
        )
        reports = [run_study(order) for _ in range(sizes.repeats)]
        what = f"{sizes.slots} slots, 1 s experiments, proposals take {latency_s:g} s"
        steady = [steady_utilisation(report, sizes.slots) for report in reports]
        yield Figure(
            bench=NAME, name=f"{what}: steady", unit="", values=steady, aim=at_least(least)
        )
        overall = [overall_utilisation(report, sizes.slots) for report in reports]
        yield Figure(bench=NAME, name=f"{what}: all of it", unit="", values=overall)
        yield from _peer(sizes, latency_s)
    yield from slow_proposers(sizes)


def slow_proposers(sizes: Sizes) -> Iterator[Figure]:
    """Yield how busy imaginary trials keep slots when a model takes its time."""
    for what, quick_s, slow_s in (
        ("proposals take 0 s", 0.0, None),
        ("proposals take 1 s", 1.0, None),
        ("proposals take 10 s", 10.0, None),
        ("one proposer takes 10 s, another none", 0.0, 10.0),
    ):
        for experiment_s, experiments in sizes.waited:
            order = Order(
                experiments=experiments,
                slots=sizes.slots,
                experiment_s=experiment_s,
                latency_s=quick_s,
                slow_latency_s=slow_s,
                numbers=NUMBERS,
                workers="imaginary",
            )
            # Until the queue is warm: the first answers are for the slots alone, and the rate of
            # verdicts, which says how many to ask for, is seen after those.
            share = steady_utilisation(
                run_study(order),
                sizes.slots,
                experiment_s=experiment_s,
                settling_s=SETTLING_S + 4 * max(quick_s, experiment_s),
            )
            name = f"{sizes.slots} slots, imaginary trials of {experiment_s:g} s, {what}: steady"
            yield Figure(bench=NAME, name=name, unit="", values=[share], aim=at_least(0.97))


def steady_utilisation(
    report: Report,
    slots: int,
    *,
    experiment_s: float = EXPERIMENT_S,
    settling_s: float = SETTLING_S,
) -> float:
    """Return the share of the slots' time that experiments slept, between ramp and run-out.

    Only the time that an experiment itself takes counts as busy, as it does for the peers.
    """
    start = report.trials[0].finished_s + settling_s
    end = max(trial.started_s for trial in report.trials)
    slept = (
        min(trial.finished_s, end) - max(trial.finished_s - experiment_s, start)
        for trial in report.trials
    )
    return sum(max(0.0, seconds) for seconds in slept) / (slots * (end - start))


def overall_utilisation(report: Report, slots: int) -> float:
    """Return the same from the baseline's lease, which has all slots to itself, to the last end."""
    span = report.trials[-1].finished_s - report.trials[0].started_s
    return len(report.trials) * EXPERIMENT_S / (slots * span)


def _peer(sizes: Sizes, latency_s: float) -> Iterator[Figure]:
    rounds = max(3, sizes.slept // 20)
    with place() as where:
        folders = [where.folder / f"loop-{repeat}" for repeat in range(sizes.repeats)]
        shares = [
            EXPERIMENT_S
            * sequential_loop(folder, rounds=rounds, experiment_s=EXPERIMENT_S, latency_s=latency_s)
            for folder in folders
        ]
    name = f"peer: sequential loop, 1 slot, proposals take {latency_s:g} s"
    yield Figure(bench=NAME, name=name, unit="", values=shares)
