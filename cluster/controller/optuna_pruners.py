"""Optuna's pruners behind eval.pruner.Pruner.

Knows Optuna and how curves are put to it: a curve's percent is its step, and whatever the goals
are, less is better. Warm-up and the least number of trials are not left to Optuna, which counts
those for some pruners and not for others: see eval.pruner.PruningRule.
"""

import warnings
from collections.abc import Sequence

import optuna
from optuna.exceptions import ExperimentalWarning
from optuna.pruners import (
    BasePruner,
    MedianPruner,
    PatientPruner,
    PercentilePruner,
    WilcoxonPruner,
)
from optuna.trial import FrozenTrial, TrialState, create_trial

from eval.config import PrunerConfig
from eval.curve import STEP, Curve
from eval.metric import Goal
from eval.pruner import Finished, PruningRule


class OptunaPruner:
    """One of Optuna's rules; see eval.pruner.Pruner."""

    def __init__(self, rule: BasePruner, *, curve: Goal, metric: Goal) -> None:
        """`curve` and `metric` say in which direction the two improve."""
        optuna.logging.set_verbosity(optuna.logging.ERROR)
        self._rule = rule
        self._curve_sign = _sign(curve)
        self._metric_sign = _sign(metric)
        self._finished: tuple[Finished, ...] = ()
        self._study = optuna.create_study()

    def is_hopeless(self, curve: Curve, finished: Sequence[Finished]) -> bool:
        """See Pruner."""
        if tuple(finished) != self._finished:
            self._finished = tuple(finished)
            self._study = optuna.create_study()
            self._study.add_trials([self._trial(each.curve, each.value) for each in finished])
        return bool(self._rule.prune(self._study, self._trial(curve)))

    def _trial(self, curve: Curve, value: float | None = None) -> FrozenTrial:
        return create_trial(
            state=TrialState.RUNNING if value is None else TrialState.COMPLETE,
            value=None if value is None else self._metric_sign * value,
            intermediate_values={step: self._curve_sign * at for step, at in curve.values},
        )


def pruning_rule(config: PrunerConfig, metric: Goal) -> PruningRule | None:
    """Return what `[pruner]` asks for; None if no trial is to be given up."""
    if config.kind == "none":
        return None
    pruner = OptunaPruner(_rule(config), curve=Goal(config.goal), metric=metric)
    return PruningRule(
        pruner=pruner,
        number=config.curve,
        warmup=config.warmup,
        least=config.least,
        looks_at_others=config.kind != "flat",
    )


def _rule(config: PrunerConfig) -> BasePruner:
    median = MedianPruner(n_startup_trials=0)
    patience = max(1, round(100 * config.patience / STEP))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ExperimentalWarning)
        match config.kind:
            case "percentile":
                return PercentilePruner(config.percentile, n_startup_trials=0)
            case "patient":
                return PatientPruner(median, patience=patience)
            case "flat":
                return PatientPruner(None, patience=patience)
            case "wilcoxon":
                return WilcoxonPruner(p_threshold=config.p_threshold)
            case _:
                return median


def _sign(goal: Goal) -> float:
    return 1.0 if goal is Goal.MINIMIZE else -1.0
