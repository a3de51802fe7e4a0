"""What was measured beside a trial's metric, and how samples of its cards become one record.

Pure. Knows samples, times and units. Does not know the driver (trainer.gpu asks it) or when samples
are taken (trainer.gpu_watch). What was not measured is None: no number here is ever made up.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from itertools import pairwise
from statistics import fmean


class ThrottleReason(StrEnum):
    """Why a card ran below the clock that it would choose, in the driver's terms."""

    POWER_CAP = "power_cap"  # at its power limit: what a well-used card does all day
    SYNC_BOOST = "sync_boost"  # held to the clock of the cards it is grouped with
    HW_SLOWDOWN = "hw_slowdown"  # hardware cut the clock to half or less: heat or power delivery
    SW_THERMAL = "sw_thermal"  # the driver lowers the clock to keep the temperature
    HW_THERMAL = "hw_thermal"  # hardware cut the clock: too hot
    POWER_BRAKE = "power_brake"  # the power supply or the rack asked for less

    @property
    def is_fault(self) -> bool:
        """Say whether a trial that ran like this ran *throttled*.

        Heat, failing power and the rack's emergency brake are states of the machine at that hour:
        the same code would have got further an hour later. (Hardware slowdown may show for a moment
        when a card changes its clocks; who judges asks for a share of the time.)

        A power cap is not among them, since it is the normal state of a card under load (a
        compute-bound kernel at full clock exceeds the limit of most data centre cards), so it
        befalls incumbent and candidate alike, and more so the better a candidate uses the card.
        Neither is sync boost: a setting, as constant as the application clocks, which are not told
        at all.
        """
        return self not in {ThrottleReason.POWER_CAP, ThrottleReason.SYNC_BOOST}


@dataclass(frozen=True, slots=True, kw_only=True)
class GpuSample:
    """One card at one moment; what the driver does not say is None."""

    used_mb: float | None = None
    """MiB in use by anybody."""
    processes: Mapping[int, float] = field(default_factory=dict)
    """MiB by process id, for those that the driver names: none in most containers."""
    own_mb: float | None = None
    """MiB held by the trial's processes; None where the driver does not name them."""
    stranger_mb: float | None = None
    """MiB held by processes of nobody in the study; None where that cannot be told."""
    utilisation_percent: float | None = None
    """Share of the last moments (1/6 to 1 s) in which any kernel ran."""
    sm_clock_mhz: float | None = None
    power_w: float | None = None
    energy_j: float | None = None
    """A counter, since the driver was loaded."""
    temperature_c: float | None = None
    throttle: frozenset[ThrottleReason] | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class GpuTelemetry:
    """What a trial's cards did, from the order to run to its end. Several cards are taken together.

    Means are over time. On a shared card everything but memory is the card's, neighbours included.
    """

    samples: int = 0
    """Moments at which the cards were looked at; peaks between them are missed."""
    vram_peak_mb: float | None = None
    """MiB, of all cards together."""
    is_vram_of_card: bool = False
    """The driver names no processes (most containers): `vram_peak_mb` is everybody's."""
    utilisation_percent: float | None = None
    """Mean share of time in which any kernel ran, not how well it used the card."""
    sm_clock_mhz: float | None = None
    """Mean clock."""
    sm_clock_min_mhz: float | None = None
    """Lowest clock at a moment when a kernel ran; None if that was never seen."""
    power_w: float | None = None
    """Mean, of all cards together."""
    energy_j: float | None = None
    """Of all cards together."""
    temperature_max_c: float | None = None
    """Of the hottest."""
    throttle_s: Mapping[str, float] = field(default_factory=dict)
    """Seconds by ThrottleReason, on any card; a reason that was not seen is absent."""
    throttled_s: float | None = None
    """Seconds with a reason that is a fault, on any card; None where the driver gives none."""
    stranger_mb: float | None = None
    """Most that strangers held, in MiB; 0 up to `[cluster] gpu_busy_mb`; None if unknown."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Telemetry:
    """What was measured of a trial beside its metric; None is what was not."""

    wall_s: float | None = None
    """From the order to run to the end of its first process."""
    cpu_s: float | None = None
    """User and system time of all its processes."""
    memory_peak_mb: float | None = None
    """Most that all its processes together were seen to hold, in MiB; where nobody looked, the
    largest resident set of any one of them."""
    steps_per_s: float | None = None
    """Over the middle of the run, by the counter in its progress lines."""
    step_counter: str = ""
    """What the log counts: step, iter, epoch, ...; rates of different counters do not compare."""
    gpu: GpuTelemetry | None = None
    """None on CPU slots, without a driver, and for a run too short to be looked at."""


Moment = tuple[float, tuple[GpuSample, ...]]
"""A time in seconds, and the trial's cards then, always in the same order."""
Stretch = tuple[float, tuple[GpuSample, ...]]
"""For how many seconds a sample stands, and the sample."""


