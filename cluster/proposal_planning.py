"""How many candidates to ask for, how far ahead of the slots, and when to ask for none. Pure."""

import math
from collections.abc import Collection, Iterator
from datetime import datetime

from cluster import device_classes, ladder, trial_planning
from cluster.commands import Command, Propose
from cluster.experiment import Experiment, Kind, Status
from cluster.state import StudyState
from cluster.study_plan import Circumstances, StudyPlan
from trainer.trial import ExperimentId

MOST_REJECTIONS = 200
"""Rejected proposals in a row after which the proposers are taken to have run dry."""


def due(state: StudyState, plan: StudyPlan, circumstances: Circumstances) -> Iterator[Command]:
    """Have as many candidates as are missing ahead of the slots, within the limits.

    What was stopped on a rung and is among the best there by now comes before what is new.
    """
    if limit_reached(state, plan, circumstances.now):
        return
    ready = _ready(state, trial_planning.held_back(state, plan))
    missing = _ready_wanted(state, plan, circumstances) - ready - circumstances.asking
    rising = ladder.risers(state, plan)[:missing] if missing > 0 else []
    yield from rising
    if not can_propose(state, plan):
        return
    missing -= len(rising)
    if plan.most_experiments:
        begun = state.judged + _undecided(state) + circumstances.asking
        missing = min(missing, plan.most_experiments - begun)
    if missing > 0:
        yield Propose(count=missing)


def can_propose(state: StudyState, plan: StudyPlan) -> bool:
    """Say whether any proposer may still come up with something of use."""
    fresh = [name for name in plan.proposers if name not in state.exhausted]
    return (
        bool(fresh)
        and not _has_failed(state.baseline)
        and state.rejections_in_a_row < MOST_REJECTIONS
    )


def _has_failed(baseline: Experiment | None) -> bool:
    """Say whether the start has ended without a score to compare with."""
    if baseline is None:
        return False
    return baseline.status.is_failure or baseline.status is Status.SUSPECT


def _ready(state: StudyState, held_back: Collection[ExperimentId]) -> int:
    """Proposals that a slot can count on; any slot, where there are several kinds."""
    are_mixed = device_classes.are_mixed(state)
    return sum(
        state.experiments[e].kind is Kind.PROPOSAL
        and not (are_mixed and state.experiments[e].values)
        for e, status in state.open.items()
        if status in {Status.PROPOSED, Status.QUEUED} and e not in held_back
    )


def _undecided(state: StudyState) -> int:
    """Proposals that no verdict has been given on."""
    before = {Status.PROPOSED, Status.QUEUED, Status.RUNNING, Status.MEASURED}
    return sum(
        state.experiments[e].kind is Kind.PROPOSAL
        for e, status in state.open.items()
        if status in before
    )


def _ready_wanted(state: StudyState, plan: StudyPlan, circumstances: Circumstances) -> int:
    """One candidate per slot, and what the slots use up while an answer is on its way.

    More would go stale, fewer would let slots starve (Little's law: the number on the way is the
    rate times the latency).
    """
    slots = state.open_slots or plan.slots
    rate = verdicts_per_s(state, circumstances.now)
    return slots + math.ceil(rate * circumstances.proposal_latency_s)


def verdicts_per_s(state: StudyState, now: datetime) -> float:
    """Rate of verdicts on proposals over the last few, per second; 0 before there are two."""
    if len(state.recent) < 2:
        return 0.0
    span = (now - state.recent[0]).total_seconds()
    return (len(state.recent) - 1) / span if span > 0 else 0.0


def limit_reached(state: StudyState, plan: StudyPlan, now: datetime) -> str:
    """Return which limit of the study was reached, in words; empty if none."""
    if plan.most_experiments and state.judged >= plan.most_experiments:
        return f"{state.judged} experiments were judged"
    if plan.most_hours and state.running_s(now) / 3600 >= plan.most_hours:
        return f"it has run for {plan.most_hours:g} hours"
    if plan.most_slot_hours and state.slot_seconds / 3600 >= plan.most_slot_hours:
        return f"{plan.most_slot_hours:g} GPU-hours were used"
    return ""
