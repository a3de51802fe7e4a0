"""`incumbent export-ledger` and `import-ledger`, at a shell, over real git and a real server."""

import json
import shutil
import stat
import subprocess
from pathlib import Path

import pytest

from cluster.config_file import load_config
from cluster.ledger.call_book import CallBook, CallRecord, Replies
from cluster.state import events as ev
from cluster.state.invariants import check
from infra.backup.backup import HasEvents, empty_study, has_events, import_study
from infra.local.controller_process import sole_controller
from infra.local.home import StudyHome
from infra.local.study import OpenStudy, opened
from infra.processes.launch import find_config
from proposer.purse import CallId, CallPlan, Settlement, Usage
from tests.infra.study_of_git import GrownStudy, grow, now, user
from tests.infra.user import CONFIG, FAILURE, PROGRAM, USAGE, User
from trainer.trial import CommitId, ExperimentId

FILE = "mar5.ledger.jsonl"

__all__ = ["user"]  # a fixture


@pytest.fixture
def grown(user: User) -> GrownStudy:
    """A study with two promotions, one discard, and one submission that waits."""
    return grow(user)


def elsewhere(user: User, tmp_path: Path) -> User:
    """Return somebody on another machine, with a clone of the same repository."""
    other = User.at(tmp_path / "other")
    shutil.rmtree(other.folder)
    subprocess.run(["git", "clone", "-q", user.folder, other.folder], check=True)
    other.write({"incumbent.toml": CONFIG})
    return other


@pytest.fixture
def other(user: User, tmp_path: Path) -> User:
    (tmp_path / "other").mkdir()
    return elsewhere(user, tmp_path)


def studies_of(user: User) -> Path:
    return Path(user.variables["INCUMBENT_HOME"], "studies")


def carried(user: User, other: User, *, with_code: bool = True) -> Path:
    for name in (FILE, f"{FILE}.bundle") if with_code else (FILE,):
        shutil.copy(user.folder / name, other.folder / name)
    return other.folder / FILE


def refs(home: StudyHome) -> str:
    shown = subprocess.run(
        ["git", "for-each-ref"], cwd=home.git, check=True, capture_output=True, text=True
    )
    return shown.stdout


def test_a_study_goes_to_another_machine_and_goes_on_there(
    grown: GrownStudy, user: User, other: User
) -> None:
    user.done("export-ledger")
    carried(user, other)
    said = other.done("import-ledger", FILE)
    assert said.startswith("mar5: ")
    assert "`incumbent run` carries on" in said
    assert other.done("log") == user.done("log")
    assert refs(other.home) == refs(user.home)
    with opened(user.home) as here, opened(other.home) as there:
        assert there.ledger.read(0) == here.ledger.read(0)
        state = there.state()
        check(state)
    assert state.incumbent_commit == grown.head


def test_a_study_that_was_brought_back_is_none_that_was_never_run(
    grown: GrownStudy, user: User, other: User
) -> None:
    user.done("export-ledger")
    carried(user, other)
    other.done("import-ledger", FILE)
    assert "Revert e3" in other.done("revert", "e3")
    said = other.refused(FAILURE, "prune", "--dry-run")
    assert "no trial of mar5 has a curve" in said


PLAN = CallPlan(
    proposer="claude",
    model="m",
    purpose="propose",
    commit=CommitId("c" * 40),
    incumbent=ExperimentId("e0"),
    usd=0.5,
    tokens=100,
)


def book(study: OpenStudy) -> CallBook:
    """Begin the life of a controller, as far as it pays for calls."""
    epoch = study.ledger.begin_epoch()
    return CallBook(
        study.ledger,
        epoch=epoch,
        clock=now,
        directory=study.home.calls,
        most_usd=0.0,
        most_tokens=0,
        state=study.state(),
    )


def reply(text: str) -> Settlement:
    return Settlement(usage=Usage(output=5), usd=0.1, seconds=1.0, reply=text, proposals=1)


def pay(user: User) -> None:
    """Have the study pay for three calls: one is used, one is not, one comes back right now."""
    with opened(user.home) as study:
        purse = book(study)
        for text in ("used", "unused"):
            purse.settle(purse.reserve(PLAN), reply(text))
        study.ledger.append(
            [ev.Draft(id="c1/used", at=now(), event=ev.AnswerUsed(calls=(CallId("c1"),)))]
        )
        call = purse.reserve(PLAN)
        record = CallRecord(call=call, plan=PLAN, settlement=reply("on its way"))
        Replies(study.home.calls).write(record)


