"""What proposers are shown is what the state says."""

from dataclasses import replace
from datetime import timedelta

import pytest

from cluster.controller.context_book import (
    MOST_REASON,
    ContextBook,
    guard_in_words,
    past_of,
    remaining,
)
from cluster.state import events as ev
from cluster.state import hidden_label_events as hidden
from cluster.state.experiment import Kind, Status
from cluster.state.state import ProposerAccount, StudyState
from cluster.state.transitions import apply
from eval.guard import Guard
from proposer import agent_files, prompt
from proposer.proposal import Past, Remaining
from proposer.purse import Usage
from tests.cluster.world import CRASHED, World, scored
from trainer.trial import ExperimentId, TrialId, number_of

START = World().now


def test_a_crash_is_told_with_the_end_of_its_traceback_within_bounds() -> None:
    world = World()
    world.settle()
    tail = "\n".join(f"\x1b[31mline {number}\x1b[0m" for number in range(500))
    baseline = world.state.experiments["e0"]
    trial = replace(baseline.trials[0], outcome=replace(CRASHED, tail=tail))
    crashed = replace(baseline, status=Status.CRASHED, reason="Boom", trials=(trial,))
    reason = past_of(crashed).reason
    assert reason.startswith("Boom\n")
    assert reason.endswith("line 499")
    assert "\x1b" not in reason
    assert len(reason) <= MOST_REASON


def test_what_is_open_is_pending_and_frozen_python_is_shown(make_repository, make_study) -> None:
    source = make_repository()
    source.commit({"prepare.py": "X = 1\n", "data.bin": "y"}, "Second")
    study = make_study(source=source)
    world = World(experiments=5)
    world.settle()
    state = replace(world.state, base_commit=study.base)
    world.plan = replace(world.plan, most_usd=3.0)
    book = ContextBook(study.repository, ("train.py",))
    shown = book.context(state, world.plan, commit=study.base, files={}, now=world.now)
    assert shown.frozen == {"prepare.py": "X = 1\n"}
    assert [each.experiment for each in shown.pending] == ["e0"]
    assert shown.remaining.usd == 3.0
    assert shown.remaining.experiments == 5


def test_what_is_left_of_each_limit_is_told_and_is_never_less_than_nothing() -> None:
    world = World()
    world.baseline(1.0)
    world.run(world.propose(), scored(2.0))
    account = ProposerAccount(usd=1.0, usage=Usage(input=300, output=100))
    state = replace(
        world.state, slot_seconds=1800.0, accounts=world.state.accounts.set("model", account)
    )
    assert remaining(state, world.plan, world.now) == Remaining()
    limits = {"most_experiments": 5, "most_hours": 2.0, "most_slot_hours": 1.5}
    plan = replace(world.plan, **limits, most_usd=3.0, most_tokens=1000)
    ran = timedelta(seconds=state.running_s(world.now))
    assert remaining(state, plan, world.now - ran + timedelta(minutes=30)) == Remaining(
        experiments=4, hours=1.5, gpu_hours=1.0, usd=2.0, tokens=600
    )
    used = {"most_experiments": 1, "most_hours": 0.1, "most_slot_hours": 0.1}
    plan = replace(world.plan, **used, most_usd=0.5, most_tokens=100)
    assert remaining(state, plan, world.now + timedelta(hours=1)) == Remaining(
        experiments=0, hours=0, gpu_hours=0, usd=0, tokens=0
    )


def test_a_guard_is_told_in_words() -> None:
    assert guard_in_words(Guard(name="mb", low=1, high=2e4)) == "mb at least 1 and at most 20000"
    assert guard_in_words(Guard(name="mb")) == ""


