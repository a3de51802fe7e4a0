"""Drives the command line as a user's shell does: real processes, real Ray, server and git."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.request import urlopen

import psutil
import pytest

from cluster.ledger.ledger import LedgerAway
from cluster.state.invariants import check
from cluster.state.state import StudyState
from infra.local.controller_process import find_controller
from infra.local.home import StudyHome
from infra.local.study import opened
from tests.infra.command_line import command_line
from trainer.process_tree import MARK_VARIABLE

PROGRAM = Path(sys.executable).with_name("incumbent")
SCRIPT = """#!/bin/sh
X=2
echo "METRIC loss=$X"
"""
CONFIG = """
[study]
name = "{name}"
editable = ["bench.sh"]
[metric]
name = "loss"
goal = "minimize"
pattern = '^METRIC loss=(\\S+)'
[trial]
command = "./bench.sh"
budget_s = 1
timeout_s = 30
gpus = 0
[cluster]
slots = 2
"""
BY_HAND = "proposer = []\n"
"""To be put before a configuration: the study runs what is submitted, and nothing else."""
SIGNALS = 'gpus = 0\ndata = ["~/signals"]'
"""To be put in place of `gpus = 0`: trials, in their sandbox, see what a test does there."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Study:
    """A research repository, the study of it, and the user who works there."""

    repository: Path
    name: str
    environment: dict[str, str]
    prompts: list["Prompt"] = field(default_factory=list)

    # --- what the user does ----------------------------------------------------------------------

    def incumbent(
        self, *args: str, code: int | None = 0, stdin: str | None = None, timeout_s: float = 250
    ) -> subprocess.CompletedProcess[str]:
        """Run a command in the repository, which is to end with `code`; None is any."""
        try:
            done = subprocess.run(
                [str(PROGRAM), *args],
                cwd=self.repository,
                env=self.environment,
                input=stdin,
                capture_output=True,
                text=True,
                timeout=timeout_s,
                check=False,
            )
        except subprocess.TimeoutExpired as error:
            told = (error.stdout or b"").decode() + (error.stderr or b"").decode()
            pytest.fail(f"{args} did not end within {timeout_s:.0f} s\n{told}\n{self._logs()}")
        told = f"{args}\n{done.stdout}\n{done.stderr}\n{self._logs()}"
        assert code in {None, done.returncode}, told
        return done

    def json(self, *args: str) -> Any:
        """Run a command and return the JSON that it prints.

        Without starting the program anew: there are many questions. `incumbent` starts it.
        """
        command = [str(PROGRAM), *args, "--json"]
        env = self.environment
        done = command_line().run(command, cwd=self.repository, env=env, stdin="")
        assert done.returncode == 0, f"{args}\n{done.stdout}\n{done.stderr}\n{self._logs()}"
        return json.loads(done.stdout)

    def start(self, *args: str) -> "Prompt":
        """Start a command and come back at once."""
        self.prompts.append(Prompt(self, args))
        return self.prompts[-1]

    def git(self, *args: str) -> str:
        """Run git in the repository, as its user."""
        identity = ("-c", "user.name=Ada", "-c", "user.email=ada@example.org")
        return subprocess.check_output(
            ["git", *identity, *args], cwd=self.repository, env=self.environment, text=True
        )

    def patch(self, name: str, old: str, new: str) -> str:
        """Return a patch of the committed file that replaces `old` by `new`."""
        path = self.repository / name
        before = path.read_text()
        assert old in before
        path.write_text(before.replace(old, new))
        try:
            return self.git("diff", "--", name)
        finally:
            path.write_text(before)

    def submit(self, patch: str, *args: str, name: str = "bench.sh") -> list[dict[str, Any]]:
        """Submit a patch, and return what `submit --json` says."""
        done = self.incumbent("submit", "--patch", "-", *args, "--json", stdin=patch)
        found: list[dict[str, Any]] = json.loads(done.stdout)
        return found

    # --- what is so ------------------------------------------------------------------------------

    @property
    def home(self) -> StudyHome:
        """Where the study is."""
        return StudyHome.locate(self.repository, self.name)

    def state(self) -> StudyState:
        """Return what the ledger says."""
        with opened(self.home) as study:
            return study.state()

    def metrics(self) -> str:
        """Return what the controller serves at /metrics."""
        running = find_controller(self.home)
        assert running is not None
        with urlopen(running.metrics, timeout=10) as answer:  # noqa: S310 - our own address
            text: str = answer.read().decode()
        assert "incumbent_" in text
        return text

    def processes(self) -> dict[psutil.Process, str]:
        """Return every process of the study, and its command line.

        Each names the study's directory, its runtime directory (Ray's files and sockets) or the
        mark of a trial in its arguments, variables or folder; but for the supervisor of a trial,
        which is its parent.
        """
        mark = f"{MARK_VARIABLE}={self.home.id}/".encode()
        signs = [os.fsencode(self.home.directory), os.fsencode(self.home.runtime()), mark]
        found: dict[psutil.Process, str] = {}
        for process in psutil.process_iter():
            try:
                about = _about(process.pid)
                if any(sign in about for sign in signs):
                    found[process] = " ".join(process.cmdline())
                parent = psutil.Process(process.ppid())
                if mark in about and "trainer.supervisor" in (line := " ".join(parent.cmdline())):
                    found[parent] = line
            except (OSError, psutil.Error):
                continue  # it ended meanwhile, or is somebody else's
        return found

    def wait(self, what: str, condition: Callable[[], object], seconds: float = 150) -> None:
        """Wait until something is so; fail after that many seconds."""
        deadline = time.monotonic() + seconds
        while not condition():
            if time.monotonic() > deadline:
                pytest.fail(f"waited {seconds} s for {what}\n{self._logs()}")
            time.sleep(0.05)  # a look costs a core, which the study could use, several ms

    def wait_for_status(self, experiment: str, status: str) -> None:
        """Wait until an experiment has a status."""

        def has_it() -> bool:
            found = self.state().experiments.get(experiment)
            return found is not None and found.status == status

        self.wait(f"{experiment} to be {status}", has_it)

    def _logs(self) -> str:
        paths = (self.home.controller_log, self.home.fleet_log)
        return "\n".join(f"{p.name}: {p.read_text()[-3000:]}" for p in paths if p.exists())


