"""Attempts to use up what others need. Each one is bounded, so that it can be run bare.

Having got what it wanted, it holds it for `hold_s` seconds: limits that are kept by looking now and
then must have had time to look.
"""

from functools import partial

from tests.security.attempt import Aftermath, Attempt, Category, Control
from trainer.log_capture import HEAD_BYTES, TAIL_BYTES

_attempt = partial(Attempt, category=Category.EXHAUSTION)
_MEMORY_MB, _DISK_MB, _FILES, _PIDS = 96, 24, 1000, 48


def got_it_all(aftermath: Aftermath) -> str:
    """See whether it got as much as it wanted; one that was killed or refused did not."""
    return aftermath.said("ESCAPED") or ""


def flooded(aftermath: Aftermath) -> str:
    """See whether the log has become as long as the output was."""
    size = aftermath.log.stat().st_size
    return f"a log of {size} bytes" if size > HEAD_BYTES + TAIL_BYTES + 100 else ""


_memory = partial(_attempt, judge=got_it_all, memory_mb=_MEMORY_MB)
_disk = partial(_attempt, judge=got_it_all, disk_mb=_DISK_MB, files=_FILES)

_HOLD = "import time\ntime.sleep(host['hold_s'])\nescaped('all of it')\n"
_FILL = """
def fill(folder, megabytes=4 * 24):
    chunk = bytes(1 << 20)
    with open(folder + "/bomb", "wb", 0) as file:
        for _ in range(megabytes): file.write(chunk)
"""

