"""The refs under which a study's repository keeps candidates, one an experiment.

Knows that numbers can be given out twice: by a controller that was killed before the ledger heard
of a candidate, and where the ledger has lost its latest events. What a ref named before is kept
then, under a further name. Does not know what a candidate is.

    refs/incumbent/<study>/<experiment>                what the ledger calls so
    refs/incumbent/<study>/lost/<experiment>-<commit>  what was called so before
"""

import os
from collections.abc import Mapping
from pathlib import Path

from trainer.git_command import GitCommand, GitError
from trainer.trial import CommitId, ExperimentId

NO_COMMIT = "0" * 40
_PACK_EVERY = 512
"""Loose refs after which they are packed: listing thousands of small files is slow."""


class ExperimentRefs:
    """The refs below `prefix`, in the repository at `path`."""

    def __init__(self, path: Path, prefix: str) -> None:
        self._folder = path / prefix
        self._prefix = prefix
        self._git = GitCommand(path)
        self._loose: int | None = None

    def keep(self, experiment: ExperimentId, commit: CommitId) -> None:
        """Have a ref name a candidate for good. May be repeated."""
        ref = f"{self._prefix}{experiment}"
        try:
            self._git.run("update-ref", ref, commit, NO_COMMIT)
        except GitError:
            self._move({experiment: commit}, {ref: NO_COMMIT, **self._found(experiment)})
        if self._loose is None:  # an earlier process may have left some
            self._loose = sum(len(names) for _, _, names in os.walk(self._folder))
        else:
            self._loose += 1
        if self._loose >= _PACK_EVERY:
            # The candidate is kept, whether there is room for this or not.
            self._git.run("pack-refs", "--all", check=False)
            self._loose = 0

    def move(self, candidates: Mapping[ExperimentId, CommitId]) -> None:
        """Let refs that are there name what candidates are, by compare-and-set. May be repeated."""
        if candidates:
            only = next(iter(candidates)) if len(candidates) == 1 else ""
            self._move(candidates, self._found(only))

    def _found(self, name: str) -> Mapping[str, str]:
        """Return what refs name: one, or all."""
        style = "--format=%(refname) %(objectname)"
        shown = self._git.text("for-each-ref", style, f"{self._prefix}{name}")
        return dict(line.split() for line in shown.splitlines())

    def _move(self, candidates: Mapping[ExperimentId, CommitId], found: Mapping[str, str]) -> None:
        for experiment, commit in candidates.items():
            ref = f"{self._prefix}{experiment}"
            old = found.get(ref, commit)
            if old == commit:
                continue
            if old != NO_COMMIT and not self._descends(commit, old):
                lost = f"{self._prefix}lost/{experiment}-{old[:12]}"
                self._git.run("update-ref", lost, old)
            self._git.run("update-ref", ref, commit, old)

    def _descends(self, commit: str, old: str) -> bool:
        question = ("merge-base", "--is-ancestor", old, commit)
        return self._git.run(*question, check=False).status == 0
