"""From a trial's record to a command: files, folders and variables are in place."""

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from eval.metric import Goal, Metric
from eval.seeds import Reseed
from trainer.environment import Environment
from trainer.materialise import Materialiser
from trainer.paths import WorkerPaths
from trainer.ports import Slot
from trainer.run_records import Limits
from trainer.sandbox.none import NoneSandbox
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

    def fetch(self, commit: CommitId, *, is_ahead: bool = False) -> Path:
        first, *rest = self.repositories
        self.repositories = rest or [first]
        return first

    def lack(self) -> str:
        return ""

    def promoted(self) -> frozenset[ExperimentId]:
        return frozenset()


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


def make(
    paths: WorkerPaths,
    *repositories: Path,
    limits: Limits | None = None,
    seed_pattern: str = "",
    keep_gb: float = 0.0,
) -> Materialiser:
    return Materialiser(
        study="mar5",
        slot=SLOT,
        paths=paths,
        environment=Environment(argv=("python", "train.py"), variables={"PATH": "/bin"}),
        metric=METRIC,
        code=FakeCodeSource(*repositories),
        sandbox=NoneSandbox(),
        threads=2,
        limits=limits,
        editable=("train.py",),
        seed_pattern=seed_pattern,
        keep_gb=keep_gb,
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
        "INCUMBENT_OUT": f"{paths.study}/runs/slot-gpu-0/0/out",
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


def test_the_limits_of_a_run_watch_its_own_folders(
    paths: WorkerPaths, research: Any, spec: TrialSpec
) -> None:
    assert make(paths, research.bare).materialise(spec).limits is None
    request = make(paths, research.bare, limits=Limits(pids=7)).materialise(spec)
    assert request.limits is not None
    assert request.limits.pids == 7
    cache = Path(request.cwd).with_name("cache")
    assert request.limits.folders == (request.cwd, request.env["INCUMBENT_OUT"], str(cache))


def test_the_next_trial_is_made_ready_beside_the_one_that_runs(
    paths: WorkerPaths, research: Any, spec: TrialSpec
) -> None:
    materialiser = make(paths, research.bare)
    first = materialiser.materialise(spec)
    other = replace(spec, commit=CommitId(research.commit({"train.py": "second"})))
    second = materialiser.materialise(other)
    assert Path(first.cwd, "train.py").read_text() == "first"
    assert Path(second.cwd, "train.py").read_text() == "second"
    materialiser.tidy(spec)
    assert not Path(first.cwd).exists()
    assert Path(second.cwd, "train.py").read_text() == "second"
    assert materialiser.materialise(spec).cwd == first.cwd


def test_what_a_trial_does_to_its_files_reaches_neither_the_worktree_nor_the_next(
    paths: WorkerPaths, research: Any, spec: TrialSpec
) -> None:
    materialiser = make(paths, research.bare)
    for _ in range(3):
        cwd = Path(materialiser.materialise(spec).cwd)
        assert sorted(entry.name for entry in cwd.iterdir()) == ["train.py"]
        assert Path(cwd, "train.py").read_text() == "first"
        (cwd / "train.py").write_text("changed")
        (cwd / "sitecustomize.py").touch()
        materialiser.tidy(spec)
    assert (paths.worktree(SLOT.id) / "train.py").read_text() == "first"


def test_without_a_sandbox_the_users_own_caches_stay_in_use(
    paths: WorkerPaths, research: Any, spec: TrialSpec
) -> None:
    materialiser = make(paths, research.bare)
    own = {"PATH": "/bin", "TORCHINDUCTOR_CACHE_DIR": "/home/ada/cache"}
    materialiser._environment = replace(materialiser._environment, variables=own)
    assert materialiser.materialise(spec).env["TORCHINDUCTOR_CACHE_DIR"] == "/home/ada/cache"


def test_another_repository_gets_another_worktree(
    paths: WorkerPaths, research: Any, spec: TrialSpec, tmp_path: Path
) -> None:
    other = tmp_path / "other.git"
    materialiser = make(paths, research.bare, other)
    materialiser.materialise(spec)
    research.bare.rename(other)
    materialiser.materialise(spec)
    tree = paths.worktree(SLOT.id)
    assert (tree / ".git").read_text().startswith(f"gitdir: {other}/worktrees/")


def test_what_a_trial_leaves_is_kept_apart_from_that_of_another_attempt(
    paths: WorkerPaths, research: Any, spec: TrialSpec
) -> None:
    materialiser = make(paths, research.bare)
    logs = set()
    for attempt in (1, 1, 2):
        tried = replace(spec, attempt=attempt)
        request = materialiser.materialise(tried)
        out = Path(request.env["INCUMBENT_OUT"])
        assert list(out.iterdir()) == []
        (out / "model").mkdir()
        materialiser.tidy(tried)
        assert (paths.out(tried) / "model").is_dir()
        logs.add(request.log_path)
    assert len(logs) == 2
    assert paths.out(spec) != paths.out(replace(spec, attempt=2))


def test_an_output_folder_is_kept_only_with_output(
    paths: WorkerPaths, research: Any, spec: TrialSpec
) -> None:
    materialiser = make(paths, research.bare)
    materialiser.materialise(spec)
    materialiser.tidy(spec)
    assert not paths.out(spec).exists()


def test_an_output_folder_that_the_trial_made_a_link_is_not_followed(
    paths: WorkerPaths, research: Any, spec: TrialSpec, tmp_path: Path
) -> None:
    materialiser = make(paths, research.bare)
    out = Path(materialiser.materialise(spec).env["INCUMBENT_OUT"])
    (tmp_path / "mine").write_text("mine")
    out.rmdir()
    out.symlink_to(tmp_path)
    materialiser.tidy(spec)
    assert paths.out(spec).is_symlink()
    assert (tmp_path / "mine").read_text() == "mine"


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


def another(spec: TrialSpec, number: int) -> TrialSpec:
    return replace(spec, trial=TrialId(f"e{number}.1"), experiment=ExperimentId(f"e{number}"))


def test_what_is_prepared_anew_is_never_put_where_a_trial_runs(
    paths: WorkerPaths, research: Any, spec: TrialSpec
) -> None:
    materialiser = make(paths, research.bare)
    running = materialiser.materialise(spec)
    for number in (2, 3, 4):
        prepared = materialiser.materialise(another(spec, number), is_ahead=True)
        assert prepared.cwd != running.cwd
        materialiser.drop(another(spec, number))
        assert not Path(prepared.cwd).exists()
    assert (Path(running.cwd) / "train.py").exists()
    materialiser.materialise(another(spec, 5))
    with pytest.raises(RuntimeError, match="both of the slot's run folders are taken"):
        materialiser.materialise(another(spec, 6))
    materialiser.tidy(spec)
    assert materialiser.materialise(another(spec, 6)).cwd == running.cwd


@pytest.mark.parametrize(
    ("files", "why_not"),
    [
        ({"train.py": "import torch"}, ""),
        ({"train.py": "import model", "model.py": "import torch"}, ""),
        ({"train.py": "import json"}, "train.py does not import torch"),
        ({"other.py": "import torch"}, "train.py is no file of the tree"),
    ],
)
def test_python_waits_for_a_script_that_imports_torch_and_a_shell_for_any_other(
    files: dict[str, str], why_not: str, paths: WorkerPaths, research: Any, spec: TrialSpec
) -> None:
    (research.checkout / "train.py").unlink()
    spec = replace(spec, commit=CommitId(research.commit(files)))
    materialiser = make(paths, research.bare)
    request = materialiser.materialise(spec, is_ahead=True)
    assert request.warm is not None
    assert request.warm.argv[0] == ("/bin/sh" if why_not else "python")
    assert request.warm.without_imports.partition(":")[0] == why_not
    materialiser.tidy(spec)
    assert materialiser.materialise(spec).warm is None


@pytest.mark.parametrize("link", ["train.py", "lib"])
def test_no_source_is_read_through_a_link(
    link: str, paths: WorkerPaths, research: Any, spec: TrialSpec, tmp_path: Path
) -> None:
    """A candidate could have us read a file of ours."""
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "secret.py").write_text("import torch")
    script = "import lib.secret"
    (research.checkout / "train.py").unlink()
    if link == "train.py":
        (research.checkout / link).symlink_to(outside / "secret.py")
    else:
        (research.checkout / link).symlink_to(outside)
        (research.checkout / "train.py").write_text(script)
    spec = replace(spec, commit=CommitId(research.commit({"note": "x"})))
    warm = make(paths, research.bare).materialise(spec, is_ahead=True).warm
    assert warm is not None
    assert warm.argv[0] == "/bin/sh"


