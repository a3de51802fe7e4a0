"""A slot between the end of a run and whatever comes next on it: its model is asked.

Knows the predictor, and whose leases are to be held meanwhile. Does not know what becomes of the
predictions. It waits, unlike scoring: a model needs the slot's cards and cores, and what trained
beside it would be measured with less of them.
"""

from collections.abc import Callable
from pathlib import Path

from trainer.hold import Hold
from trainer.outbox import Outbox
from trainer.ports import Heartbeat
from trainer.predictor import Predicted, Predictor
from trainer.score_report import ScoreReport
from trainer.scoring import Scoring
from trainer.trial import TrialSpec

_MOST_REASON = 200
_ENOUGH = frozenset({Heartbeat.CANCEL, Heartbeat.GIVE_BACK, Heartbeat.GONE})
"""Orders that end it. A curve does not: that of the run is complete."""


class Predicting:
    """Asks the models of one slot's runs, where the study has that done."""

    def __init__(
        self,
        predictor: Predictor | None,
        scoring: Scoring,
        outbox: Outbox,
        wait_for_cards: Callable[[], None],
        clock: Callable[[], float],
    ) -> None:
        """`scoring` and `outbox` are the slot's, which are looked after meanwhile.

        `wait_for_cards` is called before a model is asked, when its run is dead.
        """
        self._predictor = predictor
        self._scoring = scoring
        self._outbox = outbox
        self._wait_for_cards = wait_for_cards
        self._clock = clock

    @property
    def is_wanted(self) -> bool:
        """Say whether runs leave models, and not predictions."""
        return self._predictor is not None

    def ask(self, run: TrialSpec, model: Path, hold: Hold) -> Predicted | None:
        """Return what came of asking the model that a run left; None if told to end that."""
        if self._predictor is None or hold.order in _ENOUGH:
            return None
        try:
            self._wait_for_cards()
            told = self._predictor.begin(run, model)
            while told is None:
                until = min(hold.next_at, self._scoring.next_at)
                told = self._predictor.poll(max(0.0, until - self._clock()))
                self._look_after(self._predictor, hold)
        except (OSError, LookupError, RuntimeError, ValueError) as error:
            reason = f"{type(error).__name__}: {error}"[:_MOST_REASON]
            told = Predicted(folder=model, report=ScoreReport(reason=reason, is_ours=True))
        return None if hold.order in _ENOUGH else told

    def close(self) -> None:
        """End what runs."""
        if self._predictor is not None:
            self._predictor.close()

    def _look_after(self, predictor: Predictor, hold: Hold) -> None:
        self._scoring.tend()
        if self._clock() >= hold.next_at:
            hold.beat()
            if hold.order in _ENOUGH:
                predictor.cancel()
            self._outbox.offer()
