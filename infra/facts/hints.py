"""What to do about a trial that failed, in one line, where its last words tell.

Knows what the sandbox, the environment and the limits of a trial look like from inside: to a script
they are a missing file, a network that is down, a full disk. Asks the disk through `Known` alone,
and that only for whether something is there. A path in a log is a candidate's claim: what is said
of one is on the condition that trials are to read it.
"""

import os
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING

from cluster.state.experiment import Experiment, Status
from infra.facts.plain_text import one_line
from trainer.sandbox.bubblewrap import EXPERIMENT
from trainer.trial import CrashKind, Ending, TrialOutcome

if TYPE_CHECKING:
    from cluster.config import StudyConfig  # which takes long to import, for a command

_LAST_LINES = 10
_MOST_PATH = 120

_NO_NETWORK = re.compile(
    r"name resolution|Name or service not known|No address associated with hostname"
    r"|Could not resolve host|Failed to resolve|Network is unreachable|Max retries exceeded"
    r"|HF_HUB_OFFLINE|OfflineModeIsEnabled|outgoing traffic has been disabled"
    r"|couldn't connect to 'https?://"
)
_NO_MODULE = re.compile(r"No module named '?([A-Za-z_]\w*)")
_NO_FILE = re.compile(r"No such file|does not exist|not found|can't open file|Not a directory")
_NOT_ALLOWED = re.compile(r"Permission denied|Read-only file system")
_NOWHERE_TO_WRITE = re.compile(r"Parent directory .* does not exist|non-existent directory")
_REFUSED = re.compile(r"Operation not permitted")
_HOST_MEMORY = re.compile(
    r"memory_gb|^(?:[\w.]+\.)?(?:_Array)?MemoryError|bad_alloc|allocate memory"
)
_QUOTED = re.compile(r"'([^']+)'|\"([^\"]+)\"")
_ABSOLUTE = re.compile(r"(?<![\w.~/-])/[^\s'\"<>|:,;()]+")

_NEVER_DATA = frozenset({"dev", "etc", "proc", "run", "sys", "var"})
"""Of the system, and not the user's to show."""
_TOO_WIDE = frozenset({"/", "/home", "/tmp"})  # noqa: S108 - a name, nothing is made there

_KEPT = (
    "your folders are not there in the sandbox: name in [trial] data what trials read; they write "
    "beside the script, or to the folder INCUMBENT_OUT what is to be kept"
)
_NOT_IN_GIT = "; what git is not to have, name by its full path in [trial] data, and read it there"

