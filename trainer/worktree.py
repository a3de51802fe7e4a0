"""The directory in which one slot runs its trials: a linked git worktree, used again and again.

Knows how to make it show exactly the files of a commit, whatever the candidate before left there.
Does not know who ran in it. Re-use costs two git processes; a new worktree costs four and a lock,
because concurrent `git worktree add` in one repository race for `worktrees/*/commondir`.
"""

import errno
import fcntl
import os
import re
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from trainer.git_command import GitCommand, GitError
from trainer.removal import is_folder, remove_tree

_GITLINK = "160000"
_DISK_FULL = re.compile(
    # Writing a file, git 2.39 does not say why it failed; creating one, it does.
    r"No space left on device|Disk quota exceeded|unable to write (?:new index )?file"
)

_Seal = tuple[tuple[str, int, int], ...]


class SlotWorktree:
    """One slot's linked worktree at `path`, registered in the bare `repository`.

    Used by one process at a time; different slots may share the repository. `path.name` names the
    registration and must be of letters, digits, dots, dashes and underscores.
    """

    def __init__(self, *, repository: Path, path: Path) -> None:
        self.repository = repository
        self.path = path
        self._registration = repository / "worktrees" / path.name
        self._seal: _Seal = ()

    def of(self, repository: Path) -> "SlotWorktree":
        """Return what is at the same place as a worktree of that repository."""
        if repository == self.repository:
            return self
        return SlotWorktree(repository=repository, path=self.path)

    def checkout(self, commit: str) -> Path:
        """Make the directory show `commit` and nothing else, and return it.

        Raises OSError (ENOSPC where the disk is full) or GitError if even a new worktree cannot be
        made, e.g. because the repository lacks the commit.
        """
        try:
            if self._is_reusable():
                self._switch(commit)
                return self.path
        except (GitError, OSError):
            pass  # whatever the last candidate did to it, a new one does not depend on
        self._make(commit)
        return self.path

    def _is_reusable(self) -> bool:
        """Say whether `checkout` and `clean` will do: nobody touched git's side of the worktree.

        A changed index could hide files from `checkout` (assume-unchanged), a changed `.git` could
        bring a configuration that runs programs.
        """
        return bool(self._seal) and self._seal == self._sealed() and _is_cleanable(self.path)

    def _switch(self, commit: str) -> None:
        git = GitCommand(self.path)
        git.run("checkout", "--force", "--detach", "--quiet", commit)
        git.run("clean", "-ffdxq")
        self._seal = self._sealed()

    def _make(self, commit: str) -> None:
        self._seal = ()
        git = GitCommand(self.repository)
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            with locked(self.repository / "worktrees.lock"):
                remove_tree(self.path)
                remove_tree(self._registration)
                git.run("worktree", "prune")
                add = ("worktree", "add", "--force", "--force", "--detach", "--no-checkout")
                git.run(*add, str(self.path), commit)
            self._switch(commit)
            if _GITLINK in git.text("ls-tree", "-r", "--format=%(objectmode)", commit):
                self._seal = ()  # `clean` spares what lies in a submodule: never re-use the tree
        except GitError as error:
            if _DISK_FULL.search(error.stderr):
                code = errno.ENOSPC
                raise OSError(code, os.strerror(code), os.fspath(self.path)) from error
            raise

    def _sealed(self) -> _Seal:
        """Return inode and change time of `.git` and of all that git keeps on this worktree.

        The kernel sets the change time; no system call sets it back.
        """
        files = [self.path / ".git", *sorted(self._registration.iterdir())]
        marks = ((file.name, file.lstat()) for file in files)
        return tuple((name, mark.st_ino, mark.st_ctime_ns) for name, mark in marks)


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """Hold an exclusive lock on the file `path`, made if missing; wait for it if need be.

    The kernel frees it when the process dies.
    """
    with path.open("ab") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _is_cleanable(root: Path) -> bool:
    """Say whether `checkout --force` and `clean -ffdx` reach all that lies below `root`.

    Seen with git 2.39: they spare pipes, sockets, a `.git` beside tracked files, and permissions of
    a file whose content is unchanged; folders without permissions make `clean` fail.
    """
    if not is_folder(root):
        return False  # a link to a folder would do for git
    top = os.fspath(root)
    pending = [top]
    while pending:
        folder = pending.pop()
        with os.scandir(folder) as entries:
            for entry in entries:
                mode = entry.stat(follow_symlinks=False).st_mode
                if not _is_plain(mode) or (entry.name == ".git" and folder != top):
                    return False
                if stat.S_ISDIR(mode):
                    pending.append(entry.path)
    return True


def _is_plain(mode: int) -> bool:
    if stat.S_ISDIR(mode):
        return mode & stat.S_IRWXU == stat.S_IRWXU
    if stat.S_ISREG(mode):
        return mode & stat.S_IRUSR != 0 and mode & stat.S_IWUSR != 0
    return stat.S_ISLNK(mode)
