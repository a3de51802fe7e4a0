"""How each experiment ended, in the order in which it was known. Pure.

`results.tsv`, the progress picture and the metrics are written event by event while a controller
runs, and as a whole when it starts again. Both ways read from here, so that they agree. An end
never changes; an experiment that is retried, accepted though suspect, or judged again as its slot
had shifted, that a node at fault has broken, that rises from the rung on which it was stopped, or
that is on the branch by a merge that was accepted after it was given up, comes to a further one.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum
from statistics import fmean

from cluster.state.events import Event, MergeRedundant, Promoted, Recorded
from cluster.state.experiment import Experiment, Status
from cluster.state.state import StudyState
from cluster.state.steps import STATUS_OF_ENDING
from trainer.trial import CommitId, Ending, ExperimentId, TrialOutcome, number_of


class Fate(StrEnum):
    """What became of a patch, in autoresearch's words and three more."""

    KEEP = "keep"  # on the branch, by itself; the baseline too
    DISCARD = "discard"  # not better, or it could not be merged
    CRASH = "crash"  # it ended without a number
    PRUNED = "pruned"  # stopped early as hopeless, so without a number too
    MERGED = "merged"  # on the branch by way of another experiment, which has its own fate
    UNKNOWN = "unknown"  # cancelled or lost, which says nothing of the patch


FATE_OF_STATUS = {
    Status.KEPT: Fate.KEEP,
    Status.DISCARDED: Fate.DISCARD,
    Status.CONFLICTED: Fate.DISCARD,
    Status.DROPPED: Fate.DISCARD,
    Status.SUSPECT: Fate.DISCARD,
    Status.REJECTED: Fate.CRASH,
    Status.CRASHED: Fate.CRASH,
    Status.TIMED_OUT: Fate.CRASH,
    Status.PRUNED: Fate.PRUNED,
    Status.MERGED: Fate.MERGED,
    Status.CANCELLED: Fate.UNKNOWN,
    Status.LOST: Fate.UNKNOWN,
}
_NONE = ExperimentId("")
_JUDGED = "ExperimentJudged"
_RUNG_JUDGED = "RungJudged"


@dataclass(frozen=True, slots=True, kw_only=True)
class End:
    """An experiment came to an end."""

    seq: int
    """The event that ended it."""
    experiment: Experiment
    status: Status
    """What it ended as; that of `experiment` is another if it went on since."""
    outcomes: tuple[TrialOutcome, ...]
    """Of its trials that had finished by then and counted."""

    @property
    def fate(self) -> Fate:
        """What became of the patch."""
        if self.status is Status.REJECTED and _is_turned_down(self.experiment):
            return Fate.UNKNOWN  # by somebody who did not want it run
        return FATE_OF_STATUS[self.status]

    @property
    def commit(self) -> CommitId:
        """What was promoted where it was, and the candidate otherwise."""
        promoted = self.experiment.promoted if self.fate is Fate.KEEP else ""
        return CommitId(promoted or self.experiment.commit)

    @property
    def value(self) -> float | None:
        """Score that it ended with, as Experiment.scored_on has it; None for a failure."""
        runs = [(o.device_class, o.value) for o in self.outcomes if o.value is not None]
        if not runs or self.status.is_failure:
            return None
        device_class, _ = runs[-1]
        # Of a candidate that changes the seed, the first run is on one that it chose.
        counted = runs[1:] if self.experiment.seeds is not None else runs
        alike = [value for kind, value in counted if kind == device_class]
        return fmean(alike) if alike else runs[-1][1]


def all_ends(state: StudyState) -> list[End]:
    """Return every end so far, in order."""
    found = (end for experiment in state.experiments.values() for end in ends(experiment))
    return sorted(found, key=_order)


def ends_by(recorded: Recorded, state: StudyState) -> list[End]:
    """Return the ends that one event made, in order; `state` is the one after it."""
    found = (end for experiment in _concerned(recorded.event, state) for end in ends(experiment))
    return sorted((end for end in found if end.seq == recorded.seq), key=_order)


