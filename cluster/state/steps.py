"""The steps an experiment may take, and how one is taken. Pure.

One table holds every step; anything else raises IllegalTransition, which carries the experiment's
whole story.
"""

from datetime import datetime
from typing import Any

from cluster.state import events as ev
from cluster.state.experiment import Experiment, Kind, Status
from cluster.state.replacing import replace
from cluster.state.state import StudyState
from trainer.trial import Ending, ExperimentId

RECENT = 32
"""How many verdict times are remembered for the rate."""

S = Status
TRANSITIONS: dict[type[ev.Event], dict[Status, frozenset[Status]]] = {
    ev.ExperimentRejected: {
        S.PROPOSED: frozenset({S.REJECTED}),
        S.HELD: frozenset({S.REJECTED}),
    },
    # A request to cancel may come between the decision and what came of it.
    ev.ExperimentRebased: {
        S.PROPOSED: frozenset({S.PROPOSED}),
        S.QUEUED: frozenset({S.PROPOSED, S.CANCELLED}),
        S.CANCELLED: frozenset({S.CANCELLED}),
    },
    ev.RebaseConflicted: {
        S.PROPOSED: frozenset({S.PROPOSED}),
        S.QUEUED: frozenset({S.QUEUED}),
    },
    ev.ExperimentReturned: {
        S.PROPOSED: frozenset({S.CANCELLED}),
        S.QUEUED: frozenset({S.CANCELLED}),
    },
    # A request to cancel may come between the decision to queue a trial and its queueing.
    ev.TrialQueued: {S.PROPOSED: frozenset({S.QUEUED}), S.CANCELLED: frozenset({S.QUEUED})},
    ev.TrialStarted: {S.QUEUED: frozenset({S.RUNNING})},
    ev.TrialGivenUp: {S.RUNNING: frozenset({S.RUNNING})},
    ev.TrialFinished: {
        S.RUNNING: frozenset(
            {S.MEASURED, S.PROPOSED, S.CRASHED, S.TIMED_OUT, S.PRUNED, S.CANCELLED, S.LOST}
        ),
        S.QUEUED: frozenset({S.CANCELLED}),
    },
    ev.RungJudged: {
        S.PROPOSED: frozenset({S.PROPOSED, S.PRUNED}),
        S.PRUNED: frozenset({S.PROPOSED}),
    },
    ev.TrialLost: {S.RUNNING: frozenset({S.PROPOSED, S.LOST, S.CANCELLED})},
    ev.ExperimentJudged: {
        S.MEASURED: frozenset({S.WINNER, S.DISCARDED, S.PROPOSED, S.KEPT}),
    },
    # A request to run it again may come between the decision and what came of it.
    ev.ControlJudged: {S.DISCARDED: frozenset({S.PROPOSED}), S.PROPOSED: frozenset({S.PROPOSED})},
    ev.ExperimentSuspected: {S.MEASURED: frozenset({S.SUSPECT})},
    ev.AcceptRequested: {S.SUSPECT: frozenset({S.MEASURED})},
    # A merge that was suspect may be accepted when the winner that it carries was given up.
    ev.Promoted: {
        S.WINNER: frozenset({S.KEPT}),
        S.MERGING: frozenset({S.MERGED}),
        S.DROPPED: frozenset({S.MERGED}),
        S.CONFLICTED: frozenset({S.MERGED}),
    },
    ev.ExperimentProposed: {S.WINNER: frozenset({S.MERGING}), S.KEPT: frozenset({S.KEPT})},
    ev.MergeConflicted: {S.WINNER: frozenset({S.CONFLICTED}), S.KEPT: frozenset({S.KEPT})},
    ev.MergeRedundant: {
        S.WINNER: frozenset({S.MERGED}),
        S.MERGING: frozenset({S.MERGED}),
        S.DROPPED: frozenset({S.MERGED}),
        S.CONFLICTED: frozenset({S.MERGED}),
        S.KEPT: frozenset({S.KEPT}),
    },
    ev.WinnerRequeued: {S.MERGING: frozenset({S.WINNER}), S.KEPT: frozenset({S.KEPT})},
    ev.WinnerDropped: {
        S.WINNER: frozenset({S.DROPPED}),
        S.MERGING: frozenset({S.DROPPED}),
        S.KEPT: frozenset({S.KEPT}),
    },
    ev.ApproveRequested: {S.HELD: frozenset({S.PROPOSED})},
    ev.RejectRequested: {S.HELD: frozenset({S.REJECTED})},
    ev.CancelRequested: {
        S.HELD: frozenset({S.CANCELLED}),
        S.PROPOSED: frozenset({S.CANCELLED}),
        S.QUEUED: frozenset({S.QUEUED}),
        S.RUNNING: frozenset({S.RUNNING}),
    },
    ev.NodeQuarantined: {
        S.CRASHED: frozenset({S.PROPOSED}),
        S.TIMED_OUT: frozenset({S.PROPOSED}),
        S.LOST: frozenset({S.PROPOSED}),
    },
    ev.RetryRequested: {
        status: frozenset({S.PROPOSED})
        for status in (
            S.REJECTED,
            S.CRASHED,
            S.TIMED_OUT,
            S.PRUNED,
            S.CANCELLED,
            S.LOST,
            S.DISCARDED,
            S.SUSPECT,
        )
    },
}
"""What an event may make of an experiment: event -> status before -> statuses after."""
STATUS_OF_ENDING = {
    Ending.SCORED: S.MEASURED,
    Ending.SHORT: S.PROPOSED,
    Ending.PRUNED: S.PRUNED,
    Ending.CRASHED: S.CRASHED,
    Ending.TIMED_OUT: S.TIMED_OUT,
    Ending.CANCELLED: S.CANCELLED,
    Ending.LOST: S.LOST,
}
"""What the end of a trial makes of its experiment, unless somebody wants it cancelled."""
_UNJUDGED = frozenset(
    {S.HELD, S.PROPOSED, S.QUEUED, S.RUNNING, S.MEASURED, S.REJECTED, S.CANCELLED, S.LOST}
)


