"""What slots ask the queue again and again costs the same however many slots there are."""

from collections.abc import Callable, Iterator
from datetime import timedelta

import pytest

from tests.cluster.queue.queue_bench import NOW, TTL, Bench, make, slot
from trainer.ports import Lease

MANY = 20


@pytest.fixture
def busy(server_url: str) -> Iterator[Bench]:
    """A queue with MANY trials leased, as many reserved, and one slot that has none."""
    bench = make("redis", server_url)
    for number in range(2 * MANY):
        bench.put(number)
    for number in range(MANY):
        assert bench.leased(number) == f"e{number}.1"
    for number in range(MANY):
        assert bench.reserve(number) == f"e{number + MANY}.1"
    yield bench
    bench.queue._store.client.close()  # type: ignore[attr-defined]


def whole_reads(bench: Bench, action: Callable[[], object]) -> int:
    """Return how often an action reads all of a hash."""
    client = bench.queue._store.client  # type: ignore[attr-defined]

    def calls() -> int:
        told = client.info("commandstats").get("cmdstat_hgetall", {"calls": 0})
        return int(told["calls"])

    before = calls()
    action()
    return calls() - before


def test_a_slot_that_asks_again_for_what_it_reserved_reads_nobody_elses_wishes(busy: Bench) -> None:
    assert whole_reads(busy, lambda: busy.reserve(3)) == 0
    assert busy.reserve(3) == f"e{3 + MANY}.1"
    assert whole_reads(busy, lambda: busy.leased(3)) == 0
    own = {held.spec.trial for held in busy.queue.held() if held.slot == "cpu-3"}
    assert own == {"e3.1", f"e{3 + MANY}.1"}


def test_a_slot_without_a_wish_reads_them_all_once(busy: Bench) -> None:
    assert whole_reads(busy, lambda: busy.reserve(MANY)) == 1


def test_the_end_of_one_lease_reads_no_other(busy: Bench) -> None:
    for held in busy.queue.held()[1:]:
        taker = slot(int(held.slot.removeprefix("cpu-")))
        lease = Lease(spec=held.spec, token=held.token, ttl_s=TTL)
        busy.queue.extend(taker, lease, now=NOW, ttl_s=TTL * 10)
    later = NOW + timedelta(seconds=TTL + 1)
    assert whole_reads(busy, lambda: busy.queue.expire(now=later)) == 0
    assert len(busy.queue.held()) == MANY - 1


def test_a_slot_is_greeted_without_a_look_at_what_others_hold(busy: Bench) -> None:
    # A name that is the beginning of another's is not taken for it.
    busy.queue.greet(slot(1, incarnation="second"), now=NOW)
    left = sorted(held.slot for held in busy.queue.held())
    assert left == sorted(f"cpu-{number}" for number in range(MANY) if number != 1)
