"""From a study's `[trial]` section to the sandbox of one of its slots.

Knows what a trial is shown, and refuses what would show too much. Starts processes only to ask:
which bwrap makes a sandbox, and where an interpreter has its library.
"""

import os
import subprocess
from collections.abc import Iterable, Sequence
from contextlib import suppress
from pathlib import Path

from trainer.environment import Environment, EnvironmentFailed, user_path
from trainer.limit_defaults import machine_memory
from trainer.paths import WorkerPaths
from trainer.run_records import Bind
from trainer.sandbox.choose import choose
from trainer.sandbox.confine import BubblewrapSandbox, Sizes, home_of
from trainer.sandbox.diagnosis import Diagnosis
from trainer.sandbox.none import NoneSandbox
from trainer.sandbox.port import Sandbox
from trainer.sandbox.python_paths import Hidden, needed

_UNIFIED_MEMORY = ("/dev/nvidia-uvm", "/dev/dxg")
"""Linux has the one, WSL 2 the other."""
_MAKE_NODE = "nvidia-modprobe -u -c 0"


def arrange(
    kind: str,
    *,
    environment: Environment,
    data: Iterable[str],
    paths: WorkerPaths,
    devices: Sequence[str] = (),
    memory_bytes: int | None = None,
    uid: int | None = None,
) -> Sandbox:
    """Return the sandbox that `[trial] sandbox` calls `kind`, for trials in `environment`.

    `devices` are the device nodes of the slot's cards; `memory_bytes` is what a trial may use, all
    of the machine's if not given; `uid` is the slot's user, where we are root (Claim.uid). Raises
    EnvironmentFailed where no sandbox can be made, or a trial would have to be shown what it must
    not see.
    """
    if kind == "none":
        return NoneSandbox()
    program = choose(uid)
    if isinstance(program, Diagnosis):
        raise EnvironmentFailed(program.text())
    if devices:
        _have_unified_memory(devices)
    home = home_of(environment.variables)
    hidden = Hidden(home=Path(home), studies=paths.study)
    shown = needed(environment.argv, environment.variables, hidden)
    return BubblewrapSandbox(
        program=program,
        home=home,
        shown=(*shown, *paths_shown(data, hidden, program.uid)),
        devices=devices,
        sizes=Sizes.of_memory(memory_bytes or machine_memory()),
    )


def _have_unified_memory(devices: Sequence[str]) -> None:
    """Have the driver's node for unified memory made, if it is not there.

    Outside, the first CUDA program does that, by a set-user-ID helper, which no sandbox lets it be.
    """
    if any(Path(node).exists() for node in devices if node in _UNIFIED_MEMORY):
        return
    with suppress(OSError):
        subprocess.run(
            _MAKE_NODE.split(), stdin=subprocess.DEVNULL, capture_output=True, check=False
        )
    if not Path(_UNIFIED_MEMORY[0]).exists():
        raise EnvironmentFailed(
            f"there is no {_UNIFIED_MEMORY[0]}, without which CUDA finds no card, and a trial "
            f"cannot make it. Make it once after each start of the machine: sudo {_MAKE_NODE}"
        )


def paths_shown(
    paths: Iterable[str], hidden: Hidden, uid: int | None, key: str = "[trial] data"
) -> Iterable[Bind]:
    """Yield how paths of the user's are shown, each at its own place.

    `key` is what names them, and `uid` whom trials run as, where that is not us. Raises
    EnvironmentFailed where with them would be shown what is hidden, or they cannot be read.
    """
    for path in paths:
        place = user_path(path, key).absolute()
        source = place.resolve()
        for each in (place, source):
            if problem := hidden.problem_with(each):
                raise EnvironmentFailed(
                    f"{key}: with {path} a trial would be shown {problem}. Name the folders "
                    "in it that trials read"
                )
        if uid is not None and not source.stat().st_mode & (0o005 if source.is_dir() else 0o004):
            raise EnvironmentFailed(
                f"{key}: {path} is for its owner alone, and trials run as others, for "
                f"Incumbent runs as root. Let them read it: chmod -R o+rX {place}"
            )
        yield Bind(source=os.fspath(source), place=os.fspath(place))
