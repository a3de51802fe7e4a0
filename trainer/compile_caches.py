"""What compilers have made of the baseline on this node, for later trials to start with.

Knows whose caches are kept, and how. Does not know what is in them. `torch.compile` alone takes a
trial 20 s and more; most candidates change little of what there is to compile, and inductor, Triton
and CUDA look up by a hash of all that goes in, themselves included, so a seed that does not fit is
never found. Each trial gets a copy, its own to write to, thrown away with it.

What is found there is loaded: pickles, and machine code. So a seed is made of what the study's base
commit has left, code of the user's own, and never of a candidate's. It is kept as what anybody's
trial has left is: content of plain files alone. Nothing in it is a link, so nothing in a copy leads
anywhere; all of it belongs to the worker's user, whose trials see copies and never this.
"""

from dataclasses import dataclass
from pathlib import Path

from trainer.paths import WorkerPaths
from trainer.ports import Slot
from trainer.removal import remove_tree
from trainer.run_records import Limits
from trainer.safe_read import MOST_FILES, SafeFolder, Unsafe
from trainer.trial import CommitId
from trainer.worktree import locked

_MOST_BYTES = 1 << 30
"""More than this takes longer to copy, for each trial, than much of it would take to compile."""
_MOST_SHARE = 4
"""Of a trial's limits on disk a seed takes no more than one part in so many: it counts."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CacheSeed:
    """The compile caches with which the trials of one node and device class start."""

    base: CommitId
    """The only commit whose caches are kept."""
    place: Path
    """Where they are, once there are any; from then on they stay as they are."""
    most_bytes: int = _MOST_BYTES
    most_files: int = MOST_FILES
    """Of more than this no seed is made."""

    @classmethod
    def of(cls, slot: Slot, *, base: CommitId, paths: WorkerPaths, limits: Limits) -> "CacheSeed":
        """Return that of a slot whose trials have these limits."""
        disk_bytes = limits.disk_bytes or _MOST_SHARE * _MOST_BYTES
        disk_files = limits.disk_files or _MOST_SHARE * MOST_FILES
        return cls(
            base=base,
            place=paths.cache_seed(slot.node, slot.device_class),
            most_bytes=min(_MOST_BYTES, disk_bytes // _MOST_SHARE),
            most_files=min(MOST_FILES, disk_files // _MOST_SHARE),
        )

    def path(self) -> Path | None:
        """Return the folder to copy; None while there is none."""
        return self.place if self.place.is_dir() else None

    def keep(self, cache: Path, commit: CommitId) -> bool:
        """Make the seed of what a trial of `commit` has left in `cache`; say whether it was made.

        It is not unless `commit` is the base, nor where there is one already, nothing to keep, too
        much of it, or no room: trials then compile for themselves. Nothing of the trial may be
        alive any more.
        """
        if commit != self.base:
            return False
        try:
            self.place.parent.mkdir(mode=0o700, exist_ok=True)
            with locked(self.place.with_name(f"{self.place.name}.lock")):
                return self._keep(cache)
        except (OSError, Unsafe):
            return False

    def _keep(self, cache: Path) -> bool:
        unfinished = self.place.with_name(f"{self.place.name}.unfinished")
        remove_tree(unfinished)  # a worker was killed while it made it
        if self.place.exists():
            return False
        try:
            with SafeFolder(cache) as left:
                if not self._copy(left, unfinished):
                    return False
            unfinished.rename(self.place)  # in one step: who looks finds all of it, or nothing
        finally:
            remove_tree(unfinished)
        return True

    def _copy(self, left: SafeFolder, place: Path) -> bool:
        files = [found for found in left.files(self.most_files) if not found.problem]
        if not files or sum(found.size for found in files) > self.most_bytes:
            return False
        for found in files:
            target = place / found.name
            target.parent.mkdir(parents=True, exist_ok=True)
            left.copy(found.name, target, found.size)
        return True
