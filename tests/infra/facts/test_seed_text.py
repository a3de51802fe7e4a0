"""What people are shown of seeds: what was written into a trial, and patches that change one."""

import io
from dataclasses import replace

import pytest

from cluster.state.experiment import Kind
from eval.judge import Verdict
from eval.seeds import Reseed, SeedHabit
from infra.display import tables
from infra.display.why_table import render_why
from infra.facts.event_lines import event_line
from infra.facts.facts import log_facts, show_facts
from infra.facts.seed_text import reseed_words
from infra.facts.why import promotion_seqs, why_facts
from tests.infra.study_factory import Study, scored
from trainer.trial import ExperimentId

ONE = Reseed(path="train.py", line=12, old="42", new="2")


@pytest.fixture
def study() -> Study:
    """A baseline that was repeated on another seed, and a winner that changes the seed."""
    study = Study(slots=1)
    study.start(study.propose("baseline", kind=Kind.BASELINE))
    study.finish("e0", scored(0.41))
    study.judge("e0", Verdict.REPLICATE)
    study.start("e0")
    study.finish("e0", replace(scored(0.42), reseeds=(ONE,)))
    study.judge("e0", Verdict.KEEP)
    lucky = study.propose("a lucky number", seeds=SeedHabit.TAKEN)
    study.measure(lucky, 0.38)
    study.judge(lucky, Verdict.KEEP, delta=0.03)
    study.promote(lucky)
    return study


def shown(study: Study, experiment: str) -> str:
    output = io.StringIO()
    facts = show_facts(study.state, ExperimentId(experiment), study.events)
    tables.render_show(facts, file=output)
    return output.getvalue()


def test_a_seed_that_was_written_is_shown_with_its_place_and_its_trial(study: Study) -> None:
    words = "seed 42 -> 2 in train.py:12"
    assert f"e0.2: {words}" in shown(study, "e0")
    lines = [event_line(recorded.event, study.state) for recorded in study.events]
    assert f"scored e0.2: val_loss 0.42; {words}" in lines
    trials = show_facts(study.state, ExperimentId("e0"), study.events)["trials"]
    outcomes = [trial["outcome"] for trial in trials]
    assert [outcome and outcome["reseeds"] for outcome in outcomes] == [
        [],
        [{"path": "train.py", "line": 12, "old": "42", "new": "2"}],
    ]


def test_a_patch_that_changes_the_seed_is_marked_wherever_it_is_listed(study: Study) -> None:
    assert [row["marks"] for row in log_facts(study.state)] == [[], ["changes the seed"]]
    log, why = io.StringIO(), io.StringIO()
    tables.render_log(log_facts(study.state), file=log)
    assert "kept (changes the seed)" in log.getvalue()
    assert "its patch changes the seed: judged on other seeds" in shown(study, "e1")
    assert "a lucky number (changes the seed)" in shown(study, "e1")
    seqs = promotion_seqs(study.state)
    facts = why_facts(study.state, [r for r in study.events if r.seq in seqs])
    render_why(facts, file=why)
    assert [step["changes_seed"] for step in facts["steps"]] == [False, True]
    assert "(changes the seed)" in why.getvalue()


def test_of_many_seeds_a_few_are_named() -> None:
    assert reseed_words([]) == ""
    many = [replace(ONE, line=line) for line in range(1, 6)]
    assert reseed_words(many) == (
        "seed 42 -> 2 in train.py:1, 42 -> 2 in train.py:2, 42 -> 2 in train.py:3 and 2 more"
    )