_KEYS = {
    CrashKind.PROCESS_LIMIT: ("pids",),
    CrashKind.OPEN_FILES_LIMIT: ("open_files",),
    CrashKind.DISK_LIMIT: ("disk_gb", "disk_files"),
}
"""Which keys of `[trial]` hold the limit that was hit."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Known:
    """What a hint may rest on beside the outcome."""

    pattern: str = ""
    """What finds the metric; empty if that is not known."""
    environment: str = "current"
    repository: Path = Path("/nonexistent")
    home: Path = Path("/nonexistent")
    is_there: Callable[[Path], bool] = lambda _: False
    is_folder: Callable[[Path], bool] = lambda _: False

    @classmethod
    def of(cls, config: "StudyConfig | None", repository: Path) -> "Known":
        """Return what is known on this machine of a study, which may never have run."""
        return cls(
            pattern=config.metric.metric().pattern if config else "",
            environment=config.trial.environment if config else "current",
            repository=repository,
            home=Path.home(),
            is_there=_safely(Path.exists),
            is_folder=_safely(Path.is_dir),
        )


NOTHING_KNOWN = Known()


def next_step(experiment: Experiment, known: Known) -> str:
    """Return what to do about an experiment; empty where nothing is to be done, or known."""
    if experiment.status is Status.HELD:
        name = experiment.id
        return f"`incumbent approve {name}` lets it run, or `incumbent reject {name}` does not"
    if experiment.status is Status.SUSPECT:
        return _suspect_cure(experiment.id)
    if experiment.status is Status.PRUNED:
        return f"`incumbent retry {experiment.id}` runs it to its end"
    outcome = experiment.trials[-1].outcome if experiment.trials else None
    if outcome is None or not experiment.status.is_failure:
        return ""
    return hint(outcome, known)


def hint(outcome: TrialOutcome, known: Known) -> str:
    """Return what to do about a trial that failed; empty if its words do not tell."""
    if outcome.ending is Ending.TIMED_OUT:
        return "[trial] timeout_s is the limit; the script should end by itself before it"
    if outcome.crash is CrashKind.NO_METRIC:
        return _of_metric(known)
    if outcome.crash is CrashKind.DISK_FULL:
        return _of_full_disk(outcome)
    if outcome.crash is CrashKind.OUT_OF_MEMORY:
        return _of_memory(outcome.reason)
    if keys := _KEYS.get(outcome.crash) if outcome.crash else None:
        hit = [key for key in keys if key in outcome.reason] or keys
        return f"{' and '.join(f'[trial] {key}' for key in hit)} set the limit"
    return next(filter(None, _of_lines(outcome, known)), "")


def _suspect_cure(experiment: str) -> str:
    return (
        f"look at `incumbent diff {experiment}` and `logs {experiment}`, then `incumbent accept "
        f"{experiment}` has it judged as it is, or `incumbent retry {experiment}` runs it again"
    )


def _of_metric(known: Known) -> str:
    if not known.pattern:
        return ""
    return f"each line it printed was searched for {known.pattern} ([metric] pattern)"


def _of_full_disk(outcome: TrialOutcome) -> str:
    if not _is_sandboxed(outcome):
        return "make room on the disk that holds the study's folder"
    return (
        "the disk is full, or the trial's /tmp or $HOME, which are small: large files belong "
        "beside the script, or in the folder INCUMBENT_OUT"
    )


def _of_memory(reason: str) -> str:
    if _HOST_MEMORY.search(reason):
        return "raise [trial] memory_gb, with fewer slots ([cluster] slots) if the machine is small"
    if "kernel" in reason:
        return "the machine was full: fewer slots ([cluster] slots), or less [trial] memory_gb"
    return ""  # of a card: no key limits that


def _of_lines(outcome: TrialOutcome, known: Known) -> Iterator[str]:
    """Yield what each of the last lines suggests, the one that names the failure first."""
    last = [line for line in outcome.tail.splitlines() if line.strip()][-_LAST_LINES:]
    for line in (outcome.reason, *reversed(last)):
        yield _of_module(line, known)
        if _is_sandboxed(outcome):
            yield _of_network(line)
        yield _of_file(line, known, is_sandboxed=_is_sandboxed(outcome))


def _is_sandboxed(outcome: TrialOutcome) -> bool:
    return outcome.sandbox not in {"", "none"}


def _of_network(line: str) -> str:
    if not _NO_NETWORK.search(line):
        return ""
    return (
        "trials have no network: let [trial] setup fetch what they need, and name its folder in "
        "[trial] data"
    )


def _of_module(line: str, known: Known) -> str:
    found = _NO_MODULE.search(line)
    if not found:
        return ""
    name = found[1]
    if any(known.is_there(known.repository / path) for path in (name, f"{name}.py")):
        return _uncommitted(name)
    if known.environment == "uv":
        return f"add {name} to pyproject.toml, run `uv lock`, and commit both files"
    which = "Incumbent's own Python" if known.environment == "current" else known.environment
    return (
        f"trials run in {which}: install {name} there, or set [trial] environment to a venv with it"
    )


def _of_file(line: str, known: Known, *, is_sandboxed: bool) -> str:
    if _NO_FILE.search(line):
        for path in _paths(line):
            if found := _of_path(path, known, is_sandboxed=is_sandboxed):
                return found
    if not is_sandboxed:
        return ""
    if _NOWHERE_TO_WRITE.search(line):
        return _KEPT
    if _NOT_ALLOWED.search(line):
        return (
            "trials write beside the script or to the folder INCUMBENT_OUT, and read of [trial] "
            "data what everybody may read"
        )
    if _REFUSED.search(line):
        return "the sandbox may have refused it: docs/sandbox.md lists what trials cannot do"
    return ""


def _of_path(text: str, known: Known, *, is_sandboxed: bool) -> str:
    """Say why a path is not there for a trial although it is there for the user."""
    path = Path(os.path.normpath(text))
    if not path.is_absolute() or text.startswith(f"{EXPERIMENT}/"):
        inner = PurePosixPath(text.removeprefix(f"{EXPERIMENT}/"))
        is_ours = inner.parts and ".." not in inner.parts
        if is_ours and known.is_there(known.repository / inner):
            return _uncommitted(text) + _NOT_IN_GIT
        return ""
    if not is_sandboxed or _is_wide(path, known) or not _NEVER_DATA.isdisjoint(path.parts[:2]):
        return ""
    if known.is_there(path):
        folder = path if known.is_folder(path) or _is_wide(path.parent, known) else path.parent
        place = _tilde(folder, known)
        return (
            "it is there, but not in the sandbox: if trials are to read it, "
            f'[trial] data = ["{place}"]'
        )
    if known.is_folder(path.parent) and not _is_wide(path.parent, known):
        return _KEPT
    return ""


def _uncommitted(name: str) -> str:
    return f"{one_line(name, _MOST_PATH)} is in your checkout; trials get what is committed"


def _is_wide(folder: Path, known: Known) -> bool:
    return str(folder) in _TOO_WIDE or folder == known.home


def _tilde(path: Path, known: Known) -> str:
    text = f"~/{path.relative_to(known.home)}" if path.is_relative_to(known.home) else str(path)
    return one_line(text, _MOST_PATH)


def _paths(line: str) -> Iterator[str]:
    """Yield what may be paths in a line: what stands in quotes, and what begins with a slash."""
    for found in _QUOTED.finditer(line):
        yield found[1] or found[2]
    for found in _ABSOLUTE.finditer(line):
        yield found[0].rstrip(".")


def _safely(ask: Callable[[Path], bool]) -> Callable[[Path], bool]:
    def answer(path: Path) -> bool:
        try:
            return ask(path)
        except (OSError, ValueError):
            return False  # too long, say, or with a NUL in it

    return answer
