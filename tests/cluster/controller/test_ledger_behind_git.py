"""A ledger that has lost its latest events, by a power cut or as an older copy: git has not."""

import logging
from collections.abc import Iterator
from dataclasses import replace

import pytest

from cluster.git.code_outcomes import BranchMoved
from cluster.ledger.ledger import Fenced
from cluster.state import events as ev
from cluster.state.experiment import Status
from tests.cluster.by_hand import ByHand
from tests.cluster.controller.test_reducer_machine import (
    BestOfWaveMachine,
    OneAtATimeMachine,
    ReducerMachine,
)
from tests.cluster.reducer_study import MortalQueue
from tests.cluster.world import scored
from trainer.trial import ExperimentId, TrialId

E1 = ExperimentId("e1")


class Losing(ByHand):
    """A study whose ledger forgets."""

    def __init__(self, machine: ReducerMachine | None = None) -> None:
        super().__init__(machine or OneAtATimeMachine())

    def events(self) -> int:
        return len(self.machine.ledger.read(0, limit=10**6))

    def lose_all_since(self, events: int) -> None:
        """Begin again with a server that has the first few events and no queue."""
        machine = self.machine
        machine.ledger.lose(events)
        machine.queue = MortalQueue(machine.ledger)
        machine.leases.clear()
        machine.restart()

    def lose_the_end_of(self, name: ExperimentId) -> None:
        """Let nobody report on a trial that was on a slot."""
        lost = ev.TrialLost(trial=TrialId(f"{name}.1"), experiment=name, attempt=1, reason="power")
        self.machine.happen(lost)
        self.machine.settle()

    def ref(self, name: str) -> str:
        return self.machine.git("rev-parse", f"refs/incumbent/s/{name}")

    def lost(self) -> dict[str, str]:
        style = "--format=%(refname:lstrip=4) %(objectname)"
        lines = self.machine.git("for-each-ref", style, "refs/incumbent/s/lost/").splitlines()
        return dict(line.split() for line in lines)

    def log(self, style: str) -> list[str]:
        span = f"{self.machine.state.base_commit}..{self.machine.repository.branch_ref}"
        return self.machine.git("log", "--reverse", f"--format={style}", span).splitlines()


@pytest.fixture
def study() -> Iterator[Losing]:
    made = Losing()
    yield made
    machine = made.machine
    machine.the_state_is_sound()
    machine.ledger_and_branch_agree()
    machine.every_score_is_of_exactly_the_tree_on_record()
    machine.git("fsck", "--strict", "--no-dangling")
    machine.scratch.cleanup()


def test_a_promotion_that_the_ledger_lost_stays_below_the_next(study, caplog) -> None:
    e1 = study.propose(0)
    study.machine.begin(e1)
    before = study.events()
    assert study.score(e1, 0.5) is Status.KEPT
    lost = study.machine.state.incumbent_commit
    study.lose_all_since(before)
    assert study.lineage == ("e0",)
    study.lose_the_end_of(e1)
    assert study.score(e1, 1.5) is Status.DISCARDED
    with caplog.at_level(logging.WARNING, "incumbent"):
        assert study.score(study.propose(1), 0.4) is Status.KEPT
    assert f"the branch is at {lost[:10]}, of which the ledger knows nothing" in caplog.text
    assert study.lines() == {1: 2}, "it is what was measured, without e1"
    base = study.machine.state.base_commit
    trailers = "%(trailers:key=Experiment,valueonly,separator=)|%(trailers:key=Replaces,separator=)"
    assert study.log(trailers) == ["e1|", f"e2|Replaces: {base}"]
    caplog.clear()
    study.keep(2, 0.3)
    assert study.log(trailers)[2:] == ["e3|"]
    assert not caplog.records
    assert study.lost() == {}
    study.machine.git_alone_tells_of_the_branch()


def test_a_winner_that_the_ledger_lost_and_that_wins_again_is_on_the_branch(study) -> None:
    e1 = study.propose(0)
    study.machine.begin(e1)
    before = study.events()
    study.score(e1, 0.5)
    promoted = study.machine.state.incumbent_commit
    study.lose_all_since(before)
    study.lose_the_end_of(e1)
    assert study.score(e1, 0.6) is Status.KEPT
    assert study.machine.state.incumbent_commit == promoted


