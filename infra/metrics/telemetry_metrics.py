"""Metrics of what was measured of each slot's trials: its last trial's, and seconds throttled.

Knows telemetry and base units. Does not know how metrics are served. What was not measured has no
sample: a slot without a card has none of a card.
"""

from collections import defaultdict
from collections.abc import Mapping
from datetime import datetime

from cluster.state.experiment import Trial
from infra.metrics.metric_description import MetricDescription, Samples
from trainer.telemetry import GpuTelemetry
from trainer.trial import SlotId

_MIB = 1024 * 1024

_RATE = MetricDescription(
    name="incumbent_trial_steps_per_second",
    type="gauge",
    labels=("slot", "counter"),
    help="Rate of the slot's last trial, and which counter of its log that is.",
)
_THROTTLED = MetricDescription(
    name="incumbent_gpu_throttled_seconds_total",
    type="counter",
    labels=("slot",),
    help="Time that ended trials ran throttled by heat or failing power; a power cap is neither.",
)
_GAUGES = {
    "incumbent_trial_gpu_utilisation_ratio": "Mean share of time in which any kernel ran, in the "
    "slot's last trial.",
    "incumbent_trial_gpu_memory_bytes": "Peak GPU memory of the slot's last trial, or of its cards "
    "where the driver names no processes.",
    "incumbent_trial_gpu_temperature_celsius": "Highest temperature in the slot's last trial.",
    "incumbent_trial_gpu_power_watts": "Mean power of the slot's cards in its last trial.",
}

METRICS = (
    *(
        MetricDescription(name=name, type="gauge", labels=("slot",), help=text)
        for name, text in _GAUGES.items()
    ),
    _RATE,
    _THROTTLED,
)


class TelemetryMetrics:
    """The last telemetry of each slot. Trials may come in any order."""

    def __init__(self) -> None:
        self._last: dict[SlotId, Trial] = {}
        self._throttled: defaultdict[SlotId, float] = defaultdict(float)

    def add(self, trial: Trial) -> None:
        """Take in a trial that has ended."""
        if trial.outcome is None or not trial.slot:
            return
        gpu = trial.outcome.telemetry.gpu
        if gpu is not None and gpu.throttled_s is not None:
            self._throttled[trial.slot] += gpu.throttled_s
        last = self._last.get(trial.slot)
        if last is None or _ended(last) <= _ended(trial):
            self._last[trial.slot] = trial

    def samples(self) -> dict[str, Samples]:
        """Return the values of METRICS."""
        gauges: dict[str, dict[tuple[str, ...], float]] = {each.name: {} for each in METRICS}
        for slot, trial in self._last.items():
            telemetry = trial.outcome.telemetry if trial.outcome else None
            if telemetry is None:
                continue
            if telemetry.steps_per_s is not None:
                gauges[_RATE.name][slot, telemetry.step_counter] = telemetry.steps_per_s
            for name, value in _of_card(telemetry.gpu).items():
                if value is not None:
                    gauges[name][(slot,)] = value
        return {**gauges, _THROTTLED.name: {(slot,): s for slot, s in self._throttled.items()}}


def _of_card(gpu: GpuTelemetry | None) -> Mapping[str, float | None]:
    if gpu is None:
        return {}
    used, memory = gpu.utilisation_percent, gpu.vram_peak_mb
    return {
        "incumbent_trial_gpu_utilisation_ratio": None if used is None else used / 100,
        "incumbent_trial_gpu_memory_bytes": None if memory is None else memory * _MIB,
        "incumbent_trial_gpu_temperature_celsius": gpu.temperature_max_c,
        "incumbent_trial_gpu_power_watts": gpu.power_w,
    }


def _ended(trial: Trial) -> datetime:
    return trial.finished_at or trial.queued_at
