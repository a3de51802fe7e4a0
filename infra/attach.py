"""Follows a running study from the terminal: shows it, and passes Ctrl-C on."""

import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from enum import StrEnum
from typing import Protocol

from cluster import events as ev
from cluster.config import StudyConfig
from cluster.decisions import open_slots
from cluster.ledger import LedgerAway
from cluster.state import StudyState
from cluster.transitions import apply
from infra.controller_process import find_controller
from infra.fact_records import StatusFacts
from infra.facts import status_facts
from infra.requests import request
from infra.study import OpenStudy

LOOK_S = 0.25
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


def gather(study: OpenStudy, state: StudyState, config: StudyConfig | None = None) -> StatusFacts:
    """Return the facts of a study as of now."""
    controller = find_controller(study.home)
    home = study.home
    limits = config.limits.model_dump() if config else {}
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
        # Once a slot is open, what the study does is told by its state.
        phase="" if open_slots(state) else study.progress.phase(),
        notice=study.progress.notice(),
        limits={name: value for name, value in limits.items() if value},
        paths=paths,
    )


class Follower:
    """Reads a study's events as they come."""

    def __init__(self, study: OpenStudy, view: View, config: StudyConfig | None) -> None:
        self._study = study
        self._view = view
        self._config = config
        self._seen_running = False
        self.state = study.state()

    def look(self) -> None:
        """Show what is new; a server that is away for a moment is waited for."""
        try:
            for recorded in self._study.ledger.read(self.state.seq):
                self.state = apply(self.state, recorded)
                self._view.observe(recorded, self.state)
            self._view.update(gather(self._study, self.state, self._config))
        except LedgerAway:
            return

    def is_over(self) -> bool:
        """Say whether a controller that ran is gone."""
        if find_controller(self._study.home) is not None:
            self._seen_running = True
            return False
        return self._seen_running

    def ended_well(self, epoch_before: int) -> bool:
        """Say whether the latest controller said goodbye."""
        self.look()
        return self.state.epoch > epoch_before and not _lives(self._study, self.state)


def _lives(study: OpenStudy, state: StudyState) -> bool:
    """Say whether the latest epoch has no ControllerStopped yet."""
    last = study.ledger.read(max(0, state.seq - 5))
    return not any(
        isinstance(recorded.event, ev.ControllerStopped) and recorded.event.epoch == state.epoch
        for recorded in last
    )


def follow(
    study: OpenStudy,
    view: View,
    config: StudyConfig | None,
    *,
    process: subprocess.Popen[bytes] | None = None,
    may_stop: bool = True,
) -> tuple[Left, StudyState]:
    """Follow a study until it ends; return why, and its last state.

    With `may_stop`, Ctrl-C asks for a clean stop, and once more for one at once; the third leaves
    the study to itself. Without, the first one leaves.
    """
    follower = Follower(study, view, config)
    epoch = follower.state.epoch - (process is None)
    deadline = time.monotonic() + START_S
    with _interrupts() as interrupts:
        handled = 0
        while not follower.is_over():
            is_dead = process is not None and process.poll() is not None
            if is_dead or (process is None and time.monotonic() > deadline):
                break
            if process is None:
                deadline = float("inf") if find_controller(study.home) else deadline
            follower.look()
            while handled < interrupts():
                handled += 1
                if not may_stop or handled > 2:
                    return Left.DETACHED, follower.state
                _ask_to_stop(study, view, now=handled == 2)
            time.sleep(LOOK_S)
        well = follower.ended_well(epoch)
    return (Left.ENDED if well else Left.DIED), follower.state


def _ask_to_stop(study: OpenStudy, view: View, *, now: bool) -> None:
    request(study, ev.StopRequested(now=now))
    if now:
        view.notice("giving back what runs, and stopping")
    else:
        view.notice("stopping when what runs has finished; Ctrl-C again gives it back at once")


@contextmanager
def _interrupts() -> Iterator[Callable[[], int]]:
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
