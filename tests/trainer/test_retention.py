"""What is kept of what trials leave, where that is limited."""

from collections.abc import Callable
from pathlib import Path

import pytest

from trainer.log_capture import LogFile
from trainer.paths import WorkerPaths
from trainer.ports import CodeAway
from trainer.removal import remove_tree
from trainer.retention import Keeper, is_pruned
from trainer.trial import ExperimentId

FILE_BYTES = 1 << 20
ROOM_FOR_FOUR = 4.5 * FILE_BYTES / 1e9
Make = Callable[..., Keeper]


@pytest.fixture
def paths(tmp_path: Path) -> WorkerPaths:
    return WorkerPaths(study=tmp_path / "study", environments=tmp_path)


@pytest.fixture
def make(paths: WorkerPaths) -> Make:
    def make(
        most_gb: float = ROOM_FOR_FOUR, promoted: Callable[[], frozenset[ExperimentId]] = frozenset
    ) -> Keeper:
        return Keeper(paths, most_gb=most_gb, promoted=promoted, throw=remove_tree)

    return make


def leave(paths: WorkerPaths, name: str, kind: str = "out") -> str:
    folder = paths.kept(kind, name)
    folder.mkdir(parents=True)
    (folder / "model").write_bytes(b"x" * FILE_BYTES)
    return name


def kept(paths: WorkerPaths, kind: str = "out") -> list[str]:
    return sorted(path.name for path in (paths.study / kind).iterdir())


def test_the_oldest_goes_when_there_is_too_much(make: Make, paths: WorkerPaths) -> None:
    keeper = make()
    gone = [keeper.note(leave(paths, f"e{number}.1-1")) for number in range(1, 7)]
    assert gone == [(), (), (), (), ("e1.1-1",), ("e2.1-1",)]
    assert kept(paths) == [f"e{number}.1-1" for number in range(3, 7)]


def test_what_was_promoted_and_the_baseline_stay(make: Make, paths: WorkerPaths) -> None:
    keeper = make(promoted=lambda: frozenset({ExperimentId("e2")}))
    for number in range(8):
        keeper.note(leave(paths, f"e{number}.1-1"))
    assert kept(paths) == ["e0.1-1", "e2.1-1", "e6.1-1", "e7.1-1"]


def test_while_it_is_not_known_what_was_promoted_nothing_goes(
    make: Make, paths: WorkerPaths
) -> None:
    def away() -> frozenset[ExperimentId]:
        raise CodeAway("the head does not answer")

    keeper = make(promoted=away)
    for number in range(1, 7):
        assert keeper.note(leave(paths, f"e{number}.1-1")) == ()
    assert make().note(leave(paths, "e7.1-1")) == ("e1.1-1", "e2.1-1", "e3.1-1")


def test_what_the_head_does_not_have_yet_stays(make: Make, paths: WorkerPaths) -> None:
    paths.unsent.mkdir(parents=True)
    (paths.unsent / "e1.1-1").touch()
    keeper = make()
    gone = [keeper.note(leave(paths, f"e{number}.1-1")) for number in range(1, 6)]
    assert gone[-1] == ("e2.1-1",)


def test_the_newest_stays_however_large_and_what_a_person_asked_for_too(
    make: Make, paths: WorkerPaths
) -> None:
    keeper = make(most_gb=0.5 * FILE_BYTES / 1e9)
    keeper.note(leave(paths, "final-1.1-1"))
    keeper.note(leave(paths, "e1.1-1"))
    assert kept(paths) == ["e1.1-1", "final-1.1-1"]
    assert keeper.note(leave(paths, "e2.1-1")) == ("e1.1-1",)


def test_predictions_count_and_go_with_the_output(make: Make, paths: WorkerPaths) -> None:
    keeper = make()
    for number in range(1, 4):
        leave(paths, f"e{number}.1-1", "predictions")
        keeper.note(leave(paths, f"e{number}.1-1"))
    assert kept(paths) == kept(paths, "predictions") == ["e2.1-1", "e3.1-1"]


def print_much(paths: WorkerPaths, name: str, *logs: str) -> str:
    folder = paths.study / "logs"
    folder.mkdir(parents=True, exist_ok=True)
    for log in logs:
        (folder / log).write_bytes(b"x" * FILE_BYTES)
    return name


