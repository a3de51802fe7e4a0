"""Tries pruners and rungs on a study's recorded curves: what each would have saved, and lost."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TypedDict

from cluster.config import StudyConfig
from cluster.controller.curve_book import read_curve
from cluster.controller.optuna_pruners import pruning_rule
from cluster.controller.ports import CurveSource
from cluster.state.experiment import Experiment, Kind, Trial
from cluster.state.state import StudyState
from eval.config import PrunerConfig
from eval.judge import Verdict
from eval.metric import Goal
from eval.pruning_replay import PastTrial, Stop, replay
from eval.rung_replay import replay_rungs
from infra.local.home import StudyProblem
from trainer.trial import Ending

KINDS = ("median", "percentile", "patient", "wilcoxon", "flat")
RUNGS = "rungs"
"""Tried like a kind of pruner."""
_BROKEN_OFF = frozenset({Ending.PRUNED, Ending.CANCELLED})
"""Endings of trials of which nobody knows what their curves would have come to."""


class StopFacts(TypedDict):
    """A trial that would have been stopped."""

    trial: str
    percent: int
    """Of its budget, when it would have been."""
    saved_s: float
    winner: bool
    reason: str


class KindFacts(TypedDict):
    """What one kind of pruner would have done."""

    kind: str
    stopped: list[StopFacts]
    saved_s: float
    """Seconds of GPUs, or of CPU slots, less `rungs_s`."""
    rungs_s: float
    """What runs on rungs would have taken; 0 for a pruner."""
    saved_percent: float
    winners_lost: list[str]


class DryPruningFacts(TypedDict):
    """What `incumbent prune --dry-run` found."""

    curve: str
    trials: int
    """With a curve, and run to their end."""
    without_curve: int
    pruned: int
    """Stopped for their curves when they ran, and left out."""
    might_be_stopped: int
    winners: int
    """Among those that might be stopped."""
    seconds: float
    """What all trials took, of GPUs, or of CPU slots."""
    kinds: list[KindFacts]


@dataclass(frozen=True, slots=True, kw_only=True)
class Record:
    """A study's trials, as far as pruners are concerned."""

    trials: Sequence[PastTrial]
    """With a curve."""
    without_curve: int
    pruned: int
    seconds: float
    """Of slots, those without a curve included."""


def past_trials(state: StudyState, source: CurveSource, *, number: str, budget_s: float) -> Record:
    """Return the trials that ended by themselves.

    Raises:
        StudyProblem: none of them has a curve; the message says what their progress lines name.
    """
    found = list(_ended(state))
    past = [_past(e, t, source, number, budget_s) for e, t in found]
    with_curve = [each for each in past if each.curve.values]
    if not with_curve:
        trials = [trial for _, trial in found]
        raise StudyProblem(_no_curves(state.study, trials, source, number))
    return Record(
        trials=with_curve,
        without_curve=len(past) - len(with_curve),
        pruned=_pruned(state),
        seconds=sum(each.ended_s - each.started_s for each in past),
    )


def _ended(state: StudyState) -> Iterator[tuple[Experiment, Trial]]:
    for experiment in state.experiments.values():
        in_full = (trial for trial in experiment.trials if trial.rung_s is None)
        for trial in in_full:
            is_whole = trial.outcome is not None and trial.outcome.ending not in _BROKEN_OFF
            if is_whole and trial.started_at:
                yield experiment, trial


def _pruned(state: StudyState) -> int:
    """Count the trials that were stopped for their curves; each experiment has one at most."""
    return sum(
        any(t.outcome is not None and t.outcome.ending is Ending.PRUNED for t in each.trials)
        for each in state.experiments.values()
    )


def _past(
    experiment: Experiment, trial: Trial, source: CurveSource, number: str, budget_s: float
) -> PastTrial:
    outcome = trial.outcome
    in_full = [each for each in experiment.trials if each.rung_s is None]
    started_s = trial.started_at.timestamp() if trial.started_at else 0.0
    return PastTrial(
        trial=trial.id,
        experiment=experiment.id,
        device_class=outcome.device_class if outcome else "",
        started_s=started_s,
        ended_s=started_s + trial.seconds,
        curve=read_curve(source, (trial.id, trial.attempt), number, budget_s),
        value=outcome.value if outcome and not trial.is_set_aside else None,
        may_be_stopped=trial.id == in_full[0].id and experiment.kind is Kind.PROPOSAL,
        further_s=sum(other.seconds for other in in_full if other.id != trial.id),
        is_winner=experiment.verdict is Verdict.KEEP,
    )


def _no_curves(study: str, trials: Sequence[Trial], source: CurveSource, number: str) -> str:
    if not trials:
        return f"no trial of {study} has ended yet, so there are no curves to try pruners on"
    names = {
        name: None
        for trial in trials[-20:]
        for point in source.curve(trial.id, trial.attempt)
        for name in point.points
    }
    if number in names:
        return (
            f"the curves of {number!r} in {study} are too short to compare: [trial] budget_s "
            f"should be several times as long as heartbeats are apart, two seconds"
        )
    told = f"there are {', '.join(names)}" if names else "they name no numbers, as in `loss: 2.3`"
    return (
        f"no trial of {study} has a curve of {number!r}: of their progress lines, {told} "
        f"([pruner] curve says which number is compared)"
    )


def try_pruners(
    record: Record, config: StudyConfig, kinds: Sequence[str], budget_s: float
) -> DryPruningFacts:
    """Return what pruners of these kinds would have done, with the other keys of `[pruner]`.

    Rungs, which are among the kinds if the configuration has some, by `[pruner] curve` as well.
    """
    per_slot = config.trial.gpus or 1.0
    open_to = [past for past in record.trials if past.may_be_stopped]
    return {
        "curve": config.pruner.curve,
        "trials": len(record.trials),
        "without_curve": record.without_curve,
        "pruned": record.pruned,
        "might_be_stopped": len(open_to),
        "winners": sum(past.is_winner for past in open_to),
        "seconds": per_slot * record.seconds,
        "kinds": [
            _kind(kind, *_tried(record, config, kind, budget_s), per_slot, record.seconds)
            for kind in kinds
        ],
    }


def _tried(
    record: Record, config: StudyConfig, kind: str, budget_s: float
) -> tuple[Sequence[Stop], float]:
    """Return what a kind would have stopped, and the seconds that it would have taken itself."""
    if kind == RUNGS:
        found = replay_rungs(record.trials, config.rungs(), Goal(config.pruner.goal), budget_s)
        return found.stops, found.rungs_s
    asked = PrunerConfig.model_validate({**config.pruner.model_dump(), "kind": kind})
    rule = pruning_rule(asked, Goal(config.metric.goal))
    return (replay(record.trials, rule, budget_s) if rule else []), 0.0


def _kind(
    kind: str, stops: Sequence[Stop], rungs_s: float, per_slot: float, seconds: float
) -> KindFacts:
    saved_s = sum(stop.saved_s for stop in stops) - rungs_s
    return {
        "kind": kind,
        "stopped": [
            {
                "trial": stop.past.trial,
                "percent": stop.percent,
                "saved_s": per_slot * stop.saved_s,
                "winner": stop.past.is_winner,
                "reason": stop.reason,
            }
            for stop in stops
        ],
        "saved_s": per_slot * saved_s,
        "rungs_s": per_slot * rungs_s,
        "saved_percent": 100 * saved_s / seconds if seconds else 0.0,
        "winners_lost": [stop.past.experiment for stop in stops if stop.past.is_winner],
    }
