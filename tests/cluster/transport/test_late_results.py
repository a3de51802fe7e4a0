"""Results whose head was away, or whose worker died."""

import threading
from dataclasses import replace

import pytest

from cluster.transport.remote_results import OTHERS_S
from cluster.transport.shelf import ROOM
from tests.cluster.fake_depot import FakeDepot
from tests.cluster.transport.two_folders import (
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
from trainer.paths import WorkerPaths
from trainer.trial import CommitId, TrialId

__all__ = ["depot", "head", "make", "node"]  # the fixtures


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
