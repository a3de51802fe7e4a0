"""Which values each constant may take: pinned by the configuration, hinted at, or by default.

Pure. Knows the habits of the field: rates are searched on a logarithmic scale, powers of two stay
powers of two, exponential averages are searched by their distance to 1.
"""

import math
from collections.abc import Iterator, Mapping
from itertools import combinations, product

from proposer.config import SpaceConfig, TunerConfig
from proposer.knob import Knob, is_left_alone, unknown, words
from proposer.proposal import Scalar
from proposer.space import AxisKind, Choices, Interval, Lattice, Mirrored, Powers, Space, rounded

_RATES = frozenset({"LR", "RATE", "DECAY", "EPS", "EPSILON", "WD", "L1", "L2"})
_FRACTIONS = frozenset(
    {"DROPOUT", "DROP", "PROB", "PROBABILITY", "FRAC", "FRACTION", "RATIO", "SMOOTHING", "MIXUP"}
)
_AVERAGES = frozenset({"BETA", "BETAS", "BETA1", "BETA2", "MOMENTUM", "EMA", "GAMMA", "DECAY"})
"""Weights of exponential averages."""
_COUNTS = frozenset({"DEPTH", "LAYER", "LAYERS"})
"""Numbers that are powers of two by accident."""
_NEAR_ONE = 0.8
"""From here on, what counts of a fraction is its distance to 1."""
_SMALL = 0.1
"""A float up to here is taken for one whose order of magnitude is in question."""


def check_names(config: TunerConfig, knobs: Mapping[str, Knob]) -> None:
    """Raise ValueError where the configuration names a constant that is not there."""
    for name in config.space:
        if name not in knobs:
            raise ValueError(f"[tuner.space.{name}]: {unknown(name, knobs)}")
    names = {*knobs, *map(_whole, knobs)}
    for name in config.exclude:
        if name not in names:
            raise ValueError(f"[tuner] exclude: {unknown(name, names)}")


def choose_space(knob: Knob, config: TunerConfig) -> Space | None:
    """Return the values to try for a constant; None leaves it alone.

    In order: `exclude` (a tuple's name stands for all its elements), `[tuner.space.NAME]`, the
    comment on its line, names that are left alone, a default from name and value.

    Raises:
        ValueError: a pinned space that does not fit the constant's type; names the constant.
    """
    if {knob.name, _whole(knob.name)} & set(config.exclude):
        return None
    pin = config.space.get(knob.name)
    if pin is not None:
        try:
            space: Space | None = _pinned(knob, pin)
        except ValueError as error:
            raise ValueError(f"[tuner.space.{knob.name}]: {error}") from error
    elif knob.hint.choices:
        space = _choices(knob, knob.hint.choices)
    elif limits := knob.hint.range:
        space = _ranged(knob, limits.low, limits.high, log=limits.log)
    elif is_left_alone(knob.name) or _is_beyond_floats(knob.value):
        return None
    else:
        space = _default(knob)
    return space if space is not None and space.axis.low < space.axis.high else None


def neighbours(
    current: Mapping[str, Scalar], spaces: Mapping[str, Space], most_changes: int, fineness: int
) -> Iterator[dict[str, Scalar]]:
    """Yield every grid point that differs from `current` in 1 to `most_changes` constants.

    Fewest changes first. An axis with more than `fineness` points is cut into as many, evenly.
    """
    options = {
        name: [value for value in _grid(space, fineness) if value != current[name]]
        for name, space in spaces.items()
    }
    for count in range(1, min(most_changes, len(options)) + 1):
        for names in combinations(options, count):
            for values in product(*(options[name] for name in names)):
                yield {**current, **dict(zip(names, values, strict=True))}


def _grid(space: Space, fineness: int) -> list[Scalar]:
    axis = space.axis
    low, high = (math.log(axis.low), math.log(axis.high)) if axis.log else (axis.low, axis.high)
    is_real = axis.kind is AxisKind.REAL
    count = fineness if is_real else min(fineness, round(high - low) + 1)
    coordinates = [low + (high - low) * index / (count - 1) for index in range(count)]
    if axis.log:
        coordinates = [math.exp(coordinate) for coordinate in coordinates]
    exact = coordinates if is_real else map(round, coordinates)
    return list(dict.fromkeys(space.decode(coordinate) for coordinate in exact))


def _is_beyond_floats(value: Scalar) -> bool:
    """Say whether it is a whole number that axes, which are floats, cannot tell from the next."""
    return isinstance(value, int) and abs(value) > 2**53


def is_fraction(name: str) -> bool:
    """Say whether a name speaks of a fraction or the weight of an average: of what is below 1."""
    return bool(words(name) & (_FRACTIONS | _AVERAGES - _RATES))


