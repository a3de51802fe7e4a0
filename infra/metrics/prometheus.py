"""Metrics of a study for Prometheus. The only edge to prometheus_client.

All of them follow from the ledger's events and the state after each, in one place. A controller
that starts again resumes what the state remembers, to the digit; idle time, which it does not
remember, begins at 0. (A counter that came back a little lower would look like a
reset followed by a jump.) Served on the loopback address alone.
"""

import logging
import threading
from bisect import bisect_left
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Mapping
from datetime import UTC, datetime
from itertools import accumulate
from wsgiref.simple_server import WSGIServer

from prometheus_client import CollectorRegistry, start_http_server
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily
from prometheus_client.registry import Collector

from cluster.state.events import Recorded, TrialFinished, TrialLost
from cluster.state.experiment import Experiment, Kind, Status, Trial, TrialPhase
from cluster.state.slot_time import Purpose
from cluster.state.state import StudyState
from eval.metric import Metric
from infra.facts.fates import End, ends, ends_by
from infra.facts.node_facts import slot_condition
from infra.facts.refused import refused_count
from infra.metrics.holdout_metrics import METRICS as _HOLDOUT
from infra.metrics.holdout_metrics import samples as holdout_samples
from infra.metrics.metric_description import MetricDescription, Samples
from infra.metrics.node_metrics import METRICS as _NODES
from infra.metrics.node_metrics import samples as node_samples
from infra.metrics.proposer_metrics import METRICS as _PROPOSERS
from infra.metrics.proposer_metrics import samples as proposer_samples
from infra.metrics.telemetry_metrics import METRICS as _TELEMETRY
from infra.metrics.telemetry_metrics import TelemetryMetrics
from trainer.trial import Ending, SlotId

HOST = "127.0.0.1"
BUCKETS_S = (0.01, 0.05, 0.1, 0.5, 1.0, 5.0, 10.0, 30.0, 60.0, 300.0, 600.0, 1800.0, 3600.0)

_log = logging.getLogger(__name__)

Family = CounterMetricFamily | GaugeMetricFamily | HistogramMetricFamily


_STAGES = MetricDescription(
    name="incumbent_trial_stage_seconds",
    type="histogram",
    labels=("stage",),
    help="Time that finished trials spent in each stage.",
)
_METRICS = (
    MetricDescription(
        name="incumbent_study_info",
        type="gauge",
        labels=("study", "metric", "goal"),
        help="Always 1; the labels say what is searched.",
    ),
    MetricDescription(
        name="incumbent_experiments_total",
        type="counter",
        labels=("status",),
        help="Experiments that came to an end, by the status that they ended in.",
    ),
    MetricDescription(
        name="incumbent_trials_total",
        type="counter",
        labels=("ending",),
        help="Trials that ended, by their ending; attempts given back count as lost.",
    ),
    MetricDescription(
        name="incumbent_merges_total",
        type="counter",
        labels=("outcome",),
        help="Merges of stale winners, by outcome: promoted, discarded, failed (its trial did), "
        "suspect, stale (merged again), conflicted or redundant.",
    ),
    MetricDescription(
        name="incumbent_rejected_proposals_total",
        type="counter",
        help="Proposals that were refused before they cost anything.",
    ),
    MetricDescription(
        name="incumbent_best_score",
        type="gauge",
        help="Score of the incumbent, in the metric's own unit.",
    ),
    MetricDescription(
        name="incumbent_baseline_score",
        type="gauge",
        help="Score of the unmodified start, in the metric's own unit.",
    ),
    MetricDescription(
        name="incumbent_queue_ready",
        type="gauge",
        help="Experiments that wait for a slot.",
    ),
    MetricDescription(
        name="incumbent_queue_running",
        type="gauge",
        help="Experiments that run on a slot.",
    ),
    MetricDescription(
        name="incumbent_slot_busy_seconds_total",
        type="counter",
        labels=("slot",),
        help="Time during which trials held the slot.",
    ),
    MetricDescription(
        name="incumbent_slot_idle_seconds_total",
        type="counter",
        labels=("slot",),
        help="Time during which the slot was ready for a trial and had none.",
    ),
    MetricDescription(
        name="incumbent_slot_shift",
        type="gauge",
        labels=("slot",),
        help="By how much better the slot's last control scored than expected, in the metric's own "
        "unit; 0 if within noise.",
    ),
    MetricDescription(
        name="incumbent_trial_seconds_total",
        type="counter",
        labels=("purpose",),
        help="Time that ended trials held slots, by what they were for: search, replicates, merges "
        "or controls.",
    ),
    MetricDescription(
        name="incumbent_worker_up",
        type="gauge",
        labels=("slot", "node", "device"),
        help="1 while the slot has a worker, 0 once that is gone.",
    ),
    *_TELEMETRY,
    *_HOLDOUT,
    *_PROPOSERS,
    *_NODES,
)