def test_a_repeat_has_another_seed_in_its_own_copy_alone(
    paths: WorkerPaths, research: Any, spec: TrialSpec, monkeypatch: pytest.MonkeyPatch
) -> None:
    for module in ("reseed", "plan_apart"):  # however busy the machine is
        monkeypatch.setattr(f"trainer.{module}._PATIENCE_S", 60.0)
    script = "import torch\nmanual_seed(42)\n"
    commit = CommitId(research.commit({"train.py": script, "prepare.py": "manual_seed(42)\n"}))
    materialiser = make(paths, research.bare, seed_pattern=r"manual_seed\((\d+)\)")
    first = replace(spec, commit=commit)
    repeat = replace(first, trial=TrialId("e1.2"), seed=2, is_repeat=True)

    as_it_is = materialiser.materialise(first)
    request = materialiser.materialise(repeat, is_ahead=True)

    assert Path(as_it_is.cwd, "train.py").read_text() == script
    assert materialiser.reseeds(first) == ()
    assert Path(request.cwd, "train.py").read_text() == "import torch\nmanual_seed(2)\n"
    assert materialiser.reseeds(repeat) == (Reseed(path="train.py", line=2, old="42", new="2"),)
    assert request.warm is not None
    assert not request.warm.without_imports
    assert Path(request.cwd, "prepare.py").read_text() == "manual_seed(42)\n"
    assert (paths.worktree(SLOT.id) / "train.py").read_text() == script
    assert materialiser.inspect(repeat).changed == ()


@pytest.mark.parametrize("end", [Materialiser.tidy, partial(Materialiser.drop, is_over=True)])
def test_what_a_trial_printed_counts_though_it_left_nothing_else(
    paths: WorkerPaths,
    research: Any,
    spec: TrialSpec,
    end: Callable[[Materialiser, TrialSpec], None],
) -> None:
    materialiser = make(paths, research.bare, keep_gb=1e-6)
    trials = [spec, replace(spec, trial=TrialId("e2.1"), experiment=ExperimentId("e2"))]
    for each in trials:
        materialiser.materialise(each)
        paths.log(each).parent.mkdir(exist_ok=True)
        paths.log(each).write_bytes(b"x" * 2000)
        end(materialiser, each)
    assert [paths.log(each).exists() for each in trials] == [False, True]
    materialiser.materialise(spec)
    materialiser.drop(spec)  # it has not run: somebody else may be running it
    assert paths.log(trials[1]).exists()
