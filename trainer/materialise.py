"""From what a worker is told to run to a command that a supervisor can start.

Knows where a slot's worktree, log and output folder are and which variables its trials get. Does
not know leases, and starts nothing but git.
"""

import os
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from eval.metric import Metric
from trainer.environment import Environment
from trainer.frozen import FrozenCheck, check_folder
from trainer.paths import WorkerPaths
from trainer.ports import CodeSource, Slot
from trainer.run_records import RunRequest
from trainer.trial import TrialSpec
from trainer.worktree import SlotWorktree, remove_tree


class Materialiser:
    """Prepares one slot's trials, one after the other, in one worktree."""

    def __init__(
        self,
        *,
        study: str,
        slot: Slot,
        paths: WorkerPaths,
        environment: Environment,
        metric: Metric,
        code: CodeSource,
        threads: int = 0,
        editable: Sequence[str] = (),
    ) -> None:
        self.mark_prefix = f"{study}/{slot.id}/"
        """With this begins the mark of every process of the slot's trials."""
        self._slot = slot
        self._paths = paths
        self._environment = environment
        self._metric = metric
        self._code = code
        self._threads = threads
        self._editable = tuple(editable)
        self._worktree: SlotWorktree | None = None

    def materialise(self, spec: TrialSpec) -> RunRequest:
        """Check the trial's commit out, empty its output folder, and return how to run it.

        Raises what the code source raises (LookupError, ConnectionError), GitError, and OSError,
        with ENOSPC where the disk is full.
        """
        tree = self._worktree_in(self._code.fetch(spec.commit)).checkout(spec.commit)
        out = self._paths.out(spec)
        remove_tree(out)
        out.mkdir(parents=True)
        log = self._paths.log(spec)
        log.parent.mkdir(parents=True, exist_ok=True)
        return RunRequest(
            argv=self._environment.argv,
            env=self._environment.for_trial(
                spec,
                worktree=tree,
                out=out,
                gpu_uuids=self._slot.gpu_uuids,
                threads=self._threads,
            ),
            cwd=os.fspath(tree),
            log_path=os.fspath(log),
            timeout_s=spec.timeout_s,
            metric=self._metric,
            mark=f"{self.mark_prefix}{spec.trial}",
        )

    def inspect(self, spec: TrialSpec) -> FrozenCheck:
        """Say what became of the frozen files while the trial ran.

        To be asked when the trial has ended, before the next one is materialised in its place.
        Raises what the code source raises, GitError, OSError.
        """
        folder = self._paths.worktree(self._slot.id)
        return check_folder(self._code.fetch(spec.commit), spec.commit, folder, self._editable)

    def tidy(self, spec: TrialSpec) -> None:
        """Remove the trial's output folder if the trial left nothing in it."""
        with suppress(OSError):
            self._paths.out(spec).rmdir()

    def _worktree_in(self, repository: Path) -> SlotWorktree:
        if self._worktree is None or self._worktree.repository != repository:
            path = self._paths.worktree(self._slot.id)
            self._worktree = SlotWorktree(repository=repository, path=path)
        return self._worktree
