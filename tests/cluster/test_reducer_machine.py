"""The reducer over real git repositories: any order of results, crashes anywhere, restarts.

Decisions, the performer, git and the queue are the real ones; the ledger is in memory, and dies
before or after any append of the controller. INCUMBENT_REDUCER_EXAMPLES=500 looks harder.
"""

import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TypeVar, get_args

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
from world import CRASHED, METRIC, gamed, scored

from cluster import commands as cmd
from cluster import events as ev
from cluster.branch_history import branch, kept_candidates
from cluster.decisions import decide
from cluster.experiment import Experiment, Kind, Status
from cluster.invariants import check
from cluster.ledger import InMemoryLedger, catch_up, load
from cluster.performer import Performer
from cluster.rebuild import Source, rebuild
from cluster.state import StudyState
from cluster.study_plan import Circumstances, Policy, StudyPlan
from cluster.study_repository import StudyRepository
from cluster.trial_queue import InMemoryTrialQueue
from eval.bayes import BayesJudge
from eval.judge import GreedyJudge, Judge
from proposer.proposal import Context, Proposal
from trainer.ports import Lease, Slot
from trainer.trial import CommitId, ExperimentId, SlotId, TrialId, TrialOutcome

T = TypeVar("T")
NONE = ExperimentId("")
EXAMPLES = int(os.environ.get("INCUMBENT_REDUCER_EXAMPLES", "2"))
PLACES = 6
"""Lines of train.py that patches change: two that change the same one conflict."""
SLOTS = 12
MOST_MERGES = 3
SETTLED = {Status.KEPT, Status.MERGED, Status.DROPPED, Status.CONFLICTED, Status.DISCARDED}
SETTLED |= {Status.CRASHED, Status.SUSPECT, Status.CANCELLED, Status.LOST}

WITH_REASON = {Status.DROPPED, Status.CONFLICTED, Status.MERGED, Status.CANCELLED}


class Killed(BaseException):
    """The controller is gone, as by kill -9."""


class MortalLedger(InMemoryLedger):
    """What the controller writes into; it can be killed before or after an append."""

    def __init__(self) -> None:
        super().__init__()
        self.is_armed = False
        self.fuse = -1
        """Appends that still succeed, by halves: odd is killed after the append."""

    def append(self, drafts: Sequence[ev.Draft], *, epoch: int | None = None) -> int:
        return self.mortally(lambda: super(MortalLedger, self).append(drafts, epoch=epoch))

    def mortally(self, act: Callable[[], T]) -> T:
        """Do something that appends; perhaps die before it, or after."""
        if not self.is_armed or self.fuse < 0:
            return act()
        self.fuse -= 2
        if self.fuse == -2:
            raise Killed
        self.is_armed = False
        done = act()
        self.is_armed = True
        if self.fuse == -1:
            raise Killed
        return done


class MortalQueue(InMemoryTrialQueue):
    """Its withdrawals are one with their events: the controller dies before or after both."""

    def __init__(self, ledger: MortalLedger) -> None:
        super().__init__(ledger)
        self._mortal = ledger

    def withdraw(self, trial: TrialId, attempt: int, draft: ev.Draft, *, epoch: int) -> bool:
        withdraw = super().withdraw
        return self._mortal.mortally(lambda: withdraw(trial, attempt, draft, epoch=epoch))


