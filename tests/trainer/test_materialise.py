"""From a trial's record to a command: files, folders and variables are in place."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from eval.metric import Goal, Metric
from trainer.environment import Environment
from trainer.materialise import Materialiser
from trainer.paths import WorkerPaths
from trainer.ports import Slot
from trainer.trial import CommitId, ExperimentId, SlotId, TrialId, TrialSpec

METRIC = Metric(name="loss", goal=Goal.MINIMIZE, pattern=r"^loss:\s+(\S+)")
SLOT = Slot(
    id=SlotId("gpu-0"),
    incarnation="a",
    node="n",
    device="d",
    device_class="d",
    gpu_uuids=("GPU-a", "GPU-b"),
)


class FakeCodeSource:
    """One repository after the other."""

    def __init__(self, *repositories: Path) -> None:
        self.repositories = list(repositories)

    def fetch(self, commit: CommitId) -> Path:
        first, *rest = self.repositories
        self.repositories = rest or [first]
        return first


@pytest.fixture
def spec(research: Any) -> TrialSpec:
    return TrialSpec(
        trial=TrialId("e1.1"),
        experiment=ExperimentId("e1"),
        attempt=1,
        commit=CommitId(research.commit({"train.py": "first"})),
        seed=3,
        budget_s=12.0,
        timeout_s=60.0,
    )


def make(paths: WorkerPaths, *repositories: Path) -> Materialiser:
    return Materialiser(
        study="mar5",
        slot=SLOT,
        paths=paths,
        environment=Environment(argv=("python", "train.py"), variables={"PATH": "/bin"}),
        metric=METRIC,
        code=FakeCodeSource(*repositories),
        threads=2,
        editable=("train.py",),
    )


@pytest.fixture
def paths(tmp_path: Path) -> WorkerPaths:
    return WorkerPaths(study=tmp_path / "study", environments=tmp_path / "environments")


def test_a_run_is_told_all_of_its_trial(paths: WorkerPaths, research: Any, spec: TrialSpec) -> None:
    request = make(paths, research.bare).materialise(spec)

    assert request.argv == ("python", "train.py")
    assert request.env == {
        "PATH": "/bin",
        "INCUMBENT_SEED": "3",
        "INCUMBENT_BUDGET_S": "12",
        "INCUMBENT_OUT": f"{paths.study}/out/e1.1-1",
        "CUDA_VISIBLE_DEVICES": "GPU-a,GPU-b",
        "OMP_NUM_THREADS": "2",
        "PYTHONUNBUFFERED": "1",
    }
    assert request.mark == "mar5/gpu-0/e1.1"
    assert request.timeout_s == 60.0
    assert request.metric == METRIC
    assert Path(request.cwd, "train.py").read_text() == "first"
    assert Path(request.log_path) == paths.study / "logs/e1.1.log"
    assert Path(request.log_path).parent.is_dir()


def test_the_next_trial_runs_in_the_same_place_on_its_own_commit(
    paths: WorkerPaths, research: Any, spec: TrialSpec
) -> None:
    materialiser = make(paths, research.bare)
    first = materialiser.materialise(spec)
    commit = CommitId(research.commit({"train.py": "second"}))
    second = materialiser.materialise(replace(spec, commit=commit))
    assert first.cwd == second.cwd
    assert Path(second.cwd, "train.py").read_text() == "second"


def test_another_repository_gets_another_worktree(
    paths: WorkerPaths, research: Any, spec: TrialSpec, tmp_path: Path
) -> None:
    other = tmp_path / "other.git"
    materialiser = make(paths, research.bare, other)
    materialiser.materialise(spec)
    research.bare.rename(other)
    tree = Path(materialiser.materialise(spec).cwd)
    assert (tree / ".git").read_text().startswith(f"gitdir: {other}/worktrees/")


def test_the_output_folder_is_empty_again_for_the_same_attempt_and_another_for_the_next(
    paths: WorkerPaths, research: Any, spec: TrialSpec
) -> None:
    materialiser = make(paths, research.bare)
    out = Path(materialiser.materialise(spec).env["INCUMBENT_OUT"])
    (out / "model").mkdir()
    again = materialiser.materialise(spec)
    assert list(out.iterdir()) == []
    later = materialiser.materialise(replace(spec, attempt=2))
    assert later.env["INCUMBENT_OUT"] != again.env["INCUMBENT_OUT"]
    assert later.log_path != again.log_path


def test_an_output_folder_is_kept_only_with_output(
    paths: WorkerPaths, research: Any, spec: TrialSpec
) -> None:
    materialiser = make(paths, research.bare)
    out = Path(materialiser.materialise(spec).env["INCUMBENT_OUT"])
    (out / "model.bin").touch()
    materialiser.tidy(spec)
    assert [entry.name for entry in out.iterdir()] == ["model.bin"]
    (out / "model.bin").unlink()
    materialiser.tidy(spec)
    assert not out.exists()


def test_frozen_files_are_looked_at_where_the_trial_ran(
    paths: WorkerPaths, research: Any, spec: TrialSpec
) -> None:
    commit = CommitId(research.commit({"prepare.py": "frozen"}))
    spec = replace(spec, commit=commit)
    materialiser = make(paths, research.bare)
    tree = Path(materialiser.materialise(spec).cwd)
    (tree / "train.py").write_text("changed itself")
    assert materialiser.inspect(spec).changed == ()
    (tree / "prepare.py").write_text("melted")
    assert materialiser.inspect(spec).changed == ("prepare.py was changed",)
