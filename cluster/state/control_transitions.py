"""What the events of controls change: trials of what was promoted before, which change no status.

Pure. A control belongs to the experiment whose tree it runs, beside the trials by which that was
judged. What it measured on a slot counts once it was compared with what was expected.
"""

from cluster.state import events as ev
from cluster.state import trial_records as records
from cluster.state.experiment import FROM_GIT, Status, Trial
from cluster.state.replacing import replace
from cluster.state.state import Control, StudyState
from cluster.state.steps import TRANSITIONS, step
from cluster.state.trial_accounts import replicated, slot_freed, slot_taken
from trainer.trial import Ending, ExperimentId, SlotId


def queued(state: StudyState, event: ev.TrialQueued, rec: ev.Recorded) -> StudyState:
    """Add a control that waits."""
    experiment = state.experiments[event.experiment]
    controls = (*experiment.controls, records.queued(event, rec.at))
    changed = replace(experiment, controls=controls)
    state = replace(state, experiments=state.experiments.set(changed.id, changed))
    state = _told(state, rec, changed.id)
    control = Control(experiment=event.experiment, place=event.place)
    return replace(state, controls=state.controls.set(event.trial, control))


def started(state: StudyState, event: ev.TrialStarted, rec: ev.Recorded) -> StudyState:
    """Note that a control is on a slot."""
    state = _with_control(state, event.experiment, records.started(state, event, rec.at))
    return slot_taken(state, event.slot, event.trial, rec.at, counts=False)


def finished(state: StudyState, event: ev.TrialFinished, rec: ev.Recorded) -> StudyState:
    """Note what a control scored; what it says of its slot counts once it was compared."""
    control = state.controls[event.trial]
    is_compared = bool(control.place.slot) and event.outcome.ending is Ending.SCORED
    trial = replace(records.finished(state, event, rec.at), is_set_aside=is_compared)
    state = _with_control(state, event.experiment, trial)
    controls = state.controls.delete(event.trial)
    if is_compared:
        controls = controls.set(event.trial, replace(control, is_measured=True))
    state = replicated(replace(state, controls=controls), event.experiment)
    is_anew = state.reference_class == FROM_GIT and state.lineage[-1:] == (event.experiment,)
    if is_anew and event.outcome.ending is Ending.SCORED and not is_compared:
        state = replace(state, reference_class=event.outcome.device_class)
    return _over(slot_freed(state, trial.slot, event.experiment, trial), control)


def lost(state: StudyState, event: ev.TrialLost, rec: ev.Recorded) -> StudyState:
    """Note that a control will never report; another one comes when it is due again."""
    control = state.controls[event.trial]
    trial = records.lost(state, event, rec.at)
    state = _with_control(state, event.experiment, trial)
    state = replace(state, controls=state.controls.delete(event.trial))
    return _over(slot_freed(state, trial.slot, event.experiment, trial), control)


def judged(state: StudyState, event: ev.ControlJudged, rec: ev.Recorded) -> StudyState:
    """Count a control; or note that its slot has shifted, and take verdicts back."""
    experiment = state.experiments[event.experiment]
    trial = experiment.trial(event.trial, 1)
    state = replace(state, controls=state.controls.delete(event.trial))
    state = _told(state, rec, experiment.id)
    slot = state.slots.get(event.slot)
    if slot is not None:
        shift = event.shift if event.is_shifted else 0.0
        checked_at = slot.checked_at if event.is_shifted else trial.finished_at
        shifts = slot.shifts + 1 if shift < 0 else 0
        slot = replace(slot, shift=shift, shifts=shifts, checked_at=checked_at)
        state = replace(state, slots=state.slots.set(slot.slot, slot))
    if not event.is_shifted:
        state = _with_control(state, experiment.id, replace(trial, is_set_aside=False))
        if event.belief is not None:
            known = replace(state.experiments[experiment.id], belief=event.belief)
            state = replace(state, experiments=state.experiments.set(known.id, known))
        return replicated(state, experiment.id)
    for name in event.reopened:
        state = _reopened(state, rec, name, event)
    return state


def _reopened(
    state: StudyState, rec: ev.Recorded, name: ExperimentId, event: ev.ControlJudged
) -> StudyState:
    """Forget a verdict that rested on a slot that had shifted, and what was measured there."""
    since, experiment = event.since, state.experiments[name]
    if experiment.status not in TRANSITIONS[ev.ControlJudged]:
        return state  # somebody has had it run again since, and cancelled that
    trials = tuple(
        replace(trial, is_set_aside=True)
        if trial.slot == event.slot
        and trial.outcome is not None
        and trial.outcome.ending is Ending.SCORED
        and trial.finished_at is not None
        and (since is None or trial.finished_at > since)
        else trial
        for trial in experiment.trials
    )
    forgotten = {"verdict": None, "delta": None, "belief": None, "effect": None, "chance": None}
    reason = f"judged again: {event.slot} had shifted"
    return step(state, rec, name, Status.PROPOSED, trials=trials, reason=reason, **forgotten)


def _over(state: StudyState, control: Control) -> StudyState:
    """Begin to count anew on the slot that the control was for."""
    slot = state.slots.get(control.place.slot or SlotId(""))
    if slot is None:
        return state
    return replace(state, slots=state.slots.set(slot.slot, replace(slot, since_control=0)))


def _with_control(state: StudyState, name: ExperimentId, trial: Trial) -> StudyState:
    experiment = state.experiments[name]
    controls = tuple(trial if old.id == trial.id else old for old in experiment.controls)
    changed = replace(experiment, controls=controls)
    return replace(state, experiments=state.experiments.set(name, changed))


def _told(state: StudyState, rec: ev.Recorded, name: ExperimentId) -> StudyState:
    """Tell of a control in the story; how its trial went on is no part of that."""
    experiment = state.experiments[name]
    line = (rec.seq, type(rec.event).__name__)
    changed = replace(experiment, story=(*experiment.story, line))
    return replace(state, experiments=state.experiments.set(name, changed))
