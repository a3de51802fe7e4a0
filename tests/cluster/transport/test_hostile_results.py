"""What a candidate may leave on a node to no harm."""

import os
from dataclasses import replace
from pathlib import Path

from cluster.transport.manifest import MOST_LISTED
from tests.cluster.transport.two_folders import (
    NAME,
    SPEC,
    Make,
    delivered,
    depot,
    head,
    leave,
    make,
    node,
    stayed,
)
from trainer.paths import WorkerPaths
from trainer.trial import TrialId

__all__ = ["depot", "head", "make", "node"]  # the fixtures


def test_what_is_no_plain_file_stays_and_is_named(
    make: Make, head: WorkerPaths, node: WorkerPaths, tmp_path: Path
) -> None:
    (tmp_path / "secret").write_text("key")
    out = leave(node, {"good": b"1"})
    (out / "link").symlink_to(tmp_path / "secret")
    (out / "folder").symlink_to(tmp_path)
    os.link(tmp_path / "secret", out / "second")
    os.mkfifo(out / "pipe")
    results = make()
    results.left(SPEC)
    results.step()
    told = stayed(delivered(head))
    assert told.pop("good") == ""
    assert told == {
        "link": "is a symbolic link",
        "folder": "is a symbolic link",
        "second": "has 2 names (hard links)",
        "pipe": "is a pipe",
    }
    assert [path.name for path in head.kept("out", NAME).iterdir()] == ["good"]


def test_names_that_would_move_a_cursor_or_are_too_long_stay(
    make: Make, head: WorkerPaths, node: WorkerPaths
) -> None:
    out = leave(node, {"a\x1b[2Jb": b"1", "new\nline": b"1", "x" * 220: b"1"})
    (out / os.fsdecode(b"\xff\xfe")).write_bytes(b"1")
    (out / "\u202egpj.exe").write_bytes(b"1")
    results = make()
    results.left(SPEC)
    results.step()
    told = stayed(delivered(head))
    assert all(told.values())
    assert len(told) == 5
    assert all(name.isprintable() for name in told)
    assert not head.kept("out", NAME).exists()


def test_a_path_that_might_be_too_long_on_the_head_stays(
    make: Make, head: WorkerPaths, node: WorkerPaths
) -> None:
    out = leave(node, {"good": b"1"})
    parts, rest = divmod(4090 - len(os.fsencode(out)), 191)  # Linux opens paths of 4095 bytes
    deep = out / "/".join(["d" * 190] * parts) / ("f" * max(1, rest - 1))
    deep.parent.mkdir(parents=True)
    deep.write_bytes(b"1")
    results = make()
    results.left(SPEC)
    results.step()
    told = stayed(delivered(head))
    assert told.pop("good") == ""
    assert [*told.values()] == ["has too long a path"]


def test_a_folder_that_is_a_link_or_too_deep_is_not_looked_into(
    make: Make, head: WorkerPaths, node: WorkerPaths, tmp_path: Path
) -> None:
    (tmp_path / "elsewhere").mkdir()
    node.kept("out", NAME).symlink_to(tmp_path / "elsewhere")
    results = make()
    results.left(SPEC)
    results.step()
    assert delivered(head).problem.startswith(f"'{NAME}' is no folder")

    other = replace(SPEC, trial=TrialId("e5.1"))
    deep = node.kept("out", "e5.1-1") / "/".join("d" * 70)
    deep.mkdir(parents=True)
    results.left(other)
    results.step()
    assert "deeper than" in delivered(head, "e5.1-1").problem


def test_of_very_many_files_the_manifest_stays_small(
    make: Make, head: WorkerPaths, node: WorkerPaths
) -> None:
    leave(node, {f"f{number}": b"1" for number in range(MOST_LISTED + 7)})
    results = make()
    results.left(SPEC)
    results.step()
    found = delivered(head)
    assert (len(found.files), found.unlisted) == (MOST_LISTED, 7)
    assert not any(stayed(found).values())
