"""Nodes as the queue actor deals with them: the real actor's class, over a real server."""

import asyncio
import socket
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime
from functools import partial
from typing import TypeVar

import pytest

from cluster.ledger.codec import from_json, to_json
from cluster.ledger.ledger import LedgerAway, load
from cluster.ledger.redis_ledger import RedisLedger
from cluster.ledger.redis_store import RedisStore, connect
from cluster.queue.brief import NodeFacts, Order, Refusal, Versions
from cluster.queue.queue_actor import QueueActor
from cluster.queue.queue_mode import QueueMode
from cluster.queue.redis_queue import RedisTrialQueue
from cluster.queue.trial_queue import Held
from cluster.state import events as ev
from cluster.state.event import Event
from cluster.state.node_state import NodeStatus
from tests.trainer.trials import cpu_slot, spec
from trainer.ports import Heartbeat, Lease, NoWork, Progress
from trainer.trial import Place, SlotId

T = TypeVar("T")
RIG = NodeFacts(
    node="rig", id="a", address="10.0.0.7", versions=Versions.ours(), cpus=8, memory_gb=32.0
)
SLOT = cpu_slot("rig/cpu-0", node="rig")
NONE = -1
"""A patience with which whoever is there has fallen silent."""


class Scene:
    """A queue actor, and what it has recorded."""

    def __init__(self, url: str, study: str) -> None:
        self.store = RedisStore(connect(url), study)
        RedisLedger(self.store).begin_epoch()
        self._url = url
        self._study = study

    def run(self, story: Callable[[QueueActor], Awaitable[T]]) -> T:
        """Tell a story with a new actor."""

        async def told() -> T:
            return await story(QueueActor(self._url, self._study, 30.0))

        return asyncio.run(told())

    @contextmanager
    def no_writes(self) -> Iterator[None]:
        """Have the server take none meanwhile."""
        self.store.client.config_set("min-replicas-to-write", 1)
        try:
            yield
        finally:
            self.store.client.config_set("min-replicas-to-write", 0)

    def recorded(self, kind: type[Event]) -> list[Event]:
        events = [recorded.event for recorded in RedisLedger(self.store).read(0)]
        return [event for event in events if isinstance(event, kind)]


@pytest.fixture
def scene(server_url: str, study_id: str) -> Iterator[Scene]:
    made = Scene(server_url, study_id)
    yield made
    made.store.client.close()


def test_a_node_that_beats_is_recorded_once_and_told_to_go_on(scene: Scene) -> None:
    async def story(actor: QueueActor) -> list[Order]:
        return [await actor.beat(RIG) for _ in range(3)]

    assert scene.run(story) == [Order.GO_ON] * 3
    assert len(scene.recorded(ev.NodeJoined)) == 1


def test_a_second_machine_of_the_same_name_is_told_so_and_changes_nothing(scene: Scene) -> None:
    async def story(actor: QueueActor) -> Order:
        await actor.beat(RIG)
        assert await actor.is_taken(replace(RIG, id="b"))
        assert not await actor.is_taken(RIG)
        assert await actor.names() == {"rig": RIG.id, socket.gethostname(): ""}
        return await actor.beat(replace(RIG, id="b"))

    assert scene.run(story) is Order.TAKEN
    assert len(scene.recorded(ev.NodeJoined)) == 1


def test_a_machine_that_is_called_like_the_head_is_told_so(scene: Scene) -> None:
    async def story(actor: QueueActor) -> Order:
        return await actor.beat(replace(RIG, node=socket.gethostname()))

    assert scene.run(story) is Order.TAKEN
    assert not scene.recorded(ev.NodeJoined)


