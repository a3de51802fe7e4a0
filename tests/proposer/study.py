"""A study on paper, for proposers that ask a model: its context, and a purse with accounts."""

import threading
from collections.abc import Mapping, Sequence
from typing import Any

from eval.metric import Goal, Metric
from proposer.proposal import Context, Past
from proposer.purse import CallId, CallPlan, OverLimit, RecordedReply, Settlement
from trainer.trial import CommitId, ExperimentId

TRAIN = "import math\n\nLR = 0.1\nDEPTH = 4\n\n\ndef loss():\n    return LR * DEPTH\n"
COMMIT = CommitId("c" * 40)


def context(**changes: Any) -> Context:
    known: dict[str, Any] = {
        "metric": Metric(name="val_loss", goal=Goal.MINIMIZE, pattern="(x)"),
        "incumbent": ExperimentId("e0"),
        "incumbent_value": 1.0,
        "commit": COMMIT,
        "files": {"train.py": TRAIN},
    }
    return Context(**{**known, **changes})


def past(number: int, **changes: Any) -> Past:
    known: dict[str, Any] = {
        "experiment": ExperimentId(f"e{number}"),
        "base": ExperimentId("e0"),
        "proposer": "claude",
        "hypothesis": f"idea {number}",
        "category": "optimizer",
        "status": "discarded",
        "value": 1.1,
        "effect": -0.1,
        "effect_sd": 0.02,
        "reason": "worse",
    }
    return Past(**{**known, **changes})


class FakePurse:
    """Implements proposer.purse.Purse in memory."""

    def __init__(self, usd: float = 100.0, unused: Sequence[RecordedReply] = ()) -> None:
        self.left = usd
        self.reserved: dict[CallId, CallPlan] = {}
        self.plans: dict[CallId, CallPlan] = {}
        self.settled: dict[CallId, Settlement] = {}
        self._unused = list(unused)
        self._lock = threading.Lock()

    def reserve(self, plan: CallPlan) -> CallId:
        with self._lock:
            if plan.usd + sum(each.usd for each in self.reserved.values()) > self.left:
                raise OverLimit(f"${plan.usd:.2f} is more than is left")
            call = CallId(f"c{len(self.plans) + 1}")
            self.plans[call] = self.reserved[call] = plan
            return call

    def settle(self, call: CallId, settlement: Settlement) -> None:
        with self._lock:
            assert call not in self.settled, "settled twice"
            assert settlement.usd <= self.reserved.pop(call).usd
            self.settled[call] = settlement
            self.left -= settlement.usd

    def unused(self, proposer: str) -> Sequence[RecordedReply]:
        found, self._unused = self._unused, []
        return [each for each in found if each.plan.proposer == proposer]

    @property
    def problems(self) -> Mapping[CallId, str]:
        return {call: done.problem for call, done in self.settled.items() if done.problem}
