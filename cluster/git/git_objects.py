"""Reads the directories that a change touches, and writes blobs, trees and commits in process.

Knows git's object formats as far as a candidate needs them: a few blobs, the trees on the way to
the root, a commit. Does not know refs, studies or what may be edited.

Exists for speed: a candidate through `git update-index`, `write-tree` and `commit-tree` starts six
processes; here it costs three small files, whose content GitPython's object database makes. Each
is written under a temporary name and renamed, so concurrent readers see a whole object or none.
"""

import os
import re
import tempfile
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path, PurePosixPath
from typing import NamedTuple

from trainer.git_command import GitCommand, GitError, require_git
from trainer.trial import CommitId

try:
    from git.db import GitDB
    from gitdb.base import IStream  # type: ignore[import-untyped]  # GitPython's own, unannotated
    from gitdb.stream import ZippedStoreShaWriter  # type: ignore[import-untyped]
except ImportError:
    require_git()  # GitPython cannot be imported without git: say that, with the cure
    raise

_DIRECTORY = "040000"
_REGULAR = frozenset({"100644", "100755"})
_KINDS = {"120000": "a symbolic link", "160000": "a submodule", _DIRECTORY: "a directory"}


class Entry(NamedTuple):
    """One line of a tree: mode in git's six octal digits, and object id."""

    mode: str
    oid: str


Directory = Mapping[bytes, Entry]
"""A tree's entries by name; names are bytes, for git does not care whether they are UTF-8."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Snapshot:
    """What is known of some paths at one tree."""

    tree: str
    directories: Mapping[PurePosixPath, Directory]
    """Entries of every directory from the root to the paths; a missing directory is empty."""
    files: Mapping[str, bytes]
    """Content of the paths that are regular files."""
    problems: Mapping[str, str]
    """Paths that hold something that is no regular file, with what it is, for people."""

    @property
    def lines(self) -> int:
        """Lines of all files together."""
        return sum(count_lines(content) for content in self.files.values())

    def text(self, path: str) -> str:
        """Return a file as text, line ends as they are.

        Raises KeyError if there is none, ValueError if it is no regular file or not UTF-8.
        """
        if path in self.problems:
            raise ValueError(self.problems[path])
        try:
            return self.files[path].decode()
        except UnicodeDecodeError as error:
            raise ValueError(f"{path} is not UTF-8 text") from error

    def text_problem(self, paths: Sequence[str]) -> str:
        """Return why the first of some files is no text that anybody may edit; empty if all are."""
        try:
            binary = [path for path in paths if "\0" in self.text(path)]
        except ValueError as problem:
            return str(problem)
        return f"{binary[0]} is binary" if binary else ""


def read_snapshot(git: GitCommand, treeish: str, paths: Sequence[str]) -> Snapshot:
    """Read `paths` at a commit or tree; raise LookupError if there is no such object."""
    question = ("rev-parse", "--verify", "--quiet", "--end-of-options", f"{treeish}^{{tree}}")
    found = git.run(*question, check=False)
    if found.status != 0:
        raise LookupError(f"no such commit: {treeish}")
    tree = found.stdout.decode().strip()
    directories: dict[PurePosixPath, Directory] = {}
    entries: dict[str, Entry] = {}
    problems: dict[str, str] = {}
    for path in paths:
        for place in reversed(PurePosixPath(path).parents):
            if place not in directories:
                directories[place] = _read_directory(git, tree, place, directories)
        entry, problem = _look_up(path, directories)
        if problem:
            problems[path] = problem
        elif entry:
            entries[path] = entry
    contents = _read_blobs(git, [entry.oid for entry in entries.values()])
    return Snapshot(
        tree=tree,
        directories=directories,
        files=dict(zip(entries, contents, strict=True)),
        problems=problems,
    )


def count_lines(content: bytes) -> int:
    """Return the number of lines; a last one without a line end counts."""
    return content.count(b"\n") + (not content.endswith(b"\n") and content != b"")


class ObjectWriter:
    """Writes objects into one repository, from one thread, beside running git processes or not.

    All methods raise OSError, with ENOSPC where the disk is full.
    """

    def __init__(self, repository: Path) -> None:
        self._folder = repository / "objects"
        self._database = GitDB(str(self._folder))

    def blob(self, content: bytes) -> str:
        """Write a file's content and return its object id."""
        return self._store("blob", content)

    def graft(self, snapshot: Snapshot, blobs: Mapping[str, str]) -> str:
        """Return the tree that differs from `snapshot` by the blobs put at the given paths.

        The paths must be among those that the snapshot was read for, without problems. A file
        keeps its mode; a new one is not executable. Everything else keeps its exact bytes.
        """
        changed: dict[PurePosixPath, dict[bytes, Entry]] = {}

        def put(path: PurePosixPath, oid: str, mode: str) -> None:
            place = changed.setdefault(path.parent, dict(snapshot.directories[path.parent]))
            old = place.get(_name(path))
            place[_name(path)] = Entry(old.mode if old else mode, oid)

        for path, oid in blobs.items():
            put(PurePosixPath(path), oid, "100644")
            for parent in PurePosixPath(path).parents:
                changed.setdefault(parent, dict(snapshot.directories[parent]))
        root = PurePosixPath()
        for place in sorted(changed, key=lambda place: len(place.parts), reverse=True):
            tree = self._tree(changed[place].items())
            if place == root:
                return tree
            put(place, tree, _DIRECTORY)
        return snapshot.tree

    def commit(
        self, *, tree: str, parents: Sequence[CommitId], message: str, author: str, time_s: int
    ) -> CommitId:
        """Write a commit by Incumbent, at `time_s` seconds since 1970, UTC.

        `author` is a name, or "Name <address>". The same arguments give the same commit.
        """
        head = [f"tree {tree}", *(f"parent {parent}" for parent in parents)]
        head.append(f"author {_identity(author)} {time_s} +0000")
        head.append(f"committer {_identity('Incumbent')} {time_s} +0000")
        text = "\n".join([*head, "", message.replace("\0", " ").rstrip() + "\n"])
        return CommitId(self._store("commit", text.encode("utf-8", "backslashreplace")))

    def _tree(self, entries: Iterable[tuple[bytes, Entry]]) -> str:
        def rank(item: tuple[bytes, Entry]) -> bytes:
            # git sorts a directory as if its name ended in a slash.
            return item[0] + b"/" if item[1].mode == _DIRECTORY else item[0]

        return self._store(
            "tree",
            b"".join(
                b"%s %s\0%s" % (entry.mode.lstrip("0").encode(), name, bytes.fromhex(entry.oid))
                for name, entry in sorted(entries, key=rank)
            ),
        )

    def _store(self, kind: str, content: bytes) -> str:
        packed = ZippedStoreShaWriter()
        self._database.set_ostream(packed)
        stored = self._database.store(IStream(kind, len(content), BytesIO(content)))
        packed.close()
        oid: str = stored.hexsha.decode("ascii")
        self._keep(self._folder / oid[:2] / oid[2:], packed.getvalue())
        return oid

    def _keep(self, path: Path, packed: bytes) -> None:
        # Not by the database: where the disk is full, it leaves open for ever what it could not
        # write, which holds the room that this took.
        if path.exists():
            return
        path.parent.mkdir(exist_ok=True)
        handle, name = tempfile.mkstemp(dir=self._folder, prefix="obj")
        try:
            with os.fdopen(handle, "wb") as file:
                file.write(packed)
            Path(name).chmod(0o444)
            Path(name).replace(path)
        except BaseException:
            Path(name).unlink(missing_ok=True)
            raise


