"""One line of plain words for each event: stories, and views on what is no terminal. Pure.

A line begins with a word that says what happened and the id that it happened to, so that it can be
searched for: `kept e7`, `crashed e9.1`. These words are stable.
"""

from collections.abc import Mapping
from dataclasses import fields
from functools import singledispatch

from cluster.ledger.codec import to_plain
from cluster.state import events as ev
from cluster.state import hidden_label_events as hidden
from cluster.state import node_events as nodes
from cluster.state import proposing_events as proposing
from cluster.state.experiment import Kind
from cluster.state.state import StudyState
from cluster.state.winners import takes_out
from eval.judge import Verdict
from infra.facts.plain_text import counted, dollars, number, one_line, signed
from infra.facts.probe_text import probe_words
from infra.facts.proposer_text import task_words
from infra.facts.seed_text import CHANGES_SEED, reseed_words
from trainer.trial import Ending, ExperimentId, TrialOutcome

_SHAPES: Mapping[type[ev.Event], str] = {
    ev.ControllerStarted: "controller started: process {pid} on {node}, epoch {epoch}",
    ev.ControllerStopped: "controller stopped: {reason}",
    ev.SlotClosed: "closed {slot}: {reason}",
    nodes.NodeRefused: "refused {node} at {address}: {reason}",
    nodes.NodeLeft: "left {node}: {reason}",
    nodes.DrainRequested: "drain {node}",
    nodes.NodeReleased: "released {node}",
    ev.SubmissionReceived: "submitted {submission}: {hypothesis}",
    ev.CancelRequested: "cancel {experiment}",
    ev.RetryRequested: "retry {experiment}",
    ev.AcceptRequested: "accept {experiment}",
    ev.PauseRequested: "pause",
    ev.ResumeRequested: "resume",
    ev.ExperimentRejected: "rejected {experiment}: {reason}",
    ev.ExperimentRebased: "rebased {experiment} onto {base}, from {from_base}",
    ev.ExperimentReturned: "returned {experiment}: {reason}",
    ev.ProposerExhausted: "exhausted {proposer}: {reason}",
    ev.MergeRedundant: "merged {experiment}: already in {against}",
    ev.WinnerDropped: "dropped {experiment}: {reason}",
    proposing.NoteGiven: "told all proposers: {text}",
    proposing.ApproveRequested: "approve {experiment}",
}
"""Lines that say no more than what an event holds, by its fields."""


def event_line(event: ev.Event, state: StudyState) -> str:
    """Return the line of an event; `state` is the one after it, or a later one."""
    return one_line(_line(event, state))


@singledispatch
def _line(event: ev.Event, _state: StudyState) -> str:
    return _SHAPES[type(event)].format_map({f.name: getattr(event, f.name) for f in fields(event)})


@_line.register
def _(event: ev.StudyStarted, _state: StudyState) -> str:
    return f"study {event.study}: {event.goal} {event.metric}, from {event.base_commit[:7]}"


@_line.register
def _(event: ev.StudyFinished, _state: StudyState) -> str:
    return f"{'failed' if event.failed else 'finished'}: {event.reason}"


@_line.register
def _(event: ev.SlotOpened, _state: StudyState) -> str:
    note = f" ({event.note})" if event.note else ""
    return f"slot {event.slot} on {event.node}: {event.device}{note}"


@_line.register
def _(event: nodes.NodeJoined, _state: StudyState) -> str:
    has = f"{event.cpus} CPUs, {event.memory_gb:.0f} GB"
    cards = f", {', '.join(event.gpus)}" if event.gpus else ""
    took = f"; prepared in {event.prepared_s:.0f} s" if event.prepared_s else ""
    return f"joined {event.node} at {event.address}: {has}{cards}{took}"


@_line.register
def _(event: nodes.NodeQuarantined, _state: StudyState) -> str:
    again = f"; run again: {', '.join(event.reopened)}" if event.reopened else ""
    return f"quarantined {event.node}: {event.reason}{again}"


@_line.register
def _(event: ev.StopRequested, _state: StudyState) -> str:
    return "stop now" if event.now else "stop"


