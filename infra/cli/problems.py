"""Which exceptions are a user's business, and their exit codes. Imported only when one occurs."""

import errno
from pathlib import Path

from cluster.backup.ledger_file import LedgerFileProblem
from cluster.backup.rebuild import CannotRebuild, OtherConfiguration
from cluster.backup.study_copy import BundleProblem
from cluster.config_file import ConfigError
from cluster.git.room import NoRoom
from cluster.git.source_repository import SourceProblem
from cluster.git.study_repository import NoRepository
from cluster.ledger.codec import SchemaError
from cluster.ledger.ledger import Fenced, LedgerAway
from cluster.ledger.redis_store import WrongServer
from cluster.nodes.fleet_process import ClusterAway
from cluster.ours import Shadowed
from cluster.state.steps import OutOfOrder
from infra.cli.study_choice import UsageProblem
from infra.local.controller_process import ControllerRuns
from infra.local.embedded_server import ServerFailed
from infra.local.home import StudyProblem
from infra.processes.listening import ListenProblem
from trainer.git_command import GitError, GitTooOld
from trainer.safe_read import Unsafe

USAGE = 2
FAILURE = 1
_MOST_NAME = 60

_USAGE = (ConfigError, ListenProblem, OtherConfiguration, SourceProblem, UsageProblem)
_FAILURE = (
    BundleProblem,
    CannotRebuild,
    ClusterAway,
    ControllerRuns,
    Fenced,
    GitError,
    GitTooOld,
    LedgerAway,
    LedgerFileProblem,
    NoRepository,
    NoRoom,
    OutOfOrder,
    SchemaError,
    ServerFailed,
    Shadowed,
    StudyProblem,
    Unsafe,
    WrongServer,
)


def explain(error: Exception) -> tuple[str, int] | None:
    """Return a message and an exit code; None for a defect of ours, which shows its traceback."""
    if isinstance(error, _USAGE):
        return str(error), USAGE
    if isinstance(error, _FAILURE):
        return str(error), FAILURE
    return _of_files(error) if isinstance(error, OSError) else None


def _of_files(error: OSError) -> tuple[str, int] | None:
    """Return the same of what a system call was refused; None where nobody could have known."""
    told = {
        errno.ENOSPC: (f"no space left on the disk: {error.filename or ''}".rstrip(": "), FAILURE),
        errno.EISDIR: (f"{error.filename2 or error.filename} is a folder", USAGE),
        errno.EROFS: (f"{error.filename}: nothing can be written to that file system", FAILURE),
        errno.ENAMETOOLONG: (f"{str(error.filename)[:_MOST_NAME]}...: the name is too long", USAGE),
    }
    if found := told.get(errno.ENOSPC if error.errno == errno.EDQUOT else error.errno or 0):
        return found
    if isinstance(error, FileNotFoundError) and error.filename is None and _is_nowhere():
        return "the folder that you are in was removed: go to another", USAGE
    if isinstance(error, PermissionError):
        return f"permission denied: {error.filename}", FAILURE
    return None


def _is_nowhere() -> bool:
    """Say whether this process is in a folder that is there no more."""
    try:
        Path.cwd()
    except FileNotFoundError:
        return True
    return False