@pytest.mark.parametrize("with_patches", [False, True])
def test_reading_along_comes_to_what_reading_everything_does(make_study, with_patches) -> None:
    """Winners, a merge, a chain, a crash that is run again, a cancellation: after each event."""
    study = make_study()
    world = World(slots=4)
    world.baseline(1.0)
    one, two, three, four = (world.propose() for _ in range(4))
    world.settle()
    for each in (one, two, three, four):
        world.start(each)
    world.end(one, scored(0.9))
    world.settle()
    world.end(two, scored(0.8))
    world.end(three, CRASHED)
    world.end(four, scored(0.85))
    world.settle()
    for merge in [e.id for e in world.state.experiments.values() if e.kind is Kind.MERGE]:
        world.run(merge, scored(0.5))
    world.happen("again", ev.RetryRequested(experiment=three))
    world.happen("stranger", ev.CancelRequested(experiment=ExperimentId("e99")))
    world.happen("enough", ev.CancelRequested(experiment=world.propose()))
    world.settle()

    quick = ContextBook(study.repository, ("train.py",))
    state, told = StudyState(), set()
    quick.resume(state)
    for recorded in world.ledger.read(0):
        state = apply(state, recorded)
        quick.observe(recorded, state)
        slow = ContextBook(study.repository, ("train.py",))
        shown = [
            book.context(
                replace(state, base_commit=study.base),
                world.plan,
                commit=study.base,
                files={},
                now=world.now,
                with_patches=with_patches,
            ).history
            for book in (quick, slow)
        ]
        assert shown[0] == shown[1], recorded
        told |= {past.status for past in shown[0]}
    assert {"kept", "crashed", "cancelled"} <= told
    assert [past.experiment for past in shown[0]] == sorted(
        (past.experiment for past in shown[0]), key=number_of
    )


def test_an_event_about_several_has_only_those_told_anew_that_it_changed(make_study) -> None:
    study = make_study()
    world = World(slots=4)
    world.baseline(1.0)
    one, two = world.propose(), world.propose()
    world.settle()
    world.run(one, scored(1.5))
    world.run(two, scored(0.5))
    state = replace(world.state, base_commit=study.base)
    book = ContextBook(study.repository, ("train.py",))

    def shown() -> dict[str, Past]:
        told = book.context(state, world.plan, commit=study.base, files={}, now=world.now)
        return {past.experiment: past for past in told.history}

    before = shown()
    winner = replace(state.experiments[two], hypothesis="another")
    state = replace(state, seq=state.seq + 1, experiments=state.experiments.set(two, winner))
    promoted = next(
        r for r in world.ledger.read(0) if r.event.__class__ is ev.Promoted and r.seq > 2
    )
    book.observe(replace(promoted, seq=state.seq), state)
    after = shown()
    assert after[one] is before[one]
    assert after[two].hypothesis == "another"


def test_what_hidden_labels_say_changes_nothing_that_a_proposer_is_shown(make_study) -> None:
    """Neither the holdout's, scored at each promotion, nor the test's after a final run."""
    study = make_study()
    world = World()
    world.baseline(1.0)
    winner = world.propose()
    world.run(winner, scored(0.5))
    book = ContextBook(study.repository, ("train.py",))

    def shown() -> tuple[object, ...]:
        state = replace(world.state, base_commit=study.base)
        files = {"train.py": "LR = 1\n"}
        context = book.context(state, world.plan, commit=study.base, files=files, now=START)
        asked = prompt.render(context, tokens=50_000, count=3)
        return context, asked, agent_files.context_files(context)

    before = shown()
    about = {"experiment": winner, "commit": world.state.incumbent_commit}
    for event in (
        hidden.HoldoutScored(
            experiment=winner, trial=TrialId(f"{winner}.1"), validation=0.5, reported=0.8125
        ),
        hidden.HoldoutScored(
            experiment=winner, trial=TrialId(f"{winner}.1"), validation=0.5, problem="no rows"
        ),
        hidden.FinalBegun(final=1, **about, seeds=(1,), settings="{}"),
        hidden.FinalRunEnded(final=1, seed=1, outcome=scored(0.4375)),
        hidden.FinalReported(final=1, holdout=(0.8125,), test=(0.9375,), labels="0f", looks=1),
    ):
        world.happen(str(world.state.seq), event)
        assert shown() == before, event
    assert world.state.holdouts
    assert world.state.finals
