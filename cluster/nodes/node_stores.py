"""What studies that a machine has worked for have left on it: the oldest go where it is too much.

Knows sizes and ages of whole folders. Within the folder of the study at work, trainer.retention
decides. Nothing goes of a membership that is at work, nor what a head does not have yet.
"""

import fcntl
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from trainer.folder_use import FolderUse
from trainer.limits import GB
from trainer.paths import WorkerPaths
from trainer.removal import remove_tree

DRIVER_LOCK = "driver.lock"
"""In a membership's folder: held by its driver for as long as that lives."""
_STORE = "study-"
_GOING = "removing-"
"""A folder that was half removed when a process died must not be taken for a study's."""


def make_room(own: Path, others: Iterable[Path], most_gb: float) -> list[Path]:
    """Remove the oldest of what earlier studies left until it is little enough; say what went.

    Args:
        own: folder of the study at work, in that of its membership, whose lock is ours.
        others: folders of this machine's other memberships.
        most_gb: what all but `own` may hold; 0 is no limit.

    Raises OSError where something cannot be removed.
    """
    with ExitStack() as held:
        idle = [folder for folder in others if held.enter_context(_taken(folder))]
        places = [own.parent, *idle]
        for place in places:
            for left in place.glob(f"{_GOING}*"):
                remove_tree(left)
        stores = [path for place in places for path in place.glob(f"{_STORE}*") if path != own]
        return _remove_oldest(stores, most_gb * GB) if most_gb else []


def _remove_oldest(stores: list[Path], most_bytes: float) -> list[Path]:
    sizes = {store: _size(store) for store in sorted(stores, key=_used_at)}
    excess = sum(sizes.values()) - most_bytes
    gone = []
    for store, size in sizes.items():
        if excess > 0 and not _is_awaited(store):
            going = store.rename(store.with_name(f"{_GOING}{store.name}"))
            remove_tree(going)
            excess -= size
            gone.append(store)
    return gone


def _is_awaited(store: Path) -> bool:
    unsent = WorkerPaths(study=store, environments=store).unsent
    return unsent.is_dir() and any(unsent.iterdir())


def _used_at(store: Path) -> float:
    """Return when something was last put into a store, or into a folder of it."""
    return max(path.lstat().st_mtime for path in (store, *store.iterdir()))


def _size(store: Path) -> int:
    use = FolderUse([str(store)])
    use.look(float("inf"))
    return use.bytes


@contextmanager
def _taken(membership: Path) -> Iterator[bool]:
    """Keep a membership's driver from starting; False if it is at work."""
    with (membership / DRIVER_LOCK).open("ab") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            yield False
        else:
            yield True