def ends(experiment: Experiment) -> Iterator[End]:
    """Yield the ends of one experiment, oldest first: those after which it went on, the present."""
    outcomes = (trial.outcome for trial in experiment.trials if trial.outcome is not None)
    finished: tuple[TrialOutcome, ...] = ()
    begin = 0
    aside = {id(trial.outcome) for trial in experiment.trials if trial.is_set_aside}
    for index, (_, name) in enumerate(experiment.story):
        # A control's own experiment is not judged between its queueing and its verdict.
        before = experiment.story[index - 1][1]
        is_taken_back = name == "ControlJudged" and before == _JUDGED
        has_risen = name == before == _RUNG_JUDGED  # it had been stopped there
        is_back = before in _GIVEN_UP and experiment.status is Status.MERGED
        if name in _GOES_ON or is_taken_back or has_risen or is_back:
            part = experiment.story[begin:index]
            status = _status_after(part, finished)
            yield End(seq=part[-1][0], experiment=experiment, status=status, outcomes=finished)
            begin = index
            if status is Status.SUSPECT and name == "RetryRequested":
                finished = finished[:-1]  # set aside
            elif is_taken_back:
                finished = tuple(outcome for outcome in finished if id(outcome) not in aside)
        elif name == "TrialFinished":
            finished = (*finished, next(outcomes))
    if experiment.status.is_terminal:
        yield End(
            seq=end_seq(experiment),
            experiment=experiment,
            status=experiment.status,
            outcomes=finished,
        )


def end_seq(experiment: Experiment) -> int:
    """Return the event that ended an experiment; a promoted patch may be merged again later."""
    if experiment.status is not Status.KEPT:
        return experiment.story[-1][0]
    return max(seq for seq, name in experiment.story if name in {_JUDGED, "Promoted"})


_GOES_ON = frozenset({"RetryRequested", "AcceptRequested", "NodeQuarantined"})
"""Events after which an experiment that had ended goes on."""
_GIVEN_UP = frozenset({"WinnerDropped", "MergeConflicted"})
"""Ends of a winner that comes onto the branch all the same where a merge of it is accepted."""
_ENDS = {
    "ExperimentSuspected": Status.SUSPECT,
    _JUDGED: Status.DISCARDED,
    "ExperimentRejected": Status.REJECTED,
    "RejectRequested": Status.REJECTED,
    _RUNG_JUDGED: Status.PRUNED,
    "ExperimentReturned": Status.CANCELLED,
    "WinnerDropped": Status.DROPPED,
    "MergeConflicted": Status.CONFLICTED,
}
"""Events that tell by themselves what an experiment had ended as."""


def _status_after(story: tuple[tuple[int, str], ...], outcomes: tuple[TrialOutcome, ...]) -> Status:
    """Tell from the events up to a new start what the experiment had ended as."""
    last = story[-1][1]
    if last in _ENDS:
        return _ENDS[last]
    is_cancelled = any(name == "CancelRequested" for _, name in story)
    if last == "TrialFinished":
        ending = outcomes[-1].ending
        is_short = ending is Ending.SHORT  # and it did not go on
        return Status.CANCELLED if is_short and is_cancelled else STATUS_OF_ENDING[ending]
    return Status.CANCELLED if is_cancelled else Status.LOST


def _is_turned_down(experiment: Experiment) -> bool:
    return any(name == "RejectRequested" for _, name in experiment.story)


def _concerned(event: Event, state: StudyState) -> Iterator[Experiment]:
    names: list[ExperimentId] = [getattr(event, "experiment", _NONE)]
    if isinstance(event, Promoted):
        names += [link.experiment for link in event.carried]
    is_on_branch = isinstance(event, Promoted | MergeRedundant)
    for name in names:
        while (experiment := state.experiments.get(name)) is not None:
            yield experiment
            # What comes onto the branch ends the winners whose patches it carries as well.
            name = experiment.merge_of if is_on_branch else _NONE  # noqa: PLW2901


def _order(end: End) -> tuple[int, int]:
    return end.seq, number_of(end.experiment.id)
