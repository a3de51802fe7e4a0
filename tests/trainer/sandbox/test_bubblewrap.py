"""The options of bwrap, word by word."""

from dataclasses import replace

from trainer.run_records import Bind, Confinement
from trainer.sandbox.bubblewrap import Descriptors, command, options

CONFINEMENT = Confinement(
    program="/usr/bin/bwrap",
    uid=65529,
    binds=(
        Bind(source="/usr", place="/usr"),
        Bind(source="/srv/venv/lib", place="/home/ada/venv/lib"),
        Bind(source="/srv/venv", place="/home/ada/venv"),
        Bind(source="/study/run/src", place="/experiment", is_writable=True),
    ),
    links=(("usr/bin", "/bin"),),
    devices=("/dev/nvidiactl", "/dev/nvidia3"),
    home="/home/ada",
    home_bytes=1,
    tmp_bytes=2,
    shm_bytes=3,
)


def given(confinement: Confinement = CONFINEMENT) -> tuple[str, ...]:
    return options(
        confinement,
        env={"PATH": "/bin", "A": "x y"},
        cwd="/experiment",
        descriptors=Descriptors(seccomp=7, status=8, users=9, hosts=10),
        sources=[f"/tmp/{index}" for index in range(len(confinement.binds))],
    )


def test_every_option_in_its_order() -> None:
    assert " ".join(given()).replace(" --", "\n--").split("\n") == [
        "--unshare-user",
        "--unshare-ipc",
        "--unshare-pid",
        "--unshare-net",
        "--unshare-uts",
        "--unshare-cgroup-try",
        "--disable-userns",
        "--hostname trial",
        "--die-with-parent",
        "--new-session",
        "--cap-drop ALL",
        "--clearenv",
        "--symlink usr/bin /bin",
        "--ro-bind-data 9 /etc/passwd",
        "--ro-bind-data 10 /etc/hosts",
        "--proc /proc",
        "--tmpfs /proc/1",
        "--remount-ro /proc/1",
        "--ro-bind-try /proc/sys /proc/sys",
        "--ro-bind-try /proc/sysrq-trigger /proc/sysrq-trigger",
        "--dev /dev",
        "--dev-bind-try /dev/nvidiactl /dev/nvidiactl",
        "--dev-bind-try /dev/nvidia3 /dev/nvidia3",
        "--size 3",
        "--perms 1777",
        "--tmpfs /dev/shm",
        "--remount-ro /dev",
        "--size 2",
        "--perms 1777",
        "--tmpfs /tmp",
        "--size 1",
        "--perms 0700",
        "--tmpfs /home/ada",
        "--bind /tmp/3 /experiment",
        "--ro-bind /tmp/2 /home/ada/venv",
        "--ro-bind /tmp/1 /home/ada/venv/lib",
        "--ro-bind /tmp/0 /usr",
        "--remount-ro /",
        "--setenv PATH /bin",
        "--setenv A x y",
        "--chdir /experiment",
        "--seccomp 7",
        "--json-status-fd 8",
    ]


def test_the_command_line_itself_tells_nothing() -> None:
    argv = command("/usr/bin/bwrap", ("python", "train.py", "--lr", "1"), options_from=5)
    assert argv == ("/usr/bin/bwrap", "--args", "5", "--", "python", "train.py", "--lr", "1")


def test_what_is_left_the_network_has_all_other_walls() -> None:
    opened = given(replace(CONFINEMENT, network=True))
    assert opened == tuple(each for each in given() if each != "--unshare-net")
