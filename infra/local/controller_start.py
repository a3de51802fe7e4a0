"""Starts the controller process of a study. The process itself: infra.processes.controller_main.

A controller runs in a session of its own, so closing the terminal changes nothing.
"""

import subprocess
import sys
import time
from collections.abc import Mapping

from cluster.nodes.environment import allowed_environment, ray_access
from infra.local.controller_process import find_controller
from infra.local.home import StudyHome
from infra.local.keys import keys_pipe

PROGRAM = "from infra.processes.controller_main import main; raise SystemExit(main())"


def wait_until_it_runs(home: StudyHome, process: subprocess.Popen[bytes]) -> bool:
    """Wait until a controller that was just started can be found; False if it has ended instead."""
    while find_controller(home) is None:
        if process.poll() is not None:
            return False
        time.sleep(0.05)
    return True


def start_controller(
    home: StudyHome, keys: Mapping[str, str] | None = None
) -> subprocess.Popen[bytes]:
    """Start the controller in its own session, from an empty directory and a clean environment.

    It is handed the API keys through a pipe, which no other process has a part in.
    """
    with home.controller_log.open("ab") as log, keys_pipe(keys or {}) as descriptor:
        return subprocess.Popen(
            [sys.executable, "-I", "-c", PROGRAM, str(home.directory), str(descriptor)],
            pass_fds=[descriptor],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            env=allowed_environment() | ray_access(),
            cwd=home.empty,
            start_new_session=True,
        )
