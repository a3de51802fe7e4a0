"""What the events of proposing change. Pure. See cluster.state.transitions."""

from cluster.state import proposing_events as pe
from cluster.state.events import Event, ExperimentProposed, Recorded
from cluster.state.experiment import Status
from cluster.state.replacing import replace
from cluster.state.state import ProposerAccount, StudyState, Trouble
from cluster.state.steps import OutOfOrder, step
from cluster.state.study_transitions import Handler
from trainer.trial import ExperimentId

MOST_HINTS = 64
"""How many hints to the tuner are remembered."""
MOST_TASKS = 64
"""How many tasks are remembered: the oldest that nobody has taken are forgotten."""


def brought(state: StudyState, proposer: str) -> StudyState:
    """Count one more proposal of a proposer, which is well again."""
    account = state.accounts.get(proposer, ProposerAccount())
    counted = replace(account, proposals=account.proposals + 1)
    troubled = state.troubled
    if proposer in troubled:
        troubled = troubled.delete(proposer)
    accounts = state.accounts.set(proposer, counted)
    return replace(state, accounts=accounts, troubled=troubled)


def proposed(state: StudyState, event: ExperimentProposed) -> StudyState:
    """Note what a proposal means for its proposer, its task, the tuner and later proposals."""
    state = without_task(brought(state, event.proposer), event.task)
    syntaxes = state.syntaxes
    if event.syntax and event.syntax not in syntaxes:
        syntaxes = syntaxes.set(event.syntax, event.experiment)
    hints = (*state.hints, *event.hints)[-MOST_HINTS:]
    return replace(state, syntaxes=syntaxes, hints=hints)


def with_task(state: StudyState, key: str) -> StudyState:
    """Remember something that a proposer could be asked to do."""
    others = tuple(task for task in state.tasks if task != key)
    return replace(state, tasks=(*others, key)[-MOST_TASKS:])


def without_task(state: StudyState, key: str) -> StudyState:
    """Forget it: it is done, or given up."""
    if not key:
        return state
    return replace(state, tasks=tuple(task for task in state.tasks if task != key))


def fixes_before(state: StudyState, task: str) -> int:
    """Return how many fixes the answer to a task adds up to; 0 for what is no fix."""
    kind, _, name = task.partition("/")
    crashed = state.experiments.get(ExperimentId(name)) if kind == "fix" else None
    return crashed.fixes + 1 if crashed else 0


def _reserved(state: StudyState, event: pe.CallReserved, _: Recorded) -> StudyState:
    reserved = state.reserved.set(event.call, event.plan)
    return replace(state, calls=state.calls + 1, reserved=reserved)


def _settled(state: StudyState, event: pe.CallSettled, _: Recorded) -> StudyState:
    plan = state.reserved.get(event.call)
    if plan is None:
        raise OutOfOrder(f"the end of call {event.call} cannot follow what has no beginning of it")
    account = state.accounts.get(plan.proposer, ProposerAccount())
    account = replace(
        account,
        calls=account.calls + 1,
        usd=account.usd + event.usd,
        usage=account.usage.plus(event.usage),
    )
    replies = state.replies.set(event.call, plan) if event.proposals else state.replies
    return replace(
        state,
        reserved=state.reserved.delete(event.call),
        accounts=state.accounts.set(plan.proposer, account),
        replies=replies,
    )


def _refused(state: StudyState, event: pe.CallRefused, _: Recorded) -> StudyState:
    return replace(state, refused=event)


def _used(state: StudyState, event: pe.AnswerUsed, _: Recorded) -> StudyState:
    replies = state.replies
    for call in event.calls:
        if call in replies:
            replies = replies.delete(call)
    return replace(state, replies=replies)


def _failed(state: StudyState, event: pe.ProposerFailed, rec: Recorded) -> StudyState:
    before = state.troubled.get(event.proposer)
    in_a_row = before.in_a_row + 1 if before else 1
    trouble = Trouble(
        reason=event.reason,
        since=rec.at,
        until=event.retry_at,
        in_a_row=in_a_row,
        is_idle=event.is_idle,
    )
    return replace(state, troubled=state.troubled.set(event.proposer, trouble))


def _closed(state: StudyState, event: pe.TaskClosed, _: Recorded) -> StudyState:
    return without_task(state, event.task)


def _note(state: StudyState, event: pe.NoteGiven, _: Recorded) -> StudyState:
    return replace(state, notes=(*state.notes, event.text))


def _approved(state: StudyState, event: pe.ApproveRequested, rec: Recorded) -> StudyState:
    experiment = state.experiments.get(event.experiment)
    if experiment is None or experiment.status is not Status.HELD:
        return state  # a request is a wish, not a fact about the experiment
    return step(state, rec, experiment.id, Status.PROPOSED)


def _turned_down(state: StudyState, event: pe.RejectRequested, rec: Recorded) -> StudyState:
    experiment = state.experiments.get(event.experiment)
    if experiment is None or experiment.status is not Status.HELD:
        return state
    reason = f"rejected by hand: {event.reason}" if event.reason else "rejected by hand"
    return step(state, rec, experiment.id, Status.REJECTED, reason=reason)


PROPOSING_HANDLERS: dict[type[Event], Handler] = {
    pe.CallReserved: _reserved,
    pe.CallSettled: _settled,
    pe.CallRefused: _refused,
    pe.AnswerUsed: _used,
    pe.ProposerFailed: _failed,
    pe.TaskClosed: _closed,
    pe.NoteGiven: _note,
    pe.ApproveRequested: _approved,
    pe.RejectRequested: _turned_down,
}