def test_logs_count_and_go_with_their_attempt_and_no_other(make: Make, paths: WorkerPaths) -> None:
    keeper = make()
    print_much(paths, "", "setup.log")
    gone = [
        keeper.note(print_much(paths, "e1.1-1", "e1.1.log", "e1.1-predict.log")),
        keeper.note(print_much(paths, "e1.1-2", "e1.1-a2.log", "e1.1-a2-smoke.log")),
        keeper.note(print_much(paths, "e1.10-1", "e1.10.log")),
    ]
    assert gone == [(), (), ("e1.1-1",)]
    assert kept(paths, "logs") == [*("e1.1-a2-smoke.log", "e1.1-a2.log", "e1.10.log", "setup.log")]
    assert is_pruned(paths, "e1.1-1")
    assert not is_pruned(paths, "e1.1-2")


def test_logs_from_before_there_was_an_index_count(make: Make, paths: WorkerPaths) -> None:
    for number in range(1, 6):
        print_much(paths, "", f"e{number}.1.log")
    assert len(make().note(leave(paths, "e6.1-1"))) == 2


def test_logs_of_a_worker_that_was_killed_count_for_the_next(
    make: Make, paths: WorkerPaths
) -> None:
    make().note(leave(paths, "e1.1-1"))
    print_much(paths, "", "e2.1.log", "e2.1-score.log")
    print_much(paths, "", "e3.1.log")
    keeper = make()
    assert keeper.note(leave(paths, "e4.1-1")) == ("e1.1-1",)
    assert keeper.note(leave(paths, "e5.1-1")) == ("e2.1-1",)
    assert kept(paths, "logs") == ["e3.1.log"]


@pytest.mark.parametrize("has_index", [True, False])
def test_the_log_of_a_trial_that_runs_in_another_slot_stays(
    has_index: bool, make: Make, paths: WorkerPaths
) -> None:
    if has_index:
        make().note(leave(paths, "e1.1-1"))
    print_much(paths, "", "e2.1-smoke.log")
    running = LogFile(str(paths.study / "logs" / "e2.1.log"))
    tight = make(most_gb=0.5 * FILE_BYTES / 1e9)
    tight.note(leave(paths, "e3.1-1"))
    assert kept(paths, "logs") == ["e2.1-smoke.log", "e2.1.log"]
    assert not is_pruned(paths, "e2.1-1")

    running.close()
    assert tight.note("e2.1-1") == ("e3.1-1",)
    assert tight.note(leave(paths, "e4.1-1")) == ("e2.1-1",)
    assert kept(paths, "logs") == []


def test_what_comes_of_an_attempt_after_something_of_it_had_gone_is_there(
    make: Make, paths: WorkerPaths
) -> None:
    keeper = make(most_gb=0.5 * FILE_BYTES / 1e9)
    for name in ("e1.1-1", "e2.1-1", "e3.1-1"):
        keeper.note(leave(paths, name))
    keeper.note(leave(paths, "e2.1-1"))
    gone = [is_pruned(paths, name) for name in ("e1.1-1", "e2.1-1", "e3.1-1")]
    assert gone == [True, False, True]


def test_what_was_there_before_there_was_an_index_counts(make: Make, paths: WorkerPaths) -> None:
    for number in range(1, 6):
        leave(paths, f"e{number}.1-1")
    assert len(make().note(leave(paths, "e6.1-1"))) == 2


def test_half_a_line_of_a_full_disk_spoils_nothing(make: Make, paths: WorkerPaths) -> None:
    keeper = make()
    keeper.note(leave(paths, "e1.1-1"))
    with (paths.study / "kept").open("a") as file:
        file.write("e2.1-")
    keeper.note(leave(paths, "e3.1-1"))
    assert [*keeper._sizes()] == ["e1.1-1", "e3.1-1"]


def test_without_a_limit_nothing_goes_and_nothing_is_looked_at(
    make: Make, paths: WorkerPaths
) -> None:
    keeper = make(most_gb=0.0)
    for number in range(1, 9):
        assert keeper.note(leave(paths, f"e{number}.1-1")) == ()
    assert len(kept(paths)) == 8
    assert not (paths.study / "kept").exists()