def test_what_models_were_paid_for_is_not_paid_for_again(
    grown: GrownStudy, user: User, other: User
) -> None:
    pay(user)
    assert "2 replies of models that wait for their use" in user.done("export-ledger")
    carried(user, other)
    assert "2 replies of models that are used first" in other.done("import-ledger", FILE)
    with opened(other.home) as study:
        found = book(study).unused("claude")
        assert [(each.call, each.reply) for each in found] == [
            ("c2", "unused"),
            ("c3", "on its way"),
        ]
        assert study.state().accounts["claude"].usd == pytest.approx(0.3)
    assert sorted(path.name for path in other.home.calls.iterdir()) == ["c2.json", "c3.json"]


def test_replies_that_are_nowhere_are_said_to_be(
    grown: GrownStudy, user: User, other: User
) -> None:
    pay(user)
    shutil.rmtree(user.home.calls)
    user.done("export-ledger")
    carried(user, other)
    said = other.run(PROGRAM, "import-ledger", FILE).stderr
    assert "1 calls of models were paid for, and their replies are neither in the file" in said


def test_what_is_written_is_for_its_owner_alone(grown: GrownStudy, user: User) -> None:
    facts = json.loads(user.done("export-ledger", "backup.jsonl", "--json"))
    for name in ("backup.jsonl", "backup.jsonl.bundle"):
        assert stat.S_IMODE((user.folder / name).stat().st_mode) == 0o600
    assert facts["file"] == str(user.folder / "backup.jsonl")
    assert facts["bundle"] == str(user.folder / "backup.jsonl.bundle")
    assert facts["refs"] == len(refs(user.home).splitlines())
    left = {path.name for path in user.folder.iterdir()}
    assert left == {".git", "train.py", "incumbent.toml", "backup.jsonl", "backup.jsonl.bundle"}


@pytest.mark.parametrize("taken", ["train.py", "fresh.jsonl.bundle"])
def test_a_file_that_is_there_is_written_over_only_where_that_is_said(
    user: User, taken: str
) -> None:
    user.write({taken: "precious"})
    file = taken.removesuffix(".bundle")
    said = user.refused(USAGE, "export-ledger", file)
    assert said == (
        f"error: there is a file {user.folder / taken} already: name another, or say --force\n"
    )
    assert (user.folder / taken).read_text() == "precious"
    user.done("export-ledger", file, "--force")
    assert (user.folder / taken).read_bytes()[:8] != b"precious"


def test_standard_output_takes_the_ledger_alone(grown: GrownStudy, user: User) -> None:
    text = user.done("export-ledger", "-")
    assert json.loads(text.splitlines()[0])["study"] == "mar5"
    assert "sha256" in text.splitlines()[-1]
    assert "need the name of a file" in user.refused(USAGE, "export-ledger", "-", "--json")
    assert not list(user.folder.glob("*.bundle"))


def test_a_ledger_is_not_overwritten(grown: GrownStudy, user: User) -> None:
    user.done("export-ledger")
    before = user.done("export-ledger", "-").splitlines()[1:-1]
    said = user.refused(FAILURE, "import-ledger", FILE)
    assert "has a ledger already, and nothing is overwritten" in said
    assert f"move {user.home.directory} away" in said
    assert user.done("export-ledger", "-").splitlines()[1:-1] == before


def test_the_cure_for_a_ledger_that_is_there_works(grown: GrownStudy, user: User) -> None:
    user.done("export-ledger")
    before = user.done("log")
    user.done("stop")
    user.home.directory.rename(user.folder.parent / "aside")
    user.done("import-ledger", FILE)
    assert user.done("log") == before


def test_a_study_that_runs_is_left_alone(grown: GrownStudy, user: User, other: User) -> None:
    user.done("export-ledger")
    with sole_controller(user.home):
        said = user.refused(FAILURE, "import-ledger", FILE)
    assert "has a controller already" in said
    assert "`incumbent stop` ends it" in said


def test_code_that_is_not_to_be_had_is_asked_for(
    grown: GrownStudy, user: User, other: User
) -> None:
    user.done("export-ledger")
    carried(user, other, with_code=False)
    said = other.refused(FAILURE, "import-ledger", FILE)
    assert "the code of the study is neither in" in said
    assert f"{FILE}.bundle" in said
    assert not list(studies_of(other).iterdir()), "of a study that nobody has begun"
    carried(user, other)
    assert other.done("import-ledger", FILE).startswith("mar5: ")


def test_what_was_there_before_a_failed_import_stays(
    grown: GrownStudy, user: User, other: User
) -> None:
    user.done("export-ledger")
    carried(user, other, with_code=False)
    other.refused(FAILURE, "import-ledger", FILE)
    place = studies_of(other) / StudyHome.locate(other.folder, "mar5").id
    place.mkdir()
    (place / "scratchpad.md").write_text("mine")
    other.refused(FAILURE, "import-ledger", FILE)
    assert (place / "scratchpad.md").read_text() == "mine"


