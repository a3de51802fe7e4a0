"""Where workers get commits: one contract, for the head's own slots and for those of nodes."""

import threading
from contextlib import suppress
from pathlib import Path

import pytest

from tests.cluster.transport.research_depot import (
    FILES,
    Remote,
    base,
    candidate,
    depot,
    remote,
    research,
    show,
)
from tests.trainer.conftest import Research, git
from trainer.local_code import LocalCode
from trainer.ports import CodeAway, CodeSource
from trainer.trial import CommitId

__all__ = ["base", "depot", "remote", "research"]  # the fixtures


@pytest.fixture(params=["local", "remote"])
def source(
    request: pytest.FixtureRequest, research: Research, remote: Remote, base: CommitId
) -> CodeSource:
    return LocalCode(research.bare, base) if request.param == "local" else remote()


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
