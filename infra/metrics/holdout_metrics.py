"""Metrics of what the holdout says. Does not know how metrics are served."""

from collections.abc import Mapping

from cluster.state.state import StudyState
from infra.facts.holdout_facts import holdout_facts
from infra.metrics.metric_description import MetricDescription, Samples

METRICS = (
    MetricDescription(
        name="incumbent_holdout_score",
        type="gauge",
        help="What is told of the holdout's labels: the best of the promotions, in steps.",
    ),
    MetricDescription(
        name="incumbent_holdout_gap",
        type="gauge",
        help="By how much validation says more than the holdout, at the latest promotion.",
    ),
    MetricDescription(
        name="incumbent_holdout_stalled_promotions",
        type="gauge",
        help="Promotions since the holdout last got better.",
    ),
    MetricDescription(
        name="incumbent_holdout_suspicious",
        type="gauge",
        help="1 while validation gets better and the holdout does not, else 0.",
    ),
)


def samples(state: StudyState) -> Mapping[str, Samples]:
    """Return the values as of a state; none where nothing was scored by a holdout."""
    facts = holdout_facts(state)
    values: list[float | None] = [None] * len(METRICS)
    if facts is not None:
        stalled, is_suspicious = float(facts["stalled"]), float(bool(facts["warning"]))
        values = [facts["score"], facts["gap"], stalled, is_suspicious]
    return {
        metric.name: {} if value is None else {(): value}
        for metric, value in zip(METRICS, values, strict=True)
    }
