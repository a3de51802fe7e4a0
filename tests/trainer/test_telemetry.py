"""Samples become one record: means over time, sums over cards, and None for what nobody said."""

from dataclasses import fields
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trainer.telemetry import GpuSample, GpuTelemetry, ThrottleReason, summarise

NOTHING = GpuSample()
HOT = frozenset({ThrottleReason.SW_THERMAL})
CAPPED = frozenset({ThrottleReason.POWER_CAP})
BRAKED = frozenset({ThrottleReason.HW_SLOWDOWN, ThrottleReason.POWER_BRAKE})


def run(*between, first=NOTHING, last=NOTHING):
    """Moments of one card: at GO, then `between` as (time, sample), and behind the end."""
    end = between[-1][0] + 1 if between else 1.0
    return [(0.0, (first,)), *((at, (card,)) for at, card in between), (end, (last,))]


def times(least=1):
    gaps = st.lists(st.floats(0.01, 10), min_size=least, max_size=20)
    return gaps.map(lambda found: [sum(found[: n + 1]) for n in range(len(found))])


@given(times(), st.floats(0, 100))
def test_a_constant_is_its_own_mean_whenever_it_is_sampled(moments, percent):
    found = summarise(run(*((at, GpuSample(utilisation_percent=percent)) for at in moments)))
    assert found.utilisation_percent == pytest.approx(percent)
    assert found.samples == len(moments)


@given(times(), st.data())
def test_a_mean_is_that_of_the_duty_and_not_of_the_samples(moments, data):
    duty = data.draw(st.lists(st.booleans(), min_size=len(moments), max_size=len(moments)))
    cards = [
        (at, GpuSample(utilisation_percent=100.0 * on))
        for at, on in zip(moments, duty, strict=True)
    ]
    gaps = [at - before for before, at in pairwise([0.0, *moments])]
    busy_s = sum(gap for gap, on in zip(gaps, duty, strict=True) if on)
    found = summarise(run(*cards))
    assert found.utilisation_percent == pytest.approx(100 * busy_s / moments[-1])


@given(times(), st.data())
def test_seconds_of_throttling_never_exceed_the_time_looked_at(moments, data):
    reasons = st.frozensets(st.sampled_from(list(ThrottleReason)))
    told = [data.draw(st.none() | reasons) for _ in moments]
    cards = [GpuSample(throttle=why) for why in told]
    found = summarise(run(*zip(moments, cards, strict=True)))
    if all(why is None for why in told):
        assert found is None
        return
    faults = [found.throttle_s.get(why, 0.0) for why in ThrottleReason if why.is_fault]
    assert max(faults) <= found.throttled_s * (1 + 1e-9)
    assert found.throttled_s <= min(sum(faults), moments[-1]) * (1 + 1e-9) + 1e-9


def test_only_what_lies_between_go_and_the_end_is_the_trial():
    before = GpuSample(utilisation_percent=90, used_mb=70000, temperature_c=95, throttle=HOT)
    during = GpuSample(utilisation_percent=40, used_mb=800, temperature_c=60, throttle=frozenset())
    found = summarise(run((2.0, during), first=before, last=before))
    assert found == GpuTelemetry(
        samples=1,
        utilisation_percent=40,
        vram_peak_mb=800,
        is_vram_of_card=True,
        temperature_max_c=60,
        throttled_s=0.0,
    )


def test_each_sample_stands_for_the_time_since_the_one_before():
    hot, cool = GpuSample(throttle=HOT, power_w=100), GpuSample(throttle=CAPPED, power_w=400)
    found = summarise(run((1.0, hot), (4.0, cool), (4.5, hot)))
    assert found.throttle_s == {"sw_thermal": 1.5, "power_cap": 3.0}
    assert found.throttled_s == 1.5
    assert found.power_w == pytest.approx((1.5 * 100 + 3 * 400) / 4.5)


def test_reasons_that_hold_together_are_counted_once():
    found = summarise(run((2.0, GpuSample(throttle=BRAKED))))
    assert found.throttle_s == {"hw_slowdown": 2.0, "power_brake": 2.0}
    assert found.throttled_s == 2.0