def _about(pid: int) -> bytes:
    folder = Path(f"/proc/{pid}")
    words = (folder / "cmdline").read_bytes() + (folder / "environ").read_bytes()
    return words + os.fsencode((folder / "cwd").readlink())


class Prompt:
    """A command that runs while the test goes on."""

    def __init__(self, study: Study, args: tuple[str, ...]) -> None:
        self._study = study
        self._path = study.repository.with_name(f"{study.name}-{len(study.prompts)}.out")
        with self._path.open("wb") as output:
            self.process = subprocess.Popen(
                [str(PROGRAM), *args],
                cwd=study.repository,
                env=study.environment,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                # A shell that starts the tests in the background has Ctrl-C ignored, for all below.
                preexec_fn=_heed_interrupts,  # noqa: PLW1509 - it is safe beside other threads
            )

    @property
    def output(self) -> str:
        """What it has printed so far, on standard output and error."""
        return self._path.read_text()

    def interrupt(self) -> None:
        """Press Ctrl-C."""
        self.process.send_signal(signal.SIGINT)

    def wait(self, seconds: float = 150) -> int:
        """Return the exit code, once it ends."""
        try:
            return self.process.wait(seconds)
        except subprocess.TimeoutExpired:
            pytest.fail(f"{self.process.args} does not end:\n{self.output}\n{self._study._logs()}")


def _heed_interrupts() -> None:
    signal.signal(signal.SIGINT, signal.SIG_DFL)


MakeStudy = Callable[..., Study]


@pytest.fixture
def environment(tmp_path: Path, incumbent_home: Path) -> dict[str, str]:
    """The variables of the user's shell, with a home directory of the test's own."""
    user = tmp_path / "home"
    (user / "signals").mkdir(parents=True)
    path = f"{PROGRAM.parent}{os.pathsep}{os.environ.get('PATH', os.defpath)}"
    return {
        "HOME": str(user),
        "PATH": path,
        "LANG": "C.UTF-8",
        "INCUMBENT_HOME": str(incumbent_home),
        "INCUMBENT_LOCK_DIR": os.environ["INCUMBENT_LOCK_DIR"],
    }


@pytest.fixture
def make_study(tmp_path: Path, environment: dict[str, str]) -> Iterator[MakeStudy]:
    """Makes studies of repositories with the given files; sees to it that nothing stays behind."""
    made: list[Study] = []

    def make(
        files: Mapping[str, str] | None = None,
        *,
        folder: Path | None = None,
        name: str = "study",
        config: str = CONFIG,
        variables: Mapping[str, str] | None = None,
    ) -> Study:
        repository = folder or tmp_path / name
        study = Study(
            repository=repository, name=name, environment=environment | dict(variables or {})
        )
        made.append(study)
        if (repository / ".git").exists():
            return study
        everything = dict(files or {"bench.sh": SCRIPT})
        if config:
            everything["incumbent.toml"] = config.format(name=name)
        for path, text in everything.items():
            target = repository / path
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_text(text)
            if text.startswith("#!"):
                target.chmod(0o755)
        study.git("init", "--quiet", "--initial-branch=main")
        study.git("add", "--all")
        study.git("commit", "--quiet", "--message=start")
        return study

    yield make
    ends: list[StudyState] = []
    for study in made:
        for prompt in study.prompts:
            prompt.process.kill()
            prompt.wait()
        if study.home.exists():
            study.incumbent("stop", "--now")
            with suppress(LedgerAway):  # a test of its own server has ended that
                ends.append(study.state())
    left = [line for study in made for line in study.processes().values()]
    left += [path for study in made for path in cleared(study.home.runtime())]
    assert not left
    for state in ends:
        check(state)


def cleared(runtime: Path) -> list[str]:
    """Remove a folder of sockets, and say so if there was one."""
    if not runtime.exists():
        return []
    shutil.rmtree(runtime)
    return [str(runtime)]
