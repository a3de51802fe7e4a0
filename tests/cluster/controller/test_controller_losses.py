"""A server that comes back without what it was told last, under a controller that lives."""

from datetime import UTC, datetime

import pytest

from cluster.ledger.ledger import Emptied, LedgerAway, RolledBack, load
from cluster.ledger.redis_ledger import RedisLedger
from cluster.ledger.redis_store import RedisStore
from cluster.queue.queue_mode import QueueMode
from cluster.queue.redis_queue import RedisTrialQueue
from cluster.state import events as ev
from tests.cluster.bench import Bench, Script, ThreadFleet, bench
from trainer.trial import TrialId

__all__ = ["bench"]  # a fixture
NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)


def test_a_pause_outlasts_a_server_that_lost_what_it_was_told_last(bench: Bench) -> None:
    controller = bench.controller(lambda b: ThreadFleet(b, 0), Script())
    bench.ask(ev.PauseRequested())
    controller.step()
    store = bench.store()
    queue = RedisTrialQueue(store)
    assert queue.mode() is QueueMode.HELD
    store.client.hdel(store.key("meta"), "mode")
    away = [LedgerAway("it is started again")]

    def step() -> None:
        if away:
            raise away.pop()
        controller.step()

    controller._patiently(step)
    assert queue.mode() is QueueMode.HELD


def test_a_controller_does_not_go_on_from_events_that_are_gone(bench: Bench) -> None:
    """1. It reads an event. 2. The server loses that. 3. Somebody's next one gets its number."""
    controller = bench.controller(lambda b: ThreadFleet(b, 0), Script())
    controller.step()
    store = bench.store()
    roll_back(store, to=controller.state.seq - 1)
    bench.ask(ev.PauseRequested())
    assert load(bench.ledger).seq == controller.state.seq
    with pytest.raises(RolledBack, match="`incumbent run` goes on"):
        controller.step()
    assert load(bench.ledger).is_paused
    again = bench.controller(lambda b: ThreadFleet(b, 0), Script())
    again.step()
    assert again.state.is_paused


def test_nothing_is_written_that_follows_from_events_that_are_gone(bench: Bench) -> None:
    store = bench.store()
    ledger, queue = RedisLedger(store), RedisTrialQueue(store)
    epoch = ledger.begin_epoch()
    ledger.append([draft("first"), draft("second")], epoch=epoch)
    last = ledger.read(0)[-1]
    roll_back(store, to=last.seq - 1)
    for write in (
        lambda: ledger.append([draft("third")], epoch=epoch),
        lambda: queue.cancel(TrialId("e1.1"), now=NOW, epoch=epoch),
        lambda: queue.set_mode(QueueMode.HELD, epoch=epoch),
    ):
        with pytest.raises(RolledBack, match="`incumbent run` goes on"):
            write()
    assert RedisLedger(bench.store()).read(0)[-1].id == "first"
    ledger.append([draft("another's")])  # who is not fenced gives its number to another event
    for again in (lambda: None, lambda: ledger.read(0, limit=1), lambda: ledger.read(0)):
        again()  # a look, as others at the same ledger take, changes nothing of that
        with pytest.raises(RolledBack):
            ledger.append([draft("third")], epoch=epoch)
    fresh = RedisLedger(bench.store())
    fresh.read(0)
    fresh.append([draft("third")], epoch=epoch)


def test_a_ledger_that_is_gone_is_noticed_where_it_is_read(bench: Bench) -> None:
    controller = bench.controller(lambda b: ThreadFleet(b, 0), Script())
    controller.step()
    store = bench.store()
    store.client.delete(*store.keys)
    with pytest.raises(Emptied, match="`incumbent rebuild`"):
        controller.step()


def roll_back(store: RedisStore, to: int) -> None:
    """Leave of a study what its server knew when an event was the last."""
    events, ids = store.key("events"), store.key("ids")
    kept = store.client.xrange(events, max=f"{to}-0")
    store.client.delete(events, store.key("ready"), store.key("specs"))
    for entry, fields in kept:
        store.client.xadd(events, fields, id=entry)
    for name, seq in store.client.hgetall(ids).items():
        if int(seq) > to:
            store.client.hdel(ids, name)
    store.client.hset(store.key("meta"), "seq", to)


def draft(name: str) -> ev.Draft:
    return ev.Draft(id=name, at=NOW, event=ev.PauseRequested())
