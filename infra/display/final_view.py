"""Follows a final run from the terminal: its events, and now and then where its trainings stand."""

import os
import signal
import time
from collections.abc import Callable
from contextlib import suppress

from cluster.ledger.ledger import LedgerAway
from cluster.state import hidden_label_events as hidden
from cluster.state.final_runs import Final, numbered
from cluster.state.state import StudyState
from cluster.state.transitions import apply
from infra.facts.event_lines import event_line
from infra.facts.plain_text import duration, one_line
from infra.local.final_process import find_final
from infra.local.study import OpenStudy
from trainer.trial import TrialId

_LOOK_S = 0.25
_TELL_S = 10.0
_OURS = (hidden.FinalBegun, hidden.FinalRunEnded, hidden.FinalReported)


class FinalView:
    """What a final run tells from the moment that `state` is of."""

    def __init__(self, study: OpenStudy, state: StudyState, say: Callable[[str], None]) -> None:
        self._study = study
        self._say = say
        self._told_at = time.monotonic() - _TELL_S + 1.0
        self._told: dict[TrialId, str] = {}
        self._reported = 0
        self.state = state

    @property
    def reported(self) -> Final | None:
        """The final run that was reported meanwhile; None if none was."""
        return numbered(self.state.finals, self._reported) if self._reported else None

    def follow(self, presses: Callable[[], int]) -> None:
        """Return when the process has ended; Ctrl-C has it give back what runs."""
        has_asked = False
        while (process := find_final(self._study.home)) is not None:
            self.look()
            if presses() and process and not has_asked:
                has_asked = True
                self._say("giving back what runs, and stopping")
                with suppress(ProcessLookupError):
                    os.kill(process, signal.SIGTERM)
            time.sleep(_LOOK_S)
        self.look()

    def look(self) -> None:
        """Tell what is new."""
        with suppress(LedgerAway):
            for recorded in self._study.ledger.read(self.state.seq):
                self.state = apply(self.state, recorded)
                if isinstance(recorded.event, _OURS):
                    self._say(event_line(recorded.event, self.state))
                if isinstance(recorded.event, hidden.FinalReported):
                    self._reported = recorded.event.final
            if time.monotonic() - self._told_at >= _TELL_S:
                self._told_at = time.monotonic()
                self._tell_progress()

    def _tell_progress(self) -> None:
        for trial, progress in sorted(self._study.progress.latest().items()):
            line = f"{duration(progress.elapsed_s)}  {one_line(progress.last_line, 100)}".rstrip()
            if trial.startswith("final-") and self._told.get(trial) != line:
                self._told[trial] = line
                self._say(f"{trial}  {line}")
