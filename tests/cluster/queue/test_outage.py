"""A store that goes away and comes back, under a real queue actor and a real server.

The actor runs on a loop of its own, as under Ray; the clock of leases is the test's.
"""

import asyncio
import os
import signal
import threading
from collections.abc import Callable, Coroutine, Iterator
from concurrent.futures import Future
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from cluster.ledger.ledger import LedgerAway
from cluster.ledger.patience import patiently
from cluster.ledger.redis_ledger import RedisLedger
from cluster.ledger.redis_store import RedisStore, connect
from cluster.queue import queue_actor
from cluster.queue.brief import Refusal
from cluster.queue.queue_actor import QueueActor
from cluster.queue.queue_mode import QueueMode
from cluster.queue.redis_queue import RedisTrialQueue
from cluster.state import events as ev
from infra.local.embedded_server import EmbeddedServer
from infra.local.home import StudyHome
from trainer.hold import Hold
from trainer.outbox import Outbox
from trainer.ports import Heartbeat, Lease, NoWork, Progress, Slot
from trainer.results_here import ResultsHere
from trainer.trial import (
    CommitId,
    Ending,
    ExperimentId,
    SlotId,
    TrialId,
    TrialOutcome,
    TrialSpec,
)

LEASE_S = 30.0
PATIENCE_S = 20.0
SCORED = TrialOutcome(ending=Ending.SCORED, value=1.5)
SLOT = Slot(id=SlotId("cpu-0"), incarnation="a", node="here", device="cpu", device_class="cpu")
STUDY = "outage"


class Clock:
    """Everybody's time: it stands still but for the test."""

    def __init__(self) -> None:
        self.now = datetime(2026, 3, 1, tzinfo=UTC)

    def __call__(self) -> datetime:
        return self.now

    def seconds(self) -> float:
        return self.now.timestamp()

    def pass_s(self, seconds: float) -> None:
        self.now += timedelta(seconds=seconds)


class Server:
    """A server that a test may stop in its tracks, kill and start."""

    def __init__(self, home: StudyHome) -> None:
        self.embedded = EmbeddedServer(home)
        self.start()

    def start(self) -> None:
        self.client = self.embedded.ensure()
        self.pid = int(self.client.info("server")["process_id"])

    def freeze(self) -> None:
        os.kill(self.pid, signal.SIGSTOP)

    def thaw(self) -> None:
        os.kill(self.pid, signal.SIGCONT)

    def kill(self) -> None:
        os.kill(self.pid, signal.SIGKILL)

    def go(self, how: str) -> None:
        self.freeze() if how == "frozen" else self.kill()

    def come_back(self, how: str) -> None:
        self.thaw() if how == "frozen" else self.start()


class ActorLeases:
    """trainer.ports.LeaseSource over the actor, as cluster.nodes.worker_actor's is over Ray."""

    def __init__(self, url: str) -> None:
        self.loop = asyncio.new_event_loop()
        self.thread = threading.Thread(target=self.loop.run_forever, daemon=True)
        self.thread.start()
        self.restart(url)

    def restart(self, url: str) -> None:
        self.actor = QueueActor(url, STUDY, LEASE_S)

    def begin(self, ask: Coroutine[Any, Any, Any]) -> Future[Any]:
        return asyncio.run_coroutine_threadsafe(ask, self.loop)

    def call(self, ask: Coroutine[Any, Any, Any]) -> Any:
        return self.begin(ask).result(timeout=PATIENCE_S)

    def hello(self, slot: Slot) -> None:
        self.call(self.actor.hello(slot))

    def lease(self, slot: Slot, wait_s: float) -> Lease | NoWork:
        found: Lease | NoWork = self.call(self.actor.lease(slot, wait_s))
        return found

    def reserve(self, slot: Slot, patience_s: float = PATIENCE_S) -> TrialSpec | None:
        found: TrialSpec | None = self.call(self.actor.reserve(slot))
        return found

    def heartbeat(
        self, slot: Slot, lease: Lease, progress: Progress, patience_s: float = PATIENCE_S
    ) -> Heartbeat:
        answer: Heartbeat = self.call(self.actor.heartbeat(slot, lease, progress))
        return answer

    def complete(
        self, slot: Slot, lease: Lease, outcome: TrialOutcome, patience_s: float = PATIENCE_S
    ) -> bool:
        accepted: bool = self.call(self.actor.complete(slot, lease, outcome))
        return accepted

    def close(self) -> None:
        self.call(_end_others())
        self.loop.call_soon_threadsafe(self.loop.stop)
        self.thread.join()
        self.loop.close()


