"""Whose compile caches are kept, what of them, and that nobody changes them afterwards."""

import os
import signal
import socket
import stat
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from trainer.compile_caches import CacheSeed
from trainer.paths import WorkerPaths
from trainer.ports import Slot
from trainer.removal import Trash
from trainer.run_folder import RunFolder
from trainer.run_records import Limits
from trainer.safe_read import SafeFolder
from trainer.trial import CommitId, SlotId
from trainer.trial_user import TRIAL_UID

BASE, CANDIDATE = CommitId("b" * 40), CommitId("c" * 40)
SLOT = Slot(id=SlotId("gpu-0"), incarnation="a", node="n1", device="d", device_class="NVIDIA H200")


@pytest.fixture
def paths(tmp_path: Path) -> WorkerPaths:
    (tmp_path / "study").mkdir()
    return WorkerPaths(study=tmp_path / "study", environments=tmp_path / "environments")


@pytest.fixture
def seed(paths: WorkerPaths) -> CacheSeed:
    return CacheSeed.of(SLOT, base=BASE, paths=paths, limits=Limits())


@pytest.fixture
def cache(tmp_path: Path) -> Path:
    """What a trial has left."""
    cache = tmp_path / "run" / "cache"
    (cache / "triton" / "AB").mkdir(parents=True)
    (cache / "triton" / "AB" / "kernel.so").write_bytes(os.urandom(3 << 20))
    (cache / "graph").write_text("pickle")
    return cache


def files(folder: Path) -> dict[str, bytes]:
    found = (path for path in folder.rglob("*") if not path.is_dir())
    return {os.fspath(path.relative_to(folder)): path.read_bytes() for path in found}


def names(seed: CacheSeed) -> set[str]:
    """What lies where seeds are, but for the lock."""
    return {each.name for each in seed.place.parent.iterdir() if each.suffix != ".lock"}


def test_what_the_baseline_has_left_is_kept_and_copied(
    seed: CacheSeed, cache: Path, tmp_path: Path
) -> None:
    assert seed.path() is None
    assert seed.keep(cache, BASE)
    assert seed.path() == seed.place
    assert files(seed.place) == files(cache)
    run, tree = RunFolder.at(tmp_path / "next"), tmp_path / "tree"
    tree.mkdir()
    run.fill(tree, owner=None, seed=seed.path())
    assert files(run.cache) == files(cache)


def test_nothing_of_a_candidate_is_kept(seed: CacheSeed, cache: Path) -> None:
    assert not seed.keep(cache, CANDIDATE)
    assert seed.path() is None
    assert seed.keep(cache, BASE)
    before = files(seed.place)
    (cache / "graph").write_text("poison")
    assert not seed.keep(cache, CANDIDATE)
    assert files(seed.place) == before


def test_the_first_that_is_kept_stays(seed: CacheSeed, cache: Path) -> None:
    seed.keep(cache, BASE)
    before = files(seed.place)
    (cache / "graph").write_text("another")
    assert not seed.keep(cache, BASE)
    assert files(seed.place) == before


def test_a_run_changes_its_copy_alone(seed: CacheSeed, cache: Path, tmp_path: Path) -> None:
    seed.keep(cache, BASE)
    before = files(seed.place)
    run, tree = RunFolder.at(tmp_path / "next"), tmp_path / "tree"
    tree.mkdir()
    trash = Trash(tmp_path / "trash")
    for _ in range(2):
        run.discard(trash)
        run.fill(tree, owner=None, seed=seed.path())
        assert files(run.cache) == before
        (run.cache / "graph").write_text("poison")
        (run.cache / "triton" / "AB" / "kernel.so").unlink()
        (run.cache / "planted").touch()
    assert files(seed.place) == before
    run.discard(trash)
    assert not run.cache.exists()


def test_nobody_else_may_write_to_it(seed: CacheSeed, cache: Path) -> None:
    if os.geteuid() == 0:
        for path in (cache, *cache.rglob("*")):
            os.chown(path, TRIAL_UID, TRIAL_UID)
    (cache / "graph").chmod(0o4777)
    (cache / "triton").chmod(0o777)
    assert seed.keep(cache, BASE)
    assert stat.S_IMODE(seed.place.parent.stat().st_mode) == 0o700
    for path in (seed.place, *seed.place.rglob("*")):
        found = path.stat()
        assert (found.st_uid, found.st_gid) == (os.geteuid(), os.getegid())
        assert not found.st_mode & (stat.S_ISUID | stat.S_IWOTH)


