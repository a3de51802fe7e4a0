"""Trials meant for some slots: the contract of TrialQueue, run over every implementation."""

from dataclasses import replace

from cluster.state import events as ev
from tests.cluster.queue.queue_bench import (
    NOT_HERE,
    NOW,
    ON_GPUS,
    ON_SLOT_1,
    TTL,
    Bench,
    bench,
    slot,
)
from trainer.trial import (
    TrialId,
)

__all__ = ["bench"]  # the fixture


def test_a_trial_that_is_meant_for_a_slot_or_a_class_passes_all_others_by(bench: Bench) -> None:
    bench.put(1, 9, place=ON_SLOT_1)
    for number in range(2, 9):
        bench.put(number, 5, place=ON_GPUS)
    bench.put(9)
    assert bench.reserve(0) == "e9.1"
    assert bench.leased(0) == "e9.1"
    assert bench.leased(0) is None
    assert bench.reserve(2) == "e2.1"
    assert bench.leased(2) == "e2.1"
    assert bench.leased(1) == "e1.1"
    assert bench.leased(1) is None


def test_slots_of_a_node_that_a_trial_avoids_take_all_else_first_and_others_do_not_mind(
    bench: Bench,
) -> None:
    bench.put(1, 9, place=NOT_HERE)
    bench.put(2, place=NOT_HERE)
    bench.put(3)
    bench.put(4)
    assert bench.leased(0) == "e3.1"
    assert bench.leased(2) == "e1.1"
    assert bench.leased(1) == "e4.1"


def test_a_trial_runs_on_the_node_that_it_avoids_rather_than_nowhere(bench: Bench) -> None:
    bench.put(1, place=NOT_HERE)
    bench.put(2, 9, place=replace(ON_GPUS, avoid="there"))
    assert bench.queue.lease(slot(), now=NOW, ttl_s=TTL, even_avoiding=False) is None
    assert bench.leased(0) == "e1.1"
    assert bench.leased(2) == "e2.1"


def test_a_busy_slot_does_not_prepare_what_avoids_its_node(bench: Bench) -> None:
    bench.put(1, place=NOT_HERE)
    assert bench.reserve(0) is None
    bench.put(2)
    assert bench.reserve(0) == "e2.1"
    assert bench.reserve(2) == "e1.1"
    assert bench.leased(0) == "e2.1"


def test_a_trial_that_is_meant_for_one_slot_can_be_cancelled(bench: Bench) -> None:
    bench.put(1, place=replace(ON_GPUS, avoid="here"))
    bench.queue.cancel(TrialId("e1.1"), now=NOW, epoch=bench.epoch)
    assert isinstance(bench.last(), ev.TrialFinished)
    assert bench.leased(2) is None
