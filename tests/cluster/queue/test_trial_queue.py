"""The contract of cluster.queue.trial_queue.TrialQueue, run over every implementation.

The state machine at the end compares each implementation with a model, step by step.
"""

import threading
import uuid
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from cluster.ledger.ledger import Fenced, InMemoryLedger, Ledger
from cluster.ledger.redis_ledger import RedisLedger
from cluster.ledger.redis_store import RedisStore, connect
from cluster.queue.queue_mode import QueueMode
from cluster.queue.redis_queue import RedisTrialQueue
from cluster.queue.reservations import LAST
from cluster.queue.trial_queue import Depth, InMemoryTrialQueue, TrialQueue
from cluster.state import events as ev
from tests.cluster.redis_user import restricted
from trainer.ports import Heartbeat, Lease, Slot
from trainer.trial import (
    CommitId,
    Ending,
    ExperimentId,
    Place,
    SlotId,
    TrialId,
    TrialOutcome,
    TrialSpec,
)

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)
TTL = 30.0


ANYWHERE = Place()
ON_GPUS = Place(device_class="gpu|H200")
ON_SLOT_1 = Place(slot=SlotId("cpu-1"))
NOT_HERE = Place(avoid="here")


def spec(number: int, attempt: int = 1, place: Place = ANYWHERE) -> TrialSpec:
    return TrialSpec(
        trial=TrialId(f"e{number}.1"),
        experiment=ExperimentId(f"e{number}"),
        attempt=attempt,
        commit=CommitId("a" * 40),
        seed=1,
        budget_s=1.0,
        timeout_s=2.0,
        place=place,
    )


def slot(number: int = 0, incarnation: str = "") -> Slot:
    return Slot(
        id=SlotId(f"cpu-{number}"),
        incarnation=incarnation or f"first-{number}",
        node="there" if number == 2 else "here",
        device="cpu",
        device_class="gpu|H200" if number == 2 else "cpu",
    )


SCORED = TrialOutcome(ending=Ending.SCORED, value=1.5)
GIVEN_BACK = TrialOutcome(ending=Ending.LOST, reason="given back", is_given_back=True)
VANISHED = TrialOutcome(ending=Ending.LOST, reason="the supervisor vanished")


@dataclass
class Bench:
    """A queue, the ledger below it, and the epoch of its controller."""

    queue: TrialQueue
    ledger: Ledger
    epoch: int = field(init=False)

    def __post_init__(self) -> None:
        self.epoch = self.ledger.begin_epoch()

    def put(
        self, number: int, priority: int = 0, attempt: int = 1, place: Place = ANYWHERE
    ) -> None:
        self.queue.put(spec(number, attempt, place), priority=priority, now=NOW, epoch=self.epoch)

    def lease(self, taker: Slot | None = None, now: datetime = NOW) -> Lease | None:
        return self.queue.lease(taker or slot(), now=now, ttl_s=TTL)

    def reserve(self, number: int, now: datetime = NOW) -> str | None:
        found = self.queue.reserve(slot(number), now=now, ttl_s=TTL)
        return found.trial if found else None

    def leased(self, number: int, now: datetime = NOW) -> str | None:
        found = self.lease(slot(number), now)
        return found.spec.trial if found else None

    def told(self) -> list[str]:
        return [type(recorded.event).__name__ for recorded in self.ledger.read(0)]

    def last(self) -> ev.Event:
        return self.ledger.read(0)[-1].event


def make(kind: str, url: str) -> Bench:
    if kind == "memory":
        ledger = InMemoryLedger()
        return Bench(InMemoryTrialQueue(ledger), ledger)
    url = restricted(url) if kind == "user" else url
    store = RedisStore(connect(url), f"test-{uuid.uuid4().hex[:12]}")
    return Bench(RedisTrialQueue(store), RedisLedger(store))


@pytest.fixture(params=["memory", "redis", "user"])
def bench(request: pytest.FixtureRequest, server_url: str) -> Iterator[Bench]:
    made = make(request.param, server_url)
    yield made
    if isinstance(made.queue, RedisTrialQueue):
        made.queue._store.client.close()


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


def test_the_mode_is_kept(bench: Bench) -> None:
    assert bench.queue.mode() is QueueMode.OPEN
    bench.queue.set_mode(QueueMode.DRAINING, epoch=bench.epoch)
    assert bench.queue.mode() is QueueMode.DRAINING


def test_slots_open_and_close_in_the_ledger(bench: Bench) -> None:
    bench.queue.greet(slot(), now=NOW)
    bench.queue.close_slot(SlotId("cpu-0"), "gone", now=NOW)
    assert bench.told() == ["SlotOpened", "SlotClosed"]


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


