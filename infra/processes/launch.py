"""From a repository and its configuration to a study whose controller runs."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path

from cluster.config import StudyConfig
from cluster.config_file import ConfigError
from cluster.git.mirror import Mirror
from cluster.git.source_repository import SourceProblem, SourceRepository
from cluster.git.study_repository import StudyRepository
from cluster.state import events as ev
from cluster.state.proposing_events import NoteGiven
from cluster.state.state import StudyState
from infra.checks.label_checks import require_hidden_labels
from infra.facts.plain_text import counted
from infra.local.checkout import CONFIG, config_file, main_checkout
from infra.local.controller_process import find_controller
from infra.local.home import StudyHome, StudyProblem
from infra.local.requests import request
from infra.local.study import OpenStudy, Server, join, opened, remember_redis_url
from proposer.config import ReplaySource
from trainer.environment import EnvironmentFailed, user_path
from trainer.git_command import require_git
from trainer.sandbox.choose import choose
from trainer.sandbox.diagnosis import Diagnosis
from trainer.trial import CommitId, ExperimentId


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
        ConfigError: the study exists and measures something else.
        StudyProblem: its mirror, or its ledger, is all there is of it.
        LedgerAway, WrongServer, ServerFailed: there is no server to keep the ledger.
    """
    require_git()
    config = _placed(config, config_file(source.toplevel).parent)
    home = StudyHome.of(source.toplevel, config.study.name)
    base = source.resolve(config.study.base)
    _require_no_mere_mirror(home, source)
    is_new = not home.exists()
    if is_new:
        _check_files(lambda path: source.read_text(base, path), base, config)
    home.create()
    server = Server(home, config.cluster.redis)
    study = join(home, server, server.ensure())
    try:
        state = study.state()
        if is_new and config.cluster.redis:
            _require_none_elsewhere(home, state)
        if not state.study:
            _begin_repository(home, source, config, base)
            _begin(study, config, base)
            state = study.state()
        _check_metric(state, config)
        begun, code = state.base_commit, StudyRepository.open(home.git, study=config.study.name)
        _check_files(lambda path: code.read_files(begun, [path]), begun, config)
        # Not before: commands that read are to find the ledger that there is, not one that is not.
        remember_redis_url(home, config.cluster.redis)
        return Prepared(study=study, config=config, notes=tuple(_notes(source, state, base)))
    except BaseException:
        server.release(study.client)
        raise


def prepare_run(source: SourceRepository, config: StudyConfig) -> Prepared:
    """Prepare a study that is to run now; a baseline that has failed gets another chance.

    What failed may be mended by now: in a newer commit, which the study then begins anew from, or
    outside the repository. Raises what `prepare_study` raises, and StudyProblem before anything is
    made or started where trials are to have a sandbox and this machine makes none, or labels that
    are to be hidden are not, and where others use the study that is to make way.
    """
    require_sandbox(config)
    require_hidden_labels(config, source.toplevel, main_checkout(source.toplevel))
    prepared = prepare_study(source, config)
    study = prepared.study
    state = study.state()
    has_failed = state.baseline is not None and state.baseline.status.is_failure
    if not has_failed or find_controller(study.home) is not None:
        return prepared
    if state.base_commit == source.resolve(config.study.base):
        request(study, ev.RetryRequested(experiment=ExperimentId("e0")))
        return prepared
    study.server.release(study.client)
    if config.cluster.redis:
        raise StudyProblem(
            f"the baseline of {state.study} failed, and [study] base is another commit now: give "
            "[study] name another name to begin a study from that"
        )
    aside = _set_aside(study, state)
    with opened(aside) as left:
        told = left.state()  # not before: others may hand things in until nobody has it open
    begun = prepare_study(source, config)
    note = (
        f"the baseline had failed: the study begins anew{_hand_on(told, begun.study)} (what there "
        f"was lies in {aside.directory}; --study {aside.id} looks at it)"
    )
    return replace(begun, notes=(note, *begun.notes))


def _set_aside(study: OpenStudy, state: StudyState) -> StudyHome:
    """Move a study out of the way, which this process has released; return where it then is."""
    with study.server.kept_down() as is_down:
        if not is_down:
            raise StudyProblem(
                f"the baseline of {state.study} failed, and [study] base is another commit now, "
                "but another process still uses the study, as `incumbent submit --wait`, `watch` "
                "and `final` do: end it (what was handed in stays), then `incumbent run` begins "
                "the study anew"
            )
        repository = StudyRepository.open(study.home.git, study=study.home.name)
        Mirror(repository, study.home.repository).withdraw()
        return study.home.set_aside(f"failed-{state.base_commit[:10]}")


def _hand_on(state: StudyState, study: OpenStudy) -> str:
    """Give a study what people had told its predecessor, and what waits there; say how much."""
    for text in state.notes:
        request(study, NoteGiven(text=text))
    # What is on somebody's branch is found there again.
    waiting = [each for each in state.submissions if not (each.commit or each.reverts)]
    for submission in waiting:
        request(study, submission)
    if not waiting:
        return ""
    return f", with {counted(len(waiting), 'submission')} that waited"


