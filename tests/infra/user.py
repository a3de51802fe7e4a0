"""Somebody who uses the command line on a small research repository, for any test."""

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import psutil

from infra.local.home import StudyHome
from tests.infra.command_line import command_line

PROGRAM = Path(sys.executable).with_name("incumbent")
USAGE = 2
FAILURE = 1

TRAIN = """\
LR = 0.1
DEPTH = 2
print(f"loss: {LR * DEPTH}")
"""
CONFIG = """\
[study]
name = "mar5"
[metric]
name = "loss"
goal = "minimize"
[trial]
command = "python train.py"
gpus = 0
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class User:
    """Somebody at a shell, with a home, a state directory and locks of their own."""

    folder: Path
    variables: Mapping[str, str]

    @classmethod
    def at(cls, root: Path, *, folder: str = "research") -> "User":
        """Return a user in an empty folder."""
        for path in (root / "home", root / folder):
            path.mkdir()
        (root / "home" / ".gitconfig").write_text(
            "[user]\n name = Ada\n email = ada@example.org\n[init]\n defaultBranch = main\n"
        )
        variables = {
            "PATH": os.environ["PATH"],
            "HOME": str(root / "home"),
            "INCUMBENT_HOME": str(root / "state"),
            "INCUMBENT_LOCK_DIR": str(root / "locks"),
            "TMPDIR": tempfile.gettempdir(),  # where sockets with long paths are
            "LANG": "C.UTF-8",
        }
        return cls(folder=root / folder, variables=variables)

    def write(self, files: Mapping[str, str]) -> None:
        for name, text in files.items():
            (self.folder / name).write_text(text, encoding="utf-8")

    def commit(self, files: Mapping[str, str]) -> None:
        self.write(files)
        self.git("init", "--quiet")
        self.git("add", "--", *files)
        self.git("commit", "--quiet", "--message=Baseline")

    def git(self, *args: str) -> str:
        done = self.run("git", *args)
        assert done.returncode == 0, done.stderr
        return done.stdout

    def run(
        self, program: str | Path, *args: str, stdin: str = "", **variables: str
    ) -> subprocess.CompletedProcess[str]:
        command, env = [str(program), *args], {**self.variables, **variables}
        if program == PROGRAM:
            return command_line().run(command, cwd=self.folder, env=env, stdin=stdin)
        return subprocess.run(
            command,
            cwd=self.folder,
            env=env,
            input=stdin,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )

    def refused(self, code: int, *args: str, stdin: str = "", **variables: str) -> str:
        """Run a command that is to end with `code`, and return what it says on standard error."""
        done = self.run(PROGRAM, *args, stdin=stdin, **variables)
        said = done.stdout + done.stderr
        assert "Traceback" not in said, said
        assert done.returncode == code, said
        assert 0 < len(done.stderr) < 2000, said
        return done.stderr

    def done(self, *args: str) -> str:
        """Run a command that is to succeed, and return its output."""
        done = self.run(PROGRAM, *args)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    @property
    def home(self) -> StudyHome:
        """The home of the study, of which there is one."""
        [facts] = Path(self.variables["INCUMBENT_HOME"]).glob("studies/*/study.json")
        return StudyHome.read(facts.parent)

    def has_study(self) -> bool:
        """Say whether anything was created."""
        return Path(self.variables["INCUMBENT_HOME"]).exists()


_LISTENER = """
import socket, sys
held = socket.create_server((sys.argv[1], int(sys.argv[2])))
print(held.getsockname()[1], flush=True)
sys.stdin.read()
"""


@contextmanager
def left_behind(home: StudyHome, address: str, port: int = 0) -> Iterator[int]:
    """Be something that listens like a Ray of the study whose controller was killed."""
    with subprocess.Popen(
        [sys.executable, "-Ic", _LISTENER, address, str(port)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        cwd=home.empty,
        start_new_session=True,
    ) as listener:
        assert listener.stdout is not None
        found = int(listener.stdout.readline())
        created = psutil.Process(listener.pid).create_time()
        place = f"{address}:{found}"
        facts = {"pid": listener.pid, "created": created, "address": "", "place": place}
        (home.directory / "ray.json").write_text(json.dumps(facts))
        yield found
        listener.kill()
