"""Whole studies in any order of outcomes, losses, requests and restarts, played on paper."""

from dataclasses import replace
from datetime import timedelta
from typing import ClassVar

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

from cluster.policy import device_classes
from cluster.state import events as ev
from cluster.state.experiment import Experiment, Kind, Status, TrialPhase
from eval.bayes import BayesJudge
from eval.judge import Judge
from eval.ladder import Step
from eval.sequential import SequentialJudge
from tests.cluster.world import (
    CRASHED,
    GREEDY,
    METRIC,
    TIMED_OUT,
    World,
    crashed,
    gamed,
    node_of,
    scored,
)
from trainer.trial import (
    CrashKind,
    Ending,
    ExperimentId,
    Place,
    Probe,
    SlotId,
    TrialId,
    TrialOutcome,
)


class StudyMachine(RuleBasedStateMachine):
    """Any order of outcomes, losses, requests and restarts."""

    judge: Judge = GREEDY

    def __init__(self) -> None:
        super().__init__()
        self.world = World(slots=3, judge=self.judge, max_staleness=3)
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
    @rule(proposer=st.sampled_from(["test", "test", "user"]))
    def propose(self, proposer: str) -> None:
        self.world.propose(proposer=proposer)
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
        self.begin(self.pick(data, Status.QUEUED), slot)
        self.world.settle()

    def begin(self, experiment: ExperimentId, slot: int) -> None:
        self.world.start(experiment, f"cpu-{slot}")

    def finish(self, experiment: ExperimentId, outcome: TrialOutcome) -> None:
        self.world.end(experiment, outcome)

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
        self.world.rebase_outcome = merge
        self.finish(self.pick(data, Status.RUNNING), outcome)
        self.world.settle()

    @precondition(lambda self: self.world.in_status(Status.RUNNING))
    @rule(data=st.data())
    def despair(self, data: st.DataObject) -> None:
        """A curve is hopeless; only a candidate's first trial in full is stopped for it."""
        hopeless = self.pick(data, Status.RUNNING)
        experiment = self.world.state.experiments[hopeless]
        is_first = experiment.kind is Kind.PROPOSAL and not self.was_run(experiment)
        self.world.despair(hopeless)
        self.world.settle()
        assert self.world.status(hopeless) is (Status.PRUNED if is_first else Status.RUNNING)

    def was_run(self, experiment: Experiment) -> bool:
        """Say whether a trial of it is on a rung, or ended before on none or before a retry."""
        ended = [trial for trial in experiment.trials if trial.outcome is not None]
        is_again = any(name == "RetryRequested" for _, name in experiment.story)
        is_on_rung = experiment.trials[-1].rung_s is not None
        return is_on_rung or any(is_again or trial.rung_s is None for trial in ended)

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

    @rule(by_s=st.sampled_from([5.0, 3600.0, 3 * 86400.0]), back=st.booleans())
    def the_clock_is_set(self, by_s: float, back: bool) -> None:
        """What follows has times before, or long after, what is on record."""
        self.world.now += timedelta(seconds=-by_s if back else by_s)
        self.world.settle()

    @invariant()
    def no_time_is_less_than_none(self) -> None:
        state = self.world.state
        assert state.slot_seconds >= 0.0
        assert state.running_s(self.world.now) >= 0.0

    @rule(now=st.booleans())
    def stop_and_carry_on(self, now: bool) -> None:
        self.request(ev.StopRequested(now=now))
        self.restart()

    @invariant()
    def nothing_is_left_undone(self) -> None:
        assert self.world.decide() == ()
        chain = self.world.state.chain  # its links are judged at once, and winners wait for it
        if chain:
            assert self.world.in_status(Status.QUEUED, Status.RUNNING)
        else:
            assert not self.world.in_status(Status.WINNER)
        for name in self.world.in_status(Status.MEASURED):
            assert name in chain or self.waits_for_its_base(name), name
        for name in self.world.in_status(Status.PROPOSED):
            assert self.waits_for_its_share(name), name

    def waits_for_its_base(self, name: ExperimentId) -> bool:
        state = self.world.state
        return any(
            control.experiment == state.experiments[name].base
            for control in state.controls.values()
        )

    def waits_for_its_share(self, name: ExperimentId) -> bool:
        is_proof = self.world.state.experiments[name].is_replicated
        return is_proof and bool(self.world.in_status(Status.QUEUED))

    @invariant()
    def the_state_is_sound(self) -> None:
        self.world.verify()

    @invariant()
    def every_trial_that_began_was_of_the_tree_on_record(self) -> None:
        """A rebase comes before the first start; what was to run before it never began."""
        for experiment in self.world.state.experiments.values():
            names = [name for _, name in experiment.story]
            if "ExperimentRebased" in names and "TrialStarted" in names:
                last = len(names) - 1 - names[::-1].index("ExperimentRebased")
                assert last < names.index("TrialStarted"), experiment.id

    @invariant()
    def what_waits_was_made_on_the_incumbent(self) -> None:
        state = self.world.state
        for name in self.world.in_status(Status.QUEUED):
            experiment = state.experiments[name]
            has_begun = any(trial.started_at for trial in experiment.trials)
            is_exempt = experiment.kind is not Kind.PROPOSAL or experiment.is_cancelled
            is_exempt |= any(event == "RetryRequested" for _, event in experiment.story)
            if not (has_begun or is_exempt or state.is_paused):
                assert state.lineage[-1] in {experiment.base, experiment.stays_beside}, name

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
            left = self.world.in_status(Status.QUEUED, Status.RUNNING)
            if not left:
                break
            if self.world.status(left[0]) is Status.QUEUED:
                self.begin(left[0], 0)
            self.finish(left[0], scored(5.0))
            self.world.settle()
        assert not dict(self.world.state.open)
        self.world.verify()


