"""Frozen files, all but the editable ones, are what the study's base commit says.

Knows how to tell so of a commit (before a trial) and of the folder in which the commit ran
(afterwards). Does not know what is to be done about it. The folder is read as an enemy's; git looks
at its own repository alone, never into the folder.

Of a folder it counts that a file was changed, replaced by something else, or removed. Modes do not
count, nor do files that are new: scripts write caches and results beside themselves.
"""

import hashlib
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from trainer.editable import is_editable
from trainer.git_command import GitCommand
from trainer.safe_read import SafeFolder, Unsafe
from trainer.trial import CommitId

MOST_FILE_BYTES = 64 << 20
"""Of a larger file only the size is compared."""
MOST_BYTES = 512 << 20
"""So much is read of all files together: about a second."""
MOST_FILES = 20_000
MOST_NAMED = 100
"""Files that are named; the others are counted."""

_LINK = b"120000"
_REGULAR = frozenset({b"100644", b"100755"})


@dataclass(frozen=True, slots=True, kw_only=True)
class FrozenCheck:
    """What became of the frozen files while a trial ran."""

    changed: tuple[str, ...] = ()
    """In words, by path: "prepare.py was changed"."""
    unchecked: int = 0
    """Files of which the size alone was compared, or nothing at all: there was too much."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Entry:
    """A file as a commit has it."""

    path: str
    mode: bytes
    oid: str
    size: int


def frozen_changes(
    repository: Path, base: CommitId, commit: CommitId, editable: Sequence[str]
) -> tuple[str, ...]:
    """Return in words what a commit changes that it may not, compared with the study's base.

    An editable file has to stay a regular file: a link would make its content another file's.
    Raises GitError, e.g. because the repository lacks a commit.
    """
    raw = ("diff-tree", "-r", "-z", "--raw", "--no-renames", base, commit)
    fields = GitCommand(repository).run(*raw).stdout.split(b"\0")[:-1]
    problems = []
    for about, name in zip(fields[::2], fields[1::2], strict=True):
        mode, path = about.split(b" ")[1], name.decode("utf-8", "backslashreplace")
        if not is_editable(path, editable):
            problems.append(f"{path} is frozen")
        elif mode not in _REGULAR:
            problems.append(f"{path} must stay a regular file")
    return _named(problems)


def check_folder(
    repository: Path, commit: CommitId, folder: Path, editable: Sequence[str]
) -> FrozenCheck:
    """Compare the frozen files of a commit with the folder in which it ran.

    Nothing may run there any more. Raises GitError, OSError.
    """
    listed = list(_frozen_files(repository, commit, editable))
    try:
        opened = SafeFolder(folder)
    except (FileNotFoundError, Unsafe):
        return FrozenCheck(changed=("the folder that it ran in was removed",))
    with opened as safe:
        comparison = _Comparison(safe)
        differing = [entry for entry in listed if comparison.differs(entry)]
        honest = _converted(repository, commit, safe, differing)
    words = (comparison.words[entry.path] for entry in differing if entry.path not in honest)
    return FrozenCheck(changed=_named(words), unchecked=comparison.unchecked)


class _Comparison:
    """Files of a commit against files of a folder, until too much was read."""

    def __init__(self, folder: SafeFolder) -> None:
        self._folder = folder
        self._files = 0
        self._bytes = 0
        self.unchecked = 0
        self.words: dict[str, str] = {}
        """What happened to each file that differs."""

    def differs(self, entry: _Entry) -> bool:
        """Compare one file, and note how it differs."""
        self._files += 1
        if self._files > MOST_FILES:
            self.unchecked += 1
            return False
        try:
            is_same = self._is_same(entry)
        except FileNotFoundError:
            self.words[entry.path] = f"{entry.path} was removed"
        except Unsafe as unsafe:
            self.words[entry.path] = f"{entry.path} was replaced: it {unsafe.reason}"
        else:
            if not is_same:
                self.words[entry.path] = f"{entry.path} was changed"
        return entry.path in self.words

    def _is_same(self, entry: _Entry) -> bool:
        if entry.mode == _LINK:
            return _blob_id([self._folder.read_link(entry.path)], entry.size) == entry.oid
        if self._folder.size(entry.path) != entry.size:
            return False
        if entry.size > MOST_FILE_BYTES or self._bytes + entry.size > MOST_BYTES:
            self.unchecked += 1
            return True
        self._bytes += entry.size
        chunks = self._folder.chunks(entry.path, entry.size)
        return _blob_id(chunks, entry.size) == entry.oid


def _frozen_files(repository: Path, commit: CommitId, editable: Sequence[str]) -> Iterator[_Entry]:
    listing = GitCommand(repository).run("ls-tree", "-r", "-z", "-l", commit).stdout
    for line in listing.split(b"\0")[:-1]:
        about, _, name = line.partition(b"\t")
        mode, kind, oid, size = about.split()
        path = name.decode("utf-8", "surrogateescape")
        if kind == b"blob" and not is_editable(path, editable):
            yield _Entry(path=path, mode=mode, oid=oid.decode("ascii"), size=int(size))


def _converted(
    repository: Path, commit: CommitId, folder: SafeFolder, differing: Sequence[_Entry]
) -> frozenset[str]:
    """Return those files that differ only as git itself makes them differ when it checks out.

    By attributes of the tree, such as `eol=crlf` or `working-tree-encoding`. Checks them out once
    more, which is slow; hardly any repository has such files.
    """
    asked = [e for e in differing if e.mode != _LINK and e.size <= MOST_FILE_BYTES][:MOST_NAMED]
    if not asked:
        return frozenset()
    with tempfile.TemporaryDirectory(prefix="incumbent-frozen-") as scratch:
        tree = Path(scratch, "tree")
        tree.mkdir()
        env = {"GIT_INDEX_FILE": f"{scratch}/index", "GIT_WORK_TREE": str(tree)}
        git = GitCommand(repository)
        git.run("read-tree", commit, env=env)
        paths = b"".join(e.path.encode("utf-8", "surrogateescape") + b"\0" for e in asked)
        git.run("checkout-index", "-z", "--stdin", stdin=paths, env=env)
        with SafeFolder(tree) as ours:
            return frozenset(e.path for e in asked if _are_equal(ours, folder, e.path))


def _are_equal(ours: SafeFolder, theirs: SafeFolder, name: str) -> bool:
    try:
        size = ours.size(name)
        if theirs.size(name) != size:
            return False
        return _blob_id(ours.chunks(name, size), size) == _blob_id(theirs.chunks(name, size), size)
    except (FileNotFoundError, Unsafe):
        return False


def _blob_id(chunks: Iterable[bytes], size: int) -> str:
    """Return the name that git gives to a file of `size` bytes."""
    digest = hashlib.sha1(b"blob %d\0" % size, usedforsecurity=False)
    for chunk in chunks:
        digest.update(chunk)
    return digest.hexdigest()


def _named(problems: Iterable[str]) -> tuple[str, ...]:
    printable = [text.encode("utf-8", "backslashreplace").decode() for text in problems]
    rest = len(printable) - MOST_NAMED
    return (*printable[:MOST_NAMED], *([f"and {rest} more"] if rest > 0 else []))
