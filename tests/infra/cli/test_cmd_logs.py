"""Following a log while it grows."""

from types import SimpleNamespace

import pytest

from cluster.state.state import StudyState
from infra.cli.cmd_logs import logs
from infra.cli.study_choice import UsageProblem
from infra.local.home import StudyHome
from infra.local.study import opened
from infra.local.trial_logs import is_complete
from tests.infra.study_of_git import GrownStudy, user
from tests.infra.user import User
from trainer.log_capture import HEAD_BYTES, TAIL_BYTES, LogFile
from trainer.trial import ExperimentId, TrialId

__all__ = ["user"]  # a fixture

E0 = ExperimentId("e0")


def test_what_comes_after_the_last_look_and_before_the_end_is_shown(
    user: User, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    GrownStudy(user).more(1)
    log = user.home.logs / "e0.1.log"
    log.parent.mkdir(exist_ok=True)
    log.write_text("step 1\n")

    def ends(home: StudyHome, state: StudyState, trial: TrialId) -> bool:
        with log.open("a") as file:
            file.write("loss: 1\n")
        return is_complete(home, state, trial)

    monkeypatch.setattr("infra.local.trial_logs.is_complete", ends)
    monkeypatch.setenv("INCUMBENT_HOME", user.variables["INCUMBENT_HOME"])
    logs("e0.1", study="mar5", follow=True)
    assert capsys.readouterr().out == "step 1\nloss: 1\n"


def test_a_log_too_long_to_be_kept_whole_is_followed_to_its_end(
    user: User, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    GrownStudy(user).more(1)
    path = user.home.logs / "e0.1.log"
    path.parent.mkdir(exist_ok=True)
    log = LogFile(str(path))
    log.write(b"step\rstep\n" + b"x" * (HEAD_BYTES + TAIL_BYTES))
    log.flush()
    more = iter(["loss: 3\n", "loss: 1 ↓\n"])

    def ends(home: StudyHome, state: StudyState, trial: TrialId) -> bool:
        if text := next(more, ""):
            log.write(text.encode())
            log.flush()
        return not text and is_complete(home, state, trial)

    monkeypatch.setattr("infra.local.trial_logs.is_complete", ends)
    monkeypatch.setattr("infra.cli.cmd_logs.LOOK_S", 0.01)
    monkeypatch.setenv("INCUMBENT_HOME", user.variables["INCUMBENT_HOME"])
    logs("e0.1", study="mar5", follow=True)
    shown = capsys.readouterr().out
    assert shown.startswith("step\nstep\nxxx")
    assert shown.endswith("xxxloss: 3\nloss: 1 ↓\n")


def test_a_log_that_is_still_to_come_is_waited_for_while_the_study_runs(
    user: User, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    grown = GrownStudy(user, refuse=["e0.1"])
    with opened(user.home) as study:
        grown.settle(study)
        assert [trial.phase for trial in study.state().experiments[E0].trials] == ["running"]
    monkeypatch.setenv("INCUMBENT_HOME", user.variables["INCUMBENT_HOME"])
    with pytest.raises(UsageProblem, match="no trial of e0 has started"):
        logs("e0", study="mar5", follow=True)

    def begins(_s: float) -> None:
        (user.home.logs / "e0.1.log").write_text("loss: 1\n")

    monkeypatch.setattr("infra.local.controller_process.find_controller", lambda _: "one")
    with pytest.raises(UsageProblem, match="no trial of e0 has started"):
        logs("e0", study="mar5")
    with pytest.raises(UsageProblem, match=r"there is no trial e0\.7"):
        logs("e0.7", study="mar5", follow=True)
    monkeypatch.setattr("infra.local.trial_logs.is_complete", lambda *_: True)
    monkeypatch.setattr("infra.cli.cmd_logs.time", SimpleNamespace(sleep=begins))
    logs("e0", study="mar5", follow=True)
    shown = capsys.readouterr()
    assert shown.out == "loss: 1\n"
    assert shown.err == "e0 has printed nothing yet: waiting\n"
