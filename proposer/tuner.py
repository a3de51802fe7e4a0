"""The tuner: proposes small changes of constants, the way an optimiser would.

Knows what was proposed, what came of it, and which of it the optimiser is told. Does not know how
constants are read or written (`proposer.constants`), which values are worth trying
(`proposer.ranges`), nor the optimiser's library (`proposer.optuna_model`).
"""

import random
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice

from eval.metric import Goal
from proposer.config import TunerConfig
from proposer.constants import LOOKED_FOR, change, read_constants
from proposer.hinted_space import check_value, hinted_space
from proposer.knob import Knob
from proposer.levels import Levels
from proposer.optuna_model import OptunaModel, Standing
from proposer.proposal import Context, Proposal, Result, Scalar, TaskKind
from proposer.ranges import check_names, choose_space, neighbours
from proposer.space import Space
from proposer.tuner_advice import tell
from proposer.tuner_hints import Hints, read_hints
from trainer.trial import CommitId, Ending, ExperimentId

_TRIES = 8
"""Suggestions looked at for one proposal before the nearest untried grid point is taken."""
_SCAN = 2000
"""Grid points looked at for one proposal."""
_FINENESS = 5
"""Points per axis of the sampler `grid`."""
_REST_FINENESS = 64
"""Points per axis where the grid only has to find what another sampler left over."""

