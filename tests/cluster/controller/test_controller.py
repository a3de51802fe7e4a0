"""The controller over a real server and real git: proposals, winners, and how a study ends."""

import re
import subprocess
import threading
from collections.abc import Callable, Sequence
from typing import Any

import pytest

from cluster.controller import controller as controller_module
from cluster.controller.ports import FleetProblem
from cluster.git.mirror import Mirror, MirrorState
from cluster.ledger.ledger import load
from cluster.policy import commands as cmd
from cluster.policy.decisions import decide
from cluster.queue.queue_mode import QueueMode
from cluster.queue.redis_queue import RedisTrialQueue
from cluster.state import events as ev
from cluster.state.experiment import Status
from cluster.state.state import StudyState
from proposer.proposal import Context, Proposal
from tests.cluster.bench import (
    START,
    Bench,
    Script,
    ThreadFleet,
    bench,
    edited,
    statuses,
)
from trainer.ports import Lease

__all__ = ["bench"]  # a fixture


def test_two_winners_of_one_wave_end_stacked_on_the_branch(bench: Bench) -> None:
    script = Script([edited(A=3), edited(B=5)])
    controller = bench.controller(
        lambda b: ThreadFleet(b, 2, together=2), script, experiments=2, max_staleness=0
    )
    assert controller.run() == "2 experiments were judged"
    text = bench.head_text()
    assert "A = 3" in text
    assert "B = 5" in text
    state = controller.state
    # The second is merged onto the first; or supersedes it, and the first rejoins by a merge.
    ends = sorted(statuses(state).values())
    assert ends in (sorted([Status.KEPT] * 3 + [Status.MERGED]), [Status.KEPT] * 4)
    merge = state.incumbent
    assert merge is not None
    assert merge.score is not None
    assert merge.score.mean == 0.0
    assert bench.repository.tree_of(state.incumbent_commit) == merge.tree


def test_winners_that_change_the_same_line_conflict_and_both_are_named(bench: Bench) -> None:
    script = Script([edited(A=3), edited(A=2)])
    controller = bench.controller(lambda b: ThreadFleet(b, 2, together=2), script, experiments=2)
    controller.run()
    state = controller.state
    conflicted = [e for e in state.experiments.values() if e.status is Status.CONFLICTED]
    superseded = [e for e in state.experiments.values() if e.id not in state.lineage]
    # Whichever came first: the better one ends on the branch, the other is told why it did not.
    assert "A = 3" in bench.head_text()
    assert conflicted or superseded
    for experiment in conflicted:
        assert re.fullmatch(r"conflicts with e\d in train\.py", experiment.reason)


class Generous(Script):
    """Hands in all that it has, whatever it was asked for, as models do."""

    def propose(self, context: Context, count: int) -> Sequence[Proposal]:
        return super().propose(context, 99)


def test_more_proposals_than_asked_for_do_not_exceed_the_limit(bench: Bench) -> None:
    script = Generous([edited(A=a) for a in range(2, 9)])
    controller = bench.controller(lambda b: ThreadFleet(b, 1), script, experiments=2)
    controller.run()
    assert controller.state.judged == 2
    assert len(controller.state.experiments) == 3


def test_the_first_of_an_answer_can_run_before_the_last_is_an_experiment(bench: Bench) -> None:
    script = Generous([edited(A=a) for a in range(2, 5)])
    bench.controller(lambda b: ThreadFleet(b, 1), script, experiments=3).run()
    told = [recorded.event for recorded in bench.ledger.read(0)]
    about = [e for e in told if isinstance(e, ev.ExperimentProposed | ev.TrialQueued)]
    names = [f"{type(e).__name__} {e.experiment}" for e in about]
    assert names[2:5] == ["ExperimentProposed e1", "TrialQueued e1", "ExperimentProposed e2"]


def test_no_trial_of_an_answer_is_queued_while_the_study_is_paused(bench: Bench) -> None:
    class Pausing(Generous):
        def propose(self, context: Context, count: int) -> Sequence[Proposal]:
            bench.ask(ev.PauseRequested())
            return super().propose(context, count)

    class Stopping(ThreadFleet):
        def check(self) -> Sequence[FleetProblem]:
            if "e2" in load(bench.ledger).experiments:
                bench.ask(ev.StopRequested())
            return super().check()

    script = Pausing([edited(A=2), edited(A=4)])
    controller = bench.controller(lambda b: Stopping(b, 1), script)
    assert controller.run() == "stopped"
    assert statuses(controller.state) == {
        "e0": Status.KEPT,
        "e1": Status.PROPOSED,
        "e2": Status.PROPOSED,
    }


