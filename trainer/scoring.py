"""A trial between the end of its run and its score: its lease is held until the scorer has told.

Knows the scorer and holds on leases. Does not know what a trial is otherwise, nor who reports it.
The slot's next trial runs meanwhile, so nothing here waits, but for `settle`.
"""

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from trainer.hold import Hold
from trainer.score_report import ScoreReport
from trainer.scorer import Scorer
from trainer.trial import TrialSpec

_LOOK_S = 0.05
_MOST_REASON = 200


@dataclass(frozen=True, slots=True, kw_only=True)
class _Pending:
    """A trial that is being scored."""

    hold: Hold
    then: Callable[[ScoreReport], None]


class Scoring:
    """Scores one trial at a time, where the study has a scorer."""

    def __init__(self, scorer: Scorer | None, clock: Callable[[], float]) -> None:
        self._scorer = scorer
        self._clock = clock
        self._pending: _Pending | None = None
        self._told: ScoreReport | None = None

    @property
    def is_wanted(self) -> bool:
        """Say whether it is predictions that count."""
        return self._scorer is not None

    @property
    def next_at(self) -> float:
        """When to look again; infinite if there is nothing to look for."""
        return math.inf if self._pending is None else self._clock() + _LOOK_S

    def begin(
        self, spec: TrialSpec, out: Path, hold: Hold, then: Callable[[ScoreReport], None]
    ) -> None:
        """Have a trial scored by what it left in `out`, which may be thrown away afterwards.

        `then` is called with the score by `tend` or `settle`, once. No other trial is being scored.
        """
        self._pending = _Pending(hold=hold, then=then)
        try:
            self._told = self._scorer.begin(spec, out) if self._scorer else None
        except (OSError, RuntimeError) as error:
            reason = f"{type(error).__name__}: {error}"[:_MOST_REASON]
            self._told = ScoreReport(reason=reason, is_ours=True)

    def glance(self, out: Path) -> ScoreReport | None:
        """See Scorer; None where the study has none."""
        return None if self._scorer is None else self._scorer.glance(out)

    def tend(self, timeout_s: float = 0.0, *, most_s: float = math.inf) -> None:
        """Keep the lease of the trial that is being scored, and pass on its score if it is there.

        Waits for the score for `timeout_s` seconds at most, and for the queue for `most_s`.
        """
        pending = self._pending
        if pending is None or self._scorer is None:
            return
        if self._clock() >= pending.hold.next_at:
            pending.hold.beat(most_s)
        told = self._told or self._scorer.poll(timeout_s)
        if told is not None:
            self._pending = self._told = None
            pending.then(told)

    @contextmanager
    def kept(self) -> Iterator[None]:
        """Keep that lease while the slot's own thread does something that may last."""
        if self._pending is None:
            yield
            return
        with self._pending.hold.kept(lambda: None):
            yield

    def settle(self, *others: Hold) -> None:
        """Return when no trial is being scored any more; `others` are held meanwhile."""
        while self._pending is not None:
            self.tend(_LOOK_S)
            for hold in others:
                if self._clock() >= hold.next_at:
                    hold.beat()

    def close(self) -> None:
        """End what runs; its trial is not reported."""
        self._pending = None
        if self._scorer is not None:
            self._scorer.close()
