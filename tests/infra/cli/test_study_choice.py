"""A study that was begun anew: its predecessor is kept, and never meant by accident."""

import os
import shutil
from collections.abc import Iterator
from contextlib import AbstractContextManager
from datetime import UTC, datetime
from pathlib import Path

import pytest
import redis

from cluster.config_file import load_config
from cluster.git.mirror import Mirror
from cluster.git.study_repository import NoRepository, StudyRepository
from cluster.ledger.redis_store import client_name
from cluster.state import events as ev
from infra.cli import handing_in
from infra.local import embedded_server
from infra.local.embedded_server import EmbeddedServer
from infra.local.home import StudyHome, StudyProblem
from infra.local.study import opened
from infra.processes.launch import find_config, prepare_run, prepare_study
from tests.infra.study_factory import Study
from tests.infra.user import CONFIG, TRAIN, USAGE, User
from trainer.trial import CommitId, ExperimentId


@pytest.fixture
def user(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> User:
    """A user whose baseline crashed."""
    user = User.at(tmp_path)
    monkeypatch.setenv("INCUMBENT_HOME", user.variables["INCUMBENT_HOME"])
    user.commit({"train.py": TRAIN})
    user.write({"incumbent.toml": f'{CONFIG}sandbox = "none"\n'})
    user.done("submit", "--set", "LR=0.3")
    told = Study(slots=1)
    told.crash("unmodified")
    with opened(user.home) as study:
        study.ledger.append(
            ev.Draft(id=f"told-{recorded.seq}", at=datetime.now(UTC), event=recorded.event)
            for recorded in told.events[1:]
        )
    return user


def begin_anew(user: User, *, is_amended: bool = False) -> StudyHome:
    """Mend the baseline and run again, as far as the controller's start; return what it left."""
    user.commit({"train.py": f"{TRAIN}# {datetime.now(UTC)}\n"})
    if is_amended:
        user.git("reset", "--quiet", "--soft", "HEAD~2")
        user.git("commit", "--quiet", "--message=Mended")
    source, file = find_config(user.folder)
    prepared = prepare_run(source, load_config(file))
    prepared.study.server.release(prepared.study.client)
    root = prepared.study.home.directory.parent
    found = [StudyHome.read(path.parent) for path in root.glob("*-failed-*/study.json")]
    said = prepared.notes[0]
    return next(home for home in found if f"{home.directory};" in said)


def test_what_was_set_aside_is_meant_only_where_its_whole_id_is_said(user: User) -> None:
    aside = begin_anew(user)
    now = StudyHome.locate(user.folder, "mar5")
    for words in ((), ("--study", "mar5"), ("--study", now.id)):
        assert "no score yet" in user.done("status", *words)
        assert "crashed" not in user.done("log", *words)
    assert "ZeroDivisionError" in user.done("show", "e0", "--study", aside.id)
    assert "crashed" in user.done("log", "--study", aside.id)
    user.done("stop")


def test_what_was_set_aside_takes_its_refs_out_of_the_mirror(user: User) -> None:
    commit = CommitId(user.git("rev-parse", "HEAD").strip())
    failed = StudyRepository.open(user.home.git, study="mar5")
    failed.keep_ref(ExperimentId("e0"), commit)
    Mirror(failed, user.folder).sync()
    aside = begin_anew(user)
    assert user.git("for-each-ref", "refs/incumbent") == ""
    kept = StudyRepository.open(aside.git, study="mar5")
    assert kept.resolve("refs/incumbent/mar5/e0") == commit


@pytest.mark.parametrize("is_checked_out", [False, True])
def test_the_branch_of_what_was_set_aside_is_not_in_the_way(
    user: User, *, is_checked_out: bool
) -> None:
    user.commit({"README": "second"})
    old = CommitId(user.git("rev-parse", "HEAD").strip())
    failed = StudyRepository.create(user.home.git, study="mar5", source=user.folder, base=old)
    failed.start_branch(old)
    Mirror(failed, user.folder).sync()
    if is_checked_out:
        user.git("worktree", "add", "--quiet", "../look", "incumbent/mar5")
    begin_anew(user, is_amended=True)
    new = CommitId(user.git("rev-parse", "HEAD").strip())
    study = StudyRepository.open(StudyHome.locate(user.folder, "mar5").git, study="mar5")
    study.start_branch(new)
    message = Mirror(study, user.folder).sync().message
    found = user.git("rev-parse", "incumbent/mar5").strip()
    assert (found, bool(message)) == ((old, True) if is_checked_out else (new, False))


def test_what_people_had_handed_in_and_told_goes_on_with_the_study(user: User) -> None:
    user.done("submit", "--set", "DEPTH=3", "--priority", "7", "-m", "deeper")
    user.done("tell", "depth matters")
    with opened(user.home) as study:
        waiting = study.state().submissions
    aside = begin_anew(user)
    with opened(StudyHome.locate(user.folder, "mar5")) as study:
        state = study.state()
    assert state.submissions == waiting
    assert [each.settings for each in waiting] == [{"LR": "0.3"}, {"DEPTH": "3"}]
    assert state.notes == ("depth matters",)
    with opened(aside) as study:
        assert study.state().submissions == waiting, "and what was set aside stays as it was"


def test_what_is_handed_in_until_a_study_is_set_aside_goes_on_with_it(
    user: User, monkeypatch: pytest.MonkeyPatch
) -> None:
    keep_down = EmbeddedServer.kept_down

    def kept_down_later(server: EmbeddedServer) -> AbstractContextManager[bool]:
        user.done("submit", "--set", "DEPTH=3")
        user.done("tell", "depth matters")
        return keep_down(server)

    monkeypatch.setattr(EmbeddedServer, "kept_down", kept_down_later)
    begin_anew(user)
    with opened(StudyHome.locate(user.folder, "mar5")) as study:
        state = study.state()
    assert [each.settings for each in state.submissions] == [{"LR": "0.3"}, {"DEPTH": "3"}]
    assert state.notes == ("depth matters",)


def test_a_study_that_others_use_is_not_set_aside(
    user: User, monkeypatch: pytest.MonkeyPatch
) -> None:
    home, base = user.home, CommitId(user.git("rev-parse", "HEAD").strip())
    failed = StudyRepository.open(home.git, study="mar5")
    failed.keep_ref(ExperimentId("e0"), base)
    Mirror(failed, user.folder).sync()
    mirrored = user.git("for-each-ref", "refs/incumbent")
    name = client_name(os.getppid())
    with opened(home), redis.Redis.from_url(EmbeddedServer(home).url, client_name=name) as other:
        other.ping()
        with monkeypatch.context() as patched:
            patched.setattr(embedded_server, "LEAVE_S", 0.0)
            with pytest.raises(StudyProblem, match="another process still uses the study"):
                begin_anew(user)
        assert user.home == home, "the only one"
        assert user.git("for-each-ref", "refs/incumbent") == mirrored
    assert begin_anew(user).name == "mar5", "once they have left"


def test_who_waits_for_a_verdict_of_a_study_that_is_set_aside_is_told(
    user: User, monkeypatch: pytest.MonkeyPatch
) -> None:
    def happenings(home: StudyHome) -> Iterator[None]:
        yield
        home.set_aside("by-hand")
        StudyHome.locate(user.folder, "mar5").create()
        yield

    steps = happenings(user.home)
    with opened(user.home) as study, monkeypatch.context() as patched:
        waiting = study.state().submissions
        patched.setattr(handing_in.time, "sleep", lambda _: next(steps))
        with pytest.raises(StudyProblem, match="the study mar5 was set aside or moved away"):
            handing_in.hand_in(study, waiting, wait=True, as_json=False)


def test_a_study_that_lost_its_code_is_not_taken_for_another_machines(user: User) -> None:
    home = user.home
    shutil.rmtree(home.git)
    (home.directory / "study.json").unlink()
    source, file = find_config(user.folder)
    with pytest.raises(NoRepository):
        prepare_study(source, load_config(file))
    assert home.exists()
    with opened(home) as study:
        assert study.state().baseline, "its ledger is there still"


def test_a_repository_whose_every_study_was_set_aside_has_none(user: User) -> None:
    user.home.set_aside("by-hand")
    assert "there is no study mar5 yet" in user.refused(USAGE, "status")


def test_a_study_can_be_set_aside_for_the_same_reason_twice(user: User) -> None:
    first = user.home.set_aside("failed-0123456789")
    second = StudyHome.locate(user.folder, "mar5")
    second.create()
    again = second.set_aside("failed-0123456789")
    assert again.id == f"{first.id}-2"
    assert StudyHome.read(again.directory).ledger_id == StudyHome.read(first.directory).ledger_id
