"""Waiting for the memory of cards, over a driver in memory."""

from dataclasses import dataclass, field

import pytest

from trainer.card_memory import CardMemory
from trainer.gpu import Gpu


@dataclass
class FakeGpus:
    """Cards a and b; each look takes the next numbers of used MiB, and the last stays."""

    looks: list[tuple[float, float]]
    count: int = 0

    def look(self) -> tuple[Gpu, ...]:
        self.count += 1
        used = self.looks.pop(0) if len(self.looks) > 1 else self.looks[0]
        return tuple(
            Gpu(uuid=uuid, index=index, name="card", total_mb=24_000, used_mb=used[index])
            for index, uuid in enumerate("ab")
        )


@dataclass
class FakeTime:
    now: float = 0.0
    slept: list[float] = field(default_factory=list)

    def clock(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        self.now += seconds


def make(looks, uuids="a"):
    gpus, time = FakeGpus(looks), FakeTime()
    return CardMemory(uuids, gpus, clock=time.clock, sleep=time.sleep), gpus, time


def test_a_slot_without_cards_waits_for_none() -> None:
    memory, gpus, _ = make([(0, 0)], uuids="")
    memory.wait_until_free()
    assert gpus.count == 0


def test_memory_is_waited_for_until_it_is_back() -> None:
    memory, gpus, time = make([(500, 0), (20_000, 0), (8_000, 0), (600, 0)])
    memory.wait_until_free()
    assert time.slept == []
    memory.wait_until_free()
    assert gpus.count == 4
    assert len(time.slept) == 2


def test_other_cards_do_not_matter_but_all_of_one_s_own_do() -> None:
    memory, gpus, _ = make([(0, 0), (0, 9_000)])
    memory.wait_until_free()
    memory.wait_until_free()
    assert gpus.count == 2
    memory, gpus, _ = make([(0, 0), (0, 9_000), (0, 0)], uuids="ab")
    memory.wait_until_free()
    memory.wait_until_free()
    assert gpus.count == 3


def test_a_stranger_s_memory_is_waited_for_once() -> None:
    memory, _, time = make([(0, 0), (9_000, 0)])
    memory.wait_until_free()
    memory.wait_until_free()
    assert sum(time.slept) == pytest.approx(5.0, abs=0.1)
    time.slept.clear()
    memory.wait_until_free()
    assert time.slept == []


def test_a_card_that_is_lost_is_not_waited_for() -> None:
    memory, gpus, _ = make([(0, 0)], uuids="x")
    memory.wait_until_free()
    memory.wait_until_free()
    assert gpus.count == 2
