"""How experiments ended, told event by event and told at once."""

from dataclasses import replace

import pytest

from cluster.state.events import Event, MergeRedundant, RetryRequested, WinnerDropped
from cluster.state.experiment import Status
from cluster.state.invariants import check
from eval.judge import Verdict
from eval.seeds import SeedHabit
from infra.facts.experiment_facts import score_of
from infra.facts.fates import Fate, all_ends, ends, ends_by
from tests.infra.study_factory import Study, chained, crashed, eventful, failed, rebased, scored
from trainer.trial import Ending, ExperimentId


def fates_of(study: Study) -> list[tuple[str, str]]:
    return [(end.experiment.id, end.fate.value) for end in all_ends(study.state)]


def accepted_late(*, is_redundant: bool) -> Study:
    """A winner was dropped, as its merge was suspect; then that is accepted."""
    study = Study()
    study.baseline(0.4)
    stale = study.win("patch", 0.3)
    other = study.keep("other", 0.35)
    merge = study.merge(stale)
    study.measure(merge, 0.2)
    study.doubt(merge)
    study.tell(WinnerDropped(experiment=stale, reason=f"merged as {merge}, which was suspect"))
    study.accept(merge)
    study.judge(merge, Verdict.KEEP)
    if is_redundant:
        study.tell(MergeRedundant(experiment=merge, against=other))
    else:
        study.promote(merge)
    return study


@pytest.mark.parametrize(
    ("events", "least"),
    [
        (eventful(), 20),
        ([r.event for r in chained().events], 8),
        ([r.event for r in rebased().events], 3),
        ([r.event for r in accepted_late(is_redundant=False).events], 5),
        ([r.event for r in accepted_late(is_redundant=True).events], 5),
    ],
)
def test_ends_seen_one_by_one_are_those_told_at_once(events: list[Event], least: int) -> None:
    study, seen = Study(slots=0), []
    for event in events[2:]:
        study.tell(event)
        found = ends_by(study.events[-1], study.state)
        seen += [(e.seq, e.experiment.id, e.status, e.fate, e.value, e.commit) for e in found]
    told = [
        (e.seq, e.experiment.id, e.status, e.fate, e.value, e.commit) for e in all_ends(study.state)
    ]
    assert len(told) > least
    assert told == seen


def test_every_terminal_status_has_a_fate() -> None:
    study = Study(slots=0)
    study.tell(*eventful()[2:])
    assert {end.status for end in all_ends(study.state)} == {s for s in Status if s.is_terminal}


def test_a_promotion_settles_the_winners_that_it_carries_before_itself() -> None:
    study = Study()
    study.baseline(0.4)
    stale = study.win("patch", 0.3)
    study.keep("other", 0.35)
    merge = study.merge(stale)
    study.measure(merge, 0.2)
    study.judge(merge, Verdict.KEEP)
    study.promote(merge)
    assert fates_of(study) == [("e0", "keep"), ("e2", "keep"), ("e1", "merged"), ("e3", "keep")]


@pytest.mark.parametrize("is_redundant", [False, True])
def test_a_dropped_winner_is_merged_once_its_merge_is_accepted(*, is_redundant: bool) -> None:
    study = accepted_late(is_redundant=is_redundant)
    last = "merged" if is_redundant else "keep"
    assert fates_of(study) == [
        ("e0", "keep"), ("e2", "keep"), ("e3", "discard"), ("e1", "discard"), ("e1", "merged"),
        ("e3", last),
    ]  # fmt: skip
    assert study.state.experiments[ExperimentId("e1")].reason.endswith("e3")
    check(study.state)


def test_a_chain_settles_its_winners_and_a_link_that_crashed_stays_a_crash() -> None:
    assert fates_of(chained()) == [
        ("e0", "keep"), ("e1", "keep"), ("e6", "crash"), ("e9", "discard"), ("e2", "merged"),
        ("e3", "merged"), ("e4", "merged"), ("e7", "keep"), ("e8", "keep"),
    ]  # fmt: skip


def test_what_went_back_before_it_ran_says_nothing_of_its_patch_also_once_it_is_retried() -> None:
    study = rebased()
    assert fates_of(study) == [("e0", "keep"), ("e1", "keep"), ("e4", "unknown"), ("e2", "keep")]
    study.tell(RetryRequested(experiment=ExperimentId("e4")))
    study.measure("e4", 0.5)
    study.judge("e4", Verdict.DISCARD)
    assert fates_of(study)[2:] == [("e4", "unknown"), ("e2", "keep"), ("e4", "discard")]


