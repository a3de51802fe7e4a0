"""What trials leave on a node, and what of it is on the head: two folders, a door in between."""

import errno
import os
import stat
from collections.abc import Iterator
from dataclasses import replace

import pytest

from cluster.transport.manifest import Room
from cluster.transport.remote_results import RemoteResults
from cluster.transport.shelf import Refused
from eval.metric import Goal, Metric
from tests.cluster.fake_depot import FakeDepot
from tests.cluster.transport.two_folders import (
    BASE,
    NAME,
    SPEC,
    Make,
    delivered,
    depot,
    head,
    leave,
    make,
    node,
    stayed,
)
from trainer.config import KeepConfig, TrialConfig
from trainer.paths import WorkerPaths
from trainer.safe_read import SafeFolder
from trainer.slot_parts import WorkerSettings
from trainer.trial import TrialId

__all__ = ["depot", "head", "make", "node"]  # the fixtures


def test_everything_comes_back_and_is_said_to_have(
    make: Make, head: WorkerPaths, node: WorkerPaths
) -> None:
    leave(node, {"model.pt": b"weights" * 99, "plots/loss.svg": b"<svg/>", "empty": b""})
    node.log(SPEC).write_text("loss: 1\n")
    node.score_log(SPEC).write_text("score: 2\n")
    (node.study / "logs" / "e4.1-a2.log").write_text("of another attempt\n")
    (node.study / "logs" / "e4.10.log").write_text("of another trial\n")
    results = make()
    results.left(SPEC)
    results.step()

    out = head.kept("out", NAME)
    assert (out / "model.pt").read_bytes() == b"weights" * 99
    assert (out / "plots" / "loss.svg").read_bytes() == b"<svg/>"
    assert (out / "empty").read_bytes() == b""
    assert stat.S_IMODE((out / "model.pt").stat().st_mode) == 0o644
    assert head.log(SPEC).read_text() == "loss: 1\n"
    assert head.score_log(SPEC).read_text() == "score: 2\n"
    found = delivered(head)
    assert (found.node, found.folder) == ("n1", str(node.kept("out", NAME)))
    assert stayed(found) == {"model.pt": "", "plots/loss.svg": "", "empty": ""}
    assert {each.name for each in found.logs} == {"e4.1.log", "e4.1-score.log"}
    assert not any(node.unsent.iterdir())
    assert not any((head.study / "returning").iterdir())


def test_a_later_attempt_s_logs_are_its_own(
    make: Make, head: WorkerPaths, node: WorkerPaths
) -> None:
    again = replace(SPEC, attempt=2)
    node.log(SPEC).write_text("first\n")
    node.log(again).write_text("second\n")
    results = make()
    results.left(again)
    results.step()
    assert {each.name for each in delivered(head, "e4.1-2").logs} == {"e4.1-a2.log"}
    assert not head.log(SPEC).exists()


def test_a_trial_that_left_nothing_has_a_manifest_all_the_same(
    make: Make, head: WorkerPaths
) -> None:
    results = make()
    results.left(SPEC)
    results.step()
    assert delivered(head).files == ()
    assert not head.kept("out", NAME).exists()


def test_what_is_too_large_stays_on_the_node_the_smallest_come(
    make: Make, depot: FakeDepot, head: WorkerPaths, node: WorkerPaths
) -> None:
    depot.adopt(Room(bytes=700), 0.0)
    leave(node, {"big": b"x" * 900, "small": b"x" * 100, "middle": b"x" * 500})
    results = make()
    results.left(SPEC)
    results.step()
    told = stayed(delivered(head))
    assert told == {"small": "", "middle": "", "big": "it would be more than [keep] return_mb"}
    assert {path.name for path in head.kept("out", NAME).iterdir()} == {"small", "middle"}
    assert (node.kept("out", NAME) / "big").exists()


def test_what_is_asked_for_first_comes_before_the_smallest(
    depot: FakeDepot, head: WorkerPaths, node: WorkerPaths
) -> None:
    settings = WorkerSettings(
        study="mar5-1f2e3d4c",
        base=BASE,
        paths=node,
        trial=TrialConfig(command="./bench.sh"),
        metric=Metric(name="loss", goal=Goal.MINIMIZE, pattern=""),
        slots=1,
        gpu_busy_mb=0.0,
        node="n1",
        keep=KeepConfig(first=("best*", "*.json")),
    )
    depot.adopt(Room(bytes=700), 0.0)
    sizes = {"a.log": 100, "best/model.pt": 500, "last.pt": 150, "notes.json": 40}
    leave(node, {name: b"x" * size for name, size in sizes.items()})
    results = RemoteResults.of(settings, depot)
    results.left(SPEC)
    results.step()
    told = stayed(delivered(head))
    assert told == dict.fromkeys(sizes, "") | {"last.pt": "it would be more than [keep] return_mb"}


