"""The tuner: proposes small changes of constants, the way an optimiser would.

Knows what was proposed, what came of it, and which of it the optimiser is told. Does not know how
constants are read or written (`proposer.constants`), which values they may have
(`proposer.search_space`), nor the optimiser's library (`proposer.optuna_model`).
"""

import random
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice

from eval.metric import Goal
from proposer.config import TunerConfig
from proposer.constants import LOOKED_FOR, change, read_constants
from proposer.knob import Knob
from proposer.levels import Levels
from proposer.optuna_model import OptunaModel, Standing
from proposer.proposal import Context, Proposal, Result, TaskKind
from proposer.ranges import check_names
from proposer.search_space import Configuration, Key, SearchSpace
from proposer.tuner_advice import tell
from trainer.trial import CommitId, Ending, ExperimentId

_TRIES = 8
"""Suggestions looked at for one proposal before the nearest untried grid point is taken."""
_SCAN = 2000
"""Grid points looked at for one proposal."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Record:
    """One experiment, as far as the optimiser cares."""

    experiment: ExperimentId = ExperimentId("")
    """Empty for what has no experiment yet."""
    parameters: Configuration
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

    Ranges are chosen when constants are first seen: give the constructor the files of the study's
    base commit, after a restart too, and they are the same again.

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
        self._space = SearchSpace(config)
        self._commit: CommitId | None = None
        self._hints: tuple[str, ...] = ()
        """Those of which the space was made, and the commit."""
        self._levels = Levels()
        self._wins = self._levels.wins
        self._advice = ""
        self._advice_of: object = None
        """What the advice was made of."""
        self._walk: Iterator[Configuration] = iter(())
        self._records: dict[ExperimentId, _Record] = {}
        self._untold: list[_Record] = []
        self._proposed: list[Configuration] = []
        self._model: OptunaModel | None = None
        """What was learnt; derived from the fields above, None where it must be derived anew."""
        self._running: dict[Key, int] = {}
        self._tried: set[Key] = set()
        knobs = read_constants(files)
        check_names(config, knobs)
        self._adopt(knobs, ())
        if not self._space.current:
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
        if (context.commit, tuple(context.hints)) != (self._commit, self._hints):
            self._adopt(read_constants(context.files), context.hints)
            self._commit, self._hints = context.commit, tuple(context.hints)
        model = self._learn(context)
        if self._is_heard:
            self._advise(context, model)
        proposals: list[Proposal] = []
        while len(proposals) < count and (found := self._next(model)):
            proposals.append(change(context.files, self._space.knobs, found))
        return proposals

    def _adopt(self, knobs: Mapping[str, Knob], hints: Sequence[str]) -> None:
        if self._space.adopt(knobs, hints):
            self._model = None
        self._walk = self._space.walk()

    def _advise(self, context: Context, model: OptunaModel) -> None:
        scored = [
            (record.parameters, record.value - self._levels.of(record.experiment))
            for record in self._records.values()
            if record.value is not None and self._space.concerns(record.parameters)
        ]
        made_of = (scored, self._space.problems)
        if made_of == self._advice_of:
            return
        self._advice_of = made_of
        level = self._levels.of(context.incumbent)
        known = [
            ({name: at[name] for name in self._space.current if name in at}, value + level)
            for at, value in scored
        ]
        self._advice = tell(context.metric, known, model.importances(), self._space.problems)

    def _note(self, experiment: ExperimentId, record: _Record) -> None:
        old = self._records.get(experiment)
        if record == old:
            return
        self._records[experiment] = record
        self._untold.append(record)
        if old is not None and old.standing is not Standing.RUNNING:
            self._model = None  # Optuna does not take back what it was told.

    def _forget(self, configuration: Configuration) -> None:
        """Wait no longer for a configuration that will not be run; it may be proposed again."""
        key = self._space.key(configuration)
        self._proposed = [one for one in self._proposed if self._space.key(one) != key]
        self._tried.discard(key)
        number = self._running.pop(key, None)
        if number is not None and self._model is not None:
            self._model.finish(number, Standing.UNKNOWN, None)

    def _learn(self, context: Context) -> OptunaModel:
        if context.incumbent_value is not None and context.incumbent not in self._records:
            incumbent = _Record(
                experiment=context.incumbent,
                parameters=self._space.current,
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
        self._tried.add(self._space.key(self._space.current))
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
        sampler = "random" if self._config.sampler == "grid" else self._config.sampler
        model = OptunaModel(self._space.axes, sampler, goal, seed)
        self._running = {}
        self._tried = set()
        for record in self._records.values():
            self._tell(model, record)
        self._proposed = [one for one in self._proposed if self._space.key(one) not in self._tried]
        for configuration in self._proposed:
            self._tell(model, _Record(parameters=configuration, standing=Standing.RUNNING))
        return model

    def _tell(self, model: OptunaModel, record: _Record) -> None:
        if not self._space.concerns(record.parameters):
            return
        configuration = self._space.filled(record.parameters)
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
        known = record.parameters if model.takes_parts else configuration
        coordinates = self._space.encoded(known, in_part=model.takes_parts)
        if coordinates:
            number = model.add(coordinates, record.standing, value)
            if record.standing is Standing.RUNNING:
                self._running[key] = number

    def _next(self, model: OptunaModel) -> Configuration | None:
        """Return a configuration that was never tried, and count it as running."""
        for configuration, notes in self._candidates(model):
            key = self._space.key(configuration)
            coordinates = self._space.encoded(configuration, in_part=model.takes_parts)
            if key in self._tried or not coordinates:
                continue
            self._tried.add(key)
            self._proposed.append(configuration)
            self._running[key] = model.add(coordinates, Standing.RUNNING, notes=notes)
            return configuration
        return None

    def _candidates(
        self, model: OptunaModel
    ) -> Iterator[tuple[Configuration, Mapping[str, object] | None]]:
        for point in self._hinted_points():
            yield point, None
        if self._space.current and self._config.sampler != "grid":
            for _ in range(_TRIES):
                coordinates, notes = model.suggest()
                yield self._space.near(coordinates, self._random), notes
        for configuration in islice(self._walk, _SCAN):
            yield configuration, None

    def _hinted_points(self) -> Iterator[Configuration]:
        """Yield what hints name to be tried first and nobody has tried, on whatever base."""
        seen = [*self._proposed, *(record.parameters for record in self._records.values())]
        for point in self._space.points:
            if not any(point.items() <= one.items() for one in seen):
                yield {**self._space.current, **point}
