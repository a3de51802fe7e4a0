"""Scores what promoted trials left for the holdout, as they are promoted. An observer of a study.

Knows which promotions have no score yet, and what of a score may be told. Scores in a thread of its
own: the controller waits for nothing before its end. What has not come from another machine by then
the next one begins with. Only what the Ladder tells (eval.holdout) leaves this module.
"""

import logging
import threading
from collections.abc import Callable
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from queue import Empty, SimpleQueue

from cluster.ledger.ledger import Ledger
from cluster.policy.verdicts import noise
from cluster.state import events as ev
from cluster.state.experiment import Experiment, Kind, Status, Trial
from cluster.state.hidden_label_events import HoldoutScored
from cluster.state.state import StudyState
from eval.holdout import ladder
from eval.metric import Metric
from trainer.score_report import ScoreReport
from trainer.scorer import Scorer
from trainer.trial import TrialSpec, number_of

_log = logging.getLogger("incumbent")
_LOOK_S = 0.1


class HoldoutWatch:
    """Implements cluster.controller.ports.Observer."""

    def __init__(
        self,
        *,
        scorer: Scorer,
        ledger: Ledger,
        epoch: int,
        left: Callable[[TrialSpec], Path],
        metric: Metric,
        step: float | None,
        is_awaited: Callable[[Trial], bool] = lambda _: False,
    ) -> None:
        """`left` is where what a trial left to be scored is kept.

        `is_awaited` says whether that is on its way here from another machine; others go first.

        `step` is what must be gained to be told; None: the noise of a run, as far as known.
        """
        self._scorer = scorer
        self._ledger = ledger
        self._epoch = epoch
        self._left = left
        self._metric = metric
        self._step = step
        self._is_awaited = is_awaited
        self._best: float | None = None
        self._waiting: SimpleQueue[tuple[Experiment, float] | None] = SimpleQueue()
        self._thread = threading.Thread(target=self._work, daemon=True)

    def resume(self, state: StudyState) -> None:
        """See Observer."""
        told = [look.reported for look in state.holdouts if look.reported is not None]
        self._best = told[-1] if told else None
        known = {look.experiment for look in state.holdouts}
        for experiment in _heads(state):
            if experiment.id not in known:
                self._ask(state, experiment)
        self._thread.start()

    def observe(self, recorded: ev.Recorded, state: StudyState) -> None:
        """See Observer."""
        event = recorded.event
        if isinstance(event, ev.Promoted | ev.ExperimentJudged):
            experiment = state.experiments[event.experiment]
            is_first = experiment.kind is Kind.BASELINE and experiment.status is Status.KEPT
            if isinstance(event, ev.Promoted) or is_first:
                self._ask(state, experiment)

    def finish(self) -> None:
        """Score what was asked and is here; what is not is left to the next controller."""
        if self._thread.is_alive():
            self._waiting.put(None)
            self._thread.join()

    def close(self) -> None:
        """See Observer."""
        self.finish()
        self._scorer.close()

    def _ask(self, state: StudyState, experiment: Experiment) -> None:
        step = self._step
        if step is None:
            step = noise(state, experiment.last_outcome.device_class).sigma
        self._waiting.put((experiment, step))

    def _work(self) -> None:
        due: list[tuple[Experiment, float]] = []
        is_over = False
        while not is_over:
            with suppress(Empty):
                asked = self._waiting.get(timeout=_LOOK_S if due else None)
                is_over = asked is None
                due += [asked] if asked else []
            due = [each for each in due if not self._is_done(*each)]
        for experiment, _ in due:
            node = experiment.scored[-1][0].node
            _log.warning("holdout of %s: what it left on %s has not come back", experiment.id, node)

    def _is_done(self, experiment: Experiment, step: float) -> bool:
        """Score an experiment if what it left is here; say whether there is nothing more to do."""
        trial, _, validation = experiment.scored[-1]
        if self._is_awaited(trial):
            return False
        try:
            self._look(experiment, trial, validation, step)
        except (OSError, RuntimeError) as error:
            # Of our own making, or a successor is at work: whoever comes next tries again.
            _log.warning("holdout of %s: %s", experiment.id, error)
        return True

    def _look(self, experiment: Experiment, trial: Trial, validation: float, step: float) -> None:
        spec = TrialSpec(
            trial=trial.id,
            experiment=experiment.id,
            attempt=trial.attempt,
            commit=experiment.commit,
            seed=trial.seed,
            budget_s=0.0,
            timeout_s=0.0,
        )
        found = self._score(spec)
        if found.is_ours:
            raise RuntimeError(found.reason)
        reported = None
        if found.value is not None:
            reported = ladder(self._best, found.value, step=step, metric=self._metric)
        event = HoldoutScored(
            experiment=experiment.id,
            trial=trial.id,
            validation=validation,
            reported=reported,
            step=step,
            problem=found.reason,
        )
        draft = ev.Draft(id=f"{experiment.id}/holdout", at=datetime.now(UTC), event=event)
        self._ledger.append([draft], epoch=self._epoch)
        self._best = reported if reported is not None else self._best

    def _score(self, spec: TrialSpec) -> ScoreReport:
        told = self._scorer.begin(spec, self._left(spec))
        while told is None:
            told = self._scorer.poll(_LOOK_S)
        return told


def _heads(state: StudyState) -> list[Experiment]:
    """Return what was the incumbent, in order: of links that were promoted together, the last."""
    kept = (e for e in state.experiments.values() if e.status is Status.KEPT)
    in_order = sorted(kept, key=lambda e: (_promoted_at(e), number_of(e.id)))
    return list({_promoted_at(experiment): experiment for experiment in in_order}.values())


def _promoted_at(experiment: Experiment) -> int:
    """Return the event that put it on the branch; for the baseline its verdict."""
    names = ("Promoted", "ExperimentJudged")
    return max((seq for seq, name in experiment.story if name in names), default=0)
