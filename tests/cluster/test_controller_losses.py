"""A server that comes back without what it was told last, under a controller that lives."""

from cluster import events as ev
from cluster.ledger import LedgerAway
from cluster.queue_mode import QueueMode
from cluster.redis_queue import RedisTrialQueue
from tests.cluster.bench import Bench, Script, ThreadFleet, bench

__all__ = ["bench"]  # a fixture


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