def describe_metrics() -> list[MetricDescription]:
    """Return every metric that is served."""
    return [*_METRICS, _STAGES]


class MetricsObserver:
    """Counts along and serves the metrics. Implements cluster.controller.ports.Observer.

    Args:
        metric: the study's metric.
        port: of the loopback address; 0 picks a free one, -1 serves none.
        clock: the time, aware.
    """

    def __init__(
        self,
        metric: Metric,
        port: int,
        clock: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self.registry = CollectorRegistry()
        self.address = ""
        """URL of /metrics; empty if it is not served."""
        self._collector = _StudyCollector(metric, clock)
        self.registry.register(self._collector)
        self._server: tuple[WSGIServer, threading.Thread] | None = None
        if port >= 0:
            self._serve(port)

    def _serve(self, port: int) -> None:
        try:
            self._server = start_http_server(port, addr=HOST, registry=self.registry)
        except OSError as error:
            # A port that is taken is no reason to end a study.
            _log.warning("/metrics is not served: port %d of %s: %s", port, HOST, error)
        else:
            self.address = f"http://{HOST}:{self._server[0].server_port}/metrics"

    def observe(self, recorded: Recorded, state: StudyState) -> None:
        """See Observer."""
        self._collector.observe(recorded, state)

    def resume(self, state: StudyState) -> None:
        """See Observer."""
        self._collector.resume(state)

    def close(self) -> None:
        """See Observer; ends the server."""
        if self._server is None:
            return
        server, thread = self._server
        server.shutdown()
        server.server_close()
        thread.join()
        self._server, self.address = None, ""


class _StudyCollector(Collector):
    """Holds the counts; asked for samples by the server's threads while the controller counts."""

    def __init__(self, metric: Metric, clock: Callable[[], datetime]) -> None:
        self._metric = metric
        self._clock = clock
        self._lock = threading.Lock()
        self._served: dict[tuple[str, str], float] = {}
        self._begin(StudyState())

    def _begin(self, state: StudyState) -> None:
        self._state = state
        self._counts: Counter[tuple[str, str]] = Counter()
        """By the middle of the metric's name and the label."""
        self._busy: defaultdict[SlotId, float] = defaultdict(float)
        """Seconds of trials that have ended."""
        self._idle: defaultdict[SlotId, float] = defaultdict(float)
        self._idle_since: dict[SlotId, datetime] = {}
        self._stages: defaultdict[str, _Histogram] = defaultdict(_Histogram)
        self._telemetry = TelemetryMetrics()

    def resume(self, state: StudyState) -> None:
        with self._lock:
            self._begin(state)
            for experiment in state.experiments.values():
                self._recall(experiment)
            self._time_idleness(self._clock())

    def _recall(self, experiment: Experiment) -> None:
        for end in ends(experiment):
            self._count_end(end)
        for trial in experiment.all_trials:
            if trial.phase in {TrialPhase.FINISHED, TrialPhase.LOST}:
                self._count_trial(trial)
        for _, name in experiment.story:
            self._count_unmeasured_merge(name)

    def observe(self, recorded: Recorded, state: StudyState) -> None:
        event = recorded.event
        with self._lock:
            before, self._state = self._state, state
            for end in ends_by(recorded, state):
                self._count_end(end)
            if isinstance(event, TrialFinished | TrialLost):
                experiment = state.experiments[event.experiment]
                self._count_trial(experiment.trial(event.trial, event.attempt))
            self._count_unmeasured_merge(type(event).__name__)
            if before.slots is not state.slots or before.nodes is not state.nodes:
                self._time_idleness(recorded.at)

    def _count_end(self, end: End) -> None:
        self._counts["experiments", end.status.value] += 1
        if end.experiment.kind is Kind.MERGE:
            self._counts["merges", _MERGE_OUTCOMES.get(end.status, "failed")] += 1

    def _count_trial(self, trial: Trial) -> None:
        outcome = trial.outcome
        self._counts["trials", (outcome.ending if outcome else Ending.LOST).value] += 1
        if trial.slot:
            self._busy[trial.slot] += trial.seconds
        for stage, seconds in (outcome.stages_s if outcome else {}).items():
            self._stages[stage].add(seconds)
        self._telemetry.add(trial)

    def _count_unmeasured_merge(self, event: str) -> None:
        if outcome := _UNMEASURED_MERGES.get(event):
            self._counts["merges", outcome] += 1

    def _time_idleness(self, at: datetime) -> None:
        """Close the books on what was idle, and open them again for what is."""
        for slot, since in self._idle_since.items():
            self._idle[slot] += _seconds(since, at)
        state = self._state
        idle = (s.slot for s in state.slots.values() if slot_condition(state, s) == "idle")
        self._idle_since = dict.fromkeys(idle, at)

    # --- scraping --------------------------------------------------------------------------------

    def collect(self) -> Iterator[Family]:
        """Yield all metrics as of now."""
        with self._lock:
            samples = {
                **self._counters(),
                **self._gauges(),
                **self._slot_seconds(self._clock()),
                **self._telemetry.samples(),
                **holdout_samples(self._state),
                **proposer_samples(self._state),
                **node_samples(self._state),
            }
            stages = HistogramMetricFamily(_STAGES.name, _STAGES.help, labels=_STAGES.labels)
            for stage, histogram in sorted(self._stages.items()):
                stages.add_metric([stage], histogram.buckets(), histogram.total)
        for metric in _METRICS:
            maker = CounterMetricFamily if metric.type == "counter" else GaugeMetricFamily
            family = maker(metric.name, metric.help, labels=metric.labels)
            for labels, value in sorted(samples[metric.name].items()):
                family.add_metric(labels, value)
            yield family
        yield stages

    def _counters(self) -> dict[str, Samples]:
        counts: defaultdict[str, dict[tuple[str, ...], float]] = defaultdict(dict)
        for (name, label), count in self._counts.items():
            counts[name][(label,)] = count
        return {
            "incumbent_experiments_total": counts["experiments"],
            "incumbent_trials_total": counts["trials"],
            "incumbent_merges_total": counts["merges"],
            "incumbent_rejected_proposals_total": {(): refused_count(self._state)},
            "incumbent_trial_seconds_total": {
                (purpose.value,): getattr(self._state.spent, purpose.value) for purpose in Purpose
            },
        }

    def _gauges(self) -> dict[str, Samples]:
        state, metric = self._state, self._metric
        return {
            "incumbent_study_info": {(state.study, metric.name, metric.goal.value): 1},
            "incumbent_best_score": _score(state.incumbent),
            "incumbent_baseline_score": _score(state.baseline),
            "incumbent_queue_ready": {(): state.count(Status.PROPOSED, Status.QUEUED)},
            "incumbent_queue_running": {(): state.count(Status.RUNNING)},
            "incumbent_slot_shift": {(slot.slot,): slot.shift for slot in state.slots.values()},
            "incumbent_worker_up": {
                (slot.slot, slot.node, slot.device): float(slot.is_open)
                for slot in state.slots.values()
            },
        }

    def _slot_seconds(self, now: datetime) -> dict[str, Samples]:
        busy = self._busy.copy()
        for experiment in self._state.opened(Status.RUNNING):
            trial = experiment.trials[-1]
            if trial.started_at is not None:
                busy[trial.slot] += _seconds(trial.started_at, now)
        for place in self._state.slots.values():
            if place.trial in self._state.controls and place.since is not None:
                busy[place.slot] += _seconds(place.since, now)
        idle = self._idle.copy()
        for slot, since in self._idle_since.items():
            idle[slot] += _seconds(since, now)
        return {
            "incumbent_slot_busy_seconds_total": self._never_less("busy", busy),
            "incumbent_slot_idle_seconds_total": self._never_less("idle", idle),
        }

    def _never_less(self, kind: str, seconds: Mapping[SlotId, float]) -> Samples:
        """Return the counters of all slots, none below what was served before.

        An event may tell of a moment a little before the last scrape.
        """
        served = self._served
        for slot in self._state.slots:
            served[kind, slot] = max(served.get((kind, slot), 0.0), seconds.get(slot, 0.0))
        return {(slot,): served[kind, slot] for slot in self._state.slots}


class _Histogram:
    """Observations by bucket."""

    def __init__(self) -> None:
        self._counts = [0] * (len(BUCKETS_S) + 1)
        self.total = 0.0

    def add(self, value: float) -> None:
        self._counts[bisect_left(BUCKETS_S, value)] += 1
        self.total += value

    def buckets(self) -> list[tuple[str, float]]:
        """Return the cumulative count up to each bound."""
        bounds = [*map(str, BUCKETS_S), "+Inf"]
        return list(zip(bounds, map(float, accumulate(self._counts)), strict=True))


_MERGE_OUTCOMES = {
    Status.KEPT: "promoted",
    Status.DISCARDED: "discarded",
    Status.SUSPECT: "suspect",
    Status.MERGED: "stale",
    Status.CONFLICTED: "stale",
    Status.DROPPED: "stale",
}
"""What came of a merge that was measured; every other status is a failure of its trial."""
_UNMEASURED_MERGES = {"MergeConflicted": "conflicted", "MergeRedundant": "redundant"}


def _score(experiment: Experiment | None) -> Samples:
    score = experiment.score if experiment else None
    return {(): score.mean} if score else {}


def _seconds(start: datetime, end: datetime) -> float:
    return max(0.0, (end - start).total_seconds())
