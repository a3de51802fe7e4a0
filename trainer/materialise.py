"""From what a worker is told to run to a command that a supervisor can start.

Knows where a slot's worktree, run folders and log are and which variables its trials get. Does not
know leases, and starts nothing but git. The worktree is for us alone: a trial runs in a copy.
"""

import os
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

from eval.metric import Metric
from eval.seeds import Reseed
from trainer.compile_caches import CacheSeed
from trainer.environment import Environment
from trainer.frozen import FrozenCheck, check_folder
from trainer.paths import WorkerPaths
from trainer.plan_apart import plan_apart
from trainer.ports import CodeSource, Slot
from trainer.removal import Trash
from trainer.reseed import reseed
from trainer.retention import Keeper
from trainer.run_folder import RunFolder
from trainer.run_records import Limits, RunRequest
from trainer.sandbox.port import Sandbox
from trainer.trial import TrialSpec
from trainer.warm_plan import Cold, gate
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
        editable: Sequence[str] = (),
        preload: Sequence[str] | None = None,
        seed: CacheSeed | None = None,
        seed_pattern: str = "",
        keep_gb: float = 0.0,
    ) -> None:
        """`preload` is as trainer.warm_plan.plan has it; without `seed` all trials compile anew.

        `keep_gb` is what all that trials leave may hold on this machine, 0 being no limit.
        """
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
        self._editable = tuple(editable)
        self._preload = preload
        self._seed = seed
        self._seed_pattern = seed_pattern
        self._trash = Trash(paths.trash(slot.id))
        self._keeper = Keeper(
            paths, most_gb=keep_gb, promoted=code.promoted, throw=self._trash.throw
        )
        self._worktree = SlotWorktree(repository=paths.repository, path=paths.worktree(slot.id))
        self._runs: dict[TrialSpec, RunFolder] = {}
        self._reseeds: dict[TrialSpec, tuple[Reseed, ...]] = {}

    def materialise(self, spec: TrialSpec, *, is_ahead: bool = False) -> RunRequest:
        """Check the trial's commit out, fill a run folder with it, and return how to run it there.

        The folder is the trial's until `tidy` or `drop`; one more trial can be prepared meanwhile.
        With `is_ahead` the request says how a process can wait for it. Raises what the code source
        raises (LookupError, CodeAway), GitError, and OSError, with ENOSPC where the disk is
        full.
        """
        repository = self._code.fetch(spec.commit, is_ahead=is_ahead)
        self._worktree = self._worktree.of(repository)
        tree = self._worktree.checkout(spec.commit)
        run = self._free_folder()
        run.discard(self._trash)  # what an earlier worker has left, or could not move away
        seed = self._seed.path() if self._seed else None
        run.fill(tree, owner=self._sandbox.owner, seed=seed)
        reseeds = self._reseed(spec, run)
        request = self._sandbox.confine(self._request(spec, run), run)
        self._runs[spec], self._reseeds[spec] = run, reseeds
        return self._warm(request, run.src) if is_ahead else request

    def keep_caches(self, spec: TrialSpec) -> None:
        """Let later trials start with what was compiled for this one, if CacheSeed.keep allows it.

        To be asked when the trial has ended well, before `tidy`.
        """
        if self._seed:
            self._seed.keep(self._runs[spec].cache, spec.commit)

    def reseeds(self, spec: TrialSpec) -> tuple[Reseed, ...]:
        """Return the seeds that were written into the trial's copy of its tree, before `tidy`."""
        return self._reseeds[spec]

    def out(self, spec: TrialSpec) -> Path:
        """Return the trial's output folder, to be read as an enemy's, before `tidy`."""
        return self._runs[spec].out

    def tidy(self, spec: TrialSpec) -> None:
        """Keep what the trial left in its output folder, if anything; throw the rest away.

        To be called once, when nothing of the trial is alive any more. What cannot be moved away is
        in the way of the next trial in this run folder, which then says so.
        """
        kept, run = self._paths.out(spec), self._taken(spec)
        with suppress(OSError):
            self._trash.throw(kept)
            run.keep(kept)
            run.discard(self._trash)
            self._keeper.note(kept.name)

    def drop(self, spec: TrialSpec, *, is_over: bool = False) -> None:
        """Throw away what was prepared for a trial, and what it left there.

        Of one that ran here and is over the log stays, and counts as what is kept.
        """
        run = self._taken(spec)
        with suppress(OSError):
            run.discard(self._trash)
            if is_over:
                self._keeper.note(self._paths.out(spec).name)

    def close(self) -> None:
        """End what is still being thrown away."""
        self._trash.close()

    def _taken(self, spec: TrialSpec) -> RunFolder:
        del self._reseeds[spec]
        return self._runs.pop(spec)

    def _reseed(self, spec: TrialSpec, run: RunFolder) -> tuple[Reseed, ...]:
        """Give a repeat another seed than the first run had, in its copy and nowhere else."""
        if not (spec.is_repeat and self._seed_pattern):
            return ()
        return reseed(run.src, self._editable, pattern=self._seed_pattern, seed=spec.seed)

    def _free_folder(self) -> RunFolder:
        folders = (RunFolder.at(self._paths.run(self._slot.id, turn)) for turn in range(_TURNS))
        free = [folder for folder in folders if folder not in self._runs.values()]
        if not free:
            raise RuntimeError("both of the slot's run folders are taken")
        return free[0]

    def _warm(self, request: RunRequest, tree: Path) -> RunRequest:
        found = plan_apart(
            request.argv, request.env, cwd=request.cwd, tree=tree, preload=self._preload
        )
        if isinstance(found, Cold):
            is_confined = request.confinement is not None
            found = gate(request.argv, request.env, found, is_confined=is_confined)
        return replace(request, warm=found)

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
            limits=run.limits(self._limits) if self._limits else None,
        )

    def inspect(self, spec: TrialSpec) -> FrozenCheck:
        """Say what became of the frozen files in the trial's copy of its tree while it ran.

        To be asked when the trial has ended, before `tidy`. Raises what the code source raises,
        GitError, OSError.
        """
        folder = self._runs[spec].src
        return check_folder(self._code.fetch(spec.commit), spec.commit, folder, self._editable)
