"""Leases of which a slot never heard, and orders that were given up."""

from cluster.ledger.redis_ledger import RedisLedger
from cluster.ledger.redis_store import RedisStore
from cluster.queue.redis_queue import RedisTrialQueue
from cluster.state import events as ev
from tests.cluster.queue.outage_bench import (
    LEASE_S,
    PATIENCE_S,
    SLOT,
    STUDY,
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
from tests.trainer.trials import spec
from trainer.ports import NoWork, Progress

__all__ = ["clock", "leases", "queue", "server"]  # the fixtures


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
