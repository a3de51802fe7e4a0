"""The folder of one run: a copy of the candidate's files to run in, and room for what it writes.

Knows how files are copied quickly and given to whom trials run as. Does not know git or sandboxes.
The copy is what lets a trial write beside its script and still never touch what the trusted side
reads: nobody but the trial looks into it again, and it is thrown away.
"""

import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path

from trainer.removal import Trash
from trainer.run_records import Limits

_GIT = ".git"
_MOST_AT_ONCE = 1 << 30


@dataclass(frozen=True, slots=True, kw_only=True)
class RunFolder:
    """Where one run has its files."""

    src: Path
    """The copy of the candidate's tree, in which the command starts."""
    out: Path
    """Where the run leaves what is to be kept."""
    cache: Path
    """Where its compilers keep what they have made; thrown away."""

    @classmethod
    def at(cls, path: Path) -> "RunFolder":
        """Return the folder at `path`, which need not exist."""
        return cls(src=path / "src", out=path / "out", cache=path / "cache")

    def fill(self, tree: Path, *, owner: int | None, seed: Path | None = None) -> None:
        """Make it hold copies of `tree`, without `.git`, and of `seed`, and an empty output folder.

        Without a seed the cache is empty. All belongs to the user and group number `owner`, or to
        this process' user if it is None. Links are copied as links. Its folders must not be there.
        Raises OSError, with ENOSPC where the disk is full.
        """
        self.src.parent.mkdir(parents=True, exist_ok=True)
        _copy_folder(tree, self.src, owner=owner, skip=_GIT)
        _make_folder(self.out, owner)
        if seed is None:
            _make_folder(self.cache, owner)
        else:
            _copy_folder(seed, self.cache, owner=owner)

    def make(self, *, owner: int | None) -> None:
        """Make its folders, empty, where there are none."""
        self.src.parent.mkdir(parents=True, exist_ok=True)
        for folder in (self.src, self.out, self.cache):
            _make_folder(folder, owner)

    def keep(self, place: Path) -> bool:
        """Move what the run left to `place`, which must be free; say whether it left anything.

        Nothing of the run may be alive any more.
        """
        with suppress(OSError):
            self.out.rmdir()
            return False
        place.parent.mkdir(parents=True, exist_ok=True)
        # The name alone: whatever the run made of the folder, a link too, is not looked into.
        self.out.rename(place)
        if not place.is_symlink():
            place.chmod(0o755)  # the run may have made it anybody's, or nobody's
        return True

    def limits(self, most: Limits) -> Limits:
        """Return what a run may take, all that it writes here counted."""
        folders = (self.src, self.out, self.cache)
        return replace(most, folders=tuple(map(os.fspath, folders)))

    def discard(self, trash: Trash) -> None:
        """Throw its folders away; nothing of the run may be alive any more."""
        trash.throw(self.src, self.out, self.cache)


def _copy_folder(source: Path, place: Path, *, owner: int | None, skip: str = "") -> None:
    _make_folder(place, owner)
    with os.scandir(source) as entries:
        for entry in entries:
            if entry.name == skip:
                continue
            copy = place / entry.name
            if entry.is_symlink():
                os.symlink(os.readlink(entry.path), copy)  # noqa: PTH115, PTH211 - as bytes say it
                _give(copy, owner)
            elif entry.is_dir():
                _copy_folder(Path(entry.path), copy, owner=owner)
            else:
                _copy_file(entry.path, copy, owner)


def _make_folder(place: Path, owner: int | None) -> None:
    place.mkdir()
    place.chmod(0o755)  # whatever the umask: the sandbox looks at it as another user
    _give(place, owner)


def _copy_file(source: str, place: Path, owner: int | None) -> None:
    with _opened(source, os.O_RDONLY) as read:
        mode = stat.S_IMODE(os.fstat(read).st_mode) & 0o777
        with _opened(place, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode) as write:
            # Shares the blocks where the file system can.
            while os.copy_file_range(read, write, _MOST_AT_ONCE):
                pass
            if owner is not None:
                os.fchown(write, owner, owner)


def _give(place: Path, owner: int | None) -> None:
    if owner is not None:
        os.chown(place, owner, owner, follow_symlinks=False)


@contextmanager
def _opened(path: str | Path, flags: int, mode: int = 0) -> Iterator[int]:
    descriptor = os.open(path, flags | os.O_NOFOLLOW | os.O_CLOEXEC, mode)
    try:
        yield descriptor
    finally:
        os.close(descriptor)
