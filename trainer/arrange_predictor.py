"""From what a study wants to know of models to the predictor of one of its slots.

Knows what a model is shown when it is asked: what its run saw, one set of inputs, and never labels.
Starts an interpreter to ask it for its library.
"""

import os
import shlex
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from eval.metric import Metric
from trainer.compile_caches import CacheSeed
from trainer.config import ScoreConfig
from trainer.environment import Environment, EnvironmentFailed, is_there, user_path
from trainer.hidden_labels import NEEDS_SANDBOX, SCORE, LabelsShown, check_apart
from trainer.ports import CodeSource, Slot
from trainer.predictor import INPUTS, PredictCommand, Predictor, Question
from trainer.run_folder import RunFolder
from trainer.run_records import Bind, Limits
from trainer.sandbox.arrange import paths_shown
from trainer.sandbox.confine import BubblewrapSandbox
from trainer.sandbox.port import Sandbox
from trainer.sandbox.python_paths import Hidden, needed
from trainer.scorer import most_bytes
from trainer.slot_place import SlotPlace
from trainer.trial import TrialSpec


@dataclass(frozen=True, slots=True, kw_only=True)
class TrialPlace:
    """How trials are run where models are to be asked, for that is done in the same way."""

    environment: Environment
    sandbox: Sandbox
    limits: Limits
    slot: Slot
    threads: int
    code: CodeSource
    seed: CacheSeed | None
    metric: Metric

    def variables(self, spec: TrialSpec, seen: RunFolder) -> Mapping[str, str]:
        """Return those of a trial that finds its files at `seen`."""
        return self.environment.for_trial(
            spec,
            worktree=seen.src,
            out=seen.out,
            gpu_uuids=self.slot.gpu_uuids,
            threads=self.threads,
        )


def arrange_predictor(
    scores: Mapping[str, ScoreConfig], *, trial: TrialPlace, place: SlotPlace
) -> Predictor:
    """Return what asks models by `[score] predict`, all that could go wrong looked at.

    Args:
        scores: by their sections, `[score]` first: what is asked, and the labels to be hidden.
        trial: how trials are run here.
        place: where it is to be.

    Raises:
        EnvironmentFailed: labels could be seen, or inputs cannot be; the message has the cure.
    """
    config = scores[SCORE]
    if not isinstance(trial.sandbox, BubblewrapSandbox):
        raise LabelsShown(NEEDS_SANDBOX)
    argv = tuple(shlex.split(config.predict))
    hidden = Hidden(home=Path(trial.sandbox.home), studies=place.paths.study)
    own = needed(argv, trial.environment.variables, hidden)
    shown = tuple(dict.fromkeys((*own, *trial.sandbox.shown)))
    inputs = {
        section: _inputs(section, score.inputs, hidden, trial.sandbox.owner)
        for section, score in scores.items()
    }
    for section, score in scores.items():
        is_there(score.labels, f"{section} labels")  # raises where nobody can look
        labels = user_path(score.labels, f"{section} labels").resolve()
        check_apart(labels, _places((*shown, *inputs.values())), section)
    return Predictor(
        PredictCommand(
            line=config.predict,
            argv=argv,
            variables=trial.variables,
            timeout_s=config.predict_timeout_s,
            most_bytes=most_bytes(config),
            metric=trial.metric,
        ),
        [
            Question(
                name="" if section == SCORE else section.strip("[]"),
                inputs=inputs[section],
                predictions=score.predictions,
            )
            for section, score in scores.items()
        ],
        code=trial.code,
        seed=trial.seed,
        sandbox=replace(trial.sandbox, shown=shown),
        limits=trial.limits,
        place=place,
    )


def _inputs(section: str, path: str, hidden: Hidden, uid: int | None) -> Bind:
    """Return how the inputs are shown: by their own name, wherever on this machine they are."""
    key = f"{section} inputs"
    if not is_there(path, key):
        raise EnvironmentFailed(f"{key}: there is no {path} on this node. Put it there")
    (found,) = paths_shown([path], hidden, uid, key)
    return replace(found, place=os.fspath(Path(INPUTS, Path(path).name)))


def _places(shown: tuple[Bind, ...]) -> Mapping[str, Path]:
    return {bind.source: Path(bind.source) for bind in shown}
