"""Attempts to write anything but a trial's own output, or to give that output powers."""

import stat
from functools import partial

from tests.security.attempt import Aftermath, Attempt, Category

_attempt = partial(Attempt, category=Category.FILES)
_MOUNT = "MS_BIND, MS_REMOUNT, MS_REC, MS_PRIVATE = 4096, 32, 16384, 1 << 18\n"


def has_set_id_bits(aftermath: Aftermath) -> str:
    """Look for files that lend their owner's rights to whoever starts them."""
    for path in sorted([*aftermath.out.rglob("*"), *aftermath.source.rglob("*")]):
        mode = path.lstat().st_mode
        if stat.S_ISREG(mode) and mode & (stat.S_ISUID | stat.S_ISGID):
            return f"{path.name} has mode {mode & 0o7777:o}"
    return ""


def has_device(aftermath: Aftermath) -> str:
    """Look for device nodes."""
    for path in aftermath.out.rglob("*"):
        if stat.S_ISCHR(path.lstat().st_mode) or stat.S_ISBLK(path.lstat().st_mode):
            return f"{path.name} is a device"
    return ""


def changed_world(aftermath: Aftermath) -> str:
    """Compare the world with what it was, and mend it."""
    changed = aftermath.world.has_changed()
    if changed:
        aftermath.world.fill()
    return changed


_changes = partial(_attempt, judge=changed_world)

