"""The proposer `crossover`: two patches that won, or nearly did, merged into one candidate.

Knows which pairs are promising, and three-way merges of texts. A task that cannot be merged goes to
a resolver, a proposer that composes, if there is one. Does not know where trees come from: `Trees`.
"""

import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import combinations
from pathlib import Path
from typing import Protocol

from proposer.constants import merged_constants
from proposer.history_text import near_misses
from proposer.proposal import (
    Context,
    Past,
    Proposal,
    Proposer,
    ProposerTroubled,
    Task,
    TaskKind,
)
from trainer.git_command import GitCommand
from trainer.trial import CommitId, ExperimentId

_CATEGORY = "crossover"
_PARENTS = 10
"""Patches that are crossed with each other: the most promising ones."""
_RETRY_S = 60.0


class Trees(Protocol):
    """Reads the editable files of experiments. May be called from the proposer's thread."""

    def files(self, experiment: ExperimentId) -> Mapping[str, str]:
        """Return the text of every editable file of its tree; raises LookupError."""
        ...

    def base_files(self, experiment: ExperimentId) -> Mapping[str, str]:
        """Return the same of the tree that its patch was made on; raises LookupError."""
        ...


class Crossover:
    """See Proposer for the contract."""

    def __init__(self, *, name: str, trees: Trees, resolver: Proposer | None = None) -> None:
        self._name = name
        self._trees = trees
        self._resolver = resolver
        self._tried: set[frozenset[ExperimentId]] = set()
        """Pairs that were looked at on `_commit`: most conflict, and always will."""
        self._commit = CommitId("")

    @property
    def name(self) -> str:
        """See Proposer."""
        return self._name

    @property
    def tasks(self) -> frozenset[TaskKind]:
        """It puts together what conflicts, with its resolver: git alone found the conflict."""
        return frozenset({TaskKind.COMPOSE} if self._resolver else ())

    @property
    def advice(self) -> str:
        """None."""
        return ""

    def propose(self, context: Context, count: int) -> Sequence[Proposal]:
        """Return candidates that hold two patches each.

        Raises:
            ProposerTroubled: no pair is left; there may be one once more has been tried.
        """
        if context.task is not None:
            return self._composed(context, context.task)
        found: list[Proposal] = []
        if context.commit != self._commit:
            self._commit, self._tried = context.commit, set()
        for one, other in _pairs(context):
            if len(found) == count:
                break
            pair = frozenset((one.experiment, other.experiment))
            if pair in self._tried:
                continue
            self._tried.add(pair)
            if proposal := self._crossed(context, one, other):
                found.append(proposal)
        if not found:
            why = "no two patches are left to cross"
            raise ProposerTroubled(why, retry_after_s=_RETRY_S, is_idle=True)
        return found

    def _crossed(self, context: Context, one: Past, other: Past) -> Proposal | None:
        files = context.files
        for past in (one, other):
            try:
                base = self._trees.base_files(past.experiment)
                theirs = self._trees.files(past.experiment)
            except LookupError:
                return None
            both = merged(base, files, theirs)
            if both is None:
                return None
            files = both
        return _proposal(context, files, _title(one, other))

    def _composed(self, context: Context, task: Task) -> Sequence[Proposal]:
        files = merged(task.base_files, context.files, task.files)
        if files is not None:
            made = _proposal(context, files, f"compose {task.experiment}: {task.hypothesis}")
            return [made] if made else []
        if self._resolver is None:
            return []
        resolved = self._resolver.propose(context, 1)
        return [replace(proposal, category=_CATEGORY) for proposal in resolved]


def merged(
    base: Mapping[str, str], ours: Mapping[str, str], theirs: Mapping[str, str]
) -> dict[str, str] | None:
    """Return `ours` with what changed from `base` to `theirs`; None where the two conflict.

    Constants are merged by value where git sees a conflict: see proposer.constants.
    """
    by_git = _merged_by_git(base, ours, theirs)
    if by_git is not None:
        return by_git
    try:
        return merged_constants(base, ours, theirs)
    except ValueError:
        return None


def _merged_by_git(
    base: Mapping[str, str], ours: Mapping[str, str], theirs: Mapping[str, str]
) -> dict[str, str] | None:
    found: dict[str, str] = {}
    for path, mine in ours.items():
        before, other = base.get(path, ""), theirs.get(path, "")
        if other in {before, mine}:
            found[path] = mine
        elif before == mine:
            found[path] = other
        else:
            text = _merge_file(mine, before, other)
            if text is None:
                return None
            found[path] = text
    return found


def _merge_file(ours: str, base: str, theirs: str) -> str | None:
    with tempfile.TemporaryDirectory(prefix="incumbent-merge-") as folder:
        paths = [Path(folder, name) for name in ("ours", "base", "theirs")]
        for path, text in zip(paths, (ours, base, theirs), strict=True):
            path.write_bytes(text.encode("utf-8", "surrogateescape"))
        named = [path.name for path in paths]
        done = GitCommand(Path(folder)).run(
            "merge-file", "--quiet", "--stdout", *named, check=False
        )
    return done.stdout.decode("utf-8", "surrogateescape") if done.status == 0 else None


def _proposal(context: Context, files: Mapping[str, str], title: str) -> Proposal | None:
    edits = {path: text for path, text in files.items() if text != context.files[path]}
    return Proposal(edits=edits, hypothesis=title, category=_CATEGORY) if edits else None


def _title(one: Past, other: Past) -> str:
    return f"cross {one.experiment} with {other.experiment}: {one.hypothesis}; {other.hypothesis}"


def _pairs(context: Context) -> Iterator[tuple[Past, Past]]:
    """Yield pairs that were not crossed yet, the most promising first.

    A patch that is on the branch already brings nothing more: crossed are near misses, and winners
    that were left behind.
    """
    said = [past.hypothesis for past in context.history] + [p.hypothesis for p in context.pending]
    left = [past for past in context.history if past.status in {"dropped", "conflicted"}]
    parents = [*left[-_PARENTS:], *near_misses(context.history)]
    fresh = [past for past in parents if past.category != _CATEGORY][:_PARENTS]
    for one, other in combinations(fresh, 2):
        pair = (one.experiment, other.experiment)
        starts = tuple(f"cross {a} with {b}:" for a, b in (pair, pair[::-1]))
        if not any(words.startswith(starts) for words in said):
            yield one, other
