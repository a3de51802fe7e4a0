"""With which Python and which variables a study's commands run on this node; getting that ready.

Knows virtual environments, `uv` and the one-time `setup` command. Does not know slots, leases or
supervision. Preparing is done once a node: the first worker does it, the others wait.

With `environment = "uv"` the dependencies of the lock file are installed, the repository's own
package is not: an installed copy would be that of the base commit, whatever a candidate changed.
Its `src` folder, if it has one, is put on PYTHONPATH of each trial instead.
"""

import os
import shlex
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from trainer.config import TrialConfig
from trainer.git_command import GitCommand, GitError
from trainer.growing_log import anew, cut
from trainer.paths import WorkerPaths
from trainer.process_tree import MARK_VARIABLE, sweep
from trainer.removal import remove_tree
from trainer.stored_environments import LOCK_FILES, STAMP, digest, environment_key, lock_of
from trainer.trial import CommitId, TrialSpec
from trainer.variables import allowed_variables, network_variables
from trainer.worktree import SlotWorktree, locked

LineSink = Callable[[str], None]
"""Is told each line of a preparation's output, for people to see."""

_LAST_LINES = 15
_LOOK_S = 0.1
_DATA = "[trial] data"
_FILLED_ON_USE = frozenset({"~/.cache/huggingface", "~/.cache/torch"})
"""Caches of models, which hold nothing on a machine that has not needed any."""


class EnvironmentFailed(RuntimeError):
    """The node cannot run the study's trials; the message says why, the cure, and the log's end."""


def user_path(path: str, key: str) -> Path:
    """Return a path of the user's with its `~` resolved.

    Raises EnvironmentFailed, which names `key`, where there is no such home.
    """
    try:
        return Path(path).expanduser()
    except RuntimeError as error:
        raise EnvironmentFailed(
            f"{key}: {path} begins with a home folder that is not known on this machine. Write "
            "the path out"
        ) from error


def is_there(path: str, key: str) -> bool:
    """Say whether something of the user's is where a path says.

    Raises EnvironmentFailed, which names `key`, where nobody can tell.
    """
    place = user_path(path, key)
    try:
        place.stat()
    except (FileNotFoundError, NotADirectoryError, ValueError):
        return False
    except OSError as error:
        raise EnvironmentFailed(
            f"{key}: {path} cannot be looked at ({error.strerror}). Let the user that Incumbent "
            f"runs as read it, or correct {key}"
        ) from error
    return True


@dataclass(frozen=True, slots=True, kw_only=True)
class Environment:
    """What every trial on this node is started with."""

    argv: tuple[str, ...]
    """The trial's command; a bare name is to be looked up on PATH of `variables`."""
    variables: Mapping[str, str]
    has_source_folder: bool = False
    """Whether modules are found in the worktree's `src` folder."""

    def for_trial(
        self, spec: TrialSpec, *, worktree: Path, out: Path, gpu_uuids: Sequence[str], threads: int
    ) -> dict[str, str]:
        """Return the whole environment of one trial.

        Without `gpu_uuids` it sees no GPU. `threads` bounds the numerical libraries; 0 leaves it to
        them.
        """
        budget = int(spec.budget_s) if spec.budget_s.is_integer() else spec.budget_s
        variables = {
            **self.variables,
            "INCUMBENT_SEED": str(spec.seed),
            "INCUMBENT_BUDGET_S": str(budget),
            "INCUMBENT_OUT": os.fspath(out),
            "PYTHONUNBUFFERED": "1",
            # By UUID: indices change with CUDA_DEVICE_ORDER and from one driver to the next.
            "CUDA_VISIBLE_DEVICES": ",".join(gpu_uuids),
        }
        if threads:
            variables["OMP_NUM_THREADS"] = str(threads)
        if self.has_source_folder:
            variables["PYTHONPATH"] = os.fspath(worktree / "src")
        return variables


def prepare(
    config: TrialConfig,
    *,
    base: CommitId,
    repository: Path,
    paths: WorkerPaths,
    study: str,
    environ: Mapping[str, str] = os.environ,
    show: LineSink = lambda _: None,
) -> Environment:
    """Make the node ready for trials of commits made from `base`, and return how to run them.

    Installs what the environment needs, runs `setup` and checks `data`, each once per node as long
    as nothing changes. May take minutes; waits for another process that is at it. What it starts
    bears a mark of `study`, by which it is found and ended if this process is killed. Raises
    EnvironmentFailed.
    """
    paths.study.mkdir(parents=True, exist_ok=True)
    with locked(paths.preparation_lock):
        return _Preparation(
            config=config,
            base=base,
            repository=repository,
            paths=paths,
            study=study,
            environ=environ,
            show=show,
        ).run()