async def _end_others() -> None:
    others = asyncio.all_tasks() - {asyncio.current_task()}
    for task in others:
        task.cancel()
    await asyncio.gather(*others, return_exceptions=True)


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(queue_actor, "_now", clock)
    monkeypatch.setattr(queue_actor, "_steady", clock.seconds)
    monkeypatch.setattr(queue_actor, "EXPIRE_S", 0.02)
    monkeypatch.setattr(queue_actor, "ANSWER_S", 0.3)
    return clock


@pytest.fixture
def server(tmp_path: Path, incumbent_home: Path) -> Iterator[Server]:
    home = StudyHome(name=STUDY, repository=tmp_path, directory=tmp_path / "study")
    home.create()
    server = Server(home)
    yield server
    server.thaw()
    server.embedded.ensure().shutdown(nosave=True)


@pytest.fixture
def leases(server: Server, clock: Clock) -> Iterator[ActorLeases]:
    leases = ActorLeases(server.embedded.url)
    yield leases
    leases.close()


@pytest.fixture
def queue(server: Server, clock: Clock) -> RedisTrialQueue:
    """The controller's, with two trials."""
    store = RedisStore(connect(server.embedded.url), STUDY)
    queue = RedisTrialQueue(store)
    epoch = RedisLedger(store).begin_epoch()
    for number in range(2):
        queue.put(spec(number), priority=0, now=clock(), epoch=epoch)
    return queue


def spec(number: int) -> TrialSpec:
    return TrialSpec(
        trial=TrialId(f"e{number}.1"),
        experiment=ExperimentId(f"e{number}"),
        attempt=1,
        commit=CommitId("a" * 40),
        seed=1,
        budget_s=1.0,
        timeout_s=2.0,
    )


def events(server: Server) -> list[ev.Event]:
    ledger = RedisLedger(RedisStore(connect(server.embedded.url), STUDY))
    return [recorded.event for recorded in ledger.read(0)]


def leased(leases: ActorLeases) -> Lease:
    found = leases.lease(SLOT, 0.0)
    assert isinstance(found, Lease)
    return found


def wait_until(holds: Callable[[], bool]) -> None:
    done = threading.Event()
    for _ in range(int(PATIENCE_S / 0.02)):
        if holds():
            return
        done.wait(0.02)
    raise AssertionError("it never came to be")


def idle_slot(number: int) -> Slot:
    return replace(SLOT, id=SlotId(f"cpu-{number + 1}"))


def is_away(leases: ActorLeases) -> bool:
    return bool(leases.actor.outage.reason)


def test_a_queue_that_is_started_again_after_the_clock_was_put_back_ends_silent_leases(
    server: Server, leases: ActorLeases, clock: Clock, queue: RedisTrialQueue
) -> None:
    leased(leases)
    before = clock()
    clock.pass_s(-3600.0)
    leases.restart(server.embedded.url)
    leases.call(leases.actor.start())

    def is_over() -> bool:
        clock.pass_s(LEASE_S)
        return not queue.held()

    wait_until(is_over)
    assert clock() < before, "not only when it is again as late as it was"


HOW = pytest.mark.parametrize("how", ["frozen", "killed"])


@HOW
def test_a_trial_that_ran_through_an_outage_is_accepted(
    how: str, server: Server, leases: ActorLeases, queue: RedisTrialQueue, clock: Clock
) -> None:
    lease = leased(leases)
    hold = Hold(leases, SLOT, lease, clock.seconds)
    outbox = Outbox(
        *(SLOT, leases, ResultsHere()),
        clock=clock.seconds,
        sleep=lambda _: wait_until(lambda: not is_away(leases)),
    )
    server.go(how)
    for _ in range(90):  # three times as long as the lease is good for
        clock.pass_s(2.0)
        assert not hold.beat()
    assert hold.order is Heartbeat.GO_ON
    outbox.put(lease, SCORED)  # it ends while nobody can take its outcome
    outbox.offer()
    server.come_back(how)
    wait_until(lambda: not is_away(leases))
    outbox.empty()
    [outcome] = [event for event in events(server) if isinstance(event, ev.TrialFinished)]
    assert outcome.outcome == SCORED
    assert not [event for event in events(server) if isinstance(event, ev.TrialLost)]


