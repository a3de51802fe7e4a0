"""The reducer over real git repositories: any order of results, crashes anywhere, restarts.

INCUMBENT_REDUCER_EXAMPLES=500 looks harder.
"""

import os
from typing import get_args

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

from cluster.backup.kept_refs import kept_candidates
from cluster.backup.rebuild import Source, rebuild
from cluster.git.branch_log import on_branch
from cluster.ledger.ledger import load
from cluster.policy.decisions import decide
from cluster.policy.study_plan import Circumstances, Policy
from cluster.state import events as ev
from cluster.state.experiment import Kind, Status
from cluster.state.invariants import check
from cluster.state.winners import brought, is_moot, left_out, on_tree
from eval.judge import GreedyJudge
from tests.cluster.reducer_study import PLACES, ReducerStudy
from tests.cluster.world import CRASHED, METRIC, gamed, scored
from trainer.trial import ExperimentId, TrialOutcome

EXAMPLES = int(os.environ.get("INCUMBENT_REDUCER_EXAMPLES", "2"))
MOST_MERGES = 3
SETTLED = {Status.KEPT, Status.MERGED, Status.DROPPED, Status.CONFLICTED, Status.DISCARDED}
SETTLED |= {Status.CRASHED, Status.SUSPECT, Status.CANCELLED, Status.LOST}

WITH_REASON = {Status.DROPPED, Status.CONFLICTED, Status.MERGED, Status.CANCELLED}
TOLD = {"MergeConflicted", "MergeRedundant", "WinnerDropped"}
"""What says of a patch that was left behind why it is merged no more."""


