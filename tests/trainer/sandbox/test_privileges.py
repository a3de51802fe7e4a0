"""Root shows things by number to nobody else, and is root no more."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from trainer.sandbox.privileges import staged
from trainer.trial_user import TRIAL_UID

REPOSITORY = Path(__file__).parents[3]
PROGRAM = """
import json, os, sys
sys.path.append(sys.argv[1])
from pathlib import Path
from trainer.sandbox.privileges import drop, stage, staged
from trainer.trial_user import TRIAL_UID

before = Path("/proc/self/mountinfo").read_text()
pipe, end = os.pipe()
if os.fork() == 0:
    stage(sys.argv[2:])
    drop(TRIAL_UID)
    found = {"ids": [*os.getresuid(), *os.getresgid(), *os.getgroups()]}
    found["listed"] = sorted(os.listdir(os.path.dirname(staged(0))))
    found["file"] = Path(staged(1)).read_text()
    found["folder"] = os.listdir(staged(0))
    for name, call in (("root", lambda: os.setuid(0)), ("path", lambda: os.listdir(sys.argv[2]))):
        try: call()
        except OSError: found[name] = "refused"
    os.write(end, json.dumps(found).encode())
    os._exit(0)
os.close(end)
os.wait()
found = json.loads(os.read(pipe, 65536))
found["left"] = Path("/proc/self/mountinfo").read_text() != before
print(json.dumps(found))
"""

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="only root has privileges to give up")


def test_what_root_alone_can_reach_is_seen_by_number_and_by_nobody_else(tmp_path: Path) -> None:
    private = tmp_path / "private"
    (private / "folder").mkdir(parents=True)
    (private / "folder" / "train.py").touch()
    (private / "file").write_text("text")
    private.chmod(0o700)
    sources = [str(private / "folder"), str(private / "file")]
    # As on most machines, and unlike in most containers, mounts are seen by other namespaces.
    shared = ("unshare", "--mount", "--propagation", "shared")
    done = subprocess.run(
        [*shared, sys.executable, "-I", "-c", PROGRAM, str(REPOSITORY), *sources],
        capture_output=True,
        text=True,
        check=True,
    )
    assert json.loads(done.stdout) == {
        "ids": [TRIAL_UID] * 6,
        "listed": [Path(staged(0)).name, Path(staged(1)).name],
        "file": "text",
        "folder": ["train.py"],
        "root": "refused",
        "path": "refused",
        "left": False,
    }
