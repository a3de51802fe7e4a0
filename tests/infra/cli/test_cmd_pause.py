"""A pause of a study that runs nothing is for its next run, and says so; who waits is told, too."""

from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
import typer

from cluster.state import events as ev
from infra.cli import handing_in
from infra.local.controller_process import sole_controller
from infra.local.requests import request
from infra.local.study import OpenStudy, opened
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


def happenings(study: OpenStudy, submission: str) -> Iterator[None]:
    """Go on by one step of what happens while somebody waits for a verdict."""
    yield
    with ExitStack() as controller:
        controller.enter_context(sole_controller(study.home))
        yield
        request(study, ev.PauseRequested())
        yield
        yield
        request(study, ev.ResumeRequested())
        yield
    yield
    refusal = ev.ProposalRejected(
        proposer="user", hypothesis="", reason="repeated", submission=submission
    )
    request(study, refusal)
    yield


def test_who_waits_for_a_verdict_is_told_each_time_what_that_waits_for(
    user: User, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    with opened(user.home) as study:
        [waiting] = study.state().submissions
        steps = happenings(study, waiting.submission)
        with monkeypatch.context() as patched:
            patched.setattr(handing_in.time, "sleep", lambda _: next(steps))
            with pytest.raises(typer.Exit):
                handing_in.hand_in(study, [waiting], wait=True, as_json=False)
    run, resume = (f"waiting for `incumbent {verb}`" for verb in ("run", "resume"))
    assert capsys.readouterr().err.splitlines() == [
        f"the study does not run: {run}",
        f"the study is paused: {resume}",
        f"the study does not run: {run}",
    ]
