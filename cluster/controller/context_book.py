"""Builds what proposers are shown from the state of a study.

Knows which records say what, and which diffs and frozen files are worth reading. Does not know how
a proposer puts it into words (`proposer.prompt`), whom to ask, or when. It reads along with the
events, so that a question costs what has changed since the last one, and not what there is.
"""

import math
from bisect import bisect_left
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from datetime import datetime

from cluster.git.study_repository import StudyRepository
from cluster.policy.study_plan import StudyPlan
from cluster.state.events import (
    ChainMeasured,
    ControlJudged,
    MergeRedundant,
    NodeQuarantined,
    Promoted,
    Recorded,
)
from cluster.state.experiment import Experiment, Kind, Status
from cluster.state.state import StudyState
from eval.guard import Guard
from proposer.proposal import Context, Past, Pending, Remaining
from trainer.git_command import GitError
from trainer.log_capture import printable
from trainer.trial import CommitId, ExperimentId, number_of

MOST_REASON = 600
"""Characters of a reason, the end of the traceback included."""
LATEST_WITH_PATCH = 200
WINNERS_WITH_PATCH = 60
DIFFS_AT_ONCE = 16
"""Diffs read in one call: git takes a few milliseconds each, on the controller's thread."""
MOST_PATCH = 20_000
"""Characters of a diff; of a longer one the rest is left out."""
MOST_FROZEN_FILE, MOST_FROZEN = 32_000, 96_000
"""Bytes of one frozen file that is shown by default, and of all of them together."""
_ABOUT_SEVERAL = (Promoted, MergeRedundant, ChainMeasured, ControlJudged, NodeQuarantined)
"""Events that may change what is told of more experiments than the one they name."""
_WINNERS = frozenset({Status.KEPT, Status.MERGED, Status.WINNER, Status.MERGING})


class ContextBook:
    """What is known of one study, for proposers. Not thread safe: the controller's thread's.

    Implements cluster.controller.ports.ContextSource and, to be quick, Observer: a state whose last
    event it has not seen is read from the first.

    Frozen files that it shows are the Python files at the repository's top, the smallest first,
    within `MOST_FROZEN_FILE` and `MOST_FROZEN`. `scratchpad` returns the present text of the
    scratchpad.
    """

    def __init__(
        self,
        repository: StudyRepository,
        editable: Sequence[str],
        *,
        scratchpad: Callable[[], str] = str,
        instructions: str = "",
    ) -> None:
        self._repository = repository
        self._editable = frozenset(editable)
        self._scratchpad = scratchpad
        self._instructions = instructions
        self._history: list[Past] = []
        """By the number of the experiment."""
        self._changed: set[ExperimentId] = set()
        """Experiments that events may have changed since the last question."""
        self._read: dict[ExperimentId, Experiment] = {}
        """What they were then: a record that is the same one has not changed."""
        self._seen = 0
        """Sequence number of the last event that was seen."""
        self._patches: OrderedDict[tuple[CommitId, CommitId], str] = OrderedDict()
        self._frozen: Mapping[str, str] | None = None

    def context(
        self,
        state: StudyState,
        plan: StudyPlan,
        *,
        commit: CommitId,
        files: Mapping[str, str],
        now: datetime,
        with_patches: bool = True,
    ) -> Context:
        """See ContextSource."""
        incumbent = state.incumbent
        return Context(
            metric=plan.metric,
            incumbent=incumbent.id if incumbent else ExperimentId("e0"),
            incumbent_value=incumbent.worth if incumbent and incumbent.device_class else None,
            commit=commit,
            files=files,
            instructions=self._instructions,
            budget_s=plan.budget_s,
            frozen=self._frozen_files(state.base_commit),
            guards=tuple(filter(None, map(guard_in_words, plan.guards))),
            history=self._told(state, with_patches=with_patches),
            pending=_pending(state),
            scratchpad=self._scratchpad(),
            notes=state.notes,
            hints=state.hints,
            remaining=remaining(state, plan, now),
        )

    # --- what it is told of events ---------------------------------------------------------------

    def resume(self, state: StudyState) -> None:
        """See Observer."""
        self._read_all(state)

    def observe(self, recorded: Recorded, state: StudyState) -> None:
        """See Observer."""
        if recorded.seq != self._seen + 1:
            return  # the next question reads everything
        self._seen = recorded.seq
        if isinstance(recorded.event, _ABOUT_SEVERAL):
            self._changed.update(state.experiments)
        elif experiment := getattr(recorded.event, "experiment", ""):
            self._changed.add(ExperimentId(experiment))

    def close(self) -> None:
        """See Observer; there is nothing to write."""

    # --- history ---------------------------------------------------------------------------------

    def _told(self, state: StudyState, *, with_patches: bool) -> tuple[Past, ...]:
        if state.seq != self._seen:
            self._read_all(state)
        self._read_changed(state)
        if with_patches:
            self._read_patches(state)
        return tuple(self._history)

    def _read_all(self, state: StudyState) -> None:
        self._history, self._read = [], {}
        self._changed = set(state.experiments)
        self._seen = state.seq

    def _read_changed(self, state: StudyState) -> None:
        for name in self._changed:
            experiment = state.experiments.get(name)
            if experiment is None or experiment is self._read.get(name):
                continue  # nobody knows it, or it is as it was
            self._read[name] = experiment
            self._note(experiment)
        self._changed.clear()

    def _note(self, experiment: Experiment) -> None:
        """Let the history say of it what is true now: nothing, unless it has ended."""
        at = bisect_left(self._history, number_of(experiment.id), key=_number)
        told = self._history[at : at + 1]
        until = at + 1 if told and told[0].experiment == experiment.id else at
        has_ended = experiment.status.is_terminal
        self._history[at:until] = [self._past_of(experiment)] if has_ended else []

    def _past_of(self, experiment: Experiment) -> Past:
        patch = self._patches.get((experiment.base_commit, experiment.commit), "")
        return past_of(experiment, patch)

    def _read_patches(self, state: StudyState) -> None:
        """Read diffs that are not at hand, the latest first, and forget those not wanted."""
        ended = [state.experiments[past.experiment] for past in self._history]
        winners = [each for each in ended if each.status in _WINNERS][-WINNERS_WITH_PATCH:]
        wanted = [*winners, *ended[-LATEST_WITH_PATCH:]]
        left = DIFFS_AT_ONCE
        for experiment in sorted(wanted, key=lambda e: number_of(e.id), reverse=True):
            key = (experiment.base_commit, experiment.commit)
            if key[0] == key[1] or key in self._patches:
                continue
            if not left:
                break
            left -= 1
            self._patches[key] = self._diff(*key)
            self._note(experiment)
        if len(self._patches) > 2 * (LATEST_WITH_PATCH + WINNERS_WITH_PATCH):
            self._forget_patches(wanted)

    def _forget_patches(self, wanted: Sequence[Experiment]) -> None:
        known = {(each.base_commit, each.commit) for each in wanted}
        names = {each.id for each in wanted}
        for key in [key for key in self._patches if key not in known]:
            del self._patches[key]
        self._history = [
            replace(past, patch="") if past.patch and past.experiment not in names else past
            for past in self._history
        ]

    def _diff(self, base: CommitId, commit: CommitId) -> str:
        try:
            return self._repository.diff(base, commit)[:MOST_PATCH]
        except GitError:  # an object is missing: the history is worth telling without it
            return ""

    def _frozen_files(self, base: CommitId) -> Mapping[str, str]:
        if self._frozen is None:
            found = {}
            for name in self._worth_reading(base):
                with suppress(KeyError, ValueError):  # it is no text, or its name is none
                    found.update(self._repository.read_files(base, (name,)))
            self._frozen = found
        return self._frozen

    def _worth_reading(self, base: CommitId) -> list[str]:
        listing = self._repository.git.run("ls-tree", "-l", "-z", base).stdout
        sizes = []
        for line in listing.split(b"\0")[:-1]:
            about, _, name = line.partition(b"\t")
            mode, _, _, size = about.split()
            path = name.decode("utf-8", "replace")
            is_python = path.endswith(".py") and mode in {b"100644", b"100755"}
            if is_python and path not in self._editable and int(size) <= MOST_FROZEN_FILE:
                sizes.append((int(size), path))
        chosen, total = [], 0
        for length, path in sorted(sizes):
            total += length
            if total > MOST_FROZEN:
                break
            chosen.append(path)
        return sorted(chosen)


