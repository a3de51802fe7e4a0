"""The world around a trial: a user with secrets, other runs, an evaluator, services, a victim.

Knows what there is to be stolen, spoilt or killed, and puts back what an attempt that succeeded has
changed. Everything belongs to the user who runs the worker; knows nothing of sandboxes.
"""

import ctypes
import json
import os
import secrets
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from tests.security.services import Services, own_address
from trainer.removal import remove_tree

PYTHON = "/usr/bin/python3"
"""An interpreter that every user of the machine can start."""
_VICTIM = """
import ctypes, sys, time
ctypes.CDLL(None).prctl(0x59616D61, ctypes.c_ulong(-1), 0, 0, 0)  # let others trace us, under Yama
secret = ctypes.create_string_buffer(sys.argv[1].encode())
print(ctypes.addressof(secret), flush=True)
time.sleep(900)
"""
_IPC_CREAT, _IPC_RMID = 0o1000, 0
_HANDLE_BYTES = 128
_AT_FDCWD = -100


@dataclass(frozen=True, slots=True, kw_only=True)
class World:
    """One user's surroundings."""

    folder: Path
    uid: int
    token: str
    """The secret: what no trial may ever get hold of."""
    services: Services
    victim: "subprocess.Popen[bytes]"
    """Another process of the user, with the secret in its environment, arguments and memory."""
    victim_address: int
    """Where in its memory."""
    ipc_key: int
    """Of the user's System V shared memory segment."""

    @property
    def home(self) -> Path:
        """The user's home, with a key in it."""
        return self.folder / "home"

    @property
    def labels(self) -> Path:
        """The hidden labels that the evaluator compares predictions with."""
        return self.folder / "evaluator" / "labels.json"

    @property
    def evaluator(self) -> Path:
        """The code that judges."""
        return self.folder / "evaluator" / "evaluate.py"

    @property
    def sibling(self) -> Path:
        """What another trial has written."""
        return self.folder / "sibling" / "out" / "weights.bin"

    @property
    def sibling_cache(self) -> Path:
        """What compilers have made for another trial."""
        return self.folder / "sibling" / "cache" / "triton" / "kernel.so"

    @property
    def seed(self) -> Path:
        """The compile caches of which each trial gets a copy."""
        return self.folder / "study" / "caches" / "here_cpu"

    @property
    def environment(self) -> Path:
        """The virtual environment in which trials run."""
        return self.folder / "venv"

    @property
    def python(self) -> Path:
        """The interpreter of that environment."""
        return self.environment / "bin" / "python"

    @property
    def site_packages(self) -> Path:
        """Where the environment keeps what is installed."""
        return next((self.environment / "lib").glob("python*/site-packages"))

    @property
    def data(self) -> Path:
        """Training data, which trials may read."""
        return self.folder / "data"

    @property
    def repository(self) -> Path:
        """The user's repository."""
        return self.folder / "repository"

    @property
    def shared_memory(self) -> Path:
        """A file of the user's in /dev/shm."""
        return Path("/dev/shm") / f"incumbent-{self.ipc_key:x}"

    @property
    def variables(self) -> dict[str, str]:
        """The environment that the worker hands down to trials."""
        path = f"{self.environment / 'bin'}:{os.defpath}"
        return {
            "PATH": path,
            "HOME": str(self.home),
            "PYTHONDONTWRITEBYTECODE": "1",
            "TRITON_CACHE_DIR": str(self.home / ".triton" / "cache"),
        }

    def facts(self) -> dict[str, object]:
        """Return what an attacker may know; the secret in it reads backwards."""
        return {
            "nekot": self.token[::-1],
            "tcp_port": self.services.tcp_port,
            "tcp6_port": self.services.tcp6_port,
            "udp_port": self.services.udp_port,
            "address": own_address(),
            "socket": str(self.folder / "service.sock"),
            "abstract": self.services.abstract_name[::-1],
            "folder": str(self.folder),
            "home": str(self.home),
            "labels": str(self.labels),
            "labels_handle": _handle_of(self.labels),
            "evaluator": str(self.evaluator),
            "sibling": str(self.sibling),
            "sibling_cache": str(self.sibling_cache),
            "seed": str(self.seed),
            "venv": str(self.environment),
            "site_packages": str(self.site_packages),
            "data": str(self.data / "train.txt"),
            "repository": str(self.repository),
            "shared_memory": str(self.shared_memory),
            "ipc_key": self.ipc_key,
            "victim": self.victim.pid,
            "victim_address": self.victim_address,
            "name": os.uname().nodename,
        }

    def is_victim_well(self) -> bool:
        """Say whether the victim lives and was not stopped, nor is about to be."""
        if self.victim.poll() is not None:
            return False
        lines = Path(f"/proc/{self.victim.pid}/status").read_text().splitlines()
        status = {name: value.strip() for name, _, value in (line.partition(":") for line in lines)}
        # A signal that was sent takes until its receiver is given a processor.
        is_hit = any(int(status[name], 16) for name in ("SigPnd", "ShdPnd"))
        return not is_hit and status["State"][0] not in "TtZX"

    def fill(self) -> None:
        """Write everything, in place of what attempts have changed."""
        for path, text in self._files().items():
            path.parent.mkdir(parents=True, exist_ok=True)
            path.unlink(missing_ok=True)
            path.write_text(text)
        (self.home / ".ssh" / "id_ed25519").chmod(0o600)

    def has_changed(self) -> str:
        """Return the first file that is not as `fill` left it; empty if all are."""
        for path, text in self._files().items():
            if not path.is_file() or path.read_text() != text or path.stat().st_mode & 0o022:
                return str(path.relative_to(self.folder))
        return ""

    def _files(self) -> dict[Path, str]:
        return {
            self.home / ".ssh" / "id_ed25519": f"{self.token}\n",
            self.home / ".bashrc": "umask 022\n",
            self.labels: json.dumps({"labels": self.token}),
            self.evaluator: "def score(predictions):\n    return 1.0\n",
            self.sibling: f"weights {self.token}\n",
            self.sibling_cache: f"constants {self.token}\n",
            self.seed / "triton" / "kernel.so": "compiled\n",
            self.home / ".triton" / "cache" / "kernel.so": "compiled\n",
            self.data / "train.txt": "the training data\n",
            self.site_packages / "torch.py": "is_genuine = True\n",
        }


