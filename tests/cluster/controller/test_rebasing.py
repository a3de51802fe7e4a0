"""Rebases in a real repository: commit, ref, queue and constants, and crashes in between."""

import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from cluster.git.study_repository import StudyRepository
from cluster.ledger.ledger import InMemoryLedger, catch_up, load
from cluster.policy import commands as cmd
from cluster.policy.decisions import decide
from cluster.policy.study_plan import Circumstances, StudyPlan
from cluster.queue.trial_queue import InMemoryTrialQueue
from cluster.state.experiment import Experiment, Status
from cluster.state.invariants import check
from eval.judge import GreedyJudge
from proposer.constants import change, read_constants
from proposer.proposal import Context, Proposal, Scalar
from tests.cluster.bench import Bench, Script, ThreadFleet, bench, edited
from tests.cluster.repository_study import EDITABLE, RepositoryStudy
from tests.cluster.world import METRIC, scored
from tests.trainer.trials import cpu_slot
from trainer.git_command import GitCommand
from trainer.ports import Lease
from trainer.preflight import Preflight
from trainer.trial import CommitId, ExperimentId

SLOT = cpu_slot(node="n")

TRAIN = """\
LR = 0.1



DEPTH = 4



def step(x):
    return x



print('loss:', step(1))
"""
__all__ = ["bench"]  # the fixture


class Killed(BaseException):
    """The controller is gone, as by kill -9."""


class MortalRepository(StudyRepository):
    """Its process may be killed before a ref moves."""

    is_doomed = False

    def move_refs(self, candidates) -> None:
        if self.is_doomed and candidates:
            raise Killed
        super().move_refs(candidates)


class Study(RepositoryStudy):
    """Candidates of which one slot runs what is first in the queue."""

    repository: MortalRepository

    def __init__(self, home: Path, train: str = TRAIN) -> None:
        self.ledger = InMemoryLedger()
        self.queue = InMemoryTrialQueue(self.ledger)
        plan = StudyPlan(metric=METRIC, judge=GreedyJudge(metric=METRIC), proposers=(), slots=1)
        self.create(home, train, plan, MortalRepository)
        self.restart()
        self.settle()
        self.run("e0", 1.0)

    def preflight(self) -> Preflight:
        return Preflight(
            repository=self.repository.path, metric=METRIC, python=Path(sys.executable)
        )

    def decide(self) -> tuple[cmd.Command, ...]:
        return decide(self.state, self.plan, Circumstances(now=self.now))

    def settle(self) -> None:
        while commands := self.decide():
            for command in commands:
                self.performer.perform(command, self.state)
                self.state = catch_up(self.ledger, self.state)

    def context(self, base: str = "") -> Context:
        known = self.state.experiments.get(ExperimentId(base)) or self.state.incumbent
        assert known is not None
        commit = known.promoted or self.state.base_commit
        return Context(
            metric=METRIC,
            incumbent=known.id,
            incumbent_value=None,
            commit=commit,
            files=self.performer.files_at(commit),
        )

    def propose(self, *, base: str = "", author: str = "test", **values: Scalar) -> ExperimentId:
        """Propose values of constants, as the tuner does."""
        context = self.context(base)
        return self.enter(
            change(context.files, read_constants(context.files), values), author, base
        )

    def edit(self, old: str, new: str, *, base: str = "", author: str = "test") -> ExperimentId:
        text = self.context(base).files["train.py"].replace(old, new)
        return self.enter(Proposal(edits={"train.py": text}, hypothesis=new), author, base)

    def enter(self, proposal: Proposal, author: str, base: str) -> ExperimentId:
        name = self.state.next_experiment
        self.performer.propose(self.state, author, proposal, self.context(base))
        self.state = catch_up(self.ledger, self.state)
        assert name in self.state.experiments
        return name

    def lease(self) -> Lease:
        lease = self.queue.lease(SLOT, now=self.now, ttl_s=1e6)
        assert lease is not None
        return lease

    def run(self, name: str, value: float) -> CommitId:
        """Run what is first in the queue, and do all that follows; return what ran."""
        lease = self.lease()
        assert lease.spec.experiment == name
        assert self.queue.complete(SLOT, lease, scored(value), now=self.now)
        self.state = catch_up(self.ledger, self.state)
        self.settle()
        return lease.spec.commit

    def __getitem__(self, name: str) -> Experiment:
        return self.state.experiments[ExperimentId(name)]

    def ref(self, name: str) -> str:
        return self.repository.git.text("rev-parse", f"refs/incumbent/s/{name}").strip()

    def text(self, commit: str) -> str:
        return self.repository.read_files(CommitId(commit), EDITABLE)["train.py"]


