"""What people are told of the holdout: the gap, and a warning when only validation gets better."""

from infra.display.tables import render_status
from infra.facts.facts import status_facts
from infra.facts.holdout_facts import holdout_facts, holdout_words
from infra.metrics.holdout_metrics import METRICS, samples
from tests.infra.study_factory import Study, hold_out


def studied(*looks: tuple[float, float | None], step: float = 0.01) -> Study:
    """A study whose promotions score so by validation and by holdout."""
    study = Study()
    for number, (validation, reported) in enumerate(looks):
        name = f"e{number}"
        study.baseline(validation) if not number else study.keep(name, validation)
        study.tell(hold_out(name, reported, validation=validation, step=step))
    return study


def test_without_a_holdout_nothing_is_said_of_one() -> None:
    state = studied().state
    assert holdout_facts(state) is None
    assert holdout_words(None) == ""
    assert all(not values for values in samples(state).values())


def test_validation_and_holdout_are_told_with_the_gap_between_them() -> None:
    facts = holdout_facts(studied((0.5, 0.52), (0.4, 0.45)).state)
    assert facts is not None
    assert (facts["experiment"], facts["score"], facts["validation"]) == ("e1", 0.45, 0.4)
    assert holdout_words(facts) == "0.45, validation 0.4: a gap of 0.05 within 0.01"
    assert facts["warning"] == ""


def test_it_warns_while_validation_gets_better_and_the_holdout_does_not(capsys) -> None:
    study = studied((0.5, 0.5), (0.4, 0.45), (0.35, 0.45), (0.3, 0.45), (0.2, 0.45))
    facts = status_facts(study.state, now=study.now, is_running=True, progress={})
    render_status(facts)
    shown = capsys.readouterr().out
    assert "validation got better by 0.2 over the last 3 promotions, and the holdout" in shown
    values = [next(iter(samples(study.state)[metric.name].values())) for metric in METRICS]
    assert values == [0.45, 0.25, 3.0, 1.0]


def test_a_promotion_that_left_nothing_for_the_holdout_is_told_beside_the_last_that_did() -> None:
    words = holdout_words(holdout_facts(studied((0.5, 0.52), (0.4, None)).state))
    assert words.endswith("it left no holdout.npy in $INCUMBENT_OUT")
    assert words.startswith("0.52, validation 0.5")
