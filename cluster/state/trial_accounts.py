"""What trials change beside the experiment that they are of: slots, time used, what tells of noise.

Pure. See cluster.state.transitions and cluster.state.control_transitions, which both keep these
accounts.
"""

from collections import Counter
from datetime import datetime

from cluster.state.experiment import Trial
from cluster.state.replacing import replace
from cluster.state.state import StudyState
from trainer.trial import ExperimentId, SlotId, TrialId

MOST_REPLICATED = 32
"""So many experiments tell of noise: of 32 pairs, it is known within an eighth."""


def slot_taken(
    state: StudyState, slot: SlotId, trial: TrialId, at: datetime, *, counts: bool = True
) -> StudyState:
    """Note what runs on a slot; and if it counts, that the slot is to be checked the sooner."""
    known = state.slots.get(slot)
    if known is None:
        return state
    since_control = known.since_control + (1 if counts else 0)
    busy = replace(known, trial=trial, since=at, since_control=since_control)
    return replace(state, slots=state.slots.set(slot, busy))


def slot_freed(
    state: StudyState, slot: SlotId, experiment: ExperimentId, trial: Trial
) -> StudyState:
    """Note that a trial is no longer on its slot, and what its time was for."""
    purpose = state.experiments[experiment].purpose(trial)
    state = replace(
        state,
        slot_seconds=state.slot_seconds + trial.seconds,
        spent=state.spent.plus(purpose, trial.seconds),
    )
    known = state.slots.get(slot)
    if known is None or known.trial != trial.id:
        return state
    return replace(
        state, slots=state.slots.set(slot, replace(known, trial=TrialId(""), since=None))
    )


def replicated(state: StudyState, experiment: ExperimentId) -> StudyState:
    """Note an experiment that has more than one score on any device class."""
    found = state.experiments[experiment]
    if len(found.trials) + len(found.controls) == 1:
        return state  # mostly so, and it spares a count
    if max(Counter(found.classes).values(), default=0) < 2:
        return state
    others = (known for known in state.replicated if known != experiment)
    return replace(state, replicated=(*others, experiment)[-MOST_REPLICATED:])
