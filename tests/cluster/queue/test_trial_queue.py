"""Leases and results: the contract of TrialQueue, run over every implementation."""

from dataclasses import replace
from datetime import timedelta

import pytest

from cluster.ledger.ledger import Fenced
from cluster.ledger.progress import ProgressStore
from cluster.queue.queue_mode import QueueMode
from cluster.queue.redis_queue import RedisTrialQueue
from cluster.queue.trial_queue import Depth
from cluster.state import events as ev
from tests.cluster.queue.queue_bench import (
    GIVEN_BACK,
    NOW,
    SCORED,
    TTL,
    VANISHED,
    Bench,
    bench,
    make,
    slot,
)
from tests.trainer.trials import spec
from trainer.ports import Heartbeat, Progress, Slot
from trainer.trial import (
    Ending,
    SlotId,
    TrialId,
    TrialSpec,
)

__all__ = ["bench"]  # the fixture


def test_highest_priority_first_then_first_come_first_served(bench: Bench) -> None:
    for number, priority in [(1, 0), (2, 5), (3, 0), (4, 5), (5, -1)]:
        bench.put(number, priority)
    leases = [bench.lease() for _ in range(6)]
    assert [lease.spec.trial if lease else None for lease in leases] == [
        *("e2.1", "e4.1", "e1.1", "e3.1", "e5.1", None)
    ]


def test_a_lease_and_the_event_that_tells_of_it_come_together(bench: Bench) -> None:
    bench.put(1)
    assert bench.queue.depth() == Depth(ready=1, running=0)
    lease = bench.lease()
    assert lease is not None
    assert bench.queue.depth() == Depth(ready=0, running=1)
    assert bench.told() == ["TrialQueued", "TrialStarted"]
    started = bench.last()
    assert isinstance(started, ev.TrialStarted)
    assert (started.trial, started.slot, started.node) == ("e1.1", "cpu-0", "here")


def test_a_trial_on_a_rung_is_told_of_with_its_budget(bench: Bench) -> None:
    rung = replace(spec(1), budget_s=0.5, is_short=True)
    for each in (rung, spec(2)):
        bench.queue.put(each, priority=0, now=NOW, epoch=bench.epoch)
    told = [recorded.event for recorded in bench.ledger.read(0)]
    assert [event.rung_s for event in told if isinstance(event, ev.TrialQueued)] == [0.5, None]
    lease = bench.lease()
    assert lease is not None
    assert lease.spec == rung


def test_putting_an_attempt_twice_queues_it_once(bench: Bench) -> None:
    bench.put(1)
    bench.put(1)
    assert bench.queue.depth().ready == 1
    assert bench.lease() is not None
    bench.put(1)
    assert bench.queue.depth().ready == 0


def test_a_result_counts_once(bench: Bench) -> None:
    bench.put(1)
    lease = bench.lease()
    assert lease is not None
    assert bench.queue.complete(slot(), lease, SCORED, now=NOW)
    assert not bench.queue.complete(slot(), lease, SCORED, now=NOW)
    assert bench.told().count("TrialFinished") == 1
    assert bench.queue.depth() == Depth(ready=0, running=0)


@pytest.mark.parametrize(
    ("taker", "named"),
    [
        (slot(), spec(2)),
        (slot(), spec(1, attempt=2)),
        (slot(0, "second"), spec(1)),
        (slot(1, "another"), spec(2)),
    ],
)
def test_a_token_alone_is_no_lease(taker: Slot, named: TrialSpec, bench: Bench) -> None:
    """Tokens begin anew where a server lost its data: then two trials have had the same."""
    bench.put(1)
    lease = bench.lease()
    assert lease is not None
    other, held = replace(lease, spec=named), bench.queue.held()
    later = NOW + timedelta(seconds=1)
    assert bench.queue.extend(taker, other, now=later, ttl_s=TTL) is Heartbeat.GONE
    assert not bench.queue.complete(taker, other, SCORED, now=NOW)
    assert bench.queue.held() == held
    assert bench.told() == ["TrialQueued", "TrialStarted"]
    assert bench.queue.complete(slot(), lease, SCORED, now=NOW)


