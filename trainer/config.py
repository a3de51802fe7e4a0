"""The sections of `incumbent.toml` that trainer owns: `[trial]`, and three on scoring."""

import shlex
from collections.abc import Mapping
from pathlib import PurePosixPath
from typing import Annotated, Literal, TypeVar

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    ValidationError,
    model_validator,
)

from eval.config import one_group
from eval.trusted_metrics import RECALL, TRUSTED_METRICS

READABLE = (".npy", ".npz", ".safetensors", ".jsonl")
"""Files that our own scorer can read, by the end of their names."""


def _placed(path: str) -> str:
    if not path.startswith(("/", "~")):
        raise ValueError(
            f"must be an absolute path, or begin with ~, not {path!r}: trials run in a copy of the "
            "commit, and read by its full path what lies elsewhere"
        )
    return path


_Place = Annotated[str, AfterValidator(_placed)]


class TrialConfig(BaseModel):
    """`[trial]`: how one candidate is run."""

    model_config = ConfigDict(
        extra="forbid", frozen=True, strict=True, use_attribute_docstrings=True
    )

    command: Annotated[str, Field(min_length=1)]
    """What to run in a copy of the commit, split as a shell would (no shell is started)."""
    budget_s: Annotated[float, Field(gt=0)] = 300.0
    """What the script aims at, in seconds; it is told as INCUMBENT_BUDGET_S."""
    timeout_s: Annotated[float, Field(gt=0)] = 600.0
    """Wall-clock limit in seconds, enforced on the whole process tree."""
    smoke_s: Annotated[float | None, Field(gt=0)] = None
    """Budget in seconds of a smoke run before each candidate's first trial; unset: none."""
    gpus: Annotated[float, Field(ge=0)] = 1.0
    """GPUs a trial takes: 1, 0.5 to share one, 2 of one node; 0 runs on CPU slots."""
    device: Annotated[str, Field(max_length=200), AfterValidator(str.strip)] = ""
    """Cards that take trials: part of the name, e.g. `RTX 4090`, or a device class; empty: any."""
    memory_gb: Annotated[float | None, Field(gt=0)] = None
    """Most memory of all a trial's processes, in GB; unset: an equal share of the machine's."""
    disk_gb: Annotated[float, Field(gt=0)] = 20.0
    """Most that a trial's checkout, output and compile caches may hold, in GB."""
    disk_files: Annotated[int, Field(ge=1)] = 100_000
    """Most files and folders in a trial's checkout, output and compile caches."""
    pids: Annotated[int, Field(ge=16)] = 4096
    """Most processes and threads of a trial."""
    open_files: Annotated[int, Field(ge=64)] = 65536
    """Most files that each process of a trial may have open at a time."""
    data: tuple[_Place, ...] = ()
    """Paths that trials read, `~` allowed; in the sandbox, all that there is of your files."""
    setup: str = ""
    """Command run once per node, with network, before the first trial."""
    environment: Annotated[str, Field(min_length=1)] = "current"
    """`uv`: the repository's lock file; `current`: Incumbent's own Python; or a venv's path."""
    preflight: bool = True
    """Look at candidates before they cost anything, and reject those that can only fail."""
    preload: tuple[str, ...] | None = None
    """Modules imported before a trial's turn; unset: torch where it is used; empty: none."""
    seed_pattern: Annotated[str, Field(max_length=200), AfterValidator(one_group)] = ""
    """Regular expression whose one group is the seed in an editable file; repeats get another."""
    sandbox: Literal["bubblewrap", "none"] = "bubblewrap"
    """`bubblewrap`: no network, no files but its own and `data`; `none`: it runs as your user."""

    @model_validator(mode="after")
    def _is_consistent(self) -> "TrialConfig":
        if self.timeout_s < self.budget_s:
            raise ValueError(
                f"timeout_s ({self.timeout_s:g}) must be at least budget_s ({self.budget_s:g})"
            )
        if self.smoke_s is not None and self.smoke_s >= self.budget_s:
            raise ValueError(
                f"smoke_s ({self.smoke_s:g}) must be less than budget_s ({self.budget_s:g})"
            )
        if self.gpus > 1 and self.gpus != int(self.gpus):
            raise ValueError(f"gpus above 1 must be whole, not {self.gpus:g}")
        if self.device and not self.gpus:
            raise ValueError(f"device asks for {self.device}, but with gpus = 0 there is no card")
        return self


