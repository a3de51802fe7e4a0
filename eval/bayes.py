"""The judge that weighs what a promotion is worth against what it may cost. Pure.

Where runs differ by as much as patches do, keeping every lucky run lets the recorded score drift
below the truth until real gains no longer reach it, and a strict test spends more on proof than
false promotions would have cost. Between the two:

- the effect of a patch has a prior, learnt from the study's verdicts (eval.patch_prior);
- each tree's true score is known as a normal distribution, and every verdict, good or bad, also
  measures the tree that the patch was made on, which takes the luck out of the incumbent's score;
- another run is asked for where it is expected to bring more than it costs (the knowledge gradient
  of Frazier, Powell and Dayanik, 2008);
- a patch is kept where its expected gain exceeds the price of keeping one for nothing.
"""

import math
from dataclasses import dataclass, replace

from eval.assumptions import AS_SIMULATED, MERGED_SHARE, MERGED_SPREAD, Assumptions
from eval.beliefs import Belief, Learnt, Memory, PatchCounts
from eval.judge import Circumstance, Evidence, Judgement, Verdict
from eval.metric import Metric
from eval.normal import expectation, survival
from eval.patch_prior import Opinion, PatchPrior

LOOKAHEAD = (1, 2, 4)
"""Further runs whose worth is weighed."""
FEW_SLOTS = 8
PRICE_FEW, PRICE_MANY = 0.3, 1.0
"""Price of keeping a patch for nothing, in standard deviations of a run: below FEW_SLOTS slots
and from there on, where more candidates are measured, and more of them lucky."""
NOT_WORSE = 0.8
"""Probability of being no worse with which a shorter candidate is kept."""
MOST_CONCEDED = 0.5
"""Expected loss, in standard deviations of a run, that shorter candidates may add up to."""
_SMALLEST = 1e-12
"""Of the score, the noise where runs repeat exactly: any difference is then far beyond it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Case:
    """A candidate and its base, oriented so that improvements are positive."""

    observed: float
    """Measured improvement over what the base is believed to score."""
    base: Belief
    count: int
    """Runs of the candidate."""
    runs: float
    """So many runs with the first seed would say as much."""
    sigma: float
    """Noise of such a run, as it is compared with others of its seed."""
    price: float
    prior: PatchPrior
    expected: Belief | None

    def variance(self, more: int = 0) -> float:
        """Return the variance of `observed` with so many more runs."""
        return self.base.variance + self.sigma**2 / (self.runs + more)

    def opinion(self, observed: float, variance: float) -> Opinion:
        """Return what to believe of the effect, if so much of it is observed."""
        if self.expected is None:
            return self.prior.opinion(observed, math.sqrt(variance))
        return _merged(self.expected, observed, variance)

    def utility(self, opinion: Opinion) -> float:
        """Return the expected gain less the price of keeping it for nothing."""
        return opinion.effect.mean - self.price * (1 - opinion.chance)


@dataclass(frozen=True, slots=True, kw_only=True)
class BayesJudge:
    """Keeps what is expected to be worth more than the price of keeping it for nothing.

    Formulas and starting values are those of an independent simulation of 40 settings, see
    docs/judging.md. Free of scale: the unit comes from the noise of the baseline's runs.

    Args:
        metric: what is measured.
        price: of keeping a patch for nothing, in standard deviations of a run; None for 0.3 below
            8 slots and 1 from there on.
        max_replicates: runs of one candidate, at most.
        simplicity: keep what is shorter and very probably no worse.
        assumed: what is taken for true until the study tells better.
    """

    metric: Metric
    price: float | None = None
    max_replicates: int = 6
    simplicity: bool = True
    assumed: Assumptions = AS_SIMULATED

    def begin(self, baseline: Evidence, around: Circumstance) -> Judgement:
        """Return REPLICATE until there are `baseline_runs` runs, then KEEP."""
        n, enough = baseline.score.n, self.assumed.baseline_runs
        if n < enough:
            reason = f"baseline, run {n} of {enough}"
            return Judgement(verdict=Verdict.REPLICATE, delta=0.0, reason=reason)
        learnt = Learnt(candidate=_start(baseline, around), memory=around.memory)
        return Judgement(verdict=Verdict.KEEP, delta=0.0, reason="baseline", learnt=learnt)

    def is_ahead(self, candidate: Evidence, incumbent: Evidence) -> bool:
        """Say whether the candidate's tree is believed to be better."""
        return self.metric.is_better(candidate.worth, incumbent.worth)

    def judge(self, candidate: Evidence, reference: Evidence, around: Circumstance) -> Judgement:
        """Return the judgement of `candidate` against `reference`, its base."""
        case = self._case(candidate, reference, around)
        opinion = case.opinion(case.observed, case.variance())
        delta, words = opinion.effect.mean, _words(opinion)
        if self._is_open(case, opinion, around):
            reason = f"not known yet: {words}"
            return Judgement(verdict=Verdict.REPLICATE, delta=delta, reason=reason)
        keep = case.utility(opinion) > 0
        memory = self._memory(case, opinion, around.memory)
        if keep:
            memory = replace(memory, conceded=max(0.0, memory.conceded - delta))
        elif self._is_simpler(candidate, reference, opinion, memory, case.prior.unit):
            keep, saved = True, reference.lines - candidate.lines
            memory = replace(memory, conceded=memory.conceded + max(0.0, -delta))
            words = f"{saved} line{'s' if saved > 1 else ''} shorter and no worse: {words}"
        else:
            words = f"{'worse' if delta <= 0 else 'not worth its price'}: {words}"
        return Judgement(
            verdict=Verdict.KEEP if keep else Verdict.DISCARD,
            delta=delta,
            reason=words,
            learnt=self._learnt(case, opinion, memory),
        )

    def _case(self, candidate: Evidence, reference: Evidence, around: Circumstance) -> _Case:
        unit = _above_zero(around.noise.sigma, candidate)
        base = reference.belief or _start(reference, around)
        price = self.price
        if price is None:
            price = PRICE_FEW if around.slots < FEW_SLOTS else PRICE_MANY
        own = around.measured(candidate.score)
        return _Case(
            observed=self.metric.improvement(own.mean, base.mean),
            base=base,
            count=candidate.score.n,
            runs=own.runs,
            sigma=_above_zero(around.sigma, candidate),
            price=price * unit,
            prior=PatchPrior(
                seen=around.memory.patches or PatchCounts(), unit=unit, assumed=self.assumed
            ),
            expected=candidate.expected,
        )

    def _is_open(self, case: _Case, opinion: Opinion, around: Circumstance) -> bool:
        """Say whether another run is worth more than a run costs."""
        if case.count >= self.max_replicates:
            return False
        if case.count == 1 and self._is_noise_unsure(case, opinion, around):
            return True
        most = self.max_replicates - case.count
        gained = max(
            _knowledge_gradient(case, opinion, more) / more for more in LOOKAHEAD if more <= most
        )
        return gained > self.assumed.run_cost * case.prior.weights[0] * case.prior.sizes[0]

    def _is_noise_unsure(self, case: _Case, opinion: Opinion, around: Circumstance) -> bool:
        """Say whether a second run is due for what it says of the noise.

        Of everything while nothing is known. Of what would be kept while runs have only repeated
        exactly, perhaps by chance: each step of a coarse metric would be a gain beyond doubt. Of
        what would be discarded while little is known, so that no promotion waits for it: an
        estimate that is too small by luck asks for no runs, and would never be put right. Few slots
        have none to spare for that.
        """
        noise = around.noise
        if not noise.dof:
            return True
        if case.utility(opinion) > 0:
            return not noise.is_known
        return around.slots >= FEW_SLOTS and noise.dof < self.assumed.known_dof

    def _is_simpler(
        self,
        candidate: Evidence,
        reference: Evidence,
        opinion: Opinion,
        memory: Memory,
        sigma: float,
    ) -> bool:
        """Say whether a candidate is kept for being shorter; many small losses may not add up."""
        conceded = memory.conceded + max(0.0, -opinion.effect.mean)
        return (
            self.simplicity
            and candidate.lines < reference.lines
            and opinion.chance_harm <= 1 - NOT_WORSE
            and conceded <= MOST_CONCEDED * sigma
        )

    def _memory(self, case: _Case, opinion: Opinion, memory: Memory) -> Memory:
        """Count what was learnt of patches; a merge's patch was counted before."""
        if case.expected is not None:
            return memory
        return replace(memory, patches=case.prior.learn(opinion))

    def _learnt(self, case: _Case, opinion: Opinion, memory: Memory) -> Learnt:
        """Return what both trees are believed to score now.

        The surprise is shared by the base and the candidate as their variances are.
        """
        base, effect = case.base, opinion.effect
        share = base.variance / case.variance()
        surprise = share * (case.observed - effect.mean)
        better = self.metric.improvement(0.0, 1.0)  # 1, or -1 where more is better
        kept = base.variance * (1 - share)
        return Learnt(
            reference=Belief(
                mean=base.mean - better * surprise,
                variance=kept + share**2 * effect.variance,
            ),
            candidate=Belief(
                mean=base.mean - better * (surprise + effect.mean),
                variance=kept + (1 - share) ** 2 * effect.variance,
            ),
            effect=effect,
            chance=opinion.chance,
            memory=memory,
        )


