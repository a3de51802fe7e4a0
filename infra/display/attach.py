"""Follows a running study from the terminal: shows it, and passes Ctrl-C on."""

import signal
import subprocess
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from enum import StrEnum
from typing import Protocol

from cluster.ledger.ledger import LedgerAway, following
from cluster.state import events as ev
from cluster.state.state import StudyState
from cluster.state.transitions import apply
from infra.facts.fact_records import StatusFacts
from infra.facts.facts import status_facts
from infra.local.bounds import Bounds
from infra.local.controller_process import find_controller
from infra.local.requests import request_stop
from infra.local.study import OpenStudy

LOOK_S = 0.25
ALONE = 9
"""For so many times as long as a look took, a study is left alone: of thousands of experiments one
takes a tenth of a second, and whoever watches shares the machine with them."""
_STOPPING = {
    1: "stopping when what runs has finished; Ctrl-C again gives it back at once",
    2: "giving back what runs, and stopping",
}
START_S = 30.0
"""How long a new controller may take before it has its lock."""


class View(Protocol):
    """Shows a study while it runs."""

    def observe(self, recorded: ev.Recorded, state: StudyState) -> None:
        """See one new event."""
        ...

    def update(self, facts: StatusFacts) -> None:
        """See how things are now."""
        ...

    def notice(self, text: str) -> None:
        """Say something beside the study's own events."""
        ...


class Left(StrEnum):
    """Why following ended."""

    ENDED = "ended"  # the controller ended in good order
    DIED = "died"  # the controller is gone without having said so
    DETACHED = "detached"  # the user left; the study goes on


def gather(study: OpenStudy, state: StudyState, bounds: Bounds) -> StatusFacts:
    """Return the facts of a study as of now."""
    controller = find_controller(study.home)
    home, phase = study.home, study.progress.phase()
    has_slots = any(slot.is_open for slot in state.slots.values())
    paths = {
        "study": str(home.directory),
        "results": str(home.results),
        "picture": str(home.picture("png")),
        "repository": str(home.repository),
        "metrics": controller.metrics if controller else "",
    }
    return status_facts(
        state,
        now=datetime.now(UTC),
        is_running=controller is not None,
        progress=study.progress.latest(),
        # Once a slot is open, or it ends, what the study does is told by its state.
        phase="" if has_slots or state.stopping or state.finished else phase,
        notice=study.progress.notice(),
        rungs=bounds.rungs,
        limits=bounds.limits,
        paths=paths,
    )


class Follower:
    """Reads a study's events as they come."""

    def __init__(self, study: OpenStudy, view: View, bounds: Bounds) -> None:
        self._study = study
        self._view = view
        self._bounds = bounds
        self._seen_running = False
        self._asked = 0
        self._is_away = False
        self.state = study.state()
        self._last = study.ledger.get([self.state.seq])[0] if self.state.seq else None

    def look(self) -> None:
        """Show what is new; a server that is away is waited for, which is said once.

        Raises what `following` raises of a ledger that is not what was read of it any more.
        """
        try:
            for recorded in self._unseen():
                self.state, self._last = apply(self.state, recorded), recorded
                self._view.observe(recorded, self.state)
            self._view.update(gather(self._study, self.state, self._bounds))
        except LedgerAway as error:
            if not self._is_away:
                self._view.notice(f"{error}: the study waits for it, trials go on")
            self._is_away = True
            return
        if self._is_away:
            self._view.notice("the ledger's server answers again")
        self._is_away = False

    def _unseen(self) -> Sequence[ev.Recorded]:
        ledger = self._study.ledger
        return following(ledger, self._last) if self._last else ledger.read(0)

    def ask_to_stop(self, presses: int) -> None:
        """Have the study stop: cleanly after one press of Ctrl-C, at once after two."""
        try:
            request_stop(self._study, self.state, now=presses > 1)
        except LedgerAway:
            return
        if presses > self._asked:
            self._asked = presses
            self._view.notice(_STOPPING[presses])

    def is_running(self) -> bool:
        """Say whether there is a controller."""
        return find_controller(self._study.home) is not None

    def is_over(self) -> bool:
        """Say whether a controller that ran is gone."""
        if self.is_running():
            self._seen_running = True
            return False
        return self._seen_running

    def ended_well(self, epoch_before: int) -> bool:
        """Say whether the latest controller said goodbye."""
        self.look()
        return self.state.epoch > epoch_before and self.state.running_since is None


def follow(
    follower: Follower,
    presses: Callable[[], int],
    *,
    process: subprocess.Popen[bytes] | None = None,
    may_stop: bool = True,
) -> Left:
    """Follow a study until it ends; return why.

    `presses` counts those of Ctrl-C. With `may_stop`, the first asks for a clean stop, the second
    for one at once, and the third leaves the study to itself; without, the first one leaves.
    `process` is the controller, if it was started after `follower` was made.
    """
    epoch = follower.state.epoch - (process is None)
    deadline = time.monotonic() + START_S
    while not follower.is_over():
        is_dead = process is not None and process.poll() is not None
        if is_dead or (process is None and time.monotonic() > deadline):
            break
        if process is None:
            deadline = float("inf") if follower.is_running() else deadline
        begun = time.monotonic()
        follower.look()
        took_s = time.monotonic() - begun
        if (count := presses()) > (2 if may_stop else 0):
            return Left.DETACHED
        if count:
            follower.ask_to_stop(count)
        time.sleep(max(LOOK_S, ALONE * took_s))
    return Left.ENDED if follower.ended_well(epoch) else Left.DIED


@contextmanager
def counted_interrupts() -> Iterator[Callable[[], int]]:
    """Count Ctrl-C instead of raising it."""
    count = 0

    def note(*_: object) -> None:
        nonlocal count
        count += 1

    before = signal.signal(signal.SIGINT, note)
    try:
        yield lambda: count
    finally:
        signal.signal(signal.SIGINT, before)
