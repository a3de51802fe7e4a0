"""When nothing is leased: the contract of TrialQueue, run over every implementation."""

import threading
import uuid

import pytest

from cluster.ledger.redis_ledger import RedisLedger
from cluster.ledger.redis_store import RedisStore, connect
from cluster.queue.queue_mode import QueueMode
from cluster.queue.redis_queue import RedisTrialQueue
from tests.cluster.queue.queue_bench import NOW, SCORED, TTL, Bench, bench, slot
from trainer.ports import Heartbeat

__all__ = ["bench"]  # the fixture


@pytest.mark.parametrize("mode", [QueueMode.HELD, QueueMode.DRAINING])
def test_nothing_is_leased_unless_the_queue_is_open(bench: Bench, mode: QueueMode) -> None:
    bench.put(1)
    bench.queue.set_mode(mode, epoch=bench.epoch)
    assert bench.lease() is None
    bench.queue.set_mode(QueueMode.OPEN, epoch=bench.epoch)
    assert bench.lease() is not None


@pytest.mark.parametrize("mode", [QueueMode.HELD, QueueMode.DRAINING])
def test_slots_of_a_node_whose_mode_is_not_open_get_nothing(bench: Bench, mode: QueueMode) -> None:
    bench.put(1)
    bench.put(2)
    bench.queue.set_node_mode("here", mode, epoch=bench.epoch)
    assert bench.leased(0) is None
    assert bench.reserve(1) is None
    assert bench.leased(2) == "e1.1"
    bench.queue.set_node_mode("here", QueueMode.OPEN, epoch=bench.epoch)
    assert bench.leased(0) == "e2.1"


def test_what_a_slot_had_reserved_is_open_to_others_once_its_node_drains(bench: Bench) -> None:
    bench.put(1)
    assert bench.reserve(0) == "e1.1"
    bench.queue.set_node_mode("here", QueueMode.DRAINING, epoch=bench.epoch)
    assert bench.reserve(0) is None
    assert bench.reserve(2) == "e1.1"


def test_a_node_is_told_the_stricter_of_its_mode_and_the_studys(bench: Bench) -> None:
    for study in QueueMode:
        for own in QueueMode:
            bench.queue.set_mode(study, epoch=bench.epoch)
            bench.queue.set_node_mode("here", own, epoch=bench.epoch)
            order = list(QueueMode)
            expected = order[max(order.index(study), order.index(own))]
            assert bench.queue.mode("here") is expected
            assert bench.queue.mode() is study
            assert bench.queue.mode("there") is study


def test_a_lease_that_a_drained_node_holds_is_kept_to_its_end(bench: Bench) -> None:
    bench.put(1)
    lease = bench.lease()
    assert lease is not None
    bench.queue.set_node_mode("here", QueueMode.DRAINING, epoch=bench.epoch)
    assert bench.queue.extend(slot(), lease, now=NOW, ttl_s=TTL) is Heartbeat.GO_ON
    assert bench.queue.complete(slot(), lease, SCORED, now=NOW)


def test_the_mode_is_kept(bench: Bench) -> None:
    assert bench.queue.mode() is QueueMode.OPEN
    bench.queue.set_mode(QueueMode.DRAINING, epoch=bench.epoch)
    assert bench.queue.mode() is QueueMode.DRAINING


def test_a_node_that_is_held_while_its_slots_take_work_gets_none_from_then_on(
    server_url: str,
) -> None:
    """1. Slots of a node lease as fast as they can. 2. Its mode is set. 3. No lease comes after."""
    name = f"test-{uuid.uuid4().hex[:12]}"
    stores = [RedisStore(connect(server_url), name) for _ in range(2)]
    queue, other = (RedisTrialQueue(store) for store in stores)
    bench = Bench(queue, RedisLedger(stores[0]))
    for number in range(200):
        bench.put(number)
    start = threading.Barrier(2)

    def take() -> None:
        start.wait(timeout=30)
        while other.lease(slot(), now=NOW, ttl_s=TTL) is not None:
            pass

    slots = threading.Thread(target=take)
    slots.start()
    start.wait(timeout=30)
    queue.set_node_mode("here", QueueMode.HELD, epoch=bench.epoch)
    ready = queue.depth().ready
    slots.join(timeout=30)
    assert queue.depth().ready == ready > 0
    for store in stores:
        store.client.close()
