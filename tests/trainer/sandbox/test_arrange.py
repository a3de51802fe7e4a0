"""From a study's section to a sandbox, and real trials of real environments in it."""

import os
import subprocess
import sys
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import pytest

from eval.metric import Goal, Metric
from trainer.environment import Environment, EnvironmentFailed
from trainer.paths import WorkerPaths
from trainer.removal import Trash
from trainer.run_folder import RunFolder
from trainer.run_records import EndedBy, RunReport, RunRequest
from trainer.sandbox import arrange as arrange_module
from trainer.sandbox import choose as choose_module
from trainer.sandbox.arrange import arrange
from trainer.sandbox.choose import attempt, candidates, choose
from trainer.sandbox.confine import BubblewrapSandbox, Program, Sizes, home_of
from trainer.sandbox.diagnosis import Diagnosis
from trainer.sandbox.none import NoneSandbox
from trainer.sandbox.port import Sandbox
from trainer.supervisor_client import Supervisor
from trainer.trial_user import TRIAL_UIDS

TORCH = """
import multiprocessing as mp
import torch
from torch.utils.data import DataLoader, Dataset
class Rows(Dataset):
    def __len__(self): return 8
    def __getitem__(self, row): return torch.full((1000,), float(row))
def square(x): return x * x
if __name__ == "__main__":
    total = sum(batch[0, 0].item() for batch in DataLoader(Rows(), batch_size=2, num_workers=2))
    with mp.get_context("spawn").Pool(2) as pool: squares = pool.map(square, range(4))
    open("/out/model.pt", "wb").write(b"weights")
    print(squares, "loss:", total)
    print(f"loss: {total}")
"""
TORCHRUN = """
import torch
import torch.distributed as dist
dist.init_process_group("gloo")
total = torch.tensor([dist.get_rank() + 1.0])
dist.all_reduce(total)
if dist.get_rank() == 0:
    print(f"loss: {total.item()}")
dist.destroy_process_group()
"""
VARIABLES = {
    "PATH": os.pathsep.join([os.fspath(Path(sys.executable).parent), "/usr/bin", "/bin"]),
    "HOME": os.path.expanduser("~"),  # noqa: PTH111
}


@pytest.fixture
def paths(tmp_path: Path) -> WorkerPaths:
    return WorkerPaths(study=tmp_path / "study", environments=tmp_path / "environments")


def run(
    sandbox: Sandbox, environment: Environment, files: dict[str, str], folder: Path
) -> RunReport:
    tree = folder / "tree"
    for name, text in files.items():
        (tree / name).parent.mkdir(parents=True, exist_ok=True)
        (tree / name).write_text(text)
    files_of_run = RunFolder.at(folder / "run")
    files_of_run.discard(Trash(folder / "trash"))
    files_of_run.fill(tree, owner=sandbox.owner)
    seen = sandbox.seen(files_of_run)
    request = RunRequest(
        argv=environment.argv,
        env=environment.variables,
        cwd=os.fspath(seen.src),
        log_path=os.fspath(folder / "log"),
        timeout_s=120.0,
        metric=Metric(name="loss", goal=Goal.MINIMIZE, pattern=r"^loss:\s+(\S+)"),
        mark=f"study/{folder.name}/e1.1",
    )
    with closing(Supervisor()) as supervisor:
        supervisor.start(sandbox.confine(request, files_of_run))
        while not isinstance(report := supervisor.poll(60.0), RunReport):
            pass
    return report


def test_torch_with_its_workers_and_pools_trains_in_the_sandbox(
    paths: WorkerPaths, tmp_path: Path
) -> None:
    environment = Environment(argv=("python", "train.py"), variables=VARIABLES)
    sandbox = arrange("bubblewrap", environment=environment, data=(), paths=paths)
    report = run(sandbox, environment, {"train.py": TORCH}, tmp_path)
    assert (report.ended_by, report.exit_code) == (EndedBy.EXIT, 0), report.tail
    assert report.metric_text == "12.0"
    assert "[0, 1, 4, 9]" in report.tail
    assert (tmp_path / "run" / "out" / "model.pt").read_bytes() == b"weights"