def require_sandbox(config: StudyConfig) -> None:
    """Raise StudyProblem, with the cure, where trials cannot have the sandbox that they should."""
    if config.trial.sandbox == "none":
        return
    found = choose()
    if isinstance(found, Diagnosis):
        raise StudyProblem(found.text())


def _placed(config: StudyConfig, folder: Path) -> StudyConfig:
    """Take relative paths of a virtual environment and of what is replayed as beside the file."""

    def beside(path: str, key: str) -> str:
        try:
            return str(folder / user_path(path, key))
        except EnvironmentFailed as error:
            raise ConfigError(f"{folder / CONFIG}: {error}") from error

    trial = config.trial
    if trial.environment not in {"uv", "current"}:
        path = beside(trial.environment, "[trial] environment")
        trial = trial.model_copy(update={"environment": path})
    sources = tuple(
        source.model_copy(update={"file": beside(source.file, "[[proposer]] file")})
        if isinstance(source, ReplaySource)
        else source
        for source in config.proposer
    )
    return config.model_copy(update={"trial": trial, "proposer": sources})


def _check_files(read: Callable[[str], object], base: str, config: StudyConfig) -> None:
    named = dict.fromkeys(config.study.editable, "editable")
    if config.study.instructions:
        named.setdefault(config.study.instructions, "instructions")
    for path, key in named.items():
        try:
            read(path)
        except (KeyError, LookupError) as error:
            raise SourceProblem(
                f"there is no {path} in commit {base[:10]}: commit it, or correct [study] {key} "
                f"in {CONFIG}"
            ) from error
        except ValueError as error:
            raise SourceProblem(
                f"commit {base[:10]}: {error}; make it one, or correct [study] {key} in {CONFIG}"
            ) from error


def _require_no_mere_mirror(home: StudyHome, source: SourceRepository) -> None:
    """Raise StudyProblem where a new study would write over what a lost one left in the mirror."""
    mirrored = f"refs/incumbent/{home.name}"
    if not (home.git / "objects").is_dir() and source.has_ref(f"{mirrored}/e0"):
        raise StudyProblem(
            f"{source.toplevel} holds {mirrored}/*, the mirror of a study that is not in "
            f"{home.directory}, and nothing is overwritten: `incumbent rebuild` makes the study of "
            "it, `incumbent import-ledger FILE` of a copy, and another [study] name begins a new "
            "one"
        )


def _require_none_elsewhere(home: StudyHome, state: StudyState) -> None:
    """Raise StudyProblem where the ledger of a new study is that of another machine's."""
    # Whoever begins it here makes its repository before its ledger, so also one who is quicker.
    if state.study and not home.git.exists():
        home.discard()
        raise StudyProblem(
            f"the server that [cluster] redis names holds a study {state.study} of a repository at "
            f"{home.repository}, and nothing of it is on this machine: give [study] name another "
            "name if that is another machine's, or bring its folder back if this one has lost it"
        )


def _begin_repository(
    home: StudyHome, source: SourceRepository, config: StudyConfig, base: str
) -> None:
    repository = StudyRepository.create(
        home.git, study=config.study.name, source=source.toplevel, base=base
    )
    if repository.has_branch():
        raise StudyProblem(
            f"the ledger of the study is empty, but {home.git} holds its branch: the server has "
            "lost its data, or [cluster] redis names another one than before. Bring that back, or "
            "`incumbent import-ledger FILE` a copy, or `incumbent rebuild` a ledger of what git "
            "knows, or give [study] name another name to begin a new study"
        )


def _begin(study: OpenStudy, config: StudyConfig, base: str) -> None:
    event = ev.StudyStarted(
        study=config.study.name,
        base_commit=CommitId(base),
        metric=config.metric.name,
        goal=config.metric.goal,
        source=config.metric.source,
    )
    study.ledger.append([ev.Draft(id="study", at=datetime.now(UTC), event=event)])


def _check_metric(state: StudyState, config: StudyConfig) -> None:
    asked = (config.metric.name, config.metric.goal)
    if (state.metric, state.goal) != asked:
        raise ConfigError(
            f"the study {state.study} was begun to {state.goal} {state.metric}; {CONFIG} now says "
            f"{asked[1]} {asked[0]}: give [study] name another name to begin a new study"
        )
    if state.source != config.metric.source:
        raise ConfigError(
            f"the metric of the study {state.study} was {state.source}, and {CONFIG} now says "
            f'source = "{config.metric.source}", which compares with nothing that was measured: '
            "give [study] name another name to begin a new study"
        )


def _notes(source: SourceRepository, state: StudyState, base: str) -> list[str]:
    notes = [f"study {state.study}, from commit {state.base_commit[:10]}"]
    if state.is_paused:
        notes.append("the study is paused: `incumbent resume` lets it go on")
    if state.base_commit != base:
        notes.append(
            f"commit {base[:10]}, where [study] base is now, is not part of the study "
            "(`incumbent submit --branch` brings changes in)"
        )
    elif source.changes().is_dirty:
        notes.append("changes in the checkout that are not committed are not part of it")
    return notes


def find_config(path: Path) -> tuple[SourceRepository, Path]:
    """Return the repository at `path` and where its configuration is (or would be)."""
    source = SourceRepository.find(path)
    return source, config_file(source.toplevel)
