"""What a controller makes of nodes that are at fault, over a real server."""

import threading

from cluster.ledger.ledger import load
from cluster.queue.queue_mode import QueueMode
from cluster.queue.redis_queue import RedisTrialQueue
from cluster.state import events as ev
from cluster.state.experiment import Status
from cluster.state.invariants import check
from cluster.state.node_state import NodeStatus
from tests.cluster.bench import Bench, Script, ThreadFleet, bench, edited, statuses
from trainer.ports import Lease, Slot
from trainer.trial import CrashKind, Ending, TrialOutcome

__all__ = ["bench"]  # a fixture


def test_the_modes_of_nodes_are_set_before_workers_ask(bench: Bench) -> None:
    class Watched(ThreadFleet):
        def start(self) -> None:
            queue = RedisTrialQueue(bench.store())
            modes.append([queue.mode(node) for node in ("", "here", "sick")])
            super().start()

    modes: list[list[QueueMode]] = []
    controller = bench.controller(lambda b: Watched(b, 1), Script([edited(A=3)]), experiments=1)
    sick = ev.NodeQuarantined(node="sick", reason="trials fail there")
    bench.ask(sick)
    controller.step()
    controller.run()
    assert modes == [[QueueMode.OPEN, QueueMode.OPEN, QueueMode.HELD]]


def test_a_node_that_kills_all_it_runs_is_found_out_and_its_victims_run_elsewhere(
    bench: Bench,
) -> None:
    class OneSick(ThreadFleet):
        """The second slot is of a node that kills trials, no more of them than the first ends."""

        ended = threading.Semaphore(0)

        def node(self, number: int) -> str:
            return ("here", "sick")[number]

        def outcome(self, lease: Lease, slot: Slot) -> TrialOutcome:
            if slot.node == "here":
                self.ended.release()
                return super().outcome(lease, slot)
            self.ended.acquire(timeout=10)
            return TrialOutcome(ending=Ending.CRASHED, crash=CrashKind.SIGNAL, reason="killed")

        def _serve(self, number: int) -> None:
            while number and not load(bench.ledger).lineage:
                threading.Event().wait(0.01)
            super()._serve(number)

    script = Script(*([edited(A=10 + number)] for number in range(20)))
    controller = bench.controller(lambda b: OneSick(b, 2), script, experiments=20)
    controller.run()
    state = controller.state
    assert state.nodes["sick"].status is NodeStatus.QUARANTINED
    told = [recorded.event for recorded in bench.ledger.read(0)]
    found = next(index for index, e in enumerate(told) if isinstance(e, ev.NodeQuarantined))
    quarantined = told[found]
    assert isinstance(quarantined, ev.NodeQuarantined)
    assert "then the incumbent's own" in quarantined.reason
    assert len(quarantined.reopened) >= 3
    assert set(statuses(state).values()) == {Status.KEPT, Status.DISCARDED}
    later = [event for event in told[found:] if isinstance(event, ev.TrialStarted)]
    assert {event.node for event in later} == {"here"}
    check(state)