def test_a_silent_worker_loses_its_lease_and_its_late_result_is_refused(bench: Bench) -> None:
    bench.put(1)
    lease = bench.lease()
    assert lease is not None
    assert bench.queue.expire(now=NOW + timedelta(seconds=TTL - 1)) == 0
    assert bench.queue.expire(now=NOW + timedelta(seconds=TTL)) == 1
    lost = bench.last()
    assert isinstance(lost, ev.TrialLost)
    assert not lost.is_given_back
    assert not bench.queue.complete(slot(), lease, SCORED, now=NOW)
    assert bench.queue.extend(slot(), lease, now=NOW, ttl_s=TTL) is Heartbeat.GONE
    assert bench.told() == ["TrialQueued", "TrialStarted", "TrialLost"]


def test_a_heartbeat_keeps_a_lease_alive(bench: Bench) -> None:
    bench.put(1)
    lease = bench.lease()
    assert lease is not None
    later = NOW + timedelta(seconds=TTL - 1)
    assert bench.queue.extend(slot(), lease, now=later, ttl_s=TTL) is Heartbeat.GO_ON
    assert bench.queue.expire(now=NOW + timedelta(seconds=TTL + 1)) == 0
    assert bench.queue.expire(now=later + timedelta(seconds=TTL)) == 1


def test_after_an_outage_every_lease_lasts_a_while_longer(bench: Bench) -> None:
    bench.put(1)
    bench.put(2)
    bench.lease()
    late = NOW + timedelta(seconds=10 * TTL)
    long = bench.queue.lease(slot(1), now=late, ttl_s=100 * TTL)
    assert long is not None
    bench.queue.renew(now=late, ttl_s=TTL, most_s=200 * TTL)
    assert bench.queue.expire(now=late) == 0
    assert {held.spec.trial: held.expires_at for held in bench.queue.held()} == {
        "e1.1": late + timedelta(seconds=TTL),
        "e2.1": late + timedelta(seconds=100 * TTL),
    }
    assert bench.queue.expire(now=late + timedelta(seconds=TTL)) == 1


def test_a_new_worker_on_a_slot_ends_the_lease_of_the_old_one(bench: Bench) -> None:
    bench.queue.greet(slot(), now=NOW)
    bench.put(1)
    bench.put(2)
    old, other = bench.lease(), bench.lease(slot(1))
    assert old is not None
    assert other is not None
    bench.queue.greet(slot(0, "second"), now=NOW + timedelta(seconds=1))
    assert [held.token for held in bench.queue.held()] == [other.token]
    assert bench.queue.extend(slot(), old, now=NOW, ttl_s=TTL) is Heartbeat.GONE
    # The same incarnation greeting again keeps what it holds.
    bench.queue.greet(slot(1), now=NOW + timedelta(seconds=2))
    assert len(bench.queue.held()) == 1


def test_a_trial_is_given_back_without_a_result(bench: Bench) -> None:
    bench.put(1)
    lease = bench.lease()
    assert lease is not None
    bench.queue.give_back_all(epoch=bench.epoch)
    assert bench.queue.extend(slot(), lease, now=NOW, ttl_s=TTL) is Heartbeat.GIVE_BACK
    assert bench.queue.complete(slot(), lease, GIVEN_BACK, now=NOW)
    lost = bench.last()
    assert isinstance(lost, ev.TrialLost)
    assert lost.is_given_back
    bench.put(1, attempt=2)
    again = bench.lease()
    assert again is not None
    assert again.spec.attempt == 2
    assert bench.queue.extend(slot(), again, now=NOW, ttl_s=TTL) is Heartbeat.GO_ON


def test_a_lease_is_ended_as_nobodys_fault_and_once(bench: Bench) -> None:
    bench.put(1)
    lease = bench.lease()
    assert lease is not None
    [held] = bench.queue.held()
    assert bench.queue.give_back(held, "here left", now=NOW)
    assert not bench.queue.give_back(held, "here left", now=NOW)
    assert bench.told() == ["TrialQueued", "TrialStarted", "TrialLost"]
    lost = bench.last()
    assert isinstance(lost, ev.TrialLost)
    assert (lost.reason, lost.is_given_back) == ("here left", True)
    assert bench.queue.extend(slot(), lease, now=NOW, ttl_s=TTL) is Heartbeat.GONE


def test_a_trial_that_its_own_worker_lost_counts_as_lost(bench: Bench) -> None:
    bench.put(1)
    lease = bench.lease()
    assert lease is not None
    assert bench.queue.complete(slot(), lease, VANISHED, now=NOW)
    lost = bench.last()
    assert isinstance(lost, ev.TrialLost)
    assert not lost.is_given_back


