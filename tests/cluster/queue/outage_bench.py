"""The queue's actor over a server that a test may freeze and kill, on a clock of the test's."""

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

from cluster.ledger.redis_ledger import RedisLedger
from cluster.ledger.redis_store import RedisStore, connect
from cluster.queue import queue_actor
from cluster.queue.queue_actor import QueueActor
from cluster.queue.redis_queue import RedisTrialQueue
from cluster.state import events as ev
from infra.local.embedded_server import EmbeddedServer
from infra.local.home import StudyHome
from tests.trainer.trials import cpu_slot, spec
from trainer.ports import Heartbeat, Lease, NoWork, Progress, Slot
from trainer.trial import (
    Ending,
    SlotId,
    TrialOutcome,
    TrialSpec,
)

LEASE_S = 30.0
PATIENCE_S = 20.0
SCORED = TrialOutcome(ending=Ending.SCORED, value=1.5)
SLOT = cpu_slot()
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