@pytest.mark.parametrize("now", [False, True])
def test_a_trial_that_ends_just_as_a_stop_is_complete_is_judged_and_promoted(
    bench: Bench, monkeypatch: pytest.MonkeyPatch, *, now: bool
) -> None:
    """What mirroring reads, the round that mirrors has not decided upon."""

    class Stopping(ThreadFleet):
        def hold(self, lease: Lease) -> None:
            if lease.spec.experiment == "e1":
                until(lambda state: state.count(Status.QUEUED))  # e2, which is to stay so
                bench.ask(ev.StopRequested(now=now))
                assert is_mirroring.wait(30)

    def until(holds: Callable[[StudyState], Any]) -> None:
        for _ in range(3000):
            if holds(load(bench.ledger)):
                return
            threading.Event().wait(0.01)
        raise AssertionError("it never came to that")

    def sync(mirror: Mirror, *args: Any, **kwargs: Any) -> MirrorState:
        if queue.mode() is QueueMode.DRAINING and not is_mirroring.is_set():
            is_mirroring.set()
            until(lambda state: state.count(Status.MEASURED))
        return real(mirror, *args, **kwargs)

    queue = RedisTrialQueue(bench.store())
    is_mirroring, real = threading.Event(), Mirror.sync
    monkeypatch.setattr(Mirror, "sync", sync)
    monkeypatch.setattr(controller_module, "MIRROR_S", 0.0)
    controller = bench.controller(lambda b: Stopping(b, 1), Generous([edited(A=3), edited(A=9)]))
    assert controller.run() == "stopped"
    assert controller.state.lineage == ("e0", "e1")
    assert bench.branch()[0] == "A = 3 # between B = 1"
    assert controller.state.experiments["e2"].status is Status.QUEUED


def test_identical_trees_are_refused_before_they_cost_anything(bench: Bench) -> None:
    script = Script([edited(A=2)], [edited(A=2)], [START], [edited(A=3)])
    controller = bench.controller(lambda b: ThreadFleet(b, 1), script, experiments=2)
    controller.run()
    state = controller.state
    assert len({e.tree for e in state.experiments.values()}) == len(state.experiments)
    rejected = [r.event for r in bench.ledger.read(0) if isinstance(r.event, ev.ProposalRejected)]
    assert [(event.reason, event.duplicate_of) for event in rejected][:1] == [
        ("the same tree as e1", "e1")
    ]


def test_what_differs_in_comments_or_form_alone_is_refused_by_the_name_of_its_twin(
    bench: Bench,
) -> None:
    two = edited(A=2)
    script = Script([two], [f"{two}# bolder\n"], [START.replace("\n\n\n", "\n")], [edited(A=3)])
    bench.controller(lambda b: ThreadFleet(b, 1), script, experiments=2).run()
    told = [recorded.event for recorded in bench.ledger.read(0)]
    refused = [event for event in told if isinstance(event, ev.ProposalRejected)]
    assert [(event.reason, event.duplicate_of) for event in refused] == [
        (f"the same code as {twin} but for comments or formatting", twin) for twin in ("e1", "e0")
    ]
    begun = [event.experiment for event in told if isinstance(event, ev.ExperimentProposed)]
    assert begun == ["e0", "e1", "e2"]


def test_a_proposer_sees_each_result_once_and_failures_too(bench: Bench) -> None:
    script = Script([edited(A=2)], ["A = 1\n"], [edited(A=9)])
    # None is merged onto e1, with which all of them conflict, while it waits.
    controller = bench.controller(
        lambda b: ThreadFleet(b, 1), script, experiments=3, max_staleness=0
    )
    controller.run()
    seen = [result for context in script.contexts for result in context.results]
    assert len({result.experiment for result in seen}) == len(seen)
    again = Script([edited(A=7)])
    bench.controller(lambda b: ThreadFleet(b, 1), again, experiments=4).run()
    shown = {r.experiment: r for context in again.contexts for r in context.results}
    assert {"e0", "e1", "e2", "e3"} <= set(shown)
    assert shown["e2"].value is None
    assert shown["e2"].status == "crashed"
    assert shown["e1"].value == 5.0


