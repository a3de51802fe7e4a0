"""What trials left: here, on a node, or not known yet."""

from pathlib import Path

import pytest

from cluster.transport.manifest import Left, Manifest
from cluster.transport.shelf import Shelf
from infra.local.artifacts import artifacts_of, is_awaited, is_to_begin, paths_at
from infra.local.home import StudyHome
from infra.local.trial_logs import is_complete, paths_of, why_no_log
from tests.infra.study_factory import Study, scored
from trainer.trial import ExperimentId

E0 = ExperimentId("e0")
TOKEN = "0123456789abcdef"
THERE = "/var/study/out/e0.1-1"


@pytest.fixture
def home(tmp_path: Path) -> StudyHome:
    return StudyHome(name="mar5", repository=tmp_path, directory=tmp_path / "study")


def run_on(slot: str) -> Study:
    study = Study(slots=0)
    study.open_slot(slot)
    study.start(study.propose("unmodified"), slot=slot)
    study.finish("e0", scored(1.0))
    return study


def returned(home: StudyHome, *files: Left, **more: object) -> None:
    shelf = Shelf(paths_at(home))
    shelf.begin("e0.1-1", TOKEN)
    for each in files:
        if not each.stayed:
            shelf.put(("e0.1-1", TOKEN), f"out/{each.name}", 0, b"x" * each.bytes)
    shelf.finish("e0.1-1", TOKEN, Manifest(node="n1", folder=THERE, files=files, **more))


def test_on_the_head_files_are_listed_as_they_lie(home: StudyHome) -> None:
    study = run_on("cpu-0")
    assert artifacts_of(home, study.state, "e0") == []
    out = home.out / "e0.1-1"
    (out / "plots").mkdir(parents=True)
    (out / "model.pt").write_bytes(b"12345")
    (out / "plots" / "a.svg").write_bytes(b"1")
    (out / "li\nnk").symlink_to("/etc/passwd")
    (trial,) = artifacts_of(home, study.state, "e0.1") or ()
    assert (trial["trial"], trial["node"], trial["folder"]) == ("e0.1", "", str(out))
    assert [(f["name"], f["bytes"], f["path"], f["note"]) for f in trial["files"]] == [
        ("li\\nnk", 0, f"{out}/li\\nnk", "is a symbolic link"),
        ("model.pt", 5, f"{out}/model.pt", ""),
        ("plots/a.svg", 1, f"{out}/plots/a.svg", ""),
    ]


def test_of_a_trial_on_a_node_it_says_what_is_here_and_what_is_there(home: StudyHome) -> None:
    study = run_on("n1/cpu-0")
    small = Left(name="small", bytes=3)
    removed = Left(name="removed", bytes=3)
    big = Left(name="big", bytes=99, stayed="it would be more than [keep] return_mb")
    returned(home, small, removed, big, unlisted=4, predictions=(Left(name="val.npy", bytes=7),))
    (home.out / "e0.1-1" / "removed").unlink()
    (trial,) = artifacts_of(home, study.state, "e0") or ()
    assert (trial["node"], trial["folder"], trial["unlisted"]) == ("n1", THERE, 4)
    assert [(f["name"], f["node"], f["path"]) for f in trial["files"]] == [
        ("big", "n1", f"{THERE}/big"),
        ("removed", "n1", f"{THERE}/removed"),
        ("small", "", f"{home.out}/e0.1-1/small"),
        ("predictions/val.npy", "n1", "/var/study/predictions/e0.1-1/val.npy"),
    ]
    notes = {f["name"]: f["note"] for f in trial["files"]}
    assert notes["big"] == big.stayed
    assert "removed here" in notes["removed"]
    assert paths_of(home, study.state, E0)["further output"] == f"n1:{THERE}"


def test_what_has_not_come_back_is_said_to_be_awaited(home: StudyHome) -> None:
    study = Study(slots=0)
    study.open_slot("n1/cpu-0")
    study.start(study.propose("unmodified"), slot="n1/cpu-0")
    assert "try again" in why_no_log(home, study.state, "e0")
    (running,) = artifacts_of(home, study.state, "e0") or ()
    assert running["note"] == "it runs on box"
    assert not is_complete(home, study.state, "e0.1")
    study.finish("e0", scored(1.0))
    (ended,) = artifacts_of(home, study.state, "e0") or ()
    assert ended["note"] == "what it left on box has not come back yet"
    assert not is_complete(home, study.state, "e0.1")
    assert is_awaited(home, study.state.experiments[E0].trials[-1])
    returned(home)
    assert artifacts_of(home, study.state, "e0") == []
    assert is_complete(home, study.state, "e0.1")


def test_of_what_runs_or_waits_nobody_says_that_it_left_nothing(home: StudyHome) -> None:
    study = Study(slots=1)
    waiting = study.propose("unmodified")
    assert artifacts_of(home, study.state, waiting) == []
    assert is_to_begin(study.state, waiting)
    study.start(waiting)
    (running,) = artifacts_of(home, study.state, f"{waiting}.1") or ()
    assert running["note"] == "it runs: what it leaves lies here once it has ended"
    study.finish(waiting, scored(1.0))
    assert artifacts_of(home, study.state, waiting) == []
    assert not is_to_begin(study.state, waiting)
    assert not is_to_begin(study.state, f"{waiting}.1")


def test_of_an_attempt_that_was_given_back_nobody_says_that_it_was_lost(home: StudyHome) -> None:
    study = Study(slots=0)
    study.open_slot("n1/cpu-0")
    study.start(study.propose("unmodified"), slot="n1/cpu-0")
    study.lose("e0", is_given_back=True)
    (ended,) = artifacts_of(home, study.state, "e0") or ()
    assert ended["note"] == "it was lost or given back on box: what it left there is not known"


def test_a_trial_on_the_head_is_awaited_by_nobody(home: StudyHome) -> None:
    study = run_on("cpu-0")
    assert is_complete(home, study.state, "e0.1")


def test_what_there_is_not_is_none(home: StudyHome) -> None:
    study = run_on("cpu-0")
    for name in ("e9", "e0.7", "", "nonsense"):
        assert artifacts_of(home, study.state, name) is None


def test_a_folder_that_is_a_link_is_not_looked_into(home: StudyHome) -> None:
    study = run_on("cpu-0")
    home.out.mkdir(parents=True)
    (home.out / "e0.1-1").symlink_to("/etc")
    (trial,) = artifacts_of(home, study.state, "e0") or ()
    assert trial["files"] == []
    assert "is no folder" in trial["note"]