class OutOfOrder(ValueError):
    """What was recorded between two events is not there: no state follows."""

    def __init__(self, what: str) -> None:
        super().__init__(
            f"{what}: the ledger has lost what was between them. Bring a copy back (`incumbent "
            "import-ledger`), or `incumbent rebuild` makes one of what git knows; both say how to "
            "put this one away"
        )


class IllegalTransition(RuntimeError):
    """An event that cannot follow what was recorded of an experiment."""

    def __init__(self, event: ev.Event, experiment: Experiment, after: Status | None) -> None:
        story = ", ".join(f"{seq}:{name}" for seq, name in experiment.story)
        tried = f"{experiment.status} -> {after}" if after else experiment.status
        super().__init__(
            f"{type(event).__name__} cannot follow in {experiment.id} ({tried}); its story: {story}"
        )
        self.event = event
        self.experiment = experiment


def step(
    state: StudyState,
    recorded: ev.Recorded,
    experiment: ExperimentId,
    after: Status,
    **changes: Any,  # noqa: ANN401 - dataclasses.replace takes any field
) -> StudyState:
    """Move one experiment to `after`, as the table allows, and keep the indexes true."""
    before = state.experiments[experiment]
    allowed = TRANSITIONS[type(recorded.event)].get(before.status, frozenset())
    if after not in allowed:
        raise IllegalTransition(recorded.event, before, after)
    line = (recorded.seq, type(recorded.event).__name__)
    moved = replace(before, status=after, story=(*before.story, line), **changes)
    return _stored(state, moved, before.status, recorded.at)


def _stored(state: StudyState, new: Experiment, before: Status, at: datetime) -> StudyState:
    """Put an experiment into the state and keep the indexes true."""
    experiments = state.experiments.set(new.id, new)
    if new.status is before:
        return replace(state, experiments=experiments)
    counts = state.counts.set(before, state.counts.get(before, 0) - 1)
    counts = counts.set(new.status, counts.get(new.status, 0) + 1)
    is_open = state.open.set(new.id, new.status)
    if new.status.is_terminal:
        is_open = is_open.delete(new.id)
    changed = replace(state, experiments=experiments, counts=counts, open=is_open)
    return _count_judged(changed, new, before, at)


def _count_judged(state: StudyState, new: Experiment, before: Status, at: datetime) -> StudyState:
    counted = int(is_judged(new.kind, new.status)) - int(is_judged(new.kind, before))
    if not counted:
        return state
    recent = (*state.recent, at)[-RECENT:] if counted > 0 else state.recent
    used_up = state.used_up + (counted if new.seconds > 0 else 0)
    return replace(state, judged=state.judged + counted, recent=recent, used_up=used_up)


def is_judged(kind: Kind, status: Status) -> bool:
    """Say whether an experiment counts against `--experiments`: a proposal that came to an end."""
    return kind is Kind.PROPOSAL and status not in _UNJUDGED
