"""kill -9 of every process of a study: nothing recorded is lost, nothing counts twice, it goes on.

Repeat with KILL_ROUNDS=20 to play the whole sequence that often, at other moments.
"""

import json
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest

from cluster.ledger.ledger import load
from cluster.state import events as ev
from cluster.state.invariants import check
from cluster.state.state import StudyState
from infra.local.controller_process import find_controller
from infra.local.home import StudyHome
from infra.local.study import OpenStudy, opened
from infra.processes.leftovers import end_leftovers

ROUNDS = int(os.environ.get("KILL_ROUNDS", "1"))
EXPERIMENTS = 40
PROGRAM = Path(sys.executable).with_name("incumbent")

SCRIPT = """#!/bin/sh
X=2.0 # range: 0.1..8
Y=1.0 # range: 0.1..8
sleep 0.4
awk -v x=$X -v y=$Y 'BEGIN { print "METRIC loss=" (x - 1) ^ 2 + (y - 3) ^ 2 }'
"""
CONFIG = """
[study]
name = "kills"
editable = ["bench.sh"]
[metric]
name = "loss"
goal = "minimize"
pattern = '^METRIC loss=(\\S+)'
[trial]
command = "./bench.sh"
budget_s = 1
timeout_s = 20
gpus = 0
[cluster]
slots = 2
lease_s = 5
"""


class Study:
    """A running study, and its processes."""

    def __init__(self, repository: Path) -> None:
        self.repository = repository

    @property
    def home(self) -> StudyHome:
        return StudyHome.locate(self.repository, "kills")

    def command(self, *args: str, timeout: float = 240) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [str(PROGRAM), *args],
            cwd=self.repository,
            capture_output=True,
            text=True,
            timeout=timeout,
            check=False,
        )

    def run(self) -> subprocess.CompletedProcess[str]:
        return self.command("run", "-n", str(EXPERIMENTS), timeout=500)

    def detach(self) -> None:
        done = self.command("run", "-n", str(EXPERIMENTS), "--detach")
        assert done.returncode == 0, done.stderr

    def state(self) -> StudyState:
        with opened(self.home) as study:
            return study.state()

    def wait(self, what: str, condition: Callable[[], object], seconds: float = 150) -> None:
        deadline = time.monotonic() + seconds
        while not condition():
            if time.monotonic() > deadline:
                logs = [
                    f"{path.name}: {path.read_text()[-2000:]}"
                    for path in (self.home.controller_log, self.home.fleet_log)
                    if path.exists()
                ]
                pytest.fail(f"waited {seconds} s for {what}; {logs}")
            time.sleep(0.05)

    def wait_for_results(self, more: int) -> None:
        before = self.state().judged
        self.wait(f"{more} more results", lambda: self.state().judged >= before + more)

    # --- processes -------------------------------------------------------------------------------

    def controller(self) -> int:
        facts = find_controller(self.home)
        assert facts is not None
        return facts.pid

    def fleet(self) -> int:
        return next(
            process.pid
            for process in psutil.Process(self.controller()).children()
            if str(self.home.directory / "fleet.json") in process.cmdline()
        )

    def of_ray(self, name: str) -> int:
        session = json.loads((self.home.directory / "ray.json").read_text())["pid"]
        for process in psutil.process_iter():
            try:
                if os.getsid(process.pid) == session and name in " ".join(process.cmdline()[:2]):
                    return process.pid
            except (psutil.Error, OSError):
                continue
        raise LookupError(name)

    def find(self, target: str) -> int:
        if target == "controller":
            return self.controller()
        if target == "fleet":
            return self.fleet()
        if target == "redis":
            return int((self.home.redis / "valkey.pid").read_text())
        return self.of_ray(target)

    def kill(self, target: str) -> int:
        """Kill one process, waiting for it to be there (it may just be coming back)."""
        found: list[int] = []

        def is_there() -> bool:
            try:
                found.append(self.find(target))
            except (LookupError, StopIteration, AssertionError, psutil.Error, OSError):
                return False
            return True

        self.wait(f"a {target} to kill", is_there)
        os.kill(found[-1], signal.SIGKILL)
        return found[-1]