class ReducerMachine(RuleBasedStateMachine):
    """Candidates on any incumbent of the past, outcomes in any order, deaths at any append."""

    judge: Judge = BayesJudge(metric=METRIC)
    policy: Policy = "chain"

    def __init__(self) -> None:
        super().__init__()
        self.scratch = tempfile.TemporaryDirectory()
        home = Path(self.scratch.name)
        source = home / "research"
        source.mkdir()
        text = "\n\n\n\n".join(f"A{place} = 0" for place in range(PLACES)) + "\n"
        (source / "train.py").write_text(text)
        for args in (("init", "-q"), ("add", "."), ("commit", "-qm", "Begin")):
            who = ("-c", "user.name=a", "-c", "user.email=a@example.org")
            subprocess.run(["git", *who, *args], cwd=source, check=True)
        self.source = source
        self.repository = StudyRepository.create(
            home / "study.git", study="s", source=source, base="HEAD"
        )
        self.ledger = MortalLedger()
        self.queue = MortalQueue(self.ledger)
        self.now = datetime(2026, 3, 1, tzinfo=UTC)
        self.state = StudyState()
        self.leases: dict[ExperimentId, tuple[Slot, Lease]] = {}
        self.ran: dict[ExperimentId, CommitId] = {}
        """What slots began of each experiment."""
        self.claims: list[tuple[Experiment, Experiment, bool]] = []
        self.changes = 0
        self.plan = StudyPlan(
            metric=METRIC,
            judge=self.judge,
            reducer=self.policy,
            max_staleness=3,
            proposers=(),
            slots=SLOTS,
        )
        base = self.repository.resolve(self.git("rev-list", "--max-parents=0", "--all"))
        start = ev.StudyStarted(study="s", base_commit=base, metric="loss", goal="minimize")
        self.happen(start)
        self.restart()

    def git(self, *args: str) -> str:
        command = ["git", *args]
        done = subprocess.run(command, cwd=self.repository.path, check=True, capture_output=True)
        return done.stdout.decode().strip()

    # --- the controller --------------------------------------------------------------------------

    def happen(self, event: ev.Event) -> None:
        name = f"test/{self.state.seq}"
        self.ledger.append([ev.Draft(id=name, at=self.now, event=event)])
        self.state = catch_up(self.ledger, self.state)

    def restart(self) -> None:
        epoch = self.ledger.begin_epoch()
        self.state = load(self.ledger)
        self.happen(ev.ControllerStarted(epoch=epoch, pid=1, node="n"))
        self.performer = Performer(
            ledger=self.ledger,
            queue=self.queue,
            repository=self.repository,
            source=self.source,
            editable=("train.py",),
            metric=METRIC,
            budget_s=1,
            timeout_s=2,
            epoch=epoch,
            clock=lambda: self.now,
        )
        self.performer.resume(self.state)

    def settle(self) -> None:
        """Do what is decided, through any deaths."""
        for _ in range(60):
            self.now += timedelta(seconds=1)
            try:
                commands = decide(self.state, self.plan, Circumstances(now=self.now))
                for command in commands:
                    self.perform(command)
            except Killed:
                self.ledger.is_armed = False
                self.restart()
                continue
            if not commands:
                return
        raise AssertionError(f"never settles: {commands}")

    def perform(self, command: cmd.Command) -> None:
        if isinstance(command, cmd.Promote):
            self.claims.append((command.winner, command.replaces, self.is_due(command)))
        # A queue's own append is one with its place in the queue: there is no death in between.
        self.ledger.is_armed = not isinstance(command, cmd.QueueTrial | cmd.CancelTrial)
        self.performer.perform(command, self.state)
        self.ledger.is_armed = False
        self.state = catch_up(self.ledger, self.state)

    def is_due(self, command: cmd.Promote) -> bool:
        """Say whether the judge's own test is for this promotion, by what is on record now."""
        winner, old = command.winner, command.replaces
        if self.judge.is_ahead(winner.evidence, old.evidence):
            return True
        effect = winner.effect  # verdicts since may have raised what its base is taken for
        is_gain = effect.mean > 0 if effect else (winner.delta or 0) >= 0
        return bool(winner.verdict and winner.verdict.value == "keep" and is_gain)

    # --- what happens ----------------------------------------------------------------------------

    @initialize(values=st.tuples(*[st.floats(0.98, 1.02)] * 3))
    def measure_the_baseline(self, values: tuple[float, ...]) -> None:
        self.settle()
        for value in values:
            if self.state.baseline and not self.state.lineage:
                self.end_trial(ExperimentId("e0"), scored(value))
        assert self.state.lineage

    @precondition(lambda self: self.state.lineage and len(self.state.open) < 10)
    @rule(
        places=st.lists(st.integers(0, PLACES - 1), min_size=3, max_size=6),
        ago=st.sampled_from([0, 0, 0, 1, 2]),
        author=st.sampled_from(["test", "test", "user"]),
    )
    def propose_a_wave(self, places: list[int], ago: int, author: str = "test") -> None:
        known = [self.state.experiments[e] for e in self.state.lineage]
        base = known[max(0, len(known) - 1 - ago)]
        commit = base.promoted or self.state.base_commit
        files = self.performer.files_at(commit)
        for place in places:
            self.changes += 1
            lines = files["train.py"].split("\n")
            lines[4 * place] = f"A{place} = {self.changes}"
            context = Context(
                metric=METRIC,
                incumbent=base.id,
                incumbent_value=None,
                commit=commit,
                files=files,
                instructions="",
                seed=0,
            )
            proposal = Proposal(edits={"train.py": "\n".join(lines)}, hypothesis=f"A{place}")
            self.performer.propose(self.state, author, proposal, context)
            self.state = catch_up(self.ledger, self.state)
        self.settle()

    def on_the_way(self) -> list[ExperimentId]:
        ways = (Status.QUEUED, Status.RUNNING)
        return sorted(e for e, status in self.state.open.items() if status in ways)

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

    def end_trial(self, experiment: ExperimentId, outcome: TrialOutcome) -> None:
        self.complete(experiment, outcome)
        self.settle()

    def begin(self, last: ExperimentId = NONE) -> None:
        """Let slots take what waits, until one has a certain experiment; all, if none is named."""
        for number in range(64):
            slot = Slot(
                id=SlotId(f"cpu-{number}"),
                incarnation="1",
                node="n",
                device="cpu",
                device_class="cpu",
            )
            if last in self.leases:
                return
            lease = self.queue.lease(slot, now=self.now, ttl_s=1e6)
            if lease is None:
                return
            self.leases[lease.spec.experiment] = slot, lease
            self.ran[lease.spec.experiment] = lease.spec.commit

    def complete(self, experiment: ExperimentId, outcome: TrialOutcome) -> None:
        self.begin(experiment)
        assert self.queue.complete(*self.leases.pop(experiment), outcome, now=self.now)
        self.state = catch_up(self.ledger, self.state)

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
                branch=branch(self.repository, self.state.base_commit),
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