@pytest.mark.slow
def test_torchrun_s_processes_meet_in_the_sandbox(paths: WorkerPaths, tmp_path: Path) -> None:
    argv = ("torchrun", "--standalone", "--nproc-per-node=2", "train.py")
    environment = Environment(argv=argv, variables=VARIABLES)
    sandbox = arrange("bubblewrap", environment=environment, data=(), paths=paths)
    report = run(sandbox, environment, {"train.py": TORCHRUN}, tmp_path)
    assert (report.ended_by, report.exit_code) == (EndedBy.EXIT, 0), report.tail
    assert report.metric_text == "3.0"


def test_uv_runs_in_the_sandbox(paths: WorkerPaths, tmp_path: Path) -> None:
    project = '[project]\nname = "p"\nversion = "0"\nrequires-python = ">=3.11"\n'
    uv = Path(sys.executable).with_name("uv")
    made = tmp_path / "home" / "environment"
    made.parent.mkdir()
    subprocess.run(
        [uv, "venv", "--quiet", "--offline", "--python", sys.executable, made], check=True
    )
    variables = {
        **VARIABLES,
        "PATH": f"{made}/bin{os.pathsep}{VARIABLES['PATH']}",
        "HOME": os.fspath(made.parent),
        "VIRTUAL_ENV": os.fspath(made),
        "UV_PROJECT_ENVIRONMENT": os.fspath(made),
        "UV_NO_SYNC": "1",
    }
    environment = Environment(argv=("uv", "run", "train.py"), variables=variables)
    sandbox = arrange("bubblewrap", environment=environment, data=(), paths=paths)
    script = "import sys; print(f'loss: {len(sys.prefix)}')"
    files = {"train.py": script, "pyproject.toml": project, "uv.lock": "version = 1\n"}
    report = run(sandbox, environment, files, tmp_path)
    assert report.exit_code == 0, report.tail
    assert report.metric_text == str(len(os.fspath(made)))


def test_none_is_had_by_asking_for_it_alone(paths: WorkerPaths) -> None:
    environment = Environment(argv=("python",), variables=VARIABLES)
    found = arrange("none", environment=environment, data=(), paths=paths)
    assert isinstance(found, NoneSandbox)


def test_data_is_shown_at_its_place_wherever_it_really_is(
    paths: WorkerPaths, tmp_path: Path
) -> None:
    really = tmp_path / "disk" / "tokens"
    really.mkdir(parents=True)
    really.chmod(0o755)
    (tmp_path / "link").symlink_to(really)
    environment = Environment(argv=("true",), variables={"PATH": "/nowhere", "HOME": "/home/ada"})
    data = [os.fspath(tmp_path / "link")]
    sandbox = arrange("bubblewrap", environment=environment, data=data, paths=paths)
    assert isinstance(sandbox, BubblewrapSandbox)
    (bind,) = sandbox.shown
    assert (bind.place, bind.source, bind.is_writable) == (*data, str(really), False)
    assert sandbox.home == "/home/ada"


@pytest.mark.parametrize("kind", ["home", "above", "root", "link", "studies"])
def test_data_that_would_show_too_much_is_refused(
    kind: str, paths: WorkerPaths, tmp_path: Path
) -> None:
    home = tmp_path / "home"
    home.mkdir()
    paths = replace(paths, study=tmp_path / "state" / "study")
    (tmp_path / "link").symlink_to(home)
    data = {
        "home": home,
        "above": tmp_path,
        "root": Path("/"),
        "link": tmp_path / "link",
        "studies": tmp_path / "state",
    }[kind]
    environment = Environment(
        argv=("true",), variables={"PATH": "/nowhere", "HOME": os.fspath(home)}
    )
    with pytest.raises(EnvironmentFailed, match="would be shown"):
        arrange("bubblewrap", environment=environment, data=[os.fspath(data)], paths=paths)


