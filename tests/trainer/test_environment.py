"""Preparing a node: which Python and variables a trial gets, `uv`, `setup` and `data`."""

import os
import shutil
import subprocess
import sys
import threading
import uuid
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest

from trainer.config import TrialConfig
from trainer.environment import Environment, EnvironmentFailed, prepare
from trainer.log_capture import HEAD_BYTES, TAIL_BYTES
from trainer.paths import WorkerPaths
from trainer.process_tree import sweep
from trainer.stored_environments import keys_in
from trainer.trial import CommitId, ExperimentId, TrialId, TrialSpec
from trainer.worktree import SlotWorktree

PYPROJECT = '[project]\nname = "tiny"\nversion = "0"\nrequires-python = ">=3.11"\n'
WHERE = "import os, sys; print(sys.prefix, os.environ['INCUMBENT_SEED'])\n"


@pytest.fixture
def paths(tmp_path: Path) -> WorkerPaths:
    return WorkerPaths(study=tmp_path / "study", environments=tmp_path / "environments")


@pytest.fixture
def environ(tmp_path: Path) -> dict[str, str]:
    """A worker's variables; uv finds this Python and nothing on a network."""
    (tmp_path / "home").mkdir()
    return {
        "PATH": os.environ["PATH"],
        "HOME": os.fspath(tmp_path / "home"),
        "UV_OFFLINE": "1",
        "UV_PYTHON": sys.executable,
    }


Ready = Callable[..., Environment]


@pytest.fixture
def study() -> str:
    """Unlike that of any test that runs at the same time: marks are host-wide."""
    return uuid.uuid4().hex


@pytest.fixture
def ready(research: Any, paths: WorkerPaths, environ: dict[str, str], study: str) -> Ready:
    """Prepare for a commit."""

    def do(commit: str, *, environ: Mapping[str, str] = environ, show: Any = print, **config: Any):  # type: ignore[no-untyped-def]
        return prepare(
            TrialConfig(**{"command": "python train.py", **config}),
            base=CommitId(commit),
            repository=research.bare,
            paths=paths,
            study=study,
            environ=environ,
            show=show,
        )

    return do


def spec(commit: str, **values: Any) -> TrialSpec:
    return TrialSpec(
        **{
            "trial": TrialId("e1.1"),
            "experiment": ExperimentId("e1"),
            "attempt": 1,
            "commit": CommitId(commit),
            "seed": 7,
            "budget_s": 300.0,
            "timeout_s": 600.0,
            **values,
        }
    )


def run(environment: Environment, tree: Path, commit: str) -> str:
    """Run the trial's command as a supervisor would, and return what it printed."""
    variables = environment.for_trial(
        spec(commit), worktree=tree, out=tree, gpu_uuids=(), threads=0
    )
    return subprocess.run(
        environment.argv, cwd=tree, env=variables, check=True, capture_output=True, text=True
    ).stdout.strip()


@pytest.fixture
def tiny(research: Any, environ: dict[str, str]) -> str:
    """A commit with a lock file of its own."""
    (research.checkout / "pyproject.toml").write_text(PYPROJECT)
    uv = shutil.which("uv", path=os.fspath(Path(sys.executable).parent))
    assert uv, "the dev extra brings uv"
    subprocess.run([uv, "lock", "-q"], cwd=research.checkout, env=environ, check=True)
    return str(research.commit({"train.py": WHERE}))


def test_current_is_the_python_that_incumbent_runs_in(
    ready: Ready, research: Any, tmp_path: Path
) -> None:
    commit = research.commit({"train.py": WHERE})
    tree = SlotWorktree(repository=research.bare, path=tmp_path / "w").checkout(commit)
    environment = ready(commit)
    assert run(environment, tree, commit) == f"{sys.prefix} 7"
    assert environment.variables.get("VIRTUAL_ENV", sys.base_prefix) == sys.prefix


def test_a_script_of_the_repository_can_be_the_command(
    ready: Ready, research: Any, tmp_path: Path
) -> None:
    script = '#!/bin/sh\necho "METRIC x=$1 $INCUMBENT_BUDGET_S"\n'
    commit = research.commit({"bench.sh": script}, executable=("bench.sh",))
    tree = SlotWorktree(repository=research.bare, path=tmp_path / "w").checkout(commit)
    assert run(ready(commit, command="./bench.sh '1 2'"), tree, commit) == "METRIC x=1 2 300"


def test_a_virtual_environment_is_given_by_its_path(
    ready: Ready, research: Any, tmp_path: Path
) -> None:
    venv = tmp_path / "my venv"
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", venv], check=True)
    commit = research.commit({"train.py": WHERE})
    tree = SlotWorktree(repository=research.bare, path=tmp_path / "w").checkout(commit)
    assert run(ready(commit, environment=os.fspath(venv)), tree, commit) == f"{venv} 7"


