"""Where things of a trial are: those of the latest one that has any."""

from dataclasses import replace
from pathlib import Path

import pytest

from infra.local.artifacts import artifacts_of, paths_at
from infra.local.home import StudyHome
from infra.local.trial_logs import experiment_of, find_log, paths_of, why_no_log
from tests.infra.study_factory import Study, crashed, scored
from trainer.paths import WorkerPaths
from trainer.removal import remove_tree
from trainer.retention import Keeper
from trainer.trial import CommitId, CrashKind, ExperimentId, TrialId, TrialSpec

E0 = ExperimentId("e0")


def outputs(home: StudyHome, attempt: int) -> Path:
    """Return where a worker keeps the output of an attempt."""
    spec = TrialSpec(
        trial=TrialId("e0.1"),
        experiment=E0,
        attempt=attempt,
        commit=CommitId("c"),
        seed=1,
        budget_s=1.0,
        timeout_s=1.0,
    )
    return WorkerPaths(study=home.directory, environments=home.environments).out(spec)


@pytest.fixture
def home(tmp_path: Path) -> StudyHome:
    return StudyHome(name="mar5", repository=tmp_path, directory=tmp_path / "study")


def test_the_latest_log_and_the_latest_output_are_named(home: StudyHome, tmp_path: Path) -> None:
    study = Study(slots=1)
    study.start(study.propose("unmodified"))
    assert paths_of(home, study.state, E0) == {}
    study.lose("e0")
    study.start("e0")
    study.finish("e0", crashed())
    first, second = outputs(home, 1), outputs(home, 2)
    first.mkdir(parents=True)
    home.logs.mkdir()
    log = home.logs / "e0.1-a2.log"
    log.touch()
    assert paths_of(home, study.state, E0) == {"log": str(log), "output": str(first)}
    second.symlink_to(tmp_path / "nowhere")  # named, and not looked into
    assert paths_of(home, study.state, E0) == {"log": str(log), "output": str(second)}


def test_who_asks_for_the_log_of_a_rejected_experiment_is_told_why(home: StudyHome) -> None:
    study = Study(slots=1)
    study.reject("a typo", "train.py:4: undefined name 'modle'")
    study.propose("waits")
    said = "e0 was rejected before it could run: train.py:4: undefined name 'modle'"
    for name in ("e0", "e0.1"):
        assert why_no_log(home, study.state, name) == said
    assert why_no_log(home, study.state, "e1").startswith("no trial of e1 has started")
    for name in ("e9", "nonsense"):
        said = f"there is no experiment {name} ("
        assert why_no_log(home, study.state, name).startswith(said)
    assert why_no_log(home, study.state, "e9.1") == why_no_log(home, study.state, "e9")


def test_an_experiment_goes_by_the_names_of_its_trials_too() -> None:
    study = Study(slots=1)
    study.baseline(1.0)
    for name in ("e0", "e0.1"):
        assert experiment_of(study.state, name) == study.state.experiments[E0]
    for name in ("e0.7", "e9", "e9.1", "e0."):
        assert experiment_of(study.state, name) is None


def test_of_a_trial_whose_model_could_not_be_asked_it_is_that_log_that_is_shown(
    home: StudyHome,
) -> None:
    study = Study(slots=1)
    study.start(study.propose("unmodified"))
    home.logs.mkdir(parents=True)
    for name in ("e0.1", "e0.1-predict", "e0.1-predict-holdout"):
        (home.logs / f"{name}.log").touch()
    assert find_log(home, study.state, "e0") == home.logs / "e0.1.log"
    study.finish("e0", replace(crashed(), crash=CrashKind.PREDICTIONS))
    assert find_log(home, study.state, "e0") == home.logs / "e0.1-predict.log"
    for name in ("e0.1-predict", "e0-predict-holdout"):
        path = find_log(home, study.state, name)
        assert path == home.logs / f"{name.replace('e0-', 'e0.1-')}.log"
    for name in ("e0-score", "e0-../../secret", "e9-predict"):
        assert find_log(home, study.state, name) is None
    said = "e0 has no log of a step score (`incumbent logs e0` shows its latest)"
    assert why_no_log(home, study.state, "e0-score") == said


def test_what_was_removed_to_make_room_is_said_to_have_been(home: StudyHome) -> None:
    study = Study(slots=1)
    for _ in range(3):
        experiment = study.propose("a candidate")
        study.start(experiment)
        study.finish(experiment, scored(1.0))
    paths = paths_at(home)
    home.logs.mkdir(parents=True)
    keeper = Keeper(paths, most_gb=1e-9, promoted=frozenset, throw=remove_tree)
    for trial in ("e1.1", "e2.1"):
        (home.logs / f"{trial}.log").write_text("METRIC loss=1")
        keeper.note(f"{trial}-1")
    said = "the log of e1.1 was removed to make room: see [keep] disk_gb"
    for name in ("e1", "e1.1", "e1.1-score"):
        assert find_log(home, study.state, name) is None
        assert why_no_log(home, study.state, name) == said
    (removed,) = artifacts_of(home, study.state, "e1") or ()
    assert removed["note"] == "it was removed here: see [keep] disk_gb"
    assert find_log(home, study.state, "e2") == home.logs / "e2.1.log"
    assert "removed" not in why_no_log(home, study.state, "e2-score")
    assert artifacts_of(home, study.state, "e2") == []
