"""The environments of trials on this machine, and which of its studies each is kept for."""

from collections import defaultdict
from collections.abc import Collection, Iterator, Mapping
from pathlib import Path
from typing import TypedDict

from infra.local.home import StudyProblem, environments_directory, state_directory, studies
from trainer.git_command import GitError
from trainer.stored_environments import freed_bytes, keys_in, remove, stored


class StoredEnvironment(TypedDict):
    """One environment."""

    path: str
    bytes: int
    """What its removal frees: not what uv's cache holds too."""
    studies: list[str]
    """Folders of the studies that may use it, those of other machines among them."""
    removed: bool


def clean(*, dry_run: bool) -> list[StoredEnvironment]:
    """Remove the environments that no study uses; return all that there are.

    Raises StudyProblem where a study does not tell which it uses, and OSError.
    """
    users = _users()
    return [
        {
            "path": str(path),
            "bytes": freed_bytes(path),
            "studies": users.get(path.name, []),
            "removed": path.name not in users and not dry_run and remove(path, _users),
        }
        for path in stored(environments_directory())
    ]


def _users() -> Mapping[str, list[str]]:
    """Return the folders of studies by the names of the environments that they may use."""
    found: defaultdict[str, list[str]] = defaultdict(list)
    for repository in _repositories():
        for key in _keys_in(repository):
            found[key].append(str(repository.parent))
    return found


def _keys_in(repository: Path) -> Collection[str]:
    try:
        return keys_in(repository)
    except GitError as error:
        raise StudyProblem(
            f"{repository} does not tell which environment its study uses, so none is removed "
            f"({error}): bring it back from a backup, or remove {repository.parent}"
        ) from error


def _repositories() -> Iterator[Path]:
    """Yield those of all studies that may run again, also of those that this version cannot read.

    And those of studies that this machine, or one with the same state directory, has joined.
    """
    root = state_directory()
    over = {home.git for home in studies() if home.is_set_aside}
    for pattern in ("studies/*/repo.git", "nodes/*/study-*/repo.git"):
        yield from (path for path in sorted(root.glob(pattern)) if path not in over)