def _inside(path: str) -> str:
    if "\0" in path or any(part in {"", ".", ".."} for part in path.split("/")):
        raise ValueError("is no path within $INCUMBENT_OUT")
    return path


def _absolute(path: str) -> str:
    if not path.startswith(("/", "~")):
        raise ValueError(f"must be an absolute path, or begin with ~, not {path!r}")
    return path


def _splittable(command: str) -> str:
    try:
        argv = shlex.split(command)
    except ValueError as error:
        raise ValueError(f"{command!r} cannot be split: {error}") from error
    if command and not argv:
        raise ValueError("names no command")
    return command


def _known(name: str) -> str:
    if name and name not in TRUSTED_METRICS and not RECALL.fullmatch(name):
        raise ValueError(f"{name!r} is none of {', '.join(TRUSTED_METRICS)}, recall@K")
    return name


_Predictions = Annotated[str, Field(min_length=1, max_length=200), AfterValidator(_inside)]
_Labels = Annotated[str, Field(min_length=1), AfterValidator(_absolute)]
_Perhaps = Annotated[str, AfterValidator(lambda path: _absolute(path) if path else path)]
"""A path like that, or none."""


_Model = TypeVar("_Model", bound=BaseModel)


def _changed(model: _Model, changes: Mapping[str, object]) -> _Model:
    """Return a section with other values; raises ValueError, in one line of the section's words."""
    try:
        return model.model_validate({**model.model_dump(), **changes})
    except ValidationError as error:
        raise ValueError(str(error.errors()[0]["ctx"]["error"])) from error


class ScoreConfig(BaseModel):
    """`[score]`: how predictions become the metric, where `[metric] source = "predictions"`."""

    model_config = ConfigDict(
        extra="forbid", frozen=True, strict=True, use_attribute_docstrings=True
    )

    predictions: _Predictions = "predictions.npy"
    """File that each trial leaves in `$INCUMBENT_OUT`, or that `predict` makes."""
    labels: _Labels
    """File that no trial sees, `~` allowed: outside of the repository and of `[trial] data`."""
    metric: Annotated[str, AfterValidator(_known)] = ""
    """What to compute: a [metric of ours](scoring.md#metrics), e.g. `accuracy` or `recall@5`."""
    command: str = ""
    """Instead of `metric`: your own scorer, e.g. `python score.py`, of the study's base commit."""
    predict: Annotated[str, AfterValidator(_splittable)] = ""
    """Command that makes predictions of the model that a run left, e.g. `python predict.py`, in a
    sandbox of its own; empty: runs leave predictions."""
    inputs: _Perhaps = ""
    """File or folder that `predict` is given, `~` allowed; trials need not see it."""
    predict_timeout_s: Annotated[float, Field(gt=0)] = 300.0
    """Wall-clock limit of each run of `predict`, in seconds."""
    timeout_s: Annotated[float, Field(gt=0)] = 120.0
    """Wall-clock limit of scoring one trial, in seconds."""
    memory_gb: Annotated[float, Field(gt=0)] = 4.0
    """Most memory of scoring one trial, in GB; a quarter of it is the most that a file may hold."""

    @model_validator(mode="after")
    def _is_consistent(self) -> "ScoreConfig":
        if bool(self.metric) == bool(self.command):
            raise ValueError("give either metric (ours) or command (your own scorer)")
        if self.predict and not self.inputs:
            raise ValueError("needs inputs, a file or folder that [score] predict is given")
        if self.inputs and not self.predict:
            raise ValueError("inputs are for [score] predict, and that is not there")
        for path in (self.predictions, self.labels):
            if self.metric and PurePosixPath(path).suffix not in READABLE:
                raise ValueError(f"{path} must end in one of {', '.join(READABLE)}")
        return self

    def of(self, predictions: str, labels: str, inputs: str) -> "ScoreConfig":
        """Return the same scoring of other predictions by other labels; raises ValueError.

        `inputs` are what those are predictions of, where they are made by `predict`.
        """
        changes = {"predictions": predictions, "labels": labels, "inputs": inputs}
        return _changed(self, changes)