def test_two_promotions_that_the_ledger_lost_are_not_taken_for_a_chain() -> None:
    study = Losing(BestOfWaveMachine())
    e1, e2 = study.propose(0), study.propose(1)
    study.machine.begin()
    before = study.events()
    assert (study.score(e1, 0.5), study.score(e2, 0.3)) == (Status.KEPT, Status.KEPT)
    study.lose_all_since(before)
    study.lose_the_end_of(e1)
    study.lose_the_end_of(e2)
    while study[e1].status is Status.QUEUED:
        study.score(e1, 1.5)
    assert (study[e1].status, study.score(e2, 0.4)) == (Status.DISCARDED, Status.KEPT)
    assert study["e1"].promoted == ""
    assert study.lines() == {1: 2}
    study.machine.the_state_is_sound()
    study.machine.ledger_and_branch_agree()
    study.machine.scratch.cleanup()


def test_what_had_a_number_that_is_given_out_again_is_kept(study) -> None:
    before = study.events()
    old = {study.keep(0, 0.5): study.ref("e1"), study.keep(1, 0.3): study.ref("e2")}
    study.lose_all_since(before)
    assert study.propose(3) == E1
    assert study.ref("e1") == study["e1"].commit
    assert study.lost() == {f"e1-{old[E1][:12]}": old[E1]}
    assert study.score(E1, 0.4) is Status.KEPT
    assert study.lines() == {3: 3}
    assert len(study.log("%H")) == 3
    study.keep(4, 0.2)
    assert set(study.lost().values()) == set(old.values())
    study.machine.git_alone_tells_of_the_branch()


@pytest.mark.parametrize("fuse", range(8))
def test_a_death_while_the_branch_is_ahead_puts_nothing_on_it_twice(study, fuse: int) -> None:
    before = study.events()
    study.keep(0, 0.5)
    study.lose_all_since(before)
    name = study.propose(3)
    study.machine.ledger.fuse = fuse
    assert study.score(name, 0.4) is Status.KEPT
    study.machine.ledger.fuse = -1
    assert len(study.log("%H")) == 2


def test_a_controller_whose_epoch_is_over_puts_nothing_above_anothers(study) -> None:
    before = study.events()
    study.keep(0, 0.5)
    head = study.machine.state.incumbent_commit
    study.lose_all_since(before)
    name = study.propose(3)
    study.machine.ledger.begin_epoch()
    with pytest.raises(Fenced):
        study.score(name, 0.4)
    assert study.machine.git("rev-parse", study.machine.repository.branch_ref) == head
    study.machine.restart()
    study.machine.settle()


def test_a_branch_that_somebody_moved_elsewhere_is_an_error(study) -> None:
    machine = study.machine
    study.keep(0, 0.5)
    name, head = study.propose(1), machine.state.incumbent_commit
    machine.git("update-ref", machine.repository.branch_ref, machine.state.base_commit)
    with pytest.raises(BranchMoved):
        study.score(name, 0.3)
    machine.git("update-ref", machine.repository.branch_ref, head)
    machine.restart()
    machine.settle()


def test_a_chain_that_the_ledger_lost_stays_below_another() -> None:
    study = ByHand(ReducerMachine())
    machine = study.machine
    before = len(machine.ledger.read(0, limit=10**6))
    machine.propose([0, 1, 2])
    machine.begin()
    for name in ("e1", "e2", "e3"):
        machine.complete(ExperimentId(name), scored(0.5))
    machine.settle()
    while machine.on_the_way():
        machine.end_trial(machine.on_the_way()[0], scored(0.3))
    assert len(study.lineage) > 1
    machine.ledger.lose(before)
    machine.queue = MortalQueue(machine.ledger)
    machine.leases.clear()
    machine.restart()
    machine.propose([3, 4])
    machine.begin()
    for name in ("e1", "e2"):
        machine.complete(ExperimentId(name), scored(0.5))
    machine.settle()
    while machine.on_the_way():
        machine.end_trial(machine.on_the_way()[0], scored(0.3))
    assert study.lines().keys() == {3, 4}
    machine.the_state_is_sound()
    machine.ledger_and_branch_agree()
    machine.scratch.cleanup()


def test_refs_follow_a_ledger_that_lost_a_rebase() -> None:
    study = Losing()
    machine = study.machine
    machine.plan = replace(machine.plan, max_staleness=3)
    e1, e2 = study.propose(0), study.propose(1)
    machine.begin(e1)
    before, old = study.events(), study[e2].commit
    assert study.score(e1, 0.5) is Status.KEPT
    rebased = study[e2].commit
    assert rebased != old
    study.lose_all_since(before)
    assert study[e2].commit == old == study.ref(e2)
    assert study.lost() == {f"{e2}-{rebased[:12]}": rebased}
    machine.scratch.cleanup()