def withdrawal(number: int, attempt: int = 1) -> ev.Draft:
    event = ev.ExperimentReturned(experiment=ExperimentId(f"e{number}"), reason="stale")
    return ev.Draft(id=f"e{number}/returned/{attempt}", at=NOW, event=event)


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


PLACES = [ANYWHERE, ANYWHERE, ON_GPUS, ON_SLOT_1, NOT_HERE, replace(ON_GPUS, avoid="there")]


class QueueMachine(RuleBasedStateMachine):
    """Any order of puts, leases, heartbeats, results, expiries and replacements, beside a model."""

    kind = "memory"
    url = ""

    def __init__(self) -> None:
        super().__init__()
        self.bench = make(self.kind, self.url)
        self.now = NOW
        self.ready: list[tuple[int, int, int]] = []
        self.places: dict[int, Place] = {}
        self.leased: dict[int, tuple[int, str, datetime]] = {}
        self.wishes: dict[int, tuple[int, datetime]] = {}
        self.ended: set[int] = set()
        self.modes = dict.fromkeys(["", "here", "there"], QueueMode.OPEN)
        self.count = 0

    @rule(
        priority=st.integers(-3, 3),
        place=st.sampled_from(PLACES),
    )
    def put(self, priority: int, place: Place) -> None:
        self.count += 1
        self.places[self.count] = place
        self.bench.put(self.count, priority, place=place)
        self.ready.append((-priority, self.count, self.count))

    def wish_of(self, number: int, taker: int) -> str:
        """Whose wish a waiting trial is: "mine", "theirs" or "nobody's"."""
        owners = {name for name, (n, until) in self.wishes.items() if n == number}
        owners = {name for name in owners if self.wishes[name][1] > self.now}
        return "mine" if taker in owners else "theirs" if owners else "nobody's"

    def open_to(self, taker: int) -> list[tuple[float, int, int]]:
        """What a slot may run, each with its place in line; what avoids its node is the last."""
        name, kind, node = slot(taker).id, slot(taker).device_class, slot(taker).node
        admitted = [item for item in self.ready if self.places[item[2]].admits(name, kind)]
        avoiding = {item for item in admitted if self.places[item[2]].avoid == node}
        in_order = enumerate(sorted(admitted))
        return [(LAST if it in avoiding else it[0], place, it[2]) for place, it in in_order]

    @rule(node=st.sampled_from(["", "here", "there"]), mode=st.sampled_from(QueueMode))
    def switch(self, node: str, mode: QueueMode) -> None:
        queue, epoch = self.bench.queue, self.bench.epoch
        if node:
            queue.set_node_mode(node, mode, epoch=epoch)
        else:
            queue.set_mode(mode, epoch=epoch)
        self.modes[node] = mode

    @rule()
    def open_again(self) -> None:
        for node in self.modes:
            self.switch(node, QueueMode.OPEN)

    def is_open(self, taker: int) -> bool:
        return {self.modes[""], self.modes[slot(taker).node]} == {QueueMode.OPEN}

    @rule(taker=st.integers(0, 2))
    def reserve(self, taker: int) -> None:
        found = self.bench.queue.reserve(slot(taker), now=self.now, ttl_s=TTL)
        if not self.is_open(taker):
            assert found is None
            self.wishes.pop(taker, None)
            return
        wanted = [item for item in self.open_to(taker) if item[0] < LAST]
        free = [item for item in wanted if self.wish_of(item[2], taker) != "theirs"]
        if not free:
            assert found is None
            self.wishes.pop(taker, None)
            return
        first = min(rank for rank, _, _ in free)
        mine = [i for i in free if i[0] == first and self.wish_of(i[2], taker) == "mine"]
        expected = min(mine or free)
        assert found is not None
        assert found.trial == f"e{expected[2]}.1"
        self.wishes[taker] = (expected[2], self.now + timedelta(seconds=TTL))

    @rule(taker=st.integers(0, 2), even_avoiding=st.booleans())
    def lease(self, taker: int, even_avoiding: bool) -> None:
        lease = self.bench.queue.lease(
            slot(taker), now=self.now, ttl_s=TTL, even_avoiding=even_avoiding
        )
        wanted = [item for item in self.open_to(taker) if even_avoiding or item[0] < LAST]
        if not wanted or not self.is_open(taker):
            assert lease is None
            return
        first = min(rank for rank, _, _ in wanted)
        urgent = [item for item in wanted if item[0] == first]
        preference = ["mine", "nobody's", "theirs"]
        expected = min(urgent, key=lambda i: (preference.index(self.wish_of(i[2], taker)), i))
        self.ready = [item for item in self.ready if item[2] != expected[2]]
        self.wishes.pop(taker, None)
        assert lease is not None
        assert lease.spec.trial == f"e{expected[2]}.1"
        assert lease.token not in self.leased
        self.leased[lease.token] = (expected[2], f"cpu-{taker}", self.now + timedelta(seconds=TTL))

    @rule(seconds=st.integers(1, 20))
    def time_passes(self, seconds: int) -> None:
        self.now += timedelta(seconds=seconds)

    @precondition(lambda self: self.leased)
    @rule(data=st.data())
    def beat(self, data: st.DataObject) -> None:
        token = data.draw(st.sampled_from(sorted(self.leased)))
        number, name, _ = self.leased[token]
        taker = slot(int(name[-1]))
        lease = Lease(spec=spec(number), token=token, ttl_s=TTL)
        answer = self.bench.queue.extend(taker, lease, now=self.now, ttl_s=TTL)
        assert answer is Heartbeat.GO_ON
        self.leased[token] = (number, name, self.now + timedelta(seconds=TTL))

    @precondition(lambda self: self.count)
    @rule(data=st.data())
    def withdraw(self, data: st.DataObject) -> None:
        number = data.draw(st.integers(1, self.count))
        waiting = [item for item in self.ready if item[2] == number]
        trial = TrialId(f"e{number}.1")
        draft = withdrawal(number)
        gone = self.bench.queue.withdraw(trial, 1, draft, epoch=self.bench.epoch)
        assert gone == bool(waiting)
        for item in waiting:
            self.ready.remove(item)

    @rule(token=st.integers(0, 40), taker=st.integers(0, 2), number=st.integers(1, 20))
    def complete_what_may_be_somebody_elses(self, token: int, taker: int, number: int) -> None:
        self.complete(token, taker, number)

    @precondition(lambda self: self.leased)
    @rule(data=st.data())
    def complete_what_is_held(self, data: st.DataObject) -> None:
        token = data.draw(st.sampled_from(sorted(self.leased)))
        number, name, _ = self.leased[token]
        self.complete(token, int(name[-1]), number)

    def complete(self, token: int, taker: int, number: int) -> None:
        lease = Lease(spec=spec(number), token=token, ttl_s=TTL)
        accepted = self.bench.queue.complete(slot(taker), lease, SCORED, now=self.now)
        assert accepted == (self.leased.get(token, ())[:2] == (number, f"cpu-{taker}"))
        if accepted:
            self.ended.add(self.leased.pop(token)[0])

    @rule()
    def expire(self) -> None:
        over = {token for token, held in self.leased.items() if held[2] <= self.now}
        assert self.bench.queue.expire(now=self.now) == len(over)
        for token in over:
            self.ended.add(self.leased.pop(token)[0])

    @rule(seconds=st.integers(1, 60))
    def renew(self, seconds: int) -> None:
        self.bench.queue.renew(now=self.now, ttl_s=seconds, most_s=2 * seconds)
        least, most = (self.now + timedelta(seconds=n * seconds) for n in (1, 2))
        for token, (number, name, until) in self.leased.items():
            self.leased[token] = (number, name, min(max(until, least), most))

    @rule(taker=st.integers(0, 2))
    def replace(self, taker: int) -> None:
        new = slot(taker, uuid.uuid4().hex)
        self.bench.queue.greet(new, now=self.now)
        for token in [t for t, held in self.leased.items() if held[1] == new.id]:
            self.ended.add(self.leased.pop(token)[0])

    @invariant()
    def depth_agrees(self) -> None:
        expected = Depth(ready=len(self.ready), running=len(self.leased))
        assert self.bench.queue.depth() == expected

    def teardown(self) -> None:
        ended = [
            recorded.event.trial
            for recorded in self.bench.ledger.read(0, limit=100_000)
            if isinstance(recorded.event, ev.TrialFinished | ev.TrialLost)
        ]
        assert len(ended) == len(set(ended))
        assert set(ended) == {f"e{number}.1" for number in self.ended}
        if isinstance(self.bench.queue, RedisTrialQueue):
            self.bench.queue._store.client.close()


MACHINE = settings(
    max_examples=60,
    stateful_step_count=40,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow],
)


@pytest.mark.parametrize("kind", ["memory", "redis"])
def test_any_order_of_calls_agrees_with_the_model(kind: str, server_url: str) -> None:
    class Machine(QueueMachine):
        pass

    Machine.kind = kind
    Machine.url = server_url
    run_state_machine_as_test(Machine, settings=MACHINE)