def _whole(name: str) -> str:
    """Return the name of the tuple that an element is part of."""
    return name.partition("[")[0]


def _pinned(knob: Knob, pin: SpaceConfig) -> Space:
    if pin.choices:
        return _choices(knob, tuple(_typed(knob, choice) for choice in pin.choices))
    if pin.low is None or pin.high is None:
        raise ValueError("needs both low and high")
    return _ranged(knob, pin.low, pin.high, log=pin.log, step=pin.step)


def _choices(knob: Knob, choices: tuple[Scalar, ...]) -> Space:
    for choice in choices:
        knob.spell(choice)  # complains of a word that the file cannot hold
    # The present value belongs to them: else the optimiser could not be told of the incumbent.
    return Choices(values=tuple(dict.fromkeys((*choices, knob.value))))


def _typed(knob: Knob, value: Scalar) -> Scalar:
    if isinstance(knob.value, float) and type(value) is int:
        return float(value)
    if isinstance(knob.value, int) and isinstance(value, float) and value.is_integer():
        return int(value)
    if type(value) is not type(knob.value):
        raise ValueError(f"{value!r} is not of the type of {knob.source}")
    return value


def _ranged(
    knob: Knob, low: float, high: float, *, log: bool = False, step: float | None = None
) -> Space:
    if isinstance(knob.value, bool | str):
        raise ValueError(f"{knob.source} is not a number; give choices")  # noqa: TRY004 (of config)
    is_integer = isinstance(knob.value, int)
    if is_integer and not all(float(n).is_integer() for n in (low, high, step or 1)):
        raise ValueError(f"{knob.source} is a whole number, so its range must be of such")
    if is_integer and not log:
        low, high, step = int(low), int(high), int(step or 1)
    if step is None:
        return Interval(low=float(low), high=float(high), log=log, is_integer=is_integer)
    if step <= 0:
        raise ValueError(f"step must be above 0, not {step:g}")
    # Steps such as 0.1 have no exact float: 0.3 / 0.1 is 2.99...
    count = math.floor((high - low) / step + 1e-9) + 1
    return Lattice(low=low if is_integer else float(low), step=step, count=count)


def _default(knob: Knob) -> Space | None:
    match knob.value:
        case bool():
            return Choices(values=(False, True))
        case int():
            return _default_integer(knob.name, knob.value)
        case float():
            return _default_float(knob.name, knob.value)
        case _:
            return None


def _default_integer(name: str, value: int) -> Space | None:
    """Powers of two: a quarter to four times; other integers: half to double, at least 1."""
    if value < 0:
        positive = _default_integer(name, -value)
        return Mirrored(of=positive) if isinstance(positive, Lattice | Powers) else None
    if value == 0:
        return None
    if value.bit_count() == 1 and not words(name) & _COUNTS:
        exponent = value.bit_length() - 1
        return Powers(low=max(exponent - 2, 0), high=exponent + 2)
    # Widths and sizes have to be divisible by something: keep the powers of two that are in them,
    # as far as at least a dozen values are left.
    even = value & -value
    step = min(even, 1 << max((value // 8).bit_length() - 1, 0))
    low = max(-(-(value // 2) // step) * step, step)
    return Lattice(low=low, step=step, count=(value * 2 - low) // step + 1)


def _default_float(name: str, value: float) -> Space | None:
    """Rates: a tenth to ten times; fractions stay in (0, 1); other floats: half to double."""
    if value < 0:
        positive = _default_float(name, -value)
        return Mirrored(of=positive) if isinstance(positive, Interval) else None
    said = words(name)
    if value == 0:
        return Interval(low=0.0, high=0.5 if said & (_FRACTIONS | _AVERAGES - _RATES) else 0.1)
    if said & (_FRACTIONS | _AVERAGES) and _NEAR_ONE <= value < 1:
        rest = 1 - value
        return _interval(rest / 10, min(rest * 10, 0.5), log=True, from_one=True)
    if said & (_FRACTIONS | _AVERAGES - _RATES) and value < 1:
        return _interval(value / 4, min(value * 4, (3 + value) / 4))
    if said & _RATES or value <= _SMALL:
        return _interval(value / 10, value * 10, log=True)
    return _interval(value / 2, value * 2)


def _interval(
    low: float, high: float, *, log: bool = False, from_one: bool = False
) -> Interval | None:
    low, high = rounded(low), rounded(high)
    # The smallest and largest floats have no tenth and no double.
    if low == 0 or math.isinf(high):
        return None
    return Interval(low=low, high=high, log=log, from_one=from_one)
