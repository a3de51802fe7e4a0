"""A study over real git whose every step a test takes by hand."""

from dataclasses import replace

from cluster.state import events as ev
from cluster.state.experiment import Experiment, Status
from tests.cluster.controller.test_reducer_machine import ReducerMachine
from tests.cluster.world import scored
from trainer.trial import ExperimentId


class ByHand:
    """A study on whose lines somebody works, one after the other."""

    def __init__(self, machine: ReducerMachine) -> None:
        self.machine = machine
        # What waits stays what it is, so that a test can let it go stale.
        machine.plan = replace(machine.plan, max_staleness=0)
        machine.measure_the_baseline(values=(1.0, 1.01, 0.99))

    def __getitem__(self, name: str) -> Experiment:
        return self.machine.state.experiments[ExperimentId(name)]

    @property
    def lineage(self) -> tuple[str, ...]:
        return self.machine.state.lineage

    def propose(self, place: int, *, ago: int = 0) -> ExperimentId:
        """Change one line, on the incumbent or an earlier one."""
        name = self.machine.state.next_experiment
        self.machine.propose([place], ago=ago)
        return name

    def score(self, name: str, value: float) -> Status:
        """End the trial of an experiment, and all that follows from it."""
        self.machine.end_trial(ExperimentId(name), scored(value))
        self.machine.the_state_is_sound()
        return self[name].status

    def keep(self, place: int, value: float, *, ago: int = 0) -> ExperimentId:
        """Change one line for the better."""
        name = self.propose(place, ago=ago)
        assert self.score(name, value) is Status.KEPT
        return name

    def hand_in(self, reverts: str) -> str:
        """Return the experiment that a revert becomes, or why it is rejected."""
        name = self.machine.state.next_experiment
        self.machine.hand_in_a_revert(reverts)
        assert not self.machine.state.submissions
        return name if name in self.machine.state.experiments else self.rejections()[-1].reason

    def rejections(self) -> list[ev.ProposalRejected]:
        """Return what was refused, in order."""
        told = [recorded.event for recorded in self.machine.ledger.read(0)]
        return [event for event in told if isinstance(event, ev.ProposalRejected)]

    def lines(self, name: str = "") -> dict[int, int]:
        """Return which places the tree of an experiment, or the branch's head, has changed."""
        commit = self[name].commit if name else self.machine.repository.branch_ref
        return self.machine.lines(commit)