@HOW
def test_what_nobody_asks_after_is_lost_all_the_same_once_the_grace_is_over(
    how: str, server: Server, leases: ActorLeases, queue: RedisTrialQueue, clock: Clock
) -> None:
    lease = leased(leases)
    server.go(how)
    leases.heartbeat(SLOT, lease, Progress(elapsed_s=1.0))
    clock.pass_s(200.0)
    server.come_back(how)
    wait_until(lambda: not is_away(leases))
    [held] = queue.held()
    assert held.expires_at == clock() + timedelta(seconds=LEASE_S)
    clock.pass_s(LEASE_S + 1)
    wait_until(lambda: queue.held() == [])
    assert isinstance(events(server)[-1], ev.TrialLost)
    assert leases.heartbeat(SLOT, lease, Progress(elapsed_s=1.0)) is Heartbeat.GONE


def test_others_are_answered_at_once_while_a_server_hangs(
    server: Server, leases: ActorLeases, queue: RedisTrialQueue, clock: Clock
) -> None:
    lease = leased(leases)
    server.freeze()
    leases.heartbeat(SLOT, lease, Progress(elapsed_s=1.0))
    assert is_away(leases)
    for _ in range(200):  # each of which would take 0.3 s if the server were asked
        assert leases.heartbeat(SLOT, lease, Progress(elapsed_s=1.0)) is Heartbeat.GO_ON
        with pytest.raises(LedgerAway):
            leases.complete(SLOT, lease, SCORED)