ATTEMPTS = (
    _memory(
        name="memory_heap",
        aim="memory, as a mistake in a model takes it",
        script="held = [b'x' * (1 << 20) for _ in range(300)]\n" + _HOLD,
    ),
    _memory(
        name="memory_shared",
        aim="shared memory, which no limit on the heap counts",
        script="import mmap\nheld = mmap.mmap(-1, 300 << 20)\n"
        "for at in range(0, 300 << 20, 4096): held[at] = 1\n" + _HOLD,
    ),
    _memory(
        name="memory_of_children",
        aim="a little memory in each of many processes",
        script="""
import time
for _ in range(8):
    if os.fork() == 0:
        held = b"x" * (40 << 20)
        time.sleep(5)
        os._exit(0)
"""
        + _HOLD,
    ),
    _memory(
        name="memory_file",
        aim="a file in memory that is mapped nowhere, which no count of resident memory shows",
        script="""
file = os.memfd_create("bomb")
for _ in range(300): os.write(file, bytes(1 << 20))
"""
        + _HOLD,
    ),
    _memory(
        name="memory_segments",
        aim="System V shared memory that nobody has attached",
        script="""
libc.shmat.restype = ctypes.c_void_p
numbers = []
for _ in range(30):
    numbers.append(kernel("shmget", 0, 10 << 20, 0o1600))
    at = libc.shmat(ctypes.c_int(numbers[-1]), None, 0)
    ctypes.memset(at, 1, 10 << 20)
    libc.shmdt(ctypes.c_void_p(at))
import time
time.sleep(host["hold_s"])
for number in numbers: libc.shmctl(number, 0, None)
escaped("all of it")
""",
    ),
    _memory(
        name="memory_of_semaphores",
        aim="the kernel's memory, by System V semaphores",
        script="""
import time
sets = []
try:
    for _ in range(150):
        sets.append(libc.semget(0, 32000, 0o1600))
        if sets[-1] < 0: stopped(errno.errorcode[ctypes.get_errno()])
    time.sleep(host["hold_s"])
finally:
    for number in sets: libc.semctl(number, 0, 0)
escaped("all of it")
""",
        absent=frozenset({"ENOSPC"}),
    ),
    _memory(
        name="memory_of_messages",
        aim="the kernel's memory, by System V messages that nobody takes",
        script="""
import time
queues, message = [], bytes([1]) + bytes(8007)
IPC_NOWAIT = 0o4000
try:
    for _ in range(8000):
        queues.append(libc.msgget(0, 0o1600))
        if queues[-1] < 0: stopped(errno.errorcode[ctypes.get_errno()])
        while libc.msgsnd(queues[-1], message, 8000, IPC_NOWAIT) == 0: pass
    time.sleep(host["hold_s"])
finally:
    for number in queues: libc.msgctl(number, 0, None)
escaped("all of it")
""",
        absent=frozenset({"ENOSPC"}),
    ),
    _memory(
        name="memory_in_temporary_files",
        aim="memory by files in /dev/shm",
        script="""
import time
path = "/dev/shm/incumbent-" + host["nekot"][:12]
try:
    with open(path, "wb", 0) as file:
        for _ in range(300): file.write(bytes(1 << 20))
    time.sleep(host["hold_s"])
finally:
    os.unlink(path)
escaped("all of it")
""",
    ),
    _memory(
        name="memory_of_many_files",
        aim="the kernel's memory, by files in memory that are empty, and so fit into any size",
        script="""
import shutil, time
folder = "/dev/shm/incumbent-" + host["nekot"][:12]
os.mkdir(folder)
try:
    for number in range(60_000): os.symlink("nothing", f"{folder}/{number}")
    time.sleep(host["hold_s"])
finally:
    shutil.rmtree(folder)
escaped("60,000 files")
""",
        memory_mb=48,
    ),
    _memory(
        name="memory_of_page_tables",
        aim="the kernel's memory, by a map of so much address space that it takes all of the limit",
        script="""
import time
PROT_READ, PRIVATE_ANONYMOUS_NORESERVE, NO_HUGE_PAGES, STEP = 1, 0x4022, 15, 1 << 21
libc.mmap.restype = ctypes.c_void_p
size = ctypes.c_size_t(76_800 * STEP)
at = libc.mmap(None, size, PROT_READ, PRIVATE_ANONYMOUS_NORESERVE, -1, ctypes.c_long(0))
libc.madvise(ctypes.c_void_p(at), size, NO_HUGE_PAGES)
for page in range(at, at + size.value, STEP): ctypes.string_at(page, 1)
"""
        + _HOLD,
    ),
    _memory(
        name="memory_shared_and_unmapped",
        aim="shared memory, all but a page of which is unmapped again and stays",
        script="""
PROTECTION, SHARED_ANONYMOUS, SIZE = 3, 0x21, 16 << 20
libc.mmap.restype = ctypes.c_void_p
for _ in range(20):
    at = libc.mmap(None, ctypes.c_size_t(SIZE), PROTECTION, SHARED_ANONYMOUS, -1, ctypes.c_long(0))
    ctypes.memset(at, 1, SIZE)
    libc.munmap(ctypes.c_void_p(at + 4096), ctypes.c_size_t(SIZE - 4096))
"""
        + _HOLD,
        is_exact=True,
    ),
    _memory(
        name="memory_of_sockets",
        aim="the kernel's memory, by what nobody reads from sockets",
        script="""
import resource, socket, time
held = []
for _ in range(4):
    if os.fork() == 0:
        for _ in range(400):
            held += socket.socketpair()
            held[-2].setblocking(False)
            try:
                while True: held[-2].send(bytes(65536))
            except BlockingIOError:
                pass
        Path(out, str(os.getpid())).touch()
        time.sleep(6)
        os._exit(0)
while len(os.listdir(out)) < 4: time.sleep(0.01)
"""
        + _HOLD,
        is_exact=True,
    ),
    _attempt(
        name="requests_for_all",
        aim="the requests of the kernel's asynchronous I/O, of which the machine has one number",
        script="kernel('io_setup', 64, ctypes.byref(ctypes.c_ulong()))\nescaped('64 of them')\n",
        absent=frozenset({"ENOSYS"}),
    ),
    _attempt(
        name="fork_bomb",
        aim="all the processes that the machine can have",
        script="""
import time
children = []
try:
    while len(children) < 300:
        child = os.fork()
        if child == 0:
            time.sleep(8)
            os._exit(0)
        children.append(child)
except OSError as error:
    stopped(f"{len(children)} and no more")
"""
        + _HOLD,
        judge=got_it_all,
        pids=_PIDS,
    ),
    _attempt(
        name="thread_bomb",
        aim="the same by threads",
        script="""
import threading, time
threading.stack_size(65536)
count = 0
try:
    while count < 300:
        threading.Thread(target=time.sleep, args=(8,), daemon=True).start()
        count += 1
except RuntimeError:
    stopped(f"{count} and no more")
"""
        + _HOLD,
        judge=got_it_all,
        pids=_PIDS,
    ),
    _attempt(
        name="open_files",
        aim="all the open files that the machine can have",
        script="""
import resource
_, most = resource.getrlimit(resource.RLIMIT_NOFILE)
escaped(f"{most} files") if most > 65536 or most < 0 else stopped(f"{most} and no more")
""",
        control=Control.HARMLESS,
        harmless="""
import resource
soft, most = resource.getrlimit(resource.RLIMIT_NOFILE)
resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
escaped(f"{most} files") if most > soft or most > 1024 else stopped("a low limit")
""",
        why="how many files a bare process may open differs from machine to machine",
        absent=frozenset({"a low limit"}),
    ),
    *(
        _disk(
            name=f"disk_{name}",
            aim=f"the disk, by {aim}",
            script=_FILL + f"fill({folder})\n" + _HOLD,
        )
        for name, aim, folder in (
            ("output", "its output", "out"),
            ("source", "files beside the script", "os.getcwd()"),
            ("compile_caches", "files beside compiled code", "os.environ['TRITON_CACHE_DIR']"),
        )
    ),
    _disk(
        name="disk_many_files",
        aim="all the files that the file system can have",
        script="for number in range(3000): open(f'{out}/{number}', 'w').close()\n" + _HOLD,
    ),
    _disk(
        name="disk_unlinked_file",
        aim="the disk, by a file without a name that no search finds",
        script="file = os.open(out, os.O_TMPFILE | os.O_RDWR)\n"
        "for _ in range(4 * 24): os.write(file, bytes(1 << 20))\n" + _HOLD,
        absent=frozenset({"EOPNOTSUPP"}),
    ),
    _disk(
        name="disk_unlinked_files",
        aim="the same by many of them, each smaller than the largest file it may have",
        script="""
held = []
for number in range(8):
    held.append(os.open(f"{out}/{number}", os.O_CREAT | os.O_RDWR))
    os.unlink(f"{out}/{number}")
    for _ in range(12): os.write(held[-1], bytes(1 << 20))
"""
        + _HOLD,
    ),
    _disk(
        name="disk_huge_file",
        aim="a file that is larger than any disk, without content",
        script="os.truncate(os.open(out + '/sparse', os.O_CREAT | os.O_RDWR), 1 << 40)\n"
        "escaped('a file of a tebibyte')\n",
    ),
    _attempt(
        name="core_dump",
        aim="a core dump, which the kernel may hand to a program of root's",
        script="""
import resource
_, most = resource.getrlimit(resource.RLIMIT_CORE)
# 1 makes none either, and unlike 0 keeps it from such a program, too.
escaped(f"{most} bytes") if most > 1 else stopped("none")
""",
        absent=frozenset({"none"}),
    ),
    _attempt(
        name="log_flood",
        aim="the disk, by what it prints",
        script="for _ in range(40): os.write(1, b'x' * ((1 << 20) - 1) + b'\\n')\n",
        judge=flooded,
        control=Control.PLAIN,
        why="the supervisor keeps the first and the last MiB, with or without a sandbox",
    ),
    _attempt(
        name="log_line_without_end",
        aim="the reader's memory, by one endless line",
        script="for _ in range(40): os.write(1, b'x' * (1 << 20))\n",
        judge=flooded,
        control=Control.PLAIN,
        why="the supervisor looks at the first 4 KiB of a line, with or without a sandbox",
    ),
)
