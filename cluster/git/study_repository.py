"""The study's bare repository: the truth about code.

Knows how candidates, merges and promotions become commits, and which files those may differ in.
Does not know why a candidate is made, how it scored, or when it is promoted.

    refs/source/<commit>                 what was brought over from the user's repository
    refs/incumbent/<study>/<experiment>  every candidate, kept and failed alike: see ExperimentRefs
    refs/heads/incumbent/<study>         the best-so-far branch, moved by compare-and-set alone
    refs/tags/incumbent/<study>/final-1  what a final run reported

One process writes (the controller; a final run its tag), any number read. Nothing is ever deleted
or rewritten; a candidate that is rebased before it runs has its old commit as a parent. What needs
room on the disk raises NoRoom where there is none, and may be repeated.
"""

import os
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Self

from cluster.git.bare_repository import BareRepository
from cluster.git.branch_log import on_branch
from cluster.git.code_outcomes import (
    BranchMoved,
    Candidate,
    Conflict,
    OnBranch,
    Promotion,
    Redundant,
    Rejected,
)
from cluster.git.commit_message import compose
from cluster.git.experiment_refs import NO_COMMIT, ExperimentRefs
from cluster.git.git_objects import ObjectWriter, count_lines
from cluster.git.room import needs_room
from cluster.git.source_repository import SourceProblem, SourceRepository
from proposer.patch import PatchRejected, check_edits, check_patch
from trainer.git_command import GitCommand, GitError
from trainer.trial import CommitId, ExperimentId

NOTHING = "changes nothing"
_ROOM = 1 << 20
"""Bytes that several candidates fit into."""


class NoRepository(FileNotFoundError):
    """A study whose repository is gone; the message holds the cure."""

    def __init__(self, path: Path) -> None:
        super().__init__(
            f"{path} is gone, which holds all experiments' code: bring it back from a backup, "
            f"or move {path.parent} away, and `incumbent rebuild` makes a study of what your "
            "repository mirrors"
        )