def _identity(author: str) -> str:
    """Return "Name <address>", free of what would break the commit's header."""
    name, _, address = " ".join(author.split()).partition(" <")
    name = re.sub(r"[<>\0-\x1f\x7f]", "", name).strip(" .,:;'\"\\")
    address = re.sub(r"[<>\s\0-\x1f\x7f]", "", address)
    return f"{name or 'unknown'} <{address or 'incumbent@localhost'}>"


def _name(path: PurePosixPath) -> bytes:
    return path.name.encode("utf-8", "surrogateescape")


def _read_directory(
    git: GitCommand,
    tree: str,
    place: PurePosixPath,
    known: Mapping[PurePosixPath, Directory],
) -> Directory:
    """Return the entries of `place`, whose parent is known; none if it is no directory."""
    oid = tree
    if place.parts:
        entry = known[place.parent].get(_name(place))
        if entry is None or entry.mode != _DIRECTORY:
            return {}
        oid = entry.oid
    listing = git.run("ls-tree", "-z", oid).stdout
    entries = {}
    for line in listing.split(b"\0")[:-1]:
        about, _, name = line.partition(b"\t")
        mode, _, oid = about.decode("ascii").split(" ")
        entries[name] = Entry(mode, oid)
    return entries


def _look_up(path: str, directories: Mapping[PurePosixPath, Directory]) -> tuple[Entry | None, str]:
    """Return the regular file at `path`, or why there can be none; neither if it is absent."""
    place = PurePosixPath(path)
    for parent in list(place.parents)[-2::-1]:
        entry = directories[parent.parent].get(_name(parent))
        if entry is not None and entry.mode != _DIRECTORY:
            return None, f"{parent} is {_KINDS.get(entry.mode, 'a file')}, not a directory"
    entry = directories[place.parent].get(_name(place))
    if entry is not None and entry.mode not in _REGULAR:
        return None, f"{path} is {_KINDS.get(entry.mode, 'not a file')}, not a regular file"
    return entry, ""


def _read_blobs(git: GitCommand, oids: Sequence[str]) -> list[bytes]:
    if not oids:
        return []
    output = git.run("cat-file", "--batch", stdin="".join(f"{oid}\n" for oid in oids).encode())
    rest, contents = output.stdout, []
    for oid in oids:
        header, _, rest = rest.partition(b"\n")
        if header.endswith(b" missing"):  # a partial clone without the blob
            raise GitError(("cat-file",), 1, f"object {oid} is missing from the repository")
        size = int(header.rsplit(b" ", 1)[1])
        contents.append(rest[:size])
        rest = rest[size + 1 :]
    return contents
