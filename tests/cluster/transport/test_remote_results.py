"""What trials leave on a node, and what of it is on the head: two folders, a door in between."""

import errno
import os
import stat
import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from cluster.transport.depot import DepotActor
from cluster.transport.manifest import MOST_LISTED, Manifest, Room
from cluster.transport.remote_results import BEAT_BYTES, OTHERS_S, RemoteResults
from cluster.transport.shelf import ROOM, Refused, read_manifest
from tests.cluster.fake_depot import FakeDepot, away
from trainer.log_capture import HEAD_BYTES, TAIL_BYTES
from trainer.paths import WorkerPaths
from trainer.safe_read import SafeFolder
from trainer.trial import CommitId, ExperimentId, Rung, TrialId, TrialSpec

SPEC = TrialSpec(
    trial=TrialId("e4.1"),
    experiment=ExperimentId("e4"),
    attempt=1,
    commit=CommitId("0" * 40),
    seed=1,
    budget_s=1.0,
    timeout_s=1.0,
)
NAME = "e4.1-1"
BASE = CommitId("1" * 40)
Make = Callable[..., RemoteResults]


@pytest.fixture
def head(tmp_path: Path) -> WorkerPaths:
    return _paths(tmp_path / "head")


@pytest.fixture
def node(tmp_path: Path) -> WorkerPaths:
    return _paths(tmp_path / "node")


def _paths(study: Path) -> WorkerPaths:
    for folder in ("logs", "out"):
        (study / folder).mkdir(parents=True)
    return WorkerPaths(study=study, environments=study)


@pytest.fixture
def depot(head: WorkerPaths) -> FakeDepot:
    return FakeDepot(DepotActor(str(head.study), CommitId("0" * 40)))


@pytest.fixture
def make(depot: FakeDepot, node: WorkerPaths) -> Make:
    def make(**more: Any) -> RemoteResults:
        return RemoteResults(depot, node, node="n1", **{"base": BASE, **more})

    return make


def leave(node: WorkerPaths, files: dict[str, bytes], kind: str = "out") -> Path:
    folder = node.kept(kind, NAME)
    for name, content in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    return folder


def delivered(head: WorkerPaths, name: str = NAME) -> Manifest:
    found = read_manifest(head.returned(name))
    assert found is not None
    return found


def stayed(found: Manifest) -> dict[str, str]:
    return {each.name: each.stayed for each in found.files}


# --- logs while a trial runs ----------------------------------------------------------------------


def test_a_log_grows_on_the_head_as_it_does_on_the_node(
    make: Make, head: WorkerPaths, node: WorkerPaths
) -> None:
    results = make()
    results.follow(SPEC)
    results.step()  # there is no log yet
    log = node.log(SPEC)
    with log.open("ab", buffering=0) as file:
        for text in (b"step 1\n", b"step 2\rstep 3", b"\n"):
            file.write(text)
            results.step()
            assert head.log(SPEC).read_bytes() == log.read_bytes()


def test_of_a_flood_only_so_much_comes_at_a_time(
    make: Make, head: WorkerPaths, node: WorkerPaths
) -> None:
    results = make()
    results.follow(SPEC)
    node.log(SPEC).write_bytes(b"x" * (BEAT_BYTES + 5))
    results.step()
    assert head.log(SPEC).stat().st_size == BEAT_BYTES
    results.step()
    assert head.log(SPEC).stat().st_size == BEAT_BYTES + 5


def test_a_smoke_run_s_log_comes_to_its_end_while_the_full_run_is_followed(
    make: Make, head: WorkerPaths, node: WorkerPaths
) -> None:
    results, smoke = make(), replace(SPEC, rung=Rung.SMOKE)
    results.follow(smoke)
    node.log(smoke).write_text("smoke\n")
    results.follow(SPEC)
    node.log(SPEC).write_text("full\n")
    results.step()
    results.step()
    assert head.log(smoke).read_text() == "smoke\n"
    assert head.log(SPEC).read_text() == "full\n"
    assert [*results._followed] == [node.log(SPEC)]


def test_while_the_head_is_away_nothing_is_lost_and_nothing_comes_twice(
    make: Make, depot: FakeDepot, head: WorkerPaths, node: WorkerPaths
) -> None:
    results = make()
    results.follow(SPEC)
    node.log(SPEC).write_text("1\n")
    results.step()
    depot.before = away
    node.log(SPEC).write_text("1\n2\n")
    with pytest.raises(ConnectionError):
        results.step()
    depot.before = lambda _: None
    results.step()
    assert head.log(SPEC).read_text() == "1\n2\n"


def test_a_head_that_lost_its_file_gets_it_from_the_beginning(
    make: Make, head: WorkerPaths, node: WorkerPaths
) -> None:
    results = make()
    results.follow(SPEC)
    node.log(SPEC).write_text("1\n")
    results.step()
    head.log(SPEC).unlink()
    node.log(SPEC).write_text("1\n2\n")
    results.step()
    results.step()
    assert head.log(SPEC).read_text() == "1\n2\n"


