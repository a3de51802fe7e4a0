"""From what a worker is told to run to a command that a supervisor can start.

Knows where a slot's worktree, run folders and log are and which variables its trials get. Does not
know leases, and starts nothing but git. The worktree is for us alone: a trial runs in a copy.
"""

import os
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

from eval.metric import Metric
from trainer.environment import Environment
from trainer.paths import WorkerPaths
from trainer.ports import CodeSource, Slot
from trainer.run_folder import RunFolder
from trainer.run_records import Limits, RunRequest
from trainer.sandbox.port import Sandbox
from trainer.trial import TrialSpec
from trainer.worktree import SlotWorktree

_TURNS = 2
"""Run folders of a slot: while one trial runs, the next can be made ready."""


class Materialiser:
    """Prepares one slot's trials, one after the other, by way of one worktree."""

    def __init__(  # noqa: PLR0913 - all that a slot's trials have in common, by name
        self,
        *,
        study: str,
        slot: Slot,
        paths: WorkerPaths,
        environment: Environment,
        metric: Metric,
        code: CodeSource,
        sandbox: Sandbox,
        threads: int = 0,
        limits: Limits | None = None,
    ) -> None:
        self.mark_prefix = f"{study}/{slot.id}/"
        """With this begins the mark of every process of the slot's trials."""
        self._slot = slot
        self._paths = paths
        self._environment = environment
        self._metric = metric
        self._code = code
        self._sandbox = sandbox
        self._threads = threads
        self._limits = limits
        self._worktree: SlotWorktree | None = None
        self._turn = 0
        self._runs: dict[TrialSpec, RunFolder] = {}

    def materialise(self, spec: TrialSpec) -> RunRequest:
        """Check the trial's commit out, fill a run folder with it, and return how to run it there.

        The folder is the trial's until `tidy`; one more trial can be prepared meanwhile. Raises
        what the code source raises (LookupError, ConnectionError), GitError, and OSError, with
        ENOSPC where the disk is full.
        """
        tree = self._worktree_in(self._code.fetch(spec.commit)).checkout(spec.commit)
        run = RunFolder.at(self._paths.run(self._slot.id, self._turn))
        self._turn = (self._turn + 1) % _TURNS
        run.fill(tree, owner=self._sandbox.owner)
        self._runs[spec] = run
        return self._sandbox.confine(self._request(spec, run), run)

    def tidy(self, spec: TrialSpec) -> None:
        """Keep what the trial left in its output folder, if anything; throw the rest away.

        To be called once, when nothing of the trial is alive any more. What cannot be moved or
        removed is in the way of the next trial in this run folder, which then says so.
        """
        run = self._runs.pop(spec)
        with suppress(OSError):
            run.keep(self._paths.out(spec))
            run.discard()

    def _request(self, spec: TrialSpec, run: RunFolder) -> RunRequest:
        seen = self._sandbox.seen(run)
        log = self._paths.log(spec)
        log.parent.mkdir(parents=True, exist_ok=True)
        return RunRequest(
            argv=self._environment.argv,
            env=self._environment.for_trial(
                spec,
                worktree=seen.src,
                out=seen.out,
                gpu_uuids=self._slot.gpu_uuids,
                threads=self._threads,
            ),
            cwd=os.fspath(seen.src),
            log_path=os.fspath(log),
            timeout_s=spec.timeout_s,
            metric=self._metric,
            mark=f"{self.mark_prefix}{spec.trial}",
            limits=self._limits_in(run),
        )

    def _limits_in(self, run: RunFolder) -> Limits | None:
        if self._limits is None:
            return None
        return replace(self._limits, folders=(os.fspath(run.src), os.fspath(run.out)))

    def _worktree_in(self, repository: Path) -> SlotWorktree:
        if self._worktree is None or self._worktree.repository != repository:
            path = self._paths.worktree(self._slot.id)
            self._worktree = SlotWorktree(repository=repository, path=path)
        return self._worktree