class StudyRepository:
    """The bare repository of one study, at `path`."""

    def __init__(self, path: Path, *, study: str, clock: Callable[[], float] = time.time) -> None:
        self.path = path
        self.study = study
        self.branch_ref = f"refs/heads/incumbent/{study}"
        self.experiments_prefix = f"refs/incumbent/{study}/"
        self.tags_prefix = f"refs/tags/incumbent/{study}/"
        self.git = GitCommand(path)
        self._bare = BareRepository(path)
        self._writer = ObjectWriter(path)
        self._clock = clock
        self._refs = ExperimentRefs(path, self.experiments_prefix)

    @classmethod
    @needs_room()
    def create(
        cls,
        path: Path,
        *,
        study: str,
        source: Path,
        base: str,
        clock: Callable[[], float] = time.time,
    ) -> Self:
        """Make the repository and bring the commit `base` with its history over from `source`.

        May be repeated: what is there already is kept. Raises SourceProblem, GitError.
        """
        origin = SourceRepository.find(source)
        commit = origin.resolve(base)
        repository = cls(path, study=study, clock=clock)
        repository._bare.initialise(f"incumbent/{study}")
        repository._bare.fetch(origin, commit)
        return repository

    @classmethod
    def open(cls, path: Path, *, study: str, clock: Callable[[], float] = time.time) -> Self:
        """Return the repository made earlier; raise NoRepository if there is none."""
        if not (path / "objects").is_dir():
            raise NoRepository(path)
        repository = cls(path, study=study, clock=clock)
        repository._bare.drop_stale_locks()
        return repository

    def resolve(self, rev: str) -> CommitId:
        """Return the commit that `rev` names; raise LookupError if there is none."""
        found = self._bare.read_ref(rev)
        if found is None:
            raise LookupError(f"no such commit: {rev}")
        return found

    def tree_of(self, commit: CommitId) -> str:
        """Return the id of the commit's tree; raise LookupError if there is no such commit."""
        return self._bare.snapshot(commit, ()).tree

    def read_files(self, commit: CommitId, paths: Sequence[str]) -> dict[str, str]:
        """Return text files by path, line ends as they are.

        Raises KeyError for a path that is not there, ValueError for one that is no text file,
        LookupError if there is no such commit.
        """
        snapshot = self._bare.snapshot(commit, paths)
        return {path: snapshot.text(path) for path in paths}

    def count_lines(self, commit: CommitId, editable: Sequence[str]) -> int:
        """Return the lines of all editable files together."""
        return self._bare.snapshot(commit, editable).lines

    def diff(self, a: CommitId, b: CommitId) -> str:
        """Return the patch from `a` to `b`; bytes that are not UTF-8 are replaced."""
        arguments = ("-p", "--no-color", "--no-ext-diff", "--no-textconv")
        return self.git.run("diff-tree", *arguments, a, b).stdout.decode("utf-8", "replace")

    @needs_room()
    def commit_edits(
        self,
        *,
        base: CommitId,
        edits: Mapping[str, str],
        editable: Sequence[str],
        message: str,
        author: str,
        beside: Sequence[CommitId] = (),
    ) -> Candidate | Rejected:
        """Make the candidate that is `base` with whole new texts; `beside` are further parents."""
        try:
            check_edits(edits, editable)
        except PatchRejected as refusal:
            return Rejected(reason=str(refusal))
        snapshot = self._bare.snapshot(base, editable)
        contents: dict[str, bytes] = {}
        for path, text in edits.items():
            if path not in editable:  # below an entry that names a whole directory
                return Rejected(reason=f"{path} is not editable: editable entries are files")
            if path in snapshot.problems:
                return Rejected(reason=snapshot.problems[path])
            content = text.encode()
            if snapshot.files.get(path) != content:
                contents[path] = content
        if not contents:
            return Rejected(reason=NOTHING)
        blobs = {path: self._writer.blob(content) for path, content in contents.items()}
        tree = self._writer.graft(snapshot, blobs)
        return Candidate(
            commit=self._commit(tree, (base, *beside), compose(message), author),
            tree=tree,
            lines=sum(map(count_lines, {**snapshot.files, **contents}.values())),
            changed=tuple(sorted(contents)),
        )

    @needs_room()
    def commit_patch(
        self,
        *,
        base: CommitId,
        patch: str,
        editable: Sequence[str],
        message: str,
        author: str,
    ) -> Candidate | Rejected:
        """Make the candidate that is `base` with `patch` applied."""
        try:
            paths = check_patch(patch, editable)
        except PatchRejected as refusal:
            return Rejected(reason=str(refusal))
        made = self._bare.apply(base, patch)
        if not made.tree:
            where = ", ".join(made.conflicts or paths)
            reason = f"the patch does not apply to {base[:10]}: {where}"
            return Rejected(reason=reason, is_stale=True)
        return self._commit_tree(base, made.tree, editable, message, author)

    @needs_room()
    def import_branch(
        self,
        source: Path,
        branch: str,
        *,
        tip: CommitId = CommitId(""),
        base: CommitId,
        editable: Sequence[str],
        message: str,
        author: str,
    ) -> Candidate | Rejected:
        """Make the candidate that is `base` with the changes of a branch in the user's repository.

        Its changes are those since its merge base with `base`, up to `tip` or else to where it is
        now. Raises SourceProblem if there is no such repository.
        """
        origin = SourceRepository.origin(source)
        try:
            found = origin.resolve(tip or f"refs/heads/{branch}")
        except SourceProblem:
            what = f"commit {tip[:10]}, where {branch} was," if tip else f"branch {branch}"
            return Rejected(reason=f"there is no {what} in {origin.toplevel}")
        self._bare.fetch(origin, found)
        return self.import_commit(
            found, f"branch {branch}", base=base, editable=editable, message=message, author=author
        )

    @needs_room()
    def bring(self, source: Path, commit: CommitId) -> None:
        """Bring a commit over from the user's repository; raises SourceProblem, GitError."""
        self._bare.fetch(SourceRepository.origin(source), commit)

    def problem_between(self, old: CommitId, new: CommitId, editable: Sequence[str]) -> str:
        """Return what is wrong with the first path that may not differ so; empty if none is."""
        return self._bare.changes(old, new, editable).problem

    @needs_room()
    def import_commit(
        self,
        tip: CommitId,
        name: str,
        *,
        base: CommitId,
        editable: Sequence[str],
        message: str,
        author: str,
    ) -> Candidate | Rejected:
        """Make the candidate that is `base` with the changes of a commit that was brought over.

        Its changes are those since its merge base with `base`. `name` is what people call it.
        """
        fork = self.git.run("merge-base", base, tip, check=False)
        if fork.status != 0:
            return Rejected(reason=f"{name} shares no history with the study")
        changes = self._bare.changes(fork.stdout.decode().strip(), tip, editable)
        if changes.problem:
            return Rejected(reason=f"{name}: {changes.problem}")
        made = self._bare.merge_trees(base, tip)
        if not made.tree:
            where = ", ".join(made.conflicts)
            return Rejected(reason=f"{name} conflicts with {base[:10]} in {where}", is_stale=True)
        return self._commit_tree(base, made.tree, editable, message, author)

    @needs_room()
    def undo(self, promoted: CommitId, before: CommitId) -> CommitId:
        """Return a commit that follows `promoted`, on the branch, with the tree of `before`.

        Git 2.38 can be told no merge base; what is merged by way of this commit has `promoted` as
        the one, and undoes what lies between the two.
        """
        return self._commit(self.tree_of(before), (promoted,), compose("Undo"), "Incumbent")

    @needs_room()
    def merge(
        self, *, incumbent: CommitId, winner: CommitId, message: str, editable: Sequence[str]
    ) -> Candidate | Conflict | Redundant:
        """Merge a winner made on an older base into the incumbent, three-way, without a checkout.

        The candidate's parents are the incumbent and the winner.
        """
        made = self._bare.merge_trees(incumbent, winner)
        if not made.tree:
            return Conflict(paths=made.conflicts)
        changes = self._bare.changes(incumbent, made.tree, editable)
        if changes.problem:  # a file was editable when the winner was made, and no longer is
            return Conflict(paths=changes.paths)
        if not changes.paths:
            return Redundant()
        parents = (incumbent, winner)
        merged = self._candidate(made.tree, parents, changes.paths, editable, message, "Incumbent")
        return Conflict(paths=changes.paths) if isinstance(merged, Rejected) else merged

    @needs_room()
    def keep_ref(self, experiment: ExperimentId, commit: CommitId) -> None:
        """Keep a candidate for good under its experiment's name. May be repeated."""
        self._refs.keep(experiment, commit)

    @needs_room()
    def move_refs(self, candidates: Mapping[ExperimentId, CommitId]) -> None:
        """Let refs name what candidates have become. May be repeated."""
        self._refs.move(candidates)

    @needs_room()
    def start_branch(self, base: CommitId) -> CommitId:
        """Make the branch at `base` if there is none; return where it is."""
        try:
            self.git.run("update-ref", self.branch_ref, base, NO_COMMIT)
        except GitError:
            head = self._bare.read_ref(self.branch_ref)
            if head is None:
                raise
            return head
        return base

    @needs_room()
    def promote(
        self,
        promotions: Sequence[Promotion],
        *,
        parent: CommitId,
        onto: CommitId | None = None,
    ) -> tuple[CommitId, ...]:
        """Put a commit for each promotion on the branch, whose head is `parent`, at one go.

        Trailers `Experiment` are added. If these promotions are the branch's head already (we were
        killed before the ledger heard of it), they are returned. `onto` names a head that has more
        above `parent` than is known: that stays below, and a trailer `Replaces` names `parent`.
        Raises BranchMoved if the branch is elsewhere.
        """
        head = self._bare.read_ref(self.branch_ref)
        if head is None or head not in {parent, onto}:
            found = self.landed(head, parent=parent)
            wanted = [(one.experiment, one.tree) for one in promotions]
            if [(one.experiment, one.tree) for one in found] == wanted:
                return tuple(one.commit for one in found)
            raise BranchMoved(head)
        commits = [head]
        replaced = "" if head == parent else parent
        for one in promotions:
            block = [("Experiment", one.experiment), *one.trailers, ("Replaces", replaced)]
            message = compose(one.subject, block)
            commits.append(self._commit(one.tree, commits[-1:], message, "Incumbent"))
            replaced = ""
        words = f"promote {promotions[-1].experiment}"
        try:
            self.git.run("update-ref", "-m", words, self.branch_ref, commits[-1], head)
        except GitError as error:
            actual = self._bare.read_ref(self.branch_ref)
            if actual == head:
                raise
            raise BranchMoved(actual) from error
        return tuple(commits[1:])

    def landed(self, head: CommitId | None, *, parent: CommitId) -> tuple[OnBranch, ...]:
        """Return the promotions from one commit of the branch to another, oldest first.

        Without those that a later one names as lost; () if anything else is between the two.
        """
        found = on_branch(self.git, parent, head) if head else []
        is_ours = found and found[0].upon == parent and all(one.experiment for one in found)
        return tuple(found) if is_ours else ()

    def is_ahead(self, head: CommitId, of: CommitId) -> bool:
        """Say whether a commit has another below it."""
        return self.git.run("merge-base", "--is-ancestor", of, head, check=False).status == 0

    @needs_room()
    def merges(self, incumbent: CommitId, winner: CommitId) -> bool:
        """Say whether git can merge a winner into a commit."""
        return bool(self._bare.merge_trees(incumbent, winner).tree)

    @needs_room()
    def tag(self, name: str, commit: CommitId, message: str) -> None:
        """Make the annotated tag `incumbent/<study>/<name>`, unless it is there already."""
        ref = f"{self.tags_prefix}{name}"
        if self.git.run("rev-parse", "--verify", "--quiet", ref, check=False).status == 0:
            return
        lines = [
            f"object {commit}",
            "type commit",
            f"tag {ref.removeprefix('refs/tags/')}",
            f"tagger Incumbent <incumbent@localhost> {int(self._clock())} +0000",
        ]
        text = "\n".join([*lines, "", message])
        made = self.git.run("mktag", stdin=text.encode()).stdout.decode().strip()
        self.git.run("update-ref", ref, made, NO_COMMIT)

    @needs_room()
    def check_room(self) -> None:
        """Raise NoRoom unless there is room for a few candidates."""
        with tempfile.TemporaryFile(dir=self.path) as file:
            file.write(bytes(_ROOM))
            file.flush()
            os.fsync(file.fileno())

    def has_branch(self) -> bool:
        """Say whether the study's branch was begun."""
        return self._bare.read_ref(self.branch_ref) is not None

    def _commit_tree(
        self, base: CommitId, tree: str, editable: Sequence[str], message: str, author: str
    ) -> Candidate | Rejected:
        """Commit a tree that git made, if it differs from `base` where it may and only there."""
        changes = self._bare.changes(base, tree, editable)
        if changes.problem:
            return Rejected(reason=changes.problem)
        if not changes.paths:
            return Rejected(reason=NOTHING)
        return self._candidate(tree, (base,), changes.paths, editable, message, author)

    def _candidate(
        self,
        tree: str,
        parents: Sequence[CommitId],
        changed: tuple[str, ...],
        editable: Sequence[str],
        message: str,
        author: str,
    ) -> Candidate | Rejected:
        snapshot = self._bare.snapshot(tree, editable)
        if problem := snapshot.text_problem(changed):
            return Rejected(reason=problem)
        commit = self._commit(tree, parents, compose(message), author)
        return Candidate(commit=commit, tree=tree, lines=snapshot.lines, changed=changed)

    def _commit(
        self, tree: str, parents: Sequence[CommitId], message: str, author: str
    ) -> CommitId:
        return self._writer.commit(
            tree=tree, parents=parents, message=message, author=author, time_s=int(self._clock())
        )
