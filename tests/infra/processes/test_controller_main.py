"""What the controller's process does beside being a controller."""

import subprocess
import sys
from pathlib import Path

from infra.local.home import StudyHome
from infra.processes.controller_main import growing_logs
from trainer.log_capture import HEAD_BYTES, TAIL_BYTES

PROGRAM = f"""
import sys, time
from pathlib import Path
from infra.processes import controller_main
log = Path(sys.argv[1], "controller.log")
def wait():
    until = time.monotonic() + 10
    while log.stat().st_size > {HEAD_BYTES + 2 * TAIL_BYTES} and time.monotonic() < until:
        time.sleep(0.02)
    return 0
controller_main._run = lambda _: wait()
controller_main.main()
"""


def study(repository: Path) -> StudyHome:
    home = StudyHome.locate(repository, "s")
    home.create()
    return home


def test_it_keeps_the_logs_of_its_study_short(incumbent_home: Path, tmp_path: Path) -> None:
    home = study(tmp_path)
    home.controller_log.write_bytes(b"x" * (4 << 20))
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, str(home.directory)], check=False, timeout=60
    )
    assert done.returncode == 0
    assert home.controller_log.stat().st_size < HEAD_BYTES + 2 * TAIL_BYTES


def test_it_knows_what_is_written_to_for_as_long_as_the_study_runs(
    incumbent_home: Path, tmp_path: Path
) -> None:
    home = study(tmp_path)
    written = [
        *(home.controller_log, home.fleet_log, home.directory / "ray.log"),
        *(home.redis / "valkey.log", home.logs / "setup.log", home.logs / "environment.log"),
    ]
    for log in written:
        log.touch()
    trial = home.logs / "e1.1.log"
    trial.touch()
    found = growing_logs(home)
    assert set(written) <= set(found)
    assert trial not in found
