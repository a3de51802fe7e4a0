import os
import time

import pytest

from trainer.folder_use import FolderUse


@pytest.fixture
def folder(tmp_path):
    root = tmp_path / "src"
    root.mkdir()
    return root


def whole(*folders):
    found = FolderUse([os.fspath(each) for each in folders])
    assert found.look(60)
    return found


def test_files_folders_and_links_count_and_what_they_point_at_does_not(folder, tmp_path):
    (tmp_path / "elsewhere").mkdir()
    for n in range(9):
        (tmp_path / "elsewhere" / f"{n}").write_bytes(b"x" * 100_000)
    (folder / "a" / "b").mkdir(parents=True)
    (folder / "a" / "b" / "file").write_bytes(b"x" * 100_000)
    (folder / "link").symlink_to(tmp_path / "elsewhere")
    other = tmp_path / "out"
    other.mkdir()
    (other / "file").write_bytes(b"x" * 50_000)
    found = whole(folder, other, tmp_path / "missing")
    assert (found.files, found.hidden) == (5, "")
    assert 150_000 <= found.bytes < 190_000


def test_holes_take_nothing_and_a_second_name_takes_nothing_more(folder):
    with (folder / "sparse").open("wb") as file:
        file.truncate(1 << 30)
    (folder / "real").write_bytes(b"x" * 100_000)
    os.link(folder / "real", folder / "again")
    found = whole(folder)
    assert found.files == 3
    assert 100_000 <= found.bytes < 110_000


def test_a_pass_goes_on_where_the_last_look_ended(folder):
    for n in range(2000):
        (folder / f"{n}").touch()
    found = FolderUse([os.fspath(folder)])
    looks = 1
    while not found.look(0):
        looks += 1
    assert found.files == 2000
    assert looks > 10
    (folder / "new").touch()
    assert found.look(60)
    assert found.files == 2001, "the next pass starts anew"


def test_a_look_keeps_to_its_time(folder):
    """1,000 files or so take 4 ms; on a machine that is busy, more."""
    for n in range(5000):
        (folder / f"{n}").touch()
    found = FolderUse([os.fspath(folder)])
    took_s = []
    is_done = False
    while not is_done:
        began = time.thread_time()
        is_done = found.look(0.001)
        took_s.append(time.thread_time() - began)
    assert sorted(took_s)[len(took_s) // 2] < 0.005


def test_what_goes_away_meanwhile_is_no_error(folder):
    for n in range(300):
        (folder / f"d{n}").mkdir()
    found = FolderUse([os.fspath(folder)])
    assert not found.look(0)
    for n in range(300):
        (folder / f"d{n}").rmdir()
    assert found.look(60)
    assert found.hidden == ""


def test_a_folder_that_has_become_a_link_is_not_gone_through(folder, tmp_path):
    """As a trial does that would have us look where it cannot: it swaps them between two looks."""
    elsewhere = tmp_path / "elsewhere"
    (elsewhere / "below").mkdir(parents=True)
    for place in (elsewhere, elsewhere / "below"):
        for n in range(100):
            (place / f"{n}").touch()
    (folder / "a" / "below").mkdir(parents=True)
    (folder / "b" / "below").mkdir(parents=True)
    found = FolderUse([os.fspath(folder)])
    while found.files < 2:  # it has seen both to be folders
        assert not found.look(0)
    for name in ("a", "b"):
        (folder / name).rename(tmp_path / name)
        (folder / name).symlink_to(elsewhere)
    assert found.look(60)
    assert (found.files, found.hidden) == (2, "")


def test_a_folder_too_deep_to_be_named_is_noticed(folder):
    deep = folder
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        for _ in range(30):
            os.mkdir("d" * 200, dir_fd=descriptor)
            below = os.open("d" * 200, os.O_RDONLY, dir_fd=descriptor)
            os.close(descriptor)
            descriptor = below
    finally:
        os.close(descriptor)
    assert "too long" in whole(deep).hidden


@pytest.mark.skipif(os.geteuid() == 0, reason="nothing is hidden from root")
def test_a_folder_that_may_not_be_looked_into_is_noticed(folder):
    (folder / "hidden").mkdir(mode=0)
    assert whole(folder).hidden == "Permission denied"


def test_a_file_that_lost_its_name_counts_once_while_it_is_open(folder):
    with (folder / "file").open("wb") as file, (folder / "file").open("rb"):
        file.write(b"x" * 100_000)
        file.flush()
        (folder / "file").unlink()
        found = FolderUse([os.fspath(folder)], lambda: [os.getpid(), 2**22 + 1])
        assert found.look(60)
        assert 100_000 <= found.bytes < 120_000
    assert found.look(60)
    assert found.bytes == 0
