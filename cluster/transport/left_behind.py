"""What a trial left on this node, looked at as an enemy's, and what of it goes to the head.

Knows names and sizes. Sends nothing: it says which file goes, and of every other why it stays.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path

from cluster.transport.manifest import MOST_LISTED, Left, Room, problem_with, shown
from trainer.safe_read import Found, SafeFolder, Unsafe

TOO_MUCH = "it would be more than [keep] return_mb"
TOO_LARGE = "it is more than is ever scored"
TOO_MANY = f"there are more than {MOST_LISTED} files"


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What is to become of the files in one folder."""

    going: tuple[Found, ...] = ()
    staying: tuple[Left, ...] = ()
    unlisted: int = 0
    problem: str = ""
    """Why the folder cannot be looked into."""
    rest: Room
    """What is left of the head's room for other folders."""


def plan(folder: Path, room: Room, *, needed: Sequence[str], first: Sequence[str] = ()) -> Plan:
    """Look into a folder; what is needed goes first, then what `first` names, then the smallest.

    For what is needed there is room of its own. A folder that is not there holds nothing.
    """
    try:
        with SafeFolder(folder) as opened:
            found = list(opened.files())
    except FileNotFoundError:
        return Plan(rest=room)
    except (Unsafe, OSError) as error:
        return Plan(problem=shown(str(error)), rest=room)
    found.sort(key=lambda each: (each.name not in needed, _rank(each, first), each.size, each.name))
    going: list[Found] = []
    staying: list[Left] = []
    left = {True: room.needed_bytes, False: room.bytes}
    for each in found:
        is_needed = each.name in needed
        why = each.problem or problem_with(each.name)
        if not why and each.size > left[is_needed]:
            why = TOO_LARGE if is_needed else TOO_MUCH
        if not why and not is_needed and len(going) >= MOST_LISTED:
            why = TOO_MANY
        if why:
            staying.append(Left(name=shown(each.name), bytes=each.size, stayed=shown(why)))
        else:
            going.append(each)
            left[is_needed] -= each.size
    most = max(0, MOST_LISTED - len(going))
    return Plan(
        going=tuple(going),
        staying=tuple(staying[:most]),
        unlisted=len(staying[most:]),
        rest=Room(bytes=left[False], needed_bytes=left[True]),
    )


def _rank(found: Found, patterns: Sequence[str]) -> int:
    """Return the place of the first pattern that a file's name is of; after all of them if none."""
    return next(
        (n for n, each in enumerate(patterns) if fnmatchcase(found.name, each)), len(patterns)
    )
