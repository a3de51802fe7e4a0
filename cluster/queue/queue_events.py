"""The events of the queue: what it records with each change, under ids that repetitions share."""

from datetime import datetime

from cluster.state.events import (
    Draft,
    Event,
    SlotClosed,
    SlotOpened,
    TrialFinished,
    TrialLost,
    TrialQueued,
    TrialStarted,
)
from trainer.ports import Slot
from trainer.trial import Ending, SlotId, TrialOutcome, TrialSpec


def queued_event(spec: TrialSpec, now: datetime) -> Draft:
    """Return the event that tells of a queued trial."""
    event = TrialQueued(
        trial=spec.trial,
        experiment=spec.experiment,
        attempt=spec.attempt,
        seed=spec.seed,
        place=spec.place,
        is_control=spec.is_control,
        rung_s=spec.budget_s if spec.is_short else None,
    )
    return Draft(id=f"{spec.trial}/{spec.attempt}/queued", at=now, event=event)


def started_event(spec: TrialSpec, slot: Slot, now: datetime) -> Draft:
    """Return the event that tells of a lease."""
    event = TrialStarted(
        trial=spec.trial,
        experiment=spec.experiment,
        attempt=spec.attempt,
        slot=slot.id,
        node=slot.node,
    )
    return Draft(id=f"{spec.trial}/{spec.attempt}/started", at=now, event=event)


def ended_event(spec: TrialSpec, outcome: TrialOutcome, now: datetime) -> Draft:
    """Return the event that tells of an outcome; one id for all ways to end, so only one counts."""
    ended: Event
    if outcome.ending is Ending.LOST:
        given_back = outcome.is_given_back
        ended = lost_event(spec, outcome.reason, now, is_given_back=given_back).event
    else:
        ended = TrialFinished(
            trial=spec.trial, experiment=spec.experiment, attempt=spec.attempt, outcome=outcome
        )
    return Draft(id=f"{spec.trial}/{spec.attempt}/ended", at=now, event=ended)


def lost_event(
    spec: TrialSpec, reason: str, now: datetime, *, is_given_back: bool = False
) -> Draft:
    """Return the event that tells of a lost attempt."""
    event = TrialLost(
        trial=spec.trial,
        experiment=spec.experiment,
        attempt=spec.attempt,
        reason=reason,
        is_given_back=is_given_back,
    )
    return Draft(id=f"{spec.trial}/{spec.attempt}/ended", at=now, event=event)


def cancelled() -> TrialOutcome:
    """Return the outcome of a trial that never ran."""
    return TrialOutcome(ending=Ending.CANCELLED, reason="cancelled before it started")


def opened_event(slot: Slot, now: datetime) -> Draft:
    """Return the event that tells of a slot."""
    event = SlotOpened(
        slot=slot.id,
        incarnation=slot.incarnation,
        node=slot.node,
        device=slot.device,
        device_class=slot.device_class,
        note=slot.note,
    )
    return Draft(id=f"{slot.id}/{slot.incarnation}/{now.timestamp():.6f}", at=now, event=event)


def closed_event(slot: SlotId, reason: str, now: datetime) -> Draft:
    """Return the event that tells of a slot's end."""
    event = SlotClosed(slot=slot, reason=reason)
    return Draft(id=f"{slot}/closed/{now.timestamp():.6f}", at=now, event=event)
