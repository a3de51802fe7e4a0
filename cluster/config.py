"""`incumbent.toml` as a whole: the sections that cluster owns, joined with those of the others."""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import pairwise
from typing import Annotated

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    ValidationInfo,
    field_validator,
    model_validator,
)

from cluster.ledger import redis_url
from cluster.policy.study_plan import Policy
from eval.config import GuardConfig, JudgeConfig, MetricConfig, PrunerConfig, RungConfig
from eval.ladder import Step
from eval.trusted_metrics import goal_of
from proposer.config import (
    AgentSource,
    ClaudeSource,
    CrossoverSource,
    PriceConfig,
    ProposalsConfig,
    ProposerConfig,
    TunerConfig,
    TunerSource,
    names_of,
)
from trainer.config import FinalConfig, HoldoutConfig, KeepConfig, ScoreConfig, TrialConfig
from trainer.editable import named_editable

RESERVED_NAMES = frozenset({"baseline", "user"})
"""Who proposes beside proposers, in the log and in commits."""
_OF_CALLS = re.compile(r"c\d+")
"""How calls of models are named, of which experiments say that they are made."""


class StudySection(BaseModel):
    """`[study]`: what is searched."""

    model_config = ConfigDict(
        extra="forbid", frozen=True, strict=True, use_attribute_docstrings=True
    )

    name: Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$", max_length=64)]
    """Names the branch `incumbent/NAME` and the refs of its experiments."""
    editable: Annotated[tuple[str, ...], Field(min_length=1)] = ("train.py",)
    """Files that candidates may change, relative to the repository; all others are frozen."""
    instructions: str = ""
    """File with instructions to proposers, e.g. program.md."""
    base: str = "HEAD"
    """Commit, branch or tag that the study starts from."""

    @field_validator("name")
    @classmethod
    def _is_ref(cls, name: str) -> str:
        if ".." in name or name.endswith((".", ".lock")):
            raise ValueError("cannot be part of a git branch name")
        return name

    @field_validator("editable")
    @classmethod
    def _are_inside(cls, paths: tuple[str, ...]) -> tuple[str, ...]:
        for path in paths:
            if path.startswith("/") or ".." in path.split("/") or not path:
                raise ValueError(f"{path!r} is not a path inside the repository")
        return paths


class ReducerConfig(BaseModel):
    """`[reducer]`: how winners come together on the branch."""

    model_config = ConfigDict(
        extra="forbid", frozen=True, strict=True, use_attribute_docstrings=True
    )

    policy: Policy = "chain"
    """Of winners whose base is no longer the incumbent: `chain` merges them one onto the other and
    measures all of that at once; `one-at-a-time` merges each onto the incumbent; `best-of-wave`
    drops them."""
    max_staleness: Annotated[int, Field(ge=0)] = 8
    """A candidate whose base is no longer the incumbent when its turn has not come is merged onto
    the incumbent and run there, at most through so many promotions. One that is older, or
    conflicts, goes back to its proposer. 0 merges none: each runs on what it was made on."""


class ClusterConfig(BaseModel):
    """`[cluster]`: where trials run and what is served."""

    model_config = ConfigDict(
        extra="forbid", frozen=True, strict=True, use_attribute_docstrings=True
    )

    slots: Annotated[int, Field(ge=0)] = 0
    """CPU slots where `[trial] gpus = 0`, or fewer GPU slots than there are GPUs; 0 finds out."""
    redis: str = ""
    """URL of a Redis or Valkey server, e.g. redis://host:6379/0; empty starts an embedded one."""
    address: str = ""
    """Address of a running Ray cluster to join; empty starts a private one."""
    listen: str = ""
    """Let other machines join the study at ADDRESS or ADDRESS:PORT; `auto` finds this machine's
    address and a free port from 7700 on; empty: nobody can."""
    lease_s: Annotated[float, Field(ge=5)] = 30.0
    """A worker that is silent for this long loses its trial."""
    metrics_port: Annotated[int, Field(ge=-1, le=65535)] = 0
    """Port of `/metrics` on the loopback address; 0 picks a free one, -1 serves none."""
    gpu_busy_mb: Annotated[float, Field(ge=0)] = 2000.0
    """A card on which strangers hold more memory than this, in MiB, takes no trials."""

    @field_validator("redis")
    @classmethod
    def _is_url(cls, url: str) -> str:
        if url and (problem := redis_url.problem(url)):
            raise ValueError(problem)
        return url


