"""When the incumbent is run again as a control, and what follows from what it scores. Pure.

A control per slot shows what replicates of candidates cannot: that a card has drifted, throttles,
or is shared with a stranger. It is no candidate: it has no verdict, and counts as no experiment.
"""

import math
from collections.abc import Iterator
from dataclasses import replace
from datetime import datetime

from cluster.policy import device_classes, quarantine
from cluster.policy.commands import CancelTrial, Command, QueueTrial, RecordControl
from cluster.policy.study_plan import StudyPlan
from cluster.policy.verdicts import judgement, noise
from cluster.state.experiment import Experiment, Kind, Status, Trial, TrialPhase
from cluster.state.state import Control, StudyState
from eval.control import Reading, read
from eval.judge import Verdict
from trainer.trial import Ending, ExperimentId, Place, SlotId, TrialId, number_of

PRIORITY = 3_000_000
"""Before all else: what runs after it on its slot, or waits for it, rests on it."""


def due(state: StudyState, plan: StudyPlan) -> Iterator[Command]:
    """Queue what candidates wait to be compared with, and the controls of slots that are due."""
    asked: dict[ExperimentId, int] = {}
    if device_classes.is_from_git(state):
        yield from _anew(state, plan, asked)
        return
    for experiment, kind in device_classes.missing_bases(state, plan):
        yield _control(experiment, Place(device_class=kind), asked)
    incumbent = state.incumbent
    if incumbent is None or not state.open:
        return  # without anything to measure there is nothing to check
    every = plan.control_every or math.inf
    checked = {control.place.slot for control in state.controls.values()}
    doubted = quarantine.doubted(state)
    for slot in state.slots.values():
        is_due = state.takes_work(slot) and slot.since_control >= every
        if (is_due or slot.slot in doubted) and slot.slot not in checked:
            where = Place(device_class=slot.device_class, slot=slot.slot)
            yield _control(incumbent, where, asked)


def _anew(state: StudyState, plan: StudyPlan, asked: dict[ExperimentId, int]) -> Iterator[Command]:
    """Measure an incumbent of which only git knows the score, on the class that is to promote."""
    incumbent, kind = state.incumbent, device_classes.reference(state, plan)
    if incumbent is None or kind not in device_classes.open_classes(state):
        return
    is_asked = any(control.experiment == incumbent.id for control in state.controls.values())
    if not is_asked and not unmeasurable(state):
        yield _control(incumbent, Place(device_class=kind), asked)


def unmeasurable(state: StudyState) -> str:
    """Return why an incumbent cannot be measured again of which only git knows the score.

    Empty if it can be, or was not tried by this controller: what was wrong may be mended by now.
    """
    incumbent, since = state.incumbent, state.running_since
    if incumbent is None or since is None or not device_classes.is_from_git(state):
        return ""
    ended = [t for t in incumbent.controls if t.finished_at is not None and t.finished_at >= since]
    reasons = [t.outcome.reason or t.outcome.ending.value for t in ended if t.outcome is not None]
    lost = sum(trial.phase is TrialPhase.LOST for trial in ended)
    if lost >= device_classes.MOST_FAILURES:
        reasons.append("its workers went away too often")
    return reasons[-1] if reasons else ""


def _control(experiment: Experiment, where: Place, asked: dict[ExperimentId, int]) -> QueueTrial:
    number = experiment.next_trial + asked.get(experiment.id, 0)
    asked[experiment.id] = asked.get(experiment.id, 0) + 1
    return QueueTrial(
        experiment=experiment,
        trial=TrialId(f"{experiment.id}.{number}"),
        attempt=1,
        seed=number,
        priority=PRIORITY,
        place=where,
        is_control=True,
        is_repeat=bool(experiment.values_on(where.device_class)),
    )


def withdrawn(state: StudyState, *, everything: bool = False) -> Iterator[Command]:
    """Cancel controls that no slot will take; or all that have not been measured."""
    classes = set(device_classes.open_classes(state))
    for trial, control in state.controls.items():
        if control.is_measured:
            continue
        is_queued = _trial(state, trial, control).phase is TrialPhase.QUEUED
        slot = state.slots.get(control.place.slot)
        is_gone = slot is not None and not (slot.is_open and state.is_well(slot.node))
        is_gone |= slot is None and control.place.device_class not in classes
        if everything or (is_queued and is_gone):
            yield CancelTrial(trial=trial)


def readings(state: StudyState, plan: StudyPlan) -> Iterator[Command]:
    """Compare one control that was measured with what is known of its tree."""
    trial = next((t for t, control in state.controls.items() if control.is_measured), None)
    if trial is None:
        return
    control = state.controls[trial]
    found = _trial(state, trial, control)
    outcome = found.outcome
    if outcome is None or outcome.value is None:
        raise ValueError(f"{trial} was measured, but has no value")
    experiment, kind = state.experiments[control.experiment], outcome.device_class
    is_known = bool(experiment.values_on(kind))
    known = experiment.evidence_on(kind) if is_known else None
    spread = noise(state, kind)
    reading = read(outcome.value, known, spread, plan.metric)
    slot = state.slots.get(found.slot)
    since = slot.checked_at if slot else None
    yield RecordControl(
        experiment=experiment.id,
        trial=trial,
        slot=found.slot,
        reading=reading,
        since=since,
        reopened=_reopened(state, plan, found.slot, since, reading) if reading.is_shifted else (),
    )


def _trial(state: StudyState, trial: TrialId, control: Control) -> Trial:
    return state.experiments[control.experiment].trial(trial, 1)


def _reopened(
    state: StudyState, plan: StudyPlan, slot: SlotId, since: datetime | None, reading: Reading
) -> tuple[ExperimentId, ...]:
    """Return the proposals that were discarded by what a slot said, and would not be without.

    Those whose last run was on the slot, after its last good control. What is on the branch stays:
    its score is put right by further controls, on this slot and on others.
    """
    if reading.shift >= 0:
        return ()  # it read too well, which discards nothing
    found: list[ExperimentId] = []
    for experiment in state.experiments.values():
        if experiment.status is not Status.DISCARDED or experiment.kind is not Kind.PROPOSAL:
            continue
        last = experiment.trials[-1]
        is_within = since is None or (last.finished_at is not None and last.finished_at > since)
        if last.slot == slot and is_within and _is_open(state, plan, experiment, reading.shift):
            found.append(experiment.id)
    return tuple(sorted(found, key=number_of))


def _is_open(state: StudyState, plan: StudyPlan, experiment: Experiment, shift: float) -> bool:
    """Say whether an experiment would not be discarded, if its last run is put right by a shift."""
    last = experiment.trials[-1]
    outcome = last.outcome
    if outcome is None or outcome.ending is not Ending.SCORED or outcome.value is None:
        return False
    right = outcome.value + plan.metric.improvement(0.0, 1.0) * shift
    corrected = replace(last, outcome=replace(outcome, value=right))
    again = replace(experiment, trials=(*experiment.trials[:-1], corrected))
    return judgement(state, again, plan)[0].verdict is not Verdict.DISCARD
