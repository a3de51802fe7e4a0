"""The space of a constant for which somebody suggested a range or choices.

Pure. A suggestion comes from a model as often as from a person, so it moves a range within bounds
only: what the configuration or a comment pins may be narrowed and not widened; a default range may
be widened up to a thousandfold of the present value; a sign stays, and a fraction a fraction.
"""

import math

from proposer.config import TunerConfig
from proposer.knob import Knob
from proposer.proposal import Scalar
from proposer.ranges import is_fraction
from proposer.space import Choices, Interval, Lattice, Mirrored, Powers, Space, rounded
from proposer.tuner_hints import Wanted, WantedRange

_FARTHEST = 1000.0
"""A suggested value is at most so many times the present one, or one so manieth of it."""
_BELOW_ONE = 1 - 1e-6


def hinted_space(knob: Knob, usual: Space, wanted: Wanted, config: TunerConfig) -> Space:
    """Return the space that a suggestion makes of the usual one.

    Raises:
        ValueError: nothing is left of the suggestion; says why.
    """
    is_pinned = knob.name in config.space or bool(knob.hint)
    if isinstance(usual, Choices) or not isinstance(wanted, WantedRange):
        return _chosen(knob, usual, wanted, is_pinned=is_pinned)
    if isinstance(usual, Mirrored):
        mirrored = WantedRange(low=-wanted.high, high=-wanted.low, log=wanted.log)
        return Mirrored(of=_ranged(knob, usual.of, mirrored, is_pinned=is_pinned))
    return _ranged(knob, usual, wanted, is_pinned=is_pinned)


def _chosen(knob: Knob, usual: Space, wanted: Wanted, *, is_pinned: bool) -> Choices:
    if isinstance(wanted, WantedRange):
        known = usual.values if isinstance(usual, Choices) else ()
        kept: list[Scalar] = [
            value
            for value in known
            if not isinstance(value, str) and wanted.low <= value <= wanted.high
        ]
    else:
        kept = [v for v in wanted.values if _may_be(knob, usual, v, is_pinned=is_pinned)]
    values = tuple(dict.fromkeys((*kept, knob.value)))
    if len(values) < 2:
        raise ValueError(f"{knob.name}: none of it may be tried beside {knob.source}")
    return Choices(values=values)


def check_value(knob: Knob, usual: Space, value: Scalar, config: TunerConfig) -> None:
    """Raise ValueError if a suggestion may not give a constant this value."""
    is_pinned = knob.name in config.space or bool(knob.hint)
    if value != knob.value and not _may_be(knob, usual, value, is_pinned=is_pinned):
        raise ValueError(f"{knob.name}: {value!r} is out of bounds beside {knob.source}")


def _may_be(knob: Knob, usual: Space, value: Scalar, *, is_pinned: bool) -> bool:
    if isinstance(value, bool | str) or isinstance(knob.value, bool | str):
        return usual.contains(value)
    if is_pinned:
        # A value between two points of a range is as good as they are.
        low, high = sorted(float(usual.decode(at)) for at in (usual.axis.low, usual.axis.high))
        return usual.contains(value) if isinstance(usual, Choices) else low <= value <= high
    sign = -1 if isinstance(usual, Mirrored) else 1
    low, high = _limits(knob, usual.of if isinstance(usual, Mirrored) else usual)
    return low <= sign * value <= high


def _limits(knob: Knob, usual: Space) -> tuple[float, float]:
    """Return how far a number may be from 0, at least and at most."""
    size = 0.0 if isinstance(knob.value, str) else abs(float(knob.value))
    if size == 0:
        return 0.0, min(usual.axis.high * 10, _BELOW_ONE if is_fraction(knob.name) else math.inf)
    low, high = size / _FARTHEST, min(size * _FARTHEST, 2.0**52)
    if isinstance(knob.value, int):
        return max(low, 1.0), high
    is_below = is_fraction(knob.name) and size < 1
    return (0.0 if is_below else low), (_BELOW_ONE if is_below else high)


def _ends(space: Interval | Lattice | Powers) -> tuple[float, float]:
    ends = [space.decode(at) for at in (space.axis.low, space.axis.high)]
    numbers = sorted(float(end) for end in ends if not isinstance(end, str))
    return numbers[0], numbers[1]


def _ranged(
    knob: Knob, usual: Interval | Lattice | Powers, wanted: WantedRange, *, is_pinned: bool
) -> Interval | Lattice | Powers:
    lowest, highest = _ends(usual) if is_pinned else _limits(knob, usual)
    low, high = max(wanted.low, lowest), min(wanted.high, highest)
    if low >= high:
        raise ValueError(f"{knob.name}: stays within {lowest:g} and {highest:g}")
    match usual:
        case Powers() if (powers := _powers(low, high)) is not None:
            return powers
        case Powers():
            return _lattice(knob, math.ceil(low), 1, high)
        case Lattice(low=first, step=step):
            start = first + math.ceil((low - first) / step - 1e-9) * step
            return _lattice(knob, start, step, high)
        case Interval(from_one=True):
            near, far = rounded(1 - high), rounded(1 - low)
            return _interval(knob, Interval(low=near, high=far, log=True, from_one=True))
        case Interval(is_integer=is_integer):
            if is_integer:
                low, high = float(math.ceil(low)), float(math.floor(high))
            is_log = low > 0 and (wanted.log or usual.log)
            space = Interval(low=low, high=high, log=is_log, is_integer=is_integer)
            return _interval(knob, space)


def _interval(knob: Knob, space: Interval) -> Interval:
    if space.low >= space.high or space.decode(space.low) == space.decode(space.high):
        raise ValueError(f"{knob.name}: no two values that a source would tell apart")
    return space


def _powers(low: float, high: float) -> Powers | None:
    first, last = math.ceil(math.log2(max(low, 1))), math.floor(math.log2(max(high, 1)))
    return Powers(low=first, high=last) if first < last else None


def _lattice(knob: Knob, low: float, step: float, high: float) -> Lattice:
    count = math.floor((high - low) / step + 1e-9) + 1
    if count < 2:
        raise ValueError(f"{knob.name}: fewer than two values in steps of {step:g}")
    return Lattice(low=low, step=step, count=count)
