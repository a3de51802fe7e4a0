"""What busy slots prepare: the contract of TrialQueue, run over every implementation."""

from datetime import timedelta

import pytest

from cluster.queue.queue_mode import QueueMode
from cluster.queue.trial_queue import Depth
from cluster.state import events as ev
from tests.cluster.queue.queue_bench import NOW, TTL, Bench, bench
from trainer.trial import (
    SlotId,
    TrialId,
)

__all__ = ["bench"]  # the fixture


def test_a_busy_slot_gets_what_it_reserved_and_others_what_is_free(bench: Bench) -> None:
    for number in (1, 2, 3):
        bench.put(number)
    assert [bench.reserve(0), bench.reserve(1), bench.reserve(0)] == ["e1.1", "e2.1", "e1.1"]
    assert bench.queue.depth() == Depth(ready=3, running=0)
    assert bench.told() == ["TrialQueued"] * 3
    assert [bench.leased(2), bench.leased(1), bench.leased(0)] == ["e3.1", "e2.1", "e1.1"]


def test_an_idle_slot_takes_what_a_busy_one_reserved_rather_than_wait(bench: Bench) -> None:
    bench.put(1)
    assert bench.reserve(0) == "e1.1"
    assert bench.reserve(1) is None
    assert bench.leased(1) == "e1.1"
    assert bench.reserve(0) is None
    assert bench.leased(0) is None


def test_what_is_more_urgent_overtakes_what_was_reserved(bench: Bench) -> None:
    bench.put(1)
    assert bench.reserve(0) == "e1.1"
    bench.put(2, priority=5)
    bench.put(3, priority=5)
    assert bench.reserve(1) == "e2.1"
    assert bench.reserve(0) == "e3.1"
    bench.put(4, priority=9)
    assert [bench.leased(0), bench.leased(0), bench.leased(1)] == ["e4.1", "e3.1", "e2.1"]


def test_a_reserved_trial_is_taken_from_a_busy_slot_if_it_is_the_most_urgent(bench: Bench) -> None:
    bench.put(1, priority=5)
    bench.put(2)
    assert bench.reserve(0) == "e1.1"
    assert bench.leased(1) == "e1.1"


def test_a_reservation_holds_however_far_back_it_lies(bench: Bench) -> None:
    for number in (1, 2, 3):
        bench.put(number)
    assert [bench.reserve(0), bench.reserve(1), bench.reserve(2)] == ["e1.1", "e2.1", "e3.1"]
    for gone in (0, 1):
        bench.queue.close_slot(SlotId(f"cpu-{gone}"), "gone", now=NOW)
    assert bench.reserve(2) == "e3.1"
    assert bench.leased(2) == "e3.1"


def test_a_lease_ends_the_reservation(bench: Bench) -> None:
    for number in (1, 2):
        bench.put(number)
    assert bench.reserve(0) == "e1.1"
    bench.put(3, priority=5)
    assert bench.leased(0) == "e3.1"
    assert bench.leased(1) == "e1.1"


@pytest.mark.parametrize("mode", [QueueMode.HELD, QueueMode.DRAINING])
def test_nothing_is_reserved_unless_the_queue_is_open(bench: Bench, mode: QueueMode) -> None:
    bench.put(1)
    assert bench.reserve(0) == "e1.1"
    bench.queue.set_mode(mode, epoch=bench.epoch)
    assert bench.reserve(0) is None
    assert bench.leased(0) is None


def test_a_reservation_of_a_slot_that_is_gone_does_not_last(bench: Bench) -> None:
    bench.put(1)
    bench.put(2)
    assert bench.reserve(0) == "e1.1"
    bench.queue.close_slot(SlotId("cpu-0"), "gone", now=NOW)
    assert bench.reserve(1) == "e1.1"
    assert bench.reserve(2, NOW + timedelta(seconds=TTL)) == "e1.1"


def test_a_reserved_trial_is_cancelled_like_any_that_waits(bench: Bench) -> None:
    bench.put(1)
    assert bench.reserve(0) == "e1.1"
    bench.queue.cancel(TrialId("e1.1"), now=NOW, epoch=bench.epoch)
    assert isinstance(bench.last(), ev.TrialFinished)
    assert bench.reserve(0) is None
    assert bench.leased(0) is None
