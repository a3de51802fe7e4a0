"""The names of the metrics that `[score] metric` can have, and their directions.

Apart from the functions themselves (eval.scoring), since reading a configuration must not cost the
import of numpy.
"""

import re
from collections.abc import Mapping

from eval.metric import Goal

TRUSTED_METRICS: Mapping[str, Goal] = {
    "accuracy": Goal.MAXIMIZE,
    "macro_f1": Goal.MAXIMIZE,
    "roc_auc": Goal.MAXIMIZE,
    "log_loss": Goal.MINIMIZE,
    "mse": Goal.MINIMIZE,
    "mean_rank": Goal.MINIMIZE,
    "median_rank": Goal.MINIMIZE,
    "bits_per_byte": Goal.MINIMIZE,
}
"""All but `recall@K`, of which there are many."""
RECALL = re.compile(r"recall@([1-9]\d{0,8})")


def goal_of(name: str) -> Goal:
    """Return the direction in which the metric improves; raises KeyError if there is none such."""
    return Goal.MAXIMIZE if RECALL.fullmatch(name) else TRUSTED_METRICS[name]
