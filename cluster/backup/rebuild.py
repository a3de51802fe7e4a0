"""A ledger of what git knows: for a study whose Redis is lost. Pure.

Git knows every candidate, with its base, author and hypothesis, and of what was promoted the order
and the metric, by trailers. A table of results may tell more. On what a score was measured neither
says: it has a device class of its own, FROM_GIT, and the incumbent is measured again before
anything is compared with it. What nobody knows is not made up: such an experiment is lost, and may
be retried.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime

from cluster.git.code_outcomes import OnBranch
from cluster.state import events as ev
from cluster.state import hidden_label_events as hidden
from cluster.state.experiment import FROM_GIT, Kind
from cluster.state.state import StudyState
from cluster.state.transitions import apply
from cluster.state.winners import lacks
from eval.judge import Verdict
from eval.metric import Metric
from trainer.trial import (
    CommitId,
    CrashKind,
    Ending,
    ExperimentId,
    SlotId,
    TrialId,
    TrialOutcome,
)

UNKNOWN = "how it ended is not known: the ledger was lost, and rebuilt from git"
TOLD = "as results.tsv has it; the ledger was rebuilt from git"
IN_THE_TAG = "what it scored is in its tag, final-{}: the ledger was lost, and rebuilt from git"
_METRIC = re.compile(r"(?P<name>.+) (?P<new>\S+) \(was (?P<old>\S+)\)")
_BASELINE = ExperimentId("e0")
_NOWHERE = SlotId("unknown")


class CannotRebuild(RuntimeError):
    """Git does not hold what a ledger needs; the message says what is missing."""


class OtherConfiguration(CannotRebuild):
    """The study in git is not of this configuration; the message says what to set."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Kept:
    """A candidate under its ref."""

    experiment: ExperimentId
    commit: CommitId
    tree: str
    parents: tuple[CommitId, ...]
    author: str
    subject: str
    at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class Tagged:
    """A final run that was reported."""

    number: int
    experiment: ExperimentId
    commit: CommitId
    at: datetime
    has_looked: bool
    """Its report has a test score."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Source:
    """What there is to rebuild from."""

    study: str
    metric: Metric
    metric_source: str
    base: CommitId
    kept: Sequence[Kept]
    branch: Sequence[OnBranch]
    lines: Mapping[ExperimentId, int]
    """Lines of the editable files of each candidate."""
    syntaxes: Mapping[ExperimentId, str]
    """Digests of their syntax trees."""
    results: Mapping[ExperimentId, float | None]
    """Of experiments that were not promoted: their score, or None for a crash."""
    finals: Sequence[Tagged] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Rebuilt:
    """The events of a study, and how much of it they tell."""

    drafts: Sequence[ev.Draft]
    state: StudyState
    promotions: int
    told: int
    """Experiments whose end a table of results told."""
    unknown: int
    """Experiments of which nobody knows how they ended."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Promotion:
    """A commit of the branch, understood."""

    experiment: ExperimentId
    on: OnBranch
    value: float | None
    was: float | None


def rebuild(source: Source) -> Rebuilt:
    """Return the events that tell what git knows; raises CannotRebuild."""
    promotions = _understood(source)
    _check_numbers(source, promotions)
    story = _Story(source, promotions)
    story.begin()
    for kept in source.kept:
        story.promote_until(kept.at)
        story.propose(kept)
    story.promote_until(None)
    for tagged in source.finals:
        story.recall(tagged)
    promoted = {one.experiment for one in promotions if one.value is not None}
    open_ones = [k for k in source.kept if k.experiment not in {_BASELINE, *promoted}]
    told = sum(kept.experiment in source.results for kept in open_ones)
    return Rebuilt(
        drafts=story.drafts,
        state=story.state,
        promotions=len(promotions),
        told=told,
        unknown=len(open_ones) - told,
    )


def _understood(source: Source) -> list[_Promotion]:
    found = []
    for on in source.branch:
        line = _METRIC.fullmatch(on.trailers.get("Metric", ""))
        if not on.experiment or line is None:
            raise CannotRebuild(
                f"commit {on.commit[:10]} of the branch has no trailers Experiment and Metric: "
                "somebody else has put it there"
            )
        if line["name"] != source.metric.name:
            raise OtherConfiguration(
                f"the branch was measured by {line['name']}, and incumbent.toml says "
                f"{source.metric.name}: name the metric that it was"
            )
        new, old = _number(line["new"]), _number(line["old"])
        found.append(_Promotion(experiment=on.experiment, on=on, value=new, was=old))
    if found and found[-1].value is None:
        raise CannotRebuild(f"commit {found[-1].on.commit[:10]}, the branch's head, has no score")
    return found


