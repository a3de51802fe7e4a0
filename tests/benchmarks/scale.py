"""What a study costs in the middle, with more workers than one machine has room for.

The controller, the queue actor's class, Valkey and git are real; workers and their trials are
imaginary (see imaginary_worker). So the figures are the control plane's, and bounds of what slots
elsewhere could get from it. docs/scale.md reckons with them.
"""

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from functools import partial
from statistics import median, quantiles

from cluster.queue.redis_queue import RedisTrialQueue
from infra.local.home import StudyHome
from infra.local.study import opened
from tests.benchmarks.figures import Aim, Figure, at_least, at_most
from tests.benchmarks.imaginary_worker import imaginary_slot
from tests.benchmarks.sizes import Sizes
from tests.benchmarks.study_process import Order, Report
from tests.benchmarks.throughput import controller_figures, rate
from tests.benchmarks.utilisation import SETTLING_S, steady_utilisation
from tests.benchmarks.workshop import place, run_study
from trainer.trial import CommitId, ExperimentId, SlotId, TrialId, TrialSpec

NAME = "scale"
AIMED_SLOTS, LEAST_BUSY = 64, 0.97
TTL_S = 30.0


def measure(sizes: Sizes) -> Iterator[Figure]:
    """Yield what workers get that wait for nothing, then for trials, then what calls cost."""
    yield from saturated(sizes)
    yield from over_ray(sizes)
    yield from paced(sizes)
    for count in sizes.leases:
        yield from lease_figures(count, repeats=3 * sizes.repeats)


# --- workers that wait for nothing ----------------------------------------------------------------


def saturated(sizes: Sizes) -> Iterator[Figure]:
    """Yield how many experiments are decided a second when trials take no time."""
    for slots, experiments in sizes.fleets:
        is_last = (slots, experiments) == sizes.fleets[-1]
        steps = sizes.samples_at if is_last else ()
        report = run_study(
            Order(experiments=experiments, slots=slots, workers="imaginary", samples_at=steps)
        )
        what = f"{slots} imaginary workers, {experiments:,} experiments"
        yield _single(f"{what}: decisions", "/s", rate(report))
        yield from _shares(report, experiments, what)
        if is_last:
            yield from controller_figures(report.samples, NAME, f"{what}: controller")


def _shares(report: Report, experiments: int, what: str) -> Iterator[Figure]:
    left = report.left
    for name, unit, total in (
        ("queue actor's CPU", "ms", 1000 * report.fleet.queue_cpu_s),
        ("Valkey's CPU", "ms", 1000 * left.server_cpu_s),
        ("Valkey's commands", "", left.commands),
        ("Valkey's memory", "KiB", 1024 * left.server_mb),
        ("append-only file", "KiB", 1024 * left.append_only_mb),
        ("the study's git repository", "KiB", 1024 * left.repository_mb),
    ):
        yield _single(f"{what}: {name} per experiment", unit, total / experiments)


def over_ray(sizes: Sizes) -> Iterator[Figure]:
    """Yield the same with workers that are actors of Ray, and what a call takes through it."""
    for slots, experiments in sizes.ray_fleets:
        report = run_study(Order(experiments=experiments, slots=slots, workers="imaginary_ray"))
        what = f"{slots} imaginary workers as Ray's actors"
        yield _single(f"{what}: decisions", "/s", rate(report))
        cpu_ms = 1000 * report.fleet.queue_cpu_s / experiments
        yield _single(f"{what}: queue actor's CPU per experiment", "ms", cpu_ms)
        yield from _call_figures(report, what)


# --- workers that wait for trials -----------------------------------------------------------------


def paced(sizes: Sizes) -> Iterator[Figure]:
    """Yield how busy slots are, and how long they wait, when trials take as long as they say."""
    for slots, trial_s, experiments in sizes.paced:
        order = Order(
            experiments=experiments, slots=slots, experiment_s=trial_s, workers="imaginary"
        )
        report = run_study(order)
        what = f"{slots} slots, imaginary trials of {trial_s:g} s"
        settling_s = SETTLING_S + trial_s
        busy = steady_utilisation(report, slots, experiment_s=trial_s, settling_s=settling_s)
        aim = at_least(LEAST_BUSY) if slots == AIMED_SLOTS else None
        yield _single(f"{what}: utilisation, steady", "", busy, aim)
        since = report.trials[0].finished_s + settling_s
        until = max(trial.started_s for trial in report.trials)
        pauses = [ms for at, ms in report.fleet.pauses if since < at <= until]
        yield from _percentiles(f"{what}: from a trial's end to the next lease", pauses)
        yield from _call_figures(report, what)


