"""Where workers get commits: one contract, for the head's own slots and for those of nodes.

The depot is in this process, over real git; a test may have it be away, or lie.
"""

import os
import shutil
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from pathlib import Path

import pytest

from cluster.nodes.readiness import fetched
from cluster.transport.depot import DepotActor
from cluster.transport.node_repository import NodeRepository
from cluster.transport.packer import Packer, Packing, Parcel
from cluster.transport.remote_code import LACK, RemoteCode
from tests.cluster.fake_depot import FakeDepot, away
from tests.trainer.conftest import Research, git
from trainer.git_command import GitError
from trainer.local_code import LocalCode
from trainer.ports import CodeAway, CodeSource
from trainer.trial import CommitId

FILES = {"train.py": "RATE = 0.5\n" + "# a line like many others\n" * 500, "data/x.txt": "x"}


@pytest.fixture
def research(tmp_path: Path) -> Research:
    (tmp_path / "study").mkdir()
    git(tmp_path / "study", "init", "-q", "--bare", "repo.git")
    git(tmp_path, "init", "-q", "checkout")
    return Research(bare=tmp_path / "study" / "repo.git", checkout=tmp_path / "checkout")


Remote = Callable[..., RemoteCode]


@pytest.fixture
def base(research: Research) -> CommitId:
    return CommitId(research.commit(FILES))


@pytest.fixture
def depot(research: Research, base: CommitId) -> FakeDepot:
    return FakeDepot(DepotActor(str(research.bare.parent), base))


@pytest.fixture
def remote(tmp_path: Path, depot: FakeDepot, base: CommitId) -> Remote:
    def make(most_kept: int = 512, **seconds: float) -> RemoteCode:
        here = NodeRepository(tmp_path / "node" / "repo.git", pinned=base, most_kept=most_kept)
        return RemoteCode(depot, here, **seconds)

    return make


@pytest.fixture(params=["local", "remote"])
def source(
    request: pytest.FixtureRequest, research: Research, remote: Remote, base: CommitId
) -> CodeSource:
    return LocalCode(research.bare, base) if request.param == "local" else remote()


def show(repository: Path, commit: CommitId, name: str = "train.py") -> str:
    return git(repository, "show", f"{commit}:{name}") + "\n"


def until(condition: Callable[[], object]) -> None:
    deadline = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def candidate(research: Research, number: int) -> CommitId:
    text = FILES["train.py"].replace("0.5", f"0.{number:04}")
    return CommitId(research.commit({"train.py": text}))


# --- the contract ---------------------------------------------------------------------------------


def test_a_commit_is_there_with_all_of_its_tree(
    source: CodeSource, research: Research, base: CommitId
) -> None:
    found = candidate(research, 1)
    for commit in (base, found, base):
        repository = source.fetch(commit)
        assert git(repository, "cat-file", "-t", commit) == "commit"
        assert show(repository, commit, "data/x.txt") == "x\n"
    assert show(repository, found).startswith("RATE = 0.0001\n")
    git(repository, "fsck", "--strict", "--connectivity-only", found)


def test_it_can_be_checked_out_in_a_worktree(
    source: CodeSource, base: CommitId, tmp_path: Path
) -> None:
    git(source.fetch(base), "worktree", "add", "--quiet", "--detach", str(tmp_path / "tree"), base)
    assert (tmp_path / "tree" / "train.py").read_text() == FILES["train.py"]


def test_what_is_wanted_ahead_is_found_when_its_turn_comes(
    source: CodeSource, base: CommitId
) -> None:
    with suppress(CodeAway):  # on a slow machine it is on its way
        source.fetch(base, is_ahead=True)
    assert show(source.fetch(base), base) == FILES["train.py"]