class LimitsConfig(BaseModel):
    """`[limits]`: when a study ends by itself. 0 means no limit."""

    model_config = ConfigDict(
        extra="forbid", frozen=True, strict=True, use_attribute_docstrings=True
    )

    experiments: Annotated[int, Field(ge=0)] = 0
    """Proposals judged (the baseline and merge measurements do not count)."""
    hours: Annotated[float, Field(ge=0)] = 0.0
    """Wall-clock hours that the study may run; while it is stopped they do not count."""
    gpu_hours: Annotated[float, Field(ge=0)] = 0.0
    """Hours of trials, summed over slots (of CPU slots where there are no GPUs)."""
    usd: Annotated[float, Field(ge=0)] = 0.0
    """US dollars that calls of models may cost."""
    tokens: Annotated[int, Field(ge=0)] = 0
    """Tokens that calls of models may use, of all kinds together."""


@contextmanager
def _told_of(section: str) -> Iterator[None]:
    """Name the section in what is wrong with it."""
    try:
        yield
    except ValueError as error:
        raise ValueError(f"{section} {error}") from error


class StudyConfig(BaseModel):
    """All of `incumbent.toml`."""

    model_config = ConfigDict(
        extra="forbid", frozen=True, strict=True, use_attribute_docstrings=True
    )

    study: StudySection
    metric: MetricConfig
    trial: TrialConfig
    score: ScoreConfig | None = None
    holdout: HoldoutConfig | None = None
    final: FinalConfig = FinalConfig()
    guard: tuple[GuardConfig, ...] = ()
    """Numbers that must stay within bounds, whatever the metric says."""
    judge: JudgeConfig = JudgeConfig()
    reducer: ReducerConfig = ReducerConfig()
    pruner: PrunerConfig = PrunerConfig()
    rung: tuple[RungConfig, ...] = ()
    """Runs with less than the full budget that a candidate has to get through first."""
    proposer: tuple[ProposerConfig, ...] = (TunerSource(kind="tuner"),)
    """Sources of candidates; an empty list leaves the queue to `incumbent submit`."""
    proposals: ProposalsConfig = ProposalsConfig()
    price: tuple[PriceConfig, ...] = ()
    """What models cost, where Incumbent does not know, or knows it wrong."""
    tuner: TunerConfig = TunerConfig()
    cluster: ClusterConfig = ClusterConfig()
    keep: KeepConfig = KeepConfig()
    limits: LimitsConfig = LimitsConfig()

    @model_validator(mode="after")
    def _is_scored_once(self) -> "StudyConfig":
        if (self.score is not None) != (self.metric.source == "predictions"):
            raise ValueError('[metric] source = "predictions" and a section [score] go together')
        if self.score is None:
            return self
        if self.score.metric and goal_of(self.score.metric) != self.metric.goal:
            goal = goal_of(self.score.metric)
            raise ValueError(
                f'[metric] goal must be "{goal}" for [score] metric = "{self.score.metric}"'
            )
        return self

    @model_validator(mode="after")
    def _hidden_labels_are_scored(self) -> "StudyConfig":
        hidden = {"[holdout]": self.holdout, "[final] labels": self.final.labels}
        named = [name for name, value in hidden.items() if value]
        if self.score is None and named:
            raise ValueError(f"{named[0]} needs a section [score], which says how to score")
        return self

    @model_validator(mode="after")
    def _sections_go_together(self) -> "StudyConfig":
        with _told_of("[final]"):
            self.final.trial(self.trial)
            self.test_score()
        with _told_of("[holdout]"):
            self.holdout_score()
        return self

    @model_validator(mode="after")
    def _rungs_rise(self) -> "StudyConfig":
        budgets = [rung.budget_s for rung in self.rung]
        if not budgets:
            return self
        for lower, higher in pairwise(budgets):
            if higher <= lower:
                raise ValueError(
                    f"[[rung]] budget_s must rise from rung to rung: {higher:g} follows {lower:g}"
                )
        full, smoke = self.trial.budget_s, self.trial.smoke_s
        if budgets[-1] >= full:
            raise ValueError(
                f"[[rung]] budget_s ({budgets[-1]:g}) must be less than [trial] budget_s "
                f"({full:g}), which the best have after the last rung"
            )
        if smoke is not None and smoke >= budgets[0]:
            raise ValueError(
                f"[trial] smoke_s ({smoke:g}) must be less than the budget_s of the first [[rung]] "
                f"({budgets[0]:g}), or unset"
            )
        return self

    @model_validator(mode="after")
    def _proposers_have_names_of_their_own(self) -> "StudyConfig":
        names = names_of(self.proposer)
        for number, name in enumerate(names, start=1):
            if name in RESERVED_NAMES:
                raise ValueError(f'[[proposer]] {number} name: "{name}" is taken; choose another')
            if _OF_CALLS.fullmatch(name):
                raise ValueError(
                    f'[[proposer]] {number} name: "{name}" is what a call of a model is called; '
                    f"choose another"
                )
            if names.index(name) < number - 1:
                raise ValueError(
                    f'[[proposer]] {number} name: "{name}" is what [[proposer]] '
                    f'{names.index(name) + 1} is called; give it another, e.g. name = "{name}-b"'
                )
        return self

    @model_validator(mode="after")
    def _resolvers_are_proposers(self) -> "StudyConfig":
        named = zip(names_of(self.proposer), self.proposer, strict=True)
        able = [name for name, source in named if isinstance(source, ClaudeSource | AgentSource)]
        for number, source in enumerate(self.proposer, start=1):
            wanted = source.resolver if isinstance(source, CrossoverSource) else ""
            if wanted and wanted not in able:
                cure = f"there is {' and '.join(able)}" if able else "add one, or leave it out"
                raise ValueError(
                    f'[[proposer]] {number} resolver: "{wanted}" is no proposer of kind claude or '
                    f"agent; {cure}"
                )
        return self

    @field_validator("price")
    @classmethod
    def _are_told_once(cls, prices: tuple[PriceConfig, ...]) -> tuple[PriceConfig, ...]:
        models = [price.model for price in prices]
        if twice := [model for model in models if models.count(model) > 1]:
            raise ValueError(f'there are two for "{twice[0]}"; leave one')
        return prices

    def rungs(self) -> tuple[Step, ...]:
        """Return the rungs, the lowest budget first."""
        return tuple(rung.step() for rung in self.rung)

    @model_validator(mode="after")
    def _models_are_asked_by_frozen_code(self) -> "StudyConfig":
        if self.final.inputs and not self.final.labels:
            raise ValueError("[final] inputs are of no use without [final] labels")
        if self.score is None or not self.score.predict:
            return self
        if name := named_editable(self.score.predict, self.study.editable):
            raise ValueError(
                f"[score] predict names {name}, which candidates may change ([study] editable): "
                f"let it be a file of its own, which may import what it needs of {name}"
            )
        names = [score.predictions for score in self.scores().values()]
        if len({*names}) < len(names):
            raise ValueError("[score], [holdout] and [final] predictions need different names")
        return self

    def scores(self) -> dict[str, ScoreConfig]:
        """Return how all predictions that are asked for are scored, by the sections that ask."""
        found = {
            "[score]": self.score,
            "[holdout]": self.holdout_score(),
            "[final]": self.test_score(),
        }
        return {section: score for section, score in found.items() if score is not None}

    @property
    def asks_models(self) -> bool:
        """Say whether runs leave models, which are asked for what is scored."""
        return self.score is not None and bool(self.score.predict)

    def asked_besides(self, *sections: str) -> dict[str, ScoreConfig]:
        """Return what models are asked besides what `[score]` asks, of these sections."""
        scores = self.scores() if self.asks_models else {}
        return {section: score for section, score in scores.items() if section in sections}

    def holdout_score(self) -> ScoreConfig | None:
        """Return how predictions for the holdout are scored; None where there is none."""
        if self.score is None or self.holdout is None:
            return None
        return self.score.of(self.holdout.predictions, self.holdout.labels, self.holdout.inputs)

    def test_score(self) -> ScoreConfig | None:
        """Return how predictions for the test set are scored; None without labels."""
        if self.score is None or not self.final.labels:
            return None
        return self.score.of(self.final.predictions, self.final.labels, self.final.inputs)

    @field_validator("guard")
    @classmethod
    def _guard_other_numbers(
        cls, guards: tuple[GuardConfig, ...], info: ValidationInfo
    ) -> tuple[GuardConfig, ...]:
        metric = info.data.get("metric")
        names = [guard.name for guard in guards]
        if metric is not None and metric.name in names:
            raise ValueError(f"{metric.name} is the metric itself, which [metric] plausible bounds")
        if twice := [name for name in names if names.count(name) > 1]:
            raise ValueError(f"there are two for {twice[0]}; join them")
        return guards