@pytest.fixture
def study(tmp_path: Path) -> Iterator[Study]:
    made = Study(tmp_path)
    yield made
    assert load(made.ledger) == made.state
    check(made.state)


def test_a_candidate_that_waits_is_run_on_the_new_incumbent_under_its_own_name(
    study: Study,
) -> None:
    first, second = study.propose(LR=0.2), study.propose(DEPTH=8)
    study.settle()
    before = study[second]
    study.run(first, 0.9)
    after = study[second]
    assert study.text(after.commit) == TRAIN.replace("0.1", "0.2").replace("= 4", "= 8")
    assert (after.base, after.base_commit) == (first, study.state.incumbent_commit)
    assert study.ref(second) == after.commit
    parents = study.repository.git.text("log", "-1", "--format=%P", after.commit).split()
    assert parents == [study.state.incumbent_commit, before.commit]  # nothing is ever lost
    # The score is of exactly that tree, and promotes it without a merge.
    assert study.run(second, 0.8) == after.commit
    assert study.state.lineage == ("e0", first, second)
    assert study.repository.tree_of(study.state.incumbent_commit) == after.tree
    head = study.state.incumbent_commit
    told = study.repository.git.text("log", "-1", "--format=%(trailers:key=Trials)", head)
    assert told.strip() == f"Trials: {second}.1"  # the attempt that was withdrawn is none


def test_constants_are_told_as_the_new_tree_has_them(study: Study) -> None:
    first, second = study.propose(LR=0.2), study.propose(DEPTH=8)
    study.settle()
    study.run(first, 0.9)
    after = study[second]
    read = read_constants({"train.py": study.text(after.commit)})
    assert after.parameters == {name: knob.value for name, knob in read.items()}
    assert after.parameters == {"LR": 0.2, "DEPTH": 8}
    assert after.proposed_parameters == {"LR": 0.1, "DEPTH": 8}


def test_a_slot_that_is_faster_runs_the_old_tree_and_the_record_says_so(study: Study) -> None:
    first, second = study.propose(LR=0.2), study.propose(DEPTH=8)
    study.settle()
    before = study[second]
    lease = study.lease()
    assert study.queue.complete(SLOT, lease, scored(0.9), now=study.now)
    study.state = catch_up(study.ledger, study.state)
    while not (commands := [c for c in study.decide() if isinstance(c, cmd.Rebase)]):
        for command in study.decide():
            study.performer.perform(command, study.state)
            study.state = catch_up(study.ledger, study.state)
    running = study.lease()
    study.performer.perform(commands[0], study.state)
    study.state = catch_up(study.ledger, study.state)
    study.settle()
    assert running.spec.commit == before.commit == study[second].commit == study.ref(second)
    assert (study[second].status, study[second].base) == (Status.RUNNING, "e0")
    assert study.queue.complete(SLOT, running, scored(0.95), now=study.now)
    study.state = catch_up(study.ledger, study.state)
    study.settle()
    assert study[study[second].merged_as].merge_of == second
    assert study.state.lineage == ("e0", first)


def test_a_controller_that_dies_before_the_ref_moves_is_made_up_for(study: Study) -> None:
    first, second = study.propose(LR=0.2), study.propose(DEPTH=8)
    study.settle()
    before = study[second].commit
    study.repository.is_doomed = True
    with pytest.raises(Killed):
        study.run(first, 0.9)
    assert study.ref(second) == before
    study.repository.is_doomed = False
    study.restart()
    after = study[second].commit
    assert after != before
    assert study.ref(second) == after
    study.settle()
    assert study.run(second, 0.8) == after