def summarise(moments: Sequence[Moment], *, tolerated_mb: float = 0.0) -> GpuTelemetry | None:
    """Return one record of what the cards did; None if nothing of it was measured.

    The first moment is that of the order to run, the last is behind the trial's end: they tell
    where counters stood, and the first what strangers held. Those between tell of the trial; each
    stands for the time since the one before.

    Args:
        moments: times that do not fall, and samples of the same cards in the same order.
        tolerated_mb: MiB that strangers may hold before they count.
    """
    stretches = [(at - before, cards) for (before, _), (at, cards) in pairwise(moments[:-1])]
    throttles = [
        (s, reasons) for s, cards in stretches if (reasons := _throttle(cards)) is not None
    ]
    own = _peak(_all(cards, "own_mb") for _, cards in stretches)
    used = _peak(_all(cards, "used_mb") for _, cards in stretches)
    strangers = _peak(_known(cards, "stranger_mb") for _, cards in moments[:-1])
    found = GpuTelemetry(
        samples=len(stretches),
        vram_peak_mb=used if own is None else own,
        is_vram_of_card=own is None and used is not None,
        utilisation_percent=_mean(stretches, fmean, "utilisation_percent"),
        sm_clock_mhz=_mean(stretches, fmean, "sm_clock_mhz"),
        sm_clock_min_mhz=min(_clocks_at_work(stretches), default=None),
        power_w=_mean(stretches, sum, "power_w"),
        energy_j=_energy(moments),
        temperature_max_c=max(
            (each for _, cards in stretches for each in _known(cards, "temperature_c")),
            default=None,
        ),
        throttle_s=_by_reason(throttles),
        throttled_s=_faulty(throttles),
        stranger_mb=0.0 if strangers is not None and strangers <= tolerated_mb else strangers,
    )
    return found if found != GpuTelemetry(samples=found.samples) else None


def _known(cards: Iterable[GpuSample], name: str) -> list[float]:
    """Return a field of the cards that have it."""
    return [value for card in cards if (value := getattr(card, name)) is not None]


def _all(cards: Sequence[GpuSample], name: str) -> list[float]:
    """Return a field of all cards, or nothing where one lacks it: a part is not the whole."""
    found = _known(cards, name)
    return found if len(found) == len(cards) else []


def _peak(values: Iterable[list[float]]) -> float | None:
    """Return the largest sum over cards; None if there is none."""
    return max((sum(cards) for cards in values if cards), default=None)


def _mean(
    stretches: Sequence[Stretch], join: Callable[[list[float]], float], name: str
) -> float | None:
    """Return the mean over time of what `join` makes of the cards' fields."""
    found = [(s, join(values)) for s, cards in stretches if (values := _all(cards, name))]
    total_s = sum(s for s, _ in found)
    return sum(s * value for s, value in found) / total_s if total_s > 0 else None


def _clocks_at_work(stretches: Sequence[Stretch]) -> Iterable[float]:
    """Yield the clocks of cards on which a kernel had just run; an idle card clocks down."""
    for _, cards in stretches:
        yield from _known((card for card in cards if card.utilisation_percent), "sm_clock_mhz")


def _energy(moments: Sequence[Moment]) -> float | None:
    """Return what the counters rose by; None if one is missing, or fell (the driver was loaded)."""
    if len(moments) < 2:
        return None
    first, last = (_all(cards, "energy_j") for _, cards in (moments[0], moments[-1]))
    risen = [after - before for before, after in zip(first, last, strict=False)]
    is_whole = bool(risen) and len(first) == len(last) and min(risen) >= 0
    return sum(risen) if is_whole else None


def _throttle(cards: Sequence[GpuSample]) -> frozenset[ThrottleReason] | None:
    """Return the reasons on any of the cards; None if no card tells."""
    told = [card.throttle for card in cards if card.throttle is not None]
    return frozenset[ThrottleReason]().union(*told) if told else None


def _by_reason(throttles: Iterable[tuple[float, frozenset[ThrottleReason]]]) -> dict[str, float]:
    seconds: dict[str, float] = {}
    for stretch_s, reasons in throttles:
        for reason in sorted(reasons):
            seconds[reason.value] = seconds.get(reason.value, 0.0) + stretch_s
    return seconds


def _faulty(throttles: Sequence[tuple[float, frozenset[ThrottleReason]]]) -> float | None:
    if not throttles:
        return None
    return sum(s for s, reasons in throttles if any(reason.is_fault for reason in reasons))
