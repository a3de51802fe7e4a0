"""On which kind of slot a verdict may rest, and what has to be measured before it. Pure.

Scores are compared within a device class only. One class, the reference, promotes; the others
screen for it: what looks better there than its base does there is run on the reference class, and
what does not is discarded. With one class nothing of this happens.
"""

from collections import Counter
from collections.abc import Iterator

from cluster.policy.study_plan import StudyPlan
from cluster.state.experiment import FROM_GIT, Experiment, Kind, Status, TrialPhase
from cluster.state.state import StudyState
from trainer.trial import Ending, Place, SlotId

MOST_FAILURES = 3
"""A tree whose runs on a class were lost so often is not measured there; one crash is enough."""


def reference(state: StudyState, plan: StudyPlan) -> str:
    """Return the class that promotes: the recorded one, else the configured or commonest one.

    Of two that are as common the one that the baseline was measured on.
    """
    if state.reference_class not in {"", FROM_GIT}:
        return state.reference_class
    measured = state.baseline.device_class if state.baseline else ""
    if state.lineage and not is_from_git(state):  # its ledger is older than classes
        return measured
    if plan.reference_class:
        return plan.reference_class
    slots = Counter(open_classes(state))
    return max(slots, key=lambda kind: (slots[kind], kind == measured, kind), default=measured)


def is_from_git(state: StudyState) -> bool:
    """Say whether the incumbent's score was read from git, and has yet to be measured again."""
    return state.reference_class == FROM_GIT


def open_classes(state: StudyState) -> Iterator[str]:
    """Yield the class of each slot that takes work."""
    return (slot.device_class for slot in state.slots.values() if state.takes_work(slot))


def are_mixed(state: StudyState) -> bool:
    """Say whether slots of different classes take work."""
    return len(set(open_classes(state))) > 1


def place(state: StudyState, plan: StudyPlan, experiment: Experiment) -> Place:
    """Return where the next trial of an experiment may run.

    The first of a proposal anywhere; what a promotion rests on, on the reference class.
    """
    if experiment.kind is Kind.PROPOSAL and not experiment.values:
        return Place()
    if experiment.kind is Kind.BASELINE and not experiment.values:
        return Place(device_class=state.reference_class or plan.reference_class)
    return Place(device_class=reference(state, plan))


def is_screened(state: StudyState, plan: StudyPlan, experiment: Experiment) -> bool:
    """Say whether an experiment was measured on another class than the one that promotes."""
    return experiment.device_class != reference(state, plan)


def waits_for_base(state: StudyState, plan: StudyPlan, experiment: Experiment) -> bool:
    """Say whether its base has yet to be measured where the experiment was."""
    if experiment.kind is not Kind.PROPOSAL or not is_screened(state, plan, experiment):
        return False
    base, kind = state.experiments[experiment.base], experiment.device_class
    return not base.values_on(kind) and can_measure(state, base, kind)


def can_measure(state: StudyState, base: Experiment, kind: str) -> bool:
    """Say whether a promoted tree can still be measured on a class."""
    if kind not in open_classes(state):
        return False
    ended = [trial for trial in base.controls if _class_of(state, trial.slot) == kind]
    failed = (trial.outcome.ending for trial in ended if trial.outcome is not None)
    lost = sum(trial.phase is TrialPhase.LOST for trial in ended)
    return lost < MOST_FAILURES and not any(
        ending in {Ending.CRASHED, Ending.TIMED_OUT} for ending in failed
    )


def missing_bases(state: StudyState, plan: StudyPlan) -> Iterator[tuple[Experiment, str]]:
    """Yield each promoted tree, with a class, that a screening there rests on or is going to."""
    if not state.lineage or not are_mixed(state):
        return
    promotes = reference(state, plan)
    under_way = {(c.experiment, c.place.device_class) for c in state.controls.values()}
    for name, status in sorted(state.open.items()):
        experiment = state.experiments[name]
        if status not in {Status.RUNNING, Status.MEASURED} or experiment.kind is not Kind.PROPOSAL:
            continue
        if experiment.trials[-1].rung_s is not None:
            continue  # nothing rests on it but whether the candidate goes on
        kind = _class_of(state, experiment.trials[-1].slot)
        base = state.experiments[experiment.base]
        if kind in {"", promotes} or (base.id, kind) in under_way or base.values_on(kind):
            continue
        if can_measure(state, base, kind):
            under_way.add((base.id, kind))
            yield base, kind


def _class_of(state: StudyState, slot: str) -> str:
    found = state.slots.get(SlotId(slot))
    return found.device_class if found else ""
