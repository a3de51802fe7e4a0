"""What came of one simulated study, reduced to what is compared. Pure."""

from dataclasses import dataclass

from cluster.simulation.setup import Setup, Step
from cluster.simulation.study import SimulatedStudy
from cluster.simulation.terrain import Tree
from cluster.state.experiment import Experiment, Kind, Status
from cluster.state.slot_time import SlotTime
from trainer.trial import ExperimentId

_PASSED_OVER = frozenset({Status.DISCARDED, Status.DROPPED, Status.CONFLICTED, Status.PRUNED})


@dataclass(frozen=True, slots=True, kw_only=True)
class Course:
    """One study, from its start to its end."""

    steps: tuple[Step, ...]
    """The baseline, every promotion, and the end."""
    experiments: int
    """Proposals that came to a verdict or a failure."""
    passed_over: int
    """Candidates that were not kept though they improved on their base by more than the noise."""
    stopped: int
    """Of these, those that were stopped on a rung."""
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
    improving = [e for e in state.experiments.values() if _improves(e, study)]
    return Course(
        steps=tuple(study.steps),
        experiments=state.judged,
        passed_over=sum(e.status in _PASSED_OVER for e in improving),
        stopped=sum(e.status is Status.PRUNED for e in improving),
        improving=len(improving),
        time=state.spent,
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
