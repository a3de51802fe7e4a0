"""What a final run is told as: side by side, with errors, and how often the labels were seen."""

from cluster.state import hidden_label_events as hidden
from infra.facts.facts import status_facts
from infra.facts.final_facts import final_facts, final_lines, final_words, tag_message
from tests.infra.study_factory import Study, believed, final_begun, scored


def reported(report: hidden.FinalReported, *, seeds: int = 2) -> Study:
    study = believed()
    study.tell(final_begun(study, seeds=seeds))
    for seed in range(1, seeds + 1):
        outcome = scored(0.3 + 0.01 * seed)
        study.tell(hidden.FinalRunEnded(final=1, seed=seed, outcome=outcome))
    study.tell(report)
    return study


def lines(study: Study) -> str:
    return "\n".join(final_lines(final_facts(study.state, study.state.finals[0]), "val_loss"))


def test_everything_stands_side_by_side_with_its_error() -> None:
    study = reported(
        hidden.FinalReported(final=1, holdout=(0.33, 0.35), test=(0.36, 0.4), labels="aa", looks=2)
    )
    told = lines(study)
    head, base, search, final = (line.split("  ") for line in told.splitlines()[1:5])
    assert [cell.strip() for cell in head if cell] == ["validation", "holdout", "test"]
    assert "0.4 ± 0.023 (3)" in base
    assert "0.3 ± 0.04 (1)" in search, "of one run the error is the noise of the study's"
    assert [cell.strip() for cell in final if cell] == [
        "final-1",
        "0.315 ± 0.005 (2)",
        "0.34 ± 0.01 (2)",
        "0.38 ± 0.02 (2)",
    ]
    assert "the test labels were looked at 2 times, now included" in told


def test_without_labels_it_says_that_what_was_printed_is_all() -> None:
    told = lines(reported(hidden.FinalReported(final=1), seeds=1))
    assert "without [final] labels, what the runs printed is all there is" in told
    assert "looked at" not in told


def test_a_test_score_that_could_not_be_had_says_why_and_is_no_look() -> None:
    problem = "[final] final-1.1: it left no test.npy in $INCUMBENT_OUT"
    told = lines(reported(hidden.FinalReported(final=1, labels="aa", problem=problem)))
    assert problem in told
    assert "looked at" not in told


def test_before_its_report_no_value_of_it_is_told() -> None:
    study = believed()
    study.tell(final_begun(study), hidden.FinalRunEnded(final=1, seed=1, outcome=scored(0.3)))
    facts = final_facts(study.state, study.state.finals[0])
    assert (facts["reported"], facts["scored"], facts["validation"]) == (False, 1, None)
    assert (facts["test"], facts["tag"]) == (None, "")


def test_the_tag_says_what_the_report_said() -> None:
    study = reported(hidden.FinalReported(final=1, test=(0.36, 0.4), labels="aa", looks=1))
    message = tag_message(study.state, study.state.finals[0])
    assert message.startswith("final-1 of e1: val_loss\n\n")
    assert "0.38 ± 0.02 (2)" in message


def test_a_status_tells_every_final_run_and_how_often_its_labels_were_looked_at() -> None:
    study = reported(hidden.FinalReported(final=1, test=(0.36, 0.4), labels="aa", looks=1))
    study.tell(final_begun(study))
    facts = status_facts(study.state, now=study.now, is_running=False, progress={})
    assert [final_words(final) for final in facts["finals"]] == [
        "test 0.38 ± 0.02 (2), the labels looked at once",
        "0 of 2 runs scored, not reported yet",
    ]


def test_a_baseline_that_is_trained_in_full_has_one_row_of_the_search() -> None:
    study = Study()
    study.baseline(0.4)
    study.tell(final_begun(study), hidden.FinalReported(final=1, test=(0.3,)))
    assert lines(study).count("0.4") == 1
