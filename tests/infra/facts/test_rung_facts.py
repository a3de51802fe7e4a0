"""What people are shown of rungs: what became of candidates there, or why there are none."""

import io
from dataclasses import replace

import pytest

from cluster.state.experiment import Kind
from eval.judge import Verdict
from eval.ladder import Step
from infra.display import tables
from infra.facts.fact_records import ShowFacts
from infra.facts.facts import show_facts, status_facts
from infra.facts.fates import Fate, all_ends
from infra.facts.rung_facts import rung_facts, rung_words
from tests.infra.study_factory import Study, crashed, scored, short
from trainer.trial import Ending, ExperimentId, Probe

RUNGS = (Step(budget_s=30.0, keep=0.33), Step(budget_s=120.0, keep=0.5))
PROBE = Probe(budget_s=30.0, ending=Ending.SCORED, wall_s=32.0, obeys=True)


def begun(probe: Probe | None = PROBE) -> Study:
    """A study of which the baseline was probed."""
    study = Study()
    baseline = study.propose("baseline", kind=Kind.BASELINE, proposer="baseline")
    study.start(baseline)
    study.finish(baseline, replace(scored(0.4), probe=probe))
    study.judge(baseline, Verdict.KEEP, 0.0)
    return study


def climbed() -> Study:
    """e1 goes up to its run in full; e2 is stopped on the first rung, e3 on the second."""
    study = begun()
    first, second, third = (study.propose(f"LR -> 0.{n}") for n in (1, 2, 3))
    study.climb(first, 0.5, goes_on=True)
    study.climb(first, 0.4, goes_on=True, rung_s=120.0)
    study.climb(second, 0.9, goes_on=False)
    study.climb(third, 0.6, goes_on=True)
    study.climb(third, 0.8, goes_on=False, rung_s=120.0)
    study.start(first)
    study.finish(first, crashed())
    return study


def shown(study: Study, experiment: str) -> tuple[ShowFacts, str]:
    facts = show_facts(study.state, ExperimentId(experiment), study.events)
    output = io.StringIO()
    tables.render_show(facts, metric="val_loss", file=output)
    return facts, output.getvalue()


def test_without_rungs_there_is_nothing_to_tell() -> None:
    assert rung_facts(begun().state, ()) is None
    assert rung_words(None) == ""


def test_each_rung_tells_how_many_completed_it_and_how_many_are_stopped_there() -> None:
    facts = rung_facts(climbed().state, RUNGS)
    assert facts == {
        "off": "",
        "steps": [
            {"budget_s": 30.0, "keep": 0.33, "completed": 3, "stopped": 1},
            {"budget_s": 120.0, "keep": 0.5, "completed": 2, "stopped": 1},
        ],
    }
    assert rung_words(facts) == "30 s: 3 completed, 1 stopped; 120 s: 2 completed, 1 stopped"


@pytest.mark.parametrize(
    ("probe", "why"),
    [
        (None, "off: the baseline was measured before, so it was not asked whether it obeys its"),
        (
            replace(PROBE, obeys=False, wall_s=298.0),
            "off: the script does not obey INCUMBENT_BUDGET_S (told 30 s, it took 298 s)",
        ),
        (
            replace(PROBE, obeys=False, ending=Ending.CRASHED, reason="exit code 3"),
            "off: shorter runs are left out: one of 30 s crashed: exit code 3",
        ),
    ],
)
def test_status_says_why_there_are_none(probe: Probe | None, why: str) -> None:
    study = begun(probe)
    facts = status_facts(study.state, now=study.now, is_running=True, progress={}, rungs=RUNGS)
    assert rung_words(facts["rungs"]).startswith(why)
    output = io.StringIO()
    tables.render_status(facts, file=output)
    assert why in " ".join(output.getvalue().split())


def test_show_tells_of_each_rung_and_calls_nothing_on_it_a_score() -> None:
    facts, text = shown(climbed(), "e3")
    assert (facts["status"], facts["score"], facts["values"]) == ("pruned", None, [])
    assert [trial["rung_s"] for trial in facts["trials"]] == [30.0, 120.0]
    lines = [" ".join(line.split()) for line in text.splitlines()]
    assert "e3.1 short - 10s cpu-0 rung of 30 s: 0.6" in lines
    assert "e3.2 short - 10s cpu-0 rung of 120 s: 0.8" in lines
    assert "reason rung of 120 s: place 5 of 5, of which the best 2 go on" in lines
    assert "next `incumbent retry e3` runs it to its end" in lines


def test_a_rung_on_which_a_trial_failed_is_named_with_the_reason() -> None:
    study = begun()
    experiment = study.propose("LR -> 9")
    study.start(experiment, rung_s=30.0)
    study.finish(experiment, crashed())
    _, text = shown(study, experiment)
    assert "rung of 30 s: ZeroDivisionError: division by zero" in text


def test_who_rises_comes_to_a_further_end() -> None:
    study = begun()
    experiment = study.propose("LR -> 0.1")
    study.climb(experiment, 0.9, goes_on=False)
    assert [end.fate for end in all_ends(study.state)][1:] == [Fate.PRUNED]
    study.rung(experiment, goes_on=True)
    study.measure(experiment, 0.3)
    study.judge(experiment, Verdict.DISCARD)
    last = all_ends(study.state)[-1]
    assert [end.fate for end in all_ends(study.state)][1:] == [Fate.PRUNED, Fate.DISCARD]
    assert last.value == 0.3
    assert [outcome.ending for outcome in last.outcomes] == [short(0.9).ending, Ending.SCORED]