def test_several_threads_may_ask_at_once(source: CodeSource, base: CommitId) -> None:
    found: list[Path] = []
    threads = [threading.Thread(target=lambda: found.append(source.fetch(base))) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(found) == 6
    assert len({*found}) == 1


def test_it_says_what_is_on_the_branch(
    source: CodeSource, research: Research, base: CommitId
) -> None:
    assert source.promoted() == frozenset()
    tree = git(research.bare, "rev-parse", f"{base}^{{tree}}")
    tip: str = base
    for experiment in ("e3", "e17"):
        words = f"Better\n\nExperiment: {experiment}\nMetric: 1 (was 2)"
        tip = git(research.bare, "commit-tree", tree, "-p", tip, "-m", words)
    git(research.bare, "update-ref", "refs/heads/incumbent/test", tip)
    assert source.promoted() == {"e3", "e17"}


def test_nothing_is_said_against_a_source_that_works(source: CodeSource, base: CommitId) -> None:
    assert not source.lack()
    source.fetch(base)
    assert not source.lack()


# --- a node's own ---------------------------------------------------------------------------------


def test_a_commit_that_the_head_lacks_is_a_lookup_error(remote: Remote, base: CommitId) -> None:
    code = remote()
    for missing in ("0" * 40, "HEAD", "--all", f"{base}^{{tree}}"):
        with pytest.raises(LookupError, match="the head has no commit"):
            code.fetch(CommitId(missing))


def test_a_candidate_costs_hundreds_of_bytes_whatever_its_tree(
    remote: Remote, research: Research, depot: FakeDepot, base: CommitId
) -> None:
    noise = "".join(f"{number * 7919 % 100_003} " for number in range(40_000))
    heavy = CommitId(research.commit({"data/big.txt": noise}))
    code = remote()
    code.fetch(base)
    code.fetch(heavy)
    code.fetch(candidate(research, 1))
    code.fetch(candidate(research, 2))
    assert depot.sizes[1] > 50_000
    assert max(depot.sizes[2:]) < 1000
    assert depot.asked[-1][1][0] == base  # what the node is sure to have comes first


def test_slots_of_a_node_fetch_a_commit_once(
    remote: Remote, research: Research, depot: FakeDepot, base: CommitId
) -> None:
    slots = [remote() for _ in range(4)]
    threads = [threading.Thread(target=code.fetch, args=(base,)) for code in slots]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [commit for commit, _ in depot.asked] == [base]


def test_a_whole_repository_comes_in_parts(
    research: Research, depot: FakeDepot, base: CommitId, remote: Remote, tmp_path: Path
) -> None:
    depot.packer = Packer(research.bare, tmp_path / "packs", part_bytes=100)
    assert show(remote().fetch(base), base) == FILES["train.py"]
    assert depot.sizes[0] > 300
    assert len([*(tmp_path / "packs").iterdir()]) == 1  # another node may want the same


def test_a_head_that_forgets_a_pack_half_way_is_asked_from_the_beginning(
    research: Research, depot: FakeDepot, base: CommitId, remote: Remote, tmp_path: Path
) -> None:
    packs = tmp_path / "packs"
    depot.packer = Packer(research.bare, packs, part_bytes=100)
    calls = 0

    def before(_: str) -> None:
        nonlocal calls
        calls += 1
        if calls == 2:
            for path in packs.iterdir():
                path.unlink()

    depot.before = before
    assert show(remote().fetch(base), base) == FILES["train.py"]
    assert len(depot.asked) == 2


def test_where_a_prerequisite_is_missing_after_all_the_whole_is_asked_for(
    remote: Remote, research: Research, depot: FakeDepot, base: CommitId, tmp_path: Path
) -> None:
    code = remote()
    repository = code.fetch(base)
    for path in (repository / "objects").glob("??/*"):  # a disk that lost what it had
        path.unlink()
    found = candidate(research, 1)
    assert show(code.fetch(found), found).startswith("RATE = 0.0001\n")
    assert [have for _, have in depot.asked] == [(), (base,), ()]


def test_a_pack_that_was_damaged_is_not_taken_in(
    remote: Remote, depot: FakeDepot, base: CommitId
) -> None:
    class Liar(FakeDepot):
        def bundle(self, commit: CommitId, have: Sequence[CommitId]) -> Parcel | Packing | None:
            found = super().bundle(commit, have)
            if not isinstance(found, Parcel):
                return found
            return Parcel(key=found.key, size=found.size, first=found.first[:-9] + b"123456789")

    code = remote()
    code._depot = Liar(depot.depot)
    with pytest.raises(GitError):
        code.fetch(base)
    assert not code._repository.has(base)


def test_a_tree_that_would_write_into_git_s_own_folder_is_not_taken_in(
    remote: Remote, research: Research, base: CommitId
) -> None:
    blob = git(research.bare, "rev-parse", f"{base}:data/x.txt")
    entry = b"100644 config\0" + bytes.fromhex(blob)
    inner = _hash_object(research.bare, "tree", entry)
    tree = _hash_object(research.bare, "tree", b"40000 .git\0" + bytes.fromhex(inner))
    commit = CommitId(git(research.bare, "commit-tree", tree, "-p", base, "-m", "evil"))
    code = remote()
    code.fetch(base)
    with pytest.raises(GitError, match="unpack-objects"):
        code.fetch(commit)


def _hash_object(repository: Path, kind: str, content: bytes) -> str:
    file = repository / "object"
    file.write_bytes(content)
    return git(repository, "hash-object", "-t", kind, "-w", "--literally", str(file))


def test_while_the_head_is_away_a_commit_is_asked_for_again_and_then_comes(
    remote: Remote, depot: FakeDepot, base: CommitId
) -> None:
    left = 2

    def before(_: str) -> None:
        nonlocal left
        left -= 1
        if left >= 0:
            raise ConnectionError("the depot is away")

    depot.before = before
    assert show(remote().fetch(base), base) == FILES["train.py"]


def test_a_head_that_stays_away_is_no_fault_of_the_candidate(
    remote: Remote, depot: FakeDepot, base: CommitId
) -> None:
    depot.before = away
    with pytest.raises(CodeAway, match="does not answer"):
        remote(patience_s=0.6).fetch(base)


def test_a_lease_does_not_wait_for_long_but_a_node_s_first_fetch_may(
    remote: Remote, research: Research, depot: FakeDepot, base: CommitId
) -> None:
    gate = threading.Event()
    code = remote(patience_s=0.1)

    def slow(_: str) -> None:
        time.sleep(0.5)

    depot.before = slow
    code.fetch(base)
    depot.before = lambda _: gate.wait(30) and None
    found = candidate(research, 1)
    with pytest.raises(CodeAway, match="still on its way"):
        code.fetch(found)
    gate.set()


def test_a_head_that_does_not_say_what_was_promoted_is_not_waited_for_each_time(
    remote: Remote, depot: FakeDepot
) -> None:
    gate = threading.Event()
    depot.before = lambda _: gate.wait(30) and None
    code = remote()
    began = time.monotonic()
    for _ in range(20):
        with pytest.raises(CodeAway):
            code.promoted()
    assert time.monotonic() - began < 10
    gate.set()


def test_a_slow_fetch_goes_on_when_patience_has_ended_and_is_found_later(
    remote: Remote, depot: FakeDepot, base: CommitId
) -> None:
    gate = threading.Event()
    depot.before = lambda _: gate.wait(30) and None
    code = remote(ahead_s=0.01)
    began = time.monotonic()
    with pytest.raises(CodeAway, match="still on its way"):
        code.fetch(base, is_ahead=True)
    assert time.monotonic() - began < 5
    gate.set()
    code.fetch(base)
    assert len(depot.asked) == 1


def test_a_commit_that_hangs_holds_up_no_other(
    remote: Remote, research: Research, depot: FakeDepot, base: CommitId
) -> None:
    stuck, other = candidate(research, 1), candidate(research, 2)
    gate = threading.Event()

    class Hanging(FakeDepot):
        def bundle(self, commit: CommitId, have: Sequence[CommitId]) -> Parcel | Packing | None:
            if commit == stuck:
                gate.wait(60)
            return super().bundle(commit, have)

    slots = [remote(patience_s=30.0), remote(patience_s=0.1)]
    slots[0].fetch(base)
    slots[1]._depot = Hanging(depot.depot)
    try:
        with pytest.raises(CodeAway, match="still on its way"):
            slots[1].fetch(stuck)
        assert show(slots[0].fetch(other), other).startswith("RATE = 0.0002\n")
    finally:
        gate.set()


def test_that_the_depot_is_silent_is_said_until_it_answers_what_it_was_asked(
    remote: Remote, research: Research, depot: FakeDepot, base: CommitId
) -> None:
    code = remote(patience_s=0.1, silent_s=0.0)
    code.fetch(base)
    found = candidate(research, 1)
    depot.before = away
    with pytest.raises(CodeAway):
        code.fetch(found)
    assert code.lack() == LACK
    assert code.lack() == LACK
    depot.before = lambda _: None
    until(lambda: not code.lack())
    until(lambda: code._repository.has(found))


def test_a_depot_that_is_away_for_a_moment_is_not_worth_a_word(
    remote: Remote, depot: FakeDepot, base: CommitId
) -> None:
    depot.before = away
    code = remote(patience_s=0.1, silent_s=60.0)
    with pytest.raises(CodeAway):
        code.fetch(base)
    assert not code.lack()


def test_a_node_that_is_made_ready_says_that_the_depot_is_silent(
    remote: Remote, depot: FakeDepot, base: CommitId, capsys: pytest.CaptureFixture[str]
) -> None:
    said: list[str] = []

    def before(_: str) -> None:
        said.extend(capsys.readouterr().out.splitlines())
        if not any(LACK in line for line in said):
            raise ConnectionError("the depot is away")

    depot.before = before
    code = remote(patience_s=0.1, ahead_s=0.1, silent_s=0.0)
    assert show(fetched(code, base), base) == FILES["train.py"]
    assert "fetching the code" in said[0]


# --- while the head's git is slow -----------------------------------------------------------------

SLOW_GIT = """#!/bin/sh
if [ "$1" = pack-objects ] && mkdir {flag}/taken 2> /dev/null; then
    while [ -e {flag} ]; do sleep 0.05; done
fi
exec {git} "$@"
"""


@pytest.fixture
def stalled(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A git whose first pack does not come to an end for as long as this folder is there."""
    flag, programs, real = tmp_path / "stalled", tmp_path / "bin", shutil.which("git")
    flag.mkdir()
    programs.mkdir()
    (programs / "git").write_text(SLOW_GIT.format(flag=flag, git=real))
    (programs / "git").chmod(0o755)
    monkeypatch.setenv("PATH", f"{programs}:{os.environ['PATH']}")
    yield flag
    shutil.rmtree(flag, ignore_errors=True)


def packed(packer: Packer, commit: CommitId, have: Sequence[CommitId]) -> Parcel | None:
    """Ask for a pack until it is made."""
    found: list[Parcel | None] = []

    def is_made() -> bool:
        told = packer.pack(commit, have)
        found.extend([] if isinstance(told, Packing) else [told])
        return bool(found)

    until(is_made)
    return found[0]


def test_who_asks_for_a_pack_is_answered_while_git_is_at_it_and_others_get_theirs(
    research: Research, base: CommitId, stalled: Path, tmp_path: Path
) -> None:
    one, two = candidate(research, 1), candidate(research, 2)
    packer = Packer(research.bare, tmp_path / "packs", answer_s=0.01)
    assert packer.pack(one, [base]) == Packing()
    until((stalled / "taken").is_dir)
    assert packed(packer, two, [base]) is not None
    assert packer.pack(one, [base]) == Packing()
    shutil.rmtree(stalled)
    assert packed(packer, one, [base]) is not None
    assert packed(packer, CommitId("0" * 40), [base]) is None


def test_a_git_that_hangs_is_ended_and_asked_again(
    research: Research, base: CommitId, stalled: Path, tmp_path: Path
) -> None:
    packer = Packer(research.bare, tmp_path / "packs", git_s=2.0)
    with pytest.raises(GitError, match="was ended after 2 s"):
        packed(packer, base, [])
    assert stalled.is_dir()
    patient = Packer(research.bare, tmp_path / "packs")
    assert packed(patient, base, []) is not None


def test_a_node_waits_for_a_pack_for_as_long_as_the_head_says_that_it_is_at_it(
    research: Research, depot: FakeDepot, base: CommitId, remote: Remote, stalled: Path
) -> None:
    depot.packer = Packer(research.bare, research.bare.parent / "packs", answer_s=0.05)
    threading.Timer(1.0, shutil.rmtree, (stalled,)).start()
    assert show(remote(patience_s=0.1).fetch(base), base) == FILES["train.py"]
    assert len(depot.asked) > 2


def test_old_commits_are_let_go_and_the_base_and_the_newest_stay(
    remote: Remote, research: Research, base: CommitId
) -> None:
    code = remote(most_kept=8)
    repository = code.fetch(base)
    commits = []
    for number in range(11):
        git(research.checkout, "checkout", "-q", base)
        commits.append(candidate(research, number))
        code.fetch(commits[-1])
        if number == 5:
            code.fetch(commits[0])  # wanted again, e.g. as a replicate
    refs = set(git(repository, "for-each-ref", "--format=%(objectname)").split())
    assert len(refs) <= 9
    assert {base, commits[0], *commits[-4:]} <= refs
    assert commits[1] not in refs
    kept = git(repository, "cat-file", "--batch-check", "--batch-all-objects")
    assert commits[1] not in kept
    again = code.fetch(commits[1])
    assert show(again, commits[1]).startswith("RATE = 0.0001\n")
