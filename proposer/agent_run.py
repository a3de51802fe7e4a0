"""Runs a coding agent's command in a copy of the incumbent's files, confined as trials are.

Knows the scratch folder, the sandbox, the variables and the log. Does not know what the agent is
told, nor what is made of what it leaves: that is `proposer.agent_files`. Its processes belong to a
supervisor (trainer/supervisor.py), a process of one thread that nobody's thread is the parent of:
they end with the run, with its time, and with this process, whichever thread of it asked.
"""

import os
import shlex
import shutil
from collections.abc import Mapping
from contextlib import closing, suppress
from dataclasses import dataclass, field, replace
from pathlib import Path

from eval.metric import Goal, Metric
from proposer.agent_files import FOLDER, names
from proposer.config import AgentSource
from trainer.config import TrialConfig
from trainer.environment import Environment, EnvironmentFailed, is_there, prepare
from trainer.frozen import check_folder
from trainer.hidden_labels import check_hidden, place_of
from trainer.limit_defaults import limits_for, machine_memory
from trainer.limits import GB
from trainer.log_capture import TAIL_BYTES, as_shown
from trainer.paths import WorkerPaths
from trainer.process_tree import sweep
from trainer.removal import Trash, remove_tree
from trainer.run_folder import RunFolder
from trainer.run_records import Limits, RunReport, RunRequest
from trainer.safe_read import SafeFolder
from trainer.sandbox.arrange import arrange, paths_shown
from trainer.sandbox.confine import BubblewrapSandbox
from trainer.sandbox.port import Sandbox
from trainer.sandbox.python_paths import Hidden
from trainer.slots import Claim, Unavailable, with_user
from trainer.supervisor_client import Supervisor
from trainer.trial import CommitId, SlotId
from trainer.variables import network_variables
from trainer.worktree import SlotWorktree

_SHELL = "/bin/sh"
_MOUNTS = "[[proposer]] mounts"
_LOOK_S = 1.0
_MOST_MEMORY = 8 * GB
_SHARES = 4
"""Of the machine's memory an agent may take a quarter at most: trials need the rest."""
_LEAST_SECRET = 8
"""Shorter values of variables are no keys, and may stand in any text."""
_HIDDEN = "[...]"
_NO_METRIC = Metric(name="none", goal=Goal.MINIMIZE, pattern="(?!)")


@dataclass(frozen=True, slots=True, kw_only=True)
class Workspace:
    """Where the agents of a study work, and what they may be given."""

    study: str
    """Begins the mark of their processes."""
    base: CommitId
    """The study's base commit, by which the environment of trials is made."""
    paths: WorkerPaths
    trial: TrialConfig
    """An agent is confined as trials are, and has their environment."""
    editable: tuple[str, ...]
    logs: Path
    """Folder of what agents print: `c12.log` is of call c12, 2 MiB at most, mode 0600."""
    given: Mapping[str, str] = field(default_factory=dict)
    """Values of the variables that agents are given by name."""
    labels: Mapping[str, str] = field(default_factory=dict)
    """Files that no agent may be shown, by the sections that name them."""