@dataclass(frozen=True, slots=True, kw_only=True)
class _Preparation:
    """One go at preparing; the caller holds the preparation lock."""

    config: TrialConfig
    base: CommitId
    repository: Path
    paths: WorkerPaths
    study: str
    environ: Mapping[str, str]
    show: LineSink

    def run(self) -> Environment:
        argv = _split(self.config.command, "command")
        variables, key, has_source_folder = self._activate()
        if self.config.setup:
            self._set_up(variables, key)
        self._check_data()
        if self.config.environment == "uv":
            variables |= {"UV_OFFLINE": "1", "UV_PYTHON_DOWNLOADS": "never"}
        return Environment(argv=argv, variables=variables, has_source_folder=has_source_folder)

    def _activate(self) -> tuple[dict[str, str], str, bool]:
        """Return variables, a key that changes with what is installed, and whether `src` counts."""
        if self.config.environment == "uv":
            return self._activate_uv()
        if self.config.environment == "current":
            folder = Path(sys.executable).parent
            is_virtual = sys.prefix != sys.base_prefix
            return self._with_python(folder, Path(sys.prefix) if is_virtual else None), "", False
        root = user_path(self.config.environment, "[trial] environment")
        if not root.is_absolute() or not os.access(root / "bin" / "python", os.X_OK):
            raise EnvironmentFailed(
                f"[trial] environment = {self.config.environment!r} is no virtual environment: "
                f"there is no {root / 'bin' / 'python'}. Give the absolute path of one (python -m "
                'venv PATH makes it), or "uv" for the repository\'s own uv.lock, or "current".'
            )
        return self._with_python(root / "bin", root), "", False

    def _with_python(self, folder: Path, virtual: Path | None) -> dict[str, str]:
        allowed = allowed_variables(self.environ)
        path = os.pathsep.join((os.fspath(folder), allowed.get("PATH", os.defpath)))
        activated = {"VIRTUAL_ENV": os.fspath(virtual)} if virtual else {}
        return {**allowed, "PATH": path, **activated}

    def _activate_uv(self) -> tuple[dict[str, str], str, bool]:
        files = {name: self._read(name) for name in LOCK_FILES}
        missing = [name for name in ("pyproject.toml", "uv.lock") if files[name] is None]
        if missing:
            raise EnvironmentFailed(
                f'[trial] environment = "uv" needs {" and ".join(missing)} in commit '
                f"{self.base[:12]}. Run `uv lock` in the repository and commit the files, or use "
                'environment = "current", or the path of a virtual environment.'
            )
        key = environment_key(files)
        root = self.paths.virtual_environment(key)
        variables = self._with_python(root / "bin", root)
        variables |= {"UV_PROJECT_ENVIRONMENT": os.fspath(root), "UV_NO_SYNC": "1"}
        if not shutil.which("uv", path=variables["PATH"]):
            ours = Path(sys.executable).parent
            if not os.access(ours / "uv", os.X_OK):
                raise EnvironmentFailed(
                    '[trial] environment = "uv", but there is no `uv` on PATH. Install it (pip '
                    "install uv), or give the path of a virtual environment instead."
                )
            variables["PATH"] += f"{os.pathsep}{ours}"
        self._synchronise(root, variables)
        project = tomllib.loads((files["pyproject.toml"] or b"").decode("utf-8", "replace"))
        return variables, key, "build-system" in project

    def _synchronise(self, root: Path, variables: Mapping[str, str]) -> None:
        """Install the lock file's packages into `root`, unless that was done to the end before."""
        self.paths.environments.mkdir(parents=True, exist_ok=True)
        stamp = root / STAMP
        # Another study may want the same one; its workers hold another preparation lock.
        with locked(lock_of(root)):
            if stamp.exists() and (root / "bin" / "python").exists():
                return
            remove_tree(root)
            # Bytecode now, or every first trial of a node would compile all of its imports.
            sync = "uv sync --frozen --no-install-workspace --compile-bytecode"
            cure = (
                "Repair the lock file (uv lock), or see whether the package index can be reached."
            )
            self._run_in_base(sync, "uv sync", variables, self.paths.environment_log, cure)
            stamp.touch()

    def _set_up(self, variables: Mapping[str, str], key: str) -> None:
        setup = self.config.setup
        identity = (setup, self.config.environment, key, self.base)
        stamp = self.paths.setup_stamp(digest(*map(str.encode, identity)))
        if not stamp.exists():
            cure = "Repair [trial] setup, or what it needs, and run again."
            self._run_in_base(setup, "[trial] setup", variables, self.paths.setup_log, cure)
            stamp.touch()

    def _check_data(self) -> None:
        for path in _FILLED_ON_USE.intersection(self.config.data):
            with suppress(OSError):  # then it is missing
                user_path(path, _DATA).mkdir(parents=True, exist_ok=True)
        missing = [path for path in self.config.data if not is_there(path, _DATA)]
        if missing:
            cure = "Put it there, correct [trial] data, or have [trial] setup make it."
            if self.config.setup:
                cure = (
                    f"`{self.config.setup}` ([trial] setup) did not make it, or it was removed "
                    f"since. See {self.paths.setup_log}; to run setup again, delete "
                    f"{self.paths.setup_stamp('*')}."
                )
            raise EnvironmentFailed(f"{_DATA}: {', '.join(missing)} does not exist. {cure}")

    def _read(self, name: str) -> bytes | None:
        git = GitCommand(self.repository)
        found = git.run("cat-file", "blob", f"{self.base}:{name}", check=False)
        return found.stdout if found.status == 0 else None

    def _run_in_base(
        self, command: str, name: str, variables: Mapping[str, str], log: Path, cure: str
    ) -> None:
        tree = SlotWorktree(repository=self.repository, path=self.paths.base_worktree)
        self.show(f"$ {command}")
        argv = _split(command, name)
        environment = {
            **network_variables(self.environ),
            **variables,
            "PYTHONUNBUFFERED": "1",
            MARK_VARIABLE: f"{self.study}/setup/{self.base}/",
        }
        try:
            cwd = tree.checkout(self.base)
            status = _run_logged(argv, cwd=cwd, env=environment, log=log, show=self.show)
        except (OSError, GitError) as error:
            raise EnvironmentFailed(f"{name} could not run: {error}. {cure}") from error
        if status != 0:
            ending = f"was ended by signal {-status}" if status < 0 else f"ended with {status}"
            raise EnvironmentFailed(
                f"{name} (`{command}`) {ending}. {cure} All of its output is in {log}; the end:\n"
                f"{_end_of(log)}"
            )


