"""How a commit becomes an experiment, or why not: the same for proposals, submissions and merges.

Repeated trees and what preflight finds hopeless are refused here, before they cost anything.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property

from cluster.git.code_outcomes import Candidate, Rejected
from cluster.git.study_repository import StudyRepository
from cluster.policy.reverts import reverted_by
from cluster.state import events as ev
from cluster.state.experiment import Kind
from cluster.state.state import StudyState
from proposer.proposal import Scalar
from proposer.syntax import digest
from trainer.preflight import Preflight
from trainer.reseed import SeedReader
from trainer.trial import CommitId, ExperimentId


@dataclass(frozen=True, slots=True, kw_only=True)
class Origin:
    """Where a candidate comes from: what its event says beside what git says."""

    kind: Kind
    base: ExperimentId
    base_commit: CommitId
    proposer: str
    hypothesis: str
    priority: int = 0
    parameters: Mapping[str, Scalar] = field(default_factory=dict)
    submission: str = ""
    merge_of: ExperimentId = ExperimentId("")
    chain: ExperimentId = ExperimentId("")
    reverts: ExperimentId = ExperimentId("")
    category: str = ""
    expected_effect: float | None = None
    part: str = ""
    """Which part of which recorded answer it is: see ExperimentProposed.origin."""
    task: str = ""
    hints: tuple[str, ...] = ()
    is_held: bool = False


@dataclass(frozen=True, kw_only=True)
class _Texts:
    """The editable files of a candidate and of its base; none where they are no text."""

    before: Mapping[str, str] = field(default_factory=dict)
    after: Mapping[str, str] = field(default_factory=dict)

    @cached_property
    def syntax(self) -> str:
        """Digest of the candidate's, which takes a parser; empty where there are none."""
        return digest(self.after) if self.after else ""


class Admission:
    """Gives candidates their refs and numbers.

    `record` appends events, each with its id, all or none.
    """

    def __init__(
        self,
        *,
        repository: StudyRepository,
        editable: Sequence[str],
        preflight: Preflight | None,
        seeds: SeedReader,
        record: Callable[[Sequence[tuple[str, ev.Event]]], None],
    ) -> None:
        self._repository = repository
        self._editable = tuple(editable)
        self._preflight = preflight
        self._seeds = seeds
        self._record = record

    def enter(
        self,
        state: StudyState,
        made: Candidate | Rejected,
        origin: Origin,
        files: Mapping[str, str] | None = None,
    ) -> None:
        """Record a proposal or a submission that git has made a candidate of, or refused.

        `files` spares reading the candidate's editable files back from git.
        """
        if isinstance(made, Rejected):
            self._reject(state, origin, made.reason)
            return
        if twin := twin_of(state, made.tree, origin.reverts):
            self._reject(state, origin, f"the same tree as {twin}", twin)
            return
        texts = self._texts(origin.base_commit, made.commit, files)
        twin = state.syntaxes.get(texts.syntax, ExperimentId(""))
        if twin and not origin.reverts:
            reason = f"the same code as {twin} but for comments or formatting"
            self._reject(state, origin, reason, twin)
            return
        self._admit(state, made, origin, texts)

    def admit(self, state: StudyState, made: Candidate, origin: Origin) -> None:
        """Give a candidate its ref and its number; what is hopeless about it is also its end."""
        self._admit(state, made, origin, self._texts(origin.base_commit, made.commit))

    def problem(self, base: CommitId, commit: CommitId) -> str:
        """Return why a candidate can only fail; empty if nothing says so, or nothing is asked."""
        return self._problem(base, self._texts(base, commit))

    def _problem(self, base: CommitId, texts: _Texts) -> str:
        if self._preflight is None:
            return ""
        return self._preflight.problem(base=base, before=texts.before, after=texts.after)

    def _texts(
        self, base: CommitId, commit: CommitId, files: Mapping[str, str] | None = None
    ) -> _Texts:
        read = self._repository.read_files
        try:
            after = files or read(commit, self._editable)
            return _Texts(before=read(base, self._editable), after=after)
        except (KeyError, ValueError):
            return _Texts()

    def _reject(
        self,
        state: StudyState,
        origin: Origin,
        reason: str,
        duplicate_of: ExperimentId = ExperimentId(""),
    ) -> None:
        # A submission is refused once, and so is what is of a recorded answer, which is looked at
        # again after a crash; else a proposer may come with the same idea again and again.
        name = origin.submission or origin.part or f"after/{state.seq}"
        event = ev.ProposalRejected(
            proposer=origin.proposer,
            hypothesis=origin.hypothesis,
            reason=reason,
            duplicate_of=duplicate_of,
            submission=origin.submission,
            origin=origin.part,
            task=origin.task,
        )
        self._record([(f"{name}/rejected", event)])

    def _admit(self, state: StudyState, made: Candidate, origin: Origin, texts: _Texts) -> None:
        problem = self._problem(origin.base_commit, texts)
        experiment = state.next_experiment
        self._repository.keep_ref(experiment, made.commit)
        proposed = ev.ExperimentProposed(
            experiment=experiment,
            kind=origin.kind,
            commit=made.commit,
            tree=made.tree,
            base=origin.base,
            base_commit=origin.base_commit,
            lines=made.lines,
            proposer=origin.proposer,
            hypothesis=origin.hypothesis,
            priority=origin.priority,
            parameters=origin.parameters,
            submission=origin.submission,
            merge_of=origin.merge_of,
            chain=origin.chain,
            reverts=origin.reverts,
            seeds=self._seeds.change(texts.before, texts.after),
            category=origin.category,
            expected_effect=origin.expected_effect,
            origin=origin.part,
            task=origin.task,
            syntax=texts.syntax,
            hints=origin.hints,
            is_held=origin.is_held,
        )
        events: list[tuple[str, ev.Event]] = [(f"{experiment}/proposed", proposed)]
        if problem:
            # Together with the first, so that no trial of it can be queued in between.
            rejected = ev.ExperimentRejected(experiment=experiment, reason=problem)
            events.append((f"{experiment}/rejected", rejected))
        self._record(events)


def twin_of(state: StudyState, tree: str, reverts: ExperimentId) -> ExperimentId:
    """Return the experiment of which a candidate with this tree would be a repetition; "" if none.

    What is left without a patch was mostly measured before the patch was: a revert asks for that
    again, beside what is the best by now, and repeats nothing but a revert of the same patch.
    """
    if not reverts:
        return state.trees.get(tree, ExperimentId(""))
    others = reverted_by(state, state.experiments[reverts])
    return next((other.id for other in others if other.tree == tree), ExperimentId(""))