def test_of_all_that_wait_for_work_one_asks_a_server_that_hangs(
    server: Server,
    leases: ActorLeases,
    queue: RedisTrialQueue,
    clock: Clock,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Whoever asks holds up all others: heartbeats too, until trials would end themselves."""
    held, _ = leased(leases), leases.lease(idle_slot(0), 0.0)
    asked: list[str] = []
    mode = RedisTrialQueue.mode

    def counted(self: RedisTrialQueue, node: str = "") -> QueueMode:
        if threading.current_thread() is leases.thread:
            asked.append(node)
        return mode(self, node)

    waiting = [leases.begin(leases.actor.lease(idle_slot(n), 1.0)) for n in range(1, 13)]
    leases.call(leases.actor.ping())  # by now, all of them wait
    monkeypatch.setattr(RedisTrialQueue, "mode", counted)
    server.freeze()
    wait_until(lambda: is_away(leases))
    asked.clear()
    for each in waiting:
        with pytest.raises(LedgerAway):
            each.result(timeout=PATIENCE_S)
    assert asked == []
    assert leases.heartbeat(SLOT, held, Progress(elapsed_s=1.0)) is Heartbeat.GO_ON


def test_a_right_that_is_taken_away_under_a_study_is_an_outage(
    server: Server, leases: ActorLeases, queue: RedisTrialQueue, clock: Clock
) -> None:
    lease = leased(leases)
    server.client.execute_command("ACL", "SETUSER", "default", "-zadd")
    assert leases.heartbeat(SLOT, lease, Progress(elapsed_s=1.0)) is Heartbeat.GO_ON
    with pytest.raises(LedgerAway, match="does not let its user run"):
        leases.complete(SLOT, lease, SCORED)
    clock.pass_s(200.0)
    server.client.execute_command("ACL", "SETUSER", "default", "+zadd")
    wait_until(lambda: not is_away(leases))
    assert leases.complete(SLOT, lease, SCORED)


def test_only_who_held_the_lease_may_go_on(
    server: Server, leases: ActorLeases, queue: RedisTrialQueue, clock: Clock
) -> None:
    lease = leased(leases)
    server.kill()
    newer = Slot(id=SLOT.id, incarnation="b", node="here", device="cpu", device_class="cpu")
    for slot, token in ((newer, lease.token), (SLOT, lease.token - 1)):
        other = Lease(spec=lease.spec, token=token, ttl_s=LEASE_S)
        with pytest.raises(LedgerAway):
            leases.heartbeat(slot, other, Progress(elapsed_s=1.0))


def test_an_actor_that_knows_nothing_promises_nothing(
    server: Server, leases: ActorLeases, queue: RedisTrialQueue, clock: Clock
) -> None:
    lease = leased(leases)
    leases.restart(server.embedded.url)
    server.kill()
    with pytest.raises(LedgerAway):
        leases.heartbeat(SLOT, lease, Progress(elapsed_s=1.0))


def test_a_trial_leased_to_an_order_that_was_given_up_is_given_back(
    server: Server, leases: ActorLeases, queue: RedisTrialQueue, clock: Clock
) -> None:
    first = leased(leases)
    # As a server does that was frozen when the order came, and reads it once it goes on.
    unheard = queue.lease(SLOT, now=clock(), ttl_s=4 * LEASE_S)
    assert unheard is not None
    server.freeze()
    leases.heartbeat(SLOT, first, Progress(elapsed_s=1.0))
    server.thaw()
    wait_until(lambda: not is_away(leases))
    assert [held.token for held in queue.held()] == [first.token]
    last = events(server)[-1]
    assert isinstance(last, ev.TrialLost)
    assert (last.trial, last.is_given_back) == (unheard.spec.trial, True)


def test_a_result_of_before_a_server_lost_its_data_is_not_that_of_another_trial(
    server: Server, leases: ActorLeases, queue: RedisTrialQueue, clock: Clock
) -> None:
    old = leased(leases)
    server.client.flushall()
    epoch = RedisLedger(RedisStore(server.client, STUDY)).begin_epoch()
    for number in (7, 8):  # a token is one more than what was queued and leased before
        queue.put(spec(number), priority=0, now=clock(), epoch=epoch)
    new = queue.lease(idle_slot(1), now=clock(), ttl_s=LEASE_S)
    assert new is not None
    assert (new.token, new.spec.trial) == (old.token, "e7.1")
    assert not leases.complete(SLOT, old, SCORED)
    assert [held.spec.trial for held in queue.held()] == ["e7.1"]


def test_nothing_is_written_into_a_ledger_that_was_lost(
    server: Server, leases: ActorLeases, queue: RedisTrialQueue, clock: Clock
) -> None:
    """What lies in it would be taken for a ledger, and keep the real one from being put back."""
    leases.hello(SLOT)
    server.client.flushall()
    store = RedisStore(connect(server.embedded.url), STUDY)
    for ask in (
        lambda: leases.actor.hello(idle_slot(1)),
        lambda: leases.actor.goodbye(SLOT, "drained"),
        lambda: leases.actor.drain("rig"),
        lambda: leases.actor.refuse(Refusal(node="rig", address="10.0.0.7", reason="old")),
    ):
        wait_until(lambda: not is_away(leases))
        with pytest.raises(LedgerAway, match="lost its data"):
            leases.call(ask())
    assert events(server) == []
    assert store.land(store.staging())


def test_a_lease_that_its_slot_never_heard_of_is_given_back_when_it_asks_anew(
    server: Server, leases: ActorLeases, queue: RedisTrialQueue, clock: Clock
) -> None:
    lost = leased(leases)
    leases.lease(idle_slot(1), 0.0)
    leases.hello(SLOT)
    assert [held.slot for held in queue.held()] == [idle_slot(1).id]
    last = events(server)[-1]
    assert isinstance(last, ev.TrialLost)
    assert (last.trial, last.is_given_back) == (lost.spec.trial, True)
    assert leases.lease(SLOT, 0.0) is NoWork.WAIT


def test_an_order_that_was_given_up_gets_no_lease(
    server: Server, leases: ActorLeases, queue: RedisTrialQueue, clock: Clock
) -> None:
    for number in range(2):
        leases.lease(idle_slot(number), 0.0)
    given_up = leases.begin(leases.actor.lease(SLOT, PATIENCE_S))
    leases.hello(SLOT)
    epoch = RedisLedger(RedisStore(server.client, STUDY)).begin_epoch()
    queue.put(spec(7), priority=0, now=clock(), epoch=epoch)
    assert given_up.result(timeout=PATIENCE_S) is NoWork.WAIT
    assert len(queue.held()) == 2
    assert leased(leases).spec.trial == "e7.1"


def test_whoever_waits_for_a_server_renews_leases_before_anything_else() -> None:
    done: list[str] = []

    def act() -> None:
        if len(done) < 3:
            done.append("away")
            raise LedgerAway("gone")
        done.append("acted")

    def revive() -> None:
        done.append("revived")
        raise LedgerAway("it lives, and does not answer")

    patiently(act, revive=revive, renew=lambda: done.append("renewed"))
    assert done == ["away", "revived", "renewed", "acted"]
