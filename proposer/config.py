"""The sections of `incumbent.toml` that proposer owns: its kinds, and what goes for all of them."""

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Annotated, Literal
from urllib.parse import urlsplit

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

Scalar = bool | int | float | str


class _Source(BaseModel):
    """What every `[[proposer]]` has."""

    model_config = ConfigDict(
        extra="forbid", frozen=True, strict=True, use_attribute_docstrings=True
    )

    name: Annotated[str, Field(pattern=r"^([a-z][a-z0-9-]*)?$", max_length=32)] = ""
    """What it is called in the log and in commits; the kind, unless two are of one kind."""
    weight: Annotated[float, Field(gt=0)] = 1.0
    """Its share of the proposals, relative to the other proposers."""


class TunerSource(_Source):
    """`[[proposer]] kind = "tuner"`: an optimiser over the constants in the editable files."""

    kind: Literal["tuner"]
    """What kind of proposer it is; what else may be said depends on it."""


class ClaudeSource(_Source):
    """`[[proposer]] kind = "claude"`: a language model behind Anthropic's Messages API."""

    kind: Literal["claude"]
    """What kind of proposer it is; what else may be said depends on it."""
    model: str = "claude-opus-5-5"
    """The model's name, as the API knows it."""
    effort: Literal["low", "medium", "high", "xhigh", "max", ""] = ""
    """How much the model thinks; empty leaves it to the API's default."""
    temperature: Annotated[float, Field(ge=0, le=2)] | None = None
    """Sampling temperature, for servers and models that take one."""
    max_tokens: Annotated[int, Field(ge=1024)] = 32_000
    """The most tokens of one answer, thinking included."""
    batch: Annotated[int, Field(ge=1, le=16)] = 4
    """How many proposals one call asks for at most."""
    context_tokens: Annotated[int, Field(ge=4000)] = 60_000
    """The most tokens of one prompt, roughly; what does not fit is folded together."""
    timeout_s: Annotated[float, Field(gt=0)] = 600.0
    """How long one answer may take."""
    base_url: str = ""
    """Address of another server that speaks the Messages API; empty is Anthropic's."""
    key: str = "ANTHROPIC_API_KEY"
    """Name of the environment variable that holds the API key; empty where none is needed."""

    @field_validator("base_url")
    @classmethod
    def _is_url(cls, url: str) -> str:
        if url and not _is_address(url):
            raise ValueError("is not the address of a server, e.g. http://127.0.0.1:8000")
        return url


def _is_address(url: str) -> bool:
    try:
        parts = urlsplit(url)
        has_port = parts.port is None or parts.port > 0
    except ValueError:  # brackets, or a port that is none
        return False
    is_plain = url.isprintable() and not re.search(r"\s", url)
    return parts.scheme in {"http", "https"} and bool(parts.hostname) and has_port and is_plain


class AgentSource(_Source):
    """`[[proposer]] kind = "agent"`: a coding agent, or any command that edits files."""

    kind: Literal["agent"]
    """What kind of proposer it is; what else may be said depends on it."""
    command: Annotated[str, Field(min_length=1)]
    """Run by a shell in a copy of the incumbent's files; what it changes of the editable ones is
    the proposal. What it has to know lies in files under `.incumbent/`."""
    timeout_s: Annotated[float, Field(gt=0)] = 900.0
    """How long one run may take; then its processes are ended."""
    network: bool = False
    """Give it this machine's network, loopback and all that listens there included."""
    environment: tuple[str, ...] = ()
    """Environment variables that it is given, by name, e.g. its own API key."""
    mounts: tuple[str, ...] = ()
    """Paths that it may read, e.g. its own configuration and binaries, beside the system's."""
    usd: Annotated[float, Field(ge=0)] | None = None
    """The most that one run can cost in US dollars; what it counts as, unless it says less. 0 for
    what costs nothing; without it there is no limit in dollars."""
    tokens: Annotated[int, Field(ge=0)] | None = None
    """The same in tokens."""


class CrossoverSource(_Source):
    """`[[proposer]] kind = "crossover"`: two winners or near-misses merged into one candidate."""

    kind: Literal["crossover"]
    """What kind of proposer it is; what else may be said depends on it."""
    resolver: str = ""
    """Name of the proposer, of kind claude or agent, that resolves conflicts; empty for none."""


