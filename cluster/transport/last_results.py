"""What the last trials of a study left on nodes, waited for before its workers are ended.

An outcome is reported before the files behind it are sent, so a study may be over while those of
its last winner are on their way. Knows which are worth waiting for, and for how long. Does not know
how they come.
"""

import time
from collections.abc import Callable, Sequence
from datetime import datetime

from cluster.state.experiment import Trial, TrialPhase
from cluster.state.state import StudyState
from cluster.transport.remote_results import OTHERS_S

LOOK_S = 0.2
PATIENCE_S = OTHERS_S + 30.0
"""For how long nothing may come: other workers take over what a dead one has left."""


class LastResults:
    """Waits for what trials of one controller's time left on nodes that are still there."""

    def __init__(
        self,
        *,
        since: datetime,
        is_awaited: Callable[[Trial], bool],
        notify: Callable[[str], None],
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        """`since` is when the controller began: what had not come by then is not waited for.

        `is_awaited` says whether what a trial left has yet to come; `notify` is told meanwhile.
        """
        self._since = since
        self._is_awaited = is_awaited
        self._notify = notify
        self._clock = clock
        self._sleep = sleep
        self._give_up_at = float("inf")

    def wait(self, look: Callable[[], StudyState]) -> None:
        """Return when all has come, nothing comes any more, or a stop at once was asked for.

        `look` returns the state as of now. May be called again: what was given up stays so.
        """
        missing = self._missing(look())
        said = ""
        while missing and self._clock() < self._give_up_at:
            if (text := _waiting_for(missing)) != said:  # at first, and when something has come
                self._give_up_at = self._clock() + PATIENCE_S
                self._notify(text)
                said = text
            self._sleep(LOOK_S)
            state = look()
            missing = [] if state.stopping == "now" else self._still(missing, state)
        if said:
            self._notify("")

    def _missing(self, state: StudyState) -> Sequence[Trial]:
        if state.stopping == "now":
            return []
        ended = [
            trial
            for experiment in state.experiments.values()
            for trial in experiment.all_trials
            if trial.phase is TrialPhase.FINISHED and self._ended_at(trial) >= self._since
        ]
        return self._still(sorted(ended, key=self._ended_at), state)

    def _ended_at(self, trial: Trial) -> datetime:
        return trial.finished_at or self._since

    def _still(self, trials: Sequence[Trial], state: StudyState) -> Sequence[Trial]:
        return [each for each in trials if _is_there(each, state) and self._is_awaited(each)]


def _is_there(trial: Trial, state: StudyState) -> bool:
    node = state.nodes.get(trial.node)
    return node is None or node.status.is_there


def _waiting_for(missing: Sequence[Trial]) -> str:
    names = ", ".join(trial.id for trial in missing[:_MOST_NAMED])
    more = f" and {len(missing) - _MOST_NAMED} more" if len(missing) > _MOST_NAMED else ""
    nodes = ", ".join(sorted({trial.node for trial in missing}))
    return f"waiting for what {names}{more} left on {nodes} (`incumbent stop --now` does not wait)"


_MOST_NAMED = 3