class MixedMachine(StudyMachine):
    """The same on slots of two classes, with a control after every other trial."""

    judge = BayesJudge(metric=METRIC)
    CLASSES: ClassVar = {"cpu-0": "cpu", "cpu-1": "cpu", "gpu-0": "gpu"}

    def __init__(self) -> None:
        super().__init__()
        self.world.plan = replace(self.world.plan, control_every=2)
        self.open_all()

    def open_all(self) -> None:
        for slot, kind in self.CLASSES.items():
            self.world.open_slot(slot, kind)
        self.world.settle()

    def slot_for(self, number: int, place: Place) -> str:
        slots = sorted(s for s, kind in self.CLASSES.items() if place.admits(SlotId(s), kind))
        return slots[number % len(slots)]

    def begin(self, experiment: ExperimentId, slot: int) -> None:
        state = self.world.state
        place = device_classes.place(state, self.world.plan, state.experiments[experiment])
        self.world.start(experiment, self.slot_for(slot, place))

    def finish(self, experiment: ExperimentId, outcome: TrialOutcome, trial: str = "") -> None:
        found = self.world.state.experiments[experiment]
        slot = found.trial(TrialId(trial), 1).slot if trial else found.trials[-1].slot
        outcome = replace(outcome, device_class=self.CLASSES[slot])
        self.world.end(experiment, outcome, trial)

    def restart(self) -> None:
        super().restart()
        self.open_all()

    @precondition(lambda self: self.world.controls(TrialPhase.QUEUED))
    @rule(data=st.data(), slot=st.integers(0, 2))
    def start_a_control(self, data: st.DataObject, slot: int) -> None:
        experiment, trial = data.draw(st.sampled_from(self.world.controls(TrialPhase.QUEUED)))
        where = self.slot_for(slot, self.world.state.controls[trial].place)
        self.world.start(experiment, where, trial)
        self.world.settle()

    @precondition(lambda self: self.world.controls(TrialPhase.RUNNING))
    @rule(
        data=st.data(),
        outcome=st.one_of(st.floats(0.1, 2.0).map(scored), st.just(CRASHED), st.none()),
    )
    def end_a_control(self, data: st.DataObject, outcome) -> None:
        experiment, trial = data.draw(st.sampled_from(self.world.controls(TrialPhase.RUNNING)))
        if outcome is None:
            self.world.lose(experiment, trial_id=trial)
        else:
            self.finish(experiment, outcome, trial)
        self.world.settle()

    @rule(slot=st.sampled_from(sorted(CLASSES)))
    def a_slot_goes_away(self, slot: str) -> None:
        self.world.happen(
            f"{slot}/closed/{self.world.state.seq}", ev.SlotClosed(slot=SlotId(slot), reason="gone")
        )
        self.world.settle()

    @rule()
    def slots_come_back(self) -> None:
        self.open_all()

    @invariant()
    def what_promotes_was_measured_on_the_reference_class(self) -> None:
        state = self.world.state
        for name in state.lineage:
            assert state.experiments[name].device_class == state.reference_class

    @invariant()
    def controls_are_no_experiments(self) -> None:
        state = self.world.state
        for experiment in state.experiments.values():
            if experiment.controls:
                assert any(name in {"Promoted", "ExperimentJudged"} for _, name in experiment.story)
        assert not self.world.controls(TrialPhase.FINISHED)

    def teardown(self) -> None:
        self.open_all()
        for _ in range(50):
            queued = self.world.controls(TrialPhase.QUEUED)
            running = self.world.controls(TrialPhase.RUNNING)
            if not queued and not running:
                break
            for experiment, trial in queued:
                place = self.world.state.controls[trial].place
                self.world.start(experiment, self.slot_for(0, place), trial)
            for experiment, trial in self.world.controls(TrialPhase.RUNNING):
                self.finish(experiment, CRASHED, trial)
            self.world.settle()
        self.world.plan = replace(self.world.plan, control_every=0)
        super().teardown()


