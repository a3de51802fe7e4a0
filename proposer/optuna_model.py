"""The model of a search: an Optuna study over fixed axes, spoken to in coordinates.

Knows Optuna and is the only module that does. Does not know constants, files or experiments.

A configuration that Optuna suggests is not what runs: the tuner takes over only a part of it. So a
suggested trial is closed at once as FAIL, which all samplers ignore, and what really runs is added
as a trial of its own: RUNNING, so that parallel suggestions keep away from it (TPE's constant liar,
the fantasies of the Gaussian process), and finished with its value later.

A failure of the configuration is PRUNED in Optuna's words: TPE ranks it below all that was scored,
where FAIL would teach it nothing. No number is made up for it.

A configuration may lack axes, as a tree lacks a constant that came later. TPE learns from it what
it says of the others; the other samplers model whole configurations only (`takes_parts`).
"""

import math
from collections import Counter
from collections.abc import Mapping
from enum import StrEnum

import optuna
from optuna.distributions import (
    BaseDistribution,
    CategoricalDistribution,
    FloatDistribution,
    IntDistribution,
)
from optuna.samplers import (
    BaseSampler,
    CmaEsSampler,
    GPSampler,
    NSGAIISampler,
    RandomSampler,
    TPESampler,
)
from optuna.trial import TrialState, create_trial

from eval.metric import Goal
from proposer.space import Axis, AxisKind


class Standing(StrEnum):
    """What is known of a configuration."""

    RUNNING = "running"  # nothing yet
    SCORED = "scored"  # a value
    FAILED = "failed"  # it cannot be measured, or was not worth it, and that is its own fault
    UNKNOWN = "unknown"  # it was not measured, for reasons that say nothing of it


_STATES = {
    Standing.RUNNING: TrialState.RUNNING,
    Standing.SCORED: TrialState.COMPLETE,
    Standing.FAILED: TrialState.PRUNED,
    Standing.UNKNOWN: TrialState.FAIL,
}


_POPULATION = 10
"""Of NSGA-II. Optuna's 50 would take most of a night for its first generation."""
_LEAST_TOP = 2
"""Configurations in the best tenth, below which PED-ANOVA has nothing to compare."""


class OptunaModel:
    """Suggests configurations and learns what came of them; lives in memory only.

    `sampler` is `tpe`, `cmaes` (which samples unordered axes at random), `evolution` (NSGA-II with
    one objective: elitist, with crossover and mutation), `gp` or `random`.
    """

    def __init__(self, axes: Mapping[str, Axis], sampler: str, goal: Goal, seed: int) -> None:
        optuna.logging.set_verbosity(optuna.logging.ERROR)
        self._distributions = {name: _distribution(axis) for name, axis in axes.items()}
        self._is_generational = sampler in {"cmaes", "evolution"}
        self.takes_parts = sampler in {"tpe", "random"}
        """Whether configurations that lack axes can be added."""
        self._goal = goal
        self._study = optuna.create_study(sampler=_sampler(sampler, seed), direction=goal.value)

    def suggest(self) -> tuple[dict[str, float], dict[str, object]]:
        """Return a configuration, and the notes that the sampler made of it for itself."""
        trial = self._study.ask(self._distributions)
        self._study.tell(trial, state=TrialState.FAIL)
        return trial.params, self._study.get_trials(deepcopy=False)[trial.number].system_attrs

    def add(
        self,
        coordinates: Mapping[str, float],
        standing: Standing,
        value: float | None = None,
        notes: Mapping[str, object] | None = None,
    ) -> int:
        """Add a configuration and return its number.

        `notes` are those of the suggestion that it derives from, if any. `value` is given if and
        only if the standing is SCORED.
        """
        if notes is None and self._is_generational:
            # CMA-ES and NSGA-II learn only from trials whose notes name their present generation.
            # Others are as good (Hansen, "Injecting external solutions into CMA-ES", 2011).
            _, notes = self.suggest()
        trial = create_trial(
            state=_STATES[standing],
            value=value,
            params=dict(coordinates),
            distributions={name: self._distributions[name] for name in coordinates},
            system_attrs=dict(notes or {}),
        )
        self._study.add_trial(trial)
        return len(self._study.get_trials(deepcopy=False)) - 1

    def finish(self, number: int, standing: Standing, value: float | None) -> None:
        """Say what came of a configuration that was added as RUNNING."""
        self._study.tell(number, value, state=_STATES[standing])

    def importances(self) -> dict[str, float]:
        """Return how much each axis decides whether a score is among the best tenth; sums to 1.

        PED-ANOVA (Watanabe, Bansal, Hutter, "PED-ANOVA", IJCAI 2023): one-dimensional densities of
        the best tenth against all. Costs milliseconds, where fANOVA grows forests. The largest
        first; empty where too little was scored to tell.
        """
        # It brings scikit-learn along, 100 MiB: a study pays for it only where somebody reads this.
        from optuna.importance import PedAnovaImportanceEvaluator  # noqa: PLC0415

        trials = self._study.get_trials(deepcopy=False, states=[TrialState.COMPLETE])
        values = sorted((t.value for t in trials if t.value is not None), reverse=self._is_up)
        count = math.ceil(len(values) * 0.1)
        if count < _LEAST_TOP or values[count - 1] == values[-1]:
            return {}
        # An axis of which a single trial knows, or a single one does not, makes Optuna warn.
        known = Counter(name for trial in trials for name in trial.params)
        names = [n for n in self._distributions if known[n] > 1 and len(trials) - known[n] != 1]
        found = PedAnovaImportanceEvaluator().evaluate(self._study, params=names)
        total = sum(found.values())
        shares = {name: share / total for name, share in found.items()} if total > 0 else {}
        return dict(sorted(shares.items(), key=lambda item: (-item[1], item[0])))

    @property
    def _is_up(self) -> bool:
        return self._goal is Goal.MAXIMIZE


def _distribution(axis: Axis) -> BaseDistribution:
    match axis.kind:
        case AxisKind.REAL:
            return FloatDistribution(axis.low, axis.high, log=axis.log)
        case AxisKind.WHOLE:
            return IntDistribution(int(axis.low), int(axis.high))
        case AxisKind.UNORDERED:
            return CategoricalDistribution(range(int(axis.high) + 1))


def _sampler(name: str, seed: int) -> BaseSampler:
    match name:
        case "tpe":
            return TPESampler(seed=seed, constant_liar=True)
        case "cmaes":
            return CmaEsSampler(seed=seed)
        case "gp":
            return GPSampler(seed=seed)
        case "evolution":
            return NSGAIISampler(seed=seed, population_size=_POPULATION)
        case "random":
            return RandomSampler(seed=seed)
        case _:
            raise ValueError(f"no sampler {name}")