_Configuration = Mapping[str, Scalar]
_Key = tuple[Scalar, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Record:
    """One experiment, as far as the optimiser cares."""

    experiment: ExperimentId = ExperimentId("")
    """Empty for what has no experiment yet."""
    parameters: _Configuration
    standing: Standing
    value: float | None = None

    @classmethod
    def of(cls, result: Result) -> "_Record":
        """Translate a result's value and status word."""
        if result.value is not None:
            standing = Standing.SCORED
        elif result.status in {Ending.CRASHED, Ending.TIMED_OUT, Ending.PRUNED, "rejected"}:
            standing = Standing.FAILED
        elif result.status in {Ending.CANCELLED, Ending.LOST, "suspect"}:
            standing = Standing.UNKNOWN
        else:
            standing = Standing.RUNNING
        return cls(
            experiment=result.experiment,
            parameters=result.parameters,
            standing=standing,
            value=result.value,
        )


class Tuner:
    """A `Proposer` that changes a few constants of the incumbent at a time.

    The range of a constant is chosen when it is first seen and stays, so that results remain
    comparable; it is chosen anew only if the incumbent leaves it. Give the constructor the files of
    the study's base commit, after a restart too: the ranges are then the same again. Hints lie over
    these ranges as long as the context has them (`proposer.tuner_hints`).

    Scores on code of unlike levels are told at one level (`proposer.levels`). `is_heard` says that
    somebody reads its advice; it is not made for nobody.

    The sampler `grid` walks through the grid points that differ from the incumbent in at most
    `most_changes` constants, fewest changes first. It is not Optuna's, whose full product over a
    dozen constants has no end, and which stops a study from within a loop that we do not run.

    Raises:
        ValueError: no constant to turn; a name or range in the configuration that fits none; a
            file that cannot be read.
    """

    def __init__(
        self,
        config: TunerConfig,
        files: Mapping[str, str],
        seed: int,
        *,
        name: str = "tuner",
        is_heard: bool = True,
    ) -> None:
        self._name = name
        self._is_heard = is_heard
        self._config = config
        self._seed = seed
        self._random = random.Random(seed)  # noqa: S311 (chooses constants, guards nothing)
        self._commit: CommitId | None = None
        self._knobs: dict[str, Knob] = {}
        self._usual: dict[str, Space] = {}
        self._spaces: dict[str, Space] = {}
        """The usual ones with hints over them."""
        self._hints: Hints = read_hints((), {})
        self._hint_texts: tuple[str, ...] = ()
        self._points: list[_Configuration] = []
        """What hints name to be tried first; each gives a few constants."""
        self._problems: list[str] = []
        """Why hints could not be used."""
        self._levels = Levels()
        self._wins = self._levels.wins
        self._advice = ""
        self._advice_of: object = None
        """What the advice was made of."""
        self._current: dict[str, Scalar] = {}
        """The incumbent's configuration; its keys are the constants that are turned."""
        self._first: dict[str, Scalar] = {}
        """The value of each constant when it was first seen."""
        self._walk: Iterator[_Configuration] = iter(())
        self._records: dict[ExperimentId, _Record] = {}
        self._untold: list[_Record] = []
        self._proposed: list[_Configuration] = []
        self._model: OptunaModel | None = None
        """What was learnt; derived from the fields above, None where it must be derived anew."""
        self._running: dict[_Key, int] = {}
        self._tried: set[_Key] = set()
        knobs = read_constants(files)
        check_names(config, knobs)
        self._adopt(knobs)
        if not self._current:
            found = f", found {', '.join(knobs)} but no range to search" if knobs else ""
            raise ValueError(
                f"no constant to tune in {', '.join(files)}: looked for {LOOKED_FOR}{found}"
            )

    @property
    def name(self) -> str:
        """The tuner's name in logs and trailers."""
        return self._name

    @property
    def tasks(self) -> frozenset[TaskKind]:
        """None: constants mend nothing."""
        return frozenset()

    @property
    def advice(self) -> str:
        """Importances of the constants and their best region, as of the last `propose`."""
        return self._advice

    def propose(self, context: Context, count: int) -> Sequence[Proposal]:
        """Return up to `count` configurations near the incumbent's that were never tried.

        Fewer, or none, where the values are used up.

        Raises:
            ValueError: the incumbent's files cannot be read; names the path and the line.
        """
        # First of all: results are shown only once, also to a call that fails.
        for result in context.results:
            if result.parameters:
                self._note(result.experiment, _Record.of(result))
            if result.never_ran:
                self._forget(result.never_ran)
        if context.commit != self._commit or tuple(context.hints) != self._hint_texts:
            self._hint_texts = tuple(context.hints)
            self._adopt(read_constants(context.files))
            self._commit = context.commit
        model = self._learn(context)
        if self._is_heard:
            self._advise(context, model)
        proposals: list[Proposal] = []
        while len(proposals) < count and (found := self._next(model)):
            proposals.append(change(context.files, self._knobs, found))
        return proposals

    def _adopt(self, knobs: Mapping[str, Knob]) -> None:
        """Make these constants the ones that candidates start from."""
        spaces: dict[str, Space] = {}
        for name, knob in knobs.items():
            known = self._usual.get(name)
            is_inside = known is not None and known.contains(knob.value)
            space = known if is_inside else choose_space(knob, self._config)
            if space is not None:
                spaces[name] = space
                self._first.setdefault(name, knob.value)
        self._usual = spaces
        self._hints = read_hints(self._hint_texts, {name: knobs[name] for name in spaces})
        spaces = self._hinted(knobs)
        if spaces != self._spaces:
            self._spaces = spaces
            self._model = None
        self._knobs = {name: knobs[name] for name in spaces}
        self._current = {name: knob.value for name, knob in self._knobs.items()}
        fineness = _FINENESS if self._config.sampler == "grid" else _REST_FINENESS
        self._walk = neighbours(self._current, spaces, self._config.most_changes, fineness)

    def _hinted(self, knobs: Mapping[str, Knob]) -> dict[str, Space]:
        spaces = dict(self._usual)
        self._problems = list(self._hints.problems)
        for name, wanted in self._hints.wanted.items():
            try:
                spaces[name] = hinted_space(knobs[name], spaces[name], wanted, self._config)
            except ValueError as error:
                self._problems.append(str(error))
        self._points = []
        for point in self._hints.points:
            try:
                for name, value in point.items():
                    check_value(knobs[name], self._usual[name], value, self._config)
            except ValueError as error:
                self._problems.append(str(error))
            else:
                self._points.append(point)
        return spaces

    def _advise(self, context: Context, model: OptunaModel) -> None:
        scored = [
            (record.parameters, record.value - self._levels.of(record.experiment))
            for record in self._records.values()
            if record.value is not None and self._current.keys() & record.parameters.keys()
        ]
        made_of = (scored, self._problems)
        if made_of == self._advice_of:
            return
        self._advice_of = made_of
        level = self._levels.of(context.incumbent)
        known = [
            ({name: at[name] for name in self._current if name in at}, value + level)
            for at, value in scored
        ]
        self._advice = tell(context.metric, known, model.importances(), self._problems)

    def _note(self, experiment: ExperimentId, record: _Record) -> None:
        old = self._records.get(experiment)
        if record == old:
            return
        self._records[experiment] = record
        self._untold.append(record)
        if old is not None and old.standing is not Standing.RUNNING:
            self._model = None  # Optuna does not take back what it was told.

    def _forget(self, configuration: _Configuration) -> None:
        """Wait no longer for a configuration that will not be run; it may be proposed again."""
        key = self._key(configuration)
        self._proposed = [one for one in self._proposed if self._key(one) != key]
        self._tried.discard(key)
        number = self._running.pop(key, None)
        if number is not None and self._model is not None:
            self._model.finish(number, Standing.UNKNOWN, None)

    def _learn(self, context: Context) -> OptunaModel:
        if context.incumbent_value is not None and context.incumbent not in self._records:
            incumbent = _Record(
                experiment=context.incumbent,
                parameters=self._current,
                standing=Standing.SCORED,
                value=context.incumbent_value,
            )
            self._note(context.incumbent, incumbent)
        self._relevel(Levels(context.history, context.metric.goal))
        if self._model is None:
            self._model = self._derive(context.metric.goal)
        else:
            for record in self._untold:
                self._tell(self._model, record)
        self._untold.clear()
        self._tried.add(self._key(self._current))
        return self._model

    def _relevel(self, levels: Levels) -> None:
        """Tell everything anew where an earlier result turns out to be of another level."""
        old, self._levels = self._levels, levels
        before, self._wins = self._wins, levels.wins
        if self._model is not None and before != self._wins:
            untold = {id(record) for record in self._untold}
            told = (one for one in self._records.values() if id(one) not in untold)
            if any(levels.of(one.experiment) != old.of(one.experiment) for one in told):
                self._model = None

    def _derive(self, goal: Goal) -> OptunaModel:
        # Not the bare seed: a restarted tuner would suggest again what it suggested at first.
        seed = (self._seed + len(self._records)) % 2**32
        self._random.seed(seed)
        axes = {name: space.axis for name, space in self._spaces.items()}
        sampler = "random" if self._config.sampler == "grid" else self._config.sampler
        model = OptunaModel(axes, sampler, goal, seed)
        self._running = {}
        self._tried = set()
        for record in self._records.values():
            self._tell(model, record)
        self._proposed = [one for one in self._proposed if self._key(one) not in self._tried]
        for configuration in self._proposed:
            self._tell(model, _Record(parameters=configuration, standing=Standing.RUNNING))
        return model

    def _tell(self, model: OptunaModel, record: _Record) -> None:
        if not self._current.keys() & record.parameters.keys():
            return
        configuration = self._filled(record.parameters)
        key = tuple(configuration.values())
        self._tried.add(key)
        value = record.value
        if value is not None:
            value -= self._levels.of(record.experiment)
        number = self._running.get(key)
        if number is not None:
            if record.standing is not Standing.RUNNING:
                del self._running[key]
                model.finish(number, record.standing, value)
            return
        whole = configuration if not model.takes_parts else record.parameters
        coordinates = self._encoded(whole, model)
        if coordinates:
            number = model.add(coordinates, record.standing, value)
            if record.standing is Standing.RUNNING:
                self._running[key] = number

    def _next(self, model: OptunaModel) -> _Configuration | None:
        """Return a configuration that was never tried, and count it as running."""
        for configuration, notes in self._candidates(model):
            key = self._key(configuration)
            coordinates = self._encoded(configuration, model)
            if key in self._tried or not coordinates:
                continue
            self._tried.add(key)
            self._proposed.append(configuration)
            self._running[key] = model.add(coordinates, Standing.RUNNING, notes=notes)
            return configuration
        return None

    def _candidates(
        self, model: OptunaModel
    ) -> Iterator[tuple[_Configuration, Mapping[str, object] | None]]:
        for point in self._hinted_points():
            yield point, None
        if self._current and self._config.sampler != "grid":
            for _ in range(_TRIES):
                coordinates, notes = model.suggest()
                yield self._near(coordinates), notes
        for configuration in islice(self._walk, _SCAN):
            yield configuration, None

    def _hinted_points(self) -> Iterator[_Configuration]:
        """Yield what hints name to be tried first and nobody has tried, on whatever base."""
        seen = [*self._proposed, *(record.parameters for record in self._records.values())]
        for point in self._points:
            if not any(point.items() <= one.items() for one in seen):
                yield {**self._current, **point}

    def _near(self, coordinates: Mapping[str, float]) -> _Configuration:
        """Return the incumbent's configuration with a few of the suggested values."""
        suggested = {name: self._spaces[name].decode(at) for name, at in coordinates.items()}
        changed = [name for name, value in self._current.items() if value != suggested[name]]
        most = min(len(changed), self._config.most_changes)
        chosen = self._random.sample(changed, self._random.randint(1, most)) if changed else ()
        return {**self._current, **{name: suggested[name] for name in chosen}}

    def _filled(self, parameters: _Configuration) -> _Configuration:
        """Return all constants; one that a tree did not have yet has its first value.

        A constant that appears usually names what had been written out before.
        """
        return {name: parameters.get(name, self._first[name]) for name in self._current}

    def _key(self, configuration: _Configuration) -> _Key:
        return tuple(self._filled(configuration).values())

    def _encoded(
        self, configuration: _Configuration, model: OptunaModel
    ) -> dict[str, float] | None:
        """Return the coordinates of what the model can take of a configuration; None for nothing.

        A value outside a range that a hint has narrowed has none: to tell it as the range's end
        would say of the end what was measured elsewhere.
        """
        coordinates = {}
        for name in self._current.keys() & configuration.keys():
            value, space = configuration[name], self._spaces[name]
            coordinate = space.encode(value)
            is_hinted = space != self._usual[name]
            if coordinate is None or (
                is_hinted and model.takes_parts and not _holds(space, coordinate, value)
            ):
                if not is_hinted or not model.takes_parts:
                    return None
                continue
            coordinates[name] = coordinate
        return {name: coordinates[name] for name in self._current if name in coordinates}


def _holds(space: Space, coordinate: float, value: Scalar) -> bool:
    """Say whether a value is near what its coordinate stands for, not beyond the axis."""
    at = space.decode(coordinate)
    if space.contains(value) or isinstance(at, bool | str) or isinstance(value, bool | str):
        return True
    inner = (space.decode(space.axis.low), space.decode(space.axis.high))
    low, high = sorted(float(end) for end in inner)
    return low <= float(value) <= high
