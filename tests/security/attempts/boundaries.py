"""What a candidate can do for all our walls, with what is done about it instead."""

from tests.security.attempt import Aftermath, Boundary
from trainer.endings import classify


def is_scored(aftermath: Aftermath) -> str:
    """See whether the run became a number."""
    value = classify(aftermath.report, device_class="cpu", stages_s={}).value
    return f"a score of {value}" if value is not None else ""


BOUNDARIES = (
    Boundary(
        name="printed_metric",
        aim="print the metric without having earned it",
        script="print('val_bpb: 0.0001')\n",
        judge=is_scored,
        why="a printed number is the script's own word. The plain cases are marked as suspect; "
        "a study that needs more has its predictions scored out of the candidate's reach",
    ),
    Boundary(
        name="patched_evaluation_in_its_own_process",
        aim="change evaluation code that runs inside the trial",
        script="""
import prepare
prepare.evaluate = lambda *_: 0.0001
print("val_bpb:", prepare.evaluate())
""",
        judge=is_scored,
        why="code in the candidate's process is the candidate's. Frozen files are compared before "
        "and after, which does not see this",
    ),
    Boundary(
        name="load_of_the_machine",
        aim="see how busy the machine is, and how long it has been up",
        script="""
with open("/proc/stat") as file: line = file.readline()
with open("/proc/uptime") as file: escaped(line.split()[1] + " " + file.read())
""",
        why="/proc/stat and the like know no namespaces; a covert channel at most",
    ),
    Boundary(
        name="names_of_folders",
        aim="learn where on the machine its folders really are",
        script="""
for line in Path("/proc/self/mountinfo").read_text().splitlines():
    if line.split()[4] == os.getcwd(): escaped(line.split()[3])
stopped("not told")
""",
        why="/proc/self/mountinfo names the source of each mount: user and study names are not "
        "secret, and the paths lead nowhere from inside",
    ),
    Boundary(
        name="lock_on_shared_data",
        aim="hold a lock on a file that other trials and the user read too",
        script="""
import fcntl
fcntl.flock(os.open(host["data"], os.O_RDONLY), fcntl.LOCK_EX | fcntl.LOCK_NB)
escaped("an exclusive lock")
""",
        why="a lock needs no permission to write. Give `data` that nobody locks, or a copy",
    ),
    Boundary(
        name="socket_among_the_data",
        aim="talk to a server whose unix socket lies in a folder that it may read",
        script="""
import socket
connection = socket.socket(socket.AF_UNIX)
connection.settimeout(5)
connection.connect(os.path.dirname(host["data"]) + "/service.sock")
seek(connection.recv(100))
""",
        why="to connect is not to write: a read-only mount lets it pass. Name folders in `data` "
        "that hold data",
    ),
    *(
        Boundary(
            name=f"disk_by_files_{name}",
            aim=f"take more of the disk than `disk_gb`, by files without a name that are {where}",
            script=f"""
import socket, time
held = [*socket.socketpair()]
for number in range(8):
    file = os.open(f"{{out}}/{{number}}", os.O_CREAT | os.O_RDWR)
    os.unlink(f"{{out}}/{{number}}")
    for _ in range(6): os.write(file, bytes(1 << 20))
    {hold}
    os.close(file)
time.sleep(host["hold_s"])
escaped("twice the limit")
""",
            why="they have neither a name nor a number by which a look could find them. No trial "
            "begins on a disk that is nearly full; they are gone when the trial ends",
            disk_mb=24,
        )
        for name, where, hold in (
            ("mapped", "only mapped", "libc.mmap(None, 4096, 1, 1, file, 0)"),
            ("sent", "on their way through a socket", "socket.send_fds(held[0], [b'x'], [file])"),
        )
    ),
    Boundary(
        name="exit_code_of_its_choice",
        aim="end with any exit code, by any signal, with any output",
        script="print('val_bpb: 0.5', flush=True)\nos._exit(256)\n",
        judge=is_scored,
        why="how it ends is its own to choose; what it says then counts as its word, no more",
    ),
)
