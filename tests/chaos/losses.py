"""What each fault cost: until work begun after it on a slot that it hit brought a result. Pure."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime

from cluster.state import events as ev
from cluster.state.events import Recorded


@dataclass(frozen=True, slots=True, kw_only=True)
class Fault:
    """A fault as it was done."""

    at: datetime
    part: str
    machine: str
    until: datetime | None = None
    """When it was healed, if it lasted."""
    slots: frozenset[str] | None = None
    """The slots that it hit; None is all of them."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Loss:
    """What a fault cost."""

    fault: Fault
    result_s: float | None
    """Seconds until the first accepted result of what was begun after it; None if none came."""
    lost: tuple[str, ...]
    """Attempts that were under way there and were lost."""
    requeued_s: float | None
    """Seconds until the last of those was queued again; None if none was."""


def losses(faults: Sequence[Fault], recorded: Sequence[Recorded]) -> Iterator[Loss]:
    """Return what each fault cost."""
    for fault in faults:
        yield _loss(fault, recorded)


def _loss(fault: Fault, recorded: Sequence[Recorded]) -> Loss:
    before = [one.event for one in recorded if one.at < fault.at]
    after = [one for one in recorded if one.at >= fault.at]
    open_before = _started(before, fault) - _ended(before)
    lost = open_before & {_attempt(e) for e in _events(after) if isinstance(e, ev.TrialLost)}
    begun = _started(_events(after), fault)
    results = [
        one.at
        for one in after
        if isinstance(one.event, ev.TrialFinished) and _attempt(one.event) in begun
    ]
    again = {(trial, attempt + 1) for trial, attempt in lost}
    queued = [
        one.at
        for one in after
        if isinstance(one.event, ev.TrialQueued) and _attempt(one.event) in again
    ]
    return Loss(
        fault=fault,
        result_s=_since(fault, min(results, default=None)),
        lost=tuple(f"{trial}/{attempt}" for trial, attempt in sorted(lost)),
        requeued_s=_since(fault, max(queued, default=None)),
    )


def _events(recorded: Iterable[Recorded]) -> list[ev.Event]:
    return [one.event for one in recorded]


def _started(events: Iterable[ev.Event], fault: Fault) -> set[tuple[str, int]]:
    """Return the attempts that were started on slots that the fault hit."""
    starts = (event for event in events if isinstance(event, ev.TrialStarted))
    return {_attempt(each) for each in starts if fault.slots is None or each.slot in fault.slots}


def _ended(events: Iterable[ev.Event]) -> set[tuple[str, int]]:
    return {_attempt(e) for e in events if isinstance(e, ev.TrialFinished | ev.TrialLost)}


def _attempt(
    event: ev.TrialQueued | ev.TrialStarted | ev.TrialFinished | ev.TrialLost,
) -> tuple[str, int]:
    return event.trial, event.attempt


def _since(fault: Fault, at: datetime | None) -> float | None:
    return None if at is None else (at - fault.at).total_seconds()


def table(found: Sequence[Loss], began: datetime) -> str:
    """Return the losses for people, in the order of the faults."""
    rows = [("at", "fault", "machine", "lasted", "next new result", "lost", "queued again")]
    for loss in found:
        fault = loss.fault
        lasted = _seconds((fault.until - fault.at).total_seconds() if fault.until else None)
        rows.append(
            (
                f"{(fault.at - began).total_seconds():.0f} s",
                fault.part,
                fault.machine,
                lasted,
                _seconds(loss.result_s),
                str(len(loss.lost)),
                _seconds(loss.requeued_s),
            )
        )
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    return "\n".join(
        "  ".join(word.ljust(width) for word, width in zip(row, widths, strict=True)).rstrip()
        for row in rows
    )


def _seconds(value: float | None) -> str:
    return "-" if value is None else f"{value:.1f} s"