# --- when it has ended ----------------------------------------------------------------------------


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


def test_a_log_that_the_head_refuses_stays_and_the_rest_comes(
    make: Make, head: WorkerPaths, node: WorkerPaths
) -> None:
    head.log(SPEC).mkdir()
    leave(node, {"a": b"1"})
    node.log(SPEC).write_text("loss: 1\n")
    results = make()
    results.left(SPEC)
    results.step()
    (log,) = delivered(head).logs
    assert "Is a directory" in log.stayed
    assert node.log(SPEC).exists()
    assert stayed(delivered(head)) == {"a": ""}


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


def test_a_log_that_the_head_will_not_have_holds_up_no_other(
    make: Make, head: WorkerPaths, node: WorkerPaths, tmp_path: Path
) -> None:
    head.log(SPEC).symlink_to(tmp_path / "elsewhere")
    results, other = make(), replace(SPEC, trial=TrialId("e5.1"))
    for spec in (SPEC, other):
        results.follow(spec)
        node.log(spec).write_text("1\n")
    results.step()
    assert head.log(other).read_text() == "1\n"
    assert not (tmp_path / "elsewhere").exists()


# --- what a candidate may leave -------------------------------------------------------------------


def test_what_is_no_plain_file_stays_and_is_named(
    make: Make, head: WorkerPaths, node: WorkerPaths, tmp_path: Path
) -> None:
    (tmp_path / "secret").write_text("key")
    out = leave(node, {"good": b"1"})
    (out / "link").symlink_to(tmp_path / "secret")
    (out / "folder").symlink_to(tmp_path)
    os.link(tmp_path / "secret", out / "second")
    os.mkfifo(out / "pipe")
    results = make()
    results.left(SPEC)
    results.step()
    told = stayed(delivered(head))
    assert told.pop("good") == ""
    assert told == {
        "link": "is a symbolic link",
        "folder": "is a symbolic link",
        "second": "has 2 names (hard links)",
        "pipe": "is a pipe",
    }
    assert [path.name for path in head.kept("out", NAME).iterdir()] == ["good"]


def test_names_that_would_move_a_cursor_or_are_too_long_stay(
    make: Make, head: WorkerPaths, node: WorkerPaths
) -> None:
    out = leave(node, {"a\x1b[2Jb": b"1", "new\nline": b"1", "x" * 220: b"1"})
    (out / os.fsdecode(b"\xff\xfe")).write_bytes(b"1")
    (out / "\u202egpj.exe").write_bytes(b"1")
    results = make()
    results.left(SPEC)
    results.step()
    told = stayed(delivered(head))
    assert all(told.values())
    assert len(told) == 5
    assert all(name.isprintable() for name in told)
    assert not head.kept("out", NAME).exists()


def test_a_path_that_might_be_too_long_on_the_head_stays(
    make: Make, head: WorkerPaths, node: WorkerPaths
) -> None:
    out = leave(node, {"good": b"1"})
    parts, rest = divmod(4090 - len(os.fsencode(out)), 191)  # Linux opens paths of 4095 bytes
    deep = out / "/".join(["d" * 190] * parts) / ("f" * max(1, rest - 1))
    deep.parent.mkdir(parents=True)
    deep.write_bytes(b"1")
    results = make()
    results.left(SPEC)
    results.step()
    told = stayed(delivered(head))
    assert told.pop("good") == ""
    assert [*told.values()] == ["has too long a path"]


def test_a_folder_that_is_a_link_or_too_deep_is_not_looked_into(
    make: Make, head: WorkerPaths, node: WorkerPaths, tmp_path: Path
) -> None:
    (tmp_path / "elsewhere").mkdir()
    node.kept("out", NAME).symlink_to(tmp_path / "elsewhere")
    results = make()
    results.left(SPEC)
    results.step()
    assert delivered(head).problem.startswith(f"'{NAME}' is no folder")

    other = replace(SPEC, trial=TrialId("e5.1"))
    deep = node.kept("out", "e5.1-1") / "/".join("d" * 70)
    deep.mkdir(parents=True)
    results.left(other)
    results.step()
    assert "deeper than" in delivered(head, "e5.1-1").problem


def test_of_very_many_files_the_manifest_stays_small(
    make: Make, head: WorkerPaths, node: WorkerPaths
) -> None:
    leave(node, {f"f{number}": b"1" for number in range(MOST_LISTED + 7)})
    results = make()
    results.left(SPEC)
    results.step()
    found = delivered(head)
    assert (len(found.files), found.unlisted) == (MOST_LISTED, 7)
    assert not any(stayed(found).values())


# --- a head that is away, a worker that dies ------------------------------------------------------


