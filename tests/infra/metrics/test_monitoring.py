"""The alerts and the dashboard that come with Incumbent: what raises them, and that they exist."""

import json
import re
from pathlib import Path

import pytest

from infra.metrics.prometheus import describe_metrics
from tests.docs.generate import DOCS
from tests.infra.metrics.conftest import Promtool

ALERTS = DOCS / "monitoring" / "alerts.yml"
DASHBOARD = DOCS / "monitoring" / "grafana.json"


def expressions() -> list[str]:
    panels = json.loads(DASHBOARD.read_text("utf-8"))["panels"]
    return [target["expr"] for panel in panels for target in panel["targets"]]


def test_each_trouble_raises_its_alert_and_a_good_night_none(promtool: Promtool) -> None:
    promtool("check", "rules", ALERTS)
    promtool("test", "rules", Path(__file__).with_name("alerts_test.yml"))


def test_every_alert_has_been_raised() -> None:
    raised = Path(__file__).with_name("alerts_test.yml").read_text("utf-8")
    for alert in re.findall(r"- alert: (\w+)", ALERTS.read_text("utf-8")):
        assert f'alertname="{alert}"' in raised, alert


def test_the_dashboard_asks_what_prometheus_understands(promtool: Promtool, tmp_path: Path) -> None:
    rules = [
        {"record": f"panel:{number}", "expr": expression.replace("$instance", ".*")}
        for number, expression in enumerate(expressions())
    ]
    path = tmp_path / "rules.yml"
    path.write_text(json.dumps({"groups": [{"name": "dashboard", "rules": rules}]}), "utf-8")
    promtool("check", "rules", path)


def test_panels_do_not_overlap() -> None:
    panels = json.loads(DASHBOARD.read_text("utf-8"))["panels"]
    taken: set[tuple[int, int]] = set()
    for panel in panels:
        place = panel["gridPos"]
        rows = range(place["y"], place["y"] + place["h"])
        cells = {(x, y) for y in rows for x in range(place["x"], place["x"] + place["w"])}
        assert not cells & taken, panel["title"]
        assert max(x for x, _ in cells) < 24, panel["title"]
        taken |= cells


@pytest.mark.parametrize("text", [ALERTS.read_text("utf-8"), *expressions()])
def test_only_metrics_are_asked_for_that_are_served(text: str) -> None:
    served = {metric.name for metric in describe_metrics()}
    for name in re.findall(r"\bincumbent_\w+", text):
        assert name.removesuffix("_bucket") in served