@pytest.fixture
def study(tmp_path: Path, incumbent_home: Path) -> Iterator[Study]:
    repository = tmp_path / "repository"
    repository.mkdir()
    (repository / "bench.sh").write_text(SCRIPT)
    (repository / "bench.sh").chmod(0o755)
    (repository / "incumbent.toml").write_text(CONFIG)
    identity = ("-c", "user.name=Ada", "-c", "user.email=ada@example.org")
    for args in (("init", "-q"), ("add", "."), ("commit", "-qm", "start")):
        subprocess.run(["git", *identity, *args], cwd=repository, check=True)
    found = Study(repository)
    yield found
    found.command("stop", "--now")
    end_leftovers(found.home)


def verify(study: OpenStudy) -> None:
    """Everything recorded is there, once, and adds up; git and the table agree with it."""
    state = load(study.ledger)
    check(state)
    recorded = []
    while page := study.ledger.read(len(recorded)):
        recorded.extend(page)
    assert [r.seq for r in recorded] == list(range(1, state.seq + 1))
    ends = [
        (r.event.trial, r.event.attempt)
        for r in recorded
        if isinstance(r.event, ev.TrialFinished | ev.TrialLost)
    ]
    assert len(ends) == len(set(ends))
    promoted = [r.event for r in recorded if isinstance(r.event, ev.Promoted)]
    git = ["git", f"--git-dir={study.home.git}"]
    head = subprocess.check_output([*git, "rev-parse", "incumbent/kills"], text=True).strip()
    assert head == (promoted[-1].commit if promoted else state.base_commit)
    history = subprocess.check_output(
        [*git, "log", "--format=%(trailers:key=Experiment,valueonly)", "incumbent/kills"], text=True
    )
    assert history.split() == [event.experiment for event in reversed(promoted)]
    for event in promoted:
        tree = subprocess.check_output([*git, "rev-parse", f"{event.commit}^{{tree}}"], text=True)
        assert tree.strip() == state.experiments[event.experiment].tree
    rows = study.home.results.read_text().splitlines()[1:]
    kept = [row for row in rows if row.split("\t")[3] == "keep"]
    assert len(kept) == len(promoted) + 1  # and the baseline


TARGETS = ["WorkerActor", "QueueActor", "redis", "fleet", "raylet", "gcs_server", "controller"]


@pytest.mark.ray
@pytest.mark.slow
@pytest.mark.timeout(600 * ROUNDS)
@pytest.mark.parametrize("seed", range(ROUNDS))
def test_a_study_survives_the_death_of_each_of_its_processes(study: Study, seed: int) -> None:
    moments = random.Random(seed)
    study.detach()
    study.wait_for_results(1)
    for target in TARGETS if seed == 0 else moments.sample(TARGETS, len(TARGETS)):
        before = study.state()
        study.kill(target)
        if target == "controller":
            study.detach()  # `incumbent run` carries on where it was
        study.wait_for_results(1)
        after = study.state()
        assert after.seq > before.seq
        assert set(before.experiments) <= set(after.experiments)
        time.sleep(moments.random())  # so that the next one dies at some other moment
    done = study.run()
    assert done.returncode == 0, done.stderr
    with opened(study.home) as found:
        verify(found)
        state = found.state()
    assert state.judged == EXPERIMENTS
    assert state.promotions >= 1


@pytest.mark.ray
@pytest.mark.slow
def test_a_killed_worker_leaves_no_trial_behind_and_its_trial_runs_again(study: Study) -> None:
    script = study.repository / "bench.sh"
    script.write_text(SCRIPT.replace("sleep 0.4", "sleep 0.4; (setsid sleep 301 &); sleep 1"))
    subprocess.run(["git", "-c", "user.name=A", "-c", "user.email=a@b", "commit", "-qam", "slow"],
                   cwd=study.repository, check=True)  # fmt: skip
    study.detach()
    study.wait("a running trial", lambda: study.state().counts.get("running"))
    study.wait("its daemon", lambda: marked(study))
    study.kill("WorkerActor")
    study.wait_for_results(1)
    lost = [t for e in study.state().experiments.values() for t in e.trials if t.phase == "lost"]
    assert lost
    again = [e for e in study.state().experiments.values() if any(t.attempt > 1 for t in e.trials)]
    assert again
    assert study.command("stop", "--now").returncode == 0
    study.wait("all of the trials' processes to be gone", lambda: not marked(study), 20)


def marked(study: Study) -> list[int]:
    """Return the processes that trials of the study started."""
    mark = f"INCUMBENT_TRIAL={study.home.id}/".encode()
    found = []
    for process in psutil.process_iter():
        try:
            if mark in Path(f"/proc/{process.pid}/environ").read_bytes():
                found.append(process.pid)
        except OSError:
            continue
    return found