class HoldoutConfig(BaseModel):
    """`[holdout]`: labels that nothing is chosen by; scored at promotions alone, by `[score]`."""

    model_config = ConfigDict(
        extra="forbid", frozen=True, strict=True, use_attribute_docstrings=True
    )

    predictions: _Predictions = "holdout.npy"
    """File like that of `[score]`, beside it: left in `$INCUMBENT_OUT`, or made by `predict`."""
    inputs: _Perhaps = ""
    """File or folder that `[score] predict` is given for it, where there is that."""
    labels: _Labels
    """File that no trial sees, like that of `[score]`."""
    step: Annotated[float | None, Field(ge=0)] = None
    """Only what is better by more than this is told, rounded to it; unset: the noise of a run."""


class KeepConfig(BaseModel):
    """`[keep]`: what is kept of what trials leave: outputs, predictions and logs."""

    model_config = ConfigDict(
        extra="forbid", frozen=True, strict=True, use_attribute_docstrings=True
    )

    disk_gb: Annotated[float, Field(ge=0)] = 100.0
    """Most that it may hold on each machine, in GB; beyond that the oldest goes, but nothing of the
    baseline or of what was promoted. What earlier studies left on a node that joins may hold as
    much again. 0: no limit."""
    return_mb: Annotated[float, Field(ge=0)] = 64.0
    """Most that comes back of one trial from a node that joined, in MB: the smallest files first.
    The others stay on the node."""
    first: tuple[Annotated[str, Field(min_length=1)], ...] = ()
    """Patterns of files that come back before the smallest, as `["best*.pt", "*.json"]`: those of
    the first pattern before those of the next. `*` is any text, also over several folders."""


class FinalConfig(BaseModel):
    """`[final]`: how `incumbent final` trains in full, and the labels that it scores once.

    What is unset is as `[trial]` has it.
    """

    model_config = ConfigDict(
        extra="forbid", frozen=True, strict=True, use_attribute_docstrings=True
    )

    command: str = ""
    """What to run instead, e.g. with more epochs; empty: the command of `[trial]`."""
    budget_s: Annotated[float | None, Field(gt=0)] = None
    """What the script aims at, in seconds; it is told as INCUMBENT_BUDGET_S."""
    timeout_s: Annotated[float | None, Field(gt=0)] = None
    """Wall-clock limit of a run in seconds; unset: as far beyond its budget as for a trial."""
    gpus: Annotated[float | None, Field(ge=0)] = None
    """GPUs that a run takes."""
    memory_gb: Annotated[float | None, Field(gt=0)] = None
    """Most memory of all a run's processes, in GB."""
    disk_gb: Annotated[float | None, Field(gt=0)] = None
    """Most that a run's checkout, output and compile caches may hold, in GB."""
    seeds: Annotated[int, Field(ge=1, le=100)] = 1
    """How many runs, each with a seed of its own."""
    data: tuple[_Place, ...] = ()
    """Paths that these runs read beside `[trial] data`, e.g. the inputs of the test set."""
    predictions: _Predictions = "test.npy"
    """File that each run leaves in `$INCUMBENT_OUT`, or `predict` makes, where there are labels."""
    inputs: _Perhaps = ""
    """File or folder that `[score] predict` is given for it, where there is that."""
    labels: _Perhaps = ""
    """The test labels, which no run sees, scored as `[score]` says; empty: none."""

    def trial(self, base: TrialConfig) -> TrialConfig:
        """Return how a full run is run; raises ValueError where that cannot be."""
        budget_s = self.budget_s or base.budget_s
        limits = {"gpus": self.gpus, "memory_gb": self.memory_gb, "disk_gb": self.disk_gb}
        return _changed(
            base,
            {
                **{name: value for name, value in limits.items() if value is not None},
                "command": self.command or base.command,
                "budget_s": budget_s,
                "timeout_s": self.timeout_s or budget_s + base.timeout_s - base.budget_s,
                "data": (*base.data, *self.data),
                "smoke_s": None,
            },
        )
