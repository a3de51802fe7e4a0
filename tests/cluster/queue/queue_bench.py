"""A trial queue of each implementation, and the ledger below it."""

import uuid
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime

import pytest

from cluster.ledger.ledger import InMemoryLedger, Ledger
from cluster.ledger.redis_ledger import RedisLedger
from cluster.ledger.redis_store import RedisStore, connect
from cluster.queue.redis_queue import RedisTrialQueue
from cluster.queue.trial_queue import InMemoryTrialQueue, TrialQueue
from cluster.state import events as ev
from tests.cluster.redis_user import restricted
from tests.trainer.trials import ANYWHERE, spec
from trainer.ports import Lease, Slot
from trainer.trial import (
    Ending,
    ExperimentId,
    Place,
    SlotId,
    TrialOutcome,
)

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)
TTL = 30.0
ON_GPUS = Place(device_class="gpu|H200")
ON_SLOT_1 = Place(slot=SlotId("cpu-1"))
NOT_HERE = Place(avoid="here")


def slot(number: int = 0, incarnation: str = "") -> Slot:
    return Slot(
        id=SlotId(f"cpu-{number}"),
        incarnation=incarnation or f"first-{number}",
        node="there" if number == 2 else "here",
        device="cpu",
        device_class="gpu|H200" if number == 2 else "cpu",
    )


SCORED = TrialOutcome(ending=Ending.SCORED, value=1.5)
GIVEN_BACK = TrialOutcome(ending=Ending.LOST, reason="given back", is_given_back=True)
VANISHED = TrialOutcome(ending=Ending.LOST, reason="the supervisor vanished")


@dataclass
class Bench:
    """A queue, the ledger below it, and the epoch of its controller."""

    queue: TrialQueue
    ledger: Ledger
    epoch: int = field(init=False)

    def __post_init__(self) -> None:
        self.epoch = self.ledger.begin_epoch()

    def put(
        self, number: int, priority: int = 0, attempt: int = 1, place: Place = ANYWHERE
    ) -> None:
        self.queue.put(spec(number, attempt, place), priority=priority, now=NOW, epoch=self.epoch)

    def lease(self, taker: Slot | None = None, now: datetime = NOW) -> Lease | None:
        return self.queue.lease(taker or slot(), now=now, ttl_s=TTL)

    def reserve(self, number: int, now: datetime = NOW) -> str | None:
        found = self.queue.reserve(slot(number), now=now, ttl_s=TTL)
        return found.trial if found else None

    def leased(self, number: int, now: datetime = NOW) -> str | None:
        found = self.lease(slot(number), now)
        return found.spec.trial if found else None

    def told(self) -> list[str]:
        return [type(recorded.event).__name__ for recorded in self.ledger.read(0)]

    def last(self) -> ev.Event:
        return self.ledger.read(0)[-1].event


def make(kind: str, url: str) -> Bench:
    if kind == "memory":
        ledger = InMemoryLedger()
        return Bench(InMemoryTrialQueue(ledger), ledger)
    url = restricted(url) if kind == "user" else url
    store = RedisStore(connect(url), f"test-{uuid.uuid4().hex[:12]}")
    return Bench(RedisTrialQueue(store), RedisLedger(store))


@pytest.fixture(params=["memory", "redis", "user"])
def bench(request: pytest.FixtureRequest, server_url: str) -> Iterator[Bench]:
    made = make(request.param, server_url)
    yield made
    if isinstance(made.queue, RedisTrialQueue):
        made.queue._store.client.close()


def withdrawal(number: int, attempt: int = 1) -> ev.Draft:
    event = ev.ExperimentReturned(experiment=ExperimentId(f"e{number}"), reason="stale")
    return ev.Draft(id=f"e{number}/returned/{attempt}", at=NOW, event=event)
