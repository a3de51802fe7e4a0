"""Packs, and who waits for them, while the head's git is slow."""

import os
import shutil
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from cluster.transport.packer import Packer, Packing, Parcel
from tests.cluster.fake_depot import FakeDepot
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
from tests.trainer.conftest import Research
from trainer.git_command import GitError
from trainer.trial import CommitId

__all__ = ["base", "depot", "remote", "research"]  # the fixtures


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