@pytest.mark.parametrize("at", ["put_log", "begin", "put", "finish"])
def test_a_head_that_goes_away_at_any_moment_has_it_in_the_end(
    at: str, make: Make, depot: FakeDepot, head: WorkerPaths, node: WorkerPaths
) -> None:
    leave(node, {"a": b"1", "b": b"22"})
    node.log(SPEC).write_text("loss: 1\n")

    def before(name: str) -> None:
        if name == at:
            raise ConnectionError("the depot is away")

    depot.before = before
    results = make()
    results.left(SPEC)
    with pytest.raises(ConnectionError):
        results.step()
    assert not head.returned(NAME).exists()
    assert not head.kept("out", NAME).exists()
    assert (node.unsent / NAME).exists()
    depot.before = lambda _: None
    results.step()
    assert stayed(delivered(head)) == {"a": "", "b": ""}
    assert (head.kept("out", NAME) / "b").read_bytes() == b"22"


def test_what_a_dead_worker_has_left_is_sent_by_another(
    make: Make, head: WorkerPaths, node: WorkerPaths
) -> None:
    leave(node, {"a": b"1"})
    make().left(SPEC)  # and it is killed
    moment = (node.unsent / NAME).stat().st_mtime
    other = make(clock=lambda: moment + OTHERS_S / 2)
    other.step()
    assert not head.returned(NAME).exists()  # its worker may be at it
    later = make(clock=lambda: moment + OTHERS_S + 1)
    later.step()
    assert stayed(delivered(head)) == {"a": ""}


def test_what_was_left_before_the_study_was_begun_anew_is_no_longer_sent(
    make: Make, head: WorkerPaths, node: WorkerPaths
) -> None:
    make(base=CommitId("2" * 40)).left(SPEC)
    moment = (node.unsent / NAME).stat().st_mtime
    make(clock=lambda: moment + OTHERS_S + 1).step()
    assert not head.returned(NAME).exists()
    assert not any(node.unsent.iterdir())


def test_a_failure_of_ours_is_tried_again_later_and_holds_up_no_other(
    make: Make, depot: FakeDepot, head: WorkerPaths, node: WorkerPaths
) -> None:
    now = [(node.study.stat().st_mtime)]
    results = make(clock=lambda: now[0])

    def before(name: str) -> None:
        if name == "finish" and not head.returned("e9.1-1").exists() and len(depot.calls) < 4:
            raise RuntimeError("what nobody thought of")

    depot.before = before
    results.left(SPEC)
    results.left(replace(SPEC, trial=TrialId("e9.1")))
    results.step()
    depot.before = lambda _: None
    results.step()
    assert not head.returned(NAME).exists()
    now[0] += 61
    results.step()
    assert head.returned(NAME).exists()
    assert head.returned("e9.1-1").exists()


def test_a_head_that_can_make_no_room_for_others_has_it_all_the_same(
    make: Make, depot: FakeDepot, head: WorkerPaths, node: WorkerPaths
) -> None:
    depot.adopt(ROOM, 1.0)
    (head.study / "kept").mkdir()  # in the place of the index
    leave(node, {"a": b"1"})
    results = make()
    results.left(SPEC)
    results.step()
    assert stayed(delivered(head)) == {"a": ""}
    assert not any(node.unsent.iterdir())


def test_what_could_not_be_sent_is_not_tried_at_once_by_all_workers_of_the_node(
    make: Make, depot: FakeDepot, head: WorkerPaths, node: WorkerPaths
) -> None:
    now = [node.study.stat().st_mtime]

    def before(name: str) -> None:
        if name == "finish":
            raise RuntimeError("what nobody thought of")

    depot.before = before
    first, second = make(clock=lambda: now[0]), make(clock=lambda: now[0])
    first.left(SPEC)
    now[0] += OTHERS_S + 10
    first.step()
    second.step()
    assert depot.calls.count("begin") == 1
    depot.before = lambda _: None
    now[0] += OTHERS_S + 1
    second.step()
    assert head.returned(NAME).exists()


def test_the_thread_sends_at_once_and_close_waits_for_it(
    make: Make, head: WorkerPaths, node: WorkerPaths
) -> None:
    results = make().start()
    results.follow(SPEC)
    node.log(SPEC).write_text("loss: 1\n")
    results.left(SPEC)
    results.close()
    assert delivered(head).logs[0].bytes == 8


def test_a_head_that_is_away_holds_nobody_up(make: Make, depot: FakeDepot) -> None:
    gate = threading.Event()
    depot.before = lambda _: gate.wait(60) and None
    results = make().start()
    results.follow(SPEC)
    results.left(SPEC)  # or this test would never end
    gate.set()
    results.close()


def test_the_longest_log_that_there_is_comes_back(
    make: Make, head: WorkerPaths, node: WorkerPaths
) -> None:
    gap = b"\n[... 99999999999999 bytes dropped ...]\n"
    content = b"h" * HEAD_BYTES + gap + b"t" * TAIL_BYTES
    node.log(SPEC).write_bytes(content)
    results = make()
    results.follow(SPEC)
    results.step()
    results.left(SPEC)
    results.step()
    assert head.log(SPEC).read_bytes() == content
    assert not node.log(SPEC).exists()  # nobody looks for it there
