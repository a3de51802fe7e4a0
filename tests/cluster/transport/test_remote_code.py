"""Where the slots of a node get commits, by a depot that may be away or lie."""

import threading
import time
from collections.abc import Sequence
from pathlib import Path

import pytest

from cluster.nodes.readiness import fetched
from cluster.transport.packer import Packer, Packing, Parcel
from cluster.transport.remote_code import LACK
from tests.cluster.fake_depot import FakeDepot, away
from tests.cluster.transport.research_depot import (
    FILES,
    Remote,
    base,
    candidate,
    depot,
    remote,
    research,
    show,
    until,
)
from tests.trainer.conftest import Research, git
from trainer.git_command import GitError
from trainer.ports import CodeAway
from trainer.trial import CommitId

__all__ = ["base", "depot", "remote", "research"]  # the fixtures


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