@pytest.mark.skipif(os.geteuid() != 0, reason="a plain user's trials read what the user reads")
def test_data_that_root_alone_can_read_is_refused_with_the_cure(
    paths: WorkerPaths, tmp_path: Path
) -> None:
    private = tmp_path / "private"
    private.mkdir(mode=0o700)
    environment = Environment(argv=("true",), variables={"PATH": "/nowhere", "HOME": "/home/ada"})
    with pytest.raises(EnvironmentFailed, match=f"chmod -R o\\+rX {private}"):
        arrange("bubblewrap", environment=environment, data=[os.fspath(private)], paths=paths)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root becomes somebody else")
def test_trials_of_roots_run_as_the_slots_user(paths: WorkerPaths, tmp_path: Path) -> None:
    environment = Environment(
        argv=("/usr/bin/python3", "train.py"), variables={"PATH": "/usr/bin", "HOME": "/home/ada"}
    )
    files = {"train.py": "import os; print(f'loss: {os.getuid()}')"}
    for uid in TRIAL_UIDS[:2]:  # in the same folders, which each leaves to the next
        sandbox = arrange("bubblewrap", environment=environment, data=(), paths=paths, uid=uid)
        assert run(sandbox, environment, files, tmp_path).metric_text == str(uid)
        assert (tmp_path / "run" / "src" / "train.py").stat().st_uid == uid


def test_a_home_that_is_none_is_a_private_one() -> None:
    assert [home_of({"HOME": home}) for home in ("", "/", "relative", "/home/ada/")] == [
        *["/tmp/home"] * 3,
        "/home/ada",
    ]


def test_what_nvidia_needs_is_shown_with_a_card_alone(tmp_path: Path) -> None:
    request = RunRequest(
        argv=("true",),
        env={},
        cwd="/experiment",
        log_path="log",
        timeout_s=1.0,
        metric=Metric(name="loss", goal=Goal.MINIMIZE, pattern="x"),
        mark="a/b/c",
    )
    sandbox = BubblewrapSandbox(
        program=Program(path="/usr/bin/bwrap"), home="/home", sizes=Sizes(home=1, tmp=1, shm=1)
    )
    for devices in ((), ("/dev/nvidia3",)):
        confined = replace(sandbox, devices=devices).confine(request, RunFolder.at(tmp_path))
        assert confined.confinement is not None
        places = {bind.place for bind in confined.confinement.binds}
        assert ("/sys" in places) is bool(devices)
        assert confined.confinement.devices == devices


def test_the_driver_is_asked_for_the_node_that_cuda_needs(
    paths: WorkerPaths, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(arrange_module, "_UNIFIED_MEMORY", ("/nowhere/uvm",))
    environment = Environment(argv=("true",), variables={"PATH": "/nowhere"})
    with pytest.raises(EnvironmentFailed, match="sudo nvidia-modprobe -u -c 0"):
        arrange(
            "bubblewrap", environment=environment, data=(), paths=paths, devices=["/nowhere/uvm"]
        )


# Which bwrap


def test_this_machine_makes_sandboxes() -> None:
    assert isinstance(choose(), Program)


def test_a_bwrap_that_fails_is_passed_over_for_the_next(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    broken = tmp_path / "bwrap"
    broken.write_text(
        "#!/bin/sh\necho 'bwrap: setting up uid map: Permission denied' >&2; exit 1\n"
    )
    tmp_path.chmod(0o755)
    broken.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}{os.pathsep}/usr/bin{os.pathsep}/bin")
    first, *others = candidates()
    assert first.path == os.fspath(broken)
    assert attempt(first)
    assert choose() == others[0]
    monkeypatch.setattr(choose_module, "bundled", lambda: None)
    diagnosis = choose()
    assert isinstance(diagnosis, Diagnosis)
    assert os.fspath(broken) in diagnosis.text()
    environment = Environment(argv=("true",), variables=VARIABLES)
    paths = WorkerPaths(study=tmp_path / "s", environments=tmp_path / "e")
    with pytest.raises(EnvironmentFailed, match="no sandbox can be made"):
        arrange("bubblewrap", environment=environment, data=(), paths=paths)
