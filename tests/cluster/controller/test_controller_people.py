"""What people hand in, or put onto the branch, while a controller works."""

import subprocess
import threading

import pytest

from cluster.ledger.ledger import load
from cluster.state import events as ev
from cluster.state.experiment import Status
from tests.cluster.bench import START, Bench, Script, ThreadFleet, bench, edited
from trainer.ports import Lease
from trainer.trial import ExperimentId

__all__ = ["bench"]  # a fixture


def test_submissions_become_experiments_or_are_rejected_with_the_reason(bench: Bench) -> None:
    good = "--- a/train.py\n+++ b/train.py\n@@ -1,3 +1,3 @@\n-A = 1\n+A = 3\n \n \n"
    frozen = "--- a/prepare.py\n+++ b/prepare.py\n@@ -1 +1 @@\n-frozen\n+thawed\n"

    def submitted(name: str, **what: object) -> None:
        bench.ask(ev.SubmissionReceived(submission=name, hypothesis=name, **what))

    submitted("one", patch=good, priority=3)
    submitted("two", settings={"B": "5"})
    submitted("three", patch=frozen)
    submitted("four", settings={"C": "5"})
    submitted("five", settings={"A": "3"})
    controller = bench.controller(lambda b: ThreadFleet(b, 1))

    def stop_when_done() -> None:
        # e2 is kept, whether e1 was before or not; so is what merges e1 onto it.
        while (state := load(bench.ledger)).promotions < 2 or state.open or state.rejoining:
            threading.Event().wait(0.02)
        bench.ask(ev.StopRequested())

    threading.Thread(target=stop_when_done, daemon=True).start()
    assert controller.run() == "stopped"
    events = [recorded.event for recorded in bench.ledger.read(0)]
    proposed = {e.submission for e in events if isinstance(e, ev.ExperimentProposed)}
    rejected = {e.submission: e.reason for e in events if isinstance(e, ev.ProposalRejected)}
    assert proposed - {""} == {"one", "two"}
    assert "prepare.py" in rejected["three"]
    assert "C" in rejected["four"]
    assert rejected["five"] == "the same tree as e1"  # e1 has the higher priority
    assert "A = 3" in bench.head_text()
    assert "B = 5" in bench.head_text()


def test_a_submission_that_cannot_be_read_does_not_stand_in_the_way_of_others(
    bench: Bench,
) -> None:
    bench.ask(ev.SubmissionReceived(submission="gone", hypothesis="gone", branch="idea"))
    moved = bench.user.with_name("moved")
    bench.user.rename(moved)
    controller = bench.controller(lambda b: ThreadFleet(b, 1), Script([edited(A=3)]), experiments=1)
    assert controller.run() == "1 experiments were judged"
    assert controller.state.submissions == ()
    rejected = [e.event for e in bench.ledger.read(0) if isinstance(e.event, ev.ProposalRejected)]
    assert rejected[0].submission == "gone"
    moved.rename(bench.user)


def test_a_persons_commit_on_the_branch_is_measured_kept_and_built_upon(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("cluster.controller.controller.MIRROR_S", 0.0)

    def git(*args: str) -> str:
        who = ("-c", "user.name=a", "-c", "user.email=a@example.org")
        command = ["git", *who, *args]
        return subprocess.check_output(command, cwd=bench.user, text=True).strip()

    git("checkout", "-q", "-b", "incumbent/s")
    (bench.user / "train.py").write_text(START.replace("A = 1", "A = 3"))
    git("commit", "-q", "-a", "-m", "My own idea")
    tip = git("rev-parse", "HEAD")
    git("checkout", "-q", "--detach")

    class Waiting(ThreadFleet):
        def hold(self, lease: Lease) -> None:
            while lease.spec.experiment == "e1" and not any(map(is_waiting, bench.notices)):
                threading.Event().wait(0.01)

    def is_waiting(notice: str) -> bool:
        return "measured as e1: it stays there until that is judged" in notice

    controller = bench.controller(lambda b: Waiting(b, 1), Script())
    controller.run()
    e1 = controller.state.experiments[ExperimentId("e1")]
    assert (e1.hypothesis, e1.status) == ("My own idea", Status.KEPT)
    assert git("rev-parse", "refs/incumbent/s/person/e1") == tip
    assert git("rev-parse", "incumbent/s") == controller.state.incumbent_commit
    assert f"commit {tip[:10]} of branch incumbent/s is kept as " in bench.notices[-1]
