"""Which trial a slot gets, and which a busy slot should prepare for meanwhile. Pure.

A reservation is a wish of a slot that is still busy: the trial stays in the queue, waiting, where
it can be cancelled, overtaken by one of a higher priority, and taken by a slot that is idle. So
nothing has to be given back when a study stops or a worker dies, and no trial ever waits for a busy
slot beside an idle one. What the wish brings is order: among trials of one priority a slot gets the
one that it prepared, and others leave it alone as long as there is something else for them.
"""

from collections.abc import Hashable, Mapping, Sequence
from typing import Protocol, TypeVar

from trainer.trial import SlotId

Key = TypeVar("Key", bound=Hashable)

Waiting = Sequence[tuple[Key, float]]
"""Trials in the order of the queue, each with its rank: lower ranks go first."""


LAST = float("inf")
"""The rank of a trial with slots of a node that it avoids: they run it rather than nothing, and do
not prepare it."""


class Choose(Protocol[Key]):
    """`chosen`, `preferred` or `to_prepare`."""

    def __call__(
        self, waiting: Waiting[Key], reserved: Mapping[Key, SlotId], slot: SlotId
    ) -> Key | None:
        """Return one of those that wait, if there is one for the slot."""
        ...


def chosen(waiting: Waiting[Key], reserved: Mapping[Key, SlotId], slot: SlotId) -> Key | None:
    """Return the trial that an idle slot gets: its own wish, a free one, or somebody else's wish.

    `waiting` may be cut off after one more than there are reservations: there is a free one or the
    end among those.
    """
    return _first_of(waiting, reserved, slot)


def preferred(waiting: Waiting[Key], reserved: Mapping[Key, SlotId], slot: SlotId) -> Key | None:
    """Return the same, but nothing that avoids the slot's node: others may be about to take it."""
    return _first_of(_wanted(waiting), reserved, slot)


def to_prepare(waiting: Waiting[Key], reserved: Mapping[Key, SlotId], slot: SlotId) -> Key | None:
    """Return the trial that a busy slot should prepare: what it would get, but nobody's wish."""
    open_to_it = [each for each in _wanted(waiting) if reserved.get(each[0], slot) == slot]
    return _first_of(open_to_it, reserved, slot)


def _wanted(waiting: Waiting[Key]) -> Waiting[Key]:
    return [each for each in waiting if each[1] < LAST]


def _first_of(waiting: Waiting[Key], reserved: Mapping[Key, SlotId], slot: SlotId) -> Key | None:
    if not waiting:
        return None
    best = min(rank for _, rank in waiting)
    keys = [key for key, rank in waiting if rank == best]
    # Python's sort is stable: within each sort the queue's own order stays.
    return min(keys, key=lambda key: (reserved.get(key) != slot, key in reserved))
