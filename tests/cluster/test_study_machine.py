"""Whole studies in any order of outcomes, losses, requests and restarts, played on paper."""

import sys
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

sys.path.insert(0, str(Path(__file__).parent))
from world import CRASHED, GREEDY, METRIC, TIMED_OUT, World, gamed, scored

from cluster import events as ev
from cluster.experiment import Kind, Status
from eval.bayes import BayesJudge
from eval.judge import Judge
from eval.sequential import SequentialJudge
from trainer.trial import ExperimentId


class StudyMachine(RuleBasedStateMachine):
    """Any order of outcomes, losses, requests and restarts."""

    judge: Judge = GREEDY

    def __init__(self) -> None:
        super().__init__()
        self.world = World(slots=3, judge=self.judge)
        self.requests = 0

    @initialize(values=st.tuples(*[st.floats(0.5, 2.0)] * 3))
    def measure_the_baseline(self, values: tuple[float, ...]) -> None:
        for value in values:
            if not self.world.state.lineage:
                self.world.baseline(value)
        assert self.world.state.lineage

    def request(self, event: ev.Event) -> None:
        self.requests += 1
        self.world.happen(f"request/{self.requests}", event)
        self.world.settle()

    def pick(self, data: st.DataObject, *statuses: Status) -> ExperimentId:
        return data.draw(st.sampled_from(self.world.in_status(*statuses)))

    @precondition(lambda self: len(self.world.state.open) < 6)
    @rule()
    def propose(self) -> None:
        self.world.propose()
        self.world.settle()

    @rule()
    def propose_what_can_only_fail(self) -> None:
        rejected = self.world.reject()
        self.world.settle()
        assert self.world.status(rejected) is Status.REJECTED
        assert not self.world.state.experiments[rejected].trials

    @precondition(lambda self: self.world.in_status(Status.QUEUED))
    @rule(data=st.data(), slot=st.integers(0, 2))
    def start(self, data: st.DataObject, slot: int) -> None:
        self.world.start(self.pick(data, Status.QUEUED), f"cpu-{slot}")

    @precondition(lambda self: self.world.in_status(Status.RUNNING))
    @rule(
        data=st.data(),
        outcome=st.one_of(
            st.floats(0.1, 2.0).map(scored),
            st.floats(0.1, 2.0).map(gamed),
            st.sampled_from([CRASHED, TIMED_OUT]),
        ),
        merge=st.sampled_from(["clean", "clean", "conflict", "redundant"]),
    )
    def end(self, data: st.DataObject, outcome, merge: str) -> None:
        self.world.merge_outcome = merge
        self.world.end(self.pick(data, Status.RUNNING), outcome)
        self.world.settle()

    @precondition(lambda self: self.world.in_status(Status.RUNNING))
    @rule(data=st.data())
    def despair(self, data: st.DataObject) -> None:
        """A curve is hopeless; only a candidate's first trial is stopped for it."""
        hopeless = self.pick(data, Status.RUNNING)
        experiment = self.world.state.experiments[hopeless]
        is_first = experiment.kind is Kind.PROPOSAL and not experiment.finished
        self.world.despair(hopeless)
        self.world.settle()
        assert self.world.status(hopeless) is (Status.PRUNED if is_first else Status.RUNNING)

    @precondition(lambda self: self.world.in_status(Status.RUNNING))
    @rule(data=st.data(), given_back=st.booleans())
    def lose(self, data: st.DataObject, given_back: bool) -> None:
        self.world.lose(self.pick(data, Status.RUNNING), is_given_back=given_back)
        self.world.settle()

    @rule(data=st.data())
    def cancel(self, data: st.DataObject) -> None:
        experiment = data.draw(st.sampled_from(sorted(self.world.state.experiments)))
        self.request(ev.CancelRequested(experiment=experiment))

    @rule(data=st.data())
    def retry(self, data: st.DataObject) -> None:
        experiment = data.draw(st.sampled_from(sorted(self.world.state.experiments)))
        self.request(ev.RetryRequested(experiment=experiment))

    @rule(data=st.data())
    def accept(self, data: st.DataObject) -> None:
        experiment = data.draw(st.sampled_from(sorted(self.world.state.experiments)))
        self.request(ev.AcceptRequested(experiment=experiment))

    @rule()
    def restart(self) -> None:
        self.world.restart()
        self.world.settle()

    @rule(now=st.booleans())
    def stop_and_carry_on(self, now: bool) -> None:
        self.request(ev.StopRequested(now=now))
        self.restart()

    @invariant()
    def nothing_is_left_undone(self) -> None:
        assert self.world.decide() == ()
        waiting = {Status.WINNER, Status.MEASURED, Status.PROPOSED}
        if chain := self.world.state.chain:  # its links are judged at once, and winners wait for it
            assert self.world.in_status(Status.QUEUED, Status.RUNNING)
            waiting = {Status.PROPOSED}
        left = self.world.in_status(*waiting, Status.MEASURED)
        assert set(left) <= set(chain), left

    @invariant()
    def the_state_is_sound(self) -> None:
        self.world.verify()

    @invariant()
    def every_promotion_was_an_improvement_on_the_record(self) -> None:
        for experiment, new, old in self.world.claims:
            assert new < old or self.was_expected_to_gain(experiment), experiment

    def was_expected_to_gain(self, experiment: ExperimentId) -> bool:
        """Say whether a patch was expected to gain; verdicts since may have raised its base."""
        effect = self.world.state.experiments[experiment].effect
        return effect is not None and effect.mean > 0

    @invariant()
    def no_experiment_is_run_for_ever(self) -> None:
        for experiment in self.world.state.experiments.values():
            retries = sum(name == "RetryRequested" for _, name in experiment.story)
            assert len(experiment.values) <= 6 + retries, experiment.id

    @invariant()
    def nothing_suspect_is_on_the_branch_unless_somebody_accepted_it(self) -> None:
        for name in self.world.state.lineage:
            experiment = self.world.state.experiments[name]
            assert not experiment.last_run.conduct.frozen or self.was_looked_at(name), name

    def was_looked_at(self, name: ExperimentId) -> bool:
        """Say whether somebody accepted an experiment, or what it is made of."""
        experiment = self.world.state.experiments[name]
        made_of = {experiment.base, experiment.merge_of} - {name, ""}
        return experiment.is_accepted or any(map(self.was_looked_at, made_of))

    def teardown(self) -> None:
        """When everything running ends, every winner has ended too."""
        for _ in range(200):
            todo = self.world.in_status(Status.QUEUED, Status.RUNNING)
            if not todo:
                break
            if self.world.status(todo[0]) is Status.QUEUED:
                self.world.start(todo[0])
            self.world.end(todo[0], scored(5.0))
            self.world.settle()
        assert not dict(self.world.state.open)
        self.world.verify()


class BayesMachine(StudyMachine):
    """The same under a judge that learns and asks for replicates."""

    judge = BayesJudge(metric=METRIC)


class SequentialMachine(StudyMachine):
    """The same under a judge that tests on fresh runs."""

    judge = SequentialJudge(metric=METRIC, confidence=0.5)


@pytest.mark.parametrize(
    ("machine", "examples"), [(StudyMachine, 150), (BayesMachine, 30), (SequentialMachine, 30)]
)
def test_any_order_of_outcomes_losses_requests_and_restarts_keeps_the_invariants(
    machine: type[StudyMachine], examples: int
) -> None:
    run_state_machine_as_test(
        machine,
        settings=settings(
            max_examples=examples,
            stateful_step_count=40,
            deadline=None,
            suppress_health_check=[HealthCheck.too_slow],
        ),
    )