WISHES = {
    "drain": lambda node: ev.DrainRequested(node=node),
    "leave": lambda node: ev.NodeLeft(node=node, reason="fell silent", is_silent=True),
    "release": lambda node: ev.NodeReleased(node=node),
}


class NodesMachine(StudyMachine):
    """The same on the head and two nodes that join, fail, are drained, go to quarantine and leave.

    On one of them most trials fail. Trials begin only where the queue would hand them out.
    """

    SLOTS: ClassVar = ("cpu-0", "alpha/cpu-0", "alpha/cpu-1", "beta/cpu-0")

    def __init__(self) -> None:
        super().__init__()
        self.world.open_slot("cpu-0")
        for node in ("alpha", "beta"):
            self.join(node)

    @rule(node=st.sampled_from(["alpha", "beta"]))
    def join(self, node: str) -> None:
        about = {"address": "a", "incumbent": "1", "python": "3", "ray": "2"}
        self.request(ev.NodeJoined(node=node, cpus=2, memory_gb=8.0, **about))
        for slot in self.SLOTS:
            if node_of(slot) == node:
                self.world.open_slot(slot)
        self.world.settle()

    @rule(node=st.sampled_from(["alpha", "beta", "n"]), kind=st.sampled_from([*WISHES]))
    def wish(self, node: str, kind: str) -> None:
        self.request(WISHES[kind](node))

    def open_to(self, place: Place) -> list[str]:
        state = self.world.state
        slots = [state.slots[SlotId(slot)] for slot in self.SLOTS]
        return [
            slot.slot
            for slot in slots
            if state.takes_work(slot) and place.admits(slot.slot, slot.device_class)
        ]

    def begin(self, experiment: ExperimentId, slot: int) -> None:
        if not (found := self.open_to(Place())):
            self.request(ev.NodeReleased(node="n"))
            self.world.open_slot("cpu-0")
            found = ["cpu-0"]
        self.world.start(experiment, found[slot % len(found)])

    def try_on(self, slot: str, outcome: TrialOutcome | None) -> ExperimentId:
        """Run a new candidate on a slot that is open; None loses it."""
        experiment = self.world.propose()
        self.world.settle()
        if self.world.status(experiment) is Status.QUEUED and slot in self.open_to(Place()):
            self.end_on(slot, experiment, outcome)
        return experiment

    def end_on(self, slot: str, experiment: ExperimentId, outcome: TrialOutcome | None) -> None:
        self.world.now += timedelta(seconds=100)
        self.world.start(experiment, slot)
        if outcome is None:
            self.world.lose(experiment)
        else:
            self.finish(experiment, outcome)
        self.world.settle()

    @rule(
        outcomes=st.lists(
            st.sampled_from([None, None, CRASHED, crashed(CrashKind.SIGNAL, "killed")]),
            min_size=2,
            max_size=4,
        )
    )
    def alpha_is_sick(self, outcomes: list[TrialOutcome | None]) -> None:
        """It fails one after another, the head none; what it lost passes there."""
        for outcome in outcomes:
            failed = self.try_on("alpha/cpu-0", outcome)
            is_waiting = self.world.status(failed) is Status.QUEUED
            if is_waiting and "cpu-0" in self.open_to(Place()):
                self.end_on("cpu-0", failed, scored(5.0))
            self.try_on("cpu-0", scored(5.0))

    @precondition(lambda self: self.world.controls(TrialPhase.QUEUED))
    @rule(data=st.data(), outcome=st.sampled_from([CRASHED, scored(1.0), None]))
    def run_the_incumbent_on_a_node(
        self, data: st.DataObject, outcome: TrialOutcome | None
    ) -> None:
        experiment, trial = data.draw(st.sampled_from(self.world.controls(TrialPhase.QUEUED)))
        (slot,) = self.open_to(self.world.state.controls[trial].place)
        self.world.start(experiment, slot, trial)
        if outcome is None:
            self.world.lose(experiment, trial_id=trial)
        else:
            self.world.end(experiment, outcome, trial)
        self.world.settle()

    @rule()
    def restart(self) -> None:
        super().restart()
        self.world.open_slot("cpu-0")
        self.world.settle()

    @invariant()
    def no_control_waits_for_a_node_that_may_not_begin_it(self) -> None:
        for _, trial in self.world.controls(TrialPhase.QUEUED):
            assert self.open_to(self.world.state.controls[trial].place), trial


