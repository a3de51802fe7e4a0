"""Who holds the lock of a study's controller, and what is known of it meanwhile."""

import os
import socket
from pathlib import Path

import pytest

from infra.local.controller_process import (
    ControllerFacts,
    ControllerRuns,
    announce,
    find_controller,
    sole_controller,
)
from infra.local.home import StudyHome


@pytest.fixture
def home(incumbent_home: Path, tmp_path: Path) -> StudyHome:
    home = StudyHome.locate(tmp_path / "research", "mar5")
    home.create()
    return home


def test_a_controller_is_found_while_it_holds_its_lock(home: StudyHome) -> None:
    assert find_controller(home) is None
    with sole_controller(home):
        announce(home, metrics="http://127.0.0.1:9/metrics")
        found = find_controller(home)
        assert found is not None
        assert (found.pid, found.metrics) == (os.getpid(), "http://127.0.0.1:9/metrics")
    assert find_controller(home) is None


def test_a_controller_that_has_just_begun_is_not_taken_for_the_last_one(home: StudyHome) -> None:
    with sole_controller(home):
        announce(home, metrics="http://127.0.0.1:9/metrics")
    with sole_controller(home):
        assert find_controller(home) == ControllerFacts(pid=0, node=socket.gethostname())


def test_a_controller_is_there_while_it_is_writing_who_it_is(home: StudyHome) -> None:
    with sole_controller(home):
        home.controller.write_text('{"pid": 12, "node": "box", "metrics": ""}\n9/metrics"}\n')
        assert find_controller(home) == ControllerFacts(pid=0, node=socket.gethostname())


def test_a_second_controller_is_told_of_the_first(
    home: StudyHome, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("infra.local.file_lock._PATIENCE_S", 0.0)
    with sole_controller(home):
        announce(home)
        with (
            pytest.raises(ControllerRuns, match=f"process {os.getpid()} on"),
            sole_controller(home),
        ):
            pass
