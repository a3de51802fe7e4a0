"""Two studies never book one device, whatever happens to the processes and the folder."""

import os
import signal
import stat
import subprocess
import sys
import tempfile
import textwrap
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from trainer.slot_lock import HeldBy, SlotLock, hold_any_cpu, lock_folder, try_hold

Hold = Callable[..., SlotLock | HeldBy]
UID = os.geteuid()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "locks"


@pytest.fixture
def hold(folder: Path) -> Iterator[Hold]:
    """Take a device; what is still held at the end of a test is released."""
    taken: list[SlotLock] = []

    def take(device: str, study: str, *, exclusive: bool = False) -> SlotLock | HeldBy:
        answer = try_hold(device, study, exclusive=exclusive, folder=folder)
        if isinstance(answer, SlotLock):
            taken.append(answer)
        return answer

    yield take
    for lock in taken:
        lock.release()


def test_another_study_is_refused_and_told_who_holds_the_device(hold: Hold) -> None:
    assert isinstance(hold("gpu-GPU-a", "mar5"), SlotLock)
    assert hold("gpu-GPU-a", "mar6") == HeldBy(study="mar5", pid=os.getpid())


def test_other_devices_are_free(hold: Hold) -> None:
    assert isinstance(hold("gpu-GPU-a", "mar5"), SlotLock)
    assert isinstance(hold("gpu-GPU-b", "mar6"), SlotLock)


def test_workers_of_one_study_share_a_card(hold: Hold) -> None:
    assert isinstance(hold("gpu-GPU-a", "mar5"), SlotLock)
    assert isinstance(hold("gpu-GPU-a", "mar5"), SlotLock)


@pytest.mark.parametrize(("first", "second"), [(True, True), (True, False), (False, True)])
def test_an_exclusive_device_is_not_shared_within_a_study(
    first: bool, second: bool, hold: Hold
) -> None:
    assert isinstance(hold("cpu-0", "mar5", exclusive=first), SlotLock)
    assert hold("cpu-0", "mar5", exclusive=second) == HeldBy(study="mar5", pid=os.getpid())


def test_a_shared_card_is_free_when_the_last_worker_has_gone(hold: Hold) -> None:
    first, second = hold("gpu-GPU-a", "mar5"), hold("gpu-GPU-a", "mar5")
    assert isinstance(first, SlotLock)
    assert isinstance(second, SlotLock)
    first.release()
    first.release()
    assert isinstance(hold("gpu-GPU-a", "mar6"), HeldBy)
    second.release()
    assert isinstance(hold("gpu-GPU-a", "mar6"), SlotLock)


def test_files_of_studies_that_are_gone_are_removed(hold: Hold, folder: Path) -> None:
    for number in range(3):
        lock = hold("cpu-0", f"study{number}")
        assert isinstance(lock, SlotLock)
        lock.release()
    assert isinstance(hold("cpu-0", "mar5"), SlotLock)
    assert [entry.name for entry in (folder / "cpu-0").iterdir()] == [f"{UID}-mar5"]


def test_cpu_slots_are_taken_in_order_until_none_is_left(folder: Path) -> None:
    taken = [hold_any_cpu(2, study, folder=folder) for study in ("mar5", "mar5", "mar6")]
    assert [lock.device for lock in taken[:2] if isinstance(lock, SlotLock)] == ["cpu-0", "cpu-1"]
    assert taken[2] == HeldBy(study="mar5", pid=os.getpid())
    for lock in taken[:2]:
        assert isinstance(lock, SlotLock)
        lock.release()


HOLDER = """
    import subprocess, sys
    from pathlib import Path
    from trainer.slot_lock import try_hold
    lock = try_hold("cpu-0", "mar5", exclusive=True, folder=Path(sys.argv[1]))
    child = subprocess.Popen(["sleep", "600"])
    print(child.pid, flush=True)
    input()
"""


def test_sigkill_frees_the_device_though_a_child_lives_on(folder: Path, hold: Hold) -> None:
    holder = subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(HOLDER), folder],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    with holder:
        assert holder.stdout is not None
        child = int(holder.stdout.readline())
        try:
            assert hold("cpu-0", "mar6") == HeldBy(study="mar5", pid=holder.pid)
            holder.kill()
            holder.wait()
            assert isinstance(hold("cpu-0", "mar6"), SlotLock)
        finally:
            os.kill(child, signal.SIGKILL)