def test_a_node_that_died_while_the_queue_was_away_is_missed_by_the_next_one(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("cluster.queue.queue_actor.EXPIRE_S", 0.01)
    monkeypatch.setattr("cluster.queue.queue_actor.SILENT_TTLS", 0.01)

    async def joins(actor: QueueActor) -> None:
        actor._tasks = [asyncio.create_task(asyncio.sleep(0))]  # it looks after nobody
        await actor.beat(RIG)

    async def story(actor: QueueActor) -> None:
        await actor.start()
        while not scene.recorded(ev.NodeLeft):
            await asyncio.sleep(0.05)

    scene.run(joins)
    scene.run(story)
    assert scene.recorded(ev.NodeLeft) == [
        ev.NodeLeft(node="rig", reason="fell silent", is_silent=True)
    ]


def test_slots_that_live_on_a_node_that_fell_silent_are_open_again(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("cluster.queue.queue_actor.EXPIRE_S", 0.01)
    monkeypatch.setattr("cluster.queue.queue_actor.SILENT_TTLS", 0.02)

    async def story(actor: QueueActor) -> None:
        await actor.beat(RIG)
        while not scene.recorded(ev.NodeLeft):
            await actor.hello(SLOT)  # its worker is heard of, as after a cut that was short
            await asyncio.sleep(0.01)
        assert not load(RedisLedger(scene.store)).slots[SLOT.id].is_open
        await actor.hello(SLOT)

    scene.run(story)
    assert load(RedisLedger(scene.store)).slots[SLOT.id].is_open


def test_what_goes_wrong_once_does_not_end_the_looking_for_silence(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("cluster.queue.queue_actor.EXPIRE_S", 0.01)
    looks: list[int] = []

    async def story(actor: QueueActor) -> None:
        def look() -> None:
            looks.append(len(looks))
            raise RuntimeError("the server says something that nobody has thought of")

        monkeypatch.setattr(actor, "_look_for_silence", look)
        await actor.start()
        while len(looks) < 3:
            await asyncio.sleep(0.01)

    scene.run(story)


def test_what_goes_wrong_once_does_not_end_the_looking_for_work(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    looks: list[int] = []

    def look(_: RedisTrialQueue) -> None:
        looks.append(len(looks))
        raise RuntimeError("the server says something that nobody has thought of")

    async def story(actor: QueueActor) -> None:
        await actor.start()
        monkeypatch.setattr(RedisTrialQueue, "depth", look)
        waiting = asyncio.create_task(actor.lease(SLOT, 60.0))
        while len(looks) < 3:
            await asyncio.sleep(0.01)
        waiting.cancel()

    scene.run(story)


def test_what_goes_wrong_as_a_server_comes_back_does_not_end_the_looking_for_silence(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("cluster.queue.queue_actor.EXPIRE_S", 0.01)
    held = RedisTrialQueue.held
    asked: list[int] = []

    def odd_at_first(self: RedisTrialQueue) -> Sequence[Held]:
        asked.append(len(asked))
        if len(asked) < 3:
            raise RuntimeError("the server says something that nobody has thought of")
        return held(self)

    monkeypatch.setattr(RedisTrialQueue, "held", odd_at_first)

    async def story(actor: QueueActor) -> None:
        actor.outage.begin(LedgerAway("gone"))
        await actor.start()
        watch = actor._tasks[1]
        while actor.outage.reason:
            assert not watch.done(), "no lease would ever run out"
            await asyncio.sleep(0.01)

    scene.run(story)
    assert len(asked) == 3


def by_hand(actor: QueueActor) -> None:
    """Have an actor look for silence when the test says so."""
    actor._tasks = [asyncio.create_task(asyncio.sleep(0))]


@pytest.fixture
def patience(monkeypatch: pytest.MonkeyPatch) -> Callable[[int], None]:
    """Return what says for how many lease times one may be silent."""
    return partial(monkeypatch.setattr, "cluster.queue.queue_actor.SILENT_TTLS")


def test_ends_that_could_not_be_recorded_are_recorded_at_the_next_look(
    scene: Scene, patience: Callable[[int], None]
) -> None:
    async def story(actor: QueueActor) -> None:
        by_hand(actor)
        await actor.hello(cpu_slot("cpu-0", node="head"))
        await actor.hello(cpu_slot("cpu-1", node="head"))
        await actor.beat(RIG)
        await actor.beat(replace(RIG, node="other", id="b"))
        actor._look_for_silence()
        patience(NONE)
        for _ in range(2):
            with scene.no_writes(), pytest.raises(LedgerAway):
                actor._look_for_silence()
        actor._look_for_silence()
        actor._look_for_silence()

    scene.run(story)
    closed, left = scene.recorded(ev.SlotClosed), scene.recorded(ev.NodeLeft)
    assert closed == [ev.SlotClosed(slot=SlotId(f"cpu-{n}"), reason="fell silent") for n in (0, 1)]
    assert left == [
        ev.NodeLeft(node=node, reason="fell silent", is_silent=True) for node in ("rig", "other")
    ]


def test_of_nodes_that_fall_silent_at_once_none_is_missed_when_one_cannot_be_recorded(
    scene: Scene, patience: Callable[[int], None]
) -> None:
    async def story(actor: QueueActor) -> None:
        by_hand(actor)
        await actor.beat(RIG)
        await actor.beat(replace(RIG, node="other", id="b"))
        actor._look_for_silence()
        patience(NONE)
        with scene.no_writes(), pytest.raises(LedgerAway):
            actor._look_for_silence()
        actor._look_for_silence()

    scene.run(story)
    nodes = load(RedisLedger(scene.store)).nodes
    assert [nodes[name].status for name in ("rig", "other")] == [NodeStatus.LEFT] * 2


def test_a_farewell_that_could_not_be_recorded_is_recorded_at_the_next_look(scene: Scene) -> None:
    head = cpu_slot("cpu-0", node="head")

    async def story(actor: QueueActor) -> None:
        by_hand(actor)
        await actor.beat(RIG)
        await actor.hello(SLOT)
        await actor.hello(head)
        for farewell in (actor.goodbye(head, "drained"), actor.part("rig", "asked to leave")):
            with scene.no_writes(), pytest.raises(LedgerAway):
                await farewell
            assert await actor._is_back()
        actor._look_for_silence()

    scene.run(story)
    assert scene.recorded(ev.SlotClosed) == [
        ev.SlotClosed(slot=head.id, reason="drained"),
        ev.SlotClosed(slot=SLOT.id, reason="asked to leave"),
    ]
    assert scene.recorded(ev.NodeLeft) == [ev.NodeLeft(node="rig", reason="asked to leave")]


def test_who_comes_again_before_its_end_could_be_recorded_is_there(scene: Scene) -> None:
    async def story(actor: QueueActor) -> None:
        by_hand(actor)
        await actor.beat(RIG)
        await actor.hello(SLOT)
        with scene.no_writes(), pytest.raises(LedgerAway):
            await actor.part("rig", "drained")
        assert await actor._is_back()
        assert await actor.beat(RIG) is Order.GO_ON
        await actor.hello(SLOT)
        actor._look_for_silence()

    scene.run(story)
    state = load(RedisLedger(scene.store))
    assert state.nodes["rig"].status is NodeStatus.JOINED
    assert state.slots[SLOT.id].is_open
    assert len(scene.recorded(ev.NodeLeft)) == 1


def test_a_slot_that_is_heard_of_before_its_end_could_be_recorded_is_open_again(
    scene: Scene, patience: Callable[[int], None]
) -> None:
    epoch = RedisLedger(scene.store).begin_epoch()
    queue = RedisTrialQueue(scene.store)

    async def story(actor: QueueActor) -> None:
        by_hand(actor)
        actor._look_for_silence()
        queue.put(spec(1), priority=0, now=datetime.now(UTC), epoch=epoch)
        lease = await actor.lease(SLOT, 0.0)
        patience(NONE)
        with scene.no_writes():
            with pytest.raises(LedgerAway) as away:
                actor._look_for_silence()
            actor.outage.begin(away.value)
            assert await actor.heartbeat(SLOT, lease, Progress(elapsed_s=1.0)) is Heartbeat.GO_ON
        patience(3)
        assert await actor._is_back()
        actor._look_for_silence()
        assert await actor.heartbeat(SLOT, lease, Progress(elapsed_s=2.0)) is Heartbeat.GO_ON

    scene.run(story)
    told = [type(event) for event in scene.recorded(Event)]
    of_the_slot = [kind for kind in told if kind in {ev.SlotOpened, ev.SlotClosed}]
    assert of_the_slot == [ev.SlotOpened, ev.SlotClosed, ev.SlotOpened]


def test_a_node_that_is_drained_gets_no_work_and_is_told_to_leave(scene: Scene) -> None:
    epoch = RedisLedger(scene.store).begin_epoch()

    async def story(actor: QueueActor) -> tuple[Order, object]:
        await actor.beat(RIG)
        await actor.drain("rig")
        RedisTrialQueue(scene.store).set_node_mode("rig", QueueMode.DRAINING, epoch=epoch)
        return await actor.beat(RIG), await actor.lease(SLOT, 0.0)

    assert scene.run(story) == (Order.LEAVE, NoWork.STOP)
    assert scene.recorded(ev.DrainRequested) == [ev.DrainRequested(node="rig")]


def test_a_node_that_asks_to_leave_is_let_go_without_a_controller(scene: Scene) -> None:
    epoch = RedisLedger(scene.store).begin_epoch()
    queue = RedisTrialQueue(scene.store)
    other = replace(SLOT, id=SlotId("cpu-0"), node="head")

    async def story(actor: QueueActor) -> None:
        await actor.beat(RIG)
        await actor.hello(SLOT)
        for _ in range(3):  # it cannot know whether it was heard
            await actor.drain("rig")
        queue.put(spec(1), priority=0, now=datetime.now(UTC), epoch=epoch)
        assert await actor.beat(RIG) is Order.LEAVE
        assert await actor.reserve(SLOT) is None
        assert await actor.lease(SLOT, 0.0) is NoWork.STOP
        assert isinstance(await actor.lease(other, 0.0), Lease)
        await actor.part("rig", "drained")
        queue.put(spec(2), priority=0, now=datetime.now(UTC), epoch=epoch)
        assert await actor.beat(RIG) is Order.GO_ON, "it has come again"
        assert isinstance(await actor.lease(SLOT, 0.0), Lease)

    scene.run(story)
    assert scene.recorded(ev.DrainRequested) == [ev.DrainRequested(node="rig")]


def test_of_two_idle_slots_the_one_elsewhere_gets_what_was_lost_on_a_node(scene: Scene) -> None:
    epoch = RedisLedger(scene.store).begin_epoch()
    queue = RedisTrialQueue(scene.store)
    other = replace(SLOT, id=SlotId("cpu-0"), node="head")

    def put(number: int) -> None:
        lost_there = replace(spec(number), place=Place(avoid="rig"))
        queue.put(lost_there, priority=0, now=datetime.now(UTC), epoch=epoch)

    async def story(actor: QueueActor) -> None:
        first = asyncio.create_task(actor.lease(SLOT, 60.0))
        second = asyncio.create_task(actor.lease(other, 60.0))
        while actor._waiting < 2:
            await asyncio.sleep(0.01)
        put(1)
        assert isinstance(await second, Lease)
        assert not first.done()
        first.cancel()
        put(2)
        assert isinstance(await actor.lease(SLOT, 0.2), Lease), "there is nobody else"

    scene.run(story)


def test_nodes_stay_while_a_study_stops_so_that_they_are_there_when_it_goes_on(
    scene: Scene,
) -> None:
    epoch = RedisLedger(scene.store).begin_epoch()

    async def story(actor: QueueActor) -> Order:
        RedisTrialQueue(scene.store).set_mode(QueueMode.DRAINING, epoch=epoch)
        return await actor.beat(RIG)

    assert scene.run(story) is Order.GO_ON


def test_a_node_that_parts_takes_its_slots_along(scene: Scene) -> None:
    async def story(actor: QueueActor) -> None:
        await actor.beat(RIG)
        await actor.hello(SLOT)
        await actor.hello(replace(SLOT, id=SlotId("cpu-0"), node="head"))
        await actor.part("rig", "drained")
        await actor.part("rig", "drained")

    scene.run(story)
    assert scene.recorded(ev.SlotClosed) == [ev.SlotClosed(slot=SLOT.id, reason="drained")]
    assert scene.recorded(ev.NodeLeft) == [ev.NodeLeft(node="rig", reason="drained")]


def test_what_a_node_that_parts_had_leased_is_given_back_at_once(scene: Scene) -> None:
    epoch = RedisLedger(scene.store).begin_epoch()
    queue = RedisTrialQueue(scene.store)
    for number in (1, 2):
        queue.put(spec(number), priority=0, now=datetime.now(UTC), epoch=epoch)

    async def story(actor: QueueActor) -> None:
        await actor.beat(RIG)
        await actor.lease(SLOT, 0.0)
        await actor.lease(replace(SLOT, id=SlotId("cpu-0"), node="head"), 0.0)
        await actor.part("rig", "left at once")

    scene.run(story)
    (lost,) = scene.recorded(ev.TrialLost)
    assert isinstance(lost, ev.TrialLost)
    assert lost.is_given_back
    assert lost.reason == "rig left: left at once"
    assert [held.node for held in queue.held()] == ["head"]


def test_why_a_machine_does_not_fit_is_in_the_ledger(scene: Scene) -> None:
    refusal = Refusal(node="old", address="10.0.0.8", reason="Ray 2.60.0 there, 2.9.0 here")

    async def story(actor: QueueActor) -> None:
        await actor.refuse(refusal)

    scene.run(story)
    (refused,) = scene.recorded(ev.NodeRefused)
    assert refused == ev.NodeRefused(node="old", address="10.0.0.8", reason=refusal.reason)


def test_facts_of_a_node_survive_the_wire() -> None:
    assert from_json(NodeFacts, to_json(RIG)) == RIG