ATTEMPTS = (
    _changes(
        name="shell_start_file",
        aim="to add a line to the user's ~/.bashrc",
        script="with open(host['home'] + '/.bashrc', 'a') as file: file.write('echo gotcha')\n",
    ),
    _changes(
        name="labels_overwritten",
        aim="to write labels that fit the predictions",
        script="with open(host['labels'], 'w') as file: file.write('{}')\n",
    ),
    _changes(
        name="through_a_symbolic_link",
        aim="to write over a file by a link in its own output",
        script="os.symlink(host['labels'], out + '/link')\n"
        "with open(out + '/link', 'w') as file: file.write('{}')\n",
    ),
    _attempt(
        name="hard_link_into_out",
        aim="to have a file of the host among its output, by a hard link",
        script="os.link(host['labels'], out + '/labels')\nescaped('linked')\n",
    ),
    _attempt(
        name="hard_link_out_of_out",
        aim="to have its output somewhere else too, by a hard link",
        script="""
open(out + "/file", "w").close()
os.link(out + "/file", host["folder"] + "/planted")
os.unlink(host["folder"] + "/planted")
escaped("linked")
""",
    ),
    _attempt(
        name="link_between_its_own_folders",
        aim="to link what is to be thrown away to what is kept, past the disk limit",
        script="os.link('train.py', out + '/train.py')\nescaped('linked')\n",
    ),
    _attempt(
        name="mode_of_a_foreign_file",
        aim="to change a file's permissions",
        script="os.chmod(host['labels'], 0o644)\nescaped('changed')\n",
    ),
    _attempt(
        name="program_behind_process_1",
        aim="to change the program file behind the first process it sees, as CVE-2019-5736 did",
        script="""
def change(pid):
    program = f"/proc/{pid}/exe"
    if os.stat(program).st_ino == os.stat("/proc/self/exe").st_ino:
        return None
    mode = os.stat(program).st_mode & 0o777
    os.chmod(program, mode)  # what it has already; chmod 0 would go the same way
    return f"may change {os.readlink(program)}"
any_of(sorted({1, os.getppid(), host["victim"], *processes()}), change)
""",
        capability="CAP_FOWNER",
    ),
    _attempt(
        name="files_behind_descriptors",
        aim="to change the files behind its input, output and errors",
        script="""
for number in (0, 1, 2):
    at = f"/proc/self/fd/{number}"
    if os.path.exists(at) and not os.readlink(at).startswith("pipe:"):
        os.chmod(at, os.stat(at).st_mode & 0o777)
        escaped(os.readlink(at))
stopped("pipes")
""",
        capability="CAP_FOWNER",
    ),
    _attempt(
        name="read_only_file_reopened",
        aim="to open for writing, by /proc/self/fd, what it was given to read",
        script="""
file = os.open(host["data"], os.O_RDONLY)
os.open(f"/proc/self/fd/{file}", os.O_WRONLY)
escaped("open for writing")
""",
    ),
    _changes(
        name="training_data",
        aim="to spoil the training data of all that follow",
        script="with open(host['data'], 'a') as file: file.write('noise')\n",
    ),
    _changes(
        name="seed_of_compile_caches",
        aim="to put code of its own among the compiled code of which all that follow get a copy",
        script="with open(host['seed'] + '/triton/kernel.so', 'w') as file: file.write('poison')\n",
    ),
    _attempt(
        name="own_log",
        aim="to replace its log by a link, over which the next trial's would be written",
        script="""
os.rename(os.path.dirname(host["out"]) + "/log", os.path.dirname(host["out"]) + "/log-moved")
os.rename(os.path.dirname(host["out"]) + "/log-moved", os.path.dirname(host["out"]) + "/log")
escaped("moved, and moved back")
""",
    ),
    _attempt(
        name="system_files",
        aim="to write below /etc and /usr",
        script="""
def append(path):
    os.open(path, os.O_WRONLY | os.O_APPEND)
    return path
any_of(("/etc/passwd", "/etc/hosts", "/etc/ld.so.cache", "/usr/bin/python3"), append)
""",
        capability="CAP_DAC_OVERRIDE",
    ),
    _attempt(
        name="roots_own_folder",
        aim="to make a file in / or in /dev, which a sandbox keeps in memory",
        script="""
def create(path):
    os.close(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL))
    os.unlink(path)
    return path
any_of(("/incumbent-attempt", "/dev/incumbent-attempt"), create)
""",
        capability="CAP_DAC_OVERRIDE",
    ),
    _attempt(
        name="mount_points_moved",
        aim="to rename the folders it runs and writes in",
        script="""
def move(path):
    os.rename(path, path + "-moved")
    os.rename(path + "-moved", path)
    return path
any_of((os.getcwd(), out), move)
""",
    ),
    *(
        _attempt(
            name=f"set_id_bits_by_{name}",
            aim=f"to leave a program with its owner's rights, by {name}",
            script="import shutil\nshutil.copy('/bin/true', out + '/shell')\n" + script,
            judge=has_set_id_bits,
            absent=frozenset({"ENOSYS"}),
        )
        for name, script in {
            "chmod": "os.chmod(out + '/shell', 0o4755)\n",
            "fchmod": "os.fchmod(os.open(out + '/shell', os.O_RDONLY), 0o6755)\n",
            "fchmodat2": "kernel('fchmodat2', -100, (out + '/shell').encode(), 0o4755, 0)\n",
            "open": "os.open(out + '/other', os.O_CREAT | os.O_WRONLY, 0o4755)\n",
            "openat2": """
import struct
how = struct.pack("QQQ", os.O_CREAT | os.O_WRONLY, 0o4755, 0)
kernel("openat2", -100, (out + "/other").encode(), how, len(how))
""",
            "mknod": "os.mknod(out + '/other', 0o104755)\n",
            "set_group_id_folder": """
os.mkdir(out + "/folder")
os.chmod(out + "/folder", 0o2755)
os.close(os.open(out + "/folder/other", os.O_CREAT | os.O_WRONLY, 0o2755))
""",
        }.items()
    ),
    _attempt(
        name="file_capabilities",
        aim="to leave a program with capabilities",
        script="""
import shutil, struct
shutil.copy("/bin/true", out + "/shell")
CAP_SYS_ADMIN = 1 << 21
value = struct.pack("<IIIII", 0x02000001, CAP_SYS_ADMIN, 0, 0, 0)
os.setxattr(out + "/shell", "security.capability", value)
escaped("a capability")
""",
        capability="CAP_SETFCAP",
        absent=frozenset({"EOPNOTSUPP"}),
    ),
    _attempt(
        name="device_node",
        aim="to make the node of a device",
        script="os.mknod(out + '/memory', 0o20666, os.makedev(1, 1))\n",
        judge=has_device,
        capability="CAP_MKNOD",
    ),
    _attempt(
        name="devices_at_hand",
        aim="a device that gives access to memory, disks or the machine",
        script="""
wanted = {"mem", "kmem", "port", "kmsg", "kvm", "fuse", "loop-control", "tun", "mapper", "snapshot",
          "uinput", "vhost-net", "vhost-vsock", "userfaultfd", "autofs", "btrfs-control", "cuse"}
for folder, _, names in os.walk("/dev"):
    for name in names:
        path = os.path.join(folder, name)
        is_block = os.stat(path).st_mode & 0o170000 == 0o060000 if os.path.exists(path) else False
        if name in wanted or is_block:
            try:
                os.open(path, os.O_RDONLY | os.O_NONBLOCK)
                escaped(path)
            except OSError:
                pass
stopped("none")
""",
        capability="CAP_SYS_RAWIO",
        absent=frozenset({"none"}),
    ),
    _attempt(
        name="remount_writable",
        aim="to make a read-only folder writable",
        script=_MOUNT
        + """
try:
    os.open("/usr", os.O_TMPFILE | os.O_WRONLY)
    escaped("/usr is writable")
except OSError:
    pass
kernel("mount", None, b"/usr", None, MS_BIND | MS_REMOUNT, None)
escaped("remounted")
""",
        capability="CAP_DAC_OVERRIDE",
    ),
    _attempt(
        name="mount_over",
        aim="to mount a file system of its own",
        script="""
os.mkdir(out + "/m")
kernel("mount", b"none", (out + "/m").encode(), b"tmpfs", 0, None)
kernel("umount2", (out + "/m").encode(), 0)
escaped("mounted")
""",
        capability="CAP_SYS_ADMIN",
    ),
    _attempt(
        name="unmount_a_cover",
        aim="to take away what hides a folder",
        script="""
MNT_EXPIRE = 4  # the first such call only marks the mount
paths = ("/proc/sys", os.getcwd(), out)
any_of(paths, lambda path: reach("umount2", path.encode(), MNT_EXPIRE))
""",
        capability="CAP_SYS_ADMIN",
    ),
    _attempt(
        name="new_mount_interface",
        aim="to clone, make or change mounts by the newer system calls",
        script="""
calls = (
    ("fsopen", b"tmpfs", 0),
    ("open_tree", -100, b"/", 1),
    ("mount_setattr", -100, b"/", 0, bytes(32), 32),
)
any_of(calls, lambda call: f"{call[0]} returned {kernel(*call)}")
""",
        capability="CAP_SYS_ADMIN",
    ),
    _attempt(
        name="change_root",
        aim="to change its root folder, the first step out of one",
        script="os.chroot('.')\nescaped('a root of its own')\n",
        capability="CAP_SYS_CHROOT",
    ),
    _attempt(
        name="immutable_output",
        aim="to leave output that nobody can remove",
        script="""
import fcntl
FS_IOC_GETFLAGS, FS_IOC_SETFLAGS, IMMUTABLE = 0x80086601, 0x40086602, 0x10
file = os.open(out + "/stone", os.O_CREAT | os.O_RDWR)
flags = int.from_bytes(fcntl.ioctl(file, FS_IOC_GETFLAGS, bytes(8))[:4], "little")
fcntl.ioctl(file, FS_IOC_SETFLAGS, (flags | IMMUTABLE).to_bytes(8, "little"))
fcntl.ioctl(file, FS_IOC_SETFLAGS, flags.to_bytes(8, "little"))
escaped("set, and taken back")
""",
        capability="CAP_LINUX_IMMUTABLE",
        absent=frozenset({"ENOTTY", "EOPNOTSUPP"}),
    ),
)