class AgentRunner:
    """Prepares, runs and clears away, one run at a time; any thread may do it."""

    def __init__(self, config: AgentSource, *, name: str, workspace: Workspace) -> None:
        self._config = config
        self._workspace = workspace
        paths, slot = workspace.paths, SlotId(f"agent-{name}")
        self._mark_prefix = f"{workspace.study}/{slot}/"
        self._tree = SlotWorktree(repository=paths.repository, path=paths.worktree(slot))
        self._folder = RunFolder.at(paths.run(slot, 0))
        self._trash = Trash(paths.trash(slot))
        self._sandbox: Sandbox | None = None
        self._environment: Environment | None = None
        self._user: Claim | None = None
        self._before: frozenset[str] = frozenset()

    @property
    def folder(self) -> Path:
        """Where the agent works, and what it has left; to be read as an enemy's."""
        return self._folder.src

    @property
    def new_from(self) -> frozenset[str]:
        """Names of the files that were there before the run; none if they are too many."""
        return self._before

    def make_ready(self, commit: CommitId, files: Mapping[str, str]) -> None:
        """Fill the folder with a commit's files and, below `.incumbent/`, with `files`.

        Raises EnvironmentFailed, which says the cure; GitError and OSError, which may pass.
        """
        if self._sandbox is None:
            sweep(self._mark_prefix)  # what outlived a process that was killed, its supervisor too
            self._sandbox = self._arranged()
        tree = self._tree.checkout(commit)
        self._folder.discard(self._trash)
        self._folder.fill(tree, owner=self._sandbox.owner)
        with SafeFolder(self.folder) as folder:
            self._before = names(folder)
        self._write(files, self._sandbox.owner)

    def run(self, call: str) -> RunReport:
        """Run the agent to its end, or to the end of its time; nothing of it is alive then."""
        log = self._log(call)
        log.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        log.unlink(missing_ok=True)
        log.touch(0o600)
        with closing(Supervisor()) as supervisor:
            supervisor.start(self._request(call, log))
            while not isinstance(report := supervisor.poll(_LOOK_S), RunReport):
                pass
        self._clean(log)
        return replace(report, tail=self.without_secrets(report.tail))

    def last_line(self, call: str) -> str:
        """Return the last line that the agent printed: one of JSON may hold all that it has said.

        Empty if there is none, or the log cannot be read.
        """
        with suppress(OSError):
            return as_shown(self._log(call).read_bytes()[-TAIL_BYTES:]).strip().rpartition("\n")[2]
        return ""

    def frozen_changes(self, commit: CommitId) -> tuple[str, ...]:
        """Return in words what the agent did to files that it may not change."""
        workspace = self._workspace
        found = check_folder(workspace.paths.repository, commit, self.folder, workspace.editable)
        return tuple(words for words in found.changed if not words.startswith(f"{FOLDER}/"))

    def without_secrets(self, text: str) -> str:
        """Return a text in which the values of variables that the agent was given do not stand."""
        for value in self._secrets().values():
            text = text.replace(value, _HIDDEN)
        return text

    def secret_in(self, text: str) -> str:
        """Return the name of a variable whose value stands in a text; empty if none does."""
        return next((name for name, value in self._secrets().items() if value in text), "")

    def tidy(self) -> None:
        """Throw away what the run has left."""
        with suppress(OSError):  # then it is in the way of the next run, which says so
            self._folder.discard(self._trash)

    # --- what it is run in -----------------------------------------------------------------------

    def _arranged(self) -> Sandbox:
        """Return the sandbox; the environment and the user are noted."""
        config, workspace = self._config, self._workspace
        trial = workspace.trial
        if missing := [name for name in config.environment if name not in workspace.given]:
            raise EnvironmentFailed(
                f"{', '.join(missing)} is not set: export it and run again, or take it out of "
                "[[proposer]] environment"
            )
        if gone := [path for path in config.mounts if not is_there(path, _MOUNTS)]:
            raise EnvironmentFailed(f"{_MOUNTS}: {', '.join(gone)} does not exist")
        is_root = os.geteuid() == 0
        if trial.sandbox == "none" and is_root:
            raise EnvironmentFailed(
                "an agent is not run as root without a sandbox: run Incumbent as a plain user, or "
                "with --sandbox bubblewrap"
            )
        found = prepare(
            trial,
            base=workspace.base,
            repository=workspace.paths.repository,
            paths=workspace.paths,
            study=workspace.study,
        )
        self._environment = replace(found, argv=(self._program(found),))
        uid = self._own_user() if is_root else None
        sandbox = arrange(
            trial.sandbox,
            environment=self._environment,
            data=(),
            paths=workspace.paths,
            memory_bytes=self._limits().memory_bytes,
            uid=uid,
        )
        return self._opened(sandbox) if isinstance(sandbox, BubblewrapSandbox) else sandbox

    def _opened(self, sandbox: BubblewrapSandbox) -> BubblewrapSandbox:
        """Return the sandbox with what the user gives this agent, and no trial."""
        hidden = Hidden(home=Path(sandbox.home), studies=self._workspace.paths.study)
        mounts = paths_shown(self._config.mounts, hidden, sandbox.owner, _MOUNTS)
        opened = replace(
            sandbox,
            shown=tuple(dict.fromkeys((*sandbox.shown, *mounts))),
            network=self._config.network,
        )
        for section, labels in self._workspace.labels.items():
            check_hidden(place_of(labels, section), opened, section)
        return opened

    def _own_user(self) -> int | None:
        """Take a user that no slot has, for as long as this process lives."""
        if self._user is None:
            place = Claim(name="agent", device="cpu", device_class="cpu", gpu_uuids=(), locks=())
            found = with_user(place, self._workspace.study)
            if isinstance(found, Unavailable):
                raise EnvironmentFailed(found.reason)
            self._user = found
        return self._user.uid

    def _program(self, environment: Environment) -> str:
        """Return the program that the command starts with, which has to be seen; else the shell."""
        try:
            first = shlex.split(self._config.command)[0]
        except (ValueError, IndexError):
            return _SHELL
        return shutil.which(first, path=environment.variables.get("PATH")) or _SHELL

    def _limits(self) -> Limits:
        found = limits_for(self._workspace.trial, machine_bytes=machine_memory(), slots=_SHARES)
        return replace(found, memory_bytes=min(found.memory_bytes or _MOST_MEMORY, _MOST_MEMORY))

    # --- one run ---------------------------------------------------------------------------------

    def _request(self, call: str, log: Path) -> RunRequest:
        sandbox, environment = self._sandbox, self._environment
        if sandbox is None or environment is None:
            raise RuntimeError("make_ready comes first")
        seen = sandbox.seen(self._folder)
        proxies = network_variables(os.environ) if self._config.network else {}
        given = {name: self._workspace.given[name] for name in self._config.environment}
        source = {"PYTHONPATH": os.fspath(seen.src / "src")}
        folders = (self._folder.src, self._folder.out, self._folder.cache)
        request = RunRequest(
            argv=(_SHELL, "-c", self._config.command),
            env={
                **proxies,
                **environment.variables,
                **(source if environment.has_source_folder else {}),
                "CUDA_VISIBLE_DEVICES": "",  # the cards are the trials'
                "PYTHONUNBUFFERED": "1",
                **given,
            },
            cwd=os.fspath(seen.src),
            log_path=os.fspath(log),
            timeout_s=self._config.timeout_s,
            metric=_NO_METRIC,
            mark=f"{self._mark_prefix}{call}",
            limits=replace(self._limits(), folders=tuple(map(os.fspath, folders))),
        )
        return sandbox.confine(request, self._folder)

    def _write(self, files: Mapping[str, str], owner: int | None) -> None:
        place = self.folder / FOLDER
        remove_tree(place)  # a repository may have one of its own, or a link
        place.mkdir()
        for path, text in files.items():
            file = place / path
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(text, "utf-8", "replace", newline="")
        if owner is not None:
            for each in (place, *place.rglob("*")):
                os.chown(each, owner, owner)

    def _log(self, call: str) -> Path:
        return self._workspace.logs / f"{call}.log"

    def _clean(self, log: Path) -> None:
        """Take the values of variables out of what the agent has printed."""
        with suppress(OSError):
            printed = log.read_bytes()
            kept = printed
            for value in self._secrets().values():
                kept = kept.replace(value.encode(), _HIDDEN.encode())
            if kept != printed:
                log.write_bytes(kept)

    def _secrets(self) -> dict[str, str]:
        given = self._workspace.given
        return {
            name: given[name]
            for name in self._config.environment
            if len(given.get(name, "")) >= _LEAST_SECRET
        }
