"""Under which conditions a trial ran, in words. Pure; reads facts, so that `--json` has it all."""

from collections.abc import Iterator, Mapping
from typing import Any

from infra.facts.fact_records import StartFacts, TimeFacts, TrialFacts
from infra.facts.plain_text import counted, duration, one_line
from trainer.run_start import Start

_STAGES = ("smoke", "start", "prepare", "steps", "evaluate", "predict")
_START_WORDS = {
    Start.WARM: "warm start",
    Start.GATE: "start without imports",
    Start.COLD: "cold start",
}


def conditions(trial: TrialFacts) -> str:
    """Return what was measured of a trial beside its metric; empty if nothing was."""
    outcome = trial["outcome"] or {}
    telemetry: Mapping[str, Any] = outcome.get("telemetry") or {}
    parts = [*_of_process(telemetry), *_of_card(telemetry.get("gpu") or {})]
    stages = _stages(outcome.get("stages_s") or {})
    return ", ".join([*parts, *([stages] if stages else [])])


def time_spent(facts: TimeFacts) -> str:
    """Return how trials spend their time; empty where their logs do not tell."""
    share = facts["training_share"]
    if share is None:
        return ""
    of = counted(facts["trials"], "trial")
    return f"{_stages(facts['stages_s'])}; {100 * share:.0f} % is training (median of {of})"


def how_started(outcome: Mapping[str, Any]) -> str:
    """Return in what a trial ran, and what had been done for it before; empty if it never did."""
    start = outcome.get("start")
    if start is None:
        return ""
    reason = one_line(outcome["cold_reason"])
    words = f"{outcome['sandbox']}, {_START_WORDS[Start(start)]}"
    return f"{words}: {reason}" if reason else words


def starts(facts: StartFacts) -> str:
    """Return how many trials had to wait for their imports, and why; empty if none had to."""
    if not facts["reason"]:
        return ""
    trials = facts["warm"] + facts["gate"] + facts["cold"]
    why = f"{facts['reason_trials']} not: {one_line(facts['reason'])}"
    return f"{facts['warm']} of {trials} warm; {why}"


def _of_process(telemetry: Mapping[str, Any]) -> Iterator[str]:
    if (rate := telemetry.get("steps_per_s")) is not None:
        yield f"{rate:.3g} {one_line(telemetry['step_counter'])}s/s"
    if (cpu_s := telemetry.get("cpu_s")) is not None:
        yield f"CPU {_seconds(cpu_s)}"
    if (memory := telemetry.get("memory_peak_mb")) is not None:
        yield f"memory {_size(memory)}"


def _of_card(gpu: Mapping[str, Any]) -> Iterator[str]:
    if (busy := gpu.get("utilisation_percent")) is not None:
        yield f"GPU {busy:.0f} %"
    if (clock := gpu.get("sm_clock_mhz")) is not None:
        least = gpu.get("sm_clock_min_mhz")
        yield f"{clock:.0f} MHz" + (f" (least {least:.0f})" if least is not None else "")
    if (memory := gpu.get("vram_peak_mb")) is not None:
        yield f"{'all of the card: ' if gpu['is_vram_of_card'] else ''}VRAM {_size(memory)}"
    if (power := gpu.get("power_w")) is not None:
        yield f"{power:.0f} W"
    if (heat := gpu.get("temperature_max_c")) is not None:
        yield f"{heat:.0f} °C"
    if reasons := gpu.get("throttle_s"):
        yield "held back by " + " ".join(f"{why} {_seconds(s)}" for why, s in reasons.items())
    if strangers := gpu.get("stranger_mb"):
        yield f"strangers {_size(strangers)}"


def _stages(seconds: Mapping[str, float]) -> str:
    return ", ".join(f"{name} {_seconds(seconds[name])}" for name in _STAGES if name in seconds)


def _seconds(value: float) -> str:
    return f"{value:.2g}s" if value < 10 else duration(value)


def _size(mb: float) -> str:
    return f"{mb:.0f} MiB" if mb < 1024 else f"{mb / 1024:.1f} GiB"
