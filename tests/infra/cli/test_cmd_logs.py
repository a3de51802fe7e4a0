"""Reading a log while it grows, and when it is not what it seems."""

from pathlib import Path

import pytest

from cluster.state.state import StudyState
from infra.cli.cmd_logs import _read, logs
from infra.local.home import StudyHome
from infra.local.trial_logs import is_complete
from tests.infra.study_of_git import GrownStudy, user
from tests.infra.user import User
from trainer.safe_read import Unsafe
from trainer.trial import TrialId

__all__ = ["user"]  # a fixture


@pytest.fixture
def log(tmp_path: Path) -> Path:
    (tmp_path / "logs").mkdir()
    return tmp_path / "logs" / "e1.1.log"


def test_what_is_new_is_read_and_progress_lines_come_apart(log: Path) -> None:
    log.write_bytes(b"step 1\rstep 2\n")
    assert _read(log, 0) == ("step 1\nstep 2\n", 14)
    assert _read(log, 14) == ("", 14)
    with log.open("ab") as file:
        file.write(b"\xff done\n")
    assert _read(log, 14) == ("� done\n", 21)


def test_a_log_that_was_cut_is_read_again(log: Path) -> None:
    log.write_bytes(b"new\n")
    assert _read(log, 14) == ("new\n", 4)
    log.write_bytes(b"")
    assert _read(log, 14) == ("", 0)


def test_a_link_in_a_logs_place_is_not_followed(log: Path, tmp_path: Path) -> None:
    (tmp_path / "secret").write_text("key")
    log.symlink_to(tmp_path / "secret")
    with pytest.raises(Unsafe):
        _read(log, 0)


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