def _run_logged(
    argv: Sequence[str], *, cwd: Path, env: Mapping[str, str], log: Path, show: LineSink
) -> int:
    """Run a command, its output going to `log` and line by line to `show`; return its status."""
    log.parent.mkdir(parents=True, exist_ok=True)
    # Through the file rather than a pipe: a daemon that the command leaves would hold a pipe open.
    with anew(log) as sink, log.open(encoding="utf-8", errors="replace") as source:
        process = subprocess.Popen(
            argv, cwd=cwd, env=env, stdin=subprocess.DEVNULL, stdout=sink, stderr=subprocess.STDOUT
        )
        try:
            rest = ""
            status = None
            while status is None:
                status = _wait(process, _LOOK_S)
                *lines, rest = (rest + source.read()).split("\n")
                for line in lines:
                    show(line)
                if cut(log):
                    source.seek(0, os.SEEK_END)
            if rest:
                show(rest)
        finally:
            if process.poll() is None:  # `show` raised: nobody waits for the result any more
                sweep(env[MARK_VARIABLE])
                process.wait()
    return status


def _wait(process: subprocess.Popen[bytes], timeout_s: float) -> int | None:
    try:
        return process.wait(timeout_s)
    except subprocess.TimeoutExpired:
        return None


def _end_of(log: Path) -> str:
    with log.open(encoding="utf-8", errors="replace") as file:
        return "".join(file.readlines()[-_LAST_LINES:]).rstrip()


def _split(command: str, name: str) -> tuple[str, ...]:
    try:
        argv = tuple(shlex.split(command))
    except ValueError as error:
        raise EnvironmentFailed(f"{name} {command!r} cannot be split: {error}.") from error
    if not argv:
        raise EnvironmentFailed(f"{name} {command!r} is empty.")
    return argv
