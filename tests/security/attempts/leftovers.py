"""Attempts to leave something on the machine, or for the slot's next trial."""

import ctypes
import os
from contextlib import suppress
from functools import partial
from pathlib import Path

from tests.security.attempt import Aftermath, Attempt, Category, Control
from trainer.removal import Trash, remove_tree
from trainer.run_folder import RunFolder

_attempt = partial(Attempt, category=Category.LEFTOVERS)


def left_in_shared_memory(aftermath: Aftermath) -> str:
    """Look for the file in the machine's /dev/shm."""
    path = Path("/dev/shm") / (aftermath.out / "mark").read_text()
    with suppress(FileNotFoundError):
        path.unlink()
        return str(path)
    return ""


def left_in_temporary_folder(aftermath: Aftermath) -> str:
    """Look for the file in the folder for temporary files that the worker uses."""
    name = (aftermath.out / "mark").read_text()
    for folder in (aftermath.world.folder.parent, Path("/tmp"), Path("/var/tmp")):
        with suppress(FileNotFoundError):
            (folder / name).unlink()
            return str(folder / name)
    return ""


def left_a_segment(aftermath: Aftermath) -> str:
    """Look for the System V segment among the machine's, and remove it."""
    key = int((aftermath.out / "mark").read_text())
    libc = ctypes.CDLL(None)
    segment = libc.shmget(key, 0, 0)
    if segment < 0:
        return ""
    libc.shmctl(segment, 0, None)
    return f"segment {segment}"


def left_a_message_queue(aftermath: Aftermath) -> str:
    """Try to remove the POSIX message queue: that works if there is one."""
    name = (aftermath.out / "mark").read_bytes()
    librt = ctypes.CDLL("librt.so.1")
    return "a message queue" if librt.mq_unlink(b"/" + name) == 0 else ""


def cannot_be_removed(aftermath: Aftermath) -> str:
    """Remove the run folder as the worker does, and as the same user."""
    child = os.fork()
    if child == 0:
        code = 1
        with suppress(OSError):
            os.setresuid(*[aftermath.world.uid] * 3)
            folder = aftermath.source.parent
            trash = Trash(folder / "trash")
            RunFolder.at(folder).discard(trash)
            trash.close()
            for rest in (folder / "trash").iterdir():  # no Python of ours can be had as that user
                remove_tree(rest)
            code = 0
        os._exit(code)
    code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    is_gone = not aftermath.out.exists() and not any((aftermath.source.parent / "trash").iterdir())
    return "" if code == 0 and is_gone else "it is still there"


def lies_too_deep(aftermath: Aftermath) -> str:
    """Go down into folders as a program cannot that knows them by their paths."""
    depth, folder = 0, os.open(aftermath.out, os.O_RDONLY)
    while names := os.listdir(folder):  # noqa: PTH208 - there is no path that is short enough
        inner = os.open(names[0], os.O_RDONLY, dir_fd=folder)
        os.close(folder)
        depth, folder = depth + 1, inner
    os.close(folder)
    return f"{depth} folders deep" if depth * len("deep/") > os.pathconf("/", "PC_PATH_MAX") else ""


_hard_to_remove = partial(_attempt, judge=cannot_be_removed, control=Control.CARELESS)
_MARK = """
mark = "incumbent-left-" + os.urandom(6).hex()
Path(out, "mark").write_text(mark)
"""
_LEAVE = "with open({path}, 'w') as file: file.write('for the next one')\n"
_LOOK = """
path = {path}
if not os.path.exists(path): stopped("nothing there")
os.unlink(path)
escaped("what the last one left")
"""


def _for_the_next(name: str, aim: str, path: str) -> Attempt:
    return _attempt(
        name=f"next_trial_finds_{name}",
        aim=f"to hand something to the slot's next trial, {aim}",
        script=_LEAVE.format(path=path),
        then=_LOOK.format(path=path),
    )


_OWN = "'incumbent-' + host['nekot'][:12]"
_CACHE = "os.environ['TRITON_CACHE_DIR']"

