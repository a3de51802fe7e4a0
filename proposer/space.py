"""The values that one constant may take, as coordinates on a plain axis.

Pure. A space translates between values and coordinates, so that an optimiser needs to know nothing
of powers of two, of 1 - beta or of negative numbers. Which space a constant gets is decided in
`proposer.ranges`; which optimiser walks the axes is `proposer.tuner`'s affair.
"""

import math
from dataclasses import dataclass
from decimal import Decimal
from enum import StrEnum
from typing import TypeGuard

from proposer.proposal import Scalar

_DIGITS = 3
"""Significant digits of a float that is proposed; more would only make sources hard to read."""


class AxisKind(StrEnum):
    """What the coordinates on an axis are."""

    REAL = "real"
    WHOLE = "whole"
    UNORDERED = "unordered"  # whole numbers from 0 that only name things


@dataclass(frozen=True, slots=True, kw_only=True)
class Axis:
    """The coordinates of one constant: from `low` to `high`, both included."""

    kind: AxisKind
    low: float
    high: float
    log: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Choices:
    """The listed values and no others."""

    values: tuple[Scalar, ...]

    @property
    def axis(self) -> Axis:
        """One coordinate per value."""
        return Axis(kind=AxisKind.UNORDERED, low=0, high=len(self.values) - 1)

    def contains(self, value: Scalar) -> bool:
        """Say whether the value is a point of the space."""
        return any(value == known and type(value) is type(known) for known in self.values)

    def encode(self, value: Scalar) -> float | None:
        """Return the coordinate of a value; None if it has none."""
        return self.values.index(value) if self.contains(value) else None

    def decode(self, coordinate: float) -> Scalar:
        """Return the value at a coordinate."""
        return self.values[int(coordinate)]


@dataclass(frozen=True, slots=True, kw_only=True)
class Interval:
    """Numbers from `low` to `high`; the coordinate is the number, or its distance to 1."""

    low: float
    high: float
    log: bool = False
    is_integer: bool = False
    from_one: bool = False
    """Coordinates are 1 - value; `low` and `high` are coordinates."""

    @property
    def axis(self) -> Axis:
        """The interval itself."""
        return Axis(kind=AxisKind.REAL, low=self.low, high=self.high, log=self.log)

    def contains(self, value: Scalar) -> bool:
        """Say whether the value is a point of the space."""
        if not _fits(value, is_integer=self.is_integer):
            return False
        return self.low <= (1 - float(value) if self.from_one else float(value)) <= self.high

    def encode(self, value: Scalar) -> float | None:
        """Return the coordinate of the nearest point; None for a value of another type."""
        if not _fits(value, is_integer=self.is_integer):
            return None
        return self._clip(1 - float(value) if self.from_one else float(value))

    def decode(self, coordinate: float) -> Scalar:
        """Return the value at a coordinate, rounded to few digits."""
        if self.is_integer:
            return min(max(round(coordinate), math.ceil(self.low)), math.floor(self.high))
        point = self._clip(rounded(coordinate))
        return float(1 - Decimal(repr(point))) if self.from_one else point

    def _clip(self, coordinate: float) -> float:
        return min(max(coordinate, self.low), self.high)


@dataclass(frozen=True, slots=True, kw_only=True)
class Lattice:
    """The numbers `low`, `low + step`, ...: `count` of them, integers if `low` and `step` are."""

    low: float
    step: float
    count: int

    @property
    def axis(self) -> Axis:
        """One coordinate per number."""
        return Axis(kind=AxisKind.WHOLE, low=0, high=self.count - 1)

    def contains(self, value: Scalar) -> bool:
        """Say whether the value is a point of the space."""
        coordinate = self.encode(value)
        return coordinate is not None and self.decode(coordinate) == value

    def encode(self, value: Scalar) -> float | None:
        """Return the coordinate of the nearest point; None for a value of another type."""
        if not _fits(value, is_integer=isinstance(self.low, int)):
            return None
        return min(max(round((float(value) - self.low) / self.step), 0), self.count - 1)

    def decode(self, coordinate: float) -> Scalar:
        """Return the number at a coordinate."""
        if isinstance(self.low, int):
            return self.low + int(self.step) * int(coordinate)
        return float(Decimal(repr(self.low)) + int(coordinate) * Decimal(repr(self.step)))


@dataclass(frozen=True, slots=True, kw_only=True)
class Powers:
    """Powers of two; the coordinate is the exponent."""

    low: int
    high: int

    @property
    def axis(self) -> Axis:
        """One coordinate per exponent."""
        return Axis(kind=AxisKind.WHOLE, low=self.low, high=self.high)

    def contains(self, value: Scalar) -> bool:
        """Say whether the value is a point of the space."""
        coordinate = self.encode(value)
        return coordinate is not None and self.decode(coordinate) == value

    def encode(self, value: Scalar) -> float | None:
        """Return the coordinate of the nearest point; None for a value of another type."""
        if not _fits(value, is_integer=True):
            return None
        return min(max(round(math.log2(max(float(value), 1))), self.low), self.high)

    def decode(self, coordinate: float) -> Scalar:
        """Return two to the power of a coordinate."""
        return 1 << int(coordinate)


@dataclass(frozen=True, slots=True, kw_only=True)
class Mirrored:
    """The negatives of another space's numbers, at the same coordinates."""

    of: Interval | Lattice | Powers

    @property
    def axis(self) -> Axis:
        """The other space's."""
        return self.of.axis

    def contains(self, value: Scalar) -> bool:
        """Say whether the value is a point of the space."""
        return not isinstance(value, bool | str) and self.of.contains(-value)

    def encode(self, value: Scalar) -> float | None:
        """Return the coordinate of the nearest point; None for a value of another type."""
        return None if isinstance(value, bool | str) else self.of.encode(-value)

    def decode(self, coordinate: float) -> Scalar:
        """Return the negative of the number at a coordinate."""
        value = self.of.decode(coordinate)
        return value if isinstance(value, str) else -value


Space = Choices | Interval | Lattice | Powers | Mirrored


def _fits(value: Scalar, *, is_integer: bool) -> TypeGuard[float]:
    if isinstance(value, bool | str):
        return False
    return isinstance(value, int) if is_integer else True


def rounded(number: float) -> float:
    """Return a number with as few digits as sources have."""
    return float(f"{number:.{_DIGITS}g}")
