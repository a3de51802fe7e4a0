"""Why the incumbent is the incumbent, and what became of an experiment's merges."""

import io

import pytest

from cluster.state.events import MergeConflicted
from eval.judge import Verdict
from infra.display.why_table import render_why
from infra.facts.experiment_facts import merges_of
from infra.facts.why import WhyFacts, promotion_seqs, why_facts
from tests.infra.study_factory import Study, chained, eventful, rebased
from trainer.trial import ExperimentId


def why(study: Study) -> WhyFacts:
    found = {recorded.seq: recorded for recorded in study.events}
    return why_facts(study.state, [found[seq] for seq in promotion_seqs(study.state)])


def rendered(study: Study) -> str:
    shown = io.StringIO()
    render_why(why(study), file=shown)
    return " ".join(shown.getvalue().split())


def test_a_pipe_gets_no_blanks_that_would_fill_a_screen() -> None:
    shown = io.StringIO()
    render_why(why(chained()), file=shown)
    lines = shown.getvalue().splitlines()
    assert len(lines) > 5
    assert [line for line in lines if line != line.rstrip()] == []


def test_each_promotion_is_a_step_with_its_trials_and_what_it_replaced() -> None:
    study = chained()
    facts = why(study)
    assert facts["incumbent"] == "e8"
    assert facts["commit"] == study.state.incumbent_commit == facts["steps"][-1]["commit"]
    told = [
        (s["experiment"], s["replaces"], s["carries"], [run["trial"] for run in s["trials"]])
        for s in facts["steps"]
    ]
    assert told == [
        ("e0", "", "", ["e0.1"]),
        ("e1", "e0", "", ["e1.1"]),
        ("e6", "e1", "e2", ["e6.1"]),
        ("e7", "e6", "e3", ["e7.1"]),
        ("e8", "e7", "e4", ["e8.1"]),
    ]
    assert facts["steps"][-1]["score"] == pytest.approx(0.33)


def test_what_was_rebased_before_it_ran_says_so_and_rests_on_the_trials_that_began() -> None:
    (step,) = [s for s in why(rebased())["steps"] if s["experiment"] == "e2"]
    assert (step["base"], step["rebased_from"]) == ("e1", ["e0"])
    assert [run["trial"] for run in step["trials"]] == ["e2.1"]
    assert "WIDTH 8 -> 16 (rebased onto e1 before it ran)" in rendered(rebased())


def test_a_link_whose_own_run_failed_is_told_as_one() -> None:
    (failed,) = [s for s in why(chained())["steps"] if s["experiment"] == "e6"]
    assert failed["trials"] == [{"trial": "e6.1", "ending": "crashed", "value": None}]
    assert failed["score"] is None
    assert failed["on_branch"]  # its patch is, by way of the next link
    assert "e6.1 (crashed)" in rendered(chained())


def test_what_a_better_start_left_behind_is_named_with_its_fate() -> None:
    study = Study(slots=0)
    study.tell(*eventful()[2:])
    fates = {left["experiment"]: left["fate"] for left in why(study)["left_behind"]}
    assert fates == {
        "e11": "merged again as e17: discarded",
        "e13": "could not be merged again: it conflicts",
        "e14": "holds nothing that is not there",
    }
    (step,) = [s for s in why(study)["steps"] if s["superseded"]]
    assert (step["experiment"], step["superseded"]) == ("e16", ["e11", "e13", "e14"])
    text = rendered(study)
    assert "superseded e11, e13, e14" in text
    assert "e13 was left behind by e16; could not be merged again: it conflicts" in text


def test_before_the_baseline_is_measured_nothing_is_why() -> None:
    assert why(Study())["steps"] == []
    assert "nothing is promoted yet" in rendered(Study())


def test_an_experiment_tells_of_all_merges_that_carried_its_patch() -> None:
    study = chained()
    again = study.link("e5")
    study.measure(again, 0.3)
    study.judge(again, Verdict.KEEP)
    found = merges_of(study.state, study.state.experiments[ExperimentId("e5")])
    told = [(m["experiment"], m["onto"], m["chain"], m["status"]) for m in found]
    assert told == [("e9", "e8", "e6", "discarded"), (again, "e8", again, "winner")]


def test_a_conflict_is_recorded_with_both_and_where() -> None:
    study = chained()
    head = study.state.incumbent_commit
    study.tell(MergeConflicted(experiment=ExperimentId("e5"), against=ExperimentId("e7"),
                               paths=("train.py",), onto=head))  # fmt: skip
    record = study.state.experiments[ExperimentId("e5")]
    assert (record.status.value, record.reason) == ("conflicted", "conflicts with e7 in train.py")
