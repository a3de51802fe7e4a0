"""`scratchpad.md` in a study's folder: what proposers and people write down for each other.

Knows the file, its versions in the study's bare repository, and how to keep it short. A proposer's
note is a line that starts with a date and `[author]`; every other line is a person's and is kept
whatever happens. Notes are never instructions: whoever shows them fences them as data.

People may edit the file at any time. It is read just before it is replaced, and replaced by a
rename, so an edit saved before that is kept; of one saved within the same instant, git has neither.
"""

import os
import re
import stat
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from cluster.git.git_objects import ObjectWriter, read_snapshot
from cluster.git.study_repository import StudyRepository
from trainer.log_capture import printable
from trainer.trial import CommitId

FILE = "scratchpad.md"
MOST_BYTES = 256_000
"""A file that is larger is read no further, and never written over."""
MOST_NOTE = 600
"""Characters of one note."""
_NOTE = re.compile(r"^- \d{4}-\d\d-\d\d \d\d:\d\d \[[^\]]*\] ")
_FOLDED = re.compile(r"^- (\d+) older notes of proposers are in version ([0-9a-f]{10,40})\b")
_TRIES = 3


class Scratchpad:
    """The scratchpad at `path`; one writer, the controller's thread, beside people's editors.

    `limit_chars` is from what length on old notes give way to one line; 0 keeps none of proposers.
    """

    def __init__(
        self,
        path: Path,
        repository: StudyRepository,
        limit_chars: int,
        *,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._path = path
        self._repository = repository
        self._limit = limit_chars
        self._clock = clock
        self._writer = ObjectWriter(repository.path)
        self._ref = f"{repository.experiments_prefix}scratchpad"

    def read(self) -> str:
        """Return the text, printable characters and line ends alone; empty if there is none.

        What is no regular file (a symbolic link, a pipe) counts as none.
        """
        return "\n".join(map(_clean, (_read(self._path) or "").splitlines()))

    def add(self, author: str, text: str) -> None:
        """Write a proposer's note below the others; raises OSError, GitError.

        Nothing is written where something other than a readable regular file is in the way.
        """
        note = " ".join(printable(" ".join(text.split())).split())[:MOST_NOTE]
        if not note or not self._limit:
            return
        date = time.strftime("%Y-%m-%d %H:%M", time.gmtime(self._clock()))
        who = printable(author).replace("]", "").replace("[", "")
        line = f"- {date} [{who}] {note}"
        for _ in range(_TRIES):
            before = _read(self._path)
            if before is None:
                return
            kept = f"{before}\n" if before and not before.endswith("\n") else before
            after = f"{kept}{line}\n"
            if len(after) > self._limit:
                after = _folded(after, self._limit, self._keep_version(after))
            if self._replace(before, after):
                self._keep_version(after)
                return

    def _replace(self, before: str, after: str) -> bool:
        """Put a text in place of the one that was read; say False if that is no longer there."""
        handle, name = tempfile.mkstemp(dir=self._path.parent, prefix=f".{FILE}-")
        try:
            with os.fdopen(
                handle, "w", encoding="utf-8", errors="surrogateescape", newline=""
            ) as file:
                file.write(after)
            if _read(self._path) != before:
                return False
            Path(name).replace(self._path)
        finally:
            Path(name).unlink(missing_ok=True)
        return True

    def _keep_version(self, text: str) -> CommitId:
        """Commit a text under the scratchpad's own ref, unless it is the latest there already."""
        git = self._repository.git
        found = git.run("rev-parse", "--verify", "--quiet", self._ref, check=False)
        head = found.stdout.decode().strip() if found.status == 0 else ""
        # The root tree of no commit is the empty one, which git knows without its being stored.
        start = head or git.run("hash-object", "-w", "-t", "tree", "--stdin", stdin=b"").stdout
        root = start if isinstance(start, str) else start.decode().strip()
        snapshot = read_snapshot(git, root, (FILE,))
        blob = self._writer.blob(text.encode("utf-8", "surrogateescape"))
        tree = self._writer.graft(snapshot, {FILE: blob})
        if head and tree == snapshot.tree:
            return CommitId(head)
        commit = self._writer.commit(
            tree=tree,
            parents=(CommitId(head),) if head else (),
            message="Scratchpad",
            author="Incumbent",
            time_s=int(self._clock()),
        )
        git.run("update-ref", self._ref, commit, head or "0" * 40)
        return commit


def _read(path: Path) -> str | None:
    """Return a file's text, "" if there is none; None if it cannot be or is too large."""
    try:
        # O_NONBLOCK: opening a pipe that nobody writes to would wait for ever.
        handle = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except FileNotFoundError:
        return ""
    except OSError:
        return None
    with os.fdopen(handle, "rb") as file:
        if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
            return None
        content = file.read(MOST_BYTES + 1)
    if len(content) > MOST_BYTES:
        return None
    return content.decode("utf-8", "surrogateescape")


def _clean(line: str) -> str:
    return printable(line.encode("utf-8", "replace").decode("utf-8", "replace"))


def _is_note(line: str) -> bool:
    return bool(_NOTE.match(line) or _FOLDED.match(line))


def _folded(text: str, limit: int, version: CommitId) -> str:
    """Return a text whose oldest notes gave way to one line, at most half the limit long."""
    lines = text.removesuffix("\n").split("\n")
    gone, size, count, place = set(), len(text), 0, len(lines)
    for index, line in enumerate(lines):
        if size <= limit // 2:
            break
        if not _is_note(line) or index == len(lines) - 1:
            continue
        earlier = _FOLDED.match(line)
        count += int(earlier[1]) if earlier else 1
        size -= len(line) + 1
        place = min(place, index)
        gone.add(index)
    if not gone:
        return text
    told = f"- {count} older notes of proposers are in version {version}"
    kept = [
        told if index == place else line
        for index, line in enumerate(lines)
        if index == place or index not in gone
    ]
    return "\n".join(kept) + "\n"