@pytest.mark.parametrize("path", ["/nowhere/venv", "relative/venv"])
def test_a_virtual_environment_that_is_none_is_named_with_the_cure(
    path: str, ready: Ready, research: Any
) -> None:
    commit = research.commit({"train.py": ""})
    with pytest.raises(EnvironmentFailed, match=rf"'{path}' .* no {path}/bin/python.*absolute"):
        ready(commit, environment=path)


def test_worktrees_share_one_uv_environment_and_get_none_of_their_own(
    ready: Ready, research: Any, tiny: str, paths: WorkerPaths, tmp_path: Path
) -> None:
    environment = ready(tiny, environment="uv", command="uv run train.py")

    trees = [
        SlotWorktree(repository=research.bare, path=tmp_path / name).checkout(tiny)
        for name in ("a", "b")
    ]
    said = {run(environment, tree, tiny) for tree in trees}

    (venv,) = (entry for entry in paths.environments.iterdir() if entry.is_dir())
    assert said == {f"{venv} 7"}
    assert environment.variables["UV_OFFLINE"] == "1"
    assert not any((tree / ".venv").exists() for tree in trees)


def test_plain_python_is_that_of_the_uv_environment(
    ready: Ready, research: Any, tiny: str, paths: WorkerPaths, tmp_path: Path
) -> None:
    environment = ready(tiny, environment="uv", command="python train.py")
    tree = SlotWorktree(repository=research.bare, path=tmp_path / "w").checkout(tiny)
    assert run(environment, tree, tiny).startswith(os.fspath(paths.environments))


def test_uv_beside_our_python_will_do_where_path_has_none(
    ready: Ready, research: Any, tiny: str, environ: dict[str, str], tmp_path: Path
) -> None:
    bare = {**environ, "PATH": "/usr/bin:/bin"}
    environment = ready(tiny, environment="uv", command="uv run train.py", environ=bare)
    tree = SlotWorktree(repository=research.bare, path=tmp_path / "w").checkout(tiny)
    assert run(environment, tree, tiny).endswith(" 7")


def test_no_uv_anywhere_is_said_with_the_cure(
    ready: Ready, tiny: str, environ: dict[str, str], tmp_path: Path, monkeypatch: Any
) -> None:
    monkeypatch.setattr(sys, "executable", os.fspath(tmp_path / "python"))
    with pytest.raises(EnvironmentFailed, match="pip install uv"):
        ready(tiny, environment="uv", environ={**environ, "PATH": "/nowhere"})


def test_the_same_lock_is_synced_once_and_a_broken_environment_again(
    ready: Ready, tiny: str, research: Any, paths: WorkerPaths
) -> None:
    shown: list[str] = []
    first = ready(tiny, environment="uv", show=shown.append)
    assert "$ uv sync --frozen --no-install-workspace --compile-bytecode" in shown
    shown.clear()

    later = research.commit({"train.py": "changed"})
    assert ready(later, environment="uv", show=shown.append).variables == first.variables
    assert shown == []

    (Path(first.variables["VIRTUAL_ENV"]) / "bin/python").unlink()
    ready(tiny, environment="uv", show=shown.append)
    assert shown
    assert (Path(first.variables["VIRTUAL_ENV"]) / "bin/python").exists()


def test_another_lock_gets_another_environment(ready: Ready, tiny: str, research: Any) -> None:
    first = ready(tiny, environment="uv").variables["VIRTUAL_ENV"]
    changed = research.commit({"pyproject.toml": PYPROJECT + "# changed\n"})
    assert ready(changed, environment="uv").variables["VIRTUAL_ENV"] != first


def test_git_tells_which_environment_a_study_may_use(
    ready: Ready, tiny: str, research: Any, as_user_git: Any
) -> None:
    made = ready(tiny, environment="uv").variables["VIRTUAL_ENV"]
    as_user_git(research.bare, "update-ref", f"refs/source/{tiny}", tiny)
    assert keys_in(research.bare) == {Path(made).name}


@pytest.mark.parametrize("missing", ["pyproject.toml", "uv.lock"])
def test_uv_without_its_files_is_said_with_the_cure(
    missing: str, ready: Ready, tiny: str, research: Any
) -> None:
    (research.checkout / missing).unlink()
    commit = research.commit({})
    with pytest.raises(EnvironmentFailed, match=rf'"uv" needs {missing} .*`uv lock`'):
        ready(commit, environment="uv")


