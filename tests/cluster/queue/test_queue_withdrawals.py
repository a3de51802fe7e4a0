"""What leaves the queue unbegun: the contract of TrialQueue, run over every implementation."""

import threading
import uuid

import pytest

from cluster.ledger.ledger import Fenced
from cluster.ledger.redis_ledger import RedisLedger
from cluster.ledger.redis_store import RedisStore, connect
from cluster.queue.redis_queue import RedisTrialQueue
from cluster.queue.trial_queue import Depth
from cluster.state import events as ev
from tests.cluster.queue.queue_bench import NOW, TTL, Bench, bench, slot, withdrawal
from trainer.trial import (
    TrialId,
)

__all__ = ["bench"]  # the fixture


def test_a_waiting_attempt_leaves_the_queue_with_the_event_that_tells_why(bench: Bench) -> None:
    bench.put(1)
    bench.put(2)
    assert bench.reserve(0) == "e1.1"
    trial = TrialId("e1.1")
    assert not bench.queue.withdraw(trial, 2, withdrawal(1, 2), epoch=bench.epoch)
    assert bench.queue.withdraw(trial, 1, withdrawal(1), epoch=bench.epoch)
    assert not bench.queue.withdraw(trial, 1, withdrawal(1), epoch=bench.epoch)
    assert bench.told() == ["TrialQueued", "TrialQueued", "ExperimentReturned"]
    assert bench.queue.depth() == Depth(ready=1, running=0)
    # The next attempt is another trial for all that the queue knows, in the place of the last.
    bench.put(1, attempt=2)
    assert bench.leased(0) == "e2.1"
    lease = bench.lease()
    assert lease is not None
    assert (lease.spec.trial, lease.spec.attempt) == ("e1.1", 2)


def test_what_a_slot_has_begun_is_not_withdrawn(bench: Bench) -> None:
    bench.put(1)
    assert bench.lease() is not None
    trial = TrialId("e1.1")
    assert not bench.queue.withdraw(trial, 1, withdrawal(1), epoch=bench.epoch)
    assert bench.told() == ["TrialQueued", "TrialStarted"]
    assert bench.queue.depth() == Depth(ready=0, running=1)


def test_a_controller_whose_epoch_is_over_withdraws_nothing(bench: Bench) -> None:
    bench.put(1)
    bench.ledger.begin_epoch()
    with pytest.raises(Fenced):
        bench.queue.withdraw(TrialId("e1.1"), 1, withdrawal(1), epoch=bench.epoch)
    assert bench.queue.depth() == Depth(ready=1, running=0)
    assert bench.told() == ["TrialQueued"]


def test_of_a_slot_and_a_withdrawal_at_one_moment_exactly_one_gets_the_trial(
    server_url: str,
) -> None:
    name = f"test-{uuid.uuid4().hex[:12]}"
    stores = [RedisStore(connect(server_url), name) for _ in range(2)]
    queue, other = (RedisTrialQueue(store) for store in stores)
    bench = Bench(queue, RedisLedger(stores[0]))
    count = 60
    for number in range(count):
        bench.put(number)
    taken: set[str] = set()
    start = threading.Barrier(2)

    def take() -> None:
        start.wait(timeout=30)
        while (lease := other.lease(slot(), now=NOW, ttl_s=TTL)) is not None:
            taken.add(lease.spec.trial)

    slots = threading.Thread(target=take)
    slots.start()
    start.wait(timeout=30)
    withdrawn = {
        f"e{number}.1"
        for number in reversed(range(count))
        if bench.queue.withdraw(TrialId(f"e{number}.1"), 1, withdrawal(number), epoch=bench.epoch)
    }
    slots.join(timeout=30)
    assert taken | withdrawn == {f"e{number}.1" for number in range(count)}
    assert not taken & withdrawn
    told = [recorded.event for recorded in bench.ledger.read(0, limit=10_000)]
    assert {e.trial for e in told if isinstance(e, ev.TrialStarted)} == taken
    gone = {f"{e.experiment}.1" for e in told if isinstance(e, ev.ExperimentReturned)}
    assert gone == withdrawn
    for store in stores:
        store.client.close()
