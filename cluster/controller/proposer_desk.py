"""Asks proposers ahead of need, each in a thread of its own, so that no answer holds up the queue.

Knows which results each proposer has seen, and how long its answers take. Keeps no truth: it is
built anew from the state at each start, and what was asked then and never answered is simply asked
again.
"""

import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from queue import SimpleQueue

from cluster.policy.study_plan import Asked
from cluster.state import events as ev
from cluster.state.experiment import Experiment, Kind, Status
from cluster.state.state import StudyState
from eval.judge import Verdict
from proposer.proposal import (
    Context,
    Proposal,
    Proposer,
    ProposerDone,
    ProposerTroubled,
    Result,
    TaskGivenUp,
)
from proposer.purse import OverLimit
from trainer.trial import number_of


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """What a proposer came up with, or why it did not."""

    proposer: str
    context: Context
    proposals: Sequence[Proposal] = ()
    problem: str = ""
    """Why there are no proposals; empty if there are, or if there simply are none."""
    is_passing: bool = False
    """The problem may be gone later."""
    retry_after_s: float = 0.0
    """How long to leave it alone at least, then."""
    is_idle: bool = False
    """It has no ideas at present, and can do tasks all the same."""
    is_done: bool = False
    """It cannot answer any more, whatever it is asked."""
    is_over_limit: bool = False
    """A call was not made, as a limit did not allow it; that is recorded already."""
    seconds: float = 0.0


@dataclass(slots=True)
class _Seat:
    """One proposer and what stands between it and the controller."""

    proposer: Proposer
    questions: SimpleQueue[tuple[Context, int] | None] = field(default_factory=SimpleQueue)
    shown: int = 0
    """How many results it has seen."""
    asking: int = 0
    since: datetime | None = None
    latency_s: float = 0.0
    task: str = ""


class ProposerDesk:
    """The controller's side of all proposers. Not thread safe; call it from one thread."""

    def __init__(self, proposers: Sequence[Proposer], wake: Callable[[], None]) -> None:
        self._seats = {proposer.name: _Seat(proposer=proposer) for proposer in proposers}
        self._answers: SimpleQueue[Answer] = SimpleQueue()
        self._results: list[Result] = []
        self._wake = wake

    def start(self, state: StudyState) -> None:
        """Note all results so far, and begin to listen for questions."""
        ended = (e for e in state.experiments.values() if _is_result(e))
        for experiment in sorted(ended, key=lambda e: (e.story[-1][0], number_of(e.id))):
            self.note(experiment)
        for seat in self._seats.values():
            threading.Thread(target=self._serve, args=(seat,), daemon=True).start()

    def stop(self) -> None:
        """Ask nothing more; an answer on its way is dropped."""
        for seat in self._seats.values():
            seat.questions.put(None)

    @property
    def asked(self) -> tuple[Asked, ...]:
        """Return how things stand with each proposer."""
        return tuple(
            Asked(
                proposer=name,
                count=seat.asking,
                since=seat.since,
                latency_s=seat.latency_s,
                task=seat.task,
            )
            for name, seat in self._seats.items()
        )

    @property
    def advice(self) -> list[str]:
        """What proposers have to say to each other."""
        return [said for seat in self._seats.values() if (said := seat.proposer.advice)]

    def note(self, experiment: Experiment) -> None:
        """Note an experiment that came to an end; proposers see it with their next question."""
        if _is_result(experiment):
            self._results.append(_result(experiment))

    def ask(self, proposer: str, context: Context, count: int, *, now: datetime) -> None:
        """Ask a proposer that is free; one that is busy, or that nobody knows, is not asked."""
        seat = self._seats.get(proposer)
        if seat is None or seat.asking or not count:
            return
        unseen = tuple(self._results[seat.shown :])
        seat.shown = len(self._results)
        seat.asking = count
        seat.since = now
        seat.task = context.task.key if context.task else ""
        seat.questions.put((replace(context, results=unseen), count))

    def answers(self) -> list[Answer]:
        """Return what has come in since the last call."""
        found = []
        while not self._answers.empty():
            answer = self._answers.get()
            seat = self._seats[answer.proposer]
            seat.asking, seat.since, seat.task = 0, None, ""
            weight = 0.3 if seat.latency_s else 1.0
            seat.latency_s += weight * (answer.seconds - seat.latency_s)
            found.append(answer)
        return found

    def _serve(self, seat: _Seat) -> None:
        while (question := seat.questions.get()) is not None:
            context, count = question
            start = time.monotonic()
            answer = Answer(proposer=seat.proposer.name, context=context)
            try:
                answer = replace(answer, proposals=seat.proposer.propose(context, count))
            except ProposerTroubled as trouble:
                answer = replace(
                    answer,
                    problem=str(trouble),
                    is_passing=True,
                    retry_after_s=trouble.retry_after_s,
                    is_idle=trouble.is_idle,
                )
            except OverLimit as limit:
                answer = replace(answer, problem=str(limit), is_over_limit=True)
            except ProposerDone as done:
                answer = replace(answer, problem=str(done), is_done=True)
            except TaskGivenUp as given_up:
                answer = replace(answer, problem=str(given_up))
            except BaseException as error:  # noqa: BLE001 - whatever it is, the study goes on without
                # Panics of extensions and exits too: who waits for an answer would wait for ever.
                answer = replace(answer, problem=f"{type(error).__name__}: {error}")
            self._answers.put(replace(answer, seconds=time.monotonic() - start))
            self._wake()


_TOLD = (
    ev.ExperimentRejected,
    ev.ExperimentReturned,
    ev.TrialFinished,
    ev.RungJudged,
    ev.TrialLost,
    ev.ExperimentJudged,
    ev.ExperimentSuspected,
)
"""Events after which there may be something to tell the proposers."""
_WISHES = (ev.RejectRequested,)
"""The same, if they changed anything: they may be about what does not exist."""


def news(state: StudyState, recorded: ev.Recorded) -> Experiment | None:
    """Return the experiment whose end, verdict or suspicion an event is, for proposers to see.

    `state` is that after the event.
    """
    event = recorded.event
    if isinstance(event, _WISHES):
        wished = state.experiments.get(event.experiment)
        return wished if wished and wished.story[-1][0] == recorded.seq else None
    if not isinstance(event, _TOLD):
        return None
    experiment = state.experiments[event.experiment]
    is_judged = isinstance(event, ev.ExperimentJudged | ev.ExperimentSuspected)
    has_failed = experiment.status.is_failure or experiment.status is Status.PRUNED
    return experiment if is_judged or has_failed else None


_UNSCORED = frozenset({Status.SUSPECT, Status.PRUNED})
"""No failures, but without a score that a proposer may learn from."""


def _is_result(experiment: Experiment) -> bool:
    is_scored = experiment.verdict not in (None, Verdict.REPLICATE)
    return experiment.status.is_failure or experiment.status in _UNSCORED or is_scored


def _result(experiment: Experiment) -> Result:
    is_unknown = experiment.status.is_failure or experiment.status in _UNSCORED
    score = None if is_unknown else experiment.score
    return Result(
        experiment=experiment.id,
        parameters={} if experiment.is_returned else experiment.parameters,
        never_ran=experiment.never_ran,
        proposer="" if experiment.kind is Kind.BASELINE else experiment.proposer,
        hypothesis=experiment.hypothesis,
        status=experiment.status.value,
        value=score.mean if score else None,
        reason=experiment.reason if is_unknown and experiment.status is not Status.SUSPECT else "",
    )
