"""Objects written in process must be the very ones that git would write."""

import random
from pathlib import PurePosixPath

import pytest

from cluster.git.git_objects import ObjectWriter, count_lines, read_snapshot
from trainer.git_command import GitCommand
from trainer.trial import CommitId


@pytest.mark.parametrize(
    ("content", "lines"),
    [(b"", 0), (b"\n", 1), (b"a", 1), (b"a\n", 1), (b"a\nb", 2), (b"a\r\nb\r\n", 2)],
)
def test_lines_are_counted_as_a_person_would(content: bytes, lines: int) -> None:
    assert count_lines(content) == lines


@pytest.mark.parametrize("seed", range(6))
def test_a_grafted_tree_is_the_one_that_git_writes(seed: int, make_repository) -> None:
    chance = random.Random(seed)
    # Names that a naive sort puts in another order than git, which ends directories in a slash.
    names = ["a", "a-b", "a.b", "a0", "ab", "b", "é", "z z"]
    places = ["", "a.d/", "d/", "d/e-f/", "d/e/", "d/e/g/"]
    paths = sorted({chance.choice(places) + chance.choice(names) for _ in range(20)})
    repository = make_repository(dict.fromkeys(paths[:-2], "old\n"))
    edited = [*chance.sample(paths[:-2], 4), *paths[-2:]]
    git = GitCommand(repository.path)
    snapshot = read_snapshot(git, "HEAD", edited)
    writer = ObjectWriter(repository.path / ".git")
    blobs = {path: writer.blob(f"{path}\n".encode()) for path in edited}
    tree = writer.graft(snapshot, blobs)
    repository.commit({path: f"{path}\n" for path in edited})
    assert tree == repository.git("rev-parse", "HEAD^{tree}")


def test_a_graft_of_nothing_is_the_same_tree(make_repository) -> None:
    repository = make_repository()
    snapshot = read_snapshot(GitCommand(repository.path), "HEAD", ["train.py"])
    assert ObjectWriter(repository.path / ".git").graft(snapshot, {}) == snapshot.tree


def test_a_snapshot_holds_only_the_directories_on_the_way(make_repository) -> None:
    repository = make_repository({"a/b/c.py": "1\n", "a/x/y.py": "2\n", "z/w.py": "3\n"})
    snapshot = read_snapshot(GitCommand(repository.path), "HEAD", ["a/b/c.py", "none/at/all.py"])
    ways = [".", "a", "a/b", "none", "none/at"]
    assert sorted(snapshot.directories) == [PurePosixPath(way) for way in ways]
    assert snapshot.files == {"a/b/c.py": b"1\n"}
    assert snapshot.problems == {}


@pytest.mark.parametrize(
    ("author", "expected"),
    [
        ("tuner", "tuner <incumbent@localhost>"),
        ("Ada Lovelace <ada@example.org>", "Ada Lovelace <ada@example.org>"),
        ("", "unknown <incumbent@localhost>"),
        ("<>", "unknown <incumbent@localhost>"),
        ("A\nB\0C <x y\n@z>", "A BC <xy@z>"),
        ("a > b", "a  b <incumbent@localhost>"),
    ],
)
def test_any_author_makes_a_sound_commit(author: str, expected: str, make_repository) -> None:
    repository = make_repository()
    commit = ObjectWriter(repository.path / ".git").commit(
        tree=repository.git("rev-parse", "HEAD^{tree}"),
        parents=[CommitId(repository.git("rev-parse", "HEAD"))],
        message="Try",
        author=author,
        time_s=1_700_000_000,
    )
    assert repository.git("log", "-1", "--format=%an <%ae>", commit) == expected
    assert repository.git("fsck", "--strict", "--no-dangling") == ""
