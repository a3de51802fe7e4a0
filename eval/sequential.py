"""The judge that asks for proof: a group-sequential test on fresh runs. Pure.

For those who want a bound on false promotions more than the most true improvement, and to compare
with. A candidate whose first run looks better is tested on further ones, and on those alone: the
first was selected for being good. After each run the test may pass, or give up; the probability of
passing for nothing is spent over the runs (Lan and DeMets, 1983, with Pocock's shape; that looks
overlap is left out, which is on the safe side) and, over the study, held to the share
`1 - confidence` of all that pass (LOND: Javanmard and Montanari, 2015).
"""

import math
from dataclasses import dataclass, replace

from eval.assumptions import BASELINE_RUNS
from eval.beliefs import Belief, Learnt, Memory
from eval.judge import Circumstance, Evidence, Judgement, Verdict
from eval.metric import Metric
from eval.normal import survival


@dataclass(frozen=True, slots=True, kw_only=True)
class SequentialJudge:
    """Keeps what fresh runs prove to be better.

    Args:
        metric: what is measured.
        confidence: 1 less the share of false promotions among all, e.g. 0.95.
        max_replicates: runs of one candidate, at most, the first included.
    """

    metric: Metric
    confidence: float = 0.95
    max_replicates: int = 6

    def begin(self, baseline: Evidence, around: Circumstance) -> Judgement:
        """Return REPLICATE until there are BASELINE_RUNS runs, then KEEP."""
        n = baseline.score.n
        if n < BASELINE_RUNS:
            reason = f"baseline, run {n} of {BASELINE_RUNS}"
            return Judgement(verdict=Verdict.REPLICATE, delta=0.0, reason=reason)
        belief = Belief(mean=baseline.score.mean, variance=around.noise.sigma**2 / n)
        learnt = Learnt(candidate=belief, memory=around.memory)
        return Judgement(verdict=Verdict.KEEP, delta=0.0, reason="baseline", learnt=learnt)

    def is_ahead(self, candidate: Evidence, incumbent: Evidence) -> bool:
        """Say whether the candidate's fresh runs are better than the incumbent's."""
        return self.metric.is_better(candidate.worth, incumbent.worth)

    def judge(self, candidate: Evidence, reference: Evidence, around: Circumstance) -> Judgement:
        """Return the judgement of `candidate` against `reference`."""
        fresh = candidate.score.values[1:]
        if not fresh:
            return self._screened(candidate, reference, around)
        k, mean = len(fresh), math.fsum(fresh) / len(fresh)
        delta = self.metric.improvement(mean, reference.worth)
        p_value = _p_value(delta, math.sqrt(self._variance(k, reference, around)))
        begun = self._begun(candidate, around)
        words = f"{delta:+.2g} over {k} fresh run{'s' if k > 1 else ''}, p = {p_value:.2g}"
        if p_value <= _spent(begun.level, k, self.max_replicates - 1):
            memory = replace(begun.memory, passed=begun.memory.passed + 1)
            belief = Belief(mean=mean, variance=around.noise.sigma**2 / k)
            learnt = replace(begun, candidate=belief, memory=memory)
            return Judgement(verdict=Verdict.KEEP, delta=delta, reason=words, learnt=learnt)
        is_over = delta <= 0 or candidate.score.n >= self.max_replicates
        verdict = Verdict.DISCARD if is_over else Verdict.REPLICATE
        return Judgement(verdict=verdict, delta=delta, reason=words, learnt=begun)

    def _screened(
        self, candidate: Evidence, reference: Evidence, around: Circumstance
    ) -> Judgement:
        """Discard what does not even look better; begin the test of what does."""
        delta = self.metric.improvement(candidate.score.mean, reference.worth)
        if delta <= 0:
            return Judgement(verdict=Verdict.DISCARD, delta=delta, reason="worse")
        learnt = self._begun(candidate, around)
        reason = f"looks better: to be tested at {learnt.level:.2g}"
        return Judgement(verdict=Verdict.REPLICATE, delta=delta, reason=reason, learnt=learnt)

    def _begun(self, candidate: Evidence, around: Circumstance) -> Learnt:
        """Return the candidate's test, begun now if it was not before.

        So is that of one which looked worse at first, and which somebody had run again.
        """
        if candidate.level:
            return Learnt(level=candidate.level, memory=around.memory)
        memory = replace(around.memory, tested=around.memory.tested + 1)
        return Learnt(level=self._level(memory), memory=memory)

    def _level(self, memory: Memory) -> float:
        """Return the level of the latest test; all levels without a pass add up to the error."""
        share = 6 / (math.pi * memory.tested) ** 2
        return (1 - self.confidence) * share * (memory.passed + 1)

    def _variance(self, k: int, reference: Evidence, around: Circumstance) -> float:
        square = around.noise.sigma**2
        known = reference.belief.variance if reference.belief else square / reference.score.n
        return square / k + known


def _p_value(delta: float, sd: float) -> float:
    if not sd:  # runs repeat exactly
        return 0.0 if delta > 0 else 1.0
    return survival(delta / sd)


def _spent(level: float, look: int, looks: int) -> float:
    """Return how much of the level one look may use."""

    def by(share: float) -> float:
        return level * math.log(1 + (math.e - 1) * share)

    return by(look / looks) - by((look - 1) / looks)