ATTEMPTS = (
    _attempt(
        name="shared_memory_file",
        aim="a file in /dev/shm",
        script=_MARK + "open('/dev/shm/' + mark, 'w').close()\n",
        judge=left_in_shared_memory,
    ),
    _attempt(
        name="temporary_file",
        aim="a file in the folder for temporary files",
        script=_MARK + "import tempfile\nopen(tempfile.gettempdir() + '/' + mark, 'w').close()\n",
        judge=left_in_temporary_folder,
    ),
    _attempt(
        name="shared_memory_segment",
        aim="a System V segment",
        script="""
key = int.from_bytes(os.urandom(3), "big") + 1
Path(out, "mark").write_text(str(key))
kernel("shmget", key, 4096, 0o1666)
""",
        judge=left_a_segment,
    ),
    _attempt(
        name="message_queue",
        aim="a POSIX message queue",
        script=_MARK
        + """
librt = ctypes.CDLL("librt.so.1", use_errno=True)
if librt.mq_open(b"/" + mark.encode(), os.O_CREAT | os.O_RDWR, 0o600, None) < 0:
    stopped(errno.errorcode[ctypes.get_errno()])
os.write(1, b"made\\n")
""",
        judge=left_a_message_queue,
    ),
    _for_the_next("a_temporary_file", "by /tmp", f"'/tmp/' + {_OWN}"),
    _for_the_next("a_file_in_shared_memory", "by /dev/shm", f"'/dev/shm/' + {_OWN}"),
    _for_the_next("a_file_in_the_home", "by $HOME", f"os.environ['HOME'] + '/' + {_OWN}"),
    _for_the_next(
        "a_file_beside_the_folder", "by the folder above", f"os.path.dirname(out) + '/../' + {_OWN}"
    ),
    _for_the_next("compiled_code", "by the compilers' caches", f"{_CACHE} + '/' + {_OWN}"),
    _attempt(
        name="next_trial_finds_poisoned_code",
        aim="to change compiled code with which every trial starts",
        script=f"with open({_CACHE} + '/kernel.so', 'w') as file: file.write('poison')\n",
        then=f"""
with open({_CACHE} + "/kernel.so", "r+") as file:
    if file.read() == "compiled\\n": stopped("as it was compiled")
    file.truncate(0)
    file.seek(0)
    file.write("compiled\\n")
escaped("what the last one left")
""",
    ),
    _hard_to_remove(
        name="deep_folders",
        aim="folders in folders, deeper than a path may be long",
        script="""
os.chdir(out)
for _ in range(1200):
    os.mkdir("deep")
    os.chdir("deep")
""",
        careless=lies_too_deep,
        why="the worker can remove them; the control sees that no path leads to the last one",
    ),
    _hard_to_remove(
        name="folders_without_permissions",
        aim="folders that nobody may enter",
        script="""
os.makedirs(out + "/a/b/c")
open(out + "/a/b/c/file", "w").close()
for name in ("/a/b/c", "/a/b", "/a", ""): os.chmod(out + name, 0)
os.chmod(".", 0)
""",
        careless=lambda aftermath: (
            "the mode is 0" if aftermath.out.stat().st_mode & 0o777 == 0 else ""
        ),
        why="the worker can remove them; the control sees that they are as they were left",
    ),
    _hard_to_remove(
        name="names_that_are_no_text",
        aim="names with line feeds, escapes and bytes that are not UTF-8",
        script="""
for name in (b"a\\nb", b"\\x1b[2J", b"\\xff\\xfe", b"-rf", b" "):
    os.mkdir(os.fsencode(out) + b"/" + name)
    open(os.fsencode(out) + b"/" + name + b"/file", "w").close()
""",
        careless=lambda aftermath: (
            "a name that is no text"
            if any(not each.name.isascii() for each in aftermath.out.iterdir())
            else ""
        ),
        why="the worker can remove them; the control sees that they are there",
    ),
)
