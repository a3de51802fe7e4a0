"""Backups: a study to a file and back, onto this machine or another, in this Redis or another.

Knows which parts make a study, and when a copy may be taken or put back. What a copy looks like is
cluster.backup.ledger_file's and cluster.backup.study_copy's to know.
"""

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import IO

from cluster.backup import ledger_file, ledger_transfer
from cluster.backup.ledger_file import Contents, LedgerFileProblem
from cluster.backup.ledger_transfer import NotEmpty, Show
from cluster.backup.study_copy import bring_study, kept_experiments, trim, write_bundle
from cluster.config import StudyConfig
from cluster.config_file import ConfigError
from cluster.git.source_repository import SourceRepository
from cluster.git.study_repository import StudyRepository
from cluster.ledger.call_book import Replies
from cluster.ledger.ledger import LedgerAway
from cluster.state.state import StudyState
from infra.local.controller_process import sole_controller
from infra.local.home import StudyHome, StudyProblem
from infra.local.settings import save_settings
from infra.local.study import OpenStudy, Server, join, remember_redis_url
from trainer.trial import CommitId, number_of


class HasEvents(StudyProblem):
    """A study that is there already, where one was to be made."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Exported:
    """What an export has written."""

    study: str
    events: int
    waiting: int
    running: int
    curves: int
    calls: int
    """Calls of models that were paid for, and of which not all was made use of yet."""
    bundle: str
    """Path of the git bundle; empty if none was wanted."""
    refs: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Imported:
    """What an import has put back."""

    study: str
    directory: str
    events: int
    experiments: int
    waiting: int
    calls: int
    """Calls of models whose replies are used without paying for them again."""
    calls_without_reply: int
    """Calls that were paid for, and whose replies are neither in the file nor here."""
    given_back: int
    """Trials that were on a slot when the file was written: they run again."""


# --- out -----------------------------------------------------------------------------------------


def export(study: OpenStudy, file: IO[bytes], bundle: Path | None, show: Show) -> Exported:
    """Write a study as of now to a file, and its code to a bundle; it may run meanwhile.

    Raises StudyProblem if there is nothing to write.
    """
    at = ledger_transfer.moment(study.store)
    state = ledger_transfer.replayed(study.ledger, at.seq)
    if not state.study:
        raise StudyProblem(f"the study {study.home.name} has no events: there is nothing to export")
    facts = {"exported_at": datetime.now(UTC).isoformat(), "version": version("incumbent")}
    calls = Replies(study.home.calls).unused(state)
    found = ledger_transfer.contents(study.store, at, state, calls, facts, show)
    refs = 0
    if bundle is not None:
        # After the ledger was read: of what an event speaks git knows before.
        refs = write_bundle(StudyRepository.open(study.home.git, study=state.study), bundle)
    for line in ledger_file.lines(found):
        file.write(line)
    return Exported(
        study=state.study,
        events=at.seq,
        waiting=len(at.queue.waiting),
        running=len(at.queue.leases),
        curves=found.header.curves,
        calls=found.header.calls,
        bundle=str(bundle or ""),
        refs=refs,
    )


# --- in ------------------------------------------------------------------------------------------


def bundle_of(file: Path) -> Path:
    """Return where the code of an exported ledger lies."""
    return file.with_name(f"{file.name}.bundle")


def import_study(source: SourceRepository, config: StudyConfig, file: Path, show: Show) -> Imported:
    """Make the study that a file holds that of a repository.

    Raises:
        LedgerFileProblem: the file is not whole.
        ConfigError: it is of another study than the repository's.
        StudyProblem: there is a ledger already, or the code is not to be had.
        ControllerRuns: the study runs.
    """
    with file.open("rb") as lines:
        try:
            ledger_file.check(lines)
            found = ledger_file.read(lines)
            state = ledger_transfer.fold(found.events)
            _check_study(file, state, config)
            with empty_study(source, config) as study:
                _bring_code(study.home, state, bundle_of(file))
                return _take_in(study, found, state, show)
        except LedgerFileProblem as error:
            raise LedgerFileProblem(f"{file}: {error}") from error


def _take_in(study: OpenStudy, found: Contents, state: StudyState, show: Show) -> Imported:
    replies = Replies(study.home.calls)
    for record in found.calls:  # before the ledger: a settled call has a reply
        replies.write(record)
    without_reply = sum(replies.read(call) is None for call in state.replies)
    try:
        given_back = ledger_transfer.take_in(study.store, found, show)
    except NotEmpty as error:
        raise has_events(study) from error
    return Imported(
        study=state.study,
        directory=str(study.home.directory),
        events=found.header.events,
        experiments=len(state.experiments),
        waiting=len(found.queue.waiting),
        calls=len(found.calls),
        calls_without_reply=without_reply,
        given_back=given_back,
    )


def _check_study(file: Path, state: StudyState, config: StudyConfig) -> None:
    if state.study != config.study.name:
        raise ConfigError(
            f"{file} holds the study {state.study}, and incumbent.toml here names "
            f'{config.study.name}: say [study] name = "{state.study}"'
        )


@contextmanager
def empty_study(source: SourceRepository, config: StudyConfig) -> Iterator[OpenStudy]:
    """Open a study that has no events, creating what is missing, and keep others away meanwhile.

    What was created goes again where nothing came of it: a ledger needs its code, be it one that
    has been written here or that a `submit` began meanwhile. Raises HasEvents if there are events,
    ControllerRuns if it runs.
    """
    home = StudyHome.of(source.toplevel, config.study.name)
    is_to_go = is_new = not home.directory.exists()
    home.create()
    with sole_controller(home):
        try:
            server = Server(home, config.cluster.redis)
            study = join(home, server, server.ensure())
            is_to_go = False
            try:
                _require_empty(study)
                yield study
                remember_redis_url(home, config.cluster.redis)
                save_settings(home, config)  # of a study that has run, which commands may ask for
            except BaseException:
                is_to_go = is_new and _is_empty(study)
                raise
            finally:
                server.release(study.client)
        finally:
            if is_to_go:
                home.discard()


def _require_empty(study: OpenStudy) -> None:
    if study.ledger.read(0, limit=1):
        raise has_events(study)


def _is_empty(study: OpenStudy) -> bool:
    """Say whether it is certain that there are no events."""
    try:
        return not study.ledger.read(0, limit=1)
    except LedgerAway:
        return False


def has_events(study: OpenStudy) -> HasEvents:
    """Return what is to be said of a study that is there already."""
    home = study.home
    return HasEvents(
        f"the study {home.name} has a ledger already, and nothing is overwritten. To replace it: "
        f"`incumbent export-ledger` keeps what there is; then `incumbent stop` and move "
        f"{home.directory} away (with a Redis of your own, name another database in "
        "[cluster] redis)"
    )


def _bring_code(home: StudyHome, state: StudyState, bundle: Path) -> None:
    """Have the study's repository hold the code that a ledger speaks of; raises StudyProblem."""
    is_new = not (home.git / "objects").is_dir()
    if is_new and not bundle.exists():
        raise StudyProblem(
            f"the code of the study is neither in {home.git} nor in {bundle}: put that beside the "
            "ledger (`incumbent export-ledger --with-code` writes both)"
        )
    if is_new:
        _unpack(home, state, bundle)
        return
    if bundle.exists():
        bring_study(home.git, state.study, bundle)
    repository = StudyRepository.open(home.git, study=state.study)
    _check_complete(repository, state)
    _check_age(repository, state)