class ReplaySource(_Source):
    """`[[proposer]] kind = "replay"`: the recorded proposals of another study, in order."""

    kind: Literal["replay"]
    """What kind of proposer it is; what else may be said depends on it."""
    file: Annotated[str, Field(min_length=1)]
    """What `incumbent log --proposals` of the other study printed; relative to this file."""


ProposerConfig = Annotated[
    TunerSource | ClaudeSource | AgentSource | CrossoverSource | ReplaySource,
    Field(discriminator="kind"),
]


def names_of(sources: Sequence[ProposerConfig]) -> tuple[str, ...]:
    """Return what each proposer is called: as it says, else its kind, "-2" behind a second one."""
    unnamed: Counter[str] = Counter()
    names = []
    for source in sources:
        name = source.name
        if not name:
            unnamed[source.kind] += 1
            count = unnamed[source.kind]
            name = source.kind if count == 1 else f"{source.kind}-{count}"
        names.append(name)
    return tuple(names)


class ProposalsConfig(BaseModel):
    """`[proposals]`: what goes for the proposals of all proposers."""

    model_config = ConfigDict(
        extra="forbid", frozen=True, strict=True, use_attribute_docstrings=True
    )

    max_fixes: Annotated[int, Field(ge=0)] = 2
    """How often a candidate that crashed for a trivial reason goes back to its author."""
    likeness: Annotated[float, Field(ge=0, le=100)] = 92.0
    """A proposal whose words and diff are like an earlier one's to this degree, in percent, is sent
    back once; 100 spares the look."""
    approve: bool = False
    """Candidates wait for `incumbent approve` or `incumbent reject`."""
    scratchpad_chars: Annotated[int, Field(ge=0)] = 12_000
    """When the scratchpad is longer than this, the oldest notes give way to a line that says where
    they are kept; 0 keeps none."""


class PriceConfig(BaseModel):
    """`[[price]]`: what a model costs, in US dollars per million tokens."""

    model_config = ConfigDict(
        extra="forbid", frozen=True, strict=True, use_attribute_docstrings=True
    )

    model: Annotated[str, Field(min_length=1)]
    """The model's name."""
    input: Annotated[float, Field(ge=0)]
    """Tokens that are neither read from the cache nor written to it."""
    output: Annotated[float, Field(ge=0)]
    """Tokens of answers, thinking included."""
    cache_read: Annotated[float, Field(ge=0)] | None = None
    """Tokens read from the cache; a tenth of `input` unless said."""
    cache_write: Annotated[float, Field(ge=0)] | None = None
    """Tokens written to the cache; 1.25 times `input` unless said."""


class SpaceConfig(BaseModel):
    """`[tuner.space.NAME]`: the range of one constant, where the default range will not do."""

    model_config = ConfigDict(
        extra="forbid", frozen=True, strict=True, use_attribute_docstrings=True
    )

    low: float | int | None = None
    """Smallest value."""
    high: float | int | None = None
    """Largest value."""
    log: bool = False
    """Sample on a logarithmic scale."""
    step: float | int | None = None
    """Distance between values."""
    choices: tuple[Scalar, ...] = ()
    """The only values to try; excludes low and high."""

    @model_validator(mode="after")
    def _is_consistent(self) -> "SpaceConfig":
        if bool(self.choices) == (self.low is not None or self.high is not None):
            raise ValueError("needs either choices, or low and high")
        if not self.choices:
            if self.low is None or self.high is None:
                raise ValueError("needs both low and high")
            if self.low >= self.high:
                raise ValueError(f"low ({self.low:g}) must be below high ({self.high:g})")
            if self.log and self.low <= 0:
                raise ValueError("a log range must start above 0")
            if self.log and self.step is not None:
                raise ValueError("a log range takes no step")
        return self


class TunerConfig(BaseModel):
    """`[tuner]`: how the optimiser searches."""

    model_config = ConfigDict(
        extra="forbid", frozen=True, strict=True, use_attribute_docstrings=True
    )

    sampler: Literal["tpe", "random", "grid", "cmaes", "evolution", "gp"] = "tpe"
    """Optuna's sampler; `evolution` is NSGA-II with one objective, and `grid` walks the grid points
    near the incumbent instead."""
    exclude: tuple[str, ...] = ()
    """Constants that the tuner leaves alone."""
    most_changes: Annotated[int, Field(ge=1)] = 4
    """At most this many constants differ from the incumbent in one candidate."""
    space: Mapping[str, SpaceConfig] = Field(default_factory=dict)
    """Ranges by constant name."""
