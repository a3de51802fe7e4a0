"""A store that goes away and comes back, under a real queue actor and a real server.

The actor runs on a loop of its own, as under Ray; the clock of leases is the test's.
"""

import threading
from datetime import timedelta

import pytest

from cluster.ledger.ledger import LedgerAway
from cluster.ledger.patience import patiently
from cluster.queue.queue_mode import QueueMode
from cluster.queue.redis_queue import RedisTrialQueue
from cluster.state import events as ev
from tests.cluster.queue.outage_bench import (
    LEASE_S,
    PATIENCE_S,
    SCORED,
    SLOT,
    ActorLeases,
    Clock,
    Server,
    clock,
    events,
    idle_slot,
    is_away,
    leased,
    leases,
    queue,
    server,
    wait_until,
)
from trainer.hold import Hold
from trainer.outbox import Outbox
from trainer.ports import Heartbeat, Lease, Progress, Slot
from trainer.results_here import ResultsHere

__all__ = ["clock", "leases", "queue", "server"]  # the fixtures


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
