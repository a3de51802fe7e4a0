"""How many candidates to ask for, how far ahead of the slots, and when to ask for none. Pure."""

import math
from collections.abc import Collection, Iterator, Sequence
from datetime import datetime, timedelta

from cluster.policy import device_classes, ladder, trial_planning
from cluster.policy.commands import Command, Propose
from cluster.policy.study_plan import Asked, Circumstances, Seat, StudyPlan
from cluster.state.experiment import Experiment, Kind, Status
from cluster.state.state import StudyState
from trainer.trial import ExperimentId

_A_MOMENT_S = 0.5
"""An answer that takes no longer is as good as there."""
_LATENCIES = 2.5
_ALL = 1_000_000
"""More than is ever asked for."""
FIRST_WAIT_S, MOST_WAIT_S = 15.0, 900.0
"""How long a proposer is left alone that could not answer: after the first time, and at most."""
MOST_REJECTIONS = 200
"""Rejected proposals in a row after which the proposers are taken to have run dry."""


def due(state: StudyState, plan: StudyPlan, circumstances: Circumstances) -> Iterator[Command]:
    """Have as many candidates as are missing ahead of the slots, within the limits.

    What was stopped on a rung and is among the best there by now comes before what is new.
    """
    if limit_reached(state, plan, circumstances.now):
        return
    ready = _ready(state, trial_planning.held_back(state, plan)) + len(state.submissions)
    usable = [seat for seat in plan.proposers if is_usable(state, seat.name, circumstances.now)]
    coming = _arriving(state, plan, circumstances, usable, ready)
    missing = _ready_wanted(state, plan, circumstances, usable) - ready - coming
    rising = ladder.risers(state, plan)[:missing] if missing > 0 else []
    yield from rising
    if not can_propose(state, plan):
        return
    left = room(state, plan) - circumstances.asking
    yield from _shared(state, circumstances, usable, missing - len(rising), left)


def room(state: StudyState, plan: StudyPlan) -> int:
    """Return for how many more proposals the limit on experiments has room."""
    if not plan.most_experiments:
        return _ALL
    return plan.most_experiments - state.judged - _undecided(state) - len(state.submissions)


def is_usable(state: StudyState, proposer: str, now: datetime) -> bool:
    """Say whether a proposer may be asked: not one that has run dry, or is left alone."""
    trouble = state.troubled.get(proposer)
    return proposer not in state.exhausted and (trouble is None or not trouble.lasts(now))


def retry_at(state: StudyState, proposer: str, now: datetime, at_least_s: float) -> datetime:
    """Return until when a proposer that could not answer is left alone: twice as long each time."""
    before = state.troubled.get(proposer)
    in_a_row = before.in_a_row if before else 0
    wait_s = min(MOST_WAIT_S, FIRST_WAIT_S * 2 ** min(in_a_row, 16))
    return now + timedelta(seconds=max(wait_s, at_least_s))


def _shared(
    state: StudyState,
    circumstances: Circumstances,
    usable: Sequence[Seat],
    missing: int,
    left: int,
) -> Iterator[Propose]:
    """Ask free proposers for what is missing, whoever has brought least for its weight first.

    One that works in batches is asked for a whole one, and only what its answers are quick enough
    for is not asked of another as well: so no slot waits for a slow one, whose proposals come on
    top.
    """

    def brought(seat: Seat) -> float:
        account = state.accounts.get(seat.name)
        return (account.proposals if account else 0) / seat.weight

    free = [seat for seat in usable if not circumstances.of(seat.name).count]
    quick = [seat for seat in free if not seat.batch]
    for seat in sorted(free, key=brought):
        if missing <= 0 or left <= 0:
            return
        count = min(seat.batch or missing, left)
        if not seat.batch and any(other is not seat for other in quick):
            count = min(count, math.ceil(missing / len(quick)))
            quick = [other for other in quick if other is not seat]
        yield Propose(proposer=seat.name, count=count)
        left -= count
        if not seat.batch or len(usable) == 1:
            missing -= count


