"""Which Python a trial's command runs in, as far as its words tell.

Knows the commands that use the environment's own Python. Everything else (a shell script, conda,
docker, an absolute path elsewhere) may run in any Python or none: then nothing is claimed.
"""

import os
import re
import shutil
from pathlib import Path

from trainer.environment import Environment

_PYTHON = re.compile(r"python(?:3(?:\.\d+)?)?|torchrun|accelerate")
_HARMLESS = frozenset({"--frozen", "--locked", "--no-sync", "--offline", "--quiet", "-q"})
"""Options of `uv run` after which it runs in the same environment as without them."""


def interpreter_of(environment: Environment) -> Path | None:
    """Return the Python of the trials, or None if the command may run in another one."""
    folder = Path(environment.variables.get("PATH", "").partition(os.pathsep)[0])
    python = folder / "python"
    is_known = _is_uv_run(environment) or _is_program_in(folder, environment)
    return python if is_known and os.access(python, os.X_OK) else None


def _is_uv_run(environment: Environment) -> bool:
    if environment.argv[:2] != ("uv", "run"):
        return False
    words = [word for word in environment.argv[2:] if word not in _HARMLESS]
    is_plain = bool(words) and not words[0].startswith("-")
    return is_plain and "UV_PROJECT_ENVIRONMENT" in environment.variables


def _is_program_in(folder: Path, environment: Environment) -> bool:
    """Say whether the command is one of the environment's own that run in its Python."""
    program = environment.argv[0]
    found = shutil.which(program, path=environment.variables.get("PATH"))
    is_python = _PYTHON.fullmatch(Path(program).name) is not None
    return found is not None and is_python and Path(found).parent == folder
