"""A server that has lost its data while the queue's actor lives."""

import pytest

from cluster.ledger.ledger import LedgerAway
from cluster.ledger.redis_ledger import RedisLedger
from cluster.ledger.redis_store import RedisStore, connect
from cluster.queue.brief import Refusal
from cluster.queue.redis_queue import RedisTrialQueue
from tests.cluster.queue.outage_bench import (
    LEASE_S,
    SCORED,
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

__all__ = ["clock", "leases", "queue", "server"]  # the fixtures


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
        lambda: leases.actor.drain("rig"),
        lambda: leases.actor.refuse(Refusal(node="rig", address="10.0.0.7", reason="old")),
        lambda: leases.actor.goodbye(SLOT, "drained"),  # which is not forgotten: it is away again
    ):
        wait_until(lambda: not is_away(leases))
        with pytest.raises(LedgerAway, match="lost its data"):
            leases.call(ask())
    assert events(server) == []
    assert store.land(store.staging())
