"""Which proposers a study has, and what they are put together from."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from cluster.config import StudyConfig
from cluster.git.study_repository import StudyRepository
from cluster.ledger.call_book import CallBook
from cluster.policy.study_plan import Seat
from cluster.state.experiment import Experiment
from cluster.state.state import StudyState
from infra.local.artifacts import paths_at
from infra.local.keys import api_key, keyless
from infra.local.study import OpenStudy
from proposer.agent import Agent
from proposer.agent_run import Workspace
from proposer.config import (
    AgentSource,
    ClaudeSource,
    CrossoverSource,
    ReplaySource,
    TunerSource,
    names_of,
)
from proposer.crossover import Crossover
from proposer.proposal import Proposer
from proposer.purse import Purse
from proposer.replay import Replay, read_recorded
from proposer.tuner import Tuner
from trainer.git_command import GitError
from trainer.trial import CommitId, ExperimentId


@dataclass(frozen=True, slots=True, kw_only=True)
class Makings:
    """What proposers are made of."""

    study: OpenStudy
    config: StudyConfig
    repository: StudyRepository
    files: Mapping[str, str]
    """Editable files of the study's base commit."""
    purse: Purse
    keys: Mapping[str, str]
    """API keys by the name of their variable."""


def call_book(
    study: OpenStudy, config: StudyConfig, epoch: int, clock: Callable[[], datetime]
) -> CallBook:
    """Return who pays for calls; calls of a dead controller are settled first."""
    return CallBook(
        study.ledger,
        epoch=epoch,
        clock=clock,
        directory=study.home.calls,
        most_usd=config.limits.usd,
        most_tokens=config.limits.tokens,
        state=study.state(),
    )


def proposers(makings: Makings) -> list[Proposer]:
    """Return a study's sources of candidates; those without a key are left out.

    Raises:
        ValueError: the tuner finds nothing to tune; the message says what it looked for.
    """
    config = makings.config
    without = keyless(config, makings.keys)
    found: list[Proposer] = []
    for number, (name, source) in enumerate(
        zip(names_of(config.proposer), config.proposer, strict=True)
    ):
        if name not in without:
            found.append(_proposer(makings, name, source, number))
    return found


def _proposer(makings: Makings, name: str, source: object, number: int) -> Proposer:
    config = makings.config
    match source:
        case TunerSource():
            is_heard = any(isinstance(s, ClaudeSource | AgentSource) for s in config.proposer)
            return Tuner(config.tuner, makings.files, number, name=name, is_heard=is_heard)
        case ClaudeSource():
            return _claude(makings, name, source)
        case AgentSource():
            return _agent(makings, name, source)
        case CrossoverSource():
            return _crossover(makings, name, source)
        case ReplaySource():
            return _replay(makings, name, source)
    raise TypeError(f"nobody makes a proposer of {type(source).__name__}")


def _claude(makings: Makings, name: str, source: ClaudeSource) -> Proposer:
    # The SDK takes a second to import: only studies that ask a model pay for it.
    from proposer.claude import Claude  # noqa: PLC0415
    from proposer.prices import price_of  # noqa: PLC0415

    return Claude(
        source,
        name=name,
        purse=makings.purse,
        price=price_of(source.model, makings.config.price),
        api_key=api_key(source, makings.keys),
        likeness=makings.config.proposals.likeness,
    )


def _agent(makings: Makings, name: str, source: AgentSource) -> Proposer:
    study, config = makings.study, makings.config
    workspace = Workspace(
        study=study.home.id,
        base=study.state().base_commit,
        paths=paths_at(study.home),
        trial=config.trial,
        editable=config.study.editable,
        logs=study.home.calls,
        given=makings.keys,
        labels={section: score.labels for section, score in config.scores().items()},
    )
    return Agent(
        source,
        name=name,
        purse=makings.purse,
        workspace=workspace,
        likeness=config.proposals.likeness,
    )


def _crossover(makings: Makings, name: str, source: CrossoverSource) -> Proposer:
    # A repository of its own: the others' is the controller's thread's.
    own = StudyRepository.open(makings.study.home.git, study=makings.config.study.name)
    sources = dict(zip(names_of(makings.config.proposer), makings.config.proposer, strict=True))
    found = sources.get(source.resolver)
    # A conversation of its own, under its own name: replies are told apart by whose they are.
    resolver = None
    if isinstance(found, AgentSource):
        resolver = _agent(makings, name, found)
    elif isinstance(found, ClaudeSource) and source.resolver not in keyless(
        makings.config, makings.keys
    ):
        resolver = _claude(makings, name, found)
    trees = LedgerTrees(makings.study, own, makings.config.study.editable)
    return Crossover(name=name, trees=trees, resolver=resolver)


def _replay(makings: Makings, name: str, source: ReplaySource) -> Proposer:
    used = [each.origin for each in makings.study.state().experiments.values() if each.origin]
    try:
        # Settings that an earlier version wrote name it as the configuration does.
        path = makings.study.home.repository / Path(source.file).expanduser()
        recorded = read_recorded(path.read_text("utf-8"))
    except (OSError, ValueError, RuntimeError) as error:  # the last: `~` of nobody
        raise ValueError(f"[[proposer]] {name}: {source.file}: {error}") from None
    return Replay(name=name, proposals=recorded, used=used)


class LedgerTrees:
    """Reads experiments' files for a crossover. Implements proposer.crossover.Trees."""

    def __init__(
        self, study: OpenStudy, repository: StudyRepository, editable: Sequence[str]
    ) -> None:
        self._study = study
        self._repository = repository
        self._editable = editable
        self._state = StudyState()

    def files(self, experiment: ExperimentId) -> Mapping[str, str]:
        """See Trees."""
        return self._read(self._experiment(experiment).commit)

    def base_files(self, experiment: ExperimentId) -> Mapping[str, str]:
        """See Trees."""
        return self._read(self._experiment(experiment).base_commit)

    def _experiment(self, name: ExperimentId) -> Experiment:
        if name not in self._state.experiments:
            self._state = self._study.state()
        return self._state.experiments[name]

    def _read(self, commit: CommitId) -> Mapping[str, str]:
        try:
            return self._repository.read_files(commit, self._editable)
        except (ValueError, GitError) as error:
            raise LookupError(str(error)) from error


def seats_of(config: StudyConfig, made: Sequence[Proposer]) -> tuple[Seat, ...]:
    """Return the proposers as decisions see them."""
    sources = dict(zip(names_of(config.proposer), config.proposer, strict=True))
    return tuple(_seat(proposer, sources.get(proposer.name)) for proposer in made)


def _seat(proposer: Proposer, source: object) -> Seat:
    batch = 0
    if isinstance(source, ClaudeSource):
        batch = source.batch
    elif isinstance(source, AgentSource | CrossoverSource):
        batch = 1
    weight = getattr(source, "weight", 1.0)
    return Seat(
        name=proposer.name,
        weight=weight,
        batch=batch,
        tasks=proposer.tasks,
        reads_patches=isinstance(source, ClaudeSource | AgentSource),
    )
