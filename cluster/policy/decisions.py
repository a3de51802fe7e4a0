"""`decide(state, plan, circumstances) -> commands`: what is to be done now. Pure.

Level-triggered: it looks at the state, not at what changed, so it may be called at any time and
after any crash. Its cost grows with what is open, not with what was ever tried.
"""

from collections.abc import Iterator

from cluster.policy import (
    controls,
    ladder,
    proposal_planning,
    pruning,
    quarantine,
    reducer,
    staleness,
    tasks,
    trial_planning,
    verdicts,
)
from cluster.policy.commands import (
    CancelTrial,
    Command,
    CreateBaseline,
    FinishStudy,
    GiveBackTrials,
    Materialise,
    Promote,
    PruneTrial,
    SettleChain,
)
from cluster.policy.study_plan import Circumstances, StudyPlan
from cluster.state.experiment import Status
from cluster.state.state import StudyState

MOST_SUBMISSIONS = 8
"""Submissions that are turned into candidates in one go."""
_REPEATED = (CancelTrial, PruneTrial)
"""Decided again until a worker has heard of it."""


def decide(state: StudyState, plan: StudyPlan, circumstances: Circumstances) -> tuple[Command, ...]:
    """Return the commands that are due, in the order in which to perform them."""
    if state.finished:
        return ()
    if state.stopping:
        return tuple(_stopping(state, plan))
    if state.baseline is None:
        return (CreateBaseline(),)
    commands: list[Command] = [
        *_cancellations(state),
        *quarantine.due(state),
        *controls.withdrawn(state),
        *(list(controls.readings(state, plan)) or verdicts.due(state, plan)),
    ]
    if not commands:
        commands = reducer.plan(state, plan)
    if not state.is_paused and all(isinstance(one, _REPEATED) for one in commands):
        commands.extend(staleness.due(state, plan))  # else the incumbent may be about to move
    commands.extend(_submissions(state))
    commands.extend(ladder.due(state, plan))
    commands.extend(pruning.due(state, circumstances))
    if not state.is_paused:
        commands.extend(controls.due(state, plan))
        commands.extend(trial_planning.due(state, plan))
        asked = list(tasks.due(state, plan, circumstances))
        commands.extend(asked)
        busy = circumstances.with_asked([task.proposer for task in asked])
        commands.extend(proposal_planning.due(state, plan, busy))
    if not commands:
        commands.extend(_ending(state, plan, circumstances))
        if commands:  # nothing would come of what controls say from now on
            commands = [*controls.withdrawn(state, everything=True)] or commands
    return tuple(commands)


def _stopping(state: StudyState, plan: StudyPlan) -> Iterator[Command]:
    """Finish what runs, its verdicts and promotions included; begin nothing."""
    yield from _cancellations(state)
    yield from controls.withdrawn(state, everything=True)
    if judgements := list(verdicts.due(state, plan)):
        yield from judgements
    else:
        winners = reducer.plan(state, plan)
        yield from (one for one in winners if isinstance(one, Promote | SettleChain))
    if state.stopping == "now" and state.count(Status.RUNNING):
        yield GiveBackTrials()


_ON_THE_WAY = frozenset({Status.QUEUED, Status.RUNNING})


def _cancellations(state: StudyState) -> Iterator[Command]:
    for name, status in state.open.items():
        if status in _ON_THE_WAY and state.experiments[name].is_cancelled:
            yield CancelTrial(trial=state.experiments[name].trials[-1].id)
    yield from pruning.orders(state)


def _submissions(state: StudyState) -> Iterator[Command]:
    if trial_planning.is_under_way(state):
        # A few at a time: between them the state is looked at again, and trials are queued.
        waiting = sorted(state.submissions, key=lambda submission: -submission.priority)
        for submission in waiting[:MOST_SUBMISSIONS]:
            yield Materialise(submission=submission)


def _ending(state: StudyState, plan: StudyPlan, circumstances: Circumstances) -> Iterator[Command]:
    baseline = state.baseline
    if baseline is not None and baseline.status is Status.SUSPECT:
        cure = "correct that and `incumbent retry e0`, or `incumbent accept e0`; then run again"
        yield FinishStudy(reason=f"the baseline is suspect: {baseline.reason}: {cure}", failed=True)
    elif baseline is not None and baseline.status.is_failure:
        words = baseline.status.words
        reason = f"the baseline {'was ' if words in ('lost', 'cancelled') else ''}{words}"
        yield FinishStudy(reason=f"{reason}: {baseline.reason}", failed=True)
    elif why := controls.unmeasurable(state):
        cure = "mend that, and run again"
        yield FinishStudy(
            reason=f"the best so far, rebuilt from git, cannot be measured: {why}: {cure}",
            failed=True,
        )
    elif circumstances.asking or state.is_paused or _is_under_way(state):
        return
    elif reached := proposal_planning.limit_reached(state, plan, circumstances.now):
        yield FinishStudy(reason=reached)
    elif state.open:
        return  # somebody may approve of what is held
    elif plan.proposers and not proposal_planning.can_propose(state, plan):
        why = "; ".join(f"{name}: {reason}" for name, reason in sorted(state.exhausted.items()))
        repeats = f"{state.rejections_in_a_row} proposals in a row were rejected"
        yield FinishStudy(reason=f"nothing more to try ({why or repeats})")


def _is_under_way(state: StudyState) -> bool:
    """Say whether something is open that needs nobody's approval."""
    return any(status is not Status.HELD for status in state.open.values())


def stop_is_complete(state: StudyState) -> bool:
    """Say whether a stop that was asked for has nothing left to wait for."""
    return bool(state.stopping) and not state.count(Status.RUNNING)
