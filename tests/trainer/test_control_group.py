"""Version 1 for real where there is one; version 2 on folders that look like its file system.

No machine of this project has version 2 with controllers: what a kernel of that kind does with
what is written there, `FakeKernel` says.
"""

import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from trainer import control_group
from trainer.control_group import (
    ControlGroup,
    ControlGroups,
    NoControlGroups,
    Place,
    find_place,
    memory_ceiling,
)
from trainer.run_records import Enforcement, Limits

LIMITS = Limits(memory_bytes=200_000_000, pids=64)
BOTH = "memory pids"
USER = "user.slice/user-1000.slice/user@1000.service/app.slice/run.scope"
REAL_V2 = Path("/sys/fs/cgroup/unified")


FILES = {
    "cgroup.procs": "",
    "cgroup.controllers": "cpu memory pids",
    "cgroup.subtree_control": "",
    "memory.max": "max",
    "memory.swap.max": "max",
    "memory.oom.group": "0",
    "memory.stat": "anon 1000\nfile 5000\nshmem 300\n",
    "memory.events": "low 0\nhigh 0\nmax 9\noom 0\noom_kill 0\n",
    "pids.max": "max",
    "pids.events": "max 0\n",
    "cgroup.kill": "",
}
"""What a new group has."""


class FakeKernel:
    """A version 2 hierarchy in a folder, and the process that asks about it."""

    def __init__(self, folder: Path, own: str, *, mounted_at_own: bool = False) -> None:
        self.files = dict(FILES)
        self.top = folder / "cgroup"
        self.own = self.top if mounted_at_own else self.top / own
        root = f"/{own}" if mounted_at_own else "/"
        self.process = folder / "self"
        self.process.mkdir()
        (self.process / "cgroup").write_text(f"0::/{own}\n")
        (self.process / "mountinfo").write_text(
            f"9 1 0:9 / / rw - ext4 /dev/sda rw\n"
            f"30 9 0:26 {root} {self.top} rw,nosuid - cgroup2 cgroup2 rw,nsdelegate\n"
        )
        for group in reversed([self.own, *self.own.parents]):
            if group.is_relative_to(self.top):
                self.make(group)

    def make(self, group: Path) -> None:
        os.makedirs(group, exist_ok=True)  # noqa: PTH103 - Path.mkdir is what calls this
        for name, text in self.files.items():
            (group / name).write_text(text)

    def hand_on(self, group: Path) -> None:
        (group / "cgroup.subtree_control").write_text(BOTH)

    def find(self) -> Place:
        return find_place(self.process)

    @staticmethod
    def remove(group: Path) -> None:
        if not group.exists():
            raise FileNotFoundError
        shutil.rmtree(group)


@pytest.fixture
def user(tmp_path):
    return FakeKernel(tmp_path, USER)


@pytest.fixture
def kernel(user, monkeypatch):
    """The same, and making a folder makes a group."""
    monkeypatch.setattr(control_group.Path, "mkdir", lambda group, **_: user.make(group))
    monkeypatch.setattr(control_group.Path, "rmdir", user.remove)
    return user


def read(group, name):
    return (group.folders[0] / name).read_text().strip()


# Where groups can be made


def test_a_group_that_hands_its_controllers_on_gets_groups_beside_ours(user):
    user.hand_on(user.own.parent)
    user.hand_on(user.top)
    place = user.find()
    assert place == Place(
        enforcement=Enforcement.CGROUP_V2, memory=user.own.parent, pids=user.own.parent
    )
    assert place.folders == (user.own.parent,)


def test_a_delegated_group_is_divided(user, monkeypatch):
    user.hand_on(user.own.parent)
    delegated = {(os.fspath(user.own), "user.delegate"): b"1"}
    monkeypatch.setattr(os, "getxattr", lambda path, name: delegated[os.fspath(path), name])
    monkeypatch.setattr(control_group, "_DELEGATED", ("user.delegate",))
    place = user.find()
    assert (place.memory, place.must_split) == (user.own, True)
    user.hand_on(user.own)
    assert user.find().must_split is False


def test_the_own_group_of_a_container_is_divided(tmp_path):
    container = FakeKernel(tmp_path, "docker/abc", mounted_at_own=True)
    place = container.find()
    assert (place.memory, place.must_split) == (container.top, True)


def test_without_a_group_above_that_hands_them_on_there_are_none(user):
    with pytest.raises(NoControlGroups, match="is not delegated to this user"):
        user.find()


def test_without_the_controllers_there_are_none(user):
    (user.own / "cgroup.controllers").write_text("cpu pids")
    with pytest.raises(NoControlGroups, match="no controllers for memory"):
        user.find()