def test_plain_files_alone_are_kept(seed: CacheSeed, cache: Path, tmp_path: Path) -> None:
    wanted = files(cache)
    (tmp_path / "secret").write_text("secret")
    (cache / "link").symlink_to(tmp_path / "secret")
    (cache / "folder").symlink_to(tmp_path)
    (cache / "second").hardlink_to(tmp_path / "secret")
    (cache / "empty").mkdir()
    os.mkfifo(cache / "pipe")
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(os.path.relpath(cache / "socket"))
        assert seed.keep(cache, BASE)
    assert files(seed.place) == wanted
    assert not any(path.is_symlink() for path in seed.place.rglob("*"))
    assert (tmp_path / "secret").stat().st_nlink == 2


def link_in_its_place(cache: Path) -> None:
    cache.rename(cache.with_name("elsewhere"))
    cache.symlink_to("elsewhere")


def nothing_but_folders(cache: Path) -> None:
    (cache / "graph").unlink()
    (cache / "triton" / "AB" / "kernel.so").unlink()


def too_large(cache: Path) -> None:
    with (cache / "more").open("wb") as file:
        file.truncate(5 << 20)


def too_many(cache: Path) -> None:
    for number in range(20):
        (cache / str(number)).touch()


def too_deep(cache: Path) -> None:
    deep = cache
    for _ in range(70):
        deep /= "d"
        deep.mkdir()
    (deep / "file").touch()


def gone(cache: Path) -> None:
    cache.rename(cache.with_name("elsewhere"))


@pytest.mark.parametrize(
    "spoil", [link_in_its_place, nothing_but_folders, too_large, too_many, too_deep, gone]
)
def test_of_what_is_not_fit_no_seed_is_made(
    spoil: Callable[[Path], None], paths: WorkerPaths, cache: Path
) -> None:
    limits = Limits(disk_bytes=4 * (4 << 20), disk_files=4 * 10)
    seed = CacheSeed.of(SLOT, base=BASE, paths=paths, limits=limits)
    spoil(cache)
    assert not seed.keep(cache, BASE)
    assert names(seed) == set()


def test_what_is_just_small_enough_is_kept(paths: WorkerPaths, cache: Path) -> None:
    limits = Limits(disk_bytes=4 * (4 << 20), disk_files=4 * 10)
    assert CacheSeed.of(SLOT, base=BASE, paths=paths, limits=limits).keep(cache, BASE)


def test_a_full_disk_leaves_nothing_half_made(
    seed: CacheSeed, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    copied = []
    copy = SafeFolder.copy

    def fill_up(self: SafeFolder, name: str, target: Path, most_bytes: int) -> None:
        if copied:
            raise OSError(28, "No space left on device")
        copied.append(name)
        copy(self, name, target, most_bytes)

    monkeypatch.setattr(SafeFolder, "copy", fill_up)
    assert not seed.keep(cache, BASE)
    assert copied
    assert names(seed) == set()


def test_what_a_killed_worker_left_half_made_is_removed(
    seed: CacheSeed, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def die(self: SafeFolder, name: str, target: Path, most_bytes: int) -> None:
        target.write_text("half")
        os.kill(os.getpid(), signal.SIGKILL)

    if (worker := os.fork()) == 0:
        monkeypatch.setattr(SafeFolder, "copy", die)
        seed.keep(cache, BASE)
        os._exit(1)
    assert os.waitstatus_to_exitcode(os.waitpid(worker, 0)[1]) == -signal.SIGKILL
    assert names(seed) == {f"{seed.place.name}.unfinished"}
    assert seed.path() is None
    assert seed.keep(cache, BASE)
    assert files(seed.place) == files(cache)
    assert names(seed) == {seed.place.name}


def test_of_two_slots_that_end_at_once_one_makes_it(
    paths: WorkerPaths, cache: Path, tmp_path: Path
) -> None:
    for turn in range(10):
        seed = CacheSeed(base=BASE, place=tmp_path / f"caches{turn}" / "seed")
        with ThreadPoolExecutor(4) as slots:
            made = list(slots.map(lambda _, each=seed: each.keep(cache, BASE), range(4)))
        assert sorted(made) == [False, False, False, True]
        assert files(seed.place) == files(cache)
        assert names(seed) == {"seed"}


def test_nodes_and_device_classes_have_seeds_of_their_own(paths: WorkerPaths) -> None:
    kinds = [("n1", "cpu"), ("n2", "cpu"), ("n1", "NVIDIA H200"), ("n1", "NVIDIA H200 x0.5")]
    kinds += [("n1", "../.."), ("a_b", "c"), ("a", "b_c"), ("é", "/")]
    places = [paths.cache_seed(node, kind) for node, kind in kinds]
    assert len(set(places)) == len(kinds)
    assert {place.parent for place in places} == {paths.study / "caches"}
    assert not any(set("./") & set(place.name) for place in places)