def _above_zero(sigma: float, evidence: Evidence) -> float:
    """Return the noise of one run, above zero."""
    return max(sigma, _SMALLEST * max(abs(evidence.score.mean), _SMALLEST))


def _start(evidence: Evidence, around: Circumstance) -> Belief:
    """Return what runs alone say of a tree's score."""
    own, sigma = around.measured(evidence.score), _above_zero(around.sigma, evidence)
    return Belief(mean=own.mean, variance=sigma**2 / own.runs)


def _merged(expected: Belief, observed: float, variance: float) -> Opinion:
    """Return what to believe of a merged patch's effect, known from where it was first measured."""
    mean = MERGED_SHARE * expected.mean
    before = expected.variance + (MERGED_SPREAD * expected.mean) ** 2
    share = before / (before + variance)
    effect = Belief(mean=mean + share * (observed - mean), variance=before * (1 - share))
    harm = survival(effect.mean / math.sqrt(effect.variance)) if effect.variance else 0.0
    return Opinion(
        effect=effect,
        chance=1 - harm,
        chance_harm=harm,
        shares=(1 - harm, 0.0, harm, 0.0),
        sizes=(0.0, 0.0, 0.0),
    )


def _knowledge_gradient(case: _Case, opinion: Opinion, more: int) -> float:
    """Return by how much so many more runs are expected to raise the worth of the decision.

    Their mean, as an improvement over the base's believed score, is normal about what is expected
    now: the effect, and the base's share of the surprise.
    """
    total = case.variance()
    share = case.base.variance / total
    mean = opinion.effect.mean + share * (case.observed - opinion.effect.mean)
    spread = case.base.variance * (1 - share) + (1 - share) ** 2 * opinion.effect.variance
    later = case.variance(more)

    def worth(observed: float) -> float:
        joined = (case.runs * case.observed + more * observed) / (case.runs + more)
        return max(0.0, case.utility(case.opinion(joined, later)))

    sd = math.sqrt(spread + case.sigma**2 / more)
    return expectation(worth, mean, sd) - max(0.0, case.utility(opinion))


def _words(opinion: Opinion) -> str:
    effect = opinion.effect
    return (
        f"{effect.mean:+.2g} ± {math.sqrt(effect.variance):.1g}, "
        f"a gain with {100 * opinion.chance:.0f} %"
    )