CHAIN = """\
A1
Experiment: e5
Metric: loss 0.66 (was 0.8)
Trials: e5.1

A2
Experiment: e6
Metric: loss unknown (was 0.66)
Trials: e6.1 (crashed)
Chain: 1 of 2, promoted as e7

A3
Experiment: e7
Metric: loss 0.45 (was unknown)
Trials: e7.1
Chain: 2 of 2, promoted as e7"""


@pytest.fixture
def study() -> Iterator[ReducerMachine]:
    """A study by hand, with a baseline near 1 whose runs differ by 0.01."""
    made = ReducerMachine()
    made.measure_the_baseline(values=(1.0, 1.01, 0.99))
    yield made
    made.scratch.cleanup()


def test_a_chain_lands_with_a_commit_for_each_winner_that_says_what_it_rests_on(study) -> None:
    study.propose_a_wave(places=[0, 1, 2, 3], ago=0)
    study.begin()
    for name, value in (("e1", 0.8), ("e2", 0.85), ("e3", 0.87), ("e4", 0.9)):
        study.end_trial(ExperimentId(name), scored(value))
    head = study.state.incumbent_commit
    assert study.state.chain == ("e5",)  # of e2; the others came while it was measured
    study.end_trial(ExperimentId("e5"), scored(0.66))
    study.end_trial(ExperimentId("e6"), CRASHED)
    study.end_trial(ExperimentId("e7"), scored(0.45))
    style = "--format=%s%n%(trailers:key=Experiment)%(trailers:key=Metric)%(trailers:key=Trials)"
    told = study.git("log", "--reverse", style + "%(trailers:key=Chain)", f"{head}..")
    assert told == CHAIN
    statuses = {name: study.state.experiments[ExperimentId(name)].status for name in ("e3", "e4")}
    assert set(statuses.values()) == {Status.MERGED}
    study.ledger_and_branch_agree()


def test_a_conflict_names_the_promoted_experiment_that_is_in_the_way(study) -> None:
    study.propose_a_wave(places=[0, 1, 0], ago=0)
    study.begin()
    study.end_trial(ExperimentId("e1"), scored(0.8))
    study.end_trial(ExperimentId("e2"), scored(0.85))
    study.end_trial(ExperimentId("e4"), scored(0.66))  # e2 onto e1
    study.end_trial(ExperimentId("e3"), scored(0.9))
    told = [r.event for r in study.ledger.read(0) if isinstance(r.event, ev.MergeConflicted)]
    (conflict,) = told
    assert (conflict.experiment, conflict.against) == ("e3", "e1")  # not e4, the latest
    assert (conflict.paths, conflict.onto) == (("train.py",), study.state.incumbent_commit)
    assert study.state.experiments[ExperimentId("e3")].status is Status.CONFLICTED


def test_a_conflict_within_a_chain_waits_for_what_becomes_of_it(study) -> None:
    study.propose_a_wave(places=[0, 1, 1, 2], ago=0)
    study.begin()
    for name, value in (("e1", 0.8), ("e4", 0.85), ("e2", 0.87), ("e3", 0.9)):
        study.end_trial(ExperimentId(name), scored(value))
    assert study.state.chain == ("e5",)
    study.end_trial(ExperimentId("e5"), scored(0.66))
    (link,) = study.state.chain
    assert study.state.experiments[link].merge_of == "e2"
    assert study.state.experiments[ExperimentId("e3")].status is Status.WINNER
    study.end_trial(link, CRASHED)
    assert study.state.experiments[ExperimentId("e2")].status is Status.DROPPED
    (link,) = study.state.chain
    assert study.state.experiments[link].merge_of == "e3"  # nothing is in its way any more
