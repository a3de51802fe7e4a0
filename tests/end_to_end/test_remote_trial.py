"""A trial where the study's files are not: a worker of another study folder, in the same Ray.

The folder is another one on this machine, so the worker finds nothing of the study but through the
depot. That the machine is another one is for tests with namespaces to show.
"""

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from cluster.nodes.ray_cluster import PrivateRay
from cluster.transport.remote_code import LACK
from infra.local.artifacts import is_on_node
from tests.end_to_end.conftest import BY_HAND, CONFIG, SIGNALS, MakeStudy, Study

pytestmark = [pytest.mark.ray, pytest.mark.slow]

SCRIPT = """#!/bin/sh
X=2
echo "begun with $X"
until [ -e ~/signals/go ]; do sleep 0.05; done
echo "METRIC loss=$X"
head -c 3000000 /dev/zero > "$INCUMBENT_OUT/model"
head -c 9000000 /dev/zero > "$INCUMBENT_OUT/too-large"
mkfifo "$INCUMBENT_OUT/pipe"
"""
ONE_SLOT = CONFIG.replace("slots = 2", "slots = 1").replace("gpus = 0", SIGNALS)
ONE_SLOT = ONE_SLOT.replace("timeout_s = 30", "timeout_s = 600")
KEEP = "[keep]\nreturn_mb = 5\n"
NODE = """
import json, sys
from pathlib import Path
import ray
from cluster.transport.depot import DEPOT, THREADS, DepotActor
from cluster.transport.manifest import Room
from cluster.nodes.worker_actor import WorkerActor
from eval.metric import Goal, Metric
from trainer.config import TrialConfig
from trainer.paths import WorkerPaths
from trainer.slot_parts import WorkerSettings

told = json.loads(sys.argv[1])
ray.init(address=told["address"], namespace=told["study"], log_to_driver=False)
folder = Path(told["folder"])
lasting = {"lifetime": "detached", "num_cpus": 0, "max_restarts": -1}
depot = ray.remote(DepotActor).options(name=DEPOT, max_concurrency=THREADS, **lasting)
depot.remote(told["directory"], told["base"], Room(bytes=5_000_000))
settings = WorkerSettings(
    study=told["study"],
    base=told["base"],
    paths=WorkerPaths(study=folder, environments=folder / "envs"),
    trial=TrialConfig.model_validate_json(json.dumps(told["trial"])),
    metric=Metric(name="loss", goal=Goal.MINIMIZE, pattern=told["pattern"]),
    slots=1,
    gpu_busy_mb=2000.0,
    editable=("bench.sh",),
    node="n1",
)
actor = ray.remote(WorkerActor).options(name="worker-n1", lifetime="detached", num_cpus=0)
actor.remote(settings).run.remote()
print("up", flush=True)
sys.stdin.read()
"""


@pytest.fixture
def study(make_study: MakeStudy) -> Study:
    study = make_study({"bench.sh": SCRIPT}, config=BY_HAND + ONE_SLOT + KEEP)
    signals(study).joinpath("go").touch()
    study.incumbent("run", "--detach")
    study.wait_for_status("e0", "kept")
    signals(study).joinpath("go").unlink()
    return study