def _unpack(home: StudyHome, state: StudyState, bundle: Path) -> None:
    """Make the study's repository of a bundle, as a whole or not at all."""
    fresh = home.git.with_name(f"{home.git.name}.new")
    shutil.rmtree(fresh, ignore_errors=True)
    try:
        repository = bring_study(fresh, state.study, bundle)
        _check_complete(repository, state)
        trim(repository, state.experiments, state.incumbent_commit)
        fresh.rename(home.git)
    finally:
        shutil.rmtree(fresh, ignore_errors=True)


def _check_complete(repository: StudyRepository, state: StudyState) -> None:
    kept = kept_experiments(repository)
    missing = sorted((e for e in state.experiments if e not in kept), key=number_of)
    if missing:
        raise StudyProblem(
            f"the code of {len(missing)} experiments is missing ({missing[0]} is the first): "
            "import with the bundle that was exported together with the ledger"
        )


def _check_age(repository: StudyRepository, state: StudyState) -> None:
    beyond = [name for name in kept_experiments(repository) if name not in state.experiments]
    is_ahead = _head(repository) not in {"", state.incumbent_commit or state.base_commit}
    # One experiment more is what a controller leaves that was killed between git and the ledger.
    if len(beyond) > 1 or is_ahead:
        what = f"{len(beyond)} experiments" if len(beyond) > 1 else "promotions"
        raise StudyProblem(
            f"the ledger in the file is older than {repository.path}, which holds {what} besides: "
            "their numbers would be given away again. `incumbent rebuild` makes a ledger of what "
            "git knows; or move that folder away, to go back to when the file was written"
        )


def _head(repository: StudyRepository) -> CommitId:
    try:
        return repository.resolve(repository.branch_ref)
    except LookupError:
        return CommitId("")
