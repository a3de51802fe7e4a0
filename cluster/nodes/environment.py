"""The environment in which our own background processes start: an allow-list.

Ray hands its environment down to every worker, so a key that is not let in here cannot leak into a
trial. What a trial may see is trainer.variables' to say; beside that, our own settings pass, and
what fetching packages needs.
"""

import os
from collections.abc import Mapping

from trainer.variables import allowed_variables, network_variables

_OURS = ("INCUMBENT_HOME", "INCUMBENT_LOCK_DIR", "VIRTUAL_ENV", "XDG_RUNTIME_DIR", "XDG_STATE_HOME")
_RAY_ACCESS = ("RAY_AUTH_", "RAY_USE_TLS", "RAY_TLS_", "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER")


def allowed_environment(source: Mapping[str, str] | None = None) -> dict[str, str]:
    """Return what of `source` (default: this process's environment) background processes get."""
    found = os.environ if source is None else source
    ours = {name: found[name] for name in _OURS if name in found}
    return allowed_variables(found) | network_variables(found) | ours


def ray_access(source: Mapping[str, str] | None = None) -> dict[str, str]:
    """Return what of `source` says how a Ray cluster that is not ours is to be joined.

    For the controller and for the driver that joins it: our own Ray has a token of its own, and no
    worker needs either.
    """
    found = os.environ if source is None else source
    return {name: value for name, value in found.items() if name.startswith(_RAY_ACCESS)}
