"""A slot between the end of a run and whatever comes next on it: its model is asked.

Knows the predictor, and whose leases are to be held meanwhile. Does not know what becomes of the
predictions. It waits, unlike scoring: a model needs the slot's cards and cores, and what trained
beside it would be measured with less of them.
"""

from collections.abc import Callable
from pathlib import Path

from trainer.chores import Chores
from trainer.hold import Hold
from trainer.ports import Heartbeat
from trainer.predictor import Predicted, Predictor
from trainer.score_report import ScoreReport
from trainer.trial import TrialSpec

_MOST_REASON = 200
_ENOUGH = frozenset({Heartbeat.CANCEL, Heartbeat.GIVE_BACK, Heartbeat.GONE})
"""Orders that end it. A curve does not: that of the run is complete."""


class Predicting:
    """Asks the models of one slot's runs, where the study has that done."""

    def __init__(
        self,
        predictor: Predictor | None,
        chores: Chores,
        wait_for_cards: Callable[[], None],
        clock: Callable[[], float],
    ) -> None:
        """`chores` are the slot's, which are seen to meanwhile.

        `wait_for_cards` is called before a model is asked, when its run is dead.
        """
        self._predictor = predictor
        self._chores = chores
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
                until = self._chores.next_at(hold)
                told = self._predictor.poll(max(0.0, until - self._clock()))
                before = hold.order
                self._chores.see_to(hold)
                if hold.order is not before and hold.order in _ENOUGH:
                    self._predictor.cancel()
        except (OSError, LookupError, RuntimeError, ValueError) as error:
            reason = f"{type(error).__name__}: {error}"[:_MOST_REASON]
            told = Predicted(folder=model, report=ScoreReport(reason=reason, is_ours=True))
        return None if hold.order in _ENOUGH else told

    def close(self) -> None:
        """End what runs."""
        if self._predictor is not None:
            self._predictor.close()