def test_the_queue_is_open_again_before_the_next_workers_ask_it(bench: Bench) -> None:
    class Watched(ThreadFleet):
        def start(self) -> None:
            modes.append(RedisTrialQueue(bench.store()).mode())
            super().start()

    modes: list[QueueMode] = []
    for experiments in (1, 2):
        script = Script([edited(A=2 + experiments)])
        bench.controller(lambda b: Watched(b, 1), script, experiments=experiments).run()
        assert RedisTrialQueue(bench.store()).mode() is QueueMode.DRAINING
    assert modes == [QueueMode.OPEN, QueueMode.OPEN]


def test_a_proposer_that_fails_or_runs_dry_ends_the_study_with_its_reason(bench: Bench) -> None:
    class Broken(Script):
        def propose(self, context: Context, count: int) -> Sequence[Proposal]:
            raise RuntimeError("no more money")

    controller = bench.controller(lambda b: ThreadFleet(b, 1), Broken())
    assert "script: RuntimeError: no more money" in controller.run()


def test_a_baseline_that_crashes_ends_the_study_and_nothing_is_searched(bench: Bench) -> None:
    script = Script([edited(A=3)])
    broken = bench.repository.commit_edits(
        base=bench.base, edits={"train.py": "x\n"}, editable=["train.py"], message="m", author="a"
    )
    started = ev.StudyStarted(study="s", base_commit=broken.commit, metric="loss", goal="minimize")
    bench.ask(started)
    controller = bench.controller(lambda b: ThreadFleet(b, 1), script)
    assert controller.run() == "the baseline crashed: NameError"
    assert controller.state.is_failed
    assert controller.state.counts.get("discarded", 0) == 0


def test_the_mirror_waits_while_the_branch_is_checked_out_and_says_so(bench: Bench) -> None:
    subprocess.run(["git", "branch", "incumbent/s"], cwd=bench.user, check=True)
    subprocess.run(["git", "checkout", "-q", "incumbent/s"], cwd=bench.user, check=True)
    before = subprocess.check_output(["git", "rev-parse", "HEAD"], cwd=bench.user)
    controller = bench.controller(lambda b: ThreadFleet(b, 1), Script([edited(A=3)]), experiments=1)
    controller.run()
    assert subprocess.check_output(["git", "rev-parse", "HEAD"], cwd=bench.user) == before
    assert "incumbent/s" in bench.notices[-1]
    assert bench.branch()[0] == "A = 3 # between B = 1"


def test_workers_live_until_what_they_still_send_has_been_waited_for(bench: Bench) -> None:
    class Watched(ThreadFleet):
        def shutdown(self) -> None:
            told.append("shutdown")
            super().shutdown()

    def finish(look: Callable[[], StudyState]) -> None:
        bench.ask(ev.StopRequested(now=True))
        told.append(look().stopping)

    told: list[str] = []
    controller = bench.controller(
        lambda b: Watched(b, 1), Script([edited(A=3)]), experiments=1, finish=finish
    )
    controller.run()
    assert told == ["now", "shutdown"]
    last = bench.ledger.read(0)[-1].event
    assert isinstance(last, ev.ControllerStopped)


def test_what_is_decided_again_and_again_holds_nothing_up(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A command that was performed before changes nothing of what it was decided upon."""
    queued: list[tuple[cmd.Command, ...]] = []

    def decide_the_same(*args: Any) -> tuple[cmd.Command, ...]:
        assert len(queued) < 20, "it spins"
        commands = queued[0] if queued else decide(*args)
        if any(isinstance(command, cmd.QueueTrial) for command in commands):
            queued.append(commands)
        return commands

    controller = bench.controller(lambda b: ThreadFleet(b, 0), Script())
    monkeypatch.setattr(controller_module, "decide", decide_the_same)
    controller.step()
    assert len(queued) == 2  # the first was news
    controller.step()
    assert len(queued) == 3
