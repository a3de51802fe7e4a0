"""The sandbox of bubblewrap: what a trial sees of this machine, and with which variables.

Knows which folders any program needs, where a home is, and the caches that must be put where they
can be written to. Does not know how bwrap is told: that is `bubblewrap`.
"""

import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from trainer.run_folder import RunFolder
from trainer.run_records import Bind, Confinement, RunRequest
from trainer.sandbox.bubblewrap import CACHE, EXPERIMENT, OUT, USER

_GIB = 1 << 30
_SYSTEM = ("/usr", "/bin", "/sbin", "/lib", "/lib32", "/lib64", "/libx32")
_SYSTEM_MORE = ("/nix/store", "/gnu/store")  # where the systems of that name keep all programs
_SETTINGS = (
    "alternatives",
    "ld.so.cache",
    "ld.so.conf",
    "ld.so.conf.d",
    "localtime",
    "mime.types",
    "nsswitch.conf",
)
"""All that a trial sees of /etc."""
_OF_CARDS = ("/sys", "/etc/nvidia", "/run/nvidia-persistenced")
"""What NVIDIA's libraries read besides: without /sys, CUDA finds no card."""
_OF_NETWORK = (
    "/etc/resolv.conf",
    "/etc/gai.conf",
    "/etc/services",
    "/etc/ssl/certs",
    "/etc/ssl/openssl.cnf",
    "/etc/pki/tls/certs",
    "/etc/pki/ca-trust/extracted",
)
"""How names are resolved, and whom to believe."""
_HOME_WITHOUT_HOME = "/tmp/home"  # noqa: S108 - inside the sandbox, where it is private

_OFFLINE = {
    # Else a library that finds no network tries for minutes before it looks into its cache.
    "HF_HUB_OFFLINE": "1",
    "HF_DATASETS_OFFLINE": "1",
    "TRANSFORMERS_OFFLINE": "1",
    "UV_OFFLINE": "1",
}
_PRIVATE = {
    # Wherever the user's own are, they are not here, or must not be written to.
    "TMPDIR": "/tmp",  # noqa: S108
    "MPLCONFIGDIR": "/tmp/matplotlib",  # noqa: S108
    "NUMBA_CACHE_DIR": "/tmp/numba",  # noqa: S108
    "UV_CACHE_DIR": "/tmp/uv",  # noqa: S108
    # In the run folder: see trainer/compile_caches.py.
    "TORCHINDUCTOR_CACHE_DIR": CACHE,
    "TRITON_CACHE_DIR": f"{CACHE}/triton",
    "CUDA_CACHE_PATH": f"{CACHE}/cuda",
    # Beside the script there is no use for it: the copy is thrown away.
    "PYTHONDONTWRITEBYTECODE": "1",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Program:
    """A bwrap that starts on this machine, and as whom."""

    path: str
    root: str = ""
    """See Confinement.program_root."""
    uid: int | None = None
    """See Confinement.uid."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Sizes:
    """Of the private folders that are memory, in bytes."""

    home: int
    tmp: int
    shm: int

    @classmethod
    def of_memory(cls, total: int) -> "Sizes":
        """Return sizes for a trial that may use so many bytes of memory, in all less than those.

        Data loaders pass batches through /dev/shm.
        """
        return cls(home=min(_GIB, total // 8), tmp=min(4 * _GIB, total // 4), shm=total // 2)


@dataclass(frozen=True, slots=True, kw_only=True)
class BubblewrapSandbox:
    """trainer.sandbox.port.Sandbox with bubblewrap."""

    program: Program
    home: str
    """Where trials have their home: where the user has it, but empty."""
    shown: Sequence[Bind] = ()
    """What trials may read, besides the system."""
    devices: Sequence[str] = ()
    sizes: Sizes
    network: bool = False
    """Leave what runs in it this machine's network: for agents alone, never for a trial."""
    name: str = "bubblewrap"

    @property
    def owner(self) -> int | None:
        """See Sandbox."""
        return self.program.uid

    def seen(self, run: RunFolder) -> RunFolder:  # noqa: ARG002 - the same for all
        """See Sandbox."""
        return RunFolder(src=Path(EXPERIMENT), out=Path(OUT), cache=Path(CACHE))

    def confine(self, request: RunRequest, run: RunFolder) -> RunRequest:
        """See Sandbox."""
        system, links = system_view()
        binds = (
            *system,
            *(_existing(_OF_CARDS) if self.devices else ()),
            *(_existing(_OF_NETWORK) if self.network else ()),
            *self.shown,
            Bind(source=os.fspath(run.src), place=EXPERIMENT, is_writable=True),
            Bind(source=os.fspath(run.out), place=OUT, is_writable=True),
            Bind(source=os.fspath(run.cache), place=CACHE, is_writable=True),
        )
        confinement = Confinement(
            program=self.program.path,
            program_root=self.program.root,
            uid=self.program.uid,
            binds=binds,
            links=links,
            devices=tuple(self.devices),
            home=self.home,
            home_bytes=self.sizes.home,
            tmp_bytes=self.sizes.tmp,
            shm_bytes=self.sizes.shm,
            network=self.network,
        )
        env = inside(request.env, home=self.home, offline=not self.network)
        return replace(request, env=env, confinement=confinement)


def home_of(variables: Mapping[str, str]) -> str:
    """Return where a trial's home is to be: at the user's, unless that is none or everything."""
    home = os.path.normpath(variables.get("HOME", ""))
    is_fit = home.startswith("/") and home.strip("/")
    return home if is_fit else _HOME_WITHOUT_HOME


def inside(variables: Mapping[str, str], *, home: str, offline: bool = True) -> dict[str, str]:
    """Return a trial's variables as they must be in the sandbox."""
    who = {"HOME": home, "USER": USER, "LOGNAME": USER}
    return {**variables, **who, **(_OFFLINE if offline else {}), **_PRIVATE}


def system_view() -> tuple[tuple[Bind, ...], tuple[tuple[str, str], ...]]:
    """Return what every program needs of this machine, and the links among that."""
    linked = [path for path in _SYSTEM if Path(path).is_symlink()]
    links = [(os.fspath(Path(path).readlink()), path) for path in linked]
    folders = [path for path in (*_SYSTEM, *_SYSTEM_MORE) if path not in linked]
    settings = [f"/etc/{name}" for name in _SETTINGS]
    return tuple(_existing([*folders, *settings])), tuple(links)


def _existing(paths: Iterable[str]) -> list[Bind]:
    return [Bind(source=path, place=path) for path in paths if Path(path).exists()]