class ReducerMachine(ReducerStudy, RuleBasedStateMachine):
    """Candidates on any incumbent of the past, outcomes in any order, deaths at any append."""

    # --- what happens ----------------------------------------------------------------------------

    @initialize(values=st.tuples(*[st.floats(0.98, 1.02)] * 3))
    def begin_with_the_baseline(self, values: tuple[float, ...]) -> None:
        self.measure_the_baseline(values)

    @precondition(lambda self: self.state.lineage and len(self.state.open) < 10)
    @rule(
        places=st.lists(st.integers(0, PLACES - 1), min_size=3, max_size=6),
        ago=st.sampled_from([0, 0, 0, 1, 2]),
        author=st.sampled_from(["test", "test", "user"]),
    )
    def propose_a_wave(self, places: list[int], ago: int, author: str) -> None:
        self.propose(places, ago=ago, author=author)

    @precondition(lambda self: len(self.state.lineage) > 1 and len(self.state.open) < 10)
    @rule(data=st.data(), is_any=st.booleans(), fuse=st.sampled_from([-1, -1, 0, 1]))
    def take_out(self, data: st.DataObject, fuse: int, *, is_any: bool) -> None:
        """Ask for what is on the branch to be taken out, or for what may be nowhere on it."""
        names = sorted(self.state.experiments) if is_any else self.state.lineage[1:]
        self.ledger.fuse = fuse
        self.hand_in_a_revert(data.draw(st.sampled_from(names)))
        self.ledger.fuse = -1
        assert not self.state.submissions

    @precondition(lambda self: self.on_the_way())
    @rule(
        data=st.data(),
        outcome=st.one_of(
            st.floats(-0.3, 0.1), st.floats(-0.3, 0.0), st.sampled_from([CRASHED, gamed(0.5)])
        ),
        fuse=st.sampled_from([-1, -1, 0, 1, 2, 3, 4, 5, 7]),
        is_busy=st.booleans(),
    )
    def end(
        self, data: st.DataObject, outcome: float | TrialOutcome, fuse: int, *, is_busy: bool
    ) -> None:
        if not is_busy:
            self.begin()
        experiment = data.draw(st.sampled_from(self.on_the_way()))
        if isinstance(outcome, float):
            base = self.state.experiments[self.state.experiments[experiment].base]
            outcome = scored((base.worth if base.values else 1.0) + outcome)
        self.ledger.fuse = fuse
        self.end_trial(experiment, outcome)
        self.ledger.fuse = -1

    @precondition(lambda self: self.state.chain)
    @rule(gains=st.lists(st.floats(-0.3, 0.1), min_size=16, max_size=16), fuse=st.integers(0, 9))
    def end_the_chain(self, gains: list[float], fuse: int) -> None:
        """End all links at once, and die somewhere in what follows."""
        value = self.state.experiments[self.state.lineage[-1]].worth
        for link, gain in zip(self.state.chain, gains, strict=False):
            value += gain
            if self.state.experiments[link].status in {Status.QUEUED, Status.RUNNING}:
                self.ledger.fuse = fuse
                self.end_trial(link, scored(value))
        self.ledger.fuse = -1

    @precondition(lambda self: len(self.on_the_way()) > 2)
    @rule(gains=st.lists(st.floats(-0.3, 0.05), min_size=16, max_size=16), fuse=st.integers(-1, 12))
    def end_a_wave(self, gains: list[float], fuse: int) -> None:
        """End all that runs before the controller looks: several win at once."""
        self.begin()
        self.ledger.fuse = fuse
        for experiment, gain in zip(self.on_the_way(), gains, strict=False):
            base = self.state.experiments[self.state.experiments[experiment].base]
            self.complete(experiment, scored((base.worth if base.values else 1.0) + gain))
        self.settle()
        self.ledger.fuse = -1

    @precondition(lambda self: self.state.chain)
    @rule()
    def die_and_begin_again(self) -> None:
        self.restart()
        self.settle()

    @precondition(lambda self: self.on_the_way())
    @rule(data=st.data())
    def retry(self, data: st.DataObject) -> None:
        ended = [e for e in self.state.experiments if e not in self.state.open]
        self.happen(ev.RetryRequested(experiment=data.draw(st.sampled_from(sorted(ended)))))
        self.settle()

    # --- what must hold --------------------------------------------------------------------------

    @invariant()
    def the_state_is_sound(self) -> None:
        check(self.state)
        assert load(self.ledger) == self.state

    @invariant()
    def every_score_is_of_exactly_the_tree_on_record(self) -> None:
        shown = self.git("for-each-ref", "--format=%(refname:lstrip=3) %(objectname)")
        refs = dict(line.split() for line in shown.splitlines() if line.startswith("e"))
        for experiment in self.state.experiments.values():
            assert self.ran.get(experiment.id, experiment.commit) == experiment.commit
            assert refs[experiment.id] == experiment.commit
            if experiment.rebased_from:
                assert self.repository.tree_of(experiment.commit) == experiment.tree

    @invariant()
    def ledger_and_branch_agree(self) -> None:
        """Every commit since the base is a promotion on record, with exactly the measured tree."""
        if not self.state.lineage:
            return
        head = self.git("rev-parse", self.repository.branch_ref)
        assert head == self.state.incumbent_commit
        landed = self.repository.landed(self.state.incumbent_commit, parent=self.state.base_commit)
        told = [r.event for r in self.ledger.read(0, limit=10**6)]
        on_record = [
            (step.experiment, step.commit)
            for event in told
            if isinstance(event, ev.Promoted)
            for step in (*event.carried, event)
        ]
        assert [(one.experiment, one.commit) for one in landed] == on_record
        for one in landed:
            assert one.tree == self.state.experiments[one.experiment].tree
        heads = {event.experiment for event in told if isinstance(event, ev.Promoted)}
        for name in heads:
            experiment = self.state.experiments[name]
            assert experiment.values, f"{name} was promoted without a trial of its tree"
            assert self.repository.tree_of(experiment.commit) == experiment.tree

    @invariant()
    def the_tree_holds_what_the_lineage_says(self) -> None:
        """Each line of the head is of the last patch that changed it and was not taken out."""
        if not self.state.lineage:
            return
        head = self.state.lineage[-1]
        steps = on_tree(self.state, head)
        patches = [self.patches.get(brought(self.state, step)[-1]) for step in steps]
        assert self.lines(self.state.incumbent_commit) == dict(filter(None, patches))
        kept = tuple(step.id for step in steps if step.status is Status.KEPT)
        assert self.state.lineage == kept

    @invariant()
    def no_patch_that_was_promoted_is_lost_silently(self) -> None:
        if not self.state.lineage:
            return
        head = self.state.lineage[-1]
        promoted = [e.id for e in self.state.experiments.values() if e.status is Status.KEPT]
        behind = set(left_out(self.state, promoted, head))
        assert set(self.state.rejoining) <= behind, "it waits though it is there"
        for name in behind - set(self.state.rejoining):
            told = {event for _, event in self.state.experiments[name].story}
            was_tried = self.state.experiments[name].merged_as or told & TOLD
            assert was_tried or is_moot(self.state, name, head), name

    @invariant()
    def what_waits_was_made_on_the_incumbent(self) -> None:
        for name in self.on_the_way():
            experiment = self.state.experiments[name]
            has_begun = name in self.leases or any(t.started_at for t in experiment.trials)
            is_exempt = experiment.kind is not Kind.PROPOSAL or experiment.is_cancelled
            is_exempt |= any(event == "RetryRequested" for _, event in experiment.story)
            if not (has_begun or is_exempt):
                assert self.state.lineage[-1] in {experiment.base, experiment.stays_beside}, name

    @invariant()
    def the_branch_never_gets_worse_by_the_judges_own_test(self) -> None:
        assert all(is_due for _, _, is_due in self.claims), self.claims

    @invariant()
    def merges_of_a_winner_are_bounded(self) -> None:
        """A patch is measured in three merges, and once more each time that it was left behind."""
        measured: dict[ExperimentId, int] = {}
        for experiment in self.state.experiments.values():
            if experiment.kind is Kind.MERGE and experiment.finished:
                source = experiment.merge_of
                while self.state.experiments[source].kind is Kind.MERGE:
                    source = self.state.experiments[source].merge_of
                is_free = experiment.status is Status.CANCELLED
                measured[source] = measured.get(source, 0) + (not is_free)
        told = [r.event for r in self.ledger.read(0, limit=10**6)]
        left = [e for event in told if isinstance(event, ev.Promoted) for e in event.lacks]
        retried = sum(isinstance(event, ev.RetryRequested) for event in told)
        for source, count in measured.items():
            assert count <= MOST_MERGES * (1 + len(left)) + retried, source

    @invariant()
    def nothing_is_left_undone(self) -> None:
        assert decide(self.state, self.plan, Circumstances(now=self.now)) == ()
        open_ones = {e for e, s in self.state.open.items() if s in {Status.WINNER, Status.MEASURED}}
        if open_ones:
            assert self.on_the_way(), "winners wait for nothing"
            assert self.state.chain

    def teardown(self) -> None:
        """When all trials have ended, no winner is left over, and each says what became of it."""
        self.ledger.fuse = -1
        for _ in range(300):
            if not self.on_the_way():
                break
            self.end_trial(self.on_the_way()[0], scored(9.0))
        assert not dict(self.state.open)
        for experiment in self.state.experiments.values():
            assert experiment.status in SETTLED
            if experiment.status in WITH_REASON:
                assert experiment.reason, experiment.id
        self.ledger_and_branch_agree()
        self.git_alone_tells_of_the_branch()
        self.scratch.cleanup()

    def git_alone_tells_of_the_branch(self) -> None:
        """Were the ledger lost now, one could be made that is sound and ends at the same head."""
        kept = kept_candidates(self.repository)
        made = rebuild(
            Source(
                study="s",
                metric=METRIC,
                metric_source="printed",
                base=self.state.base_commit,
                kept=kept,
                branch=on_branch(
                    self.repository.git, self.state.base_commit, self.repository.branch_ref
                ),
                lines={one.experiment: 1 for one in kept},
                syntaxes={one.experiment: one.tree for one in kept},
                results={},
            )
        ).state
        check(made)
        known = self.state.experiments
        assert {e.id: (e.commit, e.tree) for e in made.experiments.values()} == {
            e.id: (e.commit, e.tree) for e in known.values()
        }
        if made.lineage:
            assert made.incumbent_commit == self.state.incumbent_commit
            assert made.lineage[-1] == self.state.lineage[-1]
        for name in made.lineage:
            score = known[name].score
            assert score is not None
            assert made.experiments[name].values == (pytest.approx(score.mean, rel=1e-4),)


class OneAtATimeMachine(ReducerMachine):
    """The same, merging one at a time under a judge without beliefs."""

    judge = GreedyJudge(metric=METRIC)
    policy: Policy = "one-at-a-time"


class BestOfWaveMachine(ReducerMachine):
    """The same, merging nothing."""

    policy: Policy = "best-of-wave"


MACHINES = {"chain": ReducerMachine, "one-at-a-time": OneAtATimeMachine}
MACHINES |= {"best-of-wave": BestOfWaveMachine}


def test_each_policy_has_its_machine() -> None:
    assert set(MACHINES) == set(get_args(Policy))


@pytest.mark.parametrize("policy", MACHINES)
def test_any_order_of_results_and_deaths_keeps_branch_and_ledger_true(policy: str) -> None:
    examples = EXAMPLES if policy == "chain" else max(1, EXAMPLES // 5)
    run_state_machine_as_test(
        MACHINES[policy],
        settings=settings(
            max_examples=examples,
            stateful_step_count=20,
            deadline=None,
            database=None,
            suppress_health_check=list(HealthCheck),
        ),
    )
