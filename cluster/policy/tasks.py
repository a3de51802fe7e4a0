"""What a proposer is asked to mend or to compose, and whom. Pure.

A candidate that failed for a trivial reason goes back to its author, which knows what was meant; a
winner that conflicts goes to whoever composes. What nobody takes is left alone.
"""

import re
from collections.abc import Iterator
from datetime import datetime

from cluster.policy.commands import AskTask
from cluster.policy.proposal_planning import is_usable, limit_reached, room
from cluster.policy.study_plan import Circumstances, Seat, StudyPlan
from cluster.state.experiment import Experiment, Kind, Status
from cluster.state.state import StudyState
from proposer.proposal import TaskKind
from trainer.trial import CrashKind, ExperimentId

_TRIVIAL = re.compile(
    r"""
      \b(NameError|ImportError|ModuleNotFoundError|AttributeError|UnboundLocalError)\b
    | \b(SyntaxError|IndentationError|TabError)\b
    | \b(undefined|unexpected\ keyword|missing\ \d+\ required|takes\ \d+\ positional)\b
    | \bgot\ multiple\ values\ for\b
    | \bshapes?\b.*\b(mismatch|match|multiplied|align(ed)?|broadcast|invalid|incompatible)\b
    | \b(sizes?|dimensions?|batch_size)\b.*\b(mismatch|match|must\ be\ the\ same)\b
    | \b(mismatch\ in\ its\ core\ dimension|equal\ size|cannot\ reshape\ array|mat1\ and\ mat2)\b
    | \b(could\ not\ (be\ )?broadcast|must\ have\ (the\ )?same\ number\ of\ dimensions)\b
    | \bexpected\b.*\b(dtype|scalar\ type|same\ device|channels|to\ have\ \d+\ dim)
    | \b(CUDA\ )?out\ of\ memory\b
    """,
    re.IGNORECASE | re.VERBOSE,
)
"""How the reason of a crash reads that its author can mend without a new idea: names, imports,
arguments, shapes and types, and what does not fit into memory."""


def due(state: StudyState, plan: StudyPlan, circumstances: Circumstances) -> Iterator[AskTask]:
    """Ask free proposers for what they can do of what is there to be done."""
    if not state.tasks or limit_reached(state, plan, circumstances.now):
        return
    taken = {asked.task for asked in circumstances.asked if asked.task}
    able = [seat for seat in plan.proposers if _is_able(state, seat, circumstances.now)]
    free = [seat for seat in able if not circumstances.of(seat.name).count]
    left = room(state, plan) - circumstances.asking
    for key in state.tasks:
        if key in taken or left <= 0:
            continue
        seat = _taker(state, plan, able, key)
        # Whoever does it for nothing is waited for; of two models either will do.
        if seat is not None and seat not in free:
            others = [one for one in free if len(one.tasks) <= len(seat.tasks)]
            seat = _taker(state, plan, others, key)
        if seat is not None:
            free.remove(seat)
            left -= 1
            yield AskTask(proposer=seat.name, task=key)


def _is_able(state: StudyState, seat: Seat, now: datetime) -> bool:
    """Say whether a proposer may be asked for a task: one without ideas may, too."""
    trouble = state.troubled.get(seat.name)
    is_idle = trouble is not None and trouble.is_idle and seat.name not in state.exhausted
    return is_idle or is_usable(state, seat.name, now)


def subject(state: StudyState, key: str) -> tuple[TaskKind, Experiment] | None:
    """Return what a task is about; None if there is nothing to do any more."""
    kind, _, name = key.partition("/")
    experiment = state.experiments.get(ExperimentId(name))
    if experiment is None:
        return None
    if kind == TaskKind.COMPOSE and experiment.status is Status.CONFLICTED:
        return TaskKind.COMPOSE, experiment
    if kind == TaskKind.FIX and experiment.status in {Status.CRASHED, Status.REJECTED}:
        return TaskKind.FIX, experiment
    return None


def _taker(state: StudyState, plan: StudyPlan, able: list[Seat], key: str) -> Seat | None:
    """Return who is to do a task, whether it is free or not."""
    found = subject(state, key)
    if found is None:
        return None
    kind, experiment = found
    if kind is TaskKind.FIX:
        is_theirs = experiment.kind is Kind.PROPOSAL and experiment.fixes < plan.max_fixes
        if not is_theirs or not is_trivial(experiment):
            return None
        takers = [seat for seat in able if seat.name == experiment.proposer]
    else:
        # Whoever does nothing but put things together does it with git first, for nothing.
        takers = sorted(able, key=lambda seat: len(seat.tasks))
    return next((seat for seat in takers if kind in seat.tasks), None)


def is_trivial(experiment: Experiment) -> bool:
    """Say whether a candidate failed for a reason that says nothing of its idea."""
    if experiment.status is Status.REJECTED:
        return not experiment.reason.startswith("rejected by hand")
    outcome = experiment.last_outcome
    if outcome.crash is CrashKind.OUT_OF_MEMORY:
        return True
    return outcome.crash is CrashKind.EXCEPTION and bool(_TRIVIAL.search(outcome.reason))
