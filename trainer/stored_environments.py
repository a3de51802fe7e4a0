"""Virtual environments that are kept for their lock files, and which of them nobody needs any more.

Knows what an environment is called after, and that git tells which ones a study may ask for: those
of the commits that its repository was begun with or got since. Does not know which repositories
there are, nor how an environment is made: that is trainer.environment.
"""

import fcntl
import hashlib
import os
from collections import Counter
from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import suppress
from pathlib import Path

from trainer.git_command import GitCommand
from trainer.removal import remove_tree

LOCK_FILES = ("pyproject.toml", "uv.lock", ".python-version")
STAMP = "incumbent-synced"
"""In an environment that was made to the end."""
_BASES = ("refs/source", "refs/incumbent/*/e0", "refs/node")
"""Where a study's repository, one that was rebuilt, and that of a node keep such commits."""
_BLOCK_BYTES = 512


def environment_key(files: Mapping[str, bytes | None]) -> str:
    """Return what the environment of these LOCK_FILES is called; None is a file that is missing."""
    return digest(*(name.encode() + (files[name] or b"") for name in LOCK_FILES))


def digest(*parts: bytes) -> str:
    """Return a short hash of parts, each of which counts with its length."""
    found = hashlib.sha256()
    for part in parts:
        found.update(len(part).to_bytes(8, "big") + part)
    return found.hexdigest()[:20]


def lock_of(environment: Path) -> Path:
    """Return the file that is locked by whoever makes or removes an environment."""
    return environment.with_name(f"{environment.name}.lock")


def keys_in(repository: Path) -> frozenset[str]:
    """Return what the environments are called that a study may ask for; raises GitError."""
    git = GitCommand(repository)
    # By its name: of one that is damaged git would go on to look in the folders above.
    style = "--format=%(objectname)"
    commits = git.text("--git-dir=.", "for-each-ref", style, *_BASES).split()
    wanted = "".join(f"{commit}:{name}\n" for commit in commits for name in LOCK_FILES)
    told = git.run("cat-file", "--batch-check=%(objectname)", stdin=wanted.encode()).stdout
    ids = [line.decode() if b" " not in line else "" for line in told.splitlines()]
    size = len(LOCK_FILES)
    per_commit = {tuple(ids[at : at + size]) for at in range(0, len(ids), size)}
    return frozenset(environment_key(_contents(git, found)) for found in per_commit)


def _contents(git: GitCommand, ids: Sequence[str]) -> dict[str, bytes | None]:
    """Return the lock files whose objects have these ids; of one that is missing it is empty."""
    return {
        name: git.run("cat-file", "blob", found).stdout if found else None
        for name, found in zip(LOCK_FILES, ids, strict=True)
    }


def stored(environments: Path) -> list[Path]:
    """Return all environments, also those that are only being made."""
    if not environments.is_dir():
        return []
    return sorted(path for path in environments.iterdir() if path.is_dir())


def freed_bytes(environment: Path) -> int:
    """Return how much room an environment alone takes: uv links files that its cache holds too."""
    names: Counter[tuple[int, int]] = Counter()
    found: dict[tuple[int, int], os.stat_result] = {}
    for folder, _, files in os.walk(environment):
        for name in files:
            with suppress(FileNotFoundError):
                status = Path(folder, name).lstat()
                identity = status.st_dev, status.st_ino
                names[identity] += 1
                found[identity] = status
    own = (status for identity, status in found.items() if names[identity] == status.st_nlink)
    return sum(status.st_blocks for status in own) * _BLOCK_BYTES


def remove(environment: Path, used: Callable[[], Collection[str]]) -> bool:
    """Remove an environment; False if it is being made, or is in use after all.

    `used` returns the names of those that are. It is asked when nobody can begin to use this one:
    who makes himself ready has his commits before he looks for it. Raises OSError.
    """
    with lock_of(environment).open("ab") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        if environment.name in used():
            return False
        (environment / STAMP).unlink(missing_ok=True)  # of the half of one nobody is to make use
        remove_tree(environment)
        return True
