"""The options of bubblewrap around one trial.

Knows bwrap's options and the order in which it obeys them. Does not know why a path is shown, who
runs it, or what it runs. Works with bubblewrap 0.8 (Debian 12) and newer. Pure, and standard
library only: the supervisor imports this module in an isolated interpreter.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from pathlib import PurePosixPath

from trainer.run_records import Bind, Confinement

EXPERIMENT = "/experiment"
"""Where a trial finds its tree, in which it starts: a copy that is thrown away."""
OUT = "/out"
"""What a trial leaves here is kept."""
USER = "trial"
CACHE = f"/tmp/torchinductor_{USER}"  # noqa: S108 - inside the sandbox
"""Where its compilers find and keep what they have made; thrown away.

They note paths, so it is the same for all trials. It is where inductor keeps headers that it has
compiled, whatever its variable for caches says.
"""
HOSTS = f"127.0.0.1 localhost {USER}\n::1 localhost\n"
"""All the names that a trial needs: without them `torchrun` and `tcp://localhost` find no way."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Descriptors:
    """Numbers of the open files that bwrap is to inherit; none of them reaches the trial."""

    seccomp: int
    """The filter, to be read."""
    status: int
    """Where bwrap says, in JSON, which process it started and how that ended."""
    users: int
    """The text of /etc/passwd, to be read."""
    hosts: int
    """The text of /etc/hosts, to be read."""


def options(
    confinement: Confinement,
    *,
    env: Mapping[str, str],
    cwd: str,
    descriptors: Descriptors,
    sources: Sequence[str],
) -> tuple[str, ...]:
    """Return the options by which a command runs in `cwd` with no other variables than `env`.

    `sources` are the paths at which bwrap finds what `confinement.binds` shows, in their order.
    """
    shown = zip(sources, confinement.binds, strict=True)
    parts = chain(
        _walls(network=confinement.network),
        _system(confinement.links, descriptors),
        _devices(confinement),
        # /tmp before what lies below it, and the home after it, for it may: a later mount hides.
        ("--size", str(confinement.tmp_bytes), "--perms", "1777", "--tmpfs", "/tmp"),  # noqa: S108
        ("--size", str(confinement.home_bytes), "--perms", "0700", "--tmpfs", confinement.home),
        _binds(shown),
        # The last of all: until here, mount points are made in it. It is a tmpfs of half the memory
        # that no --size reaches.
        ("--remount-ro", "/"),
        chain.from_iterable(("--setenv", name, value) for name, value in env.items()),
        ("--chdir", cwd),
        ("--seccomp", str(descriptors.seccomp), "--json-status-fd", str(descriptors.status)),
    )
    return tuple(parts)


def command(program: str, argv: Sequence[str], *, options_from: int) -> tuple[str, ...]:
    """Return how to start bwrap around `argv`, its options to be read from a descriptor.

    There each ends in a zero byte. On the command line, which a trial can read of its first
    process, they would tell it where on this machine everything is.
    """
    return (program, "--args", str(options_from), "--", *argv)


def _walls(*, network: bool) -> Iterable[str]:
    yield from ("--unshare-user", "--unshare-ipc", "--unshare-pid")
    if not network:
        yield "--unshare-net"
    yield from ("--unshare-uts", "--unshare-cgroup-try", "--disable-userns", "--hostname", USER)
    yield from ("--die-with-parent", "--new-session", "--cap-drop", "ALL", "--clearenv")


def _system(links: Iterable[tuple[str, str]], descriptors: Descriptors) -> Iterable[str]:
    for target, place in links:
        yield from ("--symlink", target, place)
    yield from ("--ro-bind-data", str(descriptors.users), "/etc/passwd")
    yield from ("--ro-bind-data", str(descriptors.hosts), "/etc/hosts")
    yield from ("--proc", "/proc")
    # bwrap itself is process 1 inside. As a plain user's it is the trial's to open: its memory, and
    # through `exe` the program on this machine, to be made unusable or written anew.
    yield from ("--tmpfs", "/proc/1", "--remount-ro", "/proc/1")
    # A new procfs has the machine's own switches. bwrap hides them only where their folder can be
    # written to, which root cannot, though it can write to the files: belt and braces.
    for path in ("/proc/sys", "/proc/sysrq-trigger"):
        yield from ("--ro-bind-try", path, path)


def _devices(confinement: Confinement) -> Iterable[str]:
    yield from ("--dev", "/dev")
    for node in confinement.devices:
        # Not --bind, which forbids the use of device nodes; below --dev, which would hide them.
        yield from ("--dev-bind-try", node, node)
    yield from ("--size", str(confinement.shm_bytes), "--perms", "1777", "--tmpfs", "/dev/shm")  # noqa: S108
    # After all that is in it: --dev is a tmpfs of half the memory, too.
    yield from ("--remount-ro", "/dev")


def _binds(shown: Iterable[tuple[str, Bind]]) -> Iterable[str]:
    """Show what is above before what is below it, or it would hide that."""
    for source, bind in sorted(shown, key=lambda each: PurePosixPath(each[1].place).parts):
        yield from ("--bind" if bind.is_writable else "--ro-bind", source, bind.place)