def test_a_group_of_which_the_mount_shows_nothing_is_no_place(user):
    (user.process / "cgroup").write_text("0::/elsewhere\n")
    mounts = user.process / "mountinfo"
    mounts.write_text(mounts.read_text().replace("0:26 / ", "0:26 /docker "))
    with pytest.raises(NoControlGroups, match="nowhere to be seen"):
        user.find()


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_group_that_is_another_users_is_no_place(user):
    user.hand_on(user.own.parent)
    user.own.parent.chmod(0o555)
    with pytest.raises(NoControlGroups, match="not delegated"):
        user.find()


def test_a_kernel_without_control_groups_is_told(tmp_path):
    with pytest.raises(NoControlGroups, match="the kernel tells of none"):
        find_place(tmp_path)
    (tmp_path / "cgroup").write_text("1:cpu:/\n")
    (tmp_path / "mountinfo").write_text("")
    with pytest.raises(NoControlGroups, match="no control groups for memory"):
        find_place(tmp_path)


def test_in_version_1_each_controller_has_its_own_hierarchy(tmp_path):
    for name in ("memory/task", "pids"):
        (tmp_path / name).mkdir(parents=True)
    (tmp_path / "cgroup").write_text("8:pids:/\n4:cpu,memory:/task\n0::/\n")
    (tmp_path / "mountinfo").write_text(
        f"35 31 0:32 / {tmp_path}/memory rw - cgroup cgroup rw,cpu,memory\n"
        f"39 31 0:36 / {tmp_path}/pids rw - cgroup cgroup rw,pids\n"
        f"41 31 0:38 / {tmp_path}/unified rw - cgroup2 cgroup2 rw\n"
    )
    place = find_place(tmp_path)
    assert place.enforcement is Enforcement.CGROUP_V1
    assert place.folders == (tmp_path / "memory/task", tmp_path / "pids")


def test_the_ceiling_is_the_lowest_of_all_groups_above(user):
    assert memory_ceiling(user.process) is None
    (user.own / "memory.max").write_text("9000\n")
    (user.own.parent.parent / "memory.max").write_text("5000\n")
    assert memory_ceiling(user.process) == 5000


def test_without_groups_there_is_no_ceiling(tmp_path):
    assert memory_ceiling(tmp_path) is None


# A group of version 2


@pytest.fixture
def groups(kernel):
    kernel.hand_on(kernel.own.parent)
    return ControlGroups(kernel.find(), "study/cpu-0")


def test_a_group_gets_its_limits_and_no_swap_and_dies_as_a_whole(groups):
    group = groups.make(LIMITS)
    written = {
        name: read(group, name)
        for name in ("memory.max", "memory.swap.max", "memory.oom.group", "pids.max")
    }
    assert written == {
        "memory.max": "200000000",
        "memory.swap.max": "0",
        "memory.oom.group": "1",
        "pids.max": "64",
    }
    group.enter()
    assert read(group, "cgroup.procs") == "0"
    group.kill()
    assert read(group, "cgroup.kill") == "1"


def test_a_kernel_without_swap_is_fine(kernel, groups):
    del kernel.files["memory.swap.max"]
    assert read(groups.make(LIMITS), "memory.max") == "200000000"


def test_without_a_limit_nothing_is_written(groups):
    group = groups.make(Limits())
    assert (read(group, "memory.max"), read(group, "pids.max")) == ("max", "max")


def test_what_was_hit_is_read_off_the_events(groups):
    group = groups.make(LIMITS)
    events = group.folders[0] / "memory.events"
    assert group.memory_bytes() == 1300
    assert not group.is_over_memory()
    events.write_text("oom 0\noom_kill 1\n")
    assert not group.is_over_memory(), "the machine ran out of memory, not the group"
    events.write_text("oom 2\noom_kill 1\n")
    assert group.is_over_memory()
    assert not group.is_over_pids()
    (group.folders[0] / "pids.events").write_text("max 3\n")
    assert group.is_over_pids()


def test_a_group_that_gets_no_limits_is_taken_back(kernel, groups):
    del kernel.files["memory.max"]
    with pytest.raises(FileNotFoundError):
        groups.make(LIMITS)
    assert not list(kernel.own.parent.glob("incumbent.*"))


def test_a_group_that_is_divided_gives_its_processes_to_one_below(kernel):
    kernel.hand_on(kernel.own.parent)
    (kernel.own / "cgroup.procs").write_text("4711\n")
    place = Place(
        enforcement=Enforcement.CGROUP_V2, memory=kernel.own, pids=kernel.own, must_split=True
    )
    ControlGroups(place, "study/cpu-0")
    assert (kernel.own / "incumbent-main" / "cgroup.procs").read_text() == "4711"
    assert (kernel.own / "cgroup.subtree_control").read_text() == "+memory +pids"