def test_a_study_that_somebody_began_during_an_import_stays(
    user: User, other: User, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("INCUMBENT_HOME", other.variables["INCUMBENT_HOME"])
    source, file = find_config(other.folder)

    def find_it_begun() -> None:
        with empty_study(source, load_config(file)) as study:
            other.done("submit", "--set", "LR=0.3")
            raise has_events(study)

    with pytest.raises(HasEvents):
        find_it_begun()
    with opened(other.home) as study:
        assert study.state().submissions


@pytest.mark.parametrize("has_landed", [False, True])
def test_in_a_redis_of_the_users_own_a_failed_import_keeps_the_code_of_a_ledger_that_landed(
    grown: GrownStudy,
    user: User,
    other: User,
    server_url: str,
    monkeypatch: pytest.MonkeyPatch,
    *,
    has_landed: bool,
) -> None:
    user.done("export-ledger")
    carried(user, other)
    other.write({"incumbent.toml": f'{CONFIG}[cluster]\nredis = "{server_url}"\n'})
    monkeypatch.setenv("INCUMBENT_HOME", other.variables["INCUMBENT_HOME"])
    source, file = find_config(other.folder)

    def disturb(_done: int, _total: int) -> None:
        if not has_landed:
            raise KeyboardInterrupt
        other.home.settings.mkdir()  # what is written after the events cannot be

    with pytest.raises(IsADirectoryError if has_landed else KeyboardInterrupt):
        import_study(source, load_config(file), other.folder / FILE, disturb)
    if has_landed:
        other.home.settings.rmdir()
        assert refs(other.home) == refs(user.home)
    else:
        assert not list(studies_of(other).iterdir())
        other.done("import-ledger", FILE)
    assert other.done("log") == user.done("log")


def test_a_new_server_on_the_same_machine_needs_no_bundle(grown: GrownStudy, user: User) -> None:
    user.done("export-ledger", "--without-code")
    assert not (user.folder / f"{FILE}.bundle").exists()
    before = user.done("log")
    user.done("stop")
    shutil.rmtree(user.home.redis)
    user.home.redis.mkdir()
    user.done("import-ledger", FILE)
    assert user.done("log") == before


def test_a_ledger_older_than_the_code_is_refused(grown: GrownStudy, user: User) -> None:
    user.done("export-ledger", "--without-code")
    grown.more(2)
    user.done("stop")
    shutil.rmtree(user.home.redis)
    user.home.redis.mkdir()
    said = user.refused(FAILURE, "import-ledger", FILE)
    assert "is older than" in said
    assert "`incumbent rebuild`" in said


def test_a_bundle_that_is_younger_than_the_ledger_is_cut_to_it(
    grown: GrownStudy, user: User, other: User
) -> None:
    user.done("export-ledger", "old.jsonl")
    known = refs(user.home)
    grown.more(1)
    user.done("export-ledger")
    shutil.copy(user.folder / "old.jsonl", user.folder / FILE)
    carried(user, other)
    other.done("import-ledger", FILE)
    assert refs(other.home) == known


def test_damage_is_named_with_the_file(grown: GrownStudy, user: User, other: User) -> None:
    user.done("export-ledger")
    path = carried(user, other)
    path.write_bytes(path.read_bytes()[:-200])
    said = other.refused(FAILURE, "import-ledger", FILE)
    assert str(path) in said
    assert "copy it again" in said
    assert not other.has_study()


def test_a_broken_bundle_is_one_line(grown: GrownStudy, user: User, other: User) -> None:
    user.done("export-ledger")
    carried(user, other)
    bundle = other.folder / f"{FILE}.bundle"
    whole = bundle.read_bytes()
    bundle.write_bytes(whole[:-100])
    said = other.refused(FAILURE, "import-ledger", FILE)
    assert "the study's code cannot be had from" in said
    bundle.write_bytes(b"# v2 git bundle\nnonsense")
    said = other.refused(FAILURE, "import-ledger", FILE)
    assert "the code of 5 experiments is missing (e0 is the first)" in said
    assert said.count("\n") == 1
    carried(user, other)
    other.done("import-ledger", FILE)


def test_another_study_is_refused(grown: GrownStudy, user: User, other: User) -> None:
    user.done("export-ledger")
    carried(user, other)
    other.write({"incumbent.toml": CONFIG.replace('"mar5"', '"april"')})
    said = other.refused(USAGE, "import-ledger", FILE)
    assert 'say [study] name = "mar5"' in said


def test_what_is_no_place_or_no_file_is_said_at_once(user: User) -> None:
    assert "there is no file" in user.refused(USAGE, "import-ledger", "nowhere.jsonl")
    assert "is no place for a file" in user.refused(USAGE, "export-ledger", "no/such/folder.jsonl")
    user.write({"empty.jsonl": ""})
    assert "is not a ledger" in user.refused(FAILURE, "import-ledger", "empty.jsonl")