def test_a_failed_sync_shows_the_end_of_what_uv_said(
    ready: Ready, tiny: str, research: Any, paths: WorkerPaths
) -> None:
    commit = research.commit({"uv.lock": "this is = no lock\n"})
    with pytest.raises(EnvironmentFailed, match=r"uv sync .* ended with 2\.(.|\n)*uv\.lock"):
        ready(commit, environment="uv")
    assert "uv.lock" in paths.environment_log.read_text()


def test_a_source_folder_of_a_package_is_that_of_the_worktree(
    ready: Ready, tiny: str, research: Any, tmp_path: Path
) -> None:
    package = PYPROJECT + '[build-system]\nrequires = []\nbuild-backend = "b"\n'
    files = {"pyproject.toml": package, "src/tiny/__init__.py": "X = 1\n"}
    base = research.commit({**files, "train.py": "import tiny; print(tiny.X)\n"})
    candidate = research.commit({"src/tiny/__init__.py": "X = 2\n"})
    environment = ready(base, environment="uv", command="uv run train.py")
    tree = SlotWorktree(repository=research.bare, path=tmp_path / "w").checkout(candidate)
    assert run(environment, tree, candidate) == "2"


SETUP = """
import os, pathlib, sys
home = pathlib.Path(os.environ["HOME"])
with (home / "runs").open("a") as file:
    file.write("x")
(home / "data").mkdir(exist_ok=True)
print("one"); print("half", end="\\r"); print("caf\\N{LATIN SMALL LETTER E WITH ACUTE}", end="")
print(os.environ.get("UV_OFFLINE"), os.environ.get("HTTPS_PROXY"), file=sys.stderr)
"""


def test_setup_runs_once_in_the_base_commit_with_its_output_shown(
    ready: Ready, research: Any, environ: dict[str, str], paths: WorkerPaths, tmp_path: Path
) -> None:
    commit = research.commit({"prepare.py": SETUP})
    research.commit({"prepare.py": "raise SystemExit(1)"})
    del environ["UV_OFFLINE"]
    environ |= {"HTTPS_PROXY": "http://proxy", "PYTHONUTF8": "1"}
    shown: list[str] = []
    workers = [
        threading.Thread(
            target=ready,
            args=(commit,),
            kwargs={"setup": "python prepare.py", "show": shown.append},
        )
        for _ in range(3)
    ]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()

    assert (tmp_path / "home/runs").read_text() == "x"
    assert shown == ["$ python prepare.py", "one", "half", "caféNone http://proxy"]
    assert "caféNone http://proxy" in paths.setup_log.read_text("utf-8")


def test_another_setup_command_runs_again(ready: Ready, research: Any, tmp_path: Path) -> None:
    commit = research.commit({"prepare.py": SETUP})
    for setup in ("python prepare.py", "python prepare.py", "python prepare.py --more"):
        ready(commit, setup=setup)
    assert (tmp_path / "home/runs").read_text() == "xx"


def test_a_failed_setup_shows_its_end_and_is_tried_again(
    ready: Ready, research: Any, tmp_path: Path
) -> None:
    commit = research.commit({"prepare.py": SETUP + "\nraise OSError('no such mirror')\n"})
    for _ in range(2):
        with pytest.raises(
            EnvironmentFailed, match=r"setup .* ended with 1\.(.|\n)*no such mirror"
        ):
            ready(commit, setup="python prepare.py")
    assert (tmp_path / "home/runs").read_text() == "xx"


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({"setup": "no-such-command"}, r"setup could not run: .*no-such-command"),
        ({"setup": "sh -c 'kill -9 $$'"}, "setup .* was ended by signal 9"),
        ({"setup": "'open"}, "cannot be split: No closing quotation"),
        ({"command": "python 'train.py"}, "cannot be split: No closing quotation"),
        ({"command": " "}, "is empty"),
    ],
)
def test_commands_that_cannot_run_are_named(
    config: dict[str, str], message: str, ready: Ready, research: Any
) -> None:
    commit = research.commit({"train.py": ""})
    with pytest.raises(EnvironmentFailed, match=message):
        ready(commit, **config)


def test_a_setup_that_prints_without_end_is_kept_in_bounds(
    ready: Ready, research: Any, paths: WorkerPaths
) -> None:
    script = "print('first'); [print('x' * 99) for _ in range(90_000)]; print('last')"
    commit = research.commit({"prepare.py": script})
    shown: list[str] = []
    ready(commit, setup="python prepare.py", show=shown.append)
    log = paths.setup_log.read_text("utf-8")
    assert len(log) < HEAD_BYTES + 2 * TAIL_BYTES
    assert log.startswith("first\n")
    assert log.endswith("x\nlast\n")
    assert "bytes dropped" in log
    assert shown[1] == "first"