def _number(past: Past) -> int:
    return number_of(past.experiment)


def past_of(experiment: Experiment, patch: str = "") -> Past:
    """Return what a reader of the history is told of an experiment that has ended."""
    effect = experiment.effect
    is_fix = experiment.task.startswith("fix/")
    return Past(
        experiment=experiment.id,
        base=experiment.base,
        proposer=experiment.proposer,
        hypothesis=experiment.hypothesis,
        category=experiment.category,
        status=experiment.status.value,
        value=None
        if experiment.status.is_failure or not experiment.score
        else experiment.score.mean,
        effect=None
        if experiment.kind is Kind.BASELINE
        else effect.mean
        if effect
        else experiment.delta,
        effect_sd=math.sqrt(effect.variance) if effect else None,
        reason=_reason(experiment),
        patch=patch,
        parameters=experiment.parameters,
        fixes=ExperimentId(experiment.task.partition("/")[2] if is_fix else ""),
    )


def _reason(experiment: Experiment) -> str:
    """Return why it ended so, and of a failure the last lines that it printed."""
    reason = printable(experiment.reason)[:MOST_REASON]
    room = MOST_REASON - len(reason) - 1
    if not experiment.status.is_failure or not experiment.finished or room < 1:
        return reason
    lines: list[str] = []
    for line in reversed(experiment.last_outcome.tail.splitlines()):
        told = printable(line).rstrip()
        room -= len(told) + 1
        if room < 0:
            break
        lines.append(told)
    return "\n".join(filter(None, [reason, *reversed(lines)]))


def guard_in_words(guard: Guard) -> str:
    """Return a guard as people would say it; empty if it bounds nothing."""
    ends = [f"at least {guard.low:.6g}" if guard.low is not None else ""]
    ends.append(f"at most {guard.high:.6g}" if guard.high is not None else "")
    bounds = " and ".join(filter(None, ends))
    return f"{guard.name} {bounds}" if bounds else ""


def remaining(state: StudyState, plan: StudyPlan, now: datetime) -> Remaining:
    """Return what is left of each limit that is set; never below 0."""
    hours, slot_hours = state.running_s(now) / 3600, state.slot_seconds / 3600
    most = plan.most_experiments
    return Remaining(
        experiments=max(0, most - state.judged) if most else None,
        hours=max(0.0, plan.most_hours - hours) if plan.most_hours else None,
        gpu_hours=max(0.0, plan.most_slot_hours - slot_hours) if plan.most_slot_hours else None,
        usd=max(0.0, plan.most_usd - state.usd) if plan.most_usd else None,
        tokens=max(0, plan.most_tokens - state.tokens) if plan.most_tokens else None,
    )


def _pending(state: StudyState) -> tuple[Pending, ...]:
    waiting = (state.experiments[name] for name in sorted(state.open, key=number_of))
    return tuple(
        Pending(
            experiment=each.id,
            proposer=each.proposer,
            hypothesis=each.hypothesis,
            status=each.status.value,
        )
        for each in waiting
    )
