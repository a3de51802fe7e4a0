"""The constants that a tuner turns: where they stand, and which values they may have.

Knows configurations, their coordinates, and hints. Does not know what was tried, nor what came of
it: `proposer.tuner` does.
"""

import random
from collections.abc import Iterator, Mapping, Sequence

from proposer.config import TunerConfig
from proposer.hinted_space import check_value, hinted_space
from proposer.knob import Knob
from proposer.proposal import Scalar
from proposer.ranges import choose_space, neighbours
from proposer.space import Axis, Space
from proposer.tuner_hints import Hints, read_hints

_FINENESS = 5
"""Points per axis of the sampler `grid`."""
_REST_FINENESS = 64
"""Points per axis where the grid only has to find what another sampler left over."""

Configuration = Mapping[str, Scalar]
Key = tuple[Scalar, ...]


class SearchSpace:
    """What may be turned of the incumbent's constants, and how far.

    The range of a constant is chosen when it is first seen and stays, so that results remain
    comparable; it is chosen anew only if the incumbent leaves it. Hints lie over these ranges as
    long as they are handed in (`proposer.tuner_hints`).
    """

    def __init__(self, config: TunerConfig) -> None:
        self._config = config
        self.knobs: Mapping[str, Knob] = {}
        """The constants that are turned, by name."""
        self.current: Configuration = {}
        """The incumbent's configuration, of the same names."""
        self.points: Sequence[Configuration] = ()
        """What hints name to be tried first; each gives a few constants."""
        self.problems: Sequence[str] = ()
        """Why hints could not be used."""
        self._usual: Mapping[str, Space] = {}
        self._spaces: Mapping[str, Space] = {}
        """The usual ones with hints over them."""
        self._first: dict[str, Scalar] = {}
        """The value of each constant when it was first seen."""

    @property
    def axes(self) -> Mapping[str, Axis]:
        """What an optimiser searches, by name."""
        return {name: space.axis for name, space in self._spaces.items()}

    def adopt(self, knobs: Mapping[str, Knob], hints: Sequence[str]) -> bool:
        """Make these constants the ones that candidates start from; say whether axes changed.

        Raises:
            ValueError: a range in the configuration that does not fit; names the constant.
        """
        before = self._spaces
        self._usual = dict(self._chosen(knobs))
        for name in self._usual:
            self._first.setdefault(name, knobs[name].value)
        self.knobs = {name: knobs[name] for name in self._usual}
        self.current = {name: knob.value for name, knob in self.knobs.items()}
        self._heed(read_hints(hints, self.knobs))
        return self._spaces != before

    def _chosen(self, knobs: Mapping[str, Knob]) -> Iterator[tuple[str, Space]]:
        for name, knob in knobs.items():
            known = self._usual.get(name)
            is_inside = known is not None and known.contains(knob.value)
            space = known if is_inside else choose_space(knob, self._config)
            if space is not None:
                yield name, space

    def _heed(self, hints: Hints) -> None:
        spaces, points, problems = dict(self._usual), [], list(hints.problems)
        for name, wanted in hints.wanted.items():
            try:
                spaces[name] = hinted_space(self.knobs[name], spaces[name], wanted, self._config)
            except ValueError as error:
                problems.append(str(error))
        for point in hints.points:
            try:
                for name, value in point.items():
                    check_value(self.knobs[name], self._usual[name], value, self._config)
            except ValueError as error:
                problems.append(str(error))
            else:
                points.append(point)
        self._spaces, self.points, self.problems = spaces, points, problems

    # --- configurations --------------------------------------------------------------------------

    def concerns(self, configuration: Configuration) -> bool:
        """Say whether a configuration gives any of the constants that are turned."""
        return bool(self.current.keys() & configuration.keys())

    def filled(self, configuration: Configuration) -> Configuration:
        """Return all constants; one that a tree did not have yet has its first value.

        A constant that appears usually names what had been written out before.
        """
        return {name: configuration.get(name, self._first[name]) for name in self.current}

    def key(self, configuration: Configuration) -> Key:
        """Return what configurations share that are the same on the present constants."""
        return tuple(self.filled(configuration).values())

    def encoded(self, configuration: Configuration, *, in_part: bool) -> Mapping[str, float] | None:
        """Return the coordinates of what a model can take of a configuration; None for nothing.

        `in_part` says that it can do with some of them. A value outside a range that a hint has
        narrowed has none: to tell it as the range's end would say of the end what was measured
        elsewhere.
        """
        coordinates = {}
        for name, space in self._spaces.items():
            if name not in configuration:
                continue
            coordinate = space.encode(value := configuration[name])
            may_lack = in_part and space != self._usual[name]
            if coordinate is None and not may_lack:
                return None
            if coordinate is not None and (not may_lack or _holds(space, coordinate, value)):
                coordinates[name] = coordinate
        return coordinates

    # --- what to try -----------------------------------------------------------------------------

    def walk(self) -> Iterator[Configuration]:
        """Yield the grid points near the incumbent, fewest changes first."""
        fineness = _FINENESS if self._config.sampler == "grid" else _REST_FINENESS
        return neighbours(self.current, self._spaces, self._config.most_changes, fineness)

    def near(self, coordinates: Mapping[str, float], chance: random.Random) -> Configuration:
        """Return the incumbent's configuration with a few of the suggested values."""
        suggested = {name: self._spaces[name].decode(at) for name, at in coordinates.items()}
        changed = [name for name, value in self.current.items() if value != suggested[name]]
        most = min(len(changed), self._config.most_changes)
        chosen = chance.sample(changed, chance.randint(1, most)) if changed else ()
        return {**self.current, **{name: suggested[name] for name in chosen}}


def _holds(space: Space, coordinate: float, value: Scalar) -> bool:
    """Say whether a value is near what its coordinate stands for, not beyond the axis."""
    at = space.decode(coordinate)
    if space.contains(value) or isinstance(at, bool | str) or isinstance(value, bool | str):
        return True
    inner = (space.decode(space.axis.low), space.decode(space.axis.high))
    low, high = sorted(float(end) for end in inner)
    return low <= float(value) <= high
