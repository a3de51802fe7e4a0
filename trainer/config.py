"""The sections of `incumbent.toml` that trainer owns: `[trial]` and `[score]`."""

from pathlib import PurePosixPath
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from eval.trusted_metrics import RECALL, TRUSTED_METRICS

READABLE = (".npy", ".npz", ".safetensors", ".jsonl")
"""Files that our own scorer can read, by the end of their names."""


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
    data: tuple[str, ...] = ()
    """Paths that trials read, `~` allowed; in the sandbox, all that there is of your files."""
    setup: str = ""
    """Command run once per node, with network, before the first trial."""
    environment: Annotated[str, Field(min_length=1)] = "current"
    """`uv`: the repository's lock file; `current`: Incumbent's own Python; or a venv's path."""
    preflight: bool = True
    """Look at candidates before they cost anything, and reject those that can only fail."""
    preload: tuple[str, ...] | None = None
    """Modules imported before a trial's turn; unset: torch where it is used; empty: none."""
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
        return self


class ScoreConfig(BaseModel):
    """`[score]`: how predictions become the metric, where `[metric] source = "predictions"`."""

    model_config = ConfigDict(
        extra="forbid", frozen=True, strict=True, use_attribute_docstrings=True
    )

    predictions: Annotated[str, Field(min_length=1, max_length=200)] = "predictions.npy"
    """File that each trial leaves in `$INCUMBENT_OUT`."""
    labels: Annotated[str, Field(min_length=1)]
    """File that no trial sees, `~` allowed: outside of the repository and of `[trial] data`."""
    metric: str = ""
    """What to compute: a [metric of ours](scoring.md#metrics), e.g. `accuracy` or `recall@5`."""
    command: str = ""
    """Instead of `metric`: your own scorer, e.g. `python score.py`, of the study's base commit."""
    timeout_s: Annotated[float, Field(gt=0)] = 120.0
    """Wall-clock limit of scoring one trial, in seconds."""
    memory_gb: Annotated[float, Field(gt=0)] = 4.0
    """Most memory of scoring one trial, in GB; a quarter of it is the most that a file may hold."""

    @field_validator("predictions")
    @classmethod
    def _is_inside(cls, path: str) -> str:
        if "\0" in path or any(part in {"", ".", ".."} for part in path.split("/")):
            raise ValueError("is no path within $INCUMBENT_OUT")
        return path

    @field_validator("labels")
    @classmethod
    def _is_absolute(cls, path: str) -> str:
        if not path.startswith(("/", "~")):
            raise ValueError(f"must be an absolute path, or begin with ~, not {path!r}")
        return path

    @field_validator("metric")
    @classmethod
    def _is_known(cls, name: str) -> str:
        if name and name not in TRUSTED_METRICS and not RECALL.fullmatch(name):
            raise ValueError(f"{name!r} is none of {', '.join(TRUSTED_METRICS)}, recall@K")
        return name

    @model_validator(mode="after")
    def _is_consistent(self) -> "ScoreConfig":
        if bool(self.metric) == bool(self.command):
            raise ValueError("give either metric (ours) or command (your own scorer)")
        for path in (self.predictions, self.labels):
            if self.metric and PurePosixPath(path).suffix not in READABLE:
                raise ValueError(f"{path} must end in one of {', '.join(READABLE)}")
        return self
