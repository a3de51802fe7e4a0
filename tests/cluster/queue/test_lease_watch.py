"""Leases while the clock of the study's head is set, and those who look after them begin anew."""

from datetime import timedelta

import pytest
from hypothesis import strategies as st
from hypothesis.stateful import invariant, precondition, rule, run_state_machine_as_test

from cluster.queue.lease_watch import FIRST_TTLS, LeaseWatch
from cluster.queue.trial_queue import TrialQueue
from tests.cluster.queue.queue_bench import NOW, SCORED, TTL, Bench, make, slot
from tests.cluster.queue.test_queue_machine import MACHINE, QueueMachine
from tests.trainer.trials import spec
from trainer.ports import Heartbeat, Lease

HOUR, DAY = 3600.0, 86400.0


class Head:
    """A machine whose clock may be set, with one process that looks after the leases."""

    def __init__(self, queue: TrialQueue) -> None:
        self.queue = queue
        self.now = NOW
        self.steady_s = 0.0
        self.restart()

    def restart(self) -> None:
        self.watch = LeaseWatch(self.queue, now=lambda: self.now, steady=lambda: self.steady_s)

    def pass_s(self, seconds: float) -> None:
        self.steady_s += seconds
        self.now += timedelta(seconds=seconds)

    def set_by(self, seconds: float) -> None:
        self.now += timedelta(seconds=seconds)


@pytest.fixture
def bench() -> Bench:
    return make("memory", "")


@pytest.fixture
def head(bench: Bench) -> Head:
    return Head(bench.queue)


@pytest.fixture
def lease(bench: Bench, head: Head) -> Lease:
    """A lease that was extended after the first look."""
    bench.put(1)
    found = bench.lease(now=head.now)
    assert found is not None
    head.watch.expire(TTL)
    bench.queue.extend(slot(), found, now=head.now, ttl_s=TTL)
    return found


def ended_after(head: Head, step_s: float = 1.0, most_s: float = 1000.0) -> float:
    """Return for how long the worker was silent when its lease had ended, looked at each second."""
    began = head.steady_s
    while not head.watch.expire(TTL):
        assert head.steady_s - began < most_s, "it never ends"
        head.pass_s(step_s)
    return head.steady_s - began


def test_a_silent_lease_ends_when_it_should(lease: Lease, head: Head) -> None:
    assert ended_after(head) == TTL


@pytest.mark.parametrize("by_s", [5.0, HOUR, DAY, -5.0, -HOUR, -30 * DAY])
def test_a_clock_that_is_set_ends_no_lease_too_soon_and_keeps_none_for_long(
    lease: Lease, head: Head, bench: Bench, by_s: float
) -> None:
    head.pass_s(TTL - 1)
    head.set_by(by_s)
    assert head.watch.expire(TTL) == 0
    assert bench.queue.extend(slot(), lease, now=head.now, ttl_s=TTL) is Heartbeat.GO_ON
    assert ended_after(head) == TTL
    assert not bench.queue.complete(slot(), lease, SCORED, now=head.now)


@pytest.mark.parametrize("by_s", [HOUR, -HOUR])
def test_who_begins_to_look_after_the_clock_was_set_looks_as_from_then_on(
    lease: Lease, head: Head, by_s: float
) -> None:
    head.set_by(by_s)
    head.restart()
    assert TTL <= ended_after(head) <= FIRST_TTLS * TTL


def test_a_machine_that_slept_finds_its_leases_as_they_were(lease: Lease, head: Head) -> None:
    head.set_by(8 * HOUR)  # the steady clock stands still meanwhile
    assert head.watch.expire(TTL) == 0


def test_a_first_lease_is_not_cut_short_when_the_clock_is_put_back(
    bench: Bench, head: Head
) -> None:
    bench.put(1)
    head.watch.expire(TTL)
    assert bench.queue.lease(slot(), now=head.now, ttl_s=FIRST_TTLS * TTL) is not None
    head.set_by(-HOUR)
    assert ended_after(head) == FIRST_TTLS * TTL


