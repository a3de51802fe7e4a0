"""The picture is kept up to date from outside the controller, and harms nothing if it fails."""

import re
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from infra.display.picture import PictureObserver
from tests.infra.study_factory import Study, eventful, metric


def until(condition: Callable[[], bool]) -> None:
    """Wait for another thread's work."""
    deadline = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < deadline, "it never happened"
        time.sleep(0.01)


def observer(folder: Path, *, interval_s: float = 0.0) -> PictureObserver:
    folder.mkdir(exist_ok=True)
    png, svg = folder / "progress.png", folder / "progress.svg"
    return PictureObserver(metric(), png=png, svg=svg, interval_s=interval_s)


def title(folder: Path) -> str:
    text = (folder / "progress.svg").read_text("utf-8")
    found = re.search(r"<!-- (\d+ experiments?.*?) -->", text)
    assert found is not None
    return found[1]


def test_the_picture_is_drawn_while_the_study_runs_and_at_the_end(tmp_path: Path) -> None:
    study = Study()
    watching = study.watch(observer(tmp_path, interval_s=3600))
    study.baseline(0.41)
    until((tmp_path / "progress.svg").exists)
    assert title(tmp_path) == "0 experiments, 0 kept: val_loss 0.41"
    study.keep("LR 0.1 -> 0.2", 0.38)
    study.crash("DEPTH 2 -> 0")
    watching.close()
    assert title(tmp_path) == "2 experiments, 1 kept: val_loss 0.41 → 0.38"
    assert (tmp_path / "progress.png").stat().st_size > 10_000


def test_a_new_controller_draws_what_the_old_one_drew(tmp_path: Path) -> None:
    study = Study(slots=0)
    watching = study.watch(observer(tmp_path / "old", interval_s=3600))
    study.tell(*eventful()[2:])
    watching.close()
    again = observer(tmp_path / "new")
    again.resume(study.state)
    again.close()
    for name in ("progress.svg", "progress.png"):
        drawn = (tmp_path / "old" / name).read_bytes()
        assert (tmp_path / "new" / name).read_bytes() == drawn


def test_nothing_new_is_not_drawn_again(tmp_path: Path) -> None:
    study = Study()
    watching = study.watch(observer(tmp_path))
    study.baseline(0.41)
    until((tmp_path / "progress.svg").exists)
    (tmp_path / "progress.svg").unlink()
    study.start(study.propose("only runs"))
    watching.close()
    assert not (tmp_path / "progress.svg").exists()


def test_a_renderer_that_cannot_start_or_fails_harms_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    for program in (sys.executable, str(tmp_path / "no-such-python")):
        monkeypatch.setattr(sys, "executable", program)
        study = Study()
        folder = tmp_path / "folder"
        watching = study.watch(observer(folder))
        (folder / "progress.png").mkdir(exist_ok=True)  # cannot be replaced by a file
        study.baseline(0.41)
        watching.close()
    ours = "infra.display.picture"
    words = [record.message for record in caplog.records if record.name == ours]
    assert len(words) == 2
    assert all(word.startswith("the progress picture was not drawn: ") for word in words)
    assert "Is a directory" in words[0]
    assert "No such file" in words[1]


def test_a_renderer_that_hangs_is_killed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("infra.display.picture.PROGRAM", "import time; time.sleep(3600)")
    monkeypatch.setattr("infra.display.picture.RENDER_S", 0.2)
    study = Study()
    watching = study.watch(observer(tmp_path))
    study.baseline(0.41)
    watching.close()
    assert "timed out" in caplog.text


def test_the_controller_does_not_wait_for_pictures(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    waits_for_the_study = (
        "import time, pathlib\n"
        "while not pathlib.Path('over').exists(): time.sleep(0.01)\n"
        "pathlib.Path('drawn').touch()"
    )
    monkeypatch.setattr("infra.display.picture.PROGRAM", waits_for_the_study)
    study = Study()
    watching = study.watch(observer(tmp_path))
    study.baseline(0.41)
    for number in range(20):
        study.discard(f"try {number}", 0.5)
    (tmp_path / "over").touch()
    watching.close()
    assert (tmp_path / "drawn").exists()


def test_closing_before_anything_happened_is_fine(tmp_path: Path) -> None:
    observer(tmp_path).close()
    assert list(tmp_path.iterdir()) == []