@_line.register
def _(event: ev.ExperimentProposed, _state: StudyState) -> str:
    if event.kind is Kind.MERGE:
        return f"merging {event.merge_of} onto {event.base} as {event.experiment}"
    without = f", without {event.reverts}" if event.reverts else ""
    changes = f" ({CHANGES_SEED})" if event.seeds else ""
    who = f"{event.proposer}{without}"
    held = ", held until somebody approves it" if event.is_held else ""
    task = f", to {task_words(event.task)}" if event.task else ""
    return f"proposed {event.experiment} by {who}{task}: {event.hypothesis}{changes}{held}"


@_line.register
def _(event: ev.ProposalRejected, _state: StudyState) -> str:
    return f"rejected {event.submission or event.proposer}: {event.hypothesis}: {event.reason}"


@_line.register
def _(event: ev.RebaseConflicted, _state: StudyState) -> str:
    where = f"conflicts with {event.onto} in {', '.join(event.paths)}"
    return f"not rebased {event.experiment}: {where}, so it is run on its own base"


@_line.register
def _(event: ev.TrialQueued, _state: StudyState) -> str:
    only = event.place.slot or event.place.device_class
    where = f", on {only}" if event.is_control else ""
    what = "control" if event.is_control else "queued"
    rung = "" if event.rung_s is None else f", on the rung of {event.rung_s:g} s"
    return f"{what} {event.trial}{_attempt(event.attempt)}, seed {event.seed}{where}{rung}"


@_line.register
def _(event: ev.TrialStarted, state: StudyState) -> str:
    hypothesis = state.experiments[event.experiment].hypothesis
    return f"started {event.trial} on {event.slot}{_attempt(event.attempt)}: {hypothesis}"


@_line.register
def _(event: ev.TrialGivenUp, _state: StudyState) -> str:
    return f"given up {event.trial}{_attempt(event.attempt)}: {event.reason}"


@_line.register
def _(event: ev.TrialFinished, state: StudyState) -> str:
    outcome = event.outcome
    if outcome.ending is Ending.SCORED:
        probe = probe_words(to_plain(outcome.probe)) if outcome.probe else ""
        told = (f"; {words}" for words in (reseed_words(outcome.reseeds), probe) if words)
        return f"{_ended(event.trial, outcome, state)}{''.join(told)}"
    if outcome.ending is Ending.SHORT:
        rung_s = state.experiments[event.experiment].trial(event.trial, event.attempt).rung_s or 0.0
        reached = f"{state.metric} {number(outcome.short_value)}"
        return f"short {event.trial}: {reached} on the rung of {rung_s:g} s"
    return _ended(event.trial, outcome, state)


@_line.register
def _(event: ev.RungJudged, _state: StudyState) -> str:
    return f"{'passed' if event.goes_on else 'pruned'} {event.experiment}: {event.reason}"


@_line.register
def _(event: ev.TrialLost, _state: StudyState) -> str:
    word = "given back" if event.is_given_back else "lost"
    return f"{word} {event.trial}{_attempt(event.attempt)}: {event.reason}"


@_line.register
def _(event: ev.ExperimentJudged, state: StudyState) -> str:
    if state.experiments[event.experiment].kind is Kind.BASELINE:
        again = f": {event.reason}" if event.verdict is Verdict.REPLICATE else ""
        return f"baseline {event.experiment}{again}"
    word = {Verdict.KEEP: "winner", Verdict.DISCARD: "discarded", Verdict.REPLICATE: "replicate"}
    return f"{word[event.verdict]} {event.experiment}: {event.reason} ({_evidence(event)})"


@_line.register
def _(event: ev.ControlJudged, state: StudyState) -> str:
    marks = state.experiments[event.experiment].trial(event.trial, 1).marks
    odd = f" ({', '.join(mark.value for mark in marks)})" if marks else ""
    if not event.is_shifted:
        return f"checked {event.slot} by {event.trial}: as expected{odd}"
    again = f"; judged again: {_list(event.reopened)}" if event.reopened else ""
    return f"shifted {event.slot}: {signed(event.shift)} in {event.trial}{odd}{again}"


@_line.register
def _(event: ev.ExperimentSuspected, _state: StudyState) -> str:
    return f"suspect {event.experiment}: {'; '.join(event.reasons)} ({_evidence(event)})"


@_line.register
def _(event: ev.ChainMeasured, _state: StudyState) -> str:
    won = f"best is {event.best}" if event.best else "none is promoted"
    return f"chain {event.chain}: {_list(event.links)} measured, {won}"