def test_what_is_scored_on_the_head_has_room_of_its_own(
    make: Make, depot: FakeDepot, head: WorkerPaths, node: WorkerPaths
) -> None:
    depot.adopt(Room(bytes=20, needed_bytes=1000), 0.0)
    leave(node, {"other": b"x" * 10, "large": b"x" * 11, "holdout.npy": b"the candidate's" * 9})
    leave(node, {"holdout.npy": b"x" * 900, "val.npy": b"y" * 10}, "predictions")
    results = make(needed=("holdout.npy",))
    results.left(SPEC)
    results.step()
    found = delivered(head)
    assert {each.name: each.stayed for each in found.predictions} == {
        "holdout.npy": "",
        "val.npy": "",
    }
    assert stayed(found) == {
        "other": "",
        "large": "it would be more than [keep] return_mb",
        "holdout.npy": "it is more than is ever scored",
    }
    assert (head.kept("predictions", NAME) / "holdout.npy").read_bytes() == b"x" * 900


@pytest.mark.parametrize(
    ("kind", "name"),
    [("predictions", "val.npy"), ("out", "holdout.npy"), ("predictions", "holdout.npy")],
)
def test_what_the_head_would_never_take_stays_and_the_rest_comes(
    kind: str, name: str, make: Make, depot: FakeDepot, head: WorkerPaths, node: WorkerPaths
) -> None:
    depot.adopt(Room(bytes=1000, needed_bytes=1000), 0.0)
    leave(node, {name: b"x" * 1001}, kind)
    leave(node, {"small": b"1"})
    results = make(needed=("holdout.npy",))
    results.left(SPEC)
    results.step()
    found = delivered(head)
    told = {each.name: each.stayed for each in (*found.files, *found.predictions)}
    assert told.pop("small") == ""
    assert told[name].startswith("it ")
    assert not any(node.unsent.iterdir())


def test_a_file_that_the_head_refuses_stays_and_costs_no_other(
    make: Make, depot: FakeDepot, head: WorkerPaths, node: WorkerPaths
) -> None:
    def before(name: str) -> None:
        if name == "put" and "put" not in depot.calls:
            depot.calls.append(name)
            raise Refused("no such file, please")

    depot.before = before
    leave(node, {"a": b"1", "b": b"22"})
    results = make()
    results.left(SPEC)
    results.step()
    assert stayed(delivered(head)) == {"a": "no such file, please", "b": ""}
    assert [path.name for path in head.kept("out", NAME).iterdir()] == ["b"]
    assert not any(node.unsent.iterdir())


def test_a_file_that_cannot_be_read_to_its_end_is_not_taken_for_whole(
    make: Make, head: WorkerPaths, node: WorkerPaths, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = SafeFolder.chunks

    def chunks(self: SafeFolder, name: str, most: int, *, start: int = 0) -> Iterator[bytes]:
        for number, chunk in enumerate(real(self, name, most, start=start)):
            if name == "model.pt" and number == 6:  # after the first part was sent
                raise OSError(errno.EIO, "an error of the disk")
            yield chunk

    monkeypatch.setattr(SafeFolder, "chunks", chunks)
    leave(node, {"model.pt": b"x" * (9 << 20), "small": b"1"})
    results = make()
    results.left(SPEC)
    results.step()
    told = stayed(delivered(head))
    assert told["small"] == ""
    assert "an error of the disk" in told["model.pt"]
    assert [path.name for path in head.kept("out", NAME).iterdir()] == ["small"]


def test_a_large_file_comes_in_parts_with_the_logs_in_between(
    make: Make, depot: FakeDepot, head: WorkerPaths, node: WorkerPaths
) -> None:
    content = os.urandom(1 << 20) * 9 + b"end"
    leave(node, {"model.pt": content})
    moments = iter(range(0, 10_000, 3))
    results = make(clock=lambda: next(moments))
    results.left(SPEC)
    running = replace(SPEC, trial=TrialId("e5.1"))
    results.follow(running)
    node.log(running).write_text("going on\n")
    results.step()
    assert (head.kept("out", NAME) / "model.pt").read_bytes() == content
    assert depot.calls.count("put") == 3
    assert head.log(running).read_text() == "going on\n"