class LadderMachine(StudyMachine):
    """The same with two rungs, on which candidates are stopped, and from which they rise."""

    def __init__(self) -> None:
        super().__init__()
        rungs = (Step(budget_s=s, keep=0.4, fewest=2) for s in (10.0, 60.0))
        self.world.plan = replace(self.world.plan, rungs=tuple(rungs))
        self.world.probe = Probe(budget_s=10.0, ending=Ending.SCORED, wall_s=12.0, obeys=True)

    @precondition(lambda self: len(self.world.state.open) < 6)
    @rule(values=st.lists(st.floats(0.1, 2.0), min_size=1, max_size=3))
    def run_on_the_first_rung(self, values: list[float]) -> None:
        """Several at once: a single one seldom stops there."""
        for value in values:
            experiment = self.world.propose()
            self.world.settle()
            self.begin(experiment, 0)
            self.finish(experiment, scored(value))
            self.world.settle()

    @invariant()
    def only_what_passed_its_rungs_is_run_in_full(self) -> None:
        for experiment in self.world.state.experiments.values():
            in_full = any(trial.rung_s is None for trial in experiment.trials)
            if experiment.kind is Kind.PROPOSAL and in_full and not experiment.skips_rungs:
                assert experiment.passed_s == 60.0, experiment.id

    @invariant()
    def who_is_stopped_was_behind(self) -> None:
        for name, experiment in self.world.state.experiments.items():
            if experiment.status is Status.PRUNED and experiment.trials[-1].rung_s is not None:
                assert experiment.story[-1][1] == "RungJudged", name
                assert experiment.reason.startswith("rung of"), name


class BayesMachine(StudyMachine):
    """The same under a judge that learns and asks for replicates."""

    judge = BayesJudge(metric=METRIC)


class SequentialMachine(StudyMachine):
    """The same under a judge that tests on fresh runs."""

    judge = SequentialJudge(metric=METRIC, confidence=0.5)


@pytest.mark.parametrize(
    ("machine", "examples"),
    [
        (StudyMachine, 50),
        (LadderMachine, 30),
        (BayesMachine, 30),
        (SequentialMachine, 30),
        (MixedMachine, 25),
        (NodesMachine, 25),
    ],
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