def _number(text: str) -> float | None:
    try:
        return float(text)
    except ValueError:
        return None  # "unknown", of a link of a chain that did not end with a score


def _check_numbers(source: Source, promotions: Sequence[_Promotion]) -> None:
    for number, kept in enumerate(source.kept):
        if kept.experiment != f"e{number}":
            raise CannotRebuild(
                f"the ref of e{number} is missing, though {kept.experiment} is there"
            )
    trees = {kept.experiment: kept.tree for kept in source.kept}
    for one in promotions:
        if trees.get(one.experiment) != one.on.tree:
            raise CannotRebuild(
                f"commit {one.on.commit[:10]} of the branch is said to be {one.experiment}, whose "
                "ref is missing or holds another tree"
            )
    if promotions and promotions[0].was is None and _BASELINE not in source.results:
        raise CannotRebuild(f"nothing tells the baseline's {source.metric.name}")


@dataclass
class _Story:
    """Tells what happened, event by event."""

    source: Source
    promotions: Sequence[_Promotion]
    drafts: list[ev.Draft] = field(default_factory=list)
    state: StudyState = field(default_factory=StudyState)

    def __post_init__(self) -> None:
        self._waiting = list(self.promotions)
        self._carried: list[ev.Carried] = []
        self._kept = {kept.experiment: kept for kept in self.source.kept}
        self._on = {one.experiment: one.on for one in self.promotions}
        self._values = {one.experiment: one.value for one in self.promotions}
        self._owners = {kept.commit: kept.experiment for kept in self.source.kept}
        self._owners |= {one.on.commit: one.experiment for one in self.promotions}
        self._owners[self.source.base] = _BASELINE
        self._best: float | None = None

    def tell(self, name: str, at: datetime, event: ev.Event) -> None:
        draft = ev.Draft(id=name, at=at, event=event)
        self.drafts.append(draft)
        recorded = ev.Recorded(seq=len(self.drafts), id=name, at=at, event=event)
        self.state = apply(self.state, recorded)

    def begin(self) -> None:
        source = self.source
        started = ev.StudyStarted(
            study=source.study,
            base_commit=source.base,
            metric=source.metric.name,
            goal=source.metric.goal.value,
            source=source.metric_source,
        )
        self.tell("study", source.kept[0].at, started)

    # --- candidates ------------------------------------------------------------------------------

    def propose(self, kept: Kept) -> None:
        """Tell of a candidate, and how it ended if that was no promotion."""
        name, on = kept.experiment, self._on.get(kept.experiment)
        trailers = on.trailers if on else {}
        is_baseline = name == _BASELINE
        event = ev.ExperimentProposed(
            experiment=name,
            kind=Kind.BASELINE if is_baseline else Kind.PROPOSAL,
            commit=kept.commit,
            tree=kept.tree,
            base=self._owners.get(kept.parents[0], _BASELINE) if kept.parents else _BASELINE,
            base_commit=kept.parents[0] if kept.parents and not is_baseline else self.source.base,
            lines=self.source.lines[name],
            proposer="baseline" if is_baseline else trailers.get("Proposer", kept.author),
            hypothesis="baseline" if is_baseline else trailers.get("Hypothesis", kept.subject),
            reverts=ExperimentId(trailers.get("Reverts", "")),
            syntax=self.source.syntaxes[name],
        )
        self.tell(f"{name}/proposed", kept.at, event)
        if is_baseline:
            self._baseline(kept)
        elif self._values.get(name) is None:
            self._end(kept)

    def _baseline(self, kept: Kept) -> None:
        """Tell what the baseline scored; if nobody knows, it is to be measured as any is."""
        value = self.promotions[0].was if self.promotions else None
        value = self.source.results.get(_BASELINE) if value is None else value
        if value is None or not self.promotions:
            self._best = value
            return
        self._run(kept, _scored(value), kept.at)
        self._judge(kept, Verdict.KEEP, value, "the baseline, by the branch's trailers", kept.at)

    def _end(self, kept: Kept) -> None:
        name = kept.experiment
        value = self.source.results.get(name)
        if name not in self.source.results:
            self._run(kept, TrialOutcome(ending=Ending.LOST, reason=UNKNOWN), kept.at)
        elif value is None:
            crash = TrialOutcome(ending=Ending.CRASHED, crash=CrashKind.EXCEPTION, reason=TOLD)
            self._run(kept, crash, kept.at)
            # Nobody knows what went wrong: there is nothing to mend it by.
            closed = ev.TaskClosed(task=f"fix/{name}", proposer=kept.author, reason=TOLD)
            self.tell(f"fix/{name}/closed/{self.state.seq}", kept.at, closed)
        else:
            self._run(kept, _scored(value), kept.at)
            self._judge(kept, Verdict.DISCARD, value, TOLD, kept.at)

    def _run(self, kept: Kept, outcome: TrialOutcome, at: datetime) -> None:
        name = kept.experiment
        trial = TrialId(f"{name}.1")
        about = {"trial": trial, "experiment": name, "attempt": 1}
        events = (
            ("queued", ev.TrialQueued(**about, seed=1)),  # type: ignore[arg-type]
            ("started", ev.TrialStarted(**about, slot=_NOWHERE, node="")),  # type: ignore[arg-type]
            ("ended", ev.TrialFinished(**about, outcome=outcome)),  # type: ignore[arg-type]
        )
        for word, event in events:
            self.tell(f"{trial}/1/{word}", at, event)

    def _judge(self, kept: Kept, verdict: Verdict, value: float, reason: str, at: datetime) -> None:
        delta = 0.0 if self._best is None else self.source.metric.improvement(value, self._best)
        is_baseline = kept.experiment == _BASELINE
        if verdict is Verdict.KEEP:
            self._best = value
        event = ev.ExperimentJudged(
            experiment=kept.experiment,
            verdict=verdict,
            delta=delta,
            reason=reason,
            reference=self.state.lineage[-1] if self.state.lineage else _BASELINE,
            device_class=FROM_GIT,
            reference_class=FROM_GIT if is_baseline else "",
        )
        self.tell(f"{kept.experiment}/judged/1", at, event)

    # --- promotions ------------------------------------------------------------------------------

    def promote_until(self, at: datetime | None) -> None:
        """Tell of the promotions of before a moment, as far as their candidates are known."""
        for one in list(self._due(at)):
            self._waiting.remove(one)
            if one.value is None:
                self._carried.append(ev.Carried(experiment=one.experiment, commit=one.on.commit))
            else:
                self._promote(one, one.value)

    def _due(self, at: datetime | None) -> Iterator[_Promotion]:
        for one in self._waiting:
            if one.experiment not in self.state.experiments or (at and one.on.at >= at):
                return
            yield one

    def _promote(self, one: _Promotion, value: float) -> None:
        name, at = one.experiment, one.on.at
        kept = self._kept[name]
        self._run(kept, _scored(value), at)
        self._judge(kept, Verdict.KEEP, value, "promoted, by the branch's trailers", at)
        left = lacks(self.state, self.state.experiments[name])
        event = ev.Promoted(
            experiment=name,
            commit=one.on.commit,
            replaces=self.state.lineage[-1],
            lacks=tuple(e for e in left if e != _BASELINE),
            carried=tuple(self._carried),
        )
        self._carried.clear()
        self.tell(f"{name}/promoted", at, event)
        for behind in self.state.rejoining:
            reason = "left behind; whether it was merged again is not known"
            dropped = ev.WinnerDropped(experiment=behind, reason=reason)
            self.tell(f"{behind}/dropped/{self.state.promotions}", at, dropped)

    # --- final runs ------------------------------------------------------------------------------

    def recall(self, tagged: Tagged) -> None:
        """Tell that a final run was reported, and whether the test labels were looked at for it."""
        number = tagged.number
        begun = hidden.FinalBegun(
            final=number,
            experiment=tagged.experiment,
            commit=tagged.commit,
            seeds=(),
            settings="",
        )
        report = hidden.FinalReported(
            final=number, looks=int(tagged.has_looked), problem=IN_THE_TAG.format(number)
        )
        self.tell(f"final/{number}/begun", tagged.at, begun)
        self.tell(f"final/{number}/reported", tagged.at, report)


def _scored(value: float) -> TrialOutcome:
    return TrialOutcome(ending=Ending.SCORED, value=value, device_class=FROM_GIT)