@contextmanager
def a_world(uid: int) -> Iterator[World]:
    """Build the world of the user `uid`, and take it down."""
    folder = Path(tempfile.mkdtemp(prefix="incumbent-security-"))
    folder.chmod(0o755)
    token = f"secret-{secrets.token_hex(8)}"
    key = secrets.randbits(30) | 1
    _as_user(uid, PYTHON, "-m", "venv", "--without-pip", str(folder / "venv"), parent=folder)
    segment = _share(key, token.encode(), uid)
    (folder / "data").mkdir()
    sockets = (folder / "service.sock", folder / "data" / "service.sock")
    with Services(token, *sockets) as services:
        victim, address = _start_victim(uid, token)
        world = World(
            folder=folder,
            uid=uid,
            token=token,
            services=services,
            victim=victim,
            victim_address=address,
            ipc_key=key,
        )
        try:
            world.shared_memory.write_text(token)
            subprocess.run(("git", "init", "-q", str(world.repository)), check=True)
            world.fill()
            give(folder, uid)
            yield world
        finally:
            victim.kill()
            victim.communicate()
            world.shared_memory.unlink(missing_ok=True)
            _libc().shmctl(segment, _IPC_RMID, None)
            remove_tree(folder)


def give(folder: Path, uid: int) -> None:
    """Make all that is in `folder`, and the folder, that user's."""
    if uid == os.geteuid():
        return
    for path in [folder, *folder.rglob("*")]:
        with suppress(FileNotFoundError):
            os.chown(path, uid, uid, follow_symlinks=False)


def _as_user(uid: int, *command: str, parent: Path) -> None:
    """Run a command as that user, who may write in `parent`."""
    give(parent, uid)
    subprocess.run(command, check=True, cwd="/", **_identity(uid))  # type: ignore[call-overload]


def _identity(uid: int) -> dict[str, object]:
    if uid == os.geteuid():
        return {}
    return {"user": uid, "group": uid, "extra_groups": []}


def _start_victim(uid: int, token: str) -> "tuple[subprocess.Popen[bytes], int]":
    victim = subprocess.Popen(
        (PYTHON, "-I", "-S", "-c", _VICTIM, token),
        env={"PATH": os.environ["PATH"], "EXAMPLE_API_KEY": token},
        cwd="/",
        stdout=subprocess.PIPE,
        **_identity(uid),  # type: ignore[call-overload]
    )
    assert victim.stdout is not None
    return victim, int(victim.stdout.readline())


def _libc() -> ctypes.CDLL:
    libc = ctypes.CDLL(None, use_errno=True)
    libc.shmat.restype = ctypes.c_void_p
    return libc


def _share(key: int, data: bytes, uid: int) -> int:
    """Make a shared memory segment that holds `data` and that `uid` may use; return its number."""
    libc = _libc()
    segment = libc.shmget(key, 4096, _IPC_CREAT | 0o666)
    assert segment >= 0, os.strerror(ctypes.get_errno())
    address = libc.shmat(segment, None, 0)
    ctypes.memmove(address, data, len(data))
    libc.shmdt(ctypes.c_void_p(address))
    return int(segment)


def _handle_of(path: Path) -> str:
    """Return the file's handle as open_by_handle_at(2) takes it, in hexadecimal; empty if none."""
    buffer = ctypes.create_string_buffer(8 + _HANDLE_BYTES)
    ctypes.c_uint.from_buffer(buffer).value = _HANDLE_BYTES
    mount = ctypes.c_int()
    found = ctypes.CDLL(None).name_to_handle_at(
        _AT_FDCWD, os.fsencode(path), buffer, ctypes.byref(mount), 0
    )
    return "" if found != 0 else buffer.raw[: 8 + ctypes.c_uint.from_buffer(buffer).value].hex()
