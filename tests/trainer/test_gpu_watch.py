"""Whose memory it is, and when cards are looked at."""

from dataclasses import dataclass, field

import pytest

from trainer.gpu_watch import GpuWatch
from trainer.telemetry import GpuSample

MARKS = {1: "mar5/gpu-0/e1.1", 2: "mar5/gpu-1/e2.1", 3: "mar55/gpu-0/e1.1", 4: ""}
"""Our trial, one of another slot, one of another study, and a process without a mark."""


@dataclass
class Cards:
    """Cards that show one sample after the other, the last for ever."""

    samples: list[GpuSample]
    looked_at: list[str] = field(default_factory=list)

    def sample(self, uuid: str) -> GpuSample:
        self.looked_at.append(uuid)
        return self.samples.pop(0) if len(self.samples) > 1 else self.samples[0]


def watch(*samples, uuids=("GPU-a",), **values):
    clock = iter(range(10_000))
    cards = Cards(list(samples) or [GpuSample()])
    given = {"mark_prefix": "mar5/gpu-0/", "mark_of": MARKS.get, "clock": lambda: next(clock)}
    return GpuWatch(cards, uuids, **{**given, **values}), cards


def seen(*samples, **values):
    """Return what is told of a trial during which the card was sampled like this."""
    found, _ = watch(GpuSample(), *samples, GpuSample(), **values)
    found.begin()
    for _ in samples:
        found.look()
    return found.end()


def test_memory_is_told_by_the_marks_of_the_processes():
    found = seen(GpuSample(used_mb=999, processes={1: 400, 2: 300, 3: 20, 4: 3}))
    assert (found.vram_peak_mb, found.is_vram_of_card, found.stranger_mb) == (400, False, 23)


def test_trials_of_the_same_study_are_no_strangers():
    assert seen(GpuSample(processes={1: 400, 2: 300}), is_shared=True).stranger_mb == 0


def test_processes_that_are_not_here_are_nobody():
    """In a container the driver may name processes of the host, whose numbers mean nothing."""
    found = seen(GpuSample(used_mb=999, processes={77: 999}))
    assert (found.vram_peak_mb, found.is_vram_of_card, found.stranger_mb) == (999, True, None)


def test_a_process_of_which_the_driver_tells_no_memory_holds_an_unknown_amount():
    found = seen(GpuSample(used_mb=999, processes={1: 0.0}))
    assert (found.vram_peak_mb, found.is_vram_of_card) == (999, True)


@pytest.mark.parametrize(("is_shared", "stranger_mb"), [(False, 5000), (True, None)])
def test_where_nobody_is_named_strangers_are_what_is_there_before_the_trial(is_shared, stranger_mb):
    found, _ = watch(GpuSample(used_mb=5000), GpuSample(used_mb=60_000), is_shared=is_shared)
    found.begin()
    found.look()
    told = found.end()
    assert (told.stranger_mb, told.vram_peak_mb) == (stranger_mb, 60_000)


def test_what_is_tolerated_is_no_stranger():
    found = seen(GpuSample(processes={3: 500, 1: 1}), tolerated_mb=2000)
    assert found.stranger_mb == 0


def test_a_slot_without_cards_is_not_looked_at():
    found, cards = watch(uuids=())
    found.begin()
    found.look()
    assert found.end() is None
    assert cards.looked_at == []


def test_every_card_is_looked_at_each_time():
    found, cards = watch(GpuSample(used_mb=1), uuids=("GPU-a", "GPU-b"))
    found.begin()
    found.look()
    assert found.end().vram_peak_mb == 2
    assert cards.looked_at == ["GPU-a", "GPU-b"] * 3


def test_a_trial_knows_nothing_of_the_one_before():
    found, _ = watch(GpuSample(), GpuSample(used_mb=900), GpuSample(), GpuSample(used_mb=5))
    for expected in (900, 5):
        found.begin()
        found.look()
        assert found.end().vram_peak_mb == expected


def test_a_card_that_vanishes_says_nothing_more():
    found = seen(GpuSample(used_mb=10, temperature_c=50), GpuSample(), GpuSample())
    assert (found.samples, found.vram_peak_mb, found.temperature_max_c) == (3, 10, 50)


def test_without_a_driver_there_is_no_record():
    assert seen(GpuSample(), GpuSample()) is None


def test_an_end_without_a_beginning_tells_nothing():
    found, cards = watch(GpuSample(used_mb=1))
    found.look()
    assert found.end() is None
    assert cards.looked_at == []


def test_a_long_trial_is_looked_at_ever_more_seldom():
    found, cards = watch(GpuSample(utilisation_percent=50))
    found.begin()
    for _ in range(5000):
        found.look()
    told = found.end()
    assert told.samples <= 512
    assert len(cards.looked_at) < 1500
    assert told.utilisation_percent == 50