def test_a_candidate_whose_ref_could_not_move_is_rejected_all_the_same(study: Study) -> None:
    """As where the disk is full: who goes on when there is room finds no event to be missing."""
    first, second = (
        study.edit("LR = 0.1", "RATE = 0.1"),
        study.edit("print('loss", "print(LR, 'loss"),
    )
    study.settle()
    study.repository.is_doomed = True
    with pytest.raises(Killed):
        study.run(first, 0.9)
    study.repository.is_doomed = False
    study.state = catch_up(study.ledger, study.state)
    assert study[second].status is Status.REJECTED
    study.performer.resume(study.state)
    assert study.ref(second) == study[second].commit


def test_a_controller_that_dies_before_the_ledger_knows_does_it_again(study: Study) -> None:
    first, second = study.propose(LR=0.2), study.propose(DEPTH=8)
    study.settle()
    study.run(first, 0.9)
    once = study[second]
    # What an earlier controller made and did not record: the same merge, an hour ago.
    study.repository.merge(
        incumbent=study.state.incumbent_commit,
        winner=once.commit,
        message="Rebase",
        editable=EDITABLE,
    )
    study.restart()
    study.settle()
    assert study[second] == once
    assert study.ref(second) == once.commit


def test_lines_that_both_changed_send_it_back_and_a_persons_runs_as_it_is(study: Study) -> None:
    first = study.propose(LR=0.2)
    second, third = study.propose(LR=0.3), study.propose(LR=0.4, author="user")
    study.settle()
    study.run(first, 0.9)
    assert study[second].status is Status.CANCELLED
    assert study[second].reason == f"stale: conflicts with {first} in train.py"
    stays = study[third]
    assert (stays.status, stays.base, stays.stays_beside) == (Status.QUEUED, "e0", first)
    assert study.run(third, 0.8) == stays.commit
    assert study.state.lineage == ("e0", third)  # it supersedes


NEIGHBOURS = TRAIN.replace("\n\n\n\n", "\n")


@pytest.fixture
def dense(tmp_path: Path) -> Iterator[Study]:
    """A study whose lines are all neighbours: git sees a conflict between any two changes."""
    made = Study(tmp_path, NEIGHBOURS)
    yield made
    assert load(made.ledger) == made.state
    check(made.state)


def test_constants_in_neighbouring_lines_are_rebased_by_value(dense: Study) -> None:
    first, second = dense.propose(LR=0.2), dense.propose(DEPTH=8)
    dense.settle()
    before = dense[second]
    dense.run(first, 0.9)
    after = dense[second]
    assert dense.text(after.commit) == NEIGHBOURS.replace("0.1", "0.2").replace("= 4", "= 8")
    assert dense.repository.tree_of(after.commit) == after.tree
    assert (after.base, after.lines) == (first, 5)
    told = dense.repository.git.text("log", "-1", "--format=%P%n%s%n%an", after.commit)
    assert told.splitlines() == [
        f"{dense.state.incumbent_commit} {before.commit}",
        f"Rebase {second} onto {first}: DEPTH 4 -> 8",
        "Incumbent",
    ]
    assert (after.parameters, after.proposed_parameters) == (
        {"LR": 0.2, "DEPTH": 8},
        {"LR": 0.1, "DEPTH": 8},
    )
    assert dense.run(second, 0.8) == after.commit
    assert dense.state.lineage == ("e0", first, second)


def test_what_was_rebased_by_value_is_rebased_so_again(dense: Study) -> None:
    first, second, third = (
        dense.propose(LR=0.2),
        dense.edit("DEPTH = 4", "DEPTH = 4\nWIDTH = 1"),
        dense.propose(DEPTH=8),
    )
    dense.settle()
    dense.run(first, 0.9)
    dense.run(second, 0.8)
    after = dense[third]
    assert dense.text(after.commit).startswith("LR = 0.2\nDEPTH = 8\nWIDTH = 1\ndef step")
    assert (after.rebased_from, after.lines) == (("e0", first), 6)
    assert after.parameters == {"LR": 0.2, "DEPTH": 8}  # as ever, what the proposal named
    assert dense.run(third, 0.7) == after.commit