@pytest.mark.parametrize("reason", ThrottleReason)
def test_heat_and_failing_power_are_faults_and_a_power_cap_is_not(reason):
    normal = {ThrottleReason.POWER_CAP, ThrottleReason.SYNC_BOOST}
    assert reason.is_fault is (reason not in normal)


def test_energy_is_what_the_counter_rose_by_from_go_to_the_end():
    found = summarise(run(first=GpuSample(energy_j=5000.0), last=GpuSample(energy_j=5600.5)))
    assert found == GpuTelemetry(samples=0, energy_j=600.5)


@pytest.mark.parametrize(("first", "last"), [(None, 5.0), (5.0, None), (5.0, 4.0)])
def test_a_counter_that_is_missing_or_fell_is_no_energy(first, last):
    moments = run(first=GpuSample(energy_j=first), last=GpuSample(energy_j=last))
    assert summarise(moments) is None


def test_the_lowest_clock_is_looked_for_while_the_card_works():
    idle = GpuSample(sm_clock_mhz=345, utilisation_percent=0)
    busy = [GpuSample(sm_clock_mhz=mhz, utilisation_percent=99) for mhz in (1980, 1410)]
    found = summarise(run((1.0, idle), (2.0, busy[0]), (3.0, busy[1])))
    assert found.sm_clock_min_mhz == 1410
    assert found.sm_clock_mhz == pytest.approx((345 + 1980 + 1410) / 3)
    assert summarise(run((1.0, idle))).sm_clock_min_mhz is None


def test_own_memory_is_told_where_it_is_known_and_the_cards_where_not():
    named = GpuSample(used_mb=9000, own_mb=700)
    assert summarise(run((1.0, named))).vram_peak_mb == 700
    assert summarise(run((1.0, named))).is_vram_of_card is False
    unnamed = summarise(run((1.0, GpuSample(used_mb=9000))))
    assert (unnamed.vram_peak_mb, unnamed.is_vram_of_card) == (9000, True)


@pytest.mark.parametrize(
    ("held_mb", "told"), [(None, None), (0.0, 0.0), (2000.0, 0.0), (2001.0, 2001.0)]
)
def test_strangers_count_beyond_what_is_tolerated(held_mb, told):
    card = GpuSample(stranger_mb=held_mb, used_mb=1)
    assert summarise(run((1.0, card)), tolerated_mb=2000).stranger_mb == told


def test_strangers_that_were_there_at_go_count():
    found = summarise(run((1.0, GpuSample(used_mb=1)), first=GpuSample(stranger_mb=50.0)))
    assert found.stranger_mb == 50.0


def test_several_cards_are_taken_together():
    def cards(at, *samples):
        return at, samples

    left = GpuSample(
        used_mb=100,
        power_w=300,
        utilisation_percent=80,
        temperature_c=50,
        energy_j=10,
        throttle=HOT,
    )
    right = GpuSample(
        used_mb=50,
        power_w=200,
        utilisation_percent=40,
        temperature_c=70,
        energy_j=20,
        throttle=frozenset(),
    )
    found = summarise([cards(0, left, right), cards(2, left, right), cards(3, left, right)])
    assert (found.vram_peak_mb, found.power_w, found.utilisation_percent) == (150, 500, 60)
    assert (found.temperature_max_c, found.energy_j, found.throttled_s) == (70, 0, 2)


def test_a_part_is_not_taken_for_the_whole():
    known = GpuSample(used_mb=100, power_w=300, temperature_c=50, energy_j=1)
    found = summarise([(at, (known, NOTHING)) for at in (0.0, 1.0, 2.0)])
    assert found == GpuTelemetry(samples=1, temperature_max_c=50)


@pytest.mark.parametrize("count", [0, 1, 2, 5])
def test_cards_that_say_nothing_make_no_record(count):
    assert summarise([(float(n), (NOTHING,)) for n in range(count)]) is None


def test_every_measurement_may_be_missing():
    for each in fields(GpuTelemetry):
        assert getattr(GpuTelemetry(), each.name) in (None, 0, False, {}), each.name
