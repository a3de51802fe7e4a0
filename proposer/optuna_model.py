"""The model of a search: an Optuna study over fixed axes, spoken to in coordinates.

Knows Optuna and is the only module that does. Does not know constants, files or experiments.

A configuration that Optuna suggests is not what runs: the tuner takes over only a part of it. So a
suggested trial is closed at once as FAIL, which all samplers ignore, and what really runs is added
as a trial of its own: RUNNING, so that parallel suggestions keep away from it (TPE's constant liar,
the fantasies of the Gaussian process), and finished with its value later.

A failure of the configuration is PRUNED in Optuna's words: TPE ranks it below all that was scored,
where FAIL would teach it nothing. No number is made up for it.
"""

from collections.abc import Mapping
from enum import StrEnum

import optuna
from optuna.distributions import (
    BaseDistribution,
    CategoricalDistribution,
    FloatDistribution,
    IntDistribution,
)
from optuna.samplers import BaseSampler, CmaEsSampler, GPSampler, RandomSampler, TPESampler
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


class OptunaModel:
    """Suggests configurations and learns what came of them; lives in memory only.

    `sampler` is `tpe`, `cmaes` (which samples unordered axes at random), `gp` or `random`.
    """

    def __init__(self, axes: Mapping[str, Axis], sampler: str, goal: Goal, seed: int) -> None:
        optuna.logging.set_verbosity(optuna.logging.ERROR)
        self._distributions = {name: _distribution(axis) for name, axis in axes.items()}
        self._is_generational = sampler == "cmaes"
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
            # CMA-ES learns only from trials whose notes name its present generation. Others are
            # as good (Hansen, "Injecting external solutions into CMA-ES", 2011).
            _, notes = self.suggest()
        trial = create_trial(
            state=_STATES[standing],
            value=value,
            params=dict(coordinates),
            distributions=self._distributions,
            system_attrs=dict(notes or {}),
        )
        self._study.add_trial(trial)
        return len(self._study.get_trials(deepcopy=False)) - 1

    def finish(self, number: int, standing: Standing, value: float | None) -> None:
        """Say what came of a configuration that was added as RUNNING."""
        self._study.tell(number, value, state=_STATES[standing])


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
        case "random":
            return RandomSampler(seed=seed)
        case _:
            raise ValueError(f"no sampler {name}")
