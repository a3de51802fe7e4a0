"""Logs of trials on a node, and what of them is on the head."""

from dataclasses import replace
from pathlib import Path

import pytest

from cluster.transport.remote_results import BEAT_BYTES, WHOLE_S
from tests.cluster.fake_depot import FakeDepot, away
from tests.cluster.transport.two_folders import (
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
from trainer.log_capture import HEAD_BYTES, TAIL_BYTES, LogFile
from trainer.log_follower import LogFollower
from trainer.paths import WorkerPaths
from trainer.trial import Rung, TrialId

__all__ = ["depot", "head", "make", "node"]  # the fixtures


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


def test_a_log_that_is_cut_in_the_middle_comes_as_a_whole_now_and_then(
    make: Make, depot: FakeDepot, head: WorkerPaths, node: WorkerPaths
) -> None:
    now = 0.0
    results = make(clock=lambda: now)
    results.follow(SPEC)
    written = LogFile(str(node.log(SPEC)))
    written.write(b"x" * BEAT_BYTES)
    results.step()
    shown = LogFollower(head.log(SPEC))
    assert shown.news() == "x" * BEAT_BYTES
    written.write(b"x" * (HEAD_BYTES + TAIL_BYTES))
    written.flush()
    results.step()
    assert shown.news().endswith(f"\n[... {BEAT_BYTES} bytes dropped ...]\n" + "x" * TAIL_BYTES)
    for text in ("loss: 3\n", "loss: 1\n"):
        written.write(text.encode())
        written.flush()
        results.step()
        assert shown.news() == ""
        now += WHOLE_S
        results.step()
        assert shown.news() == text
    assert depot.calls.count("put_log") == 3


def test_while_the_head_is_away_a_log_that_is_cut_waits(
    make: Make, depot: FakeDepot, head: WorkerPaths, node: WorkerPaths
) -> None:
    results = make()
    results.follow(SPEC)
    written = LogFile(str(node.log(SPEC)))
    written.write(b"x" * (HEAD_BYTES + TAIL_BYTES) + b"loss: 1\n")
    written.flush()
    depot.before = away
    with pytest.raises(ConnectionError):
        results.step()
    depot.before = lambda _: None
    results.step()
    assert head.log(SPEC).read_bytes() == node.log(SPEC).read_bytes()
    results.left(SPEC)
    results.step()
    assert not results._followed
    assert not results._whole