def _arriving(
    state: StudyState,
    plan: StudyPlan,
    circumstances: Circumstances,
    usable: Sequence[Seat],
    ready: int,
) -> int:
    """Return how many proposals that were asked for count as if they were there.

    Those do that come before the ready ones have run out; and all of them where there is nobody
    else to ask.
    """
    batches = {seat.name for seat in plan.proposers if seat.batch}
    if len(usable) <= 1 or not batches:
        return circumstances.asking
    slots = state.open_slots or plan.slots
    rate = _uses_per_s(state, slots) or slots / max(plan.budget_s, 1e-9)
    lasts_s = ready / rate
    count = 0
    for asked in circumstances.asked:
        is_known = asked.latency_s > 0 or asked.proposer not in batches
        if is_known and _expected_s(asked, circumstances.now) <= max(lasts_s, _A_MOMENT_S):
            count += asked.count
    return count


def _expected_s(asked: Asked, now: datetime) -> float:
    """Return in how many seconds an answer is expected.

    One that is late is taken to need as long again as it has taken: it may never come.
    """
    waited_s = (now - asked.since).total_seconds() if asked.since else 0.0
    return asked.latency_s - waited_s if waited_s <= asked.latency_s else waited_s


def can_propose(state: StudyState, plan: StudyPlan) -> bool:
    """Say whether any proposer may still come up with something of use."""
    fresh = [seat for seat in plan.proposers if seat.name not in state.exhausted]
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
        if status in {Status.HELD, Status.PROPOSED, Status.QUEUED} and e not in held_back
    )


def _undecided(state: StudyState) -> int:
    """Proposals that no verdict has been given on."""
    before = {Status.HELD, Status.PROPOSED, Status.QUEUED, Status.RUNNING, Status.MEASURED}
    return sum(
        state.experiments[e].kind is Kind.PROPOSAL
        for e, status in state.open.items()
        if status in before
    )


def _ready_wanted(
    state: StudyState, plan: StudyPlan, circumstances: Circumstances, usable: Sequence[Seat]
) -> int:
    """One candidate per slot, and what the slots use up while an answer is on its way.

    More would go stale, fewer would let slots starve (Little's law: the number on the way is the
    rate times the latency). Of whoever is quickest twice the latency, as a proposer answers one
    question at a time and what comes up just after one waits for that answer and the next; and
    half of it more, as neither rate nor latency is steady.
    """
    slots = state.open_slots or plan.slots
    rate = _uses_per_s(state, slots)
    latency_s = min((circumstances.of(seat.name).latency_s for seat in usable), default=0.0)
    return slots + math.ceil(rate * _LATENCIES * latency_s)


def _uses_per_s(state: StudyState, slots: int) -> float:
    """Rate at which the slots use proposals up, or would if they never had to wait for one.

    It is what a verdict has taken of their time so far. How fast verdicts come tells nothing: while
    slots starve, no faster than proposals, and asking for as many would keep it so; and what waited
    for the baseline, or for a merge, is judged all at once.
    """
    return slots * state.used_up / state.slot_seconds if state.slot_seconds > 0 else 0.0


def limit_reached(state: StudyState, plan: StudyPlan, now: datetime) -> str:
    """Return which limit of the study was reached, in words; empty if none."""
    if plan.most_experiments and state.judged >= plan.most_experiments:
        return f"{state.judged} experiments were judged"
    if plan.most_hours and state.running_s(now) / 3600 >= plan.most_hours:
        return f"it has run for {plan.most_hours:g} hours"
    if plan.most_slot_hours and state.slot_seconds / 3600 >= plan.most_slot_hours:
        return f"{plan.most_slot_hours:g} GPU-hours were used"
    return _money_reached(state, plan)


def _money_reached(state: StudyState, plan: StudyPlan) -> str:
    """Return which limit of calls was reached: nothing is left, or not enough for the next one.

    What is set aside for calls that are being made counts, or one that was refused for it would be
    tried again and again until they end.
    """
    spent, used = state.usd, state.tokens
    usd, tokens = (state.refused.usd, state.refused.tokens) if state.refused else (0.0, 0)
    if plan.most_usd and (spent >= plan.most_usd or spent + usd > plan.most_usd):
        next_one = f", and the next call may cost ${usd:.2f}" if usd else ""
        return f"${spent:.2f} of ${plan.most_usd:.2f} were spent{next_one}"
    if plan.most_tokens and (used >= plan.most_tokens or used + tokens > plan.most_tokens):
        next_one = f", and the next call may use {tokens:,}" if tokens else ""
        return f"{used:,} of {plan.most_tokens:,} tokens were used{next_one}"
    return ""
