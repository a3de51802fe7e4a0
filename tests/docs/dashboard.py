"""Writes docs/monitoring/grafana.json: what one looks at while studies run.

Knows what is drawn and from which metrics, and the parts of Grafana's dashboard format (schema
version 39, which Grafana 10 and later read) that this takes.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass

WIDTH, HEIGHT = 24, 8
"""Of the grid that Grafana lays panels on: columns in all, and rows of one panel."""
SOURCE = {"type": "prometheus", "uid": "${source}"}
MINE = 'instance=~"$instance"'


@dataclass(frozen=True, slots=True, kw_only=True)
class Panel:
    """One picture: expressions in PromQL, each with the legend of its lines."""

    title: str
    lines: Sequence[tuple[str, str]]
    unit: str = "short"
    width: int = WIDTH // 2
    is_stacked: bool = False


def _of(name: str, *more: str) -> str:
    return f"{name}{{{','.join((MINE, *more))}}}"


def _per_slot(name: str) -> tuple[tuple[str, str]]:
    return ((_of(name), "{{slot}}"),)


def _rate(name: str, *more: str, by: str, span: str = "15m") -> str:
    return f"sum by ({by}) (rate({_of(name, *more)}[{span}]))"


_BUSY = _rate("incumbent_slot_busy_seconds_total", by="instance")
_IDLE = _rate("incumbent_slot_idle_seconds_total", by="instance")

PANELS = (
    Panel(
        title="Best so far",
        lines=(
            (_of("incumbent_best_score"), "best of {{instance}}"),
            (_of("incumbent_baseline_score"), "baseline of {{instance}}"),
        ),
    ),
    Panel(
        title="Slots that are busy",
        lines=((f"{_BUSY} / ({_BUSY} + {_IDLE})", "{{instance}}"),),
        unit="percentunit",
    ),
    Panel(
        title="Trials an hour, by ending",
        lines=((f"3600 * {_rate('incumbent_trials_total', by='ending')}", "{{ending}}"),),
        is_stacked=True,
    ),
    Panel(
        title="Experiments, by how they ended",
        lines=((f"sum by (status) ({_of('incumbent_experiments_total')})", "{{status}}"),),
        is_stacked=True,
    ),
    Panel(
        title="Queue",
        lines=(
            (_of("incumbent_queue_ready"), "ready"),
            (_of("incumbent_queue_running"), "running"),
            (_of("incumbent_queue_held"), "waiting for approval"),
        ),
        width=8,
    ),
    Panel(title="Machines", lines=((_of("incumbent_nodes"), "{{state}}"),), width=8),
    Panel(
        title="What slots were used for",
        lines=((_rate("incumbent_trial_seconds_total", by="purpose", span="1h"), "{{purpose}}"),),
        width=8,
        is_stacked=True,
    ),
    Panel(
        title="Stages of a trial, 95 of 100 take at most",
        lines=(
            (
                "histogram_quantile(0.95, "
                + _rate("incumbent_trial_stage_seconds_bucket", by="stage, le", span="1h")
                + ")",
                "{{stage}}",
            ),
        ),
        unit="s",
    ),
    Panel(
        title="Spent on models",
        lines=((_of("incumbent_usd_total"), "{{proposer}}"),),
        unit="currencyUSD",
        is_stacked=True,
    ),
    Panel(
        title="GPU utilisation",
        lines=_per_slot("incumbent_trial_gpu_utilisation_ratio"),
        unit="percentunit",
        width=8,
    ),
    Panel(
        title="GPU memory",
        lines=_per_slot("incumbent_trial_gpu_memory_bytes"),
        unit="bytes",
        width=8,
    ),
    Panel(
        title="GPU temperature",
        lines=_per_slot("incumbent_trial_gpu_temperature_celsius"),
        unit="celsius",
        width=8,
    ),
    Panel(title="By how much a slot's controls shifted", lines=_per_slot("incumbent_slot_shift")),
    Panel(
        title="Validation beyond holdout", lines=((_of("incumbent_holdout_gap"), "{{instance}}"),)
    ),
)


def dashboard() -> str:
    """Return the dashboard as JSON, for Grafana's import."""
    told = {
        "title": "Incumbent",
        "uid": "incumbent",
        "tags": ["incumbent"],
        "schemaVersion": 39,
        "editable": True,
        "refresh": "30s",
        "time": {"from": "now-12h", "to": "now"},
        "templating": {"list": [_choice_of_source(), _choice_of_instance()]},
        "panels": [
            _panel(number, panel, place)
            for number, (panel, place) in enumerate(zip(PANELS, _places(), strict=True), start=1)
        ],
    }
    return json.dumps(told, indent=1) + "\n"


def _places() -> list[dict[str, int]]:
    """Return where each panel goes: from left to right, in rows."""
    places, x, y = [], 0, 0
    for panel in PANELS:
        if x + panel.width > WIDTH:
            x, y = 0, y + HEIGHT
        places.append({"x": x, "y": y, "w": panel.width, "h": HEIGHT})
        x += panel.width
    return places


def _panel(number: int, panel: Panel, place: dict[str, int]) -> dict[str, object]:
    stacking = {"stacking": {"mode": "normal"}, "fillOpacity": 40} if panel.is_stacked else {}
    return {
        "id": number,
        "type": "timeseries",
        "title": panel.title,
        "datasource": SOURCE,
        "gridPos": place,
        "fieldConfig": {"defaults": {"unit": panel.unit, "custom": stacking}, "overrides": []},
        "options": {"legend": {"displayMode": "list", "placement": "bottom"}},
        "targets": [
            {
                "refId": chr(ord("A") + index),
                "datasource": SOURCE,
                "expr": expr,
                "legendFormat": legend,
            }
            for index, (expr, legend) in enumerate(panel.lines)
        ],
    }


def _choice_of_source() -> dict[str, object]:
    return {"name": "source", "label": "Prometheus", "type": "datasource", "query": "prometheus"}


def _choice_of_instance() -> dict[str, object]:
    return {
        "name": "instance",
        "label": "study",
        "type": "query",
        "datasource": SOURCE,
        "query": {"query": "label_values(incumbent_study_info, instance)", "refId": "instance"},
        "refresh": 2,
        "includeAll": True,
        "multi": True,
        "current": {"selected": True, "text": ["All"], "value": ["$__all"]},
    }
