"""Attempts to learn what the user, other trials or the evaluator know."""

from functools import partial

from tests.security.attempt import Attempt, Category, Control

_attempt = partial(Attempt, category=Category.SECRETS)

ATTEMPTS = (
    *(
        _attempt(name=name, aim=aim, script=f"seek_file({path})\nstopped('not to be read')\n")
        for name, aim, path in (
            ("ssh_key", "a key in the user's home", "host['home'] + '/.ssh/id_ed25519'"),
            ("hidden_labels", "the labels that predictions are scored with", "host['labels']"),
            ("sibling_trial", "what another trial has learnt", "host['sibling']"),
            (
                "compile_cache_of_others",
                "what compilers have made for another trial",
                "host['sibling_cache']",
            ),
        )
    ),
    _attempt(
        name="home_folder",
        aim="anything in the home that $HOME and the user's record name",
        script="""
import pwd
homes = {os.environ["HOME"]}
try:
    homes.add(pwd.getpwuid(os.getuid()).pw_dir)
except KeyError:
    pass
for home in homes:
    for folder, _, names in os.walk(home):
        for name in names[:100]:
            seek_file(os.path.join(folder, name))
        if folder.count("/") > home.count("/") + 1:
            break
stopped("nothing there")
""",
    ),
    _attempt(
        name="inherited_environment",
        aim="an API key in the environment of whoever starts trials",
        script="""
for name, value in os.environ.items():
    seek(value)
stopped("only what was given")
""",
        control=Control.PLAIN,
        why="a worker hands down an allow-list, with or without a sandbox",
    ),
    _attempt(
        name="inherited_descriptors",
        aim="files, pipes and sockets left open by whoever starts trials",
        script="""
listed = os.open("/proc/self/fd", os.O_RDONLY)
numbers = [int(each) for each in os.listdir(listed)]
for number in numbers:
    if number > 2 and number != listed:
        try:
            escaped(f"{number} is " + os.readlink(f"/proc/self/fd/{number}"))
        except FileNotFoundError:
            pass  # the one that listdir itself had opened
stopped("none but the three")
""",
        control=Control.PLAIN,
        why="the supervisor closes what it has, with or without a sandbox",
    ),
    _attempt(
        name="descriptors_of_others",
        aim="files that another process holds open, by /proc/PID/fd",
        script="""
reason = "nobody has any"
for pid in [host["victim"], *processes()]:
    for name in os.listdir(f"/proc/{pid}/fd") if os.access(f"/proc/{pid}/fd", os.R_OK) else ():
        try:
            at = os.readlink(f"/proc/{pid}/fd/{name}")
            if at not in ("/dev/null", os.readlink("/proc/self/fd/1")):
                os.open(f"/proc/{pid}/fd/{name}", os.O_RDONLY | os.O_NONBLOCK)
                escaped(f"{at} of {pid}")
        except OSError as error:
            reason = errno.errorcode[error.errno]
stopped(reason)
""",
    ),
    *(
        _attempt(
            name=f"{what}_of_others",
            aim=f"{secret} in the {what} of another process",
            script=f"for pid in processes(): seek_file(f'/proc/{{pid}}/{file}')\n"
            "stopped('no such')\n",
        )
        for what, secret, file in (
            ("environment", "an API key", "environ"),
            ("arguments", "a password", "cmdline"),
        )
    ),
    _attempt(
        name="memory_of_others",
        aim="the memory of another process, by /proc/PID/mem",
        script="""
memory = os.open(f"/proc/{host['victim']}/mem", os.O_RDONLY)
seek(os.pread(memory, 64, host["victim_address"]))
stopped("not there")
""",
    ),
    _attempt(
        name="shadow_passwords",
        aim="the password hashes of the machine",
        script="open('/etc/shadow').read(1)\nescaped('/etc/shadow is open')\n",
        capability="CAP_DAC_READ_SEARCH",
        absent=frozenset({"ENOENT"}),
    ),
    _attempt(
        name="labels_by_handle",
        aim="the same file by its handle on the file system that holds /out",
        script="""
handle = bytes.fromhex(host["labels_handle"])
if not handle: stopped("no handles here")
mount = os.open(out, os.O_RDONLY)
seek(os.read(kernel("open_by_handle_at", mount, handle, os.O_RDONLY), 1000))
stopped("another file")
""",
        capability="CAP_DAC_READ_SEARCH",
        absent=frozenset({"no handles here", "EOPNOTSUPP"}),
    ),
    _attempt(
        name="neighbours_of_the_run_folder",
        aim="the folders around its own, by .. from where it runs and writes",
        script="""
for start in (".", out):
    at = os.open(start, os.O_PATH)
    for _ in range(12):
        at = os.open("..", os.O_PATH, dir_fd=at)
        for name in ("evaluator/labels.json", "sibling/out/weights.bin"):
            try:
                seek(os.read(os.open(name, os.O_RDONLY, dir_fd=at), 1000))
            except OSError:
                pass
stopped("nothing on the way up")
""",
    ),
    _attempt(
        name="files_through_proc",
        aim="the host's files by /proc/PID/root, cwd and fd",
        script="""
for pid in [*processes(), "self", "thread-self"]:
    for link in ("root", "cwd"):
        seek_file(f"/proc/{pid}/{link}{host['labels']}")
stopped("every root is this one")
""",
    ),
    _attempt(
        name="sources_of_the_mounts",
        aim="the folders that the sandbox was put together from, or the old root",
        script="""
for name in ("oldroot", "newroot", ".old_root", "bindfile", "tmp/oldroot", "tmp/newroot"):
    if os.path.exists("/" + name): seek_file(f"/{name}{host['labels']}")
for line in Path("/proc/self/mountinfo").read_text().splitlines():
    at = line.split()[4].encode().decode("unicode_escape")
    for tail in (host["labels"], "/evaluator/labels.json", "/../evaluator/labels.json"):
        seek_file(at.rstrip("/") + tail)
stopped("no mount leads there")
""",
    ),
    _attempt(
        name="shared_memory_files",
        aim="files of others in /dev/shm",
        script="for name in os.listdir('/dev/shm'): seek_file('/dev/shm/' + name)\n"
        "stopped('none')\n",
    ),
    _attempt(
        name="shared_memory_segments",
        aim="System V shared memory of others",
        script="""
libc.shmat.restype = ctypes.c_void_p
segment = kernel("shmget", host["ipc_key"], 0, 0)
address = libc.shmat(ctypes.c_int(segment), None, 0)
seek(ctypes.string_at(address, 64))
stopped("another one")
""",
    ),
    _attempt(
        name="temporary_files",
        aim="what others keep in the folder for temporary files",
        script="""
import tempfile
seek_file(os.path.join(tempfile.gettempdir(), os.path.basename(host["folder"]), "evaluator",
                       "labels.json"))
for top in {tempfile.gettempdir(), "/tmp", "/var/tmp", os.path.dirname(host["folder"])}:
    try:
        names = os.listdir(top)
    except FileNotFoundError:
        continue
    for name in names:
        if os.path.exists(f"{top}/{name}/evaluator"):
            escaped(f"{top}/{name}")
stopped("a folder of its own")
""",
    ),
    _attempt(
        name="process_list",
        aim="what else runs on the machine",
        script="""
if os.path.exists(f"/proc/{host['victim']}/stat"):
    escaped(Path(f"/proc/{host['victim']}/stat").read_text())
stopped("not to be seen")
""",
    ),
    _attempt(
        name="kernel_log",
        aim="the kernel's log, with addresses and other users' doings",
        script="""
SYSLOG_ACTION_SIZE_BUFFER = 10
for path in ("/dev/kmsg", "/proc/kmsg"):
    try:
        os.open(path, os.O_RDONLY | os.O_NONBLOCK)
        escaped(path)
    except OSError:
        pass
escaped(f"{kernel('syslog', SYSLOG_ACTION_SIZE_BUFFER, None, 0)} bytes of it")
""",
        capability="CAP_SYSLOG",
    ),
    _attempt(
        name="kernel_addresses",
        aim="where the kernel's symbols lie",
        script="""
with open("/proc/kallsyms") as symbols:
    for line, _ in zip(symbols, range(200)):
        if line.split()[0].strip("0"):
            escaped(line)
stopped("hidden")
""",
        capability="CAP_SYSLOG",
        absent=frozenset({"ENOENT", "hidden"}),
    ),
    _attempt(
        name="hardware_identity",
        aim="serial numbers and the machine's identity",
        script="""
for path in ("/etc/machine-id", "/var/lib/dbus/machine-id", "/sys/class/dmi/id/product_uuid"):
    if os.path.exists(path): escaped(path)
stopped("none")
""",
        absent=frozenset({"none"}),
    ),
    _attempt(
        name="key_ring",
        aim="keys that the kernel keeps for the user",
        script="""
KEY_SPEC_USER_KEYRING, KEYCTL_GET_KEYRING_ID = -4, 0
escaped(f"key ring {kernel('keyctl', KEYCTL_GET_KEYRING_ID, KEY_SPEC_USER_KEYRING, 1)}")
""",
        absent=frozenset({"ENOSYS"}),
    ),
    _attempt(
        name="host_name",
        aim="the name of the machine",
        script="""
name = os.uname().nodename
escaped(name) if name == host["name"] else stopped("a name of its own")
""",
    ),
)