def test_all_leases_end_when_the_workers_are_known_to_be_gone(bench: Bench) -> None:
    bench.put(1)
    assert bench.lease() is not None
    assert bench.queue.expire(now=NOW) == 0
    assert bench.queue.expire(now=NOW, even_live=True) == 1
    assert bench.ledger.read(0)[-1].at == NOW


def test_a_waiting_trial_is_cancelled_at_once(bench: Bench) -> None:
    bench.put(1)
    bench.put(2)
    bench.queue.cancel(TrialId("e1.1"), now=NOW, epoch=bench.epoch)
    finished = bench.last()
    assert isinstance(finished, ev.TrialFinished)
    assert finished.outcome.ending is Ending.CANCELLED
    lease = bench.lease()
    assert lease is not None
    assert lease.spec.trial == "e2.1"


def test_a_running_trial_is_cancelled_by_the_answer_to_its_heartbeat(bench: Bench) -> None:
    bench.put(1)
    lease = bench.lease()
    assert lease is not None
    bench.queue.cancel(TrialId("e1.1"), now=NOW, epoch=bench.epoch)
    assert bench.queue.extend(slot(), lease, now=NOW, ttl_s=TTL) is Heartbeat.CANCEL
    assert bench.told() == ["TrialQueued", "TrialStarted"]


def test_a_running_trial_is_pruned_by_the_answer_to_its_heartbeat(bench: Bench) -> None:
    for number in (1, 2, 3):
        bench.put(number)
    first, second = bench.lease(), bench.queue.lease(slot(1), now=NOW, ttl_s=TTL)
    assert first is not None
    assert second is not None
    for number in (1, 3):  # the third only waits
        bench.queue.prune(TrialId(f"e{number}.1"), epoch=bench.epoch)
    assert bench.queue.extend(slot(), first, now=NOW, ttl_s=TTL) is Heartbeat.PRUNE
    assert bench.queue.extend(slot(1), second, now=NOW, ttl_s=TTL) is Heartbeat.GO_ON
    assert bench.queue.depth() == Depth(ready=1, running=2)


def test_a_controller_whose_epoch_is_over_changes_nothing(bench: Bench) -> None:
    bench.put(1)
    bench.ledger.begin_epoch()
    with pytest.raises(Fenced):
        bench.put(2)
    with pytest.raises(Fenced):
        bench.queue.cancel(TrialId("e1.1"), now=NOW, epoch=bench.epoch)
    if isinstance(bench.queue, RedisTrialQueue):  # in one process there is one controller
        with pytest.raises(Fenced):
            bench.queue.set_node_mode("here", QueueMode.DRAINING, epoch=bench.epoch)
    assert bench.queue.mode("here") is QueueMode.OPEN
    assert bench.queue.depth() == Depth(ready=1, running=0)


def test_slots_open_and_close_in_the_ledger(bench: Bench) -> None:
    bench.queue.greet(slot(), now=NOW)
    bench.queue.close_slot(SlotId("cpu-0"), "gone", now=NOW)
    assert bench.told() == ["SlotOpened", "SlotClosed"]


def test_where_a_trial_stood_is_kept_until_its_lease_ends_however_it_does(server_url: str) -> None:
    bench = make("redis", server_url)
    store = bench.queue._store  # type: ignore[attr-defined]
    progress = ProgressStore(store)
    for number in range(5):
        bench.put(number)
    leases = [bench.queue.lease(slot(n), now=NOW, ttl_s=TTL * (1 + n)) for n in range(5)]
    for lease in leases:
        assert lease is not None
        progress.record(lease.spec, Progress(elapsed_s=1.0))
    given, lasting = leases[3], leases[4]
    assert given is not None
    assert lasting is not None
    stale = replace(lasting, token=given.token)
    assert not bench.queue.complete(slot(4), stale, SCORED, now=NOW)
    assert len(progress.latest()) == 5
    bench.queue.expire(now=NOW + timedelta(seconds=TTL + 1))
    bench.queue.greet(slot(1, incarnation="second"), now=NOW)
    bench.queue.complete(slot(3), given, SCORED, now=NOW)
    held = next(held for held in bench.queue.held() if held.slot == "cpu-2")
    bench.queue.give_back(held, "leaves", now=NOW)
    assert list(progress.latest()) == [lasting.spec.trial]
    store.client.close()
