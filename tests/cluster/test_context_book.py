"""What proposers are shown is what the state says."""

from dataclasses import replace

from cluster.context_book import MOST_REASON, ContextBook, guard_in_words, past_of
from cluster.experiment import Status
from eval.guard import Guard
from tests.cluster.world import CRASHED, World


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


def test_a_guard_is_told_in_words() -> None:
    assert guard_in_words(Guard(name="mb", low=1, high=2e4)) == "mb at least 1 and at most 20000"
    assert guard_in_words(Guard(name="mb")) == ""