def test_constants_beside_changed_code_are_rebased_whichever_side_turned_them(
    dense: Study,
) -> None:
    first = dense.edit("def step(x)", "def step(x, y=0)")
    second, third = dense.propose(DEPTH=8), dense.edit("LR = 0.1", "LR = 10 * 0.1")
    code = dense.edit("    return x", "    return x + 0")
    dense.settle()
    dense.run(first, 0.9)
    assert "DEPTH = 8\ndef step(x, y=0)" in dense.text(dense[second].commit)
    assert dense[code].reason == f"stale: conflicts with {first} in train.py"
    dense.run(second, 0.8)
    assert "LR = 10 * 0.1\nDEPTH = 8\ndef step(x, y=0)" in dense.text(dense[third].commit)


def test_neighbours_do_not_hide_what_is_a_conflict_or_there_already(dense: Study) -> None:
    first = dense.propose(LR=0.2, DEPTH=8)
    redundant, other = dense.propose(DEPTH=8), dense.propose(DEPTH=9)
    dense.settle()
    dense.run(first, 0.9)
    assert dense[redundant].reason == f"stale: what it changes is in {first} already"
    assert dense[other].reason == f"stale: conflicts with {first} in train.py"


def test_a_tree_that_is_known_already_is_not_measured_twice(study: Study) -> None:
    first = study.propose(LR=0.2, DEPTH=8)
    redundant = study.propose(DEPTH=8)
    study.settle()
    study.run(first, 0.9)
    assert study[redundant].reason == f"stale: what it changes is in {first} already"
    second = study.edit("return x", "return x + 1")
    late = study.edit("return x", "return x + 1", base="e0")
    study.settle()
    assert study[late].reason == f"stale: on {first} it is the same tree as {second}"
    assert {study[name].status for name in (redundant, late)} == {Status.CANCELLED}


def test_what_can_only_fail_on_the_new_incumbent_is_rejected(study: Study) -> None:
    first = study.edit("step(", "stride(")
    second = study.edit("DEPTH = 4", "DEPTH = 4\nDOUBLE = lambda: step(2)")
    study.settle()
    assert study[second].status is Status.QUEUED
    study.run(first, 0.9)
    rejected = study[second]
    assert rejected.status is Status.REJECTED
    assert rejected.reason == f"train.py:6: undefined name 'step' (rebased onto {first})"
    assert study.queue.depth().ready == 0


# --- with a real controller, server and mirror ----------------------------------------------------


class OneWaits(ThreadFleet):
    """Two slots: the first candidate wins while two others run and a fourth waits."""

    def hold(self, lease: Lease) -> None:
        awaited = {"e1": "e4.1/1/queued", "e2": "e4/rebased/", "e3": "e4/rebased/"}
        wanted = awaited.get(lease.spec.experiment)
        for _ in range(2000 if wanted else 0):
            if any(told.id.startswith(wanted) for told in self._bench.ledger.read(0)):
                return
            threading.Event().wait(0.01)


def test_a_study_brings_what_waits_onto_its_new_best_and_needs_no_merge_of_it(
    bench: Bench,
) -> None:
    script = Script([edited(A=3)], [edited(A=2)], [edited(A=4)], [edited(B=5)])
    controller = bench.controller(lambda b: OneWaits(b, 2), script, experiments=4)
    assert controller.run() == "4 experiments were judged"
    state = controller.state
    moved = state.experiments[ExperimentId("e4")]
    assert (moved.rebased_from, moved.status) == (("e0",), Status.KEPT)
    assert state.lineage == ("e0", "e1", "e4")
    assert not any(e.merge_of == moved.id for e in state.experiments.values())
    shown = bench.repository.git.text("show", f"{state.incumbent_commit}:train.py")
    assert shown == edited(A=3, B=5).strip()
    mirrored = GitCommand(bench.user).text("rev-parse", "refs/incumbent/s/e4")
    assert mirrored.strip() == moved.commit