def test_a_promoted_experiment_that_is_merged_again_keeps_its_place() -> None:
    study = Study()
    study.baseline(0.4)
    early = study.keep("early", 0.35)
    better = study.win("better", 0.2, base="e0")
    study.promote(better, lacks=(early,))
    study.merge(early)
    assert fates_of(study) == [("e0", "keep"), ("e1", "keep"), ("e2", "keep")]


@pytest.mark.parametrize(
    ("ending", "fate"),
    [
        (Ending.CRASHED, Fate.CRASH),
        (Ending.TIMED_OUT, Fate.CRASH),
        (Ending.CANCELLED, Fate.UNKNOWN),
        (Ending.LOST, Fate.UNKNOWN),
    ],
)
def test_a_retry_leaves_the_earlier_end_as_it_was(ending: Ending, fate: Fate) -> None:
    study = Study()
    study.baseline(0.4)
    tried = study.propose("tried twice")
    study.start(tried)
    study.finish(tried, crashed() if ending is Ending.CRASHED else failed(ending))
    first = list(ends(study.state.experiments[tried]))
    study.tell(RetryRequested(experiment=tried))
    study.measure(tried, 0.5)
    found = list(ends(study.state.experiments[tried]))
    assert [(end.seq, end.fate, end.value) for end in found] == [(first[0].seq, fate, None)]


def test_what_was_suspect_is_a_discard_until_somebody_accepts_it() -> None:
    study = Study()
    study.baseline(0.4)
    honest = study.suspect("honest after all", 0.1)
    assert fates_of(study) == [("e0", "keep"), (honest, "discard")]
    study.accept(honest)
    assert fates_of(study) == [("e0", "keep"), (honest, "discard")]
    study.judge(honest, Verdict.KEEP)
    study.promote(honest)
    found = list(ends(study.state.experiments[honest]))
    assert [(end.status, end.fate, end.value) for end in found] == [
        (Status.SUSPECT, Fate.DISCARD, 0.1),
        (Status.KEPT, Fate.KEEP, 0.1),
    ]


def test_a_suspect_value_does_not_count_once_the_experiment_ran_again() -> None:
    study = Study()
    study.baseline(0.4)
    tried = study.suspect("a glitch", 0.0)
    study.tell(RetryRequested(experiment=tried))
    study.measure(tried, 0.0)
    study.doubt(tried)
    study.tell(RetryRequested(experiment=tried))
    study.measure(tried, 0.3)
    study.judge(tried, Verdict.DISCARD)
    found = list(ends(study.state.experiments[tried]))
    assert [(end.status, end.value) for end in found] == [
        (Status.SUSPECT, 0.0),
        (Status.SUSPECT, 0.0),
        (Status.DISCARDED, 0.3),
    ]


def test_the_score_of_an_end_is_of_one_device_class() -> None:
    study = Study()
    study.baseline(0.4)
    screened = study.propose("looks better on a small card")
    for device_class, value, verdict in (
        ("small", 0.1, Verdict.REPLICATE),
        ("large", 0.3, Verdict.REPLICATE),
        ("large", 0.32, Verdict.KEEP),
    ):
        study.start(screened)
        study.finish(screened, replace(scored(value), device_class=device_class))
        study.judge(screened, verdict)
    study.promote(screened)
    assert all_ends(study.state)[-1].value == score_of(study.state.incumbent) == 0.31


def test_the_score_of_an_end_is_on_no_seed_that_its_tree_chose() -> None:
    study = Study()
    study.baseline(0.4)
    lucky = study.propose("another seed", seeds=SeedHabit.TAKEN)
    study.measure(lucky, 0.1)
    study.judge(lucky, Verdict.REPLICATE)
    study.measure(lucky, 0.3)
    study.judge(lucky, Verdict.KEEP)
    study.promote(lucky)
    assert all_ends(study.state)[-1].value == score_of(study.state.incumbent) == 0.3
    worse = study.propose("one more", seeds=SeedHabit.TAKEN)
    study.measure(worse, 0.6)
    study.judge(worse, Verdict.DISCARD)
    assert all_ends(study.state)[-1].value == score_of(study.state.experiments[worse]) == 0.6