class ClockMachine(QueueMachine):
    """Any order of calls, while the clock is set by seconds to a month, and two processes of the
    head look after leases, the queue's each second, the controller's now and then."""

    def __init__(self) -> None:
        super().__init__()
        self.head = Head(self.bench.queue)
        self.other = Head(self.bench.queue)
        self.heads = [self.head, self.other]
        self.heard: dict[int, float] = {}
        """When something was heard of each lease, by the steady clock."""
        self.unseen = {0, 1}
        """Those that have not looked since the clock was set, or since they began."""
        self.renewed = 0.0

    @rule(seconds=st.integers(1, 20))
    def time_passes(self, seconds: int) -> None:
        self.now += timedelta(seconds=seconds)
        for head in self.heads:
            head.pass_s(seconds)

    @rule(by_s=st.sampled_from([2.0, 61.0, HOUR, DAY, 30 * DAY]), back=st.booleans())
    def the_clock_is_set(self, by_s: float, back: bool) -> None:
        by_s = -by_s if back else by_s
        self.now += timedelta(seconds=by_s)
        for head in self.heads:
            head.set_by(by_s)
        self.unseen = {0, 1}
        self.look(0)

    # What a slot had reserved may lapse for others while the clock is ahead, and be there again
    # after: it is a wish, and whose it is does not matter as long as work goes out.

    @rule(taker=st.integers(0, 2))
    def reserve(self, taker: int) -> None:
        found = self.bench.queue.reserve(slot(taker), now=self.now, ttl_s=TTL)
        waiting = {f"e{number}.1" for *_, number in self.open_to(taker)}
        assert found is None or (self.is_open(taker) and found.trial in waiting)

    @rule(taker=st.integers(0, 2))
    def lease(self, taker: int) -> None:
        lease = self.bench.queue.lease(slot(taker), now=self.now, ttl_s=TTL, even_avoiding=True)
        waiting = self.open_to(taker) if self.is_open(taker) else []
        first = min((rank for rank, *_ in waiting), default=0)
        urgent = {f"e{item[2]}.1": item for item in waiting if item[0] == first}
        assert (lease is None) == (not urgent)
        if lease is not None:
            taken = urgent[lease.spec.trial]
            self.ready = [item for item in self.ready if item[2] != taken[2]]
            assert lease.token not in self.leased
            self.leased[lease.token] = (taken[2], f"cpu-{taker}", self.now)

    @precondition(lambda self: self.leased)
    @rule(data=st.data())
    def beat(self, data: st.DataObject) -> None:
        token = data.draw(st.sampled_from(sorted(self.leased)))
        number, name, _ = self.leased[token]
        lease = Lease(spec=spec(number), token=token, ttl_s=TTL)
        taker = slot(int(name[-1]))
        answer = self.bench.queue.extend(taker, lease, now=self.now, ttl_s=TTL)
        assert answer is Heartbeat.GO_ON
        self.heard[token] = self.head.steady_s

    @rule(who=st.integers(0, 1))
    def a_process_begins_anew(self, who: int) -> None:
        self.heads[who].restart()
        self.unseen.add(who)

    @rule(who=st.integers(0, 1))
    def look(self, who: int) -> None:
        if who in self.unseen:
            self.unseen.discard(who)
            self.renewed = self.head.steady_s
        ended = self.heads[who].watch.expire(TTL)
        kept = {held.token for held in self.bench.queue.held()}
        lost = set(self.leased) - kept
        assert ended == len(lost)
        for token in lost:
            assert self.silent_s(token) >= TTL, "nobody who is heard of loses a lease"
            self.ended.add(self.leased.pop(token)[0])
        for token in kept:
            is_over = self.head.steady_s - self.renewed >= FIRST_TTLS * TTL
            assert not (is_over and self.silent_s(token) >= TTL), "and nobody keeps one for ever"

    def silent_s(self, token: int) -> float:
        return self.head.steady_s - self.heard[token]

    @rule()
    def expire(self) -> None:
        self.look(0)

    @rule(who=st.integers(0, 1))
    def renew(self, who: int) -> None:
        self.heads[who].watch.renew(TTL)
        self.unseen.discard(who)
        self.renewed = self.head.steady_s

    @invariant()
    def who_has_a_lease_was_heard_of(self) -> None:
        for token in self.leased:
            self.heard.setdefault(token, self.head.steady_s)


@pytest.mark.parametrize("kind", ["memory", "redis"])
def test_any_order_of_calls_while_the_clock_is_set_loses_no_live_lease_and_ends_the_others(
    kind: str, server_url: str
) -> None:
    class Machine(ClockMachine):
        pass

    Machine.kind = kind
    Machine.url = server_url
    run_state_machine_as_test(Machine, settings=MACHINE)