def _call_figures(report: Report, what: str) -> Iterator[Figure]:
    for call, spans in report.fleet.calls_ms.items():
        yield from _percentiles(f"{what}: {call}", spans)


def _percentiles(name: str, spans_ms: Sequence[float]) -> Iterator[Figure]:
    if len(spans_ms) < 2:  # nobody had to be asked so often
        return
    for which, value in (("p50", median(spans_ms)), ("p99", quantiles(spans_ms, n=100)[98])):
        yield Figure(
            bench=NAME, name=f"{name}, {which}", unit="ms", values=[value], count=len(spans_ms)
        )


# --- what calls cost by the number of leases ------------------------------------------------------


def lease_figures(count: int, *, repeats: int) -> Iterator[Figure]:
    """Yield what the queue's calls take while so many trials run, as many again being ready."""
    with place() as where:
        home = StudyHome(
            name="bench",
            repository=where.folder,
            directory=where.folder / "state" / "studies" / "bench-0",
        )
        home.create()
        with opened(home) as study:
            epoch = study.ledger.begin_epoch()
            yield from _timed_calls(study.queue, epoch, count, repeats)


def _timed_calls(queue: RedisTrialQueue, epoch: int, count: int, repeats: int) -> Iterator[Figure]:
    now = datetime.now(UTC)
    slots = [imaginary_slot(number) for number in range(count)]
    for number in range(3 * count):
        queue.put(_spec(number), priority=0, now=now, epoch=epoch)
    spans: dict[str, list[float]] = {}

    def timed(name: str, call: Callable[[], object]) -> None:
        start = time.perf_counter()
        call()
        spans.setdefault(name, []).append(1000 * (time.perf_counter() - start))

    leases = [queue.lease(slot, now=now, ttl_s=TTL_S) for slot in slots]
    for slot in slots:
        queue.reserve(slot, now=now, ttl_s=TTL_S)
    later = now + timedelta(seconds=TTL_S + 1)
    for slot, lease in list(zip(slots, leases, strict=True))[:repeats]:
        if lease is not None:
            beat = partial(queue.extend, slot, lease, now=now, ttl_s=TTL_S)
            timed("heartbeat", beat)
        again = "reserve what was reserved before"
        timed(again, lambda s=slot: queue.reserve(s, now=now, ttl_s=TTL_S))
        new = replace(slot, id=SlotId(f"{slot.id}-new"))
        timed("a first look for what to reserve", lambda s=new: queue.reserve(s, now=now, ttl_s=1))
        timed("greet", lambda s=slot: queue.greet(s, now=now))
        timed("lease", lambda s=slot: queue.lease(s, now=now, ttl_s=TTL_S))
        timed("a look for leases that ran out, none has", lambda: queue.expire(now=now))
        timed("what is held", queue.held)
    what = f"with {count:,} leases and as many wishes"
    for name, values in spans.items():
        aim = at_most(1.0) if name.startswith("a look") else None
        yield Figure(bench=NAME, name=f"{what}: {name}", unit="ms", values=values, aim=aim)
    start = time.perf_counter()
    ended = queue.expire(now=later)
    lasted_ms = 1000 * (time.perf_counter() - start)
    yield _single(f"{what}: the end of {ended:,} that ran out, each", "ms", lasted_ms / ended)


def _spec(number: int) -> TrialSpec:
    return TrialSpec(
        trial=TrialId(f"e{number}.1"),
        experiment=ExperimentId(f"e{number}"),
        attempt=1,
        commit=CommitId(f"{number:040x}"),
        seed=number,
        budget_s=300.0,
        timeout_s=600.0,
    )


def _single(name: str, unit: str, value: float, aim: Aim | None = None) -> Figure:
    return Figure(bench=NAME, name=name, unit=unit, values=[value], aim=aim)
