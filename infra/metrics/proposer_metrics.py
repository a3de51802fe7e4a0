"""Metrics of proposers and of what they cost. Does not know how metrics are served."""

from collections.abc import Mapping
from dataclasses import asdict

from cluster.state.experiment import Status
from cluster.state.state import StudyState
from infra.metrics.metric_description import MetricDescription, Samples

METRICS = (
    MetricDescription(
        name="incumbent_proposals_total",
        type="counter",
        labels=("proposer",),
        help="Experiments and refusals that came of a proposer's answers.",
    ),
    MetricDescription(
        name="incumbent_calls_total",
        type="counter",
        labels=("proposer",),
        help="Calls of models that have ended.",
    ),
    MetricDescription(
        name="incumbent_tokens_total",
        type="counter",
        labels=("proposer", "kind"),
        help="Tokens of these calls: input, cache_read, cache_write, output.",
    ),
    MetricDescription(
        name="incumbent_usd_total",
        type="counter",
        labels=("proposer",),
        help="US dollars that these calls cost.",
    ),
    MetricDescription(
        name="incumbent_usd_reserved",
        type="gauge",
        help="US dollars that the calls on their way can cost at most.",
    ),
    MetricDescription(
        name="incumbent_proposer_troubled",
        type="gauge",
        labels=("proposer",),
        help="1 while a proposer is left alone as it could not answer, else 0.",
    ),
    MetricDescription(
        name="incumbent_queue_held",
        type="gauge",
        help="Experiments that wait for somebody's approval.",
    ),
)


def samples(state: StudyState) -> Mapping[str, Samples]:
    """Return the values as of a state."""
    accounts = dict(state.accounts)
    names = {*accounts, *state.troubled}
    return {
        "incumbent_proposals_total": {(n,): each.proposals for n, each in accounts.items()},
        "incumbent_calls_total": {(n,): each.calls for n, each in accounts.items()},
        "incumbent_tokens_total": {
            (name, kind): count
            for name, each in accounts.items()
            for kind, count in asdict(each.usage).items()
        },
        "incumbent_usd_total": {(n,): each.usd for n, each in accounts.items()},
        "incumbent_usd_reserved": {(): sum(plan.usd for plan in state.reserved.values())},
        "incumbent_proposer_troubled": {(n,): float(n in state.troubled) for n in names},
        "incumbent_queue_held": {(): state.count(Status.HELD)},
    }
