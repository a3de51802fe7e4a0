"""From a study's `[score]` section to the scorer of one of its slots.

Knows what the scorer is shown, which is the labels and what it needs to run. Starts processes to
look at the labels once before any trial has run, and to ask an interpreter for its library.
"""

import os
import shlex
import sys
from dataclasses import replace
from pathlib import Path

from eval.metric import Goal, Metric
from trainer import own_python
from trainer.config import ScoreConfig
from trainer.environment import Environment, EnvironmentFailed
from trainer.hidden_labels import SCORE, check_hidden, place_of
from trainer.limits import GB
from trainer.paths import WorkerPaths
from trainer.run_records import Bind, Limits
from trainer.sandbox.confine import BubblewrapSandbox, Sizes
from trainer.sandbox.port import Sandbox
from trainer.sandbox.python_paths import Hidden, needed
from trainer.scorer import PredictionScorer, ScoreCommand, most_bytes
from trainer.slot_place import SlotPlace
from trainer.worktree import SlotWorktree

_PACKAGES = Path(__file__).resolve().parents[1]
_OURS = "/incumbent"
"""Where our scorer finds eval/ and trainer/ in its sandbox, and nothing else of where they are."""
_BOOT = f"import sys; sys.path.append({_OURS!r}); from trainer.score_process import main; main()"
_LABELS = "/labels"
_ONE_THREAD = {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}
"""A trial runs beside it."""


def arrange_scorer(
    config: ScoreConfig,
    *,
    metric: Metric,
    environment: Environment,
    trial_sandbox: Sandbox,
    limits: Limits,
    place: SlotPlace,
    section: str = SCORE,
) -> PredictionScorer:
    """Return the scorer, its labels looked at.

    Args:
        config: the section.
        metric: the study's, which a scorer of the user's prints.
        environment: that of trials, in which a scorer of the user's runs.
        trial_sandbox: what trials are confined by; the labels must not be seen in it.
        limits: of a trial; but for memory and time they hold for scoring too.
        place: where it is to be.
        section: where the labels are named.

    Raises:
        EnvironmentFailed: a trial could see the labels, or they are of no use, or there is no
            scorer to be had; the message has the cure.
    """
    labels = place_of(config.labels, section)
    seen = Path(_LABELS, Path(config.labels).name)  # what a link leads to may have any name
    outer = check_hidden(labels, trial_sandbox, section)
    if config.metric:
        command = _our_command(config.metric, most_bytes(config))
    else:
        command = _own_command(config.command, metric, environment, place)
    memory_bytes = round(config.memory_gb * GB)
    shown = Bind(source=os.fspath(labels), place=os.fspath(seen))
    scorer = PredictionScorer(
        config,
        command,
        labels=seen,
        sandbox=_confined(outer, command, shown, place.paths, memory_bytes),
        limits=replace(limits, memory_bytes=memory_bytes),
        place=place,
    )
    if config.metric and (problem := scorer.problem()):
        scorer.close()
        raise EnvironmentFailed(problem.replace(SCORE, section))
    return scorer


def _our_command(name: str, most: int) -> ScoreCommand:
    path = os.pathsep.join((os.fspath(Path(sys.executable).parent), os.defpath))
    return ScoreCommand(
        argv=(sys.executable, "-I", "-c", _BOOT, name, str(most)),
        variables={"PATH": path, **own_python.variables(), **_ONE_THREAD},
        metric=Metric(name="score", goal=Goal.MINIMIZE, pattern=r"^score: (\S+)$"),
        name="the scorer",
        is_ours=True,
    )


def _own_command(
    line: str, metric: Metric, environment: Environment, place: SlotPlace
) -> ScoreCommand:
    try:
        argv = tuple(shlex.split(line))
    except ValueError as error:
        raise EnvironmentFailed(f"[score] command {line!r} cannot be split: {error}") from error
    path = place.paths.scoring_worktree(place.slot)
    tree = SlotWorktree(repository=place.paths.repository, path=path).checkout(place.base)
    return ScoreCommand(
        argv=argv,
        variables={**environment.variables, **_ONE_THREAD, "PYTHONNOUSERSITE": "1"},
        metric=metric,
        name=line,
        tree=tree,
        source="src" if environment.has_source_folder else "",
    )


def _confined(
    trial_sandbox: BubblewrapSandbox,
    command: ScoreCommand,
    labels: Bind,
    paths: WorkerPaths,
    memory_bytes: int,
) -> BubblewrapSandbox:
    """Return the scorer's sandbox: the user's own script sees what trials see, and the labels."""
    hidden = Hidden(home=Path(trial_sandbox.home), studies=paths.study)
    packages = [_PACKAGES / name for name in ("eval", "trainer")] if command.is_ours else []
    shown = (
        *needed(command.argv, command.variables, hidden),
        *(() if command.is_ours else trial_sandbox.shown),
        *(Bind(source=os.fspath(each), place=f"{_OURS}/{each.name}") for each in packages),
        labels,
    )
    return replace(
        trial_sandbox,
        shown=tuple(dict.fromkeys(shown)),
        devices=(),
        sizes=Sizes.of_memory(memory_bytes),
    )
