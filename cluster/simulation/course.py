"""What came of one simulated study, reduced to what is compared. Pure."""

from collections.abc import Sequence
from dataclasses import dataclass

from cluster.experiment import Experiment, Kind, Status
from cluster.simulation.study import Setup, SimulatedStudy, Step
from cluster.simulation.terrain import Tree
from trainer.trial import ExperimentId

_PASSED_OVER = frozenset({Status.DISCARDED, Status.DROPPED, Status.CONFLICTED})


@dataclass(frozen=True, slots=True, kw_only=True)
class SlotTime:
    """Seconds that ended trials held slots, by what they were for."""

    search: float = 0.0
    """First runs of proposals, and runs of the baseline."""
    replicates: float = 0.0
    """Further runs of a proposal or a merge."""
    merges: float = 0.0
    """First runs of merges."""

    @property
    def total(self) -> float:
        """All of it."""
        return self.search + self.replicates + self.merges


@dataclass(frozen=True, slots=True, kw_only=True)
class Course:
    """One study, from its start to its end."""

    steps: tuple[Step, ...]
    """The baseline, every promotion, and the end."""
    experiments: int
    """Proposals that came to a verdict or a failure."""
    passed_over: int
    """Candidates that were not kept though they improved on their base by more than the noise."""
    improving: int
    """Candidates that did so and came to an end, kept or not."""
    time: SlotTime

    @property
    def true(self) -> float:
        """True improvement of the last incumbent over the baseline, in the metric's unit."""
        return self.steps[-1].true if self.steps else 0.0

    @property
    def claimed(self) -> float:
        """What the ledger takes that improvement for."""
        return self.steps[-1].claimed if self.steps else 0.0

    @property
    def promotions(self) -> int:
        """How often the branch moved."""
        return max(0, len(self.steps) - 2)

    @property
    def false_promotions(self) -> int:
        """How often to something that was truly no better."""
        return sum(step.is_false for step in self.steps)


def play(setup: Setup) -> Course:
    """Simulate a study."""
    study = SimulatedStudy(setup)
    state = study.run()
    # In order: a sum of fractions depends on it, and that of a map on the process.
    experiments = sorted(state.experiments.values(), key=lambda e: int(e.id[1:]))
    improving = [e for e in experiments if _improves(e, study)]
    return Course(
        steps=tuple(study.steps),
        experiments=state.judged,
        passed_over=sum(e.status in _PASSED_OVER for e in improving),
        improving=len(improving),
        time=_slot_time(experiments),
    )


def _improves(experiment: Experiment, study: SimulatedStudy) -> bool:
    """Say whether a proposal that has ended was truly better than its base, beyond the noise."""
    if experiment.kind is not Kind.PROPOSAL or not experiment.status.is_terminal:
        return False

    def improvement(tree: Tree) -> float:
        return study.terrain.improvement(tree)

    trees: dict[ExperimentId, Tree] = study.trees
    gained = improvement(trees[experiment.id]) - improvement(trees[experiment.base])
    return gained > study.setup.landscape.runs.noise and not experiment.status.is_failure


def _slot_time(experiments: Sequence[Experiment]) -> SlotTime:
    search = replicates = merges = 0.0
    for experiment in experiments:
        scored = 0
        for trial in experiment.trials:
            if scored and experiment.kind is not Kind.BASELINE:
                replicates += trial.seconds
            elif experiment.kind is Kind.MERGE:
                merges += trial.seconds
            else:
                search += trial.seconds
            scored += trial.outcome is not None
    return SlotTime(search=search, replicates=replicates, merges=merges)
