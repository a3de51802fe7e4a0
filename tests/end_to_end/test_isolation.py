"""What a study keeps apart: secrets, names of packages, sockets, and the devices of two studies."""

import json
import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import psutil
import pytest

from tests.end_to_end.conftest import BY_HAND, CONFIG, SIGNALS, MakeStudy, Study
from trainer.slot_lock import SlotLock, try_hold
from trainer.trial_user import TRIAL_UIDS

pytestmark = [pytest.mark.ray, pytest.mark.slow]

SECRETS = {
    "ANTHROPIC_API_KEY": "sentinel-1",
    "OPENAI_API_KEY": "sentinel-2",
    "AWS_SECRET_ACCESS_KEY": "sentinel-3",
    "HF_TOKEN": "sentinel-4",
    "SOMETHING_NOBODY_THOUGHT_OF": "sentinel-5",
}
TRAIN = """import json
import os
import time
from pathlib import Path

import cluster
import eval as judge
import infra
import trainer

RATE = 0.5
facts = {
    "environment": dict(os.environ),
    "files": [module.__file__ for module in (cluster, judge, infra, trainer)],
}
kernel = Path(os.environ["TRITON_CACHE_DIR"], "kernel")
print("was compiled before:", kernel.exists())
kernel.parent.mkdir(exist_ok=True)
kernel.touch()
Path(os.environ["INCUMBENT_OUT"], "facts.json").write_text(json.dumps(facts))
while not Path.home().joinpath("signals", "go").exists():
    time.sleep(0.05)
print(f"METRIC loss={judge.loss(RATE)}")
"""
THEIRS = {
    "train.py": TRAIN,
    "eval.py": "def loss(rate):\n    return (rate - 1.0) ** 2\n",
    "cluster.py": "",
    "infra.py": "",
    "trainer/__init__.py": "",
}
ONE_SLOT = CONFIG.replace("slots = 2", "slots = 1")
IN_PYTHON = ONE_SLOT.replace("./bench.sh", "python train.py").replace("bench.sh", "train.py")
IN_PYTHON = IN_PYTHON.replace("gpus = 0", SIGNALS)
PROCESSES = {
    "infra.processes.controller_main", "cluster.nodes.fleet", "gcs_server", "raylet",
    "ray::QueueActor", "ray::WorkerActor", "valkey-server", "trainer.supervisor", "train.py",
}  # fmt: skip
"""What the command lines of a study's processes hold: each must be found, or nothing is shown."""


def test_a_study_keeps_its_secrets_sockets_modules_and_slot_to_itself(
    make_study: MakeStudy,
) -> None:
    study = make_study(THEIRS, config=IN_PYTHON, variables=SECRETS)
    last = (os.cpu_count() or 1) - 1
    first_user, next_user = TRIAL_UIDS[:2]
    taken = [*(f"cpu-{number}" for number in range(last)), f"user-{first_user}"]
    held = [hold(study, device) for device in taken]
    study.incumbent("run", "-n", "2", "--detach")

    def facts() -> list[Path]:
        found = study.home.directory.glob("runs/slot-*/*/out/facts.json")
        return [path for path in found if path.read_text().endswith("}")]

    study.wait("the trial to run", facts)
    (written,) = facts()
    assert written.stat().st_uid == (os.getuid() or next_user)

    processes = study.processes()
    missing = {word for word in PROCESSES if not any(word in p for p in processes.values())}
    assert not missing, processes
    for process, line in processes.items():
        about = Path(f"/proc/{process.pid}/environ").read_bytes() + line.encode()
        assert not [name for name in SECRETS if name.encode() in about], line
        assert b"sentinel" not in about, line
        assert not process.cwd().startswith(str(study.repository)), line
    verify_that_sockets_are_private(study, processes)
    verify_the_trial(study, json.loads(written.read_text()))

    beside = make_study(name="beside", config=BY_HAND + ONE_SLOT)
    beside.incumbent("run", "--detach")
    verify_that_it_waits_for(study, beside)
    for lock in held:
        lock.release()
    Path(study.environment["HOME"], "signals", "go").touch()
    study.wait("the end", lambda: study.state().finished == "2 experiments were judged")
    log = study.json("log")
    assert log[0]["score"] == 0.25  # by their eval, not ours
    for trial, was_compiled in (("e0.1", False), ("e0.2", True), ("e1.1", True)):
        said = (study.home.logs / f"{trial}.log").read_text()
        assert f"was compiled before: {was_compiled}" in said
    # The baseline waited for us, so that others are suspect of having taken no time.
    ended = {"kept", "discarded", "conflicted", "merged", "suspect"}
    assert {row["status"] for row in log} <= ended
    beside.wait_for_status("e0", "kept")
    assert {row["slot"] for row in log} == {f"cpu-{last}"}
    assert beside.json("log")[0]["slot"] == "cpu-0"


def verify_that_sockets_are_private(study: Study, processes: Iterable[psutil.Process]) -> None:
    home = study.home
    sockets = [*home.directory.rglob("*.sock"), *home.runtime().glob("*.sock")]
    assert sockets
    for path, mode in [
        (home.directory, 0o700),
        (home.runtime(), 0o700),
        (home.runtime().parent, 0o700),
        (home.directory / "ray.token", 0o600),
        *((socket, 0o700) for socket in sockets),
    ]:
        assert path.stat().st_mode & 0o777 == mode, path
        assert path.stat().st_uid == os.getuid()
    addresses = {
        connection.laddr.ip
        for process in processes
        for connection in process.net_connections("inet")
        if connection.status == psutil.CONN_LISTEN or not connection.raddr
    }
    assert "127.0.0.1" in addresses
    assert addresses <= {"127.0.0.1", "::ffff:127.0.0.1", "::1"}


def verify_the_trial(study: Study, facts: dict[str, Any]) -> None:
    """What train.py found: its own modules, and none of the caller's secrets."""
    assert not SECRETS.keys() & facts["environment"].keys()
    assert not [value for value in facts["environment"].values() if "sentinel" in value]
    assert facts["environment"]["HOME"] == study.environment["HOME"]
    assert facts["environment"]["INCUMBENT_BUDGET_S"] == "1"
    names = ("cluster.py", "eval.py", "infra.py", "trainer/__init__.py")
    assert facts["files"] == [f"/experiment/{name}" for name in names]


def verify_that_it_waits_for(first: Study, second: Study) -> None:
    """All slots are booked, the last by `first`: so the other study waits, and says for whom."""
    second.wait("a slot that is blocked", lambda: second.state().slots)
    (blocked,) = second.json("status")["slots"]
    assert blocked["state"] == "blocked"
    all_taken = f"all {os.cpu_count()} CPU slots are taken, one by study {first.home.id} (process "
    assert blocked["note"].startswith(all_taken)
    holder = psutil.Process(int(blocked["note"].removeprefix(all_taken).rstrip(")")))
    assert first.processes()[holder].startswith("ray::WorkerActor")
    assert second.state().experiments["e0"].status == "queued"


def hold(study: Study, device: str) -> SlotLock:
    """Book a device as a third study would."""
    folder = Path(study.environment["INCUMBENT_LOCK_DIR"])
    lock = try_hold(device, "third", exclusive=True, folder=folder)
    assert isinstance(lock, SlotLock)
    return lock