@_line.register
def _(event: ev.Promoted, state: StudyState) -> str:
    experiment = state.experiments[event.experiment]
    score = experiment.score
    best = f"{state.metric} {number(score.mean if score else None)}"
    lacks = f", which leaves behind {_list(event.lacks)}" if event.lacks else ""
    links = tuple(link.experiment for link in event.carried)
    above = f" above {_list(links)}" if links else ""
    target = takes_out(state, experiment)
    out = f", which takes out {target}" if target else ""
    return (
        f"kept {event.experiment}{above}: {best}, replaces {event.replaces}{lacks}{out}, "
        f"as {event.commit[:7]}: {experiment.hypothesis}"
    )


@_line.register
def _(event: ev.MergeConflicted, _state: StudyState) -> str:
    return f"conflicted {event.experiment}: with {event.against} in {', '.join(event.paths)}"


@_line.register
def _(event: ev.WinnerRequeued, _state: StudyState) -> str:
    effect = f", believed to be worth {signed(event.effect.mean)}" if event.effect else ""
    return f"requeued {event.experiment}: {event.reason}{effect}"


@_line.register
def _(event: hidden.HoldoutScored, state: StudyState) -> str:
    told = f"{state.metric} {number(event.reported)}, validation {number(event.validation)}"
    return f"holdout {event.trial}: {event.problem or told}"


@_line.register
def _(event: hidden.FinalBegun, _state: StudyState) -> str:
    # Of one that was rebuilt from its tag, nobody knows how many there were.
    runs = counted(len(event.seeds), "run") if event.seeds else "known from its tag"
    return f"final-{event.final} of {event.experiment} at {event.commit[:7]}: {runs}"


@_line.register
def _(event: hidden.FinalRunEnded, state: StudyState) -> str:
    return _ended(f"final-{event.final}.{event.seed}", event.outcome, state)


@_line.register
def _(event: hidden.FinalReported, state: StudyState) -> str:
    test = ", ".join(map(number, event.test))
    told = f"test {state.metric} {test}, look {event.looks} at these labels" if test else "no test"
    return f"reported final-{event.final}: {told}{f': {event.problem}' if event.problem else ''}"


@_line.register
def _(event: proposing.CallReserved, _state: StudyState) -> str:
    plan = event.plan
    cost = f", at most {dollars(plan.usd)}" if plan.usd else ""
    what = f" {plan.task.partition('/')[2]}" if plan.task else ""
    return f"call {event.call}: {plan.proposer} asks {plan.model} to {plan.purpose}{what}{cost}"


@_line.register
def _(event: proposing.CallSettled, _state: StudyState) -> str:
    cost = f"{event.usage.total} tokens, {dollars(event.usd)}"
    if event.is_lost:
        return f"lost {event.call}: its process died, so it counts as what was reserved ({cost})"
    if event.problem:
        return f"failed {event.call}: {event.problem} ({cost})"
    return f"answered {event.call}: {counted(event.proposals, 'proposal')} ({cost})"


@_line.register
def _(event: proposing.CallRefused, _state: StudyState) -> str:
    most = f"{dollars(event.usd)} or {event.tokens} tokens"
    return f"no call of {event.proposer}: {most} could be more than the limit leaves"


@_line.register
def _(event: proposing.AnswerUsed, _state: StudyState) -> str:
    return f"used {', '.join(event.calls)}"


@_line.register
def _(event: proposing.ProposerFailed, _state: StudyState) -> str:
    until = event.retry_at.astimezone()
    return f"in trouble {event.proposer}: {event.reason}; asked again at {until:%H:%M:%S}"


@_line.register
def _(event: proposing.TaskClosed, _state: StudyState) -> str:
    return f"gave up {event.proposer}, to {task_words(event.task)}: {event.reason}"


@_line.register
def _(event: proposing.RejectRequested, _state: StudyState) -> str:
    return f"reject {event.experiment}{f': {event.reason}' if event.reason else ''}"


def _ended(run: str, outcome: TrialOutcome, state: StudyState) -> str:
    if outcome.ending is Ending.SCORED:
        return f"scored {run}: {state.metric} {number(outcome.value)}"
    return f"{outcome.ending} {run}: {outcome.reason}"


def _evidence(event: ev.ExperimentJudged | ev.ExperimentSuspected) -> str:
    return f"{signed(event.delta)} against {event.reference}"


def _attempt(attempt: int) -> str:
    return f", attempt {attempt}" if attempt > 1 else ""


def _list(experiments: tuple[ExperimentId, ...]) -> str:
    return ", ".join(experiments)
