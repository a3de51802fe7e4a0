"""Which folders and files a command needs to be seen, if it is a Python program or started by one.

Knows interpreters, virtual environments, links and `uv`. Does not know bubblewrap. An interpreter
is asked where it has its things rather than guessed at: a virtual environment's python is a link to
another's, often by way of a third, and where that keeps its library only it knows.
"""

import json
import os
import shutil
import subprocess
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from trainer.environment import EnvironmentFailed
from trainer.run_records import Bind

_ASK = """
import json, os, site, sys, sysconfig
own = {sys.prefix, sys.exec_prefix, sys.base_prefix, sys.base_exec_prefix}
libraries = {path for path in sysconfig.get_paths().values() if os.path.isdir(path)}
paths = {path for path in sys.path if os.path.isdir(path)}
users = {site.getusersitepackages()} if sys.prefix == sys.base_prefix else set()
print(json.dumps([sys.executable, sorted(own | libraries | paths | users)]))
"""
_TOO_MUCH = (
    "{} has files in {}, and with that folder a trial would be shown {}. Use a virtual environment "
    "whose Python is installed elsewhere (uv venv --managed-python makes one), or run without a "
    "sandbox: incumbent run --sandbox none"
)
_PATIENCE_S = 60.0
_MOST_LINKS = 40
"""As many as the kernel follows."""
_ALWAYS_SEEN = ("/usr", "/bin", "/sbin", "/lib", "/lib32", "/lib64", "/libx32", "/nix", "/gnu")
_OURS = os.fspath(Path(__file__).resolve().parents[2])
"""On the path of an interpreter in which Incumbent is installed to be edited: no trial needs it."""
_FOLDER_VARIABLES = ("LD_LIBRARY_PATH", "LIBRARY_PATH", "CUDA_HOME", "CUDA_PATH")


@dataclass(frozen=True, slots=True, kw_only=True)
class Hidden:
    """What no trial must be shown as a by-catch, and what to call it."""

    home: Path
    studies: Path

    def problem_with(self, path: Path) -> str:
        """Return what would be shown with `path`; empty if nothing that must not be."""
        if path == Path("/"):
            return "this whole machine"
        if self.home.is_relative_to(path):
            return "your whole home"
        if self.studies.is_relative_to(path):
            return "Incumbent's own studies"
        return ""


def needed(argv: Sequence[str], variables: Mapping[str, str], hidden: Hidden) -> tuple[Bind, ...]:
    """Return what must be shown, besides the system, for `argv` to run with `variables`.

    Starts the interpreter that is found first on PATH, if any, to ask it. Raises EnvironmentFailed
    where that cannot be asked, or needs to be shown what is `hidden`.
    """
    path = variables.get("PATH", os.defpath)
    programs = [shutil.which(argv[0], path=path) if "/" not in argv[0] else argv[0]]
    seen = _Seen()
    if interpreter := shutil.which("python", path=path) or shutil.which("python3", path=path):
        executable, folders = _ask(interpreter, variables)
        programs += [interpreter, executable]
        for own in sorted(set(folders) - {_OURS}):
            if problem := hidden.problem_with(Path(own).resolve()):
                raise EnvironmentFailed(_TOO_MUCH.format(interpreter, own, problem))
            seen.add(Path(own))
    for folder in _named_folders(variables):
        if not hidden.problem_with(folder.resolve()):
            seen.add(folder)
    for program in programs:
        for file in _chain(Path(program or "")):
            seen.add(file)
    return tuple(seen.binds)


class _Seen:
    """Collects what is to be shown, without what is to be seen already."""

    def __init__(self) -> None:
        self.binds: list[Bind] = []
        self._places = [Path(place) for place in _ALWAYS_SEEN]

    def add(self, path: Path) -> None:
        """Have it shown where it is said to be, and where it really is, if links lead there."""
        place = Path(os.path.normpath(path))
        if place.exists() and not any(place.is_relative_to(each) for each in self._places):
            self._places.append(place)
            self.binds.append(Bind(source=os.fspath(place.resolve()), place=os.fspath(place)))
            self.add(place.resolve())


def _ask(interpreter: str, variables: Mapping[str, str]) -> tuple[str, list[str]]:
    try:
        answer = subprocess.run(
            [interpreter, "-I", "-c", _ASK],
            cwd="/",
            env=dict(variables),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=_PATIENCE_S,
            check=True,
        )
        executable, folders = json.loads(answer.stdout.splitlines()[-1])
    except (OSError, subprocess.SubprocessError, ValueError, IndexError) as error:
        raise EnvironmentFailed(
            f"{interpreter} does not say where its library is ({error}). Repair that Python, or "
            "give [trial] environment another."
        ) from error
    return executable, folders


def _named_folders(variables: Mapping[str, str]) -> Iterable[Path]:
    """Return where compilers and libraries are said to be."""
    for name in _FOLDER_VARIABLES:
        for folder in variables.get(name, "").split(os.pathsep):
            if Path(folder).is_absolute():
                yield Path(folder)


def _chain(program: Path) -> Iterable[Path]:
    """Return the program and what it is a link to, one after the other."""
    for _ in range(_MOST_LINKS):
        if not program.is_absolute() or not program.exists():
            return
        yield program
        if not program.is_symlink():
            return
        program = program.parent / program.readlink()
