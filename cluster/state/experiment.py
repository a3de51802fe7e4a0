"""Records of experiments and their trials, and the states an experiment passes through.

Plain data. How the states follow one another is `cluster.state.transitions`; what to do about them
is `cluster.policy.decisions`.
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum

from cluster.state.slot_time import Purpose
from eval.beliefs import Belief
from eval.conditions import Mark
from eval.judge import Evidence, Verdict
from eval.score import Score
from eval.seeds import SeedHabit
from eval.suspicion import Run
from proposer.proposal import Scalar
from trainer.trial import CommitId, ExperimentId, Probe, SlotId, TrialId, TrialOutcome, trial_number

FROM_GIT = "from git"
"""Device class of scores that were read from git when a ledger was rebuilt: on what they were
measured nobody knows any more, so they are compared with nothing."""


class Kind(StrEnum):
    """Why an experiment exists."""

    BASELINE = "baseline"  # the unmodified base commit, e0
    PROPOSAL = "proposal"  # a proposer's or a user's candidate
    MERGE = "merge"  # a stale winner merged onto the incumbent, to be measured again


class Status(StrEnum):
    """Where an experiment stands."""

    HELD = "held"  # waits for somebody's approval
    PROPOSED = "proposed"  # a commit exists; no trial of it is queued
    QUEUED = "queued"  # a trial waits for a slot
    RUNNING = "running"  # a trial is on a slot
    MEASURED = "measured"  # its trial was scored; no verdict yet
    WINNER = "winner"  # judged better than its reference, not on the branch yet
    MERGING = "merging"  # a stale winner; the experiment that merges it is being measured
    KEPT = "kept"  # promoted: it was the incumbent, or still is
    DISCARDED = "discarded"  # judged not better
    SUSPECT = "suspect"  # better, but by plain signs not earned: waits for `accept` or `retry`
    REJECTED = "rejected"  # preflight: it could only have failed, so no trial of it was run
    CRASHED = "crashed"  # its trial crashed
    TIMED_OUT = "timed_out"  # its trial ran into timeout_s
    PRUNED = "pruned"  # hopeless by its curve, or stopped on a rung: so there is no score
    CANCELLED = "cancelled"  # somebody cancelled it, or it went stale before it began
    LOST = "lost"  # its workers went away too often
    CONFLICTED = "conflicted"  # a stale winner whose patch conflicts with the incumbent's
    MERGED = "merged"  # a stale winner whose patch is on the branch by way of a merge
    DROPPED = "dropped"  # a stale winner whose merge brought nothing

    @property
    def is_terminal(self) -> bool:
        """Say whether nothing more happens by itself."""
        return self not in _OPEN

    @property
    def words(self) -> str:
        """What people are told, as in "timed out"."""
        return self.value.replace("_", " ")

    @property
    def is_failure(self) -> bool:
        """Say whether its trial failed, or never began, so that there is no number."""
        return self in _FAILURES


_OPEN = frozenset(
    {
        Status.HELD,
        Status.PROPOSED,
        Status.QUEUED,
        Status.RUNNING,
        Status.MEASURED,
        Status.WINNER,
        Status.MERGING,
    }
)

_FAILURES = frozenset(
    {Status.REJECTED, Status.CRASHED, Status.TIMED_OUT, Status.CANCELLED, Status.LOST}
)


class TrialPhase(StrEnum):
    """Where a trial stands."""

    QUEUED = "queued"
    RUNNING = "running"
    FINISHED = "finished"  # `outcome` is set
    LOST = "lost"  # this attempt was lost or given back; another may follow
    WITHDRAWN = "withdrawn"  # taken out of the queue before it began: its tree is another now


@dataclass(frozen=True, slots=True, kw_only=True)
class Trial:
    """One attempt at one execution of a candidate."""

    id: TrialId
    attempt: int
    seed: int
    phase: TrialPhase
    queued_at: datetime
    slot: SlotId = SlotId("")
    node: str = ""
    started_at: datetime | None = None
    finished_at: datetime | None = None
    outcome: TrialOutcome | None = None
    marks: tuple[Mark, ...] = ()
    """What was odd about the conditions under which it ran."""
    rung_s: float | None = None
    """Budget of the rung that it is on; None for a run in full, which alone is a score."""
    is_set_aside: bool = False
    """Its value does not count: it was suspect and the experiment was run again, its slot had
    shifted, or it is a control that was not compared yet."""

    @property
    def seconds(self) -> float:
        """Wall-clock seconds on the slot; 0 while it has not ended, or if it ended before it began.

        That is where the clock was put back meanwhile.
        """
        if self.started_at is None or self.finished_at is None:
            return 0.0
        return max(0.0, (self.finished_at - self.started_at).total_seconds())


def _classes(trials: Iterable[Trial]) -> Iterator[str]:
    """Yield the device class of each trial that was scored and counts."""
    for trial in trials:
        outcome = trial.outcome
        if outcome is not None and outcome.value is not None and not trial.is_set_aside:
            yield outcome.device_class


@dataclass(frozen=True, slots=True, kw_only=True)
class Experiment:
    """One candidate and all that was learnt of it."""

    id: ExperimentId
    kind: Kind
    status: Status
    commit: CommitId
    tree: str
    base: ExperimentId
    """The incumbent whose tree the patch was made on; for the baseline its own id."""
    base_commit: CommitId
    lines: int
    """Lines of all editable files together."""
    proposer: str
    hypothesis: str
    proposed_at: datetime
    category: str = ""
    """Its proposer's word for the kind of change."""
    expected_effect: float | None = None
    """By how much its proposer expects the metric to improve; positive is better."""
    origin: str = ""
    """Which recorded answer it is of, e.g. "c12/0"; else empty."""
    task: str = ""
    """Which task it answers, e.g. "fix/e12"; else empty."""
    fixes: int = 0
    """How many experiments before it were fixed for it: 1 for the first fix of a crash."""
    priority: int = 0
    """Higher runs earlier among proposals."""
    parameters: Mapping[str, Scalar] = field(default_factory=dict)
    proposed_parameters: Mapping[str, Scalar] = field(default_factory=dict)
    """The same as they were proposed, where a rebase has changed them; else empty."""
    promotions_before: int = 0
    """How many promotions there had been when it was proposed."""
    rebased_from: tuple[ExperimentId, ...] = ()
    """The bases that it had before its present one, oldest first."""
    stays_beside: ExperimentId = ExperimentId("")
    """The incumbent that it could not be rebased onto, so that it runs on its own base."""
    merge_of: ExperimentId = ExperimentId("")
    """For a merge: the winner whose patch it carries."""
    merged_as: ExperimentId = ExperimentId("")
    """For a stale winner: the latest experiment that carries its patch."""
    generation: int = 0
    """How many merges lie between this experiment and the proposal it carries."""
    chain: ExperimentId = ExperimentId("")
    """For a link of a chain of merges: the chain's first. The first one's base is the incumbent of
    then, that of each other one the link before it."""
    reverts: ExperimentId = ExperimentId("")
    """For a revert: whose patch it takes out of the branch again."""
    merges: int = 0
    """How many measured merges it came back from, neither on the branch nor dropped."""
    seeds: SeedHabit | None = None
    """What its tree does about its seed, where its patch changes that; None where it does not."""
    trials: tuple[Trial, ...] = ()
    controls: tuple[Trial, ...] = ()
    """Its trials after it was promoted: they say what its tree scores, and change no status."""
    losses: int = 0
    """Attempts lost without the study's own wish."""
    is_cancelled: bool = False
    """Somebody asked to cancel it; its trial may still run."""
    given_up: str = ""
    """Why its running trial is hopeless; empty while it is not."""
    passed_s: float = 0.0
    """Budget of the highest rung from which it went on; 0 before it did from any."""
    skips_rungs: bool = False
    """Somebody had it run again, or handed it in as one to be run in full: it has no rungs."""
    is_accepted: bool = False
    """Somebody has looked at it: it is judged whatever its scores look like."""
    verdict: Verdict | None = None
    delta: float | None = None
    """Improvement over the reference that it was judged against; positive is better."""
    reason: str = ""
    """Why it ended as it did, in one line."""
    belief: Belief | None = None
    """What verdicts say of its tree's true score; None if they say nothing."""
    effect: Belief | None = None
    """Its patch's true improvement over its base, as it was judged; positive is better."""
    chance: float | None = None
    """Probability that it is better than its base, as it was judged."""
    level: float = 0.0
    """Probability of error that its test may use; 0 before one began."""
    judged_at: datetime | None = None
    promoted: CommitId = CommitId("")
    """The commit on the branch, once it was promoted."""
    story: tuple[tuple[int, str], ...] = ()
    """Sequence number and name of every event that concerned it."""

    @property
    def all_trials(self) -> tuple[Trial, ...]:
        """Its trials, and its controls after them."""
        return (*self.trials, *self.controls)

    def scored_on(self, device_class: str) -> tuple[tuple[Trial, TrialOutcome, float], ...]:
        """Return each trial that was scored on a class and counts: its outcome, and its metric.

        Of a candidate that changes the seed, the first run is on one that it chose: it counts while
        there is no other.
        """
        scored = tuple(
            (trial, found, found.value)
            for trial in self.all_trials
            if not trial.is_set_aside
            and (found := trial.outcome) is not None
            and found.value is not None
            and found.device_class == device_class
        )
        if self.seeds is None:
            return scored
        return tuple(run for run in scored if run[0].id != self.chosen_run) or scored

    @property
    def chosen_run(self) -> TrialId:
        """Its first scored trial, on the seed that its tree says; empty before there was one."""
        scored = (t for t in self.trials if t.outcome and t.outcome.value is not None)
        return next((trial.id for trial in scored if not trial.is_set_aside), TrialId(""))

    @property
    def is_on_other_seeds(self) -> bool:
        """Say whether its score rests on none that its tree chose."""
        return any(trial.id != self.chosen_run for trial, _, _ in self.scored)

    def values_on(self, device_class: str) -> tuple[float, ...]:
        """Return the metric of each trial that was scored on a class and counts."""
        return tuple(value for _, _, value in self.scored_on(device_class))

    def evidence_on(self, device_class: str) -> Evidence:
        """Return what a judge is shown of it on a class; raises ValueError if it has no score."""
        scored = self.scored_on(device_class)
        score = Score(
            values=tuple(value for _, _, value in scored),
            device_class=device_class,
            marks=tuple(trial.marks for trial, _, _ in scored),
            seeds=tuple(trial.seed for trial, _, _ in scored),
        )
        if device_class != self.device_class:
            return Evidence(score=score, lines=self.lines)
        return Evidence(score=score, lines=self.lines, belief=self.belief, level=self.level)

    @property
    def classes(self) -> tuple[str, ...]:
        """Device class of each trial that was scored and counts."""
        return tuple(_classes(self.all_trials))

    @property
    def device_class(self) -> str:
        """Class on which it was judged last, or is to be; empty before it was scored.

        Where that is only known from git, one on which it was measured since.
        """
        last = next(_classes(reversed(self.trials)), "")
        return next(_classes(reversed(self.controls)), last) if last == FROM_GIT else last

    @property
    def scored(self) -> tuple[tuple[Trial, TrialOutcome, float], ...]:
        """Each trial by which it is scored: those of the class that it was last judged on."""
        return self.scored_on(self.device_class)

    @property
    def values(self) -> tuple[float, ...]:
        """Metric of each of those."""
        return tuple(value for _, _, value in self.scored)

    @property
    def score(self) -> Score | None:
        """What they say; None before one was scored."""
        return self.evidence.score if self.device_class else None

    @property
    def evidence(self) -> Evidence:
        """What a judge is shown; raises ValueError without a scored trial."""
        if not self.device_class:
            raise ValueError(f"{self.id} has no score")
        return self.evidence_on(self.device_class)

    @property
    def worth(self) -> float:
        """What its tree is taken to score; raises ValueError without a scored trial."""
        return self.evidence.worth

    @property
    def last_outcome(self) -> TrialOutcome:
        """Outcome of the latest finished trial; raises ValueError if none has finished."""
        for trial in reversed(self.trials):
            if trial.outcome is not None:
                return trial.outcome
        raise ValueError(f"no trial of {self.id} has finished")

    @property
    def last_run(self) -> Run:
        """The latest trial that was scored and counts; raises ValueError if there is none."""
        if not self.scored:
            raise ValueError(f"no trial of {self.id} was scored")
        _, found, value = self.scored[-1]
        return Run(value=value, device_class=found.device_class, conduct=found.conduct)

    @property
    def finished(self) -> int:
        """How many of its trials have finished."""
        return sum(trial.outcome is not None for trial in self.trials)

    @property
    def has_ended_in_full(self) -> bool:
        """Say whether a trial of it has finished that was on no rung."""
        return any(t.outcome is not None and t.rung_s is None for t in self.trials)

    @property
    def probe(self) -> Probe | None:
        """What its trials told of the script, when one was last asked."""
        told = (trial.outcome.probe for trial in reversed(self.trials) if trial.outcome)
        return next(filter(None, told), None)

    @property
    def next_trial(self) -> int:
        """Number of the trial that would be the next one."""
        known = (trial_number(trial.id) for trial in self.all_trials)
        return 1 + max(known, default=0)

    @property
    def seconds(self) -> float:
        """Wall-clock seconds that its trials took on slots, lost attempts included."""
        return sum(trial.seconds for trial in self.trials)

    @property
    def is_returned(self) -> bool:
        """Say whether it went back to its proposer before it began: it had gone stale."""
        last = self.story[-1][1] if self.story else ""
        return self.status is Status.CANCELLED and last == "ExperimentReturned"

    @property
    def never_ran(self) -> Mapping[str, Scalar]:
        """Parameters that were proposed, where what ran had others, or it went back."""
        if self.is_returned:
            return self.proposed_parameters or self.parameters
        return self.proposed_parameters

    @property
    def is_replicated(self) -> bool:
        """Say whether a further trial would be for proof: one was scored, and it is a candidate."""
        return self.kind is not Kind.BASELINE and bool(self.values)

    def purpose(self, trial: Trial) -> Purpose:
        """Return what one of its trials is run for."""
        if trial in self.controls:
            return Purpose.CONTROLS
        earlier = self.trials[: self.trials.index(trial)]
        if self.kind is Kind.BASELINE:
            return Purpose.SEARCH
        if any(other.outcome is not None and other.rung_s is None for other in earlier):
            return Purpose.REPLICATES
        return Purpose.MERGES if self.kind is Kind.MERGE else Purpose.SEARCH

    def trial(self, trial: TrialId, attempt: int) -> Trial:
        """Return one attempt; raises KeyError if there was none."""
        for record in reversed((*self.controls, *self.trials)):
            if record.id == trial and record.attempt == attempt:
                return record
        raise KeyError(f"{trial} has no attempt {attempt}")
