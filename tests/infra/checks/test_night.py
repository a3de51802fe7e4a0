"""What a night will be is said before it starts, and never less than it may cost."""

from typing import Any

import pytest

from cluster.config import StudyConfig
from cluster.state.state import StudyState
from infra.checks.night import expected, night_words, slots_of
from proposer.config import ClaudeSource
from tests.infra.study_factory import Study

CLAUDE = {"kind": "claude", "batch": 4}
TUNER = {"kind": "tuner"}


def config(*proposers: dict[str, Any], share: float = 0.3, **limits: float) -> StudyConfig:
    return StudyConfig.model_validate(
        {
            "study": {"name": "mar5"},
            "metric": {"name": "loss", "goal": "minimize"},
            "trial": {"command": "python train.py", "budget_s": 300.0},
            "judge": {"replicate_share": share},
            "proposer": tuple(proposers or (TUNER,)),
            "limits": limits,
        }
    )


def one_dollar(_: ClaudeSource) -> float:
    return 1.0


def unknown(_: ClaudeSource) -> None:
    return None


def test_a_night_is_slots_and_hours_over_the_time_of_a_trial() -> None:
    night = expected(config(hours=8.0), StudyState(), slots=2)
    assert night is not None
    assert night.trials == pytest.approx(2 * 8 * 3600 / 330)
    assert night.ideas == pytest.approx(0.7 * night.trials)
    assert not night.is_measured


def test_the_tightest_limit_counts_and_what_was_used_is_gone() -> None:
    study = Study()
    study.baseline(0.41)
    night = expected(config(hours=8.0, gpu_hours=1.0, experiments=3), study.state, slots=2)
    assert night is not None
    assert night.is_measured
    seconds = study.state.experiments["e0"].seconds
    assert night.trials == pytest.approx((3600 - study.state.slot_seconds) / seconds)
    assert night.ideas == 3


@pytest.mark.parametrize(
    ("gpus", "cards", "slots"), [(1.0, 2, 2), (0.5, 2, 4), (2.0, 2, 1), (1.0, 0, 1)]
)
def test_a_first_run_is_told_of_with_all_cards_of_the_machine(
    gpus: float, cards: int, slots: int
) -> None:
    plain = config(hours=8.0)
    trial = plain.trial.model_copy(update={"gpus": gpus})
    asked = plain.model_copy(update={"trial": trial})
    assert slots_of(asked, StudyState(), cards=cards) == slots


def test_without_a_limit_on_time_nothing_is_said_of_trials() -> None:
    assert night_words(config(), StudyState(), slots=1, price=one_dollar) == []


def test_the_dollar_limit_is_the_bound_where_there_is_one() -> None:
    words = night_words(config(CLAUDE, hours=1.0, usd=25.0), StudyState(), slots=1, price=unknown)
    assert words[1] == "models may cost $25.00 in all ([limits] usd)"
    assert (
        words[2]
        == "not counted: nobody knows what claude-opus-5-5 costs ([[price]], or usd of an agent)"
    )
    assert len(words) == 3


def test_else_it_is_what_every_call_and_its_repair_may_cost() -> None:
    with_both = config(CLAUDE, TUNER, experiments=80)
    (words,) = night_words(with_both, StudyState(), slots=1, price=one_dollar)
    assert words.startswith("models may cost $20.00, if every call costs all it can")


def test_an_agent_may_cost_what_each_run_of_it_and_one_more_may() -> None:
    agent = {"kind": "agent", "command": "x", "usd": 0.25}
    (words,) = night_words(
        config(agent, TUNER, experiments=80), StudyState(), slots=1, price=one_dollar
    )
    assert words.startswith("models may cost $20.00, if every call costs all it can")


def test_what_nothing_bounds_is_said_with_the_option() -> None:
    (words,) = night_words(config(CLAUDE), StudyState(), slots=1, price=one_dollar)
    assert words == "nothing limits what models may cost: --usd 25 would"
