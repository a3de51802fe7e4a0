"""What the command line says of models and writes of proposals, by way of prices and replays."""

from pathlib import Path
from typing import Any

import pytest

from cluster.config import StudyConfig
from infra.checks.model_checks import most_usd_of, require_prices, unknown_models
from proposer.config import ClaudeSource
from proposer.prices import price_of
from proposer.prompt import CHARS_PER_TOKEN, most_tokens
from tests.infra.user import CONFIG, TRAIN, USAGE, User

UNKNOWN = """
[[proposer]]
kind = "claude"
model = "my-model"
"""


def config(*proposers: dict[str, Any], **more: Any) -> StudyConfig:
    return StudyConfig.model_validate(
        {
            "study": {"name": "s"},
            "metric": {"name": "loss", "goal": "minimize"},
            "trial": {"command": "python train.py"},
            "proposer": proposers,
            **more,
        }
    )


@pytest.fixture
def user(tmp_path: Path) -> User:
    user = User.at(tmp_path)
    user.commit({"train.py": TRAIN})
    return user


def test_a_limit_in_dollars_needs_a_price_and_says_what_to_add(user: User) -> None:
    user.write({"incumbent.toml": CONFIG + UNKNOWN})
    said = user.refused(USAGE, "run", "--usd", "5")
    assert "nobody knows what my-model costs" in said
    assert '[[price]]\nmodel = "my-model"\ninput = 3\noutput = 15' in said
    assert not user.has_study()


@pytest.mark.parametrize(("limit", "most"), [("usd", "usd = 2.0"), ("tokens", "tokens = 500_000")])
def test_a_limit_on_calls_needs_the_most_that_a_run_of_an_agent_takes(
    user: User, limit: str, most: str
) -> None:
    agent = '[[proposer]]\nkind = "agent"\nname = "coder"\ncommand = "true"\n'
    user.write({"incumbent.toml": f"{CONFIG}\n{agent}"})
    said = user.refused(USAGE, "run", f"--{limit}", "5")
    assert "nobody knows what a run of coder takes" in said
    assert f"e.g., {most}, the most that one run can take; 0 if it takes none" in said
    assert not user.has_study()
    free = {"kind": "agent", "command": "true", "usd": 0.0, "tokens": 0}
    require_prices(config(free, limits={"usd": 5.0, "tokens": 5}))


def test_what_is_said_of_a_call_is_what_will_be_reserved_for_it() -> None:
    source = ClaudeSource(kind="claude", context_tokens=20_000, max_tokens=4000)
    said, price = most_usd_of(config())(source), price_of(source.model, ())
    prompt = "x" * int(20_000 * CHARS_PER_TOKEN)
    assert price is not None
    assert said == pytest.approx(price.most_usd(most_tokens(prompt), 4000))


def test_a_model_that_neither_the_sdk_nor_a_price_knows_is_asked_after() -> None:
    odd = {"kind": "claude", "model": "claude-opsu"}
    assert unknown_models(config(odd, odd, {"kind": "claude", "name": "usual"})) == (
        "is there a model claude-opsu? The installed SDK does not know it"
    )
    own = {**odd, "base_url": "http://127.0.0.1:8000"}
    assert not unknown_models(config(own))
    priced = {"price": ({"model": "claude-opsu", "input": 3, "output": 15},)}
    assert not unknown_models(config(odd, **priced))


def test_a_limit_below_nothing_is_refused(user: User) -> None:
    user.write({"incumbent.toml": CONFIG})
    assert "--usd" in user.refused(USAGE, "run", "--usd", "-1")
    assert "--tokens" in user.refused(USAGE, "run", "--tokens", "-1")


def test_proposals_of_a_study_without_any_are_no_lines(user: User) -> None:
    user.write({"incumbent.toml": CONFIG})
    user.done("submit", "--set", "LR=0.3")
    assert user.done("log", "--proposals") == ""