def test_of_many_studies_at_once_one_gets_the_device(folder: Path) -> None:
    answers: list[SlotLock | HeldBy] = []
    start = threading.Barrier(8)

    def take(number: int) -> None:
        start.wait()
        answers.append(try_hold("cpu-0", f"study{number}", exclusive=True, folder=folder))

    threads = [threading.Thread(target=take, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    winners = [answer for answer in answers if isinstance(answer, SlotLock)]
    assert len(winners) == 1
    assert len(answers) == 8
    winners[0].release()


def test_odd_names_stay_within_the_folder(hold: Hold, folder: Path) -> None:
    assert isinstance(hold("../cpu-0", "../../mar 5/é"), SlotLock)
    assert hold("../cpu-0", "mar6") == HeldBy(study="../../mar 5/é", pid=os.getpid())
    assert [entry.name for entry in folder.parent.iterdir()] == ["locks"]


def test_all_users_may_lock_but_remove_only_their_own(hold: Hold, folder: Path) -> None:
    mask = os.umask(0o077)
    try:
        assert isinstance(hold("cpu-0", "mar5"), SlotLock)
    finally:
        os.umask(mask)
    for each in (folder, folder / "cpu-0"):
        assert stat.S_IMODE(each.stat().st_mode) == 0o1777


@pytest.mark.parametrize("plant", ["link", "hard link", "pipe", "folder"])
def test_what_was_planted_for_our_file_is_refused_and_not_written_to(
    plant: str, hold: Hold, folder: Path, tmp_path: Path
) -> None:
    precious = tmp_path / "precious"
    precious.write_text("kept")
    place = folder / "cpu-0" / f"{UID}-mar5"
    place.parent.mkdir(parents=True)
    match plant:
        case "link":
            place.symlink_to(precious)
        case "hard link":
            place.hardlink_to(precious)
        case "pipe":
            os.mkfifo(place)
        case _:
            place.mkdir()

    with pytest.raises(OSError, match=f"{UID}-mar5"):
        hold("cpu-0", "mar5")
    assert precious.read_text() == "kept"


@pytest.mark.parametrize("plant", ["link", "pipe", "folder"])
def test_what_was_planted_beside_it_holds_nothing(
    plant: str, hold: Hold, folder: Path, tmp_path: Path
) -> None:
    place = folder / "cpu-0" / "0-other"
    place.parent.mkdir(parents=True)
    match plant:
        case "link":
            place.symlink_to(tmp_path)
        case "pipe":
            os.mkfifo(place)
        case _:
            place.mkdir()
    assert isinstance(hold("cpu-0", "mar5"), SlotLock)


@pytest.mark.parametrize("which", ["locks", "locks/cpu-0"])
def test_a_link_for_a_folder_is_refused(which: str, hold: Hold, tmp_path: Path) -> None:
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    (tmp_path / which).parent.mkdir(exist_ok=True)
    (tmp_path / which).symlink_to(elsewhere, target_is_directory=True)
    with pytest.raises(OSError, match=which.rpartition("/")[2]):
        hold("cpu-0", "mar5")
    assert list(elsewhere.iterdir()) == []


SOMEBODY_ELSE = """
    import os, sys
    from pathlib import Path
    from trainer.slot_lock import try_hold
    if os.geteuid() == 0:
        os.setgroups([])
        os.setuid(65534)
    print(try_hold("cpu-0", "mar6", exclusive=True, folder=Path(sys.argv[1])))
"""


def test_a_lock_that_may_not_be_looked_at_is_held() -> None:
    with tempfile.TemporaryDirectory() as name:  # unlike tmp_path, within other users' reach
        Path(name).chmod(0o755)
        folder = Path(name, "locks")
        lock = try_hold("cpu-0", "mar5", exclusive=True, folder=folder)
        assert isinstance(lock, SlotLock)
        (folder / "cpu-0" / f"{UID}-mar5").chmod(0)
        command = [sys.executable, "-c", textwrap.dedent(SOMEBODY_ELSE), folder]
        environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
        answer = subprocess.run(command, env=environment, check=True, stdout=subprocess.PIPE)
        lock.release()
    assert answer.stdout.decode().strip() == "HeldBy(study='mar5', pid=None)"


def test_the_folder_is_that_of_the_environment_or_one_for_all(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.delenv("INCUMBENT_LOCK_DIR", raising=False)
    assert lock_folder() == Path("/tmp/incumbent-locks")
    monkeypatch.setenv("INCUMBENT_LOCK_DIR", "/run/locks")
    assert lock_folder() == Path("/run/locks")
