"""How winners come onto the branch: merges and promotions, in git first and then in the ledger.

Each method may be run again after a crash at any point. Git moves the branch by compare-and-set;
what it did before the ledger heard of it is found again on the branch itself.
"""

import logging
from bisect import bisect_left
from collections.abc import Callable, Sequence

from cluster.controller.admission import Admission, Origin
from cluster.controller.merging import Merging
from cluster.git.code_outcomes import BranchMoved, Conflict, Promotion, Redundant
from cluster.git.study_repository import StudyRepository
from cluster.policy import commands as cmd
from cluster.state import events as ev
from cluster.state.experiment import Experiment, Kind, Status, Trial, TrialPhase
from cluster.state.state import StudyState
from cluster.state.winners import below, carrier, lacks, takes_out
from eval.metric import Metric
from trainer.trial import CommitId, Ending, ExperimentId

log = logging.getLogger("incumbent")


class Integration:
    """Merges and promotes. `record` appends events, each with its id, all or none."""

    def __init__(
        self,
        *,
        repository: StudyRepository,
        merging: Merging,
        admission: Admission,
        metric: Metric,
        record: Callable[[Sequence[tuple[str, ev.Event]]], None],
    ) -> None:
        self._repository = repository
        self._merging = merging
        self._admission = admission
        self._metric = metric
        self._record = record

    # --- promotions ------------------------------------------------------------------------------

    def promote(self, command: cmd.Promote, state: StudyState) -> None:
        """Put a winner's tree on the branch, above the links of its chain if it has some."""
        steps = (*command.below, command.winner)
        promotions = self._promotions(state, steps, command.replaces)
        try:
            commits = self._repository.promote(promotions, parent=state.incumbent_commit)
        except BranchMoved as moved:
            # Killed between git and the ledger, and another winner is the better one by now.
            landed, found = self._landed(state, moved)
            steps = landed or steps
            commits = found if landed else self._above(promotions, state, moved)
        winner = steps[-1]
        carried = zip(steps[:-1], commits[:-1], strict=True)
        event = ev.Promoted(
            experiment=winner.id,
            commit=commits[-1],
            replaces=command.replaces.id,
            lacks=lacks(state, winner),
            carried=tuple(ev.Carried(experiment=link.id, commit=at) for link, at in carried),
        )
        self._record([(f"{winner.id}/promoted", event)])

    def _landed(
        self, state: StudyState, moved: BranchMoved
    ) -> tuple[tuple[Experiment, ...], tuple[CommitId, ...]]:
        """Return the promotion that git knows and the ledger does not; empty if it is none."""
        found = self._repository.landed(moved.actual, parent=state.incumbent_commit)
        steps = tuple(
            experiment
            for commit in found
            if (experiment := state.experiments.get(commit.experiment)) is not None
            and experiment.tree == commit.tree
        )
        if not steps or len(steps) != len(found) or steps[-1].status is not Status.WINNER:
            return (), ()
        links = [link.id for link in below(state, steps[-1]) if not link.promoted]
        if [step.id for step in steps[:-1]] != links:
            return (), ()  # several that the ledger has lost
        return steps, tuple(commit.commit for commit in found)

    def _above(
        self, promotions: Sequence[Promotion], state: StudyState, moved: BranchMoved
    ) -> tuple[CommitId, ...]:
        """Promote above what the branch has and the ledger has lost; else raise `moved`.

        A power cut may cost the ledger its last second, and a server come back with an older copy.
        A commit of the branch is a whole tree: nothing of what is below comes into it.
        """
        head, known = moved.actual, state.incumbent_commit
        if head is None or not self._repository.is_ahead(head, known):
            raise moved
        self._record([])  # raises Fenced: it may be ours that lags, behind that of another
        log.warning(
            "the branch is at %s, of which the ledger knows nothing beyond %s, as after a power "
            "cut: what was promoted since stays below, and %s is measured and put above it",
            *(head[:10], known[:10], promotions[-1].experiment),
        )
        return self._repository.promote(promotions, parent=known, onto=head)

    def _promotions(
        self, state: StudyState, steps: Sequence[Experiment], replaced: Experiment
    ) -> list[Promotion]:
        before = (replaced, *steps)
        return [
            Promotion(
                experiment=step.id,
                tree=step.tree,
                subject=step.hypothesis,
                trailers=(
                    *self._trailers(step, old),
                    ("Reverts", takes_out(state, step)),
                    *_chain_trailer(place, steps),
                ),
            )
            for place, (old, step) in enumerate(zip(before, steps, strict=False), start=1)
        ]

    def _trailers(self, winner: Experiment, replaced: Experiment) -> list[tuple[str, str]]:
        new, old = _value(winner), _value(replaced)
        return [
            ("Metric", f"{self._metric.name} {new} (was {old})"),
            ("Trials", ", ".join(map(_trial_words, _begun(winner))) or "none"),
            ("Proposer", winner.proposer),
            ("Hypothesis", winner.hypothesis),
        ]

    # --- merges ----------------------------------------------------------------------------------

    def merge(self, command: cmd.Merge, state: StudyState) -> None:
        """Make an experiment of a winner's patch on the incumbent, or on the chain's last link."""
        winner, chain = command.winner, state.chain if command.in_chain else ()
        onto = state.experiments[chain[-1]] if chain else command.incumbent
        base_commit = onto.commit if chain else state.incumbent_commit
        merged = self._merging.merge(
            carrier(state, winner),
            onto=base_commit,
            message=f"Merge {winner.id} onto {onto.id}: {winner.hypothesis}",
        )
        if isinstance(merged, Conflict | Redundant):
            if not chain:
                self._record(
                    [(f"{winner.id}/merge/{onto.id}", self._outcome(state, winner, merged))]
                )
            # Else it waits: nobody knows yet whether what is in its way will be promoted.
            return
        first = chain[0] if chain else state.next_experiment
        origin = Origin(
            kind=Kind.MERGE,
            base=onto.id,
            base_commit=base_commit,
            proposer=winner.proposer,
            hypothesis=winner.hypothesis,
            merge_of=winner.id,
            chain=first if command.in_chain else ExperimentId(""),
        )
        self._admission.admit(state, merged, origin)

    def _outcome(
        self, state: StudyState, winner: Experiment, merged: Conflict | Redundant
    ) -> ev.Event:
        incumbent = state.lineage[-1]
        if isinstance(merged, Redundant):
            return ev.MergeRedundant(experiment=winner.id, against=incumbent)
        return ev.MergeConflicted(
            experiment=winner.id,
            against=self._in_the_way(state, winner),
            paths=merged.paths,
            onto=state.incumbent_commit,
        )

    def _in_the_way(self, state: StudyState, winner: Experiment) -> ExperimentId:
        """Return the promoted experiment since whose promotion a winner cannot be merged.

        What is in its way stays there, so a few of them are asked, however many there are.
        """
        patch = carrier(state, winner)

        def is_in_the_way(name: ExperimentId) -> bool:
            promoted = state.experiments[name].promoted
            return bool(promoted) and not self._merging.merges(patch, promoted)

        earlier = state.lineage[:-1]  # the last one is, or nobody would ask
        return state.lineage[bisect_left(earlier, True, key=is_in_the_way)]

    def settle(self, command: cmd.SettleChain, state: StudyState) -> None:
        """Record what came of a chain, all at once."""
        named: list[tuple[str, ev.Event]] = []
        for judgement in command.judgements:
            finished = state.experiments[judgement.experiment].finished
            named.append((f"{judgement.experiment}/judged/{finished}", judgement.event))
        chain = command.measured.chain
        named += [(f"{e.experiment}/requeued/{e.link}", e) for e in command.requeued]
        named += [(f"{e.experiment}/dropped/{chain}", e) for e in command.dropped]
        self._record([*named, (f"{chain}/chain", command.measured)])


def _value(experiment: Experiment) -> str:
    score = experiment.score
    return f"{score.mean:.6g}" if score else "unknown"


def _begun(experiment: Experiment) -> list[Trial]:
    """Return its trials but those that were to run what it was before a rebase."""
    return [trial for trial in experiment.trials if trial.phase is not TrialPhase.WITHDRAWN]


def _trial_words(trial: Trial) -> str:
    """Name a trial; with how it ended, if it did not end with a score."""
    if trial.outcome is None:
        return f"{trial.id} (not finished)"
    if trial.outcome.ending is Ending.SCORED:
        return trial.id
    return f"{trial.id} ({trial.outcome.ending.value.replace('_', ' ')})"


def _chain_trailer(place: int, steps: Sequence[Experiment]) -> list[tuple[str, str]]:
    if len(steps) == 1:
        return []
    return [("Chain", f"{place} of {len(steps)}, promoted as {steps[-1].id}")]
