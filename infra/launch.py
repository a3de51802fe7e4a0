"""From a repository and its configuration to a study whose controller runs."""

from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from cluster import events as ev
from cluster.config import StudyConfig
from cluster.source_repository import SourceProblem, SourceRepository
from cluster.state import StudyState
from cluster.study_repository import StudyRepository
from infra.home import StudyHome, StudyProblem
from infra.study import OpenStudy, Server, join, remember_redis_url
from trainer.git_command import require_git
from trainer.trial import CommitId

CONFIG = "incumbent.toml"


@dataclass(frozen=True, slots=True, kw_only=True)
class Prepared:
    """A study that can be run, submitted to, or attached to."""

    study: OpenStudy
    config: StudyConfig
    notes: tuple[str, ...]
    """What a user should know before it starts, a line each."""


def prepare_study(source: SourceRepository, config: StudyConfig) -> Prepared:
    """Create a study, or open it again, without starting anything but its server.

    Raises:
        SourceProblem: the repository cannot be studied.
        StudyProblem: the study exists and measures something else.
        LedgerAway, WrongServer, ServerFailed: there is no server to keep the ledger.
    """
    require_git()
    config = _placed(config, source.toplevel)
    home = StudyHome.locate(source.toplevel, config.study.name)
    base = source.resolve(config.study.base)
    if not home.exists():
        _check_files(source, base, config)
    home.create()
    remember_redis_url(home, config.cluster.redis)
    server = Server(home, config.cluster.redis)
    study = join(home, server, server.ensure())
    try:
        state = study.state()
        if not state.study:
            StudyRepository.create(
                home.git, study=config.study.name, source=source.toplevel, base=base
            )
            _begin(study, config, base)
            state = study.state()
        _check_metric(state, config)
        return Prepared(study=study, config=config, notes=tuple(_notes(source, state, base)))
    except BaseException:
        server.release(study.client)
        raise


def _placed(config: StudyConfig, toplevel: Path) -> StudyConfig:
    """Take a relative path of a virtual environment as one in the repository."""
    named = config.trial.environment
    if named in {"uv", "current"}:
        return config
    path = toplevel / Path(named).expanduser()
    return config.model_copy(
        update={"trial": config.trial.model_copy(update={"environment": str(path)})}
    )


def _check_files(source: SourceRepository, base: str, config: StudyConfig) -> None:
    for path in config.study.editable:
        try:
            source.read_text(source.resolve(base), path)
        except (KeyError, LookupError) as error:
            raise SourceProblem(
                f"there is no {path} in commit {base[:10]}: commit it, or correct [study] editable "
                f"in {CONFIG}"
            ) from error


def _begin(study: OpenStudy, config: StudyConfig, base: str) -> None:
    event = ev.StudyStarted(
        study=config.study.name,
        base_commit=CommitId(base),
        metric=config.metric.name,
        goal=config.metric.goal,
    )
    study.ledger.append([ev.Draft(id="study", at=datetime.now(UTC), event=event)])


def _check_metric(state: StudyState, config: StudyConfig) -> None:
    asked = (config.metric.name, config.metric.goal)
    if (state.metric, state.goal) != asked:
        raise StudyProblem(
            f"the study {state.study} was begun to {state.goal} {state.metric}; {CONFIG} now says "
            f"{asked[1]} {asked[0]}: give [study] name another name to begin a new study"
        )


def _notes(source: SourceRepository, state: StudyState, base: str) -> list[str]:
    notes = [f"study {state.study}, from commit {state.base_commit[:10]}"]
    if state.base_commit != base:
        notes.append(
            f"{base[:10]} is newer than that and not part of the study "
            "(`incumbent submit --branch` brings changes in)"
        )
    elif source.changes().is_dirty:
        notes.append("changes in the checkout that are not committed are not part of it")
    return notes


def find_config(path: Path) -> tuple[SourceRepository, Path]:
    """Return the repository at `path` and where its configuration is (or would be)."""
    source = SourceRepository.find(path)
    return source, source.toplevel / CONFIG
