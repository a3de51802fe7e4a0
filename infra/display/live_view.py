"""Shows a study while it runs: a picture of it in a terminal, lines elsewhere. An edge to rich."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TextIO

from rich.console import Console
from rich.live import Live
from rich.text import Text

from cluster.ledger.codec import to_plain
from cluster.state import events as ev
from cluster.state.experiment import Kind
from cluster.state.state import StudyState
from infra.display.tables import make_console, status_view
from infra.facts.event_lines import event_line
from infra.facts.fact_records import StatusFacts
from infra.facts.plain_text import json_text, one_line

_LINES_BESIDE_SLOTS = 20
_UNSHOWN = (
    ev.TrialQueued,
    ev.SubmissionReceived,
    ev.StudyStarted,
    ev.CallReserved,
    ev.AnswerUsed,
)
"""Events of which nobody waits to hear."""


class LiveView:
    """One picture of the study, drawn over and over."""

    def __init__(self, live: Live) -> None:
        self._live = live

    def observe(self, recorded: ev.Recorded, state: StudyState) -> None:
        """Do nothing: the facts show it."""

    def update(self, facts: StatusFacts) -> None:
        """Draw the study as it is now."""
        most = max(4, self._live.console.height - _LINES_BESIDE_SLOTS)
        self._live.update(status_view(facts, most_slots=most), refresh=True)

    def notice(self, text: str) -> None:
        """Say something, above the picture."""
        self._live.console.print(Text(one_line(text)))


class PlainView:
    """One line for each event of interest: the time, what happened, and to whom."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self._noticed = ""
        self._phase = ""
        """What the study was at before it had slots, when last looked at."""

    def observe(self, recorded: ev.Recorded, state: StudyState) -> None:
        """Print the event's line, if it is of interest."""
        if _is_shown(recorded.event):
            line = event_line(recorded.event, state)
            self._write(f"{recorded.at.astimezone():%H:%M:%S} {line}")

    def update(self, facts: StatusFacts) -> None:
        """Print what comes before the first slot, and a standing notice when it is new.

        With what a download or [trial] setup prints meanwhile, or ten minutes of it would look like
        a study that hangs. The rest the events have told.
        """
        has_slots = any(slot["state"] != "closed" for slot in facts["slots"])
        # Until a controller has said that it started, what ended the one before it still stands.
        is_early = not (has_slots or facts["stopping"] or facts["finished"])
        if facts["running"] and is_early and facts["phase"] != self._phase:
            self._phase = facts["phase"]
            self.notice(self._phase)
        if facts["notice"] not in {"", self._noticed}:
            self.notice(facts["notice"])
        self._noticed = facts["notice"]

    def notice(self, text: str) -> None:
        """Say something beside the events."""
        self._write(one_line(text))

    def _write(self, line: str) -> None:
        self._stream.write(line + "\n")
        self._stream.flush()


class JsonLinesView:
    """One JSON object a line for each event, for programs."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def observe(self, recorded: ev.Recorded, state: StudyState) -> None:
        """Print the event."""
        line = {
            "seq": recorded.seq,
            "at": recorded.at.isoformat(),
            "event": type(recorded.event).__name__,
            "text": event_line(recorded.event, state),
            "data": to_plain(recorded.event),
        }
        self._stream.write(json_text(line) + "\n")
        self._stream.flush()

    def update(self, facts: StatusFacts) -> None:
        """Do nothing: the events have told it."""

    def notice(self, text: str) -> None:
        """Do nothing: what is said beside the events is for people."""


@contextmanager
def make_view(*, as_json: bool = False) -> Iterator[LiveView | PlainView]:
    """Yield the view that suits where output goes; standard output stays free for JSON if asked."""
    stream = sys.stderr if as_json else sys.stdout
    console = make_console(stream)
    if console.is_terminal and not console.is_dumb_terminal:
        with _live(console) as live:
            yield LiveView(live)
    else:
        yield PlainView(stream)


def _live(console: Console) -> Live:
    # It vanishes at the end: what is left to say is said by whoever asked for the view.
    return Live(console=console, auto_refresh=False, transient=True)


def _is_shown(event: ev.Event) -> bool:
    if isinstance(event, ev.ExperimentProposed):
        return event.kind is Kind.MERGE or event.is_held
    if isinstance(event, ev.ProposalRejected):
        return bool(event.submission)
    if isinstance(event, ev.CallSettled):
        return bool(event.problem) or event.is_lost
    return not isinstance(event, _UNSHOWN)
