"""What preflight rejects: on paper, and in a study with a real ledger, queue and repository."""

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from cluster.ledger.ledger import load
from cluster.policy.proposal_planning import MOST_REJECTIONS
from cluster.state import events as ev
from cluster.state.experiment import Kind, Status
from infra.facts.submission_fate import SubmissionFates
from proposer.proposal import Context
from tests.cluster.bench import (
    METRIC,
    START,
    Bench,
    Script,
    ThreadFleet,
    bench,
    edited,
)
from tests.cluster.world import World, scored
from trainer.preflight import Preflight
from trainer.trial import ExperimentId

__all__ = ["bench"]  # the fixture


@pytest.fixture
def world() -> Iterator[World]:
    """A study whose state is verified after the test."""
    made = World()
    yield made
    made.verify()


def test_what_preflight_rejects_costs_no_slot_and_no_limit(world: World) -> None:
    world.baseline()
    rejected = world.reject()
    world.settle()
    record = world.state.experiments[rejected]
    assert record.status is Status.REJECTED
    assert (record.trials, record.score, record.reason) == ((), None, "train.py:1: a typo")
    assert [name for _, name in record.story] == ["ExperimentProposed", "ExperimentRejected"]
    assert world.state.judged == 0
    assert not world.state.open


def test_what_preflight_rejected_runs_where_a_person_retries_it(world: World) -> None:
    world.baseline()
    rejected = world.reject()
    world.happen("retry", ev.RetryRequested(experiment=rejected))
    assert world.run(rejected, scored(0.5)) is Status.KEPT
    assert world.state.judged == 1


def test_a_merge_that_preflight_rejects_drops_its_winner(world: World) -> None:
    world.baseline()
    first, second = world.propose(), world.propose()
    world.settle()
    world.start(first)
    world.start(second, "cpu-1")
    world.end(first, scored(0.5))
    world.settle()
    world.end(second, scored(0.6))
    for _ in ("judge", "merge"):
        (command,) = world.decide()
        world.perform(command)
    (merge,) = [e for e in world.state.experiments.values() if e.merge_of == second]
    rejected = ev.ExperimentRejected(experiment=merge.id, reason="train.py:1: undefined name 'x'")
    world.happen("rejected", rejected)
    world.settle()
    assert world.status(second) is Status.DROPPED
    assert world.state.rejections_in_a_row == 0
    assert not world.state.open


def test_proposers_that_bring_nothing_that_could_run_end_the_study() -> None:
    world = World(slots=1, proposers=("script",))
    world.baseline()
    for _ in range(MOST_REJECTIONS - 1):
        world.reject()
    assert world.status(world.propose()) is Status.PROPOSED
    world.run(ExperimentId("e200"), scored(2.0))
    assert world.state.rejections_in_a_row == 0
    for _ in range(MOST_REJECTIONS):
        world.reject()
    world.asked = 0
    world.settle()
    assert "200 proposals in a row were rejected" in world.state.finished


# --- with a real ledger, queue and repository -----------------------------------------------------


def preflight(bench: Bench) -> Preflight:
    return Preflight(repository=bench.repository.path, metric=METRIC, python=Path(sys.executable))


def results(script: Script) -> dict[str, tuple[str, str, float | None]]:
    contexts: list[Context] = script.contexts
    return {r.experiment: (r.status, r.reason, r.value) for c in contexts for r in c.results}


def queued(bench: Bench) -> set[str]:
    events = (recorded.event for recorded in bench.ledger.read(0))
    return {event.experiment for event in events if isinstance(event, ev.TrialQueued)}


def test_a_proposer_gets_its_rejected_candidate_back_and_no_slot_ever_sees_it(
    bench: Bench,
) -> None:
    typo, broken = edited(A=2) + "print(modle)\n", "A = (1\nB = 1\n"
    script = Script([typo], [broken], [edited(A=3)], [typo], [edited(B=9)])
    controller = bench.controller(
        lambda b: ThreadFleet(b, 1), script, experiments=2, preflight=preflight(bench)
    )
    assert controller.run() == "2 experiments were judged"
    said = results(script)
    assert said["e1"] == ("rejected", "train.py:8: undefined name 'modle'", None)
    assert said["e2"] == ("rejected", "train.py:1: syntax error: '(' was never closed", None)
    assert queued(bench) == {"e0", "e3", "e4"}
    # Its commit is kept, and the same tree is not looked at twice.
    record = controller.state.experiments[ExperimentId("e1")]
    shown = bench.repository.git.text("show", f"refs/incumbent/s/{record.id}:train.py")
    assert shown == typo.strip()
    refused = [e.event for e in bench.ledger.read(0) if isinstance(e.event, ev.ProposalRejected)]
    assert [event.reason for event in refused] == ["the same tree as e1"]


def test_a_restarted_proposer_is_shown_what_was_rejected(bench: Bench) -> None:
    first = Script([edited(A=2) + "modle\n"], [edited(A=3)])
    check = preflight(bench)
    bench.controller(lambda b: ThreadFleet(b, 1), first, experiments=1, preflight=check).run()
    second = Script([edited(A=4)])
    bench.controller(lambda b: ThreadFleet(b, 1), second, experiments=2, preflight=check).run()
    assert results(second)["e1"][:2] == ("rejected", "train.py:8: undefined name 'modle'")


def test_a_submission_with_a_typo_is_rejected_too(bench: Bench) -> None:
    patch = "--- a/train.py\n+++ b/train.py\n@@ -5,3 +5,4 @@\n \n \n B = 1\n+print(modle)\n"
    before = load(bench.ledger)
    bench.ask(ev.SubmissionReceived(submission="mine", hypothesis="mine", patch=patch))
    script = Script([edited(A=3)])
    bench.controller(
        lambda b: ThreadFleet(b, 1), script, experiments=1, preflight=preflight(bench)
    ).run()
    fates = SubmissionFates(["mine"], before)
    fates.read(bench.ledger)
    assert fates.are_known()
    (fact,) = fates.facts().values()
    assert fact["status"] == "rejected"
    assert fact["reason"] == "train.py:8: undefined name 'modle'"


def test_a_merge_of_patches_that_only_run_apart_is_rejected(bench: Bench) -> None:
    """`global` may stand at module level, but not where the name was assigned before."""
    one = START.replace("A = 1\n", "A = 3\nC = 1\n")
    other = START.replace("B = 1\n", "B = 5\nglobal C\n")
    controller = bench.controller(
        lambda b: ThreadFleet(b, 2, together=2),
        Script([one, other]),
        experiments=2,
        preflight=preflight(bench),
    )
    controller.run()
    (merge,) = [e for e in controller.state.experiments.values() if e.kind is Kind.MERGE]
    assert merge.status is Status.REJECTED
    error = "name 'C' is assigned to before global declaration"
    assert merge.reason == f"train.py:9: syntax error: {error}"
    assert merge.id not in queued(bench)
