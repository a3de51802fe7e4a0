"""Final runs as a fold: what is carried on, what counts as a look, and what was scored."""

from dataclasses import replace

from cluster.state import hidden_label_events as hidden
from cluster.state.final_runs import looks, to_carry_on
from tests.infra.study_factory import Study, crashed, final_begun, scored


def final_study() -> Study:
    study = Study()
    study.baseline(0.4)
    return study


def ended(seed: int, value: float | None = None) -> hidden.FinalRunEnded:
    outcome = crashed() if value is None else scored(value)
    return hidden.FinalRunEnded(final=1, seed=seed, outcome=outcome)


def test_what_was_broken_off_is_carried_on_if_the_same_is_asked_for() -> None:
    study = final_study()
    begun = final_begun(study)
    study.tell(begun, ended(1, 0.3))
    asked = final_begun(study)
    assert asked.final == 2
    found = to_carry_on(study.state.finals, asked)
    assert found is not None
    assert (found.begun, list(found.scored())) == (begun, [1])
    assert to_carry_on(study.state.finals, replace(asked, settings='{"budget_s": 9}')) is None
    assert to_carry_on(study.state.finals, final_begun(study, seeds=3)) is None


def test_what_was_reported_is_over() -> None:
    study = final_study()
    study.tell(final_begun(study), ended(1, 0.3), ended(2, 0.3), hidden.FinalReported(final=1))
    assert to_carry_on(study.state.finals, final_begun(study)) is None


def test_a_training_that_failed_and_was_scored_later_counts_once() -> None:
    study = final_study()
    study.tell(final_begun(study), ended(2), ended(1, 0.3))
    [final] = study.state.finals
    assert [run.seed for run in final.failed()] == [2]
    study.tell(ended(2, 0.2), ended(2, 0.2))  # told twice: the first answer was lost
    [final] = study.state.finals
    assert final.values() == (0.3, 0.2)
    assert final.failed() == ()


def test_only_a_report_with_scores_by_these_labels_is_a_look_at_them() -> None:
    study = final_study()
    reports = (
        hidden.FinalReported(final=1, test=(0.3,), labels="aa", looks=1),
        hidden.FinalReported(final=2, labels="aa", problem="test.npy holds NaN"),
        hidden.FinalReported(final=3, test=(0.3,), labels="bb", looks=1),
    )
    for report in reports:
        study.tell(final_begun(study), report)
    study.tell(final_begun(study))
    assert looks(study.state.finals, "aa") == 1
    assert looks(study.state.finals, "cc") == 0


def test_a_look_that_a_tag_alone_tells_of_may_have_been_at_any_labels() -> None:
    study = final_study()
    by_tag = hidden.FinalReported(final=1, looks=1, problem="what it scored is in its tag")
    study.tell(final_begun(study), by_tag)
    again = hidden.FinalReported(final=2, test=(0.3,), labels="aa", looks=2)
    study.tell(final_begun(study), again)
    assert [looks(study.state.finals, labels) for labels in ("aa", "bb")] == [2, 1]


def test_the_study_itself_is_as_before() -> None:
    study = final_study()
    before = study.state
    study.tell(final_begun(study), ended(1, 0.1))
    after = replace(study.state, finals=(), seq=before.seq, heard_at=before.heard_at)
    assert after == before
