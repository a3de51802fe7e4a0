"""A pause of a study that runs nothing is for its next run, and says so."""

from pathlib import Path

import pytest

from tests.infra.user import CONFIG, TRAIN, User


@pytest.fixture
def user(tmp_path: Path) -> User:
    """Somebody whose study has one submission, and was never run."""
    user = User.at(tmp_path)
    user.commit({"train.py": TRAIN})
    user.write({"incumbent.toml": CONFIG})
    user.done("submit", "--set", "LR=0.3")
    return user


def test_a_pause_between_runs_is_for_the_next_one(user: User) -> None:
    said = user.done("pause")
    assert said == "mar5 is not running; `incumbent run` begins no trial until `incumbent resume`\n"
    assert user.done("resume") == "mar5 is not running; `incumbent run` carries on\n"
