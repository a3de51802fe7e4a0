"""What the head takes of what nodes send, and where it puts it."""

import os
import time
from pathlib import Path

import pytest

from cluster.transport.manifest import Left, Manifest, Room
from cluster.transport.shelf import BROKEN_OFF_S, MOST_LOG_BYTES, Overtaken, Refused, Shelf
from trainer.paths import WorkerPaths

NAME = "e4.1-1"
TOKEN, LATER = "0123456789abcdef", "a" * 16


@pytest.fixture
def head(tmp_path: Path) -> WorkerPaths:
    (tmp_path / "head" / "logs").mkdir(parents=True)
    return WorkerPaths(study=tmp_path / "head", environments=tmp_path)


@pytest.fixture
def shelf(head: WorkerPaths) -> Shelf:
    return Shelf(head, Room(bytes=600, needed_bytes=400))


def told(**sizes: int) -> Manifest:
    files = tuple(Left(name=name, bytes=size) for name, size in sizes.items())
    return Manifest(node="n1", folder="/there", files=files)


def held(head: WorkerPaths) -> int:
    return sum(path.stat().st_size for path in head.study.rglob("*") if path.is_file())


@pytest.mark.parametrize("name", ["../x", "/etc/x", "a/../b", "a//b", "", ".", "a\0b", "a\nb"])
def test_no_name_leads_out_of_the_folder(name: str, shelf: Shelf, head: WorkerPaths) -> None:
    shelf.begin(NAME, TOKEN)
    with pytest.raises(Refused):
        shelf.put((NAME, TOKEN), f"out/{name}", 0, b"1")
    for other in ("../e4.1-1", ".", "", "e4.1"):
        with pytest.raises(Refused):
            shelf.begin(other, TOKEN)
    for token in ("", "..", "../../01234567"):
        with pytest.raises(Refused):
            shelf.begin(NAME, token)
    for log in ("../x.log", "x", ".log", "a/b.log"):
        with pytest.raises(Refused):
            shelf.append_log(log, 0, b"1")
    with pytest.raises(Refused):
        shelf.put((NAME, TOKEN), "logs/a", 0, b"1")


def test_no_node_fills_the_head_s_disk(shelf: Shelf) -> None:
    shelf.begin(NAME, TOKEN)
    shelf.put((NAME, TOKEN), "out/a", 0, b"1" * 900)
    with pytest.raises(Refused, match="more than 1000 bytes"):
        shelf.put((NAME, TOKEN), "out/b", 0, b"1" * 101)
    with pytest.raises(Refused):
        shelf.put_log("e4.1.log", b"1" * (MOST_LOG_BYTES + 1))
    assert shelf.append_log("e4.1.log", 0, b"1" * (MOST_LOG_BYTES + 1)) == 0


def age(path: Path) -> None:
    """Let a delivery have been broken off a while ago."""
    past = time.time() - BROKEN_OFF_S - 1
    for each in (*path.rglob("*"), path):
        os.utime(each, (past, past))


def test_what_nodes_that_are_gone_have_broken_off_goes(head: WorkerPaths) -> None:
    before = Shelf(head)
    for name in ("e1.1-1", "e2.1-1"):
        before.begin(name, TOKEN)
        before.put((name, TOKEN), "out/a/b", 0, b"1" * 900)
        age(head.returning(name))
    os.utime(head.returning("e2.1-1") / TOKEN / "out/a/b")  # it goes on
    trash = head.returning("trash")
    trash.mkdir()
    age(trash)
    shelf = Shelf(head)
    shelf.begin("e3.1-1", TOKEN)
    found = sorted(path.name for path in trash.parent.iterdir())
    assert found == ["e2.1-1", "e3.1-1", "trash"]
    with pytest.raises(Overtaken):
        shelf.put(("e1.1-1", TOKEN), "out/a/b", 900, b"1")
    shelf.put(("e2.1-1", TOKEN), "out/a/b", 900, b"1")


def test_it_is_not_looked_for_with_each_delivery(
    head: WorkerPaths, monkeypatch: pytest.MonkeyPatch
) -> None:
    shelf = Shelf(head)
    shelf.begin("e1.1-1", TOKEN)
    age(head.returning("e1.1-1"))
    shelf.begin("e2.1-1", TOKEN)
    assert head.returning("e1.1-1").is_dir()
    now = time.monotonic()
    monkeypatch.setattr(time, "monotonic", lambda: now + BROKEN_OFF_S + 1)
    shelf.begin("e3.1-1", TOKEN)
    assert not head.returning("e1.1-1").exists()


def test_a_node_that_begins_again_and_again_fills_no_disk_either(
    shelf: Shelf, head: WorkerPaths
) -> None:
    for number in range(5):
        shelf.begin(NAME, f"{number:08x}")
        shelf.put((NAME, f"{number:08x}"), "out/a", 0, b"1" * 900)
        assert held(head) == 900
    assert len(shelf._used) == 1


def test_of_several_deliveries_the_last_that_was_begun_counts(
    shelf: Shelf, head: WorkerPaths
) -> None:
    shelf.begin(NAME, TOKEN)
    shelf.put((NAME, TOKEN), "out/a", 0, b"old")
    shelf.begin(NAME, LATER)
    shelf.put((NAME, LATER), "out/a", 0, b"new")
    with pytest.raises(Overtaken):
        shelf.put((NAME, TOKEN), "out/a", 3, b"old")
    with pytest.raises(Overtaken):
        shelf.finish(NAME, TOKEN, told(a=3))
    shelf.finish(NAME, LATER, told(a=3))
    with pytest.raises(Overtaken):
        shelf.put((NAME, LATER), "out/a", 0, b"again")
    assert (head.kept("out", NAME) / "a").read_bytes() == b"new"
    assert not any((head.study / "returning").iterdir())


def test_only_what_is_whole_by_the_manifest_takes_its_place(
    shelf: Shelf, head: WorkerPaths
) -> None:
    shelf.begin(NAME, TOKEN)
    for name in ("whole", "cut", "stayed", "unnamed", "deep/cut"):
        shelf.put((NAME, TOKEN), f"out/{name}", 0, b"1234")
    shelf.put((NAME, TOKEN), "predictions/whole", 0, b"1234")
    stayed = Left(name="stayed", bytes=4, stayed="an error of the disk")
    files = (*told(whole=4, cut=5, **{"deep/cut": 5}).files, stayed)
    shelf.finish(NAME, TOKEN, Manifest(node="n1", folder="/there", files=files))
    out = head.kept("out", NAME)
    assert [path for path in out.rglob("*") if path.is_file()] == [out / "whole"]
    assert not head.kept("predictions", NAME).exists()


def test_a_log_is_written_through_no_link(shelf: Shelf, head: WorkerPaths, tmp_path: Path) -> None:
    (tmp_path / "precious").write_text("mine")
    (head.study / "logs" / "e4.1.log").symlink_to(tmp_path / "precious")
    with pytest.raises(Refused, match="symbolic"):
        shelf.append_log("e4.1.log", 0, b"theirs")
    shelf.put_log("e4.1.log", b"whole\n")
    assert (tmp_path / "precious").read_text() == "mine"
    assert (head.study / "logs" / "e4.1.log").read_text() == "whole\n"