def test_a_daemon_that_setup_leaves_holds_nothing_up(
    ready: Ready, research: Any, study: str
) -> None:
    # A process has no environment to be found by while it starts a program: wait until it has.
    script = "sleep 600 &\nuntil grep -q sleep /proc/$!/cmdline; do :; done\n"
    commit = research.commit({"prepare.sh": script})
    try:
        ready(commit, setup="sh prepare.sh")
    finally:
        assert sweep(f"{study}/setup/") == 1


def test_setup_ends_with_the_one_who_waits_for_it(ready: Ready, research: Any, study: str) -> None:
    commit = research.commit({"train.py": ""})

    def interrupt(line: str) -> None:
        if line == "started":
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        ready(commit, setup="sh -c 'echo started; sleep 600 & wait'", show=interrupt)
    assert sweep(f"{study}/setup/") == 0


def test_missing_data_is_named_and_setup_may_make_it(
    ready: Ready, research: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", os.fspath(tmp_path / "home"))
    commit = research.commit({"prepare.py": SETUP})
    with pytest.raises(EnvironmentFailed, match=r"data: ~/data does not exist\. Put it there"):
        ready(commit, data=("~/data",))
    ready(commit, data=("~/data",), setup="python prepare.py")
    (tmp_path / "home/data").rmdir()
    with pytest.raises(EnvironmentFailed, match=r"~/data .* setup\) did not make it.*delete .*/s"):
        ready(commit, data=("~/data",), setup="python prepare.py")


NOBODY = "~nobody-of-this-name/data"


@pytest.mark.parametrize(
    ("config", "key"),
    [
        ({"data": (NOBODY,)}, r"\[trial\] data"),
        ({"environment": NOBODY}, r"\[trial\] environment"),
    ],
)
def test_a_home_of_nobody_is_told_with_what_names_it(
    ready: Ready, research: Any, config: Any, key: str
) -> None:
    commit = research.commit({"train.py": ""})
    said = f"^{key}: {NOBODY} begins with a home folder that is not known"
    with pytest.raises(EnvironmentFailed, match=said):
        ready(commit, **config)


def test_data_that_cannot_be_looked_at_is_not_said_to_be_missing(
    ready: Ready, research: Any, tmp_path: Path
) -> None:
    commit = research.commit({"train.py": ""})
    with pytest.raises(EnvironmentFailed, match=r"^\[trial\] data: /x+ cannot .*\(File name too"):
        ready(commit, data=("/" + "x" * 300,))
    closed = tmp_path / "closed"
    closed.mkdir(mode=0)
    if os.geteuid():  # nothing is closed to root
        with pytest.raises(EnvironmentFailed, match=r"closed/data cannot .*\(Permission denied\)"):
            ready(commit, data=(f"{closed}/data",))


def test_a_cache_that_cannot_be_made_is_missing(
    ready: Ready, research: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", os.fspath(tmp_path / "home"))
    (tmp_path / "home" / ".cache").write_text("a file")
    commit = research.commit({"train.py": ""})
    with pytest.raises(EnvironmentFailed, match=r"~/\.cache/torch does not exist"):
        ready(commit, data=("~/.cache/torch",))


def test_a_trial_is_told_its_seed_budget_output_and_devices(ready: Ready, research: Any) -> None:
    commit = research.commit({"train.py": ""})
    environment = ready(commit)
    told = environment.for_trial(
        spec(commit, seed=3, budget_s=2.5),
        worktree=Path("/w"),
        out=Path("/out"),
        gpu_uuids=("GPU-a", "GPU-b"),
        threads=2,
    )
    assert told["INCUMBENT_SEED"] == "3"
    assert told["INCUMBENT_BUDGET_S"] == "2.5"
    assert told["INCUMBENT_OUT"] == "/out"
    assert told["CUDA_VISIBLE_DEVICES"] == "GPU-a,GPU-b"
    assert told["OMP_NUM_THREADS"] == "2"
    assert told["PYTHONUNBUFFERED"] == "1"


def test_a_trial_without_a_gpu_sees_none(ready: Ready, research: Any, environ: Any) -> None:
    commit = research.commit({"train.py": ""})
    environment = ready(commit, environ={**environ, "CUDA_VISIBLE_DEVICES": "0,1"})
    told = environment.for_trial(
        spec(commit), worktree=Path("/w"), out=Path("/o"), gpu_uuids=(), threads=0
    )
    assert told["CUDA_VISIBLE_DEVICES"] == ""
    assert "OMP_NUM_THREADS" not in told