# What is left behind


HERE = Path("/proc/self/ns/pid").stat().st_ino


def owner(process):
    start = Path(f"/proc/{process.pid}/stat").read_text().rpartition(")")[2].split()[19]
    return f"{HERE}-{process.pid}-{start}"


def test_groups_of_dead_supervisors_of_the_same_slot_are_removed_and_no_others(kernel):
    folder = kernel.own.parent
    kernel.hand_on(folder)
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as other:
        dead = folder / f"incumbent.study%2fcpu-0.{HERE}-999999999-5.3"
        old = folder / "incumbent.study%2fcpu-0.999999999-5.3"
        recycled = folder / f"incumbent.study%2fcpu-0.{HERE}-{other.pid}-5.1"
        elsewhere = folder / f"incumbent.study%2fcpu-0.{HERE + 1}-999999999-5.3"
        alive = folder / f"incumbent.study%2fcpu-0.{owner(other)}.1"
        neighbour = folder / "incumbent.study%2fcpu-01.999999999-5.3"
        stranger = folder / "incumbent-main"
        for group in (dead, old, recycled, elsewhere, alive, neighbour, stranger):
            kernel.make(group)
        groups = ControlGroups(kernel.find(), "study/cpu-0")
        assert (dead / "cgroup.kill").read_text() == "1"
        groups.bury()
        left = set(folder.glob("incumbent*"))
        other.communicate(b"\n")
    assert left == {alive, elsewhere, neighbour, stranger}


# For real


def real_place():
    try:
        place = find_place()
    except NoControlGroups:
        return None
    return None if place.must_split else place


@pytest.fixture
def real():
    place = real_place()
    if place is None:
        pytest.skip("no control groups can be made here")
    groups = ControlGroups(place, f"test/{os.getpid()}")
    yield groups
    groups.bury(patience_s=5)
    assert not [each for folder in place.folders for each in folder.glob(f"*test%2f{os.getpid()}*")]


def enter(group: ControlGroup, then: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-ISc", then],
        preexec_fn=group.enter,  # noqa: PLW1509 - no other thread runs here
        stdout=subprocess.PIPE,
        text=True,
    )


def test_a_real_group_holds_its_members_and_is_killed_as_a_whole(real):
    group = real.make(LIMITS)
    code = "import os, time\nos.fork()\nprint(os.getpid(), flush=True)\ntime.sleep(99)"
    with enter(group, code) as process:
        found = {int(process.stdout.readline()) for _ in range(2)}
        for folder in group.folders:
            assert {int(each) for each in (folder / "cgroup.procs").read_text().split()} == found
        assert group.memory_bytes() > 1_000_000
        assert not group.is_over_memory()
        assert not group.is_over_pids()
        group.kill()
        assert process.wait() == -signal.SIGKILL
    real.retire(group)


def test_a_real_group_of_a_dead_supervisor_is_killed_and_removed(real):
    group = real.make(LIMITS)
    with enter(group, "import time; print('up', flush=True); time.sleep(99)") as process:
        assert process.stdout.readline() == "up\n"
        dead = [folder.rename(folder.with_name(_of_the_dead(folder))) for folder in group.folders]
        ControlGroups(real_place(), f"test/{os.getpid()}").bury(patience_s=5)
        assert process.wait() == -signal.SIGKILL
    until_gone(dead)


def _of_the_dead(folder: Path) -> str:
    slot, number = folder.name.split(".")[1], folder.name.split(".")[-1]
    return f"incumbent.{slot}.999999999-5.{number}"


def until_gone(folders):
    give_up_at = time.monotonic() + 5
    while any(folder.exists() for folder in folders):
        assert time.monotonic() < give_up_at
        time.sleep(0.01)


@pytest.mark.skipif(
    not os.access(REAL_V2, os.W_OK), reason="no version 2 hierarchy to write to here"
)
def test_entering_killing_and_removing_work_on_a_real_hierarchy_of_version_2():
    folder = REAL_V2 / f"incumbent-test-{os.getpid()}"
    folder.mkdir()
    try:
        group = ControlGroup(Enforcement.CGROUP_V2, folder, folder)
        with enter(group, "import time; print('up', flush=True); time.sleep(99)") as process:
            assert process.stdout.readline() == "up\n"
            assert (folder / "cgroup.procs").read_text() == f"{process.pid}\n"
            group.kill()
            assert process.wait() == -signal.SIGKILL
    finally:
        give_up_at = time.monotonic() + 5
        while not group.remove() and time.monotonic() < give_up_at:
            time.sleep(0.01)
    assert not folder.exists()
