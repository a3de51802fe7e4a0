"""The process of a final run: `python -I -c PROGRAM STUDY_DIRECTORY`."""

import signal
import sys
import threading
from pathlib import Path

from cluster.git.room import NoRoom
from cluster.ledger.ledger import LedgerAway
from cluster.ours import assert_ours
from infra.local.final_process import read_order, sole_final
from infra.local.home import StudyHome, StudyProblem
from infra.local.study import opened
from infra.processes.final_run import FinalRun
from trainer.environment import EnvironmentFailed
from trainer.git_command import GitError
from trainer.growing_log import keep_short

_FAILURES = (EnvironmentFailed, GitError, LedgerAway, NoRoom, StudyProblem)


def main() -> int:
    """Carry out what was ordered; SIGTERM gives back what runs. The log's end says why not."""
    assert_ours()
    home = StudyHome.read(Path(sys.argv[1]))
    stop = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: stop.set())
    keep_short(lambda: [home.final_log])
    try:
        with sole_final(home), opened(home) as study:
            FinalRun(study, read_order(home), stop).carry_out()
    except _FAILURES as error:
        sys.stderr.write(f"{error}\n")
        return 1
    return 0
