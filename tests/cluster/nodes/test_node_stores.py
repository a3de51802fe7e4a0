"""What a machine keeps of studies that it has worked for, where that is limited."""

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from cluster.nodes.node_stores import DRIVER_LOCK, make_room
from trainer.paths import WorkerPaths
from trainer.worktree import locked

STORE_BYTES = 1 << 20
ROOM_FOR_TWO = 2.5 * STORE_BYTES / 1e9
Make = Callable[[str, str], Path]


@pytest.fixture
def make(tmp_path: Path) -> Make:
    """Makes the folder of a study in that of a membership, each later than the one before."""
    made: list[Path] = []

    def make(membership: str, study: str) -> Path:
        store = tmp_path / membership / f"study-{study}"
        model = store / "out" / "e0.1-1" / "model"
        model.parent.mkdir(parents=True)
        model.write_bytes(b"x" * STORE_BYTES)
        made.append(store)
        for folder in (store / "out", store):
            os.utime(folder, (1e9 + len(made), 1e9 + len(made)))
        return store

    return make


def test_the_oldest_goes_of_whatever_membership_but_not_what_is_at_work(make: Make) -> None:
    own = make("a", "own")
    here, there, last = make("a", "1"), make("b", "2"), make("a", "3")
    make("c", "of-nobody")
    assert make_room(own, [there.parent], ROOM_FOR_TWO) == [here]
    assert not here.exists()
    assert own.exists()
    assert there.exists()
    assert make_room(own, [there.parent], ROOM_FOR_TWO) == []
    assert make_room(own, [there.parent], ROOM_FOR_TWO / 2) == [there]
    assert last.exists()


def test_what_was_used_last_counts_not_what_was_begun_last(make: Make) -> None:
    own, first, second = make("a", "own"), make("a", "1"), make("a", "2")
    (first / "logs").mkdir()
    assert make_room(own, [], ROOM_FOR_TWO / 2) == [second]


def test_a_membership_that_is_at_work_is_left_alone(make: Make) -> None:
    own, busy, idle = make("a", "own"), make("b", "1"), make("c", "2")
    others = [busy.parent, idle.parent]
    with locked(busy.parent / DRIVER_LOCK):
        assert make_room(own, others, 1e-9) == [idle]
    assert make_room(own, others, 1e-9) == [busy]


def test_what_the_head_does_not_have_yet_stays(make: Make) -> None:
    own, awaited, sent = make("a", "own"), make("a", "1"), make("a", "2")
    for store, marker in ((awaited, "e1.1-1"), (sent, "")):
        unsent = WorkerPaths(study=store, environments=store).unsent
        unsent.mkdir()
        if marker:
            (unsent / marker).touch()
    assert make_room(own, [], 1e-9) == [sent]
    assert awaited.exists()


def test_what_was_half_removed_is_removed_without_a_limit_nothing_else(make: Make) -> None:
    own, half, whole = make("a", "own"), make("a", "1"), make("a", "2")
    going = half.rename(half.with_name(f"removing-{half.name}"))
    assert make_room(own, [], 0.0) == []
    assert not going.exists()
    assert whole.exists()
