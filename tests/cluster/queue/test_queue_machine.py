"""Each implementation of the queue compared with a model, step by step."""

import uuid
from dataclasses import replace
from datetime import datetime, timedelta

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

from cluster.queue.queue_mode import QueueMode
from cluster.queue.redis_queue import RedisTrialQueue
from cluster.queue.reservations import LAST
from cluster.queue.trial_queue import Depth
from cluster.state import events as ev
from tests.cluster.queue.queue_bench import (
    NOT_HERE,
    NOW,
    ON_GPUS,
    ON_SLOT_1,
    SCORED,
    TTL,
    make,
    slot,
    withdrawal,
)
from tests.trainer.trials import ANYWHERE, spec
from trainer.ports import Heartbeat, Lease
from trainer.trial import (
    Place,
    TrialId,
)

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