@pytest.fixture
def node(study: Study, tmp_path: Path) -> Iterator[Path]:
    """The folder of a worker that is told that it is on another machine."""
    home, folder = study.home, tmp_path / "elsewhere"
    folder.mkdir()
    private = PrivateRay(runtime=home.runtime(), directory=home.directory, empty=home.empty)
    found = private.find()
    assert found is not None
    settings = json.loads(home.settings.read_text())
    told = {
        "address": found.address,
        "study": home.id,
        "folder": str(folder),
        "directory": str(home.directory),
        "base": study.state().base_commit,
        "trial": settings["trial"],
        "pattern": settings["metric"]["pattern"],
    }
    driver = subprocess.Popen(
        [sys.executable, "-I", "-c", NODE, json.dumps(told)],
        env=dict(private.environment()),
        cwd=home.empty,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        assert driver.stdout is not None
        assert driver.stdout.readline() == "up\n"
        yield folder
    finally:
        driver.kill()
        driver.communicate()


def signals(study: Study) -> Path:
    return Path(study.environment["HOME"], "signals")


def process_of(study: Study, name: str) -> psutil.Process:
    (found,) = (process for process, line in study.processes().items() if name in line)
    return found


def slots(study: Study) -> dict[str, str]:
    """Return what runs where."""
    running = [e.trials[-1] for e in study.state().experiments.values() if e.trials]
    return {t.slot: t.id for t in running if t.phase == "running"}


def keep_busy(study: Study) -> str:
    """Have the head's slot and the node's run a trial each; return the node's."""
    for value in ("1", "3"):
        study.submit(study.patch("bench.sh", "X=2", f"X={value}"))
    study.wait("both slots to be busy", lambda: len(slots(study)) == 2)
    (remote,) = (trial for slot, trial in slots(study).items() if is_on_node(slot))
    return remote


def test_a_trial_runs_where_the_study_s_files_are_not_and_its_own_come_back(
    study: Study, node: Path
) -> None:
    remote = keep_busy(study)
    experiment = remote.partition(".")[0]
    log = study.home.logs / f"{remote}.log"
    study.wait("the log's beginning on the head", lambda: log.exists() and log.read_text())
    assert log.read_text().startswith("begun with ")
    assert (node / "repo.git" / "refs" / "node").is_dir()
    follower = study.start("logs", experiment, "-f")

    process_of(study, "ray::DepotActor").kill()  # what comes back waits for the next one
    signals(study).joinpath("go").touch()
    study.wait("its verdict", lambda: not slots(study))
    assert follower.wait() == 0
    assert "METRIC loss=" in follower.output

    (listed,) = study.json("artifacts", experiment)
    files = {each["name"]: each for each in listed["files"]}
    assert listed["node"] == "n1"
    assert files["model"]["node"] == ""
    assert Path(files["model"]["path"]).stat().st_size == 3_000_000
    assert study.home.directory in Path(files["model"]["path"]).parents
    assert files["too-large"]["node"] == "n1"
    assert Path(files["too-large"]["path"]).stat().st_size == 9_000_000
    assert node in Path(files["too-large"]["path"]).parents
    assert files["pipe"]["note"] == "is a pipe"
    assert not any((node / "unsent").iterdir())
    text = study.incumbent("artifacts", experiment).stdout
    assert f"{remote} on n1: {node}/out/{remote}-1" in text
    assert "too-large" in study.incumbent("artifacts", remote).stdout
    assert f"n1:{node}/out" in study.incumbent("show", experiment).stdout.replace("\n", "")


def test_a_study_that_stops_has_what_its_last_trials_left(study: Study, node: Path) -> None:
    remote = keep_busy(study)
    stopping = study.start("stop")
    study.wait("the stop to be asked for", lambda: study.state().stopping)
    process_of(study, "ray::DepotActor").kill()  # it takes Ray seconds to start another
    signals(study).joinpath("go").touch()
    assert stopping.wait() == 0
    assert f"waiting for what {remote} left on n1" in stopping.output
    (listed,) = study.json("artifacts", remote)
    files = {each["name"]: each for each in listed["files"]}
    assert Path(files["model"]["path"]).stat().st_size == 3_000_000
    assert not any((node / "unsent").iterdir())


def test_a_slot_says_that_it_waits_for_a_depot_that_hangs_and_goes_on_when_it_answers(
    study: Study, node: Path
) -> None:
    def note() -> str:
        return next((s.note for s in study.state().slots.values() if is_on_node(s.slot)), "none")

    study.wait("the node's slot", lambda: not note())
    depot = process_of(study, "ray::DepotActor")
    depot.suspend()
    for value in ("1", "3"):
        study.submit(study.patch("bench.sh", "X=2", f"X={value}"))
    study.wait("the slot to say so", lambda: note() == LACK)
    assert LACK in " ".join(study.incumbent("status").stdout.split())
    assert not any(is_on_node(slot) for slot in slots(study))
    depot.resume()
    study.wait("the node's slot to be busy", lambda: any(is_on_node(s) for s in slots(study)))
    assert not note()
    signals(study).joinpath("go").touch()
    study.wait("their ends", lambda: not slots(study))
    state = study.state()
    assert not any(e.losses for e in state.experiments.values()), "it is nobody's fault"
