"""Which bwrap to use on this machine: the first that really makes a sandbox.

Knows where bwraps are and how to try one; why none works, `diagnosis` knows. What a version or a
kernel setting says is not asked: whether a namespace can be made depends on the kernel, its
settings, the container around us and the path of the program (AppArmor), so one is made, by the
same supervisor, as the same user and with the same options as around a trial.
"""

import os
import shutil
import tempfile
from contextlib import closing
from pathlib import Path

from eval.metric import Goal, Metric
from trainer.run_folder import RunFolder
from trainer.run_records import EndedBy, RunReport, RunRequest
from trainer.sandbox.bubblewrap_binary import bundled
from trainer.sandbox.confine import BubblewrapSandbox, Program, Sizes, home_of
from trainer.sandbox.diagnosis import Diagnosis, diagnose
from trainer.sandbox.failed import Failed
from trainer.sandbox.probe import probe
from trainer.supervisor_client import Supervisor
from trainer.trial_user import TRIAL_UID

_PATIENCE_S = 20.0
_SIZE = 1 << 20


def candidates(uid: int | None = None) -> list[Program]:
    """Return the bwraps of this machine: the system's first, which its administrator keeps.

    `uid` is whom to become first, where we are root; TRIAL_UID if it is not given.
    """
    if uid is None and os.geteuid() == 0:
        uid = TRIAL_UID
    found = []
    if system := shutil.which("bwrap"):
        found.append(Program(path=system, uid=uid))
    if ours := bundled():
        path, root = ours
        found.append(Program(path=path, root=root, uid=uid))
    return found


def choose(uid: int | None = None) -> Program | Diagnosis:
    """Return the first bwrap that makes a sandbox, or why none does. Takes about 0.1 s.

    `uid` is as `candidates` has it.
    """
    failures = []
    for program in candidates(uid):
        said = attempt(program)
        if not said:
            return program
        failures.append(Failed(path=program.path, said=said))
    return diagnose(probe(failures))


def attempt(program: Program) -> str:
    """Start `true` in a sandbox; return what went wrong, or nothing."""
    try:
        report = _report(program)
    except OSError as error:  # the folders of a run cannot be given to the user of trials, say
        return str(error)
    if report.ended_by is EndedBy.EXIT and report.exit_code == 0:
        return ""
    return report.problem or report.tail.strip() or f"{report.ended_by}, {report.exit_code}"


def _report(program: Program) -> RunReport:
    with (
        tempfile.TemporaryDirectory(prefix="incumbent-") as folder,
        closing(Supervisor()) as supervisor,
    ):
        sandbox = BubblewrapSandbox(
            program=program, home=home_of({}), sizes=Sizes(home=_SIZE, tmp=_SIZE, shm=_SIZE)
        )
        run = RunFolder.at(Path(folder))
        run.make(owner=sandbox.owner)
        request = RunRequest(
            argv=("true",),
            env={"PATH": os.environ.get("PATH", os.defpath)},
            cwd=os.fspath(sandbox.seen(run).src),
            log_path=os.fspath(run.src.parent / "log"),
            timeout_s=_PATIENCE_S,
            metric=Metric(name="none", goal=Goal.MINIMIZE, pattern="(?!)"),
            mark=f"sandbox/{os.getpid()}/try",
        )
        supervisor.start(sandbox.confine(request, run))
        while not isinstance(report := supervisor.poll(_PATIENCE_S), RunReport):
            pass
        return report
